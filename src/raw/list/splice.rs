//! Everything that is not at an end: a new spine, built aside and published with one store.
//!
//! | step | store | a kill after it is resolved by |
//! |---|---|---|
//! | 1 | the new elements, as in `push` 1 to 3 | freeing them |
//! | 2 | intent `alloc2` = the new spine | freeing it, too |
//! | 3 | intent `op`; the latch | the same, and releasing |
//! | 4 | the new spine's words; moves + 1; word 2 of the old spine | the same |
//! | 5 | intent `free` = the old spine | the same, and forgetting `free` |
//! | 6 | **commit**: the root's spine word | going on with 7 |
//! | 7 | a single element: `alloc` = 0; phase = done; `alloc2` = 0 | (the old spine is not the list's means published) |
//! | 8 | the release | going on with 9 |
//! | 9 | the stage's bit, `alloc` = 0 | the same |
//! | 10 | each block that went: named by `alloc2`, its slot in the old spine cleared, then freed | the same, the one that is named first |
//! | 11 | the old spine's bit; `free` = 0; `op` = 0 | freeing it again, which does nothing |

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::items::{Items, New};
use super::pop::Taken;
use super::{DONE, Head, List, SINGLE, STAGED, Spine, out_of_range, root, spine};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::layout::{PAGE, REGION_PAGES};
use crate::mem::{Field, Intent, Me, Op, OpKind, Segment, Step, Word};
use crate::raw::table::Expect;
use crate::raw::{cell, latch, recovery};

/// Least number of slots.
const LEAST: u64 = 12;
/// The slots that the largest block has room for.
const MOST: u64 = (REGION_PAGES - 1) * PAGE / 8 - spine::SLOTS as u64;

/// Spines made in vain before an operation gives up.
const MAX_ROUNDS: u32 = 64;

/// Which elements to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The element before which to insert, none of which is replaced.
    At(u64),
    /// From the first index to before the second.
    Range(u64, u64),
    /// Those from this one on.
    From(u64),
}

impl Place {
    pub fn in_list_of(self, len: u64) -> Result<Range<u64>> {
        let range = match self {
            Place::At(at) => at..at,
            Place::Range(start, end) => start..end,
            Place::From(start) => start..len,
        };
        match range {
            Range { start, end } if start <= end && end <= len => Ok(range),
            Range { start, end } => Err(out_of_range(start.max(end), len)),
        }
    }
}

impl List {
    /// Replaces the elements at `place` by `items`. Whether what went held handles.
    ///
    /// # Crash
    /// All or nothing; see the table at the top of this file.
    ///
    /// # Complexity
    /// Linear in the list and the new elements.
    ///
    /// # Errors
    /// `OutOfRange`, `OutOfMemory`, `TooLarge`; nothing has changed then.
    pub fn splice(&self, me: &Me<'_>, place: Place, items: &Items) -> Step<bool> {
        let sequence = None;
        self.splice_if(me, place, items, sequence).map(|done| done.unwrap_or(false))
    }

