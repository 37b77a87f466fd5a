//! New routing tables and pauses: what changes for connections and for what is under way.

use super::*;

impl Worker {
    pub(super) fn adopt_table(&mut self) {
        let table = self.shared.table();
        let old = std::mem::replace(&mut self.table, Arc::clone(&table));
        for pool in 0..table.pools.len() {
            if table.has_moved(&old, pool as u16) {
                self.move_waits(pool as u16);
                self.move_watched(pool as u16);
            }
            for shard in 0..table.pools[pool].shards.len() {
                let (before, after) = (
                    &old.pools[pool].shards[shard],
                    &table.pools[pool].shards[shard],
                );
                self.adopt_shard(pool as u16, shard as u16, before, after);
            }
        }
        self.adopt_channels(&old);
        self.shared.set_adopted(self.id, table.epoch);
    }

    fn adopt_shard(
        &mut self,
        pool: u16,
        shard: u16,
        before: &crate::route::Shard,
        after: &crate::route::Shard,
    ) {
        let suspects = self.shared.shards[pool as usize][shard as usize]
            .suspects
            .load(SeqCst);
        let state = &mut self.pools[pool as usize].shards[shard as usize];
        state.awaiting_view = u32::from(after.members()) & suspects != 0;
        self.succeed(pool, shard);
        let gained = after.in_sync & !before.in_sync;
        let is_outnumbered =
            after.members() & !before.members() != 0 && before.members().count_ones() == 1;
        for backend in 0..after.backends.len() {
            let was = before.members() & (1 << backend) != 0;
            let is = after.members() & (1 << backend) != 0;
            let moved = before.backends[backend].address != after.backends[backend].address;
            let changed = before.backends[backend].verify != after.backends[backend].verify;
            for lane in 0..LANES {
                let index = self.pools[pool as usize].shards[shard as usize].conns[backend][lane];
                if index == NO_CONN {
                    continue;
                }
                let conn = &mut self.conns[index as usize];
                if changed {
                    conn.forget_shown();
                }
                // A write that waits for its connection was meant for one backend alone, and there
                // are more by now: better not sent than missed by the others.
                let is_short = is_outnumbered && conn.state != ConnState::Ready;
                if (was && !is) || moved || (is_short && conn.is_writing()) {
                    self.retire_conn(index);
                } else if self.conns[index as usize].state == ConnState::Held && (changed || is) {
                    self.reconnect(index);
                }
                if is {
                    self.conns[index as usize].retry_at = 0;
                    self.conns[index as usize].attempts = 0;
                }
            }
        }
        let is_same = before.lead == after.lead
            && before.members() == after.members()
            && before.in_sync == after.in_sync
            && before.backends == after.backends;
        if !is_same {
            self.drop_leases(pool, shard, after.members());
        }
        if before.in_sync != 0 && gained != 0 {
            self.fail_gained(pool, shard, gained);
            if let Some(lead) = before.lead.filter(|_| before.in_sync.count_ones() == 1) {
                self.fail_lone_writes(pool, shard, lead, gained);
            }
        }
        if before
            .backends
            .iter()
            .map(|each| &each.verify)
            .ne(after.backends.iter().map(|each| &each.verify))
        {
            self.settle_doubts(pool, shard, after.members() & !before.members());
        }
        self.recheck_ops(pool, shard);
        self.wake_later(pool, shard);
        let address = |shard: &crate::route::Shard| {
            let lead = after.lead.map_or(0, usize::from);
            shard.backends[lead].address.clone()
        };
        self.adopt_watches(pool, shard, address(before) != address(after));
    }

    /// Says so once no write of this worker to a paused shard is under way. A write that timed out
    /// counts until its late reply: the backend may carry it out until then.
    pub(super) fn report_quiet(&mut self) {
        let pause = self.shared.pauses.load(SeqCst);
        if pause == self.quiet {
            return;
        }
        for (pool, flags) in self.shared.shards.iter().enumerate() {
            for (shard, flags) in flags.iter().enumerate() {
                if flags.paused.load(SeqCst) && self.is_writing(pool, shard) {
                    // Its end may come as a reply or as a timeout.
                    self.idle = false;
                    return;
                }
            }
        }
        self.quiet = pause;
        self.shared.set_quiet(self.id, pause);
    }

    fn is_writing(&self, pool: usize, shard: usize) -> bool {
        let state = &self.pools[pool].shards[shard];
        let conns = state.conns.iter().flatten();
        state.lane_writes.iter().any(|count| *count > 0)
            || conns
                .filter(|index| **index != NO_CONN)
                .any(|index| self.conns[*index as usize].is_writing())
    }
}
