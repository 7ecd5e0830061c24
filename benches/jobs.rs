//! Joinable queues, priority queues and blocks, in one thread.
//!
//! Rows: `commons`; what the threads of one process would use, a `mutex` around a deque with a count, around a heap, or
//! around bytes; and `socket-manager`, where every operation is a round trip to a server process.
//!
//! All rows of a group do equal work: one generic function makes the same items in the same order, and checks each one it
//! gets.
//!
//! - `joinable/put-get-done`: a word into an empty queue, out of it, and done. Of `commons`, the item is on lease in
//!   between, and would be delivered again if this process were killed; of the others it would be lost.
//! - `priority/put-get`: a word into a queue of 100, of a random priority, and the most urgent out of it.
//! - `block/write`, `block/read`: 4096 bytes at a random place of 1 MiB, of 256 such places. The server keeps a block as a
//!   dict of its pages.

mod support;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group};
use parking_lot::Mutex;
use support::keys::Draws;
use support::socket_manager::SocketManager;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// An object and the manager that must outlive it.
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

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a word"))
}

/// A queue that knows what is done.
trait Joinable {
    fn new() -> Self;
    fn put(&mut self, item: u64);
    fn get(&mut self) -> u64;
    fn done(&mut self);
}

impl Joinable for Commons<commons::JoinableQueue<u64>> {
    fn new() -> Self {
        Commons::new(|manager| manager.joinable_queue(1024))
    }

    fn put(&mut self, item: u64) {
        self.object.put(&item).expect("put");
    }

    fn get(&mut self) -> u64 {
        self.object.get().expect("get")
    }

    fn done(&mut self) {
        self.object.task_done().expect("task_done");
    }
}

/// Items, and how many are not done.
impl Joinable for Mutex<(VecDeque<u64>, u64)> {
    fn new() -> Self {
        Mutex::default()
    }

    fn put(&mut self, item: u64) {
        let mut queue = self.lock();
        queue.0.push_back(item);
        queue.1 += 1;
    }

    fn get(&mut self) -> u64 {
        self.lock().0.pop_front().expect("an item")
    }

    fn done(&mut self) {
        self.lock().1 -= 1;
    }
}

/// A queue, and beside it the number of what is not done.
impl Joinable for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn put(&mut self, item: u64) {
        self.queue_put(0, &item.to_le_bytes());
    }

    fn get(&mut self) -> u64 {
        word(self.queue_get(0))
    }

    fn done(&mut self) {
        self.value_add(0, 1);
    }
}

fn put_get_done<R: Joinable>(group: &mut Group, row: &str) {
    let mut rival = None;
    let mut n = 0;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| {
            rival.put(n);
            assert_eq!(black_box(rival.get()), n);
            rival.done();
            n += 1;
        });
    });
}

/// A queue that gives the lowest priority first.
trait Priority {
    fn new() -> Self;
    fn put(&mut self, priority: u64, item: u64);
    fn get(&mut self) -> u64;
}

impl Priority for Commons<commons::PriorityQueue<u64>> {
    fn new() -> Self {
        Commons::new(commons::Manager::unbounded_priority_queue)
    }

    fn put(&mut self, priority: u64, item: u64) {
        self.object.put(priority as i64, &item).expect("put");
    }

    fn get(&mut self) -> u64 {
        self.object.get().expect("get").1
    }
}

/// Priority, number, item: equal priorities in order.
impl Priority for Mutex<(BinaryHeap<Reverse<(u64, u64, u64)>>, u64)> {
    fn new() -> Self {
        Mutex::default()
    }

    fn put(&mut self, priority: u64, item: u64) {
        let mut queue = self.lock();
        queue.1 += 1;
        let number = queue.1;
        queue.0.push(Reverse((priority, number, item)));
    }

    fn get(&mut self) -> u64 {
        self.lock().0.pop().expect("an item").0.2
    }
}

impl Priority for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn put(&mut self, priority: u64, item: u64) {
        self.heap_put(0, priority, &item.to_le_bytes());
    }

    fn get(&mut self) -> u64 {
        word(self.heap_get(0).expect("an item"))
    }
}

/// Items that are in a priority queue all the time.
const WAITING: u32 = 100;

