//! How long to wait, and for whom: spin briefly, look once whether the owner lives, then sleep in slices.
//!
//! Every sleep in this library is a slice of a [`Waiter`], so that a wake-up lost to a kill, or an owner that dies
//! while others sleep, costs at most one slice.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::mem::{Liveness, Segment, Step, Stop};
use crate::os;

/// How long an internal latch may be held by the living before waiters give up.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds of spinning before the first sleep: a few microseconds. None under loom, where time does not pass.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };
const FIRST_SLICE: Duration = Duration::from_millis(1);
const LAST_SLICE: Duration = Duration::from_millis(50);

/// A point on the monotonic clock, or never.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<u64>);

impl Deadline {
    /// Never.
    pub const NEVER: Deadline = Deadline(None);

    /// `timeout` from now; a timeout beyond the clock's range is never.
    pub fn after(timeout: Duration) -> Deadline {
        let nanos = u64::try_from(timeout.as_nanos()).ok();
        Deadline(nanos.and_then(|nanos| os::now_nanos().checked_add(nanos)))
    }

    /// What is left of it; `None` when it has passed.
    pub fn left(self) -> Option<Duration> {
        match self.0 {
            None => Some(Duration::MAX),
            Some(at) => at.checked_sub(os::now_nanos()).filter(|left| *left > 0).map(Duration::from_nanos),
        }
    }
}

/// What a waiter does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has paused for a moment: look again.
    Look,
    /// Sleep for at most this long, then look again.
    Sleep(Duration),
    /// The deadline has passed.
    TimedOut,
}

/// One wait, from the first look to the end.
pub struct Waiter {
    deadline: Deadline,
    spins: u32,
    slice: Duration,
}

impl Waiter {
    /// A wait until `deadline`.
    pub fn until(deadline: Deadline) -> Waiter {
        Waiter { deadline, spins: 0, slice: FIRST_SLICE }
    }

    /// A wait that spins `spins` rounds before its first sleep.
    pub fn spinning(deadline: Deadline, spins: u32) -> Waiter {
        Waiter { deadline, spins: SPINS.saturating_sub(spins), slice: FIRST_SLICE }
    }

    /// Decides the next step.
    pub fn next(&mut self) -> Next {
        if self.spins < SPINS {
            self.spins += 1;
            for _ in 0..8 {
                os::pause();
            }
            return Next::Look;
        }
        let Some(left) = self.deadline.left() else { return Next::TimedOut };
        let slice = self.slice;
        self.slice = (slice * 2).min(LAST_SLICE);
        Next::Sleep(slice.min(left))
    }
}

/// Who can tell whether the holder of a lock lives: a segment, or a stand-in under loom, where there are no segments.
pub trait Living {
    /// See [`check_owner`].
    fn check_owner(&self, owner: u64) -> Step<()>;

    /// See [`stalled`].
    fn stalled(&self, owner: u64) -> Error;

    /// Whether that incarnation of a process is gone and has been recovered.
    ///
    /// # Errors
    /// `Stop::Dead` if it is dead and not yet recovered.
    fn is_gone(&self, process: u32, incarnation: u32) -> Step<bool>;
}

impl Living for Segment {
    fn check_owner(&self, owner: u64) -> Step<()> {
        check_owner(self, owner)
    }

    fn stalled(&self, owner: u64) -> Error {
        stalled(self, owner)
    }

    fn is_gone(&self, process: u32, incarnation: u32) -> Step<bool> {
        if self.incarnation(process)? != incarnation {
            return Ok(true);
        }
        match self.liveness(process)? {
            Liveness::Alive => Ok(false),
            Liveness::Dead => Err(Stop::Dead(process)),
            Liveness::Free | Liveness::Poisoned => Ok(true),
        }
    }
}

/// Stops if the thread that owner field `owner` (`slot + 1`) names cannot be expected to go on.
///
/// # Errors
/// `Stop::Dead` if its process is dead. `Corrupted` if no thread has that slot, or recovery gave up on its process.
#[cold]
pub fn check_owner(segment: &Segment, owner: u64) -> Step<()> {
    let state = match owner.checked_sub(1) {
        Some(slot) => segment.slot_state(slot as u16)?,
        None => return Ok(()),
    };
    if !state.used {
        return Err(Error::corrupted("a latch is held by a thread that is not there").into());
    }
    match segment.liveness(state.process)? {
        Liveness::Alive => Ok(()),
        Liveness::Dead => Err(Stop::Dead(state.process)),
        Liveness::Free => Err(Error::corrupted("a latch is held by a process that is not there").into()),
        Liveness::Poisoned => Err(Error::corrupted("a latch is held by a dead process beyond recovery").into()),
    }
}

/// The error of running out of patience.
#[cold]
pub fn stalled(segment: &Segment, owner: u64) -> Error {
    let holder = owner
        .checked_sub(1)
        .and_then(|slot| segment.slot_state(slot as u16).ok())
        .and_then(|state| segment.pid_of(state.process).ok());
    let holder = holder.map_or_else(|| "unknown".to_owned(), |pid| format!("process {pid}"));
    Error::new(ErrorKind::Stalled, format!("waited {} s for an internal latch held by {holder}", PATIENCE.as_secs()))
}
