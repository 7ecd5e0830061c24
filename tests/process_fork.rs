//! Proves that a forked child runs any closure, reports as a fresh one does, shares objects with its parent, leaves what is
//! its parent's alone, and works while other threads of the parent hold every lock there is.

mod common;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Dice, eventually};
use commons::{Dict, ErrorKind, Lock, Manager, Process, Queue};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = common::PATIENCE;
const FOREVER: Duration = Duration::from_secs(600);

/// Forks. What the tests do in children is within the contract, also where the test harness has other threads.
fn fork<R>(function: impl FnOnce() -> R) -> Process<R>
where
    R: Serialize + serde::de::DeserializeOwned + 'static,
{
    // SAFETY: the closures of these tests use handles and processes of this library, the allocator, standard output, and
    // memory that no other thread changes.
    unsafe { Process::fork(function) }.unwrap()
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Captures by reference and by value reach the child, whose changes stay its own; results come back, nested ones too.
#[test]
fn any_closure_runs() {
    let mut numbers = vec![1, 2, 3];
    let text = String::from("text");
    let child = fork(|| {
        numbers.push(4);
        format!("{text} {numbers:?}")
    });
    assert_eq!(child.join().unwrap(), "text [1, 2, 3, 4]");
    assert_eq!(numbers, [1, 2, 3]);
    let boxed: Box<dyn FnOnce() -> usize> = Box::new(move || text.len());
    let child = fork(move || fork(boxed).join().unwrap() + 1);
    assert_eq!(child.join().unwrap(), 5);
}

/// A fresh process can be started from a forked one, and the other way round.
#[test]
fn fork_and_spawn_mix() {
    commons::init_test!();
    let child = fork(|| Process::spawn(20, |n: u64| fork(|| n + 1).join().unwrap()).unwrap().join().unwrap() + 1);
    assert_eq!(child.join().unwrap(), 22);
}

/// Parent and child work on the same objects; each holds them for itself, so either may go first.
#[test]
fn objects_are_shared() {
    let manager = Manager::new().unwrap();
    let (dict, lock) = (manager.dict::<u64, u64>().unwrap(), manager.lock(0u64).unwrap());
    let children: Vec<_> = (0..8)
        .map(|n| {
            let dict = &dict;
            let lock = &lock;
            fork(move || {
                dict.insert(&n, &(n * n)).unwrap();
                let guard = lock.lock().unwrap().into_guard();
                guard.set(&(guard.get().unwrap() + n)).unwrap();
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(dict.snapshot().unwrap().len(), 8);
    assert_eq!(lock.lock().unwrap().into_guard().get().unwrap(), 28);
    drop((dict, lock));
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 0);
    manager.check().unwrap();
}

/// The first use of a segment in a child makes it a member, once, also if several of its threads come first at once.
#[test]
fn a_childs_threads_join_together() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, u64>().unwrap();
    for _ in 0..20 {
        let child = fork(|| {
            let barrier = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for n in 0..4 {
                    let (barrier, dict) = (&barrier, &dict);
                    scope.spawn(move || {
                        barrier.wait();
                        dict.insert(&n, &n).unwrap();
                    });
                }
            });
            dict.snapshot().unwrap().len()
        });
        assert_eq!(child.join().unwrap(), 4);
    }
    manager.check().unwrap();
}

/// The only handle of an object, and the only manager of a segment, may be given to the child: the parent holds them until
/// the child has ended.
#[test]
fn captured_handles_live_until_the_child_has_them() {
    let answers = Manager::new().unwrap().queue::<u64>(4).unwrap();
    let manager = Manager::new().unwrap();
    let watcher = manager.clone();
    let dict = manager.dict::<u64, u64>().unwrap();
    dict.insert(&1, &77).unwrap();
    let sink = answers.clone();
    let child = fork(move || {
        std::thread::sleep(Duration::from_millis(50));
        sink.put(&dict.get(&1).unwrap().unwrap()).unwrap();
        manager.dict::<u64, u64>().unwrap().insert(&1, &1).unwrap();
    });
    drop(child);
    assert_eq!(answers.get_timeout(PATIENCE).unwrap(), Some(77));
    eventually("the child's objects are gone", || {
        Process::active_children();
        watcher.collect().unwrap();
        watcher.objects().unwrap().is_empty()
    });

    let manager = Manager::new().unwrap();
    let child = fork(move || {
        std::thread::sleep(Duration::from_millis(50));
        let dict = manager.dict::<u64, u64>().unwrap();
        dict.insert(&2, &78).unwrap();
        dict
    });
    assert_eq!(child.join().unwrap().get(&2).unwrap(), Some(78));
}

/// Panics come with message, place and backtrace; values that cannot be encoded, exits and kills are errors; and the exit
/// code says which.
#[test]
fn failures_come_back() {
    let number = 3;
    let mut child = fork(|| assert_eq!(number, 4, "number {number}"));
    let error = child.join_timeout(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("number 3") && error.to_string().contains("tests/process_fork.rs:"), "{error}");
    assert!(error.backtrace().unwrap().contains("failures_come_back"), "{error:?}");
    assert_eq!(child.exit_code(), Some(101));

    #[derive(Deserialize)]
    struct Mute;
    impl Serialize for Mute {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("mute"))
        }
    }
    let mut child = fork(|| Mute);
    assert_eq!(child.join_timeout(PATIENCE).map(drop).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(child.exit_code(), Some(1));

    // SAFETY: ends the child without its parent's exit handlers.
    let mut child = fork(|| -> () { unsafe { libc::_exit(7) } });
    let error = child.join_timeout(PATIENCE).map(drop).unwrap_err();
    assert!(error.to_string().contains("exit status: 7"), "{error}");
    assert_eq!(child.exit_code(), Some(7));

    let mut child = fork(|| std::thread::sleep(FOREVER));
    assert_eq!(child.exit_code(), None);
    child.terminate().unwrap();
    assert_eq!(child.join_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::Process);
    assert_eq!(child.exit_code(), Some(-15));
}

