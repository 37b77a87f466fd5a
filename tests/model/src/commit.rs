//! Commits: `proxy.tasks.views.commit`, a message at a time, and whether what they record is lawful.

use crate::protocol::{Config, Steps};
use crate::resync::{cut_off, Procedure};
use crate::state::*;

impl Config {
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
    pub fn commit_step(&self, state: &State, proxy: usize, steps: &mut Steps) {
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
}

/// Somebody can still learn of the view or follows it.
fn stands(state: &State, view: &View) -> bool {
    state.backends.iter().any(|backend| backend.record == *view)
        || state.proxies.iter().any(|proxy| proxy.view == *view)
}
