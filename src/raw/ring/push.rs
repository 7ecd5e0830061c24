//! Pushing: claim the tail's slot, write, publish.
//!
//! # Algorithm
//!
//! From the tail hint, walk past claimed positions to the first EMPTY slot of its lap; claim it by a CAS on the slot
//! word; copy; publish by a plain Release store; wake a consumer if the claim saw that one waits. An item with a block
//! of its own is allocated and filled before the claim.
//!
//! # Thread safety and invariants
//!
//! 1. Multi-producer; nothing is ever waited for but room, and room only by who asks for it (`sleep`). A full ring
//!    is reported at once, after a short look at a slot that somebody is about to free.
//! 2. `next` is looked at before each claim. A producer that saw it open may still claim one slot after a close: that
//!    push was under way when the queue was closed, and consumers seal the ring themselves before they say Closed.
//! 3. The intent names the slot before the claim, and phase CLAIMED stands in it between the claim and the block's
//!    offset. Without the phase nobody could tell a block that was published and popped from one that never was.
//!
//! # Crash
//!
//! Before publication the item never existed: WRITING becomes BURIED, and consumers pass by. After it the item is
//! there. An owed wake-up is made good by recovery, which wakes everybody.

use std::sync::atomic::Ordering;

use super::part::{CLOSED, Part};
use super::payload;
use super::place::{Place, Room, room_at};
use super::slot::{BOXED, Claim, Seen, Slot, State};
use super::{Push, Ring, wake};
use crate::error::{Error, ErrorKind};
use crate::mem::{Field, Me, Op, OpKind, Step, Stop, store_bytes};

/// The operation.
pub(super) const PUSH: u64 = Op::new(OpKind::RingPush).pack();
/// Phase of a push with a block that has claimed its slot.
pub(super) const CLAIMED: u8 = 1;
const PUSH_CLAIMED: u64 = Op { kind: OpKind::RingPush, phase: CLAIMED, argument: 0 }.pack();

/// Rounds of looking at a slot that somebody is about to free, before the ring counts as full.
const LOOKS: u32 = 64;

/// What became of the attempt to get a slot.
enum Claimed<'a> {
    /// WRITING, and mine.
    Slot { slot: Slot<'a>, part: Part<'a>, place: Place, wake: bool },
    /// There is none.
    None(Push),
}

impl Ring {
    /// Appends an item: its bytes, and the handles that they contain.
    ///
    /// # Crash
    /// The item is queued entirely or not at all; once this returns it will be delivered.
    ///
    /// # Blocking
    /// Never waits for room.
    ///
    /// # Complexity
    /// Constant; a walk of at most two laps after a late store of a hint. An unbounded ring doubles when it is full.
    ///
    /// # Errors
    /// `Stop::Dead` if a dead process is in the way: nothing was queued, the intent is clear. Of the rest,
    /// `OutOfMemory` and `TooLarge` for an item that needs a block, `Corrupted`; the intent may still say what was
    /// begun.
    #[inline(never)]
    pub fn push(&self, me: &Me<'_>, bytes: &[u8], handles: &[u64]) -> Step<Push> {
        if bytes.len() > self.shape.inline as usize || !handles.is_empty() {
            return self.push_boxed(me, bytes, handles);
        }
        match self.claim_room(me)? {
            Claimed::Slot { slot, part, place, wake } => {
                store_bytes(part.payload(place.index()), bytes);
                // LINEARIZES: the push. Release: the consumer that sees FULL sees the bytes.
                slot.publish(place.lap(), bytes.len() as u64);
                self.end_push(me, slot, wake)
            }
            Claimed::None(why) => Ok(why),
        }
    }

    #[inline(always)]
    fn end_push(&self, me: &Me<'_>, slot: Slot<'_>, wake: bool) -> Step<Push> {
        if wake {
            return self.wake_and_end_push(me, slot);
        }
        me.intent.set(Field::Op, 0);
        Ok(Push::Done)
    }

    /// The wake-up before the end: a thread that dies between leaves its intent, and recovery wakes all.
    #[cold]
    #[inline(never)]
    pub(super) fn wake_and_end_push(&self, me: &Me<'_>, slot: Slot<'_>) -> Step<Push> {
        wake::wake_consumer(&self.shape, me.segment, slot)?;
        me.intent.set(Field::Op, 0);
        Ok(Push::Done)
    }

