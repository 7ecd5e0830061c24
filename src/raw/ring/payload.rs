//! Items in words: in a slot, or in a block of their own.
//!
//! A payload block: length of the bytes in the low half of its first word, number of handles in the high half; the
//! handles; the bytes, padded to words.
//!
//! # Invariants
//!
//! 1. Bytes are copied word by word with relaxed accesses. The slot's publication orders them for the consumer, the
//!    slot's release orders the consumer's loads before the next producer's stores.
//! 2. A length is believed only after it was compared with the size of the block it is said to lie in.

use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Segment, WORD, Word};

/// Stores `bytes`, the last word padded with zeros.
pub(super) fn store(words: &[Word], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter().zip(whole) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if !rest.is_empty()
        && let Some(word) = words.get(whole.len())
    {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        word.store(u64::from_le_bytes(last), Ordering::Relaxed);
    }
}

/// Appends the first `length` bytes in `words` to `out`.
pub(super) fn load(words: &[Word], length: usize, out: &mut Vec<u8>) {
    let length = length.min(words.len() * 8);
    let start = out.len();
    out.resize(start + length, 0);
    let (whole, rest) = out[start..].as_chunks_mut::<8>();
    for (chunk, word) in whole.iter_mut().zip(words) {
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    if !rest.is_empty() {
        let last = words[length / 8].load(Ordering::Relaxed).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Allocates and fills the block of an item. The intent's `Alloc` names it.
///
/// # Errors
/// As [`Me::alloc`].
pub(super) fn allocate(me: &Me<'_>, bytes: &[u8], handles: &[u64]) -> Result<u64> {
    let (Ok(length), Ok(count)) = (u32::try_from(bytes.len()), u32::try_from(handles.len())) else {
        return Err(Error::new(ErrorKind::TooLarge, format!("an item of {} bytes", bytes.len())));
    };
    let words = 1 + handles.len() + bytes.len().div_ceil(8);
    let block = me.alloc(words as u64 * WORD, Field::Alloc)?;
    let words = me.segment.words(block, words)?;
    words[0].store(u64::from(count) << 32 | u64::from(length), Ordering::Relaxed);
    for (word, handle) in words[1..].iter().zip(handles) {
        word.store(*handle, Ordering::Relaxed);
    }
    store(&words[1 + handles.len()..], bytes);
    Ok(block)
}

/// A payload block, validated: its words, its handles and its length.
pub(super) struct Boxed<'a> {
    words: &'a [Word],
    /// The handles.
    pub handles: &'a [Word],
    length: usize,
}

impl<'a> Boxed<'a> {
    /// Reads the block at `block`.
    ///
    /// # Errors
    /// `Corrupted` if no block starts there or it is shorter than it says.
    pub fn read(segment: &'a Segment, block: u64) -> Result<Boxed<'a>> {
        let size = segment.block_size(block)?;
        let header = segment.word(block)?.load(Ordering::Relaxed);
        let (length, count) = (header & 0xffff_ffff, header >> 32);
        let words = 1 + count + length.div_ceil(8);
        if words * WORD > size {
            return Err(Error::corrupted("the length of a queued item"));
        }
        let words = &segment.words(block, words as usize)?[1..];
        let (handles, words) = words.split_at(count as usize);
        Ok(Boxed { words, handles, length: length as usize })
    }

    /// Appends its bytes to `out`.
    pub fn load(&self, out: &mut Vec<u8>) {
        load(self.words, self.length, out);
    }
}
