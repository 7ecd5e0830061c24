//! The condition: places taken under the user's lock, and notifications that outlive whom they were meant for.
//!
//! **Protocol.** A waiter takes the lock, its place (WAITING, with a ticket), and releases the lock. A notifier takes the
//! lock, makes the longest waiting NOTIFIED, stamped with the next ticket, and releases the lock. A waiter that is NOTIFIED
//! takes the lock and clears its place. A waiter that finds a place NOTIFIED whose thread is dead, with a stamp later than its
//! own ticket, makes its own place NOTIFIED, then clears the dead one's; if another was quicker, both return.
//! The lock of the dead is free.
//!
//! **Rules.** A notifier that comes when somebody waits notifies somebody. No notification is for two, unless two took it over, or its
//! taker-over was killed; none is for a thread that began to wait after it. If it was given to some, and one of them lives, one returns.
//!
//! **Left out.** Weak memory; timeouts, which end as a wait with the lock; reused slots; sleeping. Three waiters, one notification.
//!
//! | mutant | what it does | what goes wrong |
//! |---|---|---|
//! | `PlaceAfterRelease` | takes the place behind the release of the lock | the notifier misses a waiter |
//! | `NoInheriting` | leaves the dead one's notification alone | stuck |
//! | `ClearsFirst` | clears the dead one's place before its own is NOTIFIED | stuck, if killed in between |
//! | `NoStamp` | takes over whatever its ticket | a thread is notified that came later |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    PlaceAfterRelease,
    NoInheriting,
    ClearsFirst,
    NoStamp,
}

#[derive(Clone, Copy, Debug)]
pub struct Condition {
    pub variant: Variant,
    pub kills: u8,
}

const WAITERS: usize = 3;
const NOTIFIER: usize = WAITERS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Free,
    Waiting(u8),
    Notified(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    /// Has the lock.
    Locked,
    /// Has its place, and the lock.
    Placed,
    /// Has released the lock without a place: a mutant.
    Unplaced,
    Waiting,
    /// Has made its own place NOTIFIED, about to clear that of another, which was stamped so; its own ticket.
    Took {
        from: usize,
        stamp: u8,
    },
    /// Has cleared that of another: a mutant.
    Cleared {
        stamp: u8,
    },
    /// Notified, and has the lock again.
    Relocked,
    Done,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    lock: Option<usize>,
    next: u8,
    places: [Place; WAITERS],
    at: [At; WAITERS],
    notifier: u8,
    /// Who waited when it notified; none before.
    waited: Option<[bool; WAITERS]>,
    kills: u8,
    taken_twice: bool,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Step(usize),
    Inherit(usize, usize),
    Notify,
    Kill(usize),
}

impl Condition {
    fn place(&self, t: &mut State, who: usize) {
        t.places[who] = Place::Waiting(t.next);
        t.next += 1;
    }

    fn step(&self, t: &mut State, who: usize) -> Option<At> {
        Some(match t.at[who] {
            At::Start if t.lock.is_none() => {
                t.lock = Some(who);
                At::Locked
            }
            At::Locked if self.variant == Variant::PlaceAfterRelease => {
                t.lock = None;
                At::Unplaced
            }
            At::Locked => {
                self.place(t, who);
                At::Placed
            }
            At::Unplaced => {
                self.place(t, who);
                At::Waiting
            }
            At::Placed => {
                t.lock = None;
                At::Waiting
            }
            At::Waiting if matches!(t.places[who], Place::Notified(_)) && t.lock.is_none() => {
                t.lock = Some(who);
                At::Relocked
            }
            At::Took { from, stamp } => {
                if t.places[from] == Place::Notified(stamp) {
                    t.places[from] = Place::Free;
                } else {
                    // Another was quicker. Waiting again could undo a notification of its own that came meanwhile.
                    t.taken_twice = true;
                }
                At::Waiting
            }
            At::Cleared { stamp } => {
                t.places[who] = Place::Notified(stamp);
                At::Waiting
            }
            At::Relocked => {
                if t.waited.is_none_or(|waited| !waited[who]) {
                    t.broken = Some("a thread was notified that came later");
                }
                t.places[who] = Place::Free;
                t.lock = None;
                At::Done
            }
            _ => return None,
        })
    }

