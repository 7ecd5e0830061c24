//! A bucket under loom: an optimistic reader against writers that hold the latch.
//!
//! Proves that a reader whose bucket stood still has read a value that somebody stored, whole, or that the key was absent
//! at some moment; and, by mutants, that it is the fences behind the taking of the latch and behind the raising, and the
//! raised sequence, which see to that.

use std::sync::atomic::Ordering;

use loom::sync::Arc;
use loom::thread;

use super::bucket::{Bucket, Geometry, Live};
use super::entry::equal_bytes;
use super::read::{value_of, while_still};
use super::{Shape, Table, sequence};
use crate::mem::{Space, Step, Word, fence};
use crate::raw::latch;
use crate::raw::loom_tests::Everybody;

const HASH: u64 = 0x4242 << 48;
const KEY: u64 = 17;

/// A table of one bucket, without a root: a key of one word, a value of two.
struct Model {
    space: Space,
    table: Table,
    lock: Lock,
}

/// How writers take the latch and raise the sequence.
#[derive(Clone, Copy)]
struct Lock {
    acquire: fn(u64, &Word),
    raise: fn(&Word),
}

const REAL: Lock = Lock { acquire, raise: sequence::raise };

fn acquire(owner: u64, word: &Word) {
    let taken: Step<()> = latch::acquire_as(&Everybody, owner, word);
    assert!(taken.is_ok());
}

fn acquire_without_fence(owner: u64, word: &Word) {
    loop {
        let seen = word.load(Ordering::Relaxed);
        if latch::owner_of(seen) == 0 && word.cas(seen, seen | owner, Ordering::Acquire).is_ok() {
            return;
        }
        thread::yield_now();
    }
}

fn no_raise(_: &Word) {}

fn value(n: u64) -> [u8; 16] {
    zerocopy::transmute!([n, !n])
}

impl Model {
    fn new(lock: Lock) -> Arc<Model> {
        let geometry = Geometry::of(Shape::Inline { key: 1, value: 2 });
        let space = Space::heap(usize::from(geometry.bucket_words) + 1);
        let model = Model { space, table: Table { root: 0, geometry }, lock };
        let bucket = model.bucket();
        model.table.fill_cell(bucket.cell(0), &KEY.to_le_bytes(), &value(1));
        bucket.set_live(Live(0).with(0, HASH));
        Arc::new(model)
    }

    fn bucket(&self) -> Bucket<'_> {
        Bucket::inside(&self.space, &self.table.geometry, 0).unwrap()
    }

    /// The latch, behind the bucket.
    fn latch(&self) -> &Word {
        self.space.word(u64::from(self.table.geometry.bucket_words) * 8).unwrap()
    }

    /// What `Table::change` does to an inline table, without the intent.
    fn write(&self, owner: u64, next: Option<u64>) {
        let (bucket, key) = (self.bucket(), KEY.to_le_bytes());
        (self.lock.acquire)(owner, self.latch());
        let live = bucket.live();
        let found = live.candidates(HASH).find(|cell| equal_bytes(&bucket.cell(*cell)[..1], &key));
        match (found, next) {
            (Some(cell), Some(n)) => {
                self.table.replace_through_spare(bucket, cell, HASH, &key, &value(n)).unwrap();
                (self.lock.raise)(bucket.sequence());
            }
            (Some(cell), None) => {
                bucket.set_live(live.without(cell));
                (self.lock.raise)(bucket.sequence());
            }
            (None, Some(n)) => {
                let cell = live.free_cell(self.table.geometry.cells).unwrap();
                self.table.fill_cell(bucket.cell(cell), &key, &value(n));
                bucket.set_live(live.with(cell, HASH));
            }
            (None, None) => {}
        }
        latch::release(self.latch());
    }

    /// One optimistic attempt: `None` if the bucket did not stand still.
    fn read(&self) -> Option<Option<u64>> {
        let bucket = self.bucket();
        let mut out = [0; 2];
        let copy = |bucket: Bucket<'_>, cell: usize, out: &mut [u64; 2]| {
            Ok(value_of::<1, 2>(bucket.cell(cell), &[KEY]).map(|value| {
                *out = value;
                16
            }))
        };
        let found = while_still(bucket.sequence(), || {
            Table::search_chain(&self.table.geometry, &self.space, HASH, bucket, &mut out, &copy)
        });
        let found = found?.expect("no bucket is corrupted here");
        Some(found.map(|len| {
            assert_eq!(len, 16);
            assert_eq!(out[1], !out[0], "a torn value");
            out[0]
        }))
    }
}

