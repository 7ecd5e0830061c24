//! Bytes in place: what arrays and blocks are made of.
//!
//! The root, in words: the users' lock (see `lock`), the number of bytes, the number of chunks, and the chunks' offsets. A
//! chunk is a block of 256 MiB, the last one as short as need be. Chunks never move.
//!
//! # Thread safety and crash
//!
//! Memory is written by whole words. Where only some bytes of a word change, they are put into it by compare-and-swap, so
//! neighbours that others write at the same time are kept. Nothing is announced, since there is nothing to undo: a kill
//! leaves each word as it was or as it was to be. So an aligned element of up to eight bytes is never torn; several elements
//! are not written as one step.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::table::word_of;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Segment, Word};

const BYTES: usize = 1;
const CHUNKS: usize = 2;
const FIRST_CHUNK: usize = 3;

/// Bytes of all chunks but the last.
const CHUNK: u64 = 256 << 20;
/// The most bytes: the words of the root fit into the largest size class.
const MOST: u64 = CHUNK * 4000;

/// Builds an area of `bytes` zeros and stores its root in `root_ref`.
///
/// # Errors
/// `TooLarge`, `OutOfMemory`.
pub fn create(me: &Me<'_>, root_ref: &Word, bytes: u64) -> Result<()> {
    if bytes > MOST {
        return Err(Error::new(ErrorKind::TooLarge, format!("an array of {bytes} bytes")));
    }
    let chunks = bytes.div_ceil(CHUNK);
    let count = FIRST_CHUNK + chunks as usize;
    let block = me.alloc(count as u64 * 8, Field::Alloc)?;
    let words = me.segment.words(block, count)?;
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    words[BYTES].store(bytes, Ordering::Relaxed);
    words[CHUNKS].store(chunks, Ordering::Relaxed);
    root_ref.store(block, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    for (i, chunk_ref) in words[FIRST_CHUNK..].iter().enumerate() {
        let length = (bytes - i as u64 * CHUNK).min(CHUNK).next_multiple_of(8);
        let chunk = me.alloc(length, Field::Alloc)?;
        for word in me.segment.words(chunk, (length / 8) as usize)? {
            word.store(0, Ordering::Relaxed);
        }
        chunk_ref.store(chunk, Ordering::Release);
        me.intent.set(Field::Alloc, 0);
    }
    Ok(())
}

fn root(segment: &Segment, root: u64) -> Result<&[Word]> {
    let chunks = segment.words(root, FIRST_CHUNK)?[CHUNKS].load(Ordering::Acquire);
    if chunks > MOST / CHUNK {
        return Err(Error::corrupted("the number of an array's chunks"));
    }
    segment.words(root, FIRST_CHUNK + chunks as usize)
}

/// An area of bytes: its length, and where its chunks are.
#[derive(Clone, Debug)]
pub struct Area {
    bytes: u64,
    chunks: Arc<[u64]>,
}

impl Area {
    /// Opens the area with its root at `root`.
    ///
    /// # Errors
    /// `Corrupted` if there is none.
    pub fn open(segment: &Segment, root_block: u64) -> Result<Area> {
        let words = root(segment, root_block)?;
        let bytes = words[BYTES].load(Ordering::Acquire);
        let chunks: Arc<[u64]> = words[FIRST_CHUNK..].iter().map(|word| word.load(Ordering::Acquire)).collect();
        // Chunks do not overlap, so more than there is in the segment is a lie.
        if bytes.div_ceil(CHUNK) != chunks.len() as u64 || bytes > segment.committed() {
            return Err(Error::corrupted("the length of an array"));
        }
        Ok(Area { bytes, chunks })
    }

    /// Its length.
    #[inline]
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// The word at byte `at`, which is a multiple of 8 below the length.
    #[inline]
    pub fn word<'a>(&self, segment: &'a Segment, at: u64) -> Result<&'a Word> {
        segment.word(self.chunks[(at / CHUNK) as usize].wrapping_add(at % CHUNK))
    }

    /// The words that hold the bytes of `range`, chunk by chunk: the first byte of each run, and its words.
    fn runs<'a>(&self, segment: &'a Segment, range: Range<u64>) -> impl Iterator<Item = Result<(u64, &'a [Word])>> {
        let (mut at, end) = (range.start / 8 * 8, range.end.next_multiple_of(8));
        let end = if range.is_empty() { at } else { end };
        std::iter::from_fn(move || {
            let start = at;
            let stop = end.min((start / CHUNK + 1) * CHUNK);
            at = stop;
            (start < stop).then(|| {
                let chunk = self.chunks[(start / CHUNK) as usize].wrapping_add(start % CHUNK);
                Ok((start, segment.words(chunk, ((stop - start) / 8) as usize)?))
            })
        })
    }

    /// Copies the bytes from `at` on to `out`. The caller has checked the range.
    pub fn read(&self, segment: &Segment, at: u64, out: &mut [u8]) -> Result<()> {
        let range = at..at + out.len() as u64;
        for run in self.runs(segment, range.clone()) {
            let (start, words) = run?;
            let from = range.start.max(start);
            let to = range.end.min(start + words.len() as u64 * 8);
            let out = &mut out[(from - range.start) as usize..(to - range.start) as usize];
            let skip = (from - start) as usize;
            let (head, out) = out.split_at_mut(if skip == 0 { 0 } else { (8 - skip).min(out.len()) });
            let mut words = words.iter().map(|word| word.load(Ordering::Acquire).to_le_bytes());
            if !head.is_empty() {
                head.copy_from_slice(&words.next().unwrap_or_default()[skip..skip + head.len()]);
            }
            let (whole, tail) = out.as_chunks_mut::<8>();
            for (eight, word) in whole.iter_mut().zip(&mut words) {
                *eight = word;
            }
            if !tail.is_empty() {
                tail.copy_from_slice(&words.next().unwrap_or_default()[..tail.len()]);
            }
        }
        Ok(())
    }

    /// Writes the words that hold the bytes of `range`: `word` tells what is to be in the word that begins at that byte.
    /// Bytes outside the range are left as they are. The caller has checked the range.
    #[inline]
    pub fn write(&self, segment: &Segment, range: Range<u64>, word: impl Fn(u64) -> u64) -> Result<()> {
        for run in self.runs(segment, range.clone()) {
            let (start, words) = run?;
            for (at, to) in (start..).step_by(8).zip(words) {
                match mask(at, &range) {
                    u64::MAX => to.store(word(at), Ordering::Release), // LINEARIZES: writing these eight bytes
                    mask => merge(to, mask, word(at)),
                }
            }
        }
        Ok(())
    }

    /// Copies `bytes` to the bytes from `at` on. The caller has checked the range.
    pub fn write_bytes(&self, segment: &Segment, at: u64, bytes: &[u8]) -> Result<()> {
        let skip = (at % 8) as usize;
        self.write(segment, at..at + bytes.len() as u64, |word| match word.checked_sub(at) {
            Some(from) => word_of(&bytes[from as usize..], 0),
            None => word_of(bytes, 0) << (8 * skip),
        })
    }
}

