//! Looking up a key without a lock.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use super::bucket::{Bucket, Geometry, block_of, index, tag_matches};
use super::directory::bucket_offset;
use super::entry::{Entry, equal_bytes, load_words};
use super::{MAX_CHAIN, MAX_TRIES, OPTIMISTIC_TRIES, Shape, Table, contended, root};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Op, OpKind, Segment, Space, Step, Word, fence};
use crate::raw::latch;

thread_local! {
    /// Where values are copied to before they are decoded. Taken out while in use, so decoding may look things up.
    static SCRATCH: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// Scratch space larger than this is given back after use.
const SCRATCH_KEPT: usize = 8192;

/// How an attempt to read ended.
enum Attempt {
    Hit(usize),
    Miss,
    /// Something changed meanwhile.
    Changed,
}

/// What a look-up under one consistent state found: the value's length in bytes.
pub type Found = Option<usize>;

impl Table {
    /// Looks `key` up and gives the value's bytes to `read`; whole words, for an inline value.
    ///
    /// # Blocking
    /// Never waits for a lock. A read that loses to writers eight times in a row tries to take the bucket's latch, so
    /// that a hot bucket cannot starve it, but does not wait for it.
    ///
    /// # Complexity
    /// Two to three cache lines for an inline entry, plus those of the block for a boxed one.
    ///
    /// # Errors
    /// `Corrupted`, `Evicted`, `Contended`.
    #[inline]
    pub fn get<R>(&self, segment: &Segment, hash: u64, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Step<Option<R>> {
        let g = &self.geometry;
        if g.boxed {
            return self.get_boxed(segment, hash, key, read);
        }
        let mut out = [0u64; 3];
        let found = match (g.key_words, g.value_words) {
            // The constants let the compiler drop every loop.
            (1, 1) => self.get_inline::<1, 1>(segment, hash, key, &mut out)?,
            (2, 1) => self.get_inline::<2, 1>(segment, hash, key, &mut out)?,
            (1, 2) => self.get_inline::<1, 2>(segment, hash, key, &mut out)?,
            (1, 3) => self.get_inline::<1, 3>(segment, hash, key, &mut out)?,
            (2, 2) => self.get_inline::<2, 2>(segment, hash, key, &mut out)?,
            (1, 0) => self.get_inline::<1, 0>(segment, hash, key, &mut out)?,
            (2, 0) => self.get_inline::<2, 0>(segment, hash, key, &mut out)?,
            (3, 0) => self.get_inline::<3, 0>(segment, hash, key, &mut out)?,
            _ => self.get_inline::<3, 1>(segment, hash, key, &mut out)?,
        };
        Ok(found.map(|len| read(&zerocopy::IntoBytes::as_bytes(&out)[..len])))
    }

    #[inline(always)]
    fn get_inline<const KEY: usize, const VALUE: usize>(
        &self,
        segment: &Segment,
        hash: u64,
        key: &[u8],
        out: &mut [u64; 3],
    ) -> Step<Found> {
        let copy = |bucket: Bucket<'_>, cell: usize, out: &mut [u64; 3]| {
            Ok(copy_inline::<KEY, VALUE>(bucket.cell(cell), key, out))
        };
        // A constant geometry: bounds checks and multiplications fold.
        let geometry = const { &Geometry::of(Shape::Inline { key: KEY as u8, value: VALUE as u8 }) };
        self.look_up(geometry, segment, hash, out, copy)
    }

    fn get_boxed<R>(&self, segment: &Segment, hash: u64, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Step<Option<R>> {
        let mut out = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let copy = |bucket: Bucket<'_>, cell: usize, out: &mut Vec<u64>| {
            let word = bucket.cell(cell)[0].load(Ordering::Acquire);
            if !tag_matches(word, hash) {
                return Ok(None);
            }
            segment.space().prefetch(block_of(word), self.lines);
            let entry = Entry::of_cell(segment, word)?;
            if !entry.has_key(key) {
                return Ok(None);
            }
            let (words, len) = entry.value();
            out.clear();
            if words.len() > out.capacity() {
                // A length from a block that was freed meanwhile must not make this process allocate gigabytes.
                fence(Ordering::Acquire);
                if bucket.cell(cell)[0].load(Ordering::Relaxed) != word {
                    return Err(Error::corrupted("an entry that changed while it was read"));
                }
            }
            load_words(words, out);
            Ok(Some(len))
        };
        let found = self.look_up(const { &Geometry::of(Shape::Boxed) }, segment, hash, &mut out, copy);
        let result = found.map(|found| found.map(|len| read(&zerocopy::IntoBytes::as_bytes(&out[..])[..len])));
        if out.capacity() <= SCRATCH_KEPT {
            let _ = SCRATCH.try_with(|scratch| scratch.set(out));
        }
        result
    }

    /// Tries until one attempt saw a consistent state.
    #[inline(always)]
    fn look_up<O>(
        &self,
        geometry: &Geometry,
        segment: &Segment,
        hash: u64,
        out: &mut O,
        copy: impl Fn(Bucket<'_>, usize, &mut O) -> Result<Option<usize>>,
    ) -> Step<Found> {
        for _ in 0..OPTIMISTIC_TRIES {
            match self.attempt(geometry, segment, hash, out, &copy)? {
                Attempt::Hit(len) => return Ok(Some(len)),
                Attempt::Miss => return Ok(None),
                Attempt::Changed => {}
            }
        }
        self.look_up_persistently(segment, hash, out, &copy)
    }

    #[inline(always)]
    fn attempt<O>(
        &self,
        geometry: &Geometry,
        segment: &Segment,
        hash: u64,
        out: &mut O,
        copy: &impl Fn(Bucket<'_>, usize, &mut O) -> Result<Option<usize>>,
    ) -> Result<Attempt> {
        let root = self.root(segment)?;
        let buckets = root[root::BUCKETS].load(Ordering::Acquire);
        let primary = Bucket::at(segment, geometry, bucket_offset(root, geometry, index(hash, buckets))?)?;
        let search = || Self::search_chain(geometry, segment.space(), hash, primary, out, copy);
        let Some(found) = while_still(primary.latch(), search) else { return Ok(Attempt::Changed) };
        if segment.poisoned() {
            return Err(Error::new(ErrorKind::Evicted, "the segment has lost its storage"));
        }
        match found? {
            // LINEARIZES: a hit, at the second reading of the sequence.
            Some(len) => Ok(Attempt::Hit(len)),
            // LINEARIZES: a miss, at the second reading of the number of buckets: the key had no other place to be.
            None if root[root::BUCKETS].load(Ordering::Acquire) == buckets => Ok(Attempt::Miss),
            None => Ok(Attempt::Changed),
        }
    }

    #[inline(always)]
    pub(super) fn search_chain<O>(
        geometry: &Geometry,
        space: &Space,
        hash: u64,
        primary: Bucket<'_>,
        out: &mut O,
        copy: &impl Fn(Bucket<'_>, usize, &mut O) -> Result<Option<usize>>,
    ) -> Result<Found> {
        let mut bucket = primary;
        for _ in 0..MAX_CHAIN {
            for cell in bucket.live().candidates(hash) {
                if let Some(len) = copy(bucket, cell, out)? {
                    return Ok(Some(len));
                }
            }
            match bucket.link() {
                0 => return Ok(None),
                link => bucket = Bucket::inside(space, geometry, link)?,
            }
        }
        Err(Error::corrupted("a chain of buckets without end"))
    }

    /// Writers were quicker too often: between further attempts, try to take the latch.
    #[cold]
    #[inline(never)]
    fn look_up_persistently<O>(
        &self,
        segment: &Segment,
        hash: u64,
        out: &mut O,
        copy: &impl Fn(Bucket<'_>, usize, &mut O) -> Result<Option<usize>>,
    ) -> Step<Found> {
        for round in 0..MAX_TRIES {
            match self.attempt(&self.geometry, segment, hash, out, copy)? {
                Attempt::Hit(len) => return Ok(Some(len)),
                Attempt::Miss => return Ok(None),
                Attempt::Changed => {}
            }
            if let Some(found) = self.try_latched(segment, hash, out, copy)? {
                return Ok(found);
            }
            if round % 64 == 63 {
                std::thread::yield_now();
            }
        }
        Err(contended("reading a bucket that never rests").into())
    }

    /// One look under the bucket's latch, if it is free and this thread may take it. `None` if not.
    fn try_latched<O>(
        &self,
        segment: &Segment,
        hash: u64,
        out: &mut O,
        copy: &impl Fn(Bucket<'_>, usize, &mut O) -> Result<Option<usize>>,
    ) -> Step<Option<Found>> {
        let Ok(me) = segment.enter() else { return Ok(None) };
        let root = self.root(segment)?;
        let buckets = root[root::BUCKETS].load(Ordering::Acquire);
        let off = bucket_offset(root, &self.geometry, index(hash, buckets))?;
        let bucket = Bucket::at(segment, &self.geometry, off)?;
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Cell, off);
        me.intent.set(Field::Op, Op::new(OpKind::TablePut).pack());
        let mut result = Ok(None);
        if latch::try_acquire(&me, bucket.latch()) {
            if root[root::BUCKETS].load(Ordering::Acquire) == buckets {
                result = Self::search_chain(&self.geometry, segment.space(), hash, bucket, out, copy).map(Some);
            }
            latch::release(bucket.latch());
        }
        me.intent.set(Field::Op, 0);
        Ok(result?)
    }

    /// One look under the latch, as after too many failed attempts.
    #[cfg(test)]
    pub fn look_latched(&self, segment: &Segment, hash: u64) -> Step<()> {
        self.try_latched(segment, hash, &mut (), &|_, _, ()| Ok(None)).map(drop)
    }

    /// Loads the words of a single inline value; for the counting operations under the latch.
    pub(super) fn single_value<'a>(&self, cell: &'a [Word]) -> &'a Word {
        &cell[self.geometry.key_words as usize]
    }
}

/// What `read` made of a bucket, if its sequence stood still meanwhile.
#[inline(always)]
pub(super) fn while_still<R>(latch: &Word, read: impl FnOnce() -> R) -> Option<R> {
    // Acquire: everything that the release which stored this sequence did is visible.
    let before = latch::sequence_of(latch.load(Ordering::Acquire));
    let found = read();
    // Pairs with the Release fence behind every taking of a latch: if any word read above was stored by a later
    // holder, the sequence read below is at least that holder's.
    fence(Ordering::Acquire);
    (latch::sequence_of(latch.load(Ordering::Relaxed)) == before).then_some(found)
}

/// Copies the value of an inline cell if its key is `key`; the value's length in bytes.
#[inline(always)]
pub(super) fn copy_inline<const KEY: usize, const VALUE: usize>(
    cell: &[Word],
    key: &[u8],
    out: &mut [u64; 3],
) -> Found {
    let words = &cell[..KEY + VALUE];
    let hit = equal_bytes(&words[..KEY], key);
    if hit {
        for (to, from) in out[..VALUE].iter_mut().zip(&words[KEY..]) {
            *to = from.load(Ordering::Relaxed);
        }
    }
    hit.then_some(VALUE * 8)
}
