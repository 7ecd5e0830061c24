//! Who does what: the workers, the chunks, and what becomes of both. Plain memory of the parent, under one lock.
//!
//! A *seat* is a place for a worker, with a board; when its worker has ended, another is started. A *chunk* is some tasks
//! that travel together. It is in the backlog or assigned to one seat, until all its tasks have an outcome.
//!
//! What user code could see happen is not done here but collected as [`Effects`], for after the lock is released.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::board::BoardHandle;
use super::sink::{Kept, Sink};
use super::wire::{self, Shown};
use crate::error::{Error, ErrorKind};
use crate::os::Watched;
use crate::raw::board::Progress;
use crate::{Put, Queue};

/// Most chunks, and bytes of chunks beyond the first two, that wait in a worker's queue.
pub const DEPTH: usize = 64;
const DEPTH_BYTES: usize = 1 << 20;
/// Deaths in a row of workers that never got to their loop, before the pool gives up.
const FAILED_STARTS: u32 = 20;
/// Deaths of workers that had a chunk before them and never began it, before it is given up.
const LOSSES: u32 = 100;

/// Whether the pool takes work.
pub enum Phase {
    /// It does.
    Open,
    /// It finishes what it has.
    Closed,
    /// It does nothing any more, and this is why.
    Ended(Shown),
}

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
    received: u32,
    seat: Option<usize>,
    /// Workers that its only task has outlived.
    attempts: u32,
    losses: u32,
}

impl Chunk {
    /// A chunk that nobody has tried.
    pub fn new(sink: Arc<dyn Sink>, first: u64, count: u32, message: Vec<u8>, kept: Option<Kept>) -> Chunk {
        Chunk { sink, first, count, message, kept, received: 0, seat: None, attempts: 0, losses: 0 }
    }

    /// `count` of its tasks, from `from` on, as a chunk of their own.
    fn part(&self, from: u32, count: u32, attempts: u32) -> Result<Chunk, Error> {
        let message = wire::part(&self.message, from, count)?;
        let sink = Arc::clone(&self.sink);
        Ok(Chunk { attempts, ..Chunk::new(sink, self.first + u64::from(from), count, message, self.kept.clone()) })
    }
}

/// A worker, as the parent sees it.
pub struct Member {
    pub pid: u32,
    pub watched: Arc<Watched>,
    pub tasks: Queue<Vec<u8>>,
    /// What is in its queue or before it, in order.
    assigned: VecDeque<u64>,
    assigned_bytes: usize,
    /// Tasks that it was given so far.
    given: u64,
    /// Its queue is closed: it ends when that is empty.
    leaving: bool,
    /// Messages with handles that were taken from it.
    taken: u64,
    /// How it ended, once it has.
    ended: Option<Result<(), Shown>>,
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

    fn has_room(&self) -> bool {
        let bytes_allow = self.assigned_bytes < DEPTH_BYTES || self.assigned.len() < 2;
        !self.leaving && self.ended.is_none() && self.assigned.len() < DEPTH && bytes_allow
    }

    fn leave(&mut self) {
        if !self.leaving {
            self.leaving = true;
            let _ = self.tasks.close(); // failing, it is left for the end of the pool
        }
    }

    fn forget(&mut self, id: u64, bytes: usize) {
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
    fn fail(&mut self, chunk: &Chunk, from: u32, count: u32, error: &Shown) {
        let (sink, first) = (Arc::clone(&chunk.sink), chunk.first + u64::from(from));
        self.deliveries.push(Delivery::Failed { chunk: sink, first, count, error: error.clone() });
    }
}

/// The policy of a pool.
#[derive(Clone, Copy)]
pub struct Policy {
    /// Tasks after which a worker is replaced.
    pub tasks_per_child: Option<u64>,
    /// How often a task is run again whose worker died.
    pub retries: u32,
}

/// All of it.
pub struct Crew {
    pub phase: Phase,
    pub seats: Vec<Seat>,
    policy: Policy,
    backlog: VecDeque<u64>,
    chunks: HashMap<u64, Chunk>,
    last_id: u64,
    failed_starts: u32,
    /// Nobody is left, and nobody will come.
    pub done: bool,
}

impl Crew {
    /// Over seats that nobody sits in.
    pub fn new(seats: Vec<Seat>, policy: Policy) -> Crew {
        Crew {
            phase: Phase::Open,
            seats,
            policy,
            backlog: VecDeque::new(),
            chunks: HashMap::new(),
            last_id: 0,
            failed_starts: 0,
            done: false,
        }
    }

