//! Transactions of Redis clients: MULTI, what is queued, EXEC, and what becomes of it.
//!
//! The queue is the client's (`command/queue.rs`). With EXEC it is cut into one batch per shard (`cut.rs`); a
//! batch is one request in all else, so it waits, is handed over and is made again like any other. With
//! watched keys there is one batch, and it goes over the connection that watches (`lease.rs`).
//!
//! ```text
//! MULTI     GET a      PING     MGET a b      EXEC
//!           └─ shard 1 └─ here  ├─ shard 1    ├─► shard 1: MULTI GET a, MGET a EXEC ─┐
//!                               └─ shard 2    ├─► shard 2: MULTI MGET b EXEC ────────┼─► in order
//!                                             └─► PONG ──────────────────────────────┘
//! ```

use super::exec::{self, Facts};
use super::forward::{Copies, Flow, Incoming, Meta, Outgoing, Way};
use super::lease;
use super::lease_request::Request;
use super::legs::EXEC;
use super::pieces::{self, Piece};
use super::split::Gather;
use super::*;
use crate::command::local::{self, Outcome};
use crate::command::queue::{self, Inside, Queue};
use crate::command::{self, Effect, Handling, Row, TransactionKind};
use crate::conn::backend::NO_PART;
use crate::conn::{lane, ReplyTo};
use crate::proto::{resp, Args, Resume};

impl Worker {
    /// MULTI and what belongs to it; inside a transaction all but UNWATCH.
    pub(super) fn transaction(&mut self, asked: &Incoming, kind: TransactionKind) -> Flow {
        let Incoming { who, meta, .. } = *asked;
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        let Some(session) = client.session.as_mut() else {
            return Flow::Close;
        };
        let reply: &[u8] = match (kind, session.queue.is_some()) {
            (TransactionKind::Multi, true) => Wire::NestedMulti.redis(),
            (TransactionKind::Multi, false) => {
                session.queue = Some(Box::default());
                b"+OK\r\n"
            }
            (TransactionKind::Exec, false) => Wire::ExecWithoutMulti.redis(),
            (TransactionKind::Exec, true) => return self.exec(who, meta),
            (TransactionKind::Discard, false) => Wire::DiscardWithoutMulti.redis(),
            (TransactionKind::Discard, true) => {
                session.queue = None;
                self.end_watch(who);
                b"+OK\r\n"
            }
            (TransactionKind::Watch, true) => Wire::WatchInsideMulti.redis(),
            (TransactionKind::Watch, false) => return self.start_watch(asked),
            (TransactionKind::Unwatch, _) => {
                self.end_watch(who);
                b"+OK\r\n"
            }
        };
        self.reply_now(who, meta, reply);
        Flow::Taken
    }

    /// A request between MULTI and EXEC; `row` is None, and the error in `refused`, if it is not admitted.
    pub(super) fn queue_request(
        &mut self,
        who: Handle,
        meta: Meta,
        row: Option<&'static Row>,
        args: Args,
        frame: &[u8],
        refused: &[u8],
    ) -> Flow {
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        let pool = client.pool;
        let Some(session) = client.session.as_ref() else {
            return Flow::Close;
        };
        let (database, resp3) = (session.database, session.resp3);
        let mut meta = meta;
        let verdict = match row.or_else(|| queue::admit_inside(&args)) {
            None => {
                self.pool_stats(pool).of(PoolCount::Unsupported).add(1);
                Err(refused)
            }
            Some(row) => {
                meta.command = row.id;
                let inside = row.inside(&args, database);
                let asked = Incoming {
                    who,
                    meta,
                    pool,
                    lane: lane::of(database, resp3),
                    row,
                    args,
                    frame,
                };
                match (inside, row.handling) {
                    (Inside::Now, Handling::Transaction(kind)) => {
                        return self.transaction(&asked, kind)
                    }
                    (Inside::Now, _) => return self.answer(&asked),
                    _ => self
                        .may_queue(pool, row, inside, &args)
                        .map_err(Wire::redis),
                }
            }
        };
        let limit = self.shared.config.pools[pool as usize].request_bytes_limit;
        let queue = self.clients.get_mut(who).and_then(|client| {
            let session = client.session.as_mut()?;
            session.queue.as_mut()
        });
        let Some(queue) = queue else {
            return Flow::Taken;
        };
        if refused.starts_with(b"-EXECABORT ") {
            return self.refuse_exec(who, meta, refused);
        }
        let reply = match verdict {
            Ok(()) if queue.push(frame, limit) => b"+QUEUED\r\n",
            Ok(()) => Wire::TransactionTooLarge.redis(),
            Err(text) => {
                queue.abort();
                text
            }
        };
        self.reply_now(who, meta, reply);
        Flow::Taken
    }

