//! Asking the servers that know: pick one, try it, go to the next.
//!
//! Everything here lives on one worker's thread. [`Upstreams`] holds what the worker knows of its servers; a
//! [`Group`] is the servers of one zone, and [`Group::ask`] is the way in. [`group`] holds the loop,
//! [`asking`] how a zone wants it, `way` what one query does in it, `alarms` when it does what it does unasked,
//! [`server`] one server and its connections, [`connection`] (with `connect`, `queue` and `outgoing`) one TCP connection,
//! [`datagram`] UDP,
//! [`standing`], [`health`] and [`rtt`] what we think of a server, [`message`] the bytes.
//!
//! # Decisions
//!
//! **In order, one at a time.** RFC 7766 section 6.2.1.1 wants servers to answer pipelined queries as they
//! complete; CoreDNS answers them one by one. So a query that has been open for about twice an easy round
//! trip is taken to hold up its connection: nothing new is put behind it, a spare connection is opened, and
//! what is already behind it is asked again elsewhere. A connection that was seen answering out of
//! order is never held up.
//!
//! **Earlier tries stay open.** When a try is not answered within the measured patience, the next server or
//! connection is tried while the first may still answer; whoever is first wins. At most [`TRIES`] per query.
//! Once per query a second try may go earlier, as a hedge, for a small share of the traffic.
//!
//! **A death is handed over, twice at most.** The queries of a connection that dies go to another server, or
//! to another connection if there is no other, at once. A query whose connection died twice under it goes
//! no further: it may be what kills them.
//!
//! **A reserve** is for when no other server is known, or none of them can be reached: it is asked when every
//! other one is out, or was asked for this query in vain. What another server did answer, an error too, is
//! not asked of the reserve again.
//!
//! **Response codes say nothing about a server's health** (see [`health`]); but an error is not given to a
//! client before every other server of the group was asked. NXDOMAIN is an answer, not an error.
//!
//! **Idle connections are ours to close** (RFC 7766 section 6.2.3), before the server does: a query sent
//! into its FIN would have to be asked again. The server's own limit is asked for and kept (RFC 7828).
//!
//! **An abandoned query keeps its place.** When nobody waits for a reply any more, its id stays taken on its
//! connection until the reply came: the server is still busy with it, and its late reply is a sign of life.

mod alarms;
pub mod asking;
mod connect;
pub mod connection;
pub mod datagram;
pub mod group;
pub mod health;
pub mod hedges;
pub mod mark;
pub mod message;
mod nudge;
pub mod outage;
mod outgoing;
mod queue;
pub mod rtt;
pub mod server;
pub mod standing;
mod tracking;
mod way;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

pub use asking::{Asking, Places, TRIES, Terms};
pub use group::Group;

use crate::count::{Counter, Gauge, Histogram};
use crate::limit::Limit;
use alarms::Alarms;
use group::Inner;
use hedges::Hedges;
use outage::Outage;
use outgoing::{Outgoing, Together};
use server::Upstream;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Pipelined queries over long-lived connections (RFC 7766).
    Tcp = 0,
    /// A datagram from a fresh port for each query; truncated answers are asked for again over TCP.
    Udp = 1,
}

/// One server we ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Server {
    /// Its address and port.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: Transport,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// A server of a group, with what is kept about it from one group to the next.
#[derive(Clone, Debug)]
pub struct Member {
    /// Which server.
    pub server: Server,
    /// What this worker counts about it.
    pub counters: Arc<Counters>,
    /// What all workers say of it; nothing is said by whoever has none.
    pub outage: Option<Arc<Outage>>,
    /// What its sockets are marked with; see [`mark`]. Connections that are open keep theirs.
    pub mark: Option<u32>,
}

