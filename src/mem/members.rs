//! The processes of a segment: joining, leaving, and proof of death.
//!
//! # Thread safety and protocol
//!
//! A process takes a byte lock (its *life lock*) on the segment file, through an open file description of its own,
//! and then fills the record of the same index. The kernel drops the lock after the last thread of the process has
//! left user mode, so a free byte under a living record is evidence of death, in any pid namespace.
//!
//! Record state, one word: `state:8 | incarnation:24 | by:8 | by_incarnation:24`.
//!
//! ```text
//! FREE(i) --join--> ALIVE(i+1) --begin_recovery--> RECOVERING(i+1, by) --finish--> FREE(i+1)
//!                     |  surrender                     | hand back, three times
//!                     v                                v
//!                SURRENDERED(i+1)               SURRENDERED(i+1) / POISONED(i+1)
//!
//! dead(i) --inherit--> ALIVE(i, tag) --settle--> ALIVE(i+1)
//! ```
//!
//! An heir (`inherit`) is alive in the incarnation of the dead, under a tag in the place of `by`, until it has put right
//! what that left. So an incarnation is over when, and only when, everything that it left has been put right.
//!
//! # Invariants
//!
//! 1. A record is written only under its byte lock, and only while FREE (so a kill while joining leaves a FREE record) or
//!    while its process is dead (see `inherit`).
//! 2. Whoever is RECOVERING a record is the only one who touches what the dead process had under way; the claim is
//!    taken over when the recoverer is dead itself.
//! 3. What cannot be known counts as alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as LocalU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::layout::{PROCESSES, ProcessRecord, header, process_record};
use super::segment::Segment;
use super::word::{Space, Word};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, Evidence, FileId, Identity, LifeLock, PerProcess};

const FREE: u64 = 0;
const ALIVE: u64 = 1;
const RECOVERING: u64 = 2;
const SURRENDERED: u64 = 3;
const POISONED: u64 = 4;

/// How often joining looks again while somebody probes for abandonment, a millisecond each.
const JOIN_TRIES: u32 = 1000;

/// Failed recoveries after which a record is left alone.
const MAX_FAILURES: u64 = 3;

/// Index of a process record and its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Index of the record.
    pub index: u32,
    /// How often the record has been used.
    pub incarnation: u32,
}

#[inline(always)]
fn pack(state: u64, incarnation: u32, by: ProcessId) -> u64 {
    state << 56
        | u64::from(incarnation & 0xff_ffff) << 32
        | u64::from(by.index & 0xff) << 24
        | u64::from(by.incarnation & 0xff_ffff)
}

const NOBODY: ProcessId = ProcessId { index: 0, incarnation: 0 };
/// The bits of an heir's tag: those of `by`. It is random, so that no heir's word is like another's before it.
const TAG: u64 = 0xffff_ffff;

fn next(incarnation: u32) -> u32 {
    (incarnation + 1) & 0xff_ffff
}

fn state_of(word: u64) -> u64 {
    word >> 56
}

fn incarnation_of(word: u64) -> u32 {
    (word >> 32) as u32 & 0xff_ffff
}

fn recoverer_of(word: u64) -> ProcessId {
    ProcessId { index: (word >> 24) as u32 & 0xff, incarnation: word as u32 & 0xff_ffff }
}

/// This process's place in a segment. Process-local; a forked child is no member until it joins for itself.
pub struct Membership {
    /// None in a forked child that has not joined yet; its parent's was closed by a hook.
    life: PerProcess<Mutex<Option<Arc<LifeLock>>>>,
    /// The fork generation in which this process joined.
    generation: LocalU64,
    /// `index << 32 | incarnation`.
    me: LocalU64,
    /// The tag of an heir that has not put right yet what came with its record; else 0.
    tag: LocalU64,
}

impl Membership {
    /// A membership that has not joined yet.
    pub fn outside(life: LifeLock) -> Membership {
        let own = PerProcess::new(|_| Mutex::new(None));
        *own.get().lock() = Some(Arc::new(life));
        Membership { life: own, generation: LocalU64::new(0), me: LocalU64::new(0), tag: LocalU64::new(0) }
    }

