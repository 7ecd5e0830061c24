//! Changes that depend on what is there.

use std::borrow::Borrow;

use super::Dict;
use crate::codec::{Codec, Encode, encode_inside};
use crate::error::{ErrorKind, Result};
use crate::raw::table::{Expect, ValueCopy};
use crate::storing::Tries;

/// How a [`Dict::compare_exchange`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Exchange<V> {
    /// The value was what was expected, and has been exchanged.
    Done,
    /// It was this; nothing has changed.
    Unequal(Option<V>),
}

impl<K, V, KC: Codec<K>, VC: Codec<V>> Dict<K, V, KC, VC> {
    /// The value of `key`, which is set to `value` first if it is missing (Python's `setdefault`).
    pub fn get_or_insert<Q: ?Sized>(&self, key: &Q, value: &V) -> Result<V>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        let mut tries = Tries::default();
        loop {
            tries.another()?;
            if let Some(present) = self.get(key)? {
                return Ok(present);
            }
            let put =
                self.with_key(key, |segment, hash, key| self.put(segment, hash, key, value, Expect::Absent, None))?;
            if put.done {
                // What was stored, as anybody would read it.
                return VC::with_encoded(value, |encoded| VC::decode(encoded.bytes()))?;
            }
        }
    }

    /// The value of `key`, which is made by `make` and inserted if it is missing. `make` runs outside every lock; if
    /// somebody else inserts meanwhile, theirs is returned.
    pub fn get_or_insert_with<Q: ?Sized>(&self, key: &Q, make: impl FnOnce() -> V) -> Result<V>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        match self.get(key)? {
            Some(present) => Ok(present),
            None => self.get_or_insert(key, &make()),
        }
    }

    /// Changes the value of `key` as one step: `change` gets the present value (`None` if there is none) and returns the
    /// next (`None` to remove it). It runs outside every lock, again if somebody else was quicker. Returns what it
    /// returned.
    pub fn update<Q: ?Sized>(&self, key: &Q, mut change: impl FnMut(Option<V>) -> Option<V>) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        let mut tries = Tries::default();
        self.with_key(key, |segment, hash, key| {
            loop {
                tries.another()?;
                let old = self.value_bytes(segment, hash, key)?;
                let present = match old.as_deref().map(Self::decode_value).transpose() {
                    Err(e) if e.kind() == ErrorKind::Stale => continue,
                    present => present?,
                };
                let expect = old.as_deref().map_or(Expect::Absent, Expect::Value);
                let next = change(present);
                let done = match &next {
                    Some(value) => self.put(segment, hash, key, value, expect, None)?.done,
                    None if old.is_none() => true,
                    None => self.take_out(segment, hash, key, expect)?.done,
                };
                if done {
                    return Ok(next);
                }
            }
        })
    }

    /// Sets the value of `key` to `new` if it is `expected`; `None` stands for no entry, on both sides.
    pub fn compare_exchange<Q: ?Sized>(&self, key: &Q, expected: Option<&V>, new: Option<&V>) -> Result<Exchange<V>>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        let expected = match expected {
            Some(value) => Some(encode_inside::<V, VC, _>(self.segment()?.id(), value, |e| e.bytes().to_vec())?),
            None => None,
        };
        self.with_key(key, |segment, hash, key| {
            let expect = expected.as_deref().map_or(Expect::Absent, Expect::Value);
            let mut tries = Tries::default();
            loop {
                tries.another()?;
                let mut old = ValueCopy::default();
                let put = match new {
                    Some(value) => self.put(segment, hash, key, value, expect, Some(&mut old))?,
                    None if expected.is_none() => {
                        return Ok(match self.value_bytes(segment, hash, key)? {
                            None => Exchange::Done,
                            Some(bytes) => Exchange::Unequal(Some(Self::decode_value(&bytes)?)),
                        });
                    }
                    None => self.take_out_into(segment, hash, key, expect, Some(&mut old))?,
                };
                if put.done {
                    return Ok(Exchange::Done);
                }
                match put.existed.then(|| Self::decode_value(old.bytes())).transpose() {
                    Err(e) if e.kind() == ErrorKind::Stale => {}
                    present => return Ok(Exchange::Unequal(present?)),
                }
            }
        })
    }

    /// Replaces or removes the value of `key` and returns the one before, decoded *before* it goes: a handle in it is
    /// held all the time.
    pub(super) fn exchange<'v, Q: ?Sized, R>(
        &self,
        key: &Q,
        next: impl Fn(&[u8]) -> Result<Option<&'v V>>,
        decode: impl Fn(&[u8]) -> Result<R>,
    ) -> Result<Option<R>>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
        V: 'v,
    {
        let mut tries = Tries::default();
        self.with_key(key, |segment, hash, key| {
            loop {
                tries.another()?;
                let Some(old) = self.value_bytes(segment, hash, key)? else {
                    let done = match next(&[])? {
                        Some(value) => self.put(segment, hash, key, value, Expect::Absent, None)?.done,
                        None => true,
                    };
                    if done {
                        return Ok(None);
                    }
                    continue;
                };
                let present = match decode(&old) {
                    Err(e) if e.kind() == ErrorKind::Stale => continue,
                    present => present?,
                };
                let done = match next(&old)? {
                    Some(value) => self.put(segment, hash, key, value, Expect::Value(&old), None)?.done,
                    None => self.take_out(segment, hash, key, Expect::Value(&old))?.done,
                };
                if done {
                    return Ok(Some(present));
                }
            }
        })
    }
}
