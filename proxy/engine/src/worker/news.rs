//! What servers say by themselves on the connections of `upstream.rs`: confirmations, refusals, messages,
//! lines of MONITOR; and its way to everybody who is subscribed.

use super::topics::{Subscriber, Topic};
use super::*;
use crate::command::channel::{self, Kind, News};
use crate::conn::Asked;
use crate::proto::{resp, Step};
use shared::Failure;

/// Before what a server has refused is asked for again.
const REFUSED_MS: u64 = 1_000;
/// What is written for subscribers may take this much memory before they are sent it, although it would be
/// sent with the turn's end: 64 KiB of messages read at once are 640 MiB for 10,000 of them.
const BURST_BYTES: usize = 16 * 1024 * 1024;

impl Worker {
    pub(super) fn feed_news(&mut self, index: u32, generation: u32, bytes: &[u8]) {
        self.channels.burst = 0;
        let mut input = std::mem::take(&mut self.conns[index as usize].input);
        if input.is_empty() {
            let used = self.take_news(index, generation, bytes);
            input.extend_from_slice(&bytes[used..]);
        } else {
            input.extend_from_slice(bytes);
            let used = self.take_news(index, generation, &input);
            if used == input.len() {
                input = Vec::new();
            } else if used > 0 {
                input.drain(..used);
            }
        }
        let conn = &mut self.conns[index as usize];
        if conn.generation == generation {
            conn.input = input;
        }
    }

