//! What a segment is: the door to its words, its layout, its members, its heap.
//!
//! This floor knows nothing of tables, rings or objects. Where it meets a dead process it says so
//! ([`Stop::Dead`]) and leaves recovery to the floor above, which knows what the dead one was doing.

mod bulk;
mod heap;
mod intent;
pub(crate) mod layout;
mod locator;
mod members;
mod open;
mod segment;
mod slots;
mod step;
mod word;

pub use bulk::{SmallCopy, load_bytes, load_words, store_bytes};
pub use heap::HeapStats;
pub use intent::{Field, Intent, Op, OpKind};
pub use locator::{Locator, SegmentId};
pub use members::Liveness;
pub use open::{Mode, Options};
pub use segment::Segment;
pub use slots::{Me, SlotId};
#[cfg(debug_assertions)]
pub use step::armed;
pub use word::{Space, WORD, Word, fence};

use crate::error::Error;

/// Why a step of an operation did not go on.
#[derive(Debug)]
pub enum Stop {
    /// This process is dead and holds what the step needs: recover it and begin again.
    Dead(u32),
    /// The operation failed.
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

/// Result of a step that may meet the dead.
pub type Step<T> = std::result::Result<T, Stop>;
