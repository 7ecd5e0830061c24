//! Proves with real processes and real SIGKILL that a kill harms nobody else: at every shared store of every public
//! operation, and at random under load.
//!
//! A long storm: `COMMONS_STORM_SECS=600 cargo test --test kill -- --nocapture`; `COMMONS_SEED` replays the choices.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use commons::{Dict, ErrorKind, Held, Lock, Manager, Process, Put, Queue};
use serde::{Deserialize, Serialize};

/// Everything that a child works on.
#[derive(Clone, Serialize, Deserialize)]
struct World {
    manager: Manager,
    small: Dict<u64, u64>,
    large: Dict<String, Vec<u8>>,
    queue: Queue<Vec<u8>>,
    lock: Lock<u64>,
}

impl World {
    fn new() -> World {
        let manager = Manager::builder().capacity(256 << 20).anonymous().unwrap();
        World {
            small: manager.dict().unwrap(),
            large: manager.dict().unwrap(),
            queue: manager.queue(8).unwrap(),
            lock: manager.lock(0).unwrap(),
            manager,
        }
    }
}

/// What a table shows: its contents, in a form that can be compared.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Contents {
    small: BTreeMap<u64, u64>,
    large: BTreeMap<String, Vec<u8>>,
    queue: u64,
    lock: u64,
    names: Vec<String>,
}

fn contents(world: &World) -> Contents {
    let guard = world.lock.lock().unwrap().into_guard();
    let mut names: Vec<String> = world.manager.objects().unwrap().into_iter().filter_map(|o| o.name).collect();
    names.sort();
    Contents {
        small: world.small.snapshot().unwrap().into_iter().collect(),
        large: world.large.snapshot().unwrap().into_iter().collect(),
        queue: world.queue.len().unwrap(),
        lock: guard.get().unwrap(),
        names,
    }
}

/// Operations by number; every one is all or nothing.
const OPERATIONS: &[&str] = &[
    "insert inline",
    "replace inline",
    "remove inline",
    "add",
    "insert boxed",
    "replace boxed",
    "remove boxed",
    "put short",
    "put long",
    "get",
    "lock",
    "set under lock",
    "create and name",
    "unlink",
];

fn operate(world: &World, operation: usize) {
    match OPERATIONS[operation] {
        "insert inline" => _ = world.small.insert(&1000, &1).unwrap(),
        "replace inline" => _ = world.small.insert(&1, &77).unwrap(),
        "remove inline" => _ = world.small.remove(&2).unwrap(),
        "add" => _ = world.small.fetch_add(&3, 5).unwrap(),
        "insert boxed" => drop(world.large.insert("new", &vec![1; 100]).unwrap()),
        "replace boxed" => drop(world.large.insert("k1", &vec![2; 300]).unwrap()),
        "remove boxed" => _ = world.large.remove("k2").unwrap(),
        "put short" => world.queue.put(&vec![1; 8]).unwrap(),
        "put long" => world.queue.put(&vec![1; 500]).unwrap(),
        "get" => drop(world.queue.get().unwrap()),
        "lock" => drop(world.lock.lock().unwrap().into_guard()),
        "set under lock" => world.lock.lock().unwrap().into_guard().set(&9).unwrap(),
        "create and name" => drop(world.manager.named("made").dict::<u64, String>().unwrap()),
        "unlink" => world.manager.unlink("old").unwrap(),
        other => unreachable!("{other}"),
    }
}

/// Runs an operation that dies at its `at`-th store; returns, if it lives, how many stores there were.
fn victim((world, operation, at): (World, usize, u64)) -> u64 {
    commons::testing::arm_kill(at);
    operate(&world, operation);
    commons::testing::disarm()
}

fn prepared() -> World {
    let world = World::new();
    for i in 0..20 {
        world.small.insert(&i, &i).unwrap();
        world.large.insert(&format!("k{i}"), &vec![i as u8; 50]).unwrap();
    }
    world.queue.put(&vec![3; 200]).unwrap();
    world.queue.put(&vec![4; 8]).unwrap();
    drop(world.manager.named("old").queue::<u64>(4).unwrap());
    world
}

