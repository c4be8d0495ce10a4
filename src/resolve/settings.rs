//! What holds for misses in every zone, and its limits.

use std::time::Duration;

use crate::limit::Limit;

/// Questions under way at one worker; beyond it a client hears SERVFAIL.
pub const FLIGHTS: Limit<usize> = Limit::new(16, 8192, 1_000_000);
/// Clients that wait for one flight; beyond it a client hears SERVFAIL.
pub const WAITERS: Limit<usize> = Limit::new(1, 1024, 65_536);
/// Refreshes ahead of expiry under way at one worker; beyond it an entry just expires.
pub const PREFETCHES: Limit<usize> = Limit::new(0, 64, 4096);
/// A client's whole wait, before SERVFAIL. glibc gives up at 5 s.
pub const DEADLINE: Limit<Duration> =
    Limit::new(Duration::from_millis(500), Duration::from_millis(3900), Duration::from_millis(4000));
/// How long fresh data may take before stale data is served (RFC 8767 section 5: 1.8 s).
pub const STALE_AFTER: Limit<Duration> =
    Limit::new(Duration::ZERO, Duration::from_millis(1800), Duration::from_millis(3800));
/// How long stale data is served at once after a failed refresh (RFC 8767 section 5: at least 30 s).
pub const STALE_RETRY: Limit<Duration> =
    Limit::new(Duration::from_secs(1), Duration::from_secs(30), Duration::from_secs(300));
/// The TTL that stale data carries (RFC 8767 section 4: 30 s).
pub const STALE_TTL: Limit<Duration> =
    Limit::new(Duration::from_secs(1), Duration::from_secs(30), Duration::from_secs(300));
/// How long a first failure is remembered (RFC 9520 section 3.2: at least 1 s).
pub const FAILURE_TTL: Limit<Duration> =
    Limit::new(Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(300));
/// How long a failure is remembered at most; it doubles up to here (RFC 9520 section 3.2: at most 5 min).
pub const FAILURE_TTL_MAX: Limit<Duration> =
    Limit::new(Duration::from_secs(1), Duration::from_secs(30), Duration::from_secs(300));

/// What holds for misses in every zone; sections `[cache]` and `[upstream]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`FLIGHTS`].
    pub flights: usize,
    /// See [`WAITERS`].
    pub waiters: usize,
    /// See [`PREFETCHES`]; 0 turns prefetching off.
    pub prefetches: usize,
    /// See [`DEADLINE`].
    pub deadline: Duration,
    /// See [`STALE_AFTER`].
    pub stale_after: Duration,
    /// See [`STALE_RETRY`].
    pub stale_retry: Duration,
    /// See [`STALE_TTL`].
    pub stale_ttl: Duration,
    /// See [`FAILURE_TTL`].
    pub failure_ttl: Duration,
    /// See [`FAILURE_TTL_MAX`].
    pub failure_ttl_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flights: FLIGHTS.default,
            waiters: WAITERS.default,
            prefetches: PREFETCHES.default,
            deadline: DEADLINE.default,
            stale_after: STALE_AFTER.default,
            stale_retry: STALE_RETRY.default,
            stale_ttl: STALE_TTL.default,
            failure_ttl: FAILURE_TTL.default,
            failure_ttl_max: FAILURE_TTL_MAX.default,
        }
    }
}
