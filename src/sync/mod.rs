//! Synchronisation between processes, and how a [`Manager`] makes it.

mod barrier;
mod condition;
mod event;
mod once;
mod rlock;
mod rwlock;
mod semaphore;

pub use crate::raw::sync::condition::Woken;
pub use barrier::{Barrier, Passage};
pub use condition::{Condition, ConditionLock};
pub use event::Event;
pub use once::{Attempt, Once};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard};
pub use semaphore::{BoundedSemaphore, Permit, Semaphore};

use crate::codec::{Auto, Codec};
use crate::error::Result;
use crate::guarded;
use crate::manager::{Manager, Place};
use crate::raw::object::Kind;
use crate::raw::sync as raw;
use condition::foreign_lock;

impl Manager {
    /// Creates an anonymous reentrant lock around `value`; `()` if it guards nothing in particular.
    pub fn rlock<T>(&self, value: T) -> Result<RLock<T>>
    where
        Auto: Codec<T>,
    {
        self.place().rlock(value)
    }

    /// Creates an anonymous read-write lock around `value`.
    pub fn rwlock<T>(&self, value: T) -> Result<RwLock<T>>
    where
        Auto: Codec<T>,
    {
        self.place().rwlock(value)
    }

    /// Creates an anonymous semaphore with that many free permits.
    pub fn semaphore(&self, permits: u32) -> Result<Semaphore> {
        self.place().semaphore(permits)
    }

    /// Creates an anonymous semaphore that never has more than that many permits.
    pub fn bounded_semaphore(&self, permits: u32) -> Result<BoundedSemaphore> {
        self.place().bounded_semaphore(permits)
    }

    /// Creates an anonymous condition of `lock`.
    pub fn condition<L: ConditionLock>(&self, lock: &L) -> Result<Condition<L>> {
        self.place().condition(lock)
    }

    /// Creates an anonymous event that is not set.
    pub fn event(&self) -> Result<Event> {
        self.place().event()
    }

    /// Creates an anonymous barrier for that many parties.
    ///
    /// # Errors
    /// `InvalidInput` for no parties, or more than 1024.
    pub fn barrier(&self, parties: usize) -> Result<Barrier> {
        self.place().barrier(parties)
    }

    /// Creates an anonymous value that is made once.
    pub fn once<T>(&self) -> Result<Once<T>>
    where
        Auto: Codec<T>,
    {
        self.place().once()
    }
}

impl Place<'_> {
    /// A reentrant lock around `value`. One that exists keeps the value it has.
    pub fn rlock<T>(self, value: T) -> Result<RLock<T>>
    where
        Auto: Codec<T>,
    {
        let handle = self.object(Kind::RLock, RLock::<T>::fingerprint(), |session, fingerprint| {
            guarded::create(session, Kind::RLock, fingerprint, 0, &value)
        })?;
        RLock::over(handle)
    }

    /// A read-write lock around `value`. One that exists keeps the value it has.
    pub fn rwlock<T>(self, value: T) -> Result<RwLock<T>>
    where
        Auto: Codec<T>,
    {
        let handle = self.object(Kind::RwLock, RwLock::<T>::fingerprint(), |session, fingerprint| {
            guarded::create(session, Kind::RwLock, fingerprint, raw::rwlock::MORE, &value)
        })?;
        RwLock::over(handle)
    }

    /// A semaphore with that many free permits. One that exists keeps those it has.
    pub fn semaphore(self, permits: u32) -> Result<Semaphore> {
        self.any_semaphore(permits)
    }

    /// A semaphore that never has more than that many permits. One that exists keeps its own bound.
    pub fn bounded_semaphore(self, permits: u32) -> Result<BoundedSemaphore> {
        self.any_semaphore(permits)
    }

    fn any_semaphore<const BOUNDED: bool>(self, permits: u32) -> Result<Semaphore<BOUNDED>> {
        let handle = self.object(Kind::Semaphore, Semaphore::<BOUNDED>::fingerprint(), |session, fingerprint| {
            session.create(Kind::Semaphore, fingerprint, |me, root| raw::semaphore::create(me, root, permits, BOUNDED))
        })?;
        Semaphore::over(handle)
    }

    /// A condition of `lock`.
    ///
    /// # Errors
    /// `InvalidInput` if there is one of that name that belongs to another lock, or `lock` is of another segment.
    pub fn condition<L: ConditionLock>(self, lock: &L) -> Result<Condition<L>> {
        let id = lock.id();
        if lock.segment_id() != self.manager().session().segment().id() {
            return Err(foreign_lock());
        }
        let handle = self.object(Kind::Condition, Condition::<L>::fingerprint(), |session, fingerprint| {
            session.create(Kind::Condition, fingerprint, |me, root| raw::condition::create(me, root, id))
        })?;
        Condition::of(handle, lock.clone())
    }

    /// An event, not set if it is new.
    pub fn event(self) -> Result<Event> {
        let handle = self.object(Kind::Event, Event::fingerprint(), |session, fingerprint| {
            session.create(Kind::Event, fingerprint, raw::event::create)
        })?;
        Event::over(handle)
    }

    /// A barrier for that many parties. One that exists keeps its own number.
    ///
    /// # Errors
    /// `InvalidInput` for no parties, or more than 1024.
    pub fn barrier(self, parties: usize) -> Result<Barrier> {
        let handle = self.object(Kind::Barrier, Barrier::fingerprint(), |session, fingerprint| {
            session.create(Kind::Barrier, fingerprint, |me, root| raw::barrier::create(me, root, parties))
        })?;
        Barrier::over(handle)
    }

    /// A value that is made once.
    pub fn once<T>(self) -> Result<Once<T>>
    where
        Auto: Codec<T>,
    {
        let handle = self.object(Kind::Once, Once::<T>::fingerprint(), |session, fingerprint| {
            session.create(Kind::Once, fingerprint, |me, root| {
                crate::raw::cell::create(me, root, raw::once::MORE, &[], &[])
            })
        })?;
        Once::over(handle)
    }
}
