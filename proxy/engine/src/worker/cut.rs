//! A transaction cut into one batch per shard; `pieces.rs` puts the replies together again.
//!
//! Called by `transaction.rs` with EXEC, when one version of the routing table decides; sends nothing.

use super::ask::{count_reserved, request};
use super::exec::Facts;
use super::legs::MULTI;
use super::pieces::Piece;
use super::*;
use crate::command::channel;
use crate::command::queue::{self, Inside, Queue};
use crate::command::{self, Effect, FanKind, Handling, Row, SplitKind};
use crate::conn::lane;
use crate::error;
use crate::proto::{resp, Args, Resume};

/// RANDOMKEY is drawn so often, as a transaction is executed once: with two of ours beside one key it is not
/// found once in a hundred thousand million times.
const DRAWS: usize = 64;

/// A queue of `limits.request_bytes` may become so many times that: keys that are split take a request each, and
/// RANDOMKEY many of each shard.
const GROWTH: usize = 4;

/// One shard's part of a transaction.
pub(super) struct Part {
    pub spot: Spot,
    pub bytes: Vec<u8>,
    pub facts: Facts,
}

/// A transaction, cut.
#[derive(Default)]
pub(super) struct Cut {
    pub pieces: Vec<Piece>,
    pub parts: Vec<Part>,
}

impl Cut {
    /// The part of a shard.
    pub fn part(&mut self, spot: Spot) -> u16 {
        let found = self.parts.iter().position(|part| part.spot == spot);
        let at = found.unwrap_or_else(|| {
            let facts = Facts::EMPTY;
            let bytes = MULTI.to_vec();
            self.parts.push(Part { spot, bytes, facts });
            self.parts.len() - 1
        });
        at as u16
    }

    /// True if it takes so much more than what is queued, by commands that go to all shards, that it is not sent.
    pub fn is_beyond(&self, limit: usize) -> bool {
        let held: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
        held > GROWTH * limit
    }

    /// True if some of it is the proxy's to answer.
    pub fn has_own(&self) -> bool {
        let is_own = |piece: &Piece| matches!(piece, Piece::Own(text) if text.is_empty());
        self.pieces.iter().any(is_own)
    }

    /// Where all parts are in one array, which is the reply.
    pub fn is_plain(&self) -> bool {
        let is_part = |piece: &Piece| matches!(piece, Piece::Part(_));
        self.parts.len() == 1 && self.pieces.iter().all(is_part)
    }
}

impl Worker {
    /// Places the requests of a transaction.
    pub(super) fn cut(&mut self, pool: u16, lane: u8, queue: &Queue) -> Cut {
        let (mut list, mut cut) = (Vec::new(), Cut::default());
        let limit = self.shared.config.pools[pool as usize].request_bytes_limit;
        for frame in queue.frames() {
            if cut.is_beyond(limit) {
                break;
            }
            resp::request(frame, &mut list, &mut Resume::default(), usize::MAX);
            let args = Args {
                buf: frame,
                list: &list,
            };
            let Some(row) = self.row_of(pool, &args) else {
                let mut text = Vec::new();
                error::unknown_command(args.get(0), args.iter().skip(1), &mut text);
                cut.pieces.push(Piece::Own(text));
                continue;
            };
            let piece = match (row.inside(&args, lane::database(lane)), row.handling) {
                _ if queue::lacks_value(row, &args) => {
                    let mut text = Vec::new();
                    error::wrong_arity(row.name, &mut text);
                    Err(text)
                }
                (Inside::Split, Handling::Split(kind)) => self.cut_split(pool, row, kind, &args),
                (Inside::Own, _) => Ok(vec![]),
                (Inside::Fan(kind), _) => {
                    let piece = self.cut_fan(pool, lane, row, kind, &args, frame, &mut cut);
                    cut.pieces.push(piece);
                    continue;
                }
                (Inside::Publish, _) => self.cut_publish(pool, &args),
                _ => self
                    .cut_forward(pool, lane, row, &args)
                    .map(|spot| vec![spot]),
            };
            let piece = match piece {
                Err(text) => Piece::Own(text),
                Ok(spots) if spots.is_empty() => Piece::Own(Vec::new()),
                Ok(spots) if spots.len() == 1 => {
                    let part = cut.part(spots[0]);
                    let target = &mut cut.parts[part as usize];
                    match row.effect_of(&args) {
                        Effect::Program => add_made(target, row, &read_only(&args)),
                        _ => add(target, row, &args, frame),
                    }
                    Piece::Part(part)
                }
                Ok(_) => self.split_inside(row, &args, &mut cut),
            };
            cut.pieces.push(piece);
        }
        cut
    }

