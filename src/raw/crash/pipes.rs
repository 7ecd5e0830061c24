//! Pipes, through the public handle: the other end learns of every death, and what was acknowledged arrives before.

use std::time::Duration;

use parking_lot::Mutex;

use super::handle;
use super::harness::{Case, Suite, die_at};
use crate::raw::object::{Kind, ObjectId};
use crate::{Connection, ErrorKind, Manager, Put};

type End = Connection<Vec<u8>>;

/// What the survivor has: an end, and the other for as long as the victim does not have it.
struct State {
    ours: End,
    theirs: Mutex<Option<End>>,
    before: Vec<Vec<u8>>,
    /// Members of the segment that have died already.
    _dead: Vec<Manager>,
}

/// Which end the victim works on.
#[derive(Clone, Copy, PartialEq)]
enum Has {
    /// The other end, alone: it dies with the victim.
    Alone,
    /// The other end, which the survivor has as well.
    Shared,
}

#[derive(Clone, Copy, PartialEq)]
enum Action {
    Send(usize),
    Recv,
    RecvTimeout,
    SendTimeout,
    Poll,
    Close,
    Drop,
}

const SOON: Duration = Duration::from_millis(3);
const PATIENCE: Duration = Duration::from_secs(10);

fn open(manager: &Manager, id: ObjectId) -> End {
    End::over(handle(manager, id, Kind::Connection, End::fingerprint())).unwrap()
}

fn message(n: u8, length: usize) -> Vec<u8> {
    vec![n; length]
}

/// Everything that comes until nothing does; whether that was the end of file.
fn drain(end: &End, wait: Duration) -> (Vec<Vec<u8>>, bool) {
    let mut messages = Vec::new();
    loop {
        match end.recv_timeout(wait) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, false),
            Err(error) if error.kind() == ErrorKind::EndOfFile => return (messages, true),
            Err(error) => panic!("{error}"),
        }
    }
}

/// No object but those that a manager can see, and those are `expected`.
fn count(manager: &Manager, expected: usize) {
    manager.recover().unwrap(); // a death that nobody has met is still unrepaired
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), expected);
}

fn make_and_use(manager: &Manager) {
    let (one, other) = manager.pipe_with::<Vec<u8>, crate::Auto>(2).unwrap();
    one.send(&message(1, 100)).unwrap();
    other.send(&message(2, 8)).unwrap();
    assert_eq!((other.recv().unwrap(), one.recv().unwrap()), (message(1, 100), message(2, 8)));
    drop(other);
    assert_eq!(one.recv().unwrap_err().kind(), ErrorKind::EndOfFile);
}

