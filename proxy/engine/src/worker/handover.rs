//! Between workers: which worker orders a shard's writes, and how requests get there and back.
//!
//! Writes to a replicated shard must reach every replica in one order (P7), whichever worker their
//! client is on. So each such shard has one *owner* among the workers, and the others hand their
//! writes over by mail; the reply comes back by mail. Ownership is by shard, not by key: a request
//! with several keys, a flush or a held log entry would otherwise have several owners.
//!
//! Reads need no owner and stay, unless that could break the client's own order (P1):
//! - while the client has requests handed over, its further requests for other workers' shards follow;
//! - a write waits until the client's reads that stayed here are answered. A client that pipelines
//!   reads and writes would wait often, so from then on all its requests for such shards follow.

use super::forward::{Copies, Outgoing, Reach};
use super::*;
use super::{everywhere, exec};
use crate::command::{self, spec::Flags, Effect, FanKind, Handling};
use crate::conn::backend::{NO_PART, WAIT_PART};
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::proto::{resp, Args, Resume, Step};

impl Worker {
    /// The worker that orders the writes of a shard.
    #[inline]
    pub(super) fn owner(&self, pool: u16, shard: u16) -> usize {
        (pool as usize + shard as usize) % self.shared.config.workers
    }

    /// Mails a request; `out.bytes` says all that is needed to make it again.
    pub(super) fn hand_over(&mut self, worker: usize, to: ReplyTo, out: &Outgoing) {
        self.pool_stats(out.pool).of(PoolCount::Handovers).add(1);
        let Outgoing {
            pool, shard, lane, ..
        } = *out;
        let bytes = out.bytes.to_vec();
        self.mail[worker].push(Message::Request(Handover {
            pool,
            shard,
            lane,
            to,
            bytes,
        }));
    }

    pub(super) fn read_mail(&mut self) {
        for message in self.shared.mailboxes[self.id].take() {
            match message {
                Message::Client { fd, pool } => self.add_client(fd, pool),
                Message::Request(handover) => self.receive(handover),
                Message::Asked(asked) => self.asked(asked),
                Message::Told { census, told } => self.told(census, told),
                Message::Reply { to, bytes } => {
                    if let ReplyTo::Remote {
                        target, seq, part, ..
                    } = to
                    {
                        let to = if part == WAIT_PART {
                            ReplyTo::Try(target)
                        } else if part == NO_PART {
                            ReplyTo::Slot {
                                client: target,
                                seq,
                            }
                        } else {
                            ReplyTo::Part {
                                gather: target,
                                part,
                                last: true,
                            }
                        };
                        self.deliver(to, &bytes);
                    }
                }
            }
        }
    }

    /// Mails a request, or takes it here if this is the worker.
    pub(super) fn pass_on(&mut self, worker: usize, handover: Handover) {
        if worker == self.id {
            self.receive(handover);
            return;
        }
        self.pool_stats(handover.pool)
            .of(PoolCount::Handovers)
            .add(1);
        self.mail[worker].push(Message::Request(handover));
    }

    /// Carries a handed-over request out, or queues it behind those that wait already.
    pub(super) fn receive(&mut self, handover: Handover) {
        let (pool, shard) = (handover.pool, handover.shard);
        let now = self.now_ms;
        self.idle = false;
        let Some(handover) = self.take_lease_request(handover) else {
            return;
        };
        self.shard_state(pool, shard)
            .queue
            .push_back((handover, now));
        self.pump_queue(pool, shard);
    }

    pub(super) fn pump_queue(&mut self, pool: u16, shard: u16) {
        if !self.pump_retries(pool, shard) {
            return;
        }
        while let Some((handover, since)) = self.shard_state(pool, shard).queue.pop_front() {
            let may_go = match lease_request::request(&handover.bytes) {
                Some(request) => self.lease_may_go(&handover, request),
                None => {
                    let reach = self.reach_of(pool, &handover.bytes);
                    self.may_go(pool, shard, handover.lane, reach)
                }
            };
            if !may_go {
                self.shard_state(pool, shard)
                    .queue
                    .push_front((handover, since));
                return;
            }
            self.carry_out(&handover);
        }
    }

