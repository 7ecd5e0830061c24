//! Processes of the same program, which run a function and give back what it returns.
//!
//! A child is the program started once more, with nothing of its parent's memory. Its `main` begins with [`init`], which
//! finds that it is a child, and takes over: it receives which function to run, and its arguments, over a channel that
//! it inherited as standard input, answers over the same channel, and exits.
//!
//! | file | one idea |
//! |---|---|
//! | `entry` | how a process is started again, and how it knows that it was |
//! | `frame` | what goes over the channel |
//! | `child` | the child's side, from `init` to its exit |
//! | `running` | the parent's side of one child |
//! | `handle` | [`Process`], its result, and its end |
//! | `kept` | arguments that children may not have decoded yet |
//! | `orphans` | children that nobody waits for |
//! | `spawner` | a thread that lasts, for children that are to die with their parent |

mod child;
mod entry;
mod frame;
mod handle;
mod kept;
mod orphans;
mod running;
mod spawner;

pub use entry::{enter_test, init};
pub use handle::{Process, ProcessBuilder};
pub use kept::let_go_of_arrived;
