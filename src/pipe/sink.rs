//! Where a received message goes: into a value, or into a buffer.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::codec::Codec;
use crate::error::Result;
use crate::mem::Step;
use crate::raw::collect;
use crate::raw::object::ObjectId;
use crate::raw::session::Session;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Scratch space larger than this is given back after use.
const SCRATCH_KEPT: usize = 64 * 1024;

/// Where a message goes.
pub(super) trait Sink {
    type Message;

    /// The length of all of them, if they are of one length.
    fn fixed_len() -> Option<usize>;

    /// Takes one that is at hand.
    fn small(&mut self, bytes: &[u8]) -> Result<Self::Message>;

    /// Lends `pop` a buffer, and takes what it finds.
    fn large<'a>(
        &mut self,
        pop: impl FnOnce(&mut Vec<u8>) -> Result<Option<Kept<'a>>>,
    ) -> Result<Option<Self::Message>>;
}

/// Into a value.
pub(super) struct Decoded<T, C>(pub PhantomData<fn() -> (T, C)>);

impl<T, C: Codec<T>> Sink for Decoded<T, C> {
    type Message = T;

    #[inline(always)]
    fn fixed_len() -> Option<usize> {
        C::fixed_len()
    }

    #[inline(always)]
    fn small(&mut self, bytes: &[u8]) -> Result<T> {
        C::decode(bytes)
    }

    fn large<'a>(&mut self, pop: impl FnOnce(&mut Vec<u8>) -> Result<Option<Kept<'a>>>) -> Result<Option<T>> {
        let mut out = SCRATCH.try_with(Cell::take).unwrap_or_default();
        // What was kept is let go of after the value has handles of its own.
        let message = pop(&mut out).and_then(|kept| kept.map(|_kept| C::decode(&out)).transpose());
        if out.capacity() <= SCRATCH_KEPT {
            let _ = SCRATCH.try_with(|scratch| scratch.set(out));
        }
        message
    }
}

/// Into a buffer.
pub(super) struct Bytes<'b>(pub &'b mut Vec<u8>);

impl Sink for Bytes<'_> {
    type Message = usize;

    #[inline(always)]
    fn fixed_len() -> Option<usize> {
        None
    }

    #[inline(always)]
    fn small(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.clear();
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn large<'a>(&mut self, pop: impl FnOnce(&mut Vec<u8>) -> Result<Option<Kept<'a>>>) -> Result<Option<usize>> {
        Ok(pop(self.0)?.map(|_kept| self.0.len()))
    }
}

/// Objects that are held while they move from the ring into the message's handles, so that they are never held by neither.
pub(super) struct Kept<'a> {
    pub session: &'a Session,
    pub ids: Vec<ObjectId>,
}

impl Kept<'_> {
    /// Holds one more.
    pub fn keep(&mut self, id: ObjectId) -> Step<()> {
        if !self.ids.contains(&id) && self.session.hold_within(id)? {
            self.ids.push(id);
        }
        Ok(())
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        if crate::mem::armed::is_dead() {
            return; // a survivor does it
        }
        if !self.ids.is_empty() {
            // Failing, the segment is beyond repair, or not ours any more.
            self.ids.drain(..).for_each(|id| drop(self.session.release(id)));
            let _ = collect::note_garbage(self.session.segment());
        }
    }
}
