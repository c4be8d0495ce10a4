//! An element of a zone's `next`: whom to ask when those before had nothing.

use super::element::Element;
use super::keys::{self, Keys};
use super::problem::{Fault, Wrong};
use super::target::{Target, WrittenTarget};
use crate::upstream::Transport;

/// Whom to ask when those before had nothing; checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextConfig {
    /// The response codes that lead on; NOERROR stands for an answer without records.
    pub on: Vec<u8>,
    /// Whom to ask; services are not among them.
    pub upstreams: Vec<Target>,
}

/// The same while it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenNext {
    pub on: Vec<u8>,
    pub upstreams: Vec<WrittenTarget>,
}

impl WrittenNext {
    /// Settles what is open; `transport` is the zone's.
    pub(super) fn settle(&self, transport: Option<Transport>) -> NextConfig {
        let upstreams = self.upstreams.iter().map(|target| target.settle(transport)).collect();
        NextConfig { on: self.on.clone(), upstreams }
    }
}

impl From<&NextConfig> for WrittenNext {
    fn from(next: &NextConfig) -> Self {
        Self { on: next.on.clone(), upstreams: next.upstreams.iter().map(WrittenTarget::from).collect() }
    }
}

impl Element for WrittenNext {
    type Value = Self;
    const KEY: &'static str = "zone.next";
    const EXAMPLE: &'static str = "write { on = [\"NXDOMAIN\"], upstreams = [\"10.96.0.10\"] }";

    fn keys(&mut self, keys: &mut impl Keys) -> Result<(), Fault> {
        keys::next(self, keys)
    }

    fn finish(self) -> Result<Self, Wrong> {
        if self.on.is_empty() || self.upstreams.is_empty() {
            return Err(Wrong::new("an entry needs `on` and `upstreams`", Self::EXAMPLE));
        }
        if self.upstreams.iter().any(WrittenTarget::is_service) {
            return Err(Wrong::new("a svc:// upstream in `next`", "put it into the zone's own upstreams"));
        }
        Ok(self)
    }

    fn of(next: &Self) -> Self {
        next.clone()
    }
}
