//! A value of which a forked child gets one of its own.
//!
//! A lock that another thread of the parent held is held for ever in the child, and what it protects may be half
//! changed. So what a process keeps behind a lock for itself begins anew in each child, on whichever way it was made.
//!
//! # Thread safety
//!
//! Lock-free. Several threads of a child that look first at once each make a value, and all go on with the same one.
//!
//! # Invariants
//!
//! 1. An entry is not changed once it is stored, and not freed while the `PerProcess` lives.
//! 2. A value of another process is never dropped: it may be half changed.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::fork::generation;

/// A value for each process; see the module.
pub struct PerProcess<T: Send + Sync + 'static> {
    current: AtomicPtr<Entry<T>>,
    /// Makes a process's value, given the parent's, which it must not rely on: locks in it may be taken.
    make: fn(Option<&T>) -> T,
}

struct Entry<T> {
    process: u64,
    value: T,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    /// Values that `make` makes when they are first asked for. It gets the parent's value, if there is one, of which it
    /// may try the locks, and no more: it must not even unlock them.
    pub const fn new(make: fn(Option<&T>) -> T) -> PerProcess<T> {
        PerProcess { current: AtomicPtr::new(null_mut()), make }
    }

    /// The calling process's.
    #[inline]
    pub fn get(&self) -> &T {
        // SAFETY: the pointer is null or was made by `Box::into_raw` in `make_entry`, and is freed by `drop` only, which has
        // `self` to itself. Acquire: the entry's contents are visible.
        match unsafe { self.current.load(Ordering::Acquire).as_ref() } {
            Some(entry) if entry.process == generation() => &entry.value,
            _ => self.make_entry(),
        }
    }

    #[cold]
    fn make_entry(&self) -> &T {
        let process = generation();
        // Ends: a round fails only if another thread of this process stored its entry, which is then found.
        loop {
            let seen = self.current.load(Ordering::Acquire);
            // SAFETY: as in `get`.
            let parents = match unsafe { seen.as_ref() } {
                Some(entry) if entry.process == process => return &entry.value,
                parents => parents,
            };
            let value = (self.make)(parents.map(|entry| &entry.value));
            let made = Box::into_raw(Box::new(Entry { process, value }));
            // Release: who finds the entry finds its contents. The parent's entry is leaked.
            if self.current.compare_exchange(seen, made, Ordering::Release, Ordering::Relaxed).is_err() {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
            }
        }
    }
}

impl<T: Send + Sync + 'static> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let entry = *self.current.get_mut();
        // SAFETY: as in `get`.
        if unsafe { entry.as_ref() }.is_some_and(|entry| entry.process == generation()) {
            // SAFETY: it came from `Box::into_raw`, and with `&mut self` nobody borrows from it.
            drop(unsafe { Box::from_raw(entry) });
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves that a child gets a value of its own, whatever state the parent's is in, and threads of one process the
    //! same.
    use parking_lot::Mutex;

    use super::*;
    use crate::os::testing::Child;

    #[test]
    fn a_child_has_its_own() {
        static NUMBERS: PerProcess<Mutex<Vec<u32>>> = PerProcess::new(|parents| {
            let inherited =
                parents.and_then(Mutex::try_lock).map(|numbers| std::mem::ManuallyDrop::new(numbers).clone());
            Mutex::new(inherited.unwrap_or_default())
        });
        NUMBERS.get().lock().push(1);
        let child = Child::fork(|| {
            NUMBERS.get().lock().push(2);
            i32::from(*NUMBERS.get().lock() != [1, 2])
        });
        assert_eq!(child.wait().code(), Some(0));
        let held = NUMBERS.get().lock();
        let child = Child::fork(|| {
            NUMBERS.get().lock().push(3);
            i32::from(*NUMBERS.get().lock() != [3])
        });
        assert_eq!(child.wait().code(), Some(0));
        assert_eq!(*held, [1]);
    }

    #[test]
    fn threads_share_one() {
        let value = PerProcess::<u64>::new(|_| crate::os::random_u64());
        let seen: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| *value.get())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|number| number == value.get()));
    }
}