    /// Whether this very process (and not the one that forked it) has joined.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        self.generation.load(Ordering::Acquire) == os::generation() // local
    }

    /// The record of this process.
    #[inline(always)]
    pub fn me(&self) -> ProcessId {
        let me = self.me.load(Ordering::Relaxed); // local
        ProcessId { index: (me >> 32) as u32, incarnation: me as u32 }
    }

    pub(super) fn life(&self) -> Result<Arc<LifeLock>> {
        let life = self.life.get().lock().clone();
        life.ok_or_else(|| Error::new(ErrorKind::Evicted, "this process has not joined the segment"))
    }

    /// Whether the record came from a dead process, and what that left undone has not been put right yet.
    pub fn is_heir(&self) -> bool {
        self.tag.load(Ordering::Relaxed) != 0 // local
    }

    /// The state word of this process's record as long as nobody has judged it dead.
    fn alive(&self) -> u64 {
        pack(ALIVE, self.me().incarnation, NOBODY) | self.tag.load(Ordering::Relaxed) // local
    }

    /// Notes that this process owns record `index`.
    fn become_member(&self, index: u32, incarnation: u32) {
        self.me.store(u64::from(index) << 32 | u64::from(incarnation), Ordering::Relaxed); // local
        self.generation.store(os::generation(), Ordering::Release); // local
    }

    /// The same, of a record that was a dead process's, in the incarnation of that.
    pub(super) fn become_heir(&self, index: u32, succession: &Succession) {
        self.tag.store(succession.after & TAG, Ordering::Relaxed); // local
        self.become_member(index, incarnation_of(succession.after));
    }
}

/// What is known of a process record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Nobody uses the record.
    Free,
    /// The process lives, or nothing proves otherwise.
    Alive,
    /// The process is gone and what it left waits for recovery.
    Dead,
    /// The process is gone and recovery gave up on it.
    Poisoned,
}

const _: () = assert!(std::mem::offset_of!(ProcessRecord, state) == 0);

pub(super) fn record(space: &Space, index: u32) -> Result<&[Word]> {
    if u64::from(index) >= PROCESSES {
        return Err(Error::corrupted("a process index is out of range"));
    }
    space.words(process_record(index), size_of::<ProcessRecord>() / 8)
}

/// Field of a process record.
macro_rules! field {
    ($words:expr, $field:ident) => {
        $words[std::mem::offset_of!(ProcessRecord, $field) / 8]
    };
}

/// Joins the segment as a new process.
///
/// # Crash
/// Before the record says ALIVE nothing has happened; after it the process is a member that others recover.
///
/// # Errors
/// `TooMany` when all records are in use.
pub(super) fn join(space: &Space, membership: &Membership) -> Result<()> {
    let life = membership.life()?;
    join_by(&life, space, membership)
}

fn join_by(life: &LifeLock, space: &Space, membership: &Membership) -> Result<()> {
    for _ in 0..JOIN_TRIES {
        let mut probed = false;
        for index in 0..PROCESSES as u32 {
            match try_join(space, membership, life, index)? {
                Joining::Joined => return Ok(()),
                Joining::Probed => probed = true,
                Joining::Taken => {}
            }
        }
        if !probed {
            break;
        }
        // Somebody holds every byte for a moment to find out whether the segment is abandoned.
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Error::new(ErrorKind::TooMany, "processes in the segment"))
}

enum Joining {
    Joined,
    /// The record is free and its byte is not.
    Probed,
    Taken,
}

fn try_join(space: &Space, membership: &Membership, life: &LifeLock, index: u32) -> Result<Joining> {
    let words = record(space, index)?;
    let state = &field!(words, state);
    if state_of(state.load(Ordering::Acquire)) != FREE {
        return Ok(Joining::Taken);
    }
    if !life.try_lock(index).map_err(life_error)? {
        return Ok(Joining::Probed);
    }
    let seen = state.load(Ordering::Acquire);
    if state_of(seen) != FREE {
        life.unlock(index).map_err(life_error)?;
        return Ok(Joining::Taken);
    }
    let incarnation = next(incarnation_of(seen));
    identify(words);
    field!(words, failures).store(0, Ordering::Relaxed);
    space.word(header!(processes_used))?.fetch_max(u64::from(index) + 1, Ordering::AcqRel);
    state.store(pack(ALIVE, incarnation, NOBODY), Ordering::Release);
    membership.become_member(index, incarnation);
    Ok(Joining::Joined)
}

