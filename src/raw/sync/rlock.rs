//! The reentrant lock: one word that names its thread and counts how often it has taken the lock.
//!
//! `generation:32 | depth:15 | waiters:1 | owner:16` (see [`thread`]); the low half is the futex. 0, but for the waiters'
//! bit, is free.
//!
//! # Thread safety and crash
//!
//! 1. While the word names a thread, only that thread changes the depth; anybody may set the waiters' bit.
//! 2. The lock of a thread that is gone, by the death of its process or by its own end, is taken over by a CAS of the
//!    whole word, and the next holder is told.

use std::sync::atomic::Ordering;

use super::super::lock::{self, Acquired, WAITERS};
use super::super::wait::Deadline;
use super::thread::{self, NAME};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Me, Segment, Step, Word};

const DEPTH_SHIFT: u32 = 17;
const DEPTH: u64 = 0x7fff << DEPTH_SHIFT;
const ONCE: u64 = 1 << DEPTH_SHIFT;
/// What a check finds wrong.
const HOLDER: &str = "the holder of a lock";

/// Whether the word names that thread.
pub fn is_named(word: &Word, name: u64) -> bool {
    word.load(Ordering::Acquire) & NAME == name
}

/// How often the thread of that name holds the lock.
pub fn depth(word: &Word, name: u64) -> u64 {
    let seen = word.load(Ordering::Acquire);
    if seen & NAME == name { (seen & DEPTH) >> DEPTH_SHIFT } else { 0 }
}

/// Takes the lock once more for the thread that holds it; whether it does.
#[inline]
fn again(word: &Word, name: u64) -> Result<bool> {
    let seen = word.load(Ordering::Relaxed);
    if seen & NAME != name {
        return Ok(false);
    }
    if seen & DEPTH == DEPTH {
        return Err(Error::new(ErrorKind::TooMany, "acquisitions of a reentrant lock by one thread"));
    }
    word.fetch_add(ONCE, Ordering::Relaxed); // LINEARIZES
    Ok(true)
}

/// Takes the lock if it is free or the calling thread's, and the thread is known already. The thread's name then.
///
/// # Errors
/// `TooMany` at 32767 acquisitions.
#[inline]
pub fn try_acquire(segment: &Segment, word: &Word) -> Result<Option<u64>> {
    let Some(name) = thread::current(segment) else { return Ok(None) };
    // LINEARIZES: the CAS; Acquire: what the last holder did is visible.
    let free = word.load(Ordering::Relaxed) == 0 && word.cas(0, name | ONCE, Ordering::Acquire).is_ok();
    Ok((free || again(word, name)?).then_some(name))
}

/// Takes the lock.
///
/// # Blocking
/// Until it is free or the calling thread's, its holder is gone, or the deadline passes.
///
/// # Errors
/// `TooMany` at 32767 acquisitions.
pub fn acquire(me: &Me<'_>, word: &Word, deadline: Deadline) -> Step<Acquired> {
    match again(word, thread::of(me))? {
        true => Ok(Acquired::Clean),
        false => acquire_deep(me, word, 1, deadline),
    }
}

/// The word of a lock that the calling thread holds `depth` times.
pub fn word_for(me: &Me<'_>, depth: u64) -> u64 {
    thread::of(me) | depth << DEPTH_SHIFT
}

/// Takes the lock, which the calling thread does not hold, as if it did so `depth` times.
pub fn acquire_deep(me: &Me<'_>, word: &Word, depth: u64, deadline: Deadline) -> Step<Acquired> {
    lock::take(word, word_for(me, depth), deadline, &|seen| thread::is_gone(me.segment, seen))
}

/// Releases the lock once, for the thread of that name.
///
/// # Errors
/// `NotHeld` if another thread holds it, or none.
#[inline]
pub fn release(word: &Word, name: u64) -> Result<()> {
    let seen = word.load(Ordering::Relaxed);
    if seen & NAME != name {
        return Err(Error::new(ErrorKind::NotHeld, "a reentrant lock, by the calling thread"));
    }
    if seen & DEPTH <= ONCE {
        release_all(word);
    } else {
        word.fetch_add(ONCE.wrapping_neg(), Ordering::Relaxed); // LINEARIZES
    }
    Ok(())
}

/// Releases the lock of the calling thread, however often it has been taken.
pub fn release_all(word: &Word) {
    // LINEARIZES: the swap; Release: the next holder sees what was done under the lock.
    if word.swap(0, Ordering::Release) & WAITERS != 0 {
        word.wake(1);
    }
}

/// Checks a reentrant lock at rest: it is held at least once by a thread that there is or was, or free.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, word: &Word) -> Result<()> {
    let word = word.load(Ordering::Acquire);
    thread::check_name(segment, word, HOLDER)?;
    match (word & NAME == 0) == (word & DEPTH == 0) {
        true => Ok(()),
        false => Err(Error::corrupted(HOLDER)),
    }
}

/// [`check`] of a word that names its holder and does not count.
pub(super) fn check_uncounted(segment: &Segment, word: &Word) -> Result<()> {
    let word = word.load(Ordering::Acquire);
    match word & DEPTH {
        0 => thread::check_name(segment, word, HOLDER),
        _ => Err(Error::corrupted(HOLDER)),
    }
}
