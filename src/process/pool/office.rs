//! The parent's two threads, and what they and the callers share.
//!
//! The *keeper* starts workers, watches all of them, reaps those that have ended, and says so in the queue of results,
//! behind everything that the dead one has sent. The *clerk* takes what comes through that queue, in order.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::chunk::{Delivery, Effects};
use super::crew::Crew;
use super::member::{DEPTH, Member};
use super::wire::{self, END, Shown};
use super::worker::{Initializer, Setup, work};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, Bell, Secret, Watched};
use crate::process::Process;
use crate::{Manager, Queue};

/// Messages that the clerk takes under one lock.
const BATCH: usize = 64;
/// Messages that the queue of results holds.
const RESULTS_ROOM: usize = 4096;
/// Room in the queue of a worker, for more than the chunks that it is given at a time.
const TASKS_ROOM: usize = 2 * DEPTH;
/// Pause after a process could not be started.
const START_AGAIN: Duration = Duration::from_millis(10);

/// What callers and threads share.
pub struct Office {
    pub manager: Manager,
    pub secret: Secret,
    results: Queue<Vec<u8>>,
    start: Start,
    crew: Mutex<Crew>,
    /// Seats that the keeper is to start a worker for.
    orders: Mutex<Vec<usize>>,
    bell: Bell,
    /// The process that made the pool; a forked child has none of its threads.
    process: u64,
}

/// How to start a worker.
pub struct Start {
    pub name: String,
    pub initializer: Option<Initializer>,
    /// The program, if it is another one.
    #[cfg(feature = "linkme")]
    pub program: Option<std::path::PathBuf>,
}

/// A worker as the keeper has it.
pub struct Child {
    seat: usize,
    process: Started,
    watched: Arc<Watched>,
}

/// A worker's process.
enum Started {
    Own(Process<()>),
    #[cfg(feature = "linkme")]
    Foreign(super::foreign::Foreign),
}

impl Started {
    fn pid(&self) -> u32 {
        match self {
            Started::Own(process) => process.pid(),
            #[cfg(feature = "linkme")]
            Started::Foreign(process) => process.pid(),
        }
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        match self {
            Started::Own(process) => process.sentinel(),
            #[cfg(feature = "linkme")]
            Started::Foreign(process) => process.pidfd(),
        }
    }

    fn kill(&self) {
        // Fails only for a process that has changed its user.
        match self {
            Started::Own(process) => drop(process.kill()),
            #[cfg(feature = "linkme")]
            Started::Foreign(process) => process.kill(),
        }
    }

    fn join(self) -> Result<()> {
        match self {
            Started::Own(process) => process.join(),
            #[cfg(feature = "linkme")]
            Started::Foreign(process) => process.join(),
        }
    }
}

impl Start {
    fn start(&self, seat: usize, setup: Setup) -> Result<Started> {
        #[cfg(feature = "linkme")]
        if let Some(program) = &self.program {
            return super::foreign::Foreign::start(program, setup).map(Started::Foreign);
        }
        let builder = Process::builder().name(format!("{}-{seat}", self.name)).kill_with_parent(true);
        builder.spawn(setup, work).map(Started::Own)
    }
}

impl Office {
    /// Of a pool with that crew.
    pub fn new(manager: Manager, crew: Crew, start: Start) -> Result<Office> {
        let results = manager.queue(RESULTS_ROOM)?;
        Ok(Office {
            manager,
            secret: Secret::new(),
            results,
            start,
            crew: Mutex::new(crew),
            orders: Mutex::default(),
            bell: Bell::new().map_err(|e| Error::from_io(e, "a pool's bell"))?,
            process: os::generation(),
        })
    }

    /// Whether this process made the pool.
    pub fn is_ours(&self) -> bool {
        self.process == os::generation()
    }

    /// Whether the workers are of another program.
    pub fn is_foreign(&self) -> bool {
        #[cfg(feature = "linkme")]
        return self.start.program.is_some();
        #[cfg(not(feature = "linkme"))]
        false
    }

