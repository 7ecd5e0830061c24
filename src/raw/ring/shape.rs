//! The geometry of a ring, and the chain of its parts.
//!
//! A bounded ring is one part; an unbounded one is a chain of parts, each twice as large as the one before, so that
//! the parts that have been left behind are never more than the largest backlog that there was.
//!
//! # Invariants
//!
//! 1. The geometry never changes once a part can be reached. What an operation computes with is a private copy.
//! 2. `next` goes once from 0 (open) to [`CLOSED`] or to the offset of the next part.
//! 3. Part `n` says that it is number `n`: a chain that a hostile peer has bent into a circle is found out.

use std::sync::atomic::Ordering;

use super::part::{CLOSED, HEADER, KIND, Part, SIZES, UNBOUNDED};
use crate::error::{Error, Result};
use crate::mem::{Segment, WORD};

/// What word 0 says, below the ordinal.
const RING: u64 = 0x676e_6972; // "ring"

/// Slots of an unbounded ring's first part.
pub(super) const FIRST_SLOTS: u32 = 1024;
/// Parts of an unbounded ring, at most.
const MAX_PARTS: u64 = 0xffff;
/// Bytes that a part of an unbounded ring does not outgrow.
const LARGEST: u64 = 256 << 20;

/// A private copy of a ring's geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Offset of the first part.
    pub root: u64,
    /// Slots of the first part.
    pub first: u32,
    /// Payload bytes in a slot, a multiple of 8.
    pub inline: u32,
    /// Whether there may be more parts.
    pub unbounded: bool,
}

impl Shape {
    /// Reads and validates the geometry of the ring at `root`.
    ///
    /// # Errors
    /// `Corrupted` if there is no block, or no such ring in it.
    pub fn read(segment: &Segment, root: u64) -> Result<Shape> {
        let words = segment.words(root, HEADER)?;
        let sizes = words[SIZES].load(Ordering::Acquire);
        let unbounded = words[UNBOUNDED].load(Ordering::Relaxed);
        let shape = Shape { root, first: sizes as u32, inline: (sizes >> 32) as u32, unbounded: unbounded == 1 };
        let legal =
            shape.first > 0 && (8..=1024).contains(&shape.inline) && shape.inline.is_multiple_of(8) && unbounded <= 1;
        if words[KIND].load(Ordering::Acquire) != RING || !legal || segment.block_size(root)? < shape.bytes(0) {
            return Err(Error::corrupted("the header of a ring"));
        }
        Ok(shape)
    }

    /// Words of a slot.
    #[inline(always)]
    fn stride(&self) -> usize {
        1 + self.inline as usize / 8
    }

    /// Slots of part `ordinal`.
    pub fn slots(&self, ordinal: u64) -> u32 {
        let most = (LARGEST / (self.stride() as u64 * WORD)).max(u64::from(self.first));
        (u64::from(self.first) << ordinal.min(31)).min(most) as u32
    }

    /// Bytes of part `ordinal`.
    pub fn bytes(&self, ordinal: u64) -> u64 {
        (HEADER as u64 + u64::from(self.slots(ordinal)) * self.stride() as u64) * WORD
    }

