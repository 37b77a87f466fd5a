//! What a client has asked since MULTI, and what may be asked there.
//!
//! The queue is part of the client's session; `worker/transaction.rs` fills it and sends it. Requests are
//! kept as they came, so that placing them waits until EXEC, when one version of the routing table decides.

use super::channel::Act;
use super::keys::number;
use super::overlay::{FanKind, Handling, LocalKind, TransactionKind};
use super::spec::Flags;
use super::table::{arity_ok, find, Row};
use crate::proto::Args;

/// What one queued request takes beside its bytes, so that tiny ones are bounded too.
const ENTRY_BYTES: usize = std::mem::size_of::<u32>() * 4;

/// The requests between MULTI and EXEC.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    frames: Vec<u8>,
    /// Where each request ends in `frames`.
    ends: Vec<usize>,
    /// Something was refused, so EXEC is too.
    aborted: bool,
}

impl Queue {
    /// Appends a request. False, and the transaction is lost, if that is more than `limit` bytes.
    pub fn push(&mut self, frame: &[u8], limit: usize) -> bool {
        if self.aborted {
            return true; // nothing of it will be sent
        }
        let held = self.frames.len() + frame.len() + (self.ends.len() + 1) * ENTRY_BYTES;
        if held > limit {
            self.abort();
            return false;
        }
        self.frames.extend_from_slice(frame);
        self.ends.push(self.frames.len());
        true
    }

    /// EXEC will be refused; what was queued is forgotten.
    pub fn abort(&mut self) {
        (self.frames, self.ends, self.aborted) = (Vec::new(), Vec::new(), true);
    }

    pub fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The requests in order.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let start = |i: usize| if i == 0 { 0 } else { self.ends[i - 1] };
        (0..self.ends.len()).map(move |i| &self.frames[start(i)..self.ends[i]])
    }
}

/// What becomes of a command inside a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// It is not queued but acts at once, as outside.
    Now,
    /// To the shard of its keys, with EXEC.
    Forward,
    /// The same, to several shards.
    Split,
    /// To the shard of its channel, with EXEC.
    Publish,
    /// To all shards, with EXEC.
    Fan(FanKind),
    /// Answered by the proxy, in its place in EXEC's reply.
    Own,
    /// Refused.
    Not,
}

impl Row {
    /// What becomes of an admitted request of a client in `database` inside a transaction.
    pub fn inside(&self, args: &Args<'_>, database: u8) -> Inside {
        use TransactionKind::Unwatch;
        match self.handling {
            Handling::Transaction(Unwatch) => Inside::Own,
            Handling::Transaction(_) => Inside::Now,
            Handling::Local(LocalKind::Quit | LocalKind::Reset) => Inside::Now,
            _ if self.flags.has(Flags::NO_MULTI) => Inside::Not,
            // The commands of a transaction go over one connection, whose protocol and database they
            // share; and half an answer cannot be left out.
            Handling::Local(LocalKind::Hello | LocalKind::ClientReply) => Inside::Not,
            Handling::Local(LocalKind::Select) if number(args.get(1)) != Some(database.into()) => {
                Inside::Not
            }
            Handling::Local(_) => Inside::Own,
            Handling::Channel(Act::Publish) => Inside::Publish,
            Handling::Forward => Inside::Forward,
            Handling::Split(_) => Inside::Split,
            Handling::Fan(kind) if kind.is_queued() => Inside::Fan(kind),
            Handling::Fan(_) => Inside::Not,
            // Inside EXEC a server does not block.
            _ if self.flags.has(Flags::BLOCKING) && !self.specs.is_empty() => Inside::Forward,
            _ => Inside::Not,
        }
    }
}

