//! How a process finds a segment that another one names to it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The random identity of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub [u64; 2]);

impl SegmentId {
    /// The name that an anonymous segment's memory file carries.
    pub fn label(self) -> String {
        format!("commons-{:016x}{:016x}", self.0[0], self.0[1])
    }
}

/// Where a segment lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Locator {
    /// A memory file, reached through the descriptors of the processes that have it open. The pair is one such
    /// process and its descriptor, the first place to look.
    Anonymous(u32, u32),
    /// A named POSIX segment.
    Named(String),
    /// A file.
    File(PathBuf),
    /// The segment that this was read from: whoever reads it has it open.
    Here,
}
