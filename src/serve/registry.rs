//! From a configuration to a snapshot: zones with their identities, servers, and the counters that outlive a
//! reload.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::rules::Rules;
use crate::config::{Config, Problem, Service, Target, ZoneConfig, ZoneKey, resolv_conf};
use crate::local;
use crate::node::rules::UPSTREAM_MARK;
use crate::resolve::counters::{Blocks, ServiceCounters};
use crate::resolve::log::Log;
use crate::resolve::zones::{LoopProbe, Next, ServerEntry};
use crate::resolve::{Snapshot, Zone};
use crate::telemetry::queries::Queries;
use crate::upstream::outage::Outage;
use crate::upstream::{self, Places, Server};

/// What is remembered from one snapshot to the next.
pub struct Registry {
    /// Whether sockets to addresses of services are to be marked as untracked; takes effect with the next
    /// snapshot, for new sockets.
    pub untracked: bool,
    /// Where the queries of zones that log are written.
    pub queries: Queries,
    workers: usize,
    /// The addresses that we listen on, as they were named at the start.
    listeners: Vec<SocketAddr>,
    next_id: u32,
    zones: BTreeMap<ZoneKey, KnownZone>,
    servers: BTreeMap<Server, KnownServer>,
    /// The addresses behind services' names, by zone: each zone asks its own servers.
    services: HashMap<(ZoneKey, Service), Vec<IpAddr>>,
    /// Servers that ask us in turn: left out.
    looping: Vec<Server>,
    /// Those of `listeners` that a reload took out of the configuration together with the zones of their own: until
    /// the restart that closes them, zones that answer everywhere do not answer there.
    left: BTreeSet<usize>,
}

struct KnownZone {
    id: u32,
    /// What the identity stands for. The addresses of a service are not part of it: pods come and go, and all
    /// answer alike, so what one said stays true.
    asks: Asks,
    counters: Arc<Blocks>,
    services: Arc<ServiceCounters>,
    outage: Arc<Outage>,
    places: Arc<Places>,
    /// What the rules are, and they themselves at work.
    settings: local::Settings,
    rules: Option<Rules>,
}

/// The servers, the services, and whom to ask next on which response codes.
type Asks = (Vec<Server>, Vec<Service>, Vec<(Vec<u8>, Vec<Server>)>);

struct KnownServer {
    counters: Vec<Arc<upstream::Counters>>,
    outage: Arc<Outage>,
}

/// Whom a zone asks.
struct Whom<'c> {
    zone: &'c ZoneConfig,
    /// Those that it names, and those of its resolv.conf files, in the order written.
    servers: Vec<Server>,
    /// Whom it asks next, and on which response codes.
    next: Vec<(Vec<u8>, Vec<Server>)>,
    /// Its services.
    services: Vec<Service>,
    /// The addresses of these that are known.
    pods: Vec<Server>,
}

impl Registry {
    /// Nothing known yet, for so many workers and these addresses.
    pub fn new(workers: usize, listeners: &[SocketAddr]) -> Self {
        Self {
            untracked: false,
            queries: Queries::default(),
            workers,
            listeners: listeners.to_vec(),
            next_id: 0,
            zones: BTreeMap::new(),
            servers: BTreeMap::new(),
            services: HashMap::new(),
            looping: Vec::new(),
            left: BTreeSet::new(),
        }
    }

