//! Proves promise 2: whatever a peer writes into the segment, or cuts off it, operations give wrong data or an error,
//! in time: no signal, no panic, no endless loop.
//!
//! Operations run in a child process; a watchdog in it ends it when one of them does not return. What is wrong is
//! printed with the seed of its round. `COMMONS_HOSTILE_SECS` runs it longer, `COMMONS_SEED` repeats one round.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Dice, role, say, start_with};
use commons::{
    Array, Connection, Dict, ErrorKind, JoinableQueue, List, Lock, Manager, Namespace, PriorityQueue, Queue, Set,
    Value, wait,
};

/// Longest that one operation may take: twice the patience of an internal wait.
const LIMIT: Duration = Duration::from_secs(75);
const PAGE: u64 = 64 * 1024;
const CAPACITY: u64 = 16 << 20;
/// Threads that run rounds: most of a round that waits for a latch that nobody will release is sleep.
const LANES: u64 = 24;

#[test]
fn children() {
    match role() {
        Some((role, argument)) if role == "flips" => flips(&argument),
        Some((role, argument)) if role == "truncation" => truncation(&argument),
        _ => {}
    }
}

fn seconds() -> u64 {
    std::env::var("COMMONS_HOSTILE_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(8)
}

#[test]
fn flipped_words_are_survived() {
    let fixed = std::env::var("COMMONS_SEED").ok();
    let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = fixed.as_deref().map_or(fresh, |s| s.parse().expect("COMMONS_SEED is a number"));
    println!("COMMONS_SEED={seed}");
    let argument = format!("{seed} {} {}", seconds(), u8::from(fixed.is_some()));
    let mut child = start_with("flips", &argument, |_| {}).unwrap();
    let report = std::thread::spawn({
        let patience = Duration::from_secs(seconds()) + 3 * LIMIT;
        move || {
            let status = child.wait_for(patience);
            assert!(status.success(), "seed {seed}: {status:?}, signal {:?}", status.signal());
        }
    });
    report.join().unwrap();
}

/// What each lane is doing, for the watchdog and for the panic message.
struct Lane {
    seed: u64,
    what: &'static str,
    since: Instant,
}

static LANE_STATES: Mutex<Vec<Option<Lane>>> = Mutex::new(Vec::new());

thread_local! {
    static LANE: std::cell::Cell<(usize, u64)> = const { std::cell::Cell::new((0, 0)) };
}

fn begin(what: &'static str) {
    let (lane, seed) = LANE.get();
    LANE_STATES.lock().unwrap()[lane] = Some(Lane { seed, what, since: Instant::now() });
}

fn end() -> Duration {
    let (lane, _) = LANE.get();
    let state = LANE_STATES.lock().unwrap()[lane].take();
    state.map_or(Duration::ZERO, |lane| lane.since.elapsed())
}

fn flips(argument: &str) {
    let mut numbers = argument.split(' ').map(|n| n.parse::<u64>().unwrap());
    let (seed, seconds, fixed) = (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap() == 1);
    LANE_STATES.lock().unwrap().resize_with(LANES as usize, || None);
    // Each place that panics is told once; the other rounds go on, to find more of them.
    static PANICS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    std::panic::set_hook(Box::new(move |info| {
        let (lane, seed) = LANE.get();
        let what = LANE_STATES.try_lock().ok().and_then(|states| states[lane].as_ref().map(|l| l.what));
        let place = info.location().map_or_else(String::new, ToString::to_string);
        if PANICS.lock().unwrap().insert(place) {
            let trace = std::backtrace::Backtrace::force_capture();
            eprintln!("PANIC in {what:?}, COMMONS_SEED={seed}: {info}\n{trace}");
        }
    }));
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            for lane in LANE_STATES.lock().unwrap().iter().flatten() {
                if lane.since.elapsed() > LIMIT {
                    eprintln!("HANG in {} for {:?}, COMMONS_SEED={}", lane.what, lane.since.elapsed(), lane.seed);
                    std::process::abort();
                }
            }
        }
    });
    let end = Instant::now() + Duration::from_secs(seconds);
    let rounds = AtomicU64::new(0);
    let slow = Mutex::new(HashMap::<&str, (u32, Duration, u64)>::new());
    let lanes = if fixed { 1 } else { LANES };
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let (rounds, slow) = (&rounds, &slow);
            scope.spawn(move || {
                let mut dice = Dice(seed.wrapping_add(lane << 32));
                let mut round_seed = seed;
                loop {
                    if !fixed {
                        round_seed = dice.next();
                    }
                    LANE.set((lane as usize, round_seed));
                    let _ = std::panic::catch_unwind(|| round(round_seed, slow));
                    rounds.fetch_add(1, Ordering::Relaxed);
                    if fixed || Instant::now() > end {
                        break;
                    }
                }
            });
        }
    });
    eprintln!("{} rounds", rounds.load(Ordering::Relaxed));
    for (what, (times, longest, seed)) in slow.lock().unwrap().iter() {
        eprintln!("slow: {what} {times} times, at most {longest:?} (COMMONS_SEED={seed})");
    }
    let panics = PANICS.lock().unwrap();
    assert!(panics.is_empty(), "{panics:?}");
}