    /// Looks at what is refused whatever the table will be at EXEC. A request that does not say which are
    /// its keys is queued: the server tells of it at EXEC too.
    fn may_queue(&mut self, pool: u16, row: &Row, inside: Inside, args: &Args) -> Result<(), Wire> {
        let mut keys = std::mem::take(&mut self.keys);
        let found = command::keys(row, args, &mut keys);
        let verdict = match inside {
            Inside::Own | Inside::Fan(_) => Ok(()),
            Inside::Publish if command::is_reserved(args.get(1)) => Err(Wire::ReservedKey),
            Inside::Publish => Ok(()),
            Inside::Not | Inside::Now => Err(Wire::NotInTransaction),
            _ if found.is_err() => Ok(()),
            // Scripts may read (`cut.rs`); of all else nobody knows what it changes, nor whether it has.
            _ if keys.is_empty()
                && row.is_write()
                && !matches!(row.effect_of(args), Effect::Program | Effect::Nothing) =>
            {
                Err(Wire::NotInTransaction)
            }
            Inside::Forward => self.spot_of_request(pool, row, args, &keys).map(|_| ()),
            Inside::Split => {
                let reserved = |at: &u32| command::is_reserved(args.get(*at as usize));
                match keys.iter().any(reserved) {
                    true => Err(Wire::ReservedKey),
                    false => Ok(()),
                }
            }
        };
        self.keys = keys;
        verdict
    }

    // --- EXEC ------------------------------------------------------------------------------------

