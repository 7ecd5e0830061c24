//! Freeing objects that nobody can reach any more, cycles included.
//!
//! # Algorithm
//!
//! Mark and sweep over the object table, which is small beside the data. Objects without holder bits are *condemned*;
//! what can be reached from held or named objects is rescued; what is left is *doomed*, and destroyed unless somebody
//! acquired one of the condemned in the meantime, in which case everything is undone and begun again. One collector at a
//! time, under a latch; objects that no container ever held need none of this (`object::destroy_if_unheld`).
//!
//! # What a kill leaves
//!
//! A word beside the latch says whether the collector had decided. Before that, recovery makes CONDEMNED and DOOMED
//! entries LIVE again; after it, it destroys the doomed, for some of what they refer to is gone already. The latch is
//! released last, and recovery asks for a collection of its own.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::object::{self, BEARS, Fate, NAMED, NESTED, ObjectId, State, Status};
use super::{latch, names, recovery};
use crate::error::Result;
use crate::mem::layout::header;
use crate::mem::{Field, Intent, Op, OpKind, Segment, Word};

/// Rounds of marking that may be spoiled by somebody's acquiring.
const ROUNDS: u32 = 8;

/// Collects now. Returns how many objects were destroyed.
pub fn collect(segment: &Segment) -> Result<u64> {
    recovery::run(segment, |me| {
        me.intent.set(Field::Op, Op::new(OpKind::Collect).pack());
        let latch_word = object::collector(segment);
        latch::acquire(me, latch_word)?;
        segment.header(header!(garbage)).store(0, Ordering::Relaxed);
        let mut destroyed = 0;
        for _ in 0..ROUNDS {
            condemn(segment, me.owner())?;
            mark(segment)?;
            if doom(segment)? {
                committed(segment).store(1, Ordering::Release);
                destroyed = sweep(segment, &me.intent, me.owner())?;
                committed(segment).store(0, Ordering::Release);
                break;
            }
            reprieve(segment)?;
        }
        latch::release(latch_word);
        me.intent.set(Field::Op, 0);
        Ok(destroyed)
    })
}

fn committed(segment: &Segment) -> &Word {
    segment.header(header!(collector_committed))
}

/// Notes that an object which a container may hold was let go of somewhere, and collects if that has happened often
/// enough to be worth a walk over all objects.
pub fn note_garbage(segment: &Segment) -> Result<()> {
    let garbage = segment.header(header!(garbage)).fetch_add(1, Ordering::Relaxed).saturating_add(1);
    let objects = segment.header(header!(objects_used)).load(Ordering::Relaxed);
    if garbage > objects / 8 {
        collect(segment)?;
    }
    Ok(())
}

/// Destroys what only the dead held: by bits alone, or reachable from nowhere.
///
/// # Complexity
/// Linear in objects, and in names if any object has one and no holder.
pub fn orphans(segment: &Segment) -> Result<()> {
    let mut nested = false;
    let mut named = Vec::new();
    for entry in object::entries(segment) {
        let entry = entry?;
        let status = entry.status()?;
        if matches!(status.state, State::Free | State::Building | State::Dying) || entry.is_held() {
            continue;
        }
        if status.flags & NAMED != 0 {
            named.push(entry.id(status));
        } else if status.flags & NESTED != 0 {
            nested = true;
        } else {
            after_release(segment, entry.index)?;
        }
    }
    if !named.is_empty() && !nested {
        // Marked as named, and killed before it had the name; or unlinked, and killed before it was collected.
        let roots: HashSet<ObjectId> = names::roots(segment)?.into_iter().collect();
        nested = !named.iter().all(|id| roots.contains(id));
    }
    if nested {
        collect(segment)?;
    }
    Ok(())
}

/// After a bit of the object in entry `index` was cleared: destroys it if nobody holds it, or sees to it that a
/// collection looks.
pub fn after_release(segment: &Segment, index: u32) -> Result<()> {
    if object::entry(segment, index)?.is_held() {
        return Ok(());
    }
    let fate = recovery::run(segment, |me| {
        let entry = object::entry(segment, index)?;
        me.intent.set(Field::Op, Op { kind: OpKind::ObjectDestroy, phase: 0, argument: index.into() }.pack());
        let fate = object::destroy_if_unheld(segment, &me.intent, me.owner(), entry)?;
        me.intent.set(Field::Op, 0);
        Ok(fate)
    })?;
    match fate {
        Fate::Kept | Fate::Destroyed => Ok(()),
        Fate::Unsure | Fate::DestroyedBearer => note_garbage(segment),
    }
}

