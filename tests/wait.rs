//! Proves that a wait for several things ends with the first that is ready, of whatever kind and by whatever death, keeps to
//! its time, and loses no wake-up; and the same of readiness for event loops.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use commons::{Auto, Connection, ErrorKind, Event, Manager, Process, Queue, Readiness, Waitable, wait};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(20);

fn pidfd<R>(process: &Process<R>) -> OwnedFd {
    pidfd_open(Pid::from_raw(process.pid() as i32).unwrap(), PidfdFlags::empty()).unwrap()
}

/// Whether it becomes readable within `timeout`.
fn is_readable(readiness: &Readiness, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap();
    poll(&mut [PollFd::new(readiness, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

fn sleep_forever() {
    std::thread::sleep(Duration::from_secs(600));
}

/// Everything that is ready is named, in order; nothing is an empty list, and it takes its time.
#[test]
fn what_is_ready() {
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe::<u64>().unwrap();
    let (queue, full) = (manager.queue::<u64>(4).unwrap(), manager.unbounded_queue::<u64>().unwrap());
    let (near, mut far) = UnixStream::pair().unwrap();
    let all: [&dyn Waitable; 4] = [&ours, &near, &queue, &full];
    assert_eq!(wait(&[], None).unwrap(), []);
    for things in [&all[..], &all[2..], &all[1..2], &all[..1]] {
        let start = Instant::now();
        assert_eq!(wait(things, Some(SHORT)).unwrap(), []);
        assert!(start.elapsed() >= SHORT);
        assert_eq!(wait(things, Some(Duration::ZERO)).unwrap(), []);
    }
    full.put(&1).unwrap();
    assert_eq!(wait(&all, None).unwrap(), [3]);
    theirs.send(&1).unwrap();
    assert_eq!(wait(&all, None).unwrap(), [0, 3]);
    far.write_all(b"x").unwrap();
    queue.close().unwrap();
    assert_eq!(wait(&all, Some(PATIENCE)).unwrap(), [0, 1, 2, 3]);
    assert_eq!(wait(&all[1..3], Some(PATIENCE)).unwrap(), [0, 1]);
    assert_eq!((ours.recv().unwrap(), full.get().unwrap()), (1, 1));
    assert_eq!(wait(&all, None).unwrap(), [1, 2]);
    drop(theirs);
    assert_eq!(wait(&all[..1], None).unwrap(), [0], "the end of file");
    ours.close().unwrap();
    assert_eq!(wait(&all, None).unwrap_err().kind(), ErrorKind::Closed);
    let (_receiver, sender) = manager.one_way_pipe::<u64>().unwrap();
    assert_eq!(wait(&[&sender], None).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Who sleeps is woken by each kind of thing, with and without descriptors beside it.
#[test]
fn sleepers_are_woken() {
    let manager = Manager::new().unwrap();
    for mixed in [false, true] {
        for which in 0..if mixed { 4 } else { 3 } {
            let (ours, theirs) = manager.pipe::<u64>().unwrap();
            let (queue, other) = (manager.queue::<u64>(4).unwrap(), manager.unbounded_queue::<u64>().unwrap());
            let (near, mut far) = UnixStream::pair().unwrap();
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let all: [&dyn Waitable; 4] = [&ours, &queue, &other, &near];
                    wait(if mixed { &all } else { &all[..3] }, Some(PATIENCE)).unwrap()
                });
                std::thread::sleep(SHORT);
                match which {
                    0 => theirs.send(&1).unwrap(),
                    1 => queue.put(&1).unwrap(),
                    2 => other.put(&1).unwrap(),
                    _ => far.write_all(b"x").unwrap(),
                }
                assert_eq!(waiter.join().unwrap(), [which]);
            });
        }
    }
}

/// The end of a process, by its pidfd, and the end of file of its connection, whichever comes first.
#[test]
fn the_death_of_a_process() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe::<u64>().unwrap();
    let jobs = manager.queue::<u64>(1).unwrap();
    let child = Process::spawn(theirs, |end: Connection<u64>| {
        end.send(&1).unwrap();
        sleep_forever();
    })
    .unwrap();
    let sentinel = pidfd(&child);
    assert_eq!(wait(&[&sentinel, &ours, &jobs], Some(PATIENCE)).unwrap(), [1]);
    assert_eq!(ours.recv().unwrap(), 1);
    std::thread::scope(|scope| {
        let by_sentinel = scope.spawn(|| wait(&[&sentinel, &jobs], Some(PATIENCE)).unwrap());
        let by_pipe = scope.spawn(|| wait(&[&jobs, &ours], Some(PATIENCE)).unwrap());
        std::thread::sleep(SHORT);
        child.kill().unwrap();
        assert_eq!(by_sentinel.join().unwrap(), [0]);
        assert_eq!(by_pipe.join().unwrap(), [1]);
    });
    assert_eq!(ours.recv().unwrap_err().kind(), ErrorKind::EndOfFile);
}

/// Waiters that take what they find, beside others that just wait to receive: everything is taken, nobody sleeps beside it.
#[test]
fn no_wake_up_is_lost() {
    const EACH: u64 = 2_000;
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe_with::<u64, Auto>(4).unwrap();
    let queue = manager.queue::<u64>(4).unwrap();
    let (near, _far) = UnixStream::pair().unwrap();
    let sum: u64 = std::thread::scope(|scope| {
        let mut takers = Vec::new();
        for mixed in [false, false, true] {
            let (ours, queue, near) = (&ours, &queue, &near);
            takers.push(scope.spawn(move || {
                let things: [&dyn Waitable; 3] = [ours, queue, near];
                let mut sum = 0;
                let (mut end, mut closed) = (false, false);
                while !end && !closed {
                    for place in wait(if mixed { &things } else { &things[..2] }, Some(PATIENCE)).unwrap() {
                        match place {
                            0 => match ours.try_recv() {
                                Ok(number) => sum += number.unwrap_or(0),
                                Err(error) => end = error.kind() == ErrorKind::EndOfFile,
                            },
                            _ => match queue.try_get() {
                                Ok(number) => sum += number.unwrap_or(0),
                                Err(error) => closed = error.kind() == ErrorKind::Closed,
                            },
                        }
                    }
                }
                while let Ok(number) = ours.recv() {
                    sum += number;
                }
                while let Ok(number) = queue.get() {
                    sum += number;
                }
                sum
            }));
        }
        takers.push(scope.spawn(|| ours.iter().map(Result::unwrap).sum()));
        let putter = queue.clone();
        scope.spawn(move || {
            (1..=EACH).for_each(|n| putter.put(&n).unwrap());
            putter.close().unwrap();
        });
        scope.spawn(move || (1..=EACH).for_each(|n| theirs.send(&n).unwrap()));
        takers.into_iter().map(|taker| taker.join().unwrap()).sum()
    });
    assert_eq!(sum, EACH * (EACH + 1));
    manager.check().unwrap();
}

/// Readable when there is something, until armed again, and again at once if there is still something.
#[test]
fn readiness_of_a_connection() {
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe::<u64>().unwrap();
    let readiness = ours.readiness().unwrap();
    assert!(!is_readable(&readiness, SHORT));
    theirs.send(&1).unwrap();
    assert!(is_readable(&readiness, PATIENCE));
    assert_eq!(ours.try_recv().unwrap(), Some(1));
    assert!(is_readable(&readiness, Duration::ZERO), "until it is armed again");
    readiness.rearm().unwrap();
    assert!(!is_readable(&readiness, SHORT));
    theirs.send(&2).unwrap();
    theirs.send(&3).unwrap();
    assert!(is_readable(&readiness, PATIENCE));
    assert_eq!(ours.try_recv().unwrap(), Some(2));
    readiness.rearm().unwrap();
    assert!(is_readable(&readiness, Duration::ZERO), "there is one left");
    assert_eq!(wait(&[&readiness], Some(Duration::ZERO)).unwrap(), [0]);
    assert_eq!(ours.try_recv().unwrap(), Some(3));
    readiness.rearm().unwrap();
    assert!(!is_readable(&readiness, Duration::ZERO));
    drop(theirs);
    assert!(is_readable(&readiness, PATIENCE), "the end of file");
    assert_eq!(ours.try_recv().unwrap_err().kind(), ErrorKind::EndOfFile);
    drop((ours, readiness));
    // The thread that watched lets go a little later.
    let start = Instant::now();
    while manager.collect().is_ok() && !manager.objects().unwrap().is_empty() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    let (_receiver, sender) = manager.one_way_pipe::<u64>().unwrap();
    assert_eq!(sender.readiness().unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Many of them under one edge-triggered epoll, fed by another process: all that is sent is received.
#[test]
fn epoll_over_many() {
    commons::init_test!();
    const PIPES: usize = 20;
    const EACH: u64 = 200;
    let manager = Manager::new().unwrap();
    let (receivers, senders): (Vec<_>, Vec<_>) = (0..PIPES).map(|_| manager.one_way_pipe::<u64>().unwrap()).unzip();
    let results = manager.queue::<u64>(10).unwrap();
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut ready: Vec<Readiness> = receivers.iter().map(|receiver| receiver.readiness().unwrap()).collect();
    ready.push(results.readiness().unwrap());
    for (place, readiness) in ready.iter().enumerate() {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&set, readiness.as_fd(), epoll::EventData::new_u64(place as u64), flags).unwrap();
    }
    let child = Process::spawn((senders, results.clone()), |(senders, results): (Vec<Connection<u64>>, Queue<u64>)| {
        for n in 0..EACH {
            senders.iter().for_each(|sender| sender.send(&n).unwrap());
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        results.put(&EACH).unwrap();
    })
    .unwrap();
    let (mut received, mut ends, mut result) = ([0; PIPES], 0, None);
    let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
    while ends < PIPES || result.is_none() {
        let timeout = Timespec::try_from(PATIENCE).unwrap();
        let count = epoll::wait(&set, &mut events[..], Some(&timeout)).unwrap();
        assert!(count > 0, "{received:?}, {ends} ends, result {result:?}");
        for event in &events[..count] {
            let place = event.data.u64() as usize;
            if place == PIPES {
                result = result.or(results.try_get().unwrap());
                ready[place].rearm().unwrap();
                continue;
            }
            loop {
                match receivers[place].try_recv() {
                    Ok(Some(n)) => {
                        assert_eq!(n, received[place]);
                        received[place] += 1;
                    }
                    Ok(None) => break ready[place].rearm().unwrap(),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::EndOfFile);
                        ends += 1;
                        break; // and it is not armed again
                    }
                }
            }
        }
    }
    assert_eq!((received, result), ([EACH; PIPES], Some(EACH)));
    child.join().unwrap();
}

/// Connections, queues, events and processes in one wait: each ends it, and so does the death of a process.
#[test]
fn all_kinds_together() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe::<u64>().unwrap();
    let (queue, event, go) = (manager.queue::<u64>(4).unwrap(), manager.event().unwrap(), manager.event().unwrap());
    let child = Process::spawn((theirs, queue.clone(), event.clone(), go.clone()), |(end, queue, event, go)| {
        let (end, queue): (Connection<u64>, Queue<u64>) = (end, queue);
        let (event, go): (Event, Event) = (event, go);
        let next = || {
            go.wait().unwrap();
            go.clear().unwrap();
            std::thread::sleep(SHORT); // for the parent to fall asleep
        };
        next();
        end.send(&1).unwrap();
        next();
        queue.put(&2).unwrap();
        next();
        event.set().unwrap();
        sleep_forever();
    })
    .unwrap();
    let all: [&dyn Waitable; 4] = [&ours, &queue, &event, &child];
    assert_eq!(wait(&all, Some(Duration::ZERO)).unwrap(), []);
    go.set().unwrap();
    assert_eq!(wait(&all, Some(PATIENCE)).unwrap(), [0]);
    assert_eq!(ours.recv().unwrap(), 1);
    go.set().unwrap();
    assert_eq!(wait(&all, Some(PATIENCE)).unwrap(), [1]);
    assert_eq!(queue.get().unwrap(), 2);
    go.set().unwrap();
    assert_eq!(wait(&all, Some(PATIENCE)).unwrap(), [2]);
    assert_eq!(wait(&[&queue, &event], None).unwrap(), [1]);
    event.clear().unwrap();
    assert_eq!(wait(&all[1..], Some(SHORT)).unwrap(), []);
    std::thread::scope(|scope| {
        let pid = Pid::from_raw(child.pid() as i32).unwrap();
        scope.spawn(move || {
            std::thread::sleep(SHORT);
            kill_process(pid, Signal::KILL).unwrap();
        });
        assert_eq!(wait(&all[1..], Some(PATIENCE)).unwrap(), [2]);
    });
    assert_eq!(wait(&all[..1], Some(PATIENCE)).unwrap(), [0], "the end of file");
}

