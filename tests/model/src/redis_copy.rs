//! Copying one key of Redis from the leader S to the joining T, while writers go on and copiers die: `add`, then
//! verification, and comparison with what T may hold that did not come behind S's (`proxy.control.redis_copying`).
//!
//! Values are compared, where Memcached has tokens, so a writer may bring back what was there before. What T holds
//! may look different where it is equal (DUMP has no canonical form). Each server has its own clock: there is one
//! moment at which a key with an expiry goes, and S and T come to it in any order.

use crate::queue::Queue;
use crate::redis_copier::{Copier, Deed};
use crate::search::{Model, Step};

const WRITERS: usize = 2;
pub const COPIERS: usize = 2;

#[derive(Clone, Copy)]
pub struct RedisCopying {
    pub writers: usize,
    /// Writes each of them does.
    pub writes: u8,
    /// One writer at a time has writes under way; else each orders its own only.
    pub ordered: bool,
    /// A writer may die at any time, and what it has not sent to T is lost.
    pub dies: bool,
    /// The second writer has not heard that T joins, and writes to S alone until it does.
    pub unaware: bool,
    /// What the second copier goes on with.
    pub takeover: Takeover,
    /// Exchanges of a copier with T that may break off: the request may still be carried out, at any time.
    pub breaks: u8,
    pub rules: RedisCopyRules,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    Never,
    /// The first has died.
    OfDead,
    /// The first may have died, or be slow and go on.
    OfSlow,
}

/// Parts of the procedure, to show what they are for.
#[derive(Clone, Copy)]
pub struct RedisCopyRules {
    /// T is written after S has answered.
    pub leader_first: bool,
    /// The copier's requests WATCH the record and the token on T.
    pub watched: bool,
    /// Behind an exchange that broke off another token is drawn.
    pub redraws: bool,
    /// Who goes on with what another began has a new view recorded first.
    pub renews: bool,
    /// S is asked again after the copy, and the copy is removed if it has changed.
    pub verified: bool,
    /// RESTORE without REPLACE.
    pub adds: bool,
    /// What stands on T, and may not have come behind S's, is compared.
    pub compares: bool,
    /// T is looked at before S, when they are compared.
    pub target_first: bool,
    /// One that stood on T and is gone when it is compared counts as different from what S has.
    pub expects: bool,
    /// The names on T are gone through, before those on S.
    pub names: Names,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Only those on S.
    Leaders,
    /// Those on T that S does not have.
    Missing,
    /// All on T.
    All,
}

impl Default for RedisCopyRules {
    fn default() -> Self {
        RedisCopyRules {
            leader_first: true,
            watched: true,
            redraws: true,
            renews: true,
            verified: true,
            adds: true,
            compares: true,
            target_first: true,
            expects: true,
            names: Names::All,
        }
    }
}

/// What a key holds; value 0: it is not there. `expires`: at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Held {
    pub value: u8,
    pub expires: bool,
}

pub const NOTHING: Held = Held {
    value: 0,
    expires: false,
};

/// One server, of which the key and the clock matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Server {
    pub key: Held,
    pub is_past: bool,
}

impl Server {
    pub fn put(&mut self, held: Held) {
        self.key = if held.expires && self.is_past {
            NOTHING
        } else {
            held
        };
    }

    fn pass_moment(&mut self) {
        self.is_past = true;
        self.put(self.key);
    }
}

/// What is still to be done for one write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Part {
    #[default]
    Nothing,
    /// T gets this: the request itself, or the state that S's transaction showed; or loses the key.
    Give(Held),
    /// The same for all keys, which touches the reserved ones.
    Flush,
    /// Only with `leader_first` off: T has it, S not yet.
    Leader(Sort),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sort {
    /// SET, with an expiry or without; leaves the same behind whatever was there.
    Set(Held),
    Delete,
    Flush,
    /// INCR, APPEND: what it leaves depends on what is there, and so does whether it expires.
    Change,
    /// EXPIRE, PERSIST.
    Expire(bool),
}

pub const fn held(value: u8, expires: bool) -> Held {
    Held { value, expires }
}

const SORTS: [Sort; 7] = [
    Sort::Set(held(1, false)),
    Sort::Set(held(2, true)),
    Sort::Delete,
    Sort::Flush,
    Sort::Change,
    Sort::Expire(true),
    Sort::Expire(false),
];

impl Sort {
    /// What the key holds after it.
    fn on(self, before: Held) -> Held {
        match self {
            Sort::Set(held) => held,
            Sort::Delete | Sort::Flush => NOTHING,
            Sort::Change => held(before.value % 2 + 1, before.expires),
            Sort::Expire(_) if before.value == 0 => NOTHING,
            Sort::Expire(expires) => held(before.value, expires),
        }
    }

