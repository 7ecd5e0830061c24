//! Behaviours 7 to 11: locks and semaphores.

use std::time::{Duration, Instant};

use commons::{Acquire, ErrorKind, Lock, Manager, Process, RLock, Semaphore};

use crate::common::locks::{hold_plain, hold_reentrant, world};
use crate::common::{SOON, assert_kind, end};

#[test]
fn b07_try_acquire_of_a_held_lock_fails() {
    commons::init_test!();
    let (_manager, lock, rlock, ready) = world();
    let plain = Process::spawn((lock.clone(), ready.clone()), hold_plain).unwrap();
    ready.wait().unwrap();
    assert!(lock.try_lock().unwrap().is_none());
    assert_eq!(lock.acquire_timeout(Duration::ZERO).unwrap(), Acquire::TimedOut);
    ready.clear().unwrap();
    let reentrant = Process::spawn((rlock.clone(), ready.clone()), hold_reentrant).unwrap();
    ready.wait().unwrap();
    assert!(rlock.try_lock().unwrap().is_none());
    assert_eq!(rlock.acquire_timeout(Duration::from_micros(50)).unwrap(), Acquire::TimedOut);
    end(plain);
    end(reentrant);
}

#[test]
fn b07_releasing_an_unlocked_lock_is_an_error() {
    commons::init_test!();
    let (_manager, lock, rlock, _) = world();
    assert_kind(lock.release(), ErrorKind::NotHeld);
    assert_kind(rlock.release(), ErrorKind::NotHeld);
    drop(lock.lock().unwrap());
    drop(rlock.lock().unwrap());
    assert_kind(lock.release(), ErrorKind::NotHeld);
    assert_kind(rlock.release(), ErrorKind::NotHeld);
}

#[test]
fn b07_a_plain_lock_may_be_released_by_another_process() {
    commons::init_test!();
    let (_manager, lock, _, _) = world();
    lock.acquire().unwrap();
    Process::spawn(lock.clone(), |lock: Lock<u64>| lock.release().unwrap()).unwrap().join().unwrap();
    assert!(!lock.is_locked().unwrap());
    assert_kind(lock.release(), ErrorKind::NotHeld);
}

#[test]
fn b08_an_rlock_recurses() {
    commons::init_test!();
    let (_manager, _, rlock, _) = world();
    let guards: Vec<_> = (0..10).map(|_| rlock.lock().unwrap().into_guard()).collect();
    assert_eq!(rlock.acquire_timeout(Duration::ZERO).unwrap(), Acquire::Clean);
    guards[3].set(&5).unwrap();
    drop(guards);
    assert!(rlock.is_locked().unwrap());
    let elsewhere = rlock.clone();
    std::thread::spawn(move || assert!(elsewhere.try_lock().unwrap().is_none())).join().unwrap();
    rlock.release().unwrap();
    assert!(!rlock.is_locked().unwrap());
    assert_eq!(rlock.lock().unwrap().into_guard().get().unwrap(), 5);
}

#[test]
fn b08_the_extra_release_and_a_release_by_a_non_owner_are_errors() {
    commons::init_test!();
    let (_manager, _, rlock, _) = world();
    assert!(!rlock.acquire().unwrap() && !rlock.acquire().unwrap());
    let elsewhere = rlock.clone();
    std::thread::spawn(move || assert_kind(elsewhere.release(), ErrorKind::NotHeld)).join().unwrap();
    let refused = |rlock: RLock<u64>| rlock.release().is_err_and(|e| e.kind() == ErrorKind::NotHeld);
    assert!(Process::spawn(rlock.clone(), refused).unwrap().join().unwrap());
    rlock.release().unwrap();
    rlock.release().unwrap();
    assert_kind(rlock.release(), ErrorKind::NotHeld);
}

