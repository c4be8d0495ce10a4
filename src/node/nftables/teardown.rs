//! Taking away what is ours.

use super::fault::{commit, fault};
use super::foreign::{self, Which};
use super::owner::Owner;
use super::table::{self, FAIL_OPEN, OWN};
use super::{dump, message};
use crate::netlink::{Family, Socket};
use crate::node::{Fault, FaultKind};

/// Takes away both tables, whichever run has left them. Not there is no fault. What was there, a line each.
///
/// # Errors
/// Each step that failed; the others have been done.
pub fn teardown() -> Result<Vec<String>, Vec<Fault>> {
    let mut socket =
        Socket::open(Family::Netfilter).map_err(|error| vec![fault("opening a netlink socket", &error)])?;
    let mut faults = Vec::new();
    let mut removed = Vec::new();
    for name in [OWN, FAIL_OPEN] {
        match remove(&mut socket, name, None) {
            Ok(true) => removed.push(format!("nftables: table inet {name}")),
            Ok(false) => {}
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(removed) } else { Err(faults) }
}

/// Takes our rows out of the chains of others, those of node-cache like ours included; how many those were.
///
/// # Errors
/// As [`teardown`].
pub fn teardown_accepts() -> Result<usize, Vec<Fault>> {
    let mut socket =
        Socket::open(Family::Netfilter).map_err(|error| vec![fault("opening a netlink socket", &error)])?;
    unaccept(&mut socket)
}

/// Whether a living process holds `inet sidestep`; without nf_tables, or the right to look, nobody is seen.
///
/// # Errors
/// One does, and which.
pub fn in_use() -> Result<(), Fault> {
    let Ok(mut socket) = Socket::open(Family::Netfilter) else { return Ok(()) };
    let table = dump::find_table(&mut socket, message::Family::INET, OWN).ok().flatten();
    table.and_then(|table| table.owner).map_or(Ok(()), |owner| Err(held(owner)))
}

/// Takes a table away, unless it belongs to a socket other than `own`; whether it was there.
pub(super) fn remove(socket: &mut Socket, name: &str, own: Option<u32>) -> Result<bool, Fault> {
    let table = dump::find_table(socket, message::Family::INET, name)
        .map_err(|error| fault(&format!("looking for the table inet {name}"), &error))?;
    let Some(table) = table else { return Ok(false) };
    match table.owner {
        Some(owner) if Some(owner) != own => Err(held(owner)),
        _ => Ok(commit(socket, vec![table::delete(name)]).map(|()| true)?),
    }
}

/// Takes our accept rows out of the chains of others; how many those were.
pub(super) fn unaccept(socket: &mut Socket) -> Result<usize, Vec<Fault>> {
    let chains = foreign::chains(socket, Which::All)
        .map_err(|error| vec![fault("looking at the filter chains of others", &error)])?;
    let mut removed = 0;
    let mut faults = Vec::new();
    for steps in chains.iter().map(foreign::remove).filter(|steps| !steps.is_empty()) {
        let rows = steps.len();
        match commit(socket, steps) {
            Ok(()) => removed += rows,
            Err(error) => faults.push(error.into()),
        }
    }
    if faults.is_empty() { Ok(removed) } else { Err(faults) }
}

/// Somebody else has our table.
pub(super) fn held(port: u32) -> Fault {
    let owner = Owner::find(port);
    Fault {
        kind: FaultKind::Rules,
        what: format!(
            "nftables: the table inet {OWN} belongs to {owner}, and goes when that ends: is a second instance running?"
        ),
    }
}
