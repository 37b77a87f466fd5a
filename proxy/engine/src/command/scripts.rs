//! Texts of scripts by their SHA-1, as many as fit: what EVALSHA names, for backends that do not know it.
//!
//! One cache for the whole process (`worker/scripts.rs`). When it is full the oldest text goes. Bytes in, bytes
//! out; no lock here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sha1::Digest as _;

/// How many texts, and how many bytes of them, are kept; of one at most a sixteenth of that.
const SCRIPTS_LIMIT: usize = 4096;
const BYTES_LIMIT: usize = 16 * 1024 * 1024;

/// The SHA-1 of a text.
pub type Digest = [u8; 20];

pub fn digest(text: &[u8]) -> Digest {
    sha1::Sha1::digest(text).into()
}

/// What EVALSHA names, in any case as the server takes it.
pub fn parse(hex: &[u8]) -> Option<Digest> {
    let mut found = [0; 20];
    if hex.len() != 2 * found.len() {
        return None;
    }
    for (byte, pair) in found.iter_mut().zip(hex.chunks(2)) {
        let digit = |at: usize| (pair[at] as char).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(found)
}

#[derive(Default)]
pub struct Scripts {
    texts: HashMap<Digest, Arc<[u8]>>,
    /// The oldest first.
    order: VecDeque<Digest>,
    bytes: usize,
}

impl Scripts {
    /// Takes a text, unless it is too large.
    pub fn add(&mut self, text: &[u8]) {
        if text.len() > BYTES_LIMIT / 16 {
            return;
        }
        let digest = digest(text);
        if self.texts.contains_key(&digest) {
            return;
        }
        self.texts.insert(digest, text.into());
        self.order.push_back(digest);
        self.bytes += text.len();
        while self.order.len() > SCRIPTS_LIMIT || self.bytes > BYTES_LIMIT {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.bytes -= self.texts.remove(&oldest).map_or(0, |text| text.len());
        }
    }

    pub fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.texts.get(digest).cloned()
    }

    pub fn clear(&mut self) {
        *self = Scripts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_server() {
        let hex = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"; // SCRIPT LOAD "return 1"
        assert_eq!(parse(hex), Some(digest(b"return 1")));
        assert_eq!(parse(&hex.to_ascii_uppercase()), Some(digest(b"return 1")));
        assert_eq!(parse(b"x0e1f9fabfc9d4800c877a703b823ac0578ff8db"), None);
        assert_eq!(parse(b"e0e1"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn texts_are_found_until_all_are_forgotten() {
        let mut scripts = Scripts::default();
        scripts.add(b"return 1");
        scripts.add(b"return 1");
        assert_eq!(
            scripts.get(&digest(b"return 1")).as_deref(),
            Some(&b"return 1"[..])
        );
        assert_eq!(scripts.get(&digest(b"return 2")), None);
        scripts.clear();
        assert_eq!(scripts.get(&digest(b"return 1")), None);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut scripts = Scripts::default();
        for number in 0..SCRIPTS_LIMIT + 10 {
            scripts.add(number.to_string().as_bytes());
        }
        assert_eq!(
            (scripts.texts.len(), scripts.order.len()),
            (SCRIPTS_LIMIT, SCRIPTS_LIMIT)
        );
        assert_eq!(scripts.get(&digest(b"9")), None);
        assert!(scripts.get(&digest(b"10")).is_some());
    }

    #[test]
    fn the_oldest_goes_when_they_are_too_large() {
        let mut scripts = Scripts::default();
        for letter in b'a'..b'u' {
            scripts.add(&vec![letter; BYTES_LIMIT / 16]);
            assert!(scripts.bytes <= BYTES_LIMIT);
        }
        assert_eq!(scripts.texts.len(), 16);
        scripts.add(&vec![b'x'; BYTES_LIMIT / 16 + 1]);
        assert_eq!(scripts.texts.len(), 16);
        assert!(scripts
            .get(&digest(&vec![b't'; BYTES_LIMIT / 16]))
            .is_some());
    }
}
