//! A bucket's words: geometry, the live-and-fingerprint word, and cells.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::{MAX_CHAIN, Shape};
use crate::error::{Error, Result};
use crate::mem::layout::MAX_CAPACITY;
use crate::mem::{Segment, Space, Word};

/// Word that links an overflow bucket, and in a primary bucket is the sequence of its chain: `sequence:28 | link:36`, the
/// link in units of [`LINK_UNIT`].
const HEAD: usize = 0;
/// Word that says which cells are live and holds a byte of each one's hash.
const LIVE: usize = 1;
const CELLS: usize = 2;

/// Bits of a link.
pub const LINK_BITS: u32 = 36;
const LINK: u64 = (1 << LINK_BITS) - 1;
/// What every offset of a bucket is a multiple of: blocks of whole lines begin at one.
const LINK_UNIT: u64 = 64;
const _: () = assert!(MAX_CAPACITY <= LINK_UNIT << LINK_BITS, "a link reaches every bucket");

/// What says in a byte of the live word that its cell is live.
const LIVE_BIT: u64 = 0x80;
const BYTES_01: u64 = 0x0101_0101_0101_0101;
const LIVE_BITS: u64 = BYTES_01 * LIVE_BIT;

/// Bits of an offset in a boxed cell; the tag is above.
const OFFSET_BITS: u32 = 48;
const OFFSET: u64 = (1 << OFFSET_BITS) - 1;

/// Sizes of a table's buckets and cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Whether cells refer to entry blocks.
    pub boxed: bool,
    /// Words of an inline key.
    pub key_words: u8,
    /// Words of an inline value.
    pub value_words: u8,
    /// Words of a cell.
    pub cell_words: u8,
    /// Cells in a bucket.
    pub cells: u8,
    /// Cells that inserting may fill: all, or one less where replacing needs a spare one.
    pub usable: u8,
    /// Words of a bucket.
    pub bucket_words: u8,
    /// Bytes of a bucket, as a power of two.
    pub bucket_shift: u8,
}

impl Geometry {
    /// The geometry of a shape.
    pub const fn of(shape: Shape) -> Geometry {
        let (boxed, key_words, value_words, cell_words, bucket_words) = match shape {
            Shape::Boxed => (true, 0, 0, 1, 8),
            Shape::Inline { key, value } => {
                let words = key + value;
                (false, key, value, words, if words <= 2 { 8 * words } else { 32 })
            }
        };
        let room = (bucket_words - CELLS as u8) / cell_words;
        let cells = if room > 8 { 8 } else { room };
        let spare = !boxed && value_words > 1;
        Geometry {
            boxed,
            key_words,
            value_words,
            cell_words,
            cells,
            usable: if spare { cells - 1 } else { cells },
            bucket_words,
            bucket_shift: bucket_words.trailing_zeros() as u8 + 3,
        }
    }

    /// The shape that it was made for.
    pub fn shape(&self) -> Shape {
        match self.boxed {
            true => Shape::Boxed,
            false => Shape::Inline { key: self.key_words, value: self.value_words },
        }
    }

    /// As stored in the root.
    pub fn pack(&self) -> u64 {
        0x7ab1e << 24 | u64::from(self.boxed) << 16 | u64::from(self.key_words) << 8 | u64::from(self.value_words)
    }

    /// Reads what [`Geometry::pack`] stored.
    pub fn unpack(word: u64) -> Result<Geometry> {
        let (key, value) = ((word >> 8) as u8, word as u8);
        let shape = match word >> 16 & 1 {
            1 => Shape::Boxed,
            _ if matches!(key, 1..=3) && value <= 3 && key + value <= 4 => Shape::Inline { key, value },
            _ => return Err(Error::corrupted("the geometry of a table")),
        };
        let geometry = Geometry::of(shape);
        if geometry.pack() != word {
            return Err(Error::corrupted("the geometry of a table"));
        }
        Ok(geometry)
    }
}

/// The byte that stands in the live word for a live cell of `hash`: never 0, for its highest bit says that the cell is live.
#[inline(always)]
fn fingerprint(hash: u64) -> u64 {
    hash >> 57 | LIVE_BIT
}

/// The bits of `hash` that stand in a boxed cell.
#[inline(always)]
fn tag(hash: u64) -> u64 {
    hash >> 40 & 0xffff
}

/// A boxed cell's word.
#[inline]
pub fn boxed_cell(hash: u64, off: u64) -> u64 {
    tag(hash) << OFFSET_BITS | off & OFFSET
}

