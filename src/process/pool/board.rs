//! The handle of a board; see `raw::board`.

use crate::Manager;
use crate::codec::fingerprint;
use crate::error::Result;
use crate::handle::{Handle, handle_traits};
use crate::raw::board::{self, Board};
use crate::raw::object::Kind;

/// A worker's board.
pub struct BoardHandle {
    handle: Handle,
}

handle_traits!([], BoardHandle, "Board");

impl BoardHandle {
    const KIND: Kind = Kind::Board;

    fn fingerprint() -> u64 {
        fingerprint(&["board"])
    }

    fn over(handle: Handle) -> Result<Self> {
        Board::open(handle.hold.segment()?, handle.root)?;
        Ok(BoardHandle { handle })
    }

    fn with_handle(&self, handle: Handle) -> Self {
        BoardHandle { handle }
    }

    /// A new board.
    pub fn new(manager: &Manager) -> Result<BoardHandle> {
        let id = manager.session().create(Self::KIND, Self::fingerprint(), board::create)?;
        BoardHandle::over(Handle::adopt(manager.session(), id, Self::KIND, Self::fingerprint())?)
    }

    /// Its words.
    #[inline]
    pub fn words(&self) -> Result<Board<'_>> {
        Board::open(self.handle.hold.segment()?, self.handle.root)
    }
}
