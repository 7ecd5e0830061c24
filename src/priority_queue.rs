//! The shared priority queue.

use std::marker::PhantomData;
use std::time::Duration;

use crate::agenda::{self, Patience, agenda_queue, endless, try_until};
use crate::codec::{Auto, Codec, fingerprint};
use crate::error::Result;
use crate::handle::{Handle, handle_traits};
use crate::queue::Put;
use crate::raw::agenda::{Agenda, Taken};
use crate::raw::object::{Kind, ObjectId};
use crate::raw::{collect, recovery};

/// A queue in shared memory from which the item of the lowest priority comes first, and of equal ones the one put first.
///
/// # Crash
/// An item whose `put` returned is delivered. A process that dies in `put` has put the item or not; one that dies in `get`
/// has got it or not.
///
/// # Blocking
/// Waiting spins for some microseconds, then sleeps in the kernel. [`close`](PriorityQueue::close) wakes all who wait.
///
/// # Complexity
/// Getting is constant, putting logarithmic in the items, constant for one that comes behind all others. A skip list.
///
/// # Errors
/// `Closed` when putting into a closed queue, or getting from one that is closed and empty; `OutOfMemory`, `TooLarge`,
/// `Encode`, `Decode`, `Corrupted`, `Evicted`.
///
/// # Examples
/// ```
/// let jobs = commons::Manager::new()?.unbounded_priority_queue::<String>()?;
/// jobs.put(5, &"sweep".to_owned())?;
/// jobs.put(-1, &"extinguish".to_owned())?;
/// assert_eq!(jobs.get()?, (-1, "extinguish".to_owned()));
/// assert_eq!(jobs.get()?, (5, "sweep".to_owned()));
/// # Ok::<(), commons::Error>(())
/// ```
pub struct PriorityQueue<T, C = Auto> {
    handle: Handle,
    agenda: Agenda,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], PriorityQueue<T, C>, "PriorityQueue");
agenda_queue!(PriorityQueue);

/// Priorities as words of the same order.
const SIGN: u64 = 1 << 63;

impl<T, C: Codec<T>> PriorityQueue<T, C> {
    pub(crate) const KIND: Kind = Kind::PriorityQueue;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["priority queue", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        let agenda = Agenda::open(handle.hold.segment()?, handle.root)?;
        Ok(PriorityQueue { handle, agenda, types: PhantomData })
    }

    /// The same queue by another handle of it.
    fn with_handle(&self, handle: Handle) -> Self {
        PriorityQueue { handle, agenda: self.agenda, types: PhantomData }
    }

    fn put_within(&self, priority: i64, item: &T, patience: Patience) -> Result<Put> {
        agenda::put::<T, C>(&self.handle, &self.agenda, priority as u64 ^ SIGN, item, patience)
    }

    /// Puts an item, waiting for room as long as it takes.
    pub fn put(&self, priority: i64, item: &T) -> Result<()> {
        self.put_within(priority, item, Patience::Endless).map(|_| ())
    }

    /// Puts an item if there is room now.
    pub fn try_put(&self, priority: i64, item: &T) -> Result<Put> {
        self.put_within(priority, item, Patience::None)
    }

    /// Puts an item, waiting for room for at most `timeout`.
    pub fn put_timeout(&self, priority: i64, item: &T, timeout: Duration) -> Result<Put> {
        self.put_within(priority, item, Patience::For(timeout))
    }

    /// Gets the first item and its priority, waiting for one as long as it takes.
    pub fn get(&self) -> Result<(i64, T)> {
        endless(self.get_within(Patience::Endless)?)
    }

    /// Gets the first item and its priority if there is one now.
    pub fn try_get(&self) -> Result<Option<(i64, T)>> {
        self.get_within(Patience::None)
    }

    /// Gets the first item and its priority, waiting for one for at most `timeout`.
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<(i64, T)>> {
        self.get_within(Patience::For(timeout))
    }

    fn get_within(&self, patience: Patience) -> Result<Option<(i64, T)>> {
        self.get_with(patience, C::decode)
    }

    /// Gets the first item as what `decode` makes of it.
    pub(crate) fn get_with<R>(
        &self,
        patience: Patience,
        decode: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<Option<(i64, R)>> {
        let segment = self.handle.hold.segment()?;
        let session = self.handle.hold.session();
        let (mut bytes, mut kept) = (Vec::new(), Vec::new());
        let taken = try_until(
            segment,
            &self.agenda,
            patience,
            |deadline| self.agenda.wait_for_item(segment, deadline),
            || {
                let taken = recovery::run(segment, |me| {
                    // Held while it moves from the queue into the item's handle, so that it is never held by neither.
                    self.agenda.take(me, &mut bytes, &mut |handle| {
                        let id = ObjectId::unpack(handle);
                        if !kept.contains(&id) && session.hold_within(id)? {
                            kept.push(id);
                        }
                        Ok(())
                    })
                })?;
                match taken {
                    Taken::Item(priority) => Ok(Some(priority)),
                    Taken::Empty => Ok(None),
                    Taken::Closed => Err(agenda::closed()),
                }
            },
        );
        let item = match taken {
            Ok(Some(priority)) => decode(&bytes).map(|item| Some(((priority ^ SIGN) as i64, item))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        if !kept.is_empty() {
            for id in kept {
                session.release(id)?;
            }
            collect::note_garbage(segment)?;
        }
        item
    }
}
