//! A pipe: two ends, and a ring for each direction.
//!
//! Three objects. The *pipe* owns the rings. Each *end* refers to the pipe as a container refers to what is in it, and
//! its holder bits tell who has it; so an end may be held by many processes, travel, and lie in containers, and when
//! nobody can reach it any more it is gone, by the rules of every object (`object`, `collect`).
//!
//! The pipe's root block: the ends that were closed, the rings, the ids of the ends. An end's: the pipe, and which end
//! it is. End 0 pops from ring 0, end 1 from ring 1; a one-way pipe has ring 0 only.
//!
//! # Thread safety and invariants
//!
//! 1. Everything in both blocks but `CLOSED` is written before anybody else can have an end.
//! 2. The ids of the ends in the pipe are weak: no collector follows them, and a generation that is over stays over.
//! 3. **Whoever finds the other end gone closes the rings.** A closed ring is all that an operation looks at: its reader
//!    gets what was acknowledged and then learns of the end; its writer learns at once. A ring that is closed without
//!    need would be an error, a ring that is closed late is none.
//! 4. An end is gone when its object is. That comes after the last push of each of its holders: a holder that let go had
//!    pushed before, and of a dead one recovery first resolves the push and then clears the bit.
//! 5. `CLOSED` only ever gets bits. It is set before the rings are closed, and who finds it set closes them.
//!
//! # Crash
//!
//! No operation of its own: rings, objects and intents of theirs. A kill between the last letting go of an end and the
//! closing of the rings leaves that to the other end, which looks between its sleeps and now and then when it sends.

use std::sync::atomic::Ordering;

use super::object::{self, NAMED, NESTED, ObjectId};
use super::ring::{self, Ring, Spec};
use super::{collect, recovery};
use crate::error::{Error, Result};
use crate::mem::{Field, Liveness, Me, Segment, Step, WORD, Word};

/// Bit `i`: end `i` was closed.
const CLOSED: usize = 0;
/// Offset of the ring that end 0 pops from.
const RING0: usize = 1;
/// Offset of the ring that end 1 pops from, or 0.
const RING1: usize = 2;
/// Object id of end 0.
const END0: usize = 3;
/// Object id of end 1.
const END1: usize = 4;
const WORDS: usize = 5;

/// Of an end's block: object id of the pipe.
const PIPE: usize = 0;
/// Of an end's block: which end it is.
const SIDE: usize = 1;
const END_WORDS: usize = 2;

/// Looks at an end before it is left to the next look: each recovers somebody, or finds that another does.
const LOOKS: u32 = 256;

/// Builds the pipe, with rings of `spec` for one direction or both.
///
/// # Crash
/// As [`ring::create`]: what is referred to is freed with the object.
pub fn create(me: &Me<'_>, root_ref: &Word, spec: &Spec, duplex: bool) -> Result<()> {
    let words = new_block(me, root_ref, WORDS)?;
    ring::create(me, &words[RING0], spec)?;
    if duplex {
        ring::create(me, &words[RING1], spec)?;
    }
    Ok(())
}

/// Builds end `side` of `pipe`.
pub fn create_end(me: &Me<'_>, root_ref: &Word, pipe: ObjectId, side: u32) -> Result<()> {
    let words = new_block(me, root_ref, END_WORDS)?;
    words[SIDE].store(side.into(), Ordering::Relaxed);
    words[PIPE].store(pipe.pack(), Ordering::Release);
    Ok(())
}

/// A block of zeros, which the object refers to.
fn new_block<'a>(me: &Me<'a>, root_ref: &Word, count: usize) -> Result<&'a [Word]> {
    let block = me.alloc(count as u64 * WORD, Field::Alloc)?;
    let words = me.segment.words(block, count)?;
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    // Release: who sees the offset sees zeros.
    root_ref.store(block, Ordering::Release);
    me.intent.set(Field::Alloc, 0);
    Ok(words)
}

