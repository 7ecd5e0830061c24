//! Reentrant locks, read-write locks, and values that are made once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::harness::{Case, Suite};
use super::{handle, only};
use crate::mem::{Word, armed};
use crate::raw::object::Kind;
use crate::{Attempt, Manager, Once, RLock, RwLock};

const SOON: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(3);

/// Word `index` of the root of the only object of that kind.
pub fn word(manager: &Manager, kind: Kind, index: usize) -> &Word {
    let segment = manager.session().segment();
    let (_, _, root) = manager.session().describe(only(manager, kind)).unwrap();
    &segment.words(root, index + 1).unwrap()[index]
}

/// Says in word `index` that somebody sleeps on it.
fn mark_waiting(manager: &Manager, kind: Kind, index: usize) {
    word(manager, kind, index).fetch_or(1 << 16, Ordering::Relaxed);
}

/// Does `act` in a thread that dies, as a process of its own that dies with it. The session keeps the corpse in sight.
pub fn die_after<R>(manager: &Manager, act: impl FnOnce(&Manager) -> R + Send) -> Manager {
    let dead = Manager::from_session(manager.session().twin().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let kept = act(&dead);
            dead.session().segment().surrender();
            armed::die();
            drop(kept);
        });
    });
    dead
}

/// Does `act` in another thread of the survivor, which stays in it for some milliseconds; returns once it has begun.
fn meanwhile<L: Clone + Send + 'static>(lock: &L, act: impl FnOnce(&L, &dyn Fn()) + Send + 'static) {
    let lock = lock.clone();
    let (started, has_started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        act(&lock, &|| {
            started.send(()).unwrap();
            std::thread::sleep(2 * MOMENT);
        });
    });
    has_started.recv().unwrap();
}

fn open_rlock(manager: &Manager) -> RLock<u64> {
    RLock::over(handle(manager, only(manager, Kind::RLock), Kind::RLock, RLock::<u64>::fingerprint())).unwrap()
}

fn open_rwlock(manager: &Manager) -> RwLock<u64> {
    RwLock::over(handle(manager, only(manager, Kind::RwLock), Kind::RwLock, RwLock::<u64>::fingerprint())).unwrap()
}

fn open_once(manager: &Manager) -> Once<u64> {
    Once::over(handle(manager, only(manager, Kind::Once), Kind::Once, Once::<u64>::fingerprint())).unwrap()
}

/// Every case of this file.
pub fn cases(suite: &Suite) {
    rlocks(suite);
    rwlocks(suite);
    rwlocks_waiting(suite);
    onces(suite);
}

fn rlocks(suite: &Suite) {
    let verify = |lock: &RLock<u64>, after: u64, finished: bool| {
        let now = lock.lock_timeout(SOON).unwrap().expect("nobody alive holds it").into_guard().get().unwrap();
        assert!(now == after || !finished && now == 1, "{now}");
    };
    let case = |name: &str, after: u64, open: &(dyn Fn(&Manager) + Sync), act: &(dyn Fn(&RLock<u64>) + Sync)| {
        Case {
            name: &format!("sync: rlock: {name}"),
            setup: &|manager| manager.rlock(1u64).unwrap(),
            open: &|victim, _| {
                open(victim);
                open_rlock(victim)
            },
            act: &|_, lock| act(lock),
            verify: &|_, lock: &RLock<u64>, finished| verify(lock, after, finished),
            go_on: &|_, lock| {
                drop(lock.lock_timeout(SOON).unwrap().expect("nobody alive holds it"));
                assert!(!lock.try_lock().unwrap().expect("it was released").is_recovered());
            },
        }
        .run(suite);
    };
    case("acquire", 1, &|_| (), &|lock| assert!(!lock.acquire().unwrap()));
    case("twice, set, release twice", 4, &|_| (), &|lock| {
        let outer = lock.lock().unwrap().into_guard();
        lock.lock().unwrap().into_guard().set(&4).unwrap();
        drop(outer);
    });
    case("with a waiter", 1, &|victim| mark_waiting(victim, Kind::RLock, 0), &|lock| drop(lock.lock().unwrap()));
    Case {
        name: "sync: rlock: taking over from the dead",
        setup: &|manager| {
            let lock = manager.rlock(1u64).unwrap();
            let dead = die_after(manager, |dead| {
                let lock = open_rlock(dead);
                lock.acquire().unwrap();
                lock
            });
            (lock, dead)
        },
        open: &|victim, _| open_rlock(victim),
        act: &|_, lock| assert!(lock.lock().unwrap().is_recovered()),
        verify: &|_, (lock, _), finished| verify(lock, 1, finished),
        go_on: &|_, (lock, _)| drop(lock.lock_timeout(SOON).unwrap().expect("nobody alive holds it")),
    }
    .run(suite);
}

