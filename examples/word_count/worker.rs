//! What parent and workers share, and what a worker does with it.

use std::ffi::OsString;
use std::path::Path;

use commons::{Dict, ErrorKind, Exchange, Manager, Queue};
use serde::{Deserialize, Serialize};

use crate::words::{self, Counts};

/// A file to count: its number, and its path, which need not be UTF-8.
#[derive(Serialize, Deserialize)]
pub struct Task {
    pub file: u64,
    pub path: OsString,
}

/// The counts of a file, or why it could not be read.
pub type Outcome = Result<Counts, String>;

/// The shared objects. Each is a handle: it travels to a worker as an argument, what it names stays where it is.
#[derive(Clone, Serialize, Deserialize)]
pub struct Shared {
    /// Files to count. Closed when every file has its outcome.
    pub tasks: Queue<Task>,
    /// File → outcome. An entry is made once and never changed, so a file that is counted twice still counts once.
    pub outcomes: Dict<u64, Outcome>,
    /// Worker → the file it is working on.
    pub claims: Dict<u64, u64>,
    /// Running totals, by the keys below, for the progress bar only: a kill may come between an outcome and its addition.
    pub totals: Dict<u64, u64>,
}

/// Files done, in [`Shared::totals`].
pub const FILES: u64 = 0;
/// Words counted, in [`Shared::totals`].
pub const WORDS: u64 = 1;

impl Shared {
    pub fn new(manager: &Manager) -> commons::Result<Shared> {
        Ok(Shared {
            tasks: manager.unbounded_queue()?,
            outcomes: manager.dict()?,
            claims: manager.dict()?,
            totals: manager.dict()?,
        })
    }

    /// Counts files until the queue is closed and empty. A kill at any line loses no file and counts none twice.
    fn work(&self, me: u64) -> commons::Result<()> {
        loop {
            let task = match self.tasks.get() {
                Ok(task) => task,
                Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
                Err(error) => return Err(error),
            };
            // Killed here: the task is in no queue and nobody's claim. The parent finds files that nobody has.
            self.claims.insert(&me, &task.file)?;
            // Killed from here on: the parent reads the claim and puts the file back.
            if !self.outcomes.contains(&task.file)? {
                let outcome = words::count_file(Path::new(&task.path)).map_err(|error| error.to_string());
                let words = outcome.iter().flat_map(Counts::values).sum();
                if self.outcomes.compare_exchange(&task.file, None, Some(&outcome))? == Exchange::Done {
                    // Killed from here on: the outcome is there, and stays.
                    self.totals.fetch_add(&FILES, 1)?;
                    self.totals.fetch_add(&WORDS, words)?;
                }
            }
            self.claims.remove(&me)?;
        }
    }
}

/// The worker's process runs this.
pub fn work((me, shared): (u64, Shared)) -> Result<(), String> {
    shared.work(me).map_err(|error| error.to_string())
}
