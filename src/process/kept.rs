//! Arguments that children may not have decoded yet.
//!
//! A child's `Running` keeps them, and lets go of them when it next hears from the child. Who waits for something that
//! these arguments themselves keep alive, as the end of a pipe that was given to the child, would wait for ever if nobody
//! called the child's [`Process`](crate::Process) meanwhile; so there is a list of them all, and such waits look through
//! it ([`let_go_of_arrived`]).

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::os::{Channel, PerProcess};

/// The arguments of one child.
#[derive(Default)]
pub struct Arguments(Mutex<Option<Box<dyn Any + Send>>>);

impl Arguments {
    /// Keeps `args`.
    pub fn set(&self, args: Box<dyn Any + Send>) {
        *self.0.lock() = Some(args);
    }

    /// Takes them, if they are still kept. To be dropped under no lock: they may be anything, and do anything then.
    pub fn take(&self) -> Option<Box<dyn Any + Send>> {
        self.0.lock().take()
    }

    /// Whether they are still kept.
    pub fn are_kept(&self) -> bool {
        self.0.lock().is_some()
    }
}

/// Every child's arguments, and the channel over which it says that it has them.
static ALL: PerProcess<Mutex<Vec<(Weak<Arguments>, Weak<Channel>)>>> = PerProcess::new(|_| Mutex::new(Vec::new()));

/// Whether there may be any, so that nobody takes the lock for nothing. Set under the lock.
static ANY: AtomicBool = AtomicBool::new(false);

/// Adds those of a child.
pub fn add(args: &Arc<Arguments>, channel: &Arc<Channel>) {
    let mut all = ALL.get().lock();
    all.push((Arc::downgrade(args), Arc::downgrade(channel)));
    ANY.store(true, Ordering::Relaxed);
}

/// Lets go of the arguments that children have decoded, or never will: whatever a child says, it says after it has
/// decoded them, and when it ends the channel ends.
pub fn let_go_of_arrived() {
    if !ANY.load(Ordering::Relaxed) {
        return;
    }
    // Who has the lock is doing the same.
    let Some(mut all) = ALL.get().try_lock() else { return };
    let mut arrived = Vec::new();
    all.retain(|(args, channel)| {
        let Some(args) = args.upgrade().filter(|args| args.are_kept()) else { return false };
        if channel.upgrade().is_none_or(|channel| channel.has_something()) {
            arrived.extend(args.take());
            return false;
        }
        true
    });
    ANY.store(!all.is_empty(), Ordering::Relaxed);
    drop(all);
    drop(arrived);
}
