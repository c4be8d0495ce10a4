//! Zones: a name suffix with its upstreams and limits, and the snapshot that holds them all.
//!
//! A zone answers on every address that we listen on, or on some of them only; so each listener has a *view* of its
//! own: the zones that it answers from. The same name may belong to different zones in two views. Zones never share
//! cached answers, the views of one zone do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::cache;
use crate::count::{Counter, Gauge, Histogram};
use crate::limit::Limit;
use crate::local::{Begin, End, Local, Pending};
use crate::resolve::{self, OwnTimes, Times};
use crate::upstream::outage::Outage;
use crate::upstream::{self, Ask, Asking, Failure, Group, Member, Places, Server, Upstreams};
use crate::wire::header::{self, Header};
use crate::wire::{name, rcode};

use super::log::Log;
use super::traffic::Traffic;

/// Zones in a configuration.
pub const ZONES: Limit<usize> = Limit::new(1, 1, 256);
/// One zone as the road sees it.
#[derive(Debug, Default)]
pub struct Zone {
    /// Its identity in cache keys. A zone keeps it across reloads as long as its name and upstreams stay
    /// (the addresses behind a service's name may change); otherwise it gets a new one, and so its old entries are not found again.
    pub id: u32,
    /// Its name: wire format, lower case.
    pub name: Box<[u8]>,
    /// Its name as people write it, with the last dot.
    pub display: String,
    /// The addresses that it answers on, as the configuration names them; none: all.
    pub listen: Vec<SocketAddr>,
    /// The same as indices into [`Snapshot::listeners`].
    pub listeners: Vec<usize>,
    /// Indices into [`Snapshot::servers`]: the servers that the configuration names.
    pub servers: Vec<usize>,
    /// Indices into [`Snapshot::servers`]: the addresses behind the names of its services, as last heard. Where
    /// there are any, they are asked, and `servers` are the reserve.
    pub pods: Vec<usize>,
    /// Whom to ask next, in order, when those before had nothing.
    pub next: Vec<Next>,
    /// How they are asked.
    pub asking: Asking,
    /// The places of its questions, for all workers.
    pub places: Arc<Places>,
    /// How its answers are kept.
    pub rules: cache::Rules,
    /// Its own times.
    pub times: OwnTimes,
    /// Its counters, one block per worker and listener: `counters[worker][i]` is for `listeners[i]`.
    pub counters: Vec<Vec<Arc<ZoneCounters>>>,
    /// Whether nobody answers for it, as all workers say it.
    pub outage: Arc<Outage>,
    /// What is counted about its services.
    pub services: Arc<ServiceCounters>,
    /// Its rules: what is answered without asking, or asked differently.
    pub local: Option<Arc<Local>>,
    /// Its log of queries.
    pub log: Option<Arc<Log>>,
}

impl Zone {
    /// Whether its own rules are all that answers for it.
    pub fn asks_nobody(&self) -> bool {
        self.local.as_ref().is_some_and(|local| local.settings().ends_here)
    }

    /// Its name for messages, with the addresses that it answers on where these are not all.
    pub fn title(&self) -> String {
        let addresses: Vec<_> = self.listen.iter().map(SocketAddr::to_string).collect();
        if addresses.is_empty() {
            self.display.clone()
        } else {
            format!("{} (on {})", self.display, addresses.join(", "))
        }
    }
}

/// Whom a zone asks when those before had nothing.
#[derive(Clone, Debug, Default)]
pub struct Next {
    /// The response codes that lead here; NOERROR stands for an answer without records.
    pub on: Vec<u8>,
    /// Indices into [`Snapshot::servers`].
    pub servers: Vec<usize>,
}

impl Next {
    /// Whether a reply leads here.
    fn follows(&self, reply: &[u8]) -> bool {
        let Some(header) = Header::read(reply) else { return false };
        let empty = header.counts[1] == 0 && header.flags & header::TC == 0;
        let code = header.rcode();
        self.on.iter().any(|&on| u16::from(on) == code) && (code != rcode::NOERROR || empty)
    }
}

/// An upstream server as the road sees it.
#[derive(Debug)]
pub struct ServerEntry {
    /// Where it is and how it is spoken to.
    pub server: Server,
    /// Its counters, one block per worker.
    pub counters: Vec<Arc<upstream::Counters>>,
    /// Whether it is out, as all workers say it.
    pub outage: Arc<Outage>,
    /// What sockets to it are marked with.
    pub mark: Option<u32>,
}

