//! Proves what a joinable queue promises in one process: leases, `task_done`, `join`, loans, order, bounds and close.

use std::time::{Duration, Instant};

use commons::{ErrorKind, JoinableQueue, Manager, Put};

const LONG: Duration = Duration::from_secs(20);

fn queue(capacity: usize) -> (Manager, JoinableQueue<u64>) {
    let manager = Manager::new().unwrap();
    let queue = manager.joinable_queue(capacity).unwrap();
    (manager, queue)
}

#[test]
fn items_come_first_in_first_out() {
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
fn task_done_once_too_often_is_an_error() {
    let (_manager, queue) = queue(10);
    assert_eq!(queue.task_done().unwrap_err().kind(), ErrorKind::NothingTaken);
    queue.put(&1).unwrap();
    assert_eq!(queue.task_done().unwrap_err().kind(), ErrorKind::NothingTaken);
    queue.get().unwrap();
    queue.task_done().unwrap();
    assert_eq!(queue.task_done().unwrap_err().kind(), ErrorKind::NothingTaken);
}

#[test]
fn join_returns_only_after_every_item_is_done() {
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
        let joiner = scope.spawn(|| queue.join_timeout(LONG).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        queue.task_done().unwrap();
        assert!(joiner.join().unwrap());
    });
}

#[test]
fn a_lease_is_acknowledged_or_given_back_to_its_old_place() {
    let (manager, queue) = queue(3);
    for n in 1..=3 {
        queue.put(&n).unwrap();
    }
    let first = queue.lease().unwrap();
    assert_eq!((first.get().unwrap(), first.delivery(), first.len()), (1, 1, 8));
    queue.put(&4).unwrap();
    assert!(queue.is_full().unwrap());
    first.release().unwrap();
    assert_eq!(queue.len().unwrap(), 4, "what is given back needs no room");
    assert_eq!(queue.try_put(&5).unwrap(), Put::Full);
    let again = queue.lease().unwrap();
    assert_eq!((again.get().unwrap(), again.delivery()), (1, 2));
    drop(again);
    let again = queue.lease().unwrap();
    assert_eq!((again.get().unwrap(), again.delivery()), (1, 3));
    again.ack().unwrap();
    assert_eq!(queue.get().unwrap(), 2);
    assert_eq!(queue.unfinished().unwrap(), 3);
    manager.check().unwrap();
}

#[test]
fn what_a_dropped_handle_had_got_comes_again() {
    let (manager, queue) = queue(3);
    queue.put(&7).unwrap();
    let other = manager.named("q").joinable_queue::<u64>(3).unwrap();
    other.put(&8).unwrap();
    assert_eq!(other.get().unwrap(), 8);
    drop(other);
    let other = manager.existing("q").joinable_queue::<u64>(3).unwrap();
    let lease = other.lease().unwrap();
    assert_eq!((lease.get().unwrap(), lease.delivery()), (8, 2));
}

#[test]
fn len_is_exact_around_the_bound() {
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
fn timed_put_and_get_fail_after_about_the_timeout() {
    let (_manager, queue) = queue(1);
    let start = Instant::now();
    assert_eq!(queue.get_timeout(Duration::from_millis(100)).unwrap(), None);
    assert!(queue.lease_timeout(Duration::from_millis(100)).unwrap().is_none());
    queue.put(&1).unwrap();
    assert_eq!(queue.put_timeout(&2, Duration::from_millis(100)).unwrap(), Put::Full);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < LONG, "{took:?}");
    assert_eq!(queue.try_put(&2).unwrap(), Put::Full);
}

