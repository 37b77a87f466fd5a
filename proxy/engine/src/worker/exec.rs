//! One shard's part of a transaction: MULTI, commands and EXEC as one uninterrupted batch, and what its
//! replicas get of it.
//!
//! | effects of its commands | leader | others |
//! |---|---|---|
//! | `Verbatim` only | the batch | the same |
//! | `Compared` or `Verified` too | PEXPIRETIME of their keys in front of the commands | the same, at once |
//! | `Everything` | the batch | the same; with others of the next row those commands alone, in front of the state |
//! | any other | DUMP and PEXPIRETIME of what is written, behind them | RESTORE or DEL of each key, in one transaction |
//!
//! As for single commands (`legs.rs`), and for the same reasons. Compared is what EXEC says of the commands
//! that need it: a difference has the leader's state of all their keys sent to the others (`repair.rs`).
//! While somebody joins, all but the first kind travels as state (`behind.rs`).

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::flush;
use super::forward::Reach;
use super::greeting::select;
use super::legs::{self, ask, Held, Plan, Shape, EXEC, MULTI};
use super::repair::Check;
use crate::command::effect::places;
use crate::command::overlay::Effect;
use crate::command::spec::Flags;
use crate::command::{self, expiry, FanKind, Handling, Row};
use crate::error;
use crate::proto::memcache::ReplyKind;
use crate::proto::{resp, Args, Resume, Step};
use crate::sys;

/// What has to be known of a batch to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// What it may change.
    pub reach: Reach,
    /// Of all its requests, MULTI and EXEC included.
    pub replies: u32,
    /// It calls scripts, which a server may not know.
    pub scripts: bool,
}

impl Facts {
    /// Of MULTI and EXEC alone.
    pub const EMPTY: Facts = Facts {
        reach: Reach::Nothing,
        replies: 2,
        scripts: false,
    };

    /// Takes note of one more command.
    pub fn add(&mut self, row: &Row, args: &Args<'_>) {
        self.reach = self.reach.and(Reach::of(effect_of(row, args)));
        self.replies += 1;
        self.scripts |= row.flags.has(Flags::NO_MANDATORY_KEYS) || row.name == "SCRIPT|EXISTS";
    }

    pub fn writes(self) -> bool {
        self.reach != Reach::Nothing
    }

    pub fn kind(self) -> ReplyKind {
        ReplyKind::Batch {
            replies: self.replies,
        }
    }
}

/// How a command reaches the other replicas. A message goes to the leader alone, where the subscribers are,
/// and must not be sent twice, as reads are. A step of a SCAN goes to the leader too: reads that are spread would
/// hardly ever meet the server again whose cursor it is.
fn effect_of(row: &Row, args: &Args<'_>) -> Effect {
    match row.handling {
        Handling::Channel(_) | Handling::Fan(FanKind::Scan) => Effect::State,
        // Made from FLUSHALL or FLUSHDB.
        Handling::Forward if flush::is_made(args) => Effect::Everything,
        _ => row.effect_of(args),
    }
}

/// True for the bytes of a batch, as a request between workers.
pub(super) fn is_batch(bytes: &[u8]) -> bool {
    bytes.starts_with(MULTI)
}

