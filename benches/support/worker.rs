//! Processes beside the bench: the same executable, run again, with the name of a function in its environment.
//!
//! [`Worker::start`] returns once the function has said that it is [ready](Ready); [`Worker::stop`] waits for its end.
//! In between, [`Worker::assign`] tells it how much to do, if it asks for its [`assignments`].
//! A worker never outlives the bench: it is killed when its [`Worker`] is dropped, and by the kernel when the thread
//! that started it ends, however that happens. So start workers from the main thread.

use super::cpu::{self, Cpu};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::env;
use std::io::{Read, Write, stdin, stdout};
use std::iter;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio, exit, id};
use std::thread::sleep;
use std::time::{Duration, Instant};

const NAME: &str = "COMMONS_BENCH_WORKER";
const ARGUMENT: &str = "COMMONS_BENCH_ARGUMENT";
const CPU: &str = "COMMONS_BENCH_CPU";
const PARENT: &str = "COMMONS_BENCH_PARENT";

/// How long a worker may take to get ready, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a worker process runs: its argument, and the word it owes when it is ready. It ends by returning.
pub type Entry = fn(Vec<u8>, Ready);

/// An [`Entry`] and the name it is started by.
pub type Named = (&'static str, Entry);

/// The worker's side of the handshake.
pub struct Ready(());

impl Ready {
    /// Lets [`Worker::start`] return.
    pub fn signal(self) {
        let mut out = stdout();
        out.write_all(b"+").and_then(|()| out.flush()).expect("telling the bench that its worker is ready");
    }
}

/// A running worker process.
pub struct Worker(Child);

impl Worker {
    /// Runs the entry `name` with `argument` in a process of its own on `cpu`, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When the worker ends, or its time is up, before it is ready.
    pub fn start(name: &str, argument: &[u8], cpu: Cpu) -> Self {
        let child = command(name, argument, cpu).stdin(Stdio::piped()).spawn().expect("starting a worker");
        let mut worker = Worker(child);
        let out = worker.0.stdout.as_mut().expect("a piped stdout");
        let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let answers = poll(&mut [PollFd::new(out, PollFlags::IN)], Some(&limit)).expect("waiting for a worker");
        assert_eq!(answers, 1, "worker {name} is not ready in time");
        out.read_exact(&mut [0]).unwrap_or_else(|_| panic!("worker {name} ended before it was ready"));
        worker
    }

    /// Gives the worker its next [assignment](assignments).
    pub fn assign(&mut self, amount: u64) {
        let input = self.0.stdin.as_mut().expect("a piped stdin");
        input.write_all(&amount.to_le_bytes()).expect("telling a worker what to do");
    }

    /// Waits for the end of a worker that has been told, over what it shares with the bench, to end. To one that waits
    /// for [`assignments`], this says that there are no more.
    ///
    /// # Panics
    ///
    /// When the worker failed, or does not end in time.
    pub fn stop(mut self) {
        drop(self.0.stdin.take());
        let limit = Instant::now() + PATIENCE;
        loop {
            match self.0.try_wait().expect("waiting for a worker") {
                Some(status) => return assert!(status.success(), "a worker failed: {status}"),
                None => assert!(Instant::now() < limit, "a worker does not end"),
            }
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for, which is what they are to achieve.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In a worker, what it is to do how often; waits for each, and ends when the bench has no more.
pub fn assignments() -> impl Iterator<Item = u64> {
    iter::from_fn(|| {
        let mut amount = [0; 8];
        stdin().read_exact(&mut amount).is_ok().then(|| u64::from_le_bytes(amount))
    })
}

/// Runs the entry `name` to its end, and returns what it wrote to its standard output.
///
/// # Panics
///
/// When the process fails.
pub fn run(name: &str, argument: &[u8], cpu: Cpu) -> Vec<u8> {
    let output = command(name, argument, cpu).stdin(Stdio::null()).output().expect("running a worker");
    assert!(output.status.success(), "{name} failed: {}", output.status);
    output.stdout
}

fn command(name: &str, argument: &[u8], cpu: Cpu) -> Command {
    let mut command = Command::new(env::current_exe().expect("path of the bench"));
    command
        .env(NAME, name)
        .env(ARGUMENT, to_hex(argument))
        .env(CPU, cpu.0.to_string())
        .env(PARENT, id().to_string())
        .stdout(Stdio::piped());
    command
}

/// In a worker process, runs its entry and exits; otherwise does nothing.
pub fn take_over(entries: &[Named]) {
    let Ok(name) = env::var(NAME) else { return };
    set_parent_process_death_signal(Some(Signal::KILL)).expect("dying with the bench");
    // The bench may have died before that; then nobody is left to send the signal.
    if env::var(PARENT) != Ok(parent_id().to_string()) {
        exit(1);
    }
    let cpu = env::var(CPU).ok().and_then(|cpu| cpu.parse().ok()).expect("a worker's CPU");
    cpu::pin(Cpu(cpu));
    let (_, entry) = entries.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no entry {name}"));
    entry(from_hex(&env::var(ARGUMENT).expect("a worker's argument")), Ready(()));
    exit(0);
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
