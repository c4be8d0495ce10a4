//! What stands in the kernel after up, check, down and teardown.

use sidestep::node::iptables::{Family, overview_in, teardown_in};
use sidestep::node::{DriftKind, Firewall, Plan};

use super::tools::{Folder, VARIANTS, all, iptables, saved, sorted};
use super::{classic, plan};
use crate::namespace::alone;

/// node-cache's rules for one address, written out; what comes in has to find a socket besides.
fn node_caches(address: &str) -> Vec<String> {
    const SKIP: &str = "-m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK";
    const ALLOW: &str = "-m comment --comment \"NodeLocal DNS Cache: allow DNS traffic\" -j ACCEPT";
    [
        format!("raw -A PREROUTING -d {address} -p udp -m udp --dport 53 -m socket {SKIP}"),
        format!("raw -A PREROUTING -d {address} -p tcp -m tcp --dport 53 -m socket {SKIP}"),
        format!("raw -A OUTPUT -s {address} -p udp -m udp --sport 53 {SKIP}"),
        format!("raw -A OUTPUT -s {address} -p tcp -m tcp --sport 53 {SKIP}"),
        format!("raw -A OUTPUT -d {address} -p udp -m udp --dport 53 {SKIP}"),
        format!("raw -A OUTPUT -d {address} -p tcp -m tcp --dport 53 {SKIP}"),
        format!("raw -A OUTPUT -d {address} -p tcp -m tcp --dport 8080 {SKIP}"),
        format!("raw -A OUTPUT -s {address} -p tcp -m tcp --sport 8080 {SKIP}"),
        format!("filter -A INPUT -d {address} -p udp -m udp --dport 53 {ALLOW}"),
        format!("filter -A INPUT -d {address} -p tcp -m tcp --dport 53 {ALLOW}"),
        format!("filter -A OUTPUT -s {address} -p udp -m udp --sport 53 {ALLOW}"),
        format!("filter -A OUTPUT -s {address} -p tcp -m tcp --sport 53 {ALLOW}"),
    ]
    .into()
}

/// Without the two rules for our questions to ourselves.
fn without_probes(rules: Vec<String>) -> Vec<String> {
    let (probes, others): (Vec<_>, Vec<_>) =
        rules.into_iter().partition(|rule| rule.contains("-m mark --mark 0x53"));
    assert_eq!(probes.len(), 2, "{probes:?}");
    others
}

#[test]
fn node_caches_rules_as_far_as_there_is_a_socket() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            folder.find().up(&classic()).unwrap();
            for (family, address) in [(Family::V4, "169.254.20.10/32"), (Family::V6, "fd00:53::10/128")] {
                let rules = saved(family, variant);
                assert!(
                    rules
                        .iter()
                        .find(|rule| rule.starts_with("raw -A OUTPUT"))
                        .unwrap()
                        .contains("--mark 0x53")
                );
                assert_eq!(sorted(without_probes(rules)), sorted(node_caches(address)));
            }
        });
    }
}

#[test]
fn with_servers_to_fall_back_to_rows_sleep() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            iptables(Family::V4, variant, "-t nat -A PREROUTING -d 10.96.0.10 -j ACCEPT");
            let mut firewall = folder.find();
            firewall.up(&plan()).unwrap();
            assert!(firewall.fails_open(&plan(), Family::V4) && firewall.fails_open(&plan(), Family::V6));
            for family in Family::ALL {
                let rules = saved(family, variant);
                let socket: Vec<_> = rules.iter().filter(|rule| rule.contains("-m socket")).collect();
                assert_eq!(socket.len(), 2, "{socket:?}");
                assert!(socket.iter().all(|rule| rule.starts_with("raw -A PREROUTING")));
                assert_eq!(rules.iter().filter(|rule| rule.contains("DNAT --to-destination")).count(), 4);
                assert_eq!(rules.iter().filter(|rule| rule.contains("MASQUERADE")).count(), 1);
            }
            let nat =
                saved(Family::V4, variant).into_iter().find(|rule| rule.starts_with("nat -A PREROUTING"));
            assert!(nat.unwrap().contains("10.96.0.10"), "sleeping rows stand behind others'");
        });
    }
}

#[test]
fn twice_up_down_and_teardown_leave_what_was_there_before() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            for family in Family::ALL {
                iptables(
                    family,
                    variant,
                    "-t raw -A OUTPUT -p icmp -m comment --comment \"others do this\" -j NOTRACK",
                );
                iptables(family, variant, "-A INPUT -p tcp --dport 22 -j ACCEPT");
            }
            let before = all(variant);
            let mut firewall = folder.find();
            firewall.up(&plan()).unwrap();
            let up = all(variant);
            assert_eq!(up.len(), before.len() + 2 * (14 + 5));
            firewall.up(&plan()).unwrap();
            assert_eq!(firewall.check(&plan()).unwrap(), []);
            folder.find().up(&plan()).unwrap();
            assert_eq!(all(variant), up, "a second start changes nothing");
            let (found, faults) = overview_in(folder.path());
            assert_eq!((found.len(), faults), (38, Vec::new()));
            firewall.down().unwrap();
            let down = all(variant);
            let allow = down.iter().filter(|rule| rule.contains("allow DNS traffic")).count();
            assert_eq!(down.len(), before.len() + 2 * 5 + allow, "the sleeping rows stay: {down:?}");
            assert_eq!(allow, 2 * 4, "the last answers need them");
            firewall.leave().unwrap();
            let left = all(variant);
            assert_eq!(left.len(), before.len() + 2 * 5, "the sleeping rows stay: {left:?}");
            firewall.down().unwrap();
            firewall.leave().unwrap();
            assert_eq!(teardown_in(folder.path()), Ok(10));
            assert_eq!(teardown_in(folder.path()), Ok(0));
            assert_eq!(all(variant), before);
        });
    }
}

