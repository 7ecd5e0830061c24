//! The shared block of bytes.

use std::ops::{Range, RangeBounds};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::array::bytes_of;
use crate::codec::fingerprint;
use crate::error::Result;
use crate::handle::{Handle, handle_traits};
use crate::mem::Segment;
use crate::raw::array::Area;
use crate::raw::object::Kind;

/// Raw bytes in shared memory, read and written by copies.
///
/// There is no reference into it: another process may write at any time, which no `&[u8]` could bear.
///
/// # Crash
/// Aligned words of eight bytes are written whole, and so are values of 2, 4 or 8 bytes at an offset that is a multiple of
/// their size. Of anything longer a kill may leave a part; who needs more writes it aside, or uses another container.
///
/// # Blocking
/// Nothing waits.
///
/// # Errors
/// `OutOfRange` for bytes beyond the end; `Corrupted`, `Evicted`.
///
/// # Examples
/// ```
/// let manager = commons::Manager::new()?;
/// let block = manager.named("frame").block(1024)?;
/// block.write(0, b"head")?;
/// let body = block.view(16..)?;
/// body.put(8, &7u32)?;
/// assert_eq!(block.get::<u32>(24)?, 7);
/// assert_eq!(block.read(0..4)?, b"head");
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Block {
    handle: Handle,
    area: Area,
}

handle_traits!([], Block, "Block");

impl Block {
    pub(crate) const KIND: Kind = Kind::Block;

    pub(crate) fn fingerprint() -> u64 {
        fingerprint(&["block"])
    }

    pub(crate) fn over(handle: Handle) -> Result<Self> {
        let area = Area::open(handle.hold.segment()?, handle.root)?;
        Ok(Block { handle, area })
    }

    /// The same block by another handle of it: nothing is read again.
    fn with_handle(&self, handle: Handle) -> Self {
        Block { handle, area: self.area.clone() }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.area.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A window on the bytes in `range`, with offsets of its own.
    pub fn view(&self, range: impl RangeBounds<u64>) -> Result<BlockView> {
        let range = bytes_of(range, self.len(), 1)?;
        Ok(BlockView { block: self.clone(), range })
    }

    /// A copy of the bytes in `range`.
    pub fn read(&self, range: impl RangeBounds<u64>) -> Result<Vec<u8>> {
        let range = bytes_of(range, self.len(), 1)?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.area.read(self.handle.hold.segment()?, range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies the bytes from `offset` on into `bytes`, all of it.
    pub fn read_into(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let range = self.span(offset, bytes.len())?;
        self.area.read(self.handle.hold.segment()?, range.start, bytes)
    }

    /// Copies `bytes` to the bytes from `offset` on.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let range = self.span(offset, bytes.len())?;
        self.area.write_bytes(self.writable()?, range.start, bytes)
    }

    /// Sets every byte in `range` to `byte`.
    pub fn fill(&self, range: impl RangeBounds<u64>, byte: u8) -> Result<()> {
        let range = bytes_of(range, self.len(), 1)?;
        self.area.write(self.writable()?, range, |_| u64::from_le_bytes([byte; 8]))
    }

    /// The plain data that begins at `offset`.
    pub fn get<T: FromBytes + IntoBytes>(&self, offset: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read_into(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Stores plain data at `offset`.
    pub fn put<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) -> Result<()> {
        self.write(offset, value.as_bytes())
    }

    fn span(&self, offset: u64, len: usize) -> Result<Range<u64>> {
        bytes_of(offset..offset.saturating_add(len as u64), self.len(), 1)
    }

    fn writable(&self) -> Result<&Segment> {
        let segment = self.handle.hold.segment()?;
        segment.still_member()?;
        Ok(segment)
    }
}

/// A window on some bytes of a [`Block`], which it keeps alive; see [`Block::view`].
#[derive(Clone, Debug)]
pub struct BlockView {
    block: Block,
    range: Range<u64>,
}

impl BlockView {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A window on the bytes in `range` of this one.
    pub fn view(&self, range: impl RangeBounds<u64>) -> Result<BlockView> {
        Ok(BlockView { block: self.block.clone(), range: self.within(range)? })
    }

    /// A copy of the bytes in `range`.
    pub fn read(&self, range: impl RangeBounds<u64>) -> Result<Vec<u8>> {
        self.block.read(self.within(range)?)
    }

    /// Copies the bytes from `offset` on into `bytes`, all of it.
    pub fn read_into(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.block.read_into(self.span(offset, bytes.len())?, bytes)
    }

    /// Copies `bytes` to the bytes from `offset` on.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.block.write(self.span(offset, bytes.len())?, bytes)
    }

    /// Sets every byte in `range` to `byte`.
    pub fn fill(&self, range: impl RangeBounds<u64>, byte: u8) -> Result<()> {
        self.block.fill(self.within(range)?, byte)
    }

    /// The plain data that begins at `offset`.
    pub fn get<T: FromBytes + IntoBytes>(&self, offset: u64) -> Result<T> {
        self.block.get(self.span(offset, size_of::<T>())?)
    }

    /// Stores plain data at `offset`.
    pub fn put<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) -> Result<()> {
        self.block.put(self.span(offset, size_of::<T>())?, value)
    }

    fn within(&self, range: impl RangeBounds<u64>) -> Result<Range<u64>> {
        let range = bytes_of(range, self.len(), 1)?;
        Ok(self.range.start + range.start..self.range.start + range.end)
    }

    /// Where `len` bytes from `offset` on begin in the block.
    fn span(&self, offset: u64, len: usize) -> Result<u64> {
        Ok(self.within(offset..offset.saturating_add(len as u64))?.start)
    }
}
