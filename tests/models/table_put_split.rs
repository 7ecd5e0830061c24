//! The dict with boxed entries: one write (replace, remove or insert) against a split, a reader, kills and block reuse.
//!
//! **Protocol.** The table of the design, step by step: block named in `alloc`, filled; bucket locked, **index
//! recomputed**; old block named in `free`; slot stored (**commit**); `alloc = 0` **still locked**; unlock with a bump;
//! old block freed; intent cleared. The split locks b, builds b' **locked**, stores `nbuckets` (commit), clears the
//! moved slots of b, unlocks b, **then** b'. Readers take no lock: sequence, slots, block, sequence; on a miss the
//! index again. Recovery acts on shared state only, one action a step, so that it can be repeated from anywhere.
//!
//! The world is hostile: a freed block that no intent names is at once filled with the same key and a value that was
//! never published.
//!
//! **Rules.** A read answers a value that was current at some time during it; a published block is never reallocated;
//! the writer finds its key. At the end nothing is locked, no intent is open, the key is in its home bucket only, with
//! the right value, and no block has leaked.
//!
//! **Left out.** Weak memory; fingerprints, overflow buckets, counts; in-place values. Two keys, of which one moves
//! when the table grows from one bucket to two; three blocks; writer and splitter may each be killed once.
//!
//! | mutant | what it does | what goes wrong | caught in |
//! |---|---|---|---|
//! | `LateAlloc` | `alloc = 0` after the unlock | a split moves B, recovery frees it | replace, insert |
//! | `NewUnlockedEarly` | b' unlocked before b is cleared | b still names the block freed in b' | replace, remove |
//! | `NewUnlockedFirst` | b' unlocked before b | a reader validates a freed block | replace, remove |
//! | `NoIndexRecheck` | the index is not recomputed under the lock | writes into the wrong bucket | all |
//! | `NoMissRecheck` | a miss is believed without the index | false miss while the key moves | all |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    LateAlloc,
    NewUnlockedEarly,
    NewUnlockedFirst,
    NoIndexRecheck,
    NoMissRecheck,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    Replace,
    Remove,
    Insert,
}

#[derive(Clone, Copy, Debug)]
pub struct PutSplit {
    pub variant: Variant,
    pub operation: Operation,
}

/// The key that is written and read; the other one, 0, stays in bucket 0.
const KEY: u8 = 1;
const NO_KEY: u8 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Value {
    Missing,
    Other,
    Old,
    New,
    /// Whatever a block holds after it was reused.
    Unpublished,
    Unfilled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Free,
    Writer,
    Splitter,
}

