//! The heap by itself: every way to a block, and back. The blocks belong to no object, so the cases count them.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::harness::{Case, Suite};
use crate::Manager;
use crate::mem::layout::PAGE;
use crate::mem::{Field, Segment};
use crate::raw::recovery;

/// Two blocks to a slab.
const HALF: u64 = 32_000;
const SMALL: u64 = 64;
/// Four pages.
const LARGE: u64 = 4 * PAGE - 100;
/// More than a new segment has committed.
const HUGE: u64 = 40 * PAGE;

fn alloc(manager: &Manager, size: u64) -> u64 {
    recovery::run(manager.session().segment(), |me| {
        let block = me.alloc(size, Field::Alloc)?;
        me.intent.set(Field::Alloc, 0);
        Ok(block)
    })
    .unwrap()
}

fn free(manager: &Manager, block: u64) {
    recovery::run(manager.session().segment(), |me| Ok(me.free(block)?)).unwrap();
}

fn blocks(manager: &Manager) -> BTreeSet<u64> {
    manager.session().segment().allocated_blocks().unwrap().0
}

/// Frees everything and un-names what a setup named.
fn wipe(manager: &Manager, state: &State) {
    if let Some(slot) = state.naming {
        manager.session().segment().intent_of(slot).unwrap().set(Field::Free, 0);
    }
    for block in blocks(manager) {
        free(manager, block);
    }
}

/// In a thread of its own, so that the slabs it takes are nobody's afterwards.
fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(f).join().unwrap())
}

#[derive(Default)]
struct State {
    /// What was allocated right before the operation.
    before: Mutex<BTreeSet<u64>>,
    /// The block that the operation frees.
    target: Mutex<Option<u64>>,
    /// The slot whose intent names a block all the time.
    naming: Option<u16>,
}

/// A slot whose intent names `off`, as that of somebody in the middle of freeing it.
fn name(manager: &Manager, off: u64) -> Option<u16> {
    let segment: &Segment = manager.session().segment();
    let slot = recovery::run(segment, |me| Ok(me.slot().index)).unwrap();
    segment.intent_of(slot).unwrap().set(Field::Free, off);
    Some(slot)
}

/// An operation that allocates a block of `size`, or frees the one that `open` returns.
fn case(
    suite: &Suite,
    name: &str,
    size: u64,
    setup: impl Fn(&Manager) -> Option<u16> + Sync,
    open: impl Fn(&Manager, &Manager) -> Option<u64> + Sync,
) {
    let survivors = Mutex::new(std::collections::HashMap::new());
    Case {
        name: &format!("heap: {name}"),
        setup: &|manager| {
            let state = State { naming: setup(manager), ..State::default() };
            survivors.lock().insert(manager.session().segment().id(), manager.clone());
            state
        },
        open: &|victim, state| {
            let survivor = survivors.lock().remove(&victim.session().segment().id()).unwrap();
            let target = open(victim, &survivor);
            *state.before.lock() = blocks(victim);
            *state.target.lock() = target;
            target
        },
        act: &|victim, target| match target {
            Some(block) => free(victim, *block),
            None => drop(alloc(victim, size)),
        },
        verify: &|survivor, state, finished| {
            let (now, before) = (blocks(survivor), state.before.lock());
            let changed = match *state.target.lock() {
                Some(target) => !now.contains(&target),
                None => now.len() == before.len() + 1,
            };
            let mut difference = now.symmetric_difference(&before).copied();
            match changed {
                true => assert!(difference.next().is_some() && difference.next().is_none()),
                false => assert!(difference.next().is_none() && !finished, "finished: {finished}"),
            }
            wipe(survivor, state);
        },
        go_on: &|survivor, state| {
            let mine: Vec<u64> = [SMALL, HALF, HALF, HALF, LARGE, HALF].map(|size| alloc(survivor, size)).to_vec();
            assert_eq!(mine.iter().collect::<BTreeSet<_>>().len(), mine.len());
            survivor.recover().unwrap();
            assert!(mine.iter().all(|block| blocks(survivor).contains(block)));
            wipe(survivor, state);
            assert!(blocks(survivor).is_empty());
        },
    }
    .run(suite);
}

