//! Joining a segment that is full of the dead: a process that finds no free record takes over that of a corpse.
//!
//! # Protocol
//!
//! It takes the corpse's life byte, proves the death as everybody does, and makes the record its own: alive, in the
//! corpse's incarnation. From then on it is a member like all others, to whom the corpse's thread slots and holds belong.
//! Before it does anything else it puts right what they have under way, as a recoverer would (`raw/recovery`), and then
//! begins the next incarnation.
//!
//! # Invariants
//!
//! 1. The record changes hands in one CAS, under its byte. Its identity is written before that: in the record of a dead
//!    process the identity of a living one proves nothing, and of a dead one as much as the former.
//! 2. Whoever waits for the corpse sees a living process from the CAS on, and waits for it, until the incarnation ends.
//! 3. While the incarnation is the corpse's, the heir names itself by it nowhere but in claims to recover others, before
//!    which it hands back those of the corpse.
//! 4. An heir's word is like none before it, for its tag is random: who has seen the corpse dead cannot claim the heir.
//!
//! # Crash
//!
//! Before the CAS the corpse is what it was; after it there is a new one in the same record, with the same slots. The
//! third step, the next incarnation, leaves nothing to be put right.

use std::sync::atomic::Ordering;

use super::claim::MAX_FAILURES;
use super::record::{
    ALIVE, NOBODY, POISONED, ProcessId, RECOVERING, SURRENDERED, TAG, field, identify, incarnation_of, is_dead,
    life_error, next, pack, record, recoverer_of, state_of,
};
use super::{Membership, evicted};
use crate::error::Result;
use crate::mem::layout::{PROCESSES, ProcessRecord};
use crate::mem::segment::Segment;
use crate::mem::word::Space;
use crate::os::{self, FileId, LifeLock};

/// Takes over the record of a dead process; whether there was one.
pub(in crate::mem) fn inherit(space: &Space, membership: &Membership, file_id: FileId) -> Result<bool> {
    let life = membership.life()?;
    for index in 0..PROCESSES as u32 {
        if !Succession::is_possible(space, &life, index)? || !life.try_lock(index).map_err(life_error)? {
            continue;
        }
        if take_over(space, membership, &life, file_id, index)? {
            return Ok(true);
        }
        life.unlock(index).map_err(life_error)?;
    }
    Ok(false)
}

/// With the life byte of `index` in hand.
fn take_over(space: &Space, membership: &Membership, life: &LifeLock, file_id: FileId, index: u32) -> Result<bool> {
    let words = record(space, index)?;
    let Some(succession) = Succession::of(space, life, file_id, index)? else { return Ok(false) };
    identify(words);
    if words[0].cas(succession.before, succession.after, Ordering::AcqRel).is_err() {
        return Ok(false);
    }
    membership.become_heir(index, &succession);
    Ok(true)
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

impl Membership {
    /// The same, of a record that was a dead process's, in the incarnation of that.
    pub(super) fn become_heir(&self, index: u32, succession: &Succession) {
        self.tag.store(succession.after & TAG, Ordering::Relaxed); // local
        self.become_member(index, incarnation_of(succession.after));
    }
}

impl Segment {
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
}
