//! Options for a new process, and how a fresh one is started.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::child::{self, Task};
use super::children;
use super::entry::Entry;
use super::frame::{self, Job, Kind};
use super::handle::Process;
use super::origin::Origin;
use super::running::Running;
use super::target::Target;
use super::{orphans, spawner};
use crate::codec::{Auto, Encode};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, Channel, FunctionRef};

/// Longest name of a process, in bytes.
const MAX_NAME: usize = 200;

/// Options for a new process.
///
/// # Examples
/// ```
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let builder = commons::Process::builder().name("doubler").daemon(true).env("GREETING", "hello");
///     let process = builder.spawn(2, |n: usize| std::env::var("GREETING").unwrap().repeat(n))?;
///     assert_eq!(process.join()?, "hellohello");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ProcessBuilder {
    name: Option<String>,
    kill_with_parent: bool,
    daemon: bool,
    executable: Option<PathBuf>,
    cpus: Option<Vec<u32>>,
    pub(super) env_clear: bool,
    pub(super) env: Vec<(OsString, Option<OsString>)>,
    pub(super) stdout: Option<Arc<OwnedFd>>,
    pub(super) stderr: Option<Arc<OwnedFd>>,
}

impl Process<()> {
    /// Options for a new process.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::default()
    }
}

impl ProcessBuilder {
    /// Its name in errors, and the first 15 bytes of it in `ps` and `top`, where it is the program's otherwise.
    pub fn name(mut self, name: impl Into<String>) -> ProcessBuilder {
        self.name = Some(name.into());
        self
    }

    /// Whether it is killed, by SIGKILL, when the process that starts it ends, by whatever death; not, unless stated.
    pub fn kill_with_parent(mut self, kill: bool) -> ProcessBuilder {
        self.kill_with_parent = kill;
        self
    }

    /// Whether it is a daemon: one that is asked to end, by SIGTERM, when the process that starts it ends by returning from
    /// `main` or by [`exit`](std::process::exit), and killed a second later. If that process is killed, so is its daemon. Not,
    /// unless stated.
    ///
    /// Unlike in Python a daemon may start processes itself; these go on after its end unless they are daemons too.
    pub fn daemon(mut self, daemon: bool) -> ProcessBuilder {
        self.daemon = daemon;
        self
    }

    /// Sets an environment variable of the process, which has its parent's otherwise.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> ProcessBuilder {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes an environment variable of the process.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> ProcessBuilder {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Lets the process begin with no environment variables but those that are set after this.
    pub fn env_clear(mut self) -> ProcessBuilder {
        self.env.clear();
        self.env_clear = true;
        self
    }

    /// Where its standard output goes: a [`File`](std::fs::File), a [pipe](std::io::pipe), a socket. To its parent's,
    /// unless stated.
    ///
    /// A reader of a pipe sees its end once all its writers are gone, of which the builder has one.
    ///
    /// # Examples
    /// ```
    /// use std::io::Read;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     commons::init();
    ///     let (mut reader, writer) = std::io::pipe()?;
    ///     commons::Process::builder().stdout(writer).spawn((), |()| println!("hello"))?.join()?;
    ///     let mut text = String::new();
    ///     reader.read_to_string(&mut text)?;
    ///     assert_eq!(text, "hello\n");
    ///     Ok(())
    /// }
    /// ```
    pub fn stdout(mut self, to: impl Into<OwnedFd>) -> ProcessBuilder {
        self.stdout = Some(Arc::new(to.into()));
        self
    }

    /// Where its standard error goes; as [`stdout`](ProcessBuilder::stdout).
    pub fn stderr(mut self, to: impl Into<OwnedFd>) -> ProcessBuilder {
        self.stderr = Some(Arc::new(to.into()));
        self
    }

    /// The processors that it may run on, counted from 0; its parent's, unless stated. Those that the machine or the
    /// control group does not have are left out.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = u32>) -> ProcessBuilder {
        self.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// The program to start, instead of the file that this process runs: another file with the very same contents, for
    /// when the own one cannot be started, as `/proc/self/exe` of a program that was started through a loader.
    ///
    /// A program that does not call [`init`](crate::init) does whatever it does, without an answer.
    pub fn executable(mut self, path: impl Into<PathBuf>) -> ProcessBuilder {
        self.executable = Some(path.into());
        self
    }

