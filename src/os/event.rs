//! Descriptors to wait for: poll(2), and an eventfd that a thread of this process makes readable.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// A descriptor that is readable while it is set.
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one, not set, close-on-exec.
    pub fn new() -> io::Result<EventFd> {
        Ok(EventFd(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable.
    pub fn set(&self) {
        // It fails only for a counter near its end, and then it is readable.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it not readable.
    pub fn clear(&self) {
        // It fails only if it is not set.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of `fds` is readable, hung up or in error, for at most `timeout`; `Duration::MAX` is for ever. Which are:
/// none when the time is up, or a signal interrupts.
///
/// # Errors
///
/// Those of poll(2); `EBADF` for a descriptor that is not open.
pub fn poll_readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(timeout).ok();
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) if polled.iter().any(|fd| fd.revents().contains(PollFlags::NVAL)) => Err(Errno::BADF.into()),
        Ok(_) => Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(vec![false; fds.len()]),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    //! Proves that setting and clearing show in poll, once however often, and that time ends it.
    use super::*;

    #[test]
    fn set_and_cleared() {
        let (one, other) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let look = |timeout| poll_readable(&[one.as_fd(), other.as_fd()], timeout).unwrap();
        assert_eq!(look(Duration::from_millis(1)), [false, false]);
        other.set();
        other.set();
        assert_eq!(look(Duration::MAX), [false, true]);
        other.clear();
        other.clear();
        assert_eq!(look(Duration::ZERO), [false, false]);
    }
}
