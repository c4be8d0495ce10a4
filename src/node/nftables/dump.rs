//! Reading back what the kernel holds. Everyone with CAP_NET_ADMIN may, whoever owns the table.

use std::time::Duration;

use super::message::{Family, Hook, Kind, message};
use super::note::Note;
use crate::netlink::{Attributes, Error, Reply, Socket};

/// Bytes of `struct nfgenmsg`.
const FIXED: usize = 4;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Its family.
    pub(super) family: Family,
    /// Its name.
    pub(super) name: String,
    /// NFT_TABLE_F_*.
    pub(super) flags: u32,
    /// The port of the netlink socket that it belongs to.
    pub(super) owner: Option<u32>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Its table's family.
    pub(super) family: Family,
    /// Its table.
    pub(super) table: String,
    /// Its name.
    pub(super) name: String,
    /// Where packets come into it, unless rules alone lead to it.
    pub(super) hook: Option<Hook>,
    /// `filter`, `nat` or `route`, if it has a hook.
    pub(super) kind: String,
    /// Whether it drops what comes to its end.
    pub(super) drops: bool,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its chain.
    pub(super) chain: String,
    /// The kernel's number for it, within its table.
    pub(super) handle: u64,
    /// What stands beside it.
    pub(super) note: Note,
    /// What it does, in order.
    pub(super) expressions: Vec<Expression>,
}

/// An expression: its name, and its attributes as the kernel has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    /// Its name.
    pub(super) name: String,
    /// Its attributes.
    data: Vec<u8>,
}

impl Expression {
    /// Its attributes.
    pub(super) fn data(&self) -> Attributes<'_> {
        Attributes::within(&self.data)
    }
}

impl Rule {
    /// Packets and bytes, if it counts them.
    pub(super) fn count(&self) -> Option<(u64, u64)> {
        let counter = self.expressions.iter().find(|expression| expression.name == "counter")?;
        Some((counter.data().network64(2)?, counter.data().network64(1)?))
    }
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// Its key.
    pub(super) key: Vec<u8>,
    /// How long it still stays, if not for ever.
    pub(super) remaining: Option<Duration>,
}

/// All tables.
pub(super) fn tables(socket: &mut Socket) -> Result<Vec<Table>, Error> {
    let replies = socket.dump(&message(Kind::GetTable, 0, Family::ANY))?;
    Ok(replies.iter().filter_map(table).collect())
}

/// One table, if it is there.
pub(super) fn find_table(socket: &mut Socket, family: Family, name: &str) -> Result<Option<Table>, Error> {
    Ok(tables(socket)?.into_iter().find(|table| table.family == family && table.name == name))
}

fn table(reply: &Reply) -> Option<Table> {
    let attributes = reply.attributes(FIXED);
    Some(Table {
        family: family(reply),
        name: attributes.text(1)?.to_owned(),
        flags: attributes.network(2).unwrap_or(0),
        owner: attributes.network(7),
    })
}

fn family(reply: &Reply) -> Family {
    let [family, ..] = reply.fixed::<FIXED>();
    Family(family)
}

/// All chains of a family; of all families for [`Family::ANY`].
pub(super) fn chains(socket: &mut Socket, family: Family) -> Result<Vec<Chain>, Error> {
    let replies = socket.dump(&message(Kind::GetChain, 0, family))?;
    Ok(replies.iter().filter_map(chain).collect())
}

fn chain(reply: &Reply) -> Option<Chain> {
    const NF_DROP: u32 = 0;
    let attributes = reply.attributes(FIXED);
    let hook = attributes.nested(4);
    let hook = hook.network(1).zip(hook.network(2));
    Some(Chain {
        family: family(reply),
        table: attributes.text(1)?.to_owned(),
        name: attributes.text(3)?.to_owned(),
        hook: hook.map(|(number, priority)| Hook { number, priority: priority.cast_signed() }),
        kind: attributes.text(7).unwrap_or_default().to_owned(),
        drops: attributes.network(5) == Some(NF_DROP),
    })
}

/// The rules of a table, or of one of its chains, in their order.
pub(super) fn rules(
    socket: &mut Socket,
    family: Family,
    table: &str,
    chain: Option<&str>,
) -> Result<Vec<Rule>, Error> {
    let mut message = message(Kind::GetRule, 0, family);
    message.text(1, table);
    if let Some(chain) = chain {
        message.text(2, chain);
    }
    let replies = socket.dump(&message)?;
    // Kernels before 4.15 do not filter.
    let ours = |reply: &Reply| {
        let attributes = reply.attributes(FIXED);
        attributes.text(1) == Some(table) && chain.is_none_or(|chain| attributes.text(2) == Some(chain))
    };
    Ok(replies.iter().filter(|reply| ours(reply)).filter_map(rule).collect())
}

fn rule(reply: &Reply) -> Option<Rule> {
    let attributes = reply.attributes(FIXED);
    let expressions = attributes.nested(4).filter_map(|(_, one)| {
        let one = Attributes::within(one);
        Some(Expression {
            name: one.text(1)?.to_owned(),
            data: one.get(2).map(<[u8]>::to_vec).unwrap_or_default(),
        })
    });
    Some(Rule {
        chain: attributes.text(2)?.to_owned(),
        handle: attributes.network64(3)?,
        note: Note::read(attributes.get(7).unwrap_or_default()),
        expressions: expressions.collect(),
    })
}

/// The names of a table's sets.
pub(super) fn sets(socket: &mut Socket, family: Family, table: &str) -> Result<Vec<String>, Error> {
    let mut message = message(Kind::GetSet, 0, family);
    message.text(1, table);
    let replies = socket.dump(&message)?;
    Ok(replies.iter().filter_map(|reply| Some(reply.attributes(FIXED).text(2)?.to_owned())).collect())
}

/// The elements of a set.
pub(super) fn elements(
    socket: &mut Socket,
    family: Family,
    table: &str,
    set: &str,
) -> Result<Vec<Element>, Error> {
    let mut message = message(Kind::GetElements, 0, family);
    message.text(1, table).text(2, set);
    let replies = socket.dump(&message)?;
    let lists = replies.iter().flat_map(|reply| reply.attributes(FIXED).nested(3));
    Ok(lists.filter_map(|(_, one)| element(Attributes::within(one))).collect())
}

fn element(attributes: Attributes<'_>) -> Option<Element> {
    Some(Element {
        key: attributes.nested(1).get(1)?.to_vec(),
        remaining: attributes.network64(5).map(Duration::from_millis),
    })
}
