//! Proves that calls which cannot be right are typed errors, of every type that has such calls, and change nothing.
//!
//! What is wrong with names, sizes, segments and files is in `tests/bad_input.rs` and `tests/behaviours/memory.rs`. A negative
//! timeout cannot be said, a huge one is as good as none: `tests/waiters.rs`.

mod common;

use std::time::Duration;

use common::assert_kind;
use commons::{Auto, Dict, ErrorKind, List, Manager, Once, RwLock, Semaphore};

use ErrorKind::{
    Closed, InvalidInput, NotFound, NotHeld, NothingTaken, OutOfRange, Stale, TooMany, TypeMismatch, WouldDeadlock,
};

#[test]
fn an_index_out_of_range() {
    let manager = Manager::new().unwrap();
    let list = manager.list::<String>().unwrap();
    list.extend([&"a".to_owned(), &"b".to_owned()]).unwrap();
    let text = "x".to_owned();
    for index in [2, 3, u64::MAX] {
        assert_kind(list.get(index), OutOfRange);
        assert_kind(list.set(index, &text), OutOfRange);
        assert_kind(list.update(index, |text| text), OutOfRange);
        assert_kind(list.pop_at(index), OutOfRange);
        assert_kind(list.remove_at(index), OutOfRange);
    }
    assert_kind(list.insert(3, &text), OutOfRange);
    for range in [0..3, 3..3, 1..u64::MAX, u64::MAX..u64::MAX] {
        assert_kind(list.get_range(range.clone()), OutOfRange);
        assert_kind(list.remove_range(range.clone()), OutOfRange);
        assert_kind(list.set_range(range, [&text]), OutOfRange);
    }
    assert_kind(list.remove(&"c".to_owned()), NotFound);
    assert_eq!(list.snapshot().unwrap(), ["a", "b"]);

    let array = manager.array::<u16>(2).unwrap();
    for index in [2, 3, 1 << 40, u64::MAX] {
        assert_kind(array.get(index), OutOfRange);
        assert_kind(array.set(index, 1), OutOfRange);
        assert_kind(array.fetch_add(index, 1), OutOfRange);
        assert_kind(array.fetch_update(index, |n| n), OutOfRange);
        assert_kind(array.set_range(index, &[1]), OutOfRange);
    }
    assert_kind(array.fill(1..3, 1), OutOfRange);
    assert_kind(array.lock().unwrap().into_guard().with(1..3, |_| ()), OutOfRange);
    assert_eq!(array.to_vec().unwrap(), [0, 0]);

    let block = manager.block(10).unwrap();
    for offset in [3, 10, u64::MAX - 3, u64::MAX] {
        assert_kind(block.put(offset, &1u64), OutOfRange);
        assert_kind(block.get::<u64>(offset), OutOfRange);
        assert_kind(block.write(offset, &[0; 8]), OutOfRange);
        assert_kind(block.read_into(offset, &mut [0; 8]), OutOfRange);
    }
    assert_kind(block.view(0..11), OutOfRange);
    assert_kind(block.view(2..8).unwrap().read(0..7), OutOfRange);
    assert_kind(block.fill(9..11, 1), OutOfRange);
    let jobs = manager.joinable_queue::<Vec<u8>>(1).unwrap();
    let mut loan = jobs.loan(4).unwrap();
    assert_kind(loan.write_at(1, &[0; 4]), OutOfRange);
    loan.commit().unwrap();
    assert_kind(jobs.lease().unwrap().read_at(usize::MAX, &mut [0; 4]), OutOfRange);
    manager.check().unwrap();
}

