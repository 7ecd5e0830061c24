//! A child process, its result, and its end.

use std::fmt;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::ProcessBuilder;
use super::frame::{Frame, Kind};
use super::orphans;
use super::running::Running;
use super::target::Target;
use crate::codec::{Auto, Decode};
use crate::error::{Error, ErrorKind, Result};
use crate::os::Signal;
use crate::raw::wait::Deadline;

/// A process that runs one function, and what the function returns.
///
/// The process is fresh: the program started once more, by the same file even if that was replaced meanwhile. It has
/// nothing of its parent's memory. Arguments go there and the result comes back by serde, [handles](crate::Dict) anywhere
/// in them included: both sides then work on the same objects. The parent keeps the arguments until the child has decoded
/// them, and the child the handles in its result until the parent has. The program's `main` must begin with
/// [`init`](crate::init). A process can also be [forked](Process::fork): a copy of its parent, with all that it has.
///
/// A function that can fail returns a `Result`, with any error that serde knows. [`Error`] is one, keeps its chain
/// of causes on the way, and can be made of [any error](Error::other).
///
/// Dropped without [`join`](Process::join), the process goes on and its result is thrown away. It is reaped when this process
/// next starts or joins another or drops a `Process`; when the parent ends, by the system. There is no other way to close
/// it, and so none to use a closed one.
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
    target: Arc<Target>,
    state: State,
    /// Its answer, once that has come, until it is taken.
    answer: Option<Result<R>>,
}

/// How far a process has come.
enum State {
    /// Not reaped.
    Running(Running),
    /// Reaped, and how it ended, unless somebody else was told. Its answer waits.
    Ended(Option<ExitStatus>),
    /// The same, and the answer was taken.
    Taken(Option<ExitStatus>),
}

impl<R: Serialize + DeserializeOwned + 'static> Process<R> {
    /// Starts a process that calls `function` with `args`, with default options; see [`ProcessBuilder::spawn`], and
    /// [`spawn!`](crate::spawn!) for closures.
    ///
    /// # Errors
    /// As [`ProcessBuilder::spawn`].
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
    /// `Panicked` if the function panicked, with its message and its [backtrace](Error::backtrace); `Process` if the process
    /// ended without an answer, naming signal or exit code; `OtherProgram` if another
    /// [executable](ProcessBuilder::executable) than this one was started. What the child met decoding its arguments
    /// (`Stale`, `NotFound`, `Decode`) or encoding its result (`Encode`); the same for decoding the result here.
    /// `InvalidInput` once the result was taken, and in a forked child, which is not the parent.
    pub fn join(mut self) -> Result<R> {
        let ended = self.finish(Deadline::NEVER)?;
        ended.ok_or_else(|| Error::new(ErrorKind::Process, format!("{}: a wait without end that ended", self.target)))
    }

    /// Waits for the end of the process for at most `timeout`; `None` if it passes. Once this has returned anything else,
    /// the result is gone.
    ///
    /// # Blocking
    /// Until the process has ended, or for `timeout`.
    ///
    /// # Errors
    /// As [`join`](Process::join).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>> {
        self.finish(Deadline::after(timeout))
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        orphans::sweep();
        // A child whose result holds handles waits for it to be taken.
        self.hear();
        matches!(self.state, State::Running(_)) && !self.target.has_ended()
    }

    /// How the process ended: its exit code, or minus the number of the signal that killed it; `None` as long as it has not
    /// ended, and if somebody else has taken its exit status.
    ///
    /// The code is 0 if the function returned, 101 if it panicked, 1 if it could not be run or its result not be sent, and
    /// whatever the function gave to [`exit`](std::process::exit).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// fn main() -> commons::Result<()> {
    ///     commons::init();
    ///     let mut process = commons::Process::spawn((), |()| std::thread::sleep(Duration::from_secs(60)))?;
    ///     assert_eq!(process.exit_code(), None);
    ///     process.kill()?;
    ///     assert!(process.join_timeout(Duration::MAX).is_err());
    ///     assert_eq!(process.exit_code(), Some(-9));
    ///     Ok(())
    /// }
    /// ```
    pub fn exit_code(&mut self) -> Option<i32> {
        if let State::Running(running) = &self.state
            && running.is_ours()
            && running.has_ended()
        {
            self.hear();
            let _ = self.reap();
        }
        match self.state {
            State::Running(_) | State::Ended(None) | State::Taken(None) => None,
            State::Ended(Some(status)) | State::Taken(Some(status)) => {
                status.code().or_else(|| status.signal().map(|signal| -signal))
            }
        }
    }

    /// Takes the answer, if it has come.
    fn hear(&mut self) {
        let State::Running(running) = &mut self.state else { return };
        if !running.is_ours() {
            return;
        }
        match running.answer() {
            Ok(None) => {}
            Ok(Some(frame)) => self.take_answer(&frame),
            Err(error) => {
                // Nothing it says can be made sense of any more.
                running.close();
                self.answer = Some(Err(error.within(&self.target)));
            }
        }
    }

    fn take_answer(&mut self, frame: &Frame) {
        let answer = match frame.kind {
            Kind::Returned => <Auto as Decode<R>>::decode(frame.payload()).map_err(|e| e.within("result")),
            _ => Err(frame.message().unwrap_or_else(|e| e)),
        };
        self.answer = Some(answer.map_err(|e| e.within(&self.target)));
        // After the result was decoded: this is what a child with handles in its result waits for.
        if let State::Running(running) = &mut self.state {
            running.close();
        }
    }

    fn finish(&mut self, deadline: Deadline) -> Result<Option<R>> {
        orphans::sweep();
        let mut ended = false;
        loop {
            // After its end once more: what it said last is still in the channel.
            self.hear();
            let running = match &mut self.state {
                State::Running(running) if running.is_ours() => running,
                State::Running(_) => return Err(self.misused("is not a child of this process, but of its parent")),
                State::Ended(status) => {
                    let status = *status;
                    self.state = State::Taken(status);
                    return match self.answer.take() {
                        Some(answer) => answer.map(Some),
                        None => Err(self.died(status)),
                    };
                }
                State::Taken(_) => return Err(self.misused("has been joined: its result was taken")),
            };
            // Reaping waits too, and is the shorter way.
            if ended || (!running.is_open() && deadline.left() == Some(Duration::MAX)) {
                self.reap()?;
                continue;
            }
            // At least one look.
            let left = deadline.left();
            let waited = running.wait(left.unwrap_or_default());
            ended = waited.map_err(|e| Error::from_io(e, format!("waiting for {}", self.target)))?;
            if !ended && left.is_none() {
                return Ok(None);
            }
        }
    }

    /// Reaps the process, waiting for its end.
    fn reap(&mut self) -> Result<()> {
        if let State::Running(running) = &mut self.state {
            running.close();
            let status = running.reap().map_err(|e| Error::from_io(e, format!("waiting for {}", self.target)))?;
            self.state = State::Ended(status);
        }
        Ok(())
    }

    #[cold]
    fn misused(&self, how: &str) -> Error {
        Error::new(ErrorKind::InvalidInput, format!("{} {how}", self.target))
    }

    #[cold]
    fn died(&self, status: Option<ExitStatus>) -> Error {
        let process = &self.target;
        let context = match status {
            Some(status) => format!("{process} ended without an answer, {status}"),
            None => format!("{process} ended without an answer, and somebody else took its exit status"),
        };
        Error::new(ErrorKind::Process, context)
    }
}

