//! Keys and values as they are stored: entry blocks, and the copying of bytes into and out of words.
//!
//! An entry block, in words: `key length:32 | value length:32`, hash, number of handles, handles, key, value. It is
//! immutable from its publication on.

use std::sync::atomic::Ordering;

use super::bucket::{Geometry, block_of};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Segment, Word, load_words, store_bytes};

const HEADER_WORDS: usize = 3;

/// Words that `bytes` bytes take.
#[inline(always)]
pub fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// The eight bytes from `8 * i` on, padded with zeros.
#[inline(always)]
pub fn word_of(bytes: &[u8], i: usize) -> u64 {
    match bytes.get(8 * i..8 * i + 8) {
        Some(eight) => u64::from_le_bytes(eight.try_into().expect("eight bytes")),
        None => {
            let mut padded = [0; 8];
            let rest = bytes.get(8 * i..).unwrap_or(&[]);
            padded[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(padded)
        }
    }
}

/// Whether `words` hold `bytes`, zero-padded.
#[inline(always)]
pub fn equal_bytes(words: &[Word], bytes: &[u8]) -> bool {
    let (whole, rest) = bytes.as_chunks::<8>();
    words.len() == words_for(bytes.len())
        && words.iter().zip(whole).all(|(word, chunk)| word.load(Ordering::Relaxed) == u64::from_le_bytes(*chunk))
        && (rest.is_empty() || words.last().is_some_and(|word| word.load(Ordering::Relaxed) == word_of(rest, 0)))
}

/// The words of an inline key or value, padded with zeros.
#[inline(always)]
pub fn padded_words<const COUNT: usize>(bytes: &[u8]) -> [u64; COUNT] {
    std::array::from_fn(|i| word_of(bytes, i))
}

/// An entry block, its lengths checked against the segment's bounds.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    words: &'a [Word],
    key_len: usize,
    value_len: usize,
    handles: usize,
}

impl<'a> Entry<'a> {
    /// Bytes of a block for such an entry.
    ///
    /// # Errors
    /// `TooLarge` if a length does not fit its field.
    pub fn size(key: usize, value: usize, handles: usize) -> Result<u64> {
        if u32::try_from(key).is_err() || u32::try_from(value).is_err() || u32::try_from(handles).is_err() {
            return Err(Error::new(ErrorKind::TooLarge, format!("an entry of {key} + {value} bytes")));
        }
        Ok(((HEADER_WORDS + handles + words_for(key) + words_for(value)) * 8) as u64)
    }

    /// Fills a fresh block.
    #[inline]
    pub fn fill(segment: &Segment, off: u64, hash: u64, key: &[u8], value: &[u8], handles: &[u64]) -> Result<()> {
        let (kw, vw) = (words_for(key.len()), words_for(value.len()));
        let words = segment.words(off, HEADER_WORDS + handles.len() + kw + vw)?;
        words[0].store(key.len() as u64 | (value.len() as u64) << 32, Ordering::Relaxed);
        words[1].store(hash, Ordering::Relaxed);
        words[2].store(handles.len() as u64, Ordering::Relaxed);
        let (head, rest) = words[HEADER_WORDS..].split_at(handles.len());
        for (word, handle) in head.iter().zip(handles) {
            word.store(*handle, Ordering::Relaxed);
        }
        let (key_words, value_words) = rest.split_at(kw);
        store_bytes(key_words, key);
        store_bytes(value_words, value);
        Ok(())
    }

