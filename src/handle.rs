//! What all handles have in common: they name an object, keep it alive, and travel by serde.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::{Locator, SegmentId};
use crate::raw::object::{Kind, ObjectId};
use crate::raw::session::{Hold, Session};

/// A handle as bytes: where the segment is found, and which object is meant.
#[derive(Serialize, Deserialize)]
struct Address {
    segment: SegmentId,
    locator: Locator,
    index: u32,
    generation: u32,
}

/// A hold on an object and where its root is.
#[derive(Clone)]
pub(crate) struct Handle {
    pub hold: Hold,
    pub root: u64,
}

impl Handle {
    /// Over a hold just taken of object `id`, checked to be of this kind and fingerprint.
    pub fn adopt(session: &Arc<Session>, id: ObjectId, kind: Kind, fingerprint: u64) -> Result<Handle> {
        let hold = Hold::adopt(session, id);
        let (found, stored, root) = session.describe(id)?;
        if found != kind || stored != fingerprint {
            let context = format!("object #{} is a {found:?} of other types than the {kind:?} asked for", id.index);
            return Err(Error::new(ErrorKind::TypeMismatch, context));
        }
        Ok(Handle { hold, root })
    }

    pub fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let id = self.hold.id();
        let segment = self.hold.session().segment();
        codec::note_handle(segment.id(), id);
        Address {
            segment: segment.id(),
            locator: match codec::is_inside(segment.id()) {
                true => Locator::Here,
                false => segment.present_locator(),
            },
            index: id.index,
            generation: id.generation,
        }
        .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: Kind,
        fingerprint: u64,
    ) -> Result<Handle, D::Error> {
        let address = Address::deserialize(deserializer)?;
        open(&address, kind, fingerprint).map_err(codec::reason)
    }
}

fn open(address: &Address, kind: Kind, fingerprint: u64) -> Result<Handle> {
    let session = Session::locate(address.segment, &address.locator)?;
    let id = ObjectId { index: address.index, generation: address.generation };
    if !session.hold(id)? {
        return Err(Error::new(ErrorKind::Stale, format!("object #{}", id.index)));
    }
    Handle::adopt(&session, id, kind, fingerprint)
}

/// Two handles are equal if they name the same object, not if the objects have equal contents.
impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        self.hold.id() == other.hold.id() && self.hold.session().segment().id() == other.hold.session().segment().id()
    }
}

/// Implements for a handle type with a field `handle`, or one inside the field that is named, what every handle type has.
macro_rules! handle_traits {
    ([$($generics:tt)*], $type:ty, $name:literal) => {
        crate::handle::handle_traits!([$($generics)*], $type, $name, handle);
    };
    ([$($generics:tt)*], $type:ty, $name:literal, $($field:ident).+) => {
        impl<$($generics)*> Clone for $type {
            fn clone(&self) -> Self {
                self.with_handle(self.$($field).+.clone())
            }
        }

        /// Identity of the object, not equality of contents.
        impl<$($generics)*> PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.$($field).+ == other.$($field).+
            }
        }

        impl<$($generics)*> Eq for $type {}

        impl<$($generics)*> serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.$($field).+.serialize(serializer)
            }
        }

        impl<'de, $($generics)*> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let handle = crate::handle::Handle::deserialize(deserializer, Self::KIND, Self::fingerprint())?;
                Self::over(handle).map_err(serde::de::Error::custom)
            }
        }

        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name).field("object", &self.$($field).+.hold.id().index).finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use handle_traits;