/// Writes who the calling process is into a record.
pub(super) fn identify(words: &[Word]) {
    let identity = os::me();
    field!(words, pid).store(u64::from(identity.pid), Ordering::Relaxed);
    field!(words, start_time).store(identity.start_time, Ordering::Relaxed);
    field!(words, pid_ns).store(identity.pid_ns, Ordering::Relaxed);
    field!(words, time_ns).store(identity.time_ns, Ordering::Relaxed);
    let boot = std::mem::offset_of!(ProcessRecord, boot) / 8;
    words[boot].store(identity.boot[0], Ordering::Relaxed);
    words[boot + 1].store(identity.boot[1], Ordering::Relaxed);
}

/// How a dead process's record becomes another's.
pub(super) struct Succession {
    /// The state word of the dead.
    pub before: u64,
    /// That of the heir.
    pub after: u64,
}

impl Succession {
    /// Whether record `index` may be that of a dead process whom nobody is recovering. Says nothing about the death of
    /// one that was alive when last heard of.
    pub fn is_possible(space: &Space, life: &LifeLock, index: u32) -> Result<bool> {
        let word = field!(record(space, index)?, state).load(Ordering::Acquire);
        Ok(match state_of(word) {
            ALIVE | SURRENDERED => true,
            RECOVERING => {
                let by = recoverer_of(word);
                let theirs = field!(record(space, by.index)?, state).load(Ordering::Acquire);
                let still_there = state_of(theirs) == ALIVE && incarnation_of(theirs) == by.incarnation;
                !(still_there && life.is_locked(by.index).map_err(life_error)?)
            }
            _ => false,
        })
    }

    /// The succession to `index`, whose life byte the caller holds; `None` if the process is not dead.
    pub fn of(space: &Space, life: &LifeLock, file_id: FileId, index: u32) -> Result<Option<Succession>> {
        let words = record(space, index)?;
        let before = field!(words, state).load(Ordering::Acquire);
        if !Self::is_possible(space, life, index)?
            || state_of(before) == ALIVE && !is_dead(life, file_id, index, words)?
        {
            return Ok(None);
        }
        let tag = os::random_u64() & TAG;
        Ok(Some(Succession { before, after: pack(ALIVE, incarnation_of(before), NOBODY) | tag.max(1) }))
    }
}

#[cold]
fn evicted() -> Error {
    Error::new(ErrorKind::Evicted, "this process's membership in the segment")
}

pub(super) fn life_error(e: std::io::Error) -> Error {
    Error::from_io(e, "life lock of the segment")
}

impl Segment {
    /// Joins again, as a child of the process that had joined.
    ///
    /// # Errors
    /// As [`join`].
    #[cold]
    pub fn rejoin(&self) -> Result<()> {
        let mut life = self.membership.life.get().lock();
        if self.membership.is_current() {
            return Ok(()); // another thread was quicker
        }
        let own = Arc::new(LifeLock::open(&self.file).map_err(life_error)?);
        // Who sees the membership and asks for its lock waits until that is there.
        join_by(&own, &self.space, &self.membership)?;
        *life = Some(own);
        Ok(())
    }

    /// Whether this process is still regarded as alive by the others.
    ///
    /// # Errors
    /// `Evicted` if not; `Corrupted` through a poisoned mapping.
    #[inline]
    pub fn still_member(&self) -> Result<()> {
        if self.is_member(self.state_word()?) {
            return Ok(());
        }
        self.still_heir()
    }

    /// The state word of this process's record.
    #[inline]
    pub(super) fn state_word(&self) -> Result<&Word> {
        self.space.word(process_record(self.membership.me().index)) // the state comes first
    }

    /// Whether `state`, the state word of this process's record, says that the process is still a member.
    #[inline(always)]
    pub(super) fn is_member(&self, state: &Word) -> bool {
        let me = self.membership.me();
        state.load(Ordering::Relaxed) == pack(ALIVE, me.incarnation, NOBODY) && !self.poisoned()
    }

    #[cold]
    fn still_heir(&self) -> Result<()> {
        let membership = &self.membership;
        if self.poisoned() {
            self.surrender();
        } else if membership.is_heir() {
            let state = self.space.word(process_record(membership.me().index))?;
            if state.load(Ordering::Relaxed) == membership.alive() {
                return Ok(());
            }
        }
        Err(evicted())
    }

    /// Gives up membership without cleaning up: from now on this process counts as dead here, and its operations
    /// fail with `Evicted`. Used when the mapping has lost its storage, and by tests as a death.
    #[cold]
    pub fn surrender(&self) {
        let me = self.membership.me();
        if let Ok(words) = record(&self.space, me.index) {
            let alive = self.membership.alive();
            let _ = field!(words, state).cas(alive, pack(SURRENDERED, me.incarnation, NOBODY), Ordering::AcqRel);
        }
        if let Ok(life) = self.membership.life() {
            life.close_in_child();
        }
    }

