//! Which shard owns a key: a pure function of the key and of shard names and weights.
//!
//! `Ring::build` turns a `RingSpec` into tables once per routing table; `Ring::shard` looks a key
//! up for each request, without allocating. Neither knows backends, health or sockets: failover
//! inside a shard moves no key.
//!
//! ```text
//! key ─► hash tag ─► hash ─► distribution ─► shard
//! ```
//!
//! Each distribution that another program also has places every key where that program does;
//! `tests/vectors/` holds what the real programs answered. Their common rules, from twemproxy: a
//! lone shard owns everything, and an empty key counts as hash 0.

mod absence;
mod continuum;
mod jump;
mod rendezvous;
mod routes;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;

use crate::hash::HashKind;
use continuum::Continuum;
use rendezvous::Rendezvous;
use slots::SlotMap;

pub use routes::Routes;
pub use slots::{slot_of_key, SLOTS};

/// Longest shard label in bytes. twemproxy cuts `label-number` to 272 bytes, which would put all
/// points of a longer label on one place.
pub const LABEL_BYTES_LIMIT: usize = 255;

/// Most entries of a `modula` table; it has one per unit of weight.
pub const MODULA_ENTRIES_LIMIT: u64 = 1 << 20;

/// How hashes become shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// twemproxy's ketama: 160 points per shard of average weight, from MD5 of `label-0`, `label-1`, ...
    Ketama,
    /// twemproxy's modula: hash modulo the sum of the weights.
    Modula,
    /// twemproxy's random: any shard each time; weights are ignored.
    Random,
    /// libmemcached's `MEMCACHED_DISTRIBUTION_CONSISTENT_KETAMA`: 100 points per shard, placed by
    /// the key hash, which is one_at_a_time unless the program chose another. (FNV places them
    /// badly: one of four shards got 4 % of the keys.) Weights other than 1 are refused: with them
    /// libmemcached quietly places points as `Ketama` does, and that is the distribution to name.
    LibmemcachedKetama,
    /// libmemcached's `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`: points as in `Ketama`, keys by MD5.
    LibmemcachedKetamaWeighted,
    /// pymemcache's `RendezvousHash`. Knows no weights, so they must be equal. Its cost grows with
    /// the number of shards.
    Rendezvous,
    /// Redis Cluster's 16384 slots, with its fixed `{}` hash tag, dealt out as in `slots`.
    Slots,
    /// Jump consistent hash of XXH64 (seed 0) of the key. Weights must be equal, and shards can only
    /// be added or removed at the end without moving more keys than need be.
    Jump,
}

impl Distribution {
    /// Every distribution and its name in configurations.
    pub const ALL: &'static [(&'static str, Distribution)] = &[
        ("ketama", Distribution::Ketama),
        ("modula", Distribution::Modula),
        ("random", Distribution::Random),
        ("libmemcached_ketama", Distribution::LibmemcachedKetama),
        (
            "libmemcached_ketama_weighted",
            Distribution::LibmemcachedKetamaWeighted,
        ),
        ("rendezvous", Distribution::Rendezvous),
        ("slots", Distribution::Slots),
        ("jump", Distribution::Jump),
    ];

    /// The distribution of that name, exactly as written in `ALL`.
    pub fn parse(name: &str) -> Option<Distribution> {
        let row = Distribution::ALL.iter().find(|row| row.0 == name)?;
        Some(row.1)
    }

    /// The name that `parse` takes.
    pub fn name(self) -> &'static str {
        let row = Distribution::ALL.iter().find(|row| row.1 == self);
        row.expect("ALL lists every distribution").0
    }

    /// Whether `RingSpec::hash` has a say; the others bring their own hash.
    pub fn uses_hash(self) -> bool {
        matches!(
            self,
            Distribution::Ketama | Distribution::Modula | Distribution::LibmemcachedKetama
        )
    }
}

/// Everything that decides where keys go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingSpec {
    pub hash: HashKind,
    pub distribution: Distribution,
    /// Opening and closing character; only what stands between them is hashed.
    pub hash_tag: Option<(u8, u8)>,
    /// Label and weight of each shard, in configuration order.
    pub shards: Vec<(String, u32)>,
    /// Prefixes of keys that belong to a shard, by its position, whatever their hash.
    pub routes: Vec<(Vec<u8>, u32)>,
}

/// What `Ring::explain` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Position of the shard in `RingSpec::shards`.
    pub shard: usize,
    /// The number that was looked up: a 32-bit hash, for `slots` the slot, for `rendezvous` the
    /// highest score, for `jump` the 64-bit hash.
    pub hash: u64,
    /// Which bytes of the key were hashed.
    pub hashed: Range<usize>,
    /// Length of the prefix that has decided instead; 0 if none has.
    pub prefix: usize,
}

/// An immutable table from keys to shards.
#[derive(Clone, Debug)]
pub struct Ring {
    hash: HashKind,
    hash_tag: Option<(u8, u8)>,
    placement: Placement,
    routes: Routes,
}

