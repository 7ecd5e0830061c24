//! The end of a part: closing a ring, and continuing an unbounded one.
//!
//! # Algorithm
//!
//! `next` of the last part goes once from open to CLOSED or to a successor (the linked rings of Morrison and Afek's
//! LCRQ). Producers look at it before each claim. A consumer that finds nothing and `next` set seals the EMPTY
//! slot; past a seal nothing comes.
//!
//! # Thread safety and invariants
//!
//! 1. Closing and continuing are the same CAS on the same word, so a queue is never continued behind a close.
//! 2. A producer claims in a part only if it has seen `next` open after its push began: pushes that follow each other
//!    never go back to an earlier part.
//! 3. Parts are never unlinked while the object lives.
//!
//! # Crash
//!
//! Before the CAS nothing happened; the block of a successor stands in `Alloc2`. After it, recovery seals and wakes.

use std::sync::atomic::Ordering;

use super::Ring;
use super::part::{CLOSED, Part};
use super::place::{Room, room_at};
use super::shape::Shape;
use super::slot::State;
use super::wake;
use crate::error::Result;
use crate::mem::{Field, Me, Op, OpKind, Segment, Step};

const SEAL: u64 = Op::new(OpKind::RingSeal).pack();

impl Ring {
    /// Lets no item in any more; those that are queued can still be popped.
    ///
    /// # Crash
    /// Closed or not; never half.
    ///
    /// # Errors
    /// `Corrupted`.
    pub fn close(&self, me: &Me<'_>) -> Step<()> {
        let mut part = self.shape.last_part(me.segment, self.push_part(me.segment)?)?;
        self.announce(me, part.cell(0), SEAL);
        // LINEARIZES: the close. AcqRel: who sees it sees what this thread has pushed before.
        while part.next().cas(0, CLOSED, Ordering::AcqRel).is_err_and(|found| found != CLOSED) {
            part = self.shape.last_part(me.segment, part)?;
        }
        finish_close(&self.shape, me.segment, &part)?;
        me.intent.set(Field::Op, 0);
        Ok(())
    }

    /// Whether the ring has been closed.
    ///
    /// # Errors
    /// `Corrupted`.
    pub fn is_closed(&self, segment: &Segment) -> Result<bool> {
        let part = self.shape.last_part(segment, self.push_part(segment)?)?;
        Ok(part.next().load(Ordering::Acquire) == CLOSED)
    }

    /// Continues a full part with one twice as large. The intent announces a push that has claimed nothing.
    pub(super) fn extend(&self, me: &Me<'_>, part: &Part<'_>) -> Step<()> {
        let ordinal = part.name.ordinal() + 1;
        let block = me.alloc(self.shape.bytes(ordinal), Field::Alloc2)?;
        self.shape.initialise(me.segment, block, ordinal)?;
        // Release: who sees the offset sees an initialised part.
        if part.next().cas(0, block, Ordering::AcqRel).is_err() {
            me.release(block)?; // somebody else has continued it, or closed it
        }
        me.intent.set(Field::Alloc2, 0);
        Ok(())
    }
}

/// Seals the tail of a closed part if it is free, and wakes everybody to the news.
pub(super) fn finish_close(shape: &Shape, segment: &Segment, part: &Part<'_>) -> Result<()> {
    let mut place = part.place(part.tail())?;
    for _ in 0..part.fuel() {
        let slot = part.slot(place.index());
        let seen = slot.look();
        match room_at(place, seen, part.slots)? {
            Room::Free if wake::seal_and_wake(shape, segment, slot, seen)? => break,
            Room::Free => {} // a push that was under way
            Room::Beyond(further) => place = further,
            Room::Occupied(State::Buried) => slot.skip(seen),
            Room::Occupied(_) | Room::Sealed => break, // full: consumers will seal it
        }
    }
    wake::wake_everybody(shape, segment, part)
}

/// Finishes a close that `intent` was at, if it had happened.
pub(super) fn resolve_close(shape: &Shape, segment: &Segment) -> Result<()> {
    let part = shape.last_part(segment, shape.first_part(segment)?)?;
    if part.next().load(Ordering::Acquire) == CLOSED {
        finish_close(shape, segment, &part)?;
    }
    Ok(())
}
