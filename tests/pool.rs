//! Proves what a pool promises beside the behaviours of `tests/behaviours/pool_process.rs`: every form of call, sizes,
//! handles, and an end in every way it can be asked for. What kills do to it is in `tests/pool_kill.rs`.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use commons::{Dict, ErrorKind, Manager, Pool, Progress, Queue};
use serde::{Deserialize, Serialize};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn square(n: u64) -> u64 {
    n * n
}

fn squares(count: u64) -> Vec<u64> {
    (0..count).map(square).collect()
}

/// The other forms: one call, two arguments, results to come, callbacks, iterators.
#[test]
fn every_form() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.apply(|text: String| text.repeat(2), "ab".to_owned()).unwrap(), "abab");
    assert_eq!(pool.starmap(|a: u32, b: u32| a - b, [(5, 1), (9, 2)]).unwrap(), [4, 7]);
    let later = pool.starmap_async(|a: u32, b: String| format!("{a}{b}"), [(5, "x".to_owned())]).unwrap();
    assert_eq!(later.get().unwrap(), ["5x"]);

    let mut slow = pool.apply_async(|n: u64| std::thread::sleep(Duration::from_millis(n)), 300).unwrap();
    assert!(!slow.is_ready());
    assert_eq!(slow.get_timeout(Duration::from_millis(1)).unwrap(), None);
    assert!(slow.wait_timeout(PATIENCE));
    assert!(slow.is_ready());
    assert_eq!(slow.get_timeout(PATIENCE).unwrap(), Some(()));
    assert_eq!(slow.get_timeout(PATIENCE).unwrap_err().kind(), ErrorKind::InvalidInput);

    let (sender, results) = channel();
    let sender_of_error = sender.clone();
    pool.map_async(square, 0..5).unwrap().on_done(move |result| sender.send(result.map(|all| all[4])).unwrap());
    assert_eq!(results.recv_timeout(PATIENCE).unwrap().unwrap(), 16);
    let fail = |_: u64| -> u64 { panic!("no") };
    pool.map_async(fail, 0..5).unwrap().on_done(move |result| sender_of_error.send(result.map(|_| 0)).unwrap());
    assert_eq!(results.recv_timeout(PATIENCE).unwrap().unwrap_err().kind(), ErrorKind::Panicked);
    let done = pool.apply_async(square, 3).unwrap();
    done.wait();
    let (sender, results) = channel();
    done.on_done(move |result| sender.send(result).unwrap());
    assert_eq!(results.try_recv().unwrap().unwrap(), 9);

    let ordered: Vec<u64> = pool.imap(square, 0..500).unwrap().map(Result::unwrap).collect();
    assert_eq!(ordered, squares(500));
    let chunked: Vec<u64> = pool.call().chunk_size(7).imap(square, 0..500).unwrap().map(Result::unwrap).collect();
    assert_eq!(chunked, squares(500));
    let unordered: BTreeSet<u64> = pool.imap_unordered(square, 0..500).unwrap().map(Result::unwrap).collect();
    assert_eq!(unordered, squares(500).into_iter().collect());
    // An endless iterator, left in the middle.
    assert_eq!(pool.imap(square, 0..).unwrap().nth(999).unwrap().unwrap(), 999 * 999);
    assert_eq!(pool.apply(square, 12).unwrap(), 144);
}

/// Arguments and results of every size, also larger than what a worker may have before it.
#[test]
fn sizes() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    let lengths = [0usize, 1, 7, 8, 9, 56, 4000, 4096, 5000, 100_000, 3 << 20];
    for chunk_size in [1, 3, 20] {
        let double = |bytes: Vec<u8>| [&bytes[..], &bytes[..]].concat();
        let doubled = pool.call().chunk_size(chunk_size).map(double, lengths.map(|len| vec![7; len])).unwrap();
        assert!(doubled.iter().zip(lengths).all(|(bytes, len)| *bytes == vec![7; 2 * len]));
    }
}

/// What a segment is too small for is an error of that task.
#[test]
fn too_large_for_the_segment() {
    commons::init_test!();
    let manager = Manager::builder().capacity(16 << 20).anonymous().unwrap();
    let pool = Pool::builder().processes(1).manager(&manager).build().unwrap();
    let outcomes = pool.imap(|len: usize| vec![1u8; len], [10, 40 << 20, 20]).unwrap();
    let lengths: Vec<_> = outcomes.map(|outcome| outcome.map(|bytes| bytes.len()).map_err(|e| e.kind())).collect();
    assert_eq!((&lengths[0], &lengths[2]), (&Ok(10), &Ok(20)));
    assert!(matches!(lengths[1], Err(ErrorKind::OutOfMemory | ErrorKind::TooLarge)), "{lengths:?}");
    let error = pool.apply(|bytes: Vec<u8>| bytes.len(), vec![0; 40 << 20]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::TooLarge), "{error}");
    assert_eq!(pool.apply(square, 2).unwrap(), 4);
}

