//! From a configuration to a snapshot: zones with their identities, servers, and the counters that outlive a
//! reload.

mod whom;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::Notify;
use whom::{Whom, probes};

use super::hosts::HostsFiles;
use crate::config::{Config, Problem, Service, ZoneConfig, ZoneKey};
use crate::local::{self, Local, Zones};
use crate::node::rules::UPSTREAM_MARK;
use crate::resolve::counters::{Blocks, ServiceCounters};
use crate::resolve::log::Log;
use crate::resolve::zones::{Named, Next, ServerEntry};
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
    /// See [`Snapshot::failed`].
    failed: Arc<Notify>,
    /// The hosts files that zones name.
    pub hosts: HostsFiles,
    workers: usize,
    /// The addresses that we listen on, as they were named at the start.
    listeners: Vec<SocketAddr>,
    next_id: u32,
    zones: BTreeMap<ZoneKey, KnownZone>,
    servers: BTreeMap<Server, KnownServer>,
    /// The addresses behind services' names, by zone: each zone asks its own servers.
    services: HashMap<(ZoneKey, Service), Vec<IpAddr>>,
    /// Servers that ask us in turn, by the zone's name: left out.
    looping: BTreeSet<(Box<[u8]>, Server)>,
    /// Those of `listeners` that a reload took out of the configuration together with the zones of their own: until
    /// the restart that closes them, zones that answer everywhere do not answer there.
    left: BTreeSet<usize>,
}

struct KnownZone {
    id: u32,
    /// What the identity stands for: those that loop included, which are left out for a while. The addresses of a
    /// service are not part of it: pods come and go, and all answer alike, so what one said stays true.
    asks: Asks,
    counters: Arc<Blocks>,
    services: Arc<ServiceCounters>,
    outage: Arc<Outage>,
    places: Arc<Places>,
    /// The rules; `None` if there are none.
    rules: Option<Arc<Local>>,
}

/// The servers, the services, whom to ask next on which response codes, and whom for which names but which.
type Asks = (Vec<Server>, Vec<Service>, Vec<(Vec<u8>, Vec<Server>)>, Vec<(Zones, Zones, Vec<Server>)>);

struct KnownServer {
    counters: Vec<Arc<upstream::Counters>>,
    outage: Arc<Outage>,
}

impl Registry {
    /// Nothing known yet, for so many workers and these addresses.
    pub fn new(workers: usize, listeners: &[SocketAddr]) -> Self {
        Self {
            untracked: false,
            queries: Queries::default(),
            failed: Arc::default(),
            hosts: HostsFiles::default(),
            workers,
            listeners: listeners.to_vec(),
            next_id: 0,
            zones: BTreeMap::new(),
            servers: BTreeMap::new(),
            services: HashMap::new(),
            looping: BTreeSet::new(),
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
        self.hosts.keep(config.zones.iter().filter_map(|zone| zone.local.hosts.as_ref()));
        self.hosts.look();
        Ok(Snapshot {
            zones,
            listeners: self.listeners.clone(),
            servers,
            resolve: config.resolve.clone(),
            upstream: config.upstream,
            probes,
            failed: Arc::clone(&self.failed),
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

    /// Leaves a server out of a zone of all snapshots from now on, until [`take_back`](Self::take_back) or
    /// [`fresh_snapshot`](Self::fresh_snapshot). An outage of it is over without a word, since what
    /// answers in a loop is ourselves, and so is one of the zone, if there are others to ask.
    pub fn leave_out(&mut self, zone: &[u8], server: Server) {
        self.looping.insert((zone.into(), server));
        if let Some(known) = self.servers.get(&server) {
            known.outage.ends();
        }
        let is_left = |server: &Server| !self.looping.contains(&(zone.into(), *server));
        for (_, known) in self.zones.iter().filter(|(key, _)| key.name() == zone) {
            if known.asks.0.iter().any(is_left) {
                known.outage.ends();
            }
        }
    }

    /// A server that was left out is in the next snapshot again.
    pub fn take_back(&mut self, zone: &[u8], server: Server) {
        self.looping.remove(&(zone.into(), server));
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

    fn zone(&mut self, whom: Whom<'_>, all: &[Server]) -> Zone {
        let Whom { zone, servers, next, by_name, services, pods, asks, .. } = whom;
        let places =
            |servers: &[Server]| servers.iter().filter_map(|s| all.binary_search(s).ok()).collect::<Vec<_>>();
        let next_at =
            next.iter().map(|(on, servers)| Next { on: on.clone(), servers: places(servers) }).collect();
        let by_name_at = zone.by_name.iter().zip(&by_name).map(|(written, (names, except, servers))| Named {
            names: names.clone(),
            except: except.clone(),
            servers: (!written.upstreams.is_empty()).then(|| places(servers)),
        });
        let by_name_at = by_name_at.collect();
        let (servers_at, pods_at) = (places(&servers), places(&pods));
        let sink = if zone.log.is_empty() { None } else { self.queries.sink() };
        let log = sink.map(|sink| Arc::new(Log::new(zone.log.clone(), sink)));
        let has_services = !services.is_empty();
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
            rules: None,
        });
        let rules = rules_for(zone, listeners.iter().map(|&i| self.listeners[i]));
        let ruled_anew = known.take_rules(rules, &mut self.hosts);
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
            has_services,
            next: next_at,
            by_name: by_name_at,
            asking: zone.asking.clone(),
            places: Arc::clone(&known.places),
            rules: zone.rules.clone(),
            times: zone.times,
            counters: Arc::clone(&known.counters),
            services: Arc::clone(&known.services),
            local: known.rules.clone(),
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
    /// Takes rules over; says whether they are others than before.
    fn take_rules(&mut self, settings: local::Settings, files: &mut HostsFiles) -> bool {
        let same = match &self.rules {
            Some(rules) => *rules.settings() == settings,
            None => settings.is_empty(),
        };
        if !same {
            let shelf = settings.hosts.as_ref().and_then(|hosts| files.shelf(hosts));
            self.rules = (!settings.is_empty()).then(|| match shelf {
                Some(shelf) => Local::with_file(settings, shelf),
                None => Local::new(settings),
            });
        }
        !same
    }
}

/// The rules of a zone that answers on these addresses.
fn rules_for(zone: &ZoneConfig, listeners: impl Iterator<Item = SocketAddr> + Clone) -> local::Settings {
    let (v4, v6) = (listeners.clone().any(|a| a.is_ipv4()), listeners.clone().any(|a| a.is_ipv6()));
    // That both go together was checked with the configuration.
    zone.local.for_clients(v4, v6).unwrap_or_else(|_| zone.local.clone())
}

#[cfg(test)]
mod tests;
