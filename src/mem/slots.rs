//! Thread slots: the right of a thread to change a segment, and its intent record.
//!
//! A thread takes a slot at its first change of a segment and keeps it until it exits. Words that name an owner
//! (latches, claims, page words) hold `slot + 1`, never a thread id: a thread id means something in one pid
//! namespace only and is used again soon.
//!
//! Slot state, one word: `generation:32 | unused:16 | process:8 | unused:7 | used:1`.
//!
//! # Invariants
//!
//! 1. A slot is taken by one CAS and freed by one store; between them it belongs to one thread of one process.
//! 2. The generation rises with each use, so a word that names slot and generation names one thread for ever.
//! 3. A thread runs at most one operation at a time in a segment: a signal handler that interrupts one gets
//!    `Reentrant`.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Weak;
use std::sync::atomic::Ordering;

use super::heap::ThreadCache;
use super::intent::Intent;
use super::layout::{SLOTS, SlotRecord, header, slot_record};
use super::segment::Segment;
use super::word::Word;
use super::{Liveness, Step, Stop};
use crate::error::{Error, ErrorKind, Result};
use crate::os;

const USED: u64 = 1;

/// A slot and the generation of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId {
    /// Index of the slot.
    pub index: u16,
    /// How often it has been taken.
    pub generation: u32,
}

fn state_offset(index: u16) -> u64 {
    slot_record(index) + std::mem::offset_of!(SlotRecord, state) as u64
}

fn taken(generation: u32, process: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(process & 0xff) << 8 | USED
}

/// What the state word of a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Whether a thread owns it.
    pub used: bool,
    /// The process record of that thread.
    pub process: u32,
    /// The generation of this use, or of the last.
    pub generation: u32,
}

/// A thread's place in one segment, process-local.
struct Thread {
    segment_uid: u64,
    segment: Weak<Segment>,
    fork_generation: u64,
    slot: SlotId,
    /// The slot's intent record, and the state of this process's record: in the mapping of `segment`.
    intent: NonNull<[Word; 8]>,
    state: NonNull<Word>,
    business: Cell<Business>,
    cache: ThreadCache,
}

/// What a thread is doing in a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Business {
    Idle,
    /// An operation.
    Busy,
    /// An operation, after which the slot is given back: `THREADS` does not keep it.
    Last,
}

impl Drop for Thread {
    fn drop(&mut self) {
        if LAST.get() == Some(NonNull::from(&*self)) {
            LAST.set(None);
        }
        // In a forked child the slot is the parent's; in a segment that is gone there is nothing to give back. A thread
        // that ends in the middle of an operation (in `exit`, called by a signal handler) leaves it to recovery.
        if self.fork_generation != os::generation() || self.business.get() != Business::Idle {
            return;
        }
        if let Some(segment) = self.segment.upgrade()
            && segment.membership().is_current()
            && segment.still_member().is_ok()
        {
            segment.give_back(self.slot, || {});
        }
    }
}

thread_local! {
    static THREADS: RefCell<Vec<Rc<Thread>>> = const { RefCell::new(Vec::new()) };
    /// The one of `THREADS` that was used last, or nothing: it has no destructor, so to look here takes one load. A
    /// `Thread` clears it when it goes.
    static LAST: Cell<Option<NonNull<Thread>>> = const { Cell::new(None) };
}

/// The calling thread, inside an operation on a segment.
pub struct Me<'a> {
    /// The segment.
    pub segment: &'a Segment,
    /// The thread's intent record.
    pub intent: Intent<'a>,
    thread: InUse,
}

/// A thread's place during an operation.
#[derive(Clone, Copy)]
struct InUse(NonNull<Thread>);

impl std::ops::Deref for InUse {
    type Target = Thread;

