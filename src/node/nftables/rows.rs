//! From a row of [`node::rules`](crate::node::rules) to expressions.
//!
//! A row becomes one rule a family of addresses where it looks at addresses, one a port where there are many, and
//! one a server where it has several to choose from. What is looked at first is what sorts out most packets at the
//! least cost: protocol, port, then the address in its set.

use std::net::SocketAddr;

use super::expr::{Compare, Expressions, IpFamily, Register, Verdict};
use super::note::Note;
use crate::node::Plan;
use crate::node::rules::{self, Action, Match, Place, Port, Row};

/// A rule that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Why: the row's reason.
    pub(super) reason: &'static str,
    /// What it does.
    pub(super) expressions: Expressions,
}

impl Rule {
    /// What stands beside it.
    pub(super) fn note(&self) -> Note {
        Note::new(self.reason, &self.expressions)
    }
}

/// How clients are spread over the servers to fall back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Over all, by a hash of the client's socket.
    Hash,
    /// All go to the first, because the kernel has no hash expression (CONFIG_NFT_HASH).
    First,
}

/// Whether the plan wants this row.
pub(super) fn wanted(row: &Row, plan: &Plan) -> bool {
    let upstream = |one: &Match| matches!(one, Match::OwnUpstream | Match::Remembered);
    plan.notrack_upstream || !row.matches.iter().any(upstream)
}

/// The rules of one place, in the order of the rows.
pub(super) fn rules(rows: &[Row], place: Place, plan: &Plan, spread: Spread) -> Vec<Rule> {
    let mut all = Vec::new();
    for row in rows.iter().filter(|row| row.place == place && wanted(row, plan)) {
        for family in families(row, plan) {
            for port in ports(row, plan) {
                for part in parts(row, family, plan, spread) {
                    let expressions = Writer { row, family, port, plan }.expressions(part);
                    all.push(Rule { reason: row.reason, expressions });
                }
            }
        }
    }
    all
}

/// The families that a row is written for: those that we have addresses of, or none if it looks at no address.
fn families(row: &Row, plan: &Plan) -> Vec<Option<IpFamily>> {
    let looks = |one: &Match| {
        matches!(one, Match::To(_) | Match::From(_) | Match::FromUs | Match::Remembered | Match::Answering)
    };
    if !row.matches.iter().any(looks) && row.action != Action::Remember {
        return vec![None];
    }
    let ours = |family: &IpFamily| plan.addresses.iter().any(|address| IpFamily::of(*address) == *family);
    // Connections to pods do not come from our addresses.
    let any = row.matches.contains(&Match::Remembered) || row.action == Action::Remember;
    IpFamily::BOTH.into_iter().filter(|family| any || ours(family)).map(Some).collect()
}

/// The ports that a row is written for; one that looks at none is written once.
fn ports(row: &Row, plan: &Plan) -> Vec<u16> {
    let http = |one: &Match| matches!(one, Match::To(Port::Http) | Match::From(Port::Http));
    if row.matches.iter().any(http) { plan.http_ports.clone() } else { vec![plan.dns_port] }
}

/// One of the servers to fall back to, and which of how many it is.
#[derive(Clone, Copy, Debug)]
struct Part {
    server: SocketAddr,
    index: u32,
    count: u32,
}

/// The servers that a row is written for; a row that leads nowhere is written once.
fn parts(row: &Row, family: Option<IpFamily>, plan: &Plan, spread: Spread) -> Vec<Option<Part>> {
    let servers = servers(plan, family, spread);
    match row.action {
        Action::ToCluster => {
            let count = u32::try_from(servers.len()).unwrap_or(u32::MAX);
            (0..).zip(servers).map(|(index, server)| Some(Part { server, index, count })).collect()
        }
        // Without servers nothing is translated, so nothing needs the way back.
        Action::Masquerade if servers.is_empty() => Vec::new(),
        _ => vec![None],
    }
}

