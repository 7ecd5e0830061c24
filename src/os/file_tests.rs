//! Tests of segment files: seals, hostile names, second descriptions, reservation and publication.

use super::*;
use std::os::unix::fs::{FileExt, symlink};

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

/// A memfd's size is fixed both ways, while storage can still be reserved, written and freed within it.
#[test]
fn a_sealed_memfd_keeps_its_size_and_can_be_reserved() {
    let file = memfd("sealed", 8 << 20).unwrap();
    assert_eq!(code(set_len(&file, 4096)), Some(libc::EPERM));
    assert_eq!(code(set_len(&file, 16 << 20)), Some(libc::EPERM));
    reserve(&file, 1 << 20, 3 << 20).unwrap();
    reserve(&file, 1 << 20, 3 << 20).unwrap();
    reserve(&file, 7 << 20, 8 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().blocks() * 512, 3 << 20);
    assert_eq!(code(reserve(&file, 8 << 20, 9 << 20)), Some(libc::EPERM));
    assert_eq!(file_size(&file).unwrap(), 8 << 20);
    file.write_all_at(b"x", (8 << 20) - 1).unwrap();
    assert_eq!(mode_owner(&file).unwrap().0, 0o600);
    reserve(&file, 5, 5).unwrap();
    reserve(&file, 6, 5).unwrap();
}

/// A label with a NUL, or too long, is an error.
#[test]
fn bad_labels_are_refused() {
    assert_eq!(code(memfd("a\0b", 1)), Some(libc::EINVAL));
    assert_eq!(code(memfd(&"x".repeat(250), 1)), Some(libc::EINVAL));
}

/// More than a bounded tmpfs holds is ENOSPC, and leaves size and storage alone.
#[test]
fn reserving_too_much_is_an_error() {
    // Never on a memfd: those belong to a tmpfs without a bound, where the kernel would go on until it is out of memory.
    // A bounded tmpfs refuses what it could never hold before it allocates a page.
    let bound = rustix::fs::statvfs("/dev/shm").unwrap();
    let (bytes, ask) = (bound.f_blocks.saturating_mul(bound.f_frsize), 1 << 50);
    if bytes == 0 || bytes >= ask {
        return;
    }
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    set_len(&file, 1 << 50).unwrap();
    assert_eq!(code(reserve(&file, 0, ask)), Some(libc::ENOSPC));
    assert_eq!((file_size(&file).unwrap(), file.metadata().unwrap().blocks()), (1 << 50, 0));
}

/// A timer that interrupts the kernel every half millisecond delays a large reservation, but does not defeat it.
#[test]
fn reservation_makes_progress_under_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    // In a child: the timer and the handler are the process's.
    let child = crate::os::testing::Child::fork(|| {
        let every = libc::timeval { tv_sec: 0, tv_usec: 500 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: the handler does nothing, which is async-signal-safe; `timer` is live for the call.
        unsafe {
            libc::signal(libc::SIGALRM, nothing as *const () as usize);
            libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
        }
        let file = memfd("interrupted", 32 << 20).unwrap();
        reserve(&file, 0, 32 << 20).unwrap();
        i32::from(file.metadata().unwrap().blocks() * 512 != 32 << 20)
    });
    assert_eq!(child.wait().code(), Some(0));
}

/// Opening by name takes regular files, and refuses links, FIFOs (without blocking), directories and sockets.
#[test]
fn only_regular_files_open() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), b"hello").unwrap();
    symlink(at("file"), at("link")).unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for writable in [false, true] {
        let file = open_segment(&at("file"), writable).unwrap();
        assert_eq!(file_id(&file).unwrap(), path_id(&at("file")).unwrap());
        assert_eq!(code(open_segment(&at("link"), writable)), Some(libc::ELOOP));
        assert_eq!(code(open_segment(&at("fifo"), writable)), Some(libc::ENXIO));
        assert_eq!(code(open_segment(&at("socket"), writable)), Some(libc::ENXIO));
        assert!(matches!(code(open_segment(dir.path(), writable)), Some(libc::EISDIR | libc::ENXIO)));
        assert_eq!(code(open_segment(&at("none"), writable)), Some(libc::ENOENT));
    }
    assert_ne!(path_id(&at("link")).unwrap(), path_id(&at("file")).unwrap());
}

/// Reopening gives the same file by another description: each has its own position.
#[test]
fn reopening_is_not_duplicating() {
    use std::io::{Read, Write};
    let mut one = memfd("reopen", 4096).unwrap();
    one.write_all(b"four").unwrap();
    let mut two = reopen(&one).unwrap();
    let mut four = [0; 4];
    two.read_exact(&mut four).unwrap();
    assert_eq!((&four, file_id(&one).unwrap()), (b"four", file_id(&two).unwrap()));
    let peer = open_peer(std::process::id(), one.as_raw_fd().cast_unsigned()).unwrap();
    assert_eq!(file_id(&peer).unwrap(), file_id(&one).unwrap());
    assert_eq!(code(open_peer(std::process::id(), 1 << 30)), Some(libc::ENOENT));
}

/// A memfd is found by its whole label while somebody has it open, and not after.
#[test]
fn memfds_are_found_by_label() {
    let label = format!("find-{}", std::process::id());
    assert!(find_memfd(&label).unwrap().is_none());
    let file = memfd(&label, 4096).unwrap();
    let found = find_memfd(&label).unwrap().unwrap();
    assert_eq!(file_id(&found).unwrap(), file_id(&file).unwrap());
    assert!(find_memfd(&label[1..]).unwrap().is_none());
    drop((file, found));
    // A child forked by a concurrent test may hold a copy for a moment.
    crate::os::testing::eventually("gone", || find_memfd(&label).unwrap().is_none());
}

/// Publishing moves the file under its final name once; a second file is refused and keeps its temporary name.
#[test]
fn publication_never_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (way, last) in [(publish as fn(&Path, &Path) -> io::Result<()>, "a"), (publish_by_link, "b")] {
        fs::write(at("one"), b"1").unwrap();
        fs::write(at("two"), b"2").unwrap();
        way(&at("one"), &at(last)).unwrap();
        assert!(!at("one").exists());
        assert_eq!(code(way(&at("two"), &at(last))), Some(libc::EEXIST));
        assert_eq!(fs::read(at(last)).unwrap(), b"1");
        assert!(at("two").exists());
        assert_eq!(code(way(&at("none"), &at("c"))), Some(libc::ENOENT));
    }
}

/// Sizes and modes are as set, and syncing succeeds on a real file.
#[test]
fn sizes_and_modes_are_as_set() {
    let file = tempfile::tempfile().unwrap();
    set_len(&file, 12345).unwrap();
    set_mode(&file, 0o640).unwrap();
    assert_eq!(file_size(&file).unwrap(), 12345);
    assert_eq!(mode_owner(&file).unwrap(), (0o640, rustix::process::geteuid().as_raw()));
    reserve(&file, 0, 1 << 20).unwrap();
    assert_eq!(file_size(&file).unwrap(), 12345);
    sync(&file).unwrap();
}
