//! What is counted about a zone: by the workers at each listener, and by the supervisor.

use crate::count::{Counter, Gauge, Histogram};

use super::traffic::Traffic;

/// What one worker counts about one zone at one listener.
#[derive(Debug, Default)]
pub struct ZoneCounters {
    /// Its queries and answers.
    pub traffic: Traffic,
    /// Queries answered from a fresh entry, by what it says (0 data, 1 that there is none).
    pub hits: [Counter; 2],
    /// Queries answered at once from a stale entry, likewise.
    pub stale_hits: [Counter; 2],
    /// Queries answered from a remembered failure (RFC 9520).
    pub failure_hits: Counter,
    /// Queries that the cache could not answer at once.
    pub misses: Counter,
    /// Of these, those that joined a flight already under way.
    pub coalesced: Counter,
    /// Queries answered with stale data (RFC 8767).
    pub stale: Counter,
    /// Refreshes ahead of expiry.
    pub prefetches: Counter,
    /// Queries answered SERVFAIL because nothing came within the deadline.
    pub timeouts: Counter,
    /// Queries refused because [`MAX_CONCURRENT`](crate::upstream::asking::MAX_CONCURRENT) was reached, or answered with
    /// stale data instead.
    pub concurrent_limit: Counter,
    /// Misses answered by the zone's own rules, without asking anybody.
    pub local: Counter,
    /// Lines of the query log that were lost, because the [queue](super::log) was full.
    pub log_lost: Counter,
    /// Replies of upstreams that were no well-formed answers: given to nobody, and not kept.
    pub malformed: Counter,
    /// Time from the receipt of a batch to its answers being sent, for hits.
    pub hit_latency: Histogram,
    /// Time from the receipt of a query to its answer being sent, for misses.
    pub miss_latency: Histogram,
}

/// What the supervisor counts about the services (`svc://`) of one zone.
#[derive(Debug, Default)]
pub struct ServiceCounters {
    /// Addresses behind their names that are in use, now.
    pub addresses: Gauge,
    /// Times the addresses of one were found out.
    pub refreshed: Counter,
    /// Times they could not be.
    pub failed: Counter,
    /// Times one had more addresses than are taken.
    pub limit: Counter,
}