/// Every heap case.
pub fn cases(suite: &Suite) {
    let nothing = |_: &Manager| None;
    let none = |_: &Manager, _: &Manager| None;
    let release_for = |manager: &Manager, block| manager.session().segment().release_for(block).unwrap();

    case(suite, "from the current slab", SMALL, nothing, |victim, _| {
        alloc(victim, SMALL);
        None
    });
    case(suite, "a new slab", SMALL, nothing, none);
    case(
        suite,
        "adopting by scan",
        HALF,
        |m| {
            elsewhere(|| {
                alloc(m, HALF);
            });
            None
        },
        none,
    );
    case(
        suite,
        "adopting with a stray bit",
        HALF,
        |m| {
            let block = elsewhere(|| {
                let blocks = [alloc(m, HALF), alloc(m, HALF)];
                free(m, blocks[0]);
                blocks[0]
            });
            release_for(m, block); // what a kill in the middle of collecting leaves
            None
        },
        none,
    );
    case(
        suite,
        "adopting by hint, collecting",
        HALF,
        |m| {
            let block = elsewhere(|| [alloc(m, HALF), alloc(m, HALF)][0]);
            free(m, block);
            None
        },
        none,
    );
    case(
        suite,
        "a hint to a slab without room",
        HALF,
        |m| {
            let block = elsewhere(|| [alloc(m, HALF), alloc(m, HALF)][0]);
            release_for(m, block);
            name(m, block)
        },
        none,
    );
    case(suite, "collecting the current slab", HALF, nothing, |victim, _| {
        let block = [alloc(victim, HALF), alloc(victim, HALF)][1];
        victim.session().segment().release_for(block).unwrap();
        None
    });
    case(suite, "collecting another of its slabs", HALF, nothing, |victim, _| {
        let all = [0; 6].map(|_| alloc(victim, HALF));
        victim.session().segment().release_for(all[0]).unwrap();
        None
    });
    case(suite, "giving a surplus slab away", HALF, nothing, |victim, _| {
        for _ in 0..2 * 66 {
            alloc(victim, HALF);
        }
        None
    });
    case(suite, "a run of pages", LARGE, nothing, none);
    case(suite, "a run with a named page", LARGE, |m| name(m, 8 * PAGE), none);
    case(suite, "growing", HUGE, nothing, none);
    case(
        suite,
        "retiring empty slabs",
        HUGE,
        |m| {
            elsewhere(|| [0; 4].map(|_| alloc(m, HALF)).map(|block| free(m, block)));
            elsewhere(|| {
                alloc(m, SMALL);
            });
            None
        },
        |victim, _| {
            [0; 6].map(|_| alloc(victim, HALF)).iter().for_each(|block| free(victim, *block));
            None
        },
    );
    case(suite, "what was freed last", HALF, nothing, |victim, _| {
        free(victim, [0; 4].map(|_| alloc(victim, HALF))[0]); // in a slab that is not the current one, which is full
        None
    });
    case(suite, "freeing into a slab of nobody's, which is adopted", 0, nothing, |victim, survivor| {
        let block = elsewhere(|| [alloc(survivor, HALF), alloc(survivor, HALF)][0]);
        alloc(victim, HALF);
        Some(block)
    });
    case(suite, "freeing a small block of its own", 0, nothing, |victim, _| {
        Some([alloc(victim, SMALL), alloc(victim, SMALL)][0])
    });
    case(suite, "freeing somebody else's small block", 0, nothing, |_, survivor| {
        Some(elsewhere(|| alloc(survivor, SMALL)))
    });
    case(suite, "freeing a run of pages", 0, nothing, |victim, _| Some(alloc(victim, LARGE)));
}
