//! The one error of this library: a kind to match on, and what it happened to.
//!
//! Outcomes that a caller expects (a missing key, a full queue, a timeout, a dead holder) are values of
//! the operation's result type; [`Error`] is for what went wrong.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. New kinds may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument that no state of the system would make acceptable: a capacity of zero, a name with `/`.
    InvalidInput,
    /// Something of that name exists and the caller wanted to create it.
    AlreadyExists,
    /// Nothing of that name exists.
    NotFound,
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
    /// The item or loan is not this process's any more: it was taken for dead, and somebody else has the item now.
    LeaseLost,
    /// There is no item that was got and is not done yet.
    NothingTaken,
}

/// An error: its [kind](Error::kind), its context, and the operating system's error where there was one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    context: Cow<'static, str>,
    source: Option<io::Error>,
}

impl Error {
    /// An error of `kind` that happened to `context`.
    #[cold]
    pub fn new(kind: ErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner { kind, context: context.into(), source: None }))
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
        Error(Box::new(Inner { kind, context: context.into(), source: Some(source) }))
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What it happened to.
    pub fn context(&self) -> &str {
        &self.0.context
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
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    //! Proves that the kind survives wrapping and that the text names kind, context and cause.
    use super::*;

    #[test]
    fn text_and_kind() {
        let e = Error::from_io(io::Error::from_raw_os_error(libc::ENOSPC), "segment `a`").within("dict `b`");
        assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        assert!(e.to_string().starts_with("dict `b`: segment `a`: out of shared memory (No space left"), "{e}");
        let e = Error::new(ErrorKind::Stale, "dict #3");
        assert_eq!(e.to_string(), "dict #3: the object is gone");
    }
}
