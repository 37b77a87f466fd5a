//! When to try again: which keys that clients wait for have changed, by whomever and through whatever proxy.
//!
//! For each shard with waiting clients there is one connection to its leader on which the server tracks what
//! is read (CLIENT TRACKING). TYPE of a key *arms* it: the next change of it, and no other, is told. Then it
//! is armed again, and if it holds what somebody waits for, that is tried, for who waits longest first.
//!
//! ```text
//! a client waits ─► TYPE ─► armed ─► invalidate ─► TYPE ─► holds it ─► attempts (blocking.rs)
//!                             ▲                      │ holds something else        │
//!                             └──────────────────────┴─────────────────────────────┘
//! ```
//!
//! No change is missed: whoever begins to wait has tried before. If the key was armed already, a change since
//! is told; if not, what TYPE says is newer than the attempt. Answers of other connections and workers overtake
//! that of an attempt, so what TYPE said while it was under way counts as newer too, and has it made again. What
//! is not a list or a sorted set afterwards has nothing; of a stream only another attempt knows. No server tells that a consumer group is gone, nor
//! that what another consumer keeps may be claimed, so those that are waited for are looked at once a second. When the connection or the leader is lost all keys are
//! armed anew, and what may have changed in between shows the same way. Where tracking is not to be had, keys
//! are tried once a second. SWAPDB, which brings keys without a change of theirs, writes a key that is armed on
//! each such connection, and then all are armed anew.
//!
//! Past 600 lines, as the argument above needs all of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ask::request;
use super::blocking::{Stage, Verdict, Wait};
use super::flush::SWAPPED;
use super::*;
use crate::command::blocking::{Holds, Kind};
use crate::conn::{lane, ReplyTo};
use crate::proto::memcache::ReplyKind;
use crate::proto::resp;

/// Questions on one such connection that are not answered yet.
const ASKED_LIMIT: usize = 1024;
/// Attempts by one answer of TYPE: twice as many each time there is still something, up to this.
const BURST_LIMIT: u32 = 1024;
/// After an attempt that could not be made.
const RETRY_MS: u64 = 100;
/// Without a connection keys are tried, and after a refusal it is asked for, this often.
const BLIND_MS: u64 = 1_000;
/// A key that nobody waits for stays armed for so long: who works off a queue comes back.
const KEPT_MS: u64 = 5_000;
pub(super) const NO_WATCH: u32 = u32::MAX;

/// Pool, shard, lane.
pub(super) type Place = (Spot, u8);

/// The lane that listens for clients of both protocol versions: pushes are RESP3.
fn listening(lane: u8) -> u8 {
    lane::of(lane::database(lane), true)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Armed {
    #[default]
    No,
    /// In `Watch::to_arm`.
    Queued,
    /// TYPE is on its way.
    Asked,
    Yes,
}

/// How an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Taken,
    Nothing,
    Failed,
}

/// What a question on the connection is about.
enum Asked {
    Type(Arc<[u8]>),
    /// Whether the key still has this consumer group.
    Group(Arc<[u8]>, Vec<u8>),
    Nothing,
}

struct Waiter {
    wait: Handle,
    /// Position of the key in the request.
    key: usize,
    wants: Holds,
    is_read: bool,
    /// The last round in which it was tried.
    seen: u32,
}

#[derive(Default)]
struct Key {
    armed: Armed,
    /// As of the last TYPE; none while that is not known.
    holds: Option<Holds>,
    /// When that was told, by `Worker::types_told`.
    told: u64,
    /// Rises with each reason to try.
    round: u32,
    /// Attempts that are left in this round, and that it began with.
    allowed: u32,
    burst: u32,
    /// The wait that an attempt is under way for: one at a time, so that they keep their order.
    busy: Option<Handle>,
    /// By `Wait::order`.
    waiters: BTreeMap<u64, Waiter>,
    /// When the last one left. Milliseconds of the worker clock.
    left_at: u64,
}

/// The keys that are waited for on one shard.
pub(super) struct Watch {
    place: Place,
    conn: u32,
    keys: HashMap<Arc<[u8]>, Key>,
    to_arm: VecDeque<Arc<[u8]>>,
    /// What is asked on the connection, in order.
    asked: VecDeque<Asked>,
    /// Keys whose attempts could not be made, and when they are made again.
    later: Vec<Arc<[u8]>>,
    later_at: u64,
    blind_at: u64,
}

impl Worker {
    fn watch_of(&self, (spot, lane): Place) -> Option<u32> {
        self.watch_index.get(&(spot, listening(lane))).copied()
    }

