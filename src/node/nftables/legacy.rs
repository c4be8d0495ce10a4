//! iptables-legacy keeps its filter table where nfnetlink does not see it. That it is in use can be told; what is in
//! it cannot. So we say which rows it needs, if it drops.

use std::fs;
use std::net::IpAddr;

use super::accept::COMMENT;
use super::expr::IpFamily;
use crate::node::Plan;

/// A warning for each family whose legacy filter table is in use, with the exact rows that it needs if it drops.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let mut all = Vec::new();
    for (family, names, program) in [
        (IpFamily::V4, "ip_tables_names", "iptables-legacy"),
        (IpFamily::V6, "ip6_tables_names", "ip6tables-legacy"),
    ] {
        // Of this thread: a thread may be in a network namespace of its own.
        let names = fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        let addresses: Vec<IpAddr> =
            plan.addresses.iter().copied().filter(|address| IpFamily::of(*address) == family).collect();
        if names.lines().any(|name| name == "filter") && !addresses.is_empty() {
            all.push(warning(program, &addresses, plan.dns_port));
        }
    }
    all
}

fn warning(program: &str, addresses: &[IpAddr], port: u16) -> String {
    let mut rows = Vec::new();
    for address in addresses {
        for protocol in ["udp", "tcp"] {
            for (chain, end, side) in [("INPUT", "-d", "--dport"), ("OUTPUT", "-s", "--sport")] {
                rows.push(format!(
                    "{program} -I {chain} -p {protocol} {end} {address} {side} {port} -m comment --comment \
                     \"{COMMENT}\" -j ACCEPT"
                ));
            }
        }
    }
    format!(
        "the filter table of {program} is in use and cannot be seen over netlink. If it drops what it does not know, \
         untracked queries need: {}",
        rows.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_holds_rows_that_can_be_pasted() {
        let text = warning("iptables-legacy", &["169.254.20.10".parse().unwrap()], 53);
        let row = "iptables-legacy -I INPUT -p udp -d 169.254.20.10 --dport 53 -m comment --comment \
                   \"NodeLocal DNS Cache: allow DNS traffic\" -j ACCEPT";
        assert!(text.contains(row), "{text}");
        assert_eq!(text.matches("-j ACCEPT").count(), 4);
    }
}
