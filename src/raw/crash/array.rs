//! Arrays and blocks: no element is torn, no neighbour changes.

use super::harness::{Case, Suite};
use super::{handle, only};
use crate::raw::object::Kind;
use crate::{Array, Element, Manager};

fn open<T: Element>(manager: &Manager) -> Array<T> {
    let id = only(manager, Kind::Array);
    Array::over(handle(manager, id, Kind::Array, Array::<T>::fingerprint())).unwrap()
}

/// Runs `act` on an array of 1 to 10; afterwards each element is what it was or what `after` says.
fn case<T>(suite: &Suite, name: &str, act: impl Fn(&Array<T>) + Sync, after: [T; 10])
where
    T: Element + From<u8> + PartialEq + std::fmt::Debug + Send + Sync,
{
    let before: Vec<T> = (1..=10).map(T::from).collect();
    Case {
        name: &format!("array of {}: {name}", std::any::type_name::<T>()),
        setup: &|manager| {
            let array = manager.array(10).unwrap();
            array.set_range(0, &before).unwrap();
            array
        },
        open: &|victim, _| open::<T>(victim),
        act: &|_, array| act(array),
        verify: &|_, array, finished| {
            for (i, now) in array.iter().map(Result::unwrap).enumerate() {
                assert!(now == after[i] || !finished && now == before[i], "{now:?} at {i}");
            }
        },
        go_on: &|_, array| {
            array.fill(.., T::from(9)).unwrap();
            assert!(array.to_vec().unwrap().iter().all(|element| *element == T::from(9)));
            let held = array.lock_timeout(std::time::Duration::from_secs(5)).unwrap().expect("nobody alive holds it");
            held.into_guard().set(0, T::from(1)).unwrap();
        },
    }
    .run(suite);
}

/// Every case of arrays and blocks.
pub fn cases(suite: &Suite) {
    case::<u64>(suite, "set", |a| a.set(2, 99).unwrap(), [1, 2, 99, 4, 5, 6, 7, 8, 9, 10]);
    case::<u64>(suite, "add", |a| _ = a.fetch_add(2, 96).unwrap(), [1, 2, 99, 4, 5, 6, 7, 8, 9, 10]);
    case::<u16>(suite, "set", |a| a.set(2, 99).unwrap(), [1, 2, 99, 4, 5, 6, 7, 8, 9, 10]);
    case::<u16>(suite, "add", |a| _ = a.fetch_add(2, 96).unwrap(), [1, 2, 99, 4, 5, 6, 7, 8, 9, 10]);
    case::<u16>(suite, "fill", |a| a.fill(1..9, 7).unwrap(), [1, 7, 7, 7, 7, 7, 7, 7, 7, 10]);
    case::<u8>(suite, "set_range", |a| a.set_range(3, &[7; 6]).unwrap(), [1, 2, 3, 7, 7, 7, 7, 7, 7, 10]);
    let under_lock = |a: &Array<u32>| a.lock().unwrap().into_guard().with(.., |all| all.reverse()).unwrap();
    case::<u32>(suite, "under its lock", under_lock, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    Case {
        name: "block: create, write",
        setup: &|_| (),
        open: &|_, ()| (),
        act: &|victim, ()| victim.named("b").block(100).unwrap().write(10, &[7; 30]).unwrap(),
        verify: &|survivor, (), finished| {
            let found = survivor.existing("b").block(100);
            assert!(found.is_ok() || !finished);
            if let Ok(block) = found {
                let bytes = block.read(..).unwrap();
                assert!(bytes[10..40].iter().all(|byte| *byte == 7) || !finished);
                assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == 0 || (10..40).contains(&i)));
            }
        },
        go_on: &|survivor, ()| survivor.named("b").block(100).unwrap().fill(.., 1).unwrap(),
    }
    .run(suite);
}
