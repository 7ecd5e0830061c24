//! Walking a table at rest: for freeing it, for checking it, for finding the handles in it.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::bucket::{Bucket, block_of, chain};
use super::directory::{DIRECTORY_WORDS, bucket_offset, locate};
use super::entry::{content, hash_of};
use super::iterate::Cursor;
use super::latched::{STRIPES, latch_of};
use super::size::{Size, index};
use super::{Table, root, total};
use crate::error::{Error, Result};
use crate::mem::{Segment, Word, load_words};
use crate::raw::latch;
use crate::raw::names::recovery_free;

/// Calls `f` with every word of the table that refers to a block, and the block; what a block refers to comes before
/// the reference to it. `f` may store 0 into the word. A table half built or half freed is walked as far as it goes.
///
/// # Errors
/// `Corrupted`, and those of `f`.
pub fn visit(segment: &Segment, root_block: u64, f: &mut dyn FnMut(&Word, u64) -> Result<()>) -> Result<()> {
    let table = Table::open(segment, root_block)?;
    let words = table.root(segment)?;
    let buckets = table.buckets(words)?;
    // From the last bucket down: a chunk is freed after its buckets, and the number of chunks still there tells how far
    // an earlier walk came.
    let mut end = buckets;
    while end > 0 {
        let number = end - 1;
        let (index, position, _) = locate(number);
        if words[root::DIRECTORY + index].load(Ordering::Acquire) == 0 {
            end -= position + 1; // the whole chunk is not there
            continue;
        }
        end = number;
        let all = chain(segment, &table.geometry, bucket_offset(words, &table.geometry, number)?)?;
        for i in (0..all.len()).rev() {
            if table.geometry.boxed {
                for cell in all[i].live_cells() {
                    let word = &all[i].cell(cell)[0];
                    match block_of(word.load(Ordering::Acquire)) {
                        0 => {}
                        block => f(word, block)?,
                    }
                }
            }
            if i > 0 {
                f(all[i - 1].head(), all[i - 1].link())?;
            }
        }
    }
    for word in words[root::DIRECTORY..][..DIRECTORY_WORDS].iter().rev() {
        match word.load(Ordering::Acquire) {
            0 => {}
            chunk => f(word, chunk)?,
        }
    }
    Ok(())
}

/// Calls `f` with every handle that the table's values hold, while others write: of every value that is there throughout.
pub fn visit_handles(segment: &Segment, root_block: u64, f: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let table = Table::open(segment, root_block)?;
    if !table.geometry.boxed {
        return Ok(());
    }
    let (mut cursor, mut handles) = (Cursor::default(), Vec::new());
    while !cursor.is_done() {
        recovery_free(table.next_handles(segment, &mut cursor, &mut handles))?;
        for handle in &handles {
            f(*handle)?;
        }
    }
    Ok(())
}

impl Table {
    /// The number of buckets, as a bound for a loop.
    fn buckets(&self, words: &[Word]) -> Result<u64> {
        match Size::read(words) {
            size if size.is_valid() => Ok(size.buckets()),
            _ => Err(Error::corrupted("a table's number of buckets")),
        }
    }
}

/// Checks a table at rest.
///
/// Latches free; every entry in the bucket of its hash, under its fingerprint, once; the count right unless marked
/// unsure; no live cell beyond the bucket's.
///
/// # Errors
/// `Corrupted`, naming the rule that does not hold.
pub fn check(segment: &Segment, root_block: u64) -> Result<()> {
    let table = Table::open(segment, root_block)?;
    let words = table.root(segment)?;
    let stripes = (0..STRIPES).map(|number| latch_of(words, number));
    for word in stripes.chain([&words[root::SPLIT], &words[root::GATE]]) {
        if latch::owner_of(word.load(Ordering::Acquire)) != 0 {
            return Err(Error::corrupted("a table's latch or gate is held by nobody at work"));
        }
    }
    let buckets = table.buckets(words)?;
    let mut entries = 0;
    for number in 0..buckets {
        let all = chain(segment, &table.geometry, bucket_offset(words, &table.geometry, number)?)?;
        entries += check_chain(segment, &table, &all, number, buckets)?;
    }
    if words[root::DIRTY].load(Ordering::Acquire) == 0 && total(words) != entries {
        return Err(Error::corrupted("a table's count is wrong"));
    }
    Ok(())
}

fn check_chain(segment: &Segment, table: &Table, all: &[Bucket<'_>], number: u64, buckets: u64) -> Result<u64> {
    let mut keys = HashSet::new();
    for bucket in all {
        let live = bucket.live();
        if bucket.has_strangers() {
            return Err(Error::corrupted("a live cell beyond the bucket's cells"));
        }
        for cell in bucket.live_cells() {
            let words = bucket.cell(cell);
            let hash = hash_of(segment, &table.geometry, words)?;
            if index(hash, buckets) != number {
                return Err(Error::corrupted("an entry in a bucket that its hash does not belong to"));
            }
            if live.with(cell, hash) != live {
                return Err(Error::corrupted("an entry under another's fingerprint"));
            }
            let now = content(segment, &table.geometry, words)?;
            let mut key = Vec::new();
            load_words(now.key, &mut key);
            if table.geometry.boxed {
                let bytes = &zerocopy::IntoBytes::as_bytes(&key[..])[..now.key_len];
                if segment.hash(bytes) != hash {
                    return Err(Error::corrupted("an entry whose hash is not its key's"));
                }
            }
            if !keys.insert((key, now.key_len)) {
                return Err(Error::corrupted("a key that is in its bucket twice"));
            }
        }
    }
    Ok(keys.len() as u64)
}
