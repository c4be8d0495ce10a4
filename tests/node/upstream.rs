//! The program's own connections to the cluster DNS: untracked when that is wanted, beside pods that ask the Service;
//! and when a server's packets are dropped.

use std::thread::scope;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::dns::{SERVICE, SERVICE_IPS, Who, look_up, look_up_tcp};
use super::network::{V4, V6, sh, tracked};
use super::program::World;

const PATIENCE: Duration = Duration::from_secs(4);

/// A pod asks the Service, which kube-proxy translates, and gets answers from the cluster DNS.
fn the_service_works(world: &World) {
    world.network.pod.run(|| {
        for address in SERVICE_IPS {
            for i in 0..50 {
                let who = look_up(address, "n.cluster.local", PATIENCE);
                assert_eq!(who, Some(Who::Cluster), "lookup {i} at {address}");
                let who = look_up_tcp(address, "n.cluster.local", PATIENCE);
                assert_eq!(who, Some(Who::Cluster), "lookup {i} at {address} over TCP");
            }
        }
    });
}

/// Entries that begin here and go to a server as it is written, not through the Service.
fn own_entries(world: &World) -> Vec<String> {
    world.network.node.run(|| {
        let all = sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        let to = |line: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix("dst=")).map(str::to_owned)
        };
        let direct =
            |line: &&str| to(line).is_some_and(|to| to.starts_with("10.2.0.") || to.starts_with("fd02:"));
        all.lines().filter(direct).filter(|line| line.contains("dport=53")).map(str::to_owned).collect()
    })
}

#[test]
fn untracked_connections_to_pods_beside_a_pod_that_asks_the_service() {
    let _turn = super::turn();
    let world = World::new();
    let upstreams = [&format!("svc://{SERVICE}")[..], "tcp://10.96.0.10:53"];
    let start = || world.up(world.configured("notrack_upstream = true", &upstreams));
    let mut program = start();
    let ask = |run: &'static str| {
        world.network.pod.run(move || {
            for address in [V4, V6] {
                for i in 0..200 {
                    let who = look_up(address, &format!("{run}{i}.cluster.local"), PATIENCE);
                    assert_eq!(who, Some(Who::Sidestep), "lookup {i} at {address}");
                }
            }
        });
    };
    ask("a");
    the_service_works(&world);
    let remembered = world.network.node.run(|| {
        ["connections4", "connections6"].map(|set| sh(&format!("nft list set inet sidestep {set}"))).concat()
    });
    assert!(remembered.contains("tcp . 10.2.0.2 . 53 . 10.2.0.1"), "{remembered}");
    assert!(remembered.contains("tcp . fd02::2 . 53 . fd02::1"), "{remembered}");
    assert_eq!(own_entries(&world), [] as [String; 0]);
    let ours: Vec<_> = world.network.node.run(tracked).into_iter().filter(|e| e.contains("=53 ")).collect();
    assert_eq!(ours, [] as [String; 0]);
    // What its connections still send and get after its end (FIN, RST), is tracked by nobody's wish, and harms nobody.
    for signal in [Signal::KILL, Signal::TERM] {
        program.end(signal);
        the_service_works(&world);
        program = start();
        ask(if signal == Signal::KILL { "b" } else { "c" });
        the_service_works(&world);
    }
}

#[test]
fn a_server_whose_packets_are_dropped_costs_no_answer() {
    let _turn = super::turn();
    let world = World::new();
    let _program = world.run();
    let ask_all = |run: &'static str| {
        let pod = &world.network.pod;
        pod.run(move || {
            scope(|scope| {
                let asks: Vec<_> = (0..100)
                    .map(|i| {
                        scope.spawn(move || {
                            let start = Instant::now();
                            let who = look_up(V4, &format!("{run}{i}.cluster.local"), PATIENCE);
                            assert_eq!(who, Some(Who::Sidestep), "lookup {run}{i}");
                            start.elapsed()
                        })
                    })
                    .collect();
                asks.into_iter().map(|ask| ask.join().unwrap()).max().unwrap()
            })
        })
    };
    ask_all("before");
    world
        .network
        .node
        .run(|| sh("iptables-nft -I OUTPUT -d 10.2.0.2 -j DROP; iptables-nft -I INPUT -s 10.2.0.2 -j DROP"));
    for run in ["first", "second", "third"] {
        println!("{run}: the slowest of 100 took {:?}", ask_all(run));
    }
}

/// The name behind `svc://` is that of a Service with an address of its own, which is nowhere unless it is translated.
#[test]
fn a_service_that_is_not_headless_is_asked_over_tracked_connections_after_all() {
    let _turn = super::turn();
    let world = World::new();
    let upstreams = ["svc://service.cluster.local", "tcp://10.2.0.2:53"];
    let command = world.configured(
        "notrack_upstream = true\nfail_open = true\n[upstream]\nconnect_timeout = \"500ms\"",
        &upstreams,
    );
    let program = world.spawn(command);
    let end = Instant::now() + Duration::from_secs(20);
    let asked = std::cell::Cell::new(0);
    while !program.log().contains("tracked from now on") {
        assert!(Instant::now() < end, "{}", program.log());
        let n = asked.replace(asked.get() + 1);
        world.network.pod.run(move || look_up(V4, &format!("m{n}.cluster.local"), PATIENCE));
    }
    let log = program.log();
    assert!(log.contains("headless Service") && !log.contains("clients go to 10.96.0.10"), "{log}");
    let entries = own_to_service(&world);
    assert!(!entries.is_empty(), "it is asked through the Service");
    for n in 0..100 {
        let who = world.network.pod.run(move || look_up(V4, &format!("l{n}.cluster.local"), PATIENCE));
        assert_eq!(who, Some(Who::Sidestep), "lookup {n}");
    }
}

/// Entries of connections from the node itself to the Service's address.
fn own_to_service(world: &World) -> Vec<String> {
    let all = world.network.node.run(|| sh("conntrack -L -p tcp 2>/dev/null"));
    all.lines().filter(|line| line.contains("dst=10.96.0.10")).map(str::to_owned).collect()
}
