//! Proves what barriers promise: lockstep, one index 0 and one action in each cycle, and that whatever keeps one party away
//! breaks the barrier for the others, a death not least.

use std::time::{Duration, Instant};

use commons::{Barrier, Dict, ErrorKind, Event, Manager, Passage, Process};

const FOREVER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);

/// Kills a child, and waits until it is dead.
fn end(child: Process<()>) {
    child.kill().unwrap();
    assert!(child.join().is_err());
}

fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < SOON {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn wait_broken(barrier: Barrier) -> bool {
    barrier.wait().unwrap() == Passage::Broken
}

fn passes(passage: Passage) -> bool {
    matches!(passage, Passage::Passed { .. })
}

/// Everybody of `parties` threads passes.
fn is_usable(barrier: &Barrier, parties: usize) -> bool {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parties).map(|_| scope.spawn(|| barrier.wait_timeout(SOON).unwrap())).collect();
        threads.into_iter().all(|thread| passes(thread.join().unwrap()))
    })
}

/// 1,000 passes of processes in lockstep; in each exactly one party gets index 0, and the action runs once.
#[test]
fn a_thousand_passes_in_lockstep() {
    commons::init_test!();
    const PARTIES: u64 = 3;
    const PASSES: u64 = 1000;
    fn work((barrier, counts): (Barrier, Dict<u8, u64>)) -> (u64, u64) {
        let (mut zeros, mut actions) = (0, 0);
        for pass in 0..PASSES {
            counts.fetch_add(&0, 1).unwrap();
            let act = || {
                assert_eq!(counts.get(&0).unwrap(), Some((pass + 1) * PARTIES), "all have come, and nobody passed");
                actions += 1;
            };
            match barrier.wait_with_timeout(SOON, act).unwrap() {
                Passage::Passed { index } => zeros += u64::from(index == 0),
                other => panic!("{other:?} in pass {pass}"),
            }
            assert!(counts.get(&0).unwrap().unwrap() >= (pass + 1) * PARTIES);
        }
        (zeros, actions)
    }
    let manager = Manager::new().unwrap();
    let (barrier, counts) = (manager.barrier(PARTIES as usize).unwrap(), manager.dict().unwrap());
    counts.insert(&0, &0).unwrap();
    let spawn = |_| Process::spawn((barrier.clone(), counts.clone()), work).unwrap();
    let children: Vec<_> = (0..PARTIES).map(spawn).collect();
    let (mut zeros, mut actions) = (0, 0);
    for child in children {
        let (z, a) = child.join().unwrap();
        (zeros, actions) = (zeros + z, actions + a);
    }
    assert_eq!((zeros, actions), (PASSES, PASSES));
    manager.check().unwrap();
}

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
fn abort_breaks_all_others() {
    commons::init_test!();
    let barrier = Manager::new().unwrap().barrier(4).unwrap();
    let children: Vec<_> = (0..3).map(|_| Process::spawn(barrier.clone(), wait_broken).unwrap()).collect();
    assert!(comes_true(|| barrier.waiting().unwrap() == 3));
    barrier.abort().unwrap();
    assert!(children.into_iter().all(|child| child.join().unwrap()));
    assert!(barrier.is_broken().unwrap());
    assert_eq!(barrier.wait().unwrap(), Passage::Broken, "and those that come later");
    barrier.abort().unwrap();
    barrier.reset().unwrap();
    assert!(!barrier.is_broken().unwrap());
    assert!(is_usable(&barrier, 4));
}

#[test]
fn reset_frees_the_waiters_as_broken_and_leaves_a_usable_barrier() {
    commons::init_test!();
    let barrier = Manager::new().unwrap().barrier(3).unwrap();
    for _ in 0..3 {
        let children: Vec<_> = (0..2).map(|_| Process::spawn(barrier.clone(), wait_broken).unwrap()).collect();
        assert!(comes_true(|| barrier.waiting().unwrap() == 2));
        barrier.reset().unwrap();
        assert!(children.into_iter().all(|child| child.join().unwrap()));
        assert!(!barrier.is_broken().unwrap());
        assert!(is_usable(&barrier, 3));
        barrier.reset().unwrap();
        barrier.reset().unwrap();
        assert!(is_usable(&barrier, 3));
    }
}

#[test]
fn one_late_party_breaks_all() {
    commons::init_test!();
    let barrier = Manager::new().unwrap().barrier(3).unwrap();
    let child = Process::spawn(barrier.clone(), wait_broken).unwrap();
    assert!(comes_true(|| barrier.waiting().unwrap() == 1));
    for timeout in [Duration::from_millis(50), Duration::ZERO] {
        let start = Instant::now();
        let passage = barrier.wait_timeout(timeout).unwrap();
        // The second time it is broken already.
        let expected = if timeout.is_zero() { Passage::Broken } else { Passage::TimedOut };
        assert_eq!(passage, expected);
        assert!(start.elapsed() < timeout + SOON);
    }
    assert!(child.join().unwrap());
    assert_eq!(barrier.waiting().unwrap(), 0);
    barrier.reset().unwrap();
    assert_eq!(barrier.wait_timeout(Duration::ZERO).unwrap(), Passage::TimedOut);
    barrier.reset().unwrap();
    assert!(is_usable(&barrier, 3));
}

#[test]
fn one_party_passes_at_once() {
    commons::init_test!();
    let barrier = Manager::new().unwrap().barrier(1).unwrap();
    let mut actions = 0;
    for _ in 0..100 {
        assert_eq!(barrier.wait_with_timeout(Duration::ZERO, || actions += 1).unwrap(), Passage::Passed { index: 0 });
    }
    assert_eq!(actions, 100);
    assert_eq!(barrier.wait_timeout(Duration::MAX).unwrap(), Passage::Passed { index: 0 });
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
