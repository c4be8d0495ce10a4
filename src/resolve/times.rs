//! How long stale data and failures count in a zone: by its own word, or as everywhere.

use std::time::Duration;

use super::Settings;
use crate::cache::FailureTimes;
use crate::limit::Limit;

/// How long a zone remembers a first failure. RFC 9520 section 3.2 wants a second at least, and that is what holds
/// where nothing is said. Zero is for zones that must not remember any: each query is asked then, and only those
/// that come while it is under way share its failure.
pub const ZONE_FAILURE_TTL: Limit<Duration> =
    Limit::new(Duration::ZERO, Duration::from_secs(1), Duration::from_secs(300));

/// The times of one zone's own; `None`: the same as everywhere ([`Settings`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnTimes {
    /// See [`STALE_AFTER`](super::STALE_AFTER).
    pub stale_after: Option<Duration>,
    /// See [`STALE_RETRY`](super::STALE_RETRY).
    pub stale_retry: Option<Duration>,
    /// See [`STALE_TTL`](super::STALE_TTL).
    pub stale_ttl: Option<Duration>,
    /// See [`ZONE_FAILURE_TTL`].
    pub failure_ttl: Option<Duration>,
    /// See [`FAILURE_TTL_MAX`](super::FAILURE_TTL_MAX).
    pub failure_ttl_max: Option<Duration>,
}

/// The times that hold in one zone.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long fresh data may take before stale data is served.
    pub stale_after: Duration,
    /// The TTL of stale data, in seconds.
    pub stale_ttl: u32,
    /// How long failures are remembered.
    pub failures: FailureTimes,
}

impl OwnTimes {
    /// What holds, where `all` is for everybody. A first failure that is remembered for longer than the longest of
    /// everybody is the longest itself.
    pub fn over(&self, all: &Settings) -> Times {
        let first = self.failure_ttl.unwrap_or(all.failure_ttl);
        let longest = self.failure_ttl_max.unwrap_or(all.failure_ttl_max.max(first));
        let stale_ttl = self.stale_ttl.unwrap_or(all.stale_ttl).as_secs();
        Times {
            stale_after: self.stale_after.unwrap_or(all.stale_after),
            stale_ttl: u32::try_from(stale_ttl).unwrap_or(u32::MAX),
            failures: FailureTimes {
                first,
                longest,
                with_stale: self.stale_retry.unwrap_or(all.stale_retry),
            },
        }
    }
}
