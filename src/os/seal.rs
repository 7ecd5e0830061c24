//! Functions named over shared memory, which anybody may have written to.
//!
//! A [`FunctionRef`](super::FunctionRef) is believed because of the channel that it came by. Over shared memory a function
//! is named by a [`Sealed`]: its place in the program, and a keyed hash (SipHash-2-4) of that place, the program and the
//! function's type. The key is a [`Secret`] that never is in shared memory; so whoever can write there, but does not have
//! the key, cannot name a function that the holder of the key has not named: a wrong tag is an error.

use std::io;

use serde::{Deserialize, Serialize};

use super::code::{program, signature_of};
use super::identity::random_u64;

/// A pointer to a function of this program.
///
/// # Safety
/// `at` gives back the function whose `address` it is given.
pub unsafe trait Function: Copy + 'static {
    /// Its address.
    fn address(self) -> usize;

    /// The function at an address.
    ///
    /// # Safety
    /// `address` is one that `address` gave for a function of this very type, in this process.
    unsafe fn at(address: *const ()) -> Self;
}

macro_rules! functions {
    ($($arg:ident)*) => {
        // SAFETY: both are conversions of the same pointer, without any change.
        unsafe impl<$($arg: 'static,)* R: 'static> Function for fn($($arg),*) -> R {
            fn address(self) -> usize {
                self as usize
            }

            unsafe fn at(address: *const ()) -> Self {
                // SAFETY: by this function's contract, a pointer to a function of this type; function pointers have the
                // size and the representation of thin data pointers on this platform.
                unsafe { std::mem::transmute::<*const (), Self>(address) }
            }
        }
    };
}
functions!(A);
functions!(A B);

/// A key that a process shares with its children, over their channels only.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secret([u64; 2]);

/// A function, named to whoever has the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Distance from the load address.
    pub offset: u32,
    /// What proves that somebody with the secret named it.
    pub tag: u64,
}

impl Secret {
    /// A new one.
    pub fn new() -> Secret {
        Secret([random_u64(), random_u64()])
    }

    /// Names `function`.
    ///
    /// # Errors
    /// If it is not in the executable itself, or 4 GiB from its start; if the executable cannot be identified.
    pub fn seal<F: Function>(&self, function: F) -> io::Result<Sealed> {
        let program = program()?;
        let offset = function.address().wrapping_sub(program.base);
        if !program.has_code_at(offset) {
            return Err(io::Error::other("the function is not part of the executable, but of a library"));
        }
        let offset = u32::try_from(offset).map_err(|_| io::Error::other("the executable is larger than 4 GiB"))?;
        Ok(Sealed { offset, tag: self.tag::<F>(offset, &program.id) })
    }

    /// The function that [`seal`](Secret::seal) named, perhaps in another process of the same program.
    ///
    /// # Errors
    /// If nobody with this secret named it so.
    pub fn open<F: Function>(&self, sealed: Sealed) -> io::Result<F> {
        let program = program()?;
        if sealed.tag != self.tag::<F>(sealed.offset, &program.id) || !program.has_code_at(sealed.offset as usize) {
            return Err(io::Error::other("a function that nobody named"));
        }
        let address = std::ptr::with_exposed_provenance::<()>(program.base.wrapping_add(sealed.offset as usize));
        // SAFETY: `address` is that of a function of type `F` in this process:
        // - the tag was made by `seal`, in this process or one of the same secret, for a function of this type (by its
        //   `TypeId`) in the same program (by its build id) at this offset. Nobody without the secret can make one but by
        //   guessing 64 bits, and the secret goes only over channels between processes of the same user (see `code`);
        // - executables are never unloaded, and `has_code_at` has it in a mapped, executable segment.
        Ok(unsafe { F::at(address) })
    }

    fn tag<F: Function>(&self, offset: u32, program: &[u8]) -> u64 {
        let mut message = Vec::with_capacity(64);
        message.extend(offset.to_le_bytes());
        message.extend(signature_of::<F>().to_le_bytes());
        message.extend(program);
        siphash(self.0, &message)
    }
}

/// SipHash-2-4 (Aumasson, Bernstein 2012).
fn siphash(key: [u64; 2], message: &[u8]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let mut absorb = |word: u64| {
        v[3] ^= word;
        rounds(&mut v, 2);
        v[0] ^= word;
    };
    let (words, rest) = message.as_chunks::<8>();
    words.iter().for_each(|word| absorb(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = message.len() as u8;
    absorb(u64::from_le_bytes(last));
    v[2] ^= 0xff;
    rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn rounds(v: &mut [u64; 4], count: u32) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    //! Proves that a function is found again by who has the secret, and that anything else is an error, never a jump.
    use super::*;

    fn double(number: u32) -> u64 {
        u64::from(number) * 2
    }

    fn sum(a: u32, b: u32) -> u32 {
        a + b
    }

    #[test]
    fn functions_are_found_again() {
        let secret = Secret::new();
        let sealed = secret.seal(double as fn(u32) -> u64).unwrap();
        assert_eq!(secret.open::<fn(u32) -> u64>(sealed).unwrap()(21), 42);
        let sealed = secret.seal(sum as fn(u32, u32) -> u32).unwrap();
        assert_eq!(secret.open::<fn(u32, u32) -> u32>(sealed).unwrap()(1, 2), 3);
    }

    #[test]
    fn what_nobody_named_is_refused() {
        let secret = Secret::new();
        let sealed = secret.seal(double as fn(u32) -> u64).unwrap();
        assert!(secret.open::<fn(u32) -> u32>(sealed).is_err(), "another type");
        assert!(Secret::new().open::<fn(u32) -> u64>(sealed).is_err(), "another secret");
        for bit in 0..32 {
            let offset = sealed.offset ^ 1 << bit;
            assert!(secret.open::<fn(u32) -> u64>(Sealed { offset, ..sealed }).is_err(), "offset, bit {bit}");
        }
        for bit in 0..64 {
            let tag = sealed.tag ^ 1 << bit;
            assert!(secret.open::<fn(u32) -> u64>(Sealed { tag, ..sealed }).is_err(), "tag, bit {bit}");
        }
    }

    /// The vectors of the authors' reference implementation.
    #[test]
    fn the_hash_is_siphash() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(key, &message), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(key, &[]), 0x726f_db47_dd0e_0e31);
    }
}
