//! Where a read goes: the first in-sync replica, in the table's order, that can take it, and the next one when
//! that fails; a suspect, or a connection that waits for a new table, only where nobody else is left.

use super::forward::{Copies, Outgoing};
use super::*;
use crate::command::effect::is_away;
use crate::conn::{Pending, ReplyTo};
use crate::proto::memcache::ReplyKind;
use crate::route::MAX_BACKENDS;
use crate::stats::BackendCount;

/// In `Pending::tried`: nobody was left, and those that were asked are asked once more. Their connections may
/// have been cut by the proxy that brings another backend back.
pub(super) const AGAIN: u32 = 1 << MAX_BACKENDS;
/// `Pending::tried` of a read that has waited on a held connection: it is not asked of others again.
pub(super) const PARKED: u32 = u32::MAX;

impl Worker {
    /// Sends a read to the first in-sync replica, in the table's order, that was not tried yet and
    /// can take it; answers with an error when there is none.
    #[inline]
    pub(super) fn send_read(&mut self, to: ReplyTo, out: &Outgoing, tried: u32) {
        if self.send_behind_undecided(to, out, tried) {
            return;
        }
        let mut tried = tried;
        loop {
            let Some(backend) = self.pick_read(out, tried) else {
                if self.park_read(to, out, tried) {
                    return;
                }
                let lost = tried != 0;
                if lost && tried & AGAIN == 0 {
                    tried = AGAIN;
                    continue;
                }
                self.fail(
                    out.pool,
                    to,
                    if lost {
                        Wire::ReadLost
                    } else {
                        Wire::BackendUnreachable
                    },
                );
                return;
            };
            let index = self.conn_for(out.pool, out.shard, backend, out.lane);
            if matches!(
                self.conns[index as usize].state,
                ConnState::Closed | ConnState::Held
            ) {
                tried |= 1 << backend;
                continue;
            }
            self.enqueue(
                index,
                out.bytes,
                self.pending(to, out.kind, true, tried | 1 << backend),
            );
            return;
        }
    }

    /// Sends a read behind the writes that the leader has yet to decide, on its connection, whatever is thought of
    /// that leader: they may be the client's own, and the other replicas do not have them. If the connection is
    /// lost the read shares their lot, as everything behind them there. False if there are none.
    fn send_behind_undecided(&mut self, to: ReplyTo, out: &Outgoing, tried: u32) -> bool {
        let state = &self.pools[out.pool as usize].shards[out.shard as usize];
        let Some(last) = state.log.back() else {
            return false;
        };
        let Some(lead) = self.ops.get(last.op).map(|op| op.lead) else {
            return false;
        };
        let has_others = match to {
            ReplyTo::Slot { client, .. } => self
                .clients
                .get_mut(client)
                .is_some_and(|client| client.slots.len() > 1),
            _ => true,
        };
        let state = &self.pools[out.pool as usize].shards[out.shard as usize];
        let index = state.conns[lead as usize][out.lane as usize];
        if !has_others
            || tried & (1 << lead) != 0
            || index == NO_CONN
            || self.conns[index as usize].state == ConnState::Closed
        {
            return false;
        }
        let pending = self.pending(to, out.kind, true, tried | 1 << lead);
        self.enqueue(index, out.bytes, pending);
        true
    }

    /// Has a read that nobody can take now wait on a held connection for the table that follows: while
    /// a new view is being recorded, the last survivor may just have shown that record. The read stays
    /// with that connection, whose hold has an end.
    fn park_read(&mut self, to: ReplyTo, out: &Outgoing, tried: u32) -> bool {
        let conns = &self.pools[out.pool as usize].shards[out.shard as usize].conns;
        let mut places = self
            .shard_table(out.pool, out.shard)
            .reads
            .iter()
            .map(|backend| conns[*backend as usize][out.lane as usize]);
        let is_held =
            |index: &u32| *index != NO_CONN && self.conns[*index as usize].state == ConnState::Held;
        match places.find(is_held) {
            Some(index) if tried != PARKED => {
                self.enqueue(index, out.bytes, self.pending(to, out.kind, true, PARKED));
                true
            }
            _ => false,
        }
    }

    /// Asks another replica for a read that was refused by the state of this server (loading, busy with a
    /// script). False if it is none, or if nobody is left who could be asked.
    pub(super) fn read_elsewhere(&mut self, index: u32, pending: &Pending, reply: &[u8]) -> bool {
        let conn = &self.conns[index as usize];
        let may_move = pending.read && conn.keep && !pending.pinned && !pending.tombstone;
        let told = match pending.kind {
            ReplyKind::Batch { .. } => &conn.batch.refused[..],
            _ => reply,
        };
        if !may_move || !is_away(told) {
            return false;
        }
        let bytes = conn.out.held_slice(0, pending.len as usize).to_vec();
        let out = Outgoing {
            pool: conn.pool,
            shard: conn.shard,
            lane: conn.main_lane(),
            write: false,
            kind: pending.kind,
            bytes: &bytes,
            copies: Copies::Same,
            trailer: b"",
        };
        if self.pick_read(&out, pending.tried).is_none() {
            return false;
        }
        self.backend_stats(index).of(BackendCount::Errors).add(1);
        self.backend_stats(index).of(BackendCount::Retried).add(1);
        self.send_read(pending.to, &out, pending.tried);
        true
    }

    #[inline]
    pub(super) fn pick_read(&mut self, out: &Outgoing, tried: u32) -> Option<u8> {
        let Outgoing {
            pool, shard, lane, ..
        } = *out;
        let table = &self.table.pools[pool as usize].shards[shard as usize];
        let state = &mut self.pools[pool as usize].shards[shard as usize];
        if let [only] = table.reads[..] {
            return (tried & (1 << only) == 0).then_some(only);
        }
        let suspects = self.shared.shards[pool as usize][shard as usize]
            .suspects
            .load(SeqCst);
        // While replicas are behind the leader's decisions, the leader is asked first; for CAS tokens, since
        // only the leader's are accepted; and for what meta commands show, as of a stale item each server
        // would tell somebody else that it is his to replace it.
        let asks_lead = !state.log.is_empty()
            || matches!(
                out.kind,
                ReplyKind::Tokens | ReplyKind::Item | ReplyKind::ItemTokens
            );
        let start = if table.spread && !asks_lead {
            state.rotate = state.rotate.wrapping_add(1);
            state.rotate as usize % table.reads.len().max(1)
        } else {
            0
        };
        let lead_first = if asks_lead { table.lead } else { None };
        let order = table
            .reads
            .iter()
            .cycle()
            .skip(start)
            .take(table.reads.len())
            .copied();
        let order = lead_first.into_iter().chain(order);
        let now = self.now_ms;
        let mut fallback = None;
        for backend in order {
            if tried & (1 << backend) != 0 {
                continue;
            }
            let index = state.conns[backend as usize][lane as usize];
            let out_of_reach = index != NO_CONN && {
                let conn = &self.conns[index as usize];
                conn.state == ConnState::Held
                    || (conn.state == ConnState::Closed && conn.retry_at > now)
            };
            if out_of_reach {
                continue;
            }
            if suspects & (1 << backend) == 0 {
                return Some(backend);
            }
            // A suspect is asked only when nobody else can be: the last one left is the truth.
            fallback = fallback.or(Some(backend));
        }
        fallback
    }
}
