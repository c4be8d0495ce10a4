//! Sockets, bound and ready for a worker.
//!
//! Every worker has a socket of its own on every address (SO_REUSEPORT, Linux 3.9): the kernel spreads
//! datagrams and connections among them. The price is that a second process could bind the same address and take half of
//! the queries in silence. A second one of ours is kept away by a [guard](super::guard). Other servers set SO_REUSEPORT
//! too (CoreDNS and unbound do): so each address is bound once without it before anything else, which the kernel refuses
//! when anybody is there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::batch;
use crate::limit::Limit;

/// TCP handshakes that wait for us to accept them.
const BACKLOG: i32 = 1024;
/// Bytes of queries that the kernel keeps for us while we are busy.
const RECEIVE_BUFFER: Limit<usize> = Limit::new(64 << 10, 1 << 20, 16 << 20);

/// How often the kernel may choose a port that is free for UDP and TCP.
const PORT_TRIES: usize = 16;

/// Whether an address is on this machine when it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It should be: that it is not there is a mistake, and the kernel says so.
    Expected,
    /// We put it up ourselves, after all is bound (IP_FREEBIND, Linux 2.4; IPV6_FREEBIND, Linux 4.15; ip(7)): clients
    /// that find the address also find us.
    Coming,
}

/// One worker's sockets on one address.
#[derive(Debug)]
pub struct Sockets {
    /// Datagrams.
    pub udp: UdpSocket,
    /// Connections.
    pub tcp: TcpListener,
}

/// Why an address could not be bound.
#[derive(Debug)]
pub enum BindError {
    /// Another instance of this program answers there.
    Taken {
        /// The address.
        address: SocketAddr,
        /// Its process id, where the kernel tells (0 in another pid namespace).
        pid: Option<i32>,
    },
    /// Another instance of this program holds the link, or the rules.
    Held {
        /// Which of them.
        what: String,
        /// Its process id, where the kernel tells.
        pid: Option<i32>,
    },
    /// The kernel refused.
    Refused {
        /// The address.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// What it said.
        error: io::Error,
    },
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken { address, pid: Some(pid) } => write!(
                f,
                "cannot listen on {address}: sidestep already runs there as process {pid}; stop it (kill {pid}) \
                 or give this one another address"
            ),
            Self::Taken { address, pid: None } => write!(
                f,
                "cannot listen on {address}: sidestep already runs there (its process id is not visible from \
                 here); stop it or give this one another address"
            ),
            Self::Held { what, pid } => {
                write!(
                    f,
                    "cannot hold {what}: sidestep already does as {}, and a node has one set of rules; stop \
                     it, or have it hold these addresses too",
                    who(*pid)
                )
            }
            Self::Refused { address, protocol, error } => {
                write!(f, "cannot listen on {address} ({protocol}): {error}; ")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => write!(
                        f,
                        "another program answers there: `ss -lnp 'sport = :{}'` names it",
                        address.port()
                    ),
                    io::ErrorKind::PermissionDenied => write!(
                        f,
                        "ports below 1024 need root or CAP_NET_BIND_SERVICE, or take a higher one with --listen"
                    ),
                    io::ErrorKind::AddrNotAvailable => write!(
                        f,
                        "no interface of this machine has the address {}: `ip address` shows those it has",
                        address.ip()
                    ),
                    _ => write!(f, "try another address with --listen"),
                }
            }
        }
    }
}

impl std::error::Error for BindError {}

/// A process, as far as it is to be seen.
pub fn who(pid: Option<i32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Whether nobody listens at `address` yet, not even with SO_REUSEPORT. To be asked about every address before the
/// first is bound: our own sockets would count. A wildcard of somebody else's counts as well.
///
/// # Errors
/// What the kernel said, and of which protocol.
pub fn is_free(address: SocketAddr, presence: Presence) -> Result<(), BindError> {
    let try_bind = |kind, protocol| {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        place(&socket, address, presence)?;
        if kind == Type::STREAM {
            // Connections that ended a moment ago are not in the way; a listener still is.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())
    };
    let refused = |protocol| move |error| BindError::Refused { address, protocol, error };
    try_bind(Type::DGRAM, Protocol::UDP).map_err(refused("udp"))?;
    try_bind(Type::STREAM, Protocol::TCP).map_err(refused("tcp"))
}

/// Binds `workers` pairs of sockets to `address`. Port 0 is chosen by the kernel for the first and taken by the
/// others; the address as it came out is returned with them.
///
/// # Errors
/// What the kernel said, and of which protocol.
pub fn bind(
    address: SocketAddr,
    presence: Presence,
    workers: usize,
) -> Result<(SocketAddr, Vec<Sockets>), BindError> {
    let first = bind_first(address, presence)?;
    let refused = |error| BindError::Refused { address, protocol: "udp", error };
    let bound = first.udp.local_addr().map_err(refused)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(bind_pair(bound, presence)?);
    }
    Ok((bound, sockets))
}

/// A port that the kernel chose for UDP may be somebody's over TCP: then it chooses again.
fn bind_first(address: SocketAddr, presence: Presence) -> Result<Sockets, BindError> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let pair = bind_pair(address, presence);
        if pair.is_ok() || tries == 0 {
            return pair;
        }
    }
}

fn bind_pair(address: SocketAddr, presence: Presence) -> Result<Sockets, BindError> {
    let refused = |protocol| move |error| BindError::Refused { address, protocol, error };
    let udp = bind_udp(address, presence).map_err(refused("udp"))?;
    let bound = udp.local_addr().map_err(refused("udp"))?;
    let tcp = bind_tcp(bound, presence).map_err(refused("tcp"))?;
    Ok(Sockets { udp, tcp })
}

