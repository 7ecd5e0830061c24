//! Proves what locks, plain and reentrant, promise between processes: who may release them, what is refused, what a
//! death leaves, and that a wait ends about when it should.

use std::time::{Duration, Instant};

use commons::{Acquire, ErrorKind, Event, Held, Lock, Manager, Process, RLock, Result};

/// Far longer than anything takes that happens at all.
const FOREVER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);

/// Kills a child, and waits until it is dead.
fn end(child: Process<()>) {
    child.kill().unwrap();
    assert!(child.join().is_err());
}

#[track_caller]
fn assert_kind<T>(result: Result<T>, kind: ErrorKind) {
    assert_eq!(result.err().expect("an error").kind(), kind);
}

fn world() -> (Manager, Lock<u64>, RLock<u64>, Event) {
    let manager = Manager::new().unwrap();
    let (lock, rlock, event) = (manager.lock(0).unwrap(), manager.rlock(0).unwrap(), manager.event().unwrap());
    (manager, lock, rlock, event)
}

fn hold_plain((lock, ready): (Lock<u64>, Event)) {
    lock.acquire().unwrap();
    ready.set().unwrap();
    std::thread::sleep(FOREVER);
}

fn hold_reentrant((lock, ready): (RLock<u64>, Event)) {
    let outer = lock.lock().unwrap().into_guard();
    let inner = lock.lock().unwrap().into_guard();
    inner.set(&7).unwrap();
    ready.set().unwrap();
    std::thread::sleep(FOREVER);
    drop((outer, inner));
}

#[test]
fn try_acquire_of_a_held_lock_fails() {
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
fn releasing_an_unlocked_lock_is_an_error() {
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
fn a_plain_lock_may_be_released_by_another_process() {
    commons::init_test!();
    let (_manager, lock, _, _) = world();
    lock.acquire().unwrap();
    Process::spawn(lock.clone(), |lock: Lock<u64>| lock.release().unwrap()).unwrap().join().unwrap();
    assert!(!lock.is_locked().unwrap());
    assert_kind(lock.release(), ErrorKind::NotHeld);
}

#[test]
fn rlock_recursion() {
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
fn the_extra_release_and_a_release_by_a_non_owner_are_errors() {
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
fn locked_is_true_across_processes() {
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
fn timed_acquire_fails_after_about_the_timeout_and_leaves_nothing_behind() {
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
