//! The view protocol as it is built, one atomic step per message: probes, adoption, `failover::choose`, commits
//! over arbiters and members, fanned-out writes and when they are acknowledged.
//!
//! Left out, as nothing follows from it here: retries, reasons, back-off, several keys of one writer, and the
//! members' probes that repeat what is known. What a reader should doubt first is listed in README.md.

use crate::resync::Procedure;
use crate::search::{Model, Step};
use crate::state::*;

/// One model to search.
#[derive(Clone, Copy, Default)]
pub struct Config {
    pub backends: usize,
    pub writes: u8,
    pub budget: Budget,
    /// The last backend starts outside the view, and is brought back so.
    pub procedure: Option<Procedure>,
    /// Proxies stop proposing beyond this one, so that the search ends.
    pub epochs: u8,
    /// A write that timed out may be carried out at any time later.
    pub late: bool,
    /// Succession runs against the order by which views of one epoch are compared.
    pub reversed: bool,
    pub rules: Rules,
}

/// Parts of the protocol that can be switched, to show what they are for.
#[derive(Clone, Copy)]
pub struct Rules {
    /// A commit is asked of the members that leave, first in the order of the old view.
    pub arbiters: bool,
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
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            arbiters: true,
            verify: true,
            commit_first: true,
            guarded: true,
            joining_named: true,
            leased: true,
            bound: true,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Standing {
    Usable,
    Suspect,
    Reborn,
    Absent,
}

/// `proxy.control.failover.Choice`: survivors by backend, nobody if 0.
pub struct Choice {
    pub survivors: u8,
    pub lead: u8,
    pub is_last_copy: bool,
    pub is_final: bool,
}

/// Collects steps; what may follow a broken or a lost state is not looked at.
pub struct Steps {
    list: Vec<Step<State>>,
    labelled: bool,
}

impl Steps {
    pub fn add(&mut self, state: State, label: impl FnOnce() -> String) {
        self.judged(state, None, label);
    }

    fn judged(&mut self, state: State, fault: Option<String>, label: impl FnOnce() -> String) {
        let lives = |(backend, life): &(u8, u8)| state.backends[*backend as usize].life == *life;
        if fault.is_none() && !state.newest.members().iter().any(lives) {
            return; // every in-sync member of the newest view is gone: beyond P3
        }
        let fault = fault.or_else(|| broken(&state));
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
fn broken(state: &State) -> Option<String> {
    for (backend, life) in state.newest.members() {
        if state.backends[*backend as usize].life == *life && state.lacks(*backend) {
            return Some(format!(
                "P3: {} is in sync in the newest view {} and lacks an acknowledged write",
                name(*backend),
                state.newest
            ));
        }
    }
    for (at, proxy) in state.proxies.iter().enumerate() {
        if !proxy.up || !proxy.serves || proxy.view != state.newest {
            continue;
        }
        for (backend, _) in proxy.view.members() {
            let bit = 1 << backend;
            let is_read =
                proxy.conns & bit != 0 && proxy.suspects & bit == 0 && state.reaches(at, *backend);
            if is_read && state.lacks(*backend) {
                return Some(format!(
                    "P4: p{at} follows the newest view and reads stale data from {}",
                    name(*backend)
                ));
            }
        }
    }
    None
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let outside = usize::from(self.procedure.is_some());
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
            newest: view,
            ..State::default()
        };
        for backend in &mut state.backends[..self.backends] {
            *backend = Backend {
                up: true,
                record: view,
                ..Backend::default()
            };
        }
        for proxy in &mut state.proxies {
            *proxy = Proxy {
                up: true,
                view,
                serves: true,
                leased: true,
                ..Proxy::default()
            };
        }
        state
    }

