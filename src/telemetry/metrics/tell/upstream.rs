//! What is counted about one server.

use prometheus_client::registry::Unit;

use super::{Family, Sample, USUAL, Value, by};
use crate::upstream;
use crate::wire::rcode;

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
