//! Growing by one bucket.
//!
//! Splitting moves the entries of bucket `b` whose hash has one more bit set to the new bucket `b'`, which is the next
//! bucket number. Latches are taken in the order split, `b`, `b'`; nobody waits for the split latch.
//!
//! | step | store | a kill after it is resolved by |
//! |---|---|---|
//! | 1 | intent `op` = split of `b'`; the split latch | releasing it |
//! | 2 | the chunk of `b'` in the directory | (it stays) |
//! | 3 | `b'` = empty, latched; phase 1 | |
//! | 4 | overflow buckets for `b'`, as many as it needs | freeing them, releasing |
//! | 5 | latch of `b`; copies of the cells into `b'` (first, if no overflow bucket is involved) | the same |
//! | 6 | **commit**: number of buckets + 1 | going on with 7 |
//! | 7 | `b` without the moved cells, and without holes in its chain (`normalise`) | doing it again |
//! | 8 | release of `b`, then of `b'`, then of the split latch | releasing what is held |
//!
//! `b'` stays latched until `b` is clean, so nobody can change an entry while it is in both.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::bucket::{Bucket, LATCH, LINK, LIVE, Live, chain, index};
use super::directory::{MAX_BUCKETS, bucket_offset};
use super::entry::hash_of;
use super::{Table, root, total};
use crate::error::Result;
use crate::mem::{Field, Me, Op, OpKind, Step, Word};
use crate::raw::latch;
use crate::raw::wait::check_owner;

/// The words and hashes of cells that belong into the new bucket.
type Moving<'a> = SmallVec<[(&'a [Word], u64); 16]>;

/// Splits done at most for one insertion.
const SPLITS: u32 = 2;

/// The bucket that `fresh`, the next bucket number, takes its entries from.
pub(super) fn parent_of(fresh: u64) -> u64 {
    fresh & !(1 << (63 - (fresh | 1).leading_zeros()))
}

impl Table {
    /// After an insertion that found its bucket full: grows until the table is less than two thirds full on average.
    ///
    /// The insertion is done and acknowledged whatever becomes of this; what cannot be split now is left to a later one.
    #[cold]
    pub fn split_if_crowded(&self, me: &Me<'_>) -> Step<()> {
        let root = self.root(me.segment)?;
        for _ in 0..SPLITS {
            let buckets = root[root::BUCKETS].load(Ordering::Acquire);
            let room = buckets.saturating_mul(u64::from(self.geometry.usable));
            if total(root).saturating_mul(3) <= room.saturating_mul(2) || buckets >= MAX_BUCKETS {
                return Ok(());
            }
            if !self.split(me, root)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn split(&self, me: &Me<'_>, root: &[Word]) -> Step<bool> {
        let operation = |fresh, phase| Op { kind: OpKind::TableSplit, phase, argument: fresh }.pack();
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Op, operation(root[root::BUCKETS].load(Ordering::Acquire), 0));
        if !latch::try_acquire(me, &root[root::SPLIT]) {
            me.intent.set(Field::Op, 0);
            self.look_after_splitter(me, root)?;
            return Ok(false);
        }
        let fresh = root[root::BUCKETS].load(Ordering::Acquire);
        me.intent.set(Field::Op, operation(fresh, 0));
        if self.ensure_chunk(me, root, fresh).is_err() {
            // No memory to grow into: the table goes on with longer chains.
            latch::release(&root[root::SPLIT]);
            me.intent.set(Field::Op, 0);
            return Ok(false);
        }
        let fresh_off = bucket_offset(root, &self.geometry, fresh)?;
        let target = Bucket::at(me.segment, &self.geometry, fresh_off)?;
        target.words[LIVE].store(0, Ordering::Relaxed);
        target.words[LINK].store(0, Ordering::Relaxed);
        target.words[LATCH].store(latch::held_by(me.owner()), Ordering::Release);
        me.intent.set(Field::Op, operation(fresh, 1));

        let source_off = bucket_offset(root, &self.geometry, parent_of(fresh))?;
        let source = me.segment.word(source_off)?;
        self.latch_source(me, root, source)?;
        if self.split_single(me, root, source_off, target, fresh)? {
            self.end_split(me, root, source, target.latch());
            return Ok(true);
        }
        let moving = loop {
            let moving = self.moving_cells(me, source_off, fresh)?;
            let room = chain(me.segment, &self.geometry, fresh_off)?.len() * usize::from(self.geometry.usable);
            if moving.len() <= room {
                break moving;
            }
            latch::release(source);
            self.extend_target(me, fresh_off)?; // without memory the split is undone, as any operation that fails
            self.latch_source(me, root, source)?;
        };
        self.fill_target(me, fresh_off, &moving)?;
        root[root::BUCKETS].store(fresh + 1, Ordering::Release); // the split's commit
        self.normalise(me.segment, &me.intent, source_off, parent_of(fresh), fresh + 1)?;
        self.end_split(me, root, source, target.latch());
        Ok(true)
    }

    fn end_split(&self, me: &Me<'_>, root: &[Word], source: &Word, target: &Word) {
        latch::release(source);
        latch::release(target);
        latch::release(&root[root::SPLIT]);
        me.intent.set(Field::Op, 0);
    }

    fn latch_source(&self, me: &Me<'_>, root: &[Word], source: &Word) -> Step<()> {
        let gate = &root[root::GATE];
        loop {
            latch::acquire(me, source)?;
            if latch::owner_of(gate.load(Ordering::Acquire)) == 0 {
                return Ok(());
            }
            latch::release(source);
            latch::wait_until_free(me.segment, gate)?;
        }
    }

    /// The common case in one pass: a source without overflow buckets, whose moving cells fit into one bucket. `false`,
    /// with nothing done, if it is not that.
    fn split_single(
        &self,
        me: &Me<'_>,
        root: &[Word],
        source_off: u64,
        target: Bucket<'_>,
        fresh: u64,
    ) -> Result<bool> {
        let source = Bucket::at(me.segment, &self.geometry, source_off)?;
        if source.link() != 0 {
            return Ok(false);
        }
        let (mut staying, mut moved, mut next) = (source.live(), Live(0), 0);
        for cell in source.live_cells() {
            let words = source.cell(cell);
            let hash = hash_of(me.segment, &self.geometry, words)?;
            if index(hash, fresh + 1) == fresh {
                for (to, from) in target.cell(next).iter().zip(words) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                moved = moved.with(next, hash);
                staying = staying.without(cell);
                next += 1;
            }
        }
        target.set_live(moved);
        root[root::BUCKETS].store(fresh + 1, Ordering::Release); // the split's commit
        source.set_live(staying);
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
        buckets[buckets.len() - 1].words[LINK].store(off, Ordering::Release);
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