    fn take_news(&mut self, index: u32, generation: u32, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let conn = &mut self.conns[index as usize];
            if conn.generation != generation {
                break;
            }
            let monitors = conn.feed.as_ref().is_some_and(|feed| feed.monitors);
            let len = match resp::reply(&bytes[at..], &mut conn.resume) {
                Step::Complete(len) => len,
                Step::Incomplete => break,
                Step::Invalid(_) => {
                    self.fail_conn(index, Failure::Protocol);
                    break;
                }
            };
            let reply = &bytes[at..at + len];
            at += len;
            if monitors {
                self.take_line(index, reply);
            } else {
                self.take_message(index, reply);
            }
        }
        at
    }

    fn take_message(&mut self, index: u32, reply: &[u8]) {
        let pool = self.conns[index as usize].pool;
        match channel::news(reply) {
            News::Message {
                kind,
                name,
                channel,
                payload,
            } => {
                if let Some(topic) = self.topics(pool).find(kind, name) {
                    if !channel::is_hidden(channel, payload) {
                        self.spread(pool, topic, reply, true);
                    }
                }
            }
            News::Confirmed { begins, .. } => self.feed_confirmed(index, begins),
            News::Error => self.feed_refused(index, reply),
            News::Pong => {}
            News::Strange => self.fail_conn(index, Failure::Protocol),
        }
    }

    fn take_line(&mut self, index: u32, reply: &[u8]) {
        let conn = &self.conns[index as usize];
        let pool = conn.pool;
        let is_asked = conn
            .feed
            .as_ref()
            .is_some_and(|feed| !feed.asked.is_empty());
        if resp::is_error(reply) {
            self.feed_refused(index, reply);
        } else if is_asked {
            self.feed_confirmed(index, true);
        } else if let Some(topic) = self.topics(pool).find(Kind::Monitor, b"") {
            // The answer to a PING has no quotes.
            if reply.contains(&b'"') && !channel::is_own(reply) {
                self.spread(pool, topic, reply, false);
            }
        }
    }

    fn feed_confirmed(&mut self, index: u32, begins: bool) {
        let conn = &mut self.conns[index as usize];
        let (pool, shard) = (conn.pool, conn.shard);
        let asked = conn.feed.as_mut().and_then(|feed| feed.asked.pop_front());
        match asked {
            Some(Asked::Begin { topic, .. }) if begins => {
                let joins = self.topics(pool).confirmed(topic, shard);
                self.finish_joins(pool, joins);
            }
            Some(Asked::End) if !begins => {}
            // Whose are the next ones? Nobody can tell.
            _ => self.fail_conn(index, Failure::Protocol),
        }
    }

    /// A server refuses a command: no permission, or it is too old to know it. Its clients are told; where
    /// some are served already, the feed is made anew later, since the refusal may not last.
    fn feed_refused(&mut self, index: u32, text: &[u8]) {
        let conn = &mut self.conns[index as usize];
        let (pool, shard) = (conn.pool, conn.shard);
        let Some(feed) = conn.feed.as_mut() else {
            return;
        };
        let Some(Asked::Begin { command: first, .. }) = feed.asked.front().copied() else {
            self.fail_conn(index, Failure::Protocol);
            self.conns[index as usize].retry_at = self.now_ms + REFUSED_MS;
            return;
        };
        let mut refused = Vec::new();
        while let Some(Asked::Begin { topic, command }) = feed.asked.front().copied() {
            if command != first {
                break;
            }
            feed.asked.pop_front();
            refused.push(topic);
        }
        let mut is_served = false;
        for handle in refused {
            let (topic, topics) = (handle.index, self.topics(pool));
            if topics.handle(topic) != handle || topics.get(topic).is_none() {
                continue;
            }
            topics.withdraw(topic, shard);
            for join in topics.joins_of(topic) {
                self.fail_join(pool, join, text);
            }
            let found = self.topics(pool).get(topic);
            is_served |= found.is_some_and(Topic::is_served);
        }
        if is_served {
            self.fail_conn(index, Failure::Protocol);
            self.conns[index as usize].retry_at = self.now_ms + REFUSED_MS;
        }
    }

    /// Writes a message to everybody who is subscribed to a topic.
    ///
    /// Args:
    ///     frame: as a RESP2 client gets it.
    ///     is_push: a RESP3 client gets it as a push; otherwise the same bytes.
    pub(super) fn spread(&mut self, pool: u16, topic: u32, frame: &[u8], is_push: bool) {
        let subscribers = self.topics(pool).take_subscribers(topic);
        let limit = self.shared.config.pools[pool as usize].client_output_limit;
        let mut pushed = std::mem::take(&mut self.scratch);
        pushed.clear();
        let mut cut: Vec<Subscriber> = Vec::new();
        let mut sent = 0;
        let mut sent_bytes = 0;
        let is_large = frame.len() * subscribers.len() > BURST_BYTES;
        for &who in &subscribers {
            let Some(client) = self.clients.get_mut(who) else {
                continue;
            };
            if client.quitting {
                continue;
            }
            let resp3 = client.session.as_ref().is_some_and(|session| session.resp3);
            let bytes = if resp3 && is_push {
                if pushed.is_empty() {
                    pushed.extend_from_slice(frame);
                    pushed[0] = b'>';
                }
                &pushed[..]
            } else {
                frame
            };
            if client.out.waiting() + client.parked + bytes.len() > limit {
                cut.push(who);
                continue;
            }
            client.out.extend(bytes);
            client.lean = false;
            sent += 1;
            if is_large {
                // What does not go now, and whatever is wrong with the connection, is left to its flush.
                if let Io::Done(count) = sys::write(&client.fd, client.out.unwritten()) {
                    client.out.advance(count);
                    client.out.release(count);
                    sent_bytes += count as u64;
                }
            }
            if !client.dirty {
                client.dirty = true;
                self.dirty_clients.push(who);
            }
        }
        self.scratch = pushed;
        self.topics(pool).put_back(topic, subscribers);
        let stats = self.pool_stats(pool);
        stats.of(PoolCount::Messages).add(sent);
        stats.of(PoolCount::SentBytes).add(sent_bytes);
        stats.of(PoolCount::SubscribersCut).add(cut.len() as u64);
        stats.of(PoolCount::OutputClosed).add(cut.len() as u64);
        for who in cut {
            self.close_client(who);
        }
        self.channels.burst += if is_large {
            0
        } else {
            frame.len() * sent as usize
        };
        if self.channels.burst > BURST_BYTES {
            self.channels.burst = 0;
            for who in std::mem::take(&mut self.dirty_clients) {
                self.flush_client(who);
            }
        }
    }
}
