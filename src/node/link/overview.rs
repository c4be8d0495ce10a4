//! Links and their addresses, read and not touched: for `sidestep status` and `doctor`. Anybody may ask.

use std::net::IpAddr;

use super::kernel::Kernel;
use super::view::{Interface, View};
use crate::netlink::Error;

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is, for virtual links: `dummy`, `bridge`, `veth`.
    pub kind: String,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Lists them.
///
/// # Errors
/// The kernel's own.
pub fn read() -> Result<Vec<Link>, Error> {
    let view = Kernel::open()?.view()?;
    Ok(view.links.iter().map(|link| Link::of(link, &view)).collect())
}

/// Whether nothing that is sent to this link can leave the machine: no wire, no neighbour, no port.
pub fn is_dead_end(link: &Link, all: &[Link]) -> bool {
    link.loopback
        || link.kind == "dummy"
        || (link.kind == "bridge" && all.iter().all(|port| port.master != Some(link.index)))
}

impl Link {
    fn of(link: &Interface, view: &View) -> Self {
        Self {
            index: link.index,
            name: link.name.clone(),
            kind: link.kind.clone(),
            up: link.up,
            loopback: link.loopback,
            master: link.master,
            addresses: view.on(link.index).map(|address| address.ip).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Message;

    #[test]
    fn the_loopback_is_there_and_a_dead_end() {
        let links = read().unwrap();
        let lo = links.iter().find(|link| link.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.index), ("lo", 1));
        assert!(is_dead_end(lo, &links));
    }

    #[test]
    fn a_bridge_with_a_port_leads_somewhere() {
        let bridge = Link { index: 5, kind: "bridge".to_owned(), ..Link::default() };
        let port = Link { index: 6, kind: "veth".to_owned(), master: Some(5), ..Link::default() };
        assert!(is_dead_end(&bridge, std::slice::from_ref(&bridge)));
        assert!(!is_dead_end(&bridge, &[bridge.clone(), port.clone()]));
        assert!(!is_dead_end(&port, std::slice::from_ref(&port)));
    }

    #[test]
    fn a_dummy_is_read_as_the_kernel_tells_of_it() {
        // In the words of rtnetlink: not every kernel has dummy links to try it on.
        let mut message = Message::new(16, 0, &[0, 0, 1, 0, 7, 0, 0, 0, 0xc3, 0, 1, 0, 0, 0, 0, 0]);
        message.text(3, "nodelocaldns").nest(18, |info| {
            info.text(1, "dummy");
        });
        let dummy = Link::of(&Interface::read(&message.heard()), &View::default());
        assert_eq!((dummy.name.as_str(), dummy.kind.as_str(), dummy.up), ("nodelocaldns", "dummy", true));
        assert!(is_dead_end(&dummy, &[]) && !dummy.loopback);
    }
}
