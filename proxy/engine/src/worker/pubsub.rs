//! Subscriptions of clients: SUBSCRIBE and its like, their ends, MONITOR.
//!
//! ```text
//! SUBSCRIBE ─► topics.rs: a join ─► upstream.rs: asked of the leaders ─► all confirmed ─► answered
//! PUBLISH   ─► publish.rs: the leader of the channel's shard ─► news.rs ─► subscribers
//! ```
//! A client's SUBSCRIBE is answered once the servers have confirmed it, so a PUBLISH that is sent after the
//! answer arrives. It waits for the client's earlier answers, and what follows waits for it: messages
//! stand between whole replies, never before the confirmation that announces them.

use super::forward::{Flow, Incoming, Meta};
use super::topics::{stream_of, Join, Standing, Subscriber, Topics};
use super::*;
use crate::command;
use crate::command::channel::{self, Act, Kind, Place};
use crate::conn::ReplyTo;
use crate::error;
use crate::ring::Distribution;

/// A pool's topics, and the connections that carry them.
pub(super) struct PoolChannels {
    pub topics: Topics,
    /// By shard: the connection for messages and the one for MONITOR.
    pub feeds: Vec<[u32; 2]>,
}

/// What a worker knows about publish/subscribe.
pub(super) struct Channels {
    pub pools: Vec<PoolChannels>,
    /// Bytes written for subscribers and not flushed since; see `news.rs`.
    pub burst: usize,
    /// Shards (pool, shard) for whose leader a PUBLISH waits; asked again with each tick.
    pub held: Vec<(u16, u16)>,
}

impl Channels {
    pub fn new(table: &crate::route::Table) -> Self {
        let pool = |pool: &crate::route::Pool| PoolChannels {
            topics: Topics::new(pool.shards.len()),
            feeds: vec![[NO_CONN; 2]; pool.shards.len()],
        };
        Channels {
            pools: table.pools.iter().map(pool).collect(),
            burst: 0,
            held: Vec::new(),
        }
    }
}

impl Worker {
    pub(super) fn channel(&mut self, asked: &Incoming, act: Act) -> Flow {
        if act == Act::Publish {
            return self.publish(asked);
        }
        let Some(client) = self.clients.get_mut(asked.who) else {
            return Flow::Taken;
        };
        if !client.slots.is_empty() {
            client.block = Block::Drain;
            return Flow::Wait;
        }
        match act {
            Act::Subscribe(kind) => self.subscribe(asked, kind),
            Act::Unsubscribe(kind) => self.unsubscribe(asked, kind),
            Act::Query(kind) => self.query(asked, kind),
            Act::Publish => Flow::Taken,
        }
    }

    pub(super) fn topics(&mut self, pool: u16) -> &mut Topics {
        &mut self.channels.pools[pool as usize].topics
    }

    /// True if a shard has nobody to ask: it is lost, or its keys are with others.
    pub(super) fn is_off(&self, pool: u16, shard: u16) -> bool {
        let table = &self.table.pools[pool as usize];
        table.absent.get(shard as usize) == Some(&true)
            || table.shards[shard as usize].lead.is_none()
    }

