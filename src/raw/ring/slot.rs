//! The slot word: who may touch a slot and what it holds. This file alone knows its bits.
//!
//! `lap:32 | length:12 | owner:16 | waiting:1 | state:3`; the low half is the futex.
//!
//! ```text
//! EMPTY(L) --claim_to_write-> WRITING(L,me) --publish-> FULL(L) --claim_to_read-> READING(L,me) --free-> EMPTY(L+1)
//!     |                              |                                                 |        ^
//!     | seal                         | bury (dead)                    give_back (dead) |        | claim_to_read
//!     v                              v                                                 v        |
//!  SEALED(L)                     BURIED(L) --skip--> EMPTY(L+1)                     RETURNED(L)-+
//! ```
//!
//! # Algorithm
//!
//! A ring whose positions are claimed in the slot itself, not by a counter: Vyukov's bounded queue stalls for ever
//! when a producer dies behind its counter, whereas here the claim names its owner and can be undone.
//!
//! # Thread safety and invariants
//!
//! 1. Every transition out of EMPTY, FULL, RETURNED and BURIED is a CAS of the whole word, which anybody may try.
//!    Out of WRITING and READING only the owner goes, by a plain store; after its death the one recoverer of its
//!    process, by CAS.
//! 2. `waiting` is set only in EMPTY (by a consumer) and in FULL (by a producer). The claim that ends such a state
//!    sees it, and so knows that it owes a wake-up; who owes nothing makes no system call and no fence.
//! 3. `length` is that of the item, or [`BOXED`], from publish to free; it survives a returned claim.
//! 4. A lap number may wrap; laps are compared by their difference.
//!
//! # Crash
//!
//! A kill leaves the word as it was after the last store; `recover` moves WRITING to BURIED and READING to RETURNED.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::place::Place;
use super::sleep::Rest;
use crate::mem::Word;

const STATE: u64 = 0b111;
const WAITING: u64 = 1 << 3;
const OWNER_SHIFT: u32 = 4;
const LENGTH_SHIFT: u32 = 20;
const LENGTH: u64 = 0xfff << LENGTH_SHIFT;
const LAP_SHIFT: u32 = 32;
const LAP: u64 = 0xffff_ffff << LAP_SHIFT;

const EMPTY: u64 = 0;
const WRITING: u64 = 1;
const FULL: u64 = 2;
const READING: u64 = 3;
const BURIED: u64 = 4;
const RETURNED: u64 = 5;
const SEALED: u64 = 6;

/// The length of an item whose bytes are in a block.
pub(super) const BOXED: u64 = 0xfff;

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for the producer of its lap.
    Empty,
    /// A producer writes it.
    Writing,
    /// Holds an item.
    Full,
    /// A consumer reads it.
    Reading,
    /// Its producer died: there is no item.
    Buried,
    /// Its consumer died: the item is there again.
    Returned,
    /// The end of the ring: no item will come at or after this position.
    Sealed,
    /// No word that is ever stored.
    Invalid,
}

/// A slot word that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u64);

impl Seen {
    /// What a slot is that waits for the producer at `place`, and on which nobody sleeps.
    #[inline(always)]
    pub fn empty_at(place: Place) -> Seen {
        Seen(u64::from(place.lap()) << LAP_SHIFT | EMPTY)
    }

    /// The lap that the slot is in.
    #[inline(always)]
    pub fn lap(self) -> u32 {
        (self.0 >> LAP_SHIFT) as u32
    }

    /// The state.
    #[inline(always)]
    pub fn state(self) -> State {
        match self.0 & STATE {
            EMPTY => State::Empty,
            WRITING => State::Writing,
            FULL => State::Full,
            READING => State::Reading,
            BURIED => State::Buried,
            RETURNED => State::Returned,
            SEALED => State::Sealed,
            _ => State::Invalid,
        }
    }

    /// Who writes or reads it: `slot + 1` of the thread, or 0.
    #[inline(always)]
    pub fn owner(self) -> u64 {
        self.0 >> OWNER_SHIFT & 0xffff
    }

    /// Bytes of the item, or [`BOXED`].
    #[inline(always)]
    pub fn length(self) -> u64 {
        (self.0 & LENGTH) >> LENGTH_SHIFT
    }

    /// Whether somebody may be asleep on the slot.
    #[inline(always)]
    pub fn is_waiting(self) -> bool {
        self.0 & WAITING != 0
    }

    /// Whether the slot waits for the producer at `place`.
    #[inline(always)]
    pub fn is_empty_at(self, place: Place) -> bool {
        self.0 & !WAITING == u64::from(place.lap()) << LAP_SHIFT
    }

    /// Whether the slot holds the item of `place`.
    #[inline(always)]
    pub fn is_full_at(self, place: Place) -> bool {
        self.0 & (LAP | STATE) == u64::from(place.lap()) << LAP_SHIFT | FULL
    }

    /// Whether the word is one that a slot at rest can have: bits that its state does not use are zero.
    pub fn is_at_rest(self) -> bool {
        let length = if matches!(self.state(), State::Full | State::Returned) { LENGTH } else { 0 };
        let waiting = if matches!(self.state(), State::Empty | State::Full) { WAITING } else { 0 };
        let half_done = matches!(self.state(), State::Writing | State::Reading | State::Invalid);
        !half_done && self.0 & !(LAP | length | waiting | STATE) == 0
    }
}

/// How an attempt to claim a slot ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The slot is mine; `wake`: somebody waits for what I am about to do.
    Mine {
        /// Whether a wake-up is owed after the claim's end.
        wake: bool,
    },
    /// The word has changed meanwhile.
    Lost,
}

