//! The internal lock: one word that is owner, waiters' flag and sequence number of what it guards.
//!
//! `sequence:32 | unused:15 | waiters:1 | owner:16`; the low half is the futex. `owner` is `slot + 1`, 0 is free.
//!
//! # Algorithm
//!
//! A futex mutex (Drepper, "Futexes are tricky"), with the sequence of a seqlock in the same word: the release that
//! frees the latch also tells optimistic readers that something may have changed.
//!
//! # Invariants
//!
//! 1. Only the owner changes the owner field and the sequence; anybody may set the waiters' bit.
//! 2. Every release, the undoing of a dead owner's included, raises the sequence. A latch is never stolen: a waiter
//!    that finds its owner dead returns `Stop::Dead`, and recovery releases it. (With stealing and an unchanged
//!    sequence two holders are possible.)
//! 3. A woken waiter takes the latch with the waiters' bit set, since it cannot know that it was the only one.
//! 4. The intent's `op` and `cell` are set before [`acquire`], so a kill leaves nothing held that nobody can find.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::wait::{Deadline, Living, Next, PATIENCE, Waiter, check_owner, stalled};
use crate::error::Error;
use crate::mem::{Me, Segment, Step, Word, fence};

const OWNER: u64 = 0xffff;
const WAITERS: u64 = 1 << 16;
const SEQUENCE_SHIFT: u32 = 32;
/// A nap of those who wait for a latch without wanting it.
const SHORT: Duration = Duration::from_millis(2);

/// Owner field of a latch word: `slot + 1`, or 0.
#[inline(always)]
pub fn owner_of(word: u64) -> u64 {
    word & OWNER
}

/// Sequence number of a latch word.
#[inline(always)]
pub fn sequence_of(word: u64) -> u32 {
    (word >> SEQUENCE_SHIFT) as u32
}

/// The sequence number now: the beginning of an optimistic read.
#[inline(always)]
pub fn observe(word: &Word) -> u32 {
    // Acquire: everything that the release which stored this sequence did is visible.
    sequence_of(word.load(Ordering::Acquire))
}

/// Whether all that was read since `sequence` was observed belongs to one state.
#[inline(always)]
pub fn is_unchanged(word: &Word, sequence: u32) -> bool {
    // Pairs with the Release fence behind every taking of a latch: if any word read before was stored by a later
    // holder, the sequence read here is at least that holder's.
    fence(Ordering::Acquire);
    sequence_of(word.load(Ordering::Relaxed)) == sequence
}

/// Takes the latch.
///
/// # Blocking
/// Spins for some microseconds, then sleeps in slices until the owner releases it.
///
/// # Errors
/// `Stop::Dead` when the owner is dead: recover it and begin again. `Corrupted` when the word names this thread or
/// nobody real; `Stalled` after 30 s.
#[inline]
pub fn acquire(me: &Me<'_>, word: &Word) -> Step<()> {
    acquire_as(me.segment, me.owner(), word)
}

/// [`acquire`] for `owner`, in a world that `living` knows.
#[inline]
pub(super) fn acquire_as(living: &impl Living, owner: u64, word: &Word) -> Step<()> {
    if !try_acquire_as(owner, word) {
        acquire_slowly(living, owner, word)?;
    }
    Ok(())
}

/// Takes the latch if it is free.
#[inline]
pub fn try_acquire(me: &Me<'_>, word: &Word) -> bool {
    try_acquire_as(me.owner(), word)
}

#[inline]
fn try_acquire_as(owner: u64, word: &Word) -> bool {
    let seen = word.load(Ordering::Relaxed);
    if owner_of(seen) != 0 || word.cas(seen, seen | owner, Ordering::Acquire).is_err() {
        return false;
    }
    // Whoever sees one of the stores that follow, behind an Acquire fence, sees the sequence as of this taking.
    fence(Ordering::Release);
    true
}

#[cold]
#[inline(never)]
fn acquire_slowly(living: &impl Living, owner: u64, word: &Word) -> Step<()> {
    let mut waiter = Waiter::until(Deadline::after(PATIENCE));
    let mut bit = 0;
    let mut looked = false;
    loop {
        let seen = word.load(Ordering::Relaxed);
        let holder = owner_of(seen);
        if holder == 0 {
            if word.cas(seen, seen | owner | bit, Ordering::Acquire).is_ok() {
                fence(Ordering::Release);
                return Ok(());
            }
            continue; // somebody else's CAS succeeded: progress
        }
        if holder == owner {
            return Err(Error::corrupted("a latch names this thread, which does not hold it").into());
        }
        match waiter.next() {
            Next::Look => {}
            _ if !looked => {
                looked = true;
                still_served(word, seen, living.check_owner(holder))?;
            }
            Next::Sleep(slice) => {
                bit = WAITERS;
                if seen & WAITERS != 0 || word.cas(seen, seen | WAITERS, Ordering::Relaxed).is_ok() {
                    word.wait((seen | WAITERS) as u32, slice);
                    let now = word.load(Ordering::Relaxed);
                    if now | WAITERS == seen | WAITERS {
                        still_served(word, seen, living.check_owner(holder))?;
                    }
                }
            }
            Next::TimedOut => return Err(living.stalled(holder).into()),
        }
    }
}

/// The verdict on the holder that `seen` names, unless it has released the latch while it was judged: by then its slot
/// may be nobody's.
fn still_served(word: &Word, seen: u64, verdict: Step<()>) -> Step<()> {
    if verdict.is_err() && (word.load(Ordering::Acquire) ^ seen) & !WAITERS != 0 {
        return Ok(());
    }
    verdict
}

/// Releases the latch, raises its sequence, and wakes a waiter if there is one.
#[inline]
pub fn release(word: &Word) {
    let seen = word.load(Ordering::Relaxed);
    let next = u64::from(sequence_of(seen).wrapping_add(1)) << SEQUENCE_SHIFT;
    // Release: who takes the latch next, or reads the new sequence, sees what was done under it. A swap, so that a
    // waiters' bit set meanwhile is seen.
    let before = word.swap(next, Ordering::Release);
    if before & WAITERS != 0 {
        wake(word);
    }
}

#[cold]
fn wake(word: &Word) {
    word.wake(1);
}

/// Releases the latch if `owner`, who is dead or failed, holds it; whether it did.
pub fn release_for(word: &Word, owner: u64) -> bool {
    let held = owner_of(word.load(Ordering::Acquire)) == owner;
    if held {
        release(word);
    }
    held
}

/// Waits until the latch is free, without taking it.
///
/// # Errors
/// As [`acquire`].
#[cold]
pub fn wait_until_free(segment: &Segment, word: &Word) -> Step<()> {
    let mut waiter = Waiter::until(Deadline::after(PATIENCE));
    while owner_of(word.load(Ordering::Acquire)) != 0 {
        wait_a_moment(segment, word, &mut waiter)?;
    }
    Ok(())
}

/// One step of waiting for whoever holds the latch.
///
/// # Errors
/// As [`acquire`].
#[cold]
pub fn wait_a_moment(segment: &Segment, word: &Word, waiter: &mut Waiter) -> Step<()> {
    let seen = word.load(Ordering::Acquire);
    match waiter.next() {
        Next::Look => {}
        Next::Sleep(slice) => {
            still_served(word, seen, check_owner(segment, owner_of(seen)))?;
            // Not registered as a waiter: the release may wake somebody else, so short slices only.
            word.wait(seen as u32, slice.min(SHORT));
        }
        Next::TimedOut => return Err(stalled(segment, owner_of(seen)).into()),
    }
    Ok(())
}
