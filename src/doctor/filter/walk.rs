//! A rule of nf_tables is a little program: it loads a part of the packet into a register and compares it, step by
//! step. The steps are followed just far enough to know which address and port a rule is about. iptables-nft writes
//! the same, with some of its own extensions wrapped as `match` and `target`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::nft::{NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE, ip, text};
use super::{Action, Extra, Family, Rule};
use crate::netlink::Attributes;

/// What a register holds.
#[derive(Clone, Copy)]
enum Loaded {
    /// Bytes of the packet, from this offset of this header on.
    Packet(u32, u32),
    /// The protocol.
    Protocol,
    /// The family of addresses: says no more than the addresses themselves.
    Family,
    /// An interface.
    Interface,
}

/// Follows the steps of one rule.
pub(super) struct Walk {
    pub rule: Rule,
    packet: BTreeMap<u32, Loaded>,
    values: BTreeMap<u32, Vec<u8>>,
}

impl Walk {
    pub fn new(rule: Rule) -> Self {
        Self { rule, packet: BTreeMap::new(), values: BTreeMap::new() }
    }

    /// Takes an expression: its name and its attributes.
    pub fn step(&mut self, name: &str, data: Attributes<'_>) {
        match name {
            "payload" => self.load(
                data.network(1),
                data.network(2).zip(data.network(3)).map(|(b, o)| Loaded::Packet(b, o)),
            ),
            "meta" => self.meta(data),
            "cmp" => self.compare(data),
            "immediate" => self.immediate(data),
            "counter" => self.rule.packets = data.network64(2),
            "notrack" => self.rule.action = Action::Notrack,
            "reject" => self.rule.action = Action::Drop,
            "nat" => self.nat(data),
            "redir" => self.rule.action = Action::Translate(None),
            "target" => self.target(data.text(1).unwrap_or_default(), data.get(3).unwrap_or_default()),
            "match" => self.extension(data.text(1).unwrap_or_default(), data.get(3).unwrap_or_default()),
            "log" | "masq" => {}
            "ct" => self.rule.also(Extra::State),
            _ => self.rule.also(Extra::Something),
        }
    }

    /// A register holds something else from now on; `None`: nothing that we could name.
    fn load(&mut self, register: Option<u32>, what: Option<Loaded>) {
        let Some(register) = register else { return };
        match what {
            Some(what) => self.packet.insert(register, what),
            None => self.packet.remove(&register),
        };
    }

    fn meta(&mut self, data: Attributes<'_>) {
        const NFT_META_PROTOCOL: u32 = 1;
        const NFT_META_NFPROTO: u32 = 15;
        const NFT_META_L4PROTO: u32 = 16;
        let what = match data.network(2) {
            Some(NFT_META_L4PROTO) => Some(Loaded::Protocol),
            Some(NFT_META_NFPROTO | NFT_META_PROTOCOL) => Some(Loaded::Family),
            // By number and by name, of the one it comes by and the one it leaves by.
            Some(4..=7) => Some(Loaded::Interface),
            _ => None,
        };
        self.load(data.network(1), what);
    }

    fn compare(&mut self, data: Attributes<'_>) {
        const NFT_CMP_EQ: u32 = 0;
        let value = data.nested(3).get(NFTA_DATA_VALUE).unwrap_or_default();
        let loaded = data.network(1).and_then(|register| self.packet.get(&register).copied());
        match loaded {
            Some(loaded) if data.network(2) == Some(NFT_CMP_EQ) => self.equal(loaded, value),
            _ => self.rule.also(Extra::Something),
        }
    }

