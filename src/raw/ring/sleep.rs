//! Waiting for an item or for room, and the wake-ups.
//!
//! # Algorithm
//!
//! Spin, for as long as that has been of use lately. Then the first to wait sets `waiting` in the very slot word that the
//! other side must claim next, and sleeps on it; whoever comes while it is set is counted at the *follow* futex and sleeps
//! on it, at the value read before it looked. The claim sees `waiting` and wakes one sleeper of the slot, or of follow if
//! there was none.
//!
//! # Thread safety and invariants
//!
//! 1. Who leaves a sleep, with whatever result, raises follow and wakes one: the *baton*. It is a destructor here, so
//!    it is never forgotten. Without it somebody sleeps beside an item.
//! 2. A sleeper holds nothing and is inside no operation; `waiting` that nobody waits for costs one vain wake-up.
//! 3. At a slot that somebody is working on there is no bit to set: short slices, and a look whether it lives.
//! 4. Every sleep is a slice. Between slices a sleeper looks through part of the ring for claims of the dead, which
//!    nobody else might ever meet; one that was woken to something does so every sixteenth time.
//!
//! # Crash
//!
//! A sleeper or a waker that dies costs the others a slice; recovery wakes all.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Ring;
use super::part::Part;
use super::place::{Find, Room, find_at, room_at};
use super::slot::{Seen, Slot, State};
use super::wake::{BUSY_SLICE, Side, announce_sleeper, check_claim, follow, pass_baton};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Segment, Step, Word};
use crate::os;
use crate::raw::wait::{Deadline, Next, Waiter};

/// Slots that a sleeper looks through after each slice.
const WINDOW: u32 = 1024;

/// What a waiter finds.
enum Look<'a> {
    /// Trying is worth while.
    Ready,
    /// The other side must claim this slot next.
    Idle { slot: Slot<'a>, cell: u64, seen: Seen },
    /// Somebody is working on the slot.
    Busy { slot: Slot<'a>, seen: Seen },
}

/// What a sleeper sleeps on.
pub struct Rest<'a> {
    /// The futex.
    pub word: &'a Word,
    /// The low half of the word, while there is reason to sleep.
    pub low: u32,
    /// How long to sleep at most before looking again.
    pub most: Duration,
}

/// How one [`turn`](Sleeper::turn) of a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// Trying is worth while.
    Ready,
    /// A slice is over, or somebody woke us.
    Slept,
    /// The deadline has passed.
    TimedOut,
}

/// One wait, from the first look to the end. Dropping it passes the baton on.
///
/// ```text
/// let mut sleeper = ring.wait_for_item(segment, deadline);
/// while ring.pop(&segment.enter()?, &mut out)? == Pop::Empty {
///     if !sleeper.next()? { return TimedOut }
/// }
/// ```
#[must_use = "a wait that nobody waits for"]
pub struct Sleeper<'a> {
    ring: &'a Ring,
    segment: &'a Segment,
    side: Side,
    slices: Waiter,
    slept: bool,
    /// Whether we are counted among the sleepers of follow.
    announced: bool,
    /// The word that we have set `waiting` in.
    marked: Option<(u64, Seen)>,
    /// Where the next look for the dead begins.
    cursor: u32,
}

impl Ring {
    /// A wait for something to pop.
    pub fn wait_for_item<'a>(&'a self, segment: &'a Segment, deadline: Deadline) -> Sleeper<'a> {
        self.wait(segment, deadline, Side::Item)
    }

    /// A wait for room to push.
    pub fn wait_for_room<'a>(&'a self, segment: &'a Segment, deadline: Deadline) -> Sleeper<'a> {
        self.wait(segment, deadline, Side::Room)
    }

    fn wait<'a>(&'a self, segment: &'a Segment, deadline: Deadline, side: Side) -> Sleeper<'a> {
        let slices = Waiter::spinning(deadline, 0);
        Sleeper { ring: self, segment, side, slices, slept: false, announced: false, marked: None, cursor: 0 }
    }
}

