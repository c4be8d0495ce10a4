//! From a configuration to a snapshot: zones with their identities, servers, and the counters that outlive a
//! reload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::{Config, Problem, Target, ZoneConfig, resolv_conf};
use crate::resolve::zones::{LoopProbe, ServerEntry};
use crate::resolve::{Snapshot, Zone, ZoneCounters};
use crate::upstream::outage::Outage;
use crate::upstream::{self, Server};

/// What is remembered from one snapshot to the next.
pub struct Registry {
    workers: usize,
    next_id: u32,
    zones: BTreeMap<Box<[u8]>, KnownZone>,
    servers: BTreeMap<Server, KnownServer>,
    /// Servers that ask us in turn: left out.
    looping: Vec<Server>,
}

struct KnownZone {
    id: u32,
    servers: Vec<Server>,
    counters: Vec<Arc<ZoneCounters>>,
    outage: Arc<Outage>,
}

struct KnownServer {
    counters: Vec<Arc<upstream::Counters>>,
    outage: Arc<Outage>,
}

impl Registry {
    /// Nothing known yet, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, next_id: 0, zones: BTreeMap::new(), servers: BTreeMap::new(), looping: Vec::new() }
    }

    /// The configuration as the workers use it. Reads the resolv.conf files that it names.
    ///
    /// # Errors
    /// One of them cannot be read or names no server. Nothing is changed then.
    pub fn snapshot(&mut self, config: &Config) -> Result<Snapshot, Problem> {
        let mut zones = Vec::with_capacity(config.zones.len());
        for zone in &config.zones {
            zones.push((zone, servers_of(zone)?));
        }
        // The longest name first, so that the first zone that holds a name is the right one.
        zones.sort_by_key(|(zone, _)| std::cmp::Reverse(zone.name.len()));
        for (_, servers) in &mut zones {
            servers.retain(|s| !self.looping.contains(s));
        }
        let mut all: Vec<Server> = zones.iter().flat_map(|(_, servers)| servers.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        self.zones.retain(|name, _| zones.iter().any(|(zone, _)| zone.name == *name));
        self.servers.retain(|server, _| all.contains(server));
        let probes = probes(&zones);
        let zones = zones.into_iter().map(|(zone, servers)| self.zone(zone, &servers, &all)).collect();
        let servers = all.into_iter().map(|server| self.server(server)).collect();
        Ok(Snapshot { zones, servers, resolve: config.resolve.clone(), upstream: config.upstream, probes })
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

    fn zone(&mut self, zone: &ZoneConfig, servers: &[Server], all: &[Server]) -> Zone {
        let known = self.zones.entry(zone.name.clone()).or_insert_with(|| KnownZone {
            id: u32::MAX,
            servers: Vec::new(),
            counters: per_worker(self.workers),
            outage: Arc::default(),
        });
        if known.servers != servers || known.id == u32::MAX {
            known.id = self.next_id;
            known.servers = servers.to_vec();
            self.next_id += 1;
        }
        Zone {
            id: known.id,
            name: zone.name.clone(),
            display: zone.display.clone(),
            servers: servers.iter().filter_map(|s| all.binary_search(s).ok()).collect(),
            pods: Vec::new(),
            policy: zone.policy,
            rules: zone.rules.clone(),
            counters: known.counters.clone(),
            outage: Arc::clone(&known.outage),
        }
    }

    fn server(&mut self, server: Server) -> ServerEntry {
        let known = self
            .servers
            .entry(server)
            .or_insert_with(|| KnownServer { counters: per_worker(self.workers), outage: Arc::default() });
        ServerEntry {
            server,
            counters: known.counters.clone(),
            outage: Arc::clone(&known.outage),
            mark: None,
        }
    }
}

fn per_worker<T: Default>(workers: usize) -> Vec<Arc<T>> {
    (0..workers).map(|_| Arc::default()).collect()
}

/// The servers of a zone in the order written, each once.
fn servers_of(zone: &ZoneConfig) -> Result<Vec<Server>, Problem> {
    let mut servers = Vec::new();
    for target in &zone.upstreams {
        match target {
            Target::Server(server) => servers.push(*server),
            Target::ResolvConf(path, transport) => {
                let addresses = resolv_conf::read(path)?.into_iter();
                servers.extend(addresses.map(|address| Server { address, transport: *transport }));
            }
        }
    }
    let mut seen = Vec::new();
    servers.retain(|s| {
        !seen.contains(s) && {
            seen.push(*s);
            true
        }
    });
    Ok(servers)
}

/// One random name a server, in a zone that it serves: `HEX.sidestep-loop.ZONE`.
fn probes(zones: &[(&ZoneConfig, Vec<Server>)]) -> Vec<LoopProbe> {
    let mut probes: Vec<LoopProbe> = Vec::new();
    for (zone, servers) in zones {
        for &server in servers {
            if probes.iter().all(|p| p.server != server) {
                let token = format!("{:016x}", rand::random::<u64>());
                let name = [b"\x10", token.as_bytes(), b"\x0dsidestep-loop", &zone.name].concat();
                // A zone's name of almost 255 bytes has no room for a probe.
                if name.len() <= crate::wire::name::MAX {
                    probes.push(LoopProbe { name: name.into(), server, seen: AtomicBool::new(false) });
                }
            }
        }
    }
    probes
}
