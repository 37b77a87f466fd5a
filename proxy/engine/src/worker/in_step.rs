//! Whether the replies on a connection still belong to the requests in front of them.
//!
//! A server answers in order, and hardly a reply says to which request. Where one is missing, or only half of it
//! came (a defect of the server, or of something on the way), each later one would go to whoever asked before, and
//! nothing would ever end that. It shows by a request that is not answered in time, or by a reply when nobody waits
//! for one; not while others keep asking. So behind a request that took too long, and once a second where there was
//! always one under way, goes a question that only its own answer can follow. Where another reply comes in its place,
//! the connection ends.

use super::*;
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::proto::resp;
use ready::NO_WATCH;
use shared::Failure;

/// A connection that is never without requests is asked so often.
const BUSY_MS: u64 = 1_000;

impl Worker {
    /// Asks behind requests that took too long or never ceased, unless a question is under way.
    pub(super) fn ask_in_step(&mut self, index: u32) {
        let now = self.now_ms;
        let conn = &mut self.conns[index as usize];
        let is_plain = conn.watch == NO_WATCH && conn.dump.is_none();
        if conn.state != ConnState::Ready || conn.asks_step || !is_plain {
            return;
        }
        if conn.busy_since == 0 {
            conn.busy_since = now;
        }
        if conn.tombstones == 0 && now < conn.busy_since + BUSY_MS {
            return;
        }
        let pool = conn.pool as usize;
        let pending = self.pending(ReplyTo::Step, ReplyKind::Line, false, 0);
        let mut bytes = Vec::new();
        match self.pools[pool].protocol {
            Protocol::Redis => resp::write_request(&mut bytes, &[b"ECHO", &token(pending.sent_at)]),
            Protocol::Memcached => bytes.extend_from_slice(b"version\r\n"),
        }
        self.conns[index as usize].asks_step = true;
        self.enqueue(index, &bytes, pending);
    }

    /// What came where the answer to a question of `sent_at` had to come.
    pub(super) fn in_step(&mut self, index: u32, sent_at: u32, reply: &[u8]) {
        let now = self.now_ms;
        let conn = &mut self.conns[index as usize];
        conn.asks_step = false;
        conn.busy_since = now;
        let is_answer = match self.pools[conn.pool as usize].protocol {
            // A server may answer whatever it is asked with an error (BUSY, LOADING), which tells nothing.
            Protocol::Redis => reply[0] == b'-' || resp::string(reply) == Some(&token(sent_at)[..]),
            Protocol::Memcached => reply.starts_with(b"VERSION "),
        };
        if !is_answer {
            self.fail_conn(index, Failure::Protocol);
        }
    }
}

/// What Redis is asked to repeat.
fn token(sent_at: u32) -> Vec<u8> {
    format!("\0shardproxy:step:{sent_at:08x}").into_bytes()
}
