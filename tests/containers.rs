//! Proves that lists, sets, namespaces, values, arrays and blocks work between processes: what one writes all see, atomic
//! operations lose nothing, handles nest and keep alive, and real SIGKILL at every shared store leaves each operation
//! done or not done.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use commons::{
    Array, Block, Dict, ErrorKind, Exchange, List, Manager, Namespace, ObjectKind, Pod, Process, Set, Value,
};
use serde::{Deserialize, Serialize};

mod common;

#[derive(Clone, Serialize, Deserialize)]
struct World {
    manager: Manager,
    list: List<String>,
    numbers: List<u64>,
    set: Set<String>,
    space: Namespace,
    counter: Value<u64>,
    text: Value<String>,
    array: Array<u16>,
    block: Block,
}

impl World {
    fn new() -> World {
        let manager = Manager::builder().capacity(256 << 20).anonymous().unwrap();
        let world = World {
            list: manager.list().unwrap(),
            numbers: manager.list().unwrap(),
            set: manager.set().unwrap(),
            space: manager.namespace().unwrap(),
            counter: manager.value(0).unwrap(),
            text: manager.value("old".to_owned()).unwrap(),
            array: manager.array(64).unwrap(),
            block: manager.block(100).unwrap(),
            manager,
        };
        for i in 0..5 {
            world.list.push(&format!("element {i}")).unwrap();
            world.numbers.push(&(10 - i)).unwrap();
            world.set.insert(&format!("e{i}")).unwrap();
        }
        world.space.set("a", &1u32).unwrap();
        world
    }

    /// Everything that one store may change, in a form that can be compared.
    fn contents(&self) -> (Vec<String>, Vec<u64>, BTreeSet<String>, Option<String>, u64, String, Vec<u16>) {
        (
            self.list.snapshot().unwrap(),
            self.numbers.snapshot().unwrap(),
            self.set.iter().map(Result::unwrap).collect(),
            self.space.get("b").unwrap(),
            self.counter.load().unwrap(),
            self.text.load().unwrap(),
            self.array.to_vec().unwrap(),
        )
    }
}

/// Operations by number; every one is all or nothing.
const OPERATIONS: &[fn(&World)] = &[
    |w| w.list.push(&"new".to_owned()).unwrap(),
    |w| w.list.extend(&["x".to_owned(), "y".to_owned(), "z".to_owned()]).unwrap(),
    |w| w.list.extend(&vec!["many".to_owned(); 20]).unwrap(),
    |w| drop(w.list.pop().unwrap()),
    |w| drop(w.list.pop_front().unwrap()),
    |w| w.list.insert(2, &"between".to_owned()).unwrap(),
    |w| w.list.set(2, &"instead".to_owned()).unwrap(),
    |w| w.list.remove(&"element 3".to_owned()).unwrap(),
    |w| w.list.set_range(1..3, &["a".to_owned(), "b".to_owned(), "c".to_owned()]).unwrap(),
    |w| w.list.clear().unwrap(),
    |w| w.list.reverse().unwrap(),
    |w| w.list.repeat(3).unwrap(),
    |w| w.numbers.sort().unwrap(),
    |w| w.numbers.push(&99).unwrap(),
    |w| w.numbers.remove_range(1..4).unwrap(),
    |w| _ = w.set.insert("fresh").unwrap(),
    |w| w.set.remove("e1").unwrap(),
    |w| _ = w.space.set("b", &"attribute".to_owned()).unwrap(),
    |w| _ = w.counter.fetch_add(3).unwrap(),
    |w| w.text.store(&"another value".to_owned()).unwrap(),
    |w| _ = w.text.swap(&"swapped".to_owned()).unwrap(),
    |w| w.array.set(5, 77).unwrap(),
];

/// Runs an operation that dies at its `at`-th store; returns, if it lives, how many stores there were.
fn victim((world, operation, at): (World, usize, u64)) -> u64 {
    commons::testing::arm_kill(at);
    OPERATIONS[operation](&world);
    commons::testing::disarm()
}

