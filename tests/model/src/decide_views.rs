//! Views in `decide`: asking for records, recording a view without somebody, following one, and what the world does.
//!
//! Simpler than in `protocol`: of two rivals of one epoch neither is followed further, as which one wins is not the
//! question here.

use crate::decide::{Deciding, Starting};
use crate::decide_world::{bit, has, names, Proxy, World, BACKENDS};
use crate::search::Step;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct View {
    pub epoch: u8,
    /// In sync.
    pub members: u8,
    pub leader: u8,
}

impl View {
    /// The next one, with these in sync: the leader stays if it is among them.
    pub fn child(self, members: u8) -> View {
        let leader = if has(members, self.leader.into()) {
            self.leader
        } else {
            members.trailing_zeros() as u8
        };
        View {
            epoch: self.epoch + 1,
            members,
            leader,
        }
    }

    fn label(self) -> String {
        format!("view {} ({})", self.epoch, names(self.members))
    }
}

/// A view that is being recorded, of epoch 0 if there is none, and who has taken it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Commit {
    pub view: View,
    told: u8,
}

impl World {
    fn views(&self) -> impl Iterator<Item = View> + '_ {
        let followed = self.proxies.iter().map(|each| each.view);
        self.records.iter().copied().chain(followed)
    }

    pub fn newest(&self) -> View {
        let newest = self.views().max_by_key(|each| each.epoch);
        newest.expect("there are records")
    }

    pub fn has_rivals(&self) -> bool {
        self.views()
            .any(|one| self.views().any(|two| one.epoch == two.epoch && one != two))
    }

    fn is_refusing(&self, proxy: usize, backend: usize) -> bool {
        has(self.dead | self.proxies[proxy].refused, backend)
    }
}

impl Deciding {
    /// Ticks that a proxy waits which begins to follow a view, because its leader before may go on deciding for others.
    fn parting(&self, state: &World, proxy: usize, view: View, is_own: bool) -> u8 {
        let rules = self.rules;
        let before = state.proxies[proxy].view;
        let may_lead = |at: usize| !(rules.excepts_refusing && state.is_refusing(proxy, at));
        let waits = if before.epoch == 0 {
            let is_out = |at| !has(view.members, at) && may_lead(at);
            rules.starting == Starting::SomebodyOut && (0..self.backends).any(is_out)
        } else if rules.skipping_waits && view.epoch > before.epoch + 1 {
            true
        } else {
            let leader = usize::from(before.leader);
            let is_left = !has(view.members, leader) && may_lead(leader);
            is_left && (is_own || rules.adopters_wait)
        };
        if waits {
            // It begins by a clock that is late.
            self.parting.saturating_sub(self.lag)
        } else {
            0
        }
    }

    fn follow(&self, next: &mut World, proxy: usize, view: View, is_own: bool) {
        let wait = self.parting(next, proxy, view, is_own);
        let at = &mut next.proxies[proxy];
        let kept = if self.rules.keeps_waiting { at.wait } else { 0 };
        let leader = at.view.leader;
        *at = Proxy {
            view,
            commit: Commit::default(),
            shown: [self.never(); BACKENDS],
            answering: 0,
            wait: wait.max(kept),
            ..*at
        };
        let is_left = !has(view.members, leader.into());
        next.fail_writes(proxy, |is_undecided| is_undecided && is_left);
    }

    pub fn view_steps(&self, state: &World, proxy: usize, steps: &mut Vec<Step<World>>) {
        let at = state.proxies[proxy];
        for backend in (0..self.backends).filter(|each| state.is_reached(proxy, *each)) {
            self.look(state, proxy, backend, steps);
        }
        if at.commit.view.epoch > 0 {
            self.commit_steps(state, proxy, steps);
        } else if at.view.epoch > 0 {
            self.blame(state, proxy, steps);
        }
    }

