//! Lanes: the kinds of backend connections. Requests of one lane share a connection per backend, and
//! what a server keeps per connection is the same for all of them.
//!
//! A lane is a database and a protocol version: a server shapes replies by the version (`ZRANGE
//! WITHSCORES` is nested in RESP3), so they cannot be converted without knowing every command. Memcached
//! has one lane, 0.

/// Databases a pool may have; what redis-server has unless told otherwise.
pub const DATABASES_MAX: usize = 16;
/// Main lanes are below it. Each has two side lanes, so much and twice as much further on.
pub const MAIN_LANES: usize = 2 * DATABASES_MAX + 2;
/// Lanes are below it.
pub const LANES: usize = 3 * MAIN_LANES;
/// The first of two lanes, one per protocol version, for what a server takes while a script keeps it busy. They
/// have no database, show no record (which such a server refuses) and carry no keys.
const CONTROL: u8 = 2 * DATABASES_MAX as u8;

/// The lane of a database's requests.
#[inline]
pub const fn of(database: u8, resp3: bool) -> u8 {
    2 * database + resp3 as u8
}

#[inline]
pub const fn database(lane: u8) -> u8 {
    main(lane) / 2
}

#[inline]
pub const fn is_resp3(lane: u8) -> bool {
    lane % 2 == 1
}

/// The lane of SCRIPT KILL and its like.
#[inline]
pub const fn control(resp3: bool) -> u8 {
    CONTROL + resp3 as u8
}

#[inline]
pub const fn is_control(lane: u8) -> bool {
    main(lane) >= CONTROL
}

/// Where reads go that keep clear of the main lane (`worker/aside.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Small ones, while something large is on the main lane.
    Small = 1,
    /// Those whose replies are large.
    Large = 2,
}

/// A side lane of a main lane.
#[inline]
pub const fn aside(lane: u8, side: Side) -> u8 {
    lane + side as u8 * MAIN_LANES as u8
}

/// The main lane that a lane stands beside, or itself.
#[inline]
pub const fn main(lane: u8) -> u8 {
    lane % MAIN_LANES as u8
}

/// The lane of the same database in the other protocol version.
#[inline]
pub const fn twin(lane: u8) -> u8 {
    lane ^ 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_tells_what_it_was_made_of() {
        for number in 0..LANES as u8 {
            assert_eq!(of(database(number), is_resp3(number)), main(number));
            assert_eq!(database(twin(number)), database(number));
            assert_ne!(is_resp3(twin(number)), is_resp3(number));
            assert_eq!(
                is_control(number),
                main(number) == control(is_resp3(number)),
                "{number}"
            );
        }
        for number in 0..MAIN_LANES as u8 {
            for side in [Side::Small, Side::Large] {
                assert!(main(number) == number && main(aside(number, side)) == number);
                assert!((aside(number, side) as usize) < LANES);
            }
        }
    }
}
