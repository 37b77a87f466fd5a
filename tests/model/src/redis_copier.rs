//! The copier of `redis_copy`: `proxy.tasks.redis_copying`, a request at a time.

use crate::redis_copy::{Held, Names, Pair, RedisCopying, Takeover, Writer, COPIERS, NOTHING};
use crate::search::Step;

/// What a copier changes on T.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deed {
    Restore(Held),
    Remove,
    /// Removes the token.
    Finish,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stage {
    /// Not begun.
    #[default]
    Waiting,
    /// Its new view is recorded on S, and not on T yet.
    Renewing,
    /// Until every proxy feeds T.
    Settling,
    ScanTarget,
    /// T has the key: does S?
    AskLeader,
    ScanLeader,
    Fetch,
    /// It WATCHes and looks at the record and the token, to do this.
    Look(Deed),
    /// They were right; what was watched then.
    Ready(Deed, u8),
    /// Added as fetched.
    Verify(Held),
    /// It may not have come behind S's; `true`: it stood there a moment ago.
    Compare(bool),
    /// T holds this.
    CompareLeader(Held),
    /// With `target_first` off: S holds this.
    CompareTarget(Held),
    Admit,
    /// It gave up, died, or is done.
    Over,
}

/// Where the names that are gone through come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pass {
    #[default]
    Target,
    Leader,
    /// Those to be copied again.
    Again,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Copier {
    pub stage: Stage,
    pub pass: Pass,
    pub view: u8,
    /// Its token; 0: to be drawn.
    pub token: u8,
    /// To be copied again, in the end.
    pub again: bool,
    /// The batch broke off (`Doubts.add`).
    pub doubted: bool,
    /// S and T have had the key ever since their names began to be gone through: SCAN does not miss it.
    pub steady: [bool; 2],
}

impl RedisCopying {
    pub fn copier_steps(&self, state: &Pair, at: usize, steps: &mut Vec<Step<Pair>>) {
        let copier = state.copiers[at];
        match copier.stage {
            Stage::Waiting if at == 0 => {
                self.move_to(state, at, Stage::Settling, "begins", steps);
            }
            Stage::Waiting => return self.take_over(state, steps),
            Stage::Over => return,
            _ => self.work(state, at, steps),
        }
        let others_follow = at + 1 < COPIERS && self.takeover != Takeover::Never;
        if others_follow && copier.stage != Stage::Waiting {
            let mut next = *state;
            if let Stage::Ready(deed, touched) = copier.stage {
                next.late = Some((deed, touched));
            }
            self.move_to(&next, at, Stage::Over, "dies", steps);
        }
    }

    fn take_over(&self, state: &Pair, steps: &mut Vec<Step<Pair>>) {
        let first = state.copiers[0].stage;
        let may = match self.takeover {
            Takeover::Never => false,
            Takeover::OfDead => first == Stage::Over,
            Takeover::OfSlow => first != Stage::Waiting,
        };
        if !may || state.is_in_sync {
            return;
        }
        let mut next = *state;
        next.view += u8::from(self.rules.renews);
        next.copiers[1] = Copier {
            stage: Stage::Renewing,
            view: next.view,
            ..Copier::default()
        };
        steps.push(self.step(next, "copier 1 takes over".to_string()));
    }

    fn move_to(
        &self,
        state: &Pair,
        at: usize,
        stage: Stage,
        verb: &str,
        steps: &mut Vec<Step<Pair>>,
    ) {
        let mut next = *state;
        next.copiers[at].stage = stage;
        steps.push(self.step(next, format!("copier {at} {verb}")));
    }

