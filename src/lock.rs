//! The shared lock.

use std::marker::PhantomData;
use std::time::Duration;

use crate::codec::{Auto, Codec, fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::guarded::{self, Made};
use crate::handle::{Handle, handle_traits};
use crate::mem::{Segment, Word};
use crate::raw::lock::Acquired;
use crate::raw::object::{Kind, ObjectId};
use crate::raw::session::Session;
use crate::raw::wait::Deadline;
use crate::raw::{cell, lock, recovery};

/// A mutual exclusion lock between processes, around a value of type `T` or around nothing (`Lock<()>`).
///
/// # Crash
/// A lock whose holder dies, by whatever death, is taken over by the next who asks for it, and the type of the answer says
/// so: [`Held::Recovered`]. The value is the last that was set completely.
///
/// # Blocking
/// Waiting spins for some microseconds, then sleeps in the kernel. A holder's death is noticed within 50 ms.
///
/// # Errors
/// `WouldDeadlock` when the calling thread holds the lock already.
///
/// # Examples
/// ```
/// use commons::{Held, Manager};
///
/// let balance = Manager::new()?.lock(100u64)?;
/// let guard = match balance.lock()? {
///     Held::Clean(guard) => guard,
///     Held::Recovered(guard) => guard, // the last holder died; the value is one that somebody set
/// };
/// guard.set(&(guard.get()? + 1))?;
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Lock<T = (), C = Auto> {
    pub(crate) handle: Handle,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], Lock<T, C>, "Lock");

/// A lock that was obtained, and how the last holder left it.
#[derive(Debug)]
#[must_use]
pub enum Held<G> {
    /// The last holder released it.
    Clean(G),
    /// The last holder died holding it.
    Recovered(G),
}

impl<G> Held<G> {
    /// The guard, however the last holder left the lock.
    pub fn into_guard(self) -> G {
        match self {
            Held::Clean(guard) | Held::Recovered(guard) => guard,
        }
    }

    /// The same about what `f` makes of the guard.
    #[inline]
    pub(crate) fn map<H>(self, f: impl FnOnce(G) -> H) -> Held<H> {
        match self {
            Held::Clean(guard) => Held::Clean(f(guard)),
            Held::Recovered(guard) => Held::Recovered(f(guard)),
        }
    }

    /// Whether the last holder died holding it.
    pub fn is_recovered(&self) -> bool {
        matches!(self, Held::Recovered(_))
    }
}

impl<G> Held<G> {
    /// What `guard` makes of a lock that was acquired so; `None` if the deadline passed.
    pub(crate) fn of(acquired: Acquired, guard: impl FnOnce() -> G) -> Option<Held<G>> {
        match acquired {
            Acquired::Clean => Some(Held::Clean(guard())),
            Acquired::Recovered => Some(Held::Recovered(guard())),
            Acquired::TimedOut => None,
        }
    }
}

impl From<Acquired> for Acquire {
    fn from(acquired: Acquired) -> Acquire {
        match acquired {
            Acquired::Clean => Acquire::Clean,
            Acquired::Recovered => Acquire::Recovered,
            Acquired::TimedOut => Acquire::TimedOut,
        }
    }
}

/// The error of a wait without a deadline that came back without the lock: that cannot be.
#[cold]
pub(crate) fn endless() -> Error {
    Error::new(ErrorKind::Stalled, "a wait without end that ended")
}

/// How an explicit [`acquire_timeout`](Lock::acquire_timeout) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Acquire {
    /// The lock is held; the last holder released it.
    Clean,
    /// The lock is held; the last holder died holding it.
    Recovered,
    /// Time was up.
    TimedOut,
}

/// Takes the lock that is the first word at `root`; its word, and how that names the holder.
fn take(segment: &Segment, root: u64, deadline: Deadline) -> Result<(Acquired, &Word, u64)> {
    let word = cell::lock_word(segment, root)?;
    if let Some(holder) = lock::try_acquire(segment, word) {
        return Ok((Acquired::Clean, word, holder));
    }
    recovery::run(segment, |me| Ok((lock::acquire(me, word, deadline)?, word, lock::word_for(me))))
}

/// The same for other objects that have a lock: how its word names the holder; `None` if time was up.
pub(crate) fn hold(segment: &Segment, root: u64, deadline: Deadline) -> Result<Option<Held<u64>>> {
    take(segment, root, deadline).map(|(acquired, _, holder)| Held::of(acquired, || holder))
}

impl<T, C: Codec<T>> Lock<T, C> {
    pub(crate) const KIND: Kind = Kind::Lock;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["lock", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        cell::lock_word(handle.hold.segment()?, handle.root)?;
        Ok(Lock { handle, types: PhantomData })
    }

    /// The same lock by another handle of it.
    fn with_handle(&self, handle: Handle) -> Self {
        Lock { handle, types: PhantomData }
    }

