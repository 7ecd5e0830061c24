//! What becomes of a push, a pop or a close whose thread died, or failed midway.
//!
//! | intent | slot | meaning | done here | left to the caller |
//! |---|---|---|---|---|
//! | push | WRITING, mine | not published | phase 0, BURIED, wake | free `Alloc` |
//! | push, CLAIMED | anything else | published | `Alloc` = 0, wake | – |
//! | push | anything else | published, or nothing claimed; no block | wake | free `Alloc` |
//! | push, `Alloc2` | – | linked as a part | `Alloc2` = 0 | – |
//! | push, `Alloc2` | – | not linked | – | free `Alloc2` |
//! | pop | READING, mine | not delivered | `Free` = 0, RETURNED, raise `returned`, wake | – |
//! | pop | anything else | delivered, or nothing claimed | raise `returned`, wake | free `Free` |
//! | close | – | `next` CLOSED | seal, wake | – |
//!
//! # Thread safety and invariants
//!
//! 1. One thread resolves a record at a time: the owner itself, or the recoverer of its process.
//! 2. Every line can be repeated from any point, by another recoverer, with the same result: what is read to decide
//!    (owner, phase, links) changes only in a step that the decision does not depend on any more.
//! 3. The item is RETURNED before `returned` is raised, and both before the caller clears the intent. A value of
//!    `returned` never comes twice, so a consumer that clears it has missed nothing.

use std::sync::atomic::Ordering;

use super::part::Part;
use super::push::CLAIMED;
use super::seal::resolve_close;
use super::shape::Shape;
use super::slot::{Slot, State};
use super::wake;
use crate::error::{Error, Result};
use crate::mem::{Field, Intent, Op, OpKind, Segment};

/// Rolls back or forward what thread slot `slot` was doing to a ring. `Op` stays, and so does what is to be freed.
///
/// # Crash
/// May be repeated from any point.
///
/// # Errors
/// `Corrupted` if the record or the ring makes no sense.
#[cold]
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>, op: Op) -> Result<()> {
    let shape = Shape::read(segment, intent.get(Field::Object))?;
    if op.kind == OpKind::RingSeal {
        return resolve_close(&shape, segment);
    }
    let (part, claimed) = find_slot(&shape, segment, intent.get(Field::Cell))?;
    let owner = u64::from(slot) + 1;
    match op.kind {
        OpKind::RingPush => resolve_push(&shape, segment, &part, intent, op, claimed, owner)?,
        OpKind::RingPop => resolve_pop(&part, intent, claimed, owner),
        _ => return Err(Error::corrupted("an intent that is not a ring's")),
    }
    claimed.wake(u32::MAX);
    wake::wake_everybody(&shape, segment, &part)
}

fn resolve_push(
    shape: &Shape,
    segment: &Segment,
    part: &Part<'_>,
    intent: &Intent<'_>,
    op: Op,
    claimed: Slot<'_>,
    owner: u64,
) -> Result<()> {
    let successor = intent.get(Field::Alloc2);
    if successor != 0 && is_part(shape, segment, successor)? {
        intent.set(Field::Alloc2, 0);
    }
    let seen = claimed.look();
    if seen.state() == State::Writing && seen.owner() == owner {
        // The phase first: with the slot BURIED it would say that the block was published.
        intent.set(Field::Op, Op { phase: 0, ..op }.pack());
        // From now on the distance from head to tail is not the number of items.
        part.epoch().fetch_add(1, Ordering::AcqRel);
        claimed.bury(seen);
    } else if op.phase == CLAIMED {
        intent.set(Field::Alloc, 0);
    }
    Ok(())
}

fn resolve_pop(part: &Part<'_>, intent: &Intent<'_>, claimed: Slot<'_>, owner: u64) {
    let seen = claimed.look();
    if seen.state() == State::Reading && seen.owner() == owner {
        // The block first: with the slot given back it would count as delivered.
        intent.set(Field::Free, 0);
        claimed.give_back(seen);
    }
    // In any case: a resolution that died behind the line above cannot be told from a pop that was through.
    part.raise_returned();
}

fn find_slot<'a>(shape: &Shape, segment: &'a Segment, cell: u64) -> Result<(Part<'a>, Slot<'a>)> {
    let mut part = shape.first_part(segment)?;
    loop {
        if let Some(index) = part.index_of(cell) {
            return Ok((part, part.slot(index)));
        }
        part =
            shape.part_after(segment, &part)?.ok_or_else(|| Error::corrupted("an intent names no slot of its ring"))?;
    }
}

fn is_part(shape: &Shape, segment: &Segment, block: u64) -> Result<bool> {
    let mut part = shape.first_part(segment)?;
    while let Some(after) = shape.part_after(segment, &part)? {
        if after.name.offset() == block {
            return Ok(true);
        }
        part = after;
    }
    Ok(false)
}
