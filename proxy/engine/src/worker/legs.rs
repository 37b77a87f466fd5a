//! What each replica is sent for one Redis write: bytes from the effect of the command.
//!
//! Called by `replicate.rs`. Decides nothing about who gets a write, and keeps nothing.
//!
//! | effect | leader | others |
//! |---|---|---|
//! | `Verbatim`, `Everything`, `Compared` | the request | the same |
//! | `Verified` | the request, PEXPIRETIME | the same |
//! | the last two with several keys | MULTI, PEXPIRETIME of each, the request, EXEC | the same |
//! | `Popped`, `StreamTrim` | the request, XLEN for a trim | what follows from the replies |
//! | `StreamAdd` | the request, XLEN if it trims, PEXPIRETIME | what follows, PEXPIRETIME |
//! | `Moved` | as `moved.rs` says | |
//! | `State` | MULTI, the request, DUMP and PEXPIRETIME of each key, EXEC | RESTORE or DEL of each key |
//! | `Program` | MULTI, INFO, GET of our records, the request, the same GET, INFO, EXEC | the request, if INFO has counted a change; MSETNX of the records that are gone |
//!
//! A script may remove whatever it finds by KEYS, our own records too. As all do the same none would be left, and
//! where votes are counted nobody could say any more what was decided (`proxy/control/quorum.py`). So what stood
//! there right before is put back. Not if something does; and not what was missing: that is for others to find.
//!
//! Behind a write PEXPIRETIME tells a key that was there from one that the write made. With several keys
//! it has to be known before, and at the same instant for all: inside EXEC the server's clock stands.

use super::exec::StateOf;
use super::repair::Check;
use super::resolve::Rule;
use crate::command::effect::Place;
use crate::command::overlay::Effect;
use crate::command::{effect, expiry, Row};
use crate::proto::memcache::ReplyKind;
use crate::proto::{resp, Args, Resume};
use crate::sys;

/// Which of the replies on a leg answers the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The last one; those before it matter when they are errors.
    Last,
    /// The first one.
    First,
    /// The last element of the last one, which is EXEC's.
    Exec,
    /// The last one, EXEC's, without the first `skip` elements (`exec.rs`).
    Tail { skip: usize },
    /// The only one, without its value, which the client was not asked to see.
    Valueless,
    /// The leader's is known. Of the others' last one an error inside counts too: EXEC of what was copied.
    Copied,
}

/// What a held entry becomes once the leader has answered.
pub(super) enum Held {
    /// A memcached write, if the leader says STORED.
    IfStored(Vec<u8>),
    /// A memcached set if the leader says STORED; if it failed, the key is gone there (`behind.rs`).
    Set { bytes: Vec<u8>, key: Vec<u8> },
    /// These bytes, whatever the leader says that is no error.
    Same { bytes: Vec<u8>, replies: u32 },
    /// The leader's items of these keys, whose replies are collected here.
    Items {
        keys: Vec<Vec<u8>>,
        /// Behind each of them, if they are base64.
        mark: &'static [u8],
        replies: Vec<u8>,
    },
    /// What follows from the leader's answer to a meta command, and from what it was asked besides, which is
    /// collected here.
    Meta { rule: Rule, seen: Vec<u8> },
    /// The state of these keys.
    State(Vec<Vec<u8>>),
    /// Nothing more: the others have the state of these keys by now, or refused it.
    Sent(Vec<Vec<u8>>),
    /// The state of these keys, behind which the lane's database is used again.
    Moved { database: u8, places: Vec<Place> },
    /// The state of keys, behind the answers to the commands of a transaction.
    Exec(StateOf),
    /// This request, if it has changed anything on the leader. Our records may go with it.
    Program {
        request: Vec<u8>,
        records: Vec<Vec<u8>>,
    },
    /// What follows from the leader's replies, which are collected here.
    Follow {
        effect: Effect,
        request: Vec<u8>,
        replies: Vec<u8>,
    },
}

/// How one write is sent.
pub(super) struct Plan {
    /// On each leg that gets the leader's bytes.
    pub replies: u32,
    /// Kind of the replies behind the first.
    pub then: ReplyKind,
    pub shape: Shape,
    pub held: Option<Held>,
    pub check: Option<Box<Check>>,
}

