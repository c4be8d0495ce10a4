//! Datagrams: receive, answer, send, hand off.
//!
//! One task serves all sockets of a worker. While nothing else is under way there (no miss, no TCP client), it keeps the
//! thread and waits for the next datagram by itself, see [`Arrivals`]: at 2,000 queries a second the event loop would
//! cost a quarter more. Every 20 ms (`TURN`) it lets the event loop have a look, for timers and what other threads say, and at
//! once for a new TCP client. When no datagram has come for as long it leaves the waiting to it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Now;
use crate::resolve::Miss;

use super::Served;
use super::arrivals::Arrivals;
use super::batch::{BATCH, Batch, Peer};
use super::front::{self, Client, Front, Held, Protocol, Round, Verdict};
use super::outbox::{Outbox, WayBack};

/// How long the event loop may wait for its turn: timers are late by that much, and what other threads say. What comes by
/// TCP is not, see [`Datagrams::heed`].
const TURN: Duration = Duration::from_millis(20);
/// How long datagrams may come one after the other until it is asked who else has something.
const ASK: Duration = Duration::from_millis(1);
/// The time between two datagrams beyond which it is not worth while to keep the thread for the next one.
const PAUSE: Duration = Duration::from_millis(5);

/// One worker's socket on one address.
struct Listener {
    front: Rc<Front>,
    client: Client,
    batch: Batch,
    /// Whether datagrams may be there.
    ready: bool,
    /// Hits of this batch, by zone: they share its latency.
    hits: Vec<u64>,
    /// Answers that come later.
    outbox: Rc<Outbox>,
    misses: Vec<(Peer, Box<(Miss, Held)>)>,
    refreshes: Vec<Miss>,
    /// That of the batch whose misses are still here.
    held_back: Option<Round>,
}

/// One worker's sockets on all addresses.
pub struct Datagrams {
    listeners: Vec<Listener>,
    arrivals: Arrivals,
    /// Told when answers wait in an outbox.
    filled: Rc<Notify>,
}

impl Datagrams {
    /// No sockets yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// The event loop cannot take the event queue.
    pub fn new() -> io::Result<Self> {
        Ok(Self { listeners: Vec::new(), arrivals: Arrivals::new()?, filled: Rc::default() })
    }

    /// Adds the socket of the next address, which must not block.
    ///
    /// # Errors
    /// The event queue cannot take the socket.
    pub fn add(&mut self, front: Rc<Front>, socket: UdpSocket, served: Arc<Served>) -> io::Result<()> {
        let number = self.listeners.len();
        self.arrivals.add(&socket, number)?;
        let outbox = Outbox::new(Rc::clone(&front), socket, served, Rc::clone(&self.filled));
        self.listeners.push(Listener::new(front, number, outbox)?);
        Ok(())
    }

    /// Leaves the thread to the event loop when something comes here: another task waits for it.
    ///
    /// # Errors
    /// The event queue cannot take it.
    pub fn heed(&mut self, other: &impl AsFd) -> io::Result<()> {
        self.arrivals.add_other(other)
    }

    /// Serves until it is dropped. `alone` says whether nothing else is under way on this thread.
    ///
    /// # Errors
    /// The event loop is gone.
    pub async fn serve(mut self, alone: impl Fn() -> bool) -> io::Result<()> {
        let mut last = Now::default();
        loop {
            if self.listeners.iter().any(|listener| listener.ready) {
                // Let TCP clients, upstreams and flights have their turn first.
                tokio::task::yield_now().await;
            } else {
                tokio::select! {
                    biased;
                    () = self.filled.notified() => {
                        self.listeners.iter().for_each(|listener| listener.outbox.send());
                        continue; // of datagrams nothing is known yet
                    }
                    there = self.arrivals.some() => there?,
                }
            }
            self.listeners.iter().for_each(|listener| listener.outbox.send());
            let Self { listeners, arrivals, .. } = &mut self;
            let mut turn = Turn { listeners, arrivals, last };
            turn.hear(false);
            let came = turn.receive();
            turn.listeners.iter_mut().for_each(Listener::hand_off);
            // After a long pause the next one may be as long.
            if came.is_some_and(|came| came.since(last) < PAUSE) && alone() {
                turn.stay(&alone)?;
            }
            last = turn.last;
            if self.listeners.iter().any(|listener| listener.held_back.is_some()) {
                // Servers may have closed connections meanwhile. Let the event loop hear of that first.
                tokio::task::yield_now().await;
                self.listeners.iter_mut().for_each(Listener::hand_off);
            }
        }
    }
}

/// What is done between two looks at the event loop.
struct Turn<'d> {
    listeners: &'d mut [Listener],
    arrivals: &'d mut Arrivals,
    /// When the last batch came.
    last: Now,
}

