//! A model of the view protocol as it is built: what can be configured, what breaks a promise, what the world does.
//! One step is one message; `control`, `commit`, `writes` and `resync` have the steps of the proxies.
//!
//! Left out, as nothing follows from it here: retries, reasons, back-off. What a reader should doubt first is listed
//! in README.md.

use crate::resync::Procedure;
use crate::search::{hash, Model, Step};
use crate::state::*;

/// One model to search.
#[derive(Clone, Copy, Default)]
pub struct Config {
    pub backends: usize,
    /// By each proxy.
    pub writes: u8,
    /// By all of them together, if less; 0: as many as each may.
    pub writes_in_all: u8,
    pub budget: Budget,
    /// The last backend starts outside the view, and is brought back so.
    pub procedure: Option<Procedure>,
    /// Proxies stop proposing beyond this one, so that the search ends.
    pub epochs: u8,
    /// A write that timed out may be carried out at any time later.
    pub late: bool,
    /// A record whose writer gave up may be written later.
    pub late_records: bool,
    /// `views: majority`.
    pub majority: bool,
    /// The last backend starts outside the view, and stays there.
    pub outside: bool,
    /// The second proxy has just admitted `a` beside `b`; `b` and the other proxy still know it as joining.
    pub admitted: bool,
    /// Links that are cut at the start, as in `State`.
    pub cut: u8,
    /// Backends, by proxy, on which a write has failed just now.
    pub blamed: (u8, u8),
    /// Succession runs against the order by which views of one epoch are compared.
    pub reversed: bool,
    pub rules: Rules,
}

/// Parts of the protocol that can be switched, to show what they are for.
#[derive(Clone, Copy)]
pub struct Rules {
    /// A commit is asked of the members that leave, first in the order of the old view.
    pub arbiters: bool,
    /// Also of those that stand behind the first who stays; any one that knows a rival decides.
    pub everybody: bool,
    /// Who loses after somebody took its view makes a next one, so that what was left of it counts no more; and a
    /// rival is not followed before the outcome of one's own is known.
    pub outdates: bool,
    /// That next view has those who are in both, and neither of the two is followed before.
    pub common: bool,
    /// Who takes a member for in sync that came back empty, as there is no other, asks all who are outside first.
    pub asks_all: bool,
    /// What stands only on one that it leaves out does not replace a view of the same epoch.
    pub told_apart: bool,
    /// Views of one epoch are told apart by succession in the view that they came from.
    pub succession: bool,
    /// A new connection carries nothing before it has shown the record.
    pub verify: bool,
    /// A write is acknowledged only after the view without those that failed is recorded.
    pub commit_first: bool,
    /// REPLICAOF and flushes are conditional on the record of the one that is overwritten.
    pub guarded: bool,
    /// A record names the life of the joining backend too.
    pub joining_named: bool,
    /// One resynchronisation at a time.
    pub leased: bool,
    /// A backend is admitted only from the very epoch under which it was found equal.
    pub bound: bool,
    /// With `views: majority`, a view is followed only when a majority shows it.
    pub elects: bool,
    /// A next round begins only if no view of the newest one can win any more.
    pub waits: bool,
    /// A backend takes one view of an epoch.
    pub votes_once: bool,
    /// One that has lost its record has no vote.
    pub forgets: bool,
    /// And is given none before a view was elected without it, which was proposed when that was known.
    pub readmits: bool,
    /// Nobody is read while a newer view cannot be decided.
    pub doubts: bool,
    /// Nor where too few have a record for a newer view to be known.
    pub hears: bool,
    /// Where all votes are needed, a view that gives one its vote back leaves out an epoch.
    pub skips: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            arbiters: true,
            everybody: true,
            outdates: true,
            common: true,
            asks_all: true,
            told_apart: true,
            succession: true,
            verify: true,
            commit_first: true,
            guarded: true,
            joining_named: true,
            leased: true,
            bound: true,
            elects: true,
            waits: true,
            votes_once: true,
            forgets: true,
            readmits: true,
            doubts: true,
            hears: true,
            skips: true,
        }
    }
}
/// Collects steps; what may follow a broken or a lost state is not looked at.
pub struct Steps {
    list: Vec<Step<State>>,
    labelled: bool,
    needed: u32,
}

impl Steps {
    pub fn add(&mut self, state: State, label: impl FnOnce() -> String) {
        self.judged(state, None, label);
    }

    pub fn judged(&mut self, state: State, fault: Option<String>, label: impl FnOnce() -> String) {
        let lives = |(backend, life): &(u8, u8)| state.backends[*backend as usize].life == *life;
        if fault.is_none() && !state.followed.members().iter().any(lives) {
            return; // every in-sync member of the newest view is gone: beyond P3
        }
        let fault = fault.or_else(|| broken(&state, self.needed));
        let label = if self.labelled {
            label()
        } else {
            String::new()
        };
        self.list.push(Step {
            state,
            label,
            fault,
        });
    }
}

