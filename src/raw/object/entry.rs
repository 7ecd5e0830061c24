//! An entry of the object table: its words, and the bits of those who hold the object.

use std::sync::atomic::Ordering;

use super::{Kind, ObjectId, State, Status};
use crate::error::{Error, Result};
use crate::mem::layout::{OBJECT_CHUNKS, OBJECTS_PER_CHUNK, ObjectEntry, header};
use crate::mem::{Segment, Word};

/// An entry of the object table.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    words: &'a [Word],
    /// Its index.
    pub index: u32,
}

macro_rules! field {
    ($entry:expr, $field:ident) => {
        $entry.words[std::mem::offset_of!(ObjectEntry, $field) / 8]
    };
}

/// The entry `index`.
///
/// # Errors
/// `Corrupted` if there is none.
pub fn entry(segment: &Segment, index: u32) -> Result<Entry<'_>> {
    let (chunk, position) = (u64::from(index) / OBJECTS_PER_CHUNK, u64::from(index) % OBJECTS_PER_CHUNK);
    if chunk >= OBJECT_CHUNKS {
        return Err(Error::corrupted("the index of an object"));
    }
    let base = segment.header(header!(object_chunks) + chunk * 8).load(Ordering::Acquire);
    if base == 0 {
        return Err(Error::corrupted("the index of an object"));
    }
    let size = size_of::<ObjectEntry>();
    Ok(Entry { words: segment.words(base.wrapping_add(position * size as u64), size / 8)?, index })
}

/// Every entry that was ever used.
pub fn entries(segment: &Segment) -> impl Iterator<Item = Result<Entry<'_>>> {
    let used = segment.header(header!(objects_used)).load(Ordering::Acquire).min(OBJECT_CHUNKS * OBJECTS_PER_CHUNK);
    (0..used as u32).map(move |index| entry(segment, index))
}

impl<'a> Entry<'a> {
    pub(super) fn state_word(&self) -> &'a Word {
        &field!(self, state)
    }

    /// Its state word.
    pub fn status(&self) -> Result<Status> {
        Status::unpack(self.state_word().load(Ordering::SeqCst))
    }

    /// Identity of the object now in it.
    pub fn id(&self, status: Status) -> ObjectId {
        ObjectId { index: self.index, generation: status.generation }
    }

    /// Moves from exactly `from` to `state`, keeping flags and generation.
    #[must_use]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn transition(&self, from: Status, state: State, owner: u64) -> bool {
        let to = Status { state, owner, ..from };
        self.state_word().cas(from.pack(), to.pack(), Ordering::SeqCst).is_ok()
    }

    /// Says what the object is, while it is being built.
    pub(super) fn describe(&self, kind: Kind, fingerprint: u64) {
        field!(self, kind).store(kind as u64, Ordering::Relaxed);
        field!(self, fingerprint).store(fingerprint, Ordering::Relaxed);
    }

    /// The kind of object.
    pub fn kind(&self) -> Result<Kind> {
        Kind::from_word(field!(self, kind).load(Ordering::Acquire))
            .ok_or_else(|| Error::corrupted("the kind of an object"))
    }

    /// Fingerprint of type and codec.
    pub fn fingerprint(&self) -> u64 {
        field!(self, fingerprint).load(Ordering::Acquire)
    }

    /// The word that refers to the root block.
    pub fn root_ref(&self) -> &'a Word {
        &field!(self, root)
    }

    /// The root block.
    pub fn root(&self) -> u64 {
        self.root_ref().load(Ordering::Acquire)
    }

    fn holders(&self) -> &'a [Word] {
        &self.words[std::mem::offset_of!(ObjectEntry, holders) / 8..]
    }

    /// Sets the bit of `process`.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn hold(&self, process: u32) {
        self.holders()[process as usize / 64].fetch_or(1 << (process % 64), Ordering::SeqCst);
    }

    /// Clears the bit of `process`.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn let_go(&self, process: u32) {
        self.holders()[process as usize / 64].fetch_and(!(1 << (process % 64)), Ordering::SeqCst);
    }

    /// Whether `process` holds it.
    pub fn is_held_by(&self, process: u32) -> bool {
        self.holders()[process as usize / 64].load(Ordering::SeqCst) >> (process % 64) & 1 == 1
    }

    /// Whether any process holds it.
    pub fn is_held(&self) -> bool {
        self.holders().iter().any(|word| word.load(Ordering::SeqCst) != 0)
    }

    /// The processes that hold it.
    pub fn holder_list(&self) -> Vec<u32> {
        let words = self.holders().iter().map(|word| word.load(Ordering::SeqCst)).enumerate();
        words
            .flat_map(|(i, bits)| (0..64).filter(move |b| bits >> b & 1 == 1).map(move |b| i as u32 * 64 + b))
            .collect()
    }

    /// Sets flags of the object `id`; false if it is gone.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn mark(&self, id: ObjectId, flags: u64) -> Result<bool> {
        loop {
            let status = self.status()?;
            if status.generation != id.generation || matches!(status.state, State::Free | State::Dying) {
                return Ok(false);
            }
            if status.flags & flags == flags {
                return Ok(true);
            }
            let to = Status { flags: status.flags | flags, ..status };
            // A failed CAS means that another transition succeeded; flags only grow, so this ends.
            if self.state_word().cas(status.pack(), to.pack(), Ordering::SeqCst).is_ok() {
                return Ok(true);
            }
        }
    }
}
