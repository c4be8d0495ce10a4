//! What sidestep (or NodeLocal DNSCache before it) has put up on this node: link, addresses, rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::filter::{Action, Family, Rule, Ruleset};
use super::finding::Finding;
use crate::node::link::overview::Link;

/// Our table in nftables that goes with the process.
const TABLE: &str = "sidestep";
/// The table of nftables that stays when the process is gone, with the sleeping rows.
pub const FAILOPEN: &str = "sidestep-failopen";
/// How rules in iptables are recognised: the comment that node-cache gave them.
const COMMENT: &str = "NodeLocal DNS Cache: skip conntrack";

/// Addresses that are ours by configuration, and those that our link carries, each once.
pub fn addresses(wanted: &[IpAddr], links: &[Link], interface: &str) -> Vec<IpAddr> {
    let mut all = wanted.to_vec();
    for link in links.iter().filter(|link| link.name == interface) {
        all.extend(carried(link));
    }
    let mut seen = Vec::new();
    all.retain(|address| {
        !seen.contains(address) && {
            seen.push(*address);
            true
        }
    });
    all
}

/// The addresses of a link, but for the one that IPv6 gives every link.
fn carried(link: &Link) -> Vec<IpAddr> {
    let own = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    link.addresses.iter().copied().filter(|address| !own(address)).collect()
}

/// The link and its addresses.
pub fn link(wanted: &[IpAddr], links: &[Link], interface: &str) -> Vec<Finding> {
    const CHECK: &str = "node.link";
    let link = links.iter().find(|link| link.name == interface);
    let mut findings = Vec::new();
    match link {
        None if wanted.is_empty() => {
            return vec![
                Finding::note(CHECK, format!("sidestep is not set up on this node: no link {interface}."))
                    .remedy("run sidestep with --node-address, or tell doctor which: --node-address, --interface, --config"),
            ];
        }
        None => {}
        Some(link) if carried(link).is_empty() => findings.push(Finding::problem(
            CHECK,
            format!("Link {interface} carries no address."),
            "restart sidestep; if the address goes again, keep NetworkManager and networkd off the link (unmanaged)",
        )),
        Some(link) => findings.push(
            Finding::healthy(CHECK, format!("Link {interface} carries {}.", list(&carried(link))))
                .evidence(format!("kind {}, {}", kind(link), if link.up { "up" } else { "down" })),
        ),
    }
    findings.extend(wanted.iter().filter_map(|address| missing(*address, links, interface)));
    findings
}

fn kind(link: &Link) -> &str {
    if link.kind.is_empty() { "device" } else { &link.kind }
}

/// What is wrong with an address that should be here.
fn missing(address: IpAddr, links: &[Link], interface: &str) -> Option<Finding> {
    const CHECK: &str = "node.address";
    match links.iter().find(|link| link.addresses.contains(&address)) {
        Some(link) if link.name == interface => None,
        Some(link) => {
            Some(Finding::note(CHECK, format!("{address} stands on link {}, not on {interface}.", link.name)))
        }
        None => Some(Finding::problem(
            CHECK,
            format!("{address} is on no link: pods that ask it get no answer."),
            "start sidestep with --node-address, or look in its log why the address went",
        )),
    }
}

/// Addresses as a list for people.
fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether anything of ours keeps packets untracked.
pub fn has_rules(filter: &Ruleset) -> bool {
    filter.rules.iter().any(is_notrack)
}

fn is_notrack(rule: &Rule) -> bool {
    let ours = (rule.table.name == TABLE && rule.table.family == Family::Inet)
        || rule.comment.as_deref() == Some(COMMENT);
    ours && rule.action == Action::Notrack
}

/// What came of the queries to our addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// One was answered, so that the rules must have counted its packets.
    pub answered: bool,
    /// All were answered, and none is tracked.
    pub clean: bool,
}

/// The rules; `later`: as they are after the queries.
pub fn rules(held: &[IpAddr], filter: &Ruleset, later: &Ruleset, asked: Asked) -> Vec<Finding> {
    let mut findings = vec![notrack(held, filter, later, asked)];
    findings.extend(piled_up(filter));
    findings.extend(foreign(held, filter));
    if has_rules(filter) || filter.chains.iter().any(|chain| chain.table.name == FAILOPEN) {
        findings.push(fail_open(filter));
    }
    findings
}

