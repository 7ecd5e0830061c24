//! What a child is told about itself and its parent, and what it does about it before its function runs.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handle::Process;
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, PerProcess};

/// Where a child comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub name: Option<String>,
    /// Its parent's process id.
    pub parent: u32,
    /// Its parent's name.
    pub parent_name: Option<String>,
    /// Whether to die with it.
    pub kill_with_parent: bool,
    /// The processors to run on, if not on all of the parent's.
    pub cpus: Option<Vec<u32>>,
}

/// This process's own. One that was not started by this library has none, a forked child of a child neither.
static ORIGIN: PerProcess<OnceLock<Origin>> = PerProcess::new(|_| OnceLock::new());

/// How it comes that a child dies with its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// The kernel's way, which holds with the parent's thread that started the child. That one lasts.
    Thread,
    /// A thread of the child watches the parent.
    Watch,
}

impl Origin {
    /// For a child that this process is about to start.
    pub fn here(name: Option<String>, kill_with_parent: bool, cpus: Option<Vec<u32>>) -> Origin {
        let parent_name = ORIGIN.get().get().and_then(|origin| origin.name.clone());
        Origin { name, parent: std::process::id(), parent_name, kill_with_parent, cpus }
    }

    /// In the child: makes it so. Whether its parent lives, if it is tied to that.
    pub fn settle(self, tie: Tie) -> Result<bool> {
        let lives = match (self.kill_with_parent, tie) {
            (false, _) => Ok(true),
            (true, Tie::Thread) => os::die_with_parent(self.parent),
            (true, Tie::Watch) => watch(self.parent),
        };
        let lives = lives.map_err(|e| Error::from_io(e, "asking to die with the parent"))?;
        if let Some(cpus) = &self.cpus {
            os::set_affinity(cpus).map_err(|e| match e.raw_os_error() {
                Some(libc::EINVAL) => {
                    Error::new(ErrorKind::InvalidInput, format!("none of the processors {cpus:?} can be used"))
                }
                _ => Error::from_io(e, "choosing processors"),
            })?;
        }
        let _ = ORIGIN.get().set(self);
        Ok(lives)
    }
}

/// Starts a thread that ends this process when process `parent` ends. Whether that lives.
fn watch(parent: u32) -> std::io::Result<bool> {
    let Some(parent) = os::Parent::of(parent)? else { return Ok(false) };
    let wait = move || {
        // Ends: with the parent, and the process with it.
        loop {
            if parent.wait_for(None, Duration::MAX).is_ok_and(|seen| seen.ended) {
                os::kill_self();
            }
        }
    };
    std::thread::Builder::new().name("commons-watch".into()).spawn(wait)?;
    Ok(true)
}

impl Process<()> {
    /// The process that started this one, for a process that was started by [`spawn`](Process::spawn) or
    /// [`fork`](Process::fork); `None` in any other, and when the parent has ended already.
    ///
    /// # Examples
    /// ```
    /// use commons::Process;
    ///
    /// fn main() -> commons::Result<()> {
    ///     commons::init();
    ///     assert!(Process::parent().is_none());
    ///     let child = Process::spawn((), |()| Process::parent().map(|parent| parent.pid()))?;
    ///     assert_eq!(child.join()?, Some(std::process::id()));
    ///     Ok(())
    /// }
    /// ```
    pub fn parent() -> Option<Parent> {
        let origin = ORIGIN.get().get()?;
        let process = os::Parent::of(origin.parent).ok().flatten()?;
        Some(Parent { name: origin.parent_name.clone(), process })
    }
}

/// The process that started this one; see [`Process::parent`].
pub struct Parent {
    name: Option<String>,
    process: os::Parent,
}

impl Parent {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The name that it was [given](crate::ProcessBuilder::name) by its own parent.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        os::is_parent(self.pid())
    }

    /// Waits for its end for at most `timeout`; whether it has ended.
    ///
    /// # Blocking
    /// Until the parent has ended, or for `timeout`.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = crate::raw::wait::Deadline::after(timeout);
        // Ends: with the parent, or when the time is up.
        while self.is_alive() {
            let Some(left) = deadline.left() else { return false };
            if self.process.wait_for(None, left).is_ok_and(|seen| seen.ended) {
                break;
            }
        }
        true
    }

    /// Its pidfd: readable, for poll(2) and epoll(7), once the parent has ended.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent").field("name", &self.name).field("pid", &self.pid()).finish()
    }
}
