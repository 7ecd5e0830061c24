//! The numbered crash points: every store to shared memory passes here first.
//!
//! In a release build [`step`] is nothing. In a debug build (so in every test) a thread can be *armed*: its
//! `k`-th shared store does not happen, and instead the thread dies there: by SIGKILL, which takes the process
//! along, or by unwinding with every later store of that thread suppressed, which is what a dead thread looks
//! like to the others. The source locations that were passed while armed are recorded, so that a suite can show
//! that it has killed at every store there is.

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn step() -> bool {
    true
}

#[cfg(debug_assertions)]
pub use armed::step;

/// Control over the crash points, for tests.
#[cfg(debug_assertions)]
#[cfg_attr(not(test), allow(dead_code, reason = "what only the unit tests need"))]
pub mod armed {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;
    use std::panic::Location;
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;

    /// How an armed thread dies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Death {
        /// Never: the steps are counted only.
        Never,
        /// By unwinding with [`Died`]; the thread's later stores have no effect.
        Unwind,
        /// By SIGKILL of the whole process.
        Kill,
    }

    /// The payload of an unwinding death.
    pub struct Died;

    #[derive(Clone, Copy)]
    struct State {
        death: Death,
        at: u64,
        count: u64,
        armed: bool,
        dead: bool,
    }

    const OFF: State = State { death: Death::Never, at: 0, count: 0, armed: false, dead: false };

    thread_local! {
        static STATE: Cell<State> = const { Cell::new(OFF) };
        static TRACE: RefCell<Vec<(&'static str, u32)>> = const { RefCell::new(Vec::new()) };
    }

    static REACHED: Mutex<BTreeSet<(&'static str, u32)>> = Mutex::new(BTreeSet::new());

    /// The name of a thread that is to be armed at its first store, how it is to die and at which.
    static PLANNED: Mutex<Option<(&'static str, Death, u64)>> = Mutex::new(None);
    static IS_PLANNED: AtomicBool = AtomicBool::new(false);

    /// Arms the thread of that name as [`arm`] does, at its next store: one that others start, and that runs nothing of
    /// theirs.
    pub fn arm_named(name: &'static str, death: Death, at: u64) {
        *PLANNED.lock() = Some((name, death, at));
        IS_PLANNED.store(true, Ordering::Release);
    }

    #[cold]
    fn arm_as_planned() {
        let mut planned = PLANNED.lock();
        if let Some((name, death, at)) = *planned
            && std::thread::current().name() == Some(name)
        {
            *planned = None;
            IS_PLANNED.store(false, Ordering::Relaxed);
            arm(death, at);
        }
    }

    /// Arms this thread: its store number `at` (from 1) is the one that is not made.
    pub fn arm(death: Death, at: u64) {
        TRACE.take();
        STATE.set(State { death, at, count: 0, armed: true, dead: false });
    }

    /// Disarms this thread and returns how many stores it made since [`arm`].
    pub fn disarm() -> u64 {
        STATE.replace(OFF).count
    }

    /// Makes this thread dead from here on, behind its last store: nothing that it does any more, down to its last
    /// destructor, has an effect on shared memory.
    pub fn die() {
        STATE.set(State { armed: true, dead: true, ..STATE.get() });
    }

    /// Whether this thread has died. A dead thread still runs its destructors, which must not wait for an effect.
    pub fn is_dead() -> bool {
        STATE.try_with(Cell::get).is_ok_and(|state| state.dead)
    }

    /// The source lines of the stores that this thread has passed since [`arm`], in their order.
    pub fn trace() -> Vec<(&'static str, u32)> {
        TRACE.take()
    }

    /// Every source line at which an armed thread has stored so far.
    pub fn reached() -> Vec<(&'static str, u32)> {
        REACHED.lock().iter().copied().collect()
    }

    /// Passes a crash point; `false` if this thread is dead and must not store.
    #[inline]
    #[track_caller]
    pub fn step() -> bool {
        if IS_PLANNED.load(Ordering::Acquire) {
            arm_as_planned();
        }
        match STATE.try_with(Cell::get) {
            Ok(state) if state.armed => armed_step(state, Location::caller()),
            _ => true,
        }
    }

    #[cold]
    fn armed_step(mut state: State, here: &'static Location<'static>) -> bool {
        if state.dead {
            return false;
        }
        REACHED.lock().insert((here.file(), here.line()));
        let _ = TRACE.try_with(|trace| trace.borrow_mut().push((here.file(), here.line())));
        state.count += 1;
        let dies = state.death != Death::Never && state.count == state.at;
        state.dead = dies;
        STATE.set(state);
        if dies {
            match state.death {
                Death::Kill => crate::os::kill_myself(),
                _ => std::panic::resume_unwind(Box::new(Died)),
            }
        }
        true
    }
}
