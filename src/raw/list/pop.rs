//! Taking an element off an end, in place.
//!
//! | step | store | a kill after it is resolved by |
//! |---|---|---|
//! | 1 | intent `op`; the latch | releasing it |
//! | 2 | at the front: moves + 1 | the same |
//! | 3 | intent `cell` = the new head, `free` = the block | the same, and forgetting `free` |
//! | 4 | **commit**: the spine's head | releasing, freeing the block |
//! | 5 | the release; the block's bit; `free` = 0; `op` = 0 | freeing it again, which does nothing |

use std::sync::atomic::Ordering;

use super::{Head, List, SINGLE, root, spine};
use crate::error::Result;
use crate::mem::{Field, Me, OpKind, Segment, Step, Word, load_words};
use crate::raw::table::{Expect, equal_bytes, words_for};
use crate::raw::{cell, latch};

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Index 0.
    Front,
    /// The highest index.
    Back,
}

/// What taking an element found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The element, copied out; it has so many bytes. Whether it held handles.
    Element(usize, bool),
    /// It holds handles, and the caller did not say what it expects: it may go only after somebody holds what they name.
    Bears,
    /// It is not what was expected.
    Unequal,
    /// There is none.
    Nothing,
}

impl List {
    /// Takes the element at an end if it is what is expected, and copies it to `out`.
    ///
    /// # Crash
    /// All or nothing; see the table at the top of this file.
    ///
    /// # Errors
    /// `Corrupted`.
    pub fn pop(&self, me: &Me<'_>, end: End, expect: Expect<'_>, out: &mut Vec<u64>) -> Step<Taken> {
        self.announce(me, OpKind::ListPop, SINGLE, 0);
        let latch = me.segment.word(self.root)?;
        latch::acquire(me, latch)?;
        let mut taken = Taken::Nothing;
        if let Some(spine) = self.spine(me.segment)?
            && let Some(slot) = at_end(spine.slots(), end)
        {
            let block = slot.load(Ordering::Acquire);
            taken = self.look_before_taking(me.segment, block, expect, out)?;
            if matches!(taken, Taken::Element(..)) {
                let Head { start, len } = spine.head;
                let head = match end {
                    End::Back => Head { start, len: len - 1 },
                    End::Front => Head { start: start + 1, len: len - 1 },
                };
                if end == End::Front {
                    self.count_move(me.segment)?;
                }
                if self.boxed {
                    me.intent.set(Field::Cell, head.pack());
                    me.intent.set(Field::Free, block);
                }
                spine.words[spine::HEAD].store(head.pack(), Ordering::Release); // LINEARIZES: pop
            }
        }
        latch::release(latch);
        if self.boxed {
            let block = me.intent.get(Field::Free);
            if block != 0 {
                me.release(block)?;
                me.intent.set(Field::Free, 0);
            }
        }
        me.intent.set(Field::Op, 0);
        Ok(taken)
    }

    /// Under the latch: whether the element may be taken, and its copy in `out`.
    pub(super) fn look_before_taking(
        &self,
        segment: &Segment,
        word: u64,
        expect: Expect<'_>,
        out: &mut Vec<u64>,
    ) -> Result<Taken> {
        out.clear();
        if !self.boxed {
            out.push(word);
            return Ok(Taken::Element(8, false));
        }
        let (handles, words, length) = cell::parts(segment, word)?;
        match expect {
            Expect::Value(bytes) if length != bytes.len() || !equal_bytes(&words[..words_for(length)], bytes) => {
                Ok(Taken::Unequal)
            }
            Expect::Any | Expect::Absent if !handles.is_empty() => Ok(Taken::Bears),
            _ => {
                load_words(words, out);
                Ok(Taken::Element(length, !handles.is_empty()))
            }
        }
    }

    /// Tells those who walk over the list bit by bit that elements get other indices. Under the latch.
    pub(super) fn count_move(&self, segment: &Segment) -> Result<()> {
        let moves = &self.root(segment)?[root::MOVES];
        moves.store(moves.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        Ok(())
    }
}

fn at_end(slots: &[Word], end: End) -> Option<&Word> {
    match end {
        End::Front => slots.first(),
        End::Back => slots.last(),
    }
}
