//! Semaphores, events, conditions, barriers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::harness::{Case, Suite};
use super::sync_locks::{die_after, word};
use super::{handle, only, open_lock};
use crate::mem::Word;
use crate::raw::object::Kind;
use crate::{Barrier, BoundedSemaphore, Condition, Event, Lock, Manager, Passage, Semaphore, Woken};

const SOON: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(3);

/// The bit of a word on which somebody may sleep.
const WAITERS: u64 = 1 << 16;

/// Every case of this file.
pub fn cases(suite: &Suite) {
    creation(suite);
    semaphores(suite);
    permits_of_the_dead(suite);
    events(suite);
    conditions(suite);
    notifications_of_the_dead(suite);
    barriers(suite);
}

fn creation(suite: &Suite) {
    Case {
        name: "sync: create one of each",
        setup: &|manager| manager.lock(()).unwrap(),
        open: &|victim, _| open_lock::<(), crate::Auto>(victim),
        act: &|victim, lock| {
            let locks = (victim.rlock(1u8).unwrap(), victim.rwlock(1u8).unwrap(), victim.once::<u8>().unwrap());
            let counts = (victim.semaphore(2).unwrap(), victim.bounded_semaphore(3).unwrap());
            let rooms = (victim.condition(lock).unwrap(), victim.barrier(2).unwrap(), victim.event().unwrap());
            drop((locks, counts, rooms));
        },
        verify: &|survivor, _, _| assert_eq!(survivor.objects().unwrap().len(), 1),
        go_on: &|survivor, lock| drop(survivor.condition(lock).unwrap()),
    }
    .run(suite);
}

fn open_semaphore<const BOUNDED: bool>(manager: &Manager) -> Semaphore<BOUNDED> {
    let fingerprint = Semaphore::<BOUNDED>::fingerprint();
    Semaphore::over(handle(manager, only(manager, Kind::Semaphore), Kind::Semaphore, fingerprint)).unwrap()
}

fn semaphores(suite: &Suite) {
    // Three permits, of which `taken` plain ones are taken at first, and `plain` if the victim finishes.
    let case = |name: &str, taken: u32, plain: u32, waiters: bool, act: &(dyn Fn(&BoundedSemaphore) + Sync)| {
        Case {
            name: &format!("sync: semaphore: {name}"),
            setup: &|manager| manager.bounded_semaphore(3).unwrap(),
            open: &|victim, semaphore: &BoundedSemaphore| {
                (0..taken).for_each(|_| semaphore.acquire().unwrap());
                if waiters {
                    word(victim, Kind::Semaphore, 0).fetch_or(WAITERS, Ordering::Relaxed);
                }
                open_semaphore(victim)
            },
            act: &|_, semaphore| act(semaphore),
            verify: &|_, semaphore: &BoundedSemaphore, finished| {
                let now = semaphore.available().unwrap();
                assert!(now == 3 - plain || !finished && now == 3 - taken, "{now} are free");
            },
            go_on: &|_, semaphore| {
                let sure = 3 - plain.max(taken);
                let permits: Vec<_> = (0..sure).map(|_| semaphore.permit_timeout(SOON).unwrap()).collect();
                assert!(permits.iter().all(Option::is_some));
                drop(permits);
                assert!(semaphore.acquire_timeout(SOON).unwrap());
                semaphore.release().unwrap();
            },
        }
        .run(suite);
    };
    case("plain take", 0, 1, false, &|semaphore| semaphore.acquire().unwrap());
    case("plain release", 2, 1, false, &|semaphore| semaphore.release().unwrap());
    case("plain release with a waiter", 2, 0, true, &|semaphore| semaphore.release_many(2).unwrap());
    case("own", 0, 0, false, &|semaphore| {
        let first = semaphore.permit().unwrap();
        std::mem::forget(semaphore.permit().unwrap());
        drop(first);
        assert_eq!(semaphore.available().unwrap(), 2);
    });
    case("own with a waiter", 0, 0, true, &|semaphore| drop(semaphore.permit().unwrap()));
    case("wait for one too long", 0, 0, false, &|semaphore| {
        let permits: Vec<_> = (0..3).map(|_| semaphore.permit().unwrap()).collect();
        assert!(semaphore.permit_timeout(MOMENT).unwrap().is_none());
        assert!(!semaphore.acquire_timeout(MOMENT).unwrap());
        drop(permits);
    });
    waiting_takers(suite);
}

