//! Loss of a backend connection, or of time: whatever was under way on it is settled here.
//!
//! Reads go to another replica, legs of replicated writes fail, lone writes are answered with what is
//! known about them. A request that took too long becomes a tombstone: its late reply is dropped and
//! its neighbours on the connection live on.

use super::forward::{Copies, Outgoing};
use super::reads::PARKED;
use super::*;
use crate::conn::{Pending, ReplyTo};
use crate::proto::Resume;
use crate::stats::BackendCount;
use ready::NO_WATCH;
use shared::{EventKind, Failure};

/// Pause before the second attempt to connect; doubled for each further one up to `BACKOFF_CAP_MS`.
const BACKOFF_BASE_MS: u64 = 20;
const BACKOFF_CAP_MS: u64 = 1_000;
/// A connection that has not answered anything for this many request timeouts is given up.
const SILENT_TIMEOUTS: u64 = 3;

impl Worker {
    /// Ends a connection because it failed, tells the control plane, and settles what was on it.
    pub(super) fn fail_conn(&mut self, index: u32, failure: Failure) {
        let conn = &mut self.conns[index as usize];
        let was_open = conn.state == ConnState::Ready;
        let (pool, shard, backend) = (conn.pool, conn.shard, conn.backend);
        // An idle connection that the backend closed was perhaps only idle for too long: the next
        // request may connect at once, and tells more.
        conn.retry_at = if was_open {
            0
        } else {
            self.now_ms + backoff(conn.attempts, &mut self.entropy)
        };
        if !was_open {
            conn.attempts += 1;
        }
        conn.failing = true;
        self.backend_stats(index).of(BackendCount::Failures).add(1);
        self.report(
            EventKind::ConnectionFailed,
            pool,
            shard,
            backend,
            failure.name(),
            b"",
        );
        self.end_conn(index, failure);
    }

    /// Ends a connection because the table does not want it any more.
    pub(super) fn retire_conn(&mut self, index: u32) {
        self.conns[index as usize].retry_at = 0;
        // With another table there may be others to ask, also for a read that has waited here.
        for pending in &mut self.conns[index as usize].inflight {
            if pending.read && pending.tried == PARKED {
                pending.tried = 0;
            }
        }
        self.end_conn(index, Failure::Closed);
    }

    fn end_conn(&mut self, index: u32, failure: Failure) {
        let (inflight, mut out, written) = self.unplug(index, ConnState::Closed);
        let conn = &self.conns[index as usize];
        let (pool, shard, lane) = (conn.pool, conn.shard, conn.main_lane());
        let (backend, keep) = (conn.backend, conn.keep);
        let mut offset = 0;
        let retries = self.shard_state(pool, shard).retries.len();
        for pending in inflight {
            let start = offset;
            offset += pending.len as usize;
            self.backend_stats(index).of(BackendCount::Inflight).sub(1);
            if pending.tombstone {
                continue;
            }
            let sent = (written.wrapping_sub(pending.end.wrapping_sub(pending.len)) as i32) > 0;
            match pending.to {
                ReplyTo::Leg { op, .. } => {
                    // Without bytes it is a later entry of a batch, whose first one knows.
                    if !sent && pending.len > 0 {
                        self.leg_unsent(op, backend);
                    }
                    self.leg_failed(op, backend, failure);
                }
                to if pending.read && keep => {
                    let bytes = out.held_slice(start, pending.len as usize);
                    if self.shard_state(pool, shard).retries.len() > retries {
                        // A write before it is to be made again, and may be of the same client.
                        self.retry_behind(pool, shard, lane, to, bytes);
                    } else {
                        self.retry_read(index, pool, shard, lane, &pending, bytes);
                    }
                }
                to if pending.read => {
                    self.fail(
                        pool,
                        to,
                        if sent {
                            Wire::ReadLost
                        } else {
                            Wire::BackendUnreachable
                        },
                    );
                }
                to => self.fail(
                    pool,
                    to,
                    if sent {
                        Wire::WriteLost
                    } else {
                        Wire::BackendUnreachable
                    },
                ),
            }
        }
        out.reset();
        self.lose_doubt(index);
        self.flush_log(pool, shard);
        self.wake_later(pool, shard);
        self.feed_lost(index);
    }