/// The block that a boxed cell refers to.
#[inline]
pub fn block_of(cell: u64) -> u64 {
    cell & OFFSET
}

/// Whether a boxed cell may belong to `hash`.
#[inline(always)]
pub fn tag_matches(cell: u64, hash: u64) -> bool {
    cell >> OFFSET_BITS == tag(hash)
}

/// A live word: a byte for each cell, 0 where the cell is not live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live(pub u64);

impl Live {
    /// Whether cell `cell` is live.
    #[inline(always)]
    pub fn has(self, cell: usize) -> bool {
        self.0 >> (8 * cell) & LIVE_BIT != 0
    }

    /// Number of live cells.
    #[inline(always)]
    pub fn count(self) -> u32 {
        (self.0 & LIVE_BITS).count_ones()
    }

    /// With cell `cell` live under `hash`.
    #[inline(always)]
    pub fn with(self, cell: usize, hash: u64) -> Live {
        Live(self.without(cell).0 | fingerprint(hash) << (8 * cell))
    }

    /// With cell `cell` not live.
    #[inline(always)]
    pub fn without(self, cell: usize) -> Live {
        Live(self.0 & !(0xff << (8 * cell)))
    }

    /// Live cells whose fingerprint may be that of `hash`, without a branch for each.
    #[inline(always)]
    pub fn candidates(self, hash: u64) -> Candidates {
        // A byte of `x` is zero where fingerprints agree, and none that stands for a cell that is not live. The classic
        // test may also flag the byte after a match; the key is compared anyway.
        let x = self.0 ^ (fingerprint(hash) * BYTES_01);
        Candidates(x.wrapping_sub(BYTES_01) & !x & LIVE_BITS)
    }

    /// The first cell that is not live, of the first `cells`.
    #[inline(always)]
    pub fn free_cell(self, cells: u8) -> Option<usize> {
        let free = !self.0 & LIVE_BITS & bytes_of(cells);
        (free != 0).then(|| free.trailing_zeros() as usize / 8)
    }
}

/// The bytes of a live word that speak of the first `cells` cells, of which there are some.
const fn bytes_of(cells: u8) -> u64 {
    u64::MAX >> (64 - 8 * cells)
}

/// Iterator over the cells of [`Live::candidates`].
pub struct Candidates(u64);

impl Iterator for Candidates {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let cell = self.0.trailing_zeros() as usize / 8;
        self.0 &= self.0 - 1;
        Some(cell)
    }
}

/// One bucket, primary or overflow.
#[derive(Clone, Copy)]
pub struct Bucket<'a> {
    /// Its words.
    pub words: &'a [Word],
    /// Words of a cell.
    cell_words: usize,
    /// What of the live word speaks of cells that there are: a hostile peer may set the other bits.
    live_mask: u64,
}

