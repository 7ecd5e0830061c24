//! Processes: one from its start to its end, and many small tasks for a pool of workers.
//!
//! All rows of a group do equal work: the same numbers are doubled elsewhere, and the answers checked.
//!
//! `process/spawn-join`: a process is started, given a number, and waited for; it gives back twice the number.
//!
//! - `commons`: `Process::spawn` and `join`.
//! - `command`: `std::process::Command`. The same executable; number and answer are text, in an environment variable and
//!   on standard output.
//! - `socket-manager`: the same, but the number comes from a queue of a server process and the answer goes to another.
//!
//! `pool`: 1000 numbers are doubled by two workers that run already; the answers come in the order of the numbers.
//! Columns: `chunked`, 125 numbers in a message, which is what a pool's `map` chooses here; and `single`, each number for
//! itself. Once with the workers on the CPU of the bench, and once on another. The throughput is in tasks.
//!
//! - `commons`: `Pool::map`.
//! - `threads`: two threads of this process, and channels of the standard library.
//! - `socket-manager`: two processes that get tasks from one queue of a server and put answers to another.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group};
use parking_lot::Mutex;
use std::io::{Write, stdout};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use support::cpu::{self, Cpu};
use support::socket_manager::SocketManager;
use support::worker::{self, Named, Ready, Worker};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Queues of the socket manager.
const TASKS: u8 = 0;
const ANSWERS: u8 = 1;

/// The work of a process or task.
fn double(number: u64) -> u64 {
    2 * number
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a word"))
}

/// Has a process of its own double a number. Failures panic.
trait Spawn {
    fn new() -> Self;
    fn spawn_join(&mut self, number: u64) -> u64;
}

/// Of the library itself.
struct Commons;

impl Spawn for Commons {
    fn new() -> Self {
        Commons
    }

    fn spawn_join(&mut self, number: u64) -> u64 {
        commons::Process::spawn(number, double).expect("spawn").join().expect("join")
    }
}

/// Of the standard library.
struct Command;

const COMMAND: Named = ("command", |number, _: Ready| {
    stdout().write_all(&double(word(&number)).to_le_bytes()).expect("write");
});

impl Spawn for Command {
    fn new() -> Self {
        Command
    }

    fn spawn_join(&mut self, number: u64) -> u64 {
        word(&worker::run(COMMAND.0, &number.to_le_bytes(), cpu::home()))
    }
}

const SOCKET_COMMAND: Named = ("socket-command", |address, _: Ready| {
    let mut manager = connect(&address);
    let number = word(manager.queue_get(TASKS));
    manager.queue_put(ANSWERS, &double(number).to_le_bytes());
});

fn connect(address: &[u8]) -> SocketManager {
    SocketManager::connect(str::from_utf8(address).expect("an address"))
}

impl Spawn for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn spawn_join(&mut self, number: u64) -> u64 {
        self.queue_put(TASKS, &number.to_le_bytes());
        let output = worker::run(SOCKET_COMMAND.0, self.address().as_bytes(), cpu::home());
        assert!(output.is_empty());
        word(self.queue_get(ANSWERS))
    }
}

fn spawn_join<R: Spawn>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    let mut n = 0;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| {
            assert_eq!(rival.spawn_join(n), 2 * n);
            n += 1;
        });
    });
}

fn processes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("process/spawn-join");
    spawn_join::<Commons>(&mut group, "commons");
    spawn_join::<Command>(&mut group, "command");
    spawn_join::<SocketManager>(&mut group, "socket-manager");
    group.finish();
}

const WORKERS: usize = 2;

const NUMBERS: u64 = 1000;

/// Numbers that travel together.
#[derive(Clone, Copy)]
enum Chunks {
    /// As many as a pool's `map` chooses.
    Chunked,
    Single,
}

impl Chunks {
    /// Four chunks for each worker, or one number.
    fn len(self) -> usize {
        match self {
            Chunks::Chunked => (NUMBERS as usize).div_ceil(4 * WORKERS),
            Chunks::Single => 1,
        }
    }
}

/// [`WORKERS`] that double numbers. Failures panic.
trait Workers {
    /// Starts them on `cpu`.
    fn start(cpu: Cpu) -> Self;

    /// The doubles of all numbers below [`NUMBERS`], in order.
    fn map(&mut self, chunks: Chunks) -> Vec<u64>;

    /// Ends them.
    fn stop(self);
}

impl Workers for commons::Pool {
    fn start(cpu: Cpu) -> Self {
        let builder = commons::Pool::builder().processes(WORKERS);
        builder.initializer(cpu.0, |cpu| cpu::pin(Cpu(cpu))).build().expect("pool")
    }

    fn map(&mut self, chunks: Chunks) -> Vec<u64> {
        match chunks {
            Chunks::Chunked => commons::Pool::map(self, double, 0..NUMBERS),
            Chunks::Single => self.call().chunk_size(1).map(double, 0..NUMBERS),
        }
        .expect("map")
    }

    fn stop(self) {
        self.close().expect("close");
        self.join().expect("join");
    }
}

/// Numbers, and the index of the first one among all.
type Chunk = (usize, Vec<u64>);