/// Every public operation, killed at every shared store: before or after, nothing in between, nothing leaked, and the
/// next process goes on.
#[test]
fn killed_at_every_store() {
    commons::init_test!();
    let (mut kills, mut deepest) = (0, 0);
    for (operation, name) in OPERATIONS.iter().enumerate() {
        let before = contents(&prepared());
        let after = {
            let world = prepared();
            operate(&world, operation);
            contents(&world)
        };
        for at in 1.. {
            let world = prepared();
            let child = Process::spawn((world.clone(), operation, at), victim).unwrap();
            let outcome = child.join();
            world.manager.recover().unwrap();
            let what = format!("{name} at store {at}");
            world.manager.check().unwrap_or_else(|e| panic!("{what}: {e}"));
            let now = contents(&world);
            assert!(now == before || now == after, "{what}: {now:?} is neither {before:?} nor {after:?}");
            for again in 0..3 {
                world.small.insert(&(5000 + again), &again).unwrap();
                world.large.insert(&format!("again {again}"), &vec![5; 400]).unwrap();
                assert_eq!(world.queue.try_put(&vec![6; 100]).unwrap(), Put::Done, "{what}");
            }
            world.manager.check().unwrap_or_else(|e| panic!("{what}, afterwards: {e}"));
            match outcome {
                Err(e) => assert_eq!(e.kind(), ErrorKind::Process, "{what}: {e}"),
                Ok(_) => {
                    assert_eq!(now, after, "{what}: acknowledged");
                    break;
                }
            }
            (kills, deepest) = (kills + 1, deepest.max(at));
        }
    }
    println!("{} operations, {kills} kills, the longest operation makes {deepest} stores", OPERATIONS.len());
    assert!(kills > 100, "the crash points are armed");
}

/// A record of a worker's ledger: what it was about to do, or has been told is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Note {
    AboutSmall,
    DidSmall,
    AboutLarge,
    DidLarge,
    AboutPut,
    DidPut,
    Got,
    AboutAdd,
    DidAdd,
}

const NOTES: [Note; 9] = [
    Note::AboutSmall,
    Note::DidSmall,
    Note::AboutLarge,
    Note::DidLarge,
    Note::AboutPut,
    Note::DidPut,
    Note::Got,
    Note::AboutAdd,
    Note::DidAdd,
];

struct Ledger(File);

impl Ledger {
    fn open(path: &Path) -> Ledger {
        Ledger(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    /// One write: a killed process has written all of it or nothing.
    fn note(&mut self, note: Note, a: u64, b: u64) {
        let mut record = [0; 17];
        record[0] = note as u8;
        record[1..9].copy_from_slice(&a.to_le_bytes());
        record[9..].copy_from_slice(&b.to_le_bytes());
        self.0.write_all(&record).unwrap();
    }

    fn read(path: &Path) -> Vec<(Note, u64, u64)> {
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        bytes.chunks_exact(17).map(|r| (NOTES[r[0] as usize], word(&r[1..9]), word(&r[9..]))).collect()
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A value that shows if it is torn: number, then bytes that follow from it.
fn sealed(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number % 700) as usize, number as u8);
    bytes
}

fn unsealed(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, sealed(number), "a torn value");
    number
}

const KEYS: u64 = 100;
const STOP: u64 = u64::MAX;

/// Works until told to stop. Keys and items carry the worker's number, so each has one writer.
fn worker((world, worker, base, path): (World, u64, u64, PathBuf)) {
    let mut ledger = Ledger::open(&path);
    let mut dice = Dice(base | 1);
    let mut number = base;
    while world.small.get(&STOP).unwrap().is_none() {
        number += 1;
        let key = worker * KEYS + dice.below(KEYS);
        match dice.below(6) {
            0 | 1 => {
                ledger.note(Note::AboutSmall, key, number);
                world.small.insert(&key, &number).unwrap();
                ledger.note(Note::DidSmall, key, number);
            }
            2 => {
                ledger.note(Note::AboutLarge, key, number);
                world.large.insert(&key.to_string(), &sealed(number)).unwrap();
                ledger.note(Note::DidLarge, key, number);
            }
            3 => {
                ledger.note(Note::AboutPut, worker, number);
                if world.queue.try_put(&sealed(number)).unwrap() == Put::Done {
                    ledger.note(Note::DidPut, worker, number);
                }
            }
            4 => {
                if let Some(item) = world.queue.try_get().unwrap() {
                    ledger.note(Note::Got, worker, unsealed(&item));
                }
            }
            _ => {
                let held = world.lock.lock_timeout(Duration::from_secs(20)).unwrap().expect("nobody holds it for 20 s");
                let (Held::Clean(guard) | Held::Recovered(guard)) = held;
                ledger.note(Note::AboutAdd, worker, number);
                guard.set(&(guard.get().unwrap() + 1)).unwrap();
                ledger.note(Note::DidAdd, worker, number);
            }
        }
    }
}

/// Workers hammer dicts, a queue and a lock and are killed at random: nothing acknowledged is lost, nothing is torn, doubled
/// or leaked.
#[test]
fn storm() {
    commons::init_test!();
    let seconds = std::env::var("COMMONS_STORM_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let seed = std::env::var("COMMONS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("COMMONS_SEED={seed}");
    let mut dice = Dice(seed | 1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut kills) = (0, 0);
    while Instant::now() < end {
        rounds += 1;
        kills += round(&mut dice, (end - Instant::now()).min(Duration::from_secs(4)));
    }
    println!("{rounds} rounds, {kills} kills");
    assert!(kills > 0);
}

fn round(dice: &mut Dice, length: Duration) -> usize {
    const WORKERS: u64 = 4;
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let mut ledgers = Vec::new();
    let mut bases = 0;
    let mut start = |number: u64, ledgers: &mut Vec<PathBuf>| {
        bases += 1;
        let path = dir.path().join(format!("ledger {bases}"));
        Ledger::open(&path);
        ledgers.push(path.clone());
        // Numbers of a later incarnation are all greater.
        Process::spawn((world.clone(), number, bases << 32, path), worker).unwrap()
    };
    let mut workers: Vec<_> = (0..WORKERS).map(|number| start(number, &mut ledgers)).collect();
    let end = Instant::now() + length;
    let mut kills = 0;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5 + dice.below(60)));
        let number = dice.below(WORKERS);
        let fresh = start(number, &mut ledgers);
        let old = std::mem::replace(&mut workers[number as usize], fresh);
        old.kill().unwrap();
        let _ = old.join();
        kills += 1;
    }
    world.small.insert(&STOP, &1).unwrap();
    for worker in workers {
        worker.join().unwrap();
    }
    world.manager.recover().unwrap();
    world.manager.check().unwrap();
    verify(&world, &ledgers, kills);
    kills
}

