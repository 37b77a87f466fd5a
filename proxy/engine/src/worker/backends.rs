//! Backend connections: making them, reading replies, writing.
//!
//! ```text
//! Closed ─connect─► Connecting ─► Verifying ─every needle found─► Ready
//!   ▲                   │             │ something else ─► Held ─next table─► Connecting
//!   └──── refused, reset, closed, timed out, not the protocol ◄──┴──── Ready
//! ```
//! `greeting.rs` has the verification, `loss.rs` the way back to Closed or Held.

use super::exec;
use super::*;
use crate::conn::backend::BULK_BYTES;
use crate::conn::ReplyTo;
use crate::proto::memcache::{self as text, ReplyKind};
use crate::proto::{meta, resp, token, Step};
use crate::stats::BackendCount;
use ready::NO_WATCH;
use shared::Failure;

impl Worker {
    /// The connection to a backend in a lane; connects it if it is closed and may try again.
    /// Afterwards it may still be closed: the attempt failed at once, or it is too early for one.
    #[inline]
    pub(super) fn conn_for(&mut self, pool: u16, shard: u16, backend: u8, lane: u8) -> u32 {
        let state = &mut self.pools[pool as usize].shards[shard as usize];
        let place = &mut state.conns[backend as usize][lane as usize];
        if *place == NO_CONN {
            let keep = self.table.pools[pool as usize].shards[shard as usize].is_replicated();
            *place = self.conns.len() as u32;
            self.conns.push(Conn::new(pool, shard, backend, lane, keep));
        }
        let index = *place;
        let conn = &self.conns[index as usize];
        if conn.state == ConnState::Closed && conn.retry_at <= self.now_ms {
            self.connect(index);
        }
        index
    }

    pub(super) fn connect(&mut self, index: u32) {
        self.backend_stats(index).of(BackendCount::Connects).add(1);
        let conn = &mut self.conns[index as usize];
        let table = &self.table.pools[conn.pool as usize].shards[conn.shard as usize];
        let address = &table.backends[conn.backend as usize].address;
        let made = sys::connect(address).and_then(|fd| {
            conn.generation = conn.generation.wrapping_add(1);
            self.poll
                .add_connection(&fd, token(TOKEN_CONN, index, conn.generation))?;
            Ok(fd)
        });
        match made {
            Ok(fd) => {
                conn.fd = Some(fd);
                conn.state = ConnState::Connecting;
                conn.deadline =
                    self.now_ms + self.shared.config.pools[conn.pool as usize].connect_timeout;
                self.idle = false;
            }
            Err(_) => self.fail_conn(index, Failure::Refused),
        }
    }

    /// Connects a held connection again; what it holds is sent once it is verified.
    pub(super) fn reconnect(&mut self, index: u32) {
        self.conns[index as usize].state = ConnState::Closed;
        self.connect(index);
    }

    pub(super) fn conn_event(&mut self, index: u32, generation: u32, ready: sys::Ready) {
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        if conn.generation & 0x0fff_ffff != generation || conn.fd.is_none() {
            return;
        }
        if conn.state == ConnState::Connecting {
            if !(ready.writable || ready.closing) {
                return;
            }
            let outcome = conn.fd.as_ref().map_or(Ok(()), sys::connect_outcome);
            if outcome.is_err() {
                self.fail_conn(index, Failure::Refused);
                return;
            }
            self.start_greeting(index);
        }
        if ready.writable {
            self.mark_conn(index);
        }
        if ready.readable || ready.closing {
            self.read_conn(index, ready.closing);
        }
    }

    pub(super) fn mark_conn(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if !conn.dirty {
            conn.dirty = true;
            self.dirty_conns.push(index);
        }
    }

    // --- replies ---------------------------------------------------------------------------------

    pub(super) fn read_conn(&mut self, index: u32, closing: bool) {
        let mut input = std::mem::take(&mut self.input);
        let generation = self.conns[index as usize].generation;
        loop {
            let conn = &self.conns[index as usize];
            if conn.generation != generation
                || conn.dump.is_some_and(|dump| self.is_dump_stalled(dump))
            {
                break;
            }
            let Some(fd) = conn.fd.as_ref() else { break };
            match sys::read(fd, &mut input) {
                Io::Done(count) => {
                    self.backend_stats(index)
                        .of(BackendCount::ReceivedBytes)
                        .add(count as u64);
                    let full = count == input.len();
                    self.feed_conn(index, generation, &input[..count]);
                    if closing {
                        continue;
                    }
                    if full {
                        self.again.push(token(TOKEN_CONN, index, generation));
                    }
                    break;
                }
                Io::Blocked => break,
                Io::End => {
                    self.fail_conn(index, Failure::Closed);
                    break;
                }
                Io::Broken => {
                    self.fail_conn(index, Failure::Reset);
                    break;
                }
            }
        }
        self.input = input;
    }

