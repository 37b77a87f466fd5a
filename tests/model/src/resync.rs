//! Bringing a returned backend back: the procedures that were considered, as steps of whoever does it.

use crate::protocol::{Config, Steps};
use crate::state::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Procedure {
    /// REPLICAOF, hold our own writes, REPLICAOF NO ONE, next view.
    Naive,
    /// As that, with CLIENT PAUSE WRITE on the leader until every proxy has adopted the next view.
    Pause,
    /// As that, with a pause that may end at any time, and CLIENT KILL of all others together with the record.
    PauseKill,
    /// A view that lists it as joining has every proxy hold its writes; those that do not hold are not cut off.
    HoldOnly,
    /// As that, and those not seen holding, with nothing of their own under way, are cut off the leader.
    Fence,
    /// Writes go to the joining backend too; the copy begins at once.
    FanOut,
    /// The copy begins when every proxy has adopted the joining view, or is cut off from something.
    FanOutExpire,
    /// The copy begins when every proxy has adopted it or has stopped writing, as it could not confirm its view.
    FanOutLease,
}

use Procedure::*;

impl Procedure {
    /// Writes go to a joining backend.
    pub fn fans_out(self) -> bool {
        matches!(self, FanOut | FanOutExpire | FanOutLease)
    }

    /// A view with a joining backend has writes held.
    fn is_hold(self) -> bool {
        matches!(self, HoldOnly | Fence)
    }

    pub fn kills_at_admission(self) -> bool {
        self == PauseKill
    }

    /// The proxy sends no new writes now.
    pub fn holds(self, proxy: &Proxy) -> bool {
        let is_busy = !self.fans_out() && matches!(proxy.job.stage, Stage::Fenced | Stage::Equal);
        is_busy
            || (self.is_hold() && proxy.view.joins > 0)
            || (self == FanOutLease && !proxy.leased)
    }
}

impl Config {
    /// A pause of `Procedure::Pause` is as long as could be wished.
    pub fn may_end_pause(&self, state: &State) -> bool {
        let has_adopted = |proxy: &Proxy| {
            !proxy.up || (proxy.view == state.newest() && proxy.job.stage == Stage::Idle)
        };
        self.procedure != Some(Pause) || state.proxies.iter().all(has_adopted)
    }

    pub fn resync_steps(
        &self,
        state: &State,
        proxy: usize,
        procedure: Procedure,
        steps: &mut Steps,
    ) {
        let knows = state.proxies[proxy];
        let (view, job) = (knows.view, knows.job);
        if procedure == FanOutLease && knows.leased {
            let mut next = *state;
            next.proxies[proxy].leased = false;
            steps.add(next, || {
                format!("p{proxy} has not confirmed its view for too long")
            });
        }
        if !knows.serves || knows.commit.view.epoch > 0 {
            return;
        }
        if view.joins > 0 && view.epoch < self.epochs {
            let mut next = *state;
            next.proxies[proxy].job = Job::default();
            self.propose(
                &mut next,
                proxy,
                view.next(view.mask(), view.lead, &self.rules),
                false,
            );
            steps.add(next, || {
                format!("p{proxy} dismisses {}", name(view.joining()))
            });
        }
        if job.stage == Stage::Idle {
            return self.begin(state, proxy, procedure, steps);
        }
        let (target, lead) = (
            state.backends[job.who as usize],
            state.backends[view.lead as usize],
        );
        let is_sound = state.reaches(proxy, job.who)
            && state.reaches(proxy, view.lead)
            && target.life == job.life
            && view.lists(view.lead, lead.life);
        if !is_sound {
            let mut next = *state;
            next.proxies[proxy].job = Job::default();
            return steps.add(next, || {
                format!("p{proxy} gives up bringing {} back", name(job.who))
            });
        }
        if procedure.fans_out() {
            return self.copy_steps(state, proxy, procedure, steps);
        }
        let mut next = *state;
        let who = name(job.who);
        let is_quiet = knows.op.value == 0 && knows.late.mask == 0;
        match job.stage {
            Stage::Following if procedure.is_hold() => {
                next.proxies[proxy].job.stage = Stage::Joining;
                let joining = view
                    .next(view.mask(), view.lead, &self.rules)
                    .with_joining(job.who, job.life);
                self.propose(&mut next, proxy, joining, false);
                steps.add(next, || {
                    format!("p{proxy} proposes {joining}, to have writes held")
                });
            }
            Stage::Following if is_quiet => {
                next.proxies[proxy].job.stage = Stage::Fenced;
                next.backends[view.lead as usize].paused = procedure != Naive;
                let pauses = if procedure == Naive {
                    String::new()
                } else {
                    format!(" and pauses {}", name(view.lead))
                };
                steps.add(next, || format!("p{proxy} holds its writes{pauses}"));
            }
            Stage::Joining if view.joining() == job.who && is_quiet => {
                next.proxies[proxy].job.stage = Stage::Fenced;
                let is_writing = |other: &usize| {
                    let other = &state.proxies[*other];
                    other.up && !(other.view == view && other.op.value == 0 && other.late.mask == 0)
                };
                let missing: Vec<usize> = (0..PROXIES)
                    .filter(|other| *other != proxy)
                    .filter(is_writing)
                    .collect();
                if procedure == Fence {
                    for other in &missing {
                        cut_off(&mut next, proxy, view.lead, *other);
                    }
                }
                steps.add(next, || {
                    format!("p{proxy} finds that {missing:?} do not hold their writes")
                });
            }
            Stage::Fenced => {
                let is_equal = (target.data, target.record) == (lead.data, lead.record);
                if target.follows == view.lead + 1 && is_equal {
                    next.proxies[proxy].job.stage = Stage::Equal;
                    next.backends[job.who as usize].follows = 0;
                    steps.add(next, || {
                        format!("p{proxy} finds {who} equal and ends its following")
                    });
                }
            }
            Stage::Equal => self.admit(state, proxy, steps),
            _ => {}
        }
    }

