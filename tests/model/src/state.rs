//! The values of the model: backends, proxies, views, and what is remembered to judge them.
//!
//! All are small and copied, and hold no rules beyond what follows from themselves.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::protocol::Rules;

/// As many backends and proxies as a model may have.
pub const BACKENDS: usize = 3;
pub const PROXIES: usize = 2;
pub const EPOCHS: usize = 8;
pub const NOBODY: u8 = 9;

/// `proxy.control.model.View`. Epoch 0: no record.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    pub epoch: u8,
    pub lead: u8,
    pub count: u8,
    /// In sync, in order of succession: backend and the life of it that is meant.
    pub members: [(u8, u8); BACKENDS],
    /// Backend that is joining, plus 1, and the life of it that is meant.
    pub joins: u8,
    pub joins_life: u8,
    /// In sync in the view it came from, in order of succession, each plus 1; with `Rules::succession`.
    pub parent: [u8; BACKENDS],
}

impl View {
    pub fn members(&self) -> &[(u8, u8)] {
        &self.members[..self.count as usize]
    }

    pub fn mask(&self) -> u8 {
        self.members()
            .iter()
            .fold(0, |mask, (backend, _)| mask | 1 << backend)
    }

    pub fn joining(&self) -> u8 {
        if self.joins == 0 {
            NOBODY
        } else {
            self.joins - 1
        }
    }

    pub fn lists(&self, backend: u8, life: u8) -> bool {
        self.members().contains(&(backend, life))
    }

    pub fn with_joining(mut self, backend: u8, life: u8) -> View {
        (self.joins, self.joins_life) = (backend + 1, life);
        self
    }

    pub fn with(mut self, backend: u8, life: u8) -> View {
        self.members[self.count as usize] = (backend, life);
        self.count += 1;
        self
    }

    /// The next epoch with those of the members that are in `mask`.
    pub fn next(&self, mask: u8, lead: u8, rules: &Rules) -> View {
        let mut start = View {
            epoch: self.epoch + 1,
            lead,
            ..View::default()
        };
        if rules.succession {
            for (at, (backend, _)) in self.members().iter().enumerate() {
                start.parent[at] = backend + 1;
            }
        }
        let kept = self
            .members()
            .iter()
            .filter(|(backend, _)| mask & 1 << backend != 0);
        kept.fold(start, |view, (backend, life)| view.with(*backend, *life))
    }

    /// Where in the parent's order the first stands that is still a member: it decided.
    fn decider(&self) -> usize {
        let is_member = |each: &u8| *each > 0 && self.mask() & 1 << (each - 1) != 0;
        self.parent.iter().position(is_member).unwrap_or(BACKENDS)
    }

    /// `proxy.control.view.beats`: the higher epoch; of one parent, the view decided by who stands last in it;
    /// then the larger set; then any rule all agree on.
    pub fn beats(&self, other: &View) -> bool {
        use std::cmp::Reverse;
        let rank = |view: &View| {
            (
                view.epoch,
                view.parent.iter().filter(|each| **each > 0).count(),
                Reverse(view.parent),
                view.decider(),
                view.count,
                Reverse((view.members, view.joins)),
            )
        };
        rank(self) > rank(other)
    }
}

/// As one word: views are most of a state, and each of their numbers is less than 16.
impl Hash for View {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut word =
            u64::from(self.epoch) << 8 | u64::from(self.lead) << 4 | u64::from(self.count);
        for (backend, life) in self.members {
            word = word << 8 | u64::from(backend) << 4 | u64::from(life);
        }
        word = word << 8 | u64::from(self.joins) << 4 | u64::from(self.joins_life);
        for each in self.parent {
            word = word << 4 | u64::from(each);
        }
        hasher.write_u64(word);
    }
}

impl fmt::Display for View {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{{", self.epoch)?;
        for (backend, life) in self.members() {
            write!(out, "{}{}", name(*backend), "'".repeat(*life as usize))?;
        }
        match self.joining() {
            NOBODY => write!(out, "}}"),
            joining => write!(out, " +{}}}", name(joining)),
        }
    }
}

/// A real server. Each proxy writes a key of its own: `data` holds the value each of them has here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Backend {
    pub up: bool,
    pub life: u8,
    pub record: View,
    pub data: [u8; PROXIES],
    /// REPLICAOF: that backend plus 1.
    pub follows: u8,
    /// CLIENT PAUSE WRITE.
    pub paused: bool,
    /// It answers, and refuses whatever would change it (MISCONF, READONLY).
    pub mute: bool,
}

/// A write under way (`Op` in the engine); value 0: none. Masks by backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Op {
    pub value: u8,
    /// Of the view it was sent under.
    pub epoch: u8,
    pub targets: u8,
    pub replied: u8,
    pub failed: u8,
}

impl Op {
    pub fn outstanding(&self) -> u8 {
        self.targets & !(self.replied | self.failed)
    }
}

/// A write that timed out and may yet be carried out, on the backends in `mask`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Late {
    pub mask: u8,
    pub value: u8,
}

/// A record whose writer gave up waiting; it is written all the same if what stood there still does. Epoch 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LateRecord {
    pub view: View,
    pub backend: u8,
    pub over: View,
}

