//! The shared list.
//!
//! | file | one idea |
//! |---|---|
//! | `mod` | [`List`]: elements by their index, and ranges |
//! | `whole` | what changes, copies or searches all of it |
//! | `iter` | iteration |

mod iter;
mod whole;

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use crate::codec::{Auto, Codec, Encoded, fingerprint, inside};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, handle_traits};
use crate::mem::{Segment, Step};
use crate::raw::list::{self, End, Items, Place, Snapshot, Taken};
use crate::raw::object::Kind;
use crate::raw::table::Expect;
use crate::raw::{collect, recovery};
use crate::storing::{Tries, fresh, prepare_handles, with_room};

pub use self::iter::Iter;

/// A sequence in shared memory.
///
/// Elements go in and out by their codec. Those of a fixed length of up to eight bytes are stored in place, others in blocks
/// of their own. Two elements are equal, for [`index_of`](List::index_of) and the like, if their encoded forms are; handles
/// are if they name the same object. The list keeps alive what the handles in it name, itself included, until nobody can
/// reach it.
///
/// # Crash
/// Every operation is all or nothing when its process is killed at any instruction, also those of many elements: `extend`,
/// `sort`, replacing a range, `clear`. It holds up nobody.
///
/// # Blocking
/// Reading takes no lock and waits for nobody, but for what copies or searches the whole list and has lost to writers again
/// and again: that holds writers off once. Writers take turns. Closures run outside every lock.
///
/// # Complexity
/// Constant: `get`, `set`, `len`, `push`, `pop` and `pop_front`, `push` amortised. Linear, with a copy of eight bytes for
/// each element: everything that inserts, removes or reorders elsewhere. A list has room for 67 million elements.
///
/// # Errors
/// `OutOfRange` for an index, or the end of a range, beyond the end. `OutOfMemory`, `TooLarge`, `Encode`, `Decode`,
/// `Corrupted`, `Evicted`; an operation that fails has had no effect.
///
/// # Examples
/// ```
/// let list = commons::Manager::new()?.list::<String>()?;
/// list.extend(&["c".into(), "a".into()])?;
/// list.push(&"b".into())?;
/// list.sort()?;
/// assert_eq!(list.snapshot()?, ["a", "b", "c"]);
/// assert_eq!(list.get_range(1..)?, ["b", "c"]);
/// assert_eq!(list.pop()?.as_deref(), Some("c"));
/// # Ok::<(), commons::Error>(())
/// ```
pub struct List<T, C = Auto> {
    handle: Handle,
    list: list::List,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], List<T, C>, "List");

thread_local! {
    /// Where elements are copied to before they are decoded. Taken out while in use, so decoding may look things up.
    static SCRATCH: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// Scratch space larger than this is given back after use.
const SCRATCH_KEPT: usize = 8192;

fn with_scratch<R>(f: impl FnOnce(&mut Vec<u64>) -> R) -> R {
    let mut words = SCRATCH.try_with(Cell::take).unwrap_or_default();
    let result = f(&mut words);
    if words.capacity() <= SCRATCH_KEPT {
        let _ = SCRATCH.try_with(|scratch| scratch.set(words));
    }
    result
}

/// The first `length` bytes of whole words.
fn bytes_of(words: &[u64], length: usize) -> &[u8] {
    &zerocopy::IntoBytes::as_bytes(words)[..length]
}

/// Where the bounds of a range are in a list.
fn place(range: impl RangeBounds<u64>) -> Result<Place> {
    let beyond = || Error::new(ErrorKind::OutOfRange, "a range that ends behind the last number");
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.checked_add(1).ok_or_else(beyond)?,
        Bound::Unbounded => 0,
    };
    Ok(match range.end_bound() {
        Bound::Included(end) => Place::Range(start, end.checked_add(1).ok_or_else(beyond)?),
        Bound::Excluded(end) => Place::Range(start, *end),
        Bound::Unbounded => Place::From(start),
    })
}

impl<T, C: Codec<T>> List<T, C> {
    pub(crate) const KIND: Kind = Kind::List;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["list", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    /// Whether elements are blocks.
    #[inline(always)]
    pub(crate) fn is_boxed() -> bool {
        C::fixed_len().is_none_or(|len| len > 8)
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        let list = list::List::open(handle.hold.segment()?, handle.root)?;
        if list.is_boxed() != Self::is_boxed() {
            return Err(Error::corrupted("the form of a list"));
        }
        Ok(List { handle, list, types: PhantomData })
    }

    /// The same list by another handle of it: nothing is read again.
    fn with_handle(&self, handle: Handle) -> Self {
        List { handle, list: self.list, types: PhantomData }
    }

    #[inline(always)]
    fn segment(&self) -> Result<&Segment> {
        self.handle.hold.segment()
    }

    /// Calls `f` with an encoded element.
    #[inline(always)]
    fn encoded<R>(segment: &Segment, element: &T, f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        match Self::is_boxed() {
            true => inside(segment.id(), || C::with_encoded(element, f)),
            false => C::with_encoded(element, f),
        }
    }

    #[inline(always)]
    fn decode(bytes: &[u8]) -> Result<T> {
        match C::fixed_len() {
            Some(len) if len < bytes.len() => C::decode(&bytes[..len]),
            _ => C::decode(bytes),
        }
    }

    /// Encodes elements, and marks what they hold.
    fn items<'a>(&self, segment: &Segment, elements: impl IntoIterator<Item = &'a T>) -> Result<Items>
    where
        T: 'a,
    {
        let mut items = Items::default();
        for element in elements {
            Self::encoded(segment, element, |encoded| {
                items.push(encoded.bytes(), &prepare_handles(segment, self.handle.hold.id(), &encoded)?);
                Ok::<_, Error>(())
            })??;
        }
        Ok(items)
    }

