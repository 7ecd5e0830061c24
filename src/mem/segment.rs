//! A mapped segment: its bytes, its growth, and this process's membership in it.
//!
//! A segment file has its final length from the start, sparse; storage is reserved page run by page run
//! (`fallocate`) and `committed` tells how far. So growth never moves a mapping, a full file system is an error
//! with nothing changed, and the length can be sealed. Creating and opening are in `open`.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64 as LocalU64, Ordering};

use parking_lot::Mutex;
use rapidhash::v3::RapidSecrets;
use zerocopy::IntoBytes;

use super::layout::{self, PAGE, header};
use super::locator::{Locator, SegmentId};
use super::members::Membership;
use super::step::step;
use super::word::{Space, Word};
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, FileId, PerProcess};

/// Least step of growth.
const GROWTH_STEP: u64 = 2 << 20;

/// A segment that this process has mapped and joined.
pub struct Segment {
    pub(super) space: Space,
    pub(super) file: File,
    pub(super) file_id: FileId,
    pub(super) id: SegmentId,
    pub(super) locator: Locator,
    pub(super) persistent: bool,
    pub(super) membership: Membership,
    /// Tells this mapping from every other one that this process ever had.
    pub(super) uid: u64,
    /// The fast path to this thread's slot refers back to the segment through this.
    pub(super) myself: Weak<Segment>,
    secrets: RapidSecrets,
    /// What one word is hashed with; the second is odd.
    fold: [u64; 2],
    growing: PerProcess<Mutex<()>>,
    /// Held while a slot of this process is given back.
    pub(super) giving_back: PerProcess<Mutex<()>>,
}

/// The parts that `open` has gathered.
pub(super) struct Parts {
    pub space: Space,
    pub file: File,
    pub file_id: FileId,
    pub id: SegmentId,
    pub locator: Locator,
    pub persistent: bool,
    pub membership: Membership,
}

impl Segment {
    pub(super) fn assemble(parts: Parts, myself: Weak<Segment>) -> Result<Segment> {
        static UIDS: LocalU64 = LocalU64::new(1);
        let Parts { space, file, file_id, id, locator, persistent, membership } = parts;
        let seed = space.word(header!(seed))?.load(Ordering::Relaxed);
        let secrets = RapidSecrets::seed(seed);
        let uid = UIDS.fetch_add(1, Ordering::Relaxed); // local
        Ok(Segment {
            space,
            file,
            file_id,
            id,
            locator,
            persistent,
            membership,
            uid,
            myself,
            fold: [0, 1].map(|i| rapidhash::v3::rapidhash_v3_seeded(&[i], &secrets) | u64::from(i)),
            secrets,
            growing: PerProcess::new(|_| Mutex::new(())),
            giving_back: PerProcess::new(|_| Mutex::new(())),
        })
    }

    /// The door.
    #[inline(always)]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The word at `off`; see [`Space::word`].
    #[inline(always)]
    pub fn word(&self, off: u64) -> Result<&Word> {
        self.space.word(off)
    }

    /// The words at `off`; see [`Space::words`].
    #[inline(always)]
    pub fn words(&self, off: u64, count: usize) -> Result<&[Word]> {
        self.space.words(off, count)
    }

    /// A header word; the header is always mapped.
    #[inline(always)]
    pub fn header(&self, off: u64) -> &Word {
        debug_assert!(off < PAGE);
        self.space.word(off).expect("the header is inside every mapping")
    }

    /// The segment's identity.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Device and inode.
    pub fn file_id(&self) -> FileId {
        self.file_id
    }

    /// Where other processes find it.
    pub fn locator(&self) -> &Locator {
        &self.locator
    }

    /// The locator to give away: for an anonymous segment, by way of this very process.
    pub fn present_locator(&self) -> Locator {
        match &self.locator {
            Locator::Anonymous(..) => Locator::Anonymous(std::process::id(), self.file.as_raw_fd() as u32),
            other => other.clone(),
        }
    }

    /// Bytes that it may grow to.
    pub fn capacity(&self) -> u64 {
        self.space.reserved()
    }

