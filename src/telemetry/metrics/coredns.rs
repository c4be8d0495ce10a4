//! The same counters in CoreDNS's and node-cache's words, so that dashboards and alerts made for those work here.
//!
//! Names, labels and buckets are CoreDNS's. Where the meaning cannot be quite the same, `docs/metrics.md` says how it
//! differs. `server` is the address that a query came in by, `dns://IP:PORT`; `view` is always empty, as it is there
//! for who uses no views; `plugin` is `cache` for every answer that went through it, hit or miss, as it is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use prometheus_client::registry::Unit;

use super::WorkerSources;
use super::family::{Family, Sample, Value};
use super::tell::{by, by_query};
use super::{Sources, join, sum};
use crate::cache::OfZone;
use crate::count::{self, Counter, Sizes};
use crate::resolve::traffic::Traffic;
use crate::resolve::{Snapshot, Zone, ZoneCounters};
use crate::wire::rcode;
use crate::{listen, node, resolve, telemetry::http, upstream};

/// The zone of queries that belong to none. It has no last dot, so no zone has this name.
const DROPPED: &str = "dropped";
/// What CoreDNS calls the parts of the road that every query of a zone takes.
const PLUGINS: [&str; 5] = ["cache", "errors", "forward", "loop", "prometheus"];
/// The buckets of [`count::Histogram`] below CoreDNS's first bound, 0.25 ms: they go into that one.
const FINER: usize = 3;

/// Every family, without its prefix `coredns`.
pub fn families(sources: &Sources<'_>) -> Vec<Family> {
    let Sources { workers, snapshot, cached, http, reloads_failed, config, .. } = *sources;
    let mut all = vec![
        build(),
        Family::counter("panics", "Panics: always 0, one would end the process", &Counter::default()),
    ];
    all.extend(dns(snapshot, workers.iter().map(|w| &*w.listen).collect()));
    all.extend(cache(snapshot, cached));
    all.push(plugins(snapshot));
    all.extend(proxies(snapshot));
    all.extend(forward(workers, snapshot));
    all.extend(sum(http.iter().map(|c| &**c), health));
    all.extend(hosts(snapshot));
    all.push(Family::labelled(
        "reload_failed",
        "Times a changed configuration was refused and the running one kept",
        [Sample::new(Value::Counter(reloads_failed))],
    ));
    all.push(Family::labelled(
        "reload_version",
        "A number made of the running configuration; the value is always 1",
        [Sample::new(Value::Info).with("hash", "fnv1a64").with("value", format!("{:016x}", fnv1a(config)))],
    ));
    all
}

fn build() -> Family {
    let sample = Sample::new(Value::Info).with("version", env!("CARGO_PKG_VERSION"));
    // There is neither; dashboards name the labels.
    Family::labelled(
        "build",
        "The version that runs; the value is always 1",
        [sample.with("revision", "").with("goversion", "")],
    )
}

/// FNV-1a, 64 bits: the same text, the same number, on every node.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A listener as CoreDNS names it.
fn server(address: &SocketAddr) -> String {
    format!("dns://{address}")
}

/// Each listener of each zone: its number, and its name.
fn places(snapshot: &Snapshot) -> impl Iterator<Item = (&Zone, usize, String)> {
    snapshot.zones.iter().flat_map(move |zone| {
        let named = move |&listener| Some((zone, listener, server(snapshot.listeners.get(listener)?)));
        zone.listeners.iter().filter_map(named)
    })
}

/// What all workers count about each zone at each listener where somebody has asked it, and at its first in any case.
/// (All of 256 zones on 64 listeners were a page of 135 MB, of zeros nearly all.)
fn sums(
    snapshot: &Snapshot,
    tell: fn(&ZoneCounters) -> Vec<Family>,
) -> impl Iterator<Item = (&Zone, String, Vec<Family>)> {
    places(snapshot).filter_map(move |(zone, listener, server)| {
        let blocks = zone.counters.at(listener);
        let is_told = !blocks.is_empty() || zone.listeners.first() == Some(&listener);
        is_told.then(|| (zone, server, sum(blocks.iter().map(|block| &**block), tell)))
    })
}