    /// The same, if the list is still as it was at `sequence`; `None` if not.
    pub fn splice_if(&self, me: &Me<'_>, place: Place, items: &Items, sequence: Option<u32>) -> Step<Option<bool>> {
        let plan = |now: u32, spine: Option<&Spine<'_>>| match sequence.is_none_or(|sequence| sequence == now) {
            true => place.in_list_of(spine.map_or(0, |spine| spine.head.len)).map(Some),
            false => Ok(None),
        };
        match (self.boxed, items.len()) {
            (_, 0) => self.replace_range(me, SINGLE, New::Few(&[]), plan),
            (false, _) => self.replace_range(me, SINGLE, New::Inline(items), plan),
            (true, 1) => {
                let (bytes, handles) = items.get(0);
                let block = cell::new_block(me, Field::Alloc, bytes, handles)?;
                self.replace_range(me, SINGLE, New::Few(&[block]), plan)
            }
            (true, _) => {
                let stage = self.stage(me, OpKind::ListSplice, items)?;
                self.replace_range(me, STAGED, New::Staged(stage), plan)
            }
        }
    }

    /// Takes the element at `index` if it is what is expected, and copies it to `out`.
    ///
    /// # Errors
    /// `OutOfRange`, `OutOfMemory`.
    pub fn take(&self, me: &Me<'_>, index: u64, expect: Expect<'_>, out: &mut Vec<u64>) -> Step<Taken> {
        let mut taken = Taken::Nothing;
        self.replace_range(me, SINGLE, New::Few(&[]), |_, spine| {
            let slots = spine.map_or(&[][..], |spine| spine.slots());
            let slot = slots.get(index as usize).ok_or_else(|| out_of_range(index, slots.len() as u64))?;
            taken = self.look_before_taking(me.segment, slot.load(Ordering::Acquire), expect, out)?;
            Ok(matches!(taken, Taken::Element(..)).then_some(index..index + 1))
        })?;
        Ok(taken)
    }

    /// Removes the first element with these bytes; `None` if there is none, else whether it held handles.
    pub fn remove(&self, me: &Me<'_>, bytes: &[u8]) -> Step<Option<bool>> {
        self.replace_range(me, SINGLE, New::Few(&[]), |_, spine| {
            let Some(spine) = spine else { return Ok(None) };
            let found = self.position_in(me.segment, spine.slots(), bytes)?;
            Ok(found.map(|at| at as u64..at as u64 + 1))
        })
    }

    /// Puts the elements into the order that `order` tells by their present indices, if the list is still as it was at
    /// `sequence`; whether it was.
    pub fn rearrange(&self, me: &Me<'_>, sequence: u32, order: &[u32]) -> Step<bool> {
        let plan = |now: u32, spine: Option<&Spine<'_>>| {
            let len = spine.map_or(0, |spine| spine.head.len);
            let same = now == sequence && len == order.len() as u64;
            Ok(same.then_some(Plan { len, doomed: 0..0 }))
        };
        self.rebuild(me, SINGLE, 0, plan, |old, _, to| {
            let slots = old.map_or(&[][..], |old| old.slots());
            for (slot, from) in to.iter().zip(order) {
                slot.store(slots[*from as usize].load(Ordering::Relaxed), Ordering::Relaxed);
            }
        })
        .map(|done| done.is_some())
    }

    /// Reverses the order of the elements.
    pub fn reverse(&self, me: &Me<'_>) -> Step<()> {
        let plan = |_, spine: Option<&Spine<'_>>| {
            Ok(Some(Plan { len: spine.map_or(0, |spine| spine.head.len), doomed: 0..0 }))
        };
        self.rebuild(me, SINGLE, 0, plan, |old, _, to| {
            let slots = old.map_or(&[][..], |old| old.slots());
            for (slot, from) in to.iter().zip(slots.iter().rev()) {
                slot.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        })
        .map(drop)
    }

    /// Removes every element. Whether one held handles.
    ///
    /// # Complexity
    /// One store, then linear in the elements to free, without the latch.
    pub fn clear(&self, me: &Me<'_>) -> Step<bool> {
        self.announce(me, OpKind::ListSplice, SINGLE, 0);
        let latch = me.segment.word(self.root)?;
        latch::acquire(me, latch)?;
        let old = self.spine(me.segment)?;
        let Some(old) = old else {
            latch::release(latch);
            me.intent.set(Field::Op, 0);
            return Ok(false);
        };
        self.commit(me, SINGLE, Some(&old), 0, 0..old.head.len)
    }

    /// Replaces the range that `plan` gives, under the latch, by `new`.
    pub(super) fn replace_range(
        &self,
        me: &Me<'_>,
        phase: u8,
        new: New<'_>,
        mut plan: impl FnMut(u32, Option<&Spine<'_>>) -> Result<Option<Range<u64>>>,
    ) -> Step<Option<bool>> {
        let plan = |sequence, spine: Option<&Spine<'_>>| {
            let Some(range) = plan(sequence, spine)? else { return Ok(None) };
            let len = spine.map_or(0, |spine| spine.head.len);
            Ok(Some(Plan { len: len - (range.end - range.start) + new.len(), doomed: range }))
        };
        self.rebuild(me, phase, new.len(), plan, |old, plan, to| {
            let slots = old.map_or(&[][..], |old| old.slots());
            let (before, rest) = slots.split_at(plan.doomed.start as usize);
            let after = &rest[(plan.doomed.end - plan.doomed.start) as usize..];
            let (front, back) = to.split_at(before.len());
            copy(before, front);
            new.fill(back);
            copy(after, &back[new.len() as usize..]);
        })
    }

    /// Replaces the spine by one that `fill` fills, after what `plan` says under the latch. `None`, with nothing done, if
    /// it says nothing; else whether elements that went held handles.
    fn rebuild(
        &self,
        me: &Me<'_>,
        phase: u8,
        extra: u64,
        mut plan: impl FnMut(u32, Option<&Spine<'_>>) -> Result<Option<Plan>>,
        fill: impl Fn(Option<&Spine<'_>>, &Plan, &[Word]),
    ) -> Step<Option<bool>> {
        let latch = me.segment.word(self.root)?;
        let mut len = self.len(me.segment).unwrap_or(0) + extra;
        // Each further round means that others made the list half as long again.
        for _ in 0..MAX_ROUNDS {
            let room = (len + len / 2).max(LEAST).min(len.max(MOST));
            let block = me.alloc((spine::SLOTS as u64 + room) * 8, Field::Alloc2)?;
            let slots = (me.segment.block_size(block)? / 8).checked_sub(spine::SLOTS as u64);
            let capacity = slots.ok_or_else(|| Error::corrupted("the block of a spine"))?.min(u64::from(u32::MAX));
            if Op::unpack(me.intent.get(Field::Op)).flatten().is_none_or(|op| op.kind != OpKind::ListSplice) {
                self.announce(me, OpKind::ListSplice, phase, extra);
            }
            latch::acquire(me, latch)?;
            let old = self.spine(me.segment)?;
            let Some(plan) = plan(latch::sequence_of(latch.load(Ordering::Relaxed)), old.as_ref())? else {
                // Nothing is to be done: as if this thread had died here.
                recovery::resolve(me.segment, me.slot().index, &me.intent)?;
                return Ok(None);
            };
            if plan.len > capacity {
                latch::release(latch);
                me.release(block)?;
                me.intent.set(Field::Alloc2, 0);
                len = plan.len;
                continue;
            }
            let words = me.segment.words(block, spine::SLOTS + plan.len as usize)?;
            words[spine::HEAD].store(Head { start: 0, len: plan.len }.pack(), Ordering::Relaxed);
            words[spine::CAPACITY].store(capacity, Ordering::Relaxed);
            words[spine::DOOMED].store(0, Ordering::Relaxed);
            fill(old.as_ref(), &plan, &words[spine::SLOTS..]);
            return self.commit(me, phase, old.as_ref(), block, plan.doomed).map(Some);
        }
        Err(Error::new(ErrorKind::Contended, "a list that grows all the time").into())
    }

    /// Publishes the spine at `block` (0: none) in place of `old`, and frees the elements `doomed` of that.
    fn commit(&self, me: &Me<'_>, phase: u8, old: Option<&Spine<'_>>, block: u64, doomed: Range<u64>) -> Step<bool> {
        self.count_move(me.segment)?;
        if let Some(old) = old {
            let start = old.head.start;
            old.words[spine::DOOMED].store((start + doomed.start) << 32 | (start + doomed.end), Ordering::Relaxed);
            me.intent.set(Field::Free, old.off);
        }
        let words = self.root(me.segment)?;
        words[root::SPINE].store(block, Ordering::Release); // LINEARIZES: insert, remove, sort and the like
        if phase == SINGLE {
            me.intent.set(Field::Alloc, 0);
        }
        me.intent.set(Field::Op, Op { kind: OpKind::ListSplice, phase: DONE, argument: 0 }.pack());
        me.intent.set(Field::Alloc2, 0);
        latch::release(me.segment.word(self.root)?);
        let dropped_handles = self.sweep(me.segment, &me.intent, &|block| me.release(block))?;
        me.intent.set(Field::Op, 0);
        Ok(dropped_handles)
    }

    /// Frees the stage, and the replaced spine with the elements that go with it. Whether one held handles.
    ///
    /// Each block is named, its slot cleared, and then freed; so this can be begun again from any point.
    pub(super) fn sweep(
        &self,
        segment: &Segment,
        intent: &Intent<'_>,
        free: &dyn Fn(u64) -> Result<()>,
    ) -> Result<bool> {
        let stage = intent.get(Field::Alloc);
        if stage != 0 {
            free(stage)?;
            intent.set(Field::Alloc, 0);
        }
        let old = intent.get(Field::Free);
        if old == 0 {
            return Ok(false);
        }
        let mut dropped_handles = false;
        if self.boxed {
            let slots = doomed(segment, old)?;
            let half_freed = intent.get(Field::Alloc2);
            if half_freed != 0 {
                free_element(
                    intent,
                    slots.iter().find(|slot| slot.load(Ordering::Acquire) == half_freed),
                    half_freed,
                    free,
                )?;
            }
            for slot in slots {
                match slot.load(Ordering::Acquire) {
                    0 => {}
                    block => {
                        dropped_handles |= cell::parts(segment, block).is_ok_and(|(handles, ..)| !handles.is_empty());
                        intent.set(Field::Alloc2, block);
                        free_element(intent, Some(slot), block, free)?;
                    }
                }
            }
        }
        free(old)?;
        intent.set(Field::Free, 0);
        Ok(dropped_handles)
    }
}

/// Frees a block that `alloc2` names; `slot` refers to it unless it was cleared before.
fn free_element(intent: &Intent<'_>, slot: Option<&Word>, block: u64, free: &dyn Fn(u64) -> Result<()>) -> Result<()> {
    if let Some(slot) = slot {
        slot.store(0, Ordering::Release);
    }
    free(block)?;
    intent.set(Field::Alloc2, 0);
    Ok(())
}

/// The slots of a replaced spine whose blocks go with it.
fn doomed(segment: &Segment, spine: u64) -> Result<&[Word]> {
    let spine = Spine::at(segment, spine)?;
    let word = spine.words[spine::DOOMED].load(Ordering::Acquire);
    let (first, end) = ((word >> 32) as usize, word as u32 as usize);
    spine.words[spine::SLOTS..].get(first..end).ok_or_else(|| Error::corrupted("the end of a replaced spine"))
}

fn copy(from: &[Word], to: &[Word]) {
    for (from, to) in from.iter().zip(to) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// What a new spine is to be.
struct Plan {
    /// Its length.
    len: u64,
    /// The elements of the old one that go.
    doomed: Range<u64>,
}