    /// The shard of a request's keys, or the error that EXEC has in its place.
    fn cut_forward(
        &mut self,
        pool: u16,
        lane: u8,
        row: &Row,
        args: &Args,
    ) -> Result<Spot, Vec<u8>> {
        if row.effect_of(args) == Effect::Moved && !self.has_databases(pool, row, args, lane) {
            return Err(Wire::DatabaseIndex.redis().to_vec());
        }
        let mut keys = std::mem::take(&mut self.keys);
        let spot = match command::keys(row, args, &mut keys) {
            Ok(()) => self
                .spot_of_request(pool, row, args, &keys)
                .map_err(|wire| wire.redis().to_vec()),
            Err(_) if command::keys::is_told_by_server(row) => self
                .one_spot(pool, args, &[])
                .map_err(|wire| wire.redis().to_vec()),
            Err(error) => {
                let mut text = Vec::new();
                command::keys::refuse(row, error, &mut text);
                Err(text)
            }
        };
        self.keys = keys;
        spot
    }

    fn cut_publish(&mut self, pool: u16, args: &Args) -> Result<Vec<Spot>, Vec<u8>> {
        let name = args.get(1);
        if command::is_reserved(name) {
            return Err(Wire::ReservedKey.redis().to_vec());
        }
        let shard = self.channel_shard(pool, channel::published_at(name));
        Ok(vec![Spot { pool, shard }])
    }

    /// The shards of the keys of a request that may be split, and the placement in `self.placed`.
    fn cut_split(
        &mut self,
        pool: u16,
        row: &Row,
        kind: SplitKind,
        args: &Args,
    ) -> Result<Vec<Spot>, Vec<u8>> {
        let stride = kind.stride();
        debug_assert!(!row.specs.is_empty());
        self.place(pool, (args.len() - 1) / stride, |i| {
            args.get(1 + i * stride)
        });
        let mut spots: Vec<Spot> = self.placed.iter().map(|(spot, _)| *spot).collect();
        spots.dedup();
        Ok(spots)
    }

    /// Adds a request that concerns all shards to the part of each, or of the first.
    #[allow(clippy::too_many_arguments)]
    fn cut_fan(
        &mut self,
        pool: u16,
        lane: u8,
        row: &'static Row,
        kind: FanKind,
        args: &Args,
        frame: &[u8],
        cut: &mut Cut,
    ) -> Piece {
        if kind == FanKind::Wait {
            return Piece::Own(self.wait_for_replicas(pool, args));
        }
        if kind == FanKind::Flush && !flush::is_flush(args) {
            return Piece::Own(Wire::Syntax.redis().to_vec());
        }
        if kind == FanKind::Scan {
            return self.cut_scan(pool, row, args, cut);
        }
        if kind == FanKind::ScriptLoad {
            // Whoever has to know it is told in front of the EVALSHA that names it.
            self.remember_script(args.get(2));
        }
        if kind == FanKind::Only && self.table.pools[pool as usize].shards.len() > 1 {
            self.pool_stats(pool).of(PoolCount::CrossShard).add(1);
            return Piece::Own(Wire::CrossSlot.redis().to_vec());
        }
        if kind == FanKind::Info {
            return self.cut_info(pool, lane, row, args, frame, cut);
        }
        let mut spots = self.spots_of_write(pool, row);
        if matches!(kind, FanKind::First | FanKind::Only | FanKind::ScriptLoad) {
            spots.truncate(1);
        }
        if spots.is_empty() {
            return Piece::Own(Wire::ShardLost.redis().to_vec());
        }
        let draws = if kind == FanKind::RandomKey { DRAWS } else { 0 };
        let mut parts = Vec::with_capacity(spots.len());
        let mut each = 1;
        for spot in spots {
            let reserved = &self.shard_table(spot.pool, spot.shard).reserved;
            let requests = match kind {
                FanKind::Flush => vec![flush::flush_request(args, reserved)],
                FanKind::Dbsize | FanKind::RandomKey => {
                    let mut requests = vec![request(&[b"DBSIZE"]), count_reserved(reserved)];
                    requests.extend((0..draws).map(|_| frame.to_vec()));
                    requests
                }
                _ => vec![frame.to_vec()],
            };
            each = requests.len();
            let part = cut.part(spot);
            for bytes in &requests {
                add_made(&mut cut.parts[part as usize], row, bytes);
            }
            parts.push(part);
        }
        let (dice, null) = (self.dice(), fan::null(lane));
        match kind {
            FanKind::First | FanKind::Only | FanKind::ScriptLoad => Piece::Part(parts[0]),
            _ => Piece::Fan {
                kind,
                parts,
                each,
                dice,
                null,
            },
        }
    }

