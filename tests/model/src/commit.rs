//! Commits: `proxy.tasks.views.commit`, a message at a time, and whether what they record is lawful.

use crate::protocol::{Config, Steps};
use crate::resync::{cut_off, Procedure};
use crate::state::*;

impl Config {
    /// Starts a commit: arbiters are those that leave, ahead of the first that stays.
    pub fn propose(&self, state: &mut State, proxy: usize, mut view: View, admits: bool) {
        let knows = &mut state.proxies[proxy];
        let skips = self.rules.skips && self.skips(knows);
        view.epoch += u8::from(skips);
        let mut commit = Commit {
            skips,
            view,
            admits,
            ..Commit::default()
        };
        let old = knows.view.mask();
        let first = view.members()[0].0;
        let ahead = |backend: &&(u8, u8)| view.mask() & 1 << backend.0 == 0;
        let is_reborn = {
            let (backend, life) = view.members()[0];
            old & 1 << backend != 0 && !knows.view.lists(backend, life)
        };
        if self.majority {
            let is_blank = |backend: &usize| knows.blank_life[*backend] > 0;
            commit.blank = (0..self.backends)
                .filter(is_blank)
                .fold(0, |mask, backend| mask | 1 << backend);
        } else if is_reborn {
            commit.blank = 1 << first;
        }
        let last = self.asked_last(&commit);
        if self.rules.arbiters {
            for (backend, _) in knows.view.members().iter().take_while(ahead) {
                if last & 1 << backend == 0 {
                    commit.order[commit.arbiters as usize] = *backend;
                    commit.arbiters += 1;
                }
            }
        }
        if is_reborn && self.rules.asks_all {
            for backend in
                (0..self.backends as u8).filter(|each| (old | view.mask()) & 1 << each == 0)
            {
                commit.order[commit.arbiters as usize] = backend;
                commit.arbiters += 1;
            }
        }
        commit.order[commit.arbiters as usize] = first;
        let asked = commit.order[..=commit.arbiters as usize].iter();
        commit.left = view.mask() | if self.rules.everybody { old } else { 0 };
        if self.majority {
            commit.left = (1 << self.backends) - 1;
        }
        commit.left &= !asked.fold(0, |mask, backend| mask | 1 << backend);
        if last & 1 << first != 0 {
            (commit.at, commit.arbiters) = (1, 0);
            commit.left |= last;
        }
        knows.commit = commit;
    }

    /// Those that are known to hold no record, and may take one where all others have: no view is elected without
    /// these, so what it voted for is theirs to tell.
    fn asked_last(&self, commit: &Commit) -> u8 {
        if self.needs_all() {
            commit.blank
        } else {
            0
        }
    }

    /// The next messages of `proxy.tasks.views.commit`.
    pub fn commit_steps(&self, state: &State, proxy: usize, steps: &mut Steps) {
        let commit = state.proxies[proxy].commit;
        if commit.at <= commit.arbiters {
            return self.commit_step(state, proxy, commit.order[commit.at as usize], steps);
        }
        let last = self.asked_last(&commit);
        let next = match commit.left & !last {
            0 => commit.left,
            others => others,
        };
        for backend in (0..self.backends as u8).filter(|backend| next & 1 << backend != 0) {
            self.commit_step(state, proxy, backend, steps);
        }
    }

    fn commit_step(&self, state: &State, proxy: usize, backend: u8, steps: &mut Steps) {
        let commit = state.proxies[proxy].commit;
        let view = commit.view;
        let is_first = commit.at == commit.arbiters;
        let is = state.backends[backend as usize];
        let mut next = *state;
        let moved = &mut next.proxies[proxy].commit;
        moved.at = (commit.at + 1).min(commit.arbiters + 1);
        moved.left &= !(1 << backend);
        let is_old = is.record.epoch + u8::from(commit.skips) < view.epoch
            || (!self.rules.votes_once && is.record.epoch == view.epoch);
        let is_last = self.asked_last(&commit) & 1 << backend != 0
            && u32::from(commit.changed) + 1 >= self.needed();
        let is_blank = !self.majority && commit.blank & 1 << backend != 0;
        let has_vote = is.record.epoch > 0 || !self.rules.forgets || is_last || is_blank;
        let takes = has_vote && (is.record == view || is_old) && is.follows == 0;
        let may_stall = self.late_records && state.budget.stalls > 0;
        if may_stall && takes && state.reaches(proxy, backend) && is.record != view && !is.mute {
            let mut next = next;
            next.budget.stalls -= 1;
            next.proxies[proxy].late_record = LateRecord {
                view,
                backend,
                over: is.record,
            };
            next.proxies[proxy].commit.placed = true;
            self.not_told(
                next,
                proxy,
                backend,
                is_first,
                steps,
                "does not answer in time",
            );
        }
        if !state.reaches(proxy, backend) {
            return self.not_told(next, proxy, backend, is_first, steps, "cannot be reached");
        }
        if takes && is.mute {
            return self.not_told(next, proxy, backend, is_first, steps, "refuses to write");
        }
        if takes {
            next.proxies[proxy].commit.placed = true;
            next.proxies[proxy].commit.votes += u8::from(self.majority);
            next.proxies[proxy].commit.changed += u8::from(self.majority && is.record != view);
            next.backends[backend as usize].record = view;
            if commit.admits
                && is_first
                && self.procedure.is_some_and(Procedure::kills_at_admission)
            {
                cut_off(&mut next, proxy, backend, PROXIES);
            }
            let is_done = next.proxies[proxy].commit.is_done();
            let Ok(fault) = self.finish_commit(&mut next, proxy) else {
                return;
            };
            return steps.judged(next, fault, || {
                format!(
                    "{} takes {view} from p{proxy}{}",
                    name(backend),
                    if is_done { ", which is done" } else { "" }
                )
            });
        }
        if is.record.epoch == 0 && (!is_first || self.majority) {
            return self.passed_over(next, proxy, backend, steps, || {
                format!("{} has no record, p{proxy} goes on", name(backend))
            });
        }
        if commit.at <= commit.arbiters {
            self.lose(&mut next, proxy, is.record, backend);
        } else {
            next.proxies[proxy].commit.rival = is.record;
            next.proxies[proxy].commit.rival_on = backend;
            let Ok(_) = self.finish_commit(&mut next, proxy) else {
                return;
            };
        }
        steps.add(next, || {
            format!("{} refuses {view} of p{proxy}", name(backend))
        });
    }