    pub(super) fn feed_conn(&mut self, index: u32, generation: u32, bytes: &[u8]) {
        let conn = &mut self.conns[index as usize];
        conn.last_reply = self.now_ms;
        if conn.feed.is_some() && conn.state == ConnState::Ready {
            self.feed_news(index, generation, bytes);
            return;
        }
        if let Some(dump) = conn.dump.filter(|_| conn.state == ConnState::Ready) {
            self.dump_read(dump, bytes);
            return;
        }
        if conn.input.is_empty() {
            let used = self.take_replies(index, generation, bytes);
            let conn = &mut self.conns[index as usize];
            if conn.generation == generation && used < bytes.len() {
                conn.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            conn.input.extend_from_slice(bytes);
            let input = std::mem::take(&mut conn.input);
            if input.len() > BULK_BYTES {
                self.trim_in = TRIM_SWEEPS;
                self.saw_bulk(index);
            }
            self.lent.lend(&input);
            let used = self.take_replies(index, generation, &input);
            if let Some(mut input) = self.settle(input) {
                let conn = &mut self.conns[index as usize];
                if conn.generation == generation {
                    if used == input.len() {
                        input = Vec::new();
                    } else if used > 0 {
                        input.drain(..used);
                    }
                    conn.input = input;
                }
            }
        }
        let conn = &mut self.conns[index as usize];
        if conn.inflight.is_empty() {
            conn.busy_since = 0;
        }
        let (pool, shard) = (conn.pool, conn.shard);
        self.wake_later(pool, shard);
    }

    /// Takes whole replies from `bytes`; returns how many bytes they were.
    pub(super) fn take_replies(&mut self, index: u32, generation: u32, bytes: &[u8]) -> usize {
        let pool = self.conns[index as usize].pool;
        let protocol = self.pools[pool as usize].protocol;
        let mut at = 0;
        while at < bytes.len() {
            let conn = &mut self.conns[index as usize];
            if conn.generation != generation {
                break;
            }
            let rest = &bytes[at..];
            let greeting = conn.greetings.front().copied();
            let kind = match (protocol, greeting) {
                (Protocol::Redis, _) => ReplyKind::Line,
                (Protocol::Memcached, Some(greeting)) => self.greeting_kind(index, greeting),
                (Protocol::Memcached, None) => {
                    conn.inflight.front().map_or(ReplyKind::Line, |p| p.kind)
                }
            };
            let conn = &mut self.conns[index as usize];
            let found = match protocol {
                Protocol::Redis => match resp::reply(rest, &mut conn.resume) {
                    Step::Complete(len) => Some(len),
                    Step::Incomplete => None,
                    Step::Invalid(_) => Some(0),
                },
                Protocol::Memcached => match text::reply(rest, kind, &mut conn.resume) {
                    Step::Complete(len) => Some(len),
                    Step::Incomplete => None,
                    Step::Invalid(_) => Some(0),
                },
            };
            let Some(len) = found else { break };
            let is_push = protocol == Protocol::Redis && rest[0] == b'>';
            if is_push && len > 0 {
                let watch = self.conns[index as usize].watch;
                if watch != NO_WATCH {
                    self.invalidated(watch, &rest[..len]);
                }
                at += len;
                continue;
            }
            if len == 0 || (greeting.is_none() && conn.inflight.is_empty()) {
                // Not a reply, or one that nobody asked for: whose is the next? Nobody can tell.
                self.fail_conn(index, Failure::Protocol);
                return bytes.len();
            }
            let reply = &rest[..len];
            at += len;
            if let Some(greeting) = greeting {
                conn.greetings.pop_front();
                self.greeted(index, greeting, reply);
            } else {
                self.answered(index, reply);
            }
        }
        at
    }

    /// The reply to the oldest request in flight.
    #[inline]
    pub(super) fn answered(&mut self, index: u32, reply: &[u8]) {
        let conn = &mut self.conns[index as usize];
        if let Some(ReplyKind::Batch { replies }) = conn.inflight.front().map(|p| p.kind) {
            if !conn.batch.take(reply, replies) {
                return; // not the last one
            }
        }
        let Some(pending) = conn.inflight.pop_front() else {
            return;
        };
        let is_moved = reply[0] == b'-' && self.read_elsewhere(index, &pending, reply);
        let conn = &mut self.conns[index as usize];
        let mut won = Vec::new();
        if conn.keep {
            let is_item = matches!(pending.kind, ReplyKind::Item | ReplyKind::ItemTokens);
            if is_item && pending.read && meta::shows(reply, b'W') {
                won.extend_from_slice(conn.out.held_slice(0, pending.len as usize));
            }
            conn.out.release(pending.len as usize);
        }
        let (pool, shard) = (conn.pool, conn.shard);
        if is_moved {
            self.backend_stats(index).of(BackendCount::Inflight).sub(1);
            return;
        }
        if pending.tombstone {
            conn.tombstones -= 1;
        }
        if pending.to == ReplyTo::Step {
            self.backend_stats(index).of(BackendCount::Inflight).sub(1);
            return self.in_step(index, pending.sent_at, reply);
        }
        if pending.tombstone {
            self.backend_stats(index)
                .of(BackendCount::LateReplies)
                .add(1);
            self.backend_stats(index).of(BackendCount::Inflight).sub(1);
            return;
        }
        if pending.to == ReplyTo::Record {
            self.backend_stats(index).of(BackendCount::Inflight).sub(1);
            self.shown_again(index, pending.sent_at, reply);
            return;
        }
        let stats = self.backend_stats(index);
        stats.of(BackendCount::Inflight).sub(1);
        if self.is_error(pool, reply) {
            stats.of(BackendCount::Errors).add(1);
        }
        if !won.is_empty() {
            self.tell_won(pool, shard, &won);
        }
        let conn = &self.conns[index as usize];
        let has_tokens = matches!(pending.kind, ReplyKind::Tokens | ReplyKind::ItemTokens);
        if has_tokens && conn.keep {
            let tag = self.token_tag(conn.pool, conn.shard, conn.backend);
            let mut tagged = self.spare.pop().unwrap_or_default();
            match pending.kind {
                ReplyKind::Tokens => token::tag_values(reply, tag, &mut tagged),
                _ => token::tag_item(reply, tag, &mut tagged),
            }
            self.deliver(pending.to, &tagged);
            tagged.clear();
            self.spare.push(tagged);
        } else if matches!(pending.kind, ReplyKind::Batch { .. }) {
            let refused = std::mem::take(&mut self.conns[index as usize].batch.refused);
            let is_abort = reply.starts_with(b"-EXECABORT ") && !refused.is_empty();
            let reply = if is_abort { &refused } else { reply };
            self.deliver(pending.to, &exec::told(reply));
        } else {
            self.deliver(pending.to, reply);
        }
    }

    // --- writing ---------------------------------------------------------------------------------

    pub(super) fn flush_conn(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        conn.dirty = false;
        let Some(fd) = conn.fd.as_ref() else { return };
        let is_greeting = conn.state == ConnState::Verifying;
        if !is_greeting && conn.state != ConnState::Ready {
            return;
        }
        let out = if is_greeting {
            &mut conn.greeting_out
        } else {
            &mut conn.out
        };
        let (sent, end) = write_share(fd, out);
        if is_greeting {
            out.release_written();
        } else {
            conn.written = conn.written.wrapping_add(sent as u32);
            if !conn.keep {
                conn.out.release_written();
            }
            if conn.out.waiting() > BULK_BYTES {
                self.saw_bulk(index);
            }
        }
        if end == Written::Share {
            let generation = self.conns[index as usize].generation;
            self.write_again.push(token(TOKEN_CONN, index, generation));
        }
        self.backend_stats(index)
            .of(BackendCount::SentBytes)
            .add(sent as u64);
        if end == Written::Broken {
            // Replies that came before the reset are still to be read; the read ends the connection.
            self.read_conn(index, true);
            if self.conns[index as usize].fd.is_some() {
                self.fail_conn(index, Failure::Reset);
            }
        }
    }
}
