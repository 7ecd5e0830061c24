//! Creating, opening and removing segments: anonymous, named, in a file.
//!
//! # Protocol
//!
//! 1. A segment is made complete under a temporary name, joined by its creator, and only then given its name, in one
//!    `renameat2(NOREPLACE)`. So whoever finds the name finds a complete segment with a living member, or an abandoned
//!    one; a creator that is killed leaves a temporary file that a later creator sweeps up.
//! 2. Abandoned means: one description can lock the life bytes of all members at once. Holding them all, it marks the
//!    header REMOVED, unlinks the name if it still means this inode, and lets go. Whoever opened the file meanwhile
//!    joins after that and sees REMOVED.
//! 3. Anonymous segments are memory files; the kernel frees them with the last process.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::layout::{
    self, FINGERPRINT, Header, INITIAL_COMMIT, MAGIC, MAX_CAPACITY, MIN_CAPACITY, PAGE, READY, REMOVED, header,
};
use super::locator::{Locator, SegmentId};
use super::members::{self, Membership};
use super::segment::{Parts, Segment};
use super::word::Space;
use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, LifeLock, Mapping};

/// Sparse; what is not used costs nothing.
const DEFAULT_CAPACITY: u64 = 64 << 30;
/// Longest name of a segment, so that prefix and name fit a file name.
const MAX_NAME: usize = 200;
const PREFIX: &str = "commons.";
const TEMPORARY: &str = "commons-tmp.";
/// Age from which an unlocked temporary file is taken for abandoned.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);
/// Rounds of opening a name that is being removed.
const OPEN_TRIES: u32 = 100;

/// How a new segment is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that it may grow to.
    pub capacity: u64,
    /// Permissions of the file.
    pub mode: u32,
    /// Whether it outlives its last process.
    pub persistent: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { capacity: DEFAULT_CAPACITY, mode: 0o600, persistent: false }
    }
}

/// What to do with an existing and with a missing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It must be missing.
    Create,
    /// It must exist.
    Open,
    /// Either.
    OpenOrCreate,
}

impl Options {
    fn checked_capacity(&self) -> Result<u64> {
        if self.capacity == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "a capacity of zero"));
        }
        if self.capacity > MAX_CAPACITY {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a capacity of {} bytes is more than the {MAX_CAPACITY} that an offset can name",
                    self.capacity
                ),
            ));
        }
        Ok(self.capacity.max(MIN_CAPACITY).next_multiple_of(PAGE))
    }
}

impl Segment {
    /// Creates a segment that is reached through its members only.
    pub fn anonymous(options: &Options) -> Result<Arc<Segment>> {
        let capacity = options.checked_capacity()?;
        let id = SegmentId([os::random_u64(), os::random_u64()]);
        let file = os::memfd(&id.label(), capacity).map_err(|e| Error::from_io(e, "creating a memory file"))?;
        let locator = Locator::Anonymous(std::process::id(), file.as_raw_fd() as u32);
        initialise(file, id, locator, capacity, false)
    }

    /// Opens or creates the segment called `name`.
    pub fn named(name: &str, mode: Mode, options: &Options) -> Result<Arc<Segment>> {
        let path = Segment::path_of(name)?;
        let locator = Locator::Named(name.to_owned());
        open_or_create(&path, mode, locator, options.persistent, |id| {
            sweep_temporaries(Path::new("/dev/shm"));
            let capacity = options.checked_capacity()?;
            let temporary = format!("{TEMPORARY}{}", id.label());
            let file = os::create_posix(&temporary, capacity as usize)
                .map_err(|e| Error::from_io(e, format!("creating segment `{name}`")))?;
            Ok((file, os::shm_path(&temporary), capacity, options.mode))
        })
    }

