//! Proves with real processes and real kills that a worker's death costs the task that it was running and nothing else,
//! at every shared store that a worker makes; and that a parent's death ends its workers.
//!
//! `COMMONS_STORM_SECS=600 cargo test --test pool_kill -- --nocapture` is a long storm; `COMMONS_SEED` replays its choices.

use std::collections::HashMap;
#[cfg(debug_assertions)]
use std::sync::Arc;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commons::{Dict, ErrorKind, Manager, Pool, Process, Queue};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn die() -> ! {
    kill(std::process::id());
    loop {
        std::thread::park();
    }
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// How often each task was begun.
type Begun = Dict<u64, u64>;

fn begin(begun: &Begun, n: u64) -> u64 {
    begun.fetch_add(&n, 1).unwrap()
}

/// Every way to die costs exactly the task that died, whatever travels with it; nothing is begun twice; the order is kept.
#[test]
fn a_death_costs_one_task() {
    commons::init_test!();
    fn deadly((n, begun): (u64, Begun)) -> u64 {
        begin(&begun, n);
        match n {
            3 => die(),
            17 => std::process::abort(),
            29 => std::process::exit(5),
            _ => n * n,
        }
    }
    for (processes, chunk_size) in [(1, 1), (2, 1), (2, 10), (3, 40)] {
        let begun = Manager::new().unwrap().dict().unwrap();
        let pool = Pool::builder().processes(processes).build().unwrap();
        let items = (0..40).map(|n| (n, begun.clone()));
        let outcomes: Vec<_> = pool.call().chunk_size(chunk_size).imap(deadly, items).unwrap().collect();
        assert_eq!(outcomes.len(), 40);
        for (n, outcome) in (0..).zip(outcomes) {
            let why = match n {
                3 => "SIGKILL",
                17 => "SIGABRT",
                29 => "exit status: 5",
                _ => {
                    assert_eq!(outcome.unwrap(), n * n);
                    continue;
                }
            };
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Process);
            assert!(error.to_string().contains(why), "{n}: {error}");
        }
        for n in 0..40 {
            assert_eq!(begun.get(&n).unwrap(), Some(1), "task {n} of chunks of {chunk_size}");
        }
        let items = (0..40).map(|n| (n, begun.clone()));
        assert_eq!(pool.map(deadly, items).unwrap_err().kind(), ErrorKind::Process);
        assert_eq!(pool.apply(|n: u64| n, 8).unwrap(), 8);
    }
}

/// A task that kills its worker is run again as often as the policy says, and only it.
#[test]
fn retries() {
    commons::init_test!();
    fn deadly_twice((n, begun): (u64, Begun)) -> u64 {
        if begin(&begun, n) < 2 && n % 5 == 2 {
            die();
        }
        n
    }
    for chunk_size in [1, 8] {
        for (retries, succeeds) in [(0, false), (1, false), (2, true), (9, true)] {
            let begun = Manager::new().unwrap().dict().unwrap();
            let pool = Pool::builder().processes(2).retries(retries).build().unwrap();
            let items = (0..20).map(|n| (n, begun.clone()));
            let outcome = pool.call().chunk_size(chunk_size).map(deadly_twice, items);
            match succeeds {
                true => assert_eq!(outcome.unwrap(), (0..20).collect::<Vec<u64>>()),
                false => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Process),
            }
            for n in 0..20 {
                let expected = if n % 5 == 2 { u64::from(retries).min(2) + 1 } else { 1 };
                assert_eq!(begun.get(&n).unwrap(), Some(expected), "task {n}, {retries} retries");
            }
        }
    }
}

