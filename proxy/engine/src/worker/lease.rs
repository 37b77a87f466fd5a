//! Connections to a shard's leader that clients with watched keys have for themselves: WATCH and EXEC have to
//! come over one connection, which nobody else may use in between.
//!
//! They are kept open and used again, so a transaction costs no connection. They are held where the shard's
//! writes are ordered (`handover.rs`), or with the client's worker where nobody orders them, and asked for like
//! any other request, by a number that stands for the client:
//!
//! ```text
//! client   WATCH k ──► [free connection, or wait for one] ──► WATCH k
//!          GET k   ──► GET k, on the same connection
//!          EXEC    ──► [the shard's queue] ──► MULTI … EXEC ──► RESTORE of what it wrote, for the others
//!          UNWATCH, DISCARD, gone ──► UNWATCH, and the connection is free
//! ```
//! The client is answered before its next request is looked at: that may go another way.
//!
//! What the client reads of that shard meanwhile is read there too. Another replica may not have yet what the
//! leader had before it was told to watch, and EXEC would write over it.
//!
//! EXEC and the other writes of the shard come to the leader over different connections, so nobody knows their
//! order there. Hence an EXEC that writes waits until no write is in flight, and new ones wait until the
//! leader has answered it. What it did reaches the other replicas as state, in the log like any held write.
//! Between two EXECs whoever waited has a turn.
//!
//! A client may select another database or speak another protocol version before its EXEC. What it watches stays
//! watched, so its connection is turned to the other lane, and stays one of that lane.
//!
//! Any change of the shard's membership takes all these connections away: EXEC is then answered with null,
//! which means that a watched key may have changed, and clients try again. One that the lost leader was sent
//! already, and did not answer, has an unknown outcome (`retry.rs`).

use std::collections::HashMap;

use super::exec::{self, Must};
use super::forward::Reach;
use super::greeting::select;
use super::lease_request::{request, Request};
use super::legs::{Plan, Shape};
use super::*;
use crate::conn::{lane, Conn, ReplyTo};
use crate::proto::memcache::ReplyKind;
use crate::proto::Args;

/// Connections of this kind per shard and worker.
const LEASES_PER_SHARD: usize = 128;

/// What no client has watched the keys for, or what may have changed them.
pub(super) fn null(lane: u8) -> &'static [u8] {
    if lane::is_resp3(lane) {
        b"_\r\n"
    } else {
        b"*-1\r\n"
    }
}

/// Who may write to a replicated shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Exclusive {
    #[default]
    No,
    /// An EXEC waits for the writes in flight; no new ones go.
    Wanted,
    /// This op is one, and the leader has not answered.
    Running(Handle),
}

#[derive(Clone, Copy)]
struct Lease {
    conn: u32,
    /// Of the connection: another one means that nothing is watched there.
    generation: u32,
    /// Milliseconds of the worker clock at which it last was asked for.
    since: u64,
}

/// Whether a connection uses the database and protocol of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turned {
    Yes,
    /// That is not known to be possible yet.
    Later,
    No,
}

/// The connections of one shard.
#[derive(Default)]
pub(super) struct Leases {
    /// By client.
    held: HashMap<u64, Lease>,
    /// Those that nobody holds, open or not.
    free: Vec<u32>,
    /// Those to be closed once their last request is answered.
    leaving: Vec<u32>,
    /// Requests to watch that wait for one, with the millisecond they came; in order.
    waiting: VecDeque<(Handover, u64)>,
    exclusive: Exclusive,
    /// Others that wait have their turn before the next EXEC.
    yields: bool,
}

impl Leases {
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.leaving.is_empty()
    }

    #[inline]
    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive != Exclusive::No
    }

    /// The EXEC that waited does not any more.
    pub(super) fn unwanted(&mut self) {
        if self.exclusive == Exclusive::Wanted {
            self.exclusive = Exclusive::No;
        }
    }

    fn count(&self) -> usize {
        self.held.len() + self.free.len() + self.leaving.len()
    }
}

impl Worker {
    /// The worker that holds a shard's connections for the clients of this one.
    pub(super) fn lease_worker(&self, spot: Spot) -> usize {
        let Spot { pool, shard } = spot;
        if self.shard_table(pool, shard).is_replicated() {
            self.owner(pool, shard)
        } else {
            self.id
        }
    }

