//! The users' lock: one word that names its holder for ever.
//!
//! `incarnation:24 | process:8 | unused:15 | waiters:1 | owner:16`; the low half is the futex. `owner` is `slot + 1`;
//! process and incarnation name one use of a process record, so a holder that died is told from whoever takes its
//! slot or record later.
//!
//! # Thread safety and crash
//!
//! 1. Taken by CAS, released by swap, so that the waiters' bit is seen.
//! 2. The lock of a dead process is taken over by a CAS of the *whole* word, after the process has been recovered, and
//!    the next holder is told: [`Acquired::Recovered`].
//! 3. A thread that ends while it holds the lock leaves it held as long as its process lives. Any process may release
//!    it, as with Python's lock.

use std::sync::atomic::Ordering;

use super::wait::{Deadline, Living, Next, Waiter};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Me, Segment, Step, Word};

const OWNER: u64 = 0xffff;
/// Somebody may be asleep on the word.
pub(super) const WAITERS: u64 = 1 << 16;
const UNUSED: u64 = 0x7fff << 17;
const PROCESS_SHIFT: u32 = 32;
const INCARNATION_SHIFT: u32 = 40;
/// Uses of a process record that are soon to come.
const AHEAD: u32 = 1 << 16;

/// How a wait for a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The lock is held by the caller.
    Clean,
    /// The lock is held by the caller; the holder before it died holding it.
    Recovered,
    /// The deadline passed.
    TimedOut,
}

/// How the word names the calling thread.
#[inline]
pub fn word_for(me: &Me<'_>) -> u64 {
    let process = me.segment.membership().me();
    word_of(me.owner(), process.index, process.incarnation)
}

/// The word of a lock that thread `owner` of that process holds.
#[inline]
pub(super) fn word_of(owner: u64, process: u32, incarnation: u32) -> u64 {
    owner | u64::from(process) << PROCESS_SHIFT | u64::from(incarnation) << INCARNATION_SHIFT
}

/// Takes the lock if it is free and the thread is known already: no operation is begun, for there is nothing to undo.
/// How the word names the holder then.
#[inline(always)]
pub fn try_acquire(segment: &Segment, word: &Word) -> Option<u64> {
    let slot = segment.current_slot()?;
    let process = segment.membership().me();
    let mine = word_of(u64::from(slot.index) + 1, process.index, process.incarnation);
    // LINEARIZES: the CAS; Acquire: what the last holder did is visible. (To look first would fetch the line twice.)
    word.cas(0, mine, Ordering::Acquire).is_ok().then_some(mine)
}

/// Takes the lock.
///
/// # Blocking
/// Until it is free, its holder dies, or the deadline passes. A deadline that has passed already makes it a try.
///
/// # Errors
/// `WouldDeadlock` if the calling thread holds it.
#[inline]
pub fn acquire(me: &Me<'_>, word: &Word, deadline: Deadline) -> Step<Acquired> {
    acquire_as(me.segment, word_for(me), word, deadline)
}

/// [`acquire`] for the holder that `mine` names, in a world that `living` knows.
#[inline]
pub(super) fn acquire_as(living: &impl Living, mine: u64, word: &Word, deadline: Deadline) -> Step<Acquired> {
    take(word, mine, deadline, &|seen| holder_is_gone(living, seen))
}

