//! The channel between a process and its child: a pair of sockets, of which the child gets one as its standard input.
//!
//! That way it is inherited without a moment in which it could leak into another child: everywhere but in this one
//! child it is close-on-exec, and there it becomes so in [`Channel::claim_stdin`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::setup::close_stdin;

/// One end.
pub struct Channel(OwnedFd);

/// What became of an attempt to send or receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transfer {
    /// This many bytes, at least one.
    Done(usize),
    /// Not without waiting.
    WouldBlock,
    /// The other end is closed.
    Closed,
}

impl Channel {
    /// A new channel: our end, and what is to be the child's standard input.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Channel(ours.into()), theirs.into()))
    }

    /// Takes the channel that was inherited as standard input, and leaves `/dev/null` there.
    pub fn claim_stdin() -> io::Result<Channel> {
        let channel = fcntl_dupfd_cloexec(io::stdin(), 3)?;
        close_stdin()?;
        Ok(Channel(channel))
    }

    /// Over the end that [`pair`](Channel::pair) made for the other side.
    pub fn over(end: OwnedFd) -> Channel {
        Channel(end)
    }

    /// Lets the other end know that nothing is said or heard here any more, even while forked children have copies of
    /// this end.
    pub fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }

    /// Sends a part of `bytes`, which are not none, without waiting. No signal is raised if nobody is there.
    pub fn send(&self, bytes: &[u8]) -> io::Result<Transfer> {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the pointer and the length are those of a live slice, which the call only reads.
        transfer(|| unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
    }

    /// Whether something can be received, or the other end is closed. What cannot be known is no.
    pub fn has_something(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Receives some bytes into `buffer`, which is not empty, without waiting.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Transfer> {
        // SAFETY: the pointer and the length are those of a live slice, exclusively ours, of which the call writes at
        // most that much.
        transfer(|| unsafe {
            libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes the call, again if a signal interrupts it.
fn transfer(mut call: impl FnMut() -> isize) -> io::Result<Transfer> {
    loop {
        let error = match usize::try_from(call()) {
            Ok(0) => return Ok(Transfer::Closed),
            Ok(bytes) => return Ok(Transfer::Done(bytes)),
            Err(_) => io::Error::last_os_error(),
        };
        match Errno::from_io_error(&error) {
            Some(Errno::INTR) => {}
            Some(Errno::AGAIN) => return Ok(Transfer::WouldBlock),
            // The other end was closed before it had read everything.
            Some(Errno::PIPE | Errno::CONNRESET) => return Ok(Transfer::Closed),
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves that bytes go through, and that a full, an empty and a closed channel are told apart.
    use super::*;

    #[test]
    fn full_empty_and_closed() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs);
        let mut buffer = [0; 8];
        assert_eq!(ours.receive(&mut buffer).unwrap(), Transfer::WouldBlock);
        assert_eq!(theirs.send(b"abc").unwrap(), Transfer::Done(3));
        assert_eq!(ours.receive(&mut buffer).unwrap(), Transfer::Done(3));
        assert_eq!(&buffer[..3], b"abc");
        let sent = (0..10_000).find(|_| ours.send(&[0; 4096]).unwrap() == Transfer::WouldBlock);
        assert!(sent.is_some());
        drop(theirs);
        assert_eq!(ours.send(b"x").unwrap(), Transfer::Closed);
        // Once with an error for what was not read, then as the end; `Closed` both times.
        assert_eq!(ours.receive(&mut buffer).unwrap(), Transfer::Closed);
        assert_eq!(ours.receive(&mut buffer).unwrap(), Transfer::Closed);
    }
}