/// Families of one owner, labelled as such. `label` is `zone` or `zones`, as CoreDNS has it for the family.
fn owned(families: Vec<Family>, label: &'static str, zone: &str, server: &str) -> Vec<Family> {
    let label = |f: Family| f.owned_by("view", "").owned_by(label, zone).owned_by("server", server);
    families.into_iter().map(label).collect()
}

/// Queries and answers: of the zones, and of none where there were any such.
fn dns(snapshot: &Snapshot, listen: Vec<&listen::Counters>) -> Vec<Family> {
    let zones = sums(snapshot, zone_traffic)
        .map(|(zone, server, families)| owned(families, "zone", &zone.display, &server));
    let outside = snapshot.listeners.iter().enumerate().filter_map(|(i, address)| {
        let blocks = || listen.iter().filter_map(move |counters| counters.outside.get(i));
        let asked = blocks().any(|traffic| traffic.own_latency.count() > 0);
        asked.then(|| owned(sum(blocks(), outside), "zone", DROPPED, &server(address)))
    });
    join(zones.chain(outside))
}

fn zone_traffic(counters: &ZoneCounters) -> Vec<Family> {
    let ZoneCounters { traffic: counted, hit_latency, miss_latency, .. } = counters;
    let latency = durations(hit_latency).plus(durations(miss_latency)).plus(durations(&counted.own_latency));
    traffic(counted, latency)
}

fn outside(counters: &Traffic) -> Vec<Family> {
    traffic(counters, durations(&counters.own_latency))
}

fn traffic(counters: &Traffic, latency: Value) -> Vec<Family> {
    let Traffic { queries, dnssec_ok, query_sizes, answers, own_answers, answer_sizes, own_latency: _ } =
        counters;
    let by_source = [("cache", answers), ("", own_answers)].into_iter().flat_map(|(plugin, answers)| {
        answers.iter().zip(rcode::NAMES).map(move |(counter, rcode)| {
            Sample::new(Value::Counter(counter.get())).with("rcode", rcode).with("plugin", plugin)
        })
    });
    vec![
        Family::labelled(
            "dns_requests",
            "Queries",
            by_query(queries, ["proto", "family", "type"], ["1", "2"]),
        ),
        Family::labelled(
            "dns_request_duration_seconds",
            "Time from receiving a query to its answer",
            [Sample::new(latency)],
        ),
        by_size("dns_request_size_bytes", "Sizes of queries", query_sizes),
        Family::counter("dns_do_requests", "Queries with the DO bit", dnssec_ok),
        Family::labelled("dns_responses", "Answers", by_source),
        by_size("dns_response_size_bytes", "Sizes of answers", answer_sizes),
    ]
}

fn by_size(name: &'static str, help: &'static str, sizes: &[Sizes; 2]) -> Family {
    let samples = ["udp", "tcp"].into_iter().zip(sizes);
    Family::labelled(name, help, samples.map(|(proto, s)| Sample::new(Value::sizes(s)).with("proto", proto)))
}

/// In CoreDNS's buckets: 0.25 ms, each bound twice the one before, to 8.192 s.
fn durations(histogram: &count::Histogram) -> Value {
    let counts = histogram.counts();
    let finer: u64 = counts[..FINER].iter().sum();
    let coarse = counts.iter().enumerate().skip(FINER);
    let buckets = coarse.map(|(i, &n)| (count::Histogram::bound(i), n + if i == FINER { finer } else { 0 }));
    Value::Histogram(histogram.sum(), buckets.collect())
}

