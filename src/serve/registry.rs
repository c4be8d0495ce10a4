//! From a configuration to a snapshot: zones with their identities, servers, and the counters that outlive a
//! reload.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::rules::Rules;
use crate::config::{Config, Problem, Service, Target, ZoneConfig, ZoneKey, resolv_conf};
use crate::local;
use crate::node::rules::UPSTREAM_MARK;
use crate::resolve::zones::{LoopProbe, Next, ServerEntry, ServiceCounters};
use crate::resolve::{Snapshot, Zone, ZoneCounters};
use crate::upstream::outage::Outage;
use crate::upstream::{self, Places, Server};

/// What is remembered from one snapshot to the next.
pub struct Registry {
    /// Whether sockets to addresses of services are to be marked as untracked; takes effect with the next
    /// snapshot, for new sockets.
    pub untracked: bool,
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
}

struct KnownZone {
    id: u32,
    /// What the identity stands for. The addresses of a service are not part of it: pods come and go, and all
    /// answer alike, so what one said stays true.
    asks: Asks,
    counters: Vec<Vec<Arc<ZoneCounters>>>,
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
            workers,
            listeners: listeners.to_vec(),
            next_id: 0,
            zones: BTreeMap::new(),
            servers: BTreeMap::new(),
            services: HashMap::new(),
            looping: Vec::new(),
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
        let asks = (servers, services, next);
        let answers = |address: &SocketAddr| zone.listen.is_empty() || zone.listen.contains(address);
        let listeners: Vec<usize> =
            (0..self.listeners.len()).filter(|&i| answers(&self.listeners[i])).collect();
        let known = self.zones.entry(zone.key()).or_insert_with(|| KnownZone {
            id: u32::MAX,
            asks: Default::default(),
            counters: (0..self.workers).map(|_| new(listeners.len())).collect(),
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
            counters: known.counters.clone(),
            services: Arc::clone(&known.services),
            local: known.rules.as_ref().map(Rules::local),
            outage: Arc::clone(&known.outage),
        }
    }

    fn server(&mut self, server: Server, mark: Option<u32>) -> ServerEntry {
        let known = self
            .servers
            .entry(server)
            .or_insert_with(|| KnownServer { counters: new(self.workers), outage: Arc::default() });
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

fn new<T: Default>(count: usize) -> Vec<Arc<T>> {
    (0..count).map(|_| Arc::default()).collect()
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
}
