//! Writes that a leader was to decide and did not, and those that stood behind them in the shard's log: they
//! wait for the view without it, and are made again.
//!
//! Nobody but the leader was sent such a write. Once the view without that leader is recorded, what it did with
//! it no longer counts: it will be filled from the others before it serves again. So the write was not applied,
//! and its client sees a pause, not an error. If the leader stays, as the last one that is in sync, the outcome
//! is unknown unless nothing was sent, and the client is told so (P6). So it is for an EXEC behind WATCH, which
//! cannot be made again.
//!
//! These writes stand before all others of the shard, and so do later requests of their clients (P1).

use super::forward::Reach;
use super::*;
use crate::conn::ReplyTo;
use shared::Failure;

/// A write that waits to be made again.
pub(super) struct Retry {
    handover: Handover,
    reach: Reach,
    /// The leader that was sent it; None if nobody was.
    doubted: Option<u8>,
    /// Milliseconds of the worker clock.
    since: u64,
}

impl Worker {
    /// Takes a write whose leader has failed, and that the others were not sent yet, out of flight. False if
    /// it cannot be made again.
    pub(super) fn retry_held(&mut self, op: Handle, failure: Failure) -> bool {
        let Some(state) = self.ops.get_mut(op) else {
            return false;
        };
        if state.answered || state.repairs.is_some() || state.request.is_empty() {
            return false;
        }
        let (pool, shard, lane, lead) = (state.pool, state.shard, state.lane, state.lead);
        let reach = state.reach;
        let (doubted, to) = ((!state.unsent).then_some(lead), state.to);
        let bytes = std::mem::take(&mut state.request);
        self.ops.remove(op);
        self.drop_entry(op, pool, shard);
        self.write_failed(pool, shard, lead, failure);
        let since = self.now_ms;
        let shard_state = self.shard_state(pool, shard);
        shard_state.end_write(lane, reach);
        shard_state.retries.push_back(Retry {
            handover: Handover {
                pool,
                shard,
                lane,
                to,
                bytes,
            },
            reach,
            doubted,
            since,
        });
        self.idle = false;
        self.wake_later(pool, shard);
        true
    }

    /// Queues a request behind such writes.
    pub(super) fn retry_behind(
        &mut self,
        pool: u16,
        shard: u16,
        lane: u8,
        to: ReplyTo,
        bytes: &[u8],
    ) {
        let (since, bytes) = (self.now_ms, bytes.to_vec());
        self.shard_state(pool, shard).retries.push_back(Retry {
            handover: Handover {
                pool,
                shard,
                lane,
                to,
                bytes,
            },
            // Behind them it goes only with their turn.
            reach: Reach::Lane,
            doubted: None,
            since,
        });
    }

    /// Makes those again that may go. True if none is left.
    pub(super) fn pump_retries(&mut self, pool: u16, shard: u16) -> bool {
        loop {
            let Some(front) = self.shard_state(pool, shard).retries.front() else {
                return true;
            };
            let (lane, reach, doubted) = (front.handover.lane, front.reach, front.doubted);
            let table = self.shard_table(pool, shard);
            // Where nobody leads it may return as the truth.
            let stays = doubted
                .is_some_and(|lead| table.lead.is_none() || table.in_sync & (1 << lead) != 0);
            let is_settled = !self.shard_state(pool, shard).awaiting_view;
            let is_over = stays && is_settled;
            if !is_over && !self.may_go_first(pool, shard, lane, reach) {
                return false;
            }
            let Some(retry) = self.shard_state(pool, shard).retries.pop_front() else {
                return true;
            };
            // What an EXEC behind WATCH has done may have been read by others, and will not be done again: null
            // would say that it never was.
            let is_exec =
                doubted.is_some() && lease_request::request(&retry.handover.bytes).is_some();
            if stays {
                self.doubt(&retry);
            } else if is_exec {
                self.fail(pool, retry.handover.to, Wire::WriteLost);
            } else {
                self.carry_out(&retry.handover);
            }
        }
    }

    /// Gives up those that have waited too long.
    pub(super) fn expire_retries(&mut self, pool: u16, shard: u16, timeout: u64) {
        let now = self.now_ms;
        while let Some(front) = self.shard_state(pool, shard).retries.front() {
            if now < front.since + timeout {
                return;
            }
            let Some(retry) = self.shard_state(pool, shard).retries.pop_front() else {
                return;
            };
            if retry.doubted.is_some() {
                self.doubt(&retry);
            } else {
                self.end_waiting(&retry.handover);
            }
        }
    }

    /// Tells the client that nobody knows. Whoever joins may have been given the key as it was before, and
    /// cannot become the leader's equal any more.
    fn doubt(&mut self, retry: &Retry) {
        let Handover {
            pool, shard, to, ..
        } = retry.handover;
        let joining = self.shard_table(pool, shard).joining;
        for backend in (0..16u8).filter(|backend| joining & (1 << backend) != 0) {
            self.write_failed(pool, shard, backend, Failure::Closed);
        }
        self.fail(pool, to, Wire::WriteLost);
    }
}
