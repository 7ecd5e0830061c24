//! A thread that lasts as long as the process.
//!
//! The kernel's "die with your parent" means the parent's *thread*: a child that was started by a thread that ends is
//! killed then. So such children are started by this one.

use std::io;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};

use parking_lot::Mutex;

use crate::os::{Child, PerProcess, Program};

struct Order {
    program: Program,
    answer: SyncSender<io::Result<Child>>,
}

/// The way to the thread, once there is one: a forked child has none of its parent's threads.
static SPAWNER: PerProcess<Mutex<Option<Sender<Order>>>> = PerProcess::new(|_| Mutex::new(None));

/// Starts `program` as a child of the lasting thread.
pub fn start(program: Program) -> io::Result<Child> {
    let (answer, answered) = sync_channel(1);
    {
        let mut spawner = SPAWNER.get().lock();
        let orders = match &mut *spawner {
            Some(orders) => orders,
            none => none.insert(start_thread()?),
        };
        orders.send(Order { program, answer }).map_err(|_| gone())?;
    }
    answered.recv().map_err(|_| gone())?
}

fn start_thread() -> io::Result<Sender<Order>> {
    let (sender, orders) = channel::<Order>();
    let work = move || {
        for order in orders {
            let started = Child::start(&order.program);
            // Before the answer: it holds the child's end of the channel.
            drop(order.program);
            let _ = order.answer.send(started);
        }
    };
    std::thread::Builder::new().name("commons-spawner".into()).spawn(work)?;
    Ok(sender)
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts processes does not answer")
}
