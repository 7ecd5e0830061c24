//! The condition: a waiting room in which each thread has a place, and each place a number.
//!
//! The root block, in words: `LOCK`, the id of the lock that it belongs to; `TICKET`, the next number; from `PLACES` on one
//! word for each thread slot, `generation:32 | ticket:30 | state:2`, whose low half is the futex.
//!
//! # Thread safety and crash
//!
//! 1. A thread takes its place under the user's lock and releases the lock after that; so whoever notifies, under the
//!    lock, sees every thread that waits. Notifying turns WAITING into NOTIFIED, and the ticket into the number that the
//!    next waiter will get, by one CAS: that is the commit.
//! 2. A thread leaves its place under the lock, acquired again. It was notified exactly if its place says so then, even if
//!    its time was up before.
//! 3. A notification of a thread that is gone is taken over by another that waited at the time, which its ticket tells. That one
//!    notifies itself first and clears the dead one's place after it: killed in between, there are two notifications
//!    instead of one, and never none.
//! 4. A thread that finds the holder of the lock dead takes the lock and stops waiting: whoever should have notified is
//!    perhaps the one that died.

use std::sync::atomic::Ordering;

use super::super::lock::{self, Acquired, WAITERS};
use super::super::wait::{Deadline, Next, Waiter};
use super::super::{cell, object::ObjectId};
use super::{rlock, thread};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::layout::SLOTS;
use crate::mem::{Me, Segment, Step, Word};

const LOCK: usize = 0;
const TICKET: usize = 1;
const PLACES: usize = 2;
const WORDS: usize = PLACES + SLOTS as usize;

const STATE: u64 = 3;
const WAITING: u64 = 1;
const NOTIFIED: u64 = 2;
const TICKET_SHIFT: u32 = 2;
/// Tickets count modulo 2^30.
const TICKETS: u64 = 1 << 30;
const GENERATION: u64 = 0xffff_ffff << 32;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// By a notification.
    Notified,
    /// The deadline passed.
    TimedOut,
    /// The holder of the lock died; the lock is recovered.
    HolderDied,
}

/// The lock that a condition belongs to, of either kind.
#[derive(Clone, Copy)]
pub enum UserLock<'a> {
    /// See [`lock`].
    Plain(&'a Word),
    /// See [`rlock`].
    Reentrant(&'a Word),
}

impl UserLock<'_> {
    /// How often the calling thread holds it.
    fn depth(&self, me: &Me<'_>) -> u64 {
        match self {
            UserLock::Plain(word) => lock::is_mine(me, word).into(),
            UserLock::Reentrant(word) => rlock::depth(word, thread::of(me)),
        }
    }

    fn release(&self) -> Result<()> {
        match self {
            UserLock::Plain(word) => lock::release(word),
            UserLock::Reentrant(word) => {
                rlock::release_all(word);
                Ok(())
            }
        }
    }

    fn acquire(&self, me: &Me<'_>, depth: u64) -> Step<Acquired> {
        match self {
            UserLock::Plain(word) => lock::acquire(me, word, Deadline::NEVER),
            UserLock::Reentrant(word) => rlock::acquire_deep(me, word, depth, Deadline::NEVER),
        }
    }

    /// Takes the lock from a holder that is gone; whether there was one.
    fn take_over(&self, me: &Me<'_>, depth: u64) -> Step<bool> {
        let (word, mine) = match self {
            UserLock::Plain(word) => (word, lock::word_for(me)),
            UserLock::Reentrant(word) => (word, rlock::word_for(me, depth)),
        };
        let seen = word.load(Ordering::Relaxed);
        if seen & !WAITERS == 0 {
            return Ok(false);
        }
        let gone = match self {
            UserLock::Plain(_) => lock::holder_is_gone(me.segment, seen)?,
            UserLock::Reentrant(_) => thread::is_gone(me.segment, seen)?,
        };
        // LINEARIZES: the CAS of the whole word; Acquire: what the dead holder did is visible.
        Ok(gone && word.cas(seen, mine | WAITERS, Ordering::Acquire).is_ok())
    }
}

/// How far a wait has come that a dead process may interrupt: it goes on where it was.
#[derive(Default)]
pub struct Progress {
    /// How often the lock was held; 0 before the thread has its place.
    depth: u64,
    end: Option<Woken>,
    acquired: Option<Acquired>,
}

impl Progress {
    /// Whether the thread has, or had, its place.
    pub fn has_begun(&self) -> bool {
        self.depth > 0
    }
}

