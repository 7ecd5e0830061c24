//! What the tests of whole processes share: names, dice, and children that are this very test binary once more.
#![allow(dead_code)] // each test file uses its own part

pub mod barriers;
pub mod conditions;
pub mod locks;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child as Process, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const ROLE: &str = "COMMONS_TEST_ROLE";
const ARGUMENT: &str = "COMMONS_TEST_ARGUMENT";
/// Longest wait for anything that a child should say or do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for what happens at once.
pub const SOON: Duration = Duration::from_secs(20);
/// Far longer than anything takes that happens at all.
pub const FOREVER: Duration = Duration::from_secs(600);

/// Kills a child, and waits until it is dead.
pub fn end<R: serde::Serialize + serde::de::DeserializeOwned + 'static>(child: commons::Process<R>) {
    child.kill().unwrap();
    assert!(child.join().is_err());
}

/// The operation failed, and in this way.
#[track_caller]
pub fn assert_kind<T>(result: commons::Result<T>, kind: commons::ErrorKind) {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(!error.context().is_empty());
}

/// A name that no other test uses.
pub fn unique(tag: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}-{tag}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Where a named segment appears.
pub fn shm_path(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/commons.{name}"))
}

/// Removes a named segment at the end of a test, however it ends.
pub struct Unlink(pub String);

impl Drop for Unlink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(shm_path(&self.0));
    }
}

/// What this process is to do as a child, and with what; `None` in the parent.
pub fn role() -> Option<(String, String)> {
    Some((std::env::var(ROLE).ok()?, std::env::var(ARGUMENT).unwrap_or_default()))
}

/// Tells the parent something.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n@{text}");
    let _ = out.flush();
}

/// Waits for the parent to say something; empty when it is gone.
pub fn hear() -> String {
    let mut line = String::new();
    let _ = std::io::stdin().lock().read_line(&mut line);
    line.trim_end().to_owned()
}

/// A child process; killed when dropped.
pub struct Child {
    process: Process,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// Starts this binary's test `children` in the given role.
pub fn start(role: &str, argument: &str) -> Child {
    start_with(role, argument, |_| {}).expect("a child starts")
}

/// The same, with something done to the command.
pub fn start_with(role: &str, argument: &str, change: impl FnOnce(&mut Command)) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["children", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ARGUMENT, argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    // A child must not outlive a parent that is killed.
    // SAFETY: prctl(PR_SET_PDEATHSIG) is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    change(&mut command);
    let mut process = command.spawn()?;
    let input = process.stdin.take();
    let output = process.stdout.take().expect("piped");
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(text) = line.strip_prefix('@')
                && sender.send(text.to_owned()).is_err()
            {
                return;
            }
        }
    });
    Ok(Child { process, input, lines })
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next thing it says.
    pub fn hear(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|e| {
            let status = self.process.try_wait();
            panic!("a child said nothing: {e}; it {status:?}")
        })
    }

    /// Waits until it says `text`.
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.hear(), text, "said by a child");
    }

    /// Tells it something.
    pub fn tell(&mut self, text: &str) {
        let input = self.input.as_mut().expect("open");
        writeln!(input, "{text}").expect("the child listens");
        input.flush().expect("the child listens");
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        drop(self.input.take());
        self.wait_for(PATIENCE)
    }

    /// The same, with its own patience.
    pub fn wait_for(&mut self, patience: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a child of ours") {
                return status;
            }
            if start.elapsed() > patience {
                self.kill();
                panic!("a child did not end within {patience:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for it to end well.
    pub fn succeed(&mut self) {
        let status = self.wait();
        assert!(status.success(), "a child failed: {status:?}, signal {:?}", status.signal());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Repeats until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `f` in a forked child, which ends with its answer as exit code and without running anybody's destructors.
pub fn fork(f: impl FnOnce() -> u8) -> libc::pid_t {
    // SAFETY: the child goes on with one thread and uses what fork(2) and the C library keep usable (memory allocation
    // included), then leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(101);
            // SAFETY: ends the process.
            unsafe { libc::_exit(code.into()) }
        }
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        pid => pid,
    }
}

/// Waits for a forked child; its exit code, or minus the signal that ended it.
pub fn reap(pid: libc::pid_t) -> i32 {
    let start = Instant::now();
    let mut status = 0;
    loop {
        // SAFETY: `status` is live and writable.
        match unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } {
            0 if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
            0 => {
                // SAFETY: a child of ours that has not been waited for.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                panic!("a forked child did not end");
            }
            -1 => panic!("waitpid: {}", std::io::Error::last_os_error()),
            _ => break,
        }
    }
    let status = ExitStatus::from_raw(status);
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// Dice (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}
