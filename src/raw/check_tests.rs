//! Proves that a check finds what no operation leaves: in each kind of object, words that break one of its rules.

use std::sync::atomic::Ordering;

use super::object::Kind;
use super::session::Session;
use crate::mem::Options;
use crate::{ErrorKind, Manager};

/// A slot and a process that nobody has ever had.
const NOBODY: u64 = 200;

#[test]
fn forged_words_are_found() {
    let session = Session::anonymous(&Options { capacity: 16 << 20, ..Options::default() }).unwrap();
    let manager = Manager::from_session(session.clone());
    let lock = manager.lock(1u64).unwrap();
    let rlock = manager.rlock(1u64).unwrap();
    let rwlock = manager.rwlock(1u64).unwrap();
    let once = manager.once::<u64>().unwrap();
    let event = manager.event().unwrap();
    let barrier = manager.barrier(2).unwrap();
    let condition = manager.condition(&lock).unwrap();
    let semaphore = manager.bounded_semaphore(2).unwrap();
    let board = session.create(Kind::Board, 7, super::board::create).unwrap();
    drop(lock.lock().unwrap());
    manager.check().unwrap();

    let me = super::sync::thread::name_in(session.segment()).unwrap();
    let next_use = 1 << 32;
    let forgeries: &[(Kind, &[(usize, u64)])] = &[
        (Kind::Lock, &[(0, 1 << 32)]),                    // a process without a thread
        (Kind::Lock, &[(0, NOBODY)]),                     // a thread that there is not
        (Kind::Lock, &[(0, 1 | NOBODY << 32 | 1 << 40)]), // a process that is yet to come
        (Kind::Lock, &[(0, 1 | 1 << 20)]),                // a bit that is not used
        (Kind::RLock, &[(0, me)]),                        // held not once
        (Kind::RLock, &[(0, 1 << 17)]),                   // held once, by nobody
        (Kind::RLock, &[(0, NOBODY | 1 << 17)]),
        (Kind::RLock, &[(0, (me + next_use) | 1 << 17)]), // a use of the slot that is yet to come
        (Kind::RwLock, &[(0, NOBODY)]),
        (Kind::RwLock, &[(0, me | 1 << 17)]), // a mutex does not count
        (Kind::RwLock, &[(2, me)]),           // closed without the mutex
        (Kind::RwLock, &[(2, 1 << 20)]),
        (Kind::RwLock, &[(3, (me & !0xffff) | 1)]), // neither reads nor waits
        (Kind::RwLock, &[(3, (me & !0xffff) | 1 | 3 << 17)]), // does both
        (Kind::RwLock, &[(4, me | 1 << 18)]),       // in another's place
        (Kind::Once, &[(0, NOBODY)]),
        (Kind::Once, &[(2, 2)]),
        (Kind::Event, &[(0, 1)]),     // set, and never was
        (Kind::Event, &[(0, 4 | 3)]), // set, and waited for
        (Kind::Barrier, &[(0, 0)]),
        (Kind::Barrier, &[(0, u64::MAX)]),
        (Kind::Barrier, &[(1, 3)]),     // a phase that there is not
        (Kind::Barrier, &[(1, 8)]),     // an epoch before the first was broken
        (Kind::Barrier, &[(1, 2 | 4)]), // broken, and waited for
        (Kind::Barrier, &[(1, 1)]),     // an action with nobody there
        (Kind::Barrier, &[(2, NOBODY)]),
        (Kind::Barrier, &[(2, me | 1 << 16), (3, me | 1 << 16)]), // one party for two
        (Kind::Condition, &[(2 + NOBODY as usize, 1)]),
        (Kind::Condition, &[(2, (me & !0xffff) | 3)]), // waits, and was notified
        (Kind::Condition, &[(2, (me & !0xffff & !0xffff_ffff) + next_use + 1)]),
        (Kind::Semaphore, &[(0, NOBODY)]), // a permit is under way
        (Kind::Board, &[(1, 2)]),
        (Kind::Board, &[(0, 1)]), // at work before it is ready
        (Kind::Board, &[(5, 1)]),
    ];
    for (kind, words) in forgeries {
        let object = session.objects().unwrap().into_iter().find(|object| object.kind == *kind).unwrap();
        let word = |index: usize| &session.segment().words(object.root, index + 1).unwrap()[index];
        let before: Vec<u64> = words.iter().map(|(index, _)| word(*index).load(Ordering::Relaxed)).collect();
        words.iter().for_each(|(index, forged)| word(*index).store(*forged, Ordering::Relaxed));
        let found = manager.check();
        assert!(
            found.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupted),
            "{kind:?} {words:x?}: {found:?}"
        );
        words.iter().zip(before).for_each(|((index, _), before)| word(*index).store(before, Ordering::Relaxed));
        manager.check().unwrap_or_else(|error| panic!("{kind:?} {words:x?} put back: {error}"));
    }
    drop((rlock, rwlock, once, event, barrier, condition, semaphore));
    session.release(board).unwrap();
}

#[test]
fn what_is_held_and_waited_for_is_in_order() {
    // Locks that are held, and threads that wait, are at rest.
    let session = Session::anonymous(&Options { capacity: 16 << 20, ..Options::default() }).unwrap();
    let manager = Manager::from_session(session);
    let (lock, rlock, rwlock) = (manager.lock(()).unwrap(), manager.rlock(()).unwrap(), manager.rwlock(()).unwrap());
    let (event, barrier) = (manager.event().unwrap(), manager.barrier(2).unwrap());
    let condition = manager.condition(&lock).unwrap();
    let semaphore = manager.semaphore(2).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| event.wait().unwrap());
        scope.spawn(|| barrier.wait().unwrap());
        scope.spawn(|| {
            let _held = lock.lock().unwrap();
            condition.wait().unwrap()
        });
        while barrier.waiting().unwrap() == 0 {
            std::thread::yield_now();
        }
        let twice = (rlock.lock().unwrap(), rlock.lock().unwrap());
        let reader = rwlock.read().unwrap();
        let permit = semaphore.permit().unwrap();
        manager.check().unwrap();
        drop((reader, permit, twice));
        let writer = rwlock.write().unwrap();
        manager.check().unwrap();
        drop(writer);
        event.set().unwrap();
        assert!(matches!(barrier.wait().unwrap(), crate::Passage::Passed { .. }));
        loop {
            let _held = lock.lock().unwrap();
            if condition.notify(1).unwrap() == 1 {
                break;
            }
        }
    });
    manager.check().unwrap();
}
