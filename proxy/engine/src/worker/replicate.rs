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
//! Past 600 lines, as these are the steps of one write, each of which may have to end it.

use super::behind::{self, Behind};
use super::exec::{self, Must};
use super::forward::{Copies, Outgoing};
use super::items;
use super::legs::{self, Held, Plan, Shape};
use super::op::Batch;
use super::repair::Check;
use super::resolve::Outcome;
use super::*;
use crate::command::effect::{is_condition, places};
use crate::command::Effect;
use crate::conn::lane;
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::proto::meta as dialect;
use crate::proto::{resp, Args};
use shared::{Ack, Failure};

impl Worker {
    /// Sends a write to every replica that is in sync or joins.
    pub(super) fn replicate(&mut self, to: ReplyTo, out: &Outgoing) {
        let table = self.shard_table(out.pool, out.shard);
        let (targets, lead) = (table.members(), table.lead.unwrap_or(0));
        let feeds = table.joining != 0;
        let mut made = Vec::new();
        let plan = match out.copies {
            Copies::IfStored { bytes } => Plan::held(Held::IfStored(bytes.to_vec())),
            Copies::Made { bytes } => {
                made.extend_from_slice(bytes);
                match feeds {
                    true => behind::plan(Behind::Same, bytes, b"", &mut Vec::new()),
                    false => Plan::plain(),
                }
            }
            Copies::Compared { key, with_size } => {
                let check = Some(Check::new(vec![key.to_vec()]));
                let (mut replies, then) = (1, ReplyKind::Item);
                if with_size {
                    made.extend_from_slice(out.bytes);
                    made.extend_from_slice(&[b"mg ", key, b" s u\r\n"].concat());
                    replies = 2;
                }
                Plan {
                    replies,
                    then,
                    shape: Shape::First,
                    held: None,
                    check,
                }
            }
            Copies::ComparedItem {
                word,
                mark,
                not_asked,
            } => {
                let mut shape = Shape::Last;
                if not_asked {
                    made.extend_from_slice(out.bytes.trim_ascii_end());
                    made.extend_from_slice(b" v\r\n");
                    shape = Shape::Valueless;
                }
                let check = Some(Check::of_item(word.to_vec(), mark));
                Plan {
                    shape,
                    check,
                    ..Plan::plain()
                }
            }
            Copies::Meta(resolution) => {
                made.extend_from_slice(&resolution.lead);
                resolution.plan(out.kind)
            }
            Copies::Behind(what) => behind::plan(what, out.bytes, out.trailer, &mut made),
            Copies::Exec { .. } => {
                let must = if feeds { Must::Feed } else { Must::Nothing };
                let find = |args: &Args<'_>| self.row_of(out.pool, args);
                let database = lane::database(out.lane);
                exec::plan(out.bytes, &find, database, must, &mut made)
            }
            Copies::Same if feeds => behind::plan(Behind::Same, out.bytes, out.trailer, &mut made),
            Copies::Effect {
                row,
                effect: Effect::Moved,
                args,
                ..
            } => {
                let database = lane::database(out.lane);
                let places = places(row, &args, database);
                moved::plan(out.bytes, database, places, &mut made)
            }
            Copies::Effect {
                row, effect, args, ..
            } if feeds => {
                let reserved = &self.shard_table(out.pool, out.shard).reserved;
                behind::outcome(row, effect, &args, out.bytes, reserved, &mut made)
            }
            Copies::Effect {
                row,
                effect,
                args,
                keys,
            } => {
                let reserved = &self.shard_table(out.pool, out.shard).reserved;
                legs::plan(row, effect, &args, keys, out.bytes, reserved, &mut made)
            }
            Copies::Then { bytes, replies } => {
                let bytes = bytes.to_vec();
                Plan::held(Held::Same { bytes, replies })
            }
            Copies::Same | Copies::FromBytes => Plan::plain(),
        };
        let is_held = plan.held.is_some();
        let op = self.ops.insert(Op {
            to,
            pool: out.pool,
            shard: out.shard,
            lane: out.lane,
            reach: out.reach(),
            lead,
            members: targets,
            targets,
            reply: self.spare.pop().unwrap_or_default(),
            shape: plan.shape,
            held: plan.held,
            check: plan.check,
            since: self.now_ms,
            ..Op::blank()
        });
        self.shard_state(out.pool, out.shard)
            .begin_write(out.lane, out.reach());
        let first = if made.is_empty() { out.bytes } else { &made };
        let (replies, trailer) = (plan.replies, out.trailer);
        // On a leg each reply counts for itself.
        let kind = match out.kind {
            ReplyKind::Batch { .. } => ReplyKind::Line,
            kind => kind,
        };
        let batch = Batch {
            bytes: first,
            replies,
            kind,
            then: plan.then,
            trailer,
        };
        self.send_leg(op, lead, batch);
        if self.ops.get(op).is_none() {
            self.flush_log(out.pool, out.shard);
            return; // it failed at once, and is to be made again
        }
        let (bytes, replies, kind) = match out.copies {
            _ if is_held => (&b""[..], 1, ReplyKind::Line),
            _ => (first, replies, kind),
        };
        if is_held || !self.shard_state(out.pool, out.shard).log.is_empty() {
            if let Some(state) = self.ops.get_mut(op) {
                state.request = out.bytes.to_vec();
            }
            let bytes = [bytes, out.trailer].concat();
            let ready = !is_held;
            let replies = replies + u32::from(!out.trailer.is_empty());
            let entry = LogEntry {
                op,
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
                let batch = Batch {
                    bytes,
                    replies,
                    kind,
                    then: ReplyKind::Line,
                    trailer,
                };
                self.send_leg(op, backend, batch);
            }
        }
    }

