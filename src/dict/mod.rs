//! The shared dict.
//!
//! | file | one idea |
//! |---|---|
//! | `mod` | [`Dict`]: getting, setting and removing entries |
//! | `change` | changes that depend on what is there |
//! | `integer` | adding to a number |
//! | `iter` | going through all entries |

mod change;
mod integer;
mod iter;

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::Deref;

use zerocopy::IntoBytes;

use crate::codec::{Auto, Codec, Encode, Encoded, encode_inside, fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, handle_traits};
use crate::mem::Segment;
use crate::raw::object::Kind;
use crate::raw::table::{self, Expect, Pair, Put, Quick, Shape, Table, ValueCopy, by_shape};
use crate::raw::{collect, names, recovery};
use crate::storing::{Tries, fresh, prepare_handles, with_room};

pub use self::change::Exchange;
pub use self::integer::Integer;
pub use self::iter::Iter;

/// A hash map in shared memory.
///
/// Keys and values go in and come out by their codecs, `Auto` unless stated: `Dict<u64, u64>`, `Dict<String, Job>` and
/// everything else that serde knows just work. Fixed-size keys and values of up to 32 bytes together are stored in the
/// hash buckets, others in blocks of their own.
///
/// A handle is `Clone + Send + Sync` and a serde value: send it to another process by whatever means, or store it in
/// another container. Equality of handles is identity of the dict. Handles in keys and in values keep alive what they name.
///
/// # Crash
/// Every operation is all or nothing when its process is killed at any instruction, and holds up nobody: whoever next
/// needs what the dead one held repairs it in passing. `clear` and `extend` are many operations; a clear that was killed is
/// completed by whoever repairs it.
///
/// # Blocking
/// Reads take no lock and wait for nobody. Writes hold one bucket for less than a microsecond; `snapshot` holds off writers
/// while it copies.
///
/// # Complexity
/// Constant for single keys: two or three cache lines, plus those of the entry. It grows by one bucket at a time, without
/// pauses.
///
/// # Errors
/// `OutOfMemory`, `TooLarge`, `Encode`, `Decode`, `Corrupted`, `Evicted`; `InvalidInput` for a key or value with a handle of
/// another segment, whose object it could not keep alive. An operation that fails has had no effect.
///
/// # Examples
/// ```
/// let manager = commons::Manager::new()?;
/// let scores = manager.dict::<String, u32>()?;
/// scores.insert("ada", &36)?;
/// scores.update("ada", |old| Some(old.unwrap_or(0) + 1))?;
/// assert_eq!(scores.get("ada")?, Some(37));
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Dict<K, V, KC = Auto, VC = Auto> {
    pub(crate) handle: Handle,
    table: Table,
    types: PhantomData<fn() -> (K, V, KC, VC)>,
}

handle_traits!([K, V, KC: Codec<K>, VC: Codec<V>], Dict<K, V, KC, VC>, "Dict");

impl<K, V, KC: Codec<K>, VC: Codec<V>> Dict<K, V, KC, VC> {
    pub(crate) const KIND: Kind = Kind::Dict;

    pub(crate) fn fingerprint() -> u64 {
        use std::any::type_name;
        fingerprint(&["dict", type_name::<K>(), type_name::<V>(), type_name::<KC>(), type_name::<VC>()])
    }

    pub(crate) fn shape() -> Shape {
        Shape::for_lengths(KC::fixed_len(), VC::fixed_len())
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        let table = Table::open(handle.hold.segment()?, handle.root)?;
        if table.shape() != Self::shape() {
            return Err(Error::new(ErrorKind::TypeMismatch, "a dict whose entries have another shape"));
        }
        Ok(Dict { handle, table, types: PhantomData })
    }

