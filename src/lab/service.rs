//! The cluster DNS Service: rows that translate the ClusterIP to one of the servers, as kube-proxy has them, behind
//! those of a thousand other Services.

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
            let add = |row: &Expressions| new_rule(Family::IPV4, TABLE, chain, At::Tail, row, &[]);
            if number == PREROUTING {
                messages.extend((0..OTHERS).map(|i| add(&other(i))));
            }
            for protocol in [UDP, TCP] {
                messages.extend(rows(service, servers, spread, protocol).iter().map(add));
            }
        }
        let mut socket = Socket::open(netlink::Family::Netfilter).doing("opening nfnetlink")?;
        while !messages.is_empty() {
            let rest = messages.split_off(messages.len().min(AT_ONCE));
            let some = std::mem::replace(&mut messages, rest);
            socket.transaction(SUBSYSTEM, some).doing("translating the Service with nftables")?;
        }
        Ok(())
    })
}

/// Services of the cluster whose rows pods' packets meet before those of the cluster DNS, as in the chain
/// `KUBE-SERVICES` of kube-proxy with iptables.
///
/// They make the race what it is on a real node. Two packets race from the moment the kernel has not found a
/// connection of theirs until it has entered one, and these rows are what it does in between: some microseconds, more
/// than two threads miss each other by. Without them a third of the pairs collide on one machine, and one in twenty on
/// another; with them about half everywhere, which is all, as the other half are sent to the same server by chance.
const OTHERS: u16 = 1000;

/// The row of another Service, that nobody here asks.
fn other(i: u16) -> Expressions {
    let [high, low] = i.to_be_bytes();
    let mut row = Expressions::new();
    row.to_address(Ipv4Addr::new(10, 97, high, low).into()).protocol(TCP).to_port(443);
    row.dnat((Ipv4Addr::new(10, 244, 2, low), 443).into());
    row
}

/// Rows of one transaction: all of its bytes must fit into the socket's buffer (`net.core.wmem_default`, 212,992).
const AT_ONCE: usize = 200;

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
