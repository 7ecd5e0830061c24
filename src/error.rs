//! The one error of this library: a kind to match on, and what it happened to.
//!
//! Outcomes that a caller expects (a missing key, a full queue, a timeout, a dead holder) are values of
//! the operation's result type; [`Error`] is for what went wrong.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. New kinds may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument that no state of the system would make acceptable: a capacity of zero, a name with `/`.
    InvalidInput,
    /// Something of that name exists and the caller wanted to create it.
    AlreadyExists,
    /// Nothing of that name exists, or no such element.
    NotFound,
    /// An index, or the end of a range, lies beyond the end.
    OutOfRange,
    /// The object or segment exists but was made for another type, codec or kind.
    TypeMismatch,
    /// The file is no segment of this library, or of another version of its format.
    ForeignFormat,
    /// The operating system refused access.
    PermissionDenied,
    /// The segment has reached its capacity, or the file system or memory behind it is full. Nothing is lost.
    OutOfMemory,
    /// More processes, threads or objects than the segment has room for.
    TooMany,
    /// A value or key does not fit: its encoding is larger than the segment can ever hold.
    TooLarge,
    /// A value could not be encoded.
    Encode,
    /// Stored bytes could not be decoded as the requested type.
    Decode,
    /// The queue has been closed.
    Closed,
    /// The lock is not held by the caller, or not held at all.
    NotHeld,
    /// The calling thread holds this lock already.
    WouldDeadlock,
    /// The object that the handle names is gone.
    Stale,
    /// The segment holds bytes that no sequence of operations and kills can produce.
    Corrupted,
    /// This process was judged dead by others, or lost the segment, and may not touch it any more.
    Evicted,
    /// An internal lock has been held for longer than the patience by a process that is alive.
    Stalled,
    /// A structure's bound was hit under contention; the operation had no effect and may be repeated.
    Contended,
    /// An operation was started from a signal handler that interrupted another one of the same thread.
    Reentrant,
    /// Death of processes cannot be observed on this file system or between these namespaces.
    LivenessUnsupported,
    /// A child process could not be started, or ended without an answer.
    Process,
    /// A child's function panicked.
    Panicked,
    /// Another failure of the operating system.
    Io,
    /// A child was to run a function of another program, or of another build of this one.
    OtherProgram,
    /// An error of the program's own, or of another library.
    Other,
    /// Nothing more will come: the other end of the pipe is gone or closed.
    EndOfFile,
    /// Nobody can receive it: the other end of the pipe is gone or closed.
    BrokenPipe,
    /// The item or loan is not this process's any more: it was taken for dead, and somebody else has the item now.
    LeaseLost,
    /// There is no item that was got and is not done yet.
    NothingTaken,
}

type Cause = Box<dyn StdError + Send + Sync>;

/// An error: its [kind](Error::kind), its context, and what caused it where that is known.
///
/// It is a serde value, so that a child's function can return it: kind, context, the texts of the whole chain of
/// [sources](StdError::source) and the backtrace arrive, and an operating system's error arrives as the
/// [`io::Error`] that it was.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    context: Cow<'static, str>,
    source: Option<Cause>,
    backtrace: Option<String>,
}

