//! Lists, sets, values, arrays and namespaces, in one thread.
//!
//! Rows: `commons`; the natural rival for the threads of one process, which is `mutex-vec` for lists, `dashset` for sets
//! (hashed with foldhash), `atomic` for values and arrays, and `rwlock-hashmap` for namespaces; and `socket-manager`,
//! where every operation is a round trip to a server process. Elements are words.
//!
//! All rows of a group do equal work: one generic function draws the same indices in the same order, makes the same
//! elements, and checks what it gets back.
//!
//! - `list/push`, `set/add`: an empty container is filled with 100 000 elements, so that growth and first touches of
//!   memory count. Time is per fill; the throughput is in elements. Making and dropping the container is outside of the
//!   time.
//! - `list/get`, `set/contains-hit`: a random element of 100 000.
//! - `list/iterate`: all elements of a list of 1000, as they were at one moment; the throughput is in elements.
//! - `value/load`, `value/fetch-add`: one word.
//! - `array/get`, `array/set`: a random element of 100 000. The server keeps an array as a list.
//! - `namespace/get`: a random one of ten attributes. The server keeps a namespace as a dict.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group};
use dashmap::DashSet;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::keys::{Draws, Key};
use support::socket_manager::SocketManager;

const ELEMENTS: u32 = 100_000;

/// Elements of the list that is iterated over.
const SHORT: u32 = 1000;

const ATTRIBUTES: [&str; 10] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"];

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// A container and the manager that it comes from.
struct Commons<T> {
    manager: commons::Manager,
    object: T,
}

impl<T> Commons<T> {
    fn new(make: fn(&commons::Manager) -> commons::Result<T>) -> Self {
        let manager = commons::Manager::new().expect("manager");
        let object = make(&manager).expect("object");
        Commons { manager, object }
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a word"))
}

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

/// A number, 0 at first.
trait Value {
    fn new() -> Self;
    fn load(&mut self) -> u64;

    /// Adds 1; the number before.
    fn count(&mut self) -> u64;
}

impl Value for Commons<commons::Value<u64>> {
    fn new() -> Self {
        Commons::new(|manager| manager.value(0))
    }

    fn load(&mut self) -> u64 {
        self.object.load().expect("load")
    }

    fn count(&mut self) -> u64 {
        self.object.fetch_add(1).expect("fetch_add")
    }
}

impl Value for AtomicU64 {
    fn new() -> Self {
        AtomicU64::default()
    }

    fn load(&mut self) -> u64 {
        AtomicU64::load(self, Ordering::Acquire)
    }

    fn count(&mut self) -> u64 {
        self.fetch_add(1, Ordering::AcqRel)
    }
}

impl Value for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn load(&mut self) -> u64 {
        self.value_load(0)
    }

    fn count(&mut self) -> u64 {
        self.value_add(0, 1)
    }
}

fn load<R: Value>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(|| {
            let mut rival = R::new();
            assert_eq!(rival.count(), 0);
            rival
        });
        bencher.iter(|| assert_eq!(black_box(&mut *rival).load(), 1));
    });
}

fn fetch_add<R: Value>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    let mut n = 0;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| {
            assert_eq!(black_box(&mut *rival).count(), n);
            n += 1;
        });
    });
}

/// [`ELEMENTS`] words.
trait Array {
    fn new() -> Self;
    fn get(&mut self, index: u64) -> u64;
    fn set(&mut self, index: u64, element: u64);
}

impl Array for Commons<commons::Array<u64>> {
    fn new() -> Self {
        Commons::new(|manager| manager.array(ELEMENTS.into()))
    }

    fn get(&mut self, index: u64) -> u64 {
        self.object.get(index).expect("get")
    }

    fn set(&mut self, index: u64, element: u64) {
        self.object.set(index, element).expect("set");
    }
}

impl Array for Vec<AtomicU64> {
    fn new() -> Self {
        (0..ELEMENTS).map(|_| AtomicU64::default()).collect()
    }

    fn get(&mut self, index: u64) -> u64 {
        self[index as usize].load(Ordering::Acquire)
    }

    fn set(&mut self, index: u64, element: u64) {
        self[index as usize].store(element, Ordering::Release);
    }
}

/// A socket manager, used for an array.
struct SocketArray(SocketManager);

impl Array for SocketArray {
    fn new() -> Self {
        let mut manager = SocketManager::start();
        (0..ELEMENTS).for_each(|_| manager.list_push(0, &[0; 8]));
        SocketArray(manager)
    }

    fn get(&mut self, index: u64) -> u64 {
        word(self.0.list_get(0, index).expect("an element"))
    }

    fn set(&mut self, index: u64, element: u64) {
        assert!(self.0.list_set(0, index, &element.to_le_bytes()));
    }
}