/// Handles travel both ways: into tasks, with the caller's own gone at once, and out of them, from segments that only
/// the worker has.
#[test]
fn handles_travel() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    let answers = Manager::new().unwrap().queue::<u64>(100).unwrap();
    let fill =
        |(n, dict, answers): (u64, Dict<u64, u64>, Queue<u64>)| answers.put(&dict.get(&n).unwrap().unwrap()).unwrap();
    let items = (0..20).map(|n| {
        let dict = Manager::new().unwrap().dict().unwrap();
        dict.insert(&n, &(n * 3)).unwrap();
        (n, dict, answers.clone())
    });
    pool.map(fill, items).unwrap();
    let sum: u64 = (0..20).map(|_| answers.get().unwrap()).sum();
    assert_eq!(sum, 570);

    let make = |n: u64| {
        let dict = Manager::new().unwrap().dict().unwrap();
        dict.insert(&n, &(n + 1)).unwrap();
        dict
    };
    for chunk_size in [1, 4] {
        let made: Vec<Dict<u64, u64>> = pool.call().chunk_size(chunk_size).map(make, 0..8).unwrap();
        assert!(made.iter().zip(0..).all(|(dict, n)| dict.get(&n).unwrap() == Some(n + 1)));
    }
    // A worker that ends right behind them waits until they were taken.
    let pool = Pool::builder().processes(2).tasks_per_child(1).build().unwrap();
    let made: Vec<Dict<u64, u64>> = pool.call().chunk_size(1).map(make, 0..6).unwrap();
    assert!(made.iter().zip(0..).all(|(dict, n)| dict.get(&n).unwrap() == Some(n + 1)));
}

static GREETING: Mutex<String> = Mutex::new(String::new());

fn remember(text: String) {
    *GREETING.lock().unwrap() = text;
}

/// Every worker is initialised, replacements too; an initializer that panics fails every call, without end of workers.
#[test]
fn initializer() {
    commons::init_test!();
    let greet = |n: u64| format!("{} {n}", GREETING.lock().unwrap());
    let pool =
        Pool::builder().processes(2).tasks_per_child(2).initializer("hello".to_owned(), remember).build().unwrap();
    let greeted = pool.call().chunk_size(1).map(greet, 0..12).unwrap();
    assert!(greeted.iter().enumerate().all(|(n, text)| *text == format!("hello {n}")), "{greeted:?}");

    let pool = Pool::builder().processes(2).initializer(3, |n: u32| panic!("not with {n}")).build().unwrap();
    let error = pool.map(square, 0..10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("not with 3"), "{error}");
    assert_eq!(pool.apply(square, 1).unwrap_err().kind(), ErrorKind::Panicked);
    pool.join().unwrap();

    let pool = Pool::builder().processes(1).initializer((), |()| std::process::exit(9)).build().unwrap();
    let error = pool.apply(square, 1).unwrap_err();
    assert!(error.kind() == ErrorKind::Process && error.to_string().contains("exit status: 9"), "{error}");
}

/// Closing lets everything finish; joining an open pool is an error, and so is using a closed one.
#[test]
fn close_and_join() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.join().unwrap_err().kind(), ErrorKind::InvalidInput);
    let slow = |n: u64| {
        std::thread::sleep(Duration::from_millis(20));
        n
    };
    let result = pool.call().chunk_size(1).map_async(slow, 0..20).unwrap();
    let mut endless = pool.imap(square, 0..).unwrap();
    pool.close().unwrap();
    pool.close().unwrap();
    for attempt in [
        pool.apply(square, 1).unwrap_err(),
        pool.map(square, 0..3).unwrap_err(),
        pool.map(square, []).unwrap_err(),
        pool.imap(square, 0..3).err().unwrap(),
    ] {
        assert_eq!(attempt.kind(), ErrorKind::Closed);
    }
    pool.join().unwrap();
    pool.join().unwrap();
    assert_eq!(result.get().unwrap(), (0..20).collect::<Vec<u64>>());
    // What was submitted, then the error, then nothing.
    let error = endless.by_ref().find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(endless.next().is_none());
}

