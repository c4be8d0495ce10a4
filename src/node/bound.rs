//! Who is bound where clients ask: what a teardown would take from under somebody who lives.
//!
//! The kernel's own tables of sockets are read (proc_net(5)), as trying to bind would tell neither who it is nor the
//! difference between somebody and a port that we may not have.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::nftables;

/// Somebody who takes clients' queries at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What is asked there.
    pub address: SocketAddr,
    /// `udp` or `tcp`.
    pub protocol: &'static str,
    /// The process; unknown if it is in another PID namespace, or we may not look.
    pub process: Option<u32>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, protocol, process } = self;
        write!(f, "{address} ({protocol}) is held by ")?;
        let Some(process) = process else { return write!(f, "a process that is not to be seen from here") };
        match fs::read_to_string(format!("/proc/{process}/comm")) {
            Ok(name) => write!(f, "{} (process {process})", name.trim()),
            Err(_) => write!(f, "process {process}"),
        }
    }
}

/// The first who takes queries at one of these addresses: bound to it, or to its port at every address. What cannot be
/// read (no /proc) holds nobody.
pub fn find(asked: &BTreeSet<SocketAddr>) -> Option<Bound> {
    // Unconnected (TCP_CLOSE, the state that a UDP socket has while it takes datagrams from anybody), and TCP_LISTEN.
    const TABLES: [(&str, &str, &str); 4] =
        [("udp", "udp", "07"), ("udp6", "udp", "07"), ("tcp", "tcp", "0A"), ("tcp6", "tcp", "0A")];
    TABLES.into_iter().find_map(|(table, protocol, state)| {
        // Of this thread: a thread may be in a network namespace of its own.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        let sockets = text.lines().skip(1).filter_map(|line| Socket::read(line, state));
        sockets.into_iter().find_map(|socket| {
            let address = *asked.iter().find(|address| socket.takes(**address))?;
            Some(Bound { address, protocol, process: nftables::holder(socket.inode) })
        })
    })
}

/// A line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    inode: u64,
}

impl Socket {
    /// Columns sl, local_address, rem_address, st, queues, timer, retrnsmt, uid, timeout, inode; if it is in this state.
    fn read(line: &str, state: &str) -> Option<Self> {
        let mut columns = line.split_whitespace();
        let local = address(columns.nth(1)?)?;
        let is_so = columns.nth(1)? == state;
        let inode = columns.nth(5)?.parse().ok()?;
        is_so.then_some(Self { local, inode })
    }

    /// Whether what is sent to this address, or to any that it stands for, comes here. That one at `[::]` may be kept
    /// to IPv6 is not told; who is there is looked at all the same.
    fn takes(&self, address: SocketAddr) -> bool {
        let (ours, theirs) = (self.local.ip(), address.ip());
        let holds = |whole: IpAddr, one: IpAddr| whole.is_unspecified() && (whole.is_ipv6() || one.is_ipv4());
        let meet = ours.to_canonical() == theirs || holds(ours, theirs) || holds(theirs, ours);
        self.local.port() == address.port() && meet
    }
}

/// `0A14FEA9:0035`: words of an address as the machine's numbers, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match words.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn at(address: SocketAddr) -> Option<Bound> {
        find(&BTreeSet::from([address]))
    }

    #[test]
    fn whoever_is_bound_is_found_by_protocol_and_process() {
        for ip in ["127.0.0.1", "::1"] {
            let udp = UdpSocket::bind((ip, 0)).unwrap();
            let found = at(udp.local_addr().unwrap()).unwrap();
            assert_eq!((found.protocol, found.process), ("udp", Some(std::process::id())), "{ip}");
            assert!(found.to_string().contains(&format!("(process {})", std::process::id())), "{found}");
            let tcp = TcpListener::bind((ip, 0)).unwrap();
            let found = at(tcp.local_addr().unwrap()).unwrap();
            assert_eq!((found.protocol, found.process), ("tcp", Some(std::process::id())), "{ip}");
        }
    }

    #[test]
    fn whoever_is_bound_everywhere_is_found_too_and_a_client_is_not() {
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        assert!(at(([127, 0, 0, 9], port).into()).is_some());
        assert!(at((Ipv6Addr::UNSPECIFIED, port).into()).is_some(), "that is IPv4 as well");
        assert_eq!(at((Ipv6Addr::LOCALHOST, port).into()), None, "of IPv4 alone");
        let client = UdpSocket::bind("127.0.0.8:0").unwrap();
        client.connect(("127.0.0.1", port)).unwrap();
        assert_eq!(at(client.local_addr().unwrap()), None);
    }

    #[test]
    fn a_line_that_is_none_is_passed_over() {
        for line in
            ["", "0: 0100007F:0035", "0: 0100007F 0:0 07 0 0 0 0 0 5", "0: 1234:0035 0:0 07 0 0 0 0 0 5"]
        {
            assert_eq!(Socket::read(line, "07"), None, "{line}");
        }
    }
}