/// A range whose end comes before its begin.
#[test]
#[allow(clippy::reversed_empty_ranges, reason = "that is what is wrong")]
fn a_range_backwards() {
    let manager = Manager::new().unwrap();
    let (list, array, block) =
        (manager.list::<u8>().unwrap(), manager.array::<u8>(4).unwrap(), manager.block(4).unwrap());
    list.extend([&1, &2, &3, &4]).unwrap();
    assert_kind(list.get_range(3..1), OutOfRange);
    assert_kind(list.remove_range(3..1), OutOfRange);
    assert_kind(list.set_range(3..1, [&9]), OutOfRange);
    assert_kind(array.get_range(3..1), OutOfRange);
    assert_kind(array.fill(3..1, 9), OutOfRange);
    assert_kind(block.read(3..1), OutOfRange);
    assert_eq!((list.len().unwrap(), array.to_vec().unwrap()), (4, vec![0; 4]));
}

#[test]
fn a_release_without_an_acquire_and_one_too_many() {
    let manager = Manager::new().unwrap();
    let (lock, rlock, rwlock) = (manager.lock(()).unwrap(), manager.rlock(()).unwrap(), manager.rwlock(()).unwrap());
    for _ in 0..2 {
        assert_kind(lock.release(), NotHeld);
        assert_kind(rlock.release(), NotHeld);
        assert_kind(rwlock.release_read(), NotHeld);
        assert_kind(rwlock.release_write(), NotHeld);
        assert!(!lock.acquire().unwrap() && !rlock.acquire().unwrap());
        lock.release().unwrap();
        rlock.release().unwrap();
        let _ = rwlock.acquire_read_timeout(Duration::ZERO).unwrap();
        assert_kind(rwlock.release_write(), NotHeld);
        rwlock.release_read().unwrap();
    }
    let (plain, bounded) = (manager.semaphore(u32::MAX).unwrap(), manager.bounded_semaphore(3).unwrap());
    assert_kind(plain.release(), TooMany);
    assert_kind(plain.release_many(0), InvalidInput);
    assert_kind(bounded.release(), NotHeld);
    assert_kind(bounded.release_many(u32::MAX), NotHeld);
    let condition = manager.condition(&lock).unwrap();
    assert_kind(condition.notify_one(), NotHeld);
    assert_kind(condition.wait_timeout(Duration::ZERO), NotHeld);
    let jobs = manager.joinable_queue::<u8>(1).unwrap();
    assert_kind(jobs.task_done(), NothingTaken);
    manager.check().unwrap();
}

#[test]
fn what_would_wait_for_itself() {
    let manager = Manager::new().unwrap();
    let (lock, rwlock, once): (_, RwLock<()>, Once<u8>) =
        (manager.lock(()).unwrap(), manager.rwlock(()).unwrap(), manager.once().unwrap());
    let array = manager.array::<u8>(1).unwrap();
    let _guards = (lock.lock().unwrap(), rwlock.read().unwrap(), array.lock().unwrap());
    assert_kind(lock.lock(), WouldDeadlock);
    assert_kind(rwlock.write(), WouldDeadlock);
    assert_kind(array.lock(), WouldDeadlock);
    assert_kind(once.get_or_init(|_| once.get_or_init(|_| Ok(1))), WouldDeadlock);
    assert_eq!(once.get().unwrap(), None);
}

#[test]
fn parties_capacities_and_lengths() {
    let manager = Manager::new().unwrap();
    for parties in [0, 1025, usize::MAX] {
        assert_kind(manager.barrier(parties), InvalidInput);
    }
    for capacity in [0, (1 << 30) + 1, usize::MAX] {
        assert_kind(manager.queue::<u8>(capacity), InvalidInput);
        assert_kind(manager.joinable_queue::<u8>(capacity), InvalidInput);
        assert_kind(manager.priority_queue::<u8>(capacity), InvalidInput);
        assert_kind(manager.pipe_with::<u8, Auto>(capacity), InvalidInput);
    }
    for len in [1 << 41, u64::MAX / 8, u64::MAX] {
        assert_kind(manager.array::<u64>(len), ErrorKind::TooLarge);
        assert_kind(manager.block(len), ErrorKind::TooLarge);
    }
    let (reads, writes) = manager.one_way_pipe::<u8>().unwrap();
    assert_kind(reads.send(&1), InvalidInput);
    assert_kind(writes.recv(), InvalidInput);
    reads.close().unwrap();
    assert_kind(reads.recv(), Closed);
    drop((reads, writes));
    assert!(manager.objects().unwrap().is_empty());
    manager.check().unwrap();
}

