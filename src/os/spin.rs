//! The two things that a bounded busy wait needs: the time, and a way to be polite to the other hardware thread.

/// Nanoseconds of `CLOCK_MONOTONIC`: comparable between the processes of one boot and one time namespace.
///
/// Answered by the vDSO without entering the kernel: some 20–40 ns, so a spinning loop asks once in a while, not each
/// time.
#[inline]
#[must_use]
pub fn now_nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live, writable timespec. The call cannot fail: the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The same clock as of the last tick, some milliseconds ago at most: a few nanoseconds.
#[inline]
#[must_use]
pub fn coarse_nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live, writable timespec. The call cannot fail: the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// One step of a spinning loop: tells the processor that we are waiting for memory.
#[inline]
pub fn pause() {
    std::hint::spin_loop();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// The clock never goes back, and it runs at the speed of a sleep.
    #[test]
    fn the_clock_is_monotonic_and_in_nanoseconds() {
        let start = now_nanos();
        let mut last = start;
        for _ in 0..1000 {
            let now = now_nanos();
            assert!(now >= last);
            last = now;
            pause();
        }
        std::thread::sleep(Duration::from_millis(20));
        let passed = now_nanos() - start;
        assert!((20_000_000..20_000_000_000).contains(&passed), "{passed} ns");
    }
}