    /// A client watches nothing any more.
    pub(super) fn unwatch(&mut self, spot: Spot, id: u64) {
        let Spot { pool, shard } = spot;
        let handover = Handover {
            pool,
            shard,
            lane: 0,
            to: ReplyTo::Nobody,
            bytes: Request::Release { id }.bytes(),
        };
        self.pass_on(self.lease_worker(spot), handover);
    }

    /// Acts on what needs no turn among the shard's writes; gives back what does.
    pub(super) fn take_lease_request(&mut self, handover: Handover) -> Option<Handover> {
        match request(&handover.bytes) {
            Some(Request::Release { id }) => self.release(handover.pool, handover.shard, id),
            Some(Request::Watch { .. }) => {
                self.pool_stats(handover.pool)
                    .of(PoolCount::LeaseWaits)
                    .add(1);
                self.serve_lease(handover, false);
            }
            // Whoever waits for a connection may wait for this one.
            Some(Request::More { .. } | Request::Read { .. }) => self.serve_lease(handover, true),
            _ => return Some(handover),
        }
        None
    }

    /// Serves it now, or in its turn: in front of all others or behind them.
    fn serve_lease(&mut self, handover: Handover, is_first: bool) {
        let (pool, shard, now) = (handover.pool, handover.shard, self.now_ms);
        let waiting = &mut self.shard_state(pool, shard).leases.waiting;
        match is_first {
            true => waiting.push_front((handover, now)),
            false => waiting.push_back((handover, now)),
        }
        self.pump_leases(pool, shard);
    }

    fn is_open(&self, lease: &Lease) -> bool {
        let conn = &self.conns[lease.conn as usize];
        conn.state == ConnState::Ready && conn.generation == lease.generation
    }

    /// Has a client watch keys on a connection of its own. False if it has to wait for one.
    fn begin_lease(&mut self, id: u64, handover: &Handover, frame: &[u8]) -> bool {
        let (pool, shard) = (handover.pool, handover.shard);
        // One that it still has would be nobody's.
        self.give_back(pool, shard, id);
        let Some(conn) = self.free_lease(pool, shard, handover.lane) else {
            return false;
        };
        let lease = Lease {
            conn,
            generation: self.conns[conn as usize].generation,
            since: self.now_ms,
        };
        self.shard_state(pool, shard).leases.held.insert(id, lease);
        self.pool_stats(pool).of(PoolCount::Leases).add(1);
        self.ask_leased(conn, handover.to, frame);
        true
    }

    /// Reads, or watches more keys, on the connection that a client has, if that is open. False if it has to wait.
    fn go_on(&mut self, id: u64, handover: &Handover, frame: &[u8], is_read: bool) -> bool {
        let Handover {
            pool,
            shard,
            lane,
            to,
            ..
        } = *handover;
        let now = self.now_ms;
        let lease = self.shard_state(pool, shard).leases.held.get_mut(&id);
        let lease = lease.map(|lease| {
            if !is_read {
                lease.since = now;
            }
            *lease
        });
        let lease = lease.filter(|lease| self.is_open(lease));
        match lease.map(|lease| (self.steer(lease.conn, lane), lease.conn)) {
            Some((Turned::Later, _)) => return false,
            Some((Turned::Yes, conn)) => self.ask_leased(conn, to, frame),
            // Nothing is watched any more, and EXEC will be null, so any copy will do. Or the server has no such
            // database, and says so.
            _ if is_read => self.carry_out(&Handover {
                pool,
                shard,
                lane,
                to,
                bytes: frame.to_vec(),
            }),
            Some((Turned::No, _)) => self.fail(pool, to, Wire::BackendUnreachable),
            // What was watched before is lost, which EXEC will say.
            None => self.deliver(to, b"+OK\r\n"),
        }
        true
    }

    /// Sends what changes nothing, so it is told as a read if the connection is lost.
    fn ask_leased(&mut self, conn: u32, to: ReplyTo, frame: &[u8]) {
        let pending = self.pending(to, ReplyKind::Line, true, 0);
        self.enqueue(conn, frame, pending);
    }

