//! Links and their addresses as the kernel lists them (rtnetlink(7)); anybody may ask.

use std::net::IpAddr;

use crate::netlink::{Error, Family, Message, Reply, Socket};

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
    const RTM_GETLINK: u16 = 18;
    const RTM_GETADDR: u16 = 22;
    let mut socket = Socket::open(Family::Route)?;
    let links = socket.dump(&Message::new(RTM_GETLINK, 0, &[0; LINK]))?;
    let addresses = socket.dump(&Message::new(RTM_GETADDR, 0, &[0; ADDRESS]))?;
    let mut links: Vec<Link> = links.iter().filter_map(link).collect();
    for (index, address) in addresses.iter().filter_map(address) {
        if let Some(link) = links.iter_mut().find(|link| link.index == index) {
            link.addresses.push(address);
        }
    }
    Ok(links)
}

/// Whether nothing that is sent to this link can leave the machine: no wire, no neighbour, no port.
pub fn is_dead_end(link: &Link, all: &[Link]) -> bool {
    link.loopback
        || link.kind == "dummy"
        || (link.kind == "bridge" && all.iter().all(|port| port.master != Some(link.index)))
}

/// Bytes of `struct ifinfomsg`.
const LINK: usize = 16;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS: usize = 8;

fn link(reply: &Reply) -> Option<Link> {
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MASTER: u16 = 10;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    const IFF_UP: u32 = 1;
    const IFF_LOOPBACK: u32 = 8;
    let [_, _, _, _, index @ .., f0, f1, f2, f3, _, _, _, _] = reply.fixed::<LINK>();
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let attributes = reply.attributes(LINK);
    Some(Link {
        index: u32::from_ne_bytes(index),
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        kind: attributes.nested(IFLA_LINKINFO).text(IFLA_INFO_KIND).unwrap_or_default().to_owned(),
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        master: attributes.native(IFLA_MASTER),
        addresses: Vec::new(),
    })
}

/// The link's number and one address of it.
fn address(reply: &Reply) -> Option<(u32, IpAddr)> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let [_, _, _, _, index @ ..] = reply.fixed::<ADDRESS>();
    let attributes = reply.attributes(ADDRESS);
    // On point-to-point links IFA_ADDRESS is the other end's.
    let bytes = attributes.get(IFA_LOCAL).or_else(|| attributes.get(IFA_ADDRESS))?;
    let short = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let address = short.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))?;
    Some((u32::from_ne_bytes(index), address))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let dummy = link(&message.heard()).unwrap();
        assert_eq!((dummy.name.as_str(), dummy.kind.as_str(), dummy.up), ("nodelocaldns", "dummy", true));
        assert!(is_dead_end(&dummy, &[]) && !dummy.loopback);
    }
}
