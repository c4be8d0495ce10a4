//! Firewalls that drop what is not tracked: the usual rule lets packets of established connections pass and drops
//! the rest, and an untracked packet belongs to no connection. An accept in our own table does not help: a packet
//! must pass every base chain of its hook.

use std::net::IpAddr;

use super::filter::{Action, Base, Chain, Extra, Hook, Keeper, Rule, Ruleset};
use super::finding::Finding;

/// Chains that lead from a base chain to the rule that accepts: firewalld has five.
const DEPTH: usize = 8;

/// Judges every dropping chain, for each address of ours and both protocols.
pub fn judge(filter: &Ruleset, ours: &[IpAddr], port: u16) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut dropping = 0;
    for chain in filter.chains.iter().filter(|chain| drops(filter, chain)) {
        let seen: Vec<IpAddr> = ours.iter().copied().filter(|a| chain.table.family.sees(*a)).collect();
        dropping += 1;
        let mut worst = Passes::Surely;
        let mut rows = Vec::new();
        for (address, protocol) in seen.iter().flat_map(|a| ["udp", "tcp"].map(|protocol| (*a, protocol))) {
            let packet = Packet { address, port, protocol, answer: is_output(chain) };
            let passes = packet.passes(filter, chain, &chain.name, DEPTH).unwrap_or(Passes::No);
            if passes != Passes::Surely {
                rows.push(packet.row(chain));
            }
            worst = worst.min(passes);
        }
        findings.extend(finding(chain, worst, &rows));
    }
    if findings.is_empty() {
        let what = match (dropping, ours.is_empty()) {
            (0, _) => "No firewall chain drops what comes to this node or leaves it.",
            (_, true) => {
                "Firewall chains drop what they do not know; no address of ours is here that this could hurt."
            }
            (_, false) => {
                "Firewall chains drop what they do not know, and let queries to our addresses pass."
            }
        };
        findings.push(Finding::healthy("firewall.input", what));
    }
    findings
}

/// Whether a chain sees what comes to this node or leaves it, and drops what no rule of it accepts: by its policy, or
/// by a last rule that everything meets (firewalld's reject).
fn drops(filter: &Ruleset, chain: &Chain) -> bool {
    let Some(Base { hook: Hook::Input | Hook::Output, drops }) = chain.base else { return false };
    let last = filter.of(&chain.table, &chain.name).last();
    drops || last.is_some_and(|rule| rule.action == Action::Drop && rule.is_broad())
}

fn is_output(chain: &Chain) -> bool {
    chain.base.is_some_and(|base| base.hook == Hook::Output)
}

/// Whether a chain lets a packet pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Passes {
    No,
    /// If it has something that doctor does not know: it comes from the right network, by the right interface.
    Perhaps,
    Surely,
}

/// A DNS packet of ours that is not tracked: a query on its way in, or an answer on its way out.
#[derive(Clone, Copy)]
struct Packet<'a> {
    address: IpAddr,
    port: u16,
    protocol: &'a str,
    answer: bool,
}

impl Packet<'_> {
    /// What a chain decides; `None`: nothing, the packet goes on where it came from.
    fn passes(&self, filter: &Ruleset, base: &Chain, chain: &str, depth: usize) -> Option<Passes> {
        let mut perhaps = None;
        for rule in filter.of(&base.table, chain).filter(|rule| self.meets(rule)) {
            let decided = match &rule.action {
                Action::Accept => Some(Passes::Surely),
                Action::Drop => Some(Passes::No),
                Action::Jump(next) if depth > 0 => self.passes(filter, base, next, depth - 1),
                _ => None,
            };
            match (decided, rule.extra) {
                (None, _) => {}
                (Some(decided), Extra::Nothing) if decided != Passes::Perhaps => {
                    return Some(perhaps.filter(|_| decided == Passes::No).unwrap_or(decided));
                }
                (Some(Passes::No), _) => {} // some packets are dropped here; a firewall's business
                (Some(_), _) => perhaps = Some(Passes::Perhaps),
            }
        }
        perhaps
    }

    /// Whether it can meet the rule.
    fn meets(&self, rule: &Rule) -> bool {
        let number = if self.protocol == "udp" { 17 } else { 6 };
        let (address, port) = if self.answer { (rule.from, rule.sport) } else { (rule.to, rule.dport) };
        matches!(rule.extra, Extra::Nothing | Extra::Something)
            && address.is_none_or(|address| address == self.address)
            && port.is_none_or(|port| port == self.port)
            && rule.protocol.is_none_or(|protocol| protocol == number)
            // One client's address or port is not every client's.
            && (if self.answer { (rule.to, rule.dport) } else { (rule.from, rule.sport) }) == (None, None)
    }
}

