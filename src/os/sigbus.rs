//! The SIGBUS guard: a page that vanished under a mapping becomes a flag on that mapping, not the death of the process.
//!
//! Where a file cannot be sealed, anybody who may write it can truncate it while we read. The kernel then raises SIGBUS at
//! our next access. One process-wide handler, installed with the first mapping, looks the address up in a fixed table;
//! if it is ours, a private page of zeroes is mapped over the fault, the mapping is marked poisoned, and the access goes
//! on. Every other SIGBUS goes to the handler that was there before.
//!
//! # Thread safety
//!
//! The handler is async-signal-safe: it takes no lock, allocates nothing, and reads only the atomics below. Claiming
//! and freeing a slot is lock-free too, so that a fork at any moment leaves the child a usable table (at worst, one slot
//! that another thread was just claiming stays lost in the child).
//!
//! # Invariants
//!
//! 1. `state` is `generation * 4 + phase`; the generation grows with every claim, so no two lives of a slot are confused.
//! 2. `base` and `len` change only in phase CHANGING. A reader uses them only between two equal loads of a LIVE `state`.
//! 3. Whoever touches a mapping holds it alive, so the slot of a faulting access is LIVE throughout the handler: a slot
//!    that changes during the look-up is another's.
//! 4. `poisoned` holds the `state` of the life that it speaks of, so nobody ever has to reset it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering, fence};

/// Live mappings per process.
const SLOTS: usize = 256;

const PHASE: u64 = 3;
const FREE: u64 = 0;
const CHANGING: u64 = 1;
const LIVE: u64 = 2;

#[derive(Debug)]
struct Slot {
    /// `generation * 4 + phase`.
    state: AtomicU64,
    base: AtomicUsize,
    len: AtomicUsize,
    /// The `state` of the life in which a fault was answered; 0 (a free slot's) before the first.
    poisoned: AtomicU64,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        state: AtomicU64::new(FREE),
        base: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        poisoned: AtomicU64::new(0),
    }
}; SLOTS];

static INSTALLED: AtomicBool = AtomicBool::new(false);
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);
/// `sa_sigaction` and `sa_flags` of the handler before ours.
static PREVIOUS: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_FLAGS: AtomicI32 = AtomicI32::new(0);

/// An address range under the guard, until dropped.
#[derive(Debug)]
pub struct Registration {
    slot: &'static Slot,
    life: u64,
}

impl Registration {
    /// Puts `base .. base + len` under the guard, and installs the handler if this is the first.
    ///
    /// # Errors
    ///
    /// `EMFILE` if all 256 slots are taken; what sigaction(2) answers.
    pub fn new(base: usize, len: usize) -> io::Result<Registration> {
        install()?;
        for slot in &TABLE {
            let free = slot.state.load(Ordering::Relaxed);
            if free & PHASE != FREE {
                continue;
            }
            let generation = (free & !PHASE).wrapping_add(PHASE + 1);
            // Acquire: our stores to `base` and `len` stay after the claim.
            if slot.state.compare_exchange(free, generation | CHANGING, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            // Whoever reads the new `base` or `len` sees, after its own fence, that the slot is CHANGING.
            fence(Ordering::Release);
            slot.base.store(base, Ordering::Relaxed);
            slot.len.store(len, Ordering::Relaxed);
            // Release: who sees LIVE sees this range.
            slot.state.store(generation | LIVE, Ordering::Release);
            return Ok(Registration { slot, life: generation | LIVE });
        }
        Err(io::Error::from_raw_os_error(libc::EMFILE))
    }

    /// Whether a fault in this range was answered with a private page.
    #[inline]
    #[must_use]
    pub fn poisoned(&self) -> bool {
        // Relaxed: the faulting thread set it itself, in its own handler; others learn of it when they do.
        self.slot.poisoned.load(Ordering::Relaxed) == self.life
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Release: our last accesses to the mapping precede the end of the registration.
        self.slot.state.store(self.life & !PHASE | FREE, Ordering::Release);
    }
}

/// The live slot whose range contains `address`, and its state. Async-signal-safe.
fn find(address: usize) -> Option<(&'static Slot, u64)> {
    TABLE.iter().find_map(|slot| {
        let state = slot.state.load(Ordering::Acquire);
        if state & PHASE != LIVE {
            return None;
        }
        let (base, len) = (slot.base.load(Ordering::Relaxed), slot.len.load(Ordering::Relaxed));
        // The two loads above precede the second look at `state`.
        fence(Ordering::Acquire);
        (slot.state.load(Ordering::Relaxed) == state && address.wrapping_sub(base) < len).then_some((slot, state))
    })
}

/// Installs the handler. Any number of threads may do it at once: a second installation finds ours and keeps the first
/// one's predecessor.
fn install() -> io::Result<()> {
    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    // SAFETY: sysconf has no memory precondition.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE_SIZE.store(usize::try_from(page).unwrap_or(4096), Ordering::Relaxed);
    // SAFETY: sigaction is a plain C structure, for which all zeroes is a valid value.
    let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only writes `previous`, which is live and writable.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut previous) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let ours = handler as *const () as usize;
    if previous.sa_sigaction != ours {
        // Before ours can run, it must know whom to call.
        remember(&previous);
        let mut action = previous;
        action.sa_sigaction = ours;
        // On the alternate stack, where the thread has one; with the mask that the previous handler wanted.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: `action` is a valid structure whose handler has the three-argument signature that SA_SIGINFO asks for,
        // is async-signal-safe, and lives as long as the program; `previous` is live and writable.
        if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, &raw mut previous) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Another handler may have come in between the two calls.
        if previous.sa_sigaction != ours {
            remember(&previous);
        }
    }
    INSTALLED.store(true, Ordering::Release);
    Ok(())
}

