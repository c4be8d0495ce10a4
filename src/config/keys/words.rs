//! The words that some keys choose from, and what each means. Flags know the same ones.

use crate::config::problem::Wrong;
use crate::config::{HttpPath, LogFormat, LogLevel};
use crate::node::{FirewallKind, LinkKind};
use crate::resolve::log::Class;
use crate::upstream::{Policy, Transport};

pub(super) const TRANSPORTS: &[(&str, Option<Transport>)] =
    &[("auto", None), ("tcp", Some(Transport::Tcp)), ("udp", Some(Transport::Udp))];
pub(super) const POLICIES: &[(&str, Policy)] = &[
    ("ordered", Policy::Ordered),
    ("round-robin", Policy::RoundRobin),
    ("least-outstanding", Policy::LeastOutstanding),
    ("random", Policy::Random),
];
/// What may lead on to the next upstreams: an answer without records, or one of the codes below.
pub(super) const LEADING_ON: &[(&str, u8)] = &[
    ("NODATA", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("YXRRSET", 7),
    ("NXRRSET", 8),
    ("NOTAUTH", 9),
    ("NOTZONE", 10),
];
/// Response codes that say that there is no data, or none here (RFC 1035 section 4.1.1, RFC 2136 section 2.2).
pub(super) const RCODES: &[(&str, u8)] = LEADING_ON.split_at(1).1;
pub(super) const PATHS: &[(&str, HttpPath)] =
    &[("/metrics", HttpPath::Metrics), ("/health", HttpPath::Health), ("/ready", HttpPath::Ready)];
pub(super) const LINKS: &[(&str, LinkKind)] = &[
    ("auto", LinkKind::Auto),
    ("dummy", LinkKind::Dummy),
    ("bridge", LinkKind::Bridge),
    ("tun", LinkKind::Tun),
    ("lo", LinkKind::Loopback),
    ("none", LinkKind::None),
];
pub(super) const FIREWALLS: &[(&str, FirewallKind)] = &[
    ("auto", FirewallKind::Auto),
    ("nftables", FirewallKind::Nftables),
    ("iptables", FirewallKind::Iptables),
    ("none", FirewallKind::None),
];
/// Classes of answers in the log of queries.
pub const CLASSES: &[(&str, Class)] =
    &[("all", Class::All), ("success", Class::Success), ("denial", Class::Denial), ("error", Class::Error)];
pub(super) const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Reads what `--link` says.
pub fn parse_link(text: &str) -> Result<LinkKind, Wrong> {
    word("kind of link", text, LINKS)
}

/// Reads what `--firewall` says.
pub fn parse_firewall(text: &str) -> Result<FirewallKind, Wrong> {
    word("packet filter", text, FIREWALLS)
}

/// Reads what `-log` says.
pub fn parse_log_format(text: &str) -> Result<LogFormat, Wrong> {
    word("log format", text, FORMATS)
}

fn word<T: Copy>(what: &'static str, text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    let known = words.iter().find(|(word, _)| *word == text).map(|&(_, value)| value);
    known.ok_or_else(|| Wrong::unknown(what, text, words.iter().map(|(word, _)| *word)))
}
