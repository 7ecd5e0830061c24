//! Own types: structs of shared objects that are shared objects themselves.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserializer, Serialize, Serializer};

use crate::codec::{self, Auto, Codec, Decode, fingerprint};
use crate::dict::Dict;
use crate::error::{Error, Result};
use crate::guarded;
use crate::handle::Handle;
use crate::joinable_queue::JoinableQueue;
use crate::list::List;
use crate::lock::Lock;
use crate::manager::{Manager, Place};
use crate::mem::Segment;
use crate::namespace::Namespace;
use crate::priority_queue::PriorityQueue;
use crate::queue::Queue;
use crate::raw::cell;
use crate::raw::object::Kind;
use crate::set::Set;
use crate::sync::{Event, Once, RLock, RwLock};
use crate::value::Value;

/// What a manager can create without being told more: containers are empty, queues without a bound, locks around a default
/// value, events not set; and every type made by [`shared!`](crate::shared!).
///
/// # Examples
/// ```
/// use commons::{Dict, Manager};
///
/// let manager = Manager::new()?;
/// let dict = manager.named("users").shared::<Dict<u64, String>>()?;
/// assert_eq!(dict, manager.named("users").dict::<u64, String>()?);
/// # Ok::<(), commons::Error>(())
/// ```
pub trait Shared: Sized {
    /// Creates or opens one at `place`.
    ///
    /// # Errors
    /// As [`Place::shared`].
    fn at(place: Place<'_>) -> Result<Self>;
}

/// A type made by [`shared!`](crate::shared!).
pub trait Record: Shared {
    /// Its fields, in order.
    type Fields: Serialize + DeserializeOwned + 'static;
    #[doc(hidden)]
    const NAMES: &'static [&'static str];
    #[doc(hidden)]
    fn assemble(object: RecordObject, fields: Self::Fields) -> Self;
}

/// What can be a type parameter of a type made by [`shared!`](crate::shared!): whatever serde knows.
pub trait Storable: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Storable for T {}

