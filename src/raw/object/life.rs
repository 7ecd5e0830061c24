//! How an object comes, is acquired, and goes.

use std::sync::atomic::Ordering;

use super::{BEARS, Entry, Kind, NAMED, NESTED, ObjectId, State, Status, entry};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::layout::{OBJECT_CHUNKS, OBJECTS_PER_CHUNK, PAGE, header};
use crate::mem::{Field, Intent, Me, Op, OpKind, Segment, Step, Word};
use crate::raw::latch;
use crate::raw::recovery::destroy_blocks;
use crate::raw::wait::{Deadline, PATIENCE, Waiter};

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
    entry.describe(kind, fingerprint);
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
