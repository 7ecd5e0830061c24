//! Runs of whole pages: reserving them, and blocks made of them.
//!
//! A run is claimed from its first page on and given back to its first page last, so the first page's word alone
//! says whether the rest belongs to the claimant.

use std::sync::atomic::Ordering;

use super::page::PageState;
use super::{MAX_BLOCK, too_large};
use crate::error::{Error, Result};
use crate::mem::intent::Field;
use crate::mem::layout::{FIRST_HEAP_PAGE, PAGE, REGION_PAGES, header, is_meta_page};
use crate::mem::segment::Segment;
use crate::mem::slots::Me;
use crate::mem::word::fence;

impl Me<'_> {
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_large(&self, size: u64, field: Field) -> Result<u64> {
        if size > MAX_BLOCK {
            return Err(too_large(size));
        }
        let pages = size.div_ceil(PAGE);
        let first = self.reserve_run(pages)?;
        for page in first + 1..first + pages {
            self.segment.page_word(page)?.store(PageState::Tail { head: first }.pack(), Ordering::Release);
        }
        self.intent.set(field, first * PAGE);
        self.segment.page_word(first)?.store(PageState::Large { pages }.pack(), Ordering::Release);
        self.intent.set(Field::Run, 0);
        Ok(first * PAGE)
    }

    /// Reserves `pages` consecutive pages and returns the first. The intent's `Run` names them until the caller has
    /// made something of them.
    pub(super) fn reserve_run(&self, pages: u64) -> Result<u64> {
        let mut retired = false;
        loop {
            let seen = self.segment.committed();
            let hint = self.segment.header(header!(first_free)).load(Ordering::Relaxed).max(FIRST_HEAP_PAGE);
            for from in [hint, FIRST_HEAP_PAGE] {
                if let Some(first) = self.claim_run(from, pages)? {
                    return Ok(first);
                }
                if from == FIRST_HEAP_PAGE {
                    break;
                }
            }
            if !retired {
                retired = true;
                if self.retire_empty_slabs()? {
                    continue;
                }
            }
            self.segment.grow(seen, pages_to_grow(seen / PAGE, pages))?;
        }
    }

    /// Claims the first run of `pages` free pages from `from` on.
    fn claim_run(&self, from: u64, pages: u64) -> Result<Option<u64>> {
        let mut length = 0;
        let mut lowest_free = None;
        let mut page = from;
        let end = self.segment.pages();
        while page < end {
            let free = !is_meta_page(page) && self.segment.page_word(page)?.load(Ordering::Relaxed) == 0;
            if free {
                lowest_free = lowest_free.or(Some(page));
            }
            length = if free { length + 1 } else { 0 };
            page += 1;
            if length < pages {
                continue;
            }
            let first = page - pages;
            length = 0;
            if self.claim_pages(first, pages)? {
                if lowest_free == Some(first) {
                    self.segment.header(header!(first_free)).store(page, Ordering::Relaxed);
                }
                return Ok(Some(first));
            }
        }
        self.intent.set(Field::Run, 0);
        Ok(None)
    }

    fn claim_pages(&self, first: u64, pages: u64) -> Result<bool> {
        let reserved = PageState::Reserved { owner: self.owner() }.pack();
        self.intent.set(Field::Run, first << 32 | pages);
        for page in first..first + pages {
            if self.segment.page_word(page)?.cas(0, reserved, Ordering::AcqRel).is_err() {
                self.give_back(first, page)?;
                return Ok(false);
            }
        }
        // A freer, or a recoverer, that still names a page would free it again under its new owner.
        if self.segment.named_inside(first * PAGE, (first + pages) * PAGE)? {
            self.give_back(first, first + pages)?;
            return Ok(false);
        }
        // As in `take_block`: who still reads a page for its former contents also sees that they went.
        fence(Ordering::Release);
        Ok(true)
    }

    fn give_back(&self, first: u64, end: u64) -> Result<()> {
        for page in (first..end).rev() {
            self.segment.page_word(page)?.store(0, Ordering::Release);
        }
        Ok(())
    }
}

/// How many pages to grow by, so that `pages` consecutive ones that are no page table come with it.
fn pages_to_grow(committed: u64, pages: u64) -> u64 {
    let into_region = committed % REGION_PAGES;
    match into_region {
        0 => pages + 1,
        _ if into_region + pages > REGION_PAGES => REGION_PAGES - into_region + 1 + pages,
        _ => pages,
    }
}

impl Segment {
    /// Frees a block of whole pages: the first page last. Repeating it, from any point, does the rest.
    pub(super) fn free_large(&self, off: u64) -> Result<()> {
        let head = off / PAGE;
        let word = self.page_word(head)?;
        let seen = word.load(Ordering::Acquire);
        let PageState::Large { pages } = PageState::unpack(seen) else { return Ok(()) };
        if pages == 0 || head % REGION_PAGES + pages > REGION_PAGES || !off.is_multiple_of(PAGE) {
            return Err(Error::corrupted("the length of a run of pages"));
        }
        let tail = PageState::Tail { head }.pack();
        for page in (head + 1..head + pages).rev() {
            let _ = self.page_word(page)?.cas(tail, 0, Ordering::AcqRel);
        }
        let _ = word.cas(seen, 0, Ordering::AcqRel);
        self.note_free_page(head);
        Ok(())
    }

    pub(super) fn note_free_page(&self, page: u64) {
        let hint = self.header(header!(first_free));
        if page < hint.load(Ordering::Relaxed) {
            hint.store(page, Ordering::Relaxed);
        }
    }

    /// Undoes the run that a dead thread was taking, unless it became a block or a slab.
    pub fn undo_run(&self, slot: u16, run: u64) -> Result<()> {
        let (first, pages) = (run >> 32, run & 0xffff_ffff);
        let reserved = PageState::Reserved { owner: u64::from(slot) + 1 }.pack();
        if is_meta_page(first) || first % REGION_PAGES + pages > REGION_PAGES {
            return Err(Error::corrupted("the run of an intent"));
        }
        if self.page_word(first)?.load(Ordering::Acquire) != reserved {
            return Ok(()); // not claimed, given back, or committed
        }
        let tail = PageState::Tail { head: first }.pack();
        for page in (first + 1..first + pages).rev() {
            let word = self.page_word(page)?;
            let seen = word.load(Ordering::Acquire);
            if seen == reserved || seen == tail {
                let _ = word.cas(seen, 0, Ordering::AcqRel);
            }
        }
        let _ = self.page_word(first)?.cas(reserved, 0, Ordering::AcqRel);
        self.note_free_page(first);
        Ok(())
    }
}
