//! The object table: what objects there are, and who holds them.
//!
//! There are no reference counts: a count cannot be repaired after a kill. An entry has one *holder bit* for each
//! process; how often a process holds an object is its own affair (`session`). Recovery of a dead process clears its
//! bits, which can be repeated.
//!
//! State, one word: `generation:32 | unused:8 | owner:16 | flags:4 | state:4`.
//!
//! ```text
//! FREE --claim--> BUILDING(owner) --publish--> LIVE <--acquire-- CONDEMNED(owner) --doom--> DOOMED
//!                     |                         \------condemn------^    |                    |
//!                     \---------- destroy ----------> FREE <---- DYING(owner) <---------------/
//! ```
//!
//! # Invariants
//!
//! 1. Acquiring sets the bit first and looks at the state after; condemning changes the state first and looks at the
//!    bits after (all SeqCst). So either the acquirer sees CONDEMNED, and makes it LIVE, or the other sees the bit.
//!    CONDEMNED names who condemned: one that was interrupted must not take another's later sentence for its own.
//! 2. Only the owner of BUILDING or DYING touches the object's blocks then.
//! 3. A generation is used once. An entry is never given back to the heap.
//! 4. Flags only ever get set in a generation: NAMED (it was given a name), NESTED (some container may hold it), BEARS (it is
//!    a container whose values may hold handles). An object without NAMED and NESTED is held by bits alone.
//! 5. Whoever clears a bit, or takes a sentence back, looks again whether the object is held at all: somebody else may
//!    have left it alone because of what is now gone.
//!
//! | file | one idea |
//! |---|---|
//! | `mod` | what an object is, and the words of its state |
//! | `entry` | its entry in the table, and the bits of its holders |
//! | `life` | how it comes, is acquired, and goes |
//!
//! The protocol, collector and kills included, is model-checked in `tests/models/objects.rs`.

mod entry;
mod life;

use crate::error::{Error, Result};

pub use self::entry::{Entry, entries, entry};
pub use self::life::{Fate, acquire, collector, create, destroy, destroy_if_unheld, resolve};

/// What an object is. The number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// A hash table.
    Dict = 1,
    /// A ring, or rings.
    Queue = 2,
    /// A lock and the value it guards.
    Lock = 3,
    /// The table of names.
    Directory = 4,
    /// A hash table whose values are empty.
    Set = 5,
    /// A hash table of attributes by name.
    Namespace = 6,
    /// One value, changed atomically.
    Value = 7,
    /// A sequence.
    List = 8,
    /// Numbers in place.
    Array = 9,
    /// Bytes in place.
    Block = 10,
    /// A lock that its thread may take again, and the value it guards.
    RLock = 11,
    /// A read-write lock and the value it guards.
    RwLock = 12,
    /// A semaphore.
    Semaphore = 13,
    /// A condition.
    Condition = 14,
    /// An event.
    Event = 15,
    /// A barrier.
    Barrier = 16,
    /// A value that is made once.
    Once = 17,
    /// An own type of the user's: handles of its parts, under its type's name.
    Record = 18,
    /// An agenda that hands items out for good, in the order of priorities.
    PriorityQueue = 20,
    /// An agenda that hands items out on lease.
    JoinableQueue = 21,
    /// One end of a pipe.
    Connection = 25,
    /// A pipe.
    Pipe = 26,
    /// The board of a pool's worker.
    Board = 30,
}

impl Kind {
    /// The kind that `word` stands for.
    pub fn from_word(word: u64) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u64 == word)
    }

    const ALL: [Kind; 23] = [
        Kind::Dict,
        Kind::Queue,
        Kind::Lock,
        Kind::Directory,
        Kind::Set,
        Kind::Namespace,
        Kind::Value,
        Kind::List,
        Kind::Array,
        Kind::Block,
        Kind::RLock,
        Kind::RwLock,
        Kind::Semaphore,
        Kind::Condition,
        Kind::Event,
        Kind::Barrier,
        Kind::Once,
        Kind::Record,
        Kind::PriorityQueue,
        Kind::JoinableQueue,
        Kind::Connection,
        Kind::Pipe,
        Kind::Board,
    ];
}

/// An object's index and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Index in the object table.
    pub index: u32,
    /// Which use of the index.
    pub generation: u32,
}

impl ObjectId {
    /// As one word: how containers store it.
    pub fn pack(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// The inverse of [`ObjectId::pack`].
    pub fn unpack(word: u64) -> ObjectId {
        ObjectId { index: (word >> 32) as u32, generation: word as u32 }
    }
}

/// States of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// Nobody's.
    Free = 0,
    /// Being built by its owner.
    Building = 1,
    /// An object.
    Live = 2,
    /// An object that nobody seems to hold; acquiring it rescues it.
    Condemned = 3,
    /// Found unreachable by a collector that has not yet made sure that it missed nothing.
    Doomed = 4,
    /// Being freed by its owner.
    Dying = 5,
}

const STATES: [State; 6] = [State::Free, State::Building, State::Live, State::Condemned, State::Doomed, State::Dying];

/// It was given a name.
pub const NAMED: u64 = 1 << 4;
/// Some container may hold it.
pub const NESTED: u64 = 1 << 5;
/// Its values may hold handles.
pub const BEARS: u64 = 1 << 6;
const FLAGS: u64 = NAMED | NESTED | BEARS;

/// A state word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// `NAMED`, `NESTED`, `BEARS`.
    pub flags: u64,
    /// `slot + 1` of the builder or destroyer.
    pub owner: u64,
    /// The generation.
    pub generation: u32,
}

impl Status {
    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | self.owner << 8 | self.flags | self.state as u64
    }

    fn unpack(word: u64) -> Result<Status> {
        let state = STATES.get((word & 0xf) as usize).ok_or_else(|| Error::corrupted("the state of an object"))?;
        let status =
            Status { state: *state, flags: word & FLAGS, owner: word >> 8 & 0xffff, generation: (word >> 32) as u32 };
        // With other bits no CAS from what it says would ever succeed.
        match status.pack() == word {
            true => Ok(status),
            false => Err(Error::corrupted("the state of an object")),
        }
    }
}
