//! A miss, from start to end.
//!
//! **One flight.** The first client that asks for what is not there starts a flight; the others join it
//! ([`flights`]). Whoever completes it answers them all. A miss stays on its worker's thread.
//!
//! **Four seconds.** A flight ends at [`DEADLINE`] at the latest, with SERVFAIL and an extended error that says
//! why (RFC 8914); glibc would give up a second later.
//!
//! **Stale data** (RFC 8767) is served when fresh data has not come within [`STALE_AFTER`], or has failed; the
//! flight goes on, so that the next client finds fresh data. After a failed refresh stale data is served at
//! once for [`STALE_RETRY`]. A fresh answer replaces it at once, NXDOMAIN and NODATA too.
//!
//! **Failures** (RFC 9520) are remembered per question: [`FAILURE_TTL`], doubling to [`FAILURE_TTL_MAX`].
//! SERVFAIL, REFUSED and the like from all upstreams of a zone are failures, and so is silence.
//!
//! **A zone's own rules** ([`crate::local`]) stand in front of its upstreams: what they answer is landed like any
//! other reply, and all that they have asked is one flight with one deadline.
//!
//! **Prefetch**: an entry that is in use is asked for again shortly before its time is over
//! ([`crate::cache::prefetch`]), by a flight that nobody waits for.

pub mod counters;
mod crew;
pub mod flights;
pub mod log;
pub mod loops;
pub mod reply;
pub mod routes;
mod settings;
pub mod times;
pub mod traffic;
pub mod zones;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::time::Instant;
use tracing::debug;

pub use counters::ZoneCounters;
pub use reply::{ReplyTo, Waiter};
use routes::Found;
pub use routes::{Route, Routes};
pub use settings::{
    DEADLINE, FAILURE_TTL, FAILURE_TTL_MAX, FLIGHTS, PREFETCHES, STALE_AFTER, STALE_RETRY, STALE_TTL,
    Settings, WAITERS,
};
pub use times::{OwnTimes, Times};
pub use zones::{Snapshot, Zone};

use crate::cache::entry::Maker;
use crate::cache::{Cache, Entry, Key};
use crate::clock::Now;
use crate::count::{Counter, Gauge};
use crate::local;
use crate::upstream::{Ask, Failure, Upstreams};
use crate::wire::{answer, extended_error, rcode};
use crew::{Crew, Seat};
use flights::{Flights, Joined, Opened};
use reply::{Desk, Manner, Outcome};

/// What one worker counts about misses, apart from what is counted per zone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Flights under way now.
    pub flights: Gauge,
    /// Questions refused because [`FLIGHTS`] was reached.
    pub flights_limit: Counter,
    /// Questions refused because [`WAITERS`] was reached.
    pub waiters_limit: Counter,
    /// Prefetches not made because [`PREFETCHES`] was reached.
    pub prefetches_limit: Counter,
    /// Questions of zones whose servers were all out: they were asked all the same.
    pub all_out: Counter,
}

/// One worker's misses.
pub struct Resolver {
    /// The answers that all workers share.
    pub cache: Arc<Cache>,
    /// What is counted here.
    pub counters: Arc<Counters>,
    worker: usize,
    published: RefCell<arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    routes: RefCell<Rc<Routes>>,
    upstreams: Upstreams,
    flights: RefCell<Flights>,
    desk: RefCell<Desk>,
    maker: RefCell<Maker>,
    /// Who flies.
    crew: Crew<Miss>,
}

/// A question that the cache could not answer, or whose answer is to be refreshed.
pub struct Miss {
    /// What the answer is kept under.
    pub key: Rc<Key>,
    /// What is asked.
    pub ask: Ask,
    /// The zone it belongs to.
    pub route: Rc<Route>,
    /// The old answer, if there is one that may be served: stale, or about to be.
    pub stale: Option<Entry>,
}

impl Resolver {
    /// Worker number `worker`, on its own thread. `published` is where reloads appear.
    pub fn new(
        worker: usize,
        cache: Arc<Cache>,
        counters: Arc<Counters>,
        published: Arc<ArcSwap<Snapshot>>,
    ) -> Rc<Self> {
        let snapshot = published.load_full();
        let upstreams = Upstreams::new(snapshot.upstream);
        let routes = RefCell::new(Rc::new(Routes::new(snapshot, worker, &upstreams)));
        Rc::new(Self {
            cache,
            counters,
            worker,
            published: RefCell::new(arc_swap::Cache::new(published)),
            routes,
            upstreams,
            flights: RefCell::default(),
            desk: RefCell::default(),
            maker: RefCell::default(),
            crew: Crew::default(),
        })
    }

