//! The counters of all workers, summed when somebody scrapes them, and written for Prometheus.
//!
//! Nothing is kept here between scrapes: [`render`] reads the counters where their owners write them, adds
//! the workers up, and writes the OpenMetrics text format; [`classic()`] turns that into Prometheus' older one.
//!
//! - Names are `sidestep_*`, with the unit as a suffix, and `_total` for what only rises. The same counters are told
//!   once more in CoreDNS's and node-cache's words (`coredns.rs`), and `process_*` is what all programs say.
//! - `docs/metrics.md` lists all of them; a test holds it to that.
//! - Each stage's counters are told in `tell.rs`, in one function a struct, which names every field: a counter
//!   that is added to a stage and forgotten there does not compile.
//! - A query type or response code that has never been counted is left out, except the first of its kind and
//!   the codes that alerts are made of, so that every name is there from the first scrape on.

mod classic;
mod coredns;
mod family;
mod process;
mod tell;

use std::sync::Arc;

use prometheus_client::registry::{Registry, Unit};

pub use classic::classic;
use family::{Families, Family, Sample, Value};

use super::http;
use crate::cache::OfZone;
use crate::resolve::Snapshot;
use crate::{listen, node, resolve, upstream};

/// The content type of [`render`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of [`classic()`].
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The counters of one worker that belong to no zone and no server.
#[derive(Clone, Debug)]
pub struct WorkerSources {
    /// Its clients.
    pub listen: Arc<listen::Counters>,
    /// Its misses.
    pub resolve: Arc<resolve::Counters>,
}

/// What the cache holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheFigures {
    /// Bytes that are taken.
    pub bytes: u64,
    /// Bytes that may be taken.
    pub limit_bytes: u64,
    /// Entries, expired ones too.
    pub entries: u64,
    /// Entries that went because others needed their place.
    pub evictions: u64,
}

/// Where the numbers are.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The workers.
    pub workers: &'a [WorkerSources],
    /// The configuration that runs: its zones and servers hold their counters.
    pub snapshot: &'a Snapshot,
    /// The cache.
    pub cache: CacheFigures,
    /// What the cache holds of each zone of the snapshot, in its order.
    pub cached: &'a [OfZone],
    /// What happened to link and rules, where this is a node.
    pub node: Option<&'a node::Counters>,
    /// The HTTP listeners.
    pub http: &'a [Arc<http::Counters>],
    /// Times a changed configuration was taken over.
    pub reloads_ok: u64,
    /// Times a changed configuration was refused and the running one kept.
    pub reloads_failed: u64,
    /// The configuration that runs, as text.
    pub config: &'a str,
    /// When this process started, in seconds since 1970.
    pub started: u64,
}

/// Everything, in the OpenMetrics text format ([`OPENMETRICS`]).
pub fn render(sources: &Sources<'_>) -> String {
    let mut registry = Registry::default();
    let mut register = |prefix, families| {
        registry.sub_registry_with_prefix(prefix).register_collector(Box::new(Families(families)));
    };
    register("sidestep", families(sources));
    register("coredns", coredns::families(sources));
    register("process", process::families(sources.started));
    if let Some(node) = sources.node {
        register("coredns_nodecache", vec![coredns::setup_errors(node)]);
    }
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing into a string does not fail; a scrape that is cut short must not look whole.
        Err(_) => String::new(),
    }
}

/// Every family with its samples.
fn families(sources: &Sources<'_>) -> Vec<Family> {
    let Sources { workers, snapshot, cache, node, http, reloads_ok, reloads_failed, started, .. } = *sources;
    let mut all = of_process(workers.len(), started);
    all.push(Family::labelled(
        "reloads",
        "Times a changed configuration was taken over, or refused and the running one kept",
        [("ok", reloads_ok), ("failed", reloads_failed)]
            .map(|(result, n)| Sample::new(Value::Counter(n)).with("result", result).always()),
    ));
    all.extend(node.into_iter().flat_map(tell::node));
    all.extend(tell::cache(cache));
    all.extend(sum(workers.iter().map(|w| &*w.listen), tell::listen));
    all.extend(sum(workers.iter().map(|w| &*w.resolve), tell::resolve));
    let zones = snapshot.zones.iter().map(|zone| {
        let mut families = sum(zone.counters.all().iter().map(|c| &**c), tell::zone);
        families.extend(tell::services(&zone.services));
        if !zone.listen.is_empty() {
            // Another zone may have the same name.
            let listen = zone.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            families = families.into_iter().map(|family| family.owned_by("listen", &listen)).collect();
        }
        families.into_iter().map(|family| family.owned_by("zone", &zone.display)).collect()
    });
    all.extend(join(zones));
    let servers = snapshot.servers.iter().map(|entry| {
        let families = sum(entry.counters.iter().map(|c| &**c), tell::upstream);
        families.into_iter().map(|family| family.owned_by("upstream", &url(entry.server))).collect()
    });
    all.extend(join(servers));
    all.extend(sum(http.iter().map(|c| &**c), tell::http));
    all
}

/// What holds for the process as a whole.
fn of_process(workers: usize, started: u64) -> Vec<Family> {
    let mut all = vec![
        Family::labelled(
            "build",
            "The version that runs; the value is always 1",
            [Sample::new(Value::Info).with("version", env!("CARGO_PKG_VERSION"))],
        ),
        Family::gauge("start_time", "When the process started, since 1970", started).in_unit(Unit::Seconds),
        Family::gauge("workers", "Worker threads", workers as u64),
    ];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(bytes) = process::bytes(&status, "VmRSS:") {
        let help = "Memory of the process that is resident";
        all.push(Family::gauge("resident_memory", help, bytes).in_unit(Unit::Bytes));
    }
    all
}

/// A server as the configuration writes it: `tcp://10.96.0.10:53`.
fn url(server: upstream::Server) -> String {
    let scheme = match server.transport {
        upstream::Transport::Tcp => "tcp",
        upstream::Transport::Udp => "udp",
    };
    format!("{scheme}://{}", server.address)
}

/// The blocks of all workers as one, without what says nothing. Where there is no block, all is zero.
fn sum<'a, C: Default + 'a>(blocks: impl Iterator<Item = &'a C>, tell: fn(&C) -> Vec<Family>) -> Vec<Family> {
    let total = blocks.map(tell).reduce(|mut total, block| {
        total.iter_mut().zip(block).for_each(|(t, b)| t.add(b));
        total
    });
    total.unwrap_or_else(|| tell(&C::default())).into_iter().map(Family::thinned_out).collect()
}

/// The same families of several owners as one list: each family once, with the samples of all.
fn join(owners: impl Iterator<Item = Vec<Family>>) -> Vec<Family> {
    owners
        .reduce(|mut all, families| {
            all.iter_mut().zip(families).for_each(|(a, f)| a.samples.extend(f.samples));
            all
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
