//! The cursor of a SCAN over several shards: one 64-bit number that says which shard is being walked,
//! whose cursor it is, and that cursor. Numbers in, numbers out.
//!
//! ```text
//! | the backend's cursor | tag: 12 bits | shard: as many bits as the pool needs |
//! ```
//!
//! The backend's cursor stands in front because it is small: a server counts buckets with it, so the whole
//! stays below 2^53, which is as far as some client libraries count, for up to some billion keys a shard.
//!
//! The tag names the process that made the cursor (`tag`), as far as 12 bits can: another one orders its
//! keys differently, so whoever finds another tag than the one in force begins that shard again. Its keys
//! may then come twice; none that is there throughout is left out. A tag is never 0, and 0 as a whole is
//! the beginning and the end, as in Redis.

const TAG_BITS: u32 = 12;

/// Where a SCAN is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub shard: u16,
    pub tag: u16,
    pub cursor: u64,
}

/// The number that a client gets; None if the cursor leaves no room for the rest.
pub fn pack(place: Place, shards: usize) -> Option<u64> {
    let bits = shard_bits(shards);
    let shift = TAG_BITS + bits;
    let fits = place.cursor >> (u64::BITS - shift) == 0;
    let tag = u64::from(place.tag) << bits;
    fits.then_some(place.cursor << shift | tag | u64::from(place.shard))
}

/// What a client's number means; None for one that no SCAN over so many shards has given out.
pub fn unpack(number: u64, shards: usize) -> Option<Place> {
    let bits = shard_bits(shards);
    let shard = number & ((1 << bits) - 1);
    let tag = number >> bits & ((1 << TAG_BITS) - 1);
    ((shard as usize) < shards).then_some(Place {
        shard: shard as u16,
        tag: tag as u16,
        cursor: number >> (TAG_BITS + bits),
    })
}

/// The tag of a process: where it stands in its shard, and what it is called. 1 to 4095.
pub fn tag<'a>(position: u8, names: impl Iterator<Item = &'a [u8]>) -> u16 {
    // FNV-1a, folded.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    add(position);
    names.flatten().for_each(|byte| add(*byte));
    (hash % ((1 << TAG_BITS) - 1)) as u16 + 1
}

/// A cursor as a client or a server writes it: what the `strtoul` of Redis takes, which is an optional
/// sign and digits, and nothing at all for 0.
pub fn parse(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        [] => return Some(0),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

fn shard_bits(shards: usize) -> u32 {
    usize::BITS - shards.saturating_sub(1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was() {
        for shards in [1usize, 2, 3, 4, 5, 64, 65, 1000, 4096] {
            for shard in [0, shards / 2, shards - 1] {
                for cursor in [0, 1, 1 << 20, (1 << 36) - 1] {
                    let (shard, tag) = (shard as u16, 4095);
                    let place = Place { shard, tag, cursor };
                    let number = pack(place, shards).unwrap();
                    assert_ne!(number, 0);
                    assert_eq!(unpack(number, shards), Some(place), "{shards}");
                }
            }
        }
    }

    #[test]
    fn only_the_end_is_nought() {
        for shard in 0..3 {
            let tag = tag(0, std::iter::empty());
            assert_ne!(
                pack(
                    Place {
                        shard,
                        tag,
                        cursor: 0
                    },
                    3
                ),
                Some(0)
            );
        }
    }

    #[test]
    fn a_billion_buckets_stay_below_what_floating_point_counts() {
        let place = Place {
            shard: 999,
            tag: 4095,
            cursor: (1 << 30) - 1,
        };
        assert!(pack(place, 1000).unwrap() < 1 << 53);
    }

    #[test]
    fn what_does_not_fit_is_not_cut() {
        let place = |cursor| Place {
            shard: 1,
            tag: 1,
            cursor,
        };
        assert!(pack(place((1 << 51) - 1), 2).is_some());
        assert_eq!(pack(place(1 << 51), 2), None);
        assert_eq!(pack(place(u64::MAX), 2), None);
    }

    #[test]
    fn any_number_is_a_place_or_none() {
        let mut number = 1u64;
        for _ in 0..10_000 {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            for shards in [1, 2, 3, 1000] {
                match unpack(number, shards) {
                    Some(place) => assert_eq!(pack(place, shards), Some(number)),
                    None => assert!(shards & (shards - 1) != 0, "every shard is one"),
                }
            }
        }
        assert_eq!(unpack(3, 3), None);
    }

    #[test]
    fn tags_tell_processes_apart() {
        let of = |position, name: &'static str| tag(position, [name.as_bytes()].into_iter());
        assert_ne!(of(0, "run_id:a"), of(1, "run_id:a"));
        assert_ne!(of(0, "run_id:a"), of(0, "run_id:b"));
        assert_eq!(of(1, "run_id:a"), of(1, "run_id:a"));
        assert!((0..=255).all(|position| (1..1 << TAG_BITS).contains(&of(position, ""))));
    }

    #[test]
    fn numbers_are_read_as_the_server_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("+7", Some(7)),
            ("007", Some(7)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            (" 1", None),
            ("1 ", None),
            ("x", None),
            ("-", None),
            ("1.5", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }
}