/// Somebody alive has all permits for a while; then there is more than one, and the taker passes its wake-up on.
fn waiting_takers(suite: &Suite) {
    let case = |name: &str, plain: u32, act: &(dyn Fn(&BoundedSemaphore) + Sync)| {
        Case {
            name: &format!("sync: semaphore: {name}"),
            setup: &|manager| manager.bounded_semaphore(2).unwrap(),
            open: &|victim, semaphore: &BoundedSemaphore| {
                semaphore.acquire().unwrap();
                semaphore.acquire().unwrap();
                let theirs = semaphore.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(2 * MOMENT);
                    theirs.release_many(2).unwrap();
                });
                open_semaphore(victim)
            },
            act: &|_, semaphore| act(semaphore),
            verify: &|_, semaphore: &BoundedSemaphore, _| {
                assert!(semaphore.acquire_timeout(SOON).unwrap());
                semaphore.release().unwrap();
            },
            go_on: &|_, semaphore| {
                let permits: Vec<_> = (0..2 - plain).map(|_| semaphore.permit_timeout(SOON).unwrap()).collect();
                assert!(permits.iter().all(Option::is_some));
            },
        }
        .run(suite);
    };
    case("wait and take", 1, &|semaphore| semaphore.acquire().unwrap());
    case("wait and own", 0, &|semaphore| drop(semaphore.permit().unwrap()));
}

/// The owner of all permits has died: they come back, whoever is killed while they do.
fn permits_of_the_dead(suite: &Suite) {
    Case {
        name: "sync: semaphore: own what the dead owned",
        setup: &|manager| {
            let semaphore = manager.semaphore(3).unwrap();
            let dead = die_after(manager, |dead| {
                let semaphore: Semaphore = open_semaphore(dead);
                (0..3).for_each(|_| std::mem::forget(semaphore.permit().unwrap()));
                semaphore
            });
            word(manager, Kind::Semaphore, 0).fetch_or(WAITERS, Ordering::Relaxed);
            (semaphore, dead)
        },
        open: &|victim, _| open_semaphore::<false>(victim),
        act: &|_, semaphore| drop(semaphore.permit().unwrap()),
        verify: &|_, (semaphore, _), _| assert_eq!(semaphore.available().unwrap(), 3),
        go_on: &|_, (semaphore, _)| {
            let permits: Vec<_> = (0..3).map(|_| semaphore.permit_timeout(SOON).unwrap()).collect();
            assert!(permits.iter().all(Option::is_some));
        },
    }
    .run(suite);
}

fn events(suite: &Suite) {
    let open_event =
        |manager: &Manager| Event::over(handle(manager, only(manager, Kind::Event), Kind::Event, Event::fingerprint()));
    let case = |name: &str, set: bool, act: &(dyn Fn(&Event) + Sync)| {
        Case {
            name: &format!("sync: event: {name}"),
            setup: &|manager| manager.event().unwrap(),
            open: &|victim, event: &Event| {
                match set {
                    true => event.set().unwrap(),
                    // Somebody waits.
                    false => drop(word(victim, Kind::Event, 0).fetch_or(2, Ordering::Relaxed)),
                }
                open_event(victim).unwrap()
            },
            act: &|_, event| act(event),
            verify: &|_, event: &Event, finished| assert!(!finished || event.is_set().unwrap() != set),
            go_on: &|_, event| {
                event.clear().unwrap();
                assert!(!event.wait_timeout(Duration::ZERO).unwrap());
                event.set().unwrap();
                assert!(event.wait().unwrap());
            },
        }
        .run(suite);
    };
    case("set twice", false, &|event| {
        event.set().unwrap();
        event.set().unwrap();
    });
    case("clear", true, &|event| event.clear().unwrap());
    case("wait, then set", false, &|event| {
        event.set().unwrap();
        event.clear().unwrap();
        assert!(!event.wait_timeout(MOMENT).unwrap());
        event.set().unwrap();
    });
}

const TICKET: usize = 1;
const PLACES: usize = 2;
const WAITING: u64 = 1;
const NOTIFIED: u64 = 2;

/// How the place of the calling thread reads in that state, with that ticket.
fn place(manager: &Manager, state: u64, ticket: u64) -> (usize, u64) {
    let segment = manager.session().segment();
    let slot = segment.current_slot().expect("a thread that has done something");
    (PLACES + usize::from(slot.index), u64::from(slot.generation) << 32 | ticket << 2 | state)
}

fn place_word(manager: &Manager, index: usize) -> &Word {
    word(manager, Kind::Condition, index)
}

type Conditioned = (Lock<u64>, Condition<Lock<u64>>);

fn open_condition(manager: &Manager) -> Conditioned {
    let lock: Lock<u64> = open_lock(manager);
    let fingerprint = Condition::<Lock<u64>>::fingerprint();
    let handle = handle(manager, only(manager, Kind::Condition), Kind::Condition, fingerprint);
    let condition = Condition::of(handle, lock.clone()).unwrap();
    (lock, condition)
}

