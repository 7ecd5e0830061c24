//! The barrier.

use std::time::Duration;

use crate::codec::fingerprint;
use crate::error::Result;
use crate::handle::{Handle, handle_traits};
use crate::raw::object::Kind;
use crate::raw::recovery;
use crate::raw::sync::barrier::{self, Place, Turn};
use crate::raw::sync::thread;
use crate::raw::wait::Deadline;

/// A point that a number of threads, in whatever processes, pass together.
///
/// # Crash
/// If a party dies that has come, before all have passed, or the one that runs the action, the barrier breaks for the others, within
/// 100 ms; [`reset`](Barrier::reset) makes it usable again. A death before a party has come is not seen here.
///
/// # Examples
/// ```
/// use commons::{Manager, Passage};
///
/// let start = Manager::new()?.barrier(2)?;
/// let other = start.clone();
/// let thread = std::thread::spawn(move || other.wait());
/// assert!(matches!(start.wait()?, Passage::Passed { .. }));
/// thread.join().unwrap()?;
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Barrier {
    handle: Handle,
}

handle_traits!([], Barrier, "Barrier");

/// How a wait at a [`Barrier`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Passage {
    /// All parties have come and gone on.
    Passed {
        /// A number below that of the parties, which each of them has another of.
        index: usize,
    },
    /// The barrier is broken: by abort or reset, a party that waited too long, or the death of one.
    Broken,
    /// This party's time was up. If it had come to the barrier, that is broken for the others now.
    TimedOut,
}

impl Barrier {
    pub(crate) const KIND: Kind = Kind::Barrier;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["barrier"])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        barrier::Barrier::at(handle.hold.segment()?, handle.root)?;
        Ok(Barrier { handle })
    }

    fn with_handle(&self, handle: Handle) -> Self {
        Barrier { handle }
    }

    fn raw(&self) -> Result<barrier::Barrier<'_>> {
        barrier::Barrier::at(self.handle.hold.segment()?, self.handle.root)
    }

    fn changing(&self) -> Result<barrier::Barrier<'_>> {
        self.handle.hold.segment()?.still_member()?;
        self.raw()
    }

    fn wait_until(&self, deadline: Deadline, action: impl FnOnce()) -> Result<Passage> {
        let (segment, raw) = (self.handle.hold.segment()?, self.raw()?);
        let mut place = None;
        let turn = recovery::run(segment, |me| raw.wait(thread::of(me), deadline, &mut place));
        match (turn, place) {
            (Ok(Turn::Passed), Some(place)) => Ok(Passage::Passed { index: place.index }),
            (Ok(Turn::Elected), Some(place)) => {
                let elected = Elected { raw, place };
                action();
                std::mem::forget(elected);
                Ok(if raw.finish(place) { Passage::Passed { index: place.index } } else { Passage::Broken })
            }
            (Ok(Turn::TimedOut), _) => Ok(Passage::TimedOut),
            (Ok(_), _) => Ok(Passage::Broken),
            (Err(error), place) => {
                if let Some(place) = place {
                    raw.abandon(place);
                }
                Err(error)
            }
        }
    }

    /// Waits for all the others.
    ///
    /// # Blocking
    /// Until all parties have come, or the barrier breaks.
    pub fn wait(&self) -> Result<Passage> {
        self.wait_until(Deadline::NEVER, || ())
    }

    /// Waits for all the others for at most `timeout`. One that is too late breaks the barrier for all.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Passage> {
        self.wait_until(Deadline::after(timeout), || ())
    }

    /// Waits for all the others. When all have come, one of them runs its `action` before anybody passes.
    ///
    /// # Panics
    /// As `action`. The barrier breaks for the others.
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<Passage> {
        self.wait_until(Deadline::NEVER, action)
    }

    /// The same for at most `timeout`, the time that the others' action takes included.
    ///
    /// # Panics
    /// As [`wait_with`](Barrier::wait_with).
    pub fn wait_with_timeout(&self, timeout: Duration, action: impl FnOnce()) -> Result<Passage> {
        self.wait_until(Deadline::after(timeout), action)
    }

    /// Breaks the barrier, for those that wait and those that come, until it is reset.
    pub fn abort(&self) -> Result<()> {
        self.changing()?.abort();
        Ok(())
    }

    /// Makes a broken barrier usable, and breaks it for those that wait. Does nothing to one that is whole and where nobody
    /// waits.
    pub fn reset(&self) -> Result<()> {
        self.changing()?.reset();
        Ok(())
    }

    /// How many parties it is for.
    pub fn parties(&self) -> Result<usize> {
        Ok(self.raw()?.parties())
    }

    /// How many wait.
    pub fn waiting(&self) -> Result<usize> {
        Ok(self.raw()?.waiting())
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> Result<bool> {
        Ok(self.raw()?.is_broken())
    }
}

/// The turn of the elected party, should its action panic.
struct Elected<'a> {
    raw: barrier::Barrier<'a>,
    place: Place,
}

impl Drop for Elected<'_> {
    fn drop(&mut self) {
        self.raw.abandon(self.place);
    }
}
