//! The worker's side: from its start to the end of its queue.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::panics;
use super::board::BoardHandle;
use super::function::{Runner, Task};
use super::wire::{self, RESULTS_HEAD};
use crate::Queue;
use crate::codec::{Auto, Decode, Encode};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, FunctionRef, Secret};
use crate::raw::board::OUTBOX_BYTES;

/// Results are not held back longer than this while the chunk goes on, in nanoseconds.
const REPORT_AFTER: u64 = 1_000_000;
/// A larger buffer is given back after use.
const BUFFER_KEPT: usize = 64 << 10;
/// How often a worker that is about to end looks whether its last handles were taken.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

#[cold]
fn refused(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Corrupted, format!("a pool's task: {error}"))
}

/// What a worker is given.
#[derive(Serialize, Deserialize)]
pub struct Setup {
    pub tasks: Queue<Vec<u8>>,
    pub results: Queue<Vec<u8>>,
    pub board: BoardHandle,
    pub secret: Secret,
    pub initializer: Option<Initializer>,
}

/// What a worker runs first.
#[derive(Clone, Serialize, Deserialize)]
pub struct Initializer {
    runner: FunctionRef,
    function: FunctionRef,
    args: Vec<u8>,
}

impl Initializer {
    /// A call of `function` with `args`.
    pub fn new<A: Serialize + DeserializeOwned + 'static>(args: &A, function: fn(A)) -> Result<Initializer> {
        let name = || {
            let runner = FunctionRef::of(run_initializer::<A> as fn(Initializer) -> Result<()>)?;
            Ok((runner, FunctionRef::of(function)?))
        };
        let (runner, function) =
            name().map_err(|e: std::io::Error| Error::new(ErrorKind::Process, e.to_string()).within("initializer"))?;
        let args = Auto::with_encoded(args, |encoded| encoded.bytes().to_vec());
        Ok(Initializer { runner, function, args: args.map_err(|e| e.within("arguments of the initializer"))? })
    }

    fn run(self) -> Result<()> {
        let runner = self.runner.resolve::<Initializer, Result<()>>();
        runner.map_err(|e| Error::new(ErrorKind::Process, e.to_string()))?(self)
    }
}

fn run_initializer<A: Serialize + DeserializeOwned + 'static>(initializer: Initializer) -> Result<()> {
    let function = initializer.function.resolve::<A, ()>();
    let function = function.map_err(|e| Error::new(ErrorKind::Process, e.to_string()))?;
    let args = <Auto as Decode<A>>::decode(&initializer.args);
    function(args.map_err(|e| e.within("arguments of the initializer"))?);
    Ok(())
}

/// A worker's life. Why it could not go on it says as if by a panic: with a result of its own to be taken, its process
/// would wait for that instead of ending.
pub fn work(mut setup: Setup) {
    let initialize = setup.initializer.take().map_or(Ok(()), Initializer::run);
    if let Err(error) = initialize.and_then(|()| Worker::new(setup).serve()) {
        resume_unwind(Box::new(error.to_string()));
    }
}

/// A worker at work.
pub struct Worker {
    setup: Setup,
    /// The chunk at hand.
    message: Vec<u8>,
    /// The results that are in no message yet, behind room for their head.
    results: Vec<u8>,
    /// How many of them have been reported, and how many not.
    reported: u32,
    pending: u32,
    last_report: u64,
    /// Values with handles: of those results, and of the messages not yet taken, by number.
    fresh: Vec<Box<dyn Any>>,
    kept: VecDeque<(u64, Vec<Box<dyn Any>>)>,
    sent: u64,
    /// Why it cannot go on.
    broken: Option<Error>,
}

impl Worker {
    pub fn new(setup: Setup) -> Worker {
        Worker {
            setup,
            message: Vec::new(),
            results: Vec::new(),
            reported: 0,
            pending: 0,
            last_report: 0,
            fresh: Vec::new(),
            kept: VecDeque::new(),
            sent: 0,
            broken: None,
        }
    }

    /// Works until its queue is closed and empty.
    pub fn serve(mut self) -> Result<()> {
        self.setup.board.words()?.set_ready();
        loop {
            self.message = match self.setup.tasks.get() {
                Ok(message) => message,
                Err(error) if error.kind() == ErrorKind::Closed => break,
                Err(error) => return Err(error),
            };
            self.let_go()?;
            if self.message.is_empty() {
                continue; // a nudge
            }
            let runner = self.runner()?;
            self = runner(self);
            if let Some(error) = self.broken {
                return Err(error);
            }
        }
        // What its last results hold must outlive the parent's taking them. A parent that dies takes us along.
        while !self.kept.is_empty() {
            std::thread::sleep(LOOK_AGAIN);
            self.let_go()?;
        }
        Ok(())
    }

    fn runner(&self) -> Result<Runner> {
        let (_, names, _) = wire::chunk(&self.message)?;
        #[cfg(feature = "linkme")]
        if let Some(task) = super::named::Asked::by(&names) {
            return Ok(task.find().unwrap_or(Worker::refuse));
        }
        self.setup.secret.open::<Runner>(names.runner).map_err(refused)
    }

