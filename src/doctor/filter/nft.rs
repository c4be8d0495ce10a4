//! nf_tables over netlink (linux/netfilter/nf_tables.h): chains, and rules with their expressions.
//!
//! A rule is a little program: it loads a part of the packet into a register and compares it, step by step. The
//! steps are followed just far enough to know which address and port a rule is about. iptables-nft writes the
//! same, with some of its own extensions wrapped as `match` and `target`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{Action, Base, Chain, Extra, Family, Hook, Keeper, Rule, Ruleset, Table};
use crate::netlink::{self, Attributes, Error, Message, Reply, Socket};

/// NFNL_SUBSYS_NFTABLES, where message types have it.
const SUBSYSTEM: u16 = 10 << 8;
const NFT_MSG_GETCHAIN: u16 = SUBSYSTEM | 4;
const NFT_MSG_GETRULE: u16 = SUBSYSTEM | 7;
const NFT_MSG_GETSETELEM: u16 = SUBSYSTEM | 13;
/// Bytes of `struct nfgenmsg`, whose first is the family.
const FIXED: usize = 4;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// Reads all chains and rules. It is read twice if somebody changes it meanwhile.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN; EINVAL where the kernel has no nf_tables.
pub fn read() -> Result<Ruleset, Error> {
    let mut socket = Socket::open(netlink::Family::Netfilter)?;
    let mut all = |kind| socket.dump(&Message::new(kind, 0, &[0; FIXED]));
    Ok(Ruleset {
        chains: all(NFT_MSG_GETCHAIN)?.iter().filter_map(chain).collect(),
        rules: all(NFT_MSG_GETRULE)?.iter().filter_map(rule).collect(),
    })
}

