//! The end of a pipe: how the one side learns that the other is gone, and that nothing acknowledged is lost over it.
//!
//! **Protocol.** Two processes may have the sending end, one the receiving end. A process that has it pushes (claims a
//! slot unless the ring is sealed, then publishes), gives the end away in a letter, takes it out of the letter, lets go of
//! it, or closes it for all. Who lets go last, or closes, seals the ring behind that. The receiver pops; at an empty ring it
//! looks for the other side: the closed bit, then the holder bits one by one, recovering the dead among them (their claims
//! first, their bit after), then, if it saw none, a collection that decides; and if the end is gone it seals the ring
//! itself, and pops again. Only a sealed, empty ring is the end of file.
//!
//! **Rules.** At the end of file everything acknowledged has been delivered. A ring is sealed only if the end was closed or
//! nobody can ever have it again. Whatever is killed, the receiver comes to the end of file.
//!
//! **Left out.** The collection itself (`objects`), the ring and its sealing (`ring`), sleeping, the other direction, weak
//! memory. The receiver is not killed: nobody waits for it here.
//!
//! | mutant | what it leaves out | what goes wrong |
//! |---|---|---|
//! | `EofWhenGone` | the pop behind the sealing | a message is lost that was sent between the last pop and the look |
//! | `TrustsBits` | the collection that decides | an end that moved while the bits were read is taken for gone |
//! | `IgnoresLetters` | containers that hold the end | an end on its way is taken for gone |
//! | `NeverLooks` | the receiver's looks | it waits for ever for somebody who was killed |
//! | `SealsFirst` | the order of closed bit and sealing | a kill leaves a ring sealed of an end that is neither closed nor gone |
//! | `ForgetsClaims` | the recovery of a claim | the receiver waits for ever for a message of the dead |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    EofWhenGone,
    TrustsBits,
    IgnoresLetters,
    NeverLooks,
    SealsFirst,
    ForgetsClaims,
}

#[derive(Clone, Copy, Debug)]
pub struct Pipe {
    pub variant: Variant,
    pub kills: u8,
}

const SENDERS: usize = 2;
/// Messages that each may send.
const MESSAGES: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Claimed(u8),
    Full,
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// Has claimed this slot.
    Push(usize),
    /// Has let go of the end, as the last, or set the closed bit: the ring is to be sealed.
    Seal,
    /// `SealsFirst` only: the bit is to be set.
    Close,
    Done,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Receiver {
    Pop,
    /// Is about to look for the other end.
    Look,
    /// Has read so many holder bits, none of them set.
    Bits(usize),
    /// Has seen no bit.
    Decide,
    /// The end is gone or closed.
    Seal,
    Eof,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    slots: Vec<Slot>,
    sealed: bool,
    closed: bool,
    bits: [bool; SENDERS],
    /// The end is in a container that the second sender has.
    letter: bool,
    gone: bool,
    at: [At; SENDERS],
    left: [u8; SENDERS],
    receiver: Receiver,
    acknowledged: u8,
    delivered: u8,
    kills: u8,
    broken: Option<&'static str>,
}

impl State {
    fn is_dead(&self, who: usize) -> bool {
        self.at[who] == At::Dead
    }

    /// Whether a container holds the end: it goes with the process that had it.
    fn is_in_letter(&self) -> bool {
        self.letter && !self.is_dead(1)
    }

    fn is_unheld(&self) -> bool {
        !self.bits.contains(&true) && !self.is_in_letter()
    }

    fn seal(&mut self) {
        self.sealed = true;
    }

