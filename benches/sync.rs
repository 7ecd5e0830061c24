//! Synchronisation beside the plain lock: in one thread that nobody disturbs, and between two processes.
//!
//! Rows: `commons`; a rival for the threads of one process, `parking-lot` or `std`; and `socket-manager`, where every
//! operation is a round trip to a server process.
//!
//! All rows of a group do equal work: one generic function calls them and checks what happened.
//!
//! - `rlock`: taken, taken again, an increment, released twice.
//! - `rwlock/read`, `rwlock/write`: taken, a word read or incremented, released.
//! - `semaphore`: one of three permits taken and released. For the threads of one process neither `std` nor `parking-lot`
//!   has one; the rival is what is built instead, a mutex with a condition variable.
//! - `event`: set, tested, cleared, tested. The rival is an atomic flag, with which nobody could wait.
//! - `once`: the value that was made before.
//! - `barrier`: two processes (for the rival: threads) come and go on, again and again.
//! - `condition`: two processes (threads) take turns. Each waits under the lock for its turn, checks it, gives it to the
//!   other and notifies; time is for both turns.
//!
//! The last two groups are there twice: with both parties on one CPU, and with each on its own (the server is on the
//! bench's). The second party is told how often to take part before the clock starts.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group};
use parking_lot::{Condvar, Mutex, ReentrantMutex, RwLock};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::thread;
use std::time::Instant;
use support::cpu::{self, Cpu};
use support::socket_manager::SocketManager;
use support::worker::{self, Named, Ready, Worker};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// One object and the manager that must outlive it.
struct Commons<T> {
    _manager: commons::Manager,
    object: T,
}

impl<T> Commons<T> {
    fn new(make: fn(&commons::Manager) -> commons::Result<T>) -> Self {
        let manager = commons::Manager::new().expect("manager");
        let object = make(&manager).expect("object");
        Commons { _manager: manager, object }
    }
}

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

