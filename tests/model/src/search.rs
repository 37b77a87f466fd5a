//! Breadth-first search of all states a model can reach, and the shortest way to a broken one.
//!
//! Knows nothing of what is modelled. Visited states are kept as 64-bit hashes, so that ten millions fit into
//! a few hundred megabytes; the chance that two of them share a hash and one is overlooked is below 1 in 100 000.
//! A way is found again by repeating the steps, so that no state has to be kept for it.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What can happen next: the state after it, and the promise that it breaks.
pub struct Step<S> {
    pub state: S,
    pub label: String,
    pub fault: Option<String>,
}

pub trait Model {
    type State: Clone + Hash;

    fn initial(&self) -> Self::State;

    /// All steps from a state, always in the same order. Labels only if `labelled`: they are most of the work.
    fn steps(&self, state: &Self::State, labelled: bool) -> Vec<Step<Self::State>>;

    /// The one of all equivalent states that stands for them, and whether names were swapped for it.
    fn canonical(&self, state: Self::State) -> (Self::State, bool);

    /// A label with those names swapped.
    fn swapped(&self, label: &str) -> String;
}

pub struct Found {
    pub states: usize,
    pub depth: usize,
    /// The promise that is broken, and the way there.
    pub fault: Option<(String, Vec<String>)>,
    /// False if the limit was reached first.
    pub complete: bool,
}

/// Hashes are spread already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are kept")
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// For states, which are hundreds of small numbers: eight of them at a time, by the two halves of a product.
#[derive(Default)]
pub struct Mixer {
    word: u64,
    bytes: u32,
    mixed: u64,
}

impl Mixer {
    fn mix(&mut self) {
        let left = u128::from(self.word ^ 0x9e37_79b9_7f4a_7c15);
        let product = left * u128::from(self.mixed ^ 0xd6e8_feb8_6659_fd93);
        self.mixed = product as u64 ^ (product >> 64) as u64;
        self.word = 0;
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mut last = Mixer { ..*self };
        last.mix();
        last.word = u64::from(self.bytes);
        last.mix();
        last.mixed
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }
    fn write_u8(&mut self, byte: u8) {
        self.word = self.word << 8 | u64::from(byte);
        self.bytes += 1;
        if self.bytes.is_multiple_of(8) {
            self.mix();
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.word ^= value;
        self.bytes += 8;
        self.mix();
    }
    /// Lengths and discriminants: small.
    fn write_usize(&mut self, value: usize) {
        self.write_u8(value as u8);
    }
    fn write_isize(&mut self, value: isize) {
        self.write_u8(value as u8);
    }
}

pub fn hash<S: Hash>(state: &S) -> u64 {
    let mut hasher = Mixer::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Visits states nearest first until one is broken, none within `deepest` steps is left, or `limit` of them were seen.
pub fn search<M: Model>(model: &M, limit: usize, deepest: usize) -> Found {
    let (start, _) = model.canonical(model.initial());
    let mut seen: HashSet<u64, BuildHasherDefault<AsItIs>> = HashSet::default();
    seen.insert(hash(&start));
    // By state in the order of discovery: whose step it was, and which.
    let mut parents: Vec<(u32, u16)> = vec![(0, 0)];
    let mut frontier = vec![(start, 0u32)];
    let mut depth = 0;
    while !frontier.is_empty() && depth < deepest {
        depth += 1;
        let mut following = Vec::new();
        for (state, id) in &frontier {
            for (number, step) in model.steps(state, false).into_iter().enumerate() {
                if let Some(fault) = step.fault {
                    let trace = retrace(model, &parents, *id, number as u16);
                    let states = parents.len();
                    return Found {
                        states,
                        depth,
                        fault: Some((fault, trace)),
                        complete: true,
                    };
                }
                let (after, _) = model.canonical(step.state);
                if seen.insert(hash(&after)) {
                    following.push((after, parents.len() as u32));
                    parents.push((*id, number as u16));
                }
            }
        }
        if parents.len() > limit {
            return Found {
                states: parents.len(),
                depth,
                fault: None,
                complete: false,
            };
        }
        frontier = following;
    }
    Found {
        states: parents.len(),
        depth,
        fault: None,
        complete: true,
    }
}

/// The labels of the way to state `id` and of its step `last`, with the names of the initial state.
fn retrace<M: Model>(model: &M, parents: &[(u32, u16)], id: u32, last: u16) -> Vec<String> {
    let mut numbers = vec![last];
    let mut at = id;
    while at != 0 {
        let (parent, number) = parents[at as usize];
        numbers.push(number);
        at = parent;
    }
    numbers.reverse();
    let (mut state, mut is_swapped) = model.canonical(model.initial());
    let mut labels = Vec::new();
    for number in numbers {
        let step = model.steps(&state, true).swap_remove(number as usize);
        labels.push(if is_swapped {
            model.swapped(&step.label)
        } else {
            step.label
        });
        let (after, swaps) = model.canonical(step.state);
        state = after;
        is_swapped ^= swaps;
    }
    labels
}
