//! Proves what a priority queue promises: the lowest first, equal ones in order, exact bounds, timeouts, close.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use commons::{ErrorKind, Manager, PriorityQueue, Put, Queue};

fn seed() -> u64 {
    let seed = std::env::var("COMMONS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("seed {seed} (COMMONS_SEED replays)");
    seed
}

#[test]
fn the_lowest_comes_first_and_equal_ones_in_order() {
    let mut random = seed();
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % end
    };
    let manager = Manager::new().unwrap();
    let queue = manager.unbounded_priority_queue::<u64>().unwrap();
    let mut model: BTreeMap<(i64, u64), ()> = BTreeMap::new();
    for n in 0..20_000u64 {
        if below(5) < 3 {
            let priority = match below(10) {
                0 => i64::MIN,
                1 => i64::MAX,
                k => below(1 + k * k * k) as i64 - 20,
            };
            queue.put(priority, &n).unwrap();
            model.insert((priority, n), ());
        } else {
            assert_eq!(queue.try_get().unwrap(), model.pop_first().map(|(key, ())| key));
        }
        assert_eq!(queue.len().unwrap(), model.len() as u64);
    }
    manager.check().unwrap();
    while let Some((key, ())) = model.pop_first() {
        assert_eq!(queue.get().unwrap(), key);
    }
    assert!(queue.is_empty().unwrap());
    manager.check().unwrap();
}

#[test]
fn bounds_are_exact_and_timeouts_pass() {
    let manager = Manager::new().unwrap();
    let queue = manager.priority_queue::<String>(2).unwrap();
    let start = Instant::now();
    assert_eq!(queue.get_timeout(Duration::from_millis(50)).unwrap(), None);
    assert_eq!(queue.try_put(3, &"c".into()).unwrap(), Put::Done);
    assert!(!queue.is_full().unwrap());
    assert_eq!(queue.try_put(1, &"a".into()).unwrap(), Put::Done);
    assert!(queue.is_full().unwrap());
    assert_eq!(queue.try_put(2, &"b".into()).unwrap(), Put::Full);
    assert_eq!(queue.put_timeout(2, &"b".into(), Duration::from_millis(50)).unwrap(), Put::Full);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(20), "{took:?}");
    std::thread::scope(|scope| {
        scope.spawn(|| queue.put(2, &"b".into()).unwrap());
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(queue.get().unwrap(), (1, "a".to_owned()));
    });
    assert_eq!(queue.len().unwrap(), 2);
    for bad in [0, 1 << 30] {
        assert_eq!(manager.priority_queue::<u8>(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn closing_wakes_who_waits_and_what_is_there_can_be_got() {
    let manager = Manager::new().unwrap();
    let queue = manager.priority_queue::<u8>(1).unwrap();
    let empty = manager.priority_queue::<u8>(1).unwrap();
    queue.put(0, &1).unwrap();
    std::thread::scope(|scope| {
        let putter = scope.spawn(|| queue.put(0, &2).unwrap_err().kind());
        let getter = scope.spawn(|| empty.get().unwrap_err().kind());
        std::thread::sleep(Duration::from_millis(30));
        queue.close().unwrap();
        empty.close().unwrap();
        queue.close().unwrap();
        assert_eq!(putter.join().unwrap(), ErrorKind::Closed);
        assert_eq!(getter.join().unwrap(), ErrorKind::Closed);
    });
    assert_eq!(queue.try_get().unwrap(), Some((0, 1)));
    assert_eq!(queue.get().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(queue.put(0, &1).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn many_threads_get_everything_once() {
    let manager = Manager::new().unwrap();
    let queue = manager.priority_queue::<u64>(10).unwrap();
    let mut got: Vec<u64> = std::thread::scope(|scope| {
        for producer in 0..2u64 {
            let queue = &queue;
            scope.spawn(move || (0..3000).for_each(|n| queue.put((n % 7) as i64, &(producer * 3000 + n)).unwrap()));
        }
        let consumers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| (0..3000).map(|_| queue.get().unwrap().1).collect::<Vec<_>>())).collect();
        consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
    });
    got.sort_unstable();
    assert_eq!(got, (0..6000).collect::<Vec<_>>());
    manager.check().unwrap();
}

#[test]
fn items_may_hold_handles_and_queues_may_be_held() {
    let manager = Manager::new().unwrap();
    let queue = manager.unbounded_priority_queue::<Queue<u64>>().unwrap();
    for n in 0..3 {
        let inner = manager.queue::<u64>(1).unwrap();
        inner.put(&n).unwrap();
        queue.put(-(n as i64), &inner).unwrap();
    }
    manager.collect().unwrap();
    assert_eq!(queue.get().unwrap().1.get().unwrap(), 2);
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 3);
    let dict = manager.dict::<u8, PriorityQueue<Queue<u64>>>().unwrap();
    dict.insert(&1, &queue).unwrap();
    drop(queue);
    manager.collect().unwrap();
    assert_eq!(dict.get(&1).unwrap().unwrap().get().unwrap().1.get().unwrap(), 1);
    drop(dict);
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 0);
    manager.check().unwrap();
}
