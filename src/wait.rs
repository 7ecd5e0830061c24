//! Waiting for several things at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64 as LocalU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mem::{Segment, Word};
use crate::os::{self, EventFd};
use crate::pipe::{NAP, past_the_dead};
use crate::raw::ring::{Rest, Sleeper};
use crate::raw::wait::{Deadline, Next, Waiter};

/// Something that [`wait`] can wait for.
///
/// A [`Connection`](crate::Connection) is ready when there is a message, or the end of file; a [`Queue`](crate::Queue) when
/// there is an item, or it is closed and empty; an [`Event`](crate::Event) while it is set; whatever has a file descriptor
/// when that is readable: a socket, a [`Readiness`](crate::Readiness), a [`Process`](crate::Process) once it has ended.
///
/// The trait cannot be implemented for further types but by `AsFd`.
pub trait Waitable {
    #[doc(hidden)]
    fn source(&self) -> Source<'_>;
}

/// What a [`Waitable`] comes down to.
#[doc(hidden)]
pub struct Source<'a>(pub(crate) Inner<'a>);

pub(crate) enum Inner<'a> {
    /// Readable when it is ready.
    Fd(BorrowedFd<'a>),
    /// Something in shared memory.
    Shared(&'a dyn Watched),
}

impl<F: AsFd + ?Sized> Waitable for F {
    fn source(&self) -> Source<'_> {
        Source(Inner::Fd(self.as_fd()))
    }
}

/// Something in shared memory that can be waited for.
pub(crate) trait Watched: Send + Sync {
    /// Whether it is ready now.
    fn is_ready(&self) -> Result<bool>;

    /// Begins a wait for it. `cursor` is what the last wait ended with, or 0.
    fn watch(&self, cursor: u32) -> Result<Box<dyn Watch<'_> + '_>>;
}

/// A wait for something in shared memory, as long as it lasts.
pub(crate) trait Watch<'a> {
    /// Sees to it that whoever makes it ready wakes the sleepers of a word, and says which. `None`: it may be ready, or is
    /// on the move; look again in a moment.
    fn arm(&mut self) -> Result<Option<Rest<'a>>>;

    /// Looks for the dead; due between sleeps, while it is not ready.
    fn look_after(&mut self) -> Result<()>;

    /// How far it has looked.
    fn cursor(&self) -> u32;
}

/// A wait for an item of a ring.
pub(crate) struct RingWatch<'a, F> {
    segment: &'a Segment,
    sleeper: Sleeper<'a>,
    also: F,
}

impl<'a, F: Fn() -> Result<()>> RingWatch<'a, F> {
    /// Over a sleeper; `also` is called each time the dead are looked for.
    pub fn new(segment: &'a Segment, sleeper: Sleeper<'a>, also: F) -> RingWatch<'a, F> {
        RingWatch { segment, sleeper, also }
    }
}

impl<'a, F: Fn() -> Result<()>> Watch<'a> for RingWatch<'a, F> {
    fn arm(&mut self) -> Result<Option<Rest<'a>>> {
        past_the_dead(self.segment, || self.sleeper.arm())
    }

    fn look_after(&mut self) -> Result<()> {
        past_the_dead(self.segment, || self.sleeper.look_after())?;
        (self.also)()
    }

    fn cursor(&self) -> u32 {
        self.sleeper.cursor()
    }
}

/// Sleeps on everything that `watches` wait for, and on `control` while its low half is `turn`, for one slice at most. Then
/// [`look_after`](Watch::look_after) those that are not ready: others are in the way of who has been woken.
///
/// On a kernel without `futex_waitv` (before 5.16), and for more words than that takes, a slice is a millisecond.
pub(crate) fn sleep<'a>(
    watches: &mut [Box<dyn Watch<'a> + 'a>],
    control: (&LocalU64, u32),
    mut slice: Duration,
) -> Result<()> {
    let mut words: Vec<(&Word, u32)> = Vec::with_capacity(watches.len());
    for watch in &mut *watches {
        match watch.arm()? {
            Some(rest) => {
                slice = slice.min(rest.most);
                words.push((rest.word, rest.low));
            }
            None => slice = slice.min(NAP),
        }
    }
    if !Word::wait_any(&words, control, slice) {
        let _ = os::futex_wait(control.0, control.1, slice.min(NAP));
    }
    Ok(())
}

