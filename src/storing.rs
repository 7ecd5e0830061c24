//! What storing a value in a container, and reading it there, take besides: the marks of the objects that it holds, room,
//! and beginning again.

use crate::codec::Encoded;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Segment, Stop};
use crate::raw::object::{self, BEARS, NESTED, ObjectId};
use crate::raw::{collect, names};

/// What other objects hold may be garbage: when memory runs out, collect and try once more.
#[inline]
pub(crate) fn with_room<R>(segment: &Segment, mut operation: impl FnMut() -> Result<R>) -> Result<R> {
    match operation() {
        Err(e) if e.kind() == ErrorKind::OutOfMemory && collect::collect(segment)? > 0 => operation(),
        result => result,
    }
}

/// Marks the objects of a value that is about to be stored in `container`; their words for the entry.
#[inline]
pub(crate) fn prepare_handles(segment: &Segment, container: ObjectId, encoded: &Encoded<'_>) -> Result<Vec<u64>> {
    if !encoded.has_handles() {
        return Ok(Vec::new());
    }
    mark_handles(segment, container, encoded.handles_for(segment.id())?)
}

/// Marks objects that are about to be held by `container`; their words for the entry.
pub(crate) fn mark_handles(segment: &Segment, container: ObjectId, ids: Vec<ObjectId>) -> Result<Vec<u64>> {
    object::entry(segment, container.index)?.mark(container, BEARS)?;
    for id in &ids {
        if !object::entry(segment, id.index)?.mark(*id, NESTED)? {
            return Err(Error::new(ErrorKind::Stale, format!("object #{}, held by the value to store", id.index)));
        }
    }
    Ok(ids.into_iter().map(ObjectId::pack).collect())
}

/// How often an operation has begun again because somebody else was quicker.
#[derive(Default)]
pub(crate) struct Tries(u32);

impl Tries {
    /// Far beyond what contention does, and short of forever: a corrupted entry loses every time.
    const MOST: u32 = 1 << 20;

    #[inline]
    pub(crate) fn another(&mut self) -> Result<()> {
        self.0 += 1;
        if self.0 <= Self::MOST {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Contended, "an entry that changes all the time"))
    }
}

/// Repeats a read whose value held a handle of an object that went before the value was decoded: by then the entry has
/// been replaced or removed as well.
pub(crate) fn fresh<R>(mut read: impl FnMut() -> Result<R, Stop>) -> Result<R> {
    const TRIES: u32 = 16;
    let mut result = names::recovery_free(read());
    for _ in 0..TRIES {
        match &result {
            Err(e) if e.kind() == ErrorKind::Stale => result = names::recovery_free(read()),
            _ => break,
        }
    }
    result
}
