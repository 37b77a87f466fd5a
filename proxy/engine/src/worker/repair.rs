//! Writes that all replicas do at once and that must come out alike: compared when all have answered,
//! and where one differs the leader's state of the keys is sent to the others before the client is
//! answered.
//!
//! Also the other way round: who refuses the leader's state of some keys may hold it already. Where no server
//! takes a write, a script that has read only is no reason for anybody to leave.
//!
//! What makes equal copies differ is a key that has expired by one server's clock and not yet by
//! another's. Also an eviction, or arithmetic of another machine. Called by `replicate.rs`.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::ask::request;
use super::forward::Reach;
use super::items;
use super::legs::{ask_state, transaction, Held, Shape};
use super::op::Batch;
use super::*;
use crate::proto::memcache::ReplyKind;
use crate::proto::{meta as dialect, resp};
use shared::Failure;

/// What is compared of one write.
pub(super) struct Check {
    /// Of the replies, by backend.
    digests: [u64; 16],
    keys: Vec<Vec<u8>>,
    /// What stands behind the key in meta commands; None for replies that are compared as a whole.
    item: Option<&'static [u8]>,
    /// Which elements of EXEC's reply are compared; all of each reply if it is empty.
    elements: Vec<bool>,
    /// The backends whose state is being replaced, or compared; 0 before.
    differ: u16,
    /// All replies of a leg are compared; else the first and the last.
    is_whole: bool,
}

impl Check {
    pub fn new(keys: Vec<Vec<u8>>) -> Box<Check> {
        Box::new(Check {
            digests: [0; 16],
            keys,
            item: None,
            elements: Vec::new(),
            differ: 0,
            is_whole: false,
        })
    }

    /// Of what each backend is asked for.
    fn of_replies() -> Box<Check> {
        Box::new(Check {
            is_whole: true,
            ..*Check::new(Vec::new())
        })
    }

    /// True if it takes this reply of a leg.
    pub fn takes(&self, is_first: bool, is_last: bool) -> bool {
        is_first || is_last || self.is_whole
    }

    /// Of a transaction: some elements of EXEC's reply are compared. What is read without order, or says
    /// what was deleted, may differ on equal copies.
    pub fn of_elements(keys: Vec<Vec<u8>>, elements: Vec<bool>) -> Box<Check> {
        Box::new(Check {
            elements,
            ..*Check::new(keys)
        })
    }

    /// Of a meta command, whose replies have tokens and times in them: its status and its value are compared.
    pub fn of_item(word: Vec<u8>, mark: &'static [u8]) -> Box<Check> {
        Box::new(Check {
            item: Some(mark),
            ..*Check::new(vec![word])
        })
    }

    /// Takes note of a reply.
    pub fn add(&mut self, backend: u8, reply: &[u8]) {
        let digest = &mut self.digests[backend as usize];
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(*digest);
        if self.item.is_some() {
            let (status, value) = dialect::outcome(reply);
            (status, value).hash(&mut hasher);
            *digest = hasher.finish();
            return;
        }
        match resp::aggregate(reply).filter(|found| found.0 == self.elements.len()) {
            Some((_, start)) => {
                let mut rest = &reply[start..];
                for is_compared in &self.elements {
                    let (element, tail) = rest.split_at(resp::value_len(rest));
                    if *is_compared {
                        hasher.write(element);
                    }
                    rest = tail;
                }
            }
            None => hasher.write(reply),
        }
        *digest = hasher.finish();
    }

    /// The backends among `legs` whose replies are not those of `base`.
    fn differing(&self, legs: u16, base: u8) -> u16 {
        let is_other = |leg: &u8| self.digests[*leg as usize] != self.digests[base as usize];
        members(legs)
            .filter(is_other)
            .fold(0, |mask, leg| mask | 1 << leg)
    }
}

fn members(mask: u16) -> impl Iterator<Item = u8> {
    (0..16u8).filter(move |backend| mask & (1 << backend) != 0)
}

impl Worker {
    /// Compares the answers to a write that every in-sync replica has answered or failed. The op's
    /// `check` is gone when there is nothing (more) to wait for.
    pub(super) fn verify(&mut self, op: Handle) {
        let Some((pool, shard)) = self.ops.get(op).map(|op| (op.pool, op.shard)) else {
            return;
        };
        let in_sync = self.shard_table(pool, shard).in_sync;
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        let Some(check) = state.check.as_mut().filter(|check| check.differ == 0) else {
            return;
        };
        let legs = state.replied & in_sync & !state.refused & !state.failed;
        let has_lead = legs & (1 << state.lead) != 0;
        let base = if has_lead {
            state.lead
        } else {
            legs.trailing_zeros() as u8
        };
        let differ = if legs == 0 {
            0
        } else {
            check.differing(legs, base)
        };
        if differ == 0 || in_sync.count_ones() < 2 {
            state.check = None;
        } else if has_lead && check.keys.is_empty() {
            // Nobody knows what it wrote.
            self.give_up(op, differ, false);
        } else if has_lead {
            check.differ = differ;
            self.pool_stats(pool).of(PoolCount::Repairs).add(1);
            self.repair(op);
        } else {
            // The leader is lost, and who is right with it.
            self.give_up(op, differ, true);
        }
    }

