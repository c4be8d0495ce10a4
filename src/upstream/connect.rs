//! Making a TCP connection: its socket's options and mark, and whose fault it is when it is not made.

use std::io;
use std::rc::Rc;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::standing::Standing;
use super::{Settings, mark};

/// Finds out whether connections with this mark can be made at all; see [`Tracking`](super::tracking::Tracking).
pub(super) fn judge_mark(standing: &Standing, mark: Option<u32>, marked: Option<u32>, is_made: bool) {
    if mark.is_none() {
        return;
    }
    if marked.is_none() {
        standing.counters.unmarked.bump();
    }
    if standing.tracking.tried(marked.is_some(), is_made) {
        mark::give_up(standing.server);
    }
}

/// Tries once more, so that a doubt does not last as long as the connection that has raised it.
pub(super) async fn settle_mark(standing: Rc<Standing>, mark: Option<u32>, settings: Settings) {
    let connected = timeout(settings.connect_timeout, connect(&standing, mark, &settings)).await;
    judge_mark(&standing, mark, mark, is_made(&connected));
}

pub(super) fn is_made<T, E, L>(connected: &Result<Result<T, E>, L>) -> bool {
    matches!(connected, Ok(Ok(_)))
}

/// Opens the stream: no delay for small writes, and an end for a peer that vanished without a reset.
pub(super) async fn connect(
    standing: &Standing,
    mark: Option<u32>,
    settings: &Settings,
) -> io::Result<TcpStream> {
    let address = standing.server.address;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    let options = socket2::SockRef::from(&socket);
    options.set_tcp_user_timeout(Some(settings.try_timeout * 2))?;
    mark::put(&options, mark, &standing.counters);
    socket.connect(address).await
}

/// Whether a connection was not made for want of descriptors, ports or memory: no fault of the server's.
///
/// EADDRNOTAVAIL has two meanings in connect(2): no local port is left, or, over IPv6, no local address fits the
/// server's. The second is as good as no route, and speaks against the server.
pub(super) fn is_ours(error: &io::Error, server: std::net::SocketAddr) -> bool {
    use libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    match error.raw_os_error() {
        Some(EADDRNOTAVAIL) => has_source(server),
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) => true,
        _ => false,
    }
}

/// Whether some local address fits the server's. A datagram socket is given its local address at connect(2) as
/// a stream is, but has its port by then, from a range of its own; nothing is sent.
fn has_source(server: std::net::SocketAddr) -> bool {
    let Ok(socket) = std::net::UdpSocket::bind(super::datagram::any(server)) else { return true };
    let connected = socket.connect(server);
    !connected.is_err_and(|error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::asking::Terms;
    use super::super::{Counters, Member, Server, Transport};
    use super::*;

    #[test]
    fn sockets_are_marked_when_told_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = Server { address: listener.local_addr().unwrap(), transport: Transport::Tcp };
            for mark in [None, Some(0x54)] {
                let counters = Arc::new(Counters::default());
                let standing = Standing::new(
                    &Member { mark, ..Member::new(server, counters.clone()) },
                    &Terms::default(),
                );
                let stream = connect(&standing, mark, &Settings::default()).await.unwrap();
                let marked = socket2::SockRef::from(&stream).mark().unwrap();
                let refused = (0, u64::from(mark.is_some())); // without CAP_NET_ADMIN
                let wanted = (mark.unwrap_or(0), 0);
                assert!([wanted, refused].contains(&(marked, counters.unmarked.get())), "{mark:?}: {marked}");
            }
        });
    }

    #[test]
    fn a_shortage_of_ports_is_ours_and_a_missing_address_is_not() {
        let none_left = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        assert!(
            is_ours(&none_left, "127.0.0.1:53".parse().unwrap()),
            "a local address fits: ports are short"
        );
        assert!(!is_ours(&io::Error::from_raw_os_error(libc::ECONNREFUSED), "127.0.0.1:53".parse().unwrap()));
    }
}
