//! The way of a query to the cluster DNS: who translates it (kube-proxy in one of its modes, Cilium, nobody), to how
//! many servers, and whether our addresses spare pods that way.

use std::net::IpAddr;

use super::cluster::{Cluster, ClusterDns};
use super::filter::Ruleset;
use super::finding::Finding;
use super::proxy::Proxy;
use super::translation::Translation;
use crate::node::link::overview::Link;

/// The check that says who translates.
const MODE: &str = "service.mode";
/// The link on which kube-proxy holds all Services' addresses in IPVS mode.
const IPVS_LINK: &str = "kube-ipvs0";

/// `whole`: whether the packet filter was read whole; what is not seen in a part of it may be in the other. `clean`:
/// our addresses at which a query was answered and left no entry.
pub fn judge(
    cluster: &Cluster,
    proxy: &Proxy,
    filter: &Ruleset,
    whole: bool,
    links: &[Link],
    clean: &[IpAddr],
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = match by_whom(proxy, filter, links) {
        None if whole => vec![nobody()],
        known => known.into_iter().collect(),
    };
    findings.extend(held_by_ipvs(cluster, links));
    if cluster.servers.is_empty() && whole {
        findings.push(
            Finding::note("service.address", "Nothing on this node says at which address the cluster DNS is.")
                .remedy("if this is a node of a cluster, name it in the configuration as a server of zone cluster.local"),
        );
    }
    for dns in &cluster.servers {
        let asked = &cluster.pods_ask;
        let us = !asked.is_empty() && asked.iter().all(|address| clean.contains(address));
        let pods = Pods::of(us || clean.contains(&dns.address), !asked.is_empty(), clean);
        let way = Translation::of(dns.address, proxy, filter);
        if whole || !way.seen.is_empty() {
            findings.push(translation(dns, &way, pods, proxy));
        }
    }
    findings
}

fn nobody() -> Finding {
    Finding::healthy(MODE, "No kube-proxy and no Cilium: nobody translates Services here.")
}

/// Which mode kube-proxy works in, or who else; `None`: there is no sign of anybody.
fn by_whom(proxy: &Proxy, filter: &Ruleset, links: &[Link]) -> Option<Finding> {
    let mut seen: Vec<String> =
        proxy.said.iter().map(|mode| format!("kube-proxy's /proxyMode says {mode}")).collect();
    let chain = filter.chains.iter().find(|chain| chain.name == "KUBE-SERVICES" && chain.table.name == "nat");
    let table = filter.chains.iter().find(|chain| chain.table.name == "kube-proxy");
    let ipvs = links.iter().find(|link| link.name == IPVS_LINK);
    let mode = if !proxy.cilium.is_empty() && chain.is_none() && table.is_none() && ipvs.is_none() {
        seen.extend(proxy.cilium.iter().cloned());
        let what = "Cilium translates Services at the pods' sockets: no rules of ours are needed for that.";
        return Some(with(Finding::healthy(MODE, what), seen));
    } else if let Some(link) = ipvs {
        seen.push(format!("link {}", link.name));
        "IPVS"
    } else if let Some(chain) = table {
        seen.push(format!("table {}", chain.table));
        "nftables"
    } else if let Some(chain) = chain {
        seen.push(format!("chain KUBE-SERVICES in {}", chain.table));
        "iptables"
    } else if let Some(mode) = &proxy.said {
        mode
    } else {
        return None;
    };
    Some(with(Finding::healthy(MODE, format!("kube-proxy translates Services in {mode} mode.")), seen))
}

fn with(mut finding: Finding, seen: Vec<String>) -> Finding {
    finding.evidence.extend(seen);
    finding
}

/// In IPVS mode the cluster's address is kube-proxy's; a second holder takes queries from it.
fn held_by_ipvs(cluster: &Cluster, links: &[Link]) -> Vec<Finding> {
    if !links.iter().any(|link| link.name == IPVS_LINK) {
        return Vec::new();
    }
    let twice = |dns: &&ClusterDns| {
        links.iter().any(|link| link.name != IPVS_LINK && link.addresses.contains(&dns.address))
    };
    let held = cluster.servers.iter().filter(twice);
    held.map(|dns| {
        Finding::problem(
            "service.ipvs",
            format!(
                "{} is held by {IPVS_LINK} and by a link of its own: in IPVS mode we must not hold it.",
                dns.address
            ),
            format!(
                "take {} out of [node] addresses; let pods ask a link-local address (kubelet: clusterDNS)",
                dns.address
            ),
        )
    })
    .collect()
}