    /// Queues a write on one replica; the last of its replies ends the leg.
    pub(super) fn send_leg(&mut self, op: Handle, backend: u8, batch: Batch<'_>) {
        let Batch {
            bytes,
            replies,
            trailer,
            ..
        } = batch;
        let Some(state) = self.ops.get(op) else {
            return;
        };
        let (pool, shard, lane) = (state.pool, state.shard, state.lane);
        let index = self.conn_for(pool, shard, backend, lane);
        if self.conns[index as usize].state == ConnState::Closed {
            self.leg_failed(op, backend, Failure::Refused);
            return;
        }
        let leg = |last| ReplyTo::Leg { op, backend, last };
        for i in 0..replies {
            let kind = if i == 0 { batch.kind } else { batch.then };
            let pending = self.pending(leg(i + 1 == replies), kind, false, 0);
            // The first entry carries the bytes, so that a torn batch counts as sent.
            self.enqueue(index, if i == 0 { bytes } else { b"" }, pending);
        }
        if !trailer.is_empty() {
            let nobody = self.pending(ReplyTo::Nobody, ReplyKind::Line, false, 0);
            self.enqueue(index, trailer, nobody);
        }
    }

    /// A replica answered.
    pub(super) fn leg_replied(&mut self, op: Handle, backend: u8, last: bool, bytes: &[u8]) {
        let Some(pool) = self.ops.get(op).map(|state| state.pool) else {
            return;
        };
        let is_error = self.is_error(pool, bytes);
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        let bit = 1u16 << backend;
        let is_first = state.begun & bit == 0;
        state.begun |= bit;
        if let Some(check) = state
            .check
            .as_mut()
            .filter(|each| each.takes(is_first, last))
        {
            check.add(backend, bytes);
        }
        if last {
            state.replied |= bit;
        }
        if backend == state.lead && state.held.is_some() {
            match &mut state.held {
                Some(Held::Follow { replies, .. }) => replies.extend_from_slice(bytes),
                Some(Held::Items { replies, .. }) if !is_first => replies.extend_from_slice(bytes),
                Some(Held::Meta { rule, seen }) if rule.is_asked(is_first, last) => {
                    seen.extend_from_slice(bytes);
                }
                _ => {}
            }
            if last {
                self.decide(op, bytes);
                return;
            }
        }
        let tail;
        let answer = match state.shape {
            Shape::Last if last => Some(bytes),
            Shape::First if is_first => Some(bytes),
            Shape::Exec if last => Some(legs::exec_answer(bytes)),
            Shape::Tail { skip } if last => {
                tail = exec::tail(bytes, skip);
                Some(&*tail)
            }
            Shape::Valueless if last => {
                tail = dialect::without_value(bytes).into();
                Some(&*tail)
            }
            Shape::Copied if last => Some(bytes),
            _ => None,
        };
        if let Some(answer) = answer {
            let is_error = is_error || (state.shape == Shape::Copied && exec::has_error(answer));
            // Where all come out alike anyway, only an error of the server itself is a refusal.
            let is_error = match state.check {
                Some(_) => is_condition(answer),
                None => is_error,
            };
            state.take_answer(backend, answer, is_error);
        } else if is_error && state.shape != Shape::First {
            // In front of EXEC only errors matter.
            state.take_error(backend, bytes);
        }
        if last {
            self.check_op(op);
        }
    }

