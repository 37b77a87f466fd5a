//! Writes go only while the leader, and with `ack: all` each other backend in sync, has lately shown, on that very
//! connection, the record that the table knows: the table's lease (`ShardTable.lease` in `_engine.pyi`).
//!
//! A proxy that has not heard of a new view stops writing by itself within the lease, whatever has become of
//! its control plane. The record is asked for in the stream of requests, a few times per lease while there are writes;
//! an idle connection is asked before its next one. Two rest on it:
//! - Whoever brings a backend back where connections can be neither listed nor cut (Memcached, managed Redis)
//!   knows how long to wait until no write goes to the leader alone.
//! - Whoever goes on without a leader that others may still reach knows how long to wait until it decides
//!   nothing for them any more (`succeed`). An INCR, which it would decide without what has been acknowledged
//!   since, would undo that. The new record may stand on one of the others only, so all are asked.
//!
//! A worker that stood still (its process was stopped, the machine was) may have looked at the lease before that and
//! written after it. So when a turn took longer than the request timeout, which the others wait for beside the
//! lease, its writes are **doubted**: the record is asked for behind them, and nothing is acknowledged before it has
//! been shown. If another record comes, whoever joined with it may lack them, and has to leave again.

use super::greeting::select;
use super::*;
use crate::conn::lane;
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use memchr::memmem;
use shared::{Ack, EventKind, Failure};

/// Asked again after this share of the lease, so that an answer comes long before its end.
const ASKS_PER_LEASE: u64 = 3;
/// Clocks run alike up to this share.
const CLOCK_SHARE: u64 = 4;
/// Between two questions that were not answered with the record: it may be on its way back after a flush.
const PACE_MS: u64 = 20;

impl Worker {
    /// True if a write may go by the lease. Has those whose record it goes by asked in time, all at once, and again
    /// when it is too late.
    pub(super) fn is_shown(&mut self, pool: u16, shard: u16, lane: u8) -> bool {
        let table = self.shard_table(pool, shard);
        let (lease, lead, in_sync) = (table.lease, table.lead.unwrap_or(0), table.in_sync);
        if lease == 0 {
            return true;
        }
        let now = self.moment();
        let is_all = self.shared.config.pools[pool as usize].ack == Ack::All;
        // Who need not have acknowledged a write does not hold one up.
        let asked = if is_all { in_sync } else { 0 } | 1 << lead;
        let mut is_shown = true;
        for backend in (0..16u8).filter(|backend| asked & (1 << backend) != 0) {
            let index = self.conn_for(pool, shard, backend, lane);
            is_shown &= self.is_conn_shown(index, lease, now);
        }
        is_shown
    }

    /// The same for a connection that watches keys.
    pub(super) fn is_watch_shown(&mut self, index: u32, lease: u64) -> bool {
        let now = self.moment();
        lease == 0 || self.is_conn_shown(index, lease, now)
    }

    /// Another may lead by a new table, and the one before still lead for other proxies: until no lease of theirs
    /// can stand any more nothing is written, and nothing acknowledged that they could undo.
    pub(super) fn succeed(&mut self, pool: u16, shard: u16) {
        let now = self.moment();
        let table = &self.table.pools[pool as usize].shards[shard as usize];
        let state = &mut self.pools[pool as usize].shards[shard as usize];
        if table.succession != state.succession {
            (state.succession, state.led_at) = (table.succession, state.leads_at);
            if table.succeeds {
                state.leads_at = now + table.lease + table.lease / CLOCK_SHARE;
            }
        } else if !table.succeeds {
            // It is known to be dead. What was waited for before that, for another one, is still to be.
            state.leads_at = state.led_at;
        }
        state.is_succeeding = state.leads_at > now;
    }

    /// The worker's clock in milliseconds, now and not at the beginning of the turn: since then the process may have
    /// been stopped, and clients have asked what others were acknowledged meanwhile.
    fn moment(&self) -> u64 {
        in_ms(self.shared.clock.micros())
    }

