//! Proves what conditions promise: whom a notification wakes, what is refused, and that no waiter is lost to a death.

use std::time::{Duration, Instant};

use commons::{Condition, ErrorKind, Event, Held, Lock, Manager, Process, RLock, Result, Woken};

const FOREVER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);

/// Kills a child, and waits until it is dead.
fn end<R: serde::Serialize + serde::de::DeserializeOwned + 'static>(child: Process<R>) {
    child.kill().unwrap();
    assert!(child.join().is_err());
}

#[track_caller]
fn assert_kind<T>(result: Result<T>, kind: ErrorKind) {
    assert_eq!(result.err().expect("an error").kind(), kind);
}

/// How many have begun to wait, and how many were notified.
type Counts = (u32, u32);

fn world() -> (Manager, Lock<Counts>, Condition<Lock<Counts>>) {
    let manager = Manager::new().unwrap();
    let lock = manager.lock((0, 0)).unwrap();
    let condition = manager.condition(&lock).unwrap();
    (manager, lock, condition)
}

/// Adds to the counts, which the caller's lock guards.
fn add(lock: &Lock<Counts>, begun: u32, notified: u32) {
    let guard = lock.lock().unwrap().into_guard();
    let (a, b) = guard.get().unwrap();
    guard.set(&(a + begun, b + notified)).unwrap();
}

/// Waits once; counts itself before and, if it was notified, after.
fn wait_once(condition: Condition<Lock<Counts>>) {
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
fn start(condition: &Condition<Lock<Counts>>, count: u32) -> Vec<Process<()>> {
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
fn assert_notified(lock: &Lock<Counts>, count: u32) {
    let notified = || lock.lock().unwrap().into_guard().get().unwrap().1;
    let start = Instant::now();
    while notified() < count {
        assert!(start.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(120));
    assert_eq!(notified(), count);
}

#[test]
fn notify_wakes_exactly_one() {
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
fn notify_two_then_four_wake_two_then_four() {
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
fn notify_on_nobody_is_not_remembered() {
    commons::init_test!();
    let (_manager, lock, condition) = world();
    let _guard = lock.lock().unwrap();
    assert!(!condition.notify_one().unwrap());
    assert_eq!(condition.notify_all().unwrap(), 0);
    let woken = condition.wait_timeout(Duration::from_millis(20)).unwrap();
    assert_eq!(woken.into_guard(), Woken::TimedOut);
}

#[test]
fn after_six_timed_out_waits_notify_all_wakes_nobodys_ghost() {
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
fn wait_and_notify_without_the_lock_are_errors() {
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
fn wait_tells_timeout_from_notification() {
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
fn wait_for_re_tests_its_predicate() {
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