    /// Has a connection use the database and protocol of a lane. Only once the lane's own connection has shown that
    /// its server knows them: what follows must not act on another database.
    fn steer(&mut self, index: u32, lane: u8) -> Turned {
        let conn = &self.conns[index as usize];
        let (pool, shard, backend, before) = (conn.pool, conn.shard, conn.backend, conn.lane);
        if lane == before {
            return Turned::Yes;
        }
        let shown = self.conn_for(pool, shard, backend, lane);
        match self.conns[shown as usize].state {
            ConnState::Ready => {}
            ConnState::Closed => return Turned::No,
            _ => return Turned::Later,
        }
        let nobody = self.pending(ReplyTo::Nobody, ReplyKind::Line, true, 0);
        if lane::is_resp3(lane) != lane::is_resp3(before) {
            let version: &[u8] = if lane::is_resp3(lane) { b"3" } else { b"2" };
            self.enqueue(index, &ask::request(&[b"HELLO", version]), nobody);
        }
        if lane::database(lane) != lane::database(before) {
            let mut bytes = Vec::new();
            select(lane::database(lane), &mut bytes);
            self.enqueue(index, &bytes, nobody);
        }
        self.conns[index as usize].lane = lane;
        Turned::Yes
    }

    /// Serves those that wait: gives connections to those that have none.
    pub(super) fn pump_leases(&mut self, pool: u16, shard: u16) {
        while let Some((front, since)) = self.shard_state(pool, shard).leases.waiting.pop_front() {
            let is_served = match request(&front.bytes) {
                Some(Request::Watch { id, frame }) => self.begin_lease(id, &front, frame),
                Some(Request::More { id, frame }) => self.go_on(id, &front, frame, false),
                Some(Request::Read { id, frame }) => self.go_on(id, &front, frame, true),
                _ => true,
            };
            if !is_served {
                let leases = &mut self.shard_state(pool, shard).leases;
                leases.waiting.push_front((front, since));
                return;
            }
        }
    }

    /// Takes a connection to the leader out of the free ones, for who is in front of those that wait. None if one has
    /// to be made or waited for.
    fn free_lease(&mut self, pool: u16, shard: u16, lane: u8) -> Option<u32> {
        let lead = self.shard_table(pool, shard).lead?;
        let leases = &self.pools[pool as usize].shards[shard as usize].leases;
        let conns = &self.conns;
        let fits = |index: &u32| {
            let conn = &conns[*index as usize];
            conn.lane == lane && conn.backend == lead
        };
        let is_quiet = |index: &u32| {
            let conn = &conns[*index as usize];
            let mut inflight = conn.inflight.iter();
            conn.state == ConnState::Ready && inflight.all(|pending| pending.to == ReplyTo::Nobody)
        };
        // The one used last: what a burst has made can then be closed by the server's own timeout.
        if let Some(at) = leases
            .free
            .iter()
            .rposition(|index| fits(index) && is_quiet(index))
        {
            return Some(self.shard_state(pool, shard).leases.free.remove(at));
        }
        let now = self.now_ms;
        let is_closed = |index: &&u32| {
            let conn = &conns[**index as usize];
            conn.state == ConnState::Closed && conn.retry_at <= now
        };
        // Also those that are held, or closed and not to be tried again yet: others would fare no better.
        let is_coming = |index: &&u32| {
            let is_open = conns[**index as usize].state == ConnState::Ready;
            fits(index) && !is_open && !is_closed(index)
        };
        if leases.free.iter().filter(is_coming).count() > leases.waiting.len() {
            return None;
        }
        let closed = leases.free.iter().find(is_closed).copied();
        let other = leases.free.iter().copied();
        let mut other = other.filter(|index| !fits(index) && is_quiet(index));
        let index = match (closed, leases.count() < LEASES_PER_SHARD) {
            (Some(index), _) => index,
            (None, true) => {
                let index = self.conns.len() as u32;
                self.conns.push(Conn::new(pool, shard, lead, lane, false));
                self.shard_state(pool, shard).leases.free.push(index);
                index
            }
            // One of another protocol or leader makes room.
            (None, false) => {
                let index = other.next()?;
                self.retire_conn(index);
                index
            }
        };
        let conn = &mut self.conns[index as usize];
        if conn.lane != lane || conn.backend != lead {
            let generation = conn.generation;
            *conn = Conn::new(pool, shard, lead, lane, false);
            conn.generation = generation;
        }
        self.connect(index);
        None
    }

    fn release(&mut self, pool: u16, shard: u16, id: u64) {
        let leases = &mut self.shard_state(pool, shard).leases;
        leases.waiting.retain(|(handover, _)| {
            !matches!(request(&handover.bytes), Some(Request::Watch { id: other, .. }) if other == id)
        });
        self.give_back(pool, shard, id);
        self.pump_leases(pool, shard);
    }

