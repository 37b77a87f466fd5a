//! Memcached writes while a backend joins: the leader first, and what it made of them for the others.
//!
//! A joining backend holds part of the data, so it cannot carry out what depends on what is there. It gets
//! the outcome: the value as the leader has it. And it gets it after the leader's answer, never before:
//! whoever copies keys from the leader at the same time takes back what has changed on the leader since it
//! was read, and relies on finding the change there first (`proxy/control/copying.py`).
//!
//! | write | leader | others, once it has answered |
//! |---|---|---|
//! | set | the request | the same if STORED; delete if it failed: the leader has dropped what was there |
//! | add, replace, cas | the request | set if STORED |
//! | delete, flush_all | the request | the same |
//! | append, prepend, incr, decr, touch, gat | the request, `mg` of each key | set of what `mg` showed, or delete |

use super::legs::{Held, Plan, Shape};
use crate::proto::memcache::{self as text, ReplyKind};
use crate::proto::Args;

/// Behind it, as an expiry, stands a moment; up to it a number of seconds from now (memcached's REALTIME_MAXDELTA).
const RELATIVE_SECONDS_LIMIT: i64 = 60 * 60 * 24 * 30;

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
            replies: 1 + u16::from(!trailer.is_empty()),
        }),
        Behind::Items { args, first, end } => {
            let keys: Vec<Vec<u8>> = (first..end).map(|at| args.get(at).to_vec()).collect();
            out.extend_from_slice(request);
            for key in &keys {
                ask(out, key);
            }
            let replies = 1 + keys.len() as u16;
            Plan {
                replies,
                then: ReplyKind::Item,
                shape: Shape::First,
                ..Plan::held(Held::Items {
                    keys,
                    replies: Vec::new(),
                })
            }
        }
    }
}

/// Value, flags and time to live.
fn ask(out: &mut Vec<u8>, key: &[u8]) {
    for word in [b"mg ", key, b" v f t\r\n"] {
        out.extend_from_slice(word);
    }
}

/// The request that removes a key.
pub(super) fn delete(key: &[u8]) -> Vec<u8> {
    [b"delete ", key, b"\r\n"].concat()
}

/// Requests that give another server the items that `mg` has shown, one for each key. None if a reply is not
/// one of `mg`'s.
///
/// `now` in seconds since 1970.
pub(super) fn items_copy(keys: &[Vec<u8>], replies: &[u8], now: i64) -> Option<Vec<u8>> {
    let mut rest = replies;
    let mut out = Vec::new();
    for key in keys {
        let (item, len) = text::item(rest)?;
        rest = &rest[len..];
        let Some(item) = item.filter(|item| item.ttl != 0) else {
            out.extend_from_slice(&delete(key));
            continue;
        };
        let expiry = match item.ttl {
            ttl if ttl < 0 => 0,
            ttl if ttl > RELATIVE_SECONDS_LIMIT => now + ttl,
            ttl => ttl,
        };
        let numbers = format!(" {} {expiry} {}\r\n", item.flags, item.data.len());
        for part in [b"set ", &key[..], numbers.as_bytes(), item.data, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(replies: &[u8]) -> Option<String> {
        let keys = [b"a".to_vec(), b"b".to_vec()];
        items_copy(&keys, replies, 1_000_000)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn items_become_sets_and_absent_ones_deletes() {
        let found = copied(b"VA 2 f7 t-1\r\n\r\n\r\nEN\r\n");
        assert_eq!(
            found.as_deref(),
            Some("set a 7 0 2\r\n\r\n\r\ndelete b\r\n")
        );
    }

    #[test]
    fn times_to_live_stay_what_they_are() {
        let found = copied(b"VA 1 f0 t30\r\nx\r\nVA 1 f0 t2592001\r\ny\r\n");
        let expected = "set a 0 30 1\r\nx\r\nset b 0 3592001 1\r\ny\r\n";
        assert_eq!(found.as_deref(), Some(expected));
        let found = copied(b"VA 1 f0 t0\r\nx\r\nEN\r\n");
        assert_eq!(found.as_deref(), Some("delete a\r\ndelete b\r\n"));
    }

    #[test]
    fn what_is_no_item_is_not_guessed_at() {
        for replies in [
            &b"ERROR\r\nERROR\r\n"[..],
            b"EN\r\n",
            b"VA 9 f0 t0\r\nx\r\nEN\r\n",
            b"VA 1 f0\r\nx\r\nEN\r\n",
        ] {
            assert_eq!(copied(replies), None);
        }
    }
}
