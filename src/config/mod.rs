//! From a file and flags to a checked configuration; nothing past it sees a raw string.
//!
//! ```text
//! source > text > file (TOML tree, by the list of keys) > Written > flags > rules between keys > Config
//!               > corefile (blocks and plugins)         >            Config > print > text
//! ```
//!
//! Every fault says where it is (file, line, column), what it is, and what to do about it ([`Problem`]).
//!
//! # To add an option
//!
//! 1. Its limits: a `Limit` constant in the stage that owns it, with the RFC section above it.
//! 2. Its field in that stage's `Settings`, and its default there.
//! 3. Its key: one line in `keys.rs`. Reading, printing, and "did you mean" follow from it.
//! 4. What must hold between it and other keys: `rules.rs`.
//! 5. Its paragraph in `config/sidestep.toml`: meaning, unit, default, limits. A test misses it otherwise.
//! 6. If it needs a restart: `Config::needs_restart`, and its paragraph says so.
//! 7. If it is also a flag: `flags.rs`, `cli/args.rs`, and the README.
//! 8. A test of what it does, beside the stage; and a line in the changelog.

mod address;
mod by_name;
mod corefile;
mod element;
mod file;
mod flags;
mod fuzz;
mod http;
mod keys;
mod kinds;
mod local;
mod log;
mod name;
mod next;
pub mod node_cache;
mod print;
mod problem;
mod quantity;
pub mod resolv_conf;
mod rules;
mod source;
mod target;
pub mod watch;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use address::{parse_interface, parse_listen, parse_node};
pub use by_name::ByNameConfig;
pub use corefile::names as corefile_plugins;
pub use flags::Flags;
pub use fuzz::{fuzz, fuzz_corefile};
pub use keys::{
    ADDRESSES, HTTP_LISTENERS, TXT, UPSTREAMS, parse_cache_size, parse_firewall, parse_link, parse_log_format,
};
pub use name::ZoneName;
pub use next::NextConfig;
pub use problem::{Note, Problem, Spot, Wrong};
pub use source::Source;
pub use target::{Service, Target, WrittenTarget, parse_flag as parse_upstream};
pub use zone::{ZoneConfig, ZoneKey};

use crate::{cache, listen, node, resolve, upstream};
use file::Written;
use source::Loaded;

/// Bytes of a file that we read: somebody may name /dev/zero.
pub const FILE: u64 = 1 << 20;

/// The port of DNS (RFC 1035 section 4.2).
const DNS: u16 = 53;

/// The resolv.conf of the host, which zone `.` asks unless something else is said.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Section `[listen]`.
    pub listen: listen::Settings,
    /// Section `[node]`.
    pub node: node::Settings,
    /// Section `[cache]`: the store.
    pub cache: cache::Settings,
    /// Sections `[cache]` and `[upstream]`: what holds for misses.
    pub resolve: resolve::Settings,
    /// Section `[upstream]`.
    pub upstream: upstream::Settings,
    /// Sections `[[zone]]`; `.` is there unless others are refused.
    pub zones: Vec<ZoneConfig>,
    /// `listen.refuse_others`: names that no zone holds are refused. Otherwise zone `.` is added where it is missing.
    pub refuse_others: bool,
    /// Section `[http]`.
    pub http: Vec<HttpListener>,
    /// Section `[log]`.
    pub log: LogSettings,
    /// The files and folders that it was read from, whose change means a reload. None if it was text alone.
    pub files: Vec<PathBuf>,
    /// What was read and may not be what was meant: to be told.
    pub notes: Vec<Note>,
    /// A Corefile whose variables were filled in, and the file that it is to be written to.
    pub filled: Option<(PathBuf, String)>,
    /// Where a Corefile says what needs a restart: by key, and for lists by address. TOML says it by the key's name.
    pub places: BTreeMap<String, Spot>,
}

impl Config {
    /// Reads the source that the flags name, and puts the flags in place. Every reload does this again.
    pub fn load(flags: &Flags) -> Result<Self, Problem> {
        Self::build(Loaded::from(&flags.source)?, flags)
    }

