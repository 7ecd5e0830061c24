//! Recovery: what becomes of an operation that did not end, of a process that died, and of one that leaves.
//!
//! Every operation of the floor above goes through [`run`]. It enters the segment, runs the operation, and if that ends
//! early (an error, a panic, a dead process in the way) resolves the thread's own intent exactly as a survivor would
//! resolve a dead thread's. So there is one piece of code that puts things right, and the crash tests test it.
//!
//! # What a kill leaves
//!
//! Recovery itself may be killed anywhere: the claim on the dead process is taken over, and every step repeats.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::object::{self, Entry, Kind, State};
use super::{agenda, array, cell, collect, list, pipe, ring, slot, sync, table, value};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Intent, Liveness, Me, Op, OpKind, Segment, SlotId, Step, Stop};

/// Dead processes that one operation may have to recover before it gets through.
pub const MAX_RECOVERIES: u32 = 2048;
/// How long to stay out of the way of somebody else's recovery before looking again.
const COURTESY: Duration = Duration::from_micros(500);

/// Runs an operation of the calling thread, recovering the dead that stand in its way.
///
/// # Errors
/// Those of the operation. Whatever it had under way has been undone, or completed if it was committed.
#[inline]
pub fn run<'a, R>(segment: &'a Segment, mut operation: impl FnMut(&Me<'a>) -> Step<R>) -> Result<R> {
    match attempt(segment, &mut operation) {
        Ok(result) => Ok(result),
        Err(stop) => run_again(segment, stop, &mut operation),
    }
}

/// Runs the short way of an operation of the calling thread: one that either does all of it or leaves nothing behind, and
/// then says nothing.
#[inline(always)]
pub fn run_quickly<'a, R>(segment: &'a Segment, operation: impl FnOnce(&Me<'a>) -> Option<R>) -> Option<R> {
    let me = Me::over(segment.enter_quickly()?);
    let unfinished = Unfinished::watch(&me);
    let result = operation(&me);
    unfinished.done();
    result
}

#[cold]
#[inline(never)]
fn run_again<'a, R>(segment: &'a Segment, mut stop: Stop, operation: &mut impl FnMut(&Me<'a>) -> Step<R>) -> Result<R> {
    for _ in 0..MAX_RECOVERIES {
        match stop {
            Stop::Error(error) => return Err(error),
            Stop::Dead(process) => recover(segment, process)?,
        }
        match attempt(segment, operation) {
            Ok(result) => return Ok(result),
            Err(next) => stop = next,
        }
    }
    Err(Error::new(ErrorKind::Contended, "too many dead processes in the way"))
}

#[inline]
fn attempt<'a, R>(segment: &'a Segment, operation: &mut impl FnMut(&Me<'a>) -> Step<R>) -> Step<R> {
    let me = segment.enter()?;
    let unfinished = Unfinished::watch(&me);
    let result = operation(&me);
    if result.is_ok() {
        unfinished.done();
        // In the library's own tests only: elsewhere a hostile peer may have written the intent.
        #[cfg(test)]
        assert!(me.intent.get(Field::Op) == 0, "an operation ended well and left its intent");
    }
    result
}

/// Resolves the thread's own intent when an operation ends early.
#[must_use]
pub(super) struct Unfinished<'m, 'a>(&'m Me<'a>);

impl<'m, 'a> Unfinished<'m, 'a> {
    /// An operation of `me` begins.
    #[inline(always)]
    pub(super) fn watch(me: &'m Me<'a>) -> Unfinished<'m, 'a> {
        Unfinished(me)
    }

    /// It has ended well: nothing of it is left.
    #[inline(always)]
    pub(super) fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        if crate::mem::armed::is_dead() {
            return; // a survivor does it
        }
        let Me { segment, intent, .. } = self.0;
        // What cannot be resolved is corrupted, and the operation fails with an error in any case.
        let _ = resolve(segment, self.0.slot().index, intent);
    }
}

/// Completes or undoes what slot `slot` has under way, and clears its intent. Takes no lock, allocates nothing, and can
/// be repeated from any point.
///
/// # Errors
/// `Corrupted`; the intent stays then.
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>) -> Result<()> {
    resolve_structures(segment, slot, intent)?;
    resolve_blocks(segment, slot, intent)?;
    intent.set(Field::Op, 0);
    Ok(())
}

