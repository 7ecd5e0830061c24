//! The life of an object: holder bits, a fast path for the last holder, a collection for the rest.
//!
//! # Protocol
//!
//! An entry has a word `state | owner | generation`, one holder bit per process, and a sticky flag (NAMED or NESTED,
//! here one). Containers, and the directory, hold by content.
//!
//! - **Acquire**: set my bit; load the word. LIVE of this generation: held. CONDEMNED: CAS to LIVE, held (a *rescue*).
//!   DOOMED: wait. Else clear my bit **and leave as below**: stale. A process that already holds the entry, in whatever
//!   generation, answers from its own memory and leaves the bit alone.
//! - **Leave**, after *every* clearing of a bit: any bit set: done, its owner will be here. Flag set: ask for a
//!   collection. Else the fast path: CAS LIVE → CONDEMNED(me); re-read **all bits, then the flag**; anything set: CAS
//!   back to LIVE, and **leave again**; else CAS CONDEMNED(me) → DYING(me), destroy, FREE with the next generation; if
//!   the object contained handles, ask for a collection. An entry that someone else has condemned: ask for a
//!   collection.
//! - **Ask for a collection** (also after a removal of a handle): `wanted = true`; CAS the collector lock; busy: done.
//! - **Collect**, until `wanted` is found false: `wanted = false`. CAS every LIVE to CONDEMNED(me), re-read its bits,
//!   any set: CAS back. Trace from the directory and from **every entry that is not condemned now**, CAS what is
//!   reached to LIVE. CAS the rest to DOOMED; if one CAS fails, that one was rescued: all back to LIVE, set `wanted`,
//!   again (or, after a bound, unlock and leave `wanted` to whoever comes next). Else **commit: `COMMITTED` in the lock
//!   word**; then DOOMED → DYING(me), destroy, FREE, one by one. Unlock; **look at `wanted` once more**.
//! - **Create**: BUILDING(me); my bit; LIVE. **Store** a handle: flag, then content, with my bit on the stored object.
//! - **Recovery** of a dead process: its CONDEMNED → LIVE; its BUILDING and DYING are destroyed; if it has the
//!   collector lock, DOOMED → LIVE before the commit, **destroyed after it**; unlock last; clear its bits; ask for a
//!   collection. Every step can be repeated: a recoverer may die anywhere, and its successor recovers it first.
//!
//! # Rules
//!
//! 1. What a live process has acquired and not left stays LIVE or CONDEMNED, in its generation.
//! 2. What the directory or a held object leads to is never destroyed, nor DOOMED once the collection has committed.
//! 3. From every state the end can be reached, and every end is clean: reachable entries LIVE, all others FREE (nobody
//!    needs to call for one more collection), no bit set, no lock held.
//!
//! # Left out
//!
//! Weak memory; threads that share a bit, and counts within a process; parcels and read-only attachers; more than one
//! content per object (the directory has two, read one a step); what destroying means. Bits are read in two words, one
//! a step. A script is a few operations; up to three processes and a recoverer, three entries, up to two kills.
//!
//! # Mutants
//!
//! | mutant | what it does | what goes wrong |
//! |---|---|---|
//! | `NoRereadOfBits` | does not re-read the bits after condemning | a held object is destroyed |
//! | `AcquireLoadsFirst` | loads the word, then sets its bit | a held object is destroyed |
//! | `AcceptsCondemned` | takes CONDEMNED for held, without the CAS to LIVE | a held object is destroyed |
//! | `LeavesBeforeStore` | clears its bit, then stores the handle | a named object is destroyed |
//! | `IgnoresRescue` | dooms the rest although one was rescued | what the rescued one contains is destroyed |
//! | `AnonymousCondemned` | CONDEMNED does not say by whom | a late CAS takes another's: a held object is destroyed |
//! | `SharedCondemner` | two condemners (threads of a process, say) write the same name | the same |
//! | `FlagReadBefore` | the fast path reads the flag only before condemning | an object named meanwhile is destroyed |
//! | `FlagReadFirst` | re-reads the flag, then the bits | the same |
//! | `NoCommit` | recovery reverts DOOMED although others are destroyed | a revived one leads to a destroyed one |
//! | `RootsAreHeld` | traces only from entries that have a bit now | what a moved container contains is destroyed |
//! | `BusyMeansDone` | lock busy: done, and the collector does not look again | leak |
//! | `ForgetsLate` | `wanted = false` after the collection, not before | a request made meanwhile is lost: leak |
//! | `GivesUpSilently` | a collector that gives up does not leave `wanted` set | leak |
//! | `StaleLeaves` | a stale acquire clears its bit and is done | the last holder saw that bit: leak |
//! | `StaleDropsHold` | a stale acquire clears a bit that another generation holds | a held object is destroyed |
//! | `RevertLeaves` | after CAS back to LIVE: done | that bit's owner left while it was CONDEMNED: leak |
//! | `CondemnedLeaves` | someone else has condemned it: done | a collector saw its bit and spared it: leak |
//! | `OuterForgetsInner` | the fast path of a container does not ask for a collection | what it contained leaks |
//! | `LiveBeforeBit` | LIVE, then the creator's bit | a held object is destroyed |
//! | `RecoveryNeverCollects` | recovery ends without asking | leak |
//! | `RecoveryUnlocksFirst` | releases the collector lock, then reverts | dies in between: DOOMED for ever |
//!
//! This file is long because the steps share one state; each function is one operation of the protocol.

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    NoRereadOfBits,
    AcquireLoadsFirst,
    AcceptsCondemned,
    LeavesBeforeStore,
    IgnoresRescue,
    AnonymousCondemned,
    SharedCondemner,
    FlagReadBefore,
    FlagReadFirst,
    NoCommit,
    RootsAreHeld,
    BusyMeansDone,
    ForgetsLate,
    GivesUpSilently,
    StaleLeaves,
    StaleDropsHold,
    RevertLeaves,
    CondemnedLeaves,
    OuterForgetsInner,
    LiveBeforeBit,
    RecoveryNeverCollects,
    RecoveryUnlocksFirst,
}