    /// Reads a configuration from text in TOML; `origin` is where it comes from, for messages.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Problem> {
        Self::build(Loaded::toml(text.to_owned(), origin.to_owned())?, &Flags::default())
    }

    /// The effective configuration as TOML, each key written out; it parses back to itself.
    pub fn to_toml(&self) -> String {
        print::print(self)
    }

    /// The same, without what it would be anyway; and what was noted, as comments.
    pub fn to_short_toml(&self) -> String {
        let notes = self.notes.iter().map(|note| format!("# {note}\n"));
        let notes: String = notes.collect();
        let gap = if notes.is_empty() { "" } else { "\n" };
        format!("{notes}{gap}{}{}", print::print_differing(self), print::node_to_be(self))
    }

    /// The keys that differ from the running configuration but only take effect at a restart.
    pub fn needs_restart(&self, running: &Self) -> Vec<&'static str> {
        // The domain alone is taken over: by it, and by the zones, clients are sent elsewhere without us.
        let node =
            node::Settings { cluster_domain: self.node.cluster_domain.clone(), ..running.node.clone() };
        let differ = [
            ("listen.addresses", self.listen.addresses != running.listen.addresses),
            ("listen.workers", self.listen.workers != running.listen.workers),
            ("node", self.node != node),
            ("cache.size", self.cache.size != running.cache.size),
            ("http.serve", self.http != running.http),
            ("log.format", self.log.format != running.log.format),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Where the Corefile says what is different about one of these keys; the running one's, if that is a line that is gone.
    pub fn differs_at<'c>(&'c self, running: &'c Self, key: &str) -> Option<&'c Spot> {
        let only = |one: &Self, other: &Self| match key {
            "http.serve" => one.http.iter().find(|l| !other.http.contains(l)).map(|l| l.address),
            "listen.addresses" => {
                let (listen, others) = (&one.listen.addresses, &other.listen.addresses);
                listen.iter().find(|address| !others.contains(address)).copied()
            }
            _ => None,
        };
        let place = |one: &'c Self, other| {
            only(one, other).and_then(|address| one.places.get(&corefile::of_list(key, address)))
        };
        place(self, running).or_else(|| place(running, self)).or_else(|| self.places.get(key))
    }

    /// The files with upstreams, each once: they are to be watched, as the configuration is.
    pub fn resolv_confs(&self) -> BTreeSet<&Path> {
        self.zones
            .iter()
            .flat_map(ZoneConfig::targets)
            .filter_map(|target| match target {
                Target::ResolvConf(path, _) => Some(path.as_path()),
                Target::Server(_) | Target::Service(_) => None,
            })
            .collect()
    }

    /// The hosts files of the zones, each once: they are to be watched too.
    pub fn hosts_files(&self) -> BTreeSet<&Path> {
        let hosts = self.zones.iter().filter_map(|zone| zone.local.hosts.as_ref());
        hosts.filter(|hosts| !hosts.reload.is_zero()).filter_map(|hosts| hosts.file.as_deref()).collect()
    }

    fn build(loaded: Loaded, flags: &Flags) -> Result<Self, Problem> {
        let Loaded { origin, text, mut written, notes, files, filled, port } = loaded;
        flags.apply(&mut written);
        if !written.config.refuse_others {
            complete(&mut written);
        }
        answer_for_the_node(&mut written, flags, port);
        rules::check(&written).map_err(|rules::Broken { keys, wrong }| {
            if let Some(flag) = keys.iter().find_map(|key| flags.replacing(key, &written.zones)) {
                return Problem::new(flag, wrong);
            }
            match keys.iter().find_map(|key| written.places.get(key)) {
                Some(place) => place.problem(&origin, &text, wrong),
                None => Problem::new(&origin, wrong),
            }
        })?;
        let zones = written.zones.into_iter().map(zone::WrittenZone::settle).collect();
        let places = written.places.into_iter().filter_map(|(key, place)| match place {
            problem::Place::Corefile(spot) if !key.starts_with("zone[") => Some((key, spot)),
            _ => None,
        });
        Ok(Self { zones, files, notes, filled, places: places.collect(), ..written.config })
    }

    /// The defaults, without any zone.
    fn bare() -> Self {
        Self {
            listen: listen::Settings::default(),
            node: node::Settings::default(),
            cache: cache::Settings::default(),
            resolve: resolve::Settings::default(),
            upstream: upstream::Settings::default(),
            zones: Vec::new(),
            refuse_others: false,
            http: Vec::new(),
            log: LogSettings::default(),
            files: Vec::new(),
            notes: Vec::new(),
            filled: None,
            places: BTreeMap::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut written = Written { config: Self::bare(), zones: Vec::new(), places: kinds::Places::new() };
        complete(&mut written);
        let zones = written.zones.into_iter().map(zone::WrittenZone::settle).collect();
        Self { zones, ..written.config }
    }
}

