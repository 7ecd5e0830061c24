//! The queue: a crash-safe ring for many producers and many consumers, of fixed size or growing.
//!
//! One idea per file:
//!
//! | file | idea |
//! |---|---|
//! | `slot` | the slot word and its transitions: who may touch a slot |
//! | `place` | positions, and what a slot word means at one |
//! | `part` | where the words are |
//! | `shape` | geometry; the chain of parts of an unbounded ring |
//! | `payload` | items in words |
//! | `push`, `pop` | the two operations |
//! | `quick` | the same in a straight line, where nothing is in the way |
//! | `peek` | whether a pop would wait |
//! | `sleep`, `wake` | waiting and waking |
//! | `habit` | what a process learns about waiting |
//! | `seal` | close, and continue |
//! | `recover` | what a kill leaves, and what becomes of it |
//! | `visit` | everything that a ring refers to; its own fsck |
//!
//! # Promises
//!
//! 1. A push that returned is delivered, to one consumer. A push that died is delivered or never existed.
//! 2. A pop that died gives the item back, and then it may be out of order, however late that is noticed; nothing else
//!    is.
//! 3. Nobody waits for the dead: they are returned as `Stop::Dead`, and `resolve` undoes what they claimed.

mod habit;
mod part;
mod payload;
mod peek;
mod place;
mod pop;
mod push;
mod quick;
mod recover;
mod seal;
mod shape;
mod sleep;
mod slot;
mod visit;
mod wake;

#[cfg(all(test, debug_assertions))]
mod crash_scenarios;
#[cfg(all(test, debug_assertions))]
pub(super) mod crash_tests;
#[cfg(all(test, debug_assertions))]
mod storm_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wait_tests;

use std::sync::atomic::{AtomicBool, AtomicU64 as LocalU64, Ordering};

use habit::Habit;
use part::Part;
use place::{Place, Room, room_at};
use shape::{FIRST_SLOTS, FirstPart, PartName, Shape};

pub use peek::Peek;
pub use quick::Quick;
pub use recover::resolve;
pub use sleep::{Rest, Sleeper, Turn};
pub use visit::{check, visit, visit_handles};

use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Segment, Word};

/// What a ring is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Items that it holds; `None` for as many as come.
    pub capacity: Option<u32>,
    /// Bytes of an item, 8 to 1024, up to which it is stored in the ring itself.
    pub inline: u32,
}

/// How a push ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The item is queued.
    Done,
    /// There is no room.
    Full,
    /// The ring takes no items any more.
    Closed,
}

/// How a pop ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pop {
    /// An item was taken.
    Item {
        /// Whether it was pushed with handles.
        handles: bool,
    },
    /// There is none.
    Empty,
    /// There is none and none will come.
    Closed,
}

/// A ring that this process has opened.
pub struct Ring {
    shape: Shape,
    first: FirstPart,
    /// The last part known to this process, and the one that its consumers are in: [`PartName`]s. Only ever rise.
    push_at: LocalU64,
    pop_at: LocalU64,
    /// Whether the ring is closed and everything in it was taken: it stays so.
    drained: AtomicBool,
    /// How it has paid to wait.
    habit: Habit,
}

/// Builds a ring and stores its root block in `root_ref`.
///
/// # Crash
/// Until the root is stored the intent's `Alloc` names it; nothing else refers to it.
///
/// # Errors
/// `InvalidInput` for a capacity of 0 or an inline size out of range; `TooLarge` and `OutOfMemory` of the heap.
pub fn create(me: &Me<'_>, root_ref: &Word, spec: &Spec) -> Result<()> {
    if spec.capacity == Some(0) {
        return Err(Error::new(ErrorKind::InvalidInput, "a queue of capacity 0"));
    }
    if !(8..=1024).contains(&spec.inline) {
        return Err(Error::new(ErrorKind::InvalidInput, "a queue's inline size is 8 to 1024 bytes"));
    }
    build(me, root_ref, spec.capacity.unwrap_or(FIRST_SLOTS), spec.inline, spec.capacity.is_none())
}

