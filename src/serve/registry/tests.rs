//! What a registry keeps from one snapshot to the next, and what it gives up.

use super::*;
use crate::config::Target;
use crate::resolve::ZoneCounters;

const TEXT: &str = "[[zone]]\nname = \"cluster.local\"\n\
    upstreams = [\"tcp://192.0.2.1\", \"svc://dns.cluster.local:5353\"]\n\
    [[zone]]\nname = \".\"\nupstreams = [\"udp://192.0.2.9\"]\n";

fn service(config: &Config) -> (ZoneKey, &Service) {
    let zone = &config.zones[0];
    match &zone.upstreams[1] {
        Target::Service(service) => (zone.key(), service),
        other => panic!("{other:?} is no service"),
    }
}

fn pod(last: u8) -> IpAddr {
    IpAddr::from([10, 244, 0, last])
}

fn texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(SocketAddr::to_string).collect()
}

const NAME: &[u8] = b"\x03www\x07cluster\x05local\0";

#[test]
fn the_addresses_of_a_service_come_and_go_under_the_same_identity() {
    let config = Config::parse(TEXT, "test").unwrap();
    let (zone, service) = service(&config);
    let mut registry = Registry::new(1, &config.listen.addresses);
    let before = registry.snapshot(&config).unwrap();
    assert_eq!(texts(&before.asked_for(0, NAME).servers), ["192.0.2.1:53"]);
    assert_eq!(before.asked_for(0, NAME).pods, []);
    assert!(before.asked_for(0, NAME).has_services, "they are yet to be heard of");
    assert!(registry.learn(&zone, service, vec![pod(2), pod(3)]));
    assert!(!registry.learn(&zone, service, vec![pod(2), pod(3)]), "no news");
    let after = registry.snapshot(&config).unwrap();
    assert_eq!(texts(&after.asked_for(0, NAME).pods), ["10.244.0.2:5353", "10.244.0.3:5353"]);
    assert_eq!(texts(&after.asked_for(0, NAME).servers), ["192.0.2.1:53"]);
    assert_eq!(before.zones[0].id, after.zones[0].id, "what was cached stays true");
    let [first, reserve] = after.ranks(&after.zones[0]);
    assert_eq!((first.len(), reserve.len()), (2, 1));
    assert_eq!(after.zones[0].services.addresses.get(), 2);
}

/// Whom clients of this configuration go to for a name of the cluster, as far as addresses say it.
fn asked(text: &str) -> Vec<String> {
    let config = Config::parse(text, "test").unwrap();
    let mut registry = Registry::new(1, &config.listen.addresses);
    let asked = registry.snapshot(&config).unwrap().asked_for(0, NAME);
    if asked.has_services { vec!["a service".to_owned()] } else { texts(&asked.servers) }
}

#[test]
fn the_root_zone_stands_for_the_cluster_only_where_nobody_else_may() {
    let zone =
        |name: &str, upstream: &str| format!("[[zone]]\nname = \"{name}\"\nupstreams = [\"{upstream}\"]\n");
    let root = zone(".", "tcp://192.0.2.9");
    assert_eq!(asked(&root), ["192.0.2.9:53"]);
    assert_eq!(asked(&(root.clone() + &zone("in-addr.arpa", "tcp://192.0.2.9"))), ["192.0.2.9:53"]);
    let none: [&str; 0] = [];
    assert_eq!(asked(&TEXT.replace("cluster.local\"", "k8s.example\"")), none, "a slip of the pen");
    assert_eq!(asked(&(root + &zone("k8s.example", "tcp://192.0.2.1"))), none);
    let service = "[[zone]]\nname = \".\"\nupstreams = [\"tcp://192.0.2.1\", \"svc://dns.cluster.local\"]\n";
    assert_eq!(asked(&(service.to_owned() + &zone("corp.example", "tcp://192.0.2.7"))), ["a service"]);
}

#[test]
fn another_service_is_another_zone_and_the_old_addresses_are_forgotten() {
    let config = Config::parse(TEXT, "test").unwrap();
    let (zone, service) = service(&config);
    let mut registry = Registry::new(1, &config.listen.addresses);
    registry.learn(&zone, service, vec![pod(2)]);
    let before = registry.snapshot(&config).unwrap();
    let other = Config::parse(&TEXT.replace("svc://dns", "svc://dns2"), "test").unwrap();
    let after = registry.snapshot(&other).unwrap();
    assert_ne!(before.zones[0].id, after.zones[0].id);
    assert_eq!(before.zones[1].id, after.zones[1].id);
    assert_eq!(after.asked_for(0, NAME).pods, []);
    assert_eq!(registry.known(&zone, service), &[] as &[IpAddr]);
}

