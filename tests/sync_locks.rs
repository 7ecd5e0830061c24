//! Proves what locks, plain and reentrant, promise between processes beside the behaviours of `tests/behaviours/locks.rs`:
//! limits, huge timeouts, and what a death leaves.

mod common;

use std::time::{Duration, Instant};

use common::locks::{hold_plain, hold_reentrant, world};
use common::{SOON, assert_kind, end};
use commons::{Acquire, ErrorKind, Held, Manager, Process, RLock};

#[test]
fn too_deep_a_recursion_is_an_error() {
    commons::init_test!();
    let (_manager, _, rlock, _) = world();
    for _ in 0..32767 {
        assert!(!rlock.acquire().unwrap());
    }
    assert_kind(rlock.acquire(), ErrorKind::TooMany);
    (0..32767).for_each(|_| rlock.release().unwrap());
    assert!(!rlock.is_locked().unwrap());
}

#[test]
fn huge_timeouts_are_as_good_as_none() {
    commons::init_test!();
    let (_manager, lock, rlock, _) = world();
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_nanos(u64::MAX)] {
        assert_eq!(lock.acquire_timeout(timeout).unwrap(), Acquire::Clean);
        assert_eq!(rlock.acquire_timeout(timeout).unwrap(), Acquire::Clean);
        let elsewhere = lock.clone();
        let waiter = std::thread::spawn(move || elsewhere.acquire_timeout(timeout).unwrap());
        std::thread::sleep(Duration::from_millis(5));
        lock.release().unwrap();
        rlock.release().unwrap();
        assert_eq!(waiter.join().unwrap(), Acquire::Clean);
        lock.release().unwrap();
    }
}

/// A waiter that is asleep when the holder is killed gets the lock, and is told; the one after it is not.
#[test]
fn the_lock_of_a_killed_holder_is_recovered() {
    commons::init_test!();
    let (manager, lock, rlock, ready) = world();
    let child = Process::spawn((rlock.clone(), ready.clone()), hold_reentrant).unwrap();
    ready.wait().unwrap();
    let elsewhere = rlock.clone();
    let waiter = std::thread::spawn(move || {
        let held = elsewhere.lock().unwrap();
        (held.is_recovered(), held.into_guard().get().unwrap())
    });
    std::thread::sleep(Duration::from_millis(30));
    let start = Instant::now();
    end(child);
    assert_eq!(waiter.join().unwrap(), (true, 7));
    assert!(start.elapsed() < SOON);
    assert!(matches!(rlock.lock().unwrap(), Held::Clean(_)));
    ready.clear().unwrap();
    let child = Process::spawn((lock.clone(), ready.clone()), hold_plain).unwrap();
    ready.wait().unwrap();
    end(child);
    assert!(matches!(lock.lock().unwrap(), Held::Recovered(_)));
    manager.check().unwrap();
}

/// A thread that ends while it holds a reentrant lock is as good as dead.
#[test]
fn the_rlock_of_an_ended_thread_is_recovered() {
    commons::init_test!();
    let (_manager, _, rlock, _) = world();
    let elsewhere = rlock.clone();
    std::thread::spawn(move || elsewhere.acquire().unwrap()).join().unwrap();
    assert!(rlock.lock().unwrap().is_recovered());
    assert!(!rlock.lock().unwrap().is_recovered());
}

#[test]
fn a_reentrant_lock_excludes_processes() {
    commons::init_test!();
    fn work(lock: RLock<u64>) {
        for _ in 0..500 {
            let outer = lock.lock().unwrap().into_guard();
            let inner = lock.lock().unwrap().into_guard();
            inner.set(&(outer.get().unwrap() + 1)).unwrap();
        }
    }
    let (manager, _, rlock, _) = world();
    let children: Vec<_> = (0..4).map(|_| Process::spawn(rlock.clone(), work).unwrap()).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(rlock.lock().unwrap().into_guard().get().unwrap(), 2000);
    manager.check().unwrap();
}

#[test]
fn locks_nest_as_values_and_have_names() {
    commons::init_test!();
    let (manager, _, rlock, _) = world();
    let dict = manager.dict::<String, RLock<u64>>().unwrap();
    dict.insert("a", &rlock).unwrap();
    assert_eq!(dict.get("a").unwrap().unwrap(), rlock);
    rlock.lock().unwrap().into_guard().set(&3).unwrap();
    drop(rlock);
    assert_eq!(dict.get("a").unwrap().unwrap().lock().unwrap().into_guard().get().unwrap(), 3);
    let named = manager.named("r").rlock("text".to_owned()).unwrap();
    assert_eq!(manager.existing("r").rlock(String::new()).unwrap(), named);
    assert_kind(manager.existing("r").rlock(1u8), ErrorKind::TypeMismatch);
    assert_kind(manager.existing("r").lock(String::new()), ErrorKind::TypeMismatch);
    let outer = manager.rlock(Some(named)).unwrap();
    manager.unlink("r").unwrap();
    manager.collect().unwrap();
    assert_eq!(
        outer.lock().unwrap().into_guard().get().unwrap().unwrap().lock().unwrap().into_guard().get().unwrap(),
        "text"
    );
    manager.check().unwrap();
}

/// What a thread holds is its own, whatever other segments it uses meanwhile.
#[test]
fn releasing_after_work_in_another_segment() {
    commons::init_test!();
    let (manager, _, rlock, _) = world();
    let elsewhere = Manager::new().unwrap();
    let visit = || elsewhere.dict::<u64, u64>().unwrap().insert(&1, &1).unwrap();
    let rwlock = manager.rwlock(()).unwrap();
    assert!(!rlock.acquire().unwrap());
    visit();
    rlock.release().unwrap();
    assert_eq!(rwlock.acquire_write_timeout(Duration::ZERO).unwrap(), Acquire::Clean);
    visit();
    rwlock.release_write().unwrap();
    let once = manager.once::<u8>().unwrap();
    let made = once.get_or_init(|_| {
        visit();
        Ok(1)
    });
    assert_eq!(made.unwrap(), 1);
    assert!(once.is_done().unwrap());
    let failed = manager.once::<u8>().unwrap();
    let refused = failed.get_or_init(|_| {
        visit();
        Err(commons::Error::new(ErrorKind::Closed, "no"))
    });
    assert_kind(refused, ErrorKind::Closed);
    let again = std::thread::spawn(move || failed.get_or_init_timeout(SOON, |_| Ok(2)).unwrap());
    assert_eq!(again.join().unwrap(), Some(2), "the right was given up");
}
