//! A full connection tracking table, filled over ctnetlink with connections that the kernel may not throw out to make
//! room: assured ones (nf_conntrack(8): `[ASSURED]`).
//!
//! The table's limit is the machine's, but each namespace is held to it by itself: nobody else's connections are
//! refused. What the machine pays is memory, about 300 bytes an entry, until the place is gone.

use std::fs;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::place::Place;
use super::{Doing, Trouble};
use crate::limit::Limit;
use crate::netlink::{Family, Message, Socket};

/// Entries that a table may have to be filled without being asked to: what 80 MB of memory and two seconds are
/// enough for. With `--full-table`, up to the maximum (1.2 GB for a while).
pub(super) const ENTRIES: Limit<u32> = Limit::new(1, 262_144, 4_194_304);

/// How many entries the kernel allows.
pub(super) fn limit() -> Result<u32, Trouble> {
    let text = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let text = text.doing("reading nf_conntrack_max (is nf_conntrack there?)")?;
    text.trim().parse().doing("reading nf_conntrack_max")
}

/// Fills the table of this place, until the kernel takes no more.
pub(super) fn fill(place: &Place) -> Result<u32, Trouble> {
    place.run(|| {
        let mut socket = Socket::open(Family::Netfilter).doing("opening ctnetlink")?;
        for i in 0..ENTRIES.max {
            match socket.request(entry(i)) {
                Ok(()) => {}
                // "No memory" is what the kernel says when the limit is reached.
                Err(error) if error.errno() == Some(Errno::NOMEM) && i > 0 => return Ok(i),
                Err(error) => return Err(Trouble(format!("filling the connection tracking table: {error}"))),
            }
        }
        Err(Trouble(format!("the connection tracking table takes more than {} entries", ENTRIES.max)))
    })
}

/// Connection number `i`: UDP from one of many addresses, and a different port each.
fn entry(i: u32) -> Message {
    const IPCTNL_MSG_CT_NEW: u16 = 0x100; // NFNL_SUBSYS_CTNETLINK is 1
    const NLM_F_CREATE_EXCL: u16 = 0x600;
    const CTA_TUPLE_ORIG: u16 = 1;
    const CTA_TUPLE_REPLY: u16 = 2;
    const CTA_STATUS: u16 = 3;
    const CTA_TIMEOUT: u16 = 7;
    const SEEN_REPLY_ASSURED_CONFIRMED: u32 = 2 | 4 | 8;
    const SECONDS: u32 = 300;
    const PORTS: u32 = 60_000;
    let port = 1024 + (i % PORTS) as u16;
    let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + i / PORTS);
    let server = Ipv4Addr::new(198, 19, 0, 1);
    // struct nfgenmsg: IPv4.
    let mut message = Message::new(IPCTNL_MSG_CT_NEW, NLM_F_CREATE_EXCL, &[2, 0, 0, 0]);
    tuple(&mut message, CTA_TUPLE_ORIG, (client, port), (server, 443));
    tuple(&mut message, CTA_TUPLE_REPLY, (server, 443), (client, port));
    message.network(CTA_STATUS, SEEN_REPLY_ASSURED_CONFIRMED).network(CTA_TIMEOUT, SECONDS);
    message
}

fn tuple(message: &mut Message, kind: u16, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) {
    const CTA_TUPLE_IP: u16 = 1;
    const CTA_TUPLE_PROTO: u16 = 2;
    const UDP: u8 = 17;
    message.nest(kind, |m| {
        m.nest(CTA_TUPLE_IP, |m| {
            m.put(1, &from.0.octets()).put(2, &to.0.octets());
        });
        m.nest(CTA_TUPLE_PROTO, |m| {
            m.put(1, &[UDP]).put(2, &from.1.to_be_bytes()).put(3, &to.1.to_be_bytes());
        });
    });
}
