//! Behaviours 22 to 26: pools and processes.

use std::time::Duration;

use commons::{Dict, ErrorKind, Manager, Pool, Process};
use serde::{Deserialize, Serialize};

use crate::common::{FOREVER, PATIENCE, eventually};

fn square(n: u64) -> u64 {
    n * n
}

fn squares(count: u64) -> Vec<u64> {
    (0..count).map(square).collect()
}

/// `map` keeps the order whatever the chunk size and however long the tasks take; nothing to do is done.
#[test]
fn b22_map_keeps_the_order_whatever_the_chunk_size_and_an_empty_input_is_fine() {
    commons::init_test!();
    let pool = Pool::new(3).unwrap();
    for chunk_size in [1, 2, 7, 99, 100, 101, 5000] {
        assert_eq!(pool.call().chunk_size(chunk_size).map(square, 0..100).unwrap(), squares(100), "{chunk_size}");
    }
    assert_eq!(pool.map(square, 0..1000).unwrap(), squares(1000));
    let uneven = |n: u64| {
        std::thread::sleep(Duration::from_micros((n * 7919) % 1500));
        n * n
    };
    assert_eq!(pool.call().chunk_size(1).map(uneven, 0..200).unwrap(), squares(200));
    assert_eq!(pool.map(square, []).unwrap(), [0u64; 0]);
    assert_eq!(pool.imap(square, []).unwrap().count(), 0);
    assert_eq!(pool.call().chunk_size(0).map(square, 0..3).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A panic is an error with its message and place, and with its backtrace if one is asked for; everything else that was
/// asked for is done nevertheless.
#[test]
fn b22_imap_yields_what_came_before_an_error_and_b23_map_waits_for_all() {
    commons::init_test!();
    fn picky(n: u64) -> u64 {
        assert_ne!(n % 10, 7, "number {n} is bad");
        n
    }
    let manager = Manager::new().unwrap();
    let seen = manager.dict::<u64, u64>().unwrap();
    let pool = Pool::new(2).unwrap();
    for chunk_size in [1, 4, 30] {
        let error = pool.call().chunk_size(chunk_size).map(picky, 0..30).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        for part in ["number 7 is bad", "pool_process.rs:"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        // What came before an error, the error, and what came after it.
        let outcomes: Vec<_> = pool.call().chunk_size(chunk_size).imap(picky, 0..30).unwrap().collect();
        for (n, outcome) in outcomes.iter().enumerate() {
            match n % 10 {
                7 => assert_eq!(outcome.as_ref().unwrap_err().kind(), ErrorKind::Panicked),
                _ => assert_eq!(*outcome.as_ref().unwrap(), n as u64),
            }
        }
        assert_eq!(outcomes.len(), 30);
    }
    fn note((n, seen): (u64, Dict<u64, u64>)) {
        seen.insert(&n, &n).unwrap();
        assert_ne!(n, 0, "the first fails");
        std::thread::sleep(Duration::from_millis(2));
    }
    let error = pool.call().chunk_size(1).map(note, (0..20).map(|n| (n, seen.clone()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert_eq!(seen.len().unwrap(), 20, "map waits for all");
}

/// An error has the backtrace of the worker.
#[test]
fn b23_an_error_keeps_its_remote_backtrace() {
    commons::init_test!();
    fn inner((): ()) -> String {
        let pool = Pool::new(1).unwrap();
        #[inline(never)]
        fn a_function_that_panics(_: u64) -> u64 {
            panic!("traced")
        }
        let error = pool.apply(a_function_that_panics, 1).unwrap_err();
        format!("{error}\n{}", error.backtrace().unwrap_or_default())
    }
    let text = commons::Process::builder().env("RUST_BACKTRACE", "1").spawn((), inner).unwrap().join().unwrap();
    assert!(text.contains("traced") && text.contains("a_function_that_panics"), "{text}");
}

/// A result may be a `Result` of the user's own, and comes back as it is.
#[test]
fn b23_an_error_keeps_its_type() {
    commons::init_test!();
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Refusal {
        Odd(u64),
    }
    let even = |n: u64| if n.is_multiple_of(2) { Ok(n) } else { Err(Refusal::Odd(n)) };
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(even, 1..=2).unwrap(), [Err(Refusal::Odd(1)), Ok(2)]);
}

/// Something that some codec refuses.
#[derive(Clone, Debug, PartialEq)]
enum Awkward {
    Fine(u32),
    NotEncoded,
    NotDecoded,
}

impl Serialize for Awkward {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Awkward::Fine(n) => n.serialize(serializer),
            Awkward::NotEncoded => Err(serde::ser::Error::custom("it does not want to")),
            Awkward::NotDecoded => u32::MAX.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Awkward {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Awkward, D::Error> {
        match u32::deserialize(deserializer)? {
            u32::MAX => Err(serde::de::Error::custom("nobody understands it")),
            n => Ok(Awkward::Fine(n)),
        }
    }
}

/// An argument or a result that cannot be encoded or decoded is an error in its place, and the pool survives.
#[test]
fn b23_what_cannot_be_encoded_is_an_error_and_the_pool_survives() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    let kinds = |items: Vec<Awkward>, function: fn(Awkward) -> Awkward, chunk_size: usize| -> Vec<Option<ErrorKind>> {
        let outcomes = pool.call().chunk_size(chunk_size).imap(function, items).unwrap();
        outcomes.map(|outcome| outcome.err().map(|error| error.kind())).collect()
    };
    let items = vec![Awkward::Fine(1), Awkward::NotEncoded, Awkward::Fine(2), Awkward::NotDecoded, Awkward::Fine(3)];
    for chunk_size in [1, 2, 5] {
        let expected = [None, Some(ErrorKind::Encode), None, Some(ErrorKind::Decode), None];
        assert_eq!(kinds(items.clone(), |item| item, chunk_size), expected);
        let produce = |item: Awkward| match item {
            Awkward::Fine(1) => Awkward::NotEncoded,
            Awkward::Fine(2) => Awkward::NotDecoded,
            item => item,
        };
        let items = (1..4).map(Awkward::Fine).collect();
        assert_eq!(kinds(items, produce, chunk_size), [Some(ErrorKind::Encode), Some(ErrorKind::Decode), None]);
    }
    let error = pool.map(|item: Awkward| item, [Awkward::NotEncoded]).unwrap_err();
    assert!(error.to_string().starts_with("arguments: "), "{error}");
    assert_eq!(pool.apply(square, 5).unwrap(), 25);
}

/// Nonsense is refused, each with its own error.
#[test]
fn b24_zero_processes_is_an_error_and_so_is_other_nonsense() {
    commons::init_test!();
    for processes in [0, 241] {
        assert_eq!(Pool::new(processes).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(Pool::builder().tasks_per_child(0).build().unwrap_err().kind(), ErrorKind::InvalidInput);
    let unencodable = Pool::builder().processes(1).initializer(Awkward::NotEncoded, drop).build();
    assert_eq!(unencodable.unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(Pool::builder().processes(1).name("a\0b").build().unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A worker ends after its quota of tasks and another takes its place; with a quota of one, closing and joining come to
/// an end.
#[test]
fn b24_workers_are_recycled_and_close_and_join_do_not_hang_with_a_quota_of_one() {
    commons::init_test!();
    let whoami = |_: u64| std::process::id();
    for (quota, chunk_size) in [(1, 1), (3, 1), (4, 2)] {
        let pool = Pool::builder().processes(2).tasks_per_child(quota).build().unwrap();
        let pids = pool.call().chunk_size(chunk_size).map(whoami, 0..20).unwrap();
        let mut tasks = std::collections::BTreeMap::<u32, usize>::new();
        pids.iter().for_each(|pid| *tasks.entry(*pid).or_default() += 1);
        assert!(tasks.values().all(|count| *count <= quota), "{tasks:?}");
        assert!(tasks.len() >= 20 / quota, "{tasks:?}");
        pool.close().unwrap();
        pool.join().unwrap();
        assert_eq!(pool.pids(), []);
    }
    let pool = Pool::builder().processes(1).tasks_per_child(1).build().unwrap();
    let results: Vec<_> = (0..6).map(|n| pool.apply_async(square, n).unwrap()).collect();
    pool.close().unwrap();
    pool.join().unwrap();
    assert!(results.into_iter().zip(0..).all(|(result, n)| result.get().unwrap() == n * n));
}

#[test]
fn b24_use_after_terminate_is_an_error() {
    commons::init_test!();
    let pool = Pool::new(1).unwrap();
    let forever: fn(u64) = |_| std::thread::sleep(FOREVER);
    let result = pool.apply_async(forever, 1).unwrap();
    pool.terminate().unwrap();
    pool.terminate().unwrap();
    assert_eq!(result.get().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(pool.apply(square, 1).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(pool.map(square, 0..3).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(pool.imap(square, 0..3).err().unwrap().kind(), ErrorKind::Closed);
    pool.join().unwrap();
}

#[test]
fn b25_the_exit_code_of_a_killed_child_is_minus_the_signal() {
    commons::init_test!();
    let send: [(fn(&Process<()>) -> commons::Result<()>, i32); 3] =
        [(Process::terminate, -15), (Process::interrupt, -2), (Process::kill, -9)];
    for (signal, code) in send {
        let mut child = Process::spawn((), |()| std::thread::sleep(FOREVER)).unwrap();
        assert_eq!(child.exit_code(), None);
        signal(&child).unwrap();
        assert_eq!(child.join_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::Process);
        assert_eq!(child.exit_code(), Some(code));
    }
    let mut child = Process::spawn((), |()| -> () { std::process::abort() }).unwrap();
    eventually("it aborts", || child.exit_code() == Some(-6));
    assert!(child.join_timeout(PATIENCE).is_err());
}

/// What ends the process that decodes it.
#[derive(Serialize)]
struct Deadly;

impl<'de> Deserialize<'de> for Deadly {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Deadly, D::Error> {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        unreachable!("killed")
    }
}

#[test]
fn b25_a_child_that_dies_before_it_starts_its_function_is_an_error_not_a_hang() {
    commons::init_test!();
    let mut child = Process::spawn(Deadly, |_| ()).unwrap();
    let error = child.join_timeout(PATIENCE).unwrap_err();
    assert!(error.kind() == ErrorKind::Process && error.to_string().contains("SIGKILL"), "{error}");
    let mut child = Process::spawn((), |()| std::thread::sleep(FOREVER)).unwrap();
    child.kill().unwrap(); // most likely before its `main`
    assert_eq!(child.join_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::Process);
    let missing = Process::builder().executable("/nonexistent/program").spawn((), |()| ());
    assert!(missing.is_err(), "what cannot even be started");
    let stranger = Process::builder().executable("/bin/true").spawn((), |()| ());
    let ended = stranger.and_then(|mut child| child.join_timeout(PATIENCE)).unwrap_err();
    assert!(matches!(ended.kind(), ErrorKind::Process | ErrorKind::OtherProgram), "{ended}");
}

#[test]
fn b26_a_panic_in_a_child_arrives_as_an_error_with_message_and_backtrace() {
    commons::init_test!();
    #[inline(never)]
    fn a_function_that_panics(n: u32) {
        assert_eq!(n, 4, "number {n}");
    }
    let child = Process::builder().env("RUST_BACKTRACE", "1").spawn(3, a_function_that_panics).unwrap();
    let error = child.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    for part in ["number 3", "pool_process.rs:"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let backtrace = error.backtrace().expect("one was asked for");
    assert!(backtrace.contains("a_function_that_panics"), "{backtrace}");
}
