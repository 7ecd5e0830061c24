//! The shared queue whose items have to be done.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::agenda::{self, Patience, agenda_queue, endless, try_until};
use crate::codec::{Auto, Codec, fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, handle_traits};
use crate::lease::{Lease, Loan, end};
use crate::os;
use crate::queue::Put;
use crate::raw::agenda::{Agenda, Leased, Token};
use crate::raw::object::Kind;
use crate::raw::recovery;
use crate::storing::with_room;

/// A first-in, first-out queue in shared memory that knows which of its items are done.
///
/// An item that is got is on lease until it is done: by [`task_done`](JoinableQueue::task_done), which ends the oldest
/// lease that this handle or a clone of it got with [`get`](JoinableQueue::get), or by [`Lease::ack`], for items got with
/// [`lease`](JoinableQueue::lease). [`join`](JoinableQueue::join) waits until nothing waits and nothing is on lease.
///
/// # Crash
/// Every item is delivered at least once. What a process that dies had got and not done stands in its old place again, and
/// [`Lease::delivery`] tells that it was handed out before; so `join` returns when everything was done by somebody who
/// lived to say so. The same becomes of what was got by a handle that is dropped, with its clones, before it was done.
///
/// A process that dies in `put` has put the item or not. Items of one producer come in order, given-back ones before those
/// that were put later.
///
/// # Blocking
/// Waiting spins for some microseconds, then sleeps in the kernel. [`close`](JoinableQueue::close) wakes all who wait for
/// an item or for room. The dead are looked for by those who wait, within 50 ms, and now and then by those who get.
///
/// # Complexity
/// Constant; giving an item back is logarithmic in the items.
///
/// # Errors
/// `Closed` when putting into a closed queue, or getting from one that is closed and empty; `OutOfMemory`, `TooLarge`,
/// `TooMany` leases, `Encode`, `Decode`, `Corrupted`, `Evicted`.
///
/// # Examples
/// ```
/// let jobs = commons::Manager::new()?.joinable_queue::<String>(100)?;
/// jobs.put(&"first".to_owned())?;
/// jobs.put(&"second".to_owned())?;
///
/// assert_eq!(jobs.get()?, "first");
/// jobs.task_done()?;
///
/// let job = jobs.lease()?;
/// assert_eq!((job.get()?, job.delivery()), ("second".to_owned(), 1));
/// job.ack()?;
/// jobs.join()?;
/// # Ok::<(), commons::Error>(())
/// ```
pub struct JoinableQueue<T, C = Auto> {
    handle: Handle,
    agenda: Agenda,
    got: Arc<Got>,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], JoinableQueue<T, C>, "JoinableQueue");
agenda_queue!(JoinableQueue);

/// Longest wait for the process-local lock: one that was held when the process forked is held for ever in the child.
const LOCAL_PATIENCE: Duration = Duration::from_secs(10);
/// Of so many gets one looks for the dead.
const LOOK_EVERY: u64 = 256;

/// What a handle and its clones have got and not done.
struct Got {
    handle: Handle,
    agenda: Agenda,
    tokens: Mutex<Tokens>,
}

struct Tokens {
    /// Which process they are of, told from its forked children.
    process: u64,
    /// The oldest first.
    tokens: VecDeque<Token>,
}

impl Got {
    fn nothing(handle: Handle, agenda: Agenda) -> Arc<Got> {
        let tokens = Tokens { process: os::generation(), tokens: VecDeque::new() };
        Arc::new(Got { handle, agenda, tokens: Mutex::new(tokens) })
    }

    fn tokens(&self) -> Result<MutexGuard<'_, Tokens>> {
        let mut tokens = self.tokens.try_lock_for(LOCAL_PATIENCE).ok_or_else(|| {
            Error::new(ErrorKind::Reentrant, "a queue's handle, in use by a thread that the process forked away from")
        })?;
        if tokens.process != os::generation() {
            tokens.process = os::generation();
            tokens.tokens.clear(); // the parent's
        }
        Ok(tokens)
    }
}

impl Drop for Got {
    fn drop(&mut self) {
        let Ok(mut tokens) = self.tokens() else { return };
        let tokens = std::mem::take(&mut tokens.tokens);
        if tokens.is_empty() {
            return;
        }
        let Ok(segment) = self.handle.hold.segment() else { return };
        for token in tokens {
            // What cannot be given back now goes back with the process.
            let _ = recovery::run(segment, |me| self.agenda.give_back(me, &token));
        }
    }
}

impl<T, C: Codec<T>> JoinableQueue<T, C> {
    pub(crate) const KIND: Kind = Kind::JoinableQueue;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["joinable queue", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        let agenda = Agenda::open(handle.hold.segment()?, handle.root)?;
        let got = Got::nothing(handle.clone(), agenda);
        Ok(JoinableQueue { handle, agenda, got, types: PhantomData })
    }

    /// The same queue by another handle of it.
    fn with_handle(&self, handle: Handle) -> Self {
        JoinableQueue { handle, agenda: self.agenda, got: Arc::clone(&self.got), types: PhantomData }
    }

    fn put_within(&self, item: &T, patience: Patience) -> Result<Put> {
        agenda::put::<T, C>(&self.handle, &self.agenda, 0, item, patience)
    }

    /// Puts an item, waiting for room as long as it takes.
    pub fn put(&self, item: &T) -> Result<()> {
        self.put_within(item, Patience::Endless).map(|_| ())
    }

    /// Puts an item if there is room now.
    pub fn try_put(&self, item: &T) -> Result<Put> {
        self.put_within(item, Patience::None)
    }

