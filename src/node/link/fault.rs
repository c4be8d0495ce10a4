//! What the kernel refused, in words that say what to do about it.

use std::net::IpAddr;

use rustix::io::Errno;

use super::view::bits;
use super::{told, tun};
use crate::netlink::Error;
use crate::node::{Fault, FaultKind, LinkKind};

const RIGHT: &str =
    "it takes CAP_NET_ADMIN: run with it, or put the addresses up by other means and use --link none";

pub(super) fn foreign(what: String) -> Fault {
    Fault { kind: FaultKind::LinkAdd, what }
}

/// With `--link none`, somebody else should have put these up.
pub(super) fn not_there(missing: &[IpAddr]) -> Fault {
    let all = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let adding = missing.iter().map(|ip| format!("`ip address add {ip}/{} dev lo`", bits(*ip)));
    foreign(format!(
        "no interface has {all}, and without a link of ours (--link none, or -setupinterface=false) somebody else is to \
         put it up before we start: {}; or leave that out, and we make a link for it",
        adding.collect::<Vec<_>>().join(", ")
    ))
}

pub(super) fn cannot_look(name: &str, error: &Error) -> Fault {
    let what = format!("cannot look at link {name}: {error}; rtnetlink sockets must be allowed");
    Fault { kind: FaultKind::LinkCheck, what }
}

pub(super) fn cannot_make(name: &str, kind: LinkKind, error: &Error) -> Fault {
    let said = format!("cannot make link {name}, {}: {error}", told(kind));
    let advice = match (kind, error.errno()) {
        (LinkKind::Tun, Some(Errno::NOENT | Errno::NODEV | Errno::ACCESS | Errno::PERM)) => {
            format!("{} must be there and open to us, and {RIGHT}", tun::DEVICE)
        }
        (LinkKind::Tun, Some(Errno::BUSY)) => "another process holds a tun of this name".to_owned(),
        (_, Some(Errno::PERM)) => RIGHT.to_owned(),
        (_, Some(Errno::OPNOTSUPP)) => {
            "this kernel has no links of this type: use --link auto, or load its module".to_owned()
        }
        (_, Some(Errno::EXIST)) => "somebody made one of this name a moment ago: try again".to_owned(),
        _ => "see `ip -d link`".to_owned(),
    };
    foreign(format!("{said}; {advice}"))
}

pub(super) fn cannot_change(name: &str, step: &str, error: &Error) -> Fault {
    let advice = match error.errno() {
        Some(Errno::PERM) => RIGHT,
        _ => "see `ip -d address`",
    };
    foreign(format!("link {name}: cannot {step}: {error}; {advice}"))
}

pub(super) fn cannot_add(link: &str, ip: IpAddr, error: &Error) -> Fault {
    let advice = match error.errno() {
        Some(Errno::PERM) => RIGHT.to_owned(),
        Some(Errno::ACCESS) if ip.is_ipv6() => {
            format!(
                "IPv6 is switched off there: `sysctl -w net.ipv6.conf.{link}.disable_ipv6=0`, or with `default` in the \
                 place of {link} where the link is made anew"
            )
        }
        Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT) if ip.is_ipv6() => {
            "this kernel has no IPv6: take the address out of the configuration".to_owned()
        }
        _ => "see `ip -d address`".to_owned(),
    };
    foreign(format!("cannot put address {ip} on {link}: {error}; {advice}"))
}
