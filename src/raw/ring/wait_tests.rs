//! Several threads that wait for each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::tests::{check_blocks, ok, pop, push, ring, segment, take};
use super::*;
use crate::raw::wait::Deadline;

fn put(segment: &Segment, ring: &Ring, bytes: &[u8]) -> Push {
    let mut sleeper = ring.wait_for_room(segment, Deadline::NEVER);
    loop {
        match push(segment, ring, bytes) {
            Push::Full => assert!(ok(sleeper.next())),
            done => return done,
        }
    }
}

fn get(segment: &Segment, ring: &Ring, out: &mut Vec<u8>) -> Pop {
    let mut sleeper = ring.wait_for_item(segment, Deadline::NEVER);
    loop {
        match ok(take(ring, &ok(segment.enter()), out)) {
            Pop::Empty => assert!(ok(sleeper.next())),
            done => return done,
        }
    }
}

/// Several producers and consumers, waiting for each other: each item once, in each producer's order.
#[test]
fn many_threads() {
    const EACH: u64 = 20_000;
    for (slots, unbounded, length) in [(1, false, 8), (2, false, 8), (64, false, 8), (4, false, 32), (2, true, 8)] {
        let segment = segment();
        let ring = ring(&segment, slots, 8, unbounded);
        let each = if slots == 1 { EACH / 10 } else { EACH };
        let got: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let producers: Vec<_> = (0..2u64)
                .map(|producer| {
                    let (segment, ring) = (&segment, &ring);
                    scope.spawn(move || {
                        for n in 0..each {
                            let mut bytes = vec![0; length];
                            bytes[..8].copy_from_slice(&(producer << 32 | n).to_le_bytes());
                            assert_eq!(put(segment, ring, &bytes), Push::Done);
                        }
                    })
                })
                .collect();
            let consumers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut got, mut out) = (Vec::new(), Vec::new());
                        while get(&segment, &ring, &mut out) != Pop::Closed {
                            assert_eq!(out.len(), length);
                            got.push(u64::from_le_bytes(out[..8].try_into().unwrap()));
                        }
                        got
                    })
                })
                .collect();
            producers.into_iter().for_each(|p| p.join().unwrap());
            ok(ring.close(&ok(segment.enter())));
            consumers.into_iter().map(|c| c.join().unwrap()).collect()
        });
        for got in &got {
            for producer in 0..2 {
                let mine: Vec<u64> = got.iter().copied().filter(|item| item >> 32 == producer).collect();
                assert!(mine.is_sorted(), "in each producer's order");
            }
        }
        let mut all: Vec<u64> = got.concat();
        all.sort_unstable();
        let expected: Vec<u64> = (0..2u64).flat_map(|p| (0..each).map(move |n| p << 32 | n)).collect();
        assert_eq!(all, expected);
        check_blocks(&segment, &ring);
    }
}

/// A wait ends with the item, with the room, with the deadline, and with the close; none of them late.
#[test]
fn waiting() {
    let segment = segment();
    let ring = ring(&segment, 1, 8, false);
    let start = Instant::now();
    let deadline = Deadline::after(Duration::from_millis(30));
    assert!(!ok(ring.wait_for_item(&segment, deadline).next()));
    assert_eq!(push(&segment, &ring, b"x"), Push::Done);
    assert!(ok(ring.wait_for_item(&segment, deadline).next()), "an item is there, whatever the time");
    assert!(!ok(ring.wait_for_room(&segment, deadline).next()));
    assert!((30..10_000).contains(&start.elapsed().as_millis()));
    assert_eq!(pop(&segment, &ring).unwrap(), b"x");

    let latest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut out = Vec::new();
                while get(&segment, &ring, &mut out) != Pop::Closed {}
                latest.fetch_max(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
            });
        }
        for n in 0..100u64 {
            assert_eq!(put(&segment, &ring, &n.to_le_bytes()), Push::Done);
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(150)); // all asleep, in long slices
        ok(ring.close(&ok(segment.enter())));
    });
    assert_eq!(push(&segment, &ring, b"y"), Push::Closed);
    assert!(ring.is_closed(&segment).unwrap());
    assert_eq!(ring.len(&segment).unwrap(), 0);
    check(&segment, ring.shape.root).unwrap();
}