fn put_get_urgent<R: Priority>(group: &mut Group, row: &str) {
    let mut rival = None;
    group.bench_function(row, |bencher| {
        // As a clock's queue has them, priorities follow the last one out; so what comes out can be checked.
        let (rival, draws, last) = rival.get_or_insert_with(|| {
            let (mut rival, mut draws) = (R::new(), Draws::new(7));
            for _ in 0..WAITING {
                let priority = draws.below(1 << 20).into();
                rival.put(priority, priority);
            }
            (rival, draws, 0)
        });
        bencher.iter(|| {
            let priority = *last + u64::from(draws.below(1 << 20));
            rival.put(priority, priority);
            let first = black_box(rival.get());
            assert!(first >= *last);
            *last = first;
        });
    });
}

const PAGE: usize = 4096;
const PAGES: u32 = 256;

/// Bytes, written and read by the page.
trait Bytes {
    fn new() -> Self;
    fn write(&mut self, page: u32, bytes: &[u8; PAGE]);
    fn read(&mut self, page: u32, bytes: &mut [u8; PAGE]);
}

impl Bytes for Commons<commons::Block> {
    fn new() -> Self {
        Commons::new(|manager| manager.block(u64::from(PAGES) * PAGE as u64))
    }

    fn write(&mut self, page: u32, bytes: &[u8; PAGE]) {
        self.object.write(u64::from(page) * PAGE as u64, bytes).expect("write");
    }

    fn read(&mut self, page: u32, bytes: &mut [u8; PAGE]) {
        self.object.read_into(u64::from(page) * PAGE as u64, bytes).expect("read");
    }
}

impl Bytes for Mutex<Vec<u8>> {
    fn new() -> Self {
        Mutex::new(vec![0; PAGES as usize * PAGE])
    }

    fn write(&mut self, page: u32, bytes: &[u8; PAGE]) {
        self.lock()[page as usize * PAGE..][..PAGE].copy_from_slice(bytes);
    }

    fn read(&mut self, page: u32, bytes: &mut [u8; PAGE]) {
        bytes.copy_from_slice(&self.lock()[page as usize * PAGE..][..PAGE]);
    }
}

impl Bytes for SocketManager {
    fn new() -> Self {
        let mut manager = SocketManager::start();
        (0..PAGES).for_each(|page| manager.dict_set(0, &page.to_le_bytes(), &[0; PAGE]));
        manager
    }

    fn write(&mut self, page: u32, bytes: &[u8; PAGE]) {
        self.dict_set(0, &page.to_le_bytes(), bytes);
    }

    fn read(&mut self, page: u32, bytes: &mut [u8; PAGE]) {
        bytes.copy_from_slice(self.dict_get(0, &page.to_le_bytes()).expect("a page"));
    }
}

fn write<R: Bytes>(group: &mut Group, row: &str) {
    let mut rival = None;
    let mut draws = Draws::new(3);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| rival.write(draws.below(PAGES), black_box(&[7; PAGE])));
        let mut bytes = [0; PAGE];
        rival.write(PAGES - 1, &[9; PAGE]);
        rival.read(PAGES - 1, &mut bytes);
        assert_eq!(bytes, [9; PAGE]);
    });
}

fn read<R: Bytes>(group: &mut Group, row: &str) {
    let mut rival = None;
    let mut draws = Draws::new(3);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(|| {
            let mut rival = R::new();
            (0..PAGES).for_each(|page| rival.write(page, &[page as u8; PAGE]));
            rival
        });
        let mut bytes = [0; PAGE];
        bencher.iter(|| {
            let page = draws.below(PAGES);
            rival.read(page, &mut bytes);
            assert_eq!(black_box(&bytes)[PAGE - 1], page as u8);
        });
    });
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("joinable/put-get-done");
    put_get_done::<Commons<commons::JoinableQueue<u64>>>(&mut group, "commons");
    put_get_done::<Mutex<(VecDeque<u64>, u64)>>(&mut group, "mutex");
    put_get_done::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("priority/put-get");
    put_get_urgent::<Commons<commons::PriorityQueue<u64>>>(&mut group, "commons");
    put_get_urgent::<Mutex<(BinaryHeap<Reverse<(u64, u64, u64)>>, u64)>>(&mut group, "mutex");
    put_get_urgent::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("block/write");
    write::<Commons<commons::Block>>(&mut group, "commons");
    write::<Mutex<Vec<u8>>>(&mut group, "mutex");
    write::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("block/read");
    read::<Commons<commons::Block>>(&mut group, "commons");
    read::<Mutex<Vec<u8>>>(&mut group, "mutex");
    read::<SocketManager>(&mut group, "socket-manager");
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = rows);

fn main() {
    commons::init();
    support::init(&[]);
    benches();
}
