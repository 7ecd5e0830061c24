//! Dicts: a lookup that hits, inserts of fresh keys, and overwrites, in one thread.
//!
//! Rows: `commons`; `dashmap`, which is for the threads of one process (hashed with foldhash); and `socket-manager`,
//! where every operation is a round trip to a server process. Columns: 8-byte keys and values, and 16-byte keys with
//! 256-byte values.
//!
//! All rows of a group do equal work: one generic function draws the same keys in the same order, makes the same
//! values, hands them over by reference, and checks what it gets back, a copy.
//!
//! - `get-hit`: a random key of 100 000.
//! - `overwrite`: a new value for a random key of 100 000.
//! - `insert-fresh`: an empty dict is filled with 100 000 keys, so that growth and first touches of memory count. Time
//!   is per fill; the throughput is in keys. Making and dropping the dict is outside of the time.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use std::hash::Hash;
use std::hint::black_box;
use std::time::{Duration, Instant};
use support::keys::{Draws, Key, Numbered};
use support::socket_manager::SocketManager;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const KEYS: u32 = 100_000;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// What a rival does; made with an empty dict. Failures panic.
trait Rival<K, V> {
    fn new() -> Self;

    /// Goes on with a new, empty dict and drops the old one. Never timed.
    fn renew(&mut self);

    fn get(&mut self, key: &K) -> Option<V>;

    /// Inserts or overwrites.
    fn set(&mut self, key: &K, value: &V);
}

type CommonsBytes = commons::Dict<[u8; 16], [u8; 256], commons::Pod, commons::Pod>;

/// `commons`: the default codec for words, plain data for byte arrays.
struct Commons<D> {
    manager: commons::Manager,
    dict: D,
}

impl Rival<u64, u64> for Commons<commons::Dict<u64, u64>> {
    fn new() -> Self {
        let manager = commons::Manager::new().expect("manager");
        let dict = manager.dict().expect("dict");
        Commons { manager, dict }
    }

    fn renew(&mut self) {
        self.dict = self.manager.dict().expect("dict");
    }

    fn get(&mut self, key: &u64) -> Option<u64> {
        self.dict.get(key).expect("get")
    }

    fn set(&mut self, key: &u64, value: &u64) {
        self.dict.insert(key, value).expect("insert");
    }
}

impl Rival<[u8; 16], [u8; 256]> for Commons<CommonsBytes> {
    fn new() -> Self {
        let manager = commons::Manager::new().expect("manager");
        let dict = manager.dict_with().expect("dict");
        Commons { manager, dict }
    }

    fn renew(&mut self) {
        self.dict = self.manager.dict_with().expect("dict");
    }

    fn get(&mut self, key: &[u8; 16]) -> Option<[u8; 256]> {
        self.dict.get(key).expect("get")
    }

    fn set(&mut self, key: &[u8; 16], value: &[u8; 256]) {
        self.dict.insert(key, value).expect("insert");
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Rival<K, V> for DashMap<K, V, RandomState> {
    fn new() -> Self {
        DashMap::default()
    }

    fn renew(&mut self) {
        *self = DashMap::default();
    }

    fn get(&mut self, key: &K) -> Option<V> {
        DashMap::get(self, key).map(|value| *value)
    }

    fn set(&mut self, key: &K, value: &V) {
        self.insert(*key, *value);
    }
}

impl<K: IntoBytes + Immutable, V: IntoBytes + FromBytes + Immutable> Rival<K, V> for SocketManager {
    fn new() -> Self {
        SocketManager::start()
    }

    fn renew(&mut self) {
        self.dict_clear(0);
    }

    fn get(&mut self, key: &K) -> Option<V> {
        self.dict_get(0, key.as_bytes()).map(|value| V::read_from_bytes(value).expect("a value"))
    }

    fn set(&mut self, key: &K, value: &V) {
        self.dict_set(0, key.as_bytes(), value.as_bytes());
    }
}

fn fill<K: Key, V: Numbered>(rival: &mut impl Rival<K, V>) {
    for i in 0..KEYS {
        rival.set(&K::nth(i), &V::numbered(i.into()));
    }
}

/// A rival with all keys.
fn filled<K: Key, V: Numbered, R: Rival<K, V>>() -> R {
    let mut rival = R::new();
    fill(&mut rival);
    rival
}

/// The low half of every value is its key's number.
fn get_hit<K: Key, V: Numbered, R: Rival<K, V>>(group: &mut Group, row: &str, rival: &mut Option<R>) {
    let mut draws = Draws::new(1);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(filled);
        bencher.iter(|| {
            let i = draws.below(KEYS);
            let value: V = black_box(rival.get(&K::nth(i)).expect("a hit"));
            assert_eq!(value.number() as u32, i);
        });
    });
}