fn finding(chain: &Chain, worst: Passes, rows: &[String]) -> Option<Finding> {
    let (check, way) = match is_output(chain) {
        false => ("firewall.input", "queries to"),
        true => ("firewall.output", "answers from"),
    };
    let name = format!("{} chain {}", chain.table, chain.name);
    let remedy = rows.join("\n");
    match worst {
        Passes::Surely => None,
        Passes::Perhaps => {
            let what = format!(
                "{name} drops what it does not know. Some of its rules may let {way} our addresses pass, by interface \
                 or source: doctor cannot tell. To be sure, add these rows."
            );
            Some(Finding::note(check, what).remedy(remedy))
        }
        Passes::No => {
            let what = format!(
                "{name} drops what it does not know, and has no row that lets {way} our addresses pass: untracked \
                 packets belong to no established connection."
            );
            Some(Finding::problem(check, what, remedy))
        }
    }
}

impl Packet<'_> {
    /// The row that lets it pass, in the words of whoever keeps the chain.
    fn row(&self, chain: &Chain) -> String {
        let Self { address, port, protocol, answer } = self;
        let v6 = address.is_ipv6();
        if chain.is_iptables() {
            let program = match (chain.table.keeper, v6) {
                (Keeper::Legacy, false) => "iptables-legacy",
                (Keeper::Legacy, true) => "ip6tables-legacy",
                (Keeper::Nftables, false) => "iptables-nft",
                (Keeper::Nftables, true) => "ip6tables-nft",
            };
            let (side, ports) = if *answer { ("-s", "--sport") } else { ("-d", "--dport") };
            let chain = &chain.name;
            return format!(
                "{program} -w 5 -I {chain} 1 {side} {address} -p {protocol} {ports} {port} -j ACCEPT"
            );
        }
        if chain.table.name == "firewalld" && !answer {
            let family = if v6 { "ipv6" } else { "ipv4" };
            return format!(
                "firewall-cmd --permanent --add-rich-rule='rule family={family} destination address={address} \
                 port port={port} protocol={protocol} accept' && firewall-cmd --reload"
            );
        }
        let family = if v6 { "ip6" } else { "ip" };
        let (side, ports) = if *answer { ("saddr", "sport") } else { ("daddr", "dport") };
        let Chain { table, name, .. } = chain;
        format!("nft insert rule {table} {name} {family} {side} {address} {protocol} {ports} {port} accept")
    }
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
    fn rows_that_doctor_cannot_judge_are_told_from_those_that_cannot_help() {
        for (row, level) in [
            ("-A INPUT -i cni0 -j ACCEPT\n", Level::Note),
            (
                "-A INPUT -s 10.244.0.0/16 -p udp -m udp --dport 53 -j ACCEPT\n-A INPUT -p tcp -j ACCEPT\n",
                Level::Note,
            ),
            ("-A INPUT -i cni0 -j ACCEPT\n-A INPUT -p udp -j DROP\n", Level::Note),
            ("-A INPUT -i lo -j ACCEPT\n", Level::Problem),
            ("-A INPUT -i eth0 -j DROP\n-A INPUT -j ACCEPT\n", Level::Healthy),
        ] {
            assert_eq!(found(&format!(":INPUT DROP [0:0]\n{ESTABLISHED}{row}"))[0].level, level, "{row}");
        }
    }

    #[test]
    fn answers_are_looked_for_the_other_way_round() {
        let rows = "-A OUTPUT -s 169.254.20.10/32 -p udp -m udp --sport 53 -j ACCEPT\n";
        let found = found(&format!(":OUTPUT DROP [0:0]\n{rows}"));
        let [finding] = &found[..] else { panic!("{found:?}") };
        let row = "iptables-legacy -w 5 -I OUTPUT 1 -s 169.254.20.10 -p tcp --sport 53 -j ACCEPT";
        assert_eq!((finding.check, finding.remedy.as_deref()), ("firewall.output", Some(row)));
    }
}
