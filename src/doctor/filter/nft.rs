//! nf_tables over netlink (linux/netfilter/nf_tables.h): chains, rules, and the one map in which kube-proxy keeps its
//! Services.

use std::net::{IpAddr, SocketAddr};

use super::walk::Walk;
use super::{Base, Chain, Family, Hook, Keeper, Rule, Ruleset, Table};
use crate::netlink::{self, Attributes, Error, Message, Reply, Socket};

/// NFNL_SUBSYS_NFTABLES, where message types have it.
const SUBSYSTEM: u16 = 10 << 8;
const NFT_MSG_GETCHAIN: u16 = SUBSYSTEM | 4;
const NFT_MSG_GETRULE: u16 = SUBSYSTEM | 7;
const NFT_MSG_GETSETELEM: u16 = SUBSYSTEM | 13;
/// Bytes of `struct nfgenmsg`, whose first is the family.
const FIXED: usize = 4;

const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;

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

pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
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
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::filter::{Action, Extra};

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
