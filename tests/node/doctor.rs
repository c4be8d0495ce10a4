//! The doctor beside nodes that are well and nodes that are not: rules are made by the tools that an operator has, and
//! the program looks.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::iptables::tools::NOBODYS_LOCK;
use crate::namespace::{Namespace, alone, ip};

const US: &str = "169.254.20.10";
const US_V6: &str = "fd00::53";

/// Runs each line as a command; the words of a line stand apart by one space.
fn run(lines: &str) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", &path).env("XTABLES_LOCKFILE", NOBODYS_LOCK);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}; apt-get install nftables iptables iproute2");
    }
}

/// The link as sidestep makes it; a bridge, because not every kernel has dummies.
fn link() {
    ip("link add nodelocaldns type bridge");
    // No address of its own, whose state would change while tests look.
    ip("link set nodelocaldns addrgenmode none");
    ip(&format!("addr add {US}/32 dev nodelocaldns"));
    ip(&format!("addr add {US_V6}/128 dev nodelocaldns nodad"));
    ip("link set nodelocaldns up");
}

/// A server that answers everything, at both addresses.
struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let serve = |address: &str| {
            let socket = UdpSocket::bind((address, 53)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut packet = [0; 512];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((n, from)) = socket.recv_from(&mut packet) {
                        packet[2] |= 0x80;
                        socket.send_to(&packet[..n], from).unwrap();
                    }
                }
            })
        };
        let threads = [US, US_V6].map(serve).into();
        Self { stop, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The kernel tracks nothing until a rule asks for it; on a node, kube-proxy's and the firewall's do.
fn track() {
    run("nft add table inet t
         nft add chain inet t in '{ type filter hook input priority 0; }'
         nft add rule inet t in ct state new counter");
}

/// NOTRACK as our table has it.
fn notrack() {
    run("nft add table inet sidestep
         nft add chain inet sidestep output '{ type filter hook output priority raw; }'");
    for (family, address) in [("ip", US), ("ip6", US_V6)] {
        run(&format!(
            "nft add rule inet sidestep output {family} daddr {address} udp dport 53 counter notrack
             nft add rule inet sidestep output {family} saddr {address} udp sport 53 counter notrack"
        ));
    }
}

/// kube-proxy's chains for the cluster DNS at 10.96.0.10 with two servers, made by this iptables.
fn kube_proxy(iptables: &str) {
    const SERVICE: &str = "KUBE-SVC-TCOU7JCQXEZGVUNU";
    run(&format!(
        "{iptables} -t nat -N KUBE-SERVICES
         {iptables} -t nat -N {SERVICE}
         {iptables} -t nat -N KUBE-SEP-A
         {iptables} -t nat -N KUBE-SEP-B
         {iptables} -t nat -A PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
         {iptables} -t nat -A OUTPUT -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
         {iptables} -t nat -A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment 'kube-system/kube-dns:dns cluster IP' -m udp --dport 53 -j {SERVICE}
         {iptables} -t nat -A {SERVICE} -m statistic --mode random --probability 0.5 -j KUBE-SEP-A
         {iptables} -t nat -A {SERVICE} -j KUBE-SEP-B
         {iptables} -t nat -A KUBE-SEP-A -p udp -m udp -j DNAT --to-destination 10.244.0.5:53
         {iptables} -t nat -A KUBE-SEP-B -p udp -m udp -j DNAT --to-destination 10.244.0.6:53"
    ));
}

/// A configuration whose upstream is no resolv.conf: this machine's does not matter then.
const CONFIG: &str = "[[zone]]\nname = \".\"\nupstreams = [\"tcp://127.0.0.9:53\"]\n";

/// The report: exit code, and for each check its findings as `level: what / remedy / evidence`.
fn doctor(arguments: &[&str]) -> (i32, BTreeMap<String, Vec<String>>) {
    look(Command::new(crate::program::sidestep()), arguments)
}

pub fn look(mut program: Command, arguments: &[&str]) -> (i32, BTreeMap<String, Vec<String>>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let config = folder.path().join("sidestep.toml");
    std::fs::write(&config, CONFIG).unwrap();
    program.args(["doctor", "--json", "--config"]).arg(config).args(arguments);
    report(program)
}

/// What a doctor reports.
fn report(mut program: Command) -> (i32, BTreeMap<String, Vec<String>>) {
    let output = program.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&said)
        .unwrap_or_else(|e| panic!("{e}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    let mut checks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in report["findings"].as_array().unwrap() {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let evidence = finding["evidence"].as_array().unwrap();
        let evidence = evidence.iter().map(|seen| seen.as_str().unwrap()).collect::<Vec<_>>().join("\n");
        let entry = checks.entry(text("check")).or_default();
        entry.push(format!("{}: {}\n{}\n{evidence}", text("level"), text("what"), text("remedy")));
    }
    let code = output.status.code().unwrap();
    assert_eq!(report["exit_code"], code, "{said}");
    (code, checks)
}

/// The only finding of a check has this level.
#[track_caller]
pub fn expect<'a>(checks: &'a BTreeMap<String, Vec<String>>, check: &str, level: &str) -> &'a str {
    let Some([finding]) = checks.get(check).map(Vec::as_slice) else { panic!("{check}: {checks:#?}") };
    assert!(finding.starts_with(&format!("{level}: ")), "{check} is not {level}: {checks:#?}");
    finding
}

#[test]
fn a_bare_machine_has_no_problem() {
    alone(|| {
        let (code, checks) = doctor(&[]);
        expect(&checks, "node.link", "note");
        assert_eq!(code, 0, "{checks:#?}");
    });
}

#[test]
fn a_node_that_answers_untracked_is_healthy() {
    alone(|| {
        link();
        track();
        notrack();
        let _server = Server::start();
        let (code, checks) = doctor(&["--node-address", US, "--node-address", US_V6]);
        for check in
            ["node.link", "node.rules", "probe.answer", "probe.untracked", "firewall.input", "kernel.race"]
        {
            expect(&checks, check, "healthy");
        }
        assert_eq!(code, 0, "{checks:#?}");
    });
}

#[test]
fn an_answer_without_rules_is_a_problem_if_anything_tracks_it() {
    alone(|| {
        link();
        let _server = Server::start();
        let (code, checks) = doctor(&[]);
        assert!(expect(&checks, "node.rules", "note").contains("not tracked even so"));
        assert_eq!(code, 0);
        track();
        let (code, checks) = doctor(&[]);
        assert!(expect(&checks, "probe.untracked", "problem").contains("entry udp 169.254.20.10:"));
        expect(&checks, "node.rules", "problem");
        assert_eq!(code, 1);
    });
}

#[test]
fn rules_for_another_address_are_there_and_do_not_count() {
    alone(|| {
        link();
        run("nft add table inet sidestep
             nft add chain inet sidestep output '{ type filter hook output priority raw; }'
             nft add rule inet sidestep output ip daddr 169.254.20.11 udp dport 53 counter notrack");
        let _server = Server::start();
        let (code, checks) = doctor(&[]);
        assert!(expect(&checks, "node.rules", "problem").contains("did not meet them"));
        assert_eq!(code, 1);
    });
}

#[test]
fn what_node_cache_has_put_up_with_either_iptables_is_recognised() {
    for iptables in ["iptables-nft", "iptables-legacy"] {
        alone(move || {
            link();
            track();
            ip(&format!("addr del {US_V6}/128 dev nodelocaldns"));
            for row in
                [format!("-d {US} -p udp -m udp --dport 53"), format!("-s {US} -p udp -m udp --sport 53")]
            {
                let comment = "-m comment --comment 'NodeLocal DNS Cache: skip conntrack'";
                run(&format!("{iptables} -t raw -A OUTPUT {row} {comment} -j NOTRACK"));
            }
            ip(&format!("addr add {US_V6}/128 dev lo nodad"));
            let _server = Server::start();
            let (code, checks) = doctor(&[]);
            expect(&checks, "node.rules", "healthy");
            expect(&checks, "probe.untracked", "healthy");
            assert!(!checks.contains_key("node.duplicates"), "{iptables}");
            assert_eq!(code, 0, "{iptables}: {checks:#?}");
            let row = format!("{iptables} -t raw -A OUTPUT -d {US} -p udp -m udp --dport 53");
            run(&format!("{row} -m comment --comment 'NodeLocal DNS Cache: skip conntrack' -j NOTRACK"));
            let (code, checks) = doctor(&[]);
            assert!(expect(&checks, "node.duplicates", "problem").contains("2 times"), "{iptables}");
            assert_eq!(code, 1);
        });
    }
}

/// A node-cache that was killed, and ours in its place.
#[test]
fn rows_that_would_stay_when_we_end_are_named() {
    for (iptables, place) in
        [("iptables-nft", "ip raw OUTPUT"), ("iptables-legacy", "iptables-legacy raw OUTPUT")]
    {
        alone(move || {
            link();
            run(&format!(
                "nft add table inet sidestep
                 nft add chain inet sidestep output '{{ type filter hook output priority raw; }}'
                 nft add rule inet sidestep output ip daddr {US} udp dport 53 counter notrack"
            ));
            let (_, checks) = doctor(&[]);
            assert!(!checks.contains_key("node.foreign"), "{checks:#?}");
            let comment = "-m comment --comment 'NodeLocal DNS Cache: skip conntrack'";
            run(&format!(
                "{iptables} -t raw -A OUTPUT -d {US} -p udp -m udp --dport 53 {comment} -j NOTRACK"
            ));
            let (code, checks) = doctor(&[]);
            let found = expect(&checks, "node.foreign", "problem");
            let row = format!("{place}: -d {US} -p udp --dport 53 -j NOTRACK");
            assert!(found.contains(&row) && found.contains("sidestep teardown"), "{found}");
            assert_eq!(code, 1);
        });
    }
}

#[test]
fn node_caches_flags_say_what_is_looked_for() {
    alone(|| {
        let corefile = tempfile::tempdir().unwrap();
        let path = corefile.path().join("Corefile");
        std::fs::write(&path, ".:53 {\n  bind 169.254.20.77\n  forward . 10.9.9.9\n  dnstap /tmp/tap\n}\n")
            .unwrap();
        let conf = path.to_str().unwrap();
        for flags in [
            vec!["-localip", "169.254.20.77", "-interfacename", "theirs", "-conf", conf],
            vec!["--", "/node-cache", "-localip=169.254.20.77", "-conf", conf, "-interfacename=theirs"],
        ] {
            let mut program = Command::new(crate::program::sidestep());
            program.args(["doctor", "--json"]).args(&flags);
            let (code, checks) = report(program);
            assert!(expect(&checks, "node.address", "problem").contains("169.254.20.77"), "{checks:#?}");
            assert_eq!(code, 1);
        }
    });
}

#[test]
fn kube_proxys_translation_is_found_whichever_iptables_made_it() {
    for (iptables, table) in [("iptables-nft", "ip nat"), ("iptables-legacy", "iptables-legacy nat")] {
        alone(move || {
            kube_proxy(iptables);
            let (code, checks) = doctor(&[]);
            assert!(expect(&checks, "service.mode", "healthy").contains("iptables mode"));
            let found = expect(&checks, "service.translation", "problem");
            for word in
                ["10.96.0.10", "one of 2 servers", "server 10.244.0.6:53", table, "kube-dns:dns cluster IP"]
            {
                assert!(found.contains(word), "{iptables}: no {word} in {found}");
            }
            assert_eq!(code, 1);
        });
    }
}

#[test]
fn kube_proxys_nftables_tables_are_followed_through_their_map() {
    alone(|| {
        const SERVICE: &str = "service-ULMVA6XW-kube-system/kube-dns/udp/dns";
        let endpoint = |n: u8| {
            format!("endpoint-{n}{n}{n}{n}{n}{n}{n}{n}-kube-system/kube-dns/udp/dns__10.244.0.{n}/53")
        };
        let script = format!(
            "table ip kube-proxy {{
                chain {a} {{
                    meta l4proto udp dnat to 10.244.0.5:53
                }}
                chain {b} {{
                    meta l4proto udp dnat to 10.244.0.6:53
                }}
                chain {SERVICE} {{
                    numgen random mod 2 vmap {{ 0 : goto {a}, 1 : goto {b} }}
                }}
                map service-ips {{
                    type ipv4_addr . inet_proto . inet_service : verdict
                    elements = {{ 10.96.0.10 . udp . 53 : goto {SERVICE} }}
                }}
                chain services {{
                    ip daddr . meta l4proto . th dport vmap @service-ips
                }}
                chain nat-prerouting {{
                    type nat hook prerouting priority dstnat;
                    jump services
                }}
            }}
            ",
            a = endpoint(5),
            b = endpoint(6)
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script).unwrap();
        run(&format!("nft -f {}", file.path().display()));
        let (code, checks) = doctor(&[]);
        assert!(expect(&checks, "service.mode", "healthy").contains("nftables mode"));
        let found = expect(&checks, "service.translation", "problem");
        assert!(found.contains("one of 2 servers") && found.contains("server 10.244.0.5:53"), "{found}");
        assert_eq!(code, 1);
    });
}

