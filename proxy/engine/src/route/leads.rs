//! Prefixes of keys that belong to another pool, which places them as it places its own.
//!
//! The longest prefix wins over those of shards (`ring/routes.rs`) as well, also of shards that are absent:
//! who stands in for a shard is of its own pool, and nobody would take back what was written elsewhere.

use crate::ring::Routes;

/// Of a prefix that belongs to a shard of the pool itself.
const HERE: u32 = u32::MAX;

/// The prefixes of one pool; empty unless it has one that leads elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Leads(Routes);

impl Leads {
    /// `leads` names pools and `routes` shards of the pool itself, both by position.
    ///
    /// # Errors
    /// A sentence for the operator: a prefix that is empty or there twice.
    pub fn new(leads: &[(Vec<u8>, u32)], routes: &[(Vec<u8>, u32)]) -> Result<Leads, String> {
        if leads.is_empty() {
            return Ok(Leads::default());
        }
        let here = routes.iter().map(|(prefix, _)| (&prefix[..], HERE));
        let there = leads.iter().map(|(prefix, pool)| (&prefix[..], *pool));
        let all: Vec<_> = here.chain(there).collect();
        for (at, (prefix, _)) in all.iter().enumerate() {
            let shown = String::from_utf8_lossy(prefix);
            if prefix.is_empty() {
                return Err("a route without a prefix would have every key".to_owned());
            }
            if all[..at].iter().any(|(other, _)| other == prefix) {
                return Err(format!("two routes have the prefix {shown:?}"));
            }
        }
        Ok(Leads(Routes::new(all.into_iter())))
    }

    /// True if every key stays in the pool.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The other pool that has the key, and the length of the prefix that says so.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<(u16, usize)> {
        let (pool, length) = self.0.find(key)?;
        (pool != HERE as usize).then_some((pool as u16, length))
    }

    /// The other pool that has all keys of this prefix, if one has (the inner None: none of them is elsewhere).
    /// None if it depends on how they go on.
    pub fn of_all(&self, prefix: &[u8]) -> Option<Option<u16>> {
        let found = self.0.of_all(prefix)?;
        Some(
            found
                .filter(|pool| *pool != HERE as usize)
                .map(|pool| pool as u16),
        )
    }

    /// Positions of the pools that have some keys.
    pub fn pools(&self) -> impl Iterator<Item = u16> + '_ {
        let all = self.0.targets();
        all.filter(|pool| *pool != HERE).map(|pool| pool as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, u32)]) -> Vec<(Vec<u8>, u32)> {
        let row = |(prefix, at): &(&str, u32)| (prefix.as_bytes().to_vec(), *at);
        rows.iter().map(row).collect()
    }

    fn leads() -> Leads {
        let there = rows(&[("tmp:", 1), ("tmp:job:x", 2)]);
        Leads::new(&there, &rows(&[("tmp:job:", 0), ("t", 0)])).unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_whether_of_a_shard_or_of_a_pool() {
        let leads = leads();
        assert_eq!(leads.find(b"tmp:1"), Some((1, 4)));
        assert_eq!(leads.find(b"tmp:"), Some((1, 4)));
        assert_eq!(leads.find(b"tmp:job:1"), None);
        assert_eq!(leads.find(b"tmp:job:x1"), Some((2, 9)));
        for key in [&b""[..], b"tmp", b"t", b"x:tmp:"] {
            assert_eq!(leads.find(key), None, "{key:?}");
        }
        assert_eq!(Leads::default().find(b"tmp:1"), None);
    }

    #[test]
    fn all_keys_of_a_prefix_are_elsewhere_only_if_no_longer_one_says_otherwise() {
        let leads = leads();
        assert_eq!(leads.of_all(b"tmp:mail:"), Some(Some(1)));
        assert_eq!(leads.of_all(b"tmp:job:y"), Some(None));
        assert_eq!(leads.of_all(b"other"), Some(None));
        assert_eq!(leads.of_all(b"tmp:"), None);
        assert_eq!(leads.of_all(b"t"), None);
        assert_eq!(Leads::default().of_all(b""), Some(None));
    }

    #[test]
    fn a_prefix_is_there_once_and_not_empty() {
        let twice = Leads::new(&rows(&[("a", 1)]), &rows(&[("a", 0)]));
        assert_eq!(twice.unwrap_err(), "two routes have the prefix \"a\"");
        assert!(Leads::new(&rows(&[("", 1)]), &[]).is_err());
    }
}
