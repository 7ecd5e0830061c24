//! The allocator: one block, allocated, published, freed by another process, collected and allocated again.
//!
//! **Protocol.** A slab's owner writes `local`; everyone else frees by setting the bit in `remote`. Intents name blocks
//! in flight: `alloc` from before the bit is set until the block is published, `free` from before it is unlinked until
//! its remote bit is set. The owner collects: load `remote`, scan all intents, and clear `local`, then `remote`, only
//! for blocks that **no intent names**. Recovery rolls `alloc` and `free` back or forward from the intent and the lock,
//! and frees through `remote`, never `local`. A slab of a dead owner is adopted: `remote &= local`, then business as
//! usual.
//!
//! B owns the slab and publishes the block in a cell under a lock; A unlinks it there and frees it; E adopts the slab
//! when B is dead. A, B and recovery may be killed between any two steps; A is born again, recovery begins again.
//!
//! **Rules.** A block is allocated only when it is free; a published block is never marked free; recovery never frees a
//! live block; a free block that nobody is working on is available or marked for collection. The block can always come
//! to rest: no intent open, nobody dead and unrecovered.
//!
//! **Left out.** Weak memory; page states and runs; more than one block, so that "scan all intents" is one read. At
//! most two reallocations; B is not born again, and E does not die.
//!
//! | mutant | what it does | what goes wrong |
//! |---|---|---|
//! | `NoHazardScan` | collects without looking at the intents | a redone free marks a published block |
//! | `LateCommitLocalFree` | clears `alloc` after the unlock, recovery clears `local` | published block freed |
//! | `FreeNamedLate` | sets `intent.free` after the unlink | killed in between: the block leaks |
//! | `FreeClearedEarly` | clears `intent.free` before the remote bit is set | killed in between: the block leaks |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    NoHazardScan,
    LateCommitLocalFree,
    FreeNamedLate,
    FreeClearedEarly,
}

#[derive(Clone, Copy, Debug)]
pub struct Heap {
    pub variant: Variant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    A,
    B,
    E,
}

/// What the block is, as the world's ghost knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Block {
    Free,
    InFlight,
    Published,
    Unlinked,
}

/// The program of a slab's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Lock,
    Publish,
    ClearAlloc,
    Unlock,
    LateClearAlloc,
    LoadRemote,
    ScanIntents,
    ClearLocal,
    ClearRemote,
    NameAlloc,
    SetLocal,
}

