//! Events: whoever takes our link or an address away is noticed at once, not by the next check.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::kernel::{ALIAS, Event};
use crate::netlink::{Family, Socket};
use crate::node::{Fault, FaultKind};

/// RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR (linux/rtnetlink.h).
const GROUPS: [u32; 3] = [1, 5, 9];

/// Tells that the link or an address may be other than it was: to whom waits in an event loop ([`heard`](Self::heard)),
/// or looks when the descriptor is readable ([`changed`](Self::changed)).
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    /// The same socket as the event loop knows it, once it does.
    registered: Option<UdpSocket>,
    name: String,
    addresses: Vec<IpAddr>,
}

impl Events {
    /// Hears of everything from now on. To be opened before [`up`](super::Link::up), or what happens between the two
    /// is missed.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn open(name: &str, addresses: &[IpAddr]) -> Result<Self, Fault> {
        let socket = Socket::listen(Family::Route, &GROUPS).map_err(|error| broken(name, &error))?;
        Ok(Self { socket, registered: None, name: name.to_owned(), addresses: addresses.to_owned() })
    }

    /// Takes all events that are there, without waiting, and says whether one was about our link or one of our
    /// addresses, on whatever link. Events that were lost are taken as yes. What we do ourselves is among them: a
    /// check that finds nothing to do makes no events, so this ends after one.
    ///
    /// # Errors
    /// The socket is broken: open another one.
    pub fn changed(&mut self) -> Result<bool, Fault> {
        let events = self.socket.events().map_err(|error| broken(&self.name, &error))?;
        let Some(events) = events else { return Ok(true) };
        Ok(events.iter().filter_map(Event::read).any(|event| self.concerns(&event)))
    }

    /// Returns once [`changed`](Self::changed) has something to say. Must be called on a tokio runtime with I/O, and
    /// always on the same. May be dropped and called again at any time: nothing is taken before it is told.
    ///
    /// # Errors
    /// As [`changed`](Self::changed).
    pub async fn heard(&mut self) -> Result<(), Fault> {
        loop {
            let registered = match self.registered.take() {
                Some(registered) => registered,
                None => self.register().map_err(|error| broken(&self.name, &error.into()))?,
            };
            let registered = self.registered.insert(registered);
            registered.readable().await.map_err(|error| broken(&self.name, &error.into()))?;
            if self.take()? {
                return Ok(());
            }
        }
    }

    /// Registers the socket with the event loop. A `UdpSocket` in name alone: of tokio's own types it is the one for
    /// datagrams; nothing but its readiness is asked for.
    fn register(&self) -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::from(self.socket.as_fd().try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    /// Takes all events, and tells the event loop that they are taken.
    fn take(&mut self) -> Result<bool, Fault> {
        let registered = self.registered.take();
        let mut changed = Ok(false);
        if let Some(registered) = &registered {
            let _ = registered.try_io(Interest::READABLE, || {
                changed = self.changed();
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
        }
        self.registered = registered;
        changed
    }

    fn concerns(&self, event: &Event) -> bool {
        match event {
            // Renamed, it still has its alias.
            Event::Link(link) => link.name == self.name || link.alias == ALIAS,
            Event::Address(address) => self.addresses.contains(&address.ip),
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn broken(name: &str, error: &crate::netlink::Error) -> Fault {
    let what = format!("cannot hear of changes of link {name}: {error}; it is looked at on the timer alone");
    Fault { kind: FaultKind::LinkCheck, what }
}
