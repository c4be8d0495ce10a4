//! A worker without sockets of its own towards clients: what the UDP listener calls for a batch is called here with
//! packets from memory.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sidestep::cache::{Cache, Entry, Key, Rules, Seed};
use sidestep::clock::Now;
use sidestep::listen::UDP_SIZE;
use sidestep::listen::batch::BATCH;
use sidestep::listen::front::{Client, Front, Protocol, Round, Verdict};
use sidestep::resolve::zones::ServerEntry;
use sidestep::resolve::{ReplyTo, Resolver, Snapshot, Zone};
use sidestep::upstream::{self, Server, Transport};
use sidestep::wire::header;
use sidestep::wire::query::{self, Query};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::packets::Packet;
use crate::zone;

/// Bytes of the cache: nothing is evicted.
const CACHE_SIZE: u64 = 64 << 20;
/// What a node's name server has for zones: three of the cluster's own, and all the rest.
const ZONES: [(&str, &[u8]); 4] = [
    ("cluster.local.", b"\x07cluster\x05local\0"),
    ("in-addr.arpa.", b"\x07in-addr\x04arpa\0"),
    ("ip6.arpa.", b"\x03ip6\x04arpa\0"),
    (".", b"\0"),
];
/// Bytes for the answers of a batch.
const ROOM: usize = BATCH.default * UDP_SIZE.max as usize;
const CLIENT: Client = Client { protocol: Protocol::Udp, v6: false, listener: 0 };

/// A cache in which the same names lie in the same places in every run.
pub fn cache() -> Arc<Cache> {
    Arc::new(Cache::with_seed(CACHE_SIZE, Seed::fixed()))
}

/// One worker.
pub struct Worker {
    /// What is measured.
    pub front: Front,
    runtime: Runtime,
    tasks: LocalSet,
    room: RefCell<Vec<u8>>,
    hits: RefCell<Vec<u64>>,
}

impl Worker {
    /// A worker over this cache, which asks `upstream`.
    pub fn new(cache: Arc<Cache>, upstream: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let tasks = LocalSet::new();
        let published = Arc::new(ArcSwap::from_pointee(snapshot(upstream)));
        let resolver = {
            let _entered = (runtime.enter(), tasks.enter());
            Resolver::new(0, cache, Arc::default(), published)
        };
        let settings = Arc::new(ArcSwap::from_pointee(sidestep::listen::Settings::default()));
        let front = Front::new(resolver, settings, Arc::default());
        Ok(Self { front, runtime, tasks, room: vec![0; ROOM].into(), hits: RefCell::default() })
    }

