//! What must hold between keys; each key's own limits were checked when it was read.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::file::Written;
use super::keys::{ADDRESSES, HTTP_LISTENERS};
use super::kinds::twice;
use super::problem::Wrong;
use super::quantity::time;
use super::target::{Target, WrittenTarget};
use super::zone::WrittenZone;
use crate::local::Refused;
use crate::node::FirewallKind;
use crate::resolve::zones::ZONES;
use crate::resolve::{self, OwnTimes};

/// A rule that does not hold: the keys it is about, the likelier culprit first, and why.
pub(super) struct Broken {
    /// As places are named.
    pub keys: Vec<String>,
    /// What is wrong.
    pub wrong: Wrong,
}

fn broken(keys: &[&str], wrong: Wrong) -> Result<(), Broken> {
    Err(Broken { keys: keys.iter().map(|&key| key.to_owned()).collect(), wrong })
}

/// Checks every rule.
pub(super) fn check(written: &Written) -> Result<(), Broken> {
    lists(written)?;
    addresses(written)?;
    node(written)?;
    let r = &written.config.resolve;
    ordered("cache", ("failure_ttl", r.failure_ttl), ("failure_ttl_max", r.failure_ttl_max))?;
    in_time("cache", r.stale_after, r.deadline)?;
    zones(&written.zones, &written.config.listen.addresses)?;
    for (index, zone) in written.zones.iter().enumerate() {
        own_times(&format!("zone[{index}]"), &zone.times, r)?;
    }
    Ok(())
}

/// Stale data must come before the deadline.
fn in_time(place: &str, stale_after: Duration, deadline: Duration) -> Result<(), Broken> {
    if stale_after < deadline {
        return Ok(());
    }
    let what = format!(
        "{}.stale_after ({}) is not below upstream.deadline ({})",
        section(place),
        time(stale_after),
        time(deadline)
    );
    let wrong = Wrong::new(what, "stale data would come too late: lower the first");
    broken(&[&format!("{place}.stale_after"), "upstream.deadline"], wrong)
}

/// The times of one zone, with each other and with those that hold everywhere.
fn own_times(place: &str, own: &OwnTimes, all: &resolve::Settings) -> Result<(), Broken> {
    if let Some(stale_after) = own.stale_after {
        in_time(place, stale_after, all.deadline)?;
    }
    let (first, longest) = (own.failure_ttl.unwrap_or(all.failure_ttl), own.failure_ttl_max);
    longest.map_or(Ok(()), |longest| ordered(place, ("failure_ttl", first), ("failure_ttl_max", longest)))
}

/// Lists that flags add to and that Corefiles make are no longer than one that is written.
fn lists(written: &Written) -> Result<(), Broken> {
    let config = &written.config;
    for (key, what, count, most) in [
        ("listen.addresses", "addresses to listen on", config.listen.addresses.len(), ADDRESSES.max),
        ("http.serve", "addresses with HTTP", config.http.len(), HTTP_LISTENERS.max),
    ] {
        if count > most {
            let wrong = Wrong::new(format!("{count} {what}"), format!("at most {most} can be served"));
            return broken(&[key], wrong);
        }
    }
    Ok(())
}

fn addresses(written: &Written) -> Result<(), Broken> {
    let config = &written.config;
    // Port 0 is another free port each time.
    let mut seen = HashSet::new();
    for address in config.listen.addresses.iter().filter(|a| a.port() != 0) {
        if !seen.insert(*address) {
            return broken(&["listen.addresses"], twice(&address.to_string()));
        }
    }
    for (index, address) in config.http.iter().map(|l| l.address).enumerate().filter(|(_, a)| a.port() != 0) {
        if let Some(dns) = config.listen.addresses.iter().find(|dns| collide(**dns, address)) {
            let wrong =
                Wrong::new(format!("{dns} already answers DNS"), "give HTTP another port, such as 9353");
            return broken(&["http.serve"], wrong);
        }
        if !seen.insert(address) {
            return broken(&["http.serve"], twice(&address.to_string()));
        }
        if let Some(other) = config.http[..index].iter().find(|other| collide(other.address, address)) {
            let what = format!("{address} and {} are the same port, which can be had once", other.address);
            return broken(&["http.serve"], Wrong::new(what, "leave out the one for fewer addresses"));
        }
    }
    Ok(())
}