    fn begin(&self, state: &State, proxy: usize, procedure: Procedure, steps: &mut Steps) {
        let knows = state.proxies[proxy];
        let view = knows.view;
        let is_taken = self.rules.leased
            && state
                .proxies
                .iter()
                .any(|other| other.job.stage != Stage::Idle);
        if is_taken
            || view.joins > 0
            || view.epoch + 2 > self.epochs
            || !state.reaches(proxy, view.lead)
        {
            return;
        }
        for backend in (0..self.backends as u8).filter(|backend| view.mask() & 1 << backend == 0) {
            let is = state.backends[backend as usize];
            let is_known =
                state.reaches(proxy, backend) && knows.seen[backend as usize] == is.life as i8;
            if !is_known || (self.rules.guarded && is.record.beats(&view)) {
                continue;
            }
            let mut next = *state;
            let target = &mut next.backends[backend as usize];
            next.proxies[proxy].job = Job {
                stage: Stage::Following,
                who: backend,
                life: is.life,
                copied: 0,
            };
            if procedure.fans_out() {
                (target.data, target.record) = ([0; PROXIES], view);
                next.proxies[proxy].job.stage = Stage::Joining;
                let joining = view
                    .next(view.mask(), view.lead, &self.rules)
                    .with_joining(backend, is.life);
                self.propose(&mut next, proxy, joining, false);
                steps.add(next, || {
                    format!("p{proxy} empties {} and proposes {joining}", name(backend))
                });
            } else {
                target.follows = view.lead + 1;
                steps.add(next, || {
                    format!(
                        "p{proxy} makes {} follow {}",
                        name(backend),
                        name(view.lead)
                    )
                });
            }
        }
    }

    fn admit(&self, state: &State, proxy: usize, steps: &mut Steps) {
        let mut next = *state;
        let Proxy { view, job, .. } = state.proxies[proxy];
        let admitting = view
            .next(view.mask(), view.lead, &self.rules)
            .with(job.who, job.life);
        self.propose(&mut next, proxy, admitting, true);
        steps.add(next, || format!("p{proxy} proposes {admitting}"));
    }

    /// Memcached has neither REPLICAOF nor CLIENT KILL.
    fn copy_steps(&self, state: &State, proxy: usize, procedure: Procedure, steps: &mut Steps) {
        let Proxy {
            view,
            job,
            op,
            suspects,
            ..
        } = state.proxies[proxy];
        let bit = 1 << job.who;
        if view.joining() != job.who || (op.value > 0 && op.epoch != view.epoch) {
            return;
        }
        let mut next = *state;
        if job.stage == Stage::Joining {
            if self.may_copy(state, proxy, procedure) {
                next.proxies[proxy].job.stage = Stage::Copying;
                steps.add(next, || format!("p{proxy} begins to copy"));
            }
        } else if job.copied < (1 << PROXIES) - 1 {
            for key in (0..PROXIES).filter(|key| job.copied & 1 << key == 0) {
                let mut next = *state;
                let found = state.backends[view.lead as usize].data[key];
                let target = &mut next.backends[job.who as usize].data[key];
                // `add`, then verified against the leader: ends at the leader's value or a newer one.
                *target = (*target).max(found);
                next.proxies[proxy].job.copied |= 1 << key;
                steps.add(next, || format!("p{proxy} copies the key of p{key}"));
            }
        } else if suspects & bit == 0 {
            next.backends[job.who as usize].record = view;
            self.admit(&next, proxy, steps);
        }
    }

    fn may_copy(&self, state: &State, proxy: usize, procedure: Procedure) -> bool {
        let view = state.proxies[proxy].view;
        (0..PROXIES).filter(|other| *other != proxy).all(|at| {
            let other = &state.proxies[at];
            let is_done = other.op.value == 0 || other.op.epoch == view.epoch;
            let is_cut = (0..self.backends as u8).any(|backend| state.is_cut(at, backend));
            !other.up
                || procedure == FanOut
                || (other.view == view && is_done)
                || (procedure == FanOutExpire && is_cut)
                || (procedure == FanOutLease && !other.leased && other.op.value == 0)
        })
    }
}

/// CLIENT KILL of the other proxies' connections, those of `only` if it is one of them.
pub fn cut_off(state: &mut State, proxy: usize, backend: u8, only: usize) {
    for other in (0..PROXIES).filter(|other| *other != proxy && (only == PROXIES || only == *other))
    {
        state.proxies[other].conns &= !(1 << backend);
        state.proxies[other].late.mask &= !(1 << backend);
    }
}
