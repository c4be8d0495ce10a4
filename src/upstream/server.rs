//! One server: the connections to it, and which of them takes a query.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::Instant;

use super::asking::Terms;
use super::connection::{Connection, Lost, Pending, Reply};
use super::message::{self, Query};
use super::outgoing::Outgoing;
use super::standing::{Outstanding, Standing};
use super::{Member, Settings, Transport, datagram};

/// Connections opened before any is held up: one busy, one free.
const START: usize = 2;

/// A server with all that one worker holds for it.
#[derive(Debug)]
pub struct Upstream {
    /// What we think of it.
    pub standing: Rc<Standing>,
    settings: Rc<Cell<Settings>>,
    terms: Terms,
    outgoing: Rc<Outgoing>,
    /// For a UDP server these are for truncated answers.
    connections: RefCell<Vec<Rc<Connection>>>,
    /// UDP sockets that are open.
    datagrams: Rc<Cell<usize>>,
}

/// A try that has begun.
pub struct Begun {
    /// Comes with the reply.
    pub reply: Expected,
    /// Over TCP, the connection and the query's place on it.
    pub place: Option<(Rc<Connection>, u64)>,
}

/// A reply that is expected. The usual one, over TCP, takes no allocation of its own.
pub enum Expected {
    /// Over a connection; the try lasts as long.
    Stream(Pending, Outstanding),
    /// By a datagram, and whatever follows it.
    Datagram(Pin<Box<dyn Future<Output = Reply>>>),
    /// Lost before it began.
    Lost(Lost),
}

impl Future for Expected {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        match self.get_mut() {
            Self::Stream(pending, _) => Pin::new(pending).poll(context),
            Self::Datagram(reply) => reply.as_mut().poll(context),
            Self::Lost(lost) => Poll::Ready(Err(*lost)),
        }
    }
}

impl Begun {
    /// It could not begin: a limit of ours is reached.
    fn limited() -> Self {
        Self { reply: Expected::Lost(Lost::Limit), place: None }
    }
}

impl Upstream {
    /// A server that has not been asked yet.
    pub fn new(member: &Member, terms: Terms, settings: Rc<Cell<Settings>>, outgoing: Rc<Outgoing>) -> Self {
        Self {
            standing: Rc::new(Standing::new(member, &terms)),
            settings,
            terms,
            outgoing,
            connections: RefCell::default(),
            datagrams: Rc::default(),
        }
    }

    /// What holds for it now.
    fn settings(&self) -> Settings {
        self.terms.over(self.settings.get())
    }

    /// After this long a query counts as slow.
    pub fn slow_after(&self) -> Duration {
        self.standing.rtt().slow_after(self.settings().try_timeout)
    }

    /// Asks. Connections in `avoid` carry this question already, and are used only if there is no other way.
    pub fn ask(self: &Rc<Self>, query: Query<'_>, avoid: &[Rc<Connection>], now: Instant) -> Begun {
        match self.standing.server.transport {
            Transport::Tcp => self.ask_tcp(query, avoid, now),
            Transport::Udp => self.ask_udp(query),
        }
    }

    fn ask_tcp(&self, query: Query<'_>, avoid: &[Rc<Connection>], now: Instant) -> Begun {
        let Some(connection) = self.connection(avoid, now) else { return Begun::limited() };
        let outstanding = self.standing.asking();
        let pending = connection.send(query, now);
        let place = Some((connection, pending.place()));
        Begun { reply: Expected::Stream(pending, outstanding), place }
    }

    fn ask_udp(self: &Rc<Self>, query: Query<'_>) -> Begun {
        let Some(datagram) = Datagram::open(&self.datagrams, self.settings.get().datagrams) else {
            self.standing.counters.datagrams_limit.bump();
            return Begun::limited();
        };
        self.standing.counters.first[Transport::Udp as usize].bump();
        let outstanding = self.standing.asking();
        let (upstream, ask, edns) = (self.clone(), query.ask.clone(), query.has_edns());
        let reply = async move {
            let _outstanding = outstanding;
            let query = Query::with(&ask, edns);
            let reply = datagram::exchange(&upstream.standing, query).await?;
            drop(datagram);
            if message::is_truncated(&reply) { Ok(upstream.whole(query, reply).await) } else { Ok(reply) }
        };
        Begun { reply: Expected::Datagram(Box::pin(reply)), place: None }
    }

