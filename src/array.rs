//! The shared array.

use std::marker::PhantomData;
use std::ops::{Bound, Deref, Range, RangeBounds};
use std::sync::atomic::Ordering;
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::codec::fingerprint;
use crate::dict::Integer;
use crate::error::{Error, ErrorKind, Result};
use crate::guarded::Made;
use crate::handle::{Handle, handle_traits};
use crate::lock::{Held, hold};
use crate::mem::{Segment, Word};
use crate::raw::array::{self, Area};
use crate::raw::object::Kind;
use crate::raw::wait::Deadline;
use crate::raw::{cell, lock};

/// What an [`Array`] may hold: plain data of which every bit pattern is a value, 1, 2, 4 or 8 bytes long. All numbers are;
/// own types are if they derive zerocopy's traits.
pub trait Element: Copy + FromBytes + IntoBytes + Immutable + 'static {}

impl<T: Copy + FromBytes + IntoBytes + Immutable + 'static> Element for T {}

/// Numbers in place, in shared memory.
///
/// Each element is read and written atomically, also where others write its neighbours: several processes may fill an array
/// in parallel. Several elements are not one step; who needs that takes the array's [`lock`](Array::lock), and agrees with
/// the others to do so.
///
/// # Crash
/// A kill leaves each element as it was or as it was to be, never torn; of a range that was being written, any part. A lock
/// whose holder dies is taken over by the next, who is told so.
///
/// # Blocking
/// Nothing waits but for the lock.
///
/// # Complexity
/// Constant for one element, linear for ranges.
///
/// # Errors
/// `OutOfRange` for an index, or the end of a range, beyond the end; `Corrupted`, `Evicted`.
///
/// # Examples
/// ```
/// let squares = commons::Manager::new()?.array::<u32>(10)?;
/// for i in 0..10 {
///     squares.set(i, (i * i) as u32)?;
/// }
/// assert_eq!(squares.get_range(7..)?, [49, 64, 81]);
/// squares.lock()?.into_guard().with(.., |all| all.reverse())?;
/// assert_eq!(squares.get(0)?, 81);
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Array<T> {
    handle: Handle,
    area: Area,
    types: PhantomData<fn() -> T>,
}

handle_traits!([T: Element], Array<T>, "Array");

/// The bytes that a range of elements of `size` bytes takes, in an area of `len` elements.
pub(crate) fn bytes_of(range: impl RangeBounds<u64>, len: u64, size: u64) -> Result<Range<u64>> {
    let start = match range.start_bound() {
        Bound::Included(start) => Some(*start),
        Bound::Excluded(start) => start.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.checked_add(1),
        Bound::Excluded(end) => Some(*end),
        Bound::Unbounded => Some(len),
    };
    match (start, end) {
        (Some(start), Some(end)) if start <= end && end <= len => Ok(start * size..end * size),
        _ => Err(Error::new(
            ErrorKind::OutOfRange,
            format!("from {:?} to {:?} of {len}", range.start_bound(), range.end_bound()),
        )),
    }
}

impl<T: Element> Array<T> {
    pub(crate) const KIND: Kind = Kind::Array;