/// The cache, by zone and listener. A zone's entries are the same at each of its listeners.
fn cache(snapshot: &Snapshot, cached: &[OfZone]) -> Vec<Family> {
    let tally_of = |zone: &Zone| {
        let place = snapshot.zones.iter().position(|z| std::ptr::eq(z, zone));
        place.and_then(|i| cached.get(i)).copied().unwrap_or_default()
    };
    join(sums(snapshot, cache_counters).map(|(zone, server, counted)| {
        let mut families = entries(tally_of(zone));
        families.extend(counted);
        owned(families, "zones", &zone.display, &server)
    }))
}

fn entries(tally: OfZone) -> Vec<Family> {
    let by_type = |values: [Value; 2]| {
        let types = ["success", "denial"].into_iter();
        types.zip(values).map(|(label, value)| Sample::new(value).with("type", label).always())
    };
    vec![
        Family::labelled(
            "cache_entries",
            "Cached answers of the zone, expired ones too",
            by_type(tally.entries.map(Value::Gauge)),
        ),
        Family::labelled(
            "cache_evictions",
            "Cached answers of the zone that went because others needed their place",
            by_type(tally.evictions.map(Value::Counter)),
        ),
    ]
}

fn cache_counters(counters: &ZoneCounters) -> Vec<Family> {
    let ZoneCounters { hits, stale_hits, failure_hits, misses, prefetches, malformed, stale, .. } = counters;
    let success = hits[0].get() + stale_hits[0].get();
    let denial = hits[1].get() + stale_hits[1].get() + failure_hits.get();
    let hits = [("success", success), ("denial", denial)];
    let requests = Sample::new(Value::Counter(success + denial + misses.get()));
    vec![
        Family::labelled("cache_requests", "Queries that the cache was asked for", [requests]),
        Family::labelled(
            "cache_hits",
            "Queries that the cache answered at once, by what it said",
            hits.map(|(label, n)| Sample::new(Value::Counter(n)).with("type", label).always()),
        ),
        Family::counter("cache_misses", "Queries that the cache could not answer at once", misses),
        Family::counter("cache_prefetch", "Refreshes ahead of expiry", prefetches),
        Family::counter("cache_drops", "Answers of upstreams that could not be read", malformed),
        Family::counter("cache_served_stale", "Queries answered with stale data", stale),
    ]
}

fn plugins(snapshot: &Snapshot) -> Family {
    let samples = places(snapshot).flat_map(|(zone, _, server)| {
        PLUGINS.map(|name| {
            Sample::new(Value::Gauge(1))
                .with("server", server.clone())
                .with("zone", zone.display.clone())
                .with("view", "")
                .with("name", name)
        })
    });
    Family::labelled(
        "plugin_enabled",
        "What CoreDNS calls the parts that a zone's queries pass; always 1",
        samples,
    )
}

/// Upstream servers, each address once, however it is spoken to.
fn proxies(snapshot: &Snapshot) -> Vec<Family> {
    let mut by_address: BTreeMap<SocketAddr, Vec<&upstream::Counters>> = BTreeMap::new();
    for entry in &snapshot.servers {
        by_address.entry(entry.server.address).or_default().extend(entry.counters.iter().map(|c| &**c));
    }
    join(by_address.into_iter().map(|(address, blocks)| {
        let label = |f: Family| f.owned_by("to", &address.to_string()).owned_by("proxy_name", "forward");
        sum(blocks.into_iter(), proxy).into_iter().map(label).collect()
    }))
}

