//! Priority queues and joinable queues against a sorted map, with leases and loans.
//!
//! A put or loan that runs out of memory must have had no effect. What is given back stands in its old place, with its
//! deliveries counted; the segment holds together at the end, and nothing is left in it.

#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arbitrary::Arbitrary;
use commons::{ErrorKind, JoinableQueue, Lease, Loan, Manager, PriorityQueue, Put};
use libfuzzer_sys::fuzz_target;

const CAPACITY: u64 = 4 << 20;
const MOST_OPS: usize = 200;
const MOST_LEASES: usize = 40;

#[derive(Arbitrary, Debug)]
enum Op {
    Put(i8, u16),
    PutMany(i8, u8),
    Get,
    GetMany(u8),
    Lease,
    /// The lease of this number is acknowledged, given back, or dropped.
    Ack(u8),
    Release(u8),
    Forget(u8),
    TaskDone,
    /// A loan of so many bytes, committed or dropped at once, or kept until later.
    Loan(u16, bool),
    KeepLoan(u8),
    Commit(u8),
    Join,
    Compare,
    Close,
}

/// Place of an item: its priority, and when it was put.
type Place = (i64, u64);

#[derive(Clone, Debug, PartialEq)]
struct Item {
    bytes: Vec<u8>,
    deliveries: u64,
}

/// What an agenda should hold.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<Place, Item>,
    bound: Option<usize>,
    closed: bool,
    serial: u64,
}

impl Model {
    fn is_full(&self, loans: usize) -> bool {
        self.bound.is_some_and(|bound| self.waiting.len() + loans >= bound)
    }

    fn bytes(&mut self, n: u16) -> Vec<u8> {
        let len = match n % 16 {
            0 => usize::from(n),
            1..4 => usize::from(n) % 2000,
            _ => usize::from(n) % 60,
        };
        let mut bytes = self.serial.to_le_bytes().to_vec();
        bytes.resize(8 + len, n as u8);
        bytes
    }

    fn add(&mut self, priority: i64, bytes: Vec<u8>) {
        self.serial += 1;
        self.waiting.insert((priority, self.serial), Item { bytes, deliveries: 0 });
    }
}

fn priority(manager: &Manager, bound: Option<usize>, ops: &[Op]) {
    let queue: PriorityQueue<Vec<u8>> = manager.priority_queue_with(bound).unwrap();
    let mut model = Model { bound, ..Model::default() };
    let put = |model: &mut Model, priority: i8, n: u16| {
        let bytes = model.bytes(n);
        match queue.try_put(priority.into(), &bytes) {
            Ok(Put::Done) => {
                assert!(!model.closed && !model.is_full(0));
                model.add(priority.into(), bytes);
            }
            Ok(Put::Full) => assert!(model.is_full(0)),
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {}
            Err(e) => assert!(model.closed && e.kind() == ErrorKind::Closed, "{e}"),
        }
    };
    let get = |model: &mut Model| match queue.get_timeout(Duration::ZERO) {
        Ok(got) => {
            assert!(got.is_some() || !model.closed);
            assert_eq!(got, model.waiting.pop_first().map(|((priority, _), item)| (priority, item.bytes)));
        }
        Err(e) => assert!(model.closed && model.waiting.is_empty() && e.kind() == ErrorKind::Closed, "{e}"),
    };
    let compare = |model: &Model| {
        assert_eq!(queue.len().unwrap(), model.waiting.len() as u64);
        assert_eq!(queue.is_empty().unwrap(), model.waiting.is_empty());
        assert_eq!(queue.is_full().unwrap(), model.is_full(0));
        assert_eq!(queue.is_closed().unwrap(), model.closed);
    };
    for op in ops {
        match *op {
            Op::Put(priority, n) => put(&mut model, priority, n),
            Op::PutMany(priority, count) => {
                (0..u16::from(count)).for_each(|n| put(&mut model, priority.wrapping_add(n as i8 % 3), n));
            }
            Op::GetMany(count) => (0..count).for_each(|_| get(&mut model)),
            Op::Close => {
                queue.close().unwrap();
                model.closed = true;
            }
            Op::Compare => compare(&model),
            _ => get(&mut model),
        }
    }
    compare(&model);
    manager.check().unwrap();
    while !model.waiting.is_empty() {
        get(&mut model);
    }
    compare(&model);
}