    /// The same dict by another handle of it: nothing is read again.
    pub(crate) fn with_handle(&self, handle: Handle) -> Self {
        Dict { handle, table: self.table, types: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn segment(&self) -> Result<&Segment> {
        self.handle.hold.segment()
    }

    /// Encodes a key, padded to whole words where entries are stored in place, and hashes it.
    #[inline(always)]
    pub(crate) fn with_key<Q: ?Sized, R>(
        &self,
        key: &Q,
        f: impl FnOnce(&Segment, u64, &Key<'_>) -> Result<R>,
    ) -> Result<R>
    where
        KC: Encode<Q>,
    {
        let segment = self.segment()?;
        encode_inside::<Q, KC, _>(segment.id(), key, |encoded| {
            with_padded(Self::shape(), encoded.bytes(), |bytes| {
                f(segment, segment.hash(bytes), &Key { bytes, encoded })
            })
        })?
    }

    #[inline(always)]
    fn decode_value(bytes: &[u8]) -> Result<V> {
        VC::decode(trimmed(bytes, Self::shape(), VC::fixed_len()))
    }

    fn decode_pair(pair: &Pair) -> Result<(K, V)> {
        Ok((Self::decode_key(pair)?, Self::decode_value(pair.value())?))
    }

    /// The value of `key`.
    #[inline]
    pub fn get<Q: ?Sized>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        let segment = self.segment()?;
        by_shape!(Self::shape(),
        KEY, VALUE => {
            let key = KC::with_encoded(key, |key| table::padded_words::<KEY>(key.bytes()))?;
            match self.table.glance::<KEY, VALUE>(segment, segment.hash_words(&key), &key) {
                Some(None) => return Ok(None),
                Some(Some(value)) => {
                    if let Ok(value) = Self::decode_value(value.as_bytes()) {
                        return Ok(Some(value));
                    }
                }
                None => {}
            }
        },
        boxed => {
            // Decoded in place: a large value that is handed up through results is moved again by each.
            let mut value = None;
            let decode = |bytes: &[u8]| match Self::decode_value(bytes) {
                Ok(decoded) => {
                    value = Some(decoded);
                    true
                }
                Err(_) => false,
            };
            let settled = self.with_key(key, |segment, hash, key| {
                Ok(self.table.get(Shape::Boxed, segment, hash, key, decode).is_ok_and(|found| found.unwrap_or(true)))
            })?;
            if settled {
                return Ok(value);
            }
        });
        self.get_again(key)
    }

    /// After a look-up that failed.
    #[cold]
    #[inline(never)]
    fn get_again<Q: ?Sized>(&self, key: &Q) -> Result<Option<V>>
    where
        KC: Encode<Q>,
    {
        self.with_key(key, |segment, hash, key| {
            fresh(|| Ok(self.table.get(Self::shape(), segment, hash, key, Self::decode_value)?.transpose()?))
        })
    }

    /// Calls `read` with a private copy of the bytes that the value of `key` is encoded as. For plain data this saves
    /// moving the value around; `read` runs outside every lock.
    ///
    /// # Examples
    /// ```
    /// use commons::{Dict, Manager, Pod};
    ///
    /// let pages: Dict<u64, [u8; 4096], commons::Auto, Pod> = Manager::new()?.dict_with()?;
    /// pages.insert(&1, &[7; 4096])?;
    /// assert_eq!(pages.get_with(&1, |bytes| bytes[4095])?, Some(7));
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn get_with<Q: ?Sized, R>(&self, key: &Q, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        self.with_key(key, |segment, hash, key| {
            let trim = |bytes: &[u8]| read(trimmed(bytes, Self::shape(), VC::fixed_len()));
            names::recovery_free(self.table.get(Self::shape(), segment, hash, key, trim))
        })
    }

    /// Whether `key` is in the dict.
    pub fn contains<Q: ?Sized>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        self.with_key(key, |segment, hash, key| {
            Ok(names::recovery_free(self.table.get(Self::shape(), segment, hash, key, |_| ()))?.is_some())
        })
    }

    /// Sets the value of `key`. Whether the key is new.
    #[inline]
    pub fn insert<Q: ?Sized>(&self, key: &Q, value: &V) -> Result<bool>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        let segment = self.segment()?;
        let quick = by_shape!(Self::shape(),
            KEY, VALUE => {
                let key = KC::with_encoded(key, |key| table::padded_words::<KEY>(key.bytes()))?;
                let value = VC::with_encoded(value, |value| table::padded_words::<VALUE>(value.bytes()))?;
                self.table.put_inline_quickly(segment, segment.hash_words(&key), &key, &value)
            },
            boxed => self.with_key(key, |segment, hash, key| {
                VC::with_encoded(value, |value| match value.has_handles() || key.encoded.has_handles() {
                    true => None,
                    false => self.table.put_boxed_quickly(segment, hash, key, value.bytes()),
                })
            })?);
        match quick {
            Some(quick) if !quick.unfinished => Ok(!quick.existed),
            _ => self.insert_slowly(key, value, quick),
        }
    }

