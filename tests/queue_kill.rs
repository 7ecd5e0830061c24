//! Proves with real processes and real SIGKILL what becomes of leased items, loans and priorities when their owners die:
//! nothing is lost, `join` completes, and a later delivery says that it is one.
//!
//! A long storm: `COMMONS_STORM_SECS=600 cargo test --test queue_kill`; `COMMONS_SEED` replays the choices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use commons::{Dict, JoinableQueue, Manager, PriorityQueue, Process, Put};
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Serialize, Deserialize)]
struct World {
    manager: Manager,
    jobs: JoinableQueue<Vec<u8>>,
    urgent: PriorityQueue<u64>,
    /// By item: deliveries that were done.
    done: Dict<u64, u64>,
    /// By item of the priority queue: how often it was got.
    got: Dict<u64, u64>,
}

impl World {
    fn new(capacity: usize) -> World {
        let manager = Manager::builder().capacity(256 << 20).anonymous().unwrap();
        World {
            jobs: manager.joinable_queue(capacity).unwrap(),
            urgent: manager.priority_queue(capacity).unwrap(),
            done: manager.dict().unwrap(),
            got: manager.dict().unwrap(),
            manager,
        }
    }
}

fn item(n: u64) -> Vec<u8> {
    let mut bytes = vec![n as u8; 8 + n as usize % 100];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, item(n), "torn");
    n
}

/// Leases all there is, says so, and waits to be killed.
fn hoarder(world: World) {
    let mut leases = Vec::new();
    while let Some(lease) = world.jobs.try_lease().unwrap() {
        leases.push(lease);
    }
    let _loan = world.jobs.loan(1000).unwrap();
    world.done.insert(&u64::MAX, &(leases.len() as u64)).unwrap();
    std::thread::sleep(LONG);
}

