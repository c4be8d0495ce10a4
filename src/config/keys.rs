//! Every key of the file: its section, its name, its kind with the limits, the setting it fills.
//!
//! This is the one list of them. Reading a file, printing a configuration and knowing which names there are
//! all walk through it, each with another [`Keys`]; so they cannot come apart.

mod elements;
mod words;

pub(super) use elements::{by_name, dns64, hosts, http_listener, log, next, template};
pub use words::{CLASSES, parse_firewall, parse_link, parse_log_format};
use words::{FIREWALLS, FORMATS, LEVELS, LINKS, POLICIES, RCODES, TRANSPORTS};

use super::Config;
use super::address;
use super::by_name::WrittenByName;
use super::element::Table;
use super::http::WrittenListener;
use super::kinds::{
    Address, Auto, Count, Kind, List, Needed, Off, Series, Size, Switch, Text, Time, Ttl, Word, Written,
};
use super::local::{self as rules, RecordLines, WrittenHosts, WrittenTemplate};
use super::log::WrittenLog;
use super::name::ZoneName;
use super::next::WrittenNext;
use super::problem::{Fault, Wrong};
use super::target::WrittenTarget;
use super::zone::WrittenZone;
use crate::cache::{prefetch, ttl};
use crate::limit::Limit;
use crate::local::rewrite::REWRITES;
use crate::local::template::TEMPLATES;
use crate::local::{self, Dns64};
use crate::node;
use crate::upstream::Asking;
use crate::{cache, listen, resolve, upstream};

/// Addresses that we answer on. Each costs every worker a UDP and a TCP socket.
pub const ADDRESSES: Limit<usize> = Limit::new(1, 1, 64);
/// Addresses that one zone answers on; none: all of [`ADDRESSES`].
const ZONE_ADDRESSES: Limit<usize> = Limit::new(0, 0, 64);
/// Upstreams written for one zone.
pub const UPSTREAMS: Limit<usize> = Limit::new(1, 1, 32);
/// The same, with zones that ask nobody.
const ZONE_UPSTREAMS: Limit<usize> = Limit::new(0, 1, UPSTREAMS.max);
/// Lists of upstreams that follow those of a zone. All share the time of one question.
pub const NEXT: Limit<usize> = Limit::new(0, 0, 8);
/// Elements of a zone's `by_name`.
pub const BY_NAME: Limit<usize> = Limit::new(0, 0, 256);
/// Addresses that serve HTTP.
pub const HTTP_LISTENERS: Limit<usize> = Limit::new(0, 0, 16);
/// Bytes of the texts that go into one TXT character-string (RFC 1035 section 3.3.14).
pub const TXT: Limit<usize> = Limit::new(0, 0, 255);

/// What is done with each key.
pub(super) trait Keys {
    /// One key: its name in the section, its kind, and the setting.
    fn key<K: Kind>(&mut self, name: &'static str, kind: &K, setting: &mut K::Value) -> Result<(), Fault>;
}

/// Sections that a file has at most once. (`[[zone]]` is the other.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Listen,
    Node,
    Cache,
    Upstream,
    Http,
    Log,
}

impl Section {
    pub(super) const ALL: [Self; 6] =
        [Self::Listen, Self::Node, Self::Cache, Self::Upstream, Self::Http, Self::Log];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Node => "node",
            Self::Cache => "cache",
            Self::Upstream => "upstream",
            Self::Http => "http",
            Self::Log => "log",
        }
    }

    /// Walks through the keys of this section.
    pub(super) fn keys(self, config: &mut Config, keys: &mut impl Keys) -> Result<(), Fault> {
        match self {
            Self::Listen => {
                listen(&mut config.listen, keys)?;
                keys.key("refuse_others", &Switch, &mut config.refuse_others)
            }
            Self::Node => node(&mut config.node, keys),
            Self::Cache => cache(&mut config.cache, &mut config.resolve, keys),
            Self::Upstream => upstream(&mut config.upstream, &mut config.resolve, keys),
            Self::Http => {
                keys.key("serve", &List(Table::<WrittenListener>::KIND, HTTP_LISTENERS), &mut config.http)
            }
            Self::Log => {
                keys.key("format", &Word(FORMATS), &mut config.log.format)?;
                keys.key("level", &Word(LEVELS), &mut config.log.level)
            }
        }
    }
}

