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

use super::layout::PROCESSES;
use super::members::{Membership, Succession, life_error, record};
use super::word::Space;
use crate::error::Result;
use crate::os::{FileId, LifeLock};

/// Takes over the record of a dead process; whether there was one.
pub(super) fn inherit(space: &Space, membership: &Membership, file_id: FileId) -> Result<bool> {
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
    super::members::identify(words);
    if words[0].cas(succession.before, succession.after, Ordering::AcqRel).is_err() {
        return Ok(false);
    }
    membership.become_heir(index, &succession);
    Ok(true)
}