/// A slot's word, with its transitions.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a>(&'a Word);

impl<'a> Slot<'a> {
    /// Over the first word of a slot.
    #[inline(always)]
    pub fn over(word: &'a Word) -> Slot<'a> {
        Slot(word)
    }

    /// Makes it the EMPTY slot of lap 0, before anybody knows of it.
    pub fn initialise(self) {
        self.0.store(EMPTY, Ordering::Relaxed);
    }

    /// Reads the word. Acquire: with FULL or RETURNED the payload is visible, with EMPTY the end of its last reading.
    #[inline(always)]
    pub fn look(self) -> Seen {
        Seen(self.0.load(Ordering::Acquire))
    }

    /// EMPTY(L) to WRITING(L, owner).
    ///
    /// Acquire: our payload stores stay behind the last consumer's loads. Release: who sees the claim sees the intent
    /// that was recorded before it.
    #[inline(always)]
    pub fn claim_to_write(self, seen: Seen, owner: u64) -> Claim {
        debug_assert_eq!(seen.state(), State::Empty);
        match self.0.cas(seen.0, seen.0 & LAP | owner << OWNER_SHIFT | WRITING, Ordering::AcqRel) {
            Ok(_) => Claim::Mine { wake: seen.is_waiting() },
            Err(_) => Claim::Lost,
        }
    }

    /// WRITING(L, me) to FULL(L). Release: who sees it sees the payload.
    #[inline(always)]
    pub fn publish(self, lap: u32, length: u64) {
        self.0.store(u64::from(lap) << LAP_SHIFT | length << LENGTH_SHIFT | FULL, Ordering::Release);
    }

    /// FULL(L) or RETURNED(L) to READING(L, owner). Orders as [`claim_to_write`](Slot::claim_to_write).
    ///
    /// A returned item cannot say whether a producer naps beside it, so its claim always owes a wake-up.
    #[inline(always)]
    pub fn claim_to_read(self, seen: Seen, owner: u64) -> Claim {
        match self.0.cas(seen.0, seen.0 & (LAP | LENGTH) | owner << OWNER_SHIFT | READING, Ordering::AcqRel) {
            Ok(_) => Claim::Mine { wake: seen.is_waiting() || seen.0 & STATE == RETURNED },
            Err(_) => Claim::Lost,
        }
    }

    /// [`claim_to_read`](Slot::claim_to_read) of what was seen FULL.
    #[inline(always)]
    pub fn claim_full_to_read(self, seen: Seen, owner: u64) -> Claim {
        debug_assert_eq!(seen.state(), State::Full);
        match self.0.cas(seen.0, seen.0 & (LAP | LENGTH) | owner << OWNER_SHIFT | READING, Ordering::AcqRel) {
            Ok(_) => Claim::Mine { wake: seen.is_waiting() },
            Err(_) => Claim::Lost,
        }
    }

    /// READING(L, me) to EMPTY(L + 1). Release: the next producer's stores come after our loads.
    #[inline(always)]
    pub fn free(self, lap: u32) {
        self.0.store(u64::from(lap.wrapping_add(1)) << LAP_SHIFT, Ordering::Release);
    }

    /// BURIED(L) to EMPTY(L + 1), by whoever passes.
    pub fn skip(self, seen: Seen) {
        let next = u64::from(seen.lap().wrapping_add(1)) << LAP_SHIFT;
        let _ = self.0.cas(seen.0, next, Ordering::AcqRel);
    }

    /// EMPTY(L) to SEALED(L); whether it was us. AcqRel: who sees the seal sees what closed or continued the ring.
    pub fn seal(self, seen: Seen) -> bool {
        debug_assert_eq!(seen.state(), State::Empty);
        self.0.cas(seen.0, seen.0 & LAP | SEALED, Ordering::AcqRel).is_ok()
    }

    /// WRITING(L, dead) to BURIED(L).
    pub fn bury(self, seen: Seen) {
        let _ = self.0.cas(seen.0, seen.0 & LAP | BURIED, Ordering::AcqRel);
    }

    /// READING(L, dead) to RETURNED(L).
    pub fn give_back(self, seen: Seen) {
        let _ = self.0.cas(seen.0, seen.0 & (LAP | LENGTH) | RETURNED, Ordering::AcqRel);
    }

    /// Sets `waiting` in EMPTY or FULL. AcqRel: the claim that sees it comes after all that we have looked at.
    pub fn mark_waiting(self, seen: Seen) -> Option<Seen> {
        debug_assert!(matches!(seen.state(), State::Empty | State::Full));
        self.0.cas(seen.0, seen.0 | WAITING, Ordering::AcqRel).ok().map(|_| Seen(seen.0 | WAITING))
    }

    /// Takes `waiting` back, so that whoever is about to sleep on the word does not.
    pub fn unmark_waiting(self, seen: Seen) {
        if seen.is_waiting() {
            let _ = self.0.cas(seen.0, seen.0 & !WAITING, Ordering::AcqRel);
        }
    }

    /// What to sleep on while the low half is as `seen`, for `most` at a time.
    pub fn rest(self, seen: Seen, most: Duration) -> Rest<'a> {
        Rest { word: self.0, low: seen.0 as u32, most }
    }

    /// Sleeps while the low half is as `seen`.
    pub fn sleep(self, seen: Seen, slice: Duration) {
        self.0.wait(seen.0 as u32, slice);
    }

    /// Wakes up to `count` sleepers and says how many woke.
    pub fn wake(self, count: u32) -> u32 {
        self.0.wake(count)
    }
}
