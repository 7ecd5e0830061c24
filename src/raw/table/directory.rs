//! Where bucket number `b` is: a directory of chunks in the root block.
//!
//! Chunk sizes are log-linear: eight chunks of `BASE` buckets, then eight of each doubled size. So one load from the
//! root finds a chunk, a tiny table is tiny, a new chunk is at most an eighth of what the table has, and buckets never
//! move.

use std::sync::atomic::Ordering;

use super::bucket::Geometry;
use super::{Table, root};
use crate::error::{Error, Result};
use crate::mem::{Field, Me, Word};

/// Buckets of the smallest chunks.
const BASE_BITS: u32 = 2;
/// Chunks of one size, as a power of two.
const LINEAR_BITS: u32 = 3;
/// Entries of the directory: enough for 2^30 buckets.
pub const DIRECTORY_WORDS: usize = 208;

/// Directory index, position in the chunk, and the chunk's size in buckets. Of a number beyond 32 bits, those of its low
/// ones.
#[inline(always)]
pub fn locate(bucket: u64) -> (usize, u64, u64) {
    // The first chunks stand as if as many buckets before them were missing: then the highest bit tells the size.
    const MISSING_BITS: u32 = BASE_BITS + LINEAR_BITS;
    let shifted = (bucket & 0xffff_ffff) + (1 << MISSING_BITS);
    let highest = 63 - shifted.leading_zeros();
    let size_bits = highest - LINEAR_BITS;
    // The bits behind the highest one tell which chunk of that size.
    let index = (shifted >> size_bits) + (u64::from(highest - MISSING_BITS) << LINEAR_BITS) - (1 << LINEAR_BITS);
    let size = 1u64 << size_bits;
    (index as usize, shifted & (size - 1), size)
}

/// Byte offset of bucket `bucket`.
#[inline(always)]
pub fn bucket_offset(root: &[Word], geometry: &Geometry, bucket: u64) -> Result<u64> {
    place_of(root, geometry, bucket).ok_or_else(no_chunk)
}

/// Byte offset of bucket `bucket`, if it has a chunk.
#[inline(always)]
pub fn place_of(root: &[Word], geometry: &Geometry, bucket: u64) -> Option<u64> {
    let (index, position, _) = locate(bucket);
    let chunk = root.get(root::DIRECTORY + index)?.load(Ordering::Acquire);
    (chunk != 0).then(|| chunk.wrapping_add(position << geometry.bucket_shift))
}

#[cold]
fn no_chunk() -> Error {
    Error::corrupted("a table has no chunk for one of its buckets")
}

impl Table {
    /// Allocates the chunk of bucket `bucket` unless it is there. The caller holds the split latch or builds the table.
    pub(super) fn ensure_chunk(&self, me: &Me<'_>, root: &[Word], bucket: u64) -> Result<()> {
        let (index, _, size) = locate(bucket);
        let entry = root.get(root::DIRECTORY + index).ok_or_else(no_chunk)?;
        if entry.load(Ordering::Acquire) == 0 {
            let chunk = me.alloc(size << self.geometry.bucket_shift, Field::Alloc)?;
            entry.store(chunk, Ordering::Release);
            me.intent.set(Field::Alloc, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Proves that every bucket has its own place: chunks follow each other without gap or overlap.
    use super::*;

    #[test]
    fn chunks_tile_the_buckets() {
        let mut expected = (0, 0);
        for bucket in 0..100_000u64 {
            let (index, position, size) = locate(bucket);
            assert_eq!((index, position), expected, "bucket {bucket}");
            expected = if position + 1 == size { (index + 1, 0) } else { (index, position + 1) };
        }
        use crate::raw::table::size::MAX_BUCKETS;
        assert!(locate(u64::from(u32::MAX)).0 > 0);
        assert!(locate(MAX_BUCKETS - 1).0 < DIRECTORY_WORDS);
        assert!(locate(MAX_BUCKETS - 1).2 <= MAX_BUCKETS / 8);
    }
}
