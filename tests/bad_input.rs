//! Proves that bad input, a full segment, a full file system and too many users are clear errors, and lose nothing.

mod common;

use std::collections::HashMap;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Unlink, assert_kind, fork, reap, role, say, shm_path, start_with, unique};
use commons::{Codec, Decode, Dict, Encode, Encoded, Error, ErrorKind, Manager, Put, Result};
use serde::{Deserialize, Serialize};

#[test]
fn children() {
    match role() {
        Some((role, name)) if role == "nobody" => {
            say(&format!("{:?}", Manager::open(&name).map(drop).map_err(|e| e.kind())));
        }
        _ => {}
    }
}

/// A manager with something in it, and the proof that it is still there.
struct Kept {
    manager: Manager,
    dict: Dict<u64, String>,
}

impl Kept {
    fn within(manager: Manager) -> Kept {
        let dict = manager.named("kept").dict().unwrap();
        for key in 0..100 {
            dict.insert(&key, &format!("value {key}")).unwrap();
        }
        Kept { manager, dict }
    }

    fn new() -> Kept {
        Kept::within(Manager::new().unwrap())
    }

    #[track_caller]
    fn assert(&self) {
        for key in 0..100 {
            assert_eq!(self.dict.get(&key).unwrap(), Some(format!("value {key}")));
        }
        assert_eq!(self.dict.len().unwrap(), 100);
        self.manager.check().unwrap();
    }
}

#[test]
fn capacities() {
    for capacity in [0, u64::MAX, 1 << 63] {
        assert_kind(Manager::builder().capacity(capacity).anonymous(), ErrorKind::InvalidInput);
        assert_kind(Manager::builder().capacity(capacity).create(&unique("capacity")), ErrorKind::InvalidInput);
        let dir = tempfile::tempdir().unwrap();
        assert_kind(Manager::builder().capacity(capacity).create_file(dir.path().join("f")), ErrorKind::InvalidInput);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    let kept = Kept::within(Manager::builder().capacity(1).anonymous().unwrap());
    kept.assert();
    let manager = &kept.manager;
    assert_kind(manager.queue::<u64>(0), ErrorKind::InvalidInput);
    assert_kind(manager.queue::<u64>((1 << 30) + 1), ErrorKind::InvalidInput);
    assert_kind(manager.queue::<u64>(usize::MAX), ErrorKind::InvalidInput);
    assert_kind(manager.named("q").queue::<u64>(0), ErrorKind::InvalidInput);
    assert_kind(manager.existing("q").queue::<u64>(1), ErrorKind::NotFound);
    let error = manager.queue::<u64>(1 << 29).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::TooLarge), "{error}");
    kept.assert();
}

#[test]
fn other_types() {
    let kept = Kept::new();
    let numbers = kept.manager.named("numbers").dict::<u64, u64>().unwrap();
    numbers.insert(&1, &1).unwrap();
    let manager = &kept.manager;
    assert_kind(manager.named("numbers").dict::<u64, i64>(), ErrorKind::TypeMismatch);
    assert_kind(manager.existing("numbers").dict::<u64, String>(), ErrorKind::TypeMismatch);
    assert_kind(manager.existing("numbers").queue::<u64>(1), ErrorKind::TypeMismatch);
    assert_kind(manager.existing("numbers").lock(1u64), ErrorKind::TypeMismatch);
    let bytes = postcard::to_stdvec(&numbers).unwrap();
    assert!(postcard::from_bytes::<Dict<u64, i64>>(&bytes).is_err());
    assert!(postcard::from_bytes::<commons::Queue<u64>>(&bytes).is_err());
    assert_eq!(numbers.get(&1).unwrap(), Some(1));
    kept.assert();
}

/// What every sort of foreign thing at a segment's place does: `open` and its kin fail, and it stays as it is.
#[track_caller]
fn assert_foreign(path: &Path) {
    let before = std::fs::symlink_metadata(path).unwrap().len();
    assert_kind(Manager::open_file(path), ErrorKind::ForeignFormat);
    assert_kind(Manager::builder().open_or_create_file(path), ErrorKind::ForeignFormat);
    let error = Manager::builder().create_file(path).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ForeignFormat | ErrorKind::AlreadyExists), "{error}");
    assert_eq!(std::fs::symlink_metadata(path).unwrap().len(), before);
}

