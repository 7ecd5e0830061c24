//! The short ways: a push and a pop in one straight line, where nothing is in the way.
//!
//! They make the very stores of [`Ring::push`] and [`Ring::pop`], in the same order, so what a kill leaves is the same. They
//! are for the first part of a ring, an item in its slot, a ring that is neither contended nor ended, and whatever is
//! not so they leave to the long way, with nothing changed.
//!
//! The geometry was validated when the ring was opened; each call checks the bounds of two runs of words, the part's
//! header and the slot, and where the length of an item is a constant so is that of its slot.

use std::sync::atomic::Ordering;

use super::Ring;
use super::part::{HEAD, HEADER, NEXT, Part, RETURNED, TAIL};
use super::place::Place;
use super::pop::POP;
use super::push::PUSH;
use super::slot::{Claim, Seen, Slot};
use crate::mem::{Field, Me, SmallCopy, WORD, Word, store_bytes};

/// How a quick pop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quick {
    /// An item was taken.
    Item,
    /// There is none.
    Empty,
}

/// The slot that a hint of the first part names.
struct Front<'a> {
    header: &'a [Word; HEADER],
    place: Place,
    /// Byte offset of the slot's word.
    cell: u64,
    slot: Slot<'a>,
    payload: &'a [Word],
}

impl Ring {
    /// [`Ring::push`] of an item without handles that fits its slot. `None`: nothing has happened.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn push_quickly(&self, me: &Me<'_>, bytes: &[u8]) -> Option<()> {
        let header = self.header(me, self.push_at.load(Ordering::Relaxed))?; // local
        let front = self.front(me, header, TAIL, bytes.len())?;
        if header[NEXT].load(Ordering::Acquire) != 0 {
            return None;
        }
        self.announce(me, front.cell, PUSH);
        // Without a look before: it would fetch the line to be read, and the claim once more to be written.
        let Claim::Mine { .. } = front.slot.claim_to_write(Seen::empty_at(front.place), me.owner()) else {
            me.intent.set(Field::Op, 0); // lost, or somebody sleeps there who is to be woken
            return None;
        };
        self.advance(&front, TAIL);
        store_bytes(front.payload, bytes);
        // LINEARIZES: the push. Release: the consumer that sees FULL sees the bytes.
        front.slot.publish(front.place.lap(), bytes.len() as u64);
        me.intent.set(Field::Op, 0);
        Some(())
    }

    /// [`Ring::pop`] of an item that is in its slot: of `fixed` bytes, or else no longer than `out` holds. `None`: nothing
    /// has happened.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn pop_quickly(&self, me: &Me<'_>, fixed: Option<usize>, out: &mut SmallCopy) -> Option<Quick> {
        let header = self.header(me, self.pop_at.load(Ordering::Relaxed))?; // local
        if header[RETURNED].load(Ordering::Acquire) != 0 {
            return None;
        }
        let room = fixed.unwrap_or(self.shape.inline as usize);
        let front = self.front(me, header, HEAD, room)?;
        // If there is an item, it is about to be claimed.
        me.segment.space().prefetch_to_write(front.cell, 1);
        let seen = front.slot.look();
        if !seen.is_full_at(front.place) {
            let nothing = seen.is_empty_at(front.place) && header[NEXT].load(Ordering::Acquire) == 0;
            return nothing.then_some(Quick::Empty);
        }
        let length = fixed.unwrap_or(seen.length() as usize);
        if length > SmallCopy::ROOM.min(room) || length as u64 != seen.length() {
            return None;
        }
        self.announce(me, front.cell, POP);
        let Claim::Mine { wake } = front.slot.claim_full_to_read(seen, me.owner()) else {
            me.intent.set(Field::Op, 0); // lost
            return None;
        };
        self.advance(&front, HEAD);
        out.load(front.payload, length);
        // LINEARIZES: the pop. Release: the next producer of the slot writes after our loads.
        front.slot.free(front.place.lap());
        if wake {
            let _ = self.wake_and_end_pop(me, front.slot, false); // the item is ours, whatever becomes of this
        }
        me.intent.set(Field::Op, 0);
        Some(Quick::Item)
    }

    /// The header of the first part, if that is the one called `name`.
    #[inline(always)]
    fn header<'a>(&self, me: &Me<'a>, name: u64) -> Option<&'a [Word; HEADER]> {
        let first = &self.first;
        if name != first.name.pack() {
            return None;
        }
        me.segment.space().glance(self.shape.root, HEADER)?.first_chunk()
    }

    /// The slot that the hint at word `hint` names, with its payload of `room` bytes.
    #[inline(always)]
    fn front<'a>(&self, me: &Me<'a>, header: &'a [Word; HEADER], hint: usize, room: usize) -> Option<Front<'a>> {
        // Acquire: the slots are at least as far as the hint says.
        let place = Place::within(header[hint].load(Ordering::Acquire), self.first.slots)?;
        if room > self.shape.inline as usize {
            return None;
        }
        let cell = self.first.cell(place.index());
        let (state, payload) = me.segment.space().glance(cell, 1 + room.div_ceil(WORD as usize))?.split_first()?;
        let slot = Slot::over(state);
        Some(Front { header, place, cell, slot, payload })
    }

    /// Moves the hint at word `hint` past the slot, as [`Part::advance`].
    #[inline(always)]
    fn advance(&self, front: &Front<'_>, hint: usize) {
        Part::advance(&front.header[hint], front.place, front.place.after(self.first.slots));
    }
}
