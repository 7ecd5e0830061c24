//! Proves what read-write locks promise: who excludes whom, that neither side starves, and what a death leaves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commons::{Acquire, Dict, ErrorKind, Event, Manager, Process, Result, RwLock};

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

fn world() -> (Manager, RwLock<u64>, Event) {
    let manager = Manager::new().unwrap();
    let (lock, event) = (manager.rwlock(0).unwrap(), manager.event().unwrap());
    (manager, lock, event)
}

#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
enum Form {
    Read,
    Write,
    Upgradable,
}

fn hold((lock, form, ready): (RwLock<u64>, Form, Event)) {
    let guards = match form {
        Form::Read => (Some(lock.read().unwrap()), None, None),
        Form::Write => (None, Some(lock.write().unwrap()), None),
        Form::Upgradable => (None, None, Some(lock.upgradable().unwrap())),
    };
    ready.set().unwrap();
    std::thread::sleep(FOREVER);
    drop(guards);
}

fn holder(lock: &RwLock<u64>, form: Form, ready: &Event) -> Process<()> {
    ready.clear().unwrap();
    let child = Process::spawn((lock.clone(), form, ready.clone()), hold).unwrap();
    ready.wait().unwrap();
    child
}

#[test]
fn readers_share_and_writers_exclude() {
    commons::init_test!();
    let (manager, lock, ready) = world();
    let reader = holder(&lock, Form::Read, &ready);
    drop(lock.try_read().unwrap().unwrap());
    drop(lock.try_upgradable().unwrap().unwrap());
    assert!(lock.try_write().unwrap().is_none());
    assert_eq!(lock.readers().unwrap(), 1);
    end(reader);
    let writer = holder(&lock, Form::Write, &ready);
    assert!(lock.is_write_locked().unwrap());
    assert!(lock.try_read().unwrap().is_none());
    assert!(lock.try_write().unwrap().is_none());
    assert!(lock.try_upgradable().unwrap().is_none());
    end(writer);
    assert!(lock.write_timeout(SOON).unwrap().unwrap().is_recovered());
    let upgradable = holder(&lock, Form::Upgradable, &ready);
    drop(lock.try_read().unwrap().unwrap());
    assert!(lock.try_write().unwrap().is_none());
    assert!(lock.try_upgradable().unwrap().is_none());
    end(upgradable);
    manager.check().unwrap();
}

#[test]
fn upgrade_and_downgrade() {
    commons::init_test!();
    let (_manager, lock, _) = world();
    let upgradable = lock.upgradable().unwrap().into_guard();
    let elsewhere = lock.clone();
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let (started, has_started) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let guard = elsewhere.read().unwrap().into_guard();
        started.send(()).unwrap();
        let _ = receive.recv();
        drop(guard);
    });
    has_started.recv().unwrap();
    let upgradable = upgradable.upgrade_timeout(Duration::from_millis(5)).unwrap().expect_err("somebody reads");
    let elsewhere = lock.clone();
    std::thread::spawn(move || drop(elsewhere.try_read().unwrap().expect("open again"))).join().unwrap();
    drop(send);
    let writer = upgradable.upgrade().unwrap().into_guard();
    reader.join().unwrap();
    writer.set(&5).unwrap();
    let elsewhere = lock.clone();
    std::thread::spawn(move || assert!(elsewhere.try_read().unwrap().is_none())).join().unwrap();
    let upgradable = writer.downgrade().unwrap();
    let elsewhere = lock.clone();
    std::thread::spawn(move || {
        assert_eq!(elsewhere.try_read().unwrap().unwrap().into_guard().get().unwrap(), 5);
        assert!(elsewhere.try_write().unwrap().is_none());
    })
    .join()
    .unwrap();
    drop(upgradable);
    drop(lock.try_write().unwrap().unwrap());
}

