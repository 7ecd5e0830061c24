//! The shared value.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use crate::codec::{Auto, Codec, Encoded, fingerprint, inside};
use crate::dict::{Exchange, Integer};
use crate::error::{Error, Result};
use crate::handle::{Handle, handle_traits};
use crate::mem::{Segment, Word};
use crate::raw::object::{self, BEARS, Kind, NESTED, ObjectId};
use crate::raw::session::Session;
use crate::raw::table::{Expect, word_of};
use crate::raw::value::{self, Initial};
use crate::raw::{collect, recovery};
use crate::storing::{Tries, fresh, prepare_handles, with_room};

/// One value in shared memory, changed atomically.
///
/// Values of a fixed length of up to eight bytes (numbers, `bool`, `char`, and small plain data with the codec
/// [`Pod`](crate::Pod)) are one machine word, and every operation is lock-free: one atomic instruction, or a short loop
/// around one. All others, whatever serde knows, are kept in a block; reading them takes no lock either, changing them holds
/// one for less than a microsecond.
///
/// # Crash
/// Every operation is all or nothing when its process is killed at any instruction, and holds up nobody.
///
/// # Blocking
/// Reading waits for nobody, and neither does changing a value of up to eight bytes.
///
/// # Errors
/// `OutOfMemory`, `TooLarge`, `Encode`, `Decode`, `Corrupted`, `Evicted`; an operation that fails has had no effect.
///
/// # Examples
/// ```
/// let manager = commons::Manager::new()?;
/// let hits = manager.value(0u64)?;
/// assert_eq!(hits.fetch_add(5)?, 0);
/// let motto = manager.value("first".to_owned())?;
/// assert_eq!(motto.swap(&"second".to_owned())?, "first");
/// assert_eq!((hits.load()?, motto.load()?), (5, "second".to_owned()));
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Value<T, C = Auto> {
    handle: Handle,
    types: PhantomData<fn() -> (T, C)>,
}

handle_traits!([T, C: Codec<T>], Value<T, C>, "Value");

