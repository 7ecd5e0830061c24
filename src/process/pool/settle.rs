//! What becomes of the tasks of a worker that has ended.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunk::{Chunk, Delivery, Effects};
use super::crew::{Crew, FAILED_STARTS};
use super::wire::{self, Shown};
use crate::error::{Error, ErrorKind};
use crate::raw::board::Progress;

/// Deaths of workers that had a chunk before them and never began it, before it is given up.
const LOSSES: u32 = 100;

impl Crew {
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
}

#[cfg(test)]
mod tests {
    //! Proves that every task of a chunk whose worker died has exactly one fate, however far messages, outbox and board
    //! were, and that what no worker of ours sent is an error.
    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::super::board::BoardHandle;
    use super::super::crew::Policy;
    use super::super::member::Seat;
    use super::super::sink::Sink;
    use super::*;
    use crate::Manager;
    use crate::os::Sealed;
    use crate::process::pool::wire::Names;

    #[derive(Default)]
    struct Fates(Mutex<BTreeMap<u64, &'static str>>);

    impl Fates {
        fn note(&self, first: u64, count: u32, fate: &'static str) {
            for index in first..first + u64::from(count) {
                assert_eq!(self.0.lock().insert(index, fate), None, "task {index} has two fates");
            }
        }
    }

    impl Sink for Fates {
        fn take(&self, first: u64, count: u32, records: &[u8]) {
            let whole = wire::whole_records(records, count).0;
            self.note(first, whole, "done");
            self.note(first + u64::from(whole), count - whole, "corrupted");
        }

        fn fail(&self, first: u64, count: u32, _: &Shown) {
            self.note(first, count, "charged");
        }
    }

    fn crew(retries: u32) -> Crew {
        let board = BoardHandle::new(&Manager::builder().capacity(1 << 20).anonymous().unwrap()).unwrap();
        let seat = Seat { board, member: None, starting: true };
        Crew::new(vec![seat], Policy { tasks_per_child: None, retries })
    }

    fn message(count: u32) -> Vec<u8> {
        let none = Sealed { offset: 0, tag: 0 };
        let mut message = Vec::new();
        wire::begin_chunk(&Names { runner: none, function: none }, &mut message);
        (0..count).for_each(|n| wire::push_item(&mut message, &n.to_le_bytes()).unwrap());
        message
    }

    /// Tasks 10 to 13 of a call; what came of each, `back` for those that are to be run.
    fn fates(retries: u32, received: u32, progress: Progress, in_outbox: u32) -> Vec<&'static str> {
        let (mut crew, sink, mut effects) = (crew(retries), Arc::new(Fates::default()), Effects::default());
        let mut chunk = Chunk::new(Arc::clone(&sink) as Arc<_>, 10, 4, message(4), None);
        chunk.received = received;
        let id = crew.add(chunk);
        let mut outbox = Vec::new();
        (0..in_outbox).for_each(|_| wire::push_value(&mut outbox, b"value", false).unwrap());
        outbox.resize(4096, 0xff);
        let why = Shown::of(&Error::new(ErrorKind::Process, "killed"));
        let mut back = VecDeque::new();
        crew.settle_begun(id, progress, &outbox, &why, &mut back, &mut effects);
        for delivery in effects.deliveries {
            match delivery {
                Delivery::Records { chunk, first, count, records, .. } => chunk.take(first, count, &records),
                Delivery::Failed { chunk, first, count, error } => chunk.fail(first, count, &error),
            }
        }
        assert_eq!(crew.chunks.len(), back.len());
        for id in back {
            let part = &crew.chunks[&id];
            let (named, _, item) = wire::chunk(&part.message).unwrap();
            assert_eq!((named, part.received), (id, 0));
            let first = u32::from_le_bytes(wire::split_item(item).unwrap().0.try_into().unwrap());
            assert_eq!(u64::from(first) + 10, part.first);
            sink.note(part.first, part.count, if part.attempts > 0 { "again" } else { "back" });
        }
        sink.note(10, received, "received");
        let fates = sink.0.lock();
        assert!(fates.keys().copied().eq(10..14), "{fates:?}");
        fates.values().copied().collect()
    }

    #[test]
    fn every_task_has_one_fate() {
        let at = |done, running| Progress { chunk: 1, done, running };
        assert_eq!(fates(0, 0, at(0, true), 0), ["charged", "back", "back", "back"]);
        assert_eq!(fates(1, 0, at(0, true), 0), ["again", "back", "back", "back"]);
        assert_eq!(fates(0, 0, at(2, true), 2), ["done", "done", "charged", "back"]);
        assert_eq!(fates(0, 1, at(2, false), 1), ["received", "done", "back", "back"]);
        // Its results were put, and the board not yet told.
        assert_eq!(fates(0, 3, at(2, true), 0), ["received", "received", "received", "back"]);
        assert_eq!(fates(0, 0, at(2, true), 1), ["done", "corrupted", "charged", "back"]);
        for (received, done, running, in_outbox) in
            (0..4 * 9 * 2 * 5).map(|n| (n % 4, n / 4 % 9, n / 36 % 2 == 1, n / 72))
        {
            fates(done % 2, received, at(done, running), in_outbox); // whatever a board says
        }
    }

    #[test]
    fn foreign_results_are_an_error() {
        let (mut crew, mut effects) = (crew(0), Effects::default());
        let sink = Arc::new(Fates::default());
        let id = crew.add(Chunk::new(sink, 0, 4, message(4), None));
        let unknown = wire::results_head(id + 1, 0, 1);
        let unassigned = wire::results_head(id, 0, 1);
        for message in [&unknown[..], &unassigned, b"", b"short"] {
            assert_eq!(crew.receive(message, &mut effects).unwrap_err().kind(), ErrorKind::Corrupted);
        }
        assert!(effects.deliveries.is_empty());
    }
}
