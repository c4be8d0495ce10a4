//! In node-cache's place: its flags, a base file with variables, and ConfigMaps as the kubelet mounts them. On loopback,
//! with a link and rules that somebody else would see to.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::client::{Udp, query};
use crate::program::{Program, free_port, wait_for};
use crate::support::message::*;
use crate::support::scripted::{Action, Order, Scripted};

/// A server all of whose names have this address.
fn says(last: u8) -> Scripted {
    Scripted::start(Order::AtOnce, move |query| {
        let question = question(&query.name, query.rtype);
        let answer = record(QNAME, 1, 300, &[192, 0, 2, last]);
        vec![Action::Message(message(word(&query.message, 0), REPLY, &question, [&[answer], &[], &[]]))]
    })
}

/// Puts files into a folder as the kubelet does: a new folder beside the old one, and one rename.
fn swap(folder: &Path, files: &[(&str, &str)]) {
    let number = fs::read_dir(folder).unwrap().count();
    let data = folder.join(format!("..{number}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
    }
    symlink(data.file_name().unwrap(), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    for (name, _) in files {
        // Those of before are there already.
        let _ = symlink(Path::new("..data").join(name), folder.join(name));
    }
}

/// A node-cache on addresses of loopback that nobody else has.
struct NodeCache {
    program: Program,
    folder: PathBuf,
    at: SocketAddr,
    cluster: Scripted,
    upstream: Scripted,
}

impl NodeCache {
    fn base(cluster: &Scripted, more: &str) -> String {
        let port = cluster.address.port();
        format!(
            "cluster.test {{\n    errors\n    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__\n    \
             forward . __PILLAR__CLUSTER__DNS__:{port} {{\n        force_tcp\n    }}\n}}\n\
             . {{\n    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__\n    \
             forward . __PILLAR__UPSTREAM__SERVERS__ {{\n        force_tcp\n    }}\n}}\n{more}"
        )
    }

    /// `last` makes the address and the link's name its own.
    fn start(last: u8) -> Self {
        let (cluster, upstream) = (says(1), says(2));
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().to_owned();
        let [base, map] = ["coredns", "kube-dns"].map(|name| folder.join(name));
        for path in [&base, &map] {
            fs::create_dir(path).unwrap();
        }
        swap(&base, &[("Corefile.base", &Self::base(&cluster, ""))]);
        let servers = format!("[\"{}\"]", upstream.address);
        swap(&map, &[("upstreamNameservers", &servers), ("stubDomains", "{}")]);
        let at = SocketAddr::new(IpAddr::from([127, 0, 9, last]), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep"));
        command
            .args(["-localip", &at.ip().to_string(), "-p", &at.port().to_string(), "-workers=1"])
            .args([
                "-setupinterface=false",
                "-setupiptables=false",
                "-interfacename",
                &format!("nothing{last}"),
            ])
            .args(["-metrics-listen-address", "127.0.0.1:0", "-upstreamsvc", "my-dns", "-reloadwithsignal"])
            .arg("-basecorefile")
            .arg(base.join("Corefile.base"))
            .arg("-kubednscm")
            .arg(&map)
            .arg("-conf")
            .arg(folder.join("Corefile"))
            .arg("-pidfile")
            .arg(folder.join("pid"))
            .env("MY_DNS_SERVICE_HOST", "127.0.0.1");
        let program = Program::spawn(&mut command, directory, base.join("Corefile.base"));
        Self { program, folder, at, cluster, upstream }
    }

    fn address(&self, name: &str) -> u8 {
        records(&Udp::to(self.at).ask(&query(1, name, 1)))[0].2[3]
    }

    /// The ConfigMap, with these stub domains.
    fn swap_map(&self, stubs: &str) {
        let servers = format!("[\"{}\"]", self.upstream.address);
        swap(&self.folder.join("kube-dns"), &[("upstreamNameservers", &servers), ("stubDomains", stubs)]);
    }

    fn reloaded(&self, times: usize) {
        wait_for("a reload", || self.program.logged("configuration reloaded") == times);
    }

    fn setup_errors(&self) -> String {
        let page = self.program.get("/metrics").1;
        let start = "coredns_nodecache_setup_errors_total{errortype=\"configmap\"} ";
        page.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{page}")).to_owned()
    }
}

#[test]
fn variables_are_filled_and_the_file_is_left_to_be_looked_at() {
    let mut cache = NodeCache::start(1);
    assert_eq!((cache.address("www.cluster.test"), cache.address("www.test")), (1, 2));
    let tcp = |server: &Scripted| server.seen().iter().filter(|q| q.name.contains("www")).all(|q| q.tcp);
    assert!(tcp(&cache.cluster), "force_tcp holds for the cluster DNS");
    assert!(!tcp(&cache.upstream), "servers of the ConfigMap are asked over UDP");
    let filled = fs::read_to_string(cache.folder.join("Corefile")).unwrap();
    assert!(filled.contains(&format!("bind {}", cache.at.ip())) && !filled.contains("__P"), "{filled}");
    let pid = fs::read_to_string(cache.folder.join("pid")).unwrap();
    assert_eq!(pid.trim(), cache.program.pid().to_string());
    cache.program.signal(Signal::TERM);
    assert!(cache.program.end().success());
    assert!(!cache.folder.join("pid").exists());
}

#[test]
fn health_is_served_at_addresses_of_both_families_and_metrics_where_two_lines_want_them() {
    let (port, health, metrics) = (free_port(), free_port(), free_port());
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("Corefile.base");
    let text = format!(
        ". {{\n    bind __PILLAR__LOCAL__DNS__\n    health __PILLAR__LOCAL__DNS__:{health}\n    prometheus :{metrics}\n    \
         forward . {}\n}}\ntest {{\n    bind __PILLAR__LOCAL__DNS__\n    prometheus 0.0.0.0:{metrics}\n    forward . {0}\n}}\n",
        says(1).address
    );
    fs::write(&base, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep"));
    command
        .args([
            "-localip",
            "127.0.9.5,::1",
            "-p",
            &port.to_string(),
            "-workers=1",
            "-interfacename",
            "nothing5",
        ])
        .args(["-setupinterface=false", "-setupiptables=false", "-basecorefile"])
        .arg(&base)
        .args(["-metrics-listen-address", &format!("127.0.0.1:{metrics}"), "-conf"])
        .arg(directory.path().join("Corefile"))
        .arg("-kubednscm")
        .arg(directory.path().join("kube-dns"));
    let program = Program::spawn(&mut command, directory, base);
    for address in [format!("127.0.9.5:{health}"), format!("[::1]:{health}")] {
        assert_eq!(
            program.get_at(address.parse().unwrap(), "/health"),
            (200, "ok\n".to_owned()),
            "{address}"
        );
    }
    for address in ["127.0.0.1", "127.0.9.5", "[::1]"].map(|ip| format!("{ip}:{metrics}")) {
        assert_eq!(program.get_at(address.parse().unwrap(), "/metrics").0, 200, "{address}");
    }
}

#[test]
fn stub_domains_come_and_go_with_the_config_map() {
    let (cache, stub) = (NodeCache::start(2), says(3));
    assert_eq!(cache.address("a.corp.test"), 2);
    cache.swap_map(&format!("{{\"corp.test\": [\"{}\"]}}", stub.address));
    cache.reloaded(1);
    assert_eq!((cache.address("b.corp.test"), cache.address("b.test")), (3, 2));
    let filled = fs::read_to_string(cache.folder.join("Corefile")).unwrap();
    assert!(filled.contains(&format!("forward . {}\n", stub.address)), "{filled}");
    cache.swap_map("{}");
    cache.reloaded(2);
    assert_eq!(cache.address("c.corp.test"), 2);
}

#[test]
fn a_config_map_that_is_wrong_is_counted_and_what_ran_goes_on() {
    let mut cache = NodeCache::start(3);
    assert_eq!(cache.setup_errors(), "0");
    cache.swap_map("{\"corp.test\": oops}");
    cache.program.wait_for_log("not reloaded, the running configuration stays");
    assert_eq!(cache.setup_errors(), "1");
    assert_eq!(cache.address("www.cluster.test"), 1);
    cache.swap_map("{}");
    cache.reloaded(1);
}

#[test]
fn the_base_file_is_read_again_when_it_is_swapped_and_at_sigusr1() {
    let (mut cache, other) = (NodeCache::start(4), says(4));
    let block =
        format!("other.test {{\n    bind __PILLAR__LOCAL__DNS__\n    forward . {}\n}}\n", other.address);
    let base = NodeCache::base(&cache.cluster, &block);
    swap(&cache.folder.join("coredns"), &[("Corefile.base", &base)]);
    cache.reloaded(1);
    assert_eq!(cache.address("www.other.test"), 4);
    cache.program.signal(Signal::USR1);
    cache.program.wait_for_log("SIGUSR1");
    cache.reloaded(2);
    assert_eq!(cache.address("www.cluster.test"), 1);
}
