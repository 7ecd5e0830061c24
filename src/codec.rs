//! How values become bytes and back.
//!
//! [`Auto`] is the default and right for everything that serde knows: numbers, `bool` and `char` in their fixed size,
//! strings and byte vectors as they are, everything else by postcard. [`Pod`] is for plain data by zerocopy, copied as it
//! lies in memory. Own codecs implement [`Encode`] and [`Decode`].

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::error::{Error, ErrorKind, Result};
use crate::mem::SegmentId;
use crate::raw::object::ObjectId;

/// The encoded form of a value, for the duration of a call.
#[derive(Clone, Copy)]
pub struct Encoded<'a> {
    bytes: &'a [u8],
    handles: &'a [(SegmentId, ObjectId)],
}

impl<'a> Encoded<'a> {
    /// Bytes of a value that holds no handles.
    #[inline]
    pub fn plain(bytes: &'a [u8]) -> Encoded<'a> {
        Encoded { bytes, handles: &[] }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the value holds handles, of whatever segment.
    #[inline(always)]
    pub(crate) fn has_handles(&self) -> bool {
        !self.handles.is_empty()
    }

    /// The objects that the value holds handles of, if it is to be stored in `segment`.
    ///
    /// # Errors
    /// `InvalidInput` for a handle of another segment: nothing that is stored here could keep its object alive.
    #[cold]
    pub(crate) fn handles_for(&self, segment: SegmentId) -> Result<Vec<ObjectId>> {
        match self.handles.iter().find(|(of, _)| *of != segment) {
            Some(_) => Err(Error::new(ErrorKind::InvalidInput, "a handle of another segment in what is to be stored")),
            None => Ok(self.handles_of(segment)),
        }
    }

    /// The objects of `segment` that the value holds handles of.
    #[cold]
    pub(crate) fn handles_of(&self, segment: SegmentId) -> Vec<ObjectId> {
        let mut ids: Vec<_> = self.handles.iter().filter(|(of, _)| *of == segment).map(|(_, id)| *id).collect();
        ids.sort();
        ids.dedup();
        ids
    }
}

/// Turns a `T` into bytes.
///
/// For keys, equal values must have equal bytes, and a key and its borrowed forms (`String` and `str`) the same bytes.
/// `Auto` and `Pod` keep that for every type whose equality is that of its parts; maps and sets with an arbitrary order
/// are no good keys. Breaking the rule makes entries that are not found again, and nothing worse.
pub trait Encode<T: ?Sized> {
    /// Calls `f` with the encoded value.
    ///
    /// # Errors
    /// `Encode` if the value has no encoded form.
    fn with_encoded<R>(value: &T, f: impl FnOnce(Encoded<'_>) -> R) -> Result<R>;
}

/// Makes a `T` of bytes.
pub trait Decode<T> {
    /// The length of every encoded value, where they all have the same. Small ones are stored in place.
    fn fixed_len() -> Option<usize>;

    /// Decodes a value. The bytes may be anything.
    ///
    /// # Errors
    /// `Decode` if they are no value; `Stale` if the value holds a handle of an object that is gone.
    fn decode(bytes: &[u8]) -> Result<T>;
}

/// Both directions.
pub trait Codec<T>: Encode<T> + Decode<T> {}

impl<T, C: Encode<T> + Decode<T>> Codec<T> for C {}

/// The default codec: whatever serde can do, and primitives, strings and byte vectors as they are.
#[derive(Clone, Copy, Debug)]
pub enum Auto {}

/// Plain data, copied as it lies in memory: for types that derive zerocopy's traits.
#[derive(Clone, Copy, Debug)]
pub enum Pod {}

thread_local! {
    /// Handles that the value being encoded holds.
    static NESTED: RefCell<Vec<(SegmentId, ObjectId)>> = const { RefCell::new(Vec::new()) };
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Whether a value that was encoded names a segment without any object of it.
    static SEGMENT: Cell<bool> = const { Cell::new(false) };
    /// The segment that the value being encoded is for: see [`inside`].
    static INSIDE: Cell<Option<SegmentId>> = const { Cell::new(None) };
    /// Why the last handle could not be decoded: serde's errors carry text only.
    static REASON: Cell<Option<Error>> = const { Cell::new(None) };
}

/// Buffers larger than this are given back after use.
const BUFFER_KEPT: usize = 64 * 1024;

/// Notes that the value being encoded holds a handle of object `id`.
pub(crate) fn note_handle(segment: SegmentId, id: ObjectId) {
    NESTED.with_borrow_mut(|nested| nested.push((segment, id)));
}

/// Notes that the value being encoded needs its segment.
pub(crate) fn note_segment() {
    SEGMENT.set(true);
}

/// Whether that was noted since the last call.
pub(crate) fn take_segment_note() -> bool {
    SEGMENT.take()
}

/// Encodes what is to be stored in `segment`, or compared with what is: a handle of the same segment says then which
/// object it means, and not where this process found the segment, so that every process encodes it alike.
pub(crate) fn inside<R>(segment: SegmentId, encode: impl FnOnce() -> R) -> R {
    struct Restore(Option<SegmentId>);
    impl Drop for Restore {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }
    let _outer = Restore(INSIDE.replace(Some(segment)));
    encode()
}

/// Encodes what is to be stored in `segment`, as [`inside`], at the cost of a second time if there are handles in it, and of
/// nothing if there are none.
#[inline(always)]
pub(crate) fn encode_inside<T: ?Sized, C: Encode<T>, R>(
    segment: SegmentId,
    value: &T,
    f: impl FnOnce(Encoded<'_>) -> R,
) -> Result<R> {
    C::with_encoded(value, |encoded| match encoded.has_handles() && !is_inside(segment) {
        true => inside(segment, || C::with_encoded(value, f)),
        false => Ok(f(encoded)),
    })?
}

/// Whether what is being encoded stays in `segment`.
pub(crate) fn is_inside(segment: SegmentId) -> bool {
    INSIDE.get() == Some(segment)
}

/// serde's error for a handle that could not be decoded, whose reason is kept aside.
pub(crate) fn reason<E: serde::de::Error>(error: Error) -> E {
    let text = error.to_string();
    REASON.set(Some(error));
    E::custom(text)
}

macro_rules! for_primitives {
    ($macro:ident) => {
        $macro!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64)
    };
}

impl<T: Serialize + 'static> Encode<T> for Auto {
    #[inline]
    fn with_encoded<R>(value: &T, f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        // Each test is of two constants, so one branch is left of all this.
        let any: &dyn Any = value;
        macro_rules! primitives {
            ($($t:ty),*) => {$(
                if let Some(number) = any.downcast_ref::<$t>() {
                    return Ok(f(Encoded::plain(&number.to_le_bytes())));
                }
            )*};
        }
        for_primitives!(primitives);
        if let Some(flag) = any.downcast_ref::<bool>() {
            return Ok(f(Encoded::plain(&[u8::from(*flag)])));
        }
        if let Some(char) = any.downcast_ref::<char>() {
            return Ok(f(Encoded::plain(&u32::from(*char).to_le_bytes())));
        }
        if let Some(text) = any.downcast_ref::<String>() {
            return Ok(f(Encoded::plain(text.as_bytes())));
        }
        if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
            return Ok(f(Encoded::plain(bytes)));
        }
        by_postcard(value, f)
    }
}

impl Encode<str> for Auto {
    #[inline]
    fn with_encoded<R>(value: &str, f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        Ok(f(Encoded::plain(value.as_bytes())))
    }
}

impl Encode<[u8]> for Auto {
    #[inline]
    fn with_encoded<R>(value: &[u8], f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        Ok(f(Encoded::plain(value)))
    }
}

fn by_postcard<T: Serialize, R>(value: &T, f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
    let mut buffer = BUFFER.take();
    buffer.clear();
    let outer = NESTED.take();
    let encoded = postcard::to_extend(value, buffer);
    let handles = NESTED.replace(outer);
    let buffer = encoded.map_err(|e| Error::new(ErrorKind::Encode, format!("{}: {e}", std::any::type_name::<T>())))?;
    let result = f(Encoded { bytes: &buffer, handles: &handles });
    if buffer.capacity() <= BUFFER_KEPT {
        BUFFER.set(buffer);
    }
    Ok(result)
}

/// `value` as a `T`, if that is what it is.
#[inline]
fn identity<U: 'static, T: 'static>(value: U) -> Option<T> {
    let mut slot = Some(value);
    let any: &mut dyn Any = &mut slot;
    any.downcast_mut::<Option<T>>().and_then(Option::take)
}

impl<T: DeserializeOwned + 'static> Decode<T> for Auto {
    #[inline]
    fn fixed_len() -> Option<usize> {
        macro_rules! primitives {
            ($($t:ty),*) => {
                $(TypeId::of::<T>() == TypeId::of::<$t>())||*
            };
        }
        let is_number = for_primitives!(primitives);
        let is_other = TypeId::of::<T>() == TypeId::of::<bool>() || TypeId::of::<T>() == TypeId::of::<char>();
        (is_number || is_other).then_some(size_of::<T>())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T> {
        macro_rules! primitives {
            ($($t:ty),*) => {$(
                if TypeId::of::<T>() == TypeId::of::<$t>() {
                    let number = bytes.try_into().ok().map(<$t>::from_le_bytes);
                    return number.and_then(identity).ok_or_else(undecodable::<T>);
                }
            )*};
        }
        for_primitives!(primitives);
        if TypeId::of::<T>() == TypeId::of::<bool>() {
            let flag = match bytes {
                [0] => Some(false),
                [1] => Some(true),
                _ => None,
            };
            return flag.and_then(identity).ok_or_else(undecodable::<T>);
        }
        if TypeId::of::<T>() == TypeId::of::<char>() {
            let char = bytes.try_into().ok().map(u32::from_le_bytes).and_then(char::from_u32);
            return char.and_then(identity).ok_or_else(undecodable::<T>);
        }
        if TypeId::of::<T>() == TypeId::of::<String>() {
            let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
            return text.and_then(identity).ok_or_else(undecodable::<T>);
        }
        if TypeId::of::<T>() == TypeId::of::<Vec<u8>>() {
            return identity(bytes.to_vec()).ok_or_else(undecodable::<T>);
        }
        REASON.set(None);
        postcard::from_bytes(bytes).map_err(|e| match REASON.take() {
            Some(reason) => reason,
            None => Error::new(ErrorKind::Decode, format!("{}: {e}", std::any::type_name::<T>())),
        })
    }
}

#[cold]
fn undecodable<T>() -> Error {
    Error::new(ErrorKind::Decode, std::any::type_name::<T>())
}

impl<T: IntoBytes + Immutable> Encode<T> for Pod {
    #[inline]
    fn with_encoded<R>(value: &T, f: impl FnOnce(Encoded<'_>) -> R) -> Result<R> {
        Ok(f(Encoded::plain(value.as_bytes())))
    }
}

impl<T: TryFromBytes + KnownLayout + Immutable> Decode<T> for Pod {
    #[inline]
    fn fixed_len() -> Option<usize> {
        Some(size_of::<T>())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T> {
        T::try_read_from_bytes(bytes).map_err(|_| undecodable::<T>())
    }
}

/// What tells the types stored in an object from others: their names and the names of their codecs.
pub(crate) fn fingerprint(names: &[&str]) -> u64 {
    names.iter().fold(0xcbf2_9ce4_8422_2325, |hash, name| {
        let hash = name.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        (hash ^ 0xff).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    //! Proves that values of every special case and of serde come back equal, and that garbage is an error.
    use super::*;

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static>(value: T) -> Vec<u8> {
        let bytes = Auto::with_encoded(&value, |e| e.bytes().to_vec()).unwrap();
        assert_eq!(<Auto as Decode<T>>::decode(&bytes).unwrap(), value);
        if let Some(len) = <Auto as Decode<T>>::fixed_len() {
            assert_eq!(bytes.len(), len);
        }
        bytes
    }

    #[test]
    fn values_come_back() {
        assert_eq!(round_trip(0x0102_0304_0506_0708u64), [8, 7, 6, 5, 4, 3, 2, 1]);
        round_trip(-3i8);
        round_trip(1.5f32);
        round_trip(u128::MAX);
        round_trip(true);
        round_trip('ß');
        assert_eq!(round_trip("text".to_owned()), b"text");
        assert_eq!(round_trip(vec![1u8, 2]), [1, 2]);
        round_trip((1u8, vec![Some("x".to_owned()), None]));
        round_trip(());
    }

    #[test]
    fn garbage_is_an_error() {
        assert_eq!(<Auto as Decode<bool>>::decode(&[2]).unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(<Auto as Decode<String>>::decode(&[0xff]).unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(<Auto as Decode<u64>>::decode(&[1]).unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(<Auto as Decode<Vec<String>>>::decode(&[200]).unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(<Pod as Decode<bool>>::decode(&[7]).unwrap_err().kind(), ErrorKind::Decode);
    }
}
