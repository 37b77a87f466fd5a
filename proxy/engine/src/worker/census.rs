//! CLIENT LIST, KILL and UNBLOCK, which concern all clients of a pool: every worker is asked by mail, and
//! the last to answer completes the reply. Clients of other pools are none of theirs.

use std::os::fd::AsRawFd;

use super::blocking::Verdict;
use super::forward::{Flow, Meta, Way};
use super::*;
use crate::command::census::{Hit, Question};
use crate::command::client::Seen;
use crate::conn::ReplyTo;

/// What the clients of one worker answered.
#[derive(Default)]
pub struct Told {
    /// Clients that were hit.
    count: u64,
    /// By client id.
    lines: Vec<(u64, Vec<u8>)>,
    /// The one that asks is to be closed.
    is_asker: bool,
}

/// A question on its way to another worker.
pub struct Asked {
    from: u8,
    /// The census there.
    census: Handle,
    pool: u16,
    asker: u64,
    question: Arc<Question>,
}

/// A question that is not answered by all workers yet.
pub(super) struct Census {
    to: ReplyTo,
    resp3: bool,
    question: Arc<Question>,
    waiting: usize,
    told: Told,
}

impl Worker {
    /// Asks all clients of the client's pool; the session is the one that asks.
    pub(super) fn ask_clients(
        &mut self,
        who: Handle,
        meta: Meta,
        asker: (u64, bool),
        question: Question,
    ) -> Flow {
        let Some(pool) = self.clients.get_mut(who).map(|client| client.pool) else {
            return Flow::Taken;
        };
        if let Some(client) = self.clients.get_mut(who) {
            client.command = Some(meta.command);
        }
        let (asker, resp3) = asker;
        let mut told = self.survey(pool, asker, &question);
        // A worker that has nobody left to serve has ended perhaps.
        let is_alone = self.shared.config.workers == 1 || self.shared.draining.load(SeqCst);
        let flow = match told.is_asker {
            true => Flow::Close,
            false => Flow::Taken,
        };
        if is_alone {
            let mut text = Vec::new();
            question.reply(told.count, &mut told.lines, resp3, &mut text);
            self.reply_now(who, meta, &text);
            return flow;
        }
        let seq = self.open_slot(who, meta, &[Way::Here]);
        let question = Arc::new(question);
        let to = ReplyTo::Slot { client: who, seq };
        let waiting = self.shared.config.workers - 1;
        let census = self.censuses.insert(Census {
            to,
            resp3,
            question: Arc::clone(&question),
            waiting,
            told,
        });
        self.ask_workers(census, pool, asker, &question);
        flow
    }

    fn ask_workers(&mut self, census: Handle, pool: u16, asker: u64, question: &Arc<Question>) {
        for worker in (0..self.mail.len()).filter(|worker| *worker != self.id) {
            let from = self.id as u8;
            let question = Arc::clone(question);
            self.mail[worker].push(Message::Asked(Asked {
                from,
                census,
                pool,
                asker,
                question,
            }));
        }
    }

    /// The same for a request inside a transaction, whose answer cannot wait: it tells of this worker's clients
    /// only, and what is to be done is done by all. True if the one that asks is to be closed.
    pub(super) fn ask_clients_inside(
        &mut self,
        pool: u16,
        asker: (u64, bool),
        question: Question,
        text: &mut Vec<u8>,
    ) -> bool {
        let (asker, resp3) = asker;
        let mut told = self.survey(pool, asker, &question);
        question.reply(told.count, &mut told.lines, resp3, text);
        self.ask_workers(Handle::NONE, pool, asker, &Arc::new(question));
        told.is_asker
    }

    /// Puts the question to each client of the pool that this worker serves.
    fn survey(&mut self, pool: u16, asker: u64, question: &Question) -> Told {
        let (unix_time_us, second) = (sys::unix_micros(), (self.now_ms / 1000) as u32);
        let mut told = Told::default();
        for who in self.clients.handles() {
            let Some(client) = self.clients.get(who) else {
                continue;
            };
            if *question == Question::Conns && client.pool == pool {
                told.lines.push(conns_lines(client, second));
                continue;
            }
            let Some(session) = client.session.as_deref().filter(|_| client.pool == pool) else {
                continue;
            };
            let seen = Seen {
                session,
                command: client.command,
                is_blocked: client.block == Block::Blocked,
                idle_seconds: u64::from(second.saturating_sub(client.active_second)),
                unix_time_us,
            };
            let (id, wait) = (session.id, client.wait);
            let Some(hit) = question.ask(&seen, asker) else {
                continue;
            };
            told.count += 1;
            match hit {
                Hit::Line(line) => told.lines.push((id, line)),
                Hit::Kill if id == asker => told.is_asker = true,
                Hit::Kill => self.close_client(who),
                Hit::Unblock { with_error } => {
                    let verdict = match with_error {
                        true => Verdict::Error(Wire::Unblocked),
                        false => Verdict::Nil,
                    };
                    self.end_wait(wait, verdict);
                }
            }
        }
        told
    }

    /// Clients of a pool that wait, of all workers.
    pub(super) fn count_blocked(&self, pool: u16) -> u64 {
        let blocked = |stats: &crate::stats::WorkerStats| {
            stats.pools[pool as usize].of(PoolCount::Blocked).get()
        };
        self.shared.stats.iter().map(blocked).sum()
    }

    /// A client of another worker asks.
    pub(super) fn asked(&mut self, asked: Asked) {
        let told = self.survey(asked.pool, asked.asker, &asked.question);
        self.mail[asked.from as usize].push(Message::Told {
            census: asked.census,
            told,
        });
    }

    /// Another worker's clients have answered.
    pub(super) fn told(&mut self, at: Handle, told: Told) {
        let Some(census) = self.censuses.get_mut(at) else {
            return;
        };
        census.told.count += told.count;
        census.told.lines.extend(told.lines);
        census.waiting -= 1;
        if census.waiting > 0 {
            return;
        }
        if let Some(mut census) = self.censuses.remove(at) {
            let (count, lines) = (census.told.count, &mut census.told.lines);
            let mut text = Vec::new();
            census.question.reply(count, lines, census.resp3, &mut text);
            self.deliver(census.to, &text);
        }
    }
}

/// What `stats conns` says of a client, behind its number.
fn conns_lines(client: &Client, second: u32) -> (u64, Vec<u8>) {
    let number = client.fd.as_raw_fd() as u64;
    let (address, listener) = match sys::path(&client.fd) {
        // Of whoever connects to a unix socket memcached says that it knows no address.
        Some(path) => ("?:<AF 0>".to_owned(), format!("unix:{path}")),
        None => {
            let (peer, local) = sys::names(&client.fd);
            (format!("tcp:{peer}"), format!("tcp:{local}"))
        }
    };
    let state = match client.slots.is_empty() && client.input.is_empty() {
        true => "conn_read",
        false => "conn_parse_cmd",
    };
    let idle = second.saturating_sub(client.active_second);
    let rows = [
        ("addr", address),
        ("listen_addr", listener),
        ("state", state.to_owned()),
        ("secs_since_last_cmd", idle.to_string()),
    ];
    let line = |(name, value)| format!("STAT {number}:{name} {value}\r\n");
    (number, rows.map(line).concat().into_bytes())
}
