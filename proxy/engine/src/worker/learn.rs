//! Commands that the table does not have: a backend is asked what it knows of them, once, and the clients that
//! sent them wait for that (`command/learned.rs`).

use super::ask::request;
use super::forward::{Copies, Outgoing};
use super::*;
use crate::command::learned::Known;
use crate::command::{self, Row};
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::proto::Args;

/// Questions of one worker that are under way at once; more names are unknown without asking, since whoever
/// makes names up would keep the backends busy.
const LESSONS_LIMIT: usize = 16;

/// A question that is under way.
pub(super) struct Lesson {
    pool: u16,
    name: Vec<u8>,
    clients: Vec<Handle>,
}

/// What is known of a request's command.
pub(super) enum Taught {
    Row(&'static Row),
    Unknown,
    /// A backend is asked; the client waits.
    Later,
}

impl Worker {
    /// The row of a request, learned or from the table.
    pub(super) fn row_of(&self, pool: u16, args: &Args<'_>) -> Option<&'static Row> {
        let learned = &self.shared.learned;
        // A request that came to another pool's listener was learned there.
        let elsewhere = || learned.iter().find_map(|pool| pool.row(args));
        let row = || learned[pool as usize].row(args).or_else(elsewhere);
        command::find(args).or_else(row)
    }

    /// What is known of a command that the table does not have.
    pub(super) fn teach(&mut self, who: Handle, pool: u16, args: &Args<'_>) -> Taught {
        let name = args.get(0);
        match self.shared.learned[pool as usize].get(name, self.now_ms) {
            Known::Command(learned) => learned.find(args).map_or(Taught::Unknown, Taught::Row),
            Known::Nothing => Taught::Unknown,
            Known::Unasked => self.ask_about(who, pool, name),
        }
    }

    fn ask_about(&mut self, who: Handle, pool: u16, name: &[u8]) -> Taught {
        for lesson in self.lessons.handles() {
            if let Some(lesson) = self.lessons.get_mut(lesson) {
                if lesson.pool == pool && lesson.name.eq_ignore_ascii_case(name) {
                    lesson.clients.push(who);
                    return Taught::Later;
                }
            }
        }
        let table = &self.table.pools[pool as usize];
        let is_there =
            |(shard, absent): (&crate::route::Shard, &bool)| shard.lead.is_some() && !absent;
        let shard = table.shards.iter().zip(&table.absent).position(is_there);
        let Some(shard) = shard.filter(|_| self.lessons.len() < LESSONS_LIMIT) else {
            return Taught::Unknown;
        };
        let lesson = self.lessons.insert(Lesson {
            pool,
            name: name.to_vec(),
            clients: vec![who],
        });
        let bytes = request(&[b"COMMAND", b"INFO", name]);
        let out = Outgoing {
            pool,
            shard: shard as u16,
            lane: 0,
            write: false,
            kind: ReplyKind::Line,
            bytes: &bytes,
            copies: Copies::Same,
            trailer: b"",
        };
        let to = ReplyTo::Lesson(lesson);
        self.send_read(to, &out, 0);
        if self.lessons.get(lesson).is_none() {
            return Taught::Unknown; // nobody could be asked
        }
        Taught::Later
    }

    /// A backend has said what it knows, or could not be asked.
    pub(super) fn taught(&mut self, lesson: Handle, reply: &[u8]) {
        let Some(lesson) = self.lessons.remove(lesson) else {
            return;
        };
        let registry = &self.shared.learned[lesson.pool as usize];
        registry.learn(&lesson.name, reply, self.now_ms);
        for who in lesson.clients {
            self.list_client(who);
        }
    }
}
