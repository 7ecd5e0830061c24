//! The queue: consumers asleep on a slot's futex or on the follow futex, with no time slices to save them.
//!
//! **Protocol.** A consumer reads `follow.seq`, looks for an item, and finding none CASes WAIT into the empty slot and
//! sleeps on the slot's word (the futex compares the word, so this is atomic); if WAIT is set already it is counted
//! in `follow` and sleeps on it at the sequence it read. A producer's claim CAS sees and clears WAIT, and if it was set wakes one sleeper
//! of the slot. Whoever leaves a sleep (item or timeout) passes the baton: `follow.seq += 1`, and if
//! others are counted wake one follower; the same step takes itself out of the count. A waker whose wake found nobody passes
//! it too.
//!
//! **Rules.** When all producers are done and no wake-up is under way, nobody sleeps beside an item. Everyone who can
//! take an item ends.
//!
//! **Left out.** Weak memory; deaths (recovery wakes all); the slots themselves: items are a count and WAIT is one bit.
//! Three items, three consumers, with and without consumers whose sleep may time out.
//!
//! | mutant | what it leaves out | caught |
//! |---|---|---|
//! | `NoBaton` | the baton of a consumer that leaves its sleep | always |
//! | `NoSequence` | the futex comparison of `follow.seq` | always |
//! | `NoCount` | that who sleeps on `follow` is counted | always |
//! | `NoFallback` | the baton of a waker that woke nobody | only with timeouts: without them the sleeper is there |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    NoBaton,
    NoSequence,
    NoCount,
    NoFallback,
}

#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub variant: Variant,
    pub timeouts: bool,
}

const CONSUMERS: usize = 3;
const ITEMS: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Consumer {
    /// About to read `follow.seq`; whether it has slept since its pop began.
    Start {
        slept: bool,
    },
    /// Has read it; about to look for an item.
    Look {
        seq: u8,
        slept: bool,
    },
    SlotAsleep,
    /// Found WAIT set; about to be counted, and then to sleep on `follow` if it is still at `seq`.
    Follow {
        seq: u8,
    },
    FollowAsleep,
    /// Has its item, or gave up; owes the baton.
    Baton,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    items: u8,
    wait: bool,
    follow: u8,
    /// Who is counted in `follow`.
    counted: [bool; CONSUMERS],
    to_push: u8,
    /// A producer saw WAIT and has not woken anyone yet.
    waking: bool,
    consumers: [Consumer; CONSUMERS],
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Push,
    /// The producer's wake on the slot, and the consumer it hits.
    WakeSlot(usize),
    /// Its wake hit nobody: the baton, to the given follower if any sleeps.
    WakeFallback(Option<usize>),
    Consume(usize),
    PassBaton(usize, Option<usize>),
    TimeOut(usize),
}

impl Wait {
    fn consume(&self, s: &State, who: usize) -> Option<State> {
        let mut t = s.clone();
        t.consumers[who] = match s.consumers[who] {
            Consumer::Start { slept } => Consumer::Look { seq: s.follow, slept },
            Consumer::Look { slept, .. } if s.items > 0 => {
                t.items -= 1;
                self.leave(slept)
            }
            Consumer::Look { .. } if !s.wait => {
                t.wait = true;
                Consumer::SlotAsleep
            }
            Consumer::Look { seq, .. } => Consumer::Follow { seq },
            Consumer::Follow { seq } if !s.counted[who] && self.variant != Variant::NoCount => {
                t.counted[who] = true;
                Consumer::Follow { seq }
            }
            Consumer::Follow { seq } if seq == s.follow || self.variant == Variant::NoSequence => {
                Consumer::FollowAsleep
            }
            Consumer::Follow { .. } => Consumer::Start { slept: true },
            _ => return None,
        };
        Some(t)
    }

    fn leave(&self, slept: bool) -> Consumer {
        if slept && self.variant != Variant::NoBaton { Consumer::Baton } else { Consumer::Done }
    }
}

impl State {
    /// Whom the baton that `passer` passes can wake.
    fn followers(&self, passer: Option<usize>) -> impl Iterator<Item = Option<usize>> {
        let others_counted = (0..CONSUMERS).any(|who| Some(who) != passer && self.counted[who]);
        let asleep = |who: &usize| self.consumers[*who] == Consumer::FollowAsleep && others_counted;
        let asleep: Vec<_> = (0..CONSUMERS).filter(asleep).collect();
        let nobody = asleep.is_empty().then_some(None);
        asleep.into_iter().map(Some).chain(nobody)
    }

    fn pass_baton(&mut self, to: Option<usize>) {
        self.follow += 1;
        if let Some(to) = to {
            self.consumers[to] = Consumer::Start { slept: true };
        }
    }
}

impl Model for Wait {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            items: 0,
            wait: false,
            follow: 0,
            counted: [false; CONSUMERS],
            to_push: ITEMS,
            waking: false,
            consumers: [Consumer::Start { slept: false }; CONSUMERS],
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.to_push > 0 && !s.waking {
            actions.push(Action::Push);
        }
        if s.waking {
            let sleepers = (0..CONSUMERS).filter(|who| s.consumers[*who] == Consumer::SlotAsleep);
            actions.extend(sleepers.map(Action::WakeSlot));
            if actions.is_empty() {
                actions.extend(s.followers(None).map(Action::WakeFallback));
            }
        }
        for who in 0..CONSUMERS {
            match s.consumers[who] {
                Consumer::Baton => actions.extend(s.followers(Some(who)).map(|to| Action::PassBaton(who, to))),
                Consumer::SlotAsleep | Consumer::FollowAsleep if self.timeouts => actions.push(Action::TimeOut(who)),
                _ => actions.push(Action::Consume(who)),
            }
        }
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        match action {
            Action::Push => {
                t.items += 1;
                t.to_push -= 1;
                t.waking = std::mem::take(&mut t.wait);
            }
            Action::WakeSlot(who) => {
                t.waking = false;
                t.consumers[who] = Consumer::Start { slept: true };
            }
            Action::WakeFallback(to) => {
                t.waking = false;
                if self.variant != Variant::NoFallback {
                    t.pass_baton(to);
                }
            }
            Action::Consume(who) => return self.consume(s, who),
            Action::PassBaton(who, to) => {
                t.pass_baton(to);
                t.counted[who] = false;
                t.consumers[who] = Consumer::Done;
            }
            Action::TimeOut(who) => t.consumers[who] = self.leave(true),
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Wait {
    fn broken(&self, s: &State) -> Option<&'static str> {
        let asleep = |c: &Consumer| matches!(c, Consumer::SlotAsleep | Consumer::FollowAsleep);
        let quiet = s.to_push == 0 && !s.waking && s.consumers.iter().all(|c| asleep(c) || *c == Consumer::Done);
        (quiet && s.items > 0 && s.consumers.iter().any(asleep)).then_some("a consumer sleeps beside an item")
    }

    fn finished(&self, s: &State) -> bool {
        let done = s.consumers.iter().all(|c| *c == Consumer::Done);
        s.to_push == 0 && !s.waking && done
    }
}
