//! What two processes, or two threads, do together.

use super::support::cpu::{self, Cpu};
use super::support::socket_manager::SocketManager;
use super::support::worker::{self, Named, Ready, Worker};
use super::{Commons, Group};
use criterion::Criterion;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Instant;

/// The second parties that are processes.
pub const PEERS: [Named; 4] = [COMMONS_BARRIER, SOCKET_BARRIER, COMMONS_TURNS, SOCKET_TURNS];

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

pub fn rows(criterion: &mut Criterion) {
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
