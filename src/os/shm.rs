//! Named POSIX segments, created by the `shared_memory` crate.
//!
//! The crate makes the name exclusively, with mode 0600, and sets the size; it keeps its descriptor to itself and would
//! unlink the name with its owner, so it is dropped at once, and the file opened again by its name.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use shared_memory::{ShmemConf, ShmemError};

use super::file::open_segment;

/// Creates the POSIX segment `os_id`, sparse, of `size` bytes, and opens it for reading and writing.
///
/// # Crash
///
/// A crash inside leaves the name, perhaps with size 0. Callers create under a unique temporary name, and publish it
/// under the final one when it is initialised.
///
/// # Errors
///
/// `AlreadyExists`; `InvalidInput` for size 0 or a name that is no plain file name; what the system answers.
pub fn create_posix(os_id: &str, size: usize) -> io::Result<File> {
    let name = os_id.strip_prefix('/').unwrap_or(os_id);
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a POSIX segment"));
    }
    let mut segment = ShmemConf::new().size(size).os_id(os_id).create().map_err(into_io)?;
    segment.set_owner(false);
    drop(segment);
    let path = shm_path(os_id);
    open_segment(&path, true).inspect_err(|_| {
        // The error at hand tells more than a failure to clean up would.
        let _ = fs::remove_file(&path);
    })
}

/// Where the POSIX segment `os_id` appears in the file system.
#[must_use]
pub fn shm_path(os_id: &str) -> PathBuf {
    PathBuf::from("/dev/shm").join(os_id.trim_start_matches('/'))
}

fn into_io(error: ShmemError) -> io::Error {
    match error {
        ShmemError::MappingIdExists | ShmemError::LinkExists => io::Error::from_raw_os_error(libc::EEXIST),
        ShmemError::LinkDoesNotExist => io::Error::from_raw_os_error(libc::ENOENT),
        ShmemError::MapCreateFailed(code) | ShmemError::MapOpenFailed(code) | ShmemError::UnknownOsError(code) => {
            io::Error::from_raw_os_error(code.cast_signed())
        }
        ShmemError::LinkCreateFailed(error)
        | ShmemError::LinkWriteFailed(error)
        | ShmemError::LinkOpenFailed(error)
        | ShmemError::LinkReadFailed(error) => error,
        error @ (ShmemError::MapSizeZero | ShmemError::NoLinkOrOsId | ShmemError::FlinkInvalidOsId) => {
            io::Error::new(io::ErrorKind::InvalidInput, error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{Mapping, file_size, mode_owner};
    use std::os::unix::fs::MetadataExt;

    struct Unlink(String);

    impl Drop for Unlink {
        fn drop(&mut self) {
            let _ = fs::remove_file(shm_path(&self.0));
        }
    }

    fn unique(test: &str) -> Unlink {
        Unlink(format!("commons-test-{test}-{}", std::process::id()))
    }

    /// A segment of 64 GiB takes no memory and hardly any time, can be mapped whole, and its name stays.
    #[test]
    fn a_huge_sparse_segment_is_cheap() {
        let name = unique("huge");
        let start = std::time::Instant::now();
        let file = create_posix(&name.0, 64 << 30).unwrap();
        let map = Mapping::new(&file, 64 << 30, true).unwrap();
        assert!(start.elapsed().as_secs() < 1, "{:?}", start.elapsed());
        assert_eq!(file_size(&file).unwrap(), 64 << 30);
        assert_eq!(file.metadata().unwrap().blocks(), 0);
        assert_eq!(mode_owner(&file).unwrap().0, 0o600);
        assert_eq!(map.len(), 64 << 30);
        assert!(shm_path(&name.0).exists());
    }

    /// A taken name is AlreadyExists and stays whole; a leading slash makes no other name.
    #[test]
    fn names_are_exclusive() {
        let name = unique("exclusive");
        let file = create_posix(&format!("/{}", name.0), 8192).unwrap();
        assert_eq!(create_posix(&name.0, 4096).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(file_size(&file).unwrap(), 8192);
        assert!(shm_path(&name.0).exists());
    }

    /// What cannot be a segment is refused, and leaves no name.
    #[test]
    fn bad_names_and_sizes_are_refused() {
        let name = unique("bad");
        for bad in ["", "/", "..", "a/b", "a\0b"] {
            assert_eq!(create_posix(bad, 4096).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(create_posix(&name.0, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(create_posix(&name.0, usize::MAX).is_err());
        assert!(!shm_path(&name.0).exists());
    }
}
