//! The child's side: from the first line of `main`, or from the fork, to the exit.

use std::io::Write;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, Frame, Inbox, Job, Kind};
use super::origin::Tie;
use super::panics;
use crate::codec::{self, Auto, Decode, Encode};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, Channel, FunctionRef, Interest, Transfer};

/// Exit codes, for whoever looks at them: the parent hears it over the channel.
const FAILED: i32 = 1;
const PANICKED: i32 = 101;

/// The way to the parent.
pub struct Line {
    channel: Channel,
    /// The parent's process id.
    parent: u32,
}

/// A fresh child at work.
pub struct Task {
    line: Line,
    inbox: Inbox,
    function: FunctionRef,
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
    let line = Line { channel, parent: os::parent_pid() };
    let mut inbox = Inbox::default();
    let Job { entry, function, origin } = line.receive(&mut inbox, Kind::Job)?.message()?;
    let program = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    os::set_thread_name(origin.name.as_deref().unwrap_or(&String::from_utf8_lossy(program)));
    let entry = match origin.settle(Tie::Thread) {
        Ok(true) => entry.resolve::<Task, ()>().map_err(unresolved),
        Ok(false) => return Ok(()),
        Err(error) => Err(error),
    };
    match entry {
        Ok(entry) => entry(Task { line, inbox, function }),
        Err(error) => line.fail(&error),
    }
    Ok(())
}

fn unresolved(error: std::io::Error) -> Error {
    Error::new(ErrorKind::OtherProgram, error.to_string())
}

/// What a child with arguments `A` and result `R` does.
pub fn enter<A, R>(mut task: Task)
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    panics::prepare();
    let line = task.line;
    let code = line.conclude(|| {
        let function = task.function.resolve::<A, R>().map_err(unresolved)?;
        let args = line.receive(&mut task.inbox, Kind::Args)?;
        let decoded = <Auto as Decode<A>>::decode(args.payload()).map_err(|e| e.within("arguments"))?;
        drop(args);
        // What needs no drop holds nothing: the parent does not keep it either.
        if mem::needs_drop::<A>() {
            line.send(Kind::Decoded, &[])?;
        }
        line.give_back(&function(decoded))
    });
    std::process::exit(code);
}

impl Line {
    /// Over the child's end of a channel that it inherited by a fork of process `parent`.
    pub fn new(channel: Channel, parent: u32) -> Line {
        Line { channel, parent }
    }

    /// Does `work`, tells the parent if it fails or panics, and returns the code to exit with.
    pub fn conclude(&self, work: impl FnOnce() -> Result<()>) -> i32 {
        panics::note();
        let (error, code) = match panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return 0,
            Ok(Err(error)) => (error, FAILED),
            Err(payload) => (panics::error(payload), PANICKED),
        };
        self.fail(&error);
        code
    }

    /// Sends the function's result, and keeps handles in it until the parent has them.
    pub fn give_back<R: Serialize + 'static>(&self, result: &R) -> Result<()> {
        codec::take_segment_note();
        let send = |encoded: codec::Encoded<'_>| -> Result<bool> {
            self.send(Kind::Returned, encoded.bytes())?;
            Ok(encoded.has_handles())
        };
        let has_handles = Auto::with_encoded(result, send).map_err(|e| e.within("result"))??;
        if has_handles || codec::take_segment_note() {
            self.wait(Interest::Receive).map_err(|e| Error::from_io(e, "waiting for the parent to take the result"))?;
        }
        Ok(())
    }

    /// Waits for a frame of `kind`.
    fn receive(&self, inbox: &mut Inbox, kind: Kind) -> Result<Frame> {
        // Ends: each round takes something out of the channel, or waits for it, or ends.
        loop {
            match inbox.take()? {
                Some(frame) if frame.kind == kind => return Ok(frame),
                Some(frame) => {
                    let context = format!("the parent sent {:?} instead of {kind:?}", frame.kind);
                    return Err(Error::new(ErrorKind::Process, context));
                }
                None => {}
            }
            let transfer = inbox.fill(&self.channel).and_then(|transfer| match transfer {
                Transfer::WouldBlock if !self.wait(Interest::Receive)? => Ok(Transfer::Closed),
                other => Ok(other),
            });
            match transfer.map_err(|e| Error::from_io(e, "hearing from the parent"))? {
                Transfer::Done(_) | Transfer::WouldBlock => {}
                Transfer::Closed => {
                    return Err(Error::new(ErrorKind::Process, "the parent died before it said what to do"));
                }
            }
        }
    }

    /// Sends a frame. It is no failure if the parent is not interested.
    fn send(&self, kind: Kind, payload: &[u8]) -> Result<()> {
        self.send_or_closed(kind, payload).map(drop).map_err(|e| Error::from_io(e, "answering the parent"))
    }

    /// Sends a frame; whether anybody is there to read it.
    fn send_or_closed(&self, kind: Kind, payload: &[u8]) -> std::io::Result<bool> {
        let head = frame::head(kind, payload.len());
        let whole;
        let parts = if payload.len() <= frame::SMALL {
            whole = [&head, payload].concat();
            [&whole[..], &[]]
        } else {
            [&head[..], payload]
        };
        for mut part in parts {
            // Ends: each round sends at least a byte, or waits for the parent, or ends.
            while !part.is_empty() {
                match self.channel.send(part)? {
                    Transfer::Done(len) => part = &part[len..],
                    Transfer::WouldBlock if self.wait(Interest::Send)? => {}
                    Transfer::WouldBlock | Transfer::Closed => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Waits until the channel allows it, or its other end is closed. False if the parent has ended: its end of the channel
    /// may be open all the same, in a child that it forked.
    fn wait(&self, interest: Interest) -> std::io::Result<bool> {
        let Some(parent) = os::Parent::of(self.parent)? else { return Ok(false) };
        // Ends: with one of the two; otherwise a signal has interrupted it.
        loop {
            let seen = parent.wait_for(Some((&self.channel, interest)), Duration::MAX)?;
            if seen.channel || seen.ended {
                return Ok(seen.channel);
            }
        }
    }

    /// Tells the parent, or else standard error.
    pub fn fail(&self, error: &Error) {
        let message = postcard::to_stdvec(error).unwrap_or_default();
        if !matches!(self.send_or_closed(Kind::Failed, &message), Ok(true)) {
            complain(error);
        }
    }
}
