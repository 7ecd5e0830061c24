//! The shared set.

use std::borrow::Borrow;

use crate::codec::{Auto, Codec, Decode, Encode, Encoded, fingerprint, inside};
use crate::dict::{Dict, Iter as DictIter, with_padded};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, handle_traits};
use crate::raw::object::Kind;
use crate::raw::table::{Expect, Pair};
use crate::storing::prepare_handles;

/// A hash set in shared memory.
///
/// Elements go in by their codec, and two are equal if their encoded forms are. Fixed-size elements of up to 24 bytes are
/// stored in the hash buckets, others in blocks of their own. Handles are elements like any other, and equal if they name
/// the same object; the set keeps what they name alive.
///
/// # Crash
/// Inserting and removing one element is all or nothing when its process is killed at any instruction, and holds up nobody.
/// `extend`, `clear` and the in-place algebra are many such operations; a clear that was killed is completed by whoever
/// repairs it.
///
/// # Blocking
/// Looking takes no lock and waits for nobody. Writes hold one bucket for less than a microsecond; what needs a set as it is
/// at one moment (`snapshot`, the algebra) holds off its writers while it copies.
///
/// # Complexity
/// Constant for single elements; linear in the sets for the algebra. An algebraic operation sees each set as it was at one
/// moment, two sets not at the same.
///
/// # Errors
/// `OutOfMemory`, `TooLarge`, `Encode`, `Decode`, `Corrupted`, `Evicted`.
///
/// # Examples
/// ```
/// let manager = commons::Manager::new()?;
/// let (odd, prime) = (manager.set::<u32>()?, manager.set::<u32>()?);
/// odd.extend(&[1, 3, 5, 7, 9])?;
/// prime.extend(&[2, 3, 5, 7])?;
/// let mut both = odd.intersection(&prime)?;
/// both.sort();
/// assert_eq!(both, [3, 5, 7]);
/// odd.remove(&9)?;
/// assert!(odd.remove(&9).is_err() && !odd.discard(&9)?);
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Set<T, C = Auto> {
    dict: Dict<T, (), C, Nothing>,
}

handle_traits!([T, C: Codec<T>], Set<T, C>, "Set", dict.handle);

/// The codec of a set's values: there is nothing in them.
#[derive(Debug)]
pub(crate) enum Nothing {}

impl Encode<()> for Nothing {
    fn with_encoded<R>((): &(), f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        Ok(f(Encoded::plain(&[])))
    }
}

impl Decode<()> for Nothing {
    fn fixed_len() -> Option<usize> {
        Some(0)
    }

    fn decode(_: &[u8]) -> Result<()> {
        Ok(())
    }
}

impl<T, C: Codec<T>> Set<T, C> {
    pub(crate) const KIND: Kind = Kind::Set;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["set", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn shape() -> crate::raw::table::Shape {
        Dict::<T, (), C, Nothing>::shape()
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        Ok(Set { dict: Dict::over(handle)? })
    }

    /// The same set by another handle of it.
    fn with_handle(&self, handle: Handle) -> Self {
        Set { dict: self.dict.with_handle(handle) }
    }

    /// Adds `element`. Whether it is new.
    #[inline]
    pub fn insert<Q: ?Sized>(&self, element: &Q) -> Result<bool>
    where
        T: Borrow<Q>,
        C: Encode<Q>,
    {
        let segment = self.dict.segment()?;
        let add = |encoded: Encoded<'_>| {
            with_padded(Self::shape(), encoded.bytes(), |key| {
                let handles = prepare_handles(segment, self.dict.handle.hold.id(), &encoded)?;
                let hash = segment.hash(key);
                let put = self.dict.put_bytes(segment, hash, key, &[], &handles, Expect::Absent, None)?;
                Ok(!put.existed)
            })
        };
        inside(segment.id(), || C::with_encoded(element, add))?
    }

    /// Whether `element` is in the set.
    #[inline]
    pub fn contains<Q: ?Sized>(&self, element: &Q) -> Result<bool>
    where
        T: Borrow<Q>,
        C: Encode<Q>,
    {
        inside(self.dict.segment()?.id(), || self.dict.contains(element))
    }

    /// Removes `element`. Whether it was there.
    pub fn discard<Q: ?Sized>(&self, element: &Q) -> Result<bool>
    where
        T: Borrow<Q>,
        C: Encode<Q>,
    {
        inside(self.dict.segment()?.id(), || self.dict.remove(element))
    }