    /// The leader has answered a held write: what do the others get?
    fn decide(&mut self, op: Handle, reply: &[u8]) {
        let Some((pool, shard)) = self.ops.get(op).map(|op| (op.pool, op.shard)) else {
            return;
        };
        self.end_exclusive(pool, shard, op);
        let is_error = self.is_error(pool, reply);
        let joining = self.shard_table(pool, shard).joining;
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        let bit = 1u16 << state.lead;
        let mut copy = None;
        // It was done, but not what came of it.
        let mut is_unclear = false;
        // Those that cannot do what was done.
        let mut lost = 0;
        // What the leader is told besides, and what all are, behind it.
        let (mut back, mut records_back) = (Vec::new(), Vec::new());
        let lead = state.lead;
        match state.held.take() {
            Some(Held::IfStored(bytes)) => {
                state.keep_reply(state.lead, reply);
                if reply == b"STORED\r\n" {
                    copy = Some((bytes, 1));
                } else if is_error {
                    state.refused |= bit;
                }
            }
            Some(Held::Set { bytes, key }) => {
                state.keep_reply(state.lead, reply);
                if reply == b"STORED\r\n" {
                    copy = Some((bytes, 1));
                } else if is_error {
                    copy = Some((behind::delete(&key), 1));
                }
            }
            Some(Held::Same { bytes, replies }) => {
                state.keep_reply(state.lead, reply);
                if is_error {
                    state.refused |= bit;
                } else {
                    copy = Some((bytes, replies));
                }
            }
            Some(Held::Items {
                keys,
                mark,
                replies,
            }) => {
                let now = (sys::unix_micros() / 1_000_000) as i64;
                let is_done = state.refused & bit == 0;
                match items::take_all(&keys, mark, &replies, now) {
                    Some(travel) => {
                        back = travel.back;
                        copy = Some((travel.bytes, travel.replies)).filter(|_| is_done);
                    }
                    None => is_unclear = is_done,
                }
            }
            Some(Held::Meta { rule, seen }) => {
                if !rule.answers_first() {
                    state.keep_reply(state.lead, reply);
                }
                let is_done = state.refused & bit == 0;
                let now = (sys::unix_micros() / 1_000_000) as i64;
                match rule.outcome(&seen, &state.reply, is_done, now) {
                    Outcome::Copy(bytes, replies) => copy = Some((bytes, replies)),
                    Outcome::Nothing => {}
                    Outcome::Refused => state.refused |= bit,
                    Outcome::Unclear => is_unclear = true,
                }
                back.extend(rule.give_back(&seen, &state.reply));
            }
            Some(Held::State(keys)) => match legs::state_copy(reply, &keys) {
                Some((first, bytes)) if state.refused & bit == 0 => {
                    state.keep_reply(state.lead, first);
                    // Of no key there is nothing to tell, and nobody would ever answer that.
                    copy = Some((bytes, keys.len() as u32)).filter(|_| !keys.is_empty());
                    state.held = Some(Held::Sent(keys));
                }
                _ => state.refuse_batch(bit, reply),
            },
            Some(Held::Moved { database, places }) => match moved::copy(reply, database, &places) {
                Some((first, bytes, replies)) if state.refused & bit == 0 => {
                    state.keep_reply(state.lead, first);
                    copy = Some((bytes, replies));
                }
                _ => state.refuse_batch(bit, reply),
            },
            Some(Held::Exec(state_of)) => match state_of.copy(reply) {
                Some((answer, bytes, replies)) if state.refused & bit == 0 => {
                    state.keep_reply(state.lead, &answer);
                    state.shape = Shape::Copied;
                    copy = Some((bytes, replies)).filter(|_| replies > 0);
                }
                // A watched key has changed, or a command was refused on its way.
                _ => state.refuse_batch(bit, reply),
            },
            Some(Held::Program { request, records }) => {
                match legs::program_outcome(reply, &records) {
                    Some(done) if state.refused & bit == 0 => {
                        state.keep_reply(state.lead, done.answer);
                        if done.has_changed {
                            let mut check = Check::new(Vec::new());
                            check.add(state.lead, done.answer);
                            state.check = Some(check);
                            lost = joining & state.targets;
                            copy = Some((request, 1));
                            records_back = done.back;
                        }
                    }
                    _ => state.refuse_batch(bit, reply),
                }
            }
            Some(Held::Follow {
                effect,
                request,
                replies,
            }) => {
                let first = &replies[..resp::value_len(&replies)];
                state.keep_reply(state.lead, first);
                copy = legs::follow(effect, &request, &replies);
            }
            Some(Held::Sent(_)) | None => {}
        }
        if is_unclear {
            // So nobody can be told: they leave before the client is answered.
            lost = state.targets & !bit;
        } else if copy.is_none() {
            state.check = None;
            state.targets = bit;
        }
        state.failed |= lost;
        for bytes in back {
            self.tell_backend(pool, shard, lead, &bytes);
        }
        self.settle_entry(op, pool, shard, copy);
        if !records_back.is_empty() {
            self.put_records_back(op, &records_back);
        }
        for backend in (0..16u8).filter(|backend| lost & (1 << backend) != 0) {
            self.write_failed(pool, shard, backend, Failure::RefusedWrite);
        }
        self.check_op(op);
    }

