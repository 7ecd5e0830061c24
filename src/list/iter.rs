//! Iterating over a list as it was at one moment.

use std::fmt;
use std::ops::Range;

use super::{List, still_there};
use crate::codec::{Auto, Codec};
use crate::error::{Error, Result};
use crate::raw::list::Snapshot;

impl<T, C: Codec<T>> List<T, C> {
    /// The elements as they are now, in order or, by `rev`, in reverse: others may write meanwhile, and every element that is
    /// there throughout comes exactly once.
    ///
    /// # Complexity
    /// Memory for a copy of the encoded elements, which is made at once.
    pub fn iter(&self) -> Iter<T, C> {
        let (snapshot, error) = match self.all() {
            Ok(snapshot) => (snapshot, None),
            Err(error) => (Snapshot::default(), Some(error)),
        };
        Iter { list: self.clone(), left: 0..snapshot.len(), snapshot, error }
    }
}

/// Iterator over the elements of a [`List`]; see [`List::iter`].
pub struct Iter<T, C = Auto> {
    /// Holds what the elements may refer to, the list itself included.
    list: List<T, C>,
    snapshot: Snapshot,
    left: Range<usize>,
    error: Option<Error>,
}

impl<T, C: Codec<T>> Iter<T, C> {
    fn step(&mut self, mut next: impl FnMut(&mut Range<usize>) -> Option<usize>) -> Option<Result<T>> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        loop {
            let i = next(&mut self.left)?;
            // An element whose object went with it since the copy was made is there no more.
            if let Some(element) = still_there(List::<T, C>::decode(self.snapshot.get(i))).transpose() {
                return Some(element);
            }
        }
    }
}

impl<T, C: Codec<T>> Iterator for Iter<T, C> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}

impl<T, C: Codec<T>> DoubleEndedIterator for Iter<T, C> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}

impl<T, C: Codec<T>> fmt::Debug for Iter<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("list", &self.list).field("left", &self.left).finish_non_exhaustive()
    }
}
