//! Behaviours 12 to 14: conditions.

use std::time::{Duration, Instant};

use commons::{Condition, ErrorKind, Held, Lock, Woken};

use crate::common::conditions::{Counts, add, assert_notified, start, world};
use crate::common::{SOON, assert_kind};

#[test]
fn b12_notify_wakes_exactly_one() {
    commons::init_test!();
    let (manager, lock, condition) = world();
    let children = start(&condition, 3);
    for count in 1..=3 {
        let guard = lock.lock().unwrap();
        assert!(condition.notify_one().unwrap());
        drop(guard);
        assert_notified(&lock, count);
    }
    children.into_iter().for_each(|child| child.join().unwrap());
    manager.check().unwrap();
}

#[test]
fn b12_notify_two_then_four_wake_two_then_four() {
    commons::init_test!();
    let (manager, lock, condition) = world();
    let children = start(&condition, 6);
    let guard = lock.lock().unwrap();
    assert_eq!(condition.notify(2).unwrap(), 2);
    drop(guard);
    assert_notified(&lock, 2);
    let guard = lock.lock().unwrap();
    assert_eq!(condition.notify(4).unwrap(), 4);
    assert_eq!(condition.notify_all().unwrap(), 0);
    drop(guard);
    assert_notified(&lock, 6);
    children.into_iter().for_each(|child| child.join().unwrap());
    manager.check().unwrap();
}

#[test]
fn b12_notify_on_nobody_is_not_remembered() {
    commons::init_test!();
    let (_manager, lock, condition) = world();
    let _guard = lock.lock().unwrap();
    assert!(!condition.notify_one().unwrap());
    assert_eq!(condition.notify_all().unwrap(), 0);
    let woken = condition.wait_timeout(Duration::from_millis(20)).unwrap();
    assert_eq!(woken.into_guard(), Woken::TimedOut);
}

#[test]
fn b13_after_six_timed_out_waits_notify_all_wakes_nobodys_ghost() {
    commons::init_test!();
    let (manager, lock, condition) = world();
    let _guard = lock.lock().unwrap();
    for timeout in [0, 10, 1000, 10_000, 20_000, 60_000].map(Duration::from_micros) {
        let start = Instant::now();
        assert_eq!(condition.wait_timeout(timeout).unwrap().into_guard(), Woken::TimedOut);
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + SOON);
    }
    assert_eq!(condition.notify_all().unwrap(), 0);
    manager.check().unwrap();
}

#[test]
fn b14_wait_and_notify_without_the_lock_are_errors() {
    commons::init_test!();
    let (_manager, lock, condition) = world();
    let refused = |condition: &Condition<Lock<Counts>>| {
        assert_kind(condition.wait(), ErrorKind::NotHeld);
        assert_kind(condition.wait_timeout(Duration::ZERO), ErrorKind::NotHeld);
        assert_kind(condition.notify_one(), ErrorKind::NotHeld);
        assert_kind(condition.notify_all(), ErrorKind::NotHeld);
        assert_kind(condition.wait_for(|| Ok(false)), ErrorKind::NotHeld);
    };
    refused(&condition);
    let _guard = lock.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| refused(&condition)); // somebody else holds it
    });
    assert!(lock.is_locked().unwrap());
}

#[test]
fn b14_wait_tells_timeout_from_notification() {
    commons::init_test!();
    let (_manager, lock, condition) = world();
    let child = start(&condition, 1);
    let guard = lock.lock().unwrap();
    assert_eq!(condition.wait_timeout(Duration::from_millis(10)).unwrap().into_guard(), Woken::TimedOut);
    assert!(condition.notify_one().unwrap());
    drop(guard);
    child.into_iter().for_each(|child| child.join().unwrap());
    // A notification that comes before the lock is had again counts, though the time was up.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = lock.lock().unwrap();
            let woken = condition.wait_timeout(Duration::from_millis(40)).unwrap().into_guard();
            drop(guard);
            woken
        });
        std::thread::sleep(Duration::from_millis(10));
        let guard = lock.lock().unwrap();
        std::thread::sleep(Duration::from_millis(80));
        assert!(condition.notify_one().unwrap());
        drop(guard);
        assert_eq!(waiter.join().unwrap(), Woken::Notified);
    });
}

#[test]
fn b14_wait_for_re_tests_its_predicate() {
    commons::init_test!();
    let (_manager, lock, condition) = world();
    let guard = lock.lock().unwrap().into_guard();
    assert!(!condition.wait_for_timeout(Duration::from_millis(20), || Ok(false)).unwrap().into_guard());
    assert!(condition.wait_for_timeout(Duration::ZERO, || Ok(true)).unwrap().into_guard());
    assert_kind(condition.wait_for(|| Err(commons::Error::new(ErrorKind::Closed, "no"))), ErrorKind::Closed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..4 {
                std::thread::sleep(Duration::from_millis(5));
                add(&lock, 1, 0);
                let _guard = lock.lock().unwrap();
                condition.notify_all().unwrap();
            }
        });
        let mut tests = 0;
        let held = condition.wait_for(|| {
            tests += 1;
            Ok(guard.get()?.0 >= 4)
        });
        assert!(matches!(held.unwrap(), Held::Clean(())));
        assert!(tests >= 2);
    });
    assert_eq!(guard.get().unwrap().0, 4);
}