    /// A client waits for a key from now on; it has tried. Its attempts are up to `pump`.
    pub(super) fn want(&mut self, at: Handle, key: usize) {
        let Some(wait) = self.waits.get(at) else {
            return;
        };
        let place = (wait.spots[key], listening(wait.lane));
        let watches = &mut self.watches;
        let blind_at = self.now_ms + BLIND_MS;
        let number = *self.watch_index.entry(place).or_insert_with(|| {
            watches.push(Watch {
                place,
                conn: NO_CONN,
                keys: HashMap::new(),
                to_arm: VecDeque::new(),
                asked: VecDeque::new(),
                later: Vec::new(),
                later_at: 0,
                blind_at,
            });
            watches.len() as u32 - 1
        });
        let watch = &mut self.watches[number as usize];
        let name = match watch.keys.get_key_value(&wait.call.keys[key][..]) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(&wait.call.keys[key][..]),
        };
        let entry = watch.keys.entry(Arc::clone(&name)).or_default();
        let wants = wait.call.wants();
        let is_overtaken = entry.holds == Some(wants) && entry.told > wait.began;
        let waiter = Waiter {
            wait: at,
            key,
            wants,
            is_read: wait.call.kind == Kind::Read,
            seen: entry.round.wrapping_sub(u32::from(is_overtaken)),
        };
        entry.waiters.insert(wait.order, waiter);
        if entry.armed == Armed::No {
            entry.armed = Armed::Queued;
            watch.to_arm.push_back(name);
        }
        self.arm(number);
    }

    /// It does so no more.
    pub(super) fn unwant(&mut self, at: Handle) {
        let Some(wait) = self.waits.get(at) else {
            return;
        };
        for (name, spot) in wait.call.keys.iter().zip(&wait.spots) {
            let place = (*spot, listening(wait.lane));
            let Some(number) = self.watch_index.get(&place) else {
                continue;
            };
            if let Some(key) = self.watches[*number as usize].keys.get_mut(&name[..]) {
                key.waiters.remove(&wait.order);
                if key.busy == Some(at) {
                    key.busy = None;
                }
                key.left_at = self.now_ms;
            }
        }
    }

    /// What a key holds, if that is known.
    pub(super) fn holds(&self, place: Place, name: &[u8]) -> Option<Holds> {
        let watch = &self.watches[self.watch_of(place)? as usize];
        watch.keys.get(name)?.holds
    }

    /// An attempt has ended.
    pub(super) fn attempt_over(&mut self, place: Place, name: &[u8], at: Handle, over: Over) {
        let Some(number) = self.watch_of(place) else {
            return;
        };
        let Some(key) = self.watches[number as usize].keys.get_mut(name) else {
            return;
        };
        if key.busy == Some(at) {
            key.busy = None;
        }
        if over == Over::Failed {
            // It has changed nothing, so nothing will be told.
            key.allowed += 1;
        }
        let (waits, round) = (&self.waits, key.round);
        let wait = waits.get(at);
        // An attempt of an earlier round may be older than what began this one.
        let is_of_round = |wait: &&Wait| {
            let waiter = key.waiters.get(&wait.order);
            waiter.is_some_and(|waiter| waiter.seen == round)
        };
        let Some(wait) = wait.filter(|_| over == Over::Nothing).filter(is_of_round) else {
            return;
        };
        for waiter in key.waiters.values_mut() {
            let other = waits.get(waiter.wait);
            if other.is_some_and(|other| wait.call.is_like(&other.call)) {
                waiter.seen = round;
            }
        }
    }

    /// Has a key tried again a little later.
    pub(super) fn try_later(&mut self, place: Place, name: &[u8]) {
        let Some(number) = self.watch_of(place) else {
            return;
        };
        let later_at = self.now_ms + RETRY_MS;
        let watch = &mut self.watches[number as usize];
        if let Some((name, _)) = watch.keys.get_key_value(name) {
            if watch.later.is_empty() {
                watch.later_at = later_at;
            }
            if !watch.later.contains(name) {
                watch.later.push(Arc::clone(name));
            }
            self.idle = false;
        }
    }

    /// Makes the attempts that a key has a reason for.
    pub(super) fn pump(&mut self, place: Place, name: &[u8]) {
        loop {
            let Some(number) = self.watch_of(place) else {
                return;
            };
            let watch = &mut self.watches[number as usize];
            let Some(key) = watch.keys.get_mut(name).filter(|key| key.busy.is_none()) else {
                return;
            };
            let (Spot { pool, shard }, _) = place;
            if self.table.pools[pool as usize].shards[shard as usize]
                .lead
                .is_none()
            {
                return;
            }
            let (waits, round, holds, allowed) = (&self.waits, key.round, key.holds, key.allowed);
            let may_try = |waiter: &Waiter| {
                let wait = waits.get(waiter.wait);
                waiter.seen != round
                    && holds.is_none_or(|holds| holds == waiter.wants)
                    && (allowed > 0 || waiter.wants == Holds::Stream)
                    && wait.is_some_and(|wait| wait.stage == Stage::Waiting)
            };
            let Some(waiter) = key.waiters.values_mut().find(|waiter| may_try(waiter)) else {
                return;
            };
            waiter.seen = round;
            let (at, position) = (waiter.wait, waiter.key);
            if waiter.wants != Holds::Stream {
                key.allowed -= 1;
            }
            if !waiter.is_read {
                key.busy = Some(at);
            }
            self.try_again(at, position);
        }
    }

    /// The same for all keys of a wait.
    pub(super) fn pump_wait(&mut self, at: Handle) {
        let count = self.waits.get(at).map_or(0, |wait| wait.spots.len());
        for key in 0..count {
            let Some(wait) = self.waits.get(at) else {
                return;
            };
            if wait.stage != Stage::Waiting {
                return;
            }
            let place = (wait.spots[key], wait.lane);
            let name = wait.call.keys[key].clone();
            self.pump(place, &name);
        }
    }

    // --- the connection --------------------------------------------------------------------------

    /// Asks for the types of keys that are to be armed, or for the connection first.
    fn arm(&mut self, number: u32) {
        let index = self.watches[number as usize].conn;
        if index == NO_CONN || self.conns[index as usize].state != ConnState::Ready {
            self.open_watch(number);
            return;
        }
        loop {
            let watch = &mut self.watches[number as usize];
            if watch.asked.len() >= ASKED_LIMIT {
                return;
            }
            let Some(name) = watch.to_arm.pop_front() else {
                return;
            };
            let Some(key) = watch.keys.get_mut(&name) else {
                continue;
            };
            if key.armed != Armed::Queued {
                continue;
            }
            key.armed = Armed::Asked;
            self.ask_leader(number, &[b"TYPE", &name], Asked::Type(Arc::clone(&name)));
        }
    }

    fn ask_leader(&mut self, number: u32, words: &[&[u8]], about: Asked) {
        let watch = &mut self.watches[number as usize];
        watch.asked.push_back(about);
        let index = watch.conn;
        let generation = self.conns[index as usize].generation;
        let bytes = request(words);
        let to = ReplyTo::Armed {
            watch: number,
            generation,
        };
        let pending = self.pending(to, ReplyKind::Line, true, 0);
        self.enqueue(index, &bytes, pending);
    }

    /// Connects to the leader, unless that is under way or too early.
    fn open_watch(&mut self, number: u32) {
        let watch = &mut self.watches[number as usize];
        let (Spot { pool, shard }, lane) = watch.place;
        self.idle = false;
        let lead = self.table.pools[pool as usize].shards[shard as usize].lead;
        let Some(lead) = lead else { return };
        if watch.conn == NO_CONN {
            watch.conn = self.conns.len() as u32;
            let mut conn = Conn::new(pool, shard, lead, lane, false);
            conn.watch = number;
            self.conns.push(conn);
        }
        let index = watch.conn;
        let conn = &mut self.conns[index as usize];
        if conn.state == ConnState::Closed && conn.retry_at <= self.now_ms {
            conn.backend = lead;
            self.connect(index);
        }
    }

    /// The connection carries requests.
    pub(super) fn watch_opened(&mut self, number: u32) {
        self.ask_leader(number, &[b"CLIENT", b"TRACKING", b"ON"], Asked::Nothing);
        self.ask_swaps(number);
        let watch = &mut self.watches[number as usize];
        watch.to_arm.clear();
        for (name, key) in &mut watch.keys {
            key.armed = Armed::Queued;
            watch.to_arm.push_back(Arc::clone(name));
        }
        self.arm(number);
    }

    /// Has the next SWAPDB told, by the key that it writes.
    fn ask_swaps(&mut self, number: u32) {
        self.ask_leader(number, &[b"TYPE", SWAPPED], Asked::Nothing);
    }

    /// It does so no more, and what changes now is not told.
    pub(super) fn watch_lost(&mut self, number: u32) {
        let watch = &mut self.watches[number as usize];
        watch.asked.clear();
        watch.to_arm.clear();
        watch.blind_at = self.now_ms + BLIND_MS;
        for key in watch.keys.values_mut() {
            (key.armed, key.holds) = (Armed::No, None);
        }
        self.idle = false;
    }

    /// The answer to what was asked first.
    pub(super) fn armed(&mut self, number: u32, generation: u32, reply: &[u8]) {
        let watch = &mut self.watches[number as usize];
        let (place, index) = (watch.place, watch.conn);
        if self.conns[index as usize].generation != generation {
            return;
        }
        let asked = watch.asked.pop_front();
        if let Some(Asked::Group(name, group)) = &asked {
            // If the stream is gone as well, TYPE is on its way to tell.
            let key = watch.keys.get(name);
            let is_there = key.is_some_and(|key| key.holds == Some(Holds::Stream));
            if is_there && reply.starts_with(b"-NOGROUP") {
                let is_it = |wait: &Wait| wait.call.group() == Some(group);
                self.end_waits(number, name, Wire::GroupGone, is_it);
            } else if is_there && resp::aggregate(reply).is_some_and(|(count, _)| count > 0) {
                // An entry that somebody may claim, which is no change of the key.
                if let Some(key) = watch.keys.get_mut(name) {
                    key.round = key.round.wrapping_add(1);
                }
                self.pump(place, name);
            }
        } else if resp::is_error(reply) {
            self.retire_conn(index);
            self.conns[index as usize].retry_at = self.now_ms + BLIND_MS;
            return;
        }
        if let Some(Asked::Type(name)) = asked {
            self.told_type(number, place, &name, Holds::read(reply));
        }
        self.arm(number);
    }

    fn told_type(&mut self, number: u32, place: Place, name: &Arc<[u8]>, holds: Holds) {
        let Some(key) = self.watches[number as usize].keys.get_mut(name) else {
            return;
        };
        if key.armed == Armed::Asked {
            key.armed = Armed::Yes;
        }
        let is_same = key.burst > 0 && holds != Holds::Other;
        key.burst = match is_same {
            true => (key.burst * 2).min(BURST_LIMIT),
            false => u32::from(holds != Holds::Other),
        };
        self.types_told += 1;
        (key.holds, key.told, key.allowed) = (Some(holds), self.types_told, key.burst);
        if holds != Holds::Other {
            key.round = key.round.wrapping_add(1);
        }
        if holds != Holds::Stream {
            // It was there when they began to wait.
            let is_group = |wait: &Wait| wait.call.kind == Kind::Group;
            self.end_waits(number, name, Wire::StreamGone, is_group);
        }
        self.pump(place, name);
    }

    /// Ends some of the waits for a key with an error.
    fn end_waits(&mut self, number: u32, name: &[u8], wire: Wire, is_it: impl Fn(&Wait) -> bool) {
        let Some(key) = self.watches[number as usize].keys.get(name) else {
            return;
        };
        let waits = &self.waits;
        let waiters = key.waiters.values().map(|waiter| waiter.wait);
        let ended: Vec<_> = waiters
            .filter(|wait| waits.get(*wait).is_some_and(&is_it))
            .collect();
        for at in ended {
            self.end_wait(at, Verdict::Error(wire));
        }
    }

    /// Asks whether the groups that are waited for are still there, and hold what has become old enough to be
    /// claimed.
    fn ask_groups(&mut self, number: u32) {
        let watch = &self.watches[number as usize];
        let mut groups = HashSet::new();
        for (name, key) in &watch.keys {
            for waiter in key
                .waiters
                .values()
                .filter(|waiter| waiter.wants == Holds::Stream)
            {
                let wait = self.waits.get(waiter.wait);
                let call = wait.map(|wait| &wait.call);
                if let Some((call, group)) = call.and_then(|call| Some((call, call.group()?))) {
                    groups.insert((Arc::clone(name), group.clone(), call.claims().cloned()));
                }
            }
        }
        for (name, group, claims) in groups.into_iter().take(ASKED_LIMIT) {
            let mut words: Vec<&[u8]> = vec![b"XPENDING", &name, &group];
            if let Some(idle) = &claims {
                words.extend([&b"IDLE"[..], idle]);
            }
            let count: &[u8] = if claims.is_some() { b"1" } else { b"0" };
            words.extend([&b"-"[..], b"+", count]);
            self.ask_leader(
                number,
                &words,
                Asked::Group(Arc::clone(&name), group.clone()),
            );
        }
    }

    /// A push on the connection: keys have changed.
    pub(super) fn invalidated(&mut self, number: u32, push: &[u8]) {
        let Some((_, at)) = resp::aggregate(push) else {
            return;
        };
        let (what, rest) = push[at..].split_at(resp::value_len(&push[at..]));
        if resp::string(what) != Some(b"invalidate") {
            return;
        }
        match resp::aggregate(rest) {
            Some((count, at)) => {
                let mut rest = &rest[at..];
                for _ in 0..count {
                    let (name, tail) = rest.split_at(resp::value_len(rest));
                    match resp::string(name) {
                        Some(SWAPPED) => self.disarm_all(number),
                        Some(name) => self.disarm(number, name),
                        None => {}
                    }
                    rest = tail;
                }
            }
            // The server was emptied.
            None => self.disarm_all(number),
        }
        self.arm(number);
    }

    fn disarm_all(&mut self, number: u32) {
        self.ask_swaps(number);
        let names: Vec<_> = self.watches[number as usize].keys.keys().cloned().collect();
        names.iter().for_each(|name| self.disarm(number, name));
    }

    fn disarm(&mut self, number: u32, name: &[u8]) {
        let watch = &mut self.watches[number as usize];
        let Some((name, key)) = watch.keys.get_key_value(name) else {
            return;
        };
        let name = Arc::clone(name);
        if key.armed != Armed::Yes {
            return; // what is on its way tells of this change
        }
        if key.waiters.is_empty() {
            watch.keys.remove(&name);
        } else if let Some(key) = watch.keys.get_mut(&name) {
            (key.armed, key.holds) = (Armed::Queued, None);
            watch.to_arm.push_back(name);
        }
    }

    // --- time and tables -------------------------------------------------------------------------

    /// True if something is to be done at a time.
    pub(super) fn is_watching_blind(&self) -> bool {
        let is_blind = |watch: &Watch| !watch.keys.is_empty() && !self.is_listening(watch);
        self.watches
            .iter()
            .any(|watch| is_blind(watch) || !watch.later.is_empty())
    }

    fn is_listening(&self, watch: &Watch) -> bool {
        watch.conn != NO_CONN && self.conns[watch.conn as usize].state == ConnState::Ready
    }

    /// Each tick: connections that are missing, attempts that could not be made.
    pub(super) fn tend_watches(&mut self) {
        let now = self.now_ms;
        for number in 0..self.watches.len() as u32 {
            let watch = &self.watches[number as usize];
            if watch.keys.is_empty() {
                continue;
            }
            let is_open = self.is_listening(watch);
            let watch = &mut self.watches[number as usize];
            let mut names = Vec::new();
            if !watch.later.is_empty() && now >= watch.later_at {
                names = std::mem::take(&mut watch.later);
            }
            if !is_open && now >= watch.blind_at {
                watch.blind_at = now + BLIND_MS;
                names = watch.keys.keys().cloned().collect();
            }
            let place = watch.place;
            for name in names {
                if let Some(key) = self.watches[number as usize].keys.get_mut(&name) {
                    key.round = key.round.wrapping_add(1);
                    key.allowed = key.allowed.max(1);
                }
                self.pump(place, &name);
            }
            if !is_open {
                self.open_watch(number);
            }
        }
    }

    /// Each second: what nobody waits for any more, and a sign of life of those connections that are left. A
    /// connection that was cut without a word would tell of no change.
    pub(super) fn sweep_watches(&mut self) {
        let now = self.now_ms;
        for number in 0..self.watches.len() as u32 {
            let is_open = self.is_listening(&self.watches[number as usize]);
            let watch = &mut self.watches[number as usize];
            let is_kept = |key: &Key| !key.waiters.is_empty() || now < key.left_at + KEPT_MS;
            watch.keys.retain(|_, key| is_kept(key));
            if watch.keys.is_empty() {
                watch.keys.shrink_to_fit();
                let index = watch.conn;
                if index != NO_CONN && self.conns[index as usize].state != ConnState::Closed {
                    self.retire_conn(index);
                }
            } else if is_open && watch.asked.is_empty() {
                self.ask_leader(number, &[b"PING"], Asked::Nothing);
                self.ask_groups(number);
            }
        }
    }

    /// A new table: the leader may be another one.
    pub(super) fn adopt_watches(&mut self, pool: u16, shard: u16, has_moved: bool) {
        for number in 0..self.watches.len() as u32 {
            let watch = &self.watches[number as usize];
            if watch.place.0 != (Spot { pool, shard }) || watch.conn == NO_CONN {
                continue;
            }
            let (index, has_keys) = (watch.conn, !watch.keys.is_empty());
            let conn = &self.conns[index as usize];
            let lead = self.shard_table(pool, shard).lead;
            let is_open = conn.state != ConnState::Closed;
            let is_other = has_moved || lead != Some(conn.backend);
            if is_open && (is_other || conn.state == ConnState::Held) {
                self.retire_conn(index);
            }
            self.conns[index as usize].retry_at = 0;
            if has_keys {
                self.open_watch(number);
            }
        }
    }
}
