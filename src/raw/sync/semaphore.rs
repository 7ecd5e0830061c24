//! The semaphore: a count of free permits, and for each process the count of those that it owns.
//!
//! The root block, in words: `STATE`, `BOUND` (0, or the bound and 1), and from `HELD` on one word for each process
//! record, `incarnation:24 | unused:8 | count:32`.
//!
//! `STATE` is `free:32 | owned:15 | waiters:1 | owner:16`; the low half is the futex. `owned` is the sum of the counts, and
//! `owner` (`slot + 1`) a latch that is taken and left in the very stores that change the count.
//!
//! # Thread safety and crash
//!
//! 1. A *plain* permit is taken and released by one CAS, under no latch and with no intent. It is nobody's: a kill keeps it.
//! 2. An *owned* permit moves between `free` and the count of a process: one CAS takes the latch, then the process's count is
//!    stored, then one store leaves the latch. Taking changes both sums with the CAS, giving with the last store. Nobody
//!    else changes `STATE` meanwhile, but for the waiters' bit.
//! 3. The commit is the intent's phase 1, which names the count to store: before it the CAS is undone, after it the rest is
//!    done. `owner` tells whether there is anything left to do.
//! 4. Recovery of a process gives back what its count says, as an operation of the recoverer's own. Whoever waits looks for
//!    dead processes among the counts.
//! 5. A release takes the waiters' bit away. A taker that has slept sets it again if it takes the last permit, and passes the
//!    wake-up on if more is free.

use std::sync::atomic::Ordering;

use super::super::wait::{Deadline, Next, PATIENCE, Waiter, check_owner, stalled};
use super::super::{cell, recovery};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::layout::PROCESSES;
use crate::mem::{Field, Intent, Liveness, Me, Op, OpKind, Segment, Step, Stop, Word};

const STATE: usize = 0;
const BOUND: usize = 1;
const HELD: usize = 2;
const WORDS: usize = HELD + PROCESSES as usize;

const OWNER: u64 = 0xffff;
const WAITERS: u64 = 1 << 16;
const OWNED_SHIFT: u32 = 17;
/// Most permits that can be owned at a time.
const MAX_OWNED: u64 = 0x7fff;
const FREE_SHIFT: u32 = 32;
const ONE: u64 = 1 << FREE_SHIFT;
/// From this phase on the argument of the intent is the count to store; before it, the number of permits that move.
const COUNTED: u8 = 1;

fn free_of(state: u64) -> u64 {
    state >> FREE_SHIFT
}

fn owned_of(state: u64) -> u64 {
    state >> OWNED_SHIFT & MAX_OWNED
}

/// What `permits` owned ones less, and as many free ones more, add to the state.
fn given(permits: u64) -> u64 {
    (permits << FREE_SHIFT).wrapping_sub(permits << OWNED_SHIFT)
}

fn pack_held(incarnation: u32, count: u64) -> u64 {
    if count == 0 { 0 } else { u64::from(incarnation) << 40 | count & 0xffff_ffff }
}

fn count_of(held: u64) -> u64 {
    held & 0xffff_ffff
}

fn words(segment: &Segment, root: u64) -> Result<&[Word]> {
    segment.words(root, WORDS)
}

/// Builds a semaphore with `permits` free ones, `bounded` if there are never to be more.
pub fn create(me: &Me<'_>, root_ref: &Word, permits: u32, bounded: bool) -> Result<()> {
    let words = cell::create_zeroed(me, root_ref, WORDS)?;
    words[STATE].store(u64::from(permits) << FREE_SHIFT, Ordering::Relaxed);
    words[BOUND].store(if bounded { u64::from(permits) + 1 } else { 0 }, Ordering::Relaxed);
    Ok(())
}

/// Permits that are free.
pub fn free(segment: &Segment, root: u64) -> Result<u32> {
    Ok(free_of(words(segment, root)?[STATE].load(Ordering::Acquire)) as u32)
}

/// Takes a plain permit if one is free and nobody is moving an owned one.
#[inline]
pub fn try_take(segment: &Segment, root: u64) -> Result<bool> {
    let state = &words(segment, root)?[STATE];
    loop {
        let seen = state.load(Ordering::Relaxed);
        if seen & OWNER != 0 || free_of(seen) == 0 {
            return Ok(false);
        }
        if take_plain(state, seen, 0) {
            return Ok(true);
        } // somebody else's CAS succeeded: progress
    }
}

