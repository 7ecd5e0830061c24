//! Watching many processes at once, and being woken meanwhile.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, write};
use rustix::process::{Signal, pidfd_send_signal};

/// A process to be watched or killed: that very one, whoever gets its pid later.
pub struct Watched(OwnedFd);

impl Watched {
    /// The process of that pidfd.
    pub fn over(pidfd: BorrowedFd<'_>) -> io::Result<Watched> {
        Ok(Watched(pidfd.try_clone_to_owned()?))
    }

    /// Kills it. Does nothing if it has ended.
    pub fn kill(&self) {
        // The other errors are those of a process that has changed its user, which ends when its parent does.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

/// What wakes the thread that watches.
pub struct Bell(OwnedFd);

impl Bell {
    /// A new one.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes it, or keeps it from falling asleep once.
    pub fn ring(&self) {
        let _ = write(&self.0, &1u64.to_ne_bytes()); // fails if it has been rung often enough already
    }

    /// Sleeps until the bell is rung or one of `processes` has ended. Which of them have.
    pub fn wait(&self, processes: &[&Watched]) -> io::Result<Vec<usize>> {
        let mut fds = vec![PollFd::new(&self.0, PollFlags::IN)];
        fds.extend(processes.iter().map(|process| PollFd::new(&process.0, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let _ = read(&self.0, &mut [0u8; 8]); // whether it was rung
        let ended = fds[1..].iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ended.map(|(index, _)| index).collect())
    }
}

#[cfg(test)]
mod tests {
    //! Proves that the bell is heard, once, and that an end is seen.
    use super::*;
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    #[test]
    fn bell_and_end() {
        let bell = Bell::new().unwrap();
        bell.ring();
        bell.ring();
        assert_eq!(bell.wait(&[]).unwrap(), [0usize; 0]);
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let watched = Watched::over(pidfd_open(pid, PidfdFlags::empty()).unwrap().as_fd()).unwrap();
        bell.ring();
        assert_eq!(bell.wait(&[&watched]).unwrap(), [0usize; 0]);
        watched.kill();
        assert_eq!(bell.wait(&[&watched]).unwrap(), [0]);
        child.wait().unwrap();
        watched.kill();
    }
}
