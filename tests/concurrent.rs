//! Proves that what many threads and processes do at once is what they would have done one after another: dicts, queues
//! and locks.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Dice, from_hex, hear, role, say, start, to_hex};
use commons::{Dict, ErrorKind, Held, Lock, Manager, Put, Queue};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn hex(handle: &impl Serialize) -> String {
    to_hex(&postcard::to_stdvec(handle).unwrap())
}

fn unhex<T: DeserializeOwned>(text: &str) -> T {
    postcard::from_bytes(&from_hex(text)).unwrap()
}

#[test]
fn children() {
    let Some((role, argument)) = role() else { return };
    match role.as_str() {
        "adds" => {
            let dict: Dict<String, u64> = unhex(&argument);
            for _ in 0..2000 {
                dict.fetch_add("sum", 3).unwrap();
            }
        }
        "adds inline" => {
            let dict: Dict<u64, u64> = unhex(&argument);
            for _ in 0..10_000 {
                dict.fetch_add(&1, 3).unwrap();
            }
        }
        "updates" => {
            let dict: Dict<u64, (u64, String)> = unhex(&argument);
            for _ in 0..1000 {
                dict.update(&1, |old| {
                    let (number, _) = old.unwrap_or_default();
                    Some((number + 1, "x".repeat(number as usize % 50)))
                })
                .unwrap();
            }
        }
        "produces" => {
            let (queue, producer): (Queue<(u64, u64)>, u64) = unhex(&argument);
            for i in 0..ITEMS {
                queue.put(&(producer, i)).unwrap();
            }
        }
        "consumes" => {
            let (queue, results): (Queue<(u64, u64)>, Dict<u64, Vec<(u64, u64)>>) = unhex(&argument);
            let mut items = Vec::new();
            let error = loop {
                match queue.get() {
                    Ok(item) => items.push(item),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::Closed);
            results.insert(&u64::from(std::process::id()), &items).unwrap();
        }
        "counts" => {
            let lock: Lock<u64> = unhex(&argument);
            for _ in 0..1000 {
                let guard = lock.lock().unwrap().into_guard();
                guard.set(&(guard.get().unwrap() + 1)).unwrap();
            }
        }
        "holds" => {
            let lock: Lock<u64> = unhex(&argument);
            let guard = lock.lock().unwrap().into_guard();
            guard.set(&7).unwrap();
            say("held");
            hear();
        }
        "writes" => {
            let (dict, mine): (Dict<u64, Vec<u64>>, u64) = unhex(&argument);
            let end = Instant::now() + Duration::from_secs(2);
            let mut dice = Dice(mine);
            while Instant::now() < end {
                let key = dice.below(200) * 2 + mine;
                match dice.below(3) {
                    0 => drop(dict.remove(&key).unwrap()),
                    _ => drop(dict.insert(&key, &summed(&mut dice)).unwrap()),
                }
            }
        }
        role => panic!("{role}"),
    }
}

const ITEMS: u64 = 5000;

/// Numbers, with their sum at the end.
fn summed(dice: &mut Dice) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..dice.below(40)).map(|_| dice.next()).collect();
    numbers.push(numbers.iter().fold(0, |sum, n| sum.wrapping_add(*n)));
    numbers
}

fn assert_summed(numbers: &[u64]) {
    let (sum, numbers) = numbers.split_last().expect("not empty");
    assert_eq!(*sum, numbers.iter().fold(0u64, |sum, n| sum.wrapping_add(*n)), "a torn value");
}

/// Threads write, read, iterate and take snapshots of boxed and inline entries: no value is ever torn.
#[test]
fn no_value_is_torn() {
    let manager = Manager::new().unwrap();
    let boxed = manager.dict::<u64, Vec<u64>>().unwrap();
    let inline = manager.dict::<u64, u128>().unwrap();
    let twice = |n: u64| u128::from(n) << 64 | u128::from(n);
    let stop = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..3u64 {
            let (boxed, inline, stop) = (&boxed, &inline, &stop);
            scope.spawn(move || {
                let mut dice = Dice(writer);
                while !stop.load(Ordering::Relaxed) {
                    let key = dice.below(300);
                    match dice.below(8) {
                        0 => drop((boxed.remove(&key).unwrap(), inline.remove(&key).unwrap())),
                        1 => drop(boxed.replace(&key, &summed(&mut dice)).unwrap().inspect(|v| assert_summed(v))),
                        _ => {
                            boxed.insert(&key, &summed(&mut dice)).unwrap();
                            inline.insert(&key, &twice(dice.next())).unwrap();
                        }
                    }
                }
            });
        }
        for reader in 0..2u64 {
            let (boxed, inline, stop, reads) = (&boxed, &inline, &stop, &reads);
            scope.spawn(move || {
                let mut dice = Dice(100 + reader);
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..200 {
                        let key = dice.below(300);
                        if let Some(value) = boxed.get(&key).unwrap() {
                            assert_summed(&value);
                        }
                        if let Some(value) = inline.get(&key).unwrap() {
                            assert_eq!(value, twice(value as u64));
                        }
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                    boxed.iter().for_each(|entry| assert_summed(&entry.unwrap().1));
                    inline.snapshot().unwrap().iter().for_each(|(_, v)| assert_eq!(*v, twice(*v as u64)));
                }
            });
        }
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
    let entries: HashMap<u64, Vec<u64>> = boxed.iter().map(Result::unwrap).collect();
    assert_eq!(boxed.len().unwrap(), entries.len() as u64);
    manager.check().unwrap();
}

