//! Allocators: free one of 1000 live blocks and allocate another, in one thread.
//!
//! Rows: `commons`, the crash-safe heap inside a segment, and `mimalloc`, for the memory of one process, called as an
//! object and not as the allocator of the bench.
//!
//! Both rows do equal work: one generic function draws the same block to free and the same size from 16 to 1024 bytes
//! to allocate, and writes the first word of the new block, so that a block is touched as its user would.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group};
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use support::keys::{Draws, scale};

/// Blocks that are allocated at any time.
const LIVE: u32 = 1000;

/// Sizes in bytes, both included.
const SMALLEST: u32 = 16;
const LARGEST: u32 = 1024;

/// An allocator. Failures panic.
trait Rival {
    type Block: Copy;

    fn new() -> Self;

    /// A block of `size` bytes whose first word is `word`.
    fn allocate(&mut self, size: usize, word: u64) -> Self::Block;

    /// Frees a block that was allocated with `size`.
    fn free(&mut self, block: Self::Block, size: usize);
}

/// A thread inside an operation, which is where this allocator is used.
type CommonsHeap = commons::testing::BenchThread<'static>;

impl Rival for CommonsHeap {
    type Block = u64;

    fn new() -> Self {
        let heap = Box::leak(Box::new(commons::testing::BenchHeap::new().expect("heap")));
        heap.thread().expect("thread")
    }

    fn allocate(&mut self, size: usize, word: u64) -> u64 {
        let block = self.alloc(size as u64).expect("alloc");
        self.write_word(block, word).expect("write");
        block
    }

    fn free(&mut self, block: u64, _size: usize) {
        CommonsHeap::free(self, block).expect("free");
    }
}

/// What a block of `size` bytes is allocated and freed with: aligned for a word.
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, align_of::<u64>()).expect("a small size")
}

impl Rival for MiMalloc {
    type Block = *mut u8;

    fn new() -> Self {
        MiMalloc
    }

    fn allocate(&mut self, size: usize, word: u64) -> *mut u8 {
        // SAFETY: the size is not zero.
        let block = unsafe { self.alloc(layout(size)) };
        assert!(!block.is_null(), "alloc");
        // SAFETY: the block is new, aligned for a word, and at least 16 bytes long.
        unsafe { block.cast::<u64>().write_volatile(word) };
        block
    }

    fn free(&mut self, block: *mut u8, size: usize) {
        // SAFETY: the caller allocated the block here, with this size.
        unsafe { self.dealloc(block, layout(size)) };
    }
}

/// An allocator with its live blocks and their sizes.
struct Churn<R: Rival> {
    rival: R,
    live: Vec<(R::Block, usize)>,
    draws: Draws,
}

impl<R: Rival> Churn<R> {
    fn new() -> Self {
        let mut churn = Churn { rival: R::new(), live: Vec::new(), draws: Draws::new(3) };
        for _ in 0..LIVE {
            let block = churn.allocate_drawn();
            churn.live.push(block);
        }
        churn
    }

    fn allocate_drawn(&mut self) -> (R::Block, usize) {
        let drawn = self.draws.next();
        let size = (SMALLEST + scale(drawn, LARGEST - SMALLEST + 1)) as usize;
        (self.rival.allocate(size, drawn), size)
    }

    fn step(&mut self) {
        let index = self.draws.below(LIVE) as usize;
        let (block, size) = self.live[index];
        self.rival.free(block, size);
        self.live[index] = self.allocate_drawn();
    }
}

impl<R: Rival> Drop for Churn<R> {
    fn drop(&mut self) {
        for (block, size) in self.live.drain(..) {
            self.rival.free(block, size);
        }
    }
}

fn churn<R: Rival>(group: &mut BenchmarkGroup<WallTime>, row: &str) {
    let mut state: Option<Churn<R>> = None;
    group.bench_function(row, |bencher| {
        let state = state.get_or_insert_with(Churn::new);
        bencher.iter(|| state.step());
    });
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heap/alloc-free");
    churn::<CommonsHeap>(&mut group, "commons");
    churn::<MiMalloc>(&mut group, "mimalloc");
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = rows);

fn main() {
    commons::init();
    support::init(&[]);
    benches();
}