    /// Asks a backend for its record, and does what follows from it.
    fn look(&self, state: &World, proxy: usize, backend: usize, steps: &mut Vec<Step<World>>) {
        let (at, record) = (state.proxies[proxy], state.records[backend]);
        let (name, who) = (names(bit(backend)), format!("p{}", proxy + 1));
        let mut next = *state;
        if has(at.answering, backend) && at.shown[backend] > 0 {
            next.proxies[proxy].answering &= !bit(backend);
            next.proxies[proxy].shown[backend] = 0;
            self.step(
                steps,
                next,
                format!("the last answer of {name} comes to {who}"),
            );
        } else if record.epoch > at.view.epoch && at.commit.view.epoch == 0 {
            self.follow(&mut next, proxy, record, false);
            let wait = next.proxies[proxy].wait;
            let label = format!(
                "{who} sees {} on {name}, and follows it{}",
                record.label(),
                waiting(wait)
            );
            self.step(steps, next, label);
        } else if record.epoch < at.view.epoch && has(at.view.members, backend) {
            next.records[backend] = at.view;
            let label = format!("{who} gives {name} the record of {}", at.view.label());
            self.step(steps, next, label);
        }
    }

    /// Begins to record a view without those it does not reach, or without one that says nothing.
    fn blame(&self, state: &World, proxy: usize, steps: &mut Vec<Step<World>>) {
        let view = state.proxies[proxy].view;
        let reached = (0..self.backends)
            .filter(|at| has(view.members, *at) && state.is_reached(proxy, *at))
            .fold(0, |set, at| set | bit(at));
        let mut begin = |members: u8, silences: u8| {
            let mut next = *state;
            next.left.silences -= silences;
            next.proxies[proxy].commit.view = view.child(members);
            let label = format!(
                "p{} hears nothing from {}",
                proxy + 1,
                names(view.members & !members)
            );
            self.step(steps, next, label);
        };
        if reached == 0 {
            return;
        }
        if reached != view.members {
            begin(reached, 0);
        }
        for at in (0..self.backends).filter(|at| has(reached, *at) && reached != bit(*at)) {
            if state.left.silences > 0 {
                begin(reached & !bit(at), 1);
            }
        }
    }

    /// Records the view with one more, or follows it once all that stay have taken it.
    fn commit_steps(&self, state: &World, proxy: usize, steps: &mut Vec<Step<World>>) {
        let Proxy { view, commit, .. } = state.proxies[proxy];
        let who = format!("p{}", proxy + 1);
        let left = view.members & !commit.view.members;
        let must = if self.told == Some(true) {
            view.members
        } else {
            commit.view.members
        };
        if must & !commit.told == 0 {
            let mut next = *state;
            self.follow(&mut next, proxy, commit.view, true);
            let wait = next.proxies[proxy].wait;
            let label = format!("{who} follows {}{}", commit.view.label(), waiting(wait));
            self.step(steps, next, label);
        }
        for backend in (0..self.backends).filter(|each| has(view.members & !commit.told, *each)) {
            let mut next = *state;
            let name = names(bit(backend));
            let is_leaving = has(left, backend);
            let label = if !state.is_reached(proxy, backend) {
                if is_leaving {
                    continue;
                }
                next.proxies[proxy].commit = Commit::default();
                format!("{who} does not reach {name}, and gives its view up")
            } else if is_leaving && self.told == Some(false) {
                continue;
            } else if [view, commit.view].contains(&state.records[backend]) {
                next.records[backend] = commit.view;
                next.proxies[proxy].commit.told |= bit(backend);
                format!("{who} records {} on {name}", commit.view.label())
            } else {
                next.proxies[proxy].commit = Commit::default();
                format!("{who} finds another record on {name}, and gives its view up")
            };
            self.step(steps, next, label);
        }
    }

