//! Putting an item.

use std::sync::atomic::Ordering;

use super::{Agenda, add, event, latch, node, root};
use crate::mem::{Field, Me, OpKind, Step, Word};

/// What became of an item to put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It waits.
    Done,
    /// There is no room.
    Full,
    /// The agenda is closed.
    Closed,
}

impl Agenda {
    /// Puts an item. Lower priorities come first, equal ones in the order of putting.
    ///
    /// # Crash
    /// It waits or never was.
    ///
    /// # Complexity
    /// Constant if it comes last; logarithmic in the items else.
    pub fn put(&self, me: &Me<'_>, priority: u64, bytes: &[u8], handles: &[u64]) -> Step<Put> {
        let words = self.words(me.segment)?;
        // Of a dead holder's counts nothing is believed: whoever takes the latch meets the dead.
        if latch::owner_of(words[root::LATCH].load(Ordering::Acquire)) == 0
            && let Some(refusal) = self.refusal(words)
        {
            return Ok(refusal);
        }
        let dice = words[root::SEQUENCE].load(Ordering::Relaxed) ^ me.owner() << 48;
        let node = node::allocate(me, bytes.len(), handles, dice)?;
        node.fill(bytes);
        self.begin(me, OpKind::AgendaPut)?;
        if let Some(refusal) = self.refusal(words) {
            latch::release(&words[root::LATCH]);
            me.release(node.offset)?;
            me.intent.set(Field::Alloc, 0);
            me.intent.set(Field::Op, 0);
            return Ok(refusal);
        }
        let key = (priority, self.next_sequence(words));
        node.set_key(key);
        let gap = self.gap(me.segment, words, key, node.height)?;
        me.intent.set(Field::Cell, gap.lowest());
        self.link(me.segment, words, &node, &gap, || me.intent.set(Field::Alloc, 0))?;
        add(&words[root::WAITING], 1);
        latch::release(&words[root::LATCH]);
        event::signal(&words[root::ITEM], 1);
        me.intent.set(Field::Op, 0);
        Ok(Put::Done)
    }

    /// Why nothing can be put now.
    pub(super) fn refusal(&self, words: &[Word]) -> Option<Put> {
        if words[root::CLOSED].load(Ordering::Acquire) != 0 {
            return Some(Put::Closed);
        }
        (words[root::WAITING].load(Ordering::Relaxed) >= self.capacity).then_some(Put::Full)
    }

    /// A sequence number. A kill may waste it.
    pub(super) fn next_sequence(&self, words: &[Word]) -> u64 {
        let sequence = words[root::SEQUENCE].load(Ordering::Relaxed);
        words[root::SEQUENCE].store(sequence.wrapping_add(1), Ordering::Relaxed);
        sequence
    }
}
