//! The one door to shared memory: bounds-checked, 8-byte atomic words.
//!
//! # Invariants
//!
//! 1. A segment is only ever accessed as [`Word`]s, reached through [`Space::word`] and [`Space::words`]; nobody
//!    holds a `&[u8]` or a `&T` into it. Whatever a hostile peer writes, every access is an aligned atomic access
//!    inside the mapping, so it cannot be undefined behaviour.
//! 2. Every store and read-modify-write passes [`step`](super::step::step), the crash points of the tests.
//! 3. The same door stands on a mapping or on a heap vector; under `cfg(loom)` the words are loom's, which exist
//!    only on the vector (their size differs from a real word's).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64 as LocalU64, Ordering};
use std::time::Duration;

#[cfg(loom)]
use loom::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use std::sync::atomic::AtomicU64;

/// The fence that orders accesses of [`Word`]s.
#[cfg(loom)]
pub use loom::sync::atomic::fence;
#[cfg(not(loom))]
pub use std::sync::atomic::fence;

use super::step::step;
use crate::error::{Error, Result};
use crate::os::{self, Mapping};

/// Bytes of a word.
pub const WORD: u64 = 8;

/// An 8-byte atomic in shared memory.
#[cfg_attr(not(loom), repr(transparent))]
pub struct Word(AtomicU64, #[cfg(loom)] Futex);

/// The kernel's part in a futex: the comparison and the falling asleep are one step, seen from a waker. There are no
/// timeouts under loom, so a lost wake-up is a deadlock, which loom reports.
#[cfg(loom)]
struct Futex {
    queue: loom::sync::Mutex<()>,
    sleepers: loom::sync::Condvar,
}

impl Word {
    #[cfg(any(test, loom))]
    fn zero() -> Word {
        #[cfg(not(loom))]
        return Word(AtomicU64::new(0));
        #[cfg(loom)]
        Word(AtomicU64::new(0), Futex { queue: loom::sync::Mutex::new(()), sleepers: loom::sync::Condvar::new() })
    }

    /// Loads the word.
    #[inline(always)]
    pub fn load(&self, order: Ordering) -> u64 {
        sequential(order);
        self.0.load(order)
    }

    /// Stores `value`.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn store(&self, value: u64, order: Ordering) {
        if step() {
            self.0.store(value, order);
            sequential(order);
        }
    }

    /// Replaces `current` by `new`; the value found is the error.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn cas(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        if !step() {
            return Err(self.0.load(Ordering::Relaxed));
        }
        let result = self.0.compare_exchange(current, new, success, Ordering::Acquire);
        sequential(success);
        result
    }

    /// Stores `value` and returns what was there.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn swap(&self, value: u64, order: Ordering) -> u64 {
        if !step() {
            return self.0.load(Ordering::Relaxed);
        }
        let before = self.0.swap(value, order);
        sequential(order);
        before
    }

    /// Sets bits and returns what was there.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        if !step() {
            return self.0.load(Ordering::Relaxed);
        }
        let before = self.0.fetch_or(bits, order);
        sequential(order);
        before
    }

    /// Keeps only `bits` and returns what was there.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        if !step() {
            return self.0.load(Ordering::Relaxed);
        }
        let before = self.0.fetch_and(bits, order);
        sequential(order);
        before
    }

    /// Adds, wrapping, and returns what was there.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        if !step() {
            return self.0.load(Ordering::Relaxed);
        }
        let before = self.0.fetch_add(value, order);
        sequential(order);
        before
    }

    /// Raises the word to at least `value` and returns what was there.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        if !step() {
            return self.0.load(Ordering::Relaxed);
        }
        let before = self.0.fetch_max(value, order);
        sequential(order);
        before
    }

    /// Sleeps while the low half equals `low`, for at most `timeout`. May wake for no reason.
    pub fn wait(&self, low: u32, timeout: Duration) {
        // Why it ended does not matter: whoever waits looks again.
        #[cfg(not(loom))]
        let _ = os::futex_wait(&self.0, low, timeout);
        #[cfg(loom)]
        {
            let _ = timeout;
            let queue = self.1.queue.lock().expect("a panic ends the model");
            if self.0.load(Ordering::Relaxed) as u32 == low {
                let _queue = self.1.sleepers.wait(queue).expect("a panic ends the model");
            }
        }
    }

    /// Sleeps while the low half of each of `words`, and of the process-local `control`, is as expected, for at most
    /// `timeout`. May wake for no reason. `false` if the kernel cannot do that, or not for so many.
    #[must_use]
    pub fn wait_any(words: &[(&Word, u32)], control: (&LocalU64, u32), timeout: Duration) -> bool {
        #[cfg(not(loom))]
        {
            let mut all = Vec::with_capacity(words.len() + 1);
            all.push(control);
            all.extend(words.iter().map(|(word, low)| (&word.0, *low)));
            os::futex_wait_any(&all, timeout)
        }
        #[cfg(loom)]
        {
            let _ = (words, control, timeout);
            false
        }
    }

    /// Wakes up to `count` sleepers of this word and returns how many woke.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wake(&self, count: u32) -> u32 {
        if !step() {
            return 0;
        }
        #[cfg(not(loom))]
        return os::futex_wake(&self.0, count);
        #[cfg(loom)]
        {
            let _queue = self.1.queue.lock().expect("a panic ends the model");
            (0..count.min(8)).for_each(|_| self.1.sleepers.notify_one());
            count
        }
    }
}

