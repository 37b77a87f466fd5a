//! Writes that a leader decides (INCR, cas, scripts), while somebody else goes on without that leader.
//!
//! One key, several proxies, all backends in sync at first. A plain write (SET) goes to all in-sync members of its
//! proxy's view at once; a decided one to the leader, and what the leader then holds to the others. What a backend
//! holds is the set of writes that are in it: those a SET begins after are, as it replaces what they left.
//!
//! A write is undone if a state lacks it which was made by writes that began after it was acknowledged. Which of two
//! that overlap comes last is not promised between proxies, so a state may lack what overlaps with something in it.
//! Time is a tick that all clocks share. A message is carried out at any time after it was sent, or never.

use crate::decide_views::{Commit, View};
use crate::search::{Model, Step};

pub const PROXIES: usize = 3;
pub const BACKENDS: usize = 3;
const WRITES: usize = 4;
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
    /// Proxies that are killed and start again, without knowing what they followed.
    pub restarts: u8,
    /// Proxies that look at the clock, and begin a write any time later, by what they saw.
    pub stands: u8,
    /// Backends that are brought back and admitted.
    pub returns: u8,
}

/// Whose records a proxy must have been shown lately to begin a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    Nobody,
    Leader,
    Everybody,
}

/// Which proxies wait that have just started, and know no view before the one they find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Starting {
    None,
    /// Those that find somebody not in sync who does not refuse connections.
    SomebodyOut,
}

#[derive(Clone, Copy)]
pub struct DecideRules {
    pub lease: Lease,
    /// Plain writes need it too.
    pub plain_leased: bool,
    /// A lease counts from when the question was sent, not from its answer.
    pub from_question: bool,
    /// Who adopts a view in which its leader is not in sync waits; else only who recorded it.
    pub adopters_wait: bool,
    pub starting: Starting,
    /// Nobody waits for a leader that refuses connections.
    pub excepts_refusing: bool,
    /// Who follows a view that is not the next one after that it followed waits, whoever leads.
    pub skipping_waits: bool,
    /// A wait goes on when yet another view is followed.
    pub keeps_waiting: bool,
    /// What was under way is not acknowledged before the wait is over.
    pub withholds: bool,
    /// No write begins in the wait.
    pub holds_writes: bool,
    /// Who stood still asks all members again, and gives them nothing before they have answered.
    pub doubts: bool,
}