    /// Whether it takes new chunks.
    ///
    /// # Errors
    /// Why it does not.
    pub fn takes_work(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closed => Err(Error::new(ErrorKind::Closed, "a pool")),
            Phase::Ended(why) => Err(why.error()),
        }
    }

    /// Takes a new chunk.
    pub fn submit(&mut self, chunk: Chunk, effects: &mut Effects) -> Result<(), Error> {
        self.takes_work()?;
        let id = self.add(chunk);
        self.backlog.push_back(id);
        self.dispatch(effects);
        Ok(())
    }

    fn add(&mut self, mut chunk: Chunk) -> u64 {
        self.last_id += 1;
        wire::set_id(&mut chunk.message, self.last_id);
        self.chunks.insert(self.last_id, chunk);
        self.last_id
    }

    /// Gives work to whoever has room, lets the idle have what waits before others, and those leave that are not needed.
    pub fn dispatch(&mut self, effects: &mut Effects) {
        // Ends: every round but the last makes an idle worker busy.
        loop {
            self.assign(effects);
            if !self.backlog.is_empty() || !self.take_back() {
                break;
            }
        }
        if !matches!(self.phase, Phase::Open) && self.chunks.is_empty() {
            self.seats.iter_mut().filter_map(|seat| seat.member.as_mut()).for_each(Member::leave);
        }
    }

    fn assign(&mut self, effects: &mut Effects) {
        while let Some(&id) = self.backlog.front() {
            let Some(chunk) = self.chunks.get_mut(&id) else {
                self.backlog.pop_front();
                continue;
            };
            if chunk.sink.is_abandoned() {
                effects.garbage.extend(self.chunks.remove(&id));
                self.backlog.pop_front();
                continue;
            }
            let members = self.seats.iter_mut().enumerate().filter_map(|(at, seat)| Some((at, seat.member.as_mut()?)));
            let free = members.filter(|(_, member)| member.has_room()).min_by_key(|(_, member)| member.assigned.len());
            let Some((seat, member)) = free else { return };
            match member.tasks.try_put(&chunk.message) {
                Ok(Put::Done) => {
                    chunk.seat = Some(seat);
                    member.assigned.push_back(id);
                    member.assigned_bytes += chunk.message.len();
                    member.given += u64::from(chunk.count);
                    if self.policy.tasks_per_child.is_some_and(|quota| member.given >= quota) {
                        member.leave();
                    }
                }
                Ok(Put::Full) => return, // by nudges; it has work
                Err(error) => {
                    effects.fail(chunk, 0, chunk.count, &Shown::of(&error.within("arguments")));
                    effects.garbage.extend(self.chunks.remove(&id));
                }
            }
            self.backlog.pop_front();
        }
    }

    /// Takes half of what waits before the busiest worker back, if another is idle. Whether there was any.
    fn take_back(&mut self) -> bool {
        let idle = |member: &Member| member.has_room() && member.assigned.is_empty();
        if !self.seats.iter().filter_map(|seat| seat.member.as_ref()).any(idle) {
            return false;
        }
        let members = self.seats.iter_mut().filter_map(|seat| seat.member.as_mut());
        let busiest = members.filter(|member| !member.leaving).max_by_key(|member| member.assigned.len());
        let Some(busiest) = busiest.filter(|member| member.assigned.len() >= 2) else { return false };
        for _ in 0..busiest.assigned.len() / 2 {
            // Who pops a chunk has it: the worker or we.
            let Ok(Some(message)) = busiest.tasks.try_get() else { break };
            let id = wire::id(&message).filter(|id| busiest.assigned.contains(id));
            if let Some((id, chunk)) = id.and_then(|id| Some((id, self.chunks.get_mut(&id)?))) {
                chunk.seat = None;
                busiest.forget(id, chunk.message.len());
                busiest.given -= u64::from(chunk.count);
                self.backlog.push_back(id);
            }
        }
        !self.backlog.is_empty()
    }

