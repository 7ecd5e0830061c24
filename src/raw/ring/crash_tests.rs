//! Death at every step of every operation, and at every step of its recovery.
//!
//! A thread is armed to die at its `k`-th store; the survivor resolves its intent, frees what it names, and finds a
//! sound ring in which the operation happened or did not. Then the same with the recovery killed at its `j`-th store.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use super::crash_scenarios::{Action, Scenario, scenarios};
use super::tests::{check_blocks, destroy, ok, pop, push, ring, root_ref, segment, take};
use super::*;
use crate::mem::armed::{Death, Died, arm, disarm};
use crate::mem::{Op, Step};
use crate::raw::wait::Deadline;

pub(super) fn item(n: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![n as u8; length];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

/// Runs `operation` in a thread that dies at its store number `at`. `Err` is the slot that the dead thread had.
pub(super) fn die_at<T: Send>(
    segment: &Segment,
    at: u64,
    operation: impl FnOnce(&Me<'_>) -> T + Send,
) -> Result<T, u16> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let me = ok(segment.enter());
            let slot = me.slot().index;
            arm(Death::Unwind, at);
            match catch_unwind(AssertUnwindSafe(|| operation(&me))) {
                Ok(value) => {
                    disarm();
                    Ok(value)
                }
                Err(payload) if payload.is::<Died>() => Err(slot), // and stays dead, to its last destructor
                Err(payload) => resume_unwind(payload),
            }
        });
        thread.join().expect("no other panic")
    })
}

/// What a survivor does for the slot of a dead thread.
pub(super) fn recover(segment: &Segment, slot: u16) {
    let intent = segment.intent_of(slot).unwrap();
    if let Some(op) = Op::unpack(intent.get(Field::Op)) {
        resolve(segment, slot, &intent, op.expect("a known operation")).unwrap();
    }
    let run = intent.get(Field::Run);
    if run != 0 {
        segment.undo_run(slot, run).unwrap();
        intent.set(Field::Run, 0);
    }
    for field in [Field::Alloc, Field::Alloc2] {
        if intent.get(field) != 0 {
            segment.release_if_allocated(intent.get(field)).unwrap();
            intent.set(field, 0);
        }
    }
    if intent.get(Field::Free) != 0 {
        segment.release_for(intent.get(Field::Free)).unwrap();
        intent.set(Field::Free, 0);
    }
    intent.set(Field::Op, 0);
}

/// The same in a thread that dies at its store number `at`; whether it was through.
fn recover_until(segment: &Segment, slot: u16, at: u64) -> bool {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            arm(Death::Unwind, at);
            match catch_unwind(AssertUnwindSafe(|| recover(segment, slot))) {
                Ok(()) => {
                    disarm();
                    true
                }
                Err(payload) if payload.is::<Died>() => false,
                Err(payload) => resume_unwind(payload),
            }
        });
        thread.join().expect("no other panic")
    })
}

/// Makes slabs without an owner for the blocks that a ring needs, so that each run takes the same steps: few.
fn warm_up(segment: &Segment) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let me = ok(segment.enter());
            for size in [48, 576, 640, 704] {
                let block = me.alloc(size, Field::Alloc).unwrap();
                me.release(block).unwrap();
                me.intent.set(Field::Alloc, 0);
            }
        });
        thread.join().unwrap(); // to the last destructor, which gives the slabs up
    });
}

fn prepare(segment: &Segment, scenario: &Scenario) -> (Ring, VecDeque<Vec<u8>>) {
    let ring = ring(segment, scenario.slots, 8, scenario.unbounded);
    let mut model = VecDeque::new();
    let mut pops = scenario.pops;
    for n in 0..scenario.pushes {
        if !scenario.unbounded && model.len() == scenario.slots as usize {
            assert_eq!(pop(segment, &ring), model.pop_front());
            pops -= 1;
        }
        let bytes = item(n, scenario.length);
        assert_eq!(push(segment, &ring, &bytes), Push::Done);
        model.push_back(bytes);
    }
    for _ in 0..pops {
        assert_eq!(pop(segment, &ring), model.pop_front());
    }
    if scenario.returned {
        // Dies at the store that would free the slot: Cell, Object, Op, claim, hint come before it.
        let at = if scenario.length == 8 { 6 } else { 7 };
        let slot = die_at(segment, at, |me| take(&ring, me, &mut Vec::new()).is_ok()).unwrap_err();
        recover(segment, slot);
        segment.free_slot(slot);
        assert!(ring.pop_part(segment).unwrap().find_returned().is_some());
    }
    if scenario.waiting {
        let part = ring.push_part(segment).unwrap();
        let place = true_tail(&part).unwrap();
        let slot = part.slot(place.index());
        slot.mark_waiting(slot.look()).expect("nobody else is there");
        for side in [wake::Side::Item, wake::Side::Room] {
            wake::announce_sleeper(wake::follow(&ring.shape, segment, side).unwrap());
        }
    }
    if scenario.closed {
        ok(ring.close(&ok(segment.enter())));
    }
    (ring, model)
}