/// Does nothing. Under loom, which takes SeqCst for AcqRel, the fence that makes up for it: before each such load, behind
/// each such store.
#[inline(always)]
fn sequential(order: Ordering) {
    #[cfg(loom)]
    if order == Ordering::SeqCst {
        fence(Ordering::SeqCst);
    }
    #[cfg(not(loom))]
    let _ = order;
}

enum Backing {
    Mapped(Mapping),
    #[cfg(any(test, loom))]
    Heap(NonNull<[Word]>),
}

/// A run of words, the first `limit` bytes of which may be accessed.
pub struct Space {
    base: NonNull<Word>,
    /// Words that are known to be backed by storage; only grows, process-local.
    limit: LocalU64,
    reserved: u64,
    /// Offset of the word that tells how far the space has grown, if it can grow.
    grown_at: Option<u64>,
    backing: Backing,
}

// SAFETY: `Space` owns its backing (a mapping or a boxed slice), which is as movable between threads as `Word`s are
// shareable: all access goes through `&Word`, an atomic.
unsafe impl Send for Space {}
// SAFETY: as above; `limit` is an atomic, the other fields never change.
unsafe impl Sync for Space {}

impl Space {
    /// The door to a mapping, of which the first `limit` bytes are backed.
    pub fn mapped(mapping: Mapping, limit: u64) -> Space {
        let base = NonNull::new(mapping.as_ptr().cast::<Word>()).expect("a mapping is never at address zero");
        let reserved = mapping.len() as u64;
        Space {
            base,
            limit: LocalU64::new(limit.min(reserved) / WORD),
            reserved,
            grown_at: None,
            backing: Backing::Mapped(mapping),
        }
    }

    /// The door to `count` fresh zero words on the heap.
    #[cfg(any(test, loom))]
    pub fn heap(count: usize) -> Space {
        let words: Box<[Word]> = (0..count).map(|_| Word::zero()).collect();
        let bytes = count as u64 * WORD;
        let words = NonNull::from(Box::leak(words));
        let base = words.cast::<Word>();
        Space {
            base,
            limit: LocalU64::new(count as u64),
            reserved: bytes,
            grown_at: None,
            backing: Backing::Heap(words),
        }
    }

    /// The same space, growing as the word at `off` tells.
    pub fn growing_by(mut self, off: u64) -> Space {
        self.grown_at = Some(off);
        self
    }

    /// Bytes that may ever be accessed.
    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Whether a fault has been papered over in this mapping: what is read from it means nothing any more.
    #[inline]
    pub fn poisoned(&self) -> bool {
        match &self.backing {
            Backing::Mapped(mapping) => mapping.poisoned(),
            #[cfg(any(test, loom))]
            Backing::Heap(_) => false,
        }
    }

    /// The mapping behind the door, if it is one.
    pub fn mapping(&self) -> Option<&Mapping> {
        match &self.backing {
            Backing::Mapped(mapping) => Some(mapping),
            #[cfg(any(test, loom))]
            Backing::Heap(_) => None,
        }
    }

    /// Raises the limit to `bytes` (never beyond what is reserved).
    pub fn raise_limit(&self, bytes: u64) {
        self.limit.fetch_max(bytes.min(self.reserved) / WORD, Ordering::Relaxed); // local
    }

    /// The word at byte offset `off`.
    ///
    /// # Errors
    /// `Corrupted` if `off` is not a multiple of 8 below the limit.
    #[inline(always)]
    pub fn word(&self, off: u64) -> Result<&Word> {
        match self.glance_at(off) {
            Some(word) => Ok(word),
            None => self.words_after_growth(off, 1).map(|words| &words[0]),
        }
    }