    /// The part called `name`.
    pub fn part<'a>(&self, segment: &'a Segment, name: PartName) -> Result<Part<'a>> {
        let (slots, stride) = (self.slots(name.ordinal()), self.stride());
        let words = segment.words(name.offset(), HEADER + slots as usize * stride)?;
        Ok(Part { words, name, slots, stride })
    }

    /// The first part.
    pub fn first_part<'a>(&self, segment: &'a Segment) -> Result<Part<'a>> {
        self.part(segment, PartName::new(0, self.root))
    }

    /// The part after `part`, if there is one.
    ///
    /// # Errors
    /// `Corrupted` if what `part` refers to is not its successor.
    pub fn part_after<'a>(&self, segment: &'a Segment, part: &Part<'a>) -> Result<Option<Part<'a>>> {
        let next = part.next().load(Ordering::Acquire);
        if next <= CLOSED {
            return Ok(None);
        }
        let ordinal = part.name.ordinal() + 1;
        let broken = || Error::corrupted("the chain of an unbounded ring");
        if !self.unbounded || ordinal > MAX_PARTS || segment.block_size(next)? < self.bytes(ordinal) {
            return Err(broken());
        }
        let after = self.part(segment, PartName::new(ordinal, next))?;
        if after.words[KIND].load(Ordering::Acquire) != RING | ordinal << 32 {
            return Err(broken());
        }
        Ok(Some(after))
    }

    /// The last part of the chain, looked for from `part` on.
    pub fn last_part<'a>(&self, segment: &'a Segment, mut part: Part<'a>) -> Result<Part<'a>> {
        while let Some(after) = self.part_after(segment, &part)? {
            part = after;
        }
        Ok(part)
    }

    /// Writes an empty part `ordinal` into the block at `offset`, which nobody else knows yet.
    pub fn initialise(&self, segment: &Segment, offset: u64, ordinal: u64) -> Result<()> {
        if ordinal > MAX_PARTS {
            return Err(Error::corrupted("an unbounded ring of more parts than there can be"));
        }
        let part = self.part(segment, PartName::new(ordinal, offset))?;
        part.clear();
        part.words[SIZES].store(u64::from(self.inline) << 32 | u64::from(self.first), Ordering::Relaxed);
        part.words[UNBOUNDED].store(self.unbounded.into(), Ordering::Relaxed);
        part.words[KIND].store(RING | ordinal << 32, Ordering::Relaxed);
        Ok(())
    }
}

/// The first part, found with little arithmetic: that of every bounded ring and of most unbounded ones.
#[derive(Clone, Copy)]
pub(super) struct FirstPart {
    /// Its name.
    pub name: PartName,
    /// Its slots.
    pub slots: u32,
    words: usize,
    stride: usize,
    /// Byte offset of its first slot.
    cells: u64,
}

impl FirstPart {
    /// Of a ring of this shape.
    pub fn of(shape: &Shape) -> FirstPart {
        let (slots, stride) = (shape.first, shape.stride());
        let words = HEADER + slots as usize * stride;
        let cells = shape.root + HEADER as u64 * WORD;
        FirstPart { name: PartName::new(0, shape.root), words, slots, stride, cells }
    }

    /// The part, if that is the one called `name`.
    #[inline(always)]
    pub fn if_named<'a>(&self, segment: &'a Segment, name: PartName) -> Option<Part<'a>> {
        if name != self.name {
            return None;
        }
        let words = segment.words(self.name.offset(), self.words).ok()?;
        Some(Part { words, name, slots: self.slots, stride: self.stride })
    }

    /// Byte offset of the word of slot `index`, which is one of its slots.
    #[inline(always)]
    pub fn cell(&self, index: u32) -> u64 {
        self.cells + u64::from(index) * (self.stride as u64 * WORD)
    }
}

/// Number and offset of a part in one word, so that a process can remember both in one local atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartName(u64);

impl PartName {
    /// Part `ordinal`, at `offset`.
    pub fn new(ordinal: u64, offset: u64) -> PartName {
        debug_assert!(ordinal <= MAX_PARTS);
        PartName(ordinal << 48 | (offset & ((1 << 48) - 1)))
    }

    /// From [`pack`](PartName::pack).
    #[inline(always)]
    pub fn unpack(word: u64) -> PartName {
        PartName(word)
    }

    /// As a word; later parts are greater.
    pub fn pack(self) -> u64 {
        self.0
    }

    /// How many parts come before it.
    #[inline(always)]
    pub fn ordinal(self) -> u64 {
        self.0 >> 48
    }

    /// Where it is.
    #[inline(always)]
    pub fn offset(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }
}