    /// The configuration as the workers use it. Reads the resolv.conf files that it names.
    ///
    /// # Errors
    /// One of them cannot be read or names no server. Nothing is changed then.
    pub fn snapshot(&mut self, config: &Config) -> Result<Snapshot, Problem> {
        let mut zones = config.zones.iter().map(|zone| self.whom(zone)).collect::<Result<Vec<_>, _>>()?;
        // The longest name first, so that the first zone that holds a name is the right one; and who names an address
        // before who answers on all.
        zones.sort_by_key(|whom| (Reverse(whom.zone.name.len()), whom.zone.listen.is_empty()));
        let mut all: Vec<Server> = zones.iter().flat_map(Whom::everybody).collect();
        all.sort_unstable();
        all.dedup();
        self.leave(&config.listen.addresses);
        self.zones.retain(|key, _| zones.iter().any(|whom| whom.zone.key() == *key));
        self.servers.retain(|server, _| all.contains(server));
        self.services.retain(|(key, service), _| {
            zones.iter().any(|whom| whom.zone.key() == *key && whom.services.contains(service))
        });
        let probes = probes(&zones);
        let is_pod = |server: &Server| zones.iter().any(|whom| whom.pods.contains(server));
        let servers = all
            .iter()
            .map(|server| {
                let mark = (self.untracked && is_pod(server)).then_some(UPSTREAM_MARK);
                self.server(*server, mark)
            })
            .collect();
        let zones = zones.into_iter().map(|whom| self.zone(whom, &all)).collect();
        Ok(Snapshot {
            zones,
            listeners: self.listeners.clone(),
            servers,
            resolve: config.resolve.clone(),
            upstream: config.upstream,
            probes,
        })
    }

    /// Takes down which listeners the configuration left, by the zones that were known before it.
    fn leave(&mut self, named: &[SocketAddr]) {
        for (i, address) in self.listeners.iter().enumerate() {
            if named.contains(address) {
                self.left.remove(&i);
            } else if self.zones.keys().any(|zone| zone.names(address)) {
                self.left.insert(i);
            }
        }
    }

    /// As [`snapshot`](Self::snapshot), and servers that were left out get another chance.
    ///
    /// # Errors
    /// As there; they stay left out then.
    pub fn fresh_snapshot(&mut self, config: &Config) -> Result<Snapshot, Problem> {
        let looping = std::mem::take(&mut self.looping);
        self.snapshot(config).inspect_err(|_| self.looping = looping)
    }

    /// Leaves a server out of all snapshots from now on, until [`fresh_snapshot`](Self::fresh_snapshot).
    pub fn leave_out(&mut self, server: Server) {
        self.looping.push(server);
    }

    /// Takes down the addresses behind a service's name. True if they are not those that were known: the next
    /// snapshot has them.
    pub fn learn(&mut self, zone: &ZoneKey, service: &Service, addresses: Vec<IpAddr>) -> bool {
        let known = self.services.entry((zone.clone(), service.clone())).or_default();
        let news = *known != addresses;
        *known = addresses;
        news
    }

    /// The addresses behind a service's name, as last heard.
    pub fn known(&self, zone: &ZoneKey, service: &Service) -> &[IpAddr] {
        self.services.get(&(zone.clone(), service.clone())).map_or(&[], Vec::as_slice)
    }