    /// Opens or creates the segment in the file at `path`. It persists.
    pub fn file(path: &Path, mode: Mode, options: &Options) -> Result<Arc<Segment>> {
        if path.as_os_str().as_bytes().contains(&0) || path.file_name().is_none() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("the path {path:?} names no file")));
        }
        let path = std::path::absolute(path).map_err(|e| Error::from_io(e, format!("{path:?}")))?;
        open_or_create(&path, mode, Locator::File(path.clone()), true, |id| {
            sweep_temporaries(path.parent().unwrap_or(Path::new("/")));
            let capacity = options.checked_capacity()?;
            let temporary = path.with_file_name(format!("{TEMPORARY}{}", id.label()));
            let context = || format!("creating the segment file {path:?}");
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)
                .map_err(|e| Error::from_io(e, context()))?;
            if let Err(e) = os::set_len(&file, capacity) {
                let _ = std::fs::remove_file(&temporary);
                return Err(Error::from_io(e, context()));
            }
            Ok((file, temporary, capacity, options.mode))
        })
    }

    /// Finds a segment that another process named: its identity must be `id`.
    pub fn locate(id: SegmentId, locator: &Locator) -> Result<Arc<Segment>> {
        let segment = match locator {
            Locator::Named(name) => Segment::named(name, Mode::Open, &Options::default())?,
            Locator::File(path) => Segment::file(path, Mode::Open, &Options::default())?,
            Locator::Here => return Err(Error::new(ErrorKind::NotFound, "the segment that a handle was read from")),
            Locator::Anonymous(pid, fd) => {
                let label = id.label();
                let hinted = os::open_peer(*pid, *fd).ok().map(|file| (file, locator.clone()));
                let found = match hinted {
                    Some((file, locator)) => attach(file, locator).ok().filter(|s| s.id() == id),
                    None => None,
                };
                match found {
                    Some(segment) => segment,
                    None => {
                        let file = os::find_memfd(&label)
                            .map_err(|e| Error::from_io(e, "looking for an anonymous segment"))?
                            .ok_or_else(|| {
                                Error::new(ErrorKind::NotFound, "an anonymous segment with no member left")
                            })?;
                        attach(file, locator.clone())?
                    }
                }
            }
        };
        if segment.id() != id {
            return Err(Error::new(ErrorKind::Stale, "another segment has taken the place of the one named"));
        }
        Ok(segment)
    }

    /// The file of the segment called `name`.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no segment can have.
    pub fn path_of(name: &str) -> Result<PathBuf> {
        check_name(name)?;
        Ok(os::shm_path(&format!("{PREFIX}{name}")))
    }

    /// Removes the name of a segment; its members keep it.
    pub fn unlink(name: &str) -> Result<()> {
        let path = Segment::path_of(name)?;
        std::fs::remove_file(path).map_err(|e| Error::from_io(e, format!("unlinking segment `{name}`")))
    }
}

fn check_name(name: &str) -> Result<()> {
    let problem = match name {
        "" => "is empty",
        _ if name.len() > MAX_NAME => "is longer than 200 bytes",
        _ if name.contains('/') => "contains `/`",
        _ if name.contains('\0') => "contains a NUL",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("the segment name {name:?} {problem}")))
}

fn open_or_create(
    path: &Path,
    mode: Mode,
    locator: Locator,
    persistent: bool,
    create: impl Fn(SegmentId) -> Result<(File, PathBuf, u64, u32)>,
) -> Result<Arc<Segment>> {
    for _ in 0..OPEN_TRIES {
        match try_open(path, &locator)? {
            Found::Segment(_) if mode == Mode::Create => {
                return Err(Error::new(ErrorKind::AlreadyExists, format!("segment {path:?}")));
            }
            Found::Segment(segment) => return Ok(segment),
            Found::Nothing if mode == Mode::Open => {
                return Err(Error::new(ErrorKind::NotFound, format!("segment {path:?}")));
            }
            Found::BeingRemoved => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Found::Nothing => {}
        }
        let id = SegmentId([os::random_u64(), os::random_u64()]);
        let (file, temporary, capacity, permissions) = create(id)?;
        let sweep = RemoveOnDrop(Some(temporary));
        os::set_mode(&file, permissions).map_err(|e| Error::from_io(e, format!("segment {path:?}")))?;
        let segment = initialise(file, id, locator.clone(), capacity, persistent)?;
        match os::publish(sweep.0.as_deref().expect("not taken yet"), path) {
            Ok(()) => {
                std::mem::forget(sweep);
                return Ok(segment);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue, // somebody was quicker
            Err(e) => return Err(Error::from_io(e, format!("publishing segment {path:?}"))),
        }
    }
    Err(Error::new(ErrorKind::Contended, format!("segment {path:?} is created and removed all the time")))
}

struct RemoveOnDrop(Option<PathBuf>);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

enum Found {
    Segment(Arc<Segment>),
    Nothing,
    BeingRemoved,
}

fn try_open(path: &Path, locator: &Locator) -> Result<Found> {
    let file = match os::open_segment(path, true) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(Error::from_io(e, format!("opening segment {path:?}"))),
    };
    let context = |e: Error| e.within(format!("segment {path:?}"));
    let (_, owner) = os::mode_owner(&file).map_err(|e| Error::from_io(e, format!("segment {path:?}")))?;
    let user = os::effective_user();
    if owner != user && owner != 0 && user != 0 {
        return Err(Error::new(ErrorKind::PermissionDenied, format!("segment {path:?} belongs to user {owner}")));
    }
    let opened = map(file).map_err(context)?;
    let life = LifeLock::open(&opened.file).map_err(|e| Error::from_io(e, format!("segment {path:?}")))?;
    let io = |e| Error::from_io(e, format!("life locks of segment {path:?}"));
    if life.try_lock_all().map_err(io)? {
        if !opened.persistent {
            remove(&opened.space, &opened.file, path);
            return Ok(Found::Nothing);
        }
        first_use(&opened.space)?;
        life.unlock_all().map_err(io)?;
    }
    match opened.join(locator.clone(), life).map_err(context)? {
        Some(segment) => Ok(Found::Segment(segment)),
        None => Ok(Found::BeingRemoved),
    }
}

