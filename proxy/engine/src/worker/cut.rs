//! A transaction cut into one batch per shard, and the replies put together again in the order of its commands.
//!
//! Called by `transaction.rs` with EXEC, when one version of the routing table decides; sends nothing.

use super::ask::{count_reserved, request};
use super::exec::Facts;
use super::legs::MULTI;
use super::merge::{self, Drawn};
use super::scan::Scan;
use super::split::{self, Merge};
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

/// Where the answer to one command of a transaction comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The proxy.
    Own(Vec<u8>),
    /// The next element of this part's EXEC.
    Part(u16),
    /// One element of each of these parts; `order` as in `Gather`, by position in `parts`.
    Split {
        merge: Merge,
        parts: Vec<u16>,
        order: Vec<u16>,
    },
    /// So many elements of each of these parts.
    Fan {
        kind: FanKind,
        parts: Vec<u16>,
        each: usize,
        /// For RANDOMKEY: any number, and what no key is.
        dice: u64,
        null: &'static [u8],
    },
    /// Of this part INFO, and the page of a SCAN.
    Scan { part: u16, shard: u16, scan: Scan },
    /// Of each of these parts how many of our own keys there are, and its INFO; `selects` if the database was
    /// changed before and is changed back. `asked` is the client's request.
    Info {
        parts: Vec<u16>,
        selects: bool,
        resp3: bool,
        asked: Vec<u8>,
    },
}

/// Writes the answers that take more than what the servers have said.
pub(super) trait Write {
    /// INFO: RESP3 or not, the client's request, what each shard said.
    fn info(&self, resp3: bool, asked: &[u8], parts: &[Vec<u8>], out: &mut Vec<u8>);
    /// A step of a SCAN: the shard, what was asked, who has answered (INFO), the page.
    fn page(&self, shard: u16, scan: &Scan, info: &[u8], page: &[u8], out: &mut Vec<u8>);
}

/// With what a worker knows of a pool.
pub(super) struct OfPool<'a> {
    pub worker: &'a Worker,
    pub pool: u16,
}

impl Write for OfPool<'_> {
    fn info(&self, resp3: bool, asked: &[u8], parts: &[Vec<u8>], out: &mut Vec<u8>) {
        self.worker.write_info(self.pool, resp3, asked, parts, out);
    }

    fn page(&self, shard: u16, scan: &Scan, info: &[u8], page: &[u8], out: &mut Vec<u8>) {
        let answered = self
            .worker
            .scanned_inside(self.pool, shard, scan, info, page, out);
        if let Err(error) = answered {
            out.extend_from_slice(error);
        }
    }
}

/// Appends what the parts of a command over all shards come to.
fn merge_fan(kind: FanKind, parts: &[Vec<u8>], dice: u64, null: &[u8], out: &mut Vec<u8>) {
    let mut made = Vec::new();
    let merged = match kind {
        FanKind::Dbsize => {
            merge::dbsize(parts).map(|sum| made.extend_from_slice(format!(":{sum}\r\n").as_bytes()))
        }
        FanKind::Keys => merge::keys(parts).map(|keys| merge::write_values(&mut made, &keys)),
        FanKind::RandomKey => merge::random_key(parts, dice).map(|drawn| match drawn {
            Drawn::Key(key) => made.extend_from_slice(key),
            Drawn::Nothing | Drawn::Again => made.extend_from_slice(null),
        }),
        FanKind::ScriptExists => {
            merge::all_of(parts).map(|flags| merge::write_flags(&mut made, &flags))
        }
        FanKind::FunctionStats => merge::running(parts).map(|part| made.extend_from_slice(part)),
        FanKind::Least => merge::least(parts)
            .map(|least| made.extend_from_slice(format!(":{least}\r\n").as_bytes())),
        _ => {
            split::merge_elements(Merge::Same, parts.to_vec(), Vec::new(), &mut made);
            Ok(())
        }
    };
    match merged {
        Ok(()) => out.extend_from_slice(&made),
        Err(error) => out.extend_from_slice(error),
    }
}

