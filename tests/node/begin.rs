//! Starts that fail, and what they must leave alone: another process's link and rows, what clients live by since an
//! earlier run, and what somebody else sees to.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sidestep::node::{Fallback, FirewallKind, LinkKind, Node, Settings};

use super::namespace::{alone, ip};

const OURS: &str = "169.254.20.10";
const LINK: &str = "nodelocaldns";

fn settings(address: &str) -> Settings {
    Settings {
        addresses: vec![address.parse().unwrap()],
        link: LinkKind::Bridge,
        firewall: FirewallKind::Nftables,
        ..Settings::default()
    }
}

fn node(settings: &Settings) -> Result<Node, sidestep::node::Fault> {
    let listening: Vec<SocketAddr> = settings.addresses.iter().map(|&ip| SocketAddr::new(ip, 53)).collect();
    Node::new(settings, &listening, &[], Duration::from_secs(60))
}

/// Link and rules up, with somebody to fall back to.
fn up(settings: &Settings) -> Node {
    let mut node = node(settings).unwrap();
    node.link_up().unwrap();
    node.fall_back_to(Fallback::Known(vec!["10.2.0.2:53".parse().unwrap()]));
    node.rules_up().unwrap();
    node
}

fn tables() -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("nft").args(["list", "tables"]).env("PATH", path).output();
    String::from_utf8(output.expect("nft runs: apt-get install nftables").stdout).unwrap()
}

fn nft(row: &str) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    assert!(Command::new("nft").arg(row).env("PATH", path).status().unwrap().success(), "{row}");
}

#[test]
fn a_second_process_finds_the_first_before_it_touches_anything() {
    alone(|| {
        let first = up(&settings(OURS));
        let before = (ip("addr"), tables());
        let said = node(&settings("169.254.20.11")).err().unwrap().what;
        assert!(said.contains("second instance"), "{said}");
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        assert_eq!((ip("addr"), tables()), before);
        drop(first);
        assert!(node(&settings("169.254.20.11")).is_ok());
    });
}

#[test]
fn a_start_that_fails_leaves_what_clients_live_by() {
    alone(|| {
        drop(up(&settings(OURS))); // as if killed
        let mut next = node(&settings(OURS)).unwrap();
        next.link_up().unwrap();
        next.rules_up().unwrap();
        next.rules_down();
        next.leave(true);
        assert!(ip("addr").contains(OURS));
        assert_eq!(tables().trim(), "table inet sidestep-failopen");
    });
}

#[test]
fn a_first_start_that_fails_leaves_nothing() {
    alone(|| {
        let mut first = up(&settings(OURS));
        first.rules_down();
        first.leave(true);
        assert!(!ip("link").contains(LINK));
        assert_eq!(tables().trim(), "");
    });
}

#[test]
fn a_link_that_somebody_else_sees_to_stays() {
    alone(|| {
        ip(&format!("link add {LINK} type bridge"));
        ip(&format!("addr add {OURS}/32 dev {LINK}"));
        ip(&format!("link set {LINK} up"));
        let mut node = up(&Settings { link: LinkKind::None, teardown_on_exit: true, ..settings(OURS) });
        node.rules_down();
        node.leave(false);
        assert!(ip("addr").contains(OURS));
        assert_eq!(tables().trim(), "");
    });
}

/// The program itself, which ends with the test.
struct Program(Child);

impl Program {
    fn start(arguments: &str) -> Self {
        let mut command = Command::new(crate::program::sidestep());
        command.args(["--link", "bridge"]).args(arguments.split(' '));
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// What it says until it says `text`, or ends.
    fn until(&mut self, text: &str) -> Result<String, String> {
        let mut said = String::new();
        for line in BufReader::new(self.0.stderr.take().unwrap()).lines() {
            said += &(line.unwrap() + "\n");
            if said.contains(text) {
                return Ok(said);
            }
        }
        Err(said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// kube-proxy translates the cluster's address, to a cluster DNS that is not there: our first questions to ourselves
/// go that way, too, until our rows are there.
#[test]
fn a_cluster_address_is_served_while_the_cluster_dns_is_away() {
    for firewall in ["nftables", "iptables"] {
        alone(move || {
            nft("add table ip kube-proxy");
            nft("add chain ip kube-proxy out { type nat hook output priority -100; }");
            for protocol in ["udp", "tcp"] {
                nft(&format!(
                    "add rule ip kube-proxy out ip daddr 10.96.0.10 {protocol} dport 53 dnat to 192.0.2.1"
                ));
            }
            let mut program = Program::start(&format!(
                "--upstream tcp://127.0.0.1:9 --node-address 10.96.0.10 --firewall {firewall}"
            ));
            let said = program.until("rules (");
            assert!(said.is_ok(), "{said:?}");
        });
    }
}

/// Not to know whether a server is a pod is no reason to take it for one. Translated before it is tracked (Cilium), or
/// left untracked for another cache on the node, a connection to a Service's address has no entry.
#[test]
fn a_server_that_is_left_untracked_where_others_are_tracked_is_nobody_to_fall_back_to() {
    const SERVER: &str = "10.9.9.1:53";
    for (untracked, promise) in
        [(false, "clients go to 10.9.9.1:53"), (true, "nobody is known to fall back to")]
    {
        alone(move || {
            ip("addr add 10.9.9.1/32 dev lo");
            let _server = std::net::TcpListener::bind(SERVER).unwrap();
            if untracked {
                nft("add table ip other");
                nft("add chain ip other track { type filter hook output priority 0; }");
                nft("add rule ip other track ct state new counter");
                nft("add chain ip other raw { type filter hook output priority -300; }");
                nft("add rule ip other raw ip daddr 10.9.9.1 notrack");
            }
            // Others are tracked: this one is, for as long as the test runs.
            let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let _tracked = std::net::TcpStream::connect(other.local_addr().unwrap()).unwrap();
            let mut program = Program::start(&format!("--upstream tcp://{SERVER} --node-address {OURS}"));
            let said = program.until("rules (").unwrap_or_else(|said| panic!("{said}"));
            assert!(said.contains(promise), "{said}");
        });
    }
}

#[test]
fn rules_that_are_taken_away_for_good_are_not_put_back_by_a_check_on_its_way() {
    alone(|| {
        let mut ending = up(&settings(OURS));
        ending.rules_down();
        assert!(ending.check());
        ending.rules_up().unwrap();
        assert_eq!(tables().trim(), "table inet sidestep-failopen");
    });
}
