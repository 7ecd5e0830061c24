//! Positions in a ring, and what a producer or a consumer makes of the slot at one.
//!
//! A position is `lap:32 | index:32`, so that no division is needed to get from the one to the other. The head and
//! the tail of a ring are *hints*: words that anyone moves by plain stores, past slots that are decided.
//!
//! # Invariants
//!
//! 1. The tail hint is never beyond a position that no producer has claimed, the head hint never beyond one that
//!    could still become an item for the first time. A late store may put either back, by any distance.
//! 2. So a slot is at most one lap behind the hint's position, and any number ahead; from a slot ahead the walk jumps
//!    to within a lap of the truth, and needs at most a further round.

use super::slot::{Seen, State};
use crate::error::{Error, Result};

/// A position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    /// The position that a hint names.
    #[inline(always)]
    pub fn unpack(hint: u64, slots: u32) -> Result<Place> {
        Place::within(hint, slots).ok_or_else(outside)
    }

    /// The same, without an error's cost.
    #[inline(always)]
    pub fn within(hint: u64, slots: u32) -> Option<Place> {
        ((hint as u32) < slots).then_some(Place(hint))
    }

    /// As a hint.
    #[inline(always)]
    pub fn pack(self) -> u64 {
        self.0
    }

    /// How often the ring has been gone round.
    #[inline(always)]
    pub fn lap(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Index of the slot.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self.0 as u32
    }

    /// The position after this one.
    #[inline(always)]
    pub fn after(self, slots: u32) -> Place {
        if self.index() + 1 < slots { Place(self.0 + 1) } else { Place(u64::from(self.lap().wrapping_add(1)) << 32) }
    }

    /// The same slot, `laps` ago.
    fn in_lap(self, lap: u32) -> Place {
        Place(u64::from(lap) << 32 | u64::from(self.index()))
    }

    /// How many positions this one is after `earlier`; negative if it is before.
    pub fn distance_from(self, earlier: Place, slots: u32) -> i64 {
        let laps = i64::from(self.lap().wrapping_sub(earlier.lap()) as i32);
        laps * i64::from(slots) + i64::from(self.index()) - i64::from(earlier.index())
    }
}

/// What a producer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// The slot may be claimed.
    Free,
    /// Somebody has claimed the position: go on there.
    Beyond(Place),
    /// The slot is still in use from the lap before.
    Occupied(State),
    /// The ring ends here.
    Sealed,
}

/// What a consumer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Find {
    /// An item.
    Item,
    /// The position holds no item any more: go on there.
    Beyond(Place),
    /// A producer died here: nothing will come.
    Buried,
    /// A producer is at work.
    Writing,
    /// Nothing yet.
    Nothing,
    /// Nothing, and the slot is still in use from the lap before, so nothing can come yet.
    Blocked,
    /// The ring ends here.
    Sealed,
}

/// What the slot word `seen` means to a producer at `place`.
pub(super) fn room_at(place: Place, seen: Seen, slots: u32) -> Result<Room> {
    Ok(match (seen.lap().wrapping_sub(place.lap()) as i32, seen.state()) {
        (_, State::Invalid) => return Err(invalid()),
        (0, State::Empty) => Room::Free,
        (0, State::Sealed) => Room::Sealed,
        (0, _) => Room::Beyond(place.after(slots)),
        // Emptied in the lap before the slot's, so claimed in that one at the latest.
        (1.., _) => Room::Beyond(place.in_lap(seen.lap().wrapping_sub(1)).after(slots)),
        (-1, State::Empty) => return Err(ahead()),
        (-1, State::Sealed) => Room::Sealed,
        (-1, state) => Room::Occupied(state),
        _ => return Err(ahead()),
    })
}

/// What the slot word `seen` means to a consumer at `place`.
pub(super) fn find_at(place: Place, seen: Seen, slots: u32) -> Result<Find> {
    Ok(match (seen.lap().wrapping_sub(place.lap()) as i32, seen.state()) {
        (_, State::Invalid) => return Err(invalid()),
        (0, State::Full) => Find::Item,
        (0, State::Empty) => Find::Nothing,
        (0, State::Writing) => Find::Writing,
        (0, State::Buried) => Find::Buried,
        (0, State::Sealed) => Find::Sealed,
        (0, _) => Find::Beyond(place.after(slots)),
        (1.., _) => Find::Beyond(place.in_lap(seen.lap().wrapping_sub(1)).after(slots)),
        (-1, State::Reading | State::Returned) => Find::Blocked,
        _ => return Err(ahead()),
    })
}

#[cold]
fn outside() -> Error {
    Error::corrupted("a position outside its ring")
}

#[cold]
fn ahead() -> Error {
    Error::corrupted("a position ahead of its ring")
}

#[cold]
fn invalid() -> Error {
    Error::corrupted("the state of a ring's slot")
}