/// The servers of a family that clients are sent to.
fn servers(plan: &Plan, family: Option<IpFamily>, spread: Spread) -> Vec<SocketAddr> {
    let most = match spread {
        Spread::Hash => crate::node::FALLBACKS.max,
        Spread::First => 1,
    };
    let mut servers = plan.fallbacks.clone();
    servers.retain(|server| Some(IpFamily::of(server.ip())) == family);
    // Sorted, so that the order in which a server listed them does not replace the rules.
    servers.sort_unstable();
    servers.dedup();
    servers.truncate(most);
    servers
}

/// Writes one rule.
struct Writer<'a> {
    row: &'a Row,
    family: Option<IpFamily>,
    port: u16,
    plan: &'a Plan,
}

impl Writer<'_> {
    fn expressions(&self, part: Option<Part>) -> Expressions {
        let mut out = Expressions::new();
        for one in self.row.matches {
            self.matches(*one, &mut out);
        }
        if let (Some(part), Some(family)) = (part.filter(|part| part.count > 1), self.family) {
            out.socket_part(family, part.index, part.count);
        }
        out.counter();
        self.action(part, &mut out);
        out
    }

    fn matches(&self, one: Match, out: &mut Expressions) {
        match one {
            Match::Udp => out.udp(),
            Match::Tcp => out.tcp(),
            Match::To(_) => {
                out.to_port(self.port);
                self.in_set(Expressions::destination, out)
            }
            Match::From(_) => {
                out.from_port(self.port);
                self.in_set(Expressions::source, out)
            }
            Match::FromUs => self.in_set(Expressions::source, out),
            Match::Answering => out, // the set that `To` looks in is that of live addresses
            Match::Probe(true) => out.mark(Compare::Equal, rules::PROBE_MARK),
            Match::Probe(false) => out.mark(Compare::Unequal, rules::PROBE_MARK),
            Match::OwnUpstream => out.mark(Compare::Equal, rules::UPSTREAM_MARK),
            Match::Remembered => self.connection(Direction::Theirs, out, |out, set, key| {
                out.lookup(set, key);
            }),
            Match::Opening => out.opening(),
            Match::Translated => out.translated(),
        };
    }

    /// The address that `load` loads is one of ours.
    fn in_set<'a>(
        &self,
        load: impl Fn(&mut Expressions, IpFamily, Register) -> &mut Expressions,
        out: &'a mut Expressions,
    ) -> &'a mut Expressions {
        let Some(family) = self.family else { return out };
        let name = match self.row.place {
            Place::NatPrerouting | Place::NatOutput | Place::NatPostrouting => "armed",
            _ if self.row.matches.contains(&Match::Answering) => "live",
            _ => "addresses",
        };
        out.family(family);
        load(out, family, Register::FIRST);
        out.lookup(&format!("{name}{}", family.digit()), Register::FIRST)
    }

    fn action(&self, part: Option<Part>, out: &mut Expressions) {
        match self.row.action {
            Action::Notrack => {
                out.notrack();
                // What accepts knows it by its mark, as it does in the other direction.
                if self.row.matches.contains(&Match::Remembered) {
                    out.set_mark(rules::UPSTREAM_MARK);
                }
            }
            Action::Accept => {
                out.verdict(Verdict::Accept);
            }
            Action::Refresh => {
                if let Some(family) = self.family {
                    out.source(family, Register::FIRST);
                    out.update(&format!("live{}", family.digit()), Register::FIRST, None);
                }
            }
            Action::Remember => {
                let is_datagram = self.row.matches.contains(&Match::Udp);
                let time = if is_datagram { rules::DATAGRAM } else { self.plan.upstream_idle };
                // A set that is full ends the rule here: what is not noted is tracked.
                self.connection(Direction::Ours, out, |out, set, key| {
                    out.update(set, key, Some(time)).notrack().verdict(Verdict::Accept);
                });
            }
            Action::ToCluster => {
                if let Some(part) = part {
                    out.dnat(part.server);
                }
            }
            Action::Masquerade => {
                out.masquerade();
            }
        }
    }

    /// Loads protocol, the pod's address and port, our address and port, as the set `connections` holds them.
    fn connection<'a>(
        &self,
        direction: Direction,
        out: &'a mut Expressions,
        then: impl FnOnce(&mut Expressions, &str, Register),
    ) -> &'a mut Expressions {
        use super::expr::Meta;
        let Some(family) = self.family else { return out };
        let protocol = Register::FIRST;
        let pod = protocol.behind(4);
        let pod_port = pod.behind(family.length());
        let us = pod_port.behind(4);
        let our_port = us.behind(family.length());
        out.family(family).meta(Meta::Protocol, protocol);
        match direction {
            Direction::Ours => out
                .destination(family, pod)
                .destination_port(pod_port)
                .source(family, us)
                .source_port(our_port),
            Direction::Theirs => out
                .source(family, pod)
                .source_port(pod_port)
                .destination(family, us)
                .destination_port(our_port),
        };
        then(out, &format!("connections{}", family.digit()), protocol);
        out
    }
}

