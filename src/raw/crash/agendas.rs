//! Priority queues and joinable queues, through their public handles.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::harness::{Case, Suite};
use super::{handle, only};
use crate::agenda::Patience;
use crate::mem::armed;
use crate::raw::object::Kind;
use crate::{ErrorKind, JoinableQueue, Manager, PriorityQueue, Put};

type Item = Vec<u8>;

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(5);

fn item(n: u64, length: usize) -> Item {
    let mut bytes = vec![n as u8; length.max(8)];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn open_priority(manager: &Manager) -> PriorityQueue<Item> {
    let (kind, fingerprint) = (Kind::PriorityQueue, PriorityQueue::<Item>::fingerprint());
    PriorityQueue::over(handle(manager, only(manager, kind), kind, fingerprint)).unwrap()
}

fn open_joinable(manager: &Manager) -> JoinableQueue<Item> {
    let (kind, fingerprint) = (Kind::JoinableQueue, JoinableQueue::<Item>::fingerprint());
    JoinableQueue::over(handle(manager, only(manager, kind), kind, fingerprint)).unwrap()
}

/// Sets the bits that sleepers would have set.
fn mark_sleepers(manager: &Manager, kind: Kind) {
    let (_, _, root) = manager.session().describe(only(manager, kind)).unwrap();
    for event in 6..=8 {
        manager.session().segment().word(root + event * 8).unwrap().fetch_or(1, Ordering::Relaxed);
    }
}

/// What a case does to a priority queue.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    Put(i64, usize),
    PutTimeout,
    Get,
    GetTimeout,
    Close,
}

struct Priority {
    queue: PriorityQueue<Item>,
    before: Vec<(i64, Item)>,
    closed: bool,
}

fn drained(queue: &PriorityQueue<Item>) -> Vec<(i64, Item)> {
    let mut items = Vec::new();
    loop {
        match queue.try_get() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return items,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed);
                return items;
            }
        }
    }
}

fn priority(
    suite: &Suite,
    name: &str,
    capacity: Option<usize>,
    items: &[i64],
    (closed, sleepers, skipped): (bool, bool, u64),
    action: Action,
) {
    Case {
        name: &format!("priority queue: {name}"),
        setup: &|manager: &Manager| {
            let queue = manager.priority_queue_with(capacity).unwrap();
            for n in 0..skipped {
                queue.put(0, &item(n, 8)).unwrap();
                queue.get().unwrap();
            }
            let mut before = Vec::new();
            for (n, priority) in (0..).zip(items) {
                queue.put(*priority, &item(n, 8 + 40 * (n as usize % 2))).unwrap();
                before.push((*priority, item(n, 8 + 40 * (n as usize % 2))));
            }
            before.sort_by_key(|(priority, _)| *priority);
            if closed {
                queue.close().unwrap();
            }
            Priority { queue, before, closed }
        },
        open: &|victim, _| {
            if sleepers {
                mark_sleepers(victim, Kind::PriorityQueue);
            }
            open_priority(victim)
        },
        act: &|_, queue| match action {
            Action::Put(priority, length) => drop(queue.try_put(priority, &item(99, length))),
            Action::PutTimeout => drop(queue.put_timeout(0, &item(99, 8), SHORT)),
            Action::Get => drop(queue.try_get()),
            Action::GetTimeout => drop(queue.get_timeout(SHORT)),
            Action::Close => queue.close().unwrap(),
        },
        verify: &|_, state, finished| {
            let mut after = state.before.clone();
            let room = capacity.is_none_or(|capacity| after.len() < capacity);
            match action {
                Action::Put(priority, length) if room && !closed => {
                    after.push((priority, item(99, length)));
                    after.sort_by_key(|(priority, _)| *priority);
                }
                Action::Get if !after.is_empty() => drop(after.remove(0)),
                _ => {}
            }
            let now_closed = state.queue.is_closed().unwrap();
            assert!(now_closed || !(state.closed || finished && action == Action::Close));
            assert!(!now_closed || state.closed || action == Action::Close);
            let length = state.queue.len().unwrap();
            let now = drained(&state.queue);
            assert_eq!(length, now.len() as u64);
            assert!(now == after || !finished && now == state.before, "{} items", now.len());
        },
        go_on: &|_, state| {
            drained(&state.queue);
            if state.queue.is_closed().unwrap() {
                assert_eq!(state.queue.put(0, &item(1, 8)).unwrap_err().kind(), ErrorKind::Closed);
                return;
            }
            let count = capacity.unwrap_or(20) as u64;
            for n in 0..count {
                assert_eq!(state.queue.put_timeout(-(n as i64), &item(n, 8), LONG).unwrap(), Put::Done);
            }
            for n in (0..count).rev() {
                assert_eq!(state.queue.get_timeout(LONG).unwrap(), Some((-(n as i64), item(n, 8))));
            }
            assert_eq!(state.queue.len().unwrap(), 0);
        },
    }
    .run(suite);
}