#[derive(Clone, Copy, Debug)]
pub struct Objects {
    pub variant: Variant,
    pub scenario: Scenario,
    /// How many processes may be killed, recoverers included.
    pub kills: u8,
}

/// Processes with a script, at most; the recoverer comes after them.
const SCRIPTS: usize = 3;
const RECOVERER: usize = SCRIPTS;
const PROCESSES: usize = SCRIPTS + 1;
const OBJECTS: usize = 3;
const NAMES: usize = 2;
/// Which processes' bits are in which of the two words.
const BIT_WORDS: [u8; 2] = [0b0101, 0b1010];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    object: u8,
    generation: u8,
}

/// What a process does next; an operation whose condition does not hold is skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    /// Acquire the first generation, from bytes that came from outside.
    Acquire(usize),
    /// Copy a handle out of the directory, then acquire it.
    Open(usize),
    /// Copy a handle out of this held container, then acquire it.
    Get(usize),
    Release(usize),
    /// Put this held object in the directory under this name, or take the name away.
    Name(usize, usize),
    Unname(usize),
    /// Put a held object, the second, into a held container, the first.
    Put(usize, usize),
    Create(usize),
}
use Op::{Acquire, Create, Get, Name, Open, Put, Release, Unname};

/// The start, and what everyone does.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    live: [bool; OBJECTS],
    flag: [bool; OBJECTS],
    bits: [u8; OBJECTS],
    content: [Option<usize>; OBJECTS],
    names: [Option<usize>; NAMES],
    scripts: [&'static [Op]; SCRIPTS],
}

impl Scenario {
    const NOTHING: Scenario = Scenario {
        live: [false; OBJECTS],
        flag: [false; OBJECTS],
        bits: [0; OBJECTS],
        content: [None; OBJECTS],
        names: [None; NAMES],
        scripts: [&[]; SCRIPTS],
    };

    /// One object, never named or nested; one process leaves it, two take it and leave it.
    pub const HANDLES: Scenario = Scenario {
        live: [true, false, false],
        bits: [0b001, 0, 0],
        scripts: [&[Release(0)], &[Acquire(0), Release(0)], &[Acquire(0), Release(0)]],
        ..Self::NOTHING
    };

    /// The entry is reused while handles of its first generation are still about.
    pub const REUSE: Scenario = Scenario {
        live: [true, false, false],
        bits: [0b001, 0, 0],
        scripts: [&[Release(0), Create(0), Acquire(0), Release(0)], &[Acquire(0), Release(0)], &[]],
        ..Self::NOTHING
    };

    /// The last holder leaves by the fast path while another process names the object for the first time.
    pub const FIRST_NAME: Scenario = Scenario {
        live: [true, false, false],
        bits: [0b01, 0, 0],
        scripts: [&[Release(0)], &[Acquire(0), Name(0, 0), Release(0)], &[]],
        ..Self::NOTHING
    };

    /// A container leaves by the fast path; its inner object is collected, or taken.
    pub const OUTER: Scenario = Scenario {
        live: [true, true, false],
        flag: [false, true, false],
        bits: [0b01, 0, 0],
        content: [Some(1), None, None],
        scripts: [&[Release(0)], &[Acquire(1), Release(1)], &[]],
        ..Self::NOTHING
    };