fn notrack(held: &[IpAddr], filter: &Ruleset, later: &Ruleset, asked: Asked) -> Finding {
    const CHECK: &str = "node.rules";
    let rows = filter.rules.iter().filter(|rule| is_notrack(rule));
    let places: BTreeMap<String, usize> = rows.fold(BTreeMap::new(), |mut places, rule| {
        *places.entry(rule.table.to_string()).or_default() += 1;
        places
    });
    if places.is_empty() {
        return if held.is_empty() {
            Finding::healthy(CHECK, "No NOTRACK rules of ours, and no address of ours that would need them.")
        } else if asked.clean {
            Finding::note(
                CHECK,
                "There are no NOTRACK rules of ours; doctor's queries were not tracked even so.",
            )
            .remedy("nothing, if nothing on this node tracks connections or another agent sees to it")
        } else {
            Finding::problem(
                CHECK,
                format!("{} without NOTRACK rules: what pods ask there is tracked.", list(held)),
                "start sidestep, or look in its log why the rules are not there (--firewall none puts up none)",
            )
        };
    }
    let packets = |filter: &Ruleset| {
        filter.rules.iter().filter(|r| is_notrack(r)).filter_map(|r| r.packets).sum::<u64>()
    };
    let (before, after) = (packets(filter), packets(later));
    let finding = if asked.answered && after <= before {
        Finding::problem(
            CHECK,
            "NOTRACK rules are there, but a query to our address did not meet them.",
            "compare the rules' addresses and port with the link's: nft list table inet sidestep; iptables-save -t raw. \
             Restart sidestep to have them made anew",
        )
    } else {
        let moved = if asked.answered { ", and they count" } else { "" };
        Finding::healthy(CHECK, format!("NOTRACK rules are there{moved}."))
    };
    let places = places.iter().map(|(table, rows)| format!("{table}: {rows} NOTRACK rows"));
    let mut finding = finding.evidence(format!("{before} packets before doctor's queries, {after} after"));
    finding.evidence.extend(places);
    finding
}

/// NOTRACK that does not go with the process: rows about our addresses outside of our own table, such as those that a
/// node-cache has left in iptables. Where our rows are in iptables themselves, those under node-cache's comment are
/// taken for ours.
fn foreign(held: &[IpAddr], filter: &Ruleset) -> Option<Finding> {
    /// Rows that are named.
    const MOST: usize = 6;
    let is_own = |rule: &Rule| rule.table.name == TABLE && rule.table.family == Family::Inet;
    let owns = filter.rules.iter().any(|rule| rule.action == Action::Notrack && is_own(rule));
    let about =
        |rule: &Rule| [rule.from, rule.to].into_iter().flatten().any(|address| held.contains(&address));
    let foreign = |rule: &&Rule| {
        rule.action == Action::Notrack
            && about(rule)
            && !is_own(rule)
            && (owns || rule.comment.as_deref() != Some(COMMENT))
    };
    let rows: Vec<&Rule> = filter.rules.iter().filter(foreign).collect();
    let first = rows.first()?;
    const CHECK: &str = "node.foreign";
    let what = format!(
        "Rows that are not ours keep packets for our addresses untracked, the first in {}: they stay when sidestep ends, \
         and keep pods from the cluster DNS then.",
        first.table
    );
    const REMEDY: &str = "if no other node cache runs here: stop sidestep, run `sidestep teardown`, which takes node-cache's \
                          rows along, and start it again; delete other rows by hand";
    let finding = if has_rules(filter) {
        Finding::problem(CHECK, what, REMEDY)
    } else {
        Finding::note(CHECK, what).remedy(REMEDY)
    };
    let named = rows.iter().take(MOST).map(|rule| format!("{} {}: {rule}", rule.table, rule.chain));
    let finding = named.fold(finding, Finding::evidence);
    match rows.len().saturating_sub(MOST) {
        0 => Some(finding),
        more => Some(finding.evidence(format!("and {more} more"))),
    }
}

/// The same rule more than once: another agent adds rules without looking, or looks and is told nonsense.
fn piled_up(filter: &Ruleset) -> Option<Finding> {
    let rows = filter.rules.iter().filter(|rule| rule.comment.as_deref() == Some(COMMENT));
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for rule in rows {
        // Without what they have counted, two of the same read the same.
        *times.entry(format!("{:?}", Rule { packets: None, ..rule.clone() })).or_default() += 1;
    }
    let most = times.into_values().max().unwrap_or(0);
    (most > 1).then(|| {
        Finding::problem(
            "node.duplicates",
            format!("The same iptables rule stands {most} times: every packet walks through all of them."),
            "run `sidestep teardown`, then start sidestep; it adds no rule twice. Two node caches on one node also do this",
        )
    })
}

