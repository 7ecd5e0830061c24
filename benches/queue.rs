//! Queues: a put and a get in one thread, and a round trip between two processes.
//!
//! Rows: `commons`; `array-queue`, crossbeam's bounded queue for the threads of one process (in one thread only); and
//! `socket-manager`, where every operation is a round trip to a server process.
//!
//! All rows of a group do equal work: one generic function makes the same messages and checks each one it gets.
//!
//! - `put-get`: a message of 8 or 256 bytes into an empty queue and out again, no waiting.
//! - `round-trip`: 8 bytes to another process over one queue, and back over a second one; both gets wait. For the
//!   socket manager these are four requests, which is what its users would do. Once with both processes on one CPU, and
//!   once with each on its own (the server is on the bench's).

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group};
use crossbeam_queue::ArrayQueue;
use std::hint::black_box;
use support::cpu::{self, Cpu};
use support::keys::Numbered;
use support::socket_manager::SocketManager;
use support::worker::{Named, Ready, Worker};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Messages that fit in a bounded queue.
const CAPACITY: usize = 1024;

/// The message that ends a peer process.
const STOP: u64 = u64::MAX;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// One queue of a rival. Failures panic.
trait Rival<T> {
    fn put(&mut self, message: &T);
    fn get(&mut self) -> T;
}

/// A queue and the manager that must outlive it.
struct Commons<Q> {
    _manager: commons::Manager,
    queue: Q,
}

type CommonsWords = commons::Queue<u64>;
type CommonsBytes = commons::Queue<[u8; 256], commons::Pod>;

fn commons_words() -> Commons<CommonsWords> {
    let manager = commons::Manager::new().expect("manager");
    let queue = manager.queue(CAPACITY).expect("queue");
    Commons { _manager: manager, queue }
}

fn commons_bytes() -> Commons<CommonsBytes> {
    let manager = commons::Manager::new().expect("manager");
    let queue = manager.queue_with(CAPACITY).expect("queue");
    Commons { _manager: manager, queue }
}

impl Rival<u64> for Commons<CommonsWords> {
    fn put(&mut self, message: &u64) {
        self.queue.put(message).expect("put");
    }

    fn get(&mut self) -> u64 {
        self.queue.get().expect("get")
    }
}

impl Rival<[u8; 256]> for Commons<CommonsBytes> {
    fn put(&mut self, message: &[u8; 256]) {
        self.queue.put(message).expect("put");
    }

    fn get(&mut self) -> [u8; 256] {
        self.queue.get().expect("get")
    }
}

impl<T: Copy> Rival<T> for ArrayQueue<T> {
    fn put(&mut self, message: &T) {
        assert!(self.push(*message).is_ok(), "room");
    }

    fn get(&mut self) -> T {
        self.pop().expect("a message")
    }
}

impl<T: IntoBytes + FromBytes + Immutable> Rival<T> for SocketManager {
    fn put(&mut self, message: &T) {
        self.queue_put(0, message.as_bytes());
    }

    fn get(&mut self) -> T {
        T::read_from_bytes(self.queue_get(0)).expect("a message")
    }
}

fn put_get<T: Numbered, R: Rival<T>>(group: &mut Group, row: &str, new: fn() -> R) {
    let mut rival = None;
    let mut n = 0;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(new);
        bencher.iter(|| {
            rival.put(&T::numbered(n));
            assert_eq!(black_box(rival.get()).number(), n);
            n += 1;
        });
    });
}

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue/put-get/8B");
    put_get::<u64, _>(&mut group, "commons", commons_words);
    put_get::<u64, _>(&mut group, "array-queue", || ArrayQueue::new(CAPACITY));
    put_get::<u64, _>(&mut group, "socket-manager", SocketManager::start);
    group.finish();

    let mut group = criterion.benchmark_group("queue/put-get/256B");
    put_get::<[u8; 256], _>(&mut group, "commons", commons_bytes);
    put_get::<[u8; 256], _>(&mut group, "array-queue", || ArrayQueue::new(CAPACITY));
    put_get::<[u8; 256], _>(&mut group, "socket-manager", SocketManager::start);
    group.finish();
}

