//! Sets and namespaces: the operations that dicts do not have in this form.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::harness::{Case, Suite};
use super::{handle, only};
use crate::codec::{Auto, Codec};
use crate::raw::object::Kind;
use crate::{Dict, Manager, Namespace, Set};

fn open<T>(manager: &Manager) -> Set<T>
where
    Auto: Codec<T>,
{
    let id = only(manager, Kind::Set);
    Set::over(handle(manager, id, Kind::Set, Set::<T>::fingerprint())).unwrap()
}

fn of_a_shape<T>(suite: &Suite, shape: &str, element: fn(u64) -> T)
where
    T: Ord + Clone + Debug + Send + Sync + 'static,
    Auto: Codec<T>,
{
    let content = |set: &Set<T>| set.iter().collect::<crate::Result<BTreeSet<T>>>().unwrap();
    let run = |name: &str, count: u64, act: &(dyn Fn(&Set<T>) + Sync), after: &(dyn Fn(&mut BTreeSet<T>) + Sync)| {
        Case {
            name: &format!("set {shape}: {name}, {count}"),
            setup: &|manager| {
                let set = manager.set::<T>().unwrap();
                (0..count).for_each(|n| assert!(set.insert(&element(n)).unwrap()));
                set
            },
            open: &|victim, _| open::<T>(victim),
            act: &|_, set| act(set),
            verify: &|_, set, finished| {
                let before: BTreeSet<T> = (0..count).map(element).collect();
                let mut model = before.clone();
                after(&mut model);
                let now = content(set);
                assert!(now == model || !finished && now == before, "{now:?}");
                assert_eq!(set.len().unwrap(), now.len() as u64);
            },
            go_on: &|survivor, set| {
                survivor.recover().unwrap();
                for n in 0..40 {
                    set.insert(&element(n)).unwrap();
                    assert!(set.contains(&element(n)).unwrap());
                }
                assert!((0..40).all(|n| set.discard(&element(n)).unwrap()));
                assert!(set.remove(&element(1)).is_err());
            },
        }
        .run(suite);
    };
    for count in [0, 5, 9] {
        let fresh = move || element(30);
        run("insert", count, &move |set| assert!(set.insert(&fresh()).unwrap()), &move |model| {
            model.insert(fresh());
        });
    }
    for count in [1, 9] {
        run("insert again", count, &|set| assert!(!set.insert(&element(0)).unwrap()), &|_| ());
        run("remove", count, &|set| set.remove(&element(0)).unwrap(), &|model| _ = model.remove(&element(0)));
    }
    run("pop", 1, &|set| assert_eq!(set.pop().unwrap(), Some(element(0))), &|model| model.clear());
}

/// Every case of sets and namespaces.
pub fn cases(suite: &Suite) {
    of_a_shape::<u64>(suite, "inline", |n| n);
    of_a_shape::<u128>(suite, "inline, two words", |n| u128::from(n) << 60);
    of_a_shape::<String>(suite, "boxed", |n| n.to_string());
    Case {
        name: "set: inserting a handle",
        setup: &|manager| manager.set::<Dict<u64, u64>>().unwrap(),
        open: &|victim, _| open::<Dict<u64, u64>>(victim),
        act: &|victim, set| assert!(set.insert(&victim.dict().unwrap()).unwrap()),
        verify: &|survivor, set, finished| {
            survivor.collect().unwrap();
            let dicts = set.snapshot().unwrap();
            assert!(dicts.len() == 1 || !finished);
            for dict in &dicts {
                dict.insert(&1, &1).unwrap();
                assert!(set.contains(dict).unwrap(), "equal from every process");
            }
            assert_eq!(survivor.objects().unwrap().len(), 1 + dicts.len());
        },
        go_on: &|survivor, set| {
            survivor.recover().unwrap();
            set.clear().unwrap();
            survivor.collect().unwrap();
            assert_eq!(survivor.objects().unwrap().len(), 1);
        },
    }
    .run(suite);

    keys_with_handles(suite);

    let open_namespace = |manager: &Manager| {
        let id = only(manager, Kind::Namespace);
        Namespace::over(handle(manager, id, Kind::Namespace, Namespace::fingerprint())).unwrap()
    };
    Case {
        name: "namespace: set, over another type",
        setup: &|manager| {
            let space = manager.namespace().unwrap();
            space.set("a", &1u64).unwrap();
            space
        },
        open: &|victim, _| open_namespace(victim),
        act: &|_, space| assert!(!space.set("a", &"text".to_owned()).unwrap()),
        verify: &|_, space, finished| match space.get::<u64>("a") {
            Ok(before) => assert!(before == Some(1) && !finished),
            Err(_) => assert_eq!(space.get::<String>("a").unwrap().unwrap(), "text"),
        },
        go_on: &|_, space| {
            space.set("b", &2.5f64).unwrap();
            assert!(space.remove("a").unwrap());
            assert_eq!(space.names().unwrap(), ["b"]);
        },
    }
    .run(suite);
}

