//! Links and addresses as the kernel describes them (rtnetlink(7), linux/if_link.h, linux/if_addr.h), read into plain
//! values.

use std::net::IpAddr;

use crate::netlink::{Attributes, Reply};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;

/// Bytes of `struct ifinfomsg`.
pub(super) const LINK: usize = 16;
/// Bytes of `struct ifaddrmsg`.
pub(super) const ADDRESS: usize = 8;

pub(super) const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_IFALIAS: u16 = 20;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_FLAGS: u16 = 8;
pub(super) const IFA_PROTO: u16 = 11;

const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
pub(super) const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const RT_SCOPE_LINK: u8 = 253;

/// What links that we made or adopted have as their alias (`ip link` shows it).
pub(super) const ALIAS: &str = "sidestep";
/// What addresses that we added have as their protocol (IFA_PROTO, Linux 5.18): who added them. 0 to 3 are the
/// kernel's own.
pub(super) const PROTOCOL: u8 = 0x53;

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its number.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// Its type as `ip link add type` has it; empty for devices and `lo`.
    pub(super) kind: String,
    /// Its alias.
    pub(super) alias: String,
    /// Whether it is set up (IFF_UP). It may have no carrier all the same.
    pub(super) up: bool,
    /// Whether it is the loopback.
    pub(super) loopback: bool,
    /// The bridge or bond that it is a port of.
    pub(super) master: Option<u32>,
}

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The link's number.
    pub(super) index: u32,
    /// The address.
    pub(super) ip: IpAddr,
    /// Bits of its network.
    pub(super) prefix: u8,
    /// Whether it holds within the link only: the kernel gives each link an IPv6 address of this kind.
    pub(super) link_local: bool,
    /// Whether somebody else on the link had it (RFC 4862, 5.4): the kernel does not use it then.
    pub(super) refused: bool,
    /// The protocol of who added it; 0 if unknown.
    protocol: u8,
}

impl Interface {
    pub(super) fn read(reply: &Reply) -> Self {
        let fixed: [u8; LINK] = reply.fixed();
        let [.., i0, i1, i2, i3, f0, f1, f2, f3, _, _, _, _] = fixed;
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let attributes = reply.attributes(LINK);
        let text = |attributes: Attributes<'_>, kind| attributes.text(kind).unwrap_or_default().to_owned();
        Self {
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            name: text(attributes, IFLA_IFNAME),
            kind: text(attributes.nested(IFLA_LINKINFO), IFLA_INFO_KIND),
            alias: text(attributes, IFLA_IFALIAS),
            up: flags & IFF_UP != 0,
            loopback: flags & IFF_LOOPBACK != 0,
            master: attributes.native(IFLA_MASTER),
        }
    }
}

impl Address {
    pub(super) fn read(reply: &Reply) -> Option<Self> {
        let [family, prefix, flags, scope, index @ ..]: [u8; ADDRESS] = reply.fixed();
        let attributes = reply.attributes(ADDRESS);
        // IFA_ADDRESS is the other end's on a point-to-point link; IPv6 leaves IFA_LOCAL out elsewhere.
        let bytes = attributes.get(IFA_LOCAL).or(attributes.get(IFA_ADDRESS))?;
        let ip = match family {
            AF_INET => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
            _ => return None,
        };
        Some(Self {
            index: u32::from_ne_bytes(index),
            ip,
            prefix,
            link_local: family == AF_INET6 && scope == RT_SCOPE_LINK,
            refused: attributes.native(IFA_FLAGS).unwrap_or(flags.into()) & IFA_F_DADFAILED != 0,
            protocol: attributes.get(IFA_PROTO).and_then(|p| p.first().copied()).unwrap_or(0),
        })
    }

    /// Whether we added it; always false before Linux 5.18.
    pub(super) fn is_marked(&self) -> bool {
        self.protocol == PROTOCOL
    }

    /// Whether the kernel keeps who added it: it does so for its own as well.
    pub(super) fn has_protocol(&self) -> bool {
        self.protocol != 0
    }

    /// Whether it stands alone, without a network around it.
    pub(super) fn is_whole(&self) -> bool {
        self.prefix == bits(self.ip)
    }
}

/// The family of an address.
pub(super) fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// The bits of an address.
pub(super) fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Everything that a network namespace has.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) links: Vec<Interface>,
    pub(super) addresses: Vec<Address>,
}