/// A peer's own view of the segment's memory.
struct Peer {
    words: *mut u64,
    count: u64,
}

// SAFETY: a raw view of shared memory, accessed by volatile word accesses only.
unsafe impl Send for Peer {}
// SAFETY: as above.
unsafe impl Sync for Peer {}

impl Peer {
    /// Maps the segment file of this process that no peer has mapped yet.
    fn of(manager: &Manager) -> Peer {
        // The serialised manager ends with pid and descriptor: where others find the memory file.
        let file = descriptor(manager);
        let len = CAPACITY as usize;
        // SAFETY: a fresh shared mapping; the descriptor is open, the result is checked.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Peer { words: base.cast(), count: CAPACITY / 8 }
    }

    fn read(&self, word: u64) -> u64 {
        assert!(word < self.count);
        // SAFETY: in bounds of the mapping, whose file is sealed against shrinking.
        unsafe { self.words.add(word as usize).read_volatile() }
    }

    fn write(&self, word: u64, value: u64) {
        assert!(word < self.count);
        // SAFETY: as above.
        unsafe { self.words.add(word as usize).write_volatile(value) }
    }

    /// A word of the part of the segment that `aim` says.
    fn pick(&self, dice: &mut Dice, aim: u64) -> u64 {
        let committed = (self.read(128 / 8) / PAGE).clamp(9, CAPACITY / PAGE);
        let slot = |dice: &mut Dice, table: u64| (table + dice.below(8) * 256) / 8 + dice.below(10);
        match aim {
            0 => dice.below(48),                       // identity, growth, hints, roots
            1 => 48 + dice.below(50),                  // hints of classes, object chunks
            2 => slot(dice, PAGE),                     // processes
            3 => slot(dice, 2 * PAGE),                 // threads and their intents
            4 => 6 * PAGE / 8 + dice.below(committed), // page table
            // The heap, its beginning more often: roots, object table, directories, the first buckets.
            _ => {
                let page = 7 + dice.below(committed - 7);
                let depth = [64, 512, 2048, PAGE / 8][dice.below(4) as usize];
                let word = page * PAGE / 8 + dice.below(depth);
                // Where something is.
                (word..word + 64).find(|w| *w < self.count && self.read(*w) != 0).unwrap_or(word)
            }
        }
    }

    fn flip(&self, dice: &mut Dice, aim: u64) {
        let aim = if aim == 7 { dice.below(8) } else { aim };
        let word = self.pick(dice, aim);
        let old = self.read(word);
        let value = match dice.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => dice.next(),
            3 => dice.below(1 << 20) * 8,
            4 => old.wrapping_add(8),
            5 => old.wrapping_sub(1),
            6 => old ^ 0xff << (8 * dice.below(8)),
            7 | 8 => {
                let aim = dice.below(8);
                self.read(self.pick(dice, aim))
            }
            9 => old | u64::MAX << 32,
            _ => old ^ 1 << dice.below(64),
        };
        self.write(word, value);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody uses it any more.
        unsafe { libc::munmap(self.words.cast(), CAPACITY as usize) };
    }
}

