//! Elements on their way into a list.

use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::mem::{Field, Me, Word};
use crate::raw::cell;
use crate::raw::table::word_of;

/// Encoded elements, one behind the other.
#[derive(Default)]
pub struct Items {
    bytes: Vec<u8>,
    handles: Vec<u64>,
    /// Ends of each one's bytes and handles.
    ends: Vec<(usize, usize)>,
}

impl Items {
    /// Appends one.
    pub fn push(&mut self, bytes: &[u8], handles: &[u64]) {
        self.bytes.extend_from_slice(bytes);
        self.handles.extend_from_slice(handles);
        self.ends.push((self.bytes.len(), self.handles.len()));
    }

    /// Appends those from `range` once more.
    pub fn repeat(&mut self, range: std::ops::Range<usize>) {
        for i in range {
            let (bytes, handles) = self.spans(i);
            self.bytes.extend_from_within(bytes);
            self.handles.extend_from_within(handles);
            self.ends.push((self.bytes.len(), self.handles.len()));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    fn spans(&self, i: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let before = i.checked_sub(1).map_or((0, 0), |i| self.ends[i]);
        (before.0..self.ends[i].0, before.1..self.ends[i].1)
    }

    /// Bytes and handles of one.
    pub fn get(&self, i: usize) -> (&[u8], &[u64]) {
        let (bytes, handles) = self.spans(i);
        (&self.bytes[bytes], &self.handles[handles])
    }

    /// The slot word of one in a list without blocks.
    fn word(&self, i: usize) -> u64 {
        word_of(self.get(i).0, 0)
    }
}

/// The slot words of new elements.
#[derive(Clone, Copy)]
pub(super) enum New<'a> {
    /// None, or one.
    Few(&'a [u64]),
    /// Those of a list without blocks.
    Inline(&'a Items),
    /// Blocks that a stage refers to.
    Staged(&'a [Word]),
}

impl New<'_> {
    pub fn len(&self) -> u64 {
        match self {
            New::Few(words) => words.len() as u64,
            New::Inline(items) => items.len() as u64,
            New::Staged(words) => words.len() as u64,
        }
    }

    /// Stores them into the first of `slots`.
    pub fn fill(&self, slots: &[Word]) {
        for (i, slot) in slots[..self.len() as usize].iter().enumerate() {
            let word = match self {
                New::Few(words) => words[i],
                New::Inline(items) => items.word(i),
                New::Staged(words) => words[i].load(Ordering::Relaxed),
            };
            slot.store(word, Ordering::Relaxed);
        }
    }
}

/// Allocates a stage for `items`, all empty. The intent's `alloc` names it.
pub(super) fn new_stage<'a>(me: &Me<'a>, items: &Items) -> Result<&'a [Word]> {
    let stage = me.alloc(items.len() as u64 * 8, Field::Alloc)?;
    let words = me.segment.words(stage, items.len())?;
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    Ok(words)
}

/// Fills a stage that the intent's `op` tells of, block by block.
pub(super) fn fill_stage(me: &Me<'_>, stage: &[Word], items: &Items) -> Result<()> {
    for (i, word) in stage.iter().enumerate() {
        let (bytes, handles) = items.get(i);
        let block = cell::new_block(me, Field::Alloc2, bytes, handles)?;
        word.store(block, Ordering::Release);
        me.intent.set(Field::Alloc2, 0);
    }
    Ok(())
}
