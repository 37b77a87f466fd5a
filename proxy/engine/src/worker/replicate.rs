//! Writes to a shard with several in-sync replicas: sent to all, acknowledged when the pool's `ack`
//! is met and every replica that failed is out of the view (design: promises P3, P4, P7).
//!
//! Each write is an `Op` with one *leg* per in-sync replica. Where the leader's reply decides what
//! the others get, their bytes stand *held* in the shard's log, and every later write queues behind
//! them, so that all replicas see the leader's order.
//!
//! ```text
//! leader leg ──► reply ─────────────► decide: drop, or these bytes ─┐
//! log: [held op 7] [ready op 8] ...  ◄──────────────────────────────┘ the ready front goes to the others
//! ```

use super::forward::{Copies, Outgoing};
use super::*;
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::proto::resp;
use shared::{Ack, Failure};

/// No reply yet.
const NOBODY: u8 = u8::MAX;

/// A write in flight. Masks are by position of the backend in its shard.
pub(super) struct Op {
    to: ReplyTo,
    pool: u16,
    shard: u16,
    lane: u8,
    lead: u8,
    targets: u16,
    replied: u16,
    refused: u16,
    failed: u16,
    answered: bool,
    /// Nobody was sent it, and nobody will be.
    unsent: bool,
    reply: Vec<u8>,
    reply_from: u8,
    held: Option<Held>,
    /// Milliseconds of the worker clock.
    since: u64,
}

/// What a held entry becomes.
enum Held {
    IfStored(Vec<u8>),
    State(Vec<Vec<u8>>),
}

/// Bytes for the replicas that do not lead, not sent yet.
pub(super) struct LogEntry {
    op: u32,
    generation: u32,
    bytes: Vec<u8>,
    replies: u16,
    /// How the replies end: a part of a split `gat` is answered as on the leader, in several lines.
    kind: ReplyKind,
    ready: bool,
}

impl Worker {
    /// Sends a write to every in-sync replica.
    pub(super) fn replicate(&mut self, to: ReplyTo, out: &Outgoing) {
        let table = self.shard_table(out.pool, out.shard);
        let (targets, lead) = (table.in_sync, table.lead.unwrap_or(0));
        let held = match out.copies {
            Copies::IfStored { bytes } => Some(Held::IfStored(bytes.to_vec())),
            Copies::State { args, keys } => Some(Held::State(
                keys.iter()
                    .map(|key| args.get(*key as usize).to_vec())
                    .collect(),
            )),
            Copies::Same | Copies::Other { .. } => None,
        };
        let is_held = held.is_some();
        let (op, generation) = self.ops.insert(Op {
            to,
            pool: out.pool,
            shard: out.shard,
            lane: out.lane,
            lead,
            targets,
            replied: 0,
            refused: 0,
            failed: 0,
            answered: false,
            unsent: false,
            reply: self.spare.pop().unwrap_or_default(),
            reply_from: NOBODY,
            held,
            since: self.now_ms,
        });
        self.shard_state(out.pool, out.shard).lane_writes[out.lane as usize] += 1;
        self.shared.shards[out.pool as usize][out.shard as usize]
            .writes
            .fetch_add(1, SeqCst);
        match out.copies {
            Copies::State { args, keys } => {
                self.send_transaction(op, generation, lead, out, args, keys)
            }
            _ => self.send_leg(op, generation, lead, out.bytes, 1, out.kind, out.trailer),
        }
        let (bytes, replies) = match out.copies {
            Copies::Same => (out.bytes, 1),
            Copies::Other { bytes, replies } => (bytes, replies),
            Copies::IfStored { .. } | Copies::State { .. } => (&b""[..], 1),
        };
        let kind = if matches!(out.copies, Copies::Same) {
            out.kind
        } else {
            ReplyKind::Line
        };
        if is_held || !self.shard_state(out.pool, out.shard).log.is_empty() {
            let bytes = [bytes, out.trailer].concat();
            let ready = !is_held;
            let replies = replies + u16::from(!out.trailer.is_empty());
            let entry = LogEntry {
                op,
                generation,
                bytes,
                replies,
                kind,
                ready,
            };
            self.shard_state(out.pool, out.shard).log.push_back(entry);
            return;
        }
        for backend in 0..16u8 {
            if backend != lead && targets & (1 << backend) != 0 {
                self.send_leg(op, generation, backend, bytes, replies, kind, out.trailer);
            }
        }
    }

