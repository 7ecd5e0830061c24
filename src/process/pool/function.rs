//! Functions of one and of two arguments, and the runner that knows their types.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::office::Office;
use super::wire::Names;
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::os::Function;

/// A function that a pool can run.
pub trait Task: Function {
    /// What it is given: its only argument, or a tuple of them.
    type Args: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Calls it.
    fn call(self, args: Self::Args) -> Self::Output;
}

impl<A, R> Task for fn(A) -> R
where
    A: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    type Args = A;
    type Output = R;

    fn call(self, args: A) -> R {
        self(args)
    }
}

impl<A, B, R> Task for fn(A, B) -> R
where
    A: Serialize + DeserializeOwned + Send + 'static,
    B: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    type Args = (A, B);
    type Output = R;

    fn call(self, (a, b): (A, B)) -> R {
        self(a, b)
    }
}

/// A runner: runs the worker's chunk.
pub type Runner = fn(Worker) -> Worker;

/// Names `function` and its runner.
///
/// # Errors
/// `Process` if it is not in the executable; `InvalidInput` if the pool's workers are of another program.
pub fn names<F: Task>(office: &Office, function: F) -> Result<Names> {
    if office.is_foreign() {
        let context = "a function for workers of another program: those run named tasks";
        return Err(Error::new(ErrorKind::InvalidInput, context));
    }
    let runner = office.secret.seal(Worker::run_chunk::<F> as Runner);
    let names = runner.and_then(|runner| Ok(Names { runner, function: office.secret.seal(function)? }));
    names.map_err(|error| Error::new(ErrorKind::Process, error.to_string()))
}
