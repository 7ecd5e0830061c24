//! The short way of a put: an entry whose primary bucket is free, not gone over, and has room.
//!
//! The stores are those of `put`, in the same order, so recovery knows no difference. Where anything is in the way nothing
//! has happened, and the caller goes the long way, which waits, recovers, grows, and finds out what is wrong.

use std::sync::atomic::Ordering;

use super::bucket::{Bucket, Geometry, block_of, boxed_cell, index, tag_matches};
use super::directory::place_of;
use super::entry::{Entry, key_words};
use super::read::value_of;
use super::{Shape, Table, by_shape, count, root};
use crate::mem::{Field, Me, Op, OpKind, Segment, Word};
use crate::raw::{latch, recovery};

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quick {
    /// Whether there was an entry before.
    pub existed: bool,
    /// Whether the entry that went held handles.
    pub dropped_handles: bool,
}

/// A latched bucket.
struct Latched<'a> {
    bucket: Bucket<'a>,
    root: &'a [Word],
}

impl Table {
    /// Sets the value of `key`, if that can be done the short way. `shape` is the table's, from whom it is a constant; inline keys and
    /// values come as whole words.
    ///
    /// # Crash
    /// As [`Table::put`].
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn put_quickly(&self, shape: Shape, segment: &Segment, hash: u64, key: &[u8], value: &[u8]) -> Option<Quick> {
        by_shape!(shape,
            KEY, VALUE => {
                let (key, value) = (key_words::<KEY>(key), key_words::<VALUE>(value));
                recovery::run_quickly(segment, |me| self.put_inline(me, hash, &key, &value))
            },
            boxed => recovery::run_quickly(segment, |me| self.put_boxed(me, hash, key, value)))
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
        let live = at.bucket.live();
        let is_it = |cell: &usize| value_of::<KEY, VALUE>(at.bucket.cell(*cell), key).is_some();
        let found = live.candidates(hash).find(is_it);
        let done = match found {
            Some(cell) if VALUE == 1 => {
                at.bucket.cell(cell)[KEY].store(value[0], Ordering::Release); // LINEARIZES: replace
                true
            }
            Some(_) if VALUE == 0 => true, // there is nothing to replace
            // Into a cell that is not live; for a new entry one must be left, if values of several words need it.
            _ if found.is_none() && !at.has_room(geometry, live.count()) => false,
            _ => match live.free_cell(geometry.cells) {
                Some(free) => {
                    let words = at.bucket.cell(free);
                    for (word, content) in words.iter().zip(key.iter().chain(value)) {
                        word.store(*content, Ordering::Relaxed);
                    }
                    let next = live.with(free, hash);
                    at.bucket.set_live(found.map_or(next, |cell| next.without(cell))); // LINEARIZES: insert, replace
                    true
                }
                None => false,
            },
        };
        if done && found.is_none() {
            count(me, at.root, 1);
        }
        at.release(me);
        done.then_some(Quick { existed: found.is_some(), dropped_handles: false })
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn put_boxed(&self, me: &Me<'_>, hash: u64, key: &[u8], value: &[u8]) -> Option<Quick> {
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

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn put_block(&self, me: &Me<'_>, hash: u64, key: &[u8], value: &[u8], block: u64) -> Option<Quick> {
        let geometry = const { &Geometry::of(Shape::Boxed) };
        Entry::fill(me.segment, block, hash, key, value, &[]).ok()?;
        let at = self.latch_quickly(geometry, me, hash)?;
        let live = at.bucket.live();
        let mut quick = Quick { existed: false, dropped_handles: false };
        let mut known = true;
        let found = live.candidates(hash).find(|cell| {
            let word = at.bucket.cell(*cell)[0].load(Ordering::Acquire);
            if !tag_matches(word, hash) {
                return false;
            }
            let Some(entry) = Entry::glance(me.segment, block_of(word)) else {
                known = false;
                return false;
            };
            quick.dropped_handles = !entry.handles().is_empty();
            entry.has_key(key)
        });
        let done = match found {
            Some(cell) => {
                let word = &at.bucket.cell(cell)[0];
                me.intent.set(Field::Free, block_of(word.load(Ordering::Relaxed)));
                word.store(boxed_cell(hash, block), Ordering::Release); // LINEARIZES: replace
                true
            }
            None if known && at.has_room(geometry, live.count()) => match live.free_cell(geometry.cells) {
                Some(free) => {
                    at.bucket.cell(free)[0].store(boxed_cell(hash, block), Ordering::Relaxed);
                    at.bucket.set_live(live.with(free, hash)); // LINEARIZES: insert
                    count(me, at.root, 1);
                    true
                }
                None => false,
            },
            None => false,
        };
        if done {
            me.intent.set(Field::Alloc, 0);
        }
        latch::release(at.bucket.latch());
        quick.existed = found.is_some();
        quick.dropped_handles &= quick.existed;
        done.then_some(quick)
    }

    /// Takes the latch of the bucket that `hash` belongs to, if it is free.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn latch_quickly<'a>(&self, geometry: &Geometry, me: &Me<'a>, hash: u64) -> Option<Latched<'a>> {
        let space = me.segment.space();
        let root = space.glance(self.root, root::WORDS)?;
        let buckets = root[root::BUCKETS].load(Ordering::Acquire);
        let off = place_of(root, geometry, index(hash, buckets))?;
        let at = Latched { bucket: Bucket::glance(space, geometry, off)?, root };
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Cell, off);
        me.intent.set(Field::Op, Op::new(OpKind::TablePut).pack());
        if !latch::try_acquire(me, at.bucket.latch()) {
            me.intent.set(Field::Op, 0); // lost
            return None;
        }
        let now = root[root::BUCKETS].load(Ordering::Acquire);
        let gate = root[root::GATE].load(Ordering::Acquire);
        if latch::owner_of(gate) != 0 || now != buckets && index(hash, now) != index(hash, buckets) {
            at.release(me);
            return None;
        }
        Some(at)
    }
}

impl Latched<'_> {
    /// Whether a new entry may be put here, `live` cells being taken.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn has_room(&self, geometry: &Geometry, live: u32) -> bool {
        self.bucket.link() == 0 && live < u32::from(geometry.usable)
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn release(&self, me: &Me<'_>) {
        latch::release(self.bucket.latch());
        me.intent.set(Field::Op, 0);
    }
}
