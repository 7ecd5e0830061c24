//! Semaphore, event, barrier and read-write lock under loom: every interleaving of two or three threads.
//!
//! Proves that no wake-up is lost (the waits have no timeout here, so that a lost one is a deadlock), that as many get in
//! as may, that what was done before a release, a setting, a passing is visible after it, and that of the parties of a
//! barrier one is elected. Mutants beside them must fail.
//!
//! What rests on SeqCst, barrier and read-write lock, is proved with a fence at each such access (see `mem/word.rs`), for
//! loom has no SeqCst of its own: of the protocol that is a proof, of leaving out a SeqCst next to others it is none.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::Ordering;

use super::barrier::{Barrier, Place, Turn};
use super::rwlock::RwLock;
use super::thread::{Threads, name};
use super::{event, semaphore};
use crate::mem::{Space, Step, Stop, Word};
use crate::raw::lock::Acquired;
use crate::raw::wait::Deadline;

/// Threads of which none ever goes.
struct All;

/// All three of them.
static ALL: All = All;

impl Threads for All {
    fn is_gone(&self, _word: u64) -> Step<bool> {
        Ok(false)
    }

    fn slots_used(&self) -> usize {
        3
    }
}

/// Words of a primitive, and cells that loom lets threads touch only in an order that the primitive has made.
struct World {
    space: Space,
    cells: Vec<UnsafeCell<u64>>,
}

// SAFETY: loom checks at run time that accesses of the cells are ordered; that is what these tests are about.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    fn new(words: usize, cells: usize) -> Arc<World> {
        Arc::new(World { space: Space::heap(words), cells: (0..cells).map(|_| UnsafeCell::new(0)).collect() })
    }

    fn words(&self) -> &[Word] {
        let count = (self.space.reserved() / 8) as usize;
        self.space.words(0, count).unwrap()
    }

    fn write(&self, cell: usize) {
        // SAFETY: no other thread touches the cell now; if the primitive fails, loom's cell panics.
        self.cells[cell].with_mut(|inside| unsafe { *inside += 1 });
    }

    fn read(&self, cell: usize) -> u64 {
        // SAFETY: as above, no other thread writes it.
        self.cells[cell].with(|inside| unsafe { *inside })
    }
}

fn done<T>(step: Step<T>) -> T {
    match step {
        Ok(value) => value,
        Err(Stop::Dead(_)) => panic!("nobody dies here"),
        Err(Stop::Error(error)) => panic!("{error}"),
    }
}

/// Runs `part` in `threads` threads, numbered from 0; this is the first of them.
fn together(threads: usize, world: &Arc<World>, part: fn(&World, usize)) {
    let others: Vec<_> = (1..threads)
        .map(|number| {
            let world = Arc::clone(world);
            thread::spawn(move || part(&world, number))
        })
        .collect();
    part(world, 0);
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// Of a semaphore's state, one free permit.
const PERMIT: u64 = 1 << 32;
const WAITERS: u64 = 1 << 16;

fn take(world: &World) {
    let state = &world.words()[0];
    let plain = |seen, bit| Ok(semaphore::take_plain(state, seen, bit));
    assert!(done(semaphore::wait_and_take(state, Deadline::NEVER, &plain, &|_| Ok(false))));
}

fn release(world: &World, permits: u32) {
    assert!(semaphore::release_plain(&world.words()[0], 0, permits).unwrap());
}

/// A semaphore of one permit is a lock.
fn semaphore_of_one(threads: usize, rounds: usize, release: fn(&World)) {
    loom::model(move || {
        let world = World::new(1, 1);
        world.words()[0].store(PERMIT, Ordering::Relaxed);
        let part = move |world: &World| {
            for _ in 0..rounds {
                take(world);
                world.write(0);
                release(world);
            }
        };
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || part(&world))
            })
            .collect();
        part(&world);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(world.read(0), (threads * rounds) as u64);
        assert_eq!(world.words()[0].load(Ordering::Acquire) & !WAITERS, PERMIT);
    });
}

#[test]
fn semaphore_of_one_excludes_two() {
    semaphore_of_one(2, 2, |world| release(world, 1));
}

#[test]
fn semaphore_of_one_excludes_three_and_wakes_all() {
    semaphore_of_one(3, 1, |world| release(world, 1));
}

/// Permits that come two at a time, for two who wait.
fn semaphore_released_by_two(take: fn(&World)) {
    loom::model(move || {
        let world = World::new(1, 1);
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    take(&world);
                    assert_eq!(world.read(0), 1, "what was done before the release");
                })
            })
            .collect();
        world.write(0);
        release(&world, 2);
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(world.words()[0].load(Ordering::Acquire) & !WAITERS, 0);
    });
}

