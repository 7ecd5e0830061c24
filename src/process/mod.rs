//! Processes of the same program, which run a function and give back what it returns.
//!
//! A fresh child is the program started once more, with nothing of its parent's memory. Its `main` begins with [`init`],
//! which finds that it is a child, and takes over: it receives which function to run, and its arguments, over a channel that
//! it inherited as standard input, answers over the same channel, and exits. A forked child is a copy of its parent, which
//! runs a closure and answers in the same way.
//!
//! The parent waits for the channel and the pidfd at once: an answer, or the child's end, whichever comes first.
//!
//! | file | one idea |
//! |---|---|
//! | `entry` | how a process is started again, and how it knows that it was |
//! | `capture` | closures that name what they capture |
//! | `builder` | options, and how a fresh process is started |
//! | `fork` | how a copy is started |
//! | `frame` | what goes over the channel |
//! | `child` | the child's side, from `init` or the fork to its exit |
//! | `origin` | what a child knows of itself and its parent |
//! | `panics` | what a child's panic said, and where it was |
//! | `target` | one child as others see it: name, pid, signals |
//! | `running` | the parent's side of one child |
//! | `handle` | [`Process`], its result, and its end |
//! | `children` | all children of this process, and the end of daemons |
//! | `pool` | many workers for many tasks |
//! | `kept` | arguments that children may not have decoded yet |
//! | `orphans` | children that nobody waits for |
//! | `spawner` | a thread that lasts, for children that are to die with their parent |

mod builder;
mod capture;
mod child;
mod children;
mod entry;
mod fork;
mod frame;
mod handle;
mod kept;
mod origin;
mod orphans;
mod panics;
mod pool;
mod running;
mod spawner;
mod target;

pub use builder::ProcessBuilder;
pub use children::ActiveChild;
pub use entry::{enter_test, init};
pub use handle::Process;
pub use kept::let_go_of_arrived;
pub use origin::Parent;
pub use pool::{AsyncResult, Call, Pool, PoolBuilder, Progress, Results};
#[cfg(feature = "linkme")]
pub use pool::{NAMED_TASKS, Named, NamedTask, serve_pool};
