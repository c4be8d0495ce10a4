//! What is done with a query, whatever way it came: refused, answered from the cache, answered by ourselves,
//! or handed on as a miss.
//!
//! The decisions that are not the parser's ([`wire::query`](crate::wire::query)):
//! - classes other than IN and CH, zone transfers: REFUSED;
//! - ANY over UDP is answered with one HINFO record (RFC 8482 section 4.2), over TCP it is looked up;
//! - CH is answered here ([`own`]) and never looked up; what we ask ourselves is no client's query, and not counted;
//! - RD=0 is treated as RD=1: a node's resolver has no other way to answer.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::cache::near::Spot;
use crate::cache::{Cache, Entry, Key, Look, Near};
use crate::clock::Now;
use crate::resolve::log::{self, Log, Noted};
use crate::resolve::reply::stale_error;
pub use crate::resolve::traffic::Protocol;
use crate::resolve::traffic::{Shape, Traffic};
use crate::resolve::{Miss, ReplyTo, Resolver, Route, Routes, Waiter, ZoneCounters};
use crate::upstream::Ask;
use crate::wire::answer::{self, Asker, Ttl};
use crate::wire::header::{self, Header};
use crate::wire::query::{self, Edns, Query, Question, Refusal, Reject, Silence};
use crate::wire::{MESSAGE_MAX, class, extended_error, rcode, rtype};

use super::{Counters, Settings, own};

/// Where a query came from, as far as it matters for the answer.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// How it came.
    pub protocol: Protocol,
    /// Over IPv6.
    pub v6: bool,
    /// By which of the addresses that we listen on: its number among them.
    pub listener: usize,
}

/// What became of a query.
pub enum Verdict {
    /// Nothing is sent.
    Silence,
    /// So many bytes of the room are the answer, of our own; its name belongs to the zone with this number, if to any.
    Own(usize, Option<usize>),
    /// So many bytes of the room are the answer, from the cache, for the zone with this number in the listener's view.
    Hit(usize, usize),
    /// As [`Hit`](Self::Hit), and the entry is to be refreshed.
    Refresh(usize, usize, Box<Miss>),
    /// It is to be handed on.
    Miss(Box<(Miss, Held)>),
}

/// A query and how it came.
#[derive(Clone, Copy)]
struct Asked<'a> {
    query: Query<'a>,
    client: Client,
    /// Bytes of the packet.
    size: usize,
}

impl Asked<'_> {
    fn shape(&self) -> Shape {
        Shape {
            protocol: self.client.protocol,
            v6: self.client.v6,
            rtype: self.query.question.rtype,
            dnssec_ok: dnssec_ok(&self.query),
            size: self.size,
        }
    }
}

/// What is kept of a query while its answer is looked for.
pub struct Held {
    protocol: Protocol,
    header: Header,
    question: Box<[u8]>,
    edns: Option<Edns>,
    limit: usize,
    our_size: u16,
    size: usize,
    counters: Arc<ZoneCounters>,
    noted: Option<Box<Noted>>,
}

impl Held {
    /// The client, waiting since `since`.
    pub fn waiter(self, since: Now, reply_to: Box<dyn ReplyTo>) -> Waiter {
        let Self { protocol, header, question, edns, limit, our_size, counters, noted, size: _ } = self;
        Waiter { header, question, edns, limit, our_size, protocol, since, counters, noted, reply_to }
    }

    /// Has the answer logged, where the zone logs. `client` asks at our address `local`.
    pub fn note(&mut self, log: Option<&Arc<Log>>, client: SocketAddr, local: impl FnOnce() -> IpAddr) {
        let Some(log) = log else { return };
        let Self { protocol, edns, size, .. } = *self;
        let asked = log::Asked { client, local: local(), protocol, size, edns };
        self.noted = Some(Box::new(Noted { log: Arc::clone(log), asked }));
    }
}

/// What holds for one batch, read once: all of its queries see the same.
pub struct Round {
    /// The zones.
    pub routes: Rc<Routes>,
    /// How clients are handled.
    pub settings: Rc<Settings>,
    /// When the batch came.
    pub now: Now,
}

impl Round {
    /// The zone with this number in a listener's view, if it logs.
    #[inline]
    pub fn logging(&self, listener: usize, zone: Option<usize>) -> Option<(&Arc<Log>, &Route)> {
        let route = self.routes.view(listener).route(zone?)?;
        Some((route.log.as_ref()?, route))
    }
}

