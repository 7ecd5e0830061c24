//! The manager: a segment, and the objects in it.
//!
//! | file | one idea |
//! |---|---|
//! | `mod` | [`Manager`]: segments made and opened; [`Builder`] |
//! | `make` | anonymous objects |
//! | `place` | named ones: [`Place`] |
//! | `listing` | what objects there are |

mod listing;
mod make;
mod place;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Locator, Mode, Options, Segment, SegmentId};
use crate::raw::recovery;
use crate::raw::session::Session;

pub use self::listing::{ObjectInfo, ObjectKind};
pub use self::place::Place;
pub use crate::raw::check::Report;

/// A shared-memory segment with dicts, queues and locks in it. There is no server process: every process that has a
/// manager, or a handle of one of its objects, has the segment mapped and works on it directly.
///
/// # Lifetime
/// An anonymous segment is gone with the last process that uses it, by whatever death. So is a named one, but for its
/// name in /dev/shm, which the last process removes in passing, and if that was killed, whoever next looks for the name.
/// A segment in a file, or one built as [`persistent`](Builder::persistent), stays.
///
/// An object lives as long as a handle in any living process, a container that holds its handle, or its name.
///
/// # Examples
/// ```
/// use commons::Manager;
///
/// let manager = Manager::new()?;
/// let squares = manager.dict::<u64, u64>()?;
/// squares.insert(&12, &144)?;
/// assert_eq!(squares.get(&12)?, Some(144));
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Manager {
    session: Arc<Session>,
}

/// Options for a new segment.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    options: Options,
}

impl Builder {
    /// How far the segment may grow, in bytes; 64 GiB unless stated. Address space is reserved, memory is not.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Builder {
        self.options.capacity = bytes;
        self
    }

    /// Permissions of a named segment or a file; 0600 unless stated.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Builder {
        self.options.mode = mode;
        self
    }

    /// Whether a named segment outlives its last process.
    #[must_use]
    pub fn persistent(mut self, persistent: bool) -> Builder {
        self.options.persistent = persistent;
        self
    }

    /// Creates an anonymous segment.
    ///
    /// # Errors
    /// `InvalidInput` for a capacity of zero or beyond what can be addressed; `OutOfMemory`.
    pub fn anonymous(&self) -> Result<Manager> {
        Ok(Manager { session: Session::anonymous(&self.options)? })
    }

    /// Creates the segment called `name`.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one in use; as [`anonymous`](Builder::anonymous); `InvalidInput` for an empty name, one with `/` or
    /// NUL, or one longer than 200 bytes.
    pub fn create(&self, name: &str) -> Result<Manager> {
        Ok(Manager { session: Session::named(name, Mode::Create, &self.options)? })
    }

    /// Opens the segment called `name`, or creates it: one step, whoever else does so at the same time.
    pub fn open_or_create(&self, name: &str) -> Result<Manager> {
        Ok(Manager { session: Session::named(name, Mode::OpenOrCreate, &self.options)? })
    }

    /// Creates a segment in the file at `path`. It persists.
    pub fn create_file(&self, path: impl AsRef<Path>) -> Result<Manager> {
        Ok(Manager { session: Session::file(path.as_ref(), Mode::Create, &self.options)? })
    }

    /// Opens the segment in the file at `path`, or creates it.
    pub fn open_or_create_file(&self, path: impl AsRef<Path>) -> Result<Manager> {
        Ok(Manager { session: Session::file(path.as_ref(), Mode::OpenOrCreate, &self.options)? })
    }
}

impl Manager {
    /// Creates an anonymous segment.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new() -> Result<Manager> {
        Builder::default().anonymous()
    }

    /// Options for a new segment.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Creates the segment called `name`, with default options; see [`Builder::create`].
    pub fn create(name: &str) -> Result<Manager> {
        Builder::default().create(name)
    }

    /// Opens the segment called `name`.
    ///
    /// # Errors
    /// `NotFound` if there is none, or its last process is gone; `ForeignFormat` if the name is taken by something else;
    /// `PermissionDenied`.
    pub fn open(name: &str) -> Result<Manager> {
        Ok(Manager { session: Session::named(name, Mode::Open, &Options::default())? })
    }

    /// Opens the segment called `name`, or creates it; see [`Builder::open_or_create`].
    pub fn open_or_create(name: &str) -> Result<Manager> {
        Builder::default().open_or_create(name)
    }

    /// Opens the segment in the file at `path`.
    ///
    /// # Errors
    /// As [`open`](Manager::open). A file that was in use when the system went down is checked first, and refused as
    /// `Corrupted` if it does not hold together.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Manager> {
        Ok(Manager { session: Session::file(path.as_ref(), Mode::Open, &Options::default())? })
    }

    /// Removes the name of a segment. Processes that use it keep it; nobody else can open it.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn unlink_segment(name: &str) -> Result<()> {
        Segment::unlink(name)
    }

    /// Takes the name of an object away. The object lives on while somebody holds it.
    ///
    /// # Errors
    /// `NotFound` if there is no such name.
    pub fn unlink(&self, name: &str) -> Result<()> {
        match self.session.unlink(name)? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::NotFound, format!("object `{name}`"))),
        }
    }

    /// Checks the whole segment: heap, tables, queues, directory, and that every block belongs to exactly one object.
    /// Callable by any process while no operation is under way.
    ///
    /// # Complexity
    /// Linear in everything stored.
    ///
    /// # Errors
    /// `Corrupted`, naming the rule that does not hold; also while others write.
    pub fn check(&self) -> Result<Report> {
        self.session.check()
    }

    /// Repairs what dead processes left, now instead of when somebody meets it. Returns how many there were.
    pub fn recover(&self) -> Result<usize> {
        recovery::recover_all(self.session.segment())
    }

    /// Frees objects that nobody can reach, cycles included. Happens by itself when handles are dropped; this is for
    /// those who want it now. Returns how many objects were freed.
    pub fn collect(&self) -> Result<u64> {
        crate::raw::collect::collect(self.session.segment())
    }

    /// Bytes of storage that the segment has taken so far.
    pub fn committed(&self) -> u64 {
        self.session.segment().committed()
    }

    /// Bytes that it may grow to.
    pub fn capacity(&self) -> u64 {
        self.session.segment().capacity()
    }

    #[cfg(test)]
    pub(crate) fn from_session(session: Arc<Session>) -> Manager {
        Manager { session }
    }

    /// The session that its objects are in.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("segment", self.session.segment().locator()).finish_non_exhaustive()
    }
}

/// A manager travels like a handle: whoever deserialises it opens the same segment.
impl Serialize for Manager {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let segment = self.session.segment();
        codec::note_segment();
        (segment.id(), segment.present_locator()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Manager {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Manager, D::Error> {
        let (id, locator) = <(SegmentId, Locator)>::deserialize(deserializer)?;
        let session = Session::locate(id, &locator).map_err(codec::reason)?;
        Ok(Manager { session })
    }
}
