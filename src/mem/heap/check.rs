//! The heap's own fsck: what is allocated, and whether the page table makes sense.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::class::GEOMETRY;
use super::page::PageState;
use crate::error::{Error, Result};
use crate::mem::layout::{FIRST_HEAP_PAGE, PAGE, REGION_PAGES, is_meta_page};
use crate::mem::segment::Segment;

/// Offsets of allocated blocks.
pub type BlockSet = BTreeSet<u64>;

/// What the pages of a segment are used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapStats {
    /// Pages that nobody uses.
    pub free_pages: u64,
    /// Pages of small blocks.
    pub slab_pages: u64,
    /// Pages of large blocks.
    pub large_pages: u64,
    /// Bytes in allocated blocks, rounded up to their sizes.
    pub allocated_bytes: u64,
}

impl Segment {
    /// Walks the page table of a segment at rest: every allocated block, or what is wrong.
    ///
    /// Checks that page states tile the segment, that owners are live slots, and that no bitmap has a bit beyond its
    /// blocks.
    ///
    /// # Complexity
    /// Linear in committed pages and allocated blocks.
    ///
    /// # Errors
    /// `Corrupted`, naming the rule that does not hold.
    pub fn allocated_blocks(&self) -> Result<(BlockSet, HeapStats)> {
        let mut blocks = BlockSet::new();
        let mut stats = HeapStats::default();
        let end = self.pages();
        let mut page = FIRST_HEAP_PAGE;
        while page < end {
            let word = self.page_word(page)?.load(Ordering::Acquire);
            if is_meta_page(page) {
                if word != 0 {
                    return Err(Error::corrupted("a page table is marked as something else"));
                }
                page += 1;
                continue;
            }
            match PageState::unpack(word) {
                PageState::Free => stats.free_pages += 1,
                PageState::Slab { class, owner } => {
                    if owner != 0 && !self.slot_state(owner as u16 - 1)?.used {
                        return Err(Error::corrupted("a slab belongs to a slot that nobody uses"));
                    }
                    stats.slab_pages += 1;
                    let g = &GEOMETRY[class];
                    for (i, mut bits) in self.allocated_bits(page, class)?.into_iter().enumerate() {
                        while bits != 0 {
                            let index = i as u32 * 64 + bits.trailing_zeros();
                            bits &= bits - 1;
                            blocks.insert(page * PAGE + g.offset_of(index));
                            stats.allocated_bytes += u64::from(g.size);
                        }
                    }
                }
                PageState::Large { pages } => {
                    if pages == 0 || page + pages > end || page % REGION_PAGES + pages > REGION_PAGES {
                        return Err(Error::corrupted("a run of pages overlaps what follows"));
                    }
                    let tail = PageState::Tail { head: page }.pack();
                    for next in page + 1..page + pages {
                        if self.page_word(next)?.load(Ordering::Acquire) != tail {
                            return Err(Error::corrupted("a run of pages is torn"));
                        }
                    }
                    blocks.insert(page * PAGE);
                    stats.large_pages += pages;
                    stats.allocated_bytes += pages * PAGE;
                    page += pages - 1;
                }
                PageState::Reserved { .. } => return Err(Error::corrupted("a page is reserved by nobody at work")),
                PageState::Tail { .. } => return Err(Error::corrupted("a page continues a run that is not there")),
                PageState::Invalid => return Err(Error::corrupted("a page word")),
            }
            page += 1;
        }
        Ok((blocks, stats))
    }
}
