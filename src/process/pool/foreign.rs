//! Workers of another program: started with what they need to know on their standard input, as far as it goes.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{panics, spawner};
use super::worker::{Setup, Worker};
use crate::codec::{Auto, Decode, Encode};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, Channel, Interest, Transfer};

/// What such a worker is told.
#[derive(Serialize, Deserialize)]
struct Orders {
    parent: u32,
    setup: Setup,
}

/// A worker of another program.
pub struct Foreign {
    child: os::Child,
    /// Its handles live at least as long as it does.
    _orders: Box<Orders>,
}

impl Foreign {
    /// Starts `program` as a worker.
    ///
    /// # Errors
    /// `Process` if the system could not start it.
    pub fn start(program: &Path, setup: Setup) -> Result<Foreign> {
        let orders = Box::new(Orders { parent: std::process::id(), setup });
        let bytes = Auto::with_encoded(&*orders, |encoded| encoded.bytes().to_vec())?;
        let start = || -> io::Result<os::Child> {
            let (channel, theirs) = Channel::pair()?;
            let program = os::Program::new(program, program.as_os_str(), theirs);
            // By the thread that lasts: the worker dies with the thread that started it.
            let child = spawner::start(program)?;
            let mut rest = &bytes[..];
            // Ends: each round sends at least a byte, or ends. It is far less than what a socket holds.
            while !rest.is_empty() {
                match channel.send(rest)? {
                    Transfer::Done(len) => rest = &rest[len..],
                    Transfer::WouldBlock | Transfer::Closed => break,
                }
            }
            // What was sent can be read still, and then comes the end, even if a forked child has a copy of our side.
            channel.shut_down();
            Ok(child)
        };
        let child = start();
        let child =
            child.map_err(|e| Error::new(ErrorKind::Process, format!("starting {}: {e}", program.display())))?;
        Ok(Foreign { child, _orders: orders })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// Kills it.
    pub fn kill(&self) {
        let _ = self.child.signal(os::Signal::KILL); // fails only for a process that has changed its user
    }

    /// Waits for its end.
    pub fn join(self) -> Result<()> {
        let pid = self.pid();
        match self.child.reap() {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(Error::new(ErrorKind::Process, format!("worker (pid {pid}) ended, {status}"))),
            Ok(None) => Err(Error::new(ErrorKind::Process, format!("worker (pid {pid}) ended"))),
            Err(error) => Err(Error::from_io(error, format!("waiting for worker (pid {pid})"))),
        }
    }
}

/// Works for the pool that started this program, by [`PoolBuilder::program`](crate::PoolBuilder::program), until there is
/// nothing left to do: all that the `main` of such a program does.
///
/// # Crash
/// As for any worker of a pool: it costs the task that it runs, and is killed when the pool's process dies.
///
/// # Errors
/// `Process` if it was not a pool that started this program, or it has the rights of its file; those of opening the pool's
/// segment. A pool whose workers end so gives up.
pub fn serve_pool() -> Result<()> {
    if os::is_privileged() {
        let context = "a program with the rights of its file cannot be a worker: who started it may not have them";
        return Err(Error::new(ErrorKind::Process, context));
    }
    let nobody = |error: io::Error| Error::new(ErrorKind::Process, format!("not started by a pool: {error}"));
    let channel = Channel::claim_stdin().map_err(nobody)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // Ends: each round receives at least a byte, or waits for the pool's process, or ends.
    let parent = os::Parent::of(os::parent_pid()).map_err(nobody)?;
    loop {
        match channel.receive(&mut buffer).map_err(nobody)? {
            Transfer::Done(len) => bytes.extend_from_slice(&buffer[..len]),
            Transfer::WouldBlock => {
                let Some(parent) = &parent else { break };
                let seen = parent.wait_for(Some((&channel, Interest::Receive)), Duration::MAX).map_err(nobody)?;
                if seen.ended && !seen.channel {
                    break;
                }
            }
            Transfer::Closed => break,
        }
    }
    let orders = <Auto as Decode<Orders>>::decode(&bytes).map_err(|error| error.within("not started by a pool"))?;
    if !os::die_with_parent(orders.parent).map_err(|e| Error::from_io(e, "asking to die with the parent"))? {
        return Ok(());
    }
    panics::prepare();
    panics::note();
    Worker::new(orders.setup).serve()
}
