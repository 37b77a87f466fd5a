//! Requests whose keys are on several shards: one part per shard, and the parts' replies merged in
//! the order of the request's keys (Redis' `request_policy:multi_shard` and its `response_policy`).

use super::ask::Fan;
use super::forward::{Copies, Flow, Meta, Outgoing, Way};
use super::merge;
use super::pieces::{self, Piece};
use super::tally::Sheet;
use super::*;
use crate::command::channel::{self, QueryKind};
use crate::command::queue::Queue;
use crate::command::spec::Flags;
use crate::command::{Row, SplitKind};
use crate::conn::backend::WAIT_PART;
use crate::conn::ReplyTo;
use crate::error;
use crate::proto::memcache as text;
use crate::proto::{resp, Args};

/// How replies become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// Arrays, element by element in the order of the keys.
    Arrays,
    /// Integers, summed.
    Sum,
    /// The same of a write.
    Removed,
    /// The same line from all, of a write.
    Same,
    /// Answers of scripts without keys.
    Scripts { write: bool },
    /// Answers to PUBSUB.
    Channels(QueryKind),
    /// memcached `VALUE` blocks in the order of the keys, then END; a failed part is missing keys.
    Values,
    /// memcached `STAT` lines (`tally.rs`).
    Stats(Sheet),
    /// What memcached says of a value beyond its limit, once the key is deleted.
    TooLarge,
    /// EXEC's, command by command (`pieces.rs`).
    Exec,
    /// As the fan says (`fan.rs`).
    Fan,
}

impl SplitKind {
    /// Words per key: MSET has the value behind each key.
    pub(super) fn stride(self) -> usize {
        match self {
            SplitKind::Mset => 2,
            SplitKind::Mget | SplitKind::Sum => 1,
        }
    }

    pub(super) fn merge(self, row: &Row) -> Merge {
        match self {
            SplitKind::Mget => Merge::Arrays,
            SplitKind::Mset => Merge::Same,
            SplitKind::Sum if row.flags.has(Flags::WRITE) => Merge::Removed,
            SplitKind::Sum => Merge::Sum,
        }
    }
}

/// A request that was split.
pub(super) struct Gather {
    pub(super) to: ReplyTo,
    pub(super) pool: u16,
    pub(super) merge: Merge,
    pub(super) waiting: u16,
    pub(super) parts: Vec<Vec<u8>>,
    /// The part that has key `i`.
    pub(super) order: Vec<u16>,
    /// The keys themselves, where the replies are told apart by them.
    pub(super) keys: Vec<Vec<u8>>,
    /// Of a transaction: where its answers come from, and all that was queued if some of it is the proxy's to answer.
    pub(super) pieces: Vec<Piece>,
    pub(super) own: Option<Box<Queue>>,
    /// What is asked of whom, for `Merge::Fan`.
    pub(super) fan: Option<Box<Fan>>,
}

impl Gather {
    /// Of `count` answers that are no matter of order.
    pub fn unordered(
        to: ReplyTo,
        pool: u16,
        merge: Merge,
        count: usize,
        keys: Vec<Vec<u8>>,
    ) -> Self {
        Gather {
            to,
            pool,
            merge,
            waiting: count as u16,
            parts: vec![Vec::new(); count],
            order: Vec::new(),
            keys,
            pieces: Vec::new(),
            own: None,
            fan: None,
        }
    }
}

/// What a request is split into: the shard and the bytes of each part.
#[derive(Default)]
pub(super) struct Parts {
    pub spots: Vec<Spot>,
    pub bytes: Vec<Vec<u8>>,
    pub order: Vec<u16>,
    pub keys: Vec<Vec<u8>>,
}

/// Appends the request for one shard's keys of a split one; `group` are pairs of `Worker::placed`.
pub(super) fn write_part(
    out: &mut Vec<u8>,
    row: &Row,
    args: &Args<'_>,
    group: &[(Spot, u32)],
    stride: usize,
) {
    resp::write_array(out, 1 + group.len() * stride);
    resp::write_bulk(out, row.name.as_bytes());
    for (_, i) in group {
        for word in 0..stride {
            resp::write_bulk(out, args.get(1 + *i as usize * stride + word));
        }
    }
}

