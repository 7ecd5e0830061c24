//! Proves what a joinable queue promises in one process beside the behaviours of `tests/behaviours/queue_joinable.rs`:
//! leases, loans, and many threads.

use std::time::Duration;

use commons::{ErrorKind, JoinableQueue, Manager, Put};

fn queue(capacity: usize) -> (Manager, JoinableQueue<u64>) {
    let manager = Manager::new().unwrap();
    let queue = manager.joinable_queue(capacity).unwrap();
    (manager, queue)
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
        assert_eq!(loan.write_at(length, b"x").unwrap_err().kind(), ErrorKind::OutOfRange);
        manager.check().unwrap();
        loan.commit().unwrap();
        let lease = queue.lease().unwrap();
        assert_eq!(lease.to_vec().unwrap(), model);
        let mut middle = vec![0; length / 2];
        lease.read_at(length / 3, &mut middle).unwrap();
        assert_eq!(middle, model[length / 3..][..length / 2]);
        assert_eq!(lease.read_at(1, &mut vec![0; length]).unwrap_err().kind(), ErrorKind::OutOfRange);
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