    /// The `count` words from byte offset `off` on.
    ///
    /// # Errors
    /// `Corrupted` if `off` is no multiple of 8, or the words do not lie below the limit.
    #[inline(always)]
    pub fn words(&self, off: u64, count: usize) -> Result<&[Word]> {
        match self.glance(off, count) {
            Some(words) => Ok(words),
            None => self.words_after_growth(off, count),
        }
    }

    /// [`Space::words`] as far as this process knows the space to have grown: `None` is no error yet.
    #[inline(always)]
    pub fn glance(&self, off: u64, count: usize) -> Option<&[Word]> {
        // Number of the word at `off`; the bits that an offset between two words has come out on top, beyond any limit.
        let (at, limit) = (off.rotate_right(WORD.trailing_zeros()), self.limit.load(Ordering::Relaxed)); // local
        if at.checked_add(count as u64)? > limit {
            return None;
        }
        #[cfg(not(loom))]
        // SAFETY: `base` is valid and 8-aligned for `reserved` bytes while `self` lives (invariant of the
        // constructors: page-aligned mapping, or leaked words). `at + count <= limit <= reserved / 8` was just checked
        // without overflow. `Word` is an `AtomicU64`, for which every bit pattern is valid and concurrent modification,
        // by other processes too, is defined.
        return Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(at as usize), count) });
        #[cfg(loom)]
        {
            let Backing::Heap(words) = &self.backing else { unreachable!("loom runs on the heap twin only") };
            // SAFETY: the slice was leaked by `Space::heap` and is freed only by `drop`.
            let words = unsafe { words.as_ref() };
            Some(&words[at as usize..][..count])
        }
    }

    /// The word at `off` as far as this process knows the space to have grown: `None` is no error yet.
    #[inline(always)]
    pub fn glance_at(&self, off: u64) -> Option<&Word> {
        #[cfg(not(loom))]
        {
            let (at, limit) = (off.rotate_right(WORD.trailing_zeros()), self.limit.load(Ordering::Relaxed)); // local
            // SAFETY: as for `glance`, with `at < limit`.
            (at < limit).then(|| unsafe { &*self.base.as_ptr().add(at as usize) })
        }
        #[cfg(loom)]
        self.glance(off, 1).map(|words| &words[0])
    }

    /// Asks the processor to fetch `lines` cache lines from `off` on. A hint: any offset will do.
    #[inline(always)]
    pub fn prefetch(&self, off: u64, lines: u64) {
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        for line in 0..lines {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let address = self.base.as_ptr().wrapping_byte_add(off.wrapping_add(line * 64) as usize);
            // SAFETY: prefetching never faults and has no effect but on caches, whatever the address; the pointer is
            // computed with wrapping arithmetic and not dereferenced.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom))))]
        let _ = (off, lines);
    }

    /// The same for lines that are about to be written: other processors give them up at once, not once to be read and once
    /// more to be written.
    #[inline(always)]
    pub fn prefetch_to_write(&self, off: u64, lines: u64) {
        #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
        for line in 0..lines {
            let address = self.base.as_ptr().wrapping_byte_add(off.wrapping_add(line * 64) as usize);
            // SAFETY: as for `prefetch`; a processor that does not know the instruction takes it for one that does nothing.
            unsafe { std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, readonly)) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
        let _ = (off, lines);
    }

    /// Another process may have grown the segment since the limit was read.
    #[cold]
    #[inline(never)]
    fn words_after_growth(&self, off: u64, count: usize) -> Result<&[Word]> {
        if let Some([grown]) = self.grown_at.and_then(|at| self.glance(at, 1)) {
            self.raise_limit(grown.load(Ordering::Acquire));
        }
        self.glance(off, count).ok_or_else(out_of_bounds)
    }
}

#[cfg(any(test, loom))]
impl Drop for Space {
    fn drop(&mut self) {
        if let Backing::Heap(words) = self.backing {
            // SAFETY: the pointer came from `Box::leak` in `Space::heap`, and this is the only place that takes it back.
            drop(unsafe { Box::from_raw(words.as_ptr()) });
        }
    }
}

#[cold]
#[inline(never)]
fn out_of_bounds() -> Error {
    Error::corrupted("an offset points outside the segment")
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Proves that no offset and count reach outside the space, overflow included.
    use super::*;

    #[test]
    fn bounds() {
        let space = Space::heap(16);
        assert!(space.words(0, 16).is_ok());
        assert!(space.word(120).is_ok());
        for (off, count) in
            [(128, 1), (120, 2), (4, 1), (u64::MAX - 7, 1), (0, 17), (8, usize::MAX), (0, usize::MAX / 8 + 2)]
        {
            assert!(space.words(off, count).is_err(), "{off} {count}");
        }
        assert!(space.words(128, 0).is_ok(), "an empty run at the end");
    }
}
