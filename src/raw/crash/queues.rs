//! Queues, through the public handle.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::harness::{Case, Suite, die_at};
use super::open_queue;
use crate::{ErrorKind, Manager, Put, Queue};

type Item = Vec<u8>;

/// What a case does to the queue.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    Put(usize),
    Get,
    GetTimeout,
    PutTimeout,
    Close,
}

struct State {
    queue: Queue<Item>,
    before: VecDeque<Item>,
    closed: bool,
}

fn item(n: u64, length: usize) -> Item {
    let mut bytes = vec![n as u8; length];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn drain(queue: &Queue<Item>) -> VecDeque<Item> {
    let mut items = VecDeque::new();
    loop {
        match queue.try_get() {
            Ok(Some(item)) => items.push_back(item),
            Ok(None) => return items,
            Err(error) if error.kind() == ErrorKind::Closed => return items,
            Err(error) => panic!("{error}"),
        }
    }
}

fn go_on(state: &State, closed_maybe: bool) {
    drain(&state.queue);
    if state.queue.is_closed().unwrap() {
        assert!(closed_maybe);
        assert_eq!(state.queue.put(&item(1, 8)).unwrap_err().kind(), ErrorKind::Closed);
        return;
    }
    let room = state.queue.capacity().unwrap_or(5);
    // Once round the ring, past what the dead hold: an item that is given back takes its room until it is got.
    for n in 0..2 * room {
        let _ = state.queue.put_timeout(&item(n, 8), Duration::from_millis(20)).unwrap();
        drain(&state.queue);
    }
    for lap in 0..3 {
        for n in 0..room {
            assert_eq!(state.queue.put_timeout(&item(n, 8 + 40 * lap), Duration::from_secs(5)).unwrap(), Put::Done);
        }
        for n in 0..room {
            assert_eq!(state.queue.get_timeout(Duration::from_secs(5)).unwrap(), Some(item(n, 8 + 40 * lap)));
        }
    }
    assert_eq!(state.queue.len().unwrap(), 0);
}

fn case(
    suite: &Suite,
    name: &str,
    capacity: Option<usize>,
    items: &[usize],
    taken: usize,
    closed: bool,
    action: Action,
) {
    let timeout = Duration::from_millis(2);
    Case {
        name: &format!("queue: {name}"),
        setup: &|manager: &Manager| {
            let queue = match capacity {
                Some(capacity) => manager.queue::<Item>(capacity).unwrap(),
                None => manager.unbounded_queue::<Item>().unwrap(),
            };
            let mut before = VecDeque::new();
            for (n, length) in items.iter().enumerate() {
                queue.put(&item(n as u64, *length)).unwrap();
                before.push_back(item(n as u64, *length));
            }
            for _ in 0..taken {
                assert_eq!(queue.get().unwrap(), before.pop_front().unwrap());
            }
            if closed {
                queue.close().unwrap();
            }
            State { queue, before, closed }
        },
        open: &|victim, _| open_queue::<Item, crate::Auto>(victim),
        act: &|_, queue| match action {
            Action::Put(length) => drop(queue.try_put(&item(99, length))),
            Action::Get => drop(queue.try_get()),
            Action::GetTimeout => drop(queue.get_timeout(timeout)),
            Action::PutTimeout => drop(queue.put_timeout(&item(99, 8), timeout)),
            Action::Close => queue.close().unwrap(),
        },
        verify: &|_, state, finished| {
            let mut after = state.before.clone();
            let room = capacity.is_none_or(|capacity| after.len() < capacity);
            match action {
                Action::Put(length) if room && !closed => after.push_back(item(99, length)),
                Action::Get => drop(after.pop_front()),
                _ => {}
            }
            let now_closed = state.queue.is_closed().unwrap();
            let acknowledged = state.closed || (finished && action == Action::Close);
            assert!(now_closed || !acknowledged);
            assert!(!now_closed || state.closed || action == Action::Close);
            let length = state.queue.len().unwrap();
            let now = drain(&state.queue);
            assert_eq!(length, now.len() as u64);
            assert!(now == after || !finished && now == state.before, "{} items", now.len());
        },
        go_on: &|_, state| go_on(state, closed || action == Action::Close),
    }
    .run(suite);
}

/// Somebody died in the middle of a get or a put, was recovered or not; the victim comes by and dies in turn.
fn behind_the_dead(suite: &Suite, dead_puts: bool, length: usize, recovered: bool, action: Action, step: u64) {
    let name = format!(
        "queue: {} behind a {} that died at step {step}{}, {length} bytes",
        if action == Action::Get { "get" } else { "put" },
        if dead_puts { "put" } else { "get" },
        if recovered { " and was recovered" } else { "" },
    );
    let first: u64 = if dead_puts { 2 } else { 3 };
    Case {
        name: &name,
        setup: &|manager: &Manager| {
            let queue = manager.queue::<Item>(3).unwrap();
            (0..first).for_each(|n| queue.put(&item(n, length)).unwrap());
            let dead = Manager::from_session(manager.session().twin().unwrap());
            die_at(
                step,
                || open_queue::<Item, crate::Auto>(&dead),
                |queue| match dead_puts {
                    true => drop(queue.try_put(&item(50, length)).unwrap()),
                    false => drop(queue.try_get().unwrap()),
                },
            );
            dead.session().segment().surrender();
            if recovered {
                manager.recover().unwrap();
            }
            let taken = recovered.then(|| queue.try_get().unwrap().unwrap());
            (queue, dead, taken, Arc::new(Mutex::new(None)))
        },
        open: &|victim, (_, _, _, got)| (open_queue::<Item, crate::Auto>(victim), Arc::clone(got)),
        act: &|_, (queue, got)| match action {
            Action::Get => *got.lock() = queue.try_get().unwrap(),
            _ => drop(queue.try_put(&item(99, length)).unwrap()),
        },
        verify: &|_, (queue, _, taken, got), finished| {
            let count = queue.len().unwrap();
            let mut seen: Vec<Item> = drain(queue).into();
            assert_eq!(count, seen.len() as u64);
            seen.extend(taken.clone());
            seen.extend(got.lock().take());
            let number = |item: &Item| u64::from_le_bytes(item[..8].try_into().unwrap());
            assert!(seen.iter().all(|bytes| *bytes == item(number(bytes), length)));
            let numbers: BTreeSet<u64> = seen.iter().map(number).collect();
            assert_eq!(numbers.len(), seen.len(), "an item came twice");
            let lost = (0..first).filter(|n| !numbers.contains(n)).count();
            assert!(lost <= usize::from(!dead_puts) + usize::from(action == Action::Get && !finished), "{numbers:?}");
        },
        go_on: &|survivor, (queue, _, _, _)| {
            if action == Action::Get && !recovered {
                // Who waits for an item gets all that there are, whoever of the dead has them.
                while queue.get_timeout(Duration::from_millis(20)).unwrap().is_some() {}
                survivor.recover().unwrap();
                assert_eq!(queue.len().unwrap(), 0, "an item that recovery alone has given back");
            }
            go_on(&State { queue: queue.clone(), before: VecDeque::new(), closed: false }, false);
        },
    }
    .run(suite);
}

/// Every queue case.
pub fn cases(suite: &Suite) {
    use Action::{Close, Get, GetTimeout, Put, PutTimeout};
    const LONG: usize = 100;
    let full: &[usize] = &[8, 8, 8];
    case(suite, "put, empty", Some(3), &[], 0, false, Put(8));
    case(suite, "put long, empty", Some(3), &[], 0, false, Put(LONG));
    case(suite, "put, second lap", Some(3), full, 2, false, Put(50));
    case(suite, "put, full", Some(3), full, 0, false, Put(8));
    case(suite, "put long, full", Some(3), full, 0, false, Put(LONG));
    case(suite, "put, closed", Some(3), &[8], 0, true, Put(8));
    case(suite, "get", Some(3), full, 0, false, Get);
    case(suite, "get long", Some(3), &[LONG, 8, LONG], 0, false, Get);
    case(suite, "get, empty", Some(3), &[8], 1, false, Get);
    case(suite, "get, closed", Some(3), &[LONG, 8], 1, true, Get);
    case(suite, "get, closed and empty", Some(3), &[8], 1, true, Get);
    case(suite, "waiting for an item", Some(3), &[], 0, false, GetTimeout);
    case(suite, "waiting for room", Some(3), full, 0, false, PutTimeout);
    case(suite, "close, empty", Some(3), &[], 0, false, Close);
    case(suite, "close, full", Some(3), full, 0, false, Close);
    case(suite, "close, with items", Some(3), &[8, LONG], 0, false, Close);
    for step in 1..=10 {
        for (dead_puts, recovered) in [(false, false), (false, true), (true, false), (true, true)] {
            for (action, length) in [(Get, 8), (Put(LONG), LONG)] {
                behind_the_dead(suite, dead_puts, length, recovered, action, step);
            }
        }
    }
    let many = vec![8; 1024];
    case(suite, "unbounded, put", None, &[8, LONG], 0, false, Put(8));
    case(suite, "unbounded, put into a successor", None, &many, 0, false, Put(8));
    case(suite, "unbounded, put long into a successor", None, &many, 3, false, Put(LONG));
    let more = vec![8; 1026];
    case(suite, "unbounded, get from the second part", None, &more, 1024, false, Get);
    case(suite, "unbounded, close", None, &more, 0, false, Close);
}
