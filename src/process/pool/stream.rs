//! Outcomes one by one: `imap` and `imap_unordered`.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::feeder::Feeder;
use super::sink::{Hook, Progress, Sink, decode_each};
use super::wire::Shown;
use crate::error::{Error, Result};

/// The results of [`Pool::imap`](crate::Pool::imap), in the order of items, or of
/// [`Pool::imap_unordered`](crate::Pool::imap_unordered), as they come.
///
/// Items are drawn from their iterator when results are asked for, so far ahead that the workers have enough to do; so the
/// iterator may be endless. An item that fails is an error in its place, and the others go on. Dropped, it takes back what
/// no worker has been given.
///
/// # Blocking
/// `next` waits for the next result.
pub struct Results<R, I: Iterator> {
    feeder: Feeder<I::Item>,
    /// `None` once it has ended.
    items: Option<I>,
    stream: Arc<Stream<R>>,
    /// Items drawn, and results yielded.
    drawn: u64,
    yielded: u64,
    /// How far to draw ahead.
    ahead: u64,
    /// Why nothing more can be submitted.
    refused: Option<Error>,
}

impl<R, I: Iterator> Results<R, I>
where
    I::Item: Serialize + Send + 'static,
{
    /// Over `items`, of which the first are submitted at once.
    pub(super) fn new(feeder: Feeder<I::Item>, stream: Arc<Stream<R>>, items: I, ahead: u64) -> Self {
        let mut results = Results { feeder, items: Some(items), stream, drawn: 0, yielded: 0, ahead, refused: None };
        results.draw();
        results
    }

    fn draw(&mut self) {
        while self.drawn - self.yielded < self.ahead
            && let Some(items) = &mut self.items
        {
            let pushed = match items.next() {
                Some(item) => {
                    self.drawn += 1;
                    self.feeder.push(item)
                }
                None => {
                    self.items = None;
                    self.feeder.flush()
                }
            };
            if let Err(error) = pushed {
                // What is in the chunk that was refused never ran.
                self.drawn = self.feeder.submitted();
                self.items = None;
                self.refused = Some(error);
            }
        }
    }
}

impl<R, I: Iterator> Iterator for Results<R, I>
where
    I::Item: Serialize + Send + 'static,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        self.draw();
        if self.yielded == self.drawn {
            return self.refused.take().map(Err);
        }
        let outcome = self.stream.wait();
        self.yielded += 1;
        Some(outcome)
    }
}

impl<R, I: Iterator> FusedIterator for Results<R, I> where I::Item: Serialize + Send + 'static {}

impl<R, I: Iterator> Drop for Results<R, I> {
    fn drop(&mut self) {
        self.stream.abandoned.store(true, Ordering::Relaxed); // whoever misses it does work for nothing
    }
}

impl<R, I: Iterator> fmt::Debug for Results<R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("drawn", &self.drawn).field("yielded", &self.yielded).finish_non_exhaustive()
    }
}

/// What has arrived and was not asked for yet.
pub struct Stream<R> {
    arrived: Mutex<Arrived<R>>,
    more: Condvar,
    /// Not under the lock: a hook, which runs under it, may use the pool.
    abandoned: AtomicBool,
    ordered: bool,
    total: Option<u64>,
}

struct Arrived<R> {
    /// In order, from the first that was not yielded; or as they came.
    outcomes: VecDeque<Option<Result<R>>>,
    yielded: u64,
    done: u64,
    hook: Option<Hook>,
}

impl<R> Stream<R> {
    /// Of `total` results, if that is known.
    pub fn new(ordered: bool, total: Option<u64>, hook: Option<Hook>) -> Stream<R> {
        let arrived = Arrived { outcomes: VecDeque::new(), yielded: 0, done: 0, hook };
        Stream { arrived: Mutex::new(arrived), more: Condvar::new(), abandoned: AtomicBool::new(false), ordered, total }
    }

    fn wait(&self) -> Result<R> {
        let mut arrived = self.arrived.lock();
        loop {
            if let Some(Some(_)) = arrived.outcomes.front()
                && let Some(Some(outcome)) = arrived.outcomes.pop_front()
            {
                arrived.yielded += 1;
                return outcome;
            }
            self.more.wait(&mut arrived);
        }
    }

    fn put(&self, arrived: &mut Arrived<R>, index: u64, outcome: Result<R>) {
        arrived.done += 1;
        if !self.ordered {
            arrived.outcomes.push_back(Some(outcome));
            return;
        }
        let place = index.saturating_sub(arrived.yielded) as usize;
        while arrived.outcomes.len() <= place {
            arrived.outcomes.push_back(None);
        }
        arrived.outcomes[place] = Some(outcome);
    }

    fn settle(&self, arrived: &mut Arrived<R>) {
        let done = arrived.done;
        if let Some(hook) = &mut arrived.hook {
            let told = catch_unwind(AssertUnwindSafe(|| hook(Progress { done, total: self.total })));
            if told.is_err() {
                arrived.hook = None;
            }
        }
        self.more.notify_one();
    }
}

impl<R: DeserializeOwned + Send + 'static> Sink for Stream<R> {
    fn take(&self, first: u64, count: u32, records: &[u8]) {
        let mut arrived = self.arrived.lock();
        decode_each(count, records, |index, outcome| self.put(&mut arrived, first + index, outcome));
        self.settle(&mut arrived);
    }

    fn fail(&self, first: u64, count: u32, error: &Shown) {
        let mut arrived = self.arrived.lock();
        for index in first..first + u64::from(count) {
            self.put(&mut arrived, index, Err(error.error()));
        }
        self.settle(&mut arrived);
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}
