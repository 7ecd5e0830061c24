//! `commons`: Python's `multiprocessing` for Rust, with no server process.
//!
//! Shared dicts, queues and locks live in memory-mapped segments; a handle is a segment and a place in it, and every
//! process works on the segment directly. Any process may be killed at any instruction: the others go on, nothing
//! acknowledged is lost, nothing leaks.
//!
//! ```
//! use commons::Manager;
//!
//! let manager = Manager::new()?;
//! let squares = manager.dict::<u64, u64>()?;
//! squares.insert(&22, &484)?;
//! assert_eq!(squares.get(&22)?, Some(484));
//! # Ok::<(), commons::Error>(())
//! ```
//!
//! Start at [`Manager`], which creates and opens segments and the objects in them: [`Dict`], [`Queue`], [`Lock`],
//! [`JoinableQueue`], whose items are delivered until somebody has done them, and [`PriorityQueue`].
//! [`Process`] runs a function in a fresh process of the same program and gives it handles as arguments. Every
//! failure is an [`Error`] with a [kind](ErrorKind). How it works inside is told in `ARCHITECTURE.md`.

mod agenda;
mod codec;
mod dict;
mod error;
mod handle;
mod joinable_queue;
mod lease;
mod lock;
mod manager;
mod mem;
mod os;
mod priority_queue;
mod process;
mod queue;
mod raw;
#[doc(hidden)]
pub mod testing;

pub use codec::{Auto, Codec, Decode, Encode, Encoded, Pod};
pub use dict::{Dict, Exchange, Integer, Iter};
pub use error::{Error, ErrorKind, Result};
pub use joinable_queue::JoinableQueue;
pub use lease::{Lease, Loan};
pub use lock::{Acquire, Held, Lock, LockGuard};
pub use manager::{Builder, Manager, ObjectInfo, ObjectKind, Place, Report};
pub use mem::HeapStats;
pub use priority_queue::PriorityQueue;
#[doc(hidden)]
pub use process::enter_test;
pub use process::{Process, ProcessBuilder, init};
pub use queue::{Put, Queue};
