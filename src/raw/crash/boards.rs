//! The boards of a pool's workers.

use super::harness::{Case, Suite};
use super::only;
use crate::Manager;
use crate::raw::board::{self, Board, Progress};
use crate::raw::object::Kind;

const FINGERPRINT: u64 = 7;
const CHUNK: u32 = 9;

fn with_board<T>(manager: &Manager, f: impl FnOnce(Board<'_>) -> T) -> T {
    let (_, _, root) = manager.session().describe(only(manager, Kind::Board)).unwrap();
    f(Board::open(manager.session().segment(), root).unwrap())
}

/// A done task's record is in the outbox.
fn verify(manager: &Manager, finished: bool) {
    with_board(manager, |board| {
        let Progress { chunk, done, running } = board.progress();
        assert!(chunk == CHUNK || (chunk, done, running) == (0, 0, false));
        assert!(!finished || (done, running) == (2, false));
        let outbox = board.outbox();
        assert!(done < 1 || outbox[..16] == [1; 16]);
        assert!(done < 2 || outbox[16..24] == [2; 8]);
        assert!(board.is_ready() || done == 0 && !running);
    });
}

/// Every case of boards.
pub fn cases(suite: &Suite) {
    Case {
        name: "board: made and let go of",
        setup: &|_| (),
        open: &|_, ()| (),
        act: &|victim, ()| {
            let id = victim.session().create(Kind::Board, FINGERPRINT, board::create).unwrap();
            victim.session().release(id).unwrap();
        },
        verify: &|_, (), _| (),
        go_on: &|survivor, ()| {
            survivor.recover().unwrap();
            survivor.collect().unwrap();
            assert_eq!(survivor.objects().unwrap().len(), 0);
        },
    }
    .run(suite);

    Case {
        name: "board: two tasks",
        setup: &|manager| manager.session().create(Kind::Board, FINGERPRINT, board::create).unwrap(),
        open: &|_, _| (),
        act: &|victim, ()| {
            with_board(victim, |board| {
                board.set_ready();
                board.begin(CHUNK, 0);
                board.append(0, &[1; 16]);
                board.end(CHUNK, 0);
                board.begin(CHUNK, 1);
                board.append(16, &[2; 8]);
                board.end(CHUNK, 1);
                board.set_taken(1);
            });
        },
        verify: &|survivor, _, finished| verify(survivor, finished),
        go_on: &|survivor, _| {
            with_board(survivor, |board| {
                board.reset();
                assert_eq!((board.is_ready(), board.taken(), board.progress().done), (false, 0, 0));
            });
        },
    }
    .run(suite);

    Case {
        name: "board: made ready for the next worker",
        setup: &|manager| {
            let id = manager.session().create(Kind::Board, FINGERPRINT, board::create).unwrap();
            with_board(manager, |board| {
                board.set_ready();
                board.begin(CHUNK, 3);
            });
            id
        },
        open: &|_, _| (),
        act: &|victim, ()| with_board(victim, |board| board.reset()),
        verify: &|survivor, _, finished| {
            with_board(survivor, |board| assert!(!finished || board.progress().chunk == 0));
        },
        go_on: &|survivor, _| with_board(survivor, |board| board.reset()),
    }
    .run(suite);
}
