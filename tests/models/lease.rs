//! The agenda: an item on lease to somebody who may be killed anywhere.
//!
//! **Protocol.** One item waits. C leases it: intent, latch, the item into a cell, unlink (the commit), unlatch, clear the
//! intent. Then it either acknowledges (intent, latch, name the block, clear the cell (the commit), unlatch, free, clear) or
//! gives back (intent, latch, link (the commit), clear the cell, unlatch, clear). C may be killed anywhere. Recovery,
//! restartable after every step: decide from intent, list and cell; unlatch; free what is named; clear the intent; only then is C
//! known to be gone. S, under the latch, takes what is in a cell of the gone back into the list, and does what waits.
//!
//! **Rules.** While the latch is free, the item is not both in the list and in a cell. A block is freed only when it is in
//! neither. Nothing is taken from the living. Everyone can finish, and then the item is done and its block free.
//!
//! **Left out.** Weak memory; levels, counts and wake-ups; more items than one, and more cells; S's own death, whose steps are
//! C's; who recovers (claims of recovery are exclusive; a recoverer that dies, here up to twice, is replaced).
//!
//! | mutant | what it does | what goes wrong |
//! |---|---|---|
//! | `UnlinksFirst` | the lease unlinks, then fills the cell | killed between: the item is lost |
//! | `ClearsCellFirst` | giving back clears the cell, then links | killed between: the item is lost |
//! | `LeavesCell` | recovery leaves the cell of a lease that was not committed | the item in both places |
//! | `FreesBlindly` | recovery frees the block of an acknowledgement that was not committed | a block freed in use |
//! | `UnlatchesFirst` | recovery unlatches, then decides | the item in both places |
//! | `TakesFromTheLiving` | S does not ask whether the lessee is gone | taken from the living |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    UnlinksFirst,
    ClearsCellFirst,
    LeavesCell,
    FreesBlindly,
    UnlatchesFirst,
    TakesFromTheLiving,
}

#[derive(Clone, Copy, Debug)]
pub struct Lease {
    pub variant: Variant,
}

const RECOVERER_DEATHS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    None,
    Lease,
    Ack,
    Return,
}

/// The program of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin(Operation),
    Latch(Operation),
    First(Operation),
    Second(Operation),
    /// An acknowledgement has named the block.
    Clear,
    Unlatch(Operation),
    Free,
    Unname,
    End(Operation),
    /// It has the item, and does one of two things.
    Choose,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Recovery {
    Look,
    Decide,
    Unlatch,
    Free,
    Unname,
    ClearIntent,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    waits: bool,
    in_cell: bool,
    allocated: bool,
    done: bool,
    latched: bool,
    intent: Operation,
    named: bool,
    c: At,
    c_dead: bool,
    recovery: Recovery,
    recoverer_deaths: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    StepC,
    Acknowledge,
    GiveBack,
    KillC,
    Recover,
    KillRecoverer,
    TakeBack,
    Do,
}

impl State {
    fn free(&mut self) {
        if self.waits || self.in_cell {
            self.broken = Some("a block freed in use");
        }
        self.allocated = false;
    }
}

impl Lease {
    fn run(&self, t: &mut State) -> Option<At> {
        use Operation::*;
        Some(match t.c {
            At::Begin(operation) => {
                t.intent = operation;
                At::Latch(operation)
            }
            At::Latch(_) if t.latched => return Option::None,
            At::Latch(operation) => {
                t.latched = true;
                match operation {
                    Lease if !t.waits => At::Unlatch(None), // S was quicker
                    _ => At::First(operation),
                }
            }
            At::First(Lease) => {
                if self.variant == Variant::UnlinksFirst {
                    t.waits = false
                } else {
                    t.in_cell = true
                }
                At::Second(Lease)
            }
            At::Second(Lease) => {
                if self.variant == Variant::UnlinksFirst {
                    t.in_cell = true
                } else {
                    t.waits = false
                }
                At::Unlatch(Lease)
            }
            At::First(Return) => {
                if self.variant == Variant::ClearsCellFirst {
                    t.in_cell = false
                } else {
                    t.waits = true
                }
                At::Second(Return)
            }
            At::Second(Return) => {
                if self.variant == Variant::ClearsCellFirst {
                    t.waits = true
                } else {
                    t.in_cell = false
                }
                At::Unlatch(Return)
            }
            At::First(_) | At::Second(_) => {
                t.named = true;
                At::Clear
            }
            At::Clear => {
                t.in_cell = false;
                t.done = true;
                At::Unlatch(Ack)
            }
            At::Unlatch(operation) => {
                t.latched = false;
                if operation == Ack { At::Free } else { At::End(operation) }
            }
            At::Free => {
                t.free();
                At::Unname
            }
            At::Unname => {
                t.named = false;
                At::End(Ack)
            }
            At::End(operation) => {
                t.intent = None;
                if operation == Lease { At::Choose } else { At::Done }
            }
            At::Choose | At::Done => return Option::None,
        })
    }

