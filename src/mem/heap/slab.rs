//! Allocating and freeing in slabs: the path that every small block takes.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use super::class::{CLASSES, GEOMETRY, Geometry, class_of};
use super::no_block;
use super::page::PageState;
use crate::error::Result;
use crate::mem::intent::Field;
use crate::mem::layout::PAGE;
use crate::mem::segment::Segment;
use crate::mem::slots::Me;
use crate::mem::word::{Word, fence};

/// What a thread remembers of the slabs it owns. Process-local; the page table is the truth.
pub struct ThreadCache {
    pub(super) classes: [ClassCache; CLASSES],
    /// Where the last scan of the page table for unowned slabs stopped.
    pub(super) cursor: u64,
}

impl Default for ThreadCache {
    fn default() -> Self {
        ThreadCache { classes: std::array::from_fn(|_| ClassCache::default()), cursor: 0 }
    }
}

/// One class of it.
#[derive(Default)]
pub(super) struct ClassCache {
    /// The slab that blocks are taken from; 0 is none.
    pub page: u64,
    /// No bitmap word of it below this one has a free block.
    pub word: u32,
    /// Other slabs of this thread.
    pub others: Vec<u64>,
    /// Where to look next among them.
    pub next: usize,
    /// Fresh slabs that may be taken before all of them are gone through again.
    pub share: u32,
}

/// The `local` bitmap of the slab at `page`.
#[inline(always)]
pub(super) fn local_bits<'a>(segment: &'a Segment, page: u64, geometry: &Geometry) -> Result<&'a [Word]> {
    segment.words(page * PAGE, geometry.words as usize)
}

/// The `remote` bitmap.
#[inline(always)]
pub(super) fn remote_bits<'a>(segment: &'a Segment, page: u64, geometry: &Geometry) -> Result<&'a [Word]> {
    segment.words(page * PAGE + u64::from(geometry.words) * 8, geometry.words as usize)
}

impl Me<'_> {
    #[inline]
    pub(super) fn alloc_small(&self, size: u64, field: Field) -> Result<u64> {
        let Some(class) = class_of(size) else { return Err(super::too_large(size)) };
        {
            let mut cache = self.cache().borrow_mut();
            let entry = &mut cache.classes[class];
            if entry.page != 0
                && let Some(off) = self.take_block(entry.page, &mut entry.word, &GEOMETRY[class], field)?
            {
                return Ok(off);
            }
        }
        self.alloc_small_slowly(class, field)
    }

    /// Takes the first free block of an owned slab from bitmap word `*word` on.
    #[inline]
    pub(super) fn take_block(&self, page: u64, word: &mut u32, g: &Geometry, field: Field) -> Result<Option<u64>> {
        let local = local_bits(self.segment, page, g)?;
        while let Some(bits) = local.get(*word as usize) {
            let used = bits.load(Ordering::Relaxed);
            let free = !used & g.mask(*word);
            if free != 0 {
                let bit = free.trailing_zeros();
                let off = page * PAGE + g.offset_of(*word * 64 + bit);
                self.intent.set(field, off);
                // Release: a kill that leaves the bit set leaves the intent that names the block.
                bits.store(used | 1 << bit, Ordering::Release);
                // Whoever still reads the block for its former contents and sees a new word of it also sees that
                // the bucket it came from has changed since.
                fence(Ordering::Release);
                return Ok(Some(off));
            }
            *word += 1;
        }
        Ok(None)
    }

    /// Frees block `off` as the thread that page words name `owner`.
    #[inline]
    pub(super) fn release_small_of(&self, owner: u64, off: u64) -> Result<()> {
        let page = off / PAGE;
        let state = PageState::unpack(self.segment.page_word(page)?.load(Ordering::Acquire));
        let PageState::Slab { class, owner: theirs } = state else {
            return self.segment.release_for(off);
        };
        if theirs != owner {
            return self.segment.set_remote(class, off);
        }
        let g = &GEOMETRY[class];
        let index = g.index_of((off % PAGE) as u32).ok_or_else(no_block)?;
        let bits = &local_bits(self.segment, page, g)?[index as usize / 64];
        bits.store(bits.load(Ordering::Relaxed) & !(1 << (index % 64)), Ordering::Release);
        note_free(self.cache(), class, page, index / 64);
        Ok(())
    }
}

#[inline]
fn note_free(cache: &RefCell<ThreadCache>, class: usize, page: u64, word: u32) {
    let entry = &mut cache.borrow_mut().classes[class];
    if entry.page == page {
        entry.word = entry.word.min(word);
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
