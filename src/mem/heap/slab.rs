//! Allocating and freeing in slabs: the path that every small block takes.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use super::class::{CLASSES, GEOMETRY, Geometry, class_of};
use super::no_block;
use super::page::owned_class;
use crate::error::Result;
use crate::mem::intent::Field;
use crate::mem::layout::PAGE;
use crate::mem::segment::Segment;
use crate::mem::slots::Me;
use crate::mem::word::{Word, fence};

/// What a thread remembers of the slabs it owns. Process-local; the page table is the truth.
pub struct ThreadCache {
    /// Where blocks of each class are taken from.
    current: [Current; CLASSES],
    /// The rest of what it has of each class.
    pub(super) others: [RefCell<Others>; CLASSES],
    /// Where the last scan of the page table for unowned slabs stopped.
    pub(super) cursor: Cell<u64>,
}

impl Default for ThreadCache {
    fn default() -> Self {
        ThreadCache {
            current: std::array::from_fn(|_| Current::default()),
            others: std::array::from_fn(|_| RefCell::default()),
            cursor: Cell::new(0),
        }
    }
}

/// A bitmap word of the slab that blocks are taken from, with all that is needed to take one. It stays the same until it has
/// no free block, whatever is freed elsewhere: to run after every free block would cost more than it saves.
#[derive(Default)]
struct Current {
    /// Where the word is; 0: there is no slab.
    bits: Cell<u64>,
    /// The block that its first bit stands for.
    first: Cell<u64>,
    /// Those of its bits that stand for blocks.
    mask: Cell<u64>,
    /// Bytes of a block.
    size: Cell<u64>,
    /// The block of this class that the thread has freed last, in a slab of its own, or 0.
    recent: Cell<u64>,
}

/// One class of the slabs that a thread has beside the current one.
#[derive(Default)]
pub(super) struct Others {
    /// Their pages.
    pub pages: Vec<u64>,
    /// Where to look next among them.
    pub next: usize,
    /// Fresh slabs that may be taken before all of them are gone through again.
    pub share: u32,
}

/// The `local` bitmap of the slab at `page`.
#[inline(always)]
pub(super) fn local_bits<'a>(segment: &'a Segment, page: u64, geometry: &Geometry) -> Result<&'a [Word]> {
    segment.words(geometry.bitmaps(page), geometry.words as usize)
}

/// The `remote` bitmap.
#[inline(always)]
pub(super) fn remote_bits<'a>(segment: &'a Segment, page: u64, geometry: &Geometry) -> Result<&'a [Word]> {
    segment.words(geometry.bitmaps(page) + u64::from(geometry.words) * 8, geometry.words as usize)
}

impl ThreadCache {
    /// The slab that blocks of `class` are taken from; 0 is none.
    pub(super) fn current(&self, class: usize) -> u64 {
        self.current[class].bits.get() / PAGE
    }

    /// The block of `class` that was freed last, which is forgotten: it is to be taken now, or its slab goes to somebody else.
    pub(super) fn take_recent(&self, class: usize) -> u64 {
        self.current[class].recent.replace(0)
    }

    /// Takes blocks of `class` by bitmap word `word` of the slab at `page`.
    pub(super) fn select(&self, class: usize, page: u64, word: u32) {
        let (g, current) = (&GEOMETRY[class], &self.current[class]);
        current.bits.set(g.bitmaps(page) + u64::from(word) * 8);
        current.first.set(page * PAGE + g.offset_of(word * 64));
        current.mask.set(g.mask(word));
        current.size.set(u64::from(g.size));
    }
}

