//! Requests of Redis clients: parse, look up, route.

use super::aside::may_follow_aside;
use super::clients::Taken;
use super::forward::{Copies, Flow, Incoming, Meta, Outgoing};
use super::learn::Taught;
use super::split::{self, Parts};
use super::*;
use crate::command::local::{self, Outcome};
use crate::command::overlay::Effect;
use crate::command::spec::Flags;
use crate::command::{self, Handling, LocalKind, ReplyMode, Row, SplitKind, TransactionKind};
use crate::conn::lane;
use crate::error;
use crate::proto::{resp, Args, Step};

impl Worker {
    /// Takes the request at the start of `bytes`, which are not empty.
    #[inline]
    pub(super) fn take_redis(&mut self, who: Handle, bytes: &[u8]) -> Taken {
        let mut list = std::mem::take(&mut self.args);
        let taken = if bytes[0] == b'*' {
            self.take_multibulk(who, bytes, &mut list)
        } else {
            self.take_inline(who, bytes, &mut list)
        };
        self.args = list;
        taken
    }

    #[inline]
    fn take_multibulk(&mut self, who: Handle, bytes: &[u8], list: &mut Vec<Arg>) -> Taken {
        let Some(client) = self.clients.get_mut(who) else {
            return Taken::Last;
        };
        let limit = self.shared.config.pools[client.pool as usize].request_bytes_limit;
        let step = if client.is_guest() {
            resp::request_of_guest(bytes, list, &mut client.resume, limit)
        } else {
            resp::request(bytes, list, &mut client.resume, limit)
        };
        match step {
            Step::Complete(len) => {
                let frame = &bytes[..len];
                self.redis_request(who, Args { buf: frame, list }, frame)
                    .taken(len)
            }
            Step::Incomplete => Taken::Nothing,
            Step::Invalid(error) => self.protocol_error(who, &error.text()),
        }
    }

    fn take_inline(&mut self, who: Handle, bytes: &[u8], list: &mut Vec<Arg>) -> Taken {
        let mut frame = std::mem::take(&mut self.inline);
        let Some(client) = self.clients.get_mut(who) else {
            return Taken::Last;
        };
        let taken = match resp::inline(bytes, &mut client.resume, &mut frame) {
            Step::Complete(len) => {
                list.clear();
                if !frame.is_empty() {
                    resp::request(&frame, list, &mut Default::default(), usize::MAX);
                }
                self.redis_request(who, Args { buf: &frame, list }, &frame)
                    .taken(len)
            }
            Step::Incomplete => Taken::Nothing,
            Step::Invalid(error) => self.protocol_error(who, &error.text()),
        };
        self.inline = frame;
        taken
    }

    fn protocol_error(&mut self, who: Handle, text: &[u8]) -> Taken {
        if let Some(client) = self.clients.get_mut(who) {
            let pool = client.pool;
            self.pool_stats(pool).of(PoolCount::ProtocolErrors).add(1);
        }
        let meta = Meta {
            command: 0,
            write: false,
            mute: false,
        };
        self.reply_now(who, meta, text);
        Taken::Last
    }

    #[inline]
    fn redis_request(&mut self, who: Handle, args: Args, frame: &[u8]) -> Flow {
        if args.is_empty() {
            // `*0`, an empty line: nothing was asked.
            return Flow::Taken;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let mut row = command::admit(&args, &mut scratch);
        if row.is_none() && command::lookup(args.get(0)).is_none() {
            match self.learned_row(who, &args) {
                Taught::Row(found) => {
                    scratch.clear();
                    row = command::admit_row(found, &args, &mut scratch);
                }
                Taught::Unknown => {}
                Taught::Later => {
                    self.scratch = scratch;
                    return Flow::Wait;
                }
            }
        }
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        let pool = client.pool;
        if row.is_none() && self.shared.config.pools[pool as usize].is_cluster {
            command::admit::refuse_in_cluster(&args, &mut scratch);
        }
        let Some(session) = client.session.as_mut() else {
            return Flow::Close;
        };
        let lane = lane::of(session.database, session.resp3);
        let kept_mode = session.reply;
        let mute = session.mutes(row);
        if session.queue.is_some() && !(row.is_none() && command::is_http(args.get(0))) {
            let (command, write) = (0, false);
            let meta = Meta {
                command,
                write,
                mute,
            };
            let flow = self.queue_request(who, meta, row, args, frame, &scratch);
            self.scratch = scratch;
            return self.keep_mode(who, kept_mode, flow);
        }
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
            if scratch.starts_with(b"-EXECABORT ") {
                self.end_watch(who); // a server ends the transaction, whether there is one or not
            }
            self.reply_now(who, meta, &scratch);
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
            let text = command::admit::no_auth(row);
            self.reply_now(who, meta, &text);
            return Flow::Taken;
        }
        if session.modal && session.joining {
            // What it may ask depends on how its SUBSCRIBE ends.
            session.reply = kept_mode;
            client.block = Block::Drain;
            self.scratch = scratch;
            return Flow::Wait;
        }
        if client.aside > 0 && !may_follow_aside(row) {
            session.reply = kept_mode;
            client.block = Block::Drain;
            self.scratch = scratch;
            return Flow::Wait;
        }
        if session.modal && session.refuses(row, &mut scratch) {
            let flow = self.refuse_modal(who, meta, row, &scratch);
            self.scratch = scratch;
            return flow;
        }
        self.scratch = scratch;
        let asked = Incoming {
            who,
            meta,
            pool,
            lane,
            row,
            args,
            frame,
        };
        let flow = match row.handling {
            Handling::Block => self.block(&asked),
            Handling::Forward if row.flags.has(Flags::BLOCKING) => self.block(&asked),
            Handling::Forward => self.forward(&asked),
            Handling::Split(kind) => self.split(&asked, kind),
            Handling::Transaction(kind) => self.transaction(&asked, kind),
            Handling::Channel(act) => self.channel(&asked, act),
            Handling::Fan(kind) => self.fan(&asked, kind),
            _ => self.answer(&asked),
        };
        self.keep_mode(who, kept_mode, flow)
    }

