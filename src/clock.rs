//! What time it is, as the logic of the road sees it.
//!
//! The clock is `CLOCK_BOOTTIME` (Linux 2.6.39): monotonic, and it counts while a machine sleeps, so a
//! laptop that wakes up does not serve yesterday's addresses as fresh. Event loops read it once a batch and
//! hand it down; nothing below reads a clock, so tests need no sleeping.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, in nanoseconds since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(u64);

impl Now {
    /// Reads the clock.
    pub fn read() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self((t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64)
    }

    /// A moment by its milliseconds, for tests and for state handed over.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// A moment by its nanoseconds since the machine started.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the machine started.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds from `earlier` to here, rounded down; zero if `earlier` is later.
    pub const fn seconds_since(self, earlier: Self) -> u32 {
        (self.0.saturating_sub(earlier.0) / 1_000_000_000) as u32
    }
}

impl Add<Duration> for Now {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(nanos(d)))
    }
}

impl Sub<Duration> for Now {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(d)))
    }
}

/// 584 years at most.
fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