    /// Sets the value of `key` and returns the value before.
    pub fn replace<Q: ?Sized>(&self, key: &Q, value: &V) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        self.exchange(key, |_| Ok(Some(value)), |old| Self::decode_value(old))
    }

    /// Removes `key`. Whether it was there.
    pub fn remove<Q: ?Sized>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        self.with_key(key, |segment, hash, key| Ok(self.take_out(segment, hash, key, Expect::Any)?.existed))
    }

    /// Removes `key` and returns its value.
    pub fn pop<Q: ?Sized>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        self.exchange(key, |_| Ok(None), |old| Self::decode_value(old))
    }

    /// Number of entries; exact while nobody writes.
    pub fn len(&self) -> Result<u64> {
        let segment = self.segment()?;
        let mut tries = Tries::default();
        while self.table.is_len_dirty(segment)? {
            tries.another()?;
            recovery::run(segment, |me| self.table.recount(me))?;
        }
        self.table.len(segment)
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Removes all entries.
    pub fn clear(&self) -> Result<()> {
        let segment = self.segment()?;
        let cleared = recovery::run(segment, |me| self.table.clear(me))?;
        if let Some(process) = cleared.met_dead {
            recovery::recover(segment, process)?;
        }
        if cleared.dropped_handles {
            collect::note_garbage(segment)?;
        }
        Ok(())
    }

    /// Inserts all entries of `entries` (Python's `update`), one by one.
    pub fn extend<'a>(&self, entries: impl IntoIterator<Item = (&'a K, &'a V)>) -> Result<()>
    where
        K: 'a,
        V: 'a,
    {
        entries.into_iter().try_for_each(|(key, value)| self.insert(key, value).map(drop))
    }

    /// Whether there is an entry with these key bytes, padded where entries are stored in place.
    pub(crate) fn contains_bytes(&self, key: &[u8]) -> Result<bool> {
        let segment = self.segment()?;
        Ok(names::recovery_free(self.table.get(Self::shape(), segment, segment.hash(key), key, |_| ()))?.is_some())
    }

    /// Removes the entry with these key bytes; whether it was there.
    pub(crate) fn remove_bytes(&self, key: &[u8]) -> Result<bool> {
        let segment = self.segment()?;
        Ok(self.take_out(segment, segment.hash(key), key, Expect::Any)?.existed)
    }

    /// Removes `key` if `expect` holds of its value; whether it did.
    pub(crate) fn remove_if<Q: ?Sized>(&self, key: &Q, expect: Expect<'_>) -> Result<bool>
    where
        K: Borrow<Q>,
        KC: Encode<Q>,
    {
        self.with_key(key, |segment, hash, key| Ok(self.take_out(segment, hash, key, expect)?.done))
    }

    /// The key in an entry that was copied out.
    pub(crate) fn decode_key(pair: &Pair) -> Result<K> {
        KC::decode(trimmed(pair.key(), Self::shape(), KC::fixed_len()))
    }

    /// The present value's bytes.
    fn value_bytes(&self, segment: &Segment, hash: u64, key: &[u8]) -> Result<Option<Vec<u8>>> {
        names::recovery_free(self.table.get(Self::shape(), segment, hash, key, <[u8]>::to_vec))
    }

    /// What remains to be done of an insertion after its short way.
    #[cold]
    #[inline(never)]
    fn insert_slowly<Q: ?Sized>(&self, key: &Q, value: &V, quick: Option<Quick>) -> Result<bool>
    where
        KC: Encode<Q>,
    {
        let put = match quick {
            Some(Quick { existed, .. }) => {
                let put = Put { done: true, existed, dropped_handles: existed, crowded: !existed };
                self.after(self.segment()?, put)?
            }
            None => self.with_key(key, |segment, hash, key| self.put(segment, hash, key, value, Expect::Any, None))?,
        };
        Ok(!put.existed)
    }

    fn put(
        &self,
        segment: &Segment,
        hash: u64,
        key: &Key<'_>,
        value: &V,
        expect: Expect<'_>,
        old: Option<&mut ValueCopy>,
    ) -> Result<Put> {
        encode_inside::<V, VC, _>(segment.id(), value, |encoded| {
            let mut handles = self.prepare_handles(segment, &encoded)?;
            handles.extend(self.prepare_handles(segment, &key.encoded)?);
            with_padded(Self::shape(), encoded.bytes(), |value| {
                self.put_bytes(segment, hash, key, value, &handles, expect, old)
            })
        })?
    }

    /// Puts an entry that is encoded, and padded, already; the objects of `handles` are marked.
    #[inline]
    pub(crate) fn put_bytes(
        &self,
        segment: &Segment,
        hash: u64,
        key: &[u8],
        value: &[u8],
        handles: &[u64],
        expect: Expect<'_>,
        mut old: Option<&mut ValueCopy>,
    ) -> Result<Put> {
        let put = with_room(segment, || {
            recovery::run(segment, |me| self.table.put(me, hash, key, value, handles, expect, old.as_deref_mut()))
        })?;
        self.after(segment, put)
    }

    fn take_out(&self, segment: &Segment, hash: u64, key: &[u8], expect: Expect<'_>) -> Result<Put> {
        self.take_out_into(segment, hash, key, expect, None)
    }

    fn take_out_into(
        &self,
        segment: &Segment,
        hash: u64,
        key: &[u8],
        expect: Expect<'_>,
        mut old: Option<&mut ValueCopy>,
    ) -> Result<Put> {
        let put = recovery::run(segment, |me| self.table.remove(me, hash, key, expect, old.as_deref_mut()))?;
        self.after(segment, put)
    }

    /// What an operation leaves for later.
    #[inline]
    fn after(&self, segment: &Segment, put: Put) -> Result<Put> {
        if put.crowded {
            // The insertion is done; what growing cannot do now it does next time.
            let _ = recovery::run(segment, |me| self.table.split_if_crowded(me));
        }
        if put.dropped_handles {
            collect::note_garbage(segment)?;
        }
        Ok(put)
    }

    /// Marks the objects that the key or value holds, and this dict as one that holds objects, before the value is stored.
    #[inline]
    fn prepare_handles(&self, segment: &Segment, encoded: &Encoded<'_>) -> Result<Vec<u64>> {
        prepare_handles(segment, self.handle.hold.id(), encoded)
    }
}

/// A key as it is stored: padded bytes, and what it was encoded as.
pub(crate) struct Key<'a> {
    bytes: &'a [u8],
    encoded: Encoded<'a>,
}

impl Deref for Key<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

/// `bytes`, padded with zeros to whole words if entries are stored in place.
#[inline(always)]
pub(crate) fn with_padded<R>(shape: Shape, bytes: &[u8], f: impl FnOnce(&[u8]) -> R) -> R {
    if matches!(shape, Shape::Boxed) || bytes.len().is_multiple_of(8) {
        return f(bytes);
    }
    let mut padded = [0; 24];
    padded[..bytes.len()].copy_from_slice(bytes);
    f(&padded[..table::words_for(bytes.len()) * 8])
}

/// What of `bytes` is a value of fixed length, where entries are stored in place.
#[inline(always)]
fn trimmed(bytes: &[u8], shape: Shape, fixed_len: Option<usize>) -> &[u8] {
    match (shape, fixed_len) {
        (Shape::Inline { .. }, Some(len)) if len <= bytes.len() => &bytes[..len],
        _ => bytes,
    }
}