/// The segment's memory file, opened as a peer would.
fn descriptor(manager: &Manager) -> File {
    let text = postcard::to_stdvec(manager).unwrap();
    // SegmentId, then Locator::Anonymous(pid, descriptor): the two last integers, as postcard's varints.
    let mut numbers = Vec::new();
    let (mut value, mut shift) = (0u64, 0u32);
    for byte in text {
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(value);
            (value, shift) = (0, 0);
        }
    }
    let fd = numbers.last().expect("a locator");
    File::options().read(true).write(true).open(format!("/proc/self/fd/{fd}")).expect("the memory file")
}

struct Objects {
    manager: Manager,
    plain: Dict<u64, u64>,
    boxed: Dict<String, Vec<u8>>,
    nest: Dict<u64, Dict<u64, u64>>,
    queue: Queue<u64>,
    texts: Queue<String>,
    lock: Lock<Vec<u64>>,
    ends: [Connection<Vec<u8>>; 2],
    carrier: [Connection<Connection<Vec<u8>>>; 2],
    numbers: List<u64>,
    lines: List<String>,
    set: Set<u64>,
    space: Namespace,
    value: Value<String>,
    array: Array<u16>,
    jobs: JoinableQueue<Vec<u8>>,
    urgent: PriorityQueue<Queue<u64>>,
    sheets: Dict<u64, Sheet>,
    keyed: Dict<Dict<u64, u64>, u64>,
}

commons::shared! {
    struct Sheet {
        rows: List<u64>,
        notes: Dict<u64, String>,
    }
}

fn build(dice: &mut Dice) -> commons::Result<Objects> {
    let manager = Manager::builder().capacity(CAPACITY).anonymous()?;
    let plain = manager.named("plain").dict()?;
    let boxed = manager.dict()?;
    let nest = manager.dict()?;
    let queue = manager.queue(64)?;
    let texts = if dice.below(2) == 0 { manager.queue(8)? } else { manager.unbounded_queue()? };
    let lock = manager.lock(vec![1, 2, 3])?;
    let ends = <[_; 2]>::from(manager.pipe()?);
    let carrier = <[_; 2]>::from(manager.pipe()?);
    for i in 0..dice.below(400) {
        plain.insert(&i, &i)?;
        boxed.insert(&format!("key {i}"), &vec![i as u8; dice.below(300) as usize])?;
    }
    for i in 0..4 {
        nest.insert(&i, &manager.dict()?)?;
        queue.put(&i)?;
        ends[0].send(&vec![3; 40 * i as usize])?;
        carrier[1].send(&manager.pipe()?.0)?;
        texts.put(&"text that is a good deal longer than a slot has room for, so it is in a block".repeat(2))?;
    }
    let (jobs, urgent) = (manager.joinable_queue(40)?, manager.unbounded_priority_queue()?);
    for i in 0..30 {
        jobs.put(&vec![i as u8; dice.below(200) as usize])?;
        urgent.put(dice.below(5) as i64, &manager.queue(4)?)?;
    }
    std::mem::forget(jobs.lease()?);
    let (numbers, lines, set) = (manager.list()?, manager.list()?, manager.set()?);
    for i in 0..dice.below(100) {
        numbers.push(&i)?;
        lines.push(&"line ".repeat(i as usize % 20))?;
        set.insert(&i)?;
    }
    let (sheets, keyed) = (manager.dict()?, manager.dict()?);
    for i in 0..4 {
        sheets.insert(&i, &manager.shared()?)?;
        keyed.insert(&manager.dict()?, &i)?;
    }
    let (space, value, array) = (manager.namespace()?, manager.value("value".to_owned())?, manager.array(5000)?);
    Ok(Objects {
        manager,
        plain,
        boxed,
        nest,
        queue,
        texts,
        lock,
        numbers,
        lines,
        set,
        space,
        value,
        array,
        ends,
        carrier,
        jobs,
        urgent,
        sheets,
        keyed,
    })
}

