//! Who is subscribed to what in one pool: clients, and how far the servers have confirmed it.
//!
//! A *topic* is a channel, a pattern or the stream of MONITOR, subscribed to once at each shard it has
//! to do with, however many clients want it. A client's request is a *join*: it is answered, and its
//! client served, once every topic it names is confirmed. Values only; `pubsub.rs` and `upstream.rs`
//! send and receive. Longer than most files: every method keeps the tables in step with each other.
//!
//! ```text
//! Off ◄──shard lost──► Wanted ─sent─► Asked ─confirmed─► Confirmed
//!                        ▲──── connection lost ────────────┘
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::command::channel::{Kind, KINDS};
use crate::slab::{Handle, Slab};

/// A client.
pub(super) type Subscriber = Handle;

/// How far a topic has come at one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The shard has nobody to ask, or its keys are with others.
    Off,
    Wanted,
    Asked,
    Confirmed,
}

impl Standing {
    fn is_missing(self) -> bool {
        matches!(self, Standing::Wanted | Standing::Asked)
    }
}

pub(super) struct Topic {
    pub kind: Kind,
    pub name: Arc<[u8]>,
    /// None: every shard.
    pub home: Option<u16>,
    /// By shard; with a home, that one's alone.
    standings: Vec<Standing>,
    /// How many of them are neither `Off` nor `Confirmed`.
    missing: usize,
    subscribers: Vec<Subscriber>,
    /// Joins that name it and are not answered yet, and those that wait for its confirmation.
    pins: usize,
    waiting: Vec<u32>,
}

impl Topic {
    fn at(&self, shard: u16) -> Option<usize> {
        match self.home {
            Some(home) => (home == shard).then_some(0),
            None => Some(shard as usize),
        }
    }

    pub fn standing(&self, shard: u16) -> Standing {
        self.at(shard)
            .map_or(Standing::Off, |at| self.standings[at])
    }

    /// Returns the standing before.
    fn set(&mut self, shard: u16, standing: Standing) -> Standing {
        let Some(at) = self.at(shard) else {
            return Standing::Off;
        };
        let before = std::mem::replace(&mut self.standings[at], standing);
        self.missing += usize::from(standing.is_missing());
        self.missing -= usize::from(before.is_missing());
        before
    }

    /// The shards where it was asked for.
    pub fn asked_at(&self) -> impl Iterator<Item = u16> + '_ {
        let asked = |(_, standing): &(usize, &Standing)| {
            matches!(standing, Standing::Asked | Standing::Confirmed)
        };
        let shards = self.standings.iter().enumerate().filter(asked);
        shards.map(|(at, _)| self.home.unwrap_or(at as u16))
    }

    /// True if no shard that it has to do with has anybody to ask.
    fn is_off(&self) -> bool {
        self.standings
            .iter()
            .all(|standing| *standing == Standing::Off)
    }

    /// Bytes that a subscription to it keeps, as if nobody shared it.
    fn cost(&self) -> usize {
        self.name.len() + ENTRY_BYTES + self.standings.len()
    }

    pub fn is_served(&self) -> bool {
        !self.subscribers.is_empty()
    }
}

/// A client's request that waits for confirmations.
pub(super) struct Join {
    pub client: Subscriber,
    /// Its place in the client's order.
    pub seq: u32,
    /// As the client named them, repetitions included. Each is pinned once per mention.
    pub topics: Vec<u32>,
    waiting: usize,
    /// Milliseconds of the worker clock.
    pub since: u64,
}

impl Join {
    pub fn new(client: Subscriber, since: u64) -> Self {
        Join {
            client,
            seq: 0,
            topics: Vec::new(),
            waiting: 0,
            since,
        }
    }
}

#[derive(Default)]
struct Member {
    /// Topic → its place among the topic's subscribers. By kind first, then by age of the topic's place.
    topics: BTreeMap<(Kind, u32), u32>,
    /// What they cost (`Topics::cost`).
    bytes: usize,
    join: Option<u32>,
}

/// What one subscription costs beside its name: the entries of both tables.
const ENTRY_BYTES: usize = 160;

pub(super) struct Topics {
    shards: usize,
    names: [HashMap<Arc<[u8]>, u32>; KINDS],
    topics: Slab<Topic>,
    joins: Slab<Join>,
    members: HashMap<Subscriber, Member>,
    /// Topics by home, and those without, apart for the connections they use (0 messages, 1 MONITOR).
    at_home: [Vec<u32>; 2],
    everywhere: [u32; 2],
}

