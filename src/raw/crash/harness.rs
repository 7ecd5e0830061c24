//! The driver: one operation, killed at each of its stores, and its recovery killed at each of its own.
//!
//! Every run has a segment of its own. The *survivor* sets up a small state; the *victim*, a second membership of this
//! process, dies at store `k` of the operation, in a thread of its own; then one of
//!
//! - a *recoverer*, a third membership, recovers the victim and dies behind its last store, or at store `j`; the
//!   survivor recovers both, finds the operation done or not done, and goes on;
//! - the survivor simply goes on, and meets the dead where they stand in its way.
//!
//! After each the segment must pass its check: nothing half done, nothing leaked.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use parking_lot::Mutex;

use super::table;
use crate::Manager;
use crate::mem::Options;
use crate::mem::armed::{self, Death, Died};
use crate::raw::recovery;
use crate::raw::session::Session;

/// A store in the source.
type Line = (&'static str, u32);

/// One operation and its state before it.
pub struct Case<'a, S, H> {
    /// What it is called in reports.
    pub name: &'a str,
    /// Makes the state, as the survivor. What is returned holds the survivor's handles.
    pub setup: &'a (dyn Fn(&Manager) -> S + Sync),
    /// What the victim does before it can be killed: opening handles.
    pub open: &'a (dyn Fn(&Manager, &S) -> H + Sync),
    /// The operation.
    pub act: &'a (dyn Fn(&Manager, &mut H) + Sync),
    /// Compares the content with the model: as before or, if the operation was acknowledged, as after it.
    pub verify: &'a (dyn Fn(&Manager, &S, bool) + Sync),
    /// Uses everything that the victim may have got stuck in, whatever its content is.
    pub go_on: &'a (dyn Fn(&Manager, &S) + Sync),
}

/// All runs so far.
pub struct Suite {
    seed: u64,
    full: bool,
    only: Option<String>,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    rows: Vec<Row>,
    operations: usize,
    steps: usize,
    recovery_steps: usize,
    runs: usize,
    failures: Vec<String>,
}

/// Who recovers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Recoverer {
    /// The survivor, when the dead stand in its way.
    Passing,
    /// A third, which dies at this store; 0: behind its last.
    Third(u64),
}

/// What a run has seen.
struct Seen {
    operation: Vec<Line>,
    recovery: Vec<Line>,
}

/// A case in the table of outcomes.
struct Row {
    name: String,
    stores: usize,
    /// What was found after a kill at each of the steps tried.
    outcomes: BTreeMap<u64, bool>,
}

impl Row {
    /// `name | stores | steps killed at and found not done | found done`.
    fn markdown(&self) -> String {
        let of = |wanted: bool| {
            let mut steps = self.outcomes.iter().filter(|(_, done)| **done == wanted).map(|(step, _)| *step);
            let Some(first) = steps.next() else { return "none".to_owned() };
            // Steps that were not tried lie between two of one outcome.
            let mut ranges = vec![(first, first)];
            for step in steps {
                let between = (ranges[ranges.len() - 1].1 + 1..step).any(|s| self.outcomes.contains_key(&s));
                match ranges.last_mut() {
                    Some(last) if !between => last.1 = step,
                    _ => ranges.push((step, step)),
                }
            }
            let text = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from} to {to}") };
            ranges.iter().map(text).collect::<Vec<_>>().join(", ")
        };
        format!("| {} | {} | {} | {} |", self.name, self.stores, of(false), of(true))
    }
}

/// Runs with a killed recovery, of one case at most, unless COMMONS_CRASH_FULL is set.
const RECOVERY_RUNS: usize = 1500;
/// Steps in a row at one source line (the clearing of a block) of which not all are tried.
const UNIFORM: usize = 24;