/// A dict whose keys are handles: inserting one, and a new value for one that is there.
fn keys_with_handles(suite: &Suite) {
    type Keyed = Dict<Dict<u64, u64>, String>;
    let open = |victim: &Manager| -> Keyed {
        let objects = victim.session().objects().unwrap();
        let mut ids = objects.iter().map(|object| object.id);
        let id = ids.find(|id| victim.session().describe(*id).unwrap().1 == Keyed::fingerprint());
        Keyed::over(handle(victim, id.unwrap(), Kind::Dict, Keyed::fingerprint())).unwrap()
    };
    let verify = |survivor: &Manager, keyed: &Keyed, values: &[&str], must: bool| {
        survivor.collect().unwrap();
        let entries = keyed.snapshot().unwrap();
        assert!(entries.len() == 1 || !must && entries.is_empty());
        for (key, value) in &entries {
            key.insert(&1, &1).unwrap();
            assert!(values.contains(&value.as_str()), "{value}");
            assert_eq!(keyed.get(key).unwrap().as_ref(), Some(value), "equal from every process");
        }
        assert_eq!(survivor.objects().unwrap().len(), 1 + entries.len());
    };
    let go_on = |survivor: &Manager, keyed: &Keyed| {
        survivor.recover().unwrap();
        keyed.clear().unwrap();
        survivor.collect().unwrap();
        assert_eq!(survivor.objects().unwrap().len(), 1);
    };
    Case {
        name: "dict: inserting a key with a handle",
        setup: &|manager| -> Keyed { manager.dict().unwrap() },
        open: &|victim, _| open(victim),
        act: &|victim, keyed| assert!(keyed.insert(&victim.dict().unwrap(), &"new".to_owned()).unwrap()),
        verify: &|survivor, keyed, finished| verify(survivor, keyed, &["new"], finished),
        go_on: &go_on,
    }
    .run(suite);
    Case {
        name: "dict: replacing the value of a key with a handle",
        setup: &|manager| -> Keyed {
            let keyed = manager.dict().unwrap();
            assert!(keyed.insert(&manager.dict().unwrap(), &"old".to_owned()).unwrap());
            keyed
        },
        open: &|victim, _| {
            let keyed = open(victim);
            let objects = victim.session().objects().unwrap();
            let key = objects.iter().map(|object| object.id).find(|id| *id != keyed.handle.hold.id());
            let fingerprint = Dict::<u64, u64>::fingerprint();
            let key: Dict<u64, u64> = Dict::over(handle(victim, key.unwrap(), Kind::Dict, fingerprint)).unwrap();
            (keyed, key)
        },
        act: &|_, (keyed, key)| assert!(!keyed.insert(key, &"new".to_owned()).unwrap()),
        verify: &|survivor, keyed, finished| {
            verify(survivor, keyed, if finished { &["new"] } else { &["old", "new"] }, true);
        },
        go_on: &go_on,
    }
    .run(suite);
}
