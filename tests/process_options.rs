//! Proves what can be asked of a process, asked for it, and told about it: options, signals, exit codes, sentinels, parents
//! and children, errors with their chain, captures, and every kind of bad input.

mod common;

use std::error::Error as _;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::eventually;
use commons::{Dict, Error, ErrorKind, Manager, Process, Queue, spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = common::PATIENCE;
const FOREVER: Duration = Duration::from_secs(600);

fn sleep_forever() {
    std::thread::sleep(FOREVER);
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The exit code is none while the process runs, then the code or minus the signal, before and after the result is taken.
#[test]
fn exit_codes() {
    commons::init_test!();
    let cases: [(fn(()), i32); 4] = [
        (|()| (), 0),
        (|()| panic!("on purpose"), 101),
        (|()| std::process::exit(42), 42),
        (|()| std::process::abort(), -6),
    ];
    for (function, code) in cases {
        let mut child = Process::spawn((), function).unwrap();
        eventually("an exit code", || child.exit_code().is_some());
        assert_eq!(child.exit_code(), Some(code));
        assert!(!child.is_alive());
        let result = child.join_timeout(PATIENCE);
        assert_eq!(result.is_ok(), code == 0, "{result:?}");
        assert_eq!(child.exit_code(), Some(code));
        assert_eq!(child.join_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let send: [(fn(&Process<()>) -> commons::Result<()>, i32); 3] =
        [(Process::terminate, -15), (Process::interrupt, -2), (Process::kill, -9)];
    for (signal, code) in send {
        let mut child = Process::spawn((), |()| sleep_forever()).unwrap();
        assert_eq!(child.exit_code(), None);
        signal(&child).unwrap();
        let error = child.join_timeout(PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Process);
        assert_eq!(child.exit_code(), Some(code));
        signal(&child).unwrap();
    }
}

/// A result that came in full is the result, though the child was killed after it; the exit code tells.
#[test]
fn a_result_outlives_its_child() {
    commons::init_test!();
    let mut child = Process::spawn(7, |n: u64| {
        Manager::new().unwrap().dict::<u64, u64>().map(|dict| dict.insert(&n, &n).map(|_| dict).unwrap()).unwrap()
    })
    .unwrap();
    // It waits for its result to be taken.
    std::thread::sleep(Duration::from_millis(100));
    child.kill().unwrap();
    poll(&mut [PollFd::from_borrowed_fd(child.sentinel(), PollFlags::IN)], None).unwrap();
    // Its segment is gone with it: an error of the handle, and none of the child's.
    let error = child.join_timeout(PATIENCE).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Process, "{error}");
    assert_eq!(child.exit_code(), Some(-9));
}

/// A sentinel is readable from the end of its process on, however it ended, and stays so; one thread waits for many.
#[test]
fn sentinels_are_polled() {
    commons::init_test!();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let go: Queue<()> = Manager::new().unwrap().queue(4).unwrap();
    let slow = Process::spawn(go.clone(), |go: Queue<()>| go.get().unwrap()).unwrap();
    let mut quick = Process::spawn((), |()| vec!["result".to_owned()]).unwrap();
    let ready = |fds: &mut [PollFd<'_>], timeout| {
        poll(fds, timeout).unwrap();
        fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>()
    };
    fn watch(process: BorrowedFd<'_>) -> PollFd<'_> {
        PollFd::from_borrowed_fd(process, PollFlags::IN)
    }
    assert_eq!(ready(&mut [watch(slow.sentinel()), watch(quick.sentinel())], None), [false, true]);
    assert_eq!(quick.join_timeout(PATIENCE).unwrap().unwrap(), ["result"]);
    assert_eq!(ready(&mut [watch(quick.sentinel())], Some(&now)), [true]);
    assert_eq!(ready(&mut [watch(slow.sentinel())], Some(&now)), [false]);
    go.put(&()).unwrap();
    assert_eq!(ready(&mut [watch(slow.sentinel())], None), [true]);
    slow.join().unwrap();
}

/// A child knows its parent, by pid and name, sees it live, and notices its death.
#[test]
fn parents_are_known() {
    commons::init_test!();
    assert!(Process::parent().is_none());
    fn child(reports: Queue<(u32, Option<String>, bool, bool)>) {
        let parent = Process::parent().unwrap();
        let early = parent.wait_timeout(Duration::from_millis(10));
        reports.put(&(parent.pid(), parent.name().map(str::to_owned), parent.is_alive(), early)).unwrap();
        let ended = parent.wait_timeout(PATIENCE);
        reports.put(&(parent.pid(), None, parent.is_alive(), ended)).unwrap();
    }
    let reports = Manager::new().unwrap().queue(4).unwrap();
    let start = |reports: Queue<_>| {
        Process::spawn(reports, child).unwrap();
        sleep_forever();
    };
    let parent = Process::builder().name("the parent").spawn(reports.clone(), start).unwrap();
    let pid = parent.pid();
    assert_eq!(reports.get_timeout(PATIENCE).unwrap(), Some((pid, Some("the parent".into()), true, false)));
    parent.kill().unwrap();
    assert_eq!(reports.get_timeout(PATIENCE).unwrap(), Some((pid, None, false, true)));
}

/// The active children are those that have not ended, dropped ones included.
#[test]
fn active_children_are_listed() {
    commons::init_test!();
    // In a process of its own: the other tests of this binary have children too.
    let listed = Process::spawn((), |()| {
        let first = Process::builder().name("first").spawn((), |()| sleep_forever()).unwrap();
        let second = Process::builder().name("second").daemon(true).spawn((), |()| sleep_forever()).unwrap();
        let ended = Process::spawn((), |()| ()).unwrap();
        let sentinel = ended.sentinel();
        poll(&mut [PollFd::from_borrowed_fd(sentinel, PollFlags::IN)], None).unwrap();
        let mut expected = vec![(first.pid(), "first".to_owned(), false), (second.pid(), "second".to_owned(), true)];
        expected.sort();
        drop(second);
        let list = || -> Vec<(u32, String, bool)> {
            let children = Process::active_children();
            let mut list: Vec<_> = children
                .iter()
                .map(|child| (child.pid(), child.name().unwrap_or_default().to_owned(), child.is_daemon()))
                .collect();
            list.sort();
            list
        };
        let as_expected = list() == expected;
        let children = Process::active_children();
        children.iter().for_each(|child| child.terminate().unwrap());
        assert!(first.join().is_err());
        eventually("no children", || Process::active_children().is_empty());
        as_expected && children.iter().all(|child| !child.is_alive())
    });
    assert!(listed.unwrap().join().unwrap());
}

/// Daemons end with their parent: asked to, when it ends in order; killed, when it is killed. Others go on.
#[test]
fn daemons_end_with_their_parent() {
    commons::init_test!();
    fn sleeper(pids: Queue<u32>) {
        pids.put(&std::process::id()).unwrap();
        sleep_forever();
    }
    fn parent((pids, wait): (Queue<u32>, bool)) {
        drop(Process::builder().daemon(true).spawn(pids.clone(), sleeper).unwrap());
        let deaf = |pids: Queue<u32>| {
            // SAFETY: ignoring a signal has no handler.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            sleeper(pids);
        };
        drop(Process::builder().daemon(true).spawn(pids, deaf).unwrap());
        if wait {
            sleep_forever();
        }
        // It ends in order once both have reported.
        std::thread::sleep(Duration::from_millis(300));
    }
    for killed in [false, true] {
        let pids = Manager::new().unwrap().queue::<u32>(4).unwrap();
        let process = Process::spawn((pids.clone(), killed), parent).unwrap();
        let daemons = [pids.get_timeout(PATIENCE).unwrap().unwrap(), pids.get_timeout(PATIENCE).unwrap().unwrap()];
        if killed {
            assert!(daemons.iter().all(|pid| runs(*pid)));
            process.kill().unwrap();
        }
        assert_eq!(process.join().is_err(), killed);
        eventually("the daemons have ended", || daemons.iter().all(|pid| !runs(*pid)));
    }
}

/// Environment and standard streams are the child's only; what it prints goes where it was told.
#[test]
fn environment_and_streams() {
    commons::init_test!();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let builder = Process::builder()
        .env("GONE", "x")
        .env_clear()
        .env("COMMONS_OPTION", "one")
        .env("COMMONS_OTHER", "two")
        .env_remove("COMMONS_OTHER")
        .stdout(writer)
        .stderr(std::fs::File::create(&log).unwrap());
    let look = |()| {
        println!("<out>");
        eprintln!("<err>");
        std::env::vars().collect::<Vec<_>>()
    };
    // Twice with the same builder.
    for _ in 0..2 {
        let variables = builder.spawn((), look).unwrap().join().unwrap();
        assert_eq!(variables, [("COMMONS_OPTION".to_owned(), "one".to_owned())]);
    }
    drop(builder);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    assert_eq!(output.matches("<out>\n").count(), 2);
    assert_eq!(std::fs::read_to_string(log).unwrap(), "<err>\n<err>\n");
    assert!(std::env::var_os("COMMONS_OPTION").is_none() && std::env::var_os("PATH").is_some());
}

/// A child runs on the processors that it was given, all its threads included.
#[test]
fn processors() {
    commons::init_test!();
    let count = |()| {
        let here = std::thread::available_parallelism().unwrap().get();
        here.max(std::thread::spawn(|| std::thread::available_parallelism().unwrap().get()).join().unwrap())
    };
    assert_eq!(Process::builder().cpus([0]).spawn((), count).unwrap().join().unwrap(), 1);
    let error = Process::builder().cpus([1000]).spawn((), count).unwrap().join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

/// Options that nothing can be done with are refused at once.
#[test]
fn bad_options_are_refused() {
    commons::init_test!();
    let builder = Process::builder;
    for builder in [
        builder().name("a\0b"),
        builder().env("", "x"),
        builder().env("A=B", "x"),
        builder().env("A", "x\0y"),
        builder().env_remove("A\0"),
        builder().cpus([]),
        builder().cpus([0, 5000]),
    ] {
        assert_eq!(builder.spawn((), |()| ()).unwrap_err().kind(), ErrorKind::InvalidInput, "{builder:?}");
        // SAFETY: refused before anything is forked.
        assert_eq!(unsafe { builder.fork(|| ()) }.unwrap_err().kind(), ErrorKind::InvalidInput, "{builder:?}");
    }
}

/// This test's program, with its build id changed: another build, as far as anybody can tell.
fn another_build(to: &Path) {
    let mut bytes = std::fs::read("/proc/self/exe").unwrap();
    let note = [4u32, 20, 3].map(u32::to_le_bytes).concat();
    let note = [&note[..], b"GNU\0"].concat();
    // Without one, a copy has another identity anyway.
    if let Some(at) = bytes.windows(16).position(|window| window == note) {
        bytes[at + 16] ^= 1;
    }
    let draft = to.with_extension("draft");
    std::fs::write(&draft, bytes).unwrap();
    copy(&draft, to);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(to, mode).unwrap();
}

/// Copies a program by another process: a file that this one has open for writing, a child of another test that is just
/// starting has too, and then it cannot be run.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("--preserve=mode").args([from, to]).status().unwrap().success());
}

/// An executable that is not there, may not be run, is another build, or knows nothing of this library: each an error, at
/// once.
#[test]
fn bad_executables_are_errors() {
    commons::init_test!();
    let directory = tempfile::tempdir().unwrap();
    let start = |path: &Path| Process::builder().executable(path).spawn(1, |n: u64| n);
    let error = start(Path::new("/nonexistent/program")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    let error = start(&plain).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let error = start(Path::new("/bin/true")).unwrap().join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    assert!(error.to_string().contains("ended without an answer"), "{error}");
    let other = directory.path().join("other");
    another_build(&other);
    let error = start(&other).unwrap().join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OtherProgram, "{error}");
    assert!(error.to_string().contains("another build"), "{error}");
}

/// A process whose executable was replaced on disk, and then removed, goes on starting children of the old one.
#[test]
fn the_executable_may_be_replaced() {
    commons::init_test!();
    if let Ok(path) = std::env::var("COMMONS_REPLACED") {
        let path = Path::new(&path);
        assert_eq!(std::fs::canonicalize("/proc/self/exe").unwrap(), std::fs::canonicalize(path).unwrap());
        let try_both = |what: &str| {
            assert_eq!(Process::spawn(20, |n: u64| n + 2).unwrap().join().unwrap(), 22, "{what}");
        };
        try_both("as it was");
        let new = path.with_extension("new");
        another_build(&new);
        std::fs::rename(&new, path).unwrap();
        try_both("replaced");
        let error = Process::builder().executable(path).spawn(1, |n: u64| n).unwrap().join().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OtherProgram, "{error}");
        std::fs::remove_file(path).unwrap();
        try_both("removed");
        let error = Process::builder().executable(path).spawn(1, |n: u64| n).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("program");
    self::copy(&std::env::current_exe().unwrap(), &copy);
    let output = Command::new(&copy)
        .args(["the_executable_may_be_replaced", "--exact", "--nocapture"])
        .env("COMMONS_REPLACED", &copy)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Trouble {
    Odd(u64),
}

/// A function's own error comes back typed; this library's with kind, text, and every error of its chain.
#[test]
fn errors_keep_their_chain() {
    commons::init_test!();
    let halve = |n: u64| if n.is_multiple_of(2) { Ok(n / 2) } else { Err(Trouble::Odd(n)) };
    assert_eq!(Process::spawn(4, halve).unwrap().join().unwrap(), Ok(2));
    assert_eq!(Process::spawn(5, halve).unwrap().join().unwrap(), Err(Trouble::Odd(5)));

    fn read(path: String) -> commons::Result<String> {
        let open = || std::fs::read_to_string(&path).map_err(|error| Error::from_io(error, path.clone()));
        open().map_err(|error| Error::other(error, "the configuration"))
    }
    let error = Process::spawn("/nonexistent".to_owned(), read).unwrap().join().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.context()), (ErrorKind::Other, "the configuration"));
    let middle = error.source().unwrap();
    assert!(middle.to_string().starts_with("/nonexistent: not found"), "{middle}");
    let last: &std::io::Error = middle.source().unwrap().downcast_ref().unwrap();
    assert_eq!(last.kind(), std::io::ErrorKind::NotFound);

    // What goes wrong on the way comes in the same form.
    let error = Process::spawn(1, |_: u64| -> commons::Result<()> { panic!("message") }).unwrap().join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("message, at tests/process_options.rs:"), "{error}");
    assert!(error.backtrace().unwrap().contains("errors_keep_their_chain"), "{error:?}");
    assert!(format!("{error:?}").contains("errors_keep_their_chain"));
    let mute = Process::builder().env("RUST_BACKTRACE", "0").spawn(1, |_: u64| -> () { panic!("message") }).unwrap();
    let error = mute.join().unwrap_err();
    assert_eq!(error.backtrace(), None);
}

/// Captures are values, moved, renamed, made mutable, taken apart; options, return types and `?` work; the caller keeps
/// what it cloned.
#[test]
fn closures_with_captures() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let dict: Dict<String, u64> = manager.dict().unwrap();
    let (number, mut list) = (3u64, vec![1u64]);
    list.push(2);
    let child = spawn!((number, dict.clone() => mine, mut list, (1u8, 2u8) => (a, _), number * 2 => mut twice,) || {
        list.push(number);
        twice += u64::from(a);
        mine.insert("twice", &twice).unwrap();
        list
    });
    assert_eq!(child.unwrap().join().unwrap(), [1, 2, 3]);
    assert_eq!(dict.get("twice").unwrap(), Some(7));
    let builder = Process::builder().name("reader");
    let child =
        spawn!(builder, (dict) || -> commons::Result<Option<u64>> { Ok(dict.get("twice")?.filter(|n| *n > 0)) })
            .unwrap();
    assert_eq!(child.name(), Some("reader"));
    assert_eq!(child.join().unwrap().unwrap(), Some(7));
    assert_eq!(spawn!(|| 1 + 1).unwrap().join().unwrap(), 2);
    assert_eq!(spawn!(Process::builder(), || "x".to_owned()).unwrap().join().unwrap(), "x");
    assert_eq!(spawn!(() || -> u8 { return 5 }).unwrap().join().unwrap(), 5);
}

/// A timed join waits for as long as it was told, and for nothing else; the process goes on.
#[test]
fn a_timed_join_is_timed() {
    commons::init_test!();
    let mut child = Process::spawn((), |()| sleep_forever()).unwrap();
    let start = Instant::now();
    assert_eq!(child.join_timeout(Duration::from_millis(50)).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(child.join_timeout(Duration::ZERO).unwrap(), None);
    assert!(child.is_alive());
    child.kill().unwrap();
    assert!(child.join().is_err());
}