    /// The rule asks for these bytes. `nft` loads neighbouring fields at once where it can.
    fn equal(&mut self, loaded: Loaded, value: &[u8]) {
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        let port = |bytes: &[u8]| bytes.try_into().ok().map(u16::from_be_bytes);
        let rule = &mut self.rule;
        match (loaded, value.len()) {
            (Loaded::Family, _) => {}
            // Loopback is always number 1.
            (Loaded::Interface, _) if value == 1u32.to_ne_bytes() || value.starts_with(b"lo\0") => {
                rule.also(Extra::Loopback);
            }
            (Loaded::Protocol, _) | (Loaded::Packet(NETWORK, 6 | 9), 1) => {
                rule.protocol = value.first().copied();
            }
            (Loaded::Packet(NETWORK, 12), 4) | (Loaded::Packet(NETWORK, 8), 16) => rule.from = ip(value),
            (Loaded::Packet(NETWORK, 16), 4) | (Loaded::Packet(NETWORK, 24), 16) => rule.to = ip(value),
            (Loaded::Packet(NETWORK, 12), 8) | (Loaded::Packet(NETWORK, 8), 32) => {
                let (from, to) = value.split_at(value.len() / 2);
                (rule.from, rule.to) = (ip(from), ip(to));
            }
            (Loaded::Packet(TRANSPORT, 0), 2) => rule.sport = port(value),
            (Loaded::Packet(TRANSPORT, 2), 2) => rule.dport = port(value),
            (Loaded::Packet(TRANSPORT, 0), 4) => {
                (rule.sport, rule.dport) = (port(&value[..2]), port(&value[2..]));
            }
            _ => rule.also(Extra::Something),
        }
    }

    fn immediate(&mut self, data: Attributes<'_>) {
        let value = data.nested(2);
        if let (Some(register), Some(bytes)) = (data.network(1), value.get(NFTA_DATA_VALUE)) {
            self.values.insert(register, bytes.to_vec());
            return;
        }
        let verdict = value.nested(NFTA_DATA_VERDICT);
        let chain = || verdict.text(NFTA_VERDICT_CHAIN).unwrap_or_default().to_owned();
        // Verdicts are signed numbers: NFT_JUMP is -3, NFT_GOTO -4.
        self.rule.action = match verdict.network(NFTA_VERDICT_CODE).map(u32::cast_signed) {
            Some(0) => Action::Drop,
            Some(1) => Action::Accept,
            Some(-3 | -4) => Action::Jump(chain()),
            _ => return,
        };
    }

    fn nat(&mut self, data: Attributes<'_>) {
        const NFT_NAT_DNAT: u32 = 1;
        if data.network(1) == Some(NFT_NAT_DNAT) {
            let value = |kind| data.network(kind).and_then(|register| self.values.get(&register));
            let port = value(5).and_then(|b| b.get(..2)?.try_into().ok()).map_or(0, u16::from_be_bytes);
            let address = value(3).and_then(|b| ip(b));
            self.rule.action = Action::Translate(address.map(|address| SocketAddr::new(address, port)));
        }
    }

    /// A target of iptables.
    fn target(&mut self, name: &str, info: &[u8]) {
        self.rule.action = match name {
            "NOTRACK" => Action::Notrack,
            // struct xt_ct_target_info: flags in the host's byte order, XT_CT_NOTRACK is the lowest.
            "CT" if info.get(..2).is_some_and(|b| u16::from_ne_bytes([b[0], b[1]]) & 1 != 0) => {
                Action::Notrack
            }
            "DNAT" => Action::Translate(range(self.rule.table.family, info)),
            "REDIRECT" => Action::Translate(None),
            "REJECT" => Action::Drop,
            _ => return,
        };
    }

    /// A match of iptables.
    fn extension(&mut self, name: &str, info: &[u8]) {
        match name {
            "comment" => self.rule.comment = text(info),
            "conntrack" | "state" => self.rule.also(Extra::State),
            // struct xt_udp and xt_tcp begin alike: lowest and highest port of each end, in the host's byte order.
            "udp" | "tcp" => {
                let port = |at: usize| info.get(at..at + 2).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
                let ends = [(port(0), port(2)), (port(4), port(6))];
                let [sport, dport] = ends.map(|(low, high)| (low == high).then_some(low));
                (self.rule.sport, self.rule.dport) = (sport, dport);
                if ends.iter().any(|(low, high)| low != high && (*low, *high) != (0, u16::MAX)) {
                    self.rule.also(Extra::Something);
                }
            }
            _ => self.rule.also(Extra::Something),
        }
    }
}

/// The first address and port of a `struct nf_nat_range2`.
fn range(family: Family, info: &[u8]) -> Option<SocketAddr> {
    let length = if family == Family::Ip6 { 16 } else { 4 };
    let address = ip(info.get(4..4 + length)?)?;
    let port = info.get(36..38)?.try_into().ok().map(u16::from_be_bytes)?;
    Some(SocketAddr::new(address, port))
}