impl Plan {
    /// The same bytes for all, or others that are known already.
    pub const fn plain() -> Plan {
        Plan {
            replies: 1,
            then: ReplyKind::Line,
            shape: Shape::Last,
            held: None,
            check: None,
        }
    }

    /// Bytes for the other replicas once the leader has answered.
    pub fn held(held: Held) -> Plan {
        Plan {
            held: Some(held),
            ..Plan::plain()
        }
    }
}

/// Plans a write; what changes nothing is none. What the leader gets is in `out`, or the request itself if that is left empty.
#[inline]
pub(super) fn plan(
    row: &Row,
    effect: Effect,
    args: &Args<'_>,
    keys: &[u32],
    request: &[u8],
    reserved: &[Vec<u8>],
    out: &mut Vec<u8>,
) -> Plan {
    let now_ms = || (sys::unix_micros() / 1000) as i64;
    expiry::absolute(row, args, now_ms, out);
    if matches!(effect, Effect::Verbatim | Effect::Everything) {
        return Plan::plain();
    }
    let mut plan = Plan {
        shape: Shape::First,
        ..Plan::plain()
    };
    let key = |at: &u32| args.get(*at as usize);
    let words: Vec<Vec<u8>> = keys.iter().map(|at| key(at).to_vec()).collect();
    match effect {
        Effect::Compared | Effect::Verified if keys.len() > 1 => {
            let body = std::mem::take(out);
            out.extend_from_slice(MULTI);
            for at in keys {
                ask(out, b"PEXPIRETIME", key(at));
            }
            let is_changed = !body.is_empty();
            out.extend_from_slice(if is_changed { &body } else { request });
            out.extend_from_slice(EXEC);
            plan.shape = Shape::Exec;
            plan.replies = 3 + keys.len() as u32;
            plan.check = Some(Check::new(words));
        }
        Effect::Compared => plan.check = Some(Check::new(words)),
        Effect::Verified | Effect::StreamAdd { .. } | Effect::StreamTrim => {
            if out.is_empty() {
                out.extend_from_slice(request);
            }
            if matches!(
                effect,
                Effect::StreamTrim | Effect::StreamAdd { about: true }
            ) {
                ask(out, b"XLEN", args.get(1));
                plan.replies += 1;
            }
            if effect != Effect::StreamTrim {
                ask(out, b"PEXPIRETIME", keys.first().map_or(b"", key));
                plan.replies += 1;
                plan.check = Some(Check::new(words));
            }
        }
        Effect::State => return state(request, words, out),
        Effect::Program => return program(request, reserved, out),
        Effect::Popped
        | Effect::Verbatim
        | Effect::Everything
        | Effect::Nothing
        | Effect::Moved => {}
    }
    if matches!(
        effect,
        Effect::Popped | Effect::StreamTrim | Effect::StreamAdd { .. }
    ) {
        plan.held = Some(Held::Follow {
            effect,
            request: request.to_vec(),
            replies: Vec::new(),
        });
    }
    plan
}

pub(super) const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub(super) const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

pub(super) fn ask(out: &mut Vec<u8>, name: &[u8], key: &[u8]) {
    resp::write_request(out, &[name, key]);
}

/// Plans a write whose keys' state travels.
pub(super) fn state(request: &[u8], keys: Vec<Vec<u8>>, out: &mut Vec<u8>) -> Plan {
    transaction(request, &keys, out);
    Plan {
        replies: 3 + 2 * keys.len() as u32,
        ..Plan::held(Held::State(keys))
    }
}

/// MULTI, the request, the state of its keys, EXEC: one uninterrupted batch, `3 + 2 * keys` replies.
pub(super) fn transaction(request: &[u8], keys: &[Vec<u8>], out: &mut Vec<u8>) {
    out.extend_from_slice(MULTI);
    out.extend_from_slice(request);
    for key in keys {
        ask_state(out, key);
    }
    out.extend_from_slice(EXEC);
}

/// What a key holds and when it expires.
pub(super) fn ask_state(out: &mut Vec<u8>, key: &[u8]) {
    ask(out, b"DUMP", key);
    ask(out, b"PEXPIRETIME", key);
}

