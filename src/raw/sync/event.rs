//! The event: a flag, and how often it has been set.
//!
//! The root block is one word: `sequence:62 | waiters:1 | flag:1`; the low half is the futex.
//!
//! # Thread safety and crash
//!
//! 1. Setting raises the sequence and sets the flag by one CAS; so a waiter knows that the event was set even if it has
//!    been cleared by the time it looks.
//! 2. Who sets takes the waiters' bit away and wakes all; who is about to sleep sets it by a CAS, so either the setter
//!    sees the bit or the sleeper sees the flag.
//! 3. A setter killed before its wake-up costs the sleepers one slice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::cell;
use super::super::ring::Rest;
use super::super::wait::{Deadline, Next, Waiter};
use crate::error::{Error, Result};
use crate::mem::{Me, Segment, Word};

const FLAG: u64 = 1;
const WAITERS: u64 = 2;
const ONE: u64 = 4;

/// Builds an event that is not set.
pub fn create(me: &Me<'_>, root_ref: &Word) -> Result<()> {
    cell::create_zeroed(me, root_ref, 1).map(drop)
}

/// Whether it is set.
#[inline]
pub fn is_set(word: &Word) -> bool {
    // Acquire: what was done before it was set is visible.
    word.load(Ordering::Acquire) & FLAG != 0
}

/// Sets it and wakes all waiters.
pub fn set(word: &Word) {
    loop {
        let seen = word.load(Ordering::Relaxed);
        if seen & FLAG != 0 && word.cas(seen, seen, Ordering::Release).is_ok() {
            return; // set already: the CAS publishes what this setter did before
        }
        if seen & FLAG != 0 {
            continue; // somebody cleared it: their progress
        }
        let next = (seen.wrapping_add(ONE) | FLAG) & !WAITERS;
        // LINEARIZES: the CAS; Release: a waiter sees what was done before.
        if word.cas(seen, next, Ordering::Release).is_ok() {
            if seen & WAITERS != 0 {
                word.wake(u32::MAX);
            }
            return;
        }
    }
}

/// Clears it.
pub fn clear(word: &Word) {
    word.fetch_and(!FLAG, Ordering::AcqRel);
}

/// What to sleep on, for who may sleep on several words at once; `None` if it is set, or has changed a moment ago.
pub fn arm(word: &Word) -> Option<Rest<'_>> {
    let seen = word.load(Ordering::Acquire);
    if seen & FLAG == 0 { rest(word, seen) } else { None }
}

/// Tells setters that somebody sleeps; `None` if it is not as `seen` any more.
fn rest(word: &Word, seen: u64) -> Option<Rest<'_>> {
    let told = seen & WAITERS != 0 || word.cas(seen, seen | WAITERS, Ordering::Acquire).is_ok();
    told.then_some(Rest { word, low: (seen | WAITERS) as u32, most: Duration::MAX })
}

/// Waits until it is set, or has been since the wait began. False if the deadline passes first.
///
/// # Errors
/// `Evicted` when this process was judged dead meanwhile.
pub fn wait(segment: &Segment, word: &Word, deadline: Deadline) -> Result<bool> {
    wait_while(word, deadline, &|| segment.still_member())
}

/// [`wait`], in a world where `goes_on` tells whether to go on.
pub(in crate::raw) fn wait_while(word: &Word, deadline: Deadline, goes_on: &dyn Fn() -> Result<()>) -> Result<bool> {
    let first = word.load(Ordering::Acquire);
    let mut seen = first;
    let mut waiter = Waiter::until(deadline);
    loop {
        if seen & FLAG != 0 || (seen ^ first) & !(FLAG | WAITERS) != 0 {
            return Ok(true);
        }
        match waiter.next() {
            Next::Look => {}
            Next::Sleep(slice) => {
                goes_on()?;
                if let Some(rest) = rest(word, seen) {
                    word.wait(rest.low, slice);
                }
            }
            Next::TimedOut => return Ok(false),
        }
        seen = word.load(Ordering::Acquire);
    }
}

/// Checks an event at rest: nobody sleeps while it is set, and what is set has been set at least once.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(word: &Word) -> Result<()> {
    let seen = word.load(Ordering::Acquire);
    match seen & FLAG != 0 && (seen & WAITERS != 0 || seen < ONE) {
        true => Err(Error::corrupted("the flag of an event")),
        false => Ok(()),
    }
}
