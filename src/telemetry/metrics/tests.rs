//! The metrics as a scraper reads them: a strict reader of both formats, the list of names, and the numbers.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::*;
use crate::count::Counter;
use crate::local::{Hosts, Local, Settings, Table, Zones};
use crate::resolve::traffic::{Protocol, TYPES, Traffic};
use crate::resolve::{Zone, zones::ServerEntry};
use crate::upstream::{Server, Transport};

/// A configuration with two zones and two servers, for two workers.
fn snapshot() -> Snapshot {
    let zone = |id, display: &str| Zone {
        id,
        display: display.to_owned(),
        listeners: vec![0, 1],
        servers: vec![0],
        ..Zone::default()
    };
    let server = |address: &str, transport| ServerEntry {
        server: Server { address: address.parse().unwrap(), transport },
        counters: vec![Arc::default(), Arc::default()],
        outage: Arc::default(),
        mark: None,
    };
    let hosts = |file: &str, inline: &str| {
        let file = Some(file.into());
        let hosts = Hosts { file, inline: Table::parse(inline), ..Hosts::new(Zones::all()) };
        let local = Local::new(Settings { hosts: Some(hosts), ..Settings::default() });
        local.set_hosts(Table::parse("192.0.2.1 a b\nno entry"));
        Some(local)
    };
    Snapshot {
        zones: vec![
            Zone { local: hosts("/etc/hosts", ""), ..zone(1, "odd\\032\"name\".") },
            Zone { local: hosts("/etc/hosts", "192.0.2.2 c"), ..zone(2, ".") },
        ],
        servers: vec![server("10.96.0.10:53", Transport::Tcp), server("[fd00::a]:53", Transport::Udp)],
        listeners: vec!["127.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()],
        ..Snapshot::default()
    }
}

fn workers() -> Vec<WorkerSources> {
    (0..2)
        .map(|_| WorkerSources { listen: Arc::new(listen::Counters::of(2)), resolve: Arc::default() })
        .collect()
}

fn rendered(workers: &[WorkerSources], snapshot: &Snapshot) -> String {
    render(&Sources {
        workers,
        snapshot,
        cache: CacheFigures { bytes: 1, limit_bytes: 2, entries: 3, evictions: 4 },
        cached: &[OfZone::default(), OfZone { entries: [8, 9], evictions: [10, 11] }],
        config: "",
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
        w.listen.outside.iter().for_each(count_traffic);
    }
    let places = [(0, 0), (0, 1), (1, 0), (1, 1)];
    for zone in snapshot.zones.iter().flat_map(|z| places.map(|(worker, at)| z.counters.of(worker, at))) {
        count_traffic(&zone.traffic);
        zone.hit_latency.record(Duration::from_micros(33), 10);
        zone.miss_latency.record(Duration::from_secs(9), 1);
    }
    for server in snapshot.servers.iter().flat_map(|s| &s.counters) {
        server.out.set(1);
        server.latency.iter().for_each(|of_code| of_code.record(Duration::from_millis(1), 1));
    }
}

fn count_traffic(traffic: &Traffic) {
    traffic.queries.iter().flatten().flatten().for_each(Counter::bump);
    traffic.answers.iter().chain(&traffic.own_answers).for_each(Counter::bump);
    traffic.own_latency.record(Duration::from_micros(3), 1);
    for sizes in traffic.query_sizes.iter().chain(&traffic.answer_sizes) {
        sizes.record(0);
        sizes.record(65_535);
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
        assert_eq!((families.len(), samples.len()), (older.len(), same.len()));
        count_everything(&workers, &snapshot);
    }
}

/// The list of metrics for people.
const LIST: &str = include_str!("../../../docs/metrics.md");

/// The beginning of each family's row in the list: name, type, labels, unit.
fn rows(page: &str) -> BTreeMap<String, String> {
    let (families, samples) = read(page, false);
    let row = |(name, kind): (String, String)| {
        let parts = ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
        let labels =
            samples.iter().find(|(n, ..)| *n == name || parts.contains(n)).map(|(_, labels, _)| labels);
        let labels: Vec<_> = labels.unwrap().iter().map(|l| l.0.as_str()).filter(|l| *l != "le").collect();
        let unit = ["seconds", "bytes"].into_iter().find(|u| name.trim_end_matches("_total").ends_with(u));
        let row = format!("| `{name}` | {kind} | {} | {} |", labels.join(", "), unit.unwrap_or(""));
        (name, row)
    };
    families.into_iter().map(row).collect()
}

/// Dashboards and alerts rely on these names: a change to them belongs into the change log.
#[test]
fn every_name_is_in_the_list_and_there_from_the_start() {
    let (workers, snapshot) = (workers(), snapshot());
    let rows = rows(&classic(&rendered(&workers, &snapshot)));
    let missing: Vec<_> = rows.values().filter(|row| !LIST.contains(*row)).map(String::as_str).collect();
    assert!(missing.is_empty(), "not in docs/metrics.md:\n{}", missing.join("\n"));
    // What comes after this heading says which names node-cache has.
    let own = LIST.split("## What one has and the other has not").next().unwrap_or_default();
    let listed = own.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let gone: Vec<_> = listed.filter(|name| !rows.contains_key(*name)).collect();
    assert!(gone.is_empty(), "in docs/metrics.md, and not served: {gone:?}");
}

#[test]
fn entries_of_hosts_files_count_for_names_and_addresses() {
    let page = classic(&rendered(&workers(), &snapshot()));
    assert_eq!(value(&page, "coredns_hosts_entries{hostsfile=\"/etc/hosts\"}"), 6.0);
    assert_eq!(value(&page, "coredns_hosts_reload_timestamp_seconds"), 0.0);
}

#[test]
fn the_same_queries_in_the_words_of_coredns() {
    let (workers, snapshot) = (workers(), snapshot());
    let zone = &snapshot.zones[1].counters;
    for worker in [0, 1] {
        let block = zone.of(worker, 1);
        block.traffic.queries[0][1][1].add(2);
        block.traffic.dnssec_ok.bump();
        block.traffic.answered(Protocol::Udp, 3, 101);
        block.hit_latency.record(Duration::from_micros(40), 2);
        block.miss_latency.record(Duration::from_millis(3), 1);
        block.hits[1].add(4);
        block.stale_hits[1].add(1);
        block.failure_hits.add(1);
        block.misses.add(5);
    }
    workers[1].listen.outside[0].answered_ourselves(Protocol::Tcp, 5, 30, Duration::ZERO);
    snapshot.servers[1].counters[0].latency[2].record(Duration::from_millis(1), 1);
    snapshot.servers[1].counters[1].first[1].add(7);
    let text = classic(&rendered(&workers, &snapshot));
    let at = "server=\"dns://[::1]:53\",zone=\".\",view=\"\"";
    let of_cache = "server=\"dns://[::1]:53\",zones=\".\",view=\"\"";
    let to = "proxy_name=\"forward\",to=\"[fd00::a]:53\"";
    for (series, expected) in [
        (format!("dns_requests_total{{{at},proto=\"udp\",family=\"2\",type=\"AAAA\"}}"), 4.0),
        (format!("dns_do_requests_total{{{at}}}"), 2.0),
        (format!("dns_responses_total{{{at},rcode=\"NXDOMAIN\",plugin=\"cache\"}}"), 2.0),
        (format!("dns_response_size_bytes_bucket{{le=\"100\",{at},proto=\"udp\"}}"), 0.0),
        (format!("dns_response_size_bytes_bucket{{le=\"200\",{at},proto=\"udp\"}}"), 2.0),
        (format!("dns_response_size_bytes_sum{{{at},proto=\"udp\"}}"), 202.0),
        (format!("dns_request_duration_seconds_bucket{{le=\"0.00025\",{at}}}"), 4.0),
        (format!("dns_request_duration_seconds_bucket{{le=\"0.002\",{at}}}"), 4.0),
        (format!("dns_request_duration_seconds_bucket{{le=\"0.004\",{at}}}"), 6.0),
        (format!("dns_request_duration_seconds_bucket{{le=\"8.192\",{at}}}"), 6.0),
        (format!("dns_request_duration_seconds_count{{{at}}}"), 6.0),
        (format!("cache_hits_total{{{of_cache},type=\"denial\"}}"), 12.0),
        (format!("cache_requests_total{{{of_cache}}}"), 22.0),
        (format!("cache_misses_total{{{of_cache}}}"), 10.0),
        (format!("cache_entries{{{of_cache},type=\"denial\"}}"), 9.0),
        (format!("cache_evictions_total{{{of_cache},type=\"success\"}}"), 10.0),
        (format!("proxy_request_duration_seconds_count{{{to},rcode=\"SERVFAIL\"}}"), 1.0),
        (format!("proxy_conn_cache_misses_total{{{to},proto=\"udp\"}}"), 7.0),
        ("reload_failed_total".to_owned(), 6.0),
    ] {
        assert_eq!(value(&text, &format!("coredns_{series}")), expected, "{series}");
    }
    let dropped = "server=\"dns://127.0.0.1:53\",zone=\"dropped\",view=\"\"";
    let refused = format!("coredns_dns_responses_total{{{dropped},rcode=\"REFUSED\",plugin=\"\"}}");
    assert_eq!(value(&text, &refused), 1.0);
    assert!(!text.contains("dns://[::1]:53\",zone=\"dropped"), "nothing was dropped there");
}

#[test]
fn workers_are_added_up() {
    let (workers, snapshot) = (workers(), snapshot());
    for (n, worker) in [3, 4].into_iter().zip(&workers) {
        worker.listen.short.add(n);
        worker.listen.tcp_open.set(n);
        worker.listen.local_answers[16].add(n);
    }
    let block = |worker: usize| snapshot.zones[1].counters.of(worker, worker);
    block(0).traffic.queries[1][0][1].add(5);
    block(1).traffic.queries[1][0][1].add(6);
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
        ("sidestep_hit_duration_seconds_bucket{le=\"0.001\",zone=\".\"}", 2.0),
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
    snapshot.zones[1].counters.of(0, 0).traffic.queries[0][1][TYPES.len()].add(1);
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
fn a_zone_is_told_of_where_it_was_asked_and_at_its_first_address() {
    let (workers, snapshot) = (workers(), snapshot());
    let told = || {
        let text = classic(&rendered(&workers, &snapshot));
        ["127.0.0.1", "[::1]"].map(|ip| {
            let of = |family: &str, label: &str| {
                text.contains(&format!("coredns_{family}{{server=\"dns://{ip}:53\",{label}=\".\",view=\"\""))
            };
            [of("dns_do_requests_total", "zone"), of("cache_requests_total", "zones")]
        })
    };
    assert_eq!(told(), [[true, true], [false, false]]);
    drop(snapshot.zones[1].counters.of(1, 1));
    assert_eq!(told(), [[true, true], [true, true]]);
}
