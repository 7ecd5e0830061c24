//! A slot: one word that refers to an immutable block, or is the value itself, and is changed under a latch.
//!
//! What lists and large atomic values have in common. The latch is the first word of the object's root; the block is laid
//! out as a lock's value (see `cell`).
//!
//! # Algorithm
//!
//! A seqlock (Boehm 2012) whose sequence is in the latch word: readers copy, then look whether the sequence stood still.
//!
//! # Thread safety and invariants
//!
//! 1. Under one latch acquisition exactly one store changes what readers see, the *commit*.
//! 2. A reader that found the same sequence before and after has seen one state. It ignores who holds the latch, so
//!    it never waits for a writer, a dead one included.
//! 3. A block goes only after the latch was released behind the commit that unlinked it: by then the sequence has risen.
//!
//! # What a kill leaves
//!
//! | step | store | a kill after it is resolved by |
//! |---|---|---|
//! | 1 | intent `alloc` = the new block, its contents | freeing it |
//! | 2 | intent `object`, `cell` = 0, `op`; the latch | the same, and releasing the latch |
//! | 3 | intent `cell` = the slot, `free` = the old block | the same, and forgetting `free` |
//! | 4 | **commit**: the slot | forgetting `alloc`, releasing, freeing the old block |
//! | 5 | intent `alloc` = 0, still latched | (latched without `alloc` means committed) |
//! | 6 | the release; the old block's bit; `free` = 0; `op` = 0 | freeing the old block again, which does nothing |

use std::sync::atomic::Ordering;

use super::table::{Expect, equal_bytes, words_for};
use super::{cell, latch, recovery};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Field, Intent, Me, Op, OpKind, Segment, Step, Word, fence, load_words};

/// Optimistic reads that may fail before the reader takes the latch if it can.
const OPTIMISTIC_TRIES: u32 = 8;
/// Reads that may fail before the answer is `Contended`.
const MAX_TRIES: u32 = 1 << 16;

/// One optimistic look at what a latch guards.
pub struct Look<'a> {
    latch: &'a Word,
    sequence: u32,
}