    /// Whom a zone asks: each server once, without those that loop.
    fn whom<'c>(&self, zone: &'c ZoneConfig) -> Result<Whom<'c>, Problem> {
        let mut whom =
            Whom { zone, servers: Vec::new(), next: Vec::new(), services: Vec::new(), pods: Vec::new() };
        for next in &zone.next {
            let servers = next.upstreams.iter().map(servers).collect::<Result<Vec<_>, _>>()?;
            whom.next.push((next.on.clone(), servers.concat()));
        }
        for target in &zone.upstreams {
            whom.servers.extend(servers(target)?);
            if let Target::Service(service) = target {
                let Service { port, transport, .. } = *service;
                let addresses = self.known(&zone.key(), service).iter();
                let address = |&ip| SocketAddr::new(ip, port);
                whom.pods.extend(addresses.map(|ip| Server { address: address(ip), transport }));
                whom.services.push(service.clone());
            }
        }
        let next = whom.next.iter_mut().map(|(_, servers)| servers);
        for servers in [&mut whom.servers, &mut whom.pods].into_iter().chain(next) {
            let mut seen = Vec::new();
            servers.retain(|s| {
                let new = !seen.contains(s) && !self.looping.contains(s);
                seen.push(*s);
                new
            });
        }
        Ok(whom)
    }

    fn zone(&mut self, whom: Whom<'_>, all: &[Server]) -> Zone {
        let Whom { zone, servers, next, services, pods } = whom;
        let places =
            |servers: &[Server]| servers.iter().filter_map(|s| all.binary_search(s).ok()).collect::<Vec<_>>();
        let next_at =
            next.iter().map(|(on, servers)| Next { on: on.clone(), servers: places(servers) }).collect();
        let (servers_at, pods_at) = (places(&servers), places(&pods));
        let sink = if zone.log.is_empty() { None } else { self.queries.sink() };
        let log = sink.map(|sink| Arc::new(Log::new(zone.log.clone(), sink)));
        let asks = (servers, services, next);
        let everywhere = zone.listen.is_empty();
        let answers = |(i, address): (usize, &SocketAddr)| {
            (zone.listen.contains(address) || (everywhere && !self.left.contains(&i))).then_some(i)
        };
        let listeners: Vec<usize> = self.listeners.iter().enumerate().filter_map(answers).collect();
        let known = self.zones.entry(zone.key()).or_insert_with(|| KnownZone {
            id: u32::MAX,
            asks: Default::default(),
            counters: Arc::default(),
            services: Arc::default(),
            outage: Arc::default(),
            places: Arc::default(),
            settings: local::Settings::default(),
            rules: None,
        });
        let ruled_anew = known.take_rules(rules_for(zone, listeners.iter().map(|&i| self.listeners[i])));
        if known.asks != asks || ruled_anew || known.id == u32::MAX {
            known.id = self.next_id;
            known.asks = asks;
            self.next_id += 1;
        }
        known.services.addresses.set(pods.len() as u64);
        Zone {
            id: known.id,
            name: zone.name.clone(),
            listen: zone.listen.clone(),
            listeners,
            display: zone.display.clone(),
            servers: servers_at,
            pods: pods_at,
            next: next_at,
            asking: zone.asking.clone(),
            places: Arc::clone(&known.places),
            rules: zone.rules.clone(),
            times: zone.times,
            counters: Arc::clone(&known.counters),
            services: Arc::clone(&known.services),
            local: known.rules.as_ref().map(Rules::local),
            log,
            outage: Arc::clone(&known.outage),
        }
    }

    fn server(&mut self, server: Server, mark: Option<u32>) -> ServerEntry {
        let known = self.servers.entry(server).or_insert_with(|| KnownServer {
            counters: (0..self.workers).map(|_| Arc::default()).collect(),
            outage: Arc::default(),
        });
        ServerEntry { server, counters: known.counters.clone(), outage: Arc::clone(&known.outage), mark }
    }
}

impl KnownZone {
    /// Takes rules over, or reads the hosts file of those that are there; says whether they are others.
    fn take_rules(&mut self, settings: local::Settings) -> bool {
        if settings == self.settings {
            self.rules.iter_mut().for_each(Rules::refresh);
            return false;
        }
        self.rules = Rules::new(&settings);
        self.settings = settings;
        true
    }
}

/// The rules of a zone that answers on these addresses.
fn rules_for(zone: &ZoneConfig, listeners: impl Iterator<Item = SocketAddr> + Clone) -> local::Settings {
    let (v4, v6) = (listeners.clone().any(|a| a.is_ipv4()), listeners.clone().any(|a| a.is_ipv6()));
    // That both go together was checked with the configuration.
    zone.local.for_clients(v4, v6).unwrap_or_else(|_| zone.local.clone())
}

impl Whom<'_> {
    fn everybody(&self) -> impl Iterator<Item = Server> {
        let next = self.next.iter().flat_map(|(_, servers)| servers);
        self.servers.iter().chain(&self.pods).chain(next).copied()
    }
}

/// The servers that a target names: one, those of its file, or, for a service, none yet.
fn servers(target: &Target) -> Result<Vec<Server>, Problem> {
    match target {
        Target::Server(server) => Ok(vec![*server]),
        Target::ResolvConf(path, transport) => {
            let addresses = resolv_conf::read(path)?.into_iter();
            Ok(addresses.map(|address| Server { address, transport: *transport }).collect())
        }
        Target::Service(_) => Ok(Vec::new()),
    }
}

