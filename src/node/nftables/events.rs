//! Whether others have changed the packet filter.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::fault::fault;
use super::message::{Kind, SUBSYSTEM};
use super::table::{FAIL_OPEN, OWN};
use crate::netlink::{Error, Family, Reply, Socket};
use crate::node::Fault;

/// NFNLGRP_NFTABLES.
const GROUP: u32 = 7;

/// A socket that hears of every change of nf_tables. Readable: ask [`changed`](Self::changed).
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    /// Changes by this port are our own.
    own: u32,
}

impl Events {
    /// Listens; what the socket of port `own` does is not told of.
    pub(super) fn listen(own: u32) -> Result<Self, Fault> {
        let socket = Socket::listen(Family::Netfilter, &[GROUP]);
        socket.map(|socket| Self { socket, own }).map_err(|error| fault("listening to events", &error))
    }

    /// Takes the events that are there, without waiting, and says whether others may have changed what concerns us.
    /// Elements of others' sets do not: kube-proxy changes them with every endpoint.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn changed(&mut self) -> Result<bool, Error> {
        let events = self.socket.events()?;
        Ok(events.is_none_or(|events| events.iter().any(|event| self.concerns(event))))
    }

    fn concerns(&self, event: &Reply) -> bool {
        let [subsystem, kind] = event.kind.to_be_bytes();
        if subsystem != SUBSYSTEM || event.port == self.own {
            return false;
        }
        let of = |one: Kind| u16::from(kind) == one as u16;
        if of(Kind::NewElements) || of(Kind::DeleteElements) {
            let table = event.attributes(4).text(1);
            return table == Some(OWN) || table == Some(FAIL_OPEN);
        }
        !of(Kind::NewGeneration)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
