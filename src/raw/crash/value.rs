//! Values, of a word and in a block.

use std::fmt::Debug;

use super::harness::{Case, Suite};
use super::{handle, only};
use crate::codec::{Auto, Codec};
use crate::raw::object::Kind;
use crate::{Exchange, Manager, Value};

fn open<T>(manager: &Manager) -> Value<T>
where
    Auto: Codec<T>,
{
    let id = only(manager, Kind::Value);
    Value::over(handle(manager, id, Kind::Value, Value::<T>::fingerprint())).unwrap()
}

fn of_a_form<T>(suite: &Suite, form: &str, [a, b]: [T; 2])
where
    T: PartialEq + Clone + Debug + Send + Sync + 'static,
    Auto: Codec<T>,
{
    let run = |name: &str, act: &(dyn Fn(&Value<T>) + Sync), after: &T| {
        Case {
            name: &format!("value {form}: {name}"),
            setup: &|manager| manager.value(a.clone()).unwrap(),
            open: &|victim, _| open::<T>(victim),
            act: &|_, value| act(value),
            verify: &|_, value, finished| {
                let now = value.load().unwrap();
                assert!(now == *after || !finished && now == a, "{now:?}");
            },
            go_on: &|_, value| {
                value.store(&b).unwrap();
                assert_eq!(value.swap(&a).unwrap(), b);
                assert_eq!(value.load().unwrap(), a);
            },
        }
        .run(suite);
    };
    run("store", &|value| value.store(&b).unwrap(), &b);
    run("swap", &|value| assert_eq!(value.swap(&b).unwrap(), a), &b);
    run("exchange", &|value| assert_eq!(value.compare_exchange(&a, &b).unwrap(), Exchange::Done), &b);
    run(
        "exchange in vain",
        &|value| assert_eq!(value.compare_exchange(&b, &b).unwrap(), Exchange::Unequal(Some(a.clone()))),
        &a,
    );
    run("update", &|value| assert_eq!(value.fetch_update(|_| Some(b.clone())).unwrap(), Some(a.clone())), &b);
    Case {
        name: &format!("value {form}: create"),
        setup: &|_| (),
        open: &|_, ()| (),
        act: &|victim, ()| drop(victim.named("v").value(a.clone()).unwrap()),
        verify: &|survivor, (), finished| {
            let found = survivor.existing("v").value(b.clone());
            assert!(found.is_ok() || !finished);
            assert!(found.is_err() || found.unwrap().load().unwrap() == a);
        },
        go_on: &|survivor, ()| survivor.named("v").value(b.clone()).unwrap().store(&b).unwrap(),
    }
    .run(suite);
}

/// Every value case.
pub fn cases(suite: &Suite) {
    of_a_form(suite, "word", [3u32, 4]);
    of_a_form(suite, "block", ["one".to_owned(), "another, longer one".to_owned()]);
    Case {
        name: "value word: add",
        setup: &|manager| manager.value(7u64).unwrap(),
        open: &|victim, _| open::<u64>(victim),
        act: &|_, value| assert_eq!(value.fetch_add(5).unwrap(), 7),
        verify: &|_, value, finished| {
            let now = value.load().unwrap();
            assert!(now == 12 || !finished && now == 7);
        },
        go_on: &|_, value| _ = value.fetch_add(1).unwrap(),
    }
    .run(suite);

    // A reader that is always too late takes the latch, and may die there.
    Case {
        name: "value block: reading under the latch",
        setup: &|manager| manager.value("one".to_owned()).unwrap(),
        open: &|victim, _| {
            let (_, _, root) = victim.session().describe(only(victim, Kind::Value)).unwrap();
            root
        },
        act: &|victim, root| {
            let segment = victim.session().segment();
            crate::raw::slot::read_latched(segment, *root, |_| Ok(())).unwrap();
            crate::raw::slot::try_read_latched(segment, *root, &mut |_| Ok(())).unwrap();
        },
        verify: &|_, value, _| assert_eq!(value.load().unwrap(), "one"),
        go_on: &|_, value| value.store(&"two".to_owned()).unwrap(),
    }
    .run(suite);
}