/// An event wakes whoever sleeps on it alone, among others, and by a descriptor.
#[test]
fn events() {
    let manager = Manager::new().unwrap();
    let (event, other) = (manager.event().unwrap(), manager.event().unwrap());
    let readiness = event.readiness().unwrap();
    for round in 0..20 {
        assert!(!is_readable(&readiness, Duration::ZERO));
        std::thread::scope(|scope| {
            let alone = scope.spawn(|| wait(&[&event], Some(PATIENCE)).unwrap());
            let among = scope.spawn(|| wait(&[&other, &event], Some(PATIENCE)).unwrap());
            std::thread::sleep(Duration::from_millis(round % 3));
            event.set().unwrap();
            assert_eq!((alone.join().unwrap(), among.join().unwrap()), (vec![0], vec![1]));
        });
        assert!(is_readable(&readiness, PATIENCE));
        event.clear().unwrap();
        readiness.rearm().unwrap();
    }
}

/// Whoever is woken all the time for one connection learns all the same that the other end of another is gone.
#[test]
fn a_death_beside_a_busy_connection() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let (quiet, theirs) = manager.pipe::<u64>().unwrap();
    let (busy, sender) = manager.pipe::<u64>().unwrap();
    let child = Process::spawn(theirs, |end: Connection<u64>| {
        end.send(&1).unwrap();
        sleep_forever();
    })
    .unwrap();
    assert_eq!(quiet.recv().unwrap(), 1);
    let [quiet_readiness, busy_readiness] = [&quiet, &busy].map(|end| end.readiness().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| while sender.send(&1).is_ok() {});
        child.kill().unwrap();
        let start = Instant::now();
        while !is_readable(&quiet_readiness, Duration::ZERO) {
            if start.elapsed() > PATIENCE {
                busy.close().unwrap(); // which ends the other thread
                panic!("no end of file: {:?}", manager.objects());
            }
            assert!(is_readable(&busy_readiness, PATIENCE));
            busy.recv().unwrap();
            busy_readiness.rearm().unwrap();
        }
        busy.close().unwrap();
    });
    assert_eq!(quiet.try_recv().unwrap_err().kind(), ErrorKind::EndOfFile);
}
