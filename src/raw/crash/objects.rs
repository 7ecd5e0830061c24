//! Objects: building, naming, holding, letting go, collecting.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::harness::{Case, Suite, die_at};
use super::{only, open_dict, open_queue};
use crate::mem::{Field, Op, OpKind};
use crate::raw::object::{self, Kind};
use crate::raw::{latch, recovery};
use crate::{Dict, ErrorKind, Lock, Manager, Queue};

/// A value that holds a handle; a dict of them can be part of a cycle.
#[derive(Serialize, Deserialize)]
struct Node(Dict<u64, Node>);

/// Objects with the directory not counted; no second directory.
fn count(manager: &Manager) -> usize {
    let listed = manager.objects().unwrap().len();
    let all = manager.check().unwrap().objects as usize;
    let directory = usize::from(crate::raw::names::exists(manager.session().segment()));
    assert_eq!(all, listed + directory, "an object that nobody can reach");
    listed
}

fn make_everything(manager: &Manager) {
    let dict = manager.dict::<String, u64>().unwrap();
    dict.insert("a", &1).unwrap();
    assert_eq!(dict.get("a").unwrap(), Some(1));
    let queue = manager.queue::<u64>(2).unwrap();
    queue.put(&1).unwrap();
    assert_eq!(queue.get().unwrap(), 1);
    let lock = manager.lock(3u64).unwrap();
    assert_eq!(lock.lock().unwrap().into_guard().get().unwrap(), 3);
    let named = manager.named("afterwards").dict::<u64, u64>().unwrap();
    named.insert(&1, &1).unwrap();
    drop(named);
    manager.unlink("afterwards").unwrap();
    manager.collect().unwrap();
}

