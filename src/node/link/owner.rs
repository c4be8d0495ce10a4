//! Whose a link or an address is, judged from what the kernel says of them; nothing is touched here. The reasons
//! stand in the module above.

use std::net::IpAddr;

use super::kernel::{ALIAS, Address, Interface, View};
use crate::node::LinkKind;

/// The loopback link's name: the kernel's own, one in each network namespace.
pub(super) const LOOPBACK: &str = "lo";
/// Types as the kernel has them.
pub(super) const DUMMY: &str = "dummy";
pub(super) const BRIDGE: &str = "bridge";
const TUN: &str = "tun";

/// The kind of a link of our name if it is ours, or why it is not.
pub(super) fn claim(link: &Interface, view: &View, addresses: &[IpAddr]) -> Result<LinkKind, String> {
    let kind = match &*link.kind {
        DUMMY => LinkKind::Dummy,
        BRIDGE => LinkKind::Bridge,
        TUN => LinkKind::Tun,
        "" => return Err("it is a device of the machine".to_owned()),
        other => return Err(format!("it is of type {other}")),
    };
    let ports = view.ports(link.index);
    if !ports.is_empty() {
        return Err(format!("it has ports: {}", ports.join(", ")));
    }
    match &*link.alias {
        ALIAS => return Ok(kind),
        "" => {}
        other => return Err(format!("it is somebody's who calls it \"{other}\"")),
    }
    let is_foreign = |a: &&Address| !a.link_local && !addresses.contains(&a.ip);
    match view.on(link.index).find(is_foreign) {
        None => Ok(kind),
        Some(address) => Err(format!("it carries another address, {}/{}", address.ip, address.prefix)),
    }
}

/// A tun without our mark is not ours to remove: ours have it, or are gone.
pub(super) fn may_remove(link: &Interface, kind: LinkKind) -> Result<LinkKind, String> {
    if kind == LinkKind::Tun && link.alias != ALIAS {
        return Err("it is a tun without our mark".to_owned());
    }
    Ok(kind)
}

/// Whether something of ours holds this address.
fn is_ours(address: &Address, view: &View) -> bool {
    let holder = view.links.iter().find(|link| link.index == address.index);
    address.is_marked() || holder.is_some_and(|link| link.alias == ALIAS)
}

/// The first of our addresses that somebody else has on another link than the `carrier`, in words.
pub(super) fn held_elsewhere(
    view: &View,
    addresses: &[IpAddr],
    carrier: Option<u32>,
    kind: LinkKind,
) -> Option<String> {
    let is_foreign = |a: &&Address| {
        addresses.contains(&a.ip)
            && Some(a.index) != carrier
            && !is_ours(a, view)
            && !(kind == LinkKind::Auto && view.name(a.index) == LOOPBACK)
    };
    let held = view.addresses.iter().find(is_foreign)?;
    let (ip, holder) = (held.ip, view.name(held.index));
    let advice = match holder {
        "kube-ipvs0" => {
            "kube-proxy in IPVS mode answers there, and pods would lose the cluster DNS: leave this address to it"
                .to_owned()
        }
        LOOPBACK => "use --link lo or --link none if that is right".to_owned(),
        _ => format!(
            "choose another --node-address, use --link none if that is right, or remove it: `ip address del \
             {ip}/{} dev {holder}`",
            held.prefix
        ),
    };
    Some(format!("address {ip} is on interface {holder} already, which is not ours; {advice}"))
}

/// The same address on other links of ours.
pub(super) fn ours_elsewhere(view: &View, ip: IpAddr, carrier: u32) -> impl Iterator<Item = &Address> {
    view.addresses.iter().filter(move |a| a.ip == ip && a.index != carrier && is_ours(a, view))
}

/// Our addresses on `lo`.
pub(super) fn on_loopback<'v>(view: &'v View, addresses: &'v [IpAddr]) -> impl Iterator<Item = &'v Address> {
    let lo = view.link(LOOPBACK).map(|lo| lo.index);
    let is_kept = view.addresses.iter().any(Address::has_protocol);
    view.addresses.iter().filter(move |a| {
        let is_named = !is_kept && a.is_whole() && addresses.contains(&a.ip);
        Some(a.index) == lo && (a.is_marked() || is_named)
    })
}
