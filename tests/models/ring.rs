//! The queue: slots claimed by CAS on the slot word, hints kept by plain stores, items of a dead consumer given back.
//!
//! **Protocol.** A slot is `lap | state | owner`:
//!
//! ```text
//! E(L) --CAS--> W(L, me) --payload, store--> F(L) --CAS--> R(L, me) --copy, store--> E(L + 1)
//! W(L, dead) -> T(L), skipped by consumers        R(L, dead) -> G(L), "returned"
//! ```
//!
//! `head` and `tail` are hints: advanced by a load and a plain store, so they may lag or go back. Recovery of `R(dead)`
//! marks G first, then raises `returned` to a new epoch; a consumer that sees `returned` scans the ring for G, takes
//! what it finds, and after a scan without any lowers `returned` by a CAS of the same epoch.
//!
//! **Rules.** No item is delivered twice; a claimed slot stays its claimer's while it lives. From every state, every
//! live producer can still finish and every acknowledged item can still be delivered.
//!
//! **Left out.** Weak memory; WAIT bits and sleeping (`ring_wait`); payload blocks (`ring_push_block`); X, close and
//! the unbounded form. Bounds: four threads of which two may be killed, capacity 1 and 2, one item a producer. A
//! recovery that dies before it has cleared the dead intent, which still names the slot, is taken up at the second
//! step: it may raise `returned` more than once.
//!
//! | mutant | what it does | what goes wrong |
//! |---|---|---|
//! | `RaisesFirst` | recovery raises `returned` before G is visible | a scan misses G, lowers: item stranded |
//! | `NeverRaises` | recovery marks G and nothing else | item stranded |
//! | `NeverScans` | consumers ignore `returned` | item stranded |
//! | `LowersBlindly` | a consumer stores 0, no CAS of the epoch it saw | wipes a newer epoch: item stranded |
//! | `RollsHeadBack` | recovery turns R back to F and stores `head` back | overtaken by a stale hint: item stranded |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    RaisesFirst,
    NeverRaises,
    NeverScans,
    LowersBlindly,
    RollsHeadBack,
}

#[derive(Clone, Copy, Debug)]
pub struct Ring {
    pub variant: Variant,
    pub capacity: u8,
    pub cast: Cast,
}

/// Who plays. The producers come first and push one item each, their number + 1; the others pop for ever.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    producers: usize,
    /// Those that may be killed.
    mortal: [usize; 2],
}

impl Cast {
    /// Two producers and two consumers, one of each mortal.
    pub const PAIRS: Cast = Cast { producers: 2, mortal: [0, 2] };
    /// One producer and three consumers, two of them mortal: the item can be given back twice.
    pub const ONE_ITEM: Cast = Cast { producers: 1, mortal: [1, 2] };
}