#[test]
fn a_dropping_chain_is_a_problem_until_its_own_row_is_added() {
    const NFT: &str = "nft add table inet fw
        nft add chain inet fw in '{ type filter hook input priority 0; policy drop; }'
        nft add rule inet fw in ct state established,related accept
        nft add rule inet fw in iif lo accept";
    const REJECT: &str = "nft add table inet fw
        nft add chain inet fw in '{ type filter hook input priority 0; policy accept; }'
        nft add rule inet fw in iifname lo accept
        nft add rule inet fw in reject";
    let iptables = |program: &str| {
        format!(
            "{program} -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
             {program} -A INPUT -i lo -j ACCEPT
             {program} -A OUTPUT -o lo -j ACCEPT
             {program} -P INPUT DROP
             {program} -P OUTPUT DROP"
        )
    };
    for rules in [NFT.to_owned(), REJECT.to_owned(), iptables("iptables-nft"), iptables("iptables-legacy")] {
        alone(move || {
            link();
            notrack();
            let _server = Server::start();
            run(&rules);
            let (code, checks) = doctor(&[]);
            assert_eq!(code, 1, "{rules}: {checks:#?}");
            expect(&checks, "probe.untracked", "healthy");
            let dropped: Vec<&String> = ["firewall.input", "firewall.output"]
                .iter()
                .filter_map(|c| checks.get(*c))
                .flatten()
                .collect();
            assert!(dropped.iter().all(|finding| finding.starts_with("problem")), "{rules}: {dropped:?}");
            // What it says to do makes it well.
            let rows = |finding: &&String| {
                finding
                    .lines()
                    .filter(|l| l.contains(" insert ") || l.contains(" -I "))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            run(&dropped.iter().flat_map(rows).collect::<Vec<_>>().join("\n"));
            let (code, checks) = doctor(&[]);
            expect(&checks, "firewall.input", "healthy");
            assert_eq!(code, 0, "{rules}: {checks:#?}");
        });
    }
}

#[test]
fn nobody_listening_is_a_problem_unless_pods_are_handed_on() {
    alone(|| {
        link();
        let (code, checks) = doctor(&[]);
        assert!(
            checks["probe.answer"].iter().all(|f| f.starts_with("problem: Nobody listens")),
            "{checks:#?}"
        );
        assert_eq!(code, 1);
        run("nft add table inet sidestep-failopen
             nft add chain inet sidestep-failopen out '{ type nat hook output priority -100; }'
             nft add rule inet sidestep-failopen out ip daddr 169.254.20.10 udp dport 53 dnat ip to 10.244.0.5");
        let (_, checks) = doctor(&[]);
        let ours = checks["probe.answer"].iter().find(|f| f.contains(US)).unwrap();
        assert!(ours.starts_with("note: ") && ours.contains("translated to 10.244.0.5:53"), "{ours}");
    });
}

#[test]
fn nothing_is_sent_off_the_machine_even_where_queries_are_translated() {
    alone(|| {
        link();
        let elsewhere = Namespace::new();
        ip(&format!("link add wire type veth peer name other netns {}", elsewhere.id()));
        elsewhere.run(|| ip("link set other up"));
        run("ip addr add 10.9.0.1/24 dev wire
             ip link set wire up
             ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev wire
             ip route add default via 10.9.0.2
             nft add table ip t
             nft add chain ip t out '{ type nat hook output priority -100; }'
             nft add rule ip t out udp dport 53 dnat to 10.244.0.5
             nft add chain ip t leaving '{ type filter hook postrouting priority 0; }'
             nft add counter ip t left
             nft add rule ip t leaving oifname wire udp dport 53 counter name left");
        let left = || {
            let output = Command::new("/usr/sbin/nft")
                .args(["-j", "list", "counter", "ip", "t", "left"])
                .output()
                .unwrap();
            let said: Value = serde_json::from_slice(&output.stdout).unwrap();
            said["nftables"][1]["counter"]["packets"].as_u64().unwrap()
        };
        let (_, checks) = doctor(&[]);
        assert!(
            checks["probe.answer"].iter().any(|f| f.contains("translated to 10.244.0.5:53")),
            "{checks:#?}"
        );
        assert_eq!(left(), 0);
        // A client's own query does leave: the counter can count.
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.send_to(b"query", (US, 53)).unwrap();
        assert_eq!(left(), 1);
    });
}

#[test]
fn an_address_of_ours_that_is_gone_is_a_problem() {
    alone(|| {
        link();
        track();
        notrack();
        let _server = Server::start();
        let (code, checks) = doctor(&["--node-address", "10.96.0.10"]);
        assert!(expect(&checks, "node.address", "problem").contains("10.96.0.10"));
        assert_eq!(code, 1);
    });
}

#[test]
fn a_full_table_is_a_problem_and_our_addresses_answer_all_the_same() {
    alone(|| {
        link();
        track();
        notrack();
        let _server = Server::start();
        let max = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap();
        let max: u32 = max.trim().parse().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let entry = |n: u32| {
            let source = Ipv4Addr::from(0x0a00_0000 + n);
            let tuple = format!("-s {source} -d 192.0.2.1 --sport 1000 --dport 80");
            format!("-I -p tcp --timeout 600 --state ESTABLISHED {tuple} -u ASSURED,SEEN_REPLY\n")
        };
        std::fs::write(file.path(), (0..max).map(entry).collect::<String>()).unwrap();
        // The table may hold an entry already, so the last one may not fit.
        run(&format!("conntrack -R {} >/dev/null 2>&1 || true", file.path().display()));
        let (code, checks) = doctor(&[]);
        assert!(expect(&checks, "conntrack.use", "problem").contains("is full"));
        expect(&checks, "probe.answer", "healthy");
        expect(&checks, "probe.untracked", "healthy");
        assert_eq!(code, 1);
    });
}

#[test]
fn it_changes_nothing() {
    alone(|| {
        link();
        track();
        notrack();
        kube_proxy("iptables-legacy");
        let state = || {
            let script = "ip addr; ip route show table all; nft -s list ruleset; iptables-legacy-save | grep -v '^[#:]'; \
                          cat /proc/net/ip_tables_names /proc/net/ip6_tables_names; sysctl -a 2>/dev/null | grep ^net.netfilter | grep -v count";
            let output =
                Command::new("sh").args(["-c", script]).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let before = state();
        doctor(&[]);
        assert_eq!(state(), before, "it has changed something");
    });
}
