//! Growing by one bucket.
//!
//! Splitting moves the entries of bucket `b` whose hash has one more bit set to the new bucket `b'`, which is the next
//! bucket number. Latches are taken in the order split, `b'`, `b`; the last two are the same one unless the table is
//! small. Nobody waits for the split latch, and while it has fewer buckets than latches nobody else takes that of `b'`.
//!
//! | step | store | a kill after it is resolved by |
//! |---|---|---|
//! | 1 | intent `op` = split of `b'`; the split latch | releasing it |
//! | 2 | the chunk of `b'` in the directory | (it stays) |
//! | 3 | `b'` = empty; phase 1 | |
//! | 4 | overflow buckets for `b'`, as many as it needs | freeing them, releasing |
//! | 5 | latches of `b'` and `b`; copies of the cells into `b'` (first, if no overflow bucket is involved) | the same |
//! | 6 | **commit**: number of buckets + 1 | going on with 7 |
//! | 7 | `b` without the moved cells, and without holes in its chain (`normalise`); sequence of `b` + 1 | doing it again |
//! | 8 | release of `b`, then of `b'`, then of the split latch | releasing what is held |
//!
//! `b'` stays latched until `b` is clean, so nobody can change an entry while it is in both.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::bucket::{Bucket, Live, chain};
use super::directory::bucket_offset;
use super::entry::hash_of;
use super::latched::{LOAD, Latched, add, count_of, latch_of};
use super::size::{MAX_BUCKETS, Size, index, parent_of};
use super::{Table, root, total};
use crate::error::Result;
use crate::mem::{Field, Me, Op, OpKind, Step, Word};
use crate::raw::latch;
use crate::raw::wait::check_owner;

/// The words and hashes of cells that belong into the new bucket.
type Moving<'a> = SmallVec<[(&'a [Word], u64); 16]>;

/// Below so many buckets the parts of the count differ too much to stand for the whole.
const SMALL: u64 = 1 << 16;

impl Table {
    /// After an insertion that found its part of the table crowded: grows by a bucket.
    ///
    /// A doubling begins when the buckets are seven eighths full ([`LOAD`]), and then every insertion adds a bucket until it is done, that
    /// is for as many insertions as there were buckets. (Adding one for every few, so that the average stays the same, would
    /// leave half of the entries in buckets twice as full as the others, which overflow.)
    ///
    /// The insertion is done and acknowledged whatever becomes of this; what cannot be split now is left to a later one.
    #[cold]
    pub fn split_if_crowded(&self, me: &Me<'_>) -> Step<()> {
        let root = self.root(me.segment)?;
        let size = Size::read(root);
        let (buckets, room) = (size.buckets(), size.buckets() * u64::from(self.geometry.usable));
        let may_wait = || !size.is_doubling() && buckets < SMALL && total(root).saturating_mul(LOAD.1) <= room * LOAD.0;
        if buckets >= MAX_BUCKETS || may_wait() {
            return Ok(());
        }
        self.split(me, root)
    }

    fn split(&self, me: &Me<'_>, root: &[Word]) -> Step<()> {
        let operation = |fresh, phase| Op { kind: OpKind::TableSplit, phase, argument: fresh }.pack();
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Op, operation(Size::read(root).buckets(), 0));
        if !latch::try_acquire(me, &root[root::SPLIT]) {
            me.intent.set(Field::Op, 0);
            return self.look_after_splitter(me, root);
        }
        let fresh = Size::read(root).buckets();
        me.intent.set(Field::Op, operation(fresh, 0));
        if self.ensure_chunk(me, root, fresh).is_err() {
            // No memory to grow into: the table goes on with longer chains.
            latch::release(&root[root::SPLIT]);
            me.intent.set(Field::Op, 0);
            return Ok(());
        }
        let target = self.bucket(&self.geometry, me, root, fresh)?;
        target.clear();
        me.intent.set(Field::Op, operation(fresh, 1));