/// The first process of a persistent segment's new life notes what its last life left.
fn first_use(space: &Space) -> Result<()> {
    let boot = os::me().boot;
    let words = space.words(header!(boot), 2)?;
    let same_boot = [words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed)] == boot;
    let clean = space.word(header!(clean))?;
    if !same_boot && clean.load(Ordering::Relaxed) != CLEAN {
        clean.store(UNCHECKED, Ordering::Relaxed);
    } else if clean.load(Ordering::Relaxed) == CLEAN {
        clean.store(IN_USE, Ordering::Relaxed);
    }
    words[0].store(boot[0], Ordering::Relaxed);
    words[1].store(boot[1], Ordering::Relaxed);
    Ok(())
}

/// The life byte, beyond those of processes, of who checks the segment.
const CHECKER: u32 = u16::MAX as u32;

const IN_USE: u64 = 0;
const CLEAN: u64 = 1;
/// The system went down while the segment was in use: what reached the disk is anybody's guess until checked.
const UNCHECKED: u64 = 2;

impl Segment {
    /// Has the segment checked, if the system crashed while this persistent segment was in use and nobody has checked it
    /// since. Others who come meanwhile wait.
    ///
    /// # Errors
    /// Those of the check.
    pub fn check_if_need_be(&self, check: impl FnOnce() -> Result<()>) -> Result<()> {
        let clean = self.header(header!(clean));
        if clean.load(Ordering::Acquire) != UNCHECKED {
            return Ok(());
        }
        let life = self.membership.life()?;
        let io = |e| Error::from_io(e, "the checker's lock");
        // Ends: the kernel takes the lock away from a checker that dies.
        while !life.try_lock(CHECKER).map_err(io)? {
            std::thread::sleep(Duration::from_millis(1));
        }
        let checked = if clean.load(Ordering::Acquire) == UNCHECKED { check() } else { Ok(()) };
        if checked.is_ok() {
            let _ = clean.cas(UNCHECKED, IN_USE, Ordering::AcqRel);
        }
        life.unlock(CHECKER).map_err(io)?;
        checked
    }
}

/// A mapped and validated segment file, not joined.
struct Opened {
    space: Space,
    file: File,
    id: SegmentId,
    persistent: bool,
}

/// Maps `file` and validates its header. Whatever the file holds, this ends with an error or a usable segment.
fn map(file: File) -> Result<Opened> {
    let foreign = |what: String| Error::new(ErrorKind::ForeignFormat, what);
    let size = os::file_size(&file).map_err(|e| Error::from_io(e, "size"))?;
    if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&size) || size % PAGE != 0 {
        return Err(foreign(format!("a file of {size} bytes")));
    }
    let mapping = Mapping::new(&file, size as usize, true).map_err(|e| Error::from_io(e, "mapping"))?;
    let space = Space::mapped(mapping, PAGE).growing_by(header!(committed));
    let mut image = [0u8; layout::IDENTITY_BYTES];
    for (chunk, word) in image.chunks_exact_mut(8).zip(space.words(0, layout::IDENTITY_BYTES / 8)?) {
        chunk.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
    }
    let head = layout::HeaderIdentity::read_from_bytes(&image).map_err(|_| foreign("too short".to_owned()))?;
    if head.magic != MAGIC {
        return Err(foreign("no magic number".to_owned()));
    }
    if head.fingerprint != FINGERPRINT {
        return Err(foreign("another version of the format".to_owned()));
    }
    if head.reserved != size {
        return Err(foreign(format!("{size} bytes long instead of {}: truncated or padded", head.reserved)));
    }
    let committed = space.word(header!(committed))?.load(Ordering::Acquire);
    if committed < INITIAL_COMMIT || committed > size || committed % PAGE != 0 {
        return Err(Error::corrupted("the committed size of the segment"));
    }
    space.raise_limit(committed);
    Ok(Opened { space, file, id: SegmentId(head.id), persistent: head.persistent != 0 })
}

