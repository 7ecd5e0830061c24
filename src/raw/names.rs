//! The directory: names of objects, in a table like every other.
//!
//! # Thread safety and crash
//!
//! Looking a name up takes no lock. The directory is an object too, created by whoever first needs it; two that do so at
//! once race for one header word, and the loser's is garbage, as is one whose creator is killed before the race. From
//! then on it is a root of collection and never goes.

use std::sync::atomic::Ordering;

use super::object::{self, Kind, NAMED, ObjectId};
use super::recovery;
use super::table::{Cursor, Expect, Pair, Shape, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::mem::layout::header;
use crate::mem::{Me, Segment, Step};

/// Longest name, in bytes.
pub const MAX_NAME: usize = 255;

fn directory(segment: &Segment) -> Result<Option<Table>> {
    let word = segment.header(header!(directory)).load(Ordering::Acquire);
    if word == 0 {
        return Ok(None);
    }
    let entry = object::entry(segment, ObjectId::unpack(word).index)?;
    if entry.kind()? != Kind::Directory {
        return Err(Error::corrupted("the directory"));
    }
    Table::open(segment, entry.root()).map(Some)
}

/// Whether there is a directory yet.
pub fn exists(segment: &Segment) -> bool {
    segment.header(header!(directory)).load(Ordering::Acquire) != 0
}

/// Makes object `id`, a table that the caller holds, the directory, unless there is one.
pub fn establish(segment: &Segment, id: ObjectId) -> Result<bool> {
    object::entry(segment, id.index)?.mark(id, NAMED)?;
    Ok(segment.header(header!(directory)).cas(0, id.pack(), Ordering::AcqRel).is_ok())
}

fn check(name: &str) -> Result<()> {
    let problem = match name {
        "" => "is empty",
        _ if name.len() > MAX_NAME => "is longer than 255 bytes",
        _ if name.contains('\0') => "contains a NUL",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("the object name {name:?} {problem}")))
}

fn decode(bytes: &[u8]) -> Result<ObjectId> {
    let word = bytes.try_into().map_err(|_| Error::corrupted("an entry of the directory"))?;
    Ok(ObjectId::unpack(u64::from_le_bytes(word)))
}

/// The object called `name`.
pub fn look_up(segment: &Segment, name: &str) -> Result<Option<ObjectId>> {
    check(name)?;
    let Some(table) = directory(segment)? else { return Ok(None) };
    let hash = segment.hash(name.as_bytes());
    let found = recovery_free(table.get(Shape::Boxed, segment, hash, name.as_bytes(), decode))?;
    found.transpose()
}

/// Reads stop for nobody, so a `Stop::Dead` cannot come out of one.
pub fn recovery_free<T>(step: Step<T>) -> Result<T> {
    step.map_err(|stop| match stop {
        crate::mem::Stop::Error(error) => error,
        crate::mem::Stop::Dead(_) => Error::corrupted("a read that waits for the dead"),
    })
}

/// Gives object `id` the name, unless the name is taken. The caller holds the object and has seen to it that there is a
/// directory.
///
/// # Crash
/// One insertion into a table. The object is marked as named before, which at worst makes it live until a collection.
pub fn insert(segment: &Segment, name: &str, id: ObjectId) -> Result<bool> {
    check(name)?;
    let table = directory(segment)?.ok_or_else(|| Error::corrupted("the directory"))?;
    object::entry(segment, id.index)?.mark(id, NAMED)?;
    put(segment, &table, name, id)
}

fn put(segment: &Segment, table: &Table, name: &str, id: ObjectId) -> Result<bool> {
    let hash = segment.hash(name.as_bytes());
    let value = id.pack().to_le_bytes();
    let put = recovery::run(segment, |me| table.put(me, hash, name.as_bytes(), &value, &[], Expect::Absent, None))?;
    if put.crowded {
        let _ = recovery::run(segment, |me: &Me<'_>| table.split_if_crowded(me));
    }
    Ok(put.done)
}

/// Takes the name away. `None` if there is none.
pub fn remove(segment: &Segment, name: &str) -> Result<Option<ObjectId>> {
    let Some(id) = look_up(segment, name)? else { return Ok(None) };
    Ok(remove_from(segment, name, id)?.then_some(id))
}

/// Takes the name away from object `id`. Whether it had it.
pub fn remove_from(segment: &Segment, name: &str, id: ObjectId) -> Result<bool> {
    check(name)?;
    let Some(table) = directory(segment)? else { return Ok(false) };
    let hash = segment.hash(name.as_bytes());
    let value = id.pack().to_le_bytes();
    let put = recovery::run(segment, |me| table.remove(me, hash, name.as_bytes(), Expect::Value(&value), None))?;
    Ok(put.done)
}

/// All names and what they name.
pub fn list(segment: &Segment) -> Result<Vec<(String, ObjectId)>> {
    let Some(table) = directory(segment)? else { return Ok(Vec::new()) };
    let (mut cursor, mut pairs): (Cursor, Vec<Pair>) = Default::default();
    while !cursor.is_done() {
        recovery_free(table.next_pairs(segment, &mut cursor, &mut pairs))?;
    }
    let decode = |pair: &Pair| Ok((String::from_utf8_lossy(pair.key()).into_owned(), decode(pair.value())?));
    pairs.iter().map(decode).collect()
}

/// The objects that live without a holder: the directory and what it names.
pub fn roots(segment: &Segment) -> Result<Vec<ObjectId>> {
    let mut roots: Vec<ObjectId> = list(segment)?.into_iter().map(|(_, id)| id).collect();
    let word = segment.header(header!(directory)).load(Ordering::Acquire);
    if word != 0 {
        roots.push(ObjectId::unpack(word));
    }
    Ok(roots)
}
