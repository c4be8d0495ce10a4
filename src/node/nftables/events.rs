//! Whether others have changed the packet filter.

use std::os::fd::{AsFd, BorrowedFd};

use super::fault::fault;
use super::message::{Kind, SUBSYSTEM};
use super::table::{FAIL_OPEN, OWN};
use crate::netlink::{self, Error, Family, Reply};
use crate::node::Fault;

/// NFNLGRP_NFTABLES.
const GROUP: u32 = 7;

/// Hears of every change of nf_tables; see [`netlink::Events`].
#[derive(Debug)]
pub struct Events {
    source: netlink::Events,
    /// Changes by this port are our own.
    own: u32,
}

impl Events {
    /// Listens; what the socket of port `own` does is not told of.
    ///
    /// # Errors
    /// The kernel gives no such socket.
    pub fn listen(own: u32) -> Result<Self, Fault> {
        let source = netlink::Events::listen(Family::Netfilter, &[GROUP]);
        source.map(|source| Self { source, own }).map_err(|error| broken(&error))
    }

    /// Takes the events that are there, without waiting, and says whether others may have changed what concerns us.
    /// Elements of others' sets do not: kube-proxy changes them with every endpoint.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn changed(&mut self) -> Result<bool, Fault> {
        let events = self.source.now().map_err(|error| broken(&error))?;
        Ok(self.concern(events))
    }

    /// Returns once [`changed`](Self::changed) has something to say; see [`netlink::Events::next`].
    ///
    /// # Errors
    /// As [`changed`](Self::changed).
    pub async fn heard(&mut self) -> Result<(), Fault> {
        loop {
            let events = self.source.next().await.map_err(|error| broken(&error))?;
            if self.concern(events) {
                return Ok(());
            }
        }
    }

    fn concern(&self, events: Option<Vec<Reply>>) -> bool {
        events.is_none_or(|events| events.iter().any(|event| self.concerns(event)))
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
        self.source.as_fd()
    }
}

fn broken(error: &Error) -> Fault {
    fault("listening to changes of the packet filter (they are looked for on the timer alone)", error)
}
