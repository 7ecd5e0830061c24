//! Proves that a process which dies, before, during or after its function, or whose parent dies, is an error or an end at
//! once and never a hang; and that thousands of processes leave nothing behind.
//!
//! `COMMONS_SPAWNS=10000 cargo test --test process_deaths` starts that many where it is 1,200 otherwise. Random moments come
//! from a seed that is printed, and that `COMMONS_SEED` replays.

mod common;

use std::time::{Duration, Instant};

use common::{Dice, eventually};
use commons::{Dict, ErrorKind, Manager, Process, Queue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PATIENCE: Duration = common::PATIENCE;
const FOREVER: Duration = Duration::from_secs(600);

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn seed() -> u64 {
    let seed = std::env::var("COMMONS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("seed {seed}");
    seed
}

/// Where a child reports that it has come to a stage, and waits to be told to go on.
#[derive(Clone, Serialize, Deserialize)]
struct Gate {
    pids: Queue<u32>,
    go: Queue<()>,
}

impl Gate {
    fn new() -> Gate {
        let manager = Manager::new().unwrap();
        Gate { pids: manager.queue(16).unwrap(), go: manager.queue(16).unwrap() }
    }

    fn pass(&self) {
        self.pids.put(&std::process::id()).unwrap();
        self.go.get_timeout(FOREVER).unwrap();
    }

    fn arrival(&self) -> u32 {
        self.pids.get_timeout(PATIENCE).unwrap().expect("a child that comes there")
    }
}

/// An argument that passes the gate while it is decoded.
#[derive(Serialize)]
struct Late(Gate);

impl<'de> Deserialize<'de> for Late {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Late, D::Error> {
        let gate = Gate::deserialize(deserializer)?;
        gate.pass();
        Ok(Late(gate))
    }
}

/// A result that passes the gate while it is encoded.
#[derive(Deserialize)]
struct Slow(Gate);

impl Serialize for Slow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.pass();
        self.0.serialize(serializer)
    }
}

fn large(gate: Gate) -> Vec<u8> {
    gate.pids.put(&std::process::id()).unwrap();
    vec![1; 8 << 20]
}

fn handles(gate: Gate) -> Dict<u64, u64> {
    let dict = Manager::new().unwrap().dict().unwrap();
    gate.pids.put(&std::process::id()).unwrap();
    dict
}

/// Forks within the contract: the closures use nothing but this library and the allocator.
fn fork<R: Serialize + DeserializeOwned + 'static>(function: impl FnOnce() -> R) -> Process<R> {
    // SAFETY: see above.
    unsafe { Process::fork(function) }.unwrap()
}

/// Kills the child once it has come to the gate, and proves that this is an error at once.
fn kill_at_gate<R: Serialize + DeserializeOwned + 'static>(stage: &str, gate: &Gate, mut child: Process<R>) {
    assert_eq!(gate.arrival(), child.pid(), "{stage}");
    assert_eq!(child.exit_code(), None, "{stage}");
    child.kill().unwrap();
    let error = child.join_timeout(PATIENCE).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process, "{stage}: {error}");
    assert!(error.to_string().contains("SIGKILL"), "{stage}: {error}");
    assert_eq!(child.exit_code(), Some(-9), "{stage}");
}

/// A child is killed before it starts, while it decodes its arguments, in its function, while it encodes its result; and
/// while it sends it.
#[test]
fn a_child_killed_at_each_stage() {
    commons::init_test!();
    let gate = Gate::new();
    let mut child = Process::spawn(gate.clone(), |gate: Gate| gate.pass()).unwrap();
    child.kill().unwrap();
    assert_eq!(child.join_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::Process);
    assert_eq!(child.exit_code(), Some(-9));

    let child = Process::spawn(Late(gate.clone()), |late: Late| drop(late.0)).unwrap();
    kill_at_gate("decoding", &gate, child);
    kill_at_gate("function", &gate, Process::spawn(gate.clone(), |gate: Gate| gate.pass()).unwrap());
    kill_at_gate("encoding", &gate, Process::spawn(gate.clone(), Slow).unwrap());
    kill_at_gate("function of a fork", &gate, fork(|| gate.pass()));
    kill_at_gate("encoding of a fork", &gate, fork(|| Slow(gate.clone())));

    // While it sends: more than the channel holds, and nobody reads before it is dead.
    for child in [Process::spawn(gate.clone(), large).unwrap(), fork(|| large(gate.clone()))] {
        let mut child = child;
        gate.arrival();
        std::thread::sleep(Duration::from_millis(50));
        child.kill().unwrap();
        let error = child.join_timeout(PATIENCE).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Process, "sending: {error}");
    }
}

