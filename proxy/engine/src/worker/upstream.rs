//! The connections that subscriptions come in on: per worker and shard one for messages, one for MONITOR.
//!
//! A *feed* is a `Conn` to the shard's leader, logged in and verified like the others, which carries no
//! requests. It is made when somebody subscribes and closed when nobody is left. When it is lost, or
//! another backend leads, it is made again (by the back-off of all connections) and everything is
//! subscribed to again; what was published in between is lost, as it is when a Redis server fails over.
//!
//! A feed whose leader stays is kept when the view changes: it is a connection to the process that leads.

use super::topics::{Standing, Topic};
use super::*;
use crate::command::channel::Kind;
use crate::conn::{Asked, Feed};
use crate::proto::resp;
use shared::Failure;

/// Names in one SUBSCRIBE, and bytes of them after which the next one begins.
const NAMES_PER_COMMAND: usize = 512;
const BYTES_PER_COMMAND: usize = 64 * 1024;
/// An idle feed is asked for a sign of life once a sweep, and given up after this and three request timeouts.
const SILENCE_MS: u64 = 3_000;
/// Feeds of a shard: messages, MONITOR.
const STREAMS: usize = 2;

impl Worker {
    fn feed(&self, pool: u16, shard: u16, stream: usize) -> Option<u32> {
        let index = self.channels.pools[pool as usize].feeds[shard as usize][stream];
        (index != NO_CONN).then_some(index)
    }

    /// True if a feed is of use and not there.
    pub(super) fn has_feed_to_make(&self, pool: u16) -> bool {
        let channels = &self.channels.pools[pool as usize];
        (0..channels.feeds.len() as u16).any(|shard| {
            !self.is_off(pool, shard)
                && (0..STREAMS).any(|stream| {
                    let index = channels.feeds[shard as usize][stream];
                    let is_ready =
                        index != NO_CONN && self.conns[index as usize].state == ConnState::Ready;
                    !is_ready && channels.topics.needs(stream, shard)
                })
        })
    }

    /// Connects the feeds of a pool that are of use and may be tried.
    pub(super) fn pump_feeds(&mut self, pool: u16) {
        for shard in 0..self.table.pools[pool as usize].shards.len() as u16 {
            for stream in 0..STREAMS {
                self.pump_feed(pool, shard, stream);
            }
        }
    }

    fn pump_feed(&mut self, pool: u16, shard: u16, stream: usize) {
        let needs = self.topics(pool).needs(stream, shard);
        let Some(lead) = self.shard_table(pool, shard).lead else {
            return;
        };
        if !needs || self.is_off(pool, shard) {
            return;
        }
        let index = match self.feed(pool, shard, stream) {
            Some(index) => index,
            None => {
                let index = self.conns.len() as u32;
                let mut conn = Conn::new(pool, shard, lead, 0, false);
                let monitors = stream == 1;
                conn.feed = Some(Box::new(Feed {
                    monitors,
                    ..Feed::default()
                }));
                self.conns.push(conn);
                self.channels.pools[pool as usize].feeds[shard as usize][stream] = index;
                index
            }
        };
        let conn = &mut self.conns[index as usize];
        if conn.state == ConnState::Closed && conn.retry_at <= self.now_ms {
            conn.backend = lead;
            self.connect(index);
        }
    }

    // --- asking ----------------------------------------------------------------------------------

    /// Asks for topics now, or has the feed made, which then asks for everything that is wanted.
    pub(super) fn ask(&mut self, pool: u16, shard: u16, stream: usize, topics: &[u32]) {
        match self.feed(pool, shard, stream) {
            Some(index) if self.conns[index as usize].state == ConnState::Ready => {
                self.send_asked(index, topics);
            }
            _ => self.pump_feed(pool, shard, stream),
        }
    }

    pub(super) fn feed_opened(&mut self, index: u32) {
        let conn = &self.conns[index as usize];
        let (pool, shard) = (conn.pool, conn.shard);
        let stream = usize::from(conn.feed.as_ref().is_some_and(|feed| feed.monitors));
        let mut wanted = self.topics(pool).wanted(stream, shard);
        let topics = &self.channels.pools[pool as usize].topics;
        wanted.sort_by_key(|topic| topics.get(*topic).map(|topic| topic.kind));
        self.send_asked(index, &wanted);
    }

    /// Sends one command for each run of topics of a kind.
    fn send_asked(&mut self, index: u32, topics: &[u32]) {
        let conn = &mut self.conns[index as usize];
        let (pool, shard) = (conn.pool, conn.shard);
        let Some(feed) = conn.feed.as_mut() else {
            return;
        };
        let table = &mut self.channels.pools[pool as usize].topics;
        let mut at = 0;
        while at < topics.len() {
            let Some(kind) = table.get(topics[at]).map(|topic| topic.kind) else {
                at += 1;
                continue;
            };
            let (mut end, mut bytes) = (at, 0);
            while end < topics.len() && end - at < NAMES_PER_COMMAND && bytes < BYTES_PER_COMMAND {
                match table.get(topics[end]) {
                    Some(topic) if topic.kind == kind => bytes += topic.name.len(),
                    _ => break,
                }
                end += 1;
            }
            feed.commands = feed.commands.wrapping_add(1);
            let names = if kind == Kind::Monitor { 0 } else { end - at };
            let out = conn.out.tail();
            resp::write_array(out, 1 + names);
            resp::write_bulk(out, kind.subscribe().0.as_bytes());
            for topic in &topics[at..end] {
                if let Some(found) = table.get(*topic).filter(|_| names > 0) {
                    resp::write_bulk(out, &found.name);
                }
                table.asked(*topic, shard);
                let topic = table.handle(*topic);
                let command = feed.commands;
                feed.asked.push_back(Asked::Begin { topic, command });
            }
            at = end;
        }
        self.mark_conn(index);
    }