    /// The entry at `off`. What an optimistic reader gets here may be anything; the bounds hold in any case.
    ///
    /// # Errors
    /// `Corrupted` if the lengths reach outside the segment.
    #[inline(always)]
    pub fn at(segment: &'a Segment, off: u64) -> Result<Entry<'a>> {
        let space = segment.space();
        Entry::read(space.words(off, HEADER_WORDS)?, |count| space.words(off, count))
    }

    /// [`Entry::at`] as far as it needs no second look at the bounds.
    #[inline(always)]
    pub fn glance(segment: &'a Segment, off: u64) -> Option<Entry<'a>> {
        let space = segment.space();
        let words = |count| space.glance(off, count).ok_or(());
        Entry::read(words(HEADER_WORDS).ok()?, words).ok()
    }

    #[inline(always)]
    fn read<E>(head: &[Word], words: impl FnOnce(usize) -> Result<&'a [Word], E>) -> Result<Entry<'a>, E> {
        let lengths = head[0].load(Ordering::Relaxed);
        let (key_len, value_len) = (lengths as u32 as usize, (lengths >> 32) as usize);
        let handles = head[2].load(Ordering::Relaxed) as u32 as usize;
        let words = words(HEADER_WORDS + handles + words_for(key_len) + words_for(value_len))?;
        Ok(Entry { words, key_len, value_len, handles })
    }

    /// The entry that a boxed cell refers to.
    #[inline(always)]
    pub fn of_cell(segment: &'a Segment, cell: u64) -> Result<Entry<'a>> {
        Entry::at(segment, block_of(cell))
    }

    /// Its hash.
    pub fn hash(&self) -> u64 {
        self.words[1].load(Ordering::Relaxed)
    }

    /// Words of its handles.
    pub fn handles(&self) -> &'a [Word] {
        &self.words[HEADER_WORDS..][..self.handles]
    }

    /// Words and length of its key.
    #[inline(always)]
    pub fn key(&self) -> (&'a [Word], usize) {
        (&self.words[HEADER_WORDS + self.handles..][..words_for(self.key_len)], self.key_len)
    }

    /// Words and length of its value.
    #[inline(always)]
    pub fn value(&self) -> (&'a [Word], usize) {
        (&self.words[HEADER_WORDS + self.handles + words_for(self.key_len)..], self.value_len)
    }

    /// Whether its key is `key`.
    #[inline(always)]
    pub fn has_key(&self, key: &[u8]) -> bool {
        self.key_len == key.len() && equal_bytes(self.key().0, key)
    }
}

/// Key and value of a live cell, in either shape.
pub struct Content<'a> {
    /// Words of the key.
    pub key: &'a [Word],
    /// Bytes of the key; whole words in an inline cell.
    pub key_len: usize,
    /// Words of the value.
    pub value: &'a [Word],
    /// Bytes of the value; whole words in an inline cell.
    pub value_len: usize,
    /// Words of the handles that the value holds.
    pub handles: &'a [Word],
}

/// A value copied out of a table.
#[derive(Default)]
pub struct ValueCopy {
    words: Vec<u64>,
    len: usize,
}

impl ValueCopy {
    /// Replaces the copy by the value of `content`.
    pub fn copy(&mut self, content: &Content<'_>) {
        self.words.clear();
        load_words(content.value, &mut self.words);
        self.len = content.value_len;
    }

    /// The value's bytes; whole words, for an inline value.
    pub fn bytes(&self) -> &[u8] {
        &zerocopy::IntoBytes::as_bytes(&self.words[..])[..self.len]
    }
}

/// What a cell holds.
pub fn content<'a>(segment: &'a Segment, geometry: &Geometry, cell: &'a [Word]) -> Result<Content<'a>> {
    if geometry.boxed {
        let entry = Entry::of_cell(segment, cell[0].load(Ordering::Acquire))?;
        let ((key, key_len), (value, value_len)) = (entry.key(), entry.value());
        return Ok(Content { key, key_len, value, value_len, handles: entry.handles() });
    }
    let (key, value) = cell.split_at(geometry.key_words as usize);
    Ok(Content { key, key_len: key.len() * 8, value, value_len: value.len() * 8, handles: &[] })
}

/// The hash of a live cell's key.
pub fn hash_of(segment: &Segment, geometry: &Geometry, cell: &[Word]) -> Result<u64> {
    if geometry.boxed {
        return Ok(Entry::of_cell(segment, cell[0].load(Ordering::Acquire))?.hash());
    }
    let word = |i: usize| cell[i].load(Ordering::Relaxed);
    Ok(match geometry.key_words {
        1 => segment.hash_words(&[word(0)]),
        2 => segment.hash_words(&[word(0), word(1)]),
        _ => segment.hash_words(&[word(0), word(1), word(2)]),
    })
}