/// A parent is killed while its child decodes, runs, encodes, sends its result, or waits for that to be taken. The child
/// goes on to the end of its function and ends, even if another process has copies of all that the parent had open.
#[test]
fn a_parent_killed_at_each_stage() {
    commons::init_test!();
    #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
    enum Stage {
        Decoding,
        Function,
        Encoding,
        Sending,
        Waiting,
    }
    fn parent((stage, gate, spawned): (Stage, Gate, bool)) {
        fn keep<A, R>(args: A, function: fn(A) -> R, spawned: bool)
        where
            A: Serialize + DeserializeOwned + Send + 'static,
            R: Serialize + DeserializeOwned + 'static,
        {
            let child = if spawned { Process::spawn(args, function).unwrap() } else { fork(|| function(args)) };
            std::mem::forget(child);
        }
        match stage {
            Stage::Decoding => keep(Late(gate.clone()), |late| drop(late.0), true),
            Stage::Function => keep(gate.clone(), |gate| gate.pass(), spawned),
            Stage::Encoding => keep(gate.clone(), Slow, spawned),
            Stage::Sending => keep(gate.clone(), large, spawned),
            Stage::Waiting => keep(gate.clone(), handles, spawned),
        }
        // It has a copy of the channel.
        std::mem::forget(fork(|| gate.pass()));
        std::thread::sleep(FOREVER);
    }
    for spawned in [true, false] {
        for stage in [Stage::Decoding, Stage::Function, Stage::Encoding, Stage::Sending, Stage::Waiting] {
            let gate = Gate::new();
            let process = Process::spawn((stage, gate.clone(), spawned), parent).unwrap();
            let pids = [gate.arrival(), gate.arrival()];
            if matches!(stage, Stage::Sending | Stage::Waiting) {
                std::thread::sleep(Duration::from_millis(50));
            }
            process.kill().unwrap();
            assert!(process.join().is_err());
            let mut living = pids.to_vec();
            if matches!(stage, Stage::Sending | Stage::Waiting) {
                eventually("the child has ended", || {
                    living.retain(|pid| runs(*pid));
                    living.len() == 1
                });
            } else {
                assert!(pids.iter().all(|pid| runs(*pid)), "{stage:?}");
                gate.go.put(&()).unwrap();
            }
            gate.go.put(&()).unwrap();
            eventually("both have ended", || pids.iter().all(|pid| !runs(*pid)));
        }
    }
}

/// Children that are killed at random moments of their short lives: each is its result or an error at once, and nothing
/// that they share is harmed.
#[test]
fn children_killed_at_any_moment() {
    commons::init_test!();
    let mut dice = Dice(seed());
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, Vec<u8>>().unwrap();
    let work = |(dict, n): (Dict<u64, Vec<u8>>, u64)| -> (u64, Dict<u64, Vec<u8>>) {
        for round in 0..50 {
            dict.insert(&(n % 7), &vec![n as u8; 100 + round]).unwrap();
        }
        (n, dict)
    };
    let (mut done, mut killed) = (0, 0);
    for n in 0..200 {
        let mut child = match n % 2 {
            0 => Process::spawn((dict.clone(), n), work).unwrap(),
            _ => fork(|| work((dict.clone(), n))),
        };
        let delay = Duration::from_micros(dice.below(if n % 2 == 0 { 8000 } else { 2000 }));
        let start = Instant::now();
        while start.elapsed() < delay {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        match child.join_timeout(PATIENCE) {
            Ok(result) => {
                assert_eq!(result.expect("at once").0, n);
                done += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Process, "{error}");
                killed += 1;
            }
        }
        assert!(matches!(child.exit_code(), Some(0 | -9)));
    }
    println!("{done} done, {killed} killed");
    for entry in dict.iter() {
        let (key, value) = entry.unwrap();
        assert!(value.iter().all(|byte| u64::from(*byte) % 256 == u64::from(value[0])), "a torn value of {key}");
    }
    manager.recover().unwrap();
    manager.check().unwrap();
}

