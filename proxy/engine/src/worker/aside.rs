//! Reads that keep clear of something large: beside its main lane each database has two *side lanes* of a backend,
//! connections of their own.
//!
//! ```text
//! main lane   every write, and reads unless
//! large       the replies that their client gets are large
//! small       or something large is on the main lane, or was within the last second
//! ```
//! Large is what takes longer than one read of a socket: more than `BULK_BYTES` of a connection's bytes wait to be
//! written, or so much of an unfinished reply has come. So small requests do not wait until a large value is
//! through, but for small writes behind large ones: writes of a shard have one order, and so one connection.
//!
//! No read overtakes what its client asked before: it goes aside only if the client has nothing under way, or
//! nothing at that shard but reads on that side lane; whatever else it asks of the shard waits until those are
//! answered. Nor does it see less than on the main lane. What is acknowledged has been applied by whoever is asked:
//! by every in-sync replica with `ack: all`, and otherwise only the leader is asked. A write that timed out may
//! still stand on the main lane, so where anything has timed out nothing goes aside.
//!
//! Side lanes are connected, verified and lost like any other. A read that is lost with one is asked of another
//! replica, on its main lane.

use super::forward::{Copies, Meta, Outgoing, Way};
use super::shared::Ack;
use super::*;
use crate::command::spec::Flags;
use crate::command::{Handling, Row};
use crate::conn::backend::BULK_BYTES;
use crate::conn::lane::{self, Side};
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;

/// A lane counts as bulky for so long after a large transfer: another one may be under way whose first byte is
/// still to come.
const BULKY_MS: u64 = 1_000;

/// What becomes of a request.
pub(super) enum Aside {
    /// It goes by the main lane.
    No,
    Gone,
    /// Its client's reads on the side lane have to be answered first.
    Wait,
}

/// True if a command may be looked at while its client has reads on a side lane: `go_aside` and
/// `dispatch_parts` have it wait if it must.
pub(super) fn may_follow_aside(row: &Row) -> bool {
    matches!(row.handling, Handling::Forward | Handling::Split(_))
        && !row.flags.has(Flags::BLOCKING)
}

impl Worker {
    /// Something large is on its way there.
    #[cold]
    pub(super) fn saw_bulk(&mut self, index: u32) {
        let conn = &self.conns[index as usize];
        let (pool, shard) = (conn.pool, conn.shard);
        if conn.feed.is_some() || conn.dump.is_some() {
            return;
        }
        let (is_main, until) = ((conn.lane as usize) < MAIN_LANES, self.now_ms + BULKY_MS);
        let state = self.shard_state(pool, shard);
        state.bulky_until = until;
        if is_main {
            state.main_bulky_until = until;
        }
        self.bulky_until = until;
        self.is_watchful = true;
    }

    /// Looks whether all is as usual again: nothing large, nobody on a side lane.
    pub(super) fn relax(&mut self) {
        self.is_watchful = self.aside > 0 || self.bulky_until > self.now_ms;
    }

    /// True if the client has reads on a side lane.
    pub(super) fn is_aside(&mut self, who: Handle) -> bool {
        let client = self.clients.get_mut(who);
        client.is_some_and(|client| client.aside > 0)
    }

    /// Sends a client's read on a side lane if it may go there and should.
    #[cold]
    pub(super) fn go_aside(&mut self, who: Handle, meta: Meta, out: &Outgoing) -> Aside {
        let state = self.shard_state(out.pool, out.shard);
        let (until, main_until) = (state.bulky_until, state.main_bulky_until);
        let now = self.now_ms;
        let Some(client) = self.clients.get_mut(who) else {
            return Aside::No;
        };
        let side = match client.aside {
            0 if !client.slots.is_empty() => return Aside::No,
            0 if until <= now => return Aside::No,
            0 if client.reply_bytes as usize >= BULK_BYTES => Side::Large,
            0 if main_until <= now => return Aside::No,
            0 => Side::Small,
            _ if client.aside_at.0 != out.spot() => return Aside::No,
            _ => client.aside_at.1,
        };
        let otherwise = match client.aside {
            0 => Aside::No,
            _ => Aside::Wait,
        };
        if !is_plain(out) {
            return otherwise;
        }
        let Some(index) = self.side_conn(out, side) else {
            return otherwise;
        };
        let seq = self.open_slot(who, meta, &[Way::Here]);
        if let Some(client) = self.clients.get_mut(who) {
            client.aside += 1;
            client.aside_at = (out.spot(), side);
            if let Some(slot) = client.slot(seq) {
                slot.aside = true;
            }
        }
        self.aside += 1;
        self.pool_stats(out.pool).of(PoolCount::Aside).add(1);
        let asked = 1 << self.conns[index as usize].backend;
        let to = ReplyTo::Slot { client: who, seq };
        let pending = self.pending(to, out.kind, true, asked);
        self.enqueue(index, out.bytes, pending);
        Aside::Gone
    }

    /// The connection of a side lane that can take a read now; has it made if there is none.
    fn side_conn(&mut self, out: &Outgoing, side: Side) -> Option<u32> {
        let Outgoing { pool, shard, .. } = *out;
        let lead = self.shard_table(pool, shard).lead?;
        let lane = lane::aside(out.lane, side);
        let backend = self.pick_read(&Outgoing { lane, ..*out }, 0)?;
        if backend != lead && self.shared.config.pools[pool as usize].ack != Ack::All {
            return None;
        }
        let conns = &self.pools[pool as usize].shards[shard as usize].conns[backend as usize];
        let main = conns[out.lane as usize];
        if main != NO_CONN && self.conns[main as usize].tombstones > 0 {
            return None;
        }
        let index = self.conn_for(pool, shard, backend, lane);
        let limit = self.shared.config.pools[pool as usize].backend_inflight_limit;
        let conn = &self.conns[index as usize];
        let is_clear = side == Side::Large || !conn.is_bulky();
        let has_room = conn.inflight.len() < limit && conn.out.held() < BACKEND_OUTPUT_MARK;
        let is_well = conn.state == ConnState::Ready && conn.tombstones == 0;
        (is_clear && has_room && is_well).then_some(index)
    }
}

/// True for a read that any connection to a backend answers alike, and that is not made again by `scripts.rs`.
fn is_plain(out: &Outgoing) -> bool {
    let is_script =
        matches!(out.copies, Copies::Effect { row, .. } if row.flags.has(Flags::NO_MANDATORY_KEYS));
    !out.write && matches!(out.kind, ReplyKind::Line | ReplyKind::Values) && !is_script
}
