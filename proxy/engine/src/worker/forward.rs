//! From a routed request to a backend's queue: which backend, may it go now, and where the reply goes.
//!
//! A request that may not go yet is not taken: its client stops there, in its own order, and is
//! looked at again when the shard changes. So nothing queues without bound and nothing overtakes.

use std::sync::atomic::Ordering::SeqCst;

use super::aside::Aside;
use super::behind::Behind;
use super::clients::Taken;
use super::lent::{Taker, LEND_BYTES};
use super::resolve::Resolution;
use super::*;
use crate::command::overlay::Effect;
use crate::command::Row;
use crate::conn::backend::NO_PART;
use crate::conn::{lane, Pending, ReplyTo, Slot};
use crate::proto::memcache::ReplyKind;
use crate::route::Spot;
use crate::stats::BackendCount;
use shared::EventKind;

/// How a write reaches the replicas that do not lead.
#[derive(Clone, Copy)]
pub(super) enum Copies<'a> {
    /// The same bytes, at the same time.
    Same,
    /// These bytes, answered by that many replies, once the leader has answered without an error. Not at the same
    /// time: if the leader were lost, the client would be given their answer.
    Then { bytes: &'a [u8], replies: u32 },
    /// These bytes, once the leader has said STORED; nothing otherwise.
    IfStored { bytes: &'a [u8] },
    /// These bytes instead, to everybody; what is asked is only what they are made from.
    Made { bytes: &'a [u8] },
    /// The same bytes at the same time, for memcached, whose outcome has to be the same: the replies are compared,
    /// and the size of the item if that may differ.
    Compared { key: &'a [u8], with_size: bool },
    /// The same for a meta command and the item of this word (and ` b`): what is compared is whether it was done
    /// and, where it counts, the number, which servers are asked for though the client was `not_asked` to see it.
    ComparedItem {
        word: &'a [u8],
        mark: &'static [u8],
        not_asked: bool,
    },
    /// What follows from its own bytes, as for a request that was handed over (`carry_out`).
    FromBytes,
    /// What follows from the leader's answer, as somebody is joining.
    Behind(Behind<'a>),
    /// What follows from the leader's answer to a meta command.
    Meta(&'a Resolution),
    /// What the commands of a transaction say (`exec.rs`).
    Exec { reach: Reach },
    /// What `effect` says; `keys` are positions in `args`.
    Effect {
        row: &'static Row,
        effect: Effect,
        args: Args<'a>,
        keys: &'a [u32],
    },
}

/// A request for one shard, ready to be sent. The pool is that of the shard; the client may be another one's.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub pool: u16,
    pub shard: u16,
    pub lane: u8,
    pub write: bool,
    pub kind: ReplyKind,
    pub bytes: &'a [u8],
    pub copies: Copies<'a>,
    /// Sent behind it to each backend that gets it; the reply is dropped (`ShardTable.restore`).
    pub trailer: &'a [u8],
}

/// What the metrics and the order need to know of a request.
#[derive(Clone, Copy)]
pub(super) struct Meta {
    pub command: u16,
    pub write: bool,
    pub mute: bool,
}

/// A request of a Redis client: who asks, what for, and which command of the table it is.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub who: Handle,
    pub meta: Meta,
    pub pool: u16,
    pub lane: u8,
    pub row: &'static Row,
    pub args: Args<'a>,
    /// The arguments as they were sent, or as if they had been sent as a list.
    pub frame: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// As it goes to a shard: to each replica as it came.
    pub(super) fn outgoing(&self, spot: Spot) -> Outgoing<'a> {
        Outgoing {
            pool: spot.pool,
            shard: spot.shard,
            lane: self.lane,
            write: self.meta.write,
            kind: ReplyKind::Line,
            bytes: self.frame,
            copies: Copies::Same,
            trailer: b"",
        }
    }
}

/// What became of a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Taken,
    /// Not taken: the client waits.
    Wait,
    /// Taken, and it is the last one.
    Close,
}

impl Flow {
    /// The same, for a request of `len` bytes.
    pub(super) fn taken(self, len: usize) -> Taken {
        match self {
            Flow::Taken => Taken::Bytes(len),
            Flow::Wait => Taken::Nothing,
            Flow::Close => Taken::Last,
        }
    }
}

/// Which way a request goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Here,
    /// Here, although another worker orders the shard's writes: a read.
    HereUnordered,
    There(usize),
    Wait(Block),
}

