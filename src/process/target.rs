//! A child as others see it: its name, its pid, whether it lives, and the signals that it can be sent.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::os::{self, Signal};

/// A child process.
pub struct Target {
    name: Option<String>,
    is_daemon: bool,
    child: os::Child,
}

impl Target {
    /// Over a child just started.
    pub fn new(name: Option<String>, is_daemon: bool, child: os::Child) -> Target {
        Target { name, is_daemon, child }
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it is to end with this process.
    pub fn is_daemon(&self) -> bool {
        self.is_daemon
    }

    /// The process itself.
    pub fn child(&self) -> &os::Child {
        &self.child
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.child.wait_for(None, Duration::ZERO).is_ok_and(|seen| seen.ended)
    }

    /// Its pidfd.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// Sends it `signal`. Does nothing if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.child.signal(signal).map_err(|e| Error::from_io(e, format!("sending {signal:?} to {self}")))
    }
}

/// How errors name it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "process `{name}` (pid {})", self.child.pid()),
            None => write!(f, "process (pid {})", self.child.pid()),
        }
    }
}
