//! A child process and its result.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::child::{self, Task};
use super::entry::Entry;
use super::frame::{self, Failure, Frame, Job, Kind};
use super::running::Running;
use super::{orphans, spawner};
use crate::codec::{Auto, Decode, Encode};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, Channel, FunctionRef};
use crate::raw::wait::Deadline;

/// Longest name of a process, in bytes.
const MAX_NAME: usize = 200;
/// Arguments of at most this many bytes are copied, so that they go in one piece with what precedes them.
const SMALL: usize = 16 << 10;

/// A process that runs one function, and what the function returns.
///
/// The process is fresh: the program started once more, by the same file even if that was replaced meanwhile. It has
/// nothing of its parent's memory. Arguments go there and the result comes back by serde, [handles](crate::Dict) anywhere
/// in them included: both sides then work on the same objects. The parent keeps the arguments until the child has decoded
/// them, and the child its result until the parent has.
///
/// The program's `main` must begin with [`init`](crate::init).
///
/// Dropped without [`join`](Process::join), the process goes on and its result is thrown away. It is reaped when this process
/// next starts or joins another or drops a `Process`; when the parent ends, by the system.
///
/// # Crash
/// A child that ends without an answer, by whatever signal or exit code, is an error of kind `Process` that names it, as
/// soon as it has ended; what it held in shared memory is repaired by whoever meets it. A result that came in full is
/// the result, however the child ended then.
///
/// A parent that dies leaves its children running, unless they were [built](ProcessBuilder::kill_with_parent) otherwise.
/// A child that had not decoded its arguments by then ends with an error if nobody else holds what they name.
///
/// # Examples
/// ```
/// use commons::{Dict, Manager, Process};
///
/// fn square((number, squares): (u64, Dict<u64, u64>)) {
///     squares.insert(&number, &(number * number)).unwrap();
/// }
///
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let squares = Manager::new()?.dict()?;
///     let process = Process::spawn((22, squares.clone()), square)?;
///     process.join()?;
///     assert_eq!(squares.get(&22)?, Some(484));
///     Ok(())
/// }
/// ```
pub struct Process<R> {
    label: Label,
    /// `None` once it has been reaped.
    running: Option<Running>,
    /// Its answer, if that came before its end.
    answer: Option<Result<R>>,
}

/// Which process an error is about.
struct Label {
    name: Option<String>,
    pid: u32,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "process `{name}` (pid {})", self.pid),
            None => write!(f, "process (pid {})", self.pid),
        }
    }
}

/// Options for a new process.
///
/// # Examples
/// ```
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let process = commons::Process::builder().name("doubler").kill_with_parent(true).spawn(2, |n: u64| n * 2)?;
///     assert_eq!(process.join()?, 4);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ProcessBuilder {
    name: Option<String>,
    kill_with_parent: bool,
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

    /// Starts a process that calls `function` with `args`.
    ///
    /// `args` must be `Send`, because they may be dropped by another thread than the caller's: they are kept until the
    /// child has decoded them. `function` may be a closure that captures nothing.
    ///
    /// # Blocking
    /// Until the process has been started, and if the encoded arguments are larger than what a socket holds (some 200 KiB),
    /// until it has read them.
    ///
    /// # Errors
    /// `Process` if [`init`](crate::init) was not called, `function` is not in the program's own executable,
    /// or the system could not start it; `Encode`; `InvalidInput` for a name with NUL or longer than 200 bytes. A child that
    /// dies is an error of `join` only.
    pub fn spawn<A, R>(&self, args: A, function: fn(A) -> R) -> Result<Process<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let entry = Entry::get()?;
        if self.name.as_ref().is_some_and(|name| name.len() > MAX_NAME || name.contains('\0')) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("the process name {:?}", self.name)));
        }
        orphans::sweep();
        let refused = |error: io::Error| Error::new(ErrorKind::Process, error.to_string());
        let job = Job {
            entry: FunctionRef::of(child::enter::<A, R> as fn(Task)).map_err(refused)?,
            function: FunctionRef::of(function).map_err(refused)?,
            name: self.name.clone(),
            parent: std::process::id(),
            kill_with_parent: self.kill_with_parent,
        };
        let mut running = Auto::with_encoded(&args, |encoded| self.start(entry, &job, encoded.bytes()))
            .map_err(|e| e.within("arguments"))??;
        // What needs no drop holds nothing that the child could miss.
        if mem::needs_drop::<A>() {
            running.keep(Box::new(args));
        }
        let label = Label { name: self.name.clone(), pid: running.pid() };
        Ok(Process { label, running: Some(running), answer: None })
    }

    fn start(&self, entry: &Entry, job: &Job, args: &[u8]) -> Result<Running> {
        let job = postcard::to_stdvec(job).map_err(|e| Error::new(ErrorKind::Encode, e.to_string()))?;
        let (head, args_head) = (frame::head(Kind::Job, job.len()), frame::head(Kind::Args, args.len()));
        let (small, large) = if args.len() <= SMALL { (args, &[][..]) } else { (&[][..], args) };
        let first = [&head[..], &job, &args_head, small].concat();
        let start = || -> io::Result<Running> {
            let (channel, theirs) = Channel::pair()?;
            let mut running = Running::new(self.start_child(entry, theirs)?, channel);
            running.send(&first)?;
            running.send(large)?;
            Ok(running)
        };
        start().map_err(|e| Error::new(ErrorKind::Process, format!("starting a process: {e}")))
    }

    fn start_child(&self, entry: &Entry, theirs: OwnedFd) -> io::Result<os::Child> {
        let mut command = entry.command();
        command.stdin(Stdio::from(theirs));
        match self.kill_with_parent {
            true => spawner::start(command),
            false => os::Child::start(&mut command),
        }
    }
}