#[test]
fn only_addresses_of_services_are_marked_and_only_when_told_so() {
    let config = Config::parse(TEXT, "test").unwrap();
    let (zone, service) = service(&config);
    let mut registry = Registry::new(1, &config.listen.addresses);
    registry.learn(&zone, service, vec![pod(2)]);
    let mut marks = |untracked| {
        registry.untracked = untracked;
        let snapshot = registry.snapshot(&config).unwrap();
        let marked = snapshot.servers.iter().filter(|s| s.mark == Some(UPSTREAM_MARK));
        marked.map(|s| s.server.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(marks(false), [""; 0]);
    assert_eq!(marks(true), ["tcp://10.244.0.2:5353"]);
    assert_eq!(marks(false), [""; 0]);
}

#[test]
fn who_asked_a_zone_of_its_own_does_not_hear_another_one_when_that_is_gone() {
    let zone = |address: &str| format!("[[zone]]\nname = \".\"\n{address}upstreams = [\"192.0.2.9\"]\n");
    let of = |addresses: &str, zones: &[&str]| {
        let zones: String = zones.iter().map(|address| zone(address)).collect();
        Config::parse(&format!("[listen]\naddresses = [{addresses}]\n{zones}"), "test").unwrap()
    };
    let [a, b] = [1, 2].map(|last| format!("\"127.0.0.{last}:5300\""));
    let [at_a, at_b] = [&a, &b].map(|address| format!("listen = [{address}]\n"));
    let views = of(&format!("{a}, {b}"), &[&at_a, &at_b]);
    let mut registry = Registry::new(1, &views.listen.addresses);
    let mut listeners = |config: &Config| -> Vec<Vec<usize>> {
        let snapshot = registry.snapshot(config).unwrap();
        snapshot.zones.into_iter().map(|zone| zone.listeners).collect()
    };
    assert_eq!(listeners(&views), [[0], [1]]);
    let one = of(&a, &[""]);
    assert_eq!(listeners(&one), [[0]], "nobody hears at the second what is meant for the first");
    assert_eq!(listeners(&one), [[0]], "nor later");
    assert_eq!(listeners(&of(&format!("{a}, {b}"), &[""])), [[0, 1]], "unless it is named again");
    assert_eq!(listeners(&of(&b, &[""])), [[0, 1]], "who had no zone of its own keeps what all have");
}
#[test]
fn what_was_counted_is_kept_for_as_long_as_the_zone_is_there() {
    let of = |addresses: &str, zone: &str| {
        let zone = format!("[[zone]]\nname = \".\"\n{zone}upstreams = [\"192.0.2.9\"]\n");
        Config::parse(&format!("[listen]\naddresses = [{addresses}]\n{zone}"), "test").unwrap()
    };
    let [a, b] = [1, 2].map(|last| format!("\"127.0.0.{last}:5300\""));
    let both = of(&format!("{a}, {b}"), "");
    let mut registry = Registry::new(2, &both.listen.addresses);
    let mut counters = |config: &Config| Arc::clone(&registry.snapshot(config).unwrap().zones[0].counters);
    let misses = |blocks: Vec<Arc<ZoneCounters>>| blocks.iter().map(|block| block.misses.get()).sum::<u64>();
    let before = counters(&both);
    assert_eq!(before.all().len(), 0, "nobody has asked yet");
    for (worker, listener, n) in [(0, 1, 1), (1, 1, 2), (1, 0, 4)] {
        before.of(worker, listener).misses.add(n);
    }
    let after = counters(&of(&a, ""));
    let sums = [after.at(0), after.at(1), after.at(2), after.all()].map(misses);
    assert_eq!(sums, [4, 3, 0, 7], "also where it no longer answers");
    assert_eq!(misses(counters(&of(&a, &format!("listen = [{a}]\n"))).all()), 0, "another zone");
    assert_eq!(misses(counters(&both).all()), 0, "a new one");
}