    /// Removes `element`, which must be there.
    ///
    /// # Errors
    /// `NotFound` if it is not.
    pub fn remove<Q: ?Sized>(&self, element: &Q) -> Result<()>
    where
        T: Borrow<Q>,
        C: Encode<Q>,
    {
        match self.discard(element)? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::NotFound, "an element of a set")),
        }
    }

    /// Removes some element and returns it; `None` if the set is empty.
    ///
    /// # Complexity
    /// Linear in the empty buckets before the first element, in iteration order.
    pub fn pop(&self) -> Result<Option<T>> {
        Ok(self.dict.pop_item()?.map(|(element, ())| element))
    }

    /// Number of elements; exact while nobody writes.
    pub fn len(&self) -> Result<u64> {
        self.dict.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> Result<bool> {
        self.dict.is_empty()
    }

    /// Removes all elements.
    pub fn clear(&self) -> Result<()> {
        self.dict.clear()
    }

    /// Adds all of `elements` (Python's `update`), one by one.
    pub fn extend<'a>(&self, elements: impl IntoIterator<Item = &'a T>) -> Result<()>
    where
        T: 'a,
    {
        elements.into_iter().try_for_each(|element| self.insert(element).map(drop))
    }

    /// All elements, while others read and write: one that is there throughout comes exactly once, one that comes or goes
    /// meanwhile at most once.
    ///
    /// # Complexity
    /// Memory for the elements of one bucket.
    pub fn iter(&self) -> Elements<T, C> {
        Elements { entries: self.dict.iter() }
    }

    /// All elements as they were at one moment.
    ///
    /// # Blocking
    /// Holds off writers while it copies.
    pub fn snapshot(&self) -> Result<Vec<T>> {
        Ok(self.dict.snapshot()?.into_iter().map(|(element, ())| element).collect())
    }

    /// The elements of this set and of `other`, each once.
    pub fn union(&self, other: &Self) -> Result<Vec<T>> {
        let ours = self.dict.snapshot_keys()?;
        let theirs = other.dict.snapshot_keys()?;
        let known = keys(&ours);
        Self::decode(ours.iter().chain(theirs.iter().filter(|pair| !known.contains(pair.key()))))
    }

    /// The elements that are in both sets.
    pub fn intersection(&self, other: &Self) -> Result<Vec<T>> {
        let theirs = other.dict.snapshot_keys()?;
        let known = keys(&theirs);
        Self::decode(self.dict.snapshot_keys()?.iter().filter(|pair| known.contains(pair.key())))
    }

    /// The elements of this set that are not in `other`.
    pub fn difference(&self, other: &Self) -> Result<Vec<T>> {
        let theirs = other.dict.snapshot_keys()?;
        let known = keys(&theirs);
        Self::decode(self.dict.snapshot_keys()?.iter().filter(|pair| !known.contains(pair.key())))
    }

    /// The elements that are in one of the sets and not in the other.
    pub fn symmetric_difference(&self, other: &Self) -> Result<Vec<T>> {
        let (ours, theirs) = (self.dict.snapshot_keys()?, other.dict.snapshot_keys()?);
        let (our_keys, their_keys) = (keys(&ours), keys(&theirs));
        let only_ours = ours.iter().filter(|pair| !their_keys.contains(pair.key()));
        Self::decode(only_ours.chain(theirs.iter().filter(|pair| !our_keys.contains(pair.key()))))
    }

    /// Adds the elements of `other` (Python's `|=`).
    ///
    /// # Crash
    /// As [`extend`](Set::extend); so are the other in-place forms.
    pub fn union_with(&self, other: &Self) -> Result<()> {
        // By value: what a handle names is marked as held by this set, too.
        other.snapshot()?.iter().try_for_each(|element| self.insert(element).map(drop))
    }

    /// Removes the elements that are not in `other` (Python's `&=`).
    pub fn intersect_with(&self, other: &Self) -> Result<()> {
        let theirs = other.dict.snapshot_keys()?;
        let known = keys(&theirs);
        let ours = self.dict.snapshot_keys()?;
        ours.iter().filter(|pair| !known.contains(pair.key())).try_for_each(|pair| self.take_out(pair))
    }

    /// Removes the elements of `other` (Python's `-=`).
    pub fn difference_with(&self, other: &Self) -> Result<()> {
        other.dict.snapshot_keys()?.iter().try_for_each(|pair| self.take_out(pair))
    }

    /// Removes the elements that are in both, and adds those that are in `other` alone (Python's `^=`).
    pub fn symmetric_difference_with(&self, other: &Self) -> Result<()> {
        let ours = self.dict.snapshot_keys()?;
        let known = keys(&ours);
        for pair in &other.dict.snapshot_keys()? {
            if known.contains(pair.key()) {
                self.take_out(pair)?;
            } else {
                self.insert(&Dict::<T, (), C, Nothing>::decode_key(pair)?)?;
            }
        }
        Ok(())
    }

    /// Whether every element is in `other`.
    pub fn is_subset(&self, other: &Self) -> Result<bool> {
        for pair in &self.dict.snapshot_keys()? {
            if !other.dict.contains_bytes(pair.key())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether every element of `other` is in this set.
    pub fn is_superset(&self, other: &Self) -> Result<bool> {
        other.is_subset(self)
    }

    /// Whether no element is in `other`.
    pub fn is_disjoint(&self, other: &Self) -> Result<bool> {
        for pair in &self.dict.snapshot_keys()? {
            if other.dict.contains_bytes(pair.key())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether both sets have the same elements; `==` asks whether they are the same set.
    pub fn has_same_elements(&self, other: &Self) -> Result<bool> {
        let (ours, theirs) = (self.dict.snapshot_keys()?, other.dict.snapshot_keys()?);
        Ok(keys(&ours) == keys(&theirs))
    }

    fn take_out(&self, pair: &Pair) -> Result<()> {
        self.dict.remove_bytes(pair.key()).map(drop)
    }

    /// The elements; without those whose object went with them since they were copied.
    fn decode<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Result<Vec<T>> {
        pairs
            .map(Dict::<T, (), C, Nothing>::decode_key)
            .filter(|element| !matches!(element, Err(e) if e.kind() == ErrorKind::Stale))
            .collect()
    }
}

fn keys(pairs: &[Pair]) -> std::collections::HashSet<&[u8]> {
    pairs.iter().map(Pair::key).collect()
}

/// Iterator over the elements of a [`Set`]; see [`Set::iter`].
pub struct Elements<T, C = Auto> {
    entries: DictIter<T, (), C, Nothing>,
}

impl<T, C: Codec<T>> Iterator for Elements<T, C> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next().map(|entry| entry.map(|(element, ())| element))
    }
}