fn go_on(lock: &RwLock<u64>) {
    drop(lock.read_timeout(SOON).unwrap().expect("nobody alive writes"));
    drop(lock.upgradable_timeout(SOON).unwrap().expect("nobody alive writes"));
    drop(lock.write_timeout(SOON).unwrap().expect("nobody alive has it"));
    assert!(!lock.write_timeout(SOON).unwrap().expect("it was released").is_recovered());
    assert_eq!(lock.readers().unwrap(), 0);
}

fn rwlock_case(
    suite: &Suite,
    name: &str,
    after: u64,
    open: &(dyn Fn(&Manager, &RwLock<u64>) + Sync),
    act: &(dyn Fn(&RwLock<u64>) + Sync),
) {
    Case {
        name: &format!("sync: rwlock: {name}"),
        setup: &|manager| manager.rwlock(1u64).unwrap(),
        open: &|victim, lock| {
            open(victim, lock);
            open_rwlock(victim)
        },
        act: &|_, lock| act(lock),
        verify: &|_, lock, finished| {
            let now = lock.read_timeout(SOON).unwrap().expect("nobody alive writes").into_guard().get().unwrap();
            assert!(now == after || !finished && now == 1, "{now}");
        },
        go_on: &|_, lock| go_on(lock),
    }
    .run(suite);
}

fn rwlocks(suite: &Suite) {
    let nothing = |_: &Manager, _: &RwLock<u64>| ();
    rwlock_case(suite, "read", 1, &nothing, &|lock| {
        let outer = lock.read().unwrap();
        drop(lock.read().unwrap());
        drop(outer);
        assert_eq!(lock.acquire_read_timeout(SOON).unwrap(), crate::Acquire::Clean);
    });
    rwlock_case(suite, "write", 5, &nothing, &|lock| lock.write().unwrap().into_guard().set(&5).unwrap());
    rwlock_case(suite, "upgrade, set, downgrade", 5, &nothing, &|lock| {
        let guard = lock.upgradable().unwrap().into_guard().upgrade().unwrap().into_guard();
        guard.set(&5).unwrap();
        drop(guard.downgrade().unwrap());
    });
    Case {
        name: "sync: rwlock: end of reading, and a writer sleeps",
        setup: &|manager| manager.rwlock(1u64).unwrap(),
        open: &|victim, _| {
            let lock = open_rwlock(victim);
            assert_eq!(lock.acquire_read_timeout(SOON).unwrap(), crate::Acquire::Clean);
            let slot = victim.session().segment().current_slot().unwrap();
            mark_waiting(victim, Kind::RwLock, 3 + usize::from(slot.index));
            lock
        },
        act: &|_, lock| lock.release_read().unwrap(),
        verify: &|_, _, _| (),
        go_on: &|_, lock| go_on(lock),
    }
    .run(suite);
    // The survivor's reader waits in its cell: the writer that leaves lets it in.
    Case {
        name: "sync: rwlock: write before a reader that waits",
        setup: &|manager| manager.rwlock(1u64).unwrap(),
        open: &|victim, lock: &RwLock<u64>| {
            let mine = open_rwlock(victim);
            let guard = mine.write().unwrap().into_guard();
            let reader = lock.clone();
            std::thread::spawn(move || drop(reader.read_timeout(SOON)));
            std::thread::sleep(MOMENT);
            std::mem::forget(guard);
            mine
        },
        act: &|_, lock| lock.release_write().unwrap(),
        verify: &|_, lock, _| drop(lock.read_timeout(SOON).unwrap().expect("nobody alive writes")),
        go_on: &|_, lock| {
            let start = std::time::Instant::now();
            while lock.readers().unwrap() > 0 {
                assert!(start.elapsed() < SOON);
            }
            go_on(lock);
        },
    }
    .run(suite);
}

