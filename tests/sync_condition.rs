//! Proves what conditions promise beside the behaviours of `tests/behaviours/condition.rs`: that no waiter is lost to a
//! death, and that reentrant locks are released entirely.

mod common;

use std::time::Duration;

use common::conditions::{Counts, assert_notified, start, world};
use common::{FOREVER, SOON, assert_kind, end};
use commons::{Condition, ErrorKind, Event, Lock, Manager, Process, RLock, Woken};

/// However often a reentrant lock is held, waiting releases it, and holds it as often after.
#[test]
fn waiting_releases_a_reentrant_lock_entirely() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let lock = manager.rlock(0u32).unwrap();
    let condition = manager.condition(&lock).unwrap();
    fn set(condition: Condition<RLock<u32>>) {
        let guard = condition.lock().lock().unwrap().into_guard();
        guard.set(&1).unwrap();
        condition.notify_all().unwrap();
    }
    (0..3).for_each(|_| assert!(!lock.acquire().unwrap()));
    let child = Process::spawn(condition.clone(), set).unwrap();
    condition.wait_for(|| Ok(lock.lock()?.into_guard().get()? == 1)).unwrap().into_guard();
    child.join().unwrap();
    (0..3).for_each(|_| lock.release().unwrap());
    assert_kind(lock.release(), ErrorKind::NotHeld);
}

/// A waiter that is killed takes no notification with it.
#[test]
fn a_conditions_waiters_are_not_lost() {
    commons::init_test!();
    let (manager, lock, condition) = world();
    let mut victims = start(&condition, 1); // the longest waiting, who would be notified first
    let others = start(&condition, 2);
    end(victims.remove(0));
    let guard = lock.lock().unwrap();
    condition.notify(1).unwrap();
    drop(guard);
    assert_notified(&lock, 1);
    let guard = lock.lock().unwrap();
    condition.notify(1).unwrap();
    drop(guard);
    others.into_iter().for_each(|child| child.join().unwrap());
    let _guard = lock.lock().unwrap();
    assert_eq!(condition.wait_timeout(Duration::from_millis(60)).unwrap().into_guard(), Woken::TimedOut);
    manager.check().unwrap();
}

/// One that was notified and is killed before it has the lock again hands its notification on.
#[test]
fn a_notification_of_the_dead_goes_to_another() {
    commons::init_test!();
    let (manager, lock, condition) = world();
    let mut first = start(&condition, 1);
    let second = start(&condition, 1);
    let guard = lock.lock().unwrap();
    assert!(condition.notify_one().unwrap());
    end(first.remove(0)); // it waits for the lock
    drop(guard);
    second.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(lock.lock().unwrap().into_guard().get().unwrap().1, 1);
    // Who begins to wait after a notification has no claim to it.
    let mut third = start(&condition, 1);
    let _guard = lock.lock().unwrap();
    assert!(condition.notify_one().unwrap());
    end(third.remove(0));
    assert_eq!(condition.wait_timeout(Duration::from_millis(120)).unwrap().into_guard(), Woken::TimedOut);
    manager.check().unwrap();
}

/// The holder of the lock is killed: one of those that wait gets the lock, and is told.
#[test]
fn a_dead_holder_wakes_a_waiter() {
    commons::init_test!();
    fn hold((lock, ready): (Lock<Counts>, Event)) {
        lock.acquire().unwrap();
        ready.set().unwrap();
        std::thread::sleep(FOREVER);
    }
    let (manager, lock, condition) = world();
    let ready = manager.event().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = lock.lock().unwrap();
            ready.set().unwrap();
            let woken = condition.wait_timeout(SOON).unwrap();
            drop(guard);
            (woken.is_recovered(), woken.into_guard())
        });
        ready.wait().unwrap();
        drop(lock.lock().unwrap()); // it waits
        ready.clear().unwrap();
        let holder = Process::spawn((lock.clone(), ready.clone()), hold).unwrap();
        ready.wait().unwrap();
        end(holder);
        assert_eq!(waiter.join().unwrap(), (true, Woken::HolderDied));
    });
    assert!(!lock.lock().unwrap().is_recovered());
    manager.check().unwrap();
}

#[test]
fn conditions_nest_as_values_and_have_names() {
    commons::init_test!();
    let (manager, lock, condition) = world();
    let queue = manager.queue::<Condition<Lock<Counts>>>(2).unwrap();
    queue.put(&condition).unwrap();
    drop(condition);
    let found = queue.get().unwrap();
    assert_eq!(*found.lock(), lock);
    let named = manager.named("c").condition(&lock).unwrap();
    assert_eq!(manager.named("c").condition(&lock).unwrap(), named);
    assert_kind(manager.named("c").condition(&manager.lock((0u32, 0u32)).unwrap()), ErrorKind::InvalidInput);
    assert_kind(manager.named("c").condition(&manager.rlock((0u32, 0u32)).unwrap()), ErrorKind::TypeMismatch);
    let elsewhere = Manager::new().unwrap();
    assert_kind(elsewhere.condition(&lock), ErrorKind::InvalidInput);
    manager.check().unwrap();
}

/// Producers and consumers hand numbers over one place, and are killed at random: the others always go on.
#[test]
fn storm() {
    commons::init_test!();
    fn work(condition: Condition<Lock<Counts>>) {
        for round in 0.. {
            let guard = condition.lock().lock().unwrap().into_guard();
            match round % 3 {
                0 => drop(condition.wait_timeout(Duration::from_millis(round % 5)).unwrap()),
                1 => _ = condition.notify_one().unwrap(),
                _ => _ = condition.notify_all().unwrap(),
            }
            drop(guard);
        }
    }
    let (manager, lock, condition) = world();
    let spawn = || Process::spawn(condition.clone(), work).unwrap();
    let mut workers: Vec<_> = (0..3).map(|_| spawn()).collect();
    for round in 0..30 {
        std::thread::sleep(Duration::from_millis(3 + round % 7));
        let mut old = std::mem::replace(&mut workers[round as usize % 3], spawn());
        assert!(old.is_alive(), "{:?}", old.join());
        end(old);
    }
    workers.into_iter().for_each(end);
    manager.recover().unwrap();
    let _guard = lock.lock_timeout(SOON).unwrap().unwrap();
    assert_eq!(condition.notify_all().unwrap(), 0);
    assert_eq!(condition.wait_timeout(Duration::from_millis(30)).unwrap().into_guard(), Woken::TimedOut);
    manager.check().unwrap();
}
