//! Crash at every step: each operation on each small state is killed at each of its stores.

mod agendas;
mod array;
mod boards;
mod coverage;
mod dict;
mod harness;
mod heap;
mod list;
mod locks;
mod objects;
mod pipes;
mod queues;
mod records;
mod set;
mod sync;
mod sync_locks;
mod table;
mod threads;
mod value;

use std::sync::Arc;

use crate::codec::Codec;
use crate::handle::Handle;
use crate::raw::object::{Kind, ObjectId};
use crate::raw::session::Session;
use crate::raw::table::Table;
use crate::{Dict, Lock, Manager, Queue};

use harness::Suite;

/// Proves that an operation killed at any store, and a recovery killed at any store, leave the operation done or
/// not done, lose and leak nothing, and block nobody; and that this was tried at every store in the source.
#[test]
fn crash_at_every_step() {
    let suite = Suite::from_environment();
    dict::cases(&suite);
    heap::cases(&suite);
    objects::cases(&suite);
    locks::cases(&suite);
    queues::cases(&suite);
    boards::cases(&suite);
    pipes::cases(&suite);
    threads::cases(&suite);
    agendas::cases(&suite);
    sync_locks::cases(&suite);
    sync::cases(&suite);
    value::cases(&suite);
    set::cases(&suite);
    list::cases(&suite);
    array::cases(&suite);
    records::cases(&suite);
    suite.finish();
    if !suite.is_partial() {
        super::ring::crash_tests::at_every_step(); // the states of a ring that its public operations do not make
        coverage::check();
    }
}

/// The only object of its kind.
fn only(manager: &Manager, kind: Kind) -> ObjectId {
    let objects = manager.session().objects().unwrap();
    let mut ids = objects.iter().filter(|object| object.kind == kind).map(|object| object.id);
    let id = ids.next().expect("an object of that kind");
    assert!(ids.next().is_none(), "one object of that kind");
    id
}

/// A handle of object `id` through the membership of `manager`.
fn handle(manager: &Manager, id: ObjectId, kind: Kind, fingerprint: u64) -> Handle {
    let session: &Arc<Session> = manager.session();
    assert!(session.hold(id).unwrap(), "the object is there");
    Handle::adopt(session, id, kind, fingerprint).unwrap()
}

/// The only dict.
fn open_dict<K, V, KC: Codec<K>, VC: Codec<V>>(manager: &Manager) -> Dict<K, V, KC, VC> {
    let fingerprint = Dict::<K, V, KC, VC>::fingerprint();
    Dict::over(handle(manager, only(manager, Kind::Dict), Kind::Dict, fingerprint)).unwrap()
}

/// The table of the only dict.
fn open_table(manager: &Manager) -> Table {
    let (_, _, root) = manager.session().describe(only(manager, Kind::Dict)).unwrap();
    Table::open(manager.session().segment(), root).unwrap()
}

/// The only queue.
fn open_queue<T, C: Codec<T>>(manager: &Manager) -> Queue<T, C> {
    let fingerprint = Queue::<T, C>::fingerprint();
    Queue::over(handle(manager, only(manager, Kind::Queue), Kind::Queue, fingerprint)).unwrap()
}

/// The only lock.
fn open_lock<T, C: Codec<T>>(manager: &Manager) -> Lock<T, C> {
    let fingerprint = Lock::<T, C>::fingerprint();
    Lock::over(handle(manager, only(manager, Kind::Lock), Kind::Lock, fingerprint)).unwrap()
}
