//! Sending and receiving: the short ways, the waits, and the eye on the other end.

use super::sink::{Kept, Sink};
use super::{Connection, closed, endless};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Segment, SmallCopy, Step, Stop};
use crate::os;
use crate::process;
use crate::queue::Put;
use crate::raw::object::ObjectId;
use crate::raw::recovery;
use crate::raw::ring::{Pop, Push, Quick, Ring, Sleeper, Turn};
use crate::raw::wait::Deadline;
use crate::storing::with_room;

/// Dead processes that one wait may have to recover between two sleeps, or find others at.
const RECOVERIES: u32 = 2048;

impl<T, C: Codec<T>> Connection<T, C> {
    #[inline(always)]
    pub(super) fn push_until(&self, bytes: &[u8], handles: &[u64], deadline: impl FnOnce() -> Deadline) -> Result<Put> {
        match self.push_now(bytes, handles)? {
            Put::Done => Ok(Put::Done),
            Put::Full => self.push_when_there_is_room(bytes, handles, deadline()),
        }
    }

    #[cold]
    #[inline(never)]
    fn push_when_there_is_room(&self, bytes: &[u8], handles: &[u64], deadline: Deadline) -> Result<Put> {
        let (segment, ring) = (self.segment()?, self.outgoing()?);
        let mut sleeper = ring.wait_for_room(segment, deadline);
        while self.next(segment, &mut sleeper)? {
            if self.push(segment, ring, bytes, handles)? == Put::Done {
                return Ok(Put::Done);
            }
        }
        Ok(Put::Full)
    }

    #[inline(always)]
    pub(super) fn push(&self, segment: &Segment, ring: &Ring, bytes: &[u8], handles: &[u64]) -> Result<Put> {
        if handles.is_empty() && recovery::run_quickly(segment, |me| ring.push_quickly(me, bytes)).is_some() {
            return Ok(Put::Done);
        }
        self.push_slowly(segment, ring, bytes, handles)
    }

    #[cold]
    #[inline(never)]
    fn push_slowly(&self, segment: &Segment, ring: &Ring, bytes: &[u8], handles: &[u64]) -> Result<Put> {
        match with_room(segment, || recovery::run(segment, |me| ring.push(me, bytes, handles)))? {
            Push::Done => Ok(Put::Done),
            Push::Full => Ok(Put::Full),
            Push::Closed => Err(self.ended(segment, ErrorKind::BrokenPipe)),
        }
    }

    /// Takes a message, waiting for one as long as it takes. (Not by way of [`pop_until`](Self::pop_until): a large message that
    /// goes through an `Option` is moved once more.)
    #[inline(always)]
    pub(super) fn pop_endless<S: Sink>(&self, mut sink: S) -> Result<S::Message> {
        let (segment, ring) = (self.segment()?, self.incoming()?);
        let mut copy = SmallCopy::empty();
        match self.pop_quickly(segment, ring, S::fixed_len(), &mut copy) {
            Some(Quick::Item) => sink.small(copy.bytes()),
            quick => self.pop_after(segment, ring, quick, sink, Deadline::NEVER)?.ok_or_else(endless),
        }
    }

    /// The same, for as long as there is time.
    #[inline(always)]
    pub(super) fn pop_until<S: Sink>(&self, mut sink: S, deadline: Deadline) -> Result<Option<S::Message>> {
        let (segment, ring) = (self.segment()?, self.incoming()?);
        let mut copy = SmallCopy::empty();
        match self.pop_quickly(segment, ring, S::fixed_len(), &mut copy) {
            Some(Quick::Item) => sink.small(copy.bytes()).map(Some),
            quick => self.pop_after(segment, ring, quick, sink, deadline),
        }
    }