    /// Goes on where that is over.
    pub(super) fn end_successions(&mut self) {
        for pool in 0..self.pools.len() {
            for shard in 0..self.pools[pool].shards.len() {
                let state = &mut self.pools[pool].shards[shard];
                if state.is_succeeding && state.leads_at <= self.now_ms {
                    state.is_succeeding = false;
                    self.recheck_ops(pool as u16, shard as u16);
                    self.wake_later(pool as u16, shard as u16);
                }
            }
        }
    }

    /// The same for one connection.
    fn is_conn_shown(&mut self, index: u32, lease: u64, now: u64) -> bool {
        let conn = &self.conns[index as usize];
        match conn.state {
            ConnState::Ready => {}
            ConnState::Closed => return true, // it cannot be reached, which others see to
            // What waits behind a greeting may be overtaken by a table that it does not fit.
            _ => return false,
        }
        let age = now - conn.shown_at;
        if age * ASKS_PER_LEASE >= lease && now >= conn.asked_at + PACE_MS {
            self.ask_record(index);
        }
        age < lease
    }

    /// Asks for the record in the stream of requests; false if there is none to show.
    fn ask_record(&mut self, index: u32) -> bool {
        let conn = &self.conns[index as usize];
        let table = &self.table.pools[conn.pool as usize].shards[conn.shard as usize];
        let verify = &table.backends[conn.backend as usize].verify;
        let Some((request, _)) = verify.iter().find(|(_, needle)| !needle.is_empty()) else {
            // Nothing to show, so nothing to wait for.
            self.conns[index as usize].shown_at = self.now_ms;
            return false;
        };
        // The record is in database 0.
        let database = lane::database(conn.lane);
        let (request, mut there, mut back) = (request.clone(), Vec::new(), Vec::new());
        if database > 0 {
            select(0, &mut there);
            select(database, &mut back);
        }
        let nobody = self.pending(ReplyTo::Nobody, ReplyKind::Line, false, 0);
        // The kind tells the end of a reply in memcached text; Redis' replies tell it themselves.
        let pending = self.pending(ReplyTo::Record, ReplyKind::Values, false, 0);
        let conn = &mut self.conns[index as usize];
        conn.asked_at = self.now_ms;
        conn.greeted_epoch = self.table.epoch;
        if database > 0 {
            self.enqueue(index, &there, nobody);
        }
        self.enqueue(index, &request, pending);
        if database > 0 {
            self.enqueue(index, &back, nobody);
        }
        true
    }

    /// The answer to a question of `sent_at`, the low bits of the worker clock.
    pub(super) fn shown_again(&mut self, index: u32, sent_at: u32, reply: &[u8]) {
        let conn = &self.conns[index as usize];
        let (pool, shard, backend) = (conn.pool, conn.shard, conn.backend);
        let verify = &self.shard_table(pool, shard).backends[backend as usize].verify;
        let needle = verify.iter().find(|(_, needle)| !needle.is_empty());
        if needle.is_some_and(|(_, needle)| memmem::find(reply, needle).is_some()) {
            let age = u64::from((self.now_ms as u32).wrapping_sub(sent_at));
            let asked_at = self.now_ms.saturating_sub(age);
            let conn = &mut self.conns[index as usize];
            conn.shown_at = conn.shown_at.max(asked_at);
            if conn.doubted_at > 0 && asked_at >= conn.doubted_at {
                conn.doubted_at = 0;
                self.shard_state(pool, shard).doubts -= 1;
                self.recheck_ops(pool, shard);
            }
        } else if conn.greeted_epoch == self.table.epoch {
            self.conns[index as usize].shown_at = 0;
            self.report(EventKind::VerifyFailed, pool, shard, backend, "record", b"");
        }
    }

    /// True if the greeting took longer than what it has shown is good for.
    pub(super) fn is_greeting_late(&self, index: u32) -> bool {
        let conn = &self.conns[index as usize];
        let lease = self.shard_table(conn.pool, conn.shard).lease;
        lease > 0 && self.now_ms - conn.greeted_at >= lease
    }

    /// Clients whose leader has shown another record are not woken by an answer.
    pub(super) fn wake_unshown(&mut self) {
        for pool in 0..self.pools.len() {
            for shard in 0..self.pools[pool].shards.len() {
                if self.table.pools[pool].shards[shard].lease > 0 {
                    self.wake_later(pool as u16, shard as u16);
                }
            }
        }
    }

