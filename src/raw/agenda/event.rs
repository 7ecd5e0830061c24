//! Sleeping until something happens: an event count whose word is also a futex.
//!
//! `count:63 | sleepers:1`; the low half is the futex. Who wants to sleep sets the bit, tries once more, and sleeps while
//! the word is the same. Who makes something happen adds one to the count if the bit is set, and wakes.
//!
//! # Why no wake-up is lost
//!
//! Something happens under the latch, before the word is looked at; whoever tries takes the latch after setting the
//! bit, or reads counts behind a fence. So one of the two sees the other. A sleeper that is woken tries before it gives up, so what it was
//! woken for is not left lying. Kills between are made good by recovery, which wakes everybody, and by the slices.

use std::sync::atomic::Ordering;

use super::{Agenda, root};
use crate::error::Result;
use crate::mem::{Segment, Word, fence};
use crate::raw::wait::{Deadline, Next, Waiter};

const SLEEPERS: u64 = 1;
const ONE: u64 = 2;

/// Wakes up to `count` of those who sleep for an event.
#[inline]
pub(super) fn signal(word: &Word, count: u32) {
    // Pairs with the fence of a sleeper between its bit and its look at the counts.
    fence(Ordering::SeqCst);
    if word.load(Ordering::Relaxed) & SLEEPERS != 0 {
        signal_sleepers(word, count);
    }
}

#[cold]
fn signal_sleepers(word: &Word, count: u32) {
    let now = word.fetch_add(ONE, Ordering::AcqRel).wrapping_add(ONE);
    if count == u32::MAX || word.wake(count) == 0 {
        // Nobody is to sleep there any more. Who has set the bit again since finds another count.
        let _ = word.cas(now, now.wrapping_add(ONE) & !SLEEPERS, Ordering::AcqRel);
        word.wake(u32::MAX);
    }
}

/// Wakes everybody who sleeps for anything.
pub(super) fn wake_everybody(words: &[Word]) {
    for event in [root::ITEM, root::ROOM, root::DONE] {
        signal(&words[event], u32::MAX);
    }
}

/// One wait for an event, from the first try to the last.
pub struct Waiting<'a> {
    word: &'a Word,
    waiter: Waiter,
    /// The word behind which a try has failed since: it may be slept on.
    armed: Option<u64>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Try again.
    Try,
    /// A slice has passed in which nothing happened: look whether somebody died, and try again.
    Look,
    /// Time is up.
    TimedOut,
}

impl<'a> Waiting<'a> {
    fn on(agenda: &Agenda, segment: &'a Segment, at: usize, deadline: Deadline) -> Result<Waiting<'a>> {
        let word = &agenda.words(segment)?[at];
        Ok(Waiting { word, waiter: Waiter::until(deadline), armed: None })
    }

    /// What to do after a try that failed.
    pub fn next(&mut self) -> Turn {
        let now = self.word.load(Ordering::Acquire);
        match (self.waiter.next(), self.armed) {
            (Next::Look, _) => Turn::Try,
            (Next::TimedOut, _) => Turn::TimedOut,
            (Next::Sleep(slice), Some(armed)) if armed == now => {
                self.word.wait(armed as u32, slice);
                if self.word.load(Ordering::Acquire) == armed { Turn::Look } else { Turn::Try }
            }
            (Next::Sleep(_), _) => {
                let armed = now | SLEEPERS;
                let set = now == armed || self.word.cas(now, armed, Ordering::AcqRel).is_ok();
                self.armed = set.then_some(armed);
                fence(Ordering::SeqCst);
                Turn::Try
            }
        }
    }
}

impl Agenda {
    /// Waits for an item.
    pub fn wait_for_item<'a>(&self, segment: &'a Segment, deadline: Deadline) -> Result<Waiting<'a>> {
        Waiting::on(self, segment, root::ITEM, deadline)
    }

    /// Waits for room.
    pub fn wait_for_room<'a>(&self, segment: &'a Segment, deadline: Deadline) -> Result<Waiting<'a>> {
        Waiting::on(self, segment, root::ROOM, deadline)
    }

    /// Waits until all is done.
    pub fn wait_until_done<'a>(&self, segment: &'a Segment, deadline: Deadline) -> Result<Waiting<'a>> {
        Waiting::on(self, segment, root::DONE, deadline)
    }
}
