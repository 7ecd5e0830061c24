//! `commons`
mod error;
mod mem;
mod os;
pub use error::{Error, ErrorKind, Result};
