//! How a pool is called: chunk size and progress, and then the forms of `map`.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::feeder::Feeder;
use super::function::names;
use super::gather::{AsyncResult, Gather};
use super::office::Office;
use super::sink::{Hook, Progress};
use super::stream::{Results, Stream};
use super::wire::Names;
use crate::error::{Error, ErrorKind, Result};

/// Chunks that an automatic size makes for each worker.
const CHUNKS_PER_WORKER: usize = 4;
/// Chunks for each worker that `imap` draws ahead.
const CHUNKS_AHEAD: u64 = 16;

/// A call of a pool, with options; see [`Pool::call`](crate::Pool::call).
#[must_use = "it does nothing before `map` or one of the others"]
pub struct Call<'p> {
    office: &'p Arc<Office>,
    processes: usize,
    chunk_size: Option<usize>,
    hook: Option<Hook>,
}

impl<'p> Call<'p> {
    pub(super) fn new(office: &'p Arc<Office>, processes: usize) -> Call<'p> {
        Call { office, processes, chunk_size: None, hook: None }
    }

    /// How many items travel together to a worker. Unless stated, a `map` is cut into four chunks for each worker, and an
    /// `imap` into single items.
    ///
    /// Results are told when a chunk ends, or has taken a millisecond since they last were.
    pub fn chunk_size(mut self, items: usize) -> Call<'p> {
        self.chunk_size = Some(items);
        self
    }

    /// Has `hook` called as outcomes come, by the thread that handles the pool's results: what it does should be short,
    /// like moving a progress bar.
    ///
    /// # Panics
    /// A hook that panics is reported by the panic hook, and not called again.
    pub fn on_progress(mut self, hook: impl FnMut(Progress) + Send + 'static) -> Call<'p> {
        self.hook = Some(Box::new(hook));
        self
    }

    /// As [`Pool::map`](crate::Pool::map).
    pub fn map<A, R>(self, function: fn(A) -> R, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.map_async(function, items)?.get()
    }

    /// As [`Pool::map_async`](crate::Pool::map_async).
    pub fn map_async<A, R>(
        self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let names = names(self.office, function)?;
        self.gather(names, items.into_iter().collect(), Ok)
    }

    /// As [`Pool::starmap`](crate::Pool::starmap).
    pub fn starmap<A, B, R>(self, function: fn(A, B) -> R, items: impl IntoIterator<Item = (A, B)>) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        B: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.starmap_async(function, items)?.get()
    }

    /// As [`Pool::starmap_async`](crate::Pool::starmap_async).
    pub fn starmap_async<A, B, R>(
        self,
        function: fn(A, B) -> R,
        items: impl IntoIterator<Item = (A, B)>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        B: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let names = names(self.office, function)?;
        self.gather(names, items.into_iter().collect(), Ok)
    }

    /// As [`Pool::imap`](crate::Pool::imap).
    pub fn imap<A, R, I>(self, function: fn(A) -> R, items: I) -> Result<Results<R, I::IntoIter>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        let names = names(self.office, function)?;
        self.stream(true, names, items.into_iter())
    }

    /// As [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    pub fn imap_unordered<A, R, I>(self, function: fn(A) -> R, items: I) -> Result<Results<R, I::IntoIter>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        let names = names(self.office, function)?;
        self.stream(false, names, items.into_iter())
    }

    pub(super) fn apply<A, R>(self, names: Names, args: A) -> Result<AsyncResult<R>>
    where
        A: Serialize + Send + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        self.gather(names, vec![args], |mut values| values.pop().ok_or_else(|| Error::corrupted("a pool's result")))
    }

    fn checked_chunk_size(&self, automatic: usize) -> Result<u32> {
        let chunk_size = self.chunk_size.unwrap_or(automatic.max(1));
        let fits = u32::try_from(chunk_size).ok().filter(|size| (1..=u32::MAX / 4).contains(size));
        fits.ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("chunks of {chunk_size} items")))
    }

    pub(super) fn gather<A, R, T>(
        self,
        names: Names,
        items: Vec<A>,
        finish: fn(Vec<R>) -> Result<T>,
    ) -> Result<AsyncResult<T>>
    where
        A: Serialize + Send + 'static,
        R: DeserializeOwned + Send + 'static,
        T: Send + 'static,
    {
        let chunk_size = self.checked_chunk_size(items.len().div_ceil(CHUNKS_PER_WORKER * self.processes))?;
        self.office.crew()?.takes_work()?;
        let (gather, result) = Gather::new(items.len(), self.hook, finish);
        let mut feeder = Feeder::new(self.office, Arc::new(gather), names, chunk_size, self.chunk_size.is_none());
        for item in items {
            feeder.push(item)?;
        }
        feeder.flush()?;
        Ok(result)
    }

    pub(super) fn stream<R, I: Iterator>(self, ordered: bool, names: Names, items: I) -> Result<Results<R, I>>
    where
        I::Item: Serialize + Send + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let chunk_size = self.checked_chunk_size(1)?;
        self.office.crew()?.takes_work()?;
        let total = match items.size_hint() {
            (least, Some(most)) if least == most => Some(most as u64),
            _ => None,
        };
        let stream = Arc::new(Stream::new(ordered, total, self.hook));
        let feeder = Feeder::new(self.office, Arc::clone(&stream) as Arc<_>, names, chunk_size, false);
        let ahead = CHUNKS_AHEAD * self.processes as u64 * u64::from(chunk_size);
        Ok(Results::new(feeder, stream, items, ahead))
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("chunk_size", &self.chunk_size).finish_non_exhaustive()
    }
}