fn act(ring: &Ring, me: &Me<'_>, action: Action) -> Step<(Option<Push>, Option<Vec<u8>>)> {
    Ok(match action {
        Action::Push { length } => (Some(ring.push(me, &item(99, length), &[])?), None),
        Action::Pop => {
            let mut out = Vec::new();
            match take(ring, me, &mut out)? {
                Pop::Item { .. } => (None, Some(out)),
                _ => (None, None),
            }
        }
        Action::Close => {
            ring.close(me)?;
            (None, None)
        }
        Action::Wait => {
            let mut sleeper = ring.wait_for_item(me.segment, Deadline::NEVER);
            assert!(sleeper.arm()?.is_some());
            (None, None)
        }
    })
}

/// The ring is sound, holds one of `allowed`, and works.
fn verify(segment: &Segment, old: &Ring, allowed: &[VecDeque<Vec<u8>>], may_close: bool, must_close: bool) {
    check_blocks(segment, old);
    let ring = Ring::open(segment, root_ref(segment).load(Ordering::Acquire)).unwrap();
    let closed = ring.is_closed(segment).unwrap();
    assert!(!closed || may_close, "closed by nobody");
    assert!(closed || !must_close, "an acknowledged close was lost");
    let length = ring.len(segment).unwrap() as usize;
    let mut content = VecDeque::new();
    while let Some(bytes) = pop(segment, &ring) {
        content.push_back(bytes);
    }
    assert_eq!(length, content.len());
    assert!(allowed.contains(&content), "{content:?} is none of {allowed:?}");
    check_blocks(segment, &ring);
    if closed {
        assert_eq!(push(segment, &ring, b"late"), Push::Closed);
    } else {
        let most = ring.capacity().unwrap_or(3);
        for lap in 0..3 {
            for n in 0..most {
                assert_eq!(push(segment, &ring, &item(n, 8 + lap * 20)), Push::Done);
            }
            for n in 0..most {
                assert_eq!(pop(segment, &ring), Some(item(n, 8 + lap * 20)));
            }
        }
        assert_eq!(pop(segment, &ring), None);
        assert_eq!(ring.len(segment).unwrap(), 0);
    }
    check_blocks(segment, &ring);
    destroy(segment, &ring);
}

/// Dies at `step` of the action, and at `again` of the recovery (0: it lives). Returns whether each death happened.
fn run(scenario: &Scenario, step: u64, again: u64) -> (bool, bool) {
    let segment = &*segment();
    warm_up(segment);
    let (ring, before) = prepare(segment, scenario);
    let died = die_at(segment, step, |me| ok(act(&ring, me, scenario.action)));
    let mut after = before.clone();
    match scenario.action {
        Action::Push { length } => {
            let room = scenario.unbounded || before.len() < scenario.slots as usize;
            if room && !scenario.closed {
                after.push_back(item(99, length));
            }
        }
        Action::Pop => {
            after.pop_front();
        }
        Action::Close | Action::Wait => {}
    }
    let closing = scenario.action == Action::Close;
    let Err(slot) = died else {
        let (pushed, popped) = died.unwrap();
        if let Some(pushed) = pushed {
            assert_eq!(pushed == Push::Done, after.len() > before.len());
        }
        if scenario.action == Action::Pop {
            assert_eq!(popped.as_ref(), before.front());
        }
        verify(segment, &ring, &[after], closing || scenario.closed, closing || scenario.closed);
        return (false, false);
    };
    let killed_again = again > 0 && !recover_until(segment, slot, again);
    recover(segment, slot);
    segment.free_slot(slot);
    verify(segment, &ring, &[before, after], closing || scenario.closed, scenario.closed);
    (true, killed_again)
}

#[test]
pub fn at_every_step() {
    let (mut steps, mut recoveries) = (0, 0);
    let scenarios = scenarios();
    for scenario in &scenarios {
        let guard = Named(scenario.name);
        let mut step = 1;
        while run(scenario, step, 0).0 {
            let mut again = 1;
            while run(scenario, step, again).1 {
                again += 1;
            }
            recoveries += again - 1;
            step += 1;
        }
        steps += step - 1;
        std::mem::forget(guard);
    }
    println!("{} operations, {steps} steps, {recoveries} steps of recovery", scenarios.len());
    let missed: Vec<_> =
        ["push.rs", "pop.rs", "seal.rs", "recover.rs", "slot.rs", "payload.rs", "wake.rs", "part.rs", "shape.rs"]
            .into_iter()
            .filter(|file| !crate::mem::armed::reached().iter().any(|(path, _)| path.ends_with(file)))
            .collect();
    assert!(missed.is_empty(), "no step of {missed:?} was killed");
}

/// Building a ring: nothing refers to it, or it is whole.
#[test]
fn while_building() {
    let segment = segment();
    let mut step = 1;
    loop {
        let died = die_at(&segment, step, |me| build(me, root_ref(&segment), 2, 8, false).is_ok());
        let Err(slot) = died else { break };
        let intent = segment.intent_of(slot).unwrap();
        let root = root_ref(&segment).load(Ordering::Acquire);
        if root != 0 && intent.get(Field::Alloc) == root {
            intent.set(Field::Alloc, 0); // what the resolution of ObjectBuild finds
        }
        recover(&segment, slot);
        segment.free_slot(slot);
        match root {
            0 => assert!(segment.allocated_blocks().unwrap().0.is_empty()),
            _ => destroy(&segment, &Ring::open(&segment, root).unwrap()),
        }
        step += 1;
    }
    println!("{} steps", step - 1);
}

/// Says which scenario a failure belongs to.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        eprintln!("in scenario: {}", self.0);
    }
}
