//! Datagrams: receive, answer, send, hand off.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::clock::Now;
use crate::resolve::{Miss, ReplyTo};

use super::Served;
use super::batch::{self, BATCH, Batch, Peer};
use super::front::{self, Client, Front, Held, Protocol, Round, Verdict};

/// One worker's socket on one address.
pub struct Listener {
    front: Rc<Front>,
    socket: Rc<UdpSocket>,
    served: Arc<Served>,
    client: Client,
    batch: Batch,
    /// Hits of this batch, by zone: they share its latency.
    hits: Vec<u64>,
    misses: Vec<(Peer, Box<(Miss, Held)>)>,
    refreshes: Vec<Miss>,
}

impl Listener {
    /// Serves `socket`, which must not block; `listener` is the number of its address. Must be called on a tokio
    /// runtime.
    ///
    /// # Errors
    /// The socket cannot be registered with the event loop.
    pub fn new(
        front: Rc<Front>,
        socket: std::net::UdpSocket,
        listener: usize,
        served: Arc<Served>,
    ) -> io::Result<Self> {
        let client = Client { protocol: Protocol::Udp, v6: socket.local_addr()?.is_ipv6(), listener };
        let socket = Rc::new(UdpSocket::from_std(socket)?);
        Ok(Self {
            front,
            socket,
            served,
            client,
            batch: Batch::new(BATCH.default),
            hits: Vec::new(),
            misses: Vec::with_capacity(BATCH.default),
            refreshes: Vec::with_capacity(BATCH.default),
        })
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// The event loop is gone.
    pub async fn serve(&mut self) -> io::Result<()> {
        loop {
            self.socket.readable().await?;
            if self.receive() {
                // More is waiting: let TCP clients, upstreams and flights have their turn first.
                tokio::task::yield_now().await;
            }
        }
    }

    /// One batch. Returns whether the socket may hold more.
    pub fn receive(&mut self) -> bool {
        let (mut received, mut more) = (0, false);
        let socket = &self.socket;
        // An error other than "nothing there" is that of an earlier datagram (an ICMP message): it concerns
        // nobody who waits here.
        let _ = socket.try_io(Interest::READABLE, || {
            (received, more) = self.batch.receive(socket.as_fd())?;
            // The socket is empty, so say so and save the call that would find out.
            if more { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        if received > 0 {
            self.answer(received);
        }
        more
    }

    fn answer(&mut self, received: usize) {
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
            let sent = self.batch.send(self.socket.as_fd());
            front.counters.send_failed.add((queued - sent) as u64);
            self.served.answers.add(sent as u64);
            view.record_hits(&self.hits, Now::read().since(round.now));
        }
        self.hand_off(&round);
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

    fn hand_off(&mut self, round: &Round) {
        let now = round.now;
        for (peer, miss) in self.misses.drain(..) {
            let (miss, mut held) = *miss;
            held.note(miss.route.log.as_ref(), peer.address, || asked_at(&peer, self.client.listener, round));
            let reply_to = Box::new(Datagram {
                front: Rc::clone(&self.front),
                socket: Rc::clone(&self.socket),
                served: Arc::clone(&self.served),
                peer,
            });
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

/// The way back to the sender of a datagram.
struct Datagram {
    front: Rc<Front>,
    socket: Rc<UdpSocket>,
    served: Arc<Served>,
    peer: Peer,
}

impl ReplyTo for Datagram {
    fn send(&self, message: &[u8]) {
        match batch::send_to(self.socket.as_fd(), &self.peer, message) {
            Ok(()) => self.served.answers.bump(),
            Err(_) => self.front.counters.send_failed.bump(),
        }
    }
}
