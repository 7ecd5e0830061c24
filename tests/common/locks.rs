//! Locks, and children that hold them.

use commons::{Event, Lock, Manager, RLock};

use super::FOREVER;

pub fn world() -> (Manager, Lock<u64>, RLock<u64>, Event) {
    let manager = Manager::new().unwrap();
    let (lock, rlock, event) = (manager.lock(0).unwrap(), manager.rlock(0).unwrap(), manager.event().unwrap());
    (manager, lock, rlock, event)
}

pub fn hold_plain((lock, ready): (Lock<u64>, Event)) {
    lock.acquire().unwrap();
    ready.set().unwrap();
    std::thread::sleep(FOREVER);
}

pub fn hold_reentrant((lock, ready): (RLock<u64>, Event)) {
    let outer = lock.lock().unwrap().into_guard();
    let inner = lock.lock().unwrap().into_guard();
    inner.set(&7).unwrap();
    ready.set().unwrap();
    std::thread::sleep(FOREVER);
    drop((outer, inner));
}