/// Writes `mine` into a word that is 0, or names somebody gone: the waiting that all locks have in common. Of the bits of
/// `mine`, [`WAITERS`] must be clear.
///
/// # Errors
/// `WouldDeadlock` if the word is `mine`; those of `is_gone`, which judges the holder that a word names.
#[cold]
#[inline(never)]
pub(super) fn take(word: &Word, mine: u64, deadline: Deadline, is_gone: &dyn Fn(u64) -> Step<bool>) -> Step<Acquired> {
    let mut waiter = Waiter::until(deadline);
    let mut bit = 0;
    let mut looked = false;
    loop {
        let seen = word.load(Ordering::Relaxed);
        if seen & !WAITERS == 0 {
            // LINEARIZES: the CAS; Acquire: what the last holder did is visible.
            if word.cas(seen, mine | bit | (seen & WAITERS), Ordering::Acquire).is_ok() {
                return Ok(Acquired::Clean);
            }
            continue; // somebody else's CAS succeeded: progress
        }
        if seen & !WAITERS == mine {
            return Err(Error::new(ErrorKind::WouldDeadlock, "a lock").into());
        }
        let next = waiter.next();
        let due = match next {
            Next::Look => false,
            Next::Sleep(_) => !std::mem::replace(&mut looked, true),
            Next::TimedOut => !looked, // a try looks once, too
        };
        if due && is_gone(seen)? {
            if word.cas(seen, mine | bit | (seen & WAITERS), Ordering::Acquire).is_ok() {
                return Ok(Acquired::Recovered);
            }
            continue;
        }
        match next {
            Next::TimedOut => {
                if bit & !seen != 0 {
                    // We may have used up the wake-up that was meant for whoever sleeps still.
                    let _ = word.cas(seen, seen | WAITERS, Ordering::Relaxed); // timed out
                }
                return Ok(Acquired::TimedOut);
            }
            Next::Sleep(slice) => {
                bit = WAITERS;
                if seen & WAITERS != 0 || word.cas(seen, seen | WAITERS, Ordering::Relaxed).is_ok() {
                    word.wait((seen | WAITERS) as u32, slice);
                    looked = word.load(Ordering::Relaxed) | WAITERS != seen | WAITERS;
                }
            }
            Next::Look => {}
        }
    }
}

/// Whether the process that `seen` names is gone and has been recovered.
///
/// # Errors
/// `Stop::Dead` if it is dead and not yet recovered.
pub(super) fn holder_is_gone(living: &impl Living, seen: u64) -> Step<bool> {
    living.is_gone(process_of(seen), (seen >> INCARNATION_SHIFT) as u32)
}

/// Index of the process that a word names.
pub(super) fn process_of(word: u64) -> u32 {
    (word >> PROCESS_SHIFT) as u32 & 0xff
}

/// Whether two words name threads of the same incarnation of a process.
pub(super) fn same_process(one: u64, other: u64) -> bool {
    one >> PROCESS_SHIFT == other >> PROCESS_SHIFT
}

/// Releases the lock, whoever holds it.
///
/// # Errors
/// `NotHeld` if nobody does.
#[inline]
pub fn release(word: &Word) -> Result<()> {
    if word.load(Ordering::Relaxed) & !WAITERS == 0 {
        return Err(Error::new(ErrorKind::NotHeld, "a lock"));
    }
    free(word);
    Ok(())
}

#[inline(always)]
fn free(word: &Word) {
    // LINEARIZES: the swap; Release: the next holder sees what was done under the lock.
    if word.swap(0, Ordering::Release) & WAITERS != 0 {
        wake(word);
    }
}

#[cold]
#[inline(never)]
fn wake(word: &Word) {
    word.wake(1);
}

/// Releases the lock if it is held by whom `holder` names; whether it was.
#[inline(always)]
pub fn release_by(word: &Word, holder: u64) -> bool {
    let is_held = word.load(Ordering::Relaxed) & !WAITERS == holder;
    if is_held {
        free(word);
    }
    is_held
}

/// Whether the calling thread holds the lock.
pub fn is_mine(me: &Me<'_>, word: &Word) -> bool {
    word.load(Ordering::Acquire) & !WAITERS == word_for(me)
}

/// Whether anybody holds it.
pub fn is_locked(word: &Word) -> bool {
    word.load(Ordering::Acquire) & !WAITERS & (OWNER | !0 << PROCESS_SHIFT) != 0
}

/// Checks a lock at rest: it names a thread of a process that there is or was, or nobody at all.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, word: &Word) -> Result<()> {
    let word = word.load(Ordering::Acquire) & !WAITERS;
    if word == 0 {
        return Ok(());
    }
    // Incarnations count modulo 2^24, and the dead hold a lock for ever: only one that is about to come cannot be meant.
    let ahead = ((word >> INCARNATION_SHIFT) as u32).wrapping_sub(segment.incarnation(process_of(word))?) & 0xff_ffff;
    let owner = word & OWNER;
    match !(1..AHEAD).contains(&ahead) && owner != 0 && owner <= segment.slots_used().into() && word & UNUSED == 0 {
        true => Ok(()),
        false => Err(Error::corrupted("the holder of a lock")),
    }
}
