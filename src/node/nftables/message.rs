//! Messages of nf_tables: tables, chains, sets, elements, rules. Names and numbers are those of
//! linux/netfilter/nf_tables.h; numbers in attributes are in network byte order.

use std::time::Duration;

use super::expr::{Expressions, LIST_ELEMENT};
use crate::netlink::{Message, attribute};

/// NFNL_SUBSYS_NFTABLES: the subsystem of our transactions.
pub(crate) const SUBSYSTEM: u8 = 10;
/// NFT_TABLE_F_OWNER (Linux 5.12): the table goes with the socket, and nobody else can change it.
pub(crate) const OWNER: u32 = 2;

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// Families of tables: NFPROTO_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Family(pub(crate) u8);

impl Family {
    /// All of them, in requests for lists.
    pub(crate) const ANY: Self = Self(0);
    /// IPv4 and IPv6 together.
    pub(crate) const INET: Self = Self(1);
    /// IPv4.
    pub(crate) const IPV4: Self = Self(2);
    /// IPv6.
    pub(crate) const IPV6: Self = Self(10);

    /// As `nft` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::INET => "inet",
            Self::IPV4 => "ip",
            Self::IPV6 => "ip6",
            _ => "other",
        }
    }
}

/// What is asked of the kernel, or told by it: NFT_MSG_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A table is made, or its flags are changed.
    NewTable = 0,
    /// A table is asked for.
    GetTable = 1,
    /// A table is removed, with all that is in it.
    DeleteTable = 2,
    /// A chain is made.
    NewChain = 3,
    /// Chains are asked for.
    GetChain = 4,
    /// A rule is added.
    NewRule = 6,
    /// Rules are asked for.
    GetRule = 7,
    /// A rule is removed, or all of a chain.
    DeleteRule = 8,
    /// A set is made.
    NewSet = 9,
    /// Sets are asked for.
    GetSet = 10,
    /// Elements are added.
    NewElements = 12,
    /// Elements are asked for.
    GetElements = 13,
    /// Elements are removed, or all of a set.
    DeleteElements = 14,
    /// Tells that a transaction is done.
    NewGeneration = 15,
}

impl Kind {
    /// The type in a message's header.
    pub(crate) fn number(self) -> u16 {
        u16::from(SUBSYSTEM) << 8 | self as u16
    }
}

/// A hook, and where among the chains of that hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// NF_INET_*.
    pub(crate) number: u32,
    /// Lower is earlier.
    pub(crate) priority: i32,
}

/// NF_INET_PRE_ROUTING.
pub(crate) const PREROUTING: u32 = 0;
/// NF_INET_LOCAL_IN.
pub(crate) const INPUT: u32 = 1;
/// NF_INET_LOCAL_OUT.
pub(crate) const OUTPUT: u32 = 3;
/// NF_INET_POST_ROUTING.
pub(crate) const POSTROUTING: u32 = 4;

/// The key of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// nft's number of the type, for those who list it; parts of a concatenation have six bits each.
    pub(crate) kind: u32,
    /// Its bytes; parts of a concatenation are padded to four each.
    pub(crate) length: u32,
}

/// What distinguishes sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetKind {
    /// What it holds.
    pub(crate) key: Key,
    /// How long an element stays, if not for ever.
    pub(crate) timeout: Option<Duration>,
    /// Whether rules add to it.
    pub(crate) dynamic: bool,
    /// How many elements at most.
    pub(crate) size: Option<u32>,
}

/// A message about this family; `flags` are NLM_F_*.
pub(crate) fn message(kind: Kind, flags: u16, family: Family) -> Message {
    // struct nfgenmsg: family, version 0, resource 0.
    Message::new(kind.number(), flags, &[family.0, 0, 0, 0])
}

/// A time as nf_tables has it.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Makes a table; does nothing if it is there. `flags`: [`OWNER`] or none.
pub(crate) fn new_table(family: Family, name: &str, flags: u32) -> Message {
    let mut message = message(Kind::NewTable, NLM_F_CREATE, family);
    message.text(1, name).network(2, flags);
    message
}