impl View {
    pub(super) fn link(&self, name: &str) -> Option<&Interface> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The name of the link with this number.
    pub(super) fn name(&self, index: u32) -> &str {
        self.links.iter().find(|link| link.index == index).map_or("an unknown link", |link| &link.name)
    }

    /// The addresses on a link.
    pub(super) fn on(&self, index: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.index == index)
    }

    /// The names of a bridge's ports.
    pub(super) fn ports(&self, index: u32) -> Vec<&str> {
        let ports = self.links.iter().filter(|link| link.master == Some(index));
        ports.map(|link| &*link.name).collect()
    }
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Link(Interface),
    Address(Address),
}

impl Event {
    pub(super) fn read(reply: &Reply) -> Option<Self> {
        match reply.kind {
            RTM_NEWLINK | RTM_DELLINK => Some(Self::Link(Interface::read(reply))),
            RTM_NEWADDR | RTM_DELADDR => Address::read(reply).map(Self::Address),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn event(kind: u16, body: Vec<u8>) -> Event {
        Event::read(&Reply { kind, flags: 0, sequence: 0, port: 0, body }).unwrap()
    }

    /// As Linux 6.18 wrote it on a little-endian machine.
    fn address(hex: &str) -> Address {
        let Event::Address(address) = event(RTM_NEWADDR, bytes(hex)) else { panic!("an address") };
        address
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let ours = address(
            "022080000200000008000100a9fe140a08000200a9fe140a110003006e6f64656c6f63616c646e73000000000500\
             0b0053000000080008008000000014000600ffffffffffffffff8f3615008f361500",
        );
        assert_eq!((ours.index, ours.ip), (2, "169.254.20.10".parse().unwrap()));
        assert!(ours.is_whole() && ours.is_marked() && !ours.link_local && !ours.refused);
        let ours = address(
            "0a8082000200000014000100fd00001000000000000000000000001014000600ffffffffffffffff8f3615008f36\
             1500080008008200000005000b0053000000",
        );
        assert_eq!((ours.index, ours.ip), (2, "fd00:10::10".parse().unwrap()));
        assert!(ours.is_whole() && ours.is_marked() && !ours.link_local && !ours.refused);
        let kernels = address(
            "0a40c0fd0200000014000100fe80000000000000ccd7b8fffee2b3dc14000600ffffffffffffffff8e3615008e36\
             150008000800c000000005000b0003000000",
        );
        assert!(kernels.link_local && kernels.has_protocol() && !kernels.is_marked() && !kernels.is_whole());
        // An address with another end: the first is the one that is here.
        let peer = address(
            "0a40c000040000001400020020010db80000000000000000000000011400010020010db800000000000000000000\
             000214000600ffffffffffffffff8f3615008f36150008000800c0000000",
        );
        assert_eq!((peer.ip, peer.prefix), ("2001:db8::1".parse().unwrap(), 64));
        assert!(!peer.has_protocol());
    }

    #[test]
    fn links_are_read_with_type_and_alias() {
        let mut body = vec![0; LINK];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body[8..12].copy_from_slice(&0x1003u32.to_ne_bytes());
        body.extend(attribute(IFLA_IFNAME, b"nodelocaldns\0"));
        body.extend(attribute(IFLA_IFALIAS, b"sidestep\0"));
        body.extend(attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"dummy\0")));
        body.extend(attribute(IFLA_MASTER, &9u32.to_ne_bytes()));
        let link = Interface {
            index: 7,
            name: "nodelocaldns".to_owned(),
            kind: "dummy".to_owned(),
            alias: ALIAS.to_owned(),
            up: true,
            loopback: false,
            master: Some(9),
        };
        assert_eq!(event(RTM_DELLINK, body.clone()), Event::Link(link));
        // Whatever is cut off of it, it is read without a fault.
        for length in 0..body.len() {
            event(RTM_NEWLINK, body[..length].to_vec());
        }
    }

    #[test]
    fn an_address_of_another_family_or_length_is_none() {
        for (family, length) in [(7, 4), (AF_INET, 3), (AF_INET, 16), (AF_INET6, 4)] {
            let body = [vec![family, 32, 0, 0, 1, 0, 0, 0], attribute(IFA_LOCAL, &vec![1; length])].concat();
            assert_eq!(
                Address::read(&Reply { kind: RTM_NEWADDR, flags: 0, sequence: 0, port: 0, body }),
                None
            );
        }
    }
}
