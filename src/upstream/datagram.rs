//! One query over UDP: a fresh socket, so that the kernel picks a fresh random port, and a random id
//! (RFC 5452 section 9). The socket is connected: the kernel drops what comes from elsewhere, and tells us
//! when the port is closed.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::Transport;
use super::connection::{Lost, Reply};
use super::mark;
use super::message::{self, Query};
use super::standing::Standing;

/// Room for a reply. We announce 1232 bytes; some servers send more.
const REPLY: usize = 4096;

/// Asks and waits for the reply. What comes with another id or question is counted and dropped, and the
/// wait goes on: it may be a forgery that wants to be first.
pub async fn exchange(standing: &Standing, query: Query<'_>) -> Reply {
    let address = standing.server.address;
    // No descriptor or port left: that is no fault of the server's.
    let socket = UdpSocket::bind(any(address)).await.map_err(|_| Lost::Limit)?;
    let began = Instant::now();
    let reply = attempt(standing, query, &socket).await;
    match &reply {
        Ok(_) => standing.heard(began.elapsed(), true, Instant::now()),
        Err(error) => standing.failed(began, &format!("it cannot be reached: {error}")),
    }
    reply.map_err(|_| Lost::Unreachable)
}

/// Any address of the server's family, and any port.
pub(super) fn any(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

async fn attempt(standing: &Standing, query: Query<'_>, socket: &UdpSocket) -> io::Result<Vec<u8>> {
    mark::put(&socket2::SockRef::from(socket), standing.mark.get(), &standing.counters);
    socket.connect(standing.server.address).await?;
    let id = rand::random();
    let mut buffer = Vec::with_capacity(REPLY);
    query.write(id, Transport::Udp, &mut buffer);
    socket.send(&buffer).await?;
    loop {
        buffer.clear();
        socket.recv_buf(&mut buffer).await?;
        if message::id(&buffer) == Some(id) && query.is_answered_by(&buffer) {
            // A copy, as long as it is: shrunk in place, what is kept would hold a whole buffer's room. What the
            // kernel has cut is to be had over TCP.
            return Ok(if buffer.len() >= REPLY {
                message::truncated(&buffer)
            } else {
                buffer.as_slice().to_vec()
            });
        }
        standing.counters.mismatched.bump();
        tokio::task::yield_now().await; // there may be many
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::asking::Terms;
    use super::super::{Ask, Counters, Member, Server};
    use super::*;

    #[test]
    fn sockets_are_marked_when_told_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let server = Server { address: silent.local_addr().unwrap(), transport: Transport::Udp };
            let ask =
                Ask { name: Box::from([0]), rtype: 1, class: 1, dnssec_ok: false, checking_disabled: false };
            let query = Query::new(&ask);
            for mark in [None, Some(0x54)] {
                let counters = Arc::new(Counters::default());
                let standing = Standing::new(
                    &Member { mark, ..Member::new(server, counters.clone()) },
                    &Terms::default(),
                );
                let socket = UdpSocket::bind(any(server.address)).await.unwrap();
                let waited = attempt(&standing, query, &socket);
                assert!(tokio::time::timeout(Duration::from_millis(10), waited).await.is_err());
                let marked = socket2::SockRef::from(&socket).mark().unwrap();
                let refused = (0, u64::from(mark.is_some())); // without CAP_NET_ADMIN
                let wanted = (mark.unwrap_or(0), 0);
                assert!([wanted, refused].contains(&(marked, counters.unmarked.get())), "{mark:?}: {marked}");
            }
        });
    }
}
