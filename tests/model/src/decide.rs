//! Writes that a leader decides (INCR, cas, scripts), while somebody else goes on without that leader.
//!
//! One key, several proxies, all backends in sync at first. A plain write (SET) goes to all in-sync members of its
//! proxy's view at once; a decided one to the leader, and what the leader then holds to the others. Time is a tick that
//! all clocks share. A message is carried out at any time after it was sent, or never.

use crate::decide_views::View;
use crate::decide_world::{
    bit, called, has, names, Faults, Proxy, Stage, World, Write, BACKENDS, PROXIES, WRITES,
};
use crate::search::{Model, Step};

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
    /// A record names the life of each backend, so that one that has started again does not show it.
    pub names_lives: bool,
    /// Who stood still asks these again, and gives nobody what was decided before they have answered.
    pub doubts: Lease,
}

#[derive(Clone, Copy)]
pub struct Deciding {
    pub proxies: usize,
    pub backends: usize,
    pub writes: usize,
    pub faults: Faults,
    /// Backends whose links may be cut.
    pub cuttable: u8,
    /// A was killed: all proxies but the last follow the view without it already.
    pub unaware: bool,
    /// Who leaves a view takes its record first: never, or always; both may happen if it is not said.
    pub told: Option<bool>,
    /// Ticks that a lease lasts, and that who follows another leader waits.
    pub lease: u8,
    pub parting: u8,
    /// Ticks by which the clock that a proxy looks at may be late.
    pub lag: u8,
    pub rules: DecideRules,
}

impl Deciding {
    /// Age from which on nothing is known to be shown.
    pub fn never(&self) -> u8 {
        self.lease + self.lag
    }

    pub fn step(&self, steps: &mut Vec<Step<World>>, mut state: World, label: String) {
        self.show_records(&mut state);
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

    /// Every proxy has all backends asked all the time.
    fn show_records(&self, state: &mut World) {
        for proxy in 0..self.proxies {
            let view = state.proxies[proxy].view;
            for at in (0..self.backends).filter(|at| has(view.members, *at)) {
                let is_another = self.rules.names_lives && has(state.revived, at);
                if state.records[at] == view && state.is_reached(proxy, at) && !is_another {
                    state.proxies[proxy].shown[at] = 0;
                    if !self.rules.from_question {
                        state.proxies[proxy].answering |= bit(at);
                    }
                }
            }
        }
    }

    /// True if those have shown their records to a proxy lately.
    fn have_shown(&self, state: &World, proxy: usize, whose: Lease) -> bool {
        let Proxy { view, shown, .. } = state.proxies[proxy];
        let is_shown = |at: usize| shown[at] < self.never();
        match whose {
            Lease::Nobody => true,
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
        if is_held || at.view.members & at.cut != 0 {
            return;
        }
        let after = (0..WRITES)
            .filter(|other| state.writes[*other].stage == Stage::Acknowledged)
            .fold(0, |set, other| set | bit(other));
        for is_decided in [false, true] {
            let is_leased = !is_decided && !self.rules.plain_leased
                || self.have_shown(state, proxy, self.rules.lease);
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
                write.is_doubted = is_decided && self.rules.doubts != Lease::Nobody;
                next.proxies[proxy].shown = [self.never(); BACKENDS];
            }
            next.writes[number] = write;
            let age = at.shown.iter().filter(|age| **age < self.never()).max();
            let how = match age {
                _ if !is_leased => ", by what it saw before it stood still".to_string(),
                Some(age) if *age > 0 => format!(", as it asked {age} ticks ago"),
                _ => String::new(),
            };
            let label = format!(
                "p{} begins {}, sent to {}{how}",
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
        let name = names(bit(at));
        let label = if decides {
            format!("{name} decides {}", called(number, write))
        } else if write.is_decided {
            format!("{name} takes the result of {}", called(number, write))
        } else {
            format!("{name} carries out {}", called(number, write))
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
            if self.have_shown(state, write.by.into(), self.rules.doubts) {
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
        let mut state = World {
            records: [view; BACKENDS],
            held: [0; BACKENDS],
            dead: 0,
            revived: 0,
            proxies: [Proxy {
                view,
                shown: [self.never(); BACKENDS],
                ..Proxy::default()
            }; PROXIES],
            writes: [Write::default(); WRITES],
            left: self.faults,
        };
        if self.unaware {
            let without = view.child(view.members & !bit(0));
            state.dead = bit(0);
            state.records[1..].fill(without);
            for proxy in 0..self.proxies - 1 {
                state.proxies[proxy].view = without;
            }
        }
        self.show_records(&mut state);
        state
    }

    fn steps(&self, state: &World, _labelled: bool) -> Vec<Step<World>> {
        let mut steps = Vec::new();
        let writes = &state.writes[..self.writes];
        if writes.iter().all(|each| each.stage != Stage::NotBegun)
            && (state.is_quiet() || writes.iter().all(|each| each.after == 0))
        {
            // Nothing can be undone any more.
            return steps;
        }
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
        let dead = state.dead;
        for at in (0..BACKENDS).filter(|at| has(dead, *at)) {
            state.lose(at);
        }
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
