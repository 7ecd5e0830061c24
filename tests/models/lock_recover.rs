//! The internal lock word: never stolen, only recovered.
//!
//! **Protocol.** The word is `owner | sequence`, without the owner's generation. The owner stores its intent, takes the
//! word by CAS, changes two data words, unlocks with a bump of the sequence, clears its intent. A waiter that sees a
//! dead owner calls recovery and tries again. Recovery, restartable after every step: complete the data from the
//! intent, unlock **with a bump**, then clear the intent, then free the dead thread's slot for reuse.
//!
//! Slot 5 belongs to D, which may be killed anywhere; after recovery N reuses slot 5 and takes the same lock. A waits
//! for the lock all along; a reader reads the data optimistically, by sequence only.
//!
//! **Rules.** Never two holders; nobody enters on half-changed data; a validated read is never torn. Everyone can
//! finish and the lock ends free.
//!
//! **Left out.** Weak memory; the waiters bit and sleeping; patience; who recovers (claims of recovery are exclusive,
//! and a recoverer that dies, here up to twice, is replaced by one that begins again).
//!
//! | mutant | what it does | what goes wrong |
//! |---|---|---|
//! | `Steals` | a waiter CASes a dead owner's word; undo keeps the sequence | two holders, once slot 5 is reused |
//! | `StealsBumped` | the same, but undo bumps the sequence | excludes, but the thief enters on half-changed data |
//! | `UndoKeepsSequence` | recovery unlocks without a bump | torn read validated |
//! | `UnlocksUnresolved` | recovery unlocks, then completes the data | a waiter enters on half-changed data |
//! | `ClearsIntentFirst` | recovery clears the intent, then unlocks | a recoverer dies in between: locked for ever |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    Steals,
    StealsBumped,
    UndoKeepsSequence,
    UnlocksUnresolved,
    ClearsIntentFirst,
}

#[derive(Clone, Copy, Debug)]
pub struct Lock {
    pub variant: Variant,
    /// Whether the rules about the data are checked, or mutual exclusion alone.
    pub checks_data: bool,
}

const RECOVERER_DEATHS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Free,
    /// D, and later N.
    Five,
    Waiter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Word {
    owner: Owner,
    sequence: u8,
}

/// The program of D, A and N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Intent,
    Look,
    /// A waiter that saw slot 5's word, and is about to judge its owner.
    Judge(Word),
    Steal(Word),
    First,
    Second,
    Unlock,
    ClearIntent,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Start,
    First { sequence: u8 },
    Second { sequence: u8, first: u8 },
    Validate { sequence: u8, first: u8, second: u8 },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Recovery {
    Look,
    /// Completing the data, one word a step.
    Resolve,
    ResolveRest,
    Unlock,
    ClearIntent,
    FreeSlot,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    word: Word,
    data: [u8; 2],
    intent_of_five: bool,
    five_dead: bool,
    d: At,
    a: At,
    n: At,
    recovery: Recovery,
    recoverer_deaths: u8,
    reader: Reader,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    StepD,
    StepA,
    StepN,
    KillD,
    Recover,
    KillRecoverer,
    Read,
}

impl Lock {
    fn run(&self, t: &mut State, owner: Owner, value: u8, at: At) -> Option<At> {
        Some(match at {
            At::Intent => {
                t.intent_of_five |= owner == Owner::Five;
                At::Look
            }
            At::Look if t.word.owner == Owner::Free => {
                t.word.owner = owner;
                self.enter(t)
            }
            At::Look if owner == Owner::Waiter && t.word.owner == Owner::Five => At::Judge(t.word),
            At::Look => return None,
            At::Judge(seen) => {
                let steals = matches!(self.variant, Variant::Steals | Variant::StealsBumped);
                if t.five_dead && steals { At::Steal(seen) } else { At::Look }
            }
            At::Steal(seen) if t.word == seen => {
                t.word.owner = owner;
                self.enter(t)
            }
            At::Steal(_) => At::Look,
            At::First => {
                t.data[0] = value;
                At::Second
            }
            At::Second => {
                t.data[1] = value;
                At::Unlock
            }
            At::Unlock => {
                t.word = Word { owner: Owner::Free, sequence: t.word.sequence + 1 };
                At::ClearIntent
            }
            At::ClearIntent => {
                t.intent_of_five &= owner != Owner::Five;
                At::Done
            }
            At::Done => return None,
        })
    }

    fn enter(&self, t: &mut State) -> At {
        if t.data[0] != t.data[1] {
            t.broken = Some("a holder entered on half-changed data");
        }
        At::First
    }

