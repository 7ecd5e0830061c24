//! Behaviours 18 to 21: containers.

use std::collections::HashMap;

use commons::{Dict, ErrorKind, Event, List, Manager, Process, Set};
use serde::{Deserialize, Serialize};

use crate::common::assert_kind;

fn objects(manager: &Manager) -> usize {
    manager.collect().unwrap();
    manager.objects().unwrap().len()
}

#[test]
fn b18_a_mutation_through_a_nested_handle_is_seen_by_all() {
    commons::init_test!();
    type Outer = Dict<String, Dict<u64, List<u64>>>;
    fn change(outer: Outer) {
        let inner = outer.get("inner").unwrap().unwrap();
        inner.get(&1).unwrap().unwrap().push(&2).unwrap();
        let more = outer.get("inner").unwrap().unwrap();
        more.insert(&2, &inner.get(&1).unwrap().unwrap()).unwrap();
    }
    let manager = Manager::new().unwrap();
    let (outer, inner, list): (Outer, _, _) =
        (manager.dict().unwrap(), manager.dict().unwrap(), manager.list().unwrap());
    inner.insert(&1, &list).unwrap();
    outer.insert("inner", &inner).unwrap();
    Process::spawn(outer.clone(), change).unwrap().join().unwrap();
    assert_eq!(list.snapshot().unwrap(), [2]);
    assert_eq!(inner.get(&2).unwrap(), Some(list.clone()));
    assert_ne!(inner.get(&2).unwrap(), Some(manager.list().unwrap()), "equality is identity");
    list.push(&3).unwrap();
    assert_eq!(outer.get("inner").unwrap().unwrap().get(&2).unwrap().unwrap().snapshot().unwrap(), [2, 3]);
    manager.check().unwrap();
}

#[test]
fn b18_dropping_or_clearing_the_outer_keeps_what_is_held_and_frees_what_is_not() {
    let manager = Manager::new().unwrap();
    let outer = manager.dict::<String, Dict<u64, u64>>().unwrap();
    let (held, other) = (manager.dict::<u64, u64>().unwrap(), manager.dict::<u64, u64>().unwrap());
    held.insert(&1, &2).unwrap();
    outer.insert("held", &held).unwrap();
    outer.insert("other", &other).unwrap();
    drop(other);
    assert_eq!(objects(&manager), 3, "the outer one holds the other");
    outer.clear().unwrap();
    assert_eq!(objects(&manager), 2);
    outer.insert("held", &held).unwrap();
    drop(outer);
    assert_eq!(objects(&manager), 1);
    assert_eq!(held.get(&1).unwrap(), Some(2));
    drop(held);
    assert_eq!(objects(&manager), 0);
    manager.check().unwrap();
}

/// Handles in keys hold as those in values do, and equal keys are found from every process.
#[test]
fn b18_handles_in_keys_hold_too() {
    commons::init_test!();
    type Keyed = Dict<(Dict<u64, u64>, u8), u64>;
    fn look((keyed, key): (Keyed, Dict<u64, u64>)) -> Option<u64> {
        let key = (key, 1);
        keyed.insert(&key, &2).unwrap();
        keyed.fetch_add(&key, 1).unwrap();
        keyed.update(&key, |n| n.map(|n| n * 10)).unwrap();
        assert_eq!(keyed.compare_exchange(&key, Some(&30), Some(&31)).unwrap(), commons::Exchange::Done);
        assert_eq!(keyed.get_or_insert(&(key.0.clone(), 2), &7).unwrap(), 7);
        keyed.get(&key).unwrap()
    }
    let manager = Manager::new().unwrap();
    let (keyed, key): (Keyed, _) = (manager.dict().unwrap(), manager.dict().unwrap());
    key.insert(&5, &6).unwrap();
    keyed.insert(&(key.clone(), 1), &1).unwrap();
    assert_eq!(Process::spawn((keyed.clone(), key.clone()), look).unwrap().join().unwrap(), Some(31));
    assert_eq!(keyed.len().unwrap(), 2);
    drop(key);
    assert_eq!(objects(&manager), 2);
    let ((key, _), _) = keyed.iter().next().unwrap().unwrap();
    assert_eq!(key.get(&5).unwrap(), Some(6));
    assert_eq!((keyed.pop(&(key.clone(), 1)).unwrap(), keyed.remove(&(key.clone(), 2)).unwrap()), (Some(31), true));
    drop(key);
    assert_eq!(objects(&manager), 1);
    manager.check().unwrap();
}

