//! Starts that fail, and what they must leave alone: another process's link and rows, what clients live by since an
//! earlier run, and what somebody else sees to.

use std::net::SocketAddr;
use std::time::Duration;

use sidestep::node::{FirewallKind, LinkKind, Node, Settings};

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
    node.fall_back_to(vec!["10.2.0.2:53".parse().unwrap()]);
    node.rules_up().unwrap();
    node
}

fn tables() -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = std::process::Command::new("nft").args(["list", "tables"]).env("PATH", path).output();
    String::from_utf8(output.expect("nft runs: apt-get install nftables").stdout).unwrap()
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
