//! Lease cells: one word for each item on lease, in chunks of 64, 64, 128, 256, ... cells.
//!
//! A cell is zero or the block of an item. A chunk, once there, stays as long as the agenda.

use std::sync::atomic::Ordering;

use super::{Agenda, CHUNKS, root};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, OpKind, Segment, Step, WORD, Word};
use crate::raw::latch;

/// Cells of the first chunk.
const FIRST: u64 = 64;

/// Number of the first cell of chunk `index`, and cells in it.
fn extent(index: usize) -> (u64, u64) {
    match index {
        0 => (0, FIRST),
        _ => (FIRST << (index - 1), FIRST << (index - 1)),
    }
}

/// Chunk of cell `number`, and where it is in there.
fn locate(number: u64) -> (usize, u64) {
    let index = (number / FIRST).checked_ilog2().map_or(0, |log| log as usize + 1);
    (index, number - extent(index).0)
}

impl Agenda {
    /// How many chunks there are.
    fn chunks(words: &[Word]) -> usize {
        words[root::CHUNKS..][..CHUNKS].iter().take_while(|word| word.load(Ordering::Acquire) != 0).count()
    }

    /// How many cells there are.
    pub(super) fn cells(words: &[Word]) -> u64 {
        match Agenda::chunks(words) {
            0 => 0,
            chunks => extent(chunks).0,
        }
    }

    /// Offset of a cell.
    ///
    /// # Errors
    /// `Corrupted` if there is none of that number.
    pub(super) fn cell_offset(words: &[Word], number: u64) -> Result<u64> {
        let (chunk, place) = locate(number);
        match words[root::CHUNKS..][..CHUNKS].get(chunk).map(|word| word.load(Ordering::Acquire)) {
            None | Some(0) => Err(Error::corrupted("the number of a lease")),
            Some(base) => Ok(base.wrapping_add(place * WORD)),
        }
    }

    /// A free cell. `None`: there is none, so there must be more.
    ///
    /// # Complexity
    /// Constant where leases end in the order that they began in, or the opposite one; linear in cells at worst.
    pub(super) fn free_cell(segment: &Segment, words: &[Word]) -> Result<Option<u64>> {
        let cells = Agenda::cells(words);
        let hint = words[root::HINT].load(Ordering::Relaxed).min(cells);
        for number in (hint..cells).chain(0..hint) {
            if segment.word(Agenda::cell_offset(words, number)?)?.load(Ordering::Relaxed) == 0 {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Adds a chunk of cells, unless there are more than `seen` by now.
    ///
    /// # Errors
    /// `TooMany` at some 33 million leases; `OutOfMemory`.
    pub(super) fn grow(&self, me: &Me<'_>, seen: u64) -> Step<()> {
        let words = self.words(me.segment)?;
        let index = Agenda::chunks(words);
        if index == CHUNKS {
            return Err(Error::new(ErrorKind::TooMany, "leases of a queue").into());
        }
        let count = extent(index).1;
        let chunk = me.alloc(count * WORD, Field::Alloc)?;
        for word in me.segment.words(chunk, count as usize)? {
            word.store(0, Ordering::Relaxed);
        }
        let words = self.begin(me, OpKind::AgendaGrow)?;
        if Agenda::chunks(words) == index && Agenda::cells(words) == seen {
            words[root::CHUNKS + index].store(chunk, Ordering::Release);
        } else {
            me.release(chunk)?; // somebody else's chunk is there
        }
        me.intent.set(Field::Alloc, 0);
        latch::release(&words[root::LATCH]);
        me.intent.set(Field::Op, 0);
        Ok(())
    }

    /// Every cell in use, with its offset and what it holds.
    pub(super) fn each_cell(
        segment: &Segment,
        words: &[Word],
        f: &mut dyn FnMut(u64, &Word, u64) -> Result<()>,
    ) -> Result<()> {
        for (index, chunk) in words[root::CHUNKS..][..CHUNKS].iter().enumerate() {
            let (first, count) = extent(index);
            match chunk.load(Ordering::Acquire) {
                0 => {}
                base => {
                    for (number, cell) in (first..).zip(segment.words(base, count as usize)?) {
                        match cell.load(Ordering::Acquire) {
                            0 => {}
                            block => f(number, cell, block)?,
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Proves that the chunks partition the numbers of cells.
    use super::*;

    #[test]
    fn chunks_partition_numbers() {
        let mut number = 0;
        for index in 0..8 {
            let (first, count) = extent(index);
            assert_eq!(first, number);
            for place in 0..count {
                assert_eq!(locate(number), (index, place));
                number += 1;
            }
        }
    }
}
