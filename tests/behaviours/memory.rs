//! Behaviours 27 and 28: names and sizes, and how long memory lives.

use std::time::Duration;

use commons::{ErrorKind, Event, Manager, Process};

use crate::common::{FOREVER, Unlink, assert_kind, end, shm_path, unique};

#[test]
fn b27_bad_names_of_segments_are_errors() {
    for name in ["", "a/b", "/", "a\0b", &"n".repeat(201)] {
        assert_kind(Manager::create(name), ErrorKind::InvalidInput);
        assert_kind(Manager::open(name), ErrorKind::InvalidInput);
        assert_kind(Manager::open_or_create(name), ErrorKind::InvalidInput);
        assert_kind(Manager::unlink_segment(name), ErrorKind::InvalidInput);
    }
    let longest = format!("{:-<200}", unique("long"));
    let _unlink = Unlink(longest.clone());
    assert!(Manager::create(&longest).unwrap().objects().unwrap().is_empty());
    for path in ["", "/", "a\0b", "/tmp/.."] {
        assert_kind(Manager::open_file(path), ErrorKind::InvalidInput);
        assert_kind(Manager::builder().create_file(path), ErrorKind::InvalidInput);
    }
}

#[test]
fn b27_bad_names_of_objects_are_errors() {
    let manager = Manager::new().unwrap();
    for name in ["", "a\0b", &"n".repeat(256)] {
        assert_kind(manager.named(name).dict::<u64, u64>(), ErrorKind::InvalidInput);
        assert_kind(manager.fresh(name).queue::<u64>(1), ErrorKind::InvalidInput);
        assert_kind(manager.existing(name).lock(()), ErrorKind::InvalidInput);
        assert_kind(manager.unlink(name), ErrorKind::InvalidInput);
    }
    manager.named(&"n".repeat(255)).dict::<u64, u64>().unwrap();
    manager.named("a/b").dict::<u64, u64>().unwrap();
    manager.check().unwrap();
}

#[test]
fn b27_creating_what_exists_opening_what_is_missing_and_unlinking_twice_are_errors() {
    let name = unique("exists");
    let _unlink = Unlink(name.clone());
    let manager = Manager::create(&name).unwrap();
    let kept = manager.named("kept").dict::<u64, String>().unwrap();
    kept.insert(&1, &"still there".to_owned()).unwrap();
    let assert_kept = || assert_eq!(kept.get(&1).unwrap().as_deref(), Some("still there"));
    assert_kind(Manager::create(&name), ErrorKind::AlreadyExists);
    assert_kind(Manager::open(&unique("missing")), ErrorKind::NotFound);
    assert_kind(manager.fresh("kept").dict::<u64, String>(), ErrorKind::AlreadyExists);
    assert_kind(manager.existing("missing").dict::<u64, String>(), ErrorKind::NotFound);
    assert_kept();
    Manager::unlink_segment(&name).unwrap();
    assert_kind(Manager::unlink_segment(&name), ErrorKind::NotFound);
    assert_kind(Manager::open(&name), ErrorKind::NotFound);
    assert_kept();
    // The name is free again, for a segment of its own.
    let other = Manager::create(&name).unwrap();
    assert!(other.objects().unwrap().is_empty());
    assert_kept();
    manager.unlink("kept").unwrap();
    assert_kind(manager.unlink("kept"), ErrorKind::NotFound);
    assert_kept();
    drop((kept, manager));
    assert!(shm_path(&name).exists(), "who lost the name does not remove another's");
    let dir = tempfile::tempdir().unwrap();
    assert_kind(Manager::open_file(dir.path().join("missing")), ErrorKind::NotFound);
    assert_kind(Manager::builder().create_file(dir.path().join("no/such")), ErrorKind::NotFound);
    let _one = Manager::builder().create_file(dir.path().join("file")).unwrap();
    assert_kind(Manager::builder().create_file(dir.path().join("file")), ErrorKind::AlreadyExists);
}

