//! Segment files: made, opened, grown and named so that neither a crash nor a stranger's file can surprise us.
//!
//! An anonymous segment is a sealed memfd: nobody can shrink it under us, so it never raises SIGBUS. A named one is
//! opened by a path that others may have prepared, so opening never follows a link, never blocks, and accepts regular
//! files only.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, MemfdFlags, Mode, OFlags, RenameFlags, SealFlags, fallocate, fcntl_add_seals, linkat,
    memfd_create, open, renameat_with, unlinkat,
};
use rustix::io::Errno;

/// Makes an anonymous file of `size` bytes, mode 0600, whose size is sealed.
///
/// The size is what may ever be mapped, not what is used: no page exists until it is reserved or touched. The label
/// appears in `/proc/<pid>/fd` and in memory maps; it need not be unique.
///
/// # Errors
///
/// `EINVAL` for a label of more than 249 bytes or with a NUL in it; `EFBIG`; `EMFILE`.
pub fn memfd(label: &str, size: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Some systems refuse memfds that may become executable; kernels before 6.3 do not know the flag.
    let fd = match memfd_create(label, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(label, flags)?,
        other => other?,
    };
    let file = File::from(fd);
    set_mode(&file, 0o600)?;
    file.set_len(size)?;
    // Fallocate and hole punching within the size still work under these.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Opens a segment by name, for reading, and also for writing if asked.
///
/// # Errors
///
/// `ELOOP` for a symbolic link in the last component; `ENXIO` or `EISDIR` for what is not a regular file (a FIFO does
/// not block); `ENOENT`, `EACCES` and the like.
pub fn open_segment(path: &Path, writable: bool) -> io::Result<File> {
    open_regular(path, writable, OFlags::NOFOLLOW)
}

/// Opens the same file once more: a new open file description, readable and writable.
///
/// A `dup` would share its description with the original, and OFD locks with it.
///
/// # Errors
///
/// `EACCES` if the file's mode forbids it; `ENOENT` without a mounted `/proc`.
pub fn reopen(file: &File) -> io::Result<File> {
    // Not `/proc/self`: that is the leader's directory, empty once the leading thread has exited.
    open_regular(&own_link(file), true, OFlags::empty())
}

/// Opens a file through another process's descriptor table, readable and writable.
///
/// # Errors
///
/// `ENOENT` if there is no such process or descriptor; `EACCES` if we may not look into it; `ENXIO` if it is no regular
/// file.
pub fn open_peer(pid: u32, fd: u32) -> io::Result<File> {
    open_regular(Path::new(&format!("/proc/{pid}/fd/{fd}")), true, OFlags::empty())
}

/// Looks through all processes for an open memfd of this label, and opens it; None if there is none that we can see.
///
/// Processes that we may not look into are skipped. Anybody may use any label: the caller checks owner and contents.
///
/// # Errors
///
/// Only if `/proc` itself cannot be read.
pub fn find_memfd(label: &str) -> io::Result<Option<File>> {
    let wanted = PathBuf::from(format!("/memfd:{label} (deleted)"));
    let is_wanted = |link: &Path| fs::read_link(link).is_ok_and(|target| target == wanted);
    for process in fs::read_dir("/proc")?.flatten() {
        if !process.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for link in descriptors.flatten().map(|entry| entry.path()).filter(|link| is_wanted(link)) {
            // The descriptor may have become another file between the two looks, so look at ours.
            if let Ok(file) = open_regular(&link, true, OFlags::empty())
                && is_wanted(&own_link(&file))
            {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

fn own_link(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", file.as_raw_fd()))
}

fn open_regular(path: &Path, writable: bool, flags: OFlags) -> io::Result<File> {
    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    // NONBLOCK, or a FIFO would wait for its other end; it means nothing for the regular files that we keep.
    let fd = open(path, access | flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
    let file = File::from(fd);
    if !file.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::ENXIO));
    }
    Ok(file)
}

/// Makes sure that bytes `from .. to` have storage, without changing the file's size or any byte: touching them
/// afterwards cannot fail for want of space. Idempotent; an empty or inverted range is Ok.
///
/// # Blocking
///
/// Between 0.1 and 0.3 ms per MiB of new memory. The kernel gives up a whole call at any signal, so after an interruption the work
/// goes on in smaller pieces; under a hail of signals it ends with `EINTR` rather than never.
///
/// # Errors
///
/// `ENOSPC`, where the file system has a bound, with nothing of this call's last piece kept. A memfd has none: asking
/// more of it than the machine has ends with the kernel's out-of-memory killer, so callers bound what they ask for.
/// Also `EPERM` beyond a sealed size; `EOPNOTSUPP` where the file system cannot promise storage.
pub fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
    const SMALLEST: u64 = 64 << 10;
    let (mut at, mut piece, mut patience) = (from, to.saturating_sub(from), 1000);
    while at < to {
        let len = piece.min(to - at);
        match fallocate(file, FallocateFlags::KEEP_SIZE, at, len) {
            Ok(()) => at += len,
            Err(Errno::INTR) if patience > 0 => {
                patience -= 1;
                piece = (len / 2).next_multiple_of(SMALLEST);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sets the file's size.
///
/// # Errors
///
/// `EPERM` if the size is sealed; `EFBIG`; `EINVAL`.
pub fn set_len(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
}

/// Gives a finished file its final name, atomically, and never over an existing one.
///
/// # Crash
///
/// The final name is absent or complete. On file systems without an exclusive rename, both names may remain.
///
/// # Errors
///
/// `EEXIST` if the final name is taken; then the temporary one remains.
pub fn publish(dir_temp_path: &Path, final_path: &Path) -> io::Result<()> {
    match renameat_with(CWD, dir_temp_path, CWD, final_path, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => publish_by_link(dir_temp_path, final_path),
        other => Ok(other?),
    }
}

fn publish_by_link(temporary: &Path, final_path: &Path) -> io::Result<()> {
    linkat(CWD, temporary, CWD, final_path, AtFlags::empty())?;
    Ok(unlinkat(CWD, temporary, AtFlags::empty())?)
}

/// Which file it is, whatever its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The device, as in `st_dev`.
    pub dev: u64,
    /// The inode number on that device.
    pub ino: u64,
}

/// The identity of an open file.
///
/// # Errors
///
/// What stat(2) answers.
pub fn file_id(file: &File) -> io::Result<FileId> {
    let meta = file.metadata()?;
    Ok(FileId { dev: meta.dev(), ino: meta.ino() })
}

/// The identity of the file at `path`; that of the link itself, if it is a symbolic link.
///
/// # Errors
///
/// What lstat(2) answers.
pub fn path_id(path: &Path) -> io::Result<FileId> {
    let meta = fs::symlink_metadata(path)?;
    Ok(FileId { dev: meta.dev(), ino: meta.ino() })
}

/// The file's size in bytes, now.
///
/// # Errors
///
/// What stat(2) answers.
pub fn file_size(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

/// Sets the permission bits, unaffected by the umask.
///
/// # Errors
///
/// `EPERM` unless we own the file.
pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

/// The permission bits (the low twelve) and the owner's user id.
///
/// # Errors
///
/// What stat(2) answers.
pub fn mode_owner(file: &File) -> io::Result<(u32, u32)> {
    let meta = file.metadata()?;
    Ok((meta.mode() & 0o7777, meta.uid()))
}

/// Waits until data, through whichever mapping it was written, and size are on stable storage.
///
/// # Errors
///
/// `EIO`, `ENOSPC`: an earlier write back failed.
pub fn sync(file: &File) -> io::Result<()> {
    file.sync_all()
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
