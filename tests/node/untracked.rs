//! Packets beneath the rules in nftables: past connection tracking while we answer, to the cluster DNS when we do not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sidestep::node::nftables::Nftables;
use sidestep::node::rules::UPSTREAM_MARK;
use sidestep::node::{Firewall, Plan};

use super::network::{Network, V4, V6, ask, ask_on, ask_on_tcp, ask_tcp, client, connect, plan, sh, tracked};

fn up(network: &Network, plan: Plan) -> Nftables {
    network.node.run(move || {
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan).unwrap();
        ours
    })
}

/// Everybody who asks, and where they are.
fn everybody(network: &Network, body: fn(&str)) {
    for side in [&network.pod, &network.node] {
        side.run(move || [V4, V6].iter().for_each(|address| body(address)));
    }
}

#[test]
fn a_thousand_lookups_leave_no_entry() {
    let _turn = super::turn();
    let network = Network::new();
    let (_node, _cluster) = (network.serve_node(), network.serve_cluster());
    let _ours = up(&network, plan());
    // Nobody has answered yet, so they are tracked, and go to the cluster DNS.
    network.pod.run(|| assert_eq!(ask(V4).as_deref(), Some("cluster2")));
    network.node.run(|| {
        assert!(!tracked().is_empty(), "a tracked lookup leaves an entry");
        sh("conntrack -F 2>/dev/null");
    });
    let _stay = network.keep_probing();
    everybody(&network, |address| {
        for _ in 0..1000 {
            assert_eq!(ask(address).as_deref(), Some("node"), "{address}");
        }
        for _ in 0..50 {
            assert_eq!(ask_tcp(address).as_deref(), Some("node"), "{address}");
        }
    });
    assert_eq!(network.node.run(tracked), [] as [String; 0]);
}

#[test]
fn when_we_die_everybody_is_at_the_cluster_dns_at_once() {
    let _turn = super::turn();
    let network = Network::new();
    let (_node, _cluster) = (network.serve_node(), network.serve_cluster());
    let ours = up(&network, plan());
    network.probe();
    everybody(&network, |address| assert_eq!(ask(address).as_deref(), Some("node"), "{address}"));
    drop(ours);
    everybody(&network, |address| {
        assert_eq!(ask(address).as_deref(), Some("cluster2"), "{address}");
        assert_eq!(ask_tcp(address).as_deref(), Some("cluster2"), "{address}");
    });
    let _ours = up(&network, plan());
    network.probe();
    everybody(&network, |address| {
        assert_eq!(ask(address).as_deref(), Some("node"), "{address}");
        assert_eq!(ask_tcp(address).as_deref(), Some("node"), "{address}");
    });
}

#[test]
fn when_we_hang_everybody_is_at_the_cluster_dns_some_seconds_later() {
    let _turn = super::turn();
    let network = Network::new();
    let (node, _cluster) = (network.serve_node(), network.serve_cluster());
    let _ours = up(&network, plan());
    network.probe();
    let mut open = network.pod.run(|| connect(V4, None).unwrap());
    assert_eq!(ask_on_tcp(&mut open).as_deref(), Some("node"));
    node.iter().for_each(|server| server.hang(true));
    let start = Instant::now();
    let gone = network.pod.run(move || {
        loop {
            match ask(V4) {
                Some(name) => break name,
                // Two seconds, and the time of a lookup that began before.
                None => assert!(start.elapsed() < Duration::from_secs(10), "nobody answers"),
            }
        }
    });
    assert_eq!(gone, "cluster2");
    network.node.run(|| assert_eq!(ask(V6).as_deref(), Some("cluster2")));
    // Only what begins is sent elsewhere: open connections are not torn.
    assert_eq!(ask_on_tcp(&mut open).as_deref(), Some("node"));
    node.iter().for_each(|server| server.hang(false));
    network.probe();
    everybody(&network, |address| assert_eq!(ask(address).as_deref(), Some("node"), "{address}"));
    assert_eq!(ask_on_tcp(&mut open).as_deref(), Some("node"));
}