    fn word(self) -> String {
        match self {
            Sort::Set(held) => format!("set to {held}"),
            Sort::Delete => "delete".to_string(),
            Sort::Flush => "flush".to_string(),
            Sort::Change => "change".to_string(),
            Sort::Expire(true) => "expire".to_string(),
            Sort::Expire(false) => "persist".to_string(),
        }
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.value, self.expires) {
            (0, _) => write!(out, "nothing"),
            (value, true) => write!(out, "{value} (expires)"),
            (value, false) => write!(out, "{value}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Writer {
    pub written: u8,
    pub queue: Queue<Part>,
    pub dead: bool,
    pub unaware: bool,
}

/// A change of T's on its way whose sender has stopped waiting, and what it watched.
type Late = Option<(Deed, u8)>;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pair {
    pub leader: Server,
    pub target: Server,
    pub writers: [Writer; WRITERS],
    pub copiers: [Copier; COPIERS],
    /// The view that lists T as joining; and the one recorded on T.
    pub view: u8,
    pub record: u8,
    /// On T, 0: none; and how many were drawn.
    pub token: u8,
    pub tokens: u8,
    /// Rises with each change of the record or the token on T.
    pub touched: u8,
    pub is_in_sync: bool,
    pub late: Late,
    pub breaks: u8,
    /// A write was cut short, so that it never was acknowledged, and nobody has written since.
    pub cut_short: bool,
}

impl RedisCopying {
    pub fn step(&self, mut state: Pair, label: String) -> Step<Pair> {
        for copier in &mut state.copiers {
            copier.steady[0] &= state.leader.key.value > 0;
            copier.steady[1] &= state.target.key.value > 0;
        }
        let is_quiet = state
            .writers
            .iter()
            .all(|each| each.dead || each.queue.is_empty());
        // Where one of the clocks is behind, the key will yet expire there.
        let is_alike = state.leader.is_past == state.target.is_past;
        let differs = state.leader.key != state.target.key;
        let is_wrong = state.is_in_sync && is_quiet && is_alike && differs && !state.cut_short;
        let fault = is_wrong.then(|| {
            format!(
                "T is in sync and quiet, S holds {} and T {}",
                state.leader.key, state.target.key
            )
        });
        Step {
            state,
            label,
            fault,
        }
    }

    fn clock_steps(&self, state: &Pair, steps: &mut Vec<Step<Pair>>) {
        if !state.leader.is_past {
            let mut next = *state;
            next.leader.pass_moment();
            steps.push(self.step(next, "the moment comes on S".to_string()));
        }
        if !state.target.is_past {
            let mut next = *state;
            next.target.pass_moment();
            steps.push(self.step(next, "the moment comes on T".to_string()));
        }
    }

    fn on_leader(state: &mut Pair, sort: Sort) -> Part {
        state.leader.put(sort.on(state.leader.key));
        match sort {
            Sort::Flush => Part::Flush,
            Sort::Set(held) => Part::Give(held),
            _ => Part::Give(state.leader.key),
        }
    }

    fn on_target(state: &mut Pair, part: Part) {
        match part {
            Part::Give(held) => state.target.put(held),
            Part::Flush => {
                state.target.key = NOTHING;
                state.touched += 1;
            }
            Part::Nothing | Part::Leader(_) => {}
        }
        state.cut_short = false;
    }

    fn writer_steps(&self, state: &Pair, at: usize, steps: &mut Vec<Step<Pair>>) {
        let writer = state.writers[at];
        if writer.dead {
            return;
        }
        if writer.unaware {
            let mut next = *state;
            next.writers[at].unaware = false;
            steps.push(self.step(next, format!("p{at} hears that T joins")));
        }
        let is_other_busy =
            (0..self.writers).any(|other| other != at && !state.writers[other].queue.is_empty());
        let has_room = writer.queue.has_room();
        if writer.written < self.writes && has_room && !(self.ordered && is_other_busy) {
            for sort in SORTS {
                self.begin_write(state, at, sort, steps);
            }
        }
        let mut next = *state;
        match writer.queue.front() {
            Part::Nothing => {}
            Part::Leader(sort) => {
                Self::on_leader(&mut next, sort);
                next.writers[at].queue.shift();
                let label = format!("S carries out p{at}'s {}, acknowledged", sort.word());
                steps.push(self.step(next, label));
            }
            part => {
                Self::on_target(&mut next, part);
                next.writers[at].queue.shift();
                let label = match part {
                    Part::Give(held) => format!("T gets {held} for p{at}, acknowledged"),
                    _ => format!("T flushes for p{at}, acknowledged"),
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

    fn begin_write(&self, state: &Pair, at: usize, sort: Sort, steps: &mut Vec<Step<Pair>>) {
        let mut next = *state;
        next.writers[at].written += 1;
        let part = Self::on_leader(&mut next, sort);
        let word = sort.word();
        if state.writers[at].unaware {
            let label = format!("S carries out p{at}'s {word}, acknowledged");
            return steps.push(self.step(next, label));
        }
        next.writers[at].queue.push(part);
        steps.push(self.step(next, format!("S carries out p{at}'s {word}")));
        if !self.rules.leader_first && matches!(sort, Sort::Set(_) | Sort::Delete) {
            let mut early = *state;
            early.writers[at].written += 1;
            Self::on_target(&mut early, Part::Give(sort.on(NOTHING)));
            early.writers[at].queue.push(Part::Leader(sort));
            let label = format!("T carries out p{at}'s {word} before S");
            steps.push(self.step(early, label));
        }
    }
}

impl Model for RedisCopying {
    type State = Pair;

    fn initial(&self) -> Pair {
        let mut state = Pair {
            view: 1,
            record: 1,
            ..Pair::default()
        };
        state.copiers[0].view = 1;
        state.leader.put(held(1, false));
        state.writers[1].unaware = self.unaware;
        state
    }

    fn steps(&self, state: &Pair, _labelled: bool) -> Vec<Step<Pair>> {
        let mut steps = Vec::new();
        self.clock_steps(state, &mut steps);
        for at in 0..self.writers {
            self.writer_steps(state, at, &mut steps);
        }
        for at in 0..COPIERS {
            self.copier_steps(state, at, &mut steps);
        }
        self.late_step(state, &mut steps);
        steps
    }

    fn canonical(&self, state: Pair) -> (Pair, bool) {
        (state, false)
    }

    fn swapped(&self, label: &str) -> String {
        label.to_string()
    }
}
