//! The words of a process record: its state, who the process is, and whether it is dead.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::mem::layout::{PROCESSES, ProcessRecord, process_record};
use crate::mem::word::{Space, Word};
use crate::os::{self, Evidence, FileId, Identity, LifeLock};

pub(super) const FREE: u64 = 0;
pub(super) const ALIVE: u64 = 1;
pub(super) const RECOVERING: u64 = 2;
pub(super) const SURRENDERED: u64 = 3;
pub(super) const POISONED: u64 = 4;

/// Index of a process record and its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Index of the record.
    pub index: u32,
    /// How often the record has been used.
    pub incarnation: u32,
}

#[inline(always)]
pub(super) fn pack(state: u64, incarnation: u32, by: ProcessId) -> u64 {
    state << 56
        | u64::from(incarnation & 0xff_ffff) << 32
        | u64::from(by.index & 0xff) << 24
        | u64::from(by.incarnation & 0xff_ffff)
}

pub(super) const NOBODY: ProcessId = ProcessId { index: 0, incarnation: 0 };
/// The bits of an heir's tag: those of `by`. It is random, so that no heir's word is like another's before it.
pub(super) const TAG: u64 = 0xffff_ffff;

pub(super) fn next(incarnation: u32) -> u32 {
    (incarnation + 1) & 0xff_ffff
}

pub(super) fn state_of(word: u64) -> u64 {
    word >> 56
}

pub(super) fn incarnation_of(word: u64) -> u32 {
    (word >> 32) as u32 & 0xff_ffff
}

pub(super) fn recoverer_of(word: u64) -> ProcessId {
    ProcessId { index: (word >> 24) as u32 & 0xff, incarnation: word as u32 & 0xff_ffff }
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
pub(super) use field;

pub(super) fn life_error(e: std::io::Error) -> Error {
    Error::from_io(e, "life lock of the segment")
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

/// Whether the process of a record that says ALIVE is dead. What cannot be known counts as alive.
pub(super) fn is_dead(life: &LifeLock, file_id: FileId, index: u32, words: &[Word]) -> Result<bool> {
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