/// Every operation, killed at every shared store (of long ones, the first and then some): before or after, nothing in
/// between, nothing leaked, and the next process goes on.
#[test]
fn killed_at_every_store() {
    commons::init_test!();
    let before = World::new().contents();
    for (operation, act) in OPERATIONS.iter().enumerate() {
        let after = {
            let world = World::new();
            act(&world);
            world.contents()
        };
        let mut at = 1;
        loop {
            let world = World::new();
            let outcome = Process::spawn((world.clone(), operation, at), victim).unwrap().join();
            world.manager.recover().unwrap();
            let what = format!("operation {operation} at store {at}");
            world.manager.check().unwrap_or_else(|e| panic!("{what}: {e}"));
            let now = world.contents();
            assert!(now == before || now == after, "{what}: {now:?} is neither {before:?} nor {after:?}");
            world.list.push(&"again".to_owned()).unwrap();
            world.numbers.sort().unwrap();
            world.text.store(&"again".to_owned()).unwrap();
            world.manager.check().unwrap_or_else(|e| panic!("{what}, afterwards: {e}"));
            match outcome {
                Err(e) => assert_eq!(e.kind(), ErrorKind::Process, "{what}: {e}"),
                Ok(_) => {
                    assert_eq!(now, after, "{what}: acknowledged");
                    break;
                }
            }
            at += 1 + at / 16;
        }
    }
}

fn add((counter, small, array, list): (Value<u64>, Value<u16>, Array<u8>, List<u64>)) {
    for i in 0..1000 {
        counter.fetch_add(1).unwrap();
        small.fetch_update(|n| Some(n.wrapping_add(1))).unwrap();
        array.fetch_add(i % 3, 1).unwrap();
        list.push(&i).unwrap();
    }
}

/// Several processes add at the same time, to whole words and to neighbours in one word: nothing is lost.
#[test]
fn nothing_is_lost() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (counter, small) = (manager.value(0u64).unwrap(), manager.value(0u16).unwrap());
    let (array, list) = (manager.array::<u8>(3).unwrap(), manager.list::<u64>().unwrap());
    let work = (counter.clone(), small.clone(), array.clone(), list.clone());
    let children: Vec<_> = (0..3).map(|_| Process::spawn(work.clone(), add).unwrap()).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!((counter.load().unwrap(), small.load().unwrap()), (3000, 3000));
    assert_eq!(array.to_vec().unwrap(), [(3 * 334 % 256) as u8, (3 * 333 % 256) as u8, (3 * 333 % 256) as u8]);
    assert_eq!((0..1000).map(|i| list.count(&i).unwrap()).sum::<u64>(), 3000);
}

fn fill((array, part, parts): (Array<u16>, u64, u64)) {
    let len = array.len() / parts;
    for index in part * len..(part + 1) * len {
        array.set(index, (index * 7) as u16).unwrap();
    }
    let start = array.len() / 2 + part * 101;
    array.fill(start..start + 101, part as u16).unwrap();
}

/// Processes fill disjoint parts whose edges share words.
#[test]
fn parallel_fill() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let array = manager.array::<u16>(3 * 1001 * 2).unwrap();
    let children: Vec<_> = (0..3).map(|part| Process::spawn((array.clone(), part, 6u64), fill).unwrap()).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    let expected = |index: u64| match index.checked_sub(3003) {
        Some(beyond) if beyond < 303 => (beyond / 101) as u16,
        Some(_) => 0,
        None => (index * 7) as u16,
    };
    assert!(array.iter().enumerate().all(|(i, element)| element.unwrap() == expected(i as u64)));
}

fn holds_and_waits((array, ready): (Array<u64>, Value<bool>)) {
    let guard = array.lock().unwrap().into_guard();
    guard.set(0, 1).unwrap();
    ready.store(&true).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(600));
    drop(guard);
}

/// The lock of an array whose holder is killed is taken over, and the next holder is told.
#[test]
fn the_lock_of_the_dead() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (array, ready) = (manager.array::<u64>(4).unwrap(), manager.value(false).unwrap());
    let child = Process::spawn((array.clone(), ready.clone()), holds_and_waits).unwrap();
    common::eventually("the child holds the lock", || ready.load().unwrap());
    assert!(array.try_lock().unwrap().is_none());
    child.kill().unwrap();
    let _ = child.join();
    let held = array.lock().unwrap();
    assert!(held.is_recovered());
    held.into_guard().with(1..3, |view| view.copy_from_slice(&[8, 9])).unwrap();
    assert_eq!(array.to_vec().unwrap(), [1, 8, 9, 0]);
}

fn pops((list, takes): (List<Dict<u64, u64>>, u64)) {
    for _ in 0..takes {
        let dict = list.pop().unwrap().unwrap();
        dict.fetch_add(&1, 1).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_secs(600));
}

