//! The shared queue.

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::Duration;

use crate::codec::{Auto, Codec, fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, handle_traits};
use crate::mem::{Segment, SmallCopy, Step, Stop};
use crate::os;
use crate::raw::object::{Kind, ObjectId};
use crate::raw::ring::{Peek, Pop, Push, Quick, Ring, Sleeper, Spec};
use crate::raw::wait::Deadline;
use crate::raw::{collect, recovery};
use crate::readiness::Readiness;
use crate::storing::{prepare_handles, with_room};
use crate::wait::{Inner, RingWatch, Source, Waitable, Watch, Watched};

/// Encoded items of any length up to this are stored in the ring itself.
const VARYING_INLINE: usize = 56;
/// The same for items of a fixed length.
const FIXED_INLINE: usize = 512;
/// Most items of a bounded queue.
const MAX_CAPACITY: usize = 1 << 30;

/// A first-in, first-out queue in shared memory, for any number of producers and consumers.
///
/// # Crash
/// An item whose `put` returned is delivered. A producer that dies in `put` has put the item or not. A consumer that dies
/// in `get` gives the item back, and then it may come a little later than its turn, unless it had already let go of the
/// item's slot, in the last instructions before `get` returns. Otherwise the items of one producer come in order.
///
/// # Blocking
/// Waiting spins for some microseconds where that has been of use lately, then sleeps in the kernel. [`close`](Queue::close)
/// wakes all who wait.
///
/// # Complexity
/// Constant; no system call while nobody sleeps.
///
/// # Errors
/// `Closed` when putting into a closed queue, or getting from one that is closed and empty; `OutOfMemory`, `TooLarge`,
/// `Encode`, `Decode`, `Corrupted`, `Evicted`.
///
/// # Examples
/// ```
/// let jobs = commons::Manager::new()?.queue::<String>(100)?;
/// jobs.put(&"first".to_owned())?;
/// jobs.close()?;
/// assert_eq!(jobs.get()?, "first");
/// assert_eq!(jobs.get().unwrap_err().kind(), commons::ErrorKind::Closed);
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Queue<T, C = Auto> {
    handle: Handle,
    ring: Ring,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], Queue<T, C>, "Queue");

/// Whether a put that does not wait for ever found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// The item is in the queue.
    Done,
    /// There was no room.
    Full,
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Scratch space larger than this is given back after use.
const SCRATCH_KEPT: usize = 64 * 1024;

impl<T, C: Codec<T>> Queue<T, C> {
    pub(crate) const KIND: Kind = Kind::Queue;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["queue", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn spec(capacity: Option<usize>) -> Result<Spec> {
        let capacity = match capacity {
            Some(capacity @ (0 | MAX_CAPACITY..)) => {
                return Err(Error::new(ErrorKind::InvalidInput, format!("a queue of capacity {capacity}")));
            }
            capacity => capacity.map(|capacity| capacity as u32),
        };
        let inline = match C::fixed_len() {
            Some(len) if len <= FIXED_INLINE => len.max(8),
            _ => VARYING_INLINE,
        };
        Ok(Spec { capacity, inline: inline as u32 })
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        let ring = Ring::open(handle.hold.segment()?, handle.root)?;
        Ok(Queue { handle, ring, types: PhantomData })
    }

    /// The same queue by another handle of it: nothing is read again.
    fn with_handle(&self, handle: Handle) -> Self {
        Queue { handle, ring: self.ring.clone(), types: PhantomData }
    }

    #[inline(always)]
    fn segment(&self) -> Result<&Segment> {
        self.handle.hold.segment()
    }

    /// Puts an item, waiting for room as long as it takes.
    #[inline]
    pub fn put(&self, item: &T) -> Result<()> {
        match self.put_until(item, || Deadline::NEVER)? {
            Put::Done => Ok(()),
            Put::Full => Err(Error::new(ErrorKind::Stalled, "a wait without end that ended")),
        }
    }

    /// Puts an item if there is room now.
    #[inline]
    pub fn try_put(&self, item: &T) -> Result<Put> {
        self.encoded(item, |segment, bytes, handles| self.push(segment, bytes, handles))
    }

    /// Puts an item, waiting for room for at most `timeout`.
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<Put> {
        self.put_until(item, || Deadline::after(timeout))
    }

    /// Puts all of `items` in order, waiting for room as long as it takes. Returns how many; on an error those before it
    /// are in the queue.
    pub fn put_all<'a>(&self, items: impl IntoIterator<Item = &'a T>) -> Result<usize>
    where
        T: 'a,
    {
        let mut count = 0;
        for item in items {
            self.put(item)?;
            count += 1;
        }
        Ok(count)
    }

