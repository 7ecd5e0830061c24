//! Lists, sets, values, arrays and namespaces, in one thread.
//!
//! Rows: `commons`; the natural rival for the threads of one process, which is `mutex-vec` for lists, `dashset` for sets
//! (hashed with foldhash), `atomic` for values and arrays, and `rwlock-hashmap` for namespaces; and `socket-manager`,
//! where every operation is a round trip to a server process. Elements are words.
//!
//! All rows of a group do equal work: one generic function draws the same indices in the same order, makes the same
//! elements, and checks what it gets back.
//!
//! - `list/push`, `set/add`: an empty container is filled with 100 000 elements, so that growth and first touches of
//!   memory count. Time is per fill; the throughput is in elements. Making and dropping the container is outside of the
//!   time.
//! - `list/get`, `set/contains-hit`: a random element of 100 000.
//! - `list/iterate`: all elements of a list of 1000, as they were at one moment; the throughput is in elements.
//! - `value/load`, `value/fetch-add`: one word.
//! - `array/get`, `array/set`: a random element of 100 000. The server keeps an array as a list.
//! - `namespace/get`: a random one of ten attributes. The server keeps a namespace as a dict.

mod fills;
#[path = "../support/mod.rs"]
mod support;
mod words;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, criterion_group};

const ELEMENTS: u32 = 100_000;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// A container and the manager that it comes from.
struct Commons<T> {
    manager: commons::Manager,
    object: T,
}

impl<T> Commons<T> {
    fn new(make: fn(&commons::Manager) -> commons::Result<T>) -> Self {
        let manager = commons::Manager::new().expect("manager");
        let object = make(&manager).expect("object");
        Commons { manager, object }
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a word"))
}

criterion_group!(
    name = benches;
    config = support::criterion();
    targets = fills::lists, fills::sets, words::values, words::arrays, words::namespaces
);

fn main() {
    commons::init();
    support::init(&[]);
    benches();
}