    /// Recovery of a dead process: what it had begun, and then its bit.
    fn recover(&mut self, who: usize, claims: bool) {
        for slot in self.slots.iter_mut().filter(|slot| **slot == Slot::Claimed(who as u8) && claims) {
            *slot = Slot::Empty;
        }
        self.bits[who] = false;
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Goes on with what it is in.
    Step(usize),
    Send(usize),
    GiveAway,
    Take,
    LetGo(usize),
    CloseEnd(usize),
    Kill(usize),
    Receive,
}

impl Pipe {
    fn receive(&self, s: &State, t: &mut State) -> Option<Receiver> {
        Some(match s.receiver {
            Receiver::Pop => match s.slots.iter().position(|slot| *slot != Slot::Empty) {
                Some(first) => match s.slots[first] {
                    Slot::Full => {
                        t.slots[first] = Slot::Empty;
                        t.delivered += 1;
                        Receiver::Pop
                    }
                    Slot::Claimed(by) if s.is_dead(by.into()) => {
                        if self.variant == Variant::ForgetsClaims {
                            return None;
                        }
                        t.recover(by.into(), true);
                        Receiver::Pop
                    }
                    _ => return None, // it is being written
                },
                None if s.sealed => Receiver::Eof,
                None if self.variant == Variant::NeverLooks => return None,
                None => Receiver::Look,
            },
            Receiver::Look if s.closed || s.gone => Receiver::Seal,
            Receiver::Look => Receiver::Bits(0),
            Receiver::Bits(SENDERS) => Receiver::Decide,
            Receiver::Bits(who) if !s.bits[who] => Receiver::Bits(who + 1),
            Receiver::Bits(who) if s.is_dead(who) => {
                t.recover(who, self.variant != Variant::ForgetsClaims);
                Receiver::Look
            }
            Receiver::Bits(_) => Receiver::Pop, // somebody alive has it
            Receiver::Decide => {
                let held = match self.variant {
                    Variant::TrustsBits => s.is_in_letter(),
                    Variant::IgnoresLetters => s.bits.contains(&true),
                    _ => !s.is_unheld(),
                };
                t.gone = !held;
                if held { Receiver::Pop } else { Receiver::Seal }
            }
            Receiver::Seal if self.variant == Variant::EofWhenGone => Receiver::Eof,
            Receiver::Seal => {
                t.seal();
                Receiver::Pop
            }
            Receiver::Eof => return None,
        })
    }

    fn step(&self, s: &State, t: &mut State, who: usize) -> Option<At> {
        Some(match s.at[who] {
            At::Push(slot) => {
                t.slots[slot] = Slot::Full;
                t.acknowledged += 1;
                t.left[who] -= 1;
                At::Idle
            }
            At::Seal => {
                t.seal();
                if self.variant == Variant::SealsFirst && !s.gone { At::Close } else { At::Done }
            }
            At::Close => {
                t.closed = true;
                At::Done
            }
            _ => return None,
        })
    }
}

impl Model for Pipe {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            slots: Vec::new(),
            sealed: false,
            closed: false,
            bits: [true, false],
            letter: false,
            gone: false,
            at: [At::Idle; SENDERS],
            left: [MESSAGES; SENDERS],
            receiver: Receiver::Pop,
            acknowledged: 0,
            delivered: 0,
            kills: self.kills,
            broken: None,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        for who in 0..SENDERS {
            actions.extend([Action::Step(who), Action::Send(who), Action::LetGo(who), Action::CloseEnd(who)]);
            if s.kills > 0 {
                actions.push(Action::Kill(who));
            }
        }
        actions.extend([Action::GiveAway, Action::Take, Action::Receive]);
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        let has = |who: usize| s.at[who] == At::Idle && s.bits[who];
        match action {
            Action::Step(who) => t.at[who] = self.step(s, &mut t, who)?,
            Action::Send(who) if has(who) && s.left[who] > 0 && !s.sealed => {
                t.slots.push(Slot::Claimed(who as u8));
                t.at[who] = At::Push(s.slots.len());
            }
            // Somebody has what is sealed: broken pipe.
            Action::Send(who) if has(who) && s.left[who] > 0 => t.left[who] = 0,
            // The letter first, then its own bit; taking the other way round. What is in it needs no bit.
            Action::GiveAway if has(0) && !s.letter && s.at[1] == At::Idle && !s.bits[1] => t.letter = true,
            Action::Take if s.letter && s.at[1] == At::Idle => (t.bits[1], t.letter) = (true, false),
            Action::LetGo(who) if has(who) => {
                t.bits[who] = false;
                t.gone = t.is_unheld();
                t.at[who] = if t.gone { At::Seal } else { At::Idle };
            }
            Action::CloseEnd(who) if has(who) => {
                t.closed = self.variant != Variant::SealsFirst;
                t.at[who] = At::Seal;
            }
            Action::Kill(who) if !matches!(s.at[who], At::Done | At::Dead) => {
                t.at[who] = At::Dead;
                t.kills -= 1;
            }
            Action::Receive => t.receiver = self.receive(s, &mut t)?,
            _ => return None,
        }
        if t.receiver == Receiver::Eof && t.delivered < t.acknowledged {
            t.broken = Some("the end of file came before an acknowledged message");
        }
        let writing = t.at.iter().any(|at| matches!(at, At::Close));
        if t.sealed && !t.closed && !t.is_unheld() && !writing {
            t.broken = Some("a ring was sealed of an end that somebody has");
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Pipe {
    fn broken(&self, s: &State) -> Option<&'static str> {
        s.broken
    }

    fn finished(&self, s: &State) -> bool {
        // As long as somebody alive has the end, waiting is right; and such a one can always let go of it.
        s.receiver == Receiver::Eof
    }
}
