//! What a new backend connection has to show before it carries anything: that it may be used (login),
//! which protocol it speaks, and that it is the process, with the record, that the table knows.

use super::*;
use crate::conn::backend::Greeting;
use crate::conn::lane;
use crate::proto::login::write_login;
use crate::proto::memcache::{unsigned, ReplyKind};
use crate::proto::resp;
use crate::stats::BackendCount;
use memchr::memmem;
use ready::NO_WATCH;
use shared::{EventKind, Failure};

/// How much of an unexpected record is reported.
const EVIDENCE_BYTES: usize = 16 * 1024;

impl Worker {
    /// Logs in first and alone: Redis 7.4 to 8 lose the reply to a failing AUTH that is not first.
    pub(super) fn start_greeting(&mut self, index: u32) {
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
            (Some((user, password)), Protocol::Memcached) => {
                write_login(user.as_bytes(), password, conn.greeting_out.tail());
                conn.greetings.push_back(Greeting::Auth);
                self.mark_conn(index);
            }
            (None, _) => self.greet(index),
        }
    }

    pub(super) fn greet(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        conn.greeted_epoch = self.table.epoch;
        conn.greeted_at = self.now_ms;
        if lane::is_resp3(conn.lane) {
            conn.greeting_out
                .extend(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n");
            conn.greetings.push_back(Greeting::Hello);
        }
        if lane::is_control(conn.lane) {
            if conn.greetings.is_empty() {
                self.open(index);
            } else {
                self.mark_conn(index);
            }
            return;
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
        if self.pools[conn.pool as usize].protocol == Protocol::Memcached && table.is_replicated() {
            conn.greeting_out.extend(b"stats settings\r\n");
            conn.greetings.push_back(Greeting::Settings);
        }
        let database = lane::database(conn.lane);
        if database > 0 {
            select(database, conn.greeting_out.tail());
            conn.greetings.push_back(Greeting::Select);
        }
        if conn.greetings.is_empty() {
            self.open(index);
        } else {
            self.mark_conn(index);
        }
    }

    /// The connection carries requests from now on.
    pub(super) fn open(&mut self, index: u32) {
        let now = self.now_ms;
        let conn = &mut self.conns[index as usize];
        conn.state = ConnState::Ready;
        // It may be a table that came in between whose record it has not shown.
        conn.shown_at = if conn.greeted_epoch == self.table.epoch {
            conn.greeted_at
        } else {
            0
        };
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
        let watch = self.conns[index as usize].watch;
        if watch != NO_WATCH {
            self.watch_opened(watch);
        }
        self.mark_conn(index);
        self.forget_given(pool, shard);
        self.wake_later(pool, shard);
        if self.conns[index as usize].feed.is_some() {
            self.feed_opened(index);
        }
        if let Some(dump) = self.conns[index as usize].dump {
            self.dump_opened(index, dump);
        }
    }

    pub(super) fn greeted(&mut self, index: u32, greeting: Greeting, reply: &[u8]) {
        let conn = &self.conns[index as usize];
        let (pool, shard, backend) = (conn.pool, conn.shard, conn.backend);
        match greeting {
            Greeting::Auth if reply.starts_with(b"+OK") || reply == b"STORED\r\n" => {
                self.greet(index)
            }
            Greeting::Auth => self.fail_conn(index, Failure::Login),
            Greeting::Hello if resp::is_error(reply) => self.fail_conn(index, Failure::Protocol),
            Greeting::Hello => self.finish_greeting(index),
            Greeting::Select if resp::is_error(reply) => self.fail_conn(index, Failure::Database),
            Greeting::Select => self.finish_greeting(index),
            Greeting::Settings => {
                let limit = item_limit(reply);
                let flags = &self.shared.shards[pool as usize][shard as usize];
                flags.item_limits[backend as usize].store(limit, SeqCst);
                self.finish_greeting(index);
            }
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

    pub(super) fn finish_greeting(&mut self, index: u32) {
        if !self.conns[index as usize].greetings.is_empty() {
            return;
        }
        if self.is_greeting_late(index) {
            self.fail_conn(index, Failure::ConnectTimeout);
        } else {
            self.open(index);
        }
    }

    pub(super) fn greeting_kind(&self, index: u32, greeting: Greeting) -> ReplyKind {
        let conn = &self.conns[index as usize];
        let verify =
            &self.shard_table(conn.pool, conn.shard).backends[conn.backend as usize].verify;
        match greeting {
            Greeting::Verify(i) => match verify.get(i as usize) {
                Some((request, _)) if request.starts_with(b"stats") => ReplyKind::Stats,
                Some((request, _)) if request.starts_with(b"get") => ReplyKind::Values,
                _ => ReplyKind::Line,
            },
            Greeting::Settings => ReplyKind::Stats,
            Greeting::Auth | Greeting::Hello | Greeting::Select => ReplyKind::Line,
        }
    }
}

/// What `stats settings` says of items; 0 if nothing.
fn item_limit(settings: &[u8]) -> u64 {
    const NAME: &[u8] = b"STAT item_size_max ";
    let Some(at) = memmem::find(settings, NAME) else {
        return 0;
    };
    let rest = &settings[at + NAME.len()..];
    let end = rest.iter().position(u8::is_ascii_whitespace);
    unsigned(&rest[..end.unwrap_or(0)]).unwrap_or(0)
}

/// The request that has a connection use a database.
pub(super) fn select(database: u8, out: &mut Vec<u8>) {
    resp::write_request(out, &[b"SELECT", database.to_string().as_bytes()]);
}
