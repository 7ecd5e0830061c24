//! What goes through the pool's queues.
//!
//! | message | head | then |
//! |---|---|---|
//! | chunk, to a worker | `id: u64`, runner and function: `offset: u32` each, `tag: u64` each | items: `length: u32`, bytes |
//! | nudge, to a worker | nothing at all | |
//! | results, to the parent | `id: u64`, `first: u32`, `count: u32` | records |
//! | end of a worker, from the parent to itself | `END: u64`, `seat: u32`, 0 | |
//!
//! A record is `length: u32`, `tag: u32`, bytes padded with zeros to whole words: the form in which it lies in the outbox.

use crate::error::{Error, ErrorKind, Result};
use crate::os::Sealed;

/// Bytes of a chunk's head.
pub const CHUNK_HEAD: usize = 32;
/// Bytes of the head of results.
pub const RESULTS_HEAD: usize = 16;
/// In the place of a chunk's number: a worker has ended.
pub const END: u64 = u64::MAX;

/// A record's tag: a value.
const VALUE: u32 = 0;
/// A value with handles, which the worker keeps until it is told that they were taken.
const VALUE_WITH_HANDLES: u32 = 1;
/// An error.
const FAILURE: u32 = 2;

/// What a chunk's tasks are: the runner that knows the function's types, and the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    pub runner: Sealed,
    pub function: Sealed,
}

/// Begins a chunk's message; items follow.
pub fn begin_chunk(names: &Names, out: &mut Vec<u8>) {
    out.clear();
    out.extend([0; 8]);
    out.extend(names.runner.offset.to_le_bytes());
    out.extend(names.function.offset.to_le_bytes());
    out.extend(names.runner.tag.to_le_bytes());
    out.extend(names.function.tag.to_le_bytes());
}

/// Appends an item.
///
/// # Errors
/// `TooLarge` beyond 4 GiB.
pub fn push_item(out: &mut Vec<u8>, item: &[u8]) -> Result<()> {
    out.extend(length(item)?.to_le_bytes());
    out.extend(item);
    Ok(())
}

fn length(bytes: &[u8]) -> Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| Error::new(ErrorKind::TooLarge, format!("a value of {} bytes", bytes.len())))
}

/// Gives a chunk its number.
pub fn set_id(message: &mut [u8], id: u64) {
    if let Some(field) = message.first_chunk_mut() {
        *field = id.to_le_bytes();
    }
}