    /// Takes the lock if it is free and there is nothing else to be done; who holds it then.
    #[inline(always)]
    fn take_quickly(&self) -> Option<(&Word, u64)> {
        let segment = self.handle.hold.segment().ok()?;
        let word = cell::lock_word(segment, self.handle.root).ok()?;
        Some((word, lock::try_acquire(segment, word)?))
    }

    fn take(&self, deadline: Deadline) -> Result<(Acquired, &Word, u64)> {
        take(self.handle.hold.segment()?, self.handle.root, deadline)
    }

    #[inline(always)]
    fn guard<'a>(&'a self, word: &'a Word, holder: u64) -> LockGuard<'a, T, C> {
        LockGuard { lock: self, word, holder, made: Made::here() }
    }

    fn held<'a>(&'a self, (acquired, word, holder): (Acquired, &'a Word, u64)) -> Option<Held<LockGuard<'a, T, C>>> {
        Held::of(acquired, || self.guard(word, holder))
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> Result<Held<LockGuard<'_, T, C>>> {
        match self.take_quickly() {
            Some((word, holder)) => Ok(Held::Clean(self.guard(word, holder))),
            None => self.lock_slowly(),
        }
    }

    #[cold]
    #[inline(never)]
    fn lock_slowly(&self) -> Result<Held<LockGuard<'_, T, C>>> {
        let taken = self.take(Deadline::NEVER)?;
        self.held(taken).ok_or_else(endless)
    }

    /// Takes the lock if it is free; `None` if it is not.
    pub fn try_lock(&self) -> Result<Option<Held<LockGuard<'_, T, C>>>> {
        self.lock_timeout(Duration::ZERO)
    }

    /// Waits for the lock for at most `timeout`; `None` if it passes.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<Held<LockGuard<'_, T, C>>>> {
        let taken = self.take(Deadline::after(timeout))?;
        Ok(self.held(taken))
    }

    /// Waits for the lock without a guard: it stays held until [`release`](Lock::release). Whether the last holder died
    /// holding it.
    pub fn acquire(&self) -> Result<bool> {
        Ok(self.take(Deadline::NEVER)?.0 == Acquired::Recovered)
    }

    /// Waits for the lock for at most `timeout`, without a guard.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Acquire> {
        Ok(self.take(Deadline::after(timeout))?.0.into())
    }

    /// Releases the lock, which may have been acquired by another thread or process.
    ///
    /// # Errors
    /// `NotHeld` if nobody holds it.
    pub fn release(&self) -> Result<()> {
        let segment = self.handle.hold.segment()?;
        segment.still_member()?;
        lock::release(cell::lock_word(segment, self.handle.root)?)
    }

    /// Whether anybody holds it.
    pub fn is_locked(&self) -> Result<bool> {
        Ok(lock::is_locked(cell::lock_word(self.handle.hold.segment()?, self.handle.root)?))
    }

    fn set(&self, value: &T) -> Result<()> {
        let root = self.handle.root;
        guarded::set::<T, C>(&self.handle, value, |me| Ok(lock::is_mine(me, cell::lock_word(me.segment, root)?)))
    }
}

impl<T> Lock<T>
where
    Auto: Codec<T>,
{
    pub(crate) fn create(session: &Session, fingerprint: u64, value: &T) -> Result<ObjectId> {
        guarded::create(session, Kind::Lock, fingerprint, 0, value)
    }
}

/// The right to what a [`Lock`] guards; released when dropped.
///
/// In a child that forks while the guard exists, dropping it does nothing: the parent holds the lock.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a, T, C: Codec<T> = Auto> {
    lock: &'a Lock<T, C>,
    word: &'a Word,
    /// How the lock word names the holder.
    holder: u64,
    made: Made,
}

impl<T, C: Codec<T>> LockGuard<'_, T, C> {
    /// The value.
    ///
    /// # Errors
    /// `Decode` if what is stored is no `T`.
    pub fn get(&self) -> Result<T> {
        guarded::get::<T, C>(&self.lock.handle)
    }

    /// Sets the value.
    ///
    /// # Crash
    /// The old value or the new.
    ///
    /// # Errors
    /// `OutOfMemory`, `Encode`; `NotHeld` if somebody released the lock under this guard. The old value stays.
    pub fn set(&self, value: &T) -> Result<()> {
        self.lock.set(value)
    }
}

impl<T, C: Codec<T>> Drop for LockGuard<'_, T, C> {
    #[inline]
    fn drop(&mut self) {
        // Nothing to do in a forked child (the parent holds the lock), nor if somebody released it under this guard.
        if self.made.is_here() {
            lock::release_by(self.word, self.holder);
        }
    }
}

impl<T, C: Codec<T>> std::fmt::Debug for LockGuard<'_, T, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockGuard").field("lock", self.lock).finish()
    }
}
