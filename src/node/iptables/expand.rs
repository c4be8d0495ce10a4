//! From the rows of [`rules`] and a plan to rules of iptables.
//!
//! What iptables cannot say is left out: sets that packets fill ([`Action::Refresh`], [`Action::Remember`]), and with
//! them `notrack_upstream`, which needs nftables. [`Match::Answering`] becomes `-m socket` in PREROUTING, the only
//! one of our hooks that has it; elsewhere it is always true.

use std::net::{IpAddr, SocketAddr};

use super::rule::{Comment, Family, Protocol, Rule, Target};
use crate::node::Plan;
use crate::node::rules::{self, Action, Match, PROBE_MARK, Place, Port, Row};

/// Source ports that Linux gives to clients (net.ipv4.ip_local_port_range), which [`share`] divides.
const CLIENT_PORTS: (u32, u32) = (32768, 61000);

/// The rules of one family that hold while we run.
///
/// `socket` says whether NOTRACK asks for a socket that is bound to the address: then it ends with the process.
pub fn running(plan: &Plan, family: Family, socket: bool) -> Vec<Rule> {
    expand(rules::ROWS, plan, family, socket)
}

/// The rules of one family that send clients to the cluster DNS without us.
pub fn sleeping(plan: &Plan, family: Family) -> Vec<Rule> {
    if fallbacks(plan, family).is_empty() { Vec::new() } else { expand(rules::SLEEPING, plan, family, false) }
}

/// The servers of this family that clients fall back to.
pub fn fallbacks(plan: &Plan, family: Family) -> Vec<SocketAddr> {
    plan.fallbacks.iter().copied().filter(|server| Family::of(server.ip()) == family).collect()
}

