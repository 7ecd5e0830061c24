//! Inserting, replacing and removing entries.
//!
//! | step | store | a kill after it is resolved by |
//! |---|---|---|
//! | 1 | intent names block B, B's bit, B's contents | freeing B: it was never published |
//! | 2 | intent `op`, with the bucket's number; the latch | freeing B, releasing the latch |
//! | 3 | intent `free` = the old block | the same, and forgetting `free`: the old block is still in the table |
//! | 4 | **commit**: the live word, the cell, the value word, or the link | going on with 5 |
//! | 5 | intent `alloc` = 0, still latched | (latched and B in the table means published) |
//! | 6 | sequence + 1, if something went; the count; the release | freeing the old block |
//! | 7 | the old block's bit | doing it again, which does nothing |
//! | 8 | intent `free` = 0, `op` = 0 | |
//!
//! Step 5 before 6: once the latch is free a split may move B, and recovery would not find it where it looks.

use std::sync::atomic::Ordering;

use super::bucket::{Bucket, Geometry, Live, block_of, boxed_cell, tag_matches};
use super::entry::{Content, Entry, ValueCopy, content, equal_bytes, word_of, words_for};
use super::latched::Latched;
use super::{MAX_CHAIN, Shape, Table, contended};
use crate::error::{Error, Result};
use crate::mem::{Field, Me, OpKind, Step, Word, store_bytes};

const SMALL: Geometry = Geometry::of(Shape::Inline { key: 1, value: 1 });
const BOXED: Geometry = Geometry::of(Shape::Boxed);

/// What must hold of the present entry for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect<'a> {
    /// Nothing.
    Any,
    /// There is none.
    Absent,
    /// There is one, with exactly these value bytes.
    Value(&'a [u8]),
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Whether it was made: what was expected did hold.
    pub done: bool,
    /// Whether there was an entry before.
    pub existed: bool,
    /// Whether the entry that went held handles.
    pub dropped_handles: bool,
    /// Whether the new entry has made the table want another bucket: `split_if_crowded` is due, as an operation of its own.
    pub crowded: bool,
}

/// A change to make.
#[derive(Clone, Copy)]
enum Change<'a> {
    Put {
        value: &'a [u8],
        block: u64,
    },
    Remove,
    /// Adds to a single-word value; inserts the number if there is none.
    Add {
        number: u64,
        mask: u64,
    },
}

