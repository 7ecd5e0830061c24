//! Pipes: connections between two ends.
//!
//! | file | one idea |
//! |---|---|
//! | `mod` | [`Connection`] |
//! | `transfer` | sending and receiving, and waiting for it |
//! | `sink` | where a message goes |
//! | `lookout` | when to look whether the other end is still there |

mod lookout;
mod sink;
mod transfer;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::{Auto, Codec, fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, handle_traits};
use crate::mem::Segment;
use crate::queue::{Put, Queue};
use crate::raw::object::{self, BEARS, Kind, NESTED, ObjectId};
use crate::raw::pipe::{self, Pipe};
use crate::raw::ring::{Peek, Ring};
use crate::raw::session::{Hold, Session};
use crate::raw::wait::Deadline;
use crate::readiness::Readiness;
use crate::storing::mark_handles;
use crate::wait::{Inner, RingWatch, Source, Waitable, Watch, Watched};

use lookout::Lookout;
use sink::{Bytes, Decoded};
pub(crate) use transfer::past_the_dead;

/// Messages that each direction of a pipe holds, unless stated.
pub(crate) const CAPACITY: usize = 256;

/// One end of a pipe: messages go to the other end and come from there, in order.
///
/// [`Manager::pipe`](crate::Manager::pipe) makes one with two such ends, [`one_way_pipe`](crate::Manager::one_way_pipe) one
/// with an end that only receives and one that only sends; [`Listener`](crate::Listener) and
/// [`Connection::connect`] make one by name. A message is a `T`, or bytes: both forms may be mixed, if the receiver knows
/// which it is to ask for.
///
/// A handle is `Clone + Send + Sync` and a serde value. All clones of an end, in whatever process or container, are that one
/// end: any number of threads may send and receive by it at once, and each message goes to one of them. To give an end away,
/// send it (as an argument of a [`Process`](crate::Process), or in a message) and drop one's own.
///
/// # End of file
/// An end is gone when nobody has it any more: no handle in any living process, and no container. Then the other end
/// receives what was sent before, and after that [`EndOfFile`](ErrorKind::EndOfFile); sending is
/// [`BrokenPipe`](ErrorKind::BrokenPipe). A forked child has the ends that it uses, and keeps no others open.
///
/// # Crash
/// A message whose `send` returned is delivered, as long as the other end is there to receive it. Whoever dies in `send` has
/// sent the message or not. Whoever dies in `recv` gives it back, and then it may come a little later than its turn, unless
/// it had already let go of the message's slot, in the last instructions before `recv` returns.
///
/// The death of the last process that had an end, by whatever cause, ends the waits of the other end within 50 ms, and
/// fails its sends within the same time if it neither waits nor receives anything; what was sent meanwhile is lost. An end
/// that is dropped, or [closed](Connection::close), is noticed at once.
///
/// # Blocking
/// Receiving waits for a message, sending for room: at most 256 messages are under way in one direction, unless stated.
/// Waiting spins for some microseconds, then sleeps in the kernel.
///
/// # Complexity
/// Constant; no system call while the other end is busy. Messages of up to 56 bytes (or of a fixed length up to 512) are
/// stored in the ring itself, others in blocks of their own. Dropping the last handle of an end that was ever stored in a
/// container or sent in a message walks over all objects of the segment.
///
/// # Errors
/// `EndOfFile`, `BrokenPipe`, `Closed` after this end was closed; `InvalidInput` for sending by an end that only receives and
/// the other way round; `OutOfMemory`, `TooLarge`, `Encode`, `Decode`, `Stale`, `Corrupted`, `Evicted`. A message that could not
/// be decoded has been taken.
///
/// # Examples
/// ```
/// use commons::{Connection, ErrorKind, Manager, Process};
///
/// fn double(end: Connection<u64>) {
///     while let Ok(number) = end.recv() {
///         end.send(&(2 * number)).unwrap();
///     }
/// }
///
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let (ours, theirs) = Manager::new()?.pipe()?;
///     let child = Process::spawn(theirs, double)?;
///     ours.send(&21)?;
///     assert_eq!(ours.recv()?, 42);
///     child.kill()?;
///     assert_eq!(ours.recv().unwrap_err().kind(), ErrorKind::EndOfFile);
///     Ok(())
/// }
/// ```
pub struct Connection<T, C = Auto> {
    handle: Handle,
    /// The hold on the pipe itself. The end holds it too, but this one outlasts it.
    core: Hold,
    pipe: Pipe,
    lookout: Lookout,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], Connection<T, C>, "Connection");

