//! Requests of Redis clients: parse, look up, route.

use super::forward::{Copies, Flow, Meta, Outgoing};
use super::split::{Merge, Parts};
use super::*;
use crate::command::local::{self, Outcome};
use crate::command::{self, Effect, Handling, LocalKind, Row, SplitKind};
use crate::proto::memcache::ReplyKind;
use crate::proto::{resp, Args, Step};

impl Worker {
    pub(super) fn consume_redis(&mut self, index: u32, generation: u32, bytes: &[u8]) -> usize {
        let mut list = std::mem::take(&mut self.args);
        let mut inline = std::mem::take(&mut self.inline);
        let mut at = 0;
        while at < bytes.len() {
            let Some(client) = self.clients.get_mut(index, generation) else {
                at = bytes.len();
                break;
            };
            if client.quitting {
                at = bytes.len();
                break;
            }
            let config = &self.shared.config.pools[client.pool as usize];
            if client.slots.len() >= config.client_inflight_limit {
                client.block = Block::Inflight;
                break;
            }
            if client.out.waiting() > CLIENT_OUTPUT_MARK {
                client.block = Block::Output;
                break;
            }
            let rest = &bytes[at..];
            let is_inline = rest[0] != b'*';
            let step = if is_inline {
                resp::inline(rest, &mut client.resume, &mut inline)
            } else {
                resp::request(
                    rest,
                    &mut list,
                    &mut client.resume,
                    config.request_bytes_limit,
                )
            };
            let len = match step {
                Step::Complete(len) => len,
                Step::Incomplete => break,
                Step::Invalid(error) => {
                    let pool = client.pool;
                    self.pool_stats(pool).of(PoolCount::ProtocolErrors).add(1);
                    let meta = Meta {
                        command: 0,
                        write: false,
                        mute: false,
                    };
                    self.reply_now(index, generation, meta, &error.text());
                    self.quit(index, generation);
                    at = bytes.len();
                    break;
                }
            };
            let frame = if is_inline { &inline[..] } else { &rest[..len] };
            if is_inline {
                list.clear();
                if !inline.is_empty() {
                    resp::request(&inline, &mut list, &mut Default::default(), usize::MAX);
                }
            }
            if !list.is_empty() {
                match self.redis_request(
                    index,
                    generation,
                    Args {
                        buf: frame,
                        list: &list,
                    },
                    frame,
                ) {
                    Flow::Taken => {}
                    Flow::Wait => break,
                    Flow::Close => {
                        self.quit(index, generation);
                        at = bytes.len();
                        break;
                    }
                }
            }
            at += len;
        }
        self.args = list;
        self.inline = inline;
        at
    }

    /// Takes no more requests; what was asked before is still answered.
    pub(super) fn quit(&mut self, index: u32, generation: u32) {
        if let Some(client) = self.clients.get_mut(index, generation) {
            client.quitting = true;
            client.closing = true;
            self.mark_client(index, generation);
        }
    }

    #[inline]
    fn redis_request(&mut self, index: u32, generation: u32, args: Args, frame: &[u8]) -> Flow {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let row = command::admit(&args, &mut scratch);
        let Some(client) = self.clients.at(index) else {
            return Flow::Taken;
        };
        let pool = client.pool;
        let Some(session) = client.session.as_mut() else {
            return Flow::Close;
        };
        let lane = u8::from(session.resp3);
        // A request that waits is looked at again, so its turn in CLIENT REPLY SKIP is not used up.
        let kept_mode = session.reply;
        let mute = session.mutes(row);
        let Some(row) = row else {
            if command::is_http(args.get(0)) {
                self.scratch = scratch;
                return Flow::Close;
            }
            let meta = Meta {
                command: 0,
                write: false,
                mute,
            };
            self.pool_stats(pool).of(PoolCount::Unsupported).add(1);
            self.reply_now(index, generation, meta, &scratch);
            self.scratch = scratch;
            return Flow::Taken;
        };
        let meta = Meta {
            command: row.id,
            write: row.is_write(),
            mute,
        };
        if !session.allows(row) {
            self.scratch = scratch;
            self.reply_now(index, generation, meta, Wire::NoAuth.redis());
            return Flow::Taken;
        }
        self.scratch = scratch;
        let flow = match row.handling {
            Handling::Forward => {
                self.forward(index, generation, meta, pool, lane, row, args, frame)
            }
            Handling::Split(kind) => {
                self.split(index, generation, meta, pool, lane, row, kind, args, frame)
            }
            _ => self.answer(index, generation, meta, row, args),
        };
        if flow == Flow::Wait {
            if let Some(session) = self
                .clients
                .at(index)
                .and_then(|client| client.session.as_mut())
            {
                session.reply = kept_mode;
            }
        }
        flow
    }

