//! The answers we keep.

use crate::limit::Limit;

/// Bytes for all answers together.
pub const SIZE: Limit<u64> = Limit::new(1 << 20, 32 << 20, 64 << 30);

/// Section `[cache]`, the part that concerns the store itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`SIZE`]. Takes effect at start.
    pub size: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { size: SIZE.default }
    }
}
