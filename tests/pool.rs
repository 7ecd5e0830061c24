//! Proves what a pool promises: results in order whatever the chunks, errors where they belong, an end in every way it
//! can be asked for. What kills do to it is in `tests/pool_kill.rs`.

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

/// `map` keeps the order whatever the chunk size and however long the tasks take; nothing to do is done.
#[test]
fn map_keeps_the_order() {
    commons::init_test!();
    let pool = Pool::new(3).unwrap();
    for chunk_size in [1, 2, 7, 99, 100, 101, 5000] {
        assert_eq!(pool.call().chunk_size(chunk_size).map(square, 0..100).unwrap(), squares(100), "{chunk_size}");
    }
    assert_eq!(pool.map(square, 0..1000).unwrap(), squares(1000));
    let uneven = |n: u64| {
        std::thread::sleep(Duration::from_micros((n * 7919) % 1500));
        n * n
    };
    assert_eq!(pool.call().chunk_size(1).map(uneven, 0..200).unwrap(), squares(200));
    assert_eq!(pool.map(square, []).unwrap(), [0u64; 0]);
    assert_eq!(pool.imap(square, []).unwrap().count(), 0);
    assert_eq!(pool.call().chunk_size(0).map(square, 0..3).unwrap_err().kind(), ErrorKind::InvalidInput);
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

/// A panic is an error with its message and place, and with its backtrace if one is asked for; everything else that was
/// asked for is done nevertheless.
#[test]
fn a_panic_is_an_error_in_its_place() {
    commons::init_test!();
    fn picky(n: u64) -> u64 {
        assert_ne!(n % 10, 7, "number {n} is bad");
        n
    }
    let manager = Manager::new().unwrap();
    let seen = manager.dict::<u64, u64>().unwrap();
    let pool = Pool::new(2).unwrap();
    for chunk_size in [1, 4, 30] {
        let error = pool.call().chunk_size(chunk_size).map(picky, 0..30).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        for part in ["number 7 is bad", "tests/pool.rs:"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        // What came before an error, the error, and what came after it.
        let outcomes: Vec<_> = pool.call().chunk_size(chunk_size).imap(picky, 0..30).unwrap().collect();
        for (n, outcome) in outcomes.iter().enumerate() {
            match n % 10 {
                7 => assert_eq!(outcome.as_ref().unwrap_err().kind(), ErrorKind::Panicked),
                _ => assert_eq!(*outcome.as_ref().unwrap(), n as u64),
            }
        }
        assert_eq!(outcomes.len(), 30);
    }
    fn note((n, seen): (u64, Dict<u64, u64>)) {
        seen.insert(&n, &n).unwrap();
        assert_ne!(n, 0, "the first fails");
        std::thread::sleep(Duration::from_millis(2));
    }
    let error = pool.call().chunk_size(1).map(note, (0..20).map(|n| (n, seen.clone()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert_eq!(seen.len().unwrap(), 20, "map waits for all");
}

/// An error has the backtrace of the worker.
#[test]
fn a_backtrace_comes_along() {
    commons::init_test!();
    fn inner((): ()) -> String {
        let pool = Pool::new(1).unwrap();
        #[inline(never)]
        fn a_function_that_panics(_: u64) -> u64 {
            panic!("traced")
        }
        let error = pool.apply(a_function_that_panics, 1).unwrap_err();
        format!("{error}\n{}", error.backtrace().unwrap_or_default())
    }
    let text = commons::Process::builder().env("RUST_BACKTRACE", "1").spawn((), inner).unwrap().join().unwrap();
    assert!(text.contains("traced") && text.contains("a_function_that_panics"), "{text}");
}

/// A result may be a `Result` of the user's own, and comes back as it is.
#[test]
fn errors_of_ones_own_keep_their_type() {
    commons::init_test!();
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Refusal {
        Odd(u64),
    }
    let even = |n: u64| if n.is_multiple_of(2) { Ok(n) } else { Err(Refusal::Odd(n)) };
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(even, 1..=2).unwrap(), [Err(Refusal::Odd(1)), Ok(2)]);
}

/// Something that some codec refuses.
#[derive(Clone, Debug, PartialEq)]
enum Awkward {
    Fine(u32),
    NotEncoded,
    NotDecoded,
}

impl Serialize for Awkward {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Awkward::Fine(n) => n.serialize(serializer),
            Awkward::NotEncoded => Err(serde::ser::Error::custom("it does not want to")),
            Awkward::NotDecoded => u32::MAX.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Awkward {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Awkward, D::Error> {
        match u32::deserialize(deserializer)? {
            u32::MAX => Err(serde::de::Error::custom("nobody understands it")),
            n => Ok(Awkward::Fine(n)),
        }
    }
}

/// An argument or a result that cannot be encoded or decoded is an error in its place, and the pool survives.
#[test]
fn what_cannot_be_encoded_is_an_error() {
    commons::init_test!();
    let pool = Pool::new(2).unwrap();
    let kinds = |items: Vec<Awkward>, function: fn(Awkward) -> Awkward, chunk_size: usize| -> Vec<Option<ErrorKind>> {
        let outcomes = pool.call().chunk_size(chunk_size).imap(function, items).unwrap();
        outcomes.map(|outcome| outcome.err().map(|error| error.kind())).collect()
    };
    let items = vec![Awkward::Fine(1), Awkward::NotEncoded, Awkward::Fine(2), Awkward::NotDecoded, Awkward::Fine(3)];
    for chunk_size in [1, 2, 5] {
        let expected = [None, Some(ErrorKind::Encode), None, Some(ErrorKind::Decode), None];
        assert_eq!(kinds(items.clone(), |item| item, chunk_size), expected);
        let produce = |item: Awkward| match item {
            Awkward::Fine(1) => Awkward::NotEncoded,
            Awkward::Fine(2) => Awkward::NotDecoded,
            item => item,
        };
        let items = (1..4).map(Awkward::Fine).collect();
        assert_eq!(kinds(items, produce, chunk_size), [Some(ErrorKind::Encode), Some(ErrorKind::Decode), None]);
    }
    let error = pool.map(|item: Awkward| item, [Awkward::NotEncoded]).unwrap_err();
    assert!(error.to_string().starts_with("arguments: "), "{error}");
    assert_eq!(pool.apply(square, 5).unwrap(), 25);
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

/// Nonsense is refused, each with its own error.
#[test]
fn bad_options() {
    commons::init_test!();
    for processes in [0, 241] {
        assert_eq!(Pool::new(processes).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(Pool::builder().tasks_per_child(0).build().unwrap_err().kind(), ErrorKind::InvalidInput);
    let unencodable = Pool::builder().processes(1).initializer(Awkward::NotEncoded, drop).build();
    assert_eq!(unencodable.unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(Pool::builder().processes(1).name("a\0b").build().unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A worker ends after its quota of tasks and another takes its place; with a quota of one, closing and joining come to
/// an end.
#[test]
fn workers_are_recycled() {
    commons::init_test!();
    let whoami = |_: u64| std::process::id();
    for (quota, chunk_size) in [(1, 1), (3, 1), (4, 2)] {
        let pool = Pool::builder().processes(2).tasks_per_child(quota).build().unwrap();
        let pids = pool.call().chunk_size(chunk_size).map(whoami, 0..20).unwrap();
        let mut tasks = std::collections::BTreeMap::<u32, usize>::new();
        pids.iter().for_each(|pid| *tasks.entry(*pid).or_default() += 1);
        assert!(tasks.values().all(|count| *count <= quota), "{tasks:?}");
        assert!(tasks.len() >= 20 / quota, "{tasks:?}");
        pool.close().unwrap();
        pool.join().unwrap();
        assert_eq!(pool.pids(), []);
    }
    let pool = Pool::builder().processes(1).tasks_per_child(1).build().unwrap();
    let results: Vec<_> = (0..6).map(|n| pool.apply_async(square, n).unwrap()).collect();
    pool.close().unwrap();
    pool.join().unwrap();
    assert!(results.into_iter().zip(0..).all(|(result, n)| result.get().unwrap() == n * n));
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
