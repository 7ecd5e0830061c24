//! The allocator against a map of what is allocated.
//!
//! No block overlaps another, and none is smaller than asked for; a pattern in the first and last word of each stays
//! until it is freed; the heap's own list of blocks is the model's; running out of memory changes nothing.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use commons::ErrorKind;
use commons::testing::BenchHeap;
use libfuzzer_sys::fuzz_target;

/// Small enough that a few large blocks exhaust it.
const CAPACITY: u64 = 4 << 20;
const MOST_OPS: usize = 200;
const MOST_THREADS: usize = 2;

#[derive(Arbitrary, Debug)]
enum Op {
    Alloc(Size),
    /// As many blocks of one size, to fill slabs.
    Burst(Size, u8),
    Free(u16),
    /// Frees every so many of the blocks.
    FreeSome(u8),
    /// The same, in another thread.
    FreeElsewhere(u8),
    Write(u16, u64),
    Compare,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Size {
    Small(u8),
    Medium(u16),
    Pages(u8),
}

impl Size {
    fn bytes(self) -> u64 {
        match self {
            Size::Small(n) => u64::from(n) * 4 + 1,
            Size::Medium(n) => u64::from(n) + 1,
            Size::Pages(n) => u64::from(n) * 8000 + 1,
        }
    }
}

struct Block {
    size: u64,
    pattern: u64,
}

struct Model {
    heap: BenchHeap,
    /// Blocks of the segment's own.
    foreign: BTreeSet<u64>,
    blocks: BTreeMap<u64, Block>,
    next: u64,
}

impl Model {
    fn alloc(&mut self, bytes: u64) {
        let off = match self.heap.alloc(bytes) {
            Ok(off) => off,
            Err(e) => return assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{e}"),
        };
        let size = self.heap.block_size(off).unwrap();
        assert!(size >= bytes, "{size} bytes for {bytes}");
        let before = self.blocks.range(..=off).next_back();
        assert!(before.is_none_or(|(at, block)| at + block.size <= off), "{off} lies in the block before it");
        let after = self.blocks.range(off..).next();
        assert!(after.is_none_or(|(at, _)| off + size <= *at), "{off} reaches into the next block");
        assert!(!self.foreign.contains(&off), "{off} is a block of the segment's own");
        self.next = self.next.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.write(off, size, self.next);
        self.blocks.insert(off, Block { size, pattern: self.next });
    }

    fn write(&self, off: u64, size: u64, pattern: u64) {
        self.heap.write_word(off, pattern).unwrap();
        self.heap.write_word(off + size / 8 * 8 - 8, pattern).unwrap();
    }

    fn nth(&self, n: u16) -> Option<u64> {
        let n = usize::from(n) % self.blocks.len().max(1);
        self.blocks.keys().nth(n).copied()
    }

    /// Forgets a block, which must have kept its pattern.
    fn take(&mut self, off: u64) {
        let block = self.blocks.remove(&off).expect("a block of the model");
        assert_eq!(self.heap.read_word(off).unwrap(), block.pattern, "the first word of {off}");
        assert_eq!(self.heap.read_word(off + block.size / 8 * 8 - 8).unwrap(), block.pattern, "the last word of {off}");
    }

    fn free(&mut self, off: u64) {
        self.take(off);
        self.heap.free(off).unwrap();
    }

    fn every(&self, step: u8) -> Vec<u64> {
        self.blocks.keys().copied().step_by(usize::from(step % 8) + 1).collect()
    }

    fn free_elsewhere(&mut self, offs: &[u64]) {
        offs.iter().for_each(|off| self.take(*off));
        let heap = &self.heap;
        std::thread::scope(|scope| {
            scope.spawn(|| offs.iter().for_each(|off| heap.free(*off).unwrap()));
        });
    }

    fn compare(&self) {
        let found: BTreeSet<u64> = self.heap.blocks().unwrap().into_iter().collect();
        let expected: BTreeSet<u64> = self.blocks.keys().chain(&self.foreign).copied().collect();
        assert_eq!(found, expected);
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let heap = BenchHeap::with_capacity(CAPACITY).unwrap();
    let foreign = heap.blocks().unwrap().into_iter().collect();
    let mut model = Model { heap, foreign, blocks: BTreeMap::new(), next: 1 };
    let mut threads = 0;
    for op in ops.into_iter().take(MOST_OPS) {
        match op {
            Op::Alloc(size) => model.alloc(size.bytes()),
            Op::Burst(size, count) => (0..count).for_each(|_| model.alloc(size.bytes())),
            Op::Free(n) => {
                if let Some(off) = model.nth(n) {
                    model.free(off);
                }
            }
            Op::FreeSome(step) => model.every(step).into_iter().for_each(|off| model.free(off)),
            Op::FreeElsewhere(step) if threads < MOST_THREADS => {
                threads += 1;
                model.free_elsewhere(&model.every(step));
            }
            Op::FreeElsewhere(_) => {}
            Op::Write(n, pattern) => {
                if let Some(off) = model.nth(n) {
                    let size = model.blocks[&off].size;
                    model.write(off, size, pattern);
                    model.blocks.get_mut(&off).unwrap().pattern = pattern;
                }
            }
            Op::Compare => model.compare(),
        }
    }
    model.compare();
    model.every(0).into_iter().for_each(|off| model.free(off));
    model.compare();
});
