//! Bytes-only, crash-safe structures: latches, tables, rings, objects, recovery.
//!
//! Every operation here announces itself in the thread's intent record and commits with one store; `recovery` ties the
//! structures together: it knows what each kind of operation leaves, and every operation of the floor above runs through
//! [`recovery::run`].

pub mod agenda;
pub mod array;
pub mod board;
pub mod cell;
pub mod check;
#[cfg(test)]
mod check_tests;
pub mod collect;
#[cfg(all(test, debug_assertions))]
mod crash;
#[cfg(test)]
mod inherit_tests;
pub mod latch;
pub mod list;
pub mod lock;
#[cfg(all(test, loom))]
mod loom_tests;
pub mod names;
pub mod object;
pub mod pipe;
pub mod recovery;
#[cfg(test)]
mod recovery_tests;
pub mod ring;
pub mod session;
pub mod slot;
pub mod sync;
pub mod table;
pub mod value;
pub mod wait;