fn resolve_structures(segment: &Segment, slot: u16, intent: &Intent<'_>) -> Result<()> {
    let Some(op) = Op::unpack(intent.get(Field::Op)) else { return Ok(()) };
    let op = op.ok_or_else(|| Error::corrupted("the operation of an intent"))?;
    match op.kind {
        OpKind::TablePut | OpKind::TableRemove | OpKind::TableSplit | OpKind::TableClear | OpKind::TableSnapshot => {
            table::resolve(segment, slot, intent, op)
        }
        OpKind::RingPush | OpKind::RingPop | OpKind::RingSeal => ring::resolve(segment, slot, intent, op),
        OpKind::ObjectBuild | OpKind::ObjectDestroy => object::resolve(segment, slot, intent, op),
        OpKind::Collect => collect::resolve(segment, slot, intent),
        OpKind::CellPut => cell::resolve(segment, intent),
        OpKind::SlotPut => slot::resolve(segment, slot, intent),
        OpKind::ListPush | OpKind::ListPop | OpKind::ListSplice => list::resolve(segment, slot, intent, op),
        OpKind::SemaphoreTake | OpKind::SemaphoreGive => sync::semaphore::resolve(segment, slot, intent, op),
        OpKind::AgendaPut
        | OpKind::AgendaTake
        | OpKind::AgendaLease
        | OpKind::AgendaReturn
        | OpKind::AgendaAck
        | OpKind::AgendaLoan
        | OpKind::AgendaGrow
        | OpKind::AgendaClose => agenda::resolve(segment, slot, intent, op),
    }
}

/// Frees whatever the structures left named: it is in none of them.
fn resolve_blocks(segment: &Segment, slot: u16, intent: &Intent<'_>) -> Result<()> {
    let run = intent.get(Field::Run);
    if run != 0 {
        segment.undo_run(slot, run)?;
        intent.set(Field::Run, 0);
    }
    for field in [Field::Alloc, Field::Alloc2] {
        let block = intent.get(field);
        if block != 0 {
            segment.release_if_allocated(block)?;
            intent.set(field, 0);
        }
    }
    let block = intent.get(Field::Free);
    if block != 0 {
        segment.release_for(block)?;
        intent.set(Field::Free, 0);
    }
    Ok(())
}

/// Recovers dead process `index`; returns at once if somebody else is at it or it is not dead.
///
/// # Complexity
/// Linear in thread slots, objects, and committed pages; microseconds for a small segment.
///
/// # Errors
/// `Corrupted`; after three such attempts the process is left alone for good.
#[cold]
pub fn recover(segment: &Segment, index: u32) -> Result<()> {
    let Some(claim) = segment.begin_recovery(index)? else {
        std::thread::sleep(COURTESY);
        return Ok(());
    };
    put_right(segment, index)?;
    claim.finish()?;
    // What only the dead had is garbage now. Freeing it is an operation like any other, and no part of the recovery.
    let _ = collect::orphans(segment);
    Ok(())
}

/// Everything that process `index` left.
fn put_right(segment: &Segment, index: u32) -> Result<()> {
    // Once and for all: an heir may take a slot of its own under the same index in between.
    let slots = slots_of(segment, index).collect::<Result<Vec<_>>>()?;
    let states = slots.iter().map(|slot| segment.slot_state(*slot)).collect::<Result<Vec<_>>>()?;
    for slot in &slots {
        resolve_slot(segment, *slot)?;
    }
    // Now that the dead process holds no latch any more, what needs latches can be done.
    for (slot, state) in slots.into_iter().zip(states) {
        if segment.slot_state(slot)? == state {
            release_slot(segment, slot)?;
        }
    }
    for entry in object::entries(segment) {
        let entry = entry?;
        if entry.is_held_by(index) {
            give_back_leases(segment, entry, index);
        }
        let_go(segment, entry, index)?;
    }
    Ok(())
}

/// Gives back what dead process `index` had on lease, if the object is a queue that leases. What cannot be given back now
/// is given back by whoever looks.
fn give_back_leases(segment: &Segment, entry: Entry<'_>, index: u32) {
    // While it is LIVE, the bit of the dead keeps it.
    let is_live = entry.status().is_ok_and(|status| status.state == State::Live);
    if is_live && matches!(entry.kind(), Ok(Kind::JoinableQueue)) {
        let _ = agenda::Agenda::open(segment, entry.root())
            .and_then(|agenda| run(segment, |me| agenda.take_from_process(me, index)));
    }
}

