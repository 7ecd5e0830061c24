//! The crash-safe hash table behind every dict.
//!
//! # Algorithm
//!
//! Linear hashing (Litwin 1980): the table grows by one bucket at a time, so there is no pause and no rehash. Buckets
//! are a few cache lines with one fingerprint byte for each cell; readers are optimistic under the bucket's sequence
//! number, writers take one of the latches in the root.
//!
//! A bucket, in words:
//!
//! ```text
//! 0  sequence:28 | link:36   the sequence of the chain (in its primary bucket); an overflow bucket, or 0
//! 1  live                    for each cell a byte: 0, or, if it holds an entry, some bits of its hash
//! 2..  cells
//! ```
//!
//! Small plain entries are *inline*: a cell is the key's words and the value's words. All others are *boxed*: a cell is
//! one word, `tag:16 | offset:48` of an immutable entry block.
//!
//! # Thread safety and invariants
//!
//! 1. Under one latch acquisition exactly one store changes what readers see, the *commit*: of word 1 (an entry comes,
//!    goes, or moves to another cell), of a cell's single value word, or of a link. Cells not live are written freely.
//!    (Clearing and splitting commit several times, and raise the sequence in between.) The sequence is raised before
//!    the release if the commit took anything away.
//! 2. A reader that found the same sequence before and after has seen one state. It ignores who holds the latch, so it
//!    never waits for a writer, a dead one included.
//! 3. Latches live in the root, and sequences in primary buckets, which are freed only with the whole table; overflow
//!    buckets and entries are freed while others run, so nobody stores into them except under the latch of their bucket.
//! 4. The number of buckets, one word, only grows; it is the commit of a split. Index and key are re-checked under the
//!    latch.
//! 5. A key is in at most one live cell of its bucket's chain at rest.
//!
//! What a kill leaves is rolled back or forward in `recover`.

mod bucket;
mod copied;
mod directory;
mod entry;
mod glance;
mod iterate;
mod latched;
#[cfg(all(test, loom))]
mod loom_tests;
mod normalise;
mod put;
mod quick;
mod read;
mod recover;
mod sequence;
mod size;
mod snapshot;
mod split;
mod visit;

pub use entry::{ValueCopy, equal_bytes, padded_words, word_of, words_for};
pub use iterate::{Cursor, Pair};
pub use put::{Expect, Put};
pub use quick::Quick;
pub use recover::{resolve, resume_clear};
pub use visit::{check, visit, visit_handles};

use std::sync::atomic::Ordering;

use self::bucket::Geometry;
use self::size::Size;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Segment, Word};

/// Words of the root block.
mod root {
    use super::directory::DIRECTORY_WORDS;

    pub const GEOMETRY: usize = 0;
    pub const BUCKETS: usize = 1;
    pub const SPLIT: usize = 2;
    pub const GATE: usize = 3;
    pub const DIRTY: usize = 4;
    pub const STRIPES: usize = 8;
    /// Stripes, and words of each: a latch, and its part of the count.
    pub const STRIPE_COUNT: usize = 64;
    pub const STRIPE_WORDS: usize = 2;
    pub const DIRECTORY: usize = STRIPES + STRIPE_COUNT * STRIPE_WORDS;
    pub const WORDS: usize = DIRECTORY + DIRECTORY_WORDS;
}

/// Buckets in a chain, the primary one included, at most.
const MAX_CHAIN: usize = 64;
/// Optimistic reads that may fail before the reader takes the latch if it can.
const OPTIMISTIC_TRIES: u32 = 8;
/// Reads that may fail before the answer is `Contended` (or `Corrupted`, if the bytes made no sense each time).
const MAX_TRIES: u32 = 1 << 16;

/// What entries of a table look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Key and value have fixed lengths in words and lie in the bucket.
    Inline {
        /// Words of a key.
        key: u8,
        /// Words of a value; 0 if values are empty, as in a set.
        value: u8,
    },
    /// Entries are blocks.
    Boxed,
}

impl Shape {
    /// The shape for keys and values of these fixed lengths in bytes.
    #[inline]
    pub fn for_lengths(key: Option<usize>, value: Option<usize>) -> Shape {
        match (key, value) {
            (Some(key @ 1..=24), Some(value @ 0..=24)) if key.div_ceil(8) + value.div_ceil(8) <= 4 => {
                Shape::Inline { key: key.div_ceil(8) as u8, value: value.div_ceil(8) as u8 }
            }
            _ => Shape::Boxed,
        }
    }
}

