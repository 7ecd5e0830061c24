//! Looking up a key without a lock.

use std::sync::atomic::Ordering;

use zerocopy::IntoBytes;

use super::bucket::{Bucket, Geometry, tag_matches};
use super::copied::Copied;
use super::directory::bucket_offset;
use super::entry::{Entry, padded_words};
use super::latched::latch_of;
use super::size::Size;
use super::{MAX_CHAIN, MAX_TRIES, OPTIMISTIC_TRIES, Shape, Table, by_shape, contended, sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Op, OpKind, Segment, Space, Step, Word, fence};
use crate::raw::latch;

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
    /// Looks `key` up and gives the value's bytes to `read`; whole words, for an inline value. `shape` is the table's, from
    /// whom it is a constant.
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
    pub fn get<R>(
        &self,
        shape: Shape,
        segment: &Segment,
        hash: u64,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Step<Option<R>> {
        by_shape!(shape,
            KEY, VALUE => self.get_inline::<KEY, VALUE, R>(segment, hash, key, read),
            boxed => self.get_boxed(segment, hash, key, read))
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn get_inline<const KEY: usize, const VALUE: usize, R>(
        &self,
        segment: &Segment,
        hash: u64,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Step<Option<R>> {
        let key = padded_words::<KEY>(key);
        let found = match self.glance::<KEY, VALUE>(segment, hash, &key) {
            Some(found) => found,
            None => self.look_inline::<KEY, VALUE>(segment, hash, &key)?,
        };
        Ok(found.map(|value| read(value.as_bytes())))
    }

    #[cold]
    #[inline(never)]
    fn look_inline<const KEY: usize, const VALUE: usize>(
        &self,
        segment: &Segment,
        hash: u64,
        key: &[u64; KEY],
    ) -> Step<Option<[u64; VALUE]>> {
        let mut out = [0; VALUE];
        let copy = |bucket: Bucket<'_>, cell: usize, out: &mut [u64; VALUE]| {
            let value = value_of(bucket.cell(cell), key);
            Ok(value.map(|value| {
                *out = value;
                VALUE * 8
            }))
        };
        Ok(self.look_up(segment, hash, &mut out, copy)?.map(|_| out))
    }

    #[inline]
    fn get_boxed<R>(&self, segment: &Segment, hash: u64, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Step<Option<R>> {
        let mut out = Copied::nothing();
        let found = match self.glance_boxed(segment, hash, key, &mut out) {
            Some(found) => found,
            None => self.look_boxed(segment, hash, key, &mut out)?.is_some(),
        };
        Ok(found.then(|| read(out.bytes())))
    }

    #[cold]
    #[inline(never)]
    fn look_boxed(&self, segment: &Segment, hash: u64, key: &[u8], out: &mut Copied) -> Step<Found> {
        let copy = |bucket: Bucket<'_>, cell: usize, out: &mut Copied| {
            let word = bucket.cell(cell)[0].load(Ordering::Acquire);
            if !tag_matches(word, hash) {
                return Ok(None);
            }
            let entry = Entry::of_cell(segment, word)?;
            if !entry.has_key(key) {
                return Ok(None);
            }
            let (words, len) = entry.value();
            if words.len() > out.room() {
                // A length from a block that was freed meanwhile must not make this process allocate gigabytes.
                fence(Ordering::Acquire);
                if bucket.cell(cell)[0].load(Ordering::Relaxed) != word {
                    return Err(Error::corrupted("an entry that changed while it was read"));
                }
            }
            out.load(words, len);
            Ok(Some(len))
        };
        self.look_up(segment, hash, out, copy)
    }

    /// Tries until one attempt saw a consistent state.
    fn look_up<O>(
        &self,
        segment: &Segment,
        hash: u64,
        out: &mut O,
        copy: impl Fn(Bucket<'_>, usize, &mut O) -> Result<Option<usize>>,
    ) -> Step<Found> {
        for _ in 0..OPTIMISTIC_TRIES {
            match self.attempt(segment, hash, out, &copy)? {
                Attempt::Hit(len) => return Ok(Some(len)),
                Attempt::Miss => return Ok(None),
                Attempt::Changed => {}
            }
        }
        self.look_up_persistently(segment, hash, out, &copy)
    }

    fn attempt<O>(
        &self,
        segment: &Segment,
        hash: u64,
        out: &mut O,
        copy: &impl Fn(Bucket<'_>, usize, &mut O) -> Result<Option<usize>>,
    ) -> Result<Attempt> {
        let geometry = &self.geometry;
        let root = self.root(segment)?;
        let size = Size::read(root);
        let primary = Bucket::at(segment, geometry, bucket_offset(root, geometry, size.index(hash))?)?;
        let search = || Self::search_chain(geometry, segment.space(), hash, primary, out, copy);
        let Some(found) = while_still(primary.sequence(), search) else { return Ok(Attempt::Changed) };
        if segment.poisoned() {
            return Err(Error::new(ErrorKind::Evicted, "the segment has lost its storage"));
        }
        match found? {
            // LINEARIZES: a hit, at the second reading of the sequence.
            Some(len) => Ok(Attempt::Hit(len)),
            // LINEARIZES: a miss, at a reading of a live word: see `glance`.
            None if Size::read(root) == size => Ok(Attempt::Miss),
            None => Ok(Attempt::Changed),
        }
    }

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
            match self.attempt(segment, hash, out, copy)? {
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
        let number = Size::read(root).index(hash);
        let bucket = self.bucket(&self.geometry, &me, root, number)?;
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Op, Op { kind: OpKind::TablePut, phase: 0, argument: number }.pack());
        let (latch, mut result) = (latch_of(root, number), Ok(None));
        if latch::try_acquire(&me, latch) {
            if Size::read(root).index(hash) == number {
                result = Self::search_chain(&self.geometry, segment.space(), hash, bucket, out, copy).map(Some);
            }
            latch::release(latch);
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
pub(super) fn while_still<R>(sequence: &Word, read: impl FnOnce() -> R) -> Option<R> {
    let before = sequence::observe(sequence);
    let found = read();
    sequence::is_unchanged(sequence, before).then_some(found)
}

/// The value of an inline cell if its key is `key`.
#[inline(always)]
pub(super) fn value_of<const KEY: usize, const VALUE: usize>(cell: &[Word], key: &[u64; KEY]) -> Option<[u64; VALUE]> {
    let words = &cell[..KEY + VALUE];
    let hit = (0..KEY).all(|i| words[i].load(Ordering::Relaxed) == key[i]);
    hit.then(|| std::array::from_fn(|i| words[KEY + i].load(Ordering::Relaxed)))
}