fn array_filled<R: Array>() -> R {
    let mut rival = R::new();
    (0..ELEMENTS).for_each(|i| rival.set(i.into(), u64::nth(i)));
    rival
}

fn array_get<R: Array>(group: &mut Group, row: &str, rival: &mut Option<R>) {
    let mut draws = Draws::new(3);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(array_filled);
        bencher.iter(|| {
            let i = draws.below(ELEMENTS);
            assert_eq!(black_box(rival.get(i.into())), u64::nth(i));
        });
    });
}

/// The last element set is checked at the end.
fn array_set<R: Array>(group: &mut Group, row: &str, rival: &mut Option<R>) {
    let mut draws = Draws::new(4);
    let mut last = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(array_filled);
        bencher.iter(|| {
            let element = draws.next();
            let index = u64::from(support::keys::scale(element, ELEMENTS));
            rival.set(index, element);
            last = Some((index, element));
        });
    });
    if let (Some(rival), Some((index, element))) = (rival, last) {
        assert_eq!(rival.get(index), element);
    }
}

/// All [`ATTRIBUTES`], with their numbers.
trait Namespace {
    fn new() -> Self;
    fn get(&mut self, name: &str) -> u64;
}

/// The attributes and what they are set to.
fn attributes() -> impl Iterator<Item = (&'static str, u64)> {
    ATTRIBUTES.into_iter().zip(0..)
}

impl Namespace for Commons<commons::Namespace> {
    fn new() -> Self {
        let namespace = Commons::new(commons::Manager::namespace);
        for (name, number) in attributes() {
            assert!(namespace.object.set(name, &number).expect("set"));
        }
        namespace
    }

    fn get(&mut self, name: &str) -> u64 {
        self.object.get(name).expect("get").expect("an attribute")
    }
}

impl Namespace for RwLock<HashMap<String, u64, RandomState>> {
    fn new() -> Self {
        RwLock::new(attributes().map(|(name, number)| (name.to_owned(), number)).collect())
    }

    fn get(&mut self, name: &str) -> u64 {
        *self.read().get(name).expect("an attribute")
    }
}

/// A socket manager, used for a namespace.
struct SocketNamespace(SocketManager);

impl Namespace for SocketNamespace {
    fn new() -> Self {
        let mut manager = SocketManager::start();
        attributes().for_each(|(name, number)| manager.dict_set(0, name.as_bytes(), &number.to_le_bytes()));
        SocketNamespace(manager)
    }

    fn get(&mut self, name: &str) -> u64 {
        word(self.0.dict_get(0, name.as_bytes()).expect("an attribute"))
    }
}

fn namespace_get<R: Namespace>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    let mut draws = Draws::new(5);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter(|| {
            let i = draws.below(ATTRIBUTES.len() as u32);
            assert_eq!(black_box(rival.get(ATTRIBUTES[i as usize])), u64::from(i));
        });
    });
}

/// A group of fills.
fn fills<'a>(criterion: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(ELEMENTS.into())).sampling_mode(SamplingMode::Flat).sample_size(10);
    group
}

fn lists(criterion: &mut Criterion) {
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

fn sets(criterion: &mut Criterion) {
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

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("value/load");
    load::<Commons<commons::Value<u64>>>(&mut group, "commons");
    load::<AtomicU64>(&mut group, "atomic");
    load::<SocketManager>(&mut group, "socket-manager");
    group.finish();

    let mut group = criterion.benchmark_group("value/fetch-add");
    fetch_add::<Commons<commons::Value<u64>>>(&mut group, "commons");
    fetch_add::<AtomicU64>(&mut group, "atomic");
    fetch_add::<SocketManager>(&mut group, "socket-manager");
    group.finish();
}

fn arrays(criterion: &mut Criterion) {
    let (mut commons, mut atomic, mut socket) =
        (None::<Commons<commons::Array<u64>>>, None::<Vec<AtomicU64>>, None::<SocketArray>);

    let mut group = criterion.benchmark_group("array/get");
    array_get(&mut group, "commons", &mut commons);
    array_get(&mut group, "atomic", &mut atomic);
    array_get(&mut group, "socket-manager", &mut socket);
    group.finish();

    let mut group = criterion.benchmark_group("array/set");
    array_set(&mut group, "commons", &mut commons);
    array_set(&mut group, "atomic", &mut atomic);
    array_set(&mut group, "socket-manager", &mut socket);
    group.finish();
}

fn namespaces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("namespace/get");
    namespace_get::<Commons<commons::Namespace>>(&mut group, "commons");
    namespace_get::<RwLock<HashMap<String, u64, RandomState>>>(&mut group, "rwlock-hashmap");
    namespace_get::<SocketNamespace>(&mut group, "socket-manager");
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = lists, sets, values, arrays, namespaces);

fn main() {
    commons::init();
    support::init(&[]);
    benches();
}