#[derive(Clone, Debug)]
enum Placement {
    /// One shard: nothing to hash.
    Lone,
    Continuum(Continuum),
    /// Shard of each unit of weight.
    Modula(Box<[u32]>),
    /// Positions to choose from.
    Random(Box<[u32]>),
    Rendezvous(Rendezvous),
    Slots(SlotMap),
    Jump(u32),
    /// As `Jump`, and who has each bucket.
    JumpOver(Box<[u32]>),
}

impl Ring {
    /// Builds the tables; for 1,000 shards this takes some 10 ms.
    ///
    /// # Errors
    /// A sentence for the operator: no shards, a weight of 0, two shards of one label, an empty or
    /// too long label, or weights or a hash tag that the distribution cannot honour.
    pub fn build(spec: &RingSpec) -> Result<Ring, String> {
        check_shards(spec)?;
        check_routes(spec)?;
        let (mut hash, mut hash_tag) = (spec.hash, spec.hash_tag);
        let shards = &spec.shards;
        let count = shards.len() as u32;
        let mut placement = match spec.distribution {
            Distribution::Ketama => Placement::Continuum(Continuum::weighted(shards)),
            Distribution::Modula => Placement::Modula(modula_table(shards)?),
            Distribution::Random => Placement::Random((0..count).collect()),
            Distribution::LibmemcachedKetama => {
                if let Some((label, weight)) = shards.iter().find(|shard| shard.1 != 1) {
                    return Err(format!(
                        "shard {label:?} has weight {weight}, but libmemcached_ketama knows no \
                         weights; with weights libmemcached does as distribution ketama (same \
                         hash), or as libmemcached_ketama_weighted if KETAMA_WEIGHTED is set"
                    ));
                }
                Placement::Continuum(Continuum::unweighted(shards, hash))
            }
            Distribution::LibmemcachedKetamaWeighted => {
                hash = HashKind::Md5;
                Placement::Continuum(Continuum::weighted(shards))
            }
            Distribution::Rendezvous => {
                require_equal_weights(spec)?;
                Placement::Rendezvous(Rendezvous::new(shards))
            }
            Distribution::Slots => {
                if hash_tag.is_some_and(|tag| tag != slots::HASH_TAG) {
                    return Err("distribution slots has the fixed hash tag \"{}\"".to_string());
                }
                hash_tag = Some(slots::HASH_TAG);
                Placement::Slots(SlotMap::new(shards)?)
            }
            Distribution::Jump => {
                require_equal_weights(spec)?;
                Placement::Jump(count)
            }
        };
        if count == 1 {
            placement = Placement::Lone;
        }
        Ok(Ring {
            hash,
            hash_tag,
            placement,
            routes: Routes::new(
                spec.routes
                    .iter()
                    .map(|(prefix, shard)| (&prefix[..], *shard)),
            ),
        })
    }

    /// Position of the shard that owns `key`.
    ///
    /// `entropy` is any nonzero number that the caller keeps between calls; only `random` reads
    /// and changes it.
    #[inline]
    pub fn shard(&self, key: &[u8], entropy: &mut u32) -> usize {
        if let Some((shard, _)) = self.routes.find(key) {
            return shard;
        }
        match &self.placement {
            Placement::Lone => 0,
            Placement::Continuum(continuum) => continuum.shard(self.hash_of(self.tagged(key))),
            Placement::Modula(table) => {
                let hash = self.hash_of(self.tagged(key));
                table[hash as usize % table.len()] as usize
            }
            Placement::Slots(slots) => slots.shard(slots::slot_of(self.tagged(key))),
            Placement::Rendezvous(nodes) => nodes.best(self.tagged(key)).0,
            Placement::Jump(count) => jump::bucket(jump::xxh64(self.tagged(key)), *count),
            Placement::JumpOver(owners) => {
                let bucket = jump::bucket(jump::xxh64(self.tagged(key)), owners.len() as u32);
                owners[bucket] as usize
            }
            Placement::Random(choices) => {
                // Scaled, not modulo: the upper bits of a xorshift are its better ones.
                let choice = (u64::from(xorshift(entropy)) * choices.len() as u64) >> 32;
                choices[choice as usize] as usize
            }
        }
    }

    /// The shard of all keys that a pattern stands for, of which the first `*` is replaced by anything; None
    /// if they may be on several.
    pub fn shard_of_pattern(&self, pattern: &[u8]) -> Option<usize> {
        if matches!(self.placement, Placement::Lone) {
            return Some(0);
        }
        let fixed = pattern.split(|&byte| byte == b'*').next()?;
        if let Some(route) = self.routes.of_all(fixed)? {
            return Some(route);
        }
        let tag = tagged_range(self.hash_tag?, fixed);
        if tag.len() == fixed.len() || matches!(self.placement, Placement::Random(_)) {
            return None;
        }
        Some(self.shard(fixed, &mut 1))
    }

