//! What each counter is called, and what it means: one function for each struct of counters.
//!
//! Each takes its struct apart by naming every field, so the compiler points here when a stage gets a new
//! counter. The order and number of samples never depend on the values: workers are added up place by place.

use prometheus_client::registry::Unit;

use super::CacheFigures;
use super::family::{Family, Sample, Value};
use crate::count::Counter;
use crate::resolve::traffic::{TYPES, Traffic};
use crate::wire::rcode;
use crate::{listen, node, resolve, telemetry::http, upstream};

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

/// A worker's part of one zone.
pub fn zone(counters: &resolve::ZoneCounters) -> Vec<Family> {
    let resolve::ZoneCounters {
        traffic,
        hits: [hits, denials],
        stale_hits: [stale_data, stale_denials],
        failure_hits,
        misses,
        coalesced,
        stale,
        prefetches,
        timeouts,
        concurrent_limit,
        local,
        log_lost,
        malformed,
        hit_latency,
        miss_latency,
    } = counters;
    // What CoreDNS has names for is told in those only.
    let Traffic {
        queries,
        answers,
        dnssec_ok: _,
        query_sizes: _,
        own_answers: _,
        answer_sizes: _,
        own_latency: _,
    } = traffic;
    vec![
        Family::labelled(
            "queries",
            "Queries from clients",
            by_query(queries, ["protocol", "family", "type"], ["ipv4", "ipv6"]),
        ),
        by_rcode("answers", "Answers to clients", answers),
        by(
            "kind",
            "hits",
            "Queries answered from a fresh cache entry",
            [("positive", hits), ("negative", denials)],
        ),
        by(
            "kind",
            "stale_hits",
            "Queries answered at once from a stale cache entry",
            [("positive", stale_data), ("negative", stale_denials)],
        ),
        Family::counter("failure_hits", "Hits on a remembered failure (RFC 9520)", failure_hits),
        Family::counter("misses", "Queries that nothing fresh in the cache could answer", misses),
        Family::counter("coalesced_misses", "Misses that joined a flight already under way", coalesced),
        Family::counter("stale_answers", "Queries answered with stale data (RFC 8767)", stale),
        Family::counter("prefetches", "Refreshes ahead of expiry", prefetches),
        Family::counter("timeouts", "Queries answered SERVFAIL as nothing came in time", timeouts),
        Family::counter(
            "max_concurrent_rejects",
            "Queries refused, or answered with stale data, because max_concurrent was reached",
            concurrent_limit,
        ),
        Family::counter("rule_answers", "Misses answered by the zone's own rules, without asking", local),
        Family::counter(
            "query_log_lost_lines",
            "Lines of the query log lost as its queue was full",
            log_lost,
        ),
        Family::counter("malformed_answers", "Answers of upstreams that could not be read", malformed),
        Family::histogram("hit_duration", "Time from receiving a hit's batch to its answers", hit_latency),
        Family::histogram("miss_duration", "Time from receiving a miss to its answer", miss_latency),
    ]
}

/// The supervisor's part of one zone.
pub fn services(counters: &resolve::counters::ServiceCounters) -> Vec<Family> {
    let resolve::counters::ServiceCounters { addresses, refreshed, failed, limit } = counters;
    vec![
        Family::gauge("service_addresses", "Addresses behind svc:// upstreams in use, now", addresses.get()),
        by(
            "result",
            "service_refreshes",
            "Times the addresses behind a svc:// upstream were found out, or could not be and the last ones stayed",
            [("ok", refreshed), ("failed", failed)],
        ),
        Family::counter(
            "service_limit_reached",
            "Times a svc:// upstream had more addresses than are taken",
            limit,
        ),
    ]
}

