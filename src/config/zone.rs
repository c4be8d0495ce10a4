//! A `[[zone]]` section: as it is written, and as it is used.

use std::net::SocketAddr;

use super::by_name::{ByNameConfig, WrittenByName};
use super::name::ZoneName;
use super::next::{NextConfig, WrittenNext};
use super::target::{Target, WrittenTarget};
use crate::cache::Rules;
use crate::local;
use crate::resolve::log::Rule;
use crate::resolve::{OwnTimes, Zone};
use crate::upstream::{Asking, Transport};

/// A `[[zone]]` section, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneConfig {
    /// Its name: wire format, lower case.
    pub name: Box<[u8]>,
    /// Its name as people write it, lower case, with the last dot.
    pub display: String,
    /// The addresses that it answers on, of those that we listen on; none: all.
    pub listen: Vec<SocketAddr>,
    /// Whom to ask.
    pub upstreams: Vec<Target>,
    /// How they are asked.
    pub asking: Asking,
    /// Whom to ask next, when those before had nothing.
    pub next: Vec<NextConfig>,
    /// Whom to ask for names that come out of the rules; the first that holds one is meant.
    pub by_name: Vec<ByNameConfig>,
    /// How its answers are kept.
    pub rules: Rules,
    /// How long stale data and failures count, where that is not as everywhere.
    pub times: OwnTimes,
    /// What is answered without asking, or asked differently.
    pub local: local::Settings,
    /// Which of its queries are logged, and how.
    pub log: Vec<Rule>,
}

impl ZoneConfig {
    /// Whomever it may ask.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let next = self.next.iter().flat_map(|next| &next.upstreams);
        let by_name = self.by_name.iter().flat_map(|by_name| &by_name.upstreams);
        self.upstreams.iter().chain(next).chain(by_name)
    }

    /// What it is known by.
    pub fn key(&self) -> ZoneKey {
        ZoneKey { name: self.name.clone(), listen: self.listen.clone() }
    }
}

/// What a zone is known by, from one configuration to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZoneKey {
    name: Box<[u8]>,
    listen: Vec<SocketAddr>,
}

impl ZoneKey {
    /// Its name: wire format, lower case.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether it is this zone's.
    pub fn is_of(&self, zone: &Zone) -> bool {
        zone.name == self.name && zone.listen == self.listen
    }

    /// Whether the zone is one that answers at this address and not everywhere.
    pub fn names(&self, address: &SocketAddr) -> bool {
        self.listen.contains(address)
    }
}

/// A `[[zone]]` section while it is read: flags may still change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenZone {
    /// `None` until it is read.
    pub name: Option<ZoneName>,
    /// Empty: all.
    pub listen: Vec<SocketAddr>,
    /// Empty until they are read.
    pub upstreams: Vec<WrittenTarget>,
    /// For upstreams that leave it open.
    pub transport: Option<Transport>,
    /// How they are asked.
    pub asking: Asking,
    /// Whom to ask next.
    pub next: Vec<WrittenNext>,
    /// Whom to ask for names that come out of the rules.
    pub by_name: Vec<WrittenByName>,
    /// How its answers are kept.
    pub rules: Rules,
    /// Its own times.
    pub times: OwnTimes,
    /// Its own rules.
    pub local: local::Settings,
    /// Which of its queries are logged.
    pub log: Vec<Rule>,
}

impl WrittenZone {
    /// A zone of which only the name is known.
    pub(super) fn named(name: ZoneName) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    /// The name; `.` while there is none.
    pub(super) fn name(&self) -> ZoneName {
        self.name.clone().unwrap_or_else(ZoneName::root)
    }

    /// Settles what is open.
    pub(super) fn settle(self) -> ZoneConfig {
        let name = self.name();
        let sends_on = self.local.ends_here && !self.by_name.is_empty();
        ZoneConfig {
            name: name.wire().into(),
            display: name.text().to_owned(),
            listen: self.listen,
            upstreams: self.upstreams.iter().map(|target| target.settle(self.transport)).collect(),
            asking: self.asking,
            next: self.next.iter().map(|next| next.settle(self.transport)).collect(),
            by_name: self.by_name.iter().map(|by_name| by_name.settle(self.transport)).collect(),
            rules: self.rules,
            times: self.times,
            local: local::Settings { sends_on, ..self.local },
            log: self.log,
        }
    }
}

/// For printing. Addresses get their scheme; the zone's `transport` is what its resolv.conf and services need.
impl From<&ZoneConfig> for WrittenZone {
    fn from(zone: &ZoneConfig) -> Self {
        // What is not as it would be without the zone's word.
        let transport = |target: &Target| match target {
            Target::ResolvConf(_, Transport::Tcp) => Some(Transport::Tcp),
            Target::Service(service) => Some(service.transport).filter(|&t| t == Transport::Udp),
            _ => None,
        };
        Self {
            name: zone.display.parse().ok(),
            listen: zone.listen.clone(),
            upstreams: zone.upstreams.iter().map(WrittenTarget::from).collect(),
            transport: zone.targets().find_map(transport),
            asking: zone.asking.clone(),
            next: zone.next.iter().map(WrittenNext::from).collect(),
            by_name: zone.by_name.iter().map(WrittenByName::from).collect(),
            rules: zone.rules.clone(),
            times: zone.times,
            local: zone.local.clone(),
            log: zone.log.clone(),
        }
    }
}
