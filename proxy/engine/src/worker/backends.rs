//! Backend connections: making them, having them show who they are, reading replies, timeouts, loss.
//!
//! ```text
//! Closed ─connect─► Connecting ─► Verifying ─every needle found─► Ready
//!   ▲                   │             │ something else ─► Held ─next table─► Connecting
//!   └──── refused, reset, closed, timed out, not the protocol ◄──┴──── Ready
//! ```
//! Whatever is lost with a connection is settled here: reads go to another replica, legs of writes
//! fail, lone writes are answered with what is known about them.

use super::forward::{Copies, Outgoing, PARKED};
use super::*;
use crate::conn::backend::Greeting;
use crate::conn::{Pending, ReplyTo};
use crate::proto::memcache::{self as text, ReplyKind};
use crate::proto::{resp, Resume, Step};
use crate::stats::BackendCount;
use memchr::memmem;
use shared::{EventKind, Failure};

/// Pause before the second attempt to connect; doubled for each further one up to `BACKOFF_CAP_MS`.
const BACKOFF_BASE_MS: u64 = 20;
const BACKOFF_CAP_MS: u64 = 1_000;
/// A connection that has not answered anything for this many request timeouts is given up.
const SILENT_TIMEOUTS: u64 = 3;
/// How much of an unexpected record is reported.
const EVIDENCE_BYTES: usize = 16 * 1024;

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

    fn connect(&mut self, index: u32) {
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

    fn mark_conn(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if !conn.dirty {
            conn.dirty = true;
            self.dirty_conns.push(index);
        }
    }

    // --- greeting --------------------------------------------------------------------------------

    /// Logs in first and alone: Redis 7.4 to 8 lose the reply to a failing AUTH that is not first.
    fn start_greeting(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        conn.state = ConnState::Verifying;
        conn.deadline = self.now_ms + self.shared.config.pools[conn.pool as usize].connect_timeout;
        let pool = &self.shared.config.pools[conn.pool as usize];
        match (&pool.backend_login, pool.protocol) {
            (Some((user, password)), Protocol::Redis) => {
                let out = conn.greeting_out.tail();
                resp::write_array(out, if user.is_empty() { 2 } else { 3 });
                resp::write_bulk(out, b"AUTH");
                if !user.is_empty() {
                    resp::write_bulk(out, user.as_bytes());
                }
                resp::write_bulk(out, password);
                conn.greetings.push_back(Greeting::Auth);
                self.mark_conn(index);
            }
            _ => self.greet(index),
        }
    }

    fn greet(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        conn.greeted_epoch = self.table.epoch;
        if conn.lane == 1 {
            conn.greeting_out
                .extend(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n");
            conn.greetings.push_back(Greeting::Hello);
        }
        let table = &self.table.pools[conn.pool as usize].shards[conn.shard as usize];
        for (i, (request, _)) in table.backends[conn.backend as usize]
            .verify
            .iter()
            .enumerate()
        {
            conn.greeting_out.extend(request);
            conn.greetings.push_back(Greeting::Verify(i as u8));
        }
        if conn.greetings.is_empty() {
            self.open(index);
        } else {
            self.mark_conn(index);
        }
    }

    /// The connection carries requests from now on.
    fn open(&mut self, index: u32) {
        let now = self.now_ms;
        let conn = &mut self.conns[index as usize];
        conn.state = ConnState::Ready;
        conn.attempts = 0;
        conn.last_reply = now;
        for pending in &mut conn.inflight {
            pending.sent_at = now as u32;
        }
        let (pool, shard, backend) = (conn.pool, conn.shard, conn.backend);
        if std::mem::take(&mut conn.failing) {
            self.report(EventKind::ConnectionMade, pool, shard, backend, "", b"");
        }
        self.backend_stats(index)
            .of(BackendCount::Connections)
            .add(1);
        self.mark_conn(index);
        self.wake_later(pool, shard);
    }

    fn greeted(&mut self, index: u32, greeting: Greeting, reply: &[u8]) {
        let conn = &self.conns[index as usize];
        let (pool, shard, backend) = (conn.pool, conn.shard, conn.backend);
        match greeting {
            Greeting::Auth if reply.starts_with(b"+OK") => self.greet(index),
            Greeting::Auth => self.fail_conn(index, Failure::Login),
            Greeting::Hello if resp::is_error(reply) => self.fail_conn(index, Failure::Protocol),
            Greeting::Hello => self.finish_greeting(index),
            Greeting::Verify(i) => {
                let verify = &self.shard_table(pool, shard).backends[backend as usize].verify;
                let shown = match verify.get(i as usize) {
                    Some((_, needle)) => memmem::find(reply, needle).is_some(),
                    // The table changed under us and asks for less now; the next connection tells.
                    None => false,
                };
                if shown {
                    self.finish_greeting(index);
                } else {
                    let evidence = &reply[..reply.len().min(EVIDENCE_BYTES)];
                    self.report(
                        EventKind::VerifyFailed,
                        pool,
                        shard,
                        backend,
                        &i.to_string(),
                        evidence,
                    );
                    self.hold_conn(index);
                }
            }
        }
    }

    fn finish_greeting(&mut self, index: u32) {
        if self.conns[index as usize].greetings.is_empty() {
            self.open(index);
        }
    }

    // --- replies ---------------------------------------------------------------------------------

    fn read_conn(&mut self, index: u32, closing: bool) {
        let mut input = std::mem::take(&mut self.input);
        let generation = self.conns[index as usize].generation;
        loop {
            let conn = &self.conns[index as usize];
            if conn.generation != generation {
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

    fn feed_conn(&mut self, index: u32, generation: u32, bytes: &[u8]) {
        let conn = &mut self.conns[index as usize];
        conn.last_reply = self.now_ms;
        if conn.input.is_empty() {
            let used = self.take_replies(index, generation, bytes);
            let conn = &mut self.conns[index as usize];
            if conn.generation == generation && used < bytes.len() {
                conn.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            conn.input.extend_from_slice(bytes);
            let mut input = std::mem::take(&mut conn.input);
            let used = self.take_replies(index, generation, &input);
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
        let conn = &self.conns[index as usize];
        let (pool, shard) = (conn.pool, conn.shard);
        self.wake_later(pool, shard);
    }

    /// Takes whole replies from `bytes`; returns how many bytes they were.
    fn take_replies(&mut self, index: u32, generation: u32, bytes: &[u8]) -> usize {
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

    fn greeting_kind(&self, index: u32, greeting: Greeting) -> ReplyKind {
        let conn = &self.conns[index as usize];
        let verify =
            &self.shard_table(conn.pool, conn.shard).backends[conn.backend as usize].verify;
        match greeting {
            Greeting::Verify(i) => match verify.get(i as usize) {
                Some((request, _)) if request.starts_with(b"stats") => ReplyKind::Stats,
                Some((request, _)) if request.starts_with(b"get") => ReplyKind::Values,
                _ => ReplyKind::Line,
            },
            Greeting::Auth | Greeting::Hello => ReplyKind::Line,
        }
    }

    /// The reply to the oldest request in flight.
    #[inline]
    fn answered(&mut self, index: u32, reply: &[u8]) {
        let conn = &mut self.conns[index as usize];
        let Some(pending) = conn.inflight.pop_front() else {
            return;
        };
        if conn.keep {
            conn.out.release(pending.len as usize);
        }
        let pool = conn.pool;
        if pending.tombstone {
            conn.tombstones -= 1;
            self.backend_stats(index)
                .of(BackendCount::LateReplies)
                .add(1);
            self.backend_stats(index).of(BackendCount::Inflight).sub(1);
            return;
        }
        let stats = self.backend_stats(index);
        stats.of(BackendCount::Inflight).sub(1);
        if self.is_error(pool, reply) {
            stats.of(BackendCount::Errors).add(1);
        }
        let conn = &self.conns[index as usize];
        if pending.kind == ReplyKind::Tokens && conn.keep {
            let tag = self.token_tag(conn.pool, conn.shard, conn.backend);
            let mut tagged = self.spare.pop().unwrap_or_default();
            text::tag_tokens(reply, tag, &mut tagged);
            self.deliver(pending.to, &tagged);
            tagged.clear();
            self.spare.push(tagged);
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
        let mut sent = 0;
        let mut broken = false;
        while out.waiting() > 0 {
            match sys::write(fd, out.unwritten()) {
                Io::Done(count) => {
                    out.advance(count);
                    sent += count;
                }
                Io::Blocked => break,
                Io::End | Io::Broken => {
                    broken = true;
                    break;
                }
            }
        }
        if is_greeting {
            out.release_written();
        } else {
            conn.written = conn.written.wrapping_add(sent as u32);
            if !conn.keep {
                conn.out.release_written();
            }
        }
        self.backend_stats(index)
            .of(BackendCount::SentBytes)
            .add(sent as u64);
        if broken {
            // Replies that came before the reset are still to be read; the read ends the connection.
            self.read_conn(index, true);
            if self.conns[index as usize].fd.is_some() {
                self.fail_conn(index, Failure::Reset);
            }
        }
    }

    // --- loss ------------------------------------------------------------------------------------

    /// Ends a connection because it failed, tells the control plane, and settles what was on it.
    pub(super) fn fail_conn(&mut self, index: u32, failure: Failure) {
        let conn = &mut self.conns[index as usize];
        let was_open = conn.state == ConnState::Ready;
        let (pool, shard, backend) = (conn.pool, conn.shard, conn.backend);
        // An idle connection that the backend closed was perhaps only idle for too long: the next
        // request may connect at once, and tells more.
        conn.retry_at = if was_open {
            0
        } else {
            self.now_ms + backoff(conn.attempts, &mut self.entropy)
        };
        if !was_open {
            conn.attempts += 1;
        }
        conn.failing = true;
        self.backend_stats(index).of(BackendCount::Failures).add(1);
        self.report(
            EventKind::ConnectionFailed,
            pool,
            shard,
            backend,
            failure.name(),
            b"",
        );
        self.end_conn(index, failure);
    }

    /// Ends a connection because the table does not want it any more.
    pub(super) fn retire_conn(&mut self, index: u32) {
        self.conns[index as usize].retry_at = 0;
        self.end_conn(index, Failure::Closed);
    }

    fn end_conn(&mut self, index: u32, failure: Failure) {
        let (inflight, mut out, written) = self.unplug(index, ConnState::Closed);
        let conn = &self.conns[index as usize];
        let (pool, shard, backend, lane, keep) =
            (conn.pool, conn.shard, conn.backend, conn.lane, conn.keep);
        let mut offset = 0;
        for pending in inflight {
            let start = offset;
            offset += pending.len as usize;
            self.backend_stats(index).of(BackendCount::Inflight).sub(1);
            if pending.tombstone {
                continue;
            }
            let sent = (written.wrapping_sub(pending.end.wrapping_sub(pending.len)) as i32) > 0;
            match pending.to {
                ReplyTo::Leg { op, generation, .. } => {
                    self.leg_failed(op, generation, backend, failure)
                }
                to if pending.read && keep => {
                    let bytes = out.held_slice(start, pending.len as usize);
                    self.retry_read(index, pool, shard, lane, &pending, bytes);
                    let _ = to;
                }
                to if pending.read => {
                    self.fail(
                        pool,
                        to,
                        if sent {
                            Wire::ReadLost
                        } else {
                            Wire::BackendUnreachable
                        },
                    );
                }
                to => self.fail(
                    pool,
                    to,
                    if sent {
                        Wire::WriteLost
                    } else {
                        Wire::BackendUnreachable
                    },
                ),
            }
        }
        out.reset();
        self.wake_later(pool, shard);
    }

    /// Closes the socket and takes everything off the connection: the requests, their bytes, and how
    /// far they were written.
    fn unplug(
        &mut self,
        index: u32,
        state: ConnState,
    ) -> (VecDeque<Pending>, crate::buf::OutBuf, u32) {
        let conn = &mut self.conns[index as usize];
        let was_open = std::mem::replace(&mut conn.state, state) == ConnState::Ready;
        if let Some(fd) = conn.fd.take() {
            self.poll.remove(&fd);
        }
        conn.generation = conn.generation.wrapping_add(1);
        conn.greetings.clear();
        conn.greeting_out.reset();
        conn.input = Vec::new();
        conn.resume = Resume::default();
        conn.tombstones = 0;
        let written = conn.written;
        conn.queued = 0;
        conn.written = 0;
        let inflight = std::mem::take(&mut conn.inflight);
        let out = std::mem::take(&mut conn.out);
        if was_open {
            self.backend_stats(index)
                .of(BackendCount::Connections)
                .sub(1);
        }
        (inflight, out, written)
    }

    /// It showed another record than the table's, so somebody changed the view or the process is
    /// not the one we knew. Reads go elsewhere; writes wait here for the table that follows.
    fn hold_conn(&mut self, index: u32) {
        let is_outdated = self.conns[index as usize].greeted_epoch != self.table.epoch;
        let (inflight, out, _) = self.unplug(index, ConnState::Held);
        let conn = &mut self.conns[index as usize];
        let (pool, shard, lane) = (conn.pool, conn.shard, conn.lane);
        conn.deadline = self.now_ms + self.shared.config.pools[pool as usize].request_timeout;
        conn.failing = true;
        let mut offset = 0;
        for pending in inflight {
            let bytes = out.held_slice(offset, pending.len as usize);
            offset += pending.len as usize;
            if pending.read && pending.tried != PARKED {
                self.backend_stats(index).of(BackendCount::Inflight).sub(1);
                self.retry_read(index, pool, shard, lane, &pending, bytes);
            } else {
                self.conns[index as usize].push(bytes, pending);
            }
        }
        if is_outdated {
            // It was asked before the table changed, so no further table will tell us to ask again.
            self.reconnect(index);
        }
    }

    /// Asks the next replica, if there is one that was not asked yet.
    fn retry_read(
        &mut self,
        from: u32,
        pool: u16,
        shard: u16,
        lane: u8,
        pending: &Pending,
        bytes: &[u8],
    ) {
        self.backend_stats(from).of(BackendCount::Retried).add(1);
        let (kind, write, copies, trailer) = (pending.kind, false, Copies::Same, &b""[..]);
        let out = Outgoing {
            pool,
            shard,
            lane,
            write,
            kind,
            bytes,
            copies,
            trailer,
        };
        self.send_read(pending.to, &out, pending.tried);
    }

    // --- time ------------------------------------------------------------------------------------

    /// Turns requests that took too long into tombstones, gives up connections that take too long to
    /// make or stay silent.
    pub(super) fn expire_requests(&mut self) {
        self.idle = !self.is_busy();
        for index in 0..self.conns.len() as u32 {
            let conn = &self.conns[index as usize];
            let timeout = self.shared.config.pools[conn.pool as usize].request_timeout;
            match conn.state {
                ConnState::Connecting | ConnState::Verifying if self.now_ms > conn.deadline => {
                    self.fail_conn(index, Failure::ConnectTimeout);
                }
                ConnState::Held if self.now_ms > conn.deadline => {
                    self.fail_conn(index, Failure::Timeout);
                }
                ConnState::Ready if !conn.inflight.is_empty() => {
                    self.expire_front(index, timeout);
                    let conn = &self.conns[index as usize];
                    let silent = self.now_ms.saturating_sub(conn.last_reply);
                    // Bytes that never become a reply (a length beyond all reason) are no sign of life.
                    let stuck = conn.inflight.front().map_or(0, |oldest| {
                        u64::from((self.now_ms as u32).wrapping_sub(oldest.sent_at))
                    });
                    let limit = SILENT_TIMEOUTS * timeout;
                    if conn.tombstones > 0 && (silent > limit || stuck > timeout + limit) {
                        self.fail_conn(index, Failure::Timeout);
                    }
                }
                _ => {}
            }
        }
    }

    fn expire_front(&mut self, index: u32, timeout: u64) {
        let generation = self.conns[index as usize].generation;
        loop {
            let now = self.now_ms;
            let conn = &mut self.conns[index as usize];
            if conn.generation != generation {
                return;
            }
            let at = conn.tombstones;
            let Some(pending) = conn.inflight.get_mut(at) else {
                return;
            };
            if u64::from((now as u32).wrapping_sub(pending.sent_at)) < timeout {
                return;
            }
            pending.tombstone = true;
            let pending = *pending;
            if at == 0 {
                // Silence is counted from here, not from a reply long ago on an idle connection.
                conn.last_reply = now;
            }
            conn.tombstones += 1;
            let (pool, shard, backend, lane, keep) =
                (conn.pool, conn.shard, conn.backend, conn.lane, conn.keep);
            let before: usize = conn
                .inflight
                .iter()
                .take(at)
                .map(|pending| pending.len as usize)
                .sum();
            self.backend_stats(index).of(BackendCount::Timeouts).add(1);
            if at == 0 {
                let failure = Failure::Timeout.name();
                self.report(
                    EventKind::ConnectionFailed,
                    pool,
                    shard,
                    backend,
                    failure,
                    b"",
                );
            }
            match pending.to {
                ReplyTo::Leg { op, generation, .. } => {
                    self.leg_failed(op, generation, backend, Failure::Timeout);
                }
                to if pending.read => {
                    let others = self.shard_table(pool, shard).in_sync & !pending.tried;
                    if keep && others != 0 {
                        let bytes = self.conns[index as usize]
                            .out
                            .held_slice(before, pending.len as usize)
                            .to_vec();
                        self.retry_read(index, pool, shard, lane, &pending, &bytes);
                    } else {
                        self.fail(pool, to, Wire::ReadTimedOut);
                    }
                }
                to => self.fail(pool, to, Wire::WriteTimedOut),
            }
        }
    }
}

/// Full jitter up to a doubling bound, so that many proxies do not knock in step.
fn backoff(attempts: u32, entropy: &mut u32) -> u64 {
    let bound = (BACKOFF_BASE_MS << attempts.min(10)).min(BACKOFF_CAP_MS);
    *entropy ^= *entropy << 13;
    *entropy ^= *entropy >> 17;
    *entropy ^= *entropy << 5;
    BACKOFF_BASE_MS + u64::from(*entropy) % bound
}
