//! A lock and the value it guards.
//!
//! The root block, in words: the lock word (see `lock`), then the value's block or 0. A value block is
//! `length:32 | handles:32`, handles, bytes; immutable from its publication on.
//!
//! # Thread safety and crash
//!
//! Whoever holds the lock replaces the value; its commit is a CAS of the value word from the old block to the new. That
//! the lock was held is not relied upon: two that replace at once, after somebody released a lock that was not theirs,
//! lose one update and nothing else. What a kill leaves is decided by whether the word refers to the new block.

use std::sync::atomic::Ordering;

use super::table::words_for;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Intent, Me, Op, OpKind, Segment, Word, fence, load_words, store_bytes};

const LOCK: usize = 0;
const VALUE: usize = 1;
/// Words of a cell.
pub const WORDS: usize = 2;
/// Looks at a value that is replaced again and again, before giving up.
const TRIES: u32 = 1000;

/// Builds an unlocked lock around a value and stores its root in `root_ref`. `more` words of zeros follow the cell's own:
/// the lock's kind knows what for.
pub fn create(me: &Me<'_>, root_ref: &Word, more: usize, value: &[u8], handles: &[u64]) -> Result<()> {
    let words = create_zeroed(me, root_ref, WORDS + more)?;
    if !value.is_empty() || !handles.is_empty() {
        let value = new_block(me, Field::Alloc, value, handles)?;
        words[VALUE].store(value, Ordering::Release);
        me.intent.set(Field::Alloc, 0);
    }
    Ok(())
}

/// Builds a root of `count` zero words and stores its offset in `root_ref`.
pub fn create_zeroed<'a>(me: &Me<'a>, root_ref: &Word, count: usize) -> Result<&'a [Word]> {
    let block = me.alloc(count as u64 * 8, Field::Alloc)?;
    let words = me.segment.words(block, count)?;
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    root_ref.store(block, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    Ok(words)
}

/// The lock word of the cell at `root`.
#[inline]
pub fn lock_word(segment: &Segment, root: u64) -> Result<&Word> {
    Ok(&segment.words(root, WORDS)?[LOCK])
}

/// Allocates and fills the block of a value; the intent's `field` names it.
#[inline]
pub(super) fn new_block(me: &Me<'_>, field: Field, value: &[u8], handles: &[u64]) -> Result<u64> {
    let (Ok(length), Ok(count)) = (u32::try_from(value.len()), u32::try_from(handles.len())) else {
        return Err(Error::new(ErrorKind::TooLarge, format!("a value of {} bytes", value.len())));
    };
    let size = 1 + handles.len() + words_for(value.len());
    let block = me.alloc(size as u64 * 8, field)?;
    let words = me.segment.words(block, size)?;
    words[0].store(u64::from(length) | u64::from(count) << 32, Ordering::Relaxed);
    for (word, handle) in words[1..].iter().zip(handles) {
        word.store(*handle, Ordering::Relaxed);
    }
    store_bytes(&words[1 + handles.len()..], value);
    Ok(block)
}

/// Handles, words and length in bytes of the block of a value.
#[inline]
pub(super) fn parts(segment: &Segment, block: u64) -> Result<(&[Word], &[Word], usize)> {
    let head = segment.word(block)?.load(Ordering::Acquire);
    let (length, handles) = (head as u32 as usize, (head >> 32) as usize);
    let words = segment.words(block, 1 + handles + words_for(length))?;
    let (handles, bytes) = words[1..].split_at(handles);
    Ok((handles, bytes, length))
}