/// The promise that does not hold in a state.
fn broken(state: &State, needed: u32) -> Option<String> {
    let newest = if needed > 0 {
        state.elected(needed)
    } else {
        state.newest()
    };
    // Until its outcome is known, it may still turn out that both sides of a partition go on.
    // And who lost after somebody took its view is about to make a newer one.
    let is_under_way = state.proxies.iter().any(|proxy| {
        let commit = proxy.commit.view;
        needed == 0 && (commit == newest || commit.epoch > newest.epoch)
    });
    for (backend, life) in newest.members() {
        let is_same = state.backends[*backend as usize].life == *life;
        if is_same && state.lacks(*backend) && !is_under_way {
            return Some(format!(
                "P3: {} is in sync in the newest view {newest} and lacks an acknowledged write",
                name(*backend)
            ));
        }
    }
    for (at, proxy) in state.proxies.iter().enumerate() {
        let is_newest = proxy.view == newest || (needed > 0 && has_looked(state, at));
        if !proxy.up || !proxy.serves || !is_newest {
            continue;
        }
        for (backend, _) in proxy.view.members() {
            let bit = 1 << backend;
            let is_read =
                proxy.conns & bit != 0 && proxy.suspects & bit == 0 && state.reaches(at, *backend);
            if is_read && state.lacks(*backend) {
                return Some(format!(
                    "P4: p{at} {} and reads stale data from {}",
                    if proxy.view == newest {
                        "follows the newest view"
                    } else {
                        "has asked all it reaches"
                    },
                    name(*backend)
                ));
            }
        }
    }
    None
}

/// A proxy knows all there is to know by asking those it reaches, and has tried to have it decided.
fn has_looked(state: &State, at: usize) -> bool {
    let proxy = &state.proxies[at];
    let knows = |backend: u8| {
        let (is, seen) = (
            state.backends[backend as usize],
            proxy.seen[backend as usize],
        );
        if state.reaches(at, backend) {
            seen == is.life as i8 && proxy.shown[backend as usize] == is.record
        } else {
            seen == SILENT
        }
    };
    let waits = proxy.commit.view.epoch > 0 && !proxy.has_failed;
    !waits && proxy.op.value == 0 && (0..BACKENDS as u8).all(knows)
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let outside = usize::from(self.procedure.is_some() || self.outside);
        let first = View {
            epoch: 1,
            ..View::default()
        };
        let mut view =
            (0..self.backends - outside).fold(first, |view, backend| view.with(backend as u8, 0));
        if self.reversed {
            view.members[..view.count as usize].reverse();
            view.lead = view.members[0].0;
        }
        let mut state = State {
            budget: self.budget,
            cut: self.cut,
            followed: view,
            ..State::default()
        };
        for backend in &mut state.backends[..self.backends] {
            *backend = Backend {
                up: true,
                record: view,
                ..Backend::default()
            };
        }
        for (proxy, suspects) in state
            .proxies
            .iter_mut()
            .zip(<[u8; PROXIES]>::from(self.blamed))
        {
            *proxy = Proxy {
                up: true,
                view,
                suspects,
                serves: true,
                leased: true,
                conns: if self.majority { view.mask() } else { 0 },
                shown: if self.majority {
                    [view; BACKENDS]
                } else {
                    Default::default()
                },
                ..Proxy::default()
            };
        }
        if self.admitted {
            let old = View::default().with(1, 0);
            let old = View {
                epoch: 1,
                lead: 1,
                ..old
            };
            let joining = old.next(0b010, 1, &self.rules).with_joining(0, 0);
            let new = joining.next(0b010, 1, &self.rules).with(0, 0);
            state.backends[0].record = new;
            state.backends[1].record = joining;
            state.backends[2].record = new;
            for (proxy, view) in [(0, joining), (1, new)] {
                state.proxies[proxy].view = view;
                state.proxies[proxy].conns = view.mask();
                state.proxies[proxy].shown = [view; BACKENDS];
            }
            state.followed = new;
            state.won[2] = joining.mask();
            state.won[3] = new.mask();
        }
        state
    }

    fn steps(&self, state: &State, labelled: bool) -> Vec<Step<State>> {
        let mut steps = Steps {
            list: Vec::with_capacity(24),
            labelled,
            needed: self.needed(),
        };
        for backend in 0..self.backends as u8 {
            self.backend_steps(state, backend, &mut steps);
        }
        for proxy in 0..PROXIES {
            self.link_steps(state, proxy, &mut steps);
            if !state.proxies[proxy].up {
                let mut next = *state;
                let seen = [UNKNOWN; BACKENDS];
                next.proxies[proxy] = Proxy {
                    up: true,
                    seen,
                    ..Proxy::default()
                };
                steps.add(next, || format!("p{proxy} starts"));
                continue;
            }
            self.late_record_step(state, proxy, &mut steps);
            self.probe_steps(state, proxy, &mut steps);
            self.write_steps(state, proxy, &mut steps);
            if state.proxies[proxy].commit.view.epoch > 0 {
                self.commit_steps(state, proxy, &mut steps);
            }
            if let Some(procedure) = self.procedure {
                self.resync_steps(state, proxy, procedure, &mut steps);
            }
        }
        steps.list
    }

    /// Proxies are alike, so of two states that differ in their names one is enough.
    fn canonical(&self, state: State) -> (State, bool) {
        let key = |at: usize| {
            let data = state.backends.map(|backend| backend.data[at]);
            let cut = state.cut >> (at * BACKENDS) & 7;
            (state.acked[at], state.written[at], cut, data)
        };
        // What a job has copied is told by proxy: its own key first, for either to look alike.
        let turned = |copied: u8| copied >> 1 | (copied & 1) << 1;
        let digest = |at: usize| {
            let mut proxy = state.proxies[at];
            if at > 0 {
                proxy.job.copied = turned(proxy.job.copied);
            }
            hash(&(key(at), proxy))
        };
        if digest(0) <= digest(1) {
            return (state, false);
        }
        let mut other = state;
        other.proxies.swap(0, 1);
        other.acked.swap(0, 1);
        other.written.swap(0, 1);
        other.cut = state.cut >> BACKENDS | (state.cut & 7) << BACKENDS;
        for backend in &mut other.backends {
            backend.data.swap(0, 1);
        }
        for proxy in &mut other.proxies {
            proxy.job.copied = turned(proxy.job.copied);
        }
        (other, true)
    }

    fn swapped(&self, label: &str) -> String {
        label
            .replace("p0", "p#")
            .replace("p1", "p0")
            .replace("p#", "p1")
    }
}