    fn exec(&mut self, who: Handle, meta: Meta) -> Flow {
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        let (pool, watching, is_drained) = (client.pool, client.watching, client.slots.is_empty());
        let watch_moved = client.watch_moved;
        let Some(session) = client.session.as_mut() else {
            return Flow::Close;
        };
        let lane = lane::of(session.database, session.resp3);
        let (id, queue) = (session.id, session.queue.take());
        let Some(queue) = queue else {
            return Flow::Taken;
        };
        if queue.is_aborted() {
            return self.end_exec(who, meta, Wire::ExecAbort.redis());
        }
        if watch_moved {
            return self.end_exec(who, meta, lease::null(lane));
        }
        let mut cut = self.cut(pool, lane, &queue);
        let limit = self.shared.config.pools[pool as usize].request_bytes_limit;
        if cut.is_beyond(limit) {
            return self.end_exec(who, meta, Wire::TransactionTooLarge.redis());
        }
        let strays = |watching: Spot| cut.parts.iter().any(|part| part.spot != watching);
        let splits = self.shared.config.pools[pool as usize].cross_shard;
        if watching.is_some_and(strays) || (!splits && cut.parts.len() > 1) {
            self.pool_stats(pool).of(PoolCount::CrossShard).add(1);
            return self.end_exec(who, meta, Wire::CrossSlot.redis());
        }
        if let Some(watching) = watching {
            if !is_drained {
                self.keep_queue(who, queue);
                if let Some(client) = self.clients.get_mut(who) {
                    client.block = Block::Drain;
                }
                return Flow::Wait;
            }
            // The server also says whether the keys are as they were if nothing is to be done.
            cut.part(watching);
        }
        for part in &mut cut.parts {
            part.bytes.extend_from_slice(EXEC);
        }
        let write = cut.parts.iter().any(|part| part.facts.writes());
        let meta = Meta { write, ..meta };
        let mut ways = Vec::with_capacity(cut.parts.len());
        for part in &cut.parts {
            let out = outgoing(part.spot, lane, &part.bytes, part.facts);
            let way = match watching {
                Some(_) => self.lease_way(part.spot),
                None => self.way(who, &out),
            };
            if let Way::Wait(block) = way {
                let flow = self.wait(who, meta, block, &out);
                if flow == Flow::Wait {
                    self.keep_queue(who, queue);
                }
                return flow;
            }
            ways.push(way);
        }
        if cut.parts.is_empty() {
            let closes = self.answer_own(who, pool, &queue, &mut cut.pieces);
            let mut reply = Vec::new();
            // All of them are the proxy's own, so no shard has said anything.
            let write = pieces::OfPool { worker: self, pool };
            pieces::merge(&cut.pieces, &[], &write, &mut reply);
            self.reply_now(who, meta, &reply);
            return if closes { Flow::Close } else { Flow::Taken };
        }
        if cut.parts.len() > 1 {
            self.pool_stats(pool).of(PoolCount::Split).add(1);
        }
        let seq = self.open_slot(who, meta, &ways);
        // What changes the connection itself is done once the rest is, if it is.
        let own = cut.has_own().then_some(queue);
        if let Some(client) = self.clients.get_mut(who) {
            client.fenced |= client.watching.take().is_some() || own.is_some();
        }
        let is_plain = cut.is_plain();
        let slot = ReplyTo::Slot { client: who, seq };
        let gather = match is_plain {
            true => who,
            false => self.gather_exec(slot, pool, cut.parts.len(), cut.pieces, own),
        };
        for (number, (part, way)) in cut.parts.into_iter().zip(ways).enumerate() {
            let local = match is_plain {
                true => slot,
                false => ReplyTo::Part {
                    gather,
                    part: number as u16,
                    last: true,
                },
            };
            let (to, worker) = (self.reply_by(way, local), worker_of(way, self.id));
            let (spot, bytes) = (part.spot, part.bytes);
            let Spot { pool, shard } = spot;
            if watching.is_some() {
                let bytes = Request::Exec { id, batch: &bytes }.bytes();
                let handover = Handover {
                    pool,
                    shard,
                    lane,
                    to,
                    bytes,
                };
                self.pass_on(worker, handover);
            } else if worker != self.id {
                let out = outgoing(spot, lane, &bytes, part.facts);
                self.hand_over(worker, to, &out);
            } else {
                self.prepare_scripts(pool, shard, lane, &bytes, part.facts);
                self.send(to, &outgoing(spot, lane, &bytes, part.facts));
            }
        }
        Flow::Taken
    }

    /// Answers what the proxy answers itself, of a transaction whose parts have answered. Where none was executed,
    /// as a watched key has changed, nothing of it is done.
    pub(super) fn answer_executed(&mut self, gather: &mut Gather) {
        let (Some(queue), ReplyTo::Slot { client, .. }) = (gather.own.take(), gather.to) else {
            return;
        };
        let is_executed = |part: &Vec<u8>| resp::aggregate(part).is_some();
        if gather.parts.iter().any(is_executed)
            && self.answer_own(client, gather.pool, &queue, &mut gather.pieces)
        {
            self.quit(client);
        }
    }

    /// Ends a transaction of which nothing is sent.
    fn end_exec(&mut self, who: Handle, meta: Meta, reply: &[u8]) -> Flow {
        self.end_watch(who);
        self.reply_now(who, meta, reply);
        Flow::Taken
    }

    /// EXEC itself is wrong, which ends the transaction.
    fn refuse_exec(&mut self, who: Handle, meta: Meta, reply: &[u8]) -> Flow {
        let client = self.clients.get_mut(who);
        if let Some(session) = client.and_then(|client| client.session.as_mut()) {
            session.queue = None;
        }
        self.end_exec(who, meta, reply)
    }