/// Logs the answer to a packet, which was ready at once. `client` asks at our address `local`.
pub fn log_at_once(
    (log, route): (&Arc<Log>, &Route),
    round: &Round,
    (packet, answer): (&[u8], &[u8]),
    (protocol, client, local): (Protocol, SocketAddr, IpAddr),
) {
    let edns = query::parse(packet).ok().and_then(|query| query.edns);
    let asked = log::Asked { client, local, protocol, size: packet.len(), edns };
    log.answered(asked, answer, Now::read().since(round.now), &route.counters);
}

/// One worker's front: what its listeners share.
pub struct Front {
    /// Where misses go.
    pub resolver: Rc<Resolver>,
    /// What is counted here.
    pub counters: Arc<Counters>,
    near: RefCell<Near>,
    last: RefCell<Last>,
}

/// What held for the last batch, and where it is seen whether that has changed: with plain loads, as long as it has not.
struct Last {
    published: arc_swap::Cache<Arc<ArcSwap<Settings>>, Arc<Settings>>,
    /// What was published last, and this worker's copy: its holders are counted without a write that other workers see.
    settings: (Arc<Settings>, Rc<Settings>),
    routes: Rc<Routes>,
}

impl Front {
    /// The front of one worker. `settings` is where new ones appear after a reload.
    pub fn new(resolver: Rc<Resolver>, settings: Arc<ArcSwap<Settings>>, counters: Arc<Counters>) -> Self {
        let near = RefCell::new(Near::new(&resolver.cache));
        let mut published = arc_swap::Cache::new(settings);
        let settings = copy(published.load());
        let last = RefCell::new(Last { published, settings, routes: resolver.routes() });
        Self { resolver, counters, near, last }
    }

    /// A new batch.
    pub fn round(&self) -> Round {
        let routes = self.resolver.routes();
        let mut last = self.last.borrow_mut();
        if !Rc::ptr_eq(&last.routes, &routes) {
            // What lies at hand remembers its zone.
            self.near.borrow_mut().forget();
            last.routes = Rc::clone(&routes);
        }
        Round { routes, settings: last.settings(), now: Now::read() }
    }

    /// How clients are handled.
    pub fn settings(&self) -> Rc<Settings> {
        self.last.borrow_mut().settings()
    }

    /// Decides about one packet of a batch; an answer is written to `out`.
    pub fn answer(&self, packet: &[u8], client: Client, round: &Round, out: &mut [u8]) -> Verdict {
        // What is at hand was checked when it was asked for the first time.
        let presumed = query::presume(packet).map(|query| Asked { query, client, size: packet.len() });
        let at_hand = presumed.and_then(|asked| self.look_at_hand(&asked, round, out));
        at_hand.unwrap_or_else(|| self.check(packet, client, presumed.is_some(), round, out))
    }

    /// The same for what cannot be taken for granted, or was `looked_for` at hand and is not there.
    fn check(
        &self,
        packet: &[u8],
        client: Client,
        looked_for: bool,
        round: &Round,
        out: &mut [u8],
    ) -> Verdict {
        let query = match query::parse(packet) {
            Ok(query) => query,
            Err(Reject::Silence(why)) => {
                match why {
                    Silence::Short => self.counters.short.bump(),
                    Silence::Response => self.counters.responses.bump(),
                }
                return Verdict::Silence;
            }
            Err(Reject::Answer(refusal)) => {
                return self
                    .refuse(&refusal, round, out)
                    .map_or(Verdict::Silence, |len| Verdict::Own(len, None));
            }
        };
        let Question { rtype, class, .. } = query.question;
        let asked = Asked { query, client, size: packet.len() };
        match (class, rtype) {
            (class::IN, rtype::AXFR | rtype::IXFR) => self.refuse_query(&asked, rcode::REFUSED, round, out),
            (_, rtype::OPT) => self.refuse_query(&asked, rcode::FORMERR, round, out),
            (class::IN, rtype::ANY) if client.protocol == Protocol::Udp => {
                self.answer_own(&asked, own::any(query.question, round.now), round, out)
            }
            (class::IN, _) => {
                let at_hand = if looked_for { None } else { self.look_at_hand(&asked, round, out) };
                at_hand.unwrap_or_else(|| self.look_up(&asked, round, out))
            }
            (class::CH, _) if query.question.name() == own::probe_name() => {
                let Query { header, question, edns } = query;
                let our_size = round.settings.udp_size;
                answer::write_code(out, header, Some(question), edns, our_size, rcode::REFUSED, None)
                    .map_or(Verdict::Silence, |len| Verdict::Own(len, None))
            }
            (class::CH, _) => {
                let entry = own::chaos(query.question, &round.settings, round.now);
                self.answer_own(&asked, entry, round, out)
            }
            _ => self.refuse_query(&asked, rcode::REFUSED, round, out),
        }
    }