impl Suite {
    /// A suite after the environment: COMMONS_SEED, COMMONS_CRASH_FULL, COMMONS_CRASH_ONLY (part of a name).
    pub fn from_environment() -> Suite {
        let seed =
            std::env::var("COMMONS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(crate::os::random_u64);
        println!("seed {seed} (COMMONS_SEED replays the sample)");
        Suite {
            seed,
            full: std::env::var_os("COMMONS_CRASH_FULL").is_some(),
            only: std::env::var("COMMONS_CRASH_ONLY").ok(),
            tally: Mutex::default(),
        }
    }

    /// Whether only some cases run.
    pub fn is_partial(&self) -> bool {
        self.only.is_some()
    }

    /// Prints what was done, and fails if anything failed.
    pub fn finish(&self) {
        let tally = self.tally.lock();
        println!(
            "{} operations x {} steps (+ {} recovery steps): {} runs",
            tally.operations, tally.steps, tally.recovery_steps, tally.runs
        );
        if !self.is_partial() {
            table::compare(&tally.rows.iter().map(|row| (row.name.clone(), row.markdown())).collect());
        }
        let failed = tally.failures.len();
        let mut shown = HashMap::<&str, u32>::new();
        for failure in &tally.failures {
            let case = failure.split(':').take(2).map(str::len).sum::<usize>() + 1;
            let count = shown.entry(&failure[..case]).or_default();
            *count += 1;
            if *count <= 3 {
                println!("FAILED {failure}");
            }
        }
        assert!(failed == 0, "{failed} runs failed");
    }
}

impl<S: Sync, H> Case<'_, S, H> {
    /// Runs the case.
    pub fn run(&self, suite: &Suite) {
        if suite.only.as_ref().is_some_and(|only| !self.name.contains(only.as_str())) {
            return;
        }
        let started = std::time::Instant::now();
        let whole = match self.attempt(u64::MAX, Recoverer::Third(0)) {
            Ok(seen) => seen,
            Err(failure) => {
                suite.tally.lock().failures.push(format!("{}: not killed at all: {failure}", self.name));
                return;
            }
        };
        let mut random = Random(suite.seed ^ self.name.bytes().fold(7u64, |h, b| h.wrapping_mul(31) + u64::from(b)));
        let steps = chosen(&whole.operation, suite.full, &mut random);
        let jobs: Vec<_> = steps.iter().flat_map(|k| [(*k, Recoverer::Third(0)), (*k, Recoverer::Passing)]).collect();
        let recoveries = Mutex::new(HashMap::new());
        self.all(suite, &jobs, &|k, recoverer, seen| {
            if recoverer != Recoverer::Passing {
                recoveries.lock().insert(k, seen.recovery);
            }
        });
        let jobs = killed_recoveries(&steps, &whole.operation, &recoveries.into_inner(), suite.full, &mut random);
        self.all(suite, &jobs, &|_, _, _| {});
        let outcomes = self.outcomes(&steps);
        let mut tally = suite.tally.lock();
        let (name, stores) = (self.name.to_owned(), whole.operation.len());
        tally.rows.push(Row { name, stores, outcomes });
        tally.operations += 1;
        tally.steps += steps.len();
        tally.recovery_steps += jobs.len();
        tally.runs += 1 + 2 * steps.len() + jobs.len();
        println!(
            "{:<55} {:>5} of {:>5} steps, {:>5} of recovery, {:>5} ms",
            self.name,
            steps.len(),
            whole.operation.len() + 1,
            jobs.len(),
            started.elapsed().as_millis()
        );
    }

    /// What each step leaves behind after recovery: done is what passes for done.
    fn outcomes(&self, steps: &[u64]) -> BTreeMap<u64, bool> {
        let outcomes = Mutex::new(BTreeMap::new());
        self.share(steps.len(), &|i| {
            let done = quietly(|| {
                let session = new_session();
                let (survivor, state, _, _) = self.killed(&session, steps[i]);
                assert!(recovery::recover_all(session.segment()).unwrap() > 0);
                (self.verify)(&survivor, &state, true);
            });
            outcomes.lock().insert(steps[i], done);
        });
        outcomes.into_inner()
    }

    /// Does the jobs, some at a time.
    fn all(&self, suite: &Suite, jobs: &[(u64, Recoverer)], done: &(dyn Fn(u64, Recoverer, Seen) + Sync)) {
        self.share(jobs.len(), &|i| {
            let (k, recoverer) = jobs[i];
            match self.attempt(k, recoverer) {
                Ok(seen) => done(k, recoverer, seen),
                Err(failure) => suite.tally.lock().failures.push(format!("{}: {failure}", self.name)),
            }
        });
    }

