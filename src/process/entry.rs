//! How a process is started again, and how it knows that it was.
//!
//! A child is marked by the end of its `argv[0]`. No environment variable: nothing is left that its own children could
//! inherit, and nothing has to be removed while other threads may read the environment.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use super::child;
use crate::error::{Error, ErrorKind, Result};
use crate::os::Program;

/// What the `argv[0]` of a child ends with.
const MARK: &[u8] = b" [commons child]";

/// The program itself, whatever has become of its file.
const PROGRAM: &str = "/proc/self/exe";

/// How to start this program so that it gets to [`init`].
pub struct Entry {
    arg0: OsString,
    args: Vec<OsString>,
}

/// Set by [`init`]: a process that would not become a child when it is started again must not start any.
static ENTRY: OnceLock<Entry> = OnceLock::new();

impl Entry {
    /// That of this program.
    ///
    /// # Errors
    /// `Process` if `init` was not called.
    pub fn get() -> Result<&'static Entry> {
        require(ENTRY.get())
    }

    /// What starts a child, of another executable than this program's own if one is given.
    pub fn program(&self, executable: Option<&Path>, stdin: OwnedFd) -> Program {
        let mut program = Program::new(executable.unwrap_or(Path::new(PROGRAM)), &self.arg0, stdin);
        program.args(&self.args);
        program
    }
}

fn require(entry: Option<&Entry>) -> Result<&Entry> {
    entry.ok_or_else(|| {
        let context =
            "commons::init() was not called: make it the first line of `main` (commons::init_test!() of a test)";
        Error::new(ErrorKind::Process, context)
    })
}

/// Makes this process able to start others, and a child do what it was started for: must be the first line of `main` in
/// every program that uses [`Process`](crate::Process).
///
/// In a child process it does not return: it runs the child's function and exits. In every other it returns at once, and
/// further calls do nothing.
///
/// What comes before it in `main` runs in every child too. A child has the program's arguments, environment and working
/// directory, its standard output and error, and `/dev/null` as its standard input.
///
/// A test has no `main` of its own; see [`init_test!`](crate::init_test).
///
/// # Panics
/// Never; a child that cannot do its work tells its parent, or standard error if that is gone, and exits.
///
/// # Examples
/// ```
/// fn main() -> commons::Result<()> {
///     commons::init();
///     let process = commons::Process::spawn(12, |number: u64| number * number)?;
///     assert_eq!(process.join()?, 144);
///     Ok(())
/// }
/// ```
pub fn init() {
    enter(|_| std::env::args_os().skip(1).collect());
}

/// [`init`](crate::init) for a test that starts processes: make it the test's first line.
///
/// A child of a test is the test binary, told to run nothing but this test, which gets to this line and is taken over.
/// Works under `cargo test` and nextest. A child's standard output begins with what the test harness has to say; what
/// the child prints is not captured.
///
/// # Examples
/// ```
/// # fn main() {} // never run as a test here
/// #[test]
/// fn squares() {
///     commons::init_test!();
///     let process = commons::Process::spawn(12, |number: u64| number * number).unwrap();
///     assert_eq!(process.join().unwrap(), 144);
/// }
/// ```
#[macro_export]
#[allow(clippy::test_attr_in_doctest, reason = "it shows what goes into a test")]
macro_rules! init_test {
    () => {{
        fn here() {}
        $crate::enter_test(::std::any::type_name_of_val(&here));
    }};
}

/// What [`init_test!`](crate::init_test) stands for; `here` is the path of a function inside the test function.
#[doc(hidden)]
pub fn enter_test(here: &'static str) {
    enter(|is_child| match is_child {
        true => std::env::args_os().skip(1).collect(),
        false => test_args(here),
    });
}

/// `crate::module::test::here`: the harness knows the test as `module::test`.
fn test_args(here: &str) -> Vec<OsString> {
    let mut path: Vec<&str> = here.split("::").skip(1).filter(|part| *part != "{{closure}}").collect();
    path.pop();
    let path = path.join("::");
    [path.as_str(), "--exact", "--include-ignored", "--quiet", "--nocapture", "--test-threads=1"]
        .map(OsString::from)
        .into()
}

/// Takes a child over once its own children are provided for; a test's children can use the path of any test of the
/// binary, because that only leads them here.
fn enter(args: impl FnOnce(bool) -> Vec<OsString>) {
    if ENTRY.get().is_some() {
        return;
    }
    let arg0 = std::env::args_os().next().unwrap_or_default();
    let parents = arg0.as_bytes().strip_suffix(MARK);
    let plain = parents.unwrap_or(arg0.as_bytes());
    let entry = Entry { arg0: OsStr::from_bytes(&[plain, MARK].concat()).into(), args: args(parents.is_some()) };
    let _ = ENTRY.set(entry);
    if parents.is_some() {
        child::run(plain);
    }
}

#[cfg(test)]
mod tests {
    //! Proves what a process without `init` hears, and that tests are found by their path.
    use super::*;

    #[test]
    fn without_init_nothing_is_started() {
        let error = require(None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Process);
        assert!(error.to_string().contains("first line of `main`"), "{error}");
    }

    #[test]
    fn a_test_is_found_by_its_path() {
        fn here() {}
        let args = test_args(std::any::type_name_of_val(&here));
        assert_eq!(args[0], "process::entry::tests::a_test_is_found_by_its_path");
        assert_eq!(test_args("tests::it::{{closure}}::here")[0], "it");
    }
}