    /// Sends a backend something whose answer is of no interest.
    fn tell_backend(&mut self, pool: u16, shard: u16, backend: u8, bytes: &[u8]) {
        let index = self.conn_for(pool, shard, backend, 0);
        if self.conns[index as usize].state != ConnState::Closed {
            let nobody = self.pending(ReplyTo::Nobody, ReplyKind::Line, false, 0);
            self.enqueue(index, bytes, nobody);
        }
    }

    /// Makes a held entry ready, or takes it out; then sends what stands ready in front.
    fn settle_entry(&mut self, op: Handle, pool: u16, shard: u16, copy: Option<(Vec<u8>, u32)>) {
        let log = &mut self.shard_state(pool, shard).log;
        if let Some(at) = log.iter().position(|entry| entry.op == op) {
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
        self.flush_log(pool, shard);
    }

    /// Sends what stands ready in front of a shard's log.
    pub(super) fn flush_log(&mut self, pool: u16, shard: u16) {
        while self
            .shard_state(pool, shard)
            .log
            .front()
            .is_some_and(|entry| entry.ready)
        {
            let Some(entry) = self.shard_state(pool, shard).log.pop_front() else {
                break;
            };
            let Some(state) = self.ops.get(entry.op) else {
                continue;
            };
            let others = state.targets & !state.failed & !(1 << state.lead);
            let now = self.shard_table(pool, shard).members();
            for backend in 0..16u8 {
                if others & now & (1 << backend) != 0 {
                    let batch = Batch {
                        bytes: &entry.bytes,
                        replies: entry.replies,
                        kind: entry.kind,
                        then: ReplyKind::Line,
                        trailer: b"",
                    };
                    self.send_leg(entry.op, backend, batch);
                } else if others & (1 << backend) != 0 {
                    self.leg_failed(entry.op, backend, Failure::Closed);
                }
            }
        }
    }

    /// The leg that is about to fail was never sent. If the others wait for what the leader says, nobody
    /// has applied the write.
    pub(super) fn leg_unsent(&mut self, op: Handle, backend: u8) {
        if let Some(state) = self.ops.get_mut(op) {
            let (pool, shard, is_lead) = (state.pool, state.shard, backend == state.lead);
            let is_alone = state.targets == 1 << backend;
            let is_unsent = is_lead && (is_alone || self.is_logged(op, pool, shard));
            if let Some(state) = self.ops.get_mut(op) {
                state.unsent |= is_unsent;
            }
        }
    }

    /// True for the leg of a leader whose answer the others wait for.
    pub(super) fn is_undecided(&self, to: ReplyTo) -> bool {
        let ReplyTo::Leg { op, backend, .. } = to else {
            return false;
        };
        self.ops.get(op).is_some_and(|state| {
            state.lead == backend && self.is_logged(op, state.pool, state.shard)
        })
    }

    /// True if only the leader was sent it so far.
    fn is_logged(&self, op: Handle, pool: u16, shard: u16) -> bool {
        let log = &self.pools[pool as usize].shards[shard as usize].log;
        let is_it = |entry: &LogEntry| entry.op == op;
        log.iter().any(is_it)
    }

    /// Takes an entry out. What stands behind it may go now (`flush_log`), but not before the writes that
    /// failed with this one are out as well.
    pub(super) fn drop_entry(&mut self, op: Handle, pool: u16, shard: u16) {
        let log = &mut self.shard_state(pool, shard).log;
        log.retain(|entry| entry.op != op);
    }

    /// A replica did not answer, and will not, or its answer is lost. When all that failed with it have been
    /// told, the log is to be flushed.
    pub(super) fn leg_failed(&mut self, op: Handle, backend: u8, failure: Failure) {
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        let bit = 1u16 << backend;
        if (state.failed | state.replied) & bit != 0 {
            return;
        }
        state.failed |= bit;
        let (pool, shard) = (state.pool, state.shard);
        if backend == state.lead && self.is_logged(op, pool, shard) {
            self.end_exclusive(pool, shard, op);
            // The others never heard of it, so only the leader can know the outcome.
            if self.retry_held(op, failure) {
                return;
            }
            if let Some(state) = self.ops.get_mut(op) {
                (state.held, state.check, state.targets) = (None, None, bit);
            }
            self.drop_entry(op, pool, shard);
        }
        self.write_failed(pool, shard, backend, failure);
        self.check_op(op);
    }

    /// Answers the client if everything needed for that is there, and forgets what is finished.
    pub(super) fn check_op(&mut self, op: Handle) {
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        let (pool, shard) = (state.pool, state.shard);
        let outstanding = state.targets & !(state.replied | state.failed);
        let accepted = state.replied & !state.refused;
        let refused = state.replied & state.refused;
        if outstanding == 0 && accepted != 0 && refused != 0 {
            if let Some(Held::Sent(keys)) = state.held.take() {
                return self.compare(op, refused, &keys);
            }
            // It refused what another has applied: the copies differ from here on.
            state.failed |= refused;
            state.replied &= !refused;
            for backend in (0..16u8).filter(|backend| refused & (1 << backend) != 0) {
                self.write_failed(pool, shard, backend, Failure::RefusedWrite);
            }
        }
        let table = self.shard_table(pool, shard);
        let (in_sync, required) = (table.in_sync, table.members());
        if outstanding & required == 0 {
            self.verify(op);
        }
        let ack = self.shared.config.pools[pool as usize].ack;
        let shard_state = &self.pools[pool as usize].shards[shard as usize];
        let is_doubted = shard_state.doubts > 0 || shard_state.is_succeeding;
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        let members = state.targets & required;
        let lead_done = (state.replied | state.failed) & (1 << state.lead) != 0;
        let is_met = match ack {
            Ack::All => outstanding & required == 0 && state.check.is_none(),
            Ack::Quorum => {
                let voters = (state.targets & in_sync).count_ones();
                lead_done && (state.replied & in_sync).count_ones() * 2 > voters
                    || outstanding & required == 0
            }
            Ack::Primary => lead_done || outstanding & required == 0,
        };
        if !state.answered && is_met && !is_doubted {
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
                match state.shape {
                    Shape::Tail { .. } => self.deliver(to, &exec::told(&reply)),
                    _ => self.deliver(to, &reply),
                }
                if let Some(state) = self.ops.get_mut(op) {
                    state.reply = reply;
                }
            }
            // Otherwise: not before a view without the failed ones is recorded (`recheck_ops`).
        }
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        let outstanding = state.targets & !(state.replied | state.failed);
        if state.answered && outstanding == 0 && state.check.is_none() {
            let (lane, reach) = (state.lane, state.reach);
            let ended = self.ops.remove(op);
            if self.shard_state(pool, shard).end_write(lane, reach) {
                self.wake_later(pool, shard);
            }
            let Some(mut ended) = ended else { return };
            if let Some(op) = ended.repairs {
                self.repaired(op, &ended);
            }
            ended.reply.clear();
            self.spare.push(ended.reply);
        }
    }

