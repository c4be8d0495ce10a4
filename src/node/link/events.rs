//! Events: whoever takes our link or an address away is noticed at once, not by the next check.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use super::view::{ALIAS, Event};
use crate::netlink::{self, Family, Reply};
use crate::node::{Fault, FaultKind};

/// RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR (linux/rtnetlink.h).
const GROUPS: [u32; 3] = [1, 5, 9];

/// Tells that the link or an address may be other than it was: to whom waits in an event loop ([`heard`](Self::heard)),
/// or looks when the descriptor is readable ([`changed`](Self::changed)).
#[derive(Debug)]
pub struct Events {
    source: netlink::Events,
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
        let source = netlink::Events::listen(Family::Route, &GROUPS).map_err(|error| broken(name, &error))?;
        Ok(Self { source, name: name.to_owned(), addresses: addresses.to_owned() })
    }

    /// Takes all events that are there, without waiting, and says whether one was about our link or one of our
    /// addresses, on whatever link. Events that were lost are taken as yes. What we do ourselves is among them: a
    /// check that finds nothing to do makes no events, so this ends after one.
    ///
    /// # Errors
    /// The socket is broken: open another one.
    pub fn changed(&mut self) -> Result<bool, Fault> {
        let events = self.source.now().map_err(|error| broken(&self.name, &error))?;
        Ok(self.concern(events))
    }

    /// Returns once [`changed`](Self::changed) has something to say; see [`netlink::Events::next`].
    ///
    /// # Errors
    /// As [`changed`](Self::changed).
    pub async fn heard(&mut self) -> Result<(), Fault> {
        loop {
            let events = self.source.next().await.map_err(|error| broken(&self.name, &error))?;
            if self.concern(events) {
                return Ok(());
            }
        }
    }

    fn concern(&self, events: Option<Vec<Reply>>) -> bool {
        events.is_none_or(|events| events.iter().filter_map(Event::read).any(|event| self.concerns(&event)))
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
        self.source.as_fd()
    }
}

fn broken(name: &str, error: &crate::netlink::Error) -> Fault {
    let what = format!("cannot hear of changes of link {name}: {error}; it is looked at on the timer alone");
    Fault { kind: FaultKind::LinkCheck, what }
}