#[derive(Clone, Copy)]
pub struct Deciding {
    pub proxies: usize,
    pub backends: usize,
    pub writes: usize,
    /// Writes may overlap in time.
    pub overlapping: bool,
    pub faults: Faults,
    /// Who leaves a view takes its record first: never, or always; both may happen if it is not said.
    pub told: Option<bool>,
    /// Ticks that a lease lasts, and that who follows another leader waits.
    pub lease: u8,
    pub parting: u8,
    /// Ticks by which the clock that a proxy looks at may be late.
    pub lag: u8,
    pub rules: DecideRules,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Stage {
    #[default]
    NotBegun,
    Sent,
    Acknowledged,
    /// It never will be; what was sent may be carried out yet.
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Write {
    stage: Stage,
    by: u8,
    is_decided: bool,
    /// The writes that were acknowledged when it began.
    after: u8,
    /// What it leaves; 0 as long as nobody has decided.
    result: u8,
    /// Backends it was sent to, and those that have carried it out.
    sent: u8,
    done: u8,
    /// Decided, and not given to the others before they have shown their records.
    is_doubted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Proxy {
    /// Of epoch 0 if it has just started.
    pub view: View,
    pub commit: Commit,
    /// Ticks since the question to which a backend has shown the record of `view`.
    pub shown: [u8; BACKENDS],
    /// Backends that have read their record for this proxy, whose answers are on the way.
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
    pub proxies: [Proxy; PROXIES],
    writes: [Write; WRITES],
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
fn called(number: usize, write: &Write) -> String {
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
            Stage::Failed => write.sent & !self.dead != 0,
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

    /// What an acknowledged write misses in the newest view there is.
    fn fault(&self) -> Option<String> {
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
                        NAMES[at]
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

impl Deciding {
    /// Age from which on nothing is known to be shown.
    pub fn never(&self) -> u8 {
        self.lease + self.lag
    }

    pub fn step(&self, steps: &mut Vec<Step<World>>, state: World, label: String) {
        // Which of two rivals wins is what the other model is about.
        if state.has_rivals() {
            return;
        }
        let fault = state.fault();
        steps.push(Step {
            state,
            label,
            fault,
        });
    }

    fn is_leased(&self, state: &World, proxy: usize, is_decided: bool) -> bool {
        let Proxy { view, shown, .. } = state.proxies[proxy];
        let is_shown = |at: usize| shown[at] < self.never();
        match self.rules.lease {
            Lease::Nobody => true,
            _ if !is_decided && !self.rules.plain_leased => true,
            Lease::Leader => is_shown(usize::from(view.leader)),
            Lease::Everybody => (0..BACKENDS).all(|at| !has(view.members, at) || is_shown(at)),
        }
    }

    fn begin(&self, state: &World, proxy: usize, steps: &mut Vec<Step<World>>) {
        let at = state.proxies[proxy];
        let Some(number) = state.writes[..self.writes]
            .iter()
            .position(|each| each.stage == Stage::NotBegun)
        else {
            return;
        };
        // Writes of one proxy to one key follow each other.
        let is_busy = state
            .writes
            .iter()
            .any(|each| usize::from(each.by) == proxy && each.stage == Stage::Sent);
        let is_waiting = at.wait > 0 && self.rules.holds_writes;
        let is_held = at.view.epoch == 0 || at.commit.view.epoch > 0 || is_waiting || is_busy;
        if is_held || at.view.members & at.cut != 0 || !self.overlapping && !state.is_quiet() {
            return;
        }
        let after = (0..WRITES)
            .filter(|other| state.writes[*other].stage == Stage::Acknowledged)
            .fold(0, |set, other| set | bit(other));
        for is_decided in [false, true] {
            let is_leased = self.is_leased(state, proxy, is_decided);
            if !is_leased && state.left.stands == 0 {
                continue;
            }
            let mut next = *state;
            let mut write = Write {
                stage: Stage::Sent,
                by: proxy as u8,
                is_decided,
                after,
                result: after | bit(number),
                sent: at.view.members,
                ..Write::default()
            };
            if is_decided {
                (write.result, write.sent) = (0, bit(at.view.leader.into()));
            }
            if !is_leased {
                next.left.stands -= 1;
                write.is_doubted = is_decided && self.rules.doubts;
                next.proxies[proxy].shown = [self.never(); BACKENDS];
            }
            next.writes[number] = write;
            let how = if is_leased {
                ""
            } else {
                ", by the clock as it was before it stood still"
            };
            let label = format!(
                "p{} begins {}{how}, sent to {}",
                proxy + 1,
                called(number, &write),
                names(write.sent)
            );
            self.step(steps, next, label);
        }
    }

    /// A backend carries out what it was sent.
    fn carry_out(&self, state: &World, number: usize, at: usize, steps: &mut Vec<Step<World>>) {
        let mut next = *state;
        let write = &mut next.writes[number];
        let members = state.proxies[usize::from(write.by)].view.members;
        let decides = write.result == 0;
        write.sent &= !bit(at);
        write.done |= bit(at);
        if decides {
            write.result = state.held[at] | bit(number);
            if write.stage == Stage::Sent && !write.is_doubted {
                write.sent = members & !bit(at);
            }
        }
        next.held[at] = write.result;
        let label = if decides {
            format!("{} decides {}", NAMES[at], called(number, write))
        } else if write.is_decided {
            format!(
                "{} takes the result of {}",
                NAMES[at],
                called(number, write)
            )
        } else {
            format!("{} carries out {}", NAMES[at], called(number, write))
        };
        self.step(steps, next, label);
    }

    fn write_steps(&self, state: &World, number: usize, steps: &mut Vec<Step<World>>) {
        let write = state.writes[number];
        for at in (0..self.backends).filter(|at| has(write.sent & !state.dead, *at)) {
            self.carry_out(state, number, at, steps);
        }
        if write.stage != Stage::Sent || write.result == 0 {
            return;
        }
        let proxy = state.proxies[usize::from(write.by)];
        let mut next = *state;
        if write.is_doubted {
            let is_shown = |at| !has(proxy.view.members, at) || proxy.shown[at] < self.never();
            if (0..BACKENDS).all(is_shown) {
                next.writes[number].is_doubted = false;
                next.writes[number].sent = proxy.view.members & !write.done;
                let label = format!(
                    "p{} gives the result of {} to the others",
                    write.by + 1,
                    called(number, &write)
                );
                self.step(steps, next, label);
            }
        } else if proxy.view.members & !write.done == 0
            && (proxy.wait == 0 || !self.rules.withholds)
        {
            next.writes[number].stage = Stage::Acknowledged;
            let label = format!("p{} acknowledges {}", write.by + 1, called(number, &write));
            self.step(steps, next, label);
        }
    }

    fn tick(&self, state: &World, steps: &mut Vec<Step<World>>) {
        let mut next = *state;
        for proxy in &mut next.proxies {
            proxy.shown = proxy.shown.map(|age| self.never().min(age + 1));
            proxy.wait = proxy.wait.saturating_sub(1);
        }
        if next != *state {
            self.step(steps, next, "a tick passes".to_string());
        }
    }
}

impl Model for Deciding {
    type State = World;

    fn initial(&self) -> World {
        let view = View {
            epoch: 1,
            members: bit(self.backends) - 1,
            leader: 0,
        };
        World {
            records: [view; BACKENDS],
            held: [0; BACKENDS],
            dead: 0,
            proxies: [Proxy {
                view,
                shown: [self.never(); BACKENDS],
                ..Proxy::default()
            }; PROXIES],
            writes: [Write::default(); WRITES],
            left: self.faults,
        }
    }

    fn steps(&self, state: &World, _labelled: bool) -> Vec<Step<World>> {
        let mut steps = Vec::new();
        for proxy in 0..self.proxies {
            self.begin(state, proxy, &mut steps);
            self.view_steps(state, proxy, &mut steps);
        }
        for number in 0..self.writes {
            self.write_steps(state, number, &mut steps);
        }
        self.tick(state, &mut steps);
        self.world_steps(state, &mut steps);
        steps
    }

    /// Forgets what no write depends on any more.
    fn canonical(&self, mut state: World) -> (World, bool) {
        let is_over = state.writes[..self.writes]
            .iter()
            .all(|each| each.stage != Stage::NotBegun && !each.is_doubted);
        for proxy in &mut state.proxies {
            for at in 0..BACKENDS {
                if is_over || !has(proxy.view.members, at) {
                    proxy.shown[at] = self.never();
                    proxy.answering &= !bit(at);
                }
            }
        }
        (state, false)
    }

    fn swapped(&self, label: &str) -> String {
        label.to_string()
    }
}