fn one_thread(criterion: &mut Criterion) {
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

/// Which of two a party is.
#[derive(Clone, Copy)]
enum Side {
    Bench,
    Peer,
}

/// What one of two parties does in a round of the game, in which the other does the same. Failures panic.
trait Party {
    fn round(&mut self);
}

/// A game whose second party is somebody else.
trait Game: Party + Sized {
    type Peer: Peer;

    /// The first party; the second is ready on `cpu`.
    fn start(cpu: Cpu) -> (Self, Self::Peer);
}

/// How the second party is told what to do.
trait Peer {
    /// Has it take part in so many rounds.
    fn assign(&mut self, rounds: u64);

    /// Waits for the end of one that has no more rounds to go.
    fn stop(self);
}

impl Peer for Worker {
    fn assign(&mut self, rounds: u64) {
        Worker::assign(self, rounds);
    }

    fn stop(self) {
        Worker::stop(self);
    }
}

/// What a second party that is a process does.
fn take_part(mut party: impl Party, ready: Ready) {
    ready.signal();
    for rounds in worker::assignments() {
        (0..rounds).for_each(|_| party.round());
    }
}

/// A second party that is a thread.
struct ThreadPeer {
    assignments: mpsc::Sender<u64>,
    thread: thread::JoinHandle<()>,
}

impl ThreadPeer {
    fn start(mut party: impl Party + Send + 'static, cpu: Cpu) -> Self {
        let (assignments, received) = mpsc::channel();
        let thread = thread::spawn(move || {
            cpu::pin(cpu);
            for rounds in received {
                (0..rounds).for_each(|_| party.round());
            }
        });
        ThreadPeer { assignments, thread }
    }
}

impl Peer for ThreadPeer {
    fn assign(&mut self, rounds: u64) {
        self.assignments.send(rounds).expect("a running thread");
    }

    fn stop(self) {
        drop(self.assignments);
        self.thread.join().expect("the second party");
    }
}

impl Party for commons::Barrier {
    fn round(&mut self) {
        let passage = self.wait().expect("wait");
        assert!(matches!(passage, commons::Passage::Passed { .. }), "{passage:?}");
    }
}

const COMMONS_BARRIER: Named = ("commons-barrier", |handle, ready| {
    take_part(postcard::from_bytes::<commons::Barrier>(&handle).expect("a barrier"), ready);
});

impl Party for Commons<commons::Barrier> {
    fn round(&mut self) {
        self.object.round();
    }
}

impl Game for Commons<commons::Barrier> {
    type Peer = Worker;

    fn start(cpu: Cpu) -> (Self, Worker) {
        let barrier = Commons::new(|manager| manager.barrier(2));
        let handle = postcard::to_stdvec(&barrier.object).expect("a handle");
        let worker = Worker::start(COMMONS_BARRIER.0, &handle, cpu);
        (barrier, worker)
    }
}

impl Party for Arc<Barrier> {
    fn round(&mut self) {
        self.wait();
    }
}

impl Game for Arc<Barrier> {
    type Peer = ThreadPeer;

    fn start(cpu: Cpu) -> (Self, ThreadPeer) {
        let barrier = Arc::new(Barrier::new(2));
        (Arc::clone(&barrier), ThreadPeer::start(barrier, cpu))
    }
}

/// A socket manager, used for a barrier.
struct SocketBarrier(SocketManager);

const SOCKET_BARRIER: Named = ("socket-barrier", |address, ready| {
    let address = String::from_utf8(address).expect("an address");
    take_part(SocketBarrier(SocketManager::connect(&address)), ready);
});

impl Party for SocketBarrier {
    fn round(&mut self) {
        self.0.barrier_wait(0);
    }
}

impl Game for SocketBarrier {
    type Peer = Worker;

    fn start(cpu: Cpu) -> (Self, Worker) {
        let manager = SocketManager::start();
        let worker = Worker::start(SOCKET_BARRIER.0, manager.address().as_bytes(), cpu);
        (SocketBarrier(manager), worker)
    }
}

/// One of two who take turns. Turns are numbered: the even ones are the bench's.
struct Turns<T> {
    table: T,
    next: u64,
}

impl<T> Turns<T> {
    fn new(table: T, side: Side) -> Self {
        Turns { table, next: side as u64 }
    }
}

/// Where turns are taken. Failures panic.
trait Table {
    /// Waits for turn `mine`, and says that the next one has come.
    fn take(&mut self, mine: u64);
}

impl<T: Table> Party for Turns<T> {
    fn round(&mut self) {
        self.table.take(self.next);
        self.next += 2;
    }
}

type Turn = commons::Lock<u64>;

/// The condition of the lock with the turn.
type CommonsTable = commons::Condition<Turn>;

impl Table for CommonsTable {
    fn take(&mut self, mine: u64) {
        let guard = self.lock().lock().expect("lock").into_guard();
        let mut turn = guard.get().expect("get");
        while turn != mine {
            assert_eq!(turn + 1, mine);
            assert_eq!(self.wait().expect("wait").into_guard(), commons::Woken::Notified);
            turn = guard.get().expect("get");
        }
        guard.set(&(mine + 1)).expect("set");
        self.notify_one().expect("notify");
    }
}

impl Table for Commons<CommonsTable> {
    fn take(&mut self, mine: u64) {
        self.object.take(mine);
    }
}

const COMMONS_TURNS: Named = ("commons-turns", |handle, ready| {
    let table: CommonsTable = postcard::from_bytes(&handle).expect("a condition");
    take_part(Turns::new(table, Side::Peer), ready);
});

impl Game for Turns<Commons<CommonsTable>> {
    type Peer = Worker;

    fn start(cpu: Cpu) -> (Self, Worker) {
        let table = Commons::new(|manager| manager.condition(&manager.lock(0)?));
        let handle = postcard::to_stdvec(&table.object).expect("a handle");
        let worker = Worker::start(COMMONS_TURNS.0, &handle, cpu);
        (Turns::new(table, Side::Bench), worker)
    }
}

type ThreadTable = Arc<(Mutex<u64>, Condvar)>;

impl Table for ThreadTable {
    fn take(&mut self, mine: u64) {
        let (turn, changed) = &**self;
        let mut turn = turn.lock();
        while *turn != mine {
            assert_eq!(*turn + 1, mine);
            changed.wait(&mut turn);
        }
        *turn = mine + 1;
        changed.notify_one();
    }
}

impl Game for Turns<ThreadTable> {
    type Peer = ThreadPeer;

    fn start(cpu: Cpu) -> (Self, ThreadPeer) {
        let table = ThreadTable::default();
        let peer = ThreadPeer::start(Turns::new(Arc::clone(&table), Side::Peer), cpu);
        (Turns::new(table, Side::Bench), peer)
    }
}

/// Its lock 0 with the condition of that, and the turn in value 0.
impl Table for SocketManager {
    fn take(&mut self, mine: u64) {
        self.lock_acquire(0);
        let mut turn = self.value_load(0);
        while turn != mine {
            assert_eq!(turn + 1, mine);
            self.lock_wait(0);
            turn = self.value_load(0);
        }
        self.value_store(0, mine + 1);
        self.lock_notify(0);
        self.lock_release(0);
    }
}

const SOCKET_TURNS: Named = ("socket-turns", |address, ready| {
    let address = String::from_utf8(address).expect("an address");
    take_part(Turns::new(SocketManager::connect(&address), Side::Peer), ready);
});

impl Game for Turns<SocketManager> {
    type Peer = Worker;

    fn start(cpu: Cpu) -> (Self, Worker) {
        let manager = SocketManager::start();
        let worker = Worker::start(SOCKET_TURNS.0, manager.address().as_bytes(), cpu);
        (Turns::new(manager, Side::Bench), worker)
    }
}

/// The first round of a sample, in which the second party gets going, is not timed.
fn play<G: Game>(group: &mut Group, row: &str, cpu: Cpu) {
    let mut game: Option<(G, G::Peer)> = None;
    group.bench_function(row, |bencher| {
        let (party, peer) = game.get_or_insert_with(|| G::start(cpu));
        bencher.iter_custom(|rounds| {
            peer.assign(rounds + 1);
            party.round();
            let start = Instant::now();
            (0..rounds).for_each(|_| party.round());
            start.elapsed()
        });
    });
    if let Some((party, peer)) = game {
        peer.stop();
        drop(party);
    }
}

fn two_parties(criterion: &mut Criterion) {
    for (place, cpu) in [("one-cpu", Some(cpu::home())), ("two-cpus", cpu::away())] {
        let Some(cpu) = cpu else { continue };
        let mut group = criterion.benchmark_group(format!("sync/barrier/{place}"));
        play::<Commons<commons::Barrier>>(&mut group, "commons", cpu);
        play::<Arc<Barrier>>(&mut group, "std", cpu);
        play::<SocketBarrier>(&mut group, "socket-manager", cpu);
        group.finish();

        let mut group = criterion.benchmark_group(format!("sync/condition/{place}"));
        play::<Turns<Commons<CommonsTable>>>(&mut group, "commons", cpu);
        play::<Turns<ThreadTable>>(&mut group, "parking-lot", cpu);
        play::<Turns<SocketManager>>(&mut group, "socket-manager", cpu);
        group.finish();
    }
}

criterion_group!(name = benches; config = support::criterion(); targets = one_thread, two_parties);

fn main() {
    commons::init();
    support::init(&[COMMONS_BARRIER, SOCKET_BARRIER, COMMONS_TURNS, SOCKET_TURNS]);
    benches();
}