/// Queries by protocol, address family and type; with what the labels and the families are called.
pub fn by_query(
    queries: &[[[Counter; TYPES.len() + 1]; 2]; 2],
    labels: [&'static str; 3],
    families: [&'static str; 2],
) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (protocol, of_protocol) in ["udp", "tcp"].into_iter().zip(queries) {
        for (family, types) in families.into_iter().zip(of_protocol) {
            let names = TYPES.iter().map(|&(_, name)| name).chain(["other"]);
            samples.extend(names.zip(types).map(|(name, counter)| {
                Sample::new(Value::Counter(counter.get()))
                    .with(labels[0], protocol)
                    .with(labels[1], family)
                    .with(labels[2], name)
            }));
        }
    }
    samples
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

/// A worker's part of one server.
pub fn upstream(counters: &upstream::Counters) -> Vec<Family> {
    let upstream::Counters {
        sent,
        latency,
        reused,
        first: [first_tcp, first_udp],
        failures,
        timeouts,
        errors,
        hedges,
        hedges_denied,
        rescued,
        handed_over,
        mismatched,
        truncated,
        taken_out,
        out,
        opened,
        open_failed,
        connections,
        outstanding,
        connections_limit,
        datagrams_limit,
        unmarked,
    } = counters;
    vec![
        Family::counter("upstream_queries", "Queries sent to the server, each try counted", sent),
        Family::labelled(
            "upstream_answers",
            "Answers of the server that were used",
            latency.iter().zip(rcode::NAMES).map(|(of_code, rcode)| {
                let sample = Sample::new(Value::Counter(of_code.count())).with("rcode", rcode);
                if USUAL.contains(&rcode) { sample.always() } else { sample }
            }),
        ),
        Family::labelled(
            "upstream_duration",
            "Time from sending a query to its answer",
            latency.iter().map(Value::durations).reduce(Value::plus).map(Sample::new),
        )
        .in_unit(Unit::Seconds),
        by(
            "socket",
            "upstream_queries_by_socket",
            "Queries by what they went out on: a TCP connection in use, a new one, or a UDP socket of their own",
            [("reused", reused), ("new_tcp", first_tcp), ("udp", first_udp)],
        ),
        Family::counter(
            "upstream_failures",
            "Bad moments of the server: what was under way together and failed counts once",
            failures,
        ),
        by(
            "reason",
            "upstream_failed_tries",
            "Tries without an answer: none in time, or the transport failed (refused, reset, closed)",
            [("timeout", timeouts), ("transport", errors)],
        ),
        Family::counter("upstream_hedges", "Second tries because the first was slow", hedges),
        Family::counter(
            "upstream_handed_over_queries",
            "Queries handed to another connection because theirs died",
            handed_over,
        ),
        Family::counter(
            "upstream_rescued_queries",
            "Queries asked again on another connection because a slow one was ahead of theirs",
            rescued,
        ),
        Family::counter(
            "upstream_mismatched_replies",
            "Replies dropped because they matched no open query or were no DNS message",
            mismatched,
        ),
        Family::counter(
            "upstream_truncated_answers",
            "Truncated UDP answers asked for again over TCP",
            truncated,
        ),
        Family::counter("upstream_taken_out", "Times a worker took the server out: no answers", taken_out),
        Family::gauge("upstream_out_workers", "Workers that have taken the server out, now", out.get()),
        Family::counter("upstream_opened_connections", "Connections opened to the server", opened),
        Family::counter(
            "upstream_failed_connections",
            "Connections to the server that could not be opened",
            open_failed,
        ),
        Family::gauge("upstream_connections", "Connections to the server, now", connections.get()),
        Family::gauge(
            "upstream_outstanding_queries",
            "Queries that the server has not answered, now",
            outstanding.get(),
        ),
        Family::counter(
            "upstream_unmarked_sockets",
            "Sockets to the server that should be untracked but could not be marked so",
            unmarked,
        ),
        by(
            "limit",
            "upstream_limit_reached",
            "Queries that shared a slow connection (connections), were refused (datagrams), \
             or second tries that were not made (hedges), because a limit was reached",
            [("connections", connections_limit), ("datagrams", datagrams_limit), ("hedges", hedges_denied)],
        ),
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
