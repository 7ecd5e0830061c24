//! Proves what a pipe promises: messages in order, both forms, both directions, one way; and that the end of the other
//! side, however it ends, is the end of file for readers and a broken pipe for writers, in threads and in processes.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commons::{Auto, Connection, Dict, ErrorKind, Manager, ObjectKind, Pod, Process, Put, Queue};
use serde::{Deserialize, Serialize};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

fn sleep_forever() {
    std::thread::sleep(Duration::from_secs(600));
}

/// The kind of error that `result` is.
#[track_caller]
fn kind<T: std::fmt::Debug>(result: commons::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}

/// Repeats `f` until it fails, and returns how.
#[track_caller]
fn until_it_fails(mut f: impl FnMut() -> commons::Result<()>) -> ErrorKind {
    let start = Instant::now();
    loop {
        match f() {
            Ok(()) => assert!(start.elapsed() < PATIENCE, "goes on and on"),
            Err(error) => return error.kind(),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All that a manager has is let go of, and it holds together: soon, for another test's thread may be about to let go of
/// arguments that have arrived.
fn nothing_left(manager: &Manager) {
    manager.recover().unwrap();
    common::eventually("everything is let go of", || {
        manager.collect().unwrap();
        manager.objects().unwrap().is_empty() && manager.check().is_ok()
    });
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Message {
    Text(String),
    Numbers(Vec<u64>),
    Nothing,
}

/// Messages of every size go both ways, in order, typed and as bytes, and an empty message is a message.
#[test]
fn both_forms_both_ways() {
    let manager = Manager::new().unwrap();
    let (one, other) = manager.pipe::<Message>().unwrap();
    assert!(one.is_readable() && one.is_writable() && other.is_readable() && other.is_writable());
    let messages =
        [Message::Text("x".repeat(1000)), Message::Nothing, Message::Numbers((0..300).collect()), Message::Nothing];
    for message in &messages {
        one.send(message).unwrap();
        other.send(message).unwrap();
    }
    for message in &messages {
        assert_eq!(other.recv().unwrap(), *message);
        assert_eq!(one.recv_timeout(PATIENCE).unwrap().as_ref(), Some(message));
    }
    let mut buffer = vec![9; 3];
    for length in [0, 1, 7, 8, 9, 56, 57, 4096, 1_000_000] {
        let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
        one.send_bytes(&bytes).unwrap();
        one.send_bytes(&bytes).unwrap();
        assert_eq!(other.recv_bytes().unwrap(), bytes);
        assert_eq!(other.recv_bytes_into(&mut buffer).unwrap(), length);
        assert_eq!(buffer, bytes);
    }
    assert_eq!(one.try_recv().unwrap(), None);
    assert_eq!(other.recv_bytes_into_timeout(&mut buffer, Duration::ZERO).unwrap(), None);
    // Bytes that are no such message: taken, and an error.
    one.send_bytes(&[200, 200]).unwrap();
    assert_eq!(kind(other.recv()), ErrorKind::Decode);
    assert_eq!(other.try_recv().unwrap(), None);
    drop((one, other));
    nothing_left(&manager);
}

/// Fixed-size messages by both codecs; a capacity is kept, and a full pipe says so.
#[test]
fn capacity() {
    let manager = Manager::new().unwrap();
    let (one, other) = manager.pipe_with::<[u8; 24], Pod>(2).unwrap();
    assert_eq!(one.try_send(&[1; 24]).unwrap(), Put::Done);
    assert_eq!(one.send_timeout(&[2; 24], PATIENCE).unwrap(), Put::Done);
    assert_eq!(one.try_send(&[3; 24]).unwrap(), Put::Full);
    assert_eq!(one.send_bytes_timeout(&[3; 24], Duration::from_millis(5)).unwrap(), Put::Full);
    assert_eq!(other.recv().unwrap(), [1; 24]);
    one.send(&[3; 24]).unwrap();
    assert_eq!((other.recv().unwrap(), other.recv().unwrap()), ([2; 24], [3; 24]));
    for capacity in [0, 1 << 31] {
        assert_eq!(kind(manager.pipe_with::<u64, Auto>(capacity)), ErrorKind::InvalidInput);
        assert_eq!(kind(manager.one_way_pipe_with::<u64, Auto>(capacity)), ErrorKind::InvalidInput);
    }
}

/// A one-way pipe goes one way; the wrong way is an error, not a wait.
#[test]
fn one_way() {
    let manager = Manager::new().unwrap();
    let (receiver, sender) = manager.one_way_pipe::<u64>().unwrap();
    assert!(receiver.is_readable() && !receiver.is_writable() && !sender.is_readable() && sender.is_writable());
    sender.send(&5).unwrap();
    assert_eq!(receiver.recv().unwrap(), 5);
    for result in [receiver.send(&1), sender.recv().map(drop), sender.poll(PATIENCE).map(drop)] {
        assert_eq!(kind(result), ErrorKind::InvalidInput);
    }
    assert_eq!(kind(receiver.send_bytes(b"x")), ErrorKind::InvalidInput);
    assert_eq!(kind(sender.recv_bytes()), ErrorKind::InvalidInput);
    sender.send(&6).unwrap();
    drop(sender);
    assert_eq!(receiver.iter().map(Result::unwrap).collect::<Vec<_>>(), [6]);
    drop(receiver);
    let (receiver, sender) = manager.one_way_pipe::<u64>().unwrap();
    drop(receiver);
    assert_eq!(kind(sender.send(&1)), ErrorKind::BrokenPipe);
    drop(sender);
    nothing_left(&manager);
}

/// What was sent before the other end went is received, then comes the end, every time; sending is a broken pipe.
#[test]
fn end_of_file() {
    let manager = Manager::new().unwrap();
    let (one, other) = manager.pipe::<u64>().unwrap();
    let clone = other.clone();
    other.send(&1).unwrap();
    drop(other);
    one.send(&7).unwrap();
    assert_eq!(clone.recv().unwrap(), 7);
    clone.send(&2).unwrap();
    drop(clone);
    assert!(one.poll(Duration::ZERO).unwrap());
    assert_eq!(kind(one.send(&8)), ErrorKind::BrokenPipe);
    assert_eq!(kind(one.try_send(&8)), ErrorKind::BrokenPipe);
    assert_eq!((one.recv().unwrap(), one.try_recv().unwrap()), (1, Some(2)));
    for _ in 0..3 {
        assert_eq!(kind(one.recv()), ErrorKind::EndOfFile);
        assert_eq!(kind(one.try_recv()), ErrorKind::EndOfFile);
        assert_eq!(kind(one.recv_timeout(PATIENCE)), ErrorKind::EndOfFile);
        assert_eq!(kind(one.recv_bytes()), ErrorKind::EndOfFile);
        assert!(one.poll(PATIENCE).unwrap(), "the end is something to receive");
    }
    drop(one);
    nothing_left(&manager);
}

/// Threads that sleep are woken at once by the end of the other side, by its closing, and by that of their own.
#[test]
fn sleepers_learn_of_the_end() {
    for how in ["drop", "close other", "close own"] {
        let manager = Manager::new().unwrap();
        let (one, other) = manager.pipe_with::<u64, Auto>(1).unwrap();
        one.send(&1).unwrap();
        let expected = match how {
            "close own" => (ErrorKind::Closed, ErrorKind::Closed),
            _ => (ErrorKind::EndOfFile, ErrorKind::BrokenPipe),
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3).map(|_| scope.spawn(|| kind(one.recv()))).collect();
            let writers: Vec<_> = (0..3).map(|_| scope.spawn(|| kind(one.send(&2)))).collect();
            std::thread::sleep(Duration::from_millis(30));
            let mut other = Some(other);
            match how {
                "drop" => drop(other.take()),
                "close other" => other.as_ref().unwrap().close().unwrap(),
                _ => one.close().unwrap(),
            }
            for (who, expected) in
                readers.into_iter().zip([expected.0; 3]).chain(writers.into_iter().zip([expected.1; 3]))
            {
                assert_eq!(who.join().unwrap(), expected, "{how}");
            }
        });
    }
}

/// A closed end is of no use to any of its clones, and to the other end it is gone, with what it had sent still there.
#[test]
fn use_after_close() {
    let manager = Manager::new().unwrap();
    let (one, other) = manager.pipe::<u64>().unwrap();
    let clone = one.clone();
    one.send(&1).unwrap();
    other.send(&2).unwrap();
    one.close().unwrap();
    clone.close().unwrap();
    for end in [&one, &clone] {
        assert_eq!(kind(end.send(&1)), ErrorKind::Closed);
        assert_eq!(kind(end.recv()), ErrorKind::Closed);
        assert_eq!(kind(end.try_recv()), ErrorKind::Closed);
        assert_eq!(kind(end.poll(PATIENCE)), ErrorKind::Closed);
        assert_eq!(kind(end.send_bytes(b"")), ErrorKind::Closed);
    }
    assert_eq!(kind(other.send(&3)), ErrorKind::BrokenPipe);
    assert_eq!(other.recv().unwrap(), 1);
    assert_eq!(kind(other.recv()), ErrorKind::EndOfFile);
    drop((one, other));
    assert_eq!(kind(clone.recv()), ErrorKind::Closed);
    drop(clone);
    nothing_left(&manager);
}

/// `poll` waits for a message or the end, takes nothing, and keeps to its time.
#[test]
fn poll() {
    let manager = Manager::new().unwrap();
    let (one, other) = manager.pipe::<u64>().unwrap();
    let start = Instant::now();
    assert!(!one.poll(Duration::from_millis(30)).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert!(!one.poll(Duration::ZERO).unwrap());
    std::thread::scope(|scope| {
        let polled = scope.spawn(|| one.poll(PATIENCE).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        other.send(&1).unwrap();
        assert!(polled.join().unwrap());
        assert!(one.poll(PATIENCE).unwrap());
        assert_eq!(one.recv().unwrap(), 1);
        assert!(!one.poll(Duration::ZERO).unwrap());
        let polled = scope.spawn(|| one.poll(PATIENCE).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        drop(other);
        assert!(polled.join().unwrap());
    });
    assert_eq!(kind(one.recv()), ErrorKind::EndOfFile);
}

/// Any number of threads use both ends at once: every message arrives once, and those of one sender in order.
#[test]
fn many_threads() {
    const EACH: u64 = 5_000;
    let manager = Manager::new().unwrap();
    let (one, other) = manager.pipe_with::<(u64, u64), Auto>(7).unwrap();
    let (sum, count) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for sender in 0..3 {
            let end = one.clone();
            scope.spawn(move || (0..EACH).for_each(|n| end.send(&(sender, n)).unwrap()));
        }
        for _ in 0..3 {
            let end = other.clone();
            let (sum, count) = (&sum, &count);
            scope.spawn(move || {
                let mut last = [None; 3];
                for message in end.iter() {
                    let (sender, n) = message.unwrap();
                    assert!(last[sender as usize] < Some(n), "in order");
                    last[sender as usize] = Some(n);
                    sum.fetch_add(n, Ordering::Relaxed);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        drop((one, other));
    });
    assert_eq!((count.into_inner(), sum.into_inner()), (3 * EACH, 3 * EACH * (EACH - 1) / 2));
    nothing_left(&manager);
}

fn echo(end: Connection<u64>) {
    for message in end.iter() {
        end.send(&(message.unwrap() + 1)).unwrap();
    }
}

/// An end given to a child is the child's; its own end of file ends it.
#[test]
fn a_child_answers_and_ends() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe().unwrap();
    let child = Process::spawn(theirs, echo).unwrap();
    for n in 0..1000 {
        ours.send(&n).unwrap();
        assert_eq!(ours.recv_timeout(PATIENCE).unwrap(), Some(n + 1));
    }
    drop(ours);
    child.join().unwrap();
    nothing_left(&manager);
}

/// A child that is killed, or just exits, while it holds the last copy of an end: what it had sent is received, then comes
/// the end, though nobody asks for the child; and who sends learns of it without receiving.
#[test]
fn a_killed_child_is_the_end() {
    commons::init_test!();
    for exits in [false, true] {
        let manager = Manager::new().unwrap();
        let (ours, theirs) = manager.pipe::<u64>().unwrap();
        let (sink, source) = manager.one_way_pipe::<u64>().unwrap();
        let child =
            Process::spawn((theirs, sink, exits), |(end, _sink, exits): (Connection<u64>, Connection<u64>, bool)| {
                (0..100).for_each(|n| end.send(&n).unwrap());
                let _ = end.recv().unwrap();
                if exits {
                    std::process::exit(0);
                }
                sleep_forever();
            })
            .unwrap();
        ours.send(&0).unwrap();
        if !exits {
            assert!(ours.poll(PATIENCE).unwrap());
            std::thread::sleep(Duration::from_millis(20));
            child.kill().unwrap();
        }
        for n in 0..100 {
            assert_eq!(ours.recv_timeout(PATIENCE).unwrap(), Some(n));
        }
        assert_eq!(kind(ours.recv_timeout(PATIENCE)), ErrorKind::EndOfFile);
        assert_eq!(kind(ours.send(&1)), ErrorKind::BrokenPipe);
        // By now its death has been met; the other pipe's sender finds that out.
        assert_eq!(until_it_fails(|| source.try_send(&1).map(drop)), ErrorKind::BrokenPipe);
        drop((ours, source));
        assert_eq!(kind(child.join()), ErrorKind::Process);
        nothing_left(&manager);
    }
}

/// A sender that never receives learns of the death by itself, with room left and without.
#[test]
fn a_sender_meets_the_death() {
    commons::init_test!();
    for capacity in [1, 1 << 20] {
        let manager = Manager::new().unwrap();
        let (receiver, sender) = manager.one_way_pipe_with::<u64, Auto>(capacity).unwrap();
        let (ready, told) = manager.one_way_pipe::<u64>().unwrap();
        let child = Process::spawn((receiver, told), |(end, told): (Connection<u64>, Connection<u64>)| {
            told.send(&1).unwrap();
            let _end = end;
            sleep_forever();
        })
        .unwrap();
        assert_eq!(ready.recv_timeout(PATIENCE).unwrap(), Some(1));
        child.kill().unwrap();
        let start = Instant::now();
        assert_eq!(until_it_fails(|| sender.send(&1)), ErrorKind::BrokenPipe);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

/// The death is noticed by who already sleeps, in both directions.
#[test]
fn sleepers_meet_the_death() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe_with::<u64, Auto>(1).unwrap();
    ours.send(&1).unwrap();
    let child = Process::spawn(theirs, |_end: Connection<u64>| sleep_forever()).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| kind(ours.recv()));
        let writer = scope.spawn(|| kind(ours.send(&2)));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!reader.is_finished() && !writer.is_finished());
        child.kill().unwrap();
        assert_eq!((reader.join().unwrap(), writer.join().unwrap()), (ErrorKind::EndOfFile, ErrorKind::BrokenPipe));
    });
    drop(ours);
    drop(child);
    nothing_left(&manager);
}

/// A forked child has the ends that it uses, as others of the same end, and keeps no others open.
#[test]
fn forked_children() {
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe::<u64>().unwrap();
    let (silent, unused) = manager.one_way_pipe::<u64>().unwrap();
    let child = common::fork(|| {
        // The parent has let go of `theirs` by now, or has it still; the child has it from its first use on.
        theirs.send(&1).unwrap();
        let answer = theirs.recv().unwrap() as u8;
        theirs.send(&2).unwrap();
        answer
    });
    assert_eq!(ours.recv_timeout(PATIENCE).unwrap(), Some(1));
    drop((theirs, unused));
    assert_eq!(kind(silent.recv_timeout(PATIENCE)), ErrorKind::EndOfFile, "a copy in the child that it does not use");
    ours.send(&42).unwrap();
    assert_eq!(ours.recv_timeout(PATIENCE).unwrap(), Some(2));
    assert_eq!(common::reap(child), 42);
    assert_eq!(kind(ours.recv_timeout(PATIENCE)), ErrorKind::EndOfFile);
    drop((ours, silent));
    nothing_left(&manager);
}

/// An end that only a container has is there; taken out it works, and once the container is gone it is gone too.
#[test]
fn ends_in_containers() {
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe::<u64>().unwrap();
    let shelf = manager.dict::<u64, Connection<u64>>().unwrap();
    shelf.insert(&1, &theirs).unwrap();
    theirs.send(&5).unwrap();
    drop(theirs);
    manager.collect().unwrap();
    ours.send(&6).unwrap();
    assert_eq!(ours.recv().unwrap(), 5);
    assert_eq!(ours.recv_timeout(Duration::from_millis(60)).unwrap(), None, "the shelf has the other end");
    let theirs = shelf.get(&1).unwrap().unwrap();
    assert_eq!(theirs.recv().unwrap(), 6);
    theirs.send(&7).unwrap();
    drop(theirs);
    drop(shelf);
    assert_eq!(ours.recv().unwrap(), 7);
    assert_eq!(kind(ours.recv_timeout(PATIENCE)), ErrorKind::EndOfFile);
    assert_eq!(kind(ours.send(&1)), ErrorKind::BrokenPipe);
    drop(ours);
    nothing_left(&manager);
}

/// Handles travel in messages, ends of other pipes and of the very same one included, and nothing leaks.
#[test]
fn handles_in_messages() {
    #[derive(Serialize, Deserialize, Debug)]
    enum Parcel {
        End(Connection<Parcel>),
        Dict(Dict<u64, u64>),
        Queue(Queue<u64>),
    }
    let manager = Manager::new().unwrap();
    let (one, other) = manager.pipe::<Parcel>().unwrap();
    let (far, near) = manager.pipe::<Parcel>().unwrap();
    {
        let dict = manager.dict().unwrap();
        dict.insert(&1, &2).unwrap();
        far.send(&Parcel::Dict(dict)).unwrap();
        one.send(&Parcel::End(near)).unwrap();
        one.send(&Parcel::Queue(manager.queue(3).unwrap())).unwrap();
    }
    manager.collect().unwrap();
    let Parcel::End(near) = other.recv().unwrap() else { panic!("an end") };
    let Parcel::Dict(dict) = near.recv().unwrap() else { panic!("a dict") };
    assert_eq!(dict.get(&1).unwrap(), Some(2));
    drop((near, dict));
    assert_eq!(kind(far.recv_timeout(PATIENCE)), ErrorKind::EndOfFile);
    assert_eq!(kind(far.send_bytes(b"x")), ErrorKind::BrokenPipe);
    // Sent away through itself: nobody can ever receive it, and it is garbage once the sender has let go as well.
    one.send(&Parcel::End(other)).unwrap();
    assert!(one.recv_timeout(Duration::from_millis(30)).unwrap().is_none());
    drop((one, far));
    nothing_left(&manager);
}

/// A child that dies with an end which came in a message: it was its only holder.
#[test]
fn an_end_sent_to_a_child_dies_with_it() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (control, orders) = manager.pipe::<Connection<u64>>().unwrap();
    let child = Process::spawn(orders, |orders: Connection<Connection<u64>>| {
        let end = orders.recv().unwrap();
        end.send(&1).unwrap();
        sleep_forever();
    })
    .unwrap();
    let (ours, theirs) = manager.pipe::<u64>().unwrap();
    control.send(&theirs).unwrap();
    drop(theirs);
    assert_eq!(ours.recv_timeout(PATIENCE).unwrap(), Some(1));
    child.kill().unwrap();
    assert_eq!(kind(ours.recv_timeout(PATIENCE)), ErrorKind::EndOfFile);
    assert_eq!(kind(control.recv_timeout(PATIENCE)), ErrorKind::EndOfFile);
    drop((ours, control));
    nothing_left(&manager);
}

/// An end whose types are others is refused; a listing tells what the objects are.
#[test]
fn types_and_listing() {
    let manager = Manager::new().unwrap();
    let (one, _other) = manager.pipe::<u64>().unwrap();
    let bytes = postcard::to_stdvec(&one).unwrap();
    assert_eq!(postcard::from_bytes::<Connection<u64>>(&bytes).unwrap(), one);
    assert!(postcard::from_bytes::<Connection<String>>(&bytes).is_err());
    assert!(postcard::from_bytes::<Queue<u64>>(&bytes).is_err());
    let kinds: Vec<ObjectKind> = manager.objects().unwrap().iter().map(|object| object.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == ObjectKind::Connection).count(), 2);
    assert_eq!(kinds.iter().filter(|kind| **kind == ObjectKind::Pipe).count(), 1);
    drop((one, _other));
    assert!(postcard::from_bytes::<Connection<u64>>(&bytes).is_err(), "gone");
    nothing_left(&manager);
}