    /// Queues a write on one replica; the last of its replies is the leg's answer.
    #[allow(clippy::too_many_arguments)]
    fn send_leg(
        &mut self,
        op: u32,
        generation: u32,
        backend: u8,
        bytes: &[u8],
        replies: u16,
        kind: ReplyKind,
        trailer: &[u8],
    ) {
        let Some(state) = self.ops.get(op, generation) else {
            return;
        };
        let (pool, shard, lane) = (state.pool, state.shard, state.lane);
        let index = self.conn_for(pool, shard, backend, lane);
        if self.conns[index as usize].state == ConnState::Closed {
            self.leg_failed(op, generation, backend, Failure::Refused);
            return;
        }
        let leg = |last| ReplyTo::Leg {
            op,
            generation,
            backend,
            last,
        };
        for i in 0..replies {
            let pending = self.pending(leg(i + 1 == replies), kind, false, 0);
            // The first entry carries the bytes, so that a torn batch counts as sent.
            self.enqueue(index, if i == 0 { bytes } else { b"" }, pending);
        }
        if !trailer.is_empty() {
            let nobody = self.pending(ReplyTo::Nobody, ReplyKind::Line, false, 0);
            self.enqueue(index, trailer, nobody);
        }
    }

    /// MULTI, the command, the state of its keys, EXEC: one uninterrupted batch on the leader.
    fn send_transaction(
        &mut self,
        op: u32,
        generation: u32,
        lead: u8,
        out: &Outgoing,
        args: Args,
        keys: &[u32],
    ) {
        let mut bytes = b"*1\r\n$5\r\nMULTI\r\n".to_vec();
        bytes.extend_from_slice(out.bytes);
        for key in keys {
            for name in [&b"DUMP"[..], b"PEXPIRETIME"] {
                resp::write_array(&mut bytes, 2);
                resp::write_bulk(&mut bytes, name);
                resp::write_bulk(&mut bytes, args.get(*key as usize));
            }
        }
        bytes.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
        let replies = 3 + 2 * keys.len() as u16;
        self.send_leg(op, generation, lead, &bytes, replies, ReplyKind::Line, b"");
    }

    /// A replica answered.
    pub(super) fn leg_replied(
        &mut self,
        op: u32,
        generation: u32,
        backend: u8,
        last: bool,
        bytes: &[u8],
    ) {
        let Some(pool) = self.ops.get(op, generation).map(|state| state.pool) else {
            return;
        };
        let is_error = self.is_error(pool, bytes);
        let Some(state) = self.ops.get_mut(op, generation) else {
            return;
        };
        let bit = 1u16 << backend;
        if !last {
            // Only errors matter before the last reply, and the first of them is the one to show.
            if is_error && state.refused & bit == 0 {
                state.refused |= bit;
                if backend == state.lead {
                    state.reply.clear();
                    state.reply.extend_from_slice(bytes);
                    state.reply_from = backend;
                }
            }
            return;
        }
        state.replied |= bit;
        if backend == state.lead && state.held.is_some() {
            self.decide(op, generation, bytes);
            return;
        }
        let had_error = state.refused & bit != 0;
        if is_error {
            state.refused |= bit;
        }
        let is_better = state.reply_from == NOBODY
            || (backend == state.lead
                && !(is_error && state.refused & (1 << state.reply_from) == 0))
            || (!is_error && state.refused & (1 << state.reply_from) != 0);
        if is_better && !had_error {
            state.reply.clear();
            state.reply.extend_from_slice(bytes);
            state.reply_from = backend;
        }
        self.check_op(op, generation);
    }

