//! When to look whether the other end is still there.

use std::sync::atomic::{AtomicBool, AtomicU64 as LocalU64, Ordering};

use crate::os;

/// A sender that hears nothing from the other end looks this often whether it lives, in nanoseconds.
const LOOK_AFTER: u64 = 20_000_000;
/// Looks between sleeps are no more frequent than this, in nanoseconds.
const REST: u64 = 5_000_000;
/// The same for looks that walk over all objects: at first, and at most.
const COLLECT_FIRST: u64 = 1_000_000;
const COLLECT_MOST: u64 = 1_000_000_000;

/// When to look for the other end again. Process-local.
#[derive(Default)]
pub(super) struct Lookout {
    /// Whether something was received since the last look that was due: then somebody was there.
    heard: AtomicBool,
    /// When the next look is due.
    next: LocalU64,
    /// When the last was.
    last: LocalU64,
    /// When the next look that collects is due, and how long until the one after it.
    thorough: LocalU64,
    pause: LocalU64,
}

impl Lookout {
    #[inline(always)]
    pub fn note_heard(&self) {
        self.heard.store(true, Ordering::Relaxed); // local
    }

    #[inline(always)]
    pub fn is_due(&self) -> bool {
        if self.heard.load(Ordering::Relaxed) {
            self.heard.store(false, Ordering::Relaxed); // local
            return false;
        }
        os::coarse_nanos() >= self.next.load(Ordering::Relaxed)
    }

    /// Whether the last look was some milliseconds ago.
    pub fn is_rested(&self) -> bool {
        os::coarse_nanos() >= self.last.load(Ordering::Relaxed) + REST
    }

    /// Notes a look; whether it is to be a thorough one.
    pub fn note_look(&self) -> bool {
        let now = os::coarse_nanos();
        self.last.store(now, Ordering::Relaxed); // local
        self.next.store(now + LOOK_AFTER, Ordering::Relaxed); // local
        let thorough = now >= self.thorough.load(Ordering::Relaxed);
        if thorough {
            let pause = self.pause.load(Ordering::Relaxed).clamp(COLLECT_FIRST, COLLECT_MOST);
            self.thorough.store(now + pause, Ordering::Relaxed); // local
            self.pause.store(2 * pause, Ordering::Relaxed); // local
        }
        thorough
    }
}
