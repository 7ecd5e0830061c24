//! A pool of worker processes.
//!
//! | file | one idea |
//! |---|---|
//! | `handle` | [`Pool`], its options, and its end |
//! | `call` | how it is called |
//! | `feeder` | items on their way into chunks |
//! | `crew` | who does what: the parent's memory; `member`, `chunk`: what it consists of |
//! | `settle` | what becomes of the tasks of a worker that has ended |
//! | `office` | the parent's two threads: the keeper of processes, the clerk of results |
//! | `sink` | where outcomes go; `gather`: all at once; `stream`: one by one |
//! | `worker` | the worker's side |
//! | `function` | functions and their types |
//! | `named`, `foreign` | tasks with names, and workers of another program (feature `linkme`) |
//! | `wire` | messages |
//! | `board` | what a worker says about itself; its words are those of `raw::board` |
//!
//! # Algorithm
//!
//! Every worker has a queue of its own, which the parent keeps short; all send their results through one. The parent
//! knows which chunks are before which worker, and takes half of them back from its queue when another is idle. So a
//! chunk costs one put and one get each way, and who had it is never in doubt: there is no moment between taking a chunk
//! and saying so. On its board a worker says which task of the chunk it is at: two plain stores for each task.
//!
//! # Thread safety
//!
//! One lock, of the parent's own memory, around `crew`. No user code runs under it.
//!
//! # Invariants
//!
//! 1. A chunk without all its outcomes is in the backlog or assigned to one seat. It is assigned before anybody else
//!    sees it in that seat's queue; who pops it from there, the worker or the parent, alone has it.
//! 2. A worker sends the outcomes of a chunk in order. `received` counts those that the clerk has taken.
//! 3. A task is *done* when its outcome is in a message that was put or in the outbox, and the board says so only then.
//!    The outbox begins with the outcome of the first task that is in no message: it is written over from the start after
//!    a put, and before the board counts a task beyond that message.
//! 4. The end of a worker is told through the queue of results, by a put that begins after the process was reaped. So the
//!    clerk has taken everything that it sent before.
//! 5. A task that the board does not call begun was not begun: it may go to another worker. The one that it calls running
//!    is charged. The rest is done, by 3, and delivered from the outbox as far as it is beyond `received`.
//! 6. Functions are named over shared memory by keyed hashes only (`os::seal`), arguments decoded as bytes that may be
//!    anything, and what the clerk takes is believed as far as it fits what the parent knows.
//! 7. The parent never waits for a worker under the lock: it puts into a worker's queue only what has room.
//!
//! # What a kill leaves
//!
//! | killed | before | leaves | outcome |
//! |---|---|---|---|
//! | a worker | it pops the chunk, or `begin` of the first task | the chunk assigned, not begun | it goes to another |
//! | | `end` of a task | the task running | the task is charged: error or retry; those after it go to others |
//! | | the next `begin` | tasks done, in the outbox or a message | delivered; those after them go to others |
//! | | the put of results commits | the same: the last is still running | delivered but the last, which is charged |
//! | | the board is told of that put | everything delivered: `received` is ahead of the board | nothing is charged |
//! | the parent | anything | workers without a parent | the kernel kills them; the segment goes with the last |
//!
//! A worker that dies before it has begun any of its chunks, again and again, is bounded twice: twenty starts in a row
//! without one that gets to work end the pool, and a hundred workers lost by one chunk end that chunk.

mod board;
mod call;
mod chunk;
mod crew;
mod feeder;
#[cfg(feature = "linkme")]
mod foreign;
mod function;
mod gather;
mod handle;
mod member;
#[cfg(feature = "linkme")]
mod named;
mod office;
mod settle;
mod sink;
mod stream;
mod wire;
mod worker;

pub use call::Call;
#[cfg(feature = "linkme")]
pub use foreign::serve_pool;
pub use gather::AsyncResult;
pub use handle::{Pool, PoolBuilder};
#[cfg(feature = "linkme")]
pub use named::{NAMED_TASKS, Named, NamedTask};
pub use sink::Progress;
pub use stream::Results;
