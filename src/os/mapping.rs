//! A shared mapping of a segment's whole reserved length.
//!
//! The address range is reserved once, at its maximum: the file grows beneath it, and no pointer ever moves. What lies
//! beyond the end of the file, or in a page that the file system cannot supply, raises SIGBUS when touched; the guard in
//! `sigbus` turns that into a flag, see [`Mapping::poisoned`].

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::sigbus::Registration;

/// A `MAP_SHARED` mapping of the first `len` bytes of a file, whether or not the file is that long yet.
///
/// `Send + Sync`: it hands out a raw pointer only, and who dereferences it answers for that.
#[derive(Debug)]
pub struct Mapping {
    // Declared first, so dropped first: the address range must leave the guard's table before the kernel may give it to
    // somebody else.
    guard: Registration,
    map: MmapRaw,
}

impl Mapping {
    /// Maps `len` bytes of `file`, readable, and also writable if asked, left out of core dumps.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `len` is 0 or above `isize::MAX`; `EMFILE` if the process has 256 mappings already; what
    /// mmap(2) answers: `EACCES` for a file not open for it, `ENOMEM` for want of address space.
    pub fn new(file: &File, len: usize, writable: bool) -> io::Result<Mapping> {
        // The upper bound leaves room for rounding up to whole pages.
        if len == 0 || len > isize::MAX as usize - (1 << 20) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the length of a mapping must be in 1..isize::MAX",
            ));
        }
        let mut options = MmapOptions::new();
        options.len(len);
        let map = if writable { options.map_raw(file)? } else { options.map_raw_read_only(file)? };
        // Dumping a sparse segment of many GiB would help nobody. A kernel that refuses loses nothing else.
        let _ = map.advise(Advice::DontDump);
        let guard = Registration::new(map.as_ptr() as usize, len)?;
        Ok(Mapping { guard, map })
    }

    /// The address of the first byte, page-aligned, the same for the life of the mapping.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The mapped length in bytes, which may exceed the file's.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Makes the pages of `range` present and writable at once, instead of one page fault each later.
    ///
    /// A full file system is an error here, where a plain store would raise SIGBUS. Best effort: a kernel before 5.14,
    /// or a read-only mapping, does nothing and says Ok.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `range` is not within the mapping; `EFAULT` if a page lies beyond the end of the file or
    /// cannot be supplied; `ENOMEM`.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        // `advise_range` checks offset and length, but not their sum.
        if range.start > range.end || range.end > self.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "range outside the mapping"));
        }
        if range.is_empty() {
            return Ok(());
        }
        // Interrupted work is kept by the kernel, so each further attempt has less to do.
        for _ in 0..64 {
            match self.map.advise_range(Advice::PopulateWrite, range.start, range.len()) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
                other => return other,
            }
        }
        Ok(())
    }

    /// Whether a fault in this mapping had to be answered with a page of zeroes that nobody shares.
    ///
    /// True for ever after: what was read or written since the first such fault is worth nothing. One load and one
    /// comparison.
    #[inline]
    #[must_use]
    pub fn poisoned(&self) -> bool {
        self.guard.poisoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::memfd;

    fn assert_send_sync<T: Send + Sync>() {}

    /// Lengths that no mapping can have are refused cleanly, before any system call.
    #[test]
    fn impossible_lengths_are_invalid_input() {
        assert_send_sync::<Mapping>();
        let file = memfd("len", 4096).unwrap();
        for len in [0, isize::MAX as usize, isize::MAX as usize + 1, usize::MAX] {
            assert_eq!(Mapping::new(&file, len, true).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(Mapping::new(&file, 1 << 60, true).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }

    /// Two mappings of one file are one memory, and each is as long as was asked, beyond the end of the file.
    #[test]
    fn mappings_share_and_reserve() {
        let file = memfd("share", 4096).unwrap();
        let (one, two) = (Mapping::new(&file, 1 << 30, true).unwrap(), Mapping::new(&file, 4096, false).unwrap());
        assert_eq!((one.len(), two.len()), (1 << 30, 4096));
        // SAFETY: byte 17 is within both mappings and the file; nothing else refers to this memory.
        unsafe { one.as_ptr().add(17).write_volatile(42) };
        // SAFETY: as above.
        assert_eq!(unsafe { two.as_ptr().add(17).read_volatile() }, 42);
        assert!(!one.poisoned() && !two.poisoned());
    }

    /// Populating allocates within the file, is an error beyond its end (no signal), and refuses foreign ranges.
    #[test]
    fn populate_reports_instead_of_faulting() {
        use std::os::unix::fs::MetadataExt;
        let file = memfd("populate", 1 << 20).unwrap();
        let map = Mapping::new(&file, 2 << 20, true).unwrap();
        map.populate(4096..4096).unwrap();
        map.populate(5000..300_000).unwrap();
        let present = file.metadata().unwrap().blocks() * 512;
        // Nothing is present on a kernel without MADV_POPULATE_WRITE.
        assert!(present == 0 || present >= 295_000, "{present}");
        if present > 0 {
            assert_eq!(map.populate(1 << 20..2 << 20).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        }
        for range in [0..(2 << 20) + 1, usize::MAX - 1..usize::MAX] {
            assert_eq!(map.populate(range).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert!(!map.poisoned());
        Mapping::new(&file, 4096, false).unwrap().populate(0..4096).unwrap();
    }
}
