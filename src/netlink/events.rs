//! Events, as an event loop waits for them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::message::Reply;
use super::socket::{Error, Family, Socket};

/// A socket that hears of the events of some multicast groups.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    /// The same socket as the event loop knows it, once it does. A `UdpSocket` in name alone: of tokio's own types it
    /// is the one for datagrams; nothing but its readiness is asked for.
    registered: Option<UdpSocket>,
}

impl Events {
    /// Hears of everything from now on. The groups are RTNLGRP_* or NFNLGRP_*, 1 to 32.
    ///
    /// # Errors
    /// The kernel gives no such socket.
    pub fn listen(family: Family, groups: &[u32]) -> Result<Self, Error> {
        Ok(Self { socket: Socket::listen(family, groups)?, registered: None })
    }

    /// The events that are there, without waiting. `None`: some were lost, and nobody knows which.
    ///
    /// # Errors
    /// The socket is broken: open another one.
    pub fn now(&mut self) -> Result<Option<Vec<Reply>>, Error> {
        self.socket.events()
    }

    /// Waits for events. Must be called on a tokio runtime with I/O, and always on the same. May be dropped and called
    /// again at any time: nothing is taken before it is told.
    ///
    /// # Errors
    /// As [`now`](Self::now).
    pub async fn next(&mut self) -> Result<Option<Vec<Reply>>, Error> {
        let registered = match self.registered.take() {
            Some(registered) => registered,
            None => self.register().map_err(Error::Broken)?,
        };
        let registered = self.registered.insert(registered);
        registered.readable().await.map_err(Error::Broken)?;
        let events = self.socket.events();
        // Everything is read: the event loop is told to wait for more.
        let _ = registered.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        events
    }

    fn register(&self) -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::from(self.socket.as_fd().try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