    /// The hit: look, copy. Where nothing is at hand, or something of earlier zones, there is no verdict.
    #[inline]
    fn look_at_hand(&self, asked: &Asked<'_>, round: &Round, out: &mut [u8]) -> Option<Verdict> {
        let Asked { query, client, .. } = asked;
        if query.question.rtype == rtype::ANY && client.protocol == Protocol::Udp {
            // Somebody may have asked for it by TCP.
            return None;
        }
        let mut near = self.near.borrow_mut();
        let spot = spot(&near, asked);
        let found = near.find(&self.resolver.cache, &spot, round.now)?;
        let zone = found.zone.place as usize;
        // A batch of earlier zones may go on.
        let route =
            round.routes.view(client.listener).route(zone).filter(|route| route.id == found.zone.id)?;
        route.counters.traffic.asked(asked.shape());
        Some(hit(self.desk(asked, route, round, out).fresh(found.entry, found.turn), zone))
    }

    /// The zone, the key, and what the store knows.
    fn look_up(&self, asked: &Asked<'_>, round: &Round, out: &mut [u8]) -> Verdict {
        let Asked { query, client, .. } = asked;
        let near = &mut *self.near.borrow_mut();
        let spot = &spot(near, asked);
        let mut key = Key::of_name(query.question.name());
        let Some((zone, route)) = round.routes.view(client.listener).of(key.name()) else {
            return self.refuse_query(asked, rcode::REFUSED, round, out);
        };
        let counters = &*route.counters;
        counters.traffic.asked(asked.shape());
        complete(&mut key, &self.resolver.cache, route, query);
        let mut desk = self.desk(asked, route, round, out);
        let place = (zone as u32, &route.rules);
        let len = match near.look(&self.resolver.cache, (spot, &key), place, round.now) {
            Look::Fresh { entry, turn, refresh: false } => desk.fresh(&entry, turn),
            Look::Fresh { entry, turn, refresh: true } => {
                let Some(len) = desk.fresh(&entry, turn) else { return Verdict::Silence };
                // Clients may join the refresh once the entry has expired: it is their stale answer.
                return Verdict::Refresh(len, zone, Box::new(miss(query, key, route, Some(entry))));
            }
            Look::Stale { entry, at_once: true } => {
                counters.stale.bump();
                counters.stale_hits[usize::from(entry.is_denial())].bump();
                desk.write(&entry, Ttl::All(route.times.stale_ttl), 0, Some(stale_error(&entry)))
            }
            Look::Failed(entry) => {
                counters.failure_hits.bump();
                desk.write(&entry, Ttl::Aged(0), 0, Some(extended_error::CACHED_ERROR))
            }
            Look::Stale { entry, at_once: false } => {
                return hand_on(asked, key, route, Some(entry), &desk.asker);
            }
            Look::Unknown => return hand_on(asked, key, route, None, &desk.asker),
        };
        hit(len, zone)
    }

    fn desk<'a>(&'a self, asked: &Asked<'a>, route: &'a Route, round: &Round, out: &'a mut [u8]) -> Desk<'a> {
        let asker = asker(&asked.query, asked.client, round.settings.udp_size);
        Desk { front: self, route, asker, protocol: asked.client.protocol, now: round.now, out }
    }

    fn answer_own(&self, asked: &Asked<'_>, entry: Option<Entry>, round: &Round, out: &mut [u8]) -> Verdict {
        let Some(entry) = entry else { return self.refuse_query(asked, rcode::REFUSED, round, out) };
        let asker = asker(&asked.query, asked.client, round.settings.udp_size);
        self.counters.local_answers[usize::from(entry.rcode())].bump();
        let len = answer::write(out, &entry.stored(), &asker, Ttl::Aged(0), 0, None);
        self.own_verdict(asked, entry.rcode(), len, round)
    }

    fn refuse_query(&self, asked: &Asked<'_>, code: u16, round: &Round, out: &mut [u8]) -> Verdict {
        let Query { header, question, edns } = asked.query;
        let len = self.refuse(&Refusal { header, rcode: code, question: Some(question), edns }, round, out);
        self.own_verdict(asked, code, len, round)
    }

    fn refuse(&self, refusal: &Refusal<'_>, round: &Round, out: &mut [u8]) -> Option<usize> {
        let Refusal { header, rcode, question, edns } = *refusal;
        if let Some(counter) = self.counters.local_answers.get(usize::from(rcode)) {
            counter.bump();
        }
        let our_size = round.settings.udp_size;
        answer::write_code(out, header, question, edns, our_size, rcode, None)
    }