/// Handles in lists and sets keep what they name alive, whoever is killed; and no longer.
#[test]
fn handles_inside() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let list: List<Dict<u64, u64>> = manager.list().unwrap();
    let set: Set<Dict<u64, u64>> = manager.set().unwrap();
    for i in 0..4 {
        let dict = manager.dict().unwrap();
        dict.insert(&0, &i).unwrap();
        list.push(&dict).unwrap();
        if i < 2 {
            assert!(set.insert(&dict).unwrap() && !set.insert(&dict).unwrap());
        }
    }
    let all = list.snapshot().unwrap();
    let child = Process::spawn((list.clone(), 3u64), pops).unwrap();
    common::eventually("three are popped", || list.len().unwrap() == 1);
    common::eventually("and added to", || all[1].get(&1).unwrap() == Some(1));
    child.kill().unwrap();
    let _ = child.join();
    assert!(set.contains(&all[1]).unwrap() && !set.contains(&all[2]).unwrap());
    assert_eq!(list.index_of(&all[0]).unwrap(), Some(0));
    drop(all);
    manager.recover().unwrap();
    manager.collect().unwrap();
    let dicts = || manager.objects().unwrap().iter().filter(|object| object.kind == ObjectKind::Dict).count();
    assert_eq!(dicts(), 2, "those in the set");
    set.clear().unwrap();
    list.clear().unwrap();
    manager.collect().unwrap();
    assert_eq!(dicts(), 0);
    manager.check().unwrap();
}

fn writes((world, stop): (World, Value<bool>)) {
    let mut n = 0u64;
    while !stop.load().unwrap() {
        n += 1;
        world.list.insert(n % 3, &format!("passing {n}")).unwrap();
        world.set.insert(&format!("p{}", n % 50)).unwrap();
        world.list.remove_at(n % 3).unwrap();
        world.set.discard(&format!("p{}", (n * 7) % 50)).unwrap();
    }
}

/// Iterating while others write ends, and yields everything that was there throughout.
#[test]
fn iterating_beside_writers() {
    commons::init_test!();
    let world = World::new();
    let stop = world.manager.value(false).unwrap();
    let children: Vec<_> = (0..2).map(|_| Process::spawn((world.clone(), stop.clone()), writes).unwrap()).collect();
    for _ in 0..300 {
        let seen: Vec<String> = world.list.iter().map(Result::unwrap).collect();
        assert!((0..5).all(|i| seen.contains(&format!("element {i}"))), "{seen:?}");
        let seen: Vec<String> = world.set.iter().map(Result::unwrap).collect();
        for i in 0..5 {
            assert_eq!(seen.iter().filter(|e| **e == format!("e{i}")).count(), 1);
        }
    }
    stop.store(&true).unwrap();
    children.into_iter().for_each(|child| child.join().unwrap());
    world.manager.check().unwrap();
}

#[test]
fn set_algebra() {
    let manager = Manager::new().unwrap();
    let make = |elements: &[u32]| {
        let set = manager.set::<u32>().unwrap();
        set.extend(elements).unwrap();
        set
    };
    let sorted = |elements: commons::Result<Vec<u32>>| elements.unwrap().into_iter().collect::<BTreeSet<_>>();
    let (a, b) = (make(&[1, 2, 3, 4]), make(&[3, 4, 5]));
    assert_eq!(sorted(a.union(&b)), (1..=5).collect());
    assert_eq!(sorted(a.intersection(&b)), [3, 4].into());
    assert_eq!(sorted(a.difference(&b)), [1, 2].into());
    assert_eq!(sorted(a.symmetric_difference(&b)), [1, 2, 5].into());
    assert!(!a.is_subset(&b).unwrap() && !a.is_disjoint(&b).unwrap());
    assert!(make(&[3]).is_subset(&b).unwrap() && a.is_superset(&make(&[1, 4])).unwrap());
    assert!(a.is_disjoint(&make(&[9])).unwrap());
    assert!(a.has_same_elements(&make(&[4, 3, 2, 1])).unwrap() && a != make(&[4, 3, 2, 1]));
    let in_place = |change: fn(&Set<u32>, &Set<u32>) -> commons::Result<()>| {
        let set = make(&[1, 2, 3, 4]);
        change(&set, &b).unwrap();
        sorted(set.snapshot())
    };
    assert_eq!(in_place(Set::union_with), (1..=5).collect());
    assert_eq!(in_place(Set::intersect_with), [3, 4].into());
    assert_eq!(in_place(Set::difference_with), [1, 2].into());
    assert_eq!(in_place(Set::symmetric_difference_with), [1, 2, 5].into());
    assert_eq!(a.remove(&77).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!a.discard(&77).unwrap() && a.discard(&1).unwrap());
    assert!(a.pop().unwrap().is_some());
    assert_eq!(a.len().unwrap(), 2);
    manager.check().unwrap();
}

