//! One query on its way through the servers of a group: its tries, and what comes of them.
//!
//! [`Group::ask`](super::Group::ask) waits; here is decided what to do with what came, or did not come.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::connection::{Connection, Lost, Reply};
use super::group::Inner;
use super::message::{self, FORMERR, Query};
use super::rtt::PATIENCE_MIN;
use super::server::{Expected, Upstream};
use super::{Ask, Failure, TRIES};

/// Deaths of a connection under one query, after which it is not sent again.
const DEATHS: usize = 2;
/// How often one query that is stuck behind a slow one is sent elsewhere, on top of [`TRIES`].
const RESCUES: usize = 3;

/// Servers in the order in which they are asked; most zones have one or two.
pub type Order<'a> = SmallVec<[Stop<'a>; 2]>;

/// One query on its way.
pub struct Way<'a> {
    group: &'a Inner,
    query: Query<'a>,
    /// Members in the order in which they are asked.
    order: Order<'a>,
    tries: SmallVec<[Try; 1]>,
    /// The best of the replies that say nothing.
    best: Option<Vec<u8>>,
    deaths: usize,
    /// Tries, rescues apart, that never reached a server.
    unsent: usize,
    hedge: Chance,
    rescue: Chance,
    rescues: usize,
    timed_out: bool,
    limited: bool,
}

/// A server on the way.
pub struct Stop<'a> {
    upstream: &'a Rc<Upstream>,
    /// How often it was asked.
    asked: usize,
    /// It cannot be reached: not asked again for this query.
    closed: bool,
    /// It is asked only when the others are of no use.
    reserve: bool,
}

impl<'a> Stop<'a> {
    /// A server that was not asked yet.
    pub fn new(upstream: &'a Rc<Upstream>) -> Self {
        Self { upstream, asked: 0, closed: false, reserve: false }
    }

    /// One that is for when the others are of no use.
    pub fn in_reserve(upstream: &'a Rc<Upstream>) -> Self {
        Self { reserve: true, ..Self::new(upstream) }
    }
}

/// Something that may be done, at a certain time.
#[derive(Clone, Copy)]
enum Chance {
    At(Instant),
    Gone,
}

struct Try {
    /// Index in [`Way::order`].
    stop: usize,
    began: Instant,
    /// When the next try begins; `None` once it has.
    patience: Option<Instant>,
    edns: bool,
    /// It is one more of a query that was stuck, and does not count against [`TRIES`].
    rescue: bool,
    place: Option<(Rc<Connection>, u64)>,
    /// While it is open.
    reply: Option<Expected>,
}

impl<'a> Way<'a> {
    /// The way of `ask` begins; nothing is sent yet.
    pub fn new(group: &'a Inner, ask: &'a Ask, now: Instant) -> Self {
        let settings = group.settings();
        group.hedges.borrow_mut().earn(settings.hedge_percent);
        let order = group.order();
        let mut way = Self {
            group,
            query: Query::new(ask),
            order,
            tries: SmallVec::new(),
            best: None,
            deaths: 0,
            unsent: 0,
            hedge: Chance::Gone,
            rescue: Chance::Gone,
            rescues: 0,
            timed_out: false,
            limited: false,
        };
        if let Some(first) = way.order.first() {
            let delay = first.upstream.standing.rtt().hedge_delay(settings.try_timeout);
            way.hedge = Chance::At(now + delay);
        }
        way
    }

    /// Whether one more try may go out. The second bound is for servers that break a connection before
    /// anything was sent on it.
    fn may_try(&self) -> bool {
        self.tries.len() - self.unsent - self.rescues < self.group.asking.tries
            && self.deaths < DEATHS
            && self.tries.len() < TRIES.max + RESCUES + self.order.len()
    }

    /// Tries the server that was asked least, the earlier one first. The reserve's turn comes when every other
    /// server was asked and none is being waited for. False if there is no further try.
    pub fn next(&mut self, now: Instant) -> bool {
        let reserve_too =
            !self.is_waiting() && self.order.iter().all(|s| s.reserve || s.closed || s.asked > 0);
        let open = |stop: &Stop<'_>| !stop.closed && (reserve_too || !stop.reserve);
        let stops = self.order.iter().enumerate().filter(|(_, stop)| open(stop));
        let next = stops.min_by_key(|(index, stop)| (stop.asked, *index)).map(|(index, _)| index);
        let Some(stop) = next.filter(|_| self.may_try()) else { return false };
        self.begin(stop, self.query, now);
        true
    }