    #[inline(always)]
    fn deref(&self) -> &Thread {
        // SAFETY: the pointer came from an `Rc<Thread>` that `THREADS` holds, or, for its `Last` business, nobody but the
        // `Me` itself, whose destructor frees it. `THREADS` lets go of it in two places: in `enter_slowly`, which keeps
        // those that are busy, as this one is until `Me` is dropped; and when the thread ends, after which no code of this
        // function runs. `Me`, and so `InUse`, is not `Send`.
        unsafe { self.0.as_ref() }
    }
}

/// A thread that has begun an operation: what [`Me::over`] is made of, in two registers.
#[must_use = "the thread stays busy until a `Me` is made of this and dropped"]
pub struct Entered<'a>(&'a Segment, InUse);

impl<'a> Me<'a> {
    /// The thread that has just entered a segment.
    #[inline(always)]
    pub fn over(Entered(segment, thread): Entered<'a>) -> Me<'a> {
        // SAFETY: as in `Segment::begin`; the reference lives as long as that to the segment.
        let intent = unsafe { (*thread.0.as_ptr()).intent.as_ref() };
        Me { segment, intent: Intent::over(intent), thread }
    }
}

impl Me<'_> {
    /// The thread's slot.
    #[inline(always)]
    pub fn slot(&self) -> SlotId {
        self.thread.slot
    }

    /// How owner fields name this thread: `slot + 1`.
    #[inline(always)]
    pub fn owner(&self) -> u64 {
        u64::from(self.thread.slot.index) + 1
    }

    /// The thread's private view of the slabs it owns.
    #[inline(always)]
    pub(super) fn slabs(&self) -> &ThreadCache {
        &self.thread.cache
    }
}

impl Drop for Me<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.thread.business.replace(Business::Idle) == Business::Last {
            give_up(self.thread.0);
        }
    }
}

/// Frees a place that nobody keeps.
#[cold]
#[inline(never)]
fn give_up(thread: NonNull<Thread>) {
    // SAFETY: `enter_slowly` took the pointer from an `Rc`, which it gave away with `Rc::into_raw` for a place with `Last`
    // business, which ends once.
    drop(unsafe { Rc::from_raw(thread.as_ptr()) });
}

