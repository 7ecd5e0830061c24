//! Popping: claim the head's item, copy, free the slot.
//!
//! # Algorithm
//!
//! Items that recovery has given back come first. Then, from the head hint, walk past decided positions to the first
//! FULL slot of its lap; claim it by a CAS on the slot word; copy the bytes out; free the slot by a plain Release
//! store; free the item's block; wake a producer if the claim saw that one waits.
//!
//! # Thread safety and invariants
//!
//! 1. Multi-consumer. At a slot that a producer is writing it waits for a moment: items behind it may be queued already,
//!    and "empty" would be a lie. A producer that was stopped there holds them up until it goes on or dies.
//! 2. `returned` is read before the head. It is raised after the item is RETURNED and put to 0 only by who has seen
//!    that value and then no such item.
//! 3. A consumer that finds nothing and `next` set seals the slot before it believes that nothing will come: a push
//!    that was under way might still claim it.
//! 4. A consumer leaves a part, or says Closed, only when no item of it is RETURNED, or may come to be.
//!
//! # Crash
//!
//! Before the slot is free the item is given back, a little out of order; after it, it has been delivered. The block
//! stands in the intent's `Free` before the slot is free, so recovery frees it, once.

use std::sync::atomic::Ordering;

use super::part::{CLOSED, Part};
use super::payload::Boxed;
use super::place::{Find, find_at};
use super::slot::{BOXED, Claim, Seen, Slot, State};
use super::{Pop, Ring, wake};
use crate::error::{Error, ErrorKind};
use crate::mem::{Field, Me, Op, OpKind, Step, Stop, load_bytes};

/// The operation.
pub(super) const POP: u64 = Op::new(OpKind::RingPop).pack();

/// What became of the attempt to get an item.
enum Claimed<'a> {
    /// READING, and mine.
    Slot { slot: Slot<'a>, part: Part<'a>, index: u32, seen: Seen, wake: bool },
    /// There is none.
    None(Pop),
}

impl Ring {
    /// Takes the first item; `out` holds its bytes then, and nothing otherwise. `keep` is called with each of its
    /// handles while the item is still in the ring, so that what they name is held without a gap; it runs no
    /// operation.
    ///
    /// # Crash
    /// Until its last step but the wake-up the item is not lost: recovery gives it back. A consumer that dies between
    /// that step and the return takes the item along.
    ///
    /// # Blocking
    /// Never waits for an item, but for a tenth of a second at most for one that is being written. If its producer has been
    /// stopped, there is nothing yet.
    ///
    /// # Complexity
    /// Constant; linear in the capacity after a death among the consumers, and once when a ring ends.
    ///
    /// # Errors
    /// `Stop::Dead` if a dead process is in the way: nothing was taken. `Corrupted`. What `keep` fails with; then the intent still names the item, and resolving it
    /// gives it back.
    #[inline(never)]
    pub fn pop(&self, me: &Me<'_>, out: &mut Vec<u8>, keep: &mut dyn FnMut(u64) -> Step<()>) -> Step<Pop> {
        out.clear();
        let (slot, part, index, seen, wake) = match self.claim_item(me)? {
            Claimed::Slot { slot, part, index, seen, wake } => (slot, part, index, seen, wake),
            Claimed::None(why) => return Ok(why),
        };
        let handles = if seen.length() == BOXED {
            let block = part.payload(index)[0].load(Ordering::Relaxed);
            self.take_boxed(me, slot, seen, block, out, keep)?
        } else {
            load_bytes(part.payload(index), seen.length() as usize, out);
            // LINEARIZES: the pop. Release: the next producer of the slot writes after our loads.
            slot.free(seen.lap());
            false
        };
        self.end_pop(me, slot, wake, handles)
    }

    #[inline(always)]
    fn end_pop(&self, me: &Me<'_>, slot: Slot<'_>, wake: bool, handles: bool) -> Step<Pop> {
        if wake {
            return self.wake_and_end_pop(me, slot, handles);
        }
        me.intent.set(Field::Op, 0);
        Ok(Pop::Item { handles })
    }

    /// The wake-up before the end: a thread that dies between leaves its intent, and recovery wakes all.
    #[cold]
    #[inline(never)]
    pub(super) fn wake_and_end_pop(&self, me: &Me<'_>, slot: Slot<'_>, handles: bool) -> Step<Pop> {
        wake::wake_producer(&self.shape, me.segment, slot)?;
        me.intent.set(Field::Op, 0);
        Ok(Pop::Item { handles })
    }

    /// Copies an item out of its block, frees the slot, then the block; whether there were handles.
    fn take_boxed(
        &self,
        me: &Me<'_>,
        slot: Slot<'_>,
        seen: Seen,
        block: u64,
        out: &mut Vec<u8>,
        keep: &mut dyn FnMut(u64) -> Step<()>,
    ) -> Step<bool> {
        let boxed = Boxed::read(me.segment, block)?;
        boxed.load(out);
        for handle in boxed.handles {
            keep(handle.load(Ordering::Relaxed))?;
        }
        me.intent.set(Field::Free, block);
        // LINEARIZES: the pop. Release: as in `pop`; and with it the intent names the block that is now ours.
        slot.free(seen.lap());
        me.release(block)?;
        me.intent.set(Field::Free, 0);
        Ok(!boxed.handles.is_empty())
    }