impl Turn<'_> {
    /// Serves what comes until the turn is over.
    fn stay(&mut self, alone: &impl Fn() -> bool) -> io::Result<()> {
        let (end, mut asked) = (self.last + TURN, self.last);
        self.arrivals.set_alarm(TURN)?;
        while alone() && self.last < end && self.listeners.iter().all(|l| l.held_back.is_none()) {
            if self.is_there() && self.last.since(asked) >= ASK {
                asked = self.last;
                self.arrivals.look();
                self.note();
            } else {
                self.hear(true);
            }
            if self.arrivals.has_rung() {
                return Ok(());
            }
            if self.arrivals.told_of_other() {
                break;
            }
            if self.receive().is_none() && self.is_there() {
                // It failed: not to be tried again and again.
                break;
            }
        }
        self.arrivals.stop_alarm()
    }

    /// Finds out which sockets have datagrams. Where none is known to, it may wait for some.
    fn hear(&mut self, wait: bool) {
        match self.listeners.len() {
            _ if !self.is_there() && wait => self.arrivals.wait(),
            // One that is never empty makes nobody wait. And to try a single one costs no more than to ask for news of it.
            // The queue tells of nothing that has been read by then, however late it is asked.
            1 => {
                self.listeners.iter_mut().for_each(|listener| listener.ready = true);
                return;
            }
            _ => self.arrivals.look(),
        }
        self.note();
    }

    /// Whether a socket is known to have datagrams.
    fn is_there(&self) -> bool {
        self.listeners.iter().any(|listener| listener.ready)
    }

    /// Notes which sockets the queue has told of.
    fn note(&mut self) {
        for number in self.arrivals.told() {
            if let Some(listener) = self.listeners.get_mut(number) {
                listener.ready = true;
            }
        }
    }

    /// A batch from each socket that may have one; when the last one came.
    fn receive(&mut self) -> Option<Now> {
        let ready = self.listeners.iter_mut().filter(|listener| listener.ready);
        let came = ready.filter_map(Listener::receive).last()?;
        self.last = came;
        Some(came)
    }
}

impl Listener {
    /// Serves the outbox's socket; `number` is that of its address.
    fn new(front: Rc<Front>, number: usize, outbox: Rc<Outbox>) -> io::Result<Self> {
        let v6 = outbox.socket.local_addr()?.is_ipv6();
        Ok(Self {
            front,
            client: Client { protocol: Protocol::Udp, v6, listener: number },
            batch: Batch::new(BATCH.default),
            ready: true,
            hits: Vec::new(),
            outbox,
            misses: Vec::with_capacity(BATCH.default),
            refreshes: Vec::with_capacity(BATCH.default),
            held_back: None,
        })
    }

    /// One batch; when it came. `None`: nothing was there.
    fn receive(&mut self) -> Option<Now> {
        let received = match self.batch.receive(self.outbox.socket.as_fd()) {
            Ok((received, more)) => {
                // Where several came at once, others have come meanwhile.
                self.ready = more || received > 1;
                received
            }
            // An error other than "nothing there" is that of an earlier datagram (an ICMP message): it concerns
            // nobody who waits here.
            Err(error) => {
                self.ready = error.kind() != io::ErrorKind::WouldBlock;
                return None;
            }
        };
        Some(self.answer(received))
    }

    /// Answers the batch; when it came. Misses are to be [handed off](Self::hand_off).
    fn answer(&mut self, received: usize) -> Now {
        let front = Rc::clone(&self.front);
        let round = front.round();
        let view = round.routes.view(self.client.listener);
        self.hits.clear();
        self.hits.resize(view.len(), 0);
        for i in 0..received {
            let (packet, room) = self.batch.query_and_room(i);
            match front.answer(packet, self.client, &round, room) {
                Verdict::Silence => {}
                Verdict::Own(len, zone) => self.put(i, len, zone, &round),
                Verdict::Hit(len, zone) => {
                    self.put(i, len, Some(zone), &round);
                    self.hits[zone] += 1;
                }
                Verdict::Refresh(len, zone, miss) => {
                    self.put(i, len, Some(zone), &round);
                    self.hits[zone] += 1;
                    self.refreshes.push(*miss);
                }
                Verdict::Miss(miss) => {
                    if let Some(peer) = self.batch.peer(i) {
                        self.misses.push((peer, miss));
                    }
                }
            }
        }
        let queued = self.batch.queued();
        if queued > 0 {
            let sent = self.batch.send(self.outbox.socket.as_fd());
            front.counters.send_failed.add((queued - sent) as u64);
            self.outbox.served.answers.add(sent as u64);
            view.record_hits(&self.hits, Now::read().since(round.now));
        }
        let now = round.now;
        if !(self.misses.is_empty() && self.refreshes.is_empty()) {
            self.held_back = Some(round);
        }
        now
    }

    /// Queues the answer to datagram `i`, the first `len` bytes of its room, and logs it where its zone logs.
    fn put(&mut self, i: usize, len: usize, zone: Option<usize>, round: &Round) {
        let Client { protocol, listener, .. } = self.client;
        if let Some(log) = round.logging(listener, zone)
            && let Some(peer) = self.batch.peer(i)
        {
            let whom = (protocol, peer.address, asked_at(&peer, listener, round));
            let (packet, room) = self.batch.query_and_room(i);
            front::log_at_once(log, round, (packet, &room[..len]), whom);
        }
        self.batch.answer(i, len);
    }

    /// Has misses looked up.
    fn hand_off(&mut self) {
        let Some(round) = self.held_back.take() else { return };
        let (now, round) = (round.now, &round);
        for (peer, miss) in self.misses.drain(..) {
            let (miss, mut held) = *miss;
            held.note(miss.route.log.as_ref(), peer.address, || asked_at(&peer, self.client.listener, round));
            let reply_to = Box::new(WayBack { outbox: Rc::clone(&self.outbox), peer });
            self.front.resolver.resolve(miss, held.waiter(now, reply_to), now);
        }
        for miss in self.refreshes.drain(..) {
            self.front.resolver.refresh(miss);
        }
    }
}

/// The address that somebody asked: the packet's own, or that of the socket.
fn asked_at(peer: &Peer, listener: usize, round: &Round) -> IpAddr {
    let bound = || round.routes.snapshot.listeners.get(listener).map(SocketAddr::ip);
    peer.local.map(|(address, _)| address).or_else(bound).unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}
