//! What `status` and `doctor` show: read only, from any process.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::difference::Actual;
use super::dump::{self, Element, Expression};
use super::expr::IpFamily;
use super::fault::fault;
use super::foreign::{self, Which};
use super::owner::Owner;
use super::table::{FAIL_OPEN, OWN};
use crate::netlink::{Error, Family, Socket};
use crate::node::Fault;

/// What there is of ours, and what may be in its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// `inet sidestep`.
    pub own: Option<Table>,
    /// `inet sidestep-failopen`.
    pub fail_open: Option<Table>,
    /// The addresses that the rules are for.
    pub addresses: Vec<IpAddr>,
    /// Those that we have answered from of late, and how long that counts yet.
    pub live: Vec<(IpAddr, Duration)>,
    /// Those that the sleeping rows are for, and how long they are there yet.
    pub armed: Vec<(IpAddr, Duration)>,
    /// The servers that the sleeping rows lead to.
    pub fallbacks: Vec<SocketAddr>,
    /// Chains of others that drop what they do not know.
    pub dropping: Vec<Chain>,
}

/// A table of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Whom it goes with.
    pub owner: Option<Owner>,
    /// Its rows in the kernel's order, chain by chain.
    pub rows: Vec<Row>,
}

/// A row in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its chain.
    pub chain: String,
    /// Why it is there.
    pub reason: String,
    /// Packets that it was true of.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A chain of others that drops what it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Family, table and name, as `nft` has them.
    pub name: String,
    /// Our accept rows in it: none means that it drops what is not tracked.
    pub accepts: usize,
}

/// Reads it.
///
/// # Errors
/// No nf_tables, or no CAP_NET_ADMIN.
pub fn read() -> Result<Overview, Fault> {
    gather().map_err(|error| fault("reading the packet filter", &error))
}

fn gather() -> Result<Overview, Error> {
    let mut socket = Socket::open(Family::Netfilter)?;
    let mut overview = Overview::default();
    if let Some(own) = Actual::read(&mut socket, OWN)? {
        overview.addresses = of_both(&own, "addresses").into_iter().map(|(address, _)| address).collect();
        overview.live = of_both(&own, "live");
        overview.own = Some(table(&own));
    }
    if let Some(fail_open) = Actual::read(&mut socket, FAIL_OPEN)? {
        overview.armed = of_both(&fail_open, "armed");
        overview.fallbacks = fallbacks(fail_open.rules());
        overview.fail_open = Some(table(&fail_open));
    }
    for dropping in foreign::chains(&mut socket, Which::Dropping)? {
        let accepts = dropping.rules.iter().filter(|rule| foreign::is_ours(rule)).count();
        overview.dropping.push(Chain { name: foreign::describe(&dropping.chain), accepts });
    }
    Ok(overview)
}

fn table(actual: &Actual) -> Table {
    let rows = actual.rules().iter().map(|rule| {
        let (packets, bytes) = rule.count().unwrap_or_default();
        Row { chain: rule.chain.clone(), reason: rule.note.comment.clone(), packets, bytes }
    });
    Table { owner: actual.table().owner.map(Owner::find), rows: rows.collect() }
}

/// The addresses in the sets of both families, and how long they stay.
fn of_both(actual: &Actual, name: &str) -> Vec<(IpAddr, Duration)> {
    let sets = IpFamily::BOTH.map(|family| actual.elements(&format!("{name}{}", family.digit())));
    let address = |element: &Element| Some((address(&element.key)?, element.remaining.unwrap_or_default()));
    sets.into_iter().flatten().filter_map(address).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The destinations of the rules that translate: address and port are the two values loaded before.
fn fallbacks(rules: &[dump::Rule]) -> Vec<SocketAddr> {
    let mut all: Vec<_> = rules
        .iter()
        .filter(|rule| rule.expressions.iter().any(|expression| expression.name == "nat"))
        .filter_map(|rule| {
            let mut values = rule.expressions.iter().filter_map(immediate);
            let address = address(&values.next()?)?;
            let port = u16::from_be_bytes(values.next()?.as_slice().try_into().ok()?);
            Some(SocketAddr::new(address, port))
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn immediate(expression: &Expression) -> Option<Vec<u8>> {
    let value = (expression.name == "immediate").then(|| expression.data().nested(2).get(1))?;
    value.map(<[u8]>::to_vec)
}
