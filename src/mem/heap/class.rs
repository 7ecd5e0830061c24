//! Size classes: how blocks of one size fill a 64 KiB slab.
//!
//! A slab starts with two bitmaps, `local` and `remote`, one bit for each block, and the blocks follow. Up to 3 KiB
//! the sizes are chosen, above it they follow from the number of blocks in a slab; waste is at most a quarter.
//!
//! Slabs are as far apart as pages, so bitmaps at the same place of each would all fall into the same set of every
//! cache, and a thread that uses some ten classes would miss at each of them. So they are *coloured*: neighbouring
//! pages have their bitmaps on different lines.

use crate::mem::layout::{CLASS_HINTS, PAGE};

/// Blocks larger than this are runs of whole pages.
pub const MAX_SMALL: u64 = SIZES[CLASSES - 1] as u64;

/// Bytes of a cache line.
const LINE: u32 = 64;

/// Number of classes.
pub const CLASSES: usize = 41;

/// Block size of each class.
pub const SIZES: [u32; CLASSES] = [
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792,
    2048, 2304, 2560, 3072, 3584, 4032, 4672, 5440, 6464, 7168, 8128, 9280, 10816, 13056, 16320, 21760, 26112, 32640,
];

/// A class's slab geometry.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Bytes of a block.
    pub size: u32,
    /// Blocks in a slab.
    pub blocks: u32,
    /// Words of one bitmap.
    pub words: u32,
    /// Byte offset of the first block in its page.
    pub start: u32,
    /// `ceil(2^32 / size)`: division by multiplication, exact for offsets inside a page.
    reciprocal: u32,
    /// Lines that the bitmaps may begin at, less one: a mask of the page number.
    colours: u32,
}

/// Lines that bitmaps begin at, where there is room for so many: enough that the slabs at work fit a first-level cache.
const COLOURS: u32 = 16;

const fn geometry(size: u32) -> Geometry {
    let mut colours = COLOURS;
    loop {
        // The last colours are free, or cost one block in sixty-four.
        let (most, coloured) = (blocks_beside(size, 1), blocks_beside(size, colours));
        if coloured.blocks + most.blocks / 64 >= most.blocks {
            return coloured;
        }
        colours /= 2;
    }
}

const fn blocks_beside(size: u32, colours: u32) -> Geometry {
    let page = PAGE as u32;
    // Blocks are aligned to the largest power of two that divides their size, a line pair at most: a table's buckets
    // must not straddle lines.
    let lowest_bit = size & size.wrapping_neg();
    let align = if lowest_bit > 128 { 128 } else { lowest_bit };
    let mut blocks = page / size;
    loop {
        let words = blocks.div_ceil(64);
        let start = ((colours - 1) * LINE + 2 * words * 8).next_multiple_of(align);
        if start + blocks * size <= page {
            let reciprocal = (1u64 << 32).div_ceil(size as u64) as u32;
            return Geometry { size, blocks, words, start, reciprocal, colours: colours - 1 };
        }
        blocks -= 1;
    }
}

/// The geometry of every class.
pub static GEOMETRY: [Geometry; CLASSES] = {
    let mut all = [geometry(16); CLASSES];
    let mut i = 0;
    while i < CLASSES {
        all[i] = geometry(SIZES[i]);
        i += 1;
    }
    all
};

/// Class of each size up to 1024, in steps of 16.
static SMALL: [u8; 65] = {
    let mut table = [0u8; 65];
    let mut i = 0;
    while i < 65 {
        table[i] = search(i as u64 * 16) as u8;
        i += 1;
    }
    table
};

/// Class of each larger size, in steps of 64: all of those are multiples of it.
static MEDIUM: [u8; MAX_SMALL as usize / 64 + 1] = {
    let mut table = [0u8; MAX_SMALL as usize / 64 + 1];
    let mut i = 0;
    while i < table.len() {
        table[i] = search(i as u64 * 64) as u8;
        i += 1;
    }
    table
};

