//! Where slabs come from when the current one is full: the thread's others, unowned ones, fresh pages.

use std::sync::atomic::Ordering;

use super::class::{GEOMETRY, Geometry};
use super::page::PageState;
use super::slab::{local_bits, remote_bits};
use crate::error::{Error, Result};
use crate::mem::intent::Field;
use crate::mem::layout::{CLASS_HINTS, FIRST_HEAP_PAGE, PAGE, header};
use crate::mem::segment::Segment;
use crate::mem::slots::Me;
use crate::mem::word::Word;

/// Slabs of one class that a thread keeps for itself; what is beyond goes to whoever needs it.
const MAX_OWNED: usize = if cfg!(test) { 64 } else { 512 };
/// Page words looked at for an unowned slab before a fresh page is taken.
const SCAN: u64 = 256;
/// Other slabs of its own that a thread looks at before that.
const LOOKS: usize = 8;

/// Free blocks that make a slab worth going back to: an eighth of it. Going back for less would cost more bitmap reading
/// than it yields; so up to an eighth more memory is taken than the blocks need.
fn worth_while(g: &Geometry) -> u32 {
    (g.blocks / 8).max(1)
}

/// Free blocks that make a bitmap word worth going on to, likewise.
const WORD_WORTH_WHILE: u32 = 8;

/// The bitmap word to take blocks by: the first of which an eighth is free, or else the one with the most; and how many.
fn best_word(segment: &Segment, page: u64, g: &Geometry) -> Result<(u32, u32)> {
    let mut best = (0, 0);
    for (i, word) in local_bits(segment, page, g)?.iter().enumerate() {
        let free = (!word.load(Ordering::Relaxed) & g.mask(i as u32)).count_ones();
        if free > best.1 {
            best = (i as u32, free);
            if free >= WORD_WORTH_WHILE {
                break;
            }
        }
    }
    Ok(best)
}

