//! Tests of life locks: exclusion, death, fork, and the self-test, on a memfd, on /dev/shm and on a real file system.

use super::*;
use crate::os::memfd;
use crate::os::testing::{Child, eventually, shared_words};

fn files() -> [File; 3] {
    [memfd("life", 4096).unwrap(), tempfile::tempfile().unwrap(), tempfile::tempfile_in("/dev/shm").unwrap()]
}

/// A byte is one description's at a time; others see it held, its holder does not.
#[test]
fn descriptions_exclude_each_other() {
    for file in files() {
        let (one, two) = (LifeLock::open(&file).unwrap(), LifeLock::open(&file).unwrap());
        assert!(one.try_lock(5).unwrap());
        assert!(one.try_lock(5).unwrap());
        assert!(!two.try_lock(5).unwrap());
        assert!(two.try_lock(6).unwrap());
        assert!(two.is_locked(5).unwrap() && !one.is_locked(5).unwrap());
        assert!(one.is_locked(6).unwrap());
        one.unlock(5).unwrap();
        assert!(!two.is_locked(5).unwrap());
        assert!(two.try_lock(5).unwrap());
        drop(two);
        assert!(one.try_lock(5).unwrap());
    }
}

/// An ordinary open and close of the same file in the same process does not drop the locks.
#[test]
fn unrelated_closes_keep_the_lock() {
    for file in files() {
        let (one, two) = (LifeLock::open(&file).unwrap(), LifeLock::open(&file).unwrap());
        assert!(one.try_lock(0).unwrap());
        drop(reopen(&file).unwrap());
        assert!(two.is_locked(0).unwrap());
    }
}

/// The whole range can be taken only when no byte of it is held, the last one included.
#[test]
fn all_means_nobody() {
    let file = memfd("all", 4096).unwrap();
    let (one, two) = (LifeLock::open(&file).unwrap(), LifeLock::open(&file).unwrap());
    assert!(one.try_lock(INDICES - 1).unwrap());
    assert!(!two.try_lock_all().unwrap());
    one.unlock(INDICES - 1).unwrap();
    assert!(two.try_lock_all().unwrap());
    assert!(!one.try_lock(0).unwrap() && !one.try_lock(INDICES - 1).unwrap());
    assert!(LifeLock::self_test(&file).unwrap());
    two.unlock_all().unwrap();
    assert!(one.try_lock(0).unwrap());
    assert_eq!(one.try_lock(INDICES).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

/// A killed process's lock is released, and a stopped one's is not.
#[test]
fn death_unlocks() {
    for file in files() {
        let words = shared_words();
        let child = Child::fork(|| {
            let lock = LifeLock::open(&file).unwrap();
            assert!(lock.try_lock(3).unwrap());
            words[0].store(1, Ordering::Release);
            loop {
                std::thread::park();
            }
        });
        let lock = LifeLock::open(&file).unwrap();
        eventually("locked", || words[0].load(Ordering::Acquire) == 1);
        assert!(lock.is_locked(3).unwrap());
        // SAFETY: kill has no memory precondition; the child is ours.
        unsafe { libc::kill(child.pid().cast_signed(), libc::SIGSTOP) };
        assert!(!lock.try_lock(3).unwrap());
        child.kill();
        eventually("released", || !lock.is_locked(3).unwrap());
    }
}

/// A forked child keeps its parent's lock alive until it closes its copy; closing there does not unlock the parent's.
#[test]
fn a_child_closes_its_copy() {
    let file = memfd("fork", 4096).unwrap();
    let (lock, words) = (LifeLock::open(&file).unwrap(), shared_words());
    assert!(lock.try_lock(1).unwrap());
    let _child = Child::fork(|| {
        eventually("asked to close", || words[0].load(Ordering::Acquire) == 1);
        lock.close_in_child();
        lock.close_in_child();
        assert_eq!(lock.try_lock(1).unwrap_err().raw_os_error(), Some(libc::EBADF));
        words[0].store(2, Ordering::Release);
        loop {
            std::thread::park();
        }
    });
    let observer = LifeLock::open(&file).unwrap();
    words[0].store(1, Ordering::Release);
    eventually("closed", || words[0].load(Ordering::Acquire) == 2);
    assert!(observer.is_locked(1).unwrap());
    drop(lock);
    // Children of concurrent tests may hold copies for a moment.
    eventually("released", || !observer.is_locked(1).unwrap());
}

/// The self-test passes on every local file system, also eight at once, and leaves no lock behind.
#[test]
fn self_tests_pass_and_do_not_collide() {
    for file in files() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| assert!(LifeLock::self_test(&file).unwrap())));
            }
        });
        assert!(LifeLock::open(&file).unwrap().try_lock_all().unwrap());
    }
}