    fn begin(&mut self, stop: usize, query: Query<'_>, now: Instant) {
        let max = self.group.settings().try_timeout;
        let avoid = self.carriers();
        let doubled = 1 << (self.tries.len() - self.rescues).min(TRIES.max);
        let at = &mut self.order[stop];
        at.asked += 1;
        let standing = &at.upstream.standing;
        // The client whose query is a probe shall not wait long for a server that is likely dead.
        let patience = if standing.is_out() { PATIENCE_MIN.min(max) } else { standing.rtt().patience(max) };
        let patience = (patience * doubled).min(max);
        let begun = at.upstream.ask(query, &avoid, now);
        // Whoever is first in line stays so, and needs no rescue. A later try may stand elsewhere, behind others.
        if let (Chance::Gone, Some((connection, place))) = (self.rescue, &begun.place)
            && connection.is_behind(*place)
        {
            self.rescue = Chance::At(now + standing.rtt().slow_after(max));
        }
        self.tries.push(Try {
            stop,
            began: now,
            patience: Some(now + patience),
            edns: query.has_edns(),
            rescue: false,
            place: begun.place,
            reply: Some(begun.reply),
        });
    }

    /// Comes with what comes first of the tries that are open: which it is, and the reply.
    pub fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<(usize, Reply)> {
        for (index, open) in self.tries.iter_mut().enumerate() {
            let Some(reply) = &mut open.reply else { continue };
            if let Poll::Ready(came) = Pin::new(reply).poll(context) {
                open.reply = None;
                return Poll::Ready((index, came));
            }
        }
        Poll::Pending
    }

    /// Tries that are open.
    pub fn open(&self) -> usize {
        self.tries.iter().filter(|t| t.reply.is_some()).count()
    }

    /// The connections that carry the query already.
    fn carriers(&self) -> Vec<Rc<Connection>> {
        self.tries.iter().filter_map(|t| t.place.as_ref()).map(|(connection, _)| connection.clone()).collect()
    }

    /// A reply came. It is given back if it is the answer; otherwise it is kept if it is the best so far,
    /// and a server that was not asked yet is. The reserve is no better than who has replied.
    pub fn replied(&mut self, index: usize, reply: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        let replied = &mut self.tries[index];
        replied.patience = None;
        let (stop, edns) = (replied.stop, replied.edns);
        let reserve = self.order[stop].reserve;
        self.order[stop].upstream.standing.used(&reply, now.saturating_duration_since(replied.began));
        let poorness = poorness(self.group, &reply);
        // RFC 6891 section 6.2.2: it may not know EDNS.
        let knows_no_edns = edns && message::rcode(&reply) == FORMERR && !message::has_opt(&reply);
        if poorness == 0 && !knows_no_edns {
            return Some(reply);
        }
        if self.best.as_ref().is_none_or(|best| poorness < self::poorness(self.group, best)) {
            self.best = Some(reply);
        }
        if knows_no_edns && self.may_try() {
            self.begin(stop, self.query.plain(), now);
        } else if let Some(unasked) =
            self.order.iter().position(|s| s.asked == 0 && !s.closed && s.reserve <= reserve)
            && self.may_try()
        {
            self.begin(unasked, self.query, now);
        }
        None
    }

    /// A try ended without a reply. Another begins, unless one is being waited for already.
    pub fn lost(&mut self, index: usize, lost: Lost, now: Instant) {
        let lost_try = &mut self.tries[index];
        lost_try.patience = None;
        let (stop, unsent) = (lost_try.stop, usize::from(!lost_try.rescue));
        match lost {
            Lost::Died { sent: true } => self.deaths += 1,
            Lost::Died { sent: false } => self.unsent += unsent,
            Lost::Silent => {}
            Lost::Unreachable | Lost::Limit => {
                self.unsent += unsent;
                self.limited |= lost == Lost::Limit;
                self.order[stop].closed = true;
            }
        }
        let handed_over = self.is_waiting() || self.next(now);
        if handed_over && matches!(lost, Lost::Died { .. } | Lost::Silent) {
            self.order[stop].upstream.standing.counters.handed_over.bump();
        }
    }

    /// When something is to be done although nothing came.
    pub fn alarm(&self) -> Instant {
        let patience = self.tries.iter().filter_map(|t| t.patience).min();
        let chances = [self.hedge, self.rescue].into_iter().filter_map(Chance::at);
        // The caller's deadline is sooner.
        patience.into_iter().chain(chances).min().unwrap_or_else(|| Instant::now() + super::TRY.max * 2)
    }

