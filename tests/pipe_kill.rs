//! Proves with real processes and real SIGKILL that the death of either side of a pipe, at every shared store of every
//! operation and at random under load, is the end of file for the other: after all that was acknowledged, and nothing torn,
//! lost or leaked.
//!
//! `COMMONS_SEED` replays the choices of the storm.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use commons::{Auto, Connection, Dict, ErrorKind, Manager, Process, Put};
use serde::{Deserialize, Serialize};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// One test at a time: whoever waits lets go of any child's arguments that have arrived, and the segments that these are in
/// would not be at rest when their test checks them.
static ALONE: Mutex<()> = Mutex::new(());

/// What a child has: its end, and one over which ends travel.
#[derive(Serialize, Deserialize)]
struct Hands {
    manager: Manager,
    end: Option<Connection<Vec<u8>>>,
    carrier: Connection<Connection<Vec<u8>>>,
}

/// Operations by name, the messages in the pipe before in both directions, and what of them the child makes.
const OPERATIONS: &[&str] = &[
    "make",
    "send short",
    "send long",
    "send to nobody",
    "receive short",
    "receive long",
    "receive nothing",
    "poll",
    "close",
    "drop",
    "send an end",
    "receive an end",
];

fn message(n: u8, length: usize) -> Vec<u8> {
    vec![n; length]
}

fn operate(hands: &mut Hands, operation: &str) {
    let end = || hands.end.as_ref().unwrap();
    let soon = Duration::from_millis(2);
    match operation {
        "make" => drop(hands.manager.pipe_with::<u64, Auto>(1).unwrap()),
        "send short" => end().send(&message(9, 8)).unwrap(),
        "send long" => end().send(&message(9, 200)).unwrap(),
        "send to nobody" => assert_eq!(end().send_timeout(&message(9, 8), soon).unwrap(), Put::Full),
        "receive short" => assert_eq!(end().recv().unwrap(), message(1, 8)),
        "receive long" => assert_eq!(end().recv().unwrap(), message(1, 200)),
        "receive nothing" => assert_eq!(end().recv_timeout(soon).unwrap(), None),
        "poll" => assert!(!end().poll(soon).unwrap()),
        "close" => end().close().unwrap(),
        "drop" => drop(hands.end.take()),
        "send an end" => hands.carrier.send(end()).unwrap(),
        "receive an end" => drop(hands.carrier.recv().unwrap()),
        other => unreachable!("{other}"),
    }
}

/// Runs an operation that dies at its `at`-th store.
fn victim((mut hands, operation, at): (Hands, usize, u64)) -> u64 {
    commons::testing::arm_kill(at);
    operate(&mut hands, OPERATIONS[operation]);
    commons::testing::disarm()
}

/// Everything until the end of file, which must come.
#[track_caller]
fn drain(end: &Connection<Vec<u8>>, what: &str) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    loop {
        match end.recv_timeout(PATIENCE) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => panic!("{what}: the end of file does not come"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::EndOfFile, "{what}");
                return messages;
            }
        }
    }
}

