//! The crash-safe list.
//!
//! # Algorithm
//!
//! A *spine* is a block of slots with a header; the slots in use are a run, of which one word tells beginning and length.
//! Readers are optimistic under the sequence in the list's latch (see `slot`), writers take the latch. What happens at an
//! end is done in place. Everything else builds a new spine aside, which takes over the slots that stay, and publishes it:
//! so inserting in the middle, sorting, and replacing whole ranges are one store, too.
//!
//! The root, in words:
//!
//! ```text
//! 0  latch and sequence
//! 1  form        whether slots are values or refer to blocks (laid out as a lock's value, see `cell`)
//! 2  spine       offset, or 0: the list is empty
//! 3  moves       rises before elements get other indices
//! ```
//!
//! A spine, in words:
//!
//! ```text
//! 0  start:32 | length:32      which slots are in use
//! 1  capacity                  number of slots
//! 2  first:32 | end:32         after it was replaced: the slots whose blocks go with it
//! 4..  slots
//! ```
//!
//! # Thread safety and invariants
//!
//! 1. Under one latch acquisition exactly one store changes what readers see, the *commit*: of word 0 of the spine, of one
//!    slot, or of the root's spine word. Slots not in use, and a spine's word 2, are written freely under the latch.
//! 2. A spine, or a block that a slot refers to, is written to or freed only by whoever unlinked it, after the
//!    latch was released: by then the sequence has risen.
//! 3. A block is referred to by one slot of the published spine, or by one word of one *stage*: a block that
//!    collects new elements until they are published together.
//! 4. The latch lives in the root, which goes only with the whole list.
//!
//! What a kill leaves is rolled back or forward in `recover`.

mod items;
mod pop;
mod push;
mod read;
mod recover;
mod splice;
#[cfg(test)]
mod tests;
mod visit;

pub use items::Items;
pub use pop::{End, Taken};
pub use read::Snapshot;
pub use recover::resolve;
pub use splice::Place;
pub use visit::{check, visit, visit_handles};

use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Op, OpKind, Segment, Word};

/// Words of the root block.
mod root {
    pub const FORM: usize = 1;
    pub const SPINE: usize = 2;
    pub const MOVES: usize = 3;
    pub const WORDS: usize = 8;
}

/// Words of a spine.
mod spine {
    pub const HEAD: usize = 0;
    pub const CAPACITY: usize = 1;
    pub const DOOMED: usize = 2;
    pub const SLOTS: usize = 4;
}

const FORM_INLINE: u64 = 1;
const FORM_BOXED: u64 = 2;

/// How far an operation is: its new elements, if any, are the one block that `alloc` names.
const SINGLE: u8 = 0;
/// `alloc` names a stage of as many words as the argument says.
const STAGED: u8 = 1;
/// Committed: what the list refers to no more is being freed.
const DONE: u8 = 2;

/// A list: where its root is, and whether its elements are blocks.
#[derive(Clone, Copy, Debug)]
pub struct List {
    root: u64,
    boxed: bool,
}

/// Beginning and length of the run of slots in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    start: u64,
    len: u64,
}

impl Head {
    fn pack(self) -> u64 {
        self.start << 32 | self.len
    }

    fn unpack(word: u64) -> Head {
        Head { start: word >> 32, len: word & 0xffff_ffff }
    }
}

/// A spine, and what it said when it was looked at.
#[derive(Clone, Copy)]
struct Spine<'a> {
    off: u64,
    words: &'a [Word],
    head: Head,
}

impl<'a> Spine<'a> {
    /// The spine at `off`. What an optimistic reader gets here may be anything; the bounds hold in any case.
    #[inline]
    fn at(segment: &'a Segment, off: u64) -> Result<Spine<'a>> {
        let header = segment.words(off, spine::SLOTS)?;
        let capacity = header[spine::CAPACITY].load(Ordering::Relaxed) & 0xffff_ffff;
        let words = segment.words(off, spine::SLOTS + capacity as usize)?;
        let head = Head::unpack(words[spine::HEAD].load(Ordering::Acquire));
        if head.start + head.len > capacity {
            return Err(Error::corrupted("the length of a list"));
        }
        Ok(Spine { off, words, head })
    }

    /// The slots in use.
    #[inline]
    fn slots(&self) -> &'a [Word] {
        &self.words[spine::SLOTS + self.head.start as usize..][..self.head.len as usize]
    }

    /// The slots behind those in use.
    #[inline]
    fn room(&self) -> &'a [Word] {
        &self.words[spine::SLOTS + (self.head.start + self.head.len) as usize..]
    }
}

/// Builds an empty list and stores its root in `root_ref`.
///
/// # Errors
/// `OutOfMemory`.
pub fn create(me: &Me<'_>, root_ref: &Word, boxed: bool) -> Result<()> {
    let block = me.alloc(root::WORDS as u64 * 8, Field::Alloc)?;
    let words = me.segment.words(block, root::WORDS)?;
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    words[root::FORM].store(if boxed { FORM_BOXED } else { FORM_INLINE }, Ordering::Relaxed);
    root_ref.store(block, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    Ok(())
}

impl List {
    /// Opens the list with its root at `root`.
    ///
    /// # Errors
    /// `Corrupted` if there is no list.
    pub fn open(segment: &Segment, root: u64) -> Result<List> {
        match segment.words(root, root::WORDS)?[root::FORM].load(Ordering::Acquire) {
            FORM_INLINE => Ok(List { root, boxed: false }),
            FORM_BOXED => Ok(List { root, boxed: true }),
            _ => Err(Error::corrupted("the form of a list")),
        }
    }

    /// Whether its elements are blocks.
    pub fn is_boxed(&self) -> bool {
        self.boxed
    }

    #[inline]
    fn root<'a>(&self, segment: &'a Segment) -> Result<&'a [Word]> {
        segment.words(self.root, root::WORDS)
    }

    /// The spine, unless there is none.
    #[inline]
    fn spine<'a>(&self, segment: &'a Segment) -> Result<Option<Spine<'a>>> {
        match self.root(segment)?[root::SPINE].load(Ordering::Acquire) {
            0 => Ok(None),
            off => Spine::at(segment, off).map(Some),
        }
    }

    /// Says what is about to be done under the latch.
    #[inline]
    fn announce(&self, me: &Me<'_>, kind: OpKind, phase: u8, argument: u64) {
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Cell, 0);
        me.intent.set(Field::Op, Op { kind, phase, argument }.pack());
    }
}

#[cold]
fn out_of_range(index: u64, len: u64) -> Error {
    Error::new(ErrorKind::OutOfRange, format!("index {index} of a list of {len}"))
}
