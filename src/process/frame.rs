//! What goes over the channel: frames of a head and a payload.
//!
//! | bytes | head |
//! |---|---|
//! | 0..7 | `commons` |
//! | 7 | [`Kind`] |
//! | 8..16 | length of the payload, little-endian |
//!
//! The parent sends `Job`, `Args`; to a forked child it sends nothing. The child sends `Decoded`, if its arguments may hold
//! handles, and then `Returned` or `Failed`.

use std::io;

use serde::{Deserialize, Serialize};

use super::origin::Origin;
use crate::error::{Error, ErrorKind, Result};
use crate::os::{Channel, FunctionRef, Transfer};

const MAGIC: &[u8; 7] = b"commons";
/// Bytes of a head.
pub const HEAD: usize = 16;
/// Room for the next receipt: at least this much, and at most that.
const ROOM: std::ops::RangeInclusive<usize> = 4 << 10..=1 << 20;

/// Payloads of at most this many bytes are copied, so that they go in one piece with what precedes them.
pub const SMALL: usize = 16 << 10;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// What to do: a [`Job`].
    Job = 1,
    /// The encoded arguments.
    Args = 2,
    /// The arguments have been decoded: whatever they need is held by the child itself now.
    Decoded = 3,
    /// The encoded result.
    Returned = 4,
    /// The function was not run, it panicked, or its result could not be sent: an [`Error`].
    Failed = 5,
}

/// What a child is started for.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// `fn(Task)`, which knows the types of arguments and result.
    pub entry: FunctionRef,
    /// The function to run.
    pub function: FunctionRef,
    /// What the child is told about itself.
    pub origin: Origin,
}

/// A head, which the payload is to follow.
pub fn head(kind: Kind, len: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..7].copy_from_slice(MAGIC);
    head[7] = kind as u8;
    head[8..].copy_from_slice(&(len as u64).to_le_bytes());
    head
}

/// One frame as it came.
pub struct Frame {
    /// What it says.
    pub kind: Kind,
    bytes: Vec<u8>,
}

impl Frame {
    /// What it says it about.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[HEAD..]
    }

    /// The payload as a message.
    pub fn message<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        postcard::from_bytes(self.payload()).map_err(|_| garbled())
    }
}

fn garbled() -> Error {
    Error::new(ErrorKind::Process, "the channel carries something else than messages of this library")
}

/// What has come of frames.
#[derive(Default)]
pub struct Inbox {
    /// Received up to `filled`; what lies beyond is room.
    bytes: Vec<u8>,
    filled: usize,
}

impl Inbox {
    /// Receives what there is, or a part of it, without waiting.
    pub fn fill(&mut self, channel: &Channel) -> io::Result<Transfer> {
        let missing = self.end().ok().flatten().unwrap_or(0).saturating_sub(self.filled);
        let wanted = self.filled + missing.clamp(*ROOM.start(), *ROOM.end());
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        let transfer = channel.receive(&mut self.bytes[self.filled..])?;
        if let Transfer::Done(len) = transfer {
            self.filled += len;
        }
        Ok(transfer)
    }

    /// Where the first frame ends; `None` as long as its head is not complete.
    fn end(&self) -> Result<Option<usize>> {
        let Some(head) = self.bytes[..self.filled].first_chunk::<HEAD>() else { return Ok(None) };
        let (name, rest) = head.split_at(8);
        let len = u64::from_le_bytes(rest.try_into().map_err(|_| garbled())?);
        let end = usize::try_from(len).ok().and_then(|len| len.checked_add(HEAD)).ok_or_else(garbled)?;
        if &name[..7] == MAGIC { Ok(Some(end)) } else { Err(garbled()) }
    }

    /// The next frame, if it has come completely.
    ///
    /// # Errors
    /// `Process` if what has come is no frame.
    pub fn take(&mut self) -> Result<Option<Frame>> {
        let Some(end) = self.end()?.filter(|end| *end <= self.filled) else { return Ok(None) };
        let kind = [Kind::Job, Kind::Args, Kind::Decoded, Kind::Returned, Kind::Failed]
            .into_iter()
            .find(|kind| *kind as u8 == self.bytes[7])
            .ok_or_else(garbled)?;
        let rest = self.bytes[end..self.filled].to_vec();
        self.filled = rest.len();
        let mut bytes = std::mem::replace(&mut self.bytes, rest);
        bytes.truncate(end);
        Ok(Some(Frame { kind, bytes }))
    }
}

#[cfg(test)]
mod tests {
    //! Proves that frames come out as they went in, however they were cut, and that garbage is an error.
    use super::*;

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox { bytes: bytes.to_vec(), filled: bytes.len() }
    }

    #[test]
    fn frames_come_out_one_by_one() {
        let bytes = [&head(Kind::Decoded, 0)[..], &head(Kind::Returned, 3), b"abc", b"com"].concat();
        let mut inbox = inbox(&bytes);
        assert_eq!(inbox.take().unwrap().unwrap().kind, Kind::Decoded);
        let frame = inbox.take().unwrap().unwrap();
        assert_eq!((frame.kind, frame.payload()), (Kind::Returned, &b"abc"[..]));
        assert!(inbox.take().unwrap().is_none());
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(inbox(&[7; 100]).take().is_err());
        let mut bad = head(Kind::Job, 0);
        bad[7] = 99;
        assert!(inbox(&bad).take().is_err());
        assert!(inbox(&head(Kind::Job, usize::MAX)).take().is_err());
        assert!(inbox(&head(Kind::Job, 1 << 60)).take().unwrap().is_none());
    }
}