/// A worker that runs out of memory costs its task.
#[test]
fn out_of_memory() {
    commons::init_test!();
    fn greedy(n: u64) -> usize {
        if n == 5 {
            let most = rustix::process::Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
            rustix::process::setrlimit(rustix::process::Resource::As, most).unwrap();
            return std::hint::black_box(vec![1u8; 1 << 30]).len();
        }
        n as usize
    }
    let pool = Pool::new(2).unwrap();
    let outcomes: Vec<_> = pool.call().chunk_size(4).imap(greedy, 0..20).unwrap().collect();
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(found) => assert_eq!(found, n),
            Err(error) => assert_eq!((n, error.kind()), (5, ErrorKind::Process), "{error}"),
        }
    }
    assert_eq!(pool.map(|n: u64| n, 0..3).unwrap(), [0, 1, 2]);
}

/// A parent killed at any moment while its workers are being killed and replaced: they end, and nothing of it is left.
#[test]
fn a_parent_killed_at_any_moment() {
    commons::init_test!();
    fn parent((manager, started): (Manager, Queue<u32>)) {
        let pool = Pool::builder().processes(2).retries(1000).manager(&manager).build().unwrap();
        let deadly = |(n, started): (u64, Queue<u32>)| {
            started.put(&std::process::id()).unwrap();
            if n % 3 == 1 {
                die();
            }
            vec![n as u8; n as usize * 10]
        };
        let _ = pool.call().chunk_size(3).map(deadly, (0..).map(|n| (n, started.clone())).take(10_000));
    }
    for round in 0..25u64 {
        let manager = Manager::builder().capacity(64 << 20).anonymous().unwrap();
        let started: Queue<u32> = Manager::new().unwrap().unbounded_queue().unwrap();
        let process = Process::spawn((manager.clone(), started.clone()), parent).unwrap();
        let mut workers = vec![started.get_timeout(PATIENCE).unwrap().expect("a worker")];
        std::thread::sleep(Duration::from_micros(round * 700));
        process.kill().unwrap();
        assert_eq!(process.join().unwrap_err().kind(), ErrorKind::Process);
        let start = Instant::now();
        // Until nobody is there any more who could start or hold anything.
        while manager.recover().is_err() || manager.collect().is_err() || !manager.objects().unwrap().is_empty() {
            assert!(start.elapsed() < PATIENCE, "round {round}: {:?}", manager.objects());
            std::thread::sleep(Duration::from_millis(1));
        }
        manager.check().unwrap();
        workers.extend(std::iter::from_fn(|| started.try_get().unwrap()));
        while workers.iter().any(|pid| runs(*pid)) {
            assert!(start.elapsed() < PATIENCE, "round {round}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A worker that is killed between tasks, asleep, costs nothing at all, and is replaced at once.
#[test]
fn idle_workers_cost_nothing() {
    commons::init_test!();
    let pool = Pool::new(3).unwrap();
    for round in 0..5u64 {
        assert_eq!(pool.map(|n: u64| n + 1, round..round + 9).unwrap(), (round + 1..round + 10).collect::<Vec<_>>());
        let before = pool.pids();
        before.iter().for_each(|pid| kill(*pid));
        // Whether or not the pool has noticed.
        assert_eq!(pool.apply(|n: u64| n, round).unwrap(), round);
        let start = Instant::now();
        while pool.pids().len() < 3 || pool.pids().iter().any(|pid| before.contains(pid)) {
            assert!(start.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A death is noticed at once, not when something else happens.
#[test]
fn a_death_is_noticed_at_once() {
    commons::init_test!();
    let pool = Pool::new(1).unwrap();
    pool.apply(|n: u64| n, 1).unwrap();
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(pool.apply(|_: u64| -> u64 { die() }, 1).unwrap_err().kind(), ErrorKind::Process);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[cfg(debug_assertions)]
mod every_store {
    use super::*;

    /// What one worker does from now on, killed at its `at`-th shared store: results in the outbox, small, large, in
    /// messages, the pops of the next chunks. `u64::MAX` counts.
    fn arm((at, n, large, begun): (u64, u64, usize, Begun)) -> Vec<u8> {
        let first_time = begin(&begun, n) == 0;
        if n == 0 && first_time {
            commons::testing::arm_kill(at);
        }
        bytes(n, large)
    }

    fn bytes(n: u64, large: usize) -> Vec<u8> {
        vec![n as u8; if n % 4 == 3 { large } else { n as usize * 4 }]
    }

    /// Tasks and their results, one worker at first: each of its stores, from within a task to the ends of the chunks behind it.
    #[test]
    fn a_worker_killed_at_every_store() {
        commons::init_test!();
        const TASKS: u64 = 10;
        let (mut kills, mut errors, mut quiet) = (0, 0, 0);
        // The large result has a store for each of its words: some of them will do.
        for (chunk_size, retries, large, stride) in [(1, 0, 80, 1), (5, 0, 80, 1), (5, 1, 80, 5), (5, 0, 6000, 41)] {
            for at in (1..).step_by(stride) {
                let manager = Manager::new().unwrap();
                let begun: Begun = Manager::new().unwrap().dict().unwrap();
                for n in 0..TASKS {
                    begun.insert(&n, &0).unwrap();
                }
                let pool = Pool::builder().processes(1).manager(&manager).retries(retries).build().unwrap();
                let worker = pool.pids()[0];
                let items = (0..TASKS).map(|n| (at, n, large, begun.clone()));
                let outcomes: Vec<_> = pool.call().chunk_size(chunk_size).imap(arm, items).unwrap().collect();
                let what = format!("store {at}, chunks of {chunk_size}, {retries} retries");
                let mut failed = 0;
                for (n, outcome) in (0..).zip(&outcomes) {
                    let times = begun.get(&n).unwrap().unwrap();
                    match outcome {
                        Ok(found) => {
                            assert_eq!(*found, bytes(n, large), "{what}");
                            assert!(times == 1 || retries > 0 && times == 2, "{what}: task {n} begun {times} times");
                        }
                        Err(error) => {
                            assert!(error.to_string().contains("SIGKILL"), "{what}: {error}");
                            // Killed on the way to its first line, or after that.
                            assert!(times <= 1, "{what}: task {n} begun {times} times");
                            failed += 1;
                        }
                    }
                }
                assert_eq!(outcomes.len() as u64, TASKS, "{what}");
                assert!(failed <= u64::from(retries == 0), "{what}: {failed} failed");
                let survived = pool.pids() == [worker];
                pool.close().unwrap();
                pool.join().unwrap();
                drop(pool);
                manager.recover().unwrap();
                manager.collect().unwrap();
                assert_eq!(manager.objects().unwrap().len(), 0, "{what}");
                manager.check().unwrap_or_else(|error| panic!("{what}: {error}"));
                errors += failed;
                match survived {
                    // It had more stores to make in idleness and in its end; those are below.
                    true => quiet += 1,
                    false => (kills, quiet) = (kills + 1, 0),
                }
                if quiet > 3 {
                    break;
                }
            }
            quiet = 0;
        }
        println!("{kills} kills, {errors} of them in a task");
        assert!(kills > 100 && errors > 0);
    }

    /// From its start, through the initializer and the first chunk, to its end in good order.
    #[test]
    fn a_worker_killed_at_every_store_from_the_start() {
        commons::init_test!();
        /// Only the first worker is armed.
        fn arm_first((at, started): (u64, Dict<u64, u64>)) {
            if started.fetch_add(&0, 1).unwrap() == 0 {
                commons::testing::arm_kill(at);
            }
        }
        let mut kills = 0;
        for at in 1.. {
            let started = Manager::new().unwrap().dict().unwrap();
            started.insert(&0, &0).unwrap();
            let pool = Pool::builder().processes(1).initializer((at, started.clone()), arm_first).build().unwrap();
            let result = pool.call().chunk_size(2).map_async(|n: u64| n * n, 0..4).unwrap();
            pool.close().unwrap();
            pool.join().unwrap();
            let result = result.get();
            match result {
                Ok(squares) => assert_eq!(squares, [0, 1, 4, 9], "store {at}"),
                Err(error) => assert!(error.to_string().contains("SIGKILL"), "store {at}: {error}"),
            }
            if started.get(&0).unwrap() == Some(1) {
                break; // it came to its end
            }
            kills += 1;
        }
        println!("{kills} kills");
        assert!(kills > 20);
    }

    /// The parent at every store of making a pool and of a map, by the thread that calls, by the one that handles results, and by
    /// the one that keeps the workers: they end, and what it left in the segment is put right.
    #[test]
    fn a_parent_killed_at_every_store() {
        commons::init_test!();
        type Args = (u64, bool, Manager, Queue<u32>);
        fn caller((at, making, manager, pids): Args) -> u64 {
            if making {
                commons::testing::arm_kill(at);
            }
            let pool = Pool::builder().processes(2).manager(&manager).build().unwrap();
            if making {
                return commons::testing::disarm();
            }
            pool.pids().iter().for_each(|pid| pids.put(pid).unwrap());
            commons::testing::arm_kill(at);
            pool.call().chunk_size(2).map(|n: u64| n, 0..8).unwrap();
            commons::testing::disarm()
        }
        /// Its stores of this map and the next, which takes back chunks from the one worker for the other.
        fn clerk((at, _, manager, pids): Args) -> u64 {
            let pool = Pool::builder().processes(2).manager(&manager).build().unwrap();
            pool.pids().iter().for_each(|pid| pids.put(pid).unwrap());
            let stores = Arc::new(AtomicU64::new(0));
            let (mut armed, counted) = (false, Arc::clone(&stores));
            let hook = move |progress: commons::Progress| {
                if !std::mem::replace(&mut armed, true) {
                    commons::testing::arm_kill(at);
                } else if progress.done == 40 {
                    counted.store(commons::testing::disarm(), Ordering::SeqCst);
                }
            };
            let slow_first = |n: u64| std::thread::sleep(Duration::from_millis(if n == 0 { 20 } else { 0 }));
            pool.call().chunk_size(2).on_progress(hook).map(slow_first, 0..40).unwrap();
            stores.load(Ordering::SeqCst)
        }
        /// Those of the thread that starts workers and replaces the dead, over the death of one and the end of all.
        fn keeper((at, _, manager, pids): Args) -> u64 {
            commons::testing::arm_kill_of("commons-keeper", at);
            let pool = Pool::builder().processes(2).manager(&manager).build().unwrap();
            pool.pids().iter().for_each(|pid| pids.put(pid).unwrap());
            let outcomes = pool.call().chunk_size(1).imap(|n: u64| if n == 3 { die() } else { n }, 0..8).unwrap();
            assert_eq!(outcomes.filter(Result::is_err).count(), 1);
            pool.close().unwrap();
            pool.join().unwrap();
            0
        }
        let kills_of = |parent: fn(Args) -> u64, making: bool, stride: usize| {
            for (kills, at) in (1..).step_by(stride).enumerate() {
                let manager = Manager::builder().capacity(16 << 20).anonymous().unwrap();
                let pids = Manager::new().unwrap().queue::<u32>(8).unwrap();
                let args = (at, making, manager.clone(), pids.clone());
                let outcome = Process::spawn(args, parent).unwrap().join();
                // Workers that it had started, and had not told us of, have been killed as well: nobody holds anything.
                wait_for_the_end(&pids, at);
                let start = Instant::now();
                while manager.recover().is_err() || manager.collect().is_err() || !manager.objects().unwrap().is_empty()
                {
                    assert!(start.elapsed() < PATIENCE, "store {at}: {:?}", manager.objects());
                    std::thread::sleep(Duration::from_millis(1));
                }
                manager.check().unwrap_or_else(|error| panic!("store {at}: {error}"));
                if outcome.is_ok() {
                    return kills;
                }
            }
            unreachable!("a map has an end")
        };
        let kills = [
            kills_of(caller, true, 61),
            kills_of(caller, false, 1),
            kills_of(clerk, false, 1),
            kills_of(keeper, false, 1),
        ];
        println!("{kills:?} kills");
        assert!(kills.iter().all(|kills| *kills > 10));
    }

    /// Waits until whoever has told its pid has ended.
    fn wait_for_the_end(pids: &Queue<u32>, at: u64) {
        let start = Instant::now();
        while let Some(pid) = pids.try_get().unwrap() {
            while runs(pid) {
                assert!(start.elapsed() < PATIENCE, "store {at}: worker {pid} lives on");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
/// A parent that is killed while its workers are at work takes them along.
#[test]
fn a_dead_parent_takes_its_workers_along() {
    commons::init_test!();
    fn parent(pids: Queue<u32>) {
        let pool = Pool::builder().processes(2).build().unwrap();
        let stay = |pids: Queue<u32>| {
            pids.put(&std::process::id()).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        };
        let _ = pool.call().chunk_size(1).map(stay, [pids.clone(), pids]);
    }
    let pids = Manager::new().unwrap().queue::<u32>(8).unwrap();
    let process = Process::spawn(pids.clone(), parent).unwrap();
    let workers = [(); 2].map(|()| pids.get_timeout(PATIENCE).unwrap().unwrap());
    process.kill().unwrap();
    assert!(process.join().is_err());
    let start = Instant::now();
    while workers.iter().any(|pid| runs(*pid)) {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Workers killed at random while maps of all kinds run: every result is right, nothing hangs, nothing leaks.
#[test]
fn storm() {
    commons::init_test!();
    let seed = std::env::var("COMMONS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("seed {seed}");
    let secs = std::env::var("COMMONS_STORM_SECS").ok().and_then(|secs| secs.parse().ok()).unwrap_or(4);
    let end = Instant::now() + Duration::from_secs(secs);
    let mut dice = seed;
    let mut roll = move |bound: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % bound
    };
    fn work((n, begun): (u64, Begun)) -> Vec<u8> {
        begin(&begun, n);
        std::thread::sleep(Duration::from_micros(n % 7 * 100));
        vec![n as u8; (n % 50) as usize * 11]
    }
    let manager = Manager::new().unwrap();
    let (mut rounds, mut kills, mut errors) = (0, 0u64, 0u64);
    while Instant::now() < end {
        let begun: Begun = manager.dict().unwrap();
        let retries = [0, 1000][roll(2) as usize];
        let pool = Pool::builder().processes(3).manager(&manager).retries(retries).build().unwrap();
        let chunk_size = 1 + roll(30) as usize;
        let count = 300;
        let items = (0..count).map(|n| (n, begun.clone()));
        let mut outcomes = HashMap::new();
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let results = pool.call().chunk_size(chunk_size).imap(work, items).unwrap();
                (0..).zip(results).collect::<HashMap<u64, _>>()
            });
            while !call.is_finished() {
                std::thread::sleep(Duration::from_millis(roll(12)));
                let pids = pool.pids();
                if !pids.is_empty() && !call.is_finished() {
                    kill(pids[roll(pids.len() as u64) as usize]);
                    kills += 1;
                }
            }
            outcomes = call.join().unwrap();
        });
        assert_eq!(outcomes.len(), count as usize);
        for (n, outcome) in outcomes {
            let times = begun.get(&n).unwrap().unwrap_or(0);
            match outcome {
                Ok(bytes) => {
                    assert_eq!(bytes, vec![n as u8; (n % 50) as usize * 11]);
                    assert!(times == 1 || retries > 0 && times >= 1, "task {n} begun {times} times");
                }
                Err(error) => {
                    assert!(retries == 0 && times <= 1, "task {n} begun {times} times: {error}");
                    assert!(error.to_string().contains("SIGKILL"), "{error}");
                    errors += 1;
                }
            }
        }
        pool.close().unwrap();
        pool.join().unwrap();
        rounds += 1;
    }
    println!("{rounds} rounds, {kills} kills, {errors} tasks lost");
    assert!(errors <= kills);
    manager.recover().unwrap();
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 0);
    manager.check().unwrap();
}
