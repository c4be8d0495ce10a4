//! The metrics as a scraper reads them: a strict reader of both formats, the list of names, and the numbers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::*;
use crate::count::Counter;
use crate::resolve::{Zone, ZoneCounters, zones::ServerEntry};
use crate::upstream::{Server, Transport};

/// A configuration with two zones and two servers, for two workers.
fn snapshot() -> Snapshot {
    let zone = |id, display: &str| Zone {
        id,
        display: display.to_owned(),
        listeners: vec![0, 1],
        servers: vec![0],
        counters: (0..2).map(|_| vec![Arc::default(), Arc::default()]).collect(),
        ..Zone::default()
    };
    let server = |address: &str, transport| ServerEntry {
        server: Server { address: address.parse().unwrap(), transport },
        counters: vec![Arc::default(), Arc::default()],
        outage: Arc::default(),
        mark: None,
    };
    Snapshot {
        zones: vec![zone(1, "odd\\032\"name\"."), zone(2, ".")],
        servers: vec![server("10.96.0.10:53", Transport::Tcp), server("[fd00::a]:53", Transport::Udp)],
        ..Snapshot::default()
    }
}

fn workers() -> Vec<WorkerSources> {
    (0..2).map(|_| WorkerSources { listen: Arc::default(), resolve: Arc::default() }).collect()
}

fn rendered(workers: &[WorkerSources], snapshot: &Snapshot) -> String {
    render(&Sources {
        workers,
        snapshot,
        cache: CacheFigures { bytes: 1, limit_bytes: 2, entries: 3, evictions: 4 },
        node: Some(&node::Counters::default()),
        http: &[Arc::default()],
        reloads_ok: 5,
        reloads_failed: 6,
        started: 1_700_000_000,
    })
}

/// Adds to every place that the road counts in, so that every sample there can be is written.
fn count_everything(workers: &[WorkerSources], snapshot: &Snapshot) {
    for w in workers {
        w.listen.short.add(2);
        w.listen.tcp_open.set(3);
        w.listen.local_answers.iter().for_each(Counter::bump);
        w.resolve.flights.set(4);
    }
    for zone in snapshot.zones.iter().flat_map(|z| z.counters.iter().flatten()) {
        zone.queries.iter().flatten().flatten().for_each(Counter::bump);
        zone.answers.iter().for_each(Counter::bump);
        zone.hit_latency.record(Duration::from_micros(33), 10);
        zone.miss_latency.record(Duration::from_secs(9), 1);
    }
    for server in snapshot.servers.iter().flat_map(|s| &s.counters) {
        server.answers.iter().for_each(Counter::bump);
        server.out.set(1);
        server.latency.record(Duration::from_millis(1), 1);
    }
}

/// A sample as it was read: name, labels, value.
type Read = (String, Vec<(String, String)>, f64);

/// Reads `name{label="value",...} number`, or says what is wrong with it.
fn sample(line: &str) -> Result<Read, String> {
    let wrong = || format!("not a sample: {line}");
    let end = line.find(['{', ' ']).ok_or_else(wrong)?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if rest.starts_with('{') {
        while !rest.starts_with('}') {
            let (key, tail) = rest[1..].split_once("=\"").ok_or_else(wrong)?;
            let mut value = String::new();
            let mut chars = tail.char_indices();
            let end = loop {
                match chars.next().ok_or_else(wrong)? {
                    (i, '"') => break i + 1,
                    (_, '\\') => match chars.next().ok_or_else(wrong)?.1 {
                        'n' => value.push('\n'),
                        c @ ('\\' | '"') => value.push(c),
                        _ => return Err(wrong()),
                    },
                    (_, c) => value.push(c),
                }
            };
            labels.push((key.to_owned(), value));
            rest = &tail[end..];
            if !rest.starts_with([',', '}']) {
                return Err(wrong());
            }
        }
        rest = &rest[1..];
    }
    let number = rest.strip_prefix(' ').ok_or_else(wrong)?;
    Ok((name.to_owned(), labels, number.parse().map_err(|_| wrong())?))
}

fn is_name(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_lowercase())
        && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Reads a whole page and fails on anything that the format does not allow: the families with their types,
