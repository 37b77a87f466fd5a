//! The state of `decide`: backends, proxies and writes, and what it is for a write to be undone.
//!
//! What a backend holds is the set of writes that are in it: those a SET begins after are, as it replaces what they
//! left. A write is undone if a state lacks it that was made by writes which began after it was acknowledged. Which of
//! two that overlap comes last is not promised between proxies, so a state may lack what overlaps with something in it.

use crate::decide_views::{Commit, View};

pub const PROXIES: usize = 3;
pub const BACKENDS: usize = 3;
pub const WRITES: usize = 4;
const NAMES: [char; BACKENDS] = ['A', 'B', 'C'];

/// What the world may do, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// Links between a proxy and a backend that are cut; they may heal.
    pub cuts: u8,
    /// The same, but a proxy that connects is refused, as by a firewall: it looks as if the backend were dead.
    pub refusals: u8,
    /// A proxy hears nothing from a backend for too long, though it could (it hung, and goes on).
    pub silences: u8,
    pub kills: u8,
    /// Backends that were killed and start again, with what they held.
    pub revivals: u8,
    /// Proxies that are killed and start again, without knowing what they followed.
    pub restarts: u8,
    /// Proxies that look at the clock, and begin a write any time later, by what they saw.
    pub stands: u8,
    /// Backends that are brought back and admitted.
    pub returns: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stage {
    #[default]
    NotBegun,
    Sent,
    Acknowledged,
    /// It never will be; what was sent may be carried out yet.
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Write {
    pub stage: Stage,
    pub by: u8,
    pub is_decided: bool,
    /// The writes that were acknowledged when it began.
    pub after: u8,
    /// What it leaves; 0 as long as nobody has decided.
    pub result: u8,
    /// Backends it was sent to, and those that have carried it out.
    pub sent: u8,
    pub done: u8,
    /// Decided, and not given to the others before they have shown their records.
    pub is_doubted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Proxy {
    /// Of epoch 0 if it has just started.
    pub view: View,
    pub commit: Commit,
    /// Ticks since the question to which a backend has shown the record of `view`. Asking costs nothing here, so it
    /// is 0 as long as that could be shown.
    pub shown: [u8; BACKENDS],
    /// With `from_question` off: backends that have read that record, and whose last answer has not come yet.
    pub answering: u8,
    /// Ticks until it may acknowledge.
    pub wait: u8,
    /// Backends it does not reach, and which of them seem to refuse.
    pub cut: u8,
    pub refused: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub records: [View; BACKENDS],
    pub held: [u8; BACKENDS],
    pub dead: u8,
    /// Backends that have started again.
    pub revived: u8,
    pub proxies: [Proxy; PROXIES],
    pub writes: [Write; WRITES],
    pub left: Faults,
}

pub fn bit(at: usize) -> u8 {
    1 << at
}

pub fn has(set: u8, at: usize) -> bool {
    set & bit(at) != 0
}

/// The names of a set of backends.
pub fn names(set: u8) -> String {
    (0..BACKENDS)
        .filter(|at| has(set, *at))
        .map(|at| NAMES[at])
        .collect()
}

/// The name of a write: its number, and what it is.
pub fn called(number: usize, write: &Write) -> String {
    let verb = if write.is_decided { "INCR" } else { "SET" };
    format!("{verb} w{}", number + 1)
}

impl World {
    pub fn is_reached(&self, proxy: usize, backend: usize) -> bool {
        !has(self.dead | self.proxies[proxy].cut, backend)
    }

    /// True if that acknowledged write was undone in this state by what began after it.
    fn is_undone(&self, write: usize, state: u8) -> bool {
        let overlaps = |other: usize| {
            !has(self.writes[other].after, write) && !has(self.writes[write].after, other)
        };
        !has(state, write) && !(0..WRITES).any(|other| has(state, other) && overlaps(other))
    }

    fn is_under_way(&self, write: &Write) -> bool {
        match write.stage {
            Stage::NotBegun | Stage::Acknowledged => false,
            Stage::Sent => true,
            Stage::Failed => write.sent != 0,
        }
    }

    pub fn is_quiet(&self) -> bool {
        !self.writes.iter().any(|each| self.is_under_way(each))
    }

    /// A decided write of this proxy goes no further: the leader it was sent to has left, or the proxy itself.
    pub fn fail_writes(&mut self, proxy: usize, is_over: impl Fn(bool) -> bool) {
        for write in &mut self.writes {
            let is_undecided = write.is_decided && (write.result == 0 || write.is_doubted);
            if usize::from(write.by) == proxy && write.stage == Stage::Sent && is_over(is_undecided)
            {
                write.stage = Stage::Failed;
            }
        }
    }

    /// Nothing that was sent to this backend comes to it any more.
    pub fn lose(&mut self, backend: usize) {
        for write in &mut self.writes {
            write.sent &= !bit(backend);
        }
        for proxy in &mut self.proxies {
            proxy.answering &= !bit(backend);
        }
    }

    /// What an acknowledged write misses in the newest view there is.
    pub fn fault(&self) -> Option<String> {
        let newest = self.newest();
        for (number, write) in self.writes.iter().enumerate() {
            if write.stage != Stage::Acknowledged {
                continue;
            }
            for at in 0..BACKENDS {
                let is_member = has(newest.members & !self.dead, at);
                if is_member && self.is_undone(number, self.held[at]) {
                    return Some(format!(
                        "{} is acknowledged, and undone on {}",
                        called(number, write),
                        names(bit(at))
                    ));
                }
            }
            let missed = (0..WRITES)
                .find(|other| has(write.after, *other) && self.is_undone(*other, write.result));
            if let Some(other) = missed {
                return Some(format!(
                    "{} is acknowledged, and was decided without {}",
                    called(number, write),
                    called(other, &self.writes[other])
                ));
            }
        }
        None
    }
}