impl<'a> Sleeper<'a> {
    /// Waits until trying again is worth while; `false` when the deadline has passed. To be called outside operations.
    ///
    /// # Errors
    /// `Stop::Dead` if a dead process holds a slot: recover it and call again. `Corrupted`; `Evicted`.
    #[allow(clippy::should_implement_trait, reason = "what it yields is no item")]
    pub fn next(&mut self) -> Step<bool> {
        if self.spin()? {
            return Ok(true);
        }
        loop {
            match self.turn()? {
                Turn::Ready => return Ok(true),
                Turn::TimedOut => return Ok(false),
                Turn::Slept => {}
            }
        }
    }

    /// Sleeps once, without spinning before: [`next`](Sleeper::next) for who has something else to look after between
    /// sleeps.
    ///
    /// # Errors
    /// As [`next`](Sleeper::next).
    pub fn turn(&mut self) -> Step<Turn> {
        // Acquire, and before the look: a baton passed after the look changes it, so the sleep ends at once.
        let turn = self.follow()?.load(Ordering::Acquire);
        let look = self.look()?;
        if matches!(look, Look::Ready) {
            return Ok(Turn::Ready);
        }
        match self.slices.next() {
            Next::Look => {}
            Next::TimedOut => return Ok(Turn::TimedOut),
            Next::Sleep(slice) => {
                if let Some(rest) = self.rest(look, turn)? {
                    rest.word.wait(rest.low, slice.min(rest.most));
                }
                // Where things move, whoever comes by meets the claims of the dead sooner or later.
                if !self.ring.habit.is_look_due() && matches!(self.look()?, Look::Ready) {
                    return Ok(Turn::Ready);
                }
            }
        }
        self.look_after()?;
        Ok(Turn::Slept)
    }

