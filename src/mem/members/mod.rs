//! The processes of a segment: joining, leaving, and proof of death.
//!
//! | file | one idea |
//! |---|---|
//! | `mod` | membership: joining, leaving, and what is known of others |
//! | `record` | the words of a record, and proof of death |
//! | `claim` | the right to recover a dead process |
//! | `inherit` | taking a dead process's record over |
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

mod claim;
mod inherit;
mod record;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as LocalU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::layout::{PROCESSES, ProcessRecord, header, process_record};
use super::segment::Segment;
use super::word::{Space, Word};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, LifeLock, PerProcess};

pub(super) use self::inherit::inherit;
pub use self::record::ProcessId;
use self::record::{
    ALIVE, FREE, NOBODY, POISONED, RECOVERING, SURRENDERED, field, identify, incarnation_of, is_dead, life_error, next,
    pack, record, state_of,
};

/// How often joining looks again while somebody probes for abandonment, a millisecond each.
const JOIN_TRIES: u32 = 1000;

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

#[cold]
fn evicted() -> Error {
    Error::new(ErrorKind::Evicted, "this process's membership in the segment")
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
