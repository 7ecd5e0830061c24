//! Where processes run.
//!
//! The bench stays on one CPU, its home. A server is on the CPU of its only client, where a socket is fastest: between
//! CPUs a request also pays for two wake-ups of an idle one (measured on a virtual machine: 65 us instead of 6).

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::OnceLock;

/// A CPU by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu(pub usize);

static ALLOWED: OnceLock<Vec<Cpu>> = OnceLock::new();

/// The CPUs that this process was allowed when it first asked; at least one.
fn allowed() -> &'static [Cpu] {
    ALLOWED.get_or_init(|| {
        let set = sched_getaffinity(None).expect("the allowed CPUs");
        (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(Cpu).collect()
    })
}

/// The CPU of the bench.
pub fn home() -> Cpu {
    allowed()[0]
}

/// Another CPU than [`home`], if there is one.
pub fn away() -> Option<Cpu> {
    allowed().get(1).copied()
}

/// Keeps the calling thread, and the threads and processes it will start, on `cpu`.
pub fn pin(cpu: Cpu) {
    let mut set = CpuSet::new();
    set.set(cpu.0);
    sched_setaffinity(None, &set).expect("staying on a CPU");
}
