//! Where clients go without us, over the life of a configuration: what it does not name any more is forgotten, what is
//! not known for the moment is not.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::dns::{SERVICE, SERVICE_IPS};
use super::network::{V4, V6, sh};
use super::program::{Program, UP, World};

const NOBODY: &str = "nobody is known to fall back to";

/// Says who answers for the cluster, and lets the outside, which is no pod but would be reached, answer for the rest.
fn configure(world: &World, firewall: &str, zone: &str, upstreams: &[&str]) -> Program {
    write(world, firewall, zone, upstreams);
    let file = world.directory.path().join("sidestep.toml");
    world.spawn(World::command(&["--config".to_owned(), file.display().to_string()]))
}

fn write(world: &World, firewall: &str, zone: &str, upstreams: &[&str]) {
    let text = format!(
        "[node]\naddresses = [\"{V4}\", \"{V6}\"]\nfirewall = \"{firewall}\"\n\
         [[zone]]\nname = \"{zone}\"\nupstreams = {upstreams:?}\n\
         [[zone]]\nname = \"10.in-addr.arpa\"\nupstreams = {upstreams:?}\n\
         [[zone]]\nname = \".\"\nupstreams = [\"tcp://10.2.0.3:53\"]\n"
    );
    fs::write(world.directory.path().join("sidestep.toml"), text).unwrap();
}

/// Whether rows lead to the cluster DNS; not those of kube-proxy.
fn leads_somewhere(world: &World) -> bool {
    let rows = world.network.node.run(|| {
        sh("nft list table inet sidestep-failopen 2>/dev/null || :; iptables-save -t nat; ip6tables-save -t nat")
    });
    rows.contains("10.2.0.") || rows.contains("fd02::")
}

/// Waits until this is what was said last about where clients go.
#[track_caller]
fn wait(program: &Program, text: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    let said = || program.log().lines().rfind(|line| line.contains("goes past conntrack")).map(str::to_owned);
    while !said().is_some_and(|line| line.contains(text)) {
        assert!(Instant::now() < end, "{text:?} is not what was said last:\n{}", program.log());
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_service_that_is_taken_out_is_forgotten_by_a_reload_and_by_a_restart() {
    let _turn = super::turn();
    let world = World::new();
    let service_ip = format!("tcp://{}:53", SERVICE_IPS[0]);
    let pods = format!("svc://{SERVICE}");
    let (with, without) = ([service_ip.as_str(), pods.as_str()], [service_ip.as_str()]);
    for firewall in ["nftables", "iptables"] {
        let mut program = configure(&world, firewall, "cluster.local", &with);
        wait(&program, UP);
        assert!(leads_somewhere(&world), "{}", program.log());
        write(&world, firewall, "cluster.local", &without);
        wait(&program, NOBODY);
        assert!(!leads_somewhere(&world), "{}", program.log());
        write(&world, firewall, "cluster.local", &with);
        wait(&program, UP);
        program.end(Signal::KILL);
        assert!(leads_somewhere(&world), "as nobody has taken it out");
        let mut program = configure(&world, firewall, "cluster.local", &without);
        wait(&program, NOBODY);
        assert!(!leads_somewhere(&world), "{}", program.log());
        program.end(Signal::TERM);
        assert!(world.teardown().0);
    }
}

/// For as long as the name of the cluster's zone is misspelt, the root zone holds the cluster's names. Whom it asks, the
/// outside, would say that there are none.
#[test]
fn the_outside_is_nobody_to_fall_back_to() {
    let _turn = super::turn();
    let world = World::new();
    let upstreams = [format!("tcp://{}:53", SERVICE_IPS[0]), format!("svc://{SERVICE}")];
    let upstreams = upstreams.each_ref().map(String::as_str);
    let program = configure(&world, "nftables", "cluster.local", &upstreams);
    wait(&program, UP);
    write(&world, "nftables", "k8s.example", &upstreams);
    wait(&program, NOBODY);
    assert!(!leads_somewhere(&world), "{}", program.log());
    write(&world, "nftables", "cluster.local", &upstreams);
    wait(&program, UP);
    assert!(!program.log().contains("clients go to 10.2.0.3:53\n"), "{}", program.log());
    // Nor is it where the cluster's name has changed, and nobody has misspelt it.
    write(&world, "nftables", "k8s.example", &upstreams);
    wait(&program, NOBODY);
    let file = world.directory.path().join("sidestep.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("[node]\n", "[node]\ncluster_domain = \"k8s.example\"\n", 1)).unwrap();
    wait(&program, UP);
    assert!(!program.log().contains("next start"), "{}", program.log());
}

#[test]
fn a_service_that_is_not_found_out_for_the_moment_is_not_forgotten() {
    let _turn = super::turn();
    let world = World::new();
    let upstreams = [format!("tcp://{}:53", SERVICE_IPS[0]), format!("svc://{SERVICE}")];
    let upstreams = upstreams.each_ref().map(String::as_str);
    let mut program = configure(&world, "nftables", "cluster.local", &upstreams);
    wait(&program, UP);
    // The cluster DNS is cut off.
    world.network.cluster.run(|| sh("nft add table ip cut; nft add chain ip cut in '{ type filter hook input priority 0; policy drop; }'; nft add table ip6 cut; nft add chain ip6 cut in '{ type filter hook input priority 0; policy drop; }'"));
    write(&world, "nftables", "cluster.local", &[upstreams[0], upstreams[1], "tcp://10.96.0.11:53"]);
    program.wait_for("configuration reloaded");
    sleep(Duration::from_secs(3));
    assert!(leads_somewhere(&world), "{}", program.log());
    program.end(Signal::KILL);
    let mut program = configure(&world, "nftables", "cluster.local", &upstreams);
    program.wait_for("no addresses for");
    wait(&program, UP);
    sleep(Duration::from_secs(1));
    assert!(leads_somewhere(&world) && !program.log().contains(NOBODY), "{}", program.log());
}
