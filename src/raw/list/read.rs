//! Reading without a lock.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::{List, out_of_range};
use crate::error::Result;
use crate::mem::{Me, Segment, Step, Word};
use crate::raw::slot::{self, Changed, Look};
use crate::raw::table::{Expect, equal_bytes, word_of, words_for};
use crate::raw::{cell, latch};

/// Elements between two looks whether the copying still makes sense.
const STRIDE: usize = 64;

/// Elements as they were at one moment.
#[derive(Default)]
pub struct Snapshot {
    words: Vec<u64>,
    /// Of each element, where it ends in `words`, and its length in bytes.
    ends: Vec<(usize, usize)>,
    sequence: u32,
}

impl Snapshot {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of one; a whole word, in a list without blocks.
    pub fn get(&self, i: usize) -> &[u8] {
        let start = i.checked_sub(1).map_or(0, |i| self.ends[i].0);
        &zerocopy::IntoBytes::as_bytes(&self.words[start..self.ends[i].0])[..self.ends[i].1]
    }

    /// The sequence number of that moment.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }
}

impl List {
    /// Number of elements.
    pub fn len(&self, segment: &Segment) -> Result<u64> {
        slot::read(segment, self.root, |_| Ok(self.spine(segment)?.map_or(0, |spine| spine.head.len)))
    }

    /// The word of the element at `index`, in a list without blocks.
    ///
    /// # Errors
    /// `OutOfRange`.
    #[inline]
    pub fn get_word(&self, segment: &Segment, index: u64) -> Result<u64> {
        slot::read(segment, self.root, |_| Ok(self.slot(segment, index)?.load(Ordering::Acquire)))
    }