    /// Gets an item, waiting for one as long as it takes.
    #[inline]
    pub fn get(&self) -> Result<T> {
        let segment = self.segment()?;
        let mut copy = SmallCopy::empty();
        match self.pop_quickly(segment, &mut copy) {
            Some(Quick::Item) => C::decode(copy.bytes()),
            quick => match self.get_slowly(segment, quick, Deadline::NEVER)? {
                Some(item) => Ok(item),
                None => Err(Error::new(ErrorKind::Stalled, "a wait without end that ended")),
            },
        }
    }

    /// Gets an item if there is one now.
    #[inline]
    pub fn try_get(&self) -> Result<Option<T>> {
        self.pop(self.segment()?)
    }

    /// Gets an item, waiting for one for at most `timeout`.
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        let segment = self.segment()?;
        let mut copy = SmallCopy::empty();
        match self.pop_quickly(segment, &mut copy) {
            Some(Quick::Item) => C::decode(copy.bytes()).map(Some),
            quick => self.get_slowly(segment, quick, Deadline::after(timeout)),
        }
    }

    /// Waits for an item and gets it with those that are there behind it, `limit` in all at most.
    pub fn get_batch(&self, limit: usize) -> Result<Vec<T>> {
        let mut items = Vec::new();
        if limit > 0 {
            items.push(self.get()?);
        }
        while items.len() < limit {
            match self.try_get() {
                Ok(Some(item)) => items.push(item),
                // What was got is not lost; the error comes again with the next call.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(items)
    }

    /// Closes the queue: nothing can be put any more, what is in it can be got, and all who wait are woken. Closing again
    /// does nothing.
    pub fn close(&self) -> Result<()> {
        recovery::run(self.segment()?, |me| self.ring.close(me))
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> Result<bool> {
        self.ring.is_closed(self.segment()?)
    }

    /// Items in the queue; exact while nobody puts or gets.
    pub fn len(&self) -> Result<u64> {
        self.ring.len(self.segment()?)
    }

    /// Whether there is no item; exact while nobody puts or gets.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Whether there is no room; exact while nobody puts or gets.
    pub fn is_full(&self) -> Result<bool> {
        Ok(self.capacity().is_some_and(|capacity| self.len().is_ok_and(|len| len >= capacity)))
    }

    /// Items that it holds at most; `None` if it has no bound but the segment's.
    pub fn capacity(&self) -> Option<u64> {
        self.ring.capacity()
    }

    #[inline(always)]
    fn encoded<R>(&self, item: &T, f: impl FnOnce(&Segment, &[u8], &[u64]) -> Result<R>) -> Result<R> {
        let segment = self.segment()?;
        C::with_encoded(item, |encoded| {
            if !encoded.has_handles() {
                return f(segment, encoded.bytes(), &[]);
            }
            let handles = prepare_handles(segment, self.handle.hold.id(), &encoded)?;
            f(segment, encoded.bytes(), &handles)
        })?
    }

    #[inline(always)]
    fn put_until(&self, item: &T, deadline: impl FnOnce() -> Deadline) -> Result<Put> {
        self.encoded(item, |segment, bytes, handles| match self.push(segment, bytes, handles)? {
            Put::Done => Ok(Put::Done),
            Put::Full => self.push_when_there_is_room(segment, bytes, handles, deadline()),
        })
    }

    #[cold]
    #[inline(never)]
    fn push_when_there_is_room(
        &self,
        segment: &Segment,
        bytes: &[u8],
        handles: &[u64],
        deadline: Deadline,
    ) -> Result<Put> {
        let mut sleeper = self.ring.wait_for_room(segment, deadline);
        while next(segment, &mut sleeper)? {
            if self.push(segment, bytes, handles)? == Put::Done {
                return Ok(Put::Done);
            }
        }
        Ok(Put::Full)
    }

    #[inline(always)]
    fn push(&self, segment: &Segment, bytes: &[u8], handles: &[u64]) -> Result<Put> {
        if handles.is_empty() && recovery::run_quickly(segment, |me| self.ring.push_quickly(me, bytes)).is_some() {
            return Ok(Put::Done);
        }
        self.push_slowly(segment, bytes, handles)
    }

    #[cold]
    #[inline(never)]
    fn push_slowly(&self, segment: &Segment, bytes: &[u8], handles: &[u64]) -> Result<Put> {
        match with_room(segment, || recovery::run(segment, |me| self.ring.push(me, bytes, handles)))? {
            Push::Done => Ok(Put::Done),
            Push::Full => Ok(Put::Full),
            Push::Closed => Err(closed()),
        }
    }

    /// What [`get`](Queue::get) does when the short way ended with `quick`: waits until `deadline`.
    #[cold]
    #[inline(never)]
    fn get_slowly(&self, segment: &Segment, quick: Option<Quick>, deadline: Deadline) -> Result<Option<T>> {
        if quick.is_none()
            && let Some(item) = self.pop_slowly(segment)?
        {
            return Ok(Some(item));
        }
        for _ in 0..self.ring.tries() {
            os::pause();
            if let Some(item) = self.pop(segment)? {
                return Ok(Some(item));
            }
        }
        let mut sleeper = self.ring.wait_for_item(segment, deadline);
        while next(segment, &mut sleeper)? {
            if let Some(item) = self.pop(segment)? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    #[inline]
    fn pop(&self, segment: &Segment) -> Result<Option<T>> {
        let mut copy = SmallCopy::empty();
        match self.pop_quickly(segment, &mut copy) {
            Some(Quick::Item) => C::decode(copy.bytes()).map(Some),
            Some(Quick::Empty) => Ok(None),
            None => self.pop_slowly(segment),
        }
    }

    #[inline(always)]
    fn pop_quickly(&self, segment: &Segment, copy: &mut SmallCopy) -> Option<Quick> {
        recovery::run_quickly(segment, |me| self.ring.pop_quickly(me, C::fixed_len(), copy))
    }

    #[cold]
    #[inline(never)]
    fn pop_slowly(&self, segment: &Segment) -> Result<Option<T>> {
        let mut out = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let mut kept = Vec::new();
        let popped = recovery::run(segment, |me| {
            self.ring.pop(me, &mut out, &mut |handle| self.keep(ObjectId::unpack(handle), &mut kept))
        });
        let item = match popped {
            Ok(Pop::Item { .. }) => C::decode(&out).map(Some),
            Ok(Pop::Empty) => Ok(None),
            Ok(Pop::Closed) => Err(closed()),
            Err(error) => Err(error),
        };
        if out.capacity() <= SCRATCH_KEPT {
            let _ = SCRATCH.try_with(|scratch| scratch.set(out));
        }
        if !kept.is_empty() {
            // Failing, the segment is beyond repair, or not ours any more; the item has been taken all the same.
            let _ = self.let_go(segment, kept);
        }
        item
    }

    /// Holds an object while it moves from the queue into the item's handle, so that it is never held by neither.
    fn keep(&self, id: ObjectId, kept: &mut Vec<ObjectId>) -> Step<()> {
        if !kept.contains(&id) && self.handle.hold.session().hold_within(id)? {
            kept.push(id);
        }
        Ok(())
    }

    #[cold]
    fn let_go(&self, segment: &Segment, kept: Vec<ObjectId>) -> Result<()> {
        for id in kept {
            self.handle.hold.session().release(id)?;
        }
        collect::note_garbage(segment)
    }
}

/// One step of waiting, past the dead.
fn next(segment: &Segment, sleeper: &mut Sleeper<'_>) -> Result<bool> {
    loop {
        match sleeper.next() {
            Ok(worth_trying) => return Ok(worth_trying),
            Err(Stop::Dead(process)) => recovery::recover(segment, process)?,
            Err(Stop::Error(error)) => return Err(error),
        }
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "a queue")
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// A file descriptor that is readable when there is an item, or the queue is closed and empty: for event loops.
    ///
    /// # Errors
    /// `TooMany` or `Io` if there is no descriptor or thread to be had.
    pub fn readiness(&self) -> Result<Readiness>
    where
        T: 'static,
        C: 'static,
    {
        Readiness::new(Box::new(self.clone()))
    }
}

impl<T, C: Codec<T>> Waitable for Queue<T, C> {
    fn source(&self) -> Source<'_> {
        Source(Inner::Shared(self))
    }
}

impl<T, C: Codec<T>> Watched for Queue<T, C> {
    fn is_ready(&self) -> Result<bool> {
        Ok(self.ring.peek(self.segment()?)? != Peek::Nothing)
    }

    fn watch(&self, cursor: u32) -> Result<Box<dyn Watch<'_> + '_>> {
        let segment = self.segment()?;
        let sleeper = self.ring.wait_for_item(segment, Deadline::NEVER).looking_from(cursor);
        Ok(Box::new(RingWatch::new(segment, sleeper, || Ok(()))))
    }
}
