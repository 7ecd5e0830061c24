//! The event.

use std::time::Duration;

use crate::codec::fingerprint;
use crate::error::Result;
use crate::handle::{Handle, handle_traits};
use crate::mem::{Segment, Word};
use crate::raw::object::Kind;
use crate::raw::ring::Rest;
use crate::raw::sync::event;
use crate::raw::wait::Deadline;
use crate::readiness::Readiness;
use crate::wait::{Inner, Source, Waitable, Watch, Watched};

/// A flag between processes that others can wait for.
///
/// # Crash
/// Setting and clearing are one store each: done or not done. Whoever sets the event and is killed before it has woken the
/// waiters costs them 50 ms at most.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use commons::Manager;
///
/// let ready = Manager::new()?.event()?;
/// assert!(!ready.wait_timeout(Duration::from_millis(1))?);
/// ready.set()?;
/// assert!(ready.wait()?);
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Event {
    handle: Handle,
}

handle_traits!([], Event, "Event");

impl Event {
    pub(crate) const KIND: Kind = Kind::Event;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["event"])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        handle.hold.segment()?.word(handle.root)?;
        Ok(Event { handle })
    }

    fn with_handle(&self, handle: Handle) -> Self {
        Event { handle }
    }

    fn word(&self) -> Result<(&Segment, &Word)> {
        let segment = self.handle.hold.segment()?;
        segment.still_member()?;
        Ok((segment, segment.word(self.handle.root)?))
    }

    /// Sets it, and wakes all who wait. Those who wait now return even if it is cleared again before they run.
    pub fn set(&self) -> Result<()> {
        event::set(self.word()?.1);
        Ok(())
    }

    /// Clears it.
    pub fn clear(&self) -> Result<()> {
        event::clear(self.word()?.1);
        Ok(())
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> Result<bool> {
        Ok(event::is_set(self.handle.hold.segment()?.word(self.handle.root)?))
    }

    /// Waits until it is set. The answer is always true.
    ///
    /// # Blocking
    /// Until somebody sets it.
    pub fn wait(&self) -> Result<bool> {
        let (segment, word) = self.word()?;
        event::wait(segment, word, Deadline::NEVER)
    }

    /// Waits until it is set, for at most `timeout`. Whether it was.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        let (segment, word) = self.word()?;
        event::wait(segment, word, Deadline::after(timeout))
    }

    /// A file descriptor that is readable when the event is set, or was since it was last armed: for event loops.
    ///
    /// # Errors
    /// `TooMany` or `Io` if there is no descriptor or thread to be had.
    pub fn readiness(&self) -> Result<Readiness> {
        Readiness::new(Box::new(self.clone()))
    }
}

impl Waitable for Event {
    fn source(&self) -> Source<'_> {
        Source(Inner::Shared(self))
    }
}

impl Watched for Event {
    fn is_ready(&self) -> Result<bool> {
        Ok(event::is_set(self.word()?.1))
    }

    fn watch(&self, _cursor: u32) -> Result<Box<dyn Watch<'_> + '_>> {
        let (segment, word) = self.word()?;
        Ok(Box::new(EventWatch { segment, word }))
    }
}

/// A wait for an event.
struct EventWatch<'a> {
    segment: &'a Segment,
    word: &'a Word,
}

impl<'a> Watch<'a> for EventWatch<'a> {
    fn arm(&mut self) -> Result<Option<Rest<'a>>> {
        Ok(event::arm(self.word))
    }

    /// Nobody's death matters to it but our own.
    fn look_after(&mut self) -> Result<()> {
        self.segment.still_member()
    }

    fn cursor(&self) -> u32 {
        0
    }
}
