//! The cluster DNS: at which address it is, and who says so.
//!
//! A node does not know it by itself. Whatever names it is believed, and named in what doctor says.

use std::net::IpAddr;

use super::Subject;
use super::filter::Ruleset;
use crate::config::Target;

/// The kubelet's configuration, where kubeadm puts it.
const KUBELET: &str = "var/lib/kubelet/config.yaml";

/// An address of the cluster DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDns {
    /// The address.
    pub address: IpAddr,
    /// Who says so.
    pub source: String,
}

/// All that is known, each address once, and what the kubelet tells pods to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Addresses of the cluster DNS; none of our own.
    pub servers: Vec<ClusterDns>,
    /// `clusterDNS` of the kubelet: what pods find in their resolv.conf.
    pub pods_ask: Vec<IpAddr>,
}

impl Cluster {
    /// Gathers it. `ours`: addresses that we hold; the kubelet may name one of them.
    pub fn find(
        subject: &Subject,
        filter: &Ruleset,
        services: &[(std::net::SocketAddr, String)],
        ours: &[IpAddr],
    ) -> Self {
        let mut cluster = Self::default();
        for (zone, target) in &subject.upstreams {
            if let (true, Target::Server(server)) = (zone == &subject.cluster_domain, target) {
                cluster.add(server.address.ip(), format!("the configuration's servers of {zone}"));
            }
        }
        cluster.pods_ask = subject.root.text(KUBELET).map(|yaml| kubelet(&yaml)).unwrap_or_default();
        for address in cluster.pods_ask.clone() {
            if !ours.contains(&address) {
                cluster.add(address, format!("clusterDNS of /{KUBELET}"));
            }
        }
        let named =
            |name: &str| name.contains("kube-system/kube-dns") || name.contains("kube-system/coredns");
        for rule in &filter.rules {
            if let (Some(address), Some(53), Some(comment)) = (rule.to, rule.dport, &rule.comment)
                && named(comment)
                && !comment.contains("NodeLocal")
            {
                cluster.add(address, format!("kube-proxy's rule \"{comment}\""));
            }
        }
        for (service, chain) in
            services.iter().filter(|(service, chain)| service.port() == 53 && named(chain))
        {
            cluster.add(service.ip(), format!("kube-proxy's chain {chain}"));
        }
        if let Ok(text) = subject.root.text("etc/resolv.conf") {
            for address in pods_own(&text, &subject.cluster_domain).into_iter().filter(|a| !ours.contains(a))
            {
                cluster.add(address, "/etc/resolv.conf, whose search list is that of a pod".to_owned());
            }
        }
        cluster
    }

    fn add(&mut self, address: IpAddr, source: String) {
        if !self.servers.iter().any(|known| known.address == address) {
            self.servers.push(ClusterDns { address, source });
        }
    }
}

/// The list `clusterDNS` of a kubelet's configuration: YAML, of which only this list is read.
fn kubelet(yaml: &str) -> Vec<IpAddr> {
    let mut lines = yaml.lines().skip_while(|line| !line.starts_with("clusterDNS:"));
    let Some(first) = lines.next() else { return Vec::new() };
    let inline = first.trim_start_matches("clusterDNS:").trim_matches([' ', '[', ']']).split(',');
    let items = lines.map_while(|line| line.trim_start().strip_prefix("- "));
    inline.chain(items).filter_map(|word| word.trim_matches([' ', '"', '\'']).parse().ok()).collect()
}

/// The name servers of a pod's resolv.conf, which the kubelet writes with a search list under `svc.DOMAIN`.
fn pods_own(text: &str, domain: &str) -> Vec<IpAddr> {
    let suffix = format!("svc.{domain}");
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    if !lines.clone().any(|line| line.first() == Some(&"search") && line.contains(&suffix.as_str())) {
        return Vec::new();
    }
    lines
        .by_ref()
        .filter(|line| line.first() == Some(&"nameserver"))
        .filter_map(|line| line.get(1)?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_list_is_read_in_both_forms() {
        let expected: Vec<IpAddr> = vec!["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()];
        let block = "apiVersion: v1\nclusterDNS:\n- 10.96.0.10\n- \"fd00::a\"\nclusterDomain: cluster.local\n- 1.1.1.1\n";
        assert_eq!(kubelet(block), expected);
        assert_eq!(kubelet("clusterDNS: [10.96.0.10, 'fd00::a']\n"), expected);
        assert_eq!(kubelet("kind: KubeletConfiguration\n"), Vec::<IpAddr>::new());
    }

    #[test]
    fn a_resolv_conf_of_a_pod_names_the_cluster_dns_and_a_hosts_does_not() {
        let pod = "search a.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(pods_own(pod, "cluster.local"), ["10.96.0.10".parse::<IpAddr>().unwrap()]);
        assert!(pods_own("search corp.example\nnameserver 10.0.0.1\n", "cluster.local").is_empty());
    }
}