/// Takes a plain permit if the state is as `seen`, where one is free, and sets `bit`.
#[inline]
pub(in crate::raw) fn take_plain(state: &Word, seen: u64, bit: u64) -> bool {
    // LINEARIZES: the CAS; Acquire: what was done before the release is visible.
    state.cas(seen, (seen - ONE) | bit, Ordering::Acquire).is_ok()
}

/// Releases `permits` plain ones if nobody is moving an owned one; whether that was so.
///
/// # Errors
/// `NotHeld` if there would be more than the bound; `TooMany` if more than 2^32 - 1. Nothing is released then.
#[inline]
pub fn try_release(segment: &Segment, root: u64, permits: u32) -> Result<bool> {
    let words = words(segment, root)?;
    release_plain(&words[STATE], words[BOUND].load(Ordering::Relaxed), permits)
}

/// [`try_release`] of a semaphore with that state and bound.
#[inline]
pub(in crate::raw) fn release_plain(state: &Word, bound: u64, permits: u32) -> Result<bool> {
    loop {
        let seen = state.load(Ordering::Relaxed);
        if seen & OWNER != 0 {
            return Ok(false);
        }
        let free = free_of(seen) + u64::from(permits);
        if bound != 0 && free + owned_of(seen) >= bound {
            return Err(Error::new(ErrorKind::NotHeld, "a permit of a bounded semaphore"));
        }
        if free > u64::from(u32::MAX) {
            return Err(Error::new(ErrorKind::TooMany, "permits of a semaphore"));
        }
        let next = free << FREE_SHIFT | seen & !WAITERS & (ONE - 1);
        // LINEARIZES: the CAS; Release: who takes the permit sees what was done before.
        if state.cas(seen, next, Ordering::Release).is_ok() {
            if seen & WAITERS != 0 {
                state.wake(permits);
            }
            return Ok(true);
        }
    }
}

/// As [`try_release`], waiting for whoever moves an owned permit.
#[cold]
pub fn release(me: &Me<'_>, root: u64, permits: u32) -> Step<()> {
    let mut waiter = Waiter::until(Deadline::after(PATIENCE));
    while !try_release(me.segment, root, permits)? {
        wait_for_latch(me, &words(me.segment, root)?[STATE], &mut waiter)?;
    }
    Ok(())
}

/// One step of waiting until nobody moves an owned permit.
fn wait_for_latch(me: &Me<'_>, state: &Word, waiter: &mut Waiter) -> Step<()> {
    let seen = state.load(Ordering::Acquire);
    if seen & OWNER == me.owner() {
        return Err(names_this_thread().into());
    }
    if seen & OWNER == 0 {
        return Ok(());
    }
    match waiter.next() {
        Next::Look => {}
        Next::Sleep(slice) => {
            let verdict = check_owner(me.segment, seen & OWNER);
            if verdict.is_err() && state.load(Ordering::Acquire) & OWNER == seen & OWNER {
                return verdict;
            }
            state.wait(seen as u32, slice);
        }
        Next::TimedOut => return Err(stalled(me.segment, seen & OWNER).into()),
    }
    Ok(())
}

/// Takes a permit, for the calling process to own or for nobody. False if the deadline passes first.
///
/// # Blocking
/// Until one is free: released, or come back from a process that died.
///
/// # Errors
/// `TooMany` at 32767 owned permits.
pub fn acquire(me: &Me<'_>, root: u64, owned: bool, deadline: Deadline) -> Step<bool> {
    let state = &words(me.segment, root)?[STATE];
    let take = |seen, bit| if owned { take_owned(me, root, seen, bit) } else { Ok(take_plain(state, seen, bit)) };
    wait_and_take(state, deadline, &take, &|seen| look_for_the_dead(me, root, seen))
}

/// The waiting of [`acquire`]: `take` tries to where a permit is free, and `look` whether one has come back from the dead.
pub(in crate::raw) fn wait_and_take(
    state: &Word,
    deadline: Deadline,
    take: &dyn Fn(u64, u64) -> Step<bool>,
    look: &dyn Fn(u64) -> Step<bool>,
) -> Step<bool> {
    let mut waiter = Waiter::until(deadline);
    let (mut bit, mut looked) = (0, false);
    loop {
        let seen = state.load(Ordering::Relaxed);
        if seen & OWNER == 0 && free_of(seen) > 0 {
            // Beside a free permit the bit would put to sleep who looked before the release: the futex does not count permits.
            if take(seen, if free_of(seen) > 1 { 0 } else { bit })? {
                if bit != 0 && free_of(seen) > 1 {
                    state.wake(1); // others may sleep whose bit a release took away with ours
                }
                return Ok(true);
            }
            continue; // somebody else's CAS succeeded: progress
        }
        let next = waiter.next();
        let due = match next {
            Next::Look => false,
            Next::Sleep(_) => !std::mem::replace(&mut looked, true),
            Next::TimedOut => !looked,
        };
        if due && look(seen)? {
            continue;
        }
        match next {
            Next::TimedOut => return Ok(false),
            Next::Sleep(slice) => {
                bit = WAITERS;
                if seen & WAITERS != 0 || state.cas(seen, seen | WAITERS, Ordering::Relaxed).is_ok() {
                    state.wait((seen | WAITERS) as u32, slice);
                    looked = false;
                }
            }
            Next::Look => {}
        }
    }
}