impl Opened {
    /// Joins; `None` if the segment has been removed.
    fn join(self, locator: Locator, life: LifeLock) -> Result<Option<Arc<Segment>>> {
        if !LifeLock::self_test(&self.file).map_err(|e| Error::from_io(e, "testing life locks"))? {
            return Err(Error::new(ErrorKind::LivenessUnsupported, "file system of the segment"));
        }
        let membership = Membership::outside(life);
        let file_id = os::file_id(&self.file).map_err(|e| Error::from_io(e, "identity"))?;
        match members::join(&self.space, &membership) {
            Err(e) if e.kind() == ErrorKind::TooMany && members::inherit(&self.space, &membership, file_id)? => {}
            joined => joined?,
        }
        let parts = Parts {
            space: self.space,
            file: self.file,
            file_id,
            id: self.id,
            locator,
            persistent: self.persistent,
            membership,
        };
        let mut result = Ok(());
        let segment = Arc::new_cyclic(|myself| match Segment::assemble(parts, myself.clone()) {
            Ok(segment) => segment,
            Err(_) => unreachable!("the header was validated"),
        });
        if segment.header(header!(state)).load(Ordering::Acquire) != READY {
            result = Err(());
        }
        Ok(result.ok().map(|()| segment))
    }
}

/// Joins the segment in an open file.
pub(super) fn attach(file: File, locator: Locator) -> Result<Arc<Segment>> {
    let opened = map(file)?;
    let life = LifeLock::open(&opened.file).map_err(|e| Error::from_io(e, "life lock"))?;
    opened.join(locator, life)?.ok_or_else(|| Error::new(ErrorKind::NotFound, "a segment that was removed"))
}

/// Makes `file`, all zero and `capacity` long, a segment with this process as its first member.
fn initialise(file: File, id: SegmentId, locator: Locator, capacity: u64, persistent: bool) -> Result<Arc<Segment>> {
    os::reserve(&file, 0, INITIAL_COMMIT).map_err(|e| Error::from_io(e, "reserving the first pages of a segment"))?;
    let mapping = Mapping::new(&file, capacity as usize, true).map_err(|e| Error::from_io(e, "mapping"))?;
    let space = Space::mapped(mapping, INITIAL_COMMIT).growing_by(header!(committed));
    let mut head = Header::new_zeroed();
    head.magic = MAGIC;
    head.fingerprint = FINGERPRINT;
    head.reserved = capacity;
    head.state = READY;
    head.id = id.0;
    head.seed = os::random_u64();
    head.persistent = persistent.into();
    head.boot = os::me().boot;
    head.committed = INITIAL_COMMIT;
    head.first_free = layout::FIRST_HEAP_PAGE;
    let image = head.as_bytes();
    for (word, bytes) in space.words(0, image.len() / 8)?.iter().zip(image.chunks_exact(8)) {
        let value = u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        if value != 0 {
            word.store(value, Ordering::Relaxed);
        }
    }
    let life = LifeLock::open(&file).map_err(|e| Error::from_io(e, "life lock"))?;
    let opened = Opened { space, file, id, persistent };
    Ok(opened.join(locator, life)?.expect("nobody else knows the segment yet"))
}

/// Marks a segment removed and takes its name away. The caller holds all life bytes.
fn remove(space: &Space, file: &File, path: &Path) {
    if let Ok(state) = space.word(header!(state)) {
        state.store(REMOVED, Ordering::Release);
    }
    if let (Ok(here), Ok(there)) = (os::file_id(file), os::path_id(path))
        && here == there
    {
        let _ = std::fs::remove_file(path);
    }
}

/// After this process has left: if it was the last, a segment that is not to persist loses its name, and one that
/// is is marked complete.
pub(super) fn remove_if_abandoned(segment: &Segment) {
    let path = match &segment.locator {
        Locator::Anonymous(..) | Locator::Here => return,
        Locator::Named(name) => os::shm_path(&format!("{PREFIX}{name}")),
        Locator::File(path) => path.clone(),
    };
    let Ok(life) = segment.membership.life() else { return };
    if !life.try_lock_all().unwrap_or(false) {
        return;
    }
    if segment.persistent {
        if os::sync(&segment.file).is_ok() {
            segment.header(header!(clean)).store(CLEAN, Ordering::Release);
            let _ = os::sync(&segment.file);
        }
    } else {
        remove(&segment.space, &segment.file, &path);
    }
    let _ = life.unlock_all();
}

/// Removes temporary files of creators that were killed.
fn sweep_temporaries(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let old =
            entry.metadata().and_then(|m| m.modified()).is_ok_and(|t| t.elapsed().is_ok_and(|a| a > TEMPORARY_AGE));
        if !old || !entry.file_name().as_bytes().starts_with(TEMPORARY.as_bytes()) {
            continue;
        }
        let Ok(file) = os::open_segment(&entry.path(), true) else { continue };
        if LifeLock::open(&file).and_then(|life| life.try_lock_all()).unwrap_or(false) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
