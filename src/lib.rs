//! `commons`: Python's `multiprocessing` for Rust, with no server process.
//!
//! Shared dicts, lists, sets, queues, values, arrays, locks and pipes live in memory-mapped segments; a handle is a segment
//! and a place in it, and every
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
//! Start at [`Manager`], which creates and opens segments and the objects in them: [`Dict`], [`List`], [`Set`],
//! [`Namespace`], [`Queue`], [`Lock`], one [`Value`], an [`Array`] of numbers, a [`Block`] of bytes. Every handle is a
//! value that any container can hold:
//!
//! ```
//! # use commons::{List, Manager};
//! let manager = Manager::new()?;
//! let lines = manager.list::<String>()?;
//! let files = manager.dict::<String, List<String>>()?;
//! files.insert("a.txt", &lines)?;
//! files.get("a.txt")?.expect("inserted").push(&"first".to_owned())?;
//! assert_eq!(lines.get(0)?, "first");
//! # Ok::<(), commons::Error>(())
//! ```
//!
//! [`shared!`] makes a struct of such objects an object itself: your own types. [`JoinableQueue`] delivers items until somebody has done them, [`PriorityQueue`] the most urgent first. Processes keep
//! step by [`RLock`], [`RwLock`], [`Semaphore`], [`Condition`], [`Event`], [`Barrier`] and [`Once`]; whoever
//! waits for a process that dies is woken, and told so by the type of the answer.
//!
//! [`Process`] runs a function in a fresh process of the same program and gives it handles as arguments; [`spawn!`] does so
//! with a closure, and [`Process::fork`] runs any closure in a copy of this process. [`Pool`] runs functions on many items,
//! in worker processes any of which may die. Pipes, whose ends are [`Connection`]s, join two of them; [`Listener`] and
//! [`Connection::connect`] bring processes together that know nothing but a name. [`wait`] waits for several things at once,
//! and a [`Readiness`] is a file descriptor for event loops that do.
//!
//! Every failure is an [`Error`] with a [kind](ErrorKind). How it works inside is told in `ARCHITECTURE.md`.

mod agenda;
mod array;
mod block;
mod codec;
mod dict;
mod error;
mod guarded;
mod handle;
mod joinable_queue;
mod lease;
mod list;
mod listener;
mod lock;
mod manager;
mod mem;
mod namespace;
mod os;
mod pipe;
mod priority_queue;
mod process;
mod queue;
mod raw;
mod readiness;
mod record;
mod set;
mod storing;
mod sync;
#[doc(hidden)]
pub mod testing;
mod value;
mod wait;

pub use array::{Array, ArrayGuard, Element};
pub use block::{Block, BlockView};
pub use codec::{Auto, Codec, Decode, Encode, Encoded, Pod};
pub use dict::{Dict, Exchange, Integer, Iter};
pub use error::{Error, ErrorKind, Result};
pub use joinable_queue::JoinableQueue;
pub use lease::{Lease, Loan};
#[cfg(feature = "linkme")]
#[doc(hidden)]
pub use linkme;
pub use list::{Iter as ListIter, List};
pub use listener::{Listener, ListenerBuilder};
pub use lock::{Acquire, Held, Lock, LockGuard};
pub use manager::{Builder, Manager, ObjectInfo, ObjectKind, Place, Report};
pub use mem::HeapStats;
pub use namespace::Namespace;
pub use pipe::Connection;
pub use priority_queue::PriorityQueue;
#[doc(hidden)]
pub use process::enter_test;
pub use process::{ActiveChild, Parent, Process, ProcessBuilder, init};
pub use process::{AsyncResult, Call, Pool, PoolBuilder, Progress, Results};
#[cfg(feature = "linkme")]
pub use process::{NAMED_TASKS, Named, NamedTask, serve_pool};
pub use queue::{Put, Queue};
pub use readiness::Readiness;
#[doc(hidden)]
pub use record::RecordObject;
pub use record::{Record, Shared, Storable};
#[doc(hidden)]
pub use serde as __serde;
pub use set::{Elements, Set};
pub use sync::{
    Attempt, Barrier, BoundedSemaphore, Condition, ConditionLock, Event, Once, Passage, Permit, RLock, RLockGuard,
    RwLock, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard, Semaphore, Woken,
};
pub use value::Value;
pub use wait::{Waitable, wait};
