//! Proves that every wait keeps to its time, from a microsecond to for ever; that every waiter wakes when what it waits
//! for dies, and is told so by the type of the answer; and that nobody polls in a hot loop meanwhile.
//!
//! `cargo test --test waiters -- --nocapture` prints how long after the death each of them woke, and what all of them
//! together have used of a processor until then.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{FOREVER, SOON, end};
use commons::{
    Acquire, Array, Attempt, Barrier, Condition, Connection, ErrorKind, Event, Held, JoinableQueue, Lock, Manager,
    Once, Passage, PriorityQueue, Process, Put, Queue, RLock, RwLock, Semaphore, Woken,
};
use serde::{Deserialize, Serialize};

/// What one process holds and another waits for.
#[derive(Clone, Serialize, Deserialize)]
struct World {
    ready: Event,
    lock: Lock<u64>,
    rlock: RLock<u64>,
    written: RwLock<u64>,
    read: RwLock<u64>,
    upgradable: RwLock<u64>,
    semaphore: Semaphore,
    barrier: Barrier,
    condition: Condition<Lock<u32>>,
    once: Once<u64>,
    jobs: JoinableQueue<u64>,
    array: Array<u64>,
}

impl World {
    fn new() -> World {
        let manager = Manager::new().unwrap();
        let world = World {
            ready: manager.event().unwrap(),
            lock: manager.lock(0).unwrap(),
            rlock: manager.rlock(0).unwrap(),
            written: manager.rwlock(0).unwrap(),
            read: manager.rwlock(0).unwrap(),
            upgradable: manager.rwlock(0).unwrap(),
            semaphore: manager.semaphore(2).unwrap(),
            barrier: manager.barrier(3).unwrap(),
            condition: manager.condition(&manager.lock(0).unwrap()).unwrap(),
            once: manager.once().unwrap(),
            jobs: manager.joinable_queue(4).unwrap(),
            array: manager.array(4).unwrap(),
        };
        world.jobs.put(&7).unwrap();
        world
    }
}

/// Takes everything, and waits to be killed.
fn hold((world, end): (World, Connection<u64>)) {
    let guards = (
        world.lock.lock().unwrap(),
        world.rlock.lock().unwrap(),
        world.written.write().unwrap(),
        world.read.read().unwrap(),
        world.upgradable.upgradable().unwrap(),
        [world.semaphore.permit().unwrap(), world.semaphore.permit().unwrap()],
        world.jobs.lease().unwrap(),
        world.array.lock().unwrap(),
        world.condition.lock().lock().unwrap(),
    );
    let is_made = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| world.barrier.wait());
        scope.spawn(|| {
            world.once.get_or_init(|_| {
                is_made.store(true, Ordering::Relaxed);
                std::thread::sleep(FOREVER);
                Ok(1)
            })
        });
        common::eventually("both are there", || {
            world.barrier.waiting().unwrap() == 1 && is_made.load(Ordering::Relaxed)
        });
        world.ready.set().unwrap();
        std::thread::sleep(FOREVER);
    });
    drop((guards, end));
}