    /// The next step of a copier at work.
    fn work(&self, state: &Pair, at: usize, steps: &mut Vec<Step<Pair>>) {
        let copier = state.copiers[at];
        let (leader, target) = (state.leader.key, state.target.key);
        let mut next = *state;
        let mut label = String::new();
        let mut go = |stage: Stage, text: String| {
            next.copiers[at].stage = stage;
            label = text;
        };
        match copier.stage {
            Stage::Waiting | Stage::Over => return,
            Stage::Renewing => {
                go(Stage::Settling, "has its view recorded on T".to_string());
                next.touched += u8::from(next.record != copier.view);
                next.record = copier.view;
            }
            Stage::Settling => {
                let is_fed = |each: &Writer| each.dead || !each.unaware;
                if !state.writers[..self.writers].iter().all(is_fed) {
                    return;
                }
                let first = match self.rules.names {
                    Names::Leaders => Stage::ScanLeader,
                    _ => Stage::ScanTarget,
                };
                next.copiers[at].pass = match first {
                    Stage::ScanTarget => Pass::Target,
                    _ => Pass::Leader,
                };
                next.copiers[at].steady = [true; 2];
                return self.draw(next, at, first, steps);
            }
            Stage::ScanTarget => {
                let found = match self.rules.names {
                    Names::All => Stage::Compare(true),
                    _ => Stage::AskLeader,
                };
                if !copier.steady[1] {
                    self.move_to(state, at, Stage::ScanLeader, "finds no name on T", steps);
                }
                if target.value == 0 {
                    return;
                }
                go(found, "finds the name on T".to_string());
            }
            Stage::AskLeader => match leader.value {
                0 => go(Stage::Fetch, "finds that S lacks it".to_string()),
                _ => go(Stage::ScanLeader, "finds that S has it".to_string()),
            },
            Stage::ScanLeader => {
                next.copiers[at].pass = Pass::Leader;
                if !copier.steady[0] {
                    let mut missed = next;
                    self.end_batch(&mut missed, at);
                    steps.push(self.step(missed, format!("copier {at} finds no name on S")));
                }
                if leader.value == 0 {
                    return;
                }
                next.copiers[at].stage = Stage::Fetch;
                label = "finds the name on S".to_string();
            }
            Stage::Fetch if copier.token == 0 => return self.draw(next, at, Stage::Fetch, steps),
            Stage::Fetch => {
                label = format!("fetches {leader} from S");
                if leader.value > 0 {
                    next.copiers[at].stage = Stage::Look(Deed::Restore(leader));
                } else if self.may_be_wrong(&copier) {
                    next.copiers[at].stage = Stage::Compare(false);
                } else {
                    self.end_batch(&mut next, at);
                }
            }
            Stage::Look(_) | Stage::Compare(_) if copier.token == 0 => {
                return self.draw(next, at, copier.stage, steps);
            }
            Stage::Look(deed) => {
                let is_ours = state.record == copier.view && state.token == copier.token;
                if self.rules.watched && !is_ours {
                    go(
                        Stage::Over,
                        "finds that T is not its own, and gives up".to_string(),
                    );
                } else {
                    go(Stage::Ready(deed, state.touched), "looks at T".to_string());
                }
            }
            Stage::Ready(deed, touched) => return self.change(state, at, deed, touched, steps),
            Stage::Verify(fetched) => {
                label = format!("asks S again, which has {leader}");
                if leader == fetched {
                    self.end_batch(&mut next, at);
                } else {
                    next.copiers[at].stage = Stage::Look(Deed::Remove);
                }
            }
            Stage::Compare(_) if !self.rules.target_first => {
                go(
                    Stage::CompareTarget(leader),
                    format!("asks S, which has {leader}"),
                );
            }
            Stage::Compare(expected) => {
                label = format!("asks T, which has {target}");
                if target.value > 0 || (expected && self.rules.expects) {
                    next.copiers[at].stage = Stage::CompareLeader(target);
                } else {
                    self.end_batch(&mut next, at);
                }
            }
            Stage::CompareLeader(one) => return self.judge(state, at, one, leader, "S", steps),
            Stage::CompareTarget(one) => return self.judge(state, at, one, target, "T", steps),
            Stage::Admit => {
                let is_same = state.view == copier.view && state.record == copier.view;
                next.is_in_sync = is_same;
                next.record += u8::from(is_same);
                next.view = next.record.max(next.view);
                next.touched += u8::from(is_same);
                let verb = if is_same {
                    "has T admitted"
                } else {
                    "finds another view, and gives up"
                };
                go(Stage::Over, verb.to_string());
            }
        }
        steps.push(self.step(next, format!("copier {at} {label}")));
    }

    /// T's key may hold what did not come behind S's (`Doubts`), and that was not looked at yet.
    fn may_be_wrong(&self, copier: &Copier) -> bool {
        let is_first = self.rules.names != Names::All && copier.pass != Pass::Again;
        self.rules.compares && (is_first || copier.doubted)
    }