impl<T, C: Codec<T>> Connection<T, C> {
    pub(crate) const KIND: Kind = Kind::Connection;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["connection", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    /// Makes a pipe: end 0, which receives at least, and end 1, which sends at least.
    pub(crate) fn create(session: &Arc<Session>, capacity: usize, duplex: bool) -> Result<(Self, Self)> {
        let (spec, fingerprint) = (Queue::<T, C>::spec(Some(capacity))?, Self::fingerprint());
        let segment = session.segment();
        let core = session.create(Kind::Pipe, fingerprint, |me, root| pipe::create(me, root, &spec, duplex))?;
        let core = Handle::adopt(session, core, Kind::Pipe, fingerprint)?;
        let core_id = core.hold.id();
        object::entry(segment, core_id.index)?.mark(core_id, NESTED)?;
        let end = |side: u32| -> Result<Handle> {
            let id = session.create(Self::KIND, fingerprint, |me, root| pipe::create_end(me, root, core_id, side))?;
            let handle = Handle::adopt(session, id, Self::KIND, fingerprint)?;
            object::entry(segment, id.index)?.mark(id, BEARS)?;
            Ok(handle)
        };
        let ends = [end(0)?, end(1)?];
        pipe::name_ends(segment, core.root, [ends[0].hold.id(), ends[1].hold.id()])?;
        let [first, second] = ends.map(Self::over);
        Ok((first?, second?))
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        Self::over_any(handle, Self::fingerprint())
    }

    /// The same for an end of a pipe of other types, which is not to be sent or received by.
    pub(crate) fn over_any(handle: Handle, fingerprint: u64) -> Result<Self> {
        let session = handle.hold.session();
        let (core, side) = pipe::read_end(handle.hold.segment()?, handle.root)?;
        // The end, which we hold, holds it.
        if !session.hold(core)? {
            return Err(Error::corrupted("an end without its pipe"));
        }
        let core = Handle::adopt(session, core, Kind::Pipe, fingerprint)?;
        let pipe = Pipe::open(core.hold.segment()?, core.root, side, handle.hold.id())?;
        Ok(Connection { handle, core: core.hold, pipe, lookout: Lookout::default(), types: PhantomData })
    }

    /// The same end by another handle of it: nothing is read again.
    fn with_handle(&self, handle: Handle) -> Self {
        let (core, pipe) = (self.core.clone(), self.pipe.clone());
        Connection { handle, core, pipe, lookout: Lookout::default(), types: PhantomData }
    }

    #[inline(always)]
    fn segment(&self) -> Result<&Segment> {
        let segment = self.handle.hold.segment()?;
        self.core.segment()?; // in a forked child, where the end is held by now
        match self.pipe.is_closed(segment)? {
            false => Ok(segment),
            true => Err(closed()),
        }
    }

    /// The ring to send into.
    #[inline(always)]
    fn outgoing(&self) -> Result<&Ring> {
        self.pipe.outgoing().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "this end of the pipe only receives"))
    }

    /// The ring to receive from.
    #[inline(always)]
    fn incoming(&self) -> Result<&Ring> {
        self.pipe.incoming().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "this end of the pipe only sends"))
    }

    /// Whether this end can receive: all can but one of a one-way pipe.
    pub fn is_readable(&self) -> bool {
        self.pipe.incoming().is_some()
    }

    /// Whether this end can send: all can but one of a one-way pipe.
    pub fn is_writable(&self) -> bool {
        self.pipe.outgoing().is_some()
    }

    /// Sends a message, waiting for room as long as it takes.
    #[inline]
    pub fn send(&self, message: &T) -> Result<()> {
        never_ends(self.encoded(message, |bytes, handles| self.push_until(bytes, handles, || Deadline::NEVER))?)
    }

    /// Sends a message if there is room now.
    #[inline]
    pub fn try_send(&self, message: &T) -> Result<Put> {
        self.encoded(message, |bytes, handles| self.push_now(bytes, handles))
    }

    /// Sends a message, waiting for room for at most `timeout`.
    pub fn send_timeout(&self, message: &T, timeout: Duration) -> Result<Put> {
        self.encoded(message, |bytes, handles| self.push_until(bytes, handles, || Deadline::after(timeout)))
    }

    /// Sends bytes as one message, waiting for room as long as it takes.
    #[inline]
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        never_ends(self.push_until(bytes, &[], || Deadline::NEVER)?)
    }

    /// Sends bytes as one message, waiting for room for at most `timeout`.
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<Put> {
        self.push_until(bytes, &[], || Deadline::after(timeout))
    }

    /// Receives a message, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `EndOfFile` if none will come.
    #[inline]
    pub fn recv(&self) -> Result<T> {
        self.pop_endless(Decoded::<T, C>(PhantomData))
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    /// `EndOfFile` if none will come.
    #[inline]
    pub fn try_recv(&self) -> Result<Option<T>> {
        self.pop(self.segment()?, self.incoming()?, &mut Decoded::<T, C>(PhantomData))
    }

    /// Receives a message, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// `EndOfFile` if none will come.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.pop_until(Decoded::<T, C>(PhantomData), Deadline::after(timeout))
    }

    /// Receives a message as bytes, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `EndOfFile` if none will come.
    pub fn recv_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.recv_bytes_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Receives a message as bytes into `buffer`, in place of what it holds, waiting for one as long as it takes. Returns its
    /// length. A buffer that is used again and again is allocated once.
    ///
    /// # Errors
    /// `EndOfFile` if none will come.
    #[inline]
    pub fn recv_bytes_into(&self, buffer: &mut Vec<u8>) -> Result<usize> {
        self.pop_endless(Bytes(buffer))
    }

    /// Receives a message as bytes into `buffer`, waiting for one for at most `timeout`; its length.
    ///
    /// # Errors
    /// `EndOfFile` if none will come.
    pub fn recv_bytes_into_timeout(&self, buffer: &mut Vec<u8>, timeout: Duration) -> Result<Option<usize>> {
        self.pop_until(Bytes(buffer), Deadline::after(timeout))
    }

    /// Waits for at most `timeout` for something to receive: a message, or the end of file. Whether there is something; if
    /// several threads or processes receive by this end, another may be quicker to take it.
    pub fn poll(&self, timeout: Duration) -> Result<bool> {
        let (segment, ring) = (self.segment()?, self.incoming()?);
        if ring.peek(segment)? != Peek::Nothing {
            return Ok(true);
        }
        let deadline = Deadline::after(timeout);
        let mut sleeper = ring.wait_for_item(segment, deadline);
        while self.next(segment, &mut sleeper)? {
            if ring.peek(segment)? != Peek::Nothing {
                return Ok(true);
            }
            if deadline.left().is_none() {
                break;
            }
            // Trying is worth while and there is nothing: somebody is at work in the ring, or died there.
            self.look_after(segment, &mut sleeper)?;
            std::thread::sleep(NAP);
        }
        Ok(false)
    }

    /// Messages until the end of file, or until the first error, which comes last.
    pub fn iter(&self) -> impl Iterator<Item = Result<T>> + '_ {
        let mut over = false;
        std::iter::from_fn(move || {
            if over {
                return None;
            }
            let message = self.recv();
            over = message.is_err();
            match message {
                Err(error) if error.kind() == ErrorKind::EndOfFile => None,
                message => Some(message),
            }
        })
    }

    /// Closes this end for all who have it, threads that wait by it included: they can use it no more, and the other end
    /// learns of it as if this one were gone. Closing again does nothing.
    ///
    /// # Crash
    /// Closed or not; who waits at either end learns of it within 50 ms.
    pub fn close(&self) -> Result<()> {
        let segment = self.handle.hold.segment()?;
        self.core.segment()?;
        self.pipe.close(segment)
    }

    /// A file descriptor that is readable when there is something to receive, for event loops.
    ///
    /// # Errors
    /// `InvalidInput` for an end that only sends; `TooMany` or `Io` if there is no descriptor or thread to be had.
    pub fn readiness(&self) -> Result<Readiness>
    where
        T: 'static,
        C: 'static,
    {
        self.incoming()?;
        Readiness::new(Box::new(self.clone()))
    }

    #[inline(always)]
    fn encoded<R>(&self, message: &T, f: impl FnOnce(&[u8], &[u64]) -> Result<R>) -> Result<R> {
        let segment = self.segment()?;
        C::with_encoded(message, |encoded| {
            // A message is on its way and not stored: a handle of another segment that comes along is the sender's to keep.
            let handles = match encoded.has_handles() {
                true => mark_handles(segment, self.core.id(), encoded.handles_of(segment.id()))?,
                false => Vec::new(),
            };
            f(encoded.bytes(), &handles)
        })?
    }

    #[inline(always)]
    fn push_now(&self, bytes: &[u8], handles: &[u64]) -> Result<Put> {
        let (segment, ring) = (self.segment()?, self.outgoing()?);
        if self.lookout.is_due() {
            self.look_for_the_other(segment)?;
        }
        self.push(segment, ring, bytes, handles)
    }

    /// The object that the end is.
    pub(crate) fn id(&self) -> ObjectId {
        self.handle.hold.id()
    }

    /// Whether the other end is gone. Looks for it wherever it could be.
    pub(crate) fn is_abandoned(&self) -> Result<bool> {
        let segment = self.segment()?;
        self.pipe.is_other_gone(segment, true)
    }
}

