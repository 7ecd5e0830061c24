//! The children that this process has started and not yet reaped, and the end of those that are daemons.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::handle::Process;
use super::orphans;
use super::target::Target;
use crate::error::{Error, Result};
use crate::os::{self, PerProcess, Signal};
use crate::raw::wait::Deadline;

/// By pid. A forked child has none.
static CHILDREN: PerProcess<Mutex<HashMap<u32, Arc<Target>>>> = PerProcess::new(|_| Mutex::default());

/// How long daemons have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);

/// Adds a child that was just started.
pub fn add(child: &Arc<Target>) {
    // Whoever had its pid was reaped by somebody else.
    CHILDREN.get().lock().insert(child.child().pid(), Arc::clone(child));
}

/// Takes one out that was reaped.
pub fn remove(child: &Arc<Target>) {
    let mut children = CHILDREN.get().lock();
    let pid = child.child().pid();
    if children.get(&pid).is_some_and(|found| Arc::ptr_eq(found, child)) {
        children.remove(&pid);
    }
}

impl Process<()> {
    /// The children of this process that have not ended, in no order: those whose `Process` was dropped too. A child that
    /// was [forked](Process::fork) begins with none.
    ///
    /// # Complexity
    /// A system call for each child.
    ///
    /// # Examples
    /// ```
    /// fn main() -> commons::Result<()> {
    ///     commons::init();
    ///     let process = commons::Process::spawn((), |()| std::thread::sleep(std::time::Duration::from_secs(60)))?;
    ///     for child in commons::Process::active_children() {
    ///         child.terminate()?;
    ///     }
    ///     assert!(process.join().is_err());
    ///     assert!(commons::Process::active_children().is_empty());
    ///     Ok(())
    /// }
    /// ```
    pub fn active_children() -> Vec<ActiveChild> {
        orphans::sweep();
        let children: Vec<_> = CHILDREN.get().lock().values().cloned().collect();
        children.into_iter().filter(|child| !child.has_ended()).map(ActiveChild).collect()
    }
}

/// A child of this process, as [`Process::active_children`] lists it.
///
/// It means this one child for as long as it is kept: its methods do nothing to whoever gets the pid after it.
#[derive(Clone)]
pub struct ActiveChild(Arc<Target>);

impl ActiveChild {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.child().pid()
    }

    /// The name that it was [given](crate::ProcessBuilder::name).
    pub fn name(&self) -> Option<&str> {
        self.0.name()
    }

    /// Whether it is a [daemon](crate::ProcessBuilder::daemon).
    pub fn is_daemon(&self) -> bool {
        self.0.is_daemon()
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !self.0.has_ended()
    }

    /// Its pidfd; see [`Process::sentinel`].
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.0.sentinel()
    }

    /// Ends the process by SIGTERM; see [`Process::terminate`].
    ///
    /// # Errors
    /// `PermissionDenied` if it has changed its user.
    pub fn terminate(&self) -> Result<()> {
        self.0.signal(Signal::TERM)
    }

    /// Interrupts the process by SIGINT; see [`Process::interrupt`].
    ///
    /// # Errors
    /// `PermissionDenied` if it has changed its user.
    pub fn interrupt(&self) -> Result<()> {
        self.0.signal(Signal::INT)
    }

    /// Kills the process by SIGKILL; see [`Process::kill`].
    ///
    /// # Errors
    /// `PermissionDenied` if it has changed its user.
    pub fn kill(&self) -> Result<()> {
        self.0.signal(Signal::KILL)
    }
}

impl fmt::Debug for ActiveChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveChild").field("name", &self.name()).field("pid", &self.pid()).finish()
    }
}

/// Has the daemons of this process end when it ends in order. When it is killed the kernel sees to them.
pub fn expect_daemons() -> Result<()> {
    static EXPECTED: AtomicBool = AtomicBool::new(false);
    extern "C" fn hook() {
        end_daemons();
    }
    if !EXPECTED.swap(true, Ordering::Relaxed) {
        os::at_exit(hook).map_err(|e| Error::from_io(e, "preparing for the end of daemons"))?;
    }
    Ok(())
}

/// Ends the daemons among the children, waiting for them a little.
pub fn end_daemons() {
    let Some(children) = CHILDREN.get().try_lock_for(GRACE) else { return };
    let daemons: Vec<_> = children.values().filter(|child| child.is_daemon()).cloned().collect();
    drop(children);
    daemons.iter().for_each(|daemon| drop(daemon.signal(Signal::TERM)));
    let deadline = Deadline::after(GRACE);
    for daemon in daemons {
        // Ends: with the daemon, or when the time is up.
        while !daemon.has_ended() {
            match deadline.left() {
                Some(left) => drop(daemon.child().wait_for(None, left)),
                None => {
                    let _ = daemon.signal(Signal::KILL);
                    break;
                }
            }
        }
    }
}
