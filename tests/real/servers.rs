//! CoreDNS, unbound and sidestep, each at an address of its own.
//!
//! Servers that cannot choose a port by themselves get a loopback address instead: 127.0.0.0/8 is large, so
//! that nobody else is there, and a server that is killed can come back at the same place.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tempfile::TempDir;

use super::namespace::Namespace;
use super::process::{Process, program};

/// Where servers answer. Not 53, because the machine may use that on wildcard addresses.
const PORT: u16 = 5300;

/// An address that nobody else uses: two parts from our process id, one counted.
pub fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let host = NEXT.fetch_add(1, Relaxed);
    assert!(host < 255, "one address too many");
    SocketAddr::from((Ipv4Addr::new(127, 64 | (high & 63), low, host), PORT))
}

/// A server, with the files it reads.
pub struct Server {
    pub process: Process,
    pub address: SocketAddr,
    _directory: TempDir,
}

/// Where CoreDNS is.
fn coredns_program() -> PathBuf {
    let install = "go install github.com/coredns/coredns@v1.14.4, and put $(go env GOPATH)/bin into PATH";
    program("coredns", "SIDESTEP_COREDNS", install)
}

/// Starts CoreDNS at `address`. `blocks` are server blocks of a Corefile, each zone with its plugins; `files`
/// are put beside it.
pub fn coredns(address: SocketAddr, blocks: &[(&str, &str)], files: &[(&str, &str)]) -> Server {
    coredns_by(Command::new(coredns_program()), address, blocks, files)
}

/// The same in a namespace.
pub fn coredns_in(space: &Namespace, address: SocketAddr, blocks: &[(&str, &str)]) -> Server {
    coredns_by(space.command(coredns_program()), address, blocks, &[])
}

fn coredns_by(
    mut command: Command,
    address: SocketAddr,
    blocks: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Server {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let corefile: String = blocks
        .iter()
        .map(|(zone, plugins)| {
            format!("{zone}:{} {{\n bind {}\n {plugins}\n}}\n", address.port(), address.ip())
        })
        .collect();
    let path = directory.path().join("Corefile");
    fs::write(&path, corefile).unwrap();
    command.arg("-conf").arg(&path).current_dir(directory.path());
    let mut process = Process::start("coredns", command, directory.path());
    process.wait_for("CoreDNS-1.");
    Server { process, address, _directory: directory }
}

/// Starts unbound with `data` as lines of its `server:` section.
pub fn unbound(data: &str) -> Server {
    let address = address();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("unbound.conf");
    let (ip, port) = (address.ip(), address.port());
    let base = directory.path().display();
    let text = format!(
        "server:\n interface: {ip}@{port}\n do-daemonize: no\n use-syslog: no\n logfile: \"\"\n username: \"\"\n \
         chroot: \"\"\n directory: \"{base}\"\n pidfile: \"\"\n num-threads: 1\n module-config: \"iterator\"\n\
         {data}\nremote-control:\n control-enable: no\n"
    );
    fs::write(&path, text).unwrap();
    let mut command = Command::new(program("unbound", "SIDESTEP_UNBOUND", "apt-get install unbound"));
    command.arg("-d").arg("-c").arg(&path);
    let mut process = Process::start("unbound", command, directory.path());
    process.wait_for("start of service");
    Server { process, address, _directory: directory }
}

/// Starts sidestep with one listening address and these arguments.
pub fn sidestep(arguments: &[&str]) -> Server {
    let address = address();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep"));
    command.arg("--listen").arg(address.to_string()).args(arguments);
    sidestep_by(command, address)
}

/// Starts sidestep in a namespace with just these arguments; they make it listen at `address`.
pub fn sidestep_in(space: &Namespace, address: SocketAddr, arguments: &[&str]) -> Server {
    let mut command = space.command(env!("CARGO_BIN_EXE_sidestep"));
    command.args(arguments);
    sidestep_by(command, address)
}

fn sidestep_by(command: Command, address: SocketAddr) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start("sidestep", command, directory.path());
    process.wait_for("try: dig");
    Server { process, address, _directory: directory }
}
