//! The rules in iptables: both variants, both families, beside other programs' rules and when others meddle.
//!
//! | file | what it holds |
//! |---|---|
//! | `kernel` | what stands in the kernel after up, check, down and teardown |
//! | `trouble` | locks, missing parts, no permission, two at once: what is said, and what stands then |
//! | `traffic` | pods ask: nothing is tracked, and without us the cluster DNS answers |
//! | `tools` | folders of programs for the library to find, and iptables-save |

mod kernel;
pub mod tools;
mod traffic;
mod trouble;

use sidestep::node::Plan;

/// Two addresses, a port for HTTP, and a server of the cluster DNS of each family.
fn plan() -> Plan {
    Plan {
        addresses: vec!["169.254.20.10".parse().unwrap(), "fd00:53::10".parse().unwrap()],
        dns_port: 53,
        http_ports: vec![8080],
        fallbacks: vec!["10.9.9.9:53".parse().unwrap(), "[fd99::9]:53".parse().unwrap()],
        ..Plan::default()
    }
}

/// The same without fail-open: node-cache's rules.
fn classic() -> Plan {
    Plan { fallbacks: Vec::new(), ..plan() }
}
