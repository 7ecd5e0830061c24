//! `--kill`: whom to kill, and when.

use std::ops::Range;
use std::time::{Duration, Instant};

/// A killing in so many is one of all workers at once.
const MASSACRE_ONE_IN: u64 = 8;
/// The pause grows at most to a million times the mean.
const MOST_DOUBLINGS: u32 = 20;

/// Chooses victims at random: the same ones in the same order for the same seed.
///
/// The pause doubles with every killing before which nothing was done since the last, so that the largest file is counted
/// some day.
pub struct Killer {
    state: u64,
    mean_pause: Duration,
    doublings: u32,
    done: u64,
    next: Instant,
}

impl Killer {
    pub fn new(seed: u64, per_second: u32) -> Killer {
        let mean_pause = Duration::from_secs(1) / per_second;
        let mut killer = Killer { state: seed, mean_pause, doublings: 0, done: 0, next: Instant::now() };
        killer.schedule();
        killer
    }

    /// How long it is until the next killing.
    pub fn pause(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Which of `count` workers are to die now, when `done` files are done: mostly none, sometimes one, at times all.
    pub fn victims(&mut self, count: usize, done: u64) -> Range<usize> {
        if count == 0 || self.pause() > Duration::ZERO {
            return 0..0;
        }
        self.doublings = if done > self.done { 0 } else { (self.doublings + 1).min(MOST_DOUBLINGS) };
        self.done = done;
        self.schedule();
        if self.below(MASSACRE_ONE_IN) == 0 {
            return 0..count;
        }
        let victim = self.below(count as u64) as usize;
        victim..victim + 1
    }

    /// The next killing comes after half the mean pause to one and a half of it, doubled as often as it must be.
    fn schedule(&mut self) {
        let percent = 50 + self.below(101) as u32;
        self.next = Instant::now() + self.mean_pause * percent / 100 * (1 << self.doublings);
    }

    /// A number below `bound`, by SplitMix64 (Steele, Lea, Flood 2014).
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