    /// A command for the one shard of its keys.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn forward(
        &mut self,
        index: u32,
        generation: u32,
        meta: Meta,
        pool: u16,
        lane: u8,
        row: &'static Row,
        args: Args,
        frame: &[u8],
    ) -> Flow {
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        let shard = match command::first_key(row, &args) {
            Some(at) => {
                keys.push(at);
                let key = args.get(at as usize);
                if command::is_reserved(key) {
                    Err(Wire::ReservedKey)
                } else {
                    Ok(self.shard_of(pool, key))
                }
            }
            None => match command::keys(row, &args, &mut keys) {
                Ok(()) => self.one_shard(pool, &args, &keys),
                Err(error) => {
                    self.keys = keys;
                    let mut text = Vec::new();
                    command::keys::refuse(row, error, &mut text);
                    self.reply_now(index, generation, meta, &text);
                    return Flow::Taken;
                }
            },
        };
        let flow = match shard {
            Ok(shard) => {
                let copies = if meta.write && row.effect_of(&args) == Effect::State {
                    Copies::State { args, keys: &keys }
                } else {
                    Copies::Same
                };
                let (write, kind) = (meta.write, ReplyKind::Line);
                let out = Outgoing {
                    pool,
                    shard,
                    lane,
                    write,
                    kind,
                    bytes: frame,
                    copies,
                    trailer: b"",
                };
                self.dispatch(index, generation, meta, &out)
            }
            Err(wire) => {
                self.reply_now(index, generation, meta, wire.redis());
                Flow::Taken
            }
        };
        self.keys = keys;
        flow
    }

    /// The shard that owns all of the keys.
    fn one_shard(&mut self, pool: u16, args: &Args, keys: &[u32]) -> Result<u16, Wire> {
        let mut owner = None;
        for at in keys {
            let key = args.get(*at as usize);
            if command::is_reserved(key) {
                return Err(Wire::ReservedKey);
            }
            let shard = self.shard_of(pool, key);
            if *owner.get_or_insert(shard) != shard {
                self.pool_stats(pool).of(PoolCount::CrossShard).add(1);
                return Err(Wire::CrossSlot);
            }
        }
        Ok(owner.unwrap_or(0))
    }

    /// MGET, MSET, DEL and their like: one part per shard.
    #[allow(clippy::too_many_arguments)]
    fn split(
        &mut self,
        index: u32,
        generation: u32,
        meta: Meta,
        pool: u16,
        lane: u8,
        row: &'static Row,
        kind: SplitKind,
        args: Args,
        frame: &[u8],
    ) -> Flow {
        // Words per key: MSET has the value behind each key.
        let stride = if kind == SplitKind::Mset { 2 } else { 1 };
        let count = (args.len() - 1) / stride;
        let key = |i: usize| args.get(1 + i * stride);
        if (0..count).any(|i| command::is_reserved(key(i))) {
            self.reply_now(index, generation, meta, Wire::ReservedKey.redis());
            return Flow::Taken;
        }
        self.place(pool, count, key);
        let mut out = Outgoing {
            pool,
            shard: self.placed.first().map_or(0, |first| first.0),
            lane,
            write: meta.write,
            kind: ReplyKind::Line,
            bytes: frame,
            copies: Copies::Same,
            trailer: b"",
        };
        if self.is_one_shard() {
            return self.dispatch(index, generation, meta, &out);
        }
        if !self.shared.config.pools[pool as usize].cross_shard {
            self.pool_stats(pool).of(PoolCount::CrossShard).add(1);
            self.reply_now(index, generation, meta, Wire::CrossSlot.redis());
            return Flow::Taken;
        }
        let mut parts = Parts {
            order: vec![0; count],
            ..Parts::default()
        };
        for group in self.placed.chunk_by(|a, b| a.0 == b.0) {
            let mut bytes = self.spare.pop().unwrap_or_default();
            resp::write_array(&mut bytes, 1 + group.len() * stride);
            resp::write_bulk(&mut bytes, row.name.as_bytes());
            for (_, i) in group {
                parts.order[*i as usize] = parts.shards.len() as u16;
                for word in 0..stride {
                    resp::write_bulk(&mut bytes, args.get(1 + *i as usize * stride + word));
                }
            }
            parts.shards.push(group[0].0);
            parts.bytes.push(bytes);
        }
        out.bytes = b"";
        let merge = match kind {
            SplitKind::Mget => Merge::Arrays,
            SplitKind::Mset => Merge::Same,
            SplitKind::Sum => Merge::Sum,
        };
        self.dispatch_parts(index, generation, meta, merge, parts, &out)
    }

    /// A command that the proxy answers itself.
    fn answer(
        &mut self,
        index: u32,
        generation: u32,
        meta: Meta,
        row: &'static Row,
        args: Args,
    ) -> Flow {
        let Some(client) = self.clients.at(index) else {
            return Flow::Taken;
        };
        let switches = matches!(
            row.handling,
            Handling::Local(LocalKind::Hello | LocalKind::Reset)
        );
        if switches && !client.slots.is_empty() {
            // Requests after it may use another lane, which must not overtake those before it.
            client.block = Block::Drain;
            return Flow::Wait;
        }
        // The answer may change the session, and what it needs to know is the worker's.
        let (pool, taken) = (client.pool, client.session.take());
        let Some(mut session) = taken else {
            return Flow::Close;
        };
        let mut text = self.spare.pop().unwrap_or_default();
        let outcome = local::answer(&mut session, row, &args, &self.context(pool), &mut text);
        if let Some(client) = self.clients.at(index) {
            client.session = Some(session);
        }
        if !text.is_empty() {
            self.reply_now(index, generation, meta, &text);
        }
        text.clear();
        self.spare.push(text);
        match outcome {
            Outcome::Reply => Flow::Taken,
            Outcome::Close => Flow::Close,
        }
    }
}
