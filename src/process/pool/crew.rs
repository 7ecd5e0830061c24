//! Who does what: the workers, the chunks, and what becomes of both. Plain memory of the parent, under one lock.
//!
//! A *seat* is a place for a worker, with a board; when its worker has ended, another is started. A *chunk* is some tasks
//! that travel together. It is in the backlog or assigned to one seat, until all its tasks have an outcome.
//!
//! What user code could see happen is not done here but collected as [`Effects`], for after the lock is released.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::chunk::{Chunk, Delivery, Effects};
use super::member::{Member, Seat};
use super::wire::{self, Shown};
use crate::Put;
use crate::error::{Error, ErrorKind};

/// Deaths in a row of workers that never got to their loop, before the pool gives up.
pub(super) const FAILED_STARTS: u32 = 20;

/// Whether the pool takes work.
pub enum Phase {
    /// It does.
    Open,
    /// It finishes what it has.
    Closed,
    /// It does nothing any more, and this is why.
    Ended(Shown),
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
    pub(super) policy: Policy,
    pub(super) backlog: VecDeque<u64>,
    pub(super) chunks: HashMap<u64, Chunk>,
    last_id: u64,
    pub(super) failed_starts: u32,
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

    /// Takes a new chunk. One that is refused goes with the effects: to drop it may run user code.
    pub fn submit(&mut self, chunk: Chunk, effects: &mut Effects) -> Result<(), Error> {
        if let Err(refused) = self.takes_work() {
            effects.garbage.push(chunk);
            return Err(refused);
        }
        let id = self.add(chunk);
        self.backlog.push_back(id);
        self.dispatch(effects);
        Ok(())
    }

    pub(super) fn add(&mut self, mut chunk: Chunk) -> u64 {
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
            if !self.backlog.is_empty() {
                break;
            }
            match self.take_back() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.end(&Shown::of(&error), effects);
                    break;
                }
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

    /// Takes half of what waits before the busiest worker back, if another is idle. Whether there was any. An error: what
    /// was in its queue is nothing that we put there.
    fn take_back(&mut self) -> Result<bool, Error> {
        let idle = |member: &Member| member.has_room() && member.assigned.is_empty();
        if !self.seats.iter().filter_map(|seat| seat.member.as_ref()).any(idle) {
            return Ok(false);
        }
        let members = self.seats.iter_mut().filter_map(|seat| seat.member.as_mut());
        let busiest = members.filter(|member| !member.leaving).max_by_key(|member| member.assigned.len());
        let Some(busiest) = busiest.filter(|member| member.assigned.len() >= 2) else { return Ok(false) };
        for _ in 0..busiest.assigned.len() / 2 {
            // Who pops a chunk has it: the worker or we.
            let Ok(Some(message)) = busiest.tasks.try_get() else { break };
            if message.is_empty() {
                continue; // a nudge, of which a busy worker has no need
            }
            let id = wire::id(&message).filter(|id| busiest.assigned.contains(id));
            let chunk = id.and_then(|id| Some((id, self.chunks.get_mut(&id)?)));
            let (id, chunk) = chunk.ok_or_else(|| Error::corrupted("the queue of a pool's worker"))?;
            chunk.seat = None;
            busiest.forget(id, chunk.message.len());
            busiest.given -= u64::from(chunk.count);
            self.backlog.push_back(id);
        }
        Ok(!self.backlog.is_empty())
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
            if member.assigned.is_empty() {
                let _ = member.tasks.try_put(&Vec::new()); // failing, it is not asleep, or ends
            }
        }
    }

    /// Notes how the worker of `seat` ended; what comes of it is for [`settle`](Crew::settle), after its last results.
    pub fn note_end(&mut self, seat: usize, end: Result<(), Shown>) {
        if let Some(member) = &mut self.seats[seat].member {
            member.ended = Some(end);
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

    pub(super) fn check_done(&mut self) {
        let vacant = |seat: &Seat| seat.member.is_none() && !seat.starting;
        self.done |= !matches!(self.phase, Phase::Open) && self.chunks.is_empty() && self.seats.iter().all(vacant);
    }
}
