//! The same queries to CoreDNS and to us, and both pages of metrics side by side: names, labels, buckets, numbers.
//!
//! `SIDESTEP_NODE_CACHE` names a node-cache to compare with instead; it is built from the same plugins.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tempfile::TempDir;

use super::client::Client;
use super::process::Process;
use super::servers::{Server, address, coredns, sidestep};
use super::turn;

/// What the upstream serves: addresses, except for names that begin with `nx`.
const ZONE: &str = "template IN A {\n match ^nx\n rcode NXDOMAIN\n \
    authority \"any.test. 60 IN SOA ns.any.test. h.any.test. 1 60 60 60 60\"\n fallthrough\n }\n\
    template IN A {\n answer \"{{ .Name }} 300 IN A 192.0.2.1\"\n }\n\
    template IN AAAA {\n authority \"any.test. 60 IN SOA ns.any.test. h.any.test. 1 60 60 60 60\"\n }";

/// A plugin of CoreDNS that node-cache does not have, and that is on the page without being asked for.
const NOT_OF_NODE_CACHE: &str = "coredns_local_";

/// A page: families with their types, and samples by name and labels.
struct Page {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Page {
    /// Reads a page as it is served; `us` takes the place of the server's own address.
    fn read(http: SocketAddr, server: SocketAddr) -> Self {
        let body = page(http);
        let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
        for line in body.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                kinds.insert(name.to_owned(), kind.to_owned());
            } else if let Some((series, value)) =
                line.rsplit_once(' ').filter(|_| line.starts_with("coredns_"))
            {
                let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
                let labels = labels.split("\",").filter(|l| !l.is_empty()).map(|label| {
                    let (key, value) = label.split_once("=\"").unwrap();
                    let value = value.trim_end_matches('"').replace(&server.to_string(), "us");
                    (key.to_owned(), value)
                });
                samples.insert((name.to_owned(), labels.collect()), value.parse().unwrap());
            }
        }
        kinds.retain(|name, _| name.starts_with("coredns_"));
        Self { kinds, samples }
    }

    /// The labels of a family.
    fn labels(&self, family: &str) -> BTreeSet<&str> {
        let of_family = |name: &str| name == family || name.strip_prefix(family).is_some_and(is_suffix);
        let samples = self.samples.keys().filter(|(name, _)| of_family(name));
        samples.flat_map(|(_, labels)| labels.keys().map(String::as_str)).collect()
    }

    /// The bounds of a histogram's buckets, as they are written.
    fn bounds(&self, family: &str) -> BTreeSet<&str> {
        let buckets = self.samples.keys().filter(|(name, _)| name.strip_prefix(family) == Some("_bucket"));
        buckets.filter_map(|(_, labels)| labels.get("le")).map(String::as_str).collect()
    }

    /// The samples of this name that are not zero, without the label `plugin`: before 1.14 that is `cache`, then it is
    /// whichever stands first in the block.
    fn of(&self, name: &str) -> BTreeMap<BTreeMap<&str, &str>, f64> {
        let samples = self.samples.iter().filter(|((n, _), value)| n == name && **value != 0.0);
        samples
            .map(|((_, labels), value)| {
                let kept = labels.iter().filter(|(key, _)| *key != "plugin");
                (kept.map(|(key, value)| (key.as_str(), value.as_str())).collect(), *value)
            })
            .collect()
    }
}

/// `/metrics`, by HTTP/1.0: a newer answer would come in chunks.
fn page(http: SocketAddr) -> String {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}

fn is_suffix(text: &str) -> bool {
    ["_bucket", "_sum", "_count"].contains(&text)
}

