//! The bytes between the socket manager's client and server.
//!
//!     request   u32 length | u8 operation | u8 object | u16 key length | key | value
//!     reply     u32 length | u8 status | value
//!
//! Integers are little-endian; a length counts the bytes after it. A request and its reply are one `write` each, and
//! the other side takes them with one `read` as long as they fit a socket buffer. A Unix socket delays nothing.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;

/// The longest frame either side accepts, in bytes.
const MAX_FRAME: usize = 1 << 20;

macro_rules! operations {
    ($($operation:ident),* $(,)?) => {
        /// What a request asks for. `object` says which dict, queue, lock and so on.
        #[derive(Clone, Copy, Debug)]
        #[repr(u8)]
        pub enum Operation {
            $($operation),*
        }

        impl Operation {
            const ALL: &[Operation] = &[$(Operation::$operation),*];
        }
    };
}

operations! {
    Ping,
    DictGet, DictSet, DictRemove, DictLen, DictClear,
    SetInsert, SetContains, SetClear,
    ListPush, ListGet, ListSet, ListSnapshot, ListClear,
    ValueLoad, ValueStore, ValueAdd,
    QueuePut, QueueGet,
    HeapPut, HeapGet,
    LockAcquire, LockRelease, LockWait, LockNotify,
    ReentrantAcquire, ReentrantRelease,
    ReadAcquire, ReadRelease, WriteAcquire, WriteRelease,
    SemaphoreAcquire, SemaphoreRelease,
    EventSet, EventClear, EventIsSet,
    BarrierWait,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Done,
    /// There is no such key, element or index.
    Absent,
    /// The request makes no sense: a lock that the connection does not hold, a number that is none.
    Refused,
}

impl Status {
    const ALL: [Status; 3] = [Status::Done, Status::Absent, Status::Refused];
}

/// A request, seen in its frame.
pub struct Request<'a> {
    pub operation: Operation,
    pub object: u8,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Request<'a> {
    /// Replaces the contents of `out` by this request's frame.
    ///
    /// # Panics
    ///
    /// When key or value is too long.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let length = 4 + self.key.len() + self.value.len();
        assert!(length <= MAX_FRAME, "a request of {length} bytes");
        out.clear();
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.extend_from_slice(&[self.operation as u8, self.object]);
        out.extend_from_slice(&u16::try_from(self.key.len()).expect("a short key").to_le_bytes());
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value);
    }

    /// The request in `frame`, which starts after the length.
    pub fn decode(frame: &'a [u8]) -> io::Result<Self> {
        let (head, rest) = frame.split_first_chunk::<4>().ok_or(ErrorKind::InvalidData)?;
        let operation = *Operation::ALL.get(usize::from(head[0])).ok_or(ErrorKind::InvalidData)?;
        let key_len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (key, value) = rest.split_at_checked(key_len).ok_or(ErrorKind::InvalidData)?;
        Ok(Request { operation, object: head[1], key, value })
    }
}

/// A reply's frame under construction: the value is appended, then the frame [finished](Reply::finish).
pub struct Reply(Vec<u8>);

impl Reply {
    const HEAD: usize = 5;

    pub fn new() -> Self {
        Reply(vec![0; Self::HEAD])
    }

    /// Forgets the previous value.
    pub fn clear(&mut self) {
        self.0.truncate(Self::HEAD);
    }

    pub fn extend(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// The complete frame.
    pub fn finish(&mut self, status: Status) -> &[u8] {
        let length = (self.0.len() - 4) as u32;
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0[4] = status as u8;
        &self.0
    }

    /// The reply in `frame`, which starts after the length.
    pub fn decode(frame: &[u8]) -> io::Result<(Status, &[u8])> {
        let (head, value) = frame.split_first().ok_or(ErrorKind::InvalidData)?;
        let status = *Status::ALL.get(usize::from(*head)).ok_or(ErrorKind::InvalidData)?;
        Ok((status, value))
    }
}

/// The receiving end of a stream of frames.
pub struct FrameReader {
    /// `buffer[taken..filled]` has been received and not yet been handed out.
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl FrameReader {
    pub fn new() -> Self {
        FrameReader { buffer: vec![0; 4096], taken: 0, filled: 0 }
    }

    /// Waits for the next frame and returns what follows its length.
    pub fn next(&mut self, mut stream: &UnixStream) -> io::Result<&[u8]> {
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
        loop {
            if let Some(length) = self.buffer[self.taken..self.filled].first_chunk() {
                let length = u32::from_le_bytes(*length) as usize;
                if length > MAX_FRAME {
                    return Err(ErrorKind::InvalidData.into());
                }
                let body = self.taken + 4;
                if self.filled - body >= length {
                    self.taken = body + length;
                    return Ok(&self.buffer[body..self.taken]);
                }
                self.make_room(4 + length);
            } else {
                self.make_room(4);
            }
            match stream.read(&mut self.buffer[self.filled..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.filled += count,
            }
        }
    }

    /// Makes the buffer hold a frame of `whole` bytes from `taken` on. That frame is incomplete, so there is then room
    /// to read into.
    fn make_room(&mut self, whole: usize) {
        if self.taken + whole > self.buffer.len() {
            self.buffer.copy_within(self.taken..self.filled, 0);
            (self.taken, self.filled) = (0, self.filled - self.taken);
            if whole > self.buffer.len() {
                self.buffer.resize(whole, 0);
            }
        }
    }
}
