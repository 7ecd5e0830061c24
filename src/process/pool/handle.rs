//! [`Pool`], its options, and its end.

use std::fmt;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::board::BoardHandle;
use super::call::Call;
use super::crew::{Crew, Phase, Policy};
use super::function::names;
use super::gather::AsyncResult;
use super::member::Seat;
use super::office::{Office, Start};
use super::sink::Kept;
use super::stream::Results;
use super::wire::Shown;
use super::worker::Initializer;
use crate::Manager;
use crate::error::{Error, ErrorKind, Result};

/// Most workers of a pool: a segment has room for 256 processes.
const MOST: usize = 240;

/// Worker processes that run functions on items.
///
/// The workers are fresh processes of the same program, whose `main` must begin with [`init`](crate::init). Functions are
/// `fn` pointers, or closures that capture nothing. Arguments and results go by serde, [handles](crate::Dict) anywhere in
/// them included.
///
/// Dropped, a pool [terminates](Pool::terminate). Use it from as many threads as you like.
///
/// # Crash
/// A worker that dies, by whatever death, costs the task that it was running and nothing else: that task is an error of kind
/// `Process` that names signal or exit code, or is run again as the pool's [retries](PoolBuilder::retries) allow. Tasks of
/// the same chunk that it had ended count; those that it had not begun go to others. No task is begun twice, but by a
/// retry. The worker is replaced at once. When the parent dies, its workers are killed.
///
/// # Blocking
/// A worker without work, and a caller that waits, sleep in the kernel. While workers are busy no task needs a system call.
///
/// # Errors
/// Calls fail with `Closed` after [`close`](Pool::close) or [`terminate`](Pool::terminate), and with the reason if the
/// pool gave up: because workers do not get through the [initializer](PoolBuilder::initializer), or `Corrupted`.
///
/// # Examples
/// ```
/// use commons::Pool;
///
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let pool = Pool::new(2)?;
///     assert_eq!(pool.map(|n: u64| n * n, 1..=4)?, [1, 4, 9, 16]);
///     assert_eq!(pool.apply(|text: String| text.len(), "four".to_owned())?, 4);
///     for square in pool.imap(|n: u64| n * n, 0..)?.take(3) {
///         println!("{}", square?);
///     }
///     pool.close()?;
///     pool.join()
/// }
/// ```
pub struct Pool {
    office: Arc<Office>,
    processes: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The same threads; not under the lock that whoever joins them holds meanwhile.
    thread_ids: Mutex<Vec<ThreadId>>,
    /// What the initializer's arguments need.
    _kept: Option<Kept>,
}

/// Options for a new [`Pool`].
#[derive(Clone, Default)]
#[must_use]
pub struct PoolBuilder {
    processes: Option<usize>,
    manager: Option<Manager>,
    tasks_per_child: Option<usize>,
    retries: u32,
    name: Option<String>,
    initializer: Option<std::result::Result<Initializer, Shown>>,
    kept: Option<Kept>,
    #[cfg(feature = "linkme")]
    program: Option<std::path::PathBuf>,
}

impl PoolBuilder {
    /// How many workers; as many as the machine runs in parallel, unless stated.
    pub fn processes(mut self, count: usize) -> PoolBuilder {
        self.processes = Some(count);
        self
    }

    /// The segment that tasks and results go through; an anonymous one of the pool's own, unless stated.
    pub fn manager(mut self, manager: &Manager) -> PoolBuilder {
        self.manager = Some(manager.clone());
        self
    }

    /// Tasks after which a worker ends and another takes its place; none, unless stated. A worker finishes its chunk.
    pub fn tasks_per_child(mut self, tasks: usize) -> PoolBuilder {
        self.tasks_per_child = Some(tasks);
        self
    }

