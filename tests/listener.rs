//! Proves that connections by name are made between strangers, that permissions and types are kept, and that the death of a
//! listener or a client, at whatever point, harms nobody.

mod common;

use std::os::unix::process::CommandExt;
use std::time::Duration;

use common::{Child, Unlink, hear, role, say, start, start_with, unique};
use commons::{Connection, ErrorKind, Listener, Manager};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the children of these tests are.
#[test]
fn children() {
    let Some((role, name)) = role() else { return };
    match role.as_str() {
        "client" => match Connection::<String>::connect(&name) {
            Ok(connection) => {
                connection.send(&"from the child".to_owned()).unwrap();
                say(&connection.recv().unwrap());
            }
            Err(error) => say(&format!("{:?}", error.kind())),
        },
        "listener" => {
            let listener = Listener::<String>::bind(&name).unwrap();
            say("bound");
            let mut connections = Vec::new();
            while hear() == "accept" {
                connections.push(listener.accept().unwrap());
                say("accepted");
            }
        }
        "dying client" => {
            let (at, name) = name.split_once(' ').unwrap();
            commons::testing::arm_kill(at.parse().unwrap());
            let connected = Connection::<String>::connect(name);
            let count = commons::testing::disarm();
            connected.unwrap();
            say(&count.to_string());
        }
        "dying listener" => {
            let (at, name) = name.split_once(' ').unwrap();
            commons::testing::arm_kill(at.parse().unwrap());
            let listener = Listener::<String>::bind(name).unwrap();
            let count = commons::testing::disarm();
            say(&count.to_string());
            drop(listener);
        }
        other => panic!("role {other}"),
    }
}

fn name_of(tag: &str) -> (String, Unlink) {
    let name = unique(tag);
    let unlink = Unlink(format!("listener.{name}"));
    (name, unlink)
}

/// A child's end is over: nothing of it is left but the end of file.
#[track_caller]
fn assert_end(connection: &Connection<String>) {
    assert_eq!(connection.recv_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::EndOfFile);
}

#[track_caller]
fn refused(name: &str, expected: ErrorKind) {
    assert_eq!(Connection::<String>::connect(name).unwrap_err().kind(), expected);
}

/// Strangers meet, talk and part; the listener goes and its connections stay.
#[test]
fn strangers_meet() {
    let (name, _unlink) = name_of("meet");
    refused(&name, ErrorKind::NotFound);
    let listener = Listener::<String>::bind(&name).unwrap();
    assert!(listener.accept_timeout(Duration::from_millis(10)).unwrap().is_none());
    let mut children: Vec<Child> = (0..3).map(|_| start("client", &name)).collect();
    let connections: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
    drop(listener);
    refused(&name, ErrorKind::NotFound);
    for connection in &connections {
        assert_eq!(connection.recv_timeout(PATIENCE).unwrap().unwrap(), "from the child");
        connection.send(&"to the child".to_owned()).unwrap();
    }
    for child in &mut children {
        child.expect("to the child");
        child.succeed();
    }
    connections.iter().for_each(assert_end);
}