/// Builds a condition of the lock with that id.
pub fn create(me: &Me<'_>, root_ref: &Word, lock: ObjectId) -> Result<()> {
    let words = cell::create_zeroed(me, root_ref, WORDS)?;
    words[LOCK].store(lock.pack(), Ordering::Relaxed);
    Ok(())
}

/// The lock that the condition at `root` belongs to.
pub fn lock_of(segment: &Segment, root: u64) -> Result<ObjectId> {
    Ok(ObjectId::unpack(words(segment, root)?[LOCK].load(Ordering::Relaxed)))
}

fn words(segment: &Segment, root: u64) -> Result<&[Word]> {
    segment.words(root, WORDS)
}

fn ticket_of(place: u64) -> u64 {
    place >> TICKET_SHIFT & (TICKETS - 1)
}

/// How many tickets lie between that one and `next`, which is later.
fn age(ticket: u64, next: u64) -> u64 {
    next.wrapping_sub(ticket) & (TICKETS - 1)
}

fn not_held() -> Error {
    Error::new(ErrorKind::NotHeld, "the lock of a condition, by the calling thread")
}

/// Waits for a notification, without the user's lock, and acquires it again.
///
/// # Errors
/// `NotHeld` if the calling thread does not hold the lock. Any other: the lock may not be held, and [`abandon`] is due.
pub fn wait(
    me: &Me<'_>,
    root: u64,
    lock: UserLock<'_>,
    deadline: Deadline,
    progress: &mut Progress,
) -> Step<(Acquired, Woken)> {
    let words = words(me.segment, root)?;
    let name = thread::of(me);
    let slot = thread::slot_of(name);
    let place = &words[PLACES..].get(slot).ok_or_else(|| Error::corrupted("a waiter's slot"))?;
    if progress.depth == 0 {
        let depth = lock.depth(me);
        if depth == 0 {
            return Err(not_held().into());
        }
        take_place(me.segment, words, slot, place, name & GENERATION)?;
        progress.depth = depth;
        lock.release()?;
    }
    let end = match progress.end {
        Some(end) => end,
        None => sleep(me, words, slot, lock, deadline, progress)?,
    };
    progress.end = Some(end);
    let acquired = match progress.acquired {
        Some(acquired) => acquired,
        None => lock.acquire(me, progress.depth)?,
    };
    // LINEARIZES: the swap, under the lock.
    let notified = place.swap(0, Ordering::AcqRel) & STATE == NOTIFIED;
    Ok((acquired, if notified { Woken::Notified } else { end }))
}

fn take_place(segment: &Segment, words: &[Word], slot: usize, place: &Word, generation: u64) -> Result<()> {
    let left = place.load(Ordering::Acquire);
    if left & STATE == NOTIFIED {
        // Of a thread that had this slot before, and is gone: somebody else may be waiting for it.
        // Ends: each round that fails, another thread has been notified.
        while let Some((other, seen)) = oldest(segment, words, ticket_of(left), slot)? {
            if notify_one(&words[PLACES + other], seen, ticket_of(left)) {
                break;
            }
        }
    }
    let ticket = words[TICKET].fetch_add(1, Ordering::Relaxed) & (TICKETS - 1);
    place.store(generation | ticket << TICKET_SHIFT | WAITING, Ordering::Release);
    Ok(())
}

/// Sleeps in the place of slot `slot` until it is notified, the deadline passes, or the holder of the lock dies.
fn sleep(
    me: &Me<'_>,
    words: &[Word],
    slot: usize,
    lock: UserLock<'_>,
    deadline: Deadline,
    progress: &mut Progress,
) -> Step<Woken> {
    let place = &words[PLACES + slot];
    let mut waiter = Waiter::until(deadline);
    loop {
        let seen = place.load(Ordering::Acquire);
        if seen & STATE != WAITING {
            return Ok(Woken::Notified);
        }
        match waiter.next() {
            Next::Look => {}
            Next::TimedOut => return Ok(Woken::TimedOut),
            Next::Sleep(slice) => {
                place.wait(seen as u32, slice);
                if place.load(Ordering::Acquire) != seen {
                    continue;
                }
                me.segment.still_member()?;
                if lock.take_over(me, progress.depth)? {
                    progress.acquired = Some(Acquired::Recovered);
                    return Ok(Woken::HolderDied);
                }
                inherit(me.segment, words, slot, seen)?;
            }
        }
    }
}