/// This process's ends of two queues, and the process that returns what it gets over one of them by the other.
trait Pair {
    /// Starts the peer on `cpu`; returns once it is ready.
    fn start(cpu: Cpu) -> (Self, Worker)
    where
        Self: Sized;

    fn send(&mut self, message: u64);
    fn receive(&mut self) -> u64;
}

/// `there`, `back`, and the manager that must outlive them.
struct CommonsPair {
    _manager: commons::Manager,
    there: CommonsWords,
    back: CommonsWords,
}

const COMMONS_ECHO: Named = ("commons-echo", commons_echo);

/// The peer of [`CommonsPair`]: it gets the handles of both queues.
fn commons_echo(handles: Vec<u8>, ready: Ready) {
    let (there, back): (CommonsWords, CommonsWords) = postcard::from_bytes(&handles).expect("two queues");
    ready.signal();
    loop {
        match there.get().expect("get") {
            STOP => return,
            message => back.put(&message).expect("put"),
        };
    }
}

impl Pair for CommonsPair {
    fn start(cpu: Cpu) -> (Self, Worker) {
        let manager = commons::Manager::new().expect("manager");
        let there: CommonsWords = manager.queue(CAPACITY).expect("queue");
        let back: CommonsWords = manager.queue(CAPACITY).expect("queue");
        let handles = postcard::to_stdvec(&(&there, &back)).expect("handles");
        let worker = Worker::start(COMMONS_ECHO.0, &handles, cpu);
        (CommonsPair { _manager: manager, there, back }, worker)
    }

    fn send(&mut self, message: u64) {
        self.there.put(&message).expect("put");
    }

    fn receive(&mut self) -> u64 {
        self.back.get().expect("get")
    }
}

const SOCKET_ECHO: Named = ("socket-echo", socket_echo);

/// Queues of the socket manager.
const THERE: u8 = 1;
const BACK: u8 = 2;

/// The peer of a [`SocketManager`]: it gets the server's address.
fn socket_echo(address: Vec<u8>, ready: Ready) {
    let mut manager = SocketManager::connect(&String::from_utf8(address).expect("an address"));
    ready.signal();
    loop {
        match u64::read_from_bytes(manager.queue_get(THERE)).expect("a message") {
            STOP => return,
            message => manager.queue_put(BACK, message.as_bytes()),
        }
    }
}

impl Pair for SocketManager {
    fn start(cpu: Cpu) -> (Self, Worker) {
        let manager = SocketManager::start();
        let worker = Worker::start(SOCKET_ECHO.0, manager.address().as_bytes(), cpu);
        (manager, worker)
    }

    fn send(&mut self, message: u64) {
        self.queue_put(THERE, message.as_bytes());
    }

    fn receive(&mut self) -> u64 {
        u64::read_from_bytes(self.queue_get(BACK)).expect("a message")
    }
}

fn round_trip<P: Pair>(group: &mut Group, row: &str, cpu: Cpu) {
    let mut pair: Option<(P, Worker)> = None;
    let mut n = 0;
    group.bench_function(row, |bencher| {
        let (pair, _) = pair.get_or_insert_with(|| P::start(cpu));
        bencher.iter(|| {
            pair.send(n);
            assert_eq!(pair.receive(), n);
            n += 1;
        });
    });
    if let Some((mut pair, peer)) = pair {
        pair.send(STOP);
        peer.stop();
    }
}

fn two_processes(criterion: &mut Criterion) {
    for (place, cpu) in [("one-cpu", Some(cpu::home())), ("two-cpus", cpu::away())] {
        let Some(cpu) = cpu else { continue };
        let mut group = criterion.benchmark_group(format!("queue/round-trip/{place}"));
        round_trip::<CommonsPair>(&mut group, "commons", cpu);
        round_trip::<SocketManager>(&mut group, "socket-manager", cpu);
        group.finish();
    }
}

criterion_group!(name = benches; config = support::criterion(); targets = one_thread, two_processes);

fn main() {
    commons::init();
    support::init(&[COMMONS_ECHO, SOCKET_ECHO]);
    benches();
}
