//! Proves what a process may rely on in its children, and they in it: results, panics and deaths arrive, handles
//! travel, and nothing leaks.
//!
//! Children meet the tests only over what they share. A child that is to be killed reports first, then sleeps far
//! longer than any test takes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use commons::{Dict, ErrorKind, Lock, Manager, Process, Queue};
use serde::{Deserialize, Deserializer, Serialize};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// Far longer than that.
const FOREVER: Duration = Duration::from_secs(600);

fn sleep_forever() {
    std::thread::sleep(FOREVER);
}

/// Whether `condition` comes true.
fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Whether process `pid` runs; a zombie does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The result of a function comes back, of a named function and of a closure without captures, from several children at
/// once and from a child's child.
#[test]
fn results_come_back() {
    commons::init_test!();
    fn power((base, exponent): (u64, u32)) -> u64 {
        base.pow(exponent)
    }
    let children: Vec<_> = (0..5).map(|exponent| Process::spawn((3, exponent), power).unwrap()).collect();
    let powers: Vec<u64> = children.into_iter().map(|child| child.join().unwrap()).collect();
    assert_eq!(powers, [1, 3, 9, 27, 81]);
    let text = Process::spawn("ab".to_owned(), |text: String| text.repeat(3)).unwrap();
    assert_eq!(text.join().unwrap(), "ababab");
    let nested = Process::spawn((), |()| Process::spawn((2, 10), power).unwrap().join().unwrap()).unwrap();
    assert_eq!(nested.join().unwrap(), 1024);
}

/// A child knows nothing of how it was started: no mark in its environment, no descriptor besides the standard ones but
/// its channel, which programs that it starts do not inherit.
#[test]
fn nothing_leaks_into_grandchildren() {
    commons::init_test!();
    let listed = Process::spawn((), |()| {
        let list = Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::inherit()).output().unwrap();
        String::from_utf8_lossy(&list.stdout).into_owned()
    });
    let listed = listed.unwrap().join().unwrap();
    assert!(!listed.contains("socket:"), "{listed}");
    assert!(listed.contains("/dev/null"), "{listed}");
}

#[derive(Serialize, Deserialize)]
struct Shared {
    inner: Option<Inner>,
    lock: Lock<u64>,
    manager: Manager,
}

#[derive(Serialize, Deserialize)]
struct Inner {
    dict: Dict<String, Queue<u64>>,
    queue: Queue<u64>,
}

/// Handles of all kinds, nested in a struct, arrive and mean the same objects; the parent's own may be gone at once.
#[test]
fn handles_travel_in_arguments() {
    commons::init_test!();
    fn work(shared: Shared) {
        let Inner { dict, queue } = shared.inner.unwrap();
        let found = dict.get("queue").unwrap().unwrap();
        assert_eq!(found, queue);
        let number = found.get().unwrap();
        let guard = shared.lock.lock().unwrap().into_guard();
        guard.set(&(guard.get().unwrap() + number)).unwrap();
        shared.manager.named("seen").dict::<u64, u64>().unwrap().insert(&number, &1).unwrap();
    }
    let manager = Manager::new().unwrap();
    let (queue, lock) = (manager.queue(4).unwrap(), manager.lock(40).unwrap());
    {
        let dict = manager.dict().unwrap();
        dict.insert("queue", &queue).unwrap();
        let inner = Some(Inner { dict, queue: queue.clone() });
        let shared = Shared { inner, lock: lock.clone(), manager: manager.clone() };
        let child = Process::spawn(shared, work).unwrap();
        queue.put(&2).unwrap();
        child.join().unwrap();
    }
    assert_eq!(lock.lock().unwrap().into_guard().get().unwrap(), 42);
    assert_eq!(manager.existing("seen").dict::<u64, u64>().unwrap().get(&2).unwrap(), Some(1));
    manager.unlink("seen").unwrap();
    drop((queue, lock));
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 0, "a child's arguments are let go of");
    manager.check().unwrap();
}

