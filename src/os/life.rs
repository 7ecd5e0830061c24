//! Life locks: one byte of the segment file per participant, which the kernel unlocks when the participant dies.
//!
//! The lock belongs to an *open file description* (`F_OFD_SETLK`), not to the process: a classic POSIX lock is dropped by
//! any close of the same file anywhere in the process, and a library could never rule that out. Therefore the
//! description must be private: opened anew, not a `dup`, since two holders of one description do not exclude each
//! other. And a forked child holds a copy, which keeps the parent's locks alive: the child closes it first of all, see
//! [`LifeLock::close_in_child`].
//!
//! The locked bytes lie far beyond any content, which the kernel allows, at 2^40 + index; the self-test uses bytes from
//! 2^41 on.

use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use super::file::reopen;
use super::fork::on_fork_child;
use super::identity::random_u64;

/// The byte of index 0.
const FIRST: i64 = 1 << 40;
/// How many indices there are.
const INDICES: u32 = 1 << 16;
/// Self-tests lock a random byte of `SELF_TEST .. SELF_TEST + SELF_TEST_BYTES`.
const SELF_TEST: i64 = 1 << 41;
const SELF_TEST_BYTES: u64 = 1 << 40;

/// Every open life lock of the process: its descriptor plus one, or 0. A fixed table, because a forked child must
/// close them all before it may take a lock or allocate.
static OPEN: [AtomicI32; 1024] = [const { AtomicI32::new(0) }; 1024];

/// A private open file description of a segment file, and the locks held through it.
///
/// Dropping it, or the death of the last process that has a copy, releases all its locks.
///
/// # Thread safety
///
/// All methods take `&self`; the locks are the description's, so threads that share it do not exclude each other. Only
/// a process without other threads that use it may close it early.
#[derive(Debug)]
pub struct LifeLock {
    /// The descriptor, or -1 once closed.
    fd: AtomicI32,
}

