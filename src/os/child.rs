//! Child processes: started, watched through a pidfd, sent signals, reaped; and what a child does about its parent.

use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
    waitid,
};

use super::channel::Channel;
use super::launch::Program;

pub use rustix::process::Signal;

/// A child process.
pub struct Child {
    pid: u32,
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
    /// Starts `program`.
    pub fn start(program: &Program) -> io::Result<Child> {
        let (pid, pidfd) = program.start()?;
        Ok(Child { pid, pidfd })
    }

    /// Forks the calling process through the C library. `None` in the child.
    ///
    /// The child makes its pidfd itself: it may have ended, and its pid be another's, before the parent could do that.
    ///
    /// # Safety
    /// The child has one thread, the caller's; of all others it has the memory as it was at some point between two of
    /// their instructions. Until it execs or ends, it must do nothing that takes a lock or relies on data that another
    /// thread may have been using; the C library's own allocator is usable.
    pub unsafe fn fork() -> io::Result<Option<Child>> {
        let (ours, theirs) = UnixStream::pair()?;
        // SAFETY: as the caller promises.
        match unsafe { libc::fork() } {
            0 => {
                hand_over_own_pidfd(&theirs);
                Ok(None)
            }
            -1 => Err(io::Error::last_os_error()),
            pid => {
                drop(theirs);
                let pid = pid.cast_unsigned();
                match receive_pidfd(&ours, pid)? {
                    Some(pidfd) => Ok(Some(Child { pid, pidfd })),
                    None => Child::of(pid).map(Some),
                }
            }
        }
    }

    /// Over a forked child that has ended already, or has no descriptors left. It is reaped if it cannot be watched.
    #[cold]
    fn of(pid: u32) -> io::Result<Child> {
        let raw = self::pid(pid)?;
        match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Child { pid, pidfd }),
            Err(error) => {
                let _ = rustix::process::kill_process(raw, Signal::KILL);
                let _ = retry_on_intr(|| waitid(WaitId::Pid(raw), WaitIdOptions::EXITED));
                Err(error.into())
            }
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends it a signal. Does nothing if it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for its end, and for `channel` if there is one, for at most `timeout`; `Duration::MAX` is for ever.
    pub fn wait_for(&self, channel: Option<(&Channel, Interest)>, timeout: Duration) -> io::Result<Seen> {
        wait_for_either(&self.pidfd, channel, timeout)
    }

    /// Waits for its end and reaps it. `None`: somebody else has reaped it, or the program ignores SIGCHLD.
    pub fn reap(&self) -> io::Result<Option<ExitStatus>> {
        match retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)) {
            Ok(ended) => Ok(ended.map(|ended| {
                let code = ended.exit_status().unwrap_or_default() << 8;
                ExitStatus::from_raw(ended.terminating_signal().unwrap_or(code))
            })),
            Err(Errno::CHILD) => Ok(None),
            Err(error) => Err(error.into()),
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

/// Waits for the end of the process of `pidfd`, and for `channel` if there is one. A signal's interruption looks like time
/// that is up: callers look at their clock and come again.
fn wait_for_either(pidfd: &OwnedFd, channel: Option<(&Channel, Interest)>, timeout: Duration) -> io::Result<Seen> {
    let timeout = Timespec::try_from(timeout).ok();
    let process = PollFd::new(pidfd, PollFlags::IN);
    let (mut one, mut two);
    let fds = match channel {
        None => {
            one = [process];
            &mut one[..]
        }
        Some((channel, interest)) => {
            two = [process, PollFd::new(channel, interest.flags())];
            &mut two[..]
        }
    };
    match poll(fds, timeout.as_ref()) {
        Ok(_) => {
            let happened = |fd: &PollFd<'_>| !fd.revents().is_empty();
            Ok(Seen { ended: happened(&fds[0]), channel: fds.get(1).is_some_and(happened) })
        }
        Err(Errno::INTR) => Ok(Seen::default()),
        Err(error) => Err(error.into()),
    }
}

/// Waits for the end of the child with that pidfd, which is of no interest.
pub(super) fn reap_quietly(pidfd: &OwnedFd) {
    let _ = retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
}

/// How often a parent looks whether the child has ended of which it expects a pidfd.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// In a forked child: sends its own pidfd. Failing, it has no descriptors left, or no parent.
fn hand_over_own_pidfd(to: &UnixStream) {
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = own.as_ref().map(|own| [own.as_fd()]);
    if let Ok(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let _ = retry_on_intr(|| sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL));
}

/// The pidfd that child `pid` sends; `None` if it has ended before, or could not make one.
fn receive_pidfd(from: &UnixStream, pid: u32) -> io::Result<Option<OwnedFd>> {
    let pid = self::pid(pid)?;
    // Ends: with a message, or with the child. The other end may be open in a child that another thread has forked.
    loop {
        let come = match poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&LOOK_AGAIN)) {
            Ok(come) => come > 0,
            Err(Errno::INTR) => false,
            Err(error) => return Err(error.into()),
        };
        if come {
            break;
        }
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if !matches!(waitid(WaitId::Pid(pid), look), Ok(None) | Err(Errno::INTR)) {
            return Ok(None);
        }
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    retry_on_intr(|| recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags))?;
    let mut received = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(received.next())
}

fn pid(raw: u32) -> io::Result<Pid> {
    let pid = i32::try_from(raw).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other(format!("{raw} is no process id")))
}

/// The process that started the calling one.
pub struct Parent {
    pid: u32,
    pidfd: OwnedFd,
}

impl Parent {
    /// Process `pid`; `None` if it is not, or no more, the calling process's parent.
    pub fn of(pid: u32) -> io::Result<Option<Parent>> {
        let pidfd = match pidfd_open(self::pid(pid)?, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Looked at after it was opened: while it is our parent, its pid is nobody else's.
        Ok(is_parent(pid).then_some(Parent { pid, pidfd }))
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for its end, and for `channel` if there is one, for at most `timeout`; `Duration::MAX` is for ever.
    pub fn wait_for(&self, channel: Option<(&Channel, Interest)>, timeout: Duration) -> io::Result<Seen> {
        wait_for_either(&self.pidfd, channel, timeout)
    }
}

/// The pid of the calling process's parent; once that is dead, another's.
#[must_use]
pub fn parent_pid() -> u32 {
    getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned())
}

/// Whether the calling process's parent is process `parent`; once it is dead, it is not.
#[must_use]
pub fn is_parent(parent: u32) -> bool {
    parent_pid() == parent
}

/// Has the kernel kill the calling process when *the thread* ends that started it. Whether that lives: its end before
/// the call raises no signal.
pub fn die_with_parent(parent: u32) -> io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(is_parent(parent))
}

/// Ends the calling process by SIGKILL, as if somebody else had killed it.
pub fn kill_self() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
}

/// Ends the calling process with `code`, without running anything that was registered for its end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(code) }
}

/// Has `hook` run when the process ends by returning from `main` or by `exit`. Children made by `fork` inherit it.
pub fn at_exit(hook: extern "C" fn()) -> io::Result<()> {
    // SAFETY: the hook is a function of the program, which lives as long as that, and cannot unwind.
    match unsafe { libc::atexit(hook) } {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
    }
}

/// What `ps` and `top` call the calling thread; for the main thread, the process. At most 15 bytes of it are kept.
pub fn set_thread_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}
