//! Words in place, and words with names: values, arrays and namespaces.

use super::support::keys::{Draws, Key, scale};
use super::support::socket_manager::SocketManager;
use super::{Commons, ELEMENTS, Group, word};
use criterion::Criterion;
use foldhash::fast::RandomState;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

const ATTRIBUTES: [&str; 10] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"];

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
            let index = u64::from(scale(element, ELEMENTS));
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

pub fn values(criterion: &mut Criterion) {
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

pub fn arrays(criterion: &mut Criterion) {
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

pub fn namespaces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("namespace/get");
    namespace_get::<Commons<commons::Namespace>>(&mut group, "commons");
    namespace_get::<RwLock<HashMap<String, u64, RandomState>>>(&mut group, "rwlock-hashmap");
    namespace_get::<SocketNamespace>(&mut group, "socket-manager");
    group.finish();
}
