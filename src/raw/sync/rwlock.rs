//! The read-write lock: a mutex among writers, a gate that shuts readers out, and a cell for each reader.
//!
//! The root block: the words of a [cell](super::super::cell), whose lock word is the mutex,
//! `generation:32 | unused:15 | waiters:1 | owner:16`; then `GATE`,
//! `generation:32 | unused:14 | dirty:1 | readers:1 | owner:16`, which names the thread that has closed it; then from
//! `READERS` on one word for each thread slot, `generation:32 | count:14 | waiting:1 | waiters:1 | owner:16`.
//!
//! # Algorithm
//!
//! A count of readers cannot be repaired after a kill, so each reader stores its own word and then looks at the gate; a
//! writer closes the gate and then waits for the words (Dekker's pattern, SeqCst). A reader that finds the gate closed waits
//! in its cell, and the writer that opens the gate lets in everybody who waits *before* anybody else can close it: readers
//! wait for at most one writer, and a writer for at most those readers that are in when it closes the gate ("phase-fair",
//! after Brandenburg and Anderson, 2010). Who holds the mutex with the gate open reads along with the readers and can
//! close the gate later: the upgradable form.
//!
//! # Thread safety and crash
//!
//! 1. Only the holder of the mutex closes the gate, and only who closed it opens it.
//! 2. A reader's word is changed by its thread, but for two CASes: a writer turns `waiting` into a count, or sets the
//!    waiters' bit to sleep on the word. The word of a reader that is gone is cleared by whoever waits for it.
//! 3. A reader sets the gate's `readers` bit after its own, by a CAS that finds the gate still closed. An opener takes the
//!    bit away, lets the waiting in, and opens by a CAS that finds the bit still away.
//! 4. A gate whose closer is gone is *dirty* until a writer has gone through it: who gets the lock meanwhile is told.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::super::cell;
use super::super::lock::{self, Acquired, WAITERS};
use super::super::wait::{Deadline, Next, Waiter};
use super::rlock;
use super::thread::{self, NAME, Threads};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::layout::SLOTS;
use crate::mem::{Segment, Step, Word};

const GATE: usize = 2;
const _: () = assert!(GATE == cell::WORDS);
const READERS: usize = GATE + 1;
/// Words beside the cell's.
pub const MORE: usize = 1 + SLOTS as usize;

/// Of the gate: a reader waits.
const WAITED_FOR: u64 = 1 << 16;
/// Of the gate: a writer is gone that had not opened it.
const DIRTY: u64 = 1 << 17;
/// Of a reader: it waits in its cell.
const WAITING: u64 = 1 << 17;
const COUNT_SHIFT: u32 = 18;
const COUNT: u64 = 0x3fff << COUNT_SHIFT;
const ONE: u64 = 1 << COUNT_SHIFT;
/// Rounds of letting in those who come while others are let in; who comes later looks again after its slice.
const ROUNDS: u32 = 16;

/// The lock at some root.
#[derive(Clone, Copy)]
pub struct RwLock<'a> {
    threads: &'a dyn Threads,
    words: &'a [Word],
}

impl<'a> RwLock<'a> {
    /// The lock at `root`.
    #[inline]
    pub fn at(segment: &'a Segment, root: u64) -> Result<RwLock<'a>> {
        Ok(RwLock { threads: segment, words: segment.words(root, cell::WORDS + MORE)? })
    }

    /// The lock in these words: a cell, the gate, and a word for each thread.
    #[cfg(loom)]
    pub fn over(threads: &'a dyn Threads, words: &'a [Word]) -> RwLock<'a> {
        RwLock { threads, words }
    }