    fn inherit(&self, t: &mut State, who: usize, from: usize) -> Option<At> {
        let (Place::Waiting(ticket), Place::Notified(stamp)) = (t.places[who], t.places[from]) else { return None };
        let may = t.at[who] == At::Waiting && t.at[from] == At::Dead && self.variant != Variant::NoInheriting;
        if !may || ticket >= stamp && self.variant != Variant::NoStamp {
            return None;
        }
        Some(if self.variant == Variant::ClearsFirst {
            t.places[from] = Place::Free;
            At::Cleared { stamp }
        } else {
            t.places[who] = Place::Notified(stamp);
            At::Took { from, stamp }
        })
    }

    fn notify(&self, t: &mut State) -> Option<u8> {
        Some(match t.notifier {
            0 if t.lock.is_none() && t.at.iter().any(|at| matches!(at, At::Waiting | At::Unplaced)) => {
                t.lock = Some(NOTIFIER);
                1
            }
            1 => {
                let waits = |who: usize| matches!(t.at[who], At::Waiting | At::Unplaced | At::Took { .. });
                t.waited = Some(std::array::from_fn(waits));
                let waiting = (0..WAITERS).filter_map(|who| match t.places[who] {
                    Place::Waiting(ticket) => Some((ticket, who)),
                    _ => None,
                });
                match waiting.min() {
                    Some((_, who)) => t.places[who] = Place::Notified(t.next),
                    None if t.at.iter().any(|at| matches!(at, At::Waiting | At::Unplaced)) => {
                        t.broken = Some("the notifier missed a waiter");
                    }
                    None => {}
                }
                2
            }
            2 => {
                t.lock = None;
                3
            }
            _ => return None,
        })
    }
}

impl Model for Condition {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            lock: None,
            next: 0,
            places: [Place::Free; WAITERS],
            at: [At::Start; WAITERS],
            notifier: 0,
            waited: None,
            kills: self.kills,
            taken_twice: false,
            broken: None,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Notify);
        for who in 0..WAITERS {
            actions.push(Action::Step(who));
            actions.extend((0..WAITERS).map(|from| Action::Inherit(who, from)));
            if s.kills > 0 {
                actions.push(Action::Kill(who));
            }
        }
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        match action {
            Action::Step(who) => t.at[who] = self.step(&mut t, who)?,
            Action::Inherit(who, from) => t.at[who] = self.inherit(&mut t, who, from)?,
            Action::Notify => t.notifier = self.notify(&mut t)?,
            Action::Kill(who) => {
                if matches!(s.at[who], At::Done | At::Dead) {
                    return None;
                }
                t.kills -= 1;
                t.taken_twice |= matches!(s.at[who], At::Took { .. });
                t.at[who] = At::Dead;
                if t.lock == Some(who) {
                    t.lock = None;
                }
            }
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Condition {
    fn broken(&self, s: &State) -> Option<&'static str> {
        let done = s.at.iter().filter(|at| **at == At::Done).count();
        let two = done > 1 && !s.taken_twice;
        s.broken.or(two.then_some("one notification was for two"))
    }

    fn finished(&self, s: &State) -> bool {
        let settled = |at: &At| matches!(at, At::Waiting | At::Done | At::Dead);
        let nobody_waited = s.at.iter().all(|at| *at == At::Dead);
        let lives = |waited: [bool; WAITERS]| (0..WAITERS).any(|who| waited[who] && s.at[who] != At::Dead);
        // Some may wait for ever; but not all of those that the notification could have been for.
        let delivered = s.waited.is_some_and(|waited| !lives(waited) || s.at.contains(&At::Done));
        let taken = (0..WAITERS).all(|who| s.at[who] == At::Dead || !matches!(s.places[who], Place::Notified(_)));
        s.at.iter().all(settled) && s.lock.is_none() && (nobody_waited || s.notifier == 3 && delivered && taken)
    }
}