    /// The zones as they are now. Looks for a reload; meant to be called once a batch.
    pub fn routes(&self) -> Rc<Routes> {
        let (mut published, mut routes) = (self.published.borrow_mut(), self.routes.borrow_mut());
        let published = published.load();
        if !Arc::ptr_eq(published, &routes.snapshot) {
            self.upstreams.configure(published.upstream);
            *routes = Rc::new(Routes::new(Arc::clone(published), self.worker, &self.upstreams));
        }
        Rc::clone(&routes)
    }

    /// Flights under way.
    pub fn under_way(&self) -> usize {
        self.flights.borrow().len()
    }

    /// Finds the answer for a client, however long it takes.
    pub fn resolve(self: &Rc<Self>, miss: Miss, waiter: Waiter, now: Now) {
        let zone = &miss.route.counters;
        zone.misses.bump();
        let routes = Rc::clone(&self.routes.borrow());
        if routes.snapshot.probes.iter().any(|probe| probe.comes_back(&miss.ask.name)) {
            return self.turn_away(&miss, &waiter, now);
        }
        let settings = &routes.snapshot.resolve;
        let joined =
            self.flights.borrow_mut().join(&miss.key, waiter, settings.flights, settings.waiters, now);
        match joined {
            Joined::First => self.take_off(miss),
            Joined::Waits => zone.coalesced.bump(),
            Joined::Overdue(waiter, entry) => {
                self.desk.borrow_mut().answer(&waiter, Outcome::Stale(&entry), miss.manner(now));
            }
            Joined::NoFlight(waiter) => {
                self.counters.flights_limit.bump();
                self.turn_away(&miss, &waiter, now);
            }
            Joined::NoSeat(waiter) => {
                self.counters.waiters_limit.bump();
                self.turn_away(&miss, &waiter, now);
            }
        }
    }

    /// Asks again for an answer that is about to expire.
    pub fn refresh(self: &Rc<Self>, miss: Miss) {
        let (prefetches, flights) = {
            let settings = &self.routes.borrow().snapshot.resolve;
            (settings.prefetches, settings.flights)
        };
        if prefetches == 0 {
            return;
        }
        let opened = self.flights.borrow_mut().open_prefetch(&miss.key, prefetches, flights);
        match opened {
            Opened::New => {
                miss.route.counters.prefetches.bump();
                self.take_off(miss);
            }
            Opened::UnderWay => {}
            Opened::Full => self.counters.prefetches_limit.bump(),
        }
    }

