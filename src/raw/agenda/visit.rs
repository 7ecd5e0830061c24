//! Everything that an agenda refers to, and its own fsck.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::list::fuel;
use super::node::Node;
use super::{Agenda, CHUNKS, Counts, LEVELS, READ_TRIES, root};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Segment, Word};
use crate::raw::latch;

/// Rounds of a walk that items given back may spoil.
const ROUNDS: u32 = 100;

/// Shows `f` every word that refers to a block of the agenda at `root`, with the block. `f` may put 0 into the word: what is
/// still there is reached in any case, so destruction can be killed and begun again.
///
/// # Complexity
/// Linear in items and cells.
///
/// # Errors
/// `Corrupted`; what `f` fails with.
pub fn visit(segment: &Segment, root: u64, f: &mut dyn FnMut(&Word, u64) -> Result<()>) -> Result<()> {
    let agenda = Agenda::open(segment, root)?;
    let words = agenda.words(segment)?;
    let mut links = Vec::new();
    agenda.each(segment, 0, &mut |link, node| {
        links.push((link, node.offset));
        Ok(())
    })?;
    // From the last to the first: each is reached through those before it.
    for (link, block) in links.into_iter().rev() {
        f(segment.word(link)?, block)?;
    }
    Agenda::each_cell(segment, words, &mut |_, cell, block| f(cell, block))?;
    for chunk in words[root::CHUNKS..][..CHUNKS].iter().rev() {
        match chunk.load(Ordering::Acquire) {
            0 => {}
            block => f(chunk, block)?,
        }
    }
    Ok(())
}

/// Shows `f` every handle of every item that is there throughout, while others work.
///
/// # Errors
/// `Corrupted`; `Contended` if others leave no moment to look; what `f` fails with.
pub fn visit_handles(segment: &Segment, root: u64, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let agenda = Agenda::open(segment, root)?;
    let words = agenda.words(segment)?;
    for _ in 0..ROUNDS {
        let returns = words[root::RETURNS].load(Ordering::Acquire);
        let mut key = None;
        let mut fuel = fuel(segment);
        while let Some((next, handles)) = undisturbed(words, || {
            let node = agenda.first_behind(segment, words, key)?;
            Ok(node.map(|node| (node.key(), loaded(&node))))
        })? {
            fuel = fuel.saturating_sub(1);
            if fuel == 0 || key.is_some_and(|key| key >= next) {
                return Err(Error::corrupted("the order of queued items"));
            }
            handles.into_iter().try_for_each(&mut *f)?;
            key = Some(next);
        }
        // An item goes from the list into a cell, so it was met there or is met here.
        for number in 0..Agenda::cells(words) {
            let handles = undisturbed(words, || {
                match segment.word(Agenda::cell_offset(words, number)?)?.load(Ordering::Acquire) {
                    0 => Ok(Vec::new()),
                    block => Ok(loaded(&Node::at(segment, block)?)),
                }
            })?;
            handles.into_iter().try_for_each(&mut *f)?;
        }
        // Unless it went the other way meanwhile.
        if words[root::RETURNS].load(Ordering::Acquire) == returns {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Contended, "looking for handles in a queue"))
}

fn loaded(node: &Node<'_>) -> Vec<u64> {
    node.handles().iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

/// What `read` finds, read while no operation ended. One that is under way shows an item in its old place, its new one, or
/// both, and frees nothing before it ends.
fn undisturbed<R>(words: &[Word], mut read: impl FnMut() -> Result<R>) -> Result<R> {
    for _ in 0..READ_TRIES {
        let sequence = latch::observe(&words[root::LATCH]);
        let found = read();
        if latch::is_unchanged(&words[root::LATCH], sequence) {
            return found;
        }
    }
    Err(Error::new(ErrorKind::Contended, "reading a queue"))
}

impl Agenda {
    /// What there is to do, by looking at each item.
    pub(super) fn recounted(&self, segment: &Segment) -> Result<Counts> {
        let mut counts = Counts::default();
        self.each(segment, 0, &mut |_, _| {
            counts.waiting += 1;
            Ok(())
        })?;
        Agenda::each_cell(segment, self.words(segment)?, &mut |_, _, block| {
            counts.leased += u64::from(!Node::at(segment, block)?.lessee().1);
            Ok(())
        })?;
        Ok(counts)
    }
}

/// Checks an agenda at rest: latch free, items in order, each upper level a part of the lowest, tails that are reached,
/// counts right.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    let agenda = Agenda::open(segment, root)?;
    let words = agenda.words(segment)?;
    let wrong = |rule: &'static str| Err(Error::corrupted(rule));
    if latch::owner_of(words[root::LATCH].load(Ordering::Acquire)) != 0 {
        return wrong("a queue's latch is held by nobody at work");
    }
    let mut below: Option<HashSet<u64>> = None;
    for level in 0..LEVELS {
        let mut here = HashSet::new();
        let mut last = None;
        agenda.each(segment, level, &mut |_, node| {
            if last.replace(node.key()).is_some_and(|last| last >= node.key()) {
                return wrong("the order of queued items");
            }
            if below.as_ref().is_some_and(|below| !below.contains(&node.offset)) {
                return wrong("an item that is in an upper level only");
            }
            here.insert(node.offset);
            Ok(())
        })?;
        let tail = words[root::TAILS + level].load(Ordering::Acquire);
        if tail != 0 && !here.contains(&tail) {
            return wrong("a tail of a queue's level is not in it");
        }
        if level == 0 {
            below = Some(here);
        }
    }
    let counts = agenda.recounted(segment)?;
    if words[root::WAITING].load(Ordering::Acquire) != counts.waiting
        || words[root::LEASED].load(Ordering::Acquire) != counts.leased
    {
        return wrong("the counts of a queue");
    }
    Ok(())
}