/// One operation, any. Its result does not matter.
fn operate(objects: &Objects, dice: &mut Dice) -> &'static str {
    let Objects {
        manager,
        plain,
        boxed,
        nest,
        queue,
        texts,
        lock,
        numbers,
        lines,
        set,
        space,
        value,
        array,
        ends,
        carrier,
        jobs,
        urgent,
        sheets,
        keyed,
    } = objects;
    let (end, carrier) = (&ends[dice.below(2) as usize], &carrier[dice.below(2) as usize]);
    let short = Duration::from_micros(dice.below(1500));
    let number = dice.below(500);
    let text = format!("key {number}");
    macro_rules! act {
        ($name:literal, $result:expr) => {{
            begin($name);
            let _ = $result;
            $name
        }};
    }
    let at = number % 100;
    match dice.below(98) {
        68 | 69 => act!("send", end.send_timeout(&vec![1; number as usize], short)),
        70 | 71 => act!("receive", end.recv_timeout(short)),
        72 => act!("poll", end.poll(short)),
        73 | 74 => act!("wait", wait(&[end, carrier, queue, texts], Some(short))),
        75 => act!(
            "make a pipe",
            manager.pipe::<u64>().and_then(|(one, other)| one.send(&1).and(other.recv_timeout(short)))
        ),
        76 => act!("send an end", carrier.send_timeout(end, short)),
        77 => act!("send a new end", manager.pipe().and_then(|(one, _)| carrier.send_timeout(&one, short))),
        78 | 79 => act!("receive an end", carrier.recv_timeout(short).map(|end| end.map(|end| end.try_recv()))),
        80 => act!("close an end", if dice.below(8) == 0 { end.close() } else { Ok(()) }),
        81 => act!("clone an end", drop(end.clone())),
        0 | 1 => act!("get", plain.get(&number)),
        2 | 3 => act!("insert", plain.insert(&number, &number)),
        4 => act!("remove", plain.remove(&number)),
        5 => act!("iter", plain.iter().take(100_000).take_while(Result::is_ok).count()),
        6 => act!("snapshot", plain.snapshot().map(drop)),
        7 => act!("len", plain.len()),
        8 => act!("fetch_add", plain.fetch_add(&number, 1)),
        9 => act!("update", plain.update(&number, |old| old.map(|n| n.wrapping_add(1)))),
        10 | 11 => act!("boxed get", boxed.get(text.as_str())),
        12 | 13 => act!("boxed insert", boxed.insert(text.as_str(), &vec![7; number as usize])),
        14 => act!("boxed remove", boxed.remove(text.as_str())),
        15 => act!("boxed iter", boxed.iter().take(100_000).take_while(Result::is_ok).count()),
        16 => act!("boxed snapshot", boxed.snapshot().map(drop)),
        17 => act!("boxed pop_item", boxed.pop_item()),
        18 => act!("boxed replace", boxed.replace(text.as_str(), &vec![1; 20])),
        19 => act!("boxed clear", if dice.below(4) == 0 { boxed.clear() } else { Ok(()) }),
        20 => act!("boxed get_or_insert", boxed.get_or_insert(text.as_str(), &vec![3])),
        21 => act!("nest get", nest.get(&(number % 4)).map(|d| d.map(|d| d.insert(&1, &1)))),
        22 => act!("nest insert", manager.dict().and_then(|d| nest.insert(&(number % 6), &d))),
        23 => act!("nest remove", nest.remove(&(number % 4))),
        24 | 25 => act!("put", queue.put_timeout(&number, short)),
        26 | 27 => act!("get item", queue.get_timeout(short)),
        28 => act!("try_put", texts.try_put(&text)),
        29 => act!("put text", texts.put_timeout(&text.repeat(20), short)),
        30 | 31 => act!("get text", texts.get_timeout(short)),
        32 => act!("queue len", (queue.len(), texts.is_full(), texts.is_closed())),
        33 => act!(
            "lock",
            lock.lock_timeout(short).map(|held| {
                let guard = held.map(commons::Held::into_guard);
                guard.map(|guard| (guard.get(), guard.set(&vec![number; 5])))
            })
        ),
        34 => act!("is_locked", (lock.is_locked(), lock.release())),
        35 => act!("create dict", manager.dict::<u64, String>().and_then(|d| d.insert(&1, &text))),
        36 => act!("create queue", manager.queue::<u64>(4).and_then(|q| q.try_put(&1))),
        37 => act!("named", manager.named(&text).dict::<u64, u64>().map(drop)),
        38 => act!("existing", manager.existing("plain").dict::<u64, u64>().map(drop)),
        39 => act!("unlink", manager.unlink(&text)),
        40 => act!("clone", (plain.clone(), texts.clone(), lock.clone())),
        41 => act!("check", manager.check().map(drop)),
        42 => act!("recover", (manager.recover(), manager.collect())),
        43 => act!("list get", (numbers.get(at), lines.get(at), lines.len())),
        44 => act!("list push", numbers.push(&number)),
        45 => act!("list push text", lines.push(&text)),
        46 => act!("list pop", (numbers.pop(), lines.pop_front())),
        47 => act!("list set", (numbers.set(at, &1), lines.set(at, &text))),
        48 => act!("list insert", (numbers.insert(at, &1), lines.insert(at, &text))),
        49 => act!("list pop_at", (numbers.pop_at(at), lines.pop_at(at))),
        50 => act!("list sort", (numbers.sort(), lines.sort())),
        51 => act!("list snapshot", (numbers.snapshot().map(drop), lines.snapshot().map(drop))),
        52 => act!("list set_range", lines.set_range(at..at + 3, &[text.clone(), text])),
        53 => act!("list extend", (numbers.extend(&[1, 2, 3]), lines.extend(&[text.clone(), text]))),
        54 => act!("list remove", (numbers.remove(&at), lines.remove_range(at..))),
        55 => act!("list clear", if dice.below(4) == 0 { lines.clear() } else { lines.reverse() }),
        56 => act!("list count", (numbers.count(&at), lines.index_of(&text))),
        57 => act!("set", (set.insert(&number), set.contains(&at), set.discard(&at))),
        58 => act!("set algebra", set.is_subset(set)),
        59 => act!("namespace", (space.set("a", &text), space.get::<String>("a"), space.names().map(drop))),
        60 => act!("value", (value.load(), value.store(&text), value.swap(&text))),
        61 => act!("array", (array.set(at, 1), array.get(number), array.to_vec().map(drop))),
        62 => act!("array fill", (array.fill(at.., 7), array.fetch_add(at, 1))),
        63 => act!("array lock", array.lock_timeout(short).map(drop)),
        64 => act!("reopen list", manager.named("l").list::<String>().and_then(|l| l.push(&text))),
        65 => act!("reopen array", manager.named("a").array::<u64>(100).and_then(|a| a.to_vec())),
        66 => act!("reopen block", manager.named("b").block(100).and_then(|b| b.write(3, &[1; 20]))),
        67 => act!("list remove text", lines.remove(&text)),
        83 => act!("put job", jobs.put_timeout(&vec![1; number as usize], short)),
        84 => act!("get job", jobs.get_timeout(short).map(drop)),
        85 => act!("task_done", jobs.task_done()),
        86 => act!("lease", jobs.try_lease().map(|lease| lease.map(|lease| (lease.get(), lease.ack())))),
        87 => act!("release", jobs.try_lease().map(|lease| lease.map(commons::Lease::release))),
        88 => act!(
            "loan",
            jobs.loan(number as usize + 8).map(|mut loan| {
                let _ = loan.write_at(number as usize, b"bytes");
                number.is_multiple_of(2).then(|| loan.commit_timeout(short).map(drop))
            })
        ),
        89 => act!("join", jobs.join_timeout(short)),
        90 => act!("put urgent", manager.queue(4).and_then(|q| urgent.try_put(number as i64 % 7, &q).map(drop))),
        91 => act!("get urgent", urgent.get_timeout(short).map(drop)),
        92 => act!("sheet", sheets.get(&(number % 4)).map(|sheet| sheet.map(|sheet| sheet.rows.push(&number)))),
        93 => act!("new sheet", manager.shared::<Sheet>().and_then(|sheet| sheets.insert(&(number % 6), &sheet))),
        94 => act!("named sheet", manager.named("sheet").shared::<Sheet>().and_then(|sheet| sheet.notes.clear())),
        95 => act!("new key", manager.dict().and_then(|key| keyed.insert(&key, &number))),
        96 => act!("keys", keyed.keys().take(100).flatten().for_each(|key| drop(key.insert(&1, &1)))),
        _ => act!("objects", (manager.objects().map(drop), manager.committed())),
    }
}