/// Whether two listeners cannot both be had: each family has sockets of its own, and one for all addresses has them all.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same = a.port() == b.port() && a.is_ipv4() == b.is_ipv4();
    same && (a == b || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// What the rules can do; and one port for all addresses of the node, as they have one.
fn node(written: &Written) -> Result<(), Broken> {
    let node = &written.config.node;
    if node.notrack_upstream && matches!(node.firewall, FirewallKind::Iptables | FirewallKind::None) {
        let wrong = Wrong::new(
            "node.notrack_upstream needs nftables",
            "set node.firewall to \"nftables\" or \"auto\", or leave notrack_upstream off",
        );
        return broken(&["node.notrack_upstream", "node.firewall"], wrong);
    }
    let mut ports = written.config.listen.addresses.iter().filter(|a| node.addresses.contains(&a.ip()));
    let Some(first) = ports.next() else { return Ok(()) };
    match ports.find(|other| other.port() != first.port()) {
        Some(other) => {
            let what = format!("{first} and {other}: addresses of the node have two ports");
            broken(
                &["listen.addresses", "node.addresses"],
                Wrong::new(what, "give them the same port, such as 53"),
            )
        }
        None => Ok(()),
    }
}

fn zones(zones: &[WrittenZone], addresses: &[SocketAddr]) -> Result<(), Broken> {
    if zones.is_empty() {
        // A TOML file gets zone `.`; so it was a Corefile.
        let what = "there is no server block, so nothing would be answered";
        return broken(
            &["zone"],
            Wrong::new(what, "write one, like `.:53 {` and its plugins; is it the right file?"),
        );
    }
    if !ZONES.contains(zones.len()) {
        let wrong = Wrong::bounds(format!("{} zones", zones.len()), ZONES.min, ZONES.max);
        return broken(&["zone"], wrong);
    }
    for (index, zone) in zones.iter().enumerate() {
        let place = format!("zone[{index}]");
        views(&place, zone, &zones[..index], addresses)?;
        upstreams(&place, zone)?;
        itself(&place, zone, addresses)?;
        own_rules(&place, zone, addresses)?;
        let s = &zone.rules;
        ordered(&place, ("ttl_min", s.ttl_min), ("ttl_max", s.ttl_max))?;
        ordered(&place, ("negative_ttl_min", s.negative_ttl_min), ("negative_ttl_max", s.negative_ttl_max))?;
    }
    Ok(())
}

/// A zone's own rules go together, and with who asks.
fn own_rules(place: &str, zone: &WrittenZone, addresses: &[SocketAddr]) -> Result<(), Broken> {
    let refused = |key: &str, refused: Refused| Broken {
        keys: vec![format!("{place}.{key}"), place.to_owned()],
        wrong: refused.into(),
    };
    zone.local.check().map_err(|r| refused("template", r))?;
    let listen = if zone.listen.is_empty() { addresses } else { &zone.listen };
    let (v4, v6) = (listen.iter().any(SocketAddr::is_ipv4), listen.iter().any(SocketAddr::is_ipv6));
    zone.local.for_clients(v4, v6).map(drop).map_err(|r| refused("dns64", r))
}

/// Somebody is asked, or nobody is to be.
fn upstreams(place: &str, zone: &WrittenZone) -> Result<(), Broken> {
    let name = zone.name();
    if zone.local.ends_here {
        if zone.upstreams.is_empty() {
            return Ok(());
        }
        let what = format!("zone `{name}` has upstreams, and is to ask nobody");
        return broken(&[&format!("{place}.upstreams")], Wrong::new(what, "leave them or ends_here out"));
    }
    if zone.upstreams.is_empty() {
        let what = format!("zone `{name}` has no upstreams");
        return broken(&[place], Wrong::new(what, "add `upstreams = [\"10.96.0.10\"]`"));
    }
    if zone.upstreams.iter().all(WrittenTarget::is_service) {
        let what = format!("zone `{name}` has only svc:// upstreams, and nobody to ask for them");
        let hint = "add the cluster DNS Service, like \"tcp://10.96.0.10\", or a resolv.conf";
        return broken(&[&format!("{place}.upstreams")], Wrong::new(what, hint));
    }
    let targets: HashSet<_> = zone.upstreams.iter().map(|t| t.settle(zone.transport)).collect();
    if targets.len() < zone.upstreams.len() {
        let what = format!("zone `{name}` has an upstream twice");
        return broken(&[&format!("{place}.upstreams")], Wrong::new(what, "leave one out"));
    }
    Ok(())
}

/// No zone asks where it answers itself: what it cannot answer would go in a circle.
fn itself(place: &str, zone: &WrittenZone, addresses: &[SocketAddr]) -> Result<(), Broken> {
    let listen = if zone.listen.is_empty() { addresses } else { &zone.listen };
    let next = zone.next.iter().flat_map(|next| &next.upstreams);
    for target in zone.upstreams.iter().chain(next) {
        let Target::Server(server) = target.settle(zone.transport) else { continue };
        if let Some(here) = listen.iter().find(|here| reaches(server.address, **here)) {
            let what =
                format!("zone `{}` asks {}, and answers there itself ({here})", zone.name(), server.address);
            let wrong = Wrong::new(what, "name another server, or let the zone answer elsewhere");
            return broken(&[&format!("{place}.upstreams"), place], wrong);
        }
    }
    Ok(())
}

/// Whether what is sent to `to` is for a listener at `at` for sure.
fn reaches(to: SocketAddr, at: SocketAddr) -> bool {
    let (ip, same) = (to.ip(), to.port() == at.port() && to.is_ipv4() == at.is_ipv4());
    // The kernel takes 0.0.0.0 for the machine itself, too.
    let is_here = at.ip().is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
    same && (is_here || to == at)
}

/// On each address a name has one zone; beside it there may be one that answers on all addresses.
fn views(
    place: &str,
    zone: &WrittenZone,
    before: &[WrittenZone],
    addresses: &[SocketAddr],
) -> Result<(), Broken> {
    if let Some(foreign) = zone.listen.iter().find(|address| !addresses.contains(address)) {
        let what = format!("zone `{}` is to answer on {foreign}, where nobody listens", zone.name());
        let hint = "add it to listen.addresses, or take one of these";
        return broken(&[&format!("{place}.listen")], Wrong::new(what, hint));
    }
    for other in before.iter().filter(|other| other.name() == zone.name()) {
        if other.listen.is_empty() && zone.listen.is_empty() {
            let wrong = Wrong::new(
                format!("zone `{}` is given twice", zone.name()),
                "make one of the two, or let each listen on addresses of its own",
            );
            return broken(&[&format!("{place}.name")], wrong);
        }
        if let Some(both) = zone.listen.iter().find(|address| other.listen.contains(address)) {
            let wrong =
                Wrong::new(format!("zone `{}` is given twice on {both}", zone.name()), "make one of the two");
            return broken(&[&format!("{place}.listen")], wrong);
        }
    }
    Ok(())
}

/// The section of a place: that of `zone[2]` is `zone`.
fn section(place: &str) -> &str {
    place.split('[').next().unwrap_or_default()
}

/// The first of the two must not be above the second.
fn ordered(place: &str, low: (&str, Duration), high: (&str, Duration)) -> Result<(), Broken> {
    if low.1 <= high.1 {
        return Ok(());
    }
    let section = section(place);
    let what =
        format!("{section}.{} ({}) is above {section}.{} ({})", low.0, time(low.1), high.0, time(high.1));
    let keys = [format!("{place}.{}", low.0), format!("{place}.{}", high.0)];
    broken(&[&keys[0], &keys[1]], Wrong::new(what, "lower the first or raise the second"))
}
