//! What INFO says of all shards together: numbers of their leaders, summed. Text in, text out.
//!
//! A shard that did not answer in time is left out; how many were counted stands in the section Shards.

use std::collections::BTreeMap;

/// Fields of backends that make sense as a sum, by the section they stand in.
const SUMMED: [(&str, &str); 13] = [
    ("Memory", "used_memory"),
    ("Memory", "used_memory_rss"),
    ("Memory", "used_memory_peak"),
    ("Memory", "used_memory_dataset"),
    ("Memory", "maxmemory"),
    ("Stats", "total_commands_processed"),
    ("Stats", "instantaneous_ops_per_sec"),
    ("Stats", "expired_keys"),
    ("Stats", "evicted_keys"),
    ("Stats", "keyspace_hits"),
    ("Stats", "keyspace_misses"),
    ("Stats", "total_error_replies"),
    ("Stats", "total_reads_processed"),
];

/// Sections that backends are asked for.
pub const ASKED: [&str; 3] = ["memory", "stats", "keyspace"];

/// One database of all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Database {
    keys: u64,
    expires: u64,
    /// Milliseconds that all keys with a time to live have left, together.
    left_ms: u128,
}

#[derive(Clone, Debug, Default)]
pub struct Totals {
    sums: [u64; SUMMED.len()],
    databases: BTreeMap<u32, Database>,
    shards: usize,
    counted: usize,
}

impl Totals {
    pub fn new(shards: usize) -> Totals {
        Totals {
            shards,
            ..Totals::default()
        }
    }

    /// Takes a backend's INFO. `reserved` of its keys in database 0 are our own.
    pub fn add(&mut self, info: &[u8], reserved: u64) {
        self.counted += 1;
        for line in info.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some((name, value)) = std::str::from_utf8(line)
                .ok()
                .and_then(|line| line.split_once(':'))
            else {
                continue;
            };
            if let Some(at) = SUMMED.iter().position(|(_, field)| *field == name) {
                let sum = &mut self.sums[at];
                *sum = sum.saturating_add(value.parse().unwrap_or(0));
            } else if let Some(number) = name.strip_prefix("db").and_then(|n| n.parse().ok()) {
                let own = if number == 0 { reserved } else { 0 };
                self.add_database(number, value, own);
            }
        }
    }

    fn add_database(&mut self, number: u32, fields: &str, reserved: u64) {
        let field = |wanted: &str| -> u64 {
            let mut pairs = fields.split(',').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(name, _)| *name == wanted);
            found.map_or(0, |(_, value)| value.parse().unwrap_or(0))
        };
        let keys = field("keys").saturating_sub(reserved);
        let expires = field("expires").min(keys);
        let database = self.databases.entry(number).or_default();
        database.keys += keys;
        database.expires += expires;
        database.left_ms += u128::from(expires) * u128::from(field("avg_ttl"));
    }

    /// The lines of a section that are sums.
    pub(super) fn lines(&self, section: &str) -> String {
        let mut text = String::new();
        for ((of, field), sum) in SUMMED.iter().zip(self.sums) {
            if *of == section {
                text.push_str(&format!("{field}:{sum}\r\n"));
                if *field == "used_memory" || *field == "maxmemory" {
                    text.push_str(&format!("{field}_human:{}\r\n", human(sum)));
                }
            }
        }
        text
    }

    pub(super) fn keyspace(&self) -> String {
        let mut text = String::new();
        for (number, database) in self.databases.iter().filter(|(_, each)| each.keys > 0) {
            let Database {
                keys,
                expires,
                left_ms,
            } = *database;
            let average = left_ms / u128::from(expires.max(1));
            text.push_str(&format!(
                "db{number}:keys={keys},expires={expires},avg_ttl={average}\r\n"
            ));
        }
        text
    }

    pub(super) fn counts(&self) -> String {
        format!(
            "shards:{}\r\nshards_counted:{}\r\n",
            self.shards, self.counted
        )
    }
}

/// As Redis writes it: `1.00M`.
fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if size < 1024.0 {
            return match unit {
                "B" => format!("{bytes}B"),
                _ => format!("{size:.2}{unit}"),
            };
        }
        size /= 1024.0;
    }
    format!("{size:.2}T")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] =
        b"# Memory\r\nused_memory:1048576\r\nmaxmemory:0\r\n# Stats\r\nkeyspace_hits:3\r\n\
        # Keyspace\r\ndb0:keys=5,expires=2,avg_ttl=100\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n";

    #[test]
    fn numbers_are_summed_without_our_own_keys() {
        let mut totals = Totals::default();
        totals.add(ONE, 1);
        totals.add(
            b"used_memory:524288\r\nkeyspace_hits:4\r\ndb0:keys=2,expires=1,avg_ttl=400\r\n",
            1,
        );
        let memory = totals.lines("Memory");
        assert!(
            memory.contains("used_memory:1572864\r\nused_memory_human:1.50M\r\n"),
            "{memory}"
        );
        assert!(totals.lines("Stats").contains("keyspace_hits:7\r\n"));
        let expected = "db0:keys=5,expires=3,avg_ttl=200\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n";
        assert_eq!(totals.keyspace(), expected);
        assert_eq!(totals.counted, 2);
    }

    #[test]
    fn a_database_with_nothing_but_our_own_is_none() {
        let mut totals = Totals::default();
        totals.add(b"db0:keys=1,expires=1,avg_ttl=7\r\n", 1);
        assert_eq!(totals.keyspace(), "");
    }

    #[test]
    fn what_is_no_number_counts_nothing() {
        let mut totals = Totals::default();
        totals.add(b"used_memory:x\r\nused_memory:99999999999999999999999\r\ndbx:keys=1\r\ndb0:keys=\r\n\xff:1\r\n:\r\n", 0);
        assert!(totals
            .lines("Memory")
            .contains("used_memory:0\r\nused_memory_human:0B\r\n"));
        assert_eq!(totals.keyspace(), "");
    }

    #[test]
    fn sizes_are_written_as_the_server_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_048_576, "1.00M"),
            (1 << 30, "1.00G"),
            (1 << 42, "4.00T"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