#[test]
fn misuse_is_an_error() {
    commons::init_test!();
    let (_manager, lock, _) = world();
    assert_kind(lock.release_read(), ErrorKind::NotHeld);
    assert_kind(lock.release_write(), ErrorKind::NotHeld);
    assert_eq!(lock.acquire_read_timeout(Duration::ZERO).unwrap(), Acquire::Clean);
    assert_eq!(lock.acquire_read_timeout(Duration::MAX).unwrap(), Acquire::Clean);
    assert_kind(lock.write(), ErrorKind::WouldDeadlock);
    assert_kind(lock.release_write(), ErrorKind::NotHeld);
    assert_kind(lock.upgradable().unwrap().into_guard().upgrade(), ErrorKind::WouldDeadlock);
    lock.release_read().unwrap();
    lock.release_read().unwrap();
    assert_kind(lock.release_read(), ErrorKind::NotHeld);
    assert_eq!(lock.acquire_write_timeout(Duration::ZERO).unwrap(), Acquire::Clean);
    assert_kind(lock.read(), ErrorKind::WouldDeadlock);
    assert_kind(lock.write(), ErrorKind::WouldDeadlock);
    assert_kind(lock.upgradable(), ErrorKind::WouldDeadlock);
    let elsewhere = lock.clone();
    std::thread::spawn(move || assert_kind(elsewhere.release_write(), ErrorKind::NotHeld)).join().unwrap();
    lock.release_write().unwrap();
    let guards: Vec<_> = (0..16383).map(|_| lock.read().unwrap()).collect();
    assert_kind(lock.read(), ErrorKind::TooMany);
    drop(guards);
    assert_eq!(lock.readers().unwrap(), 0);
}

#[test]
fn timed_acquire_fails_after_about_the_timeout_and_leaves_nothing_behind() {
    commons::init_test!();
    let (manager, lock, ready) = world();
    let reader = holder(&lock, Form::Read, &ready);
    for timeout in [Duration::ZERO, Duration::from_micros(30), Duration::from_millis(70)] {
        let start = Instant::now();
        assert!(lock.write_timeout(timeout).unwrap().is_none());
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + SOON);
        drop(lock.try_read().unwrap().expect("a writer that gave up keeps nobody out"));
    }
    end(reader);
    let writer = holder(&lock, Form::Write, &ready);
    for timeout in [Duration::ZERO, Duration::from_micros(30), Duration::from_millis(70)] {
        let start = Instant::now();
        assert!(lock.read_timeout(timeout).unwrap().is_none());
        assert!(lock.write_timeout(timeout).unwrap().is_none());
        assert!(start.elapsed() >= 2 * timeout && start.elapsed() < timeout + SOON);
    }
    assert_eq!(lock.readers().unwrap(), 0);
    end(writer);
    manager.recover().unwrap();
    drop(lock.try_write().unwrap().unwrap());
    manager.check().unwrap();
}

/// A writer that waits for a reader goes on when the reader is killed, and nothing is to be recovered.
#[test]
fn a_dead_readers_bit_is_cleared() {
    commons::init_test!();
    let (manager, lock, ready) = world();
    let reader = holder(&lock, Form::Read, &ready);
    let elsewhere = lock.clone();
    let writer = std::thread::spawn(move || elsewhere.write_timeout(SOON).unwrap().map(|held| held.is_recovered()));
    std::thread::sleep(Duration::from_millis(20));
    end(reader);
    assert_eq!(writer.join().unwrap(), Some(false));
    manager.check().unwrap();
}

/// After a writer's death everybody is told until a writer has gone through.
#[test]
fn a_dead_writers_lock_is_recovered() {
    commons::init_test!();
    let (manager, lock, ready) = world();
    let writer = holder(&lock, Form::Write, &ready);
    let elsewhere = lock.clone();
    let reader = std::thread::spawn(move || elsewhere.read_timeout(SOON).unwrap().map(|held| held.is_recovered()));
    std::thread::sleep(Duration::from_millis(20));
    end(writer);
    assert_eq!(reader.join().unwrap(), Some(true));
    assert!(lock.read().unwrap().is_recovered());
    assert!(lock.upgradable().unwrap().is_recovered());
    assert!(lock.write().unwrap().is_recovered());
    assert!(!lock.read().unwrap().is_recovered() && !lock.write().unwrap().is_recovered());
    // The upgradable form has written nothing.
    let upgradable = holder(&lock, Form::Upgradable, &ready);
    end(upgradable);
    assert!(!lock.write_timeout(SOON).unwrap().unwrap().is_recovered());
    // A thread that ends is as good as dead.
    let elsewhere = lock.clone();
    let ended = std::thread::spawn(move || elsewhere.acquire_write_timeout(SOON).unwrap()).join().unwrap();
    assert_eq!(ended, Acquire::Clean);
    assert!(lock.upgradable().unwrap().is_recovered());
    manager.check().unwrap();
}

