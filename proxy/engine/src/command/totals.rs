//! What INFO says of all shards together: numbers of their leaders, summed. Text in, text out.
//!
//! A shard that did not answer in time is left out; how many were counted stands in the section Shards.

use std::collections::BTreeMap;

/// Fields of backends that make sense as a sum, by the section they stand in.
#[rustfmt::skip]
const SUMMED: &[(&str, &[&str])] = &[
    ("Memory", &[
        "used_memory", "used_memory_rss", "used_memory_peak", "used_memory_overhead", "used_memory_dataset",
        "maxmemory", "lazyfree_pending_objects", "lazyfreed_objects",
    ]),
    ("Persistence", &[
        "rdb_changes_since_last_save", "rdb_bgsave_in_progress", "rdb_saves", "aof_rewrite_in_progress",
        "aof_rewrite_scheduled", "aof_rewrites",
    ]),
    ("Stats", &[
        "total_commands_processed", "instantaneous_ops_per_sec", "total_net_input_bytes",
        "total_net_output_bytes", "expired_keys", "evicted_keys", "keyspace_hits", "keyspace_misses",
        "total_forks", "migrate_cached_sockets", "unexpected_error_replies", "total_error_replies",
        "dump_payload_sanitizations", "total_reads_processed", "total_writes_processed",
    ]),
];

/// Of things that are on all shards: the largest number counts.
const LARGEST: &[&str] = &[
    "number_of_cached_scripts",
    "number_of_functions",
    "number_of_libraries",
];

/// Sums in seconds.
#[rustfmt::skip]
const SUMMED_SECONDS: &[&str] = &[
    "used_cpu_sys", "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children",
    "used_cpu_sys_main_thread", "used_cpu_user_main_thread",
];

/// Sections that have something of the backends in them.
pub const SECTIONS: &[&str] = &[
    "Memory",
    "Persistence",
    "Stats",
    "CPU",
    "Commandstats",
    "Errorstats",
    "Keyspace",
];

/// One database of all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Database {
    keys: u64,
    expires: u64,
    /// Milliseconds that all keys with a time to live have left, together.
    left_ms: u128,
}

/// A line of INFO commandstats or errorstats, of all shards: counts by their name.
type Counts = Vec<(String, u64)>;

#[derive(Clone, Debug, Default)]
pub struct Totals {
    sums: BTreeMap<&'static str, u64>,
    seconds: BTreeMap<&'static str, f64>,
    commands: BTreeMap<String, Counts>,
    errors: BTreeMap<String, Counts>,
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
            let mut summed = SUMMED.iter().flat_map(|(_, fields)| *fields);
            if let Some(field) = summed.find(|field| **field == name) {
                let sum = self.sums.entry(field).or_default();
                *sum = sum.saturating_add(value.parse().unwrap_or(0));
            } else if let Some(field) = LARGEST.iter().find(|field| **field == name) {
                let largest = self.sums.entry(field).or_default();
                *largest = (*largest).max(value.parse().unwrap_or(0));
            } else if let Some(field) = SUMMED_SECONDS.iter().find(|field| **field == name) {
                *self.seconds.entry(field).or_default() += value.parse().unwrap_or(0.0);
            } else if name.starts_with("cmdstat_") {
                add_counts(self.commands.entry(name.to_string()).or_default(), value);
            } else if name.starts_with("errorstat_") {
                add_counts(self.errors.entry(name.to_string()).or_default(), value);
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
        let fields = SUMMED.iter().find(|(of, _)| *of == section);
        for field in fields.map_or(&[][..], |(_, fields)| fields) {
            let sum = self.sums.get(field).copied().unwrap_or(0);
            text.push_str(&format!("{field}:{sum}\r\n"));
            if *field == "used_memory" || *field == "maxmemory" {
                text.push_str(&format!("{field}_human:{}\r\n", human(sum)));
            }
        }
        text
    }

    /// Lines of the section Memory that are no sums.
    pub(super) fn largest(&self) -> String {
        let line = |field: &&'static str| {
            let number = self.sums.get(*field).copied().unwrap_or(0);
            format!("{field}:{number}\r\n")
        };
        LARGEST.iter().map(line).collect()
    }

    pub(super) fn cpu(&self) -> String {
        let line = |field: &&'static str| {
            let sum = self.seconds.get(*field).copied().unwrap_or(0.0);
            format!("{field}:{sum:.6}\r\n")
        };
        SUMMED_SECONDS.iter().map(line).collect()
    }

    /// By command, what the leaders have run: the proxy's own requests as well.
    pub(super) fn commands(&self) -> String {
        lines_of(&self.commands)
    }

    pub(super) fn errors(&self) -> String {
        lines_of(&self.errors)
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

/// Adds `calls=3,usec=12,...`. What is a mean stands in it as 0, in its place.
fn add_counts(counts: &mut Counts, fields: &str) {
    for (name, value) in fields.split(',').filter_map(|pair| pair.split_once('=')) {
        let value = value.parse().unwrap_or(0);
        match counts.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum = sum.saturating_add(value),
            None => counts.push((name.to_string(), value)),
        }
    }
}

fn lines_of(table: &BTreeMap<String, Counts>) -> String {
    let mut text = String::new();
    for (name, counts) in table {
        let count = |wanted: &str| {
            let found = counts.iter().find(|(name, _)| name == wanted);
            found.map_or(0, |(_, count)| *count)
        };
        let pair = |(name, sum): &(String, u64)| match name.as_str() {
            "usec_per_call" => {
                let mean = count("usec") as f64 / count("calls").max(1) as f64;
                format!("{name}={mean:.2}")
            }
            _ => format!("{name}={sum}"),
        };
        let pairs: Vec<String> = counts.iter().map(pair).collect();
        text.push_str(&format!("{name}:{}\r\n", pairs.join(",")));
    }
    text
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
    fn counts_by_name_are_summed_and_means_are_made_anew() {
        let mut totals = Totals::default();
        totals.add(
            b"cmdstat_get:calls=1,usec=10,usec_per_call=10.00,rejected_calls=0,failed_calls=1\r\n\
            errorstat_ERR:count=2\r\nused_cpu_user:0.250000\r\n",
            0,
        );
        totals.add(
            b"cmdstat_get:calls=3,usec=2,usec_per_call=0.67,rejected_calls=2,failed_calls=0\r\n\
            cmdstat_xgroup|create:calls=1,usec=5,usec_per_call=5.00\r\nerrorstat_ERR:count=5\r\n\
            errorstat_OOM:count=1\r\nused_cpu_user:1.5\r\n",
            0,
        );
        assert_eq!(
            totals.commands(),
            "cmdstat_get:calls=4,usec=12,usec_per_call=3.00,rejected_calls=2,failed_calls=1\r\n\
            cmdstat_xgroup|create:calls=1,usec=5,usec_per_call=5.00\r\n"
        );
        assert_eq!(
            totals.errors(),
            "errorstat_ERR:count=7\r\nerrorstat_OOM:count=1\r\n"
        );
        assert!(totals.cpu().contains("used_cpu_user:1.750000\r\n"));
        assert!(totals.cpu().contains("used_cpu_sys:0.000000\r\n"));
        for scripts in [3, 5, 4] {
            totals.add(
                format!("number_of_cached_scripts:{scripts}\r\n").as_bytes(),
                0,
            );
        }
        assert!(totals
            .largest()
            .starts_with("number_of_cached_scripts:5\r\nnumber_of_functions:0\r\n"));
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