#[test]
fn a_check_puts_right_what_others_did() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            let mut firewall = folder.find();
            firewall.up(&plan()).unwrap();
            let up = sorted(all(variant));
            let udp = "PREROUTING -d 169.254.20.10/32 -p udp --dport 53 -m socket \
                       -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK";
            let kinds = |firewall: &mut sidestep::node::iptables::Iptables| {
                let drifts = firewall.check(&plan()).unwrap();
                assert_eq!(sorted(all(variant)), up, "{drifts:?}");
                assert_eq!(firewall.check(&plan()).unwrap(), []);
                drifts.into_iter().map(|drift| drift.kind).collect::<Vec<_>>()
            };
            iptables(Family::V4, variant, &format!("-t raw -D {udp}"));
            assert_eq!(kinds(&mut firewall), [DriftKind::Rules]);
            for _ in 0..3 {
                iptables(Family::V4, variant, &format!("-t raw -A {udp}"));
            }
            assert_eq!(kinds(&mut firewall), [DriftKind::Rules]);
            iptables(
                Family::V4,
                variant,
                &format!("-t raw -A {}", udp.replace("-m socket", "-m limit --limit 5/sec")),
            );
            assert_eq!(kinds(&mut firewall), [DriftKind::Rules]);
            iptables(Family::V6, variant, "-t nat -F");
            assert_eq!(kinds(&mut firewall), [DriftKind::FailOpen]);
            for table in ["raw", "filter", "nat"] {
                iptables(Family::V4, variant, &format!("-t {table} -F"));
            }
            assert_eq!(kinds(&mut firewall), [DriftKind::Rules, DriftKind::FailOpen]);
        });
    }
}

#[test]
fn rules_follow_the_plan() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            let mut firewall = folder.find();
            firewall.up(&plan()).unwrap();
            let servers: Vec<_> =
                ["10.9.9.9:53", "10.9.9.8:53", "10.9.9.7:5353", "[fd99::9]:53", "[fd99::8]:53"]
                    .map(|server| server.parse().unwrap())
                    .into();
            let next = Plan {
                addresses: vec!["169.254.20.11".parse().unwrap(), "fd00:53::10".parse().unwrap()],
                dns_port: 5353,
                http_ports: vec![],
                fallbacks: servers,
                ..Plan::default()
            };
            firewall.up(&next).unwrap();
            let rules = all(variant);
            assert!(
                !rules.iter().any(|rule| rule.contains("169.254.20.10") || rule.contains("port 53 ")),
                "{rules:?}"
            );
            assert_eq!(rules.len(), (12 + 4 * 3 + 1) + (12 + 4 * 2 + 1));
            assert_eq!(firewall.check(&next).unwrap(), []);
        });
    }
}

#[test]
fn what_earlier_runs_left_goes_and_what_node_cache_holds_stays() {
    for variant in VARIANTS {
        alone(move || {
            let folder = Folder::of(variant);
            let other = Plan { addresses: vec!["169.254.20.99".parse().unwrap()], ..plan() };
            folder.find().up(&other).unwrap();
            iptables(
                Family::V4,
                variant,
                "-t raw -A OUTPUT -s 169.254.20.77 -p udp --sport 53 \
                 -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK",
            );
            folder.find().up(&plan()).unwrap();
            let rules = all(variant);
            assert!(!rules.iter().any(|rule| rule.contains("169.254.20.99")), "{rules:?}");
            assert_eq!(rules.iter().filter(|rule| rule.contains("169.254.20.77")).count(), 1);
            assert_eq!(teardown_in(folder.path()), Ok(2 * 19 + 1));
            assert_eq!(all(variant), Vec::<String>::new());
        });
    }
}

#[test]
fn teardown_finds_both_variants() {
    alone(|| {
        for variant in VARIANTS {
            Folder::of(variant).find().up(&plan()).unwrap();
        }
        let both = Folder::of("nft").with("legacy");
        assert_eq!(overview_in(both.path()).0.len(), 4 * 19);
        assert_eq!(teardown_in(both.path()), Ok(4 * 19));
        assert_eq!(VARIANTS.map(|variant| all(variant).len()), [0, 0]);
        assert_eq!(
            teardown_in(Folder::empty().path()),
            Ok(0),
            "without iptables there is nothing to look at"
        );
    });
}
