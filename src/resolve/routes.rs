//! Routes: what one worker makes of a snapshot, a zone with its groups of upstreams and its counters at hand.
//!
//! Groups are made at once, for all zones: they hold connections that go on from one snapshot to the next. A route is
//! made when the first client of a listener asks for its zone: there may be 256 zones on 64 listeners, and most of
//! those pairs never meet.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::cache;
use crate::local::{Begin, End, Local, Pending};
use crate::upstream::outage::Outage;
use crate::upstream::{Ask, Failure, Group, Upstreams};
use crate::wire::{name, rcode};

use super::Times;
use super::counters::ZoneCounters;
use super::log::Log;
use super::zones::{Named, Next, Snapshot};
use super::{code, is_limited};

/// Zones that one client's question goes on to, by aliases. Each zone has a limit of its own for aliases that stay in it.
const ZONES_ON_THE_WAY: usize = 8;

/// A zone at one worker, for the clients of one listener.
pub struct Route {
    /// See [`Zone::id`](super::Zone::id).
    pub id: u32,
    /// See [`Zone::name`](super::Zone::name).
    pub(super) name: Rc<[u8]>,
    /// See [`Zone::listeners`](super::Zone::listeners).
    listeners: Rc<[usize]>,
    /// How its answers are kept.
    pub rules: cache::Rules,
    /// How long stale data and failures count.
    pub times: Times,
    /// Whom to ask.
    pub group: Group,
    /// Whom to ask next.
    next: Rc<[(Next, Group)]>,
    /// Whom to ask for names that the rules made; `None` stands for those above.
    by_name: Rc<[(Named, Option<Group>)]>,
    /// See [`Zone::asks_nobody`](super::Zone::asks_nobody).
    asks_nobody: bool,
    /// This worker's counters.
    pub counters: Arc<ZoneCounters>,
    /// See [`Zone::local`](super::Zone::local).
    pub local: Option<Arc<Local>>,
    /// See [`Zone::log`](super::Zone::log).
    pub log: Option<Arc<Log>>,
    /// See [`Zone::title`](super::Zone::title).
    title: String,
    outage: Arc<Outage>,
}

/// What a flight came back with.
pub(super) struct Found {
    /// A whole message, or why there is none.
    pub outcome: Result<Vec<u8>, Failure>,
    /// Whether an upstream was asked; otherwise rules knew.
    pub asked: bool,
    /// Whether one of the zone's own was: others say nothing about these.
    pub own_asked: bool,
}

/// The way of one client's question from zone to zone.
struct Way<'r> {
    routes: &'r Routes,
    deadline: Instant,
    /// See [`ZONES_ON_THE_WAY`]: how many are left.
    left: Cell<usize>,
}

impl Route {
    /// Finds out what `ask` asks for: by the zone's rules first, by its upstreams as far as these say, and by the zones
    /// of `routes` where an alias leads there.
    pub(super) async fn find_out(&self, ask: &Ask, deadline: Instant, routes: &Routes) -> Found {
        self.find_on(&Way { routes, deadline, left: Cell::new(ZONES_ON_THE_WAY) }, ask).await
    }

    async fn find_on(&self, way: &Way<'_>, ask: &Ask) -> Found {
        match self.local.as_ref().map(|local| local.begin(ask)) {
            None => self.ask(ask, way.deadline).await,
            Some(Begin::Answer(answer)) => Found { outcome: Ok(answer), asked: false, own_asked: false },
            // In a box, so that questions without rules have no room for it.
            Some(Begin::Ask(pending)) => Box::pin(self.pursue(way, pending)).await,
        }
    }

    /// Asks as often as the rules want to know something.
    async fn pursue(&self, way: &Way<'_>, mut pending: Pending) -> Found {
        let (mut asked, mut own_asked) = (false, false);
        let outcome = loop {
            let end = match way.routes.holder(self, pending.ask()) {
                _ if !pending.is_lookup() => {
                    let found = self.ask(pending.ask(), way.deadline).await;
                    (asked, own_asked) = (asked || found.asked, own_asked || found.own_asked);
                    found.outcome.map(|reply| pending.reply(reply))
                }
                None => Ok(pending.here()),
                Some(other) => {
                    let found = other.find_for_another(way, pending.ask()).await;
                    asked |= found.asked;
                    found.outcome.map(|reply| pending.reply(reply))
                }
            };
            match end {
                Ok(End::Again(next)) => pending = next,
                Ok(End::Done(answer)) => break Ok(answer),
                Err(failure) => break Err(failure),
            }
        };
        Found { outcome, asked, own_asked }
    }