    /// Copies the element at `index` to `out`; its length in bytes.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub fn get_block(&self, segment: &Segment, index: u64, out: &mut Vec<u64>) -> Result<usize> {
        slot::read(segment, self.root, |look| {
            out.clear();
            look.copy_block(segment, self.slot(segment, index)?.load(Ordering::Acquire), out)
        })
    }

    #[inline]
    fn slot<'a>(&self, segment: &'a Segment, index: u64) -> Result<&'a Word> {
        let slots = self.spine(segment)?.map_or(&[][..], |spine| spine.slots());
        slots.get(index as usize).ok_or_else(|| out_of_range(index, slots.len() as u64))
    }

    /// The elements in the range that `range` makes of the length, as they are at one moment.
    ///
    /// # Blocking
    /// Takes no lock, unless writers are quicker again and again: then it holds them off while it copies.
    ///
    /// # Errors
    /// Those of `range`.
    pub fn snapshot(&self, segment: &Segment, range: impl Fn(u64) -> Result<Range<u64>>) -> Result<Snapshot> {
        let mut copy = Snapshot::default();
        // Blocks do not overlap, so more than there is in the segment is a lie.
        let most = (segment.committed() / 8) as usize;
        slot::read_at_rest(segment, self.root, |look| {
            copy.words.clear();
            copy.ends.clear();
            copy.sequence = look.sequence();
            let slots = self.spine(segment)?.map_or(&[][..], |spine| spine.slots());
            let range = range(slots.len() as u64)?;
            for (i, slot) in slots[range.start as usize..range.end as usize].iter().enumerate() {
                if i % STRIDE == 0 && !look.holds() {
                    return Err(slot::changed());
                }
                let word = slot.load(Ordering::Acquire);
                let len = match self.boxed {
                    true => look.copy_block(segment, word, &mut copy.words)?,
                    false => {
                        copy.words.push(word);
                        8
                    }
                };
                if copy.words.len() > most {
                    return Err(slot::changed());
                }
                copy.ends.push((copy.words.len(), len));
            }
            Ok(())
        })?;
        Ok(copy)
    }

    /// The index of the first element from `from` on with these bytes.
    ///
    /// # Complexity
    /// Linear.
    pub fn position(&self, segment: &Segment, bytes: &[u8], from: u64) -> Result<Option<u64>> {
        slot::read_at_rest(segment, self.root, |_| {
            let slots = self.spine(segment)?.map_or(&[][..], |spine| spine.slots());
            let rest = slots.get(from as usize..).unwrap_or(&[]);
            Ok(self.position_in(segment, rest, bytes)?.map(|at| from + at as u64))
        })
    }

    /// How many elements have these bytes.
    ///
    /// # Complexity
    /// Linear.
    pub fn count(&self, segment: &Segment, bytes: &[u8]) -> Result<u64> {
        slot::read_at_rest(segment, self.root, |_| {
            let slots = self.spine(segment)?.map_or(&[][..], |spine| spine.slots());
            slots.iter().try_fold(0, |count, slot| Ok(count + u64::from(self.is(segment, slot, bytes)?)))
        })
    }

    pub(super) fn position_in(&self, segment: &Segment, slots: &[Word], bytes: &[u8]) -> Result<Option<usize>> {
        for (i, slot) in slots.iter().enumerate() {
            if self.is(segment, slot, bytes)? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    /// Whether the element in a slot has these bytes.
    #[inline]
    fn is(&self, segment: &Segment, slot: &Word, bytes: &[u8]) -> Result<bool> {
        let word = slot.load(Ordering::Acquire);
        if !self.boxed {
            return Ok(word == word_of(bytes, 0));
        }
        let (_, words, length) = cell::parts(segment, word)?;
        Ok(length == bytes.len() && equal_bytes(&words[..words_for(length)], bytes))
    }

    /// Replaces the element at `index` if it is what is expected.
    ///
    /// # Crash
    /// All or nothing; see `slot::put`.
    ///
    /// # Errors
    /// `OutOfRange`, `OutOfMemory`, `TooLarge`; nothing has changed then.
    pub fn set(&self, me: &Me<'_>, index: u64, bytes: &[u8], handles: &[u64], expect: Expect<'_>) -> Step<Changed> {
        if self.boxed {
            let find = |segment: &Segment| {
                let Some(spine) = self.spine(segment)? else { return Err(out_of_range(index, 0)) };
                if index >= spine.head.len {
                    return Err(out_of_range(index, spine.head.len));
                }
                Ok(spine.off + (super::spine::SLOTS as u64 + spine.head.start + index) * 8)
            };
            return slot::put(me, self.root, find, (bytes, handles), expect);
        }
        let latch = me.segment.word(self.root)?;
        slot::announce(me, self.root);
        latch::acquire(me, latch)?;
        let slot = self.slot(me.segment, index)?;
        let done = match expect {
            Expect::Value(bytes) => slot.load(Ordering::Relaxed) == word_of(bytes, 0),
            Expect::Any | Expect::Absent => true,
        };
        if done {
            slot.store(word_of(bytes, 0), Ordering::Release); // LINEARIZES: set
        }
        latch::release(latch);
        me.intent.set(crate::mem::Field::Op, 0);
        Ok(Changed { done, dropped_handles: false })
    }

    /// Appends the handles in the elements from `from` on, `count` of them at most, to `out`. Under which arrangement it
    /// found them, and whether there are more.
    pub(super) fn handles_from(
        &self,
        segment: &Segment,
        look: &Look<'_>,
        from: usize,
        count: usize,
        out: &mut Vec<u64>,
    ) -> Result<(Arrangement, bool)> {
        let moves = self.root(segment)?[super::root::MOVES].load(Ordering::Acquire);
        let Some(spine) = self.spine(segment)? else { return Ok(((moves, 0, 0), false)) };
        let rest = spine.slots().get(from..).unwrap_or(&[]);
        for slot in rest.iter().take(count) {
            look.copy_handles(segment, slot.load(Ordering::Acquire), out)?;
        }
        Ok(((moves, spine.off, spine.head.start), rest.len() > count))
    }
}

/// What is another as soon as elements have got other indices: the commit itself changes the spine or where it starts, and
/// before a spine can come again the number of moves has risen.
pub(super) type Arrangement = (u64, u64, u64);
