//! The agenda: items in the order of priority and arrival, handed out for good or on lease. Priority queues and joinable
//! queues stand on it; in a joinable queue all priorities are equal.
//!
//! | file | idea |
//! |---|---|
//! | `node` | one item: a block with its key, its links, its handles and bytes |
//! | `list` | the waiting items: a skip list (Pugh 1990) whose lowest level is the truth |
//! | `cells` | the leased items: a table of words that grows in doubling chunks |
//! | `put`, `take`, `lease` | the operations |
//! | `event` | sleeping until there is an item, room, or nothing left to do |
//! | `recover`, `visit` | what a kill leaves; everything that an agenda refers to, and its fsck |
//!
//! # Thread safety and invariants
//!
//! 1. Whoever changes anything but an event's word holds the latch. Bytes and handles of an item never change while it
//!    waits or is leased.
//! 2. An item is *waiting* if the lowest level of the list reaches it, else *leased* if a cell names it. A word in a cell
//!    of an item that waits means nothing; only the holder of the latch can leave one, and only for its successor's
//!    recovery to clear.
//! 3. Each upper level reaches a part of what the lowest one does, in the same order; which part matters for speed only.
//!    A tail is zero or an item that its level reaches. So neither needs repair.
//! 4. The counts are stored behind the commit. Recovery of a latch's holder counts again.
//! 5. A leased item names thread, process and incarnation of its lessee, as users' locks do, so anybody can tell that it is
//!    gone. Recovery gives back what its process had, and should that fail, whoever looks does.
//!
//! # What a kill leaves
//!
//! | operation | commit | killed before | killed behind |
//! |---|---|---|---|
//! | put | the link before the item | the item's block, freed | levels and counts |
//! | take | the first link | nothing | the item's block, freed |
//! | lease | the first link | a cell, cleared | a lease of the dead, given back |
//! | give back, commit a loan | the link before the item | nothing | a cell, cleared |
//! | acknowledge, drop a loan | the cell | nothing | the item's block, freed |
//! | loan | the cell | the block, freed | a loan of the dead, dropped |
//! | grow | the chunk's word | the chunk, freed | nothing |
//! | close | the flag | nothing | wake-ups, which recovery makes good |
//!
//! The lease is model-checked in `tests/models/lease.rs`.

mod cells;
mod event;
mod lease;
mod list;
mod node;
mod put;
mod recover;
mod take;
mod visit;

use std::sync::atomic::Ordering;

use super::latch;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Me, Op, OpKind, Segment, Step, Word, fence};

pub use event::{Turn, Waiting};
pub use lease::{Leased, Token};
pub use put::Put;
pub use recover::resolve;
pub use take::Taken;
pub use visit::{check, visit, visit_handles};

/// Levels of the list; each has about a quarter of the items of the one below.
const LEVELS: usize = 12;
/// Chunks of lease cells.
const CHUNKS: usize = 20;
/// Tries of a read that writers spoil.
const READ_TRIES: u32 = 1000;

/// The words of the root block.
mod root {
    pub const LATCH: usize = 0;
    pub const CAPACITY: usize = 1;
    pub const SEQUENCE: usize = 2;
    pub const WAITING: usize = 3;
    pub const LEASED: usize = 4;
    pub const CLOSED: usize = 5;
    pub const ITEM: usize = 6;
    pub const ROOM: usize = 7;
    pub const DONE: usize = 8;
    pub const HINT: usize = 9;
    pub const RETURNS: usize = 10;
    pub const HEADS: usize = 11;
    pub const TAILS: usize = HEADS + super::LEVELS;
    pub const CHUNKS: usize = TAILS + super::LEVELS;
    pub const WORDS: usize = CHUNKS + super::CHUNKS;
}

/// An agenda in a segment.
#[derive(Clone, Copy, Debug)]
pub struct Agenda {
    root: u64,
    capacity: u64,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items that wait.
    pub waiting: u64,
    /// Items on lease; loans are no items yet.
    pub leased: u64,
}

