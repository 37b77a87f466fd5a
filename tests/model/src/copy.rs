//! Copying one key of Memcached from the leader S to the joining T, while writers go on: `add`, then verification.
//!
//! A writer sends its write to S, and what follows from it to T after S has answered; in the order of S, but T may lag.
//! Of the key only its value, counted by write, and the CAS tokens of both servers matter. T may hold an old value:
//! the names on T are gone through first, then those on S.

use crate::queue::Queue;
use crate::search::{Model, Step};

const WRITERS: usize = 2;

#[derive(Clone, Copy)]
pub struct Copying {
    pub writers: usize,
    /// Writes each of them does.
    pub writes: u8,
    /// One of them may die at any time, and what it has not sent to T is lost.
    pub dies: bool,
    /// One writer at a time has writes under way.
    pub ordered: bool,
    /// T holds value 1 at the start, and S this one; else T is empty, and S holds 1.
    pub held: Option<u8>,
    pub rules: CopyRules,
}

/// Parts of the procedure, to show what they are for.
#[derive(Clone, Copy)]
pub struct CopyRules {
    /// T is written after S has answered.
    pub leader_first: bool,
    /// S is asked again after the `add`, and the copy is taken back if it has changed.
    pub verified: bool,
    /// The copy is taken back only if it still is the copier's own.
    pub own_only: bool,
    /// S is asked again after the `add`, not before it.
    pub asked_after: bool,
    /// What T holds is compared, T's names first.
    pub compared: bool,
    /// T is asked for what it holds before S is, when they are compared.
    pub target_first: bool,
}

impl Default for CopyRules {
    fn default() -> Self {
        CopyRules {
            leader_first: true,
            verified: true,
            own_only: true,
            asked_after: true,
            compared: true,
            target_first: true,
        }
    }
}

/// The key on one server; value 0: it is not there. `token`: the last CAS token that was given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Item {
    value: u8,
    cas: u8,
    token: u8,
}

impl Item {
    fn put(&mut self, value: u8) {
        self.token += 1;
        (self.value, self.cas) = (value, self.token);
    }

    fn remove(&mut self) {
        (self.value, self.cas) = (0, 0);
    }
}