    /// Whether C holds the latch: nobody else does while it is dead.
    fn held_by_c(t: &State) -> bool {
        t.latched && t.c_dead
    }

    fn recover(&self, t: &mut State) -> Option<Recovery> {
        let early = self.variant == Variant::UnlatchesFirst;
        Some(match t.recovery {
            Recovery::Look if t.intent == Operation::None => Recovery::Gone,
            Recovery::Look if early => Recovery::Unlatch,
            Recovery::Look => Recovery::Decide,
            Recovery::Decide => {
                if Lease::held_by_c(t) || early {
                    match t.intent {
                        Operation::Lease | Operation::Return if t.waits && t.in_cell => {
                            t.in_cell = self.variant == Variant::LeavesCell;
                        }
                        Operation::Ack if t.in_cell => t.named &= self.variant == Variant::FreesBlindly,
                        _ => {}
                    }
                }
                if early { Recovery::Free } else { Recovery::Unlatch }
            }
            Recovery::Unlatch => {
                t.latched = false;
                if early { Recovery::Decide } else { Recovery::Free }
            }
            Recovery::Free => {
                if t.named {
                    t.free();
                }
                Recovery::Unname
            }
            Recovery::Unname => {
                t.named = false;
                Recovery::ClearIntent
            }
            Recovery::ClearIntent => {
                t.intent = Operation::None;
                Recovery::Gone
            }
            Recovery::Gone => return None,
        })
    }
}

impl Model for Lease {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            waits: true,
            in_cell: false,
            allocated: true,
            done: false,
            latched: false,
            intent: Operation::None,
            named: false,
            c: At::Begin(Operation::Lease),
            c_dead: false,
            recovery: Recovery::Look,
            recoverer_deaths: 0,
            broken: None,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([StepC, Acknowledge, GiveBack, KillC, Recover, KillRecoverer, TakeBack, Do]);
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        let gone = s.recovery == Recovery::Gone;
        match action {
            Action::StepC if !s.c_dead => t.c = self.run(&mut t)?,
            Action::Acknowledge if !s.c_dead && s.c == At::Choose => t.c = At::Begin(Operation::Ack),
            Action::GiveBack if !s.c_dead && s.c == At::Choose => t.c = At::Begin(Operation::Return),
            Action::KillC if !s.c_dead && s.c != At::Done => t.c_dead = true,
            Action::Recover if s.c_dead => t.recovery = self.recover(&mut t)?,
            Action::KillRecoverer if s.recovery != Recovery::Look && !gone => {
                t.recovery = Recovery::Look;
                t.recoverer_deaths += 1;
                if t.recoverer_deaths > RECOVERER_DEATHS {
                    return None;
                }
            }
            Action::TakeBack if !s.latched && s.in_cell => {
                if !gone && self.variant != Variant::TakesFromTheLiving {
                    return None;
                }
                if !s.c_dead {
                    t.broken = Some("taken from the living");
                }
                (t.waits, t.in_cell) = (true, false);
            }
            Action::Do if !s.latched && s.waits => {
                t.waits = false;
                t.done = true;
                t.free();
            }
            _ => return None,
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Lease {
    fn broken(&self, s: &State) -> Option<&'static str> {
        if !s.latched && s.waits && s.in_cell { Some("an item in both places") } else { s.broken }
    }

    fn finished(&self, s: &State) -> bool {
        let ended = s.recovery == Recovery::Gone || s.c == At::Done && !s.c_dead;
        ended && s.done && !s.waits && !s.in_cell && !s.allocated && !s.latched
    }
}