/// The only handle of the only manager may be given away, even if the `Process` is dropped at once: it lives until the
/// child has it.
#[test]
fn arguments_live_until_the_child_has_them() {
    commons::init_test!();
    let answers = Manager::new().unwrap().queue::<u64>(4).unwrap();
    let numbers = Manager::new().unwrap().dict::<u64, u64>().unwrap();
    numbers.insert(&1, &77).unwrap();
    drop(Process::spawn((numbers, answers.clone()), |(numbers, answers): (Dict<u64, u64>, Queue<u64>)| {
        answers.put(&numbers.get(&1).unwrap().unwrap()).unwrap();
    }));
    assert_eq!(answers.get_timeout(PATIENCE).unwrap(), Some(77));
}

/// A child can return a handle of an object in a segment of its own, and keeps both until the parent has them.
#[test]
fn handles_travel_in_results() {
    commons::init_test!();
    fn make(number: u64) -> Vec<Dict<u64, u64>> {
        let dict = Manager::new().unwrap().dict().unwrap();
        dict.insert(&number, &(number + 1)).unwrap();
        vec![dict]
    }
    let made = Process::spawn(7, make).unwrap().join().unwrap();
    assert_eq!(made[0].get(&7).unwrap(), Some(8));
    // Nobody waits in vain for a result to be taken: looking is enough, and so is not to care.
    let mut looked_at = Process::spawn(8, make).unwrap();
    assert!(comes_true(|| !looked_at.is_alive()));
    assert_eq!(looked_at.join().unwrap()[0].get(&8).unwrap(), Some(9));
    let dropped = Process::spawn(9, make).unwrap();
    let pid = dropped.pid();
    drop(dropped);
    assert!(comes_true(|| !runs(pid)));
}

/// A panic arrives as an error with its message and place, and the child's name; a panic in decoding too.
#[test]
fn panics_come_back() {
    commons::init_test!();
    let child = Process::builder().name("thrower").spawn(3, |n: u32| assert_eq!(n, 4, "number {n}")).unwrap();
    let error = child.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    for part in ["`thrower`", "number 3", "tests/process.rs:"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }

    #[derive(Serialize)]
    struct Bad;
    impl<'de> Deserialize<'de> for Bad {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Bad, D::Error> {
            panic!("bad in {}", std::process::id())
        }
    }
    let child = Process::spawn(Bad, |_| ()).unwrap();
    let expected = format!("bad in {}", child.pid());
    let error = child.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains(&expected), "{error}");
}

