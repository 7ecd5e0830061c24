//! What a child's panic said, and where it was.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Whether this process is to note panics: a child, forked ones included.
static NOTING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What the last panic of this thread said, and its backtrace.
    static LAST: Cell<Option<(String, Option<String>)>> = const { Cell::new(None) };
}

/// Puts a panic hook over the present one, once, which notes panics of [`note`]d processes and passes all on.
///
/// A process that is going to fork does so before: a forked child must not wait for the hooks' lock.
pub fn prepare() {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    // A panicking thread may not change hooks. Then the child's panics come without place and backtrace.
    if std::thread::panicking() || PREPARED.swap(true, Ordering::Relaxed) {
        return;
    }
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if NOTING.load(Ordering::Relaxed) {
            LAST.set(Some(describe(info)));
        }
        previous(info);
    }));
}

/// Has this process's panics noted from now on.
pub fn note() {
    NOTING.store(true, Ordering::Relaxed);
}

fn describe(info: &PanicHookInfo<'_>) -> (String, Option<String>) {
    let mut text = info.payload_as_str().unwrap_or(NO_MESSAGE).to_owned();
    if let Some(location) = info.location() {
        text += &format!(", at {location}");
    }
    let unwanted = ["RUST_LIB_BACKTRACE", "RUST_BACKTRACE"].iter().find_map(std::env::var_os).is_some_and(|v| v == "0");
    (text, (!unwanted).then(|| Backtrace::force_capture().to_string()))
}

const NO_MESSAGE: &str = "a panic without a message";

/// What to tell of the panic with `payload`: what was noted of it, unless that was another one.
pub fn error(payload: Box<dyn Any + Send>) -> Error {
    let own = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let noted = LAST.take().filter(|(noted, _)| own.is_none_or(|own| noted.starts_with(own)));
    let (text, backtrace) = noted.unwrap_or_else(|| (own.unwrap_or(NO_MESSAGE).to_owned(), None));
    std::mem::forget(payload); // its drop might panic
    Error::panicked(text, backtrace)
}
