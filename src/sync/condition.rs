//! The condition.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{Codec, fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::lock::{Held, Lock, endless};
use crate::mem::SegmentId;
use crate::raw::object::{Kind, ObjectId};
use crate::raw::sync::condition::{self, Progress, UserLock, Woken};
use crate::raw::wait::Deadline;
use crate::raw::{cell, recovery};

use super::rlock::RLock;

/// A lock that a [`Condition`] can belong to: [`Lock`] and [`RLock`].
pub trait ConditionLock: sealed::Sealed + Clone + Serialize + DeserializeOwned {}

impl<T, C: Codec<T>> ConditionLock for Lock<T, C> {}
impl<T, C: Codec<T>> ConditionLock for RLock<T, C> {}

#[cold]
pub(super) fn foreign_lock() -> Error {
    Error::new(ErrorKind::InvalidInput, "a condition with a lock that is not its own")
}

pub(super) mod sealed {
    use super::*;

    pub trait Sealed {
        #[doc(hidden)]
        fn id(&self) -> ObjectId;
        #[doc(hidden)]
        fn segment_id(&self) -> SegmentId;
        #[doc(hidden)]
        fn user_lock(&self) -> Result<UserLock<'_>>;
    }

    macro_rules! sealed {
        ($lock:ident, $form:ident) => {
            impl<T, C: Codec<T>> Sealed for $lock<T, C> {
                fn id(&self) -> ObjectId {
                    self.handle.hold.id()
                }

                fn segment_id(&self) -> SegmentId {
                    self.handle.hold.session().segment().id()
                }

                fn user_lock(&self) -> Result<UserLock<'_>> {
                    Ok(UserLock::$form(cell::lock_word(self.handle.hold.segment()?, self.handle.root)?))
                }
            }
        };
    }

    sealed!(Lock, Plain);
    sealed!(RLock, Reentrant);
}

/// Waiting, under a lock, for what others do under the same lock.
///
/// A condition belongs to one [`Lock`] or [`RLock`] for good, and its handle carries a handle of that lock. The calling thread must
/// hold the lock, by a guard or without. Waiting releases it, however often a reentrant one is held, and acquires it again
/// before it returns; so guards stay what they are.
///
/// # Crash
/// A notification of a thread that dies before it has the lock again goes to another that waited at the same time: it is
/// never lost, and may come twice if the other is killed as well, in the midst of that. If the holder of the lock dies, one of those
/// that wait takes the lock and returns [`Woken::HolderDied`]; the others wait on.
///
/// # Complexity
/// 8 KiB each. Notifying looks at the word of every thread of the segment.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use commons::{Held, Manager, Woken};
///
/// let manager = Manager::new()?;
/// let stock = manager.lock(0u32)?;
/// let changed = manager.condition(&stock)?;
/// let guard = stock.lock()?.into_guard();
/// let end = changed.wait_timeout(Duration::from_millis(1))?; // nobody is there to change it
/// assert_eq!(end.into_guard(), Woken::TimedOut);
/// guard.set(&1)?;
/// assert_eq!(changed.notify_all()?, 0);
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Condition<L = Lock> {
    handle: Handle,
    lock: L,
}

