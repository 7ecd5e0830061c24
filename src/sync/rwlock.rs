//! The read-write lock.

use std::marker::PhantomData;
use std::time::Duration;

use crate::codec::{Auto, Codec, fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::guarded::{self, Made};
use crate::handle::{Handle, handle_traits};
use crate::lock::{Acquire, Held, endless};
use crate::mem::{Segment, Step};
use crate::raw::lock::Acquired;
use crate::raw::object::Kind;
use crate::raw::recovery;
use crate::raw::sync::{rwlock, thread};
use crate::raw::wait::Deadline;

/// A lock between processes that many may hold for reading or one for writing, around a value of type `T` or around nothing.
///
/// The holders are threads. A thread may read several times at once. The upgradable form reads along with the readers, and
/// can become the writer without letting go; there is one at a time, and no writer beside it.
///
/// # Fairness
/// A reader waits for one writer at most: the writer that leaves lets in all the readers that wait. A writer waits only for
/// readers that came before it. Writers among themselves, the upgradable included, are in no order.
///
/// # Crash
/// A reader that dies, or whose thread ends, reads no more. Where a writer does, whoever gets the lock next in whatever form,
/// and everybody until some writer has released it, is told: [`Held::Recovered`].
///
/// # Blocking
/// As [`Lock`](crate::Lock).
///
/// # Complexity
/// 8 KiB each. Reading is two stores of the thread's own word; writing looks at the word of every thread of the segment.
///
/// # Errors
/// `WouldDeadlock` for writing while the same thread reads, for reading while it writes, and for either beside its own upgradable
/// form; `TooMany` when one thread reads 16384 times at once.
///
/// # Examples
/// ```
/// use commons::Manager;
///
/// let limits = Manager::new()?.rwlock((1u32, 10u32))?;
/// assert_eq!(limits.read()?.into_guard().get()?, (1, 10));
/// limits.write()?.into_guard().set(&(2, 20))?;
/// let upgradable = limits.upgradable()?.into_guard();
/// if upgradable.get()?.1 < 30 {
///     upgradable.upgrade()?.into_guard().set(&(2, 30))?;
/// }
/// assert_eq!(limits.read()?.into_guard().get()?, (2, 30));
/// # Ok::<(), commons::Error>(())
/// ```
pub struct RwLock<T = (), C = Auto> {
    handle: Handle,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], RwLock<T, C>, "RwLock");

impl<T, C: Codec<T>> RwLock<T, C> {
    pub(crate) const KIND: Kind = Kind::RwLock;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["rwlock", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        rwlock::RwLock::at(handle.hold.segment()?, handle.root)?;
        Ok(RwLock { handle, types: PhantomData })
    }

    fn with_handle(&self, handle: Handle) -> Self {
        RwLock { handle, types: PhantomData }
    }

    #[inline]
    fn raw(&self) -> Result<(&Segment, rwlock::RwLock<'_>)> {
        let segment = self.handle.hold.segment()?;
        Ok((segment, rwlock::RwLock::at(segment, self.handle.root)?))
    }

    /// Does what takes the name of the calling thread.
    fn run(&self, operation: impl Fn(u64, rwlock::RwLock<'_>) -> Step<Acquired>) -> Result<(Acquired, u64)> {
        let (segment, raw) = self.raw()?;
        recovery::run(segment, |me| Ok((operation(thread::of(me), raw)?, thread::of(me))))
    }

    #[inline]
    fn take_read(&self, deadline: Deadline) -> Result<(Acquired, u64)> {
        let (segment, raw) = self.raw()?;
        if let Some(name) = thread::current(segment)
            && let Some(acquired) = raw.enter(name)?
        {
            return Ok((acquired, name));
        }
        self.run(|name, raw| raw.read(name, deadline))
    }

    fn take_write(&self, deadline: Deadline) -> Result<(Acquired, u64)> {
        self.run(|name, raw| raw.write(name, deadline))
    }

    fn read_until(&self, deadline: Deadline) -> Result<Option<Held<RwLockReadGuard<'_, T, C>>>> {
        let (acquired, name) = self.take_read(deadline)?;
        Ok(Held::of(acquired, || RwLockReadGuard { lock: self, name, made: Made::here() }))
    }