    /// Closes the socket and takes everything off the connection: the requests, their bytes, and how
    /// far they were written.
    fn unplug(
        &mut self,
        index: u32,
        state: ConnState,
    ) -> (VecDeque<Pending>, crate::buf::OutBuf, u32) {
        let conn = &mut self.conns[index as usize];
        let was_open = std::mem::replace(&mut conn.state, state) == ConnState::Ready;
        if let Some(fd) = conn.fd.take() {
            self.poll.remove(&fd);
            sys::abandon(&fd);
        }
        conn.generation = conn.generation.wrapping_add(1);
        conn.greetings.clear();
        conn.greeting_out.reset();
        conn.input = Vec::new();
        conn.resume = Resume::default();
        conn.tombstones = 0;
        conn.asks_step = false;
        conn.busy_since = 0;
        conn.batch.clear();
        let (written, watch) = (conn.written, conn.watch);
        conn.queued = 0;
        conn.written = 0;
        let inflight = std::mem::take(&mut conn.inflight);
        let out = std::mem::take(&mut conn.out);
        if watch != NO_WATCH {
            self.watch_lost(watch);
        }
        if was_open {
            self.backend_stats(index)
                .of(BackendCount::Connections)
                .sub(1);
        }
        (inflight, out, written)
    }

    /// It showed another record than the table's, so somebody changed the view or the process is
    /// not the one we knew. Reads go elsewhere; writes wait here for the table that follows, and so do reads behind
    /// writes that the others do not have yet.
    pub(super) fn hold_conn(&mut self, index: u32) {
        let is_outdated = self.conns[index as usize].greeted_epoch != self.table.epoch;
        let (inflight, out, _) = self.unplug(index, ConnState::Held);
        let conn = &mut self.conns[index as usize];
        let (pool, shard, lane) = (conn.pool, conn.shard, conn.main_lane());
        conn.deadline = self.now_ms + self.shared.config.pools[pool as usize].request_timeout;
        conn.failing = true;
        let mut offset = 0;
        let mut is_behind = false;
        for pending in inflight {
            let bytes = out.held_slice(offset, pending.len as usize);
            offset += pending.len as usize;
            is_behind |= self.is_undecided(pending.to);
            if pending.read && pending.tried != PARKED && !is_behind {
                self.backend_stats(index).of(BackendCount::Inflight).sub(1);
                self.retry_read(index, pool, shard, lane, &pending, bytes);
            } else {
                self.conns[index as usize].push(bytes, pending);
            }
        }
        self.feed_lost(index);
        if is_outdated {
            // It was asked before the table changed, so no further table will tell us to ask again.
            self.reconnect(index);
        }
    }

    /// Asks the next replica, if there is one that was not asked yet.
    fn retry_read(
        &mut self,
        from: u32,
        pool: u16,
        shard: u16,
        lane: u8,
        pending: &Pending,
        bytes: &[u8],
    ) {
        if pending.pinned {
            self.fail(pool, pending.to, Wire::ReadLost);
            return;
        }
        self.backend_stats(from).of(BackendCount::Retried).add(1);
        let (kind, write, copies, trailer) = (pending.kind, false, Copies::Same, &b""[..]);
        let out = Outgoing {
            pool,
            shard,
            lane,
            write,
            kind,
            bytes,
            copies,
            trailer,
        };
        self.send_read(pending.to, &out, pending.tried);
    }

