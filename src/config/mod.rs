//! From a file and flags to a checked configuration; nothing past it sees a raw string.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::upstream::{Policy, Server, Transport};
use crate::{cache, listen, resolve, upstream};

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Section `[listen]`.
    pub listen: listen::Settings,
    /// Section `[cache]`: the store.
    pub cache: cache::Settings,
    /// Sections `[cache]` and `[upstream]`: what holds for misses.
    pub resolve: resolve::Settings,
    /// Section `[upstream]`.
    pub upstream: upstream::Settings,
    /// Sections `[[zone]]`; `.` is always there.
    pub zones: Vec<ZoneConfig>,
    /// Section `[http]`.
    pub http: Vec<HttpListener>,
    /// Section `[log]`.
    pub log: LogSettings,
}

/// A `[[zone]]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneConfig {
    /// Its name: wire format, lower case.
    pub name: Box<[u8]>,
    /// Its name as people write it, lower case, with the last dot.
    pub display: String,
    /// Whom to ask.
    pub upstreams: Vec<Target>,
    /// Who is asked first.
    pub policy: Policy,
    /// How its answers are kept.
    pub rules: cache::Rules,
}

/// An upstream as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `tcp://IP[:53]`, `udp://IP[:53]`, `IP[:port]`.
    Server(Server),
    /// The path of a resolv.conf: its servers, spoken to like this. Read again when it changes.
    ResolvConf(PathBuf, Transport),
}

/// Where HTTP is served, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// The address.
    pub address: SocketAddr,
    /// The paths.
    pub paths: Vec<HttpPath>,
}

/// What HTTP serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpPath {
    /// `/metrics`
    Metrics,
    /// `/health`
    Health,
    /// `/ready`
    Ready,
}

/// Section `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines look. Takes effect at start.
    pub format: LogFormat,
    /// What is logged.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What stops us.
    Error,
    /// What somebody should look at.
    Warn,
    /// What changes: start, reload, upstreams that go and come.
    #[default]
    Info,
    /// Each connection and each reload's details.
    Debug,
    /// Each miss.
    Trace,
}