    fn not_told(
        &self,
        mut next: State,
        proxy: usize,
        backend: u8,
        is_first: bool,
        steps: &mut Steps,
        why: &str,
    ) {
        let view = next.proxies[proxy].commit.view;
        let label = || format!("{} {why}, for {view} of p{proxy}", name(backend));
        if !is_first || self.majority {
            return self.passed_over(next, proxy, backend, steps, label);
        }
        self.give_up(&mut next, proxy);
        next.proxies[proxy].seen[backend as usize] = SILENT;
        self.settle(&mut next, proxy);
        steps.add(next, label);
    }

    pub fn late_record_step(&self, state: &State, proxy: usize, steps: &mut Steps) {
        let LateRecord {
            view,
            backend,
            over,
        } = state.proxies[proxy].late_record;
        if view.epoch == 0 {
            return;
        }
        let mut next = *state;
        next.proxies[proxy].late_record = LateRecord::default();
        let is = &mut next.backends[backend as usize];
        if is.up && is.record == over && is.follows == 0 && !is.mute {
            is.record = view;
        }
        steps.add(next, || {
            format!("{} writes {view} of p{proxy} late", name(backend))
        });
    }

    /// It could not be told.
    fn passed_over(
        &self,
        mut next: State,
        proxy: usize,
        backend: u8,
        steps: &mut Steps,
        label: impl FnOnce() -> String,
    ) {
        let commit = &mut next.proxies[proxy].commit;
        commit.missed |= (1 << backend) & commit.view.mask();
        if let Ok(fault) = self.finish_commit(&mut next, proxy) {
            steps.judged(next, fault, label);
        }
    }

    fn give_up(&self, state: &mut State, proxy: usize) {
        let knows = &mut state.proxies[proxy];
        knows.is_short = self.majority;
        knows.has_failed |= self.majority && knows.shown.contains(&knows.commit.view);
        if knows.commit.placed && self.rules.outdates && !self.majority {
            knows.tried = knows.commit.view.epoch;
        }
        knows.commit = Commit::default();
    }

    fn lose(&self, state: &mut State, proxy: usize, record: View, backend: u8) {
        let Commit { view, placed, .. } = state.proxies[proxy].commit;
        self.give_up(state, proxy);
        if self.majority {
            state.proxies[proxy].shown[backend as usize] = record;
        }
        let common = record.mask() & view.mask();
        if placed
            && !self.majority
            && self.rules.common
            && record.epoch == view.epoch
            && common != 0
        {
            // Either of the two may count elsewhere: who is in both has what was acknowledged under either.
            if view.epoch < self.epochs {
                let lead = record.members().iter().map(|each| each.0);
                let lead = lead
                    .filter(|each| common & 1 << each != 0)
                    .min_by_key(|each| u8::from(*each != record.lead));
                let next = record.next(common, lead.unwrap_or(record.lead), &self.rules);
                self.propose(state, proxy, next, false);
            }
            return;
        }
        self.adopt(state, proxy, record, backend);
        self.settle(state, proxy);
        self.probe(state, proxy, backend);
    }

    /// After the last message of a commit; the promise that is broken by winning it. Err if both sides of a
    /// partition go on, which is documented and not followed further.
    fn finish_commit(&self, state: &mut State, proxy: usize) -> Result<Option<String>, ()> {
        let Proxy { commit, job, .. } = state.proxies[proxy];
        if !commit.is_done() {
            return Ok(None);
        }
        let has_votes = self.majority && u32::from(commit.votes) >= self.needed();
        if commit.rival.epoch > 0 && !has_votes {
            self.lose(state, proxy, commit.rival, commit.rival_on);
            return Ok(None);
        }
        if self.majority && !has_votes {
            self.give_up(state, proxy);
            self.settle(state, proxy);
            return Ok(None);
        }
        let view = commit.view;
        let won = std::mem::replace(&mut state.won[view.epoch as usize], view.mask());
        let mut fault = None;
        if won != 0 && won != view.mask() {
            if self.budget.cuts > 0 && !self.majority {
                return Err(());
            }
            fault = Some(format!("two winners: {view} beside {}", names(won)));
        }
        self.follow(state, proxy, view);
        let knows = &mut state.proxies[proxy];
        knows.serves = !self.is_outvoted(knows);
        if self.majority {
            if u32::from(commit.changed) >= self.needed() {
                knows.readmitted |= commit.blank;
            }
            for backend in 0..self.backends {
                if view.mask() & !commit.missed & 1 << backend != 0 || self.needs_all() {
                    knows.shown[backend] = view;
                    knows.blank_life[backend] = 0;
                }
            }
        }
        if job.stage == Stage::Joining && view.joining() == job.who {
            state.proxies[proxy].job = job;
        }
        self.check_op(state, proxy);
        for backend in (0..self.backends).filter(|backend| commit.missed & 1 << backend != 0) {
            state.proxies[proxy].seen[backend] = SILENT;
        }
        self.settle(state, proxy);
        Ok(fault)
    }
}