/// A child that exits in its function is an error that names the exit code, also while its own child lives on.
#[test]
fn an_early_exit_is_an_error() {
    commons::init_test!();
    let error = Process::spawn((), |()| -> u8 { std::process::exit(3) }).unwrap().join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    assert!(error.to_string().contains("exit status: 3"), "{error}");

    let leave_sleeper = |()| -> u8 {
        // Holds none of ours: its output is not the test's, which somebody may wait for.
        let mut sleep = Command::new("sleep");
        sleep.arg(PATIENCE.as_secs().to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::process::exit(4)
    };
    let mut child = Process::builder().name("leaver").spawn((), leave_sleeper).unwrap();
    let error = child.join_timeout(PATIENCE).unwrap_err();
    assert!(error.to_string().contains("`leaver`") && error.to_string().contains("exit status: 4"), "{error}");
    assert_eq!(child.join_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A killed child is an error that names the signal, at once, whether it kills itself, aborts, or is killed by the
/// parent in its function or before it got there.
#[test]
fn a_killed_child_is_an_error() {
    commons::init_test!();
    let kill_myself = |()| {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        sleep_forever();
    };
    let error = Process::spawn((), kill_myself).unwrap().join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    assert!(error.to_string().contains("SIGKILL"), "{error}");
    let error = Process::spawn((), |()| -> () { std::process::abort() }).unwrap().join().unwrap_err();
    assert!(error.to_string().contains("SIGABRT"), "{error}");

    let started = Manager::new().unwrap().queue::<u32>(1).unwrap();
    let report_and_sleep = |started: Queue<u32>| {
        started.put(&std::process::id()).unwrap();
        sleep_forever();
    };
    let mut child = Process::spawn(started.clone(), report_and_sleep).unwrap();
    assert_eq!(started.get_timeout(PATIENCE).unwrap(), Some(child.pid()));
    assert!(child.is_alive());
    assert_eq!(child.join_timeout(Duration::from_millis(20)).unwrap(), None);
    child.kill().unwrap();
    let error = child.join_timeout(PATIENCE).unwrap_err();
    assert!(error.to_string().contains("SIGKILL"), "{error}");
    assert!(!child.is_alive());
    child.kill().unwrap();

    let child = Process::spawn((), |()| sleep_forever()).unwrap();
    child.kill().unwrap();
    let error = child.join().unwrap_err();
    assert!(error.to_string().contains("SIGKILL"), "{error}");
}

/// A lock that a killed child held is taken over, and says so.
#[test]
fn a_killed_childs_lock_is_recovered() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (lock, held) = (manager.lock(5u64).unwrap(), manager.queue::<()>(1).unwrap());
    let child = Process::spawn((lock.clone(), held.clone()), |(lock, held): (Lock<u64>, Queue<()>)| {
        let guard = lock.lock().unwrap().into_guard();
        guard.set(&6).unwrap();
        held.put(&()).unwrap();
        sleep_forever();
    });
    let child = child.unwrap();
    assert!(held.get_timeout(PATIENCE).unwrap().is_some());
    child.kill().unwrap();
    let guard = lock.lock_timeout(PATIENCE).unwrap().expect("the lock of a dead holder");
    assert!(guard.is_recovered());
    assert_eq!(guard.into_guard().get().unwrap(), 6);
    assert!(child.join().is_err());
}

/// A child built to is killed when its parent is, though the thread that started it has long ended; and is not before.
#[test]
fn a_child_can_die_with_its_parent() {
    commons::init_test!();
    fn sleeper(pids: Queue<u32>) {
        pids.put(&std::process::id()).unwrap();
        sleep_forever();
    }
    fn parent(pids: Queue<u32>) {
        let start = move || Process::builder().kill_with_parent(true).spawn(pids, sleeper).unwrap();
        let child = std::thread::spawn(start).join().unwrap();
        child.join().unwrap();
    }
    let pids = Manager::new().unwrap().queue::<u32>(1).unwrap();
    let child = Process::spawn(pids.clone(), parent).unwrap();
    let grandchild = pids.get_timeout(PATIENCE).unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(runs(grandchild));
    child.kill().unwrap();
    assert!(child.join().is_err());
    assert!(comes_true(|| !runs(grandchild)));
}

/// A dict that is decoded only when the process that sent it, and alone had it, is dead. What came of that is reported.
#[derive(Serialize)]
struct Late {
    reports: Queue<String>,
    dict: Dict<u64, u64>,
}

impl<'de> Deserialize<'de> for Late {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Late, D::Error> {
        /// Decoded first, and then waits.
        struct Wait(Queue<String>);
        impl<'de> Deserialize<'de> for Wait {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wait, D::Error> {
                let reports = Queue::deserialize(deserializer)?;
                let parent = std::os::unix::process::parent_id();
                reports.put(&"waiting".into()).unwrap();
                assert!(comes_true(|| std::os::unix::process::parent_id() != parent));
                Ok(Wait(reports))
            }
        }
        /// Reports what became of it.
        struct Probe(Result<Dict<u64, u64>, String>);
        impl<'de> Deserialize<'de> for Probe {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Probe, D::Error> {
                Ok(Probe(Dict::deserialize(deserializer).map_err(|e| e.to_string())))
            }
        }
        let (Wait(reports), Probe(dict)) = <(Wait, Probe)>::deserialize(deserializer)?;
        reports.put(&dict.as_ref().err().cloned().unwrap_or_else(|| "found".into())).unwrap();
        Ok(Late { reports, dict: dict.map_err(serde::de::Error::custom)? })
    }
}

/// A child whose parent dies before the arguments are decoded, and with it the segment that they name, gets an error
/// and ends.
#[test]
fn a_dead_parents_handles_are_an_error() {
    commons::init_test!();
    fn parent(reports: Queue<String>) {
        let dict = Manager::new().unwrap().dict().unwrap();
        let _ = Process::spawn(Late { reports, dict }, |late: Late| drop((late.reports, late.dict))).unwrap().join();
    }
    let reports = Manager::new().unwrap().queue(4).unwrap();
    let child = Process::spawn(reports.clone(), parent).unwrap();
    assert_eq!(reports.get_timeout(PATIENCE).unwrap().as_deref(), Some("waiting"));
    child.kill().unwrap();
    assert!(child.join().is_err());
    let report = reports.get_timeout(PATIENCE).unwrap().expect("a report");
    assert_ne!(report, "found");
}

/// Children that are joined, killed, or dropped leave no descriptor and no zombie behind. In a process of its own, where
/// no other test opens files.
#[test]
fn children_leave_nothing_behind() {
    commons::init_test!();
    fn measure((): ()) -> (usize, usize, usize) {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        // One first: it opens what stays open.
        Process::spawn(1, |n: u32| n).unwrap().join().unwrap();
        let before = descriptors();
        for n in 0..100 {
            let child = Process::spawn(n, |n: u32| n).unwrap();
            match n % 4 {
                0 => drop(child),
                1 => {
                    child.kill().unwrap();
                    let _ = child.join();
                }
                _ => assert_eq!(child.join().unwrap(), n),
            }
        }
        // Dropped ones are reaped by the way.
        let settled = || {
            Process::spawn((), |()| ()).unwrap().join().unwrap();
            let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
            (descriptors(), children.split_whitespace().count())
        };
        comes_true(|| settled() == (before, 0));
        let (after, zombies) = settled();
        (before, after, zombies)
    }
    let (before, after, zombies) = Process::spawn((), measure).unwrap().join().unwrap();
    assert_eq!((after, zombies), (before, 0));
}

/// Arguments and results of many MiB go through, and neither side waits for the other for ever; nor if the child dies
/// without reading them.
#[test]
fn large_values_go_through() {
    commons::init_test!();
    let bytes: Vec<u8> = (0..8usize << 20).map(|i| (i % 251) as u8).collect();
    let child = Process::spawn(bytes.clone(), |mut bytes: Vec<u8>| {
        bytes.reverse();
        bytes
    });
    let mut reversed = child.unwrap().join().unwrap();
    reversed.reverse();
    assert!(reversed == bytes);

    /// Dies at its first byte.
    #[derive(Serialize)]
    struct Deadly(Vec<u8>);
    impl<'de> Deserialize<'de> for Deadly {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Deadly, D::Error> {
            std::process::exit(9)
        }
    }
    let child = Process::spawn(Deadly(bytes), |deadly| drop(deadly.0)).unwrap();
    assert!(child.join().unwrap_err().to_string().contains("exit status: 9"));
}

/// Names that no process can have are refused; what a child cannot encode is an error of its parent's.
#[test]
fn bad_names_and_values_are_errors() {
    commons::init_test!();
    for name in ["a\0b".to_owned(), "x".repeat(201)] {
        let error = Process::builder().name(name).spawn((), |()| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[derive(Deserialize)]
    struct Mute;
    impl Serialize for Mute {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("mute"))
        }
    }
    assert_eq!(Process::spawn(Mute, |_| ()).unwrap_err().kind(), ErrorKind::Encode);
    let error = Process::spawn((), |()| Mute).unwrap().join().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
}

/// The result is there only once; a child's name is the one it was given, for the kernel too.
#[test]
fn names_and_pids() {
    commons::init_test!();
    let child = Process::builder()
        .name("a name that is long")
        .spawn((), |()| (std::process::id(), std::fs::read_to_string("/proc/thread-self/comm").unwrap()));
    let mut child = child.unwrap();
    assert_eq!(child.name(), Some("a name that is long"));
    let pid = child.pid();
    assert_eq!(child.join_timeout(PATIENCE).unwrap(), Some((pid, "a name that is \n".into())));
    assert_eq!(child.join().unwrap_err().kind(), ErrorKind::InvalidInput);
}