/// The verdict map `service-ips` of kube-proxy in nftables mode: address, port and chain of each UDP Service.
/// Empty where there is no such map.
///
/// # Errors
/// As [`read`].
pub fn services() -> Result<Vec<(SocketAddr, String)>, Error> {
    let mut socket = Socket::open(netlink::Family::Netfilter)?;
    let mut services = Vec::new();
    for family in [2, 10] {
        const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
        const NFTA_SET_ELEM_LIST_SET: u16 = 2;
        let mut message = Message::new(NFT_MSG_GETSETELEM, 0, &[family, 0, 0, 0]);
        message.text(NFTA_SET_ELEM_LIST_TABLE, "kube-proxy").text(NFTA_SET_ELEM_LIST_SET, "service-ips");
        match socket.dump(&message) {
            Ok(replies) => services.extend(replies.iter().flat_map(elements)),
            Err(error) if error.errno() == Some(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(services)
}

/// Elements `address . protocol . port : verdict`, each part padded to four bytes.
fn elements(reply: &Reply) -> Vec<(SocketAddr, String)> {
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    const NFTA_SET_ELEM_KEY: u16 = 1;
    const NFTA_SET_ELEM_DATA: u16 = 2;
    let list = reply.attributes(FIXED).nested(NFTA_SET_ELEM_LIST_ELEMENTS);
    let read = |element: Attributes<'_>| {
        let key = element.nested(NFTA_SET_ELEM_KEY).get(NFTA_DATA_VALUE)?;
        let (address, [17, _, _, _, port @ .., _, _]) = key.split_last_chunk::<8>()? else { return None };
        let verdict = element.nested(NFTA_SET_ELEM_DATA).nested(NFTA_DATA_VERDICT);
        let chain = verdict.text(NFTA_VERDICT_CHAIN)?.to_owned();
        Some((SocketAddr::new(ip(address)?, u16::from_be_bytes(*port)), chain))
    };
    list.filter_map(|(_, element)| read(Attributes::within(element))).collect()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let short = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    short.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// The table; `None`: it sees no IP packets.
fn table(reply: &Reply, name: &str) -> Option<Table> {
    let family = match reply.fixed::<FIXED>()[0] {
        1 => Family::Inet,
        2 => Family::Ip,
        10 => Family::Ip6,
        _ => return None, // arp, bridge, netdev
    };
    Some(Table { keeper: Keeper::Nftables, family, name: name.to_owned() })
}

fn chain(reply: &Reply) -> Option<Chain> {
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    const NFTA_CHAIN_HOOK: u16 = 4;
    const NFTA_CHAIN_POLICY: u16 = 5;
    const NFTA_HOOK_HOOKNUM: u16 = 1;
    let attributes = reply.attributes(FIXED);
    let hook = match attributes.nested(NFTA_CHAIN_HOOK).network(NFTA_HOOK_HOOKNUM) {
        Some(0) => Some(Hook::Prerouting),
        Some(1) => Some(Hook::Input),
        Some(2) => Some(Hook::Forward),
        Some(3) => Some(Hook::Output),
        Some(4) => Some(Hook::Postrouting),
        _ => None,
    };
    // The policy is a verdict: NF_DROP is zero.
    let drops = attributes.network(NFTA_CHAIN_POLICY) == Some(0);
    Some(Chain {
        table: table(reply, attributes.text(NFTA_CHAIN_TABLE)?)?,
        name: attributes.text(NFTA_CHAIN_NAME)?.to_owned(),
        base: hook.map(|hook| Base { hook, drops }),
    })
}

fn rule(reply: &Reply) -> Option<Rule> {
    const NFTA_RULE_TABLE: u16 = 1;
    const NFTA_RULE_CHAIN: u16 = 2;
    const NFTA_RULE_EXPRESSIONS: u16 = 4;
    const NFTA_RULE_USERDATA: u16 = 7;
    const NFTA_EXPR_NAME: u16 = 1;
    const NFTA_EXPR_DATA: u16 = 2;
    let attributes = reply.attributes(FIXED);
    let table = table(reply, attributes.text(NFTA_RULE_TABLE)?)?;
    let mut walk = Walk::new(Rule::empty(table, attributes.text(NFTA_RULE_CHAIN)?.to_owned()));
    for (kind, value) in attributes.nested(NFTA_RULE_EXPRESSIONS) {
        let expression = Attributes::within(value);
        if let (NFTA_LIST_ELEM, Some(name)) = (kind, expression.text(NFTA_EXPR_NAME)) {
            walk.step(name, expression.nested(NFTA_EXPR_DATA));
        }
    }
    let mut rule = walk.rule;
    rule.comment = rule.comment.or_else(|| attributes.get(NFTA_RULE_USERDATA).and_then(remark));
    Some(rule)
}

/// The comment that `nft` keeps beside a rule: type, length, text.
fn remark(data: &[u8]) -> Option<String> {
    let [0, length, rest @ ..] = data else { return None };
    text(rest.get(..usize::from(*length))?)
}

/// A text up to its terminating zero.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).ok()
}

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
struct Walk {
    rule: Rule,
    packet: BTreeMap<u32, Loaded>,
    values: BTreeMap<u32, Vec<u8>>,
}

impl Walk {
    fn new(rule: Rule) -> Self {
        Self { rule, packet: BTreeMap::new(), values: BTreeMap::new() }
    }

    fn step(&mut self, name: &str, data: Attributes<'_>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const EXPRESSIONS: u16 = 4;

    /// An expression: its name, and what fills its attributes.
    type Expression<'a> = (&'a str, &'a dyn Fn(&mut Message));

    /// A rule of `ip filter input` with these expressions.
    fn read(expressions: &[Expression<'_>]) -> Rule {
        let mut message = Message::new(SUBSYSTEM | 6, 0, &[2, 0, 0, 0]);
        message.text(1, "filter").text(2, "input").nest(EXPRESSIONS, |list| {
            for (name, fill) in expressions {
                list.nest(NFTA_LIST_ELEM, |e| {
                    e.text(1, name).nest(2, |data| fill(data));
                });
            }
        });
        rule(&message.heard()).unwrap()
    }

    fn compare(m: &mut Message, value: &[u8]) {
        m.network(1, 1).network(2, 0).nest(3, |d| {
            d.put(NFTA_DATA_VALUE, value);
        });
    }

    #[test]
    fn addresses_and_ports_loaded_at_once_are_told_apart() {
        let rule = read(&[
            ("payload", &|m| {
                m.network(1, 1).network(2, 1).network(3, 12);
            }),
            ("cmp", &|m| compare(m, &[10, 0, 0, 1, 10, 96, 0, 10])),
            ("payload", &|m| {
                m.network(1, 1).network(2, 2).network(3, 0);
            }),
            ("cmp", &|m| compare(m, &[0, 99, 0, 53])),
            ("counter", &|m| {
                m.put(2, &7u64.to_be_bytes());
            }),
            ("notrack", &|_| {}),
        ]);
        assert_eq!(rule.from, Some([10, 0, 0, 1].into()));
        assert_eq!(rule.to, Some([10, 96, 0, 10].into()));
        assert_eq!((rule.sport, rule.dport, rule.packets), (Some(99), Some(53), Some(7)));
        assert_eq!((rule.action, rule.extra), (Action::Notrack, Extra::Nothing));
    }

    #[test]
    fn what_else_a_rule_asks_for_is_kept_by_its_kind() {
        let state = read(&[
            ("ct", &|m| {
                m.network(1, 1);
            }),
            ("cmp", &|m| compare(m, &[2])),
        ]);
        assert_eq!((state.extra, state.is_broad()), (Extra::State, false));
        // The register held a port before, and something else since.
        let stale = read(&[
            ("payload", &|m| {
                m.network(1, 1).network(2, 2).network(3, 2);
            }),
            ("meta", &|m| {
                m.network(1, 1).network(2, 6);
            }),
            ("cmp", &|m| compare(m, &[0, 53])),
        ]);
        assert_eq!((stale.dport, stale.extra), (None, Extra::Something));
        assert!(read(&[("counter", &|_| {})]).is_broad());
    }

    #[test]
    fn a_service_of_kube_proxy_is_read_from_its_map() {
        let mut message = Message::new(SUBSYSTEM | 12, 0, &[2, 0, 0, 0]);
        message.nest(3, |list| {
            for (protocol, chain) in [(17, "service-X-kube-system/kube-dns/udp/dns"), (6, "service-Y")] {
                list.nest(NFTA_LIST_ELEM, |element| {
                    element.nest(1, |key| {
                        key.put(NFTA_DATA_VALUE, &[10, 96, 0, 10, protocol, 0, 0, 0, 0, 53, 0, 0]);
                    });
                    element.nest(2, |data| {
                        data.nest(NFTA_DATA_VERDICT, |verdict| {
                            verdict.text(NFTA_VERDICT_CHAIN, chain);
                        });
                    });
                });
            }
        });
        let expected =
            ("10.96.0.10:53".parse().unwrap(), "service-X-kube-system/kube-dns/udp/dns".to_owned());
        assert_eq!(elements(&message.heard()), [expected]);
    }
}
