//! A zone's key `log`: which of its queries are logged, and how.

use super::element::Element;
use super::keys::{self, Keys};
use super::problem::{Fault, Wrong};
use crate::local::Zones;
use crate::resolve::log::{Class, Format, Rule};

/// A rule while it is read.
#[derive(Debug)]
pub(super) struct WrittenLog {
    pub names: Vec<String>,
    pub format: String,
    pub classes: Vec<Class>,
}

impl Default for WrittenLog {
    fn default() -> Self {
        let format = Format::default().text().to_owned();
        Self { names: vec![".".to_owned()], format, classes: vec![Class::All] }
    }
}

impl Element for WrittenLog {
    type Value = Rule;
    const KEY: &'static str = "zone.log";
    const EXAMPLE: &'static str = "write { names = [\".\"], format = \"{common}\", classes = [\"all\"] }";

    fn keys(&mut self, keys: &mut impl Keys) -> Result<(), Fault> {
        keys::log(self, keys)
    }

    fn finish(self) -> Result<Rule, Wrong> {
        let names = Zones::parse(self.names.iter().map(String::as_str))?;
        Ok(Rule { names, format: Format::new(&self.format)?, classes: self.classes })
    }

    fn of(rule: &Rule) -> Self {
        Self {
            names: rule.names.texts(),
            format: rule.format.text().to_owned(),
            classes: rule.classes.clone(),
        }
    }
}