/// Makes a struct of shared objects a shared object itself: Python's `register`.
///
/// The struct is a handle, as that of a dict is: `Clone + Send + Sync`, a serde value that travels by whatever means and
/// nests in containers and other records, equal to another if it names the same object, and listed by
/// [`Manager::objects`] with the name of its type. The object keeps alive what its fields name; it goes, and they with it,
/// when no handle, no container and no name holds it any more.
///
/// A field is any serde value: a commons object, another record, plain data, which is fixed when the object is made.
/// One that says nothing further is made by [`Shared`]; another has a closure, which gets the manager and must not
/// capture anything. What needs values known only at run time is made by [`Manager::shared_with`]. There are 1 to 16
/// fields. Type parameters are allowed, without bounds; they are [`Storable`].
///
/// `manager.shared::<T>()` makes an anonymous one; `manager.named("x").shared::<T>()` opens or creates it, checking that what
/// has the name is a `T`: the names of the type, of its fields, and of their types.
///
/// # Crash
/// The parts are made first, each held by this process alone, and then the object that holds them. Killed in between,
/// all of them go when the process is recovered.
///
/// # Errors
/// As those of what it is made of; `InvalidInput` if a part belongs to another segment.
///
/// # Examples
/// ```
/// use commons::{Dict, Lock, Manager, Queue, shared};
///
/// shared! {
///     /// What is in stock, and the orders.
///     pub struct Inventory {
///         /// Pieces of each article.
///         pub stock: Dict<String, u64>,
///         orders: Queue<String> = |manager| manager.queue(100),
///         audit: Lock<u32>,
///     }
/// }
///
/// impl Inventory {
///     fn order(&self, article: &str) -> commons::Result<()> {
///         self.stock.update(article, |pieces| pieces.map(|n| n.saturating_sub(1)))?;
///         self.orders.put(&article.to_owned())
///     }
/// }
///
/// let manager = Manager::new()?;
/// let inventory = manager.named("inventory").shared::<Inventory>()?;
/// inventory.stock.insert("bolt", &12)?;
/// inventory.order("bolt")?;
/// let same = manager.existing("inventory").shared::<Inventory>()?;
/// assert_eq!(same.stock.get("bolt")?, Some(11));
/// assert_eq!(same, inventory);
///
/// let stores = manager.dict::<String, Inventory>()?; // nested
/// stores.insert("Hamburg", &inventory)?;
/// # Ok::<(), commons::Error>(())
/// ```
#[macro_export]
macro_rules! shared {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $(<$($param:ident),+ $(,)?>)? {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty $(= $make:expr)?),+ $(,)?
        }
    )+) => {$(
        $(#[$meta])*
        $vis struct $name $(<$($param),+>)? {
            $($(#[$field_meta])* $field_vis $field: $type,)+
            record_object: $crate::RecordObject,
        }

        impl $(<$($param: $crate::Storable),+>)? $crate::Shared for $name $(<$($param),+>)? {
            fn at(place: $crate::Place<'_>) -> $crate::Result<Self> {
                place.shared_with(|manager: &$crate::Manager| {
                    ::std::result::Result::Ok(($($crate::shared!(@make manager, $type $(, $make)?),)+))
                })
            }
        }

        impl $(<$($param: $crate::Storable),+>)? $crate::Record for $name $(<$($param),+>)? {
            type Fields = ($($type,)+);
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];

            fn assemble(record_object: $crate::RecordObject, ($($field,)+): Self::Fields) -> Self {
                Self { $($field,)+ record_object }
            }
        }

        impl $(<$($param: $crate::Storable),+>)? ::std::clone::Clone for $name $(<$($param),+>)? {
            fn clone(&self) -> Self {
                Self {
                    $($field: ::std::clone::Clone::clone(&self.$field),)+
                    record_object: ::std::clone::Clone::clone(&self.record_object),
                }
            }
        }

        /// Identity of the object, not equality of contents.
        impl $(<$($param),+>)? ::std::cmp::PartialEq for $name $(<$($param),+>)? {
            fn eq(&self, other: &Self) -> bool {
                self.record_object == other.record_object
            }
        }

        impl $(<$($param),+>)? ::std::cmp::Eq for $name $(<$($param),+>)? {}

        impl $(<$($param),+>)? ::std::fmt::Debug for $name $(<$($param),+>)? {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                self.record_object.debug(stringify!($name), f)
            }
        }

        impl $(<$($param),+>)? $crate::__serde::Serialize for $name $(<$($param),+>)? {
            fn serialize<S: $crate::__serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                self.record_object.write(serializer)
            }
        }

        impl<'de $($(, $param: $crate::Storable)+)?> $crate::__serde::Deserialize<'de> for $name $(<$($param),+>)? {
            fn deserialize<D: $crate::__serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                $crate::RecordObject::read(deserializer)
            }
        }
    )+};
    (@make $manager:ident, $type:ty) => {
        $manager.shared::<$type>()?
    };
    (@make $manager:ident, $type:ty, $make:expr) => {{
        let make: fn(&$crate::Manager) -> $crate::Result<$type> = $make;
        make($manager)?
    }};
}

/// The object behind a record's handle.
#[doc(hidden)]
#[derive(Clone, PartialEq)]
pub struct RecordObject {
    handle: Handle,
}

impl RecordObject {
    pub fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("object", &self.handle.hold.id().index).finish_non_exhaustive()
    }

    pub fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }

    pub fn read<'de, T: Record, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let handle = Handle::deserialize(deserializer, Kind::Record, fingerprint_of::<T>())?;
        over(handle).map_err(codec::reason)
    }
}

fn fingerprint_of<T: Record>() -> u64 {
    let types = ["record", std::any::type_name::<T>(), std::any::type_name::<T::Fields>()];
    fingerprint(&[&types, T::NAMES].concat())
}

/// The handle and its fields, each of them held.
fn over<T: Record>(handle: Handle) -> Result<T> {
    let bytes = cell::read(handle.hold.segment()?, handle.root)?;
    let (_, fields): (String, T::Fields) = Auto::decode(&bytes)?;
    Ok(T::assemble(RecordObject { handle }, fields))
}

/// The name of the type of the record at `root`.
pub(crate) fn type_name(segment: &Segment, root: u64) -> Result<String> {
    name_of(&cell::read(segment, root)?)
}

