//! Proves that a dead process's incarnation is over only when its heir has put right what it left, and that nobody who
//! takes the record over, however he ends, leaves behind what others can neither recover nor wait for.

use std::sync::Arc;
use std::time::Duration;

use super::object::Kind;
use super::recovery::{recover, run, settle_inheritance};
use super::session::Session;
use super::sync::semaphore;
use super::wait::{Deadline, Living};
use crate::mem::{Liveness, Options, Segment, Stop};

const PROCESSES: usize = 256;

/// A segment all of whose records but the first are in use by the dead. The first corpse was recovering the second.
struct Full {
    survivor: Arc<Session>,
    /// Record and incarnation.
    corpse: (u32, u32),
    second: u32,
}

impl Full {
    fn new() -> Full {
        let survivor = Session::anonymous(&Options { capacity: 1 << 20, ..Options::default() }).unwrap();
        let join = || survivor.twin().unwrap();
        let (first, second) = (join(), join());
        let [corpse, claimed] = [&first, &second].map(|session| session.segment().membership().me());
        second.segment().surrender();
        std::mem::forget(first.segment().begin_recovery(claimed.index).unwrap().unwrap());
        first.segment().surrender();
        (3..PROCESSES).for_each(|_| join().segment().surrender());
        Full { survivor, corpse: (corpse.index, corpse.incarnation), second: claimed.index }
    }

    fn segment(&self) -> &Segment {
        self.survivor.segment()
    }

    fn is_gone(&self) -> Result<bool, u32> {
        self.segment().is_gone(self.corpse.0, self.corpse.1).map_err(|stop| match stop {
            Stop::Dead(process) => process,
            Stop::Error(error) => panic!("{error}"),
        })
    }
}

#[test]
fn an_incarnation_ends_when_its_heir_has_settled() {
    let full = Full::new();
    assert_eq!(full.is_gone(), Err(full.corpse.0));
    let heir = full.survivor.twin().unwrap();
    let segment = heir.segment();
    assert!(segment.membership().is_heir());
    assert_eq!(segment.membership().me().index, full.corpse.0);
    assert_eq!(full.is_gone(), Ok(false), "nothing has been put right");
    assert_eq!(full.segment().liveness(full.corpse.0).unwrap(), Liveness::Alive);
    assert!(full.segment().begin_recovery(full.second).unwrap().is_none(), "its recoverer lives, as it seems");
    settle_inheritance(segment).unwrap();
    assert_eq!(full.is_gone(), Ok(true));
    assert!(full.segment().begin_recovery(full.second).unwrap().is_some(), "the claim was handed back");
    run(segment, |_| Ok(())).unwrap();
    assert!(!segment.membership().is_heir());
}

#[test]
fn an_heir_may_die_before_it_has_settled() {
    let full = Full::new();
    for _ in 0..3 {
        let heir = full.survivor.twin().unwrap();
        assert_eq!(heir.segment().membership().me().index, full.corpse.0);
        assert_eq!(full.is_gone(), Ok(false));
        heir.segment().surrender();
        assert_eq!(full.is_gone(), Err(full.corpse.0));
    }
    recover(full.segment(), full.corpse.0).unwrap();
    assert_eq!(full.is_gone(), Ok(true));
    recover(full.segment(), full.second).unwrap();
    assert_eq!(full.segment().liveness(full.second).unwrap(), Liveness::Free);
}

#[test]
fn an_heir_that_counts_as_dead_cannot_settle() {
    let full = Full::new();
    let heir = full.survivor.twin().unwrap();
    heir.segment().surrender();
    assert!(settle_inheritance(heir.segment()).is_err());
    assert_eq!(full.is_gone(), Err(full.corpse.0));
}

/// What the dead had taken for themselves is given back by operations of the heir, who is no full member yet.
#[test]
fn an_heir_gives_back_permits() {
    let survivor = Session::anonymous(&Options { capacity: 1 << 20, ..Options::default() }).unwrap();
    let id = survivor.create(Kind::Semaphore, 0, |me, root| semaphore::create(me, root, 1, false)).unwrap();
    let (_, _, root) = survivor.describe(id).unwrap();
    let victim = survivor.twin().unwrap();
    assert!(victim.hold(id).unwrap());
    let now = Deadline::after(Duration::ZERO);
    assert!(run(victim.segment(), |me| semaphore::acquire(me, root, true, now)).unwrap());
    assert_eq!(semaphore::free(survivor.segment(), root).unwrap(), 0);
    victim.segment().surrender();
    (2..PROCESSES).for_each(|_| survivor.twin().unwrap().segment().surrender());
    let heir = survivor.twin().unwrap();
    assert!(heir.segment().membership().is_heir());
    assert_eq!(heir.segment().membership().me().index, victim.segment().membership().me().index);
    settle_inheritance(heir.segment()).unwrap();
    assert_eq!(semaphore::free(survivor.segment(), root).unwrap(), 1);
}
