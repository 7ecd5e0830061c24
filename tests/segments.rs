//! Proves what becomes of segments as processes come, go, fork, exec and are killed: names, files, memory, handles.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use common::{Child, Unlink, eventually, fork, from_hex, hear, reap, role, say, shm_path, start, to_hex, unique};
use commons::{Dict, ErrorKind, Held, Lock, Manager, ObjectKind};

#[test]
fn children() {
    let Some((role, argument)) = role() else { return };
    match role.as_str() {
        "creates" => {
            let manager = Manager::create(&argument).unwrap();
            let dict = manager.named("d").dict::<u64, u64>().unwrap();
            dict.insert(&1, &10).unwrap();
            say("ready");
            hear();
        }
        "opens" => {
            let manager = Manager::open(&argument).unwrap();
            let dict = manager.existing("d").dict::<u64, u64>().unwrap();
            dict.insert(&u64::from(std::process::id()), &1).unwrap();
            say("ready");
            hear();
        }
        "races" => {
            hear();
            let manager = Manager::open_or_create(&argument).unwrap();
            let dict = manager.named("d").dict::<String, u64>().unwrap();
            dict.fetch_add("sum", 1).unwrap();
            say("ready");
            hear();
            assert_eq!(dict.get("sum").unwrap(), Some(8));
        }
        "persists" => {
            let manager = Manager::builder().persistent(true).create(&argument).unwrap();
            fill(&manager);
            say("ready");
            hear();
        }
        "file" => {
            let manager = Manager::builder().open_or_create_file(&argument).unwrap();
            fill(&manager);
            say("ready");
            hear();
        }
        "serialises" => {
            let manager = Manager::new().unwrap();
            let dict = manager.dict::<String, Vec<u64>>().unwrap();
            dict.insert("mine", &vec![1, 2]).unwrap();
            say(&to_hex(&postcard::to_stdvec(&dict).unwrap()));
            hear();
            assert_eq!(dict.get("theirs").unwrap(), Some(vec![3]));
        }
        "grows" => {
            let dict: Dict<u64, Vec<u8>> = postcard::from_bytes(&from_hex(&argument)).unwrap();
            say("ready");
            hear();
            for key in 0..200 {
                assert_eq!(dict.get(&key).unwrap().unwrap(), vec![key as u8; 40_000], "{key}");
            }
            for key in 200..400 {
                dict.insert(&key, &vec![key as u8; 40_000]).unwrap();
            }
        }
        "execs" => {
            let lock: Lock = postcard::from_bytes(&from_hex(&argument)).unwrap();
            let _ = lock.acquire().unwrap();
            say("held");
            hear();
            panic!("exec: {}", std::process::Command::new("/bin/sleep").arg("100").exec());
        }
        "forks" => {
            let lock: Lock = postcard::from_bytes(&from_hex(&argument)).unwrap();
            let _ = lock.acquire().unwrap();
            // The grandchild never touches the segment, and lives on with whatever a fork copies.
            let pid = fork(|| {
                std::thread::sleep(Duration::from_secs(60));
                0
            });
            say(&pid.to_string());
            hear();
        }
        role => panic!("{role}"),
    }
}

fn fill(manager: &Manager) {
    let dict = manager.named("d").dict::<u64, String>().unwrap();
    for key in 0..1000 {
        dict.insert(&key, &format!("value {key}")).unwrap();
    }
    manager.named("q").queue::<u64>(8).unwrap().try_put(&5).map(drop).unwrap();
}

fn assert_filled(manager: &Manager) {
    let dict = manager.existing("d").dict::<u64, String>().unwrap();
    assert_eq!(dict.len().unwrap(), 1000);
    for key in 0..1000 {
        assert_eq!(dict.get(&key).unwrap(), Some(format!("value {key}")));
    }
    assert_eq!(manager.existing("q").queue::<u64>(8).unwrap().len().unwrap(), 1);
    manager.check().unwrap();
}

fn ready(role: &str, argument: &str) -> Child {
    let mut child = start(role, argument);
    child.expect("ready");
    child
}