/// A block by number, 1 to 3; 0 is none.
type Block = usize;
/// The block of the other key, that of the old value, and the one the writer allocates.
const OTHER: Block = 1;
const OLD: Block = 2;
const NEW: Block = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bucket {
    owner: Owner,
    sequence: u8,
    slots: [Block; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    NameAlloc,
    Fill,
    Index,
    Lock,
    Recheck,
    NameFree,
    Commit,
    ClearAlloc,
    Unlock,
    FreeOld,
    ClearIntent,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Splitter {
    Intent,
    LockOld,
    LockNew,
    Copy,
    Commit,
    ClearMoved,
    UnlockOld,
    UnlockNew,
    ClearIntent,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Start { retry: bool },
    Sequence { bucket: usize },
    Slot { bucket: usize, sequence: u8, slot: usize },
    Key { bucket: usize, sequence: u8, slot: usize, block: Block },
    Value { bucket: usize, sequence: u8, block: Block },
    Validate { bucket: usize, sequence: u8, hit: Option<Value> },
    MissIndex { bucket: usize },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Intent {
    alloc: Block,
    free: Block,
    cell: Option<usize>,
}

const NO_INTENT: Intent = Intent { alloc: 0, free: 0, cell: None };

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nbuckets: usize,
    buckets: [Bucket; 2],
    /// Key and value of blocks 1 to 3.
    blocks: [(u8, Value); 3],
    freed: [bool; 3],
    intent: Intent,
    splitting: bool,
    writer: Writer,
    splitter: Splitter,
    writer_dead: bool,
    splitter_dead: bool,
    reader: Reader,
    /// Ghosts: the committed value, and those that were current since the read began (bits).
    current: Value,
    legal: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Write,
    Split,
    Read,
    KillWriter,
    KillSplitter,
    RecoverWriter,
    RecoverSplitter,
    Reuse(Block),
}

impl State {
    fn home(&self) -> usize {
        if self.nbuckets == 2 { 1 } else { 0 }
    }

    fn has_key(&self, block: Block) -> bool {
        block != 0 && self.blocks[block - 1].0 == KEY
    }

    fn find(&self, bucket: usize) -> Option<usize> {
        self.buckets[bucket].slots.iter().position(|block| self.has_key(*block))
    }

    fn unlock(&mut self, bucket: usize) {
        self.buckets[bucket].owner = Owner::Free;
        self.buckets[bucket].sequence += 1;
    }

    fn free(&mut self, block: Block) {
        if block != 0 {
            self.freed[block - 1] = true;
        }
    }

    fn is_freed(&self, block: Block) -> bool {
        self.freed[block - 1]
    }

    fn set_current(&mut self, value: Value) {
        self.current = value;
        self.legal |= 1 << value as u8;
    }

    /// The slots of bucket 0 that stay, or (`moved`) those that go to bucket 1.
    fn part(&self, moved: bool) -> [Block; 2] {
        self.buckets[0].slots.map(|block| if block != 0 && self.has_key(block) == moved { block } else { 0 })
    }
}

impl PutSplit {
    fn write(&self, s: &State) -> Option<State> {
        if s.writer_dead {
            return None;
        }
        let mut t = s.clone();
        let late = self.variant == Variant::LateAlloc;
        let cell = s.intent.cell;
        t.writer = match s.writer {
            Writer::NameAlloc if self.operation == Operation::Remove => Writer::Index,
            Writer::NameAlloc => {
                t.intent.alloc = NEW;
                Writer::Fill
            }
            Writer::Fill => {
                t.blocks[NEW - 1] = (KEY, Value::New);
                Writer::Index
            }
            Writer::Index => {
                t.intent.cell = Some(s.home());
                Writer::Lock
            }
            Writer::Lock if s.buckets[cell?].owner == Owner::Free => {
                t.buckets[cell?].owner = Owner::Writer;
                Writer::Recheck
            }
            Writer::Lock if s.home() != cell? => Writer::Index,
            Writer::Lock => return None,
            Writer::Recheck if s.home() != cell? && self.variant != Variant::NoIndexRecheck => {
                t.unlock(cell?);
                Writer::Index
            }
            Writer::Recheck => Writer::NameFree,
            Writer::NameFree if self.operation == Operation::Insert => {
                let empty = s.buckets[cell?].slots.iter().position(|block| *block == 0)?;
                t.buckets[cell?].slots[empty] = NEW;
                t.set_current(Value::New);
                if late { Writer::Unlock } else { Writer::ClearAlloc }
            }
            Writer::NameFree => {
                match s.find(cell?) {
                    Some(slot) => t.intent.free = s.buckets[cell?].slots[slot],
                    None => t.broken = Some("the writer lost its key"),
                }
                Writer::Commit
            }
            Writer::Commit => {
                let slot = s.find(cell?)?;
                let remove = self.operation == Operation::Remove;
                t.buckets[cell?].slots[slot] = if remove { 0 } else { NEW };
                t.set_current(if remove { Value::Missing } else { Value::New });
                if late { Writer::Unlock } else { Writer::ClearAlloc }
            }
            Writer::ClearAlloc => {
                t.intent.alloc = 0;
                if late { Writer::FreeOld } else { Writer::Unlock }
            }
            Writer::Unlock => {
                t.unlock(cell?);
                if late { Writer::ClearAlloc } else { Writer::FreeOld }
            }
            Writer::FreeOld => {
                t.free(s.intent.free);
                Writer::ClearIntent
            }
            Writer::ClearIntent => {
                t.intent = NO_INTENT;
                Writer::Done
            }
            Writer::Done => return None,
        };
        Some(t)
    }

    fn split(&self, s: &State) -> Option<State> {
        if s.splitter_dead {
            return None;
        }
        let mut t = s.clone();
        let early = self.variant == Variant::NewUnlockedEarly;
        let first = self.variant == Variant::NewUnlockedFirst;
        t.splitter = match s.splitter {
            Splitter::Intent => {
                t.splitting = true;
                Splitter::LockOld
            }
            Splitter::LockOld if s.buckets[0].owner == Owner::Free => {
                t.buckets[0].owner = Owner::Splitter;
                Splitter::LockNew
            }
            Splitter::LockOld => return None,
            Splitter::LockNew => {
                t.buckets[1].owner = Owner::Splitter;
                Splitter::Copy
            }
            Splitter::Copy => {
                t.buckets[1].slots = s.part(true);
                Splitter::Commit
            }
            Splitter::Commit => {
                t.nbuckets = 2;
                if early { Splitter::UnlockNew } else { Splitter::ClearMoved }
            }
            Splitter::ClearMoved => {
                t.buckets[0].slots = s.part(false);
                if first { Splitter::UnlockNew } else { Splitter::UnlockOld }
            }
            Splitter::UnlockOld => {
                t.unlock(0);
                if early || first { Splitter::ClearIntent } else { Splitter::UnlockNew }
            }
            Splitter::UnlockNew => {
                t.unlock(1);
                match self.variant {
                    Variant::NewUnlockedEarly => Splitter::ClearMoved,
                    Variant::NewUnlockedFirst => Splitter::UnlockOld,
                    _ => Splitter::ClearIntent,
                }
            }
            Splitter::ClearIntent => {
                t.splitting = false;
                Splitter::Done
            }
            Splitter::Done => return None,
        };
        Some(t)
    }

    fn recover_writer(&self, s: &State) -> Option<State> {
        let Intent { alloc, free, cell } = s.intent;
        if !s.writer_dead || s.intent == NO_INTENT {
            return None;
        }
        let mut t = s.clone();
        let held = cell.filter(|cell| s.buckets[*cell].owner == Owner::Writer);
        let undo_alloc = |t: &mut State| if s.is_freed(alloc) { t.intent.alloc = 0 } else { t.free(alloc) };
        match held {
            // Committed: forward.
            Some(cell) if alloc != 0 && s.buckets[cell].slots.contains(&alloc) => t.intent.alloc = 0,
            // Not committed: back. The old block stays.
            Some(_) if alloc != 0 && free != 0 => t.intent.free = 0,
            Some(_) if alloc != 0 => undo_alloc(&mut t),
            Some(cell) if free != 0 && s.buckets[cell].slots.contains(&free) => t.intent.free = 0,
            Some(cell) => t.unlock(cell),
            None if alloc != 0 => undo_alloc(&mut t),
            None if free != 0 && !s.is_freed(free) => t.free(free),
            None => t.intent = NO_INTENT,
        }
        Some(t)
    }

    fn recover_splitter(&self, s: &State) -> Option<State> {
        if !s.splitter_dead || !s.splitting {
            return None;
        }
        let mut t = s.clone();
        let held = |bucket: usize| s.buckets[bucket].owner == Owner::Splitter;
        if s.nbuckets == 1 {
            if held(1) && s.buckets[1].slots != [0, 0] {
                t.buckets[1].slots = [0, 0];
            } else if held(1) {
                t.unlock(1);
            } else if held(0) {
                t.unlock(0);
            } else {
                t.splitting = false;
            }
        } else if held(0) && s.part(false) != s.buckets[0].slots {
            t.buckets[0].slots = s.part(false);
        } else if held(0) {
            t.unlock(0);
        } else if held(1) {
            t.unlock(1);
        } else {
            t.splitting = false;
        }
        Some(t)
    }

    fn reuse(&self, s: &State, block: Block) -> Option<State> {
        if !s.is_freed(block) || block == s.intent.alloc || block == s.intent.free {
            return None;
        }
        let mut t = s.clone();
        if s.buckets.iter().any(|bucket| bucket.slots.contains(&block)) {
            t.broken = Some("a published block was reallocated");
        }
        t.freed[block - 1] = false;
        t.blocks[block - 1] = (KEY, Value::Unpublished);
        Some(t)
    }

    fn read(&self, s: &State) -> Option<State> {
        let mut t = s.clone();
        t.reader = match s.reader {
            Reader::Start { retry } => {
                if !retry {
                    t.legal = 1 << s.current as u8;
                }
                Reader::Sequence { bucket: s.home() }
            }
            Reader::Sequence { bucket } => Reader::Slot { bucket, sequence: s.buckets[bucket].sequence, slot: 0 },
            Reader::Slot { bucket, sequence, slot } => match s.buckets[bucket].slots[slot] {
                0 => next_slot(bucket, sequence, slot),
                block => Reader::Key { bucket, sequence, slot, block },
            },
            Reader::Key { bucket, sequence, slot, block } => {
                if s.has_key(block) {
                    Reader::Value { bucket, sequence, block }
                } else {
                    next_slot(bucket, sequence, slot)
                }
            }
            Reader::Value { bucket, sequence, block } => {
                Reader::Validate { bucket, sequence, hit: Some(s.blocks[block - 1].1) }
            }
            Reader::Validate { bucket, sequence, .. } if s.buckets[bucket].sequence != sequence => {
                Reader::Start { retry: true }
            }
            Reader::Validate { bucket, hit: None, .. } if self.variant != Variant::NoMissRecheck => {
                Reader::MissIndex { bucket }
            }
            Reader::Validate { hit, .. } => self.answer(&mut t, hit.unwrap_or(Value::Missing)),
            Reader::MissIndex { bucket } if s.home() != bucket => Reader::Start { retry: true },
            Reader::MissIndex { .. } => self.answer(&mut t, Value::Missing),
            Reader::Done => return None,
        };
        Some(t)
    }

    fn answer(&self, t: &mut State, value: Value) -> Reader {
        if t.legal & 1 << value as u8 == 0 {
            let miss = value == Value::Missing;
            t.broken = Some(if miss { "a reader missed a present key" } else { "a reader answered a wrong value" });
        }
        Reader::Done
    }

    /// What is wrong with a state in which nobody has a step left.
    fn wrong_end(&self, s: &State) -> Option<&'static str> {
        let locked = s.buckets.iter().any(|bucket| bucket.owner != Owner::Free);
        if locked || s.intent != NO_INTENT || s.splitting {
            return Some("something is left locked or open");
        }
        let home = s.home();
        let found = s.find(home).map_or(Value::Missing, |slot| s.blocks[s.buckets[home].slots[slot] - 1].1);
        if found != s.current {
            return Some("the final value is wrong");
        }
        if s.find(1 - home).is_some() {
            return Some("an entry is left in the other bucket");
        }
        let used = |block: Block| {
            let never = match block {
                NEW => self.operation == Operation::Remove || matches!(s.writer, Writer::NameAlloc | Writer::Fill),
                OLD => self.operation == Operation::Insert,
                _ => false,
            };
            let reused = s.is_freed(block) || s.blocks[block - 1].1 == Value::Unpublished;
            never || reused || s.buckets.iter().any(|bucket| bucket.slots.contains(&block))
        };
        if [OTHER, OLD, NEW].into_iter().all(used) { None } else { Some("a block leaked") }
    }
}

fn next_slot(bucket: usize, sequence: u8, slot: usize) -> Reader {
    if slot == 0 {
        Reader::Slot { bucket, sequence, slot: 1 }
    } else {
        Reader::Validate { bucket, sequence, hit: None }
    }
}

impl Model for PutSplit {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let insert = self.operation == Operation::Insert;
        let bucket = |slots| Bucket { owner: Owner::Free, sequence: 0, slots };
        vec![State {
            nbuckets: 1,
            buckets: [bucket([OTHER, if insert { 0 } else { OLD }]), bucket([0, 0])],
            blocks: [(0, Value::Other), (KEY, Value::Old), (NO_KEY, Value::Unfilled)],
            freed: [false; 3],
            intent: NO_INTENT,
            splitting: false,
            writer: Writer::NameAlloc,
            splitter: Splitter::Intent,
            writer_dead: false,
            splitter_dead: false,
            reader: Reader::Start { retry: false },
            current: if insert { Value::Missing } else { Value::Old },
            legal: 0,
            broken: None,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([Write, Split, Read, KillWriter, KillSplitter, RecoverWriter, RecoverSplitter]);
        actions.extend([OTHER, OLD, NEW].map(Reuse));
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        match action {
            Action::Write => self.write(s),
            Action::Split => self.split(s),
            Action::Read => self.read(s),
            Action::KillWriter if !s.writer_dead && s.writer != Writer::Done => {
                Some(State { writer_dead: true, ..s.clone() })
            }
            Action::KillSplitter if !s.splitter_dead && s.splitter != Splitter::Done => {
                Some(State { splitter_dead: true, ..s.clone() })
            }
            Action::RecoverWriter => self.recover_writer(s),
            Action::RecoverSplitter => self.recover_splitter(s),
            Action::Reuse(block) => self.reuse(s, block),
            Action::KillWriter | Action::KillSplitter => None,
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for PutSplit {
    fn broken(&self, s: &State) -> Option<&'static str> {
        s.broken
    }

    fn finished(&self, s: &State) -> bool {
        let written = s.writer_dead || s.writer == Writer::Done;
        let split = s.splitter_dead || s.splitter == Splitter::Done;
        written && split && s.reader == Reader::Done && self.wrong_end(s).is_none()
    }
}
