//! Behaviours 1 to 6, of joinable queues.

use std::time::{Duration, Instant};

use commons::{ErrorKind, JoinableQueue, Manager, Put};

use crate::common::SOON;

fn queue(capacity: usize) -> (Manager, JoinableQueue<u64>) {
    let manager = Manager::new().unwrap();
    let queue = manager.joinable_queue(capacity).unwrap();
    (manager, queue)
}

#[test]
fn b01_timed_put_and_get_fail_after_about_the_timeout() {
    let (_manager, queue) = queue(1);
    let start = Instant::now();
    assert_eq!(queue.get_timeout(Duration::from_millis(100)).unwrap(), None);
    assert!(queue.lease_timeout(Duration::from_millis(100)).unwrap().is_none());
    queue.put(&1).unwrap();
    assert_eq!(queue.put_timeout(&2, Duration::from_millis(100)).unwrap(), Put::Full);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < SOON, "{took:?}");
    assert_eq!(queue.try_put(&2).unwrap(), Put::Full);
}

#[test]
fn b02_len_is_exact_around_the_bound() {
    for capacity in [1, 2, 7] {
        let (_manager, queue) = queue(capacity);
        for n in 0..capacity as u64 {
            assert_eq!(queue.len().unwrap(), n);
            assert_eq!(queue.is_empty().unwrap(), n == 0);
            assert!(!queue.is_full().unwrap());
            assert_eq!(queue.try_put(&n).unwrap(), Put::Done);
        }
        assert!(queue.is_full().unwrap());
        assert_eq!(queue.try_put(&9).unwrap(), Put::Full);
        assert_eq!(queue.len().unwrap(), capacity as u64);
        assert_eq!(queue.capacity(), Some(capacity as u64));
        queue.get().unwrap();
        assert!(!queue.is_full().unwrap());
    }
}

#[test]
fn b02_items_come_first_in_first_out() {
    let (manager, queue) = queue(1000);
    for n in 0..1000 {
        queue.put(&n).unwrap();
    }
    for n in 0..1000 {
        assert_eq!(queue.get().unwrap(), n);
    }
    assert_eq!(queue.unfinished().unwrap(), 1000);
    manager.check().unwrap();
    for _ in 0..1000 {
        queue.task_done().unwrap();
    }
    queue.join().unwrap();
    manager.check().unwrap();
}

#[test]
fn b03_a_value_that_cannot_be_encoded_loses_only_itself() {
    struct Odd;
    impl commons::Encode<u64> for Odd {
        fn with_encoded<R>(value: &u64, f: impl FnOnce(commons::Encoded<'_>) -> R) -> commons::Result<R> {
            if *value == 13 {
                return Err(commons::Error::new(ErrorKind::Encode, "13"));
            }
            Ok(f(commons::Encoded::plain(&value.to_le_bytes())))
        }
    }
    impl commons::Decode<u64> for Odd {
        fn fixed_len() -> Option<usize> {
            Some(8)
        }
        fn decode(bytes: &[u8]) -> commons::Result<u64> {
            match u64::from_le_bytes(bytes.try_into().unwrap()) {
                7 => Err(commons::Error::new(ErrorKind::Decode, "7")),
                n => Ok(n),
            }
        }
    }
    let manager = Manager::new().unwrap();
    let queue = manager.joinable_queue_with::<u64, Odd>(Some(3)).unwrap();
    queue.put(&1).unwrap();
    assert_eq!(queue.put(&13).unwrap_err().kind(), ErrorKind::Encode);
    queue.put(&7).unwrap();
    queue.put(&2).unwrap();
    assert_eq!(queue.get().unwrap(), 1);
    assert_eq!(queue.get().unwrap_err().kind(), ErrorKind::Decode);
    assert_eq!(queue.get().unwrap(), 2);
    queue.task_done().unwrap();
    queue.task_done().unwrap();
    queue.join().unwrap();
    manager.check().unwrap();
}

#[test]
fn b04_task_done_once_too_often_is_an_error() {
    let (_manager, queue) = queue(10);
    assert_eq!(queue.task_done().unwrap_err().kind(), ErrorKind::NothingTaken);
    queue.put(&1).unwrap();
    assert_eq!(queue.task_done().unwrap_err().kind(), ErrorKind::NothingTaken);
    queue.get().unwrap();
    queue.task_done().unwrap();
    assert_eq!(queue.task_done().unwrap_err().kind(), ErrorKind::NothingTaken);
}

#[test]
fn b04_join_returns_only_after_every_item_is_done() {
    let (_manager, queue) = queue(10);
    assert!(queue.join_timeout(Duration::ZERO).unwrap(), "nothing to do");
    for n in 0..3 {
        queue.put(&n).unwrap();
    }
    assert!(!queue.join_timeout(Duration::from_millis(20)).unwrap());
    for _ in 0..3 {
        queue.get().unwrap();
    }
    assert!(!queue.join_timeout(Duration::from_millis(20)).unwrap(), "got is not done");
    queue.task_done().unwrap();
    queue.task_done().unwrap();
    assert!(!queue.join_timeout(Duration::from_millis(20)).unwrap());
    std::thread::scope(|scope| {
        let joiner = scope.spawn(|| queue.join_timeout(SOON).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        queue.task_done().unwrap();
        assert!(joiner.join().unwrap());
    });
}

#[test]
fn b05_closing_refuses_puts_and_wakes_all_who_wait() {
    let (_manager, full) = queue(1);
    full.put(&1).unwrap();
    let (_other, empty) = queue(1);
    std::thread::scope(|scope| {
        let putter = scope.spawn(|| full.put(&2).unwrap_err().kind());
        let getter = scope.spawn(|| empty.get().unwrap_err().kind());
        std::thread::sleep(Duration::from_millis(50));
        for queue in [&full, &empty] {
            queue.close().unwrap();
            queue.close().unwrap();
        }
        assert_eq!(putter.join().unwrap(), ErrorKind::Closed);
        assert_eq!(getter.join().unwrap(), ErrorKind::Closed);
    });
    assert!(full.is_closed().unwrap());
    assert_eq!(full.try_put(&3).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(full.get().unwrap(), 1, "what was there can be got");
    assert_eq!(full.try_get().unwrap_err().kind(), ErrorKind::Closed);
    full.task_done().unwrap();
    full.join().unwrap();
}

#[test]
fn b06_a_queue_in_a_dict_and_a_queue_in_a_queue_work() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<String, JoinableQueue<u64>>().unwrap();
    {
        let inner = manager.joinable_queue::<u64>(4).unwrap();
        inner.put(&5).unwrap();
        dict.insert("jobs", &inner).unwrap();
    }
    manager.collect().unwrap();
    let inner = dict.get("jobs").unwrap().unwrap();
    assert_eq!(inner.get().unwrap(), 5);
    inner.task_done().unwrap();

    let outer = manager.joinable_queue::<JoinableQueue<u64>>(4).unwrap();
    for n in 0..3 {
        let inner = manager.joinable_queue::<u64>(4).unwrap();
        inner.put(&n).unwrap();
        outer.put(&inner).unwrap();
    }
    manager.collect().unwrap();
    let lease = outer.lease().unwrap();
    manager.collect().unwrap();
    assert_eq!(lease.get().unwrap().get().unwrap(), 0);
    lease.ack().unwrap();
    assert_eq!(outer.get().unwrap().get().unwrap(), 1);
    outer.task_done().unwrap();
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 4, "the dict, its queue, the outer queue and what is left in it");
    drop(outer);
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 2);
    manager.check().unwrap();
}