    /// Turns requests that took too long into tombstones, gives up connections that take too long to
    /// make or stay silent.
    pub(super) fn expire_requests(&mut self) {
        self.idle = !self.is_busy();
        for index in 0..self.conns.len() as u32 {
            let conn = &self.conns[index as usize];
            let timeout = self.shared.config.pools[conn.pool as usize].request_timeout;
            match conn.state {
                ConnState::Connecting | ConnState::Verifying if self.now_ms > conn.deadline => {
                    self.fail_conn(index, Failure::ConnectTimeout);
                }
                ConnState::Held if self.now_ms > conn.deadline => {
                    self.fail_conn(index, Failure::Timeout);
                }
                ConnState::Ready if !conn.inflight.is_empty() => {
                    if conn.is_bulky() {
                        self.saw_bulk(index);
                    }
                    self.expire_front(index, timeout);
                    self.ask_in_step(index);
                    let conn = &self.conns[index as usize];
                    let silent = self.now_ms.saturating_sub(conn.last_reply);
                    // Bytes that never become a reply (a length beyond all reason) are no sign of life.
                    let stuck = conn.inflight.front().map_or(0, |oldest| {
                        u64::from((self.now_ms as u32).wrapping_sub(oldest.sent_at))
                    });
                    let limit = SILENT_TIMEOUTS * timeout;
                    if conn.tombstones > 0 && (silent > limit || stuck > timeout + limit) {
                        self.fail_conn(index, Failure::Timeout);
                    }
                }
                _ => {}
            }
        }
    }

    fn expire_front(&mut self, index: u32, timeout: u64) {
        let generation = self.conns[index as usize].generation;
        loop {
            let now = self.now_ms;
            let conn = &mut self.conns[index as usize];
            if conn.generation != generation {
                return;
            }
            let at = conn.tombstones;
            let Some(pending) = conn.inflight.get_mut(at) else {
                return;
            };
            if u64::from((now as u32).wrapping_sub(pending.sent_at)) < timeout {
                return;
            }
            let to = pending.to;
            if self.is_undecided(to) {
                // What stands behind it on this connection is settled with it, in this order.
                self.fail_conn(index, Failure::Timeout);
                return;
            }
            let conn = &mut self.conns[index as usize];
            let Some(pending) = conn.inflight.get_mut(at) else {
                return;
            };
            pending.tombstone = true;
            let pending = *pending;
            if at == 0 {
                // Silence is counted from here, not from a reply long ago on an idle connection.
                conn.last_reply = now;
            }
            conn.tombstones += 1;
            let (pool, shard, lane) = (conn.pool, conn.shard, conn.main_lane());
            let (backend, keep) = (conn.backend, conn.keep);
            let before: usize = conn
                .inflight
                .iter()
                .take(at)
                .map(|pending| pending.len as usize)
                .sum();
            self.backend_stats(index).of(BackendCount::Timeouts).add(1);
            if at == 0 {
                let failure = Failure::Timeout.name();
                self.report(
                    EventKind::ConnectionFailed,
                    pool,
                    shard,
                    backend,
                    failure,
                    b"",
                );
            }
            match pending.to {
                ReplyTo::Leg { op, .. } => {
                    self.leg_failed(op, backend, Failure::Timeout);
                }
                to if pending.read => {
                    let others = u32::from(self.shard_table(pool, shard).in_sync) & !pending.tried;
                    if keep && others != 0 && !pending.pinned {
                        let bytes = self.conns[index as usize]
                            .out
                            .held_slice(before, pending.len as usize)
                            .to_vec();
                        self.retry_read(index, pool, shard, lane, &pending, &bytes);
                    } else {
                        self.fail(pool, to, Wire::ReadTimedOut);
                    }
                }
                to => self.fail(pool, to, Wire::WriteTimedOut),
            }
        }
    }
}

/// Full jitter up to a doubling bound, so that many proxies do not knock in step.
fn backoff(attempts: u32, entropy: &mut u32) -> u64 {
    let bound = (BACKOFF_BASE_MS << attempts.min(10)).min(BACKOFF_CAP_MS);
    *entropy ^= *entropy << 13;
    *entropy ^= *entropy >> 17;
    *entropy ^= *entropy << 5;
    BACKOFF_BASE_MS + u64::from(*entropy) % bound
}
