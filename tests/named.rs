//! Proves that tasks are found by name, in workers of this program and of another one, and that what is not there is an
//! error of that task.

use std::path::PathBuf;
use std::process::Command;

use commons::{ErrorKind, Pool};

commons::named_task! {
    "test.half",
    fn half(n: u64) -> Option<u64> {
        n.is_multiple_of(2).then_some(n / 2)
    }
}

commons::named_task! {
    "test.pid",
    fn pid(_unit: ()) -> u32 {
        assert_ne!(half(4), None);
        std::process::id()
    }
}

/// The worker of the example `named_tasks`.
fn named_worker() -> PathBuf {
    let build = ["build", "--quiet", "--locked", "--features", "linkme", "--example", "named_worker"];
    assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(2).unwrap().join("examples/named_worker")
}

#[test]
fn by_name_in_the_same_program() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    let halves: Vec<Option<u64>> = pool.call().chunk_size(3).map_named("test.half", 0..100u64).unwrap();
    assert_eq!(halves, (0..100).map(half).collect::<Vec<_>>());
    assert!(pool.pids().contains(&pool.apply_named("test.pid", ()).unwrap()));
    let error = pool.apply_named::<u64, u64>("test.half", 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    let error = pool.apply_named::<u64, u64>("test.third", 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("`test.third`"), "{error}");
    let outcomes: Vec<_> = pool.call().chunk_size(2).imap_named::<u64, u64, _>("test.third", 0..5).unwrap().collect();
    assert!(outcomes.len() == 5 && outcomes.iter().all(Result::is_err));
    assert_eq!(pool.apply(|n: u64| n + 1, 1).unwrap(), 2);
}

#[test]
fn by_name_in_another_program() {
    commons::init_test!();
    let pool = Pool::builder().processes(2).program(named_worker()).tasks_per_child(20).build().unwrap();
    let squares: Vec<u64> = pool.call().chunk_size(5).map_named("named_worker.square", 0..100u64).unwrap();
    assert_eq!(squares, (0..100).map(|n| n * n).collect::<Vec<u64>>());
    let error = pool.apply_named::<u64, Option<u64>>("test.half", 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "it is here, and not there");
    let error = pool.apply(|n: u64| n, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "an address means nothing there");
    for pid in pool.pids() {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let lengths: Vec<usize> = pool.call().map_named("named_worker.length", ["ab".to_owned()]).unwrap();
    assert_eq!(lengths, [2]);
    pool.close().unwrap();
    pool.join().unwrap();
}

#[test]
fn programs_that_are_no_workers() {
    commons::init_test!();
    let missing = Pool::builder().processes(1).program("/nowhere/at/all").build();
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::Process);
    let initialised = Pool::builder().processes(1).program("/bin/true").initializer((), drop).build();
    assert_eq!(initialised.unwrap_err().kind(), ErrorKind::InvalidInput);
    let pool = Pool::builder().processes(1).program("/bin/true").build().unwrap();
    assert_eq!(pool.apply_named::<u64, u64>("test.half", 1).unwrap_err().kind(), ErrorKind::Process);
}
