//! The fsck: does a segment at rest hold together?

use std::collections::BTreeSet;

use super::object::{self, Kind, State};
use super::{agenda, array, board, cell, list, lock, names, pipe, recovery, ring, sync, table, value};
use crate::error::{Error, Result};
use crate::mem::layout::{OBJECT_CHUNKS, header};
use crate::mem::{Field, HeapStats, Segment};

/// What a check found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Objects.
    pub objects: u64,
    /// Allocated blocks, every one of them reachable exactly once.
    pub blocks: u64,
    /// What the pages are used for.
    pub heap: HeapStats,
}

/// Checks heap, tables, rings, directory, object table and reachability of a segment at rest.
///
/// Recovers the dead first: what they left is not at rest.
///
/// # Complexity
/// Linear in everything that is stored.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment) -> Result<Report> {
    recovery::recover_all(segment)?;
    let (allocated, heap) = segment.allocated_blocks()?;
    let mut reachable = BTreeSet::new();
    let mut reach = |block: u64| match reachable.insert(block) {
        true => Ok(()),
        false => Err(Error::corrupted("a block that is referred to twice")),
    };
    for chunk in 0..OBJECT_CHUNKS {
        match segment.header(header!(object_chunks) + chunk * 8).load(std::sync::atomic::Ordering::Acquire) {
            0 => {}
            off => reach(off)?,
        }
    }
    let mut objects = 0;
    for entry in object::entries(segment) {
        let entry = entry?;
        let status = entry.status()?;
        match status.state {
            State::Free if entry.root() == 0 => continue,
            State::Live => {}
            _ => return Err(Error::corrupted("an object is neither alive nor gone")),
        }
        objects += 1;
        let root = entry.root();
        reach(root)?;
        recovery::visit_blocks(segment, entry, root, &mut |_, block| reach(block))?;
        check_object(segment, entry.kind()?, root)?;
        for holder in entry.holder_list() {
            if segment.liveness(holder)? == crate::mem::Liveness::Free {
                return Err(Error::corrupted("an object is held by a process that is not there"));
            }
        }
    }
    for slot in 0..segment.slots_used() {
        let intent = segment.intent_of(slot)?;
        for field in [Field::Alloc, Field::Alloc2, Field::Free, Field::Run, Field::Op] {
            if intent.get(field) != 0 {
                return Err(Error::corrupted("an operation is under way, or was left so"));
            }
        }
    }
    for (_, id) in names::list(segment)? {
        if object::entry(segment, id.index)?.status()?.generation != id.generation {
            return Err(Error::corrupted("a name of an object that is gone"));
        }
    }
    if let Some(leaked) = allocated.difference(&reachable).next() {
        return Err(Error::new(crate::ErrorKind::Corrupted, format!("block {leaked:#x} has leaked")));
    }
    if let Some(missing) = reachable.difference(&allocated).next() {
        return Err(Error::new(crate::ErrorKind::Corrupted, format!("block {missing:#x} is in use and not allocated")));
    }
    Ok(Report { objects, blocks: allocated.len() as u64, heap })
}

/// Checks one object: the rules of its kind.
fn check_object(segment: &Segment, kind: Kind, root: u64) -> Result<()> {
    match kind {
        Kind::Dict | Kind::Directory | Kind::Set | Kind::Namespace => table::check(segment, root),
        Kind::Queue => ring::check(segment, root),
        Kind::PriorityQueue | Kind::JoinableQueue => agenda::check(segment, root),
        Kind::Value => value::check(segment, root),
        Kind::List => list::check(segment, root),
        Kind::Array | Kind::Block => array::check(segment, root),
        Kind::Connection => pipe::read_end(segment, root).map(drop),
        Kind::Pipe => pipe::check(segment, root),
        Kind::Board => board::check(segment, root),
        Kind::Lock => {
            lock::check(segment, cell::lock_word(segment, root)?)?;
            cell::check(segment, root)
        }
        Kind::RLock => {
            sync::rlock::check(segment, cell::lock_word(segment, root)?)?;
            cell::check(segment, root)
        }
        Kind::RwLock => {
            sync::rwlock::check(segment, root)?;
            cell::check(segment, root)
        }
        Kind::Once => {
            sync::once::check(segment, root)?;
            cell::check(segment, root)
        }
        Kind::Record => cell::check(segment, root),
        Kind::Semaphore => sync::semaphore::check(segment, root),
        Kind::Condition => sync::condition::check(segment, root),
        Kind::Event => sync::event::check(segment.word(root)?),
        Kind::Barrier => sync::barrier::check(segment, root),
    }
}