use crate::proto::Args;

/// What a request may change, and so what it must not overtake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Nothing,
    /// The database of its lane.
    Lane,
    /// Other databases too.
    Databases,
}

impl Reach {
    /// That of two requests.
    pub(super) fn and(self, other: Reach) -> Reach {
        match (self, other) {
            (Reach::Databases, _) | (_, Reach::Databases) => Reach::Databases,
            (Reach::Lane, _) | (_, Reach::Lane) => Reach::Lane,
            (Reach::Nothing, Reach::Nothing) => Reach::Nothing,
        }
    }

    pub(super) fn of(effect: Effect) -> Reach {
        match effect {
            Effect::Nothing => Reach::Nothing,
            Effect::Moved | Effect::Everything | Effect::Program => Reach::Databases,
            _ => Reach::Lane,
        }
    }
}

impl Outgoing<'_> {
    pub(super) fn spot(&self) -> Spot {
        let Outgoing { pool, shard, .. } = *self;
        Spot { pool, shard }
    }

    pub(super) fn reach(&self) -> Reach {
        match self.copies {
            _ if !self.write => Reach::Nothing,
            Copies::Effect { effect, .. } => Reach::of(effect),
            Copies::Exec { reach } => reach,
            Copies::Made { .. } | Copies::FromBytes => Reach::Databases,
            _ => Reach::Lane,
        }
    }
}

impl ShardState {
    /// True while writes are in flight that a replica could see in another order than a write of this
    /// lane: each lane has connections of its own, and so an order of its own.
    fn is_crossed(&self, lane: u8, reach: Reach) -> bool {
        match reach {
            Reach::Databases => {
                let mut others = self.lane_writes.iter().enumerate();
                others.any(|(other, count)| other != lane as usize && *count > 0)
                    || self.wide_writes > 0
            }
            _ => self.lane_writes[lane::twin(lane) as usize] > 0 || self.wide_writes > 0,
        }
    }

    /// A replicated write begins.
    pub(super) fn begin_write(&mut self, lane: u8, reach: Reach) {
        self.lane_writes[lane as usize] += 1;
        self.wide_writes += u32::from(reach == Reach::Databases);
    }

    /// It has ended. True if others may go now.
    pub(super) fn end_write(&mut self, lane: u8, reach: Reach) -> bool {
        self.lane_writes[lane as usize] -= 1;
        self.wide_writes -= u32::from(reach == Reach::Databases);
        self.lane_writes[lane as usize] == 0
    }
}

impl Worker {
    pub(super) fn shard_table(&self, pool: u16, shard: u16) -> &crate::route::Shard {
        &self.table.pools[pool as usize].shards[shard as usize]
    }

    pub(super) fn shard_state(&mut self, pool: u16, shard: u16) -> &mut ShardState {
        &mut self.pools[pool as usize].shards[shard as usize]
    }

    /// The shard that owns a key which a client of the pool names.
    #[inline]
    pub(super) fn spot_of(&mut self, pool: u16, key: &[u8]) -> Spot {
        self.table.spot(pool, key, &mut self.entropy)
    }

    /// Sends a client's request for one shard, or has the client wait.
    #[inline]
    pub(super) fn dispatch(&mut self, who: Handle, meta: Meta, out: &Outgoing) -> Flow {
        if !out.write && self.is_watched(who, out) {
            return self.dispatch_watched(who, meta, out);
        }
        if self.is_watchful {
            match self.go_aside(who, meta, out) {
                Aside::Gone => return Flow::Taken,
                Aside::Wait => return self.wait(who, meta, Block::Drain, out),
                Aside::No => {}
            }
        }
        let way = self.way(who, out);
        if let Way::Wait(block) = way {
            return self.wait(who, meta, block, out);
        }
        let seq = self.open_slot(who, meta, &[way]);
        match way {
            Way::There(worker) => {
                let part = NO_PART;
                let to = ReplyTo::Remote {
                    worker: self.id as u8,
                    target: who,
                    seq,
                    part,
                };
                self.hand_over(worker, to, out);
            }
            _ => self.send(ReplyTo::Slot { client: who, seq }, out),
        }
        Flow::Taken
    }

