//! Where every fixed byte of a segment is. The format as a document: `docs/format.md`.
//!
//! ```text
//! page 0      header: identity, growth, hints, roots, object chunk directory
//! page 1      256 process records of 256 bytes
//! pages 2..6  1024 thread slots of 256 bytes
//! page 6      page table of region 0 (pages 0 to 8191)
//! page 7..    heap pages; the first page of every further region of 8192 pages is its page table
//! ```
//!
//! Layouts are `zerocopy` types of plain words: the compiler proves that they have no padding and that every bit
//! pattern is valid, and the offsets below are computed from them.

use std::mem::{offset_of, size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a heap page. 64 KiB, so that it is a multiple of every page size of the supported machines.
pub const PAGE: u64 = 64 * 1024;
/// Pages of a region; one page of page-table words describes them.
pub const REGION_PAGES: u64 = PAGE / 8;
/// `COMMONS` and a zero byte, read as a little-endian word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"COMMONS\0");
/// Version of the format. Changes with every change of a layout or of a protocol's shared states.
pub const VERSION: u64 = 3;

/// Process records in a segment.
pub const PROCESSES: u64 = 256;
/// Thread slots in a segment.
pub const SLOTS: u64 = 1024;
/// Object entries in a chunk.
pub const OBJECTS_PER_CHUNK: u64 = PAGE / 8 / 8;
/// Chunks of object entries.
pub const OBJECT_CHUNKS: u64 = 1024;
/// Size classes of the heap that the header has a hint for.
pub const CLASS_HINTS: usize = 48;

/// The first page of a segment.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`FINGERPRINT`]: the version and the sizes of all layouts.
    pub fingerprint: u64,
    /// Bytes that the segment may grow to; the length of the file.
    pub reserved: u64,
    /// [`READY`] or [`REMOVED`].
    pub state: u64,
    /// Random identity of the segment.
    pub id: [u64; 2],
    /// Seed of the hash functions of its tables.
    pub seed: u64,
    /// Whether the segment outlives its last process.
    pub persistent: u64,

    /// Boot of the system in which the segment was last used.
    pub boot: [u64; 2],
    /// 0 in use, 1 complete on disk, 2 found in use after the system went down, and not checked yet.
    pub clean: u64,
    /// Unused.
    pub spare0: [u64; 5],

    /// Bytes backed by storage; only grows.
    pub committed: u64,
    /// Unused.
    pub spare1: [u64; 7],

    /// Hint: no page below this one is free.
    pub first_free: u64,
    /// One more than the highest thread slot ever used.
    pub slots_used: u64,
    /// One more than the highest process record ever used.
    pub processes_used: u64,
    /// Deaths recovered so far.
    pub deaths: u64,
    /// Unused.
    pub spare2: [u64; 4],

    /// Object entries ever used.
    pub objects_used: u64,
    /// Hint: an object index that may be free.
    pub object_hint: u64,
    /// The directory, as an object id.
    pub directory: u64,
    /// Latch of the collector.
    pub collector: u64,
    /// Objects that may have become garbage since the last collection.
    pub garbage: u64,
    /// 1 once the collector has decided: what is doomed will be destroyed, by its recoverer if need be.
    pub collector_committed: u64,
    /// Unused.
    pub spare3: [u64; 2],

    /// Hint for each size class: a slab that may have a free block and no owner.
    pub partial: [u64; CLASS_HINTS],
    /// Offsets of the chunks of object entries.
    pub object_chunks: [u64; OBJECT_CHUNKS as usize],
}

/// The first line of the header: what is read before anything is believed.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HeaderIdentity {
    /// As [`Header::magic`].
    pub magic: u64,
    /// As [`Header::fingerprint`].
    pub fingerprint: u64,
    /// As [`Header::reserved`].
    pub reserved: u64,
    /// As [`Header::state`].
    pub state: u64,
    /// As [`Header::id`].
    pub id: [u64; 2],
    /// As [`Header::seed`].
    pub seed: u64,
    /// As [`Header::persistent`].
    pub persistent: u64,
}

/// Bytes of a [`HeaderIdentity`].
pub const IDENTITY_BYTES: usize = size_of::<HeaderIdentity>();

/// The segment is complete.
pub const READY: u64 = 1;
/// The segment's last process has gone and its name was removed; nobody may join it.
pub const REMOVED: u64 = 2;

/// One process that has the segment open.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProcessRecord {
    /// Life state; see `members`.
    pub state: u64,
    /// Process id in its own pid namespace.
    pub pid: u64,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
    /// Inode of the pid namespace.
    pub pid_ns: u64,
    /// Inode of the time namespace.
    pub time_ns: u64,
    /// Boot id of the machine.
    pub boot: [u64; 2],
    /// Failed attempts to recover it.
    pub failures: u64,
    /// Unused.
    pub spare: [u64; 24],
}

