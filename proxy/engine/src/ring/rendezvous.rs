//! Rendezvous (highest random weight) hashing as pymemcache does it: each shard's score for a key
//! is MurmurHash3 of `label-key`, and the highest score owns the key.
//!
//! pymemcache hashes Python strings, not bytes: of each character it takes the lower 8 bits of the
//! code point and counts characters, not bytes. For ASCII that is the usual MurmurHash3; other keys
//! are decoded from UTF-8 here to arrive at the same. (A key that a program gives pymemcache as
//! `bytes` is hashed by its `repr`, quotes and all; nothing on the wire shows that, so such
//! programs must give `str` keys. A `key_prefix` is not hashed by pymemcache either.)

/// The shards, their names already hashed.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    nodes: Box<[Node]>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Position of the shard.
    shard: u32,
    /// Hash state after `label-`.
    prefix: Murmur3,
    /// Rank of the label among all labels: of two equal scores the greater label wins.
    rank: u32,
}

impl Rendezvous {
    pub fn new(shards: &[(String, u32)]) -> Rendezvous {
        let rank_of = |label: &String| shards.iter().filter(|shard| shard.0 < *label).count();
        let nodes = shards.iter().enumerate().map(|(shard, (label, _))| {
            let mut prefix = Murmur3::default();
            prefix.feed_all(label.as_bytes(), wide_text(label.as_bytes()));
            prefix.feed(b'-');
            Node {
                shard: shard as u32,
                prefix,
                rank: rank_of(label) as u32,
            }
        });
        Rendezvous {
            nodes: nodes.collect(),
        }
    }

    /// Position and score of the shard that owns `key`.
    pub fn best(&self, key: &[u8]) -> (usize, u32) {
        let wide = wide_text(key);
        let scores = self.nodes.iter().map(|node| {
            let mut state = node.prefix;
            state.feed_all(key, wide);
            state.finish()
        });
        let ranked = scores.zip(self.nodes.iter());
        let winner = ranked.max_by_key(|(score, node)| (*score, node.rank));
        let (score, node) = winner.expect("a ring has shards");
        (node.shard as usize, score)
    }

    /// The same without the absent shards: the highest score of those that are left owns a key.
    pub fn without(&self, absent: &[bool]) -> Rendezvous {
        let present = |node: &&Node| !absent[node.shard as usize];
        Rendezvous {
            nodes: self.nodes.iter().filter(present).copied().collect(),
        }
    }
}

/// `bytes` as text if its characters are not its bytes. Bytes that are not UTF-8 are no text; no
/// `str` key can produce them, and they are hashed as they are.
fn wide_text(bytes: &[u8]) -> Option<&str> {
    if bytes.is_ascii() {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// MurmurHash3 (x86, 32 bits, seed 0), a byte at a time so that a state can be kept and continued.
#[derive(Clone, Copy, Debug, Default)]
struct Murmur3 {
    hash: u32,
    /// Up to three bytes that do not make a word yet, the first in the lowest place.
    tail: u32,
    fed: u32,
}

impl Murmur3 {
    /// Feeds the characters of `wide` if there are any, else `bytes`.
    #[inline]
    fn feed_all(&mut self, bytes: &[u8], wide: Option<&str>) {
        match wide {
            None => bytes.iter().for_each(|&byte| self.feed(byte)),
            Some(text) => text.chars().for_each(|each| self.feed(each as u32 as u8)),
        }
    }

    #[inline]
    fn feed(&mut self, byte: u8) {
        let place = self.fed % 4;
        self.tail |= u32::from(byte) << (8 * place);
        self.fed = self.fed.wrapping_add(1);
        if place == 3 {
            self.hash = (self.hash ^ scramble(self.tail))
                .rotate_left(13)
                .wrapping_mul(5)
                .wrapping_add(0xe654_6b64);
            self.tail = 0;
        }
    }

    #[inline]
    fn finish(self) -> u32 {
        // An empty tail scrambles to 0 and changes nothing.
        let mut hash = self.hash ^ scramble(self.tail) ^ self.fed;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }
}

#[inline]
fn scramble(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593)
}