/// Takes over the notification of a thread that is gone, if there is one that this thread waited for, too.
fn inherit(segment: &Segment, words: &[Word], slot: usize, mine: u64) -> Step<()> {
    let used = usize::from(segment.slots_used());
    for (other, place) in words[PLACES..][..used].iter().enumerate() {
        let seen = place.load(Ordering::Acquire);
        let waited = (1..TICKETS / 2).contains(&age(ticket_of(mine), ticket_of(seen)));
        if other == slot || seen & STATE != NOTIFIED || !waited {
            continue;
        }
        if !thread::is_gone(segment, seen & GENERATION | (other as u64 + 1))? {
            continue;
        }
        let my_place = &words[PLACES + slot];
        if !notify_one(my_place, mine, ticket_of(seen)) {
            return Ok(()); // notified by somebody else
        }
        // If another was quicker, both return: to wait again could undo a notification of one's own that came meanwhile.
        let _ = place.cas(seen, 0, Ordering::AcqRel);
        return Ok(());
    }
    Ok(())
}

/// Notifies the thread in a place, as of the time when `next` was the next number; whether it was still waiting.
fn notify_one(place: &Word, seen: u64, next: u64) -> bool {
    // LINEARIZES: the CAS.
    let notified = place.cas(seen, seen & GENERATION | next << TICKET_SHIFT | NOTIFIED, Ordering::AcqRel).is_ok();
    if notified {
        place.wake(1);
    }
    notified
}

/// Every thread that waits and is not known to be gone: its age, its slot, its word.
fn waiting<'w>(
    segment: &'w Segment,
    words: &'w [Word],
    next: u64,
) -> impl Iterator<Item = Result<(u64, usize, u64)>> + 'w {
    let used = usize::from(segment.slots_used());
    words[PLACES..][..used].iter().enumerate().filter_map(move |(slot, place)| {
        let seen = place.load(Ordering::Acquire);
        if seen & STATE != WAITING {
            return None;
        }
        match segment.slot_state(slot as u16) {
            Ok(state) if state.used && u64::from(state.generation) == seen >> 32 => {
                Some(Ok((age(ticket_of(seen), next), slot, seen)))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    })
}

/// The longest waiting of those that waited when `next` was the next number, but for the one in slot `except`.
fn oldest(segment: &Segment, words: &[Word], next: u64, except: usize) -> Result<Option<(usize, u64)>> {
    let mut best: Option<(u64, usize, u64)> = None;
    for candidate in waiting(segment, words, next) {
        let (age, slot, seen) = candidate?;
        if slot != except && (1..TICKETS / 2).contains(&age) && best.is_none_or(|(most, ..)| age > most) {
            best = Some((age, slot, seen));
        }
    }
    Ok(best.map(|(_, slot, seen)| (slot, seen)))
}

/// Notifies the `count` threads that have waited longest. How many there were.
///
/// # Crash
/// Every thread's notification is a commit of its own.
///
/// # Errors
/// `NotHeld` if the calling thread does not hold the lock.
pub fn notify(me: &Me<'_>, root: u64, lock: UserLock<'_>, count: usize) -> Result<usize> {
    if lock.depth(me) == 0 {
        return Err(not_held());
    }
    let words = words(me.segment, root)?;
    let next = words[TICKET].load(Ordering::Relaxed) & (TICKETS - 1);
    let mut waiters = waiting(me.segment, words, next).collect::<Result<Vec<_>>>()?;
    waiters.sort_unstable_by_key(|(age, ..)| std::cmp::Reverse(*age));
    let mut notified = 0;
    for (_, slot, seen) in waiters {
        if notified == count {
            break;
        }
        notified += usize::from(notify_one(&words[PLACES + slot], seen, next));
    }
    Ok(notified)
}

/// Gives up the calling thread's place, after a wait that failed.
pub fn abandon(me: &Me<'_>, root: u64) -> Result<()> {
    if let Some(place) = words(me.segment, root)?.get(PLACES + thread::slot_of(thread::of(me))) {
        place.store(0, Ordering::Release);
    }
    Ok(())
}

/// Checks a condition at rest: every place is empty, or of a thread that there is or was, whose ticket is another than those
/// of all that wait.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    let mut tickets = std::collections::HashSet::new();
    for (slot, place) in words(segment, root)?[PLACES..].iter().enumerate() {
        let seen = place.load(Ordering::Acquire);
        if seen == 0 {
            continue;
        }
        let name = seen & GENERATION | (slot as u64 + 1);
        thread::check_name(segment, name, "a place of a condition")?;
        // Of the dead a place stays, and tickets begin anew some time.
        let waits = seen & STATE == WAITING && matches!(thread::is_gone(segment, name), Ok(false));
        if !matches!(seen & STATE, WAITING | NOTIFIED) || waits && !tickets.insert(ticket_of(seen)) {
            return Err(Error::corrupted("a place of a condition"));
        }
    }
    Ok(())
}