#[test]
fn closing_refuses_puts_and_wakes_all_who_wait() {
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
fn a_loan_becomes_an_item_without_a_copy_of_it() {
    let manager = Manager::new().unwrap();
    let queue = manager.joinable_queue::<Vec<u8>>(2).unwrap();
    for length in [0usize, 1, 7, 8, 9, 63, 64, 1000, 100_000] {
        let mut loan = queue.loan(length).unwrap();
        assert_eq!(queue.unfinished().unwrap(), 0, "a loan is no item");
        let mut model = vec![0; length];
        let mut seed = 1u64;
        for _ in 0..20 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let from = (seed >> 33) as usize % (length + 1);
            let count = (seed >> 13) as usize % (length - from + 1);
            let bytes: Vec<u8> = (0..count).map(|n| (n as u64 ^ seed) as u8).collect();
            loan.write_at(from, &bytes).unwrap();
            model[from..from + count].copy_from_slice(&bytes);
        }
        assert_eq!(loan.write_at(length, b"x").unwrap_err().kind(), ErrorKind::InvalidInput);
        manager.check().unwrap();
        loan.commit().unwrap();
        let lease = queue.lease().unwrap();
        assert_eq!(lease.to_vec().unwrap(), model);
        let mut middle = vec![0; length / 2];
        lease.read_at(length / 3, &mut middle).unwrap();
        assert_eq!(middle, model[length / 3..][..length / 2]);
        assert_eq!(lease.read_at(1, &mut vec![0; length]).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(lease.get().unwrap(), model);
        lease.ack().unwrap();
    }
    drop(queue.loan(100).unwrap());
    queue.loan(1).unwrap().commit().unwrap();
    queue.loan(2).unwrap().commit().unwrap();
    let late = queue.loan(3).unwrap().commit_timeout(Duration::from_millis(20)).unwrap();
    drop(late.expect("there is no room"));
    for length in 1..=2 {
        assert_eq!(queue.get().unwrap().len(), length);
        queue.task_done().unwrap();
    }
    manager.check().unwrap();
    queue.join().unwrap();
}

#[test]
fn a_loan_that_cannot_be_is_an_error() {
    let manager = Manager::builder().capacity(4 << 20).anonymous().unwrap();
    let queue = manager.joinable_queue::<Vec<u8>>(2).unwrap();
    assert_eq!(queue.loan(8 << 20).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(queue.loan(usize::MAX / 2).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(queue.loan(1 << 31).unwrap_err().kind(), ErrorKind::TooLarge);
    let loan = queue.loan(10).unwrap();
    queue.close().unwrap();
    assert_eq!(loan.commit().unwrap_err().kind(), ErrorKind::Closed);
    manager.check().unwrap();
}

#[test]
fn many_threads_do_everything_once() {
    let manager = Manager::new().unwrap();
    let queue = manager.joinable_queue::<(u64, u64)>(16).unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for producer in 0..3 {
            let queue = &queue;
            scope.spawn(move || (0..2000).for_each(|n| queue.put(&(producer, n)).unwrap()));
        }
        for consumer in 0..3 {
            let (queue, seen) = (&queue, &seen);
            scope.spawn(move || {
                let mut mine = Vec::new();
                loop {
                    let item = if consumer == 0 {
                        match queue.lease() {
                            Ok(lease) => {
                                let item = lease.get().unwrap();
                                lease.ack().unwrap();
                                item
                            }
                            Err(_) => break,
                        }
                    } else {
                        let Ok(item) = queue.get() else { break };
                        queue.task_done().unwrap();
                        item
                    };
                    mine.push(item);
                }
                for producer in 0..3 {
                    let order: Vec<_> = mine.iter().filter(|item| item.0 == producer).collect();
                    assert!(order.is_sorted(), "in order per producer");
                }
                seen.lock().unwrap().extend(mine);
            });
        }
        while seen.lock().unwrap().len() < 6000 {
            let done = queue.join_timeout(Duration::from_millis(50)).unwrap();
            if done && queue.is_empty().unwrap() {
                std::thread::sleep(Duration::from_millis(100));
                if queue.unfinished().unwrap() == 0 {
                    queue.close().unwrap();
                    break;
                }
            }
        }
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    assert_eq!(seen, (0..3).flat_map(|p| (0..2000).map(move |n| (p, n))).collect::<Vec<_>>());
    manager.check().unwrap();
}

#[test]
fn a_value_that_cannot_be_encoded_loses_only_itself() {
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
fn a_queue_in_a_dict_and_a_queue_in_a_queue_work() {
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