    /// Puts the answers to these queries into the cache.
    pub fn warm(&self, packets: &[Packet]) -> Result<(), &'static str> {
        let (cache, rules, now) = (&self.front.resolver.cache, Rules::default(), Now::read());
        let round = self.front.round();
        let mut reply = Vec::new();
        for packet in packets {
            reply.clear();
            zone::answer(&packet.bytes, &mut reply);
            let entry = Entry::from_reply(&reply, &rules, now).map_err(|_| "no reply")?;
            let (_, key) = self.key(&packet.bytes, &round).ok_or("no query")?;
            cache.store(&key, entry, &rules);
        }
        Ok(())
    }

    /// A query, and what its answer is kept under: parse, route, hash.
    pub fn key<'p>(&self, packet: &'p [u8], round: &Round) -> Option<(Query<'p>, Key)> {
        let query = query::parse(packet).ok()?;
        let mut key = Key::of_name(query.question.name());
        let (_, route) = round.routes.view(CLIENT.listener).of(key.name())?;
        let (question, dnssec_ok) = (query.question, query.edns.is_some_and(|edns| edns.dnssec_ok));
        let checking_disabled = query.header.flags & header::CD != 0;
        let seed = self.front.resolver.cache.seed();
        key.complete(seed, route.id, question.rtype, question.class, dnssec_ok, checking_disabled);
        Some((query, key))
    }

    /// Answers queries from the cache as the UDP listener does, a batch at a time, and returns how many. `look_at` sees
    /// each answer.
    pub fn hit<'p>(
        &self,
        packets: impl Iterator<Item = &'p Packet>,
        mut look_at: impl FnMut(&Packet, &[u8]),
    ) -> usize {
        let (room, hits) = (&mut *self.room.borrow_mut(), &mut *self.hits.borrow_mut());
        let (mut packets, mut count) = (packets.peekable(), 0);
        while packets.peek().is_some() {
            let round = self.front.round();
            let view = round.routes.view(CLIENT.listener);
            hits.clear();
            hits.resize(view.len(), 0);
            let mut used = 0;
            for packet in packets.by_ref().take(BATCH.default) {
                let room = &mut room[used..][..UDP_SIZE.max.into()];
                let verdict = self.front.answer(black_box(&packet.bytes), CLIENT, &round, room);
                if let Verdict::Hit(len, zone) = verdict {
                    look_at(packet, &room[..len]);
                    black_box(round.logging(CLIENT.listener, Some(zone)).is_some());
                    used += len;
                    hits[zone] += 1;
                    count += 1;
                }
            }
            black_box(&room[..used]);
            view.record_hits(hits, Now::read().since(round.now));
        }
        count
    }

    /// Has queries answered that the cache does not know, as the UDP listener does, `at_once` in a batch. The next batch
    /// comes when the last one is answered. Returns how many answers were right.
    pub fn miss(&self, packets: &[Packet], at_once: usize) -> usize {
        self.tasks.block_on(&self.runtime, async {
            let (mut right, mut misses) = (0, Vec::with_capacity(at_once));
            for batch in packets.chunks(at_once) {
                let desk =
                    Rc::new(Desk { waiting: batch.len().into(), right: Cell::new(0), done: Notify::new() });
                let round = self.front.round();
                for packet in batch {
                    let room = &mut self.room.borrow_mut()[..UDP_SIZE.max.into()];
                    if let Verdict::Miss(miss) = self.front.answer(&packet.bytes, CLIENT, &round, room) {
                        misses.push((packet, miss));
                    }
                }
                for (packet, miss) in misses.drain(..) {
                    let (miss, held) = *miss;
                    let (id, rcode) = ([packet.bytes[0], packet.bytes[1]], packet.rcode);
                    let way_back = Box::new(WayBack { desk: Rc::clone(&desk), id, rcode });
                    self.front.resolver.resolve(miss, held.waiter(round.now, way_back), round.now);
                }
                desk.done.notified().await;
                right += desk.right.get();
            }
            right
        })
    }
}

/// Where the answers of one batch arrive.
struct Desk {
    waiting: Cell<usize>,
    right: Cell<usize>,
    done: Notify,
}

/// The way back to one client, as large as the listener's.
struct WayBack {
    desk: Rc<Desk>,
    id: [u8; 2],
    rcode: u8,
}

impl ReplyTo for WayBack {
    fn send(&self, message: &[u8]) {
        let Desk { waiting, right, done } = &*self.desk;
        let is_right = message.starts_with(&self.id) && message[3] & 15 == self.rcode;
        right.set(right.get() + usize::from(is_right));
        waiting.set(waiting.get() - 1);
        if waiting.get() == 0 {
            done.notify_one();
        }
    }
}

/// The zones, all with one server. No query is asked twice because the first answer is slow: under valgrind all are.
fn snapshot(upstream: SocketAddr) -> Snapshot {
    let zones = ZONES.iter().zip(0..).map(|(&(display, name), id)| Zone {
        id,
        name: name.into(),
        display: display.into(),
        listeners: vec![0],
        servers: vec![0],
        ..Zone::default()
    });
    let server = Server { address: upstream, transport: Transport::Tcp };
    Snapshot {
        zones: zones.collect(),
        listeners: vec![([127, 0, 0, 1], 53).into()],
        servers: vec![ServerEntry {
            server,
            counters: vec![Arc::default()],
            outage: Arc::default(),
            mark: None,
        }],
        upstream: upstream::Settings { hedge_percent: 0, ..upstream::Settings::default() },
        ..Snapshot::default()
    }
}
