//! The barrier: signatures in two sets of places, one state word, and parties that die, come late, or are too many.
//!
//! **Protocol.** A party reads the state; if it fills, it claims a free place of the epoch's set (by parity) with the
//! epoch's number, unless a signature of another epoch is there, and reads the state again: if the epoch has gone on, it
//! signs out. Whoever has signed in and finds the set full tries the CAS FILL → ACTION; the winner runs the action and
//! makes the CAS to the next epoch. A party that finds its epoch over reads from the state how it ended, and signs out.
//! Whoever waits and finds a party of its epoch dead breaks the epoch; so does a timeout. A reset begins a new epoch and
//! notes that the last was broken.
//!
//! **Rules.** An epoch is passed only if two parties had signed in for it, and its action ran once. A party that is told
//! that it passed, or not, is told the truth. Every party that lives ends.
//!
//! **Left out.** Weak memory; sleeping (a waiter looks again whenever it likes); the waiters' bit; recovery of the dead
//! process itself. A barrier of two, with a kill, a reset, or a third party that may be late by whole epochs.
//!
//! | mutant | what it leaves out | what goes wrong |
//! |---|---|---|
//! | `NoSecondLook` | the state read again after signing in | a party waits for an epoch that is long over |
//! | `NoTag` | the epoch in the signature | an epoch is passed by one party and somebody's old signature |
//! | `NoHistory` | how the last epoch ended | a party that was reset believes that it passed |
//! | `NoDeathCheck` | the look at the others' lives | the dead are waited for for ever |
//! | `LeavesStale` | waiting until old signatures are gone | a party learns of another epoch's end as of its own |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    NoSecondLook,
    NoTag,
    NoHistory,
    NoDeathCheck,
    LeavesStale,
}

#[derive(Clone, Copy, Debug)]
pub struct Barrier {
    pub variant: Variant,
    pub cast: Cast,
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// How often each party wants to pass.
    rounds: [u8; PARTIES],
    kills: u8,
    resets: u8,
    /// Whether the third party gives up waiting.
    late: bool,
}

impl Cast {
    /// Two parties, one of which may be killed.
    pub const KILL: Cast = Cast { rounds: [2, 2, 0], kills: 1, resets: 0, late: false };
    /// Two parties and resets.
    pub const RESET: Cast = Cast { rounds: [2, 2, 0], kills: 0, resets: 2, late: false };
    /// Three parties at a barrier of two, and a reset while one may still have to learn how its epoch ended.
    pub const SLOW: Cast = Cast { rounds: [3, 1, 1], kills: 0, resets: 1, late: false };
    /// Three parties at a barrier of two; the third may be late.
    pub const CROWD: Cast = Cast { rounds: [3, 3, 1], kills: 0, resets: 0, late: true };
}

/// Threads; the barrier is for two.
const PARTIES: usize = 3;
const NEEDED: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Fill,
    Action,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Word {
    epoch: u8,
    phase: Phase,
    /// Whether the last epoch was broken, and the one before it.
    last: bool,
    before: bool,
}

impl Word {
    fn next(self, broken: bool) -> Word {
        Word { epoch: self.epoch + 1, phase: Phase::Fill, last: broken, before: self.last }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    /// Has read the state in this epoch.
    Claim(u8),
    /// Has found this place free, and nobody of another epoch.
    Sign(u8, usize),
    /// Has signed in, in this place, and not yet looked again.
    Look(u8, usize),
    Wait(u8, usize),
    Act(u8, usize),
    /// Knows how its epoch ended; still has its place.
    Leave(u8, usize, bool),
    Done,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    word: Word,
    places: [[Option<(u8, u8)>; NEEDED]; 2],
    at: [At; PARTIES],
    left: [u8; PARTIES],
    kills: u8,
    resets: u8,
    /// How each epoch ended.
    ends: Vec<bool>,
    /// Actions begun in the epoch at hand.
    actions: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Step(usize),
    /// It looks whether the others live.
    Check(usize),
    TimeOut(usize),
    Kill(usize),
    Reset,
}

impl Barrier {
    fn full(&self, s: &State, epoch: u8) -> bool {
        let counts =
            |place: &Option<(u8, u8)>| place.is_some_and(|(_, tag)| tag == epoch || self.variant == Variant::NoTag);
        s.places[usize::from(epoch) % 2].iter().all(counts)
    }

    fn break_epoch(&self, t: &mut State) {
        t.word.phase = Phase::Broken;
    }

    /// The epoch at hand ends so.
    fn end(&self, t: &mut State, passed: bool) {
        let epoch = t.word.epoch;
        let set = &t.places[usize::from(epoch) % 2];
        if passed && set.iter().flatten().filter(|(_, tag)| *tag == epoch).count() < NEEDED {
            t.broken = Some("an epoch was passed before all had come");
        }
        t.ends.push(passed);
        t.word = t.word.next(!passed);
        t.actions = 0;
    }

    fn verdict(&self, s: &State, epoch: u8) -> Option<bool> {
        match s.word.epoch - epoch {
            0 => (s.word.phase == Phase::Broken).then_some(false),
            _ if self.variant == Variant::NoHistory => Some(true),
            1 => Some(!s.word.last),
            2 => Some(!s.word.before),
            _ => Some(false),
        }
    }

