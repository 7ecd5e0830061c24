//! Names of threads, as locks and waiting rooms write them down: `generation:32 | other:16 | owner:16`.
//!
//! `owner` is `slot + 1`, and `generation` tells one use of that slot from all others; so a word names one thread for
//! ever. The 16 bits between belong to the word. A thread that has ended, or whose process has died and been recovered,
//! is *gone*: its slot is free, or in its next use.

use super::super::recovery;
use crate::error::{Error, Result};
use crate::mem::{Liveness, Me, Segment, Step, Stop};

const OWNER: u64 = 0xffff;
/// The bits of a word that name a thread.
pub const NAME: u64 = 0xffff_ffff << GENERATION_SHIFT | OWNER;
const GENERATION_SHIFT: u32 = 32;
/// Uses of a slot that are soon to come.
const AHEAD: u32 = 1 << 24;

/// Who knows which threads there are: a segment, or a stand-in under loom, where there are no segments.
pub trait Threads {
    /// See [`is_gone`].
    fn is_gone(&self, word: u64) -> Step<bool>;

    /// Slots from this one on have never been used.
    fn slots_used(&self) -> usize;
}

impl Threads for Segment {
    fn is_gone(&self, word: u64) -> Step<bool> {
        is_gone(self, word)
    }

    fn slots_used(&self) -> usize {
        self.slots_used().into()
    }
}

/// The name of the thread that has the slot in that generation.
pub fn name(slot: u16, generation: u32) -> u64 {
    u64::from(generation) << GENERATION_SHIFT | (u64::from(slot) + 1)
}

/// The name of the calling thread.
#[inline]
pub fn of(me: &Me<'_>) -> u64 {
    let slot = me.slot();
    name(slot.index, slot.generation)
}

/// The name of the calling thread, if it has a slot already and this segment is the one it used last.
#[inline]
pub fn current(segment: &Segment) -> Option<u64> {
    segment.current_slot().map(|slot| name(slot.index, slot.generation))
}

/// The name of the calling thread, which gets a slot if it has none.
pub fn name_in(segment: &Segment) -> Result<u64> {
    match current(segment) {
        Some(name) => Ok(name),
        None => recovery::run(segment, |me| Ok(of(me))),
    }
}

/// Index of the slot in a word that names a thread.
#[inline]
pub fn slot_of(word: u64) -> usize {
    (word & OWNER).wrapping_sub(1) as usize
}

/// Whether the thread that `word` names is gone.
///
/// # Errors
/// `Stop::Dead` if its process is dead and not yet recovered; `Corrupted` if there is no such slot.
#[cold]
pub fn is_gone(segment: &Segment, word: u64) -> Step<bool> {
    let state = segment.slot_state(slot_of(word) as u16)?;
    if !state.used || state.generation != (word >> GENERATION_SHIFT) as u32 {
        return Ok(true);
    }
    match segment.liveness(state.process)? {
        Liveness::Alive => Ok(false),
        Liveness::Dead => Err(Stop::Dead(state.process)),
        Liveness::Free | Liveness::Poisoned => Ok(true),
    }
}

/// Checks a word at rest: it names a thread that there is or was, or nobody at all.
///
/// # Errors
/// `Corrupted`, with `rule`.
pub fn check_name(segment: &Segment, word: u64, rule: &'static str) -> Result<()> {
    let is_whole = match word & OWNER {
        0 => word & NAME == 0,
        _ if slot_of(word) >= segment.slots_used().into() => false,
        _ => {
            // Generations count modulo 2^32, and names stay: only one that is about to come cannot be meant.
            let now = segment.slot_state(slot_of(word) as u16)?.generation;
            !(1..AHEAD).contains(&((word >> GENERATION_SHIFT) as u32).wrapping_sub(now))
        }
    };
    if is_whole { Ok(()) } else { Err(Error::corrupted(rule)) }
}
