//! Where outcomes go: the trait, and how a record becomes a value.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use super::wire::{self, Outcome, Shown};
use crate::codec::{Auto, Decode};
use crate::error::{Error, ErrorKind, Result};

/// Values that tasks under way need to stay alive.
pub type Kept = Arc<Mutex<Box<dyn Any + Send>>>;

/// Takes the outcomes of the tasks of one call, each once, in any order, from the thread that handles results.
pub trait Sink: Send + Sync {
    /// Takes `count` records, those of the tasks from `first` on.
    fn take(&self, first: u64, count: u32, records: &[u8]);

    /// Takes the same error for `count` tasks.
    fn fail(&self, first: u64, count: u32, error: &Shown);

    /// Whether nobody wants them any more.
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Tasks that have an outcome.
    pub done: u64,
    /// All of them, if that is known.
    pub total: Option<u64>,
}

/// What is told of progress.
pub type Hook = Box<dyn FnMut(Progress) + Send>;

/// Calls `f` with the value or the error of each record; of what is missing, that it is.
pub fn decode_each<R: DeserializeOwned + 'static>(count: u32, mut records: &[u8], mut f: impl FnMut(u64, Result<R>)) {
    for index in 0..u64::from(count) {
        let outcome = match wire::split_record(records) {
            Some((outcome, rest)) => {
                records = rest;
                decode(outcome)
            }
            None => Err(Error::corrupted("the results of a pool's tasks")),
        };
        f(index, outcome);
    }
}

fn decode<R: DeserializeOwned + 'static>(outcome: Outcome<'_>) -> Result<R> {
    match outcome {
        Outcome::Failed(error) => Err(error),
        // Whatever the type's own decoding does, the thread that handles results goes on.
        Outcome::Value(bytes) => match catch_unwind(AssertUnwindSafe(|| <Auto as Decode<R>>::decode(bytes))) {
            Ok(decoded) => decoded.map_err(|error| error.within("result")),
            Err(payload) => {
                std::mem::forget(payload); // its drop might panic
                Err(Error::new(ErrorKind::Panicked, "decoding a result"))
            }
        },
    }
}