/// A joinable queue, and what this thread has of it.
struct Joinable<'q> {
    queue: &'q JoinableQueue<Vec<u8>>,
    model: Model,
    /// Got and not done, oldest first.
    got: VecDeque<(Place, Item)>,
    leases: Vec<(Lease<'q, Vec<u8>>, Place, Item)>,
    loans: Vec<(Loan<'q>, Vec<u8>)>,
}

impl<'q> Joinable<'q> {
    fn put(&mut self, n: u16) {
        let bytes = self.model.bytes(n);
        match self.queue.try_put(&bytes) {
            Ok(Put::Done) => {
                assert!(!self.model.closed && !self.model.is_full(0));
                self.model.add(0, bytes);
            }
            Ok(Put::Full) => assert!(self.model.is_full(0)),
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {}
            Err(e) => assert!(self.model.closed && e.kind() == ErrorKind::Closed, "{e}"),
        }
    }

    /// The next of the model, handed out once more.
    fn next(&mut self) -> Option<(Place, Item)> {
        let (place, mut item) = self.model.waiting.pop_first()?;
        item.deliveries += 1;
        Some((place, item))
    }

    fn get(&mut self) {
        match self.queue.get_timeout(Duration::ZERO) {
            Ok(got) => {
                assert!(got.is_some() || !self.model.closed);
                let next = self.next();
                assert_eq!(got.as_ref(), next.as_ref().map(|(_, item)| &item.bytes));
                self.got.extend(next);
            }
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {}
            Err(e) => self.must_be_over(&e),
        }
    }

    fn must_be_over(&self, error: &commons::Error) {
        assert!(self.model.closed && self.model.waiting.is_empty() && error.kind() == ErrorKind::Closed, "{error}");
    }

    fn lease(&mut self) {
        if self.leases.len() == MOST_LEASES {
            return;
        }
        match self.queue.lease_timeout(Duration::ZERO) {
            Ok(Some(lease)) => {
                let (place, item) = self.next().expect("the model has one, too");
                assert_eq!((lease.get().unwrap(), lease.delivery()), (item.bytes.clone(), item.deliveries));
                self.leases.push((lease, place, item));
            }
            Ok(None) => assert!(self.model.waiting.is_empty() && !self.model.closed),
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {}
            Err(e) => self.must_be_over(&e),
        }
    }

    fn take_lease(&mut self, n: u8) -> Option<(Lease<'q, Vec<u8>>, Place, Item)> {
        let n = usize::from(n).checked_rem(self.leases.len())?;
        Some(self.leases.swap_remove(n))
    }

    fn give_back(&mut self, n: u8, end: impl FnOnce(Lease<'q, Vec<u8>>)) {
        let Some((lease, place, item)) = self.take_lease(n) else { return };
        end(lease);
        self.model.waiting.insert(place, item);
    }

    fn commit(&mut self, loan: Loan<'q>, bytes: Vec<u8>) {
        match loan.commit_timeout(Duration::ZERO) {
            Ok(None) => {
                assert!(!self.model.closed && !self.model.is_full(0));
                self.model.add(0, bytes);
            }
            Ok(Some(_)) => assert!(self.model.is_full(0)),
            Err(e) => assert!(self.model.closed && e.kind() == ErrorKind::Closed, "{e}"),
        }
    }

    fn loan(&mut self, n: u16) -> Option<(Loan<'q>, Vec<u8>)> {
        let bytes = self.model.bytes(n);
        match self.queue.loan(bytes.len()) {
            Ok(mut loan) => {
                loan.write_at(0, &bytes).unwrap();
                Some((loan, bytes))
            }
            Err(e) => {
                let closed = self.model.closed && e.kind() == ErrorKind::Closed;
                assert!(closed || e.kind() == ErrorKind::OutOfMemory, "{e}");
                None
            }
        }
    }

    fn unfinished(&self) -> usize {
        self.model.waiting.len() + self.got.len() + self.leases.len()
    }

    fn compare(&self) {
        assert_eq!(self.queue.len().unwrap(), self.model.waiting.len() as u64);
        assert_eq!(self.queue.unfinished().unwrap(), self.unfinished() as u64);
        assert_eq!(self.queue.is_full().unwrap(), self.model.is_full(0));
        assert_eq!(self.queue.is_closed().unwrap(), self.model.closed);
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Put(_, n) => self.put(n),
            Op::PutMany(_, count) => (0..u16::from(count)).for_each(|n| self.put(n)),
            Op::Get => self.get(),
            Op::GetMany(count) => (0..count).for_each(|_| self.get()),
            Op::Lease => self.lease(),
            Op::Ack(n) => {
                if let Some((lease, ..)) = self.take_lease(n) {
                    lease.ack().unwrap();
                }
            }
            Op::Release(n) => self.give_back(n, |lease| lease.release().unwrap()),
            Op::Forget(n) => self.give_back(n, drop),
            Op::TaskDone => match self.queue.task_done() {
                Ok(()) => drop(self.got.pop_front().expect("something was got")),
                Err(e) => assert!(self.got.is_empty() && e.kind() == ErrorKind::NothingTaken, "{e}"),
            },
            Op::Loan(n, commit) => {
                if let Some((loan, bytes)) = self.loan(n)
                    && commit
                {
                    self.commit(loan, bytes);
                }
            }
            Op::KeepLoan(n) => {
                if self.loans.len() < MOST_LEASES
                    && let Some(loan) = self.loan(n.into())
                {
                    self.loans.push(loan);
                }
            }
            Op::Commit(n) => {
                if let Some(n) = usize::from(n).checked_rem(self.loans.len()) {
                    let (loan, bytes) = self.loans.swap_remove(n);
                    self.commit(loan, bytes);
                }
            }
            Op::Join => assert_eq!(self.queue.join_timeout(Duration::ZERO).unwrap(), self.unfinished() == 0),
            Op::Compare => self.compare(),
            Op::Close => {
                self.queue.close().unwrap();
                self.model.closed = true;
            }
        }
    }
}

fn joinable(manager: &Manager, bound: Option<usize>, ops: &[Op]) {
    let queue: JoinableQueue<Vec<u8>> = manager.joinable_queue_with(bound).unwrap();
    let model = Model { bound, ..Model::default() };
    let mut joinable =
        Joinable { queue: &queue, model, got: VecDeque::new(), leases: Vec::new(), loans: Vec::new() };
    ops.iter().for_each(|op| joinable.run(op));
    joinable.compare();
    manager.check().unwrap();
    joinable.loans.clear();
    while !joinable.leases.is_empty() {
        joinable.run(&Op::Forget(0));
    }
    while !joinable.model.waiting.is_empty() {
        joinable.get();
        joinable.run(&Op::TaskDone);
    }
    while !joinable.got.is_empty() {
        joinable.run(&Op::TaskDone);
    }
    joinable.compare();
    queue.join().unwrap();
}

fuzz_target!(|input: (bool, Option<u8>, Vec<Op>)| {
    let (is_priority, bound, mut ops) = input;
    ops.truncate(MOST_OPS);
    let bound = bound.map(|bound| usize::from(bound % 9) + 1);
    let manager = Manager::builder().capacity(CAPACITY).anonymous().unwrap();
    match is_priority {
        true => priority(&manager, bound, &ops),
        false => joinable(&manager, bound, &ops),
    }
    assert_eq!(manager.objects().unwrap().len(), 0);
    manager.check().unwrap();
});