/// Who sent a packet of a connection between us and a pod.
#[derive(Clone, Copy, Debug)]
enum Direction {
    /// We did.
    Ours,
    /// The pod did.
    Theirs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::rules::{ROWS, SLEEPING};
    use std::collections::HashSet;
    use std::time::Duration;

    fn plan(addresses: &[&str], fallbacks: &[&str]) -> Plan {
        Plan {
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            dns_port: 53,
            http_ports: vec![8080, 9253],
            fallbacks: fallbacks.iter().map(|server| server.parse().unwrap()).collect(),
            notrack_upstream: false,
            upstream_idle: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_row_is_written_for_each_family_port_and_server() {
        let one = plan(&["169.254.20.10", "169.254.20.11"], &[]);
        let both = plan(&["169.254.20.10", "fd00::a"], &["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"]);
        let count = |rows, place, plan: &Plan| rules(rows, place, plan, Spread::Hash).len();
        assert_eq!(count(ROWS, Place::RawPrerouting, &one), 2);
        assert_eq!(count(ROWS, Place::RawPrerouting, &both), 4);
        assert_eq!(count(ROWS, Place::RawOutput, &one), 6 + 2 * 2);
        assert_eq!(count(SLEEPING, Place::NatPrerouting, &one), 0);
        assert_eq!(count(SLEEPING, Place::NatPostrouting, &one), 0);
        assert_eq!(count(SLEEPING, Place::NatPrerouting, &both), 2 * (2 + 1));
        assert_eq!(count(SLEEPING, Place::NatPostrouting, &both), 2);
        assert_eq!(rules(SLEEPING, Place::NatOutput, &both, Spread::First).len(), 2 * (1 + 1));
        let upstream = Plan { notrack_upstream: true, ..one };
        assert_eq!(count(ROWS, Place::RawPrerouting, &upstream), 2 + 2);
        assert_eq!(count(ROWS, Place::RawOutput, &upstream), 10 + 4 + 1);
    }

    #[test]
    fn the_order_of_the_servers_does_not_matter() {
        let some = plan(&["169.254.20.10"], &["10.0.0.1:53", "10.0.0.2:53"]);
        let other = plan(&["169.254.20.10"], &["10.0.0.2:53", "10.0.0.1:53", "10.0.0.2:53"]);
        let rules = |plan| rules(SLEEPING, Place::NatPrerouting, plan, Spread::Hash);
        assert_eq!(rules(&some), rules(&other));
    }

    #[test]
    fn no_two_rules_are_taken_for_one_another_and_reasons_fit() {
        let mut all = plan(&["169.254.20.10", "fd00::a"], &["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"]);
        all.notrack_upstream = true;
        for place in [Place::RawPrerouting, Place::RawOutput, Place::NatPrerouting, Place::NatPostrouting] {
            let both =
                [rules(ROWS, place, &all, Spread::Hash), rules(SLEEPING, place, &all, Spread::Hash)].concat();
            let prints: HashSet<_> = both.iter().map(|rule| rule.note().fingerprint).collect();
            assert_eq!(prints.len(), both.len());
            for rule in both {
                assert_eq!(Note::read(&rule.note().bytes()).comment, rule.reason, "cut off");
            }
        }
    }
}
