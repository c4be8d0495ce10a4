//! A configuration as TOML: every key, in the order of the [list](super::keys), so that it can be read back.

use std::net::{IpAddr, SocketAddr};

use super::Config;
use super::address::parse_node;
use super::keys::{self, Keys, Section};
use super::kinds::Kind;
use super::problem::Fault;
use super::zone::WrittenZone;

/// The whole configuration, each key with the value that holds.
pub(super) fn print(config: &Config) -> String {
    let mut copy = config.clone();
    let sections = Section::ALL.into_iter().map(|name| section(name, &mut copy));
    text(sections.chain(config.zones.iter().map(|of| zone(of.into()))))
}

/// What is not as it would be without being said. It reads back as the same configuration.
pub(super) fn print_differing(config: &Config) -> String {
    let (mut copy, mut bare) = (config.clone(), Config::bare());
    let sections =
        Section::ALL.into_iter().map(|name| section(name, &mut copy).without(&section(name, &mut bare)));
    let unsaid = zone(WrittenZone::default());
    text(sections.chain(config.zones.iter().map(|of| zone(of.into()).without(&unsaid))))
}

/// Where addresses are answered on that are as a node's, and no node is asked for: what would ask for it, as comments.
pub(super) fn node_to_be(config: &Config) -> String {
    let answered: Vec<IpAddr> = config.listen.addresses.iter().map(SocketAddr::ip).collect();
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V4(v4) if v4.is_link_local());
    if !config.node.addresses.is_empty() || !answered.iter().any(is_link_local) {
        return String::new();
    }
    let mut bare = Config::bare();
    for ip in answered.into_iter().filter(|ip| !ip.is_loopback()) {
        if parse_node(&ip.to_string()).is_ok() && !bare.node.addresses.contains(&ip) {
            bare.node.addresses.push(ip);
        }
    }
    let node = section(Section::Node, &mut bare).without(&section(Section::Node, &mut Config::bare()));
    let lines: String = node.0.iter().map(|line| format!("# {line}\n")).collect();
    format!(
        "\n# On a node, which is to hold these addresses for its pods and keep them from conntrack, this as well:\n{lines}"
    )
}

/// A section's header, and a line for each key. A text may break its line.
struct Lines(Vec<String>);

impl Lines {
    fn of(header: &str, walk: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Self {
        let mut lines = Self(vec![header.to_owned()]);
        // Writing cannot fail: only reading makes faults.
        let _ = walk(&mut lines);
        lines
    }

    /// They without those that `others`, of the same keys, has too; the header alone is nothing.
    fn without(self, others: &Self) -> Self {
        let mut pairs = self.0.into_iter().zip(&others.0);
        let header = pairs.next().map(|(header, _)| header);
        let lines: Vec<String> = pairs.filter(|(line, other)| line != *other).map(|(line, _)| line).collect();
        if lines.is_empty() { Self(lines) } else { Self(header.into_iter().chain(lines).collect()) }
    }
}

/// The sections, with a line between them.
fn text(sections: impl Iterator<Item = Lines>) -> String {
    let sections = sections.filter(|lines| !lines.0.is_empty()).map(|lines| lines.0.join("\n") + "\n");
    sections.collect::<Vec<_>>().join("\n")
}

fn section(section: Section, config: &mut Config) -> Lines {
    Lines::of(&format!("[{}]", section.name()), |keys| section.keys(config, keys))
}

fn zone(mut zone: WrittenZone) -> Lines {
    Lines::of("[[zone]]", |keys| keys::zone(&mut zone, keys))
}

impl Keys for Lines {
    fn key<K: Kind>(&mut self, name: &'static str, kind: &K, setting: &mut K::Value) -> Result<(), Fault> {
        self.0.push(format!("{name} = {}", kind.write(setting)));
        Ok(())
    }
}

/// Keys in one line, in braces.
#[derive(Default)]
pub(super) struct Inline(Vec<String>);

impl Inline {
    /// Writes what `walk` walks through.
    pub(super) fn of(walk: impl FnOnce(&mut Self) -> Result<(), Fault>) -> String {
        let mut keys = Self::default();
        // Writing cannot fail: only reading makes faults.
        let _ = walk(&mut keys);
        format!("{{ {} }}", keys.0.join(", "))
    }
}

impl Keys for Inline {
    fn key<K: Kind>(&mut self, name: &'static str, kind: &K, setting: &mut K::Value) -> Result<(), Fault> {
        self.0.push(format!("{name} = {}", kind.write(setting)));
        Ok(())
    }
}