    /// The shard of a channel. A ring that places keys by chance is asked in a way that has the same
    /// answer in every proxy.
    pub(super) fn channel_shard(&self, pool: u16, name: &[u8]) -> u16 {
        let mut entropy = 0x811c_9dc5_u32;
        for byte in name {
            entropy = (entropy ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
        let ring = &self.table.pools[pool as usize].ring;
        ring.shard(name, &mut entropy.max(1)) as u16
    }

    /// The shard of a topic; None for every shard.
    pub(super) fn topic_home(&self, pool: u16, kind: Kind, name: &[u8]) -> Option<u16> {
        let by_chance = self.table.pools[pool as usize].spec.distribution == Distribution::Random;
        match channel::place(kind, name) {
            Place::Everywhere => None,
            // Where a key may be anywhere, so may what happens to it.
            Place::At(_) if by_chance && channel::notification(name).is_some() => None,
            Place::At(place) => Some(self.channel_shard(pool, place)),
        }
    }

    // --- SUBSCRIBE -------------------------------------------------------------------------------

    fn subscribe(&mut self, asked: &Incoming, kind: Kind) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            args,
            ..
        } = *asked;
        if kind == Kind::Monitor {
            if !self.shared.config.pools[pool as usize].monitor {
                let mut text = Vec::new();
                error::unknown_command(args.get(0), args.iter().skip(1), &mut text);
                self.pool_stats(pool).of(PoolCount::Unsupported).add(1);
                self.reply_now(who, meta, &text);
                return Flow::Taken;
            }
            if !self.topics(pool).topics_of(who, Some(kind)).is_empty() {
                return Flow::Taken; // as Redis: no answer
            }
        }
        // MONITOR has no name; its arity is 1.
        let nameless = (kind == Kind::Monitor).then_some(&b""[..]);
        let names = || args.iter().skip(1).chain(nameless);
        let limit = self.shared.config.pools[pool as usize].client_output_limit;
        let topics = self.topics(pool);
        let cost: usize = names().map(|name| topics.cost(kind, name)).sum();
        let refused = if names().any(command::is_reserved) {
            Some(Wire::ReservedKey)
        } else if topics.bytes_of(who) + cost > limit {
            Some(Wire::TooManySubscriptions)
        } else {
            None
        };
        if let Some(wire) = refused {
            self.reply_now(who, meta, wire.redis());
            return Flow::Taken;
        }
        let mut join = Join::new(who, self.now_ms);
        for name in names() {
            let home = self.topic_home(pool, kind, name);
            let off: Vec<bool> = match home {
                Some(home) => vec![self.is_off(pool, home)],
                None => {
                    let shards = self.table.pools[pool as usize].shards.len() as u16;
                    (0..shards).map(|shard| self.is_off(pool, shard)).collect()
                }
            };
            let is_off = |shard: u16| off[if home.is_some() { 0 } else { shard as usize }];
            join.topics
                .push(self.topics(pool).pin(kind, name, home, is_off));
        }
        if join
            .topics
            .iter()
            .any(|topic| self.topics(pool).is_lost(*topic))
        {
            let gone = self.topics(pool).abandon(&join);
            self.unask(pool, gone);
            self.pool_stats(pool).of(PoolCount::ShardLost).add(1);
            self.reply_now(who, meta, Wire::ShardLost.redis());
            return Flow::Taken;
        }
        // What announces messages is sent whatever CLIENT REPLY says.
        let meta = Meta {
            mute: meta.mute && kind == Kind::Monitor,
            ..meta
        };
        join.seq = self.open_slot(who, meta, &[]);
        if let Some(client) = self.clients.get_mut(who) {
            client.barrier = join.seq;
            if let Some(session) = client.session.as_mut() {
                session.joining = true;
                session.settle();
            }
        }
        self.idle = false;
        let topics = join.topics.clone();
        match self.topics(pool).begin(join) {
            Ok(_) => self.ask_for(pool, kind, &topics),
            Err(join) => self.answer_join(pool, join),
        }
        Flow::Taken
    }

    /// Asks the servers for what was not asked for yet.
    fn ask_for(&mut self, pool: u16, kind: Kind, topics: &[u32]) {
        for shard in 0..self.table.pools[pool as usize].shards.len() as u16 {
            let wanted = |topic: &&u32| {
                let found = self.channels.pools[pool as usize].topics.get(**topic);
                found.is_some_and(|topic| topic.standing(shard) == Standing::Wanted)
            };
            let mut wanted: Vec<u32> = topics.iter().filter(wanted).copied().collect();
            if !wanted.is_empty() {
                wanted.sort_unstable();
                wanted.dedup();
                self.ask(pool, shard, stream_of(kind), &wanted);
            }
        }
    }

    /// Joins that have nothing left to wait for.
    pub(super) fn finish_joins(&mut self, pool: u16, joins: Vec<u32>) {
        for join in joins {
            if let Some(join) = self.topics(pool).end(join) {
                self.answer_join(pool, join);
            }
        }
    }

    /// Everything it asked for is confirmed: from here on the client is served.
    fn answer_join(&mut self, pool: u16, join: Join) {
        let fresh = self.topics(pool).complete(&join);
        let count = fresh.iter().filter(|new| **new).count() as u64;
        self.pool_stats(pool)
            .of(PoolCount::Subscriptions)
            .add(count);
        let who = join.client;
        let topics = &self.channels.pools[pool as usize].topics;
        let Some(session) = self
            .clients
            .get_mut(who)
            .and_then(|client| client.session.as_mut())
        else {
            return; // `close_client` has ended its joins, so this cannot be
        };
        let mut text = Vec::new();
        for (topic, new) in join.topics.iter().zip(fresh) {
            let Some(topic) = topics.get(*topic) else {
                continue;
            };
            if topic.kind == Kind::Monitor {
                session.monitoring = true;
                text.extend_from_slice(b"+OK\r\n");
                continue;
            }
            session.subscriptions[topic.kind as usize] += u32::from(new);
            let count = topic.kind.count(&session.subscriptions);
            let word = topic.kind.subscribe().1;
            channel::confirm(session.resp3, word, Some(&topic.name), count, &mut text);
        }
        self.end_join(&join, &text);
    }

