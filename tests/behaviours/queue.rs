//! Behaviours 1 to 6, of plain queues and of priority queues.

use std::time::{Duration, Instant};

use commons::{Decode, Dict, Encode, Encoded, Error, ErrorKind, List, Manager, Process, Put, Queue};

use crate::common::{SOON, assert_kind};

#[test]
fn b01_put_on_a_full_queue_without_blocking_fails_at_once() {
    let manager = Manager::new().unwrap();
    let (plain, urgent) = (manager.queue::<u64>(1).unwrap(), manager.priority_queue::<u64>(1).unwrap());
    plain.put(&1).unwrap();
    urgent.put(0, &1).unwrap();
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(plain.try_put(&2).unwrap(), Put::Full);
        assert_eq!(urgent.try_put(0, &2).unwrap(), Put::Full);
        assert_eq!(plain.put_timeout(&2, Duration::ZERO).unwrap(), Put::Full);
    }
    assert!(start.elapsed() < SOON);
    assert_eq!((plain.get().unwrap(), urgent.get().unwrap()), (1, (0, 1)));
    assert_eq!((plain.try_get().unwrap(), urgent.try_get().unwrap()), (None, None));
}

#[test]
fn b01_timed_put_and_get_fail_after_about_the_timeout() {
    let manager = Manager::new().unwrap();
    let (plain, urgent) = (manager.queue::<u64>(1).unwrap(), manager.priority_queue::<u64>(1).unwrap());
    let timeout = Duration::from_millis(60);
    let timed = |f: &dyn Fn() -> bool| {
        let start = Instant::now();
        assert!(f());
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + SOON);
    };
    timed(&|| plain.get_timeout(timeout).unwrap().is_none());
    timed(&|| urgent.get_timeout(timeout).unwrap().is_none());
    plain.put(&1).unwrap();
    urgent.put(0, &1).unwrap();
    timed(&|| plain.put_timeout(&2, timeout).unwrap() == Put::Full);
    timed(&|| urgent.put_timeout(0, &2, timeout).unwrap() == Put::Full);
    assert_eq!((plain.len().unwrap(), urgent.len().unwrap()), (1, 1));
}

#[test]
fn b02_len_is_empty_is_full_are_exact_around_the_bound() {
    let manager = Manager::new().unwrap();
    for capacity in [1, 2, 7] {
        let (plain, urgent) = (manager.queue(capacity).unwrap(), manager.priority_queue(capacity).unwrap());
        let exact = |len: u64| {
            let is = (len, len == 0, len == capacity as u64);
            assert_eq!((plain.len().unwrap(), plain.is_empty().unwrap(), plain.is_full().unwrap()), is);
            assert_eq!((urgent.len().unwrap(), urgent.is_empty().unwrap(), urgent.is_full().unwrap()), is);
        };
        for lap in 0..3 {
            for n in 0..capacity as u64 {
                exact(n);
                plain.put(&(lap + n)).unwrap();
                urgent.put(n as i64, &(lap + n)).unwrap();
            }
            exact(capacity as u64);
            for n in (0..capacity as u64).rev() {
                plain.get().unwrap();
                urgent.get().unwrap();
                exact(n);
            }
        }
    }
}

/// Three producers and two consumers, each a process: all comes once, and what one producer put in its order.
#[test]
fn b02_first_in_first_out_for_each_producer() {
    commons::init_test!();
    const EACH: u64 = 3000;
    fn produce((queue, producer): (Queue<(u64, u64)>, u64)) {
        (0..EACH).for_each(|n| queue.put(&(producer, n)).unwrap());
    }
    fn consume(queue: Queue<(u64, u64)>) -> Vec<(u64, u64)> {
        let mut got = Vec::new();
        loop {
            match queue.get() {
                Ok(item) => got.push(item),
                Err(e) if e.kind() == ErrorKind::Closed => return got,
                Err(e) => panic!("{e}"),
            }
        }
    }
    let manager = Manager::new().unwrap();
    for queue in [manager.queue(16).unwrap(), manager.unbounded_queue().unwrap()] {
        let consumers: Vec<_> = (0..2).map(|_| Process::spawn(queue.clone(), consume).unwrap()).collect();
        let producers: Vec<_> = (0..3).map(|n| Process::spawn((queue.clone(), n), produce).unwrap()).collect();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        queue.close().unwrap();
        let mut all = Vec::new();
        for consumer in consumers {
            let got = consumer.join().unwrap();
            for producer in 0..3 {
                assert!(got.iter().filter(|item| item.0 == producer).is_sorted(), "out of order");
            }
            all.extend(got);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq((0..3).flat_map(|producer| (0..EACH).map(move |n| (producer, n)))));
    }
    manager.check().unwrap();
}

