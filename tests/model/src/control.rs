//! The control plane: what a probe tells, which view is followed, who stays, and when a commit begins.

use crate::protocol::{Config, Steps};
use crate::resync::Procedure;
use crate::state::*;

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
    /// The one survivor is another life of the member.
    pub is_reborn: bool,
}

impl Config {
    pub fn probe_steps(&self, state: &State, proxy: usize, steps: &mut Steps) {
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
                && is.follows == 0
                && !is.mute;
            let is_outside = knows.view.mask() & 1 << backend == 0;
            let is_evicted = self.majority && knows.view.lists(backend, is.life);
            let is_told =
                is.record.epoch == knows.view.epoch && is.record.mask() & 1 << backend == 0;
            let is_moot = self.majority && is.record.epoch == knows.view.epoch;
            let may_replace =
                is.record != knows.view && (is_told || is_moot || knows.view.beats(&is.record));
            let is_blank = is.record.epoch == 0;
            let is_barred = is_blank && self.must_be_readmitted(knows, backend);
            if may && may_replace && !is_barred && (!is_blank || is_outside || is_evicted) {
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
        state.proxies[proxy].is_short = false;
        if !state.reaches(proxy, backend) {
            state.proxies[proxy].seen[at] = SILENT;
            return self.settle(state, proxy);
        }
        let is = state.backends[at];
        let knows = &mut state.proxies[proxy];
        if self.majority && (is.record.epoch > 0 || knows.blank_life[at] != is.life + 1) {
            knows.readmitted &= !(1 << backend);
            knows.commit.blank &= !(1 << backend);
        }
        if self.majority {
            knows.blank_life[at] = if is.record.epoch > 0 { 0 } else { is.life + 1 };
        }
        state.proxies[proxy].seen[at] = is.life as i8;
        if self.majority {
            state.proxies[proxy].shown[at] = is.record;
        }
        self.adopt(state, proxy, is.record, backend);
        if state.proxies[proxy].view == is.record && is.record.lists(backend, is.life) {
            state.proxies[proxy].leased = true;
        }
        self.settle(state, proxy);
    }

    pub fn adopt(&self, state: &mut State, proxy: usize, view: View, from: u8) {
        let Proxy {
            view: ours, commit, ..
        } = state.proxies[proxy];
        if self.majority {
            if self.is_elected(&state.proxies[proxy], view) {
                self.follow(state, proxy, view);
            }
            return;
        }
        let is_rival = view.epoch <= commit.view.epoch && self.rules.outdates;
        // One that leaves may be the only one that took it.
        let is_told =
            view.mask() & 1 << from == 0 && view.epoch == ours.epoch && self.rules.told_apart;
        if view.epoch == 0 || !view.beats(&ours) || is_rival || is_told {
            return;
        }
        self.follow(state, proxy, view);
    }

    /// `_Step._follow`.
    pub fn follow(&self, state: &mut State, proxy: usize, view: View) {
        let wanted = self.writes_to(&view);
        if view.epoch >= state.followed.epoch {
            state.followed = view;
        }
        let knows = &mut state.proxies[proxy];
        knows.view = view;
        knows.commit = Commit::default();
        self.note_undecided(state, proxy);
        let knows = &mut state.proxies[proxy];
        if knows.tried < view.epoch {
            knows.tried = 0;
        }
        knows.suspects &= wanted;
        knows.conns &= wanted;
        if self.rules.bound || view.joining() != knows.job.who {
            knows.job = Job::default();
        }
        let Choice {
            survivors,
            is_reborn,
            ..
        } = self.choose(state, proxy);
        let knows = &mut state.proxies[proxy];
        if survivors != 0
            && !is_reborn
            && !self.is_outvoted(knows)
            && (knows.serves || survivors == view.mask())
            && !knows.seen.contains(&UNKNOWN)
        {
            knows.serves = true;
        }
    }

    pub fn choose(&self, state: &State, proxy: usize) -> Choice {
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
                is_reborn: false,
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
                is_reborn: false,
            };
        }
        // Our view is old, or it is lost, which is not followed further.
        let reborn = all(Standing::Reborn);
        if !reborn.is_empty() && reborn.len() == knows.view.members().len() && !self.majority {
            let lead = lead_first(&reborn);
            return Choice {
                survivors: 1 << lead,
                lead,
                is_last_copy: true,
                is_final: true,
                is_reborn: true,
            };
        }
        Choice {
            survivors: 0,
            lead: NOBODY,
            is_last_copy: false,
            is_final: true,
            is_reborn: false,
        }
    }

    /// `_Step._settle`: states from facts, then the commit that is due.
    pub fn settle(&self, state: &mut State, proxy: usize) {
        if state.proxies[proxy].seen[..self.backends].contains(&UNKNOWN) {
            return;
        }
        self.note_undecided(state, proxy);
        if self.is_outvoted(&state.proxies[proxy]) {
            state.proxies[proxy].serves = false;
            if self.hears_enough(&state.proxies[proxy]) {
                self.vote(state, proxy);
            }
            return self.check_op(state, proxy);
        }
        if state.proxies[proxy].view.epoch == 0 {
            self.vote(state, proxy);
            return;
        }
        let mut choice = self.choose(state, proxy);
        let knows = &mut state.proxies[proxy];
        let view = knows.view;
        if choice.is_last_copy && !choice.is_reborn && choice.survivors == view.mask() {
            knows.suspects &= !choice.survivors;
            choice = self.choose(state, proxy);
        }
        let knows = &mut state.proxies[proxy];
        let is_outdated = knows.tried != view.epoch;
        let agrees = choice.survivors == view.mask() && !choice.is_reborn;
        if choice.survivors == 0 && choice.is_final {
            knows.serves = false;
        } else if agrees {
            knows.serves = true;
        }
        if self.vote(state, proxy) {
            return self.check_op(state, proxy);
        }
        let knows = &state.proxies[proxy];
        let joining = view.joining();
        let fails = joining != NOBODY
            && self.procedure.is_some_and(Procedure::fans_out)
            && (knows.suspects & 1 << joining != 0 || knows.seen[joining as usize] == SILENT);
        if choice.survivors != 0
            && knows.commit.view.epoch == 0
            && (!agrees || fails || !is_outdated || self.can_be_readmitted(&state.proxies[proxy]))
            && view.epoch < self.epochs
        {
            let mut next = view.next(choice.survivors, choice.lead, &self.rules);
            if choice.is_reborn {
                next.members[0].1 = knows.seen[choice.lead as usize] as u8;
            }
            if !fails && self.procedure.is_some_and(Procedure::fans_out) {
                (next.joins, next.joins_life) = (view.joins, view.joins_life);
            }
            self.propose(state, proxy, next, false);
        }
        self.check_op(state, proxy);
    }
}
