//! For this project's own benches and fuzz targets; no part of the library, and without any promise.

use std::sync::Arc;

use crate::error::Result;
use crate::mem::{Field, Me, Options};
use crate::raw::recovery;
use crate::raw::session::Session;

/// A thread that allocates; see [`BenchHeap::thread`].
pub struct BenchThread<'a> {
    me: Me<'a>,
}

impl BenchThread<'_> {
    /// Allocates a block and publishes it at once.
    #[inline]
    pub fn alloc(&self, size: u64) -> Result<u64> {
        let block = self.me.alloc(size, Field::Alloc)?;
        self.me.intent.set(Field::Alloc, 0);
        Ok(block)
    }

    /// Frees a block.
    #[inline]
    pub fn free(&self, block: u64) -> Result<()> {
        self.me.free(block)
    }

    /// Stores a word.
    #[inline]
    pub fn write_word(&self, off: u64, value: u64) -> Result<()> {
        self.me.segment.word(off)?.store(value, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

/// The allocator by itself.
pub struct BenchHeap {
    session: Arc<Session>,
}

impl BenchHeap {
    /// A heap in a segment of its own.
    pub fn new() -> Result<BenchHeap> {
        BenchHeap::with_capacity(1 << 30)
    }

    /// The same, that may grow to `capacity` bytes.
    pub fn with_capacity(capacity: u64) -> Result<BenchHeap> {
        let session = Session::anonymous(&Options { capacity, ..Options::default() })?;
        Ok(BenchHeap { session })
    }

    /// Allocates a block and publishes it at once: nobody but the caller knows it.
    #[inline]
    pub fn alloc(&self, size: u64) -> Result<u64> {
        recovery::run(self.session.segment(), |me| {
            let block = me.alloc(size, Field::Alloc)?;
            me.intent.set(Field::Alloc, 0);
            Ok(block)
        })
    }

    /// Frees a block.
    #[inline]
    pub fn free(&self, block: u64) -> Result<()> {
        recovery::run(self.session.segment(), |me| Ok(me.free(block)?))
    }

    /// The calling thread inside one long operation, as every structure's operation is when it allocates.
    ///
    /// # Errors
    /// As beginning any operation; one that would have to recover somebody first fails.
    pub fn thread(&self) -> Result<BenchThread<'_>> {
        crate::raw::names::recovery_free(self.session.segment().enter()).map(|me| BenchThread { me })
    }

    /// Stores a word.
    #[inline]
    pub fn write_word(&self, off: u64, value: u64) -> Result<()> {
        self.session.segment().word(off)?.store(value, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Loads a word.
    pub fn read_word(&self, off: u64) -> Result<u64> {
        Ok(self.session.segment().word(off)?.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// The usable size of a block.
    pub fn block_size(&self, off: u64) -> Result<u64> {
        self.session.segment().block_size(off)
    }

    /// Offsets of the allocated blocks, after a check of the page table and all bitmaps.
    pub fn blocks(&self) -> Result<Vec<u64>> {
        Ok(self.session.segment().allocated_blocks()?.0.into_iter().collect())
    }
}

/// Arms the calling thread: at its `at`-th shared store from now (counted from 1) the process kills itself with SIGKILL
/// instead of making it. In debug builds only.
#[cfg(debug_assertions)]
pub fn arm_kill(at: u64) {
    crate::mem::armed::arm(crate::mem::armed::Death::Kill, at);
}

/// The same for the thread of that name, from its next shared store on.
#[cfg(debug_assertions)]
pub fn arm_kill_of(thread: &'static str, at: u64) {
    crate::mem::armed::arm_named(thread, crate::mem::armed::Death::Kill, at);
}

/// Disarms the calling thread and returns how many shared stores it made.
#[cfg(debug_assertions)]
pub fn disarm() -> u64 {
    crate::mem::armed::disarm()
}