impl<'a> Look<'a> {
    /// Begins: what is read from here on is one state if [`holds`](Look::holds) afterwards.
    #[inline]
    pub fn begin(latch: &'a Word) -> Look<'a> {
        // Acquire: everything that the release which stored this sequence did is visible.
        Look { latch, sequence: latch::sequence_of(latch.load(Ordering::Acquire)) }
    }

    /// Whether nothing has changed since.
    #[inline]
    pub fn holds(&self) -> bool {
        // Pairs with the Release fence behind every taking of a latch: if any word read before was stored by a later
        // holder, the sequence read below is at least that holder's.
        fence(Ordering::Acquire);
        latch::sequence_of(self.latch.load(Ordering::Relaxed)) == self.sequence
    }

    /// The sequence number of the state that was looked at.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Appends the bytes of the block at `block`, as whole words, to `out`; their number.
    ///
    /// # Errors
    /// `Corrupted`, which means something only if the look [`holds`](Look::holds).
    #[inline]
    pub fn copy_block(&self, segment: &Segment, block: u64, out: &mut Vec<u64>) -> Result<usize> {
        let (_, words, length) = cell::parts(segment, block)?;
        // A length from a block that was freed meanwhile must not make this process allocate gigabytes.
        if words.len() > out.capacity() - out.len() && !self.holds() {
            return Err(changed());
        }
        load_words(words, out);
        Ok(length)
    }

    /// Appends the handles in the block at `block` (0: none) to `out`.
    ///
    /// # Errors
    /// As [`copy_block`](Look::copy_block).
    pub fn copy_handles(&self, segment: &Segment, block: u64, out: &mut Vec<u64>) -> Result<()> {
        if block == 0 {
            return Ok(());
        }
        let (handles, ..) = cell::parts(segment, block)?;
        if !handles.is_empty() {
            if !self.holds() {
                return Err(changed());
            }
            load_words(handles, out);
        }
        Ok(())
    }
}

/// What a look finds that met a change.
#[cold]
pub fn changed() -> Error {
    Error::corrupted("a value that changed while it was read")
}

/// What `look` made of one state of the object at `root`, whose first word is the latch.
///
/// # Blocking
/// Waits for nobody. After eight tries that writers spoiled it tries to take the latch, too.
///
/// # Errors
/// Those of `look`; `Evicted`, `Contended`.
#[inline]
pub fn read<R>(segment: &Segment, root: u64, mut look: impl FnMut(&Look<'_>) -> Result<R>) -> Result<R> {
    let latch = segment.word(root)?;
    for _ in 0..OPTIMISTIC_TRIES {
        if let Some(result) = attempt(segment, latch, &mut look)? {
            return Ok(result);
        }
    }
    read_persistently(segment, root, latch, &mut look)
}

#[inline]
fn attempt<R>(segment: &Segment, latch: &Word, look: &mut impl FnMut(&Look<'_>) -> Result<R>) -> Result<Option<R>> {
    let now = Look::begin(latch);
    let result = look(&now);
    if !now.holds() {
        return Ok(None);
    }
    if segment.poisoned() {
        return Err(Error::new(ErrorKind::Evicted, "the segment has lost its storage"));
    }
    result.map(Some) // LINEARIZES: reads, at the second reading of the sequence
}

#[cold]
#[inline(never)]
fn read_persistently<R>(
    segment: &Segment,
    root: u64,
    latch: &Word,
    look: &mut impl FnMut(&Look<'_>) -> Result<R>,
) -> Result<R> {
    for round in 0..MAX_TRIES {
        if let Some(result) = attempt(segment, latch, look)? {
            return Ok(result);
        }
        if let Some(result) = try_read_latched(segment, root, look)? {
            return Ok(result);
        }
        if round % 64 == 63 {
            std::thread::yield_now();
        }
    }
    Err(Error::new(ErrorKind::Contended, "reading what never rests"))
}

/// One look under the latch, if it is free and this thread may take it. `None` if not.
pub(super) fn try_read_latched<R>(
    segment: &Segment,
    root: u64,
    look: &mut impl FnMut(&Look<'_>) -> Result<R>,
) -> Result<Option<R>> {
    let Ok(me) = segment.enter() else { return Ok(None) };
    let latch = segment.word(root)?;
    announce(&me, root);
    let result = latch::try_acquire(&me, latch).then(|| {
        let result = look(&Look::begin(latch));
        latch::release(latch);
        result
    });
    me.intent.set(Field::Op, 0);
    result.transpose()
}

/// As [`read`], without ever taking the latch: for a collector, whose intent is in use.
///
/// # Errors
/// As [`read`].
pub fn read_unlatched<R>(segment: &Segment, root: u64, mut look: impl FnMut(&Look<'_>) -> Result<R>) -> Result<R> {
    let latch = segment.word(root)?;
    for round in 1..=MAX_TRIES {
        if let Some(result) = attempt(segment, latch, &mut look)? {
            return Ok(result);
        }
        if round % 64 == 0 {
            std::thread::yield_now();
        }
    }
    Err(Error::new(ErrorKind::Contended, "reading what never rests"))
}

/// As [`read`], for looks that take long: when writers have spoiled some, it waits for the latch and holds writers off.
///
/// # Errors
/// As [`read`]; `Stalled`.
pub fn read_at_rest<R>(segment: &Segment, root: u64, mut look: impl FnMut(&Look<'_>) -> Result<R>) -> Result<R> {
    let latch = segment.word(root)?;
    for _ in 0..OPTIMISTIC_TRIES {
        if let Some(result) = attempt(segment, latch, &mut look)? {
            return Ok(result);
        }
    }
    read_latched(segment, root, look)
}

/// One look under the latch, which it waits for.
#[cold]
pub(super) fn read_latched<R>(segment: &Segment, root: u64, mut look: impl FnMut(&Look<'_>) -> Result<R>) -> Result<R> {
    recovery::run(segment, |me| {
        let latch = me.segment.word(root)?;
        announce(me, root);
        latch::acquire(me, latch)?;
        let result = look(&Look::begin(latch));
        latch::release(latch);
        me.intent.set(Field::Op, 0);
        Ok(result?)
    })
}

/// Says that the latch of the object at `root` is about to be taken.
#[inline]
pub fn announce(me: &Me<'_>, root: u64) {
    me.intent.set(Field::Object, root);
    me.intent.set(Field::Cell, 0);
    me.intent.set(Field::Op, Op::new(OpKind::SlotPut).pack());
}

/// Whether the block at `block` (0: none) is what is expected, and whether it holds handles. Under the latch.
pub fn meets(segment: &Segment, block: u64, expect: Expect<'_>) -> Result<(bool, bool)> {
    if block == 0 {
        return Ok((!matches!(expect, Expect::Value(_)), false));
    }
    let (handles, words, length) = cell::parts(segment, block)?;
    let meets = match expect {
        Expect::Any => true,
        Expect::Absent => false,
        Expect::Value(bytes) => length == bytes.len() && equal_bytes(&words[..words_for(length)], bytes),
    };
    Ok((meets, !handles.is_empty()))
}

/// Whether a change was made, and whether what went held handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whether it was made.
    pub done: bool,
    /// Whether what went held handles.
    pub dropped_handles: bool,
}

/// Makes the slot that `find` finds, under the latch, refer to a new block with these contents, if `expect` holds of the
/// one that it refers to.
///
/// # Crash
/// All or nothing; see the table at the top of this file.
///
/// # Errors
/// Those of `find`; `OutOfMemory`, `TooLarge`; nothing has changed then.
pub fn put<'a>(
    me: &Me<'a>,
    root: u64,
    find: impl FnOnce(&Segment) -> Result<u64>,
    (bytes, handles): (&[u8], &[u64]),
    expect: Expect<'_>,
) -> Step<Changed> {
    let block = cell::new_block(me, Field::Alloc, bytes, handles)?;
    let latch = me.segment.word(root)?;
    announce(me, root);
    latch::acquire(me, latch)?;
    let at = find(me.segment)?;
    let slot = me.segment.word(at)?;
    let old = slot.load(Ordering::Acquire);
    let (meets, dropped_handles) = meets(me.segment, old, expect)?;
    if !meets {
        latch::release(latch);
        me.release(block)?;
        me.intent.set(Field::Alloc, 0);
        me.intent.set(Field::Op, 0);
        return Ok(Changed { done: false, dropped_handles: false });
    }
    me.intent.set(Field::Cell, at);
    me.intent.set(Field::Free, old);
    slot.store(block, Ordering::Release); // LINEARIZES: put
    me.intent.set(Field::Alloc, 0);
    latch::release(latch);
    if old != 0 {
        me.release(old)?;
        me.intent.set(Field::Free, 0);
    }
    me.intent.set(Field::Op, 0);
    Ok(Changed { done: true, dropped_handles })
}

/// What becomes of a put that did not end.
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>) -> Result<()> {
    let latch = segment.word(intent.get(Field::Object))?;
    let owner = u64::from(slot) + 1;
    if latch::owner_of(latch.load(Ordering::Acquire)) != owner {
        return Ok(()); // not latched yet, or finished but for freeing
    }
    let (at, block) = (intent.get(Field::Cell), intent.get(Field::Alloc));
    let committed = at != 0 && segment.word(at)?.load(Ordering::Acquire) == block;
    match block {
        0 => {} // published, or nothing to publish
        _ if committed => intent.set(Field::Alloc, 0),
        _ => intent.set(Field::Free, 0),
    }
    latch::release_for(latch, owner);
    Ok(())
}
