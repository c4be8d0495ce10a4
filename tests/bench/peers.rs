//! The servers that are compared: how each is started as a caching forwarder to the scripted upstream.
//!
//! Each gets one thread where it can be told, TCP to the upstream, a cache that the benchmark does not fill,
//! and no work that the others do not do, no validation for one. node-cache and CoreDNS keep their metrics
//! because no cluster runs them without, and sidestep always counts.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::names;

/// The name of this program in the tables.
pub const OURS: &str = "sidestep";
/// The name of the ceiling in the tables.
pub const CEILING: &str = "echo";

/// What keeps node-cache from touching the node's interfaces and rules.
const NO_SETUP: [&str; 3] = ["-setupinterface=false", "-setupiptables=false", "-skipteardown=true"];

/// A server that can be measured.
pub struct Peer {
    /// Its name in the tables and for `--only`; also the program's file name, apart from the echo's.
    pub name: &'static str,
    /// The arguments that make it say its version; none where it has none.
    version: &'static [&'static str],
    /// Builds its command line and writes its configuration.
    pub command: fn(&Path, &Site) -> io::Result<Command>,
}

/// Where a server finds what it needs.
pub struct Site {
    /// A directory of its own, for its configuration.
    pub dir: PathBuf,
    /// Where it is to answer.
    pub listen: SocketAddr,
    /// Where it is to ask.
    pub upstream: SocketAddr,
}

/// All of them, in the order of the table.
pub const PEERS: [Peer; 6] = [
    Peer { name: CEILING, version: &[], command: echo },
    Peer { name: OURS, version: &["--version"], command: sidestep },
    Peer { name: "unbound", version: &["-V"], command: unbound },
    Peer { name: "dnsdist", version: &["--version"], command: dnsdist },
    Peer { name: "coredns", version: &["-version"], command: coredns },
    Peer {
        name: "node-cache",
        version: &[NO_SETUP[0], NO_SETUP[1], NO_SETUP[2], "-localip=127.0.0.1", "-version"],
        command: node_cache,
    },
];

impl Peer {
    /// The program's file: what was given for ourselves, this very program for the echo, otherwise what is
    /// found on the search path, in the places for servers, or where Go installs.
    pub fn program(&self, ours: &Path) -> Option<PathBuf> {
        match self.name {
            OURS => ours.is_file().then(|| ours.to_owned()),
            CEILING => std::env::current_exe().ok(),
            name => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin"));
                let places = ["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
                let mut places = std::env::split_paths(&path).chain(places).chain(home);
                places.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()))
            }
        }
    }

    /// What the program says about its version: the first word with digits and a dot, from its first digit on.
    pub fn version(&self, program: &Path) -> Option<String> {
        if self.version.is_empty() {
            return None;
        }
        let output = Command::new(program).args(self.version).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.split([' ', '\n']).find_map(|word| {
            let number = &word[word.find(|c: char| c.is_ascii_digit())?..];
            number.contains('.').then(|| number.to_owned())
        })
    }
}

fn echo(program: &Path, site: &Site) -> io::Result<Command> {
    let mut command = Command::new(program);
    let size = names::mean_answer_size();
    command.args(["echo", "--listen", &site.listen.to_string(), "--size", &size.to_string()]);
    Ok(command)
}

fn sidestep(program: &Path, site: &Site) -> io::Result<Command> {
    let mut command = Command::new(program);
    let upstream = format!("tcp://{}", site.upstream);
    command.args(["--listen", &site.listen.to_string(), "--upstream", &upstream, "--workers", "1"]);
    Ok(command)
}

fn unbound(program: &Path, site: &Site) -> io::Result<Command> {
    let text = format!(
        r#"server:
    interface: {ip}@{port}
    access-control: 127.0.0.0/8 allow
    num-threads: 1
    so-reuseport: yes
    module-config: "iterator"
    msg-cache-size: 64m
    rrset-cache-size: 128m
    outgoing-range: 4096
    num-queries-per-thread: 2048
    # Its defaults, 10 connections of 200 queries each, would be dropped and opened all the time.
    outgoing-num-tcp: 64
    max-reuse-tcp-queries: 100000
    tcp-upstream: yes
    do-not-query-localhost: no
    qname-minimisation: no
    do-daemonize: no
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    verbosity: 0
forward-zone:
    name: "."
    forward-addr: {up_ip}@{up_port}
    forward-tcp-upstream: yes
"#,
        ip = site.listen.ip(),
        port = site.listen.port(),
        up_ip = site.upstream.ip(),
        up_port = site.upstream.port(),
    );
    let mut command = Command::new(program);
    command.arg("-d").arg("-c").arg(write(site, "unbound.conf", &text)?);
    Ok(command)
}

fn dnsdist(program: &Path, site: &Site) -> io::Result<Command> {
    let text = format!(
        r#"setLocal("{listen}")
setACL("127.0.0.0/8")
setSecurityPollSuffix("")
setMaxTCPClientThreads(1)
setUDPMultipleMessagesVectorSize(64)
setMaxCachedTCPConnectionsPerDownstream(200)
newServer({{address="{upstream}", tcpOnly=true, maxInFlight=1000}})
getPool(""):setCache(newPacketCache(1000000, {{maxTTL=86400}}))
"#,
        listen = site.listen,
        upstream = site.upstream,
    );
    let mut command = Command::new(program);
    command.args(["--supervised", "--disable-syslog", "-C"]).arg(write(site, "dnsdist.conf", &text)?);
    Ok(command)
}

fn coredns(program: &Path, site: &Site) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.env("GOMAXPROCS", "1").arg("-conf").arg(write(site, "Corefile", &corefile(site))?);
    Ok(command)
}

fn node_cache(program: &Path, site: &Site) -> io::Result<Command> {
    let corefile = corefile(site);
    let mut command = Command::new(program);
    let ip = site.listen.ip().to_string();
    command
        .env("GOMAXPROCS", "1")
        .args(NO_SETUP)
        .args(["-metrics-listen-address=127.0.0.1:0", "-localip", &ip, "-conf"])
        .arg(write(site, "Corefile", &corefile)?);
    Ok(command)
}

/// CoreDNS and node-cache, which is CoreDNS with node set-up around it, read the same file.
fn corefile(site: &Site) -> String {
    format!(
        r"dns://.:{port} {{
    bind {ip}
    errors
    prometheus 127.0.0.1:0
    cache 3600 {{
        success 100000 3600
        denial 100000 1800
    }}
    forward . {upstream} {{
        force_tcp
    }}
}}
",
        port = site.listen.port(),
        ip = site.listen.ip(),
        upstream = site.upstream,
    )
}

/// Writes a configuration into the server's directory.
fn write(site: &Site, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = site.dir.join(name);
    fs::write(&path, text)?;
    Ok(path)
}
