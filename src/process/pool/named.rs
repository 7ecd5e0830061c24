//! Tasks with names: the registry that the linker makes, and calls by name.
//!
//! Over shared memory goes a hash of the name and one of the types. Who has written there can have a worker run another of
//! its registered tasks, and nothing else.

use std::any::type_name;

use linkme::distributed_slice;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::Call;
use super::function::Runner;
use super::gather::AsyncResult;
use super::handle::Pool;
use super::stream::Results;
use super::wire::Names;
use super::worker::Worker;
use crate::codec::fingerprint;
use crate::error::{Error, ErrorKind, Result};
use crate::os::Sealed;

/// A function that has a name in every program that links it; see [`named_task!`](crate::named_task), which makes it.
pub trait Named: 'static {
    /// Its argument.
    type Args: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// Its name.
    const NAME: &'static str;

    /// Calls it.
    fn call(args: Self::Args) -> Self::Output;
}

/// An entry of [`NAMED_TASKS`].
#[derive(Debug)]
pub struct NamedTask {
    name: &'static str,
    types: fn() -> u64,
    runner: Runner,
}

impl NamedTask {
    /// The entry of `T`.
    pub const fn new<T: Named>() -> NamedTask {
        NamedTask { name: T::NAME, types: types::<T::Args, T::Output>, runner: Worker::run_named::<T> }
    }

    /// The task's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// The named tasks of this program, put together by the linker.
#[distributed_slice]
pub static NAMED_TASKS: [NamedTask];

/// Defines a function that can be called by name in the workers of another program, or another build of this one, which
/// links the same definition: a library that both use is the place for it.
///
/// A library that a program does not otherwise use may not be linked at all; then its tasks are not there.
///
/// # Examples
/// ```
/// commons::named_task! {
///     "examples.square",
///     /// Its square.
///     pub fn square(n: u64) -> u64 {
///         n * n
///     }
/// }
///
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let pool = commons::Pool::new(2)?;
///     let squares: Vec<u64> = pool.call().map_named("examples.square", 0..4u64)?;
///     assert_eq!(squares, [0, 1, 4, 9]);
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! named_task {
    ($name:literal, $(#[$attribute:meta])* $visibility:vis fn $function:ident($arg:ident: $args:ty) -> $output:ty $body:block) => {
        $(#[$attribute])*
        $visibility fn $function($arg: $args) -> $output $body

        const _: () = {
            struct Task;

            impl $crate::Named for Task {
                type Args = $args;
                type Output = $output;
                const NAME: &'static str = $name;

                fn call(args: $args) -> $output {
                    $function(args)
                }
            }

            #[$crate::linkme::distributed_slice($crate::NAMED_TASKS)]
            #[linkme(crate = $crate::linkme)]
            static TASK: $crate::NamedTask = $crate::NamedTask::new::<Task>();
        };
    };
}

/// In the place of a runner's offset: the function has a name. No executable has code there.
const BY_NAME: u32 = u32::MAX;

/// What the types of a task have in common in all programs.
fn types<A, R>() -> u64 {
    fingerprint(&["task", type_name::<A>(), type_name::<R>()])
}

fn names<A, R>(name: &str) -> Names {
    Names {
        runner: Sealed { offset: BY_NAME, tag: types::<A, R>() },
        function: Sealed { offset: 0, tag: fingerprint(&["name", name]) },
    }
}

/// A task asked for by name.
pub struct Asked {
    name: u64,
    types: u64,
}

impl Asked {
    /// What `names` ask for, if they do so by name.
    pub fn by(names: &Names) -> Option<Asked> {
        (names.runner.offset == BY_NAME).then_some(Asked { name: names.function.tag, types: names.runner.tag })
    }

    fn candidates(&self) -> impl Iterator<Item = &'static NamedTask> {
        NAMED_TASKS.iter().filter(|task| fingerprint(&["name", task.name]) == self.name)
    }

    /// Its runner, if it is there.
    pub fn find(&self) -> Option<Runner> {
        self.candidates().find(|task| (task.types)() == self.types).map(|task| task.runner)
    }

    /// Why it is not.
    #[cold]
    pub fn refusal(&self) -> Error {
        match self.candidates().next() {
            Some(task) => {
                let context = format!("task `{}` of the workers' program has other types", task.name);
                Error::new(ErrorKind::TypeMismatch, context)
            }
            None => Error::new(ErrorKind::NotFound, "no task of that name in the workers' program"),
        }
    }
}

impl Worker {
    fn run_named<T: Named>(self) -> Worker {
        self.run_with(T::call)
    }
}

impl Call<'_> {
    /// As [`Pool::map`](crate::Pool::map), of the task called `name`.
    ///
    /// # Errors
    /// As `map`; `NotFound` and `TypeMismatch` of the workers' program.
    pub fn map_named<A, R>(self, name: &str, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.map_named_async(name, items)?.get().map_err(|error| error.within(format_args!("task `{name}`")))
    }

    /// As [`Pool::map_async`](crate::Pool::map_async), of the task called `name`.
    ///
    /// # Errors
    /// As `map_async`.
    pub fn map_named_async<A, R>(self, name: &str, items: impl IntoIterator<Item = A>) -> Result<AsyncResult<Vec<R>>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.gather(names::<A, R>(name), items.into_iter().collect(), Ok)
    }

    /// As [`Pool::imap`](crate::Pool::imap), of the task called `name`.
    ///
    /// # Errors
    /// As `imap`.
    pub fn imap_named<A, R, I>(self, name: &str, items: I) -> Result<Results<R, I::IntoIter>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.stream(true, names::<A, R>(name), items.into_iter())
    }
}

impl Pool {
    /// As [`apply`](Pool::apply), of the task called `name`.
    ///
    /// # Errors
    /// As `apply`; `NotFound` and `TypeMismatch` of the workers' program.
    pub fn apply_named<A, R>(&self, name: &str, args: A) -> Result<R>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let result = self.call().apply(names::<A, R>(name), args)?;
        result.get().map_err(|error| error.within(format_args!("task `{name}`")))
    }
}