    /// Puts an item, waiting for room for at most `timeout`.
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<Put> {
        self.put_within(item, Patience::For(timeout))
    }

    /// Gets an item, waiting for one as long as it takes. [`task_done`](JoinableQueue::task_done) ends its lease.
    ///
    /// # Errors
    /// Also `Decode`: the item is no `T`. It is gone then, and done.
    pub fn get(&self) -> Result<T> {
        endless(self.get_within(Patience::Endless)?)
    }

    /// Gets an item if there is one now, as [`get`](JoinableQueue::get).
    pub fn try_get(&self) -> Result<Option<T>> {
        self.get_within(Patience::None)
    }

    /// Gets an item, waiting for one for at most `timeout`, as [`get`](JoinableQueue::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.get_within(Patience::For(timeout))
    }

    fn get_within(&self, patience: Patience) -> Result<Option<T>> {
        let Some(lease) = self.lease_within(patience)? else { return Ok(None) };
        match lease.get() {
            Ok(item) => {
                self.got.tokens()?.tokens.push_back(lease.into_token());
                Ok(Some(item))
            }
            Err(error) => {
                lease.ack()?;
                Err(error)
            }
        }
    }

    /// Says that the oldest item is done that this handle or a clone of it got and that is not done yet.
    ///
    /// # Errors
    /// `NothingTaken` if there is none: it was called too often. `LeaseLost` if the item was taken away, because this
    /// process was taken for dead.
    pub fn task_done(&self) -> Result<()> {
        let oldest = self.got.tokens()?.tokens.pop_front();
        match oldest {
            Some(token) => end(&self.handle, &self.agenda, &token),
            None => Err(Error::new(ErrorKind::NothingTaken, "a queue")),
        }
    }

    /// Leases an item, waiting for one as long as it takes.
    pub fn lease(&self) -> Result<Lease<'_, T, C>> {
        endless(self.lease_within(Patience::Endless)?)
    }

    /// Leases an item if there is one now.
    pub fn try_lease(&self) -> Result<Option<Lease<'_, T, C>>> {
        self.lease_within(Patience::None)
    }

    /// Leases an item, waiting for one for at most `timeout`.
    pub fn lease_timeout(&self, timeout: Duration) -> Result<Option<Lease<'_, T, C>>> {
        self.lease_within(Patience::For(timeout))
    }

    fn lease_within(&self, patience: Patience) -> Result<Option<Lease<'_, T, C>>> {
        let segment = self.handle.hold.segment()?;
        let mut looked = false;
        let attempt = || loop {
            match with_room(segment, || recovery::run(segment, |me| self.agenda.lease(me)))? {
                Leased::Item(token) => return Ok(Some(token)),
                // Before it says that there is nothing, it looks whether the dead had something.
                _ if !std::mem::replace(&mut looked, true) => agenda::look_for_the_dead(segment, &self.agenda)?,
                Leased::Empty => return Ok(None),
                Leased::Closed => return Err(agenda::closed()),
            }
        };
        let wait = |deadline| self.agenda.wait_for_item(segment, deadline);
        let Some(token) = try_until(segment, &self.agenda, patience, wait, attempt)? else { return Ok(None) };
        let lease = Lease::over(&self.handle, self.agenda, token);
        if token.is_one_of(LOOK_EVERY) {
            agenda::look_for_the_dead(segment, &self.agenda)?;
        }
        Ok(Some(lease))
    }

    /// Waits until nothing waits to be got and nothing is on lease.
    pub fn join(&self) -> Result<()> {
        endless(self.join_within(Patience::Endless)?)
    }

    /// The same for at most `timeout`; whether all is done.
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        Ok(self.join_within(Patience::For(timeout))?.is_some())
    }

    fn join_within(&self, patience: Patience) -> Result<Option<()>> {
        let segment = self.handle.hold.segment()?;
        let attempt = || Ok((self.unfinished()? == 0).then_some(()));
        let wait = |deadline| self.agenda.wait_until_done(segment, deadline);
        try_until(segment, &self.agenda, patience, wait, attempt)
    }

    /// Items that wait or are on lease.
    pub fn unfinished(&self) -> Result<u64> {
        let counts = agenda::counts(&self.handle, &self.agenda)?;
        Ok(counts.waiting.saturating_add(counts.leased))
    }
}

impl JoinableQueue<Vec<u8>> {
    /// Lends a block of `length` bytes, all zero, in the segment itself: to be written to and then made an item, without
    /// another copy.
    ///
    /// # Crash
    /// A loan of a process that dies is dropped.
    ///
    /// # Errors
    /// `TooLarge` for more than a segment can ever hold, `OutOfMemory` for more than this one has left; `TooMany` leases
    /// and loans.
    ///
    /// # Examples
    /// ```
    /// let frames = commons::Manager::new()?.joinable_queue::<Vec<u8>>(8)?;
    /// let mut frame = frames.loan(1 << 20)?;
    /// frame.write_at(1000, b"pixels")?;
    /// frame.commit()?;
    ///
    /// let frame = frames.lease()?;
    /// let mut pixels = [0; 6];
    /// frame.read_at(1000, &mut pixels)?;
    /// assert_eq!(&pixels, b"pixels");
    /// frame.ack()?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn loan(&self, length: usize) -> Result<Loan<'_>> {
        let segment = self.handle.hold.segment()?;
        let token = with_room(segment, || recovery::run(segment, |me| self.agenda.loan(me, length)))?;
        Ok(Loan::over(&self.handle, self.agenda, token))
    }
}
