//! The quick look: a look-up while nothing is out of the ordinary.
//!
//! It answers, or it says nothing: any bound that does not hold, any change meanwhile, and the caller looks again the long way (`read`), which also finds out what is wrong. So the common path carries no errors.
//!
//! The protocol is that of `read`: one sequence before and after, and on a miss one number of buckets.

use std::sync::atomic::Ordering;

use super::bucket::{Bucket, Geometry, block_of, tag_matches};
use super::copied::Copied;
use super::directory::place_of;
use super::entry::Entry;
use super::read::value_of;
use super::size::Size;
use super::{MAX_CHAIN, Shape, Table, root, sequence};
use crate::mem::{Segment, Word};

/// A bucket under observation.
struct Watched<'a> {
    bucket: Bucket<'a>,
    sequence: u64,
    root: &'a [Word],
    size: Size,
}

impl Table {
    /// The value of an inline entry, `Some(None)` if there is none, or no answer. See [`Table::get`].
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn glance<const KEY: usize, const VALUE: usize>(
        &self,
        segment: &Segment,
        hash: u64,
        key: &[u64; KEY],
    ) -> Option<Option<[u64; VALUE]>> {
        // A constant geometry: bounds checks and multiplications fold.
        let geometry = const { &Geometry::of(Shape::Inline { key: KEY as u8, value: VALUE as u8 }) };
        let watched = self.watch(geometry, segment, hash)?;
        let mut bucket = watched.bucket;
        for _ in 0..MAX_CHAIN {
            for cell in bucket.live().candidates(hash) {
                if let Some(value) = value_of::<KEY, VALUE>(bucket.cell(cell), key) {
                    return watched.answer(segment, Some(value));
                }
            }
            match bucket.link() {
                0 => return watched.answer(segment, None),
                link => bucket = Bucket::glance(segment.space(), geometry, link)?,
            }
        }
        None
    }

    /// Whether there is a boxed entry, whose value is copied to `out`; or no answer.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn glance_boxed(&self, segment: &Segment, hash: u64, key: &[u8], out: &mut Copied) -> Option<bool> {
        let geometry = const { &Geometry::of(Shape::Boxed) };
        let watched = self.watch(geometry, segment, hash)?;
        let mut bucket = watched.bucket;
        for _ in 0..MAX_CHAIN {
            for cell in bucket.live().candidates(hash) {
                let word = bucket.cell(cell)[0].load(Ordering::Acquire);
                if !tag_matches(word, hash) {
                    continue;
                }
                let entry = Entry::glance(segment, block_of(word))?;
                if !entry.has_key(key) {
                    continue;
                }
                let (words, len) = entry.value();
                if !out.try_load(words, len) {
                    return None;
                }
                return watched.answer(segment, Some(())).map(|found| found.is_some());
            }
            match bucket.link() {
                0 => return watched.answer::<()>(segment, None).map(|found| found.is_some()),
                link => bucket = Bucket::glance(segment.space(), geometry, link)?,
            }
        }
        None
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn watch<'a>(&self, geometry: &Geometry, segment: &'a Segment, hash: u64) -> Option<Watched<'a>> {
        let root = segment.space().glance(self.root, root::WORDS)?;
        let size = Size::read(root);
        let off = place_of(root, geometry, size.index(hash))?;
        let bucket = Bucket::glance(segment.space(), geometry, off)?;
        // The cells' further lines come along with the first, instead of after it.
        segment.space().prefetch(off + 64, u64::from(geometry.bucket_words) / 8 - 1);
        Some(Watched { bucket, sequence: sequence::observe(bucket.sequence()), root, size })
    }
}

impl Watched<'_> {
    /// `found`, if it is what the table held at one moment.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn answer<R>(&self, segment: &Segment, found: Option<R>) -> Option<Option<R>> {
        // LINEARIZES: a hit, at this second reading of the sequence.
        if !sequence::is_unchanged(self.bucket.sequence(), self.sequence) || segment.poisoned() {
            return None;
        }
        // LINEARIZES: a miss, at a reading of a live word: the key was in no bucket then, for the sequence stood still, and
        // it had no other place to be, for the number of buckets did.
        let settled = found.is_some() || Size::read(self.root) == self.size;
        settled.then_some(found)
    }
}