fn round(seed: u64, slow: &Mutex<HashMap<&'static str, (u32, Duration, u64)>>) {
    let dice = &mut Dice(seed);
    let aim = dice.below(8);
    let meanwhile = dice.below(3) == 0;
    let timed = || {
        let took = end();
        took > Duration::from_secs(5)
    };
    begin("building");
    let objects = match build(dice) {
        Ok(objects) => objects,
        Err(error) => panic!("building: {error}"),
    };
    end();
    let peer = Arc::new(Peer::of(&objects.manager));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if meanwhile {
            let (peer, stop) = (Arc::clone(&peer), &stop);
            let mut dice = Dice(dice.next());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    peer.flip(&mut dice, aim);
                    std::thread::sleep(Duration::from_micros(dice.below(200)));
                }
            });
        } else {
            for _ in 0..dice.below(20) {
                peer.flip(dice, aim);
            }
        }
        let mut slow_ones = 0;
        for _ in 0..300 {
            if !meanwhile && dice.below(4) == 0 {
                peer.flip(dice, aim);
            }
            let what = operate(&objects, dice);
            let took = end();
            if took > Duration::from_secs(2) {
                let mut slow = slow.lock().unwrap();
                let entry = slow.entry(what).or_insert((0, Duration::ZERO, 0));
                entry.0 += 1;
                if took > entry.1 {
                    (entry.1, entry.2) = (took, seed);
                }
                slow_ones += 1;
                if slow_ones == 1 {
                    break; // the rest of the round would wait as well
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    begin("dropping");
    drop(objects);
    if timed() {
        slow.lock().unwrap().entry("dropping").or_insert((0, Duration::ZERO, seed)).0 += 1;
    }
}

#[test]
fn truncated_files_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    truncate_under(&path, &format!("file {}", path.display()));
}

#[test]
fn truncated_names_are_survived() {
    let name = common::unique("truncated");
    let _unlink = common::Unlink(name.clone());
    truncate_under(&common::shm_path(&name), &format!("name {name}"));
}

fn truncate_under(path: &std::path::Path, argument: &str) {
    for length in [0, 4096, PAGE, 7 * PAGE, 9 * PAGE] {
        let mut child = common::start("truncation", argument);
        child.expect("running");
        std::thread::sleep(Duration::from_millis(30));
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(length).unwrap();
        child.tell("truncated");
        child.expect("ended");
        child.succeed();
        let _ = std::fs::remove_file(path);
    }
}

fn truncation(argument: &str) {
    let manager = match argument.split_once(' ').unwrap() {
        ("file", path) => Manager::builder().capacity(CAPACITY).create_file(path),
        (_, name) => Manager::builder().capacity(CAPACITY).create(name),
    };
    let manager = manager.unwrap();
    let (dict, queue) = (manager.dict::<u64, Vec<u8>>().unwrap(), manager.queue::<u64>(16).unwrap());
    for i in 0..1000 {
        dict.insert(&i, &vec![1; 100]).unwrap();
    }
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (dict, queue, manager, seen) = (&dict, &queue, &manager, &seen);
            scope.spawn(move || {
                let mut dice = Dice(thread);
                let mut failures = 0;
                while failures < 200 {
                    let key = dice.below(2000);
                    let results = [
                        dict.insert(&key, &vec![2; key as usize]).map(drop),
                        dict.get(&key).map(drop),
                        queue.try_put(&1).map(drop),
                        queue.try_get().map(drop),
                        manager.dict::<u64, u64>().map(drop),
                    ];
                    for error in results.into_iter().filter_map(Result::err) {
                        assert!(
                            !seen.load(Ordering::Relaxed)
                                || matches!(
                                    error.kind(),
                                    ErrorKind::Evicted
                                        | ErrorKind::Corrupted
                                        | ErrorKind::OutOfMemory
                                        | ErrorKind::Stale
                                        | ErrorKind::TypeMismatch
                                        | ErrorKind::Closed
                                        | ErrorKind::Contended
                                        | ErrorKind::Decode
                                        | ErrorKind::Io
                                ),
                            "{error:?}"
                        );
                        failures += usize::from(error.kind() != ErrorKind::OutOfMemory);
                        if error.kind() == ErrorKind::OutOfMemory {
                            let _ = dict.clear();
                        }
                    }
                }
            });
        }
        say("running");
        common::hear();
        seen.store(true, Ordering::Relaxed);
    });
    let _ = (manager.check(), manager.recover(), manager.collect(), manager.objects());
    drop((dict, queue, manager));
    say("ended");
}