/// Gives back what processes own that left without doing so. Whether there were any.
///
/// # Errors
/// `Stop::Dead` for an owner that has died.
#[cold]
fn look_for_the_dead(me: &Me<'_>, root: u64, seen: u64) -> Step<bool> {
    let words = words(me.segment, root)?;
    if seen & OWNER == me.owner() {
        return Err(names_this_thread().into());
    }
    if seen & OWNER != 0 {
        let verdict = check_owner(me.segment, seen & OWNER);
        let same = words[STATE].load(Ordering::Acquire) & OWNER == seen & OWNER;
        return if same { verdict.map(|()| false) } else { Ok(false) };
    }
    if owned_of(seen) == 0 {
        return Ok(false);
    }
    let mut found = false;
    for (process, word) in (0..PROCESSES as u32).zip(&words[HELD..]) {
        let held = word.load(Ordering::Acquire);
        if count_of(held) == 0 {
            continue;
        }
        let same = me.segment.incarnation(process)? == (held >> 40) as u32;
        match me.segment.liveness(process)? {
            Liveness::Alive if same => {}
            Liveness::Dead if same => return Err(Stop::Dead(process)),
            _ => found |= move_back(me, root, process, Some(((held >> 40) as u32, u64::MAX)))?,
        }
    }
    Ok(found)
}

/// Takes a permit for the calling process, if the state is as `seen`.
fn take_owned(me: &Me<'_>, root: u64, seen: u64, bit: u64) -> Step<bool> {
    if owned_of(seen) == MAX_OWNED {
        return Err(Error::new(ErrorKind::TooMany, "owned permits of a semaphore").into());
    }
    let words = words(me.segment, root)?;
    let process = me.segment.membership().me();
    let held = &words[HELD + process.index as usize];
    let before = held.load(Ordering::Acquire);
    if count_of(before) != 0 && (before >> 40) as u32 != process.incarnation {
        // Of a process that had this record before.
        move_back(me, root, process.index, Some(((before >> 40) as u32, u64::MAX)))?;
        return Ok(false);
    }
    announce(me, root, process.index, OpKind::SemaphoreTake, 1);
    let next = seen.wrapping_sub(given(1)) | bit | me.owner();
    // Acquire: what was done before the release of the permit is visible.
    let taken = words[STATE].cas(seen, next, Ordering::Acquire).is_ok();
    if taken {
        let count = count_of(held.load(Ordering::Acquire)) + 1;
        settle(me, OpKind::SemaphoreTake, count, held, pack_held(process.incarnation, count));
        leave(&words[STATE], me.owner(), 0);
    }
    me.intent.set(Field::Op, 0);
    Ok(taken)
}

fn announce(me: &Me<'_>, root: u64, process: u32, kind: OpKind, permits: u64) {
    me.intent.set(Field::Object, root);
    me.intent.set(Field::Cell, process.into());
    me.intent.set(Field::Op, Op { kind, phase: 0, argument: permits }.pack());
}

/// Stores the new count of a process, under the latch.
fn settle(me: &Me<'_>, kind: OpKind, count: u64, held: &Word, value: u64) {
    // LINEARIZES: the phase of the intent, for recovery; for everybody else, the CAS of the state before it.
    me.intent.set(Field::Op, Op { kind, phase: COUNTED, argument: count }.pack());
    held.store(value, Ordering::Release);
}

/// Adds `change` to the state, leaves the latch, and wakes those who may go on.
fn leave(state: &Word, owner: u64, change: u64) {
    // Release: who takes the latch next sees the count.
    let before = state.fetch_add(change.wrapping_sub(owner), Ordering::Release);
    let free = free_of(before.wrapping_add(change)) as u32;
    if before & WAITERS != 0 && free > 0 {
        state.fetch_and(!WAITERS, Ordering::Relaxed);
        state.wake(free); // all that can find one: the bit that they slept under is gone
    }
}

