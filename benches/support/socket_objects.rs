//! What the [server](super::socket_server) of the socket manager keeps.
//!
//! A dict or a set is a mutex around a hash table with the hash function of the dashmap rows; a list, which is an array
//! too, is one around a `Vec`; what waits is a mutex with a condition variable. An operation says whether it found what
//! it was to find.

use super::frame::Reply;
use foldhash::fast::RandomState;
use parking_lot::{Condvar, Mutex};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

/// As many as there are of each kind of object.
pub type Objects<T> = [T; 4];

/// All objects. A client names them by their index.
#[derive(Default)]
pub struct State {
    pub dicts: Objects<Dict>,
    pub sets: Objects<Set>,
    pub lists: Objects<List>,
    pub values: Objects<Value>,
    pub queues: Objects<Queue>,
    pub heaps: Objects<Heap>,
    pub locks: Objects<Lock>,
    /// Who holds one how often, the connections know.
    pub reentrant: Objects<Lock>,
    pub shared: Objects<SharedLock>,
    pub semaphores: Objects<Semaphore>,
    pub events: Objects<Event>,
    pub barriers: Objects<Barrier>,
}

#[derive(Default)]
pub struct Dict(Mutex<HashMap<Box<[u8]>, Vec<u8>, RandomState>>);

impl Dict {
    pub fn get(&self, key: &[u8], reply: &mut Reply) -> bool {
        self.0.lock().get(key).map(|value| reply.extend(value)).is_some()
    }

    pub fn set(&self, key: &[u8], value: &[u8]) -> bool {
        let mut dict = self.0.lock();
        match dict.get_mut(key) {
            Some(old) => value.clone_into(old),
            None => drop(dict.insert(key.into(), value.into())),
        }
        true
    }

    pub fn remove(&self, key: &[u8]) -> bool {
        self.0.lock().remove(key).is_some()
    }

    pub fn len(&self, reply: &mut Reply) -> bool {
        reply.extend(&(self.0.lock().len() as u64).to_le_bytes());
        true
    }

    pub fn clear(&self) -> bool {
        *self.0.lock() = HashMap::default();
        true
    }
}

#[derive(Default)]
pub struct Set(Mutex<HashSet<Box<[u8]>, RandomState>>);

impl Set {
    /// Whether the element is new.
    pub fn insert(&self, element: &[u8]) -> bool {
        let element = element.into();
        self.0.lock().insert(element)
    }

    pub fn contains(&self, element: &[u8]) -> bool {
        self.0.lock().contains(element)
    }

    pub fn clear(&self) -> bool {
        *self.0.lock() = HashSet::default();
        true
    }
}

#[derive(Default)]
pub struct List(Mutex<Vec<Vec<u8>>>);

impl List {
    pub fn push(&self, element: &[u8]) -> bool {
        let element = element.to_vec();
        self.0.lock().push(element);
        true
    }

    pub fn get(&self, index: u64, reply: &mut Reply) -> bool {
        self.0.lock().get(index as usize).map(|element| reply.extend(element)).is_some()
    }

    pub fn set(&self, index: u64, element: &[u8]) -> bool {
        self.0.lock().get_mut(index as usize).map(|old| element.clone_into(old)).is_some()
    }

    /// All elements, one after the other: those of one list are equally long.
    pub fn snapshot(&self, reply: &mut Reply) -> bool {
        self.0.lock().iter().for_each(|element| reply.extend(element));
        true
    }

    pub fn clear(&self) -> bool {
        *self.0.lock() = Vec::new();
        true
    }
}

#[derive(Default)]
pub struct Value(Mutex<u64>);

impl Value {
    pub fn load(&self, reply: &mut Reply) -> bool {
        reply.extend(&self.0.lock().to_le_bytes());
        true
    }

    pub fn store(&self, number: u64) -> bool {
        *self.0.lock() = number;
        true
    }

    /// Replies with the value before.
    pub fn add(&self, number: u64, reply: &mut Reply) -> bool {
        let mut value = self.0.lock();
        reply.extend(&value.to_le_bytes());
        *value = value.wrapping_add(number);
        true
    }
}

#[derive(Default)]
pub struct Queue {
    items: Mutex<VecDeque<Vec<u8>>>,
    filled: Condvar,
}