/// A lock that a killed forked child held is taken over.
#[test]
fn a_killed_childs_lock_is_recovered() {
    let manager = Manager::new().unwrap();
    let (lock, held): (Lock<u64>, Queue<()>) = (manager.lock(5).unwrap(), manager.queue(1).unwrap());
    let child = fork(|| {
        let _guard = lock.lock().unwrap().into_guard();
        held.put(&()).unwrap();
        std::thread::sleep(FOREVER);
    });
    assert!(held.get_timeout(PATIENCE).unwrap().is_some());
    child.kill().unwrap();
    assert!(lock.lock_timeout(PATIENCE).unwrap().expect("the lock of a dead holder").is_recovered());
    assert!(child.join().is_err());
}

/// What the parent had printed and not flushed is printed once, what the child prints is flushed, and what the parent
/// registered for its exit, and its values' destructors, run in the parent only.
#[test]
fn the_parents_end_is_the_parents() {
    commons::init_test!();
    static ENDS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn at_exit() {
        if ENDS.fetch_add(1, Ordering::Relaxed) == 0 {
            print!("<exit>");
            let _ = std::io::stdout().flush();
        }
    }
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            print!("<drop>");
        }
    }
    let (mut reader, writer) = std::io::pipe().unwrap();
    let builder = Process::builder().stdout(writer);
    let process = builder.spawn((), |()| {
        // SAFETY: the handler lives as long as the program.
        assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
        let _loud = Loud;
        print!("<<begin>");
        fork(|| print!("<child>")).join().unwrap();
        print!("<parent>");
    });
    process.unwrap().join().unwrap();
    drop(builder);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    let (_, output) = output.split_once('<').unwrap();
    assert_eq!(output, "<begin><child><parent><drop><exit>");
}

/// Options hold for forked children too: name, environment, standard streams, processors.
#[test]
fn options_apply() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let builder = Process::builder()
        .name("a forked child")
        .env("COMMONS_FORK_TEST", "here")
        .env_remove("PATH")
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .cpus([0]);
    let name = || std::fs::read_to_string("/proc/self/comm").unwrap();
    let look = || {
        let _ = writeln!(std::io::stdout(), "out");
        let _ = writeln!(std::io::stderr(), "err");
        let mut input = String::new();
        std::io::stdin().read_to_string(&mut input).unwrap();
        let variable = |name: &str| std::env::var(name).ok();
        (
            name(),
            variable("COMMONS_FORK_TEST"),
            variable("PATH"),
            input,
            std::thread::available_parallelism().unwrap().get(),
        )
    };
    // SAFETY: as in `fork`.
    let child = unsafe { builder.fork(look) }.unwrap();
    drop(builder);
    let seen = child.join().unwrap();
    assert_eq!(seen, ("a forked child\n".into(), Some("here".into()), None, String::new(), 1));
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    assert_eq!(output, "out\nerr\n");
    assert_eq!(std::env::var_os("COMMONS_FORK_TEST"), None);
}

/// A forked child that is to die with its parent does, whichever thread forked it; and does not when only that thread ends.
#[test]
fn a_forked_child_can_die_with_its_parent() {
    commons::init_test!();
    fn parent(pids: Queue<u32>) {
        let start = || {
            let report_and_sleep = || {
                pids.put(&std::process::id()).unwrap();
                std::thread::sleep(FOREVER);
            };
            // SAFETY: as in `fork`.
            unsafe { Process::builder().kill_with_parent(true).fork(report_and_sleep) }.unwrap()
        };
        let child = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
        child.join().unwrap();
    }
    let pids = Manager::new().unwrap().queue::<u32>(1).unwrap();
    let child = Process::spawn(pids.clone(), parent).unwrap();
    let grandchild = pids.get_timeout(PATIENCE).unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(runs(grandchild));
    child.kill().unwrap();
    assert!(child.join().is_err());
    eventually("the grandchild has ended", || !runs(grandchild));
}

