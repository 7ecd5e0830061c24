//! Deaths among the living.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64 as LocalU64, Ordering};

use parking_lot::Mutex;

use super::crash_tests::{die_at, item, recover};
use super::tests::{Random, check_blocks, ok, pop, ring, segment, take};
use super::*;

/// Threads die at random steps while others go on: what was acknowledged is delivered once, but for one item for
/// each death inside a pop, which may have come after it was through.
#[test]
fn deaths_among_the_living() {
    const DEATHS: usize = 400;
    let seed = u64::from(std::process::id()) << 8 | 1;
    println!("seed {seed}");
    for (slots, unbounded, length) in [(1, false, 8), (3, false, 8), (4, false, 40), (2, true, 8), (8, false, 40)] {
        let segment = segment();
        let ring = ring(&segment, slots, 8, unbounded);
        let (acknowledged, popped) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let (next, dead_pops) = (LocalU64::new(0), LocalU64::new(0));
        std::thread::scope(|scope| {
            for seat in 0..3u64 {
                let (segment, ring) = (&*segment, &ring);
                let (acknowledged, popped, next, dead_pops) = (&acknowledged, &popped, &next, &dead_pops);
                scope.spawn(move || {
                    let mut random = Random(seed + seat * 977);
                    for _ in 0..DEATHS / 3 {
                        let (at, mut choices) = (1 + random.below(300), Random(random.below(1 << 40) | 1));
                        let popping = AtomicBool::new(false);
                        let died = die_at(segment, at, |me| {
                            let mut out = Vec::new();
                            for _ in 0..400 {
                                if choices.below(2) == 0 {
                                    let n = next.fetch_add(1, Ordering::Relaxed);
                                    if ok(ring.push(me, &item(n, length), &[])) == Push::Done {
                                        acknowledged.lock().push(n);
                                    }
                                } else {
                                    popping.store(true, Ordering::Relaxed);
                                    if let Pop::Item { .. } = ok(take(ring, me, &mut out)) {
                                        let n = u64::from_le_bytes(out[..8].try_into().unwrap());
                                        assert_eq!(out, item(n, length), "no torn item");
                                        popped.lock().push(n);
                                    }
                                    popping.store(false, Ordering::Relaxed);
                                }
                            }
                        });
                        if let Err(slot) = died {
                            dead_pops.fetch_add(popping.into_inner().into(), Ordering::Relaxed);
                            recover(segment, slot);
                            segment.free_slot(slot);
                        }
                    }
                });
            }
        });
        check_blocks(&segment, &ring);
        let (acknowledged, mut popped) = (acknowledged.into_inner(), popped.into_inner());
        while let Some(bytes) = pop(&segment, &ring) {
            popped.push(u64::from_le_bytes(bytes[..8].try_into().unwrap()));
        }
        check_blocks(&segment, &ring);
        let delivered: BTreeSet<u64> = popped.iter().copied().collect();
        assert_eq!(delivered.len(), popped.len(), "each item once");
        let lost = acknowledged.iter().filter(|n| !delivered.contains(n)).count() as u64;
        let dead_pops = dead_pops.into_inner();
        println!("{} delivered, {lost} taken along by {dead_pops} dead consumers", popped.len());
        assert!(lost <= dead_pops);
    }
}
