//! Child processes: started, watched through a pidfd, killed, reaped; and what a child does about its parent.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};

use super::channel::Channel;

/// A child process that has not been reaped.
pub struct Child {
    process: std::process::Child,
    pidfd: OwnedFd,
}

/// What [`wait_for`] saw. Nothing at all: time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Something can be received, or sent, if that was asked for; or the other end is closed.
    pub channel: bool,
    /// The process has ended.
    pub ended: bool,
}

/// What of a channel to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// That something can be received.
    Receive,
    /// That something can be sent.
    Send,
}

impl Child {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> io::Result<Child> {
        let mut process = command.spawn()?;
        // The pid is the child's until it is reaped, so this cannot open somebody else, even if it has ended already.
        let opened = pid(process.id()).and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
        match opened {
            Ok(pidfd) => Ok(Child { process, pidfd }),
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(error)
            }
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it. Does nothing if it has ended.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for its end, and for `channel` if there is one, for at most `timeout`; `Duration::MAX` is for ever.
    pub fn wait_for(&self, channel: Option<(&Channel, Interest)>, timeout: Duration) -> io::Result<Seen> {
        let mut fds = Vec::with_capacity(2);
        fds.push(PollFd::new(&self.pidfd, PollFlags::IN));
        if let Some((channel, interest)) = channel {
            fds.push(PollFd::new(channel, interest.flags()));
        }
        wait_for_fds(&mut fds, timeout)
    }

    /// Waits for its end and reaps it. `None`: somebody else has reaped it, or the program ignores SIGCHLD.
    pub fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.process.wait() {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Interest {
    fn flags(self) -> PollFlags {
        match self {
            Interest::Receive => PollFlags::IN,
            Interest::Send => PollFlags::OUT,
        }
    }
}

/// Waits for the process of the first descriptor and for the channel of the second. A signal's interruption looks like
/// time that is up: callers look at their clock and come again.
fn wait_for_fds(fds: &mut [PollFd<'_>], timeout: Duration) -> io::Result<Seen> {
    let timeout = Timespec::try_from(timeout).ok();
    match poll(fds, timeout.as_ref()) {
        Ok(_) => {
            let happened = |fd: &PollFd<'_>| !fd.revents().is_empty();
            Ok(Seen { ended: happened(&fds[0]), channel: fds.get(1).is_some_and(happened) })
        }
        Err(Errno::INTR) => Ok(Seen::default()),
        Err(error) => Err(error.into()),
    }
}

fn pid(raw: u32) -> io::Result<Pid> {
    let pid = i32::try_from(raw).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other(format!("{raw} is no process id")))
}

/// Waits until the other end of `channel` is closed or has something to say, or the parent, which was process `parent`,
/// has ended.
pub fn wait_for_parent(channel: &Channel, parent: u32) -> io::Result<()> {
    let pidfd = match pidfd_open(pid(parent)?, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Looked at after it was opened: while it is our parent, its pid is nobody else's.
    while is_parent(parent) {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(channel, PollFlags::IN)];
        if wait_for_fds(&mut fds, Duration::MAX)? != Seen::default() {
            break;
        }
    }
    Ok(())
}

/// Whether the calling process's parent is process `parent`; once it is dead, it is not.
#[must_use]
pub fn is_parent(parent: u32) -> bool {
    getppid().is_some_and(|pid| pid.as_raw_nonzero().get().cast_unsigned() == parent)
}

/// Has the kernel kill the calling process when *the thread* ends that started it. Whether that lives: its end before
/// the call raises no signal.
pub fn die_with_parent(parent: u32) -> io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(is_parent(parent))
}

/// What `ps` and `top` call the calling thread; for the main thread, the process. At most 15 bytes of it are kept.
pub fn set_thread_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}