/// A handle in a value is the same value from whatever process it came.
#[test]
fn b18_handles_compare_alike_from_every_process() {
    commons::init_test!();
    fn exchange((dict, inner): (Dict<u64, List<u8>>, List<u8>)) -> bool {
        dict.compare_exchange(&1, Some(&inner), None).unwrap() == commons::Exchange::Done
    }
    let manager = Manager::new().unwrap();
    let (dict, inner) = (manager.dict().unwrap(), manager.list().unwrap());
    dict.insert(&1, &inner).unwrap();
    assert!(Process::spawn((dict.clone(), inner), exchange).unwrap().join().unwrap());
    assert!(dict.is_empty().unwrap());
}

#[test]
fn b19_a_plain_nested_value_comes_back_as_a_copy() {
    let manager = Manager::new().unwrap();
    let (dict, list) = (manager.dict::<u64, Vec<u64>>().unwrap(), manager.list::<Vec<u64>>().unwrap());
    dict.insert(&1, &vec![1]).unwrap();
    list.push(&vec![1]).unwrap();
    dict.get(&1).unwrap().unwrap().push(2);
    list.get(0).unwrap().push(2);
    assert_eq!((dict.get(&1).unwrap(), list.get(0).unwrap()), (Some(vec![1]), vec![1]));
    let next = dict.update(&1, |copy| copy.map(|copy| [copy, vec![2]].concat())).unwrap();
    assert_eq!((next.as_ref(), &dict.get(&1).unwrap()), (Some(&vec![1, 2]), &next), "this is how to change it");
}

/// What a list may contain: itself.
#[derive(Serialize, Deserialize)]
struct Itself(List<Itself>);

#[test]
fn b19_a_list_may_contain_itself_and_is_freed_in_the_end() {
    let manager = Manager::new().unwrap();
    let list = manager.list::<Itself>().unwrap();
    list.push(&Itself(list.clone())).unwrap();
    list.push(&Itself(list.clone())).unwrap();
    assert_eq!(list.get(0).unwrap().0.get(1).unwrap().0, list);
    // And a circle of two kinds.
    let dict = manager.dict::<u64, Itself>().unwrap();
    dict.insert(&1, &Itself(list.clone())).unwrap();
    assert_eq!(objects(&manager), 2);
    drop(list);
    assert_eq!(objects(&manager), 2, "the dict holds it");
    drop(dict);
    assert_eq!(objects(&manager), 0);
    manager.check().unwrap();
}

const STABLE: u64 = 60;

fn write((dict, list, set, stop): (Dict<u64, u64>, List<u64>, Set<String>, Event)) {
    let mut n = STABLE;
    while !stop.is_set().unwrap() {
        n += 1;
        let passing = STABLE + n % 300;
        dict.insert(&passing, &n).unwrap();
        dict.remove(&(STABLE + (n * 7) % 300)).unwrap();
        list.push(&passing).unwrap();
        list.remove_at(STABLE).unwrap();
        set.insert(&passing.to_string()).unwrap();
        set.discard(&(STABLE + (n * 7) % 300).to_string()).unwrap();
    }
}

/// One process writes, this one iterates: it comes to an end each time, and what was there throughout came once.
#[test]
fn b20_iterating_while_others_write_ends_and_yields_what_was_there_throughout() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (dict, list, set) = (manager.dict().unwrap(), manager.list().unwrap(), manager.set().unwrap());
    for n in 0..STABLE {
        dict.insert(&n, &n).unwrap();
        list.push(&n).unwrap();
        set.insert(&n.to_string()).unwrap();
    }
    let stop = manager.event().unwrap();
    let child = Process::spawn((dict.clone(), list.clone(), set.clone(), stop.clone()), write).unwrap();
    for round in 0..200 {
        let mut times = HashMap::<(u8, u64), u32>::new();
        let mut saw = |kind, n| *times.entry((kind, n)).or_default() += 1;
        dict.keys().for_each(|key| saw(1, key.unwrap()));
        list.iter().for_each(|element| saw(2, element.unwrap()));
        set.iter().for_each(|element| saw(3, element.unwrap().parse().unwrap()));
        for kind in 1..=3 {
            assert!((0..STABLE).all(|n| times.get(&(kind, n)) == Some(&1)), "round {round}, kind {kind}");
        }
    }
    stop.set().unwrap();
    child.join().unwrap();
    manager.check().unwrap();
}

#[test]
fn b21_set_remove_of_a_missing_element_is_an_error_and_discard_is_not() {
    let set = Manager::new().unwrap().set::<String>().unwrap();
    set.insert("a").unwrap();
    assert_kind(set.remove("b"), ErrorKind::NotFound);
    assert!(!set.discard("b").unwrap());
    set.remove("a").unwrap();
    assert_kind(set.remove("a"), ErrorKind::NotFound);
    assert!(!set.discard("a").unwrap() && set.is_empty().unwrap());
}
