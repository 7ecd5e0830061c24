//! Watching many processes at once, and being woken meanwhile.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, write};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process to be watched or killed: that very one, whoever gets its pid later.
pub struct Watched(OwnedFd);

impl Watched {
    /// The child process `pid`, which has not been reaped.
    pub fn child(pid: u32) -> io::Result<Watched> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;
        Ok(Watched(pidfd_open(pid, PidfdFlags::empty())?))
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
    use std::process::Command;

    #[test]
    fn bell_and_end() {
        let bell = Bell::new().unwrap();
        bell.ring();
        bell.ring();
        assert_eq!(bell.wait(&[]).unwrap(), [0usize; 0]);
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let watched = Watched::child(child.id()).unwrap();
        bell.ring();
        assert_eq!(bell.wait(&[&watched]).unwrap(), [0usize; 0]);
        watched.kill();
        assert_eq!(bell.wait(&[&watched]).unwrap(), [0]);
        child.wait().unwrap();
        watched.kill();
    }
}
