//! Proves the 28 behaviours that tell a multiprocessing library from a toy, each by tests named after it (`b01_` to
//! `b28_`), between processes where it says so.
//!
//! What more each type promises is proved in the other files of `tests/`.

#[path = "../common/mod.rs"]
mod common;

mod condition;
mod containers;
mod event_barrier;
mod locks;
mod memory;
mod pool_process;
mod queue;
mod queue_joinable;