fn fail_open(filter: &Ruleset) -> Finding {
    const CHECK: &str = "node.failopen";
    let sleeping = filter.rules.iter().filter(|rule| rule.table.name == FAILOPEN);
    let translations = sleeping.filter(|rule| matches!(rule.action, Action::Translate(_))).count();
    if translations > 0 {
        return Finding::healthy(
            CHECK,
            "If sidestep dies, pods are handed to the cluster DNS (sleeping DNAT rules are there).",
        )
        .evidence(format!("table inet {FAILOPEN}: {translations} rows"));
    }
    Finding::note(CHECK, "If sidestep dies, pods at its link-local addresses have no DNS: there are no sleeping DNAT rules.")
        .remedy("use nftables (--firewall nftables), leave fail_open on, and name the cluster's DNS pods as upstreams")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::filter::legacy;
    use crate::doctor::finding::Level;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rows(packets: u64, times: usize) -> Ruleset {
        let row = format!(
            "[{packets}:0] -A OUTPUT -d 169.254.20.10/32 -p udp -m comment --comment \"{COMMENT}\" -m udp --dport 53 -j CT --notrack\n"
        );
        legacy::parse(&format!("*raw\n{}", row.repeat(times)), Family::Ip)
    }

    #[test]
    fn an_address_of_ours_is_on_our_link_elsewhere_or_gone() {
        let link = |name: &str, address: &str| Link {
            name: name.to_owned(),
            addresses: vec![ip(address)],
            ..Link::default()
        };
        let links = [link("nodelocaldns", "169.254.20.10"), link("eth0", "10.0.0.7")];
        let levels = |wanted: &[IpAddr], interface: &str| {
            super::link(wanted, &links, interface).iter().map(|f| (f.check, f.level)).collect::<Vec<_>>()
        };
        let healthy = ("node.link", Level::Healthy);
        assert_eq!(levels(&[ip("169.254.20.10")], "nodelocaldns"), [healthy]);
        assert_eq!(levels(&[ip("10.0.0.7")], "nodelocaldns"), [healthy, ("node.address", Level::Note)]);
        assert_eq!(levels(&[ip("10.96.0.10")], "nodelocaldns"), [healthy, ("node.address", Level::Problem)]);
        assert_eq!(levels(&[], "other"), [("node.link", Level::Note)]);
        assert_eq!(levels(&[ip("10.96.0.10")], "other"), [("node.address", Level::Problem)]);
    }

    #[test]
    fn rules_must_be_there_and_must_count() {
        let held = [ip("169.254.20.10")];
        let level = |before: &Ruleset, after: &Ruleset, answered| {
            notrack(&held, before, after, Asked { answered, clean: false }).level
        };
        assert_eq!(level(&Ruleset::default(), &Ruleset::default(), true), Level::Problem);
        assert_eq!(level(&rows(4, 1), &rows(5, 1), true), Level::Healthy);
        assert_eq!(level(&rows(4, 1), &rows(4, 1), true), Level::Problem);
        assert_eq!(level(&rows(4, 1), &rows(4, 1), false), Level::Healthy);
        assert_eq!(
            notrack(&[], &Ruleset::default(), &Ruleset::default(), Asked::default()).level,
            Level::Healthy
        );
        let clean = Asked { answered: true, clean: true };
        assert_eq!(notrack(&held, &Ruleset::default(), &Ruleset::default(), clean).level, Level::Note);
    }

    #[test]
    fn rows_that_do_not_go_with_us_are_named() {
        let held = [ip("169.254.20.10")];
        let mut all = rows(1, 1);
        assert_eq!(foreign(&held, &all), None, "they may be those of our own iptables");
        let mut own = all.rules[0].clone();
        own.table.name = TABLE.to_owned();
        own.table.family = Family::Inet;
        own.comment = None;
        all.rules.push(own);
        let found = foreign(&held, &all).unwrap();
        assert_eq!(found.level, Level::Problem);
        assert_eq!(
            found.evidence,
            [format!(
                "iptables-legacy raw OUTPUT: -d 169.254.20.10 -p udp --dport 53 -j NOTRACK (\"{COMMENT}\")"
            )]
        );
        assert_eq!(foreign(&[ip("10.0.0.1")], &all), None, "they are about somebody else");
        let mut theirs = rows(1, 7);
        theirs.rules.iter_mut().for_each(|rule| rule.comment = None);
        let found = foreign(&held, &theirs).unwrap();
        assert_eq!((found.level, found.evidence.len()), (Level::Note, 7));
        assert_eq!(found.evidence[6], "and 1 more");
    }

    #[test]
    fn rules_that_pile_up_are_a_problem() {
        assert_eq!(piled_up(&rows(1, 1)), None);
        assert!(piled_up(&rows(1, 3)).unwrap().what.contains("3 times"));
    }

    #[test]
    fn the_addresses_that_ipv6_gives_every_link_are_not_ours() {
        let link =
            Link { name: "n".to_owned(), addresses: vec![ip("fe80::1"), ip("fd00::53")], ..Link::default() };
        assert_eq!(
            addresses(&[ip("fd00::53"), ip("10.0.0.1")], &[link], "n"),
            [ip("fd00::53"), ip("10.0.0.1")]
        );
    }
}
