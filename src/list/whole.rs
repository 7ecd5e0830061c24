//! What changes a list as a whole, in one step, copies it or searches it.

use std::cmp::Ordering;

use super::{List, still_there};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::mem::Me;
use crate::raw::list::Place;

/// How often sorting may begin again because somebody has changed the list.
const SORTS: u32 = 1000;

impl<T, C: Codec<T>> List<T, C> {
    /// Reverses the order of the elements, as one step.
    pub fn reverse(&self) -> Result<()> {
        let segment = self.segment()?;
        Self::change(segment, |me| self.list.reverse(me), |()| false)
    }

    /// Sorts the elements, as one step; equal ones keep their order.
    ///
    /// # Errors
    /// `Contended` if others change the list all the time.
    pub fn sort(&self) -> Result<()>
    where
        T: Ord,
    {
        self.sort_by(T::cmp)
    }

    /// Sorts the elements by `compare`, as one step; equal ones keep their order. `compare` runs outside every lock, and once
    /// more if the list was changed meanwhile.
    ///
    /// # Errors
    /// `Contended` if others change the list all the time.
    pub fn sort_by(&self, mut compare: impl FnMut(&T, &T) -> Ordering) -> Result<()> {
        let segment = self.segment()?;
        for _ in 0..SORTS {
            let snapshot = self.all()?;
            let Some(elements) = still_there(Self::decode_all(&snapshot).collect::<Result<Vec<T>>>())? else {
                continue;
            };
            let mut order: Vec<u32> = (0..elements.len() as u32).collect();
            order.sort_by(|a, b| compare(&elements[*a as usize], &elements[*b as usize]));
            if order.is_sorted() {
                return Ok(()); // LINEARIZES: at the snapshot
            }
            let sequence = snapshot.sequence();
            if Self::change(segment, |me| self.list.rearrange(me, sequence, &order), |_| false)? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Contended, "sorting a list that never rests"))
    }

    /// Repeats the elements until each is there `times` times (Python's `*=`), as one step.
    ///
    /// # Errors
    /// `Contended` if others change the list all the time.
    pub fn repeat(&self, times: usize) -> Result<()> {
        let segment = self.segment()?;
        if times == 0 {
            return self.clear();
        }
        for _ in 0..SORTS {
            let snapshot = self.all()?;
            let Some(elements) = still_there(Self::decode_all(&snapshot).collect::<Result<Vec<T>>>())? else {
                continue;
            };
            let mut items = self.items(segment, &elements)?;
            let len = items.len();
            match times {
                1 => return Ok(()),
                _ => (2..times).for_each(|_| items.repeat(0..len)),
            }
            let end = Place::At(len as u64);
            let splice = |me: &Me<'_>| self.list.splice_if(me, end, &items, Some(snapshot.sequence()));
            if Self::change(segment, splice, |_| false)?.is_some() {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Contended, "repeating a list that never rests"))
    }

    /// The elements of this list and behind them those of `other` (Python's `+`), each list as it was at one moment.
    pub fn concat(&self, other: &Self) -> Result<Vec<T>> {
        let mut elements = self.snapshot()?;
        elements.extend(other.snapshot()?);
        Ok(elements)
    }

    /// The elements `times` times over (Python's `*`), as they were at one moment.
    pub fn repeated(&self, times: usize) -> Result<Vec<T>> {
        let snapshot = self.all()?;
        let mut elements = Vec::new();
        for _ in 0..times {
            for element in Self::decode_all(&snapshot) {
                elements.extend(still_there(element)?);
            }
        }
        Ok(elements)
    }

    /// The index of the first element that equals `element`; `None` if there is none.
    pub fn index_of(&self, element: &T) -> Result<Option<u64>> {
        self.index_of_from(element, 0)
    }

    /// The index of the first element from `start` on that equals `element`.
    pub fn index_of_from(&self, element: &T, start: u64) -> Result<Option<u64>> {
        let segment = self.segment()?;
        Self::encoded(segment, element, |encoded| self.list.position(segment, encoded.bytes(), start))?
    }

    /// Whether some element equals `element`.
    pub fn contains(&self, element: &T) -> Result<bool> {
        Ok(self.index_of(element)?.is_some())
    }

    /// How many elements equal `element`.
    pub fn count(&self, element: &T) -> Result<u64> {
        let segment = self.segment()?;
        Self::encoded(segment, element, |encoded| self.list.count(segment, encoded.bytes()))?
    }
}