impl Me<'_> {
    #[inline(always)]
    pub(super) fn alloc_small(&self, size: u64, field: Field) -> Result<u64> {
        let Some(class) = class_of(size) else { return Err(super::too_large(size)) };
        match self.take_block(class, field) {
            Some(off) => Ok(off),
            None => self.alloc_small_slowly(class, field),
        }
    }

    /// Takes the first free block of the bitmap word that blocks of `class` are taken from.
    #[inline(always)]
    pub(super) fn take_block(&self, class: usize, field: Field) -> Option<u64> {
        let current = self.slabs().current.get(class)?;
        let bits = self.segment.space.glance_at(current.bits.get())?;
        let used = bits.load(Ordering::Relaxed);
        let free = !used & current.mask.get();
        if free == 0 {
            return None;
        }
        let bit = free.trailing_zeros();
        let off = current.first.get() + u64::from(bit) * current.size.get();
        self.intent.set(field, off);
        // Release: a kill that leaves the bit set leaves the intent that names the block.
        bits.store(used | 1 << bit, Ordering::Release);
        // Whoever still reads the block for its former contents and sees a new word of it also sees that the bucket it
        // came from has changed since.
        fence(Ordering::Release);
        Some(off)
    }

    /// Takes the block of `class` that was freed last, unless it has been taken since: it is in the cache still.
    pub(super) fn take_recent_block(&self, class: usize, field: Field) -> Option<u64> {
        let off = self.slabs().take_recent(class);
        if off == 0 {
            return None;
        }
        let (bits, bit) = self.local_bit_of(class, off).ok()?;
        let used = bits.load(Ordering::Relaxed);
        if used & bit != 0 {
            return None;
        }
        self.intent.set(field, off);
        bits.store(used | bit, Ordering::Release); // as in `take_block`
        fence(Ordering::Release); // likewise
        Some(off)
    }

    /// Word and bit of block `off` in the `local` bitmap of its slab.
    #[inline(always)]
    fn local_bit_of(&self, class: usize, off: u64) -> Result<(&Word, u64)> {
        let g = &GEOMETRY[class];
        let index = g.index_of((off % PAGE) as u32).ok_or_else(no_block)?;
        let bits = self.segment.word(g.bitmaps(off / PAGE) + u64::from(index / 64) * 8)?;
        Ok((bits, 1 << (index % 64)))
    }

    /// Frees block `off`: of a slab of this thread by clearing its bit in `local`.
    #[inline(always)]
    pub(super) fn release_block(&self, off: u64) -> Result<()> {
        let state = self.segment.page_word(off / PAGE)?.load(Ordering::Acquire);
        match owned_class(state, self.owner()) {
            Some(class) => self.release_own(class, off),
            None => self.release_block_slowly(off, state),
        }
    }

    /// Frees block `off` of a slab of `class` that this thread owns.
    #[inline(always)]
    pub(super) fn release_own(&self, class: usize, off: u64) -> Result<()> {
        let (bits, bit) = self.local_bit_of(class, off)?;
        bits.store(bits.load(Ordering::Relaxed) & !bit, Ordering::Release);
        self.slabs().current[class].recent.set(off);
        Ok(())
    }
}

impl Segment {
    /// Frees block `off` of a slab of `class` without owning the slab.
    pub(super) fn set_remote(&self, class: usize, off: u64) -> Result<()> {
        let g = &GEOMETRY[class];
        let page = off / PAGE;
        let index = g.index_of((off % PAGE) as u32).ok_or_else(no_block)?;
        let remote = remote_bits(self, page, g)?;
        // Release: the collector that sees the bit also sees the freer's intent and its last use of the block.
        remote[index as usize / 64].fetch_or(1 << (index % 64), Ordering::Release);
        let hint = self.partial_hint(class);
        if hint.load(Ordering::Relaxed) == 0 {
            hint.store(page, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the `local` bit of block `off` is set.
    pub(super) fn local_bit(&self, class: usize, off: u64) -> Result<bool> {
        let g = &GEOMETRY[class];
        let Some(index) = g.index_of((off % PAGE) as u32) else { return Ok(false) };
        let bits = local_bits(self, off / PAGE, g)?[index as usize / 64].load(Ordering::Acquire);
        Ok(bits >> (index % 64) & 1 == 1)
    }
}