/// Terminating stops everything at once; waiting results are errors. Dropping is terminating.
#[test]
fn terminate_and_drop() {
    commons::init_test!();
    let forever = |_: u64| std::thread::sleep(Duration::from_secs(600));
    let start = Instant::now();
    let pool = Pool::new(2).unwrap();
    let result = pool.call().chunk_size(1).map_async(forever, 0..10).unwrap();
    let pids = pool.pids();
    assert_eq!(pids.len(), 2);
    pool.terminate().unwrap();
    assert_eq!(result.get().unwrap_err().kind(), ErrorKind::Closed);
    pool.join().unwrap();
    assert_eq!(pool.apply(square, 1).unwrap_err().kind(), ErrorKind::Closed);
    assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()));

    let pool = Pool::new(2).unwrap();
    let pids = pool.pids();
    let result = pool.apply_async(forever, 1).unwrap();
    let mut endless = pool.imap(forever, 0..).unwrap();
    drop(pool);
    assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
    assert_eq!(result.get().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(endless.next().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(start.elapsed() < PATIENCE);
}

/// A task that waits does not keep those behind it from a worker that is idle.
#[test]
fn nobody_waits_beside_an_idle_worker() {
    commons::init_test!();
    fn gate((n, gate): (u64, Queue<u64>)) -> u64 {
        if n == 0 {
            gate.get().unwrap(); // until all the others are done
        }
        n
    }
    let opened = Manager::new().unwrap().queue(1).unwrap();
    let pool = Pool::new(2).unwrap();
    let mut results = pool.imap_unordered(gate, (0..30).map(|n| (n, opened.clone()))).unwrap();
    let others: BTreeSet<u64> = results.by_ref().take(29).map(Result::unwrap).collect();
    assert_eq!(others, (1..30).collect());
    opened.put(&1).unwrap();
    assert_eq!(results.next().unwrap().unwrap(), 0);
}

/// Progress is told, up to the end, and a hook or a callback that panics harms nobody.
#[test]
fn progress() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    let seen = Arc::new(Mutex::new(Vec::<Progress>::new()));
    let note = Arc::clone(&seen);
    pool.call()
        .chunk_size(3)
        .on_progress(move |progress| note.lock().unwrap().push(progress))
        .map(square, 0..50)
        .unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen.iter().all(|progress| progress.total == Some(50)));
    assert!(seen.windows(2).all(|pair| pair[0].done < pair[1].done));
    assert_eq!(seen.last().unwrap().done, 50);

    let squares_too = pool.call().on_progress(|_| panic!("a hook")).map(square, 0..50).unwrap();
    assert_eq!(squares_too, squares(50));
    pool.apply_async(square, 1).unwrap().on_done(|_| panic!("a callback"));
    assert_eq!(pool.map(square, 0..50).unwrap(), squares(50));
}

/// A pool in a segment of the user's leaves nothing there; and many threads may use one pool.
#[test]
fn threads_share_a_pool_and_it_leaves_nothing() {
    commons::init_test!();
    let manager = Manager::new().unwrap();
    let pool = Pool::builder().processes(2).manager(&manager).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..20 {
                    let items = (0..50).map(|n| n + thread * 1000 + round);
                    let expected: Vec<u64> = items.clone().map(square).collect();
                    assert_eq!(pool.call().chunk_size(3).map(square, items).unwrap(), expected);
                }
            });
        }
    });
    drop(pool);
    manager.recover().unwrap();
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 0);
    manager.check().unwrap();
}

/// A task may have a pool of its own.
#[test]
fn pools_nest() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    let inner = |n: u64| Pool::new(2).unwrap().map(square, 0..n).unwrap().into_iter().sum::<u64>();
    assert_eq!(pool.map(inner, [3, 4]).unwrap(), [5, 14]);
}

/// A forked child has no pool: an error, not a wait without end.
#[test]
fn a_forked_child_has_none() {
    commons::init_test!();
    let pool = Pool::new(1).unwrap();
    // SAFETY: the child uses what is usable after a fork, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let refused = pool.apply(square, 1).is_err_and(|error| error.kind() == ErrorKind::InvalidInput);
            drop(pool);
            // SAFETY: ends the process.
            unsafe { libc::_exit(if refused { 0 } else { 1 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is live and writable, `child` is our child.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
        }
    }
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

/// A callback that joins its pool gets an error, also while another thread is joining it already.
#[test]
fn a_callback_cannot_join() {
    commons::init_test!();
    let opened: Queue<u64> = Manager::new().unwrap().queue(1).unwrap();
    let pool = Arc::new(Pool::new(1).unwrap());
    let (sender, joined) = channel();
    let own = Arc::clone(&pool);
    pool.apply_async(|gate: Queue<u64>| gate.get().unwrap(), opened.clone())
        .unwrap()
        .on_done(move |_| sender.send(own.join().map_err(|error| error.kind())).unwrap());
    pool.close().unwrap();
    let other = Arc::clone(&pool);
    let other = std::thread::spawn(move || other.join());
    std::thread::sleep(Duration::from_millis(200)); // for the other to be joining; if it is not, nothing is proved
    opened.put(&1).unwrap();
    assert_eq!(joined.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::InvalidInput));
    other.join().unwrap().unwrap();
    pool.join().unwrap();
}

/// An item, with a handle, whose destructor uses the pool.
#[derive(Clone, Serialize, Deserialize)]
struct Nosy {
    queue: Queue<u64>,
    #[serde(skip)]
    pool: Option<Arc<Pool>>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.pids();
        }
    }
}

/// What user code a refused item runs when it is dropped may use the pool.
#[test]
fn refused_items_are_dropped_without_a_lock() {
    commons::init_test!();
    let queue = Manager::new().unwrap().queue(1).unwrap();
    let pool = Arc::new(Pool::new(1).unwrap());
    let (sender, refused) = channel();
    std::thread::spawn(move || {
        let items = std::iter::repeat(Nosy { queue, pool: Some(Arc::clone(&pool)) });
        let mut results = pool.imap(|_: Nosy| (), items).unwrap();
        results.next().unwrap().unwrap();
        pool.terminate().unwrap();
        let refused = results.find_map(Result::err).map(|error| error.kind());
        sender.send(refused).unwrap();
    });
    assert_eq!(refused.recv_timeout(PATIENCE).unwrap(), Some(ErrorKind::Closed));
}