/// One reader, and a writer for each list of values (`None` removes); a reading must be among `legal`.
fn race(lock: Lock, writers: &'static [&'static [Option<u64>]], legal: &'static [Option<u64>]) {
    loom::model(move || {
        let model = Model::new(lock);
        let threads: Vec<_> = writers
            .iter()
            .zip(2..)
            .map(|(values, owner)| {
                let model = Arc::clone(&model);
                thread::spawn(move || values.iter().for_each(|next| model.write(owner, *next)))
            })
            .collect();
        if let Some(read) = model.read() {
            assert!(legal.contains(&read), "{read:?} was never there");
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // At rest the key is in at most one cell, and a reader sees what the last of some writer left.
        assert!(model.bucket().live().count() <= 1);
        let last = model.read().expect("nobody writes any more");
        assert!(writers.iter().any(|values| values.last() == Some(&last)), "{last:?} is nobody's last");
    });
}

#[test]
fn reader_against_two_replacements_by_one_writer() {
    race(REAL, &[&[Some(2), Some(3)]], &[Some(1), Some(2), Some(3)]);
}

#[test]
fn reader_against_two_replacing_writers() {
    race(REAL, &[&[Some(2)], &[Some(3)]], &[Some(1), Some(2), Some(3)]);
}

#[test]
fn reader_against_replacing_and_removing() {
    race(REAL, &[&[Some(2)], &[None]], &[Some(1), Some(2), None]);
}

/// The cell that the reader copies is not live any more, and filled anew.
#[test]
fn reader_against_removing_and_inserting() {
    race(REAL, &[&[None, Some(2)]], &[Some(1), Some(2), None]);
}

/// A reader that saw one state does not see an older one afterwards.
#[test]
fn reader_never_goes_back() {
    loom::model(|| {
        let model = Model::new(REAL);
        let writer = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.write(2, Some(2)))
        };
        if let (Some(first), Some(second)) = (model.read(), model.read()) {
            assert!(first <= second, "{second:?} after {first:?}");
        }
        writer.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "a torn value")]
fn latch_without_its_fence_is_found_out() {
    let lock = Lock { acquire: acquire_without_fence, ..REAL };
    // Two writers: the second one's stores must say that the first one has raised the sequence.
    race(lock, &[&[Some(2)], &[Some(3)]], &[Some(1), Some(2), Some(3)]);
}

#[test]
#[should_panic(expected = "a torn value")]
fn replacing_without_the_sequence_is_found_out() {
    let lock = Lock { raise: no_raise, ..REAL };
    race(lock, &[&[Some(2), Some(3)]], &[Some(1), Some(2), Some(3)]);
}

/// A reader without its fence may take the sequence for unchanged.
#[test]
#[should_panic(expected = "a torn value")]
fn reader_without_its_fence_is_found_out() {
    loom::model(|| {
        let model = Model::new(REAL);
        let writer = {
            let model = Arc::clone(&model);
            thread::spawn(move || [2, 3].into_iter().for_each(|n| model.write(2, Some(n))))
        };
        let bucket = model.bucket();
        let before = sequence::observe(bucket.sequence());
        let hit = bucket.live().candidates(HASH).find_map(|cell| value_of::<1, 2>(bucket.cell(cell), &[KEY]));
        if let Some(value) = hit
            && bucket.sequence().load(Ordering::Relaxed) == before
        {
            assert_eq!(value[1], !value[0], "a torn value");
        }
        writer.join().unwrap();
    });
}

/// The fences are loom's: without this the mutants above would prove nothing.
#[test]
fn fence_is_the_models() {
    loom::model(|| fence(Ordering::SeqCst));
}
