//! Values in cells: what all locks around a value do with it.

use std::marker::PhantomData;

use crate::codec::{Auto, Codec, Encode};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::mem::Me;
use crate::os;
use crate::raw::object::{BEARS, Kind, NESTED, ObjectId};
use crate::raw::session::Session;
use crate::raw::{cell, collect, object, recovery};
use crate::storing::{prepare_handles, with_room};

/// Where a guard was made: in a thread, which it does not leave, of a process, whose forked copies have no part in it.
pub(crate) struct Made {
    process: u64,
    not_send: PhantomData<*const ()>,
}

impl Made {
    /// Here and now.
    #[inline]
    pub fn here() -> Made {
        Made { process: os::generation(), not_send: PhantomData }
    }

    /// Whether this is that process. A handle that a forked child has used is the child's; a guard never is.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.process == os::generation()
    }
}

/// Creates a cell around `value`, with `more` words behind it.
pub(crate) fn create<T>(session: &Session, kind: Kind, fingerprint: u64, more: usize, value: &T) -> Result<ObjectId>
where
    Auto: Codec<T>,
{
    Auto::with_encoded(value, |encoded| {
        let ids = encoded.handles_for(session.segment().id())?;
        for id in &ids {
            object::entry(session.segment(), id.index)?.mark(*id, NESTED)?;
        }
        let words: Vec<u64> = ids.iter().map(|id| id.pack()).collect();
        let id = session.create(kind, fingerprint, |me, root| cell::create(me, root, more, encoded.bytes(), &words))?;
        if !words.is_empty() {
            object::entry(session.segment(), id.index)?.mark(id, BEARS)?;
        }
        Ok(id)
    })?
}

/// The value.
pub(crate) fn get<T, C: Codec<T>>(handle: &Handle) -> Result<T> {
    C::decode(&cell::read(handle.hold.segment()?, handle.root)?)
}

/// Sets the value, if `is_mine` says that the calling thread may.
pub(crate) fn set<T, C: Codec<T>>(handle: &Handle, value: &T, is_mine: impl Fn(&Me<'_>) -> Result<bool>) -> Result<()> {
    let segment = handle.hold.segment()?;
    let dropped = C::with_encoded(value, |encoded| {
        let handles = prepare_handles(segment, handle.hold.id(), &encoded)?;
        with_room(segment, || {
            recovery::run(segment, |me| {
                if !is_mine(me)? {
                    return Err(Error::new(ErrorKind::NotHeld, "a lock that somebody else released").into());
                }
                Ok(cell::replace(me, handle.root, encoded.bytes(), &handles)?)
            })
        })
    })??;
    if dropped {
        collect::note_garbage(segment)?;
    }
    Ok(())
}