    fn take_off(self: &Rc<Self>, miss: Miss) {
        self.counters.flights.up();
        if !self.crew.hand(miss) {
            let resolver = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let pilot = |seat: Rc<Seat<Miss>>| resolver.fly_on(seat);
                resolver.crew.run(pilot, || resolver.upstreams.together()).await;
            });
        }
    }

    /// One flight after the other.
    async fn fly_on(&self, seat: Rc<Seat<Miss>>) {
        loop {
            self.fly(seat.work().await).await;
        }
    }

    /// One flight, from start to end.
    async fn fly(&self, miss: Miss) {
        let deadline = self.routes.borrow().snapshot.resolve.deadline;
        let stale_after = miss.route.times.stale_after;
        if miss.route.group.is_out() {
            self.counters.all_out.bump();
        }
        let start = Instant::now();
        let routes = Rc::clone(&self.routes.borrow());
        let exchange = miss.route.find_out(&miss.ask, start + deadline, &routes);
        tokio::pin!(exchange); // before the branches: each would have room for one of its own
        let found = match &miss.stale {
            None => exchange.await,
            Some(stale) => match tokio::time::timeout_at(start + stale_after, &mut exchange).await {
                Ok(found) => found,
                Err(_) => {
                    self.serve_stale(&miss, stale, Now::read());
                    exchange.await
                }
            },
        };
        let outcome = &found.outcome;
        debug!(
            name = %shown(&miss.ask.name),
            rtype = ?RecordType::from(miss.ask.rtype),
            rcode = outcome.as_ref().ok().and_then(|reply| code(reply)),
            failure = outcome.as_ref().err().map(tracing::field::debug),
            took = ?start.elapsed(),
            "a miss has landed"
        );
        self.land(&miss, found, Now::read());
    }

    fn serve_stale(&self, miss: &Miss, stale: &Entry, now: Now) {
        // Its time may have run out since the flight began.
        if stale.is_usable(now) {
            let waiters = self.flights.borrow_mut().overdue(&miss.key, stale);
            self.answer_all(&waiters, Outcome::Stale(stale), miss.manner(now));
        }
    }

    fn land(&self, miss: &Miss, Found { outcome, asked, own_asked }: Found, now: Now) {
        let waiters = self.flights.borrow_mut().land(&miss.key);
        self.counters.flights.down();
        for waiter in &waiters {
            if !asked {
                waiter.counters.local.bump();
            }
            match outcome {
                Err(Failure::Timeout) => waiter.counters.timeouts.bump(),
                Err(Failure::Busy) => waiter.counters.concurrent_limit.bump(),
                _ => {}
            }
        }
        let limited = is_limited(&outcome);
        // Who was not asked has not failed.
        if own_asked {
            miss.route.learn(&outcome, &self.routes.borrow().snapshot);
        }
        let entry = match outcome {
            Ok(reply) => self
                .maker
                .borrow_mut()
                .make(&local::shorten(&reply).unwrap_or(reply), &miss.route.rules, now, Some(&miss.key))
                .inspect_err(|_| miss.route.counters.malformed.bump())
                .ok(),
            Err(failure) => {
                reply::failure_entry(&miss.question(), code_of(failure), extended_error_of(failure), now)
            }
        }
        .or_else(|| reply::failure_entry(&miss.question(), rcode::SERVFAIL, extended_error::OTHER, now));
        let Some(entry) = entry else { return };
        if answer::is_answer(entry.rcode()) {
            // A part of an answer is for who asked now: it neither is kept nor drives out what is.
            if !entry.is_truncated() {
                self.cache.store(&miss.key, entry.clone(), &miss.route.rules);
            }
            return self.answer_all(&waiters, Outcome::Fresh(&entry), miss.manner(now));
        }
        // What our own rules refuse is no failure: they are asked again at no cost, and mean it now, whatever they
        // said before.
        if !asked {
            return self.answer_all(&waiters, Outcome::Fresh(&entry), miss.manner(now));
        }
        // A limit of our own says nothing about the question.
        if !limited {
            let Route { rules, times, .. } = &*miss.route;
            self.cache.fail(&miss.key, entry.clone(), rules, times.failures, now);
        }
        let outcome = match &miss.stale {
            Some(stale) if stale.is_usable(now) => Outcome::Stale(stale),
            _ => Outcome::Fresh(&entry),
        };
        self.answer_all(&waiters, outcome, miss.manner(now));
    }

    fn answer_all(&self, waiters: &[Waiter], outcome: Outcome<'_>, manner: Manner) {
        let mut desk = self.desk.borrow_mut();
        for waiter in waiters {
            desk.answer(waiter, outcome, manner);
        }
    }

    /// A limit is reached: stale data if there is some, or SERVFAIL.
    fn turn_away(&self, miss: &Miss, waiter: &Waiter, now: Now) {
        let mut desk = self.desk.borrow_mut();
        match miss.stale.as_ref().filter(|stale| stale.is_usable(now)) {
            Some(stale) => desk.answer(waiter, Outcome::Stale(stale), miss.manner(now)),
            None => desk.refuse(waiter, extended_error::OTHER, now),
        }
    }
}

impl Miss {
    fn manner(&self, now: Now) -> Manner {
        Manner { now, stale_ttl: self.route.times.stale_ttl }
    }

    /// The question in wire format.
    fn question(&self) -> Vec<u8> {
        let Ask { name, rtype, class, .. } = &self.ask;
        [&name[..], &rtype.to_be_bytes(), &class.to_be_bytes()].concat()
    }
}

/// A name from the wire as people write it; unprintable bytes are escaped.
fn shown(name: &[u8]) -> String {
    Name::read(&mut BinDecoder::new(name)).map_or_else(|_| name.escape_ascii().to_string(), |n| n.to_ascii())
}

/// Whether a limit of our own is why there is no reply: it says nothing about the servers, nor about the question.
fn is_limited(outcome: &Result<Vec<u8>, Failure>) -> bool {
    matches!(outcome, Err(Failure::Limit | Failure::Busy))
}

/// The response code of a message, without what an OPT record adds to it.
fn code(reply: &[u8]) -> Option<u16> {
    reply.get(3).map(|flags| u16::from(flags & 0x0f))
}

/// What the client hears: REFUSED says that it is asked of too much, SERVFAIL that the answer could not be had.
fn code_of(failure: Failure) -> u16 {
    if failure == Failure::Busy { rcode::REFUSED } else { rcode::SERVFAIL }
}

/// RFC 8914 section 4.
fn extended_error_of(failure: Failure) -> u16 {
    match failure {
        Failure::Timeout | Failure::Out => extended_error::NO_REACHABLE_AUTHORITY,
        Failure::Network => extended_error::NETWORK_ERROR,
        Failure::Limit | Failure::Busy => extended_error::OTHER,
    }
}