/// A record is stored as the name of its type, then its fields.
fn name_of(bytes: &[u8]) -> Result<String> {
    match postcard::take_from_bytes(bytes) {
        Ok((name, _)) => Ok(name),
        Err(_) => Err(Error::corrupted("the name of a record's type")),
    }
}

impl Manager {
    /// Creates an anonymous `T`, which may be one of [your own](crate::shared!).
    pub fn shared<T: Shared>(&self) -> Result<T> {
        self.place().shared()
    }

    /// Creates an anonymous record whose fields `make` makes; see [`Place::shared_with`].
    pub fn shared_with<T: Record>(&self, make: impl Fn(&Manager) -> Result<T::Fields>) -> Result<T> {
        self.place().shared_with(make)
    }
}

impl Place<'_> {
    /// A `T`, which may be one of [your own](crate::shared!). One that exists keeps what it is.
    ///
    /// # Errors
    /// As the other calls of a place: `TypeMismatch` if what has the name is no `T`.
    pub fn shared<T: Shared>(self) -> Result<T> {
        T::at(self)
    }

    /// A record whose fields `make` makes, if it does not exist.
    ///
    /// # Errors
    /// `InvalidInput` if a field is, or has in it, a handle of another segment.
    ///
    /// # Examples
    /// ```
    /// use commons::{Condition, Lock, Manager, shared};
    ///
    /// shared! {
    ///     pub struct Gate {
    ///         open: Lock<bool>,
    ///         changed: Condition<Lock<bool>> = |_| Err(commons::Error::new(commons::ErrorKind::InvalidInput, "needs its lock")),
    ///         name: String = |_| Ok(String::new()),
    ///     }
    /// }
    ///
    /// let manager = Manager::new()?;
    /// let name = "north".to_owned();
    /// let gate: Gate = manager.shared_with(|manager| {
    ///     let open = manager.lock(false)?;
    ///     let changed = manager.condition(&open)?;
    ///     Ok((open, changed, name.clone()))
    /// })?;
    /// assert_eq!((gate.name.as_str(), gate.changed.lock()), ("north", &gate.open));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn shared_with<T: Record>(self, make: impl Fn(&Manager) -> Result<T::Fields>) -> Result<T> {
        over(self.record::<T>(make)?)
    }

    /// The same without a look at the fields.
    pub(crate) fn record<T: Record>(self, make: impl Fn(&Manager) -> Result<T::Fields>) -> Result<Handle> {
        let manager = self.manager().clone();
        self.object(Kind::Record, fingerprint_of::<T>(), |session, fingerprint| {
            let record = (std::any::type_name::<T>().to_owned(), make(&manager)?);
            let id = session.segment().id();
            // Its parts are held until it holds them.
            codec::inside(id, || guarded::create(session, Kind::Record, fingerprint, 0, &record))
        })
    }
}

macro_rules! made_by {
    ($([$($generics:tt)*] $type:ty: $make:expr;)*) => {$(
        impl<$($generics)*> Shared for $type {
            fn at(place: Place<'_>) -> Result<Self> {
                let make: fn(Place<'_>) -> Result<Self> = $make;
                make(place)
            }
        }
    )*};
}

made_by! {
    [K, V, KC: Codec<K>, VC: Codec<V>] Dict<K, V, KC, VC>: |place| place.dict_with();
    [T, C: Codec<T>] List<T, C>: |place| place.list_with();
    [T, C: Codec<T>] Set<T, C>: |place| place.set_with();
    [] Namespace: |place| place.namespace();
    [T, C: Codec<T>] Queue<T, C>: |place| place.queue_with(None);
    [T, C: Codec<T>] JoinableQueue<T, C>: |place| place.joinable_queue_with(None);
    [T, C: Codec<T>] PriorityQueue<T, C>: |place| place.priority_queue_with(None);
    [T: Storable + Default] Lock<T>: |place| place.lock(T::default());
    [T: Storable + Default] RLock<T>: |place| place.rlock(T::default());
    [T: Storable + Default] RwLock<T>: |place| place.rwlock(T::default());
    [T: Default, C: Codec<T>] Value<T, C>: |place| place.value_with(T::default());
    [T: Storable] Once<T>: |place| place.once();
    [] Event: |place| place.event();
}
