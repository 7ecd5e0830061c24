//! The queue: a push whose payload is a block, and what recovery may say about that block.
//!
//! **Protocol.** The pusher D allocates block B (named in its intent as `alloc`), claims the slot, stores `phase =
//! CLAIMED` in its intent, publishes F(B), clears `alloc`. Recovery of D, restartable after every step:
//!
//! - the slot is D's own W: free B, **then** W → T, then clear `alloc`;
//! - else `phase == CLAIMED`: B was published (or already freed by an earlier recovery): clear `alloc`;
//! - else B was never published: free B, then clear `alloc`.
//!
//! Freeing is idempotent while the intent names B (see `heap`).
//!
//! **Rules.** Recovery never frees a block that a slot or a consumer's guard owns; no block is leaked once `alloc` is
//! clear; recovery always ends.
//!
//! **Left out.** Weak memory; hints, laps beyond the second, returned items (`ring`). One slot, a rival pusher that may
//! claim it first, a consumer that may hold B as a guard and free it.
//!
//! | mutant | how recovery decides | what goes wrong |
//! |---|---|---|
//! | `ByLap` | the slot has moved on from E(0): published | a rival moved it: B leaks |
//! | `ByPayload` | the slot still names B: published | consumed meanwhile: a guard's block is freed |
//! | `PhaseBeforeClaim` | as real, but the phase is stored before the claim CAS | a rival won: B leaks |
//! | `PhaseAfterPublish` | as real, but the phase is stored after F(B) | consumed meanwhile: a guard's block is freed |
//! | `TombFirst` | as real, but W → T comes before the free | a second recovery reads CLAIMED as published: B leaks |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    ByLap,
    ByPayload,
    PhaseBeforeClaim,
    PhaseAfterPublish,
    TombFirst,
}

#[derive(Clone, Copy, Debug)]
pub struct PushBlock {
    pub variant: Variant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Payload {
    /// The block of the pusher that may die.
    B,
    /// The rival's.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Empty,
    WritingPusher,
    WritingRival,
    Full(Payload),
    Reading(Payload),
    Tomb,
    /// Empty again, one lap on.
    NextLap,
}

/// Who owns B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Block {
    Unallocated,
    Private,
    Published,
    Guarded,
    Freed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pusher {
    Start,
    Claim,
    Phase,
    Publish,
    LatePhase,
    ClearAlloc,
    Done,
    /// A rival has the slot; the next position is not modelled.
    MovedOn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    slot: Slot,
    pusher: Pusher,
    dead: bool,
    alloc: bool,
    claimed_phase: bool,
    rival_done: bool,
    block: Block,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Push,
    Kill,
    Rival,
    Consume,
    DropGuard,
    Recover,
}

impl PushBlock {
    fn push(&self, s: &State) -> Option<State> {
        if s.dead {
            return None;
        }
        let mut t = s.clone();
        t.pusher = match s.pusher {
            Pusher::Start => {
                (t.alloc, t.block) = (true, Block::Private);
                t.claimed_phase = self.variant == Variant::PhaseBeforeClaim;
                Pusher::Claim
            }
            Pusher::Claim if s.slot == Slot::Empty => {
                t.slot = Slot::WritingPusher;
                match self.variant {
                    Variant::PhaseBeforeClaim | Variant::PhaseAfterPublish => Pusher::Publish,
                    _ => Pusher::Phase,
                }
            }
            Pusher::Claim if s.slot == Slot::NextLap => Pusher::MovedOn,
            Pusher::Phase => {
                t.claimed_phase = true;
                Pusher::Publish
            }
            Pusher::Publish => {
                (t.slot, t.block) = (Slot::Full(Payload::B), Block::Published);
                if self.variant == Variant::PhaseAfterPublish { Pusher::LatePhase } else { Pusher::ClearAlloc }
            }
            Pusher::LatePhase => {
                t.claimed_phase = true;
                Pusher::ClearAlloc
            }
            Pusher::ClearAlloc => {
                t.alloc = false;
                Pusher::Done
            }
            Pusher::Claim | Pusher::Done | Pusher::MovedOn => return None,
        };
        Some(t)
    }

    fn recover(&self, s: &State) -> Option<State> {
        if !s.dead || !s.alloc {
            return None;
        }
        let mut t = s.clone();
        if s.slot == Slot::WritingPusher {
            if s.block == Block::Private && self.variant != Variant::TombFirst {
                t.block = Block::Freed;
            } else {
                t.slot = Slot::Tomb;
            }
            return Some(t);
        }
        let published = match self.variant {
            Variant::ByLap => s.slot != Slot::Empty,
            Variant::ByPayload => s.slot == Slot::Full(Payload::B),
            _ => s.claimed_phase,
        };
        if !published && s.block != Block::Freed {
            if s.block != Block::Private {
                t.broken = Some("recovery freed a published block");
            }
            t.block = Block::Freed;
        } else {
            t.alloc = false;
        }
        Some(t)
    }
}

impl Model for PushBlock {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            slot: Slot::Empty,
            pusher: Pusher::Start,
            dead: false,
            alloc: false,
            claimed_phase: false,
            rival_done: false,
            block: Block::Unallocated,
            broken: None,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([Push, Kill, Rival, Consume, DropGuard, Recover]);
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        match action {
            Action::Push => return self.push(s),
            Action::Recover => return self.recover(s),
            Action::Kill if !s.dead => t.dead = true,
            Action::Rival if s.slot == Slot::Empty && !s.rival_done => t.slot = Slot::WritingRival,
            Action::Rival if s.slot == Slot::WritingRival => {
                (t.slot, t.rival_done) = (Slot::Full(Payload::Other), true);
            }
            Action::Consume => match s.slot {
                Slot::Full(payload) => t.slot = Slot::Reading(payload),
                Slot::Reading(payload) => {
                    t.slot = Slot::NextLap;
                    if payload == Payload::B {
                        t.block = Block::Guarded;
                    }
                }
                Slot::Tomb => t.slot = Slot::NextLap,
                _ => return None,
            },
            Action::DropGuard if s.block == Block::Guarded => t.block = Block::Freed,
            _ => return None,
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for PushBlock {
    fn broken(&self, s: &State) -> Option<&'static str> {
        if s.dead && !s.alloc && s.block == Block::Private {
            return Some("a block leaked");
        }
        s.broken
    }

    fn finished(&self, s: &State) -> bool {
        if s.dead { !s.alloc } else { matches!(s.pusher, Pusher::Done | Pusher::MovedOn) }
    }
}
