//! Lists of all keys for a Memcached client: `lru_crawler metadump` and `mgdump`, `stats cachedump`, of one shard
//! after the other.
//!
//! A server sends such a list alone on a connection, as fast as it is read, and the keys in it may be any bytes.
//! So each has a connection of its own to the shard's leader, logged in and verified like the others, which is
//! closed when the list is over; the ones that requests share never carry it.
//!
//! ```text
//! Next ─► connect ─► Asked ─► lines, less our own keys, straight into the client's output ─► END ─► Next ... END
//!           ▲                   │ BUSY: somebody else has that server list its keys
//!           └─── Later ◄────────┘
//! ```
//! Nothing is kept but the line that is not whole yet. While the client's output is full the server is not read,
//! which holds up its crawler; so a client that does not read is cut off after some seconds.

use super::forward::{Flow, Meta, Way};
use super::*;
use crate::command;
use crate::conn::{Conn, ReplyTo};
use crate::proto::dump::{Kind, Next};

/// Lists under way, per worker.
const DUMPS_LIMIT: usize = 16;
/// In which a client has to take in half of its full output.
const STALL_MS: u64 = 5_000;
/// A server that says nothing for so long is given up.
const SILENCE_MS: u64 = 10_000;
/// A busy server is asked again after this, but not for longer than that.
const BUSY_MS: u64 = 50;
const BUSY_LIMIT_MS: u64 = 5_000;
/// No line of a list is longer: a key, each byte of it as three, and some numbers.
const LINE_LIMIT: usize = 16 * 1024;
const BUSY: &[u8] = b"BUSY currently processing crawler request\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next shard is to be asked.
    Next,
    Asked,
    /// The shard is to be asked again at this millisecond of the worker clock.
    Later(u64),
}

pub(super) struct Dump {
    /// The client and its slot, which is its first.
    client: Handle,
    seq: u32,
    pool: u16,
    kind: Kind,
    request: Vec<u8>,
    /// Still to be asked, the last one first.
    shards: Vec<u16>,
    shard: u16,
    conn: u32,
    stage: Stage,
    /// The start of a line.
    rest: Vec<u8>,
    /// The client was shown something.
    has_begun: bool,
    /// Milliseconds of the worker clock; 0 for not.
    heard_at: u64,
    stalled_at: u64,
    busy_since: u64,
}

impl Worker {
    /// Begins a list for a client.
    pub(super) fn begin_dump(
        &mut self,
        who: Handle,
        meta: Meta,
        kind: Kind,
        request: Vec<u8>,
    ) -> Flow {
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        let pool = client.pool;
        if !client.slots.is_empty() {
            client.block = Block::Drain;
            return Flow::Wait;
        }
        if self.dumps.len() >= DUMPS_LIMIT {
            self.reply_now(who, meta, BUSY);
            return Flow::Taken;
        }
        let mut shards = self.present(pool);
        shards.reverse();
        let seq = self.open_slot(who, meta, &[Way::Here]);
        let dump = self.dumps.insert(Dump {
            client: who,
            seq,
            pool,
            kind,
            request,
            shards,
            shard: 0,
            conn: NO_CONN,
            stage: Stage::Next,
            rest: Vec::new(),
            has_begun: false,
            heard_at: 0,
            stalled_at: 0,
            busy_since: 0,
        });
        self.idle = false;
        self.step_dump(dump);
        Flow::Taken
    }

    /// Goes on with every list; called by the tick.
    pub(super) fn tend_dumps(&mut self) {
        for dump in self.dumps.handles() {
            self.step_dump(dump);
        }
    }

    fn step_dump(&mut self, at: Handle) {
        let now = self.now_ms;
        let Some(dump) = self.dumps.get_mut(at) else {
            return;
        };
        let (pool, client) = (dump.pool, dump.client);
        let limit = self.shared.config.pools[pool as usize].client_output_limit;
        let Some(waiting) = self.clients.get(client).map(|client| client.out.waiting()) else {
            self.remove_dump(at);
            return;
        };
        match dump.stage {
            Stage::Next => match dump.shards.pop() {
                Some(shard) => {
                    (dump.shard, dump.busy_since) = (shard, 0);
                    self.ask_dump(at);
                }
                None => {
                    let end = dump.kind.end();
                    self.end_dump(at, end, true);
                }
            },
            Stage::Later(due) if now < due => {}
            Stage::Later(_) => self.ask_dump(at),
            Stage::Asked => {
                let conn = dump.conn;
                let (stalled_at, heard_at) = (dump.stalled_at, dump.heard_at);
                let is_lost = matches!(
                    self.conns[conn as usize].state,
                    ConnState::Closed | ConnState::Held
                );
                if is_lost || (stalled_at == 0 && now > heard_at + SILENCE_MS) {
                    self.end_dump(at, Wire::ReadLost.memcached(), false);
                } else if stalled_at > 0 && waiting <= full_mark(limit) / 2 {
                    dump.stalled_at = 0;
                    dump.heard_at = now;
                    // To the end of what has come: no edge will tell of it again.
                    self.read_conn(conn, true);
                } else if stalled_at > 0 && now > stalled_at + STALL_MS {
                    self.pool_stats(pool).of(PoolCount::OutputClosed).add(1);
                    self.close_client(client);
                    self.remove_dump(at);
                }
            }
        }
    }