impl<R> Process<R> {
    /// Over a process just started.
    pub(super) fn over(running: Running) -> Process<R> {
        Process { target: Arc::clone(running.target()), state: State::Running(running), answer: None }
    }

    /// Its process id, which is another process's some time after it was joined.
    pub fn pid(&self) -> u32 {
        self.target.child().pid()
    }

    /// The name that it was [given](ProcessBuilder::name).
    pub fn name(&self) -> Option<&str> {
        self.target.name()
    }

    /// Whether it is a [daemon](ProcessBuilder::daemon).
    pub fn is_daemon(&self) -> bool {
        self.target.is_daemon()
    }

    /// Its pidfd: readable, for poll(2) and epoll(7), once the process has ended, and from then on. So one thread can wait for
    /// many processes, and for other things with them.
    ///
    /// A process whose result holds handles ends only when the result is taken, which [`join`](Process::join) does, and
    /// [`is_alive`](Process::is_alive) too: look at these now and then.
    ///
    /// # Examples
    /// ```
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     commons::init();
    ///     let process = commons::Process::spawn(3, |n: u64| n + 1)?;
    ///     let sentinel = process.sentinel();
    ///     assert_eq!(poll(&mut [PollFd::new(&sentinel, PollFlags::IN)], None)?, 1);
    ///     assert_eq!(process.join()?, 4);
    ///     Ok(())
    /// }
    /// ```
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.target.sentinel()
    }

    /// Asks the process to end, by SIGTERM, which ends it at once unless it handles that signal. Does nothing if it has ended.
    ///
    /// # Crash
    /// As [`kill`](Process::kill).
    ///
    /// # Errors
    /// `PermissionDenied` if it has changed its user.
    pub fn terminate(&self) -> Result<()> {
        self.target.signal(Signal::TERM)
    }

    /// Interrupts the process by SIGINT, as Ctrl-C does, which ends it at once unless it handles that signal. Does nothing
    /// if it has ended.
    ///
    /// # Crash
    /// As [`kill`](Process::kill).
    ///
    /// # Errors
    /// `PermissionDenied` if it has changed its user.
    pub fn interrupt(&self) -> Result<()> {
        self.target.signal(Signal::INT)
    }

    /// Kills the process, by SIGKILL. Does nothing if it has ended.
    ///
    /// # Crash
    /// What it was doing to shared objects is completed or undone by whoever meets it.
    ///
    /// # Errors
    /// `PermissionDenied` if it has changed its user.
    pub fn kill(&self) -> Result<()> {
        self.target.signal(Signal::KILL)
    }
}

/// The [sentinel](Process::sentinel): so [`wait`](crate::wait()) takes a process as it is.
impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        // A forked copy of it is nobody's parent.
        let State::Running(running) = &self.state else { return };
        if !running.is_ours() {
            return;
        }
        let State::Running(mut running) = mem::replace(&mut self.state, State::Taken(None)) else { return };
        drop(running.let_go());
        match running.has_ended() {
            true => running.reap_quietly(),
            false => orphans::add(running),
        }
        orphans::sweep();
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .field("joined", &matches!(self.state, State::Taken(_)))
            .finish_non_exhaustive()
    }
}