/// The addresses that a node holds are answered on, at `port` unless the list of addresses says otherwise; the
/// default of that list is for programs that are no node.
fn answer_for_the_node(written: &mut Written, flags: &Flags, port: u16) {
    let Config { listen, node, .. } = &mut written.config;
    let chosen = !flags.listen.is_empty() || written.places.contains_key("listen.addresses");
    if !node.addresses.is_empty() && !chosen {
        listen.addresses.clear();
    }
    for &address in &node.addresses {
        if listen.addresses.iter().all(|listening| listening.ip() != address) {
            listen.addresses.push(SocketAddr::new(address, port));
        }
    }
}

/// Zone `.` is there, and has upstreams unless something is said of them.
fn complete(written: &mut Written) {
    let Written { zones, places, .. } = written;
    if !zones.iter().any(|zone| zone.name().is_root()) {
        zones.push(zone::WrittenZone::named(ZoneName::root()));
    }
    for (index, zone) in zones.iter_mut().enumerate() {
        let said = places.contains_key(&format!("zone[{index}].upstreams")) || zone.local.ends_here;
        if zone.name().is_root() && zone.upstreams.is_empty() && !said {
            zone.upstreams.push(WrittenTarget::resolv_conf(RESOLV_CONF));
        }
    }
}

/// Reads a file of ours as text.
fn read(path: &Path) -> Result<String, Problem> {
    let problem = |what: String| Problem::new(path.display(), what);
    let file = std::fs::File::open(path).map_err(|e| problem(format!("cannot be opened: {e}")))?;
    let mut bytes = Vec::new();
    let read = file.take(FILE + 1).read_to_end(&mut bytes);
    read.map_err(|e| problem(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > FILE {
        return Err(problem(format!("is longer than {}; is it the right file?", quantity::size(FILE))));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        problem(format!("is not UTF-8 in line {line}"))
    })
}

/// Where HTTP is served, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// The address.
    pub address: SocketAddr,
    /// The paths.
    pub paths: Vec<HttpPath>,
}

impl HttpListener {
    /// Has these paths served at `address` too, as Go's programs mean it: by the listener that is there already, or by one
    /// for more addresses, as a port can be had once.
    pub(crate) fn add(all: &mut Vec<Self>, address: SocketAddr, paths: &[HttpPath]) {
        let wide = all.iter().map(|other| other.address).find(|&other| covers(other, address));
        let address = wide.unwrap_or(address);
        let mut added = Self { address, paths: paths.to_vec() };
        let is_narrow = |other: &Self| covers(address, other.address);
        let index = all.iter().position(is_narrow).unwrap_or(all.len());
        added.paths.extend(all.iter().filter(|other| is_narrow(other)).flat_map(|other| &other.paths));
        added.paths.sort_unstable();
        added.paths.dedup();
        all.retain(|other| !is_narrow(other));
        all.insert(index, added);
    }
}

/// Whether what is served at `wide` is served at `narrow` too: `[::]` is every address of both families, `0.0.0.0` every
/// one of IPv4.
fn covers(wide: SocketAddr, narrow: SocketAddr) -> bool {
    // Port 0 is another free port each time.
    let same_port = wide.port() == narrow.port() && wide.port() != 0;
    let is_everywhere = wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
    same_port && (is_everywhere || wide == narrow)
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

impl HttpPath {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Health, Self::Ready];
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