/// and the samples.
fn read(text: &str, openmetrics: bool) -> (BTreeMap<String, String>, Vec<Read>) {
    let text = match openmetrics {
        true => text.strip_suffix("# EOF\n").expect("the end mark"),
        false => text,
    };
    assert!(text.ends_with('\n'));
    let (mut families, mut samples, mut seen) = (BTreeMap::new(), Vec::new(), HashSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(is_name(name) && !help.is_empty() && !help.contains("  "), "{line}");
            let after = lines.next().unwrap();
            kind = after.strip_prefix(&format!("# TYPE {name} ")).expect("TYPE after HELP").to_owned();
            name.clone_into(&mut family);
            assert!(families.insert(family.clone(), kind.clone()).is_none(), "{name} stands there twice");
            if let Some(unit) = lines.next_if(|l| l.starts_with("# UNIT ")) {
                let unit = unit.strip_prefix(&format!("# UNIT {name} ")).unwrap();
                assert!(openmetrics && name.ends_with(&format!("_{unit}")), "{line}");
            }
            assert!(lines.peek().is_some_and(|l| !l.starts_with('#')), "{name} has no sample");
            continue;
        }
        let (name, labels, value) = sample(line).unwrap();
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} stands in {family}"));
        let allowed: &[&str] = match (kind.as_str(), openmetrics) {
            ("counter", true) => &["_total"],
            ("info", true) => &["_info"],
            ("counter" | "gauge", _) => &[""],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            other => panic!("{other:?} is no type"),
        };
        assert!(allowed.contains(&suffix), "{name} in {family}, a {kind}");
        assert!(labels.iter().all(|(key, _)| is_name(key)), "{line}");
        assert!(value >= 0.0 && seen.insert(line.rsplit_once(' ').unwrap().0.to_owned()), "{line}");
        samples.push((name, labels, value));
    }
    (families, samples)
}

/// Buckets rise, the last one is `+Inf`, and it equals the count.
fn check_histograms(samples: &[Read]) {
    let mut last: Option<(f64, f64)> = None;
    let mut ends = BTreeMap::new();
    for (name, labels, value) in samples {
        let Some(base) = name.strip_suffix("_bucket") else {
            assert!(last.is_none(), "{name} comes before the bucket +Inf");
            continue;
        };
        let (bound, owner) = labels.split_first().expect("a bucket has its bound");
        assert_eq!(bound.0, "le");
        let bound: f64 = bound.1.parse().unwrap();
        if let Some((before, count)) = last {
            assert!(before < bound && count <= *value, "{name} {labels:?}");
        }
        last = Some((bound, *value)).filter(|_| bound.is_finite());
        if bound.is_infinite() {
            ends.insert((format!("{base}_count"), owner.to_vec()), *value);
        }
    }
    let counts: BTreeMap<_, _> = samples
        .iter()
        .filter(|(name, ..)| name.ends_with("_count"))
        .map(|(name, labels, value)| ((name.clone(), labels.clone()), *value))
        .collect();
    assert!(!ends.is_empty());
    assert_eq!(ends, counts);
}

/// The value of the sample `name{labels}`, written as in the page.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|l| l.rsplit_once(' ').is_some_and(|(s, _)| s == series));
    sample(line.unwrap_or_else(|| panic!("{series} is not in\n{text}"))).unwrap().2
}

#[test]
fn both_formats_are_well_formed_when_nothing_and_when_everything_is_counted() {
    let (workers, snapshot) = (workers(), snapshot());
    for _ in 0..2 {
        let openmetrics = rendered(&workers, &snapshot);
        let (families, samples) = read(&openmetrics, true);
        check_histograms(&samples);
        let (older, same) = read(&classic(&openmetrics), false);
        assert_eq!((families.len(), samples), (older.len(), same));
        count_everything(&workers, &snapshot);
    }
}

