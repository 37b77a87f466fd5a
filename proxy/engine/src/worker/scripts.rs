//! Scripts that clients call by their digest, on backends that may not know them: restarted, refilled, replaced.
//!
//! Every text that comes through the proxy is remembered (`command/scripts.rs`). Before a connection carries the
//! first EVALSHA of a text, the shard's members get SCRIPT LOAD of it, on the same connections and so in front.
//! What was given to whom is forgotten whenever a connection to one of them is made: it may be a new process.
//!
//! Where a backend says NOSCRIPT all the same (somebody else flushed its scripts), nothing was applied, and the
//! request is made again as EVAL. Not if its client has asked something else behind it, which would then have
//! gone first; such a client gets NOSCRIPT, as from a server that was flushed, and the next one is preceded by
//! SCRIPT LOAD again.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};

use super::ask::request;
use super::exec::{self, Facts};
use super::forward::{Flow, Incoming};
use super::split::Merge;
use super::*;
use crate::command::overlay::Effect;
use crate::command::scripts::{self, Digest};
use crate::command::{self, Row};
use crate::conn::backend::NO_PART;
use crate::conn::client::Called;
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::proto::{resp, Args, Resume};

/// How many texts a worker knows of; it then begins anew.
const KNOWN_LIMIT: usize = 4096;
/// For so long it trusts that the cache still has them.
const KNOWN_MS: u64 = 10_000;
const DOUBT_MS: u64 = 100;

/// What a worker knows without asking the cache that all share.
#[derive(Default)]
pub(super) struct Known {
    /// `Shared::scripts_epoch` it is true of.
    epoch: u64,
    /// Hashes of texts that were put into the cache since then (worker clock in milliseconds).
    texts: HashSet<u64>,
    texts_since: u64,
    /// When it was last doubted what they were given.
    doubted_at: u64,
    /// What the members of a shard were given.
    given: HashSet<(u16, u16, u8, Digest)>,
}

/// A script that a batch calls or asks for.
pub(super) enum InBatch {
    Text(Vec<u8>),
    Digest(Digest),
}

/// The scripts of a transaction's commands, in order.
pub(super) fn in_batch(batch: &[u8]) -> Vec<InBatch> {
    let mut found = Vec::new();
    exec::commands(batch, &command::find, |row, args, _| match row.name {
        "EVAL" | "EVAL_RO" => found.push(InBatch::Text(args.get(1).to_vec())),
        "EVALSHA" | "EVALSHA_RO" => {
            found.extend(scripts::parse(args.get(1)).map(InBatch::Digest));
        }
        "SCRIPT|EXISTS" => {
            let digests = args.iter().skip(2).filter_map(scripts::parse);
            found.extend(digests.map(InBatch::Digest));
        }
        _ => {}
    });
    found
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}

impl Worker {
    /// Takes note of a text that a client sent.
    pub(super) fn remember_script(&mut self, text: &[u8]) {
        self.check_epoch();
        let is_old = self.now_ms > self.known.texts_since + KNOWN_MS;
        if is_old || self.known.texts.len() >= KNOWN_LIMIT {
            self.known.texts.clear();
            self.known.texts_since = self.now_ms;
        }
        if self.known.texts.insert(hash(text)) {
            self.shared.scripts().add(text);
        }
    }

    /// All texts are forgotten, by all workers.
    pub(super) fn forget_scripts(&mut self) {
        self.shared.scripts().clear();
        self.shared.scripts_epoch.fetch_add(1, SeqCst);
    }

    fn check_epoch(&mut self) {
        let epoch = self.shared.scripts_epoch.load(SeqCst);
        if self.known.epoch != epoch {
            self.known = Known {
                epoch,
                doubted_at: self.known.doubted_at,
                ..Known::default()
            };
        }
    }

    /// What happens to a script's request before it goes to a shard's members from here.
    pub(super) fn prepare_script(
        &mut self,
        pool: u16,
        shard: u16,
        lane: u8,
        row: &Row,
        args: &Args<'_>,
    ) {
        match row.name {
            "EVAL" | "EVAL_RO" => self.remember_script(args.get(1)),
            "EVALSHA" | "EVALSHA_RO" => {
                if let Some(digest) = scripts::parse(args.get(1)) {
                    self.give_script(pool, shard, lane, digest);
                }
            }
            _ => {}
        }
    }

    /// True if the pool has scripts without keys run on every shard, and more than one.
    pub(super) fn runs_everywhere(&self, pool: u16) -> bool {
        let pool = pool as usize;
        self.shared.config.pools[pool].keyless_everywhere && self.table.pools[pool].shards.len() > 1
    }

    /// Runs such a script on every shard. By its text, where that is known: a shard that says NOSCRIPT when others
    /// have run it would have it run twice by them.
    pub(super) fn run_everywhere(&mut self, asked: &Incoming) -> Flow {
        let frame = match asked.row.name {
            "EVALSHA" | "EVALSHA_RO" => self.by_text(&asked.args),
            _ => None,
        };
        let frame = frame.unwrap_or_else(|| asked.frame.to_vec());
        let spots = self.present_spots(asked.pool);
        let write = asked.row.effect_of(&asked.args) != Effect::Nothing;
        self.send_everywhere(asked, spots, frame, write, Merge::Scripts { write })
    }

