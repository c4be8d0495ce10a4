//! What time it is, as the logic of the road sees it.
//!
//! The clock is `CLOCK_BOOTTIME` (Linux 2.6.39): monotonic, and it counts while a machine sleeps, so a
//! laptop that wakes up does not serve yesterday's addresses as fresh. Event loops read it once a batch and
//! hand it down; nothing below reads a clock, so tests need no sleeping.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, in milliseconds since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(u64);

impl Now {
    /// Reads the clock.
    pub fn read() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self((t.tv_sec as u64) * 1000 + (t.tv_nsec as u64) / 1_000_000)
    }

    /// A moment by its milliseconds, for tests and for state handed over.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the machine started.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds from `earlier` to here, rounded down; zero if `earlier` is later.
    pub const fn seconds_since(self, earlier: Self) -> u32 {
        (self.0.saturating_sub(earlier.0) / 1000) as u32
    }
}

impl Add<Duration> for Now {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d.as_millis() as u64))
    }
}

impl Sub<Duration> for Now {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(d.as_millis() as u64))
    }
}