    /// Finds out where an alias of another zone leads.
    async fn find_for_another(&self, way: &Way<'_>, ask: &Ask) -> Found {
        let Some(left) = way.left.get().checked_sub(1) else {
            return Found { outcome: Err(Failure::Limit), asked: false, own_asked: false };
        };
        way.left.set(left);
        // In a box, as its size would be that of itself.
        let found = Box::pin(self.find_on(way, ask)).await;
        if found.own_asked {
            self.learn(&found.outcome, &way.routes.snapshot);
        }
        found
    }

    /// Asks those who are to be asked for the name: the zone's own, if nobody else is named.
    async fn ask(&self, ask: &Ask, deadline: Instant) -> Found {
        match self.by_name.iter().find(|(named, _)| named.takes(&ask.name)) {
            Some((_, Some(group))) => {
                Found { outcome: group.ask(ask, deadline).await, asked: true, own_asked: false }
            }
            _ if self.asks_nobody => Found { outcome: Err(Failure::Out), asked: false, own_asked: false },
            _ => Found { outcome: self.ask_own(ask, deadline).await, asked: true, own_asked: true },
        }
    }

    /// Asks, and asks on for as long as the reply leads on. All who are asked share the time up to `deadline`.
    async fn ask_own(&self, ask: &Ask, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let mut outcome = self.group.ask(ask, deadline).await;
        for (next, group) in &*self.next {
            if !outcome.as_ref().is_ok_and(|reply| next.follows(reply)) {
                break;
            }
            outcome = group.ask(ask, deadline).await;
        }
        outcome
    }

    /// What came of asking its own servers, as far as that tells of them.
    pub(super) fn learn(&self, outcome: &Result<Vec<u8>, Failure>, snapshot: &Snapshot) {
        if is_limited(outcome) {
            return;
        }
        // SERVFAIL may be our own, come back in a loop: no news of an outage or its end. Whoever asks us in turn may
        // give up sooner than we do, and say so by it.
        let failed_there = outcome.as_ref().is_ok_and(|reply| code(reply) == Some(rcode::SERVFAIL));
        if !failed_there {
            self.heard(outcome.is_ok());
        }
        if failed_there || outcome.is_err() {
            snapshot.suspect(&self.name);
        }
    }

