//! `commons`: Python's `multiprocessing` for Rust, with no server process.
//!
//! Shared dicts, lists, sets, queues, values, arrays and locks live in memory-mapped segments; a handle is a segment and a place in it, and every
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
//! [`Process`] runs a function in a fresh process of the same program and gives it handles as arguments. Every
//! failure is an [`Error`] with a [kind](ErrorKind). How it works inside is told in `ARCHITECTURE.md`.

mod array;
mod block;
mod codec;
mod dict;
mod error;
mod handle;
mod list;
mod lock;
mod manager;
mod mem;
mod namespace;
mod os;
mod process;
mod queue;
mod raw;
mod set;
#[doc(hidden)]
pub mod testing;
mod value;

pub use array::{Array, ArrayGuard, Element};
pub use block::{Block, BlockView};
pub use codec::{Auto, Codec, Decode, Encode, Encoded, Pod};
pub use dict::{Dict, Exchange, Integer, Iter};
pub use error::{Error, ErrorKind, Result};
pub use list::{Iter as ListIter, List};
pub use lock::{Acquire, Held, Lock, LockGuard};
pub use manager::{Builder, Manager, ObjectInfo, ObjectKind, Place, Report};
pub use mem::HeapStats;
pub use namespace::Namespace;
#[doc(hidden)]
pub use process::enter_test;
pub use process::{Process, ProcessBuilder, init};
pub use queue::{Put, Queue};
pub use set::{Elements, Set};
pub use value::Value;
