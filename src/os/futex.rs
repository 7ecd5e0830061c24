//! Sleeping on shared memory: futex(2) on the low half of a 64-bit word.
//!
//! The kernel compares 32 bits, our words have 64. On a little-endian machine the low half is at the word's own address,
//! so that address is what we pass; no `AtomicU32` over the same bytes ever exists on our side. The flag
//! `FUTEX_PRIVATE_FLAG` is never used: it would key the sleeper by our address space, and another process could not
//! wake it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Sleeps while the low half of each of `words` is as expected, until a [`futex_wake`] of one of them, or for `timeout`.
/// `false`: the kernel cannot do that (Linux before 5.16), or there are too many words; it has not slept.
///
/// A word that is not as expected ends it at once. At most 128 words.
#[must_use]
pub fn futex_wait_any(words: &[(&AtomicU64, u32)], timeout: Duration) -> bool {
    static MISSING: AtomicBool = AtomicBool::new(false);
    if words.len() > FUTEXES || MISSING.load(Ordering::Relaxed) {
        return false;
    }
    let waiters: Vec<Waiter> = words
        .iter()
        .map(|(word, low)| Waiter {
            expected: u64::from(*low),
            address: word.as_ptr() as u64,
            flags: SIZE_U32,
            zero: 0,
        })
        .collect();
    // This call takes a point in time.
    let end = u128::from(super::now_nanos()) + timeout.as_nanos();
    let end = libc::timespec {
        tv_sec: i64::try_from(end / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (end % 1_000_000_000) as i64,
    };
    // SAFETY:
    // - `waiters` is an array of that many `struct futex_waitv`, live for the whole call, which only reads it;
    // - each address is that of a live reference, 8-aligned, so a readable, 4-aligned futex for the whole call;
    // - `end` outlives the call and is a valid timespec.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len() as libc::c_uint,
            0,
            &raw const end,
            libc::CLOCK_MONOTONIC,
        )
    };
    // Sandboxes answer EPERM for calls that they do not know.
    if result == -1 && matches!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
        MISSING.store(true, Ordering::Relaxed);
        return false;
    }
    true
}

/// Words that [`futex_wait_any`] takes at most.
const FUTEXES: usize = 128;

/// `FUTEX2_SIZE_U32`; without the private flag, for the same reason as above.
const SIZE_U32: u32 = 2;

/// `struct futex_waitv` of the kernel.
#[repr(C)]
struct Waiter {
    expected: u64,
    address: u64,
    flags: u32,
    zero: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{Child, shared_words};
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

    /// Of several words any wakes the sleeper, a changed one at once, and time ends it.
    #[test]
    fn any_of_several() {
        let words = [AtomicU64::new(1), AtomicU64::new(2), AtomicU64::new(3)];
        let all = [(&words[0], 1), (&words[1], 2), (&words[2], 3)];
        if !futex_wait_any(&all, Duration::from_millis(1)) {
            return; // an old kernel
        }
        assert!(futex_wait_any(&[(&words[0], 1), (&words[1], 7)], Duration::from_secs(60)));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| futex_wait_any(&all, Duration::from_secs(60)));
            let start = Instant::now();
            while futex_wake(&words[2], 1) == 0 {
                assert!(start.elapsed() < Duration::from_secs(10), "nobody slept");
                std::thread::yield_now();
            }
            assert!(sleeper.join().unwrap());
        });
        assert!(!futex_wait_any(&vec![(&words[0], 1); FUTEXES + 1], Duration::ZERO));
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
