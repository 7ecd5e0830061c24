//! The latch and the users' lock under loom: every interleaving, and every reordering that the orderings allow.
//!
//! Proves mutual exclusion, that what was done under a lock is visible to the next holder, that no wake-up is lost (the
//! waits have no timeout here, so that a lost one is a deadlock), and that every release raises the sequence. Each proof
//! has a mutant beside it, which must fail: a test that cannot fail proves nothing.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::wait::{Deadline, Living};
use super::{latch, lock};
use crate::error::{Error, ErrorKind};
use crate::mem::{Space, Step, Stop, Word};

/// A world where everybody lives, but for one process whose recovery is done.
pub(super) struct Everybody;

const GONE: u32 = 77;

/// The waiters' bit of latch and lock, for the mutants.
const WAITERS: u64 = 1 << 16;

impl Living for Everybody {
    fn check_owner(&self, _owner: u64) -> Step<()> {
        Ok(())
    }

    fn stalled(&self, _owner: u64) -> Error {
        Error::new(ErrorKind::Stalled, "a model")
    }

    fn is_gone(&self, process: u32, _incarnation: u32) -> Step<bool> {
        Ok(process == GONE)
    }
}

/// A word, and a cell that loom lets nobody touch but in an order that the word's lock has made.
struct Guarded {
    space: Space,
    inside: UnsafeCell<u64>,
}

// SAFETY: loom checks at run time that accesses of `inside` are ordered; that is what these tests are about.
unsafe impl Sync for Guarded {}
// SAFETY: as above.
unsafe impl Send for Guarded {}

impl Guarded {
    fn new() -> Arc<Guarded> {
        Arc::new(Guarded { space: Space::heap(1), inside: UnsafeCell::new(0) })
    }

    fn word(&self) -> &Word {
        self.space.word(0).unwrap()
    }

    fn touch(&self) {
        // SAFETY: the caller holds the lock; if the lock fails, loom's cell panics.
        self.inside.with_mut(|inside| unsafe { *inside += 1 });
    }
}

fn take_latch(word: &Word, owner: u64) {
    match latch::acquire_as(&Everybody, owner, word) {
        Ok(()) => {}
        Err(Stop::Dead(_)) => panic!("nobody dies here"),
        Err(Stop::Error(error)) => panic!("{error}"),
    }
}

fn take_lock(word: &Word, owner: u64, deadline: Deadline) -> lock::Acquired {
    match lock::acquire_as(&Everybody, lock::word_of(owner, 1, 1), word, deadline) {
        Ok(acquired) => acquired,
        Err(Stop::Dead(_)) => panic!("nobody dies here"),
        Err(Stop::Error(error)) => panic!("{error}"),
    }
}

/// `threads` threads, the model's own included, take, touch and release, `rounds` times each.
fn contend(threads: u64, rounds: usize, take: fn(&Word, u64), release: fn(&Word)) {
    loom::model(move || {
        let guarded = Guarded::new();
        let run = move |guarded: &Guarded, owner| {
            for _ in 0..rounds {
                take(guarded.word(), owner);
                guarded.touch();
                release(guarded.word());
            }
        };
        let others: Vec<_> = (2..=threads)
            .map(|owner| {
                let guarded = Arc::clone(&guarded);
                thread::spawn(move || run(&guarded, owner))
            })
            .collect();
        run(&guarded, 1);
        others.into_iter().for_each(|other| other.join().unwrap());
        // SAFETY: all have been joined.
        let touched = guarded.inside.with(|inside| unsafe { *inside });
        assert_eq!(touched, threads * rounds as u64);
        let word = guarded.word().load(Ordering::Acquire);
        assert!(latch::owner_of(word) == 0, "free at the end");
        let releases = u64::from(latch::sequence_of(word));
        assert!(releases == 0 || releases == touched, "{releases} releases have raised the sequence");
    });
}

#[test]
fn latch_excludes_two() {
    contend(2, 2, take_latch, latch::release);
}

#[test]
fn latch_excludes_three_and_wakes_all() {
    contend(3, 1, take_latch, latch::release);
}

#[test]
#[ignore = "it must fail: `lost_wake_ups_are_found_out` runs it"]
fn mutant_latch_that_forgets_to_wake() {
    contend(2, 2, take_latch, |word| {
        let seen = word.load(Ordering::Relaxed);
        word.swap(u64::from(latch::sequence_of(seen) + 1) << 32, Ordering::Release);
    });
}