    /// A place in the client's order for a request whose parts go these ways.
    #[inline]
    pub(super) fn open_slot(&mut self, who: Handle, meta: Meta, ways: &[Way]) -> u32 {
        let started = self.now as u32;
        let Some(client) = self.clients.get_mut(who) else {
            return 0;
        };
        client.waiting_since = 0;
        client.command = Some(meta.command);
        let (mut local, mut remote) = (0, 0);
        for way in ways {
            local += u16::from(*way == Way::HereUnordered);
            remote += u16::from(matches!(way, Way::There(_)));
        }
        client.local += u32::from(local);
        client.remote += u32::from(remote);
        let form = std::mem::take(&mut client.form);
        let seq = client.push_slot(Slot {
            parked: Vec::new(),
            ready: false,
            mute: meta.mute,
            form,
            write: meta.write,
            command: meta.command,
            local,
            remote,
            aside: false,
            started,
        });
        if meta.write {
            client.barrier = seq;
        }
        seq
    }

    /// Decides which way a request goes; see `handover.rs` for the rules between workers.
    #[inline]
    pub(super) fn way(&mut self, who: Handle, out: &Outgoing) -> Way {
        let shard = self.shard_table(out.pool, out.shard);
        let mut here = Way::Here;
        if shard.is_replicated() {
            let owner = self.owner(out.pool, out.shard);
            if owner != self.id {
                let Some(client) = self.clients.get_mut(who) else {
                    return Way::Here;
                };
                if out.write || client.handover || client.remote > 0 {
                    if client.local > 0 {
                        client.handover = true;
                        return Way::Wait(Block::Drain);
                    }
                    return Way::There(owner);
                }
                here = Way::HereUnordered;
            }
        }
        // A read of a client with requests under way may have to see a write that is to be made again.
        let must_wait = !out.write
            && !self.pools[out.pool as usize].shards[out.shard as usize]
                .retries
                .is_empty()
            && self
                .clients
                .get_mut(who)
                .is_some_and(|client| !client.slots.is_empty());
        if !must_wait && self.may_go(out.pool, out.shard, out.lane, out.reach()) {
            here
        } else {
            Way::Wait(Block::Shard)
        }
    }

    /// Makes a client wait, or answers its request with an error when it has waited too long.
    pub(super) fn wait(&mut self, who: Handle, meta: Meta, block: Block, out: &Outgoing) -> Flow {
        let now = self.now_ms;
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        if client.expired {
            client.expired = false;
            client.waiting_since = 0;
            let wire = if meta.write {
                Wire::WriteNotSent
            } else {
                Wire::BackendUnreachable
            };
            let text = self.wire_text(out.pool, wire);
            self.reply_now(who, meta, text);
            return Flow::Taken;
        }
        client.block = block;
        if client.waiting_since == 0 {
            client.waiting_since = now;
            self.pool_stats(out.pool).of(PoolCount::Waits).add(1);
        }
        if block == Block::Shard {
            self.idle = false;
            self.shard_state(out.pool, out.shard).waiting.push_back(who);
        }
        Flow::Wait
    }

