//! Behaviours 15 to 17: events and barriers.

use std::time::{Duration, Instant};

use commons::{Barrier, Dict, Manager, Passage, Process};

use crate::common::SOON;
use crate::common::barriers::{comes_true, is_usable, wait_broken};

#[test]
fn b15_wait_returns_the_flag_timed_or_not() {
    commons::init_test!();
    let event = Manager::new().unwrap().event().unwrap();
    assert!(!event.is_set().unwrap());
    for timeout in [Duration::ZERO, Duration::from_micros(10), Duration::from_millis(60)] {
        let start = Instant::now();
        assert!(!event.wait_timeout(timeout).unwrap());
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + SOON);
    }
    event.set().unwrap();
    event.set().unwrap();
    assert!(event.wait().unwrap() && event.is_set().unwrap());
    assert!(event.wait_timeout(Duration::ZERO).unwrap() && event.wait_timeout(Duration::MAX).unwrap());
    event.clear().unwrap();
    event.clear().unwrap();
    assert!(!event.wait_timeout(Duration::ZERO).unwrap());
}

/// 1,000 passes of processes in lockstep; in each exactly one party gets index 0, and the action runs once.
#[test]
fn b16_a_thousand_passes_in_lockstep_with_one_index_0_and_one_action_each() {
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

#[test]
fn b17_abort_breaks_all_others() {
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
fn b17_reset_frees_the_waiters_as_broken_and_leaves_a_usable_barrier() {
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
fn b17_one_late_party_breaks_all() {
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
fn b17_one_party_passes_at_once() {
    commons::init_test!();
    let barrier = Manager::new().unwrap().barrier(1).unwrap();
    let mut actions = 0;
    for _ in 0..100 {
        assert_eq!(barrier.wait_with_timeout(Duration::ZERO, || actions += 1).unwrap(), Passage::Passed { index: 0 });
    }
    assert_eq!(actions, 100);
    assert_eq!(barrier.wait_timeout(Duration::MAX).unwrap(), Passage::Passed { index: 0 });
}