/// The number of a chunk or of results.
pub fn id(message: &[u8]) -> Option<u64> {
    message.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Takes a chunk's message apart: its number, its names, and its items.
pub fn chunk(message: &[u8]) -> Result<(u64, Names, &[u8])> {
    let parts = || {
        let runner = Sealed { offset: u32_at(message, 8)?, tag: u64_at(message, 16)? };
        let function = Sealed { offset: u32_at(message, 12)?, tag: u64_at(message, 24)? };
        Some((id(message)?, Names { runner, function }, message.get(CHUNK_HEAD..)?))
    };
    parts().ok_or_else(|| Error::corrupted("a pool's task"))
}

/// The first of `items`, and those behind it.
pub fn split_item(items: &[u8]) -> Result<(&[u8], &[u8])> {
    let item = || items.get(4..)?.split_at_checked(u32_at(items, 0)? as usize);
    item().ok_or_else(|| Error::corrupted("the items of a pool's task"))
}

/// The message of a chunk that is `count` items of another, from its item `from` on.
pub fn part(message: &[u8], from: u32, count: u32) -> Result<Vec<u8>> {
    let (_, names, mut items) = chunk(message)?;
    for _ in 0..from {
        items = split_item(items)?.1;
    }
    let mut out = Vec::new();
    begin_chunk(&names, &mut out);
    for _ in 0..count {
        let (item, rest) = split_item(items)?;
        push_item(&mut out, item)?;
        items = rest;
    }
    Ok(out)
}

/// The head of a message of results.
pub fn results_head(id: u64, first: u32, count: u32) -> [u8; RESULTS_HEAD] {
    let mut head = [0; RESULTS_HEAD];
    head[..8].copy_from_slice(&id.to_le_bytes());
    head[8..12].copy_from_slice(&first.to_le_bytes());
    head[12..].copy_from_slice(&count.to_le_bytes());
    head
}

/// Takes the head of results apart.
pub fn results(message: &[u8]) -> Option<(u64, u32, u32, &[u8])> {
    Some((id(message)?, u32_at(message, 8)?, u32_at(message, 12)?, message.get(RESULTS_HEAD..)?))
}

/// Appends the record of a value.
pub fn push_value(out: &mut Vec<u8>, bytes: &[u8], handles: bool) -> Result<()> {
    push_record(out, if handles { VALUE_WITH_HANDLES } else { VALUE }, bytes)
}

/// Appends the record of an error.
pub fn push_failure(out: &mut Vec<u8>, error: &Error) -> Result<()> {
    push_record(out, FAILURE, &postcard::to_stdvec(error).unwrap_or_default())
}

fn push_record(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) -> Result<()> {
    out.extend(length(bytes)?.to_le_bytes());
    out.extend(tag.to_le_bytes());
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
    Ok(())
}

/// What became of a task, as it came.
pub enum Outcome<'a> {
    Value(&'a [u8]),
    Failed(Error),
}

/// The first of `records`, and those behind it.
pub fn split_record(records: &[u8]) -> Option<(Outcome<'_>, &[u8])> {
    let (len, tag) = (u32_at(records, 0)? as usize, u32_at(records, 4)?);
    let bytes = records.get(8..)?.get(..len)?;
    let rest = records.get(8 + len.next_multiple_of(8)..)?;
    let outcome = match tag {
        VALUE | VALUE_WITH_HANDLES => Outcome::Value(bytes),
        FAILURE => Outcome::Failed(postcard::from_bytes(bytes).unwrap_or_else(|_| garbled())),
        _ => return None,
    };
    Some((outcome, rest))
}

/// How many of the first `count` records are whole, and the bytes that they take.
pub fn whole_records(records: &[u8], count: u32) -> (u32, usize) {
    let mut rest = records;
    for found in 0..count {
        match split_record(rest) {
            Some((_, behind)) => rest = behind,
            None => return (found, records.len() - rest.len()),
        }
    }
    (count, records.len() - rest.len())
}

/// Whether a record among them is of a value with handles.
pub fn have_handles(mut records: &[u8]) -> bool {
    while let Some((_, rest)) = split_record(records) {
        if u32_at(records, 4) == Some(VALUE_WITH_HANDLES) {
            return true;
        }
        records = rest;
    }
    false
}

fn garbled() -> Error {
    Error::corrupted("an error of a pool's task")
}

/// An error that can be had more than once.
#[derive(Clone)]
pub struct Shown {
    kind: ErrorKind,
    text: String,
}

impl Shown {
    /// What `error` says.
    pub fn of(error: &Error) -> Shown {
        let text = match std::error::Error::source(error) {
            Some(source) => format!("{} ({source})", error.context()),
            None => error.context().to_owned(),
        };
        Shown { kind: error.kind(), text }
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same with another context in front.
    pub fn within(&self, outer: &str) -> Shown {
        Shown { kind: self.kind, text: format!("{outer}: {}", self.text) }
    }

    /// The error again.
    pub fn error(&self) -> Error {
        Error::new(self.kind, self.text.clone())
    }
}

#[cfg(test)]
mod tests {
    //! Proves that messages come apart as they were put together, and that garbage is an error.
    use super::*;

    fn names() -> Names {
        Names { runner: Sealed { offset: 1, tag: 2 }, function: Sealed { offset: 3, tag: 4 } }
    }

    #[test]
    fn chunks_and_parts() {
        let mut message = Vec::new();
        begin_chunk(&names(), &mut message);
        for item in [&b"a"[..], b"", b"ccc"] {
            push_item(&mut message, item).unwrap();
        }
        set_id(&mut message, 77);
        let (id, found, items) = chunk(&message).unwrap();
        assert_eq!((id, found), (77, names()));
        let (item, _) = split_item(items).unwrap();
        assert_eq!(item, b"a");
        let part = part(&message, 1, 2).unwrap();
        let (_, found, items) = chunk(&part).unwrap();
        assert_eq!(found, names());
        let (item, items) = split_item(items).unwrap();
        assert_eq!(item, b"");
        assert_eq!(split_item(items).unwrap(), (&b"ccc"[..], &b""[..]));
        assert!(super::part(&message, 2, 2).is_err());
    }

    #[test]
    fn records_and_garbage() {
        let mut records = Vec::new();
        push_value(&mut records, b"abc", false).unwrap();
        push_failure(&mut records, &Error::new(ErrorKind::Panicked, "boom")).unwrap();
        assert!(!have_handles(&records));
        push_value(&mut records, b"", true).unwrap();
        assert!(have_handles(&records));
        assert_eq!(whole_records(&records, 3), (3, records.len()));
        assert_eq!(whole_records(&records, 9).0, 3);
        let (outcome, rest) = split_record(&records).unwrap();
        assert!(matches!(outcome, Outcome::Value(b"abc")));
        let Some((Outcome::Failed(error), _)) = split_record(rest) else { panic!("a failure") };
        assert_eq!((error.kind(), error.context()), (ErrorKind::Panicked, "boom"));
        for garbage in [&[0xff; 16][..], &[1, 0, 0, 0], &[]] {
            assert!(split_record(garbage).is_none());
            assert!(split_item(garbage).is_err() && chunk(garbage).is_err());
        }
    }
}