/// One at a time: a living name is taken, whatever its types; a dropped or killed listener's is not.
#[test]
fn names_are_taken_and_taken_over() {
    let (name, _unlink) = name_of("taken");
    let listener = Listener::<u64>::bind(&name).unwrap();
    assert_eq!(Listener::<u64>::bind(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Listener::<String>::bind(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    refused(&name, ErrorKind::TypeMismatch);
    drop(listener);
    let mut child = start("listener", &name);
    child.expect("bound");
    assert_eq!(Listener::<String>::bind(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    // A client keeps the segment in use over the death, one is accepted and one is not.
    child.tell("accept");
    let connection = Connection::<String>::connect(&name).unwrap();
    child.expect("accepted");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Connection::<String>::connect(&name).unwrap_err().kind());
        std::thread::sleep(Duration::from_millis(100));
        child.kill();
        assert_eq!(waiting.join().unwrap(), ErrorKind::NotFound);
    });
    assert_end(&connection);
    refused(&name, ErrorKind::NotFound);
    let listener = Listener::<String>::bind(&name).unwrap();
    let mut child = start("client", &name);
    let other = listener.accept().unwrap();
    other.send(&"hello".to_owned()).unwrap();
    child.expect("hello");
    child.succeed();
    drop((listener, connection, other));
    assert!(!common::shm_path(&format!("listener.{name}")).exists(), "the last to leave removes the name");
}

/// A client that gives up, or is killed while it waits, is not accepted.
#[test]
fn dead_clients_are_skipped() {
    let (name, _unlink) = name_of("skipped");
    let listener = Listener::<String>::bind(&name).unwrap();
    let mut child = start("client", &name);
    assert!(Connection::<String>::connect_timeout(&name, Duration::from_millis(100)).unwrap().is_none());
    let manager = Manager::open(&format!("listener.{name}")).unwrap();
    common::eventually("the child has asked", || {
        let objects = manager.objects().unwrap();
        objects.iter().filter(|object| object.holders.contains(&child.pid())).count() >= 2
    });
    std::thread::sleep(Duration::from_millis(50));
    child.kill();
    assert!(listener.accept_timeout(Duration::from_millis(100)).unwrap().is_none());
    let mut child = start("client", &name);
    let connection = listener.accept().unwrap();
    assert_eq!(connection.recv().unwrap(), "from the child");
    child.kill();
    assert_end(&connection);
}

/// A client killed at any store of its connecting: the listener and the next client go on, and nothing leaks.
#[test]
fn clients_killed_at_every_store() {
    let (name, _unlink) = name_of("clients");
    let listener = Listener::<String>::bind(&name).unwrap();
    let manager = Manager::open(&format!("listener.{name}")).unwrap();
    let objects = || {
        manager.recover().unwrap();
        manager.collect().unwrap();
        manager.check().unwrap();
        manager.objects().unwrap().len()
    };
    let before = objects();
    let (mut at, mut kills) = (1, 0);
    loop {
        let mut child = start("dying client", &format!("{at} {name}"));
        let accepted = std::thread::scope(|scope| {
            let accepted = scope.spawn(|| listener.accept_timeout(Duration::from_millis(100)).unwrap());
            let ended = child.wait();
            (accepted.join().unwrap(), ended.success())
        });
        if let Some(connection) = &accepted.0 {
            assert_end(connection);
        }
        let through = accepted.1;
        drop(accepted);
        assert_eq!(objects(), before, "at store {at}");
        if through {
            break;
        }
        kills += 1;
        // Building the rings is thousands of stores in a row at the same line: of those, some.
        at += if (150..9_000).contains(&at) { 397 } else { 3 };
    }
    println!("{kills} kills");
    assert!(kills > 20, "the crash points are armed");
}

/// A listener killed at any store of its binding: the next takes the name over.
#[test]
fn listeners_killed_at_every_store() {
    let (name, _unlink) = name_of("listeners");
    // Somebody keeps the segment in use throughout.
    let manager = Manager::open_or_create(&format!("listener.{name}")).unwrap();
    let (mut at, mut kills) = (1, 0);
    loop {
        let mut child = start("dying listener", &format!("{at} {name}"));
        let through = child.wait().success();
        let listener = Listener::<String>::bind(&name).unwrap();
        let connected = std::thread::scope(|scope| {
            let client = scope.spawn(|| Connection::<String>::connect(&name).unwrap());
            drop(listener.accept().unwrap());
            client.join().unwrap()
        });
        assert_end(&connected);
        drop((connected, listener));
        manager.recover().unwrap();
        manager.collect().unwrap();
        manager.check().unwrap();
        assert_eq!(manager.objects().unwrap().len(), 0, "at store {at}");
        if through {
            break;
        }
        kills += 1;
        at += if (150..2_000).contains(&at) { 197 } else { 4 };
    }
    println!("{kills} kills");
    assert!(kills > 20, "the crash points are armed");
}

/// The mode decides who may connect; names that cannot be are refused.
#[test]
fn permissions_and_names() {
    for name in ["", "a/b", "nul\0", &"x".repeat(192)] {
        assert_eq!(Listener::<u64>::bind(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(Connection::<u64>::connect(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    // SAFETY: no memory precondition.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: needs root");
        return;
    }
    for (mode, allowed) in [(0o600, false), (0o666, true)] {
        let (name, _unlink) = name_of("mode");
        let listener: Listener<String> = Listener::builder().mode(mode).bind(&name).unwrap();
        let child = start_with("client", &name, |command| {
            command.uid(65534).gid(65534);
        });
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return println!("skipped: {error}"),
        };
        if allowed {
            let connection = listener.accept().unwrap();
            connection.send(&"welcome".to_owned()).unwrap();
            child.expect("welcome");
        } else {
            child.expect("PermissionDenied");
            assert!(listener.accept_timeout(Duration::ZERO).unwrap().is_none());
        }
        child.succeed();
    }
}