    /// A reader goes into a named container, and to its inner object, while the name is taken away.
    pub const UNNAME: Scenario = Scenario {
        live: [true, true, false],
        flag: [true, true, false],
        content: [Some(1), None, None],
        names: [Some(0), None],
        scripts: [&[Open(0), Get(0), Release(0), Release(1)], &[Unname(0)], &[]],
        ..Self::NOTHING
    };

    /// A container moves from the second name to the first, against the order of the trace, while another process's
    /// release makes it collect.
    pub const MOVE: Scenario = Scenario {
        live: [true, true, true],
        flag: [true, true, true],
        bits: [0, 0, 0b10],
        content: [Some(1), None, None],
        names: [None, Some(0)],
        scripts: [&[Open(1), Name(0, 0), Unname(1), Release(0)], &[Release(2)], &[]],
    };

    /// The same, with a third process that reads what moves.
    pub const MOVE_AND_READ: Scenario = Scenario {
        scripts: [
            &[Open(1), Name(0, 0), Unname(1), Release(0)],
            &[Release(2)],
            &[Open(0), Get(0), Release(0), Release(1)],
        ],
        ..Self::MOVE
    };

    /// Two objects that contain each other: a holder of the first leaves, another process comes in by the second.
    pub const CYCLE: Scenario = Scenario {
        live: [true, true, false],
        flag: [true, true, false],
        bits: [0b01, 0, 0],
        content: [Some(1), Some(0), None],
        scripts: [&[Release(0)], &[Acquire(1), Get(1), Release(1), Release(0)], &[]],
        ..Self::NOTHING
    };

