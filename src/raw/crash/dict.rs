//! Dicts: every operation, in both shapes, with and without overflow buckets.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::harness::{Case, Suite, die_at};
use super::{open_dict, open_table};
use crate::codec::{Auto, Codec, Pod};
use crate::raw::recovery;
use crate::raw::table::Expect;
use crate::{Dict, Exchange, Manager};

/// Keys and values of one kind of dict.
trait Flavour {
    type K: Ord + Clone + Debug + Send + Sync;
    type V: PartialEq + Clone + Debug + Send + Sync;
    type KC: Codec<Self::K>;
    type VC: Codec<Self::V>;
    const NAME: &'static str;
    /// Cells of a bucket that inserting may fill.
    const USABLE: usize;
    fn key(n: u64) -> Self::K;
    fn value(n: u64) -> Self::V;
    fn key_bytes(key: &Self::K) -> Vec<u8>;
    fn value_bytes(value: &Self::V) -> Vec<u8>;
}

type D<F> = Dict<<F as Flavour>::K, <F as Flavour>::V, <F as Flavour>::KC, <F as Flavour>::VC>;
type Model<F> = BTreeMap<<F as Flavour>::K, <F as Flavour>::V>;

/// One word and one word, in the bucket.
struct Inline;
/// One word and two, in the bucket: replacing takes the spare cell.
struct Wide;
/// A string and bytes, in blocks.
struct Boxed;

impl Flavour for Inline {
    type K = u64;
    type V = u64;
    type KC = Auto;
    type VC = Auto;
    const NAME: &'static str = "inline";
    const USABLE: usize = 7;
    fn key(n: u64) -> u64 {
        n
    }
    fn value(n: u64) -> u64 {
        n * n
    }
    fn key_bytes(key: &u64) -> Vec<u8> {
        key.to_le_bytes().to_vec()
    }
    fn value_bytes(value: &u64) -> Vec<u8> {
        value.to_le_bytes().to_vec()
    }
}

