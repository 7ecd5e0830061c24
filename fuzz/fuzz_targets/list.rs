//! Lists of both forms against `Vec`.
//!
//! An operation that runs out of memory must have had no effect; the segment holds together at the end.

#![no_main]

use std::fmt::Debug;

use arbitrary::Arbitrary;
use commons::{Auto, Codec, ErrorKind, List, Manager, Result};
use libfuzzer_sys::fuzz_target;

const CAPACITY: u64 = 4 << 20;
const MOST_OPS: usize = 200;
/// Elements beyond which nothing is repeated.
const LONG: usize = 5000;

#[derive(Arbitrary, Debug)]
enum Op {
    Push(u16),
    Extend(Vec<u16>),
    ExtendSelf,
    Pop,
    PopFront,
    PopAt(u8),
    Insert(u8, u16),
    Get(u8),
    Set(u8, u16),
    Update(u8, u16),
    Remove(u16),
    GetRange(u8, u8),
    SetRange(u8, u8, Vec<u16>),
    RemoveRange(u8, u8),
    Sort,
    SortReversed,
    Reverse,
    Repeat(u8),
    Count(u16),
    IndexOf(u16, u8),
    Iterate,
    Clear,
}

/// `None` where memory ran out.
fn done<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e) if e.kind() == ErrorKind::OutOfMemory => None,
        Err(e) => panic!("{e}"),
    }
}

/// Whether it was done; `in_range` tells what the model says about the indices.
fn done_in_range<T>(result: Result<T>, in_range: bool) -> Option<T> {
    match result {
        Err(e) if e.kind() == ErrorKind::OutOfRange => {
            assert!(!in_range, "{e}");
            None
        }
        Err(e) if e.kind() == ErrorKind::OutOfMemory => None,
        result => {
            assert!(in_range);
            Some(result.unwrap())
        }
    }
}

struct Pair<T> {
    list: List<T>,
    model: Vec<T>,
    make: fn(u16) -> T,
}

