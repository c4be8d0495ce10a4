//! Asking the servers that know: pick one, try it, go to the next.

use std::net::SocketAddr;
use std::time::Duration;

use crate::count::{Counter, Gauge, Histogram};
use crate::limit::Limit;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Pipelined queries over long-lived connections (RFC 7766).
    Tcp,
    /// A datagram from a fresh port for each query; truncated answers are asked for again over TCP.
    Udp,
}

/// One server we ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Server {
    /// Its address and port.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: Transport,
}

/// Who of a group is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Policy {
    /// In the order written; the later ones are for when the earlier ones fail.
    Ordered,
    /// Each in its turn.
    RoundRobin,
    /// Whoever has the fewest of our questions open.
    #[default]
    LeastOutstanding,
}

/// TCP connections to one server, per worker.
pub const CONNECTIONS: Limit<usize> = Limit::new(1, 32, 256);
/// A connection without queries is closed after this long; below CoreDNS's own 10 s.
pub const IDLE: Limit<Duration> =
    Limit::new(Duration::from_secs(1), Duration::from_secs(8), Duration::from_secs(3600));
/// A connection takes no new queries after this long, so that it does not stay pinned to an old pod.
pub const MAX_AGE: Limit<Duration> =
    Limit::new(Duration::from_secs(10), Duration::from_secs(300), Duration::from_secs(86_400));
/// How long a TCP handshake may take.
pub const CONNECT: Limit<Duration> =
    Limit::new(Duration::from_millis(50), Duration::from_secs(1), Duration::from_secs(4));
/// The longest wait for one try before the next begins (the measured round trip makes it shorter).
pub const TRY: Limit<Duration> =
    Limit::new(Duration::from_millis(50), Duration::from_millis(1500), Duration::from_secs(4));
/// Of a hundred queries, how many may be asked a second time because the first answer is slow.
pub const HEDGE_PERCENT: Limit<u32> = Limit::new(0, 3, 20);
/// UDP queries open to one server, per worker: each holds a socket.
pub const DATAGRAMS: Limit<usize> = Limit::new(16, 1024, 16_384);

/// What holds for every upstream; section `[upstream]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`CONNECTIONS`].
    pub connections: usize,
    /// See [`IDLE`].
    pub idle: Duration,
    /// See [`MAX_AGE`].
    pub max_age: Duration,
    /// See [`CONNECT`].
    pub connect_timeout: Duration,
    /// See [`TRY`].
    pub try_timeout: Duration,
    /// See [`HEDGE_PERCENT`].
    pub hedge_percent: u32,
    /// See [`DATAGRAMS`].
    pub datagrams: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS.default,
            idle: IDLE.default,
            max_age: MAX_AGE.default,
            connect_timeout: CONNECT.default,
            try_timeout: TRY.default,
            hedge_percent: HEDGE_PERCENT.default,
            datagrams: DATAGRAMS.default,
        }
    }
}

/// What one worker counts about one server.
#[derive(Debug, Default)]
pub struct Counters {
    /// Queries sent, each try counted.
    pub sent: Counter,
    /// Answers that were used, by response code (0 to 15).
    pub answers: [Counter; 16],
    /// Time from sending to the answer.
    pub latency: Histogram,
    /// Tries that ended without an answer in time.
    pub timeouts: Counter,
    /// Tries that ended with a transport error (refused, reset, closed).
    pub errors: Counter,
    /// Second tries because the first was slow.
    pub hedges: Counter,
    /// Second tries that were not made because the share of [`HEDGE_PERCENT`] was used up.
    pub hedges_denied: Counter,
    /// Queries handed to another connection because theirs died.
    pub handed_over: Counter,
    /// Replies that matched no open query (id or question), or were no DNS message; dropped.
    pub mismatched: Counter,
    /// Truncated UDP answers asked for again over TCP.
    pub truncated: Counter,
    /// Times this server was taken out because it did not answer.
    pub taken_out: Counter,
    /// 1 while it is out.
    pub out: Gauge,
    /// Connections opened.
    pub opened: Counter,
    /// Connections that could not be opened.
    pub open_failed: Counter,
    /// Connections that are open now.
    pub connections: Gauge,
    /// Queries that are open now.
    pub outstanding: Gauge,
    /// Queries that had to share a connection with a slow one because [`CONNECTIONS`] was reached.
    pub connections_limit: Counter,
    /// Queries refused because [`DATAGRAMS`] was reached.
    pub datagrams_limit: Counter,
}

/// What we ask an upstream: always RD and AD set (RFC 6840 section 5.7), always with an OPT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The name: wire format, lower case, uncompressed.
    pub name: Box<[u8]>,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// The CD bit (RFC 4035 section 3.2.2).
    pub checking_disabled: bool,
}

/// Why nobody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered in time: extended error 22, No Reachable Authority (RFC 8914).
    Timeout,
    /// Every server refused or dropped the connection: extended error 23, Network Error (RFC 8914).
    Network,
    /// A limit of our own was reached ([`DATAGRAMS`]): extended error 0, Other (RFC 8914).
    Limit,
}
