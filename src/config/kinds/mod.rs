//! Kinds of values: how each is read from TOML, checked against its limits, and written again.

mod combined;
mod numbers;
mod texts;

use std::collections::BTreeMap;
use std::fmt::Display;

use toml::Spanned;
use toml::de::DeValue;

pub(super) use combined::{Auto, List, Needed, Off, Series};
pub(super) use numbers::{Count, Size, Switch, Time, Ttl};
pub(super) use texts::{Address, Text, Word, Written};

use super::problem::{Fault, Place, Wrong};

/// A TOML value and where it stands.
pub(super) type Node<'t> = Spanned<DeValue<'t>>;

/// Where each key that was given has its value.
pub(super) type Places = BTreeMap<String, Place>;

/// How values of one key look.
pub(super) trait Kind {
    /// What the rest of the program gets.
    type Value;
    /// Reads a checked value.
    fn read(&self, node: &Node<'_>) -> Result<Self::Value, Fault>;
    /// Writes a value as TOML that reads back as the same value.
    fn write(&self, value: &Self::Value) -> String;

    /// The least and the most, as people write them, for kinds that have bounds.
    fn limits(&self) -> Option<[String; 2]> {
        None
    }

    /// Refuses what lies outside of the limits.
    fn out_of_bounds(&self, node: &Node<'_>, found: impl Display) -> Fault {
        let [min, max] = self.limits().unwrap_or_default();
        Fault::at(node.span(), Wrong::bounds(found, min, max))
    }
}

/// A TOML string with its quotes and escapes.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A value of the wrong type.
pub(super) fn mistyped(node: &Node<'_>, wanted: &str, example: &str) -> Fault {
    let found = node.get_ref().type_str();
    let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
    Fault::at(node.span(), Wrong::new(format!("{article} {found} where {wanted} is wanted"), example))
}

fn string<'n>(node: &'n Node<'_>, wanted: &str, example: &str) -> Result<&'n str, Fault> {
    node.get_ref().as_str().ok_or_else(|| mistyped(node, wanted, example))
}

/// The same value again.
pub(super) fn twice(value: &str) -> Wrong {
    Wrong::new(format!("{value} is given twice"), "leave one out")
}
