//! One worker's road inside of the test: a front, its cache and its routes, without sockets of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use sidestep::cache::{Cache, Entry, Key, Rules};
use sidestep::clock::Now;
use sidestep::listen::front::{Client, Front, Held, Protocol, Round, Verdict};
use sidestep::local::Local;
use sidestep::resolve::zones::ServerEntry;
use sidestep::resolve::{Miss, ReplyTo, Resolver, Snapshot, Zone};
use sidestep::upstream::{Server, Transport};
use sidestep::wire::query;

pub struct Road {
    pub front: Front,
    rules: Rules,
}

/// A client over IPv4.
pub const UDP: Client = Client { protocol: Protocol::Udp, v6: false, listener: 0 };

impl Road {
    /// One zone for all names, which asks `upstream` over TCP. Must be called on a tokio runtime.
    pub fn new(upstream: std::net::SocketAddr, rules: Rules) -> Self {
        Self::with(upstream, rules, None)
    }

    /// The same, with rules of its own in front of the upstream.
    pub fn with(upstream: std::net::SocketAddr, rules: Rules, local: Option<Arc<Local>>) -> Self {
        let zone = Zone {
            name: Box::new([0]),
            display: ".".into(),
            listeners: vec![0],
            servers: vec![0],
            rules: rules.clone(),
            local,
            ..Zone::default()
        };
        let server = Server { address: upstream, transport: Transport::Tcp };
        let snapshot = Snapshot {
            zones: vec![zone],
            listeners: vec![([127, 0, 0, 1], 53).into()],
            servers: vec![ServerEntry {
                server,
                counters: vec![Arc::default()],
                outage: Arc::default(),
                mark: None,
            }],
            ..Snapshot::default()
        };
        let published = Arc::new(ArcSwap::from_pointee(snapshot));
        let resolver = Resolver::new(0, Arc::new(Cache::new(1 << 20)), Arc::default(), published);
        let settings = Arc::new(ArcSwap::from_pointee(sidestep::listen::Settings::default()));
        Self { front: Front::new(resolver, settings, Arc::default()), rules }
    }

    /// Runs `body` with a road as a worker would, for at most 20 s.
    pub fn run<F: Future<Output = ()>>(
        upstream: std::net::SocketAddr,
        rules: Rules,
        body: impl FnOnce(Self) -> F,
    ) {
        Self::run_with(upstream, rules, None, body);
    }

    /// The same, with rules of its own in front of the upstream.
    pub fn run_with<F: Future<Output = ()>>(
        upstream: std::net::SocketAddr,
        rules: Rules,
        local: Option<Arc<Local>>,
        body: impl FnOnce(Self) -> F,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let bounded =
                tokio::time::timeout(Duration::from_secs(20), body(Self::with(upstream, rules, local)));
            bounded.await.expect("the test takes too long");
        });
    }

    /// The key of a query.
    pub fn key(&self, packet: &[u8]) -> Key {
        let query = query::parse(packet).expect("a query");
        let mut key = Key::of_name(query.question.name());
        let (dnssec_ok, flags) = (query.edns.is_some_and(|e| e.dnssec_ok), query.header.flags);
        let question = query.question;
        let seed = self.front.resolver.cache.seed();
        key.complete(seed, 0, question.rtype, question.class, dnssec_ok, flags & 0x10 != 0);
        key
    }

    /// Puts the answer to a query into the cache, as if it had come at `came`.
    pub fn prime(&self, packet: &[u8], reply: &[u8], came: Now) {
        let entry = Entry::from_reply(reply, &self.rules, came).expect("a reply");
        self.front.resolver.cache.store(&self.key(packet), entry, &self.rules);
    }

    /// A batch that comes at `now`.
    pub fn round(&self, now: Now) -> Round {
        Round { now, ..self.front.round() }
    }

    /// Decides about a query over UDP.
    pub fn answer(&self, packet: &[u8], round: &Round, room: &mut [u8]) -> Verdict {
        self.front.answer(packet, UDP, round, room)
    }

    /// Hands a miss on; its answer appears in the inbox.
    pub fn resolve(&self, (miss, held): (Miss, Held), now: Now) -> Inbox {
        let inbox = Inbox::default();
        self.front.resolver.resolve(miss, held.waiter(now, Box::new(inbox.clone())), now);
        inbox
    }
}

/// Where a waiter's answer arrives.
#[derive(Clone, Default)]
pub struct Inbox(Arc<Mutex<Vec<Vec<u8>>>>);

impl ReplyTo for Inbox {
    fn send(&self, message: &[u8]) {
        self.0.lock().unwrap().push(message.to_vec());
    }
}

impl Inbox {
    /// Waits for the first answer.
    pub async fn first(&self) -> Vec<u8> {
        loop {
            if let Some(message) = self.0.lock().unwrap().first() {
                return message.clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