/// Merges the parts' replies in the order of the commands. A part that failed has its error in the place of
/// each of its commands, as the others were carried out; if all failed, the first error is the answer.
pub(super) fn merge(pieces: &[Piece], parts: &[Vec<u8>], write: &dyn Write, out: &mut Vec<u8>) {
    let is_null = |part: &&Vec<u8>| part.starts_with(b"*-1") || part.starts_with(b"_");
    if let Some(null) = parts.iter().find(is_null) {
        out.extend_from_slice(null);
        return;
    }
    let is_failed = |part: &Vec<u8>| resp::aggregate(part).is_none();
    if let Some(first) = parts.first().filter(|_| parts.iter().all(is_failed)) {
        out.extend_from_slice(first);
        return;
    }
    let start = |part: &Vec<u8>| resp::aggregate(part).map(|(_, start)| start);
    let mut at: Vec<Option<usize>> = parts.iter().map(start).collect();
    let mut is_whole = true;
    let mut next = |part: u16| -> &[u8] {
        let bytes = &parts[part as usize][..];
        let Some(from) = at[part as usize] else {
            return bytes;
        };
        let rest = &bytes[from..];
        is_whole &= !rest.is_empty();
        let len = if rest.is_empty() {
            0
        } else {
            resp::value_len(rest)
        };
        at[part as usize] = Some(from + len);
        &rest[..len]
    };
    resp::write_array(out, pieces.len());
    for piece in pieces {
        match piece {
            Piece::Own(answer) => out.extend_from_slice(answer),
            Piece::Part(part) => out.extend_from_slice(next(*part)),
            Piece::Split {
                merge,
                parts,
                order,
            } => {
                let elements = parts.iter().map(|part| next(*part).to_vec()).collect();
                split::merge_elements(*merge, elements, order.clone(), out);
            }
            Piece::Fan {
                kind,
                parts,
                each,
                dice,
                null,
            } => {
                let elements: Vec<Vec<u8>> = parts
                    .iter()
                    .map(|part| (0..*each).flat_map(|_| next(*part).to_vec()).collect())
                    .collect();
                merge_fan(*kind, &elements, *dice, null, out);
            }
            Piece::Scan { part, shard, scan } => {
                let (info, page) = (next(*part).to_vec(), next(*part));
                write.page(*shard, scan, &info, page, out);
            }
            Piece::Info {
                parts,
                selects,
                resp3,
                asked,
            } => {
                let mut elements = Vec::with_capacity(parts.len());
                for part in parts {
                    let mut read = || next(*part).to_vec();
                    if *selects {
                        read();
                    }
                    elements.push([read(), read()].concat());
                    if *selects {
                        read();
                    }
                }
                write.info(*resp3, asked, &elements, out);
            }
        }
    }
    if !is_whole {
        out.clear();
        out.extend_from_slice(Wire::BadReply.redis());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Write for Plain {
        fn info(&self, _: bool, asked: &[u8], parts: &[Vec<u8>], out: &mut Vec<u8>) {
            out.extend_from_slice(asked);
            parts.iter().for_each(|part| out.extend_from_slice(part));
        }

        fn page(&self, _: u16, _: &Scan, _: &[u8], page: &[u8], out: &mut Vec<u8>) {
            out.extend_from_slice(page);
        }
    }

    fn merged(pieces: &[Piece], parts: &[&[u8]]) -> String {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let mut out = Vec::new();
        merge(pieces, &parts, &Plain, &mut out);
        String::from_utf8_lossy(&out).replace("\r\n", " ")
    }

    #[test]
    fn answers_come_in_the_order_of_the_commands() {
        let split = Piece::Split {
            merge: Merge::Arrays,
            parts: vec![0, 1],
            order: vec![1, 0, 1],
        };
        let own = Piece::Own(b"+PONG\r\n".to_vec());
        let pieces = [Piece::Part(1), own, split, Piece::Part(0)];
        let parts = [
            &b"*2\r\n*1\r\n$1\r\nb\r\n:7\r\n"[..],
            b"*2\r\n+OK\r\n*2\r\n$1\r\na\r\n$1\r\nc\r\n",
        ];
        let expected = "*4 +OK +PONG *3 $1 a $1 b $1 c :7 ";
        assert_eq!(merged(&pieces, &parts), expected);
    }

    #[test]
    fn a_part_that_failed_has_its_error_in_each_place() {
        let sum = Piece::Split {
            merge: Merge::Sum,
            parts: vec![0, 1],
            order: vec![],
        };
        let pieces = [Piece::Part(0), Piece::Part(1), sum];
        let parts = [&b"*2\r\n+OK\r\n:1\r\n"[..], b"-CLUSTERDOWN x\r\n"];
        let expected = "*3 +OK -CLUSTERDOWN x -CLUSTERDOWN x ";
        assert_eq!(merged(&pieces, &parts), expected);
        let parts = [&b"-EXECABORT y\r\n"[..], b"-CLUSTERDOWN x\r\n"];
        assert_eq!(merged(&pieces, &parts), "-EXECABORT y ");
    }

    #[test]
    fn what_concerns_all_shards_has_elements_of_each() {
        let fan = |kind, each| Piece::Fan {
            kind,
            parts: vec![0, 1],
            each,
            dice: 4,
            null: b"$-1\r\n",
        };
        let pieces = [
            fan(FanKind::Dbsize, 2),
            Piece::Part(1),
            fan(FanKind::Flush, 1),
        ];
        let parts = [
            &b"*3\r\n:5\r\n:1\r\n+OK\r\n"[..],
            b"*4\r\n:7\r\n:0\r\n$1\r\nx\r\n+OK\r\n",
        ];
        assert_eq!(merged(&pieces, &parts), "*3 :11 $1 x +OK ");
        let parts = [parts[0], b"-CLUSTERDOWN x\r\n"];
        let told = merged(&pieces, &parts);
        assert!(
            told.starts_with("*3 -CLUSTERDOWN x -CLUSTERDOWN x -ERR outcome unknown"),
            "{told}"
        );
    }

    #[test]
    fn info_is_written_from_what_each_shard_said() {
        let info = |selects| Piece::Info {
            parts: vec![0, 1],
            selects,
            resp3: false,
            asked: b"+asked\r\n".to_vec(),
        };
        let parts = [
            &b"*3\r\n:1\r\n$1\r\na\r\n+OK\r\n"[..],
            b"*2\r\n:2\r\n$1\r\nb\r\n",
        ];
        let pieces = [info(false), Piece::Part(0)];
        assert_eq!(merged(&pieces, &parts), "*2 +asked :1 $1 a :2 $1 b +OK ");
        let parts = [&b"*4\r\n+OK\r\n:1\r\n$1\r\na\r\n+OK\r\n"[..]; 2];
        assert_eq!(merged(&[info(true)], &parts), "*1 +asked :1 $1 a :1 $1 a ");
    }

    #[test]
    fn null_is_null_and_what_is_missing_is_no_answer() {
        for null in [&b"*-1\r\n"[..], b"_\r\n"] {
            let expected = String::from_utf8_lossy(null).replace("\r\n", " ");
            assert_eq!(merged(&[Piece::Part(0)], &[null]), expected);
        }
        let told = merged(&[Piece::Part(0), Piece::Part(0)], &[b"*1\r\n+OK\r\n"]);
        assert!(told.contains("malformed"), "{told}");
    }
}
