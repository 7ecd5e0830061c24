//! Copying many words at once, into shared memory and out of it.
//!
//! What is copied here is either not published yet or validated afterwards, so no order among the words matters: each is a
//! relaxed access. The compiler makes one instruction of each, for it does not vectorise atomics; so on x86_64 whole
//! lines go through vector registers.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

use super::word::Word;

/// Words of a line.
const LINE: usize = 8;

/// Appends `words` to `out`.
#[inline(always)]
pub fn load_words(words: &[Word], out: &mut Vec<u64>) {
    let lines = words.len() / LINE * LINE;
    out.reserve(words.len());
    let start = out.len();
    load_lines(&words[..lines], out.spare_capacity_mut().as_mut_ptr().cast());
    // SAFETY: room for `words.len()` more was reserved, and `load_lines` has initialised the first `lines` of it.
    unsafe { out.set_len(start + lines) };
    out.extend(words[lines..].iter().map(|word| word.load(Ordering::Relaxed)));
}

/// Appends the first `length` bytes in `words`, or as many as there are, to `out`.
#[inline(always)]
pub fn load_bytes(words: &[Word], length: usize, out: &mut Vec<u8>) {
    let length = length.min(words.len() * 8);
    let words = &words[..length.div_ceil(8)];
    out.reserve(words.len() * 8);
    let start = out.len();
    let to: *mut u64 = out.spare_capacity_mut().as_mut_ptr().cast();
    let lines = words.len() / LINE * LINE;
    load_lines(&words[..lines], to);
    for (i, word) in words.iter().enumerate().skip(lines) {
        // SAFETY: room for `8 * words.len()` bytes was reserved, of which this is the `i`-th eight; no alignment is asked
        // for.
        unsafe { to.add(i).write_unaligned(word.load(Ordering::Relaxed)) };
    }
    // SAFETY: `length` bytes behind `start` have just been written.
    unsafe { out.set_len(start + length) };
}

/// A few bytes copied out, without a vector.
pub struct SmallCopy {
    words: [MaybeUninit<u64>; SmallCopy::ROOM / 8],
    /// Bytes that are initialised.
    length: usize,
}

impl SmallCopy {
    /// Bytes that it holds at most.
    pub const ROOM: usize = 256;

    /// An empty one.
    #[inline(always)]
    pub fn empty() -> SmallCopy {
        SmallCopy { words: [const { MaybeUninit::uninit() }; SmallCopy::ROOM / 8], length: 0 }
    }

    /// Replaces its content by the first `length` bytes in `words`.
    ///
    /// # Panics
    /// If there are fewer, or they do not fit.
    #[inline(always)]
    pub fn load(&mut self, words: &[Word], length: usize) {
        let words = &words[..length.div_ceil(8)];
        let to = &mut self.words[..words.len()];
        let lines = words.len() / LINE * LINE;
        load_lines(&words[..lines], to.as_mut_ptr().cast());
        for (to, word) in to[lines..].iter_mut().zip(&words[lines..]) {
            to.write(word.load(Ordering::Relaxed));
        }
        self.length = length;
    }

    /// What was copied.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `load` has initialised the words that the first `length` bytes are in; any bytes are valid `u8`s.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.length) }
    }
}

/// Stores `bytes` into the first of `words`, the last one padded with zeros.
///
/// # Panics
/// If they do not fit.
#[inline(always)]
#[cfg_attr(debug_assertions, track_caller)]
pub fn store_bytes(words: &[Word], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    let words = &words[..bytes.len().div_ceil(8)];
    let lines = store_lines(words, whole);
    for (word, chunk) in words[lines..].iter().zip(&whole[lines..]) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words[whole.len()].store(u64::from_le_bytes(last), Ordering::Relaxed);
    }
}

/// Whether whole lines may be copied as such. Not where each word is a crash point, or not memory.
const VECTORS: bool = cfg!(all(target_arch = "x86_64", not(loom), not(miri)));

/// Loads `words`, a multiple of a line, to `to`, which has room for them and need not be aligned.
#[inline(always)]
fn load_lines(words: &[Word], to: *mut u64) {
    if VECTORS {
        // SAFETY: both are valid for that many words (the callers have reserved the room), and do not overlap: one is
        // shared memory, the other a vector's spare capacity.
        unsafe { copy_lines(words.as_ptr().cast(), to, words.len() / LINE) };
        return;
    }
    for (i, word) in words.iter().enumerate() {
        // SAFETY: `to` has room for `words.len()` words; no alignment is asked for.
        unsafe { to.add(i).write_unaligned(word.load(Ordering::Relaxed)) };
    }
}

/// Stores as many whole lines as can be stored as such; how many words that is.
#[inline(always)]
fn store_lines(words: &[Word], whole: &[[u8; 8]]) -> usize {
    if !VECTORS || cfg!(debug_assertions) {
        return 0; // word by word: each is a crash point
    }
    let lines = words.len().min(whole.len()) / LINE;
    // SAFETY: both slices have that many lines, and do not overlap: one is shared memory, the other is not. Words may
    // be written through a shared reference, for they are atomics.
    unsafe { copy_lines(whole.as_ptr().cast(), words.as_ptr().cast_mut().cast(), lines) };
    lines * LINE
}

/// Copies `lines` lines.
///
/// # Safety
/// Both pointers are valid for as many bytes, one for reads and one for writes, but for what other threads and processes do
/// to shared words meanwhile. They need not be aligned.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
unsafe fn copy_lines(from: *const u64, to: *mut u64, lines: usize) {
    if lines == 0 {
        return;
    }
    // SAFETY: the accesses are within what the caller vouches for. To the compiler the block is a loop of relaxed accesses
    // to atomic words, as which others' accesses at the same time are defined; to the processor it is loads and stores in
    // program order, like every other.
    unsafe {
        std::arch::asm!(
            "2:",
            "movdqu {a}, [{from}]",
            "movdqu {b}, [{from} + 16]",
            "movdqu {c}, [{from} + 32]",
            "movdqu {d}, [{from} + 48]",
            "movdqu [{to}], {a}",
            "movdqu [{to} + 16], {b}",
            "movdqu [{to} + 32], {c}",
            "movdqu [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "dec {lines}",
            "jnz 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            lines = inout(reg) lines => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

#[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
unsafe fn copy_lines(_: *const u64, _: *mut u64, _: usize) {
    unreachable!("words are copied one by one here");
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Proves that every length comes out as it went in, and that nothing beside it is touched.
    use super::*;
    use crate::mem::Space;

    #[test]
    fn every_length() {
        let space = Space::heap(64);
        for length in 0..=400 {
            let all = space.words(0, 64).unwrap();
            all.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
            let words = &all[3..];
            store_bytes(words, &bytes);
            let mut out = vec![1, 2, 3];
            load_bytes(words, length, &mut out);
            assert_eq!((&out[..3], &out[3..]), (&[1, 2, 3][..], &bytes[..]), "{length}");
            if length <= SmallCopy::ROOM {
                let mut copy = SmallCopy::empty();
                copy.load(words, length);
                assert_eq!(copy.bytes(), &bytes[..]);
            }
            let mut whole = vec![5];
            load_words(&words[..length.div_ceil(8)], &mut whole);
            assert_eq!(whole[0], 5);
            let padded: Vec<u8> = whole[1..].iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(&padded[..length], &bytes[..]);
            assert!(padded[length..].iter().all(|byte| *byte == 0));
            let untouched = all[..3].iter().chain(&words[length.div_ceil(8)..]);
            assert!(untouched.into_iter().all(|word| word.load(Ordering::Relaxed) == u64::MAX), "{length}");
        }
    }
}