const SLOTS: usize = 2;
const THREADS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cell {
    Empty,
    Writing(u8),
    Full(u8),
    /// Claimed by a consumer: its thread, and the item.
    Reading(u8, u8),
    /// The item of a dead consumer.
    Given(u8),
    /// The claim of a dead producer.
    Tomb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    lap: u8,
    cell: Cell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// Before the hint (a consumer: `returned`) is read.
    Start,
    /// A consumer that saw `returned == epoch` looks at slot `next`.
    Scan {
        next: u8,
        epoch: u8,
    },
    /// The scan found nothing: lower `returned`.
    Lower {
        epoch: u8,
    },
    /// Position read; look at its slot, and claim it if it is ours to claim.
    Claim {
        pos: u8,
    },
    /// Claimed.
    Own {
        pos: u8,
        item: u8,
    },
    /// Advance the hint past `pos`: load, then store.
    AdvanceLoad {
        pos: u8,
        pushed: bool,
    },
    AdvanceStore {
        pos: u8,
        pushed: bool,
    },
    /// The push is about to return.
    Acknowledge,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    slots: [Slot; SLOTS],
    head: u8,
    tail: u8,
    returned: u8,
    epochs: u8,
    threads: [At; THREADS],
    dead: u8,
    /// Slot recoveries of which the first half is done, as bits of (slot, lap).
    half: u16,
    /// Ghosts, as bits of items.
    acknowledged: u8,
    delivered: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Step(usize),
    Kill(usize),
    Recover(usize),
    /// The second half of the recovery of a slot that was at this lap; the recoverer may die before it is recorded.
    RecoverRest(usize, u8, Recorded),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recorded {
    Yes,
    No,
}

/// More epochs than this are not looked at.
const EPOCHS: u8 = 3;

fn half_bit(slot: usize, lap: u8) -> u16 {
    debug_assert!(lap < 8);
    1 << (slot * 8 + lap as usize)
}

impl Ring {
    fn step(&self, s: &State, who: usize) -> Option<State> {
        let mut t = s.clone();
        let capacity = self.capacity;
        let producer = who < self.cast.producers;
        let me = who as u8;
        let at = |pos: u8| ((pos % capacity) as usize, pos / capacity);
        t.threads[who] = match s.threads[who] {
            At::Start if producer => At::Claim { pos: s.tail },
            At::Start if s.returned != 0 && self.variant != Variant::NeverScans => {
                At::Scan { next: 0, epoch: s.returned }
            }
            At::Start => At::Claim { pos: s.head },
            At::Scan { next, epoch } => {
                let slot = s.slots[next as usize];
                if let Cell::Given(item) = slot.cell {
                    t.slots[next as usize].cell = Cell::Reading(me, item);
                    At::Own { pos: slot.lap * capacity + next, item }
                } else if next + 1 < capacity {
                    At::Scan { next: next + 1, epoch }
                } else {
                    At::Lower { epoch }
                }
            }
            At::Lower { epoch } => {
                if s.returned == epoch || self.variant == Variant::LowersBlindly {
                    t.returned = 0;
                }
                At::Claim { pos: s.head }
            }
            At::Claim { pos } => {
                let (slot, lap) = at(pos);
                let seen = s.slots[slot];
                match (seen.lap.cmp(&lap), seen.cell) {
                    (std::cmp::Ordering::Equal, Cell::Empty) if producer => {
                        t.slots[slot].cell = Cell::Writing(me);
                        At::Own { pos, item: me + 1 }
                    }
                    (std::cmp::Ordering::Equal, Cell::Full(item)) if !producer => {
                        t.slots[slot].cell = Cell::Reading(me, item);
                        At::Own { pos, item }
                    }
                    (std::cmp::Ordering::Equal, Cell::Tomb) if !producer => {
                        t.slots[slot] = Slot { lap: lap + 1, cell: Cell::Empty };
                        At::Start
                    }
                    // Full, or empty: try again from the hint.
                    (std::cmp::Ordering::Less, _) => At::Start,
                    (std::cmp::Ordering::Equal, Cell::Empty | Cell::Writing(_)) if !producer => At::Start,
                    // Decided by someone else: the hint lags.
                    _ => At::AdvanceLoad { pos, pushed: false },
                }
            }
            At::Own { pos, item } => {
                let (slot, lap) = at(pos);
                let mine = if producer { Cell::Writing(me) } else { Cell::Reading(me, item) };
                if s.slots[slot] != (Slot { lap, cell: mine }) {
                    t.broken = Some("a claimed slot was taken from its live claimer");
                }
                if producer {
                    t.slots[slot].cell = Cell::Full(item);
                } else {
                    t.slots[slot] = Slot { lap: lap + 1, cell: Cell::Empty };
                    if s.delivered & 1 << item != 0 {
                        t.broken = Some("an item was delivered twice");
                    }
                    t.delivered |= 1 << item;
                }
                At::AdvanceLoad { pos, pushed: producer }
            }
            At::AdvanceLoad { pos, pushed } => {
                let hint = if producer { s.tail } else { s.head };
                if hint == pos { At::AdvanceStore { pos, pushed } } else { after_advance(pushed) }
            }
            At::AdvanceStore { pos, pushed } => {
                *(if producer { &mut t.tail } else { &mut t.head }) = pos + 1;
                after_advance(pushed)
            }
            At::Acknowledge => {
                t.acknowledged |= 1 << (me + 1);
                At::Done
            }
            At::Done => return None,
        };
        Some(t)
    }

    fn recover(&self, s: &State, slot: usize) -> Option<State> {
        let mut t = s.clone();
        let Slot { lap, cell } = s.slots[slot];
        let half = half_bit(slot, lap);
        match cell {
            Cell::Writing(owner) if s.dead & 1 << owner != 0 => t.slots[slot].cell = Cell::Tomb,
            Cell::Reading(owner, item) if s.dead & 1 << owner != 0 => match self.variant {
                Variant::RaisesFirst if s.half & half == 0 => {
                    t.half |= half;
                    raise(&mut t);
                }
                Variant::RaisesFirst => {
                    t.half &= !half;
                    t.slots[slot].cell = Cell::Given(item);
                }
                Variant::RollsHeadBack => {
                    t.half |= half;
                    t.slots[slot].cell = Cell::Full(item);
                }
                _ => {
                    t.half |= half;
                    t.slots[slot].cell = Cell::Given(item);
                }
            },
            _ => return None,
        }
        Some(t)
    }

    fn recover_rest(&self, s: &State, slot: usize, lap: u8, recorded: Recorded) -> Option<State> {
        let half = half_bit(slot, lap);
        if s.half & half == 0 || (recorded == Recorded::No && s.epochs >= EPOCHS) {
            return None;
        }
        let mut t = s.clone();
        if recorded == Recorded::Yes {
            t.half &= !half;
        }
        match self.variant {
            Variant::RaisesFirst => return None,
            Variant::NeverRaises => {}
            Variant::RollsHeadBack => t.head = lap * self.capacity + slot as u8,
            _ => raise(&mut t),
        }
        Some(t)
    }
}

fn after_advance(pushed: bool) -> At {
    if pushed { At::Acknowledge } else { At::Start }
}

fn raise(t: &mut State) {
    t.epochs += 1;
    t.returned = t.epochs;
}

impl Model for Ring {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            slots: [Slot { lap: 0, cell: Cell::Empty }; SLOTS],
            head: 0,
            tail: 0,
            returned: 0,
            epochs: 0,
            threads: [At::Start; THREADS],
            dead: 0,
            half: 0,
            acknowledged: 0,
            delivered: 0,
            broken: None,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        for who in (0..THREADS).filter(|who| s.dead & 1 << who == 0 && s.threads[*who] != At::Done) {
            actions.push(Action::Step(who));
            if self.cast.mortal.contains(&who) {
                actions.push(Action::Kill(who));
            }
        }
        for slot in 0..self.capacity as usize {
            actions.push(Action::Recover(slot));
            let both = [Recorded::Yes, Recorded::No];
            actions.extend((0..8).flat_map(|lap| both.map(|recorded| Action::RecoverRest(slot, lap, recorded))));
        }
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        match action {
            Action::Step(who) => self.step(s, who),
            Action::Kill(who) => Some(State { dead: s.dead | 1 << who, ..s.clone() }),
            Action::Recover(slot) => self.recover(s, slot),
            Action::RecoverRest(slot, lap, recorded) => self.recover_rest(s, slot, lap, recorded),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Ring {
    fn broken(&self, s: &State) -> Option<&'static str> {
        s.broken
    }

    fn finished(&self, s: &State) -> bool {
        let pushed = |who: usize| s.threads[who] == At::Done || s.dead & 1 << who != 0;
        (0..self.cast.producers).all(pushed) && s.acknowledged & !s.delivered == 0
    }
}