/// Every case of a priority queue.
fn priorities(suite: &Suite) {
    use Action::{Close, Get, GetTimeout, Put, PutTimeout};
    let some: &[i64] = &[5, 1, 5, 3, 9, 1, 7, 2, 5, 8, 0, 4];
    let some_capacity = Some(some.len());
    priority(suite, "put, empty", Some(3), &[], (false, false, 0), Put(0, 8));
    priority(suite, "put, empty, sleepers", Some(3), &[], (false, true, 0), Put(0, 8));
    priority(suite, "put before all", None, some, (false, false, 0), Put(-1, 100));
    priority(suite, "put between", None, some, (false, false, 0), Put(5, 8));
    priority(suite, "put behind all", None, some, (false, false, 0), Put(i64::MAX, 8));
    for skipped in 0..8 {
        priority(suite, &format!("get the last of {skipped}"), None, &[1], (false, false, skipped), Get);
    }
    for count in 0..8 {
        // Other sequence numbers, so other heights.
        priority(suite, &format!("put between {count}"), None, &some[..count], (false, false, 0), Put(4, 8));
        priority(suite, &format!("get from {count}"), None, &some[..count], (false, false, 0), Get);
    }
    priority(suite, "put, full", some_capacity, some, (false, false, 0), Put(0, 8));
    priority(suite, "put, closed", Some(3), &[1], (true, false, 0), Put(0, 8));
    priority(suite, "get, sleepers", some_capacity, some, (false, true, 0), Get);
    priority(suite, "get, closed", Some(3), &[1], (true, false, 0), Get);
    priority(suite, "get, closed and empty", Some(3), &[], (true, false, 0), Get);
    priority(suite, "waiting for an item", Some(3), &[], (false, false, 0), GetTimeout);
    priority(suite, "waiting for room", Some(2), &[1, 2], (false, false, 0), PutTimeout);
    priority(suite, "close", Some(3), &[1, 2], (false, false, 0), Close);
    priority(suite, "close, sleepers", Some(3), &[], (false, true, 0), Close);
    handles(suite);
}