/// Thousands of processes, fresh and forked, that all use one segment: no descriptor, no zombie, and no place in the segment is
/// left of them. A segment has places for 256 processes and 1,024 threads.
#[test]
fn thousands_leave_nothing_behind() {
    commons::init_test!();
    fn measure(count: u64) -> (usize, usize, usize, usize) {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let manager = Manager::new().unwrap();
        let dict = manager.dict::<u64, u64>().unwrap();
        Process::spawn((), |()| ()).unwrap().join().unwrap();
        let before = descriptors();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let dict = &dict;
                scope.spawn(move || {
                    for n in (thread..count).step_by(4) {
                        let work = |(dict, n): (Dict<u64, u64>, u64)| dict.insert(&(n % 100), &n).map(drop);
                        let child = match n % 8 {
                            0..4 => fork(|| work((dict.clone(), n))),
                            _ => Process::spawn((dict.clone(), n), work).unwrap(),
                        };
                        if n % 16 == 3 {
                            child.kill().unwrap();
                            drop(child);
                        } else {
                            child.join().unwrap().unwrap();
                        }
                    }
                });
            }
        });
        eventually("all are reaped", || Process::active_children().is_empty());
        Process::active_children();
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let zombies = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let zombies = zombies.map(|list| list.split_whitespace().count()).sum();
        manager.recover().unwrap();
        manager.check().unwrap();
        let holders = manager.objects().unwrap()[0].holders.len();
        (before, descriptors(), zombies, holders)
    }
    let count = std::env::var("COMMONS_SPAWNS").ok().and_then(|count| count.parse().ok()).unwrap_or(1200);
    let (before, after, zombies, holders) = Process::spawn(count, measure).unwrap().join().unwrap();
    assert_eq!((after, zombies, holders), (before, 0, 1));
}

/// Starts children of all kinds, and checks what becomes of them, in a program where their exit statuses go elsewhere.
fn start_without_statuses() {
    for number in 0..50u64 {
        let spawned = Process::spawn(number, |n: u64| n + 1).unwrap();
        // SAFETY: the child computes and answers.
        let forked = unsafe { Process::fork(|| number + 2) }.unwrap();
        let killed = Process::spawn((), |()| std::thread::sleep(FOREVER)).unwrap();
        killed.kill().unwrap();
        assert_eq!((spawned.join().unwrap(), forked.join().unwrap()), (number + 1, number + 2));
        assert_eq!(killed.join().unwrap_err().kind(), ErrorKind::Process);
        let nothing = Process::builder().executable("/nowhere/at/all").spawn((), |()| ());
        assert_eq!(nothing.unwrap_err().kind(), ErrorKind::NotFound);
        // SAFETY: as above.
        let dies = unsafe { Process::fork(|| -> u64 { libc::_exit(3) }) }.unwrap();
        assert_eq!(dies.join().unwrap_err().kind(), ErrorKind::Process);
    }
    let pool = commons::Pool::new(2).unwrap();
    assert_eq!(pool.map(|n: u64| n * 2, 0..100).unwrap()[99], 198);
}

/// In a program that ignores SIGCHLD, so that a child's pid is free as soon as it has ended.
#[test]
fn sigchld_ignored() {
    commons::init_test!();
    let child = Process::spawn((), |()| {
        // SAFETY: this process has set no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        start_without_statuses();
    });
    child.unwrap().join().unwrap();
}

/// In a program that reaps whatever ends, in a thread of its own.
#[test]
fn somebody_else_reaps() {
    commons::init_test!();
    let child = Process::spawn((), |()| {
        std::thread::spawn(|| {
            loop {
                // SAFETY: waits for any child, and writes nothing.
                if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        start_without_statuses();
    });
    child.unwrap().join().unwrap();
}