/// The row of a request, learned or from the table (`Worker::row_of`).
pub(super) type Find<'a> = &'a dyn Fn(&Args<'_>) -> Option<&'static Row>;

/// Calls `each` with every command between MULTI and EXEC.
pub(super) fn commands(
    batch: &[u8],
    find: Find<'_>,
    mut each: impl FnMut(&'static Row, &Args<'_>, &[u8]),
) {
    let mut list = Vec::new();
    let mut rest = &batch[MULTI.len().min(batch.len())..];
    while rest.len() > EXEC.len() {
        let step = resp::request(rest, &mut list, &mut Resume::default(), usize::MAX);
        let Step::Complete(len) = step else { return };
        let (frame, tail) = rest.split_at(len);
        let args = Args {
            buf: frame,
            list: &list,
        };
        if let Some(row) = find(&args) {
            each(row, &args, frame);
        }
        rest = tail;
    }
}

pub(super) fn facts(batch: &[u8], find: Find<'_>) -> Facts {
    let mut facts = Facts::EMPTY;
    commands(batch, find, |row, args, _| facts.add(row, args));
    facts
}

/// Plans a batch that writes; what the leader gets is in `out`.
///
/// `database` is the lane's.
pub(super) fn plan(
    batch: &[u8],
    find: Find<'_>,
    database: u8,
    must: Must,
    out: &mut Vec<u8>,
) -> Plan {
    let now_ms = || (sys::unix_micros() / 1000) as i64;
    let mut body = Vec::with_capacity(batch.len() + 64);
    // A transaction may name a key many times.
    let (mut named, mut written) = (BTreeSet::new(), BTreeSet::new());
    let (mut is_verbatim, mut is_state, mut compared) = (true, false, Vec::new());
    let mut everywhere = Vec::new();
    let mut positions = Vec::new();
    commands(batch, find, |row, args, frame| {
        if !expiry::absolute(row, args, now_ms, &mut body) {
            body.extend_from_slice(frame);
        }
        let effect = effect_of(row, args);
        let is_compared = matches!(effect, Effect::Compared | Effect::Verified);
        compared.push(is_compared);
        let words = |positions: &[u32]| -> Vec<Vec<u8>> {
            let word = |at: &u32| args.get(*at as usize).to_vec();
            positions.iter().map(word).collect()
        };
        if is_compared && command::keys(row, args, &mut positions).is_ok() {
            named.extend(words(&positions));
        }
        if effect == Effect::Moved {
            let places = places(row, args, database).into_iter();
            written.extend(places.map(|place| (place.database, place.key)));
        }
        if effect == Effect::Everything {
            everywhere.push((compared.len() - 1, frame.to_vec()));
        } else if effect != Effect::Nothing {
            is_verbatim &= effect == Effect::Verbatim;
            is_state |= !is_compared && effect != Effect::Verbatim;
            command::keys::written(row, args, &mut positions);
            written.extend(words(&positions).into_iter().map(|key| (database, key)));
        }
    });
    let count = compared.len() as u32;
    out.extend_from_slice(MULTI);
    if is_state || must == Must::Follow || (must == Must::Feed && !is_verbatim) {
        let state = StateOf {
            count,
            everywhere,
            database,
            places: written.into_iter().collect(),
        };
        out.extend_from_slice(&body);
        let asked = state.ask(out);
        out.extend_from_slice(EXEC);
        return Plan {
            replies: 2 + count + asked,
            shape: Shape::Tail { skip: 0 },
            ..Plan::held(Held::Exec(state))
        };
    }
    let asked = named.len();
    for key in &named {
        ask(out, b"PEXPIRETIME", key);
    }
    out.extend_from_slice(&body);
    out.extend_from_slice(EXEC);
    let replies = 2 + count + asked as u32;
    let (mut held, mut check) = (None, None);
    if must == Must::Feed {
        let bytes = out.clone();
        held = Some(Held::Same { bytes, replies });
    } else if asked > 0 {
        let mask = std::iter::repeat_n(true, asked).chain(compared).collect();
        check = Some(Check::of_elements(named.into_iter().collect(), mask));
    }
    Plan {
        replies,
        shape: Shape::Tail { skip: asked },
        held,
        check,
        ..Plan::plain()
    }
}

/// What else decides how a batch reaches the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Must {
    /// Nothing.
    Nothing,
    /// Somebody joins, and is told outcomes.
    Feed,
    /// Only the leader can carry it out: it watches keys.
    Follow,
}

/// The reply of EXEC without the first `skip` elements; as it is if it is no array.
pub(super) fn tail(reply: &[u8], skip: usize) -> Cow<'_, [u8]> {
    let Some((count, start)) = resp::aggregate(reply).filter(|_| skip > 0) else {
        return Cow::Borrowed(reply);
    };
    let mut rest = &reply[start..];
    for _ in 0..skip.min(count) {
        rest = &rest[resp::value_len(rest)..];
    }
    let mut out = Vec::with_capacity(rest.len() + 16);
    resp::write_array(&mut out, count.saturating_sub(skip));
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// The state that the others get of what a transaction has written.
pub(super) struct StateOf {
    /// Commands in front of it.
    count: u32,
    /// Those of them that the others carry out themselves, by position.
    everywhere: Vec<(usize, Vec<u8>)>,
    /// The lane's.
    database: u8,
    /// Databases and keys, sorted.
    places: Vec<(u8, Vec<u8>)>,
}

