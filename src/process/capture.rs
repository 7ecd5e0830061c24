//! Closures that name what they capture, for fresh processes.

/// Starts a process that runs a closure with the captures that are named before it.
///
/// A fresh process has nothing of its parent's memory, so a closure's captures must travel, by serde. Here they are
/// listed in parentheses before the closure, which takes no parameters:
///
/// | capture | in the closure |
/// |---|---|
/// | `name` | the variable, moved |
/// | `mut name` | the same, to be changed there |
/// | `expression => name` | the value of the expression, under that name (`mut name`, or any pattern) |
///
/// So `dict.clone() => dict` leaves the caller its own. Before it all there may be a [builder](crate::ProcessBuilder) and a comma.
/// The value of the macro is that of [`ProcessBuilder::spawn`](crate::ProcessBuilder::spawn), with the same errors. A variable that
/// is used but not listed is an error of the compiler: `closures can only be coerced to fn types if they do not capture
/// any variables`.
///
/// # Examples
/// ```
/// use commons::{Manager, Process, spawn};
///
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let squares = Manager::new()?.dict::<u64, u64>()?;
///     let (n, mut names) = (22u64, vec!["x".to_owned()]);
///
///     let process = spawn!((n, squares.clone() => squares, mut names) || -> commons::Result<usize> {
///         squares.insert(&n, &(n * n))?;
///         names.push("y".into());
///         Ok(names.len())
///     })?;
///     assert_eq!(process.join()??, 2);
///     assert_eq!(squares.get(&22)?, Some(484));
///
///     let process = spawn!(Process::builder().name("sum"), (vec![1u64, 2] => numbers) || numbers.iter().sum::<u64>())?;
///     assert_eq!(process.join()?, 3);
///     assert_eq!(spawn!(|| 7u8)?.join()?, 7);
///     Ok(())
/// }
/// ```
///
/// What is not listed cannot be used:
///
/// ```compile_fail
/// # commons::init();
/// let n = 22u64;
/// let process = commons::spawn!(() || n * n);
/// ```
#[macro_export]
macro_rules! spawn {
    (|| $($function:tt)+) => {
        $crate::spawn!(@capture [$crate::Process::builder()] [()] [()] () || $($function)+)
    };
    (($($captures:tt)*) || $($function:tt)+) => {
        $crate::spawn!(@capture [$crate::Process::builder()] [()] [()] ($($captures)*) || $($function)+)
    };
    // One capture after the other goes around the values and the patterns before it.
    (@capture [$builder:expr] [$values:expr] [$patterns:pat] ($name:ident $(, $($rest:tt)*)?) || $($function:tt)+) => {
        $crate::spawn!(@capture [$builder] [($values, $name)] [($patterns, $name)] ($($($rest)*)?) || $($function)+)
    };
    (@capture [$builder:expr] [$values:expr] [$patterns:pat] (mut $name:ident $(, $($rest:tt)*)?) || $($function:tt)+) => {
        $crate::spawn!(@capture [$builder] [($values, $name)] [($patterns, mut $name)] ($($($rest)*)?) || $($function)+)
    };
    (@capture [$builder:expr] [$values:expr] [$patterns:pat] ($value:expr => $name:pat $(, $($rest:tt)*)?) || $($function:tt)+) => {
        $crate::spawn!(@capture [$builder] [($values, $value)] [($patterns, $name)] ($($($rest)*)?) || $($function)+)
    };
    (@capture [$builder:expr] [$values:expr] [$patterns:pat] () || -> $result:ty $body:block) => {
        $builder.spawn($values, |$patterns| -> $result { $body })
    };
    (@capture [$builder:expr] [$values:expr] [$patterns:pat] () || $body:expr) => {
        $builder.spawn($values, |$patterns| $body)
    };
    ($builder:expr, || $($function:tt)+) => {
        $crate::spawn!(@capture [$builder] [()] [()] () || $($function)+)
    };
    ($builder:expr, ($($captures:tt)*) || $($function:tt)+) => {
        $crate::spawn!(@capture [$builder] [()] [()] ($($captures)*) || $($function)+)
    };
}