/// Tells the pipe its ends, which nobody but the caller has yet.
pub fn name_ends(segment: &Segment, root: u64, ends: [ObjectId; 2]) -> Result<()> {
    let words = segment.words(root, WORDS)?;
    words[END0].store(ends[0].pack(), Ordering::Release);
    words[END1].store(ends[1].pack(), Ordering::Release);
    Ok(())
}

/// The pipe that the end at `root` belongs to, and which end it is.
///
/// # Errors
/// `Corrupted` if there is no such end.
pub fn read_end(segment: &Segment, root: u64) -> Result<(ObjectId, usize)> {
    let words = segment.words(root, END_WORDS)?;
    let pipe = ObjectId::unpack(words[PIPE].load(Ordering::Acquire));
    match words[SIDE].load(Ordering::Relaxed) {
        side @ 0..=1 => Ok((pipe, side as usize)),
        _ => Err(Error::corrupted("the end of a pipe")),
    }
}

/// A pipe, as one of its ends has opened it.
#[derive(Clone)]
pub struct Pipe {
    root: u64,
    side: usize,
    other: ObjectId,
    incoming: Option<Ring>,
    outgoing: Option<Ring>,
}

impl Pipe {
    /// Opens the pipe at `root` for its end `side`, which is object `end`.
    ///
    /// # Errors
    /// `Corrupted` if there is no such pipe.
    pub fn open(segment: &Segment, root: u64, side: usize, end: ObjectId) -> Result<Pipe> {
        let words = segment.words(root, WORDS)?;
        let ends = [END0, END1].map(|word| ObjectId::unpack(words[word].load(Ordering::Acquire)));
        if side > 1 || ends[side] != end {
            return Err(Error::corrupted("the ends of a pipe"));
        }
        let ring = |side: usize| match words[RING0 + side].load(Ordering::Acquire) {
            0 => Ok(None),
            root => Ring::open(segment, root).map(Some),
        };
        Ok(Pipe { root, side, other: ends[1 - side], incoming: ring(side)?, outgoing: ring(1 - side)? })
    }

    /// The ring that this end pops from; none if it only sends.
    #[inline(always)]
    pub fn incoming(&self) -> Option<&Ring> {
        self.incoming.as_ref()
    }

    /// The ring that this end pushes into; none if it only receives.
    #[inline(always)]
    pub fn outgoing(&self) -> Option<&Ring> {
        self.outgoing.as_ref()
    }

    #[inline(always)]
    fn closed(&self, segment: &Segment) -> Result<u64> {
        // Acquire: who sees the bit sees what was pushed before it.
        Ok(segment.word(self.root + CLOSED as u64 * WORD)?.load(Ordering::Acquire))
    }

    /// Whether this end was closed, by whomever.
    #[inline(always)]
    pub fn is_closed(&self, segment: &Segment) -> Result<bool> {
        Ok(self.closed(segment)? & 1 << self.side != 0)
    }

    /// Closes this end for all who have it.
    ///
    /// # Crash
    /// Closed or not: what a kill leaves undone behind the bit is done by whoever next waits at either end.
    pub fn close(&self, segment: &Segment) -> Result<()> {
        // LINEARIZES: the close.
        segment.words(self.root, WORDS)?[CLOSED].fetch_or(1 << self.side, Ordering::AcqRel);
        self.shut(segment)
    }

    /// Closes the rings: nothing is pushed any more.
    pub fn shut(&self, segment: &Segment) -> Result<()> {
        for ring in [&self.outgoing, &self.incoming].into_iter().flatten() {
            recovery::run(segment, |me| -> Step<()> { ring.close(me) })?;
        }
        Ok(())
    }

    /// Whether nobody can use the other end any more. Recovers the dead among its holders; `thorough`: collects, if only
    /// a container can have it.
    ///
    /// # Complexity
    /// Some system calls for each process that holds the other end; a collection is linear in the objects.
    pub fn is_other_gone(&self, segment: &Segment, thorough: bool) -> Result<bool> {
        Ok(self.closed(segment)? & 1 << (1 - self.side) != 0 || is_gone(segment, self.other, thorough)?)
    }
}