impl Error {
    /// An error of `kind` that happened to `context`.
    #[cold]
    pub fn new(kind: ErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner { kind, context: context.into(), source: None, backtrace: None }))
    }

    /// Wraps an error of the operating system; the kind follows from its code.
    #[cold]
    pub fn from_io(source: io::Error, context: impl Into<Cow<'static, str>>) -> Self {
        let kind = match source.raw_os_error() {
            Some(libc::ENOSPC | libc::ENOMEM | libc::EDQUOT | libc::EFBIG) => ErrorKind::OutOfMemory,
            Some(libc::EMFILE | libc::ENFILE) => ErrorKind::TooMany,
            Some(libc::ELOOP | libc::EISDIR | libc::ENOTDIR | libc::ENXIO) => ErrorKind::ForeignFormat,
            Some(libc::ENAMETOOLONG) => ErrorKind::InvalidInput,
            _ => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Io,
            },
        };
        Error(Box::new(Inner { kind, context: context.into(), source: Some(source.into()), backtrace: None }))
    }

    /// Wraps any error, as one of kind [`Other`](ErrorKind::Other): so a function that is run by a child can return what
    /// its own calls failed with.
    ///
    /// # Examples
    /// ```
    /// use commons::Error;
    ///
    /// fn port(text: String) -> commons::Result<u16> {
    ///     text.parse().map_err(|error| Error::other(error, "the port"))
    /// }
    /// assert_eq!(port("x".into()).unwrap_err().to_string(), "the port: failed (invalid digit found in string)");
    /// ```
    #[cold]
    pub fn other(source: impl Into<Box<dyn StdError + Send + Sync>>, context: impl Into<Cow<'static, str>>) -> Self {
        let kind = ErrorKind::Other;
        Error(Box::new(Inner { kind, context: context.into(), source: Some(source.into()), backtrace: None }))
    }

    /// A panic in a child.
    #[cold]
    pub(crate) fn panicked(message: String, backtrace: Option<String>) -> Self {
        Error(Box::new(Inner { kind: ErrorKind::Panicked, context: message.into(), source: None, backtrace }))
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What it happened to.
    pub fn context(&self) -> &str {
        &self.0.context
    }

    /// Where a child's function panicked: the child's stack, for an error of kind [`Panicked`](ErrorKind::Panicked) whose
    /// child was not told otherwise by `RUST_BACKTRACE=0`. It is part of the [`Debug`](fmt::Debug) form, not of the text.
    pub fn backtrace(&self) -> Option<&str> {
        self.0.backtrace.as_deref()
    }

    /// The same error with another context in front: `outer: inner`.
    #[cold]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.0.context = Cow::Owned(format!("{outer}: {}", self.0.context));
        self
    }

    #[cold]
    pub(crate) fn corrupted(what: &'static str) -> Self {
        Error::new(ErrorKind::Corrupted, what)
    }
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            ErrorKind::InvalidInput => "invalid input",
            ErrorKind::AlreadyExists => "already exists",
            ErrorKind::NotFound => "not found",
            ErrorKind::OutOfRange => "out of range",
            ErrorKind::TypeMismatch => "made for another type",
            ErrorKind::ForeignFormat => "not a segment of this library's format",
            ErrorKind::PermissionDenied => "permission denied",
            ErrorKind::OutOfMemory => "out of shared memory",
            ErrorKind::TooMany => "too many",
            ErrorKind::TooLarge => "too large",
            ErrorKind::Encode => "cannot be encoded",
            ErrorKind::Decode => "cannot be decoded",
            ErrorKind::Closed => "closed",
            ErrorKind::NotHeld => "lock not held",
            ErrorKind::WouldDeadlock => "lock already held by this thread",
            ErrorKind::Stale => "the object is gone",
            ErrorKind::Corrupted => "corrupted segment",
            ErrorKind::Evicted => "this process was evicted from the segment",
            ErrorKind::Stalled => "a live process holds an internal lock",
            ErrorKind::Contended => "too much contention",
            ErrorKind::Reentrant => "operation inside an operation",
            ErrorKind::LivenessUnsupported => "process death cannot be observed here",
            ErrorKind::Process => "child process failed",
            ErrorKind::Panicked => "child panicked",
            ErrorKind::Io => "operating system error",
            ErrorKind::OtherProgram => "not a function of this program",
            ErrorKind::Other => "failed",
            ErrorKind::EndOfFile => "the other end is gone, and nothing more will come",
            ErrorKind::BrokenPipe => "the other end is gone",
            ErrorKind::LeaseLost => "lease lost",
            ErrorKind::NothingTaken => "nothing was taken that is not done",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.context, self.0.kind)?;
        match &self.0.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()?;
        match &self.0.backtrace {
            Some(backtrace) => write!(f, "\n{backtrace}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|e| &**e as _)
    }
}

/// An [`Error`] on its way.
#[derive(Serialize, Deserialize)]
struct Told {
    kind: ErrorKind,
    context: String,
    /// Text of each error of the chain, outermost first, and its number where it is the operating system's.
    chain: Vec<(String, Option<i32>)>,
    backtrace: Option<String>,
}

/// Longest chain that is passed on: one could be endless.
const LONGEST_CHAIN: usize = 64;

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let link = |error: &(dyn StdError + 'static)| {
            (error.to_string(), error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error))
        };
        let chain = std::iter::successors(self.source(), |error| (*error).source());
        Told {
            kind: self.kind(),
            context: self.context().to_owned(),
            chain: chain.take(LONGEST_CHAIN).map(link).collect(),
            backtrace: self.0.backtrace.clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Error, D::Error> {
        let Told { kind, context, chain, backtrace } = Told::deserialize(deserializer)?;
        let source = chain.into_iter().rev().fold(None, |source: Option<Cause>, (text, number)| {
            Some(match number {
                Some(number) => io::Error::from_raw_os_error(number).into(),
                None => Box::new(Link { text, source }),
            })
        });
        Ok(Error(Box::new(Inner { kind, context: context.into(), source, backtrace })))
    }
}

/// An error of which only the text arrived.
#[derive(Debug)]
struct Link {
    text: String,
    source: Option<Cause>,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Link {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|e| &**e as _)
    }
}

#[cfg(test)]
mod tests {
    //! Proves that the kind survives wrapping, that the text names kind, context and cause, and that all of it travels.
    use super::*;

    /// Kind, text, backtrace, every error of the chain, and the operating system's number come back.
    #[test]
    fn errors_travel() {
        let inner = Error::from_io(io::Error::from_raw_os_error(libc::EACCES), "the file");
        let mut error = Error::other(Link { text: "outer".into(), source: Some(Box::new(inner)) }, "job");
        error.0.backtrace = Some("somewhere".into());
        let bytes = postcard::to_stdvec(&error).unwrap();
        let told: Error = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((told.kind(), told.to_string()), (ErrorKind::Other, error.to_string()));
        assert_eq!(told.backtrace(), Some("somewhere"));
        let texts = |error: &Error| -> Vec<String> {
            std::iter::successors(error.source(), |e| (*e).source()).map(ToString::to_string).collect()
        };
        assert_eq!(texts(&told), texts(&error));
        let last = std::iter::successors(told.source(), |e| (*e).source()).last().unwrap();
        assert_eq!(last.downcast_ref::<io::Error>().unwrap().raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn text_and_kind() {
        let e = Error::from_io(io::Error::from_raw_os_error(libc::ENOSPC), "segment `a`").within("dict `b`");
        assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        assert!(e.to_string().starts_with("dict `b`: segment `a`: out of shared memory (No space left"), "{e}");
        let e = Error::new(ErrorKind::Stale, "dict #3");
        assert_eq!(e.to_string(), "dict #3: the object is gone");
    }
}
