//! Own types: made of their parts, named, let go of.

use super::harness::{Case, Suite};
use crate::handle::Handle;
use crate::{Dict, List, Lock, Manager, Result};

crate::shared! {
    struct Pair {
        words: Dict<u64, u64>,
        inner: Inner,
    }

    struct Inner {
        numbers: List<u64>,
        text: Lock<String>,
    }
}

/// Pair, dict, inner, list, lock.
const OBJECTS: usize = 5;

/// One without a look at its fields, which would be by way of the survivor's membership.
fn make(manager: &Manager, name: Option<&str>) -> Handle {
    let inner = |manager: &Manager| Ok((manager.list()?, manager.lock("text".to_owned())?));
    let fields = |manager: &Manager| -> Result<_> { Ok((manager.dict()?, manager.shared_with::<Inner>(inner)?)) };
    let place = name.map_or_else(|| manager.place(), |name| manager.named(name));
    place.record::<Pair>(fields).unwrap()
}

/// The same of one that has no record in it.
fn make_inner(manager: &Manager, name: Option<&str>) -> Handle {
    let inner = |manager: &Manager| Ok((manager.list()?, manager.lock("text".to_owned())?));
    name.map_or_else(|| manager.place(), |name| manager.named(name)).record::<Inner>(inner).unwrap()
}

fn count(manager: &Manager) -> usize {
    manager.collect().unwrap();
    manager.objects().unwrap().len()
}

fn go_on(manager: &Manager) {
    let pair: Pair = manager.shared().unwrap();
    pair.words.insert(&1, &1).unwrap();
    pair.inner.numbers.push(&2).unwrap();
    drop(pair); // may have met the dead, or not
    let _ = manager.unlink("r");
    manager.recover().unwrap(); // what only the dead held
    assert_eq!(count(manager), 0);
}

/// Every case of own types.
pub fn cases(suite: &Suite) {
    Case {
        name: "record: create",
        setup: &|_| (),
        open: &|_, ()| None,
        act: &|victim, hands| *hands = Some(make_inner(victim, None)),
        verify: &|survivor, (), _| assert_eq!(count(survivor), 0),
        go_on: &|survivor, ()| go_on(survivor),
    }
    .run(suite);
    Case {
        name: "record: create and name",
        setup: &|_| (),
        open: &|_, ()| None,
        act: &|victim, hands| *hands = Some(make_inner(victim, Some("r"))),
        verify: &|survivor, (), finished| match survivor.existing("r").shared::<Inner>() {
            Ok(inner) => {
                assert_eq!(count(survivor), 3);
                assert_eq!(inner.text.lock().unwrap().into_guard().get().unwrap(), "text");
                inner.numbers.push(&1).unwrap();
            }
            Err(e) => assert!(!finished && count(survivor) == 0, "{e}"),
        },
        go_on: &|survivor, ()| go_on(survivor),
    }
    .run(suite);
    Case {
        name: "record: dropping the last handle",
        setup: &|_| (),
        open: &|victim, ()| Some(make_inner(victim, None)),
        act: &|_, hands| drop(hands.take()),
        verify: &|survivor, (), _| assert_eq!(count(survivor), 0),
        go_on: &|survivor, ()| go_on(survivor),
    }
    .run(suite);
    Case {
        name: "record: collecting one of a record",
        setup: &|manager| drop(make(manager, Some("r"))),
        open: &|_, ()| assert_eq!(OBJECTS, 5),
        act: &|victim, ()| victim.unlink("r").unwrap(),
        verify: &|survivor, (), finished| {
            let left = count(survivor);
            assert!(left == 0 || !finished && left == OBJECTS, "{left}");
        },
        go_on: &|survivor, ()| go_on(survivor),
    }
    .run(suite);
}