/// What is known of an end.
enum Presence {
    /// A living process has it.
    Held,
    /// No process has it; a container or a name may, if `flagged`.
    Unheld { flagged: bool },
    /// It is no more.
    Gone,
}

/// Who has end `id`. Recovers the dead among its holders.
fn presence(segment: &Segment, id: ObjectId) -> Result<Presence> {
    for _ in 0..LOOKS {
        let entry = object::entry(segment, id.index)?;
        let status = entry.status()?;
        if status.generation != id.generation || !recovery::is_present(status.state) {
            return Ok(Presence::Gone);
        }
        let (mut dead, mut poisoned) = (false, false);
        for holder in entry.holder_list() {
            match segment.liveness(holder)? {
                Liveness::Alive => return Ok(Presence::Held),
                Liveness::Dead => {
                    recovery::recover(segment, holder)?;
                    dead = true;
                }
                // Its bit stays for ever, and so does the object.
                Liveness::Poisoned => poisoned = true,
                // Recovered since the bit was read.
                Liveness::Free => dead = true,
            }
        }
        if poisoned {
            return Ok(Presence::Gone);
        }
        if !dead {
            return Ok(Presence::Unheld { flagged: status.flags & (NAMED | NESTED) != 0 });
        }
    }
    Ok(Presence::Held)
}

/// Whether end `id` is gone; if `thorough`, an end that only a container could have is looked for there.
fn is_gone(segment: &Segment, id: ObjectId, thorough: bool) -> Result<bool> {
    match presence(segment, id)? {
        Presence::Gone => return Ok(true),
        Presence::Unheld { flagged: false } => collect::after_release(segment, id.index)?,
        Presence::Unheld { flagged: true } if thorough => drop(collect::collect(segment)?),
        Presence::Unheld { .. } | Presence::Held => return Ok(false),
    }
    Ok(matches!(presence(segment, id)?, Presence::Gone))
}

/// Whether end `id`, of which this process has just let go, was the last of its kind.
pub fn was_last(segment: &Segment, id: ObjectId) -> Result<bool> {
    let entry = object::entry(segment, id.index)?;
    let status = entry.status()?;
    let here = status.generation == id.generation && recovery::is_present(status.state);
    if here && entry.is_held() {
        return Ok(false); // whether its holders live is for the other end to find out
    }
    Ok(!here || is_gone(segment, id, true)?)
}

/// See `recovery::visit_blocks`: of the pipe.
pub fn visit(segment: &Segment, root: u64, f: &mut dyn FnMut(&Word, u64) -> Result<()>) -> Result<()> {
    for word in &segment.words(root, WORDS)?[RING0..=RING1] {
        let ring = word.load(Ordering::Acquire);
        if ring != 0 {
            ring::visit(segment, ring, f)?;
            f(word, ring)?;
        }
    }
    Ok(())
}

/// See `recovery::visit_handles`: of the messages in the pipe.
pub fn visit_handles(segment: &Segment, root: u64, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    rings(segment, root)?.try_for_each(|ring| ring::visit_handles(segment, ring, f))
}

/// See `recovery::visit_handles`: of an end.
pub fn visit_handles_of_end(segment: &Segment, root: u64, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    f(segment.words(root, END_WORDS)?[PIPE].load(Ordering::Acquire))
}

/// Checks the rings of a pipe at rest.
pub fn check(segment: &Segment, root: u64) -> Result<()> {
    rings(segment, root)?.try_for_each(|ring| ring::check(segment, ring))
}

fn rings(segment: &Segment, root: u64) -> Result<impl Iterator<Item = u64>> {
    let words = &segment.words(root, WORDS)?[RING0..=RING1];
    Ok(words.iter().map(|word| word.load(Ordering::Acquire)).filter(|ring| *ring != 0))
}