    /// EVALSHA as EVAL, if the text is known.
    fn by_text(&self, args: &Args<'_>) -> Option<Vec<u8>> {
        let text =
            scripts::parse(args.get(1)).and_then(|digest| self.shared.scripts().get(&digest))?;
        let is_read = args.get(0).len() > b"EVALSHA".len();
        let name: &[u8] = if is_read { b"EVAL_RO" } else { b"EVAL" };
        let mut words: Vec<&[u8]> = vec![name, &text];
        words.extend(args.iter().skip(2));
        Some(request(&words))
    }

    /// Sends SCRIPT LOAD to all members of a shard that may not have it, if the text is known.
    pub(super) fn give_script(&mut self, pool: u16, shard: u16, lane: u8, digest: Digest) {
        self.check_epoch();
        let place = (pool, shard, lane, digest);
        if self.known.given.contains(&place) {
            return;
        }
        let Some(text) = self.shared.scripts().get(&digest) else {
            return;
        };
        if self.known.given.len() >= KNOWN_LIMIT {
            self.known.given.clear();
        }
        self.known.given.insert(place);
        let load = request(&[b"SCRIPT", b"LOAD", &text]);
        let members = self.shard_table(pool, shard).members();
        for backend in (0..16u8).filter(|backend| members & (1 << backend) != 0) {
            self.send_pinned(ReplyTo::Nobody, pool, shard, backend, lane, &load, 1);
        }
    }

    /// What happens to the scripts of a batch before it goes to a shard's members from here.
    pub(super) fn prepare_scripts(
        &mut self,
        pool: u16,
        shard: u16,
        lane: u8,
        batch: &[u8],
        facts: Facts,
    ) {
        if !facts.scripts {
            return;
        }
        for script in in_batch(batch) {
            match script {
                InBatch::Text(text) => self.remember_script(&text),
                InBatch::Digest(digest) => self.give_script(pool, shard, lane, digest),
            }
        }
    }

    /// The same where it goes over one connection of its own, which is not looked after: all are sent each time.
    pub(super) fn prepare_scripts_on(&mut self, conn: u32, batch: &[u8], facts: Facts) {
        if !facts.scripts {
            return;
        }
        for script in in_batch(batch) {
            let digest = match script {
                InBatch::Text(text) => {
                    self.remember_script(&text);
                    continue;
                }
                InBatch::Digest(digest) => digest,
            };
            let text = self.shared.scripts().get(&digest);
            if let Some(text) = text {
                let load = request(&[b"SCRIPT", b"LOAD", &text]);
                let pending = self.pending(ReplyTo::Nobody, ReplyKind::Line, true, 0);
                self.enqueue(conn, &load, pending);
            }
        }
    }

    /// A transaction was answered with NOSCRIPT somewhere: by a shard that any worker may look after.
    #[cold]
    pub(super) fn doubt_scripts(&mut self) {
        if self.now_ms > self.known.doubted_at + DOUBT_MS {
            self.known.doubted_at = self.now_ms;
            self.shared.scripts_epoch.fetch_add(1, SeqCst);
        }
    }

    /// Whoever is connected to now may know nothing.
    pub(super) fn forget_given(&mut self, pool: u16, shard: u16) {
        if !self.known.given.is_empty() {
            self.known
                .given
                .retain(|(a, b, ..)| (*a, *b) != (pool, shard));
        }
    }

    /// Keeps an EVALSHA that is its client's only request under way, to be made again as EVAL.
    pub(super) fn keep_call(&mut self, who: Handle, spot: Spot, lane: u8, row: &Row, frame: &[u8]) {
        if !row.name.starts_with("EVALSHA") {
            return;
        }
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let seq = client.head;
        if client.slots.len() == 1 {
            let bytes = frame.to_vec();
            let called = Called {
                seq,
                spot,
                lane,
                bytes,
            };
            client.called = Some(Box::new(called));
        }
    }

    /// A client's request is about to be answered with NOSCRIPT: true if it was made again.
    #[cold]
    pub(super) fn call_again(&mut self, who: Handle, seq: u32) -> bool {
        let Some(client) = self.clients.get_mut(who) else {
            return false;
        };
        let Some(called) = client.called.take() else {
            // Of many in a row nobody knows which; but whoever calls what never was does not slow others down.
            self.doubt_scripts();
            return false;
        };
        let is_last = client.slots.len() == 1 && client.head == seq && called.seq == seq;
        let is_remote = client.slot(seq).is_some_and(|slot| slot.remote > 0);
        let Called { spot, lane, .. } = *called;
        let Spot { pool, shard } = spot;
        self.forget_given(pool, shard);
        let mut list = Vec::new();
        let limit = usize::MAX;
        resp::request(&called.bytes, &mut list, &mut Resume::default(), limit);
        let args = Args {
            buf: &called.bytes,
            list: &list,
        };
        let Some(bytes) = self.by_text(&args).filter(|_| is_last) else {
            return false;
        };
        if is_remote {
            let to = ReplyTo::Remote {
                worker: self.id as u8,
                target: who,
                seq,
                part: NO_PART,
            };
            let handover = Handover {
                pool,
                shard,
                lane,
                to,
                bytes,
            };
            let owner = self.owner(pool, shard);
            self.mail[owner].push(Message::Request(handover));
        } else {
            let to = ReplyTo::Slot { client: who, seq };
            // In front of all that its client asks from now on.
            self.retry_behind(pool, shard, lane, to, &bytes);
            self.idle = false;
            self.wake_later(pool, shard);
        }
        true
    }
}
