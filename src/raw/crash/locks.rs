//! Locks and the values they guard.

use std::time::Duration;

use super::harness::{Case, Suite};
use super::{handle, only, open_lock};
use crate::mem::armed;
use crate::raw::object::Kind;
use crate::{Lock, Manager};

type Value = Vec<u8>;

fn value(n: u8) -> Value {
    vec![n; usize::from(n)]
}

/// The lock can be had and is clean again; the value can be set.
fn go_on(lock: &Lock<Value>) {
    let guard = lock.lock_timeout(Duration::from_secs(5)).unwrap().expect("nobody alive holds it").into_guard();
    guard.set(&value(70)).unwrap();
    drop(guard);
    let held = lock.try_lock().unwrap().expect("it was released");
    assert!(!held.is_recovered());
    assert_eq!(held.into_guard().get().unwrap(), value(70));
}

fn verify(lock: &Lock<Value>, before: &Value, after: &Value, finished: bool) {
    let held = lock.lock_timeout(Duration::from_secs(5)).unwrap().expect("nobody alive holds it");
    let now = held.into_guard().get().unwrap();
    assert!(now == *after || !finished && now == *before, "{now:?}");
}

fn case(
    suite: &Suite,
    name: &str,
    (before, after): (u8, u8),
    open: impl Fn(&Manager, &Lock<Value>) + Sync,
    act: impl Fn(&Lock<Value>) + Sync,
) {
    Case {
        name: &format!("lock: {name}"),
        setup: &|manager| manager.lock(value(before)).unwrap(),
        open: &|victim, _| {
            let lock: Lock<Value> = open_lock(victim);
            open(victim, &lock);
            lock
        },
        act: &|_, lock| act(lock),
        verify: &|_, lock, finished| verify(lock, &value(before), &value(after), finished),
        go_on: &|_, lock| go_on(lock),
    }
    .run(suite);
}

/// The waiters' bit, which a sleeper would have set.
fn mark_waiting(manager: &Manager) {
    let (_, _, root) = manager.session().describe(only(manager, Kind::Lock)).unwrap();
    let word = crate::raw::cell::lock_word(manager.session().segment(), root).unwrap();
    word.fetch_or(1 << 16, std::sync::atomic::Ordering::Relaxed);
}

/// Every lock case.
pub fn cases(suite: &Suite) {
    let nothing = |_: &Manager, _: &Lock<Value>| ();
    case(suite, "acquire", (3, 3), nothing, |lock| {
        assert!(!lock.acquire().unwrap());
    });
    case(suite, "acquire, set, release", (3, 40), nothing, |lock| {
        let guard = lock.lock().unwrap().into_guard();
        guard.set(&value(40)).unwrap();
    });
    case(suite, "set from nothing", (0, 9), nothing, |lock| {
        lock.lock().unwrap().into_guard().set(&value(9)).unwrap();
    });
    case(suite, "set to nothing", (9, 0), nothing, |lock| {
        lock.lock().unwrap().into_guard().set(&value(0)).unwrap();
    });
    case(
        suite,
        "release with a waiter",
        (3, 3),
        |victim, lock| {
            assert!(!lock.acquire().unwrap());
            mark_waiting(victim);
        },
        |lock| lock.release().unwrap(),
    );
    case(
        suite,
        "acquire with a waiter, release",
        (3, 3),
        |victim, _| mark_waiting(victim),
        |lock| {
            drop(lock.lock().unwrap());
        },
    );
    handles(suite);

    // The last holder died holding it: the victim takes it over, recovering that one on the way.
    Case {
        name: "lock: taking over from the dead",
        setup: &|manager| {
            let lock = manager.lock(value(5)).unwrap();
            let dead = Manager::from_session(manager.session().twin().unwrap());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let lock: Lock<Value> = open_lock(&dead);
                    assert!(!lock.acquire().unwrap());
                    dead.session().segment().surrender();
                    armed::die();
                });
            });
            (lock, dead)
        },
        open: &|victim, _| open_lock::<Value, crate::Auto>(victim),
        act: &|_, lock| {
            let held = lock.lock().unwrap();
            assert!(held.is_recovered());
            held.into_guard().set(&value(6)).unwrap();
        },
        verify: &|_, (lock, _), finished| verify(lock, &value(5), &value(6), finished),
        go_on: &|_, (lock, _)| go_on(lock),
    }
    .run(suite);

    // Somebody alive holds it for a while: the victim falls asleep on it.
    Case {
        name: "lock: waiting for the living",
        setup: &|manager| manager.lock(value(5)).unwrap(),
        open: &|victim, lock: &Lock<Value>| {
            let holder = lock.clone();
            let (started, has_started) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let guard = holder.lock().unwrap();
                started.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(4));
                drop(guard);
            });
            has_started.recv().unwrap();
            let fingerprint = Lock::<Value>::fingerprint();
            let id = only(victim, Kind::Lock);
            Lock::<Value>::over(handle(victim, id, Kind::Lock, fingerprint)).unwrap()
        },
        act: &|_, lock| lock.lock().unwrap().into_guard().set(&value(6)).unwrap(),
        verify: &|_, lock, finished| verify(lock, &value(5), &value(6), finished),
        go_on: &|_, lock| go_on(lock),
    }
    .run(suite);
}

/// A value that holds the handle of another lock.
fn handles(suite: &Suite) {
    type Outer = Lock<Option<Lock<u64>>>;
    Case {
        name: "lock: setting a value with a handle, over another",
        setup: &|manager| {
            let inner = manager.lock(1u64).unwrap();
            let outer: Outer = manager.lock(Some(inner)).unwrap();
            outer
        },
        open: &|victim, _| {
            let id = victim
                .session()
                .objects()
                .unwrap()
                .iter()
                .map(|object| object.id)
                .find(|id| victim.session().describe(*id).unwrap().1 == Outer::fingerprint());
            let outer = Outer::over(handle(victim, id.unwrap(), Kind::Lock, Outer::fingerprint())).unwrap();
            (outer, victim.lock(2u64).unwrap())
        },
        act: &|_, (outer, inner)| outer.lock().unwrap().into_guard().set(&Some(inner.clone())).unwrap(),
        verify: &|survivor, outer, finished| {
            let inner = outer.lock().unwrap().into_guard().get().unwrap().unwrap();
            let now = inner.lock().unwrap().into_guard().get().unwrap();
            assert!(now == 2 || !finished && now == 1);
            assert_eq!(survivor.objects().unwrap().len(), 2);
        },
        go_on: &|survivor, outer| {
            outer.lock().unwrap().into_guard().set(&None).unwrap();
            survivor.recover().unwrap(); // what only the dead held
            survivor.collect().unwrap();
            assert_eq!(survivor.objects().unwrap().len(), 1);
        },
    }
    .run(suite);
}