    /// Sends the leader's state of a write's keys to all others, as a write of its own.
    fn repair(&mut self, op: Handle) {
        let Some(parent) = self.ops.get(op) else {
            return;
        };
        let Some(check) = &parent.check else { return };
        let (pool, shard) = (parent.pool, parent.shard);
        let (keys, mark) = (check.keys.clone(), check.item.unwrap_or(b""));
        let table = self.shard_table(pool, shard);
        let (targets, lead) = (table.in_sync, table.lead.unwrap_or(0));
        // Where otherwise the write stands is something that does nothing.
        let mut bytes = Vec::new();
        let (replies, shape, held, then) = match self.pools[pool as usize].protocol {
            Protocol::Redis => {
                let nothing = request(&[b"EXISTS", keys.first().map_or(b"", |key| key)]);
                transaction(&nothing, &keys, &mut bytes);
                let replies = 3 + 2 * keys.len() as u32;
                (replies, Shape::Last, Held::State(keys), ReplyKind::Line)
            }
            Protocol::Memcached => {
                bytes.extend_from_slice(b"mn\r\n");
                for key in &keys {
                    items::ask(&mut bytes, (key, mark));
                }
                let (replies, seen) = (1 + keys.len() as u32, Vec::new());
                let held = Held::Items {
                    keys,
                    mark,
                    replies: seen,
                };
                (replies, Shape::First, held, ReplyKind::Item)
            }
        };
        let entry = Op {
            lead,
            shape,
            held: Some(held),
            repairs: Some(op),
            ..parent.beside(targets, self.now_ms)
        };
        let batch = Batch {
            then,
            ..Batch::lines(&bytes, replies)
        };
        self.begin_own(entry, batch, false);
    }

    /// Begins what no client has asked for. The leader is asked at once; the others get the same in their
    /// turn, or what its answer is made into.
    fn begin_own(&mut self, entry: Op, batch: Batch<'_>, is_same: bool) {
        let (pool, shard, lane, lead) = (entry.pool, entry.shard, entry.lane, entry.lead);
        let op = self.ops.insert(entry);
        self.shard_state(pool, shard).begin_write(lane, Reach::Lane);
        // First into the log: sending may fail at once and looks for it there.
        self.shard_state(pool, shard).log.push_back(LogEntry {
            op,
            bytes: if is_same {
                batch.bytes.to_vec()
            } else {
                Vec::new()
            },
            replies: if is_same { batch.replies } else { 1 },
            kind: batch.kind,
            ready: is_same,
        });
        self.send_leg(op, lead, batch);
        self.flush_log(pool, shard);
    }

    /// Has those in sync that refused the leader's state of a write's keys show what they hold. Who holds
    /// something else leaves, before the client is answered; who only joins has refused it.
    pub(super) fn compare(&mut self, op: Handle, refused: u16, keys: &[Vec<u8>]) {
        let Some((pool, shard)) = self.ops.get(op).map(|op| (op.pool, op.shard)) else {
            return;
        };
        let refused = refused & self.shard_table(pool, shard).in_sync;
        let Some(parent) = self.ops.get_mut(op) else {
            return;
        };
        if refused == 0 {
            return self.check_op(op);
        }
        parent.refused &= !refused;
        let mut check = Check::new(Vec::new());
        check.differ = refused;
        parent.check = Some(check);
        // Not in a transaction, in which a server without memory takes no command at all.
        let mut bytes = Vec::new();
        for key in keys {
            ask_state(&mut bytes, key);
        }
        let entry = Op {
            check: Some(Check::of_replies()),
            repairs: Some(op),
            ..parent.beside(refused | 1 << parent.lead, self.now_ms)
        };
        let batch = Batch::lines(&bytes, 2 * keys.len() as u32);
        self.begin_own(entry, batch, true);
    }

    /// Has all that were sent a write get this too, each behind it.
    pub(super) fn put_records_back(&mut self, op: Handle, bytes: &[u8]) {
        let Some(state) = self.ops.get(op) else {
            return;
        };
        let entry = Op {
            members: state.members,
            ..state.beside(state.targets, self.now_ms)
        };
        self.begin_own(entry, Batch::lines(bytes, 1), true);
    }

    /// The repair of a write has ended.
    pub(super) fn repaired(&mut self, op: Handle, repair: &Op) {
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        let lead = 1u16 << repair.lead;
        let differ = state.check.as_ref().map_or(0, |check| check.differ);
        if repair.replied & lead & !repair.refused != 0 {
            state.check = None;
            self.check_op(op);
        } else {
            self.give_up(op, differ, repair.failed & lead != 0);
        }
    }

    /// The replicas in `differ` cannot be made equal to the leader, so they leave the view. If the leader
    /// is lost, its answer does not count, and one of those that are left has to stay.
    fn give_up(&mut self, op: Handle, differ: u16, lead_lost: bool) {
        let Some(state) = self.ops.get_mut(op) else {
            return;
        };
        state.check = None;
        let (pool, shard, to) = (state.pool, state.shard, state.to);
        let like_lead =
            state.replied & !state.refused & !state.failed & !differ & !(1 << state.lead);
        let stays = if lead_lost && like_lead == 0 {
            differ & differ.wrapping_neg()
        } else {
            0
        };
        let leave = differ & !stays;
        state.failed |= leave;
        state.replied &= !leave;
        let unknown = lead_lost && !state.answered;
        state.answered |= unknown;
        for backend in members(leave) {
            self.write_failed(pool, shard, backend, Failure::RefusedWrite);
        }
        if unknown {
            self.fail(pool, to, Wire::WriteLost);
        }
        self.check_op(op);
    }
}
