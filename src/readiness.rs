//! Readiness as a file descriptor, for event loops.
//!
//! # Algorithm
//!
//! One *bridge* thread per process sleeps on the shared words of all that is watched, and makes an eventfd readable when
//! something is ready: once, until it is armed again. It is started by the first [`Readiness`] and ends with the last.
//!
//! # Thread safety and invariants
//!
//! 1. An eventfd is set exactly while its source is not armed, but for the moment between the two stores: whoever disarms,
//!    the bridge, sets it after; whoever arms, the user, clears it before.
//! 2. What is armed is looked at by the bridge after that, so nothing that came before is missed.
//! 3. An error of the source counts as ready: the user's next operation gets it.
//!
//! # Crash
//!
//! Nothing of this is shared. A bridge that dies with its process leaves what a sleeper leaves.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64 as LocalU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result};
use crate::os::{self, EventFd, PerProcess};
use crate::raw::wait::{Deadline, Next, Waiter};
use crate::wait::{Watched, sleep};

/// A file descriptor that becomes readable when a connection or a queue is ready: for `epoll`, and for async runtimes that
/// take descriptors (`tokio::io::unix::AsyncFd`, `async_io::Async`).
///
/// Made by [`Connection::readiness`](crate::Connection::readiness) and [`Queue::readiness`](crate::Queue::readiness). It holds
/// the end or the queue, like a handle, until it is dropped.
///
/// The descriptor is readable when there is something to receive, or was since the last [`rearm`](Readiness::rearm); it stays
/// so until `rearm`. So: wait for it, take what there is by `try_recv` or `try_get` until there is no more, call `rearm`, wait
/// again. What comes in between makes it readable again; nothing is missed, level-triggered or edge-triggered. Do not read
/// from it.
///
/// In a forked child it is the parent's: make another there.
///
/// # Crash
/// As waiting by a handle: the death of the other end of a connection makes it readable within 50 ms.
///
/// # Blocking
/// Nothing here waits. A thread of the library sleeps on the shared memory of all that this process watches, and writes to
/// the descriptor: a few microseconds for its wake-up and as much for the event loop's. Linux before 5.16 cannot sleep on
/// several words at once, and no kernel on more than 128: then the thread looks each millisecond.
///
/// # Complexity
/// Arming is linear in what this process watches, for the thread. What is not armed costs nothing.
///
/// # Examples
/// ```
/// use std::os::fd::AsFd;
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// let (ours, theirs) = commons::Manager::new()?.pipe::<u64>()?;
/// let readiness = ours.readiness()?;
/// theirs.send(&1)?;
/// for _ in 0..1 {
///     poll(&mut [PollFd::new(&readiness, PollFlags::IN)], None).unwrap();
///     while let Some(number) = ours.try_recv()? {
///         assert_eq!(number, 1);
///     }
///     readiness.rearm()?;
/// }
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Readiness {
    watched: Arc<Entry>,
    process: u64,
}

/// One thing that is watched.
struct Entry {
    source: Box<dyn Watched>,
    event: EventFd,
    armed: AtomicBool,
    cursor: AtomicU32,
}

impl Entry {
    /// Signals if the source is ready, or has failed.
    fn look(&self) -> bool {
        let ready = self.source.is_ready().unwrap_or(true);
        if ready {
            self.signal();
        }
        ready
    }

    fn signal(&self) {
        self.armed.store(false, Ordering::Release); // local
        self.event.set();
    }
}

/// What the bridge watches.
#[derive(Default)]
struct Bridge {
    running: bool,
    entries: Vec<Arc<Entry>>,
}

/// A forked child begins with none: what its parent watches, by a thread that the child does not have, is the parent's
/// affair.
static BRIDGE: PerProcess<Mutex<Bridge>> = PerProcess::new(|_| Mutex::default());
/// Rises when there is something new for the bridge.
static NEWS: LocalU64 = LocalU64::new(0);

/// Longest sleep while nothing is armed.
const IDLE: Duration = Duration::from_secs(10);

fn bridge() -> MutexGuard<'static, Bridge> {
    BRIDGE.get().lock()
}

fn tell() {
    NEWS.fetch_add(1, Ordering::AcqRel); // local
    os::futex_wake(&NEWS, u32::MAX);
}

