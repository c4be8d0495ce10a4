//! What each counter is called, and what it means: one function for each struct of counters.
//!
//! Each takes its struct apart by naming every field, so the compiler points here when a stage gets a new
//! counter. The order and number of samples never depend on the values: workers are added up place by place.

mod upstream;
mod zone;

use prometheus_client::registry::Unit;

pub use upstream::upstream;
pub use zone::{by_query, services, zone};

use super::CacheFigures;
use super::family::{Family, Sample, Value};
use crate::count::Counter;
use crate::wire::rcode;
use crate::{listen, node, resolve, telemetry::http};

/// The response codes that are written while they are zero, too: a rate needs a first value to rise from.
const USUAL: [&str; 4] = ["NOERROR", "SERVFAIL", "NXDOMAIN", "REFUSED"];

/// Counters by response code.
fn by_rcode(name: &'static str, help: &'static str, counters: &[Counter]) -> Family {
    let samples = counters.iter().zip(rcode::NAMES).map(|(counter, rcode)| {
        let sample = Sample::new(Value::Counter(counter.get())).with("rcode", rcode);
        if USUAL.contains(&rcode) { sample.always() } else { sample }
    });
    Family::labelled(name, help, samples)
}

/// Counters that one label tells apart, each always written.
pub fn by<const N: usize>(
    label: &'static str,
    name: &'static str,
    help: &'static str,
    counters: [(&'static str, &Counter); N],
) -> Family {
    let samples = counters.map(|(value, c)| Sample::new(Value::Counter(c.get())).with(label, value).always());
    Family::labelled(name, help, samples)
}

/// What the cache holds.
pub fn cache(figures: CacheFigures) -> Vec<Family> {
    let CacheFigures { bytes, limit_bytes, entries, evictions } = figures;
    vec![
        Family::gauge("cache", "Memory taken by cached answers", bytes).in_unit(Unit::Bytes),
        Family::gauge("cache_limit", "Memory that cached answers may take", limit_bytes).in_unit(Unit::Bytes),
        Family::gauge("cache_entries", "Cached answers, expired ones too", entries),
        Family::labelled(
            "cache_evictions",
            "Cached answers that went because others needed their place",
            [Sample::new(Value::Counter(evictions))],
        ),
    ]
}

/// A worker's clients.
pub fn listen(counters: &listen::Counters) -> Vec<Family> {
    let listen::Counters {
        outside: _, // in CoreDNS's words only
        short,
        responses,
        local_answers,
        send_failed,
        truncated,
        tcp_accepted,
        tcp_open,
        tcp_connections_limit,
        tcp_per_client_limit,
        tcp_queries_limit,
        tcp_timed_out,
        tcp_broken,
    } = counters;
    vec![
        by(
            "reason",
            "dropped_packets",
            "Packets dropped without an answer: shorter than a DNS header, or responses",
            [("short", short), ("response", responses)],
        ),
        by_rcode(
            "local_answers",
            "Queries answered without a zone: malformed, refused, or about this server itself",
            local_answers,
        ),
        Family::counter("udp_send_failures", "UDP answers that the kernel did not take", send_failed),
        Family::counter("udp_truncated_answers", "UDP answers cut short (TC) as too long", truncated),
        Family::counter("tcp_accepted_connections", "TCP connections accepted from clients", tcp_accepted),
        Family::gauge("tcp_connections", "TCP connections from clients, now", tcp_open.get()),
        by(
            "reason",
            "tcp_closed_connections",
            "TCP connections from clients that did not end in order, by what ended them",
            [
                ("connections_limit", tcp_connections_limit),
                ("per_client_limit", tcp_per_client_limit),
                ("queries_limit", tcp_queries_limit),
                ("timeout", tcp_timed_out),
                ("broken", tcp_broken),
            ],
        ),
    ]
}

/// A worker's misses.
pub fn resolve(counters: &resolve::Counters) -> Vec<Family> {
    let resolve::Counters { flights, flights_limit, waiters_limit, prefetches_limit, all_out } = counters;
    vec![
        Family::gauge("flights", "Questions under way to upstreams, now", flights.get()),
        by(
            "limit",
            "limit_reached",
            "Questions refused (flights, waiters) or prefetches not made because a limit was reached",
            [("flights", flights_limit), ("waiters", waiters_limit), ("prefetches", prefetches_limit)],
        ),
        Family::counter("all_out", "Questions asked though all servers of their zone were out", all_out),
    ]
}

/// What happened to link and rules.
pub fn node(counters: &node::Counters) -> Vec<Family> {
    let node::Counters { faults: _, config_map: _, repairs, checks, rules, fallbacks } = counters;
    let [link, address, notrack, fail_open] = repairs;
    vec![
        by(
            "kind",
            "node_repairs",
            "Times that something of ours on the node was changed by somebody else and put right",
            [("link", link), ("address", address), ("rules", notrack), ("fail_open", fail_open)],
        ),
        Family::counter("node_checks", "Times that link and rules were looked at", checks),
        Family::gauge("node_rules", "1 while the rules are there, as far as the last look says", rules.get()),
        Family::gauge("node_fallbacks", "Servers that clients fall back to without us", fallbacks.get()),
    ]
}

/// An HTTP listener's clients.
pub fn http(counters: &http::Counters) -> Vec<Family> {
    let http::Counters {
        accepted,
        accept_failed,
        open,
        connections_limit,
        broken,
        aged,
        health: _, // in CoreDNS's words only
        health_failed: _,
    } = counters;
    vec![
        Family::counter("http_accepted_connections", "HTTP connections accepted", accepted),
        Family::counter("http_accept_failures", "HTTP connections that could not be accepted", accept_failed),
        Family::gauge("http_connections", "HTTP connections, now", open.get()),
        by(
            "reason",
            "http_closed_connections",
            "HTTP connections that did not end in order, by what ended them",
            [("connections_limit", connections_limit), ("broken", broken), ("age", aged)],
        ),
    ]
}