fn expand(rows: &[Row], plan: &Plan, family: Family, socket: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    for row in rows {
        for address in plan.addresses.iter().filter(|address| Family::of(**address) == family) {
            for protocol in protocols(row) {
                rules.extend(
                    row_rules(row, *address, protocol, plan)
                        .into_iter()
                        .map(|rule| Rule { socket: rule.socket && socket, ..rule }),
                );
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    rules.retain(|rule| seen.insert(rule.clone()));
    rules
}

/// iptables wants a protocol beside a port: a row that names none is a rule for each.
fn protocols(row: &Row) -> Vec<Option<Protocol>> {
    let says = |wanted: Match| row.matches.contains(&wanted);
    let port = row.matches.iter().any(|one| matches!(one, Match::To(_) | Match::From(_)));
    match (says(Match::Udp), says(Match::Tcp), port) {
        (true, _, _) => vec![Some(Protocol::Udp)],
        (_, true, _) => vec![Some(Protocol::Tcp)],
        (_, _, true) => vec![Some(Protocol::Udp), Some(Protocol::Tcp)],
        _ => vec![None],
    }
}

/// The rules of one row for one address and protocol: several where it has several ports or servers.
fn row_rules(row: &Row, address: IpAddr, protocol: Option<Protocol>, plan: &Plan) -> Vec<Rule> {
    let mut rules = match row.action {
        Action::Notrack => vec![Rule::new(row.place, Comment::Skip, Target::Notrack)],
        Action::Accept => vec![Rule::new(row.place, Comment::Allow, Target::Accept)],
        Action::Masquerade => vec![Rule::new(row.place, Comment::FallBack, Target::Masquerade)],
        Action::ToCluster => shared(row.place, &fallbacks(plan, Family::of(address))),
        Action::Refresh | Action::Remember => Vec::new(),
    };
    for one in row.matches {
        rules = rules
            .into_iter()
            .flat_map(|rule| matching(Rule { protocol, ..rule }, *one, address, plan))
            .collect();
    }
    rules
}

/// The rule with one more thing that must be true: once for each port, never where iptables cannot say it.
fn matching(rule: Rule, one: Match, address: IpAddr, plan: &Plan) -> Vec<Rule> {
    let ports = |port| match port {
        Port::Dns => std::slice::from_ref(&plan.dns_port),
        Port::Http => plan.http_ports.as_slice(),
    };
    let to = |port: &u16| Rule { destination: Some(address), destination_port: Some(*port), ..rule.clone() };
    let from =
        |port: &u16| Rule { source: Some(address), source_ports: Some((*port, *port)), ..rule.clone() };
    match one {
        Match::Udp | Match::Tcp => vec![rule],
        Match::To(port) => ports(port).iter().map(to).collect(),
        Match::From(port) => ports(port).iter().map(from).collect(),
        Match::FromUs => vec![Rule { source: Some(address), ..rule }],
        Match::Answering => vec![Rule { socket: rule.place == Place::RawPrerouting, ..rule }],
        Match::Probe(is) => vec![Rule { mark: Some((is, PROBE_MARK)), ..rule }],
        Match::Opening => vec![Rule { opening: true, ..rule }],
        Match::Translated => vec![Rule { translated: true, ..rule }],
        Match::OwnUpstream | Match::Remembered => Vec::new(),
    }
}

/// A DNAT rule for each server, each with its share of the clients' ports.
fn shared(place: Place, servers: &[SocketAddr]) -> Vec<Rule> {
    let rule = |(at, server): (usize, &SocketAddr)| Rule {
        source_ports: share(at, servers.len()),
        ..Rule::new(place, Comment::FallBack, Target::Dnat(*server))
    };
    servers.iter().enumerate().map(rule).collect()
}

/// The source ports whose clients go to server `at` of `servers`; none: all.
///
/// A client's A and AAAA leave one socket, so one port; if they went to different servers, their translations would
/// race, which is the harm this project is about. Ranges of source ports keep a socket with one server, need no
/// module beyond udp and tcp, and remember nothing. What else there is does worse: `-m statistic` draws anew for each
/// connection; `-m cluster` hashes the client's address alone, so a node's own clients would all ask one server, and
/// few kernels have it loaded; `-m u32` on the port's parity sends all TCP one way, since connect() prefers ports of
/// one parity. Clients that draw from all 65,536 ports favour the first server and the last.
fn share(at: usize, servers: usize) -> Option<(u16, u16)> {
    if servers < 2 {
        return None;
    }
    let bound = |at: usize| {
        let (first, end) = CLIENT_PORTS;
        let within = (end - first) as usize * at / servers;
        u16::try_from(first as usize + within).unwrap_or(u16::MAX)
    };
    let first = if at == 0 { 0 } else { bound(at) };
    let last = if at + 1 == servers { u16::MAX } else { bound(at + 1) - 1 };
    Some((first, last))
}

#[cfg(test)]
mod tests {
    use super::super::rule::{chain, table};
    use super::*;

    fn plan(addresses: &[&str], http: &[u16], fallbacks: &[&str]) -> Plan {
        Plan {
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            dns_port: 53,
            http_ports: http.to_vec(),
            fallbacks: fallbacks.iter().map(|server| server.parse().unwrap()).collect(),
            ..Plan::default()
        }
    }

    #[test]
    fn node_caches_twelve_and_the_probes_two() {
        let rules = running(&plan(&["169.254.20.10"], &[8080], &[]), Family::V4, true);
        let probe = rules.iter().filter(|rule| rule.mark.is_some()).count();
        assert_eq!((rules.len() - probe, probe), (12, 2));
        assert_eq!(running(&plan(&["169.254.20.10"], &[], &[]), Family::V4, true).len(), 10 + 2);
        assert_eq!(running(&plan(&["169.254.20.10"], &[], &[]), Family::V6, true).len(), 0);
    }

    #[test]
    fn a_socket_is_asked_for_in_prerouting_only() {
        let plan = plan(&["fd00::10"], &[8080], &["[fd01::1]:53"]);
        let socket: Vec<_> =
            running(&plan, Family::V6, true).into_iter().filter(|rule| rule.socket).collect();
        assert_eq!(socket.len(), 2);
        assert!(socket.iter().all(|rule| rule.place == Place::RawPrerouting));
        assert!(running(&plan, Family::V6, false).iter().all(|rule| !rule.socket));
    }

    #[test]
    fn sleeping_rules_of_one_server() {
        let sleeping = sleeping(&plan(&["169.254.20.10", "fd00::10"], &[], &["10.0.0.5:5353"]), Family::V4);
        let text: Vec<_> = sleeping
            .iter()
            .map(|rule| format!("{} {} {rule}", table(rule.place), chain(rule.place)))
            .collect();
        let note = "-m comment --comment \"sidestep: cluster DNS while the cache is gone\"";
        let udp = format!(
            "-d 169.254.20.10/32 -p udp -m udp --dport 53 -m mark ! --mark 0x53 {note} -j DNAT --to-destination 10.0.0.5:5353"
        );
        let tcp = format!(
            "-d 169.254.20.10/32 -p tcp -m tcp --dport 53 --tcp-flags FIN,SYN,RST,ACK SYN -m mark ! --mark 0x53 {note} -j DNAT --to-destination 10.0.0.5:5353"
        );
        let back = format!("-s 169.254.20.10/32 -m conntrack --ctstate DNAT {note} -j MASQUERADE");
        assert_eq!(
            text,
            [
                format!("nat PREROUTING {udp}"),
                format!("nat PREROUTING {tcp}"),
                format!("nat OUTPUT {udp}"),
                format!("nat OUTPUT {tcp}"),
                format!("nat POSTROUTING {back}"),
            ]
        );
    }

    #[test]
    fn shares_meet_without_gap_or_overlap() {
        assert_eq!(share(0, 1), None);
        for servers in 2..=16 {
            let mut next = 0;
            for at in 0..servers {
                let (first, last) = share(at, servers).unwrap();
                assert_eq!(u32::from(first), next);
                next = u32::from(last) + 1;
            }
            assert_eq!(next, 65536);
        }
        assert_eq!(share(0, 2), Some((0, 46883)));
    }

    #[test]
    fn a_family_without_servers_has_no_sleeping_rules() {
        assert_eq!(sleeping(&plan(&["fd00::10"], &[], &["10.0.0.5:53"]), Family::V6), []);
    }
}