fn bind_udp(address: SocketAddr, presence: Presence) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    prepare(&socket, address, presence)?;
    if address.ip().is_unspecified() {
        batch::want_local_address(socket.as_fd(), address.is_ipv6())?;
    }
    // Best effort: the kernel caps it at net.core.rmem_max and says nothing.
    socket.set_recv_buffer_size(RECEIVE_BUFFER.default)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr, presence: Presence) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    prepare(&socket, address, presence)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listener that shares its port with nobody, such as HTTP's.
///
/// # Errors
/// What the kernel said.
pub fn listen(address: SocketAddr, presence: Presence) -> io::Result<TcpListener> {
    listen_alone(address, |socket| place(socket, address, presence))
}

/// As [`listen`], at this port of every address of the machine, of both families; on a machine without IPv6, of IPv4.
///
/// # Errors
/// What the kernel said.
pub fn listen_everywhere(port: u16) -> io::Result<TcpListener> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    listen_alone(both, |socket| socket.set_only_v6(false)).or_else(|error| match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
            listen_alone(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), |_| Ok(()))
        }
        _ => Err(error),
    })
}

fn listen_alone(
    address: SocketAddr,
    place: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    place(&socket)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn prepare(socket: &Socket, address: SocketAddr, presence: Presence) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(true)?;
    place(socket, address, presence)
}

/// What decides where a socket may be bound.
fn place(socket: &Socket, address: SocketAddr, presence: Presence) -> io::Result<()> {
    if address.is_ipv6() {
        // 0.0.0.0 and [::] can then both be listened on, and clients never show as ::ffff:a.b.c.d.
        socket.set_only_v6(true)?;
    }
    match (presence, address) {
        (Presence::Expected, _) => Ok(()),
        (Presence::Coming, SocketAddr::V4(_)) => socket.set_freebind_v4(true),
        (Presence::Coming, SocketAddr::V6(_)) => socket.set_freebind_v6(true),
    }
}

/// Where a client on this machine reaches `address`: a wildcard is asked on loopback.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_a_pair_on_the_same_port() {
        let (address, sockets) = bind("127.0.0.1:0".parse().unwrap(), Presence::Expected, 3).unwrap();
        for s in &sockets {
            assert_eq!(s.udp.local_addr().unwrap(), address);
            assert_eq!(s.tcp.local_addr().unwrap(), address);
        }
        assert_eq!(sockets.len(), 3);
    }

    #[test]
    fn a_listener_everywhere_is_found_by_both_families() {
        let listener = listen_everywhere(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        if listener.local_addr().unwrap().is_ipv6() {
            assert!(std::net::TcpStream::connect(("::1", port)).is_ok());
        }
        assert_eq!(listen_everywhere(port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_foreign_listener_that_shares_its_port_is_found() {
        let (address, foreign) = bind("127.0.0.1:0".parse().unwrap(), Presence::Expected, 1).unwrap();
        assert!(bind(address, Presence::Expected, 1).is_ok(), "the kernel itself lets the same user share");
        let message = is_free(address, Presence::Expected).unwrap_err().to_string();
        assert!(message.contains("(udp)") && message.contains("ss -lnp"), "{message}");
        let Sockets { udp, tcp } = foreign.into_iter().next().unwrap();
        drop(udp);
        assert!(is_free(address, Presence::Expected).unwrap_err().to_string().contains("(tcp)"));
        drop(tcp);
        assert!(is_free(address, Presence::Expected).is_ok());
    }

    #[test]
    fn a_foreign_listener_is_reported_with_the_way_to_find_it() {
        let foreign = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = foreign.local_addr().unwrap();
        let message = bind(address, Presence::Expected, 1).unwrap_err().to_string();
        assert!(message.contains("(udp)") && message.contains("ss -lnp"), "{message}");
    }

    /// Addresses for documentation (RFC 5737, RFC 3849), which no machine has.
    const NOWHERE: [(&str, &str); 2] = [("192.0.2.1", "0.0.0.0:0"), ("2001:db8::1", "[::]:0")];

    #[test]
    fn an_address_that_is_coming_can_be_bound_before_it_is_there() {
        for (ip, _) in NOWHERE {
            let address = SocketAddr::new(ip.parse().unwrap(), 0);
            let error = bind(address, Presence::Expected, 1).unwrap_err();
            assert!(
                matches!(&error, BindError::Refused { error, .. }
                if error.kind() == io::ErrorKind::AddrNotAvailable),
                "{error}"
            );
            let (bound, sockets) = bind(address, Presence::Coming, 2).unwrap();
            assert_eq!((bound.ip(), sockets.len()), (address.ip(), 2));
            assert!(is_free(bound, Presence::Coming).is_err(), "our own listeners count");
            drop(sockets);
            assert!(is_free(bound, Presence::Coming).is_ok());
        }
    }

    #[test]
    fn somebody_who_listens_everywhere_is_found_at_an_address_that_is_coming() {
        for (ip, wildcard) in NOWHERE {
            let (foreign, sockets) = bind(wildcard.parse().unwrap(), Presence::Expected, 1).unwrap();
            let address = SocketAddr::new(ip.parse().unwrap(), foreign.port());
            let message = is_free(address, Presence::Coming).unwrap_err().to_string();
            assert!(message.contains("(udp)") && message.contains("ss -lnp"), "{message}");
            let Sockets { udp, tcp } = sockets.into_iter().next().unwrap();
            drop(udp);
            assert!(is_free(address, Presence::Coming).unwrap_err().to_string().contains("(tcp)"));
            drop(tcp);
            assert!(is_free(address, Presence::Coming).is_ok());
        }
    }
}
