//! The value that is made once.

use std::marker::PhantomData;
use std::time::Duration;

use crate::codec::{Auto, Codec, fingerprint};
use crate::error::Result;
use crate::guarded::{self, Made};
use crate::handle::{Handle, handle_traits};
use crate::lock::endless;
use crate::raw::lock::Acquired;
use crate::raw::object::Kind;
use crate::raw::recovery;
use crate::raw::sync::{once, thread};
use crate::raw::wait::Deadline;

/// A value that one process makes, and all others find; `Once<()>` for something that is to be done once.
///
/// # Crash
/// If the process that makes the value dies, or its thread ends, the next that asks makes it, and is told so:
/// [`Attempt::AfterCrash`]. The value is there completely or not at all.
///
/// # Blocking
/// While another makes the value, as [`Lock`](crate::Lock).
///
/// # Examples
/// ```
/// use commons::Manager;
///
/// let table = Manager::new()?.once::<Vec<u32>>()?;
/// assert_eq!(table.get()?, None);
/// assert_eq!(table.get_or_init(|_| Ok(vec![1, 4, 9]))?, [1, 4, 9]);
/// assert_eq!(table.get_or_init(|_| unreachable!())?, [1, 4, 9]);
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Once<T = (), C = Auto> {
    handle: Handle,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], Once<T, C>, "Once");

/// What an initialiser finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Nobody has begun, or whoever did has returned an error or panicked.
    Clean,
    /// Somebody had begun and died. What it did besides making the value may be half done.
    AfterCrash,
}

impl<T, C: Codec<T>> Once<T, C> {
    pub(crate) const KIND: Kind = Kind::Once;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["once", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        once::is_done(handle.hold.segment()?, handle.root)?;
        Ok(Once { handle, types: PhantomData })
    }

    fn with_handle(&self, handle: Handle) -> Self {
        Once { handle, types: PhantomData }
    }

    /// The value, if it is made.
    ///
    /// # Errors
    /// `Decode` if what is stored is no `T`.
    pub fn get(&self) -> Result<Option<T>> {
        match self.is_done()? {
            true => guarded::get::<T, C>(&self.handle).map(Some),
            false => Ok(None),
        }
    }

    /// Whether the value is made.
    #[inline]
    pub fn is_done(&self) -> Result<bool> {
        once::is_done(self.handle.hold.segment()?, self.handle.root)
    }

    /// The value, made by `make` if nobody has made it.
    ///
    /// # Errors
    /// That of `make`: then the next who asks makes it. `WouldDeadlock` inside `make`. As [`get`](Once::get); `OutOfMemory`,
    /// `Encode`.
    pub fn get_or_init(&self, make: impl FnOnce(Attempt) -> Result<T>) -> Result<T> {
        self.make_until(Deadline::NEVER, make)?.ok_or_else(endless)
    }

    /// The same, waiting for another that makes it for at most `timeout`; `None` if it passes.
    ///
    /// # Errors
    /// As [`get_or_init`](Once::get_or_init).
    pub fn get_or_init_timeout(&self, timeout: Duration, make: impl FnOnce(Attempt) -> Result<T>) -> Result<Option<T>> {
        self.make_until(Deadline::after(timeout), make)
    }

    fn make_until(&self, deadline: Deadline, make: impl FnOnce(Attempt) -> Result<T>) -> Result<Option<T>> {
        if let Some(value) = self.get()? {
            return Ok(Some(value));
        }
        let segment = self.handle.hold.segment()?;
        let root = self.handle.root;
        let (acquired, name) = recovery::run(segment, |me| Ok((once::begin(me, root, deadline)?, thread::of(me))))?;
        let attempt = match acquired {
            Acquired::Clean => Attempt::Clean,
            Acquired::Recovered => Attempt::AfterCrash,
            Acquired::TimedOut => return Ok(None),
        };
        let making = Making { handle: &self.handle, name, made: Made::here() };
        if !self.is_done()? {
            let value = make(attempt)?;
            guarded::set::<T, C>(&self.handle, &value, |me| once::is_maker(me, root))?;
            once::publish(segment, root)?;
        }
        drop(making);
        self.get()
    }
}

/// The right to make the value; given up when dropped, so by a panic, too.
struct Making<'a> {
    handle: &'a Handle,
    /// How the lock word names the maker.
    name: u64,
    made: Made,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        // In a child that `make` has forked the parent goes on making.
        if self.made.is_here()
            && let Ok(segment) = self.handle.hold.segment()
        {
            let _ = once::end(segment, self.handle.root, self.name);
        }
    }
}