    /// How `key` is placed, for a person. `random` does not look at keys: the answer is the first
    /// shard and no hashed bytes. A lone shard has no hash either.
    pub fn explain(&self, key: &[u8]) -> Explained {
        if let Some((shard, prefix)) = self.routes.find(key) {
            return Explained {
                shard,
                hash: 0,
                hashed: 0..0,
                prefix,
            };
        }
        let hashed = self.hashed_range(key);
        let part = &key[hashed.clone()];
        let (shard, hash) = match &self.placement {
            Placement::Lone | Placement::Random(_) => {
                return Explained {
                    shard: self.first(),
                    hash: 0,
                    hashed: 0..0,
                    prefix: 0,
                }
            }
            Placement::Continuum(_) | Placement::Modula(_) => {
                (self.shard(key, &mut 1), u64::from(self.hash_of(part)))
            }
            Placement::Slots(slots) => {
                let slot = slots::slot_of(part);
                (slots.shard(slot), slot as u64)
            }
            Placement::Rendezvous(nodes) => {
                let (shard, score) = nodes.best(part);
                (shard, u64::from(score))
            }
            Placement::Jump(_) | Placement::JumpOver(_) => {
                (self.shard(key, &mut 1), jump::xxh64(part))
            }
        };
        Explained {
            shard,
            hash,
            hashed,
            prefix: 0,
        }
    }

    /// The answer for keys that are not looked at.
    fn first(&self) -> usize {
        match &self.placement {
            Placement::Random(choices) => choices[0] as usize,
            _ => 0,
        }
    }

    #[inline]
    fn hash_of(&self, part: &[u8]) -> u32 {
        if part.is_empty() {
            0
        } else {
            self.hash.hash(part)
        }
    }

    #[inline]
    fn tagged<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        match self.hash_tag {
            None => key,
            Some(_) => &key[self.hashed_range(key)],
        }
    }

    #[inline]
    fn hashed_range(&self, key: &[u8]) -> Range<usize> {
        match self.hash_tag {
            None => 0..key.len(),
            Some(tag) => tagged_range(tag, key),
        }
    }
}

/// twemproxy's rule, which is also Redis Cluster's: from the first opening character to the first closing
/// one behind it; if either is missing or nothing stands between, the whole key.
#[inline]
fn tagged_range((open, close): (u8, u8), key: &[u8]) -> Range<usize> {
    let whole = 0..key.len();
    let Some(start) = key.iter().position(|&byte| byte == open) else {
        return whole;
    };
    let start = start + 1;
    match key[start..].iter().position(|&byte| byte == close) {
        None | Some(0) => whole,
        Some(len) => start..start + len,
    }
}

/// Marsaglia's 32-bit xorshift; 0 would stay 0 for ever, so it counts as 1.
#[inline]
fn xorshift(state: &mut u32) -> u32 {
    let mut x = (*state).max(1);
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    x
}

fn check_shards(spec: &RingSpec) -> Result<(), String> {
    if spec.shards.is_empty() {
        return Err("there are no shards".to_string());
    }
    let mut labels = HashSet::new();
    let mut total = 0u64;
    for (label, weight) in &spec.shards {
        if label.is_empty() || label.len() > LABEL_BYTES_LIMIT {
            return Err(format!(
                "the shard label {label:?} must have 1 to {LABEL_BYTES_LIMIT} bytes"
            ));
        }
        if *weight == 0 {
            return Err(format!("shard {label:?} has weight 0, the least is 1"));
        }
        if !labels.insert(label) {
            return Err(format!("two shards have the label {label:?}"));
        }
        total += u64::from(*weight);
    }
    // twemproxy sums weights in 32 bits; beyond that its points would make no sense.
    if total > u64::from(u32::MAX) {
        return Err(format!(
            "the weights add up to {total}, more than {}",
            u32::MAX
        ));
    }
    Ok(())
}

fn check_routes(spec: &RingSpec) -> Result<(), String> {
    let mut prefixes = HashSet::new();
    for (prefix, shard) in &spec.routes {
        let shown = String::from_utf8_lossy(prefix);
        if prefix.is_empty() {
            return Err("a route without a prefix would have every key".to_string());
        }
        if !prefixes.insert(prefix) {
            return Err(format!("two routes have the prefix {shown:?}"));
        }
        if *shard as usize >= spec.shards.len() {
            return Err(format!(
                "the route of {shown:?} names a shard that there is not"
            ));
        }
    }
    Ok(())
}

fn require_equal_weights(spec: &RingSpec) -> Result<(), String> {
    let first = spec.shards[0].1;
    match spec.shards.iter().find(|shard| shard.1 != first) {
        None => Ok(()),
        Some((label, weight)) => Err(format!(
            "shard {label:?} has weight {weight} and others {first}, but distribution {} knows no weights",
            spec.distribution.name()
        )),
    }
}

fn modula_table(shards: &[(String, u32)]) -> Result<Box<[u32]>, String> {
    let total: u64 = shards.iter().map(|shard| u64::from(shard.1)).sum();
    if total > MODULA_ENTRIES_LIMIT {
        return Err(format!(
            "the weights add up to {total}, but distribution modula takes at most {MODULA_ENTRIES_LIMIT}"
        ));
    }
    let mut table = Vec::with_capacity(total as usize);
    for (position, &(_, weight)) in shards.iter().enumerate() {
        table.extend(std::iter::repeat_n(position as u32, weight as usize));
    }
    Ok(table.into_boxed_slice())
}
