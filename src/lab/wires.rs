//! Links, addresses and routes between places, over rtnetlink(7).

use std::net::Ipv4Addr;

use super::place::Place;
use super::{Doing, Trouble};
use crate::netlink::{Error, Family, Message, Socket, attribute};

const NLM_F_CREATE_EXCL: u16 = 0x600;
/// struct ifinfomsg: family, type, index, flags, change.
const LINK_HEADER: usize = 16;
const IFF_UP: u32 = 1;

/// Puts a cable (a veth pair) between two places; each end is up and has the first of its addresses with this prefix
/// length, and the others by themselves (/32).
pub(super) fn connect(one: End<'_>, other: End<'_>) -> Result<(), Trouble> {
    let (name, peer, namespace) = (one.name, other.name, other.place.namespace());
    one.place
        .run(move || route(|socket| socket.request(veth(name, peer, namespace)), "making a veth link"))?;
    for end in [one, other] {
        let (name, addresses) = (end.name, end.addresses);
        end.place.run(move || {
            route(
                |socket| {
                    let index = index(socket, name)?;
                    for (i, &ip) in addresses.iter().enumerate() {
                        socket.request(address(index, ip, if i == 0 { PREFIX } else { 32 }))?;
                    }
                    socket.request(up(index))
                },
                "setting up a link",
            )
        })?;
    }
    Ok(())
}

/// Bits of the network part of a cable's first address.
const PREFIX: u8 = 24;

/// One end of a cable.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// What it is called there.
    pub name: &'static str,
    /// Its addresses.
    pub addresses: &'static [Ipv4Addr],
}

/// Sets loopback up.
pub(super) fn loopback(place: &Place) -> Result<(), Trouble> {
    place.run(|| {
        route(
            |socket| {
                let index = index(socket, "lo")?;
                socket.request(up(index))
            },
            "setting up loopback",
        )
    })
}

/// Everything that has no better way goes to `gateway`.
pub(super) fn default_route(place: &Place, gateway: Ipv4Addr) -> Result<(), Trouble> {
    const RTM_NEWROUTE: u16 = 24;
    const RTA_GATEWAY: u16 = 5;
    // struct rtmsg: family, bits of destination and source, TOS, table main, protocol static, scope universe, unicast.
    const ROUTE: [u8; 12] = [2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    place.run(move || {
        let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE_EXCL, &ROUTE);
        message.put(RTA_GATEWAY, &gateway.octets());
        route(|socket| socket.request(message), "adding a route")
    })
}

/// Lets packets that come in by this link pass on to others. By netlink rather than by writing to /proc/sys, which is
/// read-only in many containers.
pub(super) fn forward(place: &Place, name: &'static str) -> Result<(), Trouble> {
    const RTM_SETLINK: u16 = 19;
    const IFLA_AF_SPEC: u16 = 26;
    const AF_INET: u16 = 2;
    const IFLA_INET_CONF: u16 = 1;
    const IPV4_DEVCONF_FORWARDING: u16 = 1;
    place.run(move || {
        route(
            |socket| {
                let mut message = Message::new(RTM_SETLINK, 0, &header(index(socket, name)?, 0));
                message.nest(IFLA_AF_SPEC, |m| {
                    m.nest(AF_INET, |m| {
                        m.nest(IFLA_INET_CONF, |m| {
                            m.native(IPV4_DEVCONF_FORWARDING, 1);
                        });
                    });
                });
                socket.request(message)
            },
            "letting a link forward packets",
        )
    })
}

/// Says something to rtnetlink.
fn route<T>(say: impl FnOnce(&mut Socket) -> Result<T, Error>, what: &str) -> Result<T, Trouble> {
    let mut socket = Socket::open(Family::Route).doing("opening rtnetlink")?;
    say(&mut socket).doing(what)
}

fn veth(name: &str, peer: &str, namespace: i32) -> Message {
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_NET_NS_FD: u16 = 28;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const VETH_INFO_PEER: u16 = 1;
    let there = [
        header(0, 0).to_vec(),
        attribute(IFLA_IFNAME, &[peer.as_bytes(), b"\0"].concat()),
        attribute(IFLA_NET_NS_FD, &namespace.to_ne_bytes()),
    ]
    .concat();
    let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE_EXCL, &header(0, 0));
    message.text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
            m.put(VETH_INFO_PEER, &there);
        });
    });
    message
}

const RTM_NEWLINK: u16 = 16;

fn up(index: u32) -> Message {
    Message::new(RTM_NEWLINK, 0, &header(index, IFF_UP))
}

fn address(index: u32, ip: Ipv4Addr, prefix: u8) -> Message {
    const RTM_NEWADDR: u16 = 20;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    // struct ifaddrmsg: family, bits of the prefix, flags, scope universe, index.
    let [a, b, c, d] = index.to_ne_bytes();
    let mut message = Message::new(RTM_NEWADDR, NLM_F_CREATE_EXCL, &[2, prefix, 0, 0, a, b, c, d]);
    message.put(IFA_LOCAL, &ip.octets()).put(IFA_ADDRESS, &ip.octets());
    message
}

/// `flags` are set, and no others are touched.
fn header(index: u32, flags: u32) -> [u8; LINK_HEADER] {
    let mut bytes = [0; LINK_HEADER];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn index(socket: &mut Socket, name: &str) -> Result<u32, Error> {
    const RTM_GETLINK: u16 = 18;
    const IFLA_IFNAME: u16 = 3;
    let mut message = Message::new(RTM_GETLINK, 0, &header(0, 0));
    message.text(IFLA_IFNAME, name);
    let Some(reply) = socket.get(&message)? else {
        return Err(Error::Broken(std::io::Error::other(format!("there is no link {name}"))));
    };
    let bytes = reply.fixed::<LINK_HEADER>();
    Ok(u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]))
}
