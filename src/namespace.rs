//! The shared namespace.

use crate::codec::{Auto, Codec, Decode, Encode, Encoded, fingerprint, inside};
use crate::dict::Dict;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, handle_traits};
use crate::raw::object::Kind;
use crate::raw::table::{Expect, Shape};
use crate::storing::{Tries, prepare_handles};

/// Attributes by name, each of its own type.
///
/// # Crash
/// Every operation is all or nothing when its process is killed at any instruction, and holds up nobody. `clear` is many
/// operations; one that was killed is completed by whoever repairs it.
///
/// # Blocking
/// Reading takes no lock and waits for nobody; writing holds one hash bucket for less than a microsecond.
///
/// # Complexity
/// Constant; [`names`](Namespace::names) is linear.
///
/// # Errors
/// `TypeMismatch` when an attribute is read as another type than it was set as. `OutOfMemory`, `TooLarge`, `Encode`,
/// `Decode`, `Corrupted`, `Evicted`; an operation that fails has had no effect.
///
/// # Examples
/// ```
/// let settings = commons::Manager::new()?.namespace()?;
/// settings.set("depth", &3u32)?;
/// settings.set("title", &"words".to_owned())?;
/// assert_eq!(settings.get::<u32>("depth")?, Some(3));
/// assert!(settings.get::<String>("depth").is_err());
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Namespace {
    dict: Dict<String, Attribute, Auto, AsItIs>,
}

handle_traits!([], Namespace, "Namespace", dict.handle);

/// An attribute as it is stored: eight bytes that tell its type, and its encoded value.
struct Attribute(Vec<u8>);

/// The codec of attributes.
enum AsItIs {}

impl Encode<Attribute> for AsItIs {
    fn with_encoded<R>(value: &Attribute, f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        Ok(f(Encoded::plain(&value.0)))
    }
}

impl Decode<Attribute> for AsItIs {
    fn fixed_len() -> Option<usize> {
        None
    }

    fn decode(bytes: &[u8]) -> Result<Attribute> {
        Ok(Attribute(bytes.to_vec()))
    }
}

/// Bytes of what tells the type.
const TYPE: usize = 8;

fn type_of<T>() -> [u8; TYPE] {
    fingerprint(&["attribute", std::any::type_name::<T>()]).to_le_bytes()
}

fn decode<T>(name: &str, bytes: &[u8]) -> Result<T>
where
    Auto: Codec<T>,
{
    match bytes.split_first_chunk::<TYPE>() {
        Some((stored, value)) if *stored == type_of::<T>() => <Auto as Decode<T>>::decode(value),
        Some(_) => Err(Error::new(ErrorKind::TypeMismatch, format!("attribute `{name}`"))),
        None => Err(Error::corrupted("an attribute")),
    }
}

impl Namespace {
    pub(crate) const KIND: Kind = Kind::Namespace;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["namespace"])
    }

    pub(crate) fn shape() -> Shape {
        Shape::Boxed
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        Ok(Namespace { dict: Dict::over(handle)? })
    }

    /// The same namespace by another handle of it.
    fn with_handle(&self, handle: Handle) -> Self {
        Namespace { dict: self.dict.with_handle(handle) }
    }

    /// The attribute called `name`; `None` if there is none.
    ///
    /// # Errors
    /// `TypeMismatch` if it is no `T`.
    pub fn get<T>(&self, name: &str) -> Result<Option<T>>
    where
        Auto: Codec<T>,
    {
        let mut tries = Tries::default();
        loop {
            match self.dict.get_with::<str, _>(name, |bytes| decode(name, bytes))?.transpose() {
                // Its object went with it since it was copied: the attribute is another by now.
                Err(e) if e.kind() == ErrorKind::Stale => tries.another()?,
                found => return found,
            }
        }
    }

    /// Sets the attribute called `name`, of whatever type it was before. Whether it is new.
    pub fn set<T>(&self, name: &str, value: &T) -> Result<bool>
    where
        Auto: Codec<T>,
    {
        self.put(name, value, Expect::Any).map(|put| !put.existed)
    }

    /// Changes an attribute as one step: `change` gets the present value (`None` if there is none) and returns the next
    /// (`None` to remove it). It runs outside every lock, again if somebody else was quicker. Returns what it returned.
    ///
    /// # Errors
    /// `TypeMismatch` if it is no `T`.
    pub fn update<T>(&self, name: &str, mut change: impl FnMut(Option<T>) -> Option<T>) -> Result<Option<T>>
    where
        Auto: Codec<T>,
    {
        let mut tries = Tries::default();
        loop {
            tries.another()?;
            let old = self.dict.get_with::<str, _>(name, <[u8]>::to_vec)?;
            let present = match old.as_deref().map(|bytes| decode(name, bytes)).transpose() {
                Err(e) if e.kind() == ErrorKind::Stale => continue,
                present => present?,
            };
            let expect = old.as_deref().map_or(Expect::Absent, Expect::Value);
            let next = change(present);
            let done = match &next {
                Some(value) => self.put(name, value, expect)?.done,
                None => old.is_none() || self.dict.remove_if::<str>(name, expect)?,
            };
            if done {
                return Ok(next);
            }
        }
    }

    /// Removes the attribute called `name`. Whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool> {
        self.dict.remove(name)
    }

    /// Whether there is an attribute called `name`.
    pub fn contains(&self, name: &str) -> Result<bool> {
        self.dict.contains(name)
    }

    /// The names of all attributes, in no particular order.
    pub fn names(&self) -> Result<Vec<String>> {
        self.dict.keys().collect()
    }

    /// Number of attributes; exact while nobody writes.
    pub fn len(&self) -> Result<u64> {
        self.dict.len()
    }

    /// Whether there are no attributes.
    pub fn is_empty(&self) -> Result<bool> {
        self.dict.is_empty()
    }

    /// Removes all attributes.
    pub fn clear(&self) -> Result<()> {
        self.dict.clear()
    }

    fn put<T>(&self, name: &str, value: &T, expect: Expect<'_>) -> Result<crate::raw::table::Put>
    where
        Auto: Codec<T>,
    {
        self.dict.with_key::<str, _>(name, |segment, hash, key| {
            let put = |encoded: Encoded<'_>| {
                let handles = prepare_handles(segment, self.dict.handle.hold.id(), &encoded)?;
                let bytes = [&type_of::<T>()[..], encoded.bytes()].concat();
                self.dict.put_bytes(segment, hash, key, &bytes, &handles, expect, None)
            };
            inside(segment.id(), || Auto::with_encoded(value, put))?
        })
    }
}
