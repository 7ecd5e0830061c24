//! Iterating while others write.
//!
//! # Algorithm
//!
//! The cursor is a position in *bit-reversed hash order*. A bucket of a linear-hashing table holds exactly an interval
//! of that order, and a split halves the interval; so whatever splits happen between two steps, "the entries of the
//! bucket that covers the cursor, from the cursor on" neither repeats nor misses a key that stays. (Scanning by
//! bucket number does one or the other. The same order drives Redis' SCAN.)

use super::bucket::Bucket;
use super::directory::bucket_offset;
use super::entry::{Content, content, hash_of};
use super::size::Size;
use super::{MAX_CHAIN, MAX_TRIES, Table, contended, sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Segment, Step, load_words};

/// An entry copied out of a table.
pub struct Pair {
    words: Vec<u64>,
    key_len: usize,
    value_at: usize,
    value_len: usize,
}

impl Pair {
    /// The key's bytes; whole words, in an inline table.
    pub fn key(&self) -> &[u8] {
        &zerocopy::IntoBytes::as_bytes(&self.words[..])[..self.key_len]
    }

    /// The value's bytes; whole words, in an inline table.
    pub fn value(&self) -> &[u8] {
        &zerocopy::IntoBytes::as_bytes(&self.words[self.value_at..])[..self.value_len]
    }
}

/// A place in a table's iteration order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    position: u64,
    done: bool,
}

impl Cursor {
    /// The end.
    pub fn finished() -> Cursor {
        Cursor { position: 0, done: true }
    }

    /// Whether the iteration is over.
    pub fn is_done(&self) -> bool {
        self.done
    }
}

/// Low bits of the hash that all entries of bucket `number` share.
fn shared_bits(number: u64, buckets: u64) -> u32 {
    let level = 63 - buckets.leading_zeros();
    let split = number >> level != 0 || number + (1 << level) < buckets;
    level + u32::from(split)
}

impl Table {
    /// Appends the entries of the next bucket to `out` and moves the cursor past them. Every key that is in the table
    /// from the first call to the last comes exactly once; others at most once.
    ///
    /// # Blocking
    /// Takes no lock and waits for nobody.
    ///
    /// # Complexity
    /// One bucket's chain, in time and in memory.
    pub fn next_pairs(&self, segment: &Segment, cursor: &mut Cursor, out: &mut Vec<Pair>) -> Step<()> {
        let kept = out.len();
        self.next_cells(
            segment,
            cursor,
            out,
            |out| out.truncate(kept),
            |out, now| {
                let mut words = Vec::with_capacity(now.key.len() + now.value.len());
                load_words(now.key, &mut words);
                load_words(now.value, &mut words);
                let pair = Pair { words, key_len: now.key_len, value_at: now.key.len(), value_len: now.value_len };
                // A writer in the middle of tidying shows an entry twice.
                if !out[kept..].iter().any(|other| other.key() == pair.key()) {
                    out.push(pair);
                }
            },
        )
    }

    /// Appends the handles in the values of the next bucket to `out`; otherwise as [`next_pairs`](Table::next_pairs).
    pub(super) fn next_handles(&self, segment: &Segment, cursor: &mut Cursor, out: &mut Vec<u64>) -> Step<()> {
        self.next_cells(segment, cursor, out, Vec::clear, |out, now| load_words(now.handles, out))
    }

    /// Calls `copy` with the entries of the next bucket, until it has seen one consistent state; `restart` undoes what
    /// it did before each try.
    fn next_cells<O>(
        &self,
        segment: &Segment,
        cursor: &mut Cursor,
        out: &mut O,
        restart: impl Fn(&mut O),
        copy: impl Fn(&mut O, Content<'_>),
    ) -> Step<()> {
        for _ in 0..MAX_TRIES {
            restart(out);
            if let Some(next) = self.try_next(segment, *cursor, |now| copy(out, now))? {
                *cursor = next;
                return Ok(());
            }
            std::hint::spin_loop();
        }
        Err(contended("iterating over a bucket that never rests").into())
    }

    fn try_next(&self, segment: &Segment, cursor: Cursor, mut copy: impl FnMut(Content<'_>)) -> Result<Option<Cursor>> {
        let words = self.root(segment)?;
        let size = Size::read(words);
        let buckets = size.buckets();
        if buckets == 0 || !size.is_valid() {
            return Err(Error::corrupted("a table's number of buckets"));
        }
        let number = size.index(cursor.position.reverse_bits());
        let primary = Bucket::at(segment, &self.geometry, bucket_offset(words, &self.geometry, number)?)?;
        let before = sequence::observe(primary.sequence());
        let wanted = |hash: u64| size.index(hash) == number && hash.reverse_bits() >= cursor.position;
        let copied = self.copy_chain(segment, primary, before, wanted, &mut copy);
        if !sequence::is_unchanged(primary.sequence(), before) || Size::read(words) != size {
            return Ok(None);
        }
        if segment.poisoned() {
            return Err(Error::new(ErrorKind::Evicted, "the segment has lost its storage"));
        }
        copied?;
        Ok(Some(match shared_bits(number, buckets) {
            0 => Cursor::finished(),
            bits => {
                let size = 1u64 << (64 - bits);
                let (position, done) = (cursor.position & !(size - 1)).overflowing_add(size);
                Cursor { position, done }
            }
        }))
    }

    fn copy_chain(
        &self,
        segment: &Segment,
        primary: Bucket<'_>,
        before: u64,
        wanted: impl Fn(u64) -> bool,
        copy: &mut impl FnMut(Content<'_>),
    ) -> Result<()> {
        let mut bucket = primary;
        for _ in 0..MAX_CHAIN {
            for cell in bucket.live_cells() {
                let words = bucket.cell(cell);
                if !wanted(hash_of(segment, &self.geometry, words)?) {
                    continue;
                }
                let now = content(segment, &self.geometry, words)?;
                if !sequence::is_unchanged(primary.sequence(), before) {
                    return Ok(()); // lengths may be anything; the caller will see it too
                }
                copy(now);
            }
            match bucket.link() {
                0 => return Ok(()),
                link => bucket = Bucket::at(segment, &self.geometry, link)?,
            }
        }
        Err(Error::corrupted("a chain of buckets without end"))
    }
}
