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
//! The protocol, collector and kills included, is model-checked in `tests/models/objects.rs`.

use std::sync::atomic::Ordering;

use super::latch;
use super::recovery::destroy_blocks;
use super::wait::{Deadline, PATIENCE, Waiter};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::layout::{OBJECT_CHUNKS, OBJECTS_PER_CHUNK, ObjectEntry, PAGE, header};
use crate::mem::{Field, Intent, Me, Op, OpKind, Segment, Step, Word};

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
    fn state_word(&self) -> &'a Word {
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

/// Builds an object. `build` makes its root and stores it in the word it is given; `publish` runs right before the object
/// becomes LIVE and sets the holder bit of this process.
///
/// # Crash
/// Before it is LIVE, recovery frees everything that was built. After it, the object is the dead process's alone and
/// goes with its holder bit.
///
/// # Errors
/// `TooMany` at 2^20 objects; those of `build`, with everything built so far freed.
pub fn create<'a>(
    me: &Me<'a>,
    kind: Kind,
    fingerprint: u64,
    build: impl FnOnce(&Me<'a>, &Word) -> Result<()>,
    publish: impl FnOnce(Entry<'a>, ObjectId),
) -> Step<ObjectId> {
    let entry = claim(me)?;
    field!(entry, kind).store(kind as u64, Ordering::Relaxed);
    field!(entry, fingerprint).store(fingerprint, Ordering::Relaxed);
    build(me, entry.root_ref())?;
    let status = entry.status()?;
    let id = entry.id(status);
    publish(entry, id);
    if !entry.transition(status, State::Live, 0) {
        return Err(Error::corrupted("the state of an object under construction").into());
    }
    me.intent.set(Field::Op, 0);
    Ok(id)
}

/// Takes a free entry: BUILDING(me), with `op` announced before.
fn claim<'a>(me: &Me<'a>) -> Step<Entry<'a>> {
    let segment = me.segment;
    let capacity = (OBJECT_CHUNKS * OBJECTS_PER_CHUNK) as u32;
    let used = || segment.header(header!(objects_used)).load(Ordering::Acquire);
    let start = segment.header(header!(object_hint)).load(Ordering::Relaxed).min(used()) as u32;
    for index in (start..capacity).chain(0..start) {
        if u64::from(index) >= used() {
            ensure_chunk(me, index)?;
            segment.header(header!(objects_used)).fetch_max(u64::from(index) + 1, Ordering::AcqRel);
        }
        let entry = entry(segment, index)?;
        let status = entry.status()?;
        if status.state != State::Free {
            continue;
        }
        me.intent.set(Field::Op, Op { kind: OpKind::ObjectBuild, phase: 0, argument: index.into() }.pack());
        if entry.transition(Status { flags: 0, ..status }, State::Building, me.owner()) {
            segment.header(header!(object_hint)).store(u64::from(index) + 1, Ordering::Relaxed);
            return Ok(entry);
        }
    }
    Err(Error::new(ErrorKind::TooMany, "objects in the segment").into())
}

fn ensure_chunk(me: &Me<'_>, index: u32) -> Result<()> {
    let word = me.segment.header(header!(object_chunks) + u64::from(index) / OBJECTS_PER_CHUNK * 8);
    if word.load(Ordering::Acquire) != 0 {
        return Ok(());
    }
    me.intent.set(Field::Op, Op { kind: OpKind::ObjectBuild, phase: 0, argument: index.into() }.pack());
    let chunk = me.alloc(PAGE, Field::Alloc)?;
    for word in me.segment.words(chunk, (PAGE / 8) as usize)? {
        word.store(0, Ordering::Relaxed);
    }
    if word.cas(0, chunk, Ordering::AcqRel).is_err() {
        me.release(chunk)?; // somebody else's chunk is there
    }
    me.intent.set(Field::Alloc, 0);
    Ok(())
}

/// Acquires `id` for `process`: sets its bit and makes sure that the object stays. `Ok(false)`: it is gone, and the bit
/// is cleared again, so that the caller must look whether what is in the entry now is held at all (invariant 5).
///
/// The caller holds the process-local lock of the counts, and this process holds no object of this index, so nobody
/// else changes the bit.
///
/// # Blocking
/// While a collector decides about the object.
pub fn acquire(segment: &Segment, id: ObjectId, process: u32) -> Step<bool> {
    let Ok(entry) = entry(segment, id.index) else { return Ok(false) };
    if entry.status()?.generation != id.generation {
        return Ok(false);
    }
    entry.hold(process);
    let mut waiter = Waiter::until(Deadline::after(PATIENCE));
    loop {
        let status = entry.status()?;
        let same = status.generation == id.generation;
        match status.state {
            State::Live if same => return Ok(true),
            State::Condemned if same => {
                if entry.transition(status, State::Live, 0) {
                    return Ok(true);
                }
            }
            State::Doomed if same => {
                if let Err(stop) = latch::wait_a_moment(segment, collector(segment), &mut waiter) {
                    entry.let_go(process);
                    return Err(stop);
                }
            }
            _ => {
                entry.let_go(process);
                return Ok(false);
            }
        }
    }
}