    /// One and the other are what two servers were seen to hold; what is equal may look different.
    fn judge(
        &self,
        state: &Pair,
        at: usize,
        one: Held,
        other: Held,
        server: &str,
        steps: &mut Vec<Step<Pair>>,
    ) {
        if one.value > 0 || one != other {
            let mut next = *state;
            next.copiers[at].stage = Stage::Look(Deed::Remove);
            let label = format!("copier {at} asks {server}, and takes it for different");
            steps.push(self.step(next, label));
        }
        if one == other {
            let mut next = *state;
            self.end_batch(&mut next, at);
            steps.push(self.step(
                next,
                format!("copier {at} asks {server}, and finds it equal"),
            ));
        }
    }

    fn draw(&self, mut next: Pair, at: usize, then: Stage, steps: &mut Vec<Step<Pair>>) {
        let copier = &mut next.copiers[at];
        if self.rules.watched && next.record != copier.view {
            copier.stage = Stage::Over;
            return steps.push(self.step(next, format!("copier {at} finds another view on T")));
        }
        next.tokens += 1;
        next.touched += 1;
        next.token = next.tokens;
        copier.token = next.tokens;
        copier.stage = then;
        steps.push(self.step(next, format!("copier {at} draws a token")));
    }

    /// EXEC, as long as nothing that was watched has changed.
    fn change(
        &self,
        state: &Pair,
        at: usize,
        deed: Deed,
        touched: u8,
        steps: &mut Vec<Step<Pair>>,
    ) {
        let mut next = *state;
        if self.rules.watched && touched != state.touched {
            let verb = "finds that somebody changed what it watches, and gives up";
            return self.move_to(state, at, Stage::Over, verb, steps);
        }
        if self.breaks > state.breaks {
            let mut broken = *state;
            broken.breaks += 1;
            broken.late = Some((deed, touched));
            let copier = &mut broken.copiers[at];
            copier.doubted = true;
            copier.token *= u8::from(!self.rules.redraws);
            copier.stage = match (deed, copier.pass, self.rules.names) {
                (Deed::Finish, ..) => Stage::Look(deed),
                (_, Pass::Target, Names::All) => Stage::Compare(true),
                _ => Stage::Fetch,
            };
            steps.push(self.step(broken, format!("copier {at} waits for T in vain")));
        }
        let is_there = state.target.key.value > 0 && self.rules.adds;
        let label = self.carry_out(&mut next, deed);
        match deed {
            Deed::Restore(fetched) if !is_there => {
                if self.rules.verified {
                    next.copiers[at].stage = Stage::Verify(fetched);
                } else {
                    self.end_batch(&mut next, at);
                }
            }
            Deed::Restore(_) if self.may_be_wrong(&state.copiers[at]) => {
                next.copiers[at].stage = Stage::Compare(true);
            }
            Deed::Restore(_) => self.end_batch(&mut next, at),
            Deed::Remove => {
                next.copiers[at].again = true;
                self.end_batch(&mut next, at);
            }
            Deed::Finish => next.copiers[at].stage = Stage::Admit,
        }
        steps.push(self.step(next, format!("copier {at} {label}")));
    }

    /// The change itself, on T.
    fn carry_out(&self, next: &mut Pair, deed: Deed) -> String {
        match deed {
            Deed::Restore(_) if next.target.key.value > 0 && self.rules.adds => {
                "finds T written already".to_string()
            }
            Deed::Restore(fetched) => {
                next.target.put(fetched);
                format!("restores {fetched} on T")
            }
            Deed::Remove => {
                next.target.key = NOTHING;
                "removes it from T".to_string()
            }
            Deed::Finish => {
                next.token = 0;
                next.touched += 1;
                "removes its token".to_string()
            }
        }
    }

    pub fn late_step(&self, state: &Pair, steps: &mut Vec<Step<Pair>>) {
        let Some((deed, touched)) = state.late else {
            return;
        };
        let mut next = *state;
        next.late = None;
        if self.rules.watched && touched != state.touched {
            return steps.push(self.step(next, "T finds what came late to be void".to_string()));
        }
        let label = self.carry_out(&mut next, deed);
        steps.push(self.step(next, format!("late, a copier {label}")));
    }

    /// The key is through, for now.
    fn end_batch(&self, next: &mut Pair, at: usize) {
        let copier = &mut next.copiers[at];
        copier.doubted = false;
        copier.stage = match copier.pass {
            Pass::Target => Stage::ScanLeader,
            _ if copier.again => Stage::Fetch,
            _ => Stage::Look(Deed::Finish),
        };
        if copier.stage == Stage::Fetch {
            copier.pass = Pass::Again;
            copier.again = false;
        }
    }
}
