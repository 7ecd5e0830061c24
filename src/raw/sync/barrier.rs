//! The barrier: an epoch, and two sets of places in which the parties of this epoch and of the last sign in.
//!
//! The root block, in words: `PARTIES`; `STATE`, `epoch:59 | before:1 | last:1 | waiters:1 | phase:2`, whose low half is
//! the futex; from `PLACES` on two sets of `PARTIES` words, `generation:32 | epoch:16 | owner:16`, the set of an epoch
//! being that of its parity. Without an owner the upper parts are the number of the epoch in which the place was left.
//!
//! ```text
//! FILL(e) --all places signed--> ACTION(e) --the elected's action has run--> FILL(e+1)
//!    |                              |
//!    \---- timeout, death, abort ---+--> BROKEN(e) --reset--> FILL(e+1)
//! ```
//!
//! # Thread safety and crash
//!
//! 1. A party reads a free place, sees that the epoch is still the one it comes for, and signs in by a CAS of what it read.
//!    An epoch cannot pass without that place, and leaves its mark there: so a CAS that succeeds is in time, and a party
//!    that comes too late finds another word. A signature with another epoch's number counts for nobody.
//! 2. Whoever finds its set full tries the CAS to ACTION; one succeeds, runs the action, and makes the CAS to the next epoch:
//!    the commit of everybody's passing.
//! 3. The state says how the last two epochs ended. A party that has slept through the end of its own finds it there: its
//!    signature, which only itself removes, keeps an epoch of the same parity from beginning to fill.
//! 4. Whoever waits looks whether all that have signed in live; if not, it breaks the barrier. A signature of the dead from
//!    another epoch is removed by whoever needs the place.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::super::cell;
use super::super::wait::{Deadline, Next, Waiter};
use super::thread::{self, Threads};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::layout::SLOTS;
use crate::mem::{Me, Segment, Step, Word};

const PARTIES: usize = 0;
const STATE: usize = 1;
const PLACES: usize = 2;

const PHASE: u64 = 3;
const FILL: u64 = 0;
const ACTION: u64 = 1;
const BROKEN: u64 = 2;
/// Somebody may be asleep on the state.
const WAITERS: u64 = 4;
/// The last epoch was broken.
const LAST: u64 = 8;
/// The one before it was.
const BEFORE: u64 = 16;
const EPOCH_SHIFT: u32 = 5;
const TAG_SHIFT: u32 = 16;
const TAG: u64 = 0xffff << TAG_SHIFT;
const OWNER: u64 = 0xffff;

fn epoch_of(state: u64) -> u64 {
    state >> EPOCH_SHIFT
}

fn tag(epoch: u64) -> u64 {
    epoch.wrapping_add(1) << TAG_SHIFT & TAG
}

/// A place that was signed in `epoch`, and left: nobody's, and never that of an epoch before any. Not 0.
fn left_in(epoch: u64) -> u64 {
    let number = epoch.wrapping_add(1);
    number >> 16 << 32 | tag(epoch)
}

/// Whether somebody has signed here.
fn is_taken(place: u64) -> bool {
    place & OWNER != 0
}

/// Whether somebody has signed here for `epoch`.
fn is_signed(place: u64, epoch: u64) -> bool {
    is_taken(place) && place & TAG == tag(epoch)
}

/// The state that follows `state`: the next epoch, this one having been passed or broken.
fn successor(state: u64, broken: bool) -> u64 {
    let epoch = epoch_of(state).wrapping_add(1) << EPOCH_SHIFT;
    epoch | if broken { LAST } else { 0 } | if state & LAST != 0 { BEFORE } else { 0 } | FILL
}

/// Where a party has signed in.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    epoch: u64,
    /// Index of the place: each of an epoch's parties has another.
    pub index: usize,
    signature: u64,
}

/// How a party's wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All have signed in, and this party runs the action: [`Barrier::finish`] is due.
    Elected,
    /// All have passed.
    Passed,
    /// The barrier is broken.
    Broken,
    /// The deadline passed; the barrier is broken now if the party had signed in.
    TimedOut,
}

/// Builds a barrier.
///
/// # Errors
/// `InvalidInput` for no parties, or more than there can be threads.
pub fn create(me: &Me<'_>, root_ref: &Word, parties: usize) -> Result<()> {
    if parties == 0 || parties as u64 > SLOTS {
        return Err(Error::new(ErrorKind::InvalidInput, format!("a barrier of {parties} parties")));
    }
    let words = cell::create_zeroed(me, root_ref, PLACES + 2 * parties)?;
    words[PARTIES].store(parties as u64, Relaxed);
    Ok(())
}

/// The barrier at some root.
#[derive(Clone, Copy)]
pub struct Barrier<'a> {
    threads: &'a dyn Threads,
    words: &'a [Word],
}

