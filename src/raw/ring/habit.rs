//! What a process learns about waiting for a ring: whether trying, then spinning, then sleeping has been of use lately.

use std::sync::atomic::{AtomicU32 as LocalU32, Ordering};

/// Tries before a consumer goes to wait, at most: some two microseconds.
const TRIES: u32 = 32;
/// Least and greatest time of spinning, in nanoseconds. Below the least it is none at all: where the other side has no
/// processor of its own, all of it would be lost.
const SPIN_LEAST: u64 = 1_000;
const SPIN_MOST: u64 = 20_000;
/// Of so many waits that end in sleep, one spins as long as it may before, to learn whether it would pay again.
const PROBE: u32 = 64;
/// Of so many waits that end in sleep, one looks for the dead even if it was woken to something else.
const LOOK_AFTER: u32 = 16;

/// What this process has learnt about waiting for a ring: how long it has paid to spin, and how many waits ended in sleep.
pub struct Habit {
    nanos: LocalU32,
    sleeps: LocalU32,
    /// How often in a row, at most [`TRIES`]'s logarithm, waits were longer than trying for a moment could have made up for.
    long: LocalU32,
}

impl Habit {
    /// Before the first wait.
    pub fn new() -> Habit {
        Habit { nanos: LocalU32::new(SPIN_MOST as u32), sleeps: LocalU32::new(0), long: LocalU32::new(0) }
    }

    /// How often to try before going to wait: the less, the more waits have been long ones. With both sides on one processor
    /// trying only keeps the other from answering.
    pub fn tries(&self) -> u32 {
        TRIES >> self.long.load(Ordering::Relaxed) // local
    }

    /// How long to spin this time.
    pub fn patience(&self) -> u64 {
        if self.sleeps.load(Ordering::Relaxed) % PROBE == PROBE - 1 { SPIN_MOST } else { self.nanos() } // local
    }

    fn nanos(&self) -> u64 {
        u64::from(self.nanos.load(Ordering::Relaxed)) // local
    }

    /// Spinning was of use, after `spent` nanoseconds of it.
    pub fn note_success(&self, spent: u64) {
        let long = self.long.load(Ordering::Relaxed); // local
        self.long.store(long.saturating_sub(1), Ordering::Relaxed); // local
        let nanos = self.nanos();
        if nanos < SPIN_MOST {
            let longer = (nanos + nanos / 4).max(4 * spent).clamp(SPIN_LEAST, SPIN_MOST);
            self.nanos.store(longer as u32, Ordering::Relaxed); // local
        }
    }

    /// It was not.
    pub fn note_sleep(&self) {
        let nanos = self.nanos();
        let shorter = nanos - nanos / 8;
        self.nanos.store(if shorter < SPIN_LEAST { 0 } else { shorter as u32 }, Ordering::Relaxed); // local
        self.sleeps.fetch_add(1, Ordering::Relaxed); // local
        let long = self.long.load(Ordering::Relaxed); // local
        self.long.store((long + 1).min(TRIES.ilog2()), Ordering::Relaxed); // local
    }

    /// Whether to look for the dead even if there is something else to do.
    pub fn is_look_due(&self) -> bool {
        self.sleeps.load(Ordering::Relaxed).is_multiple_of(LOOK_AFTER) // local
    }
}

impl Clone for Habit {
    fn clone(&self) -> Habit {
        let copy = |word: &LocalU32| LocalU32::new(word.load(Ordering::Relaxed)); // local
        Habit { nanos: copy(&self.nanos), sleeps: copy(&self.sleeps), long: copy(&self.long) }
    }
}