#[test]
fn namespaces() {
    let manager = Manager::new().unwrap();
    let space = manager.named("settings").namespace().unwrap();
    assert!(space.set("depth", &3u32).unwrap() && !space.set("depth", &4u32).unwrap());
    space.set("inner", &manager.list::<u8>().unwrap()).unwrap();
    space.get::<List<u8>>("inner").unwrap().unwrap().push(&1).unwrap();
    manager.collect().unwrap();
    assert_eq!(space.get::<List<u8>>("inner").unwrap().unwrap().snapshot().unwrap(), [1]);
    assert_eq!(space.get::<u64>("depth").unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(space.get::<u32>("width").unwrap(), None);
    assert_eq!(space.update("depth", |n: Option<u32>| n.map(|n| n * 2)).unwrap(), Some(8));
    let names: BTreeSet<String> = space.names().unwrap().into_iter().collect();
    assert_eq!(names, ["depth".to_owned(), "inner".to_owned()].into());
    assert!(space.remove("depth").unwrap() && !space.remove("depth").unwrap());
    space.clear().unwrap();
    assert!(space.is_empty().unwrap());
}

#[test]
fn values() {
    let manager = Manager::new().unwrap();
    let value = manager.value(1.5f64).unwrap();
    assert_eq!(value.swap(&2.5).unwrap(), 1.5);
    assert_eq!(value.compare_exchange(&1.0, &0.0).unwrap(), Exchange::Unequal(Some(2.5)));
    assert_eq!(value.compare_exchange(&2.5, &0.0).unwrap(), Exchange::Done);
    assert_eq!(value.fetch_update(|_| None).unwrap(), None);
    let small = manager.value(250u8).unwrap();
    assert_eq!((small.fetch_add(10).unwrap(), small.load().unwrap()), (250, 4));
    let pair = manager.value_with::<[u16; 3], Pod>([1, 2, 3]).unwrap();
    pair.store(&[4, 5, 6]).unwrap();
    assert_eq!(pair.load().unwrap(), [4, 5, 6]);
    let large = manager.value(vec!["a".to_owned()]).unwrap();
    assert_eq!(large.fetch_update(|v| Some([&v[..], &["b".to_owned()]].concat())).unwrap().unwrap().len(), 1);
    assert_eq!(large.load().unwrap(), ["a", "b"]);
    let inner = manager.value(Some(manager.list::<u8>().unwrap())).unwrap();
    inner.load().unwrap().unwrap().push(&3).unwrap();
    manager.collect().unwrap();
    assert_eq!(inner.swap(&None).unwrap().unwrap().snapshot().unwrap(), [3]);
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 5);
}

#[test]
fn arrays_and_blocks() {
    let manager = Manager::new().unwrap();
    let array = manager.array::<i16>(11).unwrap();
    array.set_range(3, &[-1, -2, -3, -4, -5]).unwrap();
    array.fill(6..=8, 9).unwrap();
    assert_eq!(array.to_vec().unwrap(), [0, 0, 0, -1, -2, -3, 9, 9, 9, 0, 0]);
    assert_eq!(array.get_range(4..7).unwrap(), [-2, -3, 9]);
    assert_eq!(array.fetch_add(3, 5).unwrap(), -1);
    assert_eq!(array.get(3).unwrap(), 4);
    assert_eq!(array.get(11).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(array.set(11, 1).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(array.get_range(9..12).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(array.set_range(u64::MAX, &[1]).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(manager.array::<u64>(u64::MAX).unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(manager.array::<f64>(0).unwrap().to_vec().unwrap().is_empty());

    // Every start and length, against a vector.
    let block = manager.named("b").block(40).unwrap();
    let mut model = vec![0u8; 40];
    let next = AtomicU64::new(1);
    for start in 0..40 {
        for len in 0..=(40 - start).min(20) {
            let bytes: Vec<u8> = (0..len).map(|_| next.fetch_add(1, Ordering::Relaxed) as u8).collect();
            block.write(start, &bytes).unwrap();
            model[start as usize..][..len as usize].copy_from_slice(&bytes);
            assert_eq!(block.read(..).unwrap(), model, "{start} {len}");
            assert_eq!(block.read(start..start + len).unwrap(), bytes);
        }
    }
    let view = block.view(5..25).unwrap().view(3..).unwrap();
    view.put(1, &0xabcd_u16).unwrap();
    assert_eq!(block.get::<u16>(9).unwrap(), 0xabcd);
    assert_eq!(view.len(), 17);
    view.fill(.., 7).unwrap();
    assert_eq!(block.read(7..26).unwrap().iter().filter(|byte| **byte == 7).count(), 17);
    assert_eq!(view.read(0..18).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(manager.existing("b").block(1).unwrap().len(), 40);
    manager.check().unwrap();
}