        let source = self.latch_both(me, root, fresh)?;
        if self.split_single(me, &source, target, fresh)? {
            self.end_split(me, &source, fresh);
            return Ok(());
        }
        let target_off = bucket_offset(root, &self.geometry, fresh)?;
        let source_off = bucket_offset(root, &self.geometry, source.number)?;
        let moving = loop {
            let moving = self.moving_cells(me, source_off, fresh)?;
            let room = chain(me.segment, &self.geometry, target_off)?.len() * usize::from(self.geometry.usable);
            if moving.len() <= room {
                break moving;
            }
            release_both(root, fresh);
            self.extend_target(me, target_off)?; // without memory the split is undone, as any operation that fails
            self.latch_both(me, root, fresh)?;
        };
        self.fill_target(me, target_off, &moving)?;
        Size::of(fresh + 1).publish(root); // the split's commit
        move_count(root, fresh, moving.len());
        self.normalise(me.segment, &me.intent, source_off, source.number, fresh + 1)?;
        self.end_split(me, &source, fresh);
        Ok(())
    }

    fn end_split(&self, me: &Me<'_>, source: &Latched<'_>, fresh: u64) {
        source.raise(); // the cells that moved are free for others
        release_both(source.root, fresh);
        latch::release(&source.root[root::SPLIT]);
        me.intent.set(Field::Op, 0);
    }

    /// Takes the latches of bucket `fresh` and of its parent, which it returns.
    fn latch_both<'a>(&self, me: &Me<'a>, root: &'a [Word], fresh: u64) -> Step<Latched<'a>> {
        let (number, gate) = (parent_of(fresh), &root[root::GATE]);
        loop {
            if has_own_latch(root, fresh) {
                latch::acquire(me, latch_of(root, fresh))?;
            }
            latch::acquire(me, latch_of(root, number))?;
            if latch::owner_of(gate.load(Ordering::Acquire)) == 0 {
                let bucket = self.bucket(&self.geometry, me, root, number)?;
                return Ok(Latched { bucket, root, number, size: Size::of(fresh) });
            }
            // Nothing is held while waiting: who holds the table still waits for every latch.
            release_both(root, fresh);
            latch::wait_until_free(me.segment, gate)?;
        }
    }

    /// The common case in one pass: a source without overflow buckets, whose moving cells fit into one bucket. `false`,
    /// with nothing done, if it is not that.
    fn split_single(&self, me: &Me<'_>, source: &Latched<'_>, target: Bucket<'_>, fresh: u64) -> Result<bool> {
        if source.bucket.link() != 0 {
            return Ok(false);
        }
        let size = Size::of(fresh + 1);
        let (mut staying, mut moved, mut next) = (source.bucket.live(), Live(0), 0);
        for cell in source.bucket.live_cells() {
            let words = source.bucket.cell(cell);
            let hash = hash_of(me.segment, &self.geometry, words)?;
            if size.index(hash) == fresh {
                for (to, from) in target.cell(next).iter().zip(words) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                moved = moved.with(next, hash);
                staying = staying.without(cell);
                next += 1;
            }
        }
        target.set_live(moved);
        size.publish(source.root); // the split's commit
        move_count(source.root, fresh, next);
        source.bucket.set_live(staying);
        Ok(true)
    }

    /// Now and then somebody looks whether the one who is splitting still lives: nobody waits for that latch.
    fn look_after_splitter(&self, me: &Me<'_>, root: &[Word]) -> Step<()> {
        if total(root).is_multiple_of(64) {
            check_owner(me.segment, latch::owner_of(root[root::SPLIT].load(Ordering::Acquire)))?;
        }
        Ok(())
    }

    /// The words and hashes of the cells of `source` that belong into bucket `fresh`.
    fn moving_cells<'a>(&self, me: &Me<'a>, source: u64, fresh: u64) -> Result<Moving<'a>> {
        let mut moving = Moving::new();
        for bucket in chain(me.segment, &self.geometry, source)? {
            for cell in bucket.live_cells() {
                let words = bucket.cell(cell);
                let hash = hash_of(me.segment, &self.geometry, words)?;
                if index(hash, fresh + 1) == fresh {
                    moving.push((words, hash));
                }
            }
        }
        Ok(moving)
    }

    /// Appends an overflow bucket to the new bucket, which nobody reaches yet.
    #[cold]
    fn extend_target(&self, me: &Me<'_>, target: u64) -> Result<()> {
        let words = self.geometry.bucket_words as usize;
        let off = me.alloc(words as u64 * 8, Field::Alloc2)?;
        for word in me.segment.words(off, words)? {
            word.store(0, Ordering::Relaxed);
        }
        let buckets = chain(me.segment, &self.geometry, target)?;
        buckets[buckets.len() - 1].set_link(off)?;
        me.intent.set(Field::Alloc2, 0);
        Ok(())
    }

    fn fill_target(&self, me: &Me<'_>, target: u64, moving: &[(&[Word], u64)]) -> Result<()> {
        let buckets = chain(me.segment, &self.geometry, target)?;
        let groups = moving.chunks(usize::from(self.geometry.usable));
        for (bucket, group) in buckets.iter().zip(groups) {
            let mut live = Live(0);
            for (cell, (words, hash)) in group.iter().enumerate() {
                for (to, from) in bucket.cell(cell).iter().zip(*words) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                live = live.with(cell, *hash);
            }
            bucket.set_live(live);
        }
        Ok(())
    }
}

/// Whether bucket `fresh` is under another latch than its parent.
pub(super) fn has_own_latch(root: &[Word], fresh: u64) -> bool {
    !std::ptr::eq(latch_of(root, fresh), latch_of(root, parent_of(fresh)))
}

fn release_both(root: &[Word], fresh: u64) {
    latch::release(latch_of(root, parent_of(fresh)));
    if has_own_latch(root, fresh) {
        latch::release(latch_of(root, fresh));
    }
}

/// Entries that move to `fresh` count there.
fn move_count(root: &[Word], fresh: u64, entries: usize) {
    if has_own_latch(root, fresh) {
        add(count_of(root, parent_of(fresh)), -(entries as i64));
        add(count_of(root, fresh), entries as i64);
    }
}