impl ServerEntry {
    /// It, for a group of worker number `worker`.
    fn member(&self, worker: usize) -> Member {
        let outage = Some(Arc::clone(&self.outage));
        Member { outage, ..self.silent_member(Arc::clone(&self.counters[worker])) }
    }

    /// It, for a group of somebody who is no worker: outages are not told.
    pub fn silent_member(&self, counters: Arc<upstream::Counters>) -> Member {
        Member { mark: self.mark, ..Member::new(self.server, counters) }
    }
}

/// Whom a zone asks; see [`Snapshot::asked_for`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The addresses behind the names of its services (`svc://`): pods, reached without DNAT.
    pub pods: Vec<SocketAddr>,
    /// The addresses that the configuration or a resolv.conf names: whatever they are.
    pub servers: Vec<SocketAddr>,
}

/// The checked configuration as the workers use it: immutable, replaced as a whole at a reload.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Zones, longest name first; of one name, those that answer on some addresses only before the one that answers
    /// on all.
    pub zones: Vec<Zone>,
    /// The addresses that we listen on, as the configuration names them.
    pub listeners: Vec<SocketAddr>,
    /// Every server of every zone, once.
    pub servers: Vec<ServerEntry>,
    /// How misses are handled.
    pub resolve: resolve::Settings,
    /// How upstreams are handled.
    pub upstream: upstream::Settings,
    /// Questions that must not come back to us.
    pub probes: Vec<LoopProbe>,
}

impl Snapshot {
    /// Whom the zone of a name (wire format, lower case) asks for clients of a listener, each address once, in order.
    pub fn asked_for(&self, listener: usize, name: &[u8]) -> Asked {
        let holds = |zone: &&Zone| zone.listeners.contains(&listener) && name::within(name, &zone.name);
        let Some(zone) = self.zones.iter().find(holds) else { return Asked::default() };
        let addresses = |servers: &[usize]| {
            let all = servers.iter().filter_map(|&i| self.servers.get(i)).map(|entry| entry.server.address);
            all.collect::<BTreeSet<_>>().into_iter().collect()
        };
        Asked { pods: addresses(&zone.pods), servers: addresses(&zone.servers) }
    }

    /// Who of a zone is asked, and who is the reserve.
    pub fn ranks<'s>(&'s self, zone: &'s Zone) -> [Vec<&'s ServerEntry>; 2] {
        let ranks =
            if zone.pods.is_empty() { [&zone.servers, &zone.pods] } else { [&zone.pods, &zone.servers] };
        ranks.map(|rank| self.entries(rank).collect())
    }

    /// The servers with these numbers.
    pub fn entries(&self, servers: &[usize]) -> impl Iterator<Item = &ServerEntry> {
        servers.iter().filter_map(|&i| self.servers.get(i))
    }
}

/// A random question that was sent to an upstream: whoever receives it again is in a loop with it.
#[derive(Debug)]
pub struct LoopProbe {
    /// Its name: wire format, lower case.
    pub name: Box<[u8]>,
    /// Whom it was sent to.
    pub server: Server,
    /// Whether it came back.
    pub seen: AtomicBool,
}

/// A zone at one worker, for the clients of one listener.
pub struct Route {
    /// See [`Zone::id`].
    pub id: u32,
    /// See [`Zone::name`].
    name: Box<[u8]>,
    /// How its answers are kept.
    pub rules: cache::Rules,
    /// How long stale data and failures count.
    pub times: Times,
    /// Whom to ask.
    pub group: Group,
    /// Whom to ask next.
    next: Rc<[(Next, Group)]>,
    /// This worker's counters.
    pub counters: Arc<ZoneCounters>,
    /// See [`Zone::local`].
    pub local: Option<Arc<Local>>,
    /// See [`Zone::log`].
    pub log: Option<Arc<Log>>,
    /// See [`Zone::title`].
    title: String,
    outage: Arc<Outage>,
}

/// What a flight came back with.
pub(super) struct Found {
    /// A whole message, or why there is none.
    pub outcome: Result<Vec<u8>, Failure>,
    /// Whether an upstream was asked; otherwise the zone's own rules knew.
    pub asked: bool,
}

impl Route {
    /// Finds out what `ask` asks for: by the zone's rules first, by its upstreams as far as these say.
    pub(super) async fn find_out(&self, ask: &Ask, deadline: Instant) -> Found {
        match self.local.as_ref().map(|local| local.begin(ask)) {
            None => Found { outcome: self.ask(ask, deadline).await, asked: true },
            Some(Begin::Answer(answer)) => Found { outcome: Ok(answer), asked: false },
            Some(Begin::Ask(pending)) => Found { outcome: self.pursue(pending, deadline).await, asked: true },
        }
    }