    /// Takes results. An error: no worker of ours sent them.
    pub fn receive(&mut self, message: &[u8], effects: &mut Effects) -> Result<(), Error> {
        let garbled = || Error::corrupted("the results of a pool's tasks");
        let (id, first, count, records) = wire::results(message).ok_or_else(garbled)?;
        if matches!(self.phase, Phase::Ended(_)) {
            return Ok(());
        }
        let chunk = self.chunks.get_mut(&id).ok_or_else(garbled)?;
        let member = chunk.seat.and_then(|seat| Some((seat, self.seats[seat].member.as_mut()?)));
        let (seat, member) = member.ok_or_else(garbled)?;
        let fits = first == chunk.received && count > 0 && count <= chunk.count - chunk.received;
        if !fits || wire::whole_records(records, count) != (count, records.len()) {
            return Err(garbled());
        }
        effects.deliveries.push(Delivery::Records {
            chunk: Arc::clone(&chunk.sink),
            first: chunk.first + u64::from(first),
            count,
            records: records.to_vec(),
            from: wire::have_handles(records).then_some((seat, member.pid)),
        });
        chunk.received += count;
        if chunk.received == chunk.count {
            member.forget(id, chunk.message.len());
            effects.garbage.extend(self.chunks.remove(&id));
        }
        Ok(())
    }

    /// Notes that handles which worker `pid` keeps for us have been taken.
    pub fn note_taken(&mut self, seat: usize, pid: u32) {
        let Some(Seat { board, member: Some(member), .. }) = self.seats.get_mut(seat) else { return };
        if member.pid == pid
            && let Ok(board) = board.words()
        {
            member.taken += 1;
            board.set_taken(member.taken);
            let _ = member.tasks.try_put(&Vec::new()); // failing, it is not asleep, or ends
        }
    }

    /// Notes how the worker of `seat` ended; what comes of it is for [`settle`](Crew::settle), after its last results.
    pub fn note_end(&mut self, seat: usize, end: Result<(), Shown>) {
        if let Some(member) = &mut self.seats[seat].member {
            member.ended = Some(end);
        }
    }

    /// Decides about what the worker of `seat`, which has ended, had before it, now that all it sent has been received.
    /// Whether another is to be started.
    pub fn settle(&mut self, seat: usize, effects: &mut Effects) -> bool {
        let Some(place) = self.seats.get_mut(seat) else { return false };
        let Some(member) = place.member.take_if(|member| member.ended.is_some()) else {
            self.check_done();
            return false;
        };
        let (progress, ready, outbox) = match place.board.words() {
            Ok(board) => (board.progress(), board.is_ready(), board.outbox()),
            Err(_) => (Progress { chunk: 0, done: 0, running: false }, false, Vec::new()),
        };
        let why = match member.ended {
            Some(Err(why)) => why,
            _ => Shown::of(&Error::new(ErrorKind::Process, format!("worker (pid {}) ended", member.pid))),
        };
        let mut back = VecDeque::new();
        for (nth, id) in member.assigned.into_iter().enumerate() {
            let begun = id as u32 == progress.chunk && (progress.done > 0 || progress.running);
            match self.chunks.get_mut(&id) {
                Some(_) if begun => self.settle_begun(id, progress, &outbox, &why, &mut back, effects),
                Some(chunk) => {
                    chunk.seat = None;
                    chunk.losses += u32::from(nth == 0);
                    if chunk.losses <= LOSSES {
                        back.push_back(id);
                    } else {
                        effects.fail(chunk, chunk.received, chunk.count - chunk.received, &why);
                        effects.garbage.extend(self.chunks.remove(&id));
                    }
                }
                None => {}
            }
        }
        back.into_iter().rev().for_each(|id| self.backlog.push_front(id));
        self.failed_starts = if ready { 0 } else { self.failed_starts + 1 };
        if !ready && (why.kind() == ErrorKind::Panicked || self.failed_starts > FAILED_STARTS) {
            self.end(&why.within("workers end before they get to work"), effects);
        }
        self.is_wanted(seat)
    }