#[test]
fn every_name_is_there_from_the_start() {
    // Dashboards and alerts rely on this list: a change to it belongs into the change log.
    let expected = "all_out_questions answers cache_bytes cache_entries cache_evictions cache_limit_bytes coalesced_misses \
        dropped_packets failure_hits flights hit_duration_seconds hits http_accepted_connections http_accept_failures \
        http_closed_connections http_connections limit_reached local_answers max_concurrent_rejects misses miss_duration_seconds \
        node_checks node_fallbacks node_repairs node_rules prefetches queries reloads resident_memory_bytes rule_answers \
        service_addresses service_limit_reached service_refreshes stale_answers start_time_seconds \
        tcp_accepted_connections tcp_closed_connections tcp_connections timeouts udp_send_failures \
        udp_truncated_answers upstream_answers upstream_connections upstream_duration_seconds \
        upstream_failed_connections upstream_failed_tries upstream_handed_over_queries upstream_hedges \
        upstream_limit_reached upstream_mismatched_replies upstream_opened_connections \
        upstream_out_workers upstream_outstanding_queries upstream_queries upstream_rescued_queries \
        upstream_taken_out \
        upstream_truncated_answers upstream_unmarked_sockets workers build";
    let expected = expected.split_whitespace().map(|n| format!("sidestep_{n}"));
    let expected = expected.chain(["coredns_nodecache_setup_errors".to_owned()]).collect::<BTreeSet<_>>();
    let (families, _) = read(&rendered(&workers(), &snapshot()), true);
    assert_eq!(families.into_keys().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn workers_are_added_up() {
    let (workers, snapshot) = (workers(), snapshot());
    for (n, worker) in [3, 4].into_iter().zip(&workers) {
        worker.listen.short.add(n);
        worker.listen.tcp_open.set(n);
        worker.listen.local_answers[16].add(n);
    }
    let block = |worker: usize| -> &ZoneCounters { &snapshot.zones[1].counters[worker][worker] };
    block(0).queries[1][0][1].add(5);
    block(1).queries[1][0][1].add(6);
    block(0).hit_latency.record(Duration::from_millis(1), 2);
    block(1).hit_latency.record(Duration::from_millis(3), 1);
    snapshot.servers[1].counters[1].hedges_denied.add(7);
    let text = rendered(&workers, &snapshot);
    for (series, expected) in [
        ("sidestep_dropped_packets_total{reason=\"short\"}", 7.0),
        ("sidestep_tcp_connections", 7.0),
        ("sidestep_local_answers_total{rcode=\"BADVERS\"}", 7.0),
        ("sidestep_queries_total{zone=\".\",protocol=\"tcp\",family=\"ipv4\",type=\"AAAA\"}", 11.0),
        ("sidestep_hit_duration_seconds_sum{zone=\".\"}", 0.005),
        ("sidestep_hit_duration_seconds_count{zone=\".\"}", 3.0),
        ("sidestep_hit_duration_seconds_bucket{le=\"0.001024\",zone=\".\"}", 2.0),
        ("sidestep_hit_duration_seconds_bucket{le=\"+Inf\",zone=\".\"}", 3.0),
        ("sidestep_upstream_limit_reached_total{upstream=\"udp://[fd00::a]:53\",limit=\"hedges\"}", 7.0),
        ("sidestep_cache_limit_bytes", 2.0),
        ("sidestep_cache_evictions_total", 4.0),
        ("sidestep_reloads_total{result=\"failed\"}", 6.0),
        ("sidestep_start_time_seconds", 1_700_000_000.0),
        ("sidestep_workers", 2.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
}

#[test]
fn what_was_never_counted_is_left_out_but_not_the_usual_codes() {
    let (workers, snapshot) = (workers(), snapshot());
    snapshot.zones[1].counters[0][0].queries[0][1][12].add(1);
    let (_, samples) = read(&rendered(&workers, &snapshot), true);
    let of = |family: &str, zone: &str| -> Vec<String> {
        let all = samples.iter().filter(|(n, l, _)| n == family && l[0].1 == zone);
        all.map(|(_, labels, _)| labels[1..].iter().map(|l| l.1.as_str()).collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(of("sidestep_queries_total", "."), ["udp ipv6 other"]);
    assert_eq!(of("sidestep_queries_total", "odd\\032\"name\"."), ["udp ipv4 A"], "one stays");
    assert_eq!(of("sidestep_answers_total", "."), ["NOERROR", "SERVFAIL", "NXDOMAIN", "REFUSED"]);
}

#[test]
fn resident_memory_is_read_from_the_status() {
    assert_eq!(
        resident("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 1 kB\n"),
        Some(1234 * 1024)
    );
    assert_eq!(resident("Name:\tx\n"), None);
    assert_eq!(resident("VmRSS:\tmuch kB\n"), None);
}
