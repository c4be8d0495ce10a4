//! What is asked of the kernel, one request each (rtnetlink(7)). What is ours and what is to be done about it, the
//! module above decides.

use std::net::IpAddr;

use rustix::io::Errno;

use super::view::{
    ADDRESS, AF_INET6, ALIAS, Address, IFA_ADDRESS, IFA_FLAGS, IFA_LOCAL, IFA_PROTO, IFF_UP, IFLA_IFALIAS,
    IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, Interface, LINK, PROTOCOL, RTM_DELADDR, RTM_DELLINK,
    RTM_NEWADDR, RTM_NEWLINK, View, bits, family,
};
use crate::netlink::{Error, Family, Message, Refused, Socket};

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;

/// The name of a link that lives for no longer than it takes to see that it can be made.
pub(super) const TRIAL: &str = "sidestep-trial";

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

    /// Whether the kernel has this type, by making a link of it and removing that at once.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub(super) fn has(&mut self, kind: &str) -> Result<(), Error> {
        let mut make = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &[0; LINK]);
        make.text(IFLA_IFNAME, TRIAL).nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, kind);
        });
        let mut remove = Message::new(RTM_DELLINK, 0, &[0; LINK]);
        remove.text(IFLA_IFNAME, TRIAL);
        // Not ours to remove.
        if self.find(TRIAL)?.is_some() {
            return Err(Error::Refused(Refused { index: 0, errno: Errno::EXIST }));
        }
        self.0.pair([make, remove])
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