impl<'a> Barrier<'a> {
    /// The barrier at `root`.
    pub fn at(segment: &'a Segment, root: u64) -> Result<Barrier<'a>> {
        let parties = segment.word(root)?.load(Relaxed);
        if parties == 0 || parties > SLOTS {
            return Err(Error::corrupted("the parties of a barrier"));
        }
        Ok(Barrier { threads: segment, words: segment.words(root, PLACES + 2 * parties as usize)? })
    }

    /// The barrier in these words, of that many parties.
    #[cfg(loom)]
    pub fn over(threads: &'a dyn Threads, words: &'a [Word], parties: usize) -> Barrier<'a> {
        Barrier { threads, words: &words[..PLACES + 2 * parties] }
    }

    fn state(&self) -> &'a Word {
        &self.words[STATE]
    }

    /// How many parties it is for.
    pub fn parties(&self) -> usize {
        (self.words.len() - PLACES) / 2
    }

    fn set(&self, epoch: u64) -> &'a [Word] {
        let parties = self.parties();
        &self.words[PLACES + (epoch & 1) as usize * parties..][..parties]
    }

    /// How many have signed in and wait.
    pub fn waiting(&self) -> usize {
        let seen = self.state().load(Acquire);
        let signed = |word: &&Word| is_signed(word.load(Acquire), epoch_of(seen));
        if seen & PHASE == FILL { self.set(epoch_of(seen)).iter().filter(signed).count() } else { 0 }
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.state().load(Acquire) & PHASE == BROKEN
    }

    /// Waits for the others, as the thread of that name. `place` is where the party has signed in, if it has: the wait goes on from there when a dead
    /// process has interrupted it.
    ///
    /// # Blocking
    /// Until all parties have come and the action has run, or the barrier breaks: by abort, reset, somebody's timeout, or
    /// the death of a party that had come.
    pub fn wait(&self, name: u64, deadline: Deadline, place: &mut Option<Place>) -> Step<Turn> {
        let mut waiter = Waiter::until(deadline);
        let mut looked = false;
        loop {
            let mut seen = self.state().load(Acquire);
            match *place {
                None if seen & PHASE == BROKEN => return Ok(Turn::Broken),
                None if seen & PHASE == FILL => {
                    *place = self.sign_in(name, epoch_of(seen))?;
                    if place.is_some() {
                        continue;
                    }
                }
                None => {}
                Some(mine) => {
                    if let Some(turn) = self.verdict(mine, seen) {
                        return Ok(turn);
                    }
                    if seen & PHASE == FILL && self.is_full(mine.epoch) {
                        // SeqCst, like the signing in: of those that came last, one sees all.
                        if self.state().cas(seen, seen & !PHASE | ACTION, SeqCst).is_ok() {
                            return Ok(Turn::Elected);
                        }
                        continue; // another was elected, or has set the waiters' bit
                    }
                }
            }
            let next = waiter.next();
            if next != Next::Look && !std::mem::replace(&mut looked, true) && self.somebody_died(epoch_of(seen))? {
                self.break_epoch(epoch_of(seen));
                continue;
            }
            match next {
                Next::Look => {}
                Next::TimedOut => {
                    let Some(mine) = *place else { return Ok(Turn::TimedOut) };
                    if self.break_epoch(mine.epoch) {
                        self.sign_out(mine);
                        return Ok(Turn::TimedOut);
                    }
                    // It has ended in the meantime.
                }
                Next::Sleep(slice) => {
                    if seen & WAITERS == 0 {
                        if self.state().cas(seen, seen | WAITERS, Relaxed).is_err() {
                            continue;
                        }
                        seen |= WAITERS;
                    }
                    self.state().wait(seen as u32, slice);
                    looked = false;
                }
            }
        }
    }

    /// What became of the epoch that the party signed in for, if it is over; its place is free then.
    fn verdict(&self, mine: Place, seen: u64) -> Option<Turn> {
        let broken = match epoch_of(seen).wrapping_sub(mine.epoch) {
            0 if seen & PHASE == BROKEN => true,
            0 => return None,
            1 => seen & LAST != 0,
            2 => seen & BEFORE != 0,
            _ => true, // no epoch is passed while the place is taken: aborts and resets
        };
        self.sign_out(mine);
        Some(if broken { Turn::Broken } else { Turn::Passed })
    }

    /// Signs in for `epoch`; `None` if its places are taken, or it is over.
    fn sign_in(&self, name: u64, epoch: u64) -> Step<Option<Place>> {
        let set = self.set(epoch);
        for word in set {
            let seen = word.load(Acquire);
            if is_taken(seen) && !is_signed(seen, epoch) {
                if !self.threads.is_gone(seen & !TAG)? {
                    return Ok(None); // it has yet to find out how its epoch ended
                }
                let _ = word.cas(seen, seen & TAG, AcqRel); // failing, somebody else has done it
            }
        }
        let signature = name | tag(epoch);
        for (index, word) in set.iter().enumerate() {
            // The place first, the state after it.
            let seen = word.load(SeqCst);
            if is_taken(seen) || seen == left_in(epoch) {
                continue;
            }
            if epoch_of(self.state().load(SeqCst)) != epoch {
                return Ok(None);
            }
            if word.cas(seen, signature, SeqCst).is_ok() {
                return Ok(Some(Place { epoch, index, signature }));
            }
        }
        Ok(None)
    }

    fn sign_out(&self, place: Place) {
        if let Some(word) = self.set(place.epoch).get(place.index) {
            let _ = word.cas(place.signature, left_in(place.epoch), Release);
        }
    }

    /// Whether all parties of `epoch` have signed in. The last place is filled last, as a rule.
    fn is_full(&self, epoch: u64) -> bool {
        let signed = |word: &Word| is_signed(word.load(SeqCst), epoch);
        self.set(epoch).iter().rev().all(signed)
    }

    /// Whether a party that has signed in for `epoch` is gone.
    #[cold]
    fn somebody_died(&self, epoch: u64) -> Step<bool> {
        for word in self.set(epoch) {
            let seen = word.load(Acquire);
            if is_signed(seen, epoch) && self.threads.is_gone(seen & !TAG)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends the elected party's turn, after its action: all pass. False if the barrier was broken meanwhile.
    pub fn finish(&self, place: Place) -> bool {
        let passed = self.change(|seen| {
            let elected = epoch_of(seen) == place.epoch && seen & PHASE == ACTION;
            elected.then(|| successor(seen, false))
        });
        self.sign_out(place);
        passed
    }

    /// Breaks the barrier: all that wait, and all that will until [`reset`](Barrier::reset).
    pub fn abort(&self) {
        self.change(|seen| (seen & PHASE != BROKEN).then_some(seen & !(PHASE | WAITERS) | BROKEN));
    }

    /// Breaks `epoch`, if it is not over; whether this call did.
    fn break_epoch(&self, epoch: u64) -> bool {
        let open = |seen| epoch_of(seen) == epoch && seen & PHASE != BROKEN;
        self.change(|seen| open(seen).then_some(seen & !(PHASE | WAITERS) | BROKEN))
    }

    /// Signs out after a wait that failed, and breaks the barrier for the others.
    pub fn abandon(&self, place: Place) {
        self.break_epoch(place.epoch);
        self.sign_out(place);
    }

    /// Begins a new epoch; those that wait find theirs broken.
    pub fn reset(&self) {
        self.change(|seen| {
            let epoch = epoch_of(seen);
            let signed = |word: &Word| is_signed(word.load(Acquire), epoch);
            let idle = seen & PHASE == FILL && !self.set(epoch).iter().any(signed);
            (!idle).then(|| successor(seen, true))
        });
    }

    /// Moves the state to what `next` says, if anything, and wakes all; whether it did.
    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        let state = self.state();
        loop {
            let seen = state.load(Acquire);
            let Some(next) = next(seen) else { return false };
            // LINEARIZES: the CAS; Release: whoever passes sees what was done before.
            match state.cas(seen, next, AcqRel) {
                Ok(_) => {
                    if seen & WAITERS != 0 {
                        state.wake(u32::MAX);
                    }
                    return true;
                }
                Err(now) if now == seen => return false, // a thread that a test has killed
                Err(_) => {}                             // somebody else's succeeded: progress
            }
        }
    }
}

/// Checks a barrier at rest.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    let barrier = Barrier::at(segment, root)?;
    let state = barrier.state().load(Acquire);
    let (epoch, phase) = (epoch_of(state), state & PHASE);
    let has_ends = epoch.min(2) >= u64::from(state & LAST != 0).max(2 * u64::from(state & BEFORE != 0));
    if !has_ends || phase > BROKEN || phase == BROKEN && state & WAITERS != 0 {
        return Err(Error::corrupted("the state of a barrier"));
    }
    // Of an action, all parties are there until it has run.
    if phase == ACTION && !barrier.is_full(epoch) && barrier.state().load(Acquire) == state {
        return Err(Error::corrupted("the action of a barrier that not all have come to"));
    }
    let mut names = std::collections::HashSet::new();
    for place in barrier.words[PLACES..].iter().map(|word| word.load(Acquire)).filter(|place| is_taken(*place)) {
        thread::check_name(segment, place & !TAG, "a place of a barrier")?;
        if is_signed(place, epoch) && !names.insert(place) {
            return Err(Error::corrupted("a barrier at which one party counts twice"));
        }
    }
    Ok(())
}
