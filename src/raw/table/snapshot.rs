//! Holding a whole table still for a moment: consistent snapshots, and counting anew.
//!
//! The *gate* is a latch in the root. Whoever holds it visits every latch of buckets with a read-modify-write and waits
//! where it is held; a writer looks at the gate after it has taken its latch, and lets go again if the gate is closed.
//! The two read-modify-writes of the same word are ordered, so either the writer sees the gate or it is waited for,
//! and writers need no fence.

use std::sync::atomic::Ordering;

use super::iterate::{Cursor, Pair};
use super::latched::{STRIPES, count_of, latch_of};
use super::size::Size;
use super::{Table, root};
use crate::mem::{Field, Me, Op, OpKind, Step, Word};
use crate::raw::latch;

impl Table {
    /// All entries, as they were at one moment.
    ///
    /// # Blocking
    /// Waits for writers at work, and makes new ones wait until it is done. Readers are not held up.
    ///
    /// # Crash
    /// Recovery opens the gate again.
    ///
    /// # Complexity
    /// Linear in buckets and entries.
    pub fn snapshot(&self, me: &Me<'_>) -> Step<Vec<Pair>> {
        self.held_still(me, |table, _| {
            let mut pairs = Vec::new();
            let mut cursor = Cursor::default();
            while !cursor.is_done() {
                table.next_pairs(me.segment, &mut cursor, &mut pairs)?;
            }
            Ok(pairs)
        })
    }

    /// Counts the entries anew if a kill has made the count unsure.
    pub fn recount(&self, me: &Me<'_>) -> Step<()> {
        self.held_still(me, |table, words| {
            let (size, mut counts) = (Size::read(words), [0; STRIPES as usize]);
            let (mut cursor, mut pairs) = (Cursor::default(), Vec::new());
            while !cursor.is_done() {
                pairs.clear();
                table.next_pairs(me.segment, &mut cursor, &mut pairs)?;
                for pair in &pairs {
                    counts[(size.index(me.segment.hash(pair.key())) % STRIPES) as usize] += 1;
                }
            }
            for (number, count) in (0..).zip(counts) {
                count_of(words, number).store(count, Ordering::Relaxed);
            }
            words[root::DIRTY].store(0, Ordering::Release);
            Ok(())
        })
    }

    fn held_still<R>(&self, me: &Me<'_>, read: impl FnOnce(&Table, &[Word]) -> Step<R>) -> Step<R> {
        let words = self.root(me.segment)?;
        me.intent.set(Field::Object, self.root);
        me.intent.set(Field::Op, Op::new(OpKind::TableSnapshot).pack());
        latch::acquire(me, &words[root::GATE])?;
        quiesce(me, words)?;
        let result = read(self, words)?;
        latch::release(&words[root::GATE]);
        me.intent.set(Field::Op, 0);
        Ok(result)
    }
}

/// Waits for the writers that took a latch before the gate was closed.
fn quiesce(me: &Me<'_>, words: &[Word]) -> Step<()> {
    for word in (0..STRIPES).map(|number| latch_of(words, number)) {
        if latch::owner_of(word.fetch_add(0, Ordering::AcqRel)) != 0 {
            latch::wait_until_free(me.segment, word)?;
        }
    }
    Ok(())
}
