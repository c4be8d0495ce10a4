//! The way of a query from the address of a Service to the servers behind it, followed through the rules of whoever
//! translates it: chains of kube-proxy in iptables, its verdict map in nftables, IPVS, a plain DNAT rule.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::filter::{Action, Rule, Ruleset, Table};
use super::proxy::Proxy;

/// Chains that lead from a Service to its servers: Service, its servers, one server; with some to spare.
const DEPTH: usize = 6;

/// The way that somebody translates queries to one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// In which words of the kernel it stands.
    pub seen: Vec<String>,
    /// To which servers.
    pub servers: BTreeSet<SocketAddr>,
    /// Whether all queries of one client go to the same server (IPVS with source hashing): they do not race then.
    pub hashed: bool,
}

impl Translation {
    /// Follows queries over UDP to port 53 of the address.
    pub fn of(address: IpAddr, proxy: &Proxy, filter: &Ruleset) -> Self {
        let mut all = Self::default();
        for service in proxy.ipvs.iter().filter(|s| s.address == SocketAddr::new(address, 53)) {
            all.seen.push(format!("IPVS {} scheduler {}", service.address, service.scheduler));
            all.servers.extend(&service.servers);
            all.hashed = service.scheduler == "sh";
        }
        for rule in &filter.rules {
            let about =
                rule.to == Some(address) && matches!(rule.dport, None | Some(53)) && rule.protocol != Some(6);
            // Jumps elsewhere than in a NAT table do not translate.
            let translates = matches!(rule.action, Action::Translate(_)) || rule.table.name == "nat";
            if !about || !translates || rule.table.name.starts_with("sidestep") {
                continue;
            }
            let mut servers = BTreeSet::new();
            if follow(filter, &rule.table, &rule.action, DEPTH, &mut servers) {
                all.seen.push(format!(
                    "{} chain {}, {} packets",
                    rule.table,
                    rule.chain,
                    rule.packets.unwrap_or(0)
                ));
                all.servers.extend(servers);
            }
        }
        for (_, chain) in
            proxy.services.iter().filter(|(service, _)| *service == SocketAddr::new(address, 53))
        {
            all.seen.push(format!("map service-ips to chain {chain}"));
            all.servers.extend(endpoints(chain, filter));
        }
        all
    }
}

/// Whether an action ends in a translation, and to which servers.
fn follow(
    filter: &Ruleset,
    table: &Table,
    action: &Action,
    depth: usize,
    servers: &mut BTreeSet<SocketAddr>,
) -> bool {
    match action {
        Action::Translate(to) => {
            servers.extend(to);
            true
        }
        Action::Jump(chain) if depth > 0 => {
            let follow_all =
                |found, rule: &Rule| follow(filter, table, &rule.action, depth - 1, servers) || found;
            filter.of(table, chain).fold(false, follow_all)
        }
        _ => false,
    }
}

/// The servers of `service-HASH-NAMESPACE/NAME/udp/PORT`: chains `endpoint-HASH-NAMESPACE/NAME/udp/PORT__IP/PORT`.
fn endpoints(service: &str, filter: &Ruleset) -> BTreeSet<SocketAddr> {
    let Some(name) = service.splitn(3, '-').nth(2) else { return BTreeSet::new() };
    let read = |chain: &str| {
        let (of, server) = chain.strip_prefix("endpoint-")?.split_once('-')?.1.split_once("__")?;
        let (address, port) = server.rsplit_once('/')?;
        (of == name).then(|| Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?)))?
    };
    filter.chains.iter().filter_map(|chain| read(&chain.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::filter::{Family, legacy};

    #[test]
    fn rules_in_a_circle_are_followed_only_so_far() {
        let filter = legacy::parse("*nat\n-A A -d 10.96.0.10/32 -j B\n-A B -j A\n-A A -j B\n", Family::Ip);
        assert_eq!(
            Translation::of("10.96.0.10".parse().unwrap(), &Proxy::default(), &filter),
            Translation::default()
        );
    }
}