fn build(me: &Me<'_>, root_ref: &Word, first: u32, inline: u32, unbounded: bool) -> Result<()> {
    let mut shape = Shape { root: 0, first, inline: inline.next_multiple_of(8), unbounded };
    shape.root = me.alloc(shape.bytes(0), Field::Alloc)?;
    shape.initialise(me.segment, shape.root, 0)?;
    // Release: who sees the offset sees an initialised part.
    root_ref.store(shape.root, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    Ok(())
}

impl Clone for Ring {
    /// Another view of the same ring, that knows what this one knows.
    fn clone(&self) -> Ring {
        let local = |word: &LocalU64| LocalU64::new(word.load(Ordering::Relaxed)); // local
        Ring {
            shape: self.shape,
            first: self.first,
            push_at: local(&self.push_at),
            pop_at: local(&self.pop_at),
            drained: AtomicBool::new(self.drained.load(Ordering::Relaxed)), // local
            habit: self.habit.clone(),
        }
    }
}

impl Ring {
    /// Opens the ring whose root block is at `root`.
    ///
    /// # Errors
    /// `Corrupted` if there is none.
    pub fn open(segment: &Segment, root: u64) -> Result<Ring> {
        let shape = Shape::read(segment, root)?;
        let first = PartName::new(0, root).pack();
        Ok(Ring {
            shape,
            first: FirstPart::of(&shape),
            push_at: LocalU64::new(first),
            pop_at: LocalU64::new(first),
            drained: AtomicBool::new(false),
            habit: Habit::new(),
        })
    }

    /// How often to try, with a pause before each, before going to wait for an item: one that is under way comes within a
    /// moment, and trying has it sooner than looking for something to try.
    pub fn tries(&self) -> u32 {
        self.habit.tries()
    }

    /// Items that it holds at most; `None` if that is not limited.
    pub fn capacity(&self) -> Option<u64> {
        (!self.shape.unbounded).then_some(u64::from(self.shape.first))
    }

    /// Items in the ring: exact while nobody is at work on it.
    ///
    /// # Complexity
    /// Constant, if no process has ever died at work on this ring; else linear in its slots.
    ///
    /// # Errors
    /// `Corrupted`.
    pub fn len(&self, segment: &Segment) -> Result<u64> {
        let mut part = self.pop_part(segment)?;
        let mut items = 0;
        loop {
            items +=
                if part.epoch().load(Ordering::Acquire) == 0 { length_by_place(&part)? } else { visit::count(&part) };
            match self.shape.part_after(segment, &part)? {
                Some(after) => part = after,
                None => return Ok(items),
            }
        }
    }

    /// The first part, if that is where `at` says that this process is.
    #[inline(always)]
    fn first_part<'a>(&self, segment: &'a Segment, at: &LocalU64) -> Option<Part<'a>> {
        self.first.if_named(segment, PartName::unpack(at.load(Ordering::Relaxed))) // local
    }

    fn push_part<'a>(&self, segment: &'a Segment) -> Result<Part<'a>> {
        self.part(segment, &self.push_at)
    }

    fn pop_part<'a>(&self, segment: &'a Segment) -> Result<Part<'a>> {
        self.part(segment, &self.pop_at)
    }

    #[inline]
    fn part<'a>(&self, segment: &'a Segment, at: &LocalU64) -> Result<Part<'a>> {
        match self.first_part(segment, at) {
            Some(part) => Ok(part),
            None => self.shape.part(segment, PartName::unpack(at.load(Ordering::Relaxed))), // local
        }
    }

    fn next_push_part<'a>(&self, segment: &'a Segment, part: &Part<'a>) -> Result<Part<'a>> {
        let after = self.shape.part_after(segment, part)?.ok_or_else(no_successor)?;
        self.push_at.fetch_max(after.name.pack(), Ordering::Relaxed); // local
        Ok(after)
    }

    fn next_pop_part<'a>(&self, segment: &'a Segment, part: &Part<'a>) -> Result<Part<'a>> {
        let after = self.shape.part_after(segment, part)?.ok_or_else(no_successor)?;
        self.pop_at.fetch_max(after.name.pack(), Ordering::Relaxed); // local
        Ok(after)
    }

    fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed) // local
    }

    fn set_drained(&self) {
        self.drained.store(true, Ordering::Relaxed); // local
    }
}

/// From the first position that is no consumer's yet to the first that is no producer's.
fn length_by_place(part: &Part<'_>) -> Result<u64> {
    let head = visit::true_head(part)?;
    let tail = true_tail(part)?;
    Ok(tail.distance_from(head, part.slots).clamp(0, i64::from(part.slots)) as u64)
}

/// The first position that no producer has claimed.
fn true_tail(part: &Part<'_>) -> Result<Place> {
    let mut place = part.place(part.tail())?;
    for _ in 0..part.fuel() {
        match room_at(place, part.slot(place.index()).look(), part.slots)? {
            Room::Beyond(further) => place = further,
            Room::Free | Room::Occupied(_) | Room::Sealed => return Ok(place),
        }
    }
    Err(Error::new(ErrorKind::Contended, "measuring a queue"))
}

#[cold]
fn no_successor() -> Error {
    Error::corrupted("an unbounded ring that ends and does not")
}