    /// How often a task is run again whose worker died; never, unless stated.
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.retries = retries;
        self
    }

    /// The workers' name in errors and in `ps`, with a number; `pool`, unless stated.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.name = Some(name.into());
        self
    }

    /// Has every worker call `function` with `args` before its first task. If it panics, the pool gives up, and every call
    /// fails with that panic.
    pub fn initializer<A>(mut self, args: A, function: fn(A)) -> PoolBuilder
    where
        A: Serialize + DeserializeOwned + Send + 'static,
    {
        self.initializer = Some(Initializer::new(&args, function).map_err(|error| Shown::of(&error)));
        self.kept = Some(Arc::new(Mutex::new(Box::new(args))));
        self
    }

    /// The program to start as a worker, instead of this one once more: its `main` must call
    /// [`serve_pool`](crate::serve_pool) and nothing else. Such workers run [named tasks](crate::named_task) only.
    #[cfg(feature = "linkme")]
    pub fn program(mut self, path: impl Into<std::path::PathBuf>) -> PoolBuilder {
        self.program = Some(path.into());
        self
    }

    /// Starts the workers.
    ///
    /// # Blocking
    /// Until their processes have been started, not until they are ready.
    ///
    /// # Errors
    /// `InvalidInput` for no processes, more than 240, or no tasks per child; `Process` if [`init`](crate::init) was not
    /// called or the system could not start them; `Encode` of the initializer's arguments; `OutOfMemory`.
    pub fn build(&self) -> Result<Pool> {
        let processes = match self.processes {
            Some(count) => count,
            None => std::thread::available_parallelism().map_or(1, |count| count.get().min(MOST)),
        };
        if !(1..=MOST).contains(&processes) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("a pool of {processes} processes")));
        }
        if self.tasks_per_child == Some(0) {
            return Err(Error::new(ErrorKind::InvalidInput, "workers that end before their first task"));
        }
        let initializer = self.initializer.clone().transpose().map_err(|shown| shown.error())?;
        let manager = self.manager.clone().map_or_else(Manager::new, Ok)?;
        let seat = |_| Ok(Seat { board: BoardHandle::new(&manager)?, member: None, starting: false });
        let seats: Vec<Seat> = (0..processes).map(seat).collect::<Result<_>>()?;
        let tasks_per_child = self.tasks_per_child.map(|tasks| tasks as u64);
        let crew = Crew::new(seats, Policy { tasks_per_child, retries: self.retries });
        let name = self.name.clone().unwrap_or_else(|| "pool".to_owned());
        let start = Start {
            name,
            initializer,
            #[cfg(feature = "linkme")]
            program: self.program.clone(),
        };
        #[cfg(feature = "linkme")]
        if start.program.is_some() && start.initializer.is_some() {
            return Err(Error::new(ErrorKind::InvalidInput, "an initializer for workers of another program"));
        }
        let office = Arc::new(Office::new(manager, crew, start)?);
        // Dropped on an error: the processes that were started are killed.
        let (threads, thread_ids) = (Mutex::default(), Mutex::default());
        let pool = Pool { office, processes, threads, thread_ids, _kept: self.kept.clone() };
        let mut children = Vec::with_capacity(processes);
        for seat in 0..processes {
            match pool.office.start(seat) {
                Ok(child) => children.push(child),
                Err(error) => {
                    pool.office.abandon(children);
                    return Err(error);
                }
            }
        }
        let (keeper, clerk) = (Arc::clone(&pool.office), Arc::clone(&pool.office));
        let started = pool
            .start_thread("commons-clerk", move || clerk.clerk())
            .and_then(|()| pool.start_thread("commons-keeper", move || keeper.keep(children)));
        match started {
            Ok(()) => Ok(pool),
            Err(error) => {
                pool.office.give_up(&error);
                Err(error)
            }
        }
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("processes", &self.processes)
            .field("tasks_per_child", &self.tasks_per_child)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of so many workers, with default options.
    ///
    /// # Errors
    /// As [`PoolBuilder::build`].
    pub fn new(processes: usize) -> Result<Pool> {
        PoolBuilder::default().processes(processes).build()
    }

    /// Options for a new pool.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    fn start_thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        let thread = thread.map_err(|e| Error::from_io(e, "starting a thread of a pool"))?;
        self.thread_ids.lock().push(thread.thread().id());
        self.threads.lock().push(thread);
        Ok(())
    }

    /// A call with options: chunk size, progress.
    ///
    /// # Examples
    /// ```
    /// fn main() -> commons::Result<()> {
    ///     commons::init();
    ///     let pool = commons::Pool::new(2)?;
    ///     let show = |progress: commons::Progress| eprintln!("{} of {:?}", progress.done, progress.total);
    ///     let squares = pool.call().chunk_size(25).on_progress(show).map(|n: u64| n * n, 0..100)?;
    ///     assert_eq!(squares[99], 9801);
    ///     Ok(())
    /// }
    /// ```
    pub fn call(&self) -> Call<'_> {
        Call::new(&self.office, self.processes)
    }

    /// What `function` returns for `args`, run by a worker.
    ///
    /// # Errors
    /// As [`AsyncResult::get`], and of the [pool](Pool#errors).
    pub fn apply<A, R>(&self, function: fn(A) -> R, args: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.apply_async(function, args)?.get()
    }

    /// The same, to be waited for later, or to be given to a [callback](AsyncResult::on_done).
    ///
    /// # Errors
    /// Of the [pool](Pool#errors).
    pub fn apply_async<A, R>(&self, function: fn(A) -> R, args: A) -> Result<AsyncResult<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.call().apply(names(&self.office, function)?, args)
    }

    /// What `function` returns for each of `items`, in their order. Waits for all of them, also if some fail.
    ///
    /// # Errors
    /// As [`AsyncResult::get`], and of the [pool](Pool#errors).
    pub fn map<A, R>(&self, function: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.call().map(function, items)
    }

    /// The same, to be waited for later, or to be given to a [callback](AsyncResult::on_done).
    ///
    /// # Errors
    /// Of the [pool](Pool#errors).
    pub fn map_async<A, R>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.call().map_async(function, items)
    }

    /// [`map`](Pool::map) of a function of two arguments. One of more takes a tuple, by `map`.
    ///
    /// # Errors
    /// As `map`.
    pub fn starmap<A, B, R>(&self, function: fn(A, B) -> R, items: impl IntoIterator<Item = (A, B)>) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        B: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.call().starmap(function, items)
    }

    /// The same, to be waited for later, or to be given to a [callback](AsyncResult::on_done).
    ///
    /// # Errors
    /// Of the [pool](Pool#errors).
    pub fn starmap_async<A, B, R>(
        &self,
        function: fn(A, B) -> R,
        items: impl IntoIterator<Item = (A, B)>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        B: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.call().starmap_async(function, items)
    }

    /// What `function` returns for each of `items`, in their order, one by one as it is asked for.
    ///
    /// # Errors
    /// Of the [pool](Pool#errors); that of an item stands in its place.
    pub fn imap<A, R, I>(&self, function: fn(A) -> R, items: I) -> Result<Results<R, I::IntoIter>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.call().imap(function, items)
    }

    /// What `function` returns for each of `items`, whichever comes first.
    ///
    /// # Errors
    /// As [`imap`](Pool::imap).
    pub fn imap_unordered<A, R, I>(&self, function: fn(A) -> R, items: I) -> Result<Results<R, I::IntoIter>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.call().imap_unordered(function, items)
    }

    /// The process ids of the workers that live now.
    pub fn pids(&self) -> Vec<u32> {
        let crew = self.office.crew();
        crew.map_or_else(
            |_| Vec::new(),
            |crew| crew.seats.iter().filter_map(|seat| Some(seat.member.as_ref()?.pid)).collect(),
        )
    }

    /// Takes no more work. What was submitted is done, and then the workers end. Closing again does nothing.
    ///
    /// # Errors
    /// `InvalidInput` in a process forked from the one that made the pool.
    pub fn close(&self) -> Result<()> {
        self.office.with_crew(|crew, effects| crew.close(effects))
    }

    /// Kills the workers. Every task without a result gets an error of kind `Closed`.
    ///
    /// # Errors
    /// As [`close`](Pool::close).
    pub fn terminate(&self) -> Result<()> {
        let why = Shown::of(&Error::new(ErrorKind::Closed, "a pool that was terminated"));
        self.office.with_crew(|crew, effects| crew.end(&why, effects))
    }

    /// Waits until the workers have ended, after [`close`](Pool::close) or [`terminate`](Pool::terminate).
    ///
    /// # Errors
    /// `InvalidInput` if the pool is open, or from one of its own callbacks, which it would wait for.
    pub fn join(&self) -> Result<()> {
        if matches!(self.office.crew()?.phase, Phase::Open) {
            return Err(Error::new(ErrorKind::InvalidInput, "joining a pool that is open"));
        }
        if self.thread_ids.lock().contains(&std::thread::current().id()) {
            return Err(Error::new(ErrorKind::InvalidInput, "joining a pool from its own callback"));
        }
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A forked copy of it is nobody's pool.
        if self.office.is_ours() {
            let _ = self.terminate();
            let _ = self.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("processes", &self.processes).finish_non_exhaustive()
    }
}