fn verify(world: &World, ledgers: &[PathBuf], kills: usize) {
    let (mut about, mut did): (HashMap<(bool, u64), HashSet<u64>>, HashMap<(bool, u64), u64>) = Default::default();
    let (mut tried, mut put, mut got) = (HashSet::new(), HashSet::new(), Vec::new());
    let (mut about_adds, mut did_adds) = (0, 0);
    for (note, a, b) in ledgers.iter().flat_map(|path| Ledger::read(path)) {
        match note {
            Note::AboutSmall | Note::AboutLarge => {
                about.entry((note == Note::AboutSmall, a)).or_default().insert(b);
            }
            Note::DidSmall | Note::DidLarge => {
                let last = did.entry((note == Note::DidSmall, a)).or_default();
                *last = b.max(*last);
            }
            Note::AboutPut => {
                tried.insert(b);
            }
            Note::DidPut => {
                put.insert(b);
            }
            Note::Got => got.push(b),
            Note::AboutAdd => about_adds += 1,
            Note::DidAdd => did_adds += 1,
        }
    }
    for ((small, key), last) in &did {
        let now = match small {
            true => world.small.get(key).unwrap(),
            false => world.large.get(key.to_string().as_str()).unwrap().map(|bytes| unsealed(&bytes)),
        };
        let now = now.unwrap_or_else(|| panic!("acknowledged key {key} is lost"));
        assert!(now >= *last && about[&(*small, *key)].contains(&now), "key {key}: {now}, acknowledged {last}");
    }
    while let Some(item) = world.queue.try_get().unwrap() {
        got.push(unsealed(&item));
    }
    let delivered: HashSet<u64> = got.iter().copied().collect();
    assert_eq!(delivered.len(), got.len(), "an item was delivered twice");
    assert!(delivered.iter().all(|item| tried.contains(item)), "an item that nobody put");
    // A consumer killed between taking an item and noting it takes it along: at most one for each kill.
    let lost = put.difference(&delivered).count();
    assert!(lost <= kills, "{lost} acknowledged items lost, {kills} kills");
    let counter = world.lock.lock().unwrap().into_guard().get().unwrap();
    assert!((did_adds..=about_adds).contains(&counter), "{counter} of {did_adds} to {about_adds}");
}