/// CoreDNS or node-cache, with a cache before the upstream, at `at`.
fn peer(
    at: SocketAddr,
    upstream: SocketAddr,
    http: SocketAddr,
    health: SocketAddr,
) -> Box<dyn std::any::Any> {
    let block = format!(
        "errors\n cache 30\n reload\n forward . {upstream} {{\n force_tcp\n }}\n prometheus {http}\n \
         health {health}"
    );
    let Some(program) = std::env::var_os("SIDESTEP_NODE_CACHE") else {
        return Box::new(coredns(at, &[("any.test", &block)], &[]));
    };
    let directory = tempfile::tempdir().unwrap();
    let [base, made] = ["base", "made"].map(|name| directory.path().join(name));
    std::fs::write(&base, format!("any.test:{} {{\n bind {}\n {block}\n}}\n", at.port(), at.ip())).unwrap();
    let mut command = Command::new(program);
    command.args(["-setupinterface=false", "-setupiptables=false", "-skipteardown"]);
    command.arg("-localip").arg(at.ip().to_string()).arg("-basecorefile").arg(base);
    command.arg("-corefile").arg(&made).arg("-conf").arg(made);
    command.arg("-metrics-listen-address").arg(address().to_string());
    let mut process = Process::start("node-cache", command, directory.path());
    process.wait_for("CoreDNS-1.");
    Box::new((process, directory))
}

/// The same for everybody: hits and misses, all kinds of answers, both protocols, DO.
fn ask_everything(server: SocketAddr) {
    let mut client = Client::new(server);
    for (name, rtype) in [
        ("a.any.test.", RecordType::A),
        ("a.any.test.", RecordType::A),
        ("nx.any.test.", RecordType::A),
        ("nx.any.test.", RecordType::A),
        ("a.any.test.", RecordType::AAAA),
        ("b.any.test.", RecordType::A),
    ] {
        client.ask(name, rtype).unwrap();
    }
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii("b.any.test.").unwrap(), RecordType::A));
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true).set_max_payload(1232);
    message.edns = Some(edns);
    let bytes = message.to_vec().unwrap();
    let mut stream = TcpStream::connect(server).unwrap();
    stream.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
    stream.read_exact(&mut [0; 14]).unwrap();
}

#[test]
fn coredns_counts_the_same_by_the_same_names() {
    let _turn = turn();
    let [up, them, their_http, their_health, our_http] = [(); 5].map(|()| address());
    let _upstream = coredns(up, &[("any.test", ZONE)], &[]);
    let _peer = peer(them, up, their_http, their_health);
    let directory = tempfile::tempdir().unwrap();
    let us = ours(&directory, up, our_http);
    let before = Page::read(our_http, us.address);
    ask_everything(them);
    ask_everything(us.address);
    let (theirs, ours) = (Page::read(their_http, them), Page::read(our_http, us.address));
    let list = include_str!("../../docs/metrics.md");
    for (family, kind) in theirs.kinds.iter().filter(|(family, _)| !family.starts_with(NOT_OF_NODE_CACHE)) {
        let Some(our_kind) = ours.kinds.get(family) else {
            assert!(
                list.contains(family.as_str()),
                "{family} is not served, and docs/metrics.md does not say so"
            );
            continue;
        };
        assert_eq!(our_kind, kind, "{family}");
        assert_eq!(ours.labels(family), theirs.labels(family), "{family}");
        assert_eq!(ours.bounds(family), theirs.bounds(family), "{family}");
    }
    for name in [
        "coredns_dns_requests_total",
        "coredns_dns_responses_total",
        "coredns_dns_do_requests_total",
        "coredns_dns_request_size_bytes_bucket",
        "coredns_dns_request_size_bytes_sum",
        "coredns_dns_response_size_bytes_count",
        "coredns_dns_request_duration_seconds_count",
        "coredns_cache_requests_total",
        "coredns_cache_hits_total",
        "coredns_cache_misses_total",
        "coredns_cache_entries",
    ] {
        assert!(!theirs.of(name).is_empty(), "{name} says nothing");
        assert_eq!(ours.of(name), theirs.of(name), "{name}; before: {:?}", before.of(name));
    }
}

/// Us, with the zone that the peer has. Names of no zone would go to the machine's own servers, so there is the root.
fn ours(directory: &TempDir, upstream: SocketAddr, http: SocketAddr) -> Server {
    let config = directory.path().join("sidestep.toml");
    let text = format!(
        "[http]\nserve = [{{ address = \"{http}\" }}]\n[[zone]]\nname = \"any.test\"\nupstreams = [\"tcp://{upstream}\"]\n\
         [[zone]]\nname = \".\"\nupstreams = [\"tcp://{upstream}\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    sidestep(&["--config", &config.display().to_string()])
}