    /// A chunk whose worker died at it: what is done is delivered, the task that ran is charged, the rest goes back.
    fn settle_begun(
        &mut self,
        id: u64,
        progress: Progress,
        outbox: &[u8],
        why: &Shown,
        back: &mut VecDeque<u64>,
        effects: &mut Effects,
    ) {
        let Some(chunk) = self.chunks.remove(&id) else { return };
        let mut known = chunk.received;
        let done = progress.done.min(chunk.count);
        if done > known {
            let (count, len) = wire::whole_records(outbox, done - known);
            effects.deliveries.push(Delivery::Records {
                chunk: Arc::clone(&chunk.sink),
                first: chunk.first + u64::from(known),
                count: done - known, // what is not whole is delivered as corrupted
                records: outbox[..if count > 0 { len } else { 0 }].to_vec(),
                from: None,
            });
            known = done;
        }
        if progress.running && progress.done == known && known < chunk.count {
            if chunk.attempts < self.policy.retries {
                self.put_back(&chunk, known, 1, chunk.attempts + 1, back, effects);
            } else {
                effects.fail(&chunk, known, 1, why);
            }
            known += 1;
        }
        if known < chunk.count {
            self.put_back(&chunk, known, chunk.count - known, chunk.attempts, back, effects);
        }
        effects.garbage.push(chunk);
    }

    fn put_back(
        &mut self,
        chunk: &Chunk,
        from: u32,
        count: u32,
        attempts: u32,
        back: &mut VecDeque<u64>,
        effects: &mut Effects,
    ) {
        match chunk.part(from, count, attempts) {
            Ok(part) => back.push_back(self.add(part)),
            Err(error) => effects.fail(chunk, from, count, &Shown::of(&error)),
        }
    }

    /// Whether a worker is to be started for `seat`; if so it counts as ordered.
    pub fn is_wanted(&mut self, seat: usize) -> bool {
        let wanted = match self.phase {
            Phase::Open => true,
            Phase::Closed => !self.chunks.is_empty(),
            Phase::Ended(_) => false,
        };
        self.seats[seat].starting = wanted;
        self.check_done();
        wanted
    }

    /// Seats a worker that was started.
    pub fn seat(&mut self, seat: usize, member: Member, effects: &mut Effects) {
        if matches!(self.phase, Phase::Ended(_)) {
            member.watched.kill();
        }
        let place = &mut self.seats[seat];
        (place.member, place.starting) = (Some(member), false);
        self.dispatch(effects);
    }

    /// A worker could not even be started. Whether to try again.
    pub fn note_failed_start(&mut self, seat: usize, error: &Error, effects: &mut Effects) -> bool {
        self.failed_starts += 1;
        if self.failed_starts > FAILED_STARTS {
            self.end(&Shown::of(error), effects);
        }
        self.is_wanted(seat)
    }

    /// Takes no more work.
    pub fn close(&mut self, effects: &mut Effects) {
        if matches!(self.phase, Phase::Open) {
            self.phase = Phase::Closed;
            self.dispatch(effects);
            self.check_done();
        }
    }

    /// Does nothing any more: every task without outcome gets `why`, every worker is killed.
    pub fn end(&mut self, why: &Shown, effects: &mut Effects) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.phase = Phase::Ended(why.clone());
        self.backlog.clear();
        let mut chunks: Vec<_> = self.chunks.drain().collect();
        chunks.sort_unstable_by_key(|(id, _)| *id);
        for (_, chunk) in chunks {
            effects.fail(&chunk, chunk.received, chunk.count - chunk.received, why);
            effects.garbage.push(chunk);
        }
        self.seats.iter().filter_map(|seat| seat.member.as_ref()).for_each(|member| member.watched.kill());
        self.check_done();
    }

    fn check_done(&mut self) {
        let vacant = |seat: &Seat| seat.member.is_none() && !seat.starting;
        self.done |= !matches!(self.phase, Phase::Open) && self.chunks.is_empty() && self.seats.iter().all(vacant);
    }
}