impl Worker {
    /// Groups `count` keys by shard. Leaves (spot, key number) pairs, sorted, in `self.placed`.
    pub(super) fn place<'a>(&mut self, pool: u16, count: usize, key: impl Fn(usize) -> &'a [u8]) {
        let mut placed = std::mem::take(&mut self.placed);
        placed.clear();
        for i in 0..count {
            placed.push((self.spot_of(pool, key(i)), i as u32));
        }
        placed.sort_unstable();
        self.placed = placed;
    }

    /// True if all keys placed last are on one shard.
    pub(super) fn is_one_shard(&self) -> bool {
        match (self.placed.first(), self.placed.last()) {
            (Some(first), Some(last)) => first.0 == last.0,
            _ => true,
        }
    }

    /// Sends the parts of a client's request, all of them or, if one has to wait, none.
    /// `like` is what the parts have in common.
    pub(super) fn dispatch_parts(
        &mut self,
        who: Handle,
        meta: Meta,
        merge: Merge,
        parts: Parts,
        like: &Outgoing,
    ) -> Flow {
        if self.is_watchful && self.is_aside(who) {
            if let Some(client) = self.clients.get_mut(who) {
                client.block = Block::Drain;
            }
            return Flow::Wait;
        }
        let mut ways = Vec::with_capacity(parts.spots.len());
        let mut watched = None;
        for (spot, bytes) in parts.spots.iter().zip(&parts.bytes) {
            let out = Outgoing {
                pool: spot.pool,
                shard: spot.shard,
                bytes,
                ..*like
            };
            if !like.write && self.is_watched(who, &out) {
                if !self.is_drained(who) {
                    return Flow::Wait;
                }
                watched = Some(*spot);
                ways.push(self.lease_way(*spot));
                continue;
            }
            let way = self.way(who, &out);
            if let Way::Wait(block) = way {
                return self.wait(who, meta, block, &out);
            }
            ways.push(way);
        }
        self.pool_stats(like.pool).of(PoolCount::Split).add(1);
        let seq = self.open_slot(who, meta, &ways);
        let Parts {
            spots,
            bytes,
            order,
            keys,
        } = parts;
        let to = ReplyTo::Slot { client: who, seq };
        let spare = (0..spots.len()).map(|_| self.spare.pop().unwrap_or_default());
        let spare = spare.collect();
        let gather = self.gathers.insert(Gather {
            waiting: spots.len() as u16,
            parts: spare,
            order,
            ..Gather::unordered(to, like.pool, merge, 0, keys)
        });
        for (part, (spot, way)) in spots.iter().zip(ways).enumerate() {
            let restore = match like.trailer.is_empty() {
                true => Vec::new(),
                false => self.shard_table(spot.pool, spot.shard).restore.clone(),
            };
            let out = Outgoing {
                pool: spot.pool,
                shard: spot.shard,
                bytes: &bytes[part],
                trailer: &restore,
                ..*like
            };
            let part = part as u16;
            debug_assert!(part < WAIT_PART);
            let local = ReplyTo::Part {
                gather,
                part,
                last: true,
            };
            match way {
                _ if watched == Some(*spot) => self.read_of_watching(who, way, local, &out),
                Way::There(worker) => {
                    let to = ReplyTo::Remote {
                        worker: self.id as u8,
                        target: gather,
                        seq,
                        part,
                    };
                    self.hand_over(worker, to, &out);
                }
                _ => {
                    let to = ReplyTo::Part {
                        gather,
                        part,
                        last: true,
                    };
                    self.send_part(to, &out);
                }
            }
        }
        Flow::Taken
    }

    /// A place for the parts of a transaction.
    pub(super) fn gather_exec(
        &mut self,
        to: ReplyTo,
        pool: u16,
        count: usize,
        pieces: Vec<Piece>,
        own: Option<Box<Queue>>,
    ) -> Handle {
        self.gathers.insert(Gather {
            pieces,
            own,
            ..Gather::unordered(to, pool, Merge::Exec, count, Vec::new())
        })
    }

    /// Sends a part. What it is to a backend that joins follows from its own bytes.
    fn send_part(&mut self, to: ReplyTo, out: &Outgoing) {
        let is_made = matches!(out.copies, Copies::FromBytes);
        if !is_made && (!out.write || self.shard_table(out.pool, out.shard).joining == 0) {
            self.send(to, out);
            return;
        }
        let Outgoing {
            pool, shard, lane, ..
        } = *out;
        self.carry_out(&Handover {
            pool,
            shard,
            lane,
            to,
            bytes: out.bytes.to_vec(),
        });
    }

    /// One of several replies that a part consists of.
    pub(super) fn begin_part(&mut self, at: Handle, part: u16, bytes: &[u8]) {
        if let Some(gather) = self.gathers.get_mut(at) {
            gather.parts[part as usize].extend_from_slice(bytes);
        }
    }

    /// A part is answered; with the last one the whole is.
    pub(super) fn fill_part(&mut self, at: Handle, part: u16, bytes: &[u8]) {
        let Some(gather) = self.gathers.get_mut(at) else {
            return;
        };
        if gather.fan.is_some() && self.ask_again(at, part, bytes) {
            return;
        }
        let Some(gather) = self.gathers.get_mut(at) else {
            return;
        };
        gather.parts[part as usize].extend_from_slice(bytes);
        gather.waiting -= 1;
        if gather.waiting > 0 {
            return;
        }
        let Some(mut gather) = self.gathers.remove(at) else {
            return;
        };
        self.answer_executed(&mut gather);
        let mut reply = std::mem::take(&mut self.scratch);
        reply.clear();
        match gather.merge {
            Merge::Arrays => merge_arrays(&gather, &mut reply),
            Merge::Sum => merge_sum(&gather, &mut reply),
            Merge::Removed => merge_removed(&gather, &mut reply),
            Merge::Same => merge_same(&gather, &mut reply),
            Merge::Scripts { write } => merge_scripts(&gather, write, &mut reply),
            Merge::Channels(kind) => merge_channels(&gather, kind, &mut reply),
            Merge::Values => merge_values(&gather, &mut reply),
            Merge::Stats(sheet) => self.merge_stats(gather.pool, sheet, &gather.parts, &mut reply),
            Merge::TooLarge => merge_too_large(&gather, &mut reply),
            Merge::Exec => {
                let (worker, pool) = (&*self, gather.pool);
                let write = pieces::OfPool { worker, pool };
                pieces::merge(&gather.pieces, &gather.parts, &write, &mut reply)
            }
            Merge::Fan => {
                self.scratch = reply;
                self.finish_fan(gather);
                return;
            }
        }
        self.deliver(gather.to, &reply);
        self.scratch = reply;
        self.recycle(gather.parts);
    }

    /// Keeps buffers for later.
    pub(super) fn recycle(&mut self, buffers: Vec<Vec<u8>>) {
        for mut buffer in buffers {
            if self.spare.len() < 1024 && buffer.capacity() <= READ_BYTES {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
    }
}

/// Appends what the replies of one request's parts are together.
pub(super) fn merge_elements(
    merge: Merge,
    parts: Vec<Vec<u8>>,
    order: Vec<u16>,
    out: &mut Vec<u8>,
) {
    let gather = Gather {
        parts,
        order,
        ..Gather::unordered(ReplyTo::Nobody, 0, merge, 0, Vec::new())
    };
    let mut reply = Vec::new();
    match merge {
        Merge::Arrays => merge_arrays(&gather, &mut reply),
        Merge::Sum => merge_sum(&gather, &mut reply),
        Merge::Removed => merge_removed(&gather, &mut reply),
        _ => merge_same(&gather, &mut reply),
    }
    out.extend_from_slice(&reply);
}

/// The first error of a Redis part, if there is one: a sum or an array without it would be wrong.
fn first_error(gather: &Gather) -> Option<&Vec<u8>> {
    gather.parts.iter().find(|part| resp::is_error(part))
}

fn merge_channels(gather: &Gather, kind: QueryKind, out: &mut Vec<u8>) {
    match first_error(gather) {
        Some(error) => out.extend_from_slice(error),
        None => channel::merge(kind, &gather.keys, &gather.parts, out),
    }
}

fn merge_scripts(gather: &Gather, write: bool, out: &mut Vec<u8>) {
    let error = match write {
        true => failure(gather),
        false => first_error(gather).map(Vec::as_slice),
    };
    match error {
        Some(error) => out.extend_from_slice(error),
        None => merge::scripts(&gather.parts, out),
    }
}

fn merge_arrays(gather: &Gather, out: &mut Vec<u8>) {
    if let Some(error) = first_error(gather) {
        out.extend_from_slice(error);
        return;
    }
    let mut at: Vec<usize> = Vec::with_capacity(gather.parts.len());
    for part in &gather.parts {
        match resp::aggregate(part) {
            Some((_, start)) => at.push(start),
            None => {
                out.extend_from_slice(Wire::BadReply.redis());
                return;
            }
        }
    }
    resp::write_array(out, gather.order.len());
    for part in &gather.order {
        let rest = &gather.parts[*part as usize][at[*part as usize]..];
        if rest.is_empty() {
            out.clear();
            out.extend_from_slice(Wire::BadReply.redis());
            return;
        }
        let len = resp::value_len(rest);
        out.extend_from_slice(&rest[..len]);
        at[*part as usize] += len;
    }
}

fn merge_sum(gather: &Gather, out: &mut Vec<u8>) {
    if let Some(error) = first_error(gather) {
        out.extend_from_slice(error);
        return;
    }
    let sum: i64 = gather
        .parts
        .iter()
        .filter_map(|part| resp::integer(part))
        .sum();
    out.extend_from_slice(format!(":{sum}\r\n").as_bytes());
}

fn merge_removed(gather: &Gather, out: &mut Vec<u8>) {
    match failure(gather) {
        Some(error) => out.extend_from_slice(error),
        None => merge_sum(gather, out),
    }
}

fn merge_too_large(gather: &Gather, out: &mut Vec<u8>) {
    let error = gather.parts.iter().find(|part| text::is_error(part));
    let text = error.map_or(Wire::RequestTooLarge.memcached(), Vec::as_slice);
    out.extend_from_slice(text);
}

fn merge_same(gather: &Gather, out: &mut Vec<u8>) {
    let done = gather.parts.first().map_or(b"".as_slice(), Vec::as_slice);
    out.extend_from_slice(failure(gather).unwrap_or(done));
}

/// What is told of a write of which not all parts were done. If its parts fared differently, none of their
/// errors says what is true of the whole.
fn failure(gather: &Gather) -> Option<&[u8]> {
    #[derive(PartialEq)]
    enum Fate {
        Done,
        Undone,
        Unknown,
    }
    let fate = |part: &Vec<u8>| match part {
        part if error::is_doubt(part) => Fate::Unknown,
        part if resp::is_error(part) || text::is_error(part) => Fate::Undone,
        _ => Fate::Done,
    };
    let first = gather.parts.first()?;
    let expected = fate(first);
    if gather.parts.iter().any(|part| fate(part) != expected) {
        let is_redis = gather.parts.iter().any(|part| resp::is_error(part));
        let wire = Wire::SplitPartFailed;
        return Some(if is_redis {
            wire.redis()
        } else {
            wire.memcached()
        });
    }
    (expected != Fate::Done).then_some(first)
}

fn merge_values(gather: &Gather, out: &mut Vec<u8>) {
    let mut at = vec![0usize; gather.parts.len()];
    for (key, part) in gather.keys.iter().zip(&gather.order) {
        let rest = &gather.parts[*part as usize][at[*part as usize]..];
        if let Some((found, len)) = text::value_block(rest) {
            if found == &key[..] {
                out.extend_from_slice(&rest[..len]);
                at[*part as usize] += len;
            }
        }
    }
    // No error line ever stands inside or instead of a stream of values, unless nothing came at all.
    if out.is_empty() && gather.parts.iter().all(|part| text::is_error(part)) {
        out.extend_from_slice(&gather.parts[0]);
        return;
    }
    out.extend_from_slice(b"END\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(merge: Merge, parts: &[&[u8]], order: &[u16], keys: &[&[u8]]) -> Gather {
        let keys = keys.iter().map(|key| key.to_vec()).collect();
        Gather {
            parts: parts.iter().map(|part| part.to_vec()).collect(),
            order: order.to_vec(),
            ..Gather::unordered(ReplyTo::Nobody, 0, merge, parts.len(), keys)
        }
    }

    #[test]
    fn arrays_come_in_the_order_of_the_keys() {
        let parts = [&b"*2\r\n$1\r\na\r\n$-1\r\n"[..], b"*1\r\n$3\r\nb\r\n\r\n"];
        let mut out = Vec::new();
        merge_arrays(&gather(Merge::Arrays, &parts, &[0, 1, 0], &[]), &mut out);
        assert_eq!(out, b"*3\r\n$1\r\na\r\n$3\r\nb\r\n\r\n$-1\r\n");
    }

    #[test]
    fn an_error_of_one_part_is_the_answer() {
        let mut out = Vec::new();
        merge_sum(
            &gather(Merge::Sum, &[b":1\r\n", b"-ERR x\r\n"], &[], &[]),
            &mut out,
        );
        assert_eq!(out, b"-ERR x\r\n");
    }

    #[test]
    fn a_write_of_which_a_part_failed_is_told_as_what_it_is() {
        let merged = |merge, parts: &[&[u8]]| {
            let mut out = Vec::new();
            match merge {
                Merge::Same => merge_same(&gather(merge, parts, &[], &[]), &mut out),
                _ => merge_removed(&gather(merge, parts, &[], &[]), &mut out),
            }
            out
        };
        let split = Wire::SplitPartFailed;
        let (lost, unknown) = (Wire::ShardLost.redis(), Wire::WriteLost.redis());
        assert_eq!(merged(Merge::Removed, &[b":1\r\n", b":2\r\n"]), b":3\r\n");
        assert_eq!(merged(Merge::Same, &[b"+OK\r\n", b"+OK\r\n"]), b"+OK\r\n");
        for (merge, done) in [(Merge::Same, &b"+OK\r\n"[..]), (Merge::Removed, b":1\r\n")] {
            assert_eq!(merged(merge, &[done, lost]), split.redis());
            assert_eq!(merged(merge, &[lost, unknown]), split.redis());
            assert_eq!(merged(merge, &[b"-OOM x\r\n", done]), split.redis());
            assert_eq!(merged(merge, &[lost, b"-OOM x\r\n"]), lost);
            assert_eq!(merged(merge, &[unknown, unknown]), unknown);
        }
        let lost = Wire::ShardLost.memcached();
        assert_eq!(merged(Merge::Same, &[b"OK\r\n", lost]), split.memcached());
        assert_eq!(merged(Merge::Same, &[lost, lost]), lost);
    }

    #[test]
    fn values_come_in_the_order_of_the_keys_and_failed_parts_are_missing() {
        let parts = [
            &b"VALUE a 0 1\r\n1\r\nVALUE c 0 1\r\n3\r\nEND\r\n"[..],
            b"SERVER_ERROR x\r\n",
        ];
        let mut out = Vec::new();
        let keys = [&b"c0"[..], b"a", b"b", b"c"];
        merge_values(
            &gather(Merge::Values, &parts, &[1, 0, 1, 0], &keys),
            &mut out,
        );
        assert_eq!(out, b"VALUE a 0 1\r\n1\r\nVALUE c 0 1\r\n3\r\nEND\r\n");
    }
}