    /// Runs a change of which `dropped` tells whether handles went with it.
    fn change<R>(
        segment: &Segment,
        mut change: impl FnMut(&crate::mem::Me<'_>) -> Step<R>,
        dropped: impl Fn(&R) -> bool,
    ) -> Result<R> {
        let result = with_room(segment, || recovery::run(segment, |me| change(me)))?;
        if dropped(&result) {
            collect::note_garbage(segment)?;
        }
        Ok(result)
    }

    /// Number of elements.
    pub fn len(&self) -> Result<u64> {
        self.list.len(self.segment()?)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The element at `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Result<T> {
        let segment = self.segment()?;
        if !Self::is_boxed() {
            return Self::decode(&self.list.get_word(segment, index)?.to_le_bytes());
        }
        fresh(|| Ok(self.with_bytes(segment, index, C::decode)??))
    }

    /// What `read` makes of the bytes of the element at `index`.
    fn with_bytes<R>(&self, segment: &Segment, index: u64, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if !Self::is_boxed() {
            return Ok(read(&self.list.get_word(segment, index)?.to_le_bytes()));
        }
        with_scratch(|words| {
            let length = self.list.get_block(segment, index, words)?;
            Ok(read(bytes_of(words, length)))
        })
    }

    /// Sets the element at `index`.
    #[inline]
    pub fn set(&self, index: u64, element: &T) -> Result<()> {
        self.set_if(index, element, Expect::Any).map(drop)
    }

    fn set_if(&self, index: u64, element: &T, expect: Expect<'_>) -> Result<bool> {
        let segment = self.segment()?;
        Self::encoded(segment, element, |encoded| {
            let handles = prepare_handles(segment, self.handle.hold.id(), &encoded)?;
            let set = |me: &crate::mem::Me<'_>| self.list.set(me, index, encoded.bytes(), &handles, expect);
            Ok(Self::change(segment, set, |changed| changed.dropped_handles)?.done)
        })?
    }

    /// Changes the element at `index` as one step: `change` gets the present one and returns the next. It runs outside
    /// every lock, again if somebody else was quicker. Returns what it returned.
    pub fn update(&self, index: u64, mut change: impl FnMut(T) -> T) -> Result<T> {
        let segment = self.segment()?;
        let mut tries = Tries::default();
        loop {
            tries.another()?;
            let old = self.with_bytes(segment, index, <[u8]>::to_vec)?;
            let Some(present) = still_there(Self::decode(&old))? else { continue };
            let next = change(present);
            if self.set_if(index, &next, Expect::Value(&old))? {
                return Ok(next);
            }
        }
    }

    /// Appends an element (Python's `append`).
    #[inline]
    pub fn push(&self, element: &T) -> Result<()> {
        let segment = self.segment()?;
        Self::encoded(segment, element, |encoded| {
            let handles = prepare_handles(segment, self.handle.hold.id(), &encoded)?;
            with_room(segment, || recovery::run(segment, |me| self.list.push(me, encoded.bytes(), &handles)))
        })?
    }

    /// Appends all of `elements`, as one step.
    pub fn extend<'a>(&self, elements: impl IntoIterator<Item = &'a T>) -> Result<()>
    where
        T: 'a,
    {
        let segment = self.segment()?;
        let items = self.items(segment, elements)?;
        match items.len() {
            0 => Ok(()),
            _ => with_room(segment, || recovery::run(segment, |me| self.list.extend(me, &items))),
        }
    }

    /// Appends the elements that `other` has at one moment (Python's `+=`), as one step. `other` may be this list.
    pub fn extend_from(&self, other: &Self) -> Result<()> {
        self.extend(&other.snapshot()?)
    }

    /// Inserts an element before the one at `index`, or at the end if `index` is the length.
    pub fn insert(&self, index: u64, element: &T) -> Result<()> {
        self.replace(Place::At(index), [element])
    }

    /// Removes the last element and returns it; `None` if there is none.
    pub fn pop(&self) -> Result<Option<T>> {
        self.take(|me, expect, out| self.list.pop(me, End::Back, expect, out), || Ok(self.len()?.saturating_sub(1)))
    }

    /// Removes the first element and returns it; `None` if there is none.
    pub fn pop_front(&self) -> Result<Option<T>> {
        self.take(|me, expect, out| self.list.pop(me, End::Front, expect, out), || Ok(0))
    }

    /// Removes the element at `index` and returns it (Python's `pop(i)`).
    pub fn pop_at(&self, index: u64) -> Result<T> {
        let taken = self.take(|me, expect, out| self.list.take(me, index, expect, out), || Ok(index))?;
        taken.ok_or_else(|| Error::corrupted("an element that is there and is not"))
    }

    /// Takes an element out by `take`; if it holds handles, only once this process holds what they name: then it is first
    /// looked at, where `index` says.
    fn take(
        &self,
        take: impl Fn(&crate::mem::Me<'_>, Expect<'_>, &mut Vec<u64>) -> Step<Taken>,
        index: impl Fn() -> Result<u64>,
    ) -> Result<Option<T>> {
        let segment = self.segment()?;
        let mut tries = Tries::default();
        let mut out = Vec::new();
        loop {
            tries.another()?;
            match with_room(segment, || recovery::run(segment, |me| take(me, Expect::Any, &mut out)))? {
                Taken::Nothing => return Ok(None),
                Taken::Element(length, _) => return Self::decode(bytes_of(&out, length)).map(Some),
                Taken::Bears | Taken::Unequal => {}
            }
            let old = match self.with_bytes(segment, index()?, <[u8]>::to_vec) {
                Err(e) if e.kind() == ErrorKind::OutOfRange => continue, // it has become shorter
                old => old?,
            };
            let Some(present) = still_there(Self::decode(&old))? else { continue };
            let again = with_room(segment, || recovery::run(segment, |me| take(me, Expect::Value(&old), &mut out)))?;
            if matches!(again, Taken::Element(..)) {
                collect::note_garbage(segment)?;
                return Ok(Some(present));
            }
        }
    }

    /// Removes the first element that equals `element`.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn remove(&self, element: &T) -> Result<()> {
        let segment = self.segment()?;
        let removed = Self::encoded(segment, element, |encoded| {
            if self.list.position(segment, encoded.bytes(), 0)?.is_none() {
                return Ok(None); // without building anything
            }
            let remove = |me: &crate::mem::Me<'_>| self.list.remove(me, encoded.bytes());
            Self::change(segment, remove, |dropped| *dropped == Some(true))
        })??;
        removed.map(drop).ok_or_else(|| Error::new(ErrorKind::NotFound, "an element of a list"))
    }

    /// Removes the element at `index` (Python's `del l[i]`).
    pub fn remove_at(&self, index: u64) -> Result<()> {
        let end = index.checked_add(1).ok_or_else(|| Error::new(ErrorKind::OutOfRange, "the last number"))?;
        self.replace(Place::Range(index, end), [])
    }

    /// Removes the elements in `range` (Python's `del l[a:b]`), as one step.
    pub fn remove_range(&self, range: impl RangeBounds<u64>) -> Result<()> {
        self.replace(place(range)?, [])
    }

    /// The elements in `range`, as they were at one moment (Python's `l[a:b]`).
    pub fn get_range(&self, range: impl RangeBounds<u64>) -> Result<Vec<T>> {
        let place = place(range)?;
        let segment = self.segment()?;
        fresh(|| {
            Ok(Self::decode_all(&self.list.snapshot(segment, |len| place.in_list_of(len))?).collect::<Result<_>>()?)
        })
    }

    /// Puts `elements`, any number of them, in the place of those in `range` (Python's `l[a:b] = ...`), as one step.
    pub fn set_range<'a>(&self, range: impl RangeBounds<u64>, elements: impl IntoIterator<Item = &'a T>) -> Result<()>
    where
        T: 'a,
    {
        self.replace(place(range)?, elements)
    }

    fn replace<'a>(&self, place: Place, elements: impl IntoIterator<Item = &'a T>) -> Result<()>
    where
        T: 'a,
    {
        let segment = self.segment()?;
        let items = self.items(segment, elements)?;
        Self::change(segment, |me| self.list.splice(me, place, &items), |dropped| *dropped).map(drop)
    }

    /// Removes all elements, as one step.
    pub fn clear(&self) -> Result<()> {
        let segment = self.segment()?;
        Self::change(segment, |me| self.list.clear(me), |dropped| *dropped).map(drop)
    }

    /// All elements as they were at one moment (Python's `copy`).
    pub fn snapshot(&self) -> Result<Vec<T>> {
        self.get_range(..)
    }

    fn all(&self) -> Result<Snapshot> {
        self.list.snapshot(self.segment()?, |len| Ok(0..len))
    }

    fn decode_all(snapshot: &Snapshot) -> impl Iterator<Item = Result<T>> {
        (0..snapshot.len()).map(|i| Self::decode(snapshot.get(i)))
    }
}

/// What was decoded; `None` if its object went with it since it was copied.
fn still_there<T>(decoded: Result<T>) -> Result<Option<T>> {
    match decoded {
        Err(e) if e.kind() == ErrorKind::Stale => Ok(None),
        decoded => decoded.map(Some),
    }
}