impl Queue {
    pub fn put(&self, item: &[u8]) -> bool {
        let item = item.to_vec();
        self.items.lock().push_back(item);
        self.filled.notify_one();
        true
    }

    pub fn get(&self, reply: &mut Reply) -> bool {
        let mut items = self.items.lock();
        let item = loop {
            match items.pop_front() {
                Some(item) => break item,
                None => self.filled.wait(&mut items),
            }
        };
        drop(items);
        reply.extend(&item);
        true
    }
}

/// Items by priority, equal ones in order.
#[derive(Default)]
pub struct Heap(Mutex<(BinaryHeap<Reverse<Urgent>>, u64)>);

/// Priority, number, bytes.
type Urgent = (u64, u64, Vec<u8>);

impl Heap {
    pub fn put(&self, priority: u64, item: &[u8]) -> bool {
        let item = item.to_vec();
        let mut heap = self.0.lock();
        heap.1 += 1;
        let number = heap.1;
        heap.0.push(Reverse((priority, number, item)));
        true
    }

    pub fn get(&self, reply: &mut Reply) -> bool {
        let item = self.0.lock().0.pop();
        item.map(|Reverse((.., item))| reply.extend(&item)).is_some()
    }
}

/// A lock and the condition that belongs to it.
#[derive(Default)]
pub struct Lock {
    taken: Mutex<bool>,
    released: Condvar,
    changed: Condvar,
}

impl Lock {
    pub fn acquire(&self) {
        let mut taken = self.taken.lock();
        self.released.wait_while(&mut taken, |taken| *taken);
        *taken = true;
    }

    pub fn release(&self) {
        *self.taken.lock() = false;
        self.released.notify_one();
    }

    /// Releases the lock, waits for a notification, and acquires the lock.
    pub fn wait(&self) {
        let mut taken = self.taken.lock();
        *taken = false;
        self.released.notify_one();
        self.changed.wait(&mut taken);
        self.released.wait_while(&mut taken, |taken| *taken);
        *taken = true;
    }

    pub fn notify(&self) {
        self.changed.notify_one();
    }
}

/// A lock that either one connection holds to write or many to read.
#[derive(Default)]
pub struct SharedLock {
    /// Readers, or [`WRITER`].
    holders: Mutex<u32>,
    released: Condvar,
}

const WRITER: u32 = u32::MAX;

impl SharedLock {
    pub fn acquire_read(&self) {
        let mut holders = self.holders.lock();
        self.released.wait_while(&mut holders, |holders| *holders == WRITER);
        *holders += 1;
    }

    pub fn release_read(&self) {
        *self.holders.lock() -= 1;
        self.released.notify_all();
    }

    pub fn acquire_write(&self) {
        let mut holders = self.holders.lock();
        self.released.wait_while(&mut holders, |holders| *holders > 0);
        *holders = WRITER;
    }

    pub fn release_write(&self) {
        *self.holders.lock() = 0;
        self.released.notify_all();
    }
}

/// Without permits at first.
#[derive(Default)]
pub struct Semaphore {
    permits: Mutex<u32>,
    released: Condvar,
}

impl Semaphore {
    pub fn acquire(&self) -> bool {
        let mut permits = self.permits.lock();
        self.released.wait_while(&mut permits, |permits| *permits == 0);
        *permits -= 1;
        true
    }

    pub fn release(&self) -> bool {
        *self.permits.lock() += 1;
        self.released.notify_one();
        true
    }
}

/// No row waits for one.
#[derive(Default)]
pub struct Event(Mutex<bool>);

impl Event {
    pub fn set(&self) -> bool {
        *self.0.lock() = true;
        true
    }

    pub fn clear(&self) -> bool {
        *self.0.lock() = false;
        true
    }

    pub fn is_set(&self) -> bool {
        *self.0.lock()
    }
}

/// A barrier for two.
#[derive(Default)]
pub struct Barrier {
    /// How often somebody has come; every second time all go on.
    arrivals: Mutex<u64>,
    complete: Condvar,
}

impl Barrier {
    pub fn wait(&self) -> bool {
        let mut arrivals = self.arrivals.lock();
        *arrivals += 1;
        let round = arrivals.next_multiple_of(2);
        if *arrivals == round {
            self.complete.notify_one();
        }
        self.complete.wait_while(&mut arrivals, |arrivals| *arrivals < round);
        true
    }
}
