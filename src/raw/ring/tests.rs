//! Model, handles, growth and close, wrapping laps, hostile bytes. Others: `wait_tests`, `crash_tests`, `storm_tests`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::*;
use crate::mem::layout::header;
use crate::mem::{Op, OpKind, Options, Step, Stop};

pub(super) fn segment() -> Arc<Segment> {
    Segment::anonymous(&Options { capacity: 1 << 30, ..Options::default() }).expect("a segment")
}

/// A header word that no ring uses: what refers to the ring.
pub(super) fn root_ref(segment: &Segment) -> &Word {
    segment.header(header!(directory))
}

pub(super) fn ok<T>(step: Step<T>) -> T {
    match step {
        Ok(value) => value,
        Err(Stop::Error(error)) => panic!("{error}"),
        Err(Stop::Dead(process)) => panic!("process {process} is dead"),
    }
}

/// A new ring whose first part has `slots` slots.
pub(super) fn ring(segment: &Segment, slots: u32, inline: u32, unbounded: bool) -> Ring {
    let me = ok(segment.enter());
    me.intent.set(Field::Op, Op::new(OpKind::ObjectBuild).pack());
    build(&me, root_ref(segment), slots, inline, unbounded).expect("a ring");
    me.intent.set(Field::Op, 0);
    Ring::open(segment, root_ref(segment).load(Ordering::Acquire)).expect("a ring")
}

pub(super) fn push(segment: &Segment, ring: &Ring, bytes: &[u8]) -> Push {
    ok(ring.push(&ok(segment.enter()), bytes, &[]))
}

/// Pops without caring for handles.
pub(super) fn take(ring: &Ring, me: &Me<'_>, out: &mut Vec<u8>) -> Step<Pop> {
    ring.pop(me, out, &mut |_| Ok(()))
}

pub(super) fn pop(segment: &Segment, ring: &Ring) -> Option<Vec<u8>> {
    let mut out = vec![1; 3];
    match ok(take(ring, &ok(segment.enter()), &mut out)) {
        Pop::Item { .. } => Some(out),
        Pop::Empty | Pop::Closed => None,
    }
}

/// What is allocated must be the ring's root and what the ring refers to.
pub(super) fn check_blocks(segment: &Segment, ring: &Ring) {
    check(segment, ring.shape.root).expect("a sound ring");
    let mut reached = vec![ring.shape.root];
    visit(segment, ring.shape.root, &mut |_, block| {
        reached.push(block);
        Ok(())
    })
    .expect("a walk");
    reached.sort_unstable();
    let allocated: Vec<u64> = segment.allocated_blocks().expect("a sound heap").0.into_iter().collect();
    assert_eq!(allocated, reached, "allocated blocks are those that the ring refers to");
}

/// xorshift64*
pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Random pushes and pops are those of a `VecDeque`, whatever the capacity, the sizes and the kind of ring.
#[test]
fn model() {
    let seed = Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()) << 20 | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let segment = segment();
    for (slots, unbounded) in [(1, false), (2, false), (3, false), (8, false), (1, true), (2, true)] {
        for (inline, longest) in [(8, 8), (8, 40), (24, 24), (1024, 1500)] {
            let ring = ring(&segment, slots, inline, unbounded);
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for round in 0..2000u64 {
                // Long runs of the one and of the other, so that it is full and empty often.
                if random.below(10) < if round / 50 % 2 == 0 { 7 } else { 3 } {
                    let bytes: Vec<u8> = (0..random.below(longest + 1)).map(|_| random.below(256) as u8).collect();
                    let full = !unbounded && model.len() == slots as usize;
                    assert_eq!(
                        push(&segment, &ring, &bytes),
                        if full { Push::Full } else { Push::Done },
                        "seed {seed}"
                    );
                    if !full {
                        model.push_back(bytes);
                    }
                } else {
                    assert_eq!(pop(&segment, &ring), model.pop_front(), "seed {seed}");
                }
                assert_eq!(ring.len(&segment).unwrap(), model.len() as u64, "seed {seed}");
                if round % 100 == 0 {
                    check_blocks(&segment, &ring);
                }
            }
            destroy(&segment, &ring);
        }
    }
}

/// Destroys a ring as its object's owner would, and proves that nothing of it remains.
pub(super) fn destroy(segment: &Segment, ring: &Ring) {
    let me = ok(segment.enter());
    visit(segment, ring.shape.root, &mut |word, block| {
        me.intent.set(Field::Free, block);
        word.store(0, Ordering::Release);
        me.release(block)?;
        me.intent.set(Field::Free, 0);
        Ok(())
    })
    .expect("a walk");
    root_ref(segment).store(0, Ordering::Release);
    me.free(ring.shape.root).expect("a block");
    assert!(segment.allocated_blocks().expect("a sound heap").0.is_empty());
}

