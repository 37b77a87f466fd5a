//! Keys that stand apart from the ring: those with a certain prefix belong to a certain shard.
//!
//! For what needs many keys in one place and has no hash tags (queues of Celery, BullMQ or Laravel). The
//! longest prefix wins; it is compared with the whole key, before any hash tag. A shard that is absent
//! loses its prefixes with the rest of its keys, and the ring says who has them.
//!
//! `route/leads.rs` has the same of pools.

/// Prefixes with their shards, longest first.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    entries: Box<[(Box<[u8]>, u32)]>,
    /// First bytes that some prefix has, one bit each: most keys are told by it.
    firsts: [u64; 4],
}

impl Routes {
    pub fn new<'a>(routes: impl Iterator<Item = (&'a [u8], u32)>) -> Routes {
        let mut entries: Vec<(Box<[u8]>, u32)> = routes
            .map(|(prefix, shard)| (prefix.into(), shard))
            .collect();
        entries.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let mut firsts = [0; 4];
        for first in entries.iter().filter_map(|(prefix, _)| prefix.first()) {
            firsts[usize::from(first >> 6)] |= 1 << (first & 63);
        }
        Routes {
            entries: entries.into_boxed_slice(),
            firsts,
        }
    }

    /// Those whose shard is not absent.
    pub fn without(&self, absent: &[bool]) -> Routes {
        let present = self
            .entries
            .iter()
            .filter(|(_, shard)| !absent[*shard as usize]);
        Routes::new(present.map(|(prefix, shard)| (&prefix[..], *shard)))
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What has keys, prefix by prefix.
    pub fn targets(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|(_, target)| *target)
    }

    /// The shard that has the key by its prefix, and the length of that.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<(usize, usize)> {
        let first = *key.first()?;
        if self.firsts[usize::from(first >> 6)] & 1 << (first & 63) == 0 {
            return None;
        }
        self.entries
            .iter()
            .find(|(prefix, _)| key.starts_with(prefix))
            .map(|(prefix, shard)| (*shard as usize, prefix.len()))
    }

    /// The shard that has all keys of this prefix, if any has (the inner None: none of them has one here).
    /// None if it depends on how they go on.
    pub fn of_all(&self, prefix: &[u8]) -> Option<Option<usize>> {
        let found = self.find(prefix).map(|(shard, _)| shard);
        let longer = |route: &&(Box<[u8]>, u32)| route.0.starts_with(prefix) && *route.0 != *prefix;
        let mut longer = self.entries.iter().filter(longer);
        longer
            .all(|(_, shard)| Some(*shard as usize) == found)
            .then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let rows: [(&[u8], u32); 3] = [(b"bull:", 1), (b"bull:mail:", 2), (b"\xff", 0)];
        Routes::new(rows.into_iter())
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routes = routes();
        assert_eq!(routes.find(b"bull:x"), Some((1, 5)));
        assert_eq!(routes.find(b"bull:mail:x"), Some((2, 10)));
        assert_eq!(routes.find(b"bull:mail"), Some((1, 5)));
        assert_eq!(routes.find(b"\xff\x00"), Some((0, 1)));
        for key in [&b""[..], b"b", b"bull", b"Bull:x", b"x:bull:"] {
            assert_eq!(routes.find(key), None);
        }
        assert_eq!(Routes::default().find(b"bull:x"), None);
    }

    #[test]
    fn keys_that_begin_alike_may_belong_together() {
        let routes = routes();
        assert_eq!(routes.of_all(b"bull:mail:"), Some(Some(2)));
        assert_eq!(routes.of_all(b"bull:x"), Some(Some(1)));
        assert_eq!(routes.of_all(b"bull:"), None);
        assert_eq!(routes.of_all(b""), None);
        assert_eq!(routes.of_all(b"x"), Some(None));
    }

    #[test]
    fn an_absent_shard_loses_its_prefixes() {
        let left = routes().without(&[false, false, true]);
        assert_eq!(left.find(b"bull:mail:x"), Some((1, 5)));
        let left = routes().without(&[false, true, true]);
        assert_eq!(left.find(b"bull:mail:x"), None);
    }
}