    fn keep_queue(&mut self, who: Handle, queue: Box<Queue>) {
        let client = self.clients.get_mut(who);
        if let Some(session) = client.and_then(|client| client.session.as_mut()) {
            session.queue = Some(queue);
        }
    }

    /// Answers what the proxy answers itself. True if the connection is to be closed.
    fn answer_own(&mut self, who: Handle, pool: u16, queue: &Queue, pieces: &mut [Piece]) -> bool {
        let (mut list, mut closes) = (Vec::new(), false);
        for (frame, piece) in queue.frames().zip(pieces) {
            let Piece::Own(text) = piece else { continue };
            if !text.is_empty() {
                continue; // an error
            }
            resp::request(frame, &mut list, &mut Resume::default(), usize::MAX);
            let args = Args {
                buf: frame,
                list: &list,
            };
            let Some(row) = command::find(&args) else {
                continue;
            };
            if matches!(row.handling, Handling::Transaction(_)) {
                text.extend_from_slice(b"+OK\r\n"); // UNWATCH, behind EXEC
                continue;
            }
            // The answer may change the session, and what it needs to know is the worker's.
            let client = self.clients.get_mut(who);
            let Some(mut session) = client.and_then(|client| client.session.take()) else {
                return true;
            };
            let context = self.context(pool);
            let asker = (session.id, session.resp3);
            let outcome = local::answer(&mut session, row, &args, &context, text);
            if let Some(client) = self.clients.get_mut(who) {
                client.session = Some(session);
            }
            closes |= match outcome {
                Outcome::Ask(question) => self.ask_clients_inside(pool, asker, question, text),
                outcome => outcome == Outcome::Close,
            };
        }
        closes
    }

    // --- WATCH -----------------------------------------------------------------------------------

    fn start_watch(&mut self, asked: &Incoming) -> Flow {
        let Incoming {
            who,
            meta,
            args,
            frame,
            ..
        } = *asked;
        let keys: Vec<u32> = (1..args.len() as u32).collect();
        let Some(pool) = self.clients.get_mut(who).map(|client| client.pool) else {
            return Flow::Taken;
        };
        let spot = self.one_spot(pool, &args, &keys);
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        let Some(session) = client.session.as_ref() else {
            return Flow::Close;
        };
        let lane = lane::of(session.database, session.resp3);
        let id = session.id;
        let refused = match (spot, client.watching) {
            (Err(wire), _) => Some(wire),
            (Ok(_), _) if client.watch_moved => {
                // Nobody knows what has become of what it watched, which EXEC will say.
                self.reply_now(who, meta, b"+OK\r\n");
                return Flow::Taken;
            }
            (Ok(spot), Some(watching)) if watching != spot => Some(Wire::CrossSlot),
            _ => None,
        };
        if let Some(wire) = refused {
            self.reply_now(who, meta, wire.redis());
            return Flow::Taken;
        }
        // It goes another way than what was asked before.
        if !client.slots.is_empty() {
            client.block = Block::Drain;
            return Flow::Wait;
        }
        let spot = spot.unwrap_or(Spot { pool, shard: 0 });
        client.fenced = true;
        let is_first = client.watching.replace(spot).is_none();
        let way = self.lease_way(spot);
        let seq = self.open_slot(who, meta, &[way]);
        let slot = ReplyTo::Slot { client: who, seq };
        let to = self.reply_by(way, slot);
        let Spot { pool, shard } = spot;
        let request = match is_first {
            true => Request::Watch { id, frame },
            false => Request::More { id, frame },
        };
        let bytes = request.bytes();
        let handover = Handover {
            pool,
            shard,
            lane,
            to,
            bytes,
        };
        self.pass_on(worker_of(way, self.id), handover);
        Flow::Taken
    }

    /// True if a client's request goes to a replicated shard of which it watches keys.
    #[inline]
    pub(super) fn is_watched(&mut self, who: Handle, out: &Outgoing) -> bool {
        let client = self.clients.get_mut(who);
        let Some(watching) = client.and_then(|client| client.watching) else {
            return false;
        };
        watching == out.spot() && self.shard_table(out.pool, out.shard).is_replicated()
    }

