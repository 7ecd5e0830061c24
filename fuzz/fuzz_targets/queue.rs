//! Queues, bounded and not, against `VecDeque`.
//!
//! A put that runs out of memory must have had no effect; the segment holds together at the end.

#![no_main]

use std::collections::VecDeque;
use std::time::Duration;

use arbitrary::Arbitrary;
use commons::{ErrorKind, Manager, Put, Queue};
use libfuzzer_sys::fuzz_target;

const CAPACITY: u64 = 4 << 20;
const MOST_OPS: usize = 200;

#[derive(Arbitrary, Debug)]
enum Op {
    Put(u16),
    PutMany(u8),
    PutTimeout(u16),
    Get,
    GetMany(u8),
    GetTimeout,
    Batch(u8),
    Len,
    Close,
}

struct Pair {
    queue: Queue<String>,
    capacity: Option<usize>,
    model: VecDeque<String>,
    closed: bool,
    /// Tells items of one length apart.
    serial: u32,
}

impl Pair {
    fn item(&mut self, n: u16) -> String {
        self.serial += 1;
        // Most of them fit a slot, some need a block, a few need pages.
        let len = match n % 16 {
            0 => usize::from(n),
            1..4 => usize::from(n) % 2000,
            _ => usize::from(n) % 60,
        };
        let mut item = format!("{}:", self.serial);
        item.extend(std::iter::repeat_n('x', len));
        item
    }

    fn put(&mut self, n: u16, timeout: Option<Duration>) {
        let item = self.item(n);
        let put = match timeout {
            Some(timeout) => self.queue.put_timeout(&item, timeout),
            None => self.queue.try_put(&item),
        };
        match put {
            Ok(Put::Done) => {
                assert!(!self.closed && !self.is_full());
                self.model.push_back(item);
            }
            Ok(Put::Full) => assert!(self.is_full()),
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {}
            Err(e) => assert!(self.closed && e.kind() == ErrorKind::Closed, "{e}"),
        }
    }

    fn is_full(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.model.len() >= capacity)
    }

    fn get(&mut self, timeout: Option<Duration>) {
        let got = match timeout {
            Some(timeout) => self.queue.get_timeout(timeout),
            None => self.queue.try_get(),
        };
        match got {
            Ok(item) => {
                assert!(item.is_some() || !self.closed);
                assert_eq!(item, self.model.pop_front());
            }
            Err(e) => assert!(self.closed && self.model.is_empty() && e.kind() == ErrorKind::Closed, "{e}"),
        }
    }

    fn batch(&mut self, limit: usize) {
        if self.model.is_empty() {
            if self.closed && limit > 0 {
                assert_eq!(self.queue.get_batch(limit).unwrap_err().kind(), ErrorKind::Closed);
            }
            return; // it would wait for ever
        }
        let expected: Vec<_> = self.model.drain(..limit.min(self.model.len())).collect();
        assert_eq!(self.queue.get_batch(limit).unwrap(), expected);
    }

    fn compare(&self) {
        assert_eq!(self.queue.len().unwrap(), self.model.len() as u64);
        assert_eq!(self.queue.is_empty().unwrap(), self.model.is_empty());
        assert_eq!(self.queue.is_full().unwrap(), self.is_full());
        assert_eq!(self.queue.is_closed().unwrap(), self.closed);
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Put(n) => self.put(n, None),
            Op::PutMany(count) => (0..u16::from(count)).for_each(|n| self.put(n, None)),
            Op::PutTimeout(n) => self.put(n, Some(Duration::ZERO)),
            Op::Get => self.get(None),
            Op::GetMany(count) => (0..count).for_each(|_| self.get(None)),
            Op::GetTimeout => self.get(Some(Duration::ZERO)),
            Op::Batch(limit) => self.batch(limit.into()),
            Op::Len => self.compare(),
            Op::Close => {
                self.queue.close().unwrap();
                self.closed = true;
            }
        }
    }
}

fuzz_target!(|input: (Option<u8>, Vec<Op>)| {
    let (bound, mut ops) = input;
    ops.truncate(MOST_OPS);
    let manager = Manager::builder().capacity(CAPACITY).anonymous().unwrap();
    let capacity = bound.map(|bound| usize::from(bound % 9) + 1);
    let queue = match capacity {
        Some(capacity) => manager.queue(capacity),
        None => manager.unbounded_queue(),
    };
    let queue = queue.unwrap();
    assert_eq!(queue.capacity(), capacity.map(|capacity| capacity as u64));
    let mut pair = Pair { queue, capacity, model: VecDeque::new(), closed: false, serial: 0 };
    ops.iter().for_each(|op| pair.run(op));
    pair.compare();
    manager.check().unwrap();
    while !pair.model.is_empty() {
        pair.get(None);
    }
    pair.get(None);
    pair.compare();
    manager.check().unwrap();
});
