//! A zone's key `log`: which of its queries are logged, and how.

use super::file::{self, Reader};
use super::keys::{self, Names};
use super::kinds::{Kind, Node, Places, mistyped};
use super::print::Inline;
use super::problem::{Fault, Wrong};
use crate::local::{Refused, Zones};
use crate::resolve::log::{Class, Format, Rule};

/// A rule while it is read.
#[derive(Clone, Debug)]
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

impl From<&Rule> for WrittenLog {
    fn from(rule: &Rule) -> Self {
        Self {
            names: rule.names.texts(),
            format: rule.format.text().to_owned(),
            classes: rule.classes.clone(),
        }
    }
}

impl WrittenLog {
    fn settle(self) -> Result<Rule, Refused> {
        let names = Zones::parse(self.names.iter().map(String::as_str))?;
        Ok(Rule { names, format: Format::new(&self.format)?, classes: self.classes })
    }
}

/// A table that is a rule.
pub(super) struct LogEntry;

impl Kind for LogEntry {
    type Value = Rule;

    fn read(&self, node: &Node<'_>) -> Result<Rule, Fault> {
        let mut written = WrittenLog::default();
        let mut names = Names::default();
        keys::log(&mut written.clone(), &mut names)?;
        let example = "write { names = [\".\"], format = \"{common}\", classes = [\"all\"] }";
        let table = node.get_ref().as_table().ok_or_else(|| mistyped(node, "a table", example))?;
        file::refuse_unknown(table, "an entry", &names.0)?;
        keys::log(&mut written, &mut Reader { table, path: "zone.log", places: &mut Places::new() })?;
        written.settle().map_err(|refused| Fault::at(node.span(), Wrong::new(refused.what, refused.hint)))
    }

    fn write(&self, value: &Rule) -> String {
        Inline::of(|keys| keys::log(&mut value.into(), keys))
    }
}
