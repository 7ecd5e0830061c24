//! The waiting items: a skip list of which only the first is ever removed.
//!
//! Everything here is done under the latch.
//!
//! # Crash
//!
//! An item is linked from the lowest level up and unlinked from the highest down, so that a kill between two stores leaves
//! an item that fewer levels reach, which is as good as any. The store of the lowest level's link is the commit.
//!
//! # Bounds
//!
//! A walk takes no more steps than there can be items in the segment.

use std::sync::atomic::Ordering;

use super::node::{Key, Node};
use super::{Agenda, LEVELS, root};
use crate::error::{Error, Result};
use crate::mem::{Segment, Word};

/// Bytes that an item takes at least.
const SMALLEST: u64 = 48;

/// Where an item is to be linked, level by level: offsets of the links before it.
pub(super) struct Gap([u64; LEVELS]);

impl Gap {
    /// The link whose store commits.
    pub fn lowest(&self) -> u64 {
        self.0[0]
    }
}

/// The most steps that a walk over items can take.
pub(super) fn fuel(segment: &Segment) -> u64 {
    segment.committed() / SMALLEST * 2 + LEVELS as u64
}

impl Agenda {
    /// The gap for an item of key `key` that is linked in `height` levels.
    ///
    /// # Complexity
    /// Constant for the last item of all; logarithmic else.
    pub(super) fn gap(&self, segment: &Segment, words: &[Word], key: Key, height: usize) -> Result<Gap> {
        match self.gap_at_end(segment, words, key, height)? {
            Some(gap) => Ok(gap),
            None => self.gap_by_search(segment, words, key),
        }
    }

    fn gap_at_end(&self, segment: &Segment, words: &[Word], key: Key, height: usize) -> Result<Option<Gap>> {
        let mut gap = [0; LEVELS];
        for (level, place) in gap.iter_mut().enumerate().take(height) {
            let tail = words[root::TAILS + level].load(Ordering::Relaxed);
            if tail == 0 {
                if words[root::HEADS + level].load(Ordering::Relaxed) != 0 {
                    return Ok(None);
                }
                *place = self.offset_of(root::HEADS + level);
                continue;
            }
            let last = Node::at(segment, tail)?;
            if last.key() >= key || last.link(level)?.load(Ordering::Relaxed) != 0 {
                return Ok(None);
            }
            *place = last.link_offset(level);
        }
        Ok(Some(Gap(gap)))
    }

    fn gap_by_search(&self, segment: &Segment, words: &[Word], key: Key) -> Result<Gap> {
        let mut gap = [0; LEVELS];
        let mut before: Option<Node<'_>> = None;
        let mut fuel = fuel(segment);
        for level in (0..LEVELS).rev() {
            loop {
                let link = match &before {
                    Some(node) => node.link(level)?,
                    None => &words[root::HEADS + level],
                };
                let next = link.load(Ordering::Relaxed);
                if next == 0 {
                    break;
                }
                let node = Node::at(segment, next)?;
                if node.key() >= key {
                    break;
                }
                before = Some(node);
                fuel =
                    fuel.checked_sub(1).ok_or_else(|| Error::corrupted("the items of a queue go round in a circle"))?;
            }
            gap[level] = match &before {
                Some(node) => node.link_offset(level),
                None => self.offset_of(root::HEADS + level),
            };
        }
        Ok(Gap(gap))
    }

    /// Links an item, and calls `committed` right behind the commit.
    pub(super) fn link(
        &self,
        segment: &Segment,
        words: &[Word],
        node: &Node<'_>,
        gap: &Gap,
        committed: impl FnOnce(),
    ) -> Result<()> {
        for level in 0..node.height {
            let next = segment.word(gap.0[level])?.load(Ordering::Relaxed);
            node.link(level)?.store(next, Ordering::Relaxed);
        }
        // LINEARIZES: the item waits. Release: so do its links and its bytes for whoever walks without the latch.
        segment.word(gap.lowest())?.store(node.offset, Ordering::Release);
        committed();
        for level in 1..node.height {
            segment.word(gap.0[level])?.store(node.offset, Ordering::Release);
        }
        for level in 0..node.height {
            if node.link(level)?.load(Ordering::Relaxed) == 0 {
                words[root::TAILS + level].store(node.offset, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The first item.
    pub(super) fn first<'a>(&self, segment: &'a Segment, words: &[Word]) -> Result<Option<Node<'a>>> {
        match words[root::HEADS].load(Ordering::Relaxed) {
            0 => Ok(None),
            offset => Node::at(segment, offset).map(Some),
        }
    }

    /// Unlinks `node`, the first item.
    pub(super) fn unlink_first(&self, words: &[Word], node: &Node<'_>) -> Result<()> {
        // Tails first: none may be left that its level does not reach.
        for tail in &words[root::TAILS..][..node.height] {
            if tail.load(Ordering::Relaxed) == node.offset {
                tail.store(0, Ordering::Release);
            }
        }
        for level in (1..node.height).rev() {
            let head = &words[root::HEADS + level];
            if head.load(Ordering::Relaxed) == node.offset {
                head.store(node.link(level)?.load(Ordering::Relaxed), Ordering::Release);
            }
        }
        // LINEARIZES: the item waits no more.
        words[root::HEADS].store(node.link(0)?.load(Ordering::Relaxed), Ordering::Release);
        Ok(())
    }

    /// The first item behind `key`, without the latch: what it is has to be looked at while the latch's sequence is the
    /// same still.
    pub(super) fn first_behind<'a>(
        &self,
        segment: &'a Segment,
        words: &[Word],
        key: Option<Key>,
    ) -> Result<Option<Node<'a>>> {
        let link = match key {
            None => self.offset_of(root::HEADS),
            Some((priority, sequence)) => {
                let behind = (priority, sequence.saturating_add(1));
                self.gap_by_search(segment, words, behind)?.lowest()
            }
        };
        match segment.word(link)?.load(Ordering::Acquire) {
            0 => Ok(None),
            offset => Node::at(segment, offset).map(Some),
        }
    }

    /// Every waiting item in order, with the offset of the link before it.
    pub(super) fn each(
        &self,
        segment: &Segment,
        level: usize,
        f: &mut dyn FnMut(u64, &Node<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut link = self.offset_of(root::HEADS + level);
        for _ in 0..fuel(segment) {
            let next = segment.word(link)?.load(Ordering::Acquire);
            if next == 0 {
                return Ok(());
            }
            let node = Node::at(segment, next)?;
            node.link(level)?;
            f(link, &node)?;
            link = node.link_offset(level);
        }
        Err(Error::corrupted("the items of a queue go round in a circle"))
    }
}