/// What came of the operation, by all that the survivor can see.
fn verify(state: &State, has: Has, action: Action, finished: bool) {
    let theirs = state.theirs.lock();
    if let Some(theirs) = &*theirs {
        // The victim's direction first: what it had received is gone, what it gave back is there.
        let mut after = state.before.clone();
        let closed = match theirs.recv_timeout(Duration::ZERO) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed);
                true
            }
            Ok(first) => {
                let mut now: Vec<_> = first.into_iter().collect();
                now.extend(drain(theirs, Duration::ZERO).0);
                if matches!(action, Action::Recv | Action::RecvTimeout) && !after.is_empty() {
                    after.remove(0);
                }
                assert!(now == after || !finished && now == state.before);
                false
            }
        };
        assert!(!closed || action == Action::Close, "closed by nobody");
        assert!(closed || action != Action::Close || !finished, "an acknowledged close was lost");
        let (received, over) = drain(&state.ours, if closed { PATIENCE } else { Duration::ZERO });
        assert_eq!(over, closed);
        check_received(state, action, finished, &received);
    } else {
        assert!(has == Has::Alone);
        let (received, over) = drain(&state.ours, PATIENCE);
        assert!(over, "the end of the dead is the end of file");
        check_received(state, action, finished, &received);
        assert_eq!(state.ours.send(&message(1, 8)).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

fn check_received(state: &State, action: Action, finished: bool, received: &[Vec<u8>]) {
    match action {
        Action::Send(length) if !received.is_empty() => assert_eq!(received, [message(99, length)]),
        Action::Send(_) => assert!(!finished, "an acknowledged message was lost"),
        // Full before the operation, of what the other end had sent.
        Action::SendTimeout => assert_eq!(received, state.before),
        _ => assert!(received.is_empty()),
    }
}

fn go_on(survivor: &Manager, state: &State, has: Has, action: Action) {
    let theirs = state.theirs.lock().take();
    match (has, action, theirs) {
        (Has::Shared, Action::Close, Some(theirs)) => {
            // Perhaps closed, perhaps not; once more does it.
            theirs.close().unwrap();
            assert!(drain(&state.ours, PATIENCE).1);
        }
        (_, _, Some(theirs)) => {
            // Round the rings, past what the dead hold: a message that is given back takes its room until it is got.
            for n in 0..4 {
                let _ = state.ours.send_timeout(&message(n, 8), Duration::from_millis(20)).unwrap();
                let _ = theirs.send_timeout(&message(n, 8), Duration::from_millis(20)).unwrap();
                drain(&theirs, Duration::ZERO);
                drain(&state.ours, Duration::ZERO);
            }
            for n in 0..5 {
                assert_eq!(state.ours.send_timeout(&message(n, 8), PATIENCE).unwrap(), Put::Done);
                assert_eq!(theirs.send_timeout(&message(n, 90), PATIENCE).unwrap(), Put::Done);
                assert_eq!(theirs.recv_timeout(PATIENCE).unwrap(), Some(message(n, 8)));
                assert_eq!(state.ours.recv_timeout(PATIENCE).unwrap(), Some(message(n, 90)));
            }
            drop(theirs);
            assert!(drain(&state.ours, PATIENCE).1);
        }
        (_, _, None) => {
            assert!(drain(&state.ours, PATIENCE).1, "the end of the dead is the end of file");
            assert_eq!(state.ours.send(&message(1, 8)).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    }
    make_and_use(survivor);
    count(survivor, 2); // our end, and the pipe
}

/// The victim does something by its end. `before`: what it can receive; for `SendTimeout`, what it has sent.
fn case(suite: &Suite, name: &str, has: Has, before: &[usize], action: Action) {
    Case {
        name: &format!("pipe: {name}{}", if has == Has::Alone { ", alone" } else { "" }),
        setup: &|manager: &Manager| {
            let (ours, theirs) = manager.pipe_with::<Vec<u8>, crate::Auto>(2).unwrap();
            let before: Vec<_> = before.iter().enumerate().map(|(n, length)| message(n as u8, *length)).collect();
            let sender = if action == Action::SendTimeout { &theirs } else { &ours };
            before.iter().for_each(|message| sender.send(message).unwrap());
            State { ours, theirs: Mutex::new(Some(theirs)), before, _dead: Vec::new() }
        },
        open: &|victim, state| {
            let mut theirs = state.theirs.lock();
            let end = open(victim, theirs.as_ref().unwrap().id());
            if has == Has::Alone {
                *theirs = None;
            }
            Some(end)
        },
        act: &|_, end| match action {
            Action::Send(length) => drop(end.as_ref().unwrap().try_send(&message(99, length)).unwrap()),
            Action::Recv => drop(end.as_ref().unwrap().try_recv().unwrap()),
            Action::RecvTimeout => drop(end.as_ref().unwrap().recv_timeout(SOON).unwrap()),
            Action::SendTimeout => drop(end.as_ref().unwrap().send_timeout(&message(99, 8), SOON).unwrap()),
            Action::Poll => _ = end.as_ref().unwrap().poll(SOON).unwrap(),
            Action::Close => end.as_ref().unwrap().close().unwrap(),
            Action::Drop => drop(end.take()),
        },
        verify: &|_, state, finished| {
            if action == Action::SendTimeout && has == Has::Shared {
                assert_eq!(drain(&state.ours, Duration::ZERO).0, state.before);
            } else {
                verify(state, has, action, finished);
            }
        },
        go_on: &|survivor, state| go_on(survivor, state, has, action),
    }
    .run(suite);
}

fn building(suite: &Suite) {
    for duplex in [true, false] {
        Case {
            name: if duplex { "pipe: creating" } else { "pipe: creating, one way" },
            setup: &|_| (),
            open: &|_, ()| None,
            act: &|victim, ends| {
                *ends = Some(match duplex {
                    true => victim.pipe_with::<u64, crate::Auto>(2).unwrap(),
                    false => victim.one_way_pipe_with::<u64, crate::Auto>(2).unwrap(),
                });
            },
            verify: &|survivor, (), _| assert_eq!(survivor.objects().unwrap().len(), 0),
            go_on: &|survivor, ()| {
                make_and_use(survivor);
                count(survivor, 0);
            },
        }
        .run(suite);
    }
}

/// The other end's last holder has died; the victim finds it out and dies in turn.
fn behind_the_dead(suite: &Suite, recovered: bool, action: Action) {
    let what = if matches!(action, Action::Send(_)) { "sending" } else { "receiving" };
    Case {
        name: &format!("pipe: {what} behind the death of the other end{}", if recovered { ", recovered" } else { "" }),
        setup: &|manager: &Manager| {
            let (ours, theirs) = manager.pipe_with::<Vec<u8>, crate::Auto>(2).unwrap();
            let dead = Manager::from_session(manager.session().twin().unwrap());
            let id = theirs.id();
            die_at(u64::MAX, || open(&dead, id), |end| end.send(&message(7, 80)).unwrap());
            drop(theirs);
            dead.session().segment().surrender();
            if recovered {
                manager.recover().unwrap();
            }
            State { ours, theirs: Mutex::new(None), before: Vec::new(), _dead: vec![dead] }
        },
        open: &|victim, state| open(victim, state.ours.id()),
        act: &|_, end| match action {
            Action::Send(_) => assert_eq!(end.send(&message(1, 8)).unwrap_err().kind(), ErrorKind::BrokenPipe),
            _ => {
                assert!(end.poll(PATIENCE).unwrap());
                let (received, over) = drain(end, PATIENCE);
                assert!(over && received == [message(7, 80)]);
            }
        },
        verify: &|_, state, finished| {
            let (received, over) = drain(&state.ours, PATIENCE);
            assert!(over);
            assert!(received == [message(7, 80)] || received.is_empty() && !matches!(action, Action::Send(_)));
            let _ = finished;
        },
        go_on: &|survivor, state| go_on(survivor, state, Has::Alone, action),
    }
    .run(suite);
}

/// Every pipe case.
pub fn cases(suite: &Suite) {
    use Action::{Close, Drop, Poll, Recv, RecvTimeout, Send, SendTimeout};
    building(suite);
    for has in [Has::Alone, Has::Shared] {
        case(suite, "send", has, &[], Send(8));
        case(suite, "send long", has, &[8], Send(100));
        case(suite, "send, full", has, &[8, 100], SendTimeout);
        case(suite, "receive", has, &[8, 100], Recv);
        case(suite, "receive long", has, &[100], Recv);
        case(suite, "receive, empty", has, &[], RecvTimeout);
        case(suite, "poll, empty", has, &[], Poll);
        case(suite, "poll", has, &[8], Poll);
        case(suite, "close", has, &[], Close);
        case(suite, "close, with messages", has, &[8, 100], Close);
        case(suite, "drop", has, &[], Drop);
        case(suite, "drop, with messages", has, &[8, 100], Drop);
    }
    for recovered in [false, true] {
        behind_the_dead(suite, recovered, Send(8));
        behind_the_dead(suite, recovered, Recv);
    }
}
