//! All outcomes of a call at once: the result of `apply` and `map`, and of their async forms.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::de::DeserializeOwned;

use super::sink::{Hook, Progress, Sink, decode_each};
use super::wire::Shown;
use crate::error::{Error, ErrorKind, Result};

/// A result to come, of [`Pool::apply_async`](crate::Pool::apply_async) or [`Pool::map_async`](crate::Pool::map_async).
///
/// Dropped, it changes nothing: the tasks run, and what they return is thrown away.
///
/// # Examples
/// ```
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let pool = commons::Pool::new(2)?;
///     let squares = pool.map_async(|n: u64| n * n, 0..10)?;
///     let answer = pool.apply_async(|text: String| text.len(), "four".to_owned())?;
///     assert_eq!(answer.get()?, 4);
///     assert_eq!(squares.get()?[9], 81);
///     Ok(())
/// }
/// ```
pub struct AsyncResult<T>(Arc<Promise<T>>);

/// What one thread makes and another waits for.
pub struct Promise<T> {
    state: Mutex<State<T>>,
    made: Condvar,
}

type Callback<T> = Box<dyn FnOnce(Result<T>) + Send>;

enum State<T> {
    Pending,
    Calling(Callback<T>),
    Ready(Result<T>),
    Taken,
}

impl<T> Promise<T> {
    fn new() -> Arc<Promise<T>> {
        Arc::new(Promise { state: Mutex::new(State::Pending), made: Condvar::new() })
    }

    fn make(&self, result: Result<T>) {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Calling(callback) => {
                drop(state);
                callback(result);
                return;
            }
            State::Pending => *state = State::Ready(result),
            taken => *state = taken,
        }
        drop(state);
        self.made.notify_all();
    }
}

impl<T> AsyncResult<T> {
    /// The result, when it is there.
    ///
    /// # Blocking
    /// Until every task of the call has ended, whether or not some failed.
    ///
    /// # Errors
    /// That of the first task, in the order of items, that failed: `Panicked` with its message, and the backtrace if
    /// `RUST_BACKTRACE` asks for one; `Process`, naming signal or exit code, if its worker died; `Encode`, `Decode`, `Stale`
    /// and the like of its arguments or result. `Closed` if the pool was terminated.
    pub fn get(self) -> Result<T> {
        self.wait();
        match std::mem::replace(&mut *self.0.state.lock(), State::Taken) {
            State::Ready(result) => result,
            _ => Err(taken()),
        }
    }

    /// The result, if it comes within `timeout`; `None` if it does not. Once this has returned anything else, the result
    /// is gone.
    ///
    /// # Errors
    /// As [`get`](AsyncResult::get); `InvalidInput` if the result is gone.
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<Option<T>> {
        if !self.wait_timeout(timeout) {
            return Ok(None);
        }
        match std::mem::replace(&mut *self.0.state.lock(), State::Taken) {
            State::Ready(result) => result.map(Some),
            _ => Err(taken()),
        }
    }

    /// Waits for it.
    pub fn wait(&self) {
        let mut state = self.0.state.lock();
        while matches!(*state, State::Pending) {
            self.0.made.wait(&mut state);
        }
    }

    /// Waits for it for at most `timeout`. Whether it is there.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let end = Instant::now().checked_add(timeout);
        let mut state = self.0.state.lock();
        while matches!(*state, State::Pending) {
            match end {
                Some(end) if self.0.made.wait_until(&mut state, end).timed_out() => break,
                Some(_) => {}
                None => self.0.made.wait(&mut state),
            }
        }
        !matches!(*state, State::Pending)
    }

    /// Whether it is there.
    pub fn is_ready(&self) -> bool {
        !matches!(*self.0.state.lock(), State::Pending)
    }

    /// Has `callback` called with it, at once if it is there, else by the thread that handles the pool's results. That one
    /// must not be kept: a callback that waits for another result of the pool waits for ever.
    ///
    /// # Panics
    /// A callback that panics on that thread is reported by the panic hook, and has no other effect.
    pub fn on_done(self, callback: impl FnOnce(Result<T>) + Send + 'static) {
        let mut state = self.0.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ready(result) => {
                drop(state);
                callback(result);
            }
            State::Pending => *state = State::Calling(Box::new(callback)),
            other => *state = other,
        }
    }
}

#[cold]
fn taken() -> Error {
    Error::new(ErrorKind::InvalidInput, "the result has been taken")
}

impl<T> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

/// Gathers the outcomes of a known number of tasks, and makes a promise true with the last.
pub struct Gather<R, T> {
    outcomes: Mutex<Outcomes<R>>,
    promise: Arc<Promise<T>>,
    finish: fn(Vec<R>) -> Result<T>,
}

struct Outcomes<R> {
    found: Vec<Option<Result<R>>>,
    done: u64,
    hook: Option<Hook>,
}

impl<R, T> Gather<R, T> {
    /// For `total` tasks, of whose values `finish` makes the result.
    pub fn new(total: usize, hook: Option<Hook>, finish: fn(Vec<R>) -> Result<T>) -> (Gather<R, T>, AsyncResult<T>) {
        let promise = Promise::new();
        if total == 0 {
            promise.make(finish(Vec::new()));
        }
        let found = std::iter::repeat_with(|| None).take(total).collect();
        let outcomes = Mutex::new(Outcomes { found, done: 0, hook });
        (Gather { outcomes, promise: Arc::clone(&promise), finish }, AsyncResult(promise))
    }

    fn put(&self, outcomes: &mut Outcomes<R>, index: u64, outcome: Result<R>) {
        if let Some(place @ None) = outcomes.found.get_mut(index as usize) {
            *place = Some(outcome);
            outcomes.done += 1;
        }
    }

    /// Tells of progress, and of the end.
    fn settle(&self, outcomes: &mut Outcomes<R>) {
        let (done, total) = (outcomes.done, outcomes.found.len() as u64);
        if let Some(hook) = &mut outcomes.hook {
            let told = catch_unwind(AssertUnwindSafe(|| hook(Progress { done, total: Some(total) })));
            if told.is_err() {
                outcomes.hook = None;
            }
        }
        if done == total {
            let found: Result<Vec<R>> = std::mem::take(&mut outcomes.found).into_iter().flatten().collect();
            self.promise.make(found.and_then(self.finish));
        }
    }
}

impl<R: DeserializeOwned + Send + 'static, T: Send> Sink for Gather<R, T> {
    fn take(&self, first: u64, count: u32, records: &[u8]) {
        let mut outcomes = self.outcomes.lock();
        decode_each(count, records, |index, outcome| self.put(&mut outcomes, first + index, outcome));
        self.settle(&mut outcomes);
    }

    fn fail(&self, first: u64, count: u32, error: &Shown) {
        let mut outcomes = self.outcomes.lock();
        for index in first..first + u64::from(count) {
            self.put(&mut outcomes, index, Err(error.error()));
        }
        self.settle(&mut outcomes);
    }
}
