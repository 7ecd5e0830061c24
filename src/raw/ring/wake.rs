//! Wake-ups: who is owed one, and who must be told of a death or an end.
//!
//! # Thread safety and invariants
//!
//! 1. A claim that saw `waiting` owes one wake-up, after the slot is published or free: to a sleeper of the slot, or,
//!    if none was woken (it gave up, or is about to look again), to one of the follow futex.
//! 2. An end and a death wake all, after what they have to look at is there.
//! 3. Waiting for the owner of a claim ends with the claim, or with a proof that its owner is dead.
//!
//! # Crash
//!
//! A wake-up comes before the intent is cleared: of a waker that dies before it, recovery wakes everybody.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::part::Part;
use super::shape::Shape;
use super::slot::{Seen, Slot, State};
use super::true_tail;
use crate::error::{Error, Result};
use crate::mem::{Me, Segment, Step, Word};
use crate::raw::wait::{Deadline, Next, Waiter, check_owner};

/// Slices of waiting for somebody who does not know that we wait.
pub(super) const BUSY_SLICE: Duration = Duration::from_millis(2);

/// How long a claim may take that is under way: its owner has a few instructions to go, and perhaps a time slice to wait.
const MOMENT: Duration = Duration::from_millis(100);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Something to pop.
    Item,
    /// Room to push.
    Room,
}

/// The futex of those who wait behind one that sleeps on a slot.
pub(super) fn follow<'a>(shape: &Shape, segment: &'a Segment, side: Side) -> Result<&'a Word> {
    let first = shape.first_part(segment)?;
    Ok(match side {
        Side::Item => first.items(),
        Side::Room => first.room(),
    })
}

/// One sleeper in a follow word: `sleepers:32 | sequence:32`. The sequence is the futex, and may carry.
const SLEEPER: u64 = 1 << 32;

/// Says that somebody is about to sleep on a follow futex at a sequence that it has read before. Who passes the baton from
/// now on knows it; who did so before has raised the sequence, so the sleep ends at once.
pub(super) fn announce_sleeper(follow: &Word) {
    follow.fetch_add(SLEEPER, Ordering::AcqRel);
}

/// Raises a follow futex and wakes `count` of its sleepers, if there are any. Release: who sees it raised sees what there is
/// to see. `leaves`: one that has announced itself leaves.
pub(super) fn pass_baton(follow: &Word, count: u32, leaves: bool) {
    let leaving = if leaves { SLEEPER } else { 0 };
    let before = follow.fetch_add(1u64.wrapping_sub(leaving), Ordering::AcqRel);
    // A sleeper that was killed stays counted, which costs vain wake-ups.
    if before.wrapping_sub(leaving) >= SLEEPER {
        follow.wake(count);
    }
}

/// The wake-up owed by a producer whose claim of `slot` saw a waiting consumer.
#[cold]
pub(super) fn wake_consumer(shape: &Shape, segment: &Segment, slot: Slot<'_>) -> Result<()> {
    if slot.wake(1) == 0 {
        pass_baton(follow(shape, segment, Side::Item)?, 1, false);
    }
    Ok(())
}

/// The wake-up owed by a consumer whose claim of `slot` saw a waiting producer.
#[cold]
pub(super) fn wake_producer(shape: &Shape, segment: &Segment, slot: Slot<'_>) -> Result<()> {
    if slot.wake(1) == 0 {
        pass_baton(follow(shape, segment, Side::Room)?, 1, false);
    }
    Ok(())
}

/// Seals the EMPTY slot `seen` and wakes the consumers that wait for it.
#[cold]
pub(super) fn seal_and_wake(shape: &Shape, segment: &Segment, slot: Slot<'_>, seen: Seen) -> Result<bool> {
    let sealed = slot.seal(seen);
    if sealed && seen.is_waiting() {
        slot.wake(u32::MAX);
        pass_baton(follow(shape, segment, Side::Item)?, u32::MAX, false);
    }
    Ok(sealed)
}

/// Wakes everybody who waits for anything in `part`: after a death nobody knows who was to be woken.
#[cold]
pub(super) fn wake_everybody(shape: &Shape, segment: &Segment, part: &Part<'_>) -> Result<()> {
    // Whoever has marked a slot, be it in an empty ring or in a full one, has marked that of the next push. The bit is
    // taken back, so that who has just set it does not fall asleep behind this wake-up.
    let slot = part.slot(true_tail(part)?.index());
    slot.unmark_waiting(slot.look());
    slot.wake(u32::MAX);
    pass_baton(follow(shape, segment, Side::Item)?, u32::MAX, false);
    pass_baton(follow(shape, segment, Side::Room)?, u32::MAX, false);
    Ok(())
}

/// Stops if the thread that has claimed a slot cannot be expected to go on.
pub(super) fn check_claim(segment: &Segment, slot: Slot<'_>, seen: Seen) -> Step<()> {
    let checked = match seen.state() {
        State::Reading | State::Writing if seen.owner() == 0 => {
            Err(Error::corrupted("a slot of a ring is claimed by nobody").into())
        }
        State::Reading | State::Writing => check_owner(segment, seen.owner()),
        _ => return Ok(()),
    };
    // The owner may have gone on, or have been recovered, and its thread may be no more.
    if slot.look() == seen { checked } else { Ok(()) }
}

/// Waits for a moment for the owner of a claimed slot to go on. `false`: it lives and does not, so it was stopped.
///
/// # Errors
/// `Stop::Dead` if it is dead; `Corrupted` if it is nobody.
#[cold]
pub(super) fn wait_until_changed(me: &Me<'_>, slot: Slot<'_>, seen: Seen) -> Step<bool> {
    let segment = me.segment;
    if seen.owner() == me.owner() {
        return Err(Error::corrupted("a slot of a ring names this thread, which does not hold it").into());
    }
    let mut waiter = Waiter::until(Deadline::after(MOMENT));
    let mut looked = false;
    while slot.look() == seen {
        match waiter.next() {
            Next::Look => {}
            _ if !looked => {
                looked = true;
                check_claim(segment, slot, seen)?;
            }
            Next::Sleep(slice) => {
                slot.sleep(seen, slice.min(BUSY_SLICE));
                check_claim(segment, slot, seen)?;
            }
            Next::TimedOut => return Ok(false),
        }
    }
    Ok(true)
}
