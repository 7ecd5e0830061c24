//! Tests of fork detection: through `fork`, through bare `clone`, in grandchildren, and without help from the kernel.

use super::*;
use crate::os::testing::Child;

static RUNS: AtomicU32 = AtomicU32::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);

fn hook() {
    SEEN.store(generation(), Ordering::Relaxed);
    RUNS.fetch_add(1, Ordering::Relaxed);
}

fn register() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| on_fork_child(hook));
}

/// In a child: it has a number of its own, and the hook ran once more, and saw that number.
fn check_child(parent: u64, runs_before: u32) {
    let mine = generation();
    assert!(mine != 0 && mine != parent && mine == generation());
    assert_eq!((RUNS.load(Ordering::Relaxed), SEEN.load(Ordering::Relaxed)), (runs_before + 1, mine));
}

/// The number is nonzero and the same in all threads, also when eight of them look first at once.
#[test]
fn one_process_one_number() {
    let numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(generation)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(numbers.iter().all(|&number| number != 0 && number == generation()));
}

/// After `fork` the hooks have run before the child does anything.
#[test]
fn fork_runs_the_hooks_at_once() {
    register();
    let (parent, runs) = (generation(), RUNS.load(Ordering::Relaxed));
    let child = Child::fork(|| {
        assert_eq!(RUNS.load(Ordering::Relaxed), runs + 1);
        check_child(parent, runs);
        let (number, runs) = (generation(), RUNS.load(Ordering::Relaxed));
        let grandchild = Child::fork(|| {
            check_child(number, runs);
            0
        });
        grandchild.wait().code().unwrap()
    });
    assert_eq!(child.wait().code(), Some(0));
    assert_eq!((generation(), RUNS.load(Ordering::Relaxed)), (parent, runs));
}

/// A child made by the bare system call is noticed at the first look, and its hooks run once, before any thread of it
/// goes on.
#[test]
fn a_bare_clone_is_noticed() {
    register();
    let (parent, runs) = (generation(), RUNS.load(Ordering::Relaxed));
    let child = Child::raw_clone(|| {
        assert_eq!(RUNS.load(Ordering::Relaxed), runs);
        check_child(parent, runs);
        check_child(parent, runs);
        0
    });
    assert_eq!(child.wait().code(), Some(0));
}

/// A bare clone whose first look comes from eight threads at once runs the hooks once, before any of them goes on.
#[test]
fn threads_of_a_child_wait_for_the_hooks() {
    register();
    let (parent, runs) = (generation(), RUNS.load(Ordering::Relaxed));
    let child = Child::fork(|| {
        // As after a bare clone, whose C library would not start threads.
        // SAFETY: as in `generation`.
        let page = unsafe { &*PAGE.load(Ordering::Acquire) };
        page.runner.store(0, Ordering::Relaxed);
        page.coming.store(0, Ordering::Relaxed);
        page.generation.store(0, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| check_child(parent, runs + 1));
            }
        });
        0
    });
    assert_eq!(child.wait().code(), Some(0));
}

/// Where the kernel cannot wipe pages, `fork` through the C library is still noticed, once.
#[test]
fn the_handler_suffices_for_fork() {
    register();
    let child = Child::fork(|| {
        let number = generation();
        UNWIPED.generation.store(number, Ordering::Relaxed);
        PAGE.store((&raw const UNWIPED).cast_mut(), Ordering::Release);
        assert_eq!(generation(), number);
        let runs = RUNS.load(Ordering::Relaxed);
        let grandchild = Child::fork(|| {
            check_child(number, runs);
            0
        });
        grandchild.wait().code().unwrap()
    });
    assert_eq!(child.wait().code(), Some(0));
}

/// Who has found nothing a moment ago, and is too late to be the first, is in no child.
#[test]
fn a_late_first_look_changes_nothing() {
    let number = generation();
    assert_eq!(first_look(), number);
    assert_eq!(generation(), number);
}
