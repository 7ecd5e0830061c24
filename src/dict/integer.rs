//! Numbers that are added to in one step.

use std::borrow::Borrow;

use super::Dict;
use crate::codec::{Auto, Codec, Encode};
use crate::error::{Error, Result};
use crate::raw::recovery;
use crate::raw::table::{Shape, ValueCopy};

/// Integers that a dict can add to in one step.
pub trait Integer: Copy + sealed::Sealed {
    /// Zero-extended to a word.
    #[doc(hidden)]
    fn to_word(self) -> u64;
    /// From the low bits of a word.
    #[doc(hidden)]
    fn from_word(word: u64) -> Self;
    /// The bits of a word that it uses.
    #[doc(hidden)]
    const MASK: u64;
    /// The sum, wrapping.
    #[doc(hidden)]
    fn add(self, other: Self) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($t:ty as $u:ty),*) => {$(
        impl sealed::Sealed for $t {}
        impl Integer for $t {
            fn to_word(self) -> u64 {
                u64::from(self as $u)
            }
            fn from_word(word: u64) -> Self {
                word as $t
            }
            const MASK: u64 = <$u>::MAX as u64;
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
        }
    )*};
}
integers!(u8 as u8, u16 as u16, u32 as u32, u64 as u64, i8 as u8, i16 as u16, i32 as u32, i64 as u64);

impl<K, V: Integer, KC: Codec<K>> Dict<K, V, KC, Auto>
where
    Auto: Codec<V>,
{
    /// Adds `number` to the value of `key`, wrapping, as one step; a missing value counts as 0. Returns the value before.
    ///
    /// # Examples
    /// ```
    /// let hits = commons::Manager::new()?.dict::<String, u64>()?;
    /// assert_eq!(hits.fetch_add("/", 1)?, 0);
    /// assert_eq!(hits.fetch_add("/", 1)?, 1);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn fetch_add<Q: ?Sized>(&self, key: &Q, number: V) -> Result<V>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        if matches!(Self::shape(), Shape::Boxed) {
            let mut before = V::from_word(0);
            self.update(key, |old| {
                before = old.unwrap_or(V::from_word(0));
                Some(before.add(number))
            })?;
            return Ok(before);
        }
        self.with_key(key, |segment, hash, key| {
            let mut old = ValueCopy::default();
            let put = recovery::run(segment, |me| self.table.add(me, hash, key, number.to_word(), V::MASK, &mut old))?;
            let put = self.after(segment, put)?;
            let word = old.bytes().try_into().map(u64::from_le_bytes);
            Ok(V::from_word(if put.existed { word.map_err(|_| Error::corrupted("a counter"))? } else { 0 }))
        })
    }
}