/// Which connection carries a kind: a server takes no MONITOR on one that is subscribed.
pub(super) fn stream_of(kind: Kind) -> usize {
    usize::from(kind == Kind::Monitor)
}

impl Topics {
    pub fn new(shards: usize) -> Self {
        Topics {
            shards,
            names: Default::default(),
            topics: Slab::default(),
            joins: Slab::default(),
            members: HashMap::new(),
            at_home: [vec![0; shards], vec![0; shards]],
            everywhere: [0; 2],
        }
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// True if a connection to the shard is of use.
    pub fn needs(&self, stream: usize, shard: u16) -> bool {
        self.everywhere[stream] > 0 || self.at_home[stream][shard as usize] > 0
    }

    pub fn find(&self, kind: Kind, name: &[u8]) -> Option<u32> {
        self.names[kind as usize].get(name).copied()
    }

    pub fn get(&self, topic: u32) -> Option<&Topic> {
        self.topics.get(self.topics.handle(topic))
    }

    /// What no other topic in the same place has.
    pub fn handle(&self, topic: u32) -> Handle {
        self.topics.handle(topic)
    }

    pub fn all(&self) -> Vec<u32> {
        let handles = self.topics.handles().into_iter();
        handles.map(|topic| topic.index).collect()
    }

    /// Finds or makes a topic and keeps it until the join that names it is over.
    ///
    /// Args:
    ///     is_off: whether a shard has nobody to ask.
    pub fn pin(
        &mut self,
        kind: Kind,
        name: &[u8],
        home: Option<u16>,
        is_off: impl Fn(u16) -> bool,
    ) -> u32 {
        if let Some(topic) = self.find(kind, name) {
            if let Some(topic) = self.topics.at(topic) {
                topic.pins += 1;
            }
            return topic;
        }
        let standing = |shard| match is_off(shard) {
            true => Standing::Off,
            false => Standing::Wanted,
        };
        let standings: Vec<_> = match home {
            Some(home) => vec![standing(home)],
            None => (0..self.shards as u16).map(standing).collect(),
        };
        let name: Arc<[u8]> = name.into();
        let Handle { index: topic, .. } = self.topics.insert(Topic {
            kind,
            name: Arc::clone(&name),
            home,
            missing: standings.iter().filter(|s| s.is_missing()).count(),
            standings,
            subscribers: Vec::new(),
            pins: 1,
            waiting: Vec::new(),
        });
        self.names[kind as usize].insert(name, topic);
        self.load(stream_of(kind), home, true);
        topic
    }

    fn load(&mut self, stream: usize, home: Option<u16>, more: bool) {
        let count = match home {
            Some(home) => &mut self.at_home[stream][home as usize],
            None => &mut self.everywhere[stream],
        };
        *count = if more { *count + 1 } else { *count - 1 };
    }

    /// Begins a join of pinned topics. None if nothing is missing: `complete` can follow at once.
    pub fn begin(&mut self, join: Join) -> Result<u32, Join> {
        let mut missing: Vec<u32> = join.topics.clone();
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|topic| self.get(*topic).is_some_and(|topic| topic.missing > 0));
        if missing.is_empty() {
            return Err(join);
        }
        let client = join.client;
        let waiting = missing.len();
        let Handle { index, .. } = self.joins.insert(Join { waiting, ..join });
        for topic in missing {
            if let Some(topic) = self.topics.at(topic) {
                topic.waiting.push(index);
            }
        }
        self.members.entry(client).or_default().join = Some(index);
        Ok(index)
    }

    /// Ends a join, answered or not; its topics stay pinned until `complete` or `abandon`.
    pub fn end(&mut self, index: u32) -> Option<Join> {
        let join = self.joins.remove(self.joins.handle(index))?;
        for topic in &join.topics {
            if let Some(topic) = self.topics.at(*topic) {
                topic.waiting.retain(|waiting| *waiting != index);
            }
        }
        if let Some(member) = self.members.get_mut(&join.client) {
            member.join = None;
        }
        self.forget_idle(join.client);
        Some(join)
    }

    /// Subscribes a client to what it asked for. Returns by mention whether it was new.
    pub fn complete(&mut self, join: &Join) -> Vec<bool> {
        let new = |topic: &u32| {
            if let Some(topic) = self.topics.at(*topic) {
                topic.pins -= 1;
            }
            self.subscribe(join.client, *topic)
        };
        join.topics.iter().map(new).collect()
    }

