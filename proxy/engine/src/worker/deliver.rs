//! Replies on their way to clients: into the slot that waits, in the client's order (P1).

use super::forward::Meta;
use super::lent::{Taker, LEND_BYTES};
use super::*;
use crate::command::table;
use crate::conn::{ReplyTo, Slot};
use crate::proto::meta::Form;
use crate::proto::{binary, memcache as text, resp};
use memchr::memmem;

/// Emptied buffers kept for parked replies, and the capacity above which one is not kept.
const SPARE_BUFFERS: usize = 1024;
const SPARE_CAPACITY: usize = 16 * 1024;
/// Parked replies larger than this have the output limit checked at once.
const PARKED_CHECK: usize = 16 * 1024;

const EXEC: u16 = table::id("EXEC");

impl Worker {
    /// Hands a whole reply to whoever waits for it.
    #[inline]
    pub(super) fn deliver(&mut self, to: ReplyTo, bytes: &[u8]) {
        match to {
            ReplyTo::Slot { client, seq } => self.fill_slot(client, seq, bytes),
            ReplyTo::Part { gather, part, last } => match last {
                true => self.fill_part(gather, part, bytes),
                false => self.begin_part(gather, part, bytes),
            },
            ReplyTo::Leg { op, backend, last } => {
                self.leg_replied(op, backend, last, bytes);
            }
            ReplyTo::Lesson(lesson) => self.taught(lesson, bytes),
            ReplyTo::Remote { worker, .. } => {
                let bytes = bytes.to_vec();
                self.mail[worker as usize].push(Message::Reply { to, bytes });
            }
            ReplyTo::Try(wait) => self.tried(wait, bytes),
            ReplyTo::Armed { watch, generation } => self.armed(watch, generation, bytes),
            ReplyTo::Record | ReplyTo::Step | ReplyTo::Nobody => {}
        }
    }

    /// Answers with an error of our own.
    pub(super) fn fail(&mut self, pool: u16, to: ReplyTo, wire: Wire) {
        let text = self.wire_text(pool, wire);
        self.deliver(to, text);
    }

    pub(super) fn is_error(&self, pool: u16, reply: &[u8]) -> bool {
        match self.pools[pool as usize].protocol {
            Protocol::Redis => resp::is_error(reply),
            Protocol::Memcached => text::is_error(reply) || binary::is_error(reply),
        }
    }

    #[inline]
    fn fill_slot(&mut self, who: Handle, seq: u32, bytes: &[u8]) {
        if bytes.starts_with(b"-NOSCRIPT No matching script") && self.call_again(who, seq) {
            return;
        }
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let pool = client.pool;
        let is_first = seq == client.head;
        let mut parked_bytes = 0;
        let (local, remote, aside, command, write, started) = match client.slot(seq) {
            Some(slot) => {
                let known = (
                    slot.local,
                    slot.remote,
                    slot.aside,
                    slot.command,
                    slot.write,
                    slot.started,
                );
                if !is_first {
                    let mut parked = self.spare.pop().unwrap_or_default();
                    if !slot.mute {
                        slot.form.write(bytes, &mut parked);
                    }
                    parked_bytes = parked.len();
                    slot.parked = parked;
                    slot.ready = true;
                }
                known
            }
            None => return,
        };
        let len = bytes.len().min(u32::MAX as usize) as u32;
        client.reply_bytes = client.reply_bytes - client.reply_bytes / 8 + len / 8;
        client.parked += parked_bytes;
        client.local -= u32::from(local);
        client.remote -= u32::from(remote);
        if aside {
            client.aside -= 1;
            self.aside -= 1;
        }
        if is_first {
            client.called = None;
            if let Some(slot) = client.slots.pop_front() {
                let may_take = bytes.len() >= LEND_BYTES
                    && matches!(slot.form, Form::Same)
                    && client.slots.is_empty()
                    && client.out.is_empty();
                if !(slot.mute || may_take && self.lent.take(Taker::Client(who), bytes)) {
                    slot.form.write(bytes, client.out.tail());
                }
            }
            client.head = client.head.wrapping_add(1);
            while client.slots.front().is_some_and(|slot| slot.ready) {
                if let Some(mut slot) = client.slots.pop_front() {
                    client.out.extend(&slot.parked);
                    client.parked -= slot.parked.len();
                    if slot.parked.capacity() <= SPARE_CAPACITY && self.spare.len() < SPARE_BUFFERS
                    {
                        slot.parked.clear();
                        self.spare.push(slot.parked);
                    }
                }
                client.head = client.head.wrapping_add(1);
            }
            self.mark_client(who);
            let Some(client) = self.clients.get_mut(who) else {
                return;
            };
            let limit = self.shared.config.pools[pool as usize].client_inflight_limit;
            let go_on = match client.block {
                Block::Inflight => client.has_drained(limit),
                Block::Drain => client.slots.is_empty(),
                _ => false,
            };
            if go_on {
                self.list_client(who);
            }
        } else if parked_bytes > PARKED_CHECK {
            // Counts against the output limit, which is looked at when the client is flushed.
            self.mark_client(who);
        }
        self.count(pool, command, write, started, bytes);
        if command == EXEC && memmem::find(bytes, b"\r\n-NOSCRIPT ").is_some() {
            self.doubt_scripts();
        }
    }

    #[inline]
    fn count(&self, pool: u16, command: u16, write: bool, started: u32, reply: &[u8]) {
        let is_error = self.is_error(pool, reply);
        let stats = self.pool_stats(pool);
        stats.commands[command as usize][usize::from(is_error)].add(1);
        stats.durations[usize::from(write)].observe((self.now as u32).wrapping_sub(started));
    }

    /// Answers a request that needs no backend, in its place behind the unanswered ones.
    pub(super) fn reply_now(&mut self, who: Handle, meta: Meta, bytes: &[u8]) {
        let started = self.now as u32;
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let pool = client.pool;
        client.command = Some(meta.command);
        let form = std::mem::take(&mut client.form);
        if client.slots.is_empty() {
            if !meta.mute {
                form.write(bytes, client.out.tail());
            }
            self.mark_client(who);
        } else {
            let mut parked = self.spare.pop().unwrap_or_default();
            if !meta.mute {
                form.write(bytes, &mut parked);
            }
            client.parked += parked.len();
            client.push_slot(Slot {
                parked,
                ready: true,
                mute: false,
                form: Form::Same,
                write: meta.write,
                command: meta.command,
                local: 0,
                remote: 0,
                aside: false,
                started,
            });
        }
        self.count(pool, meta.command, meta.write, started, bytes);
    }
}
