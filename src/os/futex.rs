//! Sleeping on shared memory: futex(2) on the low half of a 64-bit word.
//!
//! The kernel compares 32 bits, our words have 64. On a little-endian machine the low half is at the word's own address,
//! so that address is what we pass; no `AtomicU32` over the same bytes ever exists on our side. The flag
//! `FUTEX_PRIVATE_FLAG` is never used: it would key the sleeper by our address space, and another process could not
//! wake it.

use std::io;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Why [`futex_wait`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Somebody woke us, or a signal handler ran. As with every futex, look at the word again.
    Woken,
    /// The low half was not the expected value (or could not be read): we did not sleep.
    Changed,
    /// The time was up.
    TimedOut,
}

/// Sleeps while the low half of `word` is `expected_low`, until a [`futex_wake`] of any process, or for `timeout`.
///
/// The comparison and the start of the sleep are one step with respect to [`futex_wake`]: a wake that follows a change
/// of the word is never missed. The timeout is relative, on the monotonic clock; one too long for the kernel is as good
/// as for ever.
#[must_use]
pub fn futex_wait(word: &AtomicU64, expected_low: u32, timeout: Duration) -> Wait {
    let limit = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // SAFETY:
    // - `word` is a live reference, 8-aligned, so its address is a readable, 4-aligned futex for the whole call;
    // - the kernel only reads it, and atomically;
    // - `limit` outlives the call and is a valid timespec; the remaining arguments are ignored by FUTEX_WAIT.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected_low, &raw const limit) };
    if result == 0 {
        return Wait::Woken;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EINTR) => Wait::Woken,
        Some(libc::ETIMEDOUT) => Wait::TimedOut,
        _ => Wait::Changed,
    }
}

/// Wakes at most `count` sleepers of [`futex_wait`] on `word`, in any process, and says how many there were.
///
/// An address that cannot be a futex (any more) has no sleepers: 0.
pub fn futex_wake(word: &AtomicU64, count: u32) -> u32 {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    // SAFETY: FUTEX_WAKE uses the address as a key and neither reads nor writes the word; it takes no pointer besides.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    u32::try_from(woken).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{Child, shared_words};
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    /// A value that differs in its low half does not sleep; one that differs in its high half does.
    #[test]
    fn only_the_low_half_counts() {
        let word = AtomicU64::new(0xAAAA_BBBB_0000_0007);
        assert_eq!(futex_wait(&word, 8, Duration::from_secs(60)), Wait::Changed);
        assert_eq!(futex_wait(&word, 7, Duration::from_millis(1)), Wait::TimedOut);
        assert_eq!(futex_wait(&word, 7, Duration::ZERO), Wait::TimedOut);
    }

    /// A timeout beyond the kernel's range still sleeps, and a wake ends it and is counted.
    #[test]
    fn an_endless_timeout_is_ended_by_a_wake() {
        let word = AtomicU64::new(1);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| futex_wait(&word, 1, Duration::MAX));
            let start = Instant::now();
            while futex_wake(&word, u32::MAX) == 0 {
                assert!(start.elapsed() < Duration::from_secs(10), "nobody slept");
                std::thread::yield_now();
            }
            assert_eq!(sleeper.join().unwrap(), Wait::Woken);
        });
        assert_eq!(futex_wake(&word, 1), 0);
    }

    /// A sleeper in another process is woken through another mapping of nothing but the same page.
    #[test]
    fn wakes_cross_processes() {
        let words = shared_words();
        let child = Child::fork(|| i32::from(futex_wait(&words[0], 0, Duration::from_secs(10)) != Wait::Woken));
        let start = Instant::now();
        while futex_wake(&words[0], 1) == 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "nobody slept");
            std::thread::yield_now();
        }
        words[0].store(1, Ordering::Release);
        assert_eq!(child.wait().code(), Some(0));
    }
}
