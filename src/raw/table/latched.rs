//! The right to change a bucket: latches, and what is counted under them.
//!
//! A table has [`STRIPES`] latches in its root; bucket `b` is under latch `b % STRIPES`. So what a writer makes locked
//! accesses to is always in its cache, whatever the size of the table, and the bucket's own lines, which are not, are only
//! loaded and stored, which the processor does out of order. A bucket and what splits off it are under the same latch once
//! there are as many buckets as latches.
//!
//! Beside each latch stands the number of entries that were put in under it less those that were taken out: a stripe of
//! the table's count.

use std::sync::atomic::Ordering;

use super::bucket::{Bucket, Geometry};
use super::directory::bucket_offset;
use super::size::Size;
use super::{Table, root, sequence};
use crate::error::Result;
use crate::mem::{Field, Me, Op, OpKind, Step, Word};
use crate::raw::latch;

/// Latches of a table.
pub const STRIPES: u64 = root::STRIPE_COUNT as u64;

/// The share of the usable cells, as a fraction, beyond which a table is doubled.
pub const LOAD: (u64, u64) = (7, 8);

/// The latch that bucket `number` is under.
#[inline(always)]
pub fn latch_of(root: &[Word], number: u64) -> &Word {
    &root[stripe_at(number)]
}

/// The part of the count that bucket `number` adds to.
#[inline(always)]
pub fn count_of(root: &[Word], number: u64) -> &Word {
    &root[stripe_at(number) + 1]
}

#[inline(always)]
fn stripe_at(number: u64) -> usize {
    root::STRIPES + root::STRIPE_WORDS * (number % STRIPES) as usize
}

/// Changes a part of the count; wrapping, one may be negative. The caller holds the latch beside it.
#[inline(always)]
#[cfg_attr(debug_assertions, track_caller)]
pub fn add(count: &Word, delta: i64) -> u64 {
    let sum = count.load(Ordering::Relaxed).wrapping_add(delta as u64);
    count.store(sum, Ordering::Relaxed);
    sum
}

/// A bucket whose latch the calling thread holds.
#[derive(Clone, Copy)]
pub struct Latched<'a> {
    /// The primary bucket.
    pub bucket: Bucket<'a>,
    /// The table's root.
    pub root: &'a [Word],
    /// The bucket's number.
    pub number: u64,
    /// The number of buckets.
    pub size: Size,
}

impl Latched<'_> {
    /// Changes the count of entries.
    #[cfg_attr(not(debug_assertions), inline(always))]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn count(&self, delta: i64) -> u64 {
        add(count_of(self.root, self.number), delta)
    }

    /// Whether a new entry calls for another bucket, `count` being the stripe of the count now: the table is being doubled,
    /// or should be, for the buckets under this latch are fuller than [`LOAD`] on average.
    #[inline(always)]
    pub fn is_crowded(&self, geometry: &Geometry, count: u64) -> bool {
        if self.size.is_doubling() {
            return true;
        }
        let stripes = self.size.buckets().min(STRIPES);
        let room = self.size.buckets() * u64::from(geometry.usable);
        (count.wrapping_mul(LOAD.1 * stripes) as i64) > (room * LOAD.0) as i64
    }

    /// Makes void what readers of the bucket have copied so far.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn raise(&self) {
        sequence::raise(self.bucket.sequence());
    }

    /// Releases the latch.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn release(&self) {
        latch::release(latch_of(self.root, self.number));
    }
}

impl Table {
    /// Takes the latch of the bucket that `hash` belongs to; the intent says so.
    ///
    /// # Errors
    /// As taking any latch.
    pub(super) fn latch_bucket<'a>(
        &self,
        geometry: &Geometry,
        me: &Me<'a>,
        hash: u64,
        kind: OpKind,
    ) -> Step<Latched<'a>> {
        let root = self.root(me.segment)?;
        me.intent.set(Field::Object, self.root);
        loop {
            let number = Size::read(root).index(hash);
            me.intent.set(Field::Op, Op { kind, phase: 0, argument: number }.pack());
            if !self.latch_number(me, root, number)? {
                continue;
            }
            let size = Size::read(root);
            if size.index(hash) == number {
                let bucket = self.bucket(geometry, me, root, number)?;
                return Ok(Latched { bucket, root, number, size });
            }
            latch::release(latch_of(root, number)); // it was split meanwhile
        }
    }

    /// Takes the latch of bucket `number`; `false` if somebody is holding the table still, who has been waited for.
    pub(super) fn latch_number(&self, me: &Me<'_>, root: &[Word], number: u64) -> Step<bool> {
        let (word, gate) = (latch_of(root, number), &root[root::GATE]);
        latch::acquire(me, word)?;
        if latch::owner_of(gate.load(Ordering::Acquire)) == 0 {
            return Ok(true);
        }
        latch::release(word);
        latch::wait_until_free(me.segment, gate)?;
        Ok(false)
    }

    /// Bucket `number`.
    #[inline(always)]
    pub(super) fn bucket<'a>(
        &self,
        geometry: &Geometry,
        me: &Me<'a>,
        root: &[Word],
        number: u64,
    ) -> Result<Bucket<'a>> {
        Bucket::at(me.segment, geometry, bucket_offset(root, geometry, number)?)
    }
}