    /// Starts a process that calls `function` with `args`.
    ///
    /// `args` must be `Send`, because they may be dropped by another thread than the caller's: they are kept until the
    /// child has decoded them. `function` may be a closure that captures nothing; [`spawn!`](crate::spawn!) makes one of a
    /// closure that names what it captures.
    ///
    /// # Blocking
    /// Until the process has been started, and if the encoded arguments are larger than what a socket holds (some 200 KiB),
    /// until it has read them.
    ///
    /// # Errors
    /// `Process` if [`init`](crate::init) was not called, or `function` is not in the program's own executable;
    /// `NotFound`, `PermissionDenied` and other errors of the system if there is no such executable or it cannot be
    /// started; `Encode`; `InvalidInput` for a name with NUL or longer than 200 bytes, an environment variable without a
    /// name or with `=` or NUL in it, or no processors. A child that dies is an error of `join` only.
    pub fn spawn<A, R>(&self, args: A, function: fn(A) -> R) -> Result<Process<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let entry = Entry::get()?;
        self.check()?;
        orphans::sweep();
        let refused = |error: io::Error| Error::new(ErrorKind::Process, error.to_string());
        let job = Job {
            entry: FunctionRef::of(child::enter::<A, R> as fn(Task)).map_err(refused)?,
            function: FunctionRef::of(function).map_err(refused)?,
            origin: self.origin(),
        };
        let mut running = Auto::with_encoded(&args, |encoded| self.start(entry, &job, encoded.bytes()))
            .map_err(|e| e.within("arguments"))??;
        // What needs no drop holds nothing that the child could miss.
        if mem::needs_drop::<A>() {
            running.keep(Box::new(args));
        }
        Ok(Process::over(running))
    }

    /// Whether it can be done, as far as that can be told.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::new(ErrorKind::InvalidInput, what));
        if self.name.as_ref().is_some_and(|name| name.len() > MAX_NAME || name.contains('\0')) {
            return refuse(format!("the process name {:?}", self.name));
        }
        for (name, value) in &self.env {
            let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
            if name.is_empty()
                || name.as_bytes().contains(&b'=')
                || has_nul(name)
                || value.as_deref().is_some_and(has_nul)
            {
                return refuse(format!("the environment variable {name:?}"));
            }
        }
        if let Some(cpus) = &self.cpus
            && (cpus.is_empty() || cpus.iter().any(|cpu| *cpu >= os::CPUS))
        {
            return refuse(format!("the processors {cpus:?}"));
        }
        if self.daemon { children::expect_daemons() } else { Ok(()) }
    }

    /// What the child is told about itself.
    pub(super) fn origin(&self) -> Origin {
        Origin::here(self.name.clone(), self.kill_with_parent || self.daemon, self.cpus.clone())
    }

    /// The child as others see it.
    pub(super) fn target(&self, child: os::Child) -> Target {
        Target::new(self.name.clone(), self.daemon, child)
    }

    fn start(&self, entry: &Entry, job: &Job, args: &[u8]) -> Result<Running> {
        let message = postcard::to_stdvec(job).map_err(|e| Error::new(ErrorKind::Encode, e.to_string()))?;
        let (head, args_head) = (frame::head(Kind::Job, message.len()), frame::head(Kind::Args, args.len()));
        let (small, large) = if args.len() <= frame::SMALL { (args, &[][..]) } else { (&[][..], args) };
        let first = [&head[..], &message, &args_head, small].concat();
        let start = || -> io::Result<Running> {
            let (channel, theirs) = Channel::pair()?;
            let program = self.program(entry, theirs)?;
            let child = match job.origin.kill_with_parent {
                true => spawner::start(program),
                false => os::Child::start(&program),
            };
            let mut running = Running::new(self.target(child?), channel);
            if let Err(error) = running.send(&first).and_then(|()| running.send(large)) {
                running.close();
                orphans::add(running);
                return Err(error);
            }
            Ok(running)
        };
        start().map_err(|e| Error::from_io(e, "starting a process"))
    }

    fn program(&self, entry: &Entry, theirs: OwnedFd) -> io::Result<os::Program> {
        let mut program = entry.program(self.executable.as_deref(), theirs);
        if let Some(stdout) = &self.stdout {
            program.set_stdout(stdout.try_clone()?);
        }
        if let Some(stderr) = &self.stderr {
            program.set_stderr(stderr.try_clone()?);
        }
        if self.env_clear {
            program.clear_env();
        }
        self.env.iter().for_each(|(name, value)| program.set_env(name, value.as_deref()));
        Ok(program)
    }
}