/// Whom pods ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pods {
    /// Us, for certain.
    Us,
    /// Us or the cluster DNS: nothing on this node says it.
    Perhaps,
    /// The cluster DNS.
    Cluster,
}

impl Pods {
    /// `spared`: all that pods ask is clean; `known`: the kubelet says what they ask; `clean`: addresses of ours.
    fn of(spared: bool, known: bool, clean: &[IpAddr]) -> Self {
        match (spared, known || clean.is_empty()) {
            (true, _) => Self::Us,
            (false, false) => Self::Perhaps,
            (false, true) => Self::Cluster,
        }
    }
}

fn translation(dns: &ClusterDns, way: &Translation, pods: Pods, proxy: &Proxy) -> Finding {
    const CHECK: &str = "service.translation";
    let address = dns.address;
    let finding = if way.seen.is_empty() {
        let who = if proxy.cilium.is_empty() {
            "by any rule that doctor knows"
        } else {
            "by rules: Cilium does it"
        };
        Finding::healthy(CHECK, format!("Queries to the cluster DNS {address} are not translated {who}."))
    } else if pods == Pods::Perhaps {
        let what = format!(
            "Pods whose resolv.conf names the cluster DNS {address} pass us by: there they are translated and tracked."
        );
        Finding::note(CHECK, what)
            .remedy("see that the kubelet's clusterDNS names our address, not the cluster DNS's")
    } else if pods == Pods::Us {
        Finding::healthy(
            CHECK,
            format!("{address} is translated for those who pass us by; pods ask us and are not tracked."),
        )
    } else {
        let servers = match way.servers.len() {
            0 => "to servers that doctor cannot tell".to_owned(),
            1 => "to one server".to_owned(),
            n => format!("to one of {n} servers"),
        };
        let what = format!(
            "Pods' queries to the cluster DNS {address} are translated (DNAT) {servers} and tracked."
        );
        let cure = "let pods ask sidestep: --node-address 169.254.20.10 with the kubelet's clusterDNS set to it, or \
                    --node-address with the cluster DNS's own address where kube-proxy is not in IPVS mode";
        if way.servers.len() == 1 || way.hashed {
            Finding::note(CHECK, format!("{what} A full conntrack table loses lookups.")).remedy(cure)
        } else {
            let why = "A and AAAA of one lookup can go to different servers and race; late answers and a full \
                       conntrack table lose lookups.";
            Finding::problem(CHECK, format!("{what} {why}"), cure)
        }
    };
    let finding = finding.evidence(format!("{address} is the cluster DNS according to {}", dns.source));
    let servers = way.servers.iter().map(|server| format!("server {server}"));
    with(finding, way.seen.iter().cloned().chain(servers).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::filter::{Chain, Family, Keeper, Table, legacy};
    use crate::doctor::finding::Level;
    use crate::doctor::ipvs::Service;

    fn dns(address: &str) -> Cluster {
        let server = ClusterDns { address: address.parse().unwrap(), source: "a test".to_owned() };
        Cluster { servers: vec![server], pods_ask: Vec::new() }
    }

    const KUBE_PROXY: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
        -A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-SVC-T\n\
        -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-T\n\
        -A KUBE-SVC-T -m statistic --mode random --probability 0.5 -j KUBE-SEP-A\n\
        -A KUBE-SVC-T -j KUBE-SEP-B\n\
        -A KUBE-SEP-A -p udp -m udp -j DNAT --to-destination 10.244.0.5:53\n\
        -A KUBE-SEP-B -p udp -m udp -j DNAT --to-destination 10.244.0.6:53\nCOMMIT\n";

    #[test]
    fn the_chains_of_kube_proxy_are_followed_to_the_servers() {
        let filter = legacy::parse(KUBE_PROXY, Family::Ip);
        let found = judge(&dns("10.96.0.10"), &Proxy::default(), &filter, true, &[], &[]);
        let [mode, translation] = &found[..] else { panic!("{found:?}") };
        assert_eq!(mode.what, "kube-proxy translates Services in iptables mode.");
        assert_eq!(translation.level, Level::Problem);
        assert!(translation.what.contains("one of 2 servers"), "{}", translation.what);
        assert!(translation.evidence.contains(&"server 10.244.0.6:53".to_owned()));
        // Whoever asks us does not go that way.
        let spared = judge(
            &dns("10.96.0.10"),
            &Proxy::default(),
            &filter,
            true,
            &[],
            &["10.96.0.10".parse().unwrap()],
        );
        assert_eq!(spared[1].level, Level::Healthy);
        let other = judge(&dns("10.96.0.11"), &Proxy::default(), &filter, true, &[], &[]);
        assert_eq!(other[1].level, Level::Healthy);
    }

    #[test]
    fn kube_proxys_nftables_chains_name_the_servers() {
        let table = Table { keeper: Keeper::Nftables, family: Family::Ip, name: "kube-proxy".to_owned() };
        let chain = |name: &str| Chain { table: table.clone(), name: name.to_owned(), base: None };
        let filter = Ruleset {
            chains: vec![
                chain("service-ULMVA6XW-kube-system/kube-dns/udp/dns"),
                chain("endpoint-AAAAAAAA-kube-system/kube-dns/udp/dns__10.244.0.5/53"),
                chain("endpoint-BBBBBBBB-kube-system/kube-dns/udp/dns__10.244.0.6/53"),
                chain("endpoint-CCCCCCCC-kube-system/kube-dns/tcp/dns-tcp__10.244.0.6/53"),
            ],
            rules: Vec::new(),
        };
        let services = vec![("10.96.0.10:53".parse().unwrap(), filter.chains[0].name.clone())];
        let found =
            judge(&dns("10.96.0.10"), &Proxy { services, ..Proxy::default() }, &filter, true, &[], &[]);
        assert!(found[0].what.contains("nftables mode"));
        assert!(found[1].what.contains("one of 2 servers"), "{}", found[1].what);
    }

    #[test]
    fn in_ipvs_mode_the_clusters_address_must_not_be_ours() {
        let ipvs = vec![Service {
            address: "10.96.0.10:53".parse().unwrap(),
            scheduler: "rr".to_owned(),
            servers: vec!["10.244.0.5:53".parse().unwrap(), "10.244.0.6:53".parse().unwrap()],
        }];
        let link = |name: &str| Link {
            name: name.to_owned(),
            addresses: vec!["10.96.0.10".parse().unwrap()],
            ..Link::default()
        };
        let proxy = Proxy { ipvs, ..Proxy::default() };
        let filter = Ruleset::default();
        let checks = |links: &[Link]| {
            let found = judge(&dns("10.96.0.10"), &proxy, &filter, true, links, &[]);
            found.iter().map(|finding| (finding.check, finding.level)).collect::<Vec<_>>()
        };
        let hashed = Proxy {
            ipvs: vec![Service { scheduler: "sh".to_owned(), ..proxy.ipvs[0].clone() }],
            ..Proxy::default()
        };
        let found = judge(&dns("10.96.0.10"), &hashed, &filter, true, &[link(IPVS_LINK)], &[]);
        assert_eq!(found[1].level, Level::Note, "{found:?}");
        let only = [("service.mode", Level::Healthy), ("service.translation", Level::Problem)];
        assert_eq!(checks(&[link(IPVS_LINK)]), only);
        let both = checks(&[link(IPVS_LINK), link("nodelocaldns")]);
        assert!(both.contains(&("service.ipvs", Level::Problem)));
    }

    #[test]
    fn cilium_needs_no_rules() {
        let proxy = Proxy { cilium: vec!["link cilium_host".to_owned()], ..Proxy::default() };
        let found = judge(&dns("10.96.0.10"), &proxy, &Ruleset::default(), true, &[], &[]);
        assert!(found.iter().all(|finding| finding.level == Level::Healthy));
        assert!(found[0].what.starts_with("Cilium"));
    }
}
