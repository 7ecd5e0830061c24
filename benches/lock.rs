//! Locks: lock, increment, unlock, in one thread that nobody disturbs.
//!
//! Rows: `commons`; `parking-lot`, a mutex for the threads of one process; `raw-sync`, a pthread mutex in shared
//! memory, which a killed holder leaves locked; and `socket-manager`, where locking and unlocking are a round trip
//! each to a server process.
//!
//! All rows do equal work: the counter is one kind of word in this process's memory, incremented by a load and a store
//! while the lock is held, and checked at the end.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group};
use raw_sync::locks::{LockImpl, LockInit};
use shared_memory::{Shmem, ShmemConf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use support::socket_manager::SocketManager;

/// A lock. Failures panic.
trait Rival {
    fn new() -> Self;

    /// Increments `counter` while the lock is held.
    fn increment(&mut self, counter: &AtomicU64);
}

/// The work under the lock. Not one atomic operation: without the lock, threads would lose increments.
#[inline]
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A lock and the manager that must outlive it.
struct Commons {
    _manager: commons::Manager,
    lock: commons::Lock<()>,
}

impl Rival for Commons {
    fn new() -> Self {
        let manager = commons::Manager::new().expect("manager");
        let lock = manager.lock(()).expect("lock");
        Commons { _manager: manager, lock }
    }

    fn increment(&mut self, counter: &AtomicU64) {
        let guard = self.lock.lock().expect("lock").into_guard();
        bump(counter);
        drop(guard);
    }
}

impl Rival for parking_lot::Mutex<()> {
    fn new() -> Self {
        parking_lot::Mutex::new(())
    }

    fn increment(&mut self, counter: &AtomicU64) {
        let guard = self.lock();
        bump(counter);
        drop(guard);
    }
}

/// A lock in a segment of its own; fields drop in this order.
struct RawSync {
    lock: Box<dyn LockImpl>,
    _segment: Shmem,
}

impl Rival for RawSync {
    fn new() -> Self {
        let segment = ShmemConf::new().size(4096).create().expect("segment");
        // SAFETY:
        // - the segment is writable, page-aligned, larger than a mutex, and outlives the lock;
        // - the second pointer is only what a guard dereferences to, and no guard is dereferenced.
        let made = unsafe { raw_sync::locks::Mutex::new(segment.as_ptr(), ptr::null_mut()) };
        RawSync { lock: made.expect("lock").0, _segment: segment }
    }

    fn increment(&mut self, counter: &AtomicU64) {
        let guard = self.lock.lock().expect("lock");
        bump(counter);
        drop(guard);
    }
}

impl Rival for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn increment(&mut self, counter: &AtomicU64) {
        self.lock_acquire(0);
        bump(counter);
        self.lock_release(0);
    }
}

fn uncontended<R: Rival>(group: &mut BenchmarkGroup<WallTime>, row: &str) {
    let counter = AtomicU64::new(0);
    let mut expected = 0;
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| {
            rival.increment(&counter);
            expected += 1;
        });
    });
    assert_eq!(counter.into_inner(), expected);
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lock/uncontended");
    uncontended::<Commons>(&mut group, "commons");
    uncontended::<parking_lot::Mutex<()>>(&mut group, "parking-lot");
    uncontended::<RawSync>(&mut group, "raw-sync");
    uncontended::<SocketManager>(&mut group, "socket-manager");
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = rows);

fn main() {
    commons::init();
    support::init(&[]);
    benches();
}