    /// Asks the upstreams as often as the rules want to know something.
    async fn pursue(&self, mut pending: Pending, deadline: Instant) -> Result<Vec<u8>, Failure> {
        loop {
            let reply = self.ask(pending.ask(), deadline).await?;
            match pending.reply(reply) {
                End::Done(answer) => return Ok(answer),
                End::Again(next) => pending = next,
            }
        }
    }

    /// Asks, and asks on for as long as the reply leads on. All who are asked share the time up to `deadline`.
    async fn ask(&self, ask: &Ask, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let mut outcome = self.group.ask(ask, deadline).await;
        for (next, group) in &*self.next {
            if !outcome.as_ref().is_ok_and(|reply| next.follows(reply)) {
                break;
            }
            outcome = group.ask(ask, deadline).await;
        }
        outcome
    }

    /// A question was answered, or not; says so in the log where that is news.
    pub(super) fn heard(&self, answered: bool) {
        if answered {
            if self.outage.ends() {
                info!(zone = self.title, "upstreams of the zone answer again");
            }
        } else if self.group.is_out() && self.outage.begins() {
            warn!(
                zone = self.title,
                "all upstreams of the zone are out: expired answers are served where there are any, else SERVFAIL"
            );
        }
    }
}

/// What the clients of one listener see: the zones that it answers from, in the snapshot's order, so that the first
/// that holds a name is the right one.
#[derive(Default)]
pub struct View(Vec<Rc<Route>>);

impl View {
    /// The zone of a name (wire format, lower case), with its number here: the one with the longest suffix.
    pub fn of(&self, name: &[u8]) -> Option<(usize, &Rc<Route>)> {
        self.0.iter().enumerate().find(|(_, route)| name::within(name, &route.name))
    }

    /// The zone with this number.
    pub fn route(&self, zone: usize) -> Option<&Rc<Route>> {
        self.0.get(zone)
    }

    /// How many zones there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no zone.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Records the latency of a batch for the hits it held, by zone.
    pub fn record_hits(&self, hits: &[u64], latency: Duration) {
        for (route, &hits) in self.0.iter().zip(hits) {
            if hits > 0 {
                route.counters.hit_latency.record(latency, hits);
            }
        }
    }
}

/// A snapshot at one worker.
pub struct Routes {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// By listener.
    views: Vec<View>,
    /// For a listener that the snapshot does not know.
    nothing: View,
}

impl Routes {
    /// A snapshot for worker number `worker`. Upstreams that stay keep their connections.
    pub fn new(snapshot: Arc<Snapshot>, worker: usize, upstreams: &Upstreams) -> Self {
        let mut views: Vec<View> = snapshot.listeners.iter().map(|_| View::default()).collect();
        for zone in &snapshot.zones {
            let [servers, reserve] = snapshot
                .ranks(zone)
                .map(|rank| -> Vec<_> { rank.into_iter().map(|entry| entry.member(worker)).collect() });
            let group = upstreams.group(&servers, &reserve, &zone.asking, &zone.places);
            let next = zone.next.iter().map(|next| {
                let servers = snapshot.entries(&next.servers).map(|entry| entry.member(worker));
                let servers: Vec<_> = servers.collect();
                (next.clone(), upstreams.group(&servers, &[], &zone.asking, &zone.places))
            });
            let next: Rc<[_]> = next.collect();
            for (&listener, counters) in zone.listeners.iter().zip(&zone.counters[worker]) {
                views[listener].0.push(Rc::new(Route {
                    id: zone.id,
                    name: zone.name.clone(),
                    rules: zone.rules.clone(),
                    times: zone.times.over(&snapshot.resolve),
                    group: group.clone(),
                    next: Rc::clone(&next),
                    counters: Arc::clone(counters),
                    local: zone.local.clone(),
                    log: zone.log.clone(),
                    title: zone.title(),
                    outage: Arc::clone(&zone.outage),
                }));
            }
        }
        Self { snapshot, views, nothing: View::default() }
    }

    /// What the clients of a listener see.
    pub fn view(&self, listener: usize) -> &View {
        self.views.get(listener).unwrap_or(&self.nothing)
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
    /// Queries refused because [`MAX_CONCURRENT`](upstream::asking::MAX_CONCURRENT) was reached, or answered with
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