    /// A question was answered, or not; says so in the log where that is news.
    fn heard(&self, answered: bool) {
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

/// A zone at one worker: what its routes are made of.
struct Stem {
    /// See [`Zone::name`](super::Zone::name).
    name: Rc<[u8]>,
    /// See [`Zone::listeners`](super::Zone::listeners).
    listeners: Rc<[usize]>,
    snapshot: Arc<Snapshot>,
    /// Its index there.
    zone: usize,
    worker: usize,
    group: Group,
    next: Rc<[(Next, Group)]>,
    by_name: Rc<[(Named, Option<Group>)]>,
}

impl Stem {
    /// The zone for the clients of a listener, who are counted from now on.
    fn route(&self, listener: usize) -> Route {
        let zone = &self.snapshot.zones[self.zone];
        Route {
            id: zone.id,
            name: Rc::clone(&self.name),
            listeners: Rc::clone(&self.listeners),
            rules: zone.rules.clone(),
            times: zone.times.over(&self.snapshot.resolve),
            group: self.group.clone(),
            next: Rc::clone(&self.next),
            by_name: Rc::clone(&self.by_name),
            asks_nobody: zone.asks_nobody(),
            counters: zone.counters.of(self.worker, listener),
            local: zone.local.clone(),
            log: zone.log.clone(),
            title: zone.title(),
            outage: Arc::clone(&zone.outage),
        }
    }
}

/// A zone in a view.
struct Place {
    /// See [`Zone::name`](super::Zone::name). At hand, since it is looked at for every query of a later zone.
    name: Rc<[u8]>,
    stem: Rc<Stem>,
    /// There since the first query.
    route: OnceCell<Rc<Route>>,
}

/// What the clients of one listener see: the zones that it answers from, in the snapshot's order, so that the first
/// that holds a name is the right one.
#[derive(Default)]
pub struct View {
    listener: usize,
    places: Vec<Place>,
}

impl View {
    /// The zone of a name (wire format, lower case), with its number here: the one with the longest suffix.
    pub fn of(&self, name: &[u8]) -> Option<(usize, &Rc<Route>)> {
        let (number, place) = self.find(name)?;
        Some((number, place.route.get_or_init(|| Rc::new(place.stem.route(self.listener)))))
    }

    fn find(&self, name: &[u8]) -> Option<(usize, &Place)> {
        self.places.iter().enumerate().find(|(_, place)| name::within(name, &place.name))
    }

    /// The zone with this number, if [`of`](Self::of) ever said it.
    pub fn route(&self, zone: usize) -> Option<&Rc<Route>> {
        self.places.get(zone)?.route.get()
    }

    /// How many zones there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no zone.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Records the latency of a batch for the hits it held, by zone.
    pub fn record_hits(&self, hits: &[u64], latency: Duration) {
        for (zone, &hits) in hits.iter().enumerate() {
            if hits > 0
                && let Some(route) = self.route(zone)
            {
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
        let listeners = 0..snapshot.listeners.len();
        let mut views: Vec<_> = listeners.map(|listener| View { listener, places: Vec::new() }).collect();
        for (number, zone) in snapshot.zones.iter().enumerate() {
            let [servers, reserve] = snapshot
                .ranks(zone)
                .map(|rank| -> Vec<_> { rank.into_iter().map(|entry| entry.member(worker)).collect() });
            let next = zone.next.iter().map(|next| {
                let servers = snapshot.entries(&next.servers).map(|entry| entry.member(worker));
                let servers: Vec<_> = servers.collect();
                (next.clone(), upstreams.group(&servers, &[], &zone.asking, &zone.places))
            });
            let by_name = zone.by_name.iter().map(|named| {
                let group = named.servers.as_ref().map(|servers| {
                    let servers: Vec<_> =
                        snapshot.entries(servers).map(|entry| entry.member(worker)).collect();
                    upstreams.group(&servers, &[], &zone.asking, &zone.places)
                });
                (named.clone(), group)
            });
            let name: Rc<[u8]> = zone.name.as_ref().into();
            let stem = Rc::new(Stem {
                name: Rc::clone(&name),
                listeners: zone.listeners.as_slice().into(),
                snapshot: Arc::clone(&snapshot),
                zone: number,
                worker,
                group: upstreams.group(&servers, &reserve, &zone.asking, &zone.places),
                next: next.collect(),
                by_name: by_name.collect(),
            });
            for &listener in &zone.listeners {
                let (name, stem) = (Rc::clone(&name), Rc::clone(&stem));
                views[listener].places.push(Place { name, stem, route: OnceCell::new() });
            }
        }
        Self { snapshot, views, nothing: View::default() }
    }

    /// The zone other than `asker` that answers clients for what `ask` asks. The answers of `asker` are shared between the
    /// clients of all its listeners: where these see different zones, there is none that could be meant.
    fn holder(&self, asker: &Route, ask: &Ask) -> Option<&Rc<Route>> {
        let mut zones = asker.listeners.iter().map(|&listener| self.view(listener).find(&ask.name));
        let (_, first) = zones.next()??;
        let same = zones.all(|zone| zone.is_some_and(|(_, zone)| zone.stem.zone == first.stem.zone));
        let is_other = self.snapshot.zones[first.stem.zone].id != asker.id;
        let (_, route) = (same && is_other).then(|| self.view(*asker.listeners.first()?).of(&ask.name))??;
        Some(route)
    }

    /// What the clients of a listener see.
    pub fn view(&self, listener: usize) -> &View {
        self.views.get(listener).unwrap_or(&self.nothing)
    }
}