impl<'a> Bucket<'a> {
    /// The bucket at `off`.
    #[inline(always)]
    pub fn at(segment: &'a Segment, geometry: &Geometry, off: u64) -> Result<Bucket<'a>> {
        Bucket::inside(segment.space(), geometry, off)
    }

    /// The bucket at `off` of `space`.
    #[inline(always)]
    pub fn inside(space: &'a Space, geometry: &Geometry, off: u64) -> Result<Bucket<'a>> {
        Ok(Bucket::over(space.words(off, geometry.bucket_words as usize)?, geometry))
    }

    /// [`Bucket::inside`] as far as this process knows the space to have grown.
    #[inline(always)]
    pub fn glance(space: &'a Space, geometry: &Geometry, off: u64) -> Option<Bucket<'a>> {
        Some(Bucket::over(space.glance(off, geometry.bucket_words as usize)?, geometry))
    }

    /// The bucket that is these words.
    #[inline(always)]
    fn over(words: &'a [Word], geometry: &Geometry) -> Bucket<'a> {
        Bucket { words, cell_words: geometry.cell_words as usize, live_mask: bytes_of(geometry.cells) }
    }

    /// The sequence, of a primary bucket.
    #[inline(always)]
    pub fn sequence(&self) -> &'a Word {
        self.head()
    }

    /// The word that holds the link.
    #[inline(always)]
    pub fn head(&self) -> &'a Word {
        &self.words[HEAD]
    }

    /// The live word.
    #[inline(always)]
    pub fn live(&self) -> Live {
        Live(self.words[LIVE].load(Ordering::Acquire) & self.live_mask)
    }

    /// Whether the live word speaks of cells that there are not.
    pub fn has_strangers(&self) -> bool {
        self.words[LIVE].load(Ordering::Acquire) & !self.live_mask != 0
    }

    /// Stores the live word: what it says is visible from here on.
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn set_live(&self, live: Live) {
        self.words[LIVE].store(live.0, Ordering::Release);
    }

    /// The link to the next bucket of the chain, or 0.
    #[inline(always)]
    pub fn link(&self) -> u64 {
        (self.head().load(Ordering::Acquire) & LINK) * LINK_UNIT
    }

    /// Links the bucket at `off`, or none if that is 0. The caller holds the latch of the chain, or nobody knows it.
    ///
    /// # Errors
    /// `Corrupted` for what is no bucket's offset.
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn set_link(&self, off: u64) -> Result<()> {
        if off / LINK_UNIT > LINK || !off.is_multiple_of(LINK_UNIT) {
            return Err(Error::corrupted("the offset of a bucket"));
        }
        let sequence = self.head().load(Ordering::Relaxed) & !LINK;
        self.head().store(sequence | (off / LINK_UNIT), Ordering::Release);
        Ok(())
    }

    /// Makes it an empty bucket, before anybody knows of it.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn clear(&self) {
        self.words[LIVE].store(0, Ordering::Relaxed);
        self.head().store(0, Ordering::Release);
    }

    /// The words of cell `cell`.
    #[inline(always)]
    pub fn cell(&self, cell: usize) -> &'a [Word] {
        &self.words[CELLS + cell * self.cell_words..][..self.cell_words]
    }

    /// Live cells.
    pub fn live_cells(&self) -> impl Iterator<Item = usize> + use<> {
        let live = self.live();
        (0..8).filter(move |cell| live.has(*cell))
    }
}

/// The buckets of a chain, the primary one first; most have but one or two.
pub type Chain<'a> = SmallVec<[Bucket<'a>; 4]>;

/// Reads a chain.
pub fn chain<'a>(segment: &'a Segment, geometry: &Geometry, primary: u64) -> Result<Chain<'a>> {
    let mut buckets = Chain::new();
    buckets.push(Bucket::at(segment, geometry, primary)?);
    loop {
        let link = buckets[buckets.len() - 1].link();
        if link == 0 {
            return Ok(buckets);
        }
        if buckets.len() == MAX_CHAIN {
            return Err(Error::corrupted("a chain of buckets without end"));
        }
        buckets.push(Bucket::at(segment, geometry, link)?);
    }
}

#[cfg(test)]
mod tests {
    //! Proves that candidates miss no match, and that geometries fit their buckets.
    use super::*;

    #[test]
    fn candidates_miss_nothing() {
        let mut live = Live(0);
        for (cell, print) in [0u64, 1, 0x7f, 0x40, 0, 0x3f, 0x41, 0x40].into_iter().enumerate() {
            live = live.with(cell, print << 57);
            assert!(live.has(cell) && live.count() == cell as u32 + 1);
            assert_eq!(live.free_cell(8), (cell < 7).then_some(cell + 1));
            assert_eq!(live.free_cell(7), (cell < 6).then_some(cell + 1));
        }
        for print in 0..128u64 {
            let found: Vec<_> = live.candidates(print << 57).collect();
            for cell in 0..8 {
                let matches = live.0 >> (8 * cell) & 0x7f == print;
                assert!(!matches || found.contains(&cell), "{print:x} {cell}");
            }
            assert!(found.iter().all(|cell| live.has(*cell)));
        }
        assert_eq!(live.without(4).candidates(0).collect::<Vec<_>>()[0], 0);
        assert!(!live.without(4).candidates(0).any(|cell| cell == 4));
    }

    #[test]
    fn geometries_fit() {
        for shape in
            (1..=3).flat_map(|key| (0..=3).map(move |value| Shape::Inline { key, value })).chain([Shape::Boxed])
        {
            if let Shape::Inline { key, value } = shape
                && key + value > 4
            {
                continue;
            }
            let g = Geometry::of(shape);
            assert!(CELLS + g.cells as usize * g.cell_words as usize <= g.bucket_words as usize, "{g:?}");
            assert!(g.usable >= 6, "{g:?}");
            assert_eq!(Geometry::unpack(g.pack()).unwrap(), g);
        }
    }
}
