//! What the benches share: the numbers all rivals see, processes beside the bench, and the socket manager.
//!
//!     cpu              where processes run
//!     keys             keys, values and draws, the same for every rival
//!     worker           processes made by running the bench executable again
//!     socket_manager   the client of the rival that keeps objects in a server process
//!     socket_server    that server
//!     socket_objects   what the server keeps
//!     frame            the bytes between those two
//!
//! Every bench calls [`init`] before anything else: a worker process starts in the same `main`, and leaves it there.

#![allow(dead_code, reason = "each bench uses a part of this")]

pub mod cpu;
pub mod frame;
pub mod keys;
pub mod socket_manager;
pub mod socket_objects;
pub mod socket_server;
pub mod worker;

use criterion::Criterion;
use std::time::Duration;

/// Becomes the worker process if this process was started as one, and then never returns; otherwise keeps the bench on
/// its CPU.
///
/// `entries` names the functions that [`worker::Worker::start`] may run.
pub fn init(entries: &[worker::Named]) {
    worker::take_over(&[&[socket_server::ENTRY], entries].concat());
    cpu::pin(cpu::home());
}

/// Measurement settings of all benches: a row takes less than two seconds. The command line (`--quick`,
/// `--measurement-time` ...) overrides them.
pub fn criterion() -> Criterion {
    Criterion::default()
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}