    /// A container and its inner object are created, joined and named while another process collects.
    pub const CREATE: Scenario = Scenario {
        live: [false, false, true],
        flag: [false, false, true],
        bits: [0, 0, 0b10],
        scripts: [&[Create(0), Create(1), Put(0, 1), Release(1), Name(0, 0), Release(0)], &[Release(2)], &[]],
        ..Self::NOTHING
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Free,
    Building(u8),
    Live,
    Condemned(u8),
    Doomed,
    Dying(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Word {
    phase: Phase,
    generation: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Object {
    word: Word,
    /// One holder bit per process.
    bits: u8,
    /// NAMED or NESTED.
    flag: bool,
    content: Option<Handle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lock {
    owner: u8,
    committed: bool,
}

/// The collector's own memory; one is enough, because it belongs to whoever has the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Sweep {
    condemned: u8,
    generations: [u8; OBJECTS],
    /// Condemned, but found by the trace.
    reached: u8,
    /// To be traced.
    todo: u8,
}

/// The step that a process takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Idle,
    Acquiring(Handle, Acquiring),
    Leaving(usize, Leaving),
    Storing(Place, Handle, Storing),
    Creating(usize, Creating),
    Collecting(Collecting),
    Recovering(usize, Recovering),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acquiring {
    SetBit,
    Load,
    /// `AcquireLoadsFirst`: it has seen LIVE, and sets its bit only now.
    SetBitLate,
    ClearBit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaving {
    ReadBits { word: usize },
    ReadFlag,
    Condemn,
    // From here on with the generation that was condemned.
    RereadBits { word: usize, generation: u8 },
    RereadFlag { generation: u8 },
    Revert { generation: u8 },
    Take { generation: u8 },
    Destroy,
    Free { contained: bool },
}

/// Where a handle is stored: under a name, or in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Name(usize),
    Content(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storing {
    Store,
    /// `LeavesBeforeStore`.
    ClearBitEarly,
    StoreLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Creating {
    Bit,
    Live,
    /// `LiveBeforeBit`.
    LateBit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collecting {
    Want,
    TryLock,
    TakeWanted,
    Condemn(usize),
    RereadBits(usize, usize),
    Spare(usize),
    TraceName(usize),
    Trace,
    /// A handle that the trace found, and the name to go on with.
    Mark(Handle, Option<usize>),
    Doom(usize),
    Undo(usize),
    /// All undone: again, or give up.
    Undone,
    Commit,
    Reap(usize),
    ReapContent(usize),
    ReapFree(usize),
    Unlock,
    LookAgain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recovering {
    Start,
    /// This entry; and whether the dead process had the collector lock, and had committed.
    Entry(usize, Option<bool>),
    Unlock,
    ClearBit(usize),
    Retire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Alive,
    Dead,
    Recovered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Process {
    life: Life,
    /// How much of its script it has begun.
    begun: u8,
    at: At,
    /// The generations of what it has acquired and not left.
    held: [Option<u8>; OBJECTS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    objects: [Object; OBJECTS],
    names: [Option<Handle>; NAMES],
    lock: Option<Lock>,
    wanted: bool,
    sweep: Sweep,
    processes: [Process; PROCESSES],
    kills: u8,
    /// Ghost: a collector gave up, so that whoever comes next (here the recoverer) finds `wanted` set.
    gave_up: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Step(usize, At),
    GiveUp(usize),
    Kill(usize),
}

impl State {
    fn phase(&mut self, object: usize) -> &mut Phase {
        &mut self.objects[object].word.phase
    }

    fn set_free(&mut self, object: usize) {
        let generation = self.objects[object].word.generation + 1;
        self.objects[object].word = Word { phase: Phase::Free, generation };
    }

    fn any_bit(&self, object: usize, word: usize) -> bool {
        self.objects[object].bits & BIT_WORDS[word] != 0
    }

    fn held_by(&self, who: usize, object: usize) -> Option<Handle> {
        self.processes[who].held[object].map(|generation| Handle { object: object as u8, generation })
    }

    /// What the directory and the live processes' holds lead to.
    fn reachable(&self) -> Vec<Handle> {
        let mut reached: Vec<Handle> = self.names.iter().flatten().copied().collect();
        for who in 0..SCRIPTS {
            reached.extend((0..OBJECTS).filter_map(|object| self.held_by(who, object)));
        }
        let mut at = 0;
        while at < reached.len() {
            let content = self.objects[reached[at].object as usize].content;
            reached.extend(content.filter(|handle| !reached.contains(handle)));
            at += 1;
        }
        reached
    }
}

impl Objects {
    fn is(&self, variant: Variant) -> bool {
        self.variant == variant
    }

    fn condemned_by(&self, who: usize) -> Phase {
        Phase::Condemned(match self.variant {
            Variant::AnonymousCondemned => 9,
            Variant::SharedCondemner if who < 2 => 0,
            _ => who as u8,
        })
    }

    fn step(&self, s: &State, who: usize) -> Option<State> {
        let mut t = s.clone();
        t.processes[who].at = match s.processes[who].at {
            At::Idle if who == RECOVERER => self.look_for_work(s)?,
            At::Idle => {
                let op = *self.scenario.scripts[who].get(s.processes[who].begun as usize)?;
                t.processes[who].begun += 1;
                self.begin(&mut t, who, op).unwrap_or(At::Idle)
            }
            At::Acquiring(handle, at) => self.acquire(&mut t, who, handle, at)?,
            At::Leaving(object, at) => self.leave(&mut t, who, object, at),
            At::Storing(place, handle, at) => store(&mut t, who, place, handle, at),
            At::Creating(object, at) => self.create(&mut t, who, object, at),
            At::Collecting(at) => self.collect(s, &mut t, who, at),
            At::Recovering(dead, at) => self.recover(s, &mut t, dead, at),
        };
        Some(t)
    }

    fn look_for_work(&self, s: &State) -> Option<At> {
        match s.processes.iter().position(|process| process.life == Life::Dead) {
            Some(dead) => Some(At::Recovering(dead, Recovering::Start)),
            None if s.gave_up && s.wanted && s.lock.is_none() => Some(At::Collecting(Collecting::TryLock)),
            None => None,
        }
    }

    /// The first step of an operation, which is done here, or `None` to skip it.
    fn begin(&self, t: &mut State, who: usize, op: Op) -> Option<At> {
        match op {
            Acquire(object) => self.begin_acquire(t, who, Handle { object: object as u8, generation: 0 }),
            Open(name) => self.begin_acquire(t, who, t.names[name]?),
            Get(container) => {
                t.held_by(who, container)?;
                self.begin_acquire(t, who, t.objects[container].content?)
            }
            Release(object) => {
                t.processes[who].held[object].take()?;
                t.objects[object].bits &= !(1 << who);
                Some(leaving(object))
            }
            Name(name, object) => self.begin_store(t, Place::Name(name), t.held_by(who, object)?),
            Put(container, object) => {
                t.held_by(who, container)?;
                self.begin_store(t, Place::Content(container), t.held_by(who, object)?)
            }
            Unname(name) => {
                t.names[name].take()?;
                Some(WANT)
            }
            Create(object) if t.objects[object].word.phase == Phase::Free => {
                *t.phase(object) = Phase::Building(who as u8);
                t.objects[object].flag = false;
                let first = if self.is(Variant::LiveBeforeBit) { Creating::Live } else { Creating::Bit };
                Some(At::Creating(object, first))
            }
            Create(_) => None,
        }
    }

    fn begin_acquire(&self, t: &State, who: usize, handle: Handle) -> Option<At> {
        // Held in whatever generation: the process answers from its own memory.
        if t.held_by(who, handle.object as usize).is_some() && !self.is(Variant::StaleDropsHold) {
            return None;
        }
        let loads_first = self.is(Variant::AcquireLoadsFirst);
        Some(At::Acquiring(handle, if loads_first { Acquiring::Load } else { Acquiring::SetBit }))
    }

    fn begin_store(&self, t: &mut State, place: Place, handle: Handle) -> Option<At> {
        t.objects[handle.object as usize].flag = true;
        let early = self.is(Variant::LeavesBeforeStore);
        Some(At::Storing(place, handle, if early { Storing::ClearBitEarly } else { Storing::Store }))
    }

    fn acquire(&self, t: &mut State, who: usize, handle: Handle, at: Acquiring) -> Option<At> {
        let object = handle.object as usize;
        Some(match at {
            Acquiring::SetBit => {
                t.objects[object].bits |= 1 << who;
                At::Acquiring(handle, Acquiring::Load)
            }
            Acquiring::Load => {
                let Word { phase, generation } = t.objects[object].word;
                match phase {
                    _ if generation != handle.generation => At::Acquiring(handle, Acquiring::ClearBit),
                    Phase::Live | Phase::Condemned(_) if self.is(Variant::AcquireLoadsFirst) => {
                        At::Acquiring(handle, Acquiring::SetBitLate)
                    }
                    Phase::Live | Phase::Condemned(_) => {
                        if !self.is(Variant::AcceptsCondemned) {
                            *t.phase(object) = Phase::Live;
                        }
                        t.processes[who].held[object] = Some(generation);
                        At::Idle
                    }
                    // Wait for the collector, or for its recovery.
                    Phase::Doomed => return None,
                    Phase::Free | Phase::Building(_) | Phase::Dying(_) => At::Acquiring(handle, Acquiring::ClearBit),
                }
            }
            Acquiring::SetBitLate => {
                t.objects[object].bits |= 1 << who;
                t.processes[who].held[object] = Some(handle.generation);
                At::Idle
            }
            Acquiring::ClearBit => {
                t.objects[object].bits &= !(1 << who);
                if self.is(Variant::StaleLeaves) { At::Idle } else { leaving(object) }
            }
        })
    }

    fn leave(&self, t: &mut State, who: usize, object: usize, at: Leaving) -> At {
        let mine = self.condemned_by(who);
        let is_mine = |generation| t.objects[object].word == Word { phase: mine, generation };
        let flag = t.objects[object].flag;
        let go = |at| At::Leaving(object, at);
        match at {
            Leaving::ReadBits { word } if t.any_bit(object, word) => At::Idle,
            Leaving::ReadBits { word } if word + 1 < BIT_WORDS.len() => go(Leaving::ReadBits { word: word + 1 }),
            Leaving::ReadBits { .. } => go(Leaving::ReadFlag),
            Leaving::ReadFlag if flag => WANT,
            Leaving::ReadFlag => go(Leaving::Condemn),
            Leaving::Condemn => match t.objects[object].word {
                Word { phase: Phase::Live, generation } => {
                    *t.phase(object) = mine;
                    go(match self.variant {
                        Variant::NoRereadOfBits => Leaving::Take { generation },
                        Variant::FlagReadFirst => Leaving::RereadFlag { generation },
                        _ => Leaving::RereadBits { word: 0, generation },
                    })
                }
                // A collector may have seen my bit, and spared the object for it.
                Word { phase: Phase::Condemned(_), .. } if !self.is(Variant::CondemnedLeaves) => WANT,
                _ => At::Idle,
            },
            Leaving::RereadBits { word, generation } if t.any_bit(object, word) => go(Leaving::Revert { generation }),
            Leaving::RereadBits { word, generation } if word + 1 < BIT_WORDS.len() => {
                go(Leaving::RereadBits { word: word + 1, generation })
            }
            Leaving::RereadBits { generation, .. } => go(match self.variant {
                Variant::FlagReadBefore | Variant::FlagReadFirst => Leaving::Take { generation },
                _ => Leaving::RereadFlag { generation },
            }),
            Leaving::RereadFlag { generation } if flag => go(Leaving::Revert { generation }),
            Leaving::RereadFlag { generation } => go(match self.variant {
                Variant::FlagReadFirst => Leaving::RereadBits { word: 0, generation },
                _ => Leaving::Take { generation },
            }),
            Leaving::Revert { generation } => {
                if is_mine(generation) {
                    *t.phase(object) = Phase::Live;
                }
                if self.is(Variant::RevertLeaves) { At::Idle } else { leaving(object) }
            }
            Leaving::Take { generation } if is_mine(generation) => {
                *t.phase(object) = Phase::Dying(who as u8);
                go(Leaving::Destroy)
            }
            // Rescued; whoever did it will leave too.
            Leaving::Take { .. } => At::Idle,
            Leaving::Destroy => go(Leaving::Free { contained: t.objects[object].content.take().is_some() }),
            Leaving::Free { contained } => {
                t.set_free(object);
                if contained && !self.is(Variant::OuterForgetsInner) { WANT } else { At::Idle }
            }
        }
    }

    fn create(&self, t: &mut State, who: usize, object: usize, at: Creating) -> At {
        match at {
            Creating::Bit | Creating::LateBit => t.objects[object].bits |= 1 << who,
            Creating::Live => *t.phase(object) = Phase::Live,
        }
        match at {
            Creating::Bit => At::Creating(object, Creating::Live),
            Creating::Live if self.is(Variant::LiveBeforeBit) => At::Creating(object, Creating::LateBit),
            Creating::Live | Creating::LateBit => {
                t.processes[who].held[object] = Some(t.objects[object].word.generation);
                At::Idle
            }
        }
    }

    fn collect(&self, s: &State, t: &mut State, who: usize, at: Collecting) -> At {
        let doomed = s.sweep.condemned & !s.sweep.reached;
        At::Collecting(match at {
            Collecting::Want => {
                t.wanted = true;
                Collecting::TryLock
            }
            Collecting::TryLock if s.lock.is_some() => return At::Idle,
            Collecting::TryLock => {
                t.lock = Some(Lock { owner: who as u8, committed: false });
                Collecting::TakeWanted
            }
            Collecting::TakeWanted if !s.wanted => Collecting::Unlock,
            Collecting::TakeWanted => {
                t.wanted = self.is(Variant::ForgetsLate);
                t.sweep = Sweep::default();
                condemn_from(t, 0)
            }
            Collecting::Condemn(_) | Collecting::RereadBits(..) | Collecting::Spare(_) => self.condemn(s, t, who, at),
            Collecting::TraceName(_) | Collecting::Trace | Collecting::Mark(..) => self.trace(s, t, who, at),
            Collecting::Doom(_) | Collecting::Undo(_) => self.doom(s, t, who, at),
            Collecting::Undone => {
                t.wanted = true;
                Collecting::TakeWanted
            }
            Collecting::Commit => match next_in(doomed, 0) {
                Some(object) => {
                    t.lock = Some(Lock { owner: who as u8, committed: !self.is(Variant::NoCommit) });
                    Collecting::Reap(object)
                }
                None => Collecting::Unlock,
            },
            Collecting::Reap(object) => {
                *t.phase(object) = Phase::Dying(who as u8);
                Collecting::ReapContent(object)
            }
            Collecting::ReapContent(object) => {
                t.objects[object].content = None;
                Collecting::ReapFree(object)
            }
            Collecting::ReapFree(object) => {
                t.set_free(object);
                next_in(doomed, object + 1).map_or(Collecting::Unlock, Collecting::Reap)
            }
            Collecting::Unlock => {
                t.wanted &= !self.is(Variant::ForgetsLate);
                t.lock = None;
                t.sweep = Sweep::default();
                if self.is(Variant::BusyMeansDone) {
                    return At::Idle;
                }
                Collecting::LookAgain
            }
            Collecting::LookAgain if s.wanted => Collecting::TryLock,
            Collecting::LookAgain => return At::Idle,
        })
    }

    fn condemn(&self, s: &State, t: &mut State, who: usize, at: Collecting) -> Collecting {
        match at {
            Collecting::Condemn(object) if s.objects[object].word.phase == Phase::Live => {
                *t.phase(object) = self.condemned_by(who);
                t.sweep.generations[object] = s.objects[object].word.generation;
                Collecting::RereadBits(object, 0)
            }
            Collecting::RereadBits(object, word) => {
                if s.any_bit(object, word) && !self.is(Variant::NoRereadOfBits) {
                    return Collecting::Spare(object);
                }
                if word + 1 < BIT_WORDS.len() {
                    return Collecting::RereadBits(object, word + 1);
                }
                t.sweep.condemned |= 1 << object;
                condemn_from(t, object + 1)
            }
            Collecting::Spare(object) => {
                if s.objects[object].word == self.condemned_word(s, who, object) {
                    *t.phase(object) = Phase::Live;
                }
                condemn_from(t, object + 1)
            }
            Collecting::Condemn(object) => condemn_from(t, object + 1),
            _ => unreachable!("{at:?}"),
        }
    }

    fn trace(&self, s: &State, t: &mut State, who: usize, at: Collecting) -> Collecting {
        let go_on = |name: Option<usize>| name.map_or(Collecting::Trace, Collecting::TraceName);
        match at {
            Collecting::TraceName(name) => {
                let next = (name + 1 < NAMES).then_some(name + 1);
                s.names[name].map_or_else(|| go_on(next), |handle| Collecting::Mark(handle, next))
            }
            Collecting::Trace => match next_in(s.sweep.todo, 0) {
                Some(object) => {
                    t.sweep.todo &= !(1 << object);
                    let root = s.sweep.reached & 1 << object != 0 || s.objects[object].bits != 0;
                    match s.objects[object].content {
                        Some(handle) if root || !self.is(Variant::RootsAreHeld) => Collecting::Mark(handle, None),
                        _ => Collecting::Trace,
                    }
                }
                None => doom_from(s, 0),
            },
            Collecting::Mark(handle, next) => {
                let object = handle.object as usize;
                let condemned = s.sweep.condemned & !s.sweep.reached & 1 << object != 0;
                if condemned && s.sweep.generations[object] == handle.generation {
                    if s.objects[object].word == self.condemned_word(s, who, object) {
                        *t.phase(object) = Phase::Live;
                    }
                    t.sweep.reached |= 1 << object;
                    t.sweep.todo |= 1 << object;
                }
                go_on(next)
            }
            _ => unreachable!("{at:?}"),
        }
    }

    fn doom(&self, s: &State, t: &mut State, who: usize, at: Collecting) -> Collecting {
        let undo_from = |object| next_in(s.sweep.condemned, object).map_or(Collecting::Undone, Collecting::Undo);
        match at {
            Collecting::Doom(object) if s.objects[object].word == self.condemned_word(s, who, object) => {
                *t.phase(object) = Phase::Doomed;
                doom_from(s, object + 1)
            }
            Collecting::Doom(object) if self.is(Variant::IgnoresRescue) => {
                t.sweep.condemned &= !(1 << object);
                doom_from(s, object + 1)
            }
            Collecting::Doom(_) => undo_from(0),
            Collecting::Undo(object) => {
                let word = s.objects[object].word;
                if word.phase == Phase::Doomed || word == self.condemned_word(s, who, object) {
                    *t.phase(object) = Phase::Live;
                }
                undo_from(object + 1)
            }
            _ => unreachable!("{at:?}"),
        }
    }

    fn condemned_word(&self, s: &State, who: usize, object: usize) -> Word {
        Word { phase: self.condemned_by(who), generation: s.sweep.generations[object] }
    }

    fn recover(&self, s: &State, t: &mut State, dead: usize, at: Recovering) -> At {
        let owned = s.lock.filter(|lock| lock.owner as usize == dead);
        At::Recovering(
            dead,
            match at {
                Recovering::Start => {
                    if owned.is_some() && self.is(Variant::RecoveryUnlocksFirst) {
                        t.lock = None;
                    }
                    Recovering::Entry(0, owned.map(|lock| lock.committed))
                }
                Recovering::Entry(object, committed) => {
                    if self.recover_entry(t, dead, object, committed) {
                        at
                    } else if object + 1 < OBJECTS {
                        Recovering::Entry(object + 1, committed)
                    } else {
                        Recovering::Unlock
                    }
                }
                Recovering::Unlock => {
                    if owned.is_some() {
                        t.lock = None;
                        t.sweep = Sweep::default();
                    }
                    Recovering::ClearBit(0)
                }
                Recovering::ClearBit(object) => {
                    t.objects[object].bits &= !(1 << dead);
                    if object + 1 < OBJECTS { Recovering::ClearBit(object + 1) } else { Recovering::Retire }
                }
                Recovering::Retire => {
                    if dead != RECOVERER {
                        t.processes[dead].life = Life::Recovered;
                    }
                    return if self.is(Variant::RecoveryNeverCollects) { At::Idle } else { WANT };
                }
            },
        )
    }

    /// One step for one entry; whether there is more to do for it.
    fn recover_entry(&self, t: &mut State, dead: usize, object: usize, committed: Option<bool>) -> bool {
        let owner = dead as u8;
        match t.objects[object].word.phase {
            phase if phase == self.condemned_by(dead) => *t.phase(object) = Phase::Live,
            Phase::Doomed if committed == Some(false) => *t.phase(object) = Phase::Live,
            Phase::Doomed if committed == Some(true) => {
                *t.phase(object) = Phase::Dying(owner);
                return true;
            }
            Phase::Dying(by) if by == owner && t.objects[object].content.is_some() => {
                t.objects[object].content = None;
                return true;
            }
            Phase::Dying(by) | Phase::Building(by) if by == owner => t.set_free(object),
            _ => {}
        }
        false
    }
}

const WANT: At = At::Collecting(Collecting::Want);

fn leaving(object: usize) -> At {
    At::Leaving(object, Leaving::ReadBits { word: 0 })
}

fn store(t: &mut State, who: usize, place: Place, handle: Handle, at: Storing) -> At {
    let object = handle.object as usize;
    if at == Storing::ClearBitEarly {
        t.objects[object].bits &= !(1 << who);
        t.processes[who].held[object] = None;
        return At::Storing(place, handle, Storing::StoreLate);
    }
    match place {
        Place::Name(name) => t.names[name] = Some(handle),
        Place::Content(container) => t.objects[container].content = Some(handle),
    }
    if at == Storing::StoreLate { leaving(object) } else { At::Idle }
}

/// The first object of `set`, from `from` on.
fn next_in(set: u8, from: usize) -> Option<usize> {
    (from..OBJECTS).find(|object| set & 1 << object != 0)
}

/// The next entry to condemn, or the trace: its roots are the entries that are not condemned by now.
fn condemn_from(t: &mut State, from: usize) -> Collecting {
    let live = (from..OBJECTS).find(|object| t.objects[*object].word.phase == Phase::Live);
    live.map(Collecting::Condemn).unwrap_or_else(|| {
        t.sweep.todo = !t.sweep.condemned & ((1 << OBJECTS) - 1);
        Collecting::TraceName(0)
    })
}

fn doom_from(s: &State, from: usize) -> Collecting {
    next_in(s.sweep.condemned & !s.sweep.reached, from).map_or(Collecting::Commit, Collecting::Doom)
}

impl Model for Objects {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let start = &self.scenario;
        let handle = |object: usize| Handle { object: object as u8, generation: 0 };
        let objects = std::array::from_fn(|object| Object {
            word: Word { phase: if start.live[object] { Phase::Live } else { Phase::Free }, generation: 0 },
            bits: start.bits[object],
            flag: start.flag[object],
            content: start.content[object].map(handle),
        });
        let processes = std::array::from_fn(|who| Process {
            life: Life::Alive,
            begun: 0,
            at: At::Idle,
            held: std::array::from_fn(|object| (start.bits[object] & 1 << who != 0).then_some(0)),
        });
        vec![State {
            objects,
            names: start.names.map(|name| name.map(handle)),
            lock: None,
            wanted: false,
            sweep: Sweep::default(),
            processes,
            kills: 0,
            gave_up: false,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        for who in 0..PROCESSES {
            let Process { life, begun, at, .. } = s.processes[who];
            if life != Life::Alive {
                continue;
            }
            actions.push(Action::Step(who, at));
            if at == At::Collecting(Collecting::Undone) {
                actions.push(Action::GiveUp(who));
            }
            let idle = at == At::Idle && (who == RECOVERER || self.scenario.scripts[who].len() == begun as usize);
            if s.kills < self.kills && !idle {
                actions.push(Action::Kill(who));
            }
        }
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        match action {
            Action::Step(who, _) => return self.step(s, who),
            Action::GiveUp(who) => {
                (t.wanted, t.gave_up) = (!self.is(Variant::GivesUpSilently), true);
                t.processes[who].at = At::Collecting(Collecting::Unlock);
            }
            // Its successor has the same number, and begins with its predecessor.
            Action::Kill(RECOVERER) => {
                t.kills += 1;
                t.processes[RECOVERER].at = At::Recovering(RECOVERER, Recovering::Start);
            }
            Action::Kill(who) => {
                t.kills += 1;
                t.processes[who] = Process { life: Life::Dead, begun: 0, at: At::Idle, held: [None; OBJECTS] };
            }
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Objects {
    fn broken(&self, s: &State) -> Option<&'static str> {
        for held in (0..SCRIPTS).flat_map(|who| (0..OBJECTS).filter_map(move |object| s.held_by(who, object))) {
            let word = s.objects[held.object as usize].word;
            if word.generation != held.generation || !matches!(word.phase, Phase::Live | Phase::Condemned(_)) {
                return Some("a held object was lost");
            }
        }
        let committed = s.lock.is_some_and(|lock| lock.committed);
        for handle in s.reachable() {
            let word = s.objects[handle.object as usize].word;
            let safe = match word.phase {
                Phase::Live | Phase::Condemned(_) => true,
                Phase::Doomed => !committed,
                Phase::Free | Phase::Building(_) | Phase::Dying(_) => false,
            };
            if word.generation != handle.generation || !safe {
                return Some("a reachable object was destroyed");
            }
        }
        None
    }

    fn finished(&self, s: &State) -> bool {
        let ended = |who: usize| {
            let Process { life, begun, at, .. } = s.processes[who];
            let done = who == RECOVERER || begun as usize == self.scenario.scripts[who].len();
            life == Life::Recovered || (life == Life::Alive && at == At::Idle && done)
        };
        let reachable = s.reachable();
        let settled = |object: usize| {
            let Object { word, bits, .. } = s.objects[object];
            let wanted = reachable.iter().any(|handle| handle.object as usize == object);
            bits == 0 && word.phase == if wanted { Phase::Live } else { Phase::Free }
        };
        // `BusyMeansDone` has no use for `wanted`.
        let idle = s.lock.is_none() && (!s.wanted || self.is(Variant::BusyMeansDone));
        (0..PROCESSES).all(ended) && idle && (0..OBJECTS).all(settled)
    }
}
