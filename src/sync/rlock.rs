//! The reentrant lock.

use std::marker::PhantomData;
use std::time::Duration;

use crate::codec::{Auto, Codec, fingerprint};
use crate::error::Result;
use crate::guarded::{self, Made};
use crate::handle::{Handle, handle_traits};
use crate::lock::{Acquire, Held, endless};
use crate::mem::{Segment, Word};
use crate::raw::lock::Acquired;
use crate::raw::object::Kind;
use crate::raw::sync::{rlock, thread};
use crate::raw::wait::Deadline;
use crate::raw::{cell, lock, recovery};

/// A lock between processes that its holder may take again, around a value of type `T` or around nothing (`RLock<()>`).
///
/// The holder is a thread. It holds the lock until it has released it as often as it has taken it.
///
/// # Crash
/// The lock of a holder whose process dies, or whose thread ends without releasing it, is taken over by the next who asks
/// for it, and the type of the answer says so: [`Held::Recovered`].
///
/// # Blocking
/// As [`Lock`](crate::Lock).
///
/// # Errors
/// `TooMany` when one thread takes the lock 32768 times.
///
/// # Examples
/// ```
/// use commons::Manager;
///
/// let lock = Manager::new()?.rlock(1u64)?;
/// let outer = lock.lock()?.into_guard();
/// let inner = lock.lock()?.into_guard(); // the same thread once more
/// inner.set(&2)?;
/// drop(inner);
/// assert_eq!(outer.get()?, 2);
/// # Ok::<(), commons::Error>(())
/// ```
pub struct RLock<T = (), C = Auto> {
    pub(super) handle: Handle,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], RLock<T, C>, "RLock");

impl<T, C: Codec<T>> RLock<T, C> {
    pub(crate) const KIND: Kind = Kind::RLock;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["rlock", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        cell::lock_word(handle.hold.segment()?, handle.root)?;
        Ok(RLock { handle, types: PhantomData })
    }

    fn with_handle(&self, handle: Handle) -> Self {
        RLock { handle, types: PhantomData }
    }

    fn word(&self) -> Result<(&Segment, &Word)> {
        let segment = self.handle.hold.segment()?;
        Ok((segment, cell::lock_word(segment, self.handle.root)?))
    }

    #[inline]
    fn take(&self, deadline: Deadline) -> Result<(Acquired, u64)> {
        let (segment, word) = self.word()?;
        if let Some(name) = rlock::try_acquire(segment, word)? {
            return Ok((Acquired::Clean, name));
        }
        recovery::run(segment, |me| Ok((rlock::acquire(me, word, deadline)?, thread::of(me))))
    }

    fn guard(&self, (acquired, name): (Acquired, u64)) -> Option<Held<RLockGuard<'_, T, C>>> {
        Held::of(acquired, || RLockGuard { lock: self, name, made: Made::here() })
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> Result<Held<RLockGuard<'_, T, C>>> {
        let acquired = self.take(Deadline::NEVER)?;
        self.guard(acquired).ok_or_else(endless)
    }

    /// Takes the lock if no other thread holds it; `None` if one does.
    pub fn try_lock(&self) -> Result<Option<Held<RLockGuard<'_, T, C>>>> {
        self.lock_timeout(Duration::ZERO)
    }

    /// Waits for the lock for at most `timeout`; `None` if it passes.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<Held<RLockGuard<'_, T, C>>>> {
        let acquired = self.take(Deadline::after(timeout))?;
        Ok(self.guard(acquired))
    }

    /// Waits for the lock without a guard: it stays held until as many calls of [`release`](RLock::release). Whether the
    /// last holder died holding it.
    pub fn acquire(&self) -> Result<bool> {
        Ok(self.take(Deadline::NEVER)?.0 == Acquired::Recovered)
    }

    /// Waits for the lock for at most `timeout`, without a guard.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Acquire> {
        Ok(self.take(Deadline::after(timeout))?.0.into())
    }

    /// Releases the lock once.
    ///
    /// # Errors
    /// `NotHeld` if the calling thread does not hold it.
    pub fn release(&self) -> Result<()> {
        let (segment, word) = self.word()?;
        rlock::release(word, thread::name_in(segment)?)
    }

    /// Whether anybody holds it.
    pub fn is_locked(&self) -> Result<bool> {
        Ok(lock::is_locked(self.word()?.1))
    }
}

/// The right to what an [`RLock`] guards; released once when dropped.
///
/// In a child that forks while the guard exists, dropping it does nothing: the parent holds the lock.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RLockGuard<'a, T, C: Codec<T> = Auto> {
    lock: &'a RLock<T, C>,
    /// How the lock word names the holder.
    name: u64,
    made: Made,
}

impl<T, C: Codec<T>> RLockGuard<'_, T, C> {
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
    /// `OutOfMemory`, `Encode`; `NotHeld` if the thread has released the lock under this guard. The old value stays.
    pub fn set(&self, value: &T) -> Result<()> {
        let root = self.lock.handle.root;
        guarded::set::<T, C>(&self.lock.handle, value, |me| {
            Ok(rlock::depth(cell::lock_word(me.segment, root)?, thread::of(me)) > 0)
        })
    }
}

impl<T, C: Codec<T>> Drop for RLockGuard<'_, T, C> {
    #[inline]
    fn drop(&mut self) {
        // Nothing to do in a forked child, nor if the thread has released the lock under its guard.
        if self.made.is_here()
            && let Ok((_, word)) = self.lock.word()
        {
            let _ = rlock::release(word, self.name);
        }
    }
}

impl<T, C: Codec<T>> std::fmt::Debug for RLockGuard<'_, T, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RLockGuard").field("lock", self.lock).finish()
    }
}
