//! Our tables in nftables, with `nft` and `iptables-nft` as witnesses.

use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use sidestep::node::nftables::{self, Nftables};
use sidestep::node::rules::ARMED;
use sidestep::node::{ADDRESSES, DriftKind, FALLBACKS, Firewall, Plan};

use super::namespace::{alone, ip};
use super::network::{Network, V4, V6, ask, ask_tcp, plan, sh};

/// Our tables as `nft` lists them, without what counts and what runs down.
fn listed() -> String {
    let text = sh("nft list tables | sort | while read table; do nft -s list $table; done");
    let lines = text.lines().map(|line| match line.split_once(" expires ") {
        Some((before, after)) => format!("{before}{}", after.split_once(' ').map_or("", |(_, rest)| rest)),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn kinds(drift: &[sidestep::node::Drift]) -> Vec<DriftKind> {
    drift.iter().map(|one| one.kind).collect()
}

#[test]
fn nft_reads_what_we_put_up() {
    alone(|| {
        let mut ours = Nftables::open().unwrap();
        assert!(ours.owns(), "this kernel has owner tables");
        ours.up(&Plan { notrack_upstream: true, ..plan() }).unwrap();
        let text = listed();
        for line in [
            "flags owner",
            "elements = { 169.254.20.10 }",
            "type inet_proto . ipv4_addr . inet_service . ipv4_addr . inet_service",
            "type filter hook prerouting priority raw; policy accept;",
            "udp dport 53 ip daddr @live4 counter notrack comment \"pods' queries are not tracked, so they neither \
             race nor find the table full\"",
            "udp sport 53 ip6 saddr @addresses6 counter update @live6 { ip6 saddr }",
            "tcp dport 8080 ip daddr @addresses4 counter notrack",
            "type nat hook prerouting priority dstnat + 5; policy accept;",
            "type nat hook postrouting priority srcnat + 5; policy accept;",
            "ip6 daddr @armed6 meta mark != 0x00000053 tcp flags syn / syn,ack counter dnat ip6 to [fd02::2]:53",
            "ip saddr @armed4 ct status dnat counter masquerade",
            "timeout 1m",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("unknown"), "{text}");
        assert_eq!(ours.warnings(), &[] as &[String]);
    });
}

#[test]
fn a_second_time_changes_nothing_and_a_successor_adopts() {
    alone(|| {
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        let handles = |table: &str| sh(&format!("nft -s -a list table inet {table}"));
        let (own, fail_open) = (handles("sidestep"), sh("nft -s -a list chains"));
        ours.up(&plan()).unwrap();
        assert_eq!(ours.check(&plan()).unwrap(), []);
        assert_eq!((handles("sidestep"), sh("nft -s -a list chains")), (own, fail_open));
        let rows = |text: &str| {
            text.lines().filter(|line| line.contains("dnat")).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = rows(&handles("sidestep-failopen"));
        drop(ours);
        assert!(!sh("nft list tables").contains("inet sidestep\n"));
        let mut successor = Nftables::open().unwrap();
        let drift = successor.check(&plan()).unwrap();
        assert_eq!(kinds(&drift), [DriftKind::Rules], "{drift:?}");
        assert_eq!(rows(&handles("sidestep-failopen")), before);
    });
}

#[test]
fn what_others_change_is_put_back() {
    alone(|| {
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        let right = listed();
        sh("nft flush ruleset");
        assert!(sh("nft list tables").contains("inet sidestep\n"), "an owner table survives");
        assert_eq!(kinds(&ours.check(&plan()).unwrap()), [DriftKind::FailOpen]);
        assert_eq!(listed(), right);
        for change in [
            "nft flush chain inet sidestep-failopen output",
            "nft insert rule inet sidestep-failopen prerouting counter accept",
            "nft flush set inet sidestep-failopen armed4",
            "nft add chain inet sidestep-failopen other",
            "nft add rule inet sidestep-failopen postrouting ip saddr @armed4 ct status dnat masquerade",
        ] {
            sh(change);
            let drift = ours.check(&plan()).unwrap();
            assert!(kinds(&drift).iter().all(|kind| *kind == DriftKind::FailOpen), "{change}: {drift:?}");
            assert!(!drift.is_empty(), "{change}");
            assert_eq!(listed(), right, "{change}");
            assert_eq!(ours.check(&plan()).unwrap(), [], "{change}");
        }
    });
}

#[test]
fn a_changed_plan_keeps_what_the_sets_have_learned() {
    alone(|| {
        ip(&format!("addr add {V4}/32 dev lo"));
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        // What leaves from our address and port is an answer.
        UdpSocket::bind((V4, 53)).unwrap().send_to(b"!", (V4, 9)).unwrap();
        let live = || nftables::read().unwrap().live.iter().map(|(address, _)| *address).collect::<Vec<_>>();
        assert_eq!(live(), [V4.parse::<IpAddr>().unwrap()]);
        let handles = || sh("nft -a list table inet sidestep | grep -E '(set|chain) .*handle'");
        let before = handles();
        let other = Plan { addresses: vec![V4.parse().unwrap()], http_ports: vec![], ..plan() };
        ours.up(&other).unwrap();
        assert_eq!(handles(), before, "the table was refilled, not replaced");
        assert_eq!(live().len(), 1);
        let text = listed();
        assert!(!text.contains(V6) && !text.contains("8080") && text.contains(V4), "{text}");
        ours.up(&Plan { fallbacks: vec![], ..other }).unwrap();
        assert!(!sh("nft list tables").contains("failopen"), "nowhere to fall back to");
    });
}

#[test]
fn the_sleeping_rows_are_armed_anew() {
    alone(|| {
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        let left = || nftables::read().unwrap().armed.iter().map(|(_, left)| *left).collect::<Vec<_>>();
        std::thread::sleep(Duration::from_millis(60));
        let before = left();
        assert!(before.iter().all(|left| *left < ARMED - Duration::from_millis(50)), "{before:?}");
        ours.down().unwrap();
        assert!(left().iter().zip(&before).all(|(now, before)| now > before), "{before:?}, {:?}", left());
    });
}

#[test]
fn without_the_right_to_we_say_what_is_needed() {
    alone(|| {
        set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            },
        )
        .unwrap();
        let said = Nftables::open().unwrap_err().what;
        assert!(said.contains("CAP_NET_ADMIN") && said.contains("--firewall none"), "{said}");
        let said = nftables::teardown().unwrap_err();
        assert!(said.iter().all(|fault| fault.what.contains("CAP_NET_ADMIN")), "{said:?}");
    });
}

#[test]
fn a_legacy_filter_table_is_warned_of() {
    alone(|| {
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        assert_eq!(ours.warnings(), &[] as &[String]);
        // Without a lock in /run, which not everybody may write to.
        sh("XTABLES_LOCKFILE=/dev/null iptables-legacy -P INPUT DROP");
        ours.check(&plan()).unwrap();
        let [warning] = ours.warnings() else { panic!("{:?}", ours.warnings()) };
        let rows = warning.split_once("need: ").unwrap().1.to_owned();
        sh(&rows.replace("iptables-legacy", "XTABLES_LOCKFILE=/dev/null iptables-legacy"));
        assert_eq!(sh("XTABLES_LOCKFILE=/dev/null iptables-legacy -S").matches("NodeLocal").count(), 4);
    });
}

#[test]
fn down_leaves_the_sleeping_rows_and_teardown_nothing() {
    alone(|| {
        let mut ours = Nftables::open().unwrap();
        ours.down().unwrap();
        ours.up(&plan()).unwrap();
        ours.down().unwrap();
        let tables = sh("nft list tables");
        assert_eq!(tables.trim(), "table inet sidestep-failopen");
        ours.up(&plan()).unwrap();
        let faults = nftables::teardown().unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        let me = format!("belongs to process {}", std::process::id());
        assert!(faults[0].what.contains(&me), "{}", faults[0]);
        let mut second = Nftables::open().unwrap();
        assert!(second.up(&plan()).unwrap_err().what.contains(&me));
        drop(second);
        drop(ours);
        assert_eq!(nftables::teardown().unwrap(), ["nftables: table inet sidestep-failopen"]);
        assert_eq!(nftables::teardown().unwrap().len(), 0);
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn what_a_run_without_owner_left_is_replaced() {
    alone(|| {
        sh(
            "nft add table inet sidestep; nft 'add chain inet sidestep old { type filter hook input priority 0; }'",
        );
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        let text = listed();
        assert!(text.contains("flags owner") && !text.contains("chain old"), "{text}");
    });
}

#[test]
fn events_tell_of_others_only() {
    alone(|| {
        let mut ours = Nftables::open().unwrap();
        let mut events = nftables::Events::listen(ours.port().unwrap()).unwrap();
        ours.up(&plan()).unwrap();
        ours.check(&plan()).unwrap();
        assert!(!events.changed().unwrap(), "our own changes");
        sh("nft add table ip other; nft 'add set ip other s { type ipv4_addr; }'");
        assert!(events.changed().unwrap(), "a table of others");
        sh("nft add element ip other s '{ 10.0.0.1 }'");
        assert!(!events.changed().unwrap(), "an element of a set of others");
        sh("nft flush set inet sidestep-failopen armed4");
        assert!(events.changed().unwrap(), "a set of ours");
    });
}

#[test]
fn the_overview_tells_what_there_is() {
    alone(|| {
        assert_eq!(nftables::read().unwrap(), nftables::Overview::default());
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        let overview = nftables::read().unwrap();
        let own = overview.own.unwrap();
        assert_eq!(own.owner.unwrap().process, Some(std::process::id()));
        assert!(
            own.rows.iter().any(|row| row.chain == "output" && row.reason.contains("shows that we live"))
        );
        let mut addresses = plan().addresses;
        addresses.sort();
        assert_eq!(overview.addresses, addresses);
        assert_eq!(overview.live, []);
        assert_eq!(overview.fallbacks, plan().fallbacks);
        assert_eq!(overview.armed.iter().map(|(address, _)| *address).collect::<Vec<_>>(), addresses);
        assert!(overview.armed.iter().all(|(_, left)| left.as_secs() > 800 && left.as_secs() <= 900));
    });
}

/// A node whose other rules drop what they do not know; answers still come through.
fn behind(rules: &'static str, chains: &[&str]) -> (Network, Nftables) {
    let network = Network::new();
    let servers = network.serve_node();
    let chains: Vec<String> = chains.iter().map(|chain| (*chain).to_owned()).collect();
    network.node.run(move || drop(sh(rules)));
    network.pod.run(|| assert_eq!(ask(V4), None, "it is dropped"));
    let ours = network.node.run(move || {
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        ours.up(&plan()).unwrap();
        let dropping = nftables::read().unwrap().dropping;
        assert_eq!(
            dropping.iter().map(|chain| &chain.name).collect::<Vec<_>>(),
            chains.iter().collect::<Vec<_>>()
        );
        assert!(dropping.iter().all(|chain| chain.accepts > 0 && chain.accepts <= 4), "{dropping:?}");
        ours
    });
    network.probe();
    network.pod.run(|| {
        for address in [V4, V6] {
            assert_eq!(ask(address).as_deref(), Some("node"), "{address}");
            assert_eq!(ask_tcp(address).as_deref(), Some("node"), "{address}");
        }
    });
    drop(servers);
    (network, ours)
}

#[test]
fn a_drop_policy_of_nftables_lets_us_through() {
    let _turn = super::turn();
    let (_network, _ours) = behind(
        "nft -f - <<'END'
table inet firewall {
    chain in { type filter hook input priority 0; policy drop; iifname lo accept; ct state established,related accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }
    chain out { type filter hook output priority 0; policy drop; ct state established,related accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; oifname lo accept; }
    chain forwarded { type filter hook forward priority 0; policy drop; }
}
table inet firewalld {
    chain filter_INPUT { type filter hook input priority 10; iifname lo accept; ct state established,related accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; jump zones; }
    chain zones { counter reject with icmpx admin-prohibited; }
    chain filter_OUTPUT { type filter hook output priority 10; ip daddr 10.9.9.9 drop; }
}
END",
        &["inet firewall in", "inet firewall out", "inet firewalld filter_INPUT"],
    );
}

#[test]
fn a_drop_policy_of_iptables_lets_us_through_and_stays_its_own() {
    let _turn = super::turn();
    let (network, _ours) = behind(
        "for program in iptables-nft ip6tables-nft; do
            $program -A INPUT -i lo -j ACCEPT
            $program -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
            $program -P INPUT DROP
        done
        ip6tables-nft -A INPUT -p icmpv6 -j ACCEPT
        iptables-nft -N ENDPOINT
        iptables-nft -A OUTPUT -o lo -j ACCEPT
        iptables-nft -A OUTPUT -j ENDPOINT
        iptables-nft -A ENDPOINT -m comment --comment 'no profile matched' -j DROP",
        &["ip filter INPUT", "ip filter OUTPUT", "ip6 filter INPUT"],
    );
    network.node.run(|| {
        let rules = sh("iptables-nft -S INPUT");
        let ours = "-A INPUT -d 169.254.20.10/32 -p udp -m udp --dport 53 -m comment --comment \
                    \"NodeLocal DNS Cache: allow DNS traffic\" -j ACCEPT";
        assert_eq!(rules.matches(ours).count(), 1, "{rules}");
        sh("iptables-nft -C INPUT -d 169.254.20.10/32 -p udp -m udp --dport 53 -m comment --comment \
            'NodeLocal DNS Cache: allow DNS traffic' -j ACCEPT");
        let saved = sh("iptables-nft-save -t filter");
        sh("iptables-nft-save -t filter | iptables-nft-restore");
        assert_eq!(
            sh("iptables-nft-save -t filter").matches("NodeLocal").count(),
            saved.matches("NodeLocal").count()
        );
        assert_eq!(saved.matches("NodeLocal").count(), 4);
    });
}

#[test]
fn our_rows_in_others_chains_do_not_pile_up_and_go_with_us() {
    alone(|| {
        sh("iptables-nft -P INPUT DROP; iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT");
        let mut ours = Nftables::open().unwrap();
        let upstream = Plan { notrack_upstream: true, ..plan() };
        ours.up(&upstream).unwrap();
        let right = sh("iptables-nft -S");
        assert_eq!(right.matches("NodeLocal").count(), 3, "{right}");
        assert!(right.contains("--mark 0x54"), "{right}");
        // Restored rules lack what we note beside ours.
        sh("iptables-nft-save | iptables-nft-restore");
        ours.check(&upstream).unwrap();
        assert_eq!(sh("iptables-nft -S"), right);
        sh("iptables-nft -D INPUT 1; iptables-nft -I INPUT 2 -p tcp --dport 23 -j ACCEPT");
        assert_eq!(kinds(&ours.check(&upstream).unwrap()), [DriftKind::Rules]);
        assert_eq!(sh("iptables-nft -S").matches("NodeLocal").count(), 3);
        ours.up(&plan()).unwrap();
        assert_eq!(sh("iptables-nft -S").matches("NodeLocal").count(), 2);
        ours.down().unwrap();
        assert_eq!(sh("iptables-nft -S").matches("NodeLocal").count(), 2, "the last answers need them");
        ours.leave().unwrap();
        let left = sh("iptables-nft -S");
        assert!(
            !left.contains("NodeLocal") && left.contains("--dport 22") && left.contains("--dport 23"),
            "{left}"
        );
    });
}

#[test]
fn a_chain_that_only_its_owner_can_change_is_warned_of() {
    alone(|| {
        let mut owner =
            Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let rules = "add table inet theirs { flags owner; }
            add chain inet theirs in { type filter hook input priority 0; policy drop; }\n";
        owner.stdin.as_mut().unwrap().write_all(rules.as_bytes()).unwrap();
        let start = Instant::now();
        while !sh("nft list ruleset").contains("chain in") {
            assert!(start.elapsed() < Duration::from_secs(5), "nft made no table");
        }
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        let [warning] = ours.warnings() else { panic!("{:?}", ours.warnings()) };
        assert!(warning.contains("inet theirs in drops"), "{warning}");
        assert!(warning.contains(&format!("belongs to process {}", owner.id())), "{warning}");
        // The rows that it names are nft's.
        sh("nft 'add table inet x; add chain inet x in'");
        let rows = warning.split_once("would: ").unwrap().1.replace("inet theirs in", "inet x in");
        sh(&rows);
        assert_eq!(sh("nft list chain inet x in").matches("accept").count(), 4);
        drop(owner.stdin.take());
        owner.wait().unwrap();
    });
}

#[test]
fn the_most_that_a_plan_may_hold_goes_in_at_once() {
    alone(|| {
        sh("iptables-nft -P INPUT DROP; ip6tables-nft -P OUTPUT DROP");
        let v4 = |n| format!("10.2.0.{n}").parse::<IpAddr>().unwrap();
        let v6 = |n| format!("fd02::{n}").parse::<IpAddr>().unwrap();
        let half = ADDRESSES.max / 2;
        let most = Plan {
            addresses: (1..=half).map(v4).chain((1..=half).map(v6)).collect(),
            http_ports: vec![8080, 9253, 9353],
            fallbacks: (1..=FALLBACKS.max).flat_map(|n| [v4(n), v6(n)]).map(|ip| (ip, 53).into()).collect(),
            notrack_upstream: true,
            ..plan()
        };
        let mut ours = Nftables::open().unwrap();
        ours.up(&most).unwrap();
        assert_eq!(ours.check(&most).unwrap(), []);
        let overview = nftables::read().unwrap();
        assert_eq!(overview.fallbacks.len(), 2 * FALLBACKS.max);
        assert_eq!(overview.armed.len(), ADDRESSES.max);
        assert!(
            overview.dropping.iter().all(|chain| chain.accepts == 2 * half + 1),
            "{:?}",
            overview.dropping
        );
        assert_eq!(ours.warnings(), &[] as &[String]);
    });
}

#[test]
fn what_a_killed_node_cache_has_left_for_our_addresses_goes() {
    alone(|| {
        let row = |address: &str| {
            format!(
                "iptables -t raw -A PREROUTING -p udp -d {address} --dport 53 -j NOTRACK \
                 -m comment --comment 'NodeLocal DNS Cache: skip conntrack'"
            )
        };
        for address in [V4, "169.254.20.11"] {
            sh(&row(address));
        }
        let mut ours = Nftables::open().unwrap();
        ours.up(&plan()).unwrap();
        assert_eq!((ours.supersede(&plan()).unwrap(), ours.supersede(&plan()).unwrap()), (1, 0));
        let left = sh("iptables-save -t raw");
        assert!(!left.contains(V4) && left.contains("169.254.20.11"), "{left}");
    });
}