    fn push_boxed(&self, me: &Me<'_>, bytes: &[u8], handles: &[u64]) -> Step<Push> {
        let block = payload::allocate(me, bytes, handles)?;
        match self.claim_room(me) {
            Ok(Claimed::Slot { slot, part, place, wake }) => {
                me.intent.set(Field::Op, PUSH_CLAIMED);
                part.payload(place.index())[0].store(block, Ordering::Release);
                // LINEARIZES: the push. Release: the consumer that sees FULL sees the block.
                slot.publish(place.lap(), BOXED);
                me.intent.set(Field::Alloc, 0);
                self.end_push(me, slot, wake)
            }
            Ok(Claimed::None(why)) => {
                me.release(block)?;
                me.intent.set(Field::Alloc, 0);
                Ok(why)
            }
            Err(stop) => {
                if matches!(stop, Stop::Dead(_)) {
                    me.release(block)?;
                    me.intent.set(Field::Alloc, 0);
                }
                Err(stop)
            }
        }
    }

    /// Claims the tail's slot. Without one, `Op` is clear.
    fn claim_room<'a>(&self, me: &Me<'a>) -> Step<Claimed<'a>> {
        let claimed = self.walk_to_room(me);
        if !matches!(claimed, Ok(Claimed::Slot { .. }) | Err(Stop::Error(_))) {
            me.intent.set(Field::Op, 0);
        }
        claimed
    }

    fn try_claim<'a>(
        &self,
        me: &Me<'a>,
        part: Part<'a>,
        hint: Place,
        place: Place,
        slot: Slot<'a>,
        seen: Seen,
    ) -> Option<Claimed<'a>> {
        self.announce(me, part.cell(place.index()), PUSH);
        match slot.claim_to_write(seen, me.owner()) {
            Claim::Mine { wake } => {
                Part::advance(part.tail(), hint, place.after(part.slots));
                Some(Claimed::Slot { slot, part, place, wake })
            }
            Claim::Lost => None,
        }
    }

    fn walk_to_room<'a>(&self, me: &Me<'a>) -> Step<Claimed<'a>> {
        let mut part = self.push_part(me.segment)?;
        let mut hint = part.place(part.tail())?;
        let mut place = hint;
        let (mut fuel, mut looks) = (part.fuel(), 0);
        while fuel > 0 {
            fuel -= 1;
            match part.next().load(Ordering::Acquire) {
                0 => {}
                CLOSED => return Ok(Claimed::None(Push::Closed)),
                _ => {
                    part = self.next_push_part(me.segment, &part)?;
                    hint = part.place(part.tail())?;
                    (place, fuel, looks) = (hint, part.fuel(), 0);
                    continue;
                }
            }
            let slot = part.slot(place.index());
            let seen = slot.look();
            match room_at(place, seen, part.slots)? {
                Room::Free => {
                    if let Some(claimed) = self.try_claim(me, part, hint, place, slot, seen) {
                        return Ok(claimed);
                    }
                }
                Room::Beyond(further) => place = further,
                // No item, and consumers have come this far, or the tail could not be here: any passer-by may clear it.
                Room::Occupied(State::Buried) => slot.skip(seen),
                Room::Occupied(State::Reading | State::Writing) if looks < LOOKS => {
                    looks += 1;
                    crate::os::pause();
                }
                Room::Occupied(state) => {
                    part.heal_returned(state);
                    Part::advance(part.tail(), hint, place);
                    if !self.shape.unbounded {
                        wake::check_claim(me.segment, slot, seen)?;
                        return Ok(Claimed::None(Push::Full));
                    }
                    self.announce(me, part.cell(place.index()), PUSH);
                    self.extend(me, &part)?;
                }
                // Sealed by a consumer that saw `next` set; so shall we.
                Room::Sealed => {}
            }
        }
        Err(Error::new(ErrorKind::Contended, "pushing into a queue").into())
    }

    /// Records in the intent what is about to be claimed.
    #[inline(always)]
    pub(super) fn announce(&self, me: &Me<'_>, cell: u64, op: u64) {
        me.intent.set(Field::Object, self.shape.root);
        me.intent.set(Field::Cell, cell);
        me.intent.set(Field::Op, op);
    }
}