/// One random name a server, in a zone that it serves: `HEX.sidestep-loop.ZONE`.
fn probes(zones: &[Whom<'_>]) -> Vec<LoopProbe> {
    let mut probes: Vec<LoopProbe> = Vec::new();
    for whom in zones {
        for server in whom.everybody() {
            if probes.iter().all(|p| p.server != server) {
                let token = format!("{:016x}", rand::random::<u64>());
                let name = [b"\x10", token.as_bytes(), b"\x0dsidestep-loop", &whom.zone.name].concat();
                // A zone's name of almost 255 bytes has no room for a probe.
                if name.len() <= crate::wire::name::MAX {
                    probes.push(LoopProbe { name: name.into(), server, seen: AtomicBool::new(false) });
                }
            }
        }
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::ZoneCounters;

    const TEXT: &str = "[[zone]]\nname = \"cluster.local\"\n\
        upstreams = [\"tcp://192.0.2.1\", \"svc://dns.cluster.local:5353\"]\n\
        [[zone]]\nname = \".\"\nupstreams = [\"udp://192.0.2.9\"]\n";

    fn service(config: &Config) -> (ZoneKey, &Service) {
        let zone = &config.zones[0];
        match &zone.upstreams[1] {
            Target::Service(service) => (zone.key(), service),
            other => panic!("{other:?} is no service"),
        }
    }

    fn pod(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 0, last])
    }

    fn texts(addresses: &[SocketAddr]) -> Vec<String> {
        addresses.iter().map(SocketAddr::to_string).collect()
    }

    const NAME: &[u8] = b"\x03www\x07cluster\x05local\0";

    #[test]
    fn the_addresses_of_a_service_come_and_go_under_the_same_identity() {
        let config = Config::parse(TEXT, "test").unwrap();
        let (zone, service) = service(&config);
        let mut registry = Registry::new(1, &config.listen.addresses);
        let before = registry.snapshot(&config).unwrap();
        assert_eq!(texts(&before.asked_for(0, NAME).servers), ["192.0.2.1:53"]);
        assert_eq!(before.asked_for(0, NAME).pods, []);
        assert!(registry.learn(&zone, service, vec![pod(2), pod(3)]));
        assert!(!registry.learn(&zone, service, vec![pod(2), pod(3)]), "no news");
        let after = registry.snapshot(&config).unwrap();
        assert_eq!(texts(&after.asked_for(0, NAME).pods), ["10.244.0.2:5353", "10.244.0.3:5353"]);
        assert_eq!(texts(&after.asked_for(0, NAME).servers), ["192.0.2.1:53"]);
        let other = after.asked_for(0, b"\x04test\0");
        assert_eq!((other.pods.len(), texts(&other.servers)), (0, vec!["192.0.2.9:53".to_owned()]));
        assert_eq!(before.zones[0].id, after.zones[0].id, "what was cached stays true");
        let [first, reserve] = after.ranks(&after.zones[0]);
        assert_eq!((first.len(), reserve.len()), (2, 1));
        assert_eq!(after.zones[0].services.addresses.get(), 2);
    }

    #[test]
    fn another_service_is_another_zone_and_the_old_addresses_are_forgotten() {
        let config = Config::parse(TEXT, "test").unwrap();
        let (zone, service) = service(&config);
        let mut registry = Registry::new(1, &config.listen.addresses);
        registry.learn(&zone, service, vec![pod(2)]);
        let before = registry.snapshot(&config).unwrap();
        let other = Config::parse(&TEXT.replace("svc://dns", "svc://dns2"), "test").unwrap();
        let after = registry.snapshot(&other).unwrap();
        assert_ne!(before.zones[0].id, after.zones[0].id);
        assert_eq!(before.zones[1].id, after.zones[1].id);
        assert_eq!(after.asked_for(0, NAME).pods, []);
        assert_eq!(registry.known(&zone, service), &[] as &[IpAddr]);
    }

    #[test]
    fn only_addresses_of_services_are_marked_and_only_when_told_so() {
        let config = Config::parse(TEXT, "test").unwrap();
        let (zone, service) = service(&config);
        let mut registry = Registry::new(1, &config.listen.addresses);
        registry.learn(&zone, service, vec![pod(2)]);
        let mut marks = |untracked| {
            registry.untracked = untracked;
            let snapshot = registry.snapshot(&config).unwrap();
            let marked = snapshot.servers.iter().filter(|s| s.mark == Some(UPSTREAM_MARK));
            marked.map(|s| s.server.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(marks(false), [""; 0]);
        assert_eq!(marks(true), ["tcp://10.244.0.2:5353"]);
        assert_eq!(marks(false), [""; 0]);
    }

    #[test]
    fn who_asked_a_zone_of_its_own_does_not_hear_another_one_when_that_is_gone() {
        let zone = |address: &str| format!("[[zone]]\nname = \".\"\n{address}upstreams = [\"192.0.2.9\"]\n");
        let of = |addresses: &str, zones: &[&str]| {
            let zones: String = zones.iter().map(|address| zone(address)).collect();
            Config::parse(&format!("[listen]\naddresses = [{addresses}]\n{zones}"), "test").unwrap()
        };
        let [a, b] = [1, 2].map(|last| format!("\"127.0.0.{last}:5300\""));
        let [at_a, at_b] = [&a, &b].map(|address| format!("listen = [{address}]\n"));
        let views = of(&format!("{a}, {b}"), &[&at_a, &at_b]);
        let mut registry = Registry::new(1, &views.listen.addresses);
        let mut listeners = |config: &Config| -> Vec<Vec<usize>> {
            let snapshot = registry.snapshot(config).unwrap();
            snapshot.zones.into_iter().map(|zone| zone.listeners).collect()
        };
        assert_eq!(listeners(&views), [[0], [1]]);
        let one = of(&a, &[""]);
        assert_eq!(listeners(&one), [[0]], "nobody hears at the second what is meant for the first");
        assert_eq!(listeners(&one), [[0]], "nor later");
        assert_eq!(listeners(&of(&format!("{a}, {b}"), &[""])), [[0, 1]], "unless it is named again");
        assert_eq!(listeners(&of(&b, &[""])), [[0, 1]], "who had no zone of its own keeps what all have");
    }
    #[test]
    fn what_was_counted_is_kept_for_as_long_as_the_zone_is_there() {
        let of = |addresses: &str, zone: &str| {
            let zone = format!("[[zone]]\nname = \".\"\n{zone}upstreams = [\"192.0.2.9\"]\n");
            Config::parse(&format!("[listen]\naddresses = [{addresses}]\n{zone}"), "test").unwrap()
        };
        let [a, b] = [1, 2].map(|last| format!("\"127.0.0.{last}:5300\""));
        let both = of(&format!("{a}, {b}"), "");
        let mut registry = Registry::new(2, &both.listen.addresses);
        let mut counters =
            |config: &Config| Arc::clone(&registry.snapshot(config).unwrap().zones[0].counters);
        let misses =
            |blocks: Vec<Arc<ZoneCounters>>| blocks.iter().map(|block| block.misses.get()).sum::<u64>();
        let before = counters(&both);
        assert_eq!(before.all().len(), 0, "nobody has asked yet");
        for (worker, listener, n) in [(0, 1, 1), (1, 1, 2), (1, 0, 4)] {
            before.of(worker, listener).misses.add(n);
        }
        let after = counters(&of(&a, ""));
        let sums = [after.at(0), after.at(1), after.at(2), after.all()].map(misses);
        assert_eq!(sums, [4, 3, 0, 7], "also where it no longer answers");
        assert_eq!(misses(counters(&of(&a, &format!("listen = [{a}]\n"))).all()), 0, "another zone");
        assert_eq!(misses(counters(&both).all()), 0, "a new one");
    }
}