/// Puts right what the dead process left whose record this process has taken over, before it does anything else.
///
/// # Errors
/// As [`recover`]; this process is then no member any more.
pub fn settle_inheritance(segment: &Segment) -> Result<()> {
    if !segment.membership().is_heir() {
        return Ok(());
    }
    let settled = segment
        .hand_back_inherited_claims()
        .and_then(|()| put_right(segment, segment.membership().me().index))
        .and_then(|()| segment.settle_succession());
    match settled {
        Ok(()) => drop(collect::orphans(segment)),
        Err(_) => segment.refuse_inheritance(),
    }
    settled
}

/// Clears the bit of `process` in an entry, after giving back the permits that it has of the object.
pub fn let_go(segment: &Segment, entry: Entry<'_>, process: u32) -> Result<()> {
    // While the bit is set the object stays. A corrupted semaphore keeps its permits, and nobody else suffers.
    if entry.is_held_by(process)
        && is_present(entry.status()?.state)
        && matches!(entry.kind(), Ok(Kind::Semaphore))
        && let Err(error) = sync::semaphore::give_back(segment, entry.root(), process)
        && error.kind() != ErrorKind::Corrupted
    {
        return Err(error);
    }
    entry.let_go(process);
    Ok(())
}

/// Makes dead process `index` let go of every latch, and leaves the rest of its recovery to [`recover`]: for an
/// operation that cannot be begun again, and whose own intent must stand meanwhile.
///
/// # Crash
/// As [`recover`].
///
/// # Errors
/// As [`recover`].
#[cold]
pub fn release_latches_of(segment: &Segment, index: u32) -> Result<()> {
    let Some(claim) = segment.begin_recovery(index)? else {
        std::thread::sleep(COURTESY);
        return Ok(());
    };
    for slot in slots_of(segment, index) {
        resolve_slot(segment, slot?)?;
    }
    claim.hand_back();
    Ok(())
}

/// The slots of process `index`.
fn slots_of(segment: &Segment, index: u32) -> impl Iterator<Item = Result<u16>> {
    (0..segment.slots_used()).filter_map(move |slot| match segment.slot_state(slot) {
        Ok(state) => (state.used && state.process == index).then_some(Ok(slot)),
        Err(error) => Some(Err(error)),
    })
}

fn resolve_slot(segment: &Segment, slot: u16) -> Result<()> {
    let intent = segment.intent_of(slot)?;
    resolve_structures(segment, slot, &intent)?;
    resolve_blocks(segment, slot, &intent)?;
    // The rest of a clear takes latches, which another thread of the same process may have died holding.
    if clear_under_way(&intent).is_none() {
        intent.set(Field::Op, 0);
    }
    Ok(())
}

fn clear_under_way(intent: &Intent<'_>) -> Option<Op> {
    Op::unpack(intent.get(Field::Op)).flatten().filter(|op| op.kind == OpKind::TableClear)
}

fn release_slot(segment: &Segment, slot: u16) -> Result<()> {
    let intent = segment.intent_of(slot)?;
    if let Some(op) = clear_under_way(&intent) {
        // An operation of this thread. A kill here leaves both intents, and either is enough.
        let root = intent.get(Field::Object);
        run(segment, |me| table::resume_clear(me, root, op))?;
        intent.set(Field::Op, 0);
    }
    segment.free_slot(slot);
    Ok(())
}

/// Recovers every dead process. Returns how many there were.
///
/// # Errors
/// As [`recover`]; the others are recovered nevertheless.
pub fn recover_all(segment: &Segment) -> Result<usize> {
    let dead: Vec<u32> =
        segment.processes().filter(|(_, l)| matches!(l, Ok(Liveness::Dead))).map(|(index, _)| index).collect();
    let mut result = Ok(dead.len());
    for index in dead {
        if let Err(error) = recover(segment, index) {
            result = Err(error);
        }
    }
    result
}