    /// Gives up what a join has pinned. Returns the topics that nobody wants any more.
    pub fn abandon(&mut self, join: &Join) -> Vec<Topic> {
        let mut gone = Vec::new();
        for topic in &join.topics {
            if let Some(topic) = self.topics.at(*topic) {
                topic.pins -= 1;
            }
        }
        for topic in &join.topics {
            gone.extend(self.release(*topic));
        }
        gone
    }

    fn subscribe(&mut self, client: Subscriber, topic: u32) -> bool {
        let Some(found) = self.topics.at(topic) else {
            return false;
        };
        let cost = found.cost();
        let member = self.members.entry(client).or_default();
        let place = member.topics.entry((found.kind, topic));
        let std::collections::btree_map::Entry::Vacant(place) = place else {
            return false;
        };
        place.insert(found.subscribers.len() as u32);
        member.bytes += cost;
        found.subscribers.push(client);
        true
    }

    /// Ends one subscription; false if there was none. `release` the topic afterwards.
    pub fn unsubscribe(&mut self, client: Subscriber, topic: u32) -> bool {
        let (Some(found), Some(member)) = (self.topics.at(topic), self.members.get_mut(&client))
        else {
            return false;
        };
        let kind = found.kind;
        let Some(place) = member.topics.remove(&(kind, topic)) else {
            return false;
        };
        member.bytes -= found.cost();
        found.subscribers.swap_remove(place as usize);
        // The last one has taken the free place.
        if let Some(moved) = found.subscribers.get(place as usize).copied() {
            if let Some(member) = self.members.get_mut(&moved) {
                member.topics.insert((kind, topic), place);
            }
        }
        self.forget_idle(client);
        true
    }

    fn forget_idle(&mut self, client: Subscriber) {
        let idle = |member: &Member| member.topics.is_empty() && member.join.is_none();
        if self.members.get(&client).is_some_and(idle) {
            self.members.remove(&client);
        }
    }

    /// Removes a topic that nobody wants any more.
    pub fn release(&mut self, index: u32) -> Option<Topic> {
        let topic = self.get(index)?;
        if topic.pins > 0 || topic.is_served() {
            return None;
        }
        let topic = self.topics.remove(self.topics.handle(index))?;
        self.names[topic.kind as usize].remove(&topic.name);
        self.load(stream_of(topic.kind), topic.home, false);
        Some(topic)
    }

    /// A client that is gone, or has said RESET. Returns the topics that nobody wants any more.
    pub fn leave(&mut self, client: Subscriber) -> Vec<Topic> {
        let mut gone = Vec::new();
        if let Some(join) = self.members.get(&client).and_then(|member| member.join) {
            if let Some(join) = self.end(join) {
                gone.extend(self.abandon(&join));
            }
        }
        for topic in self.topics_of(client, None) {
            self.unsubscribe(client, topic);
            gone.extend(self.release(topic));
        }
        gone
    }

    /// What a client is subscribed to.
    pub fn topics_of(&self, client: Subscriber, kind: Option<Kind>) -> Vec<u32> {
        let Some(member) = self.members.get(&client) else {
            return Vec::new();
        };
        let fits = |entry: &&(Kind, u32)| kind.is_none_or(|kind| entry.0 == kind);
        let topics = member.topics.keys().filter(fits);
        topics.map(|(_, topic)| *topic).collect()
    }

    /// Bytes that a client's subscriptions keep.
    pub fn bytes_of(&self, client: Subscriber) -> usize {
        self.members.get(&client).map_or(0, |member| member.bytes)
    }

    /// What one more subscription by this name costs.
    pub fn cost(&self, kind: Kind, name: &[u8]) -> usize {
        let shards = if kind == Kind::Channel || kind == Kind::Shard {
            1
        } else {
            self.shards
        };
        name.len() + ENTRY_BYTES + shards
    }

    /// Takes a topic's subscribers out while they are served; `put_back` follows.
    pub fn take_subscribers(&mut self, topic: u32) -> Vec<Subscriber> {
        match self.topics.at(topic) {
            Some(topic) => std::mem::take(&mut topic.subscribers),
            None => Vec::new(),
        }
    }

    pub fn put_back(&mut self, topic: u32, subscribers: Vec<Subscriber>) {
        if let Some(topic) = self.topics.at(topic) {
            topic.subscribers = subscribers;
        }
    }

    /// Was sent to the shard's server.
    pub fn asked(&mut self, topic: u32, shard: u16) {
        self.stand(topic, shard, Standing::Asked);
    }