    /// Whoever came into sync while a write was under way does not get that one, so it has to leave
    /// again. Proxies hold their writes for that moment; only one that was cut off gets here.
    pub(super) fn fail_gained(&mut self, pool: u16, shard: u16, gained: u16) {
        let mut missed = 0;
        for op in self.ops.handles() {
            let Some(state) = self.ops.get_mut(op) else {
                continue;
            };
            let lacks = gained & !state.members;
            if state.pool == pool && state.shard == shard && lacks != 0 {
                state.targets |= lacks;
                state.failed |= lacks;
                missed |= lacks;
            }
        }
        for backend in (0..16u8).filter(|backend| missed & (1 << backend) != 0) {
            self.write_failed(pool, shard, backend, Failure::Closed);
        }
    }

    /// After a new table: writes that waited for it.
    pub(super) fn recheck_ops(&mut self, pool: u16, shard: u16) {
        for op in self.ops.handles() {
            if self
                .ops
                .get(op)
                .is_some_and(|op| op.pool == pool && op.shard == shard)
            {
                self.check_op(op);
            }
        }
    }

    /// Ends waits for a view that does not come.
    pub(super) fn expire_ops(&mut self, pool: u16, shard: u16, timeout: u64) {
        for op in self.ops.handles() {
            let Some(state) = self.ops.get_mut(op) else {
                continue;
            };
            // One timeout for the legs to answer, one for the view to be recorded.
            let is_late = self.now_ms > state.since + 2 * timeout;
            if state.pool == pool && state.shard == shard && !state.answered && is_late {
                state.answered = true;
                let to = state.to;
                self.fail(pool, to, Wire::WriteNotReplicated);
                self.check_op(op);
            }
        }
    }
}
