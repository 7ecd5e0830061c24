//! What becomes of a table operation whose thread died, or failed, at any point.
//!
//! Everything follows from the intent and the table: the latch still names the thread exactly if the operation is
//! between taking and releasing it, and a block still named is in the table exactly if it was published.

use std::sync::atomic::Ordering;

use super::bucket::{Bucket, block_of, chain};
use super::directory::{bucket_offset, locate};
use super::latched::{add, count_of, latch_of};
use super::size::{Size, parent_of};
use super::split::has_own_latch;
use super::{Table, root, sequence};
use crate::error::{Error, Result};
use crate::mem::{Field, Intent, Me, Op, OpKind, Segment, Step, Stop, Word};
use crate::raw::{latch, recovery};

/// What a clear met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cleared {
    /// Whether an entry that went held handles.
    pub dropped_handles: bool,
    /// A dead process that was in the way, and still has to be recovered.
    pub met_dead: Option<u32>,
}

/// Undoes or completes what slot `slot` was doing to a table. Takes no lock, allocates nothing, can be repeated from
/// any point. The caller then frees what the intent still names, and clears `op`.
///
/// # Errors
/// `Corrupted`.
pub fn resolve(segment: &Segment, slot: u16, intent: &Intent<'_>, op: Op) -> Result<()> {
    let table = Table::open(segment, intent.get(Field::Object))?;
    let owner = u64::from(slot) + 1;
    match op.kind {
        OpKind::TableSplit => table.resolve_split(segment, owner, intent, op),
        OpKind::TableSnapshot => {
            latch::release_for(&table.root(segment)?[root::GATE], owner);
            Ok(())
        }
        _ => table.resolve_change(segment, owner, intent, op.argument),
    }
}

impl Table {
    /// Put, remove, and the bucket at hand of a clear.
    fn resolve_change(&self, segment: &Segment, owner: u64, intent: &Intent<'_>, number: u64) -> Result<()> {
        let words = self.root(segment)?;
        if latch::owner_of(latch_of(words, number).load(Ordering::Acquire)) != owner {
            return Ok(()); // not latched yet, or finished but for freeing
        }
        // Whether the count was changed for a committed insertion or removal cannot be known.
        words[root::DIRTY].store(1, Ordering::Release);
        let settled = self.settle_names(segment, words, intent, number);
        latch::release_for(latch_of(words, number), owner); // also where the chain is corrupted, for the sake of the others
        settled
    }

    /// Forgets the names of blocks that are in bucket `number`, or in it still, and makes void what readers have copied.
    fn settle_names(&self, segment: &Segment, words: &[Word], intent: &Intent<'_>, number: u64) -> Result<()> {
        let off = bucket_offset(words, &self.geometry, number)?;
        sequence::raise(Bucket::at(segment, &self.geometry, off)?.sequence());
        let all = chain(segment, &self.geometry, off)?;
        let named = |field| intent.get(field);
        let in_table = |block: u64| self.geometry.boxed && block != 0 && refers_to(&all, block);
        let linked = |block: u64| block != 0 && all.iter().any(|bucket| bucket.link() == block);
        if in_table(named(Field::Free)) || linked(named(Field::Free)) {
            intent.set(Field::Free, 0); // not unlinked
        }
        if in_table(named(Field::Alloc)) {
            intent.set(Field::Alloc, 0); // published
        }
        if linked(named(Field::Alloc2)) {
            intent.set(Field::Alloc2, 0);
        }
        Ok(())
    }

    fn resolve_split(&self, segment: &Segment, owner: u64, intent: &Intent<'_>, op: Op) -> Result<()> {
        let words = self.root(segment)?;
        if latch::owner_of(words[root::SPLIT].load(Ordering::Acquire)) != owner {
            return Ok(());
        }
        let fresh = op.argument;
        let (index, _, _) = locate(fresh);
        let entry = words.get(root::DIRECTORY + index).ok_or_else(|| Error::corrupted("the argument of a split"))?;
        let chunk = intent.get(Field::Alloc);
        if chunk != 0 && entry.load(Ordering::Acquire) == chunk {
            intent.set(Field::Alloc, 0);
        }
        let settled = if op.phase > 0 { self.settle_split(segment, words, owner, intent, fresh) } else { Ok(()) };
        // Also where something is corrupted, for the sake of the others.
        if op.phase > 0 {
            latch::release_for(latch_of(words, parent_of(fresh)), owner);
            latch::release_for(latch_of(words, fresh), owner);
        }
        latch::release_for(&words[root::SPLIT], owner);
        settled
    }

    /// Empties bucket `fresh` if it was not published, and takes its entries out of the parent if it was.
    fn settle_split(
        &self,
        segment: &Segment,
        words: &[Word],
        owner: u64,
        intent: &Intent<'_>,
        fresh: u64,
    ) -> Result<()> {
        let (buckets, parent) = (Size::read(words).buckets(), parent_of(fresh));
        if buckets <= fresh {
            return self.empty_target(segment, intent, bucket_offset(words, &self.geometry, fresh)?);
        }
        if latch::owner_of(latch_of(words, parent).load(Ordering::Acquire)) == owner {
            if has_own_latch(words, fresh) {
                words[root::DIRTY].store(1, Ordering::Release); // half of a move may have been counted
            }
            let source = bucket_offset(words, &self.geometry, parent)?;
            self.resume_unlinking(segment, intent, source)?;
            self.normalise_again(segment, intent, source, parent, buckets)?;
            sequence::raise(segment.word(source)?);
        }
        Ok(())
    }