fn rwlocks_waiting(suite: &Suite) {
    let reading = |_: &Manager, lock: &RwLock<u64>| {
        meanwhile(lock, |lock, stay| {
            let guard = lock.read().unwrap();
            stay();
            drop(guard);
        });
    };
    rwlock_case(suite, "write behind a reader", 5, &reading, &|lock| {
        lock.write().unwrap().into_guard().set(&5).unwrap();
    });
    rwlock_case(suite, "write behind a reader for too short a time", 1, &reading, &|lock| {
        drop(lock.write_timeout(MOMENT / 2).unwrap()); // in time or not
    });
    let writing = |_: &Manager, lock: &RwLock<u64>| {
        meanwhile(lock, |lock, stay| {
            let guard = lock.write().unwrap();
            stay();
            drop(guard);
        });
    };
    rwlock_case(suite, "read behind a writer", 1, &writing, &|lock| drop(lock.read().unwrap()));
    rwlock_case(suite, "read behind a writer for too short a time", 1, &writing, &|lock| {
        drop(lock.read_timeout(MOMENT / 2).unwrap()); // in time or not
    });
    // The dead read, or wrote: the victim clears up after them.
    let behind = |name: &str, die: &(dyn Fn(&RwLock<u64>) + Sync), act: &(dyn Fn(&RwLock<u64>) + Sync)| {
        Case {
            name: &format!("sync: rwlock: {name}"),
            setup: &|manager| {
                let lock = manager.rwlock(1u64).unwrap();
                let dead = die_after(manager, |dead| {
                    let lock = open_rwlock(dead);
                    die(&lock);
                    lock
                });
                (lock, dead)
            },
            open: &|victim, _| open_rwlock(victim),
            act: &|_, lock| act(lock),
            verify: &|_, (lock, _), _| drop(lock.read_timeout(SOON).unwrap().expect("nobody alive writes")),
            go_on: &|_, (lock, _)| go_on(lock),
        }
        .run(suite);
    };
    let read = |lock: &RwLock<u64>| _ = lock.acquire_read_timeout(SOON).unwrap();
    let write = |lock: &RwLock<u64>| _ = lock.acquire_write_timeout(SOON).unwrap();
    behind("write behind a dead reader", &read, &|lock| assert!(!lock.write().unwrap().is_recovered()));
    behind("read behind a dead writer", &write, &|lock| assert!(lock.read().unwrap().is_recovered()));
    behind("write behind a dead writer", &write, &|lock| assert!(lock.write().unwrap().is_recovered()));
    behind("upgradable behind a dead writer", &write, &|lock| assert!(lock.upgradable().unwrap().is_recovered()));
}

fn onces(suite: &Suite) {
    let case = |name: &str, makes: bool, act: &(dyn Fn(&Once<u64>) + Sync)| {
        Case {
            name: &format!("sync: once: {name}"),
            setup: &|manager| manager.once::<u64>().unwrap(),
            open: &|victim, _| open_once(victim),
            act: &|_, once| act(once),
            verify: &|_, once: &Once<u64>, finished| {
                let now = once.get().unwrap();
                assert!(now.is_none() || makes && now == Some(7));
                assert!(!finished || now.is_some() == makes);
            },
            go_on: &|_, once| {
                let made = once.get_or_init_timeout(SOON, |_| Ok(7)).unwrap();
                assert_eq!(made.expect("nobody alive makes it"), 7);
                assert_eq!(once.get().unwrap(), Some(7));
            },
        }
        .run(suite);
    };
    case("make", true, &|once| {
        let made = once.get_or_init(|attempt| {
            assert_eq!(attempt, Attempt::Clean);
            Ok(7)
        });
        assert_eq!(made.unwrap(), 7);
    });
    case("fail to make", false, &|once| {
        assert!(once.get_or_init(|_| Err(crate::Error::new(crate::ErrorKind::Closed, "no"))).is_err());
    });
}