/// The row of a request that is refused outside of transactions and queued inside: because of a key without a
/// value, which a server finds out only when it carries the request out.
pub fn admit_inside(args: &Args<'_>) -> Option<&'static Row> {
    find(args).filter(|row| row.refusal().is_none() && lacks_value(row, args))
}

/// True if the number of arguments is wrong only in that the last key has no value.
pub fn lacks_value(row: &Row, args: &Args<'_>) -> bool {
    row.paired && !arity_ok(row, args.len()) && args.len() >= row.arity.unsigned_abs() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{admit, ROWS};
    use crate::proto::{resp, Resume};

    fn with<T>(line: &str, check: impl FnOnce(&Args<'_>) -> T) -> T {
        let mut frame = Vec::new();
        resp::inline(
            format!("{line}\r\n").as_bytes(),
            &mut Resume::default(),
            &mut frame,
        );
        let mut list = Vec::new();
        resp::request(&frame, &mut list, &mut Resume::default(), usize::MAX);
        let (buf, list) = (&frame[..], &list[..]);
        check(&Args { buf, list })
    }

    fn inside(line: &str) -> Inside {
        with(line, |args| {
            admit(args, &mut Vec::new())
                .or_else(|| admit_inside(args))
                .unwrap()
                .inside(args, 3)
        })
    }

    #[test]
    fn requests_come_back_in_order() {
        let mut queue = Queue::default();
        assert!(queue.is_empty());
        for frame in [&b"one"[..], b"two", b""] {
            assert!(queue.push(frame, 100));
        }
        assert_eq!(queue.len(), 3);
        let frames: Vec<&[u8]> = queue.frames().collect();
        assert_eq!(frames, [&b"one"[..], b"two", b""]);
    }

    #[test]
    fn what_is_too_much_is_lost_and_takes_no_more_room() {
        let mut queue = Queue::default();
        assert!(queue.push(&[b'x'; 50], 100));
        assert!(!queue.push(&[b'x'; 50], 100));
        assert!(queue.is_aborted() && queue.is_empty());
        assert!(queue.push(&[b'x'; 50], 100), "answered as before");
        assert_eq!(queue.frames.capacity(), 0);
    }

    #[test]
    fn requests_without_bytes_are_bounded() {
        let mut queue = Queue::default();
        let taken = (0..1000).take_while(|_| queue.push(b"", 1000)).count();
        assert!(taken < 100);
    }

    #[test]
    fn what_may_be_asked_inside() {
        for (line, expected) in [
            ("EXEC", Inside::Now),
            ("MULTI", Inside::Now),
            ("WATCH k", Inside::Now),
            ("DISCARD", Inside::Now),
            ("RESET", Inside::Now),
            ("QUIT", Inside::Now),
            ("UNWATCH", Inside::Own),
            ("PING", Inside::Own),
            ("SELECT 3", Inside::Own),
            ("SELECT 0", Inside::Not),
            ("HELLO 3", Inside::Not),
            ("CLIENT REPLY OFF", Inside::Not),
            ("GET k", Inside::Forward),
            ("EVAL s 1 k", Inside::Forward),
            ("MGET a b", Inside::Split),
            ("PUBLISH c m", Inside::Publish),
            ("SUBSCRIBE c", Inside::Not),
            ("INFO", Inside::Fan(FanKind::Info)),
            ("LASTSAVE", Inside::Fan(FanKind::Least)),
            ("SCAN 0", Inside::Fan(FanKind::Scan)),
            ("BLPOP a b 0", Inside::Forward),
            ("XREAD BLOCK 0 STREAMS a $", Inside::Forward),
        ] {
            assert_eq!(inside(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_refused_is_taken_inside_for_one_reason_only() {
        for line in [
            "BLPOP k",
            "WAIT 1 0",
            "SUBSCRIBE c",
            "NOSUCH k",
            "MSET",
            "GET",
        ] {
            assert!(with(line, |args| admit_inside(args).is_none()), "{line}");
        }
        for line in ["MSET a 1 b", "MSETNX a 1 b"] {
            assert!(with(line, |args| admit_inside(args).is_some()), "{line}");
        }
    }

    #[test]
    fn nothing_that_a_server_forbids_is_queued() {
        for row in ROWS.iter().filter(|row| row.flags.has(Flags::NO_MULTI)) {
            assert_eq!(
                with("PING", |args| row.inside(args, 0)),
                Inside::Not,
                "{row:?}"
            );
        }
    }
}