impl Flavour for Wide {
    type K = u64;
    type V = [u64; 2];
    type KC = Auto;
    type VC = Pod;
    const NAME: &'static str = "wide";
    const USABLE: usize = 7;
    fn key(n: u64) -> u64 {
        n
    }
    fn value(n: u64) -> [u64; 2] {
        [n, !n]
    }
    fn key_bytes(key: &u64) -> Vec<u8> {
        key.to_le_bytes().to_vec()
    }
    fn value_bytes(value: &[u64; 2]) -> Vec<u8> {
        value.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

impl Flavour for Boxed {
    type K = String;
    type V = Vec<u8>;
    type KC = Auto;
    type VC = Auto;
    const NAME: &'static str = "boxed";
    const USABLE: usize = 6;
    fn key(n: u64) -> String {
        format!("k{n}")
    }
    fn value(n: u64) -> Vec<u8> {
        vec![n as u8; 5 + n as usize % 7]
    }
    fn key_bytes(key: &String) -> Vec<u8> {
        key.as_bytes().to_vec()
    }
    fn value_bytes(value: &Vec<u8>) -> Vec<u8> {
        value.clone()
    }
}

/// The survivor's side of a case: the dict, the keys that were chosen, and what is in it.
struct State<F: Flavour> {
    dict: D<F>,
    /// Keys that are in.
    present: Vec<F::K>,
    /// Keys that are not, with the same low bits of the hash as those that are.
    absent: Vec<F::K>,
    before: Model<F>,
}

/// A dict of `count` entries in one bucket, or, if `grown`, in four. The lowest hash bits of each are
/// `pattern[i % len]`, so that splits move what the case says.
fn state<F: Flavour>(manager: &Manager, count: usize, pattern: &[(u64, u64)], grown: bool) -> State<F> {
    let segment = manager.session().segment();
    let dict: D<F> = manager.dict_with().unwrap();
    let mut keys = Vec::new();
    let mut candidate = 0;
    while keys.len() < count + 40 {
        let (mask, bits) = pattern[keys.len() % pattern.len()];
        let key = F::key(candidate);
        if segment.hash(&F::key_bytes(&key)) & mask == bits {
            keys.push(key);
        }
        candidate += 1;
    }
    let absent = keys.split_off(count);
    let table = open_table(manager);
    let mut before = Model::<F>::new();
    for (i, key) in keys.iter().enumerate() {
        let value = F::value(i as u64);
        let bytes = F::key_bytes(key);
        let put = recovery::run(segment, |me| {
            table.put(me, segment.hash(&bytes), &bytes, &F::value_bytes(&value), &[], Expect::Any, None)
        });
        assert!(put.unwrap().done);
        before.insert(key.clone(), value);
        if grown && i == 2 * F::USABLE {
            for _ in 0..4 {
                recovery::run(segment, |me| table.split_if_crowded(me)).unwrap(); // to 2, 3, and 4, and no further
            }
        }
    }
    State { dict, present: keys, absent, before }
}

fn content<F: Flavour>(dict: &D<F>) -> Model<F> {
    let mut model = Model::<F>::new();
    for entry in dict.iter() {
        let (key, value) = entry.unwrap();
        assert_eq!(dict.get(&key).unwrap().as_ref(), Some(&value));
        assert!(model.insert(key, value).is_none(), "iterating repeats a key");
    }
    model
}

/// The dict is as before, or, at the latest when the operation was acknowledged, as after it.
fn verify<F: Flavour>(state: &State<F>, after: &Model<F>, finished: bool) {
    let now = content::<F>(&state.dict);
    assert!(now == *after || (!finished && now == state.before), "{now:?}, {}", if finished { "finished" } else { "" });
    assert_eq!(state.dict.len().unwrap(), now.len() as u64);
    for key in state.absent.iter().filter(|key| !after.contains_key(key)) {
        assert_eq!(state.dict.get(key).unwrap(), None);
    }
}

/// Every bucket can be written, read, counted and cleared.
fn go_on<F: Flavour>(state: &State<F>) {
    let dict = &state.dict;
    for key in state.present.iter().chain(&state.absent) {
        dict.insert(key, &F::value(77)).unwrap();
        assert_eq!(dict.get(key).unwrap(), Some(F::value(77)));
    }
    let all = state.present.len() + state.absent.len();
    assert_eq!(dict.len().unwrap(), all as u64);
    assert_eq!(dict.snapshot().unwrap().len(), all);
    for key in state.present.iter().chain(&state.absent) {
        assert!(dict.remove(key).unwrap());
    }
    assert!(dict.is_empty().unwrap());
    dict.insert(&state.absent[0], &F::value(1)).unwrap();
    dict.clear().unwrap();
    assert_eq!(dict.len().unwrap(), 0);
}

/// A state for an operation.
#[derive(Clone, Copy)]
struct Small {
    name: &'static str,
    count: usize,
    pattern: &'static [(u64, u64)],
    grown: bool,
}

const ANY: &[(u64, u64)] = &[(0, 0)];
/// All entries in one bucket, of up to eight.
const TOGETHER: &[(u64, u64)] = &[(7, 0)];
/// Every other entry moves when bucket 0 of one is split.
const HALVES: &[(u64, u64)] = &[(1, 0), (1, 1)];
/// Every other entry moves when bucket 0 of four is split.
const QUARTERS: &[(u64, u64)] = &[(7, 0), (7, 4)];

/// Runs `act` on the dict of state `small`; `after` makes the model after it from the one before.
fn case<F: Flavour>(
    suite: &Suite,
    name: &str,
    small: Small,
    act: impl Fn(&D<F>, &Hands<F>) + Sync,
    after: impl Fn(&mut Model<F>, &Hands<F>) + Sync,
) {
    let hands =
        |dict, state: &State<F>| Hands::<F> { dict, present: state.present.clone(), absent: state.absent.clone() };
    Case {
        name: &format!("dict {}: {name}, {}", F::NAME, small.name),
        setup: &|manager| state::<F>(manager, small.count, small.pattern, small.grown),
        open: &|victim, state| hands(open_dict(victim), state),
        act: &|_, hands| act(&hands.dict, hands),
        verify: &|_, state, finished| {
            let mut model = state.before.clone();
            after(&mut model, &hands(state.dict.clone(), state));
            verify(state, &model, finished);
        },
        go_on: &|survivor, state| {
            if name == "clear" {
                survivor.recover().unwrap(); // what goes on clearing must not clear what is put in here
            }
            go_on(state);
        },
    }
    .run(suite);
}

/// The victim's side of a case.
struct Hands<F: Flavour> {
    dict: D<F>,
    present: Vec<F::K>,
    absent: Vec<F::K>,
}

/// States of a table: empty, with room, with a full bucket, with a chain.
fn states<F: Flavour>() -> [Small; 4] {
    [
        Small { name: "empty", count: 0, pattern: ANY, grown: false },
        Small { name: "room", count: 2, pattern: ANY, grown: false },
        Small { name: "full bucket", count: F::USABLE, pattern: TOGETHER, grown: false },
        Small { name: "chain", count: F::USABLE + 3, pattern: TOGETHER, grown: false },
    ]
}

fn of_every_flavour<F: Flavour>(suite: &Suite) {
    for small in states::<F>() {
        let insert = |dict: &D<F>, hands: &Hands<F>| assert!(dict.insert(&hands.absent[0], &F::value(9)).unwrap());
        case::<F>(suite, "insert", small, insert, |model, hands| {
            model.insert(hands.absent[0].clone(), F::value(9));
        });
        let refused = |dict: &D<F>, hands: &Hands<F>| {
            let answer = dict.compare_exchange(&hands.absent[0], Some(&F::value(1)), Some(&F::value(2))).unwrap();
            assert_eq!(answer, Exchange::Unequal(None));
        };
        case::<F>(suite, "compare-exchange of nothing", small, refused, |_, _| {});
        if small.count == 0 {
            continue;
        }
        for at in [0, small.count - 1] {
            let name = if at == 0 { "first" } else { "last" };
            let replace = |dict: &D<F>, hands: &Hands<F>| {
                assert!(!dict.insert(&hands.present[at], &F::value(30)).unwrap());
            };
            case::<F>(suite, &format!("replace {name}"), small, replace, |model, hands| {
                model.insert(hands.present[at].clone(), F::value(30));
            });
            let remove = |dict: &D<F>, hands: &Hands<F>| assert!(dict.remove(&hands.present[at]).unwrap());
            case::<F>(suite, &format!("remove {name}"), small, remove, |model, hands| {
                model.remove(&hands.present[at]);
            });
        }
        let refused = |dict: &D<F>, hands: &Hands<F>| {
            let answer = dict.compare_exchange(&hands.present[0], Some(&F::value(55)), Some(&F::value(2))).unwrap();
            assert_eq!(answer, Exchange::Unequal(Some(F::value(0))));
        };
        case::<F>(suite, "compare-exchange mismatch", small, refused, |_, _| {});
        let exchange = |dict: &D<F>, hands: &Hands<F>| {
            let answer = dict.compare_exchange(&hands.present[0], Some(&F::value(0)), Some(&F::value(2))).unwrap();
            assert_eq!(answer, Exchange::Done);
        };
        case::<F>(suite, "compare-exchange", small, exchange, |model, hands| {
            model.insert(hands.present[0].clone(), F::value(2));
        });
        case::<F>(suite, "clear", small, |dict, _| dict.clear().unwrap(), |model, _| model.clear());
        let snapshot = |dict: &D<F>, hands: &Hands<F>| assert_eq!(dict.snapshot().unwrap().len(), hands.present.len());
        case::<F>(suite, "snapshot", small, snapshot, |_, _| {});
    }
}

fn splits<F: Flavour>(suite: &Suite) {
    let crowded = |name, count, pattern, grown| Small { name, count, pattern, grown };
    let both_chains = 2 * F::USABLE + 3;
    for small in [
        crowded("half of it moves", F::USABLE, HALVES, false),
        crowded("chains on both sides", both_chains, HALVES, false),
        crowded("everything stays", both_chains, TOGETHER, false),
        crowded("a new chunk, chains on both sides", 4 * F::USABLE, QUARTERS, true),
    ] {
        Case {
            name: &format!("dict {}: split, {}", F::NAME, small.name),
            setup: &|manager| {
                let state = state::<F>(manager, small.count, small.pattern, small.grown);
                (state, open_table(manager))
            },
            open: &|_, _| (),
            act: &|victim, ()| {
                let table = open_table(victim);
                recovery::run(victim.session().segment(), |me| table.split_if_crowded(me)).unwrap();
            },
            verify: &|_, (state, _), finished| verify(state, &state.before, finished),
            go_on: &|_, (state, _)| go_on(state),
        }
        .run(suite);
    }
}

/// Two threads of one process die: one in the middle of a clear, the other in a put into a bucket that the clear has
/// still before it. Whoever goes on with the clear needs that bucket's latch.
fn clear_and_put<F: Flavour>(suite: &Suite) {
    let last = 1 - F::USABLE % 2; // the first of the absent keys that belongs into the last bucket
    for step in [4, 7, 10] {
        Case {
            name: &format!("dict {}: put, beside a clear that died at step {step}", F::NAME),
            setup: &|manager| {
                let state = state::<F>(manager, F::USABLE, HALVES, false);
                let table = open_table(manager);
                recovery::run(manager.session().segment(), |me| table.split_if_crowded(me)).unwrap();
                state
            },
            open: &|victim, state| {
                // First, so that it has the slot that is recovered first.
                let (cleared, _) =
                    die_at(step, || open_dict::<F::K, F::V, F::KC, F::VC>(victim), |dict| dict.clear().unwrap());
                assert!(!cleared);
                (open_dict::<F::K, F::V, F::KC, F::VC>(victim), state.absent[last].clone())
            },
            act: &|_, (dict, key)| assert!(dict.insert(key, &F::value(9)).unwrap()),
            verify: &|survivor, state, _| {
                let left = content::<F>(&state.dict);
                assert!(left.len() <= 1 && left.keys().all(|key| *key == state.absent[last]), "{left:?}");
                survivor.check().unwrap();
            },
            go_on: &|survivor, state| {
                survivor.recover().unwrap();
                go_on(state);
            },
        }
        .run(suite);
    }
}

/// The clear meets somebody who died in a put, when it has cleared some already: it recovers that one and goes on, and
/// killed in between it must be completed nevertheless.
fn clear_behind_the_dead<F: Flavour>(suite: &Suite) {
    let last = 1 - F::USABLE % 2;
    Case {
        name: &format!("dict {}: clear, behind a put that died", F::NAME),
        setup: &|manager| {
            let state = state::<F>(manager, F::USABLE, HALVES, false);
            let table = open_table(manager);
            recovery::run(manager.session().segment(), |me| table.split_if_crowded(me)).unwrap();
            let dead = Manager::from_session(manager.session().twin().unwrap());
            // Far enough to hold the latch, whichever flavour it is.
            let insert = |dict: &mut D<F>| assert!(dict.insert(&state.absent[last], &F::value(9)).unwrap());
            let (_, stores) = die_at(u64::MAX, || open_dict::<F::K, F::V, F::KC, F::VC>(manager), insert);
            assert!(state.dict.remove(&state.absent[last]).unwrap());
            let (inserted, _) =
                die_at(stores.len() as u64 - 2, || open_dict::<F::K, F::V, F::KC, F::VC>(&dead), insert);
            assert!(!inserted);
            dead.session().segment().surrender();
            (state, dead)
        },
        open: &|victim, _| open_dict::<F::K, F::V, F::KC, F::VC>(victim),
        act: &|_, dict| dict.clear().unwrap(),
        verify: &|_, (state, _), finished| {
            let mut now = content::<F>(&state.dict);
            now.remove(&state.absent[last]);
            assert!(now.is_empty() || !finished && now == state.before, "{now:?}");
        },
        go_on: &|survivor, (state, _)| {
            survivor.recover().unwrap();
            go_on(state);
        },
    }
    .run(suite);
}

/// Somebody died in the middle of a put, of a split, of a snapshot; the victim meets that one, recovers it, and dies in
/// turn.
fn behind_the_dead<F: Flavour>(suite: &Suite) {
    let dead = |manager: &Manager, step, operation: &(dyn Fn(&D<F>, &State<F>) + Sync), state: &State<F>| {
        let dead = Manager::from_session(manager.session().twin().unwrap());
        die_at(step, || open_dict::<F::K, F::V, F::KC, F::VC>(&dead), |dict| operation(dict, state));
        dead.session().segment().surrender();
        dead
    };
    let small = |count| move |manager: &Manager| state::<F>(manager, count, TOGETHER, false);
    let after = |state: &State<F>| {
        let mut model = state.before.clone();
        model.insert(state.absent[1].clone(), F::value(9));
        model
    };
    for step in 4..12 {
        // The dead one removes an entry and the victim inserts one.
        Case {
            name: &format!("dict {}: insert, behind a removal that died at step {step}", F::NAME),
            setup: &|manager| {
                let state = small(3)(manager);
                let remove = |dict: &D<F>, state: &State<F>| assert!(dict.remove(&state.present[0]).unwrap());
                let dead = dead(manager, step, &remove, &state);
                (state, dead)
            },
            open: &|victim, (state, _)| (open_dict::<F::K, F::V, F::KC, F::VC>(victim), state.absent[1].clone()),
            act: &|_, (dict, key)| assert!(dict.insert(key, &F::value(9)).unwrap()),
            verify: &|_, (state, _), finished| {
                let now = content::<F>(&state.dict);
                let mut possible = vec![after(state)];
                if !finished {
                    possible.push(state.before.clone());
                }
                let removed = possible.iter().cloned().map(|mut model| {
                    model.remove(&state.present[0]);
                    model
                });
                assert!(possible.contains(&now) || removed.into_iter().any(|model| model == now), "{now:?}");
                assert_eq!(state.dict.len().unwrap(), now.len() as u64);
            },
            go_on: &|_, (state, _)| go_on(state),
        }
        .run(suite);
        // The dead one left the count unsure, and the victim counts anew.
        Case {
            name: &format!("dict {}: len, behind a removal that died at step {step}", F::NAME),
            setup: &|manager| {
                let state = small(3)(manager);
                let remove = |dict: &D<F>, state: &State<F>| assert!(dict.remove(&state.present[0]).unwrap());
                drop(dead(manager, step, &remove, &state));
                manager.recover().unwrap();
                state
            },
            open: &|victim, _| open_dict::<F::K, F::V, F::KC, F::VC>(victim),
            act: &|_, dict| assert!((2..=3).contains(&dict.len().unwrap())),
            verify: &|_, state, _| assert_eq!(state.dict.len().unwrap(), content::<F>(&state.dict).len() as u64),
            go_on: &|_, state| go_on(state),
        }
        .run(suite);
    }
    for step in [5, 8, 11, 14, 17] {
        Case {
            name: &format!("dict {}: split, behind a split that died at step {step}", F::NAME),
            setup: &|manager| {
                let state = state::<F>(manager, 2 * F::USABLE + 3, HALVES, false);
                let dead = Manager::from_session(manager.session().twin().unwrap());
                let table = open_table(manager);
                let split = |_: &mut ()| {
                    recovery::run(dead.session().segment(), |me| table.split_if_crowded(me)).unwrap();
                };
                die_at(step, || (), split);
                dead.session().segment().surrender();
                (state, dead)
            },
            open: &|victim, _| open_table(victim),
            act: &|victim, table| {
                recovery::run(victim.session().segment(), |me| table.split_if_crowded(me)).unwrap();
            },
            verify: &|_, (state, _), finished| verify(state, &state.before, finished),
            go_on: &|_, (state, _)| go_on(state),
        }
        .run(suite);
    }
    Case {
        name: &format!("dict {}: reading under the latch", F::NAME),
        setup: &small(3),
        open: &|victim, state| (open_table(victim), F::key_bytes(&state.present[0])),
        act: &|victim, (table, key)| {
            let segment = victim.session().segment();
            assert!(table.look_latched(segment, segment.hash(key)).is_ok());
        },
        verify: &|_, state, finished| verify(state, &state.before, finished),
        go_on: &|_, state| go_on(state),
    }
    .run(suite);
}

/// Every dict case.
pub fn cases(suite: &Suite) {
    of_every_flavour::<Inline>(suite);
    of_every_flavour::<Boxed>(suite);
    of_every_flavour::<Wide>(suite);
    clear_and_put::<Inline>(suite);
    clear_and_put::<Boxed>(suite);
    clear_behind_the_dead::<Inline>(suite);
    clear_behind_the_dead::<Boxed>(suite);
    behind_the_dead::<Inline>(suite);
    behind_the_dead::<Boxed>(suite);
    splits::<Inline>(suite);
    splits::<Boxed>(suite);
    for small in states::<Inline>() {
        let add = |dict: &D<Inline>, hands: &Hands<Inline>| {
            assert_eq!(dict.fetch_add(hands.present.first().unwrap_or(&hands.absent[0]), 5).unwrap(), 0);
        };
        case::<Inline>(suite, "fetch_add", small, add, |model, hands| {
            *model.entry(*hands.present.first().unwrap_or(&hands.absent[0])).or_default() += 5;
        });
    }
}
