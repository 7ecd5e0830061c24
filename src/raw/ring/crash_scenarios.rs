//! What the crash tests kill: operations, and the states in which they begin.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Push {
        length: usize,
    },
    Pop,
    Close,
    /// Makes everything ready to sleep until there is an item, and leaves.
    Wait,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub name: &'static str,
    pub slots: u32,
    pub unbounded: bool,
    /// Bytes of the items that are there.
    pub length: usize,
    pub pushes: u64,
    pub pops: u64,
    /// Whether somebody waits on the slot that the action claims, and others behind it.
    pub waiting: bool,
    /// Whether the first item was given back by an earlier death.
    pub returned: bool,
    pub closed: bool,
    pub action: Action,
}

const BASE: Scenario = Scenario {
    name: "",
    slots: 2,
    unbounded: false,
    length: 8,
    pushes: 0,
    pops: 0,
    waiting: false,
    returned: false,
    closed: false,
    action: Action::Pop,
};
const SHORT: Action = Action::Push { length: 8 };
const LONG: Action = Action::Push { length: 40 };

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        Scenario { name: "push, empty", action: SHORT, ..BASE },
        Scenario { name: "push, one short of full", pushes: 1, action: SHORT, ..BASE },
        Scenario { name: "push, full", pushes: 2, action: SHORT, ..BASE },
        Scenario { name: "push, second lap", pushes: 3, pops: 3, action: SHORT, ..BASE },
        Scenario { name: "push, somebody waits", waiting: true, action: SHORT, ..BASE },
        Scenario { name: "push, capacity 1", slots: 1, pushes: 1, pops: 1, action: SHORT, ..BASE },
        Scenario { name: "push, closed", closed: true, action: SHORT, ..BASE },
        Scenario { name: "push long, empty", action: LONG, ..BASE },
        Scenario { name: "push long, one short of full", length: 40, pushes: 1, action: LONG, ..BASE },
        Scenario { name: "push long, full", length: 40, pushes: 2, action: LONG, ..BASE },
        Scenario { name: "push long, somebody waits", waiting: true, action: LONG, ..BASE },
        Scenario { name: "push long, closed", closed: true, action: LONG, ..BASE },
        Scenario { name: "successor", unbounded: true, pushes: 2, action: SHORT, ..BASE },
        Scenario { name: "successor, long", unbounded: true, length: 40, pushes: 2, action: LONG, ..BASE },
        Scenario { name: "second successor", unbounded: true, pushes: 6, pops: 1, action: SHORT, ..BASE },
        Scenario { name: "pop, empty", ..BASE },
        Scenario { name: "pop, last", pushes: 1, ..BASE },
        Scenario { name: "pop, full", pushes: 2, ..BASE },
        Scenario { name: "pop, full, somebody waits", pushes: 2, waiting: true, ..BASE },
        Scenario { name: "pop, returned", pushes: 2, returned: true, ..BASE },
        Scenario { name: "pop long", length: 40, pushes: 2, ..BASE },
        Scenario { name: "pop long, somebody waits", length: 40, pushes: 2, waiting: true, ..BASE },
        Scenario { name: "pop long, returned", length: 40, pushes: 2, returned: true, ..BASE },
        Scenario { name: "pop, second part", unbounded: true, pushes: 5, pops: 2, ..BASE },
        Scenario { name: "pop, closed", pushes: 1, closed: true, ..BASE },
        Scenario { name: "pop, closed and empty", pushes: 1, pops: 1, closed: true, ..BASE },
        Scenario { name: "close, empty", action: Action::Close, ..BASE },
        Scenario { name: "close, somebody waits", waiting: true, action: Action::Close, ..BASE },
        Scenario { name: "close, full", pushes: 2, action: Action::Close, ..BASE },
        Scenario { name: "wait", action: Action::Wait, ..BASE },
        Scenario { name: "wait, somebody waits", waiting: true, action: Action::Wait, ..BASE },
        Scenario { name: "close, two parts", unbounded: true, pushes: 3, action: Action::Close, ..BASE },
    ];
    let base = all.clone();
    // Those that have gone round once more, with items in blocks.
    all.extend(base.into_iter().filter(|s| s.pops > 0).map(|s| Scenario { length: 40, ..s }));
    all
}