    /// The whole of a truncated answer, over TCP. If that fails, the truncated answer is what there is.
    async fn whole(&self, query: Query<'_>, truncated: Vec<u8>) -> Vec<u8> {
        self.standing.counters.truncated.bump();
        let now = Instant::now();
        let Some(connection) = self.connection(&[], now) else { return truncated };
        connection.send(query, now).await.unwrap_or(truncated)
    }

    /// Whether a query can be put where nothing holds it up, and not on a connection in `avoid`.
    pub fn has_room(&self, avoid: &[Rc<Connection>]) -> bool {
        let (slow_after, now) = (self.slow_after(), Instant::now());
        let connections = self.connections.borrow();
        self.may_open(&connections, now)
            || connections.iter().any(|c| {
                c.accepts(now) && !c.is_held_up(slow_after, now) && !avoid.iter().any(|a| Rc::ptr_eq(a, c))
            })
    }

    /// The connection for the next query: the least loaded that is not held up, an established one if there
    /// is one. Opens another if there is none, or to have a spare one: a second when the first is busy, and
    /// as long as some are held up, one more than are busy. At the limit, the least loaded of all.
    fn connection(&self, avoid: &[Rc<Connection>], now: Instant) -> Option<Rc<Connection>> {
        let slow_after = self.slow_after();
        let mut connections = self.connections.borrow_mut();
        connections.retain(|c| !c.is_over());
        let avoided = |c: &Connection| avoid.iter().any(|a| std::ptr::eq(&**a, c));
        let mut any_held_up = false;
        let mut best: Option<&Rc<Connection>> = None;
        let rank = |c: &Connection| (!c.is_ready(), c.load());
        for candidate in connections.iter().filter(|c| c.accepts(now) && !avoided(c)) {
            if candidate.is_held_up(slow_after, now) {
                any_held_up = true;
            } else if best.is_none_or(|b| rank(candidate) < rank(b)) {
                best = Some(candidate);
            }
        }
        let best = best.cloned();
        let may_open = self.may_open(&connections, now);
        let busy = best.as_ref().is_none_or(|c| c.load() > 0);
        let connecting = connections.iter().any(|c| !c.is_ready());
        let wanted = connections.len() < START || (any_held_up && !connecting);
        if may_open && (best.is_none() || (busy && wanted)) {
            let opened = self.open(now);
            connections.push(opened.clone());
            return Some(best.unwrap_or(opened));
        }
        best.or_else(|| {
            self.standing.counters.connections_limit.bump();
            let accepting = connections.iter().filter(|c| c.accepts(now));
            accepting.min_by_key(|c| (avoided(c), c.load())).cloned()
        })
    }

    /// Whether the limit allows one more. Those that only wait for their last replies do not count: they are
    /// gone by their queries' deadline, and shall not keep new ones out.
    fn may_open(&self, connections: &[Rc<Connection>], now: Instant) -> bool {
        let open = connections.iter().filter(|c| !c.is_over() && !c.is_retired(now)).count();
        open < self.settings.get().connections
    }

    fn open(&self, now: Instant) -> Rc<Connection> {
        let settings = self.settings();
        let judged = self.standing.server.transport == Transport::Tcp;
        let (standing, outgoing) = (self.standing.clone(), self.outgoing.clone());
        let connection = Rc::new(Connection::new(standing, outgoing, judged, &settings, now));
        spawn_local(connection.clone().run(settings));
        connection
    }
}

impl Drop for Upstream {
    /// No group names this server any more: its connections close when nobody waits on them.
    fn drop(&mut self) {
        self.connections.borrow().iter().for_each(|c| c.retire());
    }
}

/// A UDP socket that is open; dropped, it is not.
struct Datagram(Rc<Cell<usize>>);

impl Datagram {
    fn open(count: &Rc<Cell<usize>>, limit: usize) -> Option<Self> {
        (count.get() < limit).then(|| {
            count.set(count.get() + 1);
            Self(count.clone())
        })
    }
}

impl Drop for Datagram {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