fn new_condition(manager: &Manager) -> Conditioned {
    let lock = manager.lock(0u64).unwrap();
    let condition = manager.condition(&lock).unwrap();
    (lock, condition)
}

fn wait_in_vain(survivor: &Manager, (lock, condition): &Conditioned) {
    let guard = lock.lock_timeout(SOON).unwrap().expect("nobody alive holds it");
    condition.notify_all().unwrap(); // perhaps the dead
    survivor.recover().unwrap();
    assert_eq!(condition.notify_all().unwrap(), 0, "nobody alive waits");
    assert_eq!(condition.wait_timeout(Duration::ZERO).unwrap().into_guard(), Woken::TimedOut);
    drop(guard);
}

fn conditions(suite: &Suite) {
    Case {
        name: "sync: condition: wait too long",
        setup: &new_condition,
        open: &|victim, _| open_condition(victim),
        act: &|_, (lock, condition)| {
            let guard = lock.lock().unwrap();
            assert_eq!(condition.wait_timeout(MOMENT).unwrap().into_guard(), Woken::TimedOut);
            drop(guard);
        },
        verify: &|_, _, _| (),
        go_on: &|survivor, conditioned| wait_in_vain(survivor, conditioned),
    }
    .run(suite);
    // The survivor's thread is made to look as if it waited: it is notified or not.
    Case {
        name: "sync: condition: notify",
        setup: &|manager| {
            let conditioned = new_condition(manager);
            let (index, waiting) = place(manager, WAITING, 0);
            place_word(manager, index).store(waiting, Ordering::Release);
            place_word(manager, TICKET).store(1, Ordering::Release);
            conditioned
        },
        open: &|victim, _| open_condition(victim),
        act: &|_, (lock, condition)| {
            let guard = lock.lock().unwrap();
            assert_eq!(condition.notify(2).unwrap(), 1);
            drop(guard);
        },
        verify: &|survivor, _, finished| {
            let (index, _) = place(survivor, 0, 0);
            let state = place_word(survivor, index).load(Ordering::Acquire) & 3;
            assert!(state == NOTIFIED || !finished && state == WAITING);
        },
        go_on: &|survivor, conditioned| {
            let (index, _) = place(survivor, 0, 0);
            place_word(survivor, index).store(0, Ordering::Release);
            wait_in_vain(survivor, conditioned);
        },
    }
    .run(suite);
}

fn notifications_of_the_dead(suite: &Suite) {
    // A thread that waited and was notified has died: the victim, who waited then too, takes the notification.
    Case {
        name: "sync: condition: take over a notification",
        setup: &|manager| {
            let conditioned = new_condition(manager);
            let dead = die_after(manager, |dead| {
                let opened = open_condition(dead);
                let guard = opened.0.lock().unwrap();
                drop(guard);
                let (index, notified) = place(dead, NOTIFIED, 5);
                place_word(dead, index).store(notified, Ordering::Release);
                opened
            });
            (conditioned, dead)
        },
        open: &|victim, _| open_condition(victim),
        act: &|_, (lock, condition)| {
            let guard = lock.lock().unwrap();
            assert_eq!(condition.wait_timeout(SOON).unwrap().into_guard(), Woken::Notified);
            drop(guard);
        },
        verify: &|_, _, _| (),
        go_on: &|survivor, (conditioned, _)| wait_in_vain(survivor, conditioned),
    }
    .run(suite);
    // It has died, and the victim has its slot: it hands the notification to the survivor, who waited then.
    Case {
        name: "sync: condition: hand on a notification",
        setup: &|manager| {
            let conditioned = new_condition(manager);
            let (index, waiting) = place(manager, WAITING, 0);
            place_word(manager, index).store(waiting, Ordering::Release);
            place_word(manager, TICKET).store(6, Ordering::Release);
            conditioned
        },
        open: &|victim, _| {
            let opened = open_condition(victim);
            drop(opened.0.lock().unwrap());
            let (index, notified) = place(victim, NOTIFIED, 5);
            place_word(victim, index).store(notified - (1 << 32), Ordering::Release); // the slot's use before
            opened
        },
        act: &|_, (lock, condition)| {
            let guard = lock.lock().unwrap();
            assert_eq!(condition.wait_timeout(Duration::ZERO).unwrap().into_guard(), Woken::TimedOut);
            drop(guard);
        },
        verify: &|survivor, _, finished| {
            let (index, _) = place(survivor, 0, 0);
            assert!(!finished || place_word(survivor, index).load(Ordering::Acquire) & 3 == NOTIFIED);
        },
        go_on: &|survivor, conditioned| {
            let (index, _) = place(survivor, 0, 0);
            place_word(survivor, index).store(0, Ordering::Release);
            wait_in_vain(survivor, conditioned);
        },
    }
    .run(suite);
}

