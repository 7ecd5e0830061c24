//! Lists: every operation, in both forms, on spines that are empty, have room, are full, and begin late.

use std::fmt::Debug;

use super::harness::{Case, Suite};
use super::{handle, only};
use crate::codec::{Auto, Codec};
use crate::raw::object::Kind;
use crate::{Dict, List, Manager};

/// Elements of one form of list.
trait Flavour {
    type T: Ord + Clone + Debug + Send + Sync + 'static;
    const NAME: &'static str;
    fn element(n: u64) -> Self::T;
}

/// In the slots.
struct Inline;
/// In blocks.
struct Boxed;

impl Flavour for Inline {
    type T = u64;
    const NAME: &'static str = "inline";
    fn element(n: u64) -> u64 {
        n * 7 % 31
    }
}

impl Flavour for Boxed {
    type T = String;
    const NAME: &'static str = "boxed";
    fn element(n: u64) -> String {
        "x".repeat((n * 7 % 31) as usize)
    }
}

fn elements<F: Flavour>(from: u64, count: u64) -> Vec<F::T> {
    (from..from + count).map(F::element).collect()
}

fn open<T>(manager: &Manager) -> List<T>
where
    Auto: Codec<T>,
{
    let id = only(manager, Kind::List);
    List::over(handle(manager, id, Kind::List, List::<T>::fingerprint())).unwrap()
}

/// What a list is like before an operation: so many elements, of which so many are popped from the front again.
#[derive(Clone, Copy)]
struct Small {
    name: &'static str,
    pushed: u64,
    popped: u64,
}

const EMPTY: Small = Small { name: "empty", pushed: 0, popped: 0 };
const ROOM: Small = Small { name: "room", pushed: 3, popped: 0 };
/// As many elements as the least spine has slots.
const FULL: Small = Small { name: "full", pushed: 12, popped: 0 };
const LATE: Small = Small { name: "begins late", pushed: 7, popped: 3 };

fn state<F: Flavour>(manager: &Manager, small: Small) -> (List<F::T>, Vec<F::T>)
where
    Auto: Codec<F::T>,
{
    let list = manager.list::<F::T>().unwrap();
    for element in elements::<F>(0, small.pushed) {
        list.push(&element).unwrap();
    }
    for _ in 0..small.popped {
        list.pop_front().unwrap();
    }
    let before = elements::<F>(small.popped, small.pushed - small.popped);
    assert_eq!(list.snapshot().unwrap(), before);
    (list, before)
}

fn case<F: Flavour>(
    suite: &Suite,
    name: &str,
    small: Small,
    act: impl Fn(&List<F::T>) + Sync,
    after: impl Fn(&mut Vec<F::T>) + Sync,
) where
    Auto: Codec<F::T>,
{
    Case {
        name: &format!("list {}: {name}, {}", F::NAME, small.name),
        setup: &|manager| state::<F>(manager, small),
        open: &|victim, _| open::<F::T>(victim),
        act: &|_, list| act(list),
        verify: &|_, (list, before), finished| {
            let mut model = before.clone();
            after(&mut model);
            let now = list.snapshot().unwrap();
            assert!(now == model || !finished && now == *before, "{now:?}");
            assert_eq!(list.len().unwrap(), now.len() as u64);
            let by_index: Vec<F::T> = (0..now.len() as u64).map(|i| list.get(i).unwrap()).collect();
            assert_eq!(by_index, now);
        },
        go_on: &|_, (list, _)| {
            list.push(&F::element(50)).unwrap();
            assert_eq!(list.pop().unwrap(), Some(F::element(50)));
            list.insert(0, &F::element(51)).unwrap();
            list.set(0, &F::element(52)).unwrap();
            list.sort().unwrap();
            assert!(list.snapshot().unwrap().is_sorted());
            list.extend(&elements::<F>(60, 20)).unwrap();
            assert_eq!(list.snapshot().unwrap()[list.len().unwrap() as usize - 20..], elements::<F>(60, 20));
            list.clear().unwrap();
            assert!(list.is_empty().unwrap());
        },
    }
    .run(suite);
}

