//! Writes while a backend joins: the leader first, and what it made of them for the others.
//!
//! A joining backend holds part of the data, so it cannot carry out what depends on what is there. It gets
//! the outcome: the value as the leader has it. And it gets it after the leader's answer, never before:
//! whoever copies keys from the leader at the same time takes back what has changed on the leader since it
//! was read, and relies on finding the change there first (`proxy/control/copying.py`).
//!
//! | Redis write | leader | others, once it has answered |
//! |---|---|---|
//! | leaves the same behind whatever was there (`Effect::Verbatim`) | the request | the same, unless it failed |
//! | any other | MULTI, the request, DUMP and PEXPIRETIME of what it writes, EXEC | RESTORE or DEL of each key |
//!
//! A script that names no keys and wrote some cannot be repeated on part of the data: who joins leaves again.
//!
//! So each write of a part of a large value sends the whole value, for as long as the copy takes.
//!
//! | Memcached write | leader | others, once it has answered |
//! |---|---|---|
//! | set | the request | the same if STORED; delete if it failed: the leader has dropped what was there |
//! | add, replace, cas | the request | set if STORED |
//! | delete, flush_all | the request | the same |
//! | append, prepend, incr, decr, touch, gat | the request, `mg` of each key | what `mg` showed (`items.rs`) |

use super::items;
use super::legs::{self, Held, Plan, Shape};
use crate::command::overlay::Effect;
use crate::command::{self, expiry, Row};
use crate::proto::memcache::ReplyKind;
use crate::proto::Args;
use crate::sys;

/// What a write is to those that get it behind the leader.
#[derive(Clone, Copy)]
pub(super) enum Behind<'a> {
    Set {
        key: &'a [u8],
    },
    Same,
    /// The state of the words from `first` on, which are keys, up to `end`.
    Items {
        args: Args<'a>,
        first: usize,
        end: usize,
    },
}

/// Plans such a write; what the leader gets is in `out`, or the request itself if that is left empty.
pub(super) fn plan(behind: Behind<'_>, request: &[u8], trailer: &[u8], out: &mut Vec<u8>) -> Plan {
    match behind {
        Behind::Set { key } => Plan::held(Held::Set {
            bytes: request.to_vec(),
            key: key.to_vec(),
        }),
        Behind::Same => Plan::held(Held::Same {
            bytes: [request, trailer].concat(),
            replies: 1 + u32::from(!trailer.is_empty()),
        }),
        Behind::Items { args, first, end } => {
            let keys: Vec<Vec<u8>> = (first..end).map(|at| args.get(at).to_vec()).collect();
            out.extend_from_slice(request);
            for key in &keys {
                items::ask(out, (key, b""));
            }
            let replies = 1 + keys.len() as u32;
            Plan {
                replies,
                then: ReplyKind::Item,
                shape: Shape::First,
                ..Plan::held(Held::Items {
                    keys,
                    mark: b"",
                    replies: Vec::new(),
                })
            }
        }
    }
}

/// Plans a Redis write; `out` as above. What else its row says of replicas (`effect`) holds for those that have
/// what the leader has, and somebody has not.
pub(super) fn outcome(
    row: &Row,
    effect: Effect,
    args: &Args<'_>,
    request: &[u8],
    reserved: &[Vec<u8>],
    out: &mut Vec<u8>,
) -> Plan {
    if effect == Effect::Program {
        return legs::program(request, reserved, out);
    }
    if !matches!(effect, Effect::Verbatim | Effect::Everything) {
        let mut keys = Vec::new();
        command::keys::written(row, args, &mut keys);
        let keys = keys.iter().map(|at| args.get(*at as usize).to_vec());
        return legs::state(request, keys.collect(), out);
    }
    let now_ms = || (sys::unix_micros() / 1000) as i64;
    expiry::absolute(row, args, now_ms, out);
    let bytes = if out.is_empty() { request } else { out };
    Plan::held(Held::Same {
        bytes: bytes.to_vec(),
        replies: 1,
    })
}

/// The request that removes a key.
pub(super) fn delete(key: &[u8]) -> Vec<u8> {
    // memcached 1.6.45 takes such a key at the end of the line for what it spells, and answers nothing.
    let end: &[u8] = match key {
        b"noreply" => b" 0\r\n",
        _ => b"\r\n",
    };
    [b"delete ", key, end].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{resp, Resume};

    fn planned(request: &[u8]) -> (Plan, String) {
        let mut list = Vec::new();
        let limit = usize::MAX;
        resp::request(request, &mut list, &mut Resume::default(), limit);
        let (buf, list) = (request, &list[..]);
        let args = Args { buf, list };
        let row = command::find(&args).unwrap();
        let mut out = Vec::new();
        let plan = outcome(row, row.effect_of(&args), &args, request, &[], &mut out);
        (plan, String::from_utf8_lossy(&out).replace("\r\n", " "))
    }

    #[test]
    fn a_key_that_spells_noreply_is_deleted_aloud() {
        assert_eq!(delete(b"k"), b"delete k\r\n");
        assert_eq!(delete(b"noreply"), b"delete noreply 0\r\n");
    }

    #[test]
    fn what_does_not_look_is_sent_again() {
        let request = b"*3\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n";
        let (plan, lead) = planned(request);
        assert_eq!(lead, "", "the request itself");
        assert!(matches!(plan.held, Some(Held::Same { bytes, replies: 1 }) if bytes == request));
    }

    #[test]
    fn what_is_sent_again_expires_at_the_same_moment() {
        let (plan, lead) = planned(b"*4\r\n$5\r\nSETEX\r\n$1\r\na\r\n$2\r\n10\r\n$1\r\nv\r\n");
        assert!(lead.contains("$4 PXAT $13 "), "{lead}");
        let Some(Held::Same { bytes, .. }) = plan.held else {
            panic!("not held")
        };
        assert_eq!(String::from_utf8_lossy(&bytes).replace("\r\n", " "), lead);
    }

    #[test]
    fn what_depends_on_what_is_there_travels_as_state() {
        let (plan, lead) =
            planned(b"*4\r\n$11\r\nSINTERSTORE\r\n$1\r\nd\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert_eq!(
            lead,
            "*1 $5 MULTI *4 $11 SINTERSTORE $1 d $1 a $1 b *2 $4 DUMP $1 d *2 $11 PEXPIRETIME $1 d *1 $4 EXEC "
        );
        assert_eq!((plan.replies, plan.shape), (5, Shape::Last));
        assert!(matches!(plan.held, Some(Held::State(keys)) if keys == [b"d".to_vec()]));
    }

    #[test]
    fn more_keys_than_sixteen_bits_count() {
        let mut request = b"*70002\r\n$7\r\nPFMERGE\r\n$1\r\nd\r\n".to_vec();
        let keys = vec![b"a".to_vec(); 70_000];
        for key in &keys {
            resp::write_bulk(&mut request, key);
        }
        assert_eq!(planned(&request).0.replies, 5);
        let mut out = Vec::new();
        assert_eq!(legs::state(&request, keys, &mut out).replies, 140_003);
    }
}
