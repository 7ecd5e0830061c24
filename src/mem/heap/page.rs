//! The page-table word: what a page of the segment is. This file alone knows its bits.
//!
//! `argument:32 | owner:16 | class:8 | kind:8`
//!
//! ```text
//! FREE --reserve--> RESERVED(owner) --as slab--> SLAB(class, owner) <--adopt/disown--> SLAB(class, none)
//!   ^                  |  |  \--as head of a run--> LARGE(pages) --free--> FREE          |
//!   |                  |  \--as rest of a run--> TAIL(head) --free--> FREE               |
//!   +---give back------+------------------------------------------------- retire -------+
//! ```

/// A decoded page word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Nobody's.
    Free,
    /// Taken by the slot that is building something in it.
    Reserved {
        /// `slot + 1`.
        owner: u64,
    },
    /// Blocks of one class.
    Slab {
        /// The size class.
        class: usize,
        /// `slot + 1`, or 0.
        owner: u64,
    },
    /// First page of a block of whole pages.
    Large {
        /// Pages of the block.
        pages: u64,
    },
    /// A further page of such a block.
    Tail {
        /// The block's first page.
        head: u64,
    },
    /// No page that the heap ever makes.
    Invalid,
}

const RESERVED: u64 = 1;
const SLAB: u64 = 2;
const LARGE: u64 = 3;
const TAIL: u64 = 4;

/// The class of the slab that a page word stands for, if it belongs to `owner`.
#[inline(always)]
pub fn owned_class(word: u64, owner: u64) -> Option<usize> {
    let class = (word >> 8 & 0xff) as usize;
    (word & !0xff00 == owner << 16 | SLAB && class < super::class::CLASSES).then_some(class)
}

impl PageState {
    /// The word.
    #[inline]
    pub const fn pack(self) -> u64 {
        match self {
            PageState::Free | PageState::Invalid => 0,
            PageState::Reserved { owner } => owner << 16 | RESERVED,
            PageState::Slab { class, owner } => owner << 16 | (class as u64) << 8 | SLAB,
            PageState::Large { pages } => pages << 32 | LARGE,
            PageState::Tail { head } => head << 32 | TAIL,
        }
    }

    /// Takes a word apart.
    #[inline]
    pub fn unpack(word: u64) -> PageState {
        let owner = word >> 16 & 0xffff;
        let class = (word >> 8 & 0xff) as usize;
        match word & 0xff {
            0 if word == 0 => PageState::Free,
            RESERVED => PageState::Reserved { owner },
            SLAB if class < super::class::CLASSES => PageState::Slab { class, owner },
            LARGE => PageState::Large { pages: word >> 32 },
            TAIL => PageState::Tail { head: word >> 32 },
            _ => PageState::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves that states survive packing and that every other word is `Invalid`.
    use super::*;

    #[test]
    fn round_trip() {
        let states = [
            PageState::Free,
            PageState::Reserved { owner: 1024 },
            PageState::Slab { class: 40, owner: 0 },
            PageState::Slab { class: 0, owner: 7 },
            PageState::Large { pages: 8191 },
            PageState::Tail { head: 0xffff_ffff },
        ];
        for state in states {
            assert_eq!(PageState::unpack(state.pack()), state);
            let owned = match state {
                PageState::Slab { class, owner: 7 } => Some(class),
                _ => None,
            };
            assert_eq!(owned_class(state.pack(), 7), owned);
        }
        for word in [5, 1 << 63, 0xff00 | SLAB] {
            assert_eq!(PageState::unpack(word), PageState::Invalid);
            assert_eq!(owned_class(word, word >> 16 & 0xffff), None);
        }
    }
}