impl Config {
    // --- the world

    pub fn backend_steps(&self, state: &State, backend: u8, steps: &mut Steps) {
        let at = backend as usize;
        let is = state.backends[at];
        if is.up && state.budget.crashes > 0 {
            let mut next = *state;
            next.budget.crashes -= 1;
            next.backends[at] = Backend {
                life: is.life + 1,
                ..Backend::default()
            };
            for proxy in &mut next.proxies {
                proxy.conns &= !(1 << backend);
                proxy.late.mask &= !(1 << backend);
                if proxy.late_record.backend == backend {
                    proxy.late_record = LateRecord::default();
                }
            }
            steps.add(next, || format!("{} is killed", name(backend)));
        }
        if is.mute || (is.up && state.budget.mutes > 0) {
            let mut next = *state;
            next.budget.mutes -= u8::from(!is.mute);
            next.backends[at].mute ^= true;
            let verb = if is.mute { "takes" } else { "refuses" };
            steps.add(next, || {
                format!("{} {verb} writes from now on", name(backend))
            });
        }
        if is.up && is.record.epoch > 0 && state.budget.losses > 0 {
            let mut next = *state;
            next.budget.losses -= 1;
            next.backends[at].record = View::default();
            steps.add(next, || format!("{} evicts its record", name(backend)));
        }
        if !is.up {
            let mut next = *state;
            next.backends[at].up = true;
            steps.add(next, || format!("{} restarts, empty", name(backend)));
        }
        if is.follows > 0 {
            let leader = state.backends[is.follows as usize - 1];
            if leader.up && (leader.data, leader.record) != (is.data, is.record) {
                let mut next = *state;
                (next.backends[at].data, next.backends[at].record) = (leader.data, leader.record);
                steps.add(next, || {
                    format!(
                        "{} receives what {} has",
                        name(backend),
                        name(is.follows - 1)
                    )
                });
            }
        }
        if is.paused && self.may_end_pause(state) {
            let mut next = *state;
            next.backends[at].paused = false;
            steps.add(next, || format!("the pause of {} ends", name(backend)));
        }
    }

    pub fn link_steps(&self, state: &State, proxy: usize, steps: &mut Steps) {
        for backend in 0..self.backends as u8 {
            let bit = 1 << (proxy * BACKENDS + backend as usize);
            let mut next = *state;
            next.cut ^= bit;
            if state.cut & bit != 0 {
                steps.add(next, || {
                    format!("the link p{proxy}-{} heals", name(backend))
                });
            } else if state.budget.cuts > 0 {
                next.budget.cuts -= 1;
                steps.add(next, || {
                    format!("the link p{proxy}-{} is cut", name(backend))
                });
            }
        }
        if state.proxies[proxy].up && state.budget.restarts > 0 {
            let mut next = *state;
            next.budget.restarts -= 1;
            next.proxies[proxy] = Proxy::default();
            steps.add(next, || format!("p{proxy} is killed"));
        }
    }
}