    fn recover(&self, t: &mut State) -> Option<Recovery> {
        let held = t.word.owner == Owner::Five;
        Some(match t.recovery {
            Recovery::Look if t.intent_of_five && self.variant == Variant::UnlocksUnresolved => Recovery::Unlock,
            Recovery::Look if t.intent_of_five => Recovery::Resolve,
            Recovery::Look => Recovery::FreeSlot,
            Recovery::Resolve => {
                if held || self.variant == Variant::UnlocksUnresolved {
                    t.data[0] = 1;
                }
                Recovery::ResolveRest
            }
            Recovery::ResolveRest => {
                if held || self.variant == Variant::UnlocksUnresolved {
                    t.data[1] = 1;
                }
                match self.variant {
                    Variant::UnlocksUnresolved | Variant::ClearsIntentFirst => Recovery::ClearIntent,
                    _ => Recovery::Unlock,
                }
            }
            Recovery::Unlock => {
                if held {
                    let bump = !matches!(self.variant, Variant::Steals | Variant::UndoKeepsSequence);
                    t.word = Word { owner: Owner::Free, sequence: t.word.sequence + u8::from(bump) };
                }
                match self.variant {
                    Variant::UnlocksUnresolved if held => Recovery::Resolve,
                    Variant::ClearsIntentFirst => Recovery::FreeSlot,
                    _ => Recovery::ClearIntent,
                }
            }
            Recovery::ClearIntent => {
                t.intent_of_five = false;
                if self.variant == Variant::ClearsIntentFirst { Recovery::Unlock } else { Recovery::FreeSlot }
            }
            Recovery::FreeSlot => {
                t.five_dead = false;
                Recovery::Done
            }
            Recovery::Done => return None,
        })
    }

    fn read(&self, t: &mut State) -> Option<Reader> {
        Some(match t.reader {
            Reader::Start => Reader::First { sequence: t.word.sequence },
            Reader::First { sequence } => Reader::Second { sequence, first: t.data[0] },
            Reader::Second { sequence, first } => Reader::Validate { sequence, first, second: t.data[1] },
            Reader::Validate { sequence, .. } if sequence != t.word.sequence => Reader::Start,
            // A live or dead holder, perhaps in the middle of a change.
            Reader::Validate { .. } if t.word.owner != Owner::Free => Reader::Start,
            Reader::Validate { first, second, .. } => {
                if first != second {
                    t.broken = Some("a validated read is torn");
                }
                Reader::Done
            }
            Reader::Done => return None,
        })
    }
}

fn inside(at: At) -> bool {
    matches!(at, At::First | At::Second | At::Unlock)
}

impl Model for Lock {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            word: Word { owner: Owner::Free, sequence: 0 },
            data: [0, 0],
            intent_of_five: false,
            five_dead: false,
            d: At::Intent,
            a: At::Look,
            n: At::Intent,
            recovery: Recovery::Look,
            recoverer_deaths: 0,
            reader: Reader::Start,
            broken: None,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([StepD, StepA, StepN, KillD, Recover, KillRecoverer, Read]);
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        match action {
            Action::StepD if !s.five_dead && s.recovery == Recovery::Look => {
                t.d = self.run(&mut t, Owner::Five, 1, s.d)?;
            }
            Action::StepA => t.a = self.run(&mut t, Owner::Waiter, 2, s.a)?,
            Action::StepN if s.recovery == Recovery::Done => t.n = self.run(&mut t, Owner::Five, 3, s.n)?,
            Action::KillD => {
                if s.five_dead || s.recovery != Recovery::Look || s.d == At::Done {
                    return None;
                }
                t.five_dead = true;
            }
            Action::Recover if s.five_dead => t.recovery = self.recover(&mut t)?,
            Action::KillRecoverer if s.recovery != Recovery::Look && s.recovery != Recovery::Done => {
                t.recovery = Recovery::Look;
                t.recoverer_deaths += 1;
                if t.recoverer_deaths > RECOVERER_DEATHS {
                    return None;
                }
            }
            Action::Read => t.reader = self.read(&mut t)?,
            _ => return None,
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Lock {
    fn broken(&self, s: &State) -> Option<&'static str> {
        let d_inside = inside(s.d) && !s.five_dead && s.recovery == Recovery::Look;
        let inside = [d_inside, inside(s.a), inside(s.n)].into_iter().filter(|inside| *inside).count();
        if inside > 1 { Some("two holders") } else { s.broken.filter(|_| self.checks_data) }
    }

    fn finished(&self, s: &State) -> bool {
        let ended = s.d == At::Done || (s.recovery == Recovery::Done && s.n == At::Done);
        ended && s.a == At::Done && s.word.owner == Owner::Free && s.reader == Reader::Done
    }
}