/// What one process creates another opens; with the last of them the name goes.
#[test]
fn a_name_goes_with_its_last_process() {
    let name = unique("shared");
    let _unlink = Unlink(name.clone());
    assert_eq!(Manager::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let mut creator = ready("creates", &name);
    let mut opener = ready("opens", &name);
    let manager = Manager::open(&name).unwrap();
    let dict = manager.existing("d").dict::<u64, u64>().unwrap();
    assert_eq!(dict.get(&1).unwrap(), Some(10));
    assert_eq!(dict.get(&u64::from(opener.pid())).unwrap(), Some(1));
    creator.tell("go");
    creator.succeed();
    assert_eq!(dict.get(&1).unwrap(), Some(10));
    drop((dict, manager));
    assert!(shm_path(&name).exists());
    opener.tell("go");
    opener.succeed();
    assert!(!shm_path(&name).exists());
    assert_eq!(Manager::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Eight processes that open or create at once get one segment and one object.
#[test]
fn races_end_with_one_segment() {
    for round in 0..4 {
        let name = unique(&format!("race{round}"));
        let _unlink = Unlink(name.clone());
        let mut children: Vec<_> = (0..8).map(|_| start("races", &name)).collect();
        std::thread::sleep(Duration::from_millis(50));
        children.iter_mut().for_each(|child| child.tell("go"));
        children.iter_mut().for_each(|child| child.expect("ready"));
        let manager = Manager::open(&name).unwrap();
        assert_eq!(manager.objects().unwrap().len(), 1);
        children.iter_mut().for_each(|child| child.tell("check"));
        children.iter_mut().for_each(Child::succeed);
        manager.check().unwrap();
        drop(manager);
        assert!(!shm_path(&name).exists());
    }
}

/// When all were killed, whoever looks next finds the name abandoned.
#[test]
fn an_abandoned_name_is_removed_by_who_looks() {
    let name = unique("abandoned");
    let _unlink = Unlink(name.clone());
    let (mut creator, mut opener) = (ready("creates", &name), ready("opens", &name));
    creator.kill();
    let manager = Manager::open(&name).unwrap();
    assert_eq!(manager.existing("d").dict::<u64, u64>().unwrap().get(&1).unwrap(), Some(10));
    manager.check().unwrap();
    drop(manager);
    opener.kill();
    assert!(shm_path(&name).exists());
    assert_eq!(Manager::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!shm_path(&name).exists());

    ready("creates", &name).kill();
    let manager = Manager::open_or_create(&name).unwrap();
    assert!(manager.objects().unwrap().is_empty(), "a fresh one");
    drop(manager);

    ready("creates", &name).kill();
    let manager = Manager::create(&name).unwrap();
    assert!(manager.objects().unwrap().is_empty(), "a fresh one");
}

#[test]
fn persistent_names_stay() {
    let name = unique("persistent");
    let _unlink = Unlink(name.clone());
    let mut child = ready("persists", &name);
    child.tell("go");
    child.succeed();
    assert_filled(&Manager::open(&name).unwrap());
    std::fs::remove_file(shm_path(&name)).unwrap();
    ready("persists", &name).kill();
    assert_filled(&Manager::open(&name).unwrap());
    assert_eq!(Manager::create(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_filled(&Manager::open(&name).unwrap());
    Manager::unlink_segment(&name).unwrap();
    assert_eq!(Manager::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn files_stay() {
    let dir = tempfile::tempdir().unwrap();
    for kill in [false, true] {
        let path = dir.path().join(format!("segment {kill}"));
        let mut child = ready("file", path.to_str().unwrap());
        if kill {
            child.kill();
        } else {
            child.tell("go");
            child.succeed();
        }
        assert_filled(&Manager::open_file(&path).unwrap());
        assert_filled(&Manager::builder().open_or_create_file(&path).unwrap());
        assert_eq!(Manager::builder().create_file(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// A creator that was killed before it published its segment leaves a file that is in nobody's way, and is swept up.
#[test]
fn a_killed_creators_file_does_not_block() {
    let name = unique("temporary");
    let _unlink = Unlink(name.clone());
    let left = Path::new("/dev/shm").join(format!("commons-tmp.{}", unique("left")));
    let file = std::fs::File::create(&left).unwrap();
    file.set_len(1 << 20).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    file.set_modified(long_ago).unwrap();
    drop(file);
    let manager = Manager::create(&name).unwrap();
    manager.named("d").dict::<u64, u64>().unwrap().insert(&1, &1).unwrap();
    let swept = !left.exists();
    let _ = std::fs::remove_file(&left);
    assert!(swept, "an old temporary file of nobody's stays");
}

/// A handle travels as bytes; the anonymous segment lives as long as one process has it, and no longer.
#[test]
fn handles_travel_and_anonymous_memory_goes() {
    let mut child = start("serialises", "");
    let bytes = from_hex(&child.hear());
    let dict: Dict<String, Vec<u64>> = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(dict.get("mine").unwrap(), Some(vec![1, 2]));
    dict.insert("theirs", &vec![3]).unwrap();
    let again: Dict<String, Vec<u64>> = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(dict, again);
    child.tell("look");
    child.succeed();
    assert_eq!(dict.get("mine").unwrap(), Some(vec![1, 2]), "it outlives its creator");
    drop((dict, again));

    let mut child = start("serialises", "");
    let bytes = from_hex(&child.hear());
    child.kill();
    assert!(postcard::from_bytes::<Dict<String, Vec<u64>>>(&bytes).is_err());
}

/// A forked child uses the handles that it inherited, and neither's death disturbs the other.
#[test]
fn a_forked_child_is_a_process_of_its_own() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, u64>().unwrap();
    dict.insert(&1, &1).unwrap();
    let pid = fork(|| {
        assert_eq!(dict.get(&1).unwrap(), Some(1));
        assert!(dict.insert(&2, &2).unwrap());
        let own = dict.clone();
        assert!(own.insert(&3, &3).unwrap());
        0
    });
    assert_eq!(reap(pid), 0);
    assert_eq!((dict.get(&2).unwrap(), dict.get(&3).unwrap()), (Some(2), Some(3)));

    let pid = fork(|| {
        dict.insert(&4, &4).unwrap();
        loop {
            dict.fetch_add(&5, 1).unwrap();
        }
    });
    eventually("the child works", || dict.get(&5).unwrap().is_some_and(|n| n > 100));
    // SAFETY: a child of ours that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    assert_eq!(reap(pid), -libc::SIGKILL);
    assert_eq!(dict.get(&4).unwrap(), Some(4));
    for key in 0..100 {
        dict.insert(&key, &key).unwrap();
    }
    manager.recover().unwrap();
    manager.check().unwrap();
    assert_eq!(dict.len().unwrap(), 100);
}

/// A child that forked without an exec does not keep its dead parent alive.
#[test]
fn a_dead_parent_is_seen_while_its_child_lives() {
    let manager = Manager::new().unwrap();
    let lock = manager.lock(()).unwrap();
    let mut parent = start("forks", &to_hex(&postcard::to_stdvec(&lock).unwrap()));
    let grandchild: libc::pid_t = parent.hear().parse().unwrap();
    assert!(lock.try_lock().unwrap().is_none());
    parent.kill();
    let held = lock.lock_timeout(Duration::from_secs(20)).unwrap();
    // SAFETY: plain system calls; the grandchild sleeps for a minute, so the pid is still its.
    let alive = unsafe { libc::kill(grandchild, 0) == 0 };
    // SAFETY: as above.
    unsafe { libc::kill(grandchild, libc::SIGKILL) };
    assert!(alive);
    assert!(matches!(held, Some(Held::Recovered(_))), "{held:?}");
    drop(held);
    manager.check().unwrap();
}

/// A process that became another program is dead to the segment, though its pid lives.
#[test]
fn exec_is_death() {
    let manager = Manager::new().unwrap();
    let lock = manager.lock(()).unwrap();
    let mut child = start("execs", &to_hex(&postcard::to_stdvec(&lock).unwrap()));
    child.expect("held");
    assert!(lock.try_lock().unwrap().is_none());
    child.tell("go");
    let held = lock.lock_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(held, Some(Held::Recovered(_))), "{held:?}");
    // SAFETY: signal 0 only asks.
    assert_eq!(unsafe { libc::kill(child.pid() as i32, 0) }, 0, "the process lives");
    drop(held);
    manager.check().unwrap();
}

#[test]
fn growth_is_seen_by_all() {
    let manager = Manager::new().unwrap();
    let dict = manager.dict::<u64, Vec<u8>>().unwrap();
    let mut child = start("grows", &to_hex(&postcard::to_stdvec(&dict).unwrap()));
    child.expect("ready");
    let before = manager.committed();
    for key in 0..200 {
        dict.insert(&key, &vec![key as u8; 40_000]).unwrap();
    }
    assert!(manager.committed() > before);
    child.tell("go");
    child.succeed();
    for key in 200..400 {
        assert_eq!(dict.get(&key).unwrap().unwrap(), vec![key as u8; 40_000], "{key}");
    }
    manager.check().unwrap();
}

#[test]
fn one_segment_is_one_mapping_in_a_process() {
    let name = unique("twice");
    let _unlink = Unlink(name.clone());
    let one = Manager::create(&name).unwrap();
    let two = Manager::open(&name).unwrap();
    let (a, b) = (one.named("d").dict::<u64, u64>().unwrap(), two.named("d").dict::<u64, u64>().unwrap());
    assert_eq!(a, b);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert_eq!(maps.lines().filter(|line| line.contains(&name)).count(), 1);
    drop((one, a));
    b.insert(&1, &1).unwrap();
    assert!(shm_path(&name).exists());
    drop((two, b));
    assert!(!shm_path(&name).exists());
}

#[test]
fn permissions() {
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    let (name, open) = (unique("mode"), unique("open"));
    let (_one, _two) = (Unlink(name.clone()), Unlink(open.clone()));
    let _manager = Manager::create(&name).unwrap();
    assert_eq!(mode(&shm_path(&name)), 0o600);
    let _manager = Manager::builder().mode(0o660).create(&open).unwrap();
    assert_eq!(mode(&shm_path(&open)), 0o660);
    let dir = tempfile::tempdir().unwrap();
    let (file, wide) = (dir.path().join("file"), dir.path().join("wide"));
    let _manager = Manager::builder().create_file(&file).unwrap();
    assert_eq!(mode(&file), 0o600);
    let _manager = Manager::builder().mode(0o644).create_file(&wide).unwrap();
    assert_eq!(mode(&wide), 0o644);
}

#[test]
fn listing() {
    let name = unique("listing");
    let _unlink = Unlink(name.clone());
    let mut child = ready("creates", &name);
    let manager = Manager::open(&name).unwrap();
    let dict = manager.existing("d").dict::<u64, u64>().unwrap();
    let queue = manager.queue::<u64>(4).unwrap();
    queue.put(&1).unwrap();
    let _lock = manager.named("l").lock(5u8).unwrap();
    let objects = manager.objects().unwrap();
    assert_eq!(objects.len(), 3);
    let find = |kind| objects.iter().find(|object| object.kind == kind).unwrap();
    let me = std::process::id();
    let mut holders = find(ObjectKind::Dict).holders.clone();
    holders.sort_unstable();
    let mut expected = vec![me, child.pid()];
    expected.sort_unstable();
    assert_eq!(holders, expected);
    assert_eq!((find(ObjectKind::Dict).name.as_deref(), find(ObjectKind::Dict).len), (Some("d"), Some(1)));
    assert_eq!((find(ObjectKind::Queue).name.as_deref(), find(ObjectKind::Queue).len), (None, Some(1)));
    assert_eq!((find(ObjectKind::Lock).name.as_deref(), find(ObjectKind::Lock).len), (Some("l"), None));
    assert_eq!(find(ObjectKind::Lock).holders, [me]);
    child.kill();
    manager.recover().unwrap();
    let objects = manager.objects().unwrap();
    assert_eq!(objects.iter().find(|object| object.kind == ObjectKind::Dict).unwrap().holders, [me]);
    drop(dict);
}

/// A persistent segment all of whose 256 processes were killed, some in the middle of a clear, opens again.
#[test]
fn full_of_the_dead() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    // A process between, so that none of those who have been in the segment outlives the massacre.
    let parent = fork(|| {
        let manager = Manager::builder().capacity(64 << 20).create_file(&path).unwrap();
        let kept = manager.named("kept").dict::<u64, u64>().unwrap();
        let cleared = manager.named("cleared").dict::<u64, u64>().unwrap();
        let lock = manager.named("lock").lock(()).unwrap();
        let mut children = Vec::new();
        for number in 1..256u64 {
            kept.insert(&number, &number).unwrap();
            cleared.insert(&number, &number).unwrap();
            children.push(fork(|| {
                let held = (number == 9).then(|| lock.lock().unwrap().into_guard());
                kept.insert(&(1000 + number), &number).unwrap();
                // A third of them die where they are, at a store of their own.
                if cfg!(debug_assertions) && number % 3 == 0 {
                    #[cfg(debug_assertions)]
                    commons::testing::arm_kill(number);
                    cleared.clear().unwrap();
                    cleared.insert(&number, &number).unwrap();
                }
                std::mem::forget(held);
                std::thread::sleep(Duration::from_secs(600));
                0
            }));
            eventually("the child's insert", || kept.get(&(1000 + number)).unwrap().is_some());
        }
        for child in &children {
            // SAFETY: a child of ours that has not been waited for.
            unsafe { libc::kill(*child, libc::SIGKILL) };
        }
        children.into_iter().for_each(|child| assert_eq!(reap(child), -libc::SIGKILL));
        // SAFETY: ends this process as a kill would.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        0
    });
    assert_eq!(reap(parent), -libc::SIGKILL);
    // Heirs that are killed in turn, each somewhat further on its way to putting everything right.
    #[cfg(debug_assertions)]
    for step in (1..200).chain((200..2000).step_by(97)) {
        let heir = fork(|| {
            commons::testing::arm_kill(step);
            let opened = Manager::open_file(&path);
            u8::from(opened.is_err())
        });
        let end = reap(heir);
        assert!(end == -libc::SIGKILL || end == 0, "step {step}: {end}");
    }
    let manager = Manager::open_file(&path).unwrap();
    manager.check().unwrap();
    let kept = manager.existing("kept").dict::<u64, u64>().unwrap();
    assert_eq!(kept.len().unwrap(), 510);
    let lock = manager.existing("lock").lock(()).unwrap();
    assert!(matches!(lock.lock().unwrap(), Held::Recovered(_)));
}
