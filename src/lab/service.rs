//! The cluster DNS Service: rows that translate the ClusterIP to one of the servers, as kube-proxy has them.

use std::net::{Ipv4Addr, SocketAddr};

use super::place::Place;
use super::{Doing, Trouble};
use crate::netlink::{self, Message, Socket};
use crate::node::nftables::expr::{Compare, Expressions, IpFamily, Register};
use crate::node::nftables::message::{
    At, Family, Hook, Kind, OUTPUT, PREROUTING, SUBSYSTEM, message, new_chain, new_rule, new_table,
};

/// How the servers of a Service share its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// A new choice for each packet that opens a connection, as kube-proxy does it with iptables and nftables.
    Random,
    /// One server takes all.
    One,
    /// The same server for all packets of a client's address, as IPVS does it with the scheduler `sh`.
    BySource,
}

const TABLE: &str = "service";
/// NF_IP_PRI_NAT_DST (linux/netfilter_ipv4.h).
const PRIORITY: i32 = -100;

/// Translates `service` to port 53 of one of `servers` in this place, from outside and from within.
pub(super) fn translate(
    node: &Place,
    service: SocketAddr,
    servers: &'static [Ipv4Addr],
    spread: Spread,
) -> Result<(), Trouble> {
    node.run(move || {
        let mut messages = vec![new_table(Family::IPV4, TABLE, 0)];
        for (chain, number) in [("prerouting", PREROUTING), ("output", OUTPUT)] {
            let hook = Hook { number, priority: PRIORITY };
            messages.push(new_chain(Family::IPV4, TABLE, chain, "nat", hook));
            for protocol in [UDP, TCP] {
                messages.extend(
                    rows(service, servers, spread, protocol)
                        .iter()
                        .map(|row| new_rule(Family::IPV4, TABLE, chain, At::Tail, row, &[])),
                );
            }
        }
        let mut socket = Socket::open(netlink::Family::Netfilter).doing("opening nfnetlink")?;
        socket.transaction(SUBSYSTEM, messages).doing("translating the Service with nftables")
    })
}

const UDP: u8 = 17;
const TCP: u8 = 6;

/// One row for each server. The last has no condition of its own: what nobody else took is its share.
fn rows(service: SocketAddr, servers: &[Ipv4Addr], spread: Spread, protocol: u8) -> Vec<Expressions> {
    let servers = if spread == Spread::One { servers.get(..1).unwrap_or_default() } else { servers };
    let row = |(i, server): (usize, &Ipv4Addr)| {
        let left = u32::try_from(servers.len() - i).unwrap_or(1);
        let mut row = Expressions::new();
        row.protocol(protocol).to_address(service.ip()).to_port(service.port());
        match spread {
            _ if left == 1 => {}
            // One in as many as are left: all have the same share in the end.
            Spread::Random => drop(row.random_part(0, left)),
            Spread::One => {}
            Spread::BySource => {
                row.source(IpFamily::V4, Register::FIRST);
                row.hash(Register::FIRST, 4, left, 0, Register::FIFTH);
                row.compare(Register::FIFTH, Compare::Equal, &[0; 4]);
            }
        }
        row.dnat((*server, 53).into());
        row
    };
    servers.iter().enumerate().map(row).collect()
}

/// Removes every table of every family that nobody owns, as `nft flush ruleset` does.
pub(super) fn flush_ruleset(node: &Place) -> Result<(), Trouble> {
    node.run(|| {
        let mut socket = Socket::open(netlink::Family::Netfilter).doing("opening nfnetlink")?;
        let all: Vec<Message> = vec![message(Kind::DeleteTable, 0, Family::ANY)];
        socket.transaction(SUBSYSTEM, all).doing("flushing the ruleset")
    })
}