    /// True if all that the client asked before is answered; it waits if not.
    pub(super) fn is_drained(&mut self, who: Handle) -> bool {
        let Some(client) = self.clients.get_mut(who) else {
            return true;
        };
        let is_drained = client.slots.is_empty();
        if !is_drained {
            client.block = Block::Drain;
        }
        is_drained
    }

    /// Sends a read to where the keys of its shard are watched.
    pub(super) fn dispatch_watched(&mut self, who: Handle, meta: Meta, out: &Outgoing) -> Flow {
        if !self.is_drained(who) {
            return Flow::Wait;
        }
        let way = self.lease_way(out.spot());
        let seq = self.open_slot(who, meta, &[way]);
        let slot = ReplyTo::Slot { client: who, seq };
        self.read_of_watching(who, way, slot, out);
        Flow::Taken
    }

    /// The same for a request or a part that has its place already; `to` is that in this worker.
    pub(super) fn read_of_watching(&mut self, who: Handle, way: Way, to: ReplyTo, out: &Outgoing) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        client.fenced = true;
        let id = client.session.as_ref().map_or(0, |session| session.id);
        let frame = out.bytes;
        let handover = Handover {
            pool: out.pool,
            shard: out.shard,
            lane: out.lane,
            to: self.reply_by(way, to),
            bytes: Request::Read { id, frame }.bytes(),
        };
        self.pass_on(worker_of(way, self.id), handover);
    }

    /// Whom the reply to a request is for that goes this way.
    fn reply_by(&self, way: Way, to: ReplyTo) -> ReplyTo {
        let worker = self.id as u8;
        match (way, to) {
            (Way::There(_), ReplyTo::Slot { client, seq }) => ReplyTo::Remote {
                worker,
                target: client,
                seq,
                part: NO_PART,
            },
            (Way::There(_), ReplyTo::Part { gather, part, .. }) => ReplyTo::Remote {
                worker,
                target: gather,
                seq: 0,
                part,
            },
            _ => to,
        }
    }

    /// What the client has watched does not matter any more.
    pub(super) fn end_watch(&mut self, who: Handle) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let id = client.session.as_ref().map_or(0, |session| session.id);
        client.watch_moved = false;
        if let Some(watching) = client.watching.take() {
            self.unwatch(watching, id);
        }
    }

    /// Keys are with other shards now.
    pub(super) fn move_watched(&mut self, pool: u16) {
        for who in self.clients.handles() {
            if let Some(client) = self.clients.get_mut(who) {
                client.watch_moved |= client.pool == pool && client.watching.is_some();
            }
        }
    }

    pub(super) fn lease_way(&self, spot: Spot) -> Way {
        let worker = self.lease_worker(spot);
        if worker == self.id {
            Way::Here
        } else {
            Way::There(worker)
        }
    }

    pub(super) fn facts(&self, pool: u16, batch: &[u8]) -> Facts {
        exec::facts(batch, &|args| self.row_of(pool, args))
    }

    /// Sends a batch that came from another worker or is made again.
    pub(super) fn send_batch(
        &mut self,
        to: ReplyTo,
        pool: u16,
        shard: u16,
        lane: u8,
        bytes: &[u8],
    ) {
        let facts = self.facts(pool, bytes);
        self.prepare_scripts(pool, shard, lane, bytes, facts);
        self.send(to, &outgoing(Spot { pool, shard }, lane, bytes, facts));
    }
}

/// A batch, ready to be sent.
fn outgoing(spot: Spot, lane: u8, bytes: &[u8], facts: Facts) -> Outgoing<'_> {
    Outgoing {
        pool: spot.pool,
        shard: spot.shard,
        lane,
        write: facts.writes(),
        kind: facts.kind(),
        bytes,
        copies: Copies::Exec { reach: facts.reach },
        trailer: b"",
    }
}

/// The worker that a request goes to this way.
fn worker_of(way: Way, here: usize) -> usize {
    match way {
        Way::There(worker) => worker,
        _ => here,
    }
}
