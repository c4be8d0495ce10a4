//! The mark of our own sockets (SO_MARK, socket(7)): by it a packet filter knows our connections to a server
//! from all others to the same address and port, and can leave just them untracked.

use std::sync::Once;

use socket2::SockRef;

use super::{Counters, Server};

/// The kernel's refusal is the same for every socket: it is told once, and counted.
static REFUSED: Once = Once::new();

/// Each worker finds out the same.
static GIVEN_UP: Once = Once::new();

/// Says that connections to this server are tracked from now on.
pub(super) fn give_up(server: Server) {
    GIVEN_UP.call_once(|| {
        tracing::warn!(
            %server,
            "untracked connections cannot be made there and tracked ones can, so they are tracked from now on: it is \
             the address of a Service rather than of a pod; with notrack_upstream, name a headless Service with svc://"
        );
    });
}

/// Marks a socket before it is connected. A kernel that refuses (CAP_NET_ADMIN or, since Linux 5.17,
/// CAP_NET_RAW is wanted) does not keep it from being used: then it is a connection like others.
pub(super) fn put(socket: &SockRef<'_>, mark: Option<u32>, counters: &Counters) {
    let Some(mark) = mark else { return };
    if let Err(error) = socket.set_mark(mark) {
        counters.unmarked.bump();
        REFUSED.call_once(|| {
            tracing::warn!(
                %error,
                "connections to upstreams cannot be marked and stay tracked; CAP_NET_ADMIN is needed for it"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: u32 = 0x54;

    #[test]
    fn a_socket_has_the_mark_or_is_counted() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let counters = Counters::default();
        put(&SockRef::from(&socket), None, &counters);
        assert_eq!((SockRef::from(&socket).mark().unwrap(), counters.unmarked.get()), (0, 0));
        put(&SockRef::from(&socket), Some(MARK), &counters);
        let marked = (SockRef::from(&socket).mark().unwrap(), counters.unmarked.get());
        assert!([(MARK, 0), (0, 1)].contains(&marked), "as root, or not: {marked:?}");
    }
}