fn listen(s: &mut listen::Settings, keys: &mut impl Keys) -> Result<(), Fault> {
    keys.key("addresses", &List(Address, ADDRESSES), &mut s.addresses)?;
    keys.key("workers", &Auto(Count(listen::WORKERS)), &mut s.workers)?;
    keys.key("udp_size", &Count(listen::UDP_SIZE), &mut s.udp_size)?;
    keys.key("identity", &Text(TXT), &mut s.identity)?;
    keys.key("version", &Text(TXT), &mut s.version)?;
    keys.key("tcp_connections", &Count(listen::TCP_CONNECTIONS), &mut s.tcp_connections)?;
    keys.key("tcp_per_client", &Count(listen::TCP_PER_CLIENT), &mut s.tcp_per_client)?;
    keys.key("tcp_queries", &Count(listen::TCP_QUERIES), &mut s.tcp_queries)?;
    keys.key("tcp_idle", &Time(listen::TCP_IDLE), &mut s.tcp_idle)?;
    keys.key("tcp_pipeline", &Count(listen::TCP_PIPELINE), &mut s.tcp_pipeline)
}

fn node(n: &mut node::Settings, keys: &mut impl Keys) -> Result<(), Fault> {
    let ip = Written::by("write it like \"169.254.20.10\"", address::parse_node);
    let name = Written::by("write it like \"nodelocaldns\"", address::parse_interface);
    let domain = Written::by("write it like \"cluster.local\"", parse_domain);
    keys.key("addresses", &List(ip, node::ADDRESSES), &mut n.addresses)?;
    keys.key("interface", &name, &mut n.interface)?;
    keys.key("link", &Word(LINKS), &mut n.link)?;
    keys.key("firewall", &Word(FIREWALLS), &mut n.firewall)?;
    keys.key("fail_open", &Switch, &mut n.fail_open)?;
    keys.key("cluster_domain", &domain, &mut n.cluster_domain)?;
    keys.key("notrack_upstream", &Switch, &mut n.notrack_upstream)?;
    keys.key("check_every", &Time(node::CHECK_EVERY), &mut n.check_every)?;
    keys.key("watchdog", &Time(node::WATCHDOG), &mut n.watchdog)?;
    keys.key("teardown_on_exit", &Switch, &mut n.teardown_on_exit)
}

fn parse_domain(text: &str) -> Result<String, Wrong> {
    text.parse::<ZoneName>().map(|name| name.text().trim_end_matches('.').to_owned())
}

fn cache(c: &mut cache::Settings, r: &mut resolve::Settings, keys: &mut impl Keys) -> Result<(), Fault> {
    keys.key("size", &Size(cache::SIZE), &mut c.size)?;
    keys.key("prefetches", &Count(resolve::PREFETCHES), &mut r.prefetches)?;
    keys.key("stale_after", &Time(resolve::STALE_AFTER), &mut r.stale_after)?;
    keys.key("stale_retry", &Time(resolve::STALE_RETRY), &mut r.stale_retry)?;
    keys.key("stale_ttl", &Ttl(resolve::STALE_TTL), &mut r.stale_ttl)?;
    keys.key("failure_ttl", &Time(resolve::FAILURE_TTL), &mut r.failure_ttl)?;
    keys.key("failure_ttl_max", &Time(resolve::FAILURE_TTL_MAX), &mut r.failure_ttl_max)
}

