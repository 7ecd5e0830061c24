//! The board of a pool's worker: which task it is running, and what those before it came to.
//!
//! The root block, in words: `PROGRESS`, `chunk:32 | step:32`; `READY`, 1 once the worker has got to its loop; `TAKEN`,
//! how many messages with handles the parent has taken; then the *outbox*, results that are in no message yet. Step
//! `2i + 1` says that task `i` of the chunk is being run, step `2i + 2` that it is done.
//!
//! # Thread safety
//!
//! The worker alone writes `PROGRESS`, `READY` and the outbox; the parent writes `TAKEN`, and everything when no worker
//! has the board. It reads the outbox only when the worker is dead.
//!
//! # Crash
//!
//! Every operation is one store, or stores of outbox words that mean nothing until `PROGRESS` is stored. So there is no
//! intent, and nothing to resolve.

use std::sync::atomic::Ordering;

use super::table::words_for;
use crate::error::Result;
use crate::mem::{Field, Me, Segment, Word, load_words, store_bytes};

const PROGRESS: usize = 0;
const READY: usize = 1;
const TAKEN: usize = 2;
const OUTBOX: usize = 8;
const WORDS: usize = 512;

/// Bytes that the outbox holds.
pub const OUTBOX_BYTES: usize = (WORDS - OUTBOX) * 8;

/// How far a worker is, as its board says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The low half of the chunk's number.
    pub chunk: u32,
    /// Tasks of it that are done.
    pub done: u32,
    /// Whether the next one is being run.
    pub running: bool,
}

/// Builds an empty board and stores its root in `root_ref`.
pub fn create(me: &Me<'_>, root_ref: &Word) -> Result<()> {
    let block = me.alloc(WORDS as u64 * 8, Field::Alloc)?;
    for word in me.segment.words(block, WORDS)? {
        word.store(0, Ordering::Relaxed);
    }
    root_ref.store(block, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    Ok(())
}

/// The words of a board.
#[derive(Clone, Copy)]
pub struct Board<'a>(&'a [Word; WORDS]);

impl<'a> Board<'a> {
    /// The board whose root block is at `root`.
    ///
    /// # Errors
    /// `Corrupted` if there is none.
    #[inline]
    pub fn open(segment: &'a Segment, root: u64) -> Result<Board<'a>> {
        let words = segment.words(root, WORDS)?;
        words.first_chunk().map(Board).ok_or_else(|| crate::Error::corrupted("a pool's board"))
    }

    /// Says that task `index` of the chunk is about to be run.
    #[inline]
    pub fn begin(&self, chunk: u32, index: u32) {
        self.0[PROGRESS].store(u64::from(chunk) << 32 | (2 * u64::from(index) + 1), Ordering::Release);
    }

    /// Says that task `index` is done: its result is in a message, or in the outbox.
    #[inline]
    pub fn end(&self, chunk: u32, index: u32) {
        // LINEARIZES: the task's end. Release: with it the outbox words before.
        self.0[PROGRESS].store(u64::from(chunk) << 32 | (2 * u64::from(index) + 2), Ordering::Release);
    }

    /// How far the worker is.
    pub fn progress(&self) -> Progress {
        let word = self.0[PROGRESS].load(Ordering::Acquire);
        let step = word as u32;
        Progress { chunk: (word >> 32) as u32, done: step / 2, running: step % 2 == 1 }
    }

    /// Adds `bytes`, whole words, to the outbox, of which `at` bytes are in use; they fit.
    #[inline]
    pub fn append(&self, at: usize, bytes: &[u8]) {
        let (from, len) = (OUTBOX + at / 8, words_for(bytes.len()));
        if let Some(words) = self.0.get(from..from + len) {
            store_bytes(words, bytes);
        }
    }

    /// All that the outbox holds, of which the first records may be good.
    pub fn outbox(&self) -> Vec<u8> {
        let mut words = Vec::with_capacity(WORDS);
        load_words(&self.0[OUTBOX..], &mut words);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Prepares the board for the next worker.
    pub fn reset(&self) {
        for index in [PROGRESS, READY, TAKEN] {
            self.0[index].store(0, Ordering::Release);
        }
    }

    /// Says that the worker has got to its loop.
    pub fn set_ready(&self) {
        self.0[READY].store(1, Ordering::Release);
    }

    /// Whether it has.
    pub fn is_ready(&self) -> bool {
        self.0[READY].load(Ordering::Acquire) == 1
    }

    /// Says how many messages with handles have been taken.
    pub fn set_taken(&self, count: u64) {
        self.0[TAKEN].store(count, Ordering::Release);
    }

    /// How many were.
    pub fn taken(&self) -> u64 {
        self.0[TAKEN].load(Ordering::Acquire)
    }
}

/// Checks a board at rest: a worker that runs tasks has got to its loop, and the words that nobody uses are zero.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    let words = Board::open(segment, root)?.0;
    let ready = words[READY].load(Ordering::Acquire);
    let has_begun = words[PROGRESS].load(Ordering::Acquire) as u32 != 0;
    let is_clean = words[TAKEN + 1..OUTBOX].iter().all(|word| word.load(Ordering::Acquire) == 0);
    match ready <= 1 && (!has_begun || ready == 1) && is_clean {
        true => Ok(()),
        false => Err(crate::Error::corrupted("a pool's board")),
    }
}

#[cfg(test)]
mod tests {
    //! Proves that progress is read as it was written and that outbox and progress do not touch each other.
    use super::*;
    use crate::mem::Options;
    use crate::raw::object::Kind;
    use crate::raw::session::Session;

    #[test]
    fn progress_and_outbox() {
        let session = Session::anonymous(&Options { capacity: 1 << 20, ..Options::default() }).unwrap();
        let id = session.create(Kind::Board, 7, create).unwrap();
        let (_, _, root) = session.describe(id).unwrap();
        let board = Board::open(session.segment(), root).unwrap();
        assert_eq!(board.progress(), Progress { chunk: 0, done: 0, running: false });
        board.begin(u32::MAX, 5);
        assert_eq!(board.progress(), Progress { chunk: u32::MAX, done: 5, running: true });
        board.append(0, &[1; 16]);
        board.append(OUTBOX_BYTES - 8, &[2; 8]);
        board.append(OUTBOX_BYTES, &[3; 8]); // no room: nothing
        board.end(u32::MAX, 5);
        assert_eq!(board.progress(), Progress { chunk: u32::MAX, done: 6, running: false });
        let outbox = board.outbox();
        assert_eq!(
            (outbox.len(), &outbox[..17], outbox[OUTBOX_BYTES - 1]),
            (OUTBOX_BYTES, &[&[1; 16][..], &[0]].concat()[..], 2)
        );
        board.set_ready();
        board.set_taken(3);
        assert_eq!((board.is_ready(), board.taken()), (true, 3));
        board.reset();
        assert_eq!((board.is_ready(), board.taken(), board.progress().done), (false, 0, 0));
        session.release(id).unwrap();
        session.check().unwrap();
    }
}