    /// A join that failed. Nothing of it remains.
    pub(super) fn fail_join(&mut self, pool: u16, join: u32, text: &[u8]) {
        let Some(join) = self.topics(pool).end(join) else {
            return;
        };
        let gone = self.topics(pool).abandon(&join);
        self.unask(pool, gone);
        self.end_join(&join, text);
    }

    fn end_join(&mut self, join: &Join, text: &[u8]) {
        let client = join.client;
        let found = self.clients.get_mut(client);
        if let Some(session) = found.and_then(|client| client.session.as_mut()) {
            session.joining = false;
            session.settle();
        }
        let seq = join.seq;
        let to = ReplyTo::Slot { client, seq };
        self.deliver(to, text);
    }

    // --- UNSUBSCRIBE -----------------------------------------------------------------------------

    fn unsubscribe(&mut self, asked: &Incoming, kind: Kind) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            args,
            ..
        } = *asked;
        let Some(session) = self
            .clients
            .get_mut(who)
            .and_then(|client| client.session.as_ref())
        else {
            return Flow::Taken;
        };
        let (resp3, mut subscriptions) = (session.resp3, session.subscriptions);
        let word = kind.unsubscribe().1;
        let mut text = Vec::new();
        let mut gone = Vec::new();
        let topics = &mut self.channels.pools[pool as usize].topics;
        let mut ended = 0;
        let mut end = |name: &[u8], topic: Option<u32>, topics: &mut Topics| {
            if let Some(topic) = topic.filter(|topic| topics.unsubscribe(who, *topic)) {
                subscriptions[kind as usize] -= 1;
                ended += 1;
                gone.extend(topics.release(topic));
            }
            let count = kind.count(&subscriptions);
            channel::confirm(resp3, word, Some(name), count, &mut text);
        };
        if args.len() > 1 {
            for name in args.iter().skip(1) {
                let topic = topics.find(kind, name);
                end(name, topic, topics);
            }
        } else {
            for topic in topics.topics_of(who, Some(kind)) {
                if let Some(name) = topics.get(topic).map(|found| Arc::clone(&found.name)) {
                    end(&name, Some(topic), topics);
                }
            }
        }
        if text.is_empty() {
            channel::confirm(resp3, word, None, kind.count(&subscriptions), &mut text);
        }
        self.unask(pool, gone);
        self.pool_stats(pool)
            .of(PoolCount::Subscriptions)
            .sub(ended);
        if let Some(session) = self
            .clients
            .get_mut(who)
            .and_then(|client| client.session.as_mut())
        {
            session.subscriptions = subscriptions;
            session.settle();
        }
        self.reply_now(
            who,
            Meta {
                mute: false,
                ..meta
            },
            &text,
        );
        Flow::Taken
    }

    /// A client that is gone, or has said RESET.
    pub(super) fn leave_channels(&mut self, pool: u16, client: Subscriber) {
        let topics = self.topics(pool);
        let count = topics.topics_of(client, None).len() as u64;
        let gone = topics.leave(client);
        self.unask(pool, gone);
        self.pool_stats(pool)
            .of(PoolCount::Subscriptions)
            .sub(count);
    }

    // --- time ------------------------------------------------------------------------------------

    /// True while something of this may time out or has to be connected.
    pub(super) fn is_subscribing(&self) -> bool {
        !self.channels.held.is_empty()
            || self
                .channels
                .pools
                .iter()
                .enumerate()
                .any(|(pool, channels)| {
                    channels.topics.has_joins()
                        || (!channels.topics.is_empty() && self.has_feed_to_make(pool as u16))
                })
    }

    pub(super) fn tick_channels(&mut self) {
        for (pool, shard) in std::mem::take(&mut self.channels.held) {
            self.wake_later(pool, shard);
        }
        for pool in 0..self.channels.pools.len() as u16 {
            if self.topics(pool).is_empty() {
                continue;
            }
            self.pump_feeds(pool);
            if self.topics(pool).has_joins() {
                let timeout = 2 * self.shared.config.pools[pool as usize].request_timeout;
                let before = self.now_ms.saturating_sub(timeout);
                for join in self.topics(pool).late(before) {
                    self.fail_join(pool, join, Wire::BackendUnreachable.redis());
                }
            }
        }
    }
}
