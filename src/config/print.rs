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

/// Keys one below the other.
#[derive(Default)]
struct Lines(String);

impl Lines {
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