#[test]
fn what_a_killed_consumer_had_on_lease_is_delivered_again_and_join_completes() {
    commons::init_test!();
    let world = World::new(100);
    for n in 0..50 {
        world.jobs.put(&item(n)).unwrap();
    }
    let child = Process::spawn(world.clone(), hoarder).unwrap();
    while world.done.get(&u64::MAX).unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(world.done.get(&u64::MAX).unwrap(), Some(50));
    assert_eq!((world.jobs.len().unwrap(), world.jobs.unfinished().unwrap()), (0, 50));
    assert!(world.jobs.try_lease().unwrap().is_none(), "they are the child's");
    std::thread::scope(|scope| {
        let joiner = scope.spawn(|| world.jobs.join_timeout(LONG).unwrap());
        let consumer = scope.spawn(|| {
            for n in 0..50 {
                let lease = world.jobs.lease_timeout(LONG).unwrap().expect("it comes again");
                assert_eq!((number(&lease.get().unwrap()), lease.delivery()), (n, 2));
                lease.ack().unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        child.kill().unwrap();
        consumer.join().unwrap();
        assert!(joiner.join().unwrap(), "all is done");
    });
    let _ = child.join();
    world.manager.check().unwrap();
}

/// Operations by number; each is killed at each of its stores.
const OPERATIONS: u64 = 6;

fn operate(world: &World, operation: u64) {
    match operation {
        0 => world.jobs.put(&item(99)).unwrap(),
        1 => world.jobs.lease().unwrap().ack().unwrap(),
        2 => world.jobs.lease().unwrap().release().unwrap(),
        3 => {
            let mut loan = world.jobs.loan(item(99).len()).unwrap();
            loan.write_at(0, &item(99)).unwrap();
            loan.commit().unwrap();
        }
        4 => world.urgent.put(2, &99).unwrap(),
        _ => drop(world.urgent.get().unwrap()),
    }
}

/// Dies at its `at`-th store; returns, if it lives, how many there were.
fn victim((world, operation, at): (World, u64, u64)) -> u64 {
    commons::testing::arm_kill(at);
    operate(&world, operation);
    commons::testing::disarm()
}

#[test]
fn killed_at_every_store() {
    commons::init_test!();
    for operation in 0..OPERATIONS {
        let mut at = 1;
        loop {
            let world = World::new(10);
            for n in 0..3 {
                world.jobs.put(&item(n)).unwrap();
                world.urgent.put(n as i64 * 2, &n).unwrap();
            }
            let lived = Process::spawn((world.clone(), operation, at), victim).unwrap().join().is_ok();
            world.manager.recover().unwrap();
            world.manager.check().unwrap();
            let mut jobs = Vec::new();
            while let Some(lease) = world.jobs.try_lease().unwrap() {
                jobs.push(number(&lease.get().unwrap()));
                lease.ack().unwrap();
            }
            let mut urgent = Vec::new();
            while let Some((priority, n)) = world.urgent.try_get().unwrap() {
                assert_eq!(priority, if n == 99 { 2 } else { n as i64 * 2 });
                urgent.push(n);
            }
            let (jobs_after, urgent_after): (&[u64], &[u64]) = match operation {
                0 | 3 => (&[0, 1, 2, 99], &[0, 1, 2]),
                1 => (&[1, 2], &[0, 1, 2]),
                2 => (&[0, 1, 2], &[0, 1, 2]),
                4 => (&[0, 1, 2], &[0, 1, 99, 2]),
                _ => (&[0, 1, 2], &[1, 2]),
            };
            assert!(jobs == jobs_after || !lived && jobs == [0, 1, 2], "{operation} at {at}: {jobs:?}");
            assert!(urgent == urgent_after || !lived && urgent == [0, 1, 2], "{operation} at {at}: {urgent:?}");
            assert!(world.jobs.join_timeout(LONG).unwrap());
            world.manager.check().unwrap();
            if lived {
                println!("operation {operation}: {at} steps");
                break;
            }
            at += 1;
        }
    }
}

/// Consumes until both queues are closed and empty.
fn consumer(world: World) {
    let mut turn = 0;
    loop {
        turn += 1;
        match world.jobs.lease_timeout(Duration::from_millis(50)) {
            Ok(Some(lease)) => {
                let n = number(&lease.get().unwrap());
                let delivery = lease.delivery();
                world.done.insert(&n, &delivery).unwrap();
                if turn % 7 == 0 {
                    lease.release().unwrap();
                } else {
                    lease.ack().unwrap();
                }
            }
            Ok(None) => {}
            Err(_) => return, // closed
        }
        if let Ok(Some((_, n))) = world.urgent.try_get() {
            world.got.fetch_add(&n, 1).unwrap();
        }
    }
}

#[test]
fn storm_of_killed_consumers_loses_nothing_and_join_completes() {
    commons::init_test!();
    const WORKERS: usize = 3;
    let seconds = std::env::var("COMMONS_STORM_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(6);
    let seed = std::env::var("COMMONS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("COMMONS_SEED={seed}");
    let mut dice = seed | 1;
    let mut below = |end: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % end
    };
    let world = World::new(64);
    let mut workers: Vec<_> = (0..WORKERS).map(|_| Process::spawn(world.clone(), consumer).unwrap()).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut kills, mut count) = (0u64, 0);
    let mut urgent = BTreeSet::new();
    while Instant::now() < end {
        let pause = Instant::now() + Duration::from_millis(5 + below(60));
        while Instant::now() < pause {
            world.jobs.put(&item(count)).unwrap();
            if world.urgent.try_put(below(9) as i64, &count).unwrap() == Put::Done {
                urgent.insert(count);
            }
            count += 1;
        }
        let fresh = Process::spawn(world.clone(), consumer).unwrap();
        let old = std::mem::replace(&mut workers[below(WORKERS as u64) as usize], fresh);
        old.kill().unwrap();
        let _ = old.join();
        kills += 1;
    }
    assert!(world.jobs.join_timeout(LONG).unwrap(), "all is done at last");
    let drained = Instant::now() + LONG;
    while !world.urgent.is_empty().unwrap() && Instant::now() < drained {
        std::thread::sleep(Duration::from_millis(10));
    }
    world.jobs.close().unwrap();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    world.manager.recover().unwrap();
    world.manager.check().unwrap();
    assert_eq!(world.jobs.unfinished().unwrap(), 0);
    let mut again = 0;
    for n in 0..count {
        let delivery = world.done.get(&n).unwrap();
        assert!(delivery.is_some(), "item {n} of {count} was lost");
        again += u64::from(delivery > Some(1));
    }
    let lost = urgent.iter().filter(|n| world.got.get(n).unwrap().is_none()).count() as u64;
    let twice = urgent.iter().filter(|n| world.got.get(n).unwrap() > Some(1)).count();
    println!(
        "{count} items, {kills} kills, {again} items delivered again; {lost} urgent ones lost with their consumers"
    );
    assert!(again > 0 && kills > 0);
    assert!(lost <= kills, "each kill can lose what its victim had just got");
    assert_eq!(twice, 0);
}