/// All numbers, cut into chunks.
fn cut(chunks: Chunks) -> impl Iterator<Item = Chunk> {
    let len = chunks.len();
    (0..NUMBERS as usize).step_by(len).map(move |first| {
        let end = NUMBERS.min((first + len) as u64);
        (first, (first as u64..end).collect())
    })
}

fn double_all(numbers: &mut [u64]) {
    numbers.iter_mut().for_each(|number| *number = double(*number));
}

struct Threads {
    tasks: mpsc::Sender<Chunk>,
    answers: mpsc::Receiver<Chunk>,
    threads: [JoinHandle<()>; WORKERS],
}

impl Workers for Threads {
    fn start(cpu: Cpu) -> Self {
        let (tasks, received) = mpsc::channel::<Chunk>();
        let (answer, answers) = mpsc::channel();
        let received = Arc::new(Mutex::new(received));
        let threads = [(); WORKERS].map(|()| {
            let (received, answer) = (Arc::clone(&received), answer.clone());
            thread::spawn(move || {
                cpu::pin(cpu);
                loop {
                    let task = received.lock().recv();
                    let Ok((first, mut numbers)) = task else { return };
                    double_all(&mut numbers);
                    answer.send((first, numbers)).expect("somebody who waits");
                }
            })
        });
        Threads { tasks, answers, threads }
    }

    fn map(&mut self, chunks: Chunks) -> Vec<u64> {
        let mut count = 0;
        for chunk in cut(chunks) {
            self.tasks.send(chunk).expect("a worker");
            count += 1;
        }
        let mut all = vec![0; NUMBERS as usize];
        for (first, numbers) in self.answers.iter().take(count) {
            all[first..][..numbers.len()].copy_from_slice(&numbers);
        }
        all
    }

    fn stop(self) {
        drop(self.tasks);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a worker"));
    }
}

/// A message of the socket manager's workers: the index of the first number, then the numbers. An empty one ends a worker.
fn encode((first, numbers): &Chunk, message: &mut Vec<u8>) {
    message.clear();
    message.extend_from_slice(&(*first as u64).to_le_bytes());
    numbers.iter().for_each(|number| message.extend_from_slice(&number.to_le_bytes()));
}

fn decode(message: &[u8]) -> Option<Chunk> {
    let mut words = message.chunks_exact(8).map(word);
    Some((words.next()? as usize, words.collect()))
}

const SOCKET_WORKER: Named = ("socket-worker", |address, ready: Ready| {
    let mut manager = connect(&address);
    let mut message = Vec::new();
    ready.signal();
    while let Some((first, mut numbers)) = decode(manager.queue_get(TASKS)) {
        double_all(&mut numbers);
        encode(&(first, numbers), &mut message);
        manager.queue_put(ANSWERS, &message);
    }
});

struct SocketWorkers {
    manager: SocketManager,
    workers: [Worker; WORKERS],
}

impl Workers for SocketWorkers {
    fn start(cpu: Cpu) -> Self {
        let manager = SocketManager::start();
        let workers = [(); WORKERS].map(|()| Worker::start(SOCKET_WORKER.0, manager.address().as_bytes(), cpu));
        SocketWorkers { manager, workers }
    }

    fn map(&mut self, chunks: Chunks) -> Vec<u64> {
        let (mut count, mut message) = (0, Vec::new());
        for chunk in cut(chunks) {
            encode(&chunk, &mut message);
            self.manager.queue_put(TASKS, &message);
            count += 1;
        }
        let mut all = vec![0; NUMBERS as usize];
        for _ in 0..count {
            let (first, numbers) = decode(self.manager.queue_get(ANSWERS)).expect("an answer");
            all[first..][..numbers.len()].copy_from_slice(&numbers);
        }
        all
    }

    fn stop(mut self) {
        self.workers.iter().for_each(|_| self.manager.queue_put(TASKS, &[]));
        self.workers.into_iter().for_each(Worker::stop);
    }
}

fn map<R: Workers>(group: &mut Group, row: &str, chunks: Chunks, cpu: Cpu) {
    let expected: Vec<u64> = (0..NUMBERS).map(double).collect();
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(|| R::start(cpu));
        bencher.iter(|| assert_eq!(rival.map(chunks), expected));
    });
    if let Some(rival) = rival {
        rival.stop();
    }
}

fn pools(criterion: &mut Criterion) {
    for (place, cpu) in [("one-cpu", Some(cpu::home())), ("two-cpus", cpu::away())] {
        let Some(cpu) = cpu else { continue };
        for (column, chunks) in [("chunked", Chunks::Chunked), ("single", Chunks::Single)] {
            let mut group = criterion.benchmark_group(format!("pool/map/{column}/{place}"));
            group.throughput(Throughput::Elements(NUMBERS));
            map::<commons::Pool>(&mut group, "commons", chunks, cpu);
            map::<Threads>(&mut group, "threads", chunks, cpu);
            map::<SocketWorkers>(&mut group, "socket-manager", chunks, cpu);
            group.finish();
        }
    }
}

criterion_group!(name = benches; config = support::criterion(); targets = processes, pools);

fn main() {
    commons::init();
    support::init(&[COMMAND, SOCKET_COMMAND, SOCKET_WORKER]);
    benches();
}