    /// The leader has answered a held write: what do the others get?
    fn decide(&mut self, op: u32, generation: u32, reply: &[u8]) {
        let Some(state) = self.ops.get_mut(op, generation) else {
            return;
        };
        let bit = 1u16 << state.lead;
        let (pool, shard) = (state.pool, state.shard);
        let mut copy = None;
        match state.held.take() {
            Some(Held::IfStored(bytes)) => {
                state.reply.clear();
                state.reply.extend_from_slice(reply);
                state.reply_from = state.lead;
                if reply == b"STORED\r\n" {
                    copy = Some((bytes, 1));
                } else if crate::proto::memcache::is_error(reply) {
                    state.refused |= bit;
                }
            }
            Some(Held::State(keys)) => match state_copy(reply, &keys) {
                Some((first, bytes)) if state.refused & bit == 0 => {
                    state.reply.clear();
                    state.reply.extend_from_slice(first);
                    state.reply_from = state.lead;
                    copy = Some((bytes, keys.len() as u16));
                }
                _ => {
                    // EXECABORT: the error of the command itself came before it.
                    if state.refused & bit == 0 {
                        state.reply.clear();
                        state.reply.extend_from_slice(reply);
                        state.reply_from = state.lead;
                    }
                    state.refused |= bit;
                }
            },
            None => {}
        }
        if copy.is_none() {
            state.targets = bit;
        }
        self.settle_entry(op, generation, pool, shard, copy);
        self.check_op(op, generation);
    }

    /// Makes a held entry ready, or takes it out; then sends what stands ready in front.
    fn settle_entry(
        &mut self,
        op: u32,
        generation: u32,
        pool: u16,
        shard: u16,
        copy: Option<(Vec<u8>, u16)>,
    ) {
        let log = &mut self.shard_state(pool, shard).log;
        if let Some(at) = log
            .iter()
            .position(|entry| entry.op == op && entry.generation == generation)
        {
            match copy {
                Some((bytes, replies)) => {
                    let entry = &mut log[at];
                    (entry.bytes, entry.replies, entry.ready) = (bytes, replies, true);
                }
                None => {
                    log.remove(at);
                }
            }
        }
        while self
            .shard_state(pool, shard)
            .log
            .front()
            .is_some_and(|entry| entry.ready)
        {
            let Some(entry) = self.shard_state(pool, shard).log.pop_front() else {
                break;
            };
            let Some(state) = self.ops.get(entry.op, entry.generation) else {
                continue;
            };
            let others = state.targets & !state.failed & !(1 << state.lead);
            let now = self.shard_table(pool, shard).in_sync;
            for backend in 0..16u8 {
                if others & now & (1 << backend) != 0 {
                    self.send_leg(
                        entry.op,
                        entry.generation,
                        backend,
                        &entry.bytes,
                        entry.replies,
                        entry.kind,
                        b"",
                    );
                } else if others & (1 << backend) != 0 {
                    self.leg_failed(entry.op, entry.generation, backend, Failure::Closed);
                }
            }
        }
    }

    /// The leg that is about to fail was never sent. If the others wait for what the leader says, nobody
    /// has applied the write.
    pub(super) fn leg_unsent(&mut self, op: u32, generation: u32, backend: u8) {
        if let Some(state) = self.ops.get_mut(op, generation) {
            state.unsent |= backend == state.lead && state.held.is_some();
        }
    }

    /// A replica did not answer, and will not, or its answer is lost.
    pub(super) fn leg_failed(&mut self, op: u32, generation: u32, backend: u8, failure: Failure) {
        let Some(state) = self.ops.get_mut(op, generation) else {
            return;
        };
        let bit = 1u16 << backend;
        if (state.failed | state.replied) & bit != 0 {
            return;
        }
        state.failed |= bit;
        let (pool, shard) = (state.pool, state.shard);
        if backend == state.lead && state.held.take().is_some() {
            // The others never heard of it, so only the leader can know the outcome.
            state.targets = bit;
            self.settle_entry(op, generation, pool, shard, None);
        }
        self.write_failed(pool, shard, backend, failure);
        self.check_op(op, generation);
    }