#[test]
fn semaphore_released_by_two_wakes_two() {
    semaphore_released_by_two(take);
}

/// A taker that sets the waiters' bit beside a permit that is left.
#[test]
#[ignore = "it must fail: `mutants_are_found_out` runs it"]
fn mutant_semaphore_with_the_bit_beside_a_permit() {
    semaphore_released_by_two(|world| {
        let state = &world.words()[0];
        let plain = |seen, _| Ok(semaphore::take_plain(state, seen, WAITERS));
        assert!(done(semaphore::wait_and_take(state, Deadline::NEVER, &plain, &|_| Ok(false))));
    });
}

#[test]
#[ignore = "it must fail: `mutants_are_found_out` runs it"]
fn mutant_semaphore_that_forgets_to_wake() {
    semaphore_of_one(2, 2, |world| {
        world.words()[0].fetch_add(PERMIT, Ordering::Release);
    });
}

/// A taker that does not pass the waiters' bit on, though a release took it away for two.
#[test]
#[ignore = "it must fail: `mutants_are_found_out` runs it"]
fn mutant_semaphore_that_forgets_the_other_sleepers() {
    loom::model(|| {
        let world = World::new(1, 0);
        world.words()[0].store(PERMIT, Ordering::Relaxed);
        together(3, &world, |world, _| {
            let state = &world.words()[0];
            let plain = |seen, _| Ok(semaphore::take_plain(state, seen, 0));
            assert!(done(semaphore::wait_and_take(state, Deadline::NEVER, &plain, &|_| Ok(false))));
            release(world, 1);
        });
    });
}

fn wait_for_event(world: &World) {
    assert!(event::wait_while(&world.words()[0], Deadline::NEVER, &|| Ok(())).unwrap());
}

/// Two wait, a third sets: both go on, and see what was done before.
#[test]
fn event_wakes_all() {
    loom::model(|| {
        let world = World::new(1, 1);
        together(3, &world, |world, number| match number {
            0 => {
                world.write(0);
                event::set(&world.words()[0]);
            }
            _ => {
                wait_for_event(world);
                assert_eq!(world.read(0), 1);
            }
        });
    });
}

/// Setting that is cleared at once is not missed by who waits already; and one that sets what is set is seen as well.
#[test]
fn event_set_twice_and_cleared() {
    loom::model(|| {
        let world = World::new(1, 0);
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                event::set(&world.words()[0]);
                event::clear(&world.words()[0]);
                event::set(&world.words()[0]);
            })
        };
        wait_for_event(&world);
        event::set(&world.words()[0]);
        wait_for_event(&world);
        other.join().unwrap();
        assert!(event::is_set(&world.words()[0]));
    });
}

#[test]
#[ignore = "it must fail: `mutants_are_found_out` runs it"]
fn mutant_event_that_stores_over_the_waiters() {
    loom::model(|| {
        let world = World::new(1, 0);
        together(2, &world, |world, number| match number {
            0 => {
                let seen = world.words()[0].load(Ordering::Relaxed);
                world.words()[0].store(5, Ordering::Release);
                if seen & 2 != 0 {
                    world.words()[0].wake(1);
                }
            }
            _ => wait_for_event(world),
        });
    });
}

/// Words of a barrier of up to three parties.
const BARRIER: usize = 2 + 2 * 3;

/// One pass of party `number`; whether it was elected. Cell `number` is its own, the last that of the action.
fn pass(world: &World, parties: usize, number: usize, round: u64, finish: fn(&Barrier<'_>, Place)) -> bool {
    let barrier = Barrier::over(&ALL, world.words(), parties);
    world.write(number);
    let mut place = None;
    let turn = done(barrier.wait(name(number as u16, 1), Deadline::NEVER, &mut place));
    let elected = match turn {
        Turn::Elected => {
            // All have come, and none has gone on.
            assert!((0..parties).all(|party| world.read(party) == round));
            world.write(parties);
            finish(&barrier, place.expect("signed in"));
            true
        }
        Turn::Passed => false,
        other => panic!("{other:?}"),
    };
    assert_eq!(world.read(parties), round, "the action has run, once");
    elected
}

fn barrier_of_two(rounds: u64, finish: fn(&Barrier<'_>, Place)) {
    loom::model(move || {
        let world = World::new(BARRIER, 3);
        let party = move |world: &World, number| {
            // After its own next pass at the earliest a party touches its cell again, so the action may read it.
            (1..=rounds).map(|round| u64::from(pass(world, 2, number, round, finish))).sum::<u64>()
        };
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || party(&world, 1))
        };
        let mine = party(&world, 0);
        assert_eq!(mine + other.join().unwrap(), rounds, "one is elected each time");
    });
}

