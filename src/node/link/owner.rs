//! Whose a link or an address is, judged from what the kernel says of them; nothing is touched here. The reasons
//! stand in the module above.

use std::net::IpAddr;

use super::view::{ALIAS, Address, Interface, View};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Reply, attribute};

    const OURS: &str = "169.254.20.10";

    fn link(index: u32, kind: &str, alias: &str) -> Interface {
        let (name, kind, alias) = ("nodelocaldns".to_owned(), kind.to_owned(), alias.to_owned());
        Interface { index, name, kind, alias, ..Interface::default() }
    }

    fn address(index: u8, ip: &str, prefix: u8, scope: u8) -> Address {
        let (family, octets) = match ip.parse().unwrap() {
            IpAddr::V4(ip) => (2, ip.octets().to_vec()),
            IpAddr::V6(ip) => (10, ip.octets().to_vec()),
        };
        let index = u32::from(index).to_ne_bytes();
        let body = [&[family, prefix, 0, scope], &index[..], &attribute(1, &octets)].concat();
        Address::read(&Reply { kind: 20, flags: 0, sequence: 0, port: 0, body }).unwrap()
    }

    fn claimed(link: &Interface, addresses: Vec<Address>) -> Result<LinkKind, String> {
        let view = View { links: vec![link.clone()], addresses };
        claim(link, &view, &[OURS.parse().unwrap()])
    }

    /// This type is not on every kernel that runs the tests.
    #[test]
    fn the_dummy_of_node_cache_is_adopted_with_our_addresses_and_no_others() {
        let dummy = link(3, "dummy", "");
        let other = address(3, "10.96.0.10", 32, 0);
        assert_eq!(claimed(&dummy, vec![]), Ok(LinkKind::Dummy));
        let kernels = address(3, "fe80::1", 64, 253);
        assert_eq!(claimed(&dummy, vec![address(3, OURS, 32, 0), kernels]), Ok(LinkKind::Dummy));
        let error = claimed(&dummy, vec![address(3, OURS, 32, 0), other]).unwrap_err();
        assert!(error.contains("10.96.0.10/32"), "{error}");
        // Of what stands on other links it knows nothing; with the mark it is ours whatever it carries.
        assert_eq!(claimed(&dummy, vec![address(4, "10.96.0.10", 32, 0)]), Ok(LinkKind::Dummy));
        assert_eq!(claimed(&link(3, "dummy", ALIAS), vec![other]), Ok(LinkKind::Dummy));
    }

    #[test]
    fn what_has_no_type_of_ours_is_never_ours() {
        for kind in ["", "veth", "macvlan", "vxlan", "bond", "ifb"] {
            assert!(claimed(&link(3, kind, ALIAS), vec![]).is_err(), "{kind}");
        }
    }

    #[test]
    fn an_address_on_loopback_without_a_mark_goes_only_if_it_is_named_and_the_kernel_keeps_no_marks() {
        let lo = Interface { index: 1, name: LOOPBACK.to_owned(), ..Interface::default() };
        let addresses =
            vec![address(1, OURS, 32, 0), address(1, "192.0.2.1", 32, 0), address(2, OURS, 32, 0)];
        let view = View { links: vec![lo], addresses };
        let named = [OURS.parse().unwrap()];
        assert_eq!(on_loopback(&view, &named).collect::<Vec<_>>(), [&view.addresses[0]]);
        assert_eq!(on_loopback(&view, &[]).count(), 0);
    }
}
