//! One value: a word that is changed atomically, or a slot that refers to a block.
//!
//! The root block, a cache line of its own: the latch, the form, the value. Values of a fixed length of up to eight bytes
//! are the word itself, and every change is one atomic instruction, which announces nothing since there is nothing to
//! undo. Others are slots (see `slot`).

use std::sync::atomic::Ordering;

use super::slot::{self, Changed, Look};
use super::table::Expect;
use super::{cell, latch};
use crate::error::{Error, Result};
use crate::mem::{Field, Me, Segment, Step, Word};

const LATCH: usize = 0;
const FORM: usize = 1;
const VALUE: usize = 2;
const WORDS: usize = 8;

const FORM_WORD: u64 = 1;
const FORM_BLOCK: u64 = 2;

/// What a new value is.
#[derive(Clone, Copy, Debug)]
pub enum Initial<'a> {
    /// The word itself.
    Word(u64),
    /// Bytes, and the handles that they hold.
    Bytes(&'a [u8], &'a [u64]),
}

/// Builds a value and stores its root in `root_ref`.
///
/// # Errors
/// `OutOfMemory`, `TooLarge`.
pub fn create(me: &Me<'_>, root_ref: &Word, initial: Initial<'_>) -> Result<()> {
    let block = me.alloc(WORDS as u64 * 8, Field::Alloc)?;
    let words = me.segment.words(block, WORDS)?;
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    let (form, word) = match initial {
        Initial::Word(word) => (FORM_WORD, word),
        Initial::Bytes(..) => (FORM_BLOCK, 0),
    };
    words[FORM].store(form, Ordering::Relaxed);
    words[VALUE].store(word, Ordering::Relaxed);
    root_ref.store(block, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    if let Initial::Bytes(bytes, handles) = initial {
        let value = cell::new_block(me, Field::Alloc, bytes, handles)?;
        words[VALUE].store(value, Ordering::Release);
        me.intent.set(Field::Alloc, 0);
    }
    Ok(())
}

/// Whether the value at `root` is a word.
///
/// # Errors
/// `Corrupted` if there is no value.
pub fn is_word(segment: &Segment, root: u64) -> Result<bool> {
    match segment.words(root, WORDS)?[FORM].load(Ordering::Acquire) {
        FORM_WORD => Ok(true),
        FORM_BLOCK => Ok(false),
        _ => Err(Error::corrupted("the form of a value")),
    }
}

/// The word of a value that is one.
#[inline]
pub fn word(segment: &Segment, root: u64) -> Result<&Word> {
    Ok(&segment.words(root, WORDS)?[VALUE])
}

/// Copies the value in a block out: whole words, and how many bytes of them count.
pub fn read(segment: &Segment, root: u64, out: &mut Vec<u64>) -> Result<usize> {
    let value = word(segment, root)?;
    slot::read(segment, root, |look: &Look<'_>| {
        out.clear();
        look.copy_block(segment, value.load(Ordering::Acquire), out)
    })
}

/// Replaces the value in a block if `expect` holds of it.
///
/// # Crash
/// All or nothing; see `slot::put`.
pub fn put(me: &Me<'_>, root: u64, bytes: &[u8], handles: &[u64], expect: Expect<'_>) -> Step<Changed> {
    slot::put(me, root, |_| Ok(root + VALUE as u64 * 8), (bytes, handles), expect)
}

/// See `recovery::visit_blocks`.
pub fn visit(segment: &Segment, root: u64, f: &mut dyn FnMut(&Word, u64) -> Result<()>) -> Result<()> {
    let words = segment.words(root, WORDS)?;
    match (words[FORM].load(Ordering::Acquire), words[VALUE].load(Ordering::Acquire)) {
        (FORM_BLOCK, block) if block != 0 => f(&words[VALUE], block),
        _ => Ok(()),
    }
}

/// See `recovery::visit_handles`.
pub fn visit_handles(segment: &Segment, root: u64, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    if is_word(segment, root)? {
        return Ok(());
    }
    let value = word(segment, root)?;
    let handles = slot::read_unlatched(segment, root, |look: &Look<'_>| {
        let mut found = Vec::new();
        look.copy_handles(segment, value.load(Ordering::Acquire), &mut found)?;
        Ok(found)
    })?;
    handles.into_iter().try_for_each(f)
}

/// Checks a value at rest.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    is_word(segment, root)?;
    if latch::owner_of(segment.words(root, WORDS)?[LATCH].load(Ordering::Acquire)) != 0 {
        return Err(Error::corrupted("the latch of a value is held by nobody at work"));
    }
    Ok(())
}