/// One request of it.
enum Ask<'a> {
    Use(u8),
    Key(&'a [u8]),
}

impl StateOf {
    /// The keys in order, with the databases that are used for them; behind it the lane's is used again.
    fn asks(&self) -> impl Iterator<Item = Ask<'_>> {
        let mut used = self.database;
        let keys = self.places.iter().flat_map(move |(database, key)| {
            let change =
                (*database != std::mem::replace(&mut used, *database)).then_some(*database);
            change.map(Ask::Use).into_iter().chain([Ask::Key(key)])
        });
        let last = self.places.last().map_or(self.database, |place| place.0);
        let back = (last != self.database).then_some(Ask::Use(self.database));
        keys.chain(back)
    }

    /// Appends what asks the leader for it; returns how many replies that has.
    fn ask(&self, out: &mut Vec<u8>) -> u32 {
        let mut replies = 0;
        for ask in self.asks() {
            match ask {
                Ask::Use(database) => select(database, out),
                Ask::Key(key) => legs::ask_state(out, key),
            }
            replies += if matches!(ask, Ask::Use(_)) { 1 } else { 2 };
        }
        replies
    }

    /// What the leader's EXEC says of the commands, and the requests that give the others what is behind it,
    /// with the number of their replies. None if it was not executed.
    pub(super) fn copy(&self, reply: &[u8]) -> Option<(Vec<u8>, Vec<u8>, u32)> {
        let (elements, start) = resp::aggregate(reply)?;
        if elements != (self.count + self.ask(&mut Vec::new())) as usize {
            return None;
        }
        let mut at = start;
        let mut next = || {
            let value = &reply[at..at + resp::value_len(&reply[at..])];
            at += value.len();
            value
        };
        let mut answer = Vec::with_capacity(reply.len());
        resp::write_array(&mut answer, self.count as usize);
        let (mut bytes, mut replies) = (Vec::new(), 0);
        let mut everywhere = self.everywhere.iter().peekable();
        for position in 0..self.count as usize {
            let element = next();
            answer.extend_from_slice(element);
            if let Some((_, request)) = everywhere.next_if(|(at, _)| *at == position) {
                if !resp::is_error(element) {
                    bytes.extend_from_slice(request);
                    replies += 1;
                }
            }
        }
        for ask in self.asks() {
            let first = next();
            match ask {
                Ask::Use(database) => select(database, &mut bytes),
                Ask::Key(key) => legs::give_state(&mut bytes, key, first, next()),
            }
            replies += 1;
        }
        if replies > 1 {
            // Whoever reads there sees all of it or nothing, as at the leader.
            bytes = [MULTI, &bytes, EXEC].concat();
            replies += 2;
        }
        Some((answer, bytes, replies))
    }
}

/// True if a reply is an error, or EXEC's with one inside.
pub(super) fn has_error(reply: &[u8]) -> bool {
    let Some((count, start)) = resp::aggregate(reply) else {
        return resp::is_error(reply);
    };
    let mut rest = &reply[start..];
    (0..count).any(|_| {
        let (element, tail) = rest.split_at(resp::value_len(rest));
        rest = tail;
        resp::is_error(element)
    })
}

