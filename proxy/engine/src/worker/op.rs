//! A replicated write in flight: who has to get it, who has answered, and the best answer so far.

use super::forward::Reach;
use super::legs::{Held, Shape};
use super::repair::Check;
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::slab::Handle;

/// No reply yet.
pub(super) const NOBODY: u8 = u8::MAX;

/// A write in flight. Masks are by position of the backend in its shard.
pub(super) struct Op {
    pub to: ReplyTo,
    pub pool: u16,
    pub shard: u16,
    pub lane: u8,
    pub reach: Reach,
    pub lead: u8,
    /// Everybody who had to get it when it was begun.
    pub members: u16,
    /// Those of them who do get it.
    pub targets: u16,
    pub replied: u16,
    pub refused: u16,
    pub failed: u16,
    pub answered: bool,
    /// Nobody was sent it, and nobody will be.
    pub unsent: bool,
    /// As the client sent it, where it may have to be made again (`retry.rs`).
    pub request: Vec<u8>,
    pub reply: Vec<u8>,
    pub reply_from: u8,
    pub shape: Shape,
    /// Legs with at least one reply.
    pub begun: u16,
    pub held: Option<Held>,
    /// Present while it is not known whether all came out alike.
    pub check: Option<Box<Check>>,
    /// The write whose outcome this one makes equal everywhere.
    pub repairs: Option<Handle>,
    /// Milliseconds of the worker clock.
    pub since: u64,
}

/// Bytes for the replicas that do not lead, not sent yet.
pub(super) struct LogEntry {
    pub op: Handle,
    pub bytes: Vec<u8>,
    pub replies: u32,
    pub kind: ReplyKind,
    pub ready: bool,
}

/// What one replica is sent for a write.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub bytes: &'a [u8],
    pub replies: u32,
    /// Kind of the first reply, and of those behind it.
    pub kind: ReplyKind,
    pub then: ReplyKind,
    pub trailer: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Requests that are each answered by one reply.
    pub(super) fn lines(bytes: &'a [u8], replies: u32) -> Self {
        Batch {
            bytes,
            replies,
            kind: ReplyKind::Line,
            then: ReplyKind::Line,
            trailer: b"",
        }
    }
}

impl Op {
    /// One to which nobody has said anything, of nobody: what a new one begins with.
    #[inline]
    pub(super) fn blank() -> Op {
        Op {
            to: ReplyTo::Nobody,
            pool: 0,
            shard: 0,
            lane: 0,
            reach: Reach::Lane,
            lead: 0,
            members: 0,
            targets: 0,
            replied: 0,
            refused: 0,
            failed: 0,
            answered: false,
            unsent: false,
            request: Vec::new(),
            reply: Vec::new(),
            reply_from: NOBODY,
            shape: Shape::Last,
            begun: 0,
            held: None,
            check: None,
            repairs: None,
            since: 0,
        }
    }

    /// What no client has asked for, to these replicas of the shard, in the lane of this one.
    pub(super) fn beside(&self, targets: u16, now: u64) -> Op {
        Op {
            pool: self.pool,
            shard: self.shard,
            lane: self.lane,
            lead: self.lead,
            members: targets,
            targets,
            since: now,
            ..Op::blank()
        }
    }

    pub(super) fn keep_reply(&mut self, backend: u8, reply: &[u8]) {
        self.reply.clear();
        self.reply.extend_from_slice(reply);
        self.reply_from = backend;
    }

    /// The leader has not executed a transaction.
    pub(super) fn refuse_batch(&mut self, lead: u16, reply: &[u8]) {
        // EXECABORT: the error of the command itself came before it.
        if self.refused & lead == 0 {
            self.keep_reply(self.lead, reply);
        }
        self.refused |= lead;
    }

    /// Takes an error that came in front of EXEC: the first one is to be shown, the leader's if it is there, but
    /// not over what another has done.
    pub(super) fn take_error(&mut self, backend: u8, reply: &[u8]) {
        let bit = 1u16 << backend;
        let is_first = self.refused & bit == 0;
        self.refused |= bit;
        let is_better = self.reply_from == NOBODY
            || (backend == self.lead && self.refused & (1 << self.reply_from) != 0);
        if is_first && is_better {
            self.keep_reply(backend, reply);
        }
    }

    /// Takes a leg's answer, and keeps it if it is the best one so far to show the client: the leader's,
    /// unless it refused what another has done.
    pub(super) fn take_answer(&mut self, backend: u8, answer: &[u8], is_error: bool) {
        let bit = 1u16 << backend;
        let had_error = self.refused & bit != 0;
        if is_error {
            self.refused |= bit;
        }
        let is_better = self.reply_from == NOBODY
            || (backend == self.lead && !(is_error && self.refused & (1 << self.reply_from) == 0))
            || (!is_error && self.refused & (1 << self.reply_from) != 0);
        if is_better && !had_error {
            self.keep_reply(backend, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_has_done_is_shown_whenever_another_refuses_it() {
        let (refuse, done) = (b"-OOM x\r\n", b"*1\r\n:1\r\n");
        for refuses in [0, 1] {
            for refused_first in [true, false] {
                let mut op = Op::blank();
                for is_refusal in [refused_first, !refused_first] {
                    if is_refusal {
                        op.take_error(refuses, refuse);
                        op.take_answer(refuses, b"-EXECABORT y\r\n", true);
                    } else {
                        op.take_answer(1 - refuses, done, false);
                    }
                }
                assert_eq!((&op.reply[..], op.refused), (&done[..], 1 << refuses));
            }
        }
    }

    #[test]
    fn where_all_refuse_the_first_error_of_the_leader_is_shown() {
        for order in [[0, 1], [1, 0]] {
            let mut op = Op::blank();
            for backend in order {
                op.take_error(backend, format!("-OOM {backend}\r\n").as_bytes());
                op.take_error(backend, b"-OOM again\r\n");
                op.take_answer(backend, b"-EXECABORT y\r\n", true);
            }
            assert_eq!((&op.reply[..], op.refused), (&b"-OOM 0\r\n"[..], 3));
        }
    }
}
