//! What is counted about one zone.

use super::{Family, Sample, Value, by, by_rcode};
use crate::count::Counter;
use crate::resolve;
use crate::resolve::traffic::{TYPES, Traffic};

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
        log_unwritten,
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
        Family::labelled(
            "query_log_lost_lines",
            "Lines of the query log lost as nobody read them, or not fast enough",
            [Sample::new(Value::Counter(log_lost.get() + log_unwritten.get()))],
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
