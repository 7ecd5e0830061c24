//! What one thread does that nobody disturbs.

use super::support::socket_manager::SocketManager;
use super::{Commons, Group};
use criterion::Criterion;
use parking_lot::{Condvar, Mutex, ReentrantMutex, RwLock};
use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The work under a lock. Not one atomic operation: without the lock, threads would lose increments.
#[inline]
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A lock that its holder may take again. Failures panic.
trait Reentrant {
    fn new() -> Self;

    /// Increments `counter` while the lock is held twice.
    fn increment(&mut self, counter: &AtomicU64);
}

impl Reentrant for Commons<commons::RLock> {
    fn new() -> Self {
        Commons::new(|manager| manager.rlock(()))
    }

    fn increment(&mut self, counter: &AtomicU64) {
        let outer = self.object.lock().expect("lock").into_guard();
        let inner = self.object.lock().expect("lock").into_guard();
        bump(counter);
        drop(inner);
        drop(outer);
    }
}

impl Reentrant for ReentrantMutex<()> {
    fn new() -> Self {
        ReentrantMutex::new(())
    }

    fn increment(&mut self, counter: &AtomicU64) {
        let outer = self.lock();
        let inner = self.lock();
        bump(counter);
        drop(inner);
        drop(outer);
    }
}

impl Reentrant for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn increment(&mut self, counter: &AtomicU64) {
        self.reentrant_acquire(0);
        self.reentrant_acquire(0);
        bump(counter);
        self.reentrant_release(0);
        self.reentrant_release(0);
    }
}

fn twice<R: Reentrant>(group: &mut Group, row: &str) {
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

/// A lock to read or to write. Failures panic.
trait Shared {
    fn new() -> Self;

    /// Reads `counter` while others may.
    fn read(&mut self, counter: &AtomicU64) -> u64;

    /// Increments `counter` while nobody else reads or writes.
    fn write(&mut self, counter: &AtomicU64);
}

impl Shared for Commons<commons::RwLock> {
    fn new() -> Self {
        Commons::new(|manager| manager.rwlock(()))
    }

    fn read(&mut self, counter: &AtomicU64) -> u64 {
        let _guard = self.object.read().expect("read").into_guard();
        counter.load(Ordering::Relaxed)
    }

    fn write(&mut self, counter: &AtomicU64) {
        let _guard = self.object.write().expect("write").into_guard();
        bump(counter);
    }
}

impl Shared for RwLock<()> {
    fn new() -> Self {
        RwLock::new(())
    }

    fn read(&mut self, counter: &AtomicU64) -> u64 {
        let _guard = RwLock::read(self);
        counter.load(Ordering::Relaxed)
    }

    fn write(&mut self, counter: &AtomicU64) {
        let _guard = RwLock::write(self);
        bump(counter);
    }
}

impl Shared for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn read(&mut self, counter: &AtomicU64) -> u64 {
        self.read_acquire(0);
        let count = counter.load(Ordering::Relaxed);
        self.read_release(0);
        count
    }

    fn write(&mut self, counter: &AtomicU64) {
        self.write_acquire(0);
        bump(counter);
        self.write_release(0);
    }
}

fn read<R: Shared>(group: &mut Group, row: &str) {
    let counter = AtomicU64::new(7);
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| assert_eq!(rival.read(black_box(&counter)), 7));
    });
}

fn write<R: Shared>(group: &mut Group, row: &str) {
    let counter = AtomicU64::new(0);
    let mut expected = 0;
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| {
            rival.write(&counter);
            expected += 1;
        });
    });
    assert_eq!(counter.into_inner(), expected);
}

/// Permits of a semaphore.
const PERMITS: u32 = 3;

/// A semaphore with [`PERMITS`]. Failures panic.
trait Permits {
    fn new() -> Self;
    fn acquire(&mut self);
    fn release(&mut self);
}

impl Permits for Commons<commons::Semaphore> {
    fn new() -> Self {
        Commons::new(|manager| manager.semaphore(PERMITS))
    }

    fn acquire(&mut self) {
        self.object.acquire().expect("acquire");
    }

    fn release(&mut self) {
        self.object.release().expect("release");
    }
}

/// Permits that are free, and the news of a released one.
struct MutexSemaphore(Mutex<u32>, Condvar);

impl Permits for MutexSemaphore {
    fn new() -> Self {
        MutexSemaphore(Mutex::new(PERMITS), Condvar::new())
    }

    fn acquire(&mut self) {
        let mut free = self.0.lock();
        self.1.wait_while(&mut free, |free| *free == 0);
        *free -= 1;
    }