/// Stands for the sizes and colours, on which two builds must agree.
pub const FORMAT: u64 = {
    let mut hash = CLASSES as u64;
    let mut i = 0;
    while i < CLASSES {
        let g = geometry(SIZES[i]);
        hash = (hash ^ (g.size as u64) << 32 ^ (g.start as u64) << 8 ^ g.colours as u64)
            .wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
};

const fn search(size: u64) -> usize {
    let mut class = 0;
    while class < CLASSES && (SIZES[class] as u64) < size {
        class += 1;
    }
    class
}

const _: () = {
    assert!(CLASSES <= CLASS_HINTS);
    let mut i = 1;
    while i < CLASSES {
        assert!(SIZES[i] > SIZES[i - 1] && SIZES[i].is_multiple_of(if SIZES[i] <= 1024 { 16 } else { 64 }));
        i += 1;
    }
};

/// The class whose blocks hold `size` bytes; `None` if it takes whole pages.
#[inline(always)]
pub fn class_of(size: u64) -> Option<usize> {
    let class = if size <= 1024 { SMALL.get((size as usize + 15) >> 4) } else { medium_class_of(size) };
    class.map(|class| *class as usize)
}

#[inline(never)]
fn medium_class_of(size: u64) -> Option<&'static u8> {
    MEDIUM.get(usize::try_from(size.div_ceil(64)).ok()?)
}

impl Geometry {
    /// Index of the block at byte offset `at` in its page, if one starts there.
    #[inline(always)]
    pub fn index_of(&self, at: u32) -> Option<u32> {
        let quotient = u64::from(at.checked_sub(self.start)?) * u64::from(self.reciprocal);
        // What is below the point is less than one reciprocal exactly if the division leaves no rest.
        let index = (quotient >> 32) as u32;
        (index < self.blocks && (quotient as u32) < self.reciprocal).then_some(index)
    }

    /// Offset of the bitmaps of the slab at `page`.
    #[inline(always)]
    pub fn bitmaps(&self, page: u64) -> u64 {
        page * PAGE + (page & u64::from(self.colours)) * u64::from(LINE)
    }

    /// Byte offset of block `index` in its page.
    #[inline]
    pub fn offset_of(&self, index: u32) -> u64 {
        u64::from(self.start + index * self.size)
    }

    /// The bits of bitmap word `word` that stand for blocks.
    #[inline]
    pub fn mask(&self, word: u32) -> u64 {
        match self.blocks - word * 64 {
            bits if bits >= 64 => u64::MAX,
            bits => (1 << bits) - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves for every class: blocks and bitmaps tile the page without overlap, and offset and index are inverse
    //! for every byte of the page.
    use super::*;

    #[test]
    fn geometry_of_every_class() {
        for (class, g) in GEOMETRY.iter().enumerate() {
            assert!(g.start + g.blocks * g.size <= PAGE as u32, "{g:?}");
            for page in 0..64 {
                let bitmaps = g.bitmaps(page);
                assert!(
                    bitmaps / PAGE == page && bitmaps % PAGE + u64::from(16 * g.words) <= u64::from(g.start),
                    "{g:?}"
                );
            }
            assert_eq!(g.words, g.blocks.div_ceil(64));
            let mut starts = 0;
            for at in 0..PAGE as u32 {
                if let Some(index) = g.index_of(at) {
                    assert_eq!(g.offset_of(index), u64::from(at));
                    starts += 1;
                }
            }
            assert_eq!(starts, g.blocks);
            assert_eq!((0..g.words).map(|w| g.mask(w).count_ones()).sum::<u32>(), g.blocks);
            assert_eq!(class_of(u64::from(g.size)), Some(class));
        }
        assert_eq!(class_of(0), Some(0));
        assert_eq!(class_of(MAX_SMALL + 1), None);
        for size in 1..=MAX_SMALL {
            let class = class_of(size).unwrap();
            assert!(u64::from(SIZES[class]) >= size && (class == 0 || u64::from(SIZES[class - 1]) < size));
        }
    }
}
