//! Leases and loans of a joinable queue's items.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::agenda::{self, Patience, endless, try_until};
use crate::codec::{Auto, Codec};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::os;
use crate::raw::agenda::{Agenda, Token};
use crate::raw::{collect, recovery};

/// An item that this process has and that is not done yet. It stays where it is in the segment, and is read from there.
///
/// Dropped, it is given back: it stands in its old place again, and its next delivery has the next number. In a child that
/// forks while the lease exists, dropping it does nothing: the parent has it.
#[must_use = "the item is given back when the lease is dropped"]
pub struct Lease<'q, T, C: Codec<T> = Auto> {
    out: Out<'q>,
    types: PhantomData<fn() -> (T, C)>,
}

/// A block of zero bytes in the segment that is to become an item.
///
/// Dropped, it is freed. In a child that forks while the loan exists, dropping it does nothing: the parent has it.
#[must_use = "the loan becomes an item when it is committed"]
pub struct Loan<'q> {
    out: Out<'q>,
}

/// What is out of the queue, and in the queue's books.
struct Out<'q> {
    handle: &'q Handle,
    agenda: Agenda,
    /// None once it has ended.
    token: Option<Token>,
    /// Which process has it, told from its forked children.
    process: u64,
    /// Bytes.
    length: usize,
}

impl Out<'_> {
    fn token(&self) -> Result<&Token> {
        self.token.as_ref().filter(|_| self.process == os::generation()).ok_or_else(lost)
    }

    /// Ends it without giving it back.
    fn take(&mut self) -> Option<Token> {
        self.token.take().filter(|_| self.process == os::generation())
    }

    fn check(&self, offset: usize, length: usize) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(Error::new(
                ErrorKind::OutOfRange,
                format!("{length} bytes at {offset} of an item of {} bytes", self.length),
            )),
        }
    }

    fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.check(offset, out.len())?;
        self.agenda.load_at(self.handle.hold.segment()?, self.token()?, offset, out)
    }
}

#[cold]
fn lost() -> Error {
    Error::new(ErrorKind::LeaseLost, "an item of a queue")
}

/// Says that the item of a lease is done, or drops a loan.
pub(crate) fn end(handle: &Handle, agenda: &Agenda, token: &Token) -> Result<()> {
    let segment = handle.hold.segment()?;
    match recovery::run(segment, |me| agenda.acknowledge(me, token))? {
        Some(held_handles) if held_handles => collect::note_garbage(segment),
        Some(_) => Ok(()),
        None => Err(lost()),
    }
}

impl<'q, T, C: Codec<T>> Lease<'q, T, C> {
    pub(crate) fn over(handle: &'q Handle, agenda: Agenda, token: Token) -> Self {
        let out = Out { handle, agenda, token: Some(token), process: os::generation(), length: token.length };
        Lease { out, types: PhantomData }
    }

    /// What the lease is called, for whoever ends it by that; nothing happens when this one is dropped.
    pub(crate) fn into_token(mut self) -> Token {
        self.out.token.take().expect("a lease that has not ended")
    }

    /// The item.
    ///
    /// # Errors
    /// `Decode` if it is no `T`; `LeaseLost` if it was taken away because this process was taken for dead.
    pub fn get(&self) -> Result<T> {
        C::decode(&self.to_vec()?)
    }

    /// Which delivery of the item this is, from 1. A death while the item was given back may have counted once more.
    pub fn delivery(&self) -> u64 {
        self.out.token.map_or(0, |token| token.delivery)
    }

    /// Length of the encoded item in bytes.
    pub fn len(&self) -> usize {
        self.out.length
    }

    /// Whether the encoded item has no bytes.
    pub fn is_empty(&self) -> bool {
        self.out.length == 0
    }

    /// The encoded item.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.out.agenda.load(self.out.handle.hold.segment()?, self.out.token()?, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies bytes of the encoded item, from `offset` on.
    ///
    /// # Errors
    /// `OutOfRange` beyond its end; `LeaseLost`.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.out.read_at(offset, out)
    }

    /// Says that the item is done.
    ///
    /// # Crash
    /// Done, or still to be done by somebody.
    ///
    /// # Errors
    /// `LeaseLost` if it was taken away because this process was taken for dead; `Evicted` if it learns so now.
    pub fn ack(mut self) -> Result<()> {
        let token = self.out.take().ok_or_else(lost)?;
        end(self.out.handle, &self.out.agenda, &token)
    }

    /// Gives the item back to be delivered again. It waits where it stood before, even if there is no room.
    ///
    /// # Errors
    /// As [`ack`](Lease::ack).
    pub fn release(mut self) -> Result<()> {
        let token = self.out.take().ok_or_else(lost)?;
        match give_back(&self.out, &token)? {
            true => Ok(()),
            false => Err(lost()),
        }
    }
}

fn give_back(out: &Out<'_>, token: &Token) -> Result<bool> {
    recovery::run(out.handle.hold.segment()?, |me| out.agenda.give_back(me, token))
}

impl<T, C: Codec<T>> Drop for Lease<'_, T, C> {
    fn drop(&mut self) {
        if let Some(token) = self.out.take() {
            // What cannot be given back now goes back with the process.
            let _ = give_back(&self.out, &token);
        }
    }
}

impl<T, C: Codec<T>> fmt::Debug for Lease<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("delivery", &self.delivery()).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'q> Loan<'q> {
    pub(crate) fn over(handle: &'q Handle, agenda: Agenda, token: Token) -> Self {
        let out = Out { handle, agenda, token: Some(token), process: os::generation(), length: token.length };
        Loan { out }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.out.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.out.length == 0
    }

    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    /// `OutOfRange` beyond its end; `LeaseLost` if it was taken away because this process was taken for dead.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.out.check(offset, bytes.len())?;
        self.out.agenda.store_at(self.out.handle.hold.segment()?, self.out.token()?, offset, bytes)
    }

    /// Copies bytes out again, from `offset` on.
    ///
    /// # Errors
    /// As [`write_at`](Loan::write_at).
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.out.read_at(offset, out)
    }

    /// Makes it an item, waiting for room as long as it takes.
    ///
    /// # Crash
    /// An item, or nothing.
    ///
    /// # Errors
    /// `Closed`, and the loan is dropped; `LeaseLost`.
    pub fn commit(mut self) -> Result<()> {
        endless(self.commit_within(Patience::Endless)?)
    }

    /// The same for at most `timeout`; the loan if there was no room.
    pub fn commit_timeout(mut self, timeout: Duration) -> Result<Option<Loan<'q>>> {
        Ok(match self.commit_within(Patience::For(timeout))? {
            Some(()) => None,
            None => Some(self),
        })
    }

    fn commit_within(&mut self, patience: Patience) -> Result<Option<()>> {
        let segment = self.out.handle.hold.segment()?;
        let (agenda, token) = (self.out.agenda, *self.out.token()?);
        let attempt = || match recovery::run(segment, |me| agenda.commit(me, &token, 0))? {
            Some(put) => agenda::done(put),
            None => Err(lost()),
        };
        let committed = try_until(segment, &agenda, patience, |by| agenda.wait_for_room(segment, by), attempt)?;
        if committed.is_some() {
            self.out.token = None;
        }
        Ok(committed)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.out.take() {
            // What cannot be dropped now goes with the process.
            let _ = end(self.out.handle, &self.out.agenda, &token);
        }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.len()).finish_non_exhaustive()
    }
}
