//! Threads that come and go. (Processes do so in `tests/kill.rs`: a membership cannot be simulated.)

use super::harness::{Case, Suite};
use crate::mem::Field;
use crate::raw::recovery;

/// Every case of thread slots.
pub fn cases(suite: &Suite) {
    Case {
        name: "thread: claiming a slot",
        setup: &|manager| manager.dict::<u64, u64>().unwrap(),
        open: &|_, _| (),
        act: &|victim, ()| recovery::run(victim.session().segment(), |_| Ok(())).unwrap(),
        verify: &|_, dict, _| assert!(dict.is_empty().unwrap()),
        go_on: &|_, dict| {
            dict.insert(&1, &1).unwrap();
        },
    }
    .run(suite);
    Case {
        name: "thread: leaving, with slabs",
        setup: &|manager| manager.dict::<u64, u64>().unwrap(),
        open: &|victim, _| {
            recovery::run(victim.session().segment(), |me| {
                for size in [64, 64, 4000, 70_000] {
                    let block = me.alloc(size, Field::Alloc)?;
                    me.release(block)?;
                    me.intent.set(Field::Alloc, 0);
                }
                Ok(me.slot().index)
            })
            .unwrap()
        },
        act: &|victim, slot| victim.session().segment().free_slot(*slot),
        verify: &|survivor, dict, _| {
            assert!(dict.is_empty().unwrap());
            assert_eq!(survivor.check().unwrap().heap.large_pages, 1, "the object table alone");
        },
        go_on: &|_, dict| {
            dict.insert(&1, &1).unwrap();
        },
    }
    .run(suite);
}