fn upstream(
    u: &mut upstream::Settings,
    r: &mut resolve::Settings,
    keys: &mut impl Keys,
) -> Result<(), Fault> {
    keys.key("connections", &Count(upstream::CONNECTIONS), &mut u.connections)?;
    keys.key("idle", &Time(upstream::IDLE), &mut u.idle)?;
    keys.key("max_age", &Time(upstream::MAX_AGE), &mut u.max_age)?;
    keys.key("connect_timeout", &Time(upstream::CONNECT), &mut u.connect_timeout)?;
    keys.key("try_timeout", &Time(upstream::TRY), &mut u.try_timeout)?;
    keys.key("hedge_percent", &Count(upstream::HEDGE_PERCENT), &mut u.hedge_percent)?;
    keys.key("datagrams", &Count(upstream::DATAGRAMS), &mut u.datagrams)?;
    keys.key("deadline", &Time(resolve::DEADLINE), &mut r.deadline)?;
    keys.key("flights", &Count(resolve::FLIGHTS), &mut r.flights)?;
    keys.key("waiters", &Count(resolve::WAITERS), &mut r.waiters)
}

/// Walks through the keys of a `[[zone]]`.
pub(super) fn zone(z: &mut WrittenZone, keys: &mut impl Keys) -> Result<(), Fault> {
    let name = Written::<ZoneName>::like("write it like \"cluster.local\"");
    let target = Written::<WrittenTarget>::like("write it like \"tcp://10.96.0.10\"");
    keys.key("name", &Needed(name), &mut z.name)?;
    keys.key("listen", &List(Address, ZONE_ADDRESSES), &mut z.listen)?;
    keys.key("upstreams", &List(target, ZONE_UPSTREAMS), &mut z.upstreams)?;
    keys.key("transport", &Word(TRANSPORTS), &mut z.transport)?;
    asking(&mut z.asking, keys)?;
    keys.key("next", &List(Table::<WrittenNext>::KIND, NEXT), &mut z.next)?;
    local(&mut z.local, keys)?;
    keys.key("by_name", &Series(Table::<WrittenByName>::KIND, BY_NAME), &mut z.by_name)?;
    keys.key("log", &Series(Table::<WrittenLog>::KIND, resolve::log::RULES), &mut z.log)?;
    let s = &mut z.rules;
    keys.key("ttl_max", &Ttl(ttl::TTL_MAX), &mut s.ttl_max)?;
    keys.key("ttl_min", &Ttl(ttl::TTL_MIN), &mut s.ttl_min)?;
    keys.key("negative_ttl_max", &Ttl(ttl::NEGATIVE_TTL_MAX), &mut s.negative_ttl_max)?;
    keys.key("negative_ttl_min", &Ttl(ttl::TTL_MIN), &mut s.negative_ttl_min)?;
    keys.key("stale_for", &Ttl(ttl::STALE_FOR), &mut s.stale_for)?;
    keys.key("stale_negative", &Switch, &mut s.stale_negative)?;
    keys.key("cache_positive", &Switch, &mut s.cache_positive)?;
    keys.key("cache_negative", &Switch, &mut s.cache_negative)?;
    keys.key("keep_ttl", &Switch, &mut s.keep_ttl)?;
    keys.key("rotate", &Switch, &mut s.rotate)?;
    keys.key("share_positive", &Auto(Count(cache::share::SHARE)), &mut s.share.positive)?;
    keys.key("share_negative", &Auto(Count(cache::share::SHARE)), &mut s.share.negative)?;
    let p = &mut s.prefetch;
    keys.key("prefetch_hits", &Count(prefetch::HITS), &mut p.hits)?;
    keys.key("prefetch_gap", &Auto(Ttl(prefetch::GAP)), &mut p.gap)?;
    keys.key("prefetch_percent", &Count(prefetch::PERCENT), &mut p.percent)?;
    let t = &mut z.times;
    keys.key("stale_after", &Auto(Time(resolve::STALE_AFTER)), &mut t.stale_after)?;
    keys.key("stale_retry", &Auto(Time(resolve::STALE_RETRY)), &mut t.stale_retry)?;
    keys.key("stale_ttl", &Auto(Ttl(resolve::STALE_TTL)), &mut t.stale_ttl)?;
    keys.key("failure_ttl", &Auto(Time(resolve::times::ZONE_FAILURE_TTL)), &mut t.failure_ttl)?;
    keys.key("failure_ttl_max", &Auto(Time(resolve::FAILURE_TTL_MAX)), &mut t.failure_ttl_max)
}

