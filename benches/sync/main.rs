//! Synchronisation beside the plain lock: in one thread that nobody disturbs, and between two processes.
//!
//! Rows: `commons`; a rival for the threads of one process, `parking-lot` or `std`; and `socket-manager`, where every
//! operation is a round trip to a server process.
//!
//! All rows of a group do equal work: one generic function calls them and checks what happened.
//!
//! - `rlock`: taken, taken again, an increment, released twice.
//! - `rwlock/read`, `rwlock/write`: taken, a word read or incremented, released.
//! - `semaphore`: one of three permits taken and released. For the threads of one process neither `std` nor `parking-lot`
//!   has one; the rival is what is built instead, a mutex with a condition variable.
//! - `event`: set, tested, cleared, tested. The rival is an atomic flag, with which nobody could wait.
//! - `once`: the value that was made before.
//! - `barrier`: two processes (for the rival: threads) come and go on, again and again.
//! - `condition`: two processes (threads) take turns. Each waits under the lock for its turn, checks it, gives it to the
//!   other and notifies; time is for both turns.
//!
//! The last two groups are there twice: with both parties on one CPU, and with each on its own (the server is on the
//! bench's). The second party is told how often to take part before the clock starts.

mod alone;
#[path = "../support/mod.rs"]
mod support;
mod together;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, criterion_group};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// One object and the manager that must outlive it.
struct Commons<T> {
    _manager: commons::Manager,
    object: T,
}

impl<T> Commons<T> {
    fn new(make: fn(&commons::Manager) -> commons::Result<T>) -> Self {
        let manager = commons::Manager::new().expect("manager");
        let object = make(&manager).expect("object");
        Commons { _manager: manager, object }
    }
}

criterion_group!(name = benches; config = support::criterion(); targets = alone::rows, together::rows);

fn main() {
    commons::init();
    support::init(&together::PEERS);
    benches();
}