    /// The crew.
    ///
    /// # Errors
    /// `InvalidInput` in a forked child, where nobody would ever answer.
    pub fn crew(&self) -> Result<MutexGuard<'_, Crew>> {
        match self.is_ours() {
            true => Ok(self.crew.lock()),
            false => Err(Error::new(ErrorKind::InvalidInput, "a pool belongs to the process that made it")),
        }
    }

    /// Does something with the crew, and then what that leads to.
    pub fn with_crew<T>(&self, f: impl FnOnce(&mut Crew, &mut Effects) -> T) -> Result<T> {
        let mut effects = Effects::default();
        let mut crew = self.crew()?;
        let result = f(&mut crew, &mut effects);
        let done = crew.done;
        drop(crew);
        if done {
            self.bell.ring(); // before user code runs, which may wait for the threads
        }
        self.carry_out(effects);
        Ok(result)
    }

    fn carry_out(&self, effects: Effects) {
        for delivery in effects.deliveries {
            // User code: decoding, hooks, callbacks. Whatever it does, the others get their results.
            let guarded = |f: &dyn Fn()| drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)));
            match delivery {
                Delivery::Records { chunk, first, count, records, from } => {
                    guarded(&|| chunk.take(first, count, &records));
                    if let Some((seat, pid)) = from {
                        self.crew.lock().note_taken(seat, pid);
                    }
                }
                Delivery::Failed { chunk, first, count, error } => guarded(&|| chunk.fail(first, count, &error)),
            }
        }
        for chunk in effects.garbage {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(chunk)));
        }
    }

    /// Starts a worker for `seat`, which has none.
    pub fn start(&self, seat: usize) -> Result<Child> {
        let tasks = self.manager.queue(TASKS_ROOM)?;
        let board = self.crew.lock().seats[seat].board.clone();
        board.words()?.reset();
        let setup = Setup {
            tasks: tasks.clone(),
            results: self.results.clone(),
            board,
            secret: self.secret.clone(),
            initializer: self.start.initializer.clone(),
        };
        let process = self.start.start(seat, setup)?;
        let watched = Watched::over(process.pidfd()).map_err(|error| {
            process.kill(); // nobody would ever end it
            Error::from_io(error, "watching a worker")
        })?;
        let child = Child { seat, watched: Arc::new(watched), process };
        let member = Member::new(child.process.pid(), Arc::clone(&child.watched), tasks);
        self.with_crew(|crew, effects| crew.seat(seat, member, effects))?;
        Ok(child)
    }

    /// Kills workers that nobody will watch.
    pub fn abandon(&self, children: Vec<Child>) {
        let why = Shown::of(&Error::new(ErrorKind::Closed, "a pool that could not be started"));
        let _ = self.with_crew(|crew, effects| crew.end(&why, effects));
        children.into_iter().for_each(|child| drop(child.process.join()));
    }

    fn order(&self, seat: usize) {
        self.orders.lock().push(seat);
        self.bell.ring();
    }

    /// The keeper's work, until nobody is left.
    pub fn keep(&self, mut children: Vec<Child>) {
        while !self.crew.lock().done {
            let orders = std::mem::take(&mut *self.orders.lock()); // and let go of the lock: filling may order again
            for seat in orders {
                children.extend(self.fill(seat));
            }
            let watched: Vec<&Watched> = children.iter().map(|child| &*child.watched).collect();
            match self.bell.wait(&watched) {
                Ok(ended) => ended.into_iter().rev().for_each(|index| self.reap(children.swap_remove(index))),
                Err(error) => {
                    let why = Shown::of(&Error::from_io(error, "watching the workers of a pool"));
                    let _ = self.with_crew(|crew, effects| crew.end(&why, effects));
                    children.drain(..).for_each(|child| self.reap(child));
                }
            }
        }
        // None, unless the clerk gave up.
        children.iter().for_each(|child| child.watched.kill());
        children.into_iter().for_each(|child| drop(child.process.join()));
    }

    fn fill(&self, seat: usize) -> Option<Child> {
        // Since the order everything may have come to its end.
        if !self.crew.lock().is_wanted(seat) {
            self.tell_of_end(seat);
            return None;
        }
        match self.start(seat) {
            Ok(child) => Some(child),
            Err(error) => {
                match self.with_crew(|crew, effects| crew.note_failed_start(seat, &error, effects)) {
                    Ok(true) => {
                        std::thread::sleep(START_AGAIN);
                        self.order(seat);
                    }
                    _ => self.tell_of_end(seat),
                }
                None
            }
        }
    }

    fn reap(&self, child: Child) {
        let end = child.process.join().map_err(|error| Shown::of(&error));
        // Its place in the segment is free for the next; nothing else depends on it.
        let _ = self.manager.recover();
        self.crew.lock().note_end(child.seat, end);
        self.tell_of_end(child.seat);
    }

    /// Tells the clerk, behind whatever the worker of `seat` has sent.
    fn tell_of_end(&self, seat: usize) {
        let message = wire::results_head(END, seat as u32, 0);
        if let Err(error) = self.results.put(&message.to_vec()) {
            self.give_up(&error);
        }
    }

    /// Ends the pool without waiting for anybody: its queue is of no use any more.
    #[cold]
    pub fn give_up(&self, error: &Error) {
        let _ = self.with_crew(|crew, effects| {
            crew.end(&Shown::of(error), effects);
            crew.done = true;
        });
        let _ = self.results.close();
    }

    /// The clerk's work, until nobody is left.
    pub fn clerk(&self) {
        loop {
            let messages = match self.results.get_batch(BATCH) {
                Ok(messages) => messages,
                Err(error) => return self.give_up(&error),
            };
            let mut vacant = Vec::new();
            let settled = self.with_crew(|crew, effects| {
                for message in &messages {
                    match wire::results(message) {
                        Some((END, seat, ..)) => {
                            let seat = seat as usize;
                            if crew.settle(seat, effects) {
                                vacant.push(seat);
                            }
                        }
                        _ => {
                            if let Err(error) = crew.receive(message, effects) {
                                crew.end(&Shown::of(&error), effects);
                            }
                        }
                    }
                }
                crew.dispatch(effects);
                crew.done
            });
            vacant.into_iter().for_each(|seat| self.order(seat));
            if !matches!(settled, Ok(false)) {
                return;
            }
        }
    }
}
