//! Tidying a chain after its bucket was split: idempotent, so recovery simply does it again.

use std::sync::atomic::Ordering;

use super::bucket::{Bucket, chain};
use super::entry::{content, hash_of};
use super::size::index;
use super::{Table, sequence};
use crate::error::Result;
use crate::mem::{Field, Intent, Segment};

impl Table {
    /// Takes the cells out of bucket `number` that belong elsewhere among `buckets`, moves cells from overflow buckets
    /// into holes before them, and frees overflow buckets that have become empty.
    ///
    /// The bucket is latched by the thread that `intent` belongs to. Several commits follow each other under one
    /// latch, so the sequence is raised before each that takes away what an earlier one has put elsewhere.
    pub(super) fn normalise(
        &self,
        segment: &Segment,
        intent: &Intent<'_>,
        primary: u64,
        number: u64,
        buckets: u64,
    ) -> Result<()> {
        let all = chain(segment, &self.geometry, primary)?;
        for bucket in &all {
            let mut live = bucket.live();
            for cell in bucket.live_cells() {
                if index(hash_of(segment, &self.geometry, bucket.cell(cell))?, buckets) != number {
                    live = live.without(cell);
                }
            }
            if live != bucket.live() {
                bucket.set_live(live);
            }
        }
        if all.len() > 1 {
            // Cells that have just been vacated are filled anew: who reads them still under the old sequence must notice.
            sequence::raise(all[0].sequence());
        }
        self.pull_up(segment, &all)?;
        self.unlink_empty(segment, intent, primary)
    }

    /// [`Table::normalise`] after one that a kill cut short: a cell may still be where it was moved from.
    pub(super) fn normalise_again(
        &self,
        segment: &Segment,
        intent: &Intent<'_>,
        primary: u64,
        number: u64,
        buckets: u64,
    ) -> Result<()> {
        let all = chain(segment, &self.geometry, primary)?;
        for (i, bucket) in all.iter().enumerate().skip(1) {
            for cell in bucket.live_cells() {
                if self.is_in(segment, &all[..i], bucket, cell)? {
                    // As in `pull_up`, for the copy that a kill left there.
                    sequence::raise(all[0].sequence());
                    bucket.set_live(bucket.live().without(cell));
                }
            }
        }
        self.normalise(segment, intent, primary, number, buckets)
    }

    /// Whether one of `earlier` has the key of `cell` too.
    fn is_in(&self, segment: &Segment, earlier: &[Bucket<'_>], bucket: &Bucket<'_>, cell: usize) -> Result<bool> {
        let this = content(segment, &self.geometry, bucket.cell(cell))?;
        for other in earlier {
            for twin in other.live_cells() {
                let that = content(segment, &self.geometry, other.cell(twin))?;
                let equal = this.key_len == that.key_len
                    && this
                        .key
                        .iter()
                        .zip(that.key)
                        .all(|(a, b)| a.load(Ordering::Relaxed) == b.load(Ordering::Relaxed));
                if equal {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn pull_up(&self, segment: &Segment, all: &[Bucket<'_>]) -> Result<()> {
        for from in (1..all.len()).rev() {
            for cell in all[from].live_cells() {
                let room = all[..from].iter().find(|b| b.live().count() < u32::from(self.geometry.usable));
                let Some(bucket) = room else { return Ok(()) };
                let Some(free) = bucket.live().free_cell(self.geometry.cells) else { return Ok(()) };
                let words = all[from].cell(cell);
                let hash = hash_of(segment, &self.geometry, words)?;
                for (to, from) in bucket.cell(free).iter().zip(words) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                bucket.set_live(bucket.live().with(free, hash));
                // A reader that had passed the hole and does not find the entry where it was must look again.
                sequence::raise(all[0].sequence());
                all[from].set_live(all[from].live().without(cell));
            }
        }
        Ok(())
    }

    /// Unlinks and frees empty overflow buckets, one at a time.
    pub(super) fn unlink_empty(&self, segment: &Segment, intent: &Intent<'_>, primary: u64) -> Result<()> {
        loop {
            let all = chain(segment, &self.geometry, primary)?;
            let Some(at) = (1..all.len()).find(|i| all[*i].live().count() == 0) else { return Ok(()) };
            let off = all[at - 1].link();
            intent.set(Field::Free, off);
            all[at - 1].set_link(all[at].link())?;
            sequence::raise(all[0].sequence());
            segment.release_for(off)?;
            intent.set(Field::Free, 0);
        }
    }
}