/// An item that holds the handle of a lock, which its consumer gets hold of on the way.
fn handles(suite: &Suite) {
    type Outer = PriorityQueue<crate::Lock<u64>>;
    Case {
        name: "priority queue: getting an item with a handle",
        setup: &|manager| {
            let queue: Outer = manager.unbounded_priority_queue().unwrap();
            queue.put(0, &manager.lock(5u64).unwrap()).unwrap();
            queue
        },
        open: &|victim, _| {
            let id = only(victim, Kind::PriorityQueue);
            Outer::over(handle(victim, id, Kind::PriorityQueue, Outer::fingerprint())).unwrap()
        },
        // A handle made of it would be of the survivor's membership, which lives.
        act: &|_, queue| _ = queue.get_with(Patience::None, |_| Ok(())).unwrap(),
        verify: &|survivor, queue, finished| {
            survivor.collect().unwrap();
            match queue.try_get().unwrap() {
                Some((_, lock)) => assert_eq!(lock.lock().unwrap().into_guard().get().unwrap(), 5),
                None => assert_eq!(survivor.objects().unwrap().len(), 1),
            }
            assert!(!finished || queue.is_empty().unwrap());
        },
        go_on: &|survivor, queue| {
            while queue.try_get().unwrap().is_some() {}
            survivor.recover().unwrap();
            survivor.collect().unwrap();
            assert_eq!(survivor.objects().unwrap().len(), 1);
        },
    }
    .run(suite);
    Case {
        name: "priority queue: putting an item with a handle",
        setup: &|manager| manager.unbounded_priority_queue().unwrap() as Outer,
        open: &|victim, _| {
            let id = only(victim, Kind::PriorityQueue);
            let queue = Outer::over(handle(victim, id, Kind::PriorityQueue, Outer::fingerprint())).unwrap();
            (queue, victim.lock(6u64).unwrap())
        },
        act: &|_, (queue, lock)| assert_eq!(queue.try_put(0, lock).unwrap(), Put::Done),
        verify: &|survivor, queue, finished| {
            survivor.collect().unwrap();
            let put = queue.len().unwrap();
            assert!(put == 1 || !finished);
            assert_eq!(survivor.objects().unwrap().len() as u64, 1 + put);
            if let Some((_, lock)) = queue.try_get().unwrap() {
                assert_eq!(lock.lock().unwrap().into_guard().get().unwrap(), 6);
            }
        },
        go_on: &|survivor, queue| {
            survivor.recover().unwrap();
            while queue.try_get().unwrap().is_some() {}
            survivor.collect().unwrap();
            assert_eq!(survivor.objects().unwrap().len(), 1);
        },
    }
    .run(suite);
    Case {
        name: "joinable queue: creating one",
        setup: &|_| (),
        open: &|_, ()| (),
        act: &|victim, ()| drop(victim.joinable_queue::<Item>(4).unwrap()),
        verify: &|survivor, (), _| assert!(survivor.objects().unwrap().is_empty()),
        go_on: &|survivor, ()| {
            survivor.recover().unwrap();
            assert!(survivor.objects().unwrap().is_empty());
        },
    }
    .run(suite);
}

/// What a case does to a joinable queue; whether it takes the first item away, or adds one, if it is done.
#[derive(Clone, Copy, PartialEq)]
enum Effect {
    None,
    Takes,
    Adds,
}

struct Joinable {
    queue: JoinableQueue<Item>,
    before: Vec<Item>,
    /// One that died with leases and a loan.
    _dead: Option<Manager>,
}

/// Everything that there is to do, done.
fn done(queue: &JoinableQueue<Item>) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(lease) = queue.try_lease().unwrap_or_default() {
        assert!(lease.delivery() <= 4, "{}", lease.delivery());
        items.push(lease.get().unwrap());
        lease.ack().unwrap();
    }
    items
}

/// A process that dies with items on lease, and with a loan.
fn dies_with(manager: &Manager, leases: usize) -> Manager {
    let dead = Manager::from_session(manager.session().twin().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let queue = open_joinable(&dead);
            for _ in 0..leases {
                std::mem::forget(queue.lease().unwrap());
            }
            std::mem::forget(queue.loan(20).unwrap());
            dead.session().segment().surrender();
            armed::die();
        });
    });
    dead
}

fn joinable(
    suite: &Suite,
    name: &str,
    (items, dead_leases): (u64, usize),
    sleepers: bool,
    effect: Effect,
    act: impl Fn(&JoinableQueue<Item>) + Sync,
) {
    Case {
        name: &format!("joinable queue: {name}"),
        setup: &|manager: &Manager| {
            let queue = manager.joinable_queue::<Item>(4).unwrap();
            let before: Vec<Item> = (0..items).map(|n| item(n, 8 + 40 * (n as usize % 2))).collect();
            before.iter().for_each(|item| queue.put(item).unwrap());
            let _dead = (dead_leases > 0).then(|| dies_with(manager, dead_leases));
            Joinable { queue, before, _dead }
        },
        open: &|victim, _| {
            if sleepers {
                mark_sleepers(victim, Kind::JoinableQueue);
            }
            open_joinable(victim)
        },
        act: &|_, queue| act(queue),
        verify: &|_, state, finished| {
            let mut after = state.before.clone();
            match effect {
                Effect::None => {}
                Effect::Takes => drop(after.remove(0)),
                Effect::Adds => after.push(item(99, 30)),
            }
            let unfinished = state.queue.unfinished().unwrap();
            let now = done(&state.queue);
            assert_eq!(unfinished, now.len() as u64);
            assert!(now == after || !finished && now == state.before, "{} items", now.len());
            assert!(state.queue.join_timeout(LONG).unwrap());
        },
        go_on: &|_, state| {
            // Who finds nothing looks for what the dead had.
            done(&state.queue);
            assert!(state.queue.join_timeout(LONG).unwrap());
            if state.queue.is_closed().unwrap() {
                return;
            }
            for n in 0..4 {
                assert_eq!(state.queue.put_timeout(&item(n, 60), LONG).unwrap(), Put::Done);
            }
            for n in 0..4 {
                assert_eq!(state.queue.get_timeout(LONG).unwrap(), Some(item(n, 60)));
            }
            assert!(!state.queue.join_timeout(Duration::ZERO).unwrap());
            (0..4).for_each(|_| state.queue.task_done().unwrap());
            assert!(state.queue.join_timeout(LONG).unwrap());
        },
    }
    .run(suite);
}

