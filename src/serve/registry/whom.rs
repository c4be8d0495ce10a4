//! Whom a zone asks, in a configuration and as far as services' addresses are known; and the probes for loops.

use std::net::SocketAddr;

use super::{Asks, Registry};
use crate::config::{ByNameConfig, Problem, Service, Target, ZoneConfig, resolv_conf};
use crate::local::Zones;
use crate::resolve::loops::LoopProbe;
use crate::upstream::Server;

/// Whom a zone asks.
pub(super) struct Whom<'c> {
    pub zone: &'c ZoneConfig,
    /// Those that it names, and those of its resolv.conf files, in the order written.
    pub servers: Vec<Server>,
    /// Whom it asks next, and on which response codes.
    pub next: Vec<(Vec<u8>, Vec<Server>)>,
    /// Whom it asks for which names that come out of its rules, but for which of them not.
    pub by_name: Vec<(Zones, Zones, Vec<Server>)>,
    /// Its services.
    pub services: Vec<Service>,
    /// The addresses of these that are known.
    pub pods: Vec<Server>,
    /// Those of all these that loop, and are not among them.
    pub looping: Vec<Server>,
    /// What its identity stands for.
    pub asks: Asks,
}

impl Whom<'_> {
    pub fn everybody(&self) -> impl Iterator<Item = Server> {
        let next = self.next.iter().flat_map(|(_, servers)| servers);
        let by_name = self.by_name.iter().flat_map(|(.., servers)| servers);
        self.servers.iter().chain(&self.pods).chain(next).chain(by_name).copied()
    }
}

impl Registry {
    /// Whom a zone asks: each server once, without those that loop.
    pub(super) fn whom<'c>(&self, zone: &'c ZoneConfig) -> Result<Whom<'c>, Problem> {
        let mut whom = Whom {
            zone,
            servers: Vec::new(),
            next: Vec::new(),
            by_name: Vec::new(),
            services: Vec::new(),
            pods: Vec::new(),
            looping: Vec::new(),
            asks: Asks::default(),
        };
        for ByNameConfig { names, except, upstreams } in &zone.by_name {
            let servers = upstreams.iter().map(servers).collect::<Result<Vec<_>, _>>()?;
            whom.by_name.push((names.clone(), except.clone(), servers.concat()));
        }
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
        whom.asks = (whom.servers.clone(), whom.services.clone(), whom.next.clone(), whom.by_name.clone());
        let loops = |server: &Server| self.looping.contains(&(zone.name.clone(), *server));
        whom.looping = whom.everybody().filter(loops).collect();
        let next = whom.next.iter_mut().map(|(_, servers)| servers);
        let by_name = whom.by_name.iter_mut().map(|(.., servers)| servers);
        for servers in [&mut whom.servers, &mut whom.pods].into_iter().chain(next).chain(by_name) {
            let mut seen = Vec::new();
            servers.retain(|s| {
                let new = !seen.contains(s);
                seen.push(*s);
                new && !loops(s)
            });
        }
        Ok(whom)
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

/// One for each server of each zone, those that are left out included.
pub(super) fn probes(zones: &[Whom<'_>]) -> Vec<LoopProbe> {
    let mut probes: Vec<LoopProbe> = Vec::new();
    for whom in zones {
        let zone = &whom.zone.name;
        let asked = whom.everybody().map(|server| (server, false));
        for (server, is_left_out) in asked.chain(whom.looping.iter().map(|&server| (server, true))) {
            if probes.iter().all(|probe| probe.zone != *zone || probe.server != server) {
                probes.extend(LoopProbe::new(zone, server, is_left_out));
            }
        }
    }
    probes
}