impl Readiness {
    /// Watches `source`.
    pub(crate) fn new(source: Box<dyn Watched>) -> Result<Readiness> {
        let event = EventFd::new().map_err(|e| Error::from_io(e, "an eventfd"))?;
        let entry = Arc::new(Entry { source, event, armed: AtomicBool::new(true), cursor: AtomicU32::new(0) });
        let mut bridge = bridge();
        bridge.entries.push(Arc::clone(&entry));
        let readiness = Readiness { watched: entry, process: os::generation() };
        if !bridge.running {
            let thread = std::thread::Builder::new().name("commons-bridge".to_owned()).spawn(run);
            bridge.running = thread.is_ok();
            if let Err(error) = thread {
                drop(bridge); // which dropping takes
                return Err(Error::from_io(error, "the thread that watches shared memory"));
            }
        }
        drop(bridge);
        tell();
        Ok(readiness)
    }

    /// Makes the descriptor not readable, until there is something to receive: at once, if there is something now.
    ///
    /// # Errors
    /// `InvalidInput` in a forked child.
    pub fn rearm(&self) -> Result<()> {
        if self.process != os::generation() {
            return Err(Error::new(ErrorKind::InvalidInput, "the readiness of a process that forked"));
        }
        if !self.watched.look() {
            self.watched.event.clear();
            self.watched.armed.store(true, Ordering::Release); // local
            tell();
        }
        Ok(())
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.event.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if self.process != os::generation() {
            return;
        }
        bridge().entries.retain(|entry| !Arc::ptr_eq(entry, &self.watched));
        tell();
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("fd", &self.as_raw_fd()).finish_non_exhaustive()
    }
}

/// The bridge's thread.
fn run() {
    let mut slices = Waiter::until(Deadline::NEVER);
    let mut last = None;
    loop {
        // Before the list: what is added after the look changes it, so the sleep ends at once.
        let news = NEWS.load(Ordering::Acquire);
        let mut bridge = bridge();
        if bridge.entries.is_empty() {
            bridge.running = false;
            return;
        }
        let entries = bridge.entries.clone();
        drop(bridge);
        if last.replace(news) != Some(news) {
            slices = Waiter::until(Deadline::NEVER); // short slices first, as for any wait
        }
        if let Next::Sleep(slice) = slices.next() {
            round(&entries, news, slice);
        }
    }
}

/// Sleeps until something that is armed may be ready, and signals what is.
fn round(entries: &[Arc<Entry>], news: u64, slice: Duration) {
    let mut armed: Vec<&Entry> = Vec::new();
    let mut watches = Vec::new();
    for entry in entries.iter().filter(|entry| entry.armed.load(Ordering::Acquire)) {
        match entry.source.watch(entry.cursor.load(Ordering::Relaxed)) {
            Ok(watch) => {
                armed.push(entry);
                watches.push(watch);
            }
            Err(_) => entry.signal(),
        }
    }
    // With nothing armed there is nobody to look after.
    let slice = if armed.is_empty() { IDLE } else { slice };
    // Looked at before the sleep too: it was armed by its user only now. The words are those of after the look.
    let ready = armed.iter().filter(|entry| entry.look()).count();
    if ready == 0 && sleep(&mut watches, (&NEWS, news as u32), slice).is_err() {
        // One of them has failed, and it shows when it is looked at.
        armed.iter().filter(|entry| entry.source.is_ready().is_err()).for_each(|entry| entry.signal());
    }
    for (entry, watch) in armed.iter().zip(&mut watches) {
        if entry.armed.load(Ordering::Acquire) && !entry.look() && watch.look_after().is_err() {
            entry.signal();
        }
        entry.cursor.store(watch.cursor(), Ordering::Relaxed); // local
    }
}

#[cfg(test)]
mod tests {
    //! Proves that a child has a bridge of its own, whatever its parent's was doing when it forked.
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::os::testing::Child;

    #[test]
    fn a_forked_child_starts_anew() {
        let manager = crate::Manager::builder().capacity(1 << 20).anonymous().unwrap();
        let (parents, _other) = manager.pipe::<u64>().unwrap();
        let _watched = parents.readiness().unwrap();
        let held = bridge();
        let child = Child::fork(|| {
            let manager = crate::Manager::builder().capacity(1 << 20).anonymous().unwrap();
            let (ours, theirs) = manager.pipe::<u64>().unwrap();
            let readiness = ours.readiness().unwrap();
            let sender = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                theirs.send(&1).unwrap();
                theirs
            });
            let ready = poll(&mut [PollFd::new(&readiness, PollFlags::IN)], None).unwrap();
            drop(sender.join().unwrap());
            i32::from(ready != 1 || ours.try_recv().unwrap() != Some(1))
        });
        assert_eq!(child.wait().code(), Some(0));
        assert_eq!(held.entries.len(), 1);
    }
}