    fn write_until(&self, deadline: Deadline) -> Result<Option<Held<RwLockWriteGuard<'_, T, C>>>> {
        let (acquired, name) = self.take_write(deadline)?;
        Ok(Held::of(acquired, || RwLockWriteGuard { lock: self, name, made: Made::here() }))
    }

    fn upgradable_until(&self, deadline: Deadline) -> Result<Option<Held<RwLockUpgradableGuard<'_, T, C>>>> {
        let (acquired, name) = self.run(|name, raw| raw.upgradable(name, deadline))?;
        Ok(Held::of(acquired, || RwLockUpgradableGuard { lock: self, name, made: Made::here() }))
    }

    /// Waits for the lock for reading.
    #[inline]
    pub fn read(&self) -> Result<Held<RwLockReadGuard<'_, T, C>>> {
        self.read_until(Deadline::NEVER)?.ok_or_else(endless)
    }

    /// Takes the lock for reading if nobody writes or waits to write; `None` otherwise.
    pub fn try_read(&self) -> Result<Option<Held<RwLockReadGuard<'_, T, C>>>> {
        self.read_until(Deadline::after(Duration::ZERO))
    }

    /// Waits for the lock for reading for at most `timeout`; `None` if it passes.
    pub fn read_timeout(&self, timeout: Duration) -> Result<Option<Held<RwLockReadGuard<'_, T, C>>>> {
        self.read_until(Deadline::after(timeout))
    }

    /// Waits for the lock for writing.
    pub fn write(&self) -> Result<Held<RwLockWriteGuard<'_, T, C>>> {
        self.write_until(Deadline::NEVER)?.ok_or_else(endless)
    }

    /// Takes the lock for writing if nobody has it in any form; `None` otherwise.
    pub fn try_write(&self) -> Result<Option<Held<RwLockWriteGuard<'_, T, C>>>> {
        self.write_until(Deadline::after(Duration::ZERO))
    }

    /// Waits for the lock for writing for at most `timeout`; `None` if it passes, and then readers may go on as before.
    pub fn write_timeout(&self, timeout: Duration) -> Result<Option<Held<RwLockWriteGuard<'_, T, C>>>> {
        self.write_until(Deadline::after(timeout))
    }

    /// Waits for the upgradable form.
    pub fn upgradable(&self) -> Result<Held<RwLockUpgradableGuard<'_, T, C>>> {
        self.upgradable_until(Deadline::NEVER)?.ok_or_else(endless)
    }

    /// Takes the upgradable form if nobody has it or writes; `None` otherwise.
    pub fn try_upgradable(&self) -> Result<Option<Held<RwLockUpgradableGuard<'_, T, C>>>> {
        self.upgradable_until(Deadline::after(Duration::ZERO))
    }

    /// Waits for the upgradable form for at most `timeout`; `None` if it passes.
    pub fn upgradable_timeout(&self, timeout: Duration) -> Result<Option<Held<RwLockUpgradableGuard<'_, T, C>>>> {
        self.upgradable_until(Deadline::after(timeout))
    }

    /// Waits for the lock for reading, without a guard, for at most `timeout`: it stays held until
    /// [`release_read`](RwLock::release_read).
    pub fn acquire_read_timeout(&self, timeout: Duration) -> Result<Acquire> {
        Ok(self.take_read(Deadline::after(timeout))?.0.into())
    }

    /// Waits for the lock for writing, without a guard, for at most `timeout`: it stays held until
    /// [`release_write`](RwLock::release_write).
    pub fn acquire_write_timeout(&self, timeout: Duration) -> Result<Acquire> {
        Ok(self.take_write(Deadline::after(timeout))?.0.into())
    }

    fn named(&self) -> Result<(rwlock::RwLock<'_>, u64)> {
        let (segment, raw) = self.raw()?;
        Ok((raw, thread::name_in(segment)?))
    }

    /// Ends one reading of the calling thread.
    ///
    /// # Errors
    /// `NotHeld` if it does not read.
    pub fn release_read(&self) -> Result<()> {
        let (raw, name) = self.named()?;
        raw.end_read(name)
    }

    /// Ends the writing of the calling thread.
    ///
    /// # Errors
    /// `NotHeld` if it does not write.
    pub fn release_write(&self) -> Result<()> {
        let (raw, name) = self.named()?;
        raw.end_write(name, false)
    }

    /// Whether anybody has it for writing, or waits for nothing but readers.
    pub fn is_write_locked(&self) -> Result<bool> {
        Ok(self.raw()?.1.is_write_locked())
    }

    /// How many threads read. The upgradable form does not count.
    pub fn readers(&self) -> Result<usize> {
        Ok(self.raw()?.1.count_readers())
    }
}

