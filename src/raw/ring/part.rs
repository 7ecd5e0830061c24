//! The words of one part of a ring: its header and its slots.
//!
//! ```text
//! word 0     kind and ordinal        word 16    tail hint
//!      1     first capacity, inline       32    head hint
//!      2     whether unbounded            48    items' follow futex (of the first part only)
//!      3     next                         56    room's follow futex (the same)
//!      4     returned                     64..  slots: a state word and the payload words each
//!      5     epoch
//! ```

use std::sync::atomic::Ordering;

use super::place::Place;
use super::shape::PartName;
use super::slot::{Slot, State};
use crate::error::Result;
use crate::mem::{WORD, Word};

/// Kind and ordinal.
pub(super) const KIND: usize = 0;
/// Slots of the first part in the low half, payload bytes in the high half.
pub(super) const SIZES: usize = 1;
/// Whether there may be more parts.
pub(super) const UNBOUNDED: usize = 2;
/// Open, closed, or the part after this one.
pub(super) const NEXT: usize = 3;
/// Not 0 when an item may have been given back.
pub(super) const RETURNED: usize = 4;
const EPOCH: usize = 5;
/// The tail hint.
pub(super) const TAIL: usize = 16;
/// The head hint.
pub(super) const HEAD: usize = 32;
const ITEMS: usize = 48;
const ROOM: usize = 56;
/// Words before the first slot.
pub(super) const HEADER: usize = 64;

/// `next` of a ring that takes no more items.
pub(super) const CLOSED: u64 = 1;
/// The words of one part.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    /// All of them.
    pub words: &'a [Word],
    /// Which part it is.
    pub name: PartName,
    /// How many slots it has.
    pub slots: u32,
    /// Words of a slot.
    pub stride: usize,
}

impl<'a> Part<'a> {
    /// Makes it empty and open. Nobody else knows it yet.
    pub fn clear(&self) {
        for word in [NEXT, RETURNED, EPOCH, TAIL, HEAD, ITEMS, ROOM] {
            self.words[word].store(0, Ordering::Relaxed);
        }
        for index in 0..self.slots {
            self.slot(index).initialise();
        }
    }

    /// Open, closed, or the offset of the part that continues this one.
    #[inline(always)]
    pub fn next(&self) -> &'a Word {
        &self.words[NEXT]
    }

    /// Not 0 when an item may have been given back that nobody has looked for.
    #[inline(always)]
    pub fn returned(&self) -> &'a Word {
        &self.words[RETURNED]
    }

    /// How many recoveries have met this part.
    pub fn epoch(&self) -> &'a Word {
        &self.words[EPOCH]
    }

    /// Makes consumers look for an item that was given back. AcqRel, and a swap: who reads the value of a later recovery
    /// sees the items of earlier ones too.
    pub fn raise_returned(&self) {
        let epoch = self.epoch().fetch_add(1, Ordering::AcqRel) + 1;
        self.returned().swap(epoch, Ordering::AcqRel);
    }

    /// Does so if `state`, that of a slot, says that there is one and `returned` does not: a recoverer was killed
    /// between the two, and while nobody recovers it in turn, its item would be in nobody's way.
    pub fn heal_returned(&self, state: State) {
        if state == State::Returned && self.returned().load(Ordering::Acquire) == 0 {
            self.raise_returned();
        }
    }

    /// The tail hint.
    #[inline(always)]
    pub fn tail(&self) -> &'a Word {
        &self.words[TAIL]
    }

    /// The head hint.
    #[inline(always)]
    pub fn head(&self) -> &'a Word {
        &self.words[HEAD]
    }

    /// The futex of consumers that wait behind one that sleeps on a slot. Of the first part only.
    pub fn items(&self) -> &'a Word {
        &self.words[ITEMS]
    }

    /// The futex of producers that wait behind one that sleeps on a slot. Of the first part only.
    pub fn room(&self) -> &'a Word {
        &self.words[ROOM]
    }

    /// The position that a hint of this part names. Acquire: the slots are at least as far as the hint says.
    pub fn place(&self, hint: &Word) -> Result<Place> {
        Place::unpack(hint.load(Ordering::Acquire), self.slots)
    }

    /// Moves a hint that stands at `from`. Release: who sees it sees the slots that it has passed.
    #[inline(always)]
    pub fn advance(hint: &Word, from: Place, to: Place) {
        if from != to && hint.load(Ordering::Relaxed) == from.pack() {
            hint.store(to.pack(), Ordering::Release);
        }
    }

    /// Slot `index`.
    #[inline(always)]
    pub fn slot(&self, index: u32) -> Slot<'a> {
        Slot::over(&self.words[HEADER + index as usize * self.stride])
    }

    /// The payload words of slot `index`.
    #[inline(always)]
    pub fn payload(&self, index: u32) -> &'a [Word] {
        let at = HEADER + index as usize * self.stride;
        &self.words[at + 1..at + self.stride]
    }

    /// Byte offset of the word of slot `index`.
    #[inline(always)]
    pub fn cell(&self, index: u32) -> u64 {
        self.name.offset() + (HEADER + index as usize * self.stride) as u64 * WORD
    }

    /// The slot whose word is at byte offset `cell`, if it is one of this part's.
    pub fn index_of(&self, cell: u64) -> Option<u32> {
        let inside = cell.checked_sub(self.name.offset() + HEADER as u64 * WORD)?;
        let stride = self.stride as u64 * WORD;
        (inside % stride == 0 && inside / stride < u64::from(self.slots)).then(|| (inside / stride) as u32)
    }

    /// A slot that holds an item given back by recovery.
    pub fn find_returned(&self) -> Option<u32> {
        (0..self.slots).find(|index| self.slot(*index).look().state() == State::Returned)
    }

    /// The same, if `returned` says that there may be one; and if there is none, it does not say so any more.
    pub fn look_for_returned(&self) -> Option<u32> {
        // Acquire: with the epoch, the item that was given back before it is visible.
        let epoch = self.returned().load(Ordering::Acquire);
        if epoch == 0 {
            return None;
        }
        let found = self.find_returned();
        if found.is_none() {
            // Nobody has raised it since we looked, so there is none that we could have missed.
            let _ = self.returned().cas(epoch, 0, Ordering::AcqRel);
        }
        found
    }

    /// Rounds after which a walk through the slots has lost the race too often: hostile bytes, or a stopped clock.
    pub fn fuel(&self) -> u64 {
        64 * (u64::from(self.slots) + 64)
    }
}