/// Numbers, of which 13 cannot be encoded.
#[derive(Debug)]
enum Odd {}

impl Encode<u64> for Odd {
    fn with_encoded<R>(value: &u64, f: impl FnOnce(Encoded<'_>) -> R) -> commons::Result<R> {
        match value {
            13 => Err(Error::new(ErrorKind::Encode, "13")),
            n => Ok(f(Encoded::plain(&n.to_le_bytes()))),
        }
    }
}

impl Decode<u64> for Odd {
    fn fixed_len() -> Option<usize> {
        Some(8)
    }

    fn decode(bytes: &[u8]) -> commons::Result<u64> {
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Error::new(ErrorKind::Decode, "no number"))?))
    }
}

#[test]
fn b03_a_value_that_cannot_be_encoded_loses_only_itself_and_frees_its_slot() {
    let manager = Manager::new().unwrap();
    let plain = manager.queue_with::<u64, Odd>(2).unwrap();
    let urgent = manager.priority_queue_with::<u64, Odd>(Some(2)).unwrap();
    for n in 0..10 {
        plain.put(&n).unwrap();
        urgent.put(1, &n).unwrap();
        for _ in 0..5 {
            assert_kind(plain.put(&13), ErrorKind::Encode);
            assert_kind(plain.try_put(&13), ErrorKind::Encode);
            assert_kind(urgent.put(0, &13), ErrorKind::Encode);
        }
        assert_eq!(plain.try_put(&(100 + n)).unwrap(), Put::Done, "there is room for two");
        assert_eq!(urgent.try_put(2, &(100 + n)).unwrap(), Put::Done);
        assert_eq!((plain.get().unwrap(), plain.get().unwrap()), (n, 100 + n));
        assert_eq!((urgent.get().unwrap(), urgent.get().unwrap()), ((1, n), (2, 100 + n)));
    }
    manager.check().unwrap();
}

/// Those who wait are processes.
#[test]
fn b05_put_and_get_after_close_are_errors_at_once_for_those_already_waiting_too() {
    commons::init_test!();
    fn put(queue: Queue<u64>) -> bool {
        queue.put(&2).is_err_and(|e| e.kind() == ErrorKind::Closed)
    }
    fn get(queue: Queue<u64>) -> bool {
        queue.get().is_err_and(|e| e.kind() == ErrorKind::Closed)
    }
    let manager = Manager::new().unwrap();
    let (full, empty) = (manager.queue(1).unwrap(), manager.queue(1).unwrap());
    full.put(&1).unwrap();
    let waiting: Vec<_> = [(&full, put as fn(_) -> _), (&full, put), (&empty, get), (&empty, get)]
        .map(|(queue, wait)| Process::spawn(queue.clone(), wait).unwrap())
        .into();
    std::thread::sleep(Duration::from_millis(100));
    for queue in [&full, &empty] {
        queue.close().unwrap();
        queue.close().unwrap();
    }
    assert!(waiting.into_iter().all(|child| child.join().unwrap()));
    assert_kind(full.try_put(&3), ErrorKind::Closed);
    assert_kind(full.put(&3), ErrorKind::Closed);
    assert_eq!(full.get().unwrap(), 1, "what was there can be got");
    assert_kind(full.get(), ErrorKind::Closed);
    assert_kind(empty.get_timeout(SOON), ErrorKind::Closed);
    manager.check().unwrap();
}

/// Another process reaches the queue through the containers.
#[test]
fn b06_a_queue_inside_a_list_or_dict_works() {
    commons::init_test!();
    type Queues = (List<Queue<u64>>, Dict<String, Queue<u64>>);
    fn answer((list, dict): Queues) {
        let question = list.get(0).unwrap().get().unwrap();
        dict.get("answers").unwrap().unwrap().put(&(question + 1)).unwrap();
    }
    let manager = Manager::new().unwrap();
    let (list, dict): Queues = (manager.list().unwrap(), manager.dict().unwrap());
    list.push(&manager.queue(1).unwrap()).unwrap();
    dict.insert("answers", &manager.unbounded_queue().unwrap()).unwrap();
    manager.collect().unwrap();
    let child = Process::spawn((list.clone(), dict.clone()), answer).unwrap();
    list.get(0).unwrap().put(&41).unwrap();
    assert_eq!(dict.get("answers").unwrap().unwrap().get().unwrap(), 42);
    child.join().unwrap();
    manager.check().unwrap();
}
