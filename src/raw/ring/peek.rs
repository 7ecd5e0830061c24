//! Whether a pop would wait: a look that takes nothing.
//!
//! # Thread safety
//!
//! What it says was true at some moment of the call. It moves this process's own view and the hints on, as a pop does,
//! and skips what the dead have left; so a sleeper that found trying worth while and a look that finds nothing do not
//! send each other round in circles.

use std::sync::atomic::Ordering;

use super::Ring;
use super::part::{CLOSED, Part};
use super::place::{Find, find_at};
use super::slot::State;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::Segment;

/// What a pop would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// An item.
    Item,
    /// Nothing yet.
    Nothing,
    /// An item that was under way when the ring was closed, or that none will come: a pop does not wait.
    End,
}

/// What one part has for consumers.
enum Glance {
    Item,
    Nothing,
    /// The part ends here, and there may be another. Unless it is sealed, a push that was under way may yet come.
    Over {
        sealed: bool,
    },
}

impl Ring {
    /// What a pop would find now.
    ///
    /// # Complexity
    /// Constant; linear in the capacity after a death among the consumers, and once where a part ends.
    ///
    /// # Errors
    /// `Corrupted`.
    pub fn peek(&self, segment: &Segment) -> Result<Peek> {
        if self.is_drained() {
            return Ok(Peek::End);
        }
        let mut part = self.pop_part(segment)?;
        // Ends: parts number themselves, and there are not endlessly many.
        loop {
            match glance(&part)? {
                Glance::Item => return Ok(Peek::Item),
                Glance::Nothing => return Ok(Peek::Nothing),
                Glance::Over { .. } if part.next().load(Ordering::Acquire) == CLOSED => return Ok(Peek::End),
                Glance::Over { sealed } => part = self.part_behind(segment, &part, sealed)?,
            }
        }
    }

    /// The part after one in which nothing is left. This process goes on there if nothing will come back either.
    fn part_behind<'a>(&self, segment: &'a Segment, part: &Part<'a>, sealed: bool) -> Result<Part<'a>> {
        let in_use = |index| matches!(part.slot(index).look().state(), State::Reading | State::Returned);
        if sealed && !(0..part.slots).any(in_use) {
            return self.next_pop_part(segment, part);
        }
        self.shape.part_after(segment, part)?.ok_or_else(super::no_successor)
    }
}

fn glance(part: &Part<'_>) -> Result<Glance> {
    if part.look_for_returned().is_some() {
        return Ok(Glance::Item);
    }
    let hint = part.place(part.head())?;
    let mut place = hint;
    for _ in 0..part.fuel() {
        let slot = part.slot(place.index());
        let seen = slot.look();
        match find_at(place, seen, part.slots)? {
            Find::Item => return Ok(Glance::Item),
            Find::Beyond(further) => place = further,
            Find::Buried => slot.skip(seen),
            Find::Writing => return Ok(Glance::Nothing),
            Find::Sealed => return Ok(Glance::Over { sealed: true }),
            Find::Nothing | Find::Blocked => {
                Part::advance(part.head(), hint, place);
                let open = part.next().load(Ordering::Acquire) == 0;
                return Ok(if open { Glance::Nothing } else { Glance::Over { sealed: false } });
            }
        }
    }
    Err(Error::new(ErrorKind::Contended, "looking into a queue"))
}
