//! Routes: what one worker makes of a snapshot, a zone with its groups of upstreams and its counters at hand.
//!
//! Groups are made at once, for all zones: they hold connections that go on from one snapshot to the next. A route is
//! made when the first client of a listener asks for its zone: there may be 256 zones on 64 listeners, and most of
//! those pairs never meet.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::cache;
use crate::local::{Begin, End, Local, Pending};
use crate::upstream::outage::Outage;
use crate::upstream::{Ask, Failure, Group, Upstreams};
use crate::wire::name;

use super::Times;
use super::counters::ZoneCounters;
use super::log::Log;
use super::zones::{Next, Snapshot};

/// A zone at one worker, for the clients of one listener.
pub struct Route {
    /// See [`Zone::id`](super::Zone::id).
    pub id: u32,
    /// See [`Zone::name`](super::Zone::name).
    pub(super) name: Rc<[u8]>,
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

/// A zone at one worker: what its routes are made of.
struct Stem {
    /// See [`Zone::name`](super::Zone::name).
    name: Rc<[u8]>,
    snapshot: Arc<Snapshot>,
    /// Its index there.
    zone: usize,
    worker: usize,
    group: Group,
    next: Rc<[(Next, Group)]>,
}

impl Stem {
    /// The zone for the clients of a listener, who are counted from now on.
    fn route(&self, listener: usize) -> Route {
        let zone = &self.snapshot.zones[self.zone];
        Route {
            id: zone.id,
            name: Rc::clone(&self.name),
            rules: zone.rules.clone(),
            times: zone.times.over(&self.snapshot.resolve),
            group: self.group.clone(),
            next: Rc::clone(&self.next),
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
        let (number, place) =
            self.places.iter().enumerate().find(|(_, place)| name::within(name, &place.name))?;
        Some((number, place.route.get_or_init(|| Rc::new(place.stem.route(self.listener)))))
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
            let name: Rc<[u8]> = zone.name.as_ref().into();
            let stem = Rc::new(Stem {
                name: Rc::clone(&name),
                snapshot: Arc::clone(&snapshot),
                zone: number,
                worker,
                group: upstreams.group(&servers, &reserve, &zone.asking, &zone.places),
                next: next.collect(),
            });
            for &listener in &zone.listeners {
                let (name, stem) = (Rc::clone(&name), Rc::clone(&stem));
                views[listener].places.push(Place { name, stem, route: OnceCell::new() });
            }
        }
        Self { snapshot, views, nothing: View::default() }
    }

    /// What the clients of a listener see.
    pub fn view(&self, listener: usize) -> &View {
        self.views.get(listener).unwrap_or(&self.nothing)
    }
}