    /// Counts an answer of our own where its name belongs.
    fn own_verdict(&self, asked: &Asked<'_>, code: u16, len: Option<usize>, round: &Round) -> Verdict {
        let Some(len) = len else { return Verdict::Silence };
        let Client { protocol, listener, .. } = asked.client;
        let count = |traffic: &Traffic| {
            traffic.asked(asked.shape());
            traffic.answered_ourselves(protocol, code, len, Now::read().since(round.now));
        };
        match round.routes.view(listener).of(Key::of_name(asked.query.question.name()).name()) {
            Some((zone, route)) => {
                count(&route.counters.traffic);
                Verdict::Own(len, Some(zone))
            }
            None => {
                self.counters.outside.get(listener).into_iter().for_each(count);
                Verdict::Own(len, None)
            }
        }
    }
}

impl Last {
    fn settings(&mut self) -> Rc<Settings> {
        let published = self.published.load();
        if !Arc::ptr_eq(published, &self.settings.0) {
            self.settings = copy(published);
        }
        Rc::clone(&self.settings.1)
    }
}

fn copy(published: &Arc<Settings>) -> (Arc<Settings>, Rc<Settings>) {
    (Arc::clone(published), Rc::new(Settings::clone(published)))
}

/// Where answers from the cache are written.
struct Desk<'a> {
    front: &'a Front,
    route: &'a Route,
    asker: Asker<'a>,
    protocol: Protocol,
    now: Now,
    out: &'a mut [u8],
}

impl Desk<'_> {
    #[inline]
    fn fresh(&mut self, entry: &Entry, turn: u32) -> Option<usize> {
        let rules = &self.route.rules;
        self.route.counters.hits[usize::from(entry.is_denial())].bump();
        let age = if rules.keep_ttl { 0 } else { entry.age(self.now) };
        let turn = if rules.rotate { turn } else { 0 };
        self.write(entry, Ttl::Aged(age), turn, None)
    }

    #[inline]
    fn write(&mut self, entry: &Entry, ttl: Ttl, turn: u32, error: Option<u16>) -> Option<usize> {
        let len = answer::write(self.out, &entry.stored(), &self.asker, ttl, turn, error)?;
        if self.protocol == Protocol::Udp && self.out[2] & (header::TC >> 8) as u8 != 0 {
            self.front.counters.truncated.bump();
        }
        self.route.counters.traffic.answered(self.protocol, entry.rcode(), len);
        Some(len)
    }
}

fn spot<'q>(near: &Near, asked: &Asked<'q>) -> Spot<'q> {
    let Asked { query, client, .. } = asked;
    near.spot(query.question.bytes, client.listener, dnssec_ok(query), checking_disabled(query))
}

fn hit(len: Option<usize>, zone: usize) -> Verdict {
    len.map_or(Verdict::Silence, |len| Verdict::Hit(len, zone))
}

/// What an answer to `query` must look like.
fn asker<'a>(query: &Query<'a>, client: Client, udp_size: u16) -> Asker<'a> {
    let limit = match client.protocol {
        Protocol::Udp => answer::udp_limit(query.edns, udp_size),
        Protocol::Tcp => MESSAGE_MAX,
    };
    Asker { header: query.header, question: query.question, edns: query.edns, limit, our_size: udp_size }
}

fn dnssec_ok(query: &Query<'_>) -> bool {
    query.edns.is_some_and(|e| e.dnssec_ok)
}

fn checking_disabled(query: &Query<'_>) -> bool {
    query.header.flags & header::CD != 0
}

fn complete(key: &mut Key, cache: &Cache, route: &Route, query: &Query<'_>) {
    let Question { rtype, class, .. } = query.question;
    key.complete(cache.seed(), route.id, rtype, class, dnssec_ok(query), checking_disabled(query));
}

fn miss(query: &Query<'_>, key: Key, route: &Rc<Route>, stale: Option<Entry>) -> Miss {
    let ask = Ask {
        name: key.name().into(),
        rtype: query.question.rtype,
        class: query.question.class,
        dnssec_ok: dnssec_ok(query),
        checking_disabled: checking_disabled(query),
    };
    Miss { key: Rc::new(key), ask, route: Rc::clone(route), stale }
}

fn hand_on(
    asked: &Asked<'_>,
    key: Key,
    route: &Rc<Route>,
    stale: Option<Entry>,
    asker: &Asker<'_>,
) -> Verdict {
    let query = &asked.query;
    let held = Held {
        protocol: asked.client.protocol,
        header: query.header,
        question: query.question.bytes.into(),
        edns: query.edns,
        limit: asker.limit,
        our_size: asker.our_size,
        size: asked.size,
        counters: Arc::clone(&route.counters),
        noted: None,
    };
    Verdict::Miss(Box::new((miss(query, key, route, stale), held)))
}