    /// Answers a request that may not be made while subscribed or monitoring. An EXEC that is refused ends the
    /// transaction, whatever for.
    fn refuse_modal(&mut self, who: Handle, meta: Meta, row: &Row, text: &[u8]) -> Flow {
        if row.handling != Handling::Transaction(TransactionKind::Exec) {
            self.reply_now(who, meta, text);
            return Flow::Taken;
        }
        let mut aborted = Vec::new();
        error::exec_abort(text.strip_prefix(b"-ERR ").unwrap_or(text), &mut aborted);
        self.end_watch(who);
        self.reply_now(who, meta, &aborted);
        Flow::Taken
    }

    /// A request that waits is looked at again, so its turn in CLIENT REPLY SKIP is not used up.
    #[inline]
    fn keep_mode(&mut self, who: Handle, kept_mode: ReplyMode, flow: Flow) -> Flow {
        if flow == Flow::Wait {
            if let Some(session) = self
                .clients
                .get_mut(who)
                .and_then(|client| client.session.as_mut())
            {
                session.reply = kept_mode;
            }
        }
        flow
    }

    /// What is known of a command that is not in the table. Nobody is asked for clients that may not log in.
    fn learned_row(&mut self, who: Handle, args: &Args) -> Taught {
        let Some(client) = self.clients.get_mut(who) else {
            return Taught::Unknown;
        };
        let pool = client.pool;
        let may_ask = client
            .session
            .as_ref()
            .is_some_and(|session| session.authenticated);
        if !may_ask || command::is_http(args.get(0)) {
            return Taught::Unknown;
        }
        let taught = self.teach(who, pool, args);
        if let (Taught::Later, Some(client)) = (&taught, self.clients.get_mut(who)) {
            client.block = Block::Command;
        }
        taught
    }