/// The same between processes.
#[test]
fn no_value_is_torn_between_processes() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, Vec<u64>>().unwrap();
    let mut children: Vec<_> = (0..2u64).map(|mine| start("writes", &hex(&(&dict, mine)))).collect();
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        for key in 0..400 {
            if let Some(value) = dict.get(&key).unwrap() {
                assert_summed(&value);
            }
        }
        for entry in dict.iter() {
            assert_summed(&entry.unwrap().1);
        }
    }
    children.iter_mut().for_each(common::Child::succeed);
    dict.snapshot().unwrap().iter().for_each(|(_, value)| assert_summed(value));
    manager.check().unwrap();
}

/// Keys that stay come exactly once from each iteration, however far the table grows meanwhile.
#[test]
fn iteration_yields_what_stays_exactly_once() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, u64>().unwrap();
    let boxed = manager.dict::<String, u64>().unwrap();
    const STABLE: u64 = 500;
    for key in 0..STABLE {
        dict.insert(&key, &key).unwrap();
        boxed.insert(&key.to_string(), &key).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut key = STABLE;
            while !stop.load(Ordering::Relaxed) && key < 200_000 {
                dict.insert(&key, &key).unwrap();
                boxed.insert(&key.to_string(), &key).unwrap();
                if key.is_multiple_of(3) {
                    dict.remove(&key).unwrap();
                    boxed.remove(key.to_string().as_str()).unwrap();
                }
                key += 1;
            }
        });
        let end = Instant::now() + Duration::from_secs(3);
        let mut rounds = 0;
        while rounds < 3 || Instant::now() < end {
            let mut seen = HashMap::new();
            dict.keys().for_each(|key| *seen.entry(key.unwrap()).or_insert(0) += 1);
            assert!((0..STABLE).all(|key| seen.get(&key) == Some(&1)), "inline, round {rounds}");
            assert!(seen.values().all(|times| *times == 1), "an inline key came twice");
            let mut seen = HashMap::new();
            boxed.values().for_each(|value| *seen.entry(value.unwrap()).or_insert(0) += 1);
            assert!((0..STABLE).all(|key| seen.get(&key) == Some(&1)), "boxed, round {rounds}");
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    manager.check().unwrap();
}

/// Four processes add to one number, inline and boxed, by `fetch_add` and by `update`: nothing is lost.
/// Growing takes two latches at a time while a dict is small, and who holds it still waits for all of them: neither waits
/// for the other in turn.
#[test]
fn snapshots_while_small_dicts_grow() {
    let manager = Manager::new().unwrap();
    for _ in 0..200 {
        let dict = manager.dict::<u64, u64>().unwrap();
        let (full, begun) = (AtomicBool::new(false), Instant::now());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..250).for_each(|key| assert!(dict.insert(&key, &key).unwrap()));
                full.store(true, Ordering::Release);
            });
            while !full.load(Ordering::Acquire) {
                let mut keys: Vec<u64> = dict.snapshot().unwrap().into_iter().map(|(key, _)| key).collect();
                keys.sort_unstable();
                assert!(keys.iter().copied().eq(0..keys.len() as u64), "not what was there at one moment");
            }
        });
        // Whoever stands in another's way for half a minute gives up, which the inserting thread would not notice.
        assert!(begun.elapsed() < Duration::from_secs(20), "they waited for each other");
    }
}

#[test]
fn sums_are_exact() {
    let manager = Manager::new().unwrap();
    let (boxed, inline) = (manager.dict::<String, u64>().unwrap(), manager.dict::<u64, u64>().unwrap());
    let updated = manager.dict::<u64, (u64, String)>().unwrap();
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(start("adds", &hex(&boxed)));
        children.push(start("adds inline", &hex(&inline)));
        children.push(start("updates", &hex(&updated)));
    }
    children.iter_mut().for_each(common::Child::succeed);
    assert_eq!(boxed.get("sum").unwrap(), Some(4 * 2000 * 3));
    assert_eq!(inline.get(&1).unwrap(), Some(4 * 10_000 * 3));
    assert_eq!(updated.get(&1).unwrap().unwrap().0, 4 * 1000);
    manager.check().unwrap();
}