/// Builds an empty agenda and stores its root in `root_ref`.
pub fn create(me: &Me<'_>, root_ref: &Word, capacity: Option<u64>) -> Result<()> {
    let block = me.alloc(root::WORDS as u64 * 8, Field::Alloc)?;
    let words = me.segment.words(block, root::WORDS)?;
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    words[root::CAPACITY].store(capacity.unwrap_or(u64::MAX), Ordering::Relaxed);
    root_ref.store(block, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    Ok(())
}

impl Agenda {
    /// The agenda at `root`.
    ///
    /// # Errors
    /// `Corrupted` if there is none.
    pub fn open(segment: &Segment, root: u64) -> Result<Agenda> {
        let capacity = segment.words(root, root::WORDS)?[root::CAPACITY].load(Ordering::Relaxed);
        Ok(Agenda { root, capacity })
    }

    /// Items that may wait at most; `None` if there is no bound but the segment's.
    pub fn capacity(&self) -> Option<u64> {
        (self.capacity != u64::MAX).then_some(self.capacity)
    }

    #[inline(always)]
    fn words<'a>(&self, segment: &'a Segment) -> Result<&'a [Word]> {
        segment.words(self.root, root::WORDS)
    }

    /// Offset of the root's word `at`.
    #[inline(always)]
    fn offset_of(&self, at: usize) -> u64 {
        self.root + at as u64 * 8
    }

    /// What there is to do, of one moment.
    ///
    /// # Errors
    /// `Stop::Dead` if whoever holds the latch is dead.
    pub fn counts(&self, segment: &Segment) -> Step<Counts> {
        let words = self.words(segment)?;
        for _ in 0..READ_TRIES {
            let seen = words[root::LATCH].load(Ordering::Acquire);
            if latch::owner_of(seen) != 0 {
                latch::wait_until_free(segment, &words[root::LATCH])?;
                continue;
            }
            let waiting = words[root::WAITING].load(Ordering::Relaxed);
            let leased = words[root::LEASED].load(Ordering::Relaxed);
            // Nobody has taken the latch meanwhile, so nobody has stored either count.
            fence(Ordering::Acquire);
            if words[root::LATCH].load(Ordering::Relaxed) == seen {
                return Ok(Counts { waiting, leased });
            }
        }
        Err(Error::new(ErrorKind::Contended, "measuring a queue").into())
    }

    /// Items that wait, if nobody is at work.
    pub fn len_at_rest(&self, segment: &Segment) -> Result<u64> {
        Ok(self.words(segment)?[root::WAITING].load(Ordering::Acquire))
    }

    /// Whether it has been closed.
    pub fn is_closed(&self, segment: &Segment) -> Result<bool> {
        Ok(self.words(segment)?[root::CLOSED].load(Ordering::Acquire) != 0)
    }

    /// Closes it and wakes everybody.
    ///
    /// # Crash
    /// Closed or not; those who sleep look again in any case.
    pub fn close(&self, me: &Me<'_>) -> Step<()> {
        let words = self.begin(me, OpKind::AgendaClose)?;
        // LINEARIZES: under the latch, so no put that was refused by nobody ends behind it.
        words[root::CLOSED].store(1, Ordering::Release);
        latch::release(&words[root::LATCH]);
        event::wake_everybody(words);
        me.intent.set(Field::Op, 0);
        Ok(())
    }

    /// Announces an operation and takes the latch.
    #[inline]
    fn begin<'a>(&self, me: &Me<'a>, kind: OpKind) -> Step<&'a [Word]> {
        let words = self.words(me.segment)?;
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Cell, 0);
        me.intent.set(Field::Op, Op::new(kind).pack());
        latch::acquire(me, &words[root::LATCH])?;
        Ok(words)
    }

    /// Ends an operation that changed nothing.
    fn abandon(&self, me: &Me<'_>, words: &[Word]) {
        latch::release(&words[root::LATCH]);
        me.intent.set(Field::Op, 0);
    }
}

/// Adds to a count, which only the holder of the latch stores.
fn add(word: &Word, change: i64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Relaxed);
}