/// What this thread has used of a processor so far.
fn cpu_time() -> Duration {
    // SAFETY: all zero bits are a `timespec`.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is live and writable.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn every_waiter_wakes_when_what_it_waits_for_dies() {
    commons::init_test!();
    let world = World::new();
    let manager = Manager::new().unwrap();
    let (ours, theirs) = manager.pipe_with::<u64, commons::Auto>(1).unwrap();
    let holder = Process::spawn((world.clone(), theirs.clone()), hold).unwrap();
    world.ready.wait().unwrap();
    drop(theirs);
    ours.send(&1).unwrap(); // and now it is full
    type Wait = fn(&World, &Connection<u64>) -> bool;
    let waits: [(&str, Wait); 14] = [
        ("lock", |world, _| matches!(world.lock.lock().unwrap(), Held::Recovered(_))),
        ("rlock", |world, _| matches!(world.rlock.lock().unwrap(), Held::Recovered(_))),
        ("rwlock, reading behind a writer", |world, _| matches!(world.written.read().unwrap(), Held::Recovered(_))),
        ("rwlock, writing behind a reader", |world, _| matches!(world.read.write().unwrap(), Held::Clean(_))),
        ("rwlock, writing behind an upgradable", |world, _| {
            matches!(world.upgradable.write().unwrap(), Held::Clean(_))
        }),
        ("semaphore, owned", |world, _| world.semaphore.permit().is_ok()),
        ("semaphore, plain", |world, _| world.semaphore.acquire().is_ok()),
        ("barrier", |world, _| world.barrier.wait().unwrap() == Passage::Broken),
        ("lock of a condition", |world, _| matches!(world.condition.lock().lock().unwrap(), Held::Recovered(_))),
        ("once", |world, _| {
            let mut attempt = None;
            let made = world.once.get_or_init(|now| {
                attempt = Some(now);
                Ok(2)
            });
            made.unwrap() == 2 && attempt == Some(Attempt::AfterCrash)
        }),
        ("lease", |world, _| {
            let lease = world.jobs.lease().unwrap();
            (lease.get().unwrap(), lease.delivery()) == (7, 2)
        }),
        ("array", |world, _| matches!(world.array.lock().unwrap(), Held::Recovered(_))),
        ("pipe, receiving", |_, ours| ours.recv().unwrap_err().kind() == ErrorKind::EndOfFile),
        ("pipe, sending", |_, ours| ours.send(&2).unwrap_err().kind() == ErrorKind::BrokenPipe),
    ];
    let died = Mutex::new(None);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let waiters: Vec<_> = waits
            .iter()
            .map(|(name, wait)| {
                let (world, ours, died) = (&world, &ours, &died);
                scope.spawn(move || {
                    let is_told = wait(world, ours);
                    let after = died.lock().unwrap().map(|died: Instant| died.elapsed());
                    (*name, is_told, after, cpu_time())
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(3));
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()), "nobody has died yet");
        holder.kill().unwrap();
        *died.lock().unwrap() = Some(Instant::now());
        assert!(holder.join().is_err());
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
    });
    for (name, is_told, after, used) in &outcomes {
        println!("{name}: after {after:?}, {used:?} of a processor");
        assert!(is_told, "{name}");
        assert!(after.is_some_and(|after| after < SOON), "{name} woke after {after:?}");
    }
    let used: Duration = outcomes.iter().map(|(.., used)| *used).sum();
    println!("{} waiters for 3 s: {used:?} of a processor", outcomes.len());
    assert!(used < Duration::from_secs(1), "somebody polls in a hot loop");
}

/// The holder of a condition's lock is killed while another waits for a notification.
#[test]
fn a_wait_for_a_notification_ends_when_the_holder_of_the_lock_dies() {
    commons::init_test!();
    fn hold((condition, ready): (Condition<Lock<u32>>, Event)) {
        condition.lock().acquire().unwrap();
        ready.set().unwrap();
        std::thread::sleep(FOREVER);
    }
    let world = World::new();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let _guard = world.condition.lock().lock().unwrap();
            world.ready.set().unwrap();
            world.condition.wait().unwrap().into_guard()
        });
        world.ready.wait().unwrap();
        drop(world.condition.lock().lock().unwrap()); // it waits
        world.ready.clear().unwrap();
        let holder = Process::spawn((world.condition.clone(), world.ready.clone()), hold).unwrap();
        world.ready.wait().unwrap();
        end(holder);
        assert_eq!(waiter.join().unwrap(), Woken::HolderDied);
    });
}

/// What is waited for in vain, then with success; the answer is whether the time was up.
struct Busy {
    world: World,
    full: (Queue<u64>, PriorityQueue<u64>, JoinableQueue<u64>),
    empty: (Queue<u64>, PriorityQueue<u64>, JoinableQueue<u64>),
    pipe: (Connection<u64>, Connection<u64>),
}