fn asking(a: &mut Asking, keys: &mut impl Keys) -> Result<(), Fault> {
    keys.key("policy", &Word(POLICIES), &mut a.policy)?;
    keys.key("tries", &Count(upstream::TRIES), &mut a.tries)?;
    keys.key("failover", &List(Word(RCODES), upstream::asking::FAILOVER), &mut a.failover)?;
    keys.key("fail_fast", &Switch, &mut a.fail_fast)?;
    keys.key("max_concurrent", &Count(upstream::asking::MAX_CONCURRENT), &mut a.max_concurrent)?;
    let t = &mut a.terms;
    keys.key("max_fails", &Count(upstream::health::FAILURES), &mut t.max_fails)?;
    keys.key("probe_every", &Auto(Time(upstream::health::PROBE_EVERY)), &mut t.probe_every)?;
    keys.key("idle", &Auto(Time(upstream::IDLE)), &mut t.idle)?;
    keys.key("max_age", &Auto(Time(upstream::MAX_AGE)), &mut t.max_age)?;
    keys.key("try_timeout", &Auto(Time(upstream::TRY)), &mut t.try_timeout)
}

fn local(l: &mut local::Settings, keys: &mut impl Keys) -> Result<(), Fault> {
    let rewrite = Written::by("write it like \"name exact a.example b.example\"", rules::parse_rewrite);
    keys.key("ends_here", &Switch, &mut l.ends_here)?;
    keys.key("rewrite", &Series(rewrite, REWRITES), &mut l.rewrites)?;
    keys.key("template", &Series(Table::<WrittenTemplate>::KIND, TEMPLATES), &mut l.templates)?;
    keys.key("records", &RecordLines, &mut l.records)?;
    keys.key("hosts", &Off(Table::<WrittenHosts>::KIND), &mut l.hosts)?;
    keys.key("dns64", &Off(Table::<Dns64>::KIND), &mut l.dns64)
}

/// Reads what `--cache-size` says.
pub fn parse_cache_size(text: &str) -> Result<u64, Wrong> {
    Size(cache::SIZE).parse(text)
}

/// Gathers the names of the keys.
#[derive(Default)]
pub(super) struct Names(pub Vec<&'static str>);

impl Keys for Names {
    fn key<K: Kind>(&mut self, name: &'static str, _: &K, _: &mut K::Value) -> Result<(), Fault> {
        self.0.push(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for each key's limits in the comment above it.
    struct Documented {
        header: String,
        seen: usize,
    }

    const REFERENCE: &str = include_str!("../../config/sidestep.toml");

    impl Keys for Documented {
        fn key<K: Kind>(&mut self, name: &'static str, kind: &K, _: &mut K::Value) -> Result<(), Fault> {
            let (_, section) = REFERENCE.split_once(&self.header).unwrap();
            let section = section.split("\n[").next().unwrap();
            let before = section.split(&format!("\n{name} = ")).next().unwrap();
            assert!(before.len() < section.len(), "{name} is not in config/sidestep.toml");
            let comment = before.rsplit("\n\n").next().unwrap();
            if let Some([min, max]) = kind.limits() {
                assert!(
                    comment.contains(&format!("{min} to {max}")),
                    "{name}: {min} to {max} is not in\n{comment}"
                );
                self.seen += 1;
            }
            Ok(())
        }
    }

    #[test]
    fn the_reference_names_the_limits_of_every_key() {
        let mut documented = Documented { header: String::new(), seen: 0 };
        for section in Section::ALL {
            documented.header = format!("\n[{}]\n", section.name());
            section.keys(&mut Config::bare(), &mut documented).unwrap();
        }
        documented.header = "\n[[zone]]\n".to_owned();
        zone(&mut WrittenZone::default(), &mut documented).unwrap();
        assert!(documented.seen > 30, "only {} keys have limits", documented.seen);
    }
}
