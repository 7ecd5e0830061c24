//! Children that are copies of their parent, and run any closure.
//!
//! A fork copies the memory and the calling thread. What other threads had in hand, locks not least, stays as it was
//! at that moment, for good. This library's own locks are replaced in the child ([`PerProcess`](crate::os::PerProcess));
//! the locks of standard output and standard error are held by the forking thread, and so are free in the child;
//! the rest is the contract of [`Process::fork`].
//!
//! The child reports by the same frames as a fresh one, and ends by `_exit`: nothing that its parent registered for its
//! own end runs there.

use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::ProcessBuilder;
use super::child::Line;
use super::handle::Process;
use super::origin::{Origin, Tie};
use super::running::Running;
use super::{children, orphans, panics};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, Channel};
use crate::raw::session;

impl<R: Serialize + DeserializeOwned + 'static> Process<R> {
    /// Forks this process: starts a copy of it that runs `function`, any closure at all, and ends. See
    /// [`ProcessBuilder::fork`].
    ///
    /// # Safety
    /// As [`ProcessBuilder::fork`].
    ///
    /// # Errors
    /// As [`ProcessBuilder::fork`].
    ///
    /// # Examples
    /// ```
    /// let words = vec!["any", "closure"];
    /// // SAFETY: this process has one thread.
    /// let process = unsafe { commons::Process::fork(|| words.join(" ")) }?;
    /// assert_eq!(process.join()?, "any closure");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub unsafe fn fork(function: impl FnOnce() -> R) -> Result<Process<R>> {
        // SAFETY: as the caller promises.
        unsafe { ProcessBuilder::default().fork(function) }
    }
}

impl ProcessBuilder {
    /// Forks this process: starts a copy of it that runs `function` and ends.
    ///
    /// The closure may capture anything, by reference too: the child has all of the parent's memory as it was. The result
    /// comes back as that of [`spawn`](ProcessBuilder::spawn). No call of [`init`](crate::init) is needed, and the
    /// [executable](ProcessBuilder::executable) does not matter. Handles that the child uses are its own from then on; the
    /// parent holds those that the closure captured by value until the child has ended or answered. Everything
    /// else that it captured by value is dropped in both processes.
    ///
    /// The child has `/dev/null` as its standard input. It ends, after `function`, without running destructors of
    /// statics and thread-locals, and without what was registered by `atexit`, all of which are its parent's; what it has
    /// printed by Rust's means is flushed. A closure that calls [`exit`](std::process::exit) itself does run what its parent
    /// registered. What C code had buffered before the fork appears twice if the child flushes it.
    ///
    /// # Safety
    /// Of all threads only the calling one lives on in the child. What another thread was changing at that moment is
    /// half changed there for ever, and what it had locked is locked for ever. So nothing that the child does may rely on data
    /// that another thread may have been changing in a way that is not atomic, and whatever it does must be sound
    /// with such a lock taken. In particular:
    ///
    /// - in a process of one thread, the closure may do anything;
    /// - in a process of several, it may use handles and processes of this library, allocate (glibc's allocator is
    ///   made for that; of another one, see whether it is), print, and use what no other thread touches. It must not
    ///   wait for other threads of the parent, nor call code of other libraries that is not made for that;
    /// - unless that is the only thread, no thread changes the environment or the panic hook at that time;
    /// - the caller is not inside of an operation of this library, such as the `Serialize` of a value.
    ///
    /// # Blocking
    /// Until the child is there; while another thread is printing.
    ///
    /// # Errors
    /// Those of the system if there is no room for another process; `InvalidInput` as for `spawn`. A child that dies is an
    /// error of `join` only.
    pub unsafe fn fork<R>(&self, function: impl FnOnce() -> R) -> Result<Process<R>>
    where
        R: Serialize + DeserializeOwned + 'static,
    {
        self.check()?;
        orphans::sweep();
        panics::prepare();
        let origin = self.origin();
        let failed = |e: io::Error| Error::from_io(e, "forking a process");
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        let child = {
            // Held over the fork, so that nobody else has them at that moment; and nothing is left in the buffer, which
            // both would print.
            let (mut stdout, _stderr) = (io::stdout().lock(), io::stderr().lock());
            let _ = stdout.flush();
            // SAFETY: as the caller promises; what this library does in the child is made for that.
            unsafe { os::Child::fork() }.map_err(failed)?
        };
        let Some(child) = child else {
            drop(ours);
            let line = Line::new(Channel::over(theirs), origin.parent);
            let code = line.conclude(|| {
                self.settle(origin)?;
                line.give_back(&function())
            });
            children::end_daemons();
            session::leave_all();
            let _ = io::stdout().flush();
            os::exit_now(code);
        };
        drop(theirs);
        let mut running = Running::new(self.target(child), ours);
        running.keep(Box::new(session::keep_dropped(function)));
        Ok(Process::over(running))
    }

    /// In the child: becomes what the options say.
    fn settle(&self, origin: Origin) -> Result<()> {
        if let Some(name) = &origin.name {
            os::set_thread_name(name);
        }
        if !origin.settle(Tie::Watch)? {
            return Err(Error::new(ErrorKind::Process, "the parent has died"));
        }
        let failed = |e: io::Error| Error::from_io(e, "redirecting standard streams");
        os::close_stdin().map_err(failed)?;
        if let Some(stdout) = &self.stdout {
            os::redirect_stdout(stdout).map_err(failed)?;
        }
        if let Some(stderr) = &self.stderr {
            os::redirect_stderr(stderr).map_err(failed)?;
        }
        if self.env_clear || !self.env.is_empty() {
            let changes: Vec<os::Change<'_>> =
                self.env.iter().map(|(name, value)| (name.as_os_str(), value.as_deref())).collect();
            // SAFETY: this is a forked child, in which only this thread lives, but for the one that watches its parent, which
            // does not look at the environment.
            unsafe { os::change_environment(self.env_clear, &changes) }
                .map_err(|e| Error::from_io(e, "setting the environment"))?;
        }
        Ok(())
    }
}