fn remember(previous: &libc::sigaction) {
    PREVIOUS_FLAGS.store(previous.sa_flags, Ordering::Relaxed);
    PREVIOUS.store(previous.sa_sigaction, Ordering::Release);
}

extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the C library's errno location is valid in every thread, in a signal handler too.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; nobody else writes this thread's errno.
    let saved = unsafe { *errno };
    // SAFETY: under SA_SIGINFO the kernel passes a valid siginfo.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Only these codes say that this thread touched this address just now. In a signal sent by kill(2), for one, the
    // address field holds something else.
    let touched = matches!(code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR);
    if !(touched && answer(address)) {
        chain(signal, info, context, touched || code == libc::BUS_ADRALN);
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// Maps a page of zeroes over a fault in one of our ranges; false if it is not ours or the kernel refuses.
fn answer(address: usize) -> bool {
    let Some((slot, state)) = find(address) else { return false };
    // Poisoned first: no thread may believe a byte of the page that we are about to map.
    slot.poisoned.store(state, Ordering::SeqCst);
    let size = PAGE_SIZE.load(Ordering::Relaxed);
    let page = (address & !(size - 1)) as *mut libc::c_void;
    let flags = libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;
    // SAFETY: the page lies in a range that its owner registered, and holds mapped while any access to it is under way;
    // it is reached through raw pointers and atomics only, for which a sudden change to zeroes is like a store by
    // another process.
    let mapped = unsafe { libc::mmap(page, size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// Does what would have happened without us. `refaults`: returning repeats the access.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, refaults: bool) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    let flags = PREVIOUS_FLAGS.load(Ordering::Relaxed);
    if previous == libc::SIG_IGN && !refaults {
        return;
    }
    if previous == libc::SIG_DFL || previous == libc::SIG_IGN {
        // The default action, taken by the kernel: at the repeated access, which shows the true place of the fault in
        // the core dump, or else by a signal of our own, delivered when this handler returns. (The kernel does not
        // let a true fault be ignored either.)
        // SAFETY: SIG_DFL is a valid action, and signal and raise are async-signal-safe.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            if !refaults {
                libc::raise(signal);
            }
        }
        return;
    }
    if flags & libc::SA_RESETHAND != 0 {
        PREVIOUS.store(libc::SIG_DFL, Ordering::Relaxed);
    }
    if flags & libc::SA_SIGINFO != 0 {
        // SAFETY: the program installed this address under SA_SIGINFO, so it is a function of this signature.
        let call: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            unsafe { std::mem::transmute(previous) };
        call(signal, info, context);
    } else {
        // SAFETY: the program installed this address without SA_SIGINFO, so it is a function of one argument.
        let call: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(previous) };
        call(signal);
    }
}

#[cfg(test)]
#[path = "sigbus_tests.rs"]
mod tests;