thread_local! {
    /// Where values are copied to before they are decoded. Taken out while in use, so decoding may look things up.
    static SCRATCH: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// Scratch space larger than this is given back after use.
const SCRATCH_KEPT: usize = 8192;

/// The length of values that are one word.
fn word_len<T, C: Codec<T>>() -> Option<usize> {
    C::fixed_len().filter(|len| *len <= 8)
}

impl<T, C: Codec<T>> Value<T, C> {
    pub(crate) const KIND: Kind = Kind::Value;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["value", std::any::type_name::<T>(), std::any::type_name::<C>()])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        if value::is_word(handle.hold.segment()?, handle.root)? != word_len::<T, C>().is_some() {
            return Err(Error::corrupted("the form of a value"));
        }
        Ok(Value { handle, types: PhantomData })
    }

    pub(crate) fn create(session: &Session, fingerprint: u64, value: &T) -> Result<ObjectId> {
        let create = |encoded: Encoded<'_>| {
            if word_len::<T, C>().is_some() {
                let initial = Initial::Word(word_of(encoded.bytes(), 0));
                return session.create(Kind::Value, fingerprint, |me, root| value::create(me, root, initial));
            }
            let ids = encoded.handles_for(session.segment().id())?;
            for id in &ids {
                object::entry(session.segment(), id.index)?.mark(*id, NESTED)?;
            }
            let words: Vec<u64> = ids.iter().map(|id| id.pack()).collect();
            let initial = Initial::Bytes(encoded.bytes(), &words);
            let id = session.create(Kind::Value, fingerprint, |me, root| value::create(me, root, initial))?;
            if !words.is_empty() {
                object::entry(session.segment(), id.index)?.mark(id, BEARS)?;
            }
            Ok(id)
        };
        inside(session.segment().id(), || C::with_encoded(value, create))?
    }

    /// The same value by another handle of it.
    fn with_handle(&self, handle: Handle) -> Self {
        Value { handle, types: PhantomData }
    }

    #[inline(always)]
    fn segment(&self) -> Result<&Segment> {
        self.handle.hold.segment()
    }

    /// The word, with the right to change it.
    #[inline(always)]
    fn word(&self) -> Result<&Word> {
        let segment = self.segment()?;
        segment.still_member()?;
        value::word(segment, self.handle.root)
    }

    #[inline(always)]
    fn to_word(value: &T) -> Result<u64> {
        C::with_encoded(value, |encoded| word_of(encoded.bytes(), 0))
    }

    #[inline(always)]
    fn from_word(word: u64) -> Result<T> {
        C::decode(&word.to_le_bytes()[..word_len::<T, C>().unwrap_or(8)])
    }

    /// The value.
    #[inline]
    pub fn load(&self) -> Result<T> {
        if word_len::<T, C>().is_some() {
            return Self::from_word(self.word()?.load(Ordering::SeqCst)); // LINEARIZES: load
        }
        let segment = self.segment()?;
        fresh(|| Ok(self.with_bytes(segment, C::decode)??))
    }

    /// Sets the value.
    #[inline]
    pub fn store(&self, value: &T) -> Result<()> {
        if word_len::<T, C>().is_some() {
            self.word()?.store(Self::to_word(value)?, Ordering::SeqCst); // LINEARIZES: store
            return Ok(());
        }
        self.put(self.segment()?, value, Expect::Any).map(drop)
    }

    /// Sets the value and returns the one before.
    pub fn swap(&self, value: &T) -> Result<T> {
        if word_len::<T, C>().is_some() {
            return Self::from_word(self.word()?.swap(Self::to_word(value)?, Ordering::SeqCst)); // LINEARIZES: swap
        }
        let segment = self.segment()?;
        let mut tries = Tries::default();
        loop {
            tries.another()?;
            let old = self.with_bytes(segment, <[u8]>::to_vec)?;
            // Decoded before it goes: a handle in it is held all the time.
            let Some(present) = still_there(C::decode(&old))? else { continue };
            if self.put(segment, value, Expect::Value(&old))? {
                return Ok(present);
            }
        }
    }

    /// Sets the value to `new` if it is `current`, as their encoded forms say.
    pub fn compare_exchange(&self, current: &T, new: &T) -> Result<Exchange<T>> {
        if word_len::<T, C>().is_some() {
            let (current, new) = (Self::to_word(current)?, Self::to_word(new)?);
            // LINEARIZES: compare_exchange
            return match self.word()?.cas(current, new, Ordering::SeqCst) {
                Ok(_) => Ok(Exchange::Done),
                Err(found) => Ok(Exchange::Unequal(Some(Self::from_word(found)?))),
            };
        }
        let segment = self.segment()?;
        let current = inside(segment.id(), || C::with_encoded(current, |e| e.bytes().to_vec()))?;
        let mut tries = Tries::default();
        loop {
            tries.another()?;
            if self.put(segment, new, Expect::Value(&current))? {
                return Ok(Exchange::Done);
            }
            let found = self.with_bytes(segment, <[u8]>::to_vec)?;
            if found != current
                && let Some(present) = still_there(C::decode(&found))?
            {
                return Ok(Exchange::Unequal(Some(present)));
            }
        }
    }

    /// Changes the value as one step: `change` gets the present value and returns the next, or `None` to leave it. It runs
    /// outside every lock, again if somebody else was quicker. Returns the value before, if it was changed.
    pub fn fetch_update(&self, mut change: impl FnMut(&T) -> Option<T>) -> Result<Option<T>> {
        let mut tries = Tries::default();
        if word_len::<T, C>().is_some() {
            let word = self.word()?;
            loop {
                tries.another()?;
                let seen = word.load(Ordering::SeqCst);
                let present = Self::from_word(seen)?;
                let Some(next) = change(&present) else { return Ok(None) };
                if word.cas(seen, Self::to_word(&next)?, Ordering::SeqCst).is_ok() {
                    return Ok(Some(present)); // LINEARIZES: the CAS
                }
            }
        }
        let segment = self.segment()?;
        loop {
            tries.another()?;
            let old = self.with_bytes(segment, <[u8]>::to_vec)?;
            let Some(present) = still_there(C::decode(&old))? else { continue };
            let Some(next) = change(&present) else { return Ok(None) };
            if self.put(segment, &next, Expect::Value(&old))? {
                return Ok(Some(present));
            }
        }
    }

    /// What `read` makes of the bytes of a value in a block.
    fn with_bytes<R>(&self, segment: &Segment, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let mut words = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let length = value::read(segment, self.handle.root, &mut words);
        let result = length.map(|length| read(&zerocopy::IntoBytes::as_bytes(&words[..])[..length]));
        if words.capacity() <= SCRATCH_KEPT {
            let _ = SCRATCH.try_with(|scratch| scratch.set(words));
        }
        result
    }

    /// Replaces a value in a block, if `expect` holds of it; whether it did.
    fn put(&self, segment: &Segment, value: &T, expect: Expect<'_>) -> Result<bool> {
        let encode = || {
            C::with_encoded(value, |encoded| {
                let handles = prepare_handles(segment, self.handle.hold.id(), &encoded)?;
                with_room(segment, || {
                    recovery::run(segment, |me| value::put(me, self.handle.root, encoded.bytes(), &handles, expect))
                })
            })
        };
        let changed = inside(segment.id(), encode)??;
        if changed.dropped_handles {
            collect::note_garbage(segment)?;
        }
        Ok(changed.done)
    }
}

/// What was decoded; `None` if its object went with it since it was copied, so that the value is another by now.
fn still_there<T>(decoded: Result<T>) -> Result<Option<T>> {
    match decoded {
        Err(e) if e.kind() == crate::ErrorKind::Stale => Ok(None),
        decoded => decoded.map(Some),
    }
}

impl<T: Integer, C: Codec<T>> Value<T, C> {
    /// Adds `number`, wrapping, as one step. Returns the value before.
    #[inline]
    pub fn fetch_add(&self, number: T) -> Result<T> {
        if word_len::<T, C>() == Some(8) {
            let before = self.word()?.fetch_add(number.to_word(), Ordering::SeqCst); // LINEARIZES: fetch_add
            return Self::from_word(before);
        }
        let before = self.fetch_update(|value| Some(value.add(number)))?;
        before.ok_or_else(|| Error::corrupted("a change that was not made"))
    }
}