#[test]
fn b09_locked_is_true_across_processes() {
    commons::init_test!();
    let (_manager, lock, rlock, ready) = world();
    assert!(!lock.is_locked().unwrap() && !rlock.is_locked().unwrap());
    let child = Process::spawn((rlock.clone(), ready.clone()), hold_reentrant).unwrap();
    ready.wait().unwrap();
    assert!(rlock.is_locked().unwrap());
    lock.acquire().unwrap();
    assert!(Process::spawn(lock.clone(), |lock: Lock<u64>| lock.is_locked().unwrap()).unwrap().join().unwrap());
    end(child);
}

#[test]
fn b10_a_semaphore_counts_down_to_zero_then_fails_to_try_acquire() {
    commons::init_test!();
    fn take(semaphore: Semaphore) -> bool {
        semaphore.try_acquire().unwrap()
    }
    let manager = Manager::new().unwrap();
    let semaphore = manager.semaphore(3).unwrap();
    for left in (0..3).rev() {
        assert!(Process::spawn(semaphore.clone(), take).unwrap().join().unwrap());
        assert_eq!(semaphore.available().unwrap(), left);
    }
    assert!(!Process::spawn(semaphore.clone(), take).unwrap().join().unwrap());
    assert!(!semaphore.try_acquire().unwrap());
    assert!(semaphore.try_permit().unwrap().is_none());
    let empty = manager.semaphore(0).unwrap();
    assert!(!empty.try_acquire().unwrap());
    manager.check().unwrap();
}

#[test]
fn b10_plain_may_exceed_its_start_bounded_may_not() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let plain = manager.semaphore(1).unwrap();
    plain.release().unwrap();
    plain.release_many(5).unwrap();
    assert_eq!(plain.available().unwrap(), 7);
    let bounded = manager.bounded_semaphore(2).unwrap();
    assert_kind(bounded.release(), ErrorKind::NotHeld);
    bounded.acquire().unwrap();
    assert_kind(bounded.release_many(2), ErrorKind::NotHeld);
    assert_eq!(bounded.available().unwrap(), 1, "nothing is released by half");
    bounded.release().unwrap();
    assert_kind(bounded.release(), ErrorKind::NotHeld);
    // An owned permit comes back by itself: nobody else may release it.
    let permit = bounded.permit().unwrap();
    assert_kind(bounded.release(), ErrorKind::NotHeld);
    drop(permit);
    assert_eq!(bounded.available().unwrap(), 2);
    manager.check().unwrap();
}

#[test]
fn b11_timed_acquire_of_a_lock_fails_after_about_the_timeout_and_leaves_nothing_behind() {
    commons::init_test!();
    let (manager, lock, rlock, ready) = world();
    let child = Process::spawn((rlock.clone(), ready.clone()), hold_reentrant).unwrap();
    ready.wait().unwrap();
    lock.acquire().unwrap();
    let elsewhere = lock.clone();
    for timeout in [1, 30, 200].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(rlock.lock_timeout(timeout).unwrap().is_none());
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + SOON);
        let elsewhere = elsewhere.clone();
        std::thread::spawn(move || assert!(elsewhere.lock_timeout(timeout).unwrap().is_none())).join().unwrap();
    }
    lock.release().unwrap();
    assert!(!lock.try_lock().unwrap().unwrap().is_recovered());
    end(child);
    manager.recover().unwrap();
    drop(rlock.try_lock().unwrap().unwrap());
    manager.check().unwrap();
}

#[test]
fn b11_timed_acquire_of_a_semaphore_fails_after_about_the_timeout_and_leaves_nothing_behind() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let semaphore = manager.semaphore(1).unwrap();
    let permit = semaphore.permit().unwrap();
    for timeout in [Duration::ZERO, Duration::from_micros(20), Duration::from_millis(80)] {
        let start = Instant::now();
        assert!(!semaphore.acquire_timeout(timeout).unwrap());
        assert!(semaphore.permit_timeout(timeout).unwrap().is_none());
        assert!(start.elapsed() >= 2 * timeout && start.elapsed() < timeout + SOON);
    }
    drop(permit);
    assert_eq!(semaphore.available().unwrap(), 1);
    assert!(semaphore.acquire_timeout(Duration::MAX).unwrap());
    manager.check().unwrap();
}