    /// Connects to the leader of the list's shard.
    fn ask_dump(&mut self, at: Handle) {
        let Some(dump) = self.dumps.get_mut(at) else {
            return;
        };
        let (pool, shard) = (dump.pool, dump.shard);
        (dump.stage, dump.heard_at) = (Stage::Asked, self.now_ms);
        let Some(lead) = self.shard_table(pool, shard).lead else {
            self.end_dump(at, Wire::ShardLost.memcached(), false);
            return;
        };
        let index = match self.dump_conns.pop() {
            Some(index) => index,
            None => {
                self.conns.push(Conn::new(pool, shard, lead, 0, false));
                self.conns.len() as u32 - 1
            }
        };
        let conn = &mut self.conns[index as usize];
        *conn = Conn {
            generation: conn.generation,
            dump: Some(at),
            ..Conn::new(pool, shard, lead, 0, false)
        };
        if let Some(dump) = self.dumps.get_mut(at) {
            dump.conn = index;
        }
        self.connect(index);
    }

    /// The connection of a list may be used.
    pub(super) fn dump_opened(&mut self, index: u32, at: Handle) {
        if let Some(dump) = self.dumps.get(at) {
            self.conns[index as usize].out.extend(&dump.request);
            self.mark_conn(index);
        }
    }

    /// True while what the server has sent is not to be read.
    pub(super) fn is_dump_stalled(&self, at: Handle) -> bool {
        self.dumps.get(at).is_some_and(|dump| dump.stalled_at > 0)
    }

    /// Takes what a server has sent of its list.
    pub(super) fn dump_read(&mut self, at: Handle, bytes: &[u8]) {
        let now = self.now_ms;
        let Some(dump) = self.dumps.get_mut(at) else {
            return;
        };
        if dump.stage != Stage::Asked {
            return;
        }
        dump.heard_at = now;
        dump.rest.extend_from_slice(bytes);
        let mut text = self.spare.pop().unwrap_or_default();
        let (mut next, mut from) = (Next::More, 0);
        while let Some(end) = memchr::memchr(b'\n', &dump.rest[from..]) {
            let line = from..from + end + 1;
            from = line.end;
            next = dump
                .kind
                .take(&dump.rest[line.clone()], command::is_reserved, &mut text);
            if next == Next::Refused {
                dump.rest = dump.rest[line].to_vec();
            }
            if next != Next::More {
                break;
            }
        }
        if next == Next::More {
            dump.rest.drain(..from);
        }
        dump.has_begun |= !text.is_empty();
        let who = dump.client;
        let limit = self.shared.config.pools[dump.pool as usize].client_output_limit;
        if let Some(client) = self.clients.get_mut(who) {
            client.out.extend(&text);
            if client.out.waiting() > full_mark(limit) {
                dump.stalled_at = now;
            }
        }
        let conn = dump.conn;
        match next {
            Next::More if dump.rest.len() > LINE_LIMIT => {
                self.end_dump(at, Wire::BadReply.memcached(), false);
            }
            Next::More => {}
            Next::Ended => {
                (dump.stage, dump.stalled_at) = (Stage::Next, 0);
                dump.rest.clear();
                self.free_dump_conn(conn);
            }
            Next::Busy => {
                if dump.busy_since == 0 {
                    dump.busy_since = now;
                }
                let is_hopeless = now > dump.busy_since + BUSY_LIMIT_MS;
                dump.stage = Stage::Later(now + BUSY_MS);
                dump.rest.clear();
                match is_hopeless {
                    true => self.end_dump(at, BUSY, false),
                    false => self.free_dump_conn(conn),
                }
            }
            Next::Refused => {
                let line = std::mem::take(&mut dump.rest);
                self.end_dump(at, &line, false);
            }
        }
        if !text.is_empty() {
            self.mark_client(who);
        }
        text.clear();
        self.spare.push(text);
    }

    /// Answers the client with the last line. Whoever has seen half a list must not take it for a whole one,
    /// whatever it makes of an error in it.
    fn end_dump(&mut self, at: Handle, line: &[u8], is_whole: bool) {
        let Some(dump) = self.remove_dump(at) else {
            return;
        };
        let client = dump.client;
        let seq = dump.seq;
        let to = ReplyTo::Slot { client, seq };
        self.deliver(to, line);
        if dump.has_begun && !is_whole {
            self.quit(client);
        }
    }

    fn remove_dump(&mut self, at: Handle) -> Option<Dump> {
        let dump = self.dumps.remove(at)?;
        if dump.conn != NO_CONN && dump.stage == Stage::Asked {
            self.free_dump_conn(dump.conn);
        }
        Some(dump)
    }

    fn free_dump_conn(&mut self, index: u32) {
        if self.conns[index as usize].dump.take().is_some() {
            self.retire_conn(index);
            self.dump_conns.push(index);
        }
    }
}

/// Output of a client above which no more is read for it.
fn full_mark(limit: usize) -> usize {
    CLIENT_OUTPUT_MARK.min(limit / 4)
}
