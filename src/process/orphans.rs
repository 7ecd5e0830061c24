//! Children whose [`Process`](crate::Process) was dropped.
//!
//! They go on. Whenever this process starts or waits for a child, or drops a `Process`, the list is looked through:
//! whoever has ended is reaped, and arguments that have arrived are let go of. So there are never more zombies than
//! children that ended since.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::running::Running;
use crate::os::PerProcess;

/// A forked child is nobody's parent.
static ORPHANS: PerProcess<Mutex<Vec<Running>>> = PerProcess::new(|_| Mutex::new(Vec::new()));

/// Whether there may be any, so that nobody takes the lock for nothing. Set under the lock, after one was added.
static ANY: AtomicBool = AtomicBool::new(false);

/// Adds a child.
pub fn add(child: Running) {
    let mut orphans = ORPHANS.get().lock();
    orphans.push(child);
    ANY.store(true, Ordering::Relaxed); // whoever misses it finds it the next time
}

/// Reaps those that have ended.
pub fn sweep() {
    if !ANY.load(Ordering::Relaxed) {
        return;
    }
    // Who has the lock is doing the same.
    let Some(mut orphans) = ORPHANS.get().try_lock() else { return };
    let mut gone = Vec::new();
    let mut args = Vec::new();
    let mut index = 0;
    // Ends: each round leaves one child behind or takes one out.
    while index < orphans.len() {
        let child = &mut orphans[index];
        args.extend(child.let_go());
        if child.has_ended() {
            gone.push(orphans.swap_remove(index));
        } else {
            index += 1;
        }
    }
    ANY.store(!orphans.is_empty(), Ordering::Relaxed);
    drop(orphans);
    // Outside of the lock: arguments may be anything, and do anything when they are dropped.
    gone.iter_mut().for_each(Running::reap_quietly);
    drop((gone, args));
}