fn proxy(counters: &upstream::Counters) -> Vec<Family> {
    let upstream::Counters { latency, reused, first, failures, .. } = counters;
    let by_rcode = latency
        .iter()
        .zip(rcode::NAMES)
        .map(|(of_code, rcode)| Sample::new(durations(of_code)).with("rcode", rcode));
    vec![
        Family::labelled(
            "proxy_request_duration_seconds",
            "Time from sending a query to its answer",
            by_rcode,
        ),
        Family::counter(
            "proxy_healthcheck_failures",
            "Bad moments of the server: what was under way together and failed counts once",
            failures,
        ),
        by("proto", "proxy_conn_cache_hits", "Queries put on a connection in use", [("tcp", reused)]),
        by(
            "proto",
            "proxy_conn_cache_misses",
            "Queries that were the first on their socket",
            [
                ("tcp", &first[upstream::Transport::Tcp as usize]),
                ("udp", &first[upstream::Transport::Udp as usize]),
            ],
        ),
    ]
}

fn forward(workers: &[WorkerSources], snapshot: &Snapshot) -> Vec<Family> {
    let of_workers = |get: fn(&resolve::Counters) -> &Counter| -> u64 {
        workers.iter().map(|worker| get(&worker.resolve).get()).sum()
    };
    let all_out = of_workers(|counters| &counters.all_out);
    let zones = snapshot.zones.iter().flat_map(|zone| zone.counters.all());
    let rejects = of_workers(|counters| &counters.flights_limit)
        + zones.map(|counters| counters.concurrent_limit.get()).sum::<u64>();
    let total = |name, help, n| Family::labelled(name, help, [Sample::new(Value::Counter(n)).always()]);
    vec![
        total(
            "forward_healthcheck_broken",
            "Questions asked though all servers of their zone were out",
            all_out,
        ),
        total("forward_max_concurrent_rejects", "Queries refused because too many were under way", rejects),
    ]
}

fn health(counters: &http::Counters) -> Vec<Family> {
    let http::Counters { health, health_failed, .. } = counters;
    vec![
        Family::labelled(
            "health_request_duration_seconds",
            "Time that /health took",
            [Sample::new(Value::decades(health))],
        ),
        Family::counter("health_request_failures", "Times that /health was not well", health_failed),
    ]
}

/// What hosts files and the configuration say, by file. Each entry counts for its name and for its address, as there; of
/// zones that name the same file the one with the most.
fn hosts(snapshot: &Snapshot) -> Vec<Family> {
    let (mut entries, mut modified) = (BTreeMap::new(), Duration::ZERO);
    for local in snapshot.zones.iter().filter_map(|zone| zone.local.as_ref()) {
        let (Some(hosts), file) = (&local.settings().hosts, local.hosts_file()) else { continue };
        let path = hosts.file.as_ref().map_or_else(String::new, |path| path.display().to_string());
        let count = hosts.inline.entries() + file.as_ref().map_or(0, |table| table.entries());
        let most: &mut u64 = entries.entry(path).or_default();
        *most = (*most).max(2 * count as u64);
        let since_1970 = file.and_then(|table| table.modified()?.duration_since(SystemTime::UNIX_EPOCH).ok());
        modified = modified.max(since_1970.unwrap_or_default());
    }
    let mut families = vec![
        Family::gauge(
            "hosts_reload_timestamp",
            "When the hosts file that changed last had changed, since 1970",
            modified.as_secs(),
        )
        .in_unit(Unit::Seconds),
    ];
    // As there, it is not told of where there are no hosts.
    if !entries.is_empty() {
        families.push(Family::labelled(
            "hosts_entries",
            "Entries of hosts files and of the configuration, each counted for its name and for its address",
            entries.into_iter().map(|(path, n)| Sample::new(Value::Gauge(n)).with("hostsfile", path)),
        ));
    }
    families
}

/// What could not be done to the node, in node-cache's words. `configmap` is for those who read one.
pub fn setup_errors(counters: &node::Counters) -> Family {
    let [rules, lock, link_add, link_check] = &counters.faults;
    by(
        "errortype",
        "setup_errors",
        "Errors in setting up link and rules",
        [
            ("iptables", rules),
            ("iptables_lock", lock),
            ("interface_add", link_add),
            ("interface_check", link_check),
            ("configmap", &counters.config_map),
        ],
    )
}
