//! The whole program on a node: what its clients and its upstreams leave in connection tracking.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::process::Signal;

use super::dns::{SERVICE, Who, look_up, look_up_chaos, look_up_tcp};
use super::iptables::tools::{Folder, VARIANTS};
use super::network::{V4, V6, sh, tracked};
use super::program::World;

const PATIENCE: Duration = Duration::from_secs(4);

/// A pod and the host network ask at both addresses, over both protocols, 1,000 times each.
fn ask_a_thousand_times(world: &World) {
    for side in [&world.network.pod, &world.network.node] {
        side.run(|| {
            for address in [V4, V6] {
                for i in 0..1000 {
                    let name = format!("n{}.cluster.local", i % 100);
                    let who = look_up(address, &name, PATIENCE);
                    assert_eq!(who, Some(Who::Sidestep), "lookup {i} at {address}");
                    let who = look_up_tcp(address, &name, PATIENCE);
                    assert_eq!(who, Some(Who::Sidestep), "lookup {i} at {address} over TCP");
                }
            }
        });
    }
}

/// All entries whose packets go to or come from the cluster DNS, each once: `conntrack` may list those of IPv6 both times,
/// with another state and another time to live, so these are left out.
fn upstream_entries(world: &World) -> BTreeSet<String> {
    world.network.node.run(|| {
        let all = sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        let ours = all.lines().filter(|line| line.contains("dport=53"));
        ours.filter_map(|line| Some(format!("{} {}", line.split(' ').next()?, &line[line.find("src=")?..])))
            .collect()
    })
}

/// Entries of lookups at our addresses. (The kernel's own IGMP reports from a new link have one, too.)
fn lookup_entries(world: &World) -> Vec<String> {
    let ours = world.network.node.run(tracked);
    ours.into_iter().filter(|entry| entry.starts_with("udp") || entry.starts_with("tcp")).collect()
}

fn no_entry_but_one_for_each_connection(world: &World) {
    ask_a_thousand_times(world);
    assert_eq!(lookup_entries(world), [] as [String; 0]);
    let (entries, accepted) = (upstream_entries(world), world.dns.accepted.load(Relaxed));
    assert!(!entries.is_empty(), "nothing is tracked on this node at all, and this test would prove nothing");
    assert!(entries.iter().all(|entry| entry.starts_with("tcp")), "{entries:#?}");
    assert!(entries.len() <= accepted, "{accepted} connections: {entries:#?}");
    assert!(accepted <= 40, "{accepted} connections for 100 names");
}

#[test]
fn eight_thousand_lookups_leave_no_entry_and_upstream_connections_one_each() {
    let _turn = super::turn();
    let world = World::new();
    let _program = world.run();
    no_entry_but_one_for_each_connection(&world);
}

#[test]
fn the_same_with_iptables_of_both_variants() {
    let _turn = super::turn();
    for variant in VARIANTS {
        let world = World::new();
        let folder = Folder::of(variant);
        let mut command = World::command(&World::flags());
        command.arg("--firewall=iptables").env("PATH", folder.path());
        let mut program = world.up(command);
        assert!(program.log().contains(&format!("iptables-{variant}")), "{}", program.log());
        // The question before the rules, which finds out whether they may come, was tracked.
        world.network.node.run(|| drop(sh("conntrack -F 2>/dev/null")));
        no_entry_but_one_for_each_connection(&world);
        assert_eq!(program.end(Signal::TERM).code(), Some(0));
    }
}

/// What HTTP says on the node.
fn page(world: &World, path: &'static str) -> String {
    world.network.node.run(move || {
        let mut stream = TcpStream::connect("127.0.0.1:9353").unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    })
}

#[test]
fn a_family_whose_iptables_is_missing_is_said_and_counted_and_the_other_has_its_rules() {
    let _turn = super::turn();
    let world = World::new();
    let folder = Folder::of("nft");
    for program in ["", "-save", "-restore"] {
        std::fs::remove_file(Path::new(folder.path()).join(format!("ip6tables-nft{program}"))).unwrap();
    }
    let mut command = World::command(&World::flags());
    command.args(["--firewall=iptables", "--http=127.0.0.1:9353"]).env("PATH", folder.path());
    let mut program = world.up(command);
    let log = program.log();
    assert_eq!(log.matches("fd00:53::10: no rules, so queries there are tracked").count(), 1, "{log}");
    let metrics = page(&world, "/metrics");
    assert!(metrics.contains("setup_errors_total{errortype=\"iptables\"} 1\n"), "{metrics}");
    assert!(metrics.contains("sidestep_node_rules 1\n"), "{metrics}");
    world.network.node.run(|| drop(sh("conntrack -F 2>/dev/null")));
    world.network.pod.run(|| {
        for address in [V4, V6] {
            assert_eq!(look_up(address, "n.cluster.local", PATIENCE), Some(Who::Sidestep), "{address}");
        }
    });
    let tracked = world.network.node.run(tracked);
    assert!(tracked.iter().all(|entry| entry.contains(V6)), "{tracked:?}");
    assert_eq!(program.end(Signal::TERM).code(), Some(0));
    assert!(!program.log().contains("ERROR"), "{}", program.log());
}

#[test]
fn a_node_whose_table_is_full_starts_and_serves() {
    let _turn = super::turn();
    let world = World::new();
    let max = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap();
    let max: u32 = max.trim().parse().unwrap();
    let entry = |n: u32| {
        let source = Ipv4Addr::from(0x0a80_0000 + n);
        let tuple = format!("-s {source} -d 192.0.2.1 --sport 1000 --dport 80");
        format!("-I -p tcp --timeout 600 --state ESTABLISHED {tuple} -u ASSURED,SEEN_REPLY\n")
    };
    let file = world.directory.path().join("entries");
    std::fs::write(&file, (0..max).map(entry).collect::<String>()).unwrap();
    // The table may hold an entry already, so the last one may not fit.
    world.network.node.run(move || sh(&format!("conntrack -R {} >/dev/null 2>&1 || true", file.display())));
    let upstreams = [&format!("svc://{SERVICE}")[..], "tcp://10.2.0.2:53"];
    let mut program = world.spawn(world.configured("notrack_upstream = true", &upstreams));
    program.wait_for("goes past conntrack");
    world.network.pod.run(|| {
        for i in 0..1000 {
            for address in [V4, V6] {
                let who = look_up_chaos(address, PATIENCE);
                assert!(who, "lookup {i} at {address}");
            }
        }
    });
}
