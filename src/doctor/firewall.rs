//! Firewalls that drop what is not tracked: the usual rule lets packets of established connections pass and drops
//! the rest, and an untracked packet belongs to no connection. An accept in our own table does not help: a packet
//! must pass every base chain of its hook.

use std::net::IpAddr;

use super::filter::{Action, Base, Chain, Hook, Keeper, Rule, Ruleset};
use super::finding::Finding;

/// Chains that lead from a base chain to the rule that accepts: firewalld has five.
const DEPTH: usize = 8;

/// Judges every dropping chain for each address of ours and both protocols.
pub fn judge(filter: &Ruleset, ours: &[IpAddr], port: u16) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut dropping = 0;
    for chain in &filter.chains {
        let Some(Base { hook, drops }) = chain.base else { continue };
        let check = match hook {
            Hook::Input => "firewall.input",
            Hook::Output => "firewall.output",
            _ => continue,
        };
        if !drops && !ends_in_drop(filter, chain) {
            continue;
        }
        dropping += 1;
        for address in ours.iter().filter(|address| chain.table.family.sees(**address)) {
            let missing = ["udp", "tcp"].into_iter().filter(|protocol| {
                let packet = Packet { address: *address, port, protocol, hook };
                !accepts(filter, chain, &chain.name, packet, DEPTH)
            });
            let missing: Vec<&str> = missing.collect();
            if !missing.is_empty() {
                findings.push(dropped(check, chain, *address, port, &missing));
            }
        }
    }
    if findings.is_empty() {
        let what = match (dropping, ours.is_empty()) {
            (0, _) => "No firewall chain drops what comes to this node or leaves it.",
            (_, true) => {
                "Firewall chains drop what they do not know; there is no address of ours that this could hurt."
            }
            (_, false) => {
                "Firewall chains drop what they do not know, and let queries to our addresses pass."
            }
        };
        findings.push(Finding::healthy("firewall.input", what));
    }
    findings
}

/// Whether the last rule of the chain itself drops everything that comes to it (firewalld's reject).
fn ends_in_drop(filter: &Ruleset, chain: &Chain) -> bool {
    let last = filter.of(&chain.table, &chain.name).last();
    last.is_some_and(|rule| rule.action == Action::Drop && rule.is_broad())
}

/// A DNS packet of ours: a query on its way in, or an answer on its way out.
#[derive(Clone, Copy)]
struct Packet<'a> {
    address: IpAddr,
    port: u16,
    protocol: &'a str,
    hook: Hook,
}

/// Whether a rule of this chain, or of one that it jumps to, accepts the packet without asking for anything else.
fn accepts(filter: &Ruleset, base: &Chain, chain: &str, packet: Packet<'_>, depth: usize) -> bool {
    for rule in filter.of(&base.table, chain).filter(|rule| packet.meets(rule)) {
        match &rule.action {
            Action::Accept => return true,
            Action::Drop => return false,
            Action::Jump(next) if depth > 0 && accepts(filter, base, next, packet, depth - 1) => return true,
            _ => {}
        }
    }
    false
}

impl Packet<'_> {
    /// Whether the rule is about it, for certain.
    fn meets(&self, rule: &Rule) -> bool {
        let number = if self.protocol == "udp" { 17 } else { 6 };
        let (address, port, other_address, other_port) = match self.hook {
            Hook::Output => (rule.from, rule.sport, rule.to, rule.dport),
            _ => (rule.to, rule.dport, rule.from, rule.sport),
        };
        !rule.narrow
            && other_address.is_none()
            && other_port.is_none()
            && address.is_none_or(|address| address == self.address)
            && port.is_none_or(|port| port == self.port)
            && rule.protocol.is_none_or(|protocol| protocol == number)
    }
}

fn dropped(check: &'static str, chain: &Chain, address: IpAddr, port: u16, protocols: &[&str]) -> Finding {
    let way = if check == "firewall.input" { "queries to" } else { "answers from" };
    let what = format!(
        "{} chain {} drops what it does not know, and has no row that lets untracked {way} {address} pass ({}).",
        chain.table,
        chain.name,
        protocols.join(" and ")
    );
    let rows: Vec<String> =
        protocols.iter().map(|protocol| row(check, chain, address, port, protocol)).collect();
    Finding::problem(check, what, rows.join("\n")).evidence(format!("{} chain {}", chain.table, chain.name))
}

