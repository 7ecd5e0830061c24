//! The sequence of a bucket's chain: what optimistic readers read before and after (a seqlock, Boehm 2012).
//!
//! The upper 28 bits of a word of the primary bucket, which count on, and begin anew at the end; the lower ones are its link. (A
//! reader would have to be stopped in the middle of a look for exactly a multiple of 2^28 raises of one bucket to be deceived.) Whoever holds the latch raises it behind a store that takes something
//! away from readers (a cell, a block, an overflow bucket) and before what was taken away is used again. What only adds
//! something, or exchanges one word for another, leaves it alone: a reader sees the state before or the state after.

use std::sync::atomic::Ordering;

use super::bucket::LINK_BITS;
use crate::mem::{Word, fence};

/// The sequence now: the beginning of an optimistic read.
#[inline(always)]
pub fn observe(word: &Word) -> u64 {
    // Acquire: everything done before this sequence was stored is visible.
    word.load(Ordering::Acquire)
}

/// Whether all that was read since `before` was observed belongs to one state.
#[inline(always)]
pub fn is_unchanged(word: &Word, before: u64) -> bool {
    // Pairs with the Release fence behind the taking of a latch, and with the one in `raise`: if any word read before
    // was stored behind one of them, the sequence read here is at least the one raised before it.
    fence(Ordering::Acquire);
    word.load(Ordering::Relaxed) == before
}

/// Makes void what readers have copied so far. The caller holds the latch.
#[inline(always)]
#[cfg_attr(debug_assertions, track_caller)]
pub fn raise(word: &Word) {
    // Release: who reads the new sequence sees what was done before.
    word.store(word.load(Ordering::Relaxed).wrapping_add(1 << LINK_BITS), Ordering::Release);
    // Whoever sees one of the stores that follow, behind an Acquire fence, sees the new sequence.
    fence(Ordering::Release);
}
