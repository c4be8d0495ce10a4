//! What is counted about a zone: by the workers at each listener, and by the supervisor.
//!
//! A worker has a block of counters for each listener of each zone, which it alone writes. With as many of each as
//! there may be that were a million blocks, of 2 KB each; but most zones are asked at few listeners, and a client comes
//! to one worker. So a block is made when a worker gets its first query of that zone at that listener
//! ([`View`](super::routes::View)), which then has it at hand; a scrape adds up those that there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::count::{Counter, Gauge, Histogram};

use super::traffic::Traffic;

/// The blocks of one zone. They stay for as long as the zone does, whatever it answers on: a sum never falls.
#[derive(Debug, Default)]
pub struct Blocks(Mutex<BTreeMap<Place, Arc<ZoneCounters>>>);

/// A listener and a worker.
type Place = (usize, usize);

impl Blocks {
    /// A worker's block for the clients of a listener; made if it is not there. Takes a lock: who counts keeps it.
    pub fn of(&self, worker: usize, listener: usize) -> Arc<ZoneCounters> {
        Arc::clone(self.lock().entry((listener, worker)).or_default())
    }

    /// Those of all workers for one listener.
    pub fn at(&self, listener: usize) -> Vec<Arc<ZoneCounters>> {
        self.lock()
            .range((listener, 0)..=(listener, usize::MAX))
            .map(|(_, block)| Arc::clone(block))
            .collect()
    }

    /// Those of all workers and listeners.
    pub fn all(&self) -> Vec<Arc<ZoneCounters>> {
        self.lock().values().map(Arc::clone).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Arc<ZoneCounters>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    /// Those that were lost as they could not be written: whoever read them has gone. The thread that writes them is the
    /// one that counts here.
    pub log_unwritten: Counter,
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
