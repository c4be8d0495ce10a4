//! The servers that are compared, and where they are found; how each is started stands in the files beside this.
//!
//! Each is a caching forwarder to the scripted upstream, and to nobody else: no root servers, no trust anchors, no
//! questions about security updates. Each gets as many threads as it is told, TCP to the upstream where it can,
//! a cache that the benchmark does not fill, no logs, and no work that the others do not do, no validation for
//! one. node-cache and CoreDNS keep their metrics because no cluster runs them without, and sidestep always counts.
//!
//! A new peer is a function that builds its command line, and one more entry in [`PEERS`].

mod coredns;
mod forwarders;
mod own;
mod resolvers;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of this program in the tables.
pub const OURS: &str = "sidestep";
/// The name of the ceiling in the tables.
pub const CEILING: &str = "echo";

/// A server that can be measured.
pub struct Peer {
    /// Its name in the tables and for `--only`.
    pub name: &'static str,
    /// The program's file name.
    program: &'static str,
    /// The arguments that make it say its version; none where it has none.
    version: &'static [&'static str],
    /// Whether a run that names nobody measures it.
    pub usual: bool,
    /// What a reader of the tables must know about it; empty where there is nothing.
    pub note: &'static str,
    /// Whether it answers over TCP in a way that can be measured.
    pub tcp: bool,
    /// Whether it can answer on several threads.
    pub threads: bool,
    /// Builds its command line and writes its configuration.
    pub command: fn(&Path, &Site) -> io::Result<Command>,
}

/// Where a server finds what it needs, and how large it is to be.
pub struct Site {
    /// A directory of its own, for its configuration.
    pub dir: PathBuf,
    /// Where it is to answer.
    pub listen: SocketAddr,
    /// Where it is to ask.
    pub upstream: SocketAddr,
    /// The measures that the scenario asks for.
    pub size: Size,
}

/// What a scenario asks of all servers.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Threads that answer.
    pub workers: usize,
    /// Answers that the cache must hold at least.
    pub entries: usize,
    /// Bytes that the echo answers with.
    pub answer: usize,
}

/// What most of them are: usual, nothing to say about it, measured over TCP too.
const PEER: Peer = Peer {
    name: "",
    program: "",
    version: &["--version"],
    usual: true,
    note: "",
    tcp: true,
    threads: true,
    command: own::echo,
};

/// All of them, in the order of the table.
pub const PEERS: [Peer; 10] = [
    Peer { name: CEILING, version: &[], ..PEER },
    Peer { name: OURS, command: own::sidestep, ..PEER },
    Peer { name: "unbound", program: "unbound", version: &["-V"], command: resolvers::unbound, ..PEER },
    Peer { name: "dnsdist", program: "dnsdist", command: forwarders::dnsdist, ..PEER },
    Peer {
        name: "pdns-recursor",
        program: "pdns_recursor",
        usual: false,
        note: "asks its upstream over UDP: it cannot be told to use TCP",
        command: resolvers::pdns_recursor,
        ..PEER
    },
    Peer {
        name: "knot-resolver",
        program: "kresd",
        version: &["-V"],
        usual: false,
        note: "has one thread, and is not measured with two",
        threads: false,
        command: resolvers::knot_resolver,
        ..PEER
    },
    Peer {
        name: "dnsmasq",
        program: "dnsmasq",
        usual: false,
        note: "asks its upstream over UDP, has one thread, and a process for each TCP client: it is not measured over TCP, \
               nor with two threads",
        tcp: false,
        threads: false,
        command: forwarders::dnsmasq,
        ..PEER
    },
    Peer {
        name: "hickory-dns",
        program: "hickory-dns",
        usual: false,
        command: forwarders::hickory_dns,
        ..PEER
    },
    Peer { name: "coredns", program: "coredns", version: &["-version"], command: coredns::coredns, ..PEER },
    Peer {
        name: "node-cache",
        program: "node-cache",
        version: &coredns::NODE_CACHE_VERSION,
        command: coredns::node_cache,
        ..PEER
    },
];

impl Peer {
    /// The program's file: what was given for ourselves, this very program for the echo, otherwise what is
    /// found on the search path, in the places for servers, or where Go and cargo install.
    pub fn program(&self, ours: &Path) -> Option<PathBuf> {
        match self.name {
            OURS => ours.is_file().then(|| ours.to_owned()),
            CEILING => std::env::current_exe().ok(),
            _ => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
                let places = [PathBuf::from("/usr/local/sbin"), PathBuf::from("/usr/sbin")];
                let built = ["go/bin", ".cargo/bin"].map(|place| home.join(place));
                let mut places = std::env::split_paths(&path).chain(places).chain(built);
                places.find_map(|dir| Some(dir.join(self.program)).filter(|file| file.is_file()))
            }
        }
    }

    /// What the program says about its version: the first word with digits and a dot, from its first digit on.
    pub fn version(&self, program: &Path) -> Option<String> {
        if self.version.is_empty() {
            return None;
        }
        let output = Command::new(program).args(self.version).output().ok()?;
        // Some say it where others complain.
        let text =
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        text.split([' ', '\n']).find_map(|word| {
            let number = &word[word.find(|c: char| c.is_ascii_digit())?..];
            number.contains('.').then(|| number.trim_end_matches(',').to_owned())
        })
    }
}

/// Writes a configuration into the server's directory.
fn write(site: &Site, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = site.dir.join(name);
    fs::write(&path, text)?;
    Ok(path)
}
