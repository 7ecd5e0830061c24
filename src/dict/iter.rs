//! Going through all entries.

use super::Dict;
use crate::codec::{Auto, Codec};
use crate::error::{ErrorKind, Result};
use crate::raw::table::{Cursor, Expect, Pair};
use crate::raw::{names, recovery};
use crate::storing::fresh;

impl<K, V, KC: Codec<K>, VC: Codec<V>> Dict<K, V, KC, VC> {
    /// All entries, while others read and write: a key that is there throughout comes exactly once, one that comes or goes
    /// meanwhile at most once.
    ///
    /// # Complexity
    /// Memory for the entries of one bucket.
    pub fn iter(&self) -> Iter<K, V, KC, VC> {
        Iter { dict: self.clone(), cursor: Cursor::default(), pairs: Vec::new() }
    }

    /// The keys, as [`iter`](Dict::iter).
    pub fn keys(&self) -> impl Iterator<Item = Result<K>> + use<K, V, KC, VC> {
        self.iter().map(|entry| entry.map(|(key, _)| key))
    }

    /// The values, as [`iter`](Dict::iter).
    pub fn values(&self) -> impl Iterator<Item = Result<V>> + use<K, V, KC, VC> {
        self.iter().map(|entry| entry.map(|(_, value)| value))
    }

    /// All entries as they were at one moment.
    ///
    /// # Blocking
    /// Holds off writers while it copies.
    pub fn snapshot(&self) -> Result<Vec<(K, V)>> {
        let segment = self.segment()?;
        fresh(|| {
            let pairs = recovery::run(segment, |me| self.table.snapshot(me))?;
            Ok(pairs.iter().map(Self::decode_pair).collect::<Result<_>>()?)
        })
    }

    /// Removes some entry and returns it; `None` if the dict is empty.
    ///
    /// # Complexity
    /// Linear in the empty buckets before the first entry, in iteration order.
    pub fn pop_item(&self) -> Result<Option<(K, V)>> {
        let segment = self.segment()?;
        let mut cursor = Cursor::default();
        let mut pairs = Vec::new();
        while !cursor.is_done() {
            pairs.clear();
            names::recovery_free(self.table.next_pairs(segment, &mut cursor, &mut pairs))?;
            for pair in &pairs {
                let decoded = match Self::decode_pair(pair) {
                    Err(e) if e.kind() == ErrorKind::Stale => continue, // replaced meanwhile
                    decoded => decoded?,
                };
                let hash = segment.hash(pair.key());
                if self.take_out(segment, hash, pair.key(), Expect::Value(pair.value()))?.done {
                    return Ok(Some(decoded));
                }
            }
        }
        Ok(None)
    }

    /// The keys as bytes, as they were at one moment.
    pub(crate) fn snapshot_keys(&self) -> Result<Vec<Pair>> {
        recovery::run(self.segment()?, |me| self.table.snapshot(me))
    }
}

/// Iterator over the entries of a [`Dict`]; see [`Dict::iter`].
pub struct Iter<K, V, KC = Auto, VC = Auto> {
    dict: Dict<K, V, KC, VC>,
    cursor: Cursor,
    pairs: Vec<Pair>,
}

impl<K, V, KC: Codec<K>, VC: Codec<V>> Iterator for Iter<K, V, KC, VC> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.pairs.pop() {
                match Dict::<K, V, KC, VC>::decode_pair(&pair) {
                    // Its object went with it since it was copied: the entry is there no more.
                    Err(e) if e.kind() == ErrorKind::Stale => continue,
                    decoded => return Some(decoded),
                }
            }
            if self.cursor.is_done() {
                return None;
            }
            let next = self.dict.segment().and_then(|segment| {
                names::recovery_free(self.dict.table.next_pairs(segment, &mut self.cursor, &mut self.pairs))
            });
            if let Err(error) = next {
                self.cursor = Cursor::finished();
                return Some(Err(error));
            }
        }
    }
}
