//! Items in words: in a slot, or in a block of their own.
//!
//! A payload block: length of the bytes in the low half of its first word, number of handles in the high half; the
//! handles; the bytes, padded to words.
//!
//! # Invariants
//!
//! 1. Bytes are copied with relaxed accesses. The slot's publication orders them for the consumer, the
//!    slot's release orders the consumer's loads before the next producer's stores.
//! 2. A length is believed only after it was compared with the size of the block it is said to lie in.

use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Segment, WORD, Word, load_bytes, store_bytes};

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
    store_bytes(&words[1 + handles.len()..], bytes);
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
        load_bytes(self.words, self.length, out);
    }
}