fn overwrite<K: Key, V: Numbered, R: Rival<K, V>>(group: &mut Group, row: &str, rival: &mut Option<R>) {
    let mut draws = Draws::new(2);
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(filled);
        bencher.iter(|| {
            let drawn = draws.next();
            let i = support::keys::scale(drawn, KEYS);
            rival.set(&K::nth(i), &V::numbered(drawn << 32 | u64::from(i)));
        });
    });
}

fn insert_fresh<K: Key, V: Numbered, R: Rival<K, V>>(group: &mut Group, row: &str) {
    let mut rival: Option<R> = None;
    group.bench_function(row, |bencher| {
        let rival = rival.get_or_insert_with(R::new);
        bencher.iter_custom(|fills| {
            let mut spent = Duration::ZERO;
            for _ in 0..fills {
                rival.renew();
                let start = Instant::now();
                fill(rival);
                spent += start.elapsed();
            }
            spent
        });
    });
}

/// All groups for keys `K` and values `V`, with the commons row by `C`.
fn groups<K, V, C>(criterion: &mut Criterion, shape: &str)
where
    K: Key + Eq + Hash + IntoBytes + Immutable,
    V: Numbered + IntoBytes + FromBytes + Immutable,
    C: Rival<K, V>,
{
    let (mut commons, mut dashmap, mut socket) = (None::<C>, None::<DashMap<K, V, RandomState>>, None::<SocketManager>);

    let mut group = criterion.benchmark_group(format!("dict/get-hit/{shape}"));
    get_hit::<K, V, _>(&mut group, "commons", &mut commons);
    get_hit::<K, V, _>(&mut group, "dashmap", &mut dashmap);
    get_hit::<K, V, _>(&mut group, "socket-manager", &mut socket);
    group.finish();

    let mut group = criterion.benchmark_group(format!("dict/overwrite/{shape}"));
    overwrite::<K, V, _>(&mut group, "commons", &mut commons);
    overwrite::<K, V, _>(&mut group, "dashmap", &mut dashmap);
    overwrite::<K, V, _>(&mut group, "socket-manager", &mut socket);
    group.finish();
    drop((commons, dashmap, socket));

    let mut group = criterion.benchmark_group(format!("dict/insert-fresh/{shape}"));
    group.throughput(Throughput::Elements(KEYS.into())).sampling_mode(SamplingMode::Flat).sample_size(10);
    insert_fresh::<K, V, C>(&mut group, "commons");
    insert_fresh::<K, V, DashMap<K, V, RandomState>>(&mut group, "dashmap");
    insert_fresh::<K, V, SocketManager>(&mut group, "socket-manager");
    group.finish();
}

fn words(criterion: &mut Criterion) {
    groups::<u64, u64, Commons<commons::Dict<u64, u64>>>(criterion, "8B-8B");
}

fn bytes(criterion: &mut Criterion) {
    groups::<[u8; 16], [u8; 256], Commons<CommonsBytes>>(criterion, "16B-256B");
}

criterion_group!(name = benches; config = support::criterion(); targets = words, bytes);

fn main() {
    commons::init();
    support::init(&[]);
    benches();
}
