//! The right to recover a dead process.

use std::sync::atomic::Ordering;

use super::Liveness;
use super::record::{
    ALIVE, FREE, NOBODY, POISONED, RECOVERING, SURRENDERED, field, incarnation_of, pack, record, recoverer_of, state_of,
};
use crate::error::Result;
use crate::mem::layout::{ProcessRecord, header};
use crate::mem::segment::Segment;

/// Failed recoveries after which a record is left alone.
pub(super) const MAX_FAILURES: u64 = 3;

impl Segment {
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