/// Every case of a joinable queue.
fn joinables(suite: &Suite) {
    let keep = |queue: &JoinableQueue<Item>| std::mem::forget(queue.lease().unwrap());
    joinable(suite, "put", (2, 0), false, Effect::Adds, |queue| {
        assert_eq!(queue.try_put(&item(99, 30)).unwrap(), Put::Done);
    });
    joinable(suite, "lease", (3, 0), false, Effect::None, keep);
    joinable(suite, "lease, empty", (0, 0), true, Effect::None, |queue| {
        assert!(queue.try_lease().unwrap().is_none());
    });
    joinable(suite, "lease and acknowledge", (3, 0), true, Effect::Takes, |queue| {
        queue.lease().unwrap().ack().unwrap()
    });
    joinable(suite, "get and be done", (1, 0), true, Effect::Takes, |queue| {
        queue.get().unwrap();
        queue.task_done().unwrap();
    });
    joinable(suite, "lease and give back", (3, 0), true, Effect::None, |queue| {
        queue.lease().unwrap().release().unwrap()
    });
    joinable(suite, "give back the second", (4, 0), false, Effect::None, |queue| {
        let first = queue.lease().unwrap();
        queue.lease().unwrap().release().unwrap();
        std::mem::forget(first);
    });
    joinable(suite, "loan and commit", (2, 0), false, Effect::Adds, |queue| {
        let mut loan = queue.loan(30).unwrap();
        loan.write_at(3, &item(99, 30)[3..20]).unwrap();
        loan.write_at(0, &item(99, 30)[..3]).unwrap();
        loan.write_at(16, &item(99, 30)[16..]).unwrap();
        loan.commit().unwrap();
    });
    joinable(suite, "loan, dropped", (2, 0), false, Effect::None, |queue| drop(queue.loan(30).unwrap()));
    joinable(suite, "loan, kept", (2, 0), false, Effect::None, |queue| std::mem::forget(queue.loan(30).unwrap()));
    joinable(suite, "lease behind the dead", (2, 2), false, Effect::None, keep);
    joinable(suite, "give back behind the dead", (3, 2), true, Effect::None, |queue| {
        queue.lease().unwrap().release().unwrap();
    });
    joinable(suite, "joining behind the dead", (1, 1), false, Effect::None, |queue| {
        assert!(!queue.join_timeout(Duration::from_millis(10)).unwrap());
    });
    joinable(suite, "close", (1, 0), true, Effect::None, |queue| queue.close().unwrap());
    // More leases than the first chunk has cells.
    Case {
        name: "joinable queue: the 65th lease",
        setup: &|manager: &Manager| {
            let queue = manager.unbounded_joinable_queue::<Item>().unwrap();
            (0..66).for_each(|n| queue.put(&item(n, 8)).unwrap());
            (0..64).for_each(|n| assert_eq!(queue.get().unwrap(), item(n, 8)));
            queue
        },
        open: &|victim, _| open_joinable(victim),
        act: &|_, queue| keep(queue),
        verify: &|_, queue, _| {
            assert_eq!(queue.unfinished().unwrap(), 66);
            assert_eq!(done(queue), [item(64, 8), item(65, 8)]);
        },
        go_on: &|survivor, queue| {
            survivor.recover().unwrap();
            done(queue);
            (0..64).for_each(|_| queue.task_done().unwrap());
            assert!(queue.join_timeout(LONG).unwrap());
        },
    }
    .run(suite);
}

/// Every case.
pub fn cases(suite: &Suite) {
    priorities(suite);
    joinables(suite);
}
