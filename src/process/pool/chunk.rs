//! Tasks that travel together, and outcomes on their way.

use std::sync::Arc;

use super::sink::{Kept, Sink};
use super::wire::{self, Shown};
use crate::error::Error;

/// Tasks that travel together.
pub struct Chunk {
    pub sink: Arc<dyn Sink>,
    /// The first task's index in the call.
    pub first: u64,
    pub count: u32,
    /// The tasks, as a message.
    pub message: Vec<u8>,
    /// What the message's handles need.
    pub kept: Option<Kept>,
    /// Tasks whose outcome is known.
    pub(super) received: u32,
    pub(super) seat: Option<usize>,
    /// Workers that its only task has outlived.
    pub(super) attempts: u32,
    pub(super) losses: u32,
}

impl Chunk {
    /// A chunk that nobody has tried.
    pub fn new(sink: Arc<dyn Sink>, first: u64, count: u32, message: Vec<u8>, kept: Option<Kept>) -> Chunk {
        Chunk { sink, first, count, message, kept, received: 0, seat: None, attempts: 0, losses: 0 }
    }

    /// `count` of its tasks, from `from` on, as a chunk of their own.
    pub(super) fn part(&self, from: u32, count: u32, attempts: u32) -> Result<Chunk, Error> {
        let message = wire::part(&self.message, from, count)?;
        let sink = Arc::clone(&self.sink);
        Ok(Chunk { attempts, ..Chunk::new(sink, self.first + u64::from(from), count, message, self.kept.clone()) })
    }
}

/// An outcome on its way to its sink.
pub enum Delivery {
    Records { chunk: Arc<dyn Sink>, first: u64, count: u32, records: Vec<u8>, from: Option<(usize, u32)> },
    Failed { chunk: Arc<dyn Sink>, first: u64, count: u32, error: Shown },
}

/// What is to be done without the lock.
#[derive(Default)]
pub struct Effects {
    pub deliveries: Vec<Delivery>,
    /// Whose drop may run user code.
    pub garbage: Vec<Chunk>,
}

impl Effects {
    pub(super) fn fail(&mut self, chunk: &Chunk, from: u32, count: u32, error: &Shown) {
        let (sink, first) = (Arc::clone(&chunk.sink), chunk.first + u64::from(from));
        self.deliveries.push(Delivery::Failed { chunk: sink, first, count, error: error.clone() });
    }
}
