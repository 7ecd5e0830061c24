//! Proves the everyday behaviour of dicts, queues and locks inside one process.

use std::collections::HashMap;
use std::time::Duration;

use commons::{ErrorKind, Exchange, Manager, Put};

#[test]
fn dict_behaves_like_a_map() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, u64>().unwrap();
    for i in 0..10_000 {
        assert!(dict.insert(&i, &(i * i)).unwrap());
    }
    for i in 0..10_000 {
        assert_eq!(dict.get(&i).unwrap(), Some(i * i));
    }
    assert_eq!(dict.len().unwrap(), 10_000);
    assert_eq!(dict.replace(&7, &1).unwrap(), Some(49));
    assert_eq!(dict.pop(&7).unwrap(), Some(1));
    assert_eq!(dict.pop(&7).unwrap(), None);
    assert!(!dict.remove(&7).unwrap());
    assert_eq!(dict.get_or_insert(&7, &5).unwrap(), 5);
    assert_eq!(dict.fetch_add(&7, 3).unwrap(), 5);
    assert_eq!(dict.compare_exchange(&7, Some(&8), Some(&9)).unwrap(), Exchange::Done);
    assert_eq!(dict.compare_exchange(&7, None, Some(&1)).unwrap(), Exchange::Unequal(Some(9)));
    let all: HashMap<u64, u64> = dict.iter().map(Result::unwrap).collect();
    assert_eq!(all.len(), 10_000);
    let snapshot: HashMap<u64, u64> = dict.snapshot().unwrap().into_iter().collect();
    assert_eq!(snapshot, all);
    manager.check().unwrap();
    let (key, value) = dict.pop_item().unwrap().unwrap();
    assert_eq!(all[&key], value);
    dict.clear().unwrap();
    assert!(dict.is_empty().unwrap());
    assert_eq!(dict.pop_item().unwrap(), None);
    manager.check().unwrap();
}

#[test]
fn dict_of_boxed_entries() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<String, Vec<u8>>().unwrap();
    for i in 0..5_000usize {
        dict.insert(&format!("key {i}"), &vec![i as u8; i % 700]).unwrap();
    }
    for i in (0..5_000usize).rev() {
        assert_eq!(dict.get(format!("key {i}").as_str()).unwrap(), Some(vec![i as u8; i % 700]));
        dict.insert(&format!("key {i}"), &vec![1; 9]).unwrap();
    }
    manager.check().unwrap();
    for i in 0..5_000 {
        assert!(dict.remove(format!("key {i}").as_str()).unwrap());
    }
    assert_eq!(dict.len().unwrap(), 0);
    manager.check().unwrap();
    drop(dict);
    assert_eq!(manager.objects().unwrap().len(), 0);
    let report = manager.check().unwrap();
    assert_eq!(report.objects, 0);
}

#[test]
fn queue_behaves_like_a_queue() {
    let manager = Manager::new().unwrap();
    let queue = manager.queue::<String>(3).unwrap();
    for i in 0..3 {
        queue.put(&i.to_string()).unwrap();
    }
    assert_eq!(queue.try_put(&"x".into()).unwrap(), Put::Full);
    assert_eq!(queue.put_timeout(&"x".into(), Duration::from_millis(10)).unwrap(), Put::Full);
    assert!(queue.is_full().unwrap());
    assert_eq!(queue.get().unwrap(), "0");
    queue.put(&"a long item that does not fit into the slot itself, by far, so it is boxed".into()).unwrap();
    assert_eq!(queue.get_batch(10).unwrap().len(), 3);
    assert_eq!(queue.try_get().unwrap(), None);
    queue.close().unwrap();
    queue.close().unwrap();
    assert_eq!(queue.try_get().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(queue.put(&"y".into()).unwrap_err().kind(), ErrorKind::Closed);
    manager.check().unwrap();
}

#[test]
fn lock_guards_a_value() {
    let manager = Manager::new().unwrap();
    let lock = manager.lock(vec![1u32]).unwrap();
    {
        let guard = lock.lock().unwrap();
        assert!(!guard.is_recovered());
        let guard = guard.into_guard();
        guard.set(&vec![1, 2]).unwrap();
        assert_eq!(guard.get().unwrap(), [1, 2]);
        assert_eq!(lock.try_lock().unwrap_err().kind(), ErrorKind::WouldDeadlock);
        assert!(lock.is_locked().unwrap());
    }
    assert!(!lock.is_locked().unwrap());
    assert_eq!(lock.release().unwrap_err().kind(), ErrorKind::NotHeld);
    manager.check().unwrap();
}

#[test]
fn names_are_one_object_for_all() {
    let manager = Manager::new().unwrap();
    let a = manager.named("n").dict::<u64, u64>().unwrap();
    let b = manager.named("n").dict::<u64, u64>().unwrap();
    assert_eq!(a, b);
    assert_eq!(manager.named("n").dict::<u64, i64>().unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(manager.named("n").queue::<u64>(3).unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(manager.fresh("n").dict::<u64, u64>().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(manager.existing("m").dict::<u64, u64>().unwrap_err().kind(), ErrorKind::NotFound);
    drop((a, b));
    manager.collect().unwrap();
    manager.existing("n").dict::<u64, u64>().unwrap().insert(&1, &1).unwrap();
    manager.unlink("n").unwrap();
    assert_eq!(manager.unlink("n").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(manager.objects().unwrap().len(), 0);
    manager.check().unwrap();
}