    fn step(&self, t: &mut State, who: usize) -> Option<At> {
        let name = who as u8;
        Some(match t.at[who] {
            At::Start if t.left[who] == 0 => At::Done,
            At::Start => match t.word.phase {
                Phase::Broken => At::Done,
                Phase::Action => return None,
                Phase::Fill => At::Claim(t.word.epoch),
            },
            At::Claim(epoch) => {
                let set = &t.places[usize::from(epoch) % 2];
                let stale = set.iter().flatten().any(|(_, tag)| *tag != epoch);
                match set.iter().position(Option::is_none) {
                    Some(place) if !stale || self.variant == Variant::LeavesStale => At::Sign(epoch, place),
                    _ => At::Start,
                }
            }
            At::Sign(epoch, place) => {
                let word = &mut t.places[usize::from(epoch) % 2][place];
                if word.is_some() {
                    return Some(At::Start);
                }
                *word = Some((name, epoch));
                match self.variant {
                    Variant::NoSecondLook => At::Wait(epoch, place),
                    _ => At::Look(epoch, place),
                }
            }
            At::Look(epoch, place) if t.word.epoch == epoch => At::Wait(epoch, place),
            At::Look(epoch, place) => {
                t.places[usize::from(epoch) % 2][place] = None;
                At::Start
            }
            At::Wait(epoch, place) => {
                if let Some(passed) = self.verdict(t, epoch) {
                    let truth = t.ends.get(usize::from(epoch)).copied().unwrap_or(false);
                    if passed != truth {
                        t.broken = Some("a party was told wrongly how its epoch ended");
                    }
                    return Some(At::Leave(epoch, place, passed));
                }
                if t.word.phase != Phase::Fill || !self.full(t, epoch) {
                    return None;
                }
                t.word.phase = Phase::Action;
                t.actions += 1;
                if t.actions > 1 {
                    t.broken = Some("the action ran twice");
                }
                At::Act(epoch, place)
            }
            At::Act(epoch, place) => {
                let elected = t.word.epoch == epoch && t.word.phase == Phase::Action;
                if elected {
                    self.end(t, true);
                }
                At::Leave(epoch, place, elected)
            }
            At::Leave(epoch, place, passed) => {
                t.places[usize::from(epoch) % 2][place] = None;
                t.left[who] -= u8::from(passed);
                At::Start
            }
            At::Done | At::Dead => return None,
        })
    }
}

impl Model for Barrier {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            word: Word { epoch: 0, phase: Phase::Fill, last: false, before: false },
            places: [[None; NEEDED]; 2],
            at: [At::Start; PARTIES],
            left: self.cast.rounds,
            kills: self.cast.kills,
            resets: self.cast.resets,
            ends: Vec::new(),
            actions: 0,
            broken: None,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        for who in 0..PARTIES {
            actions.extend([Action::Step(who), Action::Check(who), Action::TimeOut(who)]);
            if s.kills > 0 {
                actions.push(Action::Kill(who));
            }
        }
        if s.resets > 0 {
            actions.push(Action::Reset);
        }
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        match action {
            Action::Step(who) => t.at[who] = self.step(&mut t, who)?,
            Action::Check(who) => {
                let At::Wait(epoch, _) = s.at[who] else { return None };
                let signed = |other: &usize| {
                    matches!(s.at[*other], At::Dead)
                        && s.places[usize::from(epoch) % 2].contains(&Some((*other as u8, epoch)))
                };
                let open = s.word.epoch == epoch && s.word.phase != Phase::Broken;
                if self.variant == Variant::NoDeathCheck || !open || !(0..PARTIES).any(|other| signed(&other)) {
                    return None;
                }
                self.break_epoch(&mut t);
            }
            Action::TimeOut(who) => {
                // The third party, and whoever is left alone with what the third has taken or broken.
                let At::Wait(epoch, _) = s.at[who] else { return None };
                let open = s.word.epoch == epoch && s.word.phase == Phase::Fill;
                if !self.cast.late || !open {
                    return None;
                }
                self.break_epoch(&mut t);
            }
            Action::Kill(who) => {
                if matches!(s.at[who], At::Done | At::Dead) {
                    return None;
                }
                t.at[who] = At::Dead;
                t.kills -= 1;
            }
            Action::Reset => {
                let epoch = s.word.epoch;
                let idle = s.word.phase == Phase::Fill
                    && !s.places[usize::from(epoch) % 2].iter().flatten().any(|(_, tag)| *tag == epoch);
                if idle {
                    return None;
                }
                t.resets -= 1;
                self.end(&mut t, false);
            }
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Barrier {
    fn broken(&self, s: &State) -> Option<&'static str> {
        s.broken
    }

    fn finished(&self, s: &State) -> bool {
        // With a party dead that had not come, or done because it found the barrier broken, one may wait for ever: that is
        // what a barrier is. Otherwise all must end.
        let gone = |at: &At| matches!(at, At::Done | At::Dead);
        let signed_by_dead = (0..PARTIES).any(|who| {
            s.at[who] == At::Dead
                && s.places.iter().flatten().flatten().any(|(by, tag)| usize::from(*by) == who && *tag == s.word.epoch)
        });
        let alone =
            s.at.iter().filter(|at| !gone(at)).all(|at| matches!(at, At::Wait(epoch, _) if *epoch == s.word.epoch))
                && s.at.iter().filter(|at| !gone(at)).count() == 1
                && s.word.phase == Phase::Fill
                && !signed_by_dead;
        s.at.iter().all(gone) || alone
    }
}