impl Me<'_> {
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_small_slowly(&self, class: usize, field: Field) -> Result<u64> {
        if let Some(off) = self.take_recent_block(class, field) {
            return Ok(off);
        }
        let g = &GEOMETRY[class];
        let current = self.slabs().current(class);
        if current != 0
            && let (word, WORD_WORTH_WHILE..) = best_word(self.segment, current, g)?
        {
            self.slabs().select(class, current, word);
            if let Some(off) = self.take_block(class, field) {
                return Ok(off);
            }
        }
        loop {
            let page = match self.own_slab(class, g, LOOKS, worth_while(g))? {
                Some(page) => page,
                None => self.find_slab(class, g)?,
            };
            self.slabs().select(class, page, best_word(self.segment, page, g)?.0);
            if let Some(off) = self.take_block(class, field) {
                return Ok(off);
            }
            // Found with a free block, but a live intent still names every one of them: look further.
        }
    }

    /// A slab of `class` from elsewhere: given up by another thread, or fresh. Before the thread's share of fresh ones is
    /// exceeded, it goes through all it has for single free blocks.
    fn find_slab(&self, class: usize, g: &Geometry) -> Result<u64> {
        if let Some(page) = self.adopt_hinted(class, g)? {
            return Ok(page);
        }
        if let Some(page) = self.adopt_by_scan(class, g)? {
            self.make_current(class, page);
            return Ok(page);
        }
        let (share, owned) = {
            let cache = self.slabs();
            let others = cache.others[class].borrow();
            (others.share, others.pages.len())
        };
        if share == 0
            && let Some(page) = self.own_slab(class, g, owned, 1)?
        {
            return Ok(page);
        }
        let page = self.new_slab(class, g)?;
        self.make_current(class, page);
        self.slabs().others[class].borrow_mut().share = if share == 0 { owned as u32 / 8 } else { share - 1 };
        Ok(page)
    }

    /// Frees block `off` of what this thread does not own, the page of which is in `state`.
    #[cold]
    #[inline(never)]
    pub(super) fn release_block_slowly(&self, off: u64, state: u64) -> Result<()> {
        // A slab that nobody owns is of use to a thread that takes blocks of its class and gives them back: the next ones it
        // frees without a locked instruction.
        if let PageState::Slab { class, owner: 0 } = PageState::unpack(state)
            && self.slabs().current(class) != 0
            && self.slabs().others[class].borrow().pages.len() < MAX_OWNED
            && self.adopt(off / PAGE, class)?
        {
            self.slabs().others[class].borrow_mut().pages.push(off / PAGE);
            return self.release_own(class, off);
        }
        self.segment.release_for(off)
    }

    fn adopt_hinted(&self, class: usize, g: &Geometry) -> Result<Option<u64>> {
        let hint = self.segment.partial_hint(class);
        let page = hint.load(Ordering::Relaxed);
        if page == 0 {
            return Ok(None);
        }
        hint.store(0, Ordering::Relaxed);
        let adopted = self.adopt_if_worth_while(page, class, g)?;
        if adopted {
            self.make_current(class, page);
        }
        Ok(adopted.then_some(page))
    }

    /// The current slab, or one of the `looks` next others, if it has `least` free blocks: it becomes the current one.
    fn own_slab(&self, class: usize, g: &Geometry, looks: usize, least: u32) -> Result<Option<u64>> {
        let cache = self.slabs();
        let current = cache.current(class);
        if current != 0 && self.segment.collect(current, g)? >= least {
            return Ok(Some(current));
        }
        let mut others = cache.others[class].borrow_mut();
        for _ in 0..looks.min(others.pages.len()) {
            let next = (others.next + 1) % others.pages.len();
            others.next = next;
            let page = others.pages[next];
            if self.segment.collect(page, g)? >= least {
                if current != 0 {
                    others.pages[next] = current;
                } else {
                    others.pages.swap_remove(next);
                }
                cache.select(class, page, 0);
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// Makes `page` the slab that blocks of `class` are taken from; gives another away when there are too many.
    fn make_current(&self, class: usize, page: u64) {
        let surplus = {
            let cache = self.slabs();
            let before = cache.current(class);
            cache.select(class, page, 0);
            let mut others = cache.others[class].borrow_mut();
            if before != 0 {
                others.pages.push(before);
            }
            (others.pages.len() > MAX_OWNED).then(|| others.pages.swap_remove(0))
        };
        if let Some(page) = surplus {
            let _ = self.disown(page, class);
        }
    }

    fn adopt_by_scan(&self, class: usize, g: &Geometry) -> Result<Option<u64>> {
        let pages = self.segment.pages().max(1);
        let start = self.slabs().cursor.get();
        for step in 0..SCAN.min(pages) {
            let page = (start + step) % pages;
            let state = PageState::unpack(self.segment.page_word(page)?.load(Ordering::Relaxed));
            if state == (PageState::Slab { class, owner: 0 }) && self.adopt_if_worth_while(page, class, g)? {
                self.slabs().cursor.set(page + 1);
                return Ok(Some(page));
            }
        }
        self.slabs().cursor.set((start + SCAN) % pages);
        Ok(None)
    }

    fn adopt_if_worth_while(&self, page: u64, class: usize, g: &Geometry) -> Result<bool> {
        if !self.adopt(page, class)? {
            return Ok(false);
        }
        let adopted = self.segment.collect(page, g)? >= worth_while(g);
        if !adopted {
            self.disown(page, class)?;
        }
        Ok(adopted)
    }

    /// Becomes the owner of an unowned slab.
    fn adopt(&self, page: u64, class: usize) -> Result<bool> {
        if page >= self.segment.pages() {
            return Ok(false); // a hint is only a hint
        }
        let word = self.segment.page_word(page)?;
        let unowned = PageState::Slab { class, owner: 0 }.pack();
        let owned = PageState::Slab { class, owner: self.owner() }.pack();
        if word.load(Ordering::Relaxed) != unowned || word.cas(unowned, owned, Ordering::AcqRel).is_err() {
            return Ok(false);
        }
        // A former owner may have died in the middle of collecting: bits taken out of `local` and not of `remote`.
        let g = &GEOMETRY[class];
        let local = local_bits(self.segment, page, g)?;
        for (local, remote) in local.iter().zip(remote_bits(self.segment, page, g)?) {
            let local = local.load(Ordering::Relaxed);
            if remote.load(Ordering::Relaxed) & !local != 0 {
                remote.fetch_and(local, Ordering::AcqRel);
            }
        }
        Ok(true)
    }

    fn disown(&self, page: u64, class: usize) -> Result<()> {
        self.slabs().take_recent(class); // it may be in this slab
        let owned = PageState::Slab { class, owner: self.owner() }.pack();
        let unowned = PageState::Slab { class, owner: 0 }.pack();
        let _ = self.segment.page_word(page)?.cas(owned, unowned, Ordering::AcqRel);
        Ok(())
    }

    fn new_slab(&self, class: usize, g: &Geometry) -> Result<u64> {
        let page = self.reserve_run(1)?;
        for word in self.segment.words(g.bitmaps(page), 2 * g.words as usize)? {
            word.store(0, Ordering::Relaxed);
        }
        let slab = PageState::Slab { class, owner: self.owner() };
        self.segment.page_word(page)?.store(slab.pack(), Ordering::Release);
        self.intent.set(Field::Run, 0);
        Ok(page)
    }

    /// Turns slabs without a block back into free pages: unowned ones, and this thread's spare ones.
    pub(super) fn retire_empty_slabs(&self) -> Result<bool> {
        let mut retired = false;
        for page in FIRST_HEAP_PAGE..self.segment.pages() {
            let state = PageState::unpack(self.segment.page_word(page)?.load(Ordering::Relaxed));
            let PageState::Slab { class, owner } = state else { continue };
            let mine = owner == self.owner();
            if mine {
                if self.slabs().current(class) == page {
                    continue;
                }
            } else if owner != 0 || !self.adopt(page, class)? {
                continue;
            }
            let g = &GEOMETRY[class];
            self.segment.collect(page, g)?;
            if self.segment.is_empty_slab(page, g)? {
                self.slabs().take_recent(class); // it may be in this slab
                self.slabs().others[class].borrow_mut().pages.retain(|other| *other != page);
                let owned = PageState::Slab { class, owner: self.owner() }.pack();
                retired |= self.segment.page_word(page)?.cas(owned, 0, Ordering::AcqRel).is_ok();
                self.segment.note_free_page(page);
            } else if !mine {
                self.disown(page, class)?;
            }
        }
        Ok(retired)
    }
}

impl Segment {
    /// Takes the remotely freed blocks of a slab back that no intent names; how many free blocks it has now.
    ///
    /// The caller owns the slab.
    fn collect(&self, page: u64, g: &Geometry) -> Result<u32> {
        let local = local_bits(self, page, g)?;
        let remote = remote_bits(self, page, g)?;
        let free = |i: usize, used: u64| (!used & g.mask(i as u32)).count_ones();
        if remote.iter().all(|word| word.load(Ordering::Relaxed) == 0) {
            return Ok(local.iter().enumerate().map(|(i, word)| free(i, word.load(Ordering::Relaxed))).sum());
        }
        let mut freed = [0u64; 64];
        for (bits, word) in freed.iter_mut().zip(remote) {
            // Acquire: with the bit, the intent of the freer that still names the block is visible.
            *bits = word.load(Ordering::Acquire);
        }
        self.unmark_named(page, g, &mut freed)?;
        let mut room = 0;
        for (i, ((bits, local), remote)) in freed.iter().zip(local).zip(remote).enumerate() {
            let used = local.load(Ordering::Relaxed) & !bits;
            room += free(i, used);
            if *bits != 0 {
                // `local` first: a kill between the two leaves a bit in `remote` alone, which an adopter drops.
                local.store(used, Ordering::Release);
                remote.fetch_and(!bits, Ordering::AcqRel);
            }
        }
        Ok(room)
    }

    /// Clears the bits of blocks in `page` that any thread's intent names.
    fn unmark_named(&self, page: u64, g: &Geometry, bits: &mut [u64; 64]) -> Result<()> {
        for slot in 0..self.slots_used() {
            let intent = self.intent_of(slot)?;
            for field in [Field::Alloc, Field::Alloc2, Field::Free] {
                let off = intent.get(field);
                if off / PAGE == page
                    && let Some(index) = g.index_of((off % PAGE) as u32)
                {
                    bits[index as usize / 64] &= !(1 << (index % 64));
                }
            }
        }
        Ok(())
    }

    fn is_empty_slab(&self, page: u64, g: &Geometry) -> Result<bool> {
        let words = self.words(g.bitmaps(page), 2 * g.words as usize)?;
        Ok(words.iter().all(|word| word.load(Ordering::Acquire) == 0))
    }

    /// The header's hint for `class`.
    pub(super) fn partial_hint(&self, class: usize) -> &Word {
        debug_assert!(class < CLASS_HINTS);
        self.header(header!(partial) + class as u64 * 8)
    }

    /// Gives up every page of a thread: slabs to whoever adopts them, half-built pages to nobody.
    pub fn release_slabs(&self, slot: u16) {
        let owner = u64::from(slot) + 1;
        for page in FIRST_HEAP_PAGE..self.pages() {
            let Ok(word) = self.page_word(page) else { return };
            let seen = word.load(Ordering::Relaxed);
            let next = match PageState::unpack(seen) {
                PageState::Slab { class, owner: o } if o == owner => PageState::Slab { class, owner: 0 },
                PageState::Reserved { owner: o } if o == owner => PageState::Free,
                _ => continue,
            };
            let _ = word.cas(seen, next.pack(), Ordering::AcqRel);
        }
    }

    /// The blocks that are allocated in the slab at `page`, as bitmap words.
    pub(super) fn allocated_bits(&self, page: u64, class: usize) -> Result<Vec<u64>> {
        let g = &GEOMETRY[class];
        let local = local_bits(self, page, g)?;
        let mut out = Vec::with_capacity(local.len());
        for (i, (local, remote)) in local.iter().zip(remote_bits(self, page, g)?).enumerate() {
            let (local, remote) = (local.load(Ordering::Acquire), remote.load(Ordering::Acquire));
            if (local | remote) & !g.mask(i as u32) != 0 {
                return Err(Error::corrupted("a slab has a bit beyond its blocks"));
            }
            out.push(local & !remote);
        }
        Ok(out)
    }
}
