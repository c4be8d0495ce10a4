//! Resolvers that are told to forward everything: unbound, PowerDNS Recursor, Knot Resolver.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Site, write};

/// unbound; 64 MiB of messages hold 100,000 answers, and its record cache is to be twice that.
pub fn unbound(program: &Path, site: &Site) -> io::Result<Command> {
    let megabytes = (site.size.entries / 1000).max(64);
    let text = format!(
        r#"server:
    interface: {ip}@{port}
    access-control: 127.0.0.0/8 allow
    num-threads: {workers}
    so-reuseport: yes
    module-config: "iterator"
    msg-cache-size: {megabytes}m
    rrset-cache-size: {twice}m
    incoming-num-tcp: 512
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
        workers = site.size.workers,
        megabytes = megabytes,
        twice = 2 * megabytes,
        up_ip = site.upstream.ip(),
        up_port = site.upstream.port(),
    );
    let mut command = Command::new(program);
    command.arg("-d").arg("-c").arg(write(site, "unbound.conf", &text)?);
    Ok(command)
}

/// PowerDNS Recursor. Its packet cache and its record cache are both on, as they are by default.
pub fn pdns_recursor(program: &Path, site: &Site) -> io::Result<Command> {
    let text = format!(
        r"local-address={ip}
local-port={port}
allow-from=127.0.0.0/8
forward-zones-recurse=.={upstream}
dont-query=
hint-file=no
root-nx-trust=no
dnssec=off
qname-minimization=no
security-poll-suffix=
threads={workers}
pdns-distributes-queries=no
reuseport=yes
max-mthreads=4096
max-cache-entries={entries}
max-packetcache-entries={entries}
max-concurrent-requests-per-tcp-connection=128
max-tcp-clients=512
client-tcp-timeout=30
statistics-interval=0
quiet=yes
loglevel=0
log-common-errors=no
disable-syslog=yes
daemon=no
write-pid=no
socket-dir={dir}
",
        ip = site.listen.ip(),
        port = site.listen.port(),
        upstream = site.upstream,
        workers = site.size.workers,
        entries = site.size.entries.max(1_000_000),
        dir = site.dir.display(),
    );
    write(site, "recursor.conf", &text)?;
    let mut command = Command::new(program);
    command.arg(format!("--config-dir={}", site.dir.display()));
    Ok(command)
}

/// Knot Resolver, one process, as its manual says for forwarding without validation. The modules that would ask for
/// root servers and trust anchors are unloaded. Its cache is a file in memory.
pub fn knot_resolver(program: &Path, site: &Site) -> io::Result<Command> {
    let text = format!(
        r"net.listen('{ip}', {port}, {{ kind = 'dns' }})
trust_anchors.remove('.')
for _, name in ipairs({{ 'ta_update', 'ta_sentinel', 'ta_signal_query', 'priming', 'detect_time_skew', 'detect_time_jump' }}) do
    pcall(modules.unload, name)
end
modules = {{ 'policy' }}
net.tcp_pipeline(4096)
cache.size = {megabytes} * MB
policy.add(policy.all(policy.FLAGS({{ 'TCP' }})))
policy.add(policy.all(policy.STUB('{up_ip}@{up_port}')))
log_level('crit')
",
        ip = site.listen.ip(),
        port = site.listen.port(),
        megabytes = (site.size.entries / 1000).max(100),
        up_ip = site.upstream.ip(),
        up_port = site.upstream.port(),
    );
    let file = write(site, "kresd.conf", &text)?;
    let mut command = Command::new(program);
    command.arg("-n").arg("-c").arg(file).arg(&site.dir);
    Ok(command)
}