    /// Has a client hold no connection, and what it watched be watched no more.
    fn give_back(&mut self, pool: u16, shard: u16, id: u64) {
        let lease = self.take_lease(pool, shard, id);
        if let Some(lease) = lease.filter(|lease| self.is_open(lease)) {
            let pending = self.pending(ReplyTo::Nobody, ReplyKind::Line, true, 0);
            self.enqueue(lease.conn, b"*1\r\n$7\r\nUNWATCH\r\n", pending);
        }
    }

    /// A request of this kind has waited too long.
    pub(super) fn lease_expired(&mut self, handover: &Handover) {
        if let Some(Request::Exec { id, .. }) = request(&handover.bytes) {
            self.give_back(handover.pool, handover.shard, id);
        }
    }

    /// Ends a client's hold on its connection, on which keys may still be watched.
    fn take_lease(&mut self, pool: u16, shard: u16, id: u64) -> Option<Lease> {
        let leases = &mut self.shard_state(pool, shard).leases;
        let lease = leases.held.remove(&id)?;
        leases.free.push(lease.conn);
        self.pool_stats(pool).of(PoolCount::Leases).sub(1);
        Some(lease)
    }

    /// True if an EXEC that stands first in the shard's queue can go now, or will not be executed.
    pub(super) fn lease_may_go(&mut self, handover: &Handover, request: Request<'_>) -> bool {
        let Handover {
            pool, shard, lane, ..
        } = *handover;
        let Request::Exec { id, batch } = request else {
            return true;
        };
        let state = &self.pools[pool as usize].shards[shard as usize];
        let lease = state.leases.held.get(&id).copied();
        let Some(lease) = lease.filter(|lease| self.is_open(lease)) else {
            return true;
        };
        match self.steer(lease.conn, lane) {
            Turned::Yes => {}
            Turned::Later => return false,
            Turned::No => return true,
        }
        let table = self.shard_table(pool, shard);
        if !table.is_replicated() || !self.facts(pool, batch).writes() {
            return true;
        }
        let (limit, state) = (table.lease, self.shard_state(pool, shard));
        if state.leases.yields || matches!(state.leases.exclusive, Exclusive::Running(_)) {
            return false;
        }
        state.leases.exclusive = Exclusive::Wanted;
        // Behind all that is in flight, in any lane.
        self.may_go_first(pool, shard, lane, Reach::Databases)
            && self.is_watch_shown(lease.conn, limit)
    }

    /// Executes a batch on the connection on which its keys are watched.
    pub(super) fn lease_exec(&mut self, handover: &Handover, request: Request<'_>) {
        let Handover {
            pool,
            shard,
            lane,
            to,
            ..
        } = *handover;
        self.shard_state(pool, shard).leases.unwanted();
        let Request::Exec { id, batch } = request else {
            return;
        };
        let lease = self.take_lease(pool, shard, id);
        let lease = lease.filter(|lease| self.is_open(lease));
        let Some(lease) = lease.filter(|lease| self.steer(lease.conn, lane) == Turned::Yes) else {
            self.deliver(to, null(lane));
            return;
        };
        let (conn, facts) = (lease.conn, self.facts(pool, batch));
        self.prepare_scripts_on(conn, batch, facts);
        let table = self.shard_table(pool, shard);
        if !table.is_replicated() || !facts.writes() {
            let pending = self.pending(to, facts.kind(), !facts.writes(), 0);
            self.enqueue(conn, batch, pending);
            return;
        }
        let (members, lead) = (table.members(), self.conns[conn as usize].backend);
        let mut bytes = Vec::new();
        let find = |args: &Args<'_>| self.row_of(pool, args);
        let plan = if members.count_ones() > 1 {
            exec::plan(batch, &find, lane::database(lane), Must::Follow, &mut bytes)
        } else {
            bytes.extend_from_slice(batch);
            Plan {
                replies: facts.replies,
                shape: Shape::Tail { skip: 0 },
                ..Plan::plain()
            }
        };
        let is_held = plan.held.is_some();
        let entry = Op {
            to,
            pool,
            shard,
            lane,
            reach: facts.reach,
            lead,
            members,
            targets: members,
            // As a write whose outcome only the leader knows.
            request: if is_held {
                handover.bytes.clone()
            } else {
                Vec::new()
            },
            reply: self.spare.pop().unwrap_or_default(),
            shape: plan.shape,
            held: plan.held,
            since: self.now_ms,
            ..Op::blank()
        };
        let op = self.ops.insert(entry);
        let state = self.shard_state(pool, shard);
        state.begin_write(lane, facts.reach);
        if is_held {
            state.leases.exclusive = Exclusive::Running(op);
            state.log.push_back(LogEntry {
                op,
                bytes: Vec::new(),
                replies: 1,
                kind: ReplyKind::Line,
                ready: false,
            });
        }
        for i in 0..plan.replies {
            let leg = ReplyTo::Leg {
                op,
                backend: lead,
                last: i + 1 == plan.replies,
            };
            let pending = self.pending(leg, ReplyKind::Line, false, 0);
            self.enqueue(conn, if i == 0 { &bytes } else { b"" }, pending);
        }
    }