#[test]
fn b27_size_zero_is_an_error() {
    let name = unique("zero");
    assert_kind(Manager::builder().capacity(0).anonymous(), ErrorKind::InvalidInput);
    assert_kind(Manager::builder().capacity(0).create(&name), ErrorKind::InvalidInput);
    assert!(!shm_path(&name).exists());
    let manager = Manager::new().unwrap();
    assert_kind(manager.queue::<u64>(0), ErrorKind::InvalidInput);
    assert_kind(manager.joinable_queue::<u64>(0), ErrorKind::InvalidInput);
    assert_kind(manager.priority_queue::<u64>(0), ErrorKind::InvalidInput);
    assert_kind(manager.pipe_with::<u64, commons::Auto>(0), ErrorKind::InvalidInput);
    assert_kind(manager.barrier(0), ErrorKind::InvalidInput);
    // Nothing is wrong with an array or a block of nothing, but that there is nothing in it.
    assert_kind(manager.array::<u64>(0).unwrap().get(0), ErrorKind::OutOfRange);
    assert_kind(manager.block(0).unwrap().read(0..1), ErrorKind::OutOfRange);
    assert!(manager.array::<u64>(0).unwrap().is_empty() && manager.block(0).unwrap().is_empty());
    manager.check().unwrap();
}

/// Makes or opens the segment, says so, and waits to be killed.
fn hold((name, persistent, ready): (String, bool, Event)) {
    let manager = Manager::builder().persistent(persistent).open_or_create(&name).unwrap();
    manager.named("sum").dict::<String, u64>().unwrap().fetch_add("sum", 1).unwrap();
    ready.set().unwrap();
    std::thread::sleep(FOREVER);
}

/// Two processes use the segment; both are killed, the second when it is the last.
fn massacre(name: &str, persistent: bool) {
    let ready = Manager::new().unwrap().event().unwrap();
    let children = [(); 2].map(|()| {
        ready.clear().unwrap();
        let child = Process::spawn((name.to_owned(), persistent, ready.clone()), hold).unwrap();
        ready.wait().unwrap();
        child
    });
    for child in children {
        assert!(shm_path(name).exists());
        end(child);
    }
}

#[test]
fn b28_a_segment_is_gone_after_its_last_process_even_when_all_were_killed() {
    commons::init_test!();
    let name = unique("killed");
    let _unlink = Unlink(name.clone());
    massacre(&name, false);
    assert_kind(Manager::open(&name), ErrorKind::NotFound);
    assert!(!shm_path(&name).exists());
    massacre(&name, false);
    let manager = Manager::create(&name).unwrap();
    assert!(manager.objects().unwrap().is_empty(), "a new one, though nobody had looked in between");
    drop(manager);
    assert!(!shm_path(&name).exists(), "and at once where the last process ends in good order");
}

#[test]
fn b28_a_segment_that_was_asked_to_persist_stays() {
    commons::init_test!();
    let name = unique("persists");
    let _unlink = Unlink(name.clone());
    massacre(&name, true);
    let manager = Manager::open(&name).unwrap();
    assert_eq!(manager.existing("sum").dict::<String, u64>().unwrap().get("sum").unwrap(), Some(2));
    manager.check().unwrap();
    drop(manager);
    Manager::unlink_segment(&name).unwrap();
    assert_kind(Manager::open(&name), ErrorKind::NotFound);
}

/// An anonymous segment's memory is gone with the last process that had it, though that was killed.
#[test]
fn b28_an_anonymous_segment_is_gone_with_its_last_process() {
    commons::init_test!();
    let (made, theirs) = Manager::new().unwrap().one_way_pipe::<commons::Dict<u64, Vec<u8>>>().unwrap();
    let make = |made: commons::Connection<commons::Dict<u64, Vec<u8>>>| {
        let dict = Manager::new().unwrap().dict().unwrap();
        dict.insert(&1, &vec![7; 1 << 20]).unwrap();
        made.send(&dict).unwrap();
        std::thread::sleep(FOREVER);
    };
    let child = Process::spawn(theirs.clone(), make).unwrap();
    let dict = made.recv_timeout(Duration::from_secs(20)).unwrap().expect("made");
    end(child);
    assert_eq!(dict.get(&1).unwrap().map(|bytes| bytes.len()), Some(1 << 20), "we still have it");
    let bytes = postcard::to_stdvec(&dict).unwrap();
    drop(dict);
    assert!(postcard::from_bytes::<commons::Dict<u64, Vec<u8>>>(&bytes).is_err(), "nobody has it any more");
}