/// What is waited for, by kind, with its place in the caller's list.
struct Things<'a> {
    shared: Vec<(usize, &'a dyn Watched)>,
    fds: Vec<(usize, BorrowedFd<'a>)>,
}

/// How long it may pay to look before going to sleep, in nanoseconds.
const SPIN: u64 = 20_000;

/// Waits until one of `things` is ready, for at most `timeout` if there is one. Returns the places in `things` of those that
/// are, in order; none if the time is up, or if there are no things.
///
/// Nothing is taken: another thread or process may be quicker to receive what made a thing ready, so use the forms that do
/// not wait (`try_recv`, `try_get`) if there are such.
///
/// # Crash
/// As waiting for each by itself: the death of the other end of a connection makes that ready within 50 ms.
///
/// # Blocking
/// Until one is ready. Things in shared memory spin for some microseconds; then one system call sleeps on all of them, and is
/// woken like any other waiter. With file descriptors among them a helper thread does that for the time of the call, which
/// costs some tens of microseconds per call that sleeps, and about ten more to wake up. Linux before 5.16 cannot sleep on
/// several words at once: there things in shared memory are looked at each millisecond.
///
/// # Complexity
/// Linear in the things; no system call if one in shared memory is ready and there are no file descriptors.
///
/// # Errors
/// Those of the things; `Io` for descriptors that cannot be polled.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let manager = commons::Manager::new()?;
/// let (ours, theirs) = manager.pipe::<u64>()?;
/// let jobs = manager.queue::<String>(10)?;
/// assert_eq!(commons::wait(&[&ours, &jobs], Some(Duration::from_millis(1)))?, []);
/// theirs.send(&5)?;
/// assert_eq!(commons::wait(&[&ours, &jobs], None)?, [0]);
/// # Ok::<(), commons::Error>(())
/// ```
pub fn wait(things: &[&dyn Waitable], timeout: Option<Duration>) -> Result<Vec<usize>> {
    let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
    let mut sorted = Things { shared: Vec::new(), fds: Vec::new() };
    for (place, thing) in things.iter().enumerate() {
        match thing.source().0 {
            Inner::Fd(fd) => sorted.fds.push((place, fd)),
            Inner::Shared(shared) => sorted.shared.push((place, shared)),
        }
    }
    let ready = sorted.look()?;
    if !ready.is_empty() || things.is_empty() || deadline.left().is_none() {
        return Ok(ready);
    }
    match (sorted.shared.is_empty(), sorted.fds.is_empty()) {
        (true, _) => sorted.wait_for_fds(deadline),
        (false, true) => sorted.wait_for_shared(deadline),
        (false, false) => sorted.wait_for_both(deadline),
    }
}

impl<'a> Things<'a> {
    /// Those that are ready now.
    fn look(&self) -> Result<Vec<usize>> {
        let mut ready = self.look_at_fds(Duration::ZERO)?;
        for (place, shared) in &self.shared {
            if shared.is_ready()? {
                ready.push(*place);
            }
        }
        ready.sort_unstable();
        Ok(ready)
    }

    fn look_at_fds(&self, timeout: Duration) -> Result<Vec<usize>> {
        if self.fds.is_empty() {
            return Ok(Vec::new());
        }
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(|(_, fd)| *fd).collect();
        let readable = os::poll_readable(&fds, timeout).map_err(poll_failed)?;
        Ok(self.fds.iter().zip(readable).filter(|(_, readable)| *readable).map(|((place, _), _)| *place).collect())
    }

    fn is_any_shared_ready(&self) -> Result<bool> {
        for (_, shared) in &self.shared {
            if shared.is_ready()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks for a moment; whether something in shared memory is ready.
    fn spin(&self, deadline: Deadline) -> Result<bool> {
        let end = os::now_nanos() + SPIN;
        while os::now_nanos() < end && deadline.left().is_some() {
            for _ in 0..16 {
                if self.is_any_shared_ready()? {
                    return Ok(true);
                }
                os::pause();
            }
        }
        Ok(false)
    }

    fn wait_for_fds(&self, deadline: Deadline) -> Result<Vec<usize>> {
        loop {
            // A signal's interruption looks like time that is up: the clock tells.
            let Some(left) = deadline.left() else { return Ok(Vec::new()) };
            let ready = self.look_at_fds(left)?;
            if !ready.is_empty() {
                return Ok(ready);
            }
        }
    }

    fn wait_for_shared(&self, deadline: Deadline) -> Result<Vec<usize>> {
        self.spin(deadline)?;
        self.sleep_until_ready(deadline, (&LocalU64::new(0), 0))?;
        self.look()
    }

    /// Sleeps until something in shared memory is ready, the deadline has passed, or `control` is not `turn` any more.
    fn sleep_until_ready(&self, deadline: Deadline, control: (&LocalU64, u32)) -> Result<()> {
        let mut watches: Vec<Box<dyn Watch<'_> + '_>> = Vec::with_capacity(self.shared.len());
        for (_, shared) in &self.shared {
            watches.push(shared.watch(0)?);
        }
        let mut slices = Waiter::until(deadline);
        let mut slept = false;
        loop {
            if self.is_any_shared_ready()? || control.0.load(Ordering::Acquire) as u32 != control.1 {
                return Ok(());
            }
            if std::mem::replace(&mut slept, false) {
                watches.iter_mut().try_for_each(|watch| watch.look_after())?;
                continue; // they may have found somebody gone
            }
            match slices.next() {
                Next::Look => {}
                Next::TimedOut => return Ok(()),
                Next::Sleep(slice) => {
                    sleep(&mut watches, control, slice)?;
                    slept = true;
                }
            }
        }
    }

    fn wait_for_both(&self, deadline: Deadline) -> Result<Vec<usize>> {
        self.spin(deadline)?;
        let ready = self.look()?;
        if !ready.is_empty() {
            return Ok(ready);
        }
        let event = EventFd::new().map_err(|e| Error::from_io(e, "an eventfd"))?;
        loop {
            let control = LocalU64::new(0);
            let helped = std::thread::scope(|scope| -> Result<()> {
                let help = || {
                    let slept = self.sleep_until_ready(deadline, (&control, 0));
                    event.set();
                    slept
                };
                let helper = std::thread::Builder::new().name("commons-wait".to_owned()).spawn_scoped(scope, help);
                let mut fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(|(_, fd)| *fd).collect();
                fds.push(event.as_fd());
                // Without a helper, as if there were no way to sleep on words.
                let left = if helper.is_ok() { deadline.left().unwrap_or_default() } else { NAP };
                let polled = os::poll_readable(&fds, left).map_err(poll_failed);
                control.store(1, Ordering::Release); // local
                os::futex_wake(&control, u32::MAX);
                let slept = helper.map_or(Ok(Ok(())), |helper| helper.join());
                polled.and(slept.unwrap_or_else(|payload| std::panic::resume_unwind(payload)))
            });
            helped?;
            let ready = self.look()?;
            if !ready.is_empty() || deadline.left().is_none() {
                return Ok(ready);
            }
            event.clear(); // somebody was quicker
        }
    }
}

#[cold]
fn poll_failed(error: std::io::Error) -> Error {
    Error::from_io(error, "waiting for file descriptors")
}
