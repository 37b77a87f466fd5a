//! Maps of numbers from several servers, summed by their names: MEMORY STATS, LATENCY HISTOGRAM.
//!
//! Called by `fan.rs`. In RESP2 a map is an array of names and values in turn; these replies have no other arrays.
//! A map from numbers to numbers is a histogram, in which each bucket counts those below it too.
//! What is no number makes no sense of several servers (ratios, percentages) and is left out, unless all say the same.

use super::merge::{self, Merged};
use crate::error::Wire;
use crate::proto::resp;

/// A value of such a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tally<'a> {
    Number(i64),
    Map(Map<'a>),
    Other(&'a [u8]),
    /// The servers say different things.
    Nothing,
}

impl<'a> Tally<'a> {
    fn read(value: &'a [u8]) -> Tally<'a> {
        if let Some(number) = resp::integer(value) {
            return Tally::Number(number);
        }
        let array = resp::aggregate(value).map(|(count, start)| (count / 2, start));
        let Some((pairs, start)) = array.or_else(|| resp::map(value)) else {
            return Tally::Other(value);
        };
        let mut rest = &value[start..];
        let mut map = Vec::new();
        for _ in 0..pairs {
            let (name, tail) = rest.split_at(resp::value_len(rest));
            if tail.is_empty() {
                break;
            }
            let (value, tail) = tail.split_at(resp::value_len(tail));
            map.push((name, Tally::read(value)));
            rest = tail;
        }
        Tally::Map(map)
    }

    /// Adds another server's.
    fn add(&mut self, other: Tally<'a>) {
        match (&mut *self, other) {
            (Tally::Number(sum), Tally::Number(number)) => *sum = sum.saturating_add(number),
            (Tally::Map(map), Tally::Map(others)) if is_histogram(map) && is_histogram(&others) => {
                add_histogram(map, &others);
            }
            (Tally::Map(map), Tally::Map(others)) => {
                for (name, value) in others {
                    match map.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, sum)) => sum.add(value),
                        None => map.push((name, value)),
                    }
                }
            }
            (Tally::Other(one), Tally::Other(other)) if *one == other => {}
            _ => *self = Tally::Nothing,
        }
    }

    fn write(&self, resp3: bool, out: &mut Vec<u8>) {
        match self {
            Tally::Number(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Tally::Other(bytes) => out.extend_from_slice(bytes),
            Tally::Nothing => {}
            Tally::Map(map) => {
                let told = map.iter().filter(|pair| pair.1 != Tally::Nothing);
                let count = told.clone().count();
                let head = match resp3 {
                    true => format!("%{count}\r\n"),
                    false => format!("*{}\r\n", 2 * count),
                };
                out.extend_from_slice(head.as_bytes());
                for (name, value) in told {
                    out.extend_from_slice(name);
                    value.write(resp3, out);
                }
            }
        }
    }
}

type Map<'a> = Vec<(&'a [u8], Tally<'a>)>;

fn is_histogram(map: &Map<'_>) -> bool {
    let is_number = |(name, value): &(&[u8], Tally<'_>)| {
        resp::integer(name).is_some() && matches!(value, Tally::Number(_))
    };
    !map.is_empty() && map.iter().all(is_number)
}

fn add_histogram<'a>(map: &mut Map<'a>, others: &Map<'a>) {
    // How many are in a bucket and those below it; servers leave out buckets that add none.
    let below = |map: &Map<'a>, bucket: i64| {
        let known = map
            .iter()
            .filter(|(name, _)| resp::integer(name) <= Some(bucket));
        known.fold(0, |most, (_, value)| match value {
            Tally::Number(count) => most.max(*count),
            _ => most,
        })
    };
    let mut names: Vec<&'a [u8]> = map.iter().chain(others).map(|(name, _)| *name).collect();
    names.sort_unstable_by_key(|name| resp::integer(name));
    names.dedup();
    let sum = |name: &'a [u8]| {
        let bucket = resp::integer(name).unwrap_or(0);
        let count = below(map, bucket).saturating_add(below(others, bucket));
        (name, Tally::Number(count))
    };
    *map = names.into_iter().map(sum).collect();
}

/// Appends the sum of all replies that came, if of each shard there is one.
pub(super) fn merge<'a>(
    shards: impl Iterator<Item = u16>,
    parts: &'a [Vec<u8>],
    resp3: bool,
    out: &mut Vec<u8>,
) -> Merged<'a, ()> {
    let mut sum: Option<Tally> = None;
    for part in merge::taken(shards, parts)? {
        let read = Tally::read(part);
        match &mut sum {
            Some(sum) => sum.add(read),
            None => sum = Some(read),
        }
    }
    match sum {
        Some(Tally::Map(map)) => Tally::Map(map).write(resp3, out),
        _ => return Err(Wire::BadReply.redis()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summed(parts: &[&str], resp3: bool) -> String {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        let mut out = Vec::new();
        merge(0..parts.len() as u16, &parts, resp3, &mut out).unwrap();
        String::from_utf8(out).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn numbers_of_one_name_are_summed_at_each_depth() {
        let one = "*4\r\n+a\r\n:1\r\n+m\r\n*4\r\n+x\r\n:5\r\n+y\r\n:6\r\n";
        let two = "*4\r\n+m\r\n*4\r\n+y\r\n:1\r\n+z\r\n:1\r\n+b\r\n:3\r\n";
        let expected = "*6 +a :1 +m *6 +x :5 +y :7 +z :1 +b :3 ";
        assert_eq!(summed(&[one, two], false), expected);
        let maps = ["%1\r\n+m\r\n%1\r\n+x\r\n:5\r\n"; 3];
        assert_eq!(summed(&maps, true), "%1 +m %1 +x :15 ");
    }

    #[test]
    fn a_bucket_of_a_histogram_counts_those_below_it() {
        let one = "*2\r\n+h\r\n*4\r\n:2\r\n:5\r\n:16\r\n:9\r\n";
        let two = "*2\r\n+h\r\n*4\r\n:1\r\n:3\r\n:4\r\n:4\r\n";
        let expected = "*2 +h *8 :1 :3 :2 :8 :4 :9 :16 :13 ";
        assert_eq!(summed(&[one, two], false), expected);
        assert_eq!(summed(&[two, one], false), expected);
        assert_eq!(summed(&["*0\r\n", two], false), two.replace("\r\n", " "));
    }

    #[test]
    fn what_is_no_number_is_left_out_unless_all_say_so() {
        let one = "%3\r\n+r\r\n,1.5\r\n+s\r\n+x\r\n+n\r\n:1\r\n";
        let two = "%3\r\n+r\r\n,2\r\n+s\r\n+x\r\n+n\r\n:1\r\n";
        assert_eq!(summed(&[one, two], true), "%2 +s +x +n :2 ");
        assert_eq!(summed(&[one, two, two], true), "%2 +s +x +n :3 ");
        assert_eq!(summed(&[one], true), one.replace("\r\n", " "));
    }

    #[test]
    fn an_error_stands_for_the_whole() {
        let parts = [b"*0\r\n".to_vec(), b"-LOADING x\r\n".to_vec()];
        let mut out = Vec::new();
        let merged = merge([0, 1].into_iter(), &parts, false, &mut out);
        assert_eq!(merged, Err(&b"-LOADING x\r\n"[..]));
    }
}
