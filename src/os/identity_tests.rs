//! Tests of identities and evidence: the parsers on hostile input, and every way of being dead or not.

use super::*;
use crate::os::testing::{Child, eventually, shared_words};
use crate::os::{Mapping, file_id, memfd};

fn parked() -> Child {
    Child::fork(|| {
        loop {
            std::thread::park();
        }
    })
}

/// We know ourselves, the same each time; a child is another process of the same boot and namespaces.
#[test]
fn identity_is_stable_and_per_process() {
    let mine = me();
    assert_eq!(mine, me());
    assert_eq!(mine.pid, std::process::id());
    assert!(mine.start_time > 0 && mine.pid_ns > 0 && mine.boot != [0, 0]);
    // A child sees its own identity although the cache of its parent was copied with the memory.
    let differs = || i32::from(me().pid != std::process::id() || me().pid == mine.pid);
    for child in [Child::fork(differs), Child::raw_clone(differs)] {
        assert_eq!(child.wait().code(), Some(0));
    }
    let words = shared_words();
    let _child = Child::fork(|| {
        let me = me();
        words[1].store(me.boot[0], Ordering::Relaxed);
        words[0].store(me.pid_ns, Ordering::Release);
        loop {
            std::thread::park();
        }
    });
    eventually("answered", || words[0].load(Ordering::Acquire) != 0);
    assert_eq!((words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed)), (mine.pid_ns, mine.boot[0]));
}

/// The start time is found behind any command name, and nothing is found in damaged lines.
#[test]
fn stat_lines_parse_past_any_command() {
    let tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
    for command in ["sh", "a b", ") R 1 (", "((", "", "x)"] {
        assert_eq!(parse_start_time(format!("17 ({command}){tail}").as_bytes()), Some(4242));
    }
    for bad in ["", "17 (sh", "17 (sh)", "17 (sh) S 1 2", "17 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"] {
        assert_eq!(parse_start_time(bad.as_bytes()), None);
    }
    assert_eq!(parse_uuid("01234567-89ab-cdef-0011-223344556677\n"), [0x0123_4567_89ab_cdef, 0x0011_2233_4455_6677]);
    assert_eq!(parse_uuid("nonsense"), [0, 0]);
}

/// A running process is alive, another start time is a reused pid, and a killed one is dead before and after reaping.
#[test]
fn evidence_follows_a_life() {
    let child = parked();
    let (pid, start) = (child.pid(), start_time(child.pid()).unwrap());
    assert_eq!(process_evidence(pid, start), Evidence::Alive);
    assert_eq!(process_evidence(pid, start + 1), Evidence::Dead);
    assert_eq!(process_evidence(pid, 0), Evidence::Unknown);
    child.kill();
    eventually("dead, a zombie", || process_evidence(pid, start) == Evidence::Dead);
    child.wait();
    assert_eq!(process_evidence(pid, start), Evidence::Dead);
    assert_eq!(process_evidence(me().pid, me().start_time), Evidence::Alive);
    for garbage in [0, 1 << 31, u32::MAX] {
        assert_eq!(process_evidence(garbage, start), Evidence::Unknown);
    }
}

/// A process whose leader has exited lives while another thread does, though its state is Z and its map is empty.
#[test]
fn a_zombie_leader_proves_nothing() {
    let file = memfd("leader", 4096).unwrap();
    let _map = Mapping::new(&file, 4096, true).unwrap();
    let child = Child::fork(|| {
        std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)));
        // SAFETY: ends this thread only, without unwinding; nothing on its stack is borrowed by the other.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        1
    });
    let stat = || fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
    eventually("a zombie", || stat().contains(") Z "));
    let start = start_time(child.pid()).unwrap();
    assert_eq!(process_evidence(child.pid(), start), Evidence::Alive);
    assert_eq!(maps_file(child.pid(), file_id(&file).unwrap()), Some(true));
    child.kill();
    eventually("dead", || process_evidence(child.pid(), start) == Evidence::Dead);
}

/// A thread id that is not a leader's, as after the reuse of a pid, is a dead process unless the times agree.
#[test]
fn a_thread_is_not_a_process() {
    let (send, receive) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        send.send(tid()).unwrap();
        let _ = stopped.recv();
    });
    let other = receive.recv().unwrap();
    assert_eq!(process_evidence(other, start_time(other).unwrap() + 7), Evidence::Dead);
    assert_ne!(process_evidence(other, start_time(other).unwrap()), Evidence::Alive);
    assert!(thread_exists(other) && thread_exists(tid()));
    drop(stop);
    thread.join().unwrap();
    eventually("gone", || !thread_exists(other));
    assert!(!thread_exists(0) && !thread_exists(u32::MAX) && !thread_exists(1 << 30));
}

/// A child that inherited the mapping maps the file; one that ran another program does not; nobody is None.
#[test]
fn maps_tell_of_an_exec() {
    for file in [memfd("maps", 4096).unwrap(), tempfile::tempfile_in("/dev/shm").unwrap()] {
        let id = file_id(&file).unwrap();
        let sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(maps_file(sleeper.id(), id), None, "not mapped here either");
        let _map = Mapping::new(&file, 4096, true).unwrap();
        let child = parked();
        assert_eq!(maps_file(child.pid(), id), Some(true));
        assert_eq!(maps_file(me().pid, id), Some(true));
        assert_eq!(maps_file(sleeper.id(), id), Some(false));
        let mut sleeper = sleeper;
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert_eq!(maps_file(sleeper.id(), id), None);
    }
}

/// Lines of `/proc/<pid>/maps` give device and inode, whatever the path.
#[test]
fn maps_lines_parse() {
    let id = FileId { dev: rustix::fs::makedev(0xfe, 1), ino: 1_234_567 };
    for path in ["/a b\\012 (deleted)", "", "/memfd:x (deleted)"] {
        let line = format!("7f0000000000-7f0000001000 rw-s 00000000 fe:01 1234567        {path}\n");
        assert_eq!(parse_maps_line(line.as_bytes()), Some(id));
    }
    for bad in ["", "\n", "a b c d e", "a b c 1:2", "a b c 1:z 3 x"] {
        assert_eq!(parse_maps_line(bad.as_bytes()), None);
    }
}

/// Random numbers differ.
#[test]
fn random_numbers_differ() {
    assert_ne!(random_u64(), random_u64());
}