#[test]
fn barrier_of_two_passes() {
    barrier_of_two(1, |barrier, place| assert!(barrier.finish(place)));
}

#[test]
fn barrier_of_two_passes_twice() {
    barrier_of_two(2, |barrier, place| assert!(barrier.finish(place)));
}

#[test]
#[ignore = "it must fail: `mutants_are_found_out` runs it"]
fn mutant_barrier_whose_elected_aborts_without_a_word() {
    barrier_of_two(1, |_, _| ());
}

/// One waits for another that never comes, and a third aborts: it is told.
#[test]
fn barrier_abort_is_noticed() {
    loom::model(|| {
        let world = World::new(BARRIER, 0);
        together(2, &world, |world, number| {
            let barrier = Barrier::over(&ALL, world.words(), 2);
            match number {
                0 => barrier.abort(),
                _ => {
                    let turn = barrier.wait(name(1, 1), Deadline::NEVER, &mut None);
                    assert_eq!(done(turn), Turn::Broken);
                }
            }
        });
    });
}

/// Words of a read-write lock of three threads.
const RWLOCK: usize = 3 + 3;

fn read(world: &World, number: usize) {
    let (lock, me) = (RwLock::over(&ALL, world.words()), name(number as u16, 1));
    if lock.enter(me).unwrap().is_none() {
        assert_eq!(done(lock.read(me, Deadline::NEVER)), Acquired::Clean);
    }
    world.read(0);
    lock.end_read(me).unwrap();
}

fn write(world: &World, number: usize) {
    let (lock, me) = (RwLock::over(&ALL, world.words()), name(number as u16, 1));
    assert_eq!(done(lock.write(me, Deadline::NEVER)), Acquired::Clean);
    world.write(0);
    lock.end_write(me, false).unwrap();
}

fn upgrade(world: &World, number: usize) {
    let (lock, me) = (RwLock::over(&ALL, world.words()), name(number as u16, 1));
    assert_eq!(done(lock.upgradable(me, Deadline::NEVER)), Acquired::Clean);
    let before = world.read(0);
    assert_eq!(done(lock.upgrade(me, Deadline::NEVER)), Acquired::Clean);
    assert_eq!(world.read(0), before, "nobody wrote in between");
    world.write(0);
    lock.end_write(me, true).unwrap();
    world.read(0);
    lock.end_upgradable(me).unwrap();
}

fn rwlock(threads: usize, writes: u64, part: fn(&World, usize)) {
    loom::model(move || {
        let world = World::new(RWLOCK, 1);
        together(threads, &world, part);
        assert_eq!(world.read(0), writes);
    });
}

#[test]
fn rwlock_reader_and_writer() {
    rwlock(2, 1, |world, number| if number == 0 { read(world, 0) } else { write(world, 1) });
}

#[test]
fn rwlock_two_writers() {
    rwlock(2, 2, write);
}

#[test]
fn rwlock_reader_and_writer_again() {
    rwlock(2, 2, |world, number| {
        for _ in 0..2 {
            if number == 0 { read(world, 0) } else { write(world, 1) }
        }
    });
}

#[test]
fn rwlock_reader_and_upgrade() {
    rwlock(2, 1, |world, number| if number == 0 { read(world, 0) } else { upgrade(world, 1) });
}

#[test]
fn rwlock_writer_and_upgrade() {
    rwlock(2, 2, |world, number| if number == 0 { write(world, 0) } else { upgrade(world, 1) });
}

/// A reader that enters without a look at the gate.
#[test]
#[should_panic(expected = "Causality violation")]
fn rwlock_reader_that_does_not_look_is_found_out() {
    rwlock(2, 1, |world, number| match number {
        0 => {
            let me = name(0, 1);
            let lock = RwLock::over(&ALL, world.words());
            world.words()[3].store(me | 1 << 18, Ordering::SeqCst);
            world.read(0);
            lock.end_read(me).unwrap();
        }
        _ => write(world, 1),
    });
}

/// Runs the mutants that must end in a deadlock, each in a process of its own: loom's threads that are still blocked when
/// it panics make the panic an abort.
#[test]
fn mutants_are_found_out() {
    for mutant in [
        "mutant_semaphore_that_forgets_to_wake",
        "mutant_semaphore_that_forgets_the_other_sleepers",
        "mutant_semaphore_with_the_bit_beside_a_permit",
        "mutant_event_that_stores_over_the_waiters",
        "mutant_barrier_whose_elected_aborts_without_a_word",
    ] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([&format!("raw::sync::loom_tests::{mutant}"), "--exact", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("deadlock; threads"), "{mutant} passed: {text}");
    }
}
