//! The node of the golden run: a network namespace with the addresses of the add-on, and one CoreDNS that is the cluster
//! DNS, the node's resolver and the server of a stub domain, each at an address of its own.
//!
//! The addresses are on `lo`, put there by the test (`-setupinterface=false`), as not every kernel has dummy links.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::namespace::{Namespace, ip};
use super::process::{Process, program};

/// `-localip`: the link-local address, and the ClusterIP of kube-dns.
pub const LOCAL: [&str; 2] = ["169.254.20.10", "10.96.0.10"];
/// The Service kube-dns-upstream.
const CLUSTER: &str = "10.96.0.20";
/// In resolv.conf.
const RESOLVER: &str = "192.0.2.53";
/// The stub domain's.
const STUB: &str = "198.51.100.53";

/// The add-on's blocks, in our own words.
const BLOCKS: &str = include_str!("../corefile/addon.Corefile");

/// Two that are long: one for 512 bytes, one for 1232.
fn long_names(zone: &mut String) {
    for (name, count) in [("many", 40), ("many2", 40), ("huge", 120)] {
        for host in 1..=count {
            zone.push_str(&format!("{name} 300 IN A 10.1.0.{host}\n"));
        }
    }
}

const CLUSTER_ZONE: &str = r#"$ORIGIN cluster.local.
$TTL 300
@ IN SOA ns.dns hostmaster 1 7200 1800 86400 60
@ IN NS ns.dns
ns.dns IN A 10.96.0.10
dns-version IN TXT "1.1.0"
$ORIGIN default.svc.cluster.local.
kubernetes 5 IN A 10.96.0.1
_https._tcp.kubernetes 5 IN SRV 0 100 443 kubernetes
web 300 IN A 10.96.1.1
web 300 IN A 10.96.1.2
web 300 IN AAAA fd00:96::11
one 1 IN A 10.96.1.3
twelve 12 IN A 10.96.1.4
long 7200 IN A 10.96.1.5
zero 0 IN A 10.96.1.6
tcp 300 IN A 10.96.1.7
norec 300 IN A 10.96.1.8
alias 300 IN CNAME second
second 60 IN CNAME web
external 300 IN CNAME www.example.test.
short 300 IN CNAME twelve
_dns._udp.kube-dns.kube-system.svc.cluster.local. 30 IN SRV 0 100 53 ns.dns.cluster.local.
"#;

const REVERSE_ZONES: [(&str, &str); 2] = [
    ("in-addr.arpa", "1.0.96.10 30 IN PTR kubernetes.default.svc.cluster.local.\n"),
    (
        "ip6.arpa",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f 30 IN PTR kubernetes.default.svc.cluster.local.\n",
    ),
];

const OUTSIDE: &str = r#"$ORIGIN example.test.
$TTL 300
@ IN SOA ns hostmaster 1 7200 1800 86400 60
@ IN NS ns
@ IN MX 10 mail
@ IN CAA 0 issue "ca.example"
ns IN A 192.0.2.53
mail IN A 192.0.2.25
www IN A 192.0.2.10
www IN A 192.0.2.11
www IN AAAA 2001:db8::10
www IN MX 5 mail
edns IN A 192.0.2.12
edns2 IN A 192.0.2.13
edns3 IN A 192.0.2.14
edns4 IN A 192.0.2.15
tcp IN A 192.0.2.16
norec IN A 192.0.2.17
cd IN A 192.0.2.18
ad IN A 192.0.2.19
one 1 IN A 192.0.2.20
zero 0 IN A 192.0.2.21
long 7200 IN A 192.0.2.22
empty IN TXT "no address"
alias IN CNAME deep
deep 60 IN CNAME www
far IN CNAME www.corp.test.
dangling IN CNAME nothing
text IN TXT "one" "two words" "\"quoted\""
*.wild IN A 192.0.2.77
odd IN TYPE65280 \# 4 0A000001
service IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.10
"#;

const STUB_ZONE: &str = "$ORIGIN corp.test.\n$TTL 300\n@ IN SOA ns hostmaster 1 7200 1800 86400 60\n@ IN NS ns\n\
     ns IN A 198.51.100.53\nwww IN A 198.51.100.80\n";