    /// Bytes backed by storage now.
    pub fn committed(&self) -> u64 {
        self.header(header!(committed)).load(Ordering::Acquire).min(self.space.reserved())
    }

    /// Pages backed by storage now.
    pub fn pages(&self) -> u64 {
        self.committed() / PAGE
    }

    /// The seeded hash of `key`; equal in every process of the segment, different between segments.
    #[inline(always)]
    pub fn hash(&self, key: &[u8]) -> u64 {
        if let Ok(word) = key.try_into() {
            return self.hash_word(u64::from_le_bytes(word));
        }
        rapidhash::v3::rapidhash_v3_inline::<true, false, false>(key, &self.secrets)
    }

    /// [`Segment::hash`] of the bytes of whole words, whose number the compiler knows.
    #[inline(always)]
    pub fn hash_words<const COUNT: usize>(&self, key: &[u64; COUNT]) -> u64 {
        self.hash(key.as_bytes())
    }

    /// The hash of eight bytes: one folded multiplication, which is all that one word needs (as in foldhash).
    #[inline(always)]
    fn hash_word(&self, word: u64) -> u64 {
        let product = u128::from(word ^ self.fold[0]) * u128::from(self.fold[1]);
        product as u64 ^ (product >> 64) as u64
    }

    /// This process's membership.
    #[inline(always)]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Reserves storage for at least `pages` more pages.
    ///
    /// # Crash
    /// Reserved storage that nobody announced in `committed` is reserved again, at no cost, by the next to grow.
    ///
    /// # Errors
    /// `OutOfMemory` at the capacity or when the file system is full; nothing changed.
    #[cold]
    pub fn grow(&self, seen: u64, pages: u64) -> Result<()> {
        let _one_of_this_process = self.growing.get().lock();
        let committed = self.committed();
        if committed > seen {
            self.space.raise_limit(committed);
            return Ok(()); // somebody grew it meanwhile
        }
        let need = pages.checked_mul(PAGE).and_then(|bytes| committed.checked_add(bytes));
        let Some(need) = need.filter(|need| *need <= self.capacity()) else {
            return Err(Error::new(ErrorKind::OutOfMemory, "the segment has reached its capacity"));
        };
        let stride = (committed / 8).max(GROWTH_STEP) / PAGE * PAGE;
        let ample = need.max(committed + stride).min(self.capacity());
        if !step() {
            return Err(Error::new(ErrorKind::OutOfMemory, "growing the segment"));
        }
        // Storage in memory has no full file system to report: the kernel would kill somebody instead.
        let room = os::available_memory().unwrap_or(u64::MAX) / 16 * 15;
        if need - committed > room {
            return Err(Error::new(ErrorKind::OutOfMemory, "growing the segment: no memory left on the machine"));
        }
        let ample = ample.min((committed + room / PAGE * PAGE).max(need));
        let target = match os::reserve(&self.file, committed, ample) {
            Ok(()) => ample,
            Err(_) => os::reserve(&self.file, committed, need)
                .map(|()| need)
                .map_err(|e| Error::from_io(e, "growing the segment"))?,
        };
        if let Some(mapping) = self.space.mapping() {
            mapping
                .populate(committed as usize..target as usize)
                .map_err(|_| Error::new(ErrorKind::OutOfMemory, "growing the segment"))?;
        }
        self.header(header!(committed)).fetch_max(target, Ordering::Release);
        self.space.raise_limit(target);
        Ok(())
    }

    /// Whether this mapping lost its storage; nothing read from it means anything any more.
    #[inline]
    pub fn poisoned(&self) -> bool {
        self.space.poisoned()
    }

    /// Page-table word of `page`.
    #[inline(always)]
    pub fn page_word(&self, page: u64) -> Result<&Word> {
        self.space.word(layout::page_word(page))
    }
}

impl Segment {
    /// Ends this process's membership in good order. Whoever uses the segment after that joins again.
    pub fn leave(&self) {
        if self.membership.is_heir() {
            self.surrender(); // of what it has taken over nothing has been put right
        } else if self.membership.is_current() {
            super::members::leave(self);
            super::open::remove_if_abandoned(self);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.leave();
    }
}
