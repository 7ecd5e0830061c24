//! x
pub fn check() {}
