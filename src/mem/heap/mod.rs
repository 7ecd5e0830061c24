//! The allocator: slabs of small blocks and runs of whole pages, lock-free and crash-safe.
//!
//! # Algorithm
//!
//! Slabs with an owner-written and a remote bitmap (mimalloc's and snmalloc's division of labour), without their
//! linked free lists: metadata here links nothing, so there is no ABA, no cycle, and nothing for a hostile peer to
//! point elsewhere. The page table is the truth; everything else (hints, a thread's list of its slabs) may be wrong.
//!
//! # Thread safety and invariants
//!
//! 1. A block is allocated exactly if its `local` bit is set and its `remote` bit is not.
//! 2. `local` is written by the slab's owner only, with plain stores. Whoever else frees sets the bit in `remote`,
//!    and the owner *collects*: it takes those bits out of both.
//! 3. A block, or a page, that any thread's intent names is never handed out: collecting skips it, and so does taking
//!    a page. So a freer that names its block first may free it twice, and a recoverer may repeat what it finds.
//! 4. The intent names a block before its bit is set, and the page run before its first page is taken.
//! 5. The owner of a slab stands in the page word, never in the slab: a late adopter must not write into a page that
//!    meanwhile holds somebody's data.
//!
//! # Crash
//!
//! A block whose bit was set and which was not published is still named by the dead thread's intent; recovery frees
//! it, through `remote`, for it does not own the slab. Pages RESERVED by the dead are freed by slot. Nothing leaks.

mod check;
mod class;
mod large;
mod page;
mod slab;
mod slow;

use std::sync::atomic::Ordering;

pub use check::HeapStats;
pub use class::FORMAT;
use class::{GEOMETRY, MAX_SMALL};
use page::PageState;
pub use slab::ThreadCache;

use super::intent::Field;
use super::layout::PAGE;
use super::segment::Segment;
use super::slots::Me;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of the largest block: a region's pages less its page table.
pub const MAX_BLOCK: u64 = (super::layout::REGION_PAGES - 1) * PAGE;

impl Me<'_> {
    /// Allocates a block of at least `size` bytes with undefined contents, aligned to 16 bytes, or to a line pair
    /// where the size is a multiple of one. The intent's `field` names the block until the caller has published it
    /// and clears the field.
    ///
    /// # Complexity
    /// Constant, but for a scan of at most 64 bitmap words, while the thread's slabs have room; a scan of the page table
    /// otherwise.
    ///
    /// # Errors
    /// `TooLarge` beyond [`MAX_BLOCK`]; `OutOfMemory` when the segment cannot grow. Nothing is allocated then.
    #[inline(always)]
    pub fn alloc(&self, size: u64, field: Field) -> Result<u64> {
        if size <= MAX_SMALL { self.alloc_small(size, field) } else { self.alloc_large(size, field) }
    }

    /// Frees a block that is reachable no more.
    ///
    /// # Crash
    /// The intent names the block until it is free; recovery frees it again, which does nothing.
    ///
    /// # Errors
    /// `Corrupted` if no block starts at `off`.
    #[inline(always)]
    pub fn free(&self, off: u64) -> Result<()> {
        self.intent.set(Field::Free, off);
        self.release(off)?;
        self.intent.set(Field::Free, 0);
        Ok(())
    }

    /// Frees a block that the intent names already, and leaves it named.
    #[inline(always)]
    pub fn release(&self, off: u64) -> Result<()> {
        self.release_block(off)
    }
}

impl Segment {
    /// The usable bytes of the block at `off`.
    ///
    /// # Errors
    /// `Corrupted` if no block starts there.
    pub fn block_size(&self, off: u64) -> Result<u64> {
        match self.page_state(off / PAGE)? {
            PageState::Slab { class, .. } => {
                let geometry = &GEOMETRY[class];
                match geometry.index_of((off % PAGE) as u32) {
                    Some(_) => Ok(u64::from(geometry.size)),
                    None => Err(no_block()),
                }
            }
            PageState::Large { pages } if off.is_multiple_of(PAGE) => Ok(pages * PAGE),
            _ => Err(no_block()),
        }
    }

    /// Frees a block, on behalf of a dead thread or as another's: never as the owner of the slab.
    #[inline(never)]
    pub fn release_for(&self, off: u64) -> Result<()> {
        match self.page_state(off / PAGE)? {
            PageState::Slab { class, .. } => self.set_remote(class, off),
            PageState::Large { .. } => self.free_large(off),
            // The first half of freeing it again: the head went last. Whoever is reserving the page meanwhile finds it
            // named and gives it back.
            PageState::Free | PageState::Reserved { .. } => Ok(()),
            _ => Err(no_block()),
        }
    }

    /// Frees block `off` of a dead thread if it was allocated at all: its bit was set, or its pages became a block.
    pub fn release_if_allocated(&self, off: u64) -> Result<()> {
        match self.page_state(off / PAGE)? {
            PageState::Slab { class, .. } => match self.local_bit(class, off)? {
                true => self.set_remote(class, off),
                false => Ok(()),
            },
            PageState::Large { .. } => self.free_large(off),
            _ => Ok(()),
        }
    }

    fn page_state(&self, page: u64) -> Result<PageState> {
        // A page that holds a page table is never marked as anything, so it reads as free.
        Ok(PageState::unpack(self.page_word(page)?.load(Ordering::Acquire)))
    }

    /// Whether any thread's intent names an address in `[from, to)`.
    fn named_inside(&self, from: u64, to: u64) -> Result<bool> {
        for slot in 0..self.slots_used() {
            if self.intent_of(slot)?.names_inside(from, to) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cold]
fn no_block() -> Error {
    Error::corrupted("an offset that is no block")
}

#[cold]
fn too_large(size: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("a block of {size} bytes"))
}