/// Implements what every guard of a read-write lock has.
macro_rules! guard {
    ($(#[$doc:meta])* $guard:ident, $end:expr) => {
        $(#[$doc])*
        ///
        /// In a child that forks while the guard exists, dropping it does nothing: the parent holds the lock.
        #[must_use = "the lock is released when the guard is dropped"]
        pub struct $guard<'a, T, C: Codec<T> = Auto> {
            lock: &'a RwLock<T, C>,
            /// How the lock's words name the holder.
            name: u64,
                    made: Made,
        }

        impl<T, C: Codec<T>> $guard<'_, T, C> {
            /// The value.
            ///
            /// # Errors
            /// `Decode` if what is stored is no `T`.
            pub fn get(&self) -> Result<T> {
                guarded::get::<T, C>(&self.lock.handle)
            }
        }

        impl<T, C: Codec<T>> Drop for $guard<'_, T, C> {
            #[inline]
            fn drop(&mut self) {
                // Nothing to do in a forked child, nor if the thread has released the lock under its guard.
                if self.made.is_here()
                    && let Ok((_, raw)) = self.lock.raw()
                {
                    let end: fn(rwlock::RwLock<'_>, u64) -> Result<()> = $end;
                    let _ = end(raw, self.name);
                }
            }
        }

        impl<T, C: Codec<T>> std::fmt::Debug for $guard<'_, T, C> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($guard)).field("lock", self.lock).finish()
            }
        }
    };
}

guard! {
    /// The right to read what an [`RwLock`] guards; released when dropped.
    RwLockReadGuard, |raw, name| raw.end_read(name)
}

guard! {
    /// The right to write what an [`RwLock`] guards; released when dropped.
    RwLockWriteGuard, |raw, name| raw.end_write(name, false)
}

guard! {
    /// The right to read what an [`RwLock`] guards, and to become the next writer; released when dropped.
    RwLockUpgradableGuard, |raw, name| raw.end_upgradable(name)
}

impl<'a, T, C: Codec<T>> RwLockWriteGuard<'a, T, C> {
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
            Ok(rwlock::RwLock::at(me.segment, root)?.is_writer(thread::of(me)))
        })
    }

    /// Lets the readers in, and nobody write.
    ///
    /// # Errors
    /// `NotHeld` if the thread has released the lock under this guard.
    pub fn downgrade(self) -> Result<RwLockUpgradableGuard<'a, T, C>> {
        if !self.made.is_here() {
            return Err(Error::new(ErrorKind::NotHeld, "a lock that another process holds"));
        }
        let (lock, name) = (self.lock, self.name);
        std::mem::forget(self);
        lock.raw()?.1.end_write(name, true)?;
        Ok(RwLockUpgradableGuard { lock, name, made: Made::here() })
    }
}

impl<'a, T, C: Codec<T>> RwLockUpgradableGuard<'a, T, C> {
    /// Waits until the readers are out, and writes. New readers wait meanwhile.
    ///
    /// # Errors
    /// `WouldDeadlock` if the thread reads by another guard.
    pub fn upgrade(self) -> Result<Held<RwLockWriteGuard<'a, T, C>>> {
        self.upgrade_until(Deadline::NEVER)?.map_err(|_| endless())
    }

    /// Waits until the readers are out for at most `timeout`; this guard again if it passes.
    ///
    /// # Errors
    /// As [`upgrade`](RwLockUpgradableGuard::upgrade).
    pub fn upgrade_timeout(self, timeout: Duration) -> Result<Result<Held<RwLockWriteGuard<'a, T, C>>, Self>> {
        self.upgrade_until(Deadline::after(timeout))
    }

    fn upgrade_until(self, deadline: Deadline) -> Result<Result<Held<RwLockWriteGuard<'a, T, C>>, Self>> {
        let (acquired, name) = self.lock.run(|name, raw| raw.upgrade(name, deadline))?;
        let held = Held::of(acquired, || RwLockWriteGuard { lock: self.lock, name, made: Made::here() });
        Ok(match held {
            Some(held) => {
                std::mem::forget(self);
                Ok(held)
            }
            None => Err(self),
        })
    }
}