    /// Answers the client if everything needed for that is there, and forgets what is finished.
    pub(super) fn check_op(&mut self, op: u32, generation: u32) {
        let Some(state) = self.ops.get_mut(op, generation) else {
            return;
        };
        let (pool, shard) = (state.pool, state.shard);
        let outstanding = state.targets & !(state.replied | state.failed);
        let accepted = state.replied & !state.refused;
        let refused = state.replied & state.refused;
        if outstanding == 0 && accepted != 0 && refused != 0 {
            // It refused what another has applied: the copies differ from here on.
            state.failed |= refused;
            state.replied &= !refused;
            for backend in (0..16u8).filter(|backend| refused & (1 << backend) != 0) {
                self.write_failed(pool, shard, backend, Failure::RefusedWrite);
            }
        }
        let in_sync = self.shard_table(pool, shard).in_sync;
        let ack = self.shared.config.pools[pool as usize].ack;
        let Some(state) = self.ops.get_mut(op, generation) else {
            return;
        };
        let members = state.targets & in_sync;
        let lead_done = (state.replied | state.failed) & (1 << state.lead) != 0;
        let is_met = match ack {
            Ack::All => outstanding & in_sync == 0,
            Ack::Quorum => {
                lead_done && (state.replied & in_sync).count_ones() * 2 > members.count_ones()
                    || outstanding & in_sync == 0
            }
            Ack::Primary => lead_done || outstanding & in_sync == 0,
        };
        if !state.answered && is_met {
            let failed = state.failed & members;
            let known = state.replied & members;
            if known == 0 && members & !state.failed == 0 {
                state.answered = true;
                let to = state.to;
                let wire = if state.unsent {
                    Wire::BackendUnreachable
                } else {
                    Wire::WriteLost
                };
                self.fail(pool, to, wire);
            } else if failed == 0 {
                state.answered = true;
                let (to, reply) = (state.to, std::mem::take(&mut state.reply));
                self.deliver(to, &reply);
                if let Some(state) = self.ops.get_mut(op, generation) {
                    state.reply = reply;
                }
            }
            // Otherwise: not before a view without the failed ones is recorded (`recheck_ops`).
        }
        let Some(state) = self.ops.get_mut(op, generation) else {
            return;
        };
        if state.answered && state.targets & !(state.replied | state.failed) == 0 {
            let lane = state.lane as usize;
            if let Some(mut state) = self.ops.remove(op) {
                state.reply.clear();
                self.spare.push(state.reply);
            }
            self.shared.shards[pool as usize][shard as usize]
                .writes
                .fetch_sub(1, SeqCst);
            let shard_state = self.shard_state(pool, shard);
            shard_state.lane_writes[lane] -= 1;
            if shard_state.lane_writes[lane] == 0 {
                self.wake_later(pool, shard);
            }
        }
    }

    /// After a new table: writes that waited for it.
    pub(super) fn recheck_ops(&mut self, pool: u16, shard: u16) {
        for (op, generation) in self.ops.keys() {
            if self
                .ops
                .get(op, generation)
                .is_some_and(|op| op.pool == pool && op.shard == shard)
            {
                self.check_op(op, generation);
            }
        }
    }

    /// Ends waits for a view that does not come.
    pub(super) fn expire_ops(&mut self, pool: u16, shard: u16, timeout: u64) {
        for (op, generation) in self.ops.keys() {
            let Some(state) = self.ops.get_mut(op, generation) else {
                continue;
            };
            // One timeout for the legs to answer, one for the view to be recorded.
            let is_late = self.now_ms > state.since + 2 * timeout;
            if state.pool == pool && state.shard == shard && !state.answered && is_late {
                state.answered = true;
                let to = state.to;
                self.fail(pool, to, Wire::WriteNotReplicated);
                self.check_op(op, generation);
            }
        }
    }
}

use crate::proto::Args;

/// Reads the reply of EXEC: the command's own reply, and the requests that give another server the
/// state of `keys`. None if the transaction was not executed.
fn state_copy<'a>(reply: &'a [u8], keys: &[Vec<u8>]) -> Option<(&'a [u8], Vec<u8>)> {
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
        match resp::string(dump) {
            Some(dump) => {
                let at = resp::integer(expires).filter(|at| *at > 0).unwrap_or(0);
                resp::write_array(&mut bytes, 6);
                let at = at.to_string();
                for word in [
                    b"RESTORE",
                    &key[..],
                    at.as_bytes(),
                    dump,
                    b"REPLACE",
                    b"ABSTTL",
                ] {
                    resp::write_bulk(&mut bytes, word);
                }
            }
            None => {
                resp::write_array(&mut bytes, 2);
                resp::write_bulk(&mut bytes, b"DEL");
                resp::write_bulk(&mut bytes, key);
            }
        }
    }
    Some((first, bytes))
}
