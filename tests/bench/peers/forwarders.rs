//! Programs that are made to forward: dnsdist, dnsmasq, hickory-dns.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Site, write};

/// dnsdist with its packet cache.
pub fn dnsdist(program: &Path, site: &Site) -> io::Result<Command> {
    // Each of these lines is a thread.
    let listen = format!("addLocal(\"{}\", {{reusePort=true}})\n", site.listen).repeat(site.size.workers);
    let text = format!(
        r#"{listen}setACL("127.0.0.0/8")
setSecurityPollSuffix("")
setMaxTCPClientThreads(1)
setUDPMultipleMessagesVectorSize(64)
setMaxCachedTCPConnectionsPerDownstream(200)
newServer({{address="{upstream}", tcpOnly=true, maxInFlight=1000}})
getPool(""):setCache(newPacketCache({entries}, {{maxTTL=86400}}))
"#,
        listen = listen,
        upstream = site.upstream,
        entries = site.size.entries.max(100_000),
    );
    let mut command = Command::new(program);
    command.args(["--supervised", "--disable-syslog", "-C"]).arg(write(site, "dnsdist.conf", &text)?);
    Ok(command)
}

/// dnsmasq. It holds names one by one, an alias and its addresses separately.
pub fn dnsmasq(program: &Path, site: &Site) -> io::Result<Command> {
    let text = format!(
        "port={port}
listen-address={ip}
bind-interfaces
no-resolv
no-hosts
no-poll
server={up_ip}#{up_port}
cache-size={entries}
dns-forward-max=4096
user=root
pid-file=
",
        ip = site.listen.ip(),
        port = site.listen.port(),
        up_ip = site.upstream.ip(),
        up_port = site.upstream.port(),
        entries = (4 * site.size.entries).max(10_000),
    );
    let file = write(site, "dnsmasq.conf", &text)?;
    let mut command = Command::new(program);
    command.arg("--keep-in-foreground").arg(format!("--conf-file={}", file.display()));
    Ok(command)
}

/// hickory-dns as a forwarder. It answers from a cache of records, so negative answers are asked for again unless
/// they are trusted.
pub fn hickory_dns(program: &Path, site: &Site) -> io::Result<Command> {
    let text = format!(
        r#"listen_addrs_ipv4 = ["{ip}"]
listen_port = {port}
allow_networks = ["127.0.0.0/8"]
user = "root"
group = "root"

[[zones]]
zone = "."
zone_type = "External"

[zones.stores]
type = "forward"

[[zones.stores.name_servers]]
ip = "{up_ip}"
trust_negative_responses = true

[[zones.stores.name_servers.connections]]
port = {up_port}
protocol = {{ type = "tcp" }}

[zones.stores.options]
cache_size = {entries}
use_hosts_file = "Never"
max_active_requests = 4096
"#,
        ip = site.listen.ip(),
        port = site.listen.port(),
        up_ip = site.upstream.ip(),
        up_port = site.upstream.port(),
        entries = site.size.entries.max(100_000),
    );
    let file = write(site, "hickory.toml", &text)?;
    let mut command = Command::new(program);
    command.args(["--quiet", "--workers", &site.size.workers.to_string(), "--config"]).arg(file);
    Ok(command)
}