/// What is still to be done for one write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Part {
    #[default]
    Nothing,
    /// T gets this value, or loses the key (a delete and a flush are alike for one key).
    Set(u8),
    Delete,
    /// A relative or conditional write: its state is read from S first.
    Fetch,
    /// Only with `leader_first` off: not yet carried out on S, T not either.
    Both(Sort, u8),
    /// As that, T has it already.
    LeaderOnly(Sort, u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Sort {
    Set,
    Delete,
    Change,
    Flush,
}

const SORTS: [Sort; 4] = [Sort::Set, Sort::Delete, Sort::Change, Sort::Flush];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Writer {
    written: u8,
    queue: Queue<Part>,
    dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Copier {
    #[default]
    Start,
    /// About to take the names on T, then on S.
    ListingTarget,
    ListingLeader,
    /// About to compare what both hold.
    Comparing,
    /// One of both has been asked: the value there, and the CAS token if it is T.
    Seen(u8, u8),
    /// Value and CAS token as fetched.
    Fetched(u8, u8),
    /// As that, and S has been asked again too early.
    AskedEarly(u8, bool),
    /// Added: the token on S as fetched, our own on T.
    Added(u8, u8),
    /// It changed on S: to be taken back, if T still has this token, and copied again if S has the key.
    TakingBack(u8, bool),
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Key {
    leader: Item,
    target: Item,
    writers: [Writer; WRITERS],
    copier: Copier,
    /// The name was on T, and has not been gone through as such.
    is_first_pass: bool,
    /// The name was on S.
    is_named: bool,
    last_value: u8,
    /// A write was cut short, so that it never was acknowledged.
    cut_short: bool,
}

impl Copying {
    /// The copy is made and nobody writes: both must hold the same, whatever comes later.
    fn is_quiet(&self, state: &Key) -> bool {
        state.copier == Copier::Done
            && state
                .writers
                .iter()
                .all(|each| each.dead || each.queue.is_empty())
    }

    fn step(&self, state: Key, label: String) -> Step<Key> {
        let differs =
            self.is_quiet(&state) && !state.cut_short && state.leader.value != state.target.value;
        let fault = differs.then(|| {
            format!(
                "when all is quiet S holds {} and T {} (0: nothing)",
                state.leader.value, state.target.value
            )
        });
        Step {
            state,
            label,
            fault,
        }
    }

    /// Carries a write out on S; what follows for T.
    fn on_leader(&self, state: &mut Key, sort: Sort, value: u8) -> Part {
        match sort {
            Sort::Set => state.leader.put(value),
            Sort::Change if state.leader.value > 0 => state.leader.put(value),
            Sort::Change => {}
            Sort::Delete | Sort::Flush => state.leader.remove(),
        }
        match sort {
            Sort::Set => Part::Set(value),
            Sort::Change => Part::Fetch,
            Sort::Delete | Sort::Flush => Part::Delete,
        }
    }

    fn on_target(state: &mut Key, part: Part) {
        match part {
            Part::Set(value) => state.target.put(value),
            _ => state.target.remove(),
        }
    }

    fn writer_steps(&self, state: &Key, at: usize, steps: &mut Vec<Step<Key>>) {
        let writer = state.writers[at];
        if writer.dead {
            return;
        }
        let is_other_busy =
            (0..self.writers).any(|other| other != at && !state.writers[other].queue.is_empty());
        let has_room = writer.queue.has_room();
        if writer.written < self.writes && has_room && !(self.ordered && is_other_busy) {
            for sort in SORTS {
                let mut next = *state;
                next.last_value += 1;
                let value = next.last_value;
                next.writers[at].written += 1;
                let (part, place) = if self.rules.leader_first {
                    (self.on_leader(&mut next, sort, value), "S answers")
                } else {
                    (Part::Both(sort, value), "sends")
                };
                next.writers[at].queue.push(part);
                let verb = match sort {
                    Sort::Set => "set",
                    Sort::Delete => "delete",
                    Sort::Change => "change",
                    Sort::Flush => "flush",
                };
                steps.push(self.step(next, format!("{place} p{at}'s {verb} {value}")));
            }
        }
        let mut next = *state;
        match writer.queue.front() {
            Part::Nothing => {}
            Part::Fetch => {
                let value = state.leader.value;
                next.writers[at].queue.set_front(if value > 0 {
                    Part::Set(value)
                } else {
                    Part::Delete
                });
                steps.push(self.step(next, format!("p{at} reads {value} from S")));
            }
            Part::Both(sort, value) => {
                let part = self.on_leader(&mut next, sort, value);
                next.writers[at].queue.set_front(part);
                steps.push(self.step(next, format!("S carries out p{at}'s {value}")));
                if sort != Sort::Change {
                    let mut early = *state;
                    Self::on_target(
                        &mut early,
                        if sort == Sort::Set {
                            Part::Set(value)
                        } else {
                            Part::Delete
                        },
                    );
                    early.writers[at]
                        .queue
                        .set_front(Part::LeaderOnly(sort, value));
                    steps.push(self.step(early, format!("T carries out p{at}'s {value} before S")));
                }
            }
            Part::LeaderOnly(sort, value) => {
                self.on_leader(&mut next, sort, value);
                next.writers[at].queue.shift();
                steps.push(self.step(next, format!("S carries out p{at}'s {value}, acknowledged")));
            }
            part => {
                Self::on_target(&mut next, part);
                next.writers[at].queue.shift();
                let label = if let Part::Set(value) = part {
                    format!("T sets {value} for p{at}, acknowledged")
                } else {
                    format!("T deletes for p{at}, acknowledged")
                };
                steps.push(self.step(next, label));
            }
        }
        if self.dies && !state.writers.iter().any(|each| each.dead) {
            let mut next = *state;
            next.cut_short |= !writer.queue.is_empty();
            next.writers[at] = Writer {
                dead: true,
                ..Writer::default()
            };
            steps.push(self.step(next, format!("p{at} is killed")));
        }
    }

    fn add(&self, next: &mut Key, value: u8, after: impl Fn(u8) -> Copier) -> &'static str {
        if next.target.value > 0 {
            if self.rules.compared {
                next.copier = Copier::Comparing;
            } else {
                Self::finish(next);
            }
            return "finds T written already";
        }
        next.target.put(value);
        next.copier = after(next.target.cas);
        "adds it on T"
    }

    /// Nothing is left to do for the name: once more if S had it too.
    fn finish(next: &mut Key) {
        next.copier = if next.is_first_pass && next.is_named {
            Copier::Start
        } else {
            Copier::Done
        };
        next.is_first_pass = false;
    }

    /// T's value and token, and S's value, have been seen.
    fn compare(next: &mut Key, held: u8, token: u8, leader: u8) {
        if held == 0 {
            next.copier = Copier::Start;
        } else if held == leader {
            Self::finish(next);
        } else {
            next.copier = Copier::TakingBack(token, leader > 0);
        }
    }

    fn copier_step(&self, state: &Key, steps: &mut Vec<Step<Key>>) {
        let mut next = *state;
        let leader = state.leader;
        let label = match state.copier {
            Copier::Done => return,
            Copier::ListingTarget => {
                next.is_first_pass = self.rules.compared && state.target.value > 0;
                next.copier = Copier::ListingLeader;
                "takes the names on T".to_string()
            }
            Copier::ListingLeader => {
                next.is_named = leader.value > 0;
                next.copier = match (next.is_first_pass, next.is_named) {
                    (true, _) => Copier::Comparing,
                    (false, true) => Copier::Start,
                    (false, false) => Copier::Done,
                };
                "takes the names on S".to_string()
            }
            Copier::Comparing if self.rules.target_first => {
                next.copier = Copier::Seen(state.target.value, state.target.cas);
                format!("sees {} on T", state.target.value)
            }
            Copier::Comparing => {
                next.copier = Copier::Seen(leader.value, 0);
                format!("sees {} on S", leader.value)
            }
            Copier::Seen(held, token) if self.rules.target_first => {
                Self::compare(&mut next, held, token, leader.value);
                format!("compares it with {} on S", leader.value)
            }
            Copier::Seen(on_leader, _) => {
                let target = state.target;
                Self::compare(&mut next, target.value, target.cas, on_leader);
                format!("compares it with {} on T", target.value)
            }
            Copier::Start if leader.value == 0 => {
                Self::finish(&mut next);
                "finds nothing on S".to_string()
            }
            Copier::Start => {
                next.copier = Copier::Fetched(leader.value, leader.cas);
                format!("fetches {} from S", leader.value)
            }
            Copier::Fetched(value, cas) if self.rules.verified && !self.rules.asked_after => {
                next.copier = Copier::AskedEarly(value, leader.cas == cas);
                "asks S again".to_string()
            }
            Copier::Fetched(value, cas) => {
                let verified = self.rules.verified;
                let after = |own| {
                    if verified {
                        Copier::Added(cas, own)
                    } else {
                        Copier::Done
                    }
                };
                self.add(&mut next, value, after).to_string()
            }
            Copier::AskedEarly(value, is_same) if is_same => {
                self.add(&mut next, value, |_| Copier::Done).to_string()
            }
            Copier::AskedEarly(..) => {
                next.copier = Copier::Start;
                "begins again".to_string()
            }
            Copier::Added(cas, own) => {
                let is_same = leader.value > 0 && leader.cas == cas;
                if is_same {
                    Self::finish(&mut next);
                } else {
                    next.copier = Copier::TakingBack(own, leader.value > 0);
                }
                format!(
                    "asks S again, which has {}",
                    if is_same { "the same" } else { "another" }
                )
            }
            Copier::TakingBack(own, again) => {
                let is_own = state.target.value > 0 && state.target.cas == own;
                let takes = is_own || !self.rules.own_only;
                if takes {
                    next.target.remove();
                }
                if again && takes {
                    next.copier = Copier::Start;
                } else {
                    Self::finish(&mut next);
                }
                if takes {
                    "takes its copy back from T"
                } else {
                    "finds T written since"
                }
                .to_string()
            }
        };
        steps.push(self.step(next, format!("the copier {label}")));
    }
}

impl Model for Copying {
    type State = Key;

    fn initial(&self) -> Key {
        let mut state = Key {
            last_value: 2,
            ..Key::default()
        };
        if let Some(on_leader) = self.held {
            state.copier = Copier::ListingTarget;
            state.target.put(1);
            if on_leader > 0 {
                state.leader.put(on_leader);
            }
        } else {
            state.leader.put(1);
        }
        state
    }

    fn steps(&self, state: &Key, _labelled: bool) -> Vec<Step<Key>> {
        let mut steps = Vec::new();
        for at in 0..self.writers {
            self.writer_steps(state, at, &mut steps);
        }
        self.copier_step(state, &mut steps);
        steps
    }

    fn canonical(&self, state: Key) -> (Key, bool) {
        (state, false)
    }

    fn swapped(&self, label: &str) -> String {
        label.to_string()
    }
}