/// A forked child has none of its parent's children: its copy of a `Process` waits for nobody, and dropping it hurts
/// nobody. And its copy of the channel does not keep a sibling waiting.
#[test]
fn a_childs_copies_are_nobodys_parent() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let done: Queue<()> = manager.queue(1).unwrap();
    let make = |()| {
        let dict = Manager::new().unwrap().dict::<u64, u64>().unwrap();
        dict.insert(&1, &2).unwrap();
        dict
    };
    let mut first: Process<Dict<u64, u64>> = Process::spawn((), make).unwrap();
    let second = fork(|| {
        let kind = first.join_timeout(PATIENCE).map(drop).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert_eq!(first.exit_code(), None);
        assert!(Process::active_children().is_empty());
        done.get_timeout(PATIENCE).unwrap();
    });
    let dict = first.join_timeout(PATIENCE).unwrap().expect("it ends while its copies are open elsewhere");
    assert_eq!(dict.get(&1).unwrap(), Some(2));
    done.put(&()).unwrap();
    second.join().unwrap();

    let moved = Process::spawn(5, |n: u64| n).unwrap();
    let child = fork(|| {
        // A bitwise copy, as any forked child has of everything.
        // SAFETY: the child's memory is its own, and it ends without looking at the original.
        drop(unsafe { std::ptr::read(&moved) });
    });
    child.join().unwrap();
    assert_eq!(moved.join().unwrap(), 5);
}

/// Forks from several threads, while others do nothing but take and leave locks: of handles, of the allocator, of standard
/// output, of the sessions. No child hangs, and each does its work.
#[test]
fn forks_amid_threads() {
    commons::init_test!();
    // In a process of its own: the other tests of this binary are no part of it.
    let nowhere = std::fs::File::options().write(true).open("/dev/null").unwrap();
    let done = Process::builder().stdout(nowhere).spawn((), |()| {
        let manager = Manager::new().unwrap();
        let dict = manager.dict::<u64, u64>().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let busy = || {
                let mut dice = Dice(std::process::id().into());
                while !stop.load(Ordering::Relaxed) {
                    let clone = dict.clone();
                    clone.insert(&(1 << 40 | dice.below(100)), &dice.next()).unwrap();
                    let other = manager.queue::<Vec<u8>>(4).unwrap();
                    other.put(&vec![1; dice.below(5000) as usize]).unwrap();
                    eprint!("{}", String::new());
                    if dice.below(20) == 0 {
                        Manager::new().unwrap();
                    }
                }
            };
            (0..3).for_each(|_| drop(scope.spawn(busy)));
            let forkers: Vec<_> = (0..2u64)
                .map(|thread| {
                    let dict = &dict;
                    scope.spawn(move || {
                        for n in 0..100 {
                            let mut child = fork(|| {
                                println!("{n}");
                                dict.clone().insert(&(thread << 20 | n), &n).unwrap();
                                Manager::new().unwrap().dict::<u64, u64>().unwrap().insert(&1, &n).unwrap();
                            });
                            child.join_timeout(PATIENCE).unwrap().expect("a child that hangs");
                        }
                    })
                })
                .collect();
            let results: Vec<_> = forkers.into_iter().map(|forker| forker.join()).collect();
            stop.store(true, Ordering::Relaxed);
            results.into_iter().for_each(|result| result.unwrap());
        });
        manager.check().unwrap();
        dict.iter().filter(|entry| entry.as_ref().is_ok_and(|(key, _)| *key < 1 << 40)).count()
    });
    assert_eq!(done.unwrap().join().unwrap(), 200);
}

/// Forked children that are joined, killed or dropped leave no descriptor and no zombie behind.
#[test]
fn forked_children_leave_nothing_behind() {
    commons::init_test!();
    fn measure((): ()) -> (usize, usize, usize) {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        fork(|| 1).join().unwrap();
        let before = descriptors();
        for n in 0..100 {
            let child = fork(move || n);
            match n % 4 {
                0 => drop(child),
                1 => {
                    child.kill().unwrap();
                    let _ = child.join();
                }
                _ => assert_eq!(child.join().unwrap(), n),
            }
        }
        eventually("all are reaped", || Process::active_children().is_empty());
        Process::active_children();
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
        (before, descriptors(), children.split_whitespace().count())
    }
    let (before, after, zombies) = Process::spawn((), measure).unwrap().join().unwrap();
    assert_eq!((after, zombies), (before, 0));
}
