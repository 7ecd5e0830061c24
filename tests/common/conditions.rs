//! A condition, and children that wait for it and count themselves.

use std::time::{Duration, Instant};

use commons::{Condition, Lock, Manager, Process, Woken};

use super::SOON;

/// How many have begun to wait, and how many were notified.
pub type Counts = (u32, u32);

pub fn world() -> (Manager, Lock<Counts>, Condition<Lock<Counts>>) {
    let manager = Manager::new().unwrap();
    let lock = manager.lock((0, 0)).unwrap();
    let condition = manager.condition(&lock).unwrap();
    (manager, lock, condition)
}

/// Adds to the counts, which the caller's lock guards.
pub fn add(lock: &Lock<Counts>, begun: u32, notified: u32) {
    let guard = lock.lock().unwrap().into_guard();
    let (a, b) = guard.get().unwrap();
    guard.set(&(a + begun, b + notified)).unwrap();
}

/// Waits once; counts itself before and, if it was notified, after.
pub fn wait_once(condition: Condition<Lock<Counts>>) {
    let lock = condition.lock();
    let guard = lock.lock().unwrap().into_guard();
    let (begun, notified) = guard.get().unwrap();
    guard.set(&(begun + 1, notified)).unwrap();
    let woken = condition.wait().unwrap().into_guard();
    assert_eq!(woken, Woken::Notified);
    let (begun, notified) = guard.get().unwrap();
    guard.set(&(begun, notified + 1)).unwrap();
}

/// Starts waiters and returns when all wait: who can take the lock after they have counted themselves knows that.
pub fn start(condition: &Condition<Lock<Counts>>, count: u32) -> Vec<Process<()>> {
    let begun = |lock: &Lock<Counts>| lock.lock().unwrap().into_guard().get().unwrap().0;
    let before = begun(condition.lock());
    let children = (0..count).map(|_| Process::spawn(condition.clone(), wait_once).unwrap()).collect();
    let start = Instant::now();
    while begun(condition.lock()) < before + count {
        assert!(start.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(1));
    }
    children
}

/// Waits until so many have been notified, and then some, for one too many to show.
pub fn assert_notified(lock: &Lock<Counts>, count: u32) {
    let notified = || lock.lock().unwrap().into_guard().get().unwrap().1;
    let start = Instant::now();
    while notified() < count {
        assert!(start.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(120));
    assert_eq!(notified(), count);
}