/// One writer for each key writes growing numbers; nobody ever sees one go back.
#[test]
fn readers_never_see_time_go_backwards() {
    let manager = Manager::new().unwrap();
    let inline = manager.dict::<u64, u64>().unwrap();
    let boxed = manager.dict::<u64, (u64, Vec<u8>)>().unwrap();
    const KEYS: u64 = 8;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (inline, boxed, stop) = (&inline, &boxed, &stop);
            scope.spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    for key in (writer..KEYS).step_by(2) {
                        inline.insert(&key, &number).unwrap();
                        boxed.insert(&key, &(number, vec![1; number as usize % 90])).unwrap();
                        // What a writer has written it sees.
                        assert_eq!(inline.get(&key).unwrap(), Some(number));
                    }
                    // Neighbours come and go, so that buckets split and chains move.
                    inline.insert(&(1000 + writer + number * 2 % 5000), &0).unwrap();
                    if number % 7 == 0 {
                        inline.remove(&(1000 + writer + number)).unwrap();
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = [(0, 0); KEYS as usize];
                while !stop.load(Ordering::Relaxed) {
                    for key in 0..KEYS {
                        let (inline_last, boxed_last) = &mut last[key as usize];
                        let now = inline.get(&key).unwrap().unwrap_or(0);
                        assert!(now >= *inline_last, "key {key} went from {inline_last} to {now}");
                        *inline_last = now;
                        let now = boxed.get(&key).unwrap().map_or(0, |(number, _)| number);
                        assert!(now >= *boxed_last, "boxed key {key} went from {boxed_last} to {now}");
                        *boxed_last = now;
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
    });
    manager.check().unwrap();
}

/// Two producers and two consumers, each a process: every item comes exactly once, those of one producer in order.
fn nothing_lost_nothing_doubled(queue: &Queue<(u64, u64)>, manager: &Manager) {
    let results = manager.dict::<u64, Vec<(u64, u64)>>().unwrap();
    let mut consumers: Vec<_> = (0..2).map(|_| start("consumes", &hex(&(queue, &results)))).collect();
    let mut producers: Vec<_> = (0..2u64).map(|number| start("produces", &hex(&(queue, number)))).collect();
    producers.iter_mut().for_each(common::Child::succeed);
    queue.close().unwrap();
    consumers.iter_mut().for_each(common::Child::succeed);
    let mut all = Vec::new();
    for entry in results.iter() {
        let items = entry.unwrap().1;
        for producer in 0..2 {
            let numbers: Vec<u64> = items.iter().filter(|(by, _)| *by == producer).map(|(_, number)| *number).collect();
            assert!(numbers.is_sorted(), "out of order");
        }
        all.extend(items);
    }
    all.sort_unstable();
    let expected: Vec<_> = (0..2).flat_map(|by| (0..ITEMS).map(move |number| (by, number))).collect();
    assert!(all == expected, "lost or doubled: {} of {}", all.len(), expected.len());
    manager.check().unwrap();
}

#[test]
fn bounded_queue_between_processes() {
    let manager = Manager::new().unwrap();
    nothing_lost_nothing_doubled(&manager.queue(16).unwrap(), &manager);
}

#[test]
fn unbounded_queue_between_processes() {
    let manager = Manager::new().unwrap();
    nothing_lost_nothing_doubled(&manager.unbounded_queue().unwrap(), &manager);
}

/// Closing wakes everybody who waits, on either side.
#[test]
fn close_wakes_all() {
    let manager = Manager::new().unwrap();
    let (empty, full) = (manager.queue::<u64>(4).unwrap(), manager.queue::<u64>(1).unwrap());
    full.put(&1).unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..6)
            .map(|i| {
                let (empty, full) = (&empty, &full);
                scope.spawn(move || if i % 2 == 0 { empty.get().map(drop) } else { full.put(&2) })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        let closed = Instant::now();
        empty.close().unwrap();
        full.close().unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        }
        assert!(closed.elapsed() < Duration::from_secs(5), "{:?}", closed.elapsed());
    });
    assert_eq!(full.get().unwrap(), 1);
    assert_eq!(full.try_put(&3).unwrap_err().kind(), ErrorKind::Closed);
    manager.check().unwrap();
}

