//! Holding a whole table still for a moment: consistent snapshots, and counting anew.
//!
//! The *gate* is a latch in the root. Whoever holds it visits every bucket's latch with a read-modify-write and waits
//! where it is held; a writer looks at the gate after it has taken its latch, and lets go again if the gate is closed.
//! The two read-modify-writes of the same word are ordered, so either the writer sees the gate or it is waited for,
//! and writers need no fence.

use std::sync::atomic::Ordering;

use super::directory::bucket_offset;
use super::iterate::{Cursor, Pair};
use super::{Table, root};
use crate::error::Result;
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
            let (mut cursor, mut total, mut pairs) = (Cursor::default(), 0, Vec::new());
            while !cursor.is_done() {
                pairs.clear();
                table.next_pairs(me.segment, &mut cursor, &mut pairs)?;
                total += pairs.len() as u64;
            }
            for stripe in 0..root::STRIPE_COUNT {
                let value = if stripe == 0 { total } else { 0 };
                words[root::STRIPES + 8 * stripe].store(value, Ordering::Relaxed);
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
        self.quiesce(me, words)?;
        let result = read(self, words)?;
        latch::release(&words[root::GATE]);
        me.intent.set(Field::Op, 0);
        Ok(result)
    }

    fn quiesce(&self, me: &Me<'_>, words: &[Word]) -> Result<(), crate::mem::Stop> {
        let mut number = 0;
        while number < words[root::BUCKETS].load(Ordering::Acquire) {
            let word = me.segment.word(bucket_offset(words, &self.geometry, number)?)?;
            if latch::owner_of(word.fetch_add(0, Ordering::AcqRel)) != 0 {
                latch::wait_until_free(me.segment, word)?;
            }
            number += 1;
        }
        Ok(())
    }
}