/// A table: where its root is, and its geometry as validated when it was opened.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    root: u64,
    geometry: Geometry,
}

/// Runs the first arm with the lengths of an inline shape as constants, for which the compiler drops every loop, and the
/// second for a boxed one.
macro_rules! by_shape {
    ($shape:expr, $key:ident, $value:ident => $inline:expr, boxed => $boxed:expr) => {{
        macro_rules! inline {
            ($k:literal, $v:literal) => {{
                const $key: usize = $k;
                const $value: usize = $v;
                $inline
            }};
        }
        use $crate::raw::table::Shape;
        match $shape {
            Shape::Inline { key: 1, value: 1 } => inline!(1, 1),
            Shape::Inline { key: 2, value: 1 } => inline!(2, 1),
            Shape::Inline { key: 1, value: 2 } => inline!(1, 2),
            Shape::Inline { key: 1, value: 3 } => inline!(1, 3),
            Shape::Inline { key: 2, value: 2 } => inline!(2, 2),
            Shape::Inline { key: 1, value: 0 } => inline!(1, 0),
            Shape::Inline { key: 2, value: 0 } => inline!(2, 0),
            Shape::Inline { key: 3, value: 0 } => inline!(3, 0),
            Shape::Inline { .. } => inline!(3, 1),
            Shape::Boxed => $boxed,
        }
    }};
}
pub(crate) use by_shape;

/// Builds an empty table and stores its root in `root_ref`.
///
/// The intent's `op` covers the building; every block is named until something that `root_ref` reaches refers to it.
///
/// # Errors
/// `OutOfMemory`.
pub fn create(me: &Me<'_>, root_ref: &Word, shape: Shape) -> Result<()> {
    let geometry = Geometry::of(shape);
    let block = me.alloc(root::WORDS as u64 * 8, Field::Alloc)?;
    let words = me.segment.words(block, root::WORDS)?;
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    words[root::GEOMETRY].store(geometry.pack(), Ordering::Relaxed);
    root_ref.store(block, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    let table = Table { root: block, geometry };
    table.ensure_chunk(me, words, 0)?;
    let first = directory::bucket_offset(words, &geometry, 0)?;
    for word in me.segment.words(first, geometry.bucket_words as usize)? {
        word.store(0, Ordering::Relaxed);
    }
    Size::of(1).publish(words);
    Ok(())
}

impl Table {
    /// Opens the table with its root at `root`.
    ///
    /// # Errors
    /// `Corrupted` if there is no table.
    pub fn open(segment: &Segment, root: u64) -> Result<Table> {
        let words = segment.words(root, root::WORDS)?;
        let geometry = Geometry::unpack(words[root::GEOMETRY].load(Ordering::Acquire))?;
        Ok(Table { root, geometry })
    }

    /// What its entries look like.
    pub fn shape(&self) -> Shape {
        self.geometry.shape()
    }

    #[inline(always)]
    fn root<'a>(&self, segment: &'a Segment) -> Result<&'a [Word]> {
        segment.words(self.root, root::WORDS)
    }

    /// Entries at this moment. Exact when nobody writes.
    ///
    /// # Crash
    /// A writer killed between its commit and the count leaves a mark, and the next call counts anew, holding writers
    /// off meanwhile.
    ///
    /// # Complexity
    /// Constant; linear after such a kill.
    pub fn len(&self, segment: &Segment) -> Result<u64> {
        Ok(total(self.root(segment)?))
    }

    /// Whether a kill has made the count unsure.
    pub fn is_len_dirty(&self, segment: &Segment) -> Result<bool> {
        Ok(self.root(segment)?[root::DIRTY].load(Ordering::Acquire) != 0)
    }
}

fn total(root: &[Word]) -> u64 {
    let sum = (0..latched::STRIPES)
        .map(|number| latched::count_of(root, number).load(Ordering::Relaxed))
        .fold(0u64, |sum, stripe| sum.wrapping_add(stripe));
    if sum > 1 << 63 { 0 } else { sum } // between two writers' halves of a move the sum may be short
}

#[cold]
fn contended(what: &'static str) -> Error {
    Error::new(ErrorKind::Contended, what)
}
