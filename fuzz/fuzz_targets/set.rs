//! Sets of each storage shape, two at a time, against `BTreeSet`.
//!
//! An insertion that runs out of memory must have had no effect; the segment holds together at the end.

#![no_main]

use std::collections::BTreeSet;
use std::fmt::Debug;

use arbitrary::Arbitrary;
use commons::{Auto, Codec, ErrorKind, Manager, Result, Set};
use libfuzzer_sys::fuzz_target;

const CAPACITY: u64 = 16 << 20;
const MOST_OPS: usize = 200;

#[derive(Arbitrary, Debug)]
enum Op {
    Insert(u16),
    InsertMany(u8, u8),
    Discard(u16),
    Remove(u16),
    Pop,
    Contains(u16),
    Swap,
    Union,
    Intersection,
    Difference,
    SymmetricDifference,
    UnionWith,
    IntersectWith,
    DifferenceWith,
    SymmetricDifferenceWith,
    Compare,
    Iterate,
    Clear,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Which {
    Numbers,
    Wide,
    Texts,
}

/// `None` where memory ran out.
fn done<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e) if e.kind() == ErrorKind::OutOfMemory => None,
        Err(e) => panic!("{e}"),
    }
}

struct Pair<T> {
    set: Set<T>,
    model: BTreeSet<T>,
}

impl<T: Clone + Debug + Ord> Pair<T>
where
    Auto: Codec<T>,
{
    fn insert(&mut self, element: T) {
        if let Some(new) = done(self.set.insert(&element)) {
            assert_eq!(new, self.model.insert(element));
        }
    }

    fn same_elements(&self) {
        assert_eq!(self.set.len().unwrap(), self.model.len() as u64);
        let found: Vec<T> = self.set.iter().map(Result::unwrap).collect();
        assert_eq!(found.len(), self.model.len());
        self.has(Ok(found), self.model.clone());
        self.has(self.set.snapshot(), self.model.clone());
    }

    fn has(&self, found: Result<Vec<T>>, expected: BTreeSet<T>) {
        assert_eq!(found.unwrap().into_iter().collect::<BTreeSet<T>>(), expected);
    }
}

fn step<T: Clone + Debug + Ord>(pairs: &mut [Pair<T>; 2], op: &Op, make: fn(u16) -> T)
where
    Auto: Codec<T>,
{
    if matches!(op, Op::Swap) {
        return pairs.swap(0, 1);
    }
    let [a, b] = pairs;
    match op {
        Op::Insert(n) => a.insert(make(*n)),
        Op::InsertMany(from, count) => {
            (0..u16::from(*count)).for_each(|i| a.insert(make(u16::from(*from) * 16 + i)));
        }
        Op::Discard(n) => assert_eq!(a.set.discard(&make(*n)).unwrap(), a.model.remove(&make(*n))),
        Op::Remove(n) => match a.model.remove(&make(*n)) {
            true => a.set.remove(&make(*n)).unwrap(),
            false => assert_eq!(a.set.remove(&make(*n)).unwrap_err().kind(), ErrorKind::NotFound),
        },
        Op::Pop => match a.set.pop().unwrap() {
            Some(element) => assert!(a.model.remove(&element)),
            None => assert!(a.model.is_empty()),
        },
        Op::Contains(n) => assert_eq!(a.set.contains(&make(*n)).unwrap(), a.model.contains(&make(*n))),
        Op::Swap => {}
        Op::Union => a.has(a.set.union(&b.set), &a.model | &b.model),
        Op::Intersection => a.has(a.set.intersection(&b.set), &a.model & &b.model),
        Op::Difference => a.has(a.set.difference(&b.set), &a.model - &b.model),
        Op::SymmetricDifference => a.has(a.set.symmetric_difference(&b.set), &a.model ^ &b.model),
        Op::UnionWith => {
            a.set.union_with(&b.set).unwrap();
            a.model = &a.model | &b.model;
        }
        Op::IntersectWith => {
            a.set.intersect_with(&b.set).unwrap();
            a.model = &a.model & &b.model;
        }
        Op::DifferenceWith => {
            a.set.difference_with(&b.set).unwrap();
            a.model = &a.model - &b.model;
        }
        Op::SymmetricDifferenceWith => {
            a.set.symmetric_difference_with(&b.set).unwrap();
            a.model = &a.model ^ &b.model;
        }
        Op::Compare => {
            assert_eq!(a.set.is_subset(&b.set).unwrap(), a.model.is_subset(&b.model));
            assert_eq!(a.set.is_superset(&b.set).unwrap(), a.model.is_superset(&b.model));
            assert_eq!(a.set.is_disjoint(&b.set).unwrap(), a.model.is_disjoint(&b.model));
            assert_eq!(a.set.has_same_elements(&b.set).unwrap(), a.model == b.model);
        }
        Op::Iterate => a.same_elements(),
        Op::Clear => {
            a.set.clear().unwrap();
            a.model.clear();
        }
    }
}

fn run<T: Clone + Debug + Ord>(manager: &Manager, ops: &[Op], make: fn(u16) -> T)
where
    Auto: Codec<T>,
{
    let mut pairs = [(); 2].map(|()| Pair { set: manager.set().unwrap(), model: BTreeSet::new() });
    ops.iter().for_each(|op| step(&mut pairs, op, make));
    pairs.iter().for_each(Pair::same_elements);
}

fuzz_target!(|input: (Which, Vec<Op>)| {
    let (which, mut ops) = input;
    ops.truncate(MOST_OPS);
    let manager = Manager::builder().capacity(CAPACITY).anonymous().unwrap();
    match which {
        Which::Numbers => run(&manager, &ops, |n| u32::from(n)),
        Which::Wide => run(&manager, &ops, |n| u128::from(n) << 60),
        Which::Texts => run(&manager, &ops, |n| "t".repeat(usize::from(n) % 300)),
    }
    manager.check().unwrap();
});
