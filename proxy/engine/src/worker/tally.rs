//! What `stats` of several memcached servers come to: most numbers are summed, what describes one server is the
//! first one's, or is said of the proxy instead. Lists in, one list out; knows no connection.

use std::collections::HashMap;

use crate::proto::memcache::unsigned;

/// Which of memcached's lists of statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sheet {
    General,
    Settings,
    Items,
    Slabs,
    /// Sizes, extstore.
    Other,
}

/// How values of one name become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Sum,
    First,
    Most,
    Least,
    /// `no` if one says so.
    All,
}

impl Sheet {
    /// The list that `stats NAME` asks for, if it is one that is answered from the backends'.
    pub fn of(name: &[u8]) -> Option<Sheet> {
        Some(match name {
            b"" => Sheet::General,
            b"settings" => Sheet::Settings,
            b"items" => Sheet::Items,
            b"slabs" => Sheet::Slabs,
            b"sizes" | b"extstore" => Sheet::Other,
            _ => return None,
        })
    }

    fn how(self, name: &[u8]) -> How {
        // Behind the number of a slab class.
        let field = name.rsplit(|byte| *byte == b':').next().unwrap_or(name);
        match (self, field) {
            (
                Sheet::General,
                b"time" | b"pointer_size" | b"libevent" | b"rusage_user" | b"rusage_system"
                | b"accepting_conns",
            ) => How::First,
            (
                Sheet::General,
                b"hash_power_level"
                | b"hash_is_expanding"
                | b"slab_reassign_running"
                | b"lru_crawler_running",
            ) => How::Most,
            (Sheet::Settings, b"maxbytes") => How::Sum,
            // What all of them take.
            (Sheet::Settings, b"item_size_max" | b"client_flags_size" | b"slab_chunk_max") => {
                How::Least
            }
            (
                Sheet::Settings,
                b"cas_enabled" | b"flush_enabled" | b"dump_enabled" | b"lru_crawler",
            ) => How::All,
            (Sheet::Settings, _) => How::First,
            (Sheet::Items, b"age" | b"age_hot" | b"age_warm" | b"evicted_time") => How::Most,
            (Sheet::Slabs, b"chunk_size" | b"chunks_per_page") => How::First,
            (Sheet::Slabs, b"active_slabs") => How::Most,
            _ => How::Sum,
        }
    }
}

fn join(how: How, value: &mut Vec<u8>, other: &[u8]) {
    let numbers = unsigned(value).zip(unsigned(other));
    let joined = match (how, numbers) {
        (How::Sum, Some((a, b))) => a.saturating_add(b),
        (How::Most, Some((a, b))) => a.max(b),
        (How::Least, Some((a, b))) => a.min(b),
        (How::All, _) if other == b"no" => {
            *value = b"no".to_vec();
            return;
        }
        _ => return,
    };
    *value = joined.to_string().into_bytes();
}