commons::shared! {
    struct Pair {
        one: Dict<u64, u64>,
    }
}

#[test]
fn a_handle_of_another_segment() {
    let (manager, elsewhere) = (Manager::new().unwrap(), Manager::new().unwrap());
    let lock = elsewhere.lock(()).unwrap();
    assert_kind(manager.condition(&lock), InvalidInput);
    assert_kind(manager.named("c").condition(&lock), InvalidInput);
    let foreign = |_: &Manager| Ok((elsewhere.dict()?,));
    assert_kind(manager.shared_with::<Pair>(foreign), InvalidInput);
    assert!(manager.objects().unwrap().is_empty());
}

/// Nothing that is stored in one segment could keep an object of another alive.
#[test]
fn a_handle_of_another_segment_in_a_container() {
    type Handle = Dict<u64, u64>;
    let (manager, elsewhere) = (Manager::new().unwrap(), Manager::new().unwrap());
    let foreign: Handle = elsewhere.dict().unwrap();

    let dict = manager.dict::<u64, Handle>().unwrap();
    assert_kind(dict.insert(&1, &foreign), InvalidInput);
    assert_kind(dict.get_or_insert(&1, &foreign), InvalidInput);
    assert!(dict.is_empty().unwrap());
    let keys = manager.dict::<Handle, u64>().unwrap();
    assert_kind(keys.insert(&foreign, &1), InvalidInput);
    assert!(keys.is_empty().unwrap());
    let list = manager.list::<Handle>().unwrap();
    assert_kind(list.push(&foreign), InvalidInput);
    assert!(list.is_empty().unwrap());
    let set = manager.set::<Handle>().unwrap();
    assert_kind(set.insert(&foreign), InvalidInput);
    assert!(set.is_empty().unwrap());
    let queue = manager.queue::<Handle>(2).unwrap();
    assert_kind(queue.put(&foreign), InvalidInput);
    assert_eq!(queue.len().unwrap(), 0);
    assert_kind(manager.namespace().unwrap().set("a", &foreign), InvalidInput);
    assert_kind(manager.value(foreign.clone()), InvalidInput);
    assert_kind(manager.lock(foreign.clone()), InvalidInput);

    // And what they do hold is as before.
    let own = manager.dict::<u64, u64>().unwrap();
    dict.insert(&1, &own).unwrap();
    assert_kind(dict.insert(&1, &foreign), InvalidInput);
    assert_eq!(dict.get(&1).unwrap(), Some(own));
    manager.check().unwrap();
}

#[test]
fn a_stale_handle() {
    let manager = Manager::new().unwrap();
    let bytes = |list: &List<u8>| postcard::to_stdvec(list).unwrap();
    let (gone, lives) = (bytes(&manager.list().unwrap()), manager.list::<u8>().unwrap());
    let open = |bytes: &[u8]| postcard::from_bytes::<List<u8>>(bytes);
    assert_eq!(open(&bytes(&lives)).unwrap(), lives);
    // The place in the object table has a new object now, of the same kind and types.
    let _successor = manager.list::<u8>().unwrap();
    assert!(open(&gone).is_err());
    // serde's errors carry text only; where a container decodes, the error keeps its kind.
    assert_kind(<Auto as commons::Decode<List<u8>>>::decode(&gone), Stale);
    assert_kind(<Auto as commons::Decode<List<u64>>>::decode(&bytes(&lives)), TypeMismatch);
    assert_kind(<Auto as commons::Decode<Semaphore>>::decode(&bytes(&lives)), TypeMismatch);
    assert_kind(<Auto as commons::Decode<List<u8>>>::decode(&gone[..3]), ErrorKind::Decode);
    let nowhere = {
        let manager = Manager::new().unwrap();
        bytes(&manager.list().unwrap())
    };
    assert_kind(<Auto as commons::Decode<List<u8>>>::decode(&nowhere), NotFound);
    manager.check().unwrap();
}