/// Gives another server the state of a key, by the replies to `ask_state`.
pub(super) fn give_state(out: &mut Vec<u8>, key: &[u8], dump: &[u8], expires: &[u8]) {
    let Some(dump) = resp::string(dump) else {
        return ask(out, b"DEL", key);
    };
    let at = resp::integer(expires).filter(|at| *at > 0).unwrap_or(0);
    let at = at.to_string();
    let words = [b"RESTORE", key, at.as_bytes(), dump, b"REPLACE", b"ABSTTL"];
    resp::write_request(out, &words);
}

/// Plans a write that may have changed anything, or nothing. The server counts changes.
pub(super) fn program(request: &[u8], reserved: &[Vec<u8>], out: &mut Vec<u8>) -> Plan {
    let records: Vec<Vec<u8>> = reserved
        .iter()
        .filter(|key| is_record(key))
        .cloned()
        .collect();
    let shown = |out: &mut Vec<u8>| records.iter().for_each(|key| ask(out, b"GET", key));
    out.extend_from_slice(MULTI);
    ask(out, b"INFO", b"persistence");
    shown(out);
    out.extend_from_slice(request);
    shown(out);
    ask(out, b"INFO", b"persistence");
    out.extend_from_slice(EXEC);
    Plan {
        replies: 5 + 2 * records.len() as u32,
        ..Plan::held(Held::Program {
            request: request.to_vec(),
            records,
        })
    }
}

/// True for those of our own keys that stay for ever; the others end by themselves.
fn is_record(key: &[u8]) -> bool {
    [&b"view:"[..], b"absent:"].iter().any(|kind| {
        let rest = key.strip_prefix(crate::command::RESERVED_PREFIX);
        rest.is_some_and(|rest| rest.starts_with(kind))
    })
}

/// What a `Program` has done on the leader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done<'a> {
    /// The request's own reply.
    pub answer: &'a [u8],
    pub has_changed: bool,
    /// Puts back the records that it has removed; empty if there are none.
    pub back: Vec<u8>,
}

/// Reads EXEC's reply to that. None if the transaction was not executed.
pub(super) fn program_outcome<'a>(reply: &'a [u8], records: &[Vec<u8>]) -> Option<Done<'a>> {
    let (count, start) = resp::aggregate(reply)?;
    if count != 3 + 2 * records.len() {
        return None;
    }
    let mut rest = &reply[start..];
    let mut next = || {
        let (value, tail) = rest.split_at(resp::value_len(rest));
        rest = tail;
        value
    };
    let before = next();
    let stood: Vec<&[u8]> = records.iter().map(|_| next()).collect();
    let answer = next();
    let mut words: Vec<&[u8]> = vec![b"MSETNX"];
    for (key, was) in records.iter().zip(stood) {
        let is_gone = resp::string(next()).is_none();
        if let Some(was) = resp::string(was).filter(|_| is_gone) {
            words.extend([&key[..], was]);
        }
    }
    // Where a server does not tell, it may have.
    let is_same = changes(before).is_some_and(|count| changes(next()) == Some(count));
    let mut back = Vec::new();
    if words.len() > 1 {
        resp::write_request(&mut back, &words);
    }
    Some(Done {
        answer,
        has_changed: !is_same,
        back,
    })
}

fn changes(info: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"rdb_changes_since_last_save:";
    let at = memchr::memmem::find(info, NAME)? + NAME.len();
    let end = memchr::memchr(b'\r', &info[at..])?;
    Some(&info[at..at + end])
}

/// What the other replicas get for a held `Follow`: bytes, and how many replies they have.
pub(super) fn follow(effect: Effect, request: &[u8], replies: &[u8]) -> Option<(Vec<u8>, u32)> {
    let mut list = Vec::new();
    resp::request(request, &mut list, &mut Resume::default(), usize::MAX);
    let args = Args {
        buf: request,
        list: &list,
    };
    let mut bytes = effect::follow(effect, &args, replies)?;
    if !matches!(effect, Effect::StreamAdd { .. }) {
        return Some((bytes, 1));
    }
    ask(&mut bytes, b"PEXPIRETIME", args.get(1));
    Some((bytes, 2))
}

