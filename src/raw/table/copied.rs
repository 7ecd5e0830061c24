//! Where the value of a boxed entry is copied to before anybody looks at it.

use std::cell::Cell;

use zerocopy::IntoBytes;

use crate::mem::{SmallCopy, Word, load_words};

thread_local! {
    /// Room for large values. Taken out while in use, so decoding may look things up.
    static SCRATCH: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// Scratch space larger than this, in words, is given back after use.
const SCRATCH_KEPT: usize = 8192;

/// A private copy of a value: on the stack if it is small.
pub(super) struct Copied {
    small: SmallCopy,
    large: Vec<u64>,
    /// Length of a large value in bytes; 0 if it is small.
    length: usize,
}

impl Copied {
    /// Of nothing.
    #[inline(always)]
    pub fn nothing() -> Copied {
        Copied { small: SmallCopy::empty(), large: Vec::new(), length: 0 }
    }

    /// Copies the first `length` bytes in `words`, which has as many; `false` if that takes an allocation.
    #[inline(always)]
    pub fn try_load(&mut self, words: &[Word], length: usize) -> bool {
        if length > SmallCopy::ROOM {
            return self.try_load_large(words, length);
        }
        self.length = 0;
        self.small.load(words, length);
        true
    }

    #[cold]
    #[inline(never)]
    fn try_load_large(&mut self, words: &[Word], length: usize) -> bool {
        if self.large.capacity() == 0 {
            self.large = SCRATCH.try_with(Cell::take).unwrap_or_default();
        }
        let fits = words.len() <= self.large.capacity();
        if fits {
            self.load(words, length);
        }
        fits
    }

    /// Copies the first `length` bytes in `words`, which has as many.
    pub fn load(&mut self, words: &[Word], length: usize) {
        if length <= SmallCopy::ROOM {
            self.try_load(words, length);
            return;
        }
        self.large.clear();
        load_words(words, &mut self.large);
        self.length = length;
    }

    /// Words that it has room for.
    pub fn room(&self) -> usize {
        self.large.capacity().max(SmallCopy::ROOM / 8)
    }

    /// What was copied.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        if self.length == 0 { self.small.bytes() } else { &self.large[..].as_bytes()[..self.length] }
    }
}

impl Drop for Copied {
    #[inline(always)]
    fn drop(&mut self) {
        if self.large.capacity() > 0 {
            keep(std::mem::take(&mut self.large));
        }
    }
}

#[cold]
#[inline(never)]
fn keep(large: Vec<u64>) {
    if large.capacity() <= SCRATCH_KEPT {
        let _ = SCRATCH.try_with(|scratch| scratch.set(large));
    }
}