/// Removes a table, with all that is in it.
pub(crate) fn delete_table(family: Family, name: &str) -> Message {
    let mut message = message(Kind::DeleteTable, 0, family);
    message.text(1, name);
    message
}

/// Makes a chain at a hook, of type `filter` or `nat`, that lets packets pass; does nothing if it is there.
pub(crate) fn new_chain(family: Family, table: &str, name: &str, kind: &str, hook: Hook) -> Message {
    const NF_ACCEPT: u32 = 1;
    let mut message = message(Kind::NewChain, NLM_F_CREATE, family);
    message.text(1, table).text(3, name).nest(4, |m| {
        m.network(1, hook.number).put(2, &hook.priority.to_be_bytes());
    });
    message.network(5, NF_ACCEPT).text(7, kind);
    message
}

/// Makes a set; does nothing if the same is there. `id` is different for each set of a transaction.
pub(crate) fn new_set(family: Family, table: &str, name: &str, kind: SetKind, id: u32) -> Message {
    const NFT_SET_TIMEOUT: u32 = 0x10;
    const NFT_SET_EVAL: u32 = 0x20;
    let mut flags = 0;
    if kind.timeout.is_some() {
        flags |= NFT_SET_TIMEOUT;
    }
    if kind.dynamic {
        flags |= NFT_SET_EVAL;
    }
    let mut message = message(Kind::NewSet, NLM_F_CREATE, family);
    message.text(1, table).text(2, name).network(3, flags);
    message.network(4, kind.key.kind).network(5, kind.key.length);
    if let Some(size) = kind.size {
        message.nest(9, |m| {
            m.network(1, size);
        });
    }
    message.network(10, id);
    if let Some(timeout) = kind.timeout {
        message.put(11, &milliseconds(timeout).to_be_bytes());
    }
    message
}

/// Adds elements to a set, with the set's own timeout.
pub(crate) fn add_elements(family: Family, table: &str, set: &str, keys: &[Vec<u8>]) -> Message {
    let mut message = message(Kind::NewElements, NLM_F_CREATE, family);
    message.text(1, table).text(2, set).nest(3, |list| {
        for key in keys {
            list.nest(LIST_ELEMENT, |element| {
                element.put(1 | NESTED, &attribute(1, key));
            });
        }
    });
    message
}

/// Removes all elements of a set.
pub(crate) fn flush_set(family: Family, table: &str, set: &str) -> Message {
    let mut message = message(Kind::DeleteElements, 0, family);
    message.text(1, table).text(2, set);
    message
}

/// Removes all rules of a chain.
pub(crate) fn flush_chain(family: Family, table: &str, chain: &str) -> Message {
    let mut message = message(Kind::DeleteRule, 0, family);
    message.text(1, table).text(2, chain);
    message
}

/// Removes one rule, by the kernel's number for it.
pub(crate) fn delete_rule(family: Family, table: &str, chain: &str, handle: u64) -> Message {
    let mut message = flush_chain(family, table, chain);
    message.put(3, &handle.to_be_bytes());
    message
}

/// Where in a chain a rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Before all others.
    Head,
    /// Behind all others.
    Tail,
}

/// Adds a rule. `note` is what [`Note`](super::note::Note) makes of a comment, or nothing.
pub(crate) fn new_rule(
    family: Family,
    table: &str,
    chain: &str,
    at: At,
    expressions: &Expressions,
    note: &[u8],
) -> Message {
    let place = match at {
        At::Head => 0,
        At::Tail => NLM_F_APPEND,
    };
    let mut message = message(Kind::NewRule, NLM_F_CREATE | place, family);
    message.text(1, table).text(2, chain).put(4 | NESTED, expressions.bytes());
    if !note.is_empty() {
        message.put(7, note);
    }
    message
}

/// Says which transport protocol a rule with `match` expressions is for (NFTA_RULE_COMPAT), as iptables-nft does.
pub(crate) fn for_protocol(message: &mut Message, protocol: u8) {
    message.nest(5, |m| {
        m.network(1, u32::from(protocol)).network(2, 0);
    });
}
