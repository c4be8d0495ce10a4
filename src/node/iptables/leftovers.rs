//! What stands in the kernel, whoever put it there: for `sidestep teardown`, `status` and `doctor`, which know no
//! plan. Both variants are looked at, since an earlier run may have found the node otherwise.

use std::ffi::OsStr;
use std::net::IpAddr;

use super::difference::{Difference, Scope};
use super::line::Line;
use super::program::absent;
use super::rule::Family;
use super::variant::{self, Variant};
use crate::node::Fault;

/// A rule of ours or of node-cache's, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which variant of iptables sees it.
    pub variant: Variant,
    /// Of which family it is.
    pub family: Family,
    /// What it says, and its counters.
    pub line: Line,
}

/// Every rule of ours, read and not touched, and what could not be read. Without iptables there is nothing to see.
pub fn overview() -> (Vec<Found>, Vec<Fault>) {
    overview_in(&path())
}

/// [`overview`] with the programs in the folders of `path`.
pub fn overview_in(path: &OsStr) -> (Vec<Found>, Vec<Fault>) {
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for installed in variant::installed(path) {
        for (family, programs) in &installed.programs {
            match programs.lines() {
                Ok(lines) => found.extend(lines.into_iter().map(|line| Found {
                    variant: installed.variant,
                    family: *family,
                    line,
                })),
                Err(fault) if absent(&fault) => {}
                Err(fault) => faults.push(fault),
            }
        }
    }
    (found, faults)
}

/// Takes away every rule that carries our comments or node-cache's in the chains where we have ours, for whatever
/// address, from both variants; says how many those were. A second time there are none, and that is no error.
///
/// # Errors
/// Every step that failed; the others have been done.
pub fn teardown() -> Result<usize, Vec<Fault>> {
    teardown_in(&path())
}

/// [`teardown`] with the programs in the folders of `path`.
///
/// # Errors
/// As [`teardown`].
pub fn teardown_in(path: &OsStr) -> Result<usize, Vec<Fault>> {
    take_away(path, &|_| true)
}

/// As [`teardown`], but only what is about these addresses: rules in nftables are there in their stead.
///
/// # Errors
/// As [`teardown`].
pub fn clear(addresses: &[IpAddr]) -> Result<usize, Vec<Fault>> {
    take_away(&path(), &|address| addresses.contains(&address))
}

fn take_away(path: &OsStr, about: &dyn Fn(IpAddr) -> bool) -> Result<usize, Vec<Fault>> {
    let mut removed = 0;
    let mut faults = Vec::new();
    for installed in variant::installed(path) {
        for programs in installed.programs.values() {
            let lines = match programs.lines() {
                Ok(lines) => lines,
                Err(fault) if absent(&fault) => continue,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            let addresses = lines.iter().map(|line| line.address).filter(|&address| about(address)).collect();
            let everything = Scope { addresses, tables: Scope::EVERYWHERE };
            let difference = Difference::new(&lines, &[], &everything);
            if difference.is_empty() {
                continue;
            }
            match programs.restore(&difference.script()) {
                Ok(()) => removed += difference.remove.len(),
                Err(fault) => faults.push(fault),
            }
        }
    }
    if faults.is_empty() { Ok(removed) } else { Err(faults) }
}

/// PATH of the environment, and where iptables stands where there is none.
pub fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/sbin:/usr/bin:/bin".into())
}