/// Replaces the value. Whether the one that went held handles.
///
/// # Crash
/// All or nothing.
pub fn replace(me: &Me<'_>, root: u64, value: &[u8], handles: &[u64]) -> Result<bool> {
    let block = new_block(me, Field::Alloc, value, handles)?;
    let word = &me.segment.words(root, WORDS)?[VALUE];
    me.intent.set(Field::Object, root);
    me.intent.set(Field::Op, Op::new(OpKind::CellPut).pack());
    loop {
        let old = word.load(Ordering::Acquire);
        me.intent.set(Field::Free, old);
        if word.cas(old, block, Ordering::AcqRel).is_err() {
            continue; // somebody without the lock: their progress
        }
        // LINEARIZES: the CAS above.
        me.intent.set(Field::Alloc, 0);
        let mut dropped_handles = false;
        if old != 0 {
            dropped_handles = parts(me.segment, old).is_ok_and(|(handles, ..)| !handles.is_empty());
            me.release(old)?;
            me.intent.set(Field::Free, 0);
        }
        me.intent.set(Field::Op, 0);
        return Ok(dropped_handles);
    }
}

/// Copies the value out; empty if there is none.
pub fn read(segment: &Segment, root: u64) -> Result<Vec<u8>> {
    let block = segment.words(root, WORDS)?[VALUE].load(Ordering::Acquire);
    if block == 0 {
        return Ok(Vec::new());
    }
    let (_, words, length) = parts(segment, block)?;
    let mut copy = Vec::with_capacity(words.len());
    load_words(words, &mut copy);
    let mut bytes = zerocopy::IntoBytes::as_bytes(&copy[..]).to_vec();
    bytes.truncate(length);
    Ok(bytes)
}

/// What becomes of a replacing that did not end.
///
/// While the new block is named and is not the value, the old one is not known to be ours to free: somebody without the
/// lock may have replaced it first, and freed it. (If they replaced ours instead, right behind our CAS, the old one is
/// lost; that takes a lock released under its holder's hands and a kill between two instructions.)
pub fn resolve(segment: &Segment, intent: &Intent<'_>) -> Result<()> {
    let now = segment.words(intent.get(Field::Object), WORDS)?[VALUE].load(Ordering::Acquire);
    match intent.get(Field::Alloc) {
        0 => {} // published, and this may be the second time that we come here
        block if block == now => intent.set(Field::Alloc, 0),
        _ => intent.set(Field::Free, 0),
    }
    Ok(())
}

/// See `recovery::visit_blocks`.
pub fn visit(segment: &Segment, root: u64, f: &mut dyn FnMut(&Word, u64) -> Result<()>) -> Result<()> {
    let word = &segment.words(root, WORDS)?[VALUE];
    match word.load(Ordering::Acquire) {
        0 => Ok(()),
        block => f(word, block),
    }
}

/// See `recovery::visit_handles`. Who holds the lock may replace the value meanwhile: then its handles are not there
/// throughout, and what was read of them means nothing.
pub fn visit_handles(segment: &Segment, root: u64, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let word = &segment.words(root, WORDS)?[VALUE];
    let mut error = Error::new(ErrorKind::Contended, "reading a value that never rests");
    for _ in 0..TRIES {
        let block = word.load(Ordering::Acquire);
        if block == 0 {
            return Ok(());
        }
        let read = parts(segment, block)
            .map(|(handles, ..)| handles.iter().map(|handle| handle.load(Ordering::Relaxed)).collect::<Vec<_>>());
        // Pairs with the fence behind the taking of a block: who read a new word of it sees that the value has changed.
        fence(Ordering::Acquire);
        match read {
            _ if word.load(Ordering::Relaxed) != block => {}
            Ok(handles) => return handles.into_iter().try_for_each(f),
            Err(e) => error = e, // or else the block was away, and has come back
        }
    }
    Err(error)
}

/// Checks a cell at rest: its value is whole.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    let block = segment.words(root, WORDS)?[VALUE].load(Ordering::Acquire);
    if block == 0 {
        return Ok(());
    }
    let (handles, words, _) = parts(segment, block)?;
    match ((1 + handles.len() + words.len()) * 8) as u64 <= segment.block_size(block)? {
        true => Ok(()),
        false => Err(Error::corrupted("a value beyond its block")),
    }
}