impl Process<()> {
    /// Options for a new process.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::default()
    }
}

impl<R: Serialize + DeserializeOwned + 'static> Process<R> {
    /// Starts a process that calls `function` with `args`, with default options; see [`ProcessBuilder::spawn`].
    pub fn spawn<A>(args: A, function: fn(A) -> R) -> Result<Process<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
    {
        ProcessBuilder::default().spawn(args, function)
    }

    /// Waits for the end of the process, and returns what its function returned.
    ///
    /// # Blocking
    /// Until the process has ended.
    ///
    /// # Errors
    /// `Panicked` if the function panicked, with its message, and the backtrace if `RUST_BACKTRACE` asks for one;
    /// `Process` if the process ended without an answer, naming signal or exit code. What the child met decoding its
    /// arguments (`Stale`, `NotFound`, `Decode`) or encoding its result; the same for decoding the result here.
    pub fn join(mut self) -> Result<R> {
        let ended = self.finish(Deadline::NEVER)?;
        ended.ok_or_else(|| Error::new(ErrorKind::Process, format!("{}: a wait without end that ended", self.label)))
    }

    /// Waits for the end of the process for at most `timeout`; `None` if it passes. Once this has returned anything else,
    /// the result is gone.
    ///
    /// # Blocking
    /// Until the process has ended, or for `timeout`.
    ///
    /// # Errors
    /// As [`join`](Process::join); `InvalidInput` once the result is gone.
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>> {
        self.finish(Deadline::after(timeout))
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        orphans::sweep();
        // A child whose result holds handles waits for it to be taken.
        self.hear();
        self.running.as_ref().is_some_and(|running| !running.has_ended())
    }

    /// Takes the answer, if it has come.
    fn hear(&mut self) {
        let Some(running) = &mut self.running else { return };
        match running.answer() {
            Ok(None) => {}
            Ok(Some(frame)) => self.take_answer(&frame),
            Err(error) => {
                // Nothing it says can be made sense of any more.
                running.close();
                self.answer = Some(Err(error.within(&self.label)));
            }
        }
    }

    fn take_answer(&mut self, frame: &Frame) {
        let answer = match frame.kind {
            Kind::Returned => <Auto as Decode<R>>::decode(frame.payload()).map_err(|e| e.within("result")),
            Kind::Panicked => {
                Err(Error::new(ErrorKind::Panicked, String::from_utf8_lossy(frame.payload()).into_owned()))
            }
            _ => Err(frame.message().map_or_else(|e| e, Failure::into_error)),
        };
        self.answer = Some(answer.map_err(|e| e.within(&self.label)));
        // After the result was decoded: this is what a child with handles in its result waits for.
        if let Some(running) = &mut self.running {
            running.close();
        }
    }

    fn finish(&mut self, deadline: Deadline) -> Result<Option<R>> {
        orphans::sweep();
        let io = |label: &Label, error| Error::from_io(error, format!("waiting for {label}"));
        let mut ended = false;
        loop {
            // After its end once more: what it said last is still in the channel.
            self.hear();
            let Some(running) = &mut self.running else {
                let context = format!("the result of {} has been taken", self.label);
                return Err(Error::new(ErrorKind::InvalidInput, context));
            };
            if ended || (!running.is_open() && deadline.left() == Some(Duration::MAX)) {
                break;
            }
            // At least one look.
            let left = deadline.left();
            ended = running.wait(left.unwrap_or_default()).map_err(|e| io(&self.label, e))?;
            if !ended && left.is_none() {
                return Ok(None);
            }
        }
        let Some(mut running) = self.running.take() else { return Ok(None) };
        running.close();
        let status = running.reap().map_err(|e| io(&self.label, e))?;
        match self.answer.take() {
            Some(answer) => answer.map(Some),
            None => Err(self.died(status)),
        }
    }

    #[cold]
    fn died(&self, status: Option<ExitStatus>) -> Error {
        let label = &self.label;
        let context = match status {
            Some(status) => format!("{label} ended without an answer, {status}"),
            None => format!("{label} ended without an answer, and somebody else took its exit status"),
        };
        Error::new(ErrorKind::Process, context)
    }
}

impl<R> Process<R> {
    /// Its process id, which is another process's some time after it was joined.
    pub fn pid(&self) -> u32 {
        self.label.pid
    }

    /// The name that it was [given](ProcessBuilder::name).
    pub fn name(&self) -> Option<&str> {
        self.label.name.as_deref()
    }

    /// Kills the process, by SIGKILL. Does nothing if it has ended.
    ///
    /// # Crash
    /// What it was doing to shared objects is completed or undone by whoever meets it.
    ///
    /// # Errors
    /// `PermissionDenied` if it has changed its user.
    pub fn kill(&self) -> Result<()> {
        match &self.running {
            Some(running) => running.kill().map_err(|e| Error::from_io(e, format!("killing {}", self.label))),
            None => Ok(()),
        }
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // A forked copy of it is nobody's parent.
        if running.is_ours() {
            drop(running.let_go());
            match running.has_ended() {
                true => running.reap_quietly(),
                false => orphans::add(running),
            }
            orphans::sweep();
        }
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.label.name)
            .field("pid", &self.label.pid)
            .field("joined", &self.running.is_none())
            .finish_non_exhaustive()
    }
}
