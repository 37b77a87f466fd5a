//! Clients that wait in a blocking command.
//!
//! ```text
//! request ─► [ids of `$`] ─► attempt, a part per shard ─► something: the reply, in the blocking form's shape
//!                                   │ nothing
//!                                   ▼
//!                    ready.rs: a key has changed ─► attempt with that key ─► something ─► the reply
//!                                   ▲                                 │ nothing
//!                                   └─────────────────────────────────┘
//! timeout, CLIENT UNBLOCK ─► nil or an error, once no attempt is under way
//! the client has left ─► forgotten; what an attempt under way has taken is put back
//! ```
//!
//! An attempt is a request like any other (`command/blocking.rs`): ordered with the shard's writes, repeated
//! on its replicas. While a client waits nothing is sent for it and nothing of it is read.
//!
//! An attempt that was not carried out (the shard is lost, or its membership is being settled) does not end a
//! wait that has begun: it goes on where the shard goes on. One whose outcome is unknown does, with the error
//! that says so.
//!
//! Past 600 lines: a wait can end in each of its states, and is easier to follow where all of them are.

use super::forward::{Copies, Flow, Incoming, Outgoing, Way};
use super::reads::AGAIN;
use super::ready::Over;
use super::*;
use crate::command::blocking::{self, Call, Found, Holds, Kind};
use crate::command::effect::{is_away, is_condition};
use crate::conn::backend::WAIT_PART;
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::proto::{resp, Args};

/// Bytes that the waits of one worker take together; a client beyond it is refused. A request may name a
/// million keys, and stays as long as it waits.
const WAITS_LIMIT: usize = 256 * 1024 * 1024;
/// Between two attempts to put something back that was not taken.
const PUT_BACK_PACE_MS: u64 = 100;
/// For so long it is attempted.
const PUT_BACK_LIMIT_MS: u64 = 60_000;

/// How far a wait has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The last entry of this stream is asked for.
    Resolve(usize),
    /// These keys are tried for the first time.
    First(usize, usize),
    /// Nothing was there.
    Waiting,
    /// This key is tried, as it has changed.
    Again(usize),
    /// The client has left, and what was taken for it is given back.
    PutBack,
}

/// What a client is told when nothing has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Nil,
    Error(Wire),
    /// Nothing: its connection is closed.
    Close,
}

pub(super) struct Wait {
    client: Handle,
    seq: u32,
    pub pool: u16,
    pub lane: u8,
    resp3: bool,
    pub call: Call,
    /// The shard of each key.
    pub spots: Vec<Spot>,
    pub stage: Stage,
    /// Rises with each wait of the worker: who waits longer comes first.
    pub order: u64,
    /// When its first attempts were made, by `Worker::types_told`.
    pub began: u64,
    /// Milliseconds of the worker clock; 0 never.
    deadline: u64,
    /// Of the call when it began, as counted in `Worker::waits_bytes`.
    weight: usize,
    is_listed: bool,
    is_left: bool,
    verdict: Option<Verdict>,
    /// What is put back, and since when. Milliseconds of the worker clock.
    back: Vec<u8>,
    since: u64,
}

impl Wait {
    /// The request of the present stage: its shard, whether it writes, its bytes.
    fn request(&self) -> (Spot, bool, Vec<u8>) {
        let mut bytes = Vec::new();
        let mut is_write = self.call.kind != Kind::Read;
        let key = match self.stage {
            Stage::Resolve(key) => {
                self.call.ask_last(key, &mut bytes);
                is_write = false;
                key
            }
            Stage::First(start, end) => {
                self.call.attempt(start..end, &mut bytes);
                start
            }
            Stage::Again(key) => {
                self.call.attempt(key..key + 1, &mut bytes);
                key
            }
            Stage::Waiting | Stage::PutBack => {
                bytes.extend_from_slice(&self.back);
                0
            }
        };
        (self.spots[key], is_write, bytes)
    }

    /// The keys from `start` on that are on one shard.
    fn part(&self, start: usize) -> Stage {
        let rest = &self.spots[start..];
        let count = rest.iter().take_while(|spot| **spot == rest[0]).count();
        Stage::First(start, start + count)
    }
}