    /// Hands back what the dead process was recovering whose record this process has taken over: the claims name its
    /// incarnation, which lives on in this process, and nobody else would take them over.
    pub fn hand_back_inherited_claims(&self) -> Result<()> {
        let me = self.membership.me();
        for index in 0..PROCESSES as u32 {
            let state = &field!(record(&self.space, index)?, state);
            let seen = state.load(Ordering::Acquire);
            if state_of(seen) == RECOVERING && recoverer_of(seen) == me {
                // Failing, it is the claim of somebody else by now.
                let _ = state.cas(seen, pack(SURRENDERED, incarnation_of(seen), NOBODY), Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// Ends the incarnation of the dead process whose record this process has taken over, now that everything has been put
    /// right, and begins its own.
    ///
    /// # Crash
    /// Before the store whoever meets the dead heir begins anew; after it, it is a member like others.
    ///
    /// # Errors
    /// `Evicted` if it was judged dead.
    pub fn settle_succession(&self) -> Result<()> {
        let ProcessId { index, incarnation } = self.membership.me();
        let state = &field!(record(&self.space, index)?, state);
        let own = pack(ALIVE, next(incarnation), NOBODY);
        // Release: who sees that the incarnation is over sees what was put right.
        state.cas(self.membership.alive(), own, Ordering::AcqRel).map_err(|_| evicted())?;
        self.membership.become_member(index, next(incarnation));
        self.membership.tag.store(0, Ordering::Relaxed); // local
        Ok(())
    }

    /// Gives up a record whose inheritance cannot be put right; the third heir that fails leaves it POISONED.
    #[cold]
    pub fn refuse_inheritance(&self) {
        let me = self.membership.me();
        if let Ok(words) = record(&self.space, me.index) {
            let failures = field!(words, failures).fetch_add(1, Ordering::AcqRel).saturating_add(1);
            let state = if failures >= MAX_FAILURES { POISONED } else { SURRENDERED };
            let alive = self.membership.alive();
            let _ = field!(words, state).cas(alive, pack(state, me.incarnation, NOBODY), Ordering::AcqRel);
        }
        if let Ok(life) = self.membership.life() {
            life.close_in_child();
        }
    }

    /// What is known of process `index`.
    ///
    /// # Errors
    /// `Corrupted` for an index or a state that does not exist.
    pub fn liveness(&self, index: u32) -> Result<Liveness> {
        let words = record(&self.space, index)?;
        let word = field!(words, state).load(Ordering::Acquire);
        Ok(match state_of(word) {
            FREE => Liveness::Free,
            SURRENDERED | RECOVERING => Liveness::Dead,
            POISONED => Liveness::Poisoned,
            ALIVE if self.membership.me() == (ProcessId { index, incarnation: incarnation_of(word) }) => {
                Liveness::Alive
            }
            ALIVE
                if is_dead(&*self.membership.life()?, self.file_id, index, words)?
                    && field!(words, state).load(Ordering::Acquire) == word =>
            {
                Liveness::Dead
            }
            ALIVE => Liveness::Alive,
            _ => return Err(Error::corrupted("a process record's state")),
        })
    }

    /// Every process record in use, with what is known of it.
    pub fn processes(&self) -> impl Iterator<Item = (u32, Result<Liveness>)> {
        let used = self.header(header!(processes_used)).load(Ordering::Acquire).min(PROCESSES) as u32;
        (0..used).map(|index| (index, self.liveness(index))).filter(|(_, l)| !matches!(l, Ok(Liveness::Free)))
    }

    /// The incarnation of record `index` that lives, died, or was the last to live. One that died is followed by the next
    /// only when everything that it left has been put right.
    pub fn incarnation(&self, index: u32) -> Result<u32> {
        Ok(incarnation_of(field!(record(&self.space, index)?, state).load(Ordering::Acquire)))
    }

    /// Process id, in its own namespace, of record `index`.
    pub fn pid_of(&self, index: u32) -> Result<u32> {
        Ok(field!(record(&self.space, index)?, pid).load(Ordering::Relaxed) as u32)
    }

    /// Claims the right to recover dead process `index`. `None` if somebody alive is at it or nothing is left to do.
    ///
    /// # Crash
    /// A claim whose holder dies is taken over by the next caller.
    pub fn begin_recovery(&self, index: u32) -> Result<Option<RecoveryClaim<'_>>> {
        if self.liveness(index)? != Liveness::Dead {
            return Ok(None);
        }
        let words = record(&self.space, index)?;
        let state = &field!(words, state);
        let seen = state.load(Ordering::Acquire);
        let incarnation = incarnation_of(seen);
        let me = self.membership.me();
        match state_of(seen) {
            ALIVE | SURRENDERED => {}
            RECOVERING => {
                let by = recoverer_of(seen);
                let same = by != me && {
                    let theirs = field!(record(&self.space, by.index)?, state).load(Ordering::Acquire);
                    incarnation_of(theirs) == by.incarnation && state_of(theirs) == ALIVE
                };
                if by == me || (same && self.liveness(by.index)? == Liveness::Alive) {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
        let claim = pack(RECOVERING, incarnation, me);
        Ok(state.cas(seen, claim, Ordering::AcqRel).is_ok().then_some(RecoveryClaim {
            segment: self,
            index,
            incarnation,
            claim,
            done: false,
        }))
    }
}

/// Whether the process of a record that says ALIVE is dead. What cannot be known counts as alive.
fn is_dead(life: &LifeLock, file_id: FileId, index: u32, words: &[Word]) -> Result<bool> {
    let at = |word: &Word| word.load(Ordering::Relaxed);
    let boot = std::mem::offset_of!(ProcessRecord, boot) / 8;
    let theirs = Identity {
        pid: at(&field!(words, pid)) as u32,
        start_time: at(&field!(words, start_time)),
        pid_ns: at(&field!(words, pid_ns)),
        time_ns: at(&field!(words, time_ns)),
        boot: [at(&words[boot]), at(&words[boot + 1])],
    };
    let ours = os::me();
    if theirs.boot != ours.boot {
        return Ok(true);
    }
    let locked = life.is_locked(index).map_err(life_error)?;
    if theirs.pid_ns != ours.pid_ns {
        return Ok(!locked);
    }
    // Start times are comparable only within one time namespace.
    let start = if theirs.time_ns == ours.time_ns { theirs.start_time } else { 0 };
    Ok(match os::process_evidence(theirs.pid, start) {
        Evidence::Dead => true,
        Evidence::Unknown => false,
        Evidence::Alive if locked => false,
        // The process exists and its byte is free: after an execve it has lost the mapping as well.
        Evidence::Alive => os::maps_file(theirs.pid, file_id) == Some(false),
    })
}

/// The right to recover one dead process. Dropped unfinished, it is handed back.
#[must_use = "a claim that is dropped counts as a failed recovery"]
pub struct RecoveryClaim<'a> {
    segment: &'a Segment,
    /// The dead process's record.
    pub index: u32,
    incarnation: u32,
    claim: u64,
    done: bool,
}

impl RecoveryClaim<'_> {
    /// Frees the record: everything that the process left has been put right.
    pub fn finish(mut self) -> Result<()> {
        self.done = true;
        self.segment.header(header!(deaths)).fetch_add(1, Ordering::AcqRel);
        self.end_in(FREE);
        Ok(())
    }

    /// Gives up the claim for the time being: the process is dead as before.
    pub fn hand_back(mut self) {
        self.done = true;
        self.end_in(SURRENDERED);
    }

    fn end_in(&self, state: u64) {
        let Ok(words) = record(&self.segment.space, self.index) else { return };
        let _ = field!(words, state).cas(self.claim, pack(state, self.incarnation, NOBODY), Ordering::AcqRel);
    }
}

impl Drop for RecoveryClaim<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let Ok(words) = record(&self.segment.space, self.index) else { return };
        let failures = field!(words, failures).fetch_add(1, Ordering::AcqRel).saturating_add(1);
        self.end_in(if failures >= MAX_FAILURES { POISONED } else { SURRENDERED });
    }
}

/// Leaves the segment in good order: the record first, the life lock after it.
pub(super) fn leave(segment: &Segment) {
    let me = segment.membership.me();
    if let Ok(words) = record(&segment.space, me.index) {
        let alive = pack(ALIVE, me.incarnation, NOBODY);
        let _ = field!(words, state).cas(alive, pack(FREE, me.incarnation, NOBODY), Ordering::AcqRel);
    }
    segment.membership.generation.store(0, Ordering::Release); // local
    if let Ok(life) = segment.membership.life() {
        let _ = life.unlock(me.index);
    }
}