    /// Drops the values whose handles the parent has taken.
    fn let_go(&mut self) -> Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let taken = self.setup.board.words()?.taken();
        while self.kept.front().is_some_and(|(number, _)| *number <= taken) {
            let values = self.kept.pop_front();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(values)));
        }
        Ok(())
    }

    /// Runs the chunk at hand, whose function is an `F`.
    pub fn run_chunk<F: Task>(self) -> Worker {
        let names = wire::chunk(&self.message).map(|(_, names, _)| names);
        let function = names.and_then(|names| self.setup.secret.open::<F>(names.function).map_err(refused));
        match function {
            Ok(function) => self.run_with(|args| function.call(args)),
            Err(error) => Worker { broken: Some(error), ..self },
        }
    }

    /// Runs the chunk at hand.
    pub fn run_with<A, R>(mut self, function: impl Fn(A) -> R) -> Worker
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        self.broken = self.try_chunk(|worker, item| worker.run_one(&function, item)).err();
        self
    }

    fn try_chunk(&mut self, mut run_one: impl FnMut(&mut Worker, &[u8]) -> Result<()>) -> Result<()> {
        let message = mem::take(&mut self.message);
        let (id, _, mut items) = wire::chunk(&message)?;
        let chunk = id as u32;
        (self.reported, self.pending) = (0, 0);
        self.clear_results();
        self.last_report = os::now_nanos();
        let mut index = 0;
        while !items.is_empty() {
            let (item, rest) = wire::split_item(items)?;
            items = rest;
            self.setup.board.words()?.begin(chunk, index);
            let at = self.results.len();
            run_one(self, item)?;
            self.pending += 1;
            let full = self.results.len() - RESULTS_HEAD > OUTBOX_BYTES;
            if items.is_empty() || full || os::now_nanos().saturating_sub(self.last_report) > REPORT_AFTER {
                self.report(id, at)?;
            } else {
                self.setup.board.words()?.append(at - RESULTS_HEAD, &self.results[at..]);
            }
            self.setup.board.words()?.end(chunk, index);
            index += 1;
        }
        Ok(())
    }

    /// Fails every task of the chunk at hand, whose name means nothing here.
    #[cfg(feature = "linkme")]
    fn refuse(mut self) -> Worker {
        let asked = wire::chunk(&self.message).ok().and_then(|(_, names, _)| super::named::Asked::by(&names));
        let why = asked.map_or_else(|| Error::corrupted("a pool's task"), |asked| asked.refusal());
        self.broken = self.try_chunk(|worker, _| wire::push_failure(&mut worker.results, &why)).err();
        self
    }

    /// Runs one task and appends its record.
    fn run_one<A, R>(&mut self, function: impl Fn(A) -> R, item: &[u8]) -> Result<()>
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let (at, results) = (self.results.len(), &mut self.results);
        let done = catch_unwind(AssertUnwindSafe(|| {
            let args = <Auto as Decode<A>>::decode(item).map_err(|e| e.within("arguments"))?;
            let value = function(args);
            let push = |encoded: crate::Encoded<'_>| {
                wire::push_value(results, encoded.bytes(), encoded.has_handles())?;
                Ok(encoded.has_handles())
            };
            let handles = Auto::with_encoded(&value, push).and_then(|pushed| pushed).map_err(|e| e.within("result"))?;
            Ok(handles.then(|| Box::new(value) as Box<dyn Any>))
        }));
        let error: Error = match done {
            Ok(Ok(handles)) => {
                self.fresh.extend(handles);
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(payload) => panics::error(payload),
        };
        self.results.truncate(at);
        wire::push_failure(&mut self.results, &error)
    }

    /// Sends what is pending, of which the last record begins at `last`.
    fn report(&mut self, id: u64, last: usize) -> Result<()> {
        let head = wire::results_head(id, self.reported, self.pending);
        self.results[..RESULTS_HEAD].copy_from_slice(&head);
        if let Err(error) = self.setup.results.put(&self.results) {
            if !matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::OutOfMemory) {
                return Err(error);
            }
            // The others are small: they have been in the outbox.
            self.results.truncate(last);
            wire::push_failure(&mut self.results, &error.within("result"))?;
            self.setup.results.put(&self.results)?;
        }
        if !self.fresh.is_empty() {
            self.sent += u64::from(wire::have_handles(&self.results[RESULTS_HEAD..]));
            self.kept.push_back((self.sent, mem::take(&mut self.fresh)));
        }
        self.reported += self.pending;
        self.pending = 0;
        self.clear_results();
        self.last_report = os::now_nanos();
        Ok(())
    }

    fn clear_results(&mut self) {
        self.results.clear();
        self.results.shrink_to(BUFFER_KEPT);
        self.results.resize(RESULTS_HEAD, 0);
    }
}