/// The reply of a command that stood last in a transaction.
pub(super) fn exec_answer(reply: &[u8]) -> &[u8] {
    let Some((count, at)) = resp::aggregate(reply) else {
        return reply;
    };
    let mut rest = &reply[at..];
    for _ in 1..count {
        rest = &rest[resp::value_len(rest)..];
    }
    rest
}

/// Reads the reply of EXEC: the command's own reply, and the requests that give another server the
/// state of `keys`. None if the transaction was not executed.
pub(super) fn state_copy<'a>(reply: &'a [u8], keys: &[Vec<u8>]) -> Option<(&'a [u8], Vec<u8>)> {
    let (count, start) = resp::aggregate(reply)?;
    if count != 1 + 2 * keys.len() {
        return None;
    }
    let first = &reply[start..start + resp::value_len(&reply[start..])];
    let mut rest = &reply[start + first.len()..];
    let mut bytes = Vec::new();
    for key in keys {
        let (dump, tail) = rest.split_at(resp::value_len(rest));
        let (expires, tail) = tail.split_at(resp::value_len(tail));
        rest = tail;
        give_state(&mut bytes, key, dump, expires);
    }
    Some((first, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(before: &str, answer: &str, after: &str) -> Option<(String, bool)> {
        let mut reply = b"*3\r\n".to_vec();
        resp::write_bulk(&mut reply, before.as_bytes());
        reply.extend_from_slice(answer.as_bytes());
        resp::write_bulk(&mut reply, after.as_bytes());
        let done = program_outcome(&reply, &[])?;
        assert!(done.back.is_empty());
        let answer = String::from_utf8_lossy(done.answer).into_owned();
        Some((answer, done.has_changed))
    }

    #[test]
    fn records_that_a_program_has_removed_come_back() {
        let reserved = ["view:p/s", "lease:p/s", "absent:p"];
        let reserved: Vec<Vec<u8>> = reserved
            .iter()
            .map(|name| format!("__shardproxy:{name}").into_bytes())
            .collect();
        let mut sent = Vec::new();
        let plan = program(b"*1\r\n$1\r\nx\r\n", &reserved, &mut sent);
        let Some(Held::Program { records, .. }) = plan.held else {
            panic!("not held")
        };
        assert_eq!((plan.replies, records.len()), (9, 2));
        let shown = |words: [&str; 4]| {
            let [a, b, c, d] = words;
            format!("*7\r\n$0\r\n\r\n{a}{b}+OK\r\n{c}{d}$0\r\n\r\n")
        };
        let back = |words| {
            let reply = shown(words);
            let done = program_outcome(reply.as_bytes(), &records).unwrap();
            String::from_utf8(done.back).unwrap().replace("\r\n", " ")
        };
        let (there, none) = ("$1\r\n7\r\n", "$-1\r\n");
        assert_eq!(back([there, there, there, there]), "");
        assert_eq!(back([none, none, none, none]), "");
        assert_eq!(back([none, there, there, there]), "");
        let expected = "*3 $6 MSETNX $21 __shardproxy:view:p/s $1 7 ";
        assert_eq!(back([there, none, none, none]), expected);
        assert!(back([there, there, none, none]).starts_with("*5 $6 MSETNX "));
    }

    fn info(changes: u64) -> String {
        format!("# Persistence\r\nloading:0\r\nrdb_changes_since_last_save:{changes}\r\nx:1\r\n")
    }

    #[test]
    fn a_program_that_changed_nothing_is_told_by_the_count() {
        let found = outcome(&info(7), "*2\r\n:1\r\n$1\r\na\r\n", &info(7));
        assert_eq!(found, Some(("*2\r\n:1\r\n$1\r\na\r\n".to_owned(), false)));
        let found = outcome(&info(7), "-ERR x\r\n", &info(71));
        assert_eq!(found, Some(("-ERR x\r\n".to_owned(), true)));
    }

    #[test]
    fn where_nothing_is_told_it_may_have_changed() {
        let found = outcome("", "+OK\r\n", "");
        assert_eq!(found, Some(("+OK\r\n".to_owned(), true)));
        assert_eq!(program_outcome(b"-EXECABORT x\r\n", &[]), None);
        assert_eq!(program_outcome(b"*0\r\n", &[]), None);
    }
}