impl Worker {
    /// A request that may block.
    pub(super) fn block(&mut self, asked: &Incoming) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            lane,
            row,
            args,
            ..
        } = *asked;
        let call = match blocking::take(row, &args) {
            Ok(Some(call)) => call,
            Ok(None) => return self.forward(asked),
            Err(text) => {
                self.reply_now(who, meta, &text);
                return Flow::Taken;
            }
        };
        let spots = match self.place_call(pool, &call) {
            Ok(spots) if self.waits_bytes + call.weight() <= WAITS_LIMIT => spots,
            Ok(_) => {
                self.reply_now(who, meta, Wire::TooManyWaits.redis());
                return Flow::Taken;
            }
            Err(wire) => {
                self.reply_now(who, meta, wire.redis());
                return Flow::Taken;
            }
        };
        let session = self
            .clients
            .get_mut(who)
            .and_then(|client| client.session.as_ref());
        let resp3 = session.is_some_and(|session| session.resp3);
        let (limit, weight) = (call.timeout_ms, call.weight());
        let deadline = limit.map_or(0, |limit| (self.now_ms + 1).saturating_add(limit));
        let mut wait = Wait {
            client: who,
            seq: 0,
            pool,
            lane,
            resp3,
            call,
            spots,
            stage: Stage::Waiting,
            order: self.next_wait,
            began: self.types_told,
            weight,
            deadline,
            is_listed: false,
            is_left: false,
            verdict: None,
            back: Vec::new(),
            since: 0,
        };
        wait.stage = match wait.call.unresolved(0) {
            Some(key) => Stage::Resolve(key),
            None => wait.part(0),
        };
        let (spot, write, bytes) = wait.request();
        let Spot { pool, shard } = spot;
        let out = Outgoing {
            pool,
            shard,
            lane,
            write,
            kind: ReplyKind::Line,
            bytes: &bytes,
            copies: Copies::Same,
            trailer: b"",
        };
        let way = self.way(who, &out);
        if let Way::Wait(block) = way {
            return self.wait(who, meta, block, &out);
        }
        wait.seq = self.open_slot(who, meta, &[way]);
        self.next_wait += 1;
        self.waits_bytes += wait.weight;
        let order = wait.order;
        let at = self.waits.insert(wait);
        if deadline > 0 {
            self.timeouts.insert((deadline, order, at));
        }
        if let Some(client) = self.clients.get_mut(who) {
            client.block = Block::Blocked;
            client.wait = at;
        }
        match way {
            Way::There(worker) => {
                let to = self.remote_wait(at);
                self.hand_over(worker, to, &out);
            }
            _ => self.carry_out(&Handover {
                pool,
                shard,
                lane,
                to: ReplyTo::Try(at),
                bytes,
            }),
        }
        Flow::Taken
    }

    /// The shard of each key; an error if what has to be on one is not.
    fn place_call(&mut self, pool: u16, call: &Call) -> Result<Vec<Spot>, Wire> {
        let keys = || call.keys.iter().map(Vec::as_slice);
        if keys()
            .chain(call.destination())
            .any(crate::command::is_reserved)
        {
            return Err(Wire::ReservedKey);
        }
        let spots: Vec<Spot> = keys().map(|key| self.spot_of(pool, key)).collect();
        let target = call.destination().map(|key| self.spot_of(pool, key));
        let is_spread = spots.iter().any(|spot| *spot != spots[0]);
        let may_spread = self.shared.config.pools[pool as usize].cross_shard;
        if (is_spread && !may_spread) || target.is_some_and(|spot| spot != spots[0]) {
            self.pool_stats(pool).of(PoolCount::CrossShard).add(1);
            return Err(Wire::CrossSlot);
        }
        Ok(spots)
    }

    fn remote_wait(&self, wait: Handle) -> ReplyTo {
        ReplyTo::Remote {
            worker: self.id as u8,
            target: wait,
            seq: 0,
            part: WAIT_PART,
        }
    }

    /// Sends the request of a wait's stage, behind whatever waits for its shard.
    fn launch(&mut self, at: Handle) {
        let Some(wait) = self.waits.get(at) else {
            return;
        };
        let lane = wait.lane;
        let (Spot { pool, shard }, write, bytes) = wait.request();
        let is_replicated = self.shard_table(pool, shard).is_replicated();
        let owner = self.owner(pool, shard);
        let mut to = ReplyTo::Try(at);
        if !write {
            let is_again = matches!(wait.stage, Stage::Again(_));
            self.read(pool, shard, lane, to, &bytes, is_again);
            return;
        }
        let is_here = owner == self.id || !is_replicated;
        if !is_here {
            to = self.remote_wait(at);
        }
        let handover = Handover {
            pool,
            shard,
            lane,
            to,
            bytes,
        };
        if is_here {
            self.receive(handover);
        } else {
            self.pool_stats(pool).of(PoolCount::Handovers).add(1);
            self.mail[owner].push(Message::Request(handover));
        }
    }

    /// Sends a read; `is_again` to the leader and nobody else, since it has told of a change, and another
    /// replica may be behind it.
    fn read(&mut self, pool: u16, shard: u16, lane: u8, to: ReplyTo, bytes: &[u8], is_again: bool) {
        let table = self.shard_table(pool, shard);
        let Some(lead) = table.lead else {
            self.fail(pool, to, Wire::ShardLost);
            return;
        };
        let others = match is_again && table.reads.contains(&lead) {
            true => AGAIN | u32::from(table.in_sync & !(1 << lead)),
            false => 0,
        };
        let out = Outgoing {
            pool,
            shard,
            lane,
            write: false,
            kind: ReplyKind::Line,
            bytes,
            copies: Copies::Same,
            trailer: b"",
        };
        self.send_read(to, &out, others);
    }

    /// Tries one key again, of a client that waits.
    pub(super) fn try_again(&mut self, at: Handle, key: usize) {
        if let Some(wait) = self.waits.get_mut(at) {
            wait.stage = Stage::Again(key);
            self.launch(at);
        }
    }

    /// The reply to a wait's request.
    pub(super) fn tried(&mut self, at: Handle, reply: &[u8]) {
        let Some(wait) = self.waits.get_mut(at) else {
            return;
        };
        match wait.stage {
            Stage::Resolve(key) => {
                if resp::is_error(reply) {
                    return self.finish(at, reply);
                }
                wait.call.resolve(key, reply);
                wait.stage = match wait.call.unresolved(key + 1) {
                    Some(next) => Stage::Resolve(next),
                    None => wait.part(0),
                };
                if !self.is_cut_short(at) {
                    self.launch(at);
                }
            }
            Stage::First(start, end) => match wait.call.found(start..end, reply) {
                Found::Reply(reply) => self.finish(at, &reply),
                Found::Error => self.finish(at, reply),
                Found::Nothing if end < wait.spots.len() => {
                    wait.stage = wait.part(end);
                    if !self.is_cut_short(at) {
                        self.launch(at);
                    }
                }
                Found::Nothing => {
                    wait.stage = Stage::Waiting;
                    let who = wait.client;
                    if !self.is_over(at) {
                        self.enlist(at);
                        self.check_hangup(who);
                    }
                }
            },
            Stage::Again(key) => self.tried_again(at, key, reply),
            Stage::PutBack => self.was_put_back(at, reply),
            Stage::Waiting => {}
        }
    }

    fn tried_again(&mut self, at: Handle, key: usize, reply: &[u8]) {
        let Some(wait) = self.waits.get_mut(at) else {
            return;
        };
        wait.stage = Stage::Waiting;
        let place = (wait.spots[key], wait.lane);
        let name = wait.call.keys[key].clone();
        let (kind, found) = (wait.call.kind, wait.call.found(key..key + 1, reply));
        let is = |prefix: &[u8]| reply.starts_with(prefix);
        let holds = self.holds(place, &name);
        let end = match found {
            Found::Reply(reply) => Some(reply),
            Found::Nothing => None,
            Found::Error if is_postponed(reply) => {
                self.attempt_over(place, &name, at, Over::Failed);
                self.try_later(place, &name);
                self.is_over(at);
                return;
            }
            // The key has become something else, unless it is what the element should go to.
            Found::Error if is(b"-WRONGTYPE") => {
                (kind == Kind::Move && holds == Some(Holds::List)).then(|| reply.to_vec())
            }
            Found::Error if kind == Kind::Group && is(b"-NOGROUP") => {
                Some(Wire::GroupGone.redis().to_vec())
            }
            Found::Error => Some(reply.to_vec()),
        };
        let over = match &end {
            None => Over::Nothing,
            Some(reply) if resp::is_error(reply) => Over::Failed,
            Some(_) => Over::Taken,
        };
        self.attempt_over(place, &name, at, over);
        match end {
            Some(reply) => self.finish(at, &reply),
            None if !self.is_over(at) => self.pump_wait(at),
            None => {}
        }
        self.pump(place, &name);
    }

    /// Ends a wait that has no attempt under way if its time is over, or its client has left.
    fn is_over(&mut self, at: Handle) -> bool {
        let Some(wait) = self.waits.get(at) else {
            return true;
        };
        if wait.is_left {
            self.drop_wait(at);
            return true;
        }
        let Some(verdict) = wait.verdict else {
            return false;
        };
        let client = wait.client;
        match verdict {
            Verdict::Nil => {
                let reply = blocking::nil(wait.resp3);
                self.finish(at, reply);
            }
            Verdict::Error(wire) => self.finish(at, wire.redis()),
            Verdict::Close => {
                self.drop_wait(at);
                self.close_client(client);
            }
        }
        true
    }

    /// The same while there are keys that have not been tried: time counts for who finds nothing in any of them.
    fn is_cut_short(&mut self, at: Handle) -> bool {
        let is_late = |wait: &Wait| !wait.is_left && matches!(wait.verdict, Some(Verdict::Nil));
        !self.waits.get(at).is_some_and(is_late) && self.is_over(at)
    }

    /// Has a wait end, at once or after the attempt under way.
    pub(super) fn end_wait(&mut self, at: Handle, verdict: Verdict) {
        if let Some(wait) = self.waits.get_mut(at) {
            wait.verdict = wait.verdict.or(Some(verdict));
            if wait.stage == Stage::Waiting {
                self.is_over(at);
            }
        }
    }

    fn drop_wait(&mut self, at: Handle) -> Option<Wait> {
        self.unlist(at);
        self.waits.get(at)?;
        let wait = self.waits.remove(at)?;
        self.waits_bytes -= wait.weight;
        self.timeouts.remove(&(wait.deadline, wait.order, at));
        Some(wait)
    }

    /// Puts a wait into the lists of its keys.
    pub(super) fn enlist(&mut self, at: Handle) {
        let Some(wait) = self.waits.get_mut(at) else {
            return;
        };
        wait.is_listed = true;
        let pool = wait.pool;
        self.pool_stats(pool).of(PoolCount::Blocked).add(1);
        let count = self.waits.get(at).map_or(0, |wait| wait.spots.len());
        for key in 0..count {
            self.want(at, key);
        }
        self.pump_wait(at);
    }

    /// Nothing will say again that the client has closed its end.
    fn check_hangup(&mut self, who: Handle) {
        let client = self.clients.get(who);
        if client.is_some_and(|client| client.hangup && client.block == Block::Blocked) {
            self.abandon_wait(who);
        }
    }

    fn unlist(&mut self, at: Handle) {
        let Some(wait) = self.waits.get_mut(at) else {
            return;
        };
        if std::mem::take(&mut wait.is_listed) {
            let pool = wait.pool;
            self.pool_stats(pool).of(PoolCount::Blocked).sub(1);
            self.unwant(at);
        }
    }

    /// Answers a client that waited.
    fn finish(&mut self, at: Handle, reply: &[u8]) {
        let was_waiting = self.waits.get(at).is_some_and(|wait| wait.is_listed);
        let Some(wait) = self.drop_wait(at) else {
            return;
        };
        let started = self.now as u32;
        let client = match wait.is_left {
            true => None,
            false => self.clients.get_mut(wait.client),
        };
        // What it would not read is better not sent to it.
        let client = client.filter(|client| !was_waiting || !sys::is_hung_up(&client.fd));
        let Some(client) = client else {
            let back = match resp::is_error(reply) {
                true => None,
                false => wait.call.put_back(reply),
            };
            let client = wait.client;
            let is_left = wait.is_left;
            if let Some(back) = back {
                self.put_back(wait, back);
            }
            if !is_left {
                self.close_client(client);
            }
            return;
        };
        client.block = Block::None;
        if was_waiting {
            // A wait is no measure of how long a request takes.
            if let Some(slot) = client.slot(wait.seq) {
                slot.started = started;
            }
        }
        let to = ReplyTo::Slot {
            client: wait.client,
            seq: wait.seq,
        };
        self.deliver(to, reply);
        self.list_client(wait.client);
    }

    /// The client has closed its end and waits: it is answered what it asked before, and closed.
    pub(super) fn abandon_wait(&mut self, who: Handle) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let at = client.wait;
        let wait = self.waits.get(at);
        // A first attempt is answered: it was asked for before the end.
        let is_first = |wait: &&Wait| matches!(wait.stage, Stage::Resolve(_) | Stage::First(..));
        let Some(wait) = wait.filter(|wait| !is_first(wait)) else {
            return;
        };
        let seq = wait.seq;
        (client.block, client.closing, client.quitting) = (Block::None, true, true);
        self.leave_wait(at);
        let to = ReplyTo::Slot { client: who, seq };
        self.deliver(to, b"");
        self.mark_client(who);
    }

    /// The client of a wait is gone.
    pub(super) fn leave_wait(&mut self, at: Handle) {
        self.unlist(at);
        if let Some(wait) = self.waits.get_mut(at) {
            wait.is_left = true;
            if wait.stage == Stage::Waiting {
                self.drop_wait(at);
            }
        }
    }

    // --- what nobody is there for any more -------------------------------------------------------

    fn put_back(&mut self, mut wait: Wait, back: Vec<u8>) {
        let key = wait
            .call
            .keys
            .iter()
            .position(|key| is_second_word(&back, key));
        let key = wait.call.keys.swap_remove(key.unwrap_or(0));
        wait.spots = vec![self.spot_of(wait.pool, &key)];
        wait.call.keys = vec![key];
        (wait.stage, wait.is_left, wait.back) = (Stage::PutBack, true, back);
        (wait.deadline, wait.since) = (0, self.now_ms);
        self.waits_bytes += wait.weight;
        let at = self.waits.insert(wait);
        self.launch(at);
    }

    fn was_put_back(&mut self, at: Handle, reply: &[u8]) {
        let Some(wait) = self.waits.get(at) else {
            return;
        };
        let pool = wait.pool;
        let has_time = self.now_ms < wait.since + PUT_BACK_LIMIT_MS;
        let is_refused = is_postponed(reply) || is_condition(reply);
        if is_refused && has_time {
            self.put_backs
                .push_back((self.now_ms + PUT_BACK_PACE_MS, at));
            self.idle = false;
            return;
        }
        let count = match resp::is_error(reply) {
            true => PoolCount::PutBackFailed,
            false => PoolCount::PutBack,
        };
        self.pool_stats(pool).of(count).add(1);
        self.drop_wait(at);
    }

    // --- time ------------------------------------------------------------------------------------

    /// Milliseconds of the worker clock at which a wait is over.
    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.timeouts.first().map(|first| first.0)
    }

    pub(super) fn expire_blocked(&mut self) {
        while let Some((deadline, _, at)) = self.timeouts.first().copied() {
            if deadline > self.now_ms {
                break;
            }
            self.timeouts.pop_first();
            self.end_wait(at, Verdict::Nil);
        }
        while let Some((due, at)) = self.put_backs.front().copied() {
            if due > self.now_ms {
                break;
            }
            self.put_backs.pop_front();
            self.launch(at);
        }
    }

    /// Lets all go, as a server that stops does: nobody is told that there was nothing.
    pub(super) fn release_blocked(&mut self) {
        for at in self.waits.handles() {
            self.end_wait(at, Verdict::Close);
        }
    }

    /// Keys are with other shards now.
    pub(super) fn move_waits(&mut self, pool: u16) {
        for at in self.waits.handles() {
            let Some(wait) = self.waits.get(at) else {
                continue;
            };
            if wait.pool != pool || wait.stage == Stage::PutBack {
                continue;
            }
            let call = wait.call.clone();
            let placed = self.place_call(pool, &call);
            let Some(wait) = self.waits.get_mut(at) else {
                continue;
            };
            match placed {
                Ok(spots) if spots == wait.spots => {}
                Ok(spots) => {
                    let is_listed = wait.is_listed;
                    self.unlist(at);
                    if let Some(wait) = self.waits.get_mut(at) {
                        wait.spots = spots;
                    }
                    if is_listed {
                        self.enlist(at);
                    }
                }
                Err(wire) => self.end_wait(at, Verdict::Error(wire)),
            }
        }
    }
}

/// True for an error that says that nothing was done, and that may be otherwise a moment later.
fn is_postponed(reply: &[u8]) -> bool {
    reply.starts_with(b"-CLUSTERDOWN ") || is_away(reply)
}

fn is_second_word(request: &[u8], word: &[u8]) -> bool {
    let mut list = Vec::new();
    resp::request(request, &mut list, &mut Default::default(), usize::MAX);
    Args {
        buf: request,
        list: &list,
    }
    .get(1)
        == word
}