impl LifeLock {
    /// Opens a new description of `file`, without any lock.
    ///
    /// # Errors
    ///
    /// Those of opening the file again for reading and writing; `EMFILE` beyond 1,024 life locks in one process.
    pub fn open(file: &File) -> io::Result<LifeLock> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| on_fork_child(close_all_in_child));
        let fd = reopen(file)?.into_raw_fd();
        for slot in &OPEN {
            if slot.compare_exchange(0, fd + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(LifeLock { fd: AtomicI32::new(fd) });
            }
        }
        // SAFETY: the descriptor is ours alone, from `into_raw_fd`.
        unsafe { libc::close(fd) };
        Err(io::Error::from_raw_os_error(libc::EMFILE))
    }

    /// Locks the byte of `index`, without waiting; false if another description holds it.
    ///
    /// Locking it again through the same description is Ok(true), and one unlock undoes both.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an index of 65,536 or more; `EBADF` once closed; `ENOLCK`, `EINVAL` and the like where the
    /// file system has no such locks.
    pub fn try_lock(&self, index: u32) -> io::Result<bool> {
        self.set(libc::F_WRLCK, byte(index)?, 1)
    }

    /// Unlocks the byte of `index`; not an error if it was not locked.
    ///
    /// # Errors
    ///
    /// As [`LifeLock::try_lock`].
    pub fn unlock(&self, index: u32) -> io::Result<()> {
        self.set(libc::F_UNLCK, byte(index)?, 1).map(drop)
    }

    /// Whether *another* description holds the byte of `index`. Our own locks do not count.
    ///
    /// # Errors
    ///
    /// As [`LifeLock::try_lock`].
    pub fn is_locked(&self, index: u32) -> io::Result<bool> {
        self.is_held(byte(index)?)
    }

    /// Locks the bytes of all indices at once, without waiting; false, with nothing locked anew, if any is held by
    /// another description.
    ///
    /// True proves that the segment has no participant, and keeps it so until [`LifeLock::unlock_all`].
    ///
    /// # Errors
    ///
    /// As [`LifeLock::try_lock`].
    pub fn try_lock_all(&self) -> io::Result<bool> {
        self.set(libc::F_WRLCK, FIRST, i64::from(INDICES))
    }

    /// Unlocks the bytes of all indices, those locked one by one included.
    ///
    /// # Errors
    ///
    /// As [`LifeLock::try_lock`].
    pub fn unlock_all(&self) -> io::Result<()> {
        self.set(libc::F_UNLCK, FIRST, i64::from(INDICES)).map(drop)
    }

    /// Whether locks on this file mean anything: one taken through a fresh description is seen through another,
    /// outlives the closing of a third, and ends with its own. Touches no participant's byte; any number of self-tests
    /// may run at once.
    ///
    /// # Errors
    ///
    /// Those of opening the file. A file system that knows no such locks is Ok(false).
    pub fn self_test(file: &File) -> io::Result<bool> {
        let (holder, observer) = (LifeLock::open(file)?, LifeLock::open(file)?);
        match prove(file, &holder, &observer) {
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS) => Ok(false),
                _ => Err(error),
            },
            proven => proven,
        }
    }

    /// Closes the description, once; every later call but the drop is an error or does nothing.
    ///
    /// Async-signal-safe. For a forked child, whose copy would keep the parent's locks alive after its death: while
    /// another copy is open, closing this one unlocks nothing.
    pub fn close_in_child(&self) {
        let fd = self.fd.swap(-1, Ordering::Relaxed);
        if fd >= 0 && forget(fd) {
            // SAFETY: the descriptor came from `into_raw_fd`, so it was ours alone, and the swap gave it to this call
            // alone.
            unsafe { libc::close(fd) };
        }
    }

    fn set(&self, kind: libc::c_int, start: i64, len: i64) -> io::Result<bool> {
        match self.fcntl(libc::F_OFD_SETLK, kind, start, len) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_held(&self, start: i64) -> io::Result<bool> {
        let found = self.fcntl(libc::F_OFD_GETLK, libc::F_WRLCK, start, 1)?;
        Ok(libc::c_int::from(found.l_type) != libc::F_UNLCK)
    }

    fn fcntl(&self, command: libc::c_int, kind: libc::c_int, start: i64, len: i64) -> io::Result<libc::flock> {
        // SAFETY: flock is a plain C structure, for which all zeroes is a valid value. (Open file description locks
        // require a pid of 0.)
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        (lock.l_start, lock.l_len) = (start, len);
        // SAFETY: both commands read, and F_OFD_GETLK also writes, one flock, which is live and writable. A descriptor
        // closed meanwhile (-1) is EBADF.
        if unsafe { libc::fcntl(self.fd.load(Ordering::Relaxed), command, &raw mut lock) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(lock)
    }
}

/// Takes `fd` out of the table; false if a forked child's hook was quicker and has closed it.
fn forget(fd: i32) -> bool {
    OPEN.iter().any(|slot| slot.compare_exchange(fd + 1, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok())
}

/// In a forked child: closes the copies of all the parent's life locks, so that the parent's death shows. A
/// `LifeLock` that is dropped later finds its descriptor forgotten and closes nothing.
fn close_all_in_child() {
    for slot in &OPEN {
        let fd = slot.swap(0, Ordering::Relaxed);
        if fd > 0 {
            // SAFETY: the table holds descriptors that came from `into_raw_fd` and were not closed; the swap gave this
            // one to this call alone.
            unsafe { libc::close(fd - 1) };
        }
    }
}

impl Drop for LifeLock {
    fn drop(&mut self) {
        self.close_in_child();
    }
}

fn byte(index: u32) -> io::Result<i64> {
    if index >= INDICES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "life lock index out of range"));
    }
    Ok(FIRST + i64::from(index))
}

fn prove(file: &File, holder: &LifeLock, observer: &LifeLock) -> io::Result<bool> {
    // A random byte is another self-test's only once in 2^40 times; then this one tries another byte.
    for _ in 0..3 {
        let at = SELF_TEST + (random_u64() % SELF_TEST_BYTES).cast_signed();
        if observer.is_held(at)? || !holder.set(libc::F_WRLCK, at, 1)? {
            continue;
        }
        drop(reopen(file)?);
        let excluded = observer.is_held(at)? && !observer.set(libc::F_WRLCK, at, 1)?;
        holder.set(libc::F_UNLCK, at, 1)?;
        return Ok(excluded && !observer.is_held(at)?);
    }
    Ok(false)
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