/// The latch of the collector.
pub fn collector(segment: &Segment) -> &Word {
    segment.header(header!(collector))
}

/// What [`destroy_if_unheld`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Held, gone, or somebody else's to decide.
    Kept,
    /// Flags say that a name or a container may hold it, or somebody else has condemned it: a collection is due.
    Unsure,
    /// Destroyed.
    Destroyed,
    /// Destroyed, and it may have held others.
    DestroyedBearer,
}

/// Destroys the object in `entry` if no bit holds it and nothing else could.
///
/// The intent of `owner`, who lives or is being recovered, says `ObjectDestroy` of this entry.
pub fn destroy_if_unheld(segment: &Segment, intent: &Intent<'_>, owner: u64, entry: Entry<'_>) -> Result<Fate> {
    let status = entry.status()?;
    let condemned = Status { state: State::Condemned, owner, ..status };
    match status.state {
        State::Live => {
            if entry.is_held() {
                return Ok(Fate::Kept);
            }
            if status.flags & (NAMED | NESTED) != 0 || !entry.transition(status, State::Condemned, owner) {
                return Ok(Fate::Unsure);
            }
        }
        State::Condemned if status.owner == owner => {}
        State::Condemned | State::Doomed => return Ok(Fate::Unsure),
        State::Dying if status.owner == owner => {
            destroy(segment, intent, entry)?;
            return Ok(destroyed(status));
        }
        _ => return Ok(Fate::Kept),
    }
    // The bits once more, now that whoever sets one sees CONDEMNED; then the flags, which are part of the word that the
    // CAS expects. A holder that left in between had set the flag before.
    let held = entry.is_held();
    let unflagged = status.flags & (NAMED | NESTED) == 0;
    if !held && unflagged && entry.transition(condemned, State::Dying, owner) {
        destroy(segment, intent, entry)?;
        return Ok(destroyed(status));
    }
    let now = entry.status()?;
    if now.state == State::Condemned && now.owner == owner && now.generation == status.generation {
        let _ = entry.transition(now, State::Live, 0); // failing, an acquirer did it itself
    }
    Ok(Fate::Unsure)
}

fn destroyed(status: Status) -> Fate {
    if status.flags & BEARS != 0 { Fate::DestroyedBearer } else { Fate::Destroyed }
}

/// Frees the object in a BUILDING or DYING entry of the intent's owner. Can be repeated from any point.
pub fn destroy(segment: &Segment, intent: &Intent<'_>, entry: Entry<'_>) -> Result<()> {
    destroy_blocks(segment, intent, entry)?;
    let status = entry.status()?;
    let free = Status { state: State::Free, flags: 0, owner: 0, generation: status.generation.wrapping_add(1) };
    entry.state_word().store(free.pack(), Ordering::SeqCst);
    let hint = segment.header(header!(object_hint));
    if u64::from(entry.index) < hint.load(Ordering::Relaxed) {
        hint.store(entry.index.into(), Ordering::Relaxed);
    }
    Ok(())
}

/// What becomes of the building or destroying that a thread did not finish.
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>, op: Op) -> Result<()> {
    let index = op.argument as u32;
    let chunk = segment.header(header!(object_chunks) + u64::from(index) / OBJECTS_PER_CHUNK % OBJECT_CHUNKS * 8);
    let published = chunk.load(Ordering::Acquire);
    if published != 0 && intent.get(Field::Alloc) == published {
        intent.set(Field::Alloc, 0);
    }
    let Ok(entry) = entry(segment, index) else { return Ok(()) }; // died before there was such an entry
    let owner = u64::from(slot) + 1;
    let status = entry.status()?;
    match (op.kind, status.state) {
        (OpKind::ObjectBuild, State::Building) if status.owner == owner => destroy(segment, intent, entry),
        (OpKind::ObjectDestroy, _) => destroy_if_unheld(segment, intent, owner, entry).map(drop),
        _ => Ok(()),
    }
}