/// One thread that changes the segment.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SlotRecord {
    /// The intent record; see `intent`.
    pub intent: [u64; 8],
    /// Use, process and generation; see `slots`.
    pub state: u64,
    /// Thread id in the process's pid namespace.
    pub tid: u64,
    /// Unused.
    pub spare: [u64; 22],
}

/// One shared object.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ObjectEntry {
    /// State, flags and generation; see `raw/object`.
    pub state: u64,
    /// What it is: dict, queue, lock.
    pub kind: u64,
    /// Fingerprint of the stored type and codec.
    pub fingerprint: u64,
    /// Root block.
    pub root: u64,
    /// One bit for each process record that holds a handle.
    pub holders: [u64; PROCESSES as usize / 64],
}

const _: () = {
    assert!(size_of::<Header>() as u64 <= PAGE);
    assert!(size_of::<ProcessRecord>() == 256 && size_of::<ProcessRecord>() as u64 * PROCESSES == PAGE);
    assert!(size_of::<SlotRecord>() == 256 && size_of::<SlotRecord>() as u64 * SLOTS == 4 * PAGE);
    assert!(size_of::<ObjectEntry>() == 64 && 64 * OBJECTS_PER_CHUNK == PAGE);
    assert!(IDENTITY_BYTES == 64 && offset_of!(HeaderIdentity, persistent) == offset_of!(Header, persistent));
    assert!(offset_of!(HeaderIdentity, id) == offset_of!(Header, id));
    assert!(offset_of!(Header, boot) == 64 && offset_of!(Header, committed) == 128);
    assert!(offset_of!(Header, first_free) == 192 && offset_of!(Header, objects_used) == 256);
    assert!(offset_of!(Header, partial) == 320);
};

/// Byte offset of a header field.
macro_rules! header {
    ($field:ident) => {
        std::mem::offset_of!($crate::mem::layout::Header, $field) as u64
    };
}
pub(crate) use header;

/// Byte offset of the process table.
pub const PROCESS_TABLE: u64 = PAGE;
/// Byte offset of the thread slots.
pub const SLOT_TABLE: u64 = 2 * PAGE;
/// Byte offset of region 0's page table.
const PAGE_TABLE: u64 = 6 * PAGE;
/// First page of the heap.
pub const FIRST_HEAP_PAGE: u64 = 7;
/// What a new segment commits before its first block.
pub const INITIAL_COMMIT: u64 = 16 * PAGE;
/// The least capacity: the fixed tables and room for a few small objects.
pub const MIN_CAPACITY: u64 = INITIAL_COMMIT;
/// The greatest capacity: half of the address space that a process has, and less than the 48 bits of a stored offset.
pub const MAX_CAPACITY: u64 = 1 << 42;

/// The version and every size that two builds must agree on.
pub const FINGERPRINT: u64 = {
    let parts = [
        VERSION,
        PAGE,
        size_of::<Header>() as u64,
        size_of::<ProcessRecord>() as u64,
        size_of::<SlotRecord>() as u64,
        size_of::<ObjectEntry>() as u64,
        PROCESSES,
        SLOTS,
        OBJECT_CHUNKS,
        super::heap::FORMAT,
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < parts.len() {
        hash = (hash ^ parts[i]).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
};

/// Byte offset of process record `index`.
#[inline]
pub fn process_record(index: u32) -> u64 {
    PROCESS_TABLE + u64::from(index) * size_of::<ProcessRecord>() as u64
}

/// Byte offset of thread slot `slot`.
#[inline]
pub fn slot_record(slot: u16) -> u64 {
    SLOT_TABLE + u64::from(slot) * size_of::<SlotRecord>() as u64
}

/// Byte offset of the page-table word of `page`.
#[inline]
pub fn page_word(page: u64) -> u64 {
    let table = if page < REGION_PAGES { PAGE_TABLE } else { (page & !(REGION_PAGES - 1)).wrapping_mul(PAGE) };
    table.wrapping_add((page & (REGION_PAGES - 1)) * 8)
}

/// Whether `page` holds fixed tables and never blocks.
#[inline]
pub fn is_meta_page(page: u64) -> bool {
    page < FIRST_HEAP_PAGE || page.is_multiple_of(REGION_PAGES)
}

#[cfg(test)]
mod tests {
    //! Proves that page-table words are distinct, inside meta pages, and described by committed pages only.
    use super::*;

    #[test]
    fn page_words() {
        let mut seen = std::collections::HashSet::new();
        for page in (0..3 * REGION_PAGES).step_by(7).chain([REGION_PAGES - 1, REGION_PAGES, REGION_PAGES + 1]) {
            let off = page_word(page);
            assert!(is_meta_page(off / PAGE), "{page}");
            assert!(off / PAGE <= page || page < FIRST_HEAP_PAGE);
            seen.insert(off);
        }
        assert!(seen.len() as u64 >= 3 * REGION_PAGES / 7);
    }
}
