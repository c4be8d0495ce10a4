//! Links and addresses as rtnetlink has them (rtnetlink(7), linux/if_link.h, linux/if_addr.h): read as plain
//! values, written with one request each. What is ours and what is to be done about it, the module above decides.

use std::net::IpAddr;

use crate::netlink::{Attributes, Error, Family, Message, Reply, Socket};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

/// Bytes of `struct ifinfomsg`.
const LINK: usize = 16;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS: usize = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DADFAILED: u32 = 0x08;
const RT_SCOPE_LINK: u8 = 253;

/// What links that we made or adopted have as their alias (`ip link` shows it).
pub(super) const ALIAS: &str = "sidestep";
/// What addresses that we added have as their protocol (IFA_PROTO, Linux 5.18): who added them. 0 to 3 are the
/// kernel's own.
const PROTOCOL: u8 = 0x53;

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
        let attributes = reply.attributes(LINK);
        let text = |attributes: Attributes<'_>, kind| attributes.text(kind).unwrap_or_default().to_owned();
        Self {
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            name: text(attributes, IFLA_IFNAME),
            kind: text(attributes.nested(IFLA_LINKINFO), IFLA_INFO_KIND),
            alias: text(attributes, IFLA_IFALIAS),
            up: u32::from_ne_bytes([f0, f1, f2, f3]) & IFF_UP != 0,
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

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn bits(ip: IpAddr) -> u8 {
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

/// The way to the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Kernel(Socket);

impl Kernel {
    pub(super) fn open() -> Result<Self, Error> {
        Socket::open(Family::Route).map(Self)
    }

    /// All links and addresses. A link or an address that came or went between the two questions is the next
    /// event's business.
    pub(super) fn view(&mut self) -> Result<View, Error> {
        /// Counters of packets are half of what the kernel would say of a link.
        const RTEXT_FILTER_SKIP_STATS: u32 = 8;
        let mut links = Message::new(RTM_GETLINK, 0, &[0; LINK]);
        links.native(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        let links = self.0.dump(&links)?;
        let addresses = self.0.dump(&Message::new(RTM_GETADDR, 0, &[0; ADDRESS]))?;
        Ok(View {
            links: links.iter().map(Interface::read).collect(),
            addresses: addresses.iter().filter_map(Address::read).collect(),
        })
    }

    /// Makes a link. EOPNOTSUPP: the kernel has no such type.
    pub(super) fn create(&mut self, name: &str, kind: &str) -> Result<(), Error> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &[0; LINK]);
        message.text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, kind);
        });
        self.0.request(message)
    }

    /// The link of this name, by itself.
    pub(super) fn find(&mut self, name: &str) -> Result<Option<Interface>, Error> {
        let mut message = Message::new(RTM_GETLINK, 0, &[0; LINK]);
        message.text(IFLA_IFNAME, name);
        Ok(self.0.get(&message)?.as_ref().map(Interface::read))
    }

    /// Keeps the kernel from giving the link an IPv6 address of its own, with which it would look for routers and
    /// listen to them. In vain where there is no IPv6, and then not needed.
    pub(super) fn silence(&mut self, index: u32) {
        const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
        let mut message = Message::new(RTM_NEWLINK, 0, &link(index, 0));
        message.nest(IFLA_AF_SPEC, |family| {
            family.nest(u16::from(AF_INET6), |inet6| {
                inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
            });
        });
        let _ = self.0.request(message);
    }

    /// Marks a link as ours and sets it up.
    pub(super) fn claim(&mut self, index: u32) -> Result<(), Error> {
        let mut message = Message::new(RTM_NEWLINK, 0, &link(index, IFF_UP));
        message.put(IFLA_IFALIAS, ALIAS.as_bytes());
        self.0.request(message)
    }

    /// Sets a link up that is not ours: `lo`.
    pub(super) fn set_up(&mut self, index: u32) -> Result<(), Error> {
        self.0.request(Message::new(RTM_NEWLINK, 0, &link(index, IFF_UP)))
    }

    pub(super) fn delete(&mut self, index: u32) -> Result<(), Error> {
        self.0.request(Message::new(RTM_DELLINK, 0, &link(index, 0)))
    }

    /// Adds an address that is marked as ours, whole and usable at once: the kernel asks no neighbour for it first.
    pub(super) fn add(&mut self, index: u32, ip: IpAddr) -> Result<(), Error> {
        let flags = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut message = address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, ip, bits(ip));
        message.native(IFA_FLAGS, flags).put(IFA_PROTO, &[PROTOCOL]);
        self.0.request(message)
    }

    /// Whether packets to this address are delivered here. The kernel says yes to an IPv6 address before they are.
    pub(super) fn delivers(&mut self, ip: IpAddr) -> Result<bool, Error> {
        const RTN_LOCAL: u8 = 2;
        const RTA_DST: u16 = 1;
        // struct rtmsg: family, bits of the destination; the answer's type is byte 7.
        let mut fixed = [0; 12];
        fixed[..2].copy_from_slice(&[family(ip), bits(ip)]);
        let mut message = Message::new(RTM_GETROUTE, 0, &fixed);
        match ip {
            IpAddr::V4(ip) => message.put(RTA_DST, &ip.octets()),
            IpAddr::V6(ip) => message.put(RTA_DST, &ip.octets()),
        };
        match self.0.get(&message) {
            Ok(route) => Ok(route.is_some_and(|route| route.fixed::<12>()[7] == RTN_LOCAL)),
            Err(Error::Refused(_)) => Ok(false), // no route at all
            Err(error) => Err(error),
        }
    }

    pub(super) fn remove(&mut self, it: &Address) -> Result<(), Error> {
        self.0.request(address(RTM_DELADDR, 0, it.index, it.ip, it.prefix))
    }
}

/// `struct ifinfomsg`; `flags` are set, others stay as they are.
fn link(index: u32, flags: u32) -> [u8; LINK] {
    let mut fixed = [0; LINK];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&flags.to_ne_bytes());
    fixed
}

fn address(kind: u16, flags: u16, index: u32, ip: IpAddr, prefix: u8) -> Message {
    let mut fixed = [family(ip), prefix, 0, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(kind, flags, &fixed);
    match ip {
        IpAddr::V4(ip) => message.put(IFA_LOCAL, &ip.octets()).put(IFA_ADDRESS, &ip.octets()),
        IpAddr::V6(ip) => message.put(IFA_LOCAL, &ip.octets()).put(IFA_ADDRESS, &ip.octets()),
    };
    message
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