/// What the client is told where the first error of a batch's replies is `reply`: of a command that the
/// server refused on its way, EXEC says neither which nor why.
pub(super) fn told(reply: &[u8]) -> Cow<'_, [u8]> {
    if !resp::is_error(reply) || reply.starts_with(b"-EXECABORT ") {
        return Cow::Borrowed(reply);
    }
    let mut out = Vec::new();
    error::exec_abort(reply, &mut out);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lines: &[&str]) -> Vec<u8> {
        let mut out = MULTI.to_vec();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            resp::write_array(&mut out, words.len());
            for word in words {
                resp::write_bulk(&mut out, word.as_bytes());
            }
        }
        out.extend_from_slice(EXEC);
        out
    }

    fn planned(lines: &[&str], must: Must) -> (Plan, Vec<u8>) {
        let mut out = Vec::new();
        let plan = plan(&batch(lines), &command::find, 0, must, &mut out);
        (plan, out)
    }

    #[test]
    fn what_it_is_told_by_its_commands() {
        let of = |lines: &[&str]| facts(&batch(lines), &command::find);
        let facts = |reach, replies| Facts {
            reach,
            replies,
            scripts: false,
        };
        assert_eq!(of(&[]), Facts::EMPTY);
        assert_eq!(of(&["GET a", "GETEX a"]), facts(Reach::Nothing, 4));
        assert_eq!(of(&["GET a", "SET a 1"]), facts(Reach::Lane, 4));
        assert_eq!(of(&["MOVE a 2", "SET a 1"]), facts(Reach::Databases, 4));
        assert!(of(&["EVALSHA f 1 a"]).scripts && of(&["SCRIPT EXISTS f"]).scripts);
    }

    #[test]
    fn what_leaves_the_same_behind_goes_to_all_as_it_is() {
        let lines = ["SET a 1", "GET a", "DEL b", "MSET c 1 d 2"];
        let (plan, out) = planned(&lines, Must::Nothing);
        assert_eq!(out, batch(&lines));
        assert_eq!((plan.replies, plan.shape), (6, Shape::Tail { skip: 0 }));
        assert!(plan.held.is_none() && plan.check.is_none());
    }

    #[test]
    fn what_looks_is_compared_with_when_its_keys_expire() {
        let (plan, out) = planned(&["INCR a", "GET x", "SMOVE b a m", "INCR a"], Must::Nothing);
        let asked = ["PEXPIRETIME a", "PEXPIRETIME b"];
        let lines = ["INCR a", "GET x", "SMOVE b a m", "INCR a"];
        assert_eq!(out, batch(&[&asked[..], &lines].concat()));
        assert_eq!((plan.replies, plan.shape), (8, Shape::Tail { skip: 2 }));
        assert!(plan.held.is_none() && plan.check.is_some());
    }

    #[test]
    fn one_command_that_only_the_leader_can_do_makes_it_all_state() {
        let (plan, out) = planned(&["SET b 1", "SPOP a", "GET c", "SET b 2"], Must::Nothing);
        let tail = ["DUMP a", "PEXPIRETIME a", "DUMP b", "PEXPIRETIME b"];
        let lines = ["SET b 1", "SPOP a", "GET c", "SET b 2"];
        assert_eq!(out, batch(&[&lines[..], &tail].concat()));
        assert_eq!(plan.replies, 10);
        assert!(matches!(plan.held, Some(Held::Exec(state)) if state.count == 4));
    }

    #[test]
    fn what_concerns_all_keys_goes_to_all_as_it_is() {
        let lines = ["SET a 1", "FLUSHALL ASYNC", "SET a 2"];
        let (plan, out) = planned(&lines, Must::Nothing);
        assert_eq!(out, batch(&lines));
        assert!(plan.held.is_none() && plan.check.is_none());
        // In front of the state that is there afterwards, unless the leader has refused it.
        let lines = ["FLUSHALL ASYNC", "SPOP a", "FUNCTION FLUSH"];
        let (plan, out) = planned(&lines, Must::Nothing);
        let tail = ["DUMP a", "PEXPIRETIME a"];
        assert_eq!(out, batch(&[&lines[..], &tail].concat()));
        let Some(Held::Exec(state)) = plan.held else {
            panic!("not held");
        };
        let reply = b"*5\r\n+OK\r\n$-1\r\n-ERR x\r\n$-1\r\n:-2\r\n";
        let (answer, bytes, replies) = state.copy(reply).unwrap();
        assert_eq!(answer, b"*3\r\n+OK\r\n$-1\r\n-ERR x\r\n");
        assert_eq!(bytes, batch(&["FLUSHALL ASYNC", "DEL a"]));
        assert_eq!(replies, 4);
    }

    #[test]
    fn who_joins_is_told_outcomes() {
        let (plan, out) = planned(&["SET a 1"], Must::Feed);
        assert!(matches!(plan.held, Some(Held::Same { bytes, replies: 3 }) if bytes == out));
        let (plan, _) = planned(&["SET a 1", "INCR b"], Must::Feed);
        assert!(matches!(plan.held, Some(Held::Exec(state)) if state.count == 2));
        let (plan, _) = planned(&["SET a 1"], Must::Follow);
        assert!(matches!(plan.held, Some(Held::Exec(state)) if state.count == 1));
    }

    #[test]
    fn times_to_live_become_points_in_time() {
        let (_, out) = planned(&["SET a 1 EX 100", "EXPIRE b 5"], Must::Nothing);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(
            text.contains("PXAT") && text.contains("PEXPIREAT"),
            "{text}"
        );
        assert_eq!(facts(&out, &command::find).replies, 5);
    }

    #[test]
    fn what_was_asked_in_front_is_cut_off() {
        let reply = b"*3\r\n:-1\r\n*1\r\n$1\r\na\r\n+OK\r\n";
        assert_eq!(&*tail(reply, 1), b"*2\r\n*1\r\n$1\r\na\r\n+OK\r\n");
        assert_eq!(&*tail(reply, 3), b"*0\r\n");
        assert_eq!(&*tail(b"-EXECABORT x\r\n", 1), b"-EXECABORT x\r\n");
        assert_eq!(&*tail(b"*-1\r\n", 1), b"*-1\r\n");
    }

    #[test]
    fn state_is_what_stands_behind_the_answers() {
        let places = vec![(0, b"a".to_vec()), (0, b"b".to_vec())];
        let (count, database) = (1, 0);
        let state = StateOf {
            everywhere: Vec::new(),
            count,
            database,
            places,
        };
        let reply = b"*5\r\n+OK\r\n$1\r\nd\r\n:5\r\n$-1\r\n:-2\r\n";
        let (answer, copy, replies) = state.copy(reply).unwrap();
        assert_eq!(answer, b"*1\r\n+OK\r\n");
        let expected = batch(&["RESTORE a 5 d REPLACE ABSTTL", "DEL b"]);
        assert_eq!((copy, replies), (expected, 4));
        for reply in [
            &b"*-1\r\n"[..],
            b"_\r\n",
            b"-EXECABORT x\r\n",
            b"*1\r\n+OK\r\n",
        ] {
            assert!(state.copy(reply).is_none());
        }
    }

    #[test]
    fn state_of_another_database_is_asked_for_and_given_there() {
        let (plan, out) = planned(&["MOVE k 2", "SET a 1"], Must::Nothing);
        let mut lines = vec!["MOVE k 2", "SET a 1", "DUMP a", "PEXPIRETIME a", "DUMP k"];
        lines.extend([
            "PEXPIRETIME k",
            "SELECT 2",
            "DUMP k",
            "PEXPIRETIME k",
            "SELECT 0",
        ]);
        assert_eq!(out, batch(&lines));
        assert_eq!(plan.replies, 12);
        let Some(Held::Exec(state)) = plan.held else {
            panic!("not held")
        };
        let mut reply = b"*10\r\n:1\r\n+OK\r\n$1\r\nA\r\n:-1\r\n$-1\r\n:-2\r\n+OK\r\n".to_vec();
        reply.extend_from_slice(b"$1\r\nK\r\n:7\r\n+OK\r\n");
        let (answer, copy, replies) = state.copy(&reply).unwrap();
        assert_eq!(answer, b"*2\r\n:1\r\n+OK\r\n");
        let given = ["RESTORE a 0 A REPLACE ABSTTL", "DEL k", "SELECT 2"];
        let there = ["RESTORE k 7 K REPLACE ABSTTL", "SELECT 0"];
        assert_eq!(copy, batch(&[&given[..], &there].concat()));
        assert_eq!(replies, 7);
    }

    #[test]
    fn errors_are_found_inside() {
        assert!(has_error(b"*2\r\n+OK\r\n-ERR x\r\n"));
        assert!(!has_error(b"*2\r\n+OK\r\n*1\r\n-ERR x\r\n"));
        assert!(has_error(b"-ERR x\r\n") && !has_error(b"+OK\r\n"));
    }

    #[test]
    fn the_reason_of_a_refusal_is_told() {
        let expected = b"-EXECABORT Transaction discarded because of: OOM no room\r\n";
        assert_eq!(&*told(b"-OOM no room\r\n"), expected);
        for reply in [&b"-EXECABORT x\r\n"[..], b"*0\r\n", b"_\r\n"] {
            assert_eq!(&*told(reply), reply);
        }
    }
}