/// Every operation, killed at every store, by the only process that has its end.
#[test]
fn killed_at_every_store() {
    commons::init_test!();
    let _alone = ALONE.lock();
    let manager = Manager::builder().capacity(64 << 20).anonymous().unwrap();
    let mut kills = 0;
    for (operation, name) in OPERATIONS.iter().enumerate() {
        let mut at = 1;
        loop {
            let what = format!("{name} at store {at}");
            let (ours, theirs) = manager.pipe_with::<Vec<u8>, Auto>(2).unwrap();
            let (near, far) = manager.pipe_with::<Connection<Vec<u8>>, Auto>(2).unwrap();
            match *name {
                "receive short" => ours.send(&message(1, 8)).unwrap(),
                "receive long" => ours.send(&message(1, 200)).unwrap(),
                "send to nobody" => (0..2).for_each(|n| theirs.send(&message(n, 8)).unwrap()),
                _ => {}
            }
            let hands = match *name {
                "receive an end" => {
                    near.send(&theirs).unwrap();
                    drop(theirs);
                    Hands { manager: manager.clone(), end: None, carrier: far }
                }
                _ => Hands { manager: manager.clone(), end: Some(theirs), carrier: far },
            };
            let outcome = Process::spawn((hands, operation, at), victim).unwrap().join();
            let finished = outcome.is_ok();
            if let Err(error) = outcome {
                assert_eq!(error.kind(), ErrorKind::Process, "{what}: {error}");
            }
            // An end that has arrived keeps the pipe open; it may have, and then goes here.
            let arrived = match near.recv_timeout(PATIENCE) {
                Ok(end) => {
                    assert_eq!(*name, "send an end", "{what}");
                    drop(end.expect("it is ready"));
                    assert_eq!(near.recv_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::EndOfFile, "{what}");
                    true
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::EndOfFile, "{what}");
                    false
                }
            };
            assert!(arrived || !finished || *name != "send an end", "{what}: acknowledged");
            drop(near);
            let received = drain(&ours, &what);
            match *name {
                "send short" | "send long" => {
                    let sent = message(9, if *name == "send short" { 8 } else { 200 });
                    assert!(received == [sent] || received.is_empty() && !finished, "{what}: {received:?}");
                }
                "send to nobody" => assert_eq!(received, [message(0, 8), message(1, 8)], "{what}"),
                _ => assert_eq!(received.len(), 0, "{what}"),
            }
            assert_eq!(ours.send(&message(1, 8)).unwrap_err().kind(), ErrorKind::BrokenPipe, "{what}");
            drop(ours);
            manager.recover().unwrap();
            manager.collect().unwrap();
            manager.check().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(manager.objects().unwrap().len(), 0, "{what}");
            if finished {
                break;
            }
            kills += 1;
            // A new object's chunk of entries, and the slots of a ring, are cleared word by word.
            at += if *name == "make" && at > 40 { 13 } else { 1 };
        }
    }
    println!("{} operations, {kills} kills", OPERATIONS.len());
    assert!(kills > 100, "the crash points are armed");
}

/// Numbers of every size, until the end.
fn number(n: u64) -> Vec<u8> {
    let mut bytes = vec![n as u8; 8 + n as usize % 120];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn is_number(bytes: &[u8]) -> u64 {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, number(n), "torn");
    n
}

/// Sends numbers and notes each that was acknowledged; and takes what comes.
fn storm((end, acknowledged): (Connection<Vec<u8>>, Dict<u64, u64>)) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1.. {
                if end.send(&number(n)).is_err() {
                    return;
                }
                acknowledged.insert(&0, &n).unwrap();
            }
        });
        for (n, message) in (1..).zip(end.iter()) {
            assert_eq!(is_number(&message.unwrap()), n);
        }
    });
}

/// Two sides that send as fast as they can, one of them killed at any moment: the other gets all that was acknowledged, in
/// order, then the end, and its own sending ends.
#[test]
fn killed_at_random() {
    commons::init_test!();
    let _alone = ALONE.lock();
    let seed = std::env::var("COMMONS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into());
    println!("COMMONS_SEED={seed}");
    let manager = Manager::builder().capacity(64 << 20).anonymous().unwrap();
    let (start, mut dice, mut rounds, mut messages) = (Instant::now(), seed, 0, 0);
    while start.elapsed() < Duration::from_secs(4) {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let capacity = [1, 2, 7, 256][(dice >> 33) as usize % 4];
        let (ours, theirs) = manager.pipe_with::<Vec<u8>, Auto>(capacity).unwrap();
        let acknowledged = manager.dict::<u64, u64>().unwrap();
        let child = Process::spawn((theirs, acknowledged.clone()), storm).unwrap();
        let received = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let broken = (1..).find_map(|n| ours.send(&number(n)).err()).unwrap();
                assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
            });
            let receiver = scope.spawn(|| {
                let mut last = 0;
                for message in ours.iter() {
                    let n = is_number(&message.unwrap());
                    assert_eq!(n, last + 1, "in order, none missing");
                    last = n;
                }
                last
            });
            std::thread::sleep(Duration::from_micros(20_000 + (dice >> 40) % 40_000));
            child.kill().unwrap();
            sender.join().unwrap();
            receiver.join().unwrap()
        });
        let noted = acknowledged.get(&0).unwrap().unwrap_or(0);
        assert!(received >= noted, "{received} received, {noted} acknowledged");
        assert!(received <= noted + 1, "one may have been under way");
        drop((ours, acknowledged));
        assert_eq!(child.join().unwrap_err().kind(), ErrorKind::Process);
        manager.recover().unwrap();
        manager.collect().unwrap();
        manager.check().unwrap();
        assert_eq!(manager.objects().unwrap().len(), 0);
        (rounds, messages) = (rounds + 1, messages + received);
    }
    println!("{rounds} kills, {messages} messages");
}
