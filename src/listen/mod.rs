//! Clients: their datagrams, their connections.

pub mod arrivals;
pub mod batch;
pub mod bind;
pub mod ending;
pub mod front;
pub mod guard;
pub mod outbox;
pub mod own;
pub mod tcp;
pub mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use crate::count::{Counter, Gauge};
use crate::limit::Limit;
use crate::resolve::traffic::Traffic;

/// Worker threads. One answers hundreds of thousands of hits per second.
pub const WORKERS: Limit<usize> = Limit::new(1, 2, 64);
/// The largest UDP answer, in bytes, whatever a client says it can take (RFC 9715 section 3).
pub const UDP_SIZE: Limit<u16> = Limit::new(512, 1232, 4096);
/// TCP clients, all together. Each worker takes its share.
pub const TCP_CONNECTIONS: Limit<usize> = Limit::new(1, 1000, 100_000);
/// TCP connections from one client address. Each worker takes its share, rounded up.
pub const TCP_PER_CLIENT: Limit<usize> = Limit::new(1, 100, 100_000);
/// Queries on one TCP connection, after which it is closed.
pub const TCP_QUERIES: Limit<u64> = Limit::new(1, 100_000, u32::MAX as u64);
/// A TCP client that neither asks nor reads is closed after this long.
pub const TCP_IDLE: Limit<Duration> =
    Limit::new(Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(3600));
/// Queries of one TCP connection that may wait for an answer; more are not read until some are answered.
pub const TCP_PIPELINE: Limit<usize> = Limit::new(1, 128, 4096);

/// Section `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where we answer, UDP and TCP. Takes effect at start.
    pub addresses: Vec<SocketAddr>,
    /// See [`WORKERS`]; `None`: one per core, at most two. Takes effect at start.
    pub workers: Option<usize>,
    /// See [`UDP_SIZE`].
    pub udp_size: u16,
    /// What `id.server. CH TXT` says (RFC 4892); `None`: refused.
    pub identity: Option<String>,
    /// What `version.bind. CH TXT` says; `None`: refused.
    pub version: Option<String>,
    /// See [`TCP_CONNECTIONS`].
    pub tcp_connections: usize,
    /// See [`TCP_PER_CLIENT`].
    pub tcp_per_client: usize,
    /// See [`TCP_QUERIES`].
    pub tcp_queries: u64,
    /// See [`TCP_IDLE`].
    pub tcp_idle: Duration,
    /// See [`TCP_PIPELINE`].
    pub tcp_pipeline: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 5300))],
            workers: None,
            udp_size: UDP_SIZE.default,
            identity: None,
            version: None,
            tcp_connections: TCP_CONNECTIONS.default,
            tcp_per_client: TCP_PER_CLIENT.default,
            tcp_queries: TCP_QUERIES.default,
            tcp_idle: TCP_IDLE.default,
            tcp_pipeline: TCP_PIPELINE.default,
        }
    }
}

/// What one worker has done at one address: how the watchdog tells a busy worker from a dead one. It has a cache line
/// to itself (two, as processors fetch pairs), so that no worker writes to what another one does.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Served {
    /// UDP answers that the kernel took.
    pub answers: Counter,
    /// TCP connections accepted.
    pub connections: Counter,
}

/// What one worker counts about its clients, apart from what is counted per zone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Queries that belong to no zone, by listener, as far as they could be read.
    pub outside: Vec<Traffic>,
    /// Packets shorter than a header: dropped.
    pub short: Counter,
    /// Packets with QR=1: dropped, so that two servers cannot be set to answer each other for ever.
    pub responses: Counter,
    /// Queries answered here without a zone (FORMERR, NOTIMP, REFUSED, BADVERS, own names), by response code.
    pub local_answers: [Counter; 24],
    /// UDP answers that the kernel did not take.
    pub send_failed: Counter,
    /// UDP answers sent with TC set because they did not fit.
    pub truncated: Counter,
    /// TCP connections accepted.
    pub tcp_accepted: Counter,
    /// TCP connections open now.
    pub tcp_open: Gauge,
    /// TCP connections closed at once because [`TCP_CONNECTIONS`] was reached.
    pub tcp_connections_limit: Counter,
    /// TCP connections closed at once because [`TCP_PER_CLIENT`] was reached.
    pub tcp_per_client_limit: Counter,
    /// TCP connections closed because [`TCP_QUERIES`] was reached.
    pub tcp_queries_limit: Counter,
    /// TCP connections closed after [`TCP_IDLE`] without a whole query, or without the client reading.
    pub tcp_timed_out: Counter,
    /// TCP connections that ended in an error or in the middle of a message.
    pub tcp_broken: Counter,
}

impl Counters {
    /// For so many listeners.
    pub fn of(listeners: usize) -> Self {
        Self { outside: (0..listeners).map(|_| Traffic::default()).collect(), ..Self::default() }
    }
}
