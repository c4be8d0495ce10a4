//! An element of a zone's `next`: whom to ask when those before had nothing.

use super::file::{self, Reader};
use super::keys::{self, Names};
use super::kinds::{Kind, Node, Places, mistyped};
use super::print::Inline;
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

/// A table with keys of its own.
pub(super) struct NextEntry;

impl Kind for NextEntry {
    type Value = WrittenNext;

    fn read(&self, node: &Node<'_>) -> Result<WrittenNext, Fault> {
        const EXAMPLE: &str = "write { on = [\"NXDOMAIN\"], upstreams = [\"10.96.0.10\"] }";
        let Some(table) = node.get_ref().as_table() else {
            return Err(mistyped(node, "a table", EXAMPLE));
        };
        let mut names = Names::default();
        let mut next = WrittenNext::default();
        keys::next(&mut next, &mut names)?;
        file::refuse_unknown(table, "an entry", &names.0)?;
        keys::next(&mut next, &mut Reader { table, path: "zone.next", places: &mut Places::new() })?;
        if next.on.is_empty() || next.upstreams.is_empty() {
            return Err(Fault::at(node.span(), Wrong::new("an entry needs `on` and `upstreams`", EXAMPLE)));
        }
        if next.upstreams.iter().any(WrittenTarget::is_service) {
            let wrong = Wrong::new("a svc:// upstream in `next`", "put it into the zone's own upstreams");
            return Err(Fault::at(node.span(), wrong));
        }
        Ok(next)
    }

    fn write(&self, value: &WrittenNext) -> String {
        Inline::of(|keys| keys::next(&mut value.clone(), keys))
    }
}
