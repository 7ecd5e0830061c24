//! Taking the first item for good.

use std::sync::atomic::Ordering;

use super::{Agenda, add, event, latch, root};
use crate::mem::{Field, Me, OpKind, Step, Word};

/// What was there to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// An item of this priority.
    Item(u64),
    /// Nothing now.
    Empty,
    /// Nothing, and nothing will come.
    Closed,
}

impl Agenda {
    /// Takes the first item and appends its bytes to `out`, which is emptied before. `keep` is shown every handle of the
    /// item while the agenda holds it still.
    ///
    /// # Crash
    /// The item waits still, or is the dead's.
    pub fn take(&self, me: &Me<'_>, out: &mut Vec<u8>, keep: &mut dyn FnMut(u64) -> Step<()>) -> Step<Taken> {
        if let Some(closed) = self.nothing(self.words(me.segment)?) {
            return Ok(if closed { Taken::Closed } else { Taken::Empty });
        }
        let words = self.begin(me, OpKind::AgendaTake)?;
        let Some(node) = self.first(me.segment, words)? else {
            let closed = words[root::CLOSED].load(Ordering::Relaxed) != 0;
            self.abandon(me, words);
            return Ok(if closed { Taken::Closed } else { Taken::Empty });
        };
        out.clear();
        node.load(out);
        for handle in node.handles() {
            keep(handle.load(Ordering::Relaxed))?;
        }
        let (priority, _) = node.key();
        me.intent.set(Field::Free, node.offset);
        self.unlink_first(words, &node)?;
        add(&words[root::WAITING], -1);
        latch::release(&words[root::LATCH]);
        me.release(node.offset)?;
        me.intent.set(Field::Free, 0);
        event::signal(&words[root::ROOM], 1);
        me.intent.set(Field::Op, 0);
        Ok(Taken::Item(priority))
    }

    /// Whether it is closed, if nothing waits. Of a dead holder's counts nothing is believed: whoever takes the latch meets
    /// the dead.
    #[inline]
    pub(super) fn nothing(&self, words: &[Word]) -> Option<bool> {
        // Closed first: behind it nothing is put any more.
        let closed = words[root::CLOSED].load(Ordering::Acquire) != 0;
        let free = latch::owner_of(words[root::LATCH].load(Ordering::Acquire)) == 0;
        (free && words[root::WAITING].load(Ordering::Relaxed) == 0).then_some(closed)
    }
}
