//! What priority queues and joinable queues have in common: putting, waiting, counting.

use std::time::Duration;

use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::mem::Segment;
use crate::queue::Put;
use crate::raw::agenda::{self, Agenda, Counts, Turn, Waiting};
use crate::raw::recovery;
use crate::raw::wait::Deadline;
use crate::storing::{prepare_handles, with_room};

/// Most items of a bounded queue.
const MAX_CAPACITY: usize = 1 << 30;

/// A capacity that a queue can have.
///
/// # Errors
/// `InvalidInput` for zero or more than 2^30.
pub(crate) fn valid_capacity(capacity: Option<usize>) -> Result<Option<u64>> {
    match capacity {
        Some(capacity @ (0 | MAX_CAPACITY..)) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("a queue of capacity {capacity}")))
        }
        capacity => Ok(capacity.map(|capacity| capacity as u64)),
    }
}

/// How long to wait.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    None,
    For(Duration),
    Endless,
}

impl Patience {
    fn deadline(self) -> Option<Deadline> {
        match self {
            Patience::None => None,
            Patience::For(timeout) => Some(Deadline::after(timeout)),
            Patience::Endless => Some(Deadline::NEVER),
        }
    }
}

/// Tries until there is a result or no more patience. A wait during which nothing happens looks for the dead.
pub(crate) fn try_until<'a, R>(
    segment: &'a Segment,
    agenda: &Agenda,
    patience: Patience,
    wait: impl FnOnce(Deadline) -> Result<Waiting<'a>>,
    mut attempt: impl FnMut() -> Result<Option<R>>,
) -> Result<Option<R>> {
    if let Some(result) = attempt()? {
        return Ok(Some(result));
    }
    let Some(deadline) = patience.deadline() else { return Ok(None) };
    let mut waiting = wait(deadline)?;
    loop {
        match waiting.next() {
            Turn::TimedOut => return Ok(None),
            Turn::Look => look_for_the_dead(segment, agenda)?,
            Turn::Try => {}
        }
        if let Some(result) = attempt()? {
            return Ok(Some(result));
        }
    }
}

/// Gives back what the dead have on lease.
#[cold]
pub(crate) fn look_for_the_dead(segment: &Segment, agenda: &Agenda) -> Result<()> {
    if !agenda.is_anything_out(segment)? {
        return Ok(());
    }
    recovery::run(segment, |me| agenda.take_from_the_dead(me)).map(drop)
}

/// Puts an item.
pub(crate) fn put<T, C: Codec<T>>(
    handle: &Handle,
    agenda: &Agenda,
    priority: u64,
    item: &T,
    patience: Patience,
) -> Result<Put> {
    let segment = handle.hold.segment()?;
    C::with_encoded(item, |encoded| {
        let handles = prepare_handles(segment, handle.hold.id(), &encoded)?;
        let put = || recovery::run(segment, |me| agenda.put(me, priority, encoded.bytes(), &handles));
        let attempt = || done(with_room(segment, put)?);
        let done = try_until(segment, agenda, patience, |deadline| agenda.wait_for_room(segment, deadline), attempt)?;
        Ok(if done.is_some() { Put::Done } else { Put::Full })
    })?
}

/// Nothing where there was no room.
///
/// # Errors
/// `Closed`.
pub(crate) fn done(put: agenda::Put) -> Result<Option<()>> {
    match put {
        agenda::Put::Done => Ok(Some(())),
        agenda::Put::Full => Ok(None),
        agenda::Put::Closed => Err(closed()),
    }
}

pub(crate) fn counts(handle: &Handle, agenda: &Agenda) -> Result<Counts> {
    let segment = handle.hold.segment()?;
    recovery::run(segment, |_| agenda.counts(segment))
}

/// The result of a wait without end.
pub(crate) fn endless<R>(result: Option<R>) -> Result<R> {
    result.ok_or_else(|| Error::new(ErrorKind::Stalled, "a wait without end that ended"))
}

#[cold]
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "a queue")
}

/// Implements what both queues have, for a type with fields `handle` and `agenda`.
macro_rules! agenda_queue {
    ($type:ident) => {
        impl<T, C: Codec<T>> $type<T, C> {
            /// Closes the queue: nothing can be put any more, what is in it can be got, and all who wait are woken. Closing
            /// again does nothing.
            pub fn close(&self) -> Result<()> {
                let segment = self.handle.hold.segment()?;
                crate::raw::recovery::run(segment, |me| self.agenda.close(me))
            }

            /// Whether it has been closed.
            pub fn is_closed(&self) -> Result<bool> {
                self.agenda.is_closed(self.handle.hold.segment()?)
            }

            /// Items that can be got; exact while nobody is at work.
            pub fn len(&self) -> Result<u64> {
                Ok(crate::agenda::counts(&self.handle, &self.agenda)?.waiting)
            }

            /// Whether there is no item to get.
            pub fn is_empty(&self) -> Result<bool> {
                Ok(self.len()? == 0)
            }

            /// Whether there is no room.
            pub fn is_full(&self) -> Result<bool> {
                match self.capacity() {
                    Some(capacity) => Ok(self.len()? >= capacity),
                    None => Ok(false),
                }
            }

            /// Items that can be put before there is no room; `None` if there is no bound but the segment's.
            pub fn capacity(&self) -> Option<u64> {
                self.agenda.capacity()
            }
        }
    };
}
pub(crate) use agenda_queue;
