//! Walking a list: for freeing it, for checking it, for finding the handles in it.

use std::sync::atomic::Ordering;

use super::{List, Spine, root};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Segment, Word};
use crate::raw::{latch, slot};

/// Elements looked at in one go for their handles.
const CHUNK: usize = 32;
/// How often a walk may begin again because elements have got other indices.
const RESTARTS: u32 = 1 << 16;

/// Calls `f` with every word of the list that refers to a block, and the block; what a block refers to comes before
/// the reference to it. `f` may store 0 into the word. A list half freed is walked as far as it goes.
///
/// # Errors
/// `Corrupted`, and those of `f`.
pub fn visit(segment: &Segment, root_block: u64, f: &mut dyn FnMut(&Word, u64) -> Result<()>) -> Result<()> {
    let words = segment.words(root_block, root::WORDS)?;
    // A root under construction has no form yet, and no spine either.
    let off = words[root::SPINE].load(Ordering::Acquire);
    if off == 0 {
        return Ok(());
    }
    if List::open(segment, root_block)?.boxed {
        for slot in Spine::at(segment, off)?.slots() {
            match slot.load(Ordering::Acquire) {
                0 => {}
                block => f(slot, block)?,
            }
        }
    }
    f(&words[root::SPINE], off)
}

/// Calls `f` with every handle that the elements hold, while others write: of every element that is there throughout.
///
/// Elements are looked at some at a time, each some as one state; if elements have got other indices in between, one may
/// have moved from behind to before, and it begins again. `f` may get a handle more than once.
pub fn visit_handles(segment: &Segment, root_block: u64, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let list = List::open(segment, root_block)?;
    if !list.boxed {
        return Ok(());
    }
    for _ in 0..RESTARTS {
        let (mut from, mut began, mut handles) = (0, None, Vec::new());
        loop {
            let (now, more) = slot::read_unlatched(segment, root_block, |look| {
                handles.clear();
                list.handles_from(segment, look, from, CHUNK, &mut handles)
            })?;
            handles.iter().try_for_each(|handle| f(*handle))?;
            if *began.get_or_insert(now) != now {
                break;
            }
            if !more {
                return Ok(());
            }
            from += CHUNK;
        }
    }
    Err(Error::new(ErrorKind::Contended, "walking over a list that never rests"))
}

/// Checks a list at rest: the latch free, the length within the spine's block, every slot in use referring to something.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root_block: u64) -> Result<()> {
    let list = List::open(segment, root_block)?;
    if latch::owner_of(segment.word(root_block)?.load(Ordering::Acquire)) != 0 {
        return Err(Error::corrupted("the latch of a list is held by nobody at work"));
    }
    let Some(spine) = list.spine(segment)? else { return Ok(()) };
    if spine.words.len() as u64 * 8 > segment.block_size(spine.off)? {
        return Err(Error::corrupted("the capacity of a list"));
    }
    if list.boxed && spine.slots().iter().any(|slot| slot.load(Ordering::Acquire) == 0) {
        return Err(Error::corrupted("an element of a list is missing"));
    }
    Ok(())
}
