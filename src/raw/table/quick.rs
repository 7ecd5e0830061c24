//! The short way of a put: an entry that is there, or whose primary bucket has room.
//!
//! The stores are those of `put`, in the same order, so recovery knows no difference. Where anything is in the way nothing
//! has happened, and the caller goes the long way, which waits, recovers, grows, and finds out what is wrong.

use std::sync::atomic::Ordering;

use super::bucket::{Bucket, Geometry, block_of, boxed_cell, tag_matches};
use super::directory::place_of;
use super::entry::Entry;
use super::latched::{Latched, latch_of};
use super::read::value_of;
use super::size::Size;
use super::{MAX_CHAIN, Shape, Table, root};
use crate::mem::{Field, Me, Op, OpKind, Segment};
use crate::raw::latch;
use crate::raw::recovery::Unfinished;

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quick {
    /// Whether there was an entry before.
    pub existed: bool,
    /// Whether something is left to do: the entry that went held handles, or the new one makes the table want another
    /// bucket.
    pub unfinished: bool,
}

impl Table {
    /// Sets the value of an inline `key`, if that can be done the short way.
    ///
    /// # Crash
    /// As [`Table::put`].
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn put_inline_quickly<const KEY: usize, const VALUE: usize>(
        &self,
        segment: &Segment,
        hash: u64,
        key: &[u64; KEY],
        value: &[u64; VALUE],
    ) -> Option<Quick> {
        let me = Me::over(segment.enter_quickly()?);
        let unfinished = Unfinished::watch(&me);
        let quick = self.put_inline(&me, hash, key, value);
        unfinished.done(); // all of it, or nothing
        quick
    }

    /// Sets the value of a boxed `key`, if that can be done the short way.
    ///
    /// # Crash
    /// As [`Table::put`].
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn put_boxed_quickly(&self, segment: &Segment, hash: u64, key: &[u8], value: &[u8]) -> Option<Quick> {
        let me = Me::over(segment.enter_quickly()?);
        let unfinished = Unfinished::watch(&me);
        let quick = self.put_boxed(&me, hash, key, value);
        unfinished.done(); // all of it, or nothing
        quick
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn put_inline<const KEY: usize, const VALUE: usize>(
        &self,
        me: &Me<'_>,
        hash: u64,
        key: &[u64; KEY],
        value: &[u64; VALUE],
    ) -> Option<Quick> {
        let geometry = const { &Geometry::of(Shape::Inline { key: KEY as u8, value: VALUE as u8 }) };
        let at = self.latch_quickly(geometry, me, hash)?;
        let is_it = |bucket: Bucket<'_>, cell| Some(value_of::<KEY, VALUE>(bucket.cell(cell), key).is_some());
        let quick = match at.find(geometry, me, hash, is_it) {
            Place::Found(bucket, cell) => {
                let done = match VALUE {
                    0 => true, // there is nothing to replace
                    1 => {
                        bucket.cell(cell)[KEY].store(value[0], Ordering::Release); // LINEARIZES: replace
                        true
                    }
                    _ => match bucket.live().free_cell(geometry.cells) {
                        Some(spare) => {
                            fill(bucket, spare, key, value);
                            bucket.set_live(bucket.live().with(spare, hash).without(cell)); // LINEARIZES: replace
                            at.raise();
                            true
                        }
                        None => false,
                    },
                };
                done.then_some(Quick { existed: true, unfinished: false })
            }
            Place::Free(cell) => {
                fill(at.bucket, cell, key, value);
                at.bucket.set_live(at.bucket.live().with(cell, hash)); // LINEARIZES: insert
                Some(Quick { existed: false, unfinished: at.is_crowded(geometry, at.count(1)) })
            }
            Place::Unknown => None,
        };
        at.release();
        me.intent.set(Field::Op, 0);
        quick
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn put_boxed(&self, me: &Me<'_>, hash: u64, key: &[u8], value: &[u8]) -> Option<Quick> {
        self.foresee(me.segment, hash);
        let block = me.alloc(Entry::size(key.len(), value.len(), 0).ok()?, Field::Alloc).ok()?;
        let put = self.put_block(me, hash, key, value, block);
        // Unlinked, or not published.
        let left = if put.is_some() { Field::Free } else { Field::Alloc };
        let left_block = me.intent.get(left);
        if left_block != 0 {
            let _ = me.release(left_block); // fails only if it is no block, and then there is nothing to free
            me.intent.set(left, 0);
        }
        me.intent.set(Field::Op, 0);
        put
    }

    /// Has the entry fetched that a boxed key most probably has: it comes while the new one is made. Nothing is relied upon.
    #[inline(always)]
    fn foresee(&self, segment: &Segment, hash: u64) -> Option<()> {
        let geometry = const { &Geometry::of(Shape::Boxed) };
        let space = segment.space();
        let root = space.glance(self.root, root::WORDS)?;
        let bucket = Bucket::glance(space, geometry, place_of(root, geometry, Size::read(root).index(hash))?)?;
        let cell = bucket.live().candidates(hash).next()?;
        space.prefetch(block_of(bucket.cell(cell)[0].load(Ordering::Relaxed)), 1);
        Some(())
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn put_block(&self, me: &Me<'_>, hash: u64, key: &[u8], value: &[u8], block: u64) -> Option<Quick> {
        let geometry = const { &Geometry::of(Shape::Boxed) };
        Entry::fill(me.segment, block, hash, key, value, &[]).ok()?;
        let at = self.latch_quickly(geometry, me, hash)?;
        let mut holds_handles = false;
        let is_it = |bucket: Bucket<'_>, cell| {
            let word = bucket.cell(cell)[0].load(Ordering::Acquire);
            if !tag_matches(word, hash) {
                return Some(false);
            }
            let entry = Entry::glance(me.segment, block_of(word))?;
            holds_handles = !entry.handles().is_empty();
            Some(entry.has_key(key))
        };
        let quick = match at.find(geometry, me, hash, is_it) {
            Place::Found(bucket, cell) => {
                let word = &bucket.cell(cell)[0];
                me.intent.set(Field::Free, block_of(word.load(Ordering::Relaxed)));
                word.store(boxed_cell(hash, block), Ordering::Release); // LINEARIZES: replace
                me.intent.set(Field::Alloc, 0);
                at.raise();
                Some(Quick { existed: true, unfinished: holds_handles })
            }
            Place::Free(cell) => {
                at.bucket.cell(cell)[0].store(boxed_cell(hash, block), Ordering::Relaxed);
                at.bucket.set_live(at.bucket.live().with(cell, hash)); // LINEARIZES: insert
                me.intent.set(Field::Alloc, 0);
                Some(Quick { existed: false, unfinished: at.is_crowded(geometry, at.count(1)) })
            }
            Place::Unknown => None,
        };
        at.release();
        quick
    }

    /// Takes the latch of the bucket that `hash` belongs to, if it is free.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn latch_quickly<'a>(&self, geometry: &Geometry, me: &Me<'a>, hash: u64) -> Option<Latched<'a>> {
        let space = me.segment.space();
        let root = space.glance(self.root, root::WORDS)?;
        let before = Size::read(root);
        let number = before.index(hash);
        let off = place_of(root, geometry, number)?;
        let bucket = Bucket::glance(space, geometry, off)?;
        // They come while the latch is taken, instead of after it.
        space.prefetch_to_write(off, u64::from(geometry.bucket_words) / 8);
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Op, Op { kind: OpKind::TablePut, phase: 0, argument: number }.pack());
        let word = latch_of(root, number);
        if !latch::try_acquire(me, word) {
            me.intent.set(Field::Op, 0); // lost
            return None;
        }
        let size = Size::read(root);
        let gate = root[root::GATE].load(Ordering::Acquire);
        if latch::owner_of(gate) != 0 || size != before && size.index(hash) != number {
            latch::release(word);
            me.intent.set(Field::Op, 0); // gone over
            return None;
        }
        Some(Latched { bucket, root, number, size })
    }
}