fn condemn(segment: &Segment, owner: u64) -> Result<()> {
    for entry in object::entries(segment) {
        let entry = entry?;
        let status = entry.status()?;
        if status.state == State::Live
            && !entry.is_held()
            && entry.transition(status, State::Condemned, owner)
            && entry.is_held()
        {
            // Failing, the holder has done it itself.
            let _ = entry.transition(Status { state: State::Condemned, owner, ..status }, State::Live, 0);
        }
    }
    Ok(())
}

/// Rescues what held and named objects reach.
fn mark(segment: &Segment) -> Result<()> {
    let mut pending = Vec::new();
    let mut seen = HashSet::new();
    for id in names::roots(segment)? {
        rescue(segment, id)?;
    }
    for entry in object::entries(segment) {
        let entry = entry?;
        let status = entry.status()?;
        if status.state == State::Live {
            pending.push(entry.id(status));
        }
    }
    while let Some(id) = pending.pop() {
        let Ok(entry) = object::entry(segment, id.index) else { continue };
        let status = entry.status()?;
        if entry.id(status) != id || !recovery::is_present(status.state) || !seen.insert(id) {
            continue;
        }
        rescue(segment, id)?;
        if status.flags & BEARS != 0 {
            let root = entry.root();
            let visited = recovery::visit_handles(segment, entry, &mut |word| {
                pending.push(ObjectId::unpack(word));
                Ok(())
            });
            if let Err(error) = visited {
                // Unless its last holder has let go of it meanwhile: then it is being taken to pieces.
                let now = entry.status()?;
                if entry.id(now) == id && recovery::is_present(now.state) && entry.root() == root {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Makes a condemned object LIVE again.
fn rescue(segment: &Segment, id: ObjectId) -> Result<()> {
    let Ok(entry) = object::entry(segment, id.index) else { return Ok(()) };
    loop {
        let status = entry.status()?;
        if entry.id(status) != id || status.state != State::Condemned || entry.transition(status, State::Live, 0) {
            return Ok(());
        }
        // Failing, somebody else moved it, or set a flag: flags only grow.
    }
}

/// Dooms the condemned; false if one was acquired after the marking had begun.
fn doom(segment: &Segment) -> Result<bool> {
    for entry in object::entries(segment) {
        let entry = entry?;
        let status = entry.status()?;
        if status.state != State::Condemned {
            continue;
        }
        if !entry.transition(status, State::Doomed, 0) || entry.is_held() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Undoes condemning and dooming.
fn reprieve(segment: &Segment) -> Result<()> {
    for entry in object::entries(segment) {
        let entry = entry?;
        let status = entry.status()?;
        if matches!(status.state, State::Condemned | State::Doomed) {
            let _ = entry.transition(status, State::Live, 0);
        }
    }
    Ok(())
}

/// Destroys the doomed, in the name of `owner`, whose intent this is.
fn sweep(segment: &Segment, intent: &Intent<'_>, owner: u64) -> Result<u64> {
    let mut destroyed = 0;
    for entry in object::entries(segment) {
        let entry = entry?;
        let status = entry.status()?;
        let dying = match status.state {
            State::Doomed => entry.transition(status, State::Dying, owner),
            State::Dying => status.owner == owner,
            _ => false,
        };
        if dying {
            object::destroy(segment, intent, entry)?;
            destroyed += 1;
        }
    }
    Ok(destroyed)
}

/// What becomes of a collection whose collector died or failed.
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>) -> Result<()> {
    let owner = u64::from(slot) + 1;
    let latch_word = object::collector(segment);
    if latch::owner_of(latch_word.load(Ordering::Acquire)) != owner {
        return Ok(());
    }
    if committed(segment).load(Ordering::Acquire) == 1 {
        // The object that was being destroyed first: its half-freed block is named.
        for entry in object::entries(segment) {
            let entry = entry?;
            let status = entry.status()?;
            if status.state == State::Dying && status.owner == owner {
                object::destroy(segment, intent, entry)?;
            }
        }
        sweep(segment, intent, owner)?;
        committed(segment).store(0, Ordering::Release);
    } else {
        reprieve(segment)?;
    }
    latch::release_for(latch_word, owner);
    Ok(())
}
