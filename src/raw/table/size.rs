//! The number of buckets: one word of the root, whose store is the commit of a split.
//!
//! `mask:32 | buckets:32`. The mask has a bit for each bit of the number, so the bucket of a hash takes no search for the
//! highest one.

use std::sync::atomic::Ordering;

use super::root;
use crate::mem::Word;

/// Buckets that a table may have.
pub const MAX_BUCKETS: u64 = 1 << 30;

/// How many buckets a table has, as its word says; a corrupted one says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// The size of a table of so many buckets, at most [`MAX_BUCKETS`].
    pub const fn of(buckets: u64) -> Size {
        let mask = u64::MAX >> (buckets | 1).leading_zeros();
        Size(mask << 32 | buckets)
    }

    /// The size of the table with this root. Acquire: the buckets, and what the split moved into the last one, are
    /// visible.
    #[inline(always)]
    pub fn read(root: &[Word]) -> Size {
        Size(root[root::BUCKETS].load(Ordering::Acquire))
    }

    /// Makes this the size of the table with this root. Release: whoever reads it sees the buckets filled.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn publish(self, root: &[Word]) {
        root[root::BUCKETS].store(self.0, Ordering::Release);
    }

    /// The number of buckets.
    #[inline(always)]
    pub fn buckets(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    /// Whether some buckets have been split and others have not: those have twice as many entries, so a doubling that has
    /// begun is to end soon.
    #[inline(always)]
    pub fn is_doubling(self) -> bool {
        !self.buckets().is_power_of_two()
    }

    /// Whether the word is 0, as while a table is built, or one that [`Size::of`] makes.
    pub fn is_valid(self) -> bool {
        self.0 == 0 || self.buckets() <= MAX_BUCKETS && self == Size::of(self.buckets())
    }

    /// The bucket that a hash belongs to.
    #[inline(always)]
    pub fn index(self, hash: u64) -> u64 {
        // The mask covers the buckets of the doubling under way; those not split yet still answer for two residues.
        let mask = self.0 >> 32;
        let low = hash & mask;
        if low < self.buckets() { low } else { low & (mask >> 1) }
    }
}

/// The bucket of hash `hash` among `buckets`.
pub fn index(hash: u64, buckets: u64) -> u64 {
    Size::of(buckets).index(hash)
}

/// The bucket that `fresh`, the next bucket number, takes its entries from.
pub fn parent_of(fresh: u64) -> u64 {
    fresh & !(1 << (63 - (fresh | 1).leading_zeros()))
}

#[cfg(test)]
mod tests {
    //! Proves that the index function covers all buckets and moves entries only by splits, and only from the parent.
    use super::*;

    #[test]
    fn index_moves_by_splits_only() {
        for buckets in 1..200u64 {
            assert!(Size::of(buckets).is_valid() && Size::of(buckets).buckets() == buckets);
            for hash in 0..1024u64 {
                let (before, after) = (index(hash, buckets), index(hash, buckets + 1));
                assert!(before < buckets);
                assert!(after == before || (after == buckets && before == parent_of(buckets)), "{hash} {buckets}");
            }
        }
        assert!(
            Size(0).is_valid()
                && Size::of(MAX_BUCKETS).is_valid()
                && !Size::of(MAX_BUCKETS + 1).is_valid()
                && !Size(u64::MAX).is_valid()
        );
    }
}
