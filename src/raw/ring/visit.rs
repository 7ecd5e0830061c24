//! Everything that a ring refers to, and its own fsck.
//!
//! # Thread safety and invariants
//!
//! 1. For a ring at rest, or one that nobody will use again. Among the living the walk is safe and what it finds may be
//!    out of date.
//! 2. The parts are gone through from the last to the first, items before the part that they lie in. So destruction,
//!    which puts 0 into each word it is shown, can be killed and begun again anywhere.
//! 3. Bounded on any bytes: parts number themselves, slots are counted by the size of the block they lie in.

use std::sync::atomic::Ordering;

use super::part::{CLOSED, Part};
use super::payload::Boxed;
use super::place::{Find, Place, find_at};
use super::shape::Shape;
use super::slot::{BOXED, Seen, State};
use super::true_tail;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Segment, Word, fence};

/// Looks at a slot before giving up: an item is claimed once, and once more after each death of its consumer.
const TRIES: u32 = 1 << 16;

/// Shows `f` every word that refers to a block of the ring at `root`, with the block; not the word that refers to
/// `root`. `f` may put 0 into the word.
///
/// # Complexity
/// Linear in the slots.
///
/// # Errors
/// `Corrupted` if there is no such ring; what `f` fails with.
pub fn visit(segment: &Segment, root: u64, f: &mut dyn FnMut(&Word, u64) -> Result<()>) -> Result<()> {
    let mut parts = parts(segment, root)?;
    while let Some(part) = parts.pop() {
        for index in 0..part.slots {
            if holds_block(part.slot(index).look()) {
                let word = &part.payload(index)[0];
                match word.load(Ordering::Acquire) {
                    0 => {}
                    block => f(word, block)?,
                }
            }
        }
        if let Some(before) = parts.last() {
            f(before.next(), part.name.offset())?;
        }
    }
    Ok(())
}

/// Shows `f` every handle that is stored with a queued item.
///
/// # Errors
/// `Corrupted` if there is no such ring or an item's block is none; what `f` fails with.
pub fn visit_handles(segment: &Segment, root: u64, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    for part in parts(segment, root)? {
        for index in 0..part.slots {
            handles_in(segment, &part, index)?.into_iter().try_for_each(&mut *f)?;
        }
    }
    Ok(())
}

/// The handles of the item in a slot, which may be taken meanwhile: then they are the taker's to hold.
fn handles_in(segment: &Segment, part: &Part<'_>, index: u32) -> Result<Vec<u64>> {
    let slot = part.slot(index);
    for _ in 0..TRIES {
        let seen = slot.look();
        if !holds_block(seen) {
            return Ok(Vec::new());
        }
        let block = part.payload(index)[0].load(Ordering::Acquire);
        let read = match block {
            0 => Ok(Vec::new()),
            _ => Boxed::read(segment, block)
                .map(|boxed| boxed.handles.iter().map(|handle| handle.load(Ordering::Relaxed)).collect()),
        };
        // Pairs with the fence behind the taking of a block: who read a new word of it sees that the slot has changed.
        fence(Ordering::Acquire);
        if slot.look() == seen {
            return read;
        }
    }
    Err(Error::new(ErrorKind::Contended, "reading a slot that never rests"))
}

fn parts(segment: &Segment, root: u64) -> Result<Vec<Part<'_>>> {
    let shape = Shape::read(segment, root)?;
    let mut parts = vec![shape.first_part(segment)?];
    while let Some(after) = shape.part_after(segment, &parts[parts.len() - 1])? {
        parts.push(after);
    }
    Ok(parts)
}

fn holds_block(seen: Seen) -> bool {
    seen.length() == BOXED && matches!(seen.state(), State::Full | State::Reading | State::Returned)
}

/// Items of a part, by looking at each slot.
pub(super) fn count(part: &Part<'_>) -> u64 {
    let items = (0..part.slots).filter(|index| holds_item(part.slot(*index).look().state())).count();
    items as u64
}

fn holds_item(state: State) -> bool {
    matches!(state, State::Full | State::Returned)
}

/// The first position that consumers have not passed.
pub(super) fn true_head(part: &Part<'_>) -> Result<Place> {
    let mut place = part.place(part.head())?;
    for _ in 0..part.fuel() {
        match find_at(place, part.slot(place.index()).look(), part.slots)? {
            Find::Beyond(further) => place = further,
            _ => return Ok(place),
        }
    }
    Err(Error::new(ErrorKind::Contended, "measuring a queue"))
}

/// Checks a ring at rest: every slot in a state and a lap that operations and recoveries can have left it in, nobody
/// at work, every item readable, both hints behind the truth.
///
/// # Complexity
/// Linear in the slots.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    let shape = Shape::read(segment, root)?;
    let parts = parts(segment, root)?;
    for (i, part) in parts.iter().enumerate() {
        let next = part.next().load(Ordering::Acquire);
        if (next > CLOSED) != (i + 1 < parts.len()) {
            return Err(Error::corrupted("the chain of an unbounded ring"));
        }
        check_part(segment, &shape, part)?;
    }
    Ok(())
}

fn check_part(segment: &Segment, shape: &Shape, part: &Part<'_>) -> Result<()> {
    let (head, tail) = (true_head(part)?, true_tail(part)?);
    let wrong = |rule: &'static str| Err(Error::corrupted(rule));
    for index in 0..part.slots {
        let seen = part.slot(index).look();
        if !seen.is_at_rest() {
            return wrong("a slot of a ring at rest has an owner or bits that mean nothing");
        }
        // The position of this slot that was claimed last, if the tail is right.
        let lap = if index < tail.index() { tail.lap() } else { tail.lap().wrapping_sub(1) };
        let later = seen.lap().wrapping_sub(lap) as i32;
        let place = Place::unpack(u64::from(seen.lap()) << 32 | u64::from(index), part.slots)?;
        let ahead_of_head = place.distance_from(head, part.slots) >= 0;
        match seen.state() {
            State::Empty if later == 1 => {}
            State::Full | State::Buried if later == 0 && ahead_of_head => {}
            State::Returned if later == 0 && part.returned().load(Ordering::Acquire) != 0 => {}
            State::Sealed if later == 1 && place == tail && part.next().load(Ordering::Acquire) != 0 => {}
            _ => return wrong("the lap of a slot does not fit the ring's"),
        }
        if holds_item(seen.state()) {
            if seen.length() == BOXED {
                Boxed::read(segment, part.payload(index)[0].load(Ordering::Acquire))?;
            } else if seen.length() > u64::from(shape.inline) {
                return wrong("an item is longer than its slot");
            }
        }
    }
    Ok(())
}