    fn steps(&self, state: &State, labelled: bool) -> Vec<Step<State>> {
        let mut steps = Steps {
            list: Vec::with_capacity(24),
            labelled,
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
            self.probe_steps(state, proxy, &mut steps);
            self.write_steps(state, proxy, &mut steps);
            if state.proxies[proxy].commit.view.epoch > 0 {
                self.commit_step(state, proxy, &mut steps);
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
            let data: Vec<u8> = state
                .backends
                .iter()
                .map(|backend| backend.data[at])
                .collect();
            let cut = state.cut >> (at * BACKENDS) & 7;
            (state.acked[at], state.written[at], cut, data)
        };
        let digest = |at: usize| {
            use std::hash::{Hash, Hasher};
            let mut hasher = std::collections::hash_map::DefaultHasher::new();
            (key(at), state.proxies[at]).hash(&mut hasher);
            hasher.finish()
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
            proxy.job.copied = proxy.job.copied >> 1 | (proxy.job.copied & 1) << 1;
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

    fn backend_steps(&self, state: &State, backend: u8, steps: &mut Steps) {
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
            }
            steps.add(next, || format!("{} is killed", name(backend)));
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

    fn link_steps(&self, state: &State, proxy: usize, steps: &mut Steps) {
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

    // --- the control plane

    fn probe_steps(&self, state: &State, proxy: usize, steps: &mut Steps) {
        for backend in 0..self.backends as u8 {
            let mut next = *state;
            self.probe(&mut next, proxy, backend);
            if next != *state {
                steps.add(next, || format!("p{proxy} probes {}", name(backend)));
            }
            // `Restore`: a record that is older than ours is put right, also on one that is outside.
            let is = state.backends[backend as usize];
            let knows = &state.proxies[proxy];
            let may = knows.seen[backend as usize] == is.life as i8
                && state.reaches(proxy, backend)
                && is.follows == 0;
            let is_outside = knows.view.mask() & 1 << backend == 0;
            if may && knows.view.beats(&is.record) && (is.record.epoch > 0 || is_outside) {
                let mut next = *state;
                next.backends[backend as usize].record = knows.view;
                self.check_op(&mut next, proxy);
                steps.add(next, || {
                    format!("p{proxy} puts {} right on {}", knows.view, name(backend))
                });
            }
        }
    }

    /// A probe, what follows from it, and the commit it may start.
    pub fn probe(&self, state: &mut State, proxy: usize, backend: u8) {
        let at = backend as usize;
        if !state.reaches(proxy, backend) {
            state.proxies[proxy].seen[at] = SILENT;
            return self.settle(state, proxy);
        }
        let is = state.backends[at];
        state.proxies[proxy].seen[at] = is.life as i8;
        self.adopt(state, proxy, is.record);
        if state.proxies[proxy].view == is.record && is.record.lists(backend, is.life) {
            state.proxies[proxy].leased = true;
        }
        self.settle(state, proxy);
    }

    fn adopt(&self, state: &mut State, proxy: usize, view: View) {
        if view.epoch == 0 || !view.beats(&state.proxies[proxy].view) {
            return;
        }
        self.follow(state, proxy, view);
    }

    /// `_Step._follow`.
    fn follow(&self, state: &mut State, proxy: usize, view: View) {
        let wanted = self.writes_to(&view);
        let knows = &mut state.proxies[proxy];
        knows.view = view;
        knows.commit = Commit::default();
        knows.suspects &= wanted;
        knows.conns &= wanted;
        if self.rules.bound || view.joining() != knows.job.who {
            knows.job = Job::default();
        }
        let survivors = self.choose(state, proxy).survivors;
        let knows = &mut state.proxies[proxy];
        if survivors != 0
            && (knows.serves || survivors == view.mask())
            && !knows.seen.contains(&UNKNOWN)
        {
            knows.serves = true;
        }
    }

    fn choose(&self, state: &State, proxy: usize) -> Choice {
        let knows = &state.proxies[proxy];
        let standing = |(backend, life): &(u8, u8)| match knows.seen[*backend as usize] {
            SILENT | UNKNOWN => Standing::Absent,
            seen if seen != *life as i8 => Standing::Reborn,
            _ if knows.suspects & 1 << backend != 0 => Standing::Suspect,
            _ => Standing::Usable,
        };
        let all = |wanted: Standing| -> Vec<u8> {
            let members = knows.view.members().iter();
            members
                .filter(|each| standing(each) == wanted)
                .map(|each| each.0)
                .collect()
        };
        let lead_first = |list: &[u8]| {
            if list.contains(&knows.view.lead) {
                knows.view.lead
            } else {
                list[0]
            }
        };
        let usable = all(Standing::Usable);
        if !usable.is_empty() {
            let survivors = usable.iter().fold(0, |mask, backend| mask | 1 << backend);
            return Choice {
                survivors,
                lead: lead_first(&usable),
                is_last_copy: false,
                is_final: true,
            };
        }
        let suspects = all(Standing::Suspect);
        if !suspects.is_empty() {
            let lead = lead_first(&suspects);
            return Choice {
                survivors: 1 << lead,
                lead,
                is_last_copy: true,
                is_final: true,
            };
        }
        // All reborn or absent: the newest view is lost, which is not followed further here, or ours is old.
        Choice {
            survivors: 0,
            lead: NOBODY,
            is_last_copy: false,
            is_final: true,
        }
    }

    /// `_Step._settle`: states from facts, then the commit that is due.
    pub fn settle(&self, state: &mut State, proxy: usize) {
        if state.proxies[proxy].seen[..self.backends].contains(&UNKNOWN)
            || state.proxies[proxy].view.epoch == 0
        {
            return;
        }
        let mut choice = self.choose(state, proxy);
        let knows = &mut state.proxies[proxy];
        let view = knows.view;
        if choice.is_last_copy && choice.survivors == view.mask() {
            knows.suspects &= !choice.survivors;
            choice = self.choose(state, proxy);
        }
        let knows = &mut state.proxies[proxy];
        let agrees = choice.survivors == view.mask();
        if choice.survivors == 0 && choice.is_final {
            knows.serves = false;
        } else if agrees {
            knows.serves = true;
        }
        let joining = view.joining();
        let fails = joining != NOBODY
            && self.procedure.is_some_and(Procedure::fans_out)
            && (knows.suspects & 1 << joining != 0 || knows.seen[joining as usize] == SILENT);
        if choice.survivors != 0
            && knows.commit.view.epoch == 0
            && (!agrees || fails)
            && view.epoch < self.epochs
        {
            let mut next = view.next(choice.survivors, choice.lead);
            if !fails && self.procedure.is_some_and(Procedure::fans_out) {
                (next.joins, next.joins_life) = (view.joins, view.joins_life);
            }
            self.propose(state, proxy, next, false);
        }
        self.check_op(state, proxy);
    }

    /// Starts a commit: arbiters are those that leave, ahead of the first that stays.
    pub fn propose(&self, state: &mut State, proxy: usize, view: View, admits: bool) {
        let knows = &mut state.proxies[proxy];
        let mut commit = Commit {
            view,
            admits,
            ..Commit::default()
        };
        if self.rules.arbiters {
            for (backend, _) in knows.view.members() {
                if view.mask() & 1 << backend != 0 {
                    break;
                }
                commit.order[commit.count as usize] = *backend;
                commit.count += 1;
            }
        }
        commit.arbiters = commit.count;
        for (backend, _) in view.members() {
            commit.order[commit.count as usize] = *backend;
            commit.count += 1;
        }
        knows.commit = commit;
    }

    /// The next message of `proxy.tasks.views.commit`.
    fn commit_step(&self, state: &State, proxy: usize, steps: &mut Steps) {
        let commit = state.proxies[proxy].commit;
        let (view, backend) = (commit.view, commit.order[commit.at as usize]);
        let (is_arbiter, is_first) = (commit.at < commit.arbiters, commit.at == commit.arbiters);
        let is = state.backends[backend as usize];
        let mut next = *state;
        let moved = Commit {
            at: commit.at + 1,
            ..commit
        };
        next.proxies[proxy].commit = moved;
        let takes = is.record.epoch > 0
            && (is.record == view || is.record.epoch < view.epoch)
            && is.follows == 0;
        if !state.reaches(proxy, backend) {
            if is_first {
                next.proxies[proxy].commit = Commit::default();
                next.proxies[proxy].seen[backend as usize] = SILENT;
                self.settle(&mut next, proxy);
                return steps.add(next, || {
                    format!("p{proxy} cannot reach {} for {view}", name(backend))
                });
            }
            let mut fault = None;
            if !is_arbiter {
                next.proxies[proxy].commit.missed |= 1 << backend;
                fault = self.finish_commit(&mut next, proxy);
            }
            next.split |= state.backends[backend as usize].up;
            return steps.judged(next, fault, || {
                format!(
                    "p{proxy} cannot reach {} for {view}, goes on",
                    name(backend)
                )
            });
        }
        if takes {
            // What stands on the first is decided; the others are only told.
            let decides = is_arbiter || is_first;
            let fault = match self.judge(state, proxy, &view) {
                Ok(fault) => fault.filter(|_| decides),
                Err(()) if decides => return,
                Err(()) => None,
            };
            next.backends[backend as usize].record = view;
            if view.beats(&next.newest) || (decides && !stands(&next, &next.newest)) {
                next.newest = view;
            }
            if commit.admits
                && is_first
                && self.procedure.is_some_and(Procedure::kills_at_admission)
            {
                cut_off(&mut next, proxy, backend, PROXIES);
            }
            let is_done = moved.at == commit.count;
            let fault = fault.or_else(|| self.finish_commit(&mut next, proxy));
            return steps.judged(next, fault, || {
                format!(
                    "{} takes {view} from p{proxy}{}",
                    name(backend),
                    if is_done { ", which is done" } else { "" }
                )
            });
        }
        if is.record.epoch == 0 && (is_arbiter || !is_first) {
            let mut fault = None;
            if !is_arbiter {
                next.proxies[proxy].commit.missed |= 1 << backend;
                fault = self.finish_commit(&mut next, proxy);
            }
            return steps.judged(next, fault, || {
                format!("{} has no record, p{proxy} goes on", name(backend))
            });
        }
        if is_arbiter || is_first {
            self.lose(&mut next, proxy, is.record, backend);
        } else {
            next.proxies[proxy].commit.rival = is.record;
            self.finish_commit(&mut next, proxy);
        }
        steps.add(next, || {
            format!("{} refuses {view} of p{proxy}", name(backend))
        });
    }

    fn lose(&self, state: &mut State, proxy: usize, record: View, backend: u8) {
        state.proxies[proxy].commit = Commit::default();
        self.adopt(state, proxy, record);
        self.probe(state, proxy, backend);
    }

    /// After the last message of a commit; the promise that is broken by winning it.
    fn finish_commit(&self, state: &mut State, proxy: usize) -> Option<String> {
        let Proxy { commit, job, .. } = state.proxies[proxy];
        if commit.at < commit.count {
            return None;
        }
        let first = commit.order[commit.arbiters as usize];
        if commit.rival.epoch > 0 {
            self.lose(state, proxy, commit.rival, first);
            return None;
        }
        let (view, newest) = (commit.view, state.newest);
        let is_double = view.epoch == newest.epoch
            && view != newest
            && self.budget.cuts + self.budget.crashes == 0;
        let fault = is_double.then(|| format!("two winners of one epoch: {view} and {newest}"));
        self.follow(state, proxy, view);
        state.proxies[proxy].serves = true;
        if job.stage == Stage::Joining && view.joining() == job.who {
            state.proxies[proxy].job = job;
        }
        self.check_op(state, proxy);
        for backend in (0..self.backends).filter(|backend| commit.missed & 1 << backend != 0) {
            state.proxies[proxy].seen[backend] = SILENT;
        }
        self.settle(state, proxy);
        fault
    }

    /// Whether a view may follow the newest one: Err if it forks after a partition that cuts this proxy off from
    /// a survivor (documented, and not followed further), Ok(Some) if it forks without that excuse.
    fn judge(&self, state: &State, proxy: usize, view: &View) -> Result<Option<String>, ()> {
        let newest = state.newest;
        if *view == newest {
            return Ok(None);
        }
        let alive = |backend: &u8, life: &u8| state.backends[*backend as usize].life == *life;
        let stale = view
            .members()
            .iter()
            .find(|(backend, life)| alive(backend, life) && state.lacks(*backend));
        let is_rival = view.epoch <= newest.epoch;
        if stale.is_none() && !is_rival {
            return Ok(None);
        }
        let is_excused =
            |(backend, life): &(u8, u8)| alive(backend, life) && state.is_cut(proxy, *backend);
        if state.split || newest.members().iter().any(is_excused) {
            return Err(());
        }
        if !view.beats(&newest) {
            return Ok(None); // nobody who sees both follows it
        }
        Ok(match stale {
            Some((backend, _)) => Some(format!(
                "P4: {view} lists {}, which lacks an acknowledged write",
                name(*backend)
            )),
            None if self.budget.cuts + self.budget.crashes == 0 => {
                Some(format!("two winners: {view} beside {newest}"))
            }
            // With the deciding member dead or out of reach two may begin; what that does to data is seen elsewhere.
            None => None,
        })
    }

    // --- the engine

    fn writes_to(&self, view: &View) -> u8 {
        match view.joining() {
            joining if joining != NOBODY && self.procedure.is_some_and(Procedure::fans_out) => {
                view.mask() | 1 << joining
            }
            _ => view.mask(),
        }
    }

    fn table(&self, state: &State, proxy: usize) -> u8 {
        let knows = &state.proxies[proxy];
        if knows.serves {
            self.writes_to(&knows.view)
        } else {
            0
        }
    }

    fn write_steps(&self, state: &State, proxy: usize, steps: &mut Steps) {
        let knows = &state.proxies[proxy];
        for backend in
            (0..self.backends as u8).filter(|backend| knows.late.mask & 1 << backend != 0)
        {
            let mut next = *state;
            next.proxies[proxy].late.mask &= !(1 << backend);
            let is = &mut next.backends[backend as usize];
            if is.up && is.follows == 0 && !is.paused {
                is.data[proxy] = knows.late.value;
                steps.add(next, || {
                    format!(
                        "{} carries out p{proxy}'s write {} late",
                        name(backend),
                        knows.late.value
                    )
                });
            }
        }
        if knows.op.value == 0 {
            return self.start_write(state, proxy, steps);
        }
        let op = knows.op;
        for backend in
            (0..self.backends as u8).filter(|backend| op.outstanding() & 1 << backend != 0)
        {
            let bit = 1 << backend;
            let is = state.backends[backend as usize];
            let is_open = knows.conns & bit != 0;
            let acts = is.up && is_open && !is.paused && is.follows == 0;
            let mut failed = *state;
            failed.proxies[proxy].op.failed |= bit;
            let mut applied = *state;
            applied.backends[backend as usize].data[proxy] = op.value;
            applied.proxies[proxy].late.mask &= !bit;
            if acts && state.reaches(proxy, backend) {
                let mut next = applied;
                next.proxies[proxy].op.replied |= bit;
                self.check_op(&mut next, proxy);
                steps.add(next, || {
                    format!(
                        "{} applies p{proxy}'s write {} and answers",
                        name(backend),
                        op.value
                    )
                });
            }
            let is_refused = is_open && is.follows > 0;
            if !state.reaches(proxy, backend) || !is_open || is_refused {
                let mut next = failed;
                self.write_failed(&mut next, proxy, backend);
                steps.add(next, || {
                    format!("p{proxy}'s write {} fails on {}", op.value, name(backend))
                });
                if acts {
                    let mut next = applied;
                    next.proxies[proxy].op.failed |= bit;
                    self.write_failed(&mut next, proxy, backend);
                    steps.add(next, || {
                        format!(
                            "{} applies p{proxy}'s write {}, the answer is lost",
                            name(backend),
                            op.value
                        )
                    });
                }
            } else if state.budget.stalls > 0 {
                let mut next = failed;
                next.budget.stalls -= 1;
                if self.late && next.proxies[proxy].late.mask == 0 {
                    next.proxies[proxy].late = Late {
                        mask: bit,
                        value: op.value,
                    };
                }
                self.write_failed(&mut next, proxy, backend);
                steps.add(next, || {
                    format!(
                        "p{proxy}'s write {} on {} times out",
                        op.value,
                        name(backend)
                    )
                });
            }
        }
        if op.outstanding() == 0 {
            let mut next = *state;
            next.proxies[proxy].op = Op::default();
            steps.add(next, || {
                format!(
                    "p{proxy} answers write {} with an error: no view came",
                    op.value
                )
            });
        }
    }

    fn start_write(&self, state: &State, proxy: usize, steps: &mut Steps) {
        let knows = &state.proxies[proxy];
        let targets = self.table(state, proxy);
        let is_held = self
            .procedure
            .is_some_and(|procedure| procedure.holds(knows));
        if targets == 0
            || knows.suspects & targets != 0
            || state.written[proxy] >= self.writes
            || is_held
        {
            return;
        }
        let mut next = *state;
        for backend in (0..self.backends as u8).filter(|backend| targets & 1 << backend != 0) {
            let bit = 1 << backend;
            if knows.conns & bit != 0 {
                continue;
            }
            if !state.reaches(proxy, backend) {
                let mut next = *state;
                self.write_failed(&mut next, proxy, backend);
                if next != *state {
                    steps.add(next, || {
                        format!("p{proxy} cannot connect to {} for a write", name(backend))
                    });
                }
                return;
            }
            let is = state.backends[backend as usize];
            let is_joining = knows.view.joining() == backend;
            let is_named =
                is_joining && (knows.view.joins_life == is.life || !self.rules.joining_named);
            let is_listed = knows.view.lists(backend, is.life) || is_named;
            if self.rules.verify && !(is.record == knows.view && is_listed) {
                return; // held until a probe tells
            }
            next.proxies[proxy].conns |= bit;
        }
        let value = state.written[proxy] + 1;
        next.written[proxy] = value;
        next.proxies[proxy].op = Op {
            value,
            targets,
            epoch: knows.view.epoch,
            ..Op::default()
        };
        steps.add(next, || {
            format!("p{proxy} sends write {value} to {}", names(targets))
        });
    }

    /// A write failed there, or could not be sent.
    fn write_failed(&self, state: &mut State, proxy: usize, backend: u8) {
        let table = self.table(state, proxy);
        if table & 1 << backend != 0 && table.count_ones() > 1 {
            state.proxies[proxy].suspects |= 1 << backend;
            self.settle(state, proxy);
        }
        self.check_op(state, proxy);
    }

    /// `Worker::check_op` with `ack: all`.
    fn check_op(&self, state: &mut State, proxy: usize) {
        let op = state.proxies[proxy].op;
        let table = self.table(state, proxy);
        if op.value == 0 || op.outstanding() & table != 0 {
            return;
        }
        let members = op.targets & table;
        let (failed, known) = (op.failed & members, op.replied & members);
        if known == 0 && members & !op.failed == 0 {
            state.proxies[proxy].op = Op::default();
        } else if failed == 0 || !self.rules.commit_first {
            state.acked[proxy] = op.value;
            state.proxies[proxy].op = Op::default();
        }
    }
}

/// Somebody can still learn of the view or follows it.
fn stands(state: &State, view: &View) -> bool {
    state.backends.iter().any(|backend| backend.record == *view)
        || state.proxies.iter().any(|proxy| proxy.view == *view)
}

/// CLIENT KILL of the other proxies' connections, those of `only` if it is one of them.
pub fn cut_off(state: &mut State, proxy: usize, backend: u8, only: usize) {
    for other in (0..PROXIES).filter(|other| *other != proxy && (only == PROXIES || only == *other))
    {
        state.proxies[other].conns &= !(1 << backend);
        state.proxies[other].late.mask &= !(1 << backend);
    }
}
