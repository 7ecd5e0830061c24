//! Containers that grow: lists and sets.

use super::support::keys::{Draws, Key};
use super::support::socket_manager::SocketManager;
use super::{Commons, ELEMENTS, Group, word};
use criterion::{Criterion, SamplingMode, Throughput};
use dashmap::DashSet;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Elements of the list that is iterated over.
const SHORT: u32 = 1000;

/// What can be filled with elements; made empty. Failures panic.
trait Fill {
    fn new() -> Self;

    /// Goes on with a new, empty container and drops the old one. Never timed.
    fn renew(&mut self);

    /// Adds the element with number `i`, for `i` from 0 on.
    fn add(&mut self, element: u64);
}

trait List: Fill {
    fn get(&mut self, index: u64) -> u64;

    /// The sum of all elements as they are at one moment.
    fn sum(&mut self) -> u64;
}

type CommonsList = Commons<commons::List<u64>>;

impl Fill for CommonsList {
    fn new() -> Self {
        Commons::new(commons::Manager::list)
    }

    fn renew(&mut self) {
        self.object = self.manager.list().expect("list");
    }

    fn add(&mut self, element: u64) {
        self.object.push(&element).expect("push");
    }
}

impl List for CommonsList {
    fn get(&mut self, index: u64) -> u64 {
        self.object.get(index).expect("get")
    }

    fn sum(&mut self) -> u64 {
        self.object.iter().map(|element| element.expect("an element")).fold(0, u64::wrapping_add)
    }
}

impl Fill for Mutex<Vec<u64>> {
    fn new() -> Self {
        Mutex::default()
    }

    fn renew(&mut self) {
        *self = Mutex::default();
    }

    fn add(&mut self, element: u64) {
        self.lock().push(element);
    }
}

impl List for Mutex<Vec<u64>> {
    fn get(&mut self, index: u64) -> u64 {
        self.lock()[index as usize]
    }

    fn sum(&mut self) -> u64 {
        let snapshot = self.lock().clone();
        snapshot.into_iter().fold(0, u64::wrapping_add)
    }
}

/// A socket manager, used for a list.
struct SocketList(SocketManager);

impl Fill for SocketList {
    fn new() -> Self {
        SocketList(SocketManager::start())
    }

    fn renew(&mut self) {
        self.0.list_clear(0);
    }

    fn add(&mut self, element: u64) {
        self.0.list_push(0, &element.to_le_bytes());
    }
}

impl List for SocketList {
    fn get(&mut self, index: u64) -> u64 {
        word(self.0.list_get(0, index).expect("an element"))
    }

    fn sum(&mut self) -> u64 {
        self.0.list_snapshot(0).chunks_exact(8).map(word).fold(0, u64::wrapping_add)
    }
}

trait Set: Fill {
    fn contains(&mut self, element: u64) -> bool;
}

type CommonsSet = Commons<commons::Set<u64>>;

impl Fill for CommonsSet {
    fn new() -> Self {
        Commons::new(commons::Manager::set)
    }

    fn renew(&mut self) {
        self.object = self.manager.set().expect("set");
    }

    fn add(&mut self, element: u64) {
        assert!(self.object.insert(&element).expect("insert"));
    }
}

impl Set for CommonsSet {
    fn contains(&mut self, element: u64) -> bool {
        self.object.contains(&element).expect("contains")
    }
}

impl Fill for DashSet<u64, RandomState> {
    fn new() -> Self {
        DashSet::default()
    }

    fn renew(&mut self) {
        *self = DashSet::default();
    }

    fn add(&mut self, element: u64) {
        assert!(self.insert(element));
    }
}

impl Set for DashSet<u64, RandomState> {
    fn contains(&mut self, element: u64) -> bool {
        DashSet::contains(self, &element)
    }
}

/// A socket manager, used for a set.
struct SocketSet(SocketManager);

impl Fill for SocketSet {
    fn new() -> Self {
        SocketSet(SocketManager::start())
    }

    fn renew(&mut self) {
        self.0.set_clear(0);
    }

    fn add(&mut self, element: u64) {
        assert!(self.0.set_insert(0, &element.to_le_bytes()));
    }
}

impl Set for SocketSet {
    fn contains(&mut self, element: u64) -> bool {
        self.0.set_contains(0, &element.to_le_bytes())
    }
}

fn fill(rival: &mut impl Fill, count: u32) {
    for i in 0..count {
        rival.add(u64::nth(i));
    }
}

fn filled<R: Fill>(count: u32) -> R {
    let mut rival = R::new();
    fill(&mut rival, count);
    rival
}

fn add<R: Fill>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter_custom(|fills| {
            let mut spent = Duration::ZERO;
            for _ in 0..fills {
                rival.renew();
                let start = Instant::now();
                fill(rival, ELEMENTS);
                spent += start.elapsed();
            }
            spent
        });
    });
}

fn get<R: List>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    let mut draws = Draws::new(1);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(|| filled(ELEMENTS));
        bencher.iter(|| {
            let i = draws.below(ELEMENTS);
            assert_eq!(black_box(rival.get(i.into())), u64::nth(i));
        });
    });
}

fn iterate<R: List>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    let expected = (0..SHORT).map(u64::nth).fold(0, u64::wrapping_add);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(|| filled(SHORT));
        bencher.iter(|| assert_eq!(black_box(rival.sum()), expected));
    });
}

fn contains<R: Set>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    let mut draws = Draws::new(2);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(|| filled(ELEMENTS));
        bencher.iter(|| assert!(black_box(rival.contains(u64::nth(draws.below(ELEMENTS))))));
    });
}

/// A group of fills.
fn fills<'a>(criterion: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(ELEMENTS.into())).sampling_mode(SamplingMode::Flat).sample_size(10);
    group
}

pub fn lists(criterion: &mut Criterion) {
    let mut group = fills(criterion, "list/push");
    add::<CommonsList>(&mut group, "commons");
    add::<Mutex<Vec<u64>>>(&mut group, "mutex-vec");
    add::<SocketList>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("list/get");
    get::<CommonsList>(&mut group, "commons");
    get::<Mutex<Vec<u64>>>(&mut group, "mutex-vec");
    get::<SocketList>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("list/iterate");
    group.throughput(Throughput::Elements(SHORT.into()));
    iterate::<CommonsList>(&mut group, "commons");
    iterate::<Mutex<Vec<u64>>>(&mut group, "mutex-vec");
    iterate::<SocketList>(&mut group, "socket-manager");
    group.finish();
}

pub fn sets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("set/contains-hit");
    contains::<CommonsSet>(&mut group, "commons");
    contains::<DashSet<u64, RandomState>>(&mut group, "dashset");
    contains::<SocketSet>(&mut group, "socket-manager");
    group.finish();

    let mut group = fills(criterion, "set/add");
    add::<CommonsSet>(&mut group, "commons");
    add::<DashSet<u64, RandomState>>(&mut group, "dashset");
    add::<SocketSet>(&mut group, "socket-manager");
    group.finish();
}