impl<T: Clone + Debug + Ord> Pair<T>
where
    Auto: Codec<T>,
{
    fn run(&mut self, op: &Op) {
        let len = self.model.len();
        let many = |numbers: &[u16]| numbers.iter().map(|n| (self.make)(*n)).collect::<Vec<T>>();
        match op {
            Op::Push(n) => {
                let element = (self.make)(*n);
                if done(self.list.push(&element)).is_some() {
                    self.model.push(element);
                }
            }
            Op::Extend(numbers) => {
                let elements = many(numbers);
                if done(self.list.extend(&elements)).is_some() {
                    self.model.extend(elements);
                }
            }
            Op::ExtendSelf if len < LONG => {
                if done(self.list.extend_from(&self.list)).is_some() {
                    self.model.extend_from_within(..);
                }
            }
            Op::ExtendSelf => {}
            Op::Pop => assert_eq!(self.list.pop().unwrap(), self.model.pop()),
            Op::PopFront => {
                let first = (len > 0).then(|| self.model.remove(0));
                assert_eq!(self.list.pop_front().unwrap(), first);
            }
            Op::PopAt(at) => {
                let at = usize::from(*at);
                if let Some(element) = done_in_range(self.list.pop_at(at as u64), at < len) {
                    assert_eq!(element, self.model.remove(at));
                }
            }
            Op::Insert(at, n) => {
                let (at, element) = (usize::from(*at), (self.make)(*n));
                if done_in_range(self.list.insert(at as u64, &element), at <= len).is_some() {
                    self.model.insert(at, element);
                }
            }
            Op::Get(at) => {
                let at = usize::from(*at);
                if let Some(element) = done_in_range(self.list.get(at as u64), at < len) {
                    assert_eq!(element, self.model[at]);
                }
            }
            Op::Set(at, n) => {
                let (at, element) = (usize::from(*at), (self.make)(*n));
                if done_in_range(self.list.set(at as u64, &element), at < len).is_some() {
                    self.model[at] = element;
                }
            }
            Op::Update(at, n) => {
                let (at, element) = (usize::from(*at), (self.make)(*n));
                let updated = self.list.update(at as u64, |old| {
                    assert_eq!(old, self.model[at]);
                    element.clone()
                });
                if done_in_range(updated, at < len).is_some() {
                    self.model[at] = element;
                }
            }
            Op::Remove(n) => {
                let element = (self.make)(*n);
                match (self.list.remove(&element), self.model.iter().position(|e| *e == element)) {
                    (Ok(()), Some(at)) => _ = self.model.remove(at),
                    (Err(e), None) => assert_eq!(e.kind(), ErrorKind::NotFound),
                    (Err(e), Some(_)) => assert_eq!(e.kind(), ErrorKind::OutOfMemory),
                    (Ok(()), None) => panic!("removed what is not there"),
                }
            }
            Op::GetRange(a, b) => {
                let range = usize::from(*a)..usize::from(*b);
                let fits = range.start <= range.end && range.end <= len;
                if let Some(found) = done_in_range(self.list.get_range(u64::from(*a)..u64::from(*b)), fits) {
                    assert_eq!(found, self.model[range]);
                }
            }
            Op::SetRange(a, b, numbers) => {
                let (range, elements) = (usize::from(*a)..usize::from(*b), many(numbers));
                let fits = range.start <= range.end && range.end <= len;
                let set = self.list.set_range(u64::from(*a)..u64::from(*b), &elements);
                if done_in_range(set, fits).is_some() {
                    drop(self.model.splice(range, elements));
                }
            }
            Op::RemoveRange(a, b) => {
                let range = usize::from(*a)..usize::from(*b);
                let fits = range.start <= range.end && range.end <= len;
                if done_in_range(self.list.remove_range(u64::from(*a)..u64::from(*b)), fits).is_some() {
                    drop(self.model.drain(range));
                }
            }
            Op::Sort => {
                if done(self.list.sort()).is_some() {
                    self.model.sort();
                }
            }
            Op::SortReversed => {
                if done(self.list.sort_by(|a, b| b.cmp(a))).is_some() {
                    self.model.sort_by(|a, b| b.cmp(a));
                }
            }
            Op::Reverse => {
                if done(self.list.reverse()).is_some() {
                    self.model.reverse();
                }
            }
            Op::Repeat(times) if len < LONG => {
                let times = usize::from(times % 4);
                if done(self.list.repeat(times)).is_some() {
                    self.model = (0..times).flat_map(|_| self.model.clone()).collect();
                }
            }
            Op::Repeat(_) => {}
            Op::Count(n) => {
                let element = (self.make)(*n);
                let count = self.model.iter().filter(|e| **e == element).count();
                assert_eq!(self.list.count(&element).unwrap(), count as u64);
            }
            Op::IndexOf(n, from) => {
                let (element, from) = ((self.make)(*n), usize::from(*from));
                let rest = self.model.get(from..).unwrap_or(&[]);
                let found = rest.iter().position(|e| *e == element).map(|at| (from + at) as u64);
                assert_eq!(self.list.index_of_from(&element, from as u64).unwrap(), found);
            }
            Op::Iterate => self.same_elements(),
            Op::Clear => {
                self.list.clear().unwrap();
                self.model.clear();
            }
        }
    }

    fn same_elements(&self) {
        assert_eq!(self.list.len().unwrap(), self.model.len() as u64);
        assert_eq!(self.list.snapshot().unwrap(), self.model);
        assert!(self.list.iter().map(Result::unwrap).eq(self.model.iter().cloned()));
        assert!(self.list.iter().rev().map(Result::unwrap).eq(self.model.iter().rev().cloned()));
    }
}

fn text(n: u16) -> String {
    match n % 7 {
        0 => "e".repeat(usize::from(n) % 3000),
        _ => format!("{}", n % 64),
    }
}

fn run<T: Clone + Debug + Ord>(manager: &Manager, ops: &[Op], make: fn(u16) -> T)
where
    Auto: Codec<T>,
{
    let mut pair = Pair { list: manager.list().unwrap(), model: Vec::new(), make };
    ops.iter().for_each(|op| pair.run(op));
    pair.same_elements();
}

fuzz_target!(|input: (bool, Vec<Op>)| {
    let (boxed, mut ops) = input;
    ops.truncate(MOST_OPS);
    let manager = Manager::builder().capacity(CAPACITY).anonymous().unwrap();
    match boxed {
        false => run(&manager, &ops, |n| n % 64),
        true => run(&manager, &ops, text),
    }
    manager.check().unwrap();
});