impl Member {
    /// A server of which nothing is known.
    pub fn new(server: Server, counters: Arc<Counters>) -> Self {
        Self { server, counters, outage: None, mark: None }
    }
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
    /// Anybody.
    Random,
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
    /// Time from sending to the answer, for answers that were used, by response code (0 to 15).
    pub latency: [Histogram; 16],
    /// Queries put on a TCP connection that had carried one before.
    pub reused: Counter,
    /// Queries that were the first on their socket, by [`Transport`].
    pub first: [Counter; 2],
    /// Bad moments: tries without an answer and broken connections, those that were under way together as one.
    pub failures: Counter,
    /// Tries that ended without an answer in time.
    pub timeouts: Counter,
    /// Tries that ended with a transport error (refused, reset, closed).
    pub errors: Counter,
    /// Second tries because the first was slow.
    pub hedges: Counter,
    /// Second tries that were not made because the share of [`HEDGE_PERCENT`] was used up.
    pub hedges_denied: Counter,
    /// Queries asked again on another connection because a slow one was ahead of theirs.
    pub rescued: Counter,
    /// Queries handed to another connection because theirs died.
    pub handed_over: Counter,
    /// Replies that matched no open query (id or question), or were no DNS message; dropped.
    pub mismatched: Counter,
    /// Truncated UDP answers asked for again over TCP.
    pub truncated: Counter,
    /// Times this server was taken out because it did not answer.
    pub taken_out: Counter,
    /// Whether it is out: one for each of the [`Terms`] on which zones ask it.
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
    /// Sockets that the kernel did not let us [`mark`].
    pub unmarked: Counter,
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
    /// Every server is out, and the zone wants nobody to be asked then: extended error 22, No Reachable Authority.
    Out,
    /// A limit of our own was reached ([`DATAGRAMS`]): extended error 0, Other (RFC 8914).
    Limit,
    /// As many questions of the zone as may be are open ([`asking::MAX_CONCURRENT`]).
    Busy,
}

/// One worker's upstreams: what it knows of its servers and its connections to them, shared by all zones
/// that name the same server. Must be used within a tokio `LocalSet`.
#[derive(Debug)]
pub struct Upstreams {
    settings: Rc<Cell<Settings>>,
    hedges: Rc<RefCell<Hedges>>,
    alarms: Rc<Alarms>,
    outgoing: Rc<Outgoing>,
    /// Weak: a server that no group names any more goes away with the last group that does.
    known: RefCell<HashMap<(Server, Terms), Weak<Upstream>>>,
}

impl Upstreams {
    /// No servers yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Rc::new(Cell::new(settings)),
            hedges: Rc::default(),
            alarms: Rc::default(),
            outgoing: Rc::default(),
            known: RefCell::default(),
        }
    }

    /// Takes other settings, for new queries and new connections.
    pub fn configure(&self, settings: Settings) {
        self.settings.set(settings);
    }

    /// A round begins, which lasts as long as what is returned: queries that are sent in it go out at its end, together.
    pub fn together(&self) -> Together {
        self.outgoing.together()
    }

    /// The group of these servers; those of the `reserve` are asked only when none of the others can be. A
    /// server that another living group names keeps its connections, its health and its counters (so pass the
    /// same counters for the same server); make the new groups before dropping the old ones. `places` are those of
    /// the zone.
    pub fn group(
        &self,
        servers: &[Member],
        reserve: &[Member],
        asking: &Asking,
        places: &Arc<Places>,
    ) -> Group {
        let terms = asking.terms();
        self.known.borrow_mut().retain(|_, upstream| upstream.strong_count() > 0);
        let members: Vec<_> = servers.iter().map(|member| self.upstream(member, terms)).collect();
        let mut reserve: Vec<_> = reserve.iter().map(|member| self.upstream(member, terms)).collect();
        reserve.retain(|r| !members.iter().any(|m| Rc::ptr_eq(m, r)));
        Group::new(Inner {
            members,
            reserve,
            asking: asking.clone(),
            places: Arc::clone(places),
            turn: Cell::default(),
            settings: self.settings.clone(),
            hedges: self.hedges.clone(),
            alarms: self.alarms.clone(),
        })
    }

    fn upstream(&self, member: &Member, terms: Terms) -> Rc<Upstream> {
        let mut known = self.known.borrow_mut();
        if let Some(upstream) = known.get(&(member.server, terms)).and_then(Weak::upgrade) {
            upstream.standing.mark.set(member.mark);
            return upstream;
        }
        let upstream = Rc::new(Upstream::new(member, terms, self.settings.clone(), self.outgoing.clone()));
        known.insert((member.server, terms), Rc::downgrade(&upstream));
        upstream
    }
}
