//! The command line's flags, typed, and what they do to the file: each replaces the key of its name.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::file::Written;
use super::name::ZoneName;
use super::source::Source;
use super::target::WrittenTarget;
use super::zone::WrittenZone;
use super::{HttpListener, HttpPath, LogFormat, LogLevel};
use crate::node::{self, FirewallKind, LinkKind};

/// What was given on the command line. Empty lists and `None` leave the file's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config FILE`, `--lenient`, or node-cache's flags.
    pub source: Source,
    /// `--listen ADDR:PORT`...: the whole list.
    pub listen: Vec<SocketAddr>,
    /// `--node-address IP`...: the whole list.
    pub node_address: Vec<IpAddr>,
    /// `--interface NAME`
    pub interface: Option<String>,
    /// `--link KIND`
    pub link: Option<LinkKind>,
    /// `--firewall KIND`
    pub firewall: Option<FirewallKind>,
    /// `--teardown-on-exit`
    pub teardown_on_exit: bool,
    /// `--upstream [ZONE=]TARGET`...: the list of each zone of that name.
    pub upstream: Vec<(ZoneName, WrittenTarget)>,
    /// `--http ADDR:PORT`...: the whole list, each with every path.
    pub http: Vec<SocketAddr>,
    /// `--workers N`
    pub workers: Option<usize>,
    /// `--cache-size BYTES`
    pub cache_size: Option<u64>,
    /// `--log text|json`
    pub log: Option<LogFormat>,
    /// `-v`: at least debug; `-vv`: trace.
    pub verbose: u8,
    /// node-cache's `-pidfile FILE`. No key: a reload does not move it.
    pub pidfile: Option<PathBuf>,
}

impl Flags {
    /// The flag that replaces the key at this place, if it was given.
    pub(super) fn replacing(&self, place: &str, zones: &[WrittenZone]) -> Option<&'static str> {
        let upstream = |zone: &WrittenZone| self.upstream.iter().any(|(name, _)| *name == zone.name());
        match place {
            "listen.addresses" if !self.listen.is_empty() => Some("--listen"),
            "node.addresses" if !self.node_address.is_empty() => Some("--node-address"),
            "http.serve" if !self.http.is_empty() => Some("--http"),
            "zone" if !self.upstream.is_empty() => Some("--upstream"),
            _ => {
                let index: usize = place.strip_prefix("zone[")?.strip_suffix("].upstreams")?.parse().ok()?;
                zones.get(index).is_some_and(upstream).then_some("--upstream")
            }
        }
    }

    /// Puts the flags in the place of what the file says.
    pub(super) fn apply(&self, written: &mut Written) {
        let config = &mut written.config;
        if !self.listen.is_empty() {
            config.listen.addresses.clone_from(&self.listen);
        }
        if !self.http.is_empty() {
            let serve = |&address| HttpListener { address, paths: HttpPath::ALL.to_vec() };
            config.http = self.http.iter().map(serve).collect();
        }
        if self.workers.is_some() {
            config.listen.workers = self.workers;
        }
        config.cache.size = self.cache_size.unwrap_or(config.cache.size);
        config.log.format = self.log.unwrap_or(config.log.format);
        config.log.level = config.log.level.max(match self.verbose {
            0 => LogLevel::Error,
            1 => LogLevel::Debug,
            _ => LogLevel::Trace,
        });
        self.apply_node(&mut config.node);
        self.apply_upstreams(&mut written.zones);
    }

    fn apply_node(&self, node: &mut node::Settings) {
        if !self.node_address.is_empty() {
            node.addresses.clone_from(&self.node_address);
        }
        if let Some(interface) = &self.interface {
            node.interface.clone_from(interface);
        }
        node.link = self.link.unwrap_or(node.link);
        node.firewall = self.firewall.unwrap_or(node.firewall);
        node.teardown_on_exit |= self.teardown_on_exit;
    }

    fn apply_upstreams(&self, zones: &mut Vec<WrittenZone>) {
        for zone in zones.iter_mut() {
            let name = zone.name();
            if self.upstream.iter().any(|(of, _)| *of == name) {
                zone.upstreams.clear();
            }
        }
        for (name, target) in &self.upstream {
            if zones.iter().all(|zone| zone.name() != *name) {
                zones.push(WrittenZone::named(name.clone()));
            }
            // A name that is another zone on each of several listeners: whoever asks means all of them.
            for zone in zones.iter_mut().filter(|zone| zone.name() == *name) {
                zone.upstreams.push(target.clone());
            }
        }
    }
}