/// Timed waits end after about their time, and not before.
#[test]
fn timeouts() {
    let manager = Manager::new().unwrap();
    let queue = manager.queue::<u64>(1).unwrap();
    let lock = manager.lock(()).unwrap();
    let wait = Duration::from_millis(80);
    let timed = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        f();
        let took = start.elapsed();
        assert!(took >= wait && took < Duration::from_secs(10), "{took:?}");
    };
    timed(&mut || assert_eq!(queue.get_timeout(wait).unwrap(), None));
    queue.put(&1).unwrap();
    timed(&mut || assert_eq!(queue.put_timeout(&2, wait).unwrap(), Put::Full));
    assert_eq!(queue.try_put(&2).unwrap(), Put::Full);
    let guard = lock.lock().unwrap().into_guard();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock.try_lock().unwrap().is_none());
            assert!(lock.is_locked().unwrap());
            timed(&mut || assert!(lock.lock_timeout(wait).unwrap().is_none()));
            timed(&mut || assert_eq!(lock.acquire_timeout(wait).unwrap(), commons::Acquire::TimedOut));
        });
    });
    drop(guard);
    assert!(matches!(lock.try_lock().unwrap(), Some(Held::Clean(_))));
    assert!(!lock.is_locked().unwrap());
    manager.check().unwrap();
}

#[test]
fn a_lock_excludes() {
    let manager = Manager::new().unwrap();
    let lock = manager.lock(0u64).unwrap();
    let mut children: Vec<_> = (0..4).map(|_| start("counts", &hex(&lock))).collect();
    children.iter_mut().for_each(common::Child::succeed);
    let guard = lock.lock().unwrap();
    assert!(!guard.is_recovered());
    assert_eq!(guard.into_guard().get().unwrap(), 4000);
    manager.check().unwrap();
}

/// A lock whose holder is killed is `Recovered` for exactly one of those who wait, and then `Clean`.
#[test]
fn a_dead_holder_is_told_once() {
    let manager = Manager::new().unwrap();
    let lock = manager.lock(0u64).unwrap();
    let mut child = start("holds", &hex(&lock));
    child.expect("held");
    assert!(lock.is_locked().unwrap());
    assert!(lock.try_lock().unwrap().is_none());
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let held = lock.lock().unwrap();
                    let recovered = held.is_recovered();
                    assert_eq!(held.into_guard().get().unwrap(), 7);
                    recovered
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        child.kill();
        let told: usize = waiters.into_iter().map(|w| usize::from(w.join().unwrap())).sum();
        assert_eq!(told, 1);
    });
    assert!(!lock.lock().unwrap().is_recovered());
    manager.check().unwrap();
}

/// Collecting is no error, and loses nothing, while others destroy containers, take items and replace values that hold
/// handles.
#[test]
fn collecting_beside_destruction() {
    let part = |manager: &Manager| manager.dict::<u64, u64>().unwrap();
    let manager = Manager::builder().capacity(256 << 20).anonymous().unwrap();
    let queue = manager.queue::<(Dict<u64, u64>, String)>(4).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let (mut collections, mut taken) = (0, 0u64);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Large enough for its destruction to meet a collector in the middle of it.
                let part = part(&manager);
                while Instant::now() < end {
                    let container = manager.dict::<u64, Dict<u64, u64>>().unwrap();
                    (0..300).for_each(|n| assert!(container.insert(&n, &part).unwrap()));
                }
            });
        }
        let puts = scope.spawn(|| {
            let mut puts = 0u64;
            while Instant::now() < end {
                let dict = manager.dict().unwrap();
                dict.insert(&1, &puts).unwrap();
                // Of changing lengths, so that freed blocks are read as what they are not.
                puts += u64::from(queue.try_put(&(dict, "x".repeat(puts as usize % 700))).unwrap() == Put::Done);
            }
            puts
        });
        scope.spawn(|| {
            while Instant::now() < end {
                manager.collect().unwrap();
                collections += 1;
            }
        });
        scope.spawn(|| {
            let lock = manager.lock((part(&manager), String::new())).unwrap();
            for round in 0.. {
                if Instant::now() >= end {
                    break;
                }
                lock.lock().unwrap().into_guard().set(&(part(&manager), "y".repeat(round % 900))).unwrap();
            }
        });
        let mut next = || match queue.try_get().unwrap() {
            Some((dict, _)) => {
                assert_eq!(dict.get(&1).unwrap(), Some(taken));
                taken += 1;
                true
            }
            None => false,
        };
        while Instant::now() < end {
            next();
        }
        let puts = puts.join().unwrap();
        while next() {}
        assert_eq!(puts, taken);
    });
    println!("{collections} collections, {taken} items");
    manager.collect().unwrap();
    manager.check().unwrap();
}
