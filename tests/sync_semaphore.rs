//! Proves what semaphores promise beside the behaviours of `tests/behaviours/locks.rs`: their limits, and that the owned
//! permits of the dead come back.

mod common;

use std::time::Duration;

use common::{FOREVER, SOON, assert_kind, end};
use commons::{BoundedSemaphore, ErrorKind, Event, Manager, Process, Semaphore};

fn manager() -> Manager {
    Manager::new().unwrap()
}

#[test]
fn too_many_releases_are_errors() {
    commons::init_test!();
    let manager = manager();
    let semaphore = manager.semaphore(u32::MAX).unwrap();
    assert_kind(semaphore.release(), ErrorKind::TooMany);
    assert_kind(semaphore.release_many(0), ErrorKind::InvalidInput);
    semaphore.acquire().unwrap();
    semaphore.release().unwrap();
    assert_kind(semaphore.release_many(u32::MAX), ErrorKind::TooMany);
    assert_eq!(semaphore.available().unwrap(), u32::MAX);
    let bounded = manager.bounded_semaphore(u32::MAX).unwrap();
    assert_kind(bounded.release(), ErrorKind::NotHeld);
    let permits: Vec<_> = (0..32767).map(|_| semaphore.permit().unwrap()).collect();
    assert_kind(semaphore.permit(), ErrorKind::TooMany);
    drop(permits);
    assert_eq!(semaphore.available().unwrap(), u32::MAX);
    manager.check().unwrap();
}

fn own((semaphore, ready): (Semaphore, Event)) {
    let permits: Vec<_> = (0..3).map(|_| semaphore.permit().unwrap()).collect();
    ready.set().unwrap();
    std::thread::sleep(FOREVER);
    drop(permits);
}

/// A process is killed that owns all permits, while others wait for one each.
#[test]
fn owned_permits_return_on_death() {
    commons::init_test!();
    fn wait(semaphore: Semaphore) -> bool {
        semaphore.permit_timeout(SOON).unwrap().is_some()
    }
    let manager = manager();
    let (semaphore, ready) = (manager.semaphore(3).unwrap(), manager.event().unwrap());
    let owner = Process::spawn((semaphore.clone(), ready.clone()), own).unwrap();
    ready.wait().unwrap();
    let waiters: Vec<_> = (0..2).map(|_| Process::spawn(semaphore.clone(), wait).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(30));
    assert!(!semaphore.try_acquire().unwrap());
    end(owner);
    assert!(semaphore.acquire_timeout(SOON).unwrap());
    waiters.into_iter().for_each(|waiter| assert!(waiter.join().unwrap()));
    semaphore.release().unwrap();
    manager.recover().unwrap();
    assert_eq!(semaphore.available().unwrap(), 3);
    manager.check().unwrap();
}

/// A plain permit is nobody's: it does not come back.
#[test]
fn plain_permits_do_not_return_on_death() {
    commons::init_test!();
    fn take((semaphore, ready): (BoundedSemaphore, Event)) {
        semaphore.acquire().unwrap();
        ready.set().unwrap();
        std::thread::sleep(FOREVER);
    }
    let manager = manager();
    let (semaphore, ready) = (manager.bounded_semaphore(1).unwrap(), manager.event().unwrap());
    let owner = Process::spawn((semaphore.clone(), ready.clone()), take).unwrap();
    ready.wait().unwrap();
    end(owner);
    manager.recover().unwrap();
    assert!(!semaphore.acquire_timeout(Duration::from_millis(20)).unwrap());
    semaphore.release().unwrap();
    assert!(semaphore.try_acquire().unwrap());
}

/// Permits that a process forgets come back when it lets go of the semaphore.
#[test]
fn forgotten_permits_return_with_the_handle() {
    commons::init_test!();
    fn forget(semaphore: Semaphore) {
        std::mem::forget(semaphore.permit().unwrap());
        std::mem::forget(semaphore.permit().unwrap());
    }
    let manager = manager();
    let semaphore = manager.semaphore(2).unwrap();
    Process::spawn(semaphore.clone(), forget).unwrap().join().unwrap();
    assert!(semaphore.acquire_timeout(SOON).unwrap() && semaphore.acquire_timeout(SOON).unwrap());
    manager.check().unwrap();
}

/// Never more holders than permits, plain and owned in one semaphore, between processes.
#[test]
fn never_more_holders_than_permits() {
    commons::init_test!();
    fn work((semaphore, inside, owned): (Semaphore, Semaphore, bool)) {
        for _ in 0..300 {
            let permit = owned.then(|| semaphore.permit().unwrap());
            if !owned {
                semaphore.acquire().unwrap();
            }
            assert!(inside.try_acquire().unwrap(), "more holders than permits");
            inside.release().unwrap();
            match permit {
                Some(permit) => drop(permit),
                None => semaphore.release().unwrap(),
            }
        }
    }
    let manager = manager();
    let (semaphore, inside) = (manager.semaphore(2).unwrap(), manager.semaphore(2).unwrap());
    let start = |i| Process::spawn((semaphore.clone(), inside.clone(), i % 2 == 0), work).unwrap();
    let children: Vec<_> = (0..4).map(start).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(semaphore.available().unwrap(), 2);
    manager.check().unwrap();
}

/// Owners are killed at random, over and over: in the end every permit is there.
#[test]
fn storm() {
    commons::init_test!();
    fn work(semaphore: Semaphore) {
        loop {
            let first = semaphore.permit().unwrap();
            let second = semaphore.try_permit().unwrap();
            drop((first, second));
        }
    }
    let manager = manager();
    let semaphore = manager.semaphore(3).unwrap();
    let mut workers: Vec<_> = (0..3).map(|_| Process::spawn(semaphore.clone(), work).unwrap()).collect();
    for round in 0..30 {
        std::thread::sleep(Duration::from_millis(3 + round % 7));
        let fresh = Process::spawn(semaphore.clone(), work).unwrap();
        let old = std::mem::replace(&mut workers[round as usize % 3], fresh);
        end(old);
    }
    workers.into_iter().for_each(end);
    for _ in 0..3 {
        assert!(semaphore.acquire_timeout(SOON).unwrap());
    }
    assert!(!semaphore.try_acquire().unwrap());
    manager.check().unwrap();
}

#[test]
fn semaphores_nest_as_values_and_have_names() {
    commons::init_test!();
    let manager = manager();
    let dict = manager.dict::<u8, Semaphore>().unwrap();
    let semaphore = manager.named("s").semaphore(4).unwrap();
    dict.insert(&1, &semaphore).unwrap();
    assert_eq!(dict.get(&1).unwrap(), Some(semaphore));
    assert_eq!(manager.existing("s").semaphore(9).unwrap().available().unwrap(), 4);
    assert_kind(manager.existing("s").bounded_semaphore(4), ErrorKind::TypeMismatch);
    manager.check().unwrap();
}
