//! The intent record: what a thread is doing, in one line of shared memory.
//!
//! Every operation announces itself here before its first change, makes exactly one 8-byte *commit* store, and
//! clears the record last. From the record and the structures alone, `resolve` (in `raw/recovery`) rolls the
//! operation back (before the commit) or forward (after it), for a dead thread as for a live one that failed.
//!
//! # Invariants
//!
//! 1. Only the owner of the slot writes its record; after its death only the one recoverer of its process does.
//! 2. Layers own fields: pages `run`; whoever allocates `alloc`, `alloc2`, `free`; structures `op`, `object`, `cell`.
//! 3. `object` and `cell` mean something only while `op` is not zero. `op` is set before the first latch or claim
//!    and cleared last.
//! 4. A block that any record names in `alloc`, `alloc2` or `free` is never handed out; nor is a page that such a block
//!    lies in. (The pages of a `run` are RESERVED by its owner, which nobody else takes.) A block never moves between
//!    two fields of a record.

use std::sync::atomic::Ordering;

use super::word::Word;

/// A field of the intent record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// Kind, phase and 48 bits of argument.
    Op = 0,
    /// The object: offset of its root block, or its index.
    Object = 1,
    /// The latch or slot word that is or will be taken.
    Cell = 2,
    /// A block allocated and not yet published.
    Alloc = 3,
    /// A second such block.
    Alloc2 = 4,
    /// A block unlinked and not yet freed.
    Free = 5,
    /// A run of pages being allocated: first page in the high half, length in the low.
    Run = 6,
}

/// What an operation is. The number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpKind {
    /// Put or replace an entry of a table: `Object` its root, argument the number of the bucket.
    TablePut = 1,
    /// Remove an entry of a table: the same.
    TableRemove = 2,
    /// Split a bucket: `Object` the root, argument the new bucket's index.
    TableSplit = 3,
    /// Remove all entries: `Object` the root, argument the number of the bucket at hand.
    TableClear = 4,
    /// Hold a table still: `Object` the root.
    TableSnapshot = 5,
    /// Push into a ring, extending an unbounded one if need be: `Object` the root, `Cell` the slot word.
    RingPush = 6,
    /// Pop from a ring: the same.
    RingPop = 7,
    /// Close a ring: `Object` the root.
    RingSeal = 8,
    /// Build an object: argument its index.
    ObjectBuild = 9,
    /// Destroy an object: argument its index.
    ObjectDestroy = 10,
    /// Collect unreachable objects.
    Collect = 11,
    /// Replace the value of a cell: `Object` its root.
    CellPut = 12,
    /// Replace what a slot under a latch refers to: `Object` the root, whose first word is the latch, `Cell` the slot
    /// once it is found.
    SlotPut = 20,
    /// Append to a list: `Object` the root, `Cell` the new head once it is known.
    ListPush = 21,
    /// Take an element off an end of a list: the same.
    ListPop = 22,
    /// Replace the spine of a list: `Object` the root.
    ListSplice = 23,
    /// Take an owned permit of a semaphore: `Object` its root, `Cell` the process's count.
    SemaphoreTake = 30,
    /// Give owned permits back: the same.
    SemaphoreGive = 31,
    /// Put an item into an agenda: `Object` the root, `Cell` the link before the item.
    AgendaPut = 40,
    /// Take an item from an agenda: `Object` the root, `Free` the item.
    AgendaTake = 41,
    /// Lease an item: `Object` the root, `Cell` the lease cell.
    AgendaLease = 42,
    /// Move an item from a lease cell among the waiting: `Object` the root, `Cell` the lease cell, argument the link before the item, in words.
    AgendaReturn = 43,
    /// Drop the item of a lease cell: `Object` the root, `Cell` the lease cell, `Free` the item.
    AgendaAck = 44,
    /// Lend a block: `Object` the root, `Cell` the lease cell.
    AgendaLoan = 45,
    /// Add a chunk of lease cells: `Object` the root, `Alloc` the chunk.
    AgendaGrow = 46,
    /// Close an agenda: `Object` the root.
    AgendaClose = 47,
}

