//! The dict's inline bucket: cells, one of them spare, and one word that commits.
//!
//! **Protocol.** A writer locks the bucket, fills the cell that is not live, stores the live word (**commit**), bumps
//! the sequence and unlocks. A reader never looks at the owner: sequence, live word, cell, sequence again; other
//! sequence, other try. Recovery of a dead owner bumps the sequence and unlocks, nothing else: the spare cell needs no
//! undo.
//!
//! **Rules.** A validated read is never torn, and answers a value that was current at some time during the read. The
//! bucket can always be unlocked and everyone can finish.
//!
//! **Left out.** Weak memory; fingerprints; keys (one key, two cells). Values of two words; two writers of two updates
//! each, either of which may be killed; one reader.
//!
//! | mutant | what it does | what goes wrong |
//! |---|---|---|
//! | `InPlace` | writes the live cell | torn read of a dead writer's half, or of an uncommitted value |
//! | `UndoKeepsSequence` | recovery unlocks without a bump | a reader paused across it validates a reused cell |
//! | `UnlockKeepsSequence` | writers unlock without a bump | the same, without any death |

use super::search::{self, Protocol};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    Real,
    InPlace,
    UndoKeepsSequence,
    UnlockKeepsSequence,
}

#[derive(Clone, Copy, Debug)]
pub struct Inline {
    pub variant: Variant,
}

const WRITERS: usize = 2;
const UPDATES: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Lock,
    FirstWord,
    SecondWord,
    Commit,
    Unlock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Start { retry: bool },
    Live { sequence: u8 },
    FirstWord { sequence: u8, cell: usize },
    SecondWord { sequence: u8, cell: usize, first: u8 },
    Validate { sequence: u8, first: u8, second: u8 },
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    owner: Option<usize>,
    sequence: u8,
    live: usize,
    cells: [[u8; 2]; 2],
    writers: [(Writer, u8); WRITERS],
    dead: [bool; WRITERS],
    reader: Reader,
    /// Ghosts: the committed value, and those that were current since the read began (bits).
    current: u8,
    legal: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Write(usize),
    Kill(usize),
    Recover,
    Read,
}

impl Inline {
    fn write(&self, s: &State, who: usize) -> Option<State> {
        let (at, updates) = s.writers[who];
        if s.dead[who] || updates == UPDATES {
            return None;
        }
        let mut t = s.clone();
        let value = 1 + who as u8 + 2 * updates;
        let cell = if self.variant == Variant::InPlace { s.live } else { 1 - s.live };
        t.writers[who] = match at {
            Writer::Lock if s.owner.is_none() => {
                t.owner = Some(who);
                (Writer::FirstWord, updates)
            }
            Writer::Lock => return None,
            Writer::FirstWord => {
                t.cells[cell][0] = value;
                (Writer::SecondWord, updates)
            }
            Writer::SecondWord => {
                t.cells[cell][1] = value;
                (Writer::Commit, updates)
            }
            Writer::Commit => {
                t.live = cell;
                t.current = value;
                t.legal |= 1 << value;
                (Writer::Unlock, updates)
            }
            Writer::Unlock => {
                t.owner = None;
                t.sequence += u8::from(self.variant != Variant::UnlockKeepsSequence);
                (Writer::Lock, updates + 1)
            }
        };
        Some(t)
    }

    fn read(&self, s: &State) -> Option<State> {
        let mut t = s.clone();
        t.reader = match s.reader {
            Reader::Start { retry } => {
                if !retry {
                    t.legal = 1 << s.current;
                }
                Reader::Live { sequence: s.sequence }
            }
            Reader::Live { sequence } => Reader::FirstWord { sequence, cell: s.live },
            Reader::FirstWord { sequence, cell } => Reader::SecondWord { sequence, cell, first: s.cells[cell][0] },
            Reader::SecondWord { sequence, cell, first } => {
                Reader::Validate { sequence, first, second: s.cells[cell][1] }
            }
            Reader::Validate { sequence, .. } if sequence != s.sequence => Reader::Start { retry: true },
            Reader::Validate { first, second, .. } => {
                if first != second {
                    t.broken = Some("a validated read is torn");
                } else if s.legal & 1 << first == 0 {
                    t.broken = Some("a validated read answered a value that was not current");
                }
                Reader::Done
            }
            Reader::Done => return None,
        };
        Some(t)
    }
}

impl Model for Inline {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        // Cell 0 is live and holds value 0; the spare cell holds rubbish.
        vec![State {
            owner: None,
            sequence: 0,
            live: 0,
            cells: [[0, 0], [7, 7]],
            writers: [(Writer::Lock, 0); WRITERS],
            dead: [false; WRITERS],
            reader: Reader::Start { retry: false },
            current: 0,
            legal: 0,
            broken: None,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend((0..WRITERS).flat_map(|who| [Action::Write(who), Action::Kill(who)]));
        actions.extend([Action::Recover, Action::Read]);
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut t = s.clone();
        match action {
            Action::Write(who) => return self.write(s, who),
            Action::Read => return self.read(s),
            Action::Kill(who) if !s.dead[who] && s.writers[who].0 != Writer::Lock => t.dead[who] = true,
            Action::Recover if s.owner.is_some_and(|owner| s.dead[owner]) => {
                t.owner = None;
                t.sequence += u8::from(self.variant != Variant::UndoKeepsSequence);
            }
            Action::Kill(_) | Action::Recover => return None,
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        search::rules()
    }
}

impl Protocol for Inline {
    fn broken(&self, s: &State) -> Option<&'static str> {
        s.broken
    }

    fn finished(&self, s: &State) -> bool {
        let written = (0..WRITERS).all(|who| s.dead[who] || s.writers[who].1 == UPDATES);
        written && s.owner.is_none() && s.reader == Reader::Done
    }
}
