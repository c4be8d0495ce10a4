//! CoreDNS, and node-cache, which is CoreDNS with node set-up around it.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Site, write};

/// What makes node-cache say its version and touch nothing.
pub const NODE_CACHE_VERSION: [&str; 5] =
    [NO_SETUP[0], NO_SETUP[1], NO_SETUP[2], "-localip=127.0.0.1", "-version"];
/// What keeps node-cache from touching the node's interfaces and rules.
const NO_SETUP: [&str; 3] = ["-setupinterface=false", "-setupiptables=false", "-skipteardown=true"];

/// CoreDNS.
pub fn coredns(program: &Path, site: &Site) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.env("GOMAXPROCS", site.size.workers.to_string()).arg("-conf").arg(write(
        site,
        "Corefile",
        &corefile(site),
    )?);
    Ok(command)
}

/// node-cache without its node set-up.
pub fn node_cache(program: &Path, site: &Site) -> io::Result<Command> {
    let corefile = corefile(site);
    let mut command = Command::new(program);
    let ip = site.listen.ip().to_string();
    command
        .env("GOMAXPROCS", site.size.workers.to_string())
        .args(NO_SETUP)
        .args(["-metrics-listen-address=127.0.0.1:0", "-localip", &ip, "-conf"])
        .arg(write(site, "Corefile", &corefile)?);
    Ok(command)
}

/// Both read the same file.
fn corefile(site: &Site) -> String {
    format!(
        r"dns://.:{port} {{
    bind {ip}
    errors
    prometheus 127.0.0.1:0
    cache 3600 {{
        success {entries} 3600
        denial {entries} 1800
    }}
    forward . {upstream} {{
        force_tcp
    }}
}}
",
        port = site.listen.port(),
        ip = site.listen.ip(),
        upstream = site.upstream,
        entries = site.size.entries.max(100_000),
    )
}