/// Where a key is in its latched chain, or where it could go.
struct Place<'a> {
    found: Option<(Bucket<'a>, usize)>,
    free: Option<(Bucket<'a>, usize)>,
    last: Bucket<'a>,
    length: usize,
}

impl Table {
    /// Puts an entry if `expect` holds of the present one. The value before, if any, is copied to `old`.
    ///
    /// # Crash
    /// All or nothing; see the table at the top of this file.
    ///
    /// # Errors
    /// `OutOfMemory`, `TooLarge`, `Contended` (64 buckets of colliding keys), `Corrupted`; nothing has changed then.
    #[inline]
    pub fn put(
        &self,
        me: &Me<'_>,
        hash: u64,
        key: &[u8],
        value: &[u8],
        handles: &[u64],
        expect: Expect<'_>,
        old: Option<&mut ValueCopy>,
    ) -> Step<Put> {
        let block = if self.geometry.boxed {
            let block = me.alloc(Entry::size(key.len(), value.len(), handles.len())?, Field::Alloc)?;
            Entry::fill(me.segment, block, hash, key, value, handles)?;
            block
        } else {
            0
        };
        self.change(me, hash, key, Change::Put { value, block }, expect, old)
    }

    /// Removes the entry of `key` if `expect` holds of it. Its value is copied to `old`.
    #[inline]
    pub fn remove(
        &self,
        me: &Me<'_>,
        hash: u64,
        key: &[u8],
        expect: Expect<'_>,
        old: Option<&mut ValueCopy>,
    ) -> Step<Put> {
        self.change(me, hash, key, Change::Remove, expect, old)
    }

    /// Adds `number` to the single-word value of `key`, wrapping within the bits of `mask`; a missing one counts as 0.
    /// Inline tables with one value word only.
    #[inline]
    pub fn add(&self, me: &Me<'_>, hash: u64, key: &[u8], number: u64, mask: u64, old: &mut ValueCopy) -> Step<Put> {
        self.change(me, hash, key, Change::Add { number, mask }, Expect::Any, Some(old))
    }

    #[inline]
    fn change(
        &self,
        me: &Me<'_>,
        hash: u64,
        key: &[u8],
        change: Change<'_>,
        expect: Expect<'_>,
        old: Option<&mut ValueCopy>,
    ) -> Step<Put> {
        // The commonest shapes as constants: bounds checks, multiplications and branches fold.
        match self.geometry {
            SMALL => self.change_in(&SMALL, me, hash, key, change, expect, old),
            BOXED => self.change_in(&BOXED, me, hash, key, change, expect, old),
            _ => self.change_in(&self.geometry, me, hash, key, change, expect, old),
        }
    }

    #[inline(always)]
    fn change_in(
        &self,
        g: &Geometry,
        me: &Me<'_>,
        hash: u64,
        key: &[u8],
        change: Change<'_>,
        expect: Expect<'_>,
        mut old: Option<&mut ValueCopy>,
    ) -> Step<Put> {
        let kind = if matches!(change, Change::Remove) { OpKind::TableRemove } else { OpKind::TablePut };
        let mut overflow = 0;
        loop {
            let at = self.latch_bucket(g, me, hash, kind)?;
            let place = self.find_latched(g, me, at.bucket, hash, key)?;
            let mut put = Put { done: false, existed: place.found.is_some(), dropped_handles: false, crowded: false };
            if let Some((bucket, cell)) = place.found {
                // The present value matters only if somebody asks; of an inline one there is nothing else to know.
                let asked = old.is_some() || matches!(expect, Expect::Value(_));
                let mut fits = expect == Expect::Any;
                if asked || g.boxed {
                    let now = content(me.segment, g, bucket.cell(cell))?;
                    if let Some(old) = old.as_deref_mut() {
                        old.copy(&now);
                    }
                    put.dropped_handles = !now.handles.is_empty();
                    fits |= is_value(expect, &now);
                }
                if fits {
                    put.done = true;
                    self.change_existing(g, me, &at, bucket, cell, hash, key, change)?;
                }
                at.release();
            } else if matches!(expect, Expect::Any | Expect::Absent) && !matches!(change, Change::Remove) {
                if place.free.is_none() && overflow == 0 {
                    // A bucket must be added to the chain. Allocating may grow the segment, which nobody may do under
                    // a latch.
                    at.release();
                    overflow = self.new_overflow(me, place.length)?;
                    continue;
                }
                if place.free.is_none() && place.length >= MAX_CHAIN {
                    return Err(chain_full().into()); // others have filled it meanwhile
                }
                put.done = true;
                self.insert(g, me, &place, hash, key, change, overflow)?;
                put.crowded = at.is_crowded(g, at.count(1));
                at.release();
            } else {
                at.release();
            }
            if !put.done {
                put.dropped_handles = false;
                self.abandon_block(me)?;
            }
            self.finish(g, me, overflow)?;
            return Ok(put);
        }
    }

    /// Frees what was unlinked and what turned out unneeded, and ends the operation.
    #[inline(always)]
    fn finish(&self, g: &Geometry, me: &Me<'_>, overflow: u64) -> Result<()> {
        if overflow != 0 && me.intent.get(Field::Alloc2) == overflow {
            me.release(overflow)?;
            me.intent.set(Field::Alloc2, 0);
        }
        if g.boxed {
            let freed = me.intent.get(Field::Free);
            if freed != 0 {
                me.release(freed)?;
                me.intent.set(Field::Free, 0);
            }
        }
        me.intent.set(Field::Op, 0);
        Ok(())
    }

    fn abandon_block(&self, me: &Me<'_>) -> Result<()> {
        let block = me.intent.get(Field::Alloc);
        if block != 0 {
            me.release(block)?;
            me.intent.set(Field::Alloc, 0);
        }
        Ok(())
    }

    #[inline(always)]
    fn find_latched<'a>(
        &self,
        g: &Geometry,
        me: &Me<'a>,
        primary: Bucket<'a>,
        hash: u64,
        key: &[u8],
    ) -> Result<Place<'a>> {
        let mut place = Place { found: None, free: None, last: primary, length: 0 };
        let mut bucket = primary;
        loop {
            place.length += 1;
            place.last = bucket;
            let live = bucket.live();
            for cell in live.candidates(hash) {
                let words = bucket.cell(cell);
                let hit = if g.boxed {
                    let word = words[0].load(Ordering::Acquire);
                    tag_matches(word, hash) && Entry::of_cell(me.segment, word)?.has_key(key)
                } else {
                    equal_bytes(&words[..g.key_words as usize], key)
                };
                if hit {
                    place.found = Some((bucket, cell));
                    return Ok(place);
                }
            }
            if place.free.is_none() && live.count() < u32::from(g.usable) {
                place.free = live.free_cell(g.cells).map(|cell| (bucket, cell));
            }
            match bucket.link() {
                0 => return Ok(place),
                _ if place.length == MAX_CHAIN => return Err(Error::corrupted("a chain of buckets without end")),
                link => bucket = Bucket::at(me.segment, g, link)?,
            }
        }
    }

    /// Replaces, adds to or removes the entry in a live cell.
    #[inline(always)]
    fn change_existing(
        &self,
        g: &Geometry,
        me: &Me<'_>,
        at: &Latched<'_>,
        bucket: Bucket<'_>,
        cell: usize,
        hash: u64,
        key: &[u8],
        change: Change<'_>,
    ) -> Result<()> {
        let words = bucket.cell(cell);
        if g.boxed {
            me.intent.set(Field::Free, block_of(words[0].load(Ordering::Relaxed)));
        }
        match change {
            Change::Remove => {
                bucket.set_live(bucket.live().without(cell)); // LINEARIZES: remove
                at.raise();
                at.count(-1);
            }
            Change::Put { block, .. } if g.boxed => {
                words[0].store(boxed_cell(hash, block), Ordering::Release); // LINEARIZES: replace
                me.intent.set(Field::Alloc, 0);
                at.raise();
            }
            Change::Put { value, .. } if g.value_words == 1 => {
                self.single_value(words).store(word_of(value, 0), Ordering::Release); // LINEARIZES: replace
            }
            Change::Put { .. } if g.value_words == 0 => {} // LINEARIZES: replace, of nothing by nothing
            Change::Put { value, .. } => {
                self.replace_through_spare(bucket, cell, hash, key, value)?;
                at.raise();
            }
            Change::Add { number, mask } => {
                let word = self.single_value(words);
                let sum = word.load(Ordering::Relaxed).wrapping_add(number) & mask;
                word.store(sum, Ordering::Release); // LINEARIZES: add
            }
        }
        Ok(())
    }

    /// Puts the new entry into a cell that is not live, and makes that one live in place of `cell`.
    #[inline]
    pub(super) fn replace_through_spare(
        &self,
        bucket: Bucket<'_>,
        cell: usize,
        hash: u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let live = bucket.live();
        let spare = live.free_cell(self.geometry.cells).ok_or_else(no_spare)?;
        self.fill_cell(bucket.cell(spare), key, value);
        bucket.set_live(live.with(spare, hash).without(cell)); // LINEARIZES: replace
        Ok(())
    }

    #[inline]
    pub(super) fn fill_cell(&self, words: &[Word], key: &[u8], value: &[u8]) {
        let (key_words, value_words) = words.split_at(self.geometry.key_words as usize);
        store_bytes(key_words, key);
        store_bytes(value_words, value);
    }

    /// Puts a new entry into a free cell, or into the overflow bucket made ready.
    #[inline(always)]
    fn insert(
        &self,
        g: &Geometry,
        me: &Me<'_>,
        place: &Place<'_>,
        hash: u64,
        key: &[u8],
        change: Change<'_>,
        overflow: u64,
    ) -> Result<()> {
        let number;
        let (value, block) = match change {
            Change::Put { value, block } => (value, block),
            Change::Add { number: n, mask } => {
                number = (n & mask).to_le_bytes();
                (&number[..], 0)
            }
            Change::Remove => unreachable!("the caller handles removal"),
        };
        let fresh = place.free.is_none();
        let (bucket, cell) = match place.free {
            Some(free) => free,
            None => (Bucket::at(me.segment, g, overflow)?, 0),
        };
        let words = bucket.cell(cell);
        if g.boxed {
            words[0].store(boxed_cell(hash, block), Ordering::Relaxed);
        } else {
            self.fill_cell(words, key, value);
        }
        if fresh {
            bucket.set_live(Live(0).with(cell, hash)); // nobody sees it yet
            place.last.set_link(overflow)?; // LINEARIZES: insert
            me.intent.set(Field::Alloc2, 0);
        } else {
            bucket.set_live(bucket.live().with(cell, hash)); // LINEARIZES: insert
        }
        if g.boxed {
            me.intent.set(Field::Alloc, 0);
        }
        Ok(())
    }

    /// An empty bucket to append to a chain of `length`, named by the intent's second field.
    #[cold]
    fn new_overflow(&self, me: &Me<'_>, length: usize) -> Result<u64> {
        if length >= MAX_CHAIN {
            return Err(chain_full());
        }
        let words = self.geometry.bucket_words as usize;
        let off = me.alloc(words as u64 * 8, Field::Alloc2)?;
        for word in me.segment.words(off, words)? {
            word.store(0, Ordering::Relaxed);
        }
        Ok(off)
    }
}

#[cold]
fn chain_full() -> Error {
    contended("a bucket chain is full of colliding keys")
}

fn is_value(expect: Expect<'_>, now: &Content<'_>) -> bool {
    // An inline value is whole words; the bytes expected may end earlier, in zeros.
    matches!(expect, Expect::Value(bytes)
        if (now.value_len == bytes.len() || now.value_len == words_for(bytes.len()) * 8)
            && now.value.len() == words_for(bytes.len())
            && equal_bytes(now.value, bytes))
}

#[cold]
fn no_spare() -> Error {
    Error::corrupted("a bucket without the spare cell that replacing needs")
}