/// Gives back one permit that the calling process owns.
///
/// # Errors
/// `NotHeld` if it owns none.
pub fn give(me: &Me<'_>, root: u64) -> Step<()> {
    let process = me.segment.membership().me();
    match move_back(me, root, process.index, Some((process.incarnation, 1)))? {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::NotHeld, "an owned permit of a semaphore").into()),
    }
}

/// Gives back everything that `process`, which is gone or lets go of the semaphore, owns.
pub fn give_back(segment: &Segment, root: u64, process: u32) -> Result<()> {
    let held = words(segment, root)?.get(HELD + process as usize).ok_or_else(no_process)?;
    if held.load(Ordering::Acquire) == 0 {
        return Ok(());
    }
    recovery::run(segment, |me| move_back(me, root, process, None)).map(drop)
}

fn names_this_thread() -> Error {
    Error::corrupted("a semaphore names this thread, which moves no permit")
}

fn no_process() -> Error {
    Error::corrupted("the process of a permit")
}

/// Moves permits of that incarnation of `process`, so many at most, or all that it has of any, back to the free ones; whether
/// it had some.
fn move_back(me: &Me<'_>, root: u64, process: u32, whose: Option<(u32, u64)>) -> Step<bool> {
    let words = words(me.segment, root)?;
    let state = &words[STATE];
    let held = words.get(HELD + process as usize).ok_or_else(no_process)?;
    let mut waiter = Waiter::until(Deadline::after(PATIENCE));
    loop {
        let seen = state.load(Ordering::Acquire);
        if seen & OWNER != 0 {
            wait_for_latch(me, state, &mut waiter)?;
            continue;
        }
        let before = held.load(Ordering::Acquire);
        let permits = match whose {
            Some((incarnation, most)) if (before >> 40) as u32 == incarnation => count_of(before).min(most),
            Some(_) => 0,
            None => count_of(before),
        };
        if permits == 0 {
            return Ok(false);
        }
        if permits > owned_of(seen) {
            return Err(Error::corrupted("a semaphore's counts").into());
        }
        announce(me, root, process, OpKind::SemaphoreGive, permits);
        // The latch first, and the permits with the leaving: nobody can take them before the count says that they are free.
        if state.cas(seen, seen | me.owner(), Ordering::Acquire).is_err() {
            me.intent.set(Field::Op, 0); // somebody else's CAS succeeded: progress
            continue;
        }
        // Read once more: the state may be what it was while the count is not.
        let now = held.load(Ordering::Acquire);
        let same = now >> 40 == before >> 40 && count_of(now) >= permits;
        if same {
            let count = count_of(now) - permits;
            settle(me, OpKind::SemaphoreGive, count << 16 | permits, held, pack_held((now >> 40) as u32, count));
        }
        leave(state, me.owner(), if same { given(permits) } else { 0 });
        me.intent.set(Field::Op, 0);
        if same {
            return Ok(true);
        }
    }
}

/// What becomes of a move of owned permits that did not end.
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>, op: Op) -> Result<()> {
    let words = words(segment, intent.get(Field::Object))?;
    let owner = u64::from(slot) + 1;
    if words[STATE].load(Ordering::Acquire) & OWNER != owner {
        return Ok(());
    }
    let process = intent.get(Field::Cell);
    let held = words.get(HELD + process as usize).ok_or_else(no_process)?;
    let change = match (op.kind, op.phase) {
        (OpKind::SemaphoreTake, COUNTED) => {
            held.store(pack_held(segment.incarnation(process as u32)?, op.argument), Ordering::Release);
            0
        }
        (OpKind::SemaphoreTake, _) => given(op.argument & MAX_OWNED),
        (_, COUNTED) => {
            let incarnation = (held.load(Ordering::Acquire) >> 40) as u32;
            held.store(pack_held(incarnation, op.argument >> 16), Ordering::Release);
            given(op.argument & MAX_OWNED)
        }
        _ => 0,
    };
    leave(&words[STATE], owner, change);
    Ok(())
}

/// Checks a semaphore at rest.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    let words = words(segment, root)?;
    let (state, bound) = (words[STATE].load(Ordering::Acquire), words[BOUND].load(Ordering::Acquire));
    let held: u64 = words[HELD..].iter().map(|word| count_of(word.load(Ordering::Acquire))).sum();
    if state & OWNER != 0 {
        return Err(Error::corrupted("an owned permit of a semaphore is being moved"));
    }
    if held != owned_of(state) || bound != 0 && free_of(state) + held >= bound {
        return Err(Error::corrupted("a semaphore's counts"));
    }
    Ok(())
}
