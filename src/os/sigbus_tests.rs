//! Tests of the SIGBUS guard: faults in and outside its ranges, and the handlers before it.

use super::*;
use crate::os::testing::Child;
use crate::os::{Mapping, memfd};
use std::os::unix::process::ExitStatusExt;

/// A mapping of 16 pages whose file has shrunk to one.
fn truncated() -> (std::fs::File, Mapping) {
    // Not `memfd`, which seals against this very thing.
    let file = std::fs::File::from(rustix::fs::memfd_create("truncated", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.set_len(16 * 4096).unwrap();
    let map = Mapping::new(&file, 16 * 4096, true).unwrap();
    poke(&map, 0, 7);
    poke(&map, 5 * 4096, 8);
    file.set_len(4096).unwrap();
    (file, map)
}

fn peek(map: &Mapping, at: usize) -> u8 {
    assert!(at < map.len());
    // SAFETY: within the mapping, which is borrowed; the guard answers for pages without a file behind them.
    unsafe { map.as_ptr().add(at).read_volatile() }
}

fn poke(map: &Mapping, at: usize, byte: u8) {
    assert!(at < map.len());
    // SAFETY: as in `peek`; the mapping is writable.
    unsafe { map.as_ptr().add(at).write_volatile(byte) }
}

/// A truncated page reads as zeroes, takes writes, keeps errno, poisons its own mapping only, and spares intact pages.
#[test]
fn a_fault_poisons_and_goes_on() {
    let (_file, map) = truncated();
    let (_other_file, other) = truncated();
    assert!(!map.poisoned());
    // SAFETY: this thread's errno is always writable.
    unsafe { *libc::__errno_location() = 77 };
    assert_eq!(peek(&map, 5 * 4096 + 123), 0);
    // SAFETY: as above.
    assert_eq!(unsafe { *libc::__errno_location() }, 77);
    assert!(map.poisoned());
    assert!(!other.poisoned());
    poke(&map, 15 * 4096 + 4095, 9);
    assert_eq!(peek(&map, 15 * 4096 + 4095), 9);
    assert_eq!(peek(&map, 0), 7);
}

/// A mapping that takes over the slot of a poisoned one starts clean.
#[test]
fn poison_does_not_outlive_its_mapping() {
    for _ in 0..2 * SLOTS {
        let (_file, map) = truncated();
        assert!(!map.poisoned());
        peek(&map, 4096);
        assert!(map.poisoned());
    }
}

/// Eight threads that fault, map and unmap all at once find their own ranges, and no other's.
#[test]
fn look_ups_survive_churn() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let (_file, map) = truncated();
                    let (_other_file, other) = truncated();
                    peek(&map, 9 * 4096);
                    assert!(map.poisoned() && !other.poisoned());
                }
            });
        }
    });
}

/// The table is bounded: one more mapping than it holds is EMFILE, and a dropped one makes room.
#[test]
fn a_full_table_is_an_error() {
    // In a child, so as not to starve the other tests.
    let child = Child::fork(|| {
        let file = memfd("full", 4096).unwrap();
        let mut maps = Vec::new();
        let error = loop {
            match Mapping::new(&file, 4096, true) {
                Ok(map) => maps.push(map),
                Err(error) => break error,
            }
            assert!(maps.len() <= SLOTS);
        };
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        maps.pop();
        Mapping::new(&file, 4096, true).unwrap();
        0
    });
    assert_eq!(child.wait().code(), Some(0));
}

extern "C" fn exit_with_42(_: libc::c_int) {
    // SAFETY: `_exit` has no precondition.
    unsafe { libc::_exit(42) }
}

extern "C" fn exit_with_43(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: called with the siginfo that the kernel made.
    let same = signal == libc::SIGBUS && unsafe { (*info).si_code } == libc::BUS_ADRERR;
    // SAFETY: `_exit` has no precondition.
    unsafe { libc::_exit(if same { 43 } else { 1 }) }
}

/// A fault outside our ranges.
fn foreign_fault() -> i32 {
    let (_file, map) = truncated();
    let (slot, state) = find(map.as_ptr() as usize).unwrap();
    slot.state.store(state & !PHASE | FREE, Ordering::Relaxed);
    i32::from(peek(&map, 4096))
}

/// In a child whose handler before ours was `previous`: what becomes of it.
fn after(previous: usize, flags: libc::c_int, body: fn() -> i32) -> std::process::ExitStatus {
    Child::fork(|| {
        install().unwrap();
        PREVIOUS.store(previous, Ordering::Relaxed);
        PREVIOUS_FLAGS.store(flags, Ordering::Relaxed);
        body()
    })
    .wait()
}

fn sent() -> i32 {
    // SAFETY: raise has no precondition.
    unsafe { libc::raise(libc::SIGBUS) };
    0
}

/// Other people's faults, and signals sent by hand, reach the handler before ours, or the default action.
#[test]
fn the_rest_goes_to_the_previous_handler() {
    let (one, three) = (exit_with_42 as *const () as usize, exit_with_43 as *const () as usize);
    assert_eq!(after(one, 0, foreign_fault).code(), Some(42));
    assert_eq!(after(three, libc::SA_SIGINFO, foreign_fault).code(), Some(43));
    assert_eq!(after(libc::SIG_DFL, 0, foreign_fault).signal(), Some(libc::SIGBUS));
    assert_eq!(after(libc::SIG_IGN, 0, foreign_fault).signal(), Some(libc::SIGBUS));
    assert_eq!(after(one, 0, sent).code(), Some(42));
    assert_eq!(after(libc::SIG_DFL, 0, sent).signal(), Some(libc::SIGBUS));
    assert_eq!(after(libc::SIG_IGN, 0, sent).code(), Some(0));
}

/// What the program had installed (in a test process: the standard library's own handler) is what we found.
#[test]
fn installation_keeps_the_first_predecessor() {
    let (_file, _map) = truncated();
    let before = PREVIOUS.load(Ordering::Relaxed);
    INSTALLED.store(false, Ordering::Relaxed);
    install().unwrap();
    assert_eq!(PREVIOUS.load(Ordering::Relaxed), before);
    assert_ne!(before, handler as *const () as usize);
}