/// The bits of the word at byte `at` that belong to the bytes of `range`.
#[inline]
fn mask(at: u64, range: &Range<u64>) -> u64 {
    let below = range.start.saturating_sub(at);
    let above = (at + 8).saturating_sub(range.end);
    if below | above == 0 {
        return u64::MAX;
    }
    (u64::MAX << (8 * below)) & (u64::MAX >> (8 * above))
}

/// Puts the bits of `mask` of `value` into the word, and keeps the others.
#[inline]
pub fn merge(word: &Word, mask: u64, value: u64) {
    let _ = update(word, mask, |_| Some(value));
}

/// Changes the bits of `mask` as one step: `change` gets the whole word and returns the next, or `None` to leave it. The
/// word before, if it was changed, or else what was found.
#[inline]
pub fn update(word: &Word, mask: u64, mut change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        let next = change(seen).ok_or(seen)?;
        // A failed CAS means that another one succeeded: progress.
        match word.cas(seen, seen & !mask | next & mask, Ordering::AcqRel) {
            Ok(_) => return Ok(seen), // LINEARIZES: writing some bytes of a word
            Err(now) => seen = now,
        }
    }
}

/// See `recovery::visit_blocks`.
pub fn visit(segment: &Segment, root_block: u64, f: &mut dyn FnMut(&Word, u64) -> Result<()>) -> Result<()> {
    for word in root(segment, root_block)?[FIRST_CHUNK..].iter().rev() {
        match word.load(Ordering::Acquire) {
            0 => {}
            chunk => f(word, chunk)?,
        }
    }
    Ok(())
}

/// Checks an area: its chunks are as long as they must be.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root_block: u64) -> Result<()> {
    let area = Area::open(segment, root_block)?;
    for (i, chunk) in area.chunks.iter().enumerate() {
        if segment.block_size(*chunk)? < (area.bytes - i as u64 * CHUNK).min(CHUNK) {
            return Err(Error::corrupted("a chunk of an array is too short"));
        }
    }
    Ok(())
}