    /// What to sleep on, for who sleeps on several words at once; `None` if trying is worth while, or was a moment ago.
    /// [`look_after`](Sleeper::look_after) is due between sleeps.
    ///
    /// # Errors
    /// As [`next`](Sleeper::next).
    pub fn arm(&mut self) -> Step<Option<Rest<'a>>> {
        let turn = self.follow()?.load(Ordering::Acquire); // as in `turn`
        let look = self.look()?;
        self.rest(look, turn)
    }

    /// Looks whether this process is still a member, and for claims of the dead in a stretch of the ring.
    ///
    /// # Errors
    /// As [`next`](Sleeper::next).
    pub fn look_after(&mut self) -> Step<()> {
        self.segment.still_member()?;
        self.look_for_the_dead()
    }

    /// The same wait, with the next look for the dead beginning at slot `cursor`, or at the first.
    pub fn looking_from(mut self, cursor: u32) -> Sleeper<'a> {
        self.cursor = cursor;
        self
    }

    /// Where the next look for the dead begins.
    pub fn cursor(&self) -> u32 {
        self.cursor
    }

    fn rest(&mut self, look: Look<'a>, turn: u64) -> Step<Option<Rest<'a>>> {
        Ok(match look {
            Look::Ready => None,
            Look::Busy { slot, seen } => {
                check_claim(self.segment, slot, seen)?;
                Some(slot.rest(seen, BUSY_SLICE))
            }
            Look::Idle { slot, cell, seen } if seen.is_waiting() => {
                self.slept = true;
                match self.marked == Some((cell, seen)) {
                    true => Some(slot.rest(seen, Duration::MAX)),
                    false => {
                        let follow = self.follow()?;
                        if !self.announced {
                            announce_sleeper(follow);
                            self.announced = true;
                        }
                        Some(Rest { word: follow, low: turn as u32, most: Duration::MAX })
                    }
                }
            }
            Look::Idle { slot, cell, seen } => slot.mark_waiting(seen).map(|marked| {
                (self.slept, self.marked) = (true, Some((cell, marked)));
                slot.rest(marked, Duration::MAX)
            }),
        })
    }

    /// Looks for a while; the longer, the more often that has been of use.
    ///
    /// # Errors
    /// `Corrupted`.
    pub fn spin(&self) -> Step<bool> {
        let patience = self.ring.habit.patience();
        let (mut start, mut spent) = (0, 0);
        for round in 0u32.. {
            if patience == 0 {
                break; // it would be the first look of `turn`
            }
            if matches!(self.look()?, Look::Ready) {
                if round > 0 {
                    self.ring.habit.note_success(spent);
                }
                return Ok(true);
            }
            // Ever longer: each look takes the slot's line from whom we wait for, and several items cost no more than one.
            (0..1 << round.min(4)).for_each(|_| os::pause());
            if round % 4 == 0 {
                let now = os::now_nanos();
                start = if start == 0 { now } else { start };
                spent = now - start;
                if spent >= patience {
                    break;
                }
            }
        }
        self.ring.habit.note_sleep();
        Ok(false)
    }

    fn follow(&self) -> Result<&'a Word> {
        follow(&self.ring.shape, self.segment, self.side)
    }

    #[inline]
    fn look(&self) -> Result<Look<'a>> {
        match self.side {
            Side::Item => self.look_for_item(),
            Side::Room => self.look_for_room(),
        }
    }

    fn look_for_item(&self) -> Result<Look<'a>> {
        let part = self.ring.pop_part(self.segment)?;
        if part.returned().load(Ordering::Acquire) != 0 || self.ring.is_drained() {
            return Ok(Look::Ready);
        }
        let hint = part.place(part.head())?;
        let mut place = hint;
        for _ in 0..part.fuel() {
            let slot = part.slot(place.index());
            let seen = slot.look();
            match find_at(place, seen, part.slots)? {
                Find::Item | Find::Buried | Find::Sealed => return Ok(Look::Ready),
                Find::Beyond(further) => place = further,
                Find::Writing => return Ok(Look::Busy { slot, seen }),
                found @ (Find::Nothing | Find::Blocked) => {
                    Part::advance(part.head(), hint, place);
                    // After the slot was seen EMPTY: who closes from now on finds it in our `waiting`'s way.
                    return Ok(if part.next().load(Ordering::Acquire) != 0 {
                        Look::Ready
                    } else if found == Find::Nothing {
                        Look::Idle { slot, cell: part.cell(place.index()), seen }
                    } else {
                        Look::Busy { slot, seen }
                    });
                }
            }
        }
        Err(contended())
    }

    fn look_for_room(&self) -> Result<Look<'a>> {
        let part = self.ring.push_part(self.segment)?;
        let hint = part.place(part.tail())?;
        let mut place = hint;
        for _ in 0..part.fuel() {
            let slot = part.slot(place.index());
            let seen = slot.look();
            match room_at(place, seen, part.slots)? {
                Room::Beyond(further) => place = further,
                Room::Free | Room::Sealed | Room::Occupied(State::Buried) => return Ok(Look::Ready),
                Room::Occupied(state) => {
                    Part::advance(part.tail(), hint, place);
                    return Ok(if part.next().load(Ordering::Acquire) != 0 || self.ring.shape.unbounded {
                        Look::Ready
                    } else if state == State::Full {
                        Look::Idle { slot, cell: part.cell(place.index()), seen }
                    } else {
                        Look::Busy { slot, seen }
                    });
                }
            }
        }
        Err(contended())
    }

    /// Checks the owners of claims in the next stretch of the ring.
    fn look_for_the_dead(&mut self) -> Step<()> {
        let part = match self.side {
            Side::Item => self.ring.pop_part(self.segment)?,
            Side::Room => self.ring.push_part(self.segment)?,
        };
        for _ in 0..part.slots.min(WINDOW) {
            self.cursor = if self.cursor + 1 < part.slots { self.cursor + 1 } else { 0 };
            let slot = part.slot(self.cursor);
            let seen = slot.look();
            part.heal_returned(seen.state());
            check_claim(self.segment, slot, seen)?;
        }
        Ok(())
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        if self.slept
            && let Ok(follow) = self.follow()
        {
            pass_baton(follow, 1, self.announced);
        }
    }
}

#[cold]
fn contended() -> Error {
    Error::new(ErrorKind::Contended, "waiting for a queue")
}
