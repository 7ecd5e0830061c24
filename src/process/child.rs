//! The child's side: from the first line of `main` to the exit.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io::Write;
use std::mem;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, Failure, Frame, Inbox, Job, Kind};
use crate::codec::{Auto, Decode, Encode};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, Channel, Patience, Transfer};

/// Exit codes, for whoever looks at them: the parent hears it over the channel.
const FAILED: i32 = 1;
const PANICKED: i32 = 101;

/// A child at work.
pub struct Task {
    channel: Channel,
    inbox: Inbox,
    job: Job,
}

/// Does what this process was started for. `program` is its `argv[0]` without the mark.
pub fn run(program: &[u8]) -> ! {
    if let Err(error) = serve(program) {
        complain(&error);
    }
    std::process::exit(FAILED);
}

/// For what the parent cannot be told.
fn complain(error: &Error) {
    let _ = writeln!(std::io::stderr(), "commons: child process {}: {error}", std::process::id());
}

fn serve(program: &[u8]) -> Result<()> {
    if os::is_privileged() {
        let context = "a program with the rights of its file cannot be a child: who started it may not have them";
        return Err(Error::new(ErrorKind::Process, context));
    }
    let channel = Channel::claim_stdin().map_err(|e| Error::from_io(e, "taking the channel to the parent"))?;
    let mut inbox = Inbox::default();
    let job: Job = receive(&channel, &mut inbox, Kind::Job)?.message()?;
    if job.kill_with_parent {
        let lives = os::die_with_parent(job.parent).map_err(|e| Error::from_io(e, "asking to die with the parent"))?;
        if !lives {
            return Ok(());
        }
    }
    let program = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    os::set_thread_name(job.name.as_deref().unwrap_or(&String::from_utf8_lossy(program)));
    let entry = job.entry.resolve::<Task, ()>();
    let task = Task { channel, inbox, job };
    match entry {
        Ok(entry) => entry(task),
        Err(error) => task.fail(&Error::new(ErrorKind::Process, error.to_string())),
    }
    Ok(())
}

/// Waits for a frame of `kind`.
fn receive(channel: &Channel, inbox: &mut Inbox, kind: Kind) -> Result<Frame> {
    loop {
        match inbox.take()? {
            Some(frame) if frame.kind == kind => return Ok(frame),
            Some(frame) => {
                let context = format!("the parent sent {:?} instead of {kind:?}", frame.kind);
                return Err(Error::new(ErrorKind::Process, context));
            }
            None => {}
        }
        match inbox.fill(channel, Patience::Wait) {
            Ok(Transfer::Done(_) | Transfer::WouldBlock) => {}
            Ok(Transfer::Closed) => {
                return Err(Error::new(ErrorKind::Process, "the parent died before it said what to do"));
            }
            Err(error) => return Err(Error::from_io(error, "hearing from the parent")),
        }
    }
}

/// What a child with arguments `A` and result `R` does.
pub fn enter<A, R>(task: Task)
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    keep_panics();
    let mut task = task;
    let done = panic::catch_unwind(AssertUnwindSafe(|| task.perform::<A, R>()));
    let code = match done {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            task.fail(&error);
            FAILED
        }
        Err(payload) => {
            let text = panic_text(&*payload);
            mem::forget(payload); // its drop might panic
            let _ = task.send(Kind::Panicked, text.as_bytes());
            PANICKED
        }
    };
    std::process::exit(code);
}

impl Task {
    fn perform<A, R>(&mut self) -> Result<()>
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let function = self.job.function.resolve::<A, R>();
        let function = function.map_err(|error| Error::new(ErrorKind::Process, error.to_string()))?;
        let args = receive(&self.channel, &mut self.inbox, Kind::Args)?;
        let decoded = <Auto as Decode<A>>::decode(args.payload()).map_err(|e| e.within("arguments"))?;
        drop(args);
        // What needs no drop holds nothing: neither side has to keep it for the other.
        if mem::needs_drop::<A>() {
            self.send(Kind::Decoded, &[])?;
        }
        let result = function(decoded);
        Auto::with_encoded(&result, |encoded| self.send(Kind::Returned, encoded.bytes()))
            .map_err(|e| e.within("result"))??;
        if mem::needs_drop::<R>() {
            let waited = os::wait_for_parent(&self.channel, self.job.parent);
            waited.map_err(|e| Error::from_io(e, "waiting for the parent to take the result"))?;
        }
        Ok(())
    }

    /// Sends a frame. It is no failure if the parent is not interested.
    fn send(&self, kind: Kind, payload: &[u8]) -> Result<()> {
        self.send_or_closed(kind, payload).map(drop)
    }

    /// Sends a frame; whether anybody is there to read it.
    fn send_or_closed(&self, kind: Kind, payload: &[u8]) -> Result<bool> {
        for mut part in [&frame::head(kind, payload.len())[..], payload] {
            // Ends: each round sends at least a byte, or waits for the parent, or ends.
            while !part.is_empty() {
                match self.channel.send(part, Patience::Wait) {
                    Ok(Transfer::Done(len)) => part = &part[len..],
                    Ok(Transfer::WouldBlock) => {}
                    Ok(Transfer::Closed) => return Ok(false),
                    Err(error) => return Err(Error::from_io(error, "answering the parent")),
                }
            }
        }
        Ok(true)
    }

    /// Tells the parent, or else standard error.
    fn fail(&self, error: &Error) {
        let message = postcard::to_stdvec(&Failure::of(error)).unwrap_or_default();
        if !matches!(self.send_or_closed(Kind::Failed, &message), Ok(true)) {
            complain(error);
        }
    }
}

thread_local! {
    /// What the last panic of this thread said, and where.
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Has panics noted, beside what is done about them anyway.
pub fn keep_panics() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        LAST_PANIC.set(Some(describe(info)));
        previous(info);
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let mut text = info.payload_as_str().unwrap_or("a panic without a message").to_owned();
    if let Some(location) = info.location() {
        text += &format!(", at {location}");
    }
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text += &format!("\n{backtrace}");
    }
    text
}

/// What to tell of the panic with `payload`: what was noted of it, unless that was another one.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let own = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let noted = LAST_PANIC.take().filter(|noted| own.is_none_or(|own| noted.starts_with(own)));
    noted.unwrap_or_else(|| own.unwrap_or("a panic without a message").to_owned())
}
