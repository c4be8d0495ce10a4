//! The end of the link: whatever an earlier run left, by its marks.

use std::net::IpAddr;

use super::fault::cannot_change;
use super::{gone, look, owner, told};
use crate::node::Fault;

/// What [`teardown`] has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links and addresses that were there and are not any more, a line each.
    pub removed: Vec<String>,
    /// What has our name and was left, with the reason.
    pub left: Vec<String>,
}

/// Removes the link of this name, if it is ours, with all that is on it, and our addresses on `lo`: those that are
/// marked, and, where the kernel keeps no marks (before Linux 5.18), those among `addresses`. Needs no right to
/// anything if there is nothing to do.
///
/// # Errors
/// Every step that failed; the others have been done.
pub fn teardown(name: &str, addresses: &[IpAddr]) -> Result<Removed, Vec<Fault>> {
    let (mut kernel, view) = look(name).map_err(|fault| vec![fault])?;
    let mut result = Removed::default();
    let mut faults = Vec::new();
    if let Some(link) = view.link(name) {
        match owner::claim(link, &view, addresses).and_then(|kind| owner::may_remove(link, kind)) {
            Ok(kind) => match kernel.delete(link.index).or_else(gone) {
                Ok(()) => result.removed.push(format!("link {name} ({})", told(kind))),
                Err(error) => faults.push(cannot_change(name, "remove it", &error)),
            },
            Err(why) => result.left.push(format!("link {name} is not ours: {why}")),
        }
    }
    for address in owner::on_loopback(&view, addresses) {
        match kernel.remove(address).or_else(gone) {
            Ok(()) => result.removed.push(format!("address {} on lo", address.ip)),
            Err(error) => faults.push(cannot_change("lo", &format!("take {} off", address.ip), &error)),
        }
    }
    if faults.is_empty() { Ok(result) } else { Err(faults) }
}

/// The addresses that [`teardown`] would take away, and those of a link of this name that is not ours. What cannot be
/// looked at, `teardown` says.
pub fn held(name: &str, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let Ok((_, view)) = look(name) else { return Vec::new() };
    let on_link = view.link(name).into_iter().flat_map(|link| view.on(link.index));
    on_link.chain(owner::on_loopback(&view, addresses)).map(|address| address.ip).collect()
}
