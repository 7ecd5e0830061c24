//! What tests of barriers share.

use std::time::{Duration, Instant};

use commons::{Barrier, Passage};

use super::SOON;

pub fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < SOON {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

pub fn wait_broken(barrier: Barrier) -> bool {
    barrier.wait().unwrap() == Passage::Broken
}

pub fn passes(passage: Passage) -> bool {
    matches!(passage, Passage::Passed { .. })
}

/// Everybody of `parties` threads passes.
pub fn is_usable(barrier: &Barrier, parties: usize) -> bool {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parties).map(|_| scope.spawn(|| barrier.wait_timeout(SOON).unwrap())).collect();
        threads.into_iter().all(|thread| passes(thread.join().unwrap()))
    })
}
