//! Proves what barriers promise beside the behaviours of `tests/behaviours/event_barrier.rs`: that the death of a party
//! breaks the barrier for the others, and that nobody is counted twice.

mod common;

use std::time::Duration;

use common::barriers::{comes_true, is_usable, passes};
use common::{FOREVER, SOON, end};
use commons::{Barrier, Dict, ErrorKind, Event, Manager, Passage, Process};

/// A party that signs in just when the others pass is counted once: two that make equally many rounds end together.
#[test]
fn equal_rounds_end_together() {
    const ROUNDS: u64 = 20_000;
    let barrier = Manager::new().unwrap().barrier(2).unwrap();
    let rounds = || (0..ROUNDS).filter(|_| passes(barrier.wait_timeout(SOON).unwrap())).count() as u64;
    std::thread::scope(|scope| {
        let other = scope.spawn(rounds);
        assert_eq!((rounds(), other.join().unwrap()), (ROUNDS, ROUNDS));
    });
}

#[test]
fn indices_are_all_different() {
    commons::init_test!();
    let barrier = Manager::new().unwrap().barrier(5).unwrap();
    for _ in 0..20 {
        let mut indices: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..5).map(|_| scope.spawn(|| barrier.wait().unwrap())).collect();
            let index = |passage| if let Passage::Passed { index } = passage { index } else { panic!("{passage:?}") };
            threads.into_iter().map(|thread| index(thread.join().unwrap())).collect()
        });
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_barrier_of_zero_is_an_error() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    for parties in [0, 1025, usize::MAX] {
        assert_eq!(manager.barrier(parties).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(manager.named("b").barrier(parties).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(manager.barrier(1024).unwrap().parties().unwrap(), 1024);
    manager.check().unwrap();
}

/// A party that had come is killed: the others find the barrier broken, asleep as they are.
#[test]
fn a_barrier_breaks_when_a_party_that_had_arrived_dies() {
    commons::init_test!();
    fn wait(barrier: Barrier) {
        let _ = barrier.wait();
    }
    let manager = Manager::new().unwrap();
    let barrier = manager.barrier(3).unwrap();
    let victim = Process::spawn(barrier.clone(), wait).unwrap();
    assert!(comes_true(|| barrier.waiting().unwrap() == 1));
    let other = barrier.clone();
    let other = std::thread::spawn(move || other.wait().unwrap());
    assert!(comes_true(|| barrier.waiting().unwrap() == 2));
    end(victim);
    assert_eq!(other.join().unwrap(), Passage::Broken);
    barrier.reset().unwrap();
    assert!(is_usable(&barrier, 3));
    manager.check().unwrap();
}

/// So it does when the party that runs the action is killed in it, and when its action panics.
#[test]
fn a_barrier_breaks_when_a_party_dies_in_the_action() {
    commons::init_test!();
    fn act((barrier, acting): (Barrier, Event)) {
        let _ = barrier.wait_with(|| {
            acting.set().unwrap();
            std::thread::sleep(FOREVER);
        });
    }
    let manager = Manager::new().unwrap();
    let (barrier, acting) = (manager.barrier(2).unwrap(), manager.event().unwrap());
    let other = barrier.clone();
    let waiter = std::thread::spawn(move || other.wait().unwrap());
    // Either of the two may be elected; one that is not the child passes with it.
    assert!(comes_true(|| barrier.waiting().unwrap() == 1));
    let victim = Process::spawn((barrier.clone(), acting.clone()), act).unwrap();
    if acting.wait_timeout(Duration::from_secs(2)).unwrap() {
        end(victim);
        assert_eq!(waiter.join().unwrap(), Passage::Broken);
        assert!(barrier.is_broken().unwrap());
    } else {
        victim.join().unwrap();
        assert!(passes(waiter.join().unwrap()));
    }
    barrier.reset().unwrap();
    let panicking =
        |barrier: Barrier| std::thread::spawn(move || barrier.wait_with_timeout(SOON, || panic!("as it should")));
    let threads = [panicking(barrier.clone()), panicking(barrier.clone())].map(std::thread::JoinHandle::join);
    assert_eq!(threads.iter().filter(|thread| thread.is_err()).count(), 1);
    assert!(threads.into_iter().flatten().all(|passage| passage.unwrap() == Passage::Broken));
    barrier.reset().unwrap();
    assert!(is_usable(&barrier, 2));
    manager.check().unwrap();
}

#[test]
fn barriers_nest_as_values_and_have_names() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let barrier = manager.named("b").barrier(2).unwrap();
    assert_eq!(manager.existing("b").barrier(7).unwrap().parties().unwrap(), 2);
    let lock = manager.lock(Some(barrier.clone())).unwrap();
    assert_eq!(lock.lock().unwrap().into_guard().get().unwrap(), Some(barrier));
    manager.check().unwrap();
}

/// Parties are killed at random, and whoever finds the barrier broken resets it: the others always go on.
#[test]
fn storm() {
    commons::init_test!();
    fn work((barrier, counts): (Barrier, Dict<u8, u64>)) {
        loop {
            match barrier.wait_timeout(Duration::from_secs(1)).unwrap() {
                Passage::Passed { .. } => _ = counts.fetch_add(&0, 1).unwrap(),
                Passage::Broken | Passage::TimedOut if barrier.is_broken().unwrap() => barrier.reset().unwrap(),
                _ => {} // somebody else has reset it
            }
        }
    }
    let manager = Manager::new().unwrap();
    let (barrier, counts): (_, Dict<u8, u64>) = (manager.barrier(3).unwrap(), manager.dict().unwrap());
    counts.insert(&0, &0).unwrap();
    let spawn = || Process::spawn((barrier.clone(), counts.clone()), work).unwrap();
    let mut workers: Vec<_> = (0..3).map(|_| spawn()).collect();
    for round in 0..20 {
        std::thread::sleep(Duration::from_millis(10 + round % 7));
        let mut old = std::mem::replace(&mut workers[round as usize % 3], spawn());
        assert!(old.is_alive(), "{:?}", old.join());
        end(old);
    }
    let passed = || counts.get(&0).unwrap().unwrap();
    let before = passed();
    assert!(comes_true(|| passed() > before + 100), "they go on");
    workers.into_iter().for_each(end);
    manager.recover().unwrap();
    barrier.abort().unwrap();
    barrier.reset().unwrap();
    assert!(is_usable(&barrier, 3));
    manager.check().unwrap();
}
