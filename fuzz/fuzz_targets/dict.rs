//! Dicts of each storage shape against `HashMap`.
//!
//! An operation that runs out of memory must have had no effect; the segment holds together at the end.

#![no_main]

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use arbitrary::Arbitrary;
use commons::{Auto, Codec, Dict, ErrorKind, Exchange, Manager, Pod, Result};
use libfuzzer_sys::fuzz_target;

const CAPACITY: u64 = 4 << 20;
const MOST_OPS: usize = 200;

#[derive(Arbitrary, Debug)]
enum Op {
    Insert(u8, u16),
    /// Keys beyond those of the other operations, so that the table grows.
    InsertMany(u8, u8),
    RemoveMany(u8, u8),
    Replace(u8, u16),
    Remove(u8),
    Pop(u8),
    PopItem,
    Get(u8),
    Contains(u8),
    Len,
    Iterate,
    Snapshot,
    Clear,
    FetchAdd(u8, u64),
    CompareExchange(u8, Option<u16>, Option<u16>),
    /// Expects what the model says.
    Exchange(u8, Option<u16>),
    Update(u8, Option<u16>),
    GetOrInsert(u8, u16),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Which {
    Numbers,
    Texts,
    Plain,
}

/// `None` where memory ran out.
fn done<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e) if e.kind() == ErrorKind::OutOfMemory => None,
        Err(e) => panic!("{e}"),
    }
}

/// Key number `n`, and value number `n`.
struct Maker<K, V> {
    key: fn(u16) -> K,
    value: fn(u16) -> V,
}

struct Pair<K, V, KC, VC> {
    dict: Dict<K, V, KC, VC>,
    model: HashMap<K, V>,
    make: Maker<K, V>,
}

impl<K, V, KC, VC> Pair<K, V, KC, VC>
where
    K: Clone + Debug + Eq + Hash + Ord,
    V: Clone + Debug + Eq + Ord,
    KC: Codec<K>,
    VC: Codec<V>,
{
    fn new(manager: &Manager, make: Maker<K, V>) -> Self {
        Pair { dict: manager.dict_with().unwrap(), model: HashMap::new(), make }
    }

    fn insert(&mut self, key: u16, value: u16) {
        let (key, value) = ((self.make.key)(key), (self.make.value)(value));
        if let Some(new) = done(self.dict.insert(&key, &value)) {
            assert_eq!(new, self.model.insert(key, value).is_none());
        }
    }

    fn remove(&mut self, key: u16) {
        let key = (self.make.key)(key);
        assert_eq!(self.dict.remove(&key).unwrap(), self.model.remove(&key).is_some());
    }

    fn set(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => self.model.insert(key, value),
            None => self.model.remove(&key),
        };
    }

    fn compare_exchange(&mut self, key: K, expected: Option<V>, new: Option<V>) {
        let present = self.model.get(&key).cloned();
        match done(self.dict.compare_exchange(&key, expected.as_ref(), new.as_ref())) {
            Some(Exchange::Done) => {
                assert_eq!(expected, present);
                self.set(key, new);
            }
            Some(Exchange::Unequal(found)) => {
                assert_ne!(expected, present);
                assert_eq!(found, present);
            }
            None => {}
        }
    }

    fn entries(&self) -> Vec<(K, V)> {
        let mut entries: Vec<_> = self.model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        entries.sort();
        entries
    }

    fn same_entries(&self, found: Result<Vec<(K, V)>>) {
        let mut found = found.unwrap();
        found.sort();
        assert_eq!(found, self.entries());
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Insert(key, value) => self.insert(key.into(), value),
            Op::InsertMany(from, count) => {
                (0..u16::from(count)).for_each(|i| self.insert(u16::from(from) * 64 + i, i));
            }
            Op::RemoveMany(from, count) => (0..u16::from(count)).for_each(|i| self.remove(u16::from(from) * 64 + i)),
            Op::Replace(key, value) => {
                let (key, value) = ((self.make.key)(key.into()), (self.make.value)(value));
                if let Some(old) = done(self.dict.replace(&key, &value)) {
                    assert_eq!(old, self.model.insert(key, value));
                }
            }
            Op::Remove(key) => self.remove(key.into()),
            Op::Pop(key) => {
                let key = (self.make.key)(key.into());
                assert_eq!(self.dict.pop(&key).unwrap(), self.model.remove(&key));
            }
            Op::PopItem => match self.dict.pop_item().unwrap() {
                Some((key, value)) => assert_eq!(self.model.remove(&key), Some(value)),
                None => assert!(self.model.is_empty()),
            },
            Op::Get(key) => {
                let key = (self.make.key)(key.into());
                assert_eq!(self.dict.get(&key).unwrap().as_ref(), self.model.get(&key));
            }
            Op::Contains(key) => {
                let key = (self.make.key)(key.into());
                assert_eq!(self.dict.contains(&key).unwrap(), self.model.contains_key(&key));
            }
            Op::Len => assert_eq!(self.dict.len().unwrap(), self.model.len() as u64),
            Op::Iterate => self.same_entries(self.dict.iter().collect()),
            Op::Snapshot => self.same_entries(self.dict.snapshot()),
            Op::Clear => {
                self.dict.clear().unwrap();
                self.model.clear();
            }
            Op::FetchAdd(..) => {} // numbers only
            Op::CompareExchange(key, expected, new) => {
                let (key, value) = ((self.make.key)(key.into()), self.make.value);
                self.compare_exchange(key, expected.map(value), new.map(value));
            }
            Op::Exchange(key, new) => {
                let key = (self.make.key)(key.into());
                let present = self.model.get(&key).cloned();
                self.compare_exchange(key, present, new.map(self.make.value));
            }
            Op::Update(key, new) => {
                let (key, new) = ((self.make.key)(key.into()), new.map(self.make.value));
                let present = self.model.get(&key).cloned();
                let updated = self.dict.update(&key, |old| {
                    assert_eq!(old, present);
                    new.clone()
                });
                if let Some(updated) = done(updated) {
                    assert_eq!(updated, new);
                    self.set(key, new);
                }
            }
            Op::GetOrInsert(key, value) => {
                let (key, value) = ((self.make.key)(key.into()), (self.make.value)(value));
                if let Some(found) = done(self.dict.get_or_insert(&key, &value)) {
                    assert_eq!(&found, self.model.entry(key).or_insert(value));
                }
            }
        }
    }

    fn finish(&self) {
        assert_eq!(self.dict.len().unwrap(), self.model.len() as u64);
        assert_eq!(self.dict.is_empty().unwrap(), self.model.is_empty());
        self.same_entries(self.dict.iter().collect());
        self.same_entries(self.dict.snapshot());
        for (key, value) in &self.model {
            assert_eq!(self.dict.get(key).unwrap().as_ref(), Some(value));
        }
    }
}

