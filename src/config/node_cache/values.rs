//! The values of node-cache's flags, as Go reads them and as people mean them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::address;
use crate::config::problem::{Wrong, shown};
use crate::listen::WORKERS;
use crate::node;

/// How a flag is written.
pub(super) fn example(name: &str) -> String {
    match name {
        "localip" => "write it like -localip 169.254.20.10,10.96.0.10".to_owned(),
        "conf" | "corefile" | "basecorefile" => format!("write it like -{name} /etc/Corefile"),
        _ => format!("write it like -{name}=VALUE"),
    }
}

/// A switch's value: those of Go's `strconv.ParseBool`.
pub(super) fn switch(name: &str, value: &str) -> Result<bool, Wrong> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => {
            let what = format!("-{name}: `{}` is neither true nor false", shown(value));
            Err(Wrong::new(what, format!("write -{name} or -{name}=false")))
        }
    }
}

/// The addresses of `-localip`, each once.
pub(super) fn local_ips(value: &str) -> Result<Vec<IpAddr>, Wrong> {
    let mut all = Vec::new();
    for text in value.split([',', ' ']).filter(|text| !text.is_empty()) {
        let ip = address::parse_node(text)?;
        if !all.contains(&ip) {
            all.push(ip);
        }
    }
    if all.len() > node::ADDRESSES.max {
        return Err(Wrong::bounds(format!("{} addresses", all.len()), 1, node::ADDRESSES.max));
    }
    Ok(all)
}

/// The time between two checks. node-cache reads a Go duration and multiplies it by a second once more: "60" does not
/// parse there, "60s" overflows, and charts write "1ns" for a second. What was meant is clear in each case: a bare
/// number is seconds, a number of nanoseconds too. What is beyond our limits becomes the limit: nobody is to be refused
/// for wanting fewer checks.
pub(super) fn interval(value: &str) -> Result<Duration, Wrong> {
    let bare = value.strip_suffix("ns").unwrap_or(value);
    let seconds = bare.parse::<u64>().ok().map(Duration::from_secs);
    let time = seconds.or_else(|| go_duration(value)).filter(|time| !time.is_zero());
    let limits = node::CHECK_EVERY;
    time.map(|time| time.clamp(limits.min, limits.max))
        .ok_or_else(|| Wrong::new(format!("`{}` is no interval", shown(value)), "write it like 60s"))
}

/// A duration of Go's: numbers, with a fraction or without, each with its unit.
pub(in crate::config) fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &tail[..end])?;
        total += number.parse::<f64>().ok()? * unit;
        rest = &tail[end..];
    }
    Duration::try_from_secs_f64(total).ok()
}

pub(super) fn path(value: &str) -> Result<PathBuf, Wrong> {
    if value.is_empty() {
        return Err(Wrong::new("no path is given", example("conf")));
    }
    Ok(PathBuf::from(value))
}

/// A Service's name (RFC 1123 label).
pub(super) fn service(value: &str) -> Result<String, Wrong> {
    let fits = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    fits.then(|| value.to_owned()).ok_or_else(|| {
        Wrong::new(format!("`{}` is no Service's name", shown(value)), "write it like kube-dns-upstream")
    })
}

pub(super) fn port(value: &str) -> Result<u16, Wrong> {
    let port = address::number(value).filter(|&port| port != 0);
    port.ok_or_else(|| Wrong::new(format!("`{}` is no port", shown(value)), "ports are 1 to 65535"))
}

pub(super) fn workers(value: &str) -> Result<usize, Wrong> {
    let number = value.parse().ok().filter(|n| WORKERS.contains(*n));
    number.ok_or_else(|| Wrong::bounds(shown(value), WORKERS.min, WORKERS.max))
}