    /// Takes back what was asked for topics that nobody wants any more.
    pub(super) fn unask(&mut self, pool: u16, gone: Vec<Topic>) {
        for topic in gone {
            for shard in topic.asked_at() {
                self.unask_at(pool, shard, topic.kind, &topic.name);
            }
        }
    }

    fn unask_at(&mut self, pool: u16, shard: u16, kind: Kind, name: &[u8]) {
        let stream = usize::from(kind == Kind::Monitor);
        let Some(index) = self.feed(pool, shard, stream) else {
            return;
        };
        if self.conns[index as usize].state != ConnState::Ready {
            return;
        }
        if kind == Kind::Monitor {
            // A server knows no other end of it.
            self.retire_conn(index);
            return;
        }
        let conn = &mut self.conns[index as usize];
        if let Some(feed) = conn.feed.as_mut() {
            let out = conn.out.tail();
            resp::write_array(out, 2);
            resp::write_bulk(out, kind.unsubscribe().0.as_bytes());
            resp::write_bulk(out, name);
            feed.asked.push_back(Asked::End);
            self.mark_conn(index);
        }
    }

    // --- loss ------------------------------------------------------------------------------------

    /// After a connection has ended, if it was a feed.
    pub(super) fn feed_lost(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        let (pool, shard) = (conn.pool, conn.shard);
        let Some(feed) = conn.feed.as_mut() else {
            return;
        };
        feed.asked.clear();
        let stream = usize::from(feed.monitors);
        if self.topics(pool).lost(stream, shard) {
            self.pool_stats(pool).of(PoolCount::Resubscribed).add(1);
        }
        self.idle = false;
    }

    /// Closes feeds that nobody wants, and asks the others for a sign of life.
    pub(super) fn sweep_feeds(&mut self) {
        for pool in 0..self.channels.pools.len() as u16 {
            for shard in 0..self.table.pools[pool as usize].shards.len() as u16 {
                for stream in 0..STREAMS {
                    if let Some(index) = self.feed(pool, shard, stream) {
                        self.sweep_feed(index, pool, shard, stream);
                    }
                }
            }
        }
    }

    fn sweep_feed(&mut self, index: u32, pool: u16, shard: u16, stream: usize) {
        let timeout = self.shared.config.pools[pool as usize].request_timeout;
        let conn = &self.conns[index as usize];
        if conn.state != ConnState::Ready {
            return;
        }
        let silent = self.now_ms.saturating_sub(conn.last_reply);
        if !self.topics(pool).needs(stream, shard) {
            self.retire_conn(index);
        } else if silent > SILENCE_MS + 3 * timeout {
            self.fail_conn(index, Failure::Timeout);
        } else if silent >= SWEEP_MS {
            let conn = &mut self.conns[index as usize];
            // A server that takes nothing in is not sent more of it.
            if conn.out.waiting() == 0 {
                conn.out.extend(b"*1\r\n$4\r\nPING\r\n");
                self.mark_conn(index);
            }
        }
    }

    /// A new table: other leaders, other homes.
    pub(super) fn adopt_channels(&mut self, old: &Table) {
        let table = Arc::clone(&self.table);
        for (p, (before, after)) in old.pools.iter().zip(&table.pools).enumerate() {
            let pool = p as u16;
            if self.topics(pool).is_empty() {
                continue;
            }
            if !Arc::ptr_eq(&before.ring, &after.ring) {
                self.rehome(pool);
            }
            for (s, shard) in after.shards.iter().enumerate() {
                let is_off = self.is_off(pool, s as u16);
                let was_off =
                    before.absent.get(s) == Some(&true) || before.shards[s].lead.is_none();
                let settled = match is_off == was_off {
                    true => Vec::new(),
                    false => self.topics(pool).switch(s as u16, is_off),
                };
                for stream in 0..STREAMS {
                    let Some(index) = self.feed(pool, s as u16, stream) else {
                        continue;
                    };
                    let conn = &self.conns[index as usize];
                    let at = conn.backend as usize;
                    let moved = before.shards[s].backends[at].address != shard.backends[at].address;
                    if is_off || moved || shard.lead != Some(conn.backend) {
                        self.retire_conn(index);
                    } else if conn.state == ConnState::Held {
                        self.reconnect(index);
                    }
                    self.conns[index as usize].retry_at = 0;
                }
                self.finish_joins(pool, settled);
            }
            for join in self.topics(pool).hopeless() {
                self.pool_stats(pool).of(PoolCount::ShardLost).add(1);
                self.fail_join(pool, join, Wire::ShardLost.redis());
            }
            self.pump_feeds(pool);
        }
    }

    /// Channels go where the ring has them now.
    fn rehome(&mut self, pool: u16) {
        for index in self.topics(pool).all() {
            let Some(topic) = self.channels.pools[pool as usize].topics.get(index) else {
                continue;
            };
            let (kind, name, has_home) =
                (topic.kind, Arc::clone(&topic.name), topic.home.is_some());
            let Some(home) = self.topic_home(pool, kind, &name).filter(|_| has_home) else {
                continue;
            };
            let is_off = self.is_off(pool, home);
            if let Some(before) = self.topics(pool).rehome(index, home, is_off) {
                self.unask_at(pool, before, kind, &name);
            }
            let wanted = self.channels.pools[pool as usize].topics.get(index);
            if wanted.is_some_and(|topic| topic.standing(home) == Standing::Wanted) {
                self.ask(pool, home, 0, &[index]);
            }
        }
    }
}
