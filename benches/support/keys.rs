//! Keys, values and the order in which they are drawn, the same for every rival.
//!
//! Key `i` comes from [`splitmix64`] of `i`, which is a bijection: different numbers give different keys. Draws come
//! from the generator of the same name (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014)
//! with fixed seeds. The time to make a key and to draw is part of every row.

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of the generator, applied to the state that follows `x`.
#[inline]
pub fn splitmix64(x: u64) -> u64 {
    let mut z = x.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of draws that depends on its seed only.
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Draws(splitmix64(seed))
    }

    #[inline]
    pub fn next(&mut self) -> u64 {
        let drawn = splitmix64(self.0);
        self.0 = self.0.wrapping_add(STEP);
        drawn
    }

    /// A draw from `0..bound`; the bias is below `bound / 2^32`.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        scale(self.next(), bound)
    }
}

/// The high half of a draw, scaled to `0..bound`. The low half stays free for a second use of the same draw.
#[inline]
pub fn scale(drawn: u64, bound: u32) -> u32 {
    (((drawn >> 32) * u64::from(bound)) >> 32) as u32
}

/// The key with number `i`.
pub trait Key: Copy {
    fn nth(i: u32) -> Self;
}

impl Key for u64 {
    #[inline]
    fn nth(i: u32) -> Self {
        splitmix64(u64::from(i))
    }
}

impl Key for [u8; 16] {
    #[inline]
    fn nth(i: u32) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&splitmix64(u64::from(i)).to_le_bytes());
        key[8..].copy_from_slice(&splitmix64(!u64::from(i)).to_le_bytes());
        key
    }
}

/// A value or message that carries a number, by which the row checks that it got the right one.
pub trait Numbered: Copy {
    fn numbered(n: u64) -> Self;
    fn number(&self) -> u64;
}

impl Numbered for u64 {
    #[inline]
    fn numbered(n: u64) -> Self {
        n
    }

    #[inline]
    fn number(&self) -> u64 {
        *self
    }
}

impl Numbered for [u8; 256] {
    /// The number in front, then its low byte in all others.
    #[inline]
    fn numbered(n: u64) -> Self {
        let mut value = [n as u8; 256];
        value[..8].copy_from_slice(&n.to_le_bytes());
        value
    }

    #[inline]
    fn number(&self) -> u64 {
        u64::from_le_bytes(self[..8].try_into().expect("eight bytes"))
    }
}
