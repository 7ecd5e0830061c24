//! The semaphores.

use std::time::Duration;

use crate::codec::fingerprint;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, handle_traits};
use crate::lock::endless;
use crate::mem::Segment;
use crate::raw::object::Kind;
use crate::raw::recovery;
use crate::raw::sync::semaphore;
use crate::raw::wait::Deadline;

/// A number of permits that processes take and release.
///
/// A permit is taken in one of two forms. A [`Permit`], the guard, is *owned* by the process that takes it. The plain form,
/// [`acquire`](Semaphore::acquire) and [`release`](Semaphore::release), only counts: whoever likes may release, and a plain
/// semaphore may so get more permits than it began with. A [`BoundedSemaphore`] may not.
///
/// # Crash
/// The owned permits of a process that dies come back, within 100 ms if somebody waits for one. Plain permits are nobody's: one
/// that was taken by a process that died is gone.
///
/// # Blocking
/// Waiting spins for some microseconds, then sleeps in the kernel. No order among those who wait is promised.
///
/// # Examples
/// ```
/// use commons::Manager;
///
/// let seats = Manager::new()?.semaphore(2)?;
/// let mine = seats.permit()?;
/// assert!(seats.try_acquire()?);
/// assert!(seats.try_permit()?.is_none());
/// drop(mine);
/// seats.release()?;
/// assert_eq!(seats.available()?, 2);
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Semaphore<const BOUNDED: bool = false> {
    handle: Handle,
}

/// A [`Semaphore`] that never has more permits than it began with: releasing one too many is an error.
pub type BoundedSemaphore = Semaphore<true>;

handle_traits!([const BOUNDED: bool], Semaphore<BOUNDED>, "Semaphore");

impl<const BOUNDED: bool> Semaphore<BOUNDED> {
    pub(crate) const KIND: Kind = Kind::Semaphore;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&[if BOUNDED { "bounded semaphore" } else { "semaphore" }])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        semaphore::free(handle.hold.segment()?, handle.root)?;
        Ok(Semaphore { handle })
    }

    fn with_handle(&self, handle: Handle) -> Self {
        Semaphore { handle }
    }

    #[inline]
    fn take(&self, deadline: Deadline) -> Result<bool> {
        let segment = self.handle.hold.segment()?;
        segment.still_member()?;
        if semaphore::try_take(segment, self.handle.root)? {
            return Ok(true);
        }
        recovery::run(segment, |me| semaphore::acquire(me, self.handle.root, false, deadline))
    }

    fn own(&self, deadline: Deadline) -> Result<Option<Permit<'_, BOUNDED>>> {
        let segment = self.handle.hold.segment()?;
        let taken = recovery::run(segment, |me| semaphore::acquire(me, self.handle.root, true, deadline))?;
        Ok(taken.then(|| Permit { semaphore: self, owner: owner(segment) }))
    }

    /// Waits for a permit, which comes back when it is dropped or this process dies.
    ///
    /// # Errors
    /// `TooMany` at 32767 owned permits.
    pub fn permit(&self) -> Result<Permit<'_, BOUNDED>> {
        self.own(Deadline::NEVER)?.ok_or_else(endless)
    }

    /// Takes a permit if one is free.
    ///
    /// # Errors
    /// As [`permit`](Semaphore::permit).
    pub fn try_permit(&self) -> Result<Option<Permit<'_, BOUNDED>>> {
        self.own(Deadline::after(Duration::ZERO))
    }

    /// Waits for a permit for at most `timeout`; `None` if it passes.
    ///
    /// # Errors
    /// As [`permit`](Semaphore::permit).
    pub fn permit_timeout(&self, timeout: Duration) -> Result<Option<Permit<'_, BOUNDED>>> {
        self.own(Deadline::after(timeout))
    }

    /// Waits for a plain permit.
    #[inline]
    pub fn acquire(&self) -> Result<()> {
        if self.take(Deadline::NEVER)? { Ok(()) } else { Err(endless()) }
    }

    /// Takes a plain permit if one is free; whether one was.
    #[inline]
    pub fn try_acquire(&self) -> Result<bool> {
        self.take(Deadline::after(Duration::ZERO))
    }

    /// Waits for a plain permit for at most `timeout`; whether it was obtained.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<bool> {
        self.take(Deadline::after(timeout))
    }

    /// Releases a plain permit, whoever took it.
    ///
    /// # Errors
    /// As [`release_many`](Semaphore::release_many).
    #[inline]
    pub fn release(&self) -> Result<()> {
        self.release_many(1)
    }

    /// Releases that many plain permits, in one step.
    ///
    /// # Errors
    /// `NotHeld` if a bounded semaphore would have more permits than it began with; `TooMany` at 2^32; `InvalidInput` for no
    /// permits. Nothing is released then.
    #[inline]
    pub fn release_many(&self, permits: u32) -> Result<()> {
        if permits == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "a release of no permits"));
        }
        let segment = self.handle.hold.segment()?;
        segment.still_member()?;
        if semaphore::try_release(segment, self.handle.root, permits)? {
            return Ok(());
        }
        recovery::run(segment, |me| semaphore::release(me, self.handle.root, permits))
    }

    /// Permits that are free.
    pub fn available(&self) -> Result<u32> {
        semaphore::free(self.handle.hold.segment()?, self.handle.root)
    }
}

/// A permit that this process owns; it comes back when it is dropped, or when the process dies.
///
/// Any thread of the process may drop it. In a child that forks while it exists, dropping it does nothing. One that is forgotten
/// comes back with the last handle that the process has of the semaphore.
#[must_use = "the permit comes back when it is dropped"]
pub struct Permit<'a, const BOUNDED: bool = false> {
    semaphore: &'a Semaphore<BOUNDED>,
    /// The process, as its record and incarnation.
    owner: (u32, u32),
}

fn owner(segment: &Segment) -> (u32, u32) {
    let me = segment.membership().me();
    (me.index, me.incarnation)
}

impl<const BOUNDED: bool> Drop for Permit<'_, BOUNDED> {
    fn drop(&mut self) {
        let handle = &self.semaphore.handle;
        if handle.hold.is_of_this_process()
            && let Ok(segment) = handle.hold.segment()
            && owner(segment) == self.owner
        {
            // Failing, this process is a member no more, or the semaphore is corrupted.
            let _ = recovery::run(segment, |me| semaphore::give(me, handle.root));
        }
    }
}

impl<const BOUNDED: bool> std::fmt::Debug for Permit<'_, BOUNDED> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("semaphore", self.semaphore).finish()
    }
}