#[test]
fn a_sockets_questions_go_one_way_and_all_servers_get_some() {
    let _turn = super::turn();
    let network = Network::new();
    let _cluster = network.serve_cluster();
    let mut two = plan();
    two.fallbacks.extend(["10.2.0.3:53", "[fd02::3]:53"].map(|server| server.parse::<SocketAddr>().unwrap()));
    let ours = up(&network, two);
    drop(ours);
    network.pod.run(|| {
        for address in [V4, V6] {
            let mut seen = std::collections::BTreeMap::new();
            for _ in 0..64 {
                let socket = client(address, None);
                let name = ask_on(&socket).unwrap();
                assert_eq!(ask_on(&socket).as_ref(), Some(&name));
                *seen.entry(name).or_insert(0) += 1;
            }
            assert_eq!(seen.len(), 2, "{seen:?}");
            assert!(seen.values().all(|n| *n >= 12), "{seen:?}");
        }
    });
}

#[test]
fn our_connections_to_pods_are_not_tracked_and_those_of_others_are() {
    let _turn = super::turn();
    let network = Network::new();
    let _cluster = network.serve_cluster();
    let _ours = up(&network, Plan { notrack_upstream: true, ..plan() });
    network.node.run(|| {
        sh("nft 'add table ip service; add chain ip service p { type nat hook prerouting priority -100; }; \
            add rule ip service p ip daddr 10.96.0.10 tcp dport 53 dnat to 10.2.0.2'");
        for address in ["10.2.0.2", "fd02::2"] {
            let mut ours = connect(address, Some(UPSTREAM_MARK)).unwrap();
            for _ in 0..10 {
                assert_eq!(ask_on_tcp(&mut ours).as_deref(), Some("cluster2"));
            }
        }
        assert_eq!(sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null"), "");
    });
    network.pod.run(|| assert_eq!(ask_tcp("10.96.0.10").as_deref(), Some("cluster2")));
    network.node.run(|| {
        let entries = sh("conntrack -L 2>/dev/null");
        assert!(entries.contains("10.96.0.10"), "{entries}");
    });
}

/// The set that connections are noted in is full. The next one is tracked, as others are: were it not, its answer would
/// belong to nothing that the node's filter lets in.
#[test]
fn a_set_of_connections_that_is_full_loses_no_answer() {
    const ROOM: usize = 65_536;
    let _turn = super::turn();
    let network = Network::new();
    let _cluster = network.serve_cluster();
    let _ours = up(&network, Plan { notrack_upstream: true, ..plan() });
    network.node.run(|| {
        sh("nft 'add table inet fw; add chain inet fw input { type filter hook input priority 5; policy drop; }; \
            add rule inet fw input ct state established,related accept; \
            add rule inet fw input meta mark 0x54 accept; add rule inet fw input iifname lo accept'");
        let marked = || client("10.2.0.2", Some(UPSTREAM_MARK));
        assert_eq!(ask_on(&marked()).as_deref(), Some("cluster2"));
        assert_eq!(sh("conntrack -L 2>/dev/null"), "");
        let start = Instant::now();
        let flood = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket2::SockRef::from(&flood).set_mark(UPSTREAM_MARK).unwrap();
        for n in 0..ROOM + 2000 {
            let to = if n % 2 == 0 { "10.2.0.2" } else { "10.2.0.3" };
            let _ = flood.send_to(b"?", (to, u16::try_from(1000 + n / 2).unwrap()));
        }
        assert!(start.elapsed() < Duration::from_secs(6), "too slow to fill it: {:?}", start.elapsed());
        for _ in 0..100 {
            assert_eq!(ask_on(&marked()).as_deref(), Some("cluster2"));
        }
        let tracked = sh("conntrack -L 2>/dev/null");
        assert!(tracked.matches("dst=10.2.0.2").count() >= 100, "{}", tracked.lines().count());
        let full = sh("nft list chain inet sidestep output");
        let full = full.lines().find(|line| line.contains("no room to note it")).unwrap();
        assert!(!full.contains("packets 0 "), "{full}");
    });
}