    /// The alarm rang.
    pub fn rang(&mut self, now: Instant) {
        if self.rescue.is_due(now) {
            self.rescue(now);
        }
        if self.hedge.is_due(now) {
            self.hedge(now);
        }
        for index in 0..self.tries.len() {
            if self.tries[index].patience.is_some_and(|at| at <= now) {
                self.give_up_on(index);
                if !self.is_waiting() {
                    // Read anew: it is to begin after what was given up, or the two count as one failure.
                    self.next(Instant::now());
                }
            }
        }
    }

    /// Whether a try is open whose time is not over.
    fn is_waiting(&self) -> bool {
        self.tries.iter().any(|t| t.patience.is_some())
    }

    /// Whether nothing better can be expected: no try is open, or only such whose time is over and there
    /// is something to give.
    pub fn is_over(&self) -> bool {
        self.open() == 0 || (self.best.is_some() && !self.is_waiting())
    }

    /// The try at `index` was not answered in time; it stays open.
    fn give_up_on(&mut self, index: usize) {
        self.timed_out = true;
        let timed_out = &mut self.tries[index];
        timed_out.patience = None;
        self.order[timed_out.stop].upstream.standing.timed_out(timed_out.began);
        if let Some((connection, _)) = &timed_out.place {
            connection.strike(timed_out.began);
        }
    }

    /// If the query stands behind a slow one, it is asked on another connection too. A queue that moves is
    /// left alone and looked at again, after twice the time. So is one when it is we who are late: a busy
    /// worker has replies yet to read, and must not double its own load.
    fn rescue(&mut self, now: Instant) {
        let late = self.rescue.at().map_or(Duration::ZERO, |due| now - due);
        self.rescue = Chance::Gone;
        let Some(last) = self.tries.last() else { return };
        let (Some((connection, place)), stop) = (&last.place, last.stop) else { return };
        let upstream = self.order[stop].upstream;
        let slow_after = upstream.slow_after();
        if self.deaths > 0 || self.rescues == RESCUES || !connection.is_behind(*place) {
            return;
        }
        if late >= slow_after || !connection.is_stuck(slow_after) || !upstream.has_room(&self.carriers()) {
            self.rescue = Chance::At(now + (now - last.began).max(slow_after));
            return;
        }
        upstream.standing.counters.rescued.bump();
        self.rescues += 1;
        self.rescue = Chance::At(now + slow_after); // there may be a slow one there too
        // The others stay open, but it is not the server's fault: their time does not run.
        self.tries.iter_mut().for_each(|t| t.patience = None);
        self.begin(stop, self.query, now);
        if let Some(rescue) = self.tries.last_mut() {
            rescue.rescue = true;
        }
    }

    /// The answer is slow: a second try now, elsewhere, if the budget allows.
    fn hedge(&mut self, now: Instant) {
        self.hedge = Chance::Gone;
        if self.deaths > 0 || self.tries.len() > 1 || !self.may_try() {
            return; // more than one is under way already
        }
        let first = self.tries.first().map_or(0, |t| t.stop);
        let percent = self.group.settings().hedge_percent;
        let counters = &self.order[first].upstream.standing.counters;
        if self.group.hedges.borrow_mut().spend(percent) {
            counters.hedges.bump();
            self.next(now);
        } else {
            counters.hedges_denied.bump();
        }
    }

    /// The deadline has come. Tries that had a fair time count as timed out.
    pub fn out_of_time(&mut self) {
        self.timed_out = true;
        for index in 0..self.tries.len() {
            if self.tries[index].patience.is_some() && self.tries[index].began.elapsed() >= PATIENCE_MIN {
                self.give_up_on(index);
            }
        }
    }

    /// What the client gets: the best reply, or why there is none.
    pub fn end(&mut self) -> Result<Vec<u8>, Failure> {
        self.best.take().ok_or(match (self.timed_out, self.limited) {
            (true, _) => Failure::Timeout,
            (false, true) => Failure::Limit,
            (false, false) => Failure::Network,
        })
    }
}

impl Chance {
    fn at(self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(at),
            Self::Gone => None,
        }
    }

    fn is_due(self, now: Instant) -> bool {
        self.at().is_some_and(|at| at <= now)
    }
}

/// How little a reply says: 0 for an answer, then truncated ones, then what other servers are to be asked for, then
/// nonsense.
fn poorness(group: &Inner, reply: &[u8]) -> u8 {
    match group.asking.poorness(message::rcode(reply)) {
        Some(poorness) => poorness,
        None if message::is_truncated(reply) => 1,
        None if !message::is_whole(reply) => u8::MAX,
        None => 0,
    }
}