    fn release(&mut self) {
        *self.0.lock() += 1;
        self.1.notify_one();
    }
}

impl Permits for SocketManager {
    fn new() -> Self {
        let mut manager = SocketManager::start();
        (0..PERMITS).for_each(|_| manager.semaphore_release(0));
        manager
    }

    fn acquire(&mut self) {
        self.semaphore_acquire(0);
    }

    fn release(&mut self) {
        self.semaphore_release(0);
    }
}

/// A permit too few would show: at the end all are taken.
fn permit<R: Permits>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| {
            rival.acquire();
            rival.release();
        });
    });
    if let Some(mut rival) = rival {
        (0..PERMITS).for_each(|_| rival.acquire());
    }
}

/// A flag. Failures panic.
trait Flag {
    fn new() -> Self;
    fn set(&mut self);
    fn clear(&mut self);
    fn is_set(&mut self) -> bool;
}

impl Flag for Commons<commons::Event> {
    fn new() -> Self {
        Commons::new(commons::Manager::event)
    }

    fn set(&mut self) {
        self.object.set().expect("set");
    }

    fn clear(&mut self) {
        self.object.clear().expect("clear");
    }

    fn is_set(&mut self) -> bool {
        self.object.is_set().expect("is_set")
    }
}

impl Flag for AtomicBool {
    fn new() -> Self {
        AtomicBool::new(false)
    }

    fn set(&mut self) {
        self.store(true, Ordering::SeqCst);
    }

    fn clear(&mut self) {
        self.store(false, Ordering::SeqCst);
    }

    fn is_set(&mut self) -> bool {
        self.load(Ordering::SeqCst)
    }
}

impl Flag for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn set(&mut self) {
        self.event_set(0);
    }

    fn clear(&mut self) {
        self.event_clear(0);
    }

    fn is_set(&mut self) -> bool {
        self.event_is_set(0)
    }
}

fn flag<R: Flag>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| {
            rival.set();
            assert!(black_box(&mut *rival).is_set());
            rival.clear();
            assert!(!black_box(&mut *rival).is_set());
        });
    });
}

/// The value that was made.
const MADE: u64 = 12;

/// A value that is made once, and was. Failures panic.
trait Made {
    fn new() -> Self;
    fn get(&mut self) -> u64;
}

impl Made for Commons<commons::Once<u64>> {
    fn new() -> Self {
        let once = Commons::new(commons::Manager::once);
        assert_eq!(once.object.get_or_init(|_| Ok(MADE)).expect("get_or_init"), MADE);
        once
    }

    fn get(&mut self) -> u64 {
        self.object.get().expect("get").expect("a value")
    }
}

impl Made for OnceLock<u64> {
    fn new() -> Self {
        OnceLock::from(MADE)
    }

    fn get(&mut self) -> u64 {
        *OnceLock::get(self).expect("a value")
    }
}

impl Made for SocketManager {
    fn new() -> Self {
        let mut manager = SocketManager::start();
        manager.dict_set(0, b"once", &MADE.to_le_bytes());
        manager
    }

    fn get(&mut self) -> u64 {
        let made = self.dict_get(0, b"once").expect("a value");
        u64::from_le_bytes(made.try_into().expect("a word"))
    }
}

fn made<R: Made>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| assert_eq!(black_box(&mut *rival).get(), MADE));
    });
}

pub fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sync/rlock");
    twice::<Commons<commons::RLock>>(&mut group, "commons");
    twice::<ReentrantMutex<()>>(&mut group, "parking-lot");
    twice::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("sync/rwlock/read");
    read::<Commons<commons::RwLock>>(&mut group, "commons");
    read::<RwLock<()>>(&mut group, "parking-lot");
    read::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("sync/rwlock/write");
    write::<Commons<commons::RwLock>>(&mut group, "commons");
    write::<RwLock<()>>(&mut group, "parking-lot");
    write::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("sync/semaphore");
    permit::<Commons<commons::Semaphore>>(&mut group, "commons");
    permit::<MutexSemaphore>(&mut group, "parking-lot");
    permit::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("sync/event");
    flag::<Commons<commons::Event>>(&mut group, "commons");
    flag::<AtomicBool>(&mut group, "std");
    flag::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("sync/once");
    made::<Commons<commons::Once<u64>>>(&mut group, "commons");
    made::<OnceLock<u64>>(&mut group, "std");
    made::<SocketManager>(&mut group, "socket-manager");
    group.finish();
}
