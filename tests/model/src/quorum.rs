//! `views: majority` (`proxy.control.quorum`): who may go on, and which view comes first, by who has voted for what.

use crate::protocol::Config;
use crate::state::*;

impl Config {
    /// Backends that must take a view before it counts; 0 if as many as can be reached are enough.
    pub fn needed(&self) -> u32 {
        if self.majority {
            self.backends as u32 / 2 + 1
        } else {
            0
        }
    }

    /// Others may have gone on without those that it sees.
    pub fn is_outvoted(&self, knows: &Proxy) -> bool {
        knows.is_undecided || !self.hears_enough(knows)
    }

    /// Enough answer for a view to be elected, and enough of them have a record for a newer one to be known.
    pub fn hears_enough(&self, knows: &Proxy) -> bool {
        let answers = |at: &usize| knows.seen[*at] != SILENT;
        let shows = |at: &usize| answers(at) && knows.shown[*at].epoch > 0;
        let (all, needed) = (self.backends, self.needed() as usize);
        let is_known = knows.view.epoch == 0
            || !self.rules.hears
            || (0..all).filter(shows).count() > all - needed;
        !self.majority || ((0..all).filter(answers).count() >= needed && is_known)
    }

    /// `_Step._note_undecided`.
    pub fn note_undecided(&self, state: &mut State, proxy: usize) {
        let knows = &mut state.proxies[proxy];
        let is_known = self.majority && knows.view.epoch > 0 && self.elect(knows).is_some();
        let waits = knows.is_short || !knows.serves;
        knows.is_undecided = is_known && waits && self.rules.doubts;
        knows.has_failed &= is_known;
    }

    /// Who has lost its record may be given none but by a commit.
    pub fn must_be_readmitted(&self, knows: &Proxy, backend: u8) -> bool {
        let is_readmitted = knows.readmitted & 1 << backend != 0 && !self.needs_all();
        self.majority && self.rules.readmits && !is_readmitted
    }

    /// Where all votes are needed, one that lost its record may have voted for the epoch after that of the other.
    pub fn skips(&self, knows: &Proxy) -> bool {
        self.needs_all() && (0..self.backends).any(|at| knows.blank_life[at] > 0)
    }

    /// No view is elected without any of them.
    pub fn needs_all(&self) -> bool {
        self.needed() as usize == self.backends
    }

    /// Somebody waits for that, and there are enough others to do without its vote.
    pub fn can_be_readmitted(&self, knows: &Proxy) -> bool {
        let has_vote = |at: &usize| knows.seen[*at] != SILENT && knows.shown[*at].epoch > 0;
        let waits = |at: &usize| {
            knows.blank_life[*at] > 0
                && knows.seen[*at] != SILENT
                && self.must_be_readmitted(knows, *at as u8)
        };
        self.majority
            && (0..self.backends).filter(has_vote).count() as u32 + u32::from(self.needs_all())
                >= self.needed()
            && (0..self.backends).any(|at| waits(&at))
    }

    pub fn is_elected(&self, knows: &Proxy, view: View) -> bool {
        let votes = knows.shown[..self.backends].iter();
        let votes = votes.filter(|shown| **shown == view).count() as u32;
        view.epoch > knows.view.epoch && (votes >= self.needed() || !self.rules.elects)
    }

    /// `_Step._vote`: a newer view that somebody shows goes first. True if nothing of its own may be proposed.
    pub fn vote(&self, state: &mut State, proxy: usize) -> bool {
        if !self.majority {
            return false;
        }
        let knows = state.proxies[proxy];
        let Some(newer) = self.elect(&knows) else {
            return knows.is_short;
        };
        if knows.commit.view.epoch == 0 && !knows.is_short && newer.epoch <= self.epochs {
            self.propose(state, proxy, newer, false);
        }
        true
    }

    /// `proxy.control.quorum.elect`.
    fn elect(&self, knows: &Proxy) -> Option<View> {
        let votes = &knows.shown[..self.backends];
        let newest = votes.iter().map(|view| view.epoch).max().unwrap_or(0);
        if newest <= knows.view.epoch {
            return None;
        }
        let count = |view: &View| votes.iter().filter(|other| *other == view).count();
        let rivals = votes.iter().filter(|view| view.epoch == newest);
        let total = rivals.clone().count();
        let first = rivals.fold(View::default(), |best, view| {
            let is_more = count(view) > count(&best);
            if best.epoch == 0 || is_more || (count(view) == count(&best) && view.beats(&best)) {
                *view
            } else {
                best
            }
        });
        if self.skips(knows) {
            return Some(first.next(first.mask(), first.lead, &self.rules));
        }
        let can_win = votes.len() - (total - count(&first)) >= self.needed() as usize;
        if can_win && (self.rules.waits || total == count(&first)) {
            return Some(first);
        }
        Some(first.next(first.mask(), first.lead, &self.rules))
    }
}