/// Handles travel with the item, are shown while it is queued, and gone with it.
#[test]
fn handles() {
    let segment = segment();
    let ring = ring(&segment, 4, 8, false);
    let seen = || {
        let mut handles = Vec::new();
        visit_handles(&segment, ring.shape.root, &mut |handle| {
            handles.push(handle);
            Ok(())
        })
        .unwrap();
        handles
    };
    let me = ok(segment.enter());
    assert_eq!(ok(ring.push(&me, b"ab", &[7, 8])), Push::Done);
    assert_eq!(ok(ring.push(&me, b"cd", &[])), Push::Done);
    assert_eq!(seen(), [7, 8]);
    let mut out = Vec::new();
    let mut kept = Vec::new();
    let failed = ring.pop(&me, &mut out, &mut |_| Err(Stop::Dead(7)));
    assert!(matches!(failed, Err(Stop::Dead(7))));
    let op = Op::unpack(me.intent.get(Field::Op)).flatten().expect("a pop under way");
    resolve(&segment, me.slot().index, &me.intent, op).unwrap();
    me.intent.set(Field::Op, 0);
    assert_eq!(seen(), [7, 8], "what could not be kept is still queued");
    let keep = &mut |handle| {
        kept.push(handle);
        Ok(())
    };
    assert_eq!(ok(ring.pop(&me, &mut out, keep)), Pop::Item { handles: true });
    assert_eq!(kept, [7, 8]);
    assert_eq!(out, b"ab");
    assert!(seen().is_empty());
    assert_eq!(ok(take(&ring, &me, &mut out)), Pop::Item { handles: false });
    assert_eq!(out, b"cd");
    assert_eq!(ok(take(&ring, &me, &mut out)), Pop::Empty);
    assert!(out.is_empty());
}

/// Items that were queued at the close are delivered, in order, from every part; then it stays closed.
#[test]
fn close_and_growth() {
    let segment = segment();
    for slots in [1, 2, 1024] {
        let ring = ring(&segment, slots, 8, true);
        let other = Ring::open(&segment, ring.shape.root).unwrap();
        let count = 5000u64;
        for n in 0..count {
            assert_eq!(push(&segment, if n % 3 == 0 { &other } else { &ring }, &n.to_le_bytes()), Push::Done);
        }
        assert_eq!(ring.len(&segment).unwrap(), count);
        assert_eq!(other.len(&segment).unwrap(), count);
        check_blocks(&segment, &ring);
        ok(ring.close(&ok(segment.enter())));
        ok(other.close(&ok(segment.enter())));
        assert_eq!(push(&segment, &other, b"late"), Push::Closed);
        for n in 0..count {
            assert_eq!(pop(&segment, if n % 2 == 0 { &other } else { &ring }).unwrap(), n.to_le_bytes());
        }
        let mut out = Vec::new();
        for ring in [&ring, &other, &Ring::open(&segment, ring.shape.root).unwrap()] {
            assert_eq!(ok(take(ring, &ok(segment.enter()), &mut out)), Pop::Closed);
            assert_eq!(push(&segment, ring, b"late"), Push::Closed);
            assert!(ring.is_closed(&segment).unwrap());
        }
        check_blocks(&segment, &ring);
        destroy(&segment, &ring);
    }
}

/// Lap numbers wrap.
#[test]
fn laps_wrap() {
    let segment = segment();
    for slots in [1, 2, 5u32] {
        let ring = ring(&segment, slots, 8, false);
        let part = ring.pop_part(&segment).unwrap();
        let late = u64::from(u32::MAX - 2) << 32;
        for index in 0..slots {
            let word = segment.word(part.cell(index)).unwrap();
            word.store(late, Ordering::Relaxed);
        }
        part.head().store(late, Ordering::Relaxed);
        part.tail().store(late, Ordering::Relaxed);
        for n in 0..40u64 {
            assert_eq!(push(&segment, &ring, &n.to_le_bytes()), Push::Done);
            assert_eq!(ring.len(&segment).unwrap(), 1);
            check(&segment, ring.shape.root).unwrap();
            if n % 7 == 6 {
                part.tail().store(late + (u64::from(slots) - 1), Ordering::Relaxed); // a very late store
            }
            assert_eq!(pop(&segment, &ring).unwrap(), n.to_le_bytes());
        }
        destroy(&segment, &ring);
    }
}

/// Whatever is in the ring's words: an error, or wrong data; no panic, no endless loop, no access outside.
#[test]
fn hostile_bytes() {
    let seed = u64::from(std::process::id()) << 1 | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let segment = segment();
    for round in 0..3000 {
        let ring = ring(&segment, 3, 8, round % 2 == 0);
        for n in 0..random.below(5) {
            let _ = push(&segment, &ring, &vec![1; if n % 2 == 0 { 8 } else { 30 }]);
        }
        for _ in 0..=random.below(3) {
            let word = segment.word(ring.shape.root + random.below(71) * 8).unwrap();
            let noise = match random.below(4) {
                0 => random.below(u64::MAX) << random.below(32),
                1 => word.load(Ordering::Relaxed) ^ 1 << random.below(64),
                2 => ring.shape.root,
                _ => random.below(8) | random.below(2) << 32 | 0xfff << 20,
            };
            // A slot whose owner lives is waited for: not in a test.
            word.store(if noise & 7 == 1 || noise & 7 == 3 { noise & !7 } else { noise }, Ordering::Relaxed);
        }
        let me = ok(segment.enter());
        let mut out = Vec::new();
        for _ in 0..4 {
            let _ = take(&ring, &me, &mut out);
            let _ = ring.push(&me, &[2; 30], &[5]);
        }
        let _ = ring.len(&segment);
        let _ = check(&segment, ring.shape.root);
        let _ = visit(&segment, ring.shape.root, &mut |_, _| Ok(()));
        let _ = visit_handles(&segment, ring.shape.root, &mut |_| Ok(()));
        for kind in [OpKind::RingPush, OpKind::RingPop, OpKind::RingSeal] {
            me.intent.set(Field::Object, ring.shape.root);
            me.intent.set(Field::Cell, random.below(1 << 20) * 8);
            let _ = resolve(&segment, me.slot().index, &me.intent, Op::new(kind));
        }
        let _ = ring.close(&me);
        for field in [Field::Op, Field::Alloc, Field::Alloc2, Field::Free] {
            me.intent.set(field, 0);
        }
    }
}