    const SIZE: u64 = {
        assert!(matches!(size_of::<T>(), 1 | 2 | 4 | 8), "an array's elements have 1, 2, 4 or 8 bytes");
        size_of::<T>() as u64
    };

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["array", std::any::type_name::<T>()])
    }

    /// The bytes of `len` elements.
    pub(crate) fn bytes_for(len: u64) -> Result<u64> {
        len.checked_mul(Self::SIZE)
            .ok_or_else(|| Error::new(ErrorKind::TooLarge, format!("an array of {len} elements")))
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        let area = Area::open(handle.hold.segment()?, handle.root)?;
        Ok(Array { handle, area, types: PhantomData })
    }

    /// The same array by another handle of it: nothing is read again.
    fn with_handle(&self, handle: Handle) -> Self {
        Array { handle, area: self.area.clone(), types: PhantomData }
    }

    #[inline(always)]
    fn segment(&self) -> Result<&Segment> {
        self.handle.hold.segment()
    }

    /// The segment, with the right to change it.
    #[inline(always)]
    fn writable(&self) -> Result<&Segment> {
        let segment = self.segment()?;
        segment.still_member()?;
        Ok(segment)
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> u64 {
        self.area.len() / Self::SIZE
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The word that holds the element at `index`, how far up in it, and which bits are the element's.
    #[inline(always)]
    fn place<'a>(&self, segment: &'a Segment, index: u64) -> Result<(&'a Word, u64, u64)> {
        if index >= self.len() {
            return Err(Error::new(ErrorKind::OutOfRange, format!("index {index} of an array of {}", self.len())));
        }
        let at = index * Self::SIZE;
        let shift = at % 8 * 8;
        Ok((self.area.word(segment, at - at % 8)?, shift, (u64::MAX >> (64 - 8 * Self::SIZE)) << shift))
    }

    #[inline(always)]
    fn to_word(element: &T) -> u64 {
        let mut bytes = [0; 8];
        bytes[..size_of::<T>()].copy_from_slice(element.as_bytes());
        u64::from_le_bytes(bytes)
    }

    #[inline(always)]
    fn from_word(word: u64) -> Result<T> {
        T::read_from_bytes(&word.to_le_bytes()[..size_of::<T>()]).map_err(|_| Error::corrupted("an element's size"))
    }

    /// The element at `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Result<T> {
        let (word, shift, _) = self.place(self.segment()?, index)?;
        Self::from_word(word.load(Ordering::Acquire) >> shift)
    }

    /// Sets the element at `index`.
    #[inline]
    pub fn set(&self, index: u64, element: T) -> Result<()> {
        let (word, shift, mask) = self.place(self.writable()?, index)?;
        let value = Self::to_word(&element) << shift;
        match mask {
            u64::MAX => word.store(value, Ordering::Release), // LINEARIZES: set
            _ => array::merge(word, mask, value),
        }
        Ok(())
    }

    /// Changes the element at `index` as one step: `change` gets the present one and returns the next. It is called again
    /// if somebody else was quicker. Returns the element before.
    pub fn fetch_update(&self, index: u64, mut change: impl FnMut(T) -> T) -> Result<T> {
        let (word, shift, mask) = self.place(self.writable()?, index)?;
        let before = array::update(word, mask, |seen| {
            let next = change(Self::from_word(seen >> shift).ok()?);
            Some(Self::to_word(&next) << shift)
        });
        Self::from_word(before.unwrap_or_else(|found| found) >> shift)
    }

    /// The elements in `range`, each of them as it is at some moment.
    pub fn get_range(&self, range: impl RangeBounds<u64>) -> Result<Vec<T>> {
        let range = bytes_of(range, self.len(), Self::SIZE)?;
        let mut elements = vec![T::new_zeroed(); ((range.end - range.start) / Self::SIZE) as usize];
        self.area.read(self.segment()?, range.start, elements.as_mut_bytes())?;
        Ok(elements)
    }

    /// All elements, each of them as it is at some moment.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        self.get_range(..)
    }

    /// Sets the elements from `start` on to those of `elements`, one after the other.
    pub fn set_range(&self, start: u64, elements: &[T]) -> Result<()> {
        let end = start.saturating_add(elements.len() as u64);
        let range = bytes_of(start..end, self.len(), Self::SIZE)?;
        self.area.write_bytes(self.writable()?, range.start, elements.as_bytes())
    }

    /// Sets the elements in `range` to `element`, one after the other.
    pub fn fill(&self, range: impl RangeBounds<u64>, element: T) -> Result<()> {
        let range = bytes_of(range, self.len(), Self::SIZE)?;
        let ones = u64::MAX / (u64::MAX >> (64 - 8 * Self::SIZE)); // a one at the beginning of each element
        let word = Self::to_word(&element).wrapping_mul(ones);
        self.area.write(self.writable()?, range, |_| word)
    }

    /// The elements in order, each of them as it is when its turn comes.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Result<T>> + ExactSizeIterator + use<'_, T> {
        (0..self.len() as usize).map(|index| self.get(index as u64))
    }

    /// Waits for the array's lock.
    ///
    /// # Blocking
    /// As [`Lock::lock`](crate::Lock::lock).
    ///
    /// # Errors
    /// `WouldDeadlock` when the calling thread holds it already.
    pub fn lock(&self) -> Result<Held<ArrayGuard<'_, T>>> {
        let held = self.take(Deadline::NEVER)?;
        held.ok_or_else(|| Error::new(ErrorKind::Stalled, "a wait without end that ended"))
    }

    /// Waits for the array's lock for at most `timeout`; `None` if it passes.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<Held<ArrayGuard<'_, T>>>> {
        self.take(Deadline::after(timeout))
    }

    /// Takes the array's lock if it is free; `None` if it is not.
    pub fn try_lock(&self) -> Result<Option<Held<ArrayGuard<'_, T>>>> {
        self.lock_timeout(Duration::ZERO)
    }

    fn take(&self, deadline: Deadline) -> Result<Option<Held<ArrayGuard<'_, T>>>> {
        let held = hold(self.segment()?, self.handle.root, deadline)?;
        Ok(held.map(|held| held.map(|holder| ArrayGuard { array: self, holder, made: Made::here() })))
    }
}

impl<T: Element + Integer> Array<T> {
    /// Adds `number` to the element at `index`, wrapping, as one step. Returns the element before.
    #[inline]
    pub fn fetch_add(&self, index: u64, number: T) -> Result<T> {
        if Self::SIZE == 8 {
            let (word, ..) = self.place(self.writable()?, index)?;
            let before = word.fetch_add(Self::to_word(&number), Ordering::AcqRel); // LINEARIZES: fetch_add
            return Self::from_word(before);
        }
        self.fetch_update(index, |present| present.add(number))
    }
}

/// The right to an [`Array`] that was agreed upon; released when dropped. It can be used as the array itself.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ArrayGuard<'a, T: Element> {
    array: &'a Array<T>,
    /// How the lock word names the holder.
    holder: u64,
    made: Made,
}

impl<T: Element> ArrayGuard<'_, T> {
    /// Gives `view` a copy of the elements in `range`, and stores it back.
    ///
    /// # Crash
    /// A kill while it is stored back leaves any part of it done; the next holder is told that the last one died.
    pub fn with<R>(&self, range: impl RangeBounds<u64>, view: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        let range = bytes_of(range, self.len(), 1)?;
        let mut elements = self.get_range(range.clone())?;
        let result = view(&mut elements);
        self.set_range(range.start, &elements)?;
        Ok(result)
    }
}

impl<T: Element> Deref for ArrayGuard<'_, T> {
    type Target = Array<T>;

    fn deref(&self) -> &Array<T> {
        self.array
    }
}

impl<T: Element> Drop for ArrayGuard<'_, T> {
    fn drop(&mut self) {
        // As a lock's guard.
        if self.made.is_here()
            && let Ok(segment) = self.array.handle.hold.segment()
            && let Ok(word) = cell::lock_word(segment, self.array.handle.root)
        {
            lock::release_by(word, self.holder);
        }
    }
}

impl<T: Element> std::fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArrayGuard").field("array", self.array).finish()
    }
}
