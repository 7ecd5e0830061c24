//! The barrier: signatures in two sets of places, one state word, and parties that die, come late, or are too many.
//!
//! **Protocol.** A party reads the state; if it fills, it looks at the epoch's set (by parity), unless a signature of
//! another epoch is there (one of the dead it removes). It reads a place, passes over one that is taken or was left in this
//! very epoch, reads the state again, and if the epoch is the same still, signs with its number by a CAS of what it read.
//! Who leaves a place leaves the epoch's number there; so an epoch cannot have passed between the look and a CAS that
//! succeeds, and a signature that counts is never taken back. Whoever has signed in and finds the set full tries the CAS FILL → ACTION; the winner runs the action and
//! makes the CAS to the next epoch. A party that finds its epoch over reads from the state how it ended, and signs out.
//! Whoever waits and finds a party of its epoch dead breaks the epoch; so does a timeout. A reset begins a new epoch and
//! notes that the last was broken.
//!
//! **Rules.** An epoch is passed only if two parties had signed in for it, and its action ran once; two pass it, no more. A
//! party that is told that it passed, or not, is told the truth. Every party that lives ends.
//!
//! **Left out.** Weak memory; sleeping (a waiter looks again whenever it likes); the waiters' bit; recovery of the dead
//! process itself. A barrier of two, with a kill, a reset, or a third party that may be late by whole epochs; or with several
//! of these at once.
//!
//! | mutant | what it leaves out | what goes wrong |
//! |---|---|---|
//! | `NoSecondLook` | the state read again before signing in | a party signs for an epoch that is long over |
//! | `NoMark` | the epoch's number in a place that was left | a third passes an epoch that two have passed |
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
    NoMark,
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
    /// Three parties at a barrier of two, all of them late at times, and one of them killed.
    pub const CROWD_AND_KILL: Cast = Cast { rounds: [2, 2, 1], kills: 1, resets: 0, late: true };
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

/// A place in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// Nobody's, left in this epoch if in any.
    Left(Option<u8>),
    /// Signed by this party for this epoch.
    Signed(u8, u8),
}

impl Place {
    fn is_signed_for(self, epoch: u8) -> bool {
        matches!(self, Place::Signed(_, tag) if tag == epoch)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    /// Has read the state in this epoch.
    Claim(u8),
    /// Has found nobody of another epoch in the set; this place is next.
    Read(u8, usize),
    /// Has found this place free, and so.
    Look(u8, usize, Place),
    /// And has seen that the epoch is not over.
    Sign(u8, usize, Place),
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
    places: [[Place; NEEDED]; 2],
    at: [At; PARTIES],
    left: [u8; PARTIES],
    kills: u8,
    resets: u8,
    /// How each epoch ended.
    ends: Vec<bool>,
    /// How many have passed each epoch.
    passed: Vec<u8>,
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
        let counts = |place: &Place| match place {
            Place::Signed(_, tag) => *tag == epoch || self.variant == Variant::NoTag,
            Place::Left(_) => false,
        };
        s.places[usize::from(epoch) % 2].iter().all(counts)
    }

    fn break_epoch(&self, t: &mut State) {
        t.word.phase = Phase::Broken;
    }

    /// The epoch at hand ends so.
    fn end(&self, t: &mut State, passed: bool) {
        let epoch = t.word.epoch;
        let set = &t.places[usize::from(epoch) % 2];
        if passed && set.iter().filter(|place| place.is_signed_for(epoch)).count() < NEEDED {
            t.broken = Some("an epoch was passed before all had come");
        }
        t.ends.push(passed);
        t.passed.push(0);
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
                let at = t.at;
                for place in &mut t.places[usize::from(epoch) % 2] {
                    match *place {
                        Place::Signed(by, tag) if tag != epoch && at[usize::from(by)] == At::Dead => {
                            *place = Place::Left(Some(tag));
                        }
                        Place::Signed(_, tag) if tag != epoch && self.variant != Variant::LeavesStale => {
                            return Some(At::Start);
                        }
                        _ => {}
                    }
                }
                At::Read(epoch, 0)
            }
            At::Read(_, NEEDED) => At::Start,
            At::Read(epoch, place) => match t.places[usize::from(epoch) % 2][place] {
                Place::Left(left) if left != Some(epoch) => At::Look(epoch, place, Place::Left(left)),
                _ => At::Read(epoch, place + 1),
            },
            At::Look(epoch, place, seen) => match t.word.epoch == epoch || self.variant == Variant::NoSecondLook {
                true => At::Sign(epoch, place, seen),
                false => At::Start,
            },
            At::Sign(epoch, place, seen) => {
                let word = &mut t.places[usize::from(epoch) % 2][place];
                if *word != seen {
                    return Some(At::Read(epoch, place + 1));
                }
                *word = Place::Signed(name, epoch);
                At::Wait(epoch, place)
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
                let word = &mut t.places[usize::from(epoch) % 2][place];
                if *word == Place::Signed(name, epoch) {
                    *word = Place::Left((self.variant != Variant::NoMark).then_some(epoch));
                }
                t.left[who] -= u8::from(passed);
                if passed {
                    t.passed[usize::from(epoch)] += 1;
                    if usize::from(t.passed[usize::from(epoch)]) > NEEDED {
                        t.broken = Some("more have passed than there are parties");
                    }
                }
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
            places: [[Place::Left(None); NEEDED]; 2],
            at: [At::Start; PARTIES],
            left: self.cast.rounds,
            kills: self.cast.kills,
            resets: self.cast.resets,
            ends: Vec::new(),
            passed: Vec::new(),
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
                        && s.places[usize::from(epoch) % 2].contains(&Place::Signed(*other as u8, epoch))
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
                    && !s.places[usize::from(epoch) % 2].iter().any(|place| place.is_signed_for(epoch));
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
                && s.places.iter().flatten().any(|place| *place == Place::Signed(who as u8, s.word.epoch))
        });
        let alone =
            s.at.iter().filter(|at| !gone(at)).all(|at| matches!(at, At::Wait(epoch, _) if *epoch == s.word.epoch))
                && s.at.iter().filter(|at| !gone(at)).count() == 1
                && s.word.phase == Phase::Fill
                && !signed_by_dead;
        s.at.iter().all(gone) || alone
    }
}