/// Where a key is in its latched chain.
enum Place<'a> {
    /// In this cell.
    Found(Bucket<'a>, usize),
    /// Nowhere; it can go into this cell of the primary bucket.
    Free(usize),
    /// Nowhere, and there is no room; or something is wrong.
    Unknown,
}

impl<'a> Latched<'a> {
    /// Finds the cell of `hash` that `is_it` says yes to; where that does not know, nobody does.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn find(
        &self,
        geometry: &Geometry,
        me: &Me<'a>,
        hash: u64,
        mut is_it: impl FnMut(Bucket<'a>, usize) -> Option<bool>,
    ) -> Place<'a> {
        let mut bucket = self.bucket;
        for _ in 0..MAX_CHAIN {
            for cell in bucket.live().candidates(hash) {
                match is_it(bucket, cell) {
                    Some(true) => return Place::Found(bucket, cell),
                    Some(false) => {}
                    None => return Place::Unknown,
                }
            }
            let link = bucket.link();
            if link == 0 {
                let live = self.bucket.live();
                return match live.free_cell(geometry.cells) {
                    Some(cell) if live.count() < u32::from(geometry.usable) => Place::Free(cell),
                    _ => Place::Unknown,
                };
            }
            match Bucket::glance(me.segment.space(), geometry, link) {
                Some(next) => bucket = next,
                None => break,
            }
        }
        Place::Unknown
    }
}

/// Fills a cell that is not live.
#[cfg_attr(not(debug_assertions), inline(always))]
fn fill<const KEY: usize, const VALUE: usize>(bucket: Bucket<'_>, cell: usize, key: &[u64; KEY], value: &[u64; VALUE]) {
    for (word, content) in bucket.cell(cell).iter().zip(key.iter().chain(value)) {
        word.store(*content, Ordering::Relaxed);
    }
}