    /// What there is to do when the short way ended with `quick`.
    #[cold]
    #[inline(never)]
    fn pop_after<S: Sink>(
        &self,
        segment: &Segment,
        ring: &Ring,
        quick: Option<Quick>,
        mut sink: S,
        deadline: Deadline,
    ) -> Result<Option<S::Message>> {
        if quick.is_none()
            && let Some(message) = self.pop_slowly(segment, ring, &mut sink)?
        {
            return Ok(Some(message));
        }
        for _ in 0..ring.tries() {
            os::pause();
            if let Some(message) = self.pop(segment, ring, &mut sink)? {
                return Ok(Some(message));
            }
        }
        let mut sleeper = ring.wait_for_item(segment, deadline);
        while self.next(segment, &mut sleeper)? {
            if let Some(message) = self.pop(segment, ring, &mut sink)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    #[inline(always)]
    pub(super) fn pop<S: Sink>(&self, segment: &Segment, ring: &Ring, sink: &mut S) -> Result<Option<S::Message>> {
        let mut copy = SmallCopy::empty();
        match self.pop_quickly(segment, ring, S::fixed_len(), &mut copy) {
            Some(Quick::Item) => sink.small(copy.bytes()).map(Some),
            Some(Quick::Empty) => Ok(None),
            None => self.pop_slowly(segment, ring, sink),
        }
    }

    #[inline(always)]
    fn pop_quickly(&self, segment: &Segment, ring: &Ring, fixed: Option<usize>, copy: &mut SmallCopy) -> Option<Quick> {
        let quick = recovery::run_quickly(
            segment,
            #[inline(always)]
            |me| ring.pop_quickly(me, fixed, copy),
        );
        if quick == Some(Quick::Item) {
            self.lookout.note_heard();
        }
        quick
    }

    #[cold]
    #[inline(never)]
    fn pop_slowly<S: Sink>(&self, segment: &Segment, ring: &Ring, sink: &mut S) -> Result<Option<S::Message>> {
        sink.large(|out| {
            let mut kept = Kept { session: self.core.session(), ids: Vec::new() };
            let mut keep = |handle| kept.keep(ObjectId::unpack(handle));
            match recovery::run(segment, |me| ring.pop(me, out, &mut keep))? {
                Pop::Item { .. } => {
                    self.lookout.note_heard();
                    Ok(Some(kept))
                }
                Pop::Empty => Ok(None),
                Pop::Closed => Err(self.ended(segment, ErrorKind::EndOfFile)),
            }
        })
    }

    /// What a closed ring means to this end.
    #[cold]
    fn ended(&self, segment: &Segment, kind: ErrorKind) -> Error {
        match self.pipe.is_closed(segment) {
            Ok(true) => closed(),
            Ok(false) => Error::new(kind, "a pipe"),
            Err(error) => error,
        }
    }

    /// One step of waiting, past the dead, with an eye on the other end.
    #[inline(never)]
    pub(super) fn next(&self, segment: &Segment, sleeper: &mut Sleeper<'_>) -> Result<bool> {
        if past_the_dead(segment, || sleeper.spin())? {
            return Ok(true);
        }
        loop {
            match past_the_dead(segment, || sleeper.turn())? {
                Turn::Ready => return Ok(true),
                Turn::TimedOut => return Ok(false),
                Turn::Slept => {
                    // First what has come or been taken meanwhile: then the other end was there a moment ago.
                    if past_the_dead(segment, || sleeper.spin())? {
                        return Ok(true);
                    }
                    self.look_for_the_other(segment)?;
                }
            }
        }
    }

    pub(super) fn look_after(&self, segment: &Segment, sleeper: &mut Sleeper<'_>) -> Result<()> {
        past_the_dead(segment, || sleeper.look_after())?;
        self.look_for_the_other(segment)
    }

    /// [`look_for_the_other`](Self::look_for_the_other), for who may be woken for something else all the time.
    pub(super) fn look_now_and_then(&self, segment: &Segment) -> Result<()> {
        match self.lookout.is_rested() {
            true => self.look_for_the_other(segment),
            false => Ok(()),
        }
    }

    /// Closes the rings if the other end is gone: then every operation learns of it there.
    #[cold]
    #[inline(never)]
    pub(super) fn look_for_the_other(&self, segment: &Segment) -> Result<()> {
        process::let_go_of_arrived(); // the other end may be an argument of a child
        if self.pipe.is_closed(segment)? || self.pipe.is_other_gone(segment, self.lookout.note_look())? {
            self.pipe.shut(segment)?;
        }
        Ok(())
    }
}

/// Recovers the dead that `step` meets.
pub(crate) fn past_the_dead<R>(segment: &Segment, mut step: impl FnMut() -> Step<R>) -> Result<R> {
    for _ in 0..RECOVERIES {
        match step() {
            Ok(result) => return Ok(result),
            Err(Stop::Dead(process)) => recovery::recover(segment, process)?,
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::Contended, "too many dead processes in the way"))
}