/// A view being recorded (`proxy.tasks.views.commit`); epoch 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Commit {
    pub view: View,
    /// Those asked one after the other: arbiters, then the first member; `at` is the next of them.
    pub order: [u8; BACKENDS],
    pub at: u8,
    pub arbiters: u8,
    /// Those asked after that, in any order.
    pub left: u8,
    pub missed: u8,
    /// Somebody took it, or may have.
    pub placed: bool,
    pub rival: View,
    pub rival_on: u8,
    /// It admits a backend: fences that go with the record are set then.
    pub admits: bool,
    /// How many took it, where votes are counted, and how many of them had an older one until then.
    pub votes: u8,
    pub changed: u8,
    /// Those that were known to hold no record when it was proposed.
    pub blank: u8,
    /// It leaves out an epoch, and takes no part where anybody has that one.
    pub skips: bool,
}

impl Commit {
    pub fn is_done(&self) -> bool {
        self.at > self.arbiters && self.left == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stage {
    #[default]
    Idle,
    /// The returned backend follows the leader.
    Following,
    /// The joining view is proposed or stands.
    Joining,
    /// Nobody else can write any more, as the procedure has it.
    Fenced,
    Copying,
    /// It is equal and no longer follows.
    Equal,
}

/// Bringing a backend back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Job {
    pub stage: Stage,
    pub who: u8,
    pub life: u8,
    /// Keys copied, by the proxy that writes them.
    pub copied: u8,
}

pub const UNKNOWN: i8 = -2;
pub const SILENT: i8 = -1;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Proxy {
    pub up: bool,
    pub view: View,
    /// The table lists the view's members; else nobody.
    pub serves: bool,
    /// By backend: the life seen last, or `SILENT`, or `UNKNOWN`.
    pub seen: [i8; BACKENDS],
    pub suspects: u8,
    /// Backends to which a connection was verified that is still good.
    pub conns: u8,
    pub op: Op,
    pub late: Late,
    pub late_record: LateRecord,
    pub commit: Commit,
    pub job: Job,
    /// Epoch of a view of ours that lost and may still stand somewhere, 0 if none.
    pub tried: u8,
    /// It confirmed the record lately.
    pub leased: bool,
    /// With `views: majority`: the record that each backend showed last.
    pub shown: [View; BACKENDS],
    /// A view did not get its votes, and nothing is proposed before somebody is asked again.
    pub is_short: bool,
    /// A newer view is known that could not be decided, so nobody is read under ours.
    pub is_undecided: bool,
    /// Ghost: it has voted for a newer view that it was shown, in vain.
    pub has_failed: bool,
    /// The life of each that was last seen without a record, plus 1; 0 otherwise.
    pub blank_life: [u8; BACKENDS],
    /// Those without a record that may be given one.
    pub readmitted: u8,
}

/// How often things may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    pub crashes: u8,
    pub restarts: u8,
    pub cuts: u8,
    pub stalls: u8,
    pub mutes: u8,
    pub losses: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub backends: [Backend; BACKENDS],
    pub proxies: [Proxy; PROXIES],
    /// Links that are cut, by proxy × `BACKENDS` + backend.
    pub cut: u8,
    pub budget: Budget,
    /// Ghosts, which no proxy knows: the last acknowledged and the last sent value of each proxy.
    pub acked: [u8; PROXIES],
    pub written: [u8; PROXIES],
    /// The newest view that a proxy ever followed.
    pub followed: View,
    /// By epoch: the members of the view whose commit was won, 0 if none was.
    pub won: [u8; EPOCHS],
}

impl State {
    /// The view that wins against all that stand on a backend or are followed by a proxy.
    pub fn newest(&self) -> View {
        let all = 0..BACKENDS as u8;
        let recorded = |backend: u8| self.backends[backend as usize].record;
        let is_member = |backend: &u8| recorded(*backend).mask() & 1 << backend != 0;
        let followed = self.proxies.iter().map(|proxy| proxy.view);
        let decided = all.clone().filter(is_member).map(recorded);
        let best = |one: View, other: View| if other.beats(&one) { other } else { one };
        let newest = decided.chain(followed).fold(View::default(), best);
        // Told to one that leaves, and perhaps to nobody else: counts only if nothing else is as new.
        let is_newer = |view: &View| view.epoch > newest.epoch;
        all.map(recorded).filter(is_newer).fold(newest, best)
    }

    /// The newest view that a proxy ever followed or that has its votes.
    pub fn elected(&self, needed: u32) -> View {
        let records = self.backends.iter().map(|backend| backend.record);
        let has_votes =
            |view: &View| records.clone().filter(|other| other == view).count() as u32 >= needed;
        let best = |one: View, other: View| if other.beats(&one) { other } else { one };
        records.clone().filter(has_votes).fold(self.followed, best)
    }

    pub fn is_cut(&self, proxy: usize, backend: u8) -> bool {
        self.cut & 1 << (proxy * BACKENDS + backend as usize) != 0
    }

    pub fn reaches(&self, proxy: usize, backend: u8) -> bool {
        self.backends[backend as usize].up && !self.is_cut(proxy, backend)
    }

    /// An acknowledged write is missing there.
    pub fn lacks(&self, backend: u8) -> bool {
        let data = self.backends[backend as usize].data;
        data.iter()
            .zip(&self.acked)
            .any(|(value, acked)| value < acked)
    }
}

pub fn name(backend: u8) -> char {
    (b'a' + backend) as char
}

pub fn names(mask: u8) -> String {
    (0..BACKENDS as u8)
        .filter(|backend| mask & 1 << backend != 0)
        .map(name)
        .collect()
}