    pub(super) fn expire_queue(&mut self, pool: u16, shard: u16, timeout: u64) {
        let now = self.now_ms;
        while let Some((_, since)) = self.shard_state(pool, shard).queue.front() {
            if now < since + timeout {
                return;
            }
            if let Some((handover, _)) = self.shard_state(pool, shard).queue.pop_front() {
                self.shard_state(pool, shard).leases.unwanted();
                self.end_waiting(&handover);
            }
        }
    }

    /// It has waited too long. A read did for the writes before it only, and those are answered by now.
    pub(super) fn end_waiting(&mut self, handover: &Handover) {
        let (pool, bytes) = (handover.pool, &handover.bytes);
        let is_read =
            lease_request::request(bytes).is_none() && self.reach_of(pool, bytes) == Reach::Nothing;
        match is_read {
            true => self.carry_out(handover),
            false => {
                self.lease_expired(handover);
                self.fail(pool, handover.to, Wire::WriteNotSent)
            }
        }
    }

    fn reach_of(&mut self, pool: u16, bytes: &[u8]) -> Reach {
        if exec::is_batch(bytes) {
            return self.facts(pool, bytes).reach;
        }
        let mut list = std::mem::take(&mut self.args);
        let reach = match self.pools[pool as usize].protocol {
            Protocol::Redis => {
                resp::request(bytes, &mut list, &mut Resume::default(), usize::MAX);
                let args = Args {
                    buf: bytes,
                    list: &list,
                };
                self.row_of(pool, &args)
                    .map_or(Reach::Nothing, |row| Reach::of(row.effect_of(&args)))
            }
            Protocol::Memcached => {
                let (_, request) = crate::proto::memcache::request(
                    bytes,
                    &mut list,
                    &mut Resume::default(),
                    usize::MAX,
                );
                let args = Args {
                    buf: bytes,
                    list: &list,
                };
                match request {
                    Some(request) if request.is_write() => Reach::Lane,
                    Some(_) if everywhere::is_reset(&args) => Reach::Lane,
                    _ => Reach::Nothing,
                }
            }
        };
        self.args = list;
        reach
    }

    /// Makes the request again from its bytes and sends it. It was checked where it came from.
    pub(super) fn carry_out(&mut self, handover: &Handover) {
        let Handover {
            pool,
            shard,
            lane,
            to,
            bytes,
        } = handover;
        if let Some(request) = lease_request::request(bytes) {
            self.lease_exec(handover, request);
            return;
        }
        if exec::is_batch(bytes) {
            self.send_batch(*to, *pool, *shard, *lane, bytes);
            return;
        }
        let mut list = std::mem::take(&mut self.args);
        match self.pools[*pool as usize].protocol {
            Protocol::Redis => {
                let step = resp::request(bytes, &mut list, &mut Resume::default(), usize::MAX);
                let args = Args {
                    buf: bytes,
                    list: &list,
                };
                let row = self.row_of(*pool, &args);
                let fan = row.map(|row| row.handling);
                if let Some(Handling::Fan(kind @ (FanKind::Flush | FanKind::Swap))) = fan {
                    self.carry_out_flush(handover, kind, &args);
                } else if let (Step::Complete(_), Some(row)) = (step, row) {
                    let mut keys = std::mem::take(&mut self.keys);
                    let has_keys = command::keys(row, &args, &mut keys).is_ok();
                    if !has_keys {
                        keys.clear();
                    }
                    if row.flags.has(Flags::NO_MANDATORY_KEYS) {
                        self.prepare_script(*pool, *shard, *lane, row, &args);
                    }
                    // As where it came from (`forward`): a server only says what is wrong with it.
                    let effect = match has_keys || !command::keys::is_told_by_server(row) {
                        true => row.effect_of(&args),
                        false => Effect::Nothing,
                    };
                    let out = Outgoing {
                        pool: *pool,
                        shard: *shard,
                        lane: *lane,
                        write: effect != Effect::Nothing,
                        kind: ReplyKind::Line,
                        bytes,
                        copies: Copies::Effect {
                            row,
                            effect,
                            args,
                            keys: &keys,
                        },
                        trailer: b"",
                    };
                    self.send(*to, &out);
                    self.keys = keys;
                }
            }
            Protocol::Memcached => self.carry_out_memcache(handover, &mut list),
        }
        self.args = list;
    }
}
