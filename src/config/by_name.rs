//! An element of a zone's `by_name`: whom to ask for some of the names that come out of the zone's rules.

use super::element::Element;
use super::keys::{self, Keys};
use super::problem::{Fault, Wrong};
use super::target::{Target, WrittenTarget};
use crate::local::Zones;
use crate::upstream::Transport;

/// Whom to ask for some names; checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByNameConfig {
    /// Names at or below these.
    pub names: Zones,
    /// But not those at or below these.
    pub except: Zones,
    /// Whom to ask; services are not among them. Nobody: the zone's own.
    pub upstreams: Vec<Target>,
}

/// The same while it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenByName {
    pub names: Vec<String>,
    pub except: Vec<String>,
    pub upstreams: Vec<WrittenTarget>,
}

impl WrittenByName {
    /// Settles what is open; `transport` is the zone's. That names are some was checked when they were read.
    pub(super) fn settle(&self, transport: Option<Transport>) -> ByNameConfig {
        ByNameConfig {
            names: zones(&self.names).unwrap_or_default(),
            except: zones(&self.except).unwrap_or_default(),
            upstreams: self.upstreams.iter().map(|target| target.settle(transport)).collect(),
        }
    }
}

fn zones(names: &[String]) -> Result<Zones, Wrong> {
    Zones::parse(names.iter().map(String::as_str)).map_err(Wrong::from)
}

impl From<&ByNameConfig> for WrittenByName {
    fn from(by_name: &ByNameConfig) -> Self {
        let upstreams = by_name.upstreams.iter().map(WrittenTarget::from).collect();
        Self { names: by_name.names.texts(), except: by_name.except.texts(), upstreams }
    }
}

impl Element for WrittenByName {
    type Value = Self;
    const KEY: &'static str = "zone.by_name";
    const EXAMPLE: &'static str = "write { names = [\"new.example\"], upstreams = [\"10.0.0.53\"] }";

    fn keys(&mut self, keys: &mut impl Keys) -> Result<(), Fault> {
        keys::by_name(self, keys)
    }

    fn finish(self) -> Result<Self, Wrong> {
        if self.names.is_empty() {
            return Err(Wrong::new("an entry needs `names`", Self::EXAMPLE));
        }
        if self.upstreams.iter().any(WrittenTarget::is_service) {
            return Err(Wrong::new("a svc:// upstream in `by_name`", "put it into the zone's own upstreams"));
        }
        zones(&self.names).and_then(|_| zones(&self.except))?;
        Ok(self)
    }

    fn of(by_name: &Self) -> Self {
        by_name.clone()
    }
}
