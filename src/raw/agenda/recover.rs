//! What becomes of an operation on an agenda that did not end.

use std::sync::atomic::Ordering;

use super::{Agenda, event, root};
use crate::error::{Error, Result};
use crate::mem::{Field, Intent, Op, OpKind, Segment, WORD, Word};
use crate::raw::latch;

/// Completes or undoes the operation of `slot`, whose latch it lets go of. Can be repeated from any point: what is decided
/// from is changed by the last store of each case.
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>, op: Op) -> Result<()> {
    let owner = u64::from(slot) + 1;
    let agenda = Agenda::open(segment, intent.get(Field::Object))?;
    let words = agenda.words(segment)?;
    // Without the latch it had not begun, or was done: what the intent names is to be freed in both cases.
    if latch::owner_of(words[root::LATCH].load(Ordering::Acquire)) == owner {
        decide(segment, words, intent, op)?;
        recount(segment, &agenda, words)?;
        latch::release_for(&words[root::LATCH], owner);
    }
    event::wake_everybody(words);
    Ok(())
}

fn decide(segment: &Segment, words: &[Word], intent: &Intent<'_>, op: Op) -> Result<()> {
    let cell = match intent.get(Field::Cell) {
        0 => None,
        offset => Some(segment.word(offset)?),
    };
    let first = words[root::HEADS].load(Ordering::Acquire);
    match op.kind {
        // The link before a new item, or the cell of a loan.
        OpKind::AgendaPut | OpKind::AgendaLoan => {
            let block = intent.get(Field::Alloc);
            if block != 0 && cell.is_some_and(|cell| cell.load(Ordering::Acquire) == block) {
                intent.set(Field::Alloc, 0);
            }
        }
        OpKind::AgendaTake => {
            if intent.get(Field::Free) == first {
                intent.set(Field::Free, 0);
            }
        }
        OpKind::AgendaAck => {
            if cell.is_some_and(|cell| cell.load(Ordering::Acquire) == intent.get(Field::Free)) {
                intent.set(Field::Free, 0);
            }
        }
        OpKind::AgendaLease => {
            if let Some(cell) = cell
                && first != 0
                && cell.load(Ordering::Acquire) == first
            {
                cell.store(0, Ordering::Release);
            }
        }
        OpKind::AgendaReturn => {
            if let Some(cell) = cell
                && op.argument != 0
                && segment.word(op.argument * WORD)?.load(Ordering::Acquire) == cell.load(Ordering::Acquire)
            {
                cell.store(0, Ordering::Release);
            }
        }
        OpKind::AgendaGrow => {
            let block = intent.get(Field::Alloc);
            let chunks = &words[root::CHUNKS..root::WORDS];
            if block != 0 && chunks.iter().any(|chunk| chunk.load(Ordering::Acquire) == block) {
                intent.set(Field::Alloc, 0);
            }
        }
        OpKind::AgendaClose => {}
        _ => return Err(Error::corrupted("the operation of an intent")),
    }
    Ok(())
}

/// The counts as they should be. Only while nobody else changes anything.
fn recount(segment: &Segment, agenda: &Agenda, words: &[Word]) -> Result<()> {
    let counts = agenda.recounted(segment)?;
    words[root::WAITING].store(counts.waiting, Ordering::Relaxed);
    words[root::LEASED].store(counts.leased, Ordering::Relaxed);
    Ok(())
}
