//! A configuration as TOML: every key, in the order of the [list](super::keys), so that it can be read back.

use super::Config;
use super::keys::{self, Keys, Section};
use super::kinds::Kind;
use super::problem::Fault;
use super::zone::WrittenZone;

/// The whole configuration, each key with the value that holds.
pub(super) fn print(config: &Config) -> String {
    let mut config = config.clone();
    let mut lines = Lines::default();
    for section in Section::ALL {
        lines.section(&format!("[{}]", section.name()), |keys| section.keys(&mut config, keys));
    }
    for zone in &config.zones {
        lines.section("[[zone]]", |keys| keys::zone(&mut WrittenZone::from(zone), keys));
    }
    lines.0
}

/// What is not as it would be without being said. It reads back as the same configuration.
pub(super) fn print_differing(config: &Config) -> String {
    let (mut config, mut bare) = (config.clone(), Config::bare());
    let mut text = String::new();
    for section in Section::ALL {
        let lines = |config: &mut Config| {
            let mut lines = Lines::default();
            lines.section(&format!("[{}]", section.name()), |keys| section.keys(config, keys));
            lines
        };
        lines(&mut config).differing(&lines(&mut bare), &mut text);
    }
    for zone in &config.zones {
        let lines = |mut zone: WrittenZone| {
            let mut lines = Lines::default();
            lines.section("[[zone]]", |keys| keys::zone(&mut zone, keys));
            lines
        };
        lines(WrittenZone::from(zone)).differing(&lines(WrittenZone::default()), &mut text);
    }
    text
}

/// Keys one below the other.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// Adds the header and the lines that `others` has not, if there are any. A value is one line, and so both have as
    /// many, in the same order.
    fn differing(&self, others: &Self, text: &mut String) {
        let pairs = self.0.lines().zip(others.0.lines());
        let lines: Vec<&str> = pairs.filter(|(line, other)| line != other).map(|(line, _)| line).collect();
        let Some(header) = self.0.lines().next().filter(|_| !lines.is_empty()) else { return };
        let gap = if text.is_empty() { "" } else { "\n" };
        *text += &format!("{gap}{header}\n{}\n", lines.join("\n"));
    }

    fn section(&mut self, header: &str, walk: impl FnOnce(&mut Self) -> Result<(), Fault>) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(header);
        self.0.push('\n');
        // Writing cannot fail: only reading makes faults.
        let _ = walk(self);
    }
}

impl Keys for Lines {
    fn key<K: Kind>(&mut self, name: &'static str, kind: &K, setting: &mut K::Value) -> Result<(), Fault> {
        self.0.push_str(&format!("{name} = {}\n", kind.write(setting)));
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