impl<T, C: Codec<T>> Waitable for Connection<T, C> {
    fn source(&self) -> Source<'_> {
        Source(Inner::Shared(self))
    }
}

impl<T, C: Codec<T>> Watched for Connection<T, C> {
    fn is_ready(&self) -> Result<bool> {
        Ok(self.incoming()?.peek(self.segment()?)? != Peek::Nothing)
    }

    fn watch(&self, cursor: u32) -> Result<Box<dyn Watch<'_> + '_>> {
        let (segment, ring) = (self.segment()?, self.incoming()?);
        let sleeper = ring.wait_for_item(segment, Deadline::NEVER).looking_from(cursor);
        Ok(Box::new(RingWatch::new(segment, sleeper, || self.look_now_and_then(segment))))
    }
}

/// Between looks that find neither something to take nor something to sleep on.
pub(crate) const NAP: Duration = Duration::from_millis(1);

impl<T, C> Drop for Connection<T, C> {
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        if crate::mem::armed::is_dead() {
            return; // the other end finds it out
        }
        // A forked copy that was not used has nothing to let go of.
        if !self.handle.hold.is_of_this_process() {
            return;
        }
        self.handle.hold.release();
        if let Ok(segment) = self.core.segment()
            && pipe::was_last(segment, self.handle.hold.id()).unwrap_or(false)
        {
            let _ = self.pipe.shut(segment); // failing, the other end finds it out for itself
        }
    }
}

fn never_ends(put: Put) -> Result<()> {
    match put {
        Put::Done => Ok(()),
        Put::Full => Err(endless()),
    }
}

#[cold]
fn endless() -> Error {
    Error::new(ErrorKind::Stalled, "a wait without end that ended")
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this end of a pipe")
}
