//! Synchronisation between processes: whom a word names, what waits on it, and what becomes of it after a kill.
//!
//! But for the owned permits of a semaphore, nothing here needs an intent: every change is one compare-and-swap of one
//! word, and what a thread holds is written down under its name. A holder that is gone is told from the word alone, by
//! whoever waits for it; nobody keeps lists of what is held, and there is nothing to undo.

pub mod barrier;
pub mod condition;
pub mod event;
#[cfg(all(test, debug_assertions, not(loom)))]
mod hostile_tests;
#[cfg(all(test, loom))]
mod loom_tests;
pub mod once;
pub mod rlock;
pub mod rwlock;
pub mod semaphore;
pub mod thread;
