//! Fork detection: a number that is different in a forked child, for the price of two loads and a branch.
//!
//! One page is marked `MADV_WIPEONFORK`: the kernel gives a child zeroes in its place, whichever way the child was
//! made, `_Fork` and bare `clone` included, of which no handler hears. A zero is what the fast path tests for. A
//! `pthread_atfork` handler looks at once, so that after an ordinary fork the hooks have run before anything else.
//!
//! # Thread safety
//!
//! Lock-free in the parent. In a child of which several threads look first at once, one runs the hooks, and the others
//! wait for it.
//!
//! # Invariants
//!
//! 1. `generation` is 0 or the process's number, and is stored last: who reads a number finds the hooks run.
//! 2. `runner` goes from 0 to a thread id once in each process, so the hooks run at most once in each.
//! 3. Nothing here allocates or takes a lock in a child, whose parent's other threads may have left any lock taken.

use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::identity::{random_u64, tid};

/// What lies in the wiped page. All zeroes: a process that has not looked yet.
#[repr(C)]
struct Page {
    /// This process's number.
    generation: AtomicU64,
    /// The number to be, while the hooks run.
    coming: AtomicU64,
    /// The thread that runs, or ran, the hooks.
    runner: AtomicU32,
}

impl Page {
    const fn zero() -> Page {
        Page { generation: AtomicU64::new(0), coming: AtomicU64::new(0), runner: AtomicU32::new(0) }
    }
}

/// Stands in for the page before the first look: its generation is always 0, so the fast path needs no null test.
static UNSET: Page = Page::zero();
/// Stands in where the kernel has no such pages: then only the `pthread_atfork` handler wipes it.
static UNWIPED: Page = Page::zero();
/// `UNSET`, and from the first look on the page, for good.
static PAGE: AtomicPtr<Page> = AtomicPtr::new((&raw const UNSET).cast_mut());

const HOOKS: usize = 16;
static CHILD_HOOKS: [OnceLock<fn()>; HOOKS] = [const { OnceLock::new() }; HOOKS];

/// The calling process's number: random, nonzero, and another one in each forked child.
///
/// In a child the first call, if the `pthread_atfork` handler did not make it already, runs the hooks of
/// [`on_fork_child`] before it returns. Within a hook it gives the child's number.
#[inline]
#[must_use]
pub fn generation() -> u64 {
    // SAFETY: `PAGE` holds the address of a static or of a mapping that is never unmapped once stored here. Acquire: the
    // page's first contents are visible.
    let page = unsafe { &*PAGE.load(Ordering::Acquire) };
    // Acquire: what the hooks did is visible.
    match page.generation.load(Ordering::Acquire) {
        0 => first_look(),
        number => number,
    }
}

/// Has `hook` run in every forked child, at most once in each, before the child's first new [`generation`] is visible.
///
/// A hook runs where other threads vanished at any point: it takes no lock, allocates nothing and does not panic. It
/// may call [`generation`].
///
/// # Panics
///
/// If more than 16 hooks are registered: they are few, and known when the program is written.
pub fn on_fork_child(hook: fn()) {
    // The page must be there before the fork that is to be noticed.
    let _ = generation();
    assert!(CHILD_HOOKS.iter().any(|slot| slot.set(hook).is_ok()), "more than {HOOKS} fork hooks");
}

#[cold]
#[inline(never)]
fn first_look() -> u64 {
    let page = PAGE.load(Ordering::Acquire);
    if std::ptr::eq(page, &UNSET) {
        return install();
    }
    // SAFETY: as in `generation`.
    let page = unsafe { &*page };
    match page.generation.load(Ordering::Acquire) {
        0 => enter_child(page),
        // We found no page, and another thread has installed one since: this is no child.
        number => number,
    }
}

/// The very first look of the program: not a child, as far as anybody could have asked.
fn install() -> u64 {
    let own = wiped_page();
    // SAFETY: `own` is a new mapping of at least a zeroed `Page`, or null.
    let page = unsafe { own.as_ref() }.unwrap_or(&UNWIPED);
    let _ = page.generation.compare_exchange(0, random_nonzero(), Ordering::Release, Ordering::Relaxed);
    let address = std::ptr::from_ref(page).cast_mut();
    // Release: who finds the page finds its number.
    if PAGE.compare_exchange((&raw const UNSET).cast_mut(), address, Ordering::AcqRel, Ordering::Acquire).is_err() {
        if !own.is_null() {
            // SAFETY: our own mapping of one page, which nobody else has seen.
            let _ = unsafe { munmap(own.cast(), PAGE_BYTES) };
        }
        return generation();
    }
    // Nothing could be done about a failure (want of memory), and the page works without the handler.
    // SAFETY: the handler is a function that lives as long as the program.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(at_fork)) };
    generation()
}

/// The kernel rounds this up to its own page size.
const PAGE_BYTES: usize = 4096;
const _: () = assert!(size_of::<Page>() <= PAGE_BYTES);

/// A new zeroed page that children do not inherit, or null.
fn wiped_page() -> *mut Page {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice cannot touch memory in use.
    let Ok(page) = (unsafe { mmap_anonymous(null_mut(), PAGE_BYTES, prot, MapFlags::PRIVATE) }) else {
        return null_mut();
    };
    // SAFETY: the page is ours alone; the advice changes what children see of it, and nothing here.
    if unsafe { madvise(page, PAGE_BYTES, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: as above; nobody has seen the page.
        let _ = unsafe { munmap(page, PAGE_BYTES) };
        return null_mut();
    }
    page.cast()
}

/// Gives this child its number, and runs the hooks, unless another of its threads does.
fn enter_child(page: &Page) -> u64 {
    let me = tid();
    match page.runner.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => {
            let number = random_nonzero();
            page.coming.store(number, Ordering::Relaxed);
            CHILD_HOOKS.iter().filter_map(OnceLock::get).for_each(|hook| hook());
            // Release: who reads the number finds the hooks run.
            page.generation.store(number, Ordering::Release);
            number
        }
        // A hook, or a signal handler above it, asks.
        Err(runner) if runner == me => match page.coming.load(Ordering::Relaxed) {
            0 => random_nonzero(),
            number => number,
        },
        // Ends: hooks are short, and a runner that dies takes this process with it.
        Err(_) => loop {
            match page.generation.load(Ordering::Acquire) {
                0 => rustix::thread::sched_yield(),
                number => return number,
            }
        },
    }
}

/// Called by the C library's `fork` in the child, before `fork` returns.
extern "C" fn at_fork() {
    // SAFETY: as in `generation`.
    let page = unsafe { &*PAGE.load(Ordering::Acquire) };
    if std::ptr::eq(page, &UNWIPED) {
        // The C library calls this once in each child of its own, whose only thread we are.
        page.runner.store(0, Ordering::Relaxed);
        page.coming.store(0, Ordering::Relaxed);
        page.generation.store(0, Ordering::Relaxed);
    }
    let _ = generation();
}

fn random_nonzero() -> u64 {
    random_u64().max(1)
}

#[cfg(test)]
#[path = "fork_tests.rs"]
mod tests;