/// The node, with everything on it but the cache.
pub struct World {
    pub node: Namespace,
    pub directory: TempDir,
    _upstream: Process,
}

impl World {
    pub fn new() -> Self {
        let node = Namespace::new();
        let directory = tempfile::tempdir().unwrap();
        node.run(|| {
            for address in LOCAL.iter().chain([&CLUSTER, &RESOLVER, &STUB]) {
                ip(&format!("addr add {address}/32 dev lo"));
            }
        });
        let upstream = upstream(&node, directory.path());
        let world = Self { node, directory, _upstream: upstream };
        world.write("resolv.conf", &format!("nameserver {RESOLVER}\n"));
        world.write("Corefile.base", &base());
        fs::create_dir(world.path("kube-dns")).unwrap();
        world.write("kube-dns/stubDomains", &format!("{{\"corp.test\": [\"{STUB}\"]}}"));
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A program with the add-on's arguments; its files are in the test's folder, and the resolv.conf that it sees is
    /// the node's.
    pub fn command(&self, program: &Path, more: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", "mount --bind \"$0\" /etc/resolv.conf; exec \"$@\""])
            .arg(self.path("resolv.conf"))
            .arg(program)
            .args(["-localip", &LOCAL.join(","), "-upstreamsvc", "kube-dns-upstream"])
            .args(["-setupinterface=false"])
            .args(more);
        for (flag, file) in [
            ("-conf", "Corefile"),
            ("-basecorefile", "Corefile.base"),
            ("-kubednscm", "kube-dns"),
            ("-pidfile", "pid"),
        ] {
            command.arg(flag).arg(self.path(file));
        }
        // iptables' lock is the machine's, and need not be.
        command.env("XTABLES_LOCKFILE", self.path("xtables.lock"));
        command.env("KUBE_DNS_UPSTREAM_SERVICE_HOST", CLUSTER);
        command
    }
}

/// The base file, with what its documentation has an administrator fill in.
fn base() -> String {
    let filled = [
        ("__PILLAR__DNS__DOMAIN__", "cluster.local"),
        ("__PILLAR__LOCAL__DNS__", LOCAL[0]),
        ("__PILLAR__DNS__SERVER__", LOCAL[1]),
        ("__PROMETHEUS__ENDPOINT__", ":9253"),
    ];
    filled.iter().fold(BLOCKS.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

/// CoreDNS, at all addresses that are not ours.
fn upstream(node: &Namespace, directory: &Path) -> Process {
    let (mut cluster, mut outside) = (CLUSTER_ZONE.to_owned(), OUTSIDE.to_owned());
    long_names(&mut cluster);
    long_names(&mut outside);
    let mut zones = vec![
        (CLUSTER, "cluster.local", cluster),
        (RESOLVER, "example.test", outside),
        (STUB, "corp.test", STUB_ZONE.to_owned()),
    ];
    for (zone, records) in REVERSE_ZONES {
        let soa = "@ 60 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 60";
        zones.push((CLUSTER, zone, format!("$ORIGIN {zone}.\n{soa}\n{records}")));
    }
    let mut corefile =
        format!("example.org {{\n bind {RESOLVER}\n template ANY ANY {{\n rcode SERVFAIL\n }}\n}}\n");
    for (address, zone, text) in zones {
        fs::write(directory.join(zone), text).unwrap();
        corefile.push_str(&format!("{zone} {{\n bind {address}\n file {zone}\n}}\n"));
    }
    fs::write(directory.join("Corefile.upstream"), corefile).unwrap();
    let install = "go install github.com/coredns/coredns@v1.14.4";
    let mut command = Command::new(program("coredns", "SIDESTEP_COREDNS", install));
    command.arg("-conf").arg("Corefile.upstream").current_dir(directory);
    let mut process = start(node, "coredns", command, directory);
    process.wait_for("CoreDNS-1.");
    process
}

/// Starts a command in a namespace.
pub fn start(node: &Namespace, name: &'static str, command: Command, directory: &Path) -> Process {
    let directory = directory.to_owned();
    node.run(move || Process::start(name, command, &directory))
}