impl OpKind {
    const ALL: [OpKind; 26] = [
        OpKind::TablePut,
        OpKind::TableRemove,
        OpKind::TableSplit,
        OpKind::TableClear,
        OpKind::TableSnapshot,
        OpKind::RingPush,
        OpKind::RingPop,
        OpKind::RingSeal,
        OpKind::ObjectBuild,
        OpKind::ObjectDestroy,
        OpKind::Collect,
        OpKind::CellPut,
        OpKind::SlotPut,
        OpKind::ListPush,
        OpKind::ListPop,
        OpKind::ListSplice,
        OpKind::SemaphoreTake,
        OpKind::SemaphoreGive,
        OpKind::AgendaPut,
        OpKind::AgendaTake,
        OpKind::AgendaLease,
        OpKind::AgendaReturn,
        OpKind::AgendaAck,
        OpKind::AgendaLoan,
        OpKind::AgendaGrow,
        OpKind::AgendaClose,
    ];
}

/// The `op` word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// What is being done.
    pub kind: OpKind,
    /// How far it is, for kinds whose structure alone does not tell.
    pub phase: u8,
    /// 48 bits that the kind defines.
    pub argument: u64,
}

impl Op {
    /// Phase 0 of `kind` with no argument.
    pub const fn new(kind: OpKind) -> Op {
        Op { kind, phase: 0, argument: 0 }
    }

    /// The word.
    #[inline]
    pub const fn pack(self) -> u64 {
        (self.kind as u64) << 56 | (self.phase as u64) << 48 | (self.argument & ((1 << 48) - 1))
    }

    /// Takes a word apart: `None` is no operation, `Some(None)` a word that nobody writes.
    pub fn unpack(word: u64) -> Option<Option<Op>> {
        if word == 0 {
            return None;
        }
        let kind = OpKind::ALL.into_iter().find(|kind| *kind as u64 == word >> 56);
        Some(kind.map(|kind| Op { kind, phase: (word >> 48) as u8, argument: word & ((1 << 48) - 1) }))
    }
}

/// One thread's intent record.
#[derive(Clone, Copy)]
pub struct Intent<'a>(&'a [Word; 8]);

impl<'a> Intent<'a> {
    /// Over the words of a record.
    #[inline(always)]
    pub fn over(words: &'a [Word; 8]) -> Intent<'a> {
        Intent(words)
    }

    /// Reads a field.
    #[inline]
    pub fn get(&self, field: Field) -> u64 {
        self.0[field as usize].load(Ordering::Acquire)
    }

    /// Writes a field. Release: whoever sees the new value sees everything stored before it, and the compiler keeps
    /// the order of program text, which is the order that a kill cuts.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn set(&self, field: Field, value: u64) {
        self.0[field as usize].store(value, Ordering::Release);
    }

    /// Whether any block or page is named at an address in `[from, to)`.
    pub fn names_inside(&self, from: u64, to: u64) -> bool {
        [Field::Alloc, Field::Alloc2, Field::Free].into_iter().any(|field| (from..to).contains(&self.get(field)))
    }

    /// Whether nothing is going on.
    pub fn is_clear(&self) -> bool {
        self.0.iter().all(|word| word.load(Ordering::Acquire) == 0)
    }
}

#[cfg(test)]
mod tests {
    //! Proves that every operation word survives packing and that foreign words are told apart.
    use super::*;

    #[test]
    fn round_trip() {
        for kind in OpKind::ALL {
            let op = Op { kind, phase: 7, argument: 0xabcd_ef01_2345 };
            assert_eq!(Op::unpack(op.pack()), Some(Some(op)));
        }
        assert_eq!(Op::unpack(0), None);
        assert_eq!(Op::unpack(u64::MAX), Some(None));
    }
}