    /// Frees the overflow buckets of a bucket that was not published.
    fn empty_target(&self, segment: &Segment, intent: &Intent<'_>, target: u64) -> Result<()> {
        let primary = Bucket::at(segment, &self.geometry, target)?;
        let appended = intent.get(Field::Alloc2);
        if appended != 0 && chain(segment, &self.geometry, target)?.iter().any(|bucket| bucket.link() == appended) {
            intent.set(Field::Alloc2, 0);
        }
        for _ in 0..=super::MAX_CHAIN {
            let link = primary.link();
            let freeing = intent.get(Field::Free);
            if freeing != 0 && freeing != link {
                segment.release_for(freeing)?;
                intent.set(Field::Free, 0);
                continue;
            }
            if link == 0 {
                return Ok(());
            }
            intent.set(Field::Free, link);
            let next = Bucket::at(segment, &self.geometry, link)?.link();
            primary.set_link(next)?;
            segment.release_for(link)?;
            intent.set(Field::Free, 0);
        }
        Err(Error::corrupted("a chain of buckets without end"))
    }

    /// Completes the unlinking that a kill interrupted.
    fn resume_unlinking(&self, segment: &Segment, intent: &Intent<'_>, primary: u64) -> Result<()> {
        let freeing = intent.get(Field::Free);
        if freeing == 0 {
            return Ok(());
        }
        let linked = chain(segment, &self.geometry, primary)?.iter().any(|bucket| bucket.link() == freeing);
        if !linked {
            sequence::raise(segment.word(primary)?);
            segment.release_for(freeing)?;
        }
        intent.set(Field::Free, 0);
        Ok(())
    }

    /// Removes every entry.
    ///
    /// # Crash
    /// Bucket by bucket. A clear that a kill cut short is completed by whoever recovers, from where it was: the intent
    /// counts the buckets done. For the same reason it does not give up for a dead process in the way, which is made
    /// to let go of its latches on the spot.
    ///
    /// # Complexity
    /// Linear in buckets and entries.
    pub fn clear(&self, me: &Me<'_>) -> Step<Cleared> {
        self.clear_from(me, 0)
    }

    fn clear_from(&self, me: &Me<'_>, first: u64) -> Step<Cleared> {
        let words = self.root(me.segment)?;
        let mut cleared = Cleared::default();
        let (mut number, mut recoveries) = (first, 0);
        me.intent.set(Field::Object, self.root);
        while number < Size::read(words).buckets() {
            me.intent.set(Field::Op, Op { kind: OpKind::TableClear, phase: 0, argument: number }.pack());
            match self.latch_number(me, words, number) {
                Ok(true) => {
                    cleared.dropped_handles |= self.clear_bucket(me, words, number)?;
                    latch::release(latch_of(words, number));
                    number += 1;
                }
                Ok(false) => {}
                Err(Stop::Dead(_)) if recoveries == recovery::MAX_RECOVERIES => {
                    return Err(super::contended("too many dead processes in the way").into());
                }
                Err(Stop::Dead(process)) => {
                    recoveries += 1;
                    recovery::release_latches_of(me.segment, process)?;
                    cleared.met_dead = Some(process);
                }
                Err(stop) => return Err(stop),
            }
        }
        me.intent.set(Field::Op, 0);
        Ok(cleared)
    }

    fn clear_bucket(&self, me: &Me<'_>, words: &[Word], number: u64) -> Result<bool> {
        let off = bucket_offset(words, &self.geometry, number)?;
        let mut dropped_handles = false;
        for bucket in chain(me.segment, &self.geometry, off)? {
            for cell in bucket.live_cells() {
                let words_of_cell = bucket.cell(cell);
                let now = super::entry::content(me.segment, &self.geometry, words_of_cell)?;
                dropped_handles |= !now.handles.is_empty();
                if self.geometry.boxed {
                    me.intent.set(Field::Free, block_of(words_of_cell[0].load(Ordering::Relaxed)));
                }
                bucket.set_live(bucket.live().without(cell)); // LINEARIZES: remove, for this entry
                add(count_of(words, number), -1);
                sequence::raise(me.segment.word(off)?);
                if self.geometry.boxed {
                    me.release(me.intent.get(Field::Free))?;
                    me.intent.set(Field::Free, 0);
                }
            }
        }
        self.unlink_empty(me.segment, &me.intent, off)?;
        Ok(dropped_handles)
    }
}

/// Goes on with the clear that dead slot's `op` describes; an operation of the recoverer's own.
pub fn resume_clear(me: &Me<'_>, root: u64, op: Op) -> Step<Cleared> {
    Table::open(me.segment, root)?.clear_from(me, op.argument)
}

fn refers_to(all: &[Bucket<'_>], block: u64) -> bool {
    all.iter()
        .any(|bucket| bucket.live_cells().any(|cell| block_of(bucket.cell(cell)[0].load(Ordering::Acquire)) == block))
}
