//! A value that is made once: a cell, and a word that says that it is made.
//!
//! The root block: the words of a [cell](super::super::cell), then `DONE`. The cell's lock word is
//! `generation:32 | unused:15 | waiters:1 | owner:16` and names the thread that makes the value.
//!
//! # Thread safety and crash
//!
//! Double-checked locking: whoever finds `DONE` 0 takes the lock and looks again. The value is in the cell before `DONE`
//! is 1, and never changes again. The lock of a maker that is gone is taken over, and the next maker is told.

use std::sync::atomic::Ordering;

use super::super::cell;
use super::super::lock::{self, Acquired};
use super::super::wait::Deadline;
use super::{rlock, thread};
use crate::error::{Error, Result};
use crate::mem::{Me, Segment, Step, Word};

const DONE: usize = 2;
const _: () = assert!(DONE == cell::WORDS);
/// Words beside the cell's.
pub const MORE: usize = 1;

fn done(segment: &Segment, root: u64) -> Result<&Word> {
    Ok(&segment.words(root, cell::WORDS + MORE)?[DONE])
}

/// Whether the value is made.
#[inline]
pub fn is_done(segment: &Segment, root: u64) -> Result<bool> {
    // Acquire: the value is visible.
    Ok(done(segment, root)?.load(Ordering::Acquire) != 0)
}

/// Takes the right to make the value, unless it is made.
///
/// # Errors
/// `WouldDeadlock` if the calling thread is making it.
pub fn begin(me: &Me<'_>, root: u64, deadline: Deadline) -> Step<Acquired> {
    let word = cell::lock_word(me.segment, root)?;
    lock::take(word, thread::of(me), deadline, &|seen| thread::is_gone(me.segment, seen))
}

/// Whether the calling thread makes the value.
pub fn is_maker(me: &Me<'_>, root: u64) -> Result<bool> {
    Ok(rlock::is_named(cell::lock_word(me.segment, root)?, thread::of(me)))
}

/// Publishes the value that the cell has now.
pub fn publish(segment: &Segment, root: u64) -> Result<()> {
    // LINEARIZES: the store; Release: whoever sees it sees the value.
    done(segment, root)?.store(1, Ordering::Release);
    Ok(())
}

/// Ends the making of the value by the thread of that name, made or not: the next waiter goes on.
pub fn end(segment: &Segment, root: u64, name: u64) -> Result<()> {
    let word = cell::lock_word(segment, root)?;
    if rlock::is_named(word, name) {
        rlock::release_all(word);
    }
    Ok(())
}

/// Checks a value that is made once, at rest; its cell is checked elsewhere.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    rlock::check_uncounted(segment, cell::lock_word(segment, root)?)?;
    match done(segment, root)?.load(Ordering::Acquire) {
        0 | 1 => Ok(()),
        _ => Err(Error::corrupted("whether a value is made")),
    }
}