#[track_caller]
fn assert_foreign_name(name: &str) {
    assert_kind(Manager::open(name), ErrorKind::ForeignFormat);
    assert_kind(Manager::open_or_create(name), ErrorKind::ForeignFormat);
    let error = Manager::create(name).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ForeignFormat | ErrorKind::AlreadyExists), "{error}");
    assert!(std::fs::symlink_metadata(shm_path(name)).is_ok());
}

fn put_foreign(path: &Path, what: &str) {
    match what {
        "text" => std::fs::write(path, "not a segment\n".repeat(100_000)).unwrap(),
        "empty" => std::fs::write(path, "").unwrap(),
        "zeros" => std::fs::File::create(path).unwrap().set_len(4 << 20).unwrap(),
        "directory" => std::fs::create_dir(path).unwrap(),
        "link" => std::os::unix::fs::symlink("/etc/passwd", path).unwrap(),
        "dangling link" => std::os::unix::fs::symlink("/nowhere", path).unwrap(),
        "fifo" => {
            let name = CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: `name` is a C string.
            assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        }
        _ => unreachable!(),
    }
}

const FOREIGN: [&str; 7] = ["text", "empty", "zeros", "directory", "link", "dangling link", "fifo"];

#[test]
fn foreign_files() {
    let dir = tempfile::tempdir().unwrap();
    for what in FOREIGN {
        let path = dir.path().join(what);
        put_foreign(&path, what);
        assert_foreign(&path);
    }
}

#[test]
fn foreign_names() {
    for what in FOREIGN {
        let name = unique(&what.replace(' ', "-"));
        put_foreign(&shm_path(&name), what);
        let result = std::panic::catch_unwind(|| assert_foreign_name(&name));
        let path = shm_path(&name);
        let _ = if what == "directory" { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
        assert!(result.is_ok(), "{what}");
    }
}

#[test]
fn damaged_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    let manager = Manager::builder().capacity(8 << 20).create_file(&path).unwrap();
    Kept::within(manager).assert();
    let bytes = std::fs::read(&path).unwrap();
    let again = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
    };
    again(&|bytes| bytes.truncate(bytes.len() / 2));
    assert_foreign(&path);
    again(&|bytes| bytes.truncate(100));
    assert_foreign(&path);
    again(&|bytes| bytes.extend([0; 65536]));
    assert_foreign(&path);
    again(&|bytes| bytes[0] ^= 1); // magic
    assert_foreign(&path);
    again(&|bytes| bytes[8] ^= 1); // fingerprint of the format
    assert_foreign(&path);
    again(&|bytes| bytes[16 + 5] ^= 1); // reserved length
    assert_foreign(&path);
    again(&|bytes| bytes[128..136].copy_from_slice(&u64::MAX.to_le_bytes())); // committed
    assert_kind(Manager::open_file(&path), ErrorKind::Corrupted);
    again(&|_| {});
    let manager = Manager::open_file(&path).unwrap();
    let dict = manager.existing("kept").dict::<u64, String>().unwrap();
    Kept { manager, dict }.assert();
}

#[test]
fn no_permission() {
    // SAFETY: no memory precondition.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: needs root");
        return;
    }
    for (mode, expected) in [(0o600, "Err(PermissionDenied)"), (0o666, "Ok(())")] {
        let name = unique("root");
        let _unlink = Unlink(name.clone());
        let kept = Kept::within(Manager::builder().mode(mode).create(&name).unwrap());
        match start_with("nobody", &name, |command| {
            command.uid(65534).gid(65534);
        }) {
            Ok(mut child) => {
                child.expect(expected);
                child.succeed();
            }
            Err(error) => println!("skipped: {error}"),
        }
        kept.assert();
    }
}

