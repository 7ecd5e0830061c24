//! Who a process is, in terms that another process can check, and what `/proc` and pidfds prove about its life.
//!
//! A pid alone is nobody: it is reused, and means something else in another pid namespace. With the start time, the
//! namespaces and the boot it names one process for ever. Proofs of death must never be wrong, so whatever cannot be
//! read is [`Evidence::Unknown`].

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::file::FileId;
use super::fork::generation;

/// One process, for ever. A field that could not be read is 0, and compares as unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its pid, in its own pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot *as its own time namespace counts them*.
    pub start_time: u64,
    /// The inode of its pid namespace.
    pub pid_ns: u64,
    /// The inode of its time namespace.
    pub time_ns: u64,
    /// The boot of the machine: a random UUID.
    pub boot: [u64; 2],
}

/// The calling process. Read once, and once more in a forked child.
#[must_use]
pub fn me() -> Identity {
    /// The latest answer, with the process generation that it holds for. Never freed: one small record for each
    /// generation that asks, and no reader has to be waited for.
    static LATEST: AtomicPtr<(u64, Identity)> = AtomicPtr::new(null_mut());
    let now = generation();
    // SAFETY: the pointer is null or was leaked below, and what it points to is never changed or freed. Acquire: its
    // contents are visible.
    if let Some((of, identity)) = unsafe { LATEST.load(Ordering::Acquire).as_ref() }
        && *of == now
    {
        return *identity;
    }
    let identity = read_me();
    LATEST.store(Box::into_raw(Box::new((now, identity))), Ordering::Release);
    identity
}

fn read_me() -> Identity {
    let pid = std::process::id();
    let namespace = |kind: &str| fs::metadata(format!("/proc/self/ns/{kind}")).map_or(0, |meta| meta.ino());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Identity {
        pid,
        start_time: if proc_is_ours() { start_time(pid).unwrap_or(0) } else { 0 },
        pid_ns: namespace("pid"),
        time_ns: namespace("time"),
        boot: parse_uuid(&boot),
    }
}

fn parse_uuid(text: &str) -> [u64; 2] {
    let value = u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0);
    [(value >> 64) as u64, value as u64]
}

/// Whether `/proc` counts pids as we do: it may have been mounted for another pid namespace.
fn proc_is_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == std::process::id().to_string().as_str())
}

/// Field 22 of `/proc/<pid>/stat`.
fn start_time(pid: u32) -> Option<u64> {
    parse_start_time(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_start_time(stat: &[u8]) -> Option<u64> {
    // Field 2 is the command in parentheses: any bytes at all, spaces and parentheses included. No later field has one.
    let command_end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = std::str::from_utf8(&stat[command_end + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// What is known of a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Proven: it has no thread left.
    Dead,
    /// This very process was alive a moment ago.
    Alive,
    /// Neither could be shown.
    Unknown,
}

/// Judges the process that had `pid` (in *our* pid namespace, as the caller made sure) and started at `start_time`.
///
/// Pass 0 for `start_time` if it is not known, or if the process's time namespace is not ours: the kernel translates
/// start times into the time namespace of the reader. Then a reused pid cannot be told apart, and nothing is `Alive`.
///
/// A dead leader of live threads (state `Z`) is not dead: only the end of all threads is.
#[must_use]
pub fn process_evidence(pid: u32, start_time: u64) -> Evidence {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Evidence::Unknown };
    let opened = match pidfd_open(raw, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Evidence::Dead,
        Ok(pidfd) => {
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(1..) if fds[0].revents().contains(PollFlags::IN) => return Evidence::Dead,
                Ok(0) => true,
                _ => false,
            }
        }
        // A pid that is now some thread's ends up here too, and its start time differs.
        Err(_) => false,
    };
    if start_time == 0 || !proc_is_ours() {
        return Evidence::Unknown;
    }
    match self::start_time(pid) {
        Some(found) if found != start_time => Evidence::Dead,
        Some(_) if opened => Evidence::Alive,
        _ => Evidence::Unknown,
    }
}

/// Whether the process maps the file: after an exec it does not, though pid, start time and pidfd are the same.
///
/// None if that cannot be read, or if our own map, which must contain the file (the caller has it mapped), does not show
/// it under this identity either: on btrfs and some overlays, maps and stat(2) disagree about the device.
#[must_use]
pub fn maps_file(pid: u32, id: FileId) -> Option<bool> {
    if !proc_is_ours() {
        return None;
    }
    let process = format!("/proc/{pid}");
    let mut found = scan_maps(Path::new(&format!("{process}/maps")), id).ok()?;
    if found == Scan::Empty {
        // A leader that has exited shows no memory, while its threads go on: any of them speaks for all.
        for task in fs::read_dir(format!("{process}/task")).ok()?.flatten() {
            match scan_maps(&task.path().join("maps"), id) {
                Ok(Scan::Empty) | Err(_) => {}
                Ok(other) => {
                    found = other;
                    break;
                }
            }
        }
    }
    match found {
        Scan::Found => Some(true),
        Scan::Absent if scan_maps(Path::new("/proc/thread-self/maps"), id).ok()? == Scan::Found => Some(false),
        Scan::Absent | Scan::Empty => None,
    }
}

#[derive(PartialEq, Eq)]
enum Scan {
    Found,
    Absent,
    Empty,
}

fn scan_maps(path: &Path, id: FileId) -> io::Result<Scan> {
    let mut reader = BufReader::new(fs::File::open(path)?);
    let (mut line, mut result) = (Vec::new(), Scan::Empty);
    // Ends: the kernel lists each address once, in order.
    while reader.read_until(b'\n', &mut line)? > 0 {
        if parse_maps_line(&line) == Some(id) {
            return Ok(Scan::Found);
        }
        result = Scan::Absent;
        line.clear();
    }
    Ok(result)
}

/// The file of one line `from-to perms offset major:minor inode path`.
fn parse_maps_line(line: &[u8]) -> Option<FileId> {
    let mut fields = line.split(|byte| byte.is_ascii_whitespace()).map(std::str::from_utf8);
    let (major, minor) = fields.nth(3)?.ok()?.split_once(':')?;
    let ino = fields.next()?.ok()?.parse().ok()?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some(FileId { dev: rustix::fs::makedev(number(major)?, number(minor)?), ino })
}

/// Whether the calling process has a thread `tid` (in its own pid namespace).
///
/// False is proof, but for the next moment: tids are reused.
#[must_use]
pub fn thread_exists(tid: u32) -> bool {
    let Some(tid) = i32::try_from(tid).ok().filter(|&tid| tid > 0) else { return false };
    // Signal 0 to a thread of ours tells the same as `/proc/self/task/<tid>`, and needs no /proc.
    // SAFETY: tgkill has no memory precondition, and signal 0 sends nothing.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, 0) };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// The calling thread's id, in its own pid namespace. A system call: callers keep the answer.
#[must_use]
pub fn tid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

/// The user whose rights the process acts with.
#[must_use]
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// 64 random bits from the kernel.
///
/// # Panics
///
/// If the kernel has none to give, which no supported kernel answers once it has booted.
#[must_use]
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    // Eight bytes come whole; a signal can interrupt only the wait for entropy early in the boot.
    let got = rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()));
    assert_eq!(got, Ok(8), "getrandom(2)");
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
