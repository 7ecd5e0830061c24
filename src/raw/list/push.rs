//! Appending, in place.
//!
//! | step | store | a kill after it is resolved by |
//! |---|---|---|
//! | 1 | intent `alloc` = the element's block, or a stage, all zero | freeing it |
//! | 2 | intent `op` | the same |
//! | 3 | stage: each block, named by `alloc2` until the stage refers to it | freeing what the stage refers to, and the stage |
//! | 4 | the latch; the slots behind those in use | the same, and releasing |
//! | 5 | intent `cell` = the new head | the same |
//! | 6 | **commit**: the spine's head | going on with 7 |
//! | 7 | `alloc` = 0, or phase = done | (the new head is there means published) |
//! | 8 | the release; the stage's bit; `alloc` = 0; `op` = 0 | freeing the stage |

use std::sync::atomic::Ordering;

use super::items::{Items, New, fill_stage, new_stage};
use super::{DONE, Head, List, SINGLE, STAGED, Spine, spine};
use crate::error::Result;
use crate::mem::{Field, Me, Op, OpKind, Step, Word};
use crate::raw::table::word_of;
use crate::raw::{cell, latch};

impl List {
    /// Appends an element.
    ///
    /// # Complexity
    /// Constant but when the spine is full: then linear, and the spine doubles.
    ///
    /// # Errors
    /// `OutOfMemory`, `TooLarge`; nothing has changed then.
    #[inline]
    pub fn push(&self, me: &Me<'_>, bytes: &[u8], handles: &[u64]) -> Step<()> {
        let word = match self.boxed {
            true => cell::new_block(me, Field::Alloc, bytes, handles)?,
            false => word_of(bytes, 0),
        };
        self.announce(me, OpKind::ListPush, SINGLE, 0);
        let latch = me.segment.word(self.root)?;
        latch::acquire(me, latch)?;
        match self.spine(me.segment)? {
            Some(spine) if !spine.room().is_empty() => {
                self.append(me, &spine, New::Few(&[word]));
                if self.boxed {
                    me.intent.set(Field::Alloc, 0);
                }
                latch::release(latch);
                me.intent.set(Field::Op, 0);
                Ok(())
            }
            _ => {
                // Allocating may grow the segment, which nobody may do under a latch.
                latch::release(latch);
                self.append_to_new_spine(me, SINGLE, New::Few(&[word]))
            }
        }
    }

    /// Appends all of `items`, as one step.
    ///
    /// # Errors
    /// As [`push`](List::push).
    pub fn extend(&self, me: &Me<'_>, items: &Items) -> Step<()> {
        if !self.boxed {
            self.announce(me, OpKind::ListPush, SINGLE, 0);
            return self.append_all(me, SINGLE, New::Inline(items));
        }
        let stage = self.stage(me, OpKind::ListPush, items)?;
        self.append_all(me, STAGED, New::Staged(stage))
    }

    /// Stages `items` for the operation `kind`.
    pub(super) fn stage<'a>(&self, me: &Me<'a>, kind: OpKind, items: &Items) -> Result<&'a [Word]> {
        let stage = new_stage(me, items)?;
        self.announce(me, kind, STAGED, items.len() as u64);
        fill_stage(me, stage, items)?;
        Ok(stage)
    }

    fn append_all(&self, me: &Me<'_>, phase: u8, new: New<'_>) -> Step<()> {
        let latch = me.segment.word(self.root)?;
        latch::acquire(me, latch)?;
        match self.spine(me.segment)? {
            Some(spine) if spine.room().len() as u64 >= new.len() => {
                self.append(me, &spine, new);
                if phase == STAGED {
                    me.intent.set(Field::Op, Op { kind: OpKind::ListPush, phase: DONE, argument: 0 }.pack());
                }
                latch::release(latch);
                if phase == STAGED {
                    me.release(me.intent.get(Field::Alloc))?;
                    me.intent.set(Field::Alloc, 0);
                }
                me.intent.set(Field::Op, 0);
                Ok(())
            }
            _ => {
                latch::release(latch);
                self.append_to_new_spine(me, phase, new)
            }
        }
    }

    /// Under the latch, with room.
    #[inline]
    fn append(&self, me: &Me<'_>, spine: &Spine<'_>, new: New<'_>) {
        new.fill(spine.room());
        let head = Head { len: spine.head.len + new.len(), ..spine.head }.pack();
        if self.boxed {
            me.intent.set(Field::Cell, head);
        }
        spine.words[spine::HEAD].store(head, Ordering::Release); // LINEARIZES: push, extend
    }

    #[cold]
    fn append_to_new_spine(&self, me: &Me<'_>, phase: u8, new: New<'_>) -> Step<()> {
        self.replace_range(me, phase, new, |_, spine| {
            let len = spine.map_or(0, |spine| spine.head.len);
            Ok(Some(len..len))
        })
        .map(drop)
    }
}