    pub fn world_steps(&self, state: &World, steps: &mut Vec<Step<World>>) {
        for backend in 0..self.backends {
            for proxy in 0..self.proxies {
                self.link_steps(state, proxy, backend, steps);
            }
            if state.left.kills > 0 && !has(state.dead, backend) {
                let mut next = *state;
                next.left.kills -= 1;
                next.dead |= bit(backend);
                self.step(steps, next, format!("{} is killed", names(bit(backend))));
            }
            if state.left.revivals > 0 && has(state.dead, backend) {
                let mut next = *state;
                next.left.revivals -= 1;
                next.dead &= !bit(backend);
                next.revived |= bit(backend);
                for each in &mut next.proxies {
                    each.shown[backend] = self.never();
                }
                let label = format!("{} starts again, with what it held", names(bit(backend)));
                self.step(steps, next, label);
            }
            self.bring_back(state, backend, steps);
        }
        for proxy in (0..self.proxies).filter(|_| state.left.restarts > 0) {
            let mut next = *state;
            next.left.restarts -= 1;
            next.fail_writes(proxy, |_| true);
            let Proxy { cut, refused, .. } = state.proxies[proxy];
            next.proxies[proxy] = Proxy {
                shown: [self.never(); BACKENDS],
                cut,
                refused,
                ..Proxy::default()
            };
            self.step(steps, next, format!("p{} starts again", proxy + 1));
        }
    }

    fn link_steps(
        &self,
        state: &World,
        proxy: usize,
        backend: usize,
        steps: &mut Vec<Step<World>>,
    ) {
        let link = format!("between p{} and {}", proxy + 1, names(bit(backend)));
        if has(state.proxies[proxy].cut, backend) {
            let mut next = *state;
            next.proxies[proxy].cut &= !bit(backend);
            next.proxies[proxy].refused &= !bit(backend);
            self.step(steps, next, format!("the link {link} heals"));
            return;
        }
        if !has(self.cuttable, backend) {
            return;
        }
        let mut next = *state;
        next.proxies[proxy].cut |= bit(backend);
        if state.left.cuts > 0 {
            let mut cut = next;
            cut.left.cuts -= 1;
            self.step(steps, cut, format!("the link {link} is cut"));
        }
        if state.left.refusals > 0 {
            next.left.refusals -= 1;
            next.proxies[proxy].refused |= bit(backend);
            self.step(steps, next, format!("connections {link} are refused"));
        }
    }

    /// A backend is copied and admitted by a proxy that follows the newest view, in one step: when nothing is under
    /// way, with all connections cut off of proxies that have not heard that it joins.
    fn bring_back(&self, state: &World, backend: usize, steps: &mut Vec<Step<World>>) {
        let newest = state.newest();
        let is_out = !has(newest.members | state.dead, backend);
        let is_ready = (0..BACKENDS)
            .filter(|at| has(newest.members, *at))
            .all(|at| !has(state.dead, at) && state.records[at] == newest);
        let begun = state.proxies.iter().any(|each| each.commit.view.epoch > 0);
        let brings = |proxy: &usize| {
            state.proxies[*proxy].view == newest && state.is_reached(*proxy, backend)
        };
        let Some(proxy) = (0..self.proxies).find(brings) else {
            return;
        };
        if state.left.returns == 0 || !is_out || !is_ready || begun || !state.is_quiet() {
            return;
        }
        let mut next = *state;
        next.left.returns -= 1;
        next.lose(backend);
        let admitted = newest.child(newest.members | bit(backend));
        for at in (0..BACKENDS).filter(|at| has(admitted.members, *at)) {
            next.records[at] = admitted;
        }
        next.held[backend] = state.held[usize::from(newest.leader)];
        for each in &mut next.proxies {
            each.shown = [self.never(); BACKENDS];
            each.answering = 0;
        }
        self.follow(&mut next, proxy, admitted, true);
        let label = format!(
            "p{} brings {} back, and follows {}",
            proxy + 1,
            names(bit(backend)),
            admitted.label()
        );
        self.step(steps, next, label);
    }
}

fn waiting(ticks: u8) -> String {
    match ticks {
        0 => String::new(),
        _ => format!(", and waits for {ticks}"),
    }
}