fn open_barrier(manager: &Manager) -> Barrier {
    Barrier::over(handle(manager, only(manager, Kind::Barrier), Kind::Barrier, Barrier::fingerprint())).unwrap()
}

fn passes(passage: Passage) -> bool {
    matches!(passage, Passage::Passed { .. })
}

/// Epochs of both parities begin: no signature of the dead is in the way.
fn go_round(barrier: &Barrier) {
    for _ in 0..2 {
        barrier.reset().unwrap();
        match barrier.parties().unwrap() {
            1 => assert!(passes(barrier.wait().unwrap())),
            _ => assert_eq!(barrier.wait_timeout(Duration::ZERO).unwrap(), Passage::TimedOut),
        }
        barrier.reset().unwrap();
        assert!(!barrier.is_broken().unwrap());
    }
}

fn barriers(suite: &Suite) {
    let case = |name: &str, parties: usize, broken: bool, act: &(dyn Fn(&Barrier) + Sync)| {
        Case {
            name: &format!("sync: barrier: {name}"),
            setup: &|manager| manager.barrier(parties).unwrap(),
            open: &|victim, _| open_barrier(victim),
            act: &|_, barrier| act(barrier),
            verify: &|_, barrier: &Barrier, finished| assert!(!finished || barrier.is_broken().unwrap() == broken),
            go_on: &|_, barrier| go_round(barrier),
        }
        .run(suite);
    };
    case("pass alone, three times", 1, false, &|barrier| {
        for _ in 0..3 {
            assert!(passes(barrier.wait_with(|| ()).unwrap()));
        }
    });
    case("wait too long, reset, abort", 2, true, &|barrier| {
        assert_eq!(barrier.wait_timeout(MOMENT).unwrap(), Passage::TimedOut);
        barrier.reset().unwrap();
        barrier.abort().unwrap();
        assert_eq!(barrier.wait().unwrap(), Passage::Broken);
    });
    // The survivor's thread is made to look as if it had signed in: the victim is elected, and lets both pass.
    Case {
        name: "sync: barrier: pass with another",
        setup: &|manager| {
            let barrier = manager.barrier(2).unwrap();
            let slot = manager.session().segment().current_slot().unwrap();
            let signature = u64::from(slot.generation) << 32 | 1 << 16 | (u64::from(slot.index) + 1); // epochs count from 1
            word(manager, Kind::Barrier, 2).store(signature, Ordering::Release);
            word(manager, Kind::Barrier, 1).fetch_or(4, Ordering::Relaxed); // and sleeps
            barrier
        },
        open: &|victim, _| open_barrier(victim),
        act: &|_, barrier| assert!(passes(barrier.wait().unwrap())),
        verify: &|_, barrier: &Barrier, finished| assert!(!finished || !barrier.is_broken().unwrap()),
        go_on: &|survivor, barrier| {
            word(survivor, Kind::Barrier, 2).store(0, Ordering::Release);
            go_round(barrier);
        },
    }
    .run(suite);
    barriers_of_the_dead(suite);
}

fn barriers_of_the_dead(suite: &Suite) {
    // A party has died that had signed in: the victim finds it, and breaks the barrier. Or that had signed in for an epoch
    // long ago: the victim clears its place.
    let case = |name: &str, epoch: u64, act: &(dyn Fn(&Barrier) + Sync)| {
        Case {
            name: &format!("sync: barrier: {name}"),
            setup: &|manager| {
                let barrier = manager.barrier(3).unwrap();
                let dead = die_after(manager, |dead| {
                    let barrier = open_barrier(dead);
                    drop(dead.lock(()).unwrap().lock().unwrap()); // the thread has a slot
                    let slot = dead.session().segment().current_slot().unwrap();
                    let name = u64::from(slot.generation) << 32 | (u64::from(slot.index) + 1);
                    word(dead, Kind::Barrier, 2).store(name | (epoch + 1) << 16, Ordering::Release);
                    barrier
                });
                (barrier, dead)
            },
            open: &|victim, _| open_barrier(victim),
            act: &|_, barrier| act(barrier),
            verify: &|_, (barrier, _), finished| assert!(!finished || barrier.is_broken().unwrap()),
            go_on: &|_, (barrier, _)| {
                barrier.abort().unwrap();
                go_round(barrier);
            },
        }
        .run(suite);
    };
    case("wait for the dead", 0, &|barrier| assert_eq!(barrier.wait().unwrap(), Passage::Broken));
    case("sign in where the dead had", 4, &|barrier| {
        assert_eq!(barrier.wait_timeout(MOMENT).unwrap(), Passage::TimedOut);
    });
}