    fn try_take<'a>(
        &self,
        me: &Me<'a>,
        part: &Part<'a>,
        index: u32,
        slot: Slot<'a>,
        seen: Seen,
    ) -> Option<Claimed<'a>> {
        self.announce(me, part.cell(index), POP);
        match slot.claim_to_read(seen, me.owner()) {
            Claim::Mine { wake } => Some(Claimed::Slot { slot, part: *part, index, seen, wake }),
            Claim::Lost => None,
        }
    }

    /// Claims the head's item. Without one, `Op` is clear.
    fn claim_item<'a>(&self, me: &Me<'a>) -> Step<Claimed<'a>> {
        let mut claimed = Ok(None);
        while let Ok(None) = claimed {
            claimed = self.pop_part(me.segment).map_err(Stop::from).and_then(|part| self.walk_to_item(me, &part));
        }
        if !matches!(claimed, Ok(Some(Claimed::Slot { .. })) | Err(Stop::Error(_))) {
            me.intent.set(Field::Op, 0);
        }
        Ok(claimed?.expect("the loop ends with something"))
    }

    /// `None`: the part is exhausted, and this handle goes on in the next one.
    fn walk_to_item<'a>(&self, me: &Me<'a>, part: &Part<'a>) -> Step<Option<Claimed<'a>>> {
        if self.is_drained() {
            return Ok(Some(Claimed::None(Pop::Closed)));
        }
        if let Some(claimed) = self.take_returned(me, part)? {
            return Ok(Some(claimed));
        }
        let hint = part.place(part.head())?;
        let mut place = hint;
        for _ in 0..part.fuel() {
            let slot = part.slot(place.index());
            let seen = slot.look();
            match find_at(place, seen, part.slots)? {
                Find::Item => {
                    if let Some(claimed) = self.try_take(me, part, place.index(), slot, seen) {
                        Part::advance(part.head(), hint, place.after(part.slots));
                        return Ok(Some(claimed));
                    }
                }
                Find::Beyond(further) => place = further,
                Find::Buried => slot.skip(seen),
                Find::Writing => {
                    if !wake::wait_until_changed(me, slot, seen)? {
                        // As if its producer had not begun.
                        return Ok(Some(Claimed::None(Pop::Empty)));
                    }
                }
                found @ (Find::Nothing | Find::Blocked) => {
                    Part::advance(part.head(), hint, place);
                    if part.next().load(Ordering::Acquire) == 0 {
                        return Ok(Some(Claimed::None(Pop::Empty)));
                    }
                    if found == Find::Nothing {
                        wake::seal_and_wake(&self.shape, me.segment, slot, seen)?;
                    } else if let Some(claimed) = self.take_last_returned(me, part)? {
                        return Ok(Some(claimed));
                    }
                }
                Find::Sealed => return self.leave_part(me, part),
            }
        }
        Err(Error::new(ErrorKind::Contended, "popping from a queue").into())
    }

    /// Takes an item that recovery has given back, if `returned` says that there may be one.
    fn take_returned<'a>(&self, me: &Me<'a>, part: &Part<'a>) -> Step<Option<Claimed<'a>>> {
        loop {
            let Some(index) = part.look_for_returned() else { return Ok(None) };
            let slot = part.slot(index);
            let seen = slot.look();
            if seen.state() == State::Returned
                && let Some(claimed) = self.try_take(me, part, index, slot, seen)
            {
                return Ok(Some(claimed));
            }
        }
    }

    /// Takes a returned item of a part in which nothing else will come, or makes sure that there will be none.
    fn take_last_returned<'a>(&self, me: &Me<'a>, part: &Part<'a>) -> Step<Option<Claimed<'a>>> {
        for index in 0..part.slots {
            let slot = part.slot(index);
            loop {
                let seen = slot.look();
                match seen.state() {
                    // Another consumer, which may die yet.
                    State::Reading => {
                        if !wake::wait_until_changed(me, slot, seen)? {
                            return Ok(Some(Claimed::None(Pop::Empty)));
                        }
                    }
                    State::Returned => {
                        if let Some(claimed) = self.try_take(me, part, index, slot, seen) {
                            return Ok(Some(claimed));
                        }
                    }
                    _ => break,
                }
            }
        }
        Ok(None)
    }

    fn leave_part<'a>(&self, me: &Me<'a>, part: &Part<'a>) -> Step<Option<Claimed<'a>>> {
        if let Some(claimed) = self.take_last_returned(me, part)? {
            return Ok(Some(claimed));
        }
        if part.next().load(Ordering::Acquire) == CLOSED {
            self.set_drained();
            return Ok(Some(Claimed::None(Pop::Closed)));
        }
        self.next_pop_part(me.segment, part)?;
        Ok(None)
    }
}