/// Writers that never pause do not keep a reader out, nor readers that never pause a writer.
#[test]
fn neither_side_starves() {
    commons::init_test!();
    let (_manager, lock, _) = world();
    let run = |crowd: fn(&RwLock<u64>), lone: fn(&RwLock<u64>)| {
        let stop = AtomicBool::new(false);
        let rounds = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        crowd(&lock);
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while rounds.load(Ordering::Relaxed) < 100 {
                std::thread::yield_now();
            }
            let start = Instant::now();
            for _ in 0..100 {
                lone(&lock);
            }
            assert!(start.elapsed() < SOON);
            stop.store(true, Ordering::Relaxed);
        });
    };
    run(|lock| drop(lock.write().unwrap()), |lock| drop(lock.read().unwrap()));
    run(
        |lock| {
            let guard = lock.read().unwrap();
            std::thread::yield_now();
            drop(guard);
        },
        |lock| drop(lock.write().unwrap()),
    );
}

/// Processes write a pair of entries under the lock and read it; the pair is always whole.
#[test]
fn processes_see_whole_writes() {
    commons::init_test!();
    fn work((lock, pair): (RwLock<u64>, Dict<u8, u64>)) {
        for round in 0..200 {
            if round % 4 == 0 {
                let held = if round % 8 == 0 {
                    lock.write().unwrap()
                } else {
                    lock.upgradable().unwrap().into_guard().upgrade().unwrap()
                };
                let guard = held.into_guard();
                let next = guard.get().unwrap() + 1;
                pair.insert(&0, &next).unwrap();
                pair.insert(&1, &next).unwrap();
                guard.set(&next).unwrap();
            } else {
                let guard = lock.read().unwrap().into_guard();
                let seen = pair.get(&0).unwrap();
                assert_eq!(seen, pair.get(&1).unwrap());
                assert_eq!(seen.unwrap_or(0), guard.get().unwrap());
            }
        }
    }
    let (manager, lock, _) = world();
    let pair = manager.dict().unwrap();
    let start = |_| Process::spawn((lock.clone(), pair.clone()), work).unwrap();
    let children: Vec<_> = (0..4).map(start).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(lock.read().unwrap().into_guard().get().unwrap(), 200);
    manager.check().unwrap();
}

/// Readers and writers are killed at random; the others always go on.
#[test]
fn storm() {
    commons::init_test!();
    fn work((lock, pair): (RwLock<u64>, Dict<u8, u64>)) {
        for round in 0.. {
            if round % 3 == 0 {
                let held = lock.write().unwrap();
                let (recovered, guard) = (held.is_recovered(), held.into_guard());
                let next = pair.get(&0).unwrap().unwrap_or(0).max(pair.get(&1).unwrap().unwrap_or(0)) + 1;
                assert!(recovered || pair.get(&0).unwrap() == pair.get(&1).unwrap());
                pair.insert(&0, &next).unwrap();
                pair.insert(&1, &next).unwrap();
                guard.set(&next).unwrap();
            } else {
                let held = lock.read().unwrap();
                let whole = pair.get(&0).unwrap() == pair.get(&1).unwrap();
                assert!(whole || held.is_recovered());
            }
        }
    }
    let (manager, lock, _) = world();
    let pair: Dict<u8, u64> = manager.dict().unwrap();
    let start = || Process::spawn((lock.clone(), pair.clone()), work).unwrap();
    let mut workers: Vec<_> = (0..3).map(|_| start()).collect();
    for round in 0..30 {
        std::thread::sleep(Duration::from_millis(3 + round % 7));
        let mut old = std::mem::replace(&mut workers[round as usize % 3], start());
        assert!(old.is_alive(), "{:?}", old.join());
        end(old);
    }
    workers.into_iter().for_each(end);
    assert!(lock.write_timeout(SOON).unwrap().is_some());
    manager.check().unwrap();
}