    /// Confirmed by the shard's server. Returns joins that have nothing left to wait for.
    pub fn confirmed(&mut self, topic: Handle, shard: u16) -> Vec<u32> {
        if self.topics.get(topic).is_none() {
            return Vec::new();
        }
        self.stand(topic.index, shard, Standing::Confirmed)
    }

    /// The shard's server has refused it.
    pub fn withdraw(&mut self, topic: u32, shard: u16) {
        self.stand(topic, shard, Standing::Wanted);
    }

    fn stand(&mut self, index: u32, shard: u16, standing: Standing) -> Vec<u32> {
        let Some(topic) = self.topics.at(index) else {
            return Vec::new();
        };
        topic.set(shard, standing);
        if topic.missing > 0 {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut topic.waiting);
        waiting
            .into_iter()
            .filter(|join| self.is_settled(*join))
            .collect()
    }

    fn is_settled(&mut self, join: u32) -> bool {
        match self.joins.at(join) {
            Some(join) => {
                join.waiting -= 1;
                join.waiting == 0
            }
            None => false,
        }
    }

    /// The connection to a shard is gone. Returns whether somebody was served by it.
    pub fn lost(&mut self, stream: usize, shard: u16) -> bool {
        let mut served = false;
        for topic in self.all() {
            let Some(topic) = self
                .topics
                .at(topic)
                .filter(|t| stream_of(t.kind) == stream)
            else {
                continue;
            };
            if matches!(topic.standing(shard), Standing::Asked | Standing::Confirmed) {
                let before = topic.set(shard, Standing::Wanted);
                served |= before == Standing::Confirmed && topic.is_served();
            }
        }
        served
    }

    /// Topics to ask a shard's server for.
    pub fn wanted(&self, stream: usize, shard: u16) -> Vec<u32> {
        let wanted = |index: &u32| {
            self.get(*index).is_some_and(|topic| {
                stream_of(topic.kind) == stream && topic.standing(shard) == Standing::Wanted
            })
        };
        self.all().into_iter().filter(wanted).collect()
    }

    /// A shard has, or has not, anybody to ask. Returns joins that have nothing left to wait for.
    pub fn switch(&mut self, shard: u16, is_off: bool) -> Vec<u32> {
        let mut settled = Vec::new();
        for index in self.all() {
            let standing = self.get(index).map_or(Standing::Off, |t| t.standing(shard));
            match (standing, is_off) {
                (Standing::Off, true) => {}
                (_, true) => settled.extend(self.stand(index, shard, Standing::Off)),
                (Standing::Off, false) => {
                    self.stand(index, shard, Standing::Wanted);
                }
                _ => {}
            }
        }
        settled
    }

    /// The ring has changed: gives a topic another home. Returns the one before, if it was asked there.
    pub fn rehome(&mut self, index: u32, home: u16, is_off: bool) -> Option<u16> {
        let topic = self.topics.at(index)?;
        let before = topic.home.filter(|before| *before != home)?;
        let stream = stream_of(topic.kind);
        let standing = topic.set(
            before,
            if is_off {
                Standing::Off
            } else {
                Standing::Wanted
            },
        );
        topic.home = Some(home);
        self.load(stream, Some(before), false);
        self.load(stream, Some(home), true);
        matches!(standing, Standing::Asked | Standing::Confirmed).then_some(before)
    }

    /// Joins that can only fail: some topic of theirs has nobody to ask.
    pub fn hopeless(&self) -> Vec<u32> {
        self.joins_where(|join| join.topics.iter().any(|topic| self.is_lost(*topic)))
    }

    /// True if a topic has nobody to ask.
    pub fn is_lost(&self, topic: u32) -> bool {
        self.get(topic).is_some_and(Topic::is_off)
    }

    /// Joins begun before that moment.
    pub fn late(&self, before: u64) -> Vec<u32> {
        self.joins_where(|join| join.since < before)
    }

    /// Joins that name a topic.
    pub fn joins_of(&self, topic: u32) -> Vec<u32> {
        self.joins_where(|join| join.topics.contains(&topic))
    }

    fn joins_where(&self, fits: impl Fn(&Join) -> bool) -> Vec<u32> {
        let joins = self.joins.handles().into_iter();
        let fits = |join: &Handle| self.joins.get(*join).is_some_and(&fits);
        joins.filter(fits).map(|join| join.index).collect()
    }

    pub fn has_joins(&self) -> bool {
        !self.joins.is_empty()
    }
}

#[cfg(test)]
mod tests;
