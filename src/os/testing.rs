//! Children for the unit tests of this floor: processes that share memory with the test, die on purpose, and leave an
//! exit status.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// A forked child; killed and reaped when dropped.
pub struct Child {
    pid: libc::pid_t,
    reaped: bool,
}

impl Child {
    /// Forks through the C library (so that `pthread_atfork` handlers run); the child runs `body` and exits with its
    /// value, or with 101 after a panic.
    pub fn fork(body: impl FnOnce() -> i32) -> Child {
        // SAFETY: the child runs only `body` and `_exit`. It has one thread, but glibc makes its allocator usable after
        // a fork of several, and the bodies of these tests take no other lock of ours.
        Child::start(unsafe { libc::fork() }, body)
    }

    /// As [`Child::fork`], but by the bare system call, of which no handler hears.
    pub fn raw_clone(body: impl FnOnce() -> i32) -> Child {
        // SAFETY: without CLONE_VM and a stack this is fork(2): the child goes on with a copy of everything; see `fork`.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        Child::start(i32::try_from(pid).expect("a pid"), body)
    }

    fn start(pid: libc::pid_t, body: impl FnOnce() -> i32) -> Child {
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: `_exit` has no precondition; it keeps the test harness from running a second time.
            unsafe { libc::_exit(code) }
        }
        Child { pid, reaped: false }
    }

    /// The child's pid.
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        // SAFETY: kill(2) has no memory precondition, and the pid is ours until it is reaped.
        assert_eq!(unsafe { libc::kill(self.pid, libc::SIGKILL) }, 0);
    }

    /// Waits for the end of the child, and reaps it.
    pub fn wait(mut self) -> ExitStatus {
        self.reap()
    }

    fn reap(&mut self) -> ExitStatus {
        self.reaped = true;
        let mut status = 0;
        // SAFETY: `status` is a live, writable integer, and the pid is that of our unreaped child.
        assert_eq!(unsafe { libc::waitpid(self.pid, &raw mut status, 0) }, self.pid);
        ExitStatus::from_raw(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

/// A page of zeroed words that forked children share with the test. Never unmapped: a test process is short-lived.
pub fn shared_words() -> &'static [AtomicU64; 512] {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice cannot touch memory in use.
    let page = unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, prot, MapFlags::SHARED) }.expect("a page");
    // SAFETY: the mapping is 4096 bytes, page-aligned, zeroed (valid for atomics), and lives as long as the process.
    unsafe { &*page.cast() }
}

/// Waits for `condition`, at most ten seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed().as_secs() < 10, "still not: {what}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