#[test]
fn full_segment_and_its_dict() {
    let manager = Manager::builder().capacity(2 << 20).anonymous().unwrap();
    let kept = Kept::within(manager.clone());
    let (dict, inline) = (manager.dict::<u64, Vec<u8>>().unwrap(), manager.dict::<u64, u64>().unwrap());
    let value = |key: u64| vec![key as u8; 100 + key as usize % 3000];
    let mut stored = 0;
    for round in 0..3 {
        let error = loop {
            match dict.insert(&stored, &value(stored)) {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        let mut numbers = 0;
        let error = loop {
            match inline.insert(&numbers, &numbers) {
                Ok(_) => numbers += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        assert!(stored > 100 && manager.committed() <= manager.capacity());
        for key in 0..stored {
            assert_eq!(dict.get(&key).unwrap(), Some(value(key)), "round {round}");
        }
        for number in 0..numbers {
            assert_eq!(inline.get(&number).unwrap(), Some(number));
        }
        assert_eq!((dict.len().unwrap(), inline.len().unwrap()), (stored, numbers));
        kept.assert();
        // A value in place of another needs no more room than there is, or fails and leaves the old one.
        assert!(inline.replace(&0, &7).unwrap().is_some());
        match dict.replace(&1, &vec![9; 10]) {
            Ok(old) => {
                assert_eq!(old, Some(value(1)));
                dict.insert(&1, &value(1)).ok();
                if dict.get(&1).unwrap() != Some(value(1)) {
                    assert_eq!(dict.get(&1).unwrap(), Some(vec![9; 10]));
                    dict.remove(&2).unwrap();
                    dict.remove(&3).unwrap();
                    dict.insert(&1, &value(1)).unwrap();
                    dict.insert(&2, &value(2)).ok();
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutOfMemory);
                assert_eq!(dict.get(&1).unwrap(), Some(value(1)));
            }
        }
        for object in 0..3 {
            // New objects may find room or not.
            match manager.named(&format!("more {object}")).dict::<u64, u64>() {
                Ok(_) => manager.unlink(&format!("more {object}")).unwrap(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}"),
            }
        }
        inline.clear().unwrap();
        // Removing makes room for as much again.
        let half = stored / 2;
        for key in half..stored {
            dict.remove(&key).unwrap();
        }
        for key in 0..half {
            dict.insert(&key, &value(key)).unwrap();
        }
        stored = half;
        manager.check().unwrap();
    }
    kept.assert();
}

#[test]
fn full_segment_and_its_queue() {
    let manager = Manager::builder().capacity(2 << 20).anonymous().unwrap();
    let kept = Kept::within(manager.clone());
    for unbounded in [false, true] {
        let queue = match unbounded {
            true => manager.unbounded_queue::<Vec<u8>>().unwrap(),
            false => manager.queue::<Vec<u8>>(4000).unwrap(),
        };
        let item = |i: usize| vec![i as u8; 200 + i % 1000];
        for round in 0..3 {
            let mut stored = 0;
            let error = loop {
                match queue.try_put(&item(stored)) {
                    Ok(Put::Done) => stored += 1,
                    Ok(Put::Full) => panic!("{stored} items of that size do not fit"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
            assert_eq!(queue.len().unwrap(), stored as u64);
            kept.assert();
            for i in 0..stored {
                assert_eq!(queue.try_get().unwrap(), Some(item(i)), "round {round}, unbounded {unbounded}");
            }
            assert_eq!(queue.try_get().unwrap(), None);
            assert!(stored > 500, "round {round}: {stored}");
        }
        drop(queue);
    }
    kept.assert();
}

/// A directory with a file system of three megabytes, while it lives.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Tiny> {
        let dir = tempfile::tempdir().unwrap();
        let path = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: all arguments are C strings.
        let done =
            unsafe { libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=3m".as_ptr().cast()) };
        if done != 0 {
            println!("skipped: mount: {}", std::io::Error::last_os_error());
            return None;
        }
        Some(Tiny(dir))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let path = CString::new(self.0.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: a C string.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn full_file_system() {
    let Some(tiny) = Tiny::mount() else { return };
    let path = tiny.0.path().join("segment");
    let manager = Manager::builder().capacity(64 << 20).create_file(&path).unwrap();
    let kept = Kept::within(manager.clone());
    let dict = manager.dict::<u64, Vec<u8>>().unwrap();
    let mut stored = HashMap::new();
    let error = loop {
        let key = stored.len() as u64;
        let value = vec![key as u8; 5000];
        match dict.insert(&key, &value) {
            Ok(_) => drop(stored.insert(key, value)),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert!(stored.len() > 100);
    stored.iter().for_each(|(key, value)| assert_eq!(dict.get(key).unwrap().as_ref(), Some(value)));
    kept.assert();
    // Somebody else takes the last of it; what is committed stays usable.
    let mut rest = std::fs::File::create(tiny.0.path().join("rest")).unwrap();
    while rest.write_all(&[1; 4096]).is_ok() {}
    for key in 0..50 {
        dict.remove(&key).unwrap();
        stored.remove(&key);
    }
    for key in 0..50 {
        dict.insert(&key, &vec![key as u8; 5000]).unwrap();
    }
    kept.assert();
    assert_kind(Manager::builder().create_file(tiny.0.path().join("other")), ErrorKind::OutOfMemory);
    let left: Vec<_> = std::fs::read_dir(tiny.0.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    // With room again it grows again.
    drop(rest);
    std::fs::remove_file(tiny.0.path().join("rest")).unwrap();
    kept.assert();
}

#[test]
fn too_many_processes() {
    let kept = Kept::new();
    let dict = kept.manager.dict::<u64, u64>().unwrap();
    let mut pipe = [0; 2];
    // SAFETY: `pipe` has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let mut said = [0; 2];
    // SAFETY: as above.
    assert_eq!(unsafe { libc::pipe(said.as_mut_ptr()) }, 0);
    // Answers 1 if it got in, 2 for `TooMany`, 3 for anything else.
    let child = |number: u64| {
        fork(|| {
            let answer = match dict.insert(&number, &number) {
                Ok(_) => 1u8,
                Err(error) if error.kind() == ErrorKind::TooMany => 2,
                Err(_) => 3,
            };
            let mut wait = 0u8;
            // SAFETY: single bytes of our own; the parent's end of `pipe` is closed here, so that reading ends with it.
            unsafe {
                libc::close(pipe[1]);
                libc::write(said[1], (&raw const answer).cast(), 1);
                libc::read(pipe[0], (&raw mut wait).cast(), 1);
            }
            0
        })
    };
    let hear = || {
        let mut answer = 0u8;
        // SAFETY: one byte of our own.
        assert_eq!(unsafe { libc::read(said[0], (&raw mut answer).cast(), 1) }, 1);
        answer
    };
    let mut children = Vec::new();
    let mut answers = Vec::new();
    for number in 0..257 {
        children.push(child(number));
        answers.push(hear());
    }
    let got_in = answers.iter().filter(|answer| **answer == 1).count();
    // 256 records, one of them this process's.
    assert_eq!((got_in, &answers[255..]), (255, &[2, 2][..]), "{answers:?}");
    assert_eq!(dict.len().unwrap(), 255);
    assert_eq!(dict.get(&254).unwrap(), Some(254));
    kept.assert();
    // The place of a dead one is free again as soon as a member has recovered it.
    // SAFETY: a child of ours that has not been waited for.
    unsafe { libc::kill(children[7], libc::SIGKILL) };
    assert_eq!(reap(children[7]), -libc::SIGKILL);
    assert_eq!(kept.manager.recover().unwrap(), 1);
    children[7] = child(1000);
    let answer = hear();
    // SAFETY: our own descriptor, closed once; the children's reads end.
    unsafe { libc::close(pipe[1]) };
    children.into_iter().for_each(|pid| assert_eq!(reap(pid), 0));
    // SAFETY: our own descriptors, closed once.
    unsafe {
        for fd in [pipe[0], said[0], said[1]] {
            libc::close(fd);
        }
    };
    assert_eq!(answer, 1, "a dead process's place was not free");
    kept.manager.recover().unwrap();
    assert_eq!(dict.len().unwrap(), 256);
    kept.assert();
}

#[test]
fn too_many_threads() {
    let kept = Kept::new();
    let dict = kept.manager.dict::<u64, u64>().unwrap();
    let (threads, mine) = (1030, 1);
    for round in 0..2 {
        let (done, denied) = (AtomicU32::new(0), AtomicU32::new(0));
        let barrier = Barrier::new(threads);
        std::thread::scope(|scope| {
            for thread in 0..threads as u64 {
                let (dict, done, denied, barrier) = (&dict, &done, &denied, &barrier);
                let run = move || {
                    match dict.insert(&thread, &round) {
                        Ok(_) => {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) if error.kind() == ErrorKind::TooMany => {
                            denied.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                    // Reading needs no slot.
                    dict.get(&thread).unwrap();
                    barrier.wait();
                };
                std::thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, run).unwrap();
            }
        });
        assert_eq!(done.into_inner(), 1024 - mine, "round {round}");
        assert_eq!(denied.into_inner(), threads as u32 - 1024 + mine);
        kept.assert();
    }
}

/// Encodes only what is true.
#[derive(Debug, PartialEq, Deserialize)]
struct Picky(bool);

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            true => serializer.serialize_bool(true),
            false => Err(serde::ser::Error::custom("too picky")),
        }
    }
}

#[test]
fn values_that_cannot_be_encoded() {
    let kept = Kept::new();
    let dict = kept.manager.dict::<u64, Picky>().unwrap();
    dict.insert(&1, &Picky(true)).unwrap();
    assert_kind(dict.insert(&1, &Picky(false)), ErrorKind::Encode);
    assert_kind(dict.insert(&2, &Picky(false)), ErrorKind::Encode);
    assert_kind(dict.update(&1, |_| Some(Picky(false))), ErrorKind::Encode);
    assert_eq!((dict.get(&1).unwrap(), dict.len().unwrap()), (Some(Picky(true)), 1));
    let queue = kept.manager.queue::<Picky>(2).unwrap();
    for _ in 0..5 {
        assert_kind(queue.try_put(&Picky(false)), ErrorKind::Encode);
        assert_kind(queue.put(&Picky(false)), ErrorKind::Encode);
    }
    assert!(queue.is_empty().unwrap());
    queue.put(&Picky(true)).unwrap();
    assert_eq!(queue.try_put(&Picky(true)).unwrap(), Put::Done);
    assert_eq!(queue.get().unwrap(), Picky(true));
    assert_kind(kept.manager.lock(Picky(false)), ErrorKind::Encode);
    let lock = kept.manager.lock(Picky(true)).unwrap();
    let guard = lock.lock().unwrap().into_guard();
    assert_kind(guard.set(&Picky(false)), ErrorKind::Encode);
    assert_eq!(guard.get().unwrap(), Picky(true));
    drop(guard);
    kept.assert();
}

/// Bytes as they are, but what begins with 255 cannot be decoded.
#[derive(Debug)]
enum Loose {}

impl Encode<Vec<u8>> for Loose {
    fn with_encoded<R>(value: &Vec<u8>, f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        Ok(f(Encoded::plain(value)))
    }
}

impl Decode<Vec<u8>> for Loose {
    fn fixed_len() -> Option<usize> {
        None
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>> {
        match bytes.first() {
            Some(255) => Err(Error::new(ErrorKind::Decode, "a 255")),
            _ => Ok(bytes.to_vec()),
        }
    }
}

fn assert_codec<C: Codec<Vec<u8>>>() {}

#[test]
fn bytes_that_cannot_be_decoded() {
    assert_codec::<Loose>();
    let kept = Kept::new();
    let dict = kept.manager.dict_with::<Vec<u8>, Vec<u8>, Loose, Loose>().unwrap();
    for first in [1, 2, 3] {
        dict.insert(&vec![first], &vec![first; 3]).unwrap();
    }
    dict.insert(&vec![255, 1], &vec![4]).unwrap();
    dict.insert(&vec![5], &vec![255]).unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = dict.iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (3, 2), "the rest of the entries come all the same");
    bad.into_iter().for_each(|entry| assert_kind(entry, ErrorKind::Decode));
    assert_eq!(dict.get(&vec![255, 1]).unwrap(), Some(vec![4]));
    assert_kind(dict.get(&vec![5]), ErrorKind::Decode);
    assert_kind(dict.snapshot(), ErrorKind::Decode);
    assert_kind(dict.pop(&vec![5]), ErrorKind::Decode);
    assert!(dict.contains(&vec![5]).unwrap());
    assert!(dict.remove(&vec![5]).unwrap());
    let queue = kept.manager.queue_with::<Vec<u8>, Loose>(2).unwrap();
    queue.put(&vec![255]).unwrap();
    queue.put(&vec![1]).unwrap();
    assert_kind(queue.get(), ErrorKind::Decode);
    assert_eq!(queue.get().unwrap(), [1]);
    queue.put(&vec![2]).unwrap();
    kept.assert();
}

#[test]
fn values_that_are_too_large() {
    let manager = Manager::builder().capacity(4 << 20).anonymous().unwrap();
    let kept = Kept::within(manager.clone());
    let (dict, queue) = (manager.dict::<u64, Vec<u8>>().unwrap(), manager.queue::<Vec<u8>>(2).unwrap());
    let lock = manager.lock(vec![1u8]).unwrap();
    let huge = |len| {
        for _ in 0..3 {
            let huge = vec![0u8; len]; // zeroes cost nothing until they are read
            let results = [
                dict.insert(&1, &huge).map(drop),
                queue.try_put(&huge).map(drop),
                lock.lock().unwrap().into_guard().set(&huge),
                manager.lock(huge).map(drop),
            ];
            for error in results.map(Result::unwrap_err) {
                assert!(matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::TooLarge), "{error}");
            }
        }
        kept.assert();
    };
    huge(8 << 20);
    huge((512 << 20) + 1);
    assert_eq!(lock.lock().unwrap().into_guard().get().unwrap(), [1]);
    assert_eq!((dict.len().unwrap(), queue.len().unwrap()), (0, 0));
    dict.insert(&1, &vec![1; 1 << 20]).unwrap();
    queue.put(&vec![1; 1000]).unwrap();
    kept.assert();
}
