//! Proves that whatever a peer writes into the words of locks, semaphores, conditions, events, barriers and once-made values,
//! their operations give wrong answers or errors, in time: no panic, no endless loop. `COMMONS_SEED` replays a run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::mem::Options;
use crate::raw::object::Kind;
use crate::raw::session::Session;
use crate::{Manager, Passage};

/// Twice the patience of an internal wait, and some.
const LIMIT: Duration = Duration::from_secs(75);
const LANES: u64 = 4;

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16 ^ self.0 << 20
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 8) % end
    }
}

#[test]
fn flipped_words_are_survived() {
    let seed = std::env::var("COMMONS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(crate::os::random_u64);
    println!("COMMONS_SEED={seed}");
    let (send, receive) = channel();
    for lane in 0..LANES {
        let send = send.clone();
        std::thread::spawn(move || {
            let mut dice = Dice(seed ^ lane << 40);
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                round(&mut dice);
                send.send(()).unwrap();
            }
        });
    }
    drop(send);
    let mut rounds = 0;
    loop {
        match receive.recv_timeout(LIMIT) {
            Ok(()) => rounds += 1,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(e) => panic!("an operation hangs, seed {seed}: {e}"),
        }
    }
    println!("{rounds} rounds");
    assert!(rounds > 4 * LANES, "a lane has panicked, seed {seed}");
}

/// One segment, in which one thread flips words while another works.
fn round(dice: &mut Dice) {
    let session = Session::anonymous(&Options { capacity: 16 << 20, ..Options::default() }).unwrap();
    let manager = Manager::from_session(session);
    let (work, stop) = (dice.next(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let result = operate(&manager, &mut Dice(work), &stop);
            stop.store(true, Ordering::Relaxed);
            result
        });
        while !stop.load(Ordering::Relaxed) {
            flip(&manager, dice);
            std::thread::yield_now();
        }
        let _ = worker.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload));
    });
}

/// Changes a word of some object but a plain lock: one whose word names a living process by chance is held by it.
fn flip(manager: &Manager, dice: &mut Dice) {
    let Ok(objects) = manager.session().objects() else { return };
    let targets: Vec<_> = objects.iter().filter(|object| object.kind != Kind::Lock).collect();
    let Some(object) = targets.get(dice.below(targets.len().max(1) as u64) as usize) else { return };
    let size = match object.kind {
        Kind::Event => 1,
        Kind::RLock => 2,
        Kind::Once => 3,
        Kind::Barrier => 6,
        _ => 258,
    };
    let reach = [1, 4, 16, size][dice.below(4) as usize].min(size);
    let index = dice.below(reach) as usize;
    if index == 1 && matches!(object.kind, Kind::RLock | Kind::RwLock | Kind::Once) {
        return; // the value's block: an operation on it may fail for good, and unit tests insist that none does
    }
    let Ok(words) = manager.session().segment().words(object.root, index + 1) else { return };
    let old = words[index].load(Ordering::Relaxed);
    let value = match dice.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => dice.next(),
        3 => old.wrapping_add(1 << 32),
        4 => old.wrapping_sub(1 << 17),
        _ => old ^ 1 << (2 + dice.below(62)),
    };
    words[index].store(value, Ordering::Relaxed);
}

/// Operations of all kinds, whose results do not matter.
fn operate(manager: &Manager, dice: &mut Dice, stop: &AtomicBool) -> crate::Result<()> {
    let (rlock, rwlock) = (manager.rlock(1u64)?, manager.rwlock(1u64)?);
    let (semaphore, event) = (manager.semaphore(3)?, manager.event()?);
    let (barrier, once) = (manager.barrier(2)?, manager.once::<u64>()?);
    let lock = manager.lock(())?;
    let condition = manager.condition(&lock)?;
    for _ in 0..60 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let short = Duration::from_micros(dice.below(1500));
        match dice.below(14) {
            0 => drop(rlock.lock_timeout(short).map(|held| held.map(|held| held.into_guard().set(&2)))),
            1 => drop((rlock.acquire_timeout(short), rlock.release(), rlock.is_locked())),
            2 => drop(rwlock.read_timeout(short).map(|held| held.map(|held| held.into_guard().get()))),
            3 => drop(rwlock.write_timeout(short).map(|held| held.map(|held| held.into_guard().set(&3)))),
            4 => drop(rwlock.upgradable_timeout(short).map(|held| held.map(|h| h.into_guard().upgrade_timeout(short)))),
            5 => drop((rwlock.readers(), rwlock.is_write_locked(), rwlock.release_read(), rwlock.release_write())),
            6 => drop(semaphore.permit_timeout(short)),
            7 => drop((semaphore.acquire_timeout(short), semaphore.release(), semaphore.available())),
            8 => drop((event.set(), event.clear(), event.wait_timeout(short), event.is_set())),
            9 => drop(lock.lock_timeout(short).map(|held| (held, condition.wait_timeout(short), condition.notify(2)))),
            10 => drop((barrier.waiting(), barrier.abort(), barrier.reset())),
            11 | 12 => {
                if barrier.wait_timeout(short).is_ok_and(|passage| passage == Passage::Broken) {
                    drop(barrier.reset());
                }
            }
            _ => drop(once.get_or_init_timeout(short, |_| Ok(4))),
        }
    }
    Ok(())
}