/// Gives back what this process still has in the segment, before it leaves in good order.
#[cold]
pub fn leave(segment: &Segment) {
    if segment.still_member().is_err() {
        return;
    }
    let me = segment.membership().me().index;
    for slot in 0..segment.slots_used() {
        let Ok(state) = segment.slot_state(slot) else { return };
        if state.used && state.process == me {
            segment.give_back(SlotId { index: slot, generation: state.generation }, || {
                if let Ok(intent) = segment.intent_of(slot) {
                    let _ = resolve(segment, slot, &intent);
                }
            });
        }
    }
}

/// Frees every block of the object in `entry`, whose owner (building or destroying it) the intent belongs to.
///
/// Each block is named, its reference cleared, and then freed; so a walk cut short at any point is simply begun again.
pub fn destroy_blocks(segment: &Segment, intent: &Intent<'_>, entry: Entry<'_>) -> Result<()> {
    let root = entry.root();
    let half_freed = intent.get(Field::Free);
    if half_freed != 0 {
        if root != 0 {
            visit_blocks(segment, entry, root, &mut |word, block| {
                if block == half_freed {
                    word.store(0, Ordering::Release);
                }
                Ok(())
            })?;
        }
        if half_freed == root {
            entry.root_ref().store(0, Ordering::Release);
        }
        segment.release_for(half_freed)?;
        intent.set(Field::Free, 0);
    }
    let root = entry.root();
    if root == 0 {
        return Ok(());
    }
    let mut free = |word: &crate::mem::Word, block| {
        intent.set(Field::Free, block);
        word.store(0, Ordering::Release);
        segment.release_for(block)?;
        intent.set(Field::Free, 0);
        Ok(())
    };
    visit_blocks(segment, entry, root, &mut free)?;
    free(entry.root_ref(), root)
}

/// Every reference to a block inside the object in `entry`, but not the one to its root.
pub fn visit_blocks(
    segment: &Segment,
    entry: Entry<'_>,
    root: u64,
    f: &mut dyn FnMut(&crate::mem::Word, u64) -> Result<()>,
) -> Result<()> {
    match entry.kind()? {
        Kind::Dict | Kind::Directory | Kind::Set | Kind::Namespace => table::visit(segment, root, f),
        Kind::Queue => ring::visit(segment, root, f),
        Kind::PriorityQueue | Kind::JoinableQueue => agenda::visit(segment, root, f),
        Kind::Lock | Kind::RLock | Kind::RwLock | Kind::Once | Kind::Record => cell::visit(segment, root, f),
        Kind::Semaphore | Kind::Condition | Kind::Event | Kind::Barrier => Ok(()),
        Kind::Connection | Kind::Board => Ok(()),
        Kind::Pipe => pipe::visit(segment, root, f),
        Kind::Value => value::visit(segment, root, f),
        Kind::List => list::visit(segment, root, f),
        Kind::Array | Kind::Block => array::visit(segment, root, f),
    }
}

/// Every handle inside the values of the object in `entry`.
pub fn visit_handles(segment: &Segment, entry: Entry<'_>, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    match (entry.root(), entry.kind()?) {
        (0, _) | (_, Kind::Directory | Kind::Board) => Ok(()),
        (root, Kind::Dict | Kind::Set | Kind::Namespace) => table::visit_handles(segment, root, f),
        (root, Kind::Queue) => ring::visit_handles(segment, root, f),
        (root, Kind::PriorityQueue | Kind::JoinableQueue) => agenda::visit_handles(segment, root, f),
        (root, Kind::Lock | Kind::RLock | Kind::RwLock | Kind::Once | Kind::Record) => {
            cell::visit_handles(segment, root, f)
        }
        (_, Kind::Semaphore | Kind::Condition | Kind::Event | Kind::Barrier) => Ok(()),
        (root, Kind::Connection) => pipe::visit_handles_of_end(segment, root, f),
        (root, Kind::Pipe) => pipe::visit_handles(segment, root, f),
        (root, Kind::Value) => value::visit_handles(segment, root, f),
        (root, Kind::List) => list::visit_handles(segment, root, f),
        (_, Kind::Array | Kind::Block) => Ok(()),
    }
}

/// Whether an object may be used: it is, or it is being decided about.
pub fn is_present(state: State) -> bool {
    matches!(state, State::Live | State::Condemned | State::Doomed)
}