    /// The leader has answered an EXEC, or will not: other writes may go.
    pub(super) fn end_exclusive(&mut self, pool: u16, shard: u16, op: Handle) {
        let leases = &mut self.shard_state(pool, shard).leases;
        if leases.exclusive == Exclusive::Running(op) {
            (leases.exclusive, leases.yields) = (Exclusive::No, true);
            self.wake_later(pool, shard);
        }
    }

    /// Those that waited are listed, and go before the shard is looked at again.
    pub(super) fn end_yield(&mut self, pool: u16, shard: u16) {
        if std::mem::take(&mut self.shard_state(pool, shard).leases.yields) {
            self.wake_later(pool, shard);
        }
    }

    /// The shard has changed: nobody watches anything any more, and the connections have to be made anew.
    /// What is under way on them to one of `members` is still answered.
    pub(super) fn drop_leases(&mut self, pool: u16, shard: u16, members: u16) {
        let leases = &mut self.shard_state(pool, shard).leases;
        let held = std::mem::take(&mut leases.held);
        let free = std::mem::take(&mut leases.free);
        self.pool_stats(pool)
            .of(PoolCount::Leases)
            .sub(held.len() as u64);
        let held = held.values().map(|lease| lease.conn);
        for index in held.chain(free).collect::<Vec<_>>() {
            let conn = &self.conns[index as usize];
            let is_member = members & (1 << conn.backend) != 0;
            if is_member && conn.state == ConnState::Ready && !conn.inflight.is_empty() {
                self.shard_state(pool, shard).leases.leaving.push(index);
            } else {
                self.retire_conn(index);
                self.shard_state(pool, shard).leases.free.push(index);
            }
        }
        self.pump_leases(pool, shard);
    }

    /// Closes what leaves, ends waits that took too long, and where all are taken takes one from who has had
    /// it for longest: he tries again, as if a key had changed. `timeout` in milliseconds.
    pub(super) fn expire_leases(&mut self, pool: u16, shard: u16, timeout: u64) {
        let now = self.now_ms;
        if !self.shard_state(pool, shard).leases.is_waiting() {
            return;
        }
        for index in std::mem::take(&mut self.shard_state(pool, shard).leases.leaving) {
            let is_over = self.conns[index as usize].inflight.is_empty();
            if is_over {
                self.retire_conn(index);
            }
            let leases = &mut self.shard_state(pool, shard).leases;
            let list = if is_over {
                &mut leases.free
            } else {
                &mut leases.leaving
            };
            list.push(index);
        }
        let leases = &mut self.shard_state(pool, shard).leases;
        let mut late = Vec::new();
        let is_late = |(_, since): &(Handover, u64)| now >= *since + 2 * timeout;
        while leases.waiting.front().is_some_and(is_late) {
            late.extend(leases.waiting.pop_front().map(|(handover, _)| handover.to));
        }
        let is_full = !leases.waiting.is_empty() && leases.count() >= LEASES_PER_SHARD;
        let oldest = leases.held.iter().min_by_key(|(_, lease)| lease.since);
        let oldest = oldest.filter(|(_, lease)| is_full && now >= lease.since + timeout);
        let oldest = oldest.map(|(id, _)| *id);
        for to in late {
            self.fail(pool, to, Wire::BackendUnreachable);
        }
        if let Some(id) = oldest {
            self.release(pool, shard, id);
        }
        self.pump_leases(pool, shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_executed_is_null_in_the_protocol_of_the_lane() {
        assert_eq!((null(0), null(1)), (&b"*-1\r\n"[..], &b"_\r\n"[..]));
        assert_eq!((null(6), null(7)), (null(0), null(1)));
    }
}