    /// The text of an error in the pool's protocol.
    pub(super) fn wire_text(&self, pool: u16, wire: Wire) -> &'static [u8] {
        match self.pools[pool as usize].protocol {
            Protocol::Redis => wire.redis(),
            Protocol::Memcached => wire.memcached(),
        }
    }

    /// True if a request for the shard can be sent now: its membership is settled, writes of other lanes that
    /// it must not overtake are through, and there is room in the queues.
    #[inline]
    pub(super) fn may_go(&mut self, pool: u16, shard: u16, lane: u8, reach: Reach) -> bool {
        let state = &self.pools[pool as usize].shards[shard as usize];
        let is_free = || state.retries.is_empty() && !state.leases.is_exclusive();
        (reach == Reach::Nothing || is_free()) && self.may_go_first(pool, shard, lane, reach)
    }

    /// The same for a write that stands before those that wait to be made again.
    pub(super) fn may_go_first(&mut self, pool: u16, shard: u16, lane: u8, reach: Reach) -> bool {
        let (inflight, table) = (
            self.shared.config.pools[pool as usize].backend_inflight_limit,
            &self.table.pools[pool as usize].shards[shard as usize],
        );
        let state = &self.pools[pool as usize].shards[shard as usize];
        let Some(lead) = table.lead else { return true };
        let has_room = |conns: &[Conn], backend: u8| {
            let index = state.conns[backend as usize][lane as usize];
            index == NO_CONN || {
                let conn = &conns[index as usize];
                conn.inflight.len() < inflight && conn.out.held() < BACKEND_OUTPUT_MARK
            }
        };
        if reach == Reach::Nothing || !table.is_replicated() {
            return has_room(&self.conns, lead);
        }
        if state.awaiting_view
            || state.is_succeeding
            || state.is_crossed(lane, reach)
            || self.shared.shards[pool as usize][shard as usize]
                .paused
                .load(SeqCst)
        {
            return false;
        }
        let members = table.members();
        if members.count_ones() == 1 && !has_room(&self.conns, lead) {
            return false;
        }
        if !self.is_shown(pool, shard, lane) {
            return false;
        }
        if members.count_ones() == 1 {
            return true;
        }
        for backend in 0..16u8 {
            if members & (1 << backend) == 0 {
                continue;
            }
            let index = self.conn_for(pool, shard, backend, lane);
            match self.conns[index as usize].state {
                // It cannot be reached: the others may not get a write that it will miss, so it has
                // to leave the view first. Nothing was sent, so nobody gets an error.
                ConnState::Closed => {
                    self.write_failed(pool, shard, backend, shared::Failure::Refused);
                    return false;
                }
                ConnState::Held => return false,
                _ => {}
            }
            let conn = &self.conns[index as usize];
            if conn.inflight.len() >= inflight || conn.out.held() >= BACKEND_OUTPUT_MARK {
                return false;
            }
        }
        // Connecting may have failed on the way and changed what was true above.
        !self.pools[pool as usize].shards[shard as usize].awaiting_view
    }

    /// Sends a request that may go.
    #[inline]
    pub(super) fn send(&mut self, to: ReplyTo, out: &Outgoing) {
        let shard = self.shard_table(out.pool, out.shard);
        let Some(lead) = shard.lead else {
            self.pool_stats(out.pool).of(PoolCount::ShardLost).add(1);
            self.fail(out.pool, to, Wire::ShardLost);
            return;
        };
        if !out.write {
            self.send_read(to, out, 0);
        } else if shard.members().count_ones() > 1 {
            self.replicate(to, out);
        } else {
            let index = self.conn_for(out.pool, out.shard, lead, out.lane);
            match self.conns[index as usize].state {
                ConnState::Closed => self.fail(out.pool, to, Wire::BackendUnreachable),
                _ => {
                    let pending = self.pending(to, out.kind, false, 0);
                    let may_take = out.bytes.len() >= LEND_BYTES
                        && out.trailer.is_empty()
                        && self.conns[index as usize].out.is_empty();
                    if may_take && self.lent.take(Taker::Conn(index), out.bytes) {
                        self.conns[index as usize].push_counted(out.bytes.len(), pending);
                        self.note_queued(index);
                        return;
                    }
                    self.enqueue(index, out.bytes, pending);
                    if !out.trailer.is_empty() {
                        let nobody = self.pending(ReplyTo::Nobody, ReplyKind::Line, false, 0);
                        self.enqueue(index, out.trailer, nobody);
                    }
                }
            }
        }
    }

    pub(super) fn pending(&self, to: ReplyTo, kind: ReplyKind, read: bool, tried: u32) -> Pending {
        let sent_at = self.now_ms as u32;
        Pending {
            to,
            read,
            tried,
            kind,
            publishes: false,
            pinned: false,
            tombstone: false,
            sent_at,
            len: 0,
            end: 0,
        }
    }

    #[inline]
    pub(super) fn enqueue(&mut self, index: u32, bytes: &[u8], pending: Pending) {
        self.conns[index as usize].push(bytes, pending);
        self.note_queued(index);
    }

    #[inline]
    fn note_queued(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if !conn.dirty {
            conn.dirty = true;
            self.dirty_conns.push(index);
        }
        self.idle = false;
        let stats = self.backend_stats(index);
        stats.of(BackendCount::Requests).add(1);
        stats.of(BackendCount::Inflight).add(1);
    }

    #[inline]
    pub(super) fn backend_stats(&self, index: u32) -> &crate::stats::BackendStats {
        let conn = &self.conns[index as usize];
        let pool = &self.shared.stats[self.id].backends[conn.pool as usize];
        &pool[conn.shard as usize][conn.backend as usize]
    }

    pub(super) fn report(
        &self,
        kind: EventKind,
        pool: u16,
        shard: u16,
        backend: u8,
        detail: &str,
        data: &[u8],
    ) {
        self.shared.report(shared::Event {
            kind,
            pool,
            shard,
            backend,
            table_epoch: self.table.epoch,
            detail: detail.to_owned(),
            data: data.to_vec(),
        });
    }

    /// A write failed on one replica, or could not be sent to it while others could have it. Reads
    /// stop going there, writes to the shard wait, the control plane is told.
    pub(super) fn write_failed(
        &mut self,
        pool: u16,
        shard: u16,
        backend: u8,
        failure: shared::Failure,
    ) {
        let table = self.shard_table(pool, shard);
        let is_last = table.in_sync.count_ones() < 2 && table.joining & (1 << backend) == 0;
        if table.members() & (1 << backend) == 0 || is_last {
            return;
        }
        let flags = &self.shared.shards[pool as usize][shard as usize];
        let before = flags.suspects.fetch_or(1 << backend, SeqCst);
        self.shard_state(pool, shard).awaiting_view = true;
        if before & (1 << backend) == 0 {
            let stats = &self.shared.stats[self.id].backends[pool as usize][shard as usize];
            stats[backend as usize]
                .of(BackendCount::WriteFailures)
                .add(1);
            self.report(
                EventKind::WriteFailed,
                pool,
                shard,
                backend,
                failure.name(),
                b"",
            );
        }
    }

    /// Looks again at everything that waits for a shard, handed-over requests first.
    pub(super) fn wake_shard(&mut self, pool: u16, shard: u16) {
        self.pump_queue(pool, shard);
        self.pump_leases(pool, shard);
        let waiting = std::mem::take(&mut self.shard_state(pool, shard).waiting);
        for who in waiting {
            self.list_client(who);
        }
        self.end_yield(pool, shard);
    }

    /// Has `wake_shard` run before the turn ends, if anything waits.
    pub(super) fn wake_later(&mut self, pool: u16, shard: u16) {
        let state = &self.pools[pool as usize].shards[shard as usize];
        let waits = !state.waiting.is_empty()
            || !state.queue.is_empty()
            || !state.retries.is_empty()
            || state.leases.is_waiting();
        if waits && !self.woken.contains(&(pool, shard)) {
            self.woken.push((pool, shard));
        }
    }

    /// After a wake-up: writes may have been resumed by the control plane.
    pub(super) fn wake_unpaused(&mut self) {
        if self.idle {
            return;
        }
        for pool in 0..self.pools.len() {
            for shard in 0..self.pools[pool].shards.len() {
                self.wake_later(pool as u16, shard as u16);
            }
        }
    }

    /// Ends waits that took too long: a write that waits for another may have to see that one time
    /// out, and then waits for the view without whoever did not answer it.
    pub(super) fn expire_waits(&mut self) {
        for pool in 0..self.pools.len() {
            let timeout = self.shared.config.pools[pool].request_timeout;
            for shard in 0..self.pools[pool].shards.len() {
                let state = &self.pools[pool].shards[shard];
                if self.now_ms < state.leads_at + timeout {
                    continue; // what waits for a new leader has its time from then on
                }
                let mut expired = false;
                for who in &state.waiting {
                    if let Some(client) = self.clients.get_mut(*who) {
                        if client.waiting_since > 0
                            && self.now_ms >= client.waiting_since + 2 * timeout
                        {
                            client.expired = true;
                            expired = true;
                        }
                    }
                }
                let (pool, shard) = (pool as u16, shard as u16);
                if expired {
                    self.wake_later(pool, shard);
                }
                self.expire_retries(pool, shard, 2 * timeout);
                self.expire_queue(pool, shard, 2 * timeout);
                self.expire_leases(pool, shard, timeout);
                if self.shard_state(pool, shard).awaiting_view {
                    self.expire_ops(pool, shard, timeout);
                }
            }
        }
    }
}