    /// After this worker stood still for so many milliseconds.
    pub(super) fn doubt_writes(&mut self, stood_ms: u64) {
        for index in 0..self.conns.len() as u32 {
            let conn = &self.conns[index as usize];
            let (pool, shard) = (conn.pool, conn.shard);
            let table = self.shard_table(pool, shard);
            let is_leased = table.lease > 0 && table.lead == Some(conn.backend);
            let is_late = stood_ms >= self.shared.config.pools[pool as usize].request_timeout;
            let is_new =
                conn.state == ConnState::Ready && conn.doubted_at == 0 && conn.is_writing();
            if !is_leased || !is_late || !is_new || !self.ask_record(index) {
                continue;
            }
            self.conns[index as usize].doubted_at = self.now_ms;
            self.shard_state(pool, shard).doubts += 1;
            // There is no op to be held. The client has waited for longer than it was told to.
            for to in self.take_lone_writes(index) {
                self.fail(pool, to, Wire::WriteLost);
            }
        }
    }

    /// A connection has ended; what it would have shown is not known.
    pub(super) fn lose_doubt(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        let (pool, shard) = (conn.pool, conn.shard);
        if std::mem::take(&mut conn.doubted_at) == 0 {
            return;
        }
        let state = self.shard_state(pool, shard);
        state.doubts -= 1;
        state.is_doubtful = true;
        for op in self.ops.handles() {
            let Some(state) = self.ops.get_mut(op) else {
                continue;
            };
            if state.pool == pool && state.shard == shard && !state.answered {
                state.answered = true;
                let to = state.to;
                self.fail(pool, to, Wire::WriteNotReplicated);
                self.check_op(op);
            }
        }
    }

    /// Another record: who is new with it lacks what was written too late.
    pub(super) fn settle_doubts(&mut self, pool: u16, shard: u16, newcomers: u16) {
        let state = self.shard_state(pool, shard);
        let doubts = std::mem::take(&mut state.doubts);
        if !std::mem::take(&mut state.is_doubtful) && doubts == 0 {
            return;
        }
        for conn in &mut self.conns {
            if (conn.pool, conn.shard) == (pool, shard) {
                conn.doubted_at = 0;
            }
        }
        self.fail_gained(pool, shard, newcomers);
        for backend in (0..16u8).filter(|backend| newcomers & (1 << backend) != 0) {
            self.write_failed(pool, shard, backend, Failure::Closed);
        }
    }

    /// Answers writes that went to the leader alone before somebody joined, and are unanswered now that he is
    /// in sync: he may lack them. Proxies stop writing long before that; only a clock that stood still, or a
    /// server that did, gets here.
    pub(super) fn fail_lone_writes(&mut self, pool: u16, shard: u16, lead: u8, gained: u16) {
        let mut lost = Vec::new();
        for lane in 0..LANES {
            let index = self.pools[pool as usize].shards[shard as usize].conns[lead as usize][lane];
            if index != NO_CONN {
                lost.append(&mut self.take_lone_writes(index));
            }
        }
        if lost.is_empty() {
            return;
        }
        for backend in (0..16u8).filter(|backend| gained & (1 << backend) != 0) {
            self.write_failed(pool, shard, backend, Failure::Closed);
        }
        for to in lost {
            self.fail(pool, to, Wire::WriteLost);
        }
    }

    /// Whose writes on this connection are no legs; their replies are dropped from now on.
    fn take_lone_writes(&mut self, index: u32) -> Vec<ReplyTo> {
        let mut taken = Vec::new();
        for pending in &mut self.conns[index as usize].inflight {
            let is_lone = matches!(
                pending.to,
                ReplyTo::Slot { .. }
                    | ReplyTo::Part { .. }
                    | ReplyTo::Try { .. }
                    | ReplyTo::Remote { .. }
            );
            if is_lone && !pending.read && !pending.publishes && !pending.tombstone {
                taken.push(std::mem::replace(&mut pending.to, ReplyTo::Nobody));
            }
        }
        taken
    }
}