/// Appends one list made of those in `parts`; a part that is none counts for nothing. If there is none at all it is
/// what is said of the proxy, or the servers' own error if they know of no such list.
///
/// Args:
///     own: what is said of the proxy, in place of a row of that name.
///     further: rows behind all others.
///     hidden: items of our own, which `curr_items` does not count.
pub(super) fn merge(
    sheet: Sheet,
    parts: &[Vec<u8>],
    own: &[(&str, String)],
    further: &[(&str, String)],
    hidden: u64,
    out: &mut Vec<u8>,
) {
    let is_list = |part: &&Vec<u8>| part.starts_with(b"STAT ") || part.starts_with(b"END");
    let is_known = parts.iter().any(|part| is_list(&part));
    let mut refusals = parts
        .iter()
        .filter(|part| !part.starts_with(b"SERVER_ERROR"));
    if let Some(refusal) = refusals.next().filter(|_| !is_known) {
        out.extend_from_slice(refusal);
        return;
    }
    let mut rows: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    for part in parts.iter().filter(is_list) {
        for line in part.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(rest) = line.strip_prefix(b"STAT ") else {
                continue;
            };
            let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
            let (name, value) = (&rest[..end], rest.get(end + 1..).unwrap_or(b""));
            match places.get(name) {
                Some(at) => join(sheet.how(name), &mut rows[*at].1, value),
                None => {
                    places.insert(name, rows.len());
                    rows.push((name, value.to_vec()));
                }
            }
        }
    }
    if !is_known {
        rows = own
            .iter()
            .map(|(name, text)| (name.as_bytes(), text.clone().into_bytes()))
            .collect();
    }
    for (name, value) in &mut rows {
        if let Some((_, text)) = own.iter().find(|row| row.0.as_bytes() == *name) {
            *value = text.clone().into_bytes();
        } else if sheet == Sheet::General && *name == b"curr_items" {
            let count = unsigned(value).unwrap_or(0).saturating_sub(hidden);
            *value = count.to_string().into_bytes();
        }
    }
    let further = further
        .iter()
        .map(|(name, text)| (name.as_bytes(), text.as_bytes()));
    let all = rows
        .iter()
        .map(|(name, value)| (*name, &value[..]))
        .chain(further);
    for (name, value) in all {
        for word in [b"STAT ", name, b" ", value, b"\r\n"] {
            out.extend_from_slice(word);
        }
    }
    out.extend_from_slice(b"END\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(sheet: Sheet, parts: &[&str]) -> String {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        let (own, further) = (
            [("pid", "7".to_owned())],
            [("proxy_shards", "2".to_owned())],
        );
        let further = if sheet == Sheet::General {
            &further[..]
        } else {
            &[]
        };
        let mut out = Vec::new();
        merge(sheet, &parts, &own, further, 2, &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "|")
    }

    #[test]
    fn numbers_are_summed_and_the_proxy_speaks_for_itself() {
        let parts = [
            "STAT pid 1\r\nSTAT time 5\r\nSTAT curr_items 3\r\nSTAT rusage_user 0.5\r\nSTAT libevent 2.1\r\nEND\r\n",
            "STAT pid 2\r\nSTAT time 6\r\nSTAT curr_items 4\r\nSTAT rusage_user 0.7\r\nSTAT libevent 2.1\r\nSTAT new 1\r\nEND\r\n",
        ];
        let expected = "STAT pid 7|STAT time 5|STAT curr_items 5|STAT rusage_user 0.5|STAT libevent 2.1|STAT new 1|STAT proxy_shards 2|END|";
        assert_eq!(merged(Sheet::General, &parts), expected);
    }

    #[test]
    fn settings_are_not_summed() {
        let parts = [
            "STAT maxbytes 64\r\nSTAT item_size_max 2048\r\nSTAT growth_factor 1.25\r\nSTAT flush_enabled yes\r\nSTAT hot_lru_pct 20\r\nEND\r\n",
            "STAT maxbytes 64\r\nSTAT item_size_max 1024\r\nSTAT growth_factor 1.25\r\nSTAT flush_enabled no\r\nSTAT hot_lru_pct 20\r\nEND\r\n",
        ];
        let expected = "STAT maxbytes 128|STAT item_size_max 1024|STAT growth_factor 1.25|STAT flush_enabled no|STAT hot_lru_pct 20|END|";
        assert_eq!(merged(Sheet::Settings, &parts), expected);
    }

    #[test]
    fn slab_classes_are_joined_by_their_number() {
        let items = [
            "STAT items:1:number 2\r\nSTAT items:1:age 5\r\nEND\r\n",
            "STAT items:1:number 3\r\nSTAT items:1:age 4\r\nSTAT items:2:number 1\r\nEND\r\n",
        ];
        let expected = "STAT items:1:number 5|STAT items:1:age 5|STAT items:2:number 1|END|";
        assert_eq!(merged(Sheet::Items, &items), expected);
        let slabs = [
            "STAT 1:chunk_size 96\r\nSTAT 1:used_chunks 1\r\nSTAT active_slabs 1\r\nSTAT total_malloced 5\r\nEND\r\n",
            "STAT 1:chunk_size 96\r\nSTAT 1:used_chunks 1\r\nSTAT active_slabs 2\r\nSTAT total_malloced 5\r\nEND\r\n",
        ];
        let expected = "STAT 1:chunk_size 96|STAT 1:used_chunks 2|STAT active_slabs 2|STAT total_malloced 10|END|";
        assert_eq!(merged(Sheet::Slabs, &slabs), expected);
    }

    #[test]
    fn a_shard_that_does_not_answer_is_left_out() {
        let lost = "SERVER_ERROR x\r\n";
        let found = merged(Sheet::Items, &[lost, "STAT items:1:number 2\r\nEND\r\n"]);
        assert_eq!(found, "STAT items:1:number 2|END|");
        assert_eq!(merged(Sheet::Items, &[lost, "END\r\n"]), "END|");
    }

    #[test]
    fn without_any_server_the_proxy_tells_of_itself() {
        let lost = "SERVER_ERROR x\r\n";
        let own = "STAT pid 7|STAT proxy_shards 2|END|";
        for parts in [&[lost, lost][..], &[]] {
            assert_eq!(merged(Sheet::General, parts), own);
        }
        assert_eq!(merged(Sheet::Settings, &[lost]), "STAT pid 7|END|");
        let refused = merged(Sheet::Other, &[lost, "ERROR\r\n"]);
        assert_eq!(
            refused, "ERROR|",
            "no loss, but a list that servers do not have"
        );
    }
}