type Timed = (&'static str, fn(&Busy, Duration) -> bool);

const TIMED: [Timed; 20] = [
    ("lock", |busy, timeout| busy.world.lock.lock_timeout(timeout).unwrap().is_none()),
    ("lock, acquire", |busy, timeout| match busy.world.lock.acquire_timeout(timeout).unwrap() {
        Acquire::TimedOut => true,
        _ => busy.world.lock.release().is_err(),
    }),
    ("rlock", |busy, timeout| busy.world.rlock.lock_timeout(timeout).unwrap().is_none()),
    ("rwlock, read", |busy, timeout| busy.world.written.read_timeout(timeout).unwrap().is_none()),
    ("rwlock, write", |busy, timeout| busy.world.read.write_timeout(timeout).unwrap().is_none()),
    ("rwlock, upgradable", |busy, timeout| busy.world.upgradable.upgradable_timeout(timeout).unwrap().is_none()),
    ("semaphore, owned", |busy, timeout| busy.world.semaphore.permit_timeout(timeout).unwrap().is_none()),
    ("semaphore, plain", |busy, timeout| match busy.world.semaphore.acquire_timeout(timeout).unwrap() {
        true => busy.world.semaphore.release().is_err(),
        false => true,
    }),
    ("event", |busy, timeout| !busy.world.ready.wait_timeout(timeout).unwrap()),
    ("array", |busy, timeout| busy.world.array.lock_timeout(timeout).unwrap().is_none()),
    ("queue, put", |busy, timeout| busy.full.0.put_timeout(&1, timeout).unwrap() == Put::Full),
    ("queue, get", |busy, timeout| busy.empty.0.get_timeout(timeout).unwrap().is_none()),
    ("priority queue, put", |busy, timeout| busy.full.1.put_timeout(1, &1, timeout).unwrap() == Put::Full),
    ("priority queue, get", |busy, timeout| busy.empty.1.get_timeout(timeout).unwrap().is_none()),
    ("joinable queue, put", |busy, timeout| busy.full.2.put_timeout(&1, timeout).unwrap() == Put::Full),
    ("joinable queue, get", |busy, timeout| busy.empty.2.get_timeout(timeout).unwrap().is_none()),
    ("joinable queue, lease", |busy, timeout| busy.empty.2.lease_timeout(timeout).unwrap().is_none()),
    ("joinable queue, join", |busy, timeout| !busy.full.2.join_timeout(timeout).unwrap()),
    ("pipe, send", |busy, timeout| busy.pipe.0.send_timeout(&1, timeout).unwrap() == Put::Full),
    ("pipe, receive", |busy, timeout| busy.pipe.0.recv_timeout(timeout).unwrap().is_none()),
];

impl Busy {
    fn new() -> Busy {
        let manager = Manager::new().unwrap();
        let queues =
            || (manager.queue(1).unwrap(), manager.priority_queue(1).unwrap(), manager.joinable_queue(1).unwrap());
        let busy = Busy {
            world: World::new(),
            full: queues(),
            empty: queues(),
            pipe: manager.pipe_with::<u64, commons::Auto>(1).unwrap(),
        };
        busy.full.0.put(&1).unwrap();
        busy.full.1.put(1, &1).unwrap();
        busy.full.2.put(&1).unwrap();
        busy.pipe.0.send(&1).unwrap();
        busy
    }
}

/// Every wait with a timeout, of nothing, of microseconds and of milliseconds: not shorter, and not for ever; and of hours
/// and as long as there is a number for: until what is waited for is there.
#[test]
fn timeouts_from_microseconds_to_hours() {
    let busy = Busy::new();
    let world = &busy.world;
    let hours = [Duration::from_secs(2 * 60 * 60), Duration::from_secs(u64::MAX), Duration::MAX];
    let (held, has_held) = std::sync::mpsc::channel();
    let (release, is_released) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let guards = (
                world.lock.lock().unwrap(),
                world.rlock.lock().unwrap(),
                world.written.write().unwrap(),
                world.read.read().unwrap(),
                world.upgradable.upgradable().unwrap(),
                [world.semaphore.permit().unwrap(), world.semaphore.permit().unwrap()],
                world.array.lock().unwrap(),
            );
            held.send(()).unwrap();
            let _ = is_released.recv();
            drop(guards);
        });
        has_held.recv().unwrap();
        for (name, wait) in TIMED {
            for timeout in [0, 1, 20, 300, 5000].map(Duration::from_micros) {
                let start = Instant::now();
                assert!(wait(&busy, timeout), "{name}, {timeout:?}");
                let took = start.elapsed();
                assert!(took >= timeout && took < timeout + SOON, "{name}: {timeout:?} took {took:?}");
            }
        }
        let waiters: Vec<_> = TIMED
            .iter()
            .zip(hours.iter().cycle())
            .map(|((name, wait), timeout)| {
                let busy = &busy;
                scope.spawn(move || assert!(!wait(busy, *timeout), "{name}, {timeout:?}"))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        // Everything comes: what was held, an item for each that waits for one, and room.
        release.send(()).unwrap();
        world.ready.set().unwrap();
        busy.empty.0.put(&1).unwrap();
        busy.empty.1.put(1, &1).unwrap();
        busy.empty.2.put(&1).unwrap();
        busy.empty.2.put(&1).unwrap(); // one is got, one leased
        busy.full.0.get().unwrap();
        busy.full.1.get().unwrap();
        for _ in 0..2 {
            busy.full.2.get().unwrap(); // that and the one that there is room for then
            busy.full.2.task_done().unwrap();
        }
        busy.pipe.1.recv().unwrap();
        busy.pipe.1.send(&1).unwrap();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}