    fn mutex(&self) -> &'a Word {
        &self.words[0]
    }

    fn gate(&self) -> &'a Word {
        &self.words[GATE]
    }

    fn reader(&self, name: u64) -> Result<&'a Word> {
        self.words[READERS..].get(thread::slot_of(name)).ok_or_else(|| Error::corrupted("a reader's slot"))
    }

    /// The words of all that may be readers.
    fn readers(&self) -> &'a [Word] {
        &self.words[READERS..][..self.threads.slots_used()]
    }

    /// Takes the lock for reading, as the thread of that name, unless the gate is closed.
    #[inline]
    pub fn enter(&self, name: u64) -> Result<Option<Acquired>> {
        let word = self.reader(name)?;
        let seen = word.load(Relaxed);
        if seen & NAME == name && seen & COUNT != 0 {
            if seen & COUNT == COUNT {
                return Err(Error::new(ErrorKind::TooMany, "readings of a read-write lock by one thread"));
            }
            word.fetch_add(ONE, Relaxed);
            return Ok(Some(outcome(self.gate().load(Acquire))));
        }
        self.put(word, name | ONE);
        // LINEARIZES: the load, if the gate is open. SeqCst: a writer that this load does not see sees the reader's word.
        let gate = self.gate().load(SeqCst);
        if gate & NAME == 0 {
            return Ok(Some(outcome(gate)));
        }
        self.put(word, 0);
        Ok(None)
    }

    /// Replaces a reader's word, and wakes the writer that sleeps on it.
    #[inline]
    fn put(&self, word: &Word, value: u64) {
        if word.swap(value, SeqCst) & WAITERS != 0 {
            word.wake(u32::MAX);
        }
    }

    /// Takes the lock for reading, as the thread of that name.
    ///
    /// # Blocking
    /// While a writer has it or waits for the readers before this one; at most for one writer.
    ///
    /// # Errors
    /// `WouldDeadlock` if the calling thread is the writer; `TooMany` at 16383 readings by one thread.
    #[cold]
    pub fn read(&self, name: u64, deadline: Deadline) -> Step<Acquired> {
        let word = self.reader(name)?;
        let mut waiter = Waiter::until(deadline);
        let mut judged = false;
        loop {
            if let Some(acquired) = self.enter(name)? {
                return Ok(acquired);
            }
            let gate = self.gate().load(SeqCst);
            if gate & NAME == name {
                return Err(Error::new(ErrorKind::WouldDeadlock, "a read-write lock that this thread writes").into());
            }
            let next = waiter.next();
            if next != Next::Look && gate & NAME != 0 && !std::mem::replace(&mut judged, true) && self.is_left(gate)? {
                continue;
            }
            let slice = match next {
                Next::Look => continue,
                Next::TimedOut => return Ok(Acquired::TimedOut),
                Next::Sleep(slice) => slice,
            };
            self.put(word, name | WAITING);
            // SeqCst: whoever opens another gate than the one seen makes the CAS fail, or sees the word.
            if gate & NAME != 0 && self.gate().cas(gate, gate | WAITED_FOR, SeqCst).is_ok() {
                word.wait((name | WAITING) as u32, slice);
                judged = false;
            }
            // Acquire: what the writer did who has let this thread in is visible. Failing means that one has.
            if word.cas(name | WAITING, 0, Acquire).is_err() {
                return Ok(outcome(self.gate().load(Acquire)));
            }
        }
    }

    /// Whether the closer of the gate is gone; if so, the gate is open and dirty now.
    fn is_left(&self, gate: u64) -> Step<bool> {
        if !self.threads.is_gone(gate)? {
            return Ok(false);
        }
        // Failing, somebody else has done it, or a writer has taken over.
        let _ = self.gate().cas(gate, gate & WAITED_FOR | DIRTY, SeqCst);
        Ok(true)
    }

    /// Ends one reading of the thread of that name.
    ///
    /// # Errors
    /// `NotHeld` if it does not read.
    #[inline]
    pub fn end_read(&self, name: u64) -> Result<()> {
        let word = self.reader(name)?;
        let seen = word.load(Relaxed);
        if seen & NAME != name || seen & COUNT == 0 {
            return Err(Error::new(ErrorKind::NotHeld, "a read-write lock, for reading by the calling thread"));
        }
        if seen & COUNT == ONE {
            // LINEARIZES: the swap; SeqCst, so Release: the writer sees that the reading is over.
            self.put(word, 0);
        } else {
            word.fetch_add(ONE.wrapping_neg(), Release);
        }
        Ok(())
    }

    /// Whether the thread of that name reads.
    fn reads(&self, name: u64) -> Result<bool> {
        let seen = self.reader(name)?.load(Relaxed);
        Ok(seen & NAME == name && seen & COUNT != 0)
    }

    /// Takes the lock for writing, as the thread of that name.
    ///
    /// # Blocking
    /// While another has the mutex, and then for those who read when the gate is closed.
    ///
    /// # Errors
    /// `WouldDeadlock` if the calling thread reads or writes already.
    pub fn write(&self, name: u64, deadline: Deadline) -> Step<Acquired> {
        if self.reads(name)? {
            return Err(Error::new(ErrorKind::WouldDeadlock, "a read-write lock that this thread reads").into());
        }
        if self.take_mutex(name, deadline)? == Acquired::TimedOut {
            return Ok(Acquired::TimedOut);
        }
        let result = self.close(name, deadline);
        if !matches!(result, Ok(Acquired::Clean | Acquired::Recovered)) {
            rlock::release_all(self.mutex());
        }
        result
    }

    fn take_mutex(&self, name: u64, deadline: Deadline) -> Step<Acquired> {
        lock::take(self.mutex(), name, deadline, &|seen| self.threads.is_gone(seen))
    }

    /// Closes the gate, as the holder of the mutex, and waits until the readers are out. If they are not in time, it is
    /// open again.
    fn close(&self, name: u64, deadline: Deadline) -> Step<Acquired> {
        let acquired = loop {
            let seen = self.gate().load(Relaxed);
            // Somebody's name: without the mutex they are gone.
            let dirty = if seen & NAME != 0 { DIRTY } else { seen & DIRTY };
            // SeqCst: a reader that does not see the closed gate is seen by `drain`.
            if self.gate().cas(seen, name | dirty | seen & WAITED_FOR, SeqCst).is_ok() {
                break if dirty != 0 { Acquired::Recovered } else { Acquired::Clean };
            }
        };
        match self.drain(name, deadline) {
            // LINEARIZES: the last reader's leaving.
            Ok(true) => Ok(acquired),
            Ok(false) => {
                self.open(DIRTY);
                Ok(Acquired::TimedOut)
            }
            Err(stop) => {
                self.open(DIRTY);
                Err(stop)
            }
        }
    }

    /// Waits until nobody reads; false if the deadline passes first.
    fn drain(&self, name: u64, deadline: Deadline) -> Step<bool> {
        for word in self.readers() {
            let mut waiter = Waiter::until(deadline);
            let mut judged = false;
            loop {
                let seen = word.load(SeqCst);
                if seen & COUNT == 0 || seen & NAME == name {
                    break;
                }
                let next = waiter.next();
                if next != Next::Look && !std::mem::replace(&mut judged, true) && self.threads.is_gone(seen)? {
                    let _ = word.cas(seen, 0, Relaxed); // failing, the slot has a new user
                    continue;
                }
                match next {
                    Next::Look => {}
                    Next::TimedOut => return Ok(false),
                    Next::Sleep(slice) => {
                        if seen & WAITERS != 0 || word.cas(seen, seen | WAITERS, Relaxed).is_ok() {
                            word.wait((seen | WAITERS) as u32, slice);
                            judged = false;
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// Lets in who waits and opens the gate, of whose flags those in `keep` stay.
    fn open(&self, keep: u64) {
        for _ in 0..ROUNDS {
            let seen = self.gate().load(Relaxed);
            if seen & WAITED_FOR == 0 {
                // LINEARIZES: the CAS; SeqCst, so Release: who enters sees what was written.
                if self.gate().cas(seen, seen & keep, SeqCst).is_ok() {
                    return;
                }
                continue; // a reader has set the bit
            }
            self.gate().fetch_and(!WAITED_FOR & !(DIRTY & !keep), SeqCst);
            for word in self.readers() {
                let seen = word.load(SeqCst);
                // Release: who is let in sees what was written.
                if seen & WAITING != 0 && word.cas(seen, seen & !(WAITING | COUNT) | ONE, SeqCst).is_ok() {
                    word.wake(1);
                }
            }
        }
        self.gate().fetch_and(keep, SeqCst);
    }

    /// Ends the writing of the thread of that name; with the mutex kept, it goes on as the upgradable form.
    ///
    /// # Errors
    /// `NotHeld` if it does not write.
    pub fn end_write(&self, name: u64, keeps_mutex: bool) -> Result<()> {
        if self.mutex().load(Relaxed) & NAME != name || self.gate().load(Relaxed) & NAME != name {
            return Err(Error::new(ErrorKind::NotHeld, "a read-write lock, for writing by the calling thread"));
        }
        self.open(0);
        if !keeps_mutex {
            rlock::release_all(self.mutex());
        }
        Ok(())
    }

    /// Takes the upgradable form: reading, while nobody else writes or is upgradable.
    ///
    /// # Blocking
    /// While another has the mutex.
    ///
    /// # Errors
    /// `WouldDeadlock` if the calling thread writes or is upgradable already.
    pub fn upgradable(&self, name: u64, deadline: Deadline) -> Step<Acquired> {
        if self.take_mutex(name, deadline)? == Acquired::TimedOut {
            return Ok(Acquired::TimedOut);
        }
        if self.gate().load(Relaxed) & NAME != 0 {
            // Closed by a holder of the mutex that is gone. The bit first, which stays.
            self.gate().fetch_or(DIRTY, Relaxed);
            self.open(DIRTY);
        }
        Ok(outcome(self.gate().load(Acquire)))
    }

    /// Closes the gate, as the upgradable thread.
    ///
    /// # Errors
    /// `NotHeld` if the calling thread is not upgradable; `WouldDeadlock` if it reads as well.
    pub fn upgrade(&self, name: u64, deadline: Deadline) -> Step<Acquired> {
        if !self.is_upgradable(name) {
            return Err(Error::new(ErrorKind::NotHeld, "an upgradable read-write lock").into());
        }
        if self.reads(name)? {
            return Err(Error::new(ErrorKind::WouldDeadlock, "a read-write lock that this thread reads").into());
        }
        self.close(name, deadline)
    }

    fn is_upgradable(&self, name: u64) -> bool {
        self.mutex().load(Relaxed) & NAME == name && self.gate().load(Relaxed) & NAME != name
    }

    /// Ends the upgradable form of the thread of that name.
    ///
    /// # Errors
    /// `NotHeld` if it is not upgradable.
    pub fn end_upgradable(&self, name: u64) -> Result<()> {
        if !self.is_upgradable(name) {
            return Err(Error::new(ErrorKind::NotHeld, "an upgradable read-write lock"));
        }
        rlock::release_all(self.mutex());
        Ok(())
    }

    /// Whether the thread of that name may write.
    pub fn is_writer(&self, name: u64) -> bool {
        self.gate().load(Acquire) & NAME == name
    }

    /// Whether anybody writes, or waits to until the readers are out.
    pub fn is_write_locked(&self) -> bool {
        self.gate().load(Acquire) & NAME != 0
    }

    /// Threads that read.
    pub fn count_readers(&self) -> usize {
        self.readers().iter().filter(|word| word.load(Acquire) & COUNT != 0).count()
    }
}

/// Checks a read-write lock at rest; its cell is checked elsewhere.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    let lock = RwLock::at(segment, root)?;
    rlock::check_uncounted(segment, lock.mutex())?;
    let (mutex, gate) = (lock.mutex().load(Acquire), lock.gate().load(Acquire));
    thread::check_name(segment, gate, "the gate of a read-write lock")?;
    if gate & !(NAME | WAITED_FOR | DIRTY) != 0 {
        return Err(Error::corrupted("the gate of a read-write lock"));
    }
    // Who waits acts by itself when a holder dies: what was read of both words must be of one moment.
    let is_one_state = || (lock.mutex().load(Acquire), lock.gate().load(Acquire)) == (mutex, gate);
    let is_strange = gate & NAME != 0 && gate & NAME != mutex & NAME;
    if is_strange && matches!(thread::is_gone(segment, gate), Ok(false)) && is_one_state() {
        return Err(Error::corrupted("a read-write lock whose gate was closed without the mutex"));
    }
    for (slot, word) in lock.words[READERS..].iter().enumerate() {
        let seen = word.load(Acquire);
        if seen == 0 {
            continue;
        }
        thread::check_name(segment, seen, "a reader of a read-write lock")?;
        if thread::slot_of(seen) != slot || (seen & WAITING != 0) == (seen & COUNT != 0) {
            return Err(Error::corrupted("a reader of a read-write lock"));
        }
    }
    Ok(())
}

fn outcome(gate: u64) -> Acquired {
    if gate & DIRTY != 0 { Acquired::Recovered } else { Acquired::Clean }
}
