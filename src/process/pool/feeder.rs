//! Items on their way into chunks.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::chunk::Chunk;
use super::office::Office;
use super::sink::Sink;
use super::wire::{self, Names, Shown};
use crate::codec::{Auto, Encode};
use crate::error::Result;

/// Automatic chunks are not made larger than this, in bytes.
const LARGE: usize = 1 << 20;

/// Encodes the items of a call and submits them in chunks.
pub struct Feeder<A> {
    office: Arc<Office>,
    sink: Arc<dyn Sink>,
    names: Names,
    chunk_size: u32,
    /// Whether a chunk may be cut short.
    automatic: bool,
    /// Items before the chunk that is being filled.
    submitted: u64,
    message: Vec<u8>,
    count: u32,
    /// The items with handles, which must live until their tasks have ended.
    kept: Vec<A>,
}

impl<A: Serialize + Send + 'static> Feeder<A> {
    /// For calls of the function of that name, whose outcomes go to `sink`.
    pub fn new(office: &Arc<Office>, sink: Arc<dyn Sink>, names: Names, chunk_size: u32, automatic: bool) -> Feeder<A> {
        let mut message = Vec::new();
        wire::begin_chunk(&names, &mut message);
        let office = Arc::clone(office);
        Feeder { office, sink, names, chunk_size, automatic, submitted: 0, message, count: 0, kept: Vec::new() }
    }

    /// Adds an item. One that cannot be encoded has that as its outcome.
    ///
    /// # Errors
    /// Those of submitting a chunk.
    pub fn push(&mut self, item: A) -> Result<()> {
        let at = self.message.len();
        let message = &mut self.message;
        let encoded = Auto::with_encoded(&item, |encoded| {
            wire::push_item(message, encoded.bytes())?;
            Ok(encoded.has_handles())
        });
        match encoded.and_then(|pushed| pushed) {
            Ok(has_handles) => {
                self.count += 1;
                if has_handles {
                    self.kept.push(item);
                }
            }
            Err(error) => {
                self.message.truncate(at);
                self.flush()?;
                self.sink.fail(self.submitted, 1, &Shown::of(&error.within("arguments")));
                self.submitted += 1;
            }
        }
        if self.count >= self.chunk_size || self.automatic && self.message.len() > LARGE {
            self.flush()?;
        }
        Ok(())
    }

    /// Submits what there is.
    pub fn flush(&mut self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let mut message = Vec::with_capacity(self.message.len().min(LARGE));
        wire::begin_chunk(&self.names, &mut message);
        let message = std::mem::replace(&mut self.message, message);
        let kept = std::mem::take(&mut self.kept);
        let kept = (!kept.is_empty()).then(|| Arc::new(Mutex::new(Box::new(kept) as Box<_>)));
        let count = std::mem::take(&mut self.count);
        let chunk = Chunk::new(Arc::clone(&self.sink), self.submitted, count, message, kept);
        self.office.with_crew(|crew, effects| crew.submit(chunk, effects))??;
        self.submitted += u64::from(count);
        Ok(())
    }

    /// Items whose outcome will come.
    pub fn submitted(&self) -> u64 {
        self.submitted
    }
}
