//! One item: a block of its own.
//!
//! In words: `length:32 | handles:24 | height:8`, priority, sequence, deliveries, lessee, `height` links, the handles,
//! the bytes. A length is believed only as far as the segment reaches.

use std::sync::atomic::Ordering;

use super::LEVELS;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Segment, WORD, Word, load_bytes, store_bytes};

const SHAPE: usize = 0;
const PRIORITY: usize = 1;
const SEQUENCE: usize = 2;
const DELIVERIES: usize = 3;
const LESSEE: usize = 4;
const LINKS: usize = 5;

/// In the lessee's word: what it has is a loan, not yet an item.
const LOAN: u64 = 1 << 17;

/// Where an item stands: lower comes first.
pub(super) type Key = (u64, u64);

/// An item.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    words: &'a [Word],
    /// Its block.
    pub offset: u64,
    /// Levels that it may be linked in.
    pub height: usize,
    handles: usize,
    /// Bytes of its payload.
    pub length: usize,
}

/// Allocates an item; the intent's `Alloc` names it. Key, lessee and links are for the caller to set.
///
/// # Errors
/// As [`Me::alloc`].
pub(super) fn allocate<'a>(me: &Me<'a>, length: usize, handles: &[u64], dice: u64) -> Result<Node<'a>> {
    let (Ok(length32), true) = (u32::try_from(length), handles.len() < 1 << 24) else {
        return Err(Error::new(ErrorKind::TooLarge, format!("an item of {length} bytes")));
    };
    let height = 1 + (mixed(dice).trailing_zeros() as usize / 2).min(LEVELS - 1);
    let count = LINKS + height + handles.len() + length.div_ceil(8);
    let offset = me.alloc(count as u64 * WORD, Field::Alloc)?;
    let words = me.segment.words(offset, count)?;
    let shape = u64::from(length32) | (handles.len() as u64) << 32 | (height as u64) << 56;
    words[SHAPE].store(shape, Ordering::Relaxed);
    words[DELIVERIES].store(0, Ordering::Relaxed);
    for (word, handle) in words[LINKS + height..].iter().zip(handles) {
        word.store(*handle, Ordering::Relaxed);
    }
    Ok(Node { words, offset, height, handles: handles.len(), length })
}

/// Bits that look random, of any number (splitmix64's last step).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

impl<'a> Node<'a> {
    /// The item at `offset`.
    ///
    /// # Errors
    /// `Corrupted` if there can be none.
    pub fn at(segment: &'a Segment, offset: u64) -> Result<Node<'a>> {
        let shape = segment.word(offset)?.load(Ordering::Relaxed);
        let (length, handles, height) =
            (shape as u32 as usize, (shape >> 32) as usize & 0xff_ffff, (shape >> 56) as usize);
        if height == 0 || height > LEVELS {
            return Err(Error::corrupted("the height of a queued item"));
        }
        let words = segment.words(offset, LINKS + height + handles + length.div_ceil(8))?;
        Ok(Node { words, offset, height, handles, length })
    }

    /// Where it stands.
    pub fn key(&self) -> Key {
        (self.words[PRIORITY].load(Ordering::Relaxed), self.words[SEQUENCE].load(Ordering::Relaxed))
    }

    pub fn set_key(&self, (priority, sequence): Key) {
        self.words[PRIORITY].store(priority, Ordering::Relaxed);
        self.words[SEQUENCE].store(sequence, Ordering::Relaxed);
    }

    /// How often it was handed out and given back.
    pub fn deliveries(&self) -> u64 {
        self.words[DELIVERIES].load(Ordering::Relaxed)
    }

    pub fn set_deliveries(&self, deliveries: u64) {
        self.words[DELIVERIES].store(deliveries, Ordering::Relaxed);
    }

    /// Who has it on lease, and whether as a loan.
    pub fn lessee(&self) -> (u64, bool) {
        let word = self.words[LESSEE].load(Ordering::Relaxed);
        (word & !LOAN, word & LOAN != 0)
    }

    pub fn set_lessee(&self, lessee: u64, loan: bool) {
        self.words[LESSEE].store(lessee | if loan { LOAN } else { 0 }, Ordering::Relaxed);
    }

    /// The link of level `level`.
    ///
    /// # Errors
    /// `Corrupted` if it has none.
    #[inline]
    pub fn link(&self, level: usize) -> Result<&'a Word> {
        match level < self.height {
            true => Ok(&self.words[LINKS + level]),
            false => Err(Error::corrupted("an item in a level above its height")),
        }
    }

    /// Offset of the link of a level.
    pub fn link_offset(&self, level: usize) -> u64 {
        self.offset + (LINKS + level) as u64 * WORD
    }

    /// Its handles.
    pub fn handles(&self) -> &'a [Word] {
        &self.words[LINKS + self.height..][..self.handles]
    }

    /// Words of its bytes.
    pub fn payload(&self) -> &'a [Word] {
        &self.words[LINKS + self.height + self.handles..]
    }

    /// Fills it.
    pub fn fill(&self, bytes: &[u8]) {
        store_bytes(self.payload(), bytes);
    }

    /// Appends its bytes to `out`.
    pub fn load(&self, out: &mut Vec<u8>) {
        load_bytes(self.payload(), self.length, out);
    }
}