    /// Does `job` for each number below `count`, by as many threads as there are processors.
    fn share(&self, count: usize, job: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            for i in std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|i| *i < count) {
                job(i);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get()) {
                scope.spawn(work);
            }
        });
    }

    /// One run in a fresh segment.
    fn attempt(&self, k: u64, recoverer: Recoverer) -> Result<Seen, String> {
        let mut died_at = None;
        let result = catch_unwind(AssertUnwindSafe(|| self.one(k, recoverer, &mut died_at)));
        result.map_err(|payload| {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            format!("step {k} at {died_at:?}, recoverer {recoverer:?}: {}", text.unwrap_or_default())
        })
    }

    /// Sets the state up and kills the victim at store `k`. Whether the operation ended, and its stores.
    fn killed(&self, session: &Arc<Session>, k: u64) -> (Manager, S, bool, Vec<Line>) {
        let survivor = Manager::from_session(Arc::clone(session));
        let state = (self.setup)(&survivor);
        let victim = Manager::from_session(session.twin().unwrap());
        let (finished, operation) = die_at(k, || (self.open)(&victim, &state), |hands| (self.act)(&victim, hands));
        victim.session().segment().surrender();
        (survivor, state, finished, operation)
    }

    fn one(&self, k: u64, recoverer: Recoverer, died_at: &mut Option<(Line, Option<Line>)>) -> Seen {
        let session = new_session();
        let (survivor, state, finished, operation) = self.killed(&session, k);
        let end = operation.last().copied().unwrap_or(("nothing", 0));
        *died_at = Some((end, None));

        let mut recovery = Vec::new();
        if let Recoverer::Third(j) = recoverer {
            let third = session.twin().unwrap();
            let at = if j == 0 { u64::MAX } else { j };
            let (_, trace) = die_at(
                at,
                || (),
                |()| {
                    recovery::recover_all(third.segment()).unwrap();
                },
            );
            third.segment().surrender();
            recovery = trace;
            *died_at = Some((end, recovery.last().copied()));
            armed::arm(Death::Never, 0); // what a second recovery finds half done counts as covered, too
            assert!(recovery::recover_all(session.segment()).unwrap() > 0);
            armed::disarm();
            (self.verify)(&survivor, &state, finished);
            survivor.check().unwrap();
        }
        (self.go_on)(&survivor, &state);
        survivor.check().unwrap();
        drop(state);
        survivor.check().unwrap();
        Seen { operation, recovery }
    }
}

fn new_session() -> Arc<Session> {
    Session::anonymous(&Options { capacity: 64 << 20, ..Options::default() }).unwrap()
}

/// Runs `open` and then `act` in a thread that dies at store `k` of `act`, or behind its last. Whether `act` ended, and
/// the stores that it came to.
pub fn die_at<H>(k: u64, open: impl FnOnce() -> H + Send, act: impl FnOnce(&mut H) + Send) -> (bool, Vec<Line>) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut hands = open();
            armed::arm(Death::Unwind, k);
            let result = catch_unwind(AssertUnwindSafe(|| act(&mut hands)));
            armed::die(); // to the last destructor
            match result {
                Ok(()) => (true, armed::trace()),
                Err(payload) if payload.is::<Died>() => (false, armed::trace()),
                Err(payload) => resume_unwind(payload),
            }
        });
        thread.join().unwrap_or_else(|payload| resume_unwind(payload))
    })
}

/// Whether `f` ends without a panic, which it keeps to itself.
fn quietly(f: impl FnOnce()) -> bool {
    static HOOK: Once = Once::new();
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(f)).is_ok();
    QUIET.set(false);
    done
}

/// The steps to die at: all, and behind the last; of long rows at one line the first, the last and some others.
fn chosen(trace: &[Line], full: bool, random: &mut Random) -> Vec<u64> {
    let mut steps = Vec::new();
    let mut at = 0;
    while at < trace.len() {
        let row = trace[at..].iter().take_while(|line| **line == trace[at]).count();
        if full || row <= UNIFORM {
            steps.extend(at..at + row);
        } else {
            steps.extend([at, at + 1, at + row - 2, at + row - 1]);
            steps.extend((0..3).map(|_| at + 2 + random.below(row - 4)));
        }
        at += row;
    }
    steps.push(trace.len());
    steps.sort_unstable();
    steps.dedup();
    steps.into_iter().map(|step| step as u64 + 1).collect()
}

/// Which recoveries to kill: all steps of all, or, where that is too much, of those at lines not met before, and of as
/// many others as chance picks.
fn killed_recoveries(
    steps: &[u64],
    trace: &[Line],
    recoveries: &HashMap<u64, Vec<Line>>,
    full: bool,
    random: &mut Random,
) -> Vec<(u64, Recoverer)> {
    let mut met = std::collections::HashSet::new();
    let (mut first, mut rest): (Vec<u64>, Vec<u64>) =
        steps.iter().partition(|k| met.insert(trace.get(**k as usize - 1).copied()));
    while !rest.is_empty() {
        first.push(rest.swap_remove(random.below(rest.len())));
    }
    let mut jobs = Vec::new();
    for k in first {
        if !full && jobs.len() > RECOVERY_RUNS {
            break;
        }
        let Some(recovery) = recoveries.get(&k) else { continue };
        let inner = chosen(recovery, full, random);
        // Behind the last step is what the first pass has done.
        jobs.extend(inner[..inner.len() - 1].iter().map(|j| (k, Recoverer::Third(*j))));
    }
    jobs
}

/// A small generator of numbers that a seed replays.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}