#[test]
#[ignore = "it must fail: `lost_wake_ups_are_found_out` runs it"]
fn mutant_latch_that_stores_over_the_waiters() {
    contend(2, 2, take_latch, |word| {
        let seen = word.load(Ordering::Relaxed);
        word.store(u64::from(latch::sequence_of(seen) + 1) << 32, Ordering::Release);
        if seen & WAITERS != 0 {
            word.wake(1);
        }
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn latch_released_without_release_is_found_out() {
    contend(2, 1, take_latch, |word| {
        let seen = word.load(Ordering::Relaxed);
        let next = u64::from(latch::sequence_of(seen) + 1) << 32;
        if word.swap(next, Ordering::Relaxed) & WAITERS != 0 {
            word.wake(1);
        }
    });
}

/// Two may find that the same owner is dead, and both release for it while a third takes the latch: the third keeps it.
/// (One recoverer at a time is the rule; this is what holds even so once the first has finished.)
#[test]
fn latch_released_for_the_dead() {
    const DEAD: u64 = 9;
    loom::model(|| {
        let guarded = Guarded::new();
        guarded.word().store(DEAD, Ordering::Relaxed);
        let waiter = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || {
                take_latch(guarded.word(), 2);
                guarded.touch();
                latch::release(guarded.word());
            })
        };
        assert!(latch::release_for(guarded.word(), DEAD), "the dead one holds it until it is released");
        assert!(!latch::release_for(guarded.word(), DEAD), "and does not hold it again");
        take_latch(guarded.word(), 1);
        guarded.touch();
        latch::release(guarded.word());
        waiter.join().unwrap();
        assert_eq!(latch::sequence_of(guarded.word().load(Ordering::Acquire)), 3, "the undoing has raised it, too");
    });
}

/// A woken waiter that takes the latch without the waiters' bit, as if it were the only one.
#[test]
#[ignore = "it must fail: `lost_wake_ups_are_found_out` runs it"]
fn mutant_latch_that_forgets_the_other_sleepers() {
    let take = |word: &Word, owner| {
        loop {
            let seen = word.load(Ordering::Relaxed);
            if latch::owner_of(seen) == 0 {
                if word.cas(seen, seen | owner, Ordering::Acquire).is_ok() {
                    return;
                }
            } else if seen & WAITERS != 0 || word.cas(seen, seen | WAITERS, Ordering::Relaxed).is_ok() {
                word.wait((seen | WAITERS) as u32, Duration::MAX);
            }
        }
    };
    contend(3, 1, take, latch::release);
}

/// Runs the mutants that must end in a deadlock, each in a process of its own: loom's threads that are still blocked when
/// it panics make the panic an abort.
#[test]
fn lost_wake_ups_are_found_out() {
    for mutant in [
        "mutant_latch_that_forgets_to_wake",
        "mutant_latch_that_stores_over_the_waiters",
        "mutant_latch_that_forgets_the_other_sleepers",
        "mutant_lock_that_forgets_to_wake",
    ] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([&format!("raw::loom_tests::{mutant}"), "--exact", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("deadlock; threads"), "{mutant} passed: {text}");
    }
}

fn take_for_ever(word: &Word, owner: u64) {
    assert_eq!(take_lock(word, owner, Deadline::NEVER), lock::Acquired::Clean);
}

fn release_lock(word: &Word) {
    lock::release(word).unwrap();
}

#[test]
fn lock_excludes_two() {
    contend(2, 2, take_for_ever, release_lock);
}

#[test]
fn lock_excludes_three_and_wakes_all() {
    contend(3, 1, take_for_ever, release_lock);
}

#[test]
#[ignore = "it must fail: `lost_wake_ups_are_found_out` runs it"]
fn mutant_lock_that_forgets_to_wake() {
    contend(2, 2, take_for_ever, |word| {
        word.swap(0, Ordering::Release);
    });
}

#[test]
fn lock_of_the_dead_goes_to_exactly_one_as_recovered() {
    loom::model(|| {
        let guarded = Guarded::new();
        guarded.word().store(lock::word_of(9, GONE, 1), Ordering::Relaxed);
        let run = |guarded: &Guarded, owner| {
            let acquired = take_lock(guarded.word(), owner, Deadline::NEVER);
            guarded.touch();
            release_lock(guarded.word());
            acquired == lock::Acquired::Recovered
        };
        let other = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || run(&guarded, 2))
        };
        let mine = run(&guarded, 1);
        assert!(mine != other.join().unwrap(), "one is told, and only one");
    });
}
