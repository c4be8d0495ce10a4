//! Our accept rows, as they stand in the chains of others.
//!
//! The chains of iptables-nft get them in its own words (`match` expressions of xtables), so that every version of it
//! lists, saves and restores them; other chains get native ones. No sets: those are ours and in our table.

use std::net::IpAddr;

use super::dump::Chain;
use super::expr::{Compare, Expressions, IpFamily, Verdict};
use super::message::{self, Family};
use super::note::Note;
use super::rows;
use crate::netlink::attribute;
use crate::node::Plan;
use crate::node::rules::{Match, Place, ROWS, UPSTREAM_MARK};

/// How people and programs know our rows: node-cache's comment.
pub(super) const COMMENT: &str = "NodeLocal DNS Cache: allow DNS traffic";

/// IPPROTO_TCP.
const TCP: u8 = 6;
/// IPPROTO_UDP.
const UDP: u8 = 17;

/// A row of ours for such a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    /// What it does.
    pub(super) expressions: Expressions,
    /// IPPROTO_* if it has expressions of xtables.
    pub(super) compat: Option<u8>,
    /// What stands beside it.
    pub(super) note: Note,
    /// What it does, in nft's words.
    pub(super) words: String,
}

/// Whether it is a chain of iptables-nft.
fn is_xtables(chain: &Chain) -> bool {
    chain.family != Family::INET
        && chain.table == "filter"
        && ["INPUT", "OUTPUT"].contains(&chain.name.as_str())
}

/// Our rows for a chain, in the order of [`ROWS`].
pub(super) fn accepts(chain: &Chain, plan: &Plan) -> Vec<Accept> {
    let place = match chain.hook {
        Some(hook) if hook.number == message::INPUT => Place::FilterInput,
        _ => Place::FilterOutput,
    };
    let mut addresses = plan.addresses.clone();
    addresses.retain(|address| {
        chain.family == Family::INET || chain.family == Family(IpFamily::of(*address).number())
    });
    let mut all = Vec::new();
    for row in ROWS.iter().filter(|row| row.place == place && rows::wanted(row, plan)) {
        let looks = row.matches.iter().any(|one| matches!(one, Match::To(_) | Match::From(_)));
        if looks {
            let one = |address: &IpAddr| accept(chain, row.matches, Some(*address), plan.dns_port);
            all.extend(addresses.iter().map(one));
        } else {
            all.push(accept(chain, row.matches, None, plan.dns_port));
        }
    }
    all
}

/// One row: what [`Match`]es filter rows have, as iptables or nft write them.
fn accept(chain: &Chain, matches: &[Match], address: Option<IpAddr>, port: u16) -> Accept {
    let xtables = is_xtables(chain);
    let mut out = Expressions::new();
    let mut words = String::new();
    let protocol = matches.iter().find_map(|one| match one {
        Match::Udp => Some(UDP),
        Match::Tcp => Some(TCP),
        _ => None,
    });
    if let Some(protocol) = protocol {
        out.protocol(protocol);
    }
    if let Some(address) = address.filter(|_| chain.family == Family::INET) {
        out.family(IpFamily::of(address));
    }
    for one in matches {
        match (one, address) {
            (Match::To(_), Some(address)) => {
                out.to_address(address);
                ports(&mut out, xtables, protocol, (None, Some(port)));
                words = spelled(address, "daddr", protocol, "dport", port);
            }
            (Match::From(_), Some(address)) => {
                out.from_address(address);
                ports(&mut out, xtables, protocol, (Some(port), None));
                words = spelled(address, "saddr", protocol, "sport", port);
            }
            (Match::OwnUpstream, _) => {
                mark(&mut out, xtables, UPSTREAM_MARK);
                words = format!("meta mark {UPSTREAM_MARK:#x} accept");
            }
            _ => {}
        }
    }
    if xtables {
        xt_comment(&mut out, COMMENT);
    }
    out.counter().verdict(Verdict::Accept);
    // Where the comment is an expression, a second one beside the rule would be listed as well.
    let note = Note::new(if xtables { "" } else { COMMENT }, &out);
    Accept { expressions: out, compat: protocol.filter(|_| xtables), note, words }
}

fn spelled(address: IpAddr, end: &str, protocol: Option<u8>, side: &str, port: u16) -> String {
    let family = if address.is_ipv4() { "ip" } else { "ip6" };
    let protocol = if protocol == Some(TCP) { "tcp" } else { "udp" };
    format!("{family} {end} {address} {protocol} {side} {port} accept")
}

/// It comes from and goes to these ports, if one is said; as xtables or as nft write it.
fn ports(out: &mut Expressions, xtables: bool, protocol: Option<u8>, (from, to): (Option<u16>, Option<u16>)) {
    if xtables {
        // `struct xt_udp`, `struct xt_tcp`: ranges of ports; then no TCP options, no flags, no inversion.
        let range = |port: Option<u16>| port.map_or([0, u16::MAX], |port| [port, port]);
        let ports = [range(from), range(to)].concat();
        let info: Vec<u8> = ports.iter().flat_map(|port| port.to_ne_bytes()).collect();
        match protocol {
            Some(TCP) => xt(out, "tcp", 0, [info, vec![0; 4]].concat()),
            _ => xt(out, "udp", 0, [info, vec![0; 1]].concat()),
        }
        return;
    }
    if let Some(port) = from {
        out.from_port(port);
    }
    if let Some(port) = to {
        out.to_port(port);
    }
}

/// It has this mark; as xtables or as nft write it.
fn mark(out: &mut Expressions, xtables: bool, mark: u32) {
    if xtables {
        // `struct xt_mark_mtinfo1`: mark, mask, no inversion.
        xt(out, "mark", 1, [mark.to_ne_bytes(), u32::MAX.to_ne_bytes(), [0; 4]].concat());
    } else {
        out.mark(Compare::Equal, mark);
    }
}

/// Appends an expression of xtables; its data is padded to eight bytes (XT_ALIGN).
fn xt(out: &mut Expressions, name: &str, revision: u32, mut info: Vec<u8>) {
    info.resize(info.len().next_multiple_of(8), 0);
    let name = [name.as_bytes(), b"\0"].concat();
    out.push("match", &[attribute(1, &name), attribute(2, &revision.to_be_bytes()), attribute(3, &info)]);
}

/// `struct xt_comment_info`: 256 bytes.
fn xt_comment(out: &mut Expressions, comment: &str) {
    let mut info = comment.as_bytes().to_vec();
    info.resize(256, 0);
    xt(out, "comment", 0, info);
}
