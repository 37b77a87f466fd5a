//! Writes of one shard that touch keys of other databases than their lane's: MOVE, COPY … DB.
//!
//! Their reply does not tell the effect, and the keys of the other database have another order than those of
//! the lane. So nothing else is written while they are under way (`Reach::Databases`), and the state of the
//! keys in both databases travels, as for `Effect::State`:
//!
//! | leader | others |
//! |---|---|
//! | MULTI, the request, SELECT DUMP PEXPIRETIME of each key, SELECT, EXEC | SELECT, RESTORE or DEL of each key, SELECT |

use super::greeting::select;
use super::legs::{self, Held, Plan};
use crate::command::effect::Place;
use crate::proto::resp;

/// Plans such a write; what the leader gets is in `out`.
///
/// Args:
///     database: the lane's.
///     places: keys that it may change.
pub(super) fn plan(request: &[u8], database: u8, places: Vec<Place>, out: &mut Vec<u8>) -> Plan {
    out.extend_from_slice(legs::MULTI);
    out.extend_from_slice(request);
    for place in &places {
        select(place.database, out);
        legs::ask_state(out, &place.key);
    }
    select(database, out);
    out.extend_from_slice(legs::EXEC);
    Plan {
        replies: 4 + 3 * places.len() as u32,
        ..Plan::held(Held::Moved { database, places })
    }
}

/// Reads the reply of EXEC: the request's own reply, the requests that give another server the state of the
/// keys, and how many replies these have. None if the transaction was not executed.
pub(super) fn copy<'a>(
    reply: &'a [u8],
    database: u8,
    places: &[Place],
) -> Option<(&'a [u8], Vec<u8>, u32)> {
    let (count, start) = resp::aggregate(reply)?;
    if count != 2 + 3 * places.len() {
        return None;
    }
    let mut rest = &reply[start..];
    let mut next = || {
        let (value, tail) = rest.split_at(resp::value_len(rest));
        rest = tail;
        value
    };
    let first = next();
    let mut bytes = Vec::new();
    for place in places {
        let (_, dump, expires) = (next(), next(), next());
        select(place.database, &mut bytes);
        legs::give_state(&mut bytes, &place.key, dump, expires);
    }
    select(database, &mut bytes);
    Some((first, bytes, 1 + 2 * places.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Vec<Place> {
        let key = b"k".to_vec();
        let there = Place {
            database: 2,
            key: key.clone(),
        };
        vec![Place { database: 0, key }, there]
    }

    #[test]
    fn the_state_of_both_databases_is_asked_for_and_given() {
        let mut out = Vec::new();
        let plan = plan(b"MOVE", 0, places(), &mut out);
        let text = String::from_utf8_lossy(&out).replace("\r\n", " ");
        let (zero, two) = ("*2 $6 SELECT $1 0 ", "*2 $6 SELECT $1 2 ");
        let ask = "*2 $4 DUMP $1 k *2 $11 PEXPIRETIME $1 k ";
        let expected = format!("*1 $5 MULTI MOVE{zero}{ask}{two}{ask}{zero}*1 $4 EXEC ");
        assert_eq!(text, expected);
        assert_eq!(plan.replies, 10);

        let reply = b"*8\r\n:1\r\n+OK\r\n$-1\r\n:-2\r\n+OK\r\n$1\r\nd\r\n:-1\r\n+OK\r\n";
        let (first, bytes, replies) = copy(reply, 0, &places()).unwrap();
        assert_eq!(first, b":1\r\n");
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", " ");
        let restore = "*6 $7 RESTORE $1 k $1 0 $1 d $7 REPLACE $6 ABSTTL ";
        assert_eq!(text, format!("{zero}*2 $3 DEL $1 k {two}{restore}{zero}"));
        assert_eq!(replies, 5);
    }

    #[test]
    fn what_was_not_executed_gives_nothing() {
        assert!(copy(b"-EXECABORT x\r\n", 0, &places()).is_none());
        assert!(copy(b"*1\r\n:1\r\n", 0, &places()).is_none());
    }
}
