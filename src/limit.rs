//! A number with its bounds: every setting, queue, retry and batch has one, with a name.

use std::fmt::Debug;

/// The bounds and the default of one quantity. The unit is that of `T`, or named where the limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit<T> {
    /// The smallest value that works.
    pub min: T,
    /// What holds when nobody says anything.
    pub default: T,
    /// The largest value that makes sense.
    pub max: T,
}

impl<T: PartialOrd + Copy + Debug> Limit<T> {
    /// The three values, in rising order.
    pub const fn new(min: T, default: T, max: T) -> Self {
        Self { min, default, max }
    }

    /// Whether `value` lies within the bounds, both ends included.
    pub fn contains(&self, value: T) -> bool {
        self.min <= value && value <= self.max
    }
}
