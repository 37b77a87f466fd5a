//! The engine: writes to all of a table, their failures, and when they are acknowledged.

use crate::protocol::{Config, Steps};
use crate::resync::Procedure;
use crate::state::*;

impl Config {
    pub fn writes_to(&self, view: &View) -> u8 {
        match view.joining() {
            joining if joining != NOBODY && self.procedure.is_some_and(Procedure::fans_out) => {
                view.mask() | 1 << joining
            }
            _ => view.mask(),
        }
    }

    pub fn table(&self, state: &State, proxy: usize) -> u8 {
        let knows = &state.proxies[proxy];
        if knows.serves {
            self.writes_to(&knows.view)
        } else {
            0
        }
    }

    pub fn write_steps(&self, state: &State, proxy: usize, steps: &mut Steps) {
        let knows = &state.proxies[proxy];
        for backend in
            (0..self.backends as u8).filter(|backend| knows.late.mask & 1 << backend != 0)
        {
            let mut next = *state;
            next.proxies[proxy].late.mask &= !(1 << backend);
            let is = &mut next.backends[backend as usize];
            if is.up && is.follows == 0 && !is.paused && !is.mute {
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
            let acts = is.up && is_open && !is.paused && is.follows == 0 && !is.mute;
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
            let is_refused = is_open && (is.follows > 0 || is.mute);
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
            .is_some_and(|procedure| procedure.holds(knows))
            || (self.admitted && knows.view.joins > 0);
        if targets == 0
            || knows.suspects & targets != 0
            || state.written[proxy] >= self.writes
            || (self.writes_in_all > 0 && state.written.iter().sum::<u8>() >= self.writes_in_all)
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
    pub fn check_op(&self, state: &mut State, proxy: usize) {
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
