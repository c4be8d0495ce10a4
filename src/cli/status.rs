//! `sidestep status`: link, rules and counters of this node at a glance. It reads the kernel, so it needs no process of
//! ours, and shows what is there rather than what was meant.

use std::fmt::Write;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::{complain, print};
use crate::node::iptables::{self, Found, rule};
use crate::node::link::overview as links;
use crate::node::nftables::{self, Overview, Table};

/// Prints what is there; what cannot be read is said, and makes the exit code 1.
pub(super) fn status(interface: &str) -> ExitCode {
    let mut text = String::new();
    let mut faults = Vec::new();
    match links::read() {
        Ok(all) => {
            // Writing into a string does not fail.
            let _ = writeln!(text, "link     {}", link(&all, interface));
        }
        Err(error) => faults.push(format!("links cannot be read: {error}")),
    }
    match nftables::read() {
        Ok(overview) => of_nftables(&mut text, &overview),
        Err(fault) => faults.push(fault.what),
    }
    let (found, unread) = iptables::overview();
    of_iptables(&mut text, &found);
    faults.extend(unread.into_iter().map(|fault| fault.what));
    let printed = print(text.as_bytes());
    for fault in &faults {
        complain(&format!("sidestep: {fault}"));
    }
    if faults.is_empty() { printed } else { ExitCode::FAILURE }
}

fn link(all: &[links::Link], interface: &str) -> String {
    let Some(link) = all.iter().find(|link| link.name == interface) else {
        return format!("{interface} is not there");
    };
    let state = if link.up { "up" } else { "down" };
    format!("{interface} ({}, {state}) carries {}", link.kind, list(&link.addresses))
}

fn of_nftables(text: &mut String, overview: &Overview) {
    let Overview { own, fail_open, addresses, live, armed, fallbacks, dropping } = overview;
    if own.is_none() && fail_open.is_none() {
        let _ = writeln!(text, "nftables no table of ours");
        return;
    }
    if let Some(table) = own {
        let owner = table.owner.as_ref().map_or("no process".to_owned(), ToString::to_string);
        let _ = writeln!(text, "nftables table inet sidestep, which goes with {owner}");
        for address in addresses {
            let state = match live.iter().find(|(of, _)| of == address) {
                Some(_) => "awake: we answer, its packets are not tracked",
                None => "asleep: no answer of ours within 2 s, its packets go elsewhere",
            };
            let _ = writeln!(text, "         {address} is {state}");
        }
    }
    if fail_open.is_some() {
        if own.is_none() {
            let _ = writeln!(
                text,
                "nftables no process of ours; table inet sidestep-failopen is left of the last one"
            );
        }
        let armed = armed.iter().map(|(_, left)| *left).min().unwrap_or_default();
        let servers: Vec<_> = fallbacks.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "         without us clients go to {}, for {} after the last process",
            servers.join(", "),
            minutes(armed)
        );
    }
    for chain in dropping {
        let accepts =
            if chain.accepts > 0 { "our accept rows are in it" } else { "and has no accept rows of ours" };
        let _ = writeln!(text, "         chain {} drops what it does not know; {accepts}", chain.name);
    }
    let _ = writeln!(text, "\n     packets         bytes  chain        because");
    for row in [own, fail_open].into_iter().flatten().flat_map(|table: &Table| &table.rows) {
        let _ = writeln!(text, "{:>12} {:>13}  {:<11}  {}", row.packets, row.bytes, row.chain, row.reason);
    }
}

fn of_iptables(text: &mut String, found: &[Found]) {
    if found.is_empty() {
        return;
    }
    let variant = found[0].variant;
    let _ = writeln!(text, "iptables {} rules ({variant})", found.len());
    let _ = writeln!(text, "\n     packets         bytes  rule");
    for Found { family, line, .. } in found {
        let program = family.program();
        let (table, chain) = (rule::table(line.place), rule::chain(line.place));
        let _ = writeln!(
            text,
            "{:>12} {:>13}  {program} -t {table} -A {chain} {}",
            line.packets, line.bytes, line.text
        );
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

fn list(addresses: &[IpAddr]) -> String {
    match addresses {
        [] => "no address".to_owned(),
        all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