/// Something whose handle the victim drops in the operation, or makes in it.
enum Thing {
    Dict(#[allow(dead_code)] Dict<u64, u64>),
    Boxed(#[allow(dead_code)] Dict<String, String>),
    Queue(#[allow(dead_code)] Queue<String>),
    Lock(#[allow(dead_code)] Lock<String>),
}

fn dict(manager: &Manager) -> Thing {
    let dict = manager.dict().unwrap();
    (0..20).for_each(|i| assert!(dict.insert(&i, &i).unwrap()));
    Thing::Dict(dict)
}

fn boxed(manager: &Manager) -> Thing {
    let dict: Dict<String, String> = manager.dict().unwrap();
    (0..12).for_each(|i| assert!(dict.insert(&format!("{i}"), &format!("{i}")).unwrap()));
    Thing::Boxed(dict)
}

fn queue(manager: &Manager) -> Thing {
    let queue = manager.queue(3).unwrap();
    queue.put(&"x".repeat(100)).unwrap();
    queue.put(&"x".repeat(10)).unwrap();
    Thing::Queue(queue)
}

fn unbounded(manager: &Manager) -> Thing {
    let queue = manager.unbounded_queue().unwrap();
    (0..1030).for_each(|i| queue.put(&"x".repeat(if i % 200 == 0 { 100 } else { 2 })).unwrap());
    Thing::Queue(queue)
}

fn lock(manager: &Manager) -> Thing {
    Thing::Lock(manager.lock("value".to_owned()).unwrap())
}

fn empty(manager: &Manager) -> Thing {
    Thing::Dict(manager.dict().unwrap())
}

fn empty_queue(manager: &Manager) -> Thing {
    Thing::Queue(manager.queue(3).unwrap())
}

fn empty_unbounded(manager: &Manager) -> Thing {
    Thing::Queue(manager.unbounded_queue().unwrap())
}

fn building_and_dropping(suite: &Suite) {
    let kinds: [(&str, fn(&Manager) -> Thing); 4] =
        [("dict", empty), ("queue", empty_queue), ("unbounded queue", empty_unbounded), ("lock", lock)];
    for (name, make) in kinds {
        for first in [true, false] {
            Case {
                name: &format!("object: building a {name}{}", if first { ", the first object" } else { "" }),
                setup: &|manager| (!first).then(|| lock(manager)),
                open: &|_, _| None,
                act: &|victim, thing| *thing = Some(make(victim)),
                verify: &|survivor, state, _| assert_eq!(count(survivor), usize::from(state.is_some())),
                go_on: &|survivor, _| make_everything(survivor),
            }
            .run(suite);
        }
    }
    let kinds: [(&str, fn(&Manager) -> Thing); 5] =
        [("dict", dict), ("boxed dict", boxed), ("queue", queue), ("unbounded queue", unbounded), ("lock", lock)];
    for (name, make) in kinds {
        Case {
            name: &format!("object: dropping the last handle of a {name}"),
            setup: &|_| (),
            open: &|victim, ()| Some(make(victim)),
            act: &|_, thing| drop(thing.take()),
            verify: &|survivor, (), _| assert_eq!(count(survivor), 0),
            go_on: &|survivor, ()| make_everything(survivor),
        }
        .run(suite);
    }
    Case {
        name: "object: holding and letting go of somebody else's",
        setup: &|manager| manager.dict::<u64, u64>().unwrap(),
        open: &|_, _| (),
        act: &|victim, ()| {
            let dict: Dict<u64, u64> = open_dict(victim);
            assert!(dict.is_empty().unwrap());
        },
        verify: &|survivor, dict, _| {
            assert_eq!(count(survivor), 1);
            assert_eq!(survivor.objects().unwrap()[0].holders.len(), 1);
            dict.insert(&1, &1).unwrap();
        },
        go_on: &|survivor, dict| {
            assert_eq!(dict.clone(), *dict);
            make_everything(survivor);
        },
    }
    .run(suite);
}

fn naming(suite: &Suite) {
    for first in [true, false] {
        Case {
            name: if first { "name: the first" } else { "name: another" },
            setup: &|manager| (!first).then(|| manager.named("other").dict::<u64, u64>().unwrap()),
            open: &|_, _| None,
            act: &|victim, dict| *dict = Some(victim.named("n").dict::<u64, u64>().unwrap()),
            verify: &|survivor, other, finished| {
                let there = match survivor.existing("n").dict::<u64, u64>() {
                    Ok(dict) => dict.insert(&1, &1).unwrap(),
                    Err(error) if error.kind() == ErrorKind::NotFound => false,
                    Err(error) => panic!("{error}"),
                };
                assert!(there || !finished);
                assert_eq!(count(survivor), usize::from(there) + usize::from(other.is_some()));
            },
            go_on: &|survivor, _| {
                survivor.named("n").dict::<u64, u64>().unwrap().insert(&1, &2).unwrap();
                assert_eq!(survivor.existing("n").dict::<u64, u64>().unwrap().get(&1).unwrap(), Some(2));
                survivor.unlink("n").unwrap();
                make_everything(survivor);
            },
        }
        .run(suite);
    }
    Case {
        name: "name: opening",
        setup: &|manager| drop(manager.named("n").dict::<u64, u64>().unwrap().insert(&1, &1)),
        open: &|_, _| None,
        act: &|victim, dict| *dict = Some(victim.named("n").dict::<u64, u64>().unwrap()),
        verify: &|survivor, (), _| {
            assert_eq!(count(survivor), 1);
            assert_eq!(survivor.objects().unwrap()[0].holders.len(), 0);
            assert_eq!(survivor.existing("n").dict::<u64, u64>().unwrap().get(&1).unwrap(), Some(1));
        },
        go_on: &|survivor, ()| survivor.unlink("n").unwrap(),
    }
    .run(suite);
    for held in [false, true] {
        Case {
            name: if held { "name: unlinking what the victim holds" } else { "name: unlinking the last hold" },
            setup: &|manager| drop(manager.named("n").dict::<String, String>().unwrap().insert("a", &"b".to_owned())),
            open: &|victim, ()| held.then(|| victim.existing("n").dict::<String, String>().unwrap()),
            act: &|victim, dict| {
                victim.unlink("n").unwrap();
                drop(dict.take());
            },
            verify: &|survivor, (), finished| match survivor.existing("n").dict::<String, String>() {
                Ok(dict) => {
                    assert!(!finished);
                    assert_eq!(dict.get("a").unwrap().unwrap(), "b");
                    assert_eq!(count(survivor), 1);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    assert_eq!(count(survivor), 0);
                }
            },
            go_on: &|survivor, ()| make_everything(survivor),
        }
        .run(suite);
    }
}

fn nesting(suite: &Suite) {
    type Outer = Dict<String, Dict<u64, u64>>;
    let key = || "inner".to_owned();
    let verify = |survivor: &Manager, outer: &Outer, must: Option<bool>| {
        let inner = outer.get("inner").unwrap();
        assert!(must.is_none_or(|must| must == inner.is_some()));
        if let Some(inner) = &inner {
            assert_eq!(inner.get(&1).unwrap(), Some(2));
        }
        assert_eq!(count(survivor), 1 + usize::from(inner.is_some()));
    };
    let make = |manager: &Manager| -> Dict<u64, u64> {
        let inner = manager.dict().unwrap();
        inner.insert(&1, &2).unwrap();
        inner
    };
    let outer = |manager: &Manager| -> Outer { manager.dict().unwrap() };
    Case {
        name: "nested: inserting a dict into a dict",
        setup: &|manager| outer(manager),
        open: &|victim, _| (open_dict::<_, _, crate::Auto, crate::Auto>(victim) as Outer, make(victim)),
        act: &|_, (outer, inner)| drop(outer.insert(&key(), inner)),
        verify: &|survivor, outer, finished| verify(survivor, outer, finished.then_some(true)),
        go_on: &|survivor, outer| {
            outer.insert(&key(), &make(survivor)).unwrap();
            make_everything(survivor);
        },
    }
    .run(suite);
    for (name, by) in [("removing", 0), ("replacing", 1), ("clearing away", 2)] {
        let setup = |manager: &Manager| {
            let outer = outer(manager);
            outer.insert(&key(), &make(manager)).unwrap();
            outer
        };
        Case {
            name: &format!("nested: {name} a dict in a dict"),
            setup: &|manager| setup(manager),
            open: &|victim, outer| {
                // Found by its place: there are two dicts.
                let id = victim
                    .session()
                    .objects()
                    .unwrap()
                    .iter()
                    .map(|o| o.id)
                    .find(|id| victim.session().describe(*id).unwrap().1 == Outer::fingerprint());
                let _ = outer;
                let handle = super::handle(victim, id.unwrap(), Kind::Dict, Outer::fingerprint());
                (Outer::over(handle).unwrap(), (by == 1).then(|| make(victim)))
            },
            act: &|_, (outer, other)| match by {
                0 => assert!(outer.remove("inner").unwrap()),
                1 => assert!(!outer.insert("inner", other.as_ref().unwrap()).unwrap()),
                _ => outer.clear().unwrap(),
            },
            verify: &|survivor, outer, finished| match by {
                1 => verify(survivor, outer, Some(true)),
                _ => verify(survivor, outer, finished.then_some(false)),
            },
            go_on: &|survivor, outer| {
                outer.insert(&key(), &make(survivor)).unwrap();
                make_everything(survivor);
            },
        }
        .run(suite);
    }
}

/// Two dicts that hold each other and are held by nobody else: garbage that no hold leads to.
fn cycle(manager: &Manager) {
    // With this many entries used, letting two of them go does not start a collection yet.
    let unheld = || manager.session().objects().unwrap().iter().filter(|object| object.holders.is_empty()).count();
    let before = unheld();
    let many: Vec<Lock<()>> = (0..40).map(|_| manager.lock(()).unwrap()).collect();
    drop(many);
    let (a, b): (Dict<u64, Node>, Dict<u64, Node>) = (manager.dict().unwrap(), manager.dict().unwrap());
    a.insert(&1, &Node(b.clone())).unwrap();
    b.insert(&1, &Node(a.clone())).unwrap();
    b.insert(&2, &Node(b.clone())).unwrap();
    drop((a, b));
    assert_eq!(unheld(), before + 2);
}

fn collecting(suite: &Suite) {
    Case {
        name: "collect: a cycle",
        setup: &|manager| cycle(manager),
        open: &|_, ()| (),
        act: &|victim, ()| assert!(victim.collect().unwrap() <= 2),
        verify: &|survivor, (), _| assert_eq!(count(survivor), 0),
        go_on: &|survivor, ()| make_everything(survivor),
    }
    .run(suite);
    Case {
        name: "collect: a cycle, and what is rescued",
        setup: &|manager| {
            let named = manager.named("root").dict::<u64, Node>().unwrap();
            let (child, grandchild): (Dict<u64, Node>, Dict<u64, Node>) =
                (manager.dict().unwrap(), manager.dict().unwrap());
            child.insert(&7, &Node(grandchild)).unwrap();
            named.insert(&1, &Node(child)).unwrap();
            let held: Lock<Node> = manager.lock(Node(manager.dict().unwrap())).unwrap();
            // The latch of the collector, with somebody asleep on it.
            let latch = crate::raw::object::collector(manager.session().segment());
            cycle(manager);
            latch.fetch_or(1 << 16, std::sync::atomic::Ordering::Relaxed);
            held
        },
        open: &|_, _| (),
        act: &|victim, ()| assert!(victim.collect().unwrap() <= 2),
        verify: &|survivor, held, finished| {
            survivor.collect().unwrap();
            let _ = finished;
            assert_eq!(count(survivor), 5);
            let named = survivor.existing("root").dict::<u64, Node>().unwrap();
            let child = named.get(&1).unwrap().unwrap().0;
            assert!(child.get(&7).unwrap().unwrap().0.is_empty().unwrap());
            assert!(held.lock().unwrap().into_guard().get().unwrap().0.is_empty().unwrap());
        },
        go_on: &|survivor, held| {
            let other = Node(survivor.dict().unwrap());
            held.lock().unwrap().into_guard().set(&other).unwrap();
            make_everything(survivor);
        },
    }
    .run(suite);
    Case {
        name: "collect: handles in a queue and in a lock, dropped with them",
        setup: &|_| (),
        open: &|victim, ()| {
            let queue = victim.queue::<Node>(3).unwrap();
            queue.put(&Node(victim.dict().unwrap())).unwrap();
            Some((queue, victim.lock(Node(victim.dict().unwrap())).unwrap()))
        },
        act: &|_, both| drop(both.take()),
        verify: &|survivor, (), _| assert_eq!(count(survivor), 0),
        go_on: &|survivor, ()| make_everything(survivor),
    }
    .run(suite);
}

fn queued(suite: &Suite) {
    Case {
        name: "nested: putting a dict into a queue",
        setup: &|manager| manager.queue::<Dict<u64, u64>>(2).unwrap(),
        open: &|victim, _| (open_queue::<Dict<u64, u64>, crate::Auto>(victim), victim.dict::<u64, u64>().unwrap()),
        act: &|_, (queue, dict)| queue.put(dict).unwrap(),
        verify: &|survivor, queue, finished| {
            let length = queue.len().unwrap();
            assert!(length == 1 || !finished && length == 0);
            assert_eq!(count(survivor), 1 + length as usize);
            if length == 1 {
                assert!(queue.get().unwrap().is_empty().unwrap());
            }
        },
        go_on: &|survivor, queue| {
            queue.put_timeout(&survivor.dict().unwrap(), Duration::from_secs(5)).map(drop).unwrap();
            assert!(queue.get().unwrap().is_empty().unwrap());
            make_everything(survivor);
        },
    }
    .run(suite);
}

/// What happens to an object that somebody is deciding about.
fn condemned(suite: &Suite) {
    // A collector that died at any of its steps, and somebody who acquires an object that it had condemned or doomed.
    for step in 1..20 {
        Case {
            name: &format!("object: holding one of a cycle, behind a collector that died at step {step}"),
            setup: &|manager| {
                cycle(manager);
                let dead = Manager::from_session(manager.session().twin().unwrap());
                die_at(step, || (), |()| drop(dead.collect()));
                dead.session().segment().surrender();
                dead
            },
            open: &|victim, _| {
                object::entries(victim.session().segment())
                    .map(|entry| {
                        let entry = entry.unwrap();
                        entry.id(entry.status().unwrap())
                    })
                    .next()
                    .unwrap()
            },
            act: &|victim, id| {
                victim.session().hold(*id).unwrap();
            },
            verify: &|survivor, _, _| assert_eq!(count(survivor), 0),
            go_on: &|survivor, _| make_everything(survivor),
        }
        .run(suite);
    }
    Case {
        name: "object: condemned, then stored by somebody else",
        setup: &|manager| manager.dict::<u64, u64>().unwrap(),
        open: &|victim, _| only(victim, Kind::Dict),
        act: &|victim, id| {
            let segment = victim.session().segment();
            recovery::run(segment, |me| {
                // As `after_release`, stopped in the middle for somebody else's `prepare_handles`.
                let entry = object::entry(segment, id.index)?;
                let op = Op { kind: OpKind::ObjectDestroy, phase: 0, argument: id.index.into() };
                me.intent.set(Field::Op, op.pack());
                assert!(entry.transition(entry.status()?, object::State::Condemned, me.owner()));
                entry.mark(*id, object::NESTED)?;
                assert_eq!(object::destroy_if_unheld(segment, &me.intent, me.owner(), entry)?, object::Fate::Unsure);
                me.intent.set(Field::Op, 0);
                Ok(())
            })
            .unwrap();
        },
        verify: &|survivor, dict, _| {
            assert_eq!(count(survivor), 1);
            dict.insert(&1, &1).unwrap();
        },
        go_on: &|survivor, dict| {
            dict.insert(&1, &1).unwrap();
            make_everything(survivor);
        },
    }
    .run(suite);
    // Somebody alive collects meanwhile: the victim falls asleep on the latch.
    Case {
        name: "collect: waiting for the living",
        setup: &|manager| cycle(manager),
        open: &|victim, ()| {
            let segment = Arc::clone(victim.session().twin().unwrap().segment());
            let (started, has_started) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                recovery::run(&segment, |me| {
                    latch::acquire(me, object::collector(&segment))?;
                    started.send(()).unwrap();
                    std::thread::sleep(Duration::from_millis(4));
                    latch::release(object::collector(&segment));
                    Ok(())
                })
                .unwrap();
                recovery::leave(&segment);
            });
            has_started.recv().unwrap();
        },
        act: &|victim, ()| assert!(victim.collect().unwrap() <= 2),
        verify: &|survivor, (), _| assert_eq!(count(survivor), 0),
        go_on: &|survivor, ()| make_everything(survivor),
    }
    .run(suite);
}

/// Every object case.
pub fn cases(suite: &Suite) {
    condemned(suite);
    queued(suite);
    building_and_dropping(suite);
    naming(suite);
    nesting(suite);
    collecting(suite);
}