/// The row to add, in the words of whoever keeps the chain.
fn row(check: &str, chain: &Chain, address: IpAddr, port: u16, protocol: &str) -> String {
    let input = check == "firewall.input";
    let v6 = address.is_ipv6();
    if chain.is_iptables() {
        let program = match (chain.table.keeper, v6) {
            (Keeper::Legacy, false) => "iptables-legacy",
            (Keeper::Legacy, true) => "ip6tables-legacy",
            (Keeper::Nftables, false) => "iptables-nft",
            (Keeper::Nftables, true) => "ip6tables-nft",
        };
        let (side, ports) = if input { ("-d", "--dport") } else { ("-s", "--sport") };
        return format!(
            "{program} -w 5 -I {} 1 {side} {address} -p {protocol} {ports} {port} -j ACCEPT",
            chain.name
        );
    }
    if chain.table.name == "firewalld" && input {
        let family = if v6 { "ipv6" } else { "ipv4" };
        return format!(
            "firewall-cmd --permanent --add-rich-rule='rule family={family} destination address={address} \
             port port={port} protocol={protocol} accept' && firewall-cmd --reload"
        );
    }
    let family = if v6 { "ip6" } else { "ip" };
    let (side, ports) = if input { ("daddr", "dport") } else { ("saddr", "sport") };
    format!(
        "nft insert rule {} {} {family} {side} {address} {protocol} {ports} {port} accept",
        chain.table, chain.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::filter::{Family, legacy};
    use crate::doctor::finding::Level;

    fn found(rules: &str) -> Vec<Finding> {
        let filter = legacy::parse(&format!("*filter\n{rules}"), Family::Ip);
        judge(&filter, &["169.254.20.10".parse().unwrap(), "fd00::53".parse().unwrap()], 53)
    }

    const ESTABLISHED: &str = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";

    #[test]
    fn a_dropping_policy_without_a_row_for_us_is_a_problem_with_the_row() {
        let found = found(&format!(":INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n{ESTABLISHED}"));
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!((finding.check, finding.level), ("firewall.input", Level::Problem));
        assert_eq!(
            finding.remedy.as_deref(),
            Some(
                "iptables-legacy -w 5 -I INPUT 1 -d 169.254.20.10 -p udp --dport 53 -j ACCEPT\n\
                 iptables-legacy -w 5 -I INPUT 1 -d 169.254.20.10 -p tcp --dport 53 -j ACCEPT"
            )
        );
    }

    #[test]
    fn a_last_rule_that_drops_everything_is_as_good_as_a_policy() {
        let drop = "-A INPUT -j REJECT --reject-with icmp-port-unreachable\n";
        assert_eq!(found(&format!(":INPUT ACCEPT [0:0]\n{drop}"))[0].level, Level::Problem);
        let narrow = "-A INPUT -i eth0 -j DROP\n";
        assert_eq!(found(&format!(":INPUT ACCEPT [0:0]\n{narrow}"))[0].level, Level::Healthy);
    }

    #[test]
    fn rows_that_let_us_pass_are_found_behind_jumps() {
        for rows in [
            "-A INPUT -d 169.254.20.10/32 -p udp -m udp --dport 53 -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 53 -j ACCEPT\n",
            "-A INPUT -j ours\n-A ours -d 169.254.20.10/32 -j ACCEPT\n",
            "-A INPUT -j ACCEPT\n",
        ] {
            let found = found(&format!(":INPUT DROP [0:0]\n:ours - [0:0]\n{ESTABLISHED}{rows}"));
            assert_eq!(found[0].level, Level::Healthy, "{rows}");
        }
        for rows in [
            "-A INPUT -j DROP\n-A INPUT -p udp -m udp --dport 53 -j ACCEPT\n",
            "-A INPUT -d 169.254.20.11/32 -j ACCEPT\n",
            "-A INPUT -s 10.0.0.1/32 -p udp -m udp --dport 53 -j ACCEPT\n",
            "-A INPUT -p udp -m udp --sport 53 -j ACCEPT\n",
        ] {
            let found = found(&format!(":INPUT DROP [0:0]\n{rows}"));
            assert_eq!(found[0].level, Level::Problem, "{rows}");
        }
    }

    #[test]
    fn answers_are_looked_for_the_other_way_round() {
        let rows = "-A OUTPUT -s 169.254.20.10/32 -p udp -m udp --sport 53 -j ACCEPT\n";
        let found = found(&format!(":OUTPUT DROP [0:0]\n{rows}"));
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert!(
            finding.what.ends_with("untracked answers from 169.254.20.10 pass (tcp)."),
            "{}",
            finding.what
        );
    }
}