/// The program of A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Remover {
    Lock,
    NameFree,
    Unlink,
    LateNameFree,
    Unlock,
    EarlyClearFree,
    SetRemote,
    ClearFree,
    UnlockEmpty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life<T> {
    Running(T),
    Dead,
    Recovered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Recovery {
    Idle,
    Look(Who),
    Judge(Who),
    Free(Who),
    ClearIntent(Who),
    Release(Who),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    cell: bool,
    lock: Option<Who>,
    local: bool,
    remote: bool,
    slab_owner: Option<Who>,
    alloc_b: bool,
    alloc_e: bool,
    free_a: bool,
    a: Life<Remover>,
    b: Life<Owner>,
    e: Owner,
    recovery: Recovery,
    block: Block,
    reallocations: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    StepA,
    StepB,
    StepE,
    Adopt,
    KillA,
    KillB,
    RecoverA,
    RecoverB,
    RecoveryStep,
    KillRecovery,
    RebirthA,
}

const REALLOCATIONS: u8 = 2;

impl Heap {
    fn own(&self, t: &mut State, me: Who, at: Owner) -> Option<Owner> {
        let alloc = if me == Who::B { &mut t.alloc_b } else { &mut t.alloc_e };
        Some(match at {
            Owner::Lock if t.lock.is_none() => {
                t.lock = Some(me);
                Owner::Publish
            }
            Owner::Publish if !t.cell => {
                (t.cell, t.block) = (true, Block::Published);
                if self.variant == Variant::LateCommitLocalFree { Owner::Unlock } else { Owner::ClearAlloc }
            }
            Owner::ClearAlloc => {
                *alloc = false;
                Owner::Unlock
            }
            Owner::Unlock => {
                t.lock = None;
                if self.variant == Variant::LateCommitLocalFree { Owner::LateClearAlloc } else { Owner::LoadRemote }
            }
            Owner::LateClearAlloc => {
                *alloc = false;
                Owner::LoadRemote
            }
            Owner::LoadRemote if t.remote => Owner::ScanIntents,
            // Nothing local either: an earlier owner died inside a collection, and the block is available.
            Owner::LoadRemote if !t.local => Owner::NameAlloc,
            Owner::ScanIntents => {
                let named = t.free_a || t.alloc_b || t.alloc_e;
                if named && self.variant != Variant::NoHazardScan { Owner::LoadRemote } else { Owner::ClearLocal }
            }
            Owner::ClearLocal => {
                t.local = false;
                Owner::ClearRemote
            }
            Owner::ClearRemote => {
                t.remote = false;
                Owner::NameAlloc
            }
            Owner::NameAlloc if t.reallocations < REALLOCATIONS => {
                *alloc = true;
                Owner::SetLocal
            }
            Owner::SetLocal => {
                if t.local {
                    t.broken = Some("allocated a block whose bit is set");
                }
                if t.block != Block::Free {
                    t.broken = Some("allocated a live block");
                }
                (t.local, t.block) = (true, Block::InFlight);
                t.reallocations += 1;
                Owner::Lock
            }
            Owner::Lock | Owner::Publish | Owner::LoadRemote | Owner::NameAlloc => return None,
        })
    }

    fn remove(&self, t: &mut State, at: Remover) -> Option<Remover> {
        Some(match at {
            Remover::Lock if t.lock.is_none() => {
                t.lock = Some(Who::A);
                Remover::NameFree
            }
            Remover::Lock => return None,
            Remover::NameFree if !t.cell => Remover::UnlockEmpty,
            Remover::NameFree => {
                t.free_a = self.variant != Variant::FreeNamedLate;
                Remover::Unlink
            }
            Remover::Unlink => {
                (t.cell, t.block) = (false, Block::Unlinked);
                if self.variant == Variant::FreeNamedLate { Remover::LateNameFree } else { Remover::Unlock }
            }
            Remover::LateNameFree => {
                t.free_a = true;
                Remover::Unlock
            }
            Remover::Unlock => {
                t.lock = None;
                if self.variant == Variant::FreeClearedEarly { Remover::EarlyClearFree } else { Remover::SetRemote }
            }
            Remover::EarlyClearFree => {
                t.free_a = false;
                Remover::SetRemote
            }
            Remover::SetRemote => {
                (t.remote, t.block) = (true, Block::Free);
                Remover::ClearFree
            }
            Remover::ClearFree => {
                t.free_a = false;
                Remover::Lock
            }
            Remover::UnlockEmpty => {
                t.lock = None;
                Remover::Lock
            }
        })
    }

    fn recover(&self, t: &mut State) -> Option<Recovery> {
        Some(match t.recovery {
            Recovery::Idle => return None,
            Recovery::Look(who) => {
                let open = if who == Who::A { t.free_a } else { t.alloc_b };
                if open { Recovery::Judge(who) } else { Recovery::Release(who) }
            }
            // Still linked: the removal never happened, there is nothing to free.
            Recovery::Judge(Who::A) if t.lock == Some(Who::A) && t.cell => Recovery::ClearIntent(Who::A),
            // Published: roll forward.
            Recovery::Judge(Who::B)
                if t.cell && (t.lock == Some(Who::B) || self.variant == Variant::LateCommitLocalFree) =>
            {
                Recovery::ClearIntent(Who::B)
            }
            Recovery::Judge(who) => Recovery::Free(who),
            Recovery::Free(Who::A) => {
                match t.block {
                    Block::Free | Block::Unlinked => t.block = Block::Free,
                    Block::InFlight | Block::Published => t.broken = Some("recovery freed a live block"),
                }
                t.remote = true;
                Recovery::ClearIntent(Who::A)
            }
            Recovery::Free(who) => {
                if t.local {
                    match t.block {
                        Block::Published => t.broken = Some("recovery freed a published block"),
                        Block::InFlight => t.block = Block::Free,
                        Block::Free | Block::Unlinked => {}
                    }
                    if self.variant == Variant::LateCommitLocalFree { t.local = false } else { t.remote = true }
                }
                Recovery::ClearIntent(who)
            }
            Recovery::ClearIntent(who) => {
                *(if who == Who::A { &mut t.free_a } else { &mut t.alloc_b }) = false;
                Recovery::Release(who)
            }
            Recovery::Release(who) => {
                if t.lock == Some(who) {
                    t.lock = None;
                }
                if t.slab_owner == Some(who) {
                    t.slab_owner = None;
                }
                if who == Who::A {
                    t.a = Life::Recovered
                } else {
                    t.b = Life::Recovered
                }
                Recovery::Idle
            }
        })
    }
}

impl State {
    /// No operation is open: only then must a free block be accounted for.
    fn at_rest(&self) -> bool {
        let intents = self.free_a || self.alloc_b || self.alloc_e;
        self.recovery == Recovery::Idle && !intents && self.a != Life::Dead && self.b != Life::Dead
    }
}

impl Model for Heap {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        // B has just named the block and set its bit.
        vec![State {
            cell: false,
            lock: None,
            local: true,
            remote: false,
            slab_owner: Some(Who::B),
            alloc_b: true,
            alloc_e: false,
            free_a: false,
            a: Life::Running(Remover::Lock),
            b: Life::Running(Owner::Lock),
            e: Owner::LoadRemote,
            recovery: Recovery::Idle,
            block: Block::InFlight,
            reallocations: 0,
            broken: None,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([
            StepA,
            StepB,
            StepE,
            Adopt,
            KillA,
            KillB,
            RecoverA,
            RecoverB,
            RecoveryStep,
            KillRecovery,
            RebirthA,
        ]);
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        match (action, s.a, s.b) {
            (Action::StepA, Life::Running(at), _) => t.a = Life::Running(self.remove(&mut t, at)?),
            (Action::StepB, _, Life::Running(at)) => t.b = Life::Running(self.own(&mut t, Who::B, at)?),
            (Action::StepE, ..) if s.slab_owner == Some(Who::E) => t.e = self.own(&mut t, Who::E, s.e)?,
            (Action::Adopt, ..) if s.slab_owner.is_none() => {
                t.slab_owner = Some(Who::E);
                t.remote &= t.local;
            }
            (Action::KillA, Life::Running(_), _) => t.a = Life::Dead,
            (Action::KillB, _, Life::Running(_)) => t.b = Life::Dead,
            (Action::RecoverA, Life::Dead, _) if s.recovery == Recovery::Idle => t.recovery = Recovery::Look(Who::A),
            (Action::RecoverB, _, Life::Dead) if s.recovery == Recovery::Idle => t.recovery = Recovery::Look(Who::B),
            (Action::KillRecovery, ..) => match s.recovery {
                Recovery::Judge(who) | Recovery::Free(who) | Recovery::ClearIntent(who) | Recovery::Release(who) => {
                    t.recovery = Recovery::Look(who);
                }
                Recovery::Idle | Recovery::Look(_) => return None,
            },
            (Action::RebirthA, Life::Recovered, _) => t.a = Life::Running(Remover::Lock),
            (Action::RecoveryStep, ..) => t.recovery = self.recover(&mut t)?,
            _ => return None,
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Heap {
    fn broken(&self, s: &State) -> Option<&'static str> {
        if s.block == Block::Published && s.remote {
            return Some("a published block is marked free");
        }
        if s.at_rest() && s.block == Block::Free && s.local && !s.remote {
            return Some("a free block leaked");
        }
        if s.at_rest() && s.block == Block::Unlinked && s.a == Life::Recovered {
            return Some("an unlinked block leaked");
        }
        s.broken
    }

    fn finished(&self, s: &State) -> bool {
        s.at_rest()
    }
}