impl Pair<u64, u64, Auto, Auto> {
    fn fetch_add(&mut self, key: u8, number: u64) {
        let key = (self.make.key)(key.into());
        if let Some(old) = done(self.dict.fetch_add(&key, number)) {
            let now = self.model.entry(key).or_insert(0);
            assert_eq!(old, *now);
            *now = now.wrapping_add(number);
        }
    }
}

fn text(n: u16) -> String {
    match n % 5 {
        0 => format!("{n}"),
        1 => "k".repeat(usize::from(n)),
        _ => format!("the key of number {n}"),
    }
}

fn bytes(n: u16) -> Vec<u8> {
    let len = match n % 16 {
        15 => usize::from(n) * 4,
        _ => usize::from(n >> 4) % 96,
    };
    vec![n as u8; len]
}

fuzz_target!(|input: (Which, Vec<Op>)| {
    let (which, mut ops) = input;
    ops.truncate(MOST_OPS);
    let manager = Manager::builder().capacity(CAPACITY).anonymous().unwrap();
    let number = |n: u16| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match which {
        Which::Numbers => {
            let mut pair = Pair::<u64, u64, Auto, Auto>::new(&manager, Maker { key: u64::from, value: number });
            for op in &ops {
                match *op {
                    Op::FetchAdd(key, number) => pair.fetch_add(key, number),
                    _ => pair.run(op),
                }
            }
            pair.finish();
        }
        Which::Texts => {
            let mut pair = Pair::<String, Vec<u8>, Auto, Auto>::new(&manager, Maker { key: text, value: bytes });
            ops.iter().for_each(|op| pair.run(op));
            pair.finish();
        }
        Which::Plain => {
            let value = |n: u16| [n as u8; 16];
            let mut pair = Pair::<u64, [u8; 16], Pod, Pod>::new(&manager, Maker { key: number, value });
            ops.iter().for_each(|op| pair.run(op));
            pair.finish();
        }
    }
    manager.check().unwrap();
});
