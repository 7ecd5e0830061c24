//! What becomes of a list operation whose thread died, or failed, at any point.
//!
//! While the latch names the thread, the list and the intent tell whether the operation was committed; its phase is raised
//! before the latch is released, so that it tells afterwards.

use std::sync::atomic::Ordering;

use super::{DONE, List, SINGLE, STAGED, root};
use crate::error::Result;
use crate::mem::{Field, Intent, Op, OpKind, Segment};
use crate::raw::latch;

/// Undoes or completes what slot `slot` was doing to a list. Takes no lock, allocates nothing, can be repeated from any
/// point. The caller then frees what the intent still names, and clears `op`.
///
/// # Errors
/// `Corrupted`.
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>, op: Op) -> Result<()> {
    let list = List::open(segment, intent.get(Field::Object))?;
    let owner = u64::from(slot) + 1;
    let latch = segment.word(list.root)?;
    let mut phase = op.phase;
    if latch::owner_of(latch.load(Ordering::Acquire)) == owner {
        if phase != DONE && list.is_committed(segment, intent, op)? {
            if phase == SINGLE {
                intent.set(Field::Alloc, 0);
            }
            phase = DONE;
            intent.set(Field::Op, Op { phase, ..op }.pack());
        }
        match phase {
            DONE => intent.set(Field::Alloc2, 0), // the new spine
            _ => intent.set(Field::Free, 0),      // not unlinked
        }
        latch::release_for(latch, owner);
    }
    match phase {
        DONE if op.kind == OpKind::ListSplice => {
            list.sweep(segment, intent, &|block| segment.release_for(block)).map(drop)
        }
        STAGED => unstage(segment, intent, op.argument),
        _ => Ok(()),
    }
}

impl List {
    /// Whether the commit was made, by a thread that still has the latch.
    fn is_committed(&self, segment: &Segment, intent: &Intent<'_>, op: Op) -> Result<bool> {
        if op.kind == OpKind::ListSplice {
            let now = self.root(segment)?[root::SPINE].load(Ordering::Acquire);
            let (old, new) = (intent.get(Field::Free), intent.get(Field::Alloc2));
            return Ok(old != 0 && now != old || new != 0 && now == new);
        }
        let head = self.spine(segment)?.map_or(0, |spine| spine.head.pack());
        let reached = intent.get(Field::Cell) == head;
        // Before the new head is known, `cell` is 0. No push leads there, and a pop names its block behind it.
        Ok(reached && if op.kind == OpKind::ListPush { head != 0 } else { intent.get(Field::Free) != 0 })
    }
}

/// Frees the elements that a stage refers to, and leaves the stage named.
fn unstage(segment: &Segment, intent: &Intent<'_>, count: u64) -> Result<()> {
    let stage = intent.get(Field::Alloc);
    if stage == 0 {
        return Ok(()); // everything is freed
    }
    let words = segment.words(stage, count as usize)?;
    let half_freed = intent.get(Field::Free);
    if half_freed != 0 {
        for word in words.iter().filter(|word| word.load(Ordering::Acquire) == half_freed) {
            word.store(0, Ordering::Release);
        }
        segment.release_for(half_freed)?;
        intent.set(Field::Free, 0);
    }
    let arriving = intent.get(Field::Alloc2);
    if arriving != 0 && words.iter().any(|word| word.load(Ordering::Acquire) == arriving) {
        intent.set(Field::Alloc2, 0);
    }
    for word in words {
        let block = word.load(Ordering::Acquire);
        if block != 0 {
            intent.set(Field::Free, block);
            word.store(0, Ordering::Release);
            segment.release_for(block)?;
            intent.set(Field::Free, 0);
        }
    }
    Ok(())
}