impl Segment {
    /// Begins an operation of the calling thread.
    ///
    /// # Errors
    /// `Evicted` when this process was judged dead; `Reentrant` inside another operation of this thread; `TooMany`
    /// when all slots are taken by the living. `Stop::Dead` when a dead process must be recovered to go on.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn enter(&self) -> Step<Me<'_>> {
        #[cfg(debug_assertions)]
        if super::armed::is_dead() {
            return Err(Error::new(ErrorKind::Evicted, "a thread that a test has killed").into());
        }
        let generation = os::generation();
        match self.last_thread(generation) {
            Some(thread) => self.begin(InUse(thread)),
            None => self.enter_slowly(generation),
        }
    }

    /// The short way of [`enter`](Segment::enter), for [`Me::over`]: of a thread that used this segment last. What it returns
    /// fits two registers; a `Me` that is moved out of a `Result` is written in halves and read as a whole, which stalls.
    #[inline(always)]
    pub fn enter_quickly(&self) -> Option<Entered<'_>> {
        #[cfg(debug_assertions)]
        if super::armed::is_dead() {
            return None;
        }
        let thread = InUse(self.last_thread(os::generation())?);
        // SAFETY: as in `begin`.
        let state = unsafe { thread.state.as_ref() };
        if !self.is_member(state) || thread.business.get() != Business::Idle {
            return None;
        }
        thread.business.set(Business::Busy);
        Some(Entered(self, thread))
    }

    #[inline(always)]
    fn begin(&self, thread: InUse) -> Step<Me<'_>> {
        // SAFETY: `enter_slowly` took both from this very segment (the same `uid`), whose mapping lasts as long as `self`.
        // They are words of records, below every limit, and words are atomics, whoever else writes them.
        let (intent, state) = unsafe { (thread.intent.as_ref(), thread.state.as_ref()) };
        if !self.is_member(state) || thread.business.get() != Business::Idle {
            self.look_closer(thread)?;
        }
        thread.business.set(Business::Busy);
        Ok(Me { segment: self, intent: Intent::over(intent), thread })
    }

    /// Why the calling thread may not begin an operation; if its process is but an heir still, it may.
    #[cold]
    #[inline(never)]
    fn look_closer(&self, thread: InUse) -> Result<()> {
        self.still_member()?;
        match thread.business.get() {
            Business::Idle => Ok(()),
            _ => Err(Error::new(ErrorKind::Reentrant, "an operation inside another one of the same thread")),
        }
    }

    /// The slot of the calling thread, if it has one and its process is a member: for what needs a name and no intent.
    #[inline(always)]
    pub fn current_slot(&self) -> Option<SlotId> {
        let thread = InUse(self.last_thread(os::generation())?);
        // SAFETY: as in `begin`.
        let state = unsafe { thread.state.as_ref() };
        self.is_member(state).then_some(thread.slot)
    }

    /// The calling thread's place in this segment, if this is the segment that it used last.
    #[inline(always)]
    fn last_thread(&self, generation: u64) -> Option<NonNull<Thread>> {
        LAST.get().filter(|thread| {
            // SAFETY: what `LAST` points to is alive: a `Thread` clears it when it is dropped, and nobody else frees one.
            let thread = unsafe { thread.as_ref() };
            thread.segment_uid == self.uid && thread.fork_generation == generation
        })
    }

    #[cold]
    #[inline(never)]
    fn enter_slowly(&self, generation: u64) -> Step<Me<'_>> {
        if !self.membership().is_current() {
            self.rejoin()?;
            // As at every attaching: what the dead hold, slabs not least, is of use to the living.
            if let Some((corpse, _)) = self.processes().find(|(_, l)| matches!(l, Ok(Liveness::Dead))) {
                return Err(Stop::Dead(corpse));
            }
        }
        let kept = THREADS.try_with(|threads| {
            let mut threads = threads.try_borrow_mut().ok()?;
            threads.retain(|t| {
                t.business.get() != Business::Idle || t.fork_generation == generation && t.segment.strong_count() > 0
            });
            let thread = threads.iter().find(|t| t.segment_uid == self.uid && t.fork_generation == generation)?;
            Some(NonNull::from(&**thread))
        });
        if let Ok(Some(thread)) = kept {
            LAST.set(Some(thread));
            return self.begin(InUse(thread));
        }
        let slot = self.claim_slot()?;
        let intent = self.words(slot_record(slot.index), 8)?.first_chunk().expect("eight words");
        let thread = Rc::new(Thread {
            segment_uid: self.uid,
            segment: self.myself.clone(),
            fork_generation: generation,
            slot,
            intent: NonNull::from(intent),
            state: NonNull::from(self.state_word()?),
            business: Cell::new(Business::Idle),
            cache: ThreadCache::default(),
        });
        let pointer = NonNull::new(Rc::as_ptr(&thread).cast_mut()).expect("an `Rc` is never null");
        let kept = THREADS.try_with(|threads| {
            let Ok(mut threads) = threads.try_borrow_mut() else { return false };
            threads.push(Rc::clone(&thread));
            LAST.set(Some(pointer));
            true
        });
        let me = self.begin(InUse(pointer));
        if !kept.unwrap_or(false) && me.is_ok() {
            // After the thread's destructors have run (or in a signal handler that interrupts this very function) the slot
            // serves this one operation and is given back with it.
            thread.business.set(Business::Last);
            let _ = Rc::into_raw(thread);
        }
        me
    }

    /// The state word of slot `index`.
    fn slot_word(&self, index: u16) -> Result<&Word> {
        if u64::from(index) >= SLOTS {
            return Err(Error::corrupted("a thread slot is out of range"));
        }
        self.word(state_offset(index))
    }

    /// What slot `index` is used for.
    ///
    /// # Errors
    /// `Corrupted` for an index that does not exist.
    pub fn slot_state(&self, index: u16) -> Result<SlotState> {
        let word = self.slot_word(index)?.load(Ordering::Acquire);
        Ok(SlotState { used: word & USED != 0, process: (word >> 8) as u32 & 0xff, generation: (word >> 32) as u32 })
    }

    /// The intent record of slot `index`.
    pub fn intent_of(&self, index: u16) -> Result<Intent<'_>> {
        if u64::from(index) >= SLOTS {
            return Err(Error::corrupted("a thread slot is out of range"));
        }
        Ok(Intent::over(self.words(slot_record(index), 8)?.first_chunk().expect("eight words")))
    }

    /// One more than the highest slot ever used: the bound of every scan of intents.
    pub fn slots_used(&self) -> u16 {
        self.header(header!(slots_used)).load(Ordering::SeqCst).min(SLOTS) as u16
    }

    #[cold]
    fn claim_slot(&self) -> Step<SlotId> {
        if let Some(slot) = self.try_claim_slot()? {
            return Ok(slot);
        }
        // Slots of threads of this process that exited without their destructors.
        let me = self.membership().me().index;
        for index in 0..self.slots_used() {
            let state = self.slot_state(index)?;
            let tid = self.word(slot_record(index) + std::mem::offset_of!(SlotRecord, tid) as u64)?;
            let tid = tid.load(Ordering::Relaxed) as u32; // 0 while the slot is being taken
            let idle = self.intent_of(index)?.is_clear();
            if state.used && state.process == me && idle && tid != 0 && !os::thread_exists(tid) {
                self.give_back(SlotId { index, generation: state.generation }, || {});
            }
        }
        if let Some(slot) = self.try_claim_slot()? {
            return Ok(slot);
        }
        for (index, liveness) in self.processes() {
            if liveness? == Liveness::Dead {
                return Err(Stop::Dead(index));
            }
        }
        Err(Error::new(ErrorKind::TooMany, "threads in the segment").into())
    }

    fn try_claim_slot(&self) -> Result<Option<SlotId>> {
        let process = self.membership().me().index;
        for index in 0..SLOTS as u16 {
            let word = self.slot_word(index)?;
            let seen = word.load(Ordering::Acquire);
            if seen & USED != 0 {
                continue;
            }
            // The high-water mark first: whoever scans intents must see every slot that can hold one.
            self.header(header!(slots_used)).fetch_max(u64::from(index) + 1, Ordering::SeqCst);
            let generation = ((seen >> 32) as u32).wrapping_add(1);
            if word.cas(seen, taken(generation, process), Ordering::AcqRel).is_ok() {
                let tid = std::mem::offset_of!(SlotRecord, tid) as u64;
                self.word(slot_record(index) + tid)?.store(u64::from(os::tid()), Ordering::Relaxed);
                return Ok(Some(SlotId { index, generation }));
            }
        }
        Ok(None)
    }

    /// Gives back a slot of this process, after `put_right`, unless somebody did so before: a thread that ends and the last
    /// to leave the segment may both come here, and the slot may be another process's by then.
    pub fn give_back(&self, slot: SlotId, put_right: impl FnOnce()) {
        let _one_at_a_time = self.giving_back.get().lock();
        let me = self.membership().me().index;
        let still = SlotState { used: true, process: me, generation: slot.generation };
        if self.slot_state(slot.index).is_ok_and(|state| state == still) {
            put_right();
            self.free_slot(slot.index);
        }
    }

    /// Gives slot `index` back: its slabs first, so that no page names a slot that somebody else may take.
    ///
    /// # Crash
    /// Every step is idempotent; the slot stays used until the last.
    pub fn free_slot(&self, index: u16) {
        self.release_slabs(index);
        let tid = std::mem::offset_of!(SlotRecord, tid) as u64;
        if let (Ok(word), Ok(tid)) = (self.slot_word(index), self.word(slot_record(index) + tid)) {
            tid.store(0, Ordering::Relaxed);
            let seen = word.load(Ordering::Relaxed);
            word.store(seen >> 32 << 32, Ordering::Release);
        }
    }
}