impl<L: ConditionLock> Condition<L> {
    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["condition", std::any::type_name::<L>()])
    }

    /// Over a handle that must be of a condition of `lock`.
    pub(crate) fn of(handle: Handle, lock: L) -> Result<Self> {
        let id = condition::lock_of(handle.hold.segment()?, handle.root)?;
        if id != lock.id() || lock.segment_id() != handle.hold.session().segment().id() {
            return Err(foreign_lock());
        }
        Ok(Condition { handle, lock })
    }

    /// The lock that it belongs to.
    pub fn lock(&self) -> &L {
        &self.lock
    }

    fn wait_until(&self, deadline: Deadline) -> Result<Held<Woken>> {
        let segment = self.handle.hold.segment()?;
        let (root, lock) = (self.handle.root, self.lock.user_lock()?);
        let mut progress = Progress::default();
        let result = recovery::run(segment, |me| condition::wait(me, root, lock, deadline, &mut progress));
        match result {
            Ok((acquired, woken)) => Held::of(acquired, || woken).ok_or_else(endless),
            Err(error) => {
                if progress.has_begun() {
                    // Failing too, this process is a member no more: then it counts as gone.
                    let _ = recovery::run(segment, |me| Ok(condition::abandon(me, root)?));
                }
                Err(error)
            }
        }
    }

    /// Waits for a notification. How the lock was left by its last holder, and why the wait ended: not
    /// [`Woken::TimedOut`].
    ///
    /// # Errors
    /// `NotHeld` if the calling thread does not hold the lock. After any other error it does not hold the lock.
    pub fn wait(&self) -> Result<Held<Woken>> {
        self.wait_until(Deadline::NEVER)
    }

    /// Waits for a notification for at most `timeout`, and then for the lock. A notification that comes before the lock is
    /// acquired again counts.
    ///
    /// # Errors
    /// As [`wait`](Condition::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Held<Woken>> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Waits until `predicate`, which is tested under the lock, at first and after each notification, says true. Whether the
    /// lock was recovered in between.
    ///
    /// # Errors
    /// As [`wait`](Condition::wait), and those of `predicate`.
    pub fn wait_for(&self, predicate: impl FnMut() -> Result<bool>) -> Result<Held<()>> {
        Ok(match self.wait_for_until(None, predicate)? {
            Held::Clean(_) => Held::Clean(()),
            Held::Recovered(_) => Held::Recovered(()),
        })
    }

    /// The same for at most `timeout`: what `predicate` said last.
    ///
    /// # Errors
    /// As [`wait_for`](Condition::wait_for).
    pub fn wait_for_timeout(&self, timeout: Duration, predicate: impl FnMut() -> Result<bool>) -> Result<Held<bool>> {
        self.wait_for_until(Some(timeout), predicate)
    }

    fn wait_for_until(
        &self,
        timeout: Option<Duration>,
        mut predicate: impl FnMut() -> Result<bool>,
    ) -> Result<Held<bool>> {
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let mut recovered = false;
        let mut last = Woken::Notified;
        loop {
            let holds = predicate()?;
            if holds || last == Woken::TimedOut {
                return Ok(if recovered { Held::Recovered(holds) } else { Held::Clean(holds) });
            }
            let woken = self.wait_until(deadline)?;
            recovered |= woken.is_recovered();
            last = woken.into_guard();
        }
    }

    /// Notifies that many of those that wait, those first that have waited longest. How many there were.
    ///
    /// # Crash
    /// Killed in between, it has notified some of them; the lock is recovered.
    ///
    /// # Errors
    /// `NotHeld` if the calling thread does not hold the lock.
    pub fn notify(&self, count: usize) -> Result<usize> {
        let segment = self.handle.hold.segment()?;
        let (root, lock) = (self.handle.root, self.lock.user_lock()?);
        recovery::run(segment, |me| Ok(condition::notify(me, root, lock, count)?))
    }

    /// Notifies the one that has waited longest; whether there was one.
    ///
    /// # Errors
    /// As [`notify`](Condition::notify).
    pub fn notify_one(&self) -> Result<bool> {
        Ok(self.notify(1)? == 1)
    }

    /// Notifies all that wait. How many there were.
    ///
    /// # Errors
    /// As [`notify`](Condition::notify).
    pub fn notify_all(&self) -> Result<usize> {
        self.notify(usize::MAX)
    }
}

impl<L: Clone> Clone for Condition<L> {
    fn clone(&self) -> Self {
        Condition { handle: self.handle.clone(), lock: self.lock.clone() }
    }
}

/// Identity of the object, not equality of contents.
impl<L> PartialEq for Condition<L> {
    fn eq(&self, other: &Self) -> bool {
        self.handle == other.handle
    }
}

impl<L> Eq for Condition<L> {}

impl<L> fmt::Debug for Condition<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("object", &self.handle.hold.id().index).finish_non_exhaustive()
    }
}

/// The handle alone, as one of the two parts in which a condition travels.
struct Own<L>(Handle, PhantomData<L>);

impl<L> Serialize for Own<L> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, L: ConditionLock> Deserialize<'de> for Own<L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fingerprint = Condition::<L>::fingerprint();
        Handle::deserialize(deserializer, Kind::Condition, fingerprint).map(|handle| Own(handle, PhantomData))
    }
}

impl<L: ConditionLock> Serialize for Condition<L> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Own::<L>(self.handle.clone(), PhantomData), &self.lock).serialize(serializer)
    }
}

impl<'de, L: ConditionLock> Deserialize<'de> for Condition<L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (own, lock) = <(Own<L>, L)>::deserialize(deserializer)?;
        Condition::of(own.0, lock).map_err(serde::de::Error::custom)
    }
}