    /// A command for the one shard of its keys.
    #[inline]
    pub(super) fn forward(&mut self, asked: &Incoming) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            lane,
            row,
            args,
            frame,
        } = *asked;
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        let mut is_wrong = false;
        let spot = match command::first_key(row, &args) {
            Some(at) => {
                keys.push(at);
                let key = args.get(at as usize);
                if command::is_reserved(key) {
                    Err(Wire::ReservedKey)
                } else {
                    Ok(self.spot_of(pool, key))
                }
            }
            None => match command::keys(row, &args, &mut keys) {
                Ok(()) => {
                    let is_script = row.flags.has(Flags::NO_MANDATORY_KEYS);
                    if is_script && keys.is_empty() && self.runs_everywhere(pool) {
                        self.keys = keys;
                        return self.run_everywhere(asked);
                    }
                    let spot = self.spot_of_request(pool, row, &args, &keys);
                    if is_script {
                        if let Ok(Spot { pool, shard }) = spot {
                            self.prepare_script(pool, shard, lane, row, &args);
                        }
                    }
                    spot
                }
                Err(_) if command::keys::is_told_by_server(row) => {
                    is_wrong = true;
                    keys.clear();
                    self.one_spot(pool, &args, &keys)
                }
                Err(error) => {
                    self.keys = keys;
                    let mut text = Vec::new();
                    command::keys::refuse(row, error, &mut text);
                    self.reply_now(who, meta, &text);
                    return Flow::Taken;
                }
            },
        };
        let flow = match spot {
            Ok(spot) => {
                let effect = match is_wrong {
                    true => Effect::Nothing,
                    false => row.effect_of(&args),
                };
                if effect == Effect::Moved && !self.has_databases(pool, row, &args, lane) {
                    self.keys = keys;
                    self.reply_now(who, meta, Wire::DatabaseIndex.redis());
                    return Flow::Taken;
                }
                let keys = &keys;
                let copies = Copies::Effect {
                    row,
                    effect,
                    args,
                    keys,
                };
                let out = Outgoing {
                    write: effect != Effect::Nothing,
                    copies,
                    ..asked.outgoing(spot)
                };
                let flow = self.dispatch(who, meta, &out);
                let is_script = row.flags.has(Flags::NO_MANDATORY_KEYS) && !is_wrong;
                if flow == Flow::Taken && is_script {
                    self.keep_call(who, spot, lane, row, frame);
                }
                flow
            }
            Err(wire) => {
                self.reply_now(who, meta, wire.redis());
                Flow::Taken
            }
        };
        self.keys = keys;
        flow
    }

    /// True if the databases that a request names are among the pool's.
    pub(super) fn has_databases(&self, pool: u16, row: &Row, args: &Args, lane: u8) -> bool {
        let databases = self.shared.config.pools[pool as usize].databases;
        let places = command::effect::places(row, args, lane::database(lane));
        places.iter().all(|place| place.database < databases)
    }

    /// The shard that owns all of the keys.
    pub(super) fn one_spot(&mut self, pool: u16, args: &Args, keys: &[u32]) -> Result<Spot, Wire> {
        let mut owner = None;
        for at in keys {
            let key = args.get(*at as usize);
            if command::is_reserved(key) {
                return Err(Wire::ReservedKey);
            }
            let spot = self.spot_of(pool, key);
            if *owner.get_or_insert(spot) != spot {
                self.pool_stats(pool).of(PoolCount::CrossShard).add(1);
                return Err(Wire::CrossSlot);
            }
        }
        // A script without keys: any shard would do, so always the same.
        Ok(owner.unwrap_or_else(|| {
            let shard = self.present(pool).first().copied().unwrap_or(0);
            Spot { pool, shard }
        }))
    }

    /// The shard that owns all keys of a request, also those that it names by patterns.
    pub(super) fn spot_of_request(
        &mut self,
        pool: u16,
        row: &Row,
        args: &Args,
        keys: &[u32],
    ) -> Result<Spot, Wire> {
        let spot = self.one_spot(pool, args, keys)?;
        if row.has_patterns {
            let is_here = |pattern| self.table.spot_of_pattern(pool, pattern) == Some(spot);
            if !command::keys::patterns(args).into_iter().all(is_here) {
                return Err(Wire::SortPattern);
            }
        }
        Ok(spot)
    }

    /// MGET, MSET, DEL and their like: one part per shard.
    fn split(&mut self, asked: &Incoming, kind: SplitKind) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            row,
            args,
            ..
        } = *asked;
        let stride = kind.stride();
        let count = (args.len() - 1) / stride;
        let key = |i: usize| args.get(1 + i * stride);
        if (0..count).any(|i| command::is_reserved(key(i))) {
            self.reply_now(who, meta, Wire::ReservedKey.redis());
            return Flow::Taken;
        }
        self.place(pool, count, key);
        let mut out = asked.outgoing(
            self.placed
                .first()
                .map_or(Spot { pool, shard: 0 }, |first| first.0),
        );
        if self.is_one_shard() {
            return self.dispatch(who, meta, &out);
        }
        if !self.shared.config.pools[pool as usize].cross_shard {
            self.pool_stats(pool).of(PoolCount::CrossShard).add(1);
            self.reply_now(who, meta, Wire::CrossSlot.redis());
            return Flow::Taken;
        }
        let mut parts = Parts {
            order: vec![0; count],
            ..Parts::default()
        };
        for group in self.placed.chunk_by(|a, b| a.0 == b.0) {
            let mut bytes = self.spare.pop().unwrap_or_default();
            split::write_part(&mut bytes, row, &args, group, stride);
            for (_, i) in group {
                parts.order[*i as usize] = parts.spots.len() as u16;
            }
            parts.spots.push(group[0].0);
            parts.bytes.push(bytes);
        }
        out.bytes = b"";
        self.dispatch_parts(who, meta, kind.merge(row), parts, &out)
    }

    /// A command that the proxy answers itself.
    pub(super) fn answer(&mut self, asked: &Incoming) -> Flow {
        let Incoming {
            who,
            meta,
            row,
            args,
            ..
        } = *asked;
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        let switches = matches!(
            row.handling,
            Handling::Local(LocalKind::Hello | LocalKind::Reset | LocalKind::Select)
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
        let asker = (session.id, session.resp3);
        let outcome = local::answer(&mut session, row, &args, &self.context(pool), &mut text);
        if let Some(client) = self.clients.get_mut(who) {
            client.session = Some(session);
        }
        if row.handling == Handling::Local(LocalKind::Reset) {
            self.end_watch(who);
            self.leave_channels(pool, who);
        }
        if !text.is_empty() {
            self.reply_now(who, meta, &text);
        }
        text.clear();
        self.spare.push(text);
        match outcome {
            Outcome::Reply => Flow::Taken,
            Outcome::Ask(question) => self.ask_clients(who, meta, asker, question),
            Outcome::Close => Flow::Close,
        }
    }
}