fn of_a_flavour<F: Flavour>(suite: &Suite)
where
    Auto: Codec<F::T>,
{
    for small in [EMPTY, ROOM, FULL, LATE] {
        let new = F::element(40);
        case::<F>(suite, "push", small, |list| list.push(&new).unwrap(), |model| model.push(new.clone()));
        let two = elements::<F>(41, 2);
        case::<F>(suite, "extend", small, |list| list.extend(&two).unwrap(), |model| model.extend(two.clone()));
        case::<F>(suite, "pop", small, |list| _ = list.pop().unwrap(), |model| _ = model.pop());
        let drop_first = |model: &mut Vec<F::T>| model.drain(..model.len().min(1)).for_each(drop);
        case::<F>(suite, "pop_front", small, |list| _ = list.pop_front().unwrap(), drop_first);
        case::<F>(suite, "clear", small, |list| list.clear().unwrap(), |model| model.clear());
        let reverse = |model: &mut Vec<F::T>| model.reverse();
        case::<F>(suite, "reverse", small, |list| list.reverse().unwrap(), reverse);
        case::<F>(suite, "sort", small, |list| list.sort().unwrap(), |model| model.sort());
        let repeat = |model: &mut Vec<F::T>| *model = [&model[..], &model[..]].concat();
        case::<F>(suite, "repeat", small, |list| list.repeat(2).unwrap(), repeat);
        let splice = |model: &mut Vec<F::T>| _ = model.splice(0..0, two.clone());
        case::<F>(suite, "insert two", small, |list| list.set_range(0..0, &two).unwrap(), splice);
    }
    for small in [ROOM, FULL, LATE] {
        let new = F::element(40);
        case::<F>(suite, "set", small, |list| list.set(1, &new).unwrap(), |model| model[1] = new.clone());
        case::<F>(suite, "insert", small, |list| list.insert(1, &new).unwrap(), |model| model.insert(1, new.clone()));
        case::<F>(suite, "pop_at", small, |list| _ = list.pop_at(1).unwrap(), |model| _ = model.remove(1));
        let victim = F::element(small.popped + 2);
        let remove = |model: &mut Vec<F::T>| _ = model.remove(2);
        case::<F>(suite, "remove", small, |list| list.remove(&victim).unwrap(), remove);
        let range = |model: &mut Vec<F::T>| drop(model.drain(1..3));
        case::<F>(suite, "remove_range", small, |list| list.remove_range(1..3).unwrap(), range);
        let many = elements::<F>(41, 20);
        let splice = |model: &mut Vec<F::T>| _ = model.splice(1..2, many.clone());
        case::<F>(suite, "set_range", small, |list| list.set_range(1..2, &many).unwrap(), splice);
    }
    // Errors under the latch: what was made ready is given back.
    let two = elements::<F>(41, 2);
    let nothing = |_: &mut Vec<F::T>| ();
    case::<F>(suite, "set_range out of range", ROOM, |list| assert!(list.set_range(1..9, &two).is_err()), nothing);
    case::<F>(suite, "set out of range", ROOM, |list| assert!(list.set(3, &two[0]).is_err()), nothing);
    case::<F>(
        suite,
        "update",
        ROOM,
        |list| _ = list.update(1, |_| two[1].clone()).unwrap(),
        |model| {
            model[1] = two[1].clone();
        },
    );
}

type Dicts = List<Dict<u64, u64>>;

/// Lists of handles: what they name lives as long as it is in the list. (What decodes a handle is left to `tests/kill.rs`:
/// here it would be held in the name of the survivor, whose membership is the one that the process knows.)
fn handles(suite: &Suite) {
    let with_dict = |manager: &Manager, content: u64| {
        let dict = manager.dict::<u64, u64>().unwrap();
        dict.insert(&1, &content).unwrap();
        dict
    };
    let content =
        |list: &Dicts| -> Vec<u64> { list.iter().map(|dict| dict.unwrap().get(&1).unwrap().unwrap()).collect() };
    let run = |name: &str, act: &(dyn Fn(&Manager, &mut Dicts) + Sync), after: &[u64]| {
        Case {
            name: &format!("list of handles: {name}"),
            setup: &|manager| {
                let list = manager.list().unwrap();
                (1..=3).for_each(|n| list.push(&with_dict(manager, n)).unwrap());
                list
            },
            open: &|victim, _| open(victim),
            act,
            verify: &|survivor, list: &Dicts, finished| {
                let now = content(list);
                assert!(now == after || !finished && now == [1, 2, 3], "{now:?}");
                survivor.collect().unwrap();
                assert_eq!(survivor.objects().unwrap().len(), now.len() + 1);
                assert_eq!(content(list), now);
            },
            go_on: &|survivor, list| {
                list.push(&with_dict(survivor, 9)).unwrap();
                assert_eq!(list.pop().unwrap().unwrap().get(&1).unwrap(), Some(9));
                list.clear().unwrap();
                survivor.recover().unwrap();
                survivor.collect().unwrap();
                assert_eq!(survivor.objects().unwrap().len(), 1);
            },
        }
        .run(suite);
    };
    run("push", &|victim, list| list.push(&with_dict(victim, 4)).unwrap(), &[1, 2, 3, 4]);
    run("remove_at", &|_, list| list.remove_at(1).unwrap(), &[1, 3]);
    run("remove_range", &|_, list| list.remove_range(..2).unwrap(), &[3]);
    run("clear", &|_, list| list.clear().unwrap(), &[]);
    run("reverse", &|_, list| list.reverse().unwrap(), &[3, 2, 1]);
    run("set", &|victim, list| list.set(1, &with_dict(victim, 5)).unwrap(), &[1, 5, 3]);
}

/// Every list case.
pub fn cases(suite: &Suite) {
    of_a_flavour::<Inline>(suite);
    of_a_flavour::<Boxed>(suite);
    handles(suite);
    Case {
        name: "list: create",
        setup: &|_| (),
        open: &|_, ()| (),
        act: &|victim, ()| victim.named("l").list::<u64>().unwrap().push(&1).unwrap(),
        verify: &|survivor, (), finished| {
            let found = survivor.existing("l").list::<u64>();
            assert!(found.is_ok() || !finished);
            assert!(found.is_err() || matches!(found.unwrap().snapshot().unwrap()[..], [] | [1]));
        },
        go_on: &|survivor, ()| survivor.named("l").list::<u64>().unwrap().push(&2).unwrap(),
    }
    .run(suite);
}