    /// Adds a step of a SCAN to the part of its shard, and what tells who has answered.
    fn cut_scan(&mut self, pool: u16, row: &'static Row, args: &Args, cut: &mut Cut) -> Piece {
        let (shard, mut scan) = match self.scan_from(pool, args) {
            Ok(found) => found,
            Err(answer) => return Piece::Own(answer.to_vec()),
        };
        let lead = self.shard_table(pool, shard).lead;
        let tag = lead.map_or(0, |lead| self.tag_of(pool, shard, lead));
        let part = cut.part(Spot { pool, shard });
        for bytes in [request(&[b"INFO", b"server"]), scan.request(tag)] {
            add_made(&mut cut.parts[part as usize], row, &bytes);
        }
        Piece::Scan { part, shard, scan }
    }

    /// Adds what INFO asks of each shard, where our own keys are. A shard that is lost is left out.
    fn cut_info(
        &self,
        pool: u16,
        lane: u8,
        row: &'static Row,
        args: &Args,
        frame: &[u8],
        cut: &mut Cut,
    ) -> Piece {
        let mut shards = self.present(pool);
        shards.retain(|shard| self.shard_table(pool, *shard).lead.is_some());
        let (database, resp3) = (lane::database(lane), lane::is_resp3(lane));
        let Some(info) = facts::info_of_backends(args).filter(|_| !shards.is_empty()) else {
            let mut text = Vec::new();
            self.write_info(pool, resp3, frame, &[], &mut text);
            return Piece::Own(text);
        };
        let select = |database: u8| request(&[b"SELECT", database.to_string().as_bytes()]);
        let mut parts = Vec::with_capacity(shards.len());
        for shard in shards {
            let count = count_reserved(&self.shard_table(pool, shard).reserved);
            let mut requests = vec![count, info.clone()];
            if database != 0 {
                requests.insert(0, select(0));
                requests.push(select(database));
            }
            let part = cut.part(Spot { pool, shard });
            for bytes in &requests {
                add_made(&mut cut.parts[part as usize], row, bytes);
            }
            parts.push(part);
        }
        Piece::Info {
            parts,
            selects: database != 0,
            resp3,
            asked: frame.to_vec(),
        }
    }

    /// Adds one request of its own to each part that has keys of this one, as placed last.
    fn split_inside(&mut self, row: &'static Row, args: &Args, cut: &mut Cut) -> Piece {
        let Handling::Split(kind) = row.handling else {
            return Piece::Own(Wire::BadReply.redis().to_vec());
        };
        let stride = kind.stride();
        let mut order = vec![0; (args.len() - 1) / stride];
        let (mut parts, mut list) = (Vec::new(), Vec::new());
        for group in self.placed.chunk_by(|a, b| a.0 == b.0) {
            let mut bytes = Vec::new();
            split::write_part(&mut bytes, row, args, group, stride);
            for (_, i) in group {
                order[*i as usize] = parts.len() as u16;
            }
            resp::request(&bytes, &mut list, &mut Resume::default(), usize::MAX);
            let own = Args {
                buf: &bytes,
                list: &list,
            };
            let part = cut.part(group[0].0);
            add(&mut cut.parts[part as usize], row, &own, &bytes);
            parts.push(part);
        }
        Piece::Split {
            merge: kind.merge(row),
            parts,
            order,
        }
    }
}

/// A script without keys as one that only reads. What it writes could not be told from what the transaction's
/// other commands write, so the server does not let it.
fn read_only(args: &Args<'_>) -> Vec<u8> {
    let name = [args.get(0), b"_RO"].concat();
    let mut words: Vec<&[u8]> = vec![&name];
    words.extend(args.iter().skip(1));
    request(&words)
}

/// Adds a request to a part.
fn add(part: &mut Part, row: &Row, args: &Args<'_>, frame: &[u8]) {
    part.bytes.extend_from_slice(frame);
    part.facts.add(row, args);
}

/// The same for one that the proxy has made, for a command of this row.
fn add_made(part: &mut Part, row: &'static Row, bytes: &[u8]) {
    let mut list = Vec::new();
    resp::request(bytes, &mut list, &mut Resume::default(), usize::MAX);
    let args = Args {
        buf: bytes,
        list: &list,
    };
    add(part, command::find(&args).unwrap_or(row), &args, bytes);
}
