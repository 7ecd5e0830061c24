//! Workers and their seats, as the parent sees them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::board::BoardHandle;
use super::wire::Shown;
use crate::Queue;
use crate::os::Watched;

/// Most chunks, and bytes of chunks beyond the first two, that wait in a worker's queue.
pub const DEPTH: usize = 64;
const DEPTH_BYTES: usize = 1 << 20;
/// A worker, as the parent sees it.
pub struct Member {
    pub pid: u32,
    pub watched: Arc<Watched>,
    pub tasks: Queue<Vec<u8>>,
    /// What is in its queue or before it, in order.
    pub(super) assigned: VecDeque<u64>,
    pub(super) assigned_bytes: usize,
    /// Tasks that it was given so far.
    pub(super) given: u64,
    /// Its queue is closed: it ends when that is empty.
    pub(super) leaving: bool,
    /// Messages with handles that were taken from it.
    pub(super) taken: u64,
    /// How it ended, once it has.
    pub(super) ended: Option<Result<(), Shown>>,
}

impl Member {
    /// A worker just started.
    pub fn new(pid: u32, watched: Arc<Watched>, tasks: Queue<Vec<u8>>) -> Member {
        Member {
            pid,
            watched,
            tasks,
            assigned: VecDeque::new(),
            assigned_bytes: 0,
            given: 0,
            leaving: false,
            taken: 0,
            ended: None,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        let bytes_allow = self.assigned_bytes < DEPTH_BYTES || self.assigned.len() < 2;
        !self.leaving && self.ended.is_none() && self.assigned.len() < DEPTH && bytes_allow
    }

    pub(super) fn leave(&mut self) {
        if !self.leaving {
            self.leaving = true;
            let _ = self.tasks.close(); // failing, it is left for the end of the pool
        }
    }

    pub(super) fn forget(&mut self, id: u64, bytes: usize) {
        if let Some(at) = self.assigned.iter().position(|assigned| *assigned == id) {
            self.assigned.remove(at);
            self.assigned_bytes -= bytes;
        }
    }
}

/// A place for a worker.
pub struct Seat {
    pub board: BoardHandle,
    pub member: Option<Member>,
    /// Whether one has been ordered.
    pub starting: bool,
}
